//! Waiting in turns: threads of one client that wait for responses, or of one server that wait for requests, on few
//! processors.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};
use crate::wait::Spin;

/// For how long threads that wait while another one reads yield the processor to each other, rather than sleep.
///
/// Waking a thread that sleeps costs the thread that reads 5 us and more; a turn costs less than one. So where answers have
/// come soon lately, no thread sleeps at once. (64 KiB, eight threads: 50,000 answers a second with sleeps, 85,000 with turns.)
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
    /// As a reader's spin, in nanoseconds.
    const USUAL: u64 = Spin::USUAL;
    /// But the answers of all who wait are moved meanwhile, back and forth: nanoseconds a byte of each.
    const BYTE: u64 = 1;
    /// However many they are.
    const MOST: u64 = Spin::MOST;

    pub(crate) fn new(never: bool) -> Turns {
        Turns { never, usual: AtomicU64::new(0), len: AtomicU64::new(0) }
    }

    /// For how long a wait is to be one of turns, beside `others` that wait.
    pub(crate) fn of_this_wait(&self, others: u64) -> Duration {
        let bytes = self.len.load(Ordering::Relaxed).saturating_mul(others + 1);
        let longest = (bytes * Self::BYTE).clamp(Self::USUAL, Self::MOST);
        let soon = !self.never && self.usual.load(Ordering::Relaxed) < longest;
        Duration::from_nanos(if soon { longest } else { 0 })
    }

    /// A wait has ended, with so many bytes. (Threads may undo each other's: these are estimates.)
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
