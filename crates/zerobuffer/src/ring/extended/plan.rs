//! Where the next frame of an extended ring goes: arithmetic on plain numbers, no pointers, no atomics.
//!
//! The writer goes round the ring in laps. Within a lap it only goes ahead, and it may end a lap wherever it stands. So
//! while the reader keeps up, frames stay in the first [`WINDOW`] bytes, which stay in the caches (in the first [`CALM`], if
//! a few small ones are on their way); where it does not, the lap goes on through the whole ring. If the reader stops keeping up just
//! after a lap was ended early, the writer comes up behind it in the new lap, with most of the ring unused: then it *leaps*,
//! once a lap, over all that is in use, to the place where the lap before had ended, and goes on from there. What it leapt
//! over is of no use until the reader has come to this lap; so a lap is ended early, and what is in use of it leapt over, only
//! while that is at most one [`EARLY`]th of the ring.

use crate::layout::Cursor;

/// A lap ends here if a few small frames have not been given back, or large ones of at most half as many bytes: so much memory a
/// light load takes, and requests with their answers stay in the caches of a core (1 or 2 MiB on the machines that we measured).
pub(crate) const CALM: u64 = 1 << 20;

/// A lap ends here if the reader keeps up otherwise: in the caches that cores share, but not in the lines that the other core
/// still has. Within 1 MiB, frames of 64 bytes were written in place 0.7 times as fast, and where such lines come slowly, those of
/// 64 KiB were copied 0.8 times as fast.
const WINDOW: u64 = 4 << 20;

/// More small frames than this that have not been given back make a stream, which goes through [`WINDOW`].
const FEW: u64 = 4;

/// Frames that take so many bytes go through [`WINDOW`] even if each is given back before the next one is written: round trips of
/// 16 KiB take 0.83 and those of 64 KiB 0.74 of the time within 1 MiB, those of 4 KiB 1.1 times as long.
const LARGE: u64 = 8 << 10;

/// A lap ends early only while at most this fraction of the ring is in use: 0.13 of the payload size, of a slack of 0.19
/// (`Geometry::new`); the rest is for alignment, which costs frames of 254 bytes or more at most 0.055 of their size. With
/// the default buffer that is 33 MiB: eight pictures under way, or a frame of 16 MiB behind another one, do not make the writer walk
/// through all of it.
const EARLY: u64 = 9;

/// The data of frames of at least so many bytes starts on a cache line, which makes copies out of them up to a tenth faster. Its
/// price is one more line to exchange for each frame, as header and data no longer share one: frames of 1 to 4 KiB would go by a
/// fifth slower if only their ends are read, and by two fifths in place.
pub(crate) const ALIGN_FROM: u64 = 8 << 10;
pub(crate) const CACHE_LINE: u64 = 64;

/// Bytes of the header of a frame of `len` bytes at `position`, and of the whole frame. `least` is the size of the header
/// proper, 16 or more.
#[inline]
pub(crate) fn sizes(position: u64, len: u64, least: u64) -> (u64, u64) {
    let mut header = least;
    if len >= ALIGN_FROM {
        header = (position + least).next_multiple_of(CACHE_LINE) - position;
    }
    (header, header + len.next_multiple_of(Cursor::UNIT))
}

/// One question to [`plan`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question {
    /// Bytes of the ring.
    pub(crate) size: u64,
    /// Behind the last frame.
    pub(crate) head: Cursor,
    /// Oldest byte in use; equal to `head` if there is none.
    pub(crate) tail: Cursor,
    /// Bytes of the frame straight ahead, and at position 0.
    pub(crate) ahead: u64,
    pub(crate) at_start: u64,
    /// Where the lap before that of `head` ended.
    pub(crate) lap_end: u64,
    /// Bytes of the frame at `lap_end`.
    pub(crate) at_lap_end: u64,
    /// The writer has leapt in this lap.
    pub(crate) leapt: bool,
    /// Bytes of the largest frame of this writer so far.
    pub(crate) largest: u64,
    /// No memory behind the place straight ahead: only the start of the ring will do.
    pub(crate) only_start: bool,
}

/// A place for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    Ahead,
    /// Position 0 of the next lap.
    Start,
    /// The end of the lap before.
    Leap,
}

/// Up to where frames may be placed straight ahead of `head` without another question.
pub(crate) fn open_until(size: u64, head: Cursor, tail: Cursor, leapt: bool, largest: u64) -> u64 {
    match tail.lap() == head.lap() {
        true => size.min(window(size, head.position() - tail.position(), largest)),
        false if leapt => size,
        false => tail.position(),
    }
}

