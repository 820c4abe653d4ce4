//! The ring of frames: how it is laid out, read, written and given back.
//!
//! There are two kinds: the classic ring that 1.x peers speak, and the extended one between two of ours. The first writer
//! decides for the life of a buffer; until then a reader looks at it as at a classic one.

pub(crate) mod classic;
pub(crate) mod entry;
pub(crate) mod extended;

use crate::error::ErrorKind;
use crate::layout::{HeaderWord, Spot};

/// The ring as a reader sees it.
pub(crate) enum ReadRing {
    /// Protocol 1 as 1.x peers speak it.
    Classic(classic::ReadSide),
    /// Between two of ours.
    Extended(extended::ReadSide),
}

/// The ring as a writer sees it.
pub(crate) enum WriteRing {
    /// Protocol 1 as 1.x peers speak it.
    Classic(classic::WriteSide),
    /// Between two of ours.
    Extended(extended::WriteSide),
}

/// Where a frame lies, and its place in the order of giving back.
///
/// Four words, from which the rest follows: a frame goes through many hands, and what does not fit in registers costs more
/// than what is read of it (words that were stored one by one and are loaded in pairs make the processor wait).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Located {
    /// In an extended ring the `Spot` behind it; in a classic one the ring position of the first byte behind the header.
    place: u64,
    /// First word of its header, with [`Located::DRAINS`]; in a classic ring its length alone.
    word: HeaderWord,
    pub(crate) sequence: u64,
    /// Ticket to release it with.
    pub(crate) ticket: u64,
}

/// A place that was found for a frame, and how large the frame may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reservation {
    /// `rewind`: in a classic ring, the empty ring is taken back to 0; in an extended one, a new lap begins.
    pub(crate) placement: classic::plan::Placement,
    /// Bytes of the header.
    pub(crate) header: u64,
    pub(crate) len: usize,
}

impl Located {
    /// Stands where FIRST stands in shared memory, which has had its effect when a frame is located.
    const DRAINS: u64 = (HeaderWord::FIRST as u64) << HeaderWord::FLAGS;

    /// None, for a place that is filled later.
    pub(crate) const NONE: Located = Located { place: 0, word: HeaderWord(0), sequence: 0, ticket: 0 };

    /// In a classic ring.
    pub(crate) fn classic(position: u64, len: u64, sequence: u64, ticket: u64) -> Located {
        Located { place: position, word: HeaderWord::new(len, 0, 0), sequence, ticket }
    }

    /// In an extended ring, ending at `end`. `drains`: nothing was known to be behind it when it was read, so its space goes
    /// back at once, as nobody knows when the reader comes again.
    #[inline(always)]
    pub(crate) fn extended(word: HeaderWord, sequence: u64, end: Spot, drains: bool) -> Located {
        let word = HeaderWord(word.0 & !Self::DRAINS | if drains { Self::DRAINS } else { 0 });
        Located { place: end.0, word, sequence, ticket: 0 }
    }

    #[inline(always)]
    pub(crate) fn with_ticket(self, ticket: u64) -> Located {
        Located { ticket, ..self }
    }

    /// Ring position of the first byte behind the header.
    #[inline(always)]
    pub(crate) fn position(&self) -> u64 {
        match self.word.header() {
            0 => self.place,
            // Never below 0: this is where it was read.
            _ => self.end().position().wrapping_sub(self.word.len().next_multiple_of(Spot::UNIT)),
        }
    }

    /// Bytes of data.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.word.len() as usize
    }

    /// Flags of its header; none in a classic ring.
    pub(crate) fn flags(&self) -> u16 {
        self.word.flags() & !HeaderWord::FIRST
    }

    /// Bytes of the header, in an extended ring.
    pub(crate) fn header_len(&self) -> u64 {
        self.word.header()
    }

    /// Ring position of the header, in an extended ring.
    pub(crate) fn header(&self) -> u64 {
        self.position().wrapping_sub(self.word.header())
    }

    /// `Spot` behind it, in an extended ring.
    #[inline]
    pub(crate) fn end(&self) -> Spot {
        Spot(self.place)
    }

    #[inline]
    pub(crate) fn drains(&self) -> bool {
        self.word.0 & Self::DRAINS != 0
    }

    /// Bytes that the frame takes in an extended ring.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.word.header() + self.word.len().next_multiple_of(Spot::UNIT)
    }
}

impl Tag {
    /// Bytes of a header in an extended ring that carries this, at the least.
    #[inline]
    pub(crate) fn header(&self) -> u64 {
        if self.deadline == 0 { Spot::UNIT } else { 2 * Spot::UNIT }
    }
}

impl Reservation {
    /// Ring position of the first byte of data.
    pub(crate) fn data(&self) -> u64 {
        self.placement.start + self.header
    }
}

/// What a frame carries beside its bytes. Flags and deadline travel in an extended ring only
/// ([`crate::Writer::carries_tags`]); a classic ring drops them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tag {
    /// Instead of the writer's own count, which goes on from it.
    pub(crate) sequence: Option<u64>,
    /// See [`flags`].
    pub(crate) flags: u16,
    /// When the frame is worth nothing any more, in nanoseconds of CLOCK_MONOTONIC; 0 = never.
    pub(crate) deadline: u64,
}

/// Flags of a frame's header in an extended ring.
pub(crate) mod flags {
    /// The writer has withdrawn the frame after its commit; set in place, by the writer only.
    pub(crate) const CANCELLED: u16 = 1;
    /// A response that says why its request failed: the bytes are the message.
    pub(crate) const FAILED: u16 = 1 << 1;
    /// A response without bytes (a frame has one at least, which counts for nothing).
    pub(crate) const EMPTY: u16 = 1 << 2;
}

/// Where a committed frame stands, for its writer to come back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) Spot);

/// What a look at the ring found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    Frame(Located),
    /// Nothing committed that has not been read.
    Empty,
    /// The next frame is the first of another writer.
    Restart,
    /// The words contradict each other, which may be a matter of nanoseconds, or for good.
    Unsure(Trouble),
}

/// Why a look was unsure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}
