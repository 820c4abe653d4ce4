//! Descriptors in event loops: poll, select, and epoll of both kinds.

use super::support;

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::support::{Name, PATIENCE, Peer, Random, confine, hear, poll, role, say};
use zerobuffer::{BufferConfig, ErrorKind, Reader, WaitStrategy, Writer, WriterOptions};

/// A wake-up that does not come within this time is lost.
const LOST: Duration = Duration::from_secs(10);

support::peers!(echo, writer, reader, polling_echo, failing_opener, descriptor_owner, idle_handles);

fn small() -> BufferConfig {
    support::config().payload_size(4096).wait_strategy(WaitStrategy::Block)
}

fn connect(name: &str) -> Writer {
    let options = WriterOptions::default()
        .connect_timeout(PATIENCE)
        .write_timeout(PATIENCE)
        .wait_strategy(WaitStrategy::Block);
    Writer::connect_with(name, options).unwrap()
}

fn is_ready(fd: BorrowedFd<'_>) -> bool {
    poll(fd, Duration::ZERO)
}

/// Whether select() finds the descriptor ready within `limit`.
fn select(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    assert!(fd.as_raw_fd() < 1024, "select() cannot take it");
    let mut time =
        libc::timeval { tv_sec: limit.as_secs().try_into().unwrap(), tv_usec: limit.subsec_micros().into() };
    // SAFETY: fd_set is plain integers, and the number is below its size.
    unsafe {
        let mut set: libc::fd_set = std::mem::zeroed();
        libc::FD_SET(fd.as_raw_fd(), &raw mut set);
        let (none, set) = (std::ptr::null_mut(), &raw mut set);
        libc::select(fd.as_raw_fd() + 1, set, none, none, &raw mut time) == 1
    }
}

struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> Epoll {
        // SAFETY: the call takes no pointers, and its result has no other owner.
        Epoll(unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) })
    }

    fn add(&self, fd: BorrowedFd<'_>, flags: libc::c_int, data: u64) {
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | flags).cast_unsigned(), u64: data };
        // SAFETY: `event` is valid, and both descriptors are open.
        let added = unsafe {
            libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event)
        };
        assert_eq!(added, 0, "epoll_ctl: {}", std::io::Error::last_os_error());
    }

    /// The data of what became ready within `limit`.
    fn wait(&self, limit: Duration) -> Vec<u64> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        // SAFETY: there is room for as many events as are asked for.
        let count = unsafe {
            libc::epoll_wait(
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                64,
                limit.as_millis().try_into().unwrap(),
            )
        };
        assert!(count >= 0, "epoll_wait: {}", std::io::Error::last_os_error());
        events[..count.cast_unsigned() as usize].iter().map(|event| event.u64).collect()
    }
}

/// The ways to wait for one descriptor.
#[derive(Debug, Clone, Copy)]
enum Way {
    Poll,
    Select,
    Level,
    Edge,
    /// An epoll in an epoll.
    Nested,
}

const WAYS: [Way; 5] = [Way::Poll, Way::Select, Way::Level, Way::Edge, Way::Nested];

/// Waits for one descriptor in one way.
struct Waiter {
    way: Way,
    epoll: [Epoll; 2],
}

impl Waiter {
    fn new(way: Way, fd: BorrowedFd<'_>) -> Waiter {
        let epoll = [Epoll::new(), Epoll::new()];
        epoll[0].add(fd, if matches!(way, Way::Edge) { libc::EPOLLET } else { 0 }, 7);
        epoll[1].add(epoll[0].0.as_fd(), 0, 8);
        Waiter { way, epoll }
    }

    fn wait(&self, fd: BorrowedFd<'_>, limit: Duration) -> bool {
        match self.way {
            Way::Poll => poll(fd, limit),
            Way::Select => select(fd, limit),
            Way::Level | Way::Edge => self.epoll[0].wait(limit) == [7],
            Way::Nested => self.epoll[1].wait(limit) == [8],
        }
    }
}

/// Where the FIFO of a descriptor stands; `None` for a pipe.
fn fifo(fd: BorrowedFd<'_>) -> Option<PathBuf> {
    let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
    path.starts_with("/dev/shm").then_some(path)
}

// ---- peers ----

/// Sends back what comes, blocking; ends when its writer does.
fn echo(arguments: &[String]) {
    let mut requests = Reader::create(&arguments[0], small()).unwrap();
    say("created");
    let mut responses = connect(&arguments[1]);
    while let Ok(Some(frame)) = requests.read_frame_ref(PATIENCE) {
        responses.write_frame(&frame).unwrap();
    }
}

