//! Who is alive, across pid namespaces, users, forks, stops, forged pids and jumping clocks: between native peers no live
//! peer is ever taken for dead, and no dead one for alive.

use crate::support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::forge::{Forge, at};
use crate::support::{Name, Peer, confine, role, say};
use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
use zerobuffer::inspect::{self, Presence};
use zerobuffer::{BufferConfig, Error, ErrorKind, Reader, Writer, WriterOptions};

const SECOND: Duration = Duration::from_secs(1);

/// A blocked peer must know of a death within this time.
const DEATH_LIMIT: Duration = Duration::from_millis(100);

support::peers!(reader, writer);

// ---- peers that do as they are told ----

/// The outcome of a read.
fn outcome<T>(result: Result<T, Error>, show: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => show(value),
        Err(error) => error.kind().to_string(),
    }
}

fn millis(text: &str) -> Duration {
    if text == "max" { Duration::MAX } else { Duration::from_millis(text.parse().expect("milliseconds")) }
}

/// Options of a role: `stranger` changes the user, `member` too, but keeps the group of root, `umask=777` the umask, `mode=666` the mode of the buffer; `pid-1` and
/// `later` make sure that the peer is where the test thinks it is.
fn prepare(options: &[String]) -> u32 {
    let mut mode = 0o600;
    for option in options {
        match option.split_once('=') {
            Some(("umask", umask)) => {
                // SAFETY: plain system call.
                unsafe { libc::umask(u32::from_str_radix(umask, 8).unwrap()) };
            }
            Some(("mode", text)) => mode = u32::from_str_radix(text, 8).unwrap(),
            None if option == "stranger" => confine::become_nobody(),
            None if option == "member" => confine::become_nobody_of(0),
            None if option == "pid-1" => assert_eq!(std::process::id(), 1),
            None if option == "later" => assert!(uptime() > LATER, "no time namespace"),
            _ => panic!("option {option}?"),
        }
    }
    mode
}

/// How far the clock of a time namespace is ahead; no machine runs for so long.
const LATER: Duration = Duration::from_secs(1_000_000_000);

fn uptime() -> Duration {
    let text = std::fs::read_to_string("/proc/uptime").expect("/proc is mounted");
    Duration::from_secs_f64(text.split(' ').next().and_then(|seconds| seconds.parse().ok()).expect("seconds"))
}

fn reader(arguments: &[String]) {
    let [name, payload, options @ ..] = arguments else { panic!("name, payload size, options") };
    let mode = prepare(options);
    let config = support::config().payload_size(payload.parse().unwrap()).mode(mode);
    let mut reader = match Reader::create(name, config) {
        Ok(reader) => reader,
        Err(error) => return say(outcome(Err(error), |()| String::new())),
    };
    say("ready");
    let mut held = Vec::new();
    while let Some(line) = support::hear() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["read", ms] => say(outcome(reader.read_frame(millis(ms)), |frame| {
                frame.map_or("none".into(), |frame| format!("{} {}", frame.sequence(), frame.len()))
            })),
            ["hold"] => {
                held.push(reader.read_frame(SECOND).unwrap().unwrap());
                say("held");
            }
            ["connected"] => say(reader.is_writer_connected()),
            // The child uses everything that it inherited, then ends.
            ["fork-exit"] => {
                let child = fork(|| {
                    let mut frames = Vec::new();
                    let kinds = [
                        reader.read_frame(SECOND).unwrap_err().kind(),
                        reader.try_read_frame().unwrap_err().kind(),
                        reader.read_frame_ref(SECOND).unwrap_err().kind(),
                        reader.read_frames(&mut frames, 1, SECOND).unwrap_err().kind(),
                        reader.wait_for_writer(SECOND).unwrap_err().kind(),
                    ];
                    assert_eq!(kinds, [ErrorKind::InvalidState; 5]);
                    assert!(!held[0].is_empty());
                    held.clear();
                    // SAFETY: the reader is never used again here: the child ends right after this.
                    drop(unsafe { std::ptr::read(&raw const reader) });
                });
                say(wait(child));
                assert!(held[0].iter().all(|byte| *byte == 1), "a held frame was overwritten");
            }
            ["fork-live"] => say(fork(sleep_on)),
            _ => panic!("command {line}?"),
        }
    }
    drop(held);
    drop(reader);
    say("closed");
}

