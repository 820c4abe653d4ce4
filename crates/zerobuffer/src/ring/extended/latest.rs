//! The way to the newest frame: from header to header, past the frames before it.

use super::reader::ReadSide;
use crate::layout::{Cursor, HeaderWord};
use crate::memory::Memory;
use crate::ring::{FrameRecord, flags};
use crate::sync::Ordering;
use crate::testing::stop::stop_point;

/// Frames one behind the other, from the one that was taken last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Cursor behind the last of them.
    pub(crate) end: Cursor,
    /// Bytes of the ring that they take.
    pub(crate) bytes: u64,
    /// Frames that are not cancelled.
    pub(crate) frames: u64,
    /// Sequence number of the last of them.
    pub(crate) sequence: u64,
}

/// Where a reader stands.
#[derive(Clone, Copy)]
struct Spot {
    cursor: Cursor,
    limit: u64,
    backed: u64,
    expected: u64,
    count: u64,
}

/// The newest frame so far.
#[derive(Clone, Copy)]
struct Newest {
    word: HeaderWord,
    sequence: u64,
    /// Cursor behind it.
    end: Cursor,
    /// What lies before it; `None` if it is the frame that was taken last.
    before: Option<Stretch>,
}

fn is_cancelled(flags: u16) -> bool {
    flags & flags::CANCELLED != 0
}

fn bytes(word: HeaderWord) -> u64 {
    word.header() + word.len().next_multiple_of(Cursor::UNIT)
}

impl ReadSide {
    /// Goes on from `last`, the frame that was taken last, to the newest one that is committed and not cancelled, but not
    /// past the first frame of another writer: up to the `head` that is read first, and then once more. `last` becomes that
    /// frame. Returns false if all of them are cancelled, and what is passed over, which is to be given back.
    ///
    /// `back` makes sure that the ring has memory from one position to another, and returns up to where it has: it is asked
    /// for headers, and for the newest frame.
    pub(crate) fn pass_to_newest(
        &mut self,
        memory: &impl Memory,
        last: &mut FrameRecord,
        mut back: impl FnMut(u64, u64) -> Option<u64>,
    ) -> (bool, Option<Stretch>) {
        let start = self.spot();
        let live = !is_cancelled(last.flags());
        let first = Stretch {
            end: last.end(),
            bytes: last.bytes(),
            frames: u64::from(live),
            sequence: last.sequence,
        };
        let taken = Newest { word: HeaderWord(0), sequence: last.sequence, end: last.end(), before: None };
        let mut newest = live.then_some(taken);
        // Where the reader stood behind `newest`, if cancelled frames follow it.
        let mut left = None;
        let mut all = first;
        'walk: for _ in 0..2 {
            // Acquire pairs with the Release store in WriteSide::commit: frames and lap_end are there.
            let head = Cursor(memory.control().written.head.load(Ordering::Acquire));
            if !self.go_on(memory, head) {
                break;
            }
            let mut known = self.backed;
            while self.cursor != self.head {
                if self.cursor.position() == self.limit {
                    if !self.go_on(memory, head) || self.cursor.position() == self.limit {
                        break 'walk;
                    }
                    known = self.backed;
                }
                let next = self.peek(memory, &mut known, &mut back);
                let Some((word, sequence, end)) = next else { break 'walk };
                let cancelled = is_cancelled(word.flags());
                if cancelled && newest.is_some() {
                    left.get_or_insert_with(|| self.spot());
                } else if !cancelled {
                    newest = Some(Newest { word, sequence, end, before: Some(all) });
                    left = None;
                }
                all = Stretch {
                    end,
                    bytes: all.bytes + bytes(word),
                    frames: all.frames + u64::from(!cancelled),
                    sequence,
                };
                self.cursor = end;
                self.expected = sequence.wrapping_add(1);
                self.count = self.count.wrapping_add(1);
            }
        }
        let Some(newest) = newest else {
            self.publish_count(memory);
            return (false, Some(all));
        };
        if let Some(spot) = left {
            self.stand_at(spot);
        }
        let Some(before) = newest.before else { return (true, None) };
        if !self.back_frame(newest.word, newest.end, &mut back) {
            // The next look says what is wrong with it.
            self.stand_at(start);
            return (live, (!live).then_some(first));
        }
        self.publish_count(memory);
        *last = FrameRecord::extended(newest.word, newest.sequence, newest.end, newest.end == self.head);
        (true, Some(before))
    }

    /// Takes `head` for what is committed, and goes to the next lap, or past a leap, where this one has ended. Goes nowhere
    /// if anything is wrong.
    fn go_on(&mut self, memory: &impl Memory, head: Cursor) -> bool {
        let Ok((cursor, limit)) = self.reach(memory, head) else { return false };
        if cursor != self.cursor {
            (self.cursor, self.backed) = (cursor, cursor.position());
        }
        (self.head, self.limit, self.backed) = (head, limit, self.backed.min(limit));
        true
    }

