//! UNSAFE: entry points of the fuzzers (fuzz/). They run the shipped ring code of both sides on one segment
//! without a name, with steps and forged words from the fuzzer's bytes. Built for `--cfg fuzzing` and for
//! tests.
//!
//! One segment per kind of ring serves all runs of a process, so a run takes only microseconds.
#![allow(unsafe_code, missing_docs, clippy::missing_panics_doc)]

mod sharing;

pub use sharing::sharing;

use std::cell::RefCell;

use crate::layout::{
    CONTROL_SIZE, ControlCopy, Cursor, ExtensionWord, Geometry, OIEB_SIZE, OiebCopy, ReaderWord, TailWord,
    VERSION_1_0_0,
};
use crate::lifecycle::connect;
use crate::memory::Memory;
use crate::memory::mapping::Mapping;
use crate::memory::reserve::Reserver;
use crate::os;
use crate::ring::classic::{self, ReleaseQueue};
use crate::ring::extended::{self, survey};
use crate::ring::{FrameRecord, Look, NoPlace, Room, Tag, WriteRing};
use crate::sync::Ordering;

const PAYLOAD: u64 = 1024;

/// The fuzzer's bytes in order, followed by zeros.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }
    fn word(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
    /// A number that is likely to matter: near `old`, near a border, small, a cursor, or any other.
    fn number(&mut self, old: u64) -> u64 {
        let [kind, by] = [self.byte(), self.byte()];
        let near = |base: u64| base.wrapping_add_signed(i64::from(by as i8));
        match kind % 8 {
            0 => near(old),
            1 => near(PAYLOAD),
            2 => u64::from(by),
            3 => near(0),
            4 => u64::from(by) * 16,
            5 => Cursor::new(u64::from(by & 3), u64::from(by >> 2) * 16).0,
            6 => u64::from(by) | 1 << 48,
            _ => self.word(),
        }
    }
}

/// A segment without a name, and the state that a peer keeps about it.
struct Arena {
    mapping: Mapping,
    reserver: Reserver,
    geometry: Geometry,
}

impl Arena {
    fn new() -> Arena {
        let geometry = Geometry::new(64, PAYLOAD, true, false).expect("small");
        let segment = os::Segment::create_unnamed(0o600).expect("a file in /dev/shm");
        segment.set_len(geometry.total().expect("small")).expect("ftruncate");
        let mapping = Mapping::new(&segment, geometry, false).expect("mmap");
        Arena { mapping, reserver: Reserver::new(segment, geometry), geometry }
    }

    /// All 8-byte words of the segment.
    fn words(&self) -> &[crate::sync::AtomicU64] {
        let words = self.geometry.total().expect("small") as usize / 8;
        // SAFETY: the mapping is that long, page-aligned, and lives as long as `self`; atomics may be shared.
        unsafe { std::slice::from_raw_parts(std::ptr::from_ref(self.mapping.oieb()).cast(), words) }
    }

    /// Fills the segment as a native reader creates it.
    fn reset(&self) {
        self.words().iter().for_each(|word| word.store(0, Ordering::Relaxed));
        let oieb = self.mapping.oieb();
        oieb.oieb_size.store(OIEB_SIZE, Ordering::Relaxed);
        oieb.version.store(VERSION_1_0_0, Ordering::Relaxed);
        oieb.metadata_size.store(self.geometry.metadata_size, Ordering::Relaxed);
        oieb.payload_size.store(PAYLOAD, Ordering::Relaxed);
        oieb.payload_free_bytes.store(PAYLOAD, Ordering::Relaxed);
        oieb.reader_word.store(ReaderWord::new(std::process::id()).0, Ordering::Relaxed);
        oieb.reader_pid.store(std::process::id().into(), Ordering::Relaxed);
        oieb.tail_word.store(TailWord::settled(0).0, Ordering::Relaxed);
        let control = self.geometry.control.expect("asked for");
        oieb.extension.store(ExtensionWord::new(control).0, Ordering::Relaxed);
    }

