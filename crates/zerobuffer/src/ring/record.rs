//! What passes between a ring and its handles: frames, places for frames, findings.

use crate::error::{ErrorKind, SequenceGap};
use crate::layout::{Cursor, FRAME_HEADER, HeaderWord, WriterWord};

/// Where a frame lies, and its place in the order of giving back.
///
/// Four words, from which the rest follows: a frame goes through many hands, and what does not fit in registers costs more
/// than what is read of it (words that were stored one by one and are loaded in pairs make the processor wait).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameRecord {
    /// In an extended ring the `Cursor` behind the frame; in a classic one the ring position of its first byte of data.
    place: u64,
    /// First word of its header, with [`FrameRecord::DRAINS`]; in a classic ring its length alone.
    word: HeaderWord,
    pub(crate) sequence: u64,
    /// Ticket to release it with.
    pub(crate) ticket: u64,
}

impl FrameRecord {
    /// Stands where FIRST stands in shared memory, which has had its effect when a frame has been read.
    const DRAINS: u64 = (HeaderWord::FIRST as u64) << HeaderWord::FLAGS;
    const LEN_MASK: u64 = (1 << 48) - 1;

    /// No frame, for a variable that is filled later.
    pub(crate) const NONE: FrameRecord =
        FrameRecord { place: 0, word: HeaderWord(0), sequence: 0, ticket: 0 };

    /// In a classic ring.
    pub(crate) fn classic(position: u64, len: u64, sequence: u64, ticket: u64) -> FrameRecord {
        FrameRecord { place: position, word: HeaderWord::new(len, 0, 0), sequence, ticket }
    }

    /// In an extended ring, ending at `end`. `drains`: nothing was known to be behind it when it was read, so its space goes
    /// back at once, as the reader may not come again soon.
    #[inline(always)]
    pub(crate) fn extended(word: HeaderWord, sequence: u64, end: Cursor, drains: bool) -> FrameRecord {
        let word = HeaderWord(word.0 & !Self::DRAINS | if drains { Self::DRAINS } else { 0 });
        FrameRecord { place: end.0, word, sequence, ticket: 0 }
    }

    /// Set in `place` for a borrowed frame: the rest is the address of its first byte in this process, where no ring position is so
    /// large, and no address either.
    const BORROWED: u64 = 1 << 63;

    /// Of a frame whose `len` bytes lie at `address`, outside the ring, and stay there until the frame is released.
    pub(crate) fn borrowed(
        address: core::ptr::NonNull<u8>,
        len: u64,
        of: &FrameRecord,
        ticket: u64,
    ) -> FrameRecord {
        let place = address.as_ptr().expose_provenance() as u64 | Self::BORROWED;
        let word = HeaderWord::new(len & Self::LEN_MASK, 0, of.flags());
        FrameRecord { place, word, sequence: of.sequence, ticket }
    }

    /// Set in `place` beside BORROWED: the bytes are a copy that the frame's owner alone has, and may be written.
    const COPY: u64 = 1 << 62;

    /// Of a frame whose owner has its bytes as a copy at `address`, which stays there until the frame is released.
    pub(crate) fn copied(address: core::ptr::NonNull<u8>, of: &FrameRecord, ticket: u64) -> FrameRecord {
        let record = FrameRecord::borrowed(address, of.word.len(), of, ticket);
        FrameRecord { place: record.place | Self::COPY, ..record }
    }

    /// The address of its first byte, if the frame is borrowed, or a copy.
    #[inline]
    pub(crate) fn elsewhere_at(&self) -> Option<*const u8> {
        let is_elsewhere = self.word.header() == 0 && self.place & Self::BORROWED != 0;
        let address = self.place & !(Self::BORROWED | Self::COPY);
        is_elsewhere.then(|| core::ptr::with_exposed_provenance(address as usize))
    }

    /// Whether the frame is borrowed.
    #[inline]
    pub(crate) fn is_borrowed(&self) -> bool {
        self.word.header() == 0 && self.place & (Self::BORROWED | Self::COPY) == Self::BORROWED
    }

    /// The address of its first byte, if the frame is a copy that its owner alone has.
    #[inline]
    pub(crate) fn copied_at(&self) -> Option<*const u8> {
        if self.place & Self::COPY == 0 { None } else { self.elsewhere_at() }
    }

    #[inline(always)]
    pub(crate) fn with_ticket(self, ticket: u64) -> FrameRecord {
        FrameRecord { ticket, ..self }
    }

    /// All but the ticket, as words.
    #[inline(always)]
    pub(crate) fn words(&self) -> [u64; 3] {
        [self.place, self.word.0, self.sequence]
    }

    /// The opposite of [`FrameRecord::words`].
    pub(crate) fn of_words([place, word, sequence]: [u64; 3]) -> FrameRecord {
        FrameRecord { place, word: HeaderWord(word), sequence, ticket: 0 }
    }