fn writer(arguments: &[String]) {
    let [name, options @ ..] = arguments else { panic!("name, options") };
    prepare(options);
    let patient = WriterOptions::default().connect_timeout(Duration::ZERO);
    let mut writer = match Writer::connect_with(name, patient) {
        Ok(writer) => writer,
        Err(error) => return say(outcome(Err(error), |()| String::new())),
    };
    say("ready");
    while let Some(line) = support::hear() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["write", len, ms] => {
                writer.set_write_timeout(millis(ms));
                say(outcome(writer.write_frame(&vec![1; len.parse().unwrap()]), |sequence| {
                    sequence.to_string()
                }));
            }
            ["connected"] => say(writer.is_reader_connected()),
            ["fork-exit"] => {
                let child = fork(|| {
                    let kinds = [
                        writer.write_frame(b"child").unwrap_err().kind(),
                        writer.try_write_frame(b"child").unwrap_err().kind(),
                        writer.acquire_frame(5).unwrap_err().kind(),
                        writer.set_metadata(b"child").unwrap_err().kind(),
                        writer.write_frames([b"child"]).unwrap_err().kind(),
                    ];
                    assert_eq!(kinds, [ErrorKind::InvalidState; 5]);
                    // SAFETY: the writer is never used again here: the child ends right after this.
                    drop(unsafe { std::ptr::read(&raw const writer) });
                });
                say(wait(child));
            }
            ["fork-live"] => say(fork(sleep_on)),
            _ => panic!("command {line}?"),
        }
    }
    drop(writer);
    say("closed");
}

#[test]
fn a_forked_child_cannot_use_its_parents_server_or_request_and_drops_them_harmlessly() {
    let name = Name::new("fork-duplex");
    let buffers = [name.suffixed("_request"), name.suffixed("_response")];
    let factory = DuplexChannelFactory::new();
    let server = factory.create_immutable_server(&name, BufferConfig::default()).unwrap();
    server.start(|request| Ok((&**request).into()), ProcessingMode::ThreadPool).unwrap();
    let client = factory.create_client(&name).unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        // The books are locked by one or the other of these most of the time.
        let polls = || {
            while !over.load(Ordering::Relaxed) {
                assert!(client.receive_response(Duration::ZERO).unwrap().is_none());
            }
        };
        let [one, two] = [(); 2].map(|()| scope.spawn(polls));
        let round = || {
            let mut request = client.acquire_request_buffer(4).unwrap();
            request.copy_from_slice(b"mine");
            let child = fork(|| {
                // SAFETY: plain system call; a child that hangs ends by the alarm.
                unsafe { libc::alarm(10) };
                assert_eq!(server.stop().unwrap_err().kind(), ErrorKind::InvalidState);
                assert!(!server.is_running());
                // SAFETY: neither is used again here: the child ends right after this.
                let (server, request) =
                    unsafe { (std::ptr::read(&raw const server), std::ptr::read(&raw const request)) };
                drop(server);
                assert_eq!(request.commit().unwrap_err().kind(), ErrorKind::InvalidState);
            });
            assert_eq!(wait(child), 0);
            assert_eq!(*request.call(support::PATIENCE).unwrap(), *b"mine");
        };
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (0..20).for_each(|_| round())));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        one.join().unwrap();
        two.join().unwrap();
    });
    drop(client);
    server.stop().unwrap();
    buffers.iter().for_each(Name::assert_nothing_left);
}

/// Runs `body` in a forked child, which then ends; 0 if it did not panic.
fn fork(body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child runs `body` and ends. glibc makes its allocator usable there; the other threads of the test
    // harness hold nothing that `body` needs.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        // SAFETY: ends this process without running what belongs to the parent.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    pid
}

/// Outlives the parent, but ends at the alarm.
fn sleep_on() {
    // SAFETY: plain system calls; the alarm ends the process.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, 0);
        libc::alarm(30);
        loop {
            libc::pause();
        }
    }
}

fn wait(child: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: `status` has room for the result; the child is this process's.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status
}

// ---- what the tests have in common ----

/// Long enough for a peer to go to sleep; of random length, so that a kill meets every phase of its sleep.
fn a_while() -> Duration {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let mut random = support::Random(COUNT.fetch_add(1, Ordering::Relaxed));
    Duration::from_micros(random.between(40_000, 60_000))
}

