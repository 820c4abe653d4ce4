//! Shared by all tests: unique names that clean up after themselves, and peers in processes of their own.
//!
//! A peer is this test binary, started again to run one function, its role. A module lists its roles once,
//! `peers!(reader, writer)`, and starts one by `Peer::start(role!(reader), &arguments)`. Peers talk over
//! stdin and stdout, one message a line, and die with their parent.
#![allow(dead_code, unreachable_pub)]

pub mod confine;
pub mod forge;
pub mod idle;
pub mod ledger;
pub mod stream;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use zerobuffer::BufferConfig;

/// Whether `fd` becomes ready within `limit`.
pub fn poll(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let mut event = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid `pollfd`.
    let ready = unsafe { libc::poll(&raw mut event, 1, limit.as_millis().try_into().expect("short")) };
    assert!(ready >= 0, "poll: {}", std::io::Error::last_os_error());
    assert!(event.revents & !libc::POLLIN == 0, "{:#x}", event.revents);
    ready == 1
}

/// How often the threads of a process have been given a processor.
pub fn runs_of(process: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).expect("it lives");
    let runs = tasks.map(|task| {
        let text = task.and_then(|task| std::fs::read_to_string(task.path().join("schedstat")));
        text.unwrap_or_default()
            .split_whitespace()
            .nth(2)
            .and_then(|runs| runs.parse::<u64>().ok())
            .unwrap_or(0)
    });
    runs.sum()
}

/// Longest wait for anything that must happen; a test that reaches it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

const ROLE: &str = "ZEROBUFFER_TEST_ROLE";
const ARGUMENTS: &str = "ZEROBUFFER_TEST_ARGUMENTS";
/// The descriptor through which a wrapper has started the peer.
const PROGRAM: &str = "ZEROBUFFER_TEST_PROGRAM";
const SEPARATOR: &str = "\x1f";

/// A buffer name that no other test uses; its files are removed when it goes, whatever happened.
pub struct Name(String);

impl Name {
    pub fn new(what: &str) -> Name {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        clean_up_after_this_process();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Name(format!("zbtest-{what}-{}-{count}", std::process::id()))
    }

    /// A unique name, filled up to `len` bytes.
    pub fn of_length(what: &str, len: usize) -> Name {
        let name = Name::new(what);
        assert!(name.len() <= len);
        Name(format!("{:_<len$}", &*name))
    }

    /// This name and `suffix`, as the buffers of a duplex channel are named.
    pub fn suffixed(&self, suffix: &str) -> Name {
        Name(format!("{}{suffix}", self.0))
    }

    /// All files that a buffer of this name can have.
    pub fn paths(&self) -> [PathBuf; 4] {
        let name = &self.0;
        [
            format!("/dev/shm/{name}").into(),
            format!("/dev/shm/sem.sem-w-{name}").into(),
            format!("/dev/shm/sem.sem-r-{name}").into(),
            format!("/tmp/zerobuffer/{name}.lock").into(),
        ]
    }

    /// The files that exist.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        self.paths().into_iter().filter(|path| path.symlink_metadata().is_ok()).collect()
    }

    #[track_caller]
    pub fn assert_nothing_left(&self) {
        assert_eq!(self.leftovers(), Vec::<PathBuf>::new(), "files left behind");
    }
}

/// Starts, once, a process that outlives this one, even if this one is killed, and then removes the files of
/// its names.
fn clean_up_after_this_process() {
    static CLEANER: OnceLock<ChildStdin> = OnceLock::new();
    // `cat` ends when the pipe's other side does, as this process ends. Peers die with this one too, but a little later.
    const SCRIPT: &str = "cat; for _ in 1 2; do \
         rm -rf /dev/shm/*zbtest-*-$0-* /tmp/zerobuffer/*zbtest-*-$0-* $1/zbtest-*-$0-* $1/zbtest-$0-*; sleep 1; done";
    CLEANER.get_or_init(|| {
        let cleaner = Command::new("sh")
            .args(["-c", SCRIPT, &std::process::id().to_string()])
            .arg(std::env::temp_dir())
            // A signal to the group of the tests, as by Ctrl-C, is not for it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        cleaner.expect("sh").stdin.take().expect("piped")
    });
}

