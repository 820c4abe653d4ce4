//! Wall-clock jumps (spec failure 11). This binary stands between the library and libc's clocks: the wall clock that it
//! shows jumps wildly, and a wait on it ends the process.

mod support;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use support::ledger::{StallWatch, Stopwatch};
use support::{Name, Peer, role, say};
use zerobuffer::{BufferConfig, ErrorKind, Reader, Writer, WriterOptions};

/// Seconds by which the wall clock is wrong at the moment.
static JUMP: AtomicI64 = AtomicI64::new(0);

/// Replaces libc's function: every clock is right except the wall clock.
///
/// # Safety
///
/// That of clock_gettime(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, now: *mut libc::timespec) -> libc::c_int {
    // SAFETY: by the caller's promise `now` has room for the result.
    unsafe {
        let result = libc::syscall(libc::SYS_clock_gettime, clock, now);
        if result == 0 && matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE) {
            (*now).tv_sec += JUMP.load(Ordering::Relaxed);
        }
        result as libc::c_int
    }
}

/// Replaces libc's function, which waits on the wall clock. No code may call it.
#[unsafe(no_mangle)]
extern "C" fn sem_timedwait(_: *mut libc::sem_t, _: *const libc::timespec) -> libc::c_int {
    eprintln!("sem_timedwait waits on the wall clock");
    std::process::abort();
}

type ClockWait =
    unsafe extern "C" fn(*mut libc::sem_t, libc::clockid_t, *const libc::timespec) -> libc::c_int;

/// Replaces libc's function: passes on waits on the monotonic clock, and no others.
///
/// # Safety
///
/// That of sem_clockwait(3).
#[unsafe(no_mangle)]
unsafe extern "C" fn sem_clockwait(
    sem: *mut libc::sem_t,
    clock: libc::clockid_t,
    deadline: *const libc::timespec,
) -> libc::c_int {
    if clock != libc::CLOCK_MONOTONIC {
        eprintln!("a wait on clock {clock}");
        std::process::abort();
    }
    static REAL: std::sync::OnceLock<ClockWait> = std::sync::OnceLock::new();
    let real = REAL.get_or_init(|| {
        // SAFETY: the name is a C string; the function that libc has under it is of this type.
        unsafe {
            let found = libc::dlsym(libc::RTLD_NEXT, c"sem_clockwait".as_ptr());
            assert!(!found.is_null(), "glibc has sem_clockwait from 2.30 on");
            std::mem::transmute::<*mut libc::c_void, ClockWait>(found)
        }
    });
    // SAFETY: by the caller's promise.
    unsafe { real(sem, clock, deadline) }
}

/// Lets the wall clock jump back and forth by up to ten years, all the time, until dropped.
struct Jumping(Option<std::thread::JoinHandle<()>>);

static STOP: AtomicBool = AtomicBool::new(false);

impl Jumping {
    fn start() -> Jumping {
        let before = SystemTime::now();
        JUMP.store(-1_000_000, Ordering::Relaxed);
        assert!(SystemTime::now() < before, "the library does not see this clock");
        Jumping(Some(std::thread::spawn(|| {
            let mut random = support::Random(11);
            while !STOP.load(Ordering::Relaxed) {
                let seconds = random.between(0, 630_000_000) as i64 - 315_000_000;
                JUMP.store(if seconds % 3 == 0 { 0 } else { seconds }, Ordering::Relaxed);
                std::thread::sleep(Duration::from_micros(300));
            }
        })))
    }
}

impl Drop for Jumping {
    fn drop(&mut self) {
        STOP.store(true, Ordering::Relaxed);
        let ended = self.0.take().map(std::thread::JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))));
    }
}

support::peers!(writer);

fn writer(arguments: &[String]) {
    let _jumping = Jumping::start();
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    writer.write_frame(b"jump").unwrap();
    say("written");
    support::hear();
}

#[test]
fn failure_11_a_jump_of_the_wall_clock_changes_no_time_out() {
    // One after the other: both move the one clock of this process.
    for classic in [false, true] {
        no_time_out_changes(&support::config().classic(classic));
    }
}

fn no_time_out_changes(config: &BufferConfig) {
    STOP.store(false, Ordering::Relaxed);
    JUMP.store(0, Ordering::Relaxed);
    let jumping = Jumping::start();
    let limit = Duration::from_millis(300);
    let stalls = StallWatch::start();
    let in_time = |start: Instant| {
        let took = start.elapsed();
        assert!(took >= limit && took < limit * 3 + stalls.worst(), "{took:?} instead of {limit:?}");
    };
    let name = Name::new("jump");
    let options = WriterOptions::default().connect_timeout(limit).write_timeout(limit);
    let start = Instant::now();
    let error = Writer::connect_with(&name, options.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BufferNotFound);
    in_time(start);

    let mut reader = Reader::create(&name, config.clone().payload_size(64)).unwrap();
    let start = Instant::now();
    assert!(!reader.wait_for_writer(limit).unwrap());
    in_time(start);
    let start = Instant::now();
    assert!(reader.read_frame(limit).unwrap().is_none());
    in_time(start);

    let mut writer = Writer::connect_with(&name, options).unwrap();
    let mut written = 0;
    while writer.try_write_frame(&[1; 48]).unwrap().is_some() {
        written += 1;
    }
    let start = Instant::now();
    assert_eq!(writer.write_frame(&[1; 48]).unwrap_err().kind(), ErrorKind::BufferFull);
    in_time(start);
    drop(writer);
    for _ in 0..written {
        assert!(reader.read_frame(limit).unwrap().is_some());
    }
    assert_eq!(reader.read_frame(limit).unwrap_err().kind(), ErrorKind::WriterClosed);

    // A peer lives while it lives, and its death is noticed as fast as ever.
    let mut peer = Peer::start(role!(writer), &[&name]);
    peer.expect("written");
    assert_eq!(&*reader.read_frame(limit).unwrap().unwrap(), b"jump");
    let start = Instant::now();
    assert!(reader.read_frame(limit).unwrap().is_none());
    in_time(start);
    let start = Stopwatch::start();
    peer.kill();
    assert_eq!(reader.read_frame(Duration::MAX).unwrap_err().kind(), ErrorKind::WriterDead);
    eprintln!("under a jumping clock a death was noticed after {:?}", start.elapsed());
    start.assert_within(limit);

    // A writer that never waits checks its reader regularly, even after a jump back by years.
    drop(reader);
    let reader = Reader::create(&name, config.clone()).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    drop(jumping);
    JUMP.store(-300_000_000, Ordering::Relaxed);
    drop(reader);
    let start = Stopwatch::start();
    while let Ok(written) = writer.try_write_frame(b"x") {
        assert!(written.is_some(), "a full ring shows nothing");
        start.assert_within(limit);
    }
    drop(writer);
    name.assert_nothing_left();
}
