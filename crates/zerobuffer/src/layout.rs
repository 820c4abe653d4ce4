//! docs/PROTOCOL.md as types: the only place that knows an offset.
//!
//! All words are little-endian, which is also the byte order of every supported target. The fields are atomics
//! because a peer may write them at any time; which access pairs with which is said where the access is made.

use core::mem::{offset_of, size_of};

use crate::error::{Error, ErrorKind, Result};
use crate::sync::{AtomicU32, AtomicU64};

#[cfg(not(all(target_pointer_width = "64", target_endian = "little")))]
compile_error!("ZeroBuffer needs a 64-bit little-endian target: protocol 1 maps its 64-bit words in place");

/// Value of `oieb_size`, and the size of the block.
pub(crate) const OIEB_SIZE: u32 = 128;
/// Major, minor, patch, reserved = 1, 0, 0, 0 as one little-endian word.
pub(crate) const VERSION_1_0_0: u32 = 1;
/// Blocks start and end on multiples of this.
pub(crate) const BLOCK_ALIGN: u64 = 64;
/// Size of a frame's header: u64 payload size, u64 sequence number.
pub(crate) const FRAME_HEADER: usize = 16;
/// Size of the length word in front of the metadata.
pub(crate) const METADATA_PREFIX: u64 = 8;

/// Byte that a reader of ours locks on the segment: that of `reader_pid`.
pub(crate) const READER_ROLE_BYTE: i64 = offset_of!(Oieb, reader_pid) as i64;
/// Byte that a keeper locks (`KeptBuffer`): that of `reader_word`.
pub(crate) const KEEPER_ROLE_BYTE: i64 = offset_of!(Oieb, reader_word) as i64;
/// Byte that a writer of ours locks on the segment: that of `writer_pid`.
pub(crate) const WRITER_ROLE_BYTE: i64 = offset_of!(Oieb, writer_pid) as i64;

/// The block at the start of every buffer ("operation information exchange block").
#[repr(C)]
pub(crate) struct Oieb {
    pub(crate) oieb_size: AtomicU32,
    pub(crate) version: AtomicU32,
    pub(crate) metadata_size: AtomicU64,
    pub(crate) metadata_free_bytes: AtomicU64,
    pub(crate) metadata_written_bytes: AtomicU64,
    pub(crate) payload_size: AtomicU64,
    pub(crate) payload_free_bytes: AtomicU64,
    pub(crate) payload_write_pos: AtomicU64,
    pub(crate) payload_read_pos: AtomicU64,
    pub(crate) payload_written_count: AtomicU64,
    pub(crate) payload_read_count: AtomicU64,
    pub(crate) writer_pid: AtomicU64,
    pub(crate) reader_pid: AtomicU64,
    /// Reserved 1: see [`ExtensionWord`].
    pub(crate) extension: AtomicU64,
    /// Reserved 2: see [`ReaderWord`].
    pub(crate) reader_word: AtomicU64,
    /// Reserved 3: see [`WriterWord`].
    pub(crate) writer_word: AtomicU64,
    /// Reserved 4: see [`TailWord`].
    pub(crate) tail_word: AtomicU64,
}

// The model checker's atomics are larger.
#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<Oieb>() == OIEB_SIZE as usize);
    assert!(offset_of!(Oieb, oieb_size) == 0x00);
    assert!(offset_of!(Oieb, version) == 0x04);
    assert!(offset_of!(Oieb, metadata_size) == 0x08);
    assert!(offset_of!(Oieb, metadata_free_bytes) == 0x10);
    assert!(offset_of!(Oieb, metadata_written_bytes) == 0x18);
    assert!(offset_of!(Oieb, payload_size) == 0x20);
    assert!(offset_of!(Oieb, payload_free_bytes) == 0x28);
    assert!(offset_of!(Oieb, payload_write_pos) == 0x30);
    assert!(offset_of!(Oieb, payload_read_pos) == 0x38);
    assert!(offset_of!(Oieb, payload_written_count) == 0x40);
    assert!(offset_of!(Oieb, payload_read_count) == 0x48);
    assert!(offset_of!(Oieb, writer_pid) == 0x50);
    assert!(offset_of!(Oieb, reader_pid) == 0x58);
    assert!(offset_of!(Oieb, extension) == 0x60);
    assert!(offset_of!(Oieb, reader_word) == 0x68);
    assert!(offset_of!(Oieb, writer_word) == 0x70);
    assert!(offset_of!(Oieb, tail_word) == 0x78);
};

