//! Turns: threads that wait (of one client for responses, of one server for requests) yield to each other on
//! few processors.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};
use crate::wait::Spin;

/// How long threads that wait while another one reads yield the processor to each other instead of sleeping.
///
/// Waking a sleeping thread costs the thread that reads 5 us or more; a turn costs less than 1 us. So where
/// recent answers came soon, no thread sleeps at once. (64 KiB, eight threads: 50,000 answers a second with
/// sleeps, 85,000 with turns.)
#[derive(Debug)]
pub(crate) struct Turns {
    /// Every wait is a sleep ([`crate::WaitStrategy::Block`]).
    never: bool,
    /// A moving average of the waits, in nanoseconds.
    usual: AtomicU64,
    /// Bytes of the last frame.
    len: AtomicU64,
}

impl Turns {
    /// The least limit: a reader's usual spin, in nanoseconds.
    const USUAL: u64 = Spin::USUAL;
    /// The limit grows with the answers of all waiting threads, which are moved back and forth meanwhile:
    /// nanoseconds per byte of each.
    const BYTE: u64 = 1;
    /// The longest limit, however many threads wait.
    const MOST: u64 = Spin::MOST;

    pub(crate) fn new(never: bool) -> Turns {
        Turns { never, usual: AtomicU64::new(0), len: AtomicU64::new(0) }
    }

    /// How long a wait consists of turns, while `others` wait too.
    pub(crate) fn of_this_wait(&self, others: u64) -> Duration {
        let bytes = self.len.load(Ordering::Relaxed).saturating_mul(others + 1);
        let longest = (bytes * Self::BYTE).clamp(Self::USUAL, Self::MOST);
        let soon = !self.never && self.usual.load(Ordering::Relaxed) < longest;
        Duration::from_nanos(if soon { longest } else { 0 })
    }

    /// Records a wait that has ended, with so many bytes. (Threads may overwrite each other's values, which
    /// are estimates.)
    pub(crate) fn learn(&self, wait: Duration, len: usize) {
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX).min(4 * Self::MOST);
        self.usual.store((self.usual.load(Ordering::Relaxed) * 3 + wait) / 4, Ordering::Relaxed);
        self.len.store(len as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_take_turns_where_answers_come_soon() {
        assert_eq!(Turns::new(true).of_this_wait(7), Duration::ZERO, "whatever is known");
        let turns = Turns::new(false);
        let nanoseconds = |others| turns.of_this_wait(others).as_nanos() as u64;
        assert_eq!(nanoseconds(0), Turns::USUAL, "nothing is known yet");
        let slow = Duration::from_micros(300);
        (0..20).for_each(|_| turns.learn(slow, 64));
        assert_eq!(nanoseconds(7), 0, "a thread that waits so long for few bytes sleeps");
        (0..20).for_each(|_| turns.learn(slow, 65_536));
        assert_eq!(nanoseconds(7), 8 * 65_536 * Turns::BYTE);
        assert_eq!(nanoseconds(0), 0, "one alone would not wait so long");
        (0..20).for_each(|_| turns.learn(Duration::from_millis(5), 3_110_400));
        assert_eq!(nanoseconds(7), 0);
        (0..20).for_each(|_| turns.learn(slow, usize::MAX));
        assert_eq!(nanoseconds(7), Turns::MOST);
    }
}