/// Sends back what comes, and waits for both sides by their descriptors.
fn polling_echo(arguments: &[String]) {
    let mut requests = Reader::create(&arguments[0], small()).unwrap();
    say("created");
    let mut responses = connect(&arguments[1]);
    loop {
        match requests.try_read_frame() {
            Ok(None) => assert!(poll(requests.descriptor().unwrap(), LOST), "no request in time"),
            Err(error) if error.kind() == ErrorKind::WriterClosed => return,
            Err(error) => panic!("{error}"),
            Ok(Some(frame)) => {
                while responses.try_write_frame(&frame).unwrap().is_none() {
                    assert!(poll(responses.descriptor().unwrap(), LOST), "no space in time");
                }
            }
        }
    }
}

/// Writes frames as it is told: a number, `close`, or `die`.
fn writer(arguments: &[String]) {
    let mut writer = connect(&arguments[0]);
    say("connected");
    loop {
        match hear().unwrap_or_default().as_str() {
            "close" | "" => return writer.close().unwrap(),
            "die" => std::process::abort(),
            number => {
                for _ in 0..number.parse::<u32>().unwrap() {
                    writer.write_frame(&[1; 100]).unwrap();
                }
            }
        }
        say("done");
    }
}

/// As `writer`, but no FIFO can be opened: its process has no descriptor left.
fn failing_opener(arguments: &[String]) {
    let mut writer = connect(&arguments[0]);
    let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    say("connected");
    while let Ok(number) = hear().unwrap_or_default().parse::<u32>() {
        for _ in 0..number {
            writer.write_frame(&[1; 100]).unwrap();
        }
        say("done");
    }
}

/// Reads as many frames as it is told, and `close`.
fn reader(arguments: &[String]) {
    let mut reader = Reader::create(&arguments[0], small()).unwrap();
    say("created");
    loop {
        match hear().unwrap_or_default().as_str() {
            "close" | "" => return reader.close().unwrap(),
            "die" => std::process::abort(),
            number => {
                for _ in 0..number.parse::<u32>().unwrap() {
                    assert!(reader.read_frame_ref(PATIENCE).unwrap().is_some());
                }
            }
        }
        say("done");
    }
}

// ---- what ready means ----

#[test]
fn a_readers_descriptor_is_ready_until_a_look_finds_nothing() {
    let name = Name::new("loop-ready");
    let mut reader = Reader::create(&name, small()).unwrap();
    assert!(is_ready(reader.descriptor().unwrap()), "it is ready at first");
    assert!(reader.try_read_frame().unwrap().is_none());
    assert!(!is_ready(reader.descriptor().unwrap()));
    let mut peer = Peer::start(role!(writer), &[&name]);
    peer.expect("connected");
    // The connection is news.
    while poll(reader.descriptor().unwrap(), Duration::from_millis(100)) {
        assert!(reader.try_read_frame().unwrap().is_none());
    }
    for _ in 0..3 {
        peer.tell("3");
        peer.expect("done");
        for _ in 0..3 {
            assert!(poll(reader.descriptor().unwrap(), LOST));
            assert!(reader.try_read_frame().unwrap().is_some());
        }
        assert!(is_ready(reader.descriptor().unwrap()), "no look has found nothing yet");
        assert!(reader.read_frame(Duration::ZERO).unwrap().is_none());
        assert!(!is_ready(reader.descriptor().unwrap()));
    }
    // A blocking read leaves it ready.
    assert!(reader.read_frame(Duration::from_millis(1)).unwrap().is_none());
    assert!(is_ready(reader.descriptor().unwrap()));
    assert!(reader.try_read_frame().unwrap().is_none());
    peer.tell("close");
    assert!(poll(reader.descriptor().unwrap(), LOST), "an end makes it ready");
    assert_eq!(reader.try_read_frame().unwrap_err().kind(), ErrorKind::WriterClosed);
    assert!(is_ready(reader.descriptor().unwrap()), "more may be there");
    // The writer rings after it has given up its role.
    while poll(reader.descriptor().unwrap(), Duration::from_millis(100)) {
        assert!(reader.try_read_frame().unwrap().is_none());
    }
    assert!(peer.wait().success());
}

