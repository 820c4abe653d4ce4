//! Between native peers a sleeper sleeps until it is woken: it costs nothing meanwhile, and a death is told as soon as the dead
//! process's role is free.

use crate::support;

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::ledger::{StallWatch, now};
use crate::support::{Name, PATIENCE, Peer, confine, hear, idle, role, say};
use zerobuffer::{BufferConfig, ErrorKind, Reader, WaitStrategy, Writer, WriterOptions};

support::peers!(
    idle_readers,
    idle_writers,
    writer,
    reader,
    forking_writer,
    executing_writer,
    exiting_writer,
    large_writer,
    waiting_reader
);

/// Sizes for a thousand buffers.
fn small() -> BufferConfig {
    BufferConfig::default().payload_size(4096).metadata_size(64).wait_strategy(WaitStrategy::Block)
}

fn names(prefix: &str, count: &str) -> Vec<String> {
    (0..count.parse::<usize>().unwrap()).map(|number| format!("{prefix}-{number}")).collect()
}

/// Runs `each` for all `handles`, on a thread each.
fn on_threads<T: Send>(handles: Vec<T>, each: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for handle in handles {
            let each = &each;
            std::thread::Builder::new()
                .stack_size(128 << 10)
                .spawn_scoped(scope, move || each(handle))
                .unwrap();
        }
    });
}

/// How a writer and a reader meet that are idle then.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Meeting {
    Extended,
    Classic,
    /// No writer has come.
    Undecided,
}

impl Meeting {
    fn of(argument: &str) -> Meeting {
        let all = [Meeting::Extended, Meeting::Classic, Meeting::Undecided];
        all.into_iter().find(|meeting| format!("{meeting:?}") == argument).unwrap()
    }

    fn config(self) -> BufferConfig {
        small().classic(self == Meeting::Classic)
    }
}

/// Waits for frames of all buffers until their writers are gone.
fn idle_readers(arguments: &[String]) {
    let (names, meeting) = (names(&arguments[0], &arguments[1]), Meeting::of(&arguments[2]));
    let create = |name: &String| Reader::create(name, meeting.config()).unwrap();
    let readers: Vec<Reader> = names.iter().map(create).collect();
    say("created");
    hear();
    on_threads(readers, |mut reader| {
        if meeting != Meeting::Undecided {
            assert!(reader.read_frame(PATIENCE).unwrap().is_some(), "the first frame");
        }
        assert_eq!(reader.read_frame(Duration::MAX).unwrap_err().kind(), ErrorKind::WriterClosed);
    });
}

/// Waits for space in all buffers until their readers are gone.
fn idle_writers(arguments: &[String]) {
    let names = names(&arguments[0], &arguments[1]);
    let options = || WriterOptions::default().write_timeout(Duration::MAX).wait_strategy(WaitStrategy::Block);
    let writers: Vec<Writer> =
        names.iter().map(|name| Writer::connect_with(name, options()).unwrap()).collect();
    say("connected");
    on_threads(writers, |mut writer| {
        while writer.try_write_frame(&[1; 900]).unwrap().is_some() {}
        assert_eq!(writer.write_frame(&[1; 900]).unwrap_err().kind(), ErrorKind::ReaderDead);
    });
}

/// Waits until a process of many threads has fallen asleep. Returns how often its threads ran in two seconds then.
fn runs_while_idle(peer: &Peer, threads: usize) -> u64 {
    let start = Instant::now();
    let tasks = || std::fs::read_dir(format!("/proc/{}/task", peer.pid())).unwrap().count();
    // Its own, one for each handle, and the watcher.
    while tasks() < threads + 2 {
        assert!(start.elapsed() < PATIENCE, "{} threads", tasks());
        std::thread::sleep(Duration::from_millis(20));
    }
    idle::runs_when_quiet(peer)
}