/// Starts a reader and a writer, each through a wrapper and with options.
struct Pair {
    reader: Peer,
    writer: Peer,
}

type Side<'a> = (&'a [String], &'a [&'a str]);

impl Pair {
    fn start(name: &str, payload: u32, reader: Side<'_>, writer: Side<'_>) -> Pair {
        let payload = payload.to_string();
        let arguments = [&[name, payload.as_str()], reader.1].concat();
        let mut reader = Peer::start_through(reader.0, role!(reader), &arguments, |_| {});
        reader.expect("ready");
        let arguments = [&[name], writer.1].concat();
        let mut writer = Peer::start_through(writer.0, role!(writer), &arguments, |_| {});
        writer.expect("ready");
        Pair { reader, writer }
    }

    /// Both are seen alive by each other, by a third party, and by those who want their places.
    fn assert_alive(&mut self, name: &str) {
        for peer in [&mut self.reader, &mut self.writer] {
            peer.tell("connected");
            peer.expect("true");
        }
        let snapshot = inspect::snapshot(name).unwrap();
        assert_eq!((snapshot.reader.presence, snapshot.writer.presence), (Presence::Alive, Presence::Alive));
        let error = Writer::connect(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WriterAlreadyConnected, "{error}");
        let error = Reader::create(name, support::config()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReaderAlreadyConnected, "{error}");
    }

    /// Frames pass, with pauses in which each side has time to think wrongly of the other.
    fn exchange(&mut self) {
        for _ in 0..20 {
            self.writer.tell("write 100 5000");
            let sequence = self.writer.hear();
            self.reader.tell("read 5000");
            self.reader.expect(&format!("{sequence} 100"));
        }
        self.reader.tell("read 150");
        self.reader.expect("none");
    }

    /// Fills the ring, so that a further write blocks.
    fn fill(&mut self, len: u32) {
        loop {
            self.writer.tell(format!("write {len} 0"));
            if self.writer.hear() == "BufferFull" {
                return;
            }
        }
    }

    /// Kills the writer while the reader waits for it; gives the time until the reader knew.
    fn kill_writer(&mut self) -> Duration {
        self.reader.tell("read max");
        assert_eq!(self.reader.hear_within(a_while()), None, "the reader does not wait");
        let start = Instant::now();
        self.writer.signal(libc::SIGKILL);
        self.reader.expect("WriterDead");
        let time = start.elapsed();
        self.writer.kill();
        time
    }

    /// Kills the reader while the writer waits for space; gives the time until the writer knew.
    fn kill_reader(&mut self) -> Duration {
        self.fill(100);
        self.writer.tell("write 100 max");
        assert_eq!(self.writer.hear_within(a_while()), None, "the writer does not wait");
        let start = Instant::now();
        self.reader.signal(libc::SIGKILL);
        self.writer.expect("ReaderDead");
        let time = start.elapsed();
        self.reader.kill();
        time
    }
}

/// Checks that the times of detection are short, and prints them. A loaded machine may delay one of them.
fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!(
        "{what}: a death was noticed after {median:?} in the median, {worst:?} at the worst ({})",
        times.len()
    );
    assert!(median < DEATH_LIMIT / 2, "{what}: {times:?}");
    let late = times.iter().filter(|time| **time >= DEATH_LIMIT).count();
    assert!(late * 5 <= times.len() && worst < SECOND, "{what}: {times:?}");
}

/// Live, talk, die: two peers go through a whole life, in the given places, several times.
fn live_and_die(what: &str, sides: &[(Side<'_>, Side<'_>)]) {
    let rounds = if support::full() { 20 } else { 2 };
    let mut times = Vec::new();
    for (reader, writer) in sides {
        for _ in 0..rounds {
            let name = Name::new("isolated");
            let mut pair = Pair::start(&name, 1024, *reader, *writer);
            pair.assert_alive(&name);
            pair.exchange();
            times.push(pair.kill_writer());
            assert_eq!(inspect::snapshot(&name).unwrap().writer.presence, Presence::Dead);
            // A dead writer's place is free, a dead reader's name is.
            let arguments = [&[&*name], writer.1].concat();
            pair.writer = Peer::start_through(writer.0, role!(writer), &arguments, |_| {});
            pair.writer.expect("ready");
            pair.exchange();
            times.push(pair.kill_reader());
            assert_eq!(inspect::snapshot(&name).unwrap().reader.presence, Presence::Dead);
            pair.writer.wait();
            drop(Reader::create(&name, support::config()).unwrap());
            name.assert_nothing_left();
        }
    }
    report(what, times);
}

