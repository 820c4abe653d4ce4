//! How long a writer waits rather than leave the caches.

use std::time::Duration;

use super::plan::CALM;

/// How long a writer waits for its reader rather than leave the part of an extended ring that is in the caches.
///
/// As long as leaving costs. If the reader does not give back in time, the next try comes after one more MiB, or frame, then
/// after two, four and so on: a reader that keeps frames costs little, and one that was only late soon has another chance.
/// (With no other try, reader and writer each waited in turn while the other reserved memory, through the whole ring.)
#[derive(Debug)]
pub(crate) struct GrowthBackoff {
    /// Bytes until the next try.
    left: u64,
    /// After how many MiB, or frames, if that one fails.
    backoff: u64,
    /// The reader has been far behind since it last caught up.
    behind: bool,
}

impl GrowthBackoff {
    /// Bytes a nanosecond: the rate of copying to memory that is not in the caches.
    const COPY: u64 = 4;
    /// Bytes a nanosecond: the rate at which the kernel provides new memory (1 to 5 on the machines measured).
    const FRESH: u64 = 1;
    /// Nanoseconds, however large the frame is.
    const MOST: u64 = 4_000_000;
    /// So that trying costs no more than 1/64 of what copying does.
    const BACKOFF_MAX: u64 = 64;

    /// The most that is written between two looks at the reader while there is no try: as much as memory is reserved at a time.
    const STRIDE: u64 = 256 << 10;

    pub(crate) fn new() -> GrowthBackoff {
        GrowthBackoff { left: 0, backoff: 1, behind: false }
    }

    /// Before a frame of `len` bytes leaves the caches, for `fresh` memory or not, while `used` bytes have not been given back:
    /// how long to wait, if at all.
    pub(crate) fn before_growing(&mut self, len: u64, fresh: bool, used: u64) -> Option<Duration> {
        if used > CALM {
            self.behind = true;
        } else if self.behind && used <= CALM / 4 {
            // It has caught up, but for what was committed just now.
            self.restore();
        }
        if self.left > 0 {
            self.left = self.left.saturating_sub(len);
            return None;
        }
        let speed = if fresh { Self::FRESH } else { Self::COPY };
        Some(Duration::from_nanos((CALM.max(len) / speed).min(Self::MOST)))
    }

    /// After such a wait in vain.
    pub(crate) fn failed(&mut self, len: u64) {
        self.left = self.backoff.saturating_mul(CALM.max(len));
        self.backoff = (2 * self.backoff).min(Self::BACKOFF_MAX);
    }

    /// How many bytes may be written after a frame that left the caches, before the next look at the reader.
    pub(crate) fn stride(&mut self) -> u64 {
        let stride = self.left.min(Self::STRIDE);
        self.left -= stride;
        stride
    }

    /// The reader has caught up.
    pub(crate) fn restore(&mut self) {
        *self = GrowthBackoff::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_tried_again_and_costs_little_whatever_the_size_of_frames() {
        for len in [64, 1 << 16, 3 << 20] {
            let mut patience = GrowthBackoff::new();
            let (mut tries, mut waited, mut bytes) = (0_u64, Duration::ZERO, 0);
            while bytes < 1000 * CALM.max(len) {
                if let Some(wait) = patience.before_growing(len, false, 0) {
                    assert_eq!(wait, Duration::from_nanos(CALM.max(len) / GrowthBackoff::COPY));
                    patience.failed(len);
                    (tries, waited) = (tries + 1, waited + wait);
                }
                bytes += len;
            }
            assert!((15..30).contains(&tries), "{tries} tries before 1000 MiB or frames of {len} bytes");
            assert!(
                waited < Duration::from_nanos(bytes / GrowthBackoff::COPY / 30),
                "{waited:?} for {bytes} bytes"
            );
        }
        let mut patience = GrowthBackoff::new();
        patience.failed(64);
        assert_eq!(patience.before_growing(64, false, 0), None);
        patience.restore();
        let large = patience.before_growing(3 << 20, true, 0).expect("it paid, so it is tried at once");
        assert_eq!(large, Duration::from_nanos((3 << 20) / GrowthBackoff::FRESH));
        assert_eq!(
            patience.before_growing(1 << 30, true, 0),
            Some(Duration::from_nanos(GrowthBackoff::MOST))
        );
    }

    #[test]
    fn a_reader_that_has_caught_up_gets_another_chance_and_one_that_keeps_frames_does_not() {
        for kept in [64, CALM / 4, CALM / 4 + 64, CALM] {
            let mut patience = GrowthBackoff::new();
            patience.failed(64);
            assert_eq!(patience.before_growing(64, true, kept), None, "it never was far behind");
        }
        for (used, again) in [(CALM / 4, true), (CALM / 4 + 64, false)] {
            let mut patience = GrowthBackoff::new();
            patience.failed(64);
            assert_eq!(patience.before_growing(64, true, CALM + 64), None);
            assert_eq!(patience.before_growing(64, true, used).is_some(), again);
            patience.failed(64);
            assert_eq!(patience.before_growing(64, true, 64).is_some(), !again, "once");
        }
    }

    #[test]
    fn between_two_looks_at_the_reader_no_more_is_written_than_between_two_tries() {
        let mut patience = GrowthBackoff::new();
        assert_eq!(patience.stride(), 0);
        patience.failed(64);
        assert_eq!((0..5).map(|_| patience.stride()).sum::<u64>(), CALM);
        assert!(patience.before_growing(64, true, 0).is_some());
    }
}