#[test]
fn idle_readers_do_not_wake_at_all() {
    for (meeting, count) in [
        (Meeting::Extended, 1),
        (Meeting::Extended, 1000),
        (Meeting::Classic, 1),
        (Meeting::Classic, 1000),
        (Meeting::Undecided, 1),
        (Meeting::Undecided, 1000),
    ] {
        let prefix = Name::new(&format!("still-r{count}"));
        let arguments = [&*prefix, &count.to_string(), &format!("{meeting:?}")];
        let mut peer = Peer::start(role!(idle_readers), &arguments);
        peer.expect("created");
        let names = names(&prefix, &count.to_string());
        let connect = || names.iter().map(|name| Writer::connect(name).unwrap()).collect::<Vec<_>>();
        let mut writers = if meeting == Meeting::Undecided { vec![] } else { connect() };
        writers.iter_mut().for_each(|writer| _ = writer.write_frame(b"first").unwrap());
        peer.tell("read");
        assert_eq!(runs_while_idle(&peer, count), 0, "{meeting:?}: {count} readers woke for nothing");
        if meeting == Meeting::Undecided {
            writers = connect();
        }
        drop(writers);
        assert!(peer.wait().success());
    }
}

/// Linux closes what a killed process had open in descending order, and inotify's descriptor for 10 ms and more.
#[test]
fn the_locks_of_a_process_lie_above_its_inotify_instance() {
    let prefix = Name::new("order");
    let mut peer = Peer::start(role!(idle_readers), &[&*prefix, "1", "Undecided"]);
    peer.expect("created");
    peer.tell("read");
    let files = || {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", peer.pid())).unwrap();
        let link = |path: std::path::PathBuf| std::fs::read_link(path).unwrap_or_default();
        let number = |path: &std::path::Path| path.file_name()?.to_str()?.parse::<u32>().ok();
        let all = entries.map(|entry| entry.unwrap().path());
        all.filter_map(|path| Some((number(&path)?, link(path).display().to_string()))).collect::<Vec<_>>()
    };
    let start = Instant::now();
    let inotify = loop {
        if let Some((number, _)) = files().iter().find(|(_, link)| link.contains("inotify")) {
            break *number;
        }
        assert!(start.elapsed() < PATIENCE, "no watch: {:?}", files());
        std::thread::sleep(Duration::from_millis(5));
    };
    for place in ["/dev/shm/", "/tmp/zerobuffer/"] {
        let is_there = |(_, link): &&(u32, String)| link.starts_with(place);
        let highest = files().iter().filter(is_there).map(|(number, _)| *number).max();
        assert!(highest > Some(inotify), "{place}: {:?}", files());
    }
    drop(Writer::connect(&format!("{}-0", &*prefix)).unwrap());
    assert!(peer.wait().success());
}

#[test]
fn idle_writers_do_not_wake_at_all() {
    for (meeting, count) in
        [(Meeting::Extended, 1), (Meeting::Extended, 1000), (Meeting::Classic, 1), (Meeting::Classic, 1000)]
    {
        let prefix = Name::new(&format!("still-w{count}"));
        let names = names(&prefix, &count.to_string());
        let create = |name: &String| Reader::create(name, meeting.config()).unwrap();
        let readers: Vec<Reader> = names.iter().map(create).collect();
        let mut peer = Peer::start(role!(idle_writers), &[&prefix, &count.to_string()]);
        peer.expect("connected");
        assert_eq!(runs_while_idle(&peer, count), 0, "{meeting:?}: {count} writers woke for nothing");
        drop(readers);
        assert!(peer.wait().success());
    }
}

// ---- how soon a death is told ----

/// Byte of the segment that a writer, or a reader, holds locked (docs/PROTOCOL.md, "Liveness").
const WRITER_ROLE: i64 = 0x50;
const READER_ROLE: i64 = 0x58;

/// Looks at a role all the time, through a descriptor of its own. Notes when it is found free.
struct Witness {
    freed: AtomicU64,
    stop: AtomicBool,
}

impl Witness {
    fn watch(&self, name: &str, role: i64) {
        use std::os::fd::AsRawFd;
        let file = std::fs::File::open(format!("/dev/shm/{name}")).unwrap();
        while !self.stop.load(Ordering::Relaxed) {
            // SAFETY: struct flock is plain integers.
            let mut lock: libc::flock = unsafe { std::mem::zeroed() };
            (lock.l_type, lock.l_start, lock.l_len) = (libc::F_RDLCK as _, role, 1);
            // SAFETY: `lock` is a valid struct flock that the call fills in.
            assert_eq!(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) }, 0);
            if lock.l_type == libc::F_UNLCK as libc::c_short {
                self.freed.store(now(), Ordering::Relaxed);
                return;
            }
            std::thread::sleep(Duration::from_micros(10));
        }
    }
}