    /// Ring position of the first byte of data.
    #[inline(always)]
    pub(crate) fn position(&self) -> u64 {
        match self.word.header() {
            0 => self.place,
            // Never below 0: this is where it was read.
            _ => self.end().position().wrapping_sub(self.word.len().next_multiple_of(Cursor::UNIT)),
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

    /// `Cursor` behind it, in an extended ring.
    #[inline]
    pub(crate) fn end(&self) -> Cursor {
        Cursor(self.place)
    }

    #[inline]
    pub(crate) fn drains(&self) -> bool {
        self.word.0 & Self::DRAINS != 0
    }

    /// Bytes that the frame takes in an extended ring.
    #[inline]
    pub(crate) fn bytes(&self) -> u64 {
        self.word.header() + self.word.len().next_multiple_of(Cursor::UNIT)
    }
}

/// The room that a frame needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes of data.
    pub(crate) len: usize,
    /// Bytes of the header in an extended ring, at least.
    pub(crate) header: u64,
}

impl Room {
    /// For a frame that carries `tag`.
    #[inline]
    pub(crate) fn of(len: usize, tag: &Tag) -> Room {
        Room { len, header: tag.header() }
    }
}

/// A place that was found for a frame, and how large the frame may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reservation {
    /// Ring position of the header.
    pub(crate) start: u64,
    /// Bytes of the header.
    pub(crate) header: u64,
    pub(crate) len: usize,
    pub(crate) way: Way,
}

/// How the ring gets from the last frame to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The place is right behind the last frame.
    Ahead,
    /// In a classic ring: so many bytes are skipped at its end, and charged with the frame.
    Skip(u64),
    /// In an extended ring: a new lap begins.
    NewLap,
    /// In an extended ring: the writer leaps to where the lap before ended.
    Leap,
}

impl Reservation {
    /// Straight ahead in a classic ring.
    pub(crate) fn classic(start: u64, skip: u64, len: usize) -> Reservation {
        let way = if skip == 0 { Way::Ahead } else { Way::Skip(skip) };
        Reservation { start, header: FRAME_HEADER as u64, len, way }
    }

    /// Ring position of the first byte of data.
    pub(crate) fn data(&self) -> u64 {
        self.start + self.header
    }

    /// Ring position behind the data.
    pub(crate) fn end(&self) -> u64 {
        self.data() + self.len as u64
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
    /// When the frame becomes worthless, in nanoseconds of CLOCK_MONOTONIC; 0 = never.
    pub(crate) deadline: u64,
}

impl Tag {
    /// Bytes of a header in an extended ring that carries this, at least.
    #[inline]
    pub(crate) fn header(&self) -> u64 {
        if self.deadline == 0 { Cursor::UNIT } else { 2 * Cursor::UNIT }
    }
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
pub(crate) struct FrameAddress(pub(crate) Cursor);

/// What a reader passed over on its way to the newest frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passed {
    /// Frames that were not cancelled.
    pub(crate) frames: u64,
    /// There was a newest frame: not all of them were cancelled.
    pub(crate) found: bool,
}

/// What a look at the ring found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    Frame(FrameRecord),
    /// Nothing is committed that has not been read.
    Empty,
    /// The next frame is the first of another writer, whose word it may carry.
    Restart(Option<WriterWord>),
    /// The words contradict each other, for nanoseconds or for good.
    Unsure(RingFault),
}

/// What is wrong with a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RingFault {
    pub(crate) kind: FaultKind,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Words that cannot be true.
    Corrupt,
    /// A frame is missing.
    Sequence(SequenceGap),
    /// `payload_free_bytes` has lost an update of a 1.x peer, and can be repaired.
    LostUpdate,
    /// The reader was stopped between two stores.
    ReaderStopped,
}

impl FaultKind {
    pub(crate) fn error_kind(self) -> ErrorKind {
        match self {
            FaultKind::Corrupt => ErrorKind::CorruptBuffer,
            FaultKind::Sequence(_) => ErrorKind::SequenceError,
            FaultKind::LostUpdate | FaultKind::ReaderStopped => ErrorKind::InvalidState,
        }
    }
}

impl RingFault {
    /// The numbers between which frames are missing, if that is what is wrong.
    pub(crate) fn gap(&self) -> Option<SequenceGap> {
        if let FaultKind::Sequence(gap) = self.kind { Some(gap) } else { None }
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> RingFault {
        RingFault { kind: FaultKind::Corrupt, message: message.into() }
    }

    pub(crate) fn out_of_sequence(expected: u64, found: u64) -> RingFault {
        RingFault {
            kind: FaultKind::Sequence(SequenceGap { expected, got: found }),
            message: format!(
                "frame {expected} was expected, {found} was found: frames were lost or overwritten; close the reader \
                 and create it again"
            ),
        }
    }
}

/// Why no place was found.
pub(crate) enum NoPlace {
    /// The ring is full.
    Full,
    /// The words contradict each other, which may pass.
    Unsure(Box<RingFault>),
    /// The file system has no memory for the frame.
    NoMemory(std::io::Error),
}

impl From<RingFault> for NoPlace {
    fn from(fault: RingFault) -> NoPlace {
        NoPlace::Unsure(Box::new(fault))
    }
}
