//! How long to wait.

use std::time::{Duration, Instant};

/// Longest sleep between two looks at a peer of which no watcher tells: a death is noticed after 10 ms in the median, at a cost of
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

/// When a call must come back. `Duration::ZERO` polls once; what overflows the clock has no limit.
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

    /// Sleeps for `pause`, or for the time left if that is less. Returns false, without a sleep, when it is over.
    pub(crate) fn pause(&self, pause: Duration) -> bool {
        let left = self.left(pause);
        if let Some(left) = left {
            std::thread::sleep(left);
        }
        left.is_some()
    }
}

/// Asks `look` up to `looks` times, with a `pause` before each but the first, until it returns something.
///
/// The limit counts looks rather than time: where all processes stand still for long (a suspended machine, a frozen
/// container), the one that is waited for has no time either.
pub(crate) fn poll_until<T, E>(
    looks: u32,
    pause: Duration,
    mut look: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    for looked in 0..looks {
        if looked > 0 {
            std::thread::sleep(pause);
        }
        let found = look()?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// How long words have contradicted each other.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Doubt(Option<Instant>);

impl Doubt {
    /// Takes note of a contradiction. Returns whether contradictions have lasted for [`UNSURE_LIMIT`].
    pub(crate) fn has_lasted(&mut self) -> bool {
        self.0.get_or_insert_with(Instant::now).elapsed() >= UNSURE_LIMIT
    }

    /// Whether the last look found a contradiction.
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Takes note of words that agree.
    #[inline]
    pub(crate) fn end(&mut self) {
        self.0 = None;
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
    fn a_pause_is_no_longer_than_the_time_left() {
        let start = Instant::now();
        assert!(!Deadline::after(Duration::ZERO).pause(Duration::from_secs(9)));
        let deadline = Deadline::after(Duration::from_millis(10));
        assert!(deadline.pause(Duration::from_secs(9)), "there is time left");
        assert!((Duration::from_millis(10)..Duration::from_secs(9)).contains(&start.elapsed()));
        assert!(!deadline.pause(Duration::from_secs(9)), "it is over");
    }

    #[test]
    fn polling_ends_with_what_was_found_or_after_so_many_looks() {
        const PAUSE: Duration = Duration::from_millis(10);
        let start = Instant::now();
        let mut looks = 0;
        let mut third = || {
            looks += 1;
            Ok::<_, ()>((looks == 3).then_some(looks))
        };
        assert_eq!(poll_until(1, PAUSE, &mut third), Ok(None));
        assert!(start.elapsed() < PAUSE, "a pause without a look behind it");
        assert_eq!(poll_until(9, PAUSE, &mut third), Ok(Some(3)));
        assert!(start.elapsed() >= PAUSE);
        assert_eq!(poll_until(9, PAUSE, || Err::<Option<()>, _>("no")), Err("no"));
    }

    #[test]
    fn a_doubt_lasts_from_its_first_contradiction_on() {
        let mut doubt = Doubt::default();
        assert!(!doubt.is_on() && !doubt.has_lasted() && doubt.is_on());
        std::thread::sleep(UNSURE_LIMIT);
        assert!(doubt.has_lasted());
        doubt.end();
        assert!(!doubt.is_on() && !doubt.has_lasted());
    }
}
