//! Runs the built binary and watches it.
#![allow(dead_code, unreachable_pub, unused_imports, unused_macros)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

#[path = "../../../zerobuffer/tests/support/mod.rs"]
mod support;
pub use support::{Name, PATIENCE, full};

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A file that is removed when it goes.
pub struct TempFile(PathBuf);

impl TempFile {
    pub fn new(name: &str) -> TempFile {
        TempFile(std::env::temp_dir().join(format!("zbtest-{}-{name}", std::process::id())))
    }

    pub fn with(name: &str, content: &[u8]) -> TempFile {
        let file = TempFile::new(name);
        std::fs::write(&file.0, content).expect("a temporary file");
        file
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn text(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    pub fn read(&self) -> Vec<u8> {
        std::fs::read(&self.0).expect("written")
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The command, running. Killed when dropped.
pub struct Running {
    child: Child,
    pub stdin: Option<ChildStdin>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    lines: Receiver<String>,
    stderr: String,
}

/// The command, ended.
#[derive(Debug)]
pub struct Done {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zerobuffer"));
    command.args(arguments);
    command
}

/// Starts the command.
pub fn start(arguments: &[&str]) -> Running {
    Running::start(command(arguments))
}

/// Runs the command to its end.
#[track_caller]
pub fn run(arguments: &[&str]) -> Done {
    start(arguments).finish()
}

/// Starts `zerobuffer reader NAME ...` and waits until its buffer exists.
#[track_caller]
pub fn start_reader(name: &Name, arguments: &[&str]) -> Running {
    let mut all = vec!["reader", &**name];
    all.extend_from_slice(arguments);
    let reader = start(&all);
    wait_until("the reader's buffer", || name.paths()[0].exists());
    reader
}

impl Running {
    pub fn start(mut command: Command) -> Running {
        // SAFETY: prctl and signal are async-signal-safe; the child dies when the thread that started it ends, at the
        // latest, and a hangup reaches it although the tests may run beneath nohup(1).
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::signal(libc::SIGHUP, libc::SIG_DFL);
                Ok(())
            });
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let stdin = child.stdin.take();
        let stdout = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stdout.read_to_end(&mut bytes);
            bytes
        });
        Running { child, stdin, stdout: Some(stdout), lines, stderr: String::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill takes no pointers. The child is this process's and not reaped, so the pid is its own.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }

    pub fn interrupt(&self) {
        self.signal(libc::SIGINT);
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.signal(libc::SIGKILL);
        self.child.wait().expect("wait");
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_some()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin open");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("the command reads");
    }

    /// Waits for a line on standard error that contains `text`.
    #[track_caller]
    pub fn hear(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.stderr += &line;
                    self.stderr.push('\n');
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("`{text}` was never said ({error}); said was:\n{}", self.stderr),
            }
        }
    }

    /// Closes standard input and waits for the end.
    #[track_caller]
    pub fn finish(mut self) -> Done {
        self.stdin = None;
        self.finish_with_open_stdin()
    }

    #[track_caller]
    pub fn finish_with_open_stdin(mut self) -> Done {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            assert!(start.elapsed() < PATIENCE * 4, "the command does not end");
            std::thread::sleep(Duration::from_millis(1));
        };
        let stdout = self.stdout.take().expect("once").join().expect("read");
        let mut stderr = std::mem::take(&mut self.stderr);
        for line in self.lines.iter() {
            stderr += &line;
            stderr.push('\n');
        }
        Done { status, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.signal(libc::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

impl Done {
    #[track_caller]
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by signal {:?}", self.status.signal()))
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Done {
        assert_eq!(self.code(), code, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }

    /// Expects the code and an error that contains `text`.
    #[track_caller]
    pub fn expect_error(self, code: i32, text: &str) -> Done {
        let done = self.expect(code);
        assert!(done.stderr.contains(text), "`{text}` is missing in: {}", done.stderr);
        done
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The JSON value on standard output, which must be all that is there.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}\nstderr: {}", self.text(), self.stderr))
    }
}

/// Frame `index` of the pattern "sequential", made the slow way.
pub fn sequential(index: usize, size: usize) -> Vec<u8> {
    (0..size).map(|i| ((index + i) % 256) as u8).collect()
}