    /// Changes a word: of the first block, of the control block, or of the ring.
    fn forge(&self, bytes: &mut Bytes<'_>) {
        let [part, index] = [bytes.byte(), bytes.byte()];
        let ring = self.geometry.payload_offset() as usize / 8;
        let control = self.geometry.control.expect("asked for") as usize / 8;
        let index = usize::from(index);
        let at = match part % 4 {
            0 => 4 + index % (OIEB_SIZE as usize / 8 - 4),
            1 => control + index % (CONTROL_SIZE as usize / 8),
            // The words that decide.
            2 => control + [0, 1, 2, 3, 4, 5, 16, 32, 48][index % 9],
            _ => ring + index % (control - ring),
        };
        let word = &self.words()[at];
        word.store(bytes.number(word.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// Checks that all bytes of a frame are accessible.
    fn touch(&self, record: &FrameRecord) -> u64 {
        // SAFETY: no other code uses this segment, and the slice ends with this function.
        let bytes = unsafe { self.mapping.frame_bytes(record.position(), record.len()) };
        let bytes = bytes.expect("a frame that was delivered lies within the ring");
        assert!(!bytes.is_empty());
        bytes.iter().map(|byte| u64::from(*byte)).sum()
    }
}

thread_local! {
    static ARENA: RefCell<Arena> = RefCell::new(Arena::new());
}

/// Checks an honest run: frames come whole and in order, each once.
#[derive(Default)]
struct Order {
    written: u64,
    read: u64,
}

impl Order {
    /// Some frames were passed over on the way to the newest one.
    fn pass(&mut self, frames: u64) {
        self.read += frames;
    }

    fn check(&mut self, sum: u64, record: &FrameRecord) {
        assert_eq!(record.sequence, self.read + 1);
        assert_eq!(sum, record.len() as u64 * (record.sequence & 0xff));
        self.read += 1;
        assert!(self.read <= self.written, "a frame that was not committed");
    }
}

/// Runs a reader and a writer of a classic ring. If the first byte is odd, also forges words while they run.
pub fn classic(input: &[u8]) {
    ARENA.with_borrow_mut(|arena| run_classic(arena, &mut Bytes(input)));
}

fn run_classic(arena: &mut Arena, bytes: &mut Bytes<'_>) {
    arena.reset();
    let start = bytes.byte();
    let honest = start & 1 == 0;
    let mut side = classic::ReadSide::new(PAYLOAD, start & 2 != 0);
    let mut queue = ReleaseQueue::new();
    let mut held: Vec<u64> = Vec::new();
    let mut order = Order::default();
    let Ok(mut writer) = classic::WriteSide::resume(&arena.mapping, start & 4 == 0) else { return };
    while !bytes.0.is_empty() {
        let Arena { mapping, reserver, .. } = &mut *arena;
        match bytes.byte() % 8 {
            kind @ 0..=2 => match side.look(mapping, &mut queue, reserver, |_| true) {
                Look::Frame(mut record) => {
                    if kind == 2 {
                        let is_short = || start & 8 != 0;
                        let (passed, _) =
                            side.pass_to_newest(mapping, &mut queue, reserver, &mut record, is_short);
                        order.pass(passed);
                    }
                    let sum = arena.touch(&record);
                    if honest {
                        order.check(sum, &record);
                    }
                    held.push(record.ticket);
                }
                Look::Unsure(fault) => {
                    assert!(!honest, "{fault:?}");
                    side.repair(mapping, &mut queue, reserver);
                }
                Look::Empty => assert!(!honest || order.read == order.written, "a frame is not seen"),
                Look::Restart(_) => assert!(!honest),
            },
            3 if !held.is_empty() => {
                let ticket = held.swap_remove(usize::from(bytes.byte()) % held.len());
                queue.release(mapping, ticket, || start & 8 != 0);
                queue.take_wake();
            }
            4 | 5 => {
                let len = usize::from(bytes.byte()) * if start & 16 == 0 { 1 } else { 4 } + 1;
                if len as u64 + 16 > PAYLOAD {
                    continue;
                }
                let room = Room { len, header: 16 };
                let reservation = match writer.find(mapping, reserver, &room) {
                    Ok(reservation) => reservation,
                    Err(NoPlace::Unsure(fault)) => {
                        assert!(!honest, "{fault:?}");
                        continue;
                    }
                    Err(_) => continue,
                };
                // SAFETY: no other code uses this segment; the slice ends here.
                let target = unsafe { mapping.frame_bytes_mut(reservation.data(), len) };
                target.expect("a place within the ring").fill((order.written + 1) as u8);
                if writer.commit(mapping, reservation, len, Tag::default()).is_ok() {
                    order.written += 1;
                }
            }
            6 if !honest => arena.forge(bytes),
            7 if !honest => {
                let oieb = mapping.oieb();
                // The rings would wait without end for a tail that stays *changing*.
                oieb.tail_word.fetch_and(!1, Ordering::Relaxed);
                if let Ok(Some(next)) = classic::WriteSide::recover(mapping) {
                    writer = next;
                }
            }
            _ => {}
        }
    }
}

/// Runs a reader and a writer of an extended ring. If the first byte is odd, also forges words while they
/// run.
pub fn extended(input: &[u8]) {
    ARENA.with_borrow_mut(|arena| run_extended(arena, &mut Bytes(input)));
}

fn run_extended(arena: &mut Arena, bytes: &mut Bytes<'_>) {
    arena.reset();
    let start = bytes.byte();
    let honest = start & 1 == 0;
    let size = arena.geometry.extended_size();
    if start & 2 != 0 {
        // The lap number is about to wrap.
        let begin = Cursor::new((1 << 22) - 2, 0).0;
        let control = arena.mapping.control();
        control.written.head.store(begin, Ordering::Relaxed);
        control.read.tail.store(begin, Ordering::Relaxed);
    }
    let mut side = extended::ReadSide::new(&arena.mapping, size);
    let releases = extended::ReleaseQueue::new();
    releases.start(side.cursor(), size);
    let mut held: Vec<FrameRecord> = Vec::new();
    let mut order = Order::default();
    let Ok(mut writer) = extended::WriteSide::resume(&arena.mapping, size) else { return };
    while !bytes.0.is_empty() {
        let Arena { mapping, reserver, .. } = &mut *arena;
        match bytes.byte() % 8 {
            kind @ 0..=2 => {
                let mut record = FrameRecord::NONE;
                let look = match side.take(mapping, &mut record) {
                    true => Look::Frame(record),
                    false => side.look(mapping, |_| true, |from, to| reserver.back(from, to)),
                };
                match look {
                    Look::Frame(mut record) => {
                        if kind == 2 {
                            let back = |from, to| reserver.back(from, to);
                            let (found, passed) = side.pass_to_newest(mapping, &mut record, back);
                            if let Some(passed) = passed {
                                releases.pass_over(mapping, passed);
                                order.pass(passed.frames);
                            }
                            if !found {
                                continue;
                            }
                        }
                        let sum = arena.touch(&record);
                        if honest {
                            order.check(sum, &record);
                        }
                        if start & 4 != 0 && held.is_empty() {
                            releases.release_last(&arena.mapping, &record);
                        } else {
                            held.push(record.with_ticket(releases.hold(&record)));
                        }
                    }
                    Look::Empty => {
                        assert!(!honest || order.read == order.written, "a frame is not seen");
                        releases.drained(mapping);
                    }
                    Look::Unsure(fault) => assert!(!honest, "{fault:?}"),
                    Look::Restart(_) => unreachable!("allowed"),
                }
            }
            3 if !held.is_empty() => {
                let record = held.swap_remove(usize::from(bytes.byte()) % held.len());
                releases.release(mapping, &record);
            }
            4 | 5 => {
                let len = usize::from(bytes.byte()) * if start & 16 == 0 { 1 } else { 4 } + 1;
                if len as u64 + 16 > PAYLOAD {
                    continue;
                }
                let tag = Tag { deadline: u64::from(start & 8), ..Tag::default() };
                let room = Room::of(len, &tag);
                let place = match writer.place_below(&room, writer.fast_until(size)) {
                    Some(place) => place,
                    None => match writer.place(mapping, &room, start & 32 != 0) {
                        Ok(Some((place, _))) => place,
                        Ok(None) => continue,
                        Err(fault) => {
                            assert!(!honest, "{fault:?}");
                            continue;
                        }
                    },
                };
                // SAFETY: no other code uses this segment; the slice ends here.
                let target = unsafe { mapping.frame_bytes_mut(place.data(), len) };
                target.expect("a place within the ring").fill((order.written + 1) as u8);
                if writer.commit(mapping, place, len, tag).is_ok() {
                    order.written += 1;
                }
            }
            6 if !honest => arena.forge(bytes),
            7 if !honest => {
                let last = writer.last();
                writer.mark(mapping, last, 1);
                if let Ok(next) = extended::WriteSide::resume(mapping, size) {
                    writer = next;
                }
            }
            _ => {}
        }
    }
}

/// Reads a first block as a peer that opens the buffer does, and connects to a buffer with that first block
/// and control block.
pub fn first_block(input: &[u8]) {
    ARENA.with_borrow_mut(|arena| {
        let bytes = &mut Bytes(input);
        let start = bytes.byte();
        let mut block = [0; OIEB_SIZE as usize];
        if start & 1 == 0 {
            block.iter_mut().for_each(|byte| *byte = bytes.byte());
        } else {
            // A valid block with a few words changed.
            arena.reset();
            let words = arena.words();
            for (at, word) in block.chunks_exact_mut(8).zip(words) {
                at.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
            }
            for _ in 0..start >> 5 {
                let at = usize::from(bytes.byte()) % (OIEB_SIZE as usize / 8) * 8;
                let old = u64::from_le_bytes(block[at..at + 8].try_into().expect("8"));
                block[at..at + 8].copy_from_slice(&bytes.number(old).to_le_bytes());
            }
        }
        let file_len = bytes.number(arena.geometry.total().expect("small"));
        let oieb = OiebCopy::parse(&block);
        if let Ok(geometry) = oieb.check("fuzz", file_len) {
            let total = geometry.total().expect("checked");
            assert!(total <= file_len && geometry.payload_size > 16);
            assert!(geometry.payload_offset() + geometry.ring_size() <= total);
            assert!(geometry.control.is_none_or(|at| {
                at.is_multiple_of(128)
                    && at >= geometry.payload_offset() + geometry.payload_size
                    && at + CONTROL_SIZE <= total
            }));
        }
        arena.reset();
        while !bytes.0.is_empty() {
            match bytes.byte() % 4 {
                0..=2 => arena.forge(bytes),
                _ => connect_to(arena),
            }
        }
        connect_to(arena);
    });
}

fn connect_to(arena: &mut Arena) {
    let mapping = &arena.mapping;
    let oieb = mapping.oieb();
    // The rings would wait without end for a tail that stays *changing*. The geometry also stays that of the
    // arena.
    oieb.tail_word.fetch_and(!1, Ordering::Relaxed);
    let control = ExtensionWord::new(arena.geometry.control.expect("asked for")).0;
    oieb.extension.fetch_and(3, Ordering::Relaxed);
    oieb.extension.fetch_or(control, Ordering::Relaxed);
    let mut block = [0; CONTROL_SIZE as usize];
    let words = &arena.words()[arena.geometry.control.expect("asked for") as usize / 8..];
    for (at, word) in block.chunks_exact_mut(8).zip(words) {
        at.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
    }
    let size = arena.geometry.extended_size();
    if let Ok(used) = survey::used(&ControlCopy::parse(&block), size) {
        assert!(used <= 2 * size);
    }
    let room = Room { len: 40, header: 16 };
    match connect::join(mapping) {
        Some(WriteRing::Extended(mut side)) => {
            if let Ok(Some((place, _))) = side.place(mapping, &room, false) {
                assert!(place.data() + 40 <= size);
                let _ = side.commit(mapping, place, 40, Tag::default());
            }
        }
        Some(WriteRing::Classic(mut side)) => {
            if let Ok(place) = side.find(mapping, &mut arena.reserver, &room) {
                assert!(place.data() + 40 <= PAYLOAD);
                let _ = side.commit(mapping, place, 40, Tag::default());
            }
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the fuzzer's seeds and random bytes, which a build without a fuzzer can do.
    fn replay(target: &str, inputs: u32, run: fn(&[u8])) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds");
        let mut seeds = 0;
        for seed in std::fs::read_dir(format!("{folder}/{target}")).unwrap() {
            run(&std::fs::read(seed.unwrap().path()).unwrap());
            seeds += 1;
        }
        assert!(seeds >= 2, "the seeds of `{target}` are gone");
        let mut state = 1_u64;
        for _ in 0..inputs {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                // Numbers of Knuth's MMIX; their high bits are the good ones.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            })
            .take(200)
            .collect();
            run(&bytes);
        }
    }

    #[test]
    fn no_words_break_a_classic_ring() {
        replay("classic", 20_000, classic);
    }

    #[test]
    fn no_words_break_an_extended_ring() {
        replay("extended", 20_000, extended);
    }

    #[test]
    fn no_words_break_a_relay_or_its_viewer() {
        replay("sharing", 500, sharing);
    }

    #[test]
    fn no_first_block_breaks_a_connection() {
        replay("first_block", 20_000, first_block);
    }
}