/// A plain copy of the OIEB, for tools that only look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OiebCopy {
    pub(crate) oieb_size: u32,
    pub(crate) version: [u8; 4],
    pub(crate) metadata_size: u64,
    pub(crate) metadata_free_bytes: u64,
    pub(crate) metadata_written_bytes: u64,
    pub(crate) payload_size: u64,
    pub(crate) payload_free_bytes: u64,
    pub(crate) payload_write_pos: u64,
    pub(crate) payload_read_pos: u64,
    pub(crate) payload_written_count: u64,
    pub(crate) payload_read_count: u64,
    pub(crate) writer_pid: u64,
    pub(crate) reader_pid: u64,
    pub(crate) extension: ExtensionWord,
    pub(crate) reader_word: ReaderWord,
    pub(crate) writer_word: WriterWord,
}

impl OiebCopy {
    pub(crate) fn parse(bytes: &[u8; OIEB_SIZE as usize]) -> OiebCopy {
        let u32_at = |at: usize| {
            let mut word = [0; 4];
            word.copy_from_slice(&bytes[at..at + 4]);
            word
        };
        let u64_at = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        OiebCopy {
            oieb_size: u32::from_le_bytes(u32_at(offset_of!(Oieb, oieb_size))),
            version: u32_at(offset_of!(Oieb, version)),
            metadata_size: u64_at(offset_of!(Oieb, metadata_size)),
            metadata_free_bytes: u64_at(offset_of!(Oieb, metadata_free_bytes)),
            metadata_written_bytes: u64_at(offset_of!(Oieb, metadata_written_bytes)),
            payload_size: u64_at(offset_of!(Oieb, payload_size)),
            payload_free_bytes: u64_at(offset_of!(Oieb, payload_free_bytes)),
            payload_write_pos: u64_at(offset_of!(Oieb, payload_write_pos)),
            payload_read_pos: u64_at(offset_of!(Oieb, payload_read_pos)),
            payload_written_count: u64_at(offset_of!(Oieb, payload_written_count)),
            payload_read_count: u64_at(offset_of!(Oieb, payload_read_count)),
            writer_pid: u64_at(offset_of!(Oieb, writer_pid)),
            reader_pid: u64_at(offset_of!(Oieb, reader_pid)),
            extension: ExtensionWord(u64_at(offset_of!(Oieb, extension))),
            reader_word: ReaderWord(u64_at(offset_of!(Oieb, reader_word))),
            writer_word: WriterWord(u64_at(offset_of!(Oieb, writer_word))),
        }
    }
}

impl OiebCopy {
    /// The geometry that the block announces, checked against the length of its file.
    pub(crate) fn check(&self, name: &str, file_len: u64) -> Result<Geometry> {
        if self.oieb_size != OIEB_SIZE || self.version[0] != 1 {
            let message = format!(
                "it speaks protocol {}.{}.{} with a first block of {} bytes; this library speaks protocol 1 (128 bytes)",
                self.version[0], self.version[1], self.version[2], self.oieb_size
            );
            return Err(Error::new(ErrorKind::IncompatibleProtocol, name, message));
        }
        let geometry = Geometry {
            metadata_size: self.metadata_size,
            payload_size: self.payload_size,
            // Only a reader of ours makes one, and only its word is believed.
            control: self.extension.control().filter(|_| self.reader_word.is_ours()),
        };
        match geometry.total() {
            Some(total) if total <= file_len && self.payload_size > FRAME_HEADER as u64 => Ok(geometry),
            _ => {
                let message = format!(
                    "its sizes cannot be true: {} bytes of metadata and {} of payload in a file of {file_len} bytes",
                    self.metadata_size, self.payload_size
                );
                Err(Error::new(ErrorKind::CorruptBuffer, name, message))
            }
        }
    }
}

