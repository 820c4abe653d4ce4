//! The reader's side of an extended ring.

use super::plan::CACHE_LINE;
use super::{AHEAD, PLAIN_HEADER, corrupt, is_leap};
use crate::error::ErrorKind;
use crate::layout::{HeaderWord, Spot};
use crate::memory::Memory;
use crate::ring::{Located, Look, Trouble};
use crate::sync::Ordering;

/// An honest writer has reserved what it commits.
fn without_memory(from: u64, to: u64) -> Trouble {
    corrupt(format!(
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

/// The reader's books.
pub(crate) struct ReadSide {
    /// Bytes of the ring.
    size: u64,
    /// The next header.
    spot: Spot,
    /// `head` at the last look.
    head: Spot,
    /// Up to where the lap of `spot` is known to be committed.
    limit: u64,
    /// Up to where it is known to have memory too; at most `limit`.
    backed: u64,
    /// Sequence number of the next frame.
    expected: u64,
    /// Frames come in any order of sequence numbers (responses of a duplex server).
    pub(crate) any_sequence: bool,
    /// Frames read since the buffer was made.
    count: u64,
}

impl ReadSide {
    /// The reader of a ring from which nothing is held: it goes on where space was given back last.
    pub(crate) fn new(memory: &impl Memory, size: u64) -> ReadSide {
        let control = memory.control();
        // Relaxed: only readers store these, and who took the buffer over did so by acquiring `reader_word`.
        let spot = Spot(control.read.tail.load(Ordering::Relaxed));
        let count = control.read.count.load(Ordering::Relaxed);
        let limit = spot.position();
        ReadSide { size, spot, head: spot, limit, backed: limit, expected: 1, any_sequence: false, count }
    }

    /// Where the reader stands.
    pub(crate) fn spot(&self) -> Spot {
        self.spot
    }

    /// Whether something was committed since the last look; may be wrong for a moment.
    #[inline]
    pub(crate) fn changed(&self, memory: &impl Memory) -> bool {
        // Relaxed: only a hint to look again.
        memory.control().written.head.load(Ordering::Relaxed) != self.spot.0
    }

    /// Bytes of the ring that are known to be committed in this lap and have not been read.
    #[inline]
    pub(crate) fn known_bytes(&self) -> u64 {
        self.limit - self.spot.position()
    }

    /// Whether there are frames that have not been read.
    pub(crate) fn has_unread(&self, memory: &impl Memory) -> bool {
        self.spot != self.head || self.changed(memory)
    }

    /// Takes the next frame, if it is known to be there and nothing is special about it; `false` says "look closer".
    #[inline]
    pub(crate) fn take(&mut self, memory: &impl Memory, located: &mut Located) -> bool {
        let position = self.spot.position();
        if position >= self.backed {
            return false;
        }
        let Some([word, sequence]) = memory.words(position) else { return false };
        // Relaxed: the Acquire load of `head` came before. Each word is read once, so what is checked is what is used.
        let word = HeaderWord(word.load(Ordering::Relaxed));
        let sequence = sequence.load(Ordering::Relaxed);
        let data = position + word.header();
        let end = data + word.len().next_multiple_of(Spot::UNIT);
        let sound = word.len() > 0 && word.header() >= PLAIN_HEADER && end <= self.backed;
        let in_order = sequence == self.expected || self.any_sequence;
        if !sound || !in_order || word.flags() & HeaderWord::FIRST != 0 {
            return false;
        }
        if end + AHEAD <= self.limit {
            // Of what lies further ahead a small frame has one line or two.
            memory.prefetch(end + AHEAD - CACHE_LINE);
            memory.prefetch(end + AHEAD - 2 * CACHE_LINE);
        }
        *located = self.advance(memory, word, sequence, end);
        true
    }

    #[inline]
    fn advance(&mut self, memory: &impl Memory, word: HeaderWord, sequence: u64, end: u64) -> Located {
        self.spot = self.spot.at(end);
        self.expected = sequence.wrapping_add(1);
        self.count = self.count.wrapping_add(1);
        let drains = end == self.limit;
        if drains {
            // On the line that is stored to in a moment, when the frame is given back.
            memory.control().read.count.store(self.count, Ordering::Relaxed);
        }
        Located::extended(word, sequence, self.spot, drains)
    }

    /// Looks for the next frame and takes it. `restart` allows the first frame of another writer; `back` makes sure
    /// that the ring has memory from one position to another, before anything there is touched, and says up to where it has.
    pub(crate) fn look(
        &mut self,
        memory: &impl Memory,
        restart: bool,
        mut back: impl FnMut(u64, u64) -> Option<u64>,
    ) -> Look {
        if let Err(trouble) = self.refresh(memory, &mut back) {
            return Look::Unsure(trouble);
        }
        if self.spot == self.head {
            return Look::Empty;
        }
        self.judge(memory, restart, &mut back)
    }

    /// Reads `head`, and finds out up to where the reader may go. Goes nowhere if anything is wrong: `limit` belongs to the
    /// lap of `spot`, and in another lap it would make frames of what nobody has committed.
    pub(crate) fn refresh(
        &mut self,
        memory: &impl Memory,
        back: &mut impl FnMut(u64, u64) -> Option<u64>,
    ) -> Result<(), Trouble> {
        let control = memory.control();
        if self.spot.position() == self.limit {
            // Acquire pairs with the Release store in WriteSide::commit: frames and lap_end are there.
            self.head = Spot(control.written.head.load(Ordering::Acquire));
        }
        let head = self.head;
        let bounded = |limit: u64, from: u64| {
            (from <= limit && limit <= self.size && limit.is_multiple_of(Spot::UNIT))
                .then_some(limit)
                .ok_or_else(|| {
                    corrupt(format!("frames end at {limit} of {} bytes, behind {from}", self.size))
                })
        };
        let mut next = (self.spot, self.limit);
        // Once for the rest of this lap, once for the next one.
        for _ in 0..2 {
            let spot = next.0;
            // Relaxed here and below: stored before the head that we acquired; and not again before we have given back a
            // byte of the next lap (WriteSide::place).
            let end = match head.lap() == spot.lap() {
                true => head.position(),
                false if spot.is_lap_before(head) => control.written.lap_end.load(Ordering::Relaxed),
                false => {
                    let laps = (head.lap(), spot.lap());
                    return Err(corrupt(format!(
                        "the writer is in lap {}, the reader in {}",
                        laps.0, laps.1
                    )));
                }
            };
            let end = bounded(end, spot.position())?;
            let from = Spot(control.written.leap_from[spot.parity()].load(Ordering::Relaxed));
            let to = control.written.leap_to[spot.parity()].load(Ordering::Relaxed);
            let leapt = is_leap(from, spot) && spot.position() <= from.position();
            // A leap counts once something behind it is committed.
            next = if !leapt || (head.lap() == spot.lap() && end <= to) {
                (spot, end)
            } else if spot.position() < from.position() {
                (spot, bounded(from.position(), spot.position())?.min(end))
            } else {
                (spot.at(bounded(to, spot.position())?), bounded(end, to)?)
            };
            if next.0.position() < next.1 || head.lap() == spot.lap() {
                break;
            }
            next.0 = spot.next_lap();
        }
        let (spot, limit) = next;
        let from = spot.position();
        let backed = match from < limit {
            true => back_ahead(back, from, limit.min(from + STEP), limit)
                .ok_or_else(|| without_memory(from, limit))?,
            false => limit,
        };
        (self.spot, self.limit, self.backed) = (spot, limit, backed.min(limit));
        // Only what is committed: the line of a header that is being written would be taken from the writer.
        let mut line = self.spot.position();
        while line < self.limit.min(self.spot.position() + AHEAD) {
            memory.prefetch(line);
            line += CACHE_LINE;
        }
        Ok(())
    }

    /// What is wrong with the next frame, or special about it.
    fn judge(
        &mut self,
        memory: &impl Memory,
        restart: bool,
        back: &mut impl FnMut(u64, u64) -> Option<u64>,
    ) -> Look {
        let position = self.spot.position();
        let Some([word, sequence]) = memory.words(position) else {
            return Look::Unsure(corrupt(format!("read position {position} is out of bounds")));
        };
        let word = HeaderWord(word.load(Ordering::Relaxed));
        let sequence = sequence.load(Ordering::Relaxed);
        let data = position + word.header();
        let end = data + word.len().next_multiple_of(Spot::UNIT);
        if word.len() == 0 || word.header() < PLAIN_HEADER || end > self.limit {
            let (len, header) = (word.len(), word.header());
            return Look::Unsure(corrupt(format!(
                "a frame of {len} bytes with a header of {header} at {position} does not fit what is committed, which \
                 ends at {}",
                self.limit
            )));
        }
        if word.flags() & HeaderWord::FIRST != 0 {
            if !restart {
                return Look::Restart;
            }
        } else if sequence != self.expected && !self.any_sequence {
            return Look::Unsure(Trouble {
                kind: ErrorKind::SequenceError,
                message: format!(
                    "frame {} was expected, {sequence} was found: frames were lost or overwritten; close the reader \
                     and create it anew",
                    self.expected
                ),
            });
        }
        if end > self.backed {
            let Some(backed) = back_ahead(back, position, end, self.limit) else {
                return Look::Unsure(without_memory(position, end));
            };
            self.backed = backed.min(self.limit);
        }
        Look::Frame(self.advance(memory, word, sequence, end))
    }
}
