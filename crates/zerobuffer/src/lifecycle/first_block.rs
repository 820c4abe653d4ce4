//! The first block of a segment, read through a descriptor: nothing is mapped, and read permission is enough.

use std::io;

use crate::error::Result;
use crate::layout::{CONTROL_SIZE, ControlCopy, Geometry, OIEB_SIZE, OiebCopy, ReaderWord};
use crate::lifecycle::liveness::{self, ReaderState, WriterState, WriterWords};
use crate::os::{self, FifoId};

/// A copy of a segment's first block, with the length of its file at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FirstBlock {
    pub(crate) oieb: OiebCopy,
    pub(crate) file_len: u64,
    /// The file is long enough to have a first block.
    is_whole: bool,
}

impl FirstBlock {
    pub(crate) fn read(segment: &os::Segment) -> io::Result<FirstBlock> {
        let mut bytes = [0; OIEB_SIZE as usize];
        let is_whole = segment.read_start(&mut bytes)? == bytes.len();
        Ok(FirstBlock { oieb: OiebCopy::parse(&bytes), file_len: segment.len()?, is_whole })
    }

    /// The block is still empty. A 1.x reader, which fills it in after the buffer has its name, may have just
    /// begun.
    pub(crate) fn is_blank(&self) -> bool {
        !self.is_whole || (self.oieb.oieb_size == 0 && self.oieb.reader_pid == 0)
    }

    /// Whether the block says that this is a buffer of protocol 1.
    pub(crate) fn is_of_protocol_1(&self) -> bool {
        self.is_whole && self.oieb.oieb_size == OIEB_SIZE && self.oieb.version[0] == 1
    }

    /// The FIFOs of the reader's and the writer's descriptors that the segment names.
    pub(crate) fn fifos(&self, name: &str, segment: &os::Segment) -> io::Result<[Option<FifoId>; 2]> {
        let Some(control) = self.geometry(name).ok().and_then(|geometry| geometry.control) else {
            return Ok([None; 2]);
        };
        let mut bytes = [0; CONTROL_SIZE as usize];
        segment.read_at(&mut bytes, control)?;
        let words = ControlCopy::parse(&bytes).fifos;
        Ok(words.map(|(number, inode)| (number != 0).then_some(FifoId { number, inode })))
    }

    /// The geometry that the block announces, checked against the length of the file.
    pub(crate) fn geometry(&self, name: &str) -> Result<Geometry> {
        self.oieb.check(name, self.file_len)
    }
}

fn reader_words(segment: &os::Segment) -> io::Result<(u64, ReaderWord)> {
    FirstBlock::read(segment).map(|block| (block.oieb.reader_pid, block.oieb.reader_word))
}

fn writer_words(segment: &os::Segment) -> io::Result<WriterWords> {
    FirstBlock::read(segment).map(|block| WriterWords::of(&block.oieb))
}

/// Judges the reader of `segment`.
pub(crate) fn reader_state(segment: &os::Segment) -> io::Result<ReaderState> {
    liveness::reader_state(|| reader_words(segment), segment)
}

/// Judges the writer of `segment`.
pub(crate) fn writer_state(segment: &os::Segment) -> io::Result<WriterState> {
    liveness::writer_state(|| writer_words(segment), segment)
}

/// The pid of a live writer of `segment`, if it has one.
pub(crate) fn live_writer(segment: &os::Segment) -> io::Result<Option<u64>> {
    Ok(match writer_state(segment)? {
        WriterState::Alive(_) => Some(writer_words(segment)?.shown_pid()),
        _ => None,
    })
}