/// Reserved word 1: bits 48..64 a magic, bits 7..48 the offset of the control block in the segment (a multiple of 128),
/// bit 0 "extended": the ring is an extended one, for the life of the buffer; bit 1 "entering". 0: no extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExtensionWord(pub(crate) u64);

impl ExtensionWord {
    /// "EZ", little-endian.
    const MAGIC: u64 = 0x5A45 << 48;
    const OFFSET_MASK: u64 = (1 << 48) - (1 << 7);
    /// The bit that the first writer sets.
    pub(crate) const EXTENDED: u64 = 1;
    /// A writer is making the ring an extended one, or has died of it ([`crate::entry`]).
    pub(crate) const ENTERING: u64 = 1 << 1;

    pub(crate) fn new(control: u64) -> ExtensionWord {
        debug_assert!(control & !Self::OFFSET_MASK == 0);
        ExtensionWord(Self::MAGIC | control)
    }
    /// Offset of the control block, if one is announced.
    pub(crate) fn control(self) -> Option<u64> {
        (self.0 >> 48 == Self::MAGIC >> 48).then_some(self.0 & Self::OFFSET_MASK)
    }
    pub(crate) fn is_entering(self) -> bool {
        self.control().is_some() && self.0 & Self::ENTERING != 0
    }
    pub(crate) fn is_extended(self) -> bool {
        self.control().is_some() && self.0 & Self::EXTENDED != 0
    }
}

/// Alignment of the control block and of its lines: two cache lines, since x86 fetches them in pairs.
pub(crate) const LINE: u64 = 128;

/// The control block of an extended ring, at the offset that the extension word names. Each line is written by one side
/// (the bells by both, rarely), so that neither takes from the other what it needs for the next frame.
#[repr(C)]
pub(crate) struct Control {
    /// Written by the writer.
    pub(crate) written: WrittenLine,
    /// Written by the reader.
    pub(crate) read: ReadLine,
    /// Tells the writer whether the reader sleeps; see [`crate::bell`].
    pub(crate) reader_bell: BellLine,
    /// Tells the reader whether the writer sleeps, or wants space.
    pub(crate) writer_bell: BellLine,
}

#[repr(C, align(128))]
pub(crate) struct WrittenLine {
    /// [`Spot`] behind the last committed frame: its store is the commit.
    pub(crate) head: AtomicU64,
    /// Ring position at which the lap before that of `head` ended.
    pub(crate) lap_end: AtomicU64,
    /// [`Spot`] from which the writer leapt ahead within its lap, by the lap's lowest bit.
    pub(crate) leap_from: [AtomicU64; 2],
    /// Ring position to which it leapt.
    pub(crate) leap_to: [AtomicU64; 2],
    /// Frames committed since the buffer was made; for tools.
    pub(crate) count: AtomicU64,
}

#[repr(C, align(128))]
pub(crate) struct ReadLine {
    /// [`Spot`] of the oldest byte not given back.
    pub(crate) tail: AtomicU64,
    /// Frames read; for tools.
    pub(crate) count: AtomicU64,
}

#[repr(C, align(128))]
pub(crate) struct BellLine {
    pub(crate) bell: AtomicU32,
}

/// Bytes of the control block.
pub(crate) const CONTROL_SIZE: u64 = size_of::<Control>() as u64;

#[cfg(not(loom))]
const _: () = {
    assert!(CONTROL_SIZE == 4 * LINE);
    assert!(offset_of!(Control, read) == 128);
    assert!(offset_of!(Control, reader_bell) == 256);
    assert!(offset_of!(Control, writer_bell) == 384);
    assert!(offset_of!(WrittenLine, head) == 0);
    assert!(offset_of!(WrittenLine, lap_end) == 8);
    assert!(offset_of!(WrittenLine, leap_from) == 16);
    assert!(offset_of!(WrittenLine, leap_to) == 32);
    assert!(offset_of!(WrittenLine, count) == 48);
    assert!(offset_of!(ReadLine, tail) == 0);
    assert!(offset_of!(ReadLine, count) == 8);
};

