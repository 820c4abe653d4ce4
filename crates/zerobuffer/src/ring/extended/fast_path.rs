//! How many small frames a writer may write without looking at anything but the ring.

/// The most small frames that go without a look at the reader.
const MOST: u32 = 31;

/// The clock is read before a small frame if none of these bits is set in the number of those that are left: every eighth
/// time.
const CLOCK: u32 = 7;

/// What was decided at the last frame that took the slow path.
///
/// Small frames are fast while they follow each other so closely that the coarse clock stands still meanwhile, for as many
/// more each time, until the clock is seen to have gone on. So a look at the reader is late by eight frames at most.
#[derive(Debug, Default)]
pub(crate) struct FastPath {
    /// Small frames that may still be fast.
    left: u32,
    /// Ring position up to which they may go.
    until: u64,
    /// `left` as it was decided last.
    granted: u32,
    /// The coarse clock when that was decided.
    tick: u64,
}

impl FastPath {
    pub(crate) fn new() -> FastPath {
        FastPath::default()
    }

    /// Whether the clock need not be read before the next small frame, or stands still.
    #[inline]
    pub(crate) fn is_calm(&self, clock: impl FnOnce() -> u64) -> bool {
        self.left & CLOCK != 0 || self.left == 0 || clock() == self.tick
    }

    /// Whether the clock, read by the caller, stands where it stood.
    #[inline]
    pub(crate) fn is_now(&self, now: u64) -> bool {
        now == self.tick
    }

    /// Up to where the next small frame may go, if it may be fast.
    #[inline]
    pub(crate) fn until(&self) -> Option<u64> {
        (self.left > 0).then_some(self.until)
    }

    #[inline]
    pub(crate) fn used(&mut self) {
        self.left -= 1;
    }

    /// The next frame takes the slow path.
    #[inline]
    pub(crate) fn close(&mut self) {
        self.left = 0;
    }

    /// After a frame that took the slow path at `now`: small frames may be fast up to position `until`.
    #[inline]
    pub(crate) fn grant(&mut self, now: u64, until: u64) {
        self.granted = if now == self.tick { (2 * self.granted + 1).min(MOST) } else { 0 };
        self.tick = now;
        self.left = self.granted;
        self.until = until;
    }
}
