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

    pub(crate) fn new() -> GrowthBackoff {
        GrowthBackoff { left: 0, backoff: 1 }
    }

    /// Before a frame of `len` bytes leaves the caches, for `fresh` memory or not: how long to wait, if at all.
    pub(crate) fn before_growing(&mut self, len: u64, fresh: bool) -> Option<Duration> {
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
                if let Some(wait) = patience.before_growing(len, false) {
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
        assert_eq!(patience.before_growing(64, false), None);
        patience.restore();
        let large = patience.before_growing(3 << 20, true).expect("it paid, so it is tried at once");
        assert_eq!(large, Duration::from_nanos((3 << 20) / GrowthBackoff::FRESH));
        assert_eq!(patience.before_growing(1 << 30, true), Some(Duration::from_nanos(GrowthBackoff::MOST)));
    }
}
