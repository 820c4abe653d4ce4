//! How many frames a writer may place without looking at anything but the ring.

/// The most frames that go without a look at the reader.
const MOST: u32 = 31;

/// The clock is read before a frame if none of these bits is set in the number of those that are left: every eighth time.
const CLOCK: u32 = 7;

/// What was decided at the last frame that took the slow path.
///
/// Frames are fast while they follow each other so closely that the coarse clock stands still meanwhile, for as many more
/// each time, until the clock is seen to have gone on. So a look at the reader is late by eight frames at most.
#[derive(Debug, Default)]
pub(crate) struct FastPath {
    /// Frames that may still be fast.
    left: u32,
    /// Ring position up to which they may go; 0 while a frame is acquired.
    until: u64,
    /// `until` while no frame is acquired.
    granted_until: u64,
    /// `left` as it was decided last.
    granted: u32,
    /// The coarse clock when that was decided.
    tick: u64,
}

impl FastPath {
    pub(crate) fn new() -> FastPath {
        FastPath::default()
    }

    /// Whether the clock need not be read before the next frame, or stands still.
    #[inline]
    pub(crate) fn is_calm(&self, clock: impl FnOnce() -> u64) -> bool {
        self.left & CLOCK != 0 || self.left == 0 || clock() == self.tick
    }

    /// Whether the clock, read by the caller, stands where it stood.
    #[inline]
    pub(crate) fn is_now(&self, now: u64) -> bool {
        now == self.tick
    }

    /// Up to where the next frame may go, if it may be fast.
    #[inline]
    pub(crate) fn until(&self) -> Option<u64> {
        (self.left > 0).then_some(self.until)
    }

    #[inline]
    pub(crate) fn used(&mut self) {
        self.left -= 1;
    }

    /// A frame has been acquired: until it is committed or discarded, no other may be placed.
    #[inline]
    pub(crate) fn suspend(&mut self) {
        self.until = 0;
    }

    /// No frame is acquired any more.
    #[inline]
    pub(crate) fn resume(&mut self) {
        self.until = self.granted_until;
    }

    /// The next frame takes the slow path.
    #[inline]
    pub(crate) fn close(&mut self) {
        self.left = 0;
    }

    /// After a frame that took the slow path at `now`: frames may be fast up to position `until`.
    #[inline]
    pub(crate) fn grant(&mut self, now: u64, until: u64) {
        self.granted = if now == self.tick { (2 * self.granted + 1).min(MOST) } else { 0 };
        self.tick = now;
        self.left = self.granted;
        (self.until, self.granted_until) = (until, until);
    }
}