/// A plain copy of the control block's words, for tools that only look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ControlCopy {
    pub(crate) head: Spot,
    pub(crate) lap_end: u64,
    /// Where the writer leapt from, and to, by the lap's lowest bit.
    pub(crate) leaps: [(Spot, u64); 2],
    pub(crate) written_count: u64,
    pub(crate) tail: Spot,
    pub(crate) read_count: u64,
}

impl ControlCopy {
    pub(crate) fn parse(bytes: &[u8; CONTROL_SIZE as usize]) -> ControlCopy {
        let at = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let written = |field: usize| at(offset_of!(Control, written) + field);
        let read = |field: usize| at(offset_of!(Control, read) + field);
        let leap = |index: usize| {
            let from = Spot(written(offset_of!(WrittenLine, leap_from) + 8 * index));
            (from, written(offset_of!(WrittenLine, leap_to) + 8 * index))
        };
        ControlCopy {
            head: Spot(written(offset_of!(WrittenLine, head))),
            lap_end: written(offset_of!(WrittenLine, lap_end)),
            leaps: [leap(0), leap(1)],
            written_count: written(offset_of!(WrittenLine, count)),
            tail: Spot(read(offset_of!(ReadLine, tail))),
            read_count: read(offset_of!(ReadLine, count)),
        }
    }
}

/// A place in the endless stream of an extended ring: bits 0..42 the ring position in units of 16 bytes, bits 42..64
/// how often the writer has gone back to position 0 (the *lap*; wraps).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot(pub(crate) u64);

impl Spot {
    const LAP: u32 = 42;
    /// Frames start at multiples of this.
    pub(crate) const UNIT: u64 = 16;

    pub(crate) fn new(lap: u64, position: u64) -> Spot {
        debug_assert!(position.is_multiple_of(Self::UNIT) && position / Self::UNIT < 1 << Self::LAP);
        Spot((lap << Self::LAP) | (position / Self::UNIT))
    }
    pub(crate) fn lap(self) -> u64 {
        self.0 >> Self::LAP
    }
    /// Ring position in bytes.
    pub(crate) fn position(self) -> u64 {
        (self.0 & ((1 << Self::LAP) - 1)) * Self::UNIT
    }
    /// Which of two words tells of this lap: at most two laps are in use.
    pub(crate) fn parity(self) -> usize {
        (self.lap() & 1) as usize
    }
    /// The same lap, further on.
    pub(crate) fn at(self, position: u64) -> Spot {
        Spot::new(self.lap(), position)
    }
    /// Position 0 of the next lap.
    pub(crate) fn next_lap(self) -> Spot {
        Spot(self.lap().wrapping_add(1) << Self::LAP)
    }
    /// Whether this is one lap behind `other`.
    pub(crate) fn is_lap_before(self, other: Spot) -> bool {
        self.next_lap().lap() == other.lap()
    }
}

/// The first word of a frame's header in an extended ring; the second one is the sequence number.
///
/// Bits 0..48 the bytes of data, bits 48..54 the size of the header in units of 16 bytes (1 or more: the data begins
/// behind it), bits 54..64 flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeaderWord(pub(crate) u64);

impl HeaderWord {
    const LEN_MASK: u64 = (1 << 48) - 1;
    pub(crate) const FLAGS: u32 = 54;
    /// The first frame of its writer.
    pub(crate) const FIRST: u16 = 1 << 9;
    /// The third word of the header is a deadline.
    pub(crate) const DEADLINE: u16 = 1 << 8;
    const FLAGS_MASK: u16 = (1 << 10) - 1;

    pub(crate) fn new(len: u64, units: u64, flags: u16) -> HeaderWord {
        debug_assert!(len <= Self::LEN_MASK && units < 64 && flags <= Self::FLAGS_MASK);
        HeaderWord(len | units << 48 | u64::from(flags) << Self::FLAGS)
    }
    pub(crate) fn len(self) -> u64 {
        self.0 & Self::LEN_MASK
    }
    /// Bytes of the header.
    pub(crate) fn header(self) -> u64 {
        (self.0 >> 48 & 63) * Spot::UNIT
    }
    pub(crate) fn flags(self) -> u16 {
        (self.0 >> Self::FLAGS) as u16
    }
}