// ---- the tests ----

#[test]
fn failure_05_peers_in_separate_pid_namespaces_know_who_lives() {
    let inside = confine::unshare(&["--pid"]);
    let (inside, outside): (Side<'_>, Side<'_>) = ((&inside, &["pid-1"]), (&[], &[]));
    // Inside the namespaces both sides have pid 1, which is another process's outside.
    live_and_die("pid namespaces", &[(inside, inside), (inside, outside), (outside, inside)]);
}

#[test]
fn failure_05_peers_in_separate_user_namespaces_know_who_lives() {
    // Without root every namespace of these tests is in a user namespace of its own anyway.
    let flags: &[&str] =
        if confine::is_root() { &["--user", "--map-root-user", "--pid"] } else { &["--pid"] };
    let inside = confine::unshare(flags);
    let (inside, outside): (Side<'_>, Side<'_>) = ((&inside, &["pid-1"]), (&[], &[]));
    live_and_die("user namespaces", &[(inside, inside), (inside, outside), (outside, inside)]);
}

#[test]
fn failure_15_a_mode_for_a_group_lets_its_members_in_and_nobody_else() {
    confine::need_root("a peer of another user");
    let owner: Side<'_> = (&[], &["mode=660"]);
    live_and_die("members of a group", &[(owner, (&[], &["member"]))]);
    let name = Name::new("group");
    let mut reader = Peer::start(role!(reader), &[&name, "1024", "mode=660"]);
    reader.expect("ready");
    Peer::start(role!(writer), &[&name, "stranger"]).expect("PermissionDenied");
    assert!(reader.wait().success());
    name.assert_nothing_left();
}

#[test]
fn failure_05_peers_of_another_user_know_who_lives() {
    confine::need_root("a peer of another user");
    let root: Side<'_> = (&[], &["mode=666"]);
    let writer: Side<'_> = (&[], &[]);
    let stranger: Side<'_> = (&[], &["stranger"]);
    live_and_die("other users", &[(root, stranger), (stranger, writer), (stranger, stranger)]);
}

#[test]
fn failure_15_the_mode_is_exact_and_a_peer_without_rights_is_told_so() {
    confine::need_root("a peer of another user");
    use std::os::unix::fs::PermissionsExt;
    for (umask, mode) in [("umask=777", 0o666), ("umask=0", 0o600), ("umask=77", 0o640)] {
        let name = Name::new("mode");
        let mut reader = Peer::start(role!(reader), &[&name, "1024", umask, &format!("mode={mode:o}")]);
        reader.expect("ready");
        for (index, path) in name.paths().iter().enumerate() {
            let found = path.metadata().unwrap().permissions().mode() & 0o7777;
            // Users who may only read have no use for semaphores and lock file, and could only lock them.
            let expected = if index > 0 && mode == 0o640 { 0o600 } else { mode };
            assert_eq!(found, expected, "{}: {found:o} instead of {expected:o} with {umask}", path.display());
        }
        let expected = if mode == 0o666 { "ready" } else { "PermissionDenied" };
        Peer::start(role!(writer), &[&name, "stranger"]).expect(expected);
        // Not even where it may read the files can another user take the place of a live reader.
        let mut thief = Peer::start(role!(reader), &[&name, "1024", "stranger"]);
        thief.expect(if mode == 0o666 { "ReaderAlreadyConnected" } else { "PermissionDenied" });
        assert!(reader.wait().success());
        name.assert_nothing_left();
    }
}