    /// The first word of the next frame, its sequence number and the cursor behind it, if there is nothing wrong with the
    /// frame, or special about it. `known`: up to where there is memory for headers.
    #[inline]
    fn peek(
        &self,
        memory: &impl Memory,
        known: &mut u64,
        back: &mut impl FnMut(u64, u64) -> Option<u64>,
    ) -> Option<(HeaderWord, u64, Cursor)> {
        let position = self.cursor.position();
        if position + Cursor::UNIT > *known {
            *known = back(position, position + Cursor::UNIT)?;
        }
        let [word, sequence] = memory.words(position)?;
        // Relaxed: the Acquire load of `head` came before. Each word is read once, so what is checked is what is used.
        let word = HeaderWord(word.load(Ordering::Relaxed));
        let sequence = sequence.load(Ordering::Relaxed);
        let end = position + bytes(word);
        let sound = word.len() > 0 && word.header() >= Cursor::UNIT && end <= self.limit;
        let in_order = sequence == self.expected || self.any_sequence;
        let plain = sound && in_order && word.flags() & HeaderWord::FIRST == 0;
        plain.then(|| (word, sequence, self.cursor.at(end)))
    }

    /// Makes sure of the memory of a frame that was found.
    fn back_frame(
        &mut self,
        word: HeaderWord,
        end: Cursor,
        back: &mut impl FnMut(u64, u64) -> Option<u64>,
    ) -> bool {
        let stands_there = self.cursor == end;
        let end = end.position();
        if stands_there && end <= self.backed {
            return true;
        }
        let Some(backed) = back(end - bytes(word), end) else { return false };
        if stands_there {
            self.backed = backed.min(self.limit);
        }
        true
    }

    fn publish_count(&self, memory: &impl Memory) {
        stop_point!("latest:count");
        memory.control().read.count.store(self.count, Ordering::Relaxed);
    }

    fn spot(&self) -> Spot {
        let ReadSide { cursor, limit, backed, expected, count, .. } = *self;
        Spot { cursor, limit, backed, expected, count }
    }

    fn stand_at(&mut self, spot: Spot) {
        let Spot { cursor, limit, backed, expected, count } = spot;
        (self.cursor, self.limit, self.backed) = (cursor, limit, backed);
        (self.expected, self.count) = (expected, count);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::config::BufferConfig;
    use crate::layout::{Control, Sharing};
    use crate::memory::mapping::Mapping;
    use crate::os;
    use crate::reader::Reader;
    use crate::ring::extended::WriteSide;
    use crate::ring::{Look, Room, Tag};
    use crate::sync::AtomicU64;

    /// A ring whose writer commits a frame at each look of the reader at a header.
    struct Eager {
        mapping: Mapping,
        writer: RefCell<WriteSide>,
    }

    impl Eager {
        fn write(&self) {
            let mut writer = self.writer.borrow_mut();
            let place = writer.place(&self.mapping, &Room { len: 8, header: 16 }, false);
            let (place, _) = place.expect("no fault").expect("room");
            writer.commit(&self.mapping, place, 8, Tag::default()).expect("no fault");
        }
    }

    impl Memory for Eager {
        fn control(&self) -> &Control {
            self.mapping.control()
        }
        fn sharing(&self) -> Option<&Sharing> {
            None
        }
        fn words(&self, position: u64) -> Option<&[AtomicU64; 2]> {
            self.write();
            self.mapping.words(position)
        }
        fn prefetch(&self, _: u64) {}
        fn prefetch_to_write(&self, _: u64) {}
    }

    #[test]
    fn a_writer_that_never_rests_is_followed_twice_and_no_further() {
        let name = format!("unit-eager-{}", std::process::id());
        let config = BufferConfig::default().payload_size(1 << 20);
        let reader = Reader::create(&name, config.clone()).unwrap();
        let segment = os::Segment::open(&name, true).unwrap();
        let mapping = Mapping::new(&segment, config.geometry(&name).unwrap(), false).unwrap();
        segment.reserve(0, config.geometry(&name).unwrap().total().unwrap()).unwrap();
        let size = mapping.geometry().extended_size();
        let mut side = ReadSide::new(&mapping, size);
        let writer = RefCell::new(WriteSide::resume(&mapping, size).unwrap());
        let memory = Eager { mapping, writer };
        (0..100).for_each(|_| memory.write());
        let Look::Frame(mut last) = side.look(&memory, |_| true, |_, to| Some(to)) else { panic!("frames") };
        let head = memory.mapping.control().written.head.load(Ordering::Relaxed);
        let behind = (Cursor(head).position() - last.end().position()) / 32;
        let (found, passed) = side.pass_to_newest(&memory, &mut last, |_, to| Some(to));
        assert!(found);
        // All that was there, and then as many that came meanwhile.
        assert_eq!(last.sequence, 1 + 2 * behind);
        assert_eq!(passed.map(|passed| passed.frames), Some(2 * behind));
        drop(reader);
    }
}
