//! Writers by the thousand that die between their commit and the wake-up, each with a successor at once: no frame waits for the
//! watcher's last look.

use std::collections::HashSet;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use zerobuffer::{BufferConfig, ErrorKind, Reader, WaitStrategy, Writer};

use crate::support::ledger::{StallWatch, now};
use crate::support::{Name, PATIENCE, Peer, full, role, say};

crate::support::peers!(nursery);

/// A frame that comes later than this waited for the watcher's last look, a second after a death.
const LATE: Duration = Duration::from_millis(700);

/// Frames that a writer offers to a reader that is not asleep, before it gives up.
const FRAMES: u64 = 40;

/// Starts one writer after the other, each while the one before still has the role.
fn nursery(arguments: &[String]) {
    let count: u64 = arguments[1].parse().unwrap();
    let mut killed = 0;
    let mut last = None;
    for number in 0..=count {
        let next = (number < count).then(|| fork(|| offspring(&arguments[0], number)));
        if let Some(child) = std::mem::replace(&mut last, next) {
            let mut status = 0;
            // SAFETY: `status` has room for the result, and the child is this process's own.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert!(libc::WIFSIGNALED(status) || libc::WEXITSTATUS(status) == 0, "{status:#x}");
            killed += u64::from(libc::WIFSIGNALED(status));
        }
    }
    say(killed);
}

fn fork(child: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child runs on this thread alone, and ends without a return.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
        // SAFETY: _exit takes no pointers.
        unsafe { libc::_exit(i32::from(ended.is_err())) };
    }
    pid
}

/// Takes the role as soon as it is free, and writes until it finds the reader asleep.
fn offspring(name: &str, number: u64) {
    let start = Instant::now();
    let mut writer = loop {
        match Writer::connect(name) {
            Ok(writer) => break writer,
            Err(error) if error.kind() == ErrorKind::WriterAlreadyConnected => {
                assert!(start.elapsed() < PATIENCE, "{error}");
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    };
    for frame in 0..FRAMES {
        let words = [number, frame, now()].map(u64::to_le_bytes);
        writer.write_frame(&words.concat()).unwrap();
        let written = Instant::now();
        while written.elapsed() < Duration::from_micros(100) {
            std::hint::spin_loop();
        }
    }
    // Every other one closes.
    if number.is_multiple_of(2) {
        std::mem::forget(writer);
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Sleep {
    Call,
    Descriptor,
}

/// The next frame, or the kind of an end, waiting as asked.
fn next(reader: &mut Reader, sleep: Sleep) -> Result<Vec<u8>, ErrorKind> {
    let start = Instant::now();
    loop {
        let limit = if sleep == Sleep::Call { PATIENCE } else { Duration::ZERO };
        match reader.read_frame(limit) {
            Ok(Some(frame)) => return Ok(frame.to_vec()),
            Ok(None) if sleep == Sleep::Call => panic!("nothing came within {limit:?}"),
            Ok(None) => {}
            Err(error) => return Err(error.kind()),
        }
        let mut event =
            libc::pollfd { fd: reader.descriptor().unwrap().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid `pollfd`.
        assert_eq!(unsafe { libc::poll(&raw mut event, 1, 30_000) }, 1, "the descriptor is not ready");
        assert!(start.elapsed() < PATIENCE, "the descriptor is ready for nothing");
    }
}

/// Reads what `count` writers write that are killed at `point`, when they pass it for the time that stands before it.
fn outlive(what: &str, classic: bool, sleep: Sleep, point: &str, count: u64) {
    let name = Name::new("successors");
    let config = BufferConfig::default().payload_size(1 << 20).wait_strategy(WaitStrategy::Block);
    let mut reader = Reader::create(&name, config.classic(classic)).unwrap();
    let stalls = StallWatch::start();
    let mut peer = Peer::start_with(role!(nursery), &[&name, &count.to_string()], |command| {
        command.env("ZEROBUFFER_STOP", format!("kill:{point}"));
    });
    let mut longest = Duration::ZERO;
    let mut known = HashSet::new();
    let killed = std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let (mut writer, mut frames) = (None, 0);
            loop {
                let frame = match next(&mut reader, sleep) {
                    Ok(frame) if frame == b"end" => break,
                    Ok(frame) => frame,
                    Err(ErrorKind::WriterDead | ErrorKind::WriterClosed) => continue,
                    Err(other) => panic!("{other}"),
                };
                let word = |at: usize| u64::from_le_bytes(frame[at * 8..][..8].try_into().unwrap());
                longest = longest.max(Duration::from_nanos(now().saturating_sub(word(2))));
                // Two race for the role each time, so they come in any order.
                if Some(word(0)) == writer {
                    assert_eq!(word(1), frames);
                } else {
                    assert!(known.insert(word(0)) && word(1) == 0, "{} {}", word(0), word(1));
                }
                (writer, frames) = (Some(word(0)), word(1) + 1);
            }
        });
        let killed: u64 = peer.hear_within(PATIENCE * 5).expect("the writers are done").parse().unwrap();
        Writer::connect(&name).unwrap().write_frame(b"end").unwrap();
        reading.join().unwrap();
        killed
    });
    assert!(peer.wait().success());
    eprintln!(
        "{what}: {killed} of {count} writers died at {point}, the latest frame came after {longest:.1?}"
    );
    assert!(killed * 2 > count, "{what}: {killed} of {count} died at {point}");
    assert_eq!(known.len() as u64, count, "{what}: each writer had written");
    assert!(longest < LATE + stalls.worst(), "{what}: a frame came after {longest:?}");
    drop(reader);
    name.assert_nothing_left();
}

fn count(normal: u64) -> u64 {
    if full() { normal * 10 } else { normal }
}

#[test]
fn no_frame_is_lost_with_a_writer_that_dies_before_it_wakes_and_a_successor_at_once() {
    outlive("a call that blocks", false, Sleep::Call, "1:bell:wake", count(1000));
    outlive("a descriptor", false, Sleep::Descriptor, "1:bell:wake", count(1000));
    outlive("a descriptor, at the FIFO", false, Sleep::Descriptor, "2:descriptor:ring", count(300));
    outlive("a call that blocks, classic ring", true, Sleep::Call, "1:write:post-sem-w", count(300));
    outlive("a descriptor, classic ring", true, Sleep::Descriptor, "1:write:post-sem-w", count(300));
}
