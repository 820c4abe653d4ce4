//! The reader's side of an extended ring.

use std::time::Instant;

use super::leaps::Leap;
use super::lines;
use super::poll_backoff::{Found, PollBackoff};
use crate::layout::{Cursor, HeaderWord, WriterWord};
use crate::memory::Memory;
use crate::ring::{FrameRecord, Look, RingFault};
use crate::sync::Ordering;

/// An honest writer has reserved what it commits.
fn without_memory(from: u64, to: u64) -> RingFault {
    RingFault::corrupt(format!(
        "bytes {from} to {to} count as committed, but were never written, and there is no memory for them"
    ))
}

/// How much memory a reader makes sure of at a time, where it does not know yet how large the frame is.
const STEP: u64 = 256 << 10;

/// How much it would rather make sure of: for each call it may wait for a writer that reserves more, and that one must not get
/// further ahead with every frame. Some milliseconds of work.
const STRIDE: u64 = 16 << 20;

/// Asks `back` for memory from `from` on: as much as is committed, within reason, else as much as is needed, as what was never
/// written may lie behind a frame that was.
fn back_ahead(
    back: &mut impl FnMut(u64, u64) -> Option<u64>,
    from: u64,
    needed: u64,
    limit: u64,
) -> Option<u64> {
    let wanted = limit.min(needed.max(from + STRIDE));
    back(from, wanted).or_else(|| if wanted == needed { None } else { back(from, needed) })
}

/// The word of its writer that the frame with this header carries, which lies within what has memory.
pub(crate) fn signature(memory: &impl Memory, position: u64, header: HeaderWord) -> Option<WriterWord> {
    if header.flags() & HeaderWord::SIGNED == 0 || header.header() < 2 * Cursor::UNIT {
        return None;
    }
    let [_, word] = memory.words(position + Cursor::UNIT)?;
    // Relaxed: the Acquire load of `head` came before.
    let word = WriterWord(word.load(Ordering::Relaxed));
    (word.epoch() != 0).then_some(word)
}

/// The reader's books.
pub(crate) struct ReadSide {
    /// Bytes of the ring.
    size: u64,
    /// The next header.
    pub(super) cursor: Cursor,
    /// `head` at the last look.
    pub(super) head: Cursor,
    /// Up to where the lap of `cursor` is known to be committed.
    pub(super) limit: u64,
    /// Up to where it is known to have memory too; at most `limit`.
    pub(super) backed: u64,
    /// Sequence number of the next frame.
    pub(super) expected: u64,
    /// Frames come in any order of sequence numbers (responses of a duplex server).
    pub(crate) any_sequence: bool,
    /// Frames read since the buffer was made.
    pub(super) count: u64,
    backoff: PollBackoff,
}

impl ReadSide {
    /// The reader of a ring from which nothing is held: it goes on where space was given back last.
    pub(crate) fn new(memory: &impl Memory, size: u64) -> ReadSide {
        let control = memory.control();
        // Relaxed: only readers store these, and who took the buffer over did so by acquiring `reader_word`.
        let cursor = Cursor(control.read.tail.load(Ordering::Relaxed));
        let count = control.read.count.load(Ordering::Relaxed);
        let limit = cursor.position();
        ReadSide {
            size,
            cursor,
            head: cursor,
            limit,
            backed: limit,
            expected: 1,
            any_sequence: false,
            count,
            backoff: PollBackoff::new(),
        }
    }

    /// Where the reader stands.
    pub(crate) fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Whether something was committed since the last look; may be wrong for a moment.
    #[inline]
    pub(crate) fn changed(&self, memory: &impl Memory) -> bool {
        // Relaxed: only a hint to look again.
        memory.control().written.head.load(Ordering::Relaxed) != self.cursor.0
    }

    /// Before a look that may wait: stays away for a moment, where that lets frames come together.
    #[inline]
    pub(crate) fn stay_away(&self) {
        self.backoff.stay_away();
    }

