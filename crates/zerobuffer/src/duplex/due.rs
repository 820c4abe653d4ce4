//! Deadlines in the form that frames carry: nanoseconds of the monotonic clock outside all time namespaces,
//! which is equal everywhere on a machine.

use std::time::{Duration, Instant};

pub(crate) use crate::os::coarse_now;
use crate::os::{monotonic_now, monotonic_offset};
use crate::sync::Ordering;

/// How far this process's clock is ahead of the clock outside all time namespaces.
///
/// Every new client and server reads it, because a forked child may be in another namespace. It does not
/// change while they live.
static OFFSET: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);

/// Determines how this process's clock differs from other clocks. Must be called before deadlines are made or
/// judged.
pub(crate) fn set_clock() {
    // Relaxed: the threads that use a client or server are ordered after its creation.
    OFFSET.store(monotonic_offset(), Ordering::Relaxed);
}

/// A reading of this process's monotonic clock, converted to the clock that all processes share.
fn everywhere(now: u64) -> u64 {
    now.wrapping_sub(OFFSET.load(Ordering::Relaxed) as u64)
}

/// A deadline, and the mark of its request: a response repeats it, so that a client knows the answers to its own
/// requests from those to a predecessor's with the same sequence number.
///
/// With the top bit set it is a mark only, and the request has no deadline. 0 = unknown (a ring without
/// tags).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due(pub(crate) u64);

const FOREVER: u64 = 1 << 63;

/// Low bits that tell requests of different clients apart; they cost 4 us of precision.
const SALT: u64 = (1 << 12) - 1;

/// From this time-out on, the coarse clock is precise enough.
const COARSE: Duration = Duration::from_secs(1);

impl Due {
    /// `timeout` from now. A time that overflows the clock is no deadline.
    pub(crate) fn after(timeout: Duration) -> Due {
        Self::from(if timeout < COARSE { 0 } else { coarse_now() }, timeout)
    }

    /// `timeout` from now, where the coarse clock has just been read. Short time-outs need the exact one.
    pub(crate) fn from(coarse_now: u64, timeout: Duration) -> Due {
        let now = everywhere(if timeout < COARSE { monotonic_now() } else { coarse_now });
        let nanoseconds = timeout.as_secs().checked_mul(1_000_000_000);
        let nanoseconds = nanoseconds.and_then(|whole| whole.checked_add(u64::from(timeout.subsec_nanos())));
        match nanoseconds.and_then(|timeout| now.checked_add(timeout)) {
            Some(due) if due < FOREVER => Due(due),
            _ => Due(FOREVER | now),
        }
    }

    /// A number that hardly any other client has.
    pub(crate) fn salt() -> u64 {
        monotonic_now().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52
    }

    /// With these low bits, up to 4 us earlier.
    pub(crate) fn salted(self, salt: u64) -> Due {
        let due = self.0 & !SALT | salt;
        Due(if due > self.0 { due - (SALT + 1) } else { due })
    }

    fn is_never(self) -> bool {
        self.0 == 0 || self.0 >= FOREVER
    }

    /// Whether it is over, to within a few milliseconds. Takes a few nanoseconds.
    pub(crate) fn is_over(self) -> bool {
        !self.is_never() && everywhere(coarse_now()) >= self.0
    }

    /// The time left; `None` when the deadline is over.
    pub(crate) fn left(self) -> Option<Duration> {
        if self.is_never() {
            return Some(Duration::MAX);
        }
        let left = self.0.saturating_sub(everywhere(monotonic_now()));
        (left > 0).then(|| Duration::from_nanos(left))
    }

    /// The deadline on this process's clock; `None` if there is none.
    pub(crate) fn instant(self) -> Option<Instant> {
        if self.is_never() {
            return None;
        }
        Instant::now().checked_add(self.left().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_end_or_never_do_and_marks_differ() {
        let past = Due(1);
        assert!(past.is_over() && past.left().is_none());
        assert_eq!(Due::after(Duration::ZERO).left(), None);
        let soon = Due::after(Duration::from_secs(60));
        assert!(!soon.is_over() && soon.left().is_some_and(|left| left > Duration::from_secs(59)));
        assert!(soon.instant().is_some());
        for never in [Due::after(Duration::MAX), Due::after(Duration::MAX).salted(5), Due(0)] {
            assert!(!never.is_over() && never.left() == Some(Duration::MAX) && never.instant().is_none());
        }
        assert_ne!(soon.salted(1), soon.salted(2));
        for salt in [0, 1, 2048, 4095] {
            assert!(
                soon.salted(salt).0 & SALT == salt && (0..4096).contains(&(soon.0 - soon.salted(salt).0))
            );
        }
    }
}
