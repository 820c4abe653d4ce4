//! The block at the start of every buffer, and the bytes of it that roles lock.

use core::mem::offset_of;

use super::words::{ExtensionWord, ReaderWord, WriterWord};
use crate::sync::{AtomicU32, AtomicU64};

/// Value of `oieb_size`, and the size of the block.
pub(crate) const OIEB_SIZE: u32 = 128;
/// Major, minor, patch, reserved = 1, 0, 0, 0 as one little-endian word.
pub(crate) const VERSION_1_0_0: u32 = 1;

/// Byte of the segment that a native reader locks: that of `reader_pid`.
pub(crate) const READER_ROLE_BYTE: i64 = offset_of!(Oieb, reader_pid) as i64;
/// Byte of the segment that a keeper (`KeptBuffer`) locks: that of `reader_word`.
pub(crate) const KEEPER_ROLE_BYTE: i64 = offset_of!(Oieb, reader_word) as i64;
/// Byte of the segment that a native writer locks: that of `writer_pid`.
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
