//! Waiting: deadlines on the monotonic clock, a short spin, then a semaphore in slices.
//!
//! Semaphore tokens only wake; whether there is something to do is read from the ring (spec failure 17).

use std::time::{Duration, Instant};

use crate::config::WaitStrategy;
use crate::sync::{Ordering, fence};

/// Longest sleep between two looks at the peer's role lock: a death is noticed after 10 ms in the median, at a cost of
/// some 50 wake-ups a second.
pub(crate) const SLICE: Duration = Duration::from_millis(20);

/// The first sleep of a wait is shorter: a peer that dies in full flight is missed at once, and would otherwise always
/// cost a whole slice. One more wake-up a wait.
pub(crate) const FIRST_SLICE: Duration = Duration::from_millis(5);

/// Sleep between two looks while words contradict each other.
pub(crate) const UNSURE_SLICE: Duration = Duration::from_millis(1);

/// How long a contradiction may last before it is taken for corruption: far longer than any peer takes between two
/// stores, unless it was stopped between them.
pub(crate) const UNSURE_LIMIT: Duration = Duration::from_millis(100);

/// To be passed between taking tokens and looking at the ring; gives `taken` back.
///
/// Who posts looks at the count behind a SeqCst fence, and leaves the post out if a token is there. That is right only
/// if the token's taker sees what came before that look, so it needs the other fence: taking a token is an acquire
/// operation, whose store a later load may overtake on aarch64.
pub(crate) fn taken_before_look(taken: bool) -> bool {
    if taken {
        fence(Ordering::SeqCst);
    }
    taken
}

/// When a call must come back. `Duration::ZERO` polls once; what overflows the clock waits for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(timeout))
    }

    /// Time left, at most `limit`; `None` when it is over.
    pub(crate) fn left(&self, limit: Duration) -> Option<Duration> {
        match self.0 {
            None => Some(limit),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                (!left.is_zero()).then(|| left.min(limit))
            }
        }
    }
}

/// A spin before sleeping, as long as the waits seen lately make worth while.
#[derive(Debug)]
pub(crate) struct Spin {
    strategy: WaitStrategy,
    /// A moving average of the waits, each counted as [`Spin::LONG`] at the most.
    usual: Duration,
    /// The last wait was over at once.
    quick: bool,
    /// Pauses to let frames come together; see [`Spin::linger`].
    pauses: u32,
}

impl Spin {
    /// About what two sleeps and wake-ups cost (performance on the machines measured: 8 to 90 us each): spinning longer
    /// cannot pay.
    const MAX: Duration = Duration::from_micros(100);
    /// Enough for a peer that is just about to publish.
    const MIN: Duration = Duration::from_micros(2);
    /// Waits beyond this are all alike.
    const LONG: Duration = Duration::from_micros(400);
    /// Looks before the clock is asked for the first time: about a microsecond.
    const FIRST_LOOKS: u32 = 40;
    /// A wait that ends within so many looks was over at once. (A peer that answers takes longer.)
    const QUICK_LOOKS: u32 = 3;
    /// Frames that shall come together.
    const BATCH: u64 = 16;
    /// A pause takes 45 ns on the machines measured, 5 ns on older ones.
    const MAX_PAUSES: u32 = 12;

    pub(crate) fn new(strategy: WaitStrategy) -> Spin {
        Spin { strategy, usual: Duration::ZERO, quick: false, pauses: 0 }
    }

    /// Before a wait of a side that is faster than the other: each look at the other's word takes its cache line away, and
    /// whoever looks after each small frame slows both sides down to a tenth. So while waits are over at once, it
    /// stays away until `batch`, what came since the last wait, is some frames: half a microsecond at the most.
    #[inline]
    pub(crate) fn linger(&mut self, batch: u64) {
        self.pauses = match batch {
            _ if !self.quick => 0,
            0..Self::BATCH => (self.pauses + 1).min(Self::MAX_PAUSES),
            batch if batch > 4 * Self::BATCH => self.pauses.saturating_sub(1),
            _ => self.pauses,
        };
        for _ in 0..self.pauses {
            core::hint::spin_loop();
        }
    }

    fn budget(&self) -> Duration {
        match self.strategy {
            WaitStrategy::Block => Duration::ZERO,
            WaitStrategy::Spin => SLICE,
            WaitStrategy::Adaptive if self.usual > Self::MAX => Self::MIN,
            // A frame that is a little late, for its writer was interrupted, must not cost a sleep of 50 to 200 us.
            WaitStrategy::Adaptive => Self::MAX,
        }
    }

