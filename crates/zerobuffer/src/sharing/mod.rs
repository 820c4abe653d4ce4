//! Payload sharing: frames that are passed on without a copy (docs/PROTOCOL.md, "Sharing").
//!
//! A relay is the reader of one buffer, its *source*, and the writer of another one, its *output*. It commits a reference in
//! the output instead of the bytes, and keeps the frame in the source until the output's reader, the *borrower*, has given the
//! reference back, or is gone.
//!
//! - `loans`: the lender's books, of the source's reader
//! - `bell`: the doorbell on which the lender sleeps
//! - `offers` and `forward`: what the output's writer does
//! - `source` and `borrower`: what the output's reader does

pub(crate) mod bell;
pub(crate) mod borrower;
pub(crate) mod forward;
pub(crate) mod loans;
mod offers;
pub(crate) mod source;

pub(crate) use offers::Offers;

use crate::buffer::Buffer;
use crate::memory::Memory;
use crate::sync::Ordering;

/// Whether the reader of `buffer` allows sharing.
pub(crate) fn is_enabled(buffer: &Buffer) -> bool {
    // Relaxed: a figure, as those below.
    buffer.mapping.sharing().is_some_and(|s| s.offer.payload_sharing_enabled.load(Ordering::Relaxed) == 1)
}

/// References in `buffer` that have not been taken back.
pub(crate) fn share_count(buffer: &Buffer) -> u64 {
    buffer.mapping.sharing().map_or(0, |s| s.offer.payload_share_count.load(Ordering::Relaxed))
}

/// The process whose bytes are offered to the reader of `buffer`.
pub(crate) fn owner_pid(buffer: &Buffer) -> u64 {
    buffer.mapping.sharing().map_or(0, |s| s.offer.payload_owner_pid.load(Ordering::Relaxed))
}