/// Where a lap ends early in which `used` bytes have not been given back, if frames take up to `largest` bytes.
fn window(size: u64, used: u64, largest: u64) -> u64 {
    let worth_it = match largest {
        ..LARGE => used > FEW * largest,
        _ => used == 0 || used > CALM / 2,
    };
    if worth_it && WINDOW <= size / EARLY { WINDOW } else { CALM }
}

/// Whether `place` takes the frame out of what is in the caches, or into memory that was never used.
pub(crate) fn grows(q: &Question, place: Placement) -> bool {
    match place {
        Placement::Start => false,
        Placement::Leap => true,
        Placement::Ahead if q.tail.lap() != q.head.lap() => q.leapt,
        Placement::Ahead => {
            q.head.position() > 0 && q.head.position() + q.ahead > window(q.size, q.size, 0).max(2 * q.ahead)
        }
    }
}

/// Decides where the next frame goes; `None` if there is no room now. `tail` stands where something is in use, or at
/// `head` (see `WriteSide::normal`).
pub(crate) fn plan(q: Question) -> Option<Placement> {
    let Question { size, head, tail, ahead, at_start, .. } = q;
    let end = head.position() + ahead;
    if tail.lap() != head.lap() {
        if q.leapt {
            // Used: from the tail to the end of its lap, from 0 to where we leapt, from there to the head.
            return (end <= size && !q.only_start).then_some(Placement::Ahead);
        }
        // Used: from the tail to the end of its lap, and from 0 to the head.
        if end <= tail.position() && !q.only_start {
            return Some(Placement::Ahead);
        }
        let leaps = q.lap_end <= size / 2 && q.lap_end - tail.position() <= size / EARLY;
        return (leaps && q.lap_end + q.at_lap_end <= size && !q.only_start).then_some(Placement::Leap);
    }
    if tail == head {
        // Nothing is used.
        let stay = head.position() == 0 || end <= window(size, 0, ahead) && !q.only_start;
        return if stay && end <= size { Some(Placement::Ahead) } else { Some(Placement::Start) };
    }
    // Used: from the tail to the head, less what was leapt over.
    let start_is_free = at_start <= tail.position();
    let used = head.position() - tail.position();
    // What a leap would lose: what is in use now, and a place before it that was too small for the frame that leapt.
    let lost = head.position().min(used + q.largest.max(ahead));
    let early =
        end > window(size, used, ahead).max(2 * ahead) && head.position() <= size / 2 && lost <= size / EARLY;
    if start_is_free && (q.only_start || early || end > size) {
        return Some(Placement::Start);
    }
    (end <= size && !q.only_start).then_some(Placement::Ahead)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A ring as simple as it can be: each unit knows whether it is taken.
    struct Model {
        taken: Vec<bool>,
        head: Cursor,
        tail: Cursor,
        lap_end: u64,
        leapt: bool,
        /// Start and end of the frames not given back, oldest first.
        live: VecDeque<(Cursor, Cursor)>,
        /// The highest position used so far.
        highest: u64,
        largest: u64,
    }

    impl Model {
        fn new(size: u64, start: Cursor) -> Model {
            let taken = vec![false; (size / Cursor::UNIT) as usize];
            let live = VecDeque::new();
            Model { taken, head: start, tail: start, lap_end: 0, leapt: false, live, highest: 0, largest: 0 }
        }
        fn mark(&mut self, from: u64, to: u64, taken: bool) {
            for unit in &mut self.taken[(from / Cursor::UNIT) as usize..(to / Cursor::UNIT) as usize] {
                assert_ne!(std::mem::replace(unit, taken), taken, "a unit in {from}..{to} twice {taken}");
            }
        }
        fn write(&mut self, len: u64) -> bool {
            let place = plan(Question {
                size: self.taken.len() as u64 * Cursor::UNIT,
                head: self.head,
                // As WriteSide::normal has it.
                tail: self.live.front().map_or(self.head, |frame| frame.0),
                ahead: sizes(self.head.position(), len, 16).1,
                at_start: sizes(0, len, 16).1,
                lap_end: self.lap_end,
                at_lap_end: sizes(self.lap_end, len, 16).1,
                leapt: self.leapt,
                largest: self.largest,
                only_start: false,
            });
            let start = match place {
                None => return false,
                Some(Placement::Ahead) => self.head,
                Some(Placement::Leap) => {
                    assert!(!self.leapt && self.head.position() <= self.lap_end);
                    self.leapt = true;
                    self.head.at(self.lap_end)
                }
                Some(Placement::Start) => {
                    let oldest = self.live.front().map_or(self.head, |frame| frame.0);
                    assert_eq!(oldest.lap(), self.head.lap(), "more than two laps in use");
                    (self.lap_end, self.leapt) = (self.head.position(), false);
                    self.head.next_lap()
                }
            };
            let (_, bytes) = sizes(start.position(), len, 16);
            self.mark(start.position(), start.position() + bytes, true);
            self.head = start.at(start.position() + bytes);
            self.highest = self.highest.max(self.head.position());
            self.largest = self.largest.max(bytes);
            self.live.push_back((start, self.head));
            true
        }
        fn give_back(&mut self) {
            if let Some((start, end)) = self.live.pop_front() {
                self.mark(start.position(), end.position(), false);
                self.tail = end;
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// No byte is given out twice, no frame leaves the ring, and a drained ring takes every legal frame.
        #[test]
        fn places_agree_with_a_map_of_the_ring(
            blocks in prop_oneof![1_u64..200, Just(40_000)],
            first_lap in prop_oneof![Just(0), Just((1_u64 << 22) - 3)],
            steps in prop::collection::vec((1_u64..14_000, 0_u8..4, 1_u64..60), 1..200),
        ) {
            let payload = blocks * 64;
            let mut model = Model::new((payload + payload * 3 / 16 + 128) & !15, Cursor::new(first_lap, 0));
            for (len, reads, factor) in steps {
                // Frames that are large beside the window too.
                let len = (len * if blocks > 200 { factor } else { 1 }) % (payload - 16) + 1;
                while !model.write(len) {
                    prop_assert!(!model.live.is_empty(), "a drained ring refused {len} of {payload}");
                    model.give_back();
                }
                (0..reads).for_each(|_| model.give_back());
            }
        }

        /// Whatever a reader holds, its writer can use the whole payload size but for two frames: one that did not fit the
        /// end, and one that does not fit now. (Three in a lap in which a frame came that is larger than any before.)
        #[test]
        fn a_ring_is_as_large_as_it_says(
            payload in prop_oneof![Just(64_u64 << 10), Just(2 << 20), Just(48 << 20)],
            part in 8_u64..60,
            steps in prop::collection::vec((1_u64..10_000_000, 0_u8..5, 0_usize..30), 100..300),
        ) {
            let most = payload / part;
            let mut model = Model::new(payload + payload * 3 / 16 + 128, Cursor(0));
            for (len, reads, keep) in steps {
                let len = (len % most).max(most / 20) + 1;
                while !model.write(len) {
                    let used = model.taken.iter().filter(|taken| **taken).count() as u64 * Cursor::UNIT;
                    prop_assert!(used + 2 * (most + 96) > payload, "full at {used} of {payload}");
                    model.give_back();
                }
                for _ in 0..reads {
                    if model.live.len() > keep {
                        model.give_back();
                    }
                }
                // Now and then the reader stops for long, or catches up at once.
                match len % 97 {
                    0 => while model.write(len) {},
                    1 => while model.live.len() > keep { model.give_back() },
                    _ => {}
                }
            }
        }
    }

    /// A frame of 12,000 bytes in a ring of 64 KiB, whose lap before ended at 20,000.
    const BETWEEN_LAPS: Question = Question {
        size: 64 << 10,
        head: Cursor(0),
        tail: Cursor(0),
        ahead: 12_000,
        at_start: 12_000,
        lap_end: 20_000,
        at_lap_end: 12_000,
        leapt: false,
        largest: 0,
        only_start: false,
    };

    #[test]
    fn a_writer_leaps_over_little_and_early_in_the_ring_only() {
        let q = Question { head: Cursor::new(1, 4000), tail: Cursor::new(0, 14_000), ..BETWEEN_LAPS };
        assert_eq!(plan(q), Some(Placement::Leap));
        assert_eq!(plan(Question { tail: Cursor::new(0, 12_000), ..q }), None, "more than a ninth is in use");
        let late = Question { lap_end: 40_000, tail: Cursor::new(0, 38_000), ahead: 36_000, ..q };
        assert_eq!(plan(late), None, "behind the middle of the ring");
        assert_eq!(plan(Question { at_lap_end: 60_000, ..q }), None, "it would not fit there");
        assert_eq!(plan(Question { only_start: true, ..q }), None, "there is no memory");
        assert_eq!(
            plan(Question { ahead: 10_000, ..q }),
            Some(Placement::Ahead),
            "it fits before what is in use"
        );
        assert_eq!(plan(Question { leapt: true, ..q }), Some(Placement::Ahead), "it has leapt already");
    }

    #[test]
    fn an_empty_ring_goes_on_within_a_calm_load_and_starts_again_behind_it() {
        let drained = |position, ahead, only_start| {
            let head = Cursor::new(1, position);
            plan(Question { size: 4 << 20, head, tail: head, ahead, only_start, ..BETWEEN_LAPS })
        };
        assert_eq!(drained(4000, 12_000, false), Some(Placement::Ahead));
        assert_eq!(drained(CALM - 12_000, 12_000, false), Some(Placement::Ahead));
        assert_eq!(drained(CALM - 12_000, 12_016, false), Some(Placement::Start));
        assert_eq!(drained(4000, 12_000, true), Some(Placement::Start), "no memory ahead");
        assert_eq!(drained(0, 2 << 20, true), Some(Placement::Ahead), "that is the start");
    }

    #[test]
    fn frames_stay_in_the_window_while_the_reader_keeps_up() {
        for (size, behind, window, one_by_one) in
            [(32 << 20, 5, CALM, CALM), (32 << 20, 12, CALM, CALM), (64 << 20, 12, WINDOW, WINDOW)]
        {
            let mut model = Model::new(size, Cursor(0));
            for _ in 0..10_000 {
                assert!(model.write(65_536));
                if model.live.len() > behind {
                    model.give_back();
                }
            }
            let highest = model.highest;
            assert!(highest <= window && highest > window - 70_000, "went as far as {highest} of {size}");
            // It stops for a while, and keeps up again.
            while model.write(65_536) {}
            assert!(model.highest > size / 32 * 31);
            (0..model.live.len()).for_each(|_| model.give_back());
            model.highest = 0;
            for (len, most) in [(65_536, one_by_one), (4096, CALM)] {
                // Once round, so that what was larger is over.
                for round in 0..2 {
                    model.highest = if round == 0 { model.highest } else { 0 };
                    for _ in 0..3000 {
                        assert!(model.write(len));
                        model.give_back();
                    }
                }
                let highest = model.highest;
                assert!(highest <= most && highest > most - 70_000, "went as far as {highest} of {size}");
            }
        }
    }

    #[test]
    fn small_frames_use_the_larger_window_while_more_than_a_few_are_on_their_way() {
        for (behind, window) in [(0, CALM), (4, CALM), (5, WINDOW)] {
            let mut model = Model::new(64 << 20, Cursor(0));
            for _ in 0..200_000 {
                assert!(model.write(64));
                if model.live.len() > behind {
                    model.give_back();
                }
            }
            let highest = model.highest;
            assert!(
                highest <= window && highest > window - 1000,
                "{behind} behind: went as far as {highest}"
            );
        }
    }

    #[test]
    fn frames_of_16_mib_stay_in_two_places_of_the_default_buffer() {
        let (payload, len) = (256_u64 << 20, 16_u64 << 20);
        let mut model = Model::new(payload + payload * 3 / 16 + 128, Cursor(0));
        for _ in 0..10 {
            assert!(model.write(len));
            if model.live.len() > 1 {
                model.give_back();
            }
        }
        assert!(model.highest < 33 << 20, "went as far as {}", model.highest);
    }

    #[test]
    fn frames_come_back_to_the_window_once_the_reader_has_caught_up() {
        for (size, at, back) in [(256 << 20, 60 << 20, true), (256 << 20, 200 << 20, false)] {
            let mut model = Model::new(size, Cursor(0));
            while model.head.position() < at {
                assert!(model.write(1 << 20));
            }
            (1..model.live.len()).for_each(|_| model.give_back());
            for _ in 0..10 {
                assert!(model.write(1 << 20));
                model.give_back();
            }
            assert_eq!(model.head.position() <= WINDOW, back, "at {}", model.head.position());
        }
    }

    #[test]
    fn a_leap_does_not_lose_the_place_before_what_it_leaps_over_too() {
        let payload = 2_u64 << 20;
        let most = payload / 8;
        let mut model = Model::new(payload + payload * 3 / 16 + 128, Cursor(0));
        let write = |model: &mut Model, sizes: &[u64]| sizes.iter().all(|len| model.write(*len));
        // None here is larger than any before.
        model.largest = sizes(0, most, 16).1;
        assert!(write(&mut model, &[100_000; 8]) && write(&mut model, &[247_000]));
        (0..8).for_each(|_| model.give_back());
        assert!(write(&mut model, &[260_000, 140_000, 140_000, most, most, most, most, 139_000]));
        (0..2).for_each(|_| model.give_back());
        let used = model.taken.iter().filter(|taken| **taken).count() as u64 * Cursor::UNIT;
        assert!(write(&mut model, &[most]), "full at {used} of {payload}");
    }

    #[test]
    fn data_of_large_frames_starts_on_a_cache_line() {
        assert_eq!(sizes(48, 64, 16), (16, 80));
        assert_eq!(sizes(48, 1, 32), (32, 48));
        for position in (0..256).step_by(16) {
            for least in [16, 32] {
                let (header, bytes) = sizes(position, ALIGN_FROM + 1, least);
                assert_eq!((position + header) % 64, 0);
                assert!(header >= least && header < least + 64 && bytes == header + ALIGN_FROM + 16);
            }
        }
    }
}
