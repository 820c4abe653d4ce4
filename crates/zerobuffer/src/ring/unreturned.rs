//! Which frames of a writer its reader has not given back, by the kind of ring.

use std::collections::VecDeque;

use super::WriteRing;
use crate::buffer::Buffer;
use crate::layout::Cursor;
use crate::memory::Memory;
use crate::sync::Ordering;

/// Frames that were written and are not known to have been given back, oldest first.
#[derive(Default)]
pub(crate) struct Unreturned {
    /// In an extended ring, a cursor that the tail passes with the frame; in a classic one, the bytes that it took.
    marks: VecDeque<u64>,
    /// In a classic ring: the sum of these bytes.
    bytes: u64,
}

impl Unreturned {
    pub(crate) fn len(&self) -> usize {
        self.marks.len()
    }
}

impl WriteRing {
    /// Notes the frame that was committed last.
    pub(crate) fn note_unreturned(&self, unreturned: &mut Unreturned) {
        let mark = match self {
            // Its end or less: the tail moves by whole frames.
            WriteRing::Extended(side) => side.last().at(side.last().position() + Cursor::UNIT).0,
            WriteRing::Classic(side) => {
                unreturned.bytes += side.last_cost;
                side.last_cost
            }
        };
        unreturned.marks.push_back(mark);
    }

    /// Forgets the frames that have been given back.
    pub(crate) fn forget_returned(&self, buffer: &Buffer, unreturned: &mut Unreturned) {
        let mapping = &buffer.mapping;
        while let Some(&mark) = unreturned.marks.front() {
            let is_back = match self {
                WriteRing::Extended(_) => {
                    // Relaxed: nothing is overwritten because of it.
                    Cursor(mark).is_passed_by(Cursor(mapping.control().read.tail.load(Ordering::Relaxed)))
                }
                WriteRing::Classic(side) => {
                    // A count that cannot be true tells nothing.
                    let free = side.free(mapping).unwrap_or(0);
                    mapping.geometry().payload_size - free + mark <= unreturned.bytes
                }
            };
            if !is_back {
                return;
            }
            unreturned.marks.pop_front();
            if let WriteRing::Classic(_) = self {
                unreturned.bytes -= mark;
            }
        }
    }
}
