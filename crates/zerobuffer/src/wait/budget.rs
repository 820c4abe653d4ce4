//! How long to spin before a sleep.

use std::time::{Duration, Instant};

use super::{SLICE, Yields};
use crate::config::WaitStrategy;

/// A spin before sleeping, as long as the waits seen lately make worth while.
#[derive(Debug)]
pub(crate) struct Spin {
    strategy: WaitStrategy,
    /// A moving average of the waits in nanoseconds, each counted as at most [`Spin::LONG`] times `longest`.
    /// (Arithmetic with `Duration` takes some 20 ns, just when a frame is there.)
    usual: u64,
    /// Longest spin worth while, in nanoseconds.
    longest: u64,
    yields: Yields,
}

impl Spin {
    /// About what two sleeps and wake-ups cost (performance on the machines measured: 8 to 90 us each), in nanoseconds:
    /// spinning longer cannot pay.
    pub(crate) const USUAL: u64 = 100_000;
    /// But who has moved many bytes waits while the peer moves them too: for as long as that takes at some 4 GB/s, so that
    /// spinning costs no more than what it waits for.
    const BYTES_A_NANOSECOND: u64 = 4;
    /// However many they are.
    pub(crate) const MOST: u64 = 1_000_000;
    /// Enough for a peer that is just about to publish.
    const MIN: Duration = Duration::from_micros(2);
    /// Waits beyond so many longest spins are all alike.
    const LONG: u64 = 4;
    /// Looks before the clock is asked for the first time: about a microsecond.
    const FIRST_LOOKS: u32 = 40;

    pub(crate) fn new(strategy: WaitStrategy) -> Spin {
        Spin { strategy, usual: 0, longest: Self::USUAL, yields: Yields::new() }
    }

    fn budget(&self) -> Duration {
        match self.strategy {
            WaitStrategy::Block => Duration::ZERO,
            WaitStrategy::Spin => SLICE,
            WaitStrategy::Adaptive if self.usual > self.longest => Self::MIN,
            // A frame that is a little late, for its writer was interrupted, must not cost a sleep of 50 to 200 us.
            WaitStrategy::Adaptive => Duration::from_nanos(self.longest),
        }
    }

    /// Before a wait: so many bytes have been moved since the one before.
    pub(crate) fn moved(&mut self, bytes: u64) {
        self.longest = (bytes / Self::BYTES_A_NANOSECOND).clamp(Self::USUAL, Self::MOST);
    }

    /// Whether a wait never spins.
    pub(crate) fn is_never(&self) -> bool {
        self.strategy == WaitStrategy::Block
    }

    /// Whether a wait never sleeps.
    pub(crate) fn is_endless(&self) -> bool {
        self.strategy == WaitStrategy::Spin
    }

    /// Spins until `ready`, or until it is not worth while any more. Returns whether it is ready. `since` is when the wait began, if it is
    /// known; else this is its beginning.
    pub(crate) fn until(&mut self, since: Option<Instant>, mut ready: impl FnMut() -> bool) -> bool {
        let budget = self.budget();
        if budget.is_zero() {
            return ready();
        }
        for _ in 0..Self::FIRST_LOOKS {
            if ready() {
                self.usual = self.usual * 3 / 4;
                return true;
            }
            core::hint::spin_loop();
        }
        let start = Instant::now();
        loop {
            for _ in 0..32 {
                if ready() {
                    self.learn(since.unwrap_or(start).elapsed());
                    return true;
                }
                core::hint::spin_loop();
            }
            let now = Instant::now();
            let spent = now.saturating_duration_since(start);
            if spent >= budget {
                return false;
            }
            if !self.is_endless() {
                self.yields.turn(now, spent);
            }
        }
    }

    /// Takes note of a wait that ended with something.
    pub(crate) fn learn(&mut self, wait: Duration) {
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX).min(Self::LONG * self.longest);
        self.usual = (self.usual * 3 + wait) / 4;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spin_follows_the_waits_seen() {
        let mut spin = Spin::new(WaitStrategy::Adaptive);
        for _ in 0..10 {
            spin.learn(Duration::from_millis(1));
        }
        assert_eq!(spin.budget(), Spin::MIN, "no spinning where frames are rare");
        for _ in 0..10 {
            spin.learn(Duration::from_micros(30));
        }
        assert_eq!(
            spin.budget(),
            Duration::from_nanos(Spin::USUAL),
            "where they are frequent, as long as a sleep costs"
        );
        for _ in 0..10 {
            spin.learn(Duration::from_micros(300));
        }
        assert_eq!(spin.budget(), Spin::MIN, "waits for small frames are not worth so much");
        spin.moved(3_100_000);
        assert_eq!(spin.budget(), Duration::from_micros(775), "for large ones they are");
        spin.moved(u64::MAX);
        assert_eq!(spin.budget(), Duration::from_nanos(Spin::MOST));
        spin.moved(64);
        assert_eq!(spin.budget(), Spin::MIN);
        assert!(spin.until(None, || true));
        assert!(!spin.until(None, || false));
        assert!(!spin.is_never() && !spin.is_endless());
        for (strategy, budget) in [(WaitStrategy::Block, Duration::ZERO), (WaitStrategy::Spin, SLICE)] {
            let spin = Spin::new(strategy);
            assert_eq!(spin.budget(), budget);
            assert_eq!((spin.is_never(), spin.is_endless()), (budget.is_zero(), !budget.is_zero()));
        }
    }
}