impl std::ops::Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        for path in self.leftovers() {
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(path));
        }
    }
}

/// A function that a peer process runs, and the module that lists it.
#[derive(Debug, Clone, Copy)]
pub struct Role {
    module: &'static str,
    name: &'static str,
}

impl Role {
    /// The role of a function; see [`role!`].
    pub fn of<F: Fn(&[String])>(_: F) -> Role {
        // The path of a function's type is the function's.
        let path = std::any::type_name::<F>();
        let (module, name) = path.rsplit_once("::").expect("the path of a function");
        Role { module, name }
    }

    pub fn name(self) -> &'static str {
        self.name
    }

    /// The test that runs the role.
    fn test(self) -> String {
        match self.module.split_once("::") {
            Some((_, module)) => format!("{module}::peer_main"),
            None => "peer_main".to_owned(),
        }
    }
}

/// The role of a function: `role!(reader)`, `role!(roles::server)`.
macro_rules! role {
    ($($path:ident)::+) => {
        $crate::support::Role::of(self::$($path)::+)
    };
}
pub(crate) use role;

/// Lists the functions of a module that peers run.
macro_rules! peers {
    ($($role:ident),+ $(,)?) => {
        #[test]
        fn peer_main() {
            $crate::support::run_peer(&[$((stringify!($role), $role)),+]);
        }
    };
}
pub(crate) use peers;

/// A function that a peer process runs; gets the peer's arguments.
type Body = fn(&[String]);

/// Plays the role that the environment asks for; returns at once in an ordinary test run.
pub fn run_peer(roles: &[(&str, Body)]) {
    let Ok(role) = std::env::var(ROLE) else { return };
    if let Some(descriptor) = std::env::var(PROGRAM).ok().and_then(|text| text.parse().ok()) {
        // SAFETY: this process inherited the descriptor for its start only, and nothing else knows it.
        unsafe { libc::close(descriptor) };
    }
    let arguments = std::env::var(ARGUMENTS).unwrap_or_default();
    let arguments: Vec<String> =
        if arguments.is_empty() { vec![] } else { arguments.split(SEPARATOR).map(str::to_owned).collect() };
    let (_, function) = roles.iter().find(|(name, _)| *name == role).expect("a role of this module");
    function(&arguments);
    let _ = std::io::stdout().flush();
    std::process::exit(0);
}

/// How long this thread has been ready to run while other threads had the processors: the second field of
/// /proc/PID/schedstat (Linux, Documentation/scheduler/sched-stats.rst).
pub fn kept_waiting() -> Duration {
    let figures = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(figures.split(' ').nth(1).and_then(|waited| waited.parse().ok()).unwrap_or(0))
}

/// Sends `message` to the parent.
pub fn say(message: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "@ {message}").expect("the parent listens");
    out.flush().expect("the parent listens");
}

/// The parent's next message; `None` when it has closed the pipe.
pub fn hear() -> Option<String> {
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line).expect("stdin");
    (read > 0).then(|| line.trim_end().to_owned())
}

/// A process that plays a role. Killed when dropped.
pub struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    messages: Receiver<String>,
}

impl Peer {
    /// Starts this test binary again in `role`.
    pub fn start(role: Role, arguments: &[&str]) -> Peer {
        Peer::start_with(role, arguments, |_| {})
    }

    /// Like `start`, but `change` can change the command (environment, user, limits, namespaces).
    pub fn start_with(role: Role, arguments: &[&str], change: impl FnOnce(&mut Command)) -> Peer {
        Peer::start_through(&[], role, arguments, change)
    }