    /// Whether a wait never sleeps.
    pub(crate) fn is_endless(&self) -> bool {
        self.strategy == WaitStrategy::Spin
    }

    /// Spins until `ready`, or until it is not worth while any more. Says which. `since` is when the wait began, if it is
    /// known; else this is its beginning.
    pub(crate) fn until(&mut self, since: Option<Instant>, mut ready: impl FnMut() -> bool) -> bool {
        let budget = self.budget();
        if budget.is_zero() {
            return ready();
        }
        for look in 0..Self::FIRST_LOOKS {
            if ready() {
                self.quick = look < Self::QUICK_LOOKS;
                self.learn(Duration::ZERO);
                return true;
            }
            core::hint::spin_loop();
        }
        self.quick = false;
        let start = Instant::now();
        loop {
            for _ in 0..32 {
                if ready() {
                    self.learn(since.unwrap_or(start).elapsed());
                    return true;
                }
                core::hint::spin_loop();
            }
            if start.elapsed() >= budget {
                return false;
            }
        }
    }

    /// Takes note of a wait that ended with something.
    pub(crate) fn learn(&mut self, wait: Duration) {
        self.usual = (self.usual * 3 + wait.min(Self::LONG)) / 4;
    }
}

/// How long a writer sleeps when the ring of a 1.x reader is full.
///
/// A 1.x reader posts at each release. A writer that sleeps on the semaphore is woken by the first post, fills the little
/// space it was told of and sleeps again, so that the reader pays for a wake-up at each frame (15 us; a post to nobody:
/// 20 ns). So beside a reader that is busy the writer sleeps by the clock instead. A frame arrives no later for that, as
/// long as the reader does not run out of frames: a nap is to free between an eighth and a quarter of the ring.
#[derive(Debug)]
pub(crate) struct Nap {
    length: Duration,
}

impl Nap {
    /// A longer nap would spare next to nothing, and is how late the end of the wait is noticed (an interrupt).
    const MAX: Duration = Duration::from_micros(1 << 10);
    /// The kernel ends a sleep some 50 us late. A ring that is read faster than this is no case for naps.
    const MIN: Duration = Duration::from_micros(1 << 6);
    /// Below `MIN`, so that it takes some waits on the semaphore to get there: naps are rarely tried where they do not
    /// pay.
    const FIRST: Duration = Duration::from_micros(1);

    pub(crate) fn new() -> Nap {
        Nap { length: Self::FIRST }
    }

    /// How long to sleep; `None` if the semaphore is better.
    pub(crate) fn length(&self) -> Option<Duration> {
        (self.length >= Self::MIN).then_some(self.length)
    }

    /// A wait that began with a full ring found `free` of its `capacity` bytes free.
    pub(crate) fn learn(&mut self, free: u64, capacity: u64) {
        if free < capacity / 8 {
            self.length = (self.length * 2).min(Self::MAX);
        } else if free > capacity / 4 {
            self.length = (self.length / 2).max(Self::FIRST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_end_or_never_do() {
        assert_eq!(Deadline::after(Duration::ZERO).left(SLICE), None);
        assert_eq!(Deadline::after(Duration::MAX).left(SLICE), Some(SLICE));
        assert!(Deadline::after(Duration::from_secs(9)).left(SLICE) == Some(SLICE));
        assert!(Deadline::after(Duration::from_millis(5)).left(SLICE).is_some_and(|left| left < SLICE));
    }

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
        assert_eq!(spin.budget(), Spin::MAX, "where they are frequent, as long as a sleep costs");
        assert!(spin.until(None, || true));
        assert!(!spin.until(None, || false));
        for (strategy, budget) in [(WaitStrategy::Block, Duration::ZERO), (WaitStrategy::Spin, SLICE)] {
            assert_eq!(Spin::new(strategy).budget(), budget);
        }
    }

    #[test]
    fn naps_follow_what_they_free() {
        let mut nap = Nap::new();
        // A ring of one frame: all of it is free after each wait.
        for _ in 0..10 {
            nap.learn(100, 100);
            assert_eq!(nap.length(), None);
        }
        for _ in 0..20 {
            nap.learn(1, 100);
        }
        assert_eq!(nap.length(), Some(Nap::MAX));
        nap.learn(26, 100);
        let length = nap.length().unwrap();
        assert_eq!(length, Nap::MAX / 2);
        // Good as it is.
        for free in [12, 20, 25] {
            nap.learn(free, 100);
            assert_eq!(nap.length(), Some(length));
        }
        for _ in 0..20 {
            nap.learn(100, 100);
        }
        assert_eq!(nap.length(), None);
    }
}
