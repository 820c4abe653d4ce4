//! Waiting: deadlines on the monotonic clock, a short spin, then a semaphore in slices.
//!
//! Semaphore tokens only wake; whether there is something to do is read from the ring (spec failure 17).

use std::time::{Duration, Instant};

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

/// A spin whose length follows what it was good for.
#[derive(Debug)]
pub(crate) struct Spin {
    budget: Duration,
}

impl Spin {
    /// About what a sleep and a wake-up cost: spinning longer than that cannot pay.
    const MAX: Duration = Duration::from_micros(50);
    const MIN: Duration = Duration::from_micros(2);

    pub(crate) fn new() -> Spin {
        Spin { budget: Self::MAX }
    }

    /// Spins until `ready`, or until the budget is used up. Says which.
    pub(crate) fn until(&mut self, mut ready: impl FnMut() -> bool) -> bool {
        let start = Instant::now();
        loop {
            for _ in 0..32 {
                if ready() {
                    self.budget = (self.budget * 2).min(Self::MAX);
                    return true;
                }
                core::hint::spin_loop();
            }
            if start.elapsed() >= self.budget {
                self.budget = (self.budget / 2).max(Self::MIN);
                return false;
            }
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
    fn spin_shrinks_when_it_is_in_vain_and_grows_back() {
        let mut spin = Spin::new();
        for _ in 0..10 {
            assert!(!spin.until(|| false));
        }
        assert_eq!(spin.budget, Spin::MIN);
        for _ in 0..10 {
            assert!(spin.until(|| true));
        }
        assert_eq!(spin.budget, Spin::MAX);
    }
}