    /// Like `start_with`, but started by the command `wrapper` (see `confine::unshare`), whose pid the peer
    /// then has.
    pub fn start_through(
        wrapper: &[String],
        role: Role,
        arguments: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Peer {
        // Through a descriptor: by its path, the program cannot be started where something is mounted over it.
        let program = File::open("/proc/self/exe").expect("/proc is mounted");
        let descriptor = program.as_raw_fd();
        let path = format!("/proc/self/fd/{descriptor}");
        let mut command = match wrapper {
            [] => Command::new(path),
            [wrapper, options @ ..] => {
                let mut command = Command::new(wrapper);
                command.args(options).arg(path).env(PROGRAM, descriptor.to_string());
                command
            }
        };
        let wrapped = !wrapper.is_empty();
        // SAFETY: fcntl is async-signal-safe; the closure owns the descriptor.
        unsafe {
            command.pre_exec(move || {
                // The wrapper inherits the descriptor; the peer closes it.
                if wrapped && libc::fcntl(program.as_raw_fd(), libc::F_SETFD, 0) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        command.args(["--exact", &role.test(), "--nocapture", "--test-threads=1"]);
        command.env(ROLE, role.name).env(ARGUMENTS, arguments.join(SEPARATOR));
        change(&mut command);
        Peer::start_command(command)
    }

    /// Starts any program as a peer (it must print `@ message` lines).
    pub fn start_command(mut command: Command) -> Peer {
        // SAFETY: prctl is async-signal-safe; the child dies when the thread that started it ends, at the latest.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a peer process starts");
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("piped");
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The test harness may have put words of its own in front.
                if let Some((_, message)) = line.split_once("@ ")
                    && sender.send(message.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Peer { child, stdin, messages }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next message, or `None` if the peer ended, or sent nothing within `limit`.
    pub fn hear_within(&mut self, limit: Duration) -> Option<String> {
        self.messages.recv_timeout(limit).ok()
    }

    /// The next message, which must come.
    #[track_caller]
    pub fn hear(&mut self) -> String {
        match self.hear_within(PATIENCE) {
            Some(message) => message,
            None => panic!("peer {} said nothing (ended: {:?})", self.pid(), self.child.try_wait()),
        }
    }

    /// Waits for exactly this message.
    #[track_caller]
    pub fn expect(&mut self, message: &str) {
        let heard = self.hear();
        assert_eq!(heard, message, "peer {}", self.pid());
    }

    pub fn tell(&mut self, message: impl std::fmt::Display) {
        let stdin = self.stdin.as_mut().expect("stdin open");
        writeln!(stdin, "{message}").and_then(|()| stdin.flush()).expect("the peer listens");
    }

    /// As `tell`, to a peer that may have ended.
    pub fn try_tell(&mut self, message: impl std::fmt::Display) -> Option<()> {
        let stdin = self.stdin.as_mut()?;
        writeln!(stdin, "{message}").and_then(|()| stdin.flush()).ok()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes no pointers. The child is this process's and not reaped, so the pid is its own.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }

    /// Whether the peer has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("wait")
    }

    /// Whether the peer is stopped (SIGSTOP).
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The name in parentheses may hold anything; the state is the field behind it (proc(5)).
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// From now on the peer's `hear` returns `None`.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Sends SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(libc::SIGKILL);
        self.child.wait().expect("wait")
    }

    /// Waits for the peer to end by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        self.stdin = None;
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "peer {} does not end", self.pid());
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// A small generator of pseudo-random numbers (SplitMix64: Steele, Lea, Flood 2014), so that runs can be repeated.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `low..high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low)
    }
}

/// Content of frame `index` of a test stream: depends on every index, so that no frame passes for another.
pub fn fill(index: u64, bytes: &mut [u8]) {
    let mut random = Random(index);
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
    }
}

/// Whether `bytes` equals the output of `fill` for `index`.
pub fn is_filled(index: u64, bytes: &[u8]) -> bool {
    let mut random = Random(index);
    bytes.chunks(8).all(|chunk| *chunk == random.next().to_le_bytes()[..chunk.len()])
}

/// A buffer's default configuration.
pub fn config() -> BufferConfig {
    BufferConfig::default()
}

/// Whether the long rounds were asked for (`cargo xtask test --full`).
pub fn full() -> bool {
    std::env::var_os("ZEROBUFFER_FULL").is_some()
}