#[test]
fn failure_09_a_forked_child_that_exits_takes_nothing_with_it() {
    for forker in ["reader", "writer"] {
        let name = Name::new("fork-exit");
        let mut pair = Pair::start(&name, 1024, (&[], &[]), (&[], &[]));
        for _ in 0..3 {
            pair.writer.tell("write 100 0");
            pair.writer.hear();
        }
        for _ in 0..2 {
            pair.reader.tell("hold");
            pair.reader.expect("held");
        }
        let before = inspect::snapshot(&name).unwrap();
        let peer = if forker == "reader" { &mut pair.reader } else { &mut pair.writer };
        peer.tell("fork-exit");
        peer.expect("0");
        let after = inspect::snapshot(&name).unwrap();
        assert_eq!((after.reader, after.writer), (before.reader, before.writer), "the {forker}'s child");
        assert_eq!(after.payload_free, before.payload_free, "the {forker}'s child gave frames back");
        assert_eq!(name.leftovers().len(), 4, "the {forker}'s child removed files");
        pair.assert_alive(&name);
        pair.writer.tell("write 100 0");
        pair.writer.expect("4");
        for sequence in [3, 4] {
            pair.reader.tell("read 1000");
            pair.reader.expect(&format!("{sequence} 100"));
        }
        assert!(pair.writer.wait().success() && pair.reader.wait().success());
        name.assert_nothing_left();
    }
}

#[test]
fn failure_09_a_child_that_outlives_its_parent_does_not_keep_it_alive() {
    let rounds = if support::full() { 50 } else { 5 };
    let mut times = Vec::new();
    for _ in 0..rounds {
        for dying in ["reader", "writer"] {
            let name = Name::new("fork-live");
            let mut pair = Pair::start(&name, 1024, (&[], &[]), (&[], &[]));
            let peer = if dying == "reader" { &mut pair.reader } else { &mut pair.writer };
            peer.tell("fork-live");
            let child: libc::pid_t = peer.hear().parse().unwrap();
            times.push(if dying == "reader" { pair.kill_reader() } else { pair.kill_writer() });
            // SAFETY: the calls take no pointers. The child is this process's, and cannot have ended: it
            // sleeps for 30 s.
            unsafe {
                assert_eq!(libc::kill(child, 0), 0, "the child died too, so that this showed nothing");
                libc::kill(child, libc::SIGKILL);
            }
        }
    }
    report("parents of living children", times);
}

#[test]
fn failure_06_a_stopped_peer_is_not_dead() {
    let pause = Duration::from_secs(if support::full() { 30 } else { 3 });
    let wait = format!("{}", pause.as_millis());
    let (idle, full) = (Name::new("stopped-w"), Name::new("stopped-r"));
    let mut idle_pair = Pair::start(&idle, 1024, (&[], &[]), (&[], &[]));
    let mut full_pair = Pair::start(&full, 1024, (&[], &[]), (&[], &[]));
    full_pair.fill(100);
    idle_pair.writer.signal(libc::SIGSTOP);
    full_pair.reader.signal(libc::SIGSTOP);
    let start = Instant::now();
    idle_pair.reader.tell(format!("read {wait}"));
    full_pair.writer.tell(format!("write 100 {wait}"));
    // Nothing but a time-out, and not before its time.
    assert_eq!(idle_pair.reader.hear_within(pause + 10 * SECOND).as_deref(), Some("none"));
    assert_eq!(full_pair.writer.hear_within(pause + 10 * SECOND).as_deref(), Some("BufferFull"));
    assert!(start.elapsed() >= pause);
    for name in [&idle, &full] {
        let snapshot = inspect::snapshot(name).unwrap();
        assert_eq!((snapshot.reader.presence, snapshot.writer.presence), (Presence::Alive, Presence::Alive));
        assert_eq!(Writer::connect(name).unwrap_err().kind(), ErrorKind::WriterAlreadyConnected);
        let error = Reader::create(name, support::config()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReaderAlreadyConnected);
    }
    idle_pair.writer.signal(libc::SIGCONT);
    full_pair.reader.signal(libc::SIGCONT);
    idle_pair.exchange();
    full_pair.reader.tell("read 1000");
    full_pair.reader.expect("1 100");
    full_pair.writer.tell("write 100 1000");
    assert_ne!(full_pair.writer.hear(), "BufferFull");
    // A stopped peer that is killed is dead at once.
    idle_pair.writer.signal(libc::SIGSTOP);
    report("stopped and killed writers", vec![idle_pair.kill_writer()]);
}