    /// After that look: the frame that it found, if it found one.
    #[inline]
    pub(crate) fn learn(&mut self, frame: Option<&FrameRecord>) {
        let behind = self.limit - self.cursor.position();
        let found = frame.map(|frame| Found { bytes: frame.bytes(), behind });
        self.backoff.learn(found, self.count, Instant::now);
    }

    /// Whether there are frames that have not been read.
    pub(crate) fn has_unread(&self, memory: &impl Memory) -> bool {
        self.cursor != self.head || self.changed(memory)
    }

    /// Takes the next frame, if it is known to be there and nothing is special about it; `false` means "look closer".
    #[inline]
    pub(crate) fn take(&mut self, memory: &impl Memory, record: &mut FrameRecord) -> bool {
        let position = self.cursor.position();
        if position >= self.backed {
            return false;
        }
        let Some([word, sequence]) = memory.words(position) else { return false };
        // Relaxed: the Acquire load of `head` came before. Each word is read once, so what is checked is what is used.
        let word = HeaderWord(word.load(Ordering::Relaxed));
        let sequence = sequence.load(Ordering::Relaxed);
        let data = position + word.header();
        let end = data + word.len().next_multiple_of(Cursor::UNIT);
        let sound = word.len() > 0 && word.header() >= Cursor::UNIT && end <= self.backed;
        let in_order = sequence == self.expected || self.any_sequence;
        if !sound || !in_order || word.flags() & HeaderWord::SPECIAL_MASK != 0 {
            return false;
        }
        lines::ask_to_read(memory, end, end - position, self.limit);
        *record = self.advance(memory, word, sequence, end);
        true
    }

    #[inline]
    fn advance(&mut self, memory: &impl Memory, word: HeaderWord, sequence: u64, end: u64) -> FrameRecord {
        self.cursor = self.cursor.at(end);
        self.expected = sequence.wrapping_add(1);
        self.count = self.count.wrapping_add(1);
        let drains = end == self.limit;
        if drains {
            // On the line that is stored to in a moment, when the frame is given back.
            memory.control().read.count.store(self.count, Ordering::Relaxed);
        }
        FrameRecord::extended(word, sequence, self.cursor, drains)
    }

    /// Looks for the next frame and takes it. `begins` is asked before the first frame of another writer is taken, whose word
    /// it gets, if the frame carries it. `back` makes sure that the ring has memory from one position to another, before anything there is touched, and returns up to where it has.
    pub(crate) fn look(
        &mut self,
        memory: &impl Memory,
        begins: impl FnMut(Option<WriterWord>) -> bool,
        mut back: impl FnMut(u64, u64) -> Option<u64>,
    ) -> Look {
        if let Err(fault) = self.refresh(memory, &mut back) {
            return Look::Unsure(fault);
        }
        if self.cursor == self.head {
            return Look::Empty;
        }
        self.judge(memory, begins, &mut back)
    }

    /// Reads `head`, and finds out up to where the reader may go. Goes nowhere if anything is wrong: `limit` belongs to the
    /// lap of `cursor`, and in another lap it would make frames of what was never committed.
    pub(crate) fn refresh(
        &mut self,
        memory: &impl Memory,
        back: &mut impl FnMut(u64, u64) -> Option<u64>,
    ) -> Result<(), RingFault> {
        if self.cursor.position() == self.limit {
            // Acquire pairs with the Release store in WriteSide::commit: frames and lap_end are there.
            self.head = Cursor(memory.control().written.head.load(Ordering::Acquire));
        }
        let (cursor, limit) = self.reach(memory, self.head)?;
        let from = cursor.position();
        let backed = match from < limit {
            true => back_ahead(back, from, limit.min(from + STEP), limit)
                .ok_or_else(|| without_memory(from, limit))?,
            false => limit,
        };
        (self.cursor, self.limit, self.backed) = (cursor, limit, backed.min(limit));
        if from < limit {
            lines::ask_for_first(memory, from, limit);
        }
        Ok(())
    }