#[test]
fn a_writers_descriptor_is_ready_until_there_is_no_space() {
    let name = Name::new("loop-space");
    let mut peer = Peer::start(role!(reader), &[&name]);
    peer.expect("created");
    let mut writer = connect(&name);
    let fill = |writer: &mut Writer| {
        let mut count = 0;
        while writer.try_write_frame(&[1; 300]).unwrap().is_some() {
            count += 1;
        }
        count
    };
    assert!(is_ready(writer.descriptor().unwrap()), "it is ready at first");
    let all = fill(&mut writer);
    assert!(!is_ready(writer.descriptor().unwrap()));
    peer.tell("2");
    peer.expect("done");
    assert!(poll(writer.descriptor().unwrap(), LOST));
    assert!(fill(&mut writer) >= 1);
    assert!(!is_ready(writer.descriptor().unwrap()));
    peer.tell(all.to_string());
    peer.expect("done");
    assert!(poll(writer.descriptor().unwrap(), LOST));
    fill(&mut writer);
    peer.tell("close");
    assert!(poll(writer.descriptor().unwrap(), LOST), "an end makes it ready");
    while writer.try_write_frame(&[1; 300]).is_ok() {
        assert!(poll(writer.descriptor().unwrap(), LOST), "an end keeps it ready");
    }
    assert!(peer.wait().success());
}

#[test]
fn a_death_makes_a_descriptor_ready() {
    let (name, other) = (Name::new("loop-death-w"), Name::new("loop-death-r"));
    let mut reader = Reader::create(&name, small()).unwrap();
    let mut peer = Peer::start(role!(writer), &[&name]);
    peer.expect("connected");
    peer.tell("1");
    peer.expect("done");
    assert!(reader.read_frame(PATIENCE).unwrap().is_some());
    assert!(reader.descriptor().is_ok() && reader.try_read_frame().unwrap().is_none());
    peer.tell("die");
    loop {
        assert!(poll(reader.descriptor().unwrap(), LOST), "no death is told");
        match reader.try_read_frame() {
            Ok(None) => {}
            ended => break assert_eq!(ended.unwrap_err().kind(), ErrorKind::WriterDead),
        }
    }
    let mut peer = Peer::start(role!(reader), &[&other]);
    peer.expect("created");
    let mut writer = connect(&other);
    assert!(writer.descriptor().is_ok());
    peer.tell("die");
    loop {
        match writer.try_write_frame(&[1; 300]) {
            Ok(None) => assert!(poll(writer.descriptor().unwrap(), LOST), "no death is told"),
            Ok(Some(_)) => {}
            Err(error) => break assert_eq!(error.kind(), ErrorKind::ReaderDead),
        }
    }
}

#[test]
fn an_interrupt_makes_a_descriptor_ready() {
    let name = Name::new("loop-interrupt");
    let mut reader = Reader::create(&name, small()).unwrap();
    assert!(reader.descriptor().is_ok() && reader.read_frame(Duration::ZERO).unwrap().is_none());
    let handle = reader.interrupt_handle();
    std::thread::scope(|scope| _ = scope.spawn(|| handle.interrupt()));
    assert!(poll(reader.descriptor().unwrap(), LOST));
    assert_eq!(reader.read_frame(Duration::ZERO).unwrap_err().kind(), ErrorKind::Interrupted);
}

// ---- no wake-up is lost ----

/// How long each test of real sleeps takes.
fn rounds() -> Duration {
    Duration::from_millis(if support::full() { 60_000 } else { 600 })
}

/// On a machine that is busy a test takes longer, until it has slept more often than this.
const FEWEST_SLEEPS: u64 = 200;

/// Sends requests to an echo in another process, and waits for the answers in `way`. Returns how often it slept.
fn talk(role: support::Role, way: Way) -> u64 {
    let (requests, responses) = (Name::new("loop-ask"), Name::new("loop-answer"));
    let mut reader = Reader::create(&responses, small()).unwrap();
    let mut peer = Peer::start(role, &[&requests, &responses]);
    peer.expect("created");
    let mut writer = connect(&requests);
    let waiter = Waiter::new(way, reader.descriptor().unwrap());
    let (start, mut sleeps) = (Instant::now(), 0);
    let mut random = Random(7);
    let mut number = 0_u64;
    while start.elapsed() < rounds() || sleeps <= FEWEST_SLEEPS && start.elapsed() < PATIENCE {
        // Several frames now and then, so that rings meet arming in all orders.
        let batch = 1 + number % 3;
        for frame in number..number + batch {
            writer.write_frame(&frame.to_le_bytes()).unwrap();
        }
        let mut next = number;
        number += batch;
        while next < number {
            match reader.try_read_frame().unwrap() {
                Some(frame) => {
                    assert_eq!(*frame, next.to_le_bytes());
                    next += 1;
                    // Level-triggered loops may look at something else in between.
                    if !matches!(way, Way::Edge) && random.between(0, 4) == 0 {
                        assert!(waiter.wait(reader.descriptor().unwrap(), LOST), "frame {next} is lost");
                    }
                }
                None => {
                    sleeps += 1;
                    assert!(waiter.wait(reader.descriptor().unwrap(), LOST), "frame {next} is lost");
                }
            }
        }
    }
    writer.close().unwrap();
    assert!(peer.wait().success());
    sleeps
}