/// Both sides stand still at once, in the middle of their waits, like on a suspended machine or in a paused
/// container.
#[test]
fn failure_06_peers_that_stood_still_together_go_on_together() {
    let pause = Duration::from_secs(if support::full() { 30 } else { 2 });
    for writer_first in [false, true] {
        let (idle, full) = (Name::new("paused-r"), Name::new("paused-w"));
        let mut idle_pair = Pair::start(&idle, 1024, (&[], &[]), (&[], &[]));
        let mut full_pair = Pair::start(&full, 1024, (&[], &[]), (&[], &[]));
        full_pair.fill(100);
        idle_pair.reader.tell("read max");
        full_pair.writer.tell("write 100 max");
        assert_eq!(idle_pair.reader.hear_within(a_while()), None, "the reader does not wait");
        assert_eq!(full_pair.writer.hear_within(a_while()), None, "the writer does not wait");
        let all = |pair: &Pair, signal| {
            let sides = [&pair.reader, &pair.writer];
            let [first, second] = if writer_first { [sides[1], sides[0]] } else { sides };
            first.signal(signal);
            second.signal(signal);
        };
        [&idle_pair, &full_pair].into_iter().for_each(|pair| all(pair, libc::SIGSTOP));
        std::thread::sleep(pause);
        [&idle_pair, &full_pair].into_iter().for_each(|pair| all(pair, libc::SIGCONT));
        // Each still waits for the other, and gets what it waits for.
        idle_pair.writer.tell("write 100 5000");
        let sequence = idle_pair.writer.hear();
        idle_pair.reader.expect(&format!("{sequence} 100"));
        full_pair.reader.tell("read 1000");
        full_pair.reader.expect("1 100");
        assert_ne!(full_pair.writer.hear(), "BufferFull");
        idle_pair.exchange();
        report("killed after a pause", vec![idle_pair.kill_writer()]);
    }
}

#[test]
fn failure_05_pids_do_not_decide_between_two_of_ours() {
    let name = Name::new("pids");
    let mut pair = Pair::start(&name, 1024, (&[], &[]), (&[], &[]));
    let forge = Forge::segment(&name);
    let unused = u64::from(i32::MAX.cast_unsigned());
    // A live peer's pid is zeroed, or names no process, or another one: it lives.
    for pid in [0, unused, 1] {
        for side in [at::WRITER_PID, at::READER_PID] {
            forge.set(side, pid);
        }
        pair.assert_alive(&name);
        pair.exchange();
    }
    // A writer that looks after its pid puts it back where it was zeroed, for 1.x readers.
    forge.set(at::WRITER_PID, 0);
    pair.writer.tell("write 100 0");
    pair.writer.hear();
    pair.reader.tell("read 0");
    pair.reader.hear();
    forge.set(at::WRITER_PID, u64::from(pair.writer.pid()));

    // A dead writer whose pid is another process's by now (pid 1 stands for it) is dead all the same.
    let reuse = |pid_at: u64, word_at: u64| {
        forge.set(pid_at, 1);
        forge.set(word_at, forge.get(word_at) & !0xffff_ffff | 1);
    };
    reuse(at::WRITER_PID, at::WRITER_WORD);
    let mut times = vec![pair.kill_writer()];
    pair.writer = Peer::start(role!(writer), &[&name]);
    pair.writer.expect("ready");
    forge.set(at::WRITER_PID, 0);
    times.push(pair.kill_writer());

    // So is a dead reader, whatever its pid says.
    pair.writer = Peer::start(role!(writer), &[&name]);
    pair.writer.expect("ready");
    reuse(at::READER_PID, at::READER_WORD);
    times.push(pair.kill_reader());
    assert_eq!(inspect::snapshot(&name).unwrap().reader.presence, Presence::Dead);
    for pid in [1, u64::from(std::process::id())] {
        forge.set(at::READER_PID, pid);
        assert_eq!(Writer::connect(&name).unwrap_err().kind(), ErrorKind::ReaderDead);
    }
    drop(Reader::create(&name, support::config()).unwrap());
    pair.writer.wait();
    name.assert_nothing_left();
    report("forged pids", times);
}

#[test]
fn failure_11_peers_in_another_time_namespace_keep_their_time() {
    let seconds = LATER.as_secs().to_string();
    let later = confine::unshare(&["--time", "--monotonic", &seconds, "--boottime", &seconds]);
    let (later, now): (Side<'_>, Side<'_>) = ((&later, &["later"]), (&[], &[]));
    live_and_die("time namespaces", &[(later, now), (now, later)]);
}