/// Calls `blocked`, and `end` while it sleeps. Returns the time from the release of the role to the return of `blocked`.
fn told_after(name: &str, role: i64, blocked: impl FnOnce() + Send, end: impl FnOnce()) -> Duration {
    let witness = Witness { freed: AtomicU64::new(0), stop: AtomicBool::new(false) };
    std::thread::scope(|scope| {
        scope.spawn(|| witness.watch(name, role));
        let waits = scope.spawn(|| {
            blocked();
            now()
        });
        // Long asleep, after its second look.
        std::thread::sleep(Duration::from_millis(30));
        end();
        let returned = waits.join().unwrap();
        let start = Instant::now();
        while witness.freed.load(Ordering::Relaxed) == 0 && start.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        witness.stop.store(true, Ordering::Relaxed);
        Duration::from_nanos(returned.saturating_sub(witness.freed.load(Ordering::Relaxed)))
    })
}

/// Adds how late a thread of this machine is that is woken just now.
fn note_lateness(late: &mut Vec<Duration>) {
    for _ in 0..5 {
        let start = Instant::now();
        std::thread::sleep(Duration::from_millis(1));
        late.push(start.elapsed() - Duration::from_millis(1));
    }
}

/// The median, and what 99 of 100 do not exceed.
fn median_and_high(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// `late`: how late threads were woken between the trials.
#[track_caller]
fn assert_told_at_once(what: &str, mut times: Vec<Duration>, mut late: Vec<Duration>, stalls: &StallWatch) {
    let (median, high) = median_and_high(&mut times);
    let (usual, late) = median_and_high(&mut late);
    eprintln!(
        "{what}: median {median:.1?}, p99 {high:.1?} of {}; this machine wakes threads {usual:.1?} late, p99 {late:.1?}, longest stall {:.1?}",
        times.len(),
        stalls.worst()
    );
    assert!(median < Duration::from_micros(100) + 3 * usual, "{what}: median {median:?}, usually {usual:?}");
    assert!(high < Duration::from_millis(1) + 3 * late + stalls.worst(), "{what}: p99 {high:?}");
}

fn kills() -> usize {
    if support::full() { 1000 } else { 60 }
}

fn writer(arguments: &[String]) {
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    writer.write_frame(b"frame").unwrap();
    say("connected");
    hear();
}

fn reader(arguments: &[String]) {
    let _reader = Reader::create(&arguments[0], small()).unwrap();
    say("created");
    hear();
}

fn read_the_first(reader: &mut Reader) {
    assert!(reader.read_frame(PATIENCE).unwrap().is_some());
}

fn assert_dead(reader: &mut Reader) {
    assert_eq!(reader.read_frame(PATIENCE).unwrap_err().kind(), ErrorKind::WriterDead);
}

#[test]
fn a_sleeping_reader_is_told_of_its_writers_death_when_the_role_is_free() {
    let (name, stalls) = (Name::new("told-w"), StallWatch::start());
    let mut reader = Reader::create(&name, small()).unwrap();
    let (mut times, mut late) = (Vec::new(), Vec::new());
    for _ in 0..kills() {
        note_lateness(&mut late);
        let mut peer = Peer::start(role!(writer), &[&name]);
        peer.expect("connected");
        read_the_first(&mut reader);
        times.push(told_after(&name, WRITER_ROLE, || assert_dead(&mut reader), || _ = peer.kill()));
    }
    assert_told_at_once("a reader", times, late, &stalls);
}

#[test]
fn a_sleeping_writer_is_told_of_its_readers_death_when_the_role_is_free() {
    let (name, stalls) = (Name::new("told-r"), StallWatch::start());
    let (mut times, mut late) = (Vec::new(), Vec::new());
    for _ in 0..kills() {
        note_lateness(&mut late);
        let mut peer = Peer::start(role!(reader), &[&name]);
        peer.expect("created");
        let options = WriterOptions::default().write_timeout(PATIENCE).wait_strategy(WaitStrategy::Block);
        let mut writer = Writer::connect_with(&name, options).unwrap();
        while writer.try_write_frame(&[1; 900]).unwrap().is_some() {}
        let blocked = || assert_eq!(writer.write_frame(&[1; 900]).unwrap_err().kind(), ErrorKind::ReaderDead);
        times.push(told_after(&name, READER_ROLE, blocked, || _ = peer.kill()));
    }
    assert_told_at_once("a writer", times, late, &stalls);
}

/// Connects, and touches so much memory of its own and so much of the ring (in MiB). `slept`: has slept, and so has an inotify instance.
fn large_writer(arguments: &[String]) {
    let [own, ring] = [1, 2].map(|index| arguments[index].parse::<usize>().unwrap() << 20);
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    if arguments[3] == "slept" {
        let mut reader = Reader::create(&format!("{}-own", arguments[0]), small()).unwrap();
        assert!(reader.read_frame(Duration::from_millis(20)).unwrap().is_none());
        std::mem::forget(reader);
    }
    let memory = std::hint::black_box(vec![1_u8; own]);
    let frame = vec![1; 1 << 20];
    for _ in 0..ring / frame.len() {
        writer.write_frame(&frame).unwrap();
    }
    writer.write_frame(&[2]).unwrap();
    say("ready");
    hear();
    drop(memory);
}

/// What of the time is the kernel's: it takes the memory of a killed process down before it frees the role.
#[test]
fn a_death_is_told_however_much_memory_the_dead_process_had() {
    let kills = if support::full() { 60 } else { 5 };
    for (what, own, ring, slept) in [
        ("small", "0", "0", ""),
        ("small, and has slept", "0", "0", "slept"),
        ("100 MiB of its own", "100", "0", ""),
        ("240 MiB of ring", "0", "240", ""),
    ] {
        let mut times = Vec::new();
        for _ in 0..kills {
            let name = Name::new("told-large");
            // Removes what the killed process leaves.
            let _own = name.suffixed("-own");
            let config = small().payload_size(if ring == "0" { 4096 } else { 256 << 20 });
            let mut reader = Reader::create(&name, config).unwrap();
            let mut peer = Peer::start(role!(large_writer), &[&name, own, ring, slept]);
            // Frames are held, so that the writer does not come back to the start of the ring.
            let mut held = Vec::new();
            loop {
                let frame = reader.read_frame(PATIENCE).unwrap().expect("in time");
                if frame.len() == 1 {
                    break;
                }
                held.push(frame);
            }
            peer.expect("ready");
            let mut killed = 0;
            let mut returned = 0;
            std::thread::scope(|scope| {
                let waits = scope.spawn(|| {
                    assert_dead(&mut reader);
                    now()
                });
                std::thread::sleep(Duration::from_millis(30));
                killed = now();
                peer.signal(libc::SIGKILL);
                returned = waits.join().unwrap();
            });
            peer.kill();
            times.push(Duration::from_nanos(returned - killed));
        }
        times.sort();
        eprintln!(
            "{what}: from kill to news {:.1?} in the median, at most {:.1?}",
            times[kills / 2],
            times[kills - 1]
        );
    }
}

/// Connects, and leaves the role to a child that lives on.
fn forking_writer(arguments: &[String]) {
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    writer.write_frame(b"frame").unwrap();
    // A raw fork, which runs no handler: the child inherits the role.
    // SAFETY: the child makes system calls alone.
    let child = unsafe { libc::syscall(libc::SYS_fork) };
    if child == 0 {
        // SAFETY: pause and _exit take no pointers.
        unsafe {
            libc::pause();
            libc::_exit(0);
        }
    }
    say(child);
    hear();
}

#[test]
fn a_role_that_a_forked_child_holds_is_free_when_the_child_ends() {
    let name = Name::new("told-fork");
    let mut reader = Reader::create(&name, small()).unwrap();
    let mut peer = Peer::start(role!(forking_writer), &[&name]);
    let child: i32 = peer.hear().parse().unwrap();
    read_the_first(&mut reader);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| assert_dead(&mut reader));
        peer.kill();
        std::thread::sleep(Duration::from_millis(1200));
        assert!(!waits.is_finished(), "the child still has the role");
        let ended = Instant::now();
        // SAFETY: kill takes no pointers; the child is this test's own.
        unsafe { libc::kill(child, libc::SIGKILL) };
        waits.join().unwrap();
        assert!(ended.elapsed() < Duration::from_secs(5), "told after {:?}", ended.elapsed());
    });
}