/// Reserved word 2, written by a reader of ours: bits 0..32 its pid, as it stands in `reader_pid`; bit 32 "kept": its
/// creator only holds the buffer for a reader of ours that comes later, who takes it over by clearing the bit.
///
/// It tells a writer of ours that this reader holds a role lock, that `tail_word` is kept, and that the reader follows
/// `payload_read_pos` when the writer takes an empty ring back to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReaderWord(pub(crate) u64);

impl ReaderWord {
    const KEPT: u64 = 1 << 32;

    pub(crate) fn new(pid: u32) -> ReaderWord {
        ReaderWord(u64::from(pid))
    }
    pub(crate) fn kept(pid: u32) -> ReaderWord {
        ReaderWord(u64::from(pid) | Self::KEPT)
    }
    pub(crate) fn is_kept(self) -> bool {
        self.0 & Self::KEPT != 0
    }
    /// Whether a reader of ours made this buffer.
    pub(crate) fn is_ours(self) -> bool {
        self.0 as u32 != 0
    }
}

/// Reserved word 3, written only by the writer of ours that holds the role lock: bits 0..32 its pid as it stands in
/// `writer_pid`, bits 32..56 the epoch (how many writers of ours this buffer has had), bits 56..62 and 63 the fates of
/// the writers before (1 = died: bit 63 of the one right before this one, bit 56 of the one before that, and so on),
/// bit 62 "closed in good order".
///
/// The fates are there because a reader may learn of several writers' ends at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriterWord(pub(crate) u64);

impl WriterWord {
    const EPOCH_MASK: u64 = (1 << 24) - 1;
    const CLOSED: u64 = 1 << 62;
    const PREDECESSOR_DIED: u64 = 1 << 63;
    const OLDER_FATES: u32 = 56;
    const OLDER_MASK: u64 = (1 << 6) - 1;

    /// The word of the writer that follows the one of `self`.
    pub(crate) fn next(self, pid: u32, predecessor_died: bool) -> WriterWord {
        let epoch = (u64::from(self.epoch()) + 1) & Self::EPOCH_MASK;
        let died = if predecessor_died { Self::PREDECESSOR_DIED } else { 0 };
        let older = (self.fates() & Self::OLDER_MASK) << Self::OLDER_FATES;
        // Epoch 0 means "never a writer of ours", so the count skips it when it comes round.
        WriterWord(u64::from(pid) | epoch.max(1) << 32 | older | died)
    }
    /// Fates of the writers before this one, that of the last one in bit 0.
    fn fates(self) -> u64 {
        (self.0 >> Self::OLDER_FATES & Self::OLDER_MASK) << 1 | self.0 >> 63
    }
    pub(crate) fn closed(self) -> WriterWord {
        WriterWord(self.0 | Self::CLOSED)
    }
    pub(crate) fn pid(self) -> u32 {
        self.0 as u32
    }
    pub(crate) fn epoch(self) -> u32 {
        ((self.0 >> 32) & Self::EPOCH_MASK) as u32
    }
    pub(crate) fn is_closed(self) -> bool {
        self.0 & Self::CLOSED != 0
    }
    /// Whether the writer before this one died.
    pub(crate) fn predecessor_died(self) -> bool {
        self.0 & Self::PREDECESSOR_DIED != 0
    }
    /// Whether, as far as is known, one of the writers before this one died whose epoch is above `after` and at most
    /// `upto`.
    pub(crate) fn died_among(self, after: u32, upto: u32) -> bool {
        let last = self.epoch().saturating_sub(1);
        let upto = upto.min(last);
        // What lies further back than the fates reach is not known to have died.
        let (newest, oldest) = (last - upto, last.saturating_sub(after).min(u64::BITS - 1));
        let mask = (1_u64 << oldest) - 1;
        oldest > newest && self.fates() & mask >> newest << newest != 0
    }
}

/// Reserved word 4, kept by a reader of ours: bit 0 "being changed", bits 1..64 the ring position of the oldest byte
/// not given back yet.
///
/// Position and `payload_free_bytes` together say where the last committed frame ends, whatever a dead writer had
/// stored in `payload_write_pos`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TailWord(pub(crate) u64);