#[test]
fn no_frame_is_lost_in_any_kind_of_loop() {
    for way in WAYS {
        let sleeps = talk(role!(echo), way);
        eprintln!("{way:?}: {sleeps} sleeps");
        assert!(sleeps > FEWEST_SLEEPS, "{way:?}: {sleeps} sleeps");
    }
}

#[test]
fn no_frame_and_no_space_is_lost_where_both_sides_poll() {
    let sleeps = talk(role!(polling_echo), Way::Poll);
    eprintln!("{sleeps} sleeps");
    assert!(sleeps > FEWEST_SLEEPS, "{sleeps} sleeps");
}

// ---- FIFOs that are lost, and peers that cannot use them ----

/// Reads `count` frames, waiting by the descriptor.
fn read(reader: &mut Reader, count: u32) {
    for _ in 0..count {
        while reader.try_read_frame().unwrap().is_none() {
            assert!(poll(reader.descriptor().unwrap(), LOST), "a frame is lost");
        }
    }
    while reader.try_read_frame().unwrap().is_some() {}
}

fn make_fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success());
}

#[test]
fn a_descriptor_works_without_its_fifo() {
    const OTHERS: [&str; 6] = ["replaced", "another user's", "folder", "file", "link", "dead link"];
    let others = OTHERS.map(|what| (what, false));
    for (what, opened) in [("removed", false), ("removed", true)].into_iter().chain(others) {
        let name = Name::new("loop-fifo");
        let mut reader = Reader::create(&name, small()).unwrap();
        let mut peer = Peer::start(role!(writer), &[&name]);
        peer.expect("connected");
        let path = fifo(reader.descriptor().unwrap());
        assert_eq!(path.is_some(), !super::support::is_classic());
        if opened {
            // The writer has used the FIFO before it is gone.
            read(&mut reader, 0);
            peer.tell("1");
            peer.expect("done");
            read(&mut reader, 1);
        }
        let target = Name::new("loop-fifo-target");
        let target = &target.paths()[0];
        if let Some(path) = &path {
            std::fs::remove_file(path).unwrap();
            match what {
                "replaced" => make_fifo(path),
                "another user's" => {
                    make_fifo(path);
                    if confine::is_root() {
                        std::os::unix::fs::chown(path, Some(confine::NOBODY), Some(confine::NOBODY)).unwrap();
                    }
                }
                "folder" => std::fs::create_dir(path).unwrap(),
                "file" => std::fs::write(path, "file").unwrap(),
                "link" => {
                    make_fifo(target);
                    std::os::unix::fs::symlink(target, path).unwrap();
                }
                "dead link" => std::os::unix::fs::symlink(target, path).unwrap(),
                _ => {}
            }
        }
        for _ in 0..20 {
            read(&mut reader, 0);
            peer.tell("1");
            read(&mut reader, 1);
            peer.expect("done");
        }
        peer.tell("close");
        assert!(peer.wait().success());
        drop(reader);
        if let Some(path) = &path {
            let left = path.symlink_metadata();
            assert_eq!(left.is_ok(), OTHERS.contains(&what), "another program's file stays: {what}");
            if what == "file" {
                assert_eq!(std::fs::read(path).unwrap(), b"file", "it is as it was");
            }
            assert!(what != "dead link" || !target.exists(), "no file is made through a link");
            let _ = std::fs::remove_file(path);
            let _ = std::fs::remove_dir(path);
        }
    }
}

