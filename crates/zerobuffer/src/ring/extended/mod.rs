//! The extended ring, between two of ours (docs/PROTOCOL.md, "The extended ring").
//!
//! Two words carry the truth: `head`, stored by the writer, says behind which byte the last committed frame ends; `tail`,
//! stored by the reader, which bytes have been given back. Each side keeps a copy of the other's word, and looks again
//! only when the ring seems full or empty.

pub(crate) mod held;
pub(crate) mod pace;
pub(crate) mod patience;
pub(crate) mod plan;
mod reader;
pub(crate) mod survey;
mod writer;

pub(crate) use reader::ReadSide;
pub(crate) use writer::{Marker, WriteSide};

use super::Trouble;
use crate::error::ErrorKind;
use crate::layout::Spot;

fn corrupt(message: String) -> Trouble {
    Trouble { kind: ErrorKind::CorruptBuffer, message }
}

/// How far ahead the reader asks for cache lines: where a header stands depends on the one before it, so that the processor
/// itself would wait for each of them in turn, some 100 ns from the other core.
const AHEAD: u64 = 1024;

/// The writer has not leapt: no lap is left from position 0.
const NO_LEAP: Spot = Spot(0);

/// Whether `from` tells of a leap in the lap of `spot`.
fn is_leap(from: Spot, spot: Spot) -> bool {
    from.lap() == spot.lap() && from.position() != 0
}

/// Size of a header that carries nothing but length, flags and sequence number.
const PLAIN_HEADER: u64 = Spot::UNIT;
