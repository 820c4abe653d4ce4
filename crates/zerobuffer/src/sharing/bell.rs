//! The doorbell of what is lent through an output. The readers of this process that have lent something there set it by turns, and once the
//! output's writer has closed, those of the next writer's process.

use std::sync::PoisonError;

use crate::layout::BellLine;
use crate::os::FifoId;
use crate::sync::{AtomicBool, AtomicU32, Mutex, MutexGuard, Ordering};
use crate::wait::doorbell;

/// What an output's writer and its lenders share about the doorbell.
pub(crate) struct LoansBell {
    /// Who sets the doorbell, or gives it up, has this lock.
    lock: Mutex<()>,
    /// The writer has closed: its successor may own the doorbell. Stored under the lock.
    left: AtomicBool,
    /// Readers that lend through the output.
    lenders: AtomicU32,
}

impl LoansBell {
    pub(crate) fn new() -> LoansBell {
        LoansBell { lock: Mutex::new(()), left: AtomicBool::new(false), lenders: AtomicU32::new(0) }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another reader lends through the output.
    pub(crate) fn add_lender(&self) {
        // Relaxed: it sets the doorbell after this, and the lock orders that.
        self.lenders.fetch_add(1, Ordering::Relaxed);
    }

    /// A reader lends no more through the output.
    pub(crate) fn remove_lender(&self) {
        self.lenders.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sets the doorbell for a lender that sleeps. Returns what it says, which it has not said before; `None`: the output's writer has closed, and
    /// its successor may own the doorbell.
    pub(crate) fn arm_to_sleep(&self, line: &BellLine) -> Option<u32> {
        let _lock = self.lock();
        (!self.has_left()).then(|| doorbell::arm_next(&line.bell, 0))
    }

    /// Sets the doorbell for a lender whose descriptor is polled, and whose FIFO is `fifo`. Returns as [`LoansBell::arm_to_sleep`].
    pub(crate) fn arm_for_descriptor(&self, line: &BellLine, fifo: Option<FifoId>) -> Option<u32> {
        let _lock = self.lock();
        if self.has_left() {
            return None;
        }
        // Relaxed: the lock orders it. Of several lenders each hears by the futex, itself or through its listener.
        let is_alone = self.lenders.load(Ordering::Relaxed) == 1;
        doorbell::name_fifo(line, fifo.filter(|_| is_alone));
        Some(doorbell::arm_next(&line.bell, doorbell::DESCRIPTOR))
    }

    /// The writer is about to give its role up: lenders of this process no longer own the doorbell. Those who sleep on it go on in slices.
    pub(crate) fn leave(&self, line: &BellLine) {
        let _lock = self.lock();
        // Relaxed: pass_on() releases it, and the lock orders it for those who set the doorbell.
        self.left.store(true, Ordering::Relaxed);
        doorbell::pass_on(&line.bell);
    }

    /// Whether the writer has closed. A `no` holds for as long as the doorbell says what it said before this look.
    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const FIRST: Option<FifoId> = Some(FifoId { number: 1, inode: 10 });
    const SECOND: Option<FifoId> = Some(FifoId { number: 2, inode: 20 });

    #[test]
    fn a_doorbell_never_says_the_same_again() {
        let (line, bell) = (BellLine::new(), LoansBell::new());
        bell.add_lender();
        let first = bell.arm_to_sleep(&line).unwrap();
        line.bell.fetch_and(!doorbell::SLEEPING, Ordering::Relaxed);
        assert_ne!(bell.arm_to_sleep(&line), Some(first));
        let last = bell.arm_for_descriptor(&line, FIRST).unwrap();
        line.bell.fetch_and(!doorbell::SLEEPING, Ordering::Relaxed);
        let rung = line.bell.load(Ordering::Relaxed);
        bell.leave(&line);
        assert_ne!(line.bell.load(Ordering::Relaxed), rung, "who read it before falls asleep");
        assert_eq!(bell.arm_to_sleep(&line), None);
        let next = LoansBell::new();
        next.add_lender();
        assert_ne!(next.arm_for_descriptor(&line, SECOND), Some(last), "its successor says the same");
    }

    #[test]
    fn several_lenders_name_no_fifo() {
        let (line, bell) = (BellLine::new(), LoansBell::new());
        for (lenders, named) in [(1, FIRST), (2, None)] {
            bell.add_lender();
            assert_eq!(bell.lenders.load(Ordering::Relaxed), lenders);
            bell.arm_for_descriptor(&line, FIRST).unwrap();
            assert_eq!(doorbell::fifo_of(&line), named);
        }
        bell.remove_lender();
        bell.arm_for_descriptor(&line, SECOND).unwrap();
        assert_eq!(doorbell::fifo_of(&line), SECOND);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    /// A lender arms, and its output's writer closes meanwhile: the next writer's lender finds the doorbell as it has left it.
    #[test]
    fn loom_a_lender_does_not_touch_the_doorbell_of_the_next_writer() {
        for in_loop in [false, true] {
            loom::model(move || {
                let shared = Arc::new((BellLine::new(), LoansBell::new()));
                shared.1.add_lender();
                let lender = Arc::clone(&shared);
                let arming = thread::spawn(move || {
                    let (line, bell) = &*lender;
                    let fifo = Some(FifoId { number: 1, inode: 10 });
                    if in_loop { bell.arm_for_descriptor(line, fifo) } else { bell.arm_to_sleep(line) }
                });
                let (line, bell) = &*shared;
                bell.leave(line);
                let next = LoansBell::new();
                next.add_lender();
                let fifo = Some(FifoId { number: 2, inode: 20 });
                let set = next.arm_for_descriptor(line, fifo);
                let before = arming.join().expect("it does not panic");
                assert_eq!(Some(line.bell.load(Ordering::Relaxed)), set);
                assert_eq!(doorbell::fifo_of(line), fifo);
                assert_ne!(before, set);
            });
        }
    }
}
