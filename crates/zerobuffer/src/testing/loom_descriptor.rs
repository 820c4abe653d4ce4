//! Runs of the model checker: descriptors. The doorbell is the shipped one; its owner's steps are those of
//! [`crate::attention`], and the listener's those of [`crate::listener`]. Each rule that is left out loses a wake-up, which
//! the checker reports as a deadlock.

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use crate::layout::BellLine;
use crate::os::FifoId;
use crate::sync::{AtomicU32, AtomicU64, Ordering, futex_wait, futex_wait_any, futex_wake};
use crate::wait::doorbell;

const FOREVER: Duration = Duration::MAX;

/// What is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Without {
    Nothing,
    /// The bytes are taken out after the arming.
    DrainBeforeArming,
    /// There is no look behind the arming.
    SecondLook,
    /// The armed state is left without a byte.
    ByteOnLeaving,
    /// All armings have one number.
    Turn,
    /// There is no listener, although the FIFO cannot be opened.
    Listener,
}

/// Two sides: the publisher counts `head` up. Two frames at most: loom remembers the last 7 stores to a word.
struct World {
    head: AtomicU64,
    line: BellLine,
    /// Bytes in the FIFO, which wake what waits for them.
    bytes: AtomicU32,
    /// The listener ends.
    ended: AtomicU32,
}

impl World {
    fn new() -> World {
        let line = BellLine::new();
        line.inode.store(1, Ordering::Relaxed);
        line.fifo.store(1, Ordering::Release);
        World { head: AtomicU64::new(0), line, bytes: AtomicU32::new(0), ended: AtomicU32::new(0) }
    }

    /// Writes a byte. The kernel's lock of a FIFO orders its reads and writes.
    fn ring(&self) {
        self.bytes.fetch_or(1, Ordering::SeqCst);
        futex_wake(&self.bytes);
    }

    fn publish(&self, frames: u64, opens: bool) {
        for frame in 1..=frames {
            self.head.store(frame, Ordering::Release);
            if doorbell::wants(&self.line.bell) & doorbell::SLEEPING != 0 {
                doorbell::ring(&self.line, |id| {
                    assert!(id == FifoId { number: 1, inode: 1 });
                    if opens {
                        self.ring();
                    }
                    opens
                });
            }
        }
    }

    /// Reads up to `frames`, one each time that the descriptor is ready, as a level-triggered loop may.
    fn own(&self, frames: u64, without: Without) {
        let (mut seen, mut turn, mut armed) = (0, 0, None);
        let mut look = || {
            let found = self.head.load(Ordering::Acquire) > seen;
            seen += u64::from(found);
            (found, seen)
        };
        loop {
            while self.bytes.load(Ordering::SeqCst) == 0 {
                futex_wait(&self.bytes, 0, FOREVER);
            }
            let (mut found, mut count) = look();
            if !found {
                let drain = || self.bytes.swap(0, Ordering::SeqCst) != 0;
                let was_ready = without != Without::DrainBeforeArming && drain();
                let holds = armed == Some(self.line.bell.load(Ordering::Acquire));
                if !holds {
                    turn += u32::from(without != Without::Turn);
                    armed = Some(doorbell::arm(&self.line.bell, 0, turn));
                }
                if (!holds || was_ready) && without != Without::SecondLook {
                    (found, count) = look();
                }
                if without == Without::DrainBeforeArming {
                    drain();
                }
            }
            if found && armed.take().is_some() {
                doorbell::set(&self.line.bell, 0);
                if without != Without::ByteOnLeaving && self.bytes.load(Ordering::SeqCst) == 0 {
                    self.ring();
                }
            }
            if count == frames {
                return;
            }
        }
    }

    fn listen(&self) {
        let mut rung = 0;
        while self.ended.load(Ordering::Acquire) == 0 {
            let bell = self.line.bell.load(Ordering::Acquire);
            if doorbell::is_rung(bell) && bell != rung {
                rung = bell;
                self.ring();
            }
            futex_wait_any(&[(&self.ended, 0), (&self.line.bell, bell)], FOREVER);
        }
    }
}

fn check(frames: u64, opens: bool, without: Without, switches: usize) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(move || {
        let world = Arc::new(World::new());
        world.ring();
        let publisher = Arc::clone(&world);
        let publisher = thread::spawn(move || publisher.publish(frames, opens));
        let listener = (!opens && without != Without::Listener).then(|| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.listen())
        });
        world.own(frames, without);
        publisher.join().unwrap();
        if let Some(listener) = listener {
            world.ended.store(1, Ordering::Release);
            futex_wake(&world.ended);
            listener.join().unwrap();
        }
    });
}

#[test]
fn loom_an_armed_descriptor_is_rung_through_its_fifo() {
    check(2, true, Without::Nothing, 3);
}

#[test]
fn loom_an_armed_descriptor_is_rung_by_its_listener() {
    check(2, false, Without::Nothing, 2);
}

/// The rule that is left out in a process of its own: a deadlock ends the checker's process.
const LEFT_OUT: &str = "ZEROBUFFER_LEFT_OUT";

#[test]
fn loom_each_rule_of_descriptors_that_is_left_out_loses_a_wake_up() {
    let flaws: [(&str, fn()); 5] = [
        ("bytes are taken out after the arming", || check(2, true, Without::DrainBeforeArming, 3)),
        ("no second look", || check(2, true, Without::SecondLook, 3)),
        ("no byte when the armed state is left", || check(2, true, Without::ByteOnLeaving, 3)),
        ("all armings have one number", || check(2, false, Without::Turn, 4)),
        ("no listener", || check(1, false, Without::Listener, 2)),
    ];
    if let Ok(left_out) = std::env::var(LEFT_OUT) {
        let flaw = flaws.iter().find(|(what, _)| *what == left_out);
        return flaw.expect("a known rule").1();
    }
    for (what, _) in flaws {
        let test = "testing::loom_descriptor::loom_each_rule_of_descriptors_that_is_left_out_loses_a_wake_up";
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(LEFT_OUT, what);
        let output = alone.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains("deadlock"), "{what}: no wake-up was lost");
    }
}