impl TailWord {
    pub(crate) fn settled(position: u64) -> TailWord {
        TailWord(position << 1)
    }
    pub(crate) fn changing(position: u64) -> TailWord {
        TailWord(position << 1 | 1)
    }
    pub(crate) fn is_changing(self) -> bool {
        self.0 & 1 != 0
    }
    pub(crate) fn position(self) -> u64 {
        self.0 >> 1
    }
}

/// Where the blocks of one buffer lie; checked once, then trusted, never read from shared memory again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Size of the metadata block, a multiple of 64 for buffers of ours.
    pub(crate) metadata_size: u64,
    /// Size of the classic ring, and what a frame may need at the most in either kind.
    pub(crate) payload_size: u64,
    /// Offset of the control block in the segment, if the buffer can be an extended one.
    pub(crate) control: Option<u64>,
}

impl Geometry {
    /// The largest segment we accept: the user half of a 47-bit address space.
    const MAX_TOTAL: u64 = 1 << 46;

    /// The geometry of a new buffer: sizes rounded up to the block alignment. `None` if it can't be mapped.
    pub(crate) fn new(metadata_size: u64, payload_size: u64, extension: bool) -> Option<Geometry> {
        let mut geometry = Geometry {
            metadata_size: metadata_size.checked_next_multiple_of(BLOCK_ALIGN)?,
            payload_size: payload_size.checked_next_multiple_of(BLOCK_ALIGN)?,
            control: None,
        };
        let classic = geometry.total()?;
        if extension {
            let slack = geometry.payload_size.checked_mul(3)? / 16 + Self::LEAST_SLACK;
            geometry.control = Some(classic.checked_add(slack)?.checked_next_multiple_of(LINE)?);
        }
        geometry.total().map(|_| geometry)
    }

    /// Bytes that the extended ring has beyond the payload block, and 3/16 of that: so that a frame of `payload_size - 16`
    /// bytes fits an empty ring (its header takes up to 80 bytes, its end is rounded up by up to 15), and nearly as
    /// many frames fit as in a classic ring, whatever alignment and a leap cost ([`crate::ring`]). It is memory only where
    /// frames reach it.
    const LEAST_SLACK: u64 = 128;

    /// Bytes of the extended ring: all between the start of the payload block and the control block. 0 without one.
    pub(crate) fn extended_size(&self) -> u64 {
        self.control.map_or(0, |control| (control - self.payload_offset()) & !(Spot::UNIT - 1))
    }

    /// Bytes behind the start of the payload block that frames of either kind may lie in.
    pub(crate) fn ring_size(&self) -> u64 {
        self.payload_size.max(self.extended_size())
    }

    pub(crate) fn metadata_offset(&self) -> u64 {
        u64::from(OIEB_SIZE)
    }

    /// Start of the ring.
    pub(crate) fn payload_offset(&self) -> u64 {
        // total() was Some when this geometry was accepted, so neither step can overflow.
        self.metadata_offset() + self.metadata_size.next_multiple_of(BLOCK_ALIGN)
    }

    /// Bytes of the whole segment. `None` if that is more than can be mapped.
    pub(crate) fn total(&self) -> Option<u64> {
        let metadata = self.metadata_size.checked_next_multiple_of(BLOCK_ALIGN)?;
        let payload = self.payload_size.checked_next_multiple_of(BLOCK_ALIGN)?;
        let classic = u64::from(OIEB_SIZE).checked_add(metadata)?.checked_add(payload)?;
        let total = match self.control {
            None => classic,
            Some(control) if control < classic.checked_add(Self::LEAST_SLACK)? => return None,
            Some(control) => control.checked_add(CONTROL_SIZE)?,
        };
        (total <= Self::MAX_TOTAL).then_some(total)
    }
}

/// A frame header as it stands in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) size: u64,
    pub(crate) sequence: u64,
}

impl FrameHeader {
    /// Says: the rest of the ring is unused, go on at position 0.
    pub(crate) const WRAP: FrameHeader = FrameHeader { size: 0, sequence: 0 };