/// Connects, and becomes another program.
fn executing_writer(arguments: &[String]) {
    use std::os::unix::process::CommandExt;
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    writer.write_frame(b"frame").unwrap();
    say("connected");
    hear();
    panic!("{}", Command::new("sleep").arg("60").exec());
}

/// Connects, and ends without a close.
fn exiting_writer(arguments: &[String]) {
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    writer.write_frame(b"frame").unwrap();
    say("connected");
    hear();
    // SAFETY: _exit takes no pointers.
    unsafe { libc::_exit(0) };
}

#[test]
fn a_reader_without_a_time_out_is_told_of_a_writer_that_exits_or_becomes_another_program() {
    for role in [role!(executing_writer), role!(exiting_writer)] {
        let name = Name::new("told-exit");
        let mut reader = Reader::create(&name, small()).unwrap();
        let mut peer = Peer::start(role, &[&name]);
        peer.expect("connected");
        read_the_first(&mut reader);
        let stalls = StallWatch::start();
        let end = || peer.tell("end");
        let told = told_after(&name, WRITER_ROLE, || assert_dead(&mut reader), end);
        assert!(told < Duration::from_millis(100) + stalls.worst(), "told after {told:?}");
        peer.kill();
    }
}

#[test]
fn a_death_is_told_after_the_buffer_has_lost_its_name() {
    let name = Name::new("told-unnamed");
    let mut reader = Reader::create(&name, small()).unwrap();
    let mut peer = Peer::start(role!(writer), &[&name]);
    peer.expect("connected");
    read_the_first(&mut reader);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| assert_dead(&mut reader));
        std::thread::sleep(Duration::from_millis(30));
        std::fs::remove_file(format!("/dev/shm/{}", &*name)).unwrap();
        // Behind the last look that follows an event.
        std::thread::sleep(Duration::from_millis(1200));
        assert!(!waits.is_finished(), "the writer goes on");
        let stalls = StallWatch::start();
        peer.kill();
        let killed = Instant::now();
        waits.join().unwrap();
        assert!(killed.elapsed() < Duration::from_millis(500) + stalls.worst(), "{:?}", killed.elapsed());
    });
}

