//! The control block of an extended ring.

use core::mem::{offset_of, size_of};

use super::words::Cursor;
use crate::sync::{AtomicU32, AtomicU64};

/// Alignment of the control block and of its lines: two cache lines, since x86 fetches them in pairs.
pub(crate) const LINE: u64 = 128;

/// The control block of an extended ring, at the offset that the extension word names. One side writes each
/// line (both sides write the doorbells, rarely), so that neither takes a line that the other needs for its
/// next frame.
#[repr(C)]
pub(crate) struct Control {
    /// Written by the writer.
    pub(crate) written: WrittenLine,
    /// Written by the reader.
    pub(crate) read: ReadLine,
    /// The reader's doorbell ([`crate::wait::doorbell`]): tells the writer whether the reader sleeps.
    pub(crate) reader_bell: BellLine,
    /// The writer's doorbell: tells the reader whether the writer sleeps, or needs space.
    pub(crate) writer_bell: BellLine,
}

#[repr(C, align(128))]
pub(crate) struct WrittenLine {
    /// [`Cursor`] behind the last committed frame: its store is the commit.
    pub(crate) head: AtomicU64,
    /// Ring position at which the lap before that of `head` ended.
    pub(crate) lap_end: AtomicU64,
    /// [`Cursor`] from which the writer leapt ahead within its lap, by the lap's lowest bit.
    pub(crate) leap_from: [AtomicU64; 2],
    /// Ring position to which it leapt.
    pub(crate) leap_to: [AtomicU64; 2],
    /// Frames committed since the buffer was created; for tools.
    pub(crate) count: AtomicU64,
}

#[repr(C, align(128))]
pub(crate) struct ReadLine {
    /// [`Cursor`] of the oldest byte not given back.
    pub(crate) tail: AtomicU64,
    /// Frames read; for tools.
    pub(crate) count: AtomicU64,
}

#[repr(C, align(128))]
pub(crate) struct BellLine {
    pub(crate) bell: AtomicU32,
    /// The number of the FIFO behind the owner's descriptor; 0 = none.
    pub(crate) fifo: AtomicU64,
    /// Its inode; stored first.
    pub(crate) inode: AtomicU64,
}

impl BellLine {
    /// The bell of an owner that has no descriptor.
    #[cfg(test)]
    pub(crate) fn new() -> BellLine {
        BellLine { bell: AtomicU32::new(0), fifo: AtomicU64::new(0), inode: AtomicU64::new(0) }
    }
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
    assert!(offset_of!(BellLine, bell) == 0);
    assert!(offset_of!(BellLine, fifo) == 8);
    assert!(offset_of!(BellLine, inode) == 16);
};

/// A plain copy of the control block's words, for tools that only look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ControlCopy {
    pub(crate) head: Cursor,
    pub(crate) lap_end: u64,
    /// Where the writer leapt from, and to, by the lap's lowest bit.
    pub(crate) leaps: [(Cursor, u64); 2],
    pub(crate) written_count: u64,
    pub(crate) tail: Cursor,
    pub(crate) read_count: u64,
    /// Number and inode of the FIFOs of the reader and the writer; number 0: none.
    pub(crate) fifos: [(u64, u64); 2],
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
            let from = Cursor(written(offset_of!(WrittenLine, leap_from) + 8 * index));
            (from, written(offset_of!(WrittenLine, leap_to) + 8 * index))
        };
        ControlCopy {
            head: Cursor(written(offset_of!(WrittenLine, head))),
            lap_end: written(offset_of!(WrittenLine, lap_end)),
            leaps: [leap(0), leap(1)],
            written_count: written(offset_of!(WrittenLine, count)),
            tail: Cursor(read(offset_of!(ReadLine, tail))),
            read_count: read(offset_of!(ReadLine, count)),
            fifos: [offset_of!(Control, reader_bell), offset_of!(Control, writer_bell)]
                .map(|line| (at(line + offset_of!(BellLine, fifo)), at(line + offset_of!(BellLine, inode)))),
        }
    }
}