    pub(crate) fn to_bytes(self) -> [u8; FRAME_HEADER] {
        let mut bytes = [0; FRAME_HEADER];
        bytes[..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sequence.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: [u8; FRAME_HEADER]) -> FrameHeader {
        let word = u128::from_le_bytes(bytes);
        FrameHeader { size: word as u64, sequence: (word >> 64) as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometry_rounds_up_and_refuses_what_cannot_be_mapped() {
        let geometry = Geometry::new(100, 1000, false).unwrap();
        assert_eq!((geometry.metadata_size, geometry.payload_size), (128, 1024));
        assert_eq!((geometry.payload_offset(), geometry.total()), (256, Some(1280)));
        assert_eq!((geometry.extended_size(), geometry.ring_size()), (0, 1024));
        for extension in [false, true] {
            assert_eq!(Geometry::new(0, u64::MAX, extension), None);
            assert_eq!(Geometry::new(u64::MAX - 63, 64, extension), None);
            assert_eq!(Geometry::new(1 << 45, 1 << 46, extension), None);
        }
        assert_eq!(Geometry::new(0, Geometry::MAX_TOTAL - 128, true), None);
    }

    #[test]
    fn the_control_block_lies_behind_the_slack() {
        let geometry = Geometry::new(100, 1000, true).unwrap();
        // 256 + 1024 + 192 + 128, rounded.
        assert_eq!((geometry.control, geometry.total()), (Some(1664), Some(1664 + 512)));
        assert_eq!((geometry.extended_size(), geometry.ring_size()), (1408, 1408));
        assert!(ExtensionWord::new(1664).control() == Some(1664) && !ExtensionWord::new(1664).is_extended());
        assert!(
            ExtensionWord(ExtensionWord::new(1664).0 | 1).is_extended() && !ExtensionWord(1).is_extended()
        );
        for misplaced in [0, 1280, Geometry::MAX_TOTAL] {
            assert_eq!(Geometry { control: Some(misplaced - misplaced % 128), ..geometry }.total(), None);
        }
    }

    #[test]
    fn spots_and_header_words_keep_their_parts() {
        let spot = Spot::new((1 << 22) - 1, 48);
        assert_eq!((spot.lap(), spot.position()), ((1 << 22) - 1, 48));
        assert_eq!((spot.next_lap().lap(), spot.next_lap().position()), (0, 0));
        assert!(spot.is_lap_before(Spot::new(0, 32)) && !Spot::new(0, 32).is_lap_before(spot));
        let word = HeaderWord::new(5_000_000_000, 4, HeaderWord::FIRST | 3);
        assert_eq!((word.len(), word.header(), word.flags()), (5_000_000_000, 64, HeaderWord::FIRST | 3));
    }

    #[test]
    fn headers_survive_the_round_trip() {
        let header = FrameHeader { size: 0x0102_0304_0506_0708, sequence: u64::MAX - 1 };
        assert_eq!(FrameHeader::from_bytes(header.to_bytes()), header);
        assert_eq!(FrameHeader::WRAP.to_bytes(), [0; 16]);
    }

    #[test]
    fn writer_words_count_epochs_and_never_reach_zero() {
        let first = WriterWord(0).next(7, false);
        assert_eq!((first.pid(), first.epoch(), first.is_closed()), (7, 1, false));
        let second = first.closed().next(8, true);
        assert_eq!((second.pid(), second.epoch()), (8, 2));
        assert!(second.predecessor_died() && !second.is_closed());
        assert!(second.died_among(0, 1) && !second.died_among(1, 2));
        let last = WriterWord(WriterWord::EPOCH_MASK << 32);
        assert_eq!(last.next(1, false).epoch(), 1);
    }

    #[test]
    fn writer_words_remember_who_died() {
        let died = [true, false, false, true, false, true, false, true, false];
        let word = died.iter().fold(WriterWord(0).next(1, false), |word, died| word.next(1, *died));
        assert_eq!(word.epoch(), 10);
        for after in 2..10 {
            for upto in after..=10 {
                let expected = (after + 1..=upto.min(9)).any(|epoch| died[epoch as usize - 1]);
                assert_eq!(word.died_among(after, upto), expected, "{after}..={upto}");
            }
        }
        // Out of reach: the first two writers.
        assert!(!word.died_among(0, 2));
        assert_eq!((word.pid(), word.is_closed(), word.closed().is_closed()), (1, false, true));
    }
}
