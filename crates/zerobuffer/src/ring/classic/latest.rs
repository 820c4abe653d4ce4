//! The way to the newest frame: from header to header, past the frames before it.

use super::plan::{self, HEADER};
use super::reader::{MAX_SKIPS, ReadSide};
use super::release::ReleaseQueue;
use crate::layout::FrameHeader;
use crate::memory::mapping::Mapping;
use crate::memory::reserve::Reserver;
use crate::ring::FrameRecord;

/// Where a reader stands.
#[derive(Clone, Copy)]
struct Spot {
    position: u64,
    expected: u64,
    backlog: u64,
    read_count: u64,
}

impl ReadSide {
    /// Goes on from `last`, the frame that was taken last, to the newest one that is committed, but not past the first frame of
    /// another writer: as far as the count says that is read first, and then once more. `last` becomes that frame. Returns how many
    /// frames are passed over, and whether bytes went back to the writer, which is to be woken.
    pub(crate) fn pass_to_newest(
        &mut self,
        mapping: &Mapping,
        queue: &mut ReleaseQueue,
        memory: &mut Reserver,
        last: &mut FrameRecord,
        writer_is_short: impl FnOnce() -> bool,
    ) -> (u64, bool) {
        let start = self.spot(queue);
        // Bytes behind `last`, and frames with it.
        let (mut bytes, mut frames) = (0, 0);
        let mut newest = None;
        for _ in 0..2 {
            let Some(unread) = self.unread(mapping, queue).ok().and_then(|all| all.checked_sub(bytes)) else {
                break;
            };
            queue.set_backlog(unread);
            while let Some((header, need, with_skips)) = self.pass(mapping, queue, memory) {
                newest = Some((header, need));
                bytes += with_skips;
                frames += 1;
            }
            if queue.backlog > 0 {
                break;
            }
        }
        let Some((header, need)) = newest else { return (0, false) };
        // The position is behind the frame, also at the ring's end.
        let begin = self.position - need;
        if memory.ensure(begin, self.position).is_err() {
            // The next look says what is wrong with it.
            self.stand_at(queue, start);
            return (0, false);
        }
        self.note_read(bytes);
        queue.pass_over(last.ticket, bytes - need);
        let ticket = queue.push(need, header.sequence);
        queue.read_pos = self.position;
        queue.published = false;
        let given_back = queue.release(mapping, last.ticket, writer_is_short);
        queue.take_wake();
        *last = FrameRecord::classic(begin + HEADER, header.size, header.sequence, ticket);
        (frames, given_back)
    }

    /// Passes the next frame, if there is nothing wrong with it, or special about it. Returns its header, the bytes that it takes, and
    /// these with the bytes that are skipped before it.
    fn pass(
        &mut self,
        mapping: &Mapping,
        queue: &mut ReleaseQueue,
        memory: &mut Reserver,
    ) -> Option<(FrameHeader, u64, u64)> {
        let start = self.spot(queue);
        let mut skipped = 0;
        for _ in 0..=MAX_SKIPS {
            match self.next(mapping, queue, memory) {
                Next::Frame(header) => {
                    let need = header.size + HEADER;
                    self.position += need;
                    self.expected = header.sequence.wrapping_add(1);
                    queue.backlog -= need;
                    queue.read_count = queue.read_count.wrapping_add(1);
                    return Some((header, need, need + skipped));
                }
                Next::Skip { bytes, marker } => {
                    self.position = 0;
                    queue.backlog -= bytes;
                    queue.read_count = queue.read_count.wrapping_add(u64::from(marker));
                    skipped += bytes;
                }
                Next::Nothing => break,
            }
        }
        // A skip without a frame behind it is for the next look.
        self.stand_at(queue, start);
        None
    }

    fn next(&self, mapping: &Mapping, queue: &ReleaseQueue, memory: &mut Reserver) -> Next {
        let (unread, capacity) = (queue.backlog, mapping.geometry().payload_size);
        if unread == 0 {
            return Next::Nothing;
        }
        if let Some(gap) = plan::gap(capacity, self.position) {
            return match unread > gap && !self.contradicted(mapping, memory, unread) {
                true => Next::Skip { bytes: gap, marker: false },
                false => Next::Nothing,
            };
        }
        let rest = capacity - self.position;
        if memory.ensure(self.position, self.position + HEADER).is_err() {
            return Next::Nothing;
        }
        let Some(header) = mapping.read_header(self.position) else { return Next::Nothing };
        if header == FrameHeader::WRAP && unread >= rest {
            return match self.contradicted(mapping, memory, unread) {
                true => Next::Nothing,
                false => Next::Skip { bytes: rest, marker: true },
            };
        }
        let fits = header.size.checked_add(HEADER).is_some_and(|need| need <= unread && need <= rest);
        // A frame with the number 1 is the first of its writer.
        let in_order = (header.sequence == self.expected || self.any_sequence) && header.sequence != 1;
        if fits && header.size > 0 && in_order { Next::Frame(header) } else { Next::Nothing }
    }

    fn spot(&self, queue: &ReleaseQueue) -> Spot {
        Spot {
            position: self.position,
            expected: self.expected,
            backlog: queue.backlog,
            read_count: queue.read_count,
        }
    }

    fn stand_at(&mut self, queue: &mut ReleaseQueue, spot: Spot) {
        (self.position, self.expected) = (spot.position, spot.expected);
        (queue.backlog, queue.read_count) = (spot.backlog, spot.read_count);
    }
}

/// What lies ahead in the backlog.
enum Next {
    Frame(FrameHeader),
    /// Bytes at the end of the ring, with a marker or too few for one.
    Skip {
        bytes: u64,
        marker: bool,
    },
    /// Nothing, or something for a closer look.
    Nothing,
}
