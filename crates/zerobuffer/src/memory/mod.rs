//! Memory that a buffer's two sides share: mapped, reserved before it is touched, copied in and out.

mod copy;
pub(crate) mod mapping;
pub(crate) mod reserve;

use crate::layout::{Control, Sharing};
use crate::sync::AtomicU64;

/// The shared memory of one extended ring.
pub(crate) trait Memory {
    fn control(&self) -> &Control;
    /// The sharing block, if there is one.
    fn sharing(&self) -> Option<&Sharing>;
    /// The 16 bytes at `position` of the ring as two words: the header of a frame. `None` if they do not lie within it, or
    /// `position` is no multiple of 16.
    fn words(&self, position: u64) -> Option<&[AtomicU64; 2]>;
    /// Asks for the cache line at `position`, which need not lie within the ring.
    fn prefetch(&self, position: u64);
    /// Asks for the cache line at `position`, to be written.
    fn prefetch_to_write(&self, position: u64);
}
