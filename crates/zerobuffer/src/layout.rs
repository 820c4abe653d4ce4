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
    /// Reserved 1: announces the extension block; 0 = none. Always 0 in this version.
    pub(crate) extension: AtomicU64,
    /// Reserved 2: see [`ReaderWord`].
    pub(crate) reader_word: AtomicU64,
    /// Reserved 3: see [`WriterWord`].
    pub(crate) writer_word: AtomicU64,
    /// Reserved 4: see [`TailWord`].
    pub(crate) tail_word: AtomicU64,
}

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
    pub(crate) extension: u64,
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
            extension: u64_at(offset_of!(Oieb, extension)),
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
        let geometry = Geometry { metadata_size: self.metadata_size, payload_size: self.payload_size };
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
    /// Size of the ring.
    pub(crate) payload_size: u64,
}

impl Geometry {
    /// The largest segment we accept: the user half of a 47-bit address space.
    const MAX_TOTAL: u64 = 1 << 46;

    /// The geometry of a new buffer: sizes rounded up to the block alignment. `None` if it can't be mapped.
    pub(crate) fn new(metadata_size: u64, payload_size: u64) -> Option<Geometry> {
        let geometry = Geometry {
            metadata_size: metadata_size.checked_next_multiple_of(BLOCK_ALIGN)?,
            payload_size: payload_size.checked_next_multiple_of(BLOCK_ALIGN)?,
        };
        geometry.total().map(|_| geometry)
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
        let total = u64::from(OIEB_SIZE).checked_add(metadata)?.checked_add(payload)?;
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
        let geometry = Geometry::new(100, 1000).unwrap();
        assert_eq!((geometry.metadata_size, geometry.payload_size), (128, 1024));
        assert_eq!((geometry.payload_offset(), geometry.total()), (256, Some(1280)));
        assert_eq!(Geometry::new(0, u64::MAX), None);
        assert_eq!(Geometry::new(u64::MAX - 63, 64), None);
        assert_eq!(Geometry::new(1 << 45, 1 << 46), None);
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
