//! A thousand readers with descriptors in one process: few threads, and what it costs to make one of them ready.

use crate::support;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::support::ledger::now;
use crate::support::{Name, PATIENCE, Peer, Random, hear, idle, role, say};
use zerobuffer::{BufferConfig, Reader, WaitStrategy, Writer};

support::peers!(readers);

const READERS: usize = 1000;
/// Descriptors that one thread serves.
const A_THREAD: usize = 127;

/// CPU time that this process has used.
fn cpu() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` has room for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec.try_into().unwrap())
}

fn names(prefix: &str) -> Vec<String> {
    (0..READERS).map(|number| format!("{prefix}-{number}")).collect()
}

/// Waits for frames of all buffers by one epoll, one of each first, and then as many as it is told. Says in nanoseconds how late
/// these were found in the median, and the processor time for each.
fn readers(arguments: &[String]) {
    support::confine::allow_many_descriptors();
    let config = BufferConfig::default().payload_size(4096).metadata_size(64);
    let config = config.wait_strategy(WaitStrategy::Block);
    let mut readers: Vec<Reader> =
        names(&arguments[0]).iter().map(|name| Reader::create(name, config.clone()).unwrap()).collect();
    say("created");
    hear();
    // SAFETY: the call takes no pointers, and its result has no other owner.
    let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
    for (reader, number) in readers.iter_mut().zip(0..) {
        let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: number };
        let fd = reader.descriptor().unwrap().as_raw_fd();
        // SAFETY: `event` is valid, and both descriptors are open.
        let added = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        assert_eq!(added, 0, "{}", std::io::Error::last_os_error());
        while reader.try_read_frame().unwrap().is_some() {}
    }
    say("armed");
    let mut wait = |frames: usize| {
        let mut late: Vec<u64> = Vec::new();
        while late.len() < frames {
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: there is room for one event.
            let count = unsafe { libc::epoll_wait(epoll.as_raw_fd(), &raw mut event, 1, 10_000) };
            assert_eq!(count, 1, "a frame is lost");
            let reader = &mut readers[event.u64 as usize];
            while let Some(frame) = reader.try_read_frame().unwrap() {
                late.push(now() - u64::from_le_bytes((*frame).try_into().unwrap()));
            }
        }
        late
    };
    // Neither memory for the ring, nor the watch, nor the writer's end of the FIFO is made again.
    wait(READERS);
    say("warm");
    let rounds: usize = hear().unwrap().parse().unwrap();
    let before = cpu();
    let mut late = wait(rounds);
    let cost = (cpu() - before) / u32::try_from(rounds).unwrap();
    late.sort_unstable();
    say(late[rounds / 2]);
    say(cost.as_nanos());
    hear();
}

/// How long a thread of this machine takes to be woken through a pipe in the median, just now, and the processor time for it.
fn bare_wake_up(rounds: u64) -> (Duration, Duration) {
    use std::io::{Read, Write};
    let (mut read, mut write) = std::io::pipe().unwrap();
    let woken = std::thread::spawn(move || {
        let before = support::confine::thread_cpu();
        let mut late: Vec<u64> = (0..rounds)
            .map(|_| {
                let mut bytes = [0; 8];
                read.read_exact(&mut bytes).unwrap();
                now() - u64::from_le_bytes(bytes)
            })
            .collect();
        late.sort_unstable();
        let cost = (support::confine::thread_cpu() - before) / u32::try_from(rounds).unwrap();
        (Duration::from_nanos(late[late.len() / 2]), cost)
    });
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_micros(300));
        write.write_all(&now().to_le_bytes()).unwrap();
    }
    woken.join().unwrap()
}

#[test]
fn a_thousand_descriptors_need_a_thread_for_127_of_them_and_one_is_made_ready_at_once() {
    support::confine::allow_many_descriptors();
    let prefix = Name::new("thousand");
    let mut peer = Peer::start(role!(readers), &[&prefix]);
    peer.expect("created");
    let mut writers: Vec<Writer> = names(&prefix).iter().map(|name| Writer::connect(name).unwrap()).collect();
    peer.tell("arm");
    assert_eq!(peer.hear_within(PATIENCE).as_deref(), Some("armed"));
    let threads = || -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", peer.pid())).unwrap();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap();
        tasks.map(|task| name(task.unwrap()).trim().to_owned()).collect()
    };
    let listeners = || threads().iter().filter(|name| *name == "zb-descriptors").count();
    let start = Instant::now();
    // A thread that has just been started does not have its name yet.
    while listeners() < READERS.div_ceil(A_THREAD) && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(listeners(), READERS.div_ceil(A_THREAD), "{:?}", threads());
    assert_eq!(idle::runs_when_quiet(&peer), 0, "it woke for nothing");
    for writer in &mut writers {
        writer.write_frame(&now().to_le_bytes()).unwrap();
        std::thread::sleep(Duration::from_micros(100));
    }
    assert_eq!(peer.hear_within(PATIENCE).as_deref(), Some("warm"));
    let rounds = if support::full() { 5000 } else { 1000 };
    peer.tell(rounds);
    let (bare, bare_cost) = bare_wake_up(1000);
    let mut random = Random(5);
    let start = Instant::now();
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_micros(300));
        let which = random.between(0, READERS as u64) as usize;
        writers[which].write_frame(&now().to_le_bytes()).unwrap();
    }
    let [late, cost] = [peer.hear(), peer.hear()].map(|nanos| Duration::from_nanos(nanos.parse().unwrap()));
    eprintln!(
        "one of {READERS} descriptors is found ready after {late:.1?} (a bare pipe after {bare:.1?}), for {cost:.1?} of \
         processor time (the pipe {bare_cost:.1?}); {rounds} in {:.1?}",
        start.elapsed()
    );
    // On a quiet machine 30 us and 20 us; a thread that looked at all descriptors each time took 200 us.
    assert!(late < Duration::from_micros(30) + 5 * bare, "{late:?} beside {bare:?}");
    assert!(cost < Duration::from_micros(20) + 5 * bare_cost, "{cost:?} beside {bare_cost:?}");
    peer.tell("end");
    drop(writers);
    assert!(peer.wait().success());
}

#[test]
fn a_program_that_is_started_inherits_no_descriptor_of_a_wait() {
    let name = Name::new("thousand-exec");
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(4096)).unwrap();
    let _writer = Writer::connect(&name).unwrap();
    assert!(reader.descriptor().is_ok() && reader.read_frame(Duration::from_millis(20)).unwrap().is_none());
    reader.notify(|| ()).unwrap();
    let shown = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("->"), "{shown}");
    for ours in ["/dev/shm", "inotify", "eventpoll", "eventfd", "/tmp/zerobuffer"] {
        assert!(!shown.contains(ours), "{shown}");
    }
}