    /// Where the reader goes on, and up to where that lap is committed, for a `head` that was read after the bytes before the
    /// cursor.
    #[inline(always)]
    pub(super) fn reach(&self, memory: &impl Memory, head: Cursor) -> Result<(Cursor, u64), RingFault> {
        let control = memory.control();
        let bounded = |limit: u64, from: u64| {
            (from <= limit && limit <= self.size && limit.is_multiple_of(Cursor::UNIT))
                .then_some(limit)
                .ok_or_else(|| {
                    RingFault::corrupt(format!("frames end at {limit} of {} bytes, behind {from}", self.size))
                })
        };
        let mut next = (self.cursor, self.limit);
        // Once for the rest of this lap, once for the next one.
        for _ in 0..2 {
            let cursor = next.0;
            // Relaxed: stored before the head that was acquired, and not again before a byte of the next lap has been given
            // back (WriteSide::place).
            let in_this_lap = head.lap() == cursor.lap();
            let end = match in_this_lap {
                true => head.position(),
                false if cursor.is_lap_before(head) => control.written.lap_end.load(Ordering::Relaxed),
                false => {
                    let laps = (head.lap(), cursor.lap());
                    return Err(RingFault::corrupt(format!(
                        "the writer is in lap {}, the reader in {}",
                        laps.0, laps.1
                    )));
                }
            };
            let end = bounded(end, cursor.position())?;
            let leap = Leap::find(memory, cursor)
                .filter(|leap| cursor.position() <= leap.from.position())
                .filter(|leap| !in_this_lap || leap.is_made(end));
            next = match leap {
                None => (cursor, end),
                Some(Leap { from, .. }) if cursor.position() < from.position() => {
                    (cursor, bounded(from.position(), cursor.position())?.min(end))
                }
                Some(Leap { to, .. }) => (cursor.at(bounded(to, cursor.position())?), bounded(end, to)?),
            };
            if next.0.position() < next.1 || head.lap() == cursor.lap() {
                break;
            }
            next.0 = cursor.next_lap();
        }
        Ok(next)
    }

    /// What is wrong with the next frame, or special about it.
    fn judge(
        &mut self,
        memory: &impl Memory,
        mut begins: impl FnMut(Option<WriterWord>) -> bool,
        back: &mut impl FnMut(u64, u64) -> Option<u64>,
    ) -> Look {
        let position = self.cursor.position();
        let Some([word, sequence]) = memory.words(position) else {
            return Look::Unsure(RingFault::corrupt(format!("read position {position} is out of bounds")));
        };
        let word = HeaderWord(word.load(Ordering::Relaxed));
        let sequence = sequence.load(Ordering::Relaxed);
        let data = position + word.header();
        let end = data + word.len().next_multiple_of(Cursor::UNIT);
        if word.len() == 0 || word.header() < Cursor::UNIT || end > self.limit {
            let (len, header) = (word.len(), word.header());
            return Look::Unsure(RingFault::corrupt(format!(
                "a frame of {len} bytes with a header of {header} at {position} does not fit what is committed, which \
                 ends at {}",
                self.limit
            )));
        }
        if word.flags() & HeaderWord::FIRST != 0 {
            let writer = signature(memory, position, word);
            if !begins(writer) {
                return Look::Restart(writer);
            }
        } else if sequence != self.expected && !self.any_sequence {
            return Look::Unsure(RingFault::out_of_sequence(self.expected, sequence));
        }
        if end > self.backed {
            let Some(backed) = back_ahead(back, position, end, self.limit) else {
                return Look::Unsure(without_memory(position, end));
            };
            self.backed = backed.min(self.limit);
        }
        let record = self.advance(memory, word, sequence, end);
        // A reference keeps many bytes elsewhere, so it is not withheld.
        let shared = word.flags() & HeaderWord::SHARED != 0;
        Look::Frame(if shared { FrameRecord::extended(word, sequence, record.end(), true) } else { record })
    }

    /// Stands before the frame that was taken last, again.
    #[cold]
    pub(crate) fn put_back(&mut self, record: &FrameRecord) {
        // Elsewhere in the stream nothing is known of what is committed there.
        if self.cursor == record.end() {
            self.cursor = self.cursor.at(record.header());
            self.expected = record.sequence;
            self.count = self.count.wrapping_sub(1);
        }
    }
}
