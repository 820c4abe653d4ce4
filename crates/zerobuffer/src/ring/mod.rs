//! The ring of frames: how it is laid out, read, written and given back.
//!
//! Today there is one kind, the classic ring that 1.x peers speak. `Reader` and `Writer` reach a ring only through
//! [`ReadRing`] and [`WriteRing`], so that a second kind is another variant and touches nothing else.

pub(crate) mod classic;
pub(crate) mod space;

use crate::error::ErrorKind;

/// The ring as a reader sees it.
pub(crate) enum ReadRing {
    /// Protocol 1 as 1.x peers speak it.
    Classic(classic::ReadSide),
}

/// The ring as a writer sees it.
pub(crate) enum WriteRing {
    /// Protocol 1 as 1.x peers speak it.
    Classic(classic::WriteSide),
}

/// Where a frame lies, and its place in the order of giving back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Located {
    /// Ring position of the first byte behind the header.
    pub(crate) position: u64,
    pub(crate) len: usize,
    pub(crate) sequence: u64,
    /// Ticket to release it with.
    pub(crate) ticket: u64,
}

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