#[test]
fn a_death_in_another_pid_namespace_is_told() {
    let name = Name::new("told-pid");
    let mut reader = Reader::create(&name, small()).unwrap();
    let mut peer = Peer::start_through(&confine::unshare(&["--pid"]), role!(writer), &[&name], |_| {});
    peer.expect("connected");
    read_the_first(&mut reader);
    let stalls = StallWatch::start();
    let told = told_after(&name, WRITER_ROLE, || assert_dead(&mut reader), || _ = peer.kill());
    assert!(told < Duration::from_millis(100) + stalls.worst(), "told after {told:?}");
}

/// Reads a frame, and waits for the end, without the means to watch: no inotify instance may be made, or no descriptor is left.
fn waiting_reader(arguments: &[String]) {
    let mut reader = Reader::create(&arguments[0], small()).unwrap();
    say("created");
    hear();
    read_the_first(&mut reader);
    if arguments[1] == "instances" {
        let users = std::fs::read_to_string("/proc/self/uid_map").unwrap();
        assert!(!users.contains("4294967295"), "this would change the limit of the machine: {users}");
        std::fs::write("/proc/sys/user/max_inotify_instances", "0").unwrap();
    } else {
        confine::limit(libc::RLIMIT_NOFILE, 100);
        while let Ok(file) = std::fs::File::open("/dev/null") {
            std::mem::forget(file);
        }
    }
    say("waits");
    assert_dead(&mut reader);
    say("told");
}

#[test]
fn a_reader_that_cannot_watch_looks_now_and_then() {
    // In a user namespace of its own the limit is its own, too.
    let alone = confine::unshare(&["--user", "--map-root-user"]);
    for (what, wrapper) in [("instances", &alone[..]), ("descriptors", &[])] {
        let name = Name::new("told-without");
        let mut sleeper = Peer::start_through(wrapper, role!(waiting_reader), &[&name, what], |_| {});
        sleeper.expect("created");
        let mut peer = Peer::start(role!(writer), &[&name]);
        peer.expect("connected");
        sleeper.tell("read");
        sleeper.expect("waits");
        std::thread::sleep(Duration::from_millis(50));
        peer.kill();
        assert_eq!(sleeper.hear_within(Duration::from_secs(10)).as_deref(), Some("told"), "without {what}");
        assert!(sleeper.wait().success());
    }
}
