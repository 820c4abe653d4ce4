//! Leaps: how a writer in a new lap passes over what the reader has not given back of the lap before.

use crate::layout::{ControlCopy, Cursor};
use crate::memory::Memory;
use crate::sync::Ordering;
use crate::testing::stop::stop_point;

/// A leap within a lap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leap {
    pub(crate) from: Cursor,
    /// Ring position where the writer went on.
    pub(crate) to: u64,
}

impl Leap {
    /// What stands where there is no leap: no lap is left from position 0.
    const NONE: Leap = Leap { from: Cursor(0), to: 0 };

    /// The leap, if it belongs to the lap of `cursor`: its words may be those of an older lap.
    fn in_lap_of(self, cursor: Cursor) -> Option<Leap> {
        (self.from.lap() == cursor.lap() && self.from.position() != 0).then_some(self)
    }

    /// The leap that a reader finds in the lap of `cursor`. One look at shared memory.
    #[inline]
    pub(crate) fn find(memory: &impl Memory, cursor: Cursor) -> Option<Leap> {
        Leap::load(memory, cursor.parity()).in_lap_of(cursor)
    }

    /// Relaxed: stored before the head that the caller acquired, and not again before a byte of the next lap has been given
    /// back (WriteSide::place).
    fn load(memory: &impl Memory, parity: usize) -> Leap {
        let written = &memory.control().written;
        let from = Cursor(written.leap_from[parity].load(Ordering::Relaxed));
        Leap { from, to: written.leap_to[parity].load(Ordering::Relaxed) }
    }

    /// The leap that a copy of the words tells of in the lap of `cursor`.
    pub(crate) fn copied(words: &ControlCopy, cursor: Cursor) -> Option<Leap> {
        let (from, to) = words.leaps[cursor.parity()];
        Leap { from, to }.in_lap_of(cursor)
    }

    /// Whether something was committed behind the leap, in a lap of which the bytes up to `end` are: until then it has not
    /// been made, as its writer may have died.
    pub(crate) fn is_made(self, end: u64) -> bool {
        self.to < end
    }
}

/// The writer's leaps in the two laps that can be in use, by the lap's lowest bit, as in shared memory.
pub(crate) struct Leaps([Leap; 2]);

impl Leaps {
    /// Takes over the leaps of a predecessor whose last frame ends at `head`.
    pub(crate) fn resume(memory: &impl Memory, head: Cursor) -> Leaps {
        let mut leaps = Leaps([0, 1].map(|parity| Leap::load(memory, parity)));
        // A leap that was not followed by a commit has not been made.
        if leaps.0[head.parity()].from == head {
            stop_point!("connect:leap");
            leaps.clear(memory, head);
        }
        leaps
    }

    /// Where the leaps end.
    pub(crate) fn ends(&self) -> [u64; 2] {
        self.0.map(|leap| leap.to)
    }

    /// Whether the writer has leapt in the lap of `cursor`.
    pub(crate) fn is_leapt(&self, cursor: Cursor) -> bool {
        self.0[cursor.parity()].in_lap_of(cursor).is_some()
    }

    /// A tail that stands where the writer leapt: the reader goes on where the leap ends.
    pub(crate) fn follow(&self, tail: Cursor) -> Cursor {
        let leap = self.0[tail.parity()];
        if tail == leap.from && leap != Leap::NONE { tail.at(leap.to) } else { tail }
    }

    /// Leaps from `from` to position `to` of the same lap.
    pub(crate) fn leap(&mut self, memory: &impl Memory, from: Cursor, to: u64) {
        let (written, parity) = (&memory.control().written, from.parity());
        // Relaxed: the Release store of `head` follows.
        stop_point!("extended:leap-to");
        written.leap_to[parity].store(to, Ordering::Relaxed);
        stop_point!("extended:leap-from");
        written.leap_from[parity].store(from.0, Ordering::Relaxed);
        self.0[parity] = Leap { from, to };
    }

    /// Before lap `next` begins: forgets the leap of two laps ago. When the count of laps comes round it would be taken for
    /// one of that lap.
    pub(crate) fn begin_lap(&mut self, memory: &impl Memory, next: Cursor) {
        if self.0[next.parity()].from != Leap::NONE.from {
            stop_point!("extended:no-leap");
            self.clear(memory, next);
        }
    }

    fn clear(&mut self, memory: &impl Memory, cursor: Cursor) {
        let parity = cursor.parity();
        memory.control().written.leap_from[parity].store(Leap::NONE.from.0, Ordering::Relaxed);
        self.0[parity].from = Leap::NONE.from;
    }
}
