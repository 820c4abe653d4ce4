//! Where the next frame goes: wrap and space arithmetic on plain numbers, no pointers, no atomics.
//!
//! A ring of `capacity` bytes holds frames of `need` bytes (header and data). A frame never straddles the end: a frame
//! that does not fit there goes to position 0, and pays for the bytes that are skipped.
//!
//! Two rules come from 1.x peers (docs/PROTOCOL.md, "Wrapping"). Fewer than 16 bytes at the end (a *gap*) leave no room for
//! a wrap marker, so a frame that would leave a gap wraps early if it can; towards a 1.x reader, which may die of a gap, it
//! even waits for that. And the way back to 0 is free towards a native reader only.

use crate::layout::FRAME_HEADER;

pub(super) const HEADER: u64 = FRAME_HEADER as u64;

/// A place for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Ring position of the frame's header.
    pub(crate) start: u64,
    /// Bytes skipped at the end of the ring, charged with the frame. A marker is written if it is 16 or more.
    pub(crate) skip: u64,
    /// The ring is empty, and reader and writer go back to 0 together, for free.
    pub(crate) rewind: bool,
}

/// What to do about a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    Place(Placement),
    /// Wait until `free` bytes are free. More than the capacity means: never, with this reader.
    Wait {
        free: u64,
    },
}

/// One question to [`plan`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    pub(crate) capacity: u64,
    /// Where the next header would go, below `capacity`.
    pub(crate) position: u64,
    /// Bytes free now, at most `capacity`.
    pub(crate) free: u64,
    /// Bytes of header and data, at least 17, at most `capacity`.
    pub(crate) need: u64,
    /// The reader is a native peer: it follows when an empty ring is taken back to 0, and passes every gap.
    pub(crate) native: bool,
    /// No memory behind the place straight ahead: only the start of the ring will do.
    pub(crate) only_start: bool,
}

/// An empty ring is taken back to 0 rather than walked past this, so that small loads stay in the caches (half of the
/// 2 MiB of a core's L2 on the machines we measured; see docs/DESIGN.md).
pub(crate) const HOT_BYTES: u64 = 1 << 20;

/// Decides where the next frame goes.
pub(crate) fn plan(q: Question) -> Plan {
    let Question { capacity, position, free, need, native, .. } = q;
    debug_assert!(position < capacity && free <= capacity && need <= capacity && need > HEADER);
    let rest = capacity - position;
    let empty = free == capacity;

    if empty && position > 0 && native && (need > rest || position + need > HOT_BYTES || q.only_start) {
        return Plan::Place(Placement { start: 0, skip: 0, rewind: true });
    }

    let wrap = Placement { start: 0, skip: rest, rewind: false };
    let wrap_cost = rest + need;
    let wrap_possible = position > 0 && wrap_cost <= capacity;
    let straight_possible = need <= rest && !(q.only_start && position > 0);

    let leaves_gap = straight_possible && leaves_gap(capacity, position + need);
    // Towards a 1.x reader, an empty ring is taken back past its middle, so that a large frame rarely finds no place.
    let early = empty && !native && position >= capacity / 2;

    if wrap_possible && (!straight_possible || leaves_gap || early) {
        if wrap_cost <= free {
            return Plan::Place(wrap);
        }
        if !straight_possible || !native {
            return Plan::Wait { free: wrap_cost };
        }
    }
    if straight_possible {
        let straight = Placement { start: position, skip: 0, rewind: false };
        return if need <= free { Plan::Place(straight) } else { Plan::Wait { free: need } };
    }
    // Neither fits before the ring is empty; then a native reader goes back to 0 with the writer.
    Plan::Wait { free: if native { capacity } else { wrap_cost } }
}

/// Whether a frame that ends at `end` leaves a gap: too little room for a wrap marker, but some.
pub(crate) fn leaves_gap(capacity: u64, end: u64) -> bool {
    gap(capacity, end).is_some_and(|gap| gap > 0)
}