#[test]
fn a_peer_that_cannot_open_the_fifo_wakes_the_descriptor_through_a_thread() {
    let name = Name::new("loop-no-open");
    let mut reader = Reader::create(&name, small()).unwrap();
    let mut peer = Peer::start(role!(failing_opener), &[&name]);
    peer.expect("connected");
    for _ in 0..50 {
        assert!(reader.descriptor().is_ok());
        read(&mut reader, 0);
        peer.tell("1");
        read(&mut reader, 1);
        peer.expect("done");
    }
    peer.tell("end");
    assert!(peer.wait().success());
}

#[test]
fn a_full_fifo_stays_ready_and_loses_nothing() {
    let name = Name::new("loop-full");
    let mut reader = Reader::create(&name, small()).unwrap();
    let mut peer = Peer::start(role!(writer), &[&name]);
    peer.expect("connected");
    let descriptor = reader.descriptor().unwrap().as_raw_fd();
    if fifo(reader.descriptor().unwrap()).is_some() {
        // SAFETY: the bytes outlive the call; the descriptor is open for both directions.
        while unsafe { libc::write(descriptor, [0_u8; 4096].as_ptr().cast(), 4096) } > 0 {}
    }
    for _ in 0..3 {
        peer.tell("2");
        peer.expect("done");
        read(&mut reader, 2);
        assert!(!is_ready(reader.descriptor().unwrap()));
    }
    peer.tell("close");
    assert!(peer.wait().success());
}

#[test]
fn a_descriptors_fifo_goes_with_its_handle_or_with_the_next_one_of_its_role() {
    let name = Name::new("loop-gone");
    let mut reader = Reader::create(&name, small()).unwrap();
    let Some(path) = fifo(reader.descriptor().unwrap()) else { return };
    assert!(path.exists());
    let mut writer = connect(&name);
    // Once the ring is extended.
    assert!(writer.write_frame(b"1").is_ok() && reader.try_read_frame().unwrap().is_some());
    let other = fifo(writer.descriptor().unwrap()).unwrap();
    drop(writer);
    assert!(!other.exists(), "it goes with its writer");
    let mut peer = Peer::start(role!(descriptor_owner), &[&name]);
    let left = PathBuf::from(peer.hear());
    peer.tell("die");
    let _ = peer.wait();
    assert!(left.exists(), "a killed writer leaves it");
    drop(connect(&name));
    assert!(!left.exists(), "the next writer removes it");
    drop(reader);
    assert!(!path.exists(), "it goes with its reader");
}

/// Connects, shows the FIFO of its descriptor, and ends as it is told.
fn descriptor_owner(arguments: &[String]) {
    let writer = connect(&arguments[0]);
    say(fifo(writer.descriptor().unwrap()).unwrap().display());
    hear();
    std::process::abort();
}

// ---- processes and threads ----

#[test]
fn a_forked_child_has_no_descriptor() {
    let name = Name::new("loop-fork");
    let reader = Reader::create(&name, small()).unwrap();
    let fd = reader.descriptor().unwrap().as_raw_fd();
    // SAFETY: the child calls async-signal-safe functions, and library code that is made for it, then ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: F_GETFD takes no pointer; _exit() runs nothing of this process.
        unsafe {
            let closed = libc::fcntl(fd, libc::F_GETFD) < 0;
            let refused = reader.descriptor().is_err();
            libc::_exit(i32::from(!(closed && refused)));
        }
    }
    let mut status = 0;
    // SAFETY: the child is this process's own, and `status` has room for the result.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(libc::WEXITSTATUS(status), 0);
    assert!(is_ready(reader.descriptor().unwrap()));
}

#[test]
fn twenty_readers_and_a_socket_are_waited_for_at_once() {
    let names: Vec<Name> = (0..20).map(|_| Name::new("loop-many")).collect();
    let mut readers: Vec<Reader> = names.iter().map(|name| Reader::create(name, small()).unwrap()).collect();
    let (mut socket, other) = std::os::unix::net::UnixStream::pair().unwrap();
    let epoll = Epoll::new();
    for (number, reader) in readers.iter_mut().enumerate() {
        epoll.add(reader.descriptor().unwrap(), 0, number as u64);
        assert!(reader.try_read_frame().unwrap().is_none());
    }
    epoll.add(socket.as_fd(), 0, 100);
    assert_eq!(epoll.wait(Duration::ZERO), Vec::<u64>::new());
    let sender = std::thread::spawn({
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        move || {
            let mut writers: Vec<Writer> = names.iter().map(|name| connect(name)).collect();
            for round in 0..50 {
                writers[round * 7 % 20].write_frame(&[1; 10]).unwrap();
                std::io::Write::write_all(&mut &other, &[1]).unwrap();
                std::thread::yield_now();
            }
            writers
        }
    });
    let (mut frames, mut bytes) = (0, 0);
    while (frames, bytes) != (50, 50) {
        let ready = epoll.wait(LOST);
        assert!(!ready.is_empty(), "{frames} frames and {bytes} bytes came in time");
        for number in ready {
            match readers.get_mut(number as usize) {
                Some(reader) => {
                    while reader.try_read_frame().unwrap().is_some() {
                        frames += 1;
                    }
                }
                None => bytes += socket.read(&mut [0; 64]).unwrap(),
            }
        }
    }
    drop(sender.join().unwrap());
}

