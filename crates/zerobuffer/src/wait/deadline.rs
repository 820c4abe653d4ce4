//! How long to wait.

use std::time::{Duration, Instant};

/// Longest sleep between two looks at the peer's role lock: a death is noticed after 10 ms in the median, at a cost of
/// some 50 wake-ups a second.
///
/// Built with `--cfg long_slices`, so long that a test sees each wake-up that was lost.
pub(crate) const SLICE: Duration = Duration::from_millis(if cfg!(long_slices) { 10_000 } else { 20 });

/// The first sleep of a wait is shorter: a peer that dies in full flight is missed at once, and would otherwise always
/// cost a whole slice. One more wake-up a wait.
pub(crate) const FIRST_SLICE: Duration = Duration::from_millis(if cfg!(long_slices) { 10_000 } else { 5 });

/// Sleep between two looks while words contradict each other.
pub(crate) const UNSURE_SLICE: Duration = Duration::from_millis(1);

/// How long a contradiction may last before it is taken for corruption: far longer than any peer takes between two
/// stores, unless it was stopped between them.
pub(crate) const UNSURE_LIMIT: Duration = Duration::from_millis(100);

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
}