/// Bytes to skip at `position` before the next header, if fewer than a header fit before the end.
pub(crate) fn gap(capacity: u64, position: u64) -> Option<u64> {
    let rest = capacity.saturating_sub(position);
    (rest < HEADER).then_some(rest)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A ring as simple as it can be: each byte knows whether it is taken.
    struct Model {
        taken: Vec<bool>,
        position: u64,
        /// (start, skip_from, cost bytes as indices) of frames not given back, oldest first.
        live: VecDeque<Vec<usize>>,
    }

    impl Model {
        fn free(&self) -> u64 {
            self.taken.iter().filter(|taken| !**taken).count() as u64
        }
        fn take(&mut self, placement: Placement, need: u64) {
            let capacity = self.taken.len() as u64;
            if placement.rewind {
                assert!(self.live.is_empty(), "rewound a ring that is not empty");
                self.position = 0;
            }
            let mut bytes = Vec::new();
            for i in 0..placement.skip {
                bytes.push((self.position + i) as usize);
            }
            if placement.skip > 0 {
                assert_eq!(self.position + placement.skip, capacity, "a skip reaches the end exactly");
                assert_eq!(placement.start, 0);
            } else {
                assert_eq!(placement.start, self.position);
            }
            assert!(placement.start + need <= capacity, "a frame straddles the end");
            bytes.extend((placement.start..placement.start + need).map(|at| at as usize));
            for &byte in &bytes {
                assert!(!std::mem::replace(&mut self.taken[byte], true), "byte {byte} given out twice");
            }
            self.live.push_back(bytes);
            self.position = (placement.start + need) % capacity;
        }
        fn give_back(&mut self) {
            if let Some(bytes) = self.live.pop_front() {
                bytes.into_iter().for_each(|byte| self.taken[byte] = false);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        /// No byte is given out twice, no frame straddles the end, and a drained ring takes every legal frame if its reader is
        /// a native one.
        #[test]
        fn placements_agree_with_a_byte_map(
            blocks in 1_u64..12,
            native: bool,
            steps in prop::collection::vec((1_u64..800, any::<bool>(), 0_u8..4), 1..200),
        ) {
            let capacity = blocks * 64;
            let mut model =
                Model { taken: vec![false; capacity as usize], position: 0, live: VecDeque::new() };
            for (size, shrinks, reads) in steps {
                let need = (size % (capacity - HEADER)) + 1 + HEADER;
                loop {
                    let question = Question {
                        capacity, position: model.position, free: model.free(), need, native, only_start: false,
                    };
                    match plan(question) {
                        Plan::Place(placement) => {
                            let shorter = if shrinks { (size * 7) % (need - HEADER) } else { 0 };
                            model.take(placement, need - shorter);
                            break;
                        }
                        Plan::Wait { free } => {
                            prop_assert!(free > model.free());
                            if model.live.is_empty() {
                                prop_assert!(!native, "an empty ring refused {need} of {capacity}");
                                prop_assert!(free > capacity, "told to wait for what is there");
                                break;
                            }
                            model.give_back();
                        }
                    }
                }
                (0..reads).for_each(|_| model.give_back());
            }
        }

        /// A gap of 1 to 15 bytes is left only where the frame can never wrap, or, before a native reader, where it cannot now.
        #[test]
        fn gaps_are_left_only_where_nothing_else_fits(
            blocks in 1_u64..12, position in 0_u64..768, size in 1_u64..768, part in 0_u64..=8, native: bool,
        ) {
            let capacity = blocks * 64;
            let position = position % capacity;
            let need = (size % (capacity - HEADER)) + 1 + HEADER;
            let free = capacity * part / 8;
            let question = Question { capacity, position, free, need, native, only_start: false };
            match plan(question) {
                Plan::Place(Placement { start, skip: 0, .. }) if leaves_gap(capacity, start + need) => {
                    let most = if native { free } else { capacity };
                    prop_assert!(start == 0 || (capacity - start) + need > most);
                }
                // Nothing waits for a native reader that has room straight ahead.
                Plan::Wait { .. } => prop_assert!(!native || need > free || position + need > capacity),
                Plan::Place(_) => {}
            }
        }
    }

    #[test]
    fn an_empty_ring_is_taken_back_past_its_middle_towards_a_1x_reader() {
        let question = |position, native| Question {
            capacity: 1024,
            position,
            free: 1024,
            need: 48,
            native,
            only_start: false,
        };
        let ahead = |position| Plan::Place(Placement { start: position, skip: 0, rewind: false });
        assert_eq!(plan(question(496, false)), ahead(496));
        assert_eq!(plan(question(512, false)), Plan::Place(Placement { start: 0, skip: 512, rewind: false }));
        // A native reader goes back with its writer where that is needed.
        assert_eq!(plan(question(512, true)), ahead(512));
        let back = Plan::Place(Placement { start: 0, skip: 0, rewind: true });
        assert_eq!(plan(question(992, true)), back);
        assert_eq!(plan(Question { need: 600, ..question(512, true) }), back);
    }

    #[test]
    fn gap_is_what_no_header_fits_in() {
        assert_eq!(gap(128, 112), None);
        assert_eq!(gap(128, 113), Some(15));
        assert_eq!(gap(128, 127), Some(1));
        assert_eq!(gap(128, 128), Some(0));
    }
}