// ---- idle handles ----

/// Reads and writes frames of as many buffers as it is told, then waits for them all by their descriptors.
fn idle_handles(arguments: &[String]) {
    super::support::confine::allow_many_descriptors();
    let epoll = Epoll::new();
    let mut handles: Vec<(Reader, Writer)> = arguments
        .iter()
        .zip(0..)
        .map(|(name, number)| {
            let mut reader = Reader::create(name, small()).unwrap();
            let mut writer = connect(name);
            epoll.add(reader.descriptor().unwrap(), 0, number);
            writer.write_frame(b"first").unwrap();
            assert!(reader.try_read_frame().unwrap().is_some());
            while reader.try_read_frame().unwrap().is_some() {}
            (reader, writer)
        })
        .collect();
    assert_eq!(epoll.wait(Duration::ZERO), Vec::<u64>::new());
    say("idle");
    hear();
    for number in 0..handles.len() as u64 {
        let (reader, writer) = &mut handles[number as usize];
        writer.write_frame(b"frame").unwrap();
        assert_eq!(epoll.wait(LOST), [number]);
        assert!(reader.try_read_frame().unwrap().is_some() && reader.try_read_frame().unwrap().is_none());
    }
    say("done");
}

/// How often the threads of a process have run, and their names.
fn runs(pid: u32) -> Vec<(String, u64)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .map(|task| {
            let path = task.unwrap().path();
            let read = |file: &str| std::fs::read_to_string(path.join(file)).unwrap();
            let runs = read("schedstat").split_whitespace().nth(2).unwrap().parse().unwrap();
            (read("comm").trim().to_owned(), runs)
        })
        .collect()
}

#[test]
fn many_idle_descriptors_need_few_threads_and_no_wake_up() {
    // Enough for two listeners.
    let names: Vec<Name> = (0..130).map(|_| Name::new("idle")).collect();
    let arguments: Vec<&str> = names.iter().map(|name| &**name).collect();
    let mut peer = Peer::start(role!(idle_handles), &arguments);
    peer.expect("idle");
    // The watcher looks once more a second after the last event.
    std::thread::sleep(Duration::from_millis(1300));
    let before = runs(peer.pid());
    std::thread::sleep(Duration::from_millis(1000));
    let after = runs(peer.pid());
    let listeners = before.iter().filter(|(name, _)| name == "zb-descriptors").count();
    assert_eq!(listeners, 2, "{before:?}");
    assert_eq!(before, after, "a thread has run");
    peer.tell("write");
    peer.expect("done");
    assert!(peer.wait().success());
}

#[test]
fn a_copy_of_the_descriptor_is_ready_for_good_when_the_handle_is_closed() {
    let name = Name::new("copy-closed");
    let mut reader = Reader::create(&name, small()).unwrap();
    let mut writer = connect(&name);
    let copies = [reader.descriptor().unwrap(), writer.descriptor().unwrap()]
        .map(|descriptor| descriptor.try_clone_to_owned().unwrap());
    // A pipe, which a classic ring has, also hangs up.
    let [of_reader, of_writer] = copies.each_ref().map(|copy| {
        let epoll = Epoll::new();
        epoll.add(copy.as_fd(), 0, 0);
        epoll
    });
    while writer.try_write_frame(&[1; 1000]).unwrap().is_some() {}
    assert_eq!(of_writer.wait(Duration::ZERO), []);
    writer.close().unwrap();
    assert_eq!(of_writer.wait(Duration::ZERO), [0]);
    // What is there is read, and the end.
    while !matches!(reader.try_read_frame(), Ok(None)) {}
    assert_eq!(of_reader.wait(Duration::ZERO), []);
    reader.close().unwrap();
    assert_eq!(of_reader.wait(Duration::ZERO), [0]);
}
