//! Where the words of the sharing block stand (docs/PROTOCOL.md).

use crate::support::forge::{Forge, at};

pub(super) const ENABLED: u64 = 512;
pub(super) const OFFER: u64 = 512 + 64;
pub(super) const DEVICE: u64 = 512 + 72;
pub(super) const INODE: u64 = 512 + 80;
pub(super) const NAME_SIZE: u64 = 512 + 88;
pub(super) const NAME: u64 = 512 + 128;
pub(super) const ACCEPTED: u64 = 512 + 384;
pub(super) const REFUSED: u64 = 512 + 392;
pub(super) const LOANS_BELL: u64 = 512 + 512;
pub(super) const LOANS_FIFO: u64 = 512 + 520;

/// Offset of the control block, from the extension word.
pub(super) fn control(segment: &Forge) -> u64 {
    segment.get(at::EXTENSION) & ((1 << 48) - (1 << 7))
}

pub(super) fn sharing_block(segment: &Forge, field: u64) -> u64 {
    control(segment) + field
}
