//! Runs of the model checker, in every order: the shipped code of ring and doorbells on heap memory.
//! `RUSTFLAGS="--cfg loom" cargo test -p zerobuffer --lib --release loom` (`cargo xtask test loom`).
//!
//! loom does not know membarrier, so here both sides fence. [`crate::wait::doorbell`] has the argument for
//! barriers, and a test that fails without them.
#![allow(unsafe_code)]

use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::layout::{BellLine, Control, Cursor, ReadLine, Sharing, WrittenLine};
use crate::memory::Memory;
use crate::ring::extended::{ReadSide, ReleaseQueue, WriteSide};
use crate::ring::{FrameRecord, Look, Room, Tag};
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::wait::doorbell;

/// An extended ring on the heap.
struct Heap {
    control: Control,
    units: Vec<[AtomicU64; 2]>,
    /// Data, one cell per unit: loom reports an access to a cell that another thread may be writing.
    data: Vec<UnsafeCell<u64>>,
}

impl Heap {
    /// A ring of `units` units of 16 bytes, at the beginning of lap `lap`.
    fn new(units: usize, lap: u64) -> Heap {
        let number = AtomicU64::new;
        let begin = Cursor::new(lap, 0).0;
        Heap {
            control: Control {
                written: WrittenLine {
                    head: number(begin),
                    lap_end: number(0),
                    leap_from: [number(0), number(0)],
                    leap_to: [number(0), number(0)],
                    count: number(0),
                },
                read: ReadLine { tail: number(begin), count: number(0) },
                reader_bell: BellLine::new(),
                writer_bell: BellLine::new(),
            },
            units: (0..units).map(|_| [number(0), number(0)]).collect(),
            data: (0..units).map(|_| UnsafeCell::new(0)).collect(),
        }
    }
    fn size(&self) -> u64 {
        self.units.len() as u64 * Cursor::UNIT
    }
}

impl Memory for Heap {
    fn control(&self) -> &Control {
        &self.control
    }
    fn sharing(&self) -> Option<&Sharing> {
        None
    }
    fn words(&self, position: u64) -> Option<&[AtomicU64; 2]> {
        self.units.get((position / Cursor::UNIT) as usize)
    }
    fn prefetch(&self, _: u64) {}
    fn prefetch_to_write(&self, _: u64) {}
}

const FOREVER: Duration = Duration::MAX;

/// For a frame of one unit.
const ROOM: Room = Room { len: 16, header: 16 };

/// Writes frames of one unit, in the steps of `Writer`: looks for a place, asks for space, sleeps, commits,
/// wakes the reader.
fn write(heap: &Heap, frames: u64) {
    let mut side = WriteSide::resume(heap, heap.size()).unwrap();
    for number in 1..=frames {
        let place = loop {
            let look = |side: &mut WriteSide| side.place(heap, &ROOM, false).unwrap().map(|(place, _)| place);
            if let Some(place) =
                side.place_below(&ROOM, side.fast_until(heap.size())).or_else(|| look(&mut side))
            {
                break place;
            }
            if !side.is_short() {
                side.say_short(heap, true);
            }
            if look(&mut side).is_none() {
                side.sleep(heap, FOREVER, || false);
            }
        };
        side.say_short(heap, false);
        let cell = &heap.data[(place.data() / Cursor::UNIT) as usize];
        // SAFETY: the ring found this place free; loom checks that no other thread accesses it.
        cell.with_mut(|data| unsafe { *data = number });
        assert_eq!(side.commit(heap, place, 16, Tag::default()).unwrap(), number);
        let bell = &heap.control.reader_bell.bell;
        if doorbell::wants(bell) & doorbell::SLEEPING != 0 {
            doorbell::ring(&heap.control.reader_bell, |_| false);
        }
    }
}

/// Reads frames in the steps of `Reader`, and gives them back.
fn read(heap: &Heap, frames: u64) {
    let mut side = ReadSide::new(heap, heap.size());
    let held = ReleaseQueue::new();
    held.start(side.cursor(), heap.size());
    let ring_writer = || doorbell::ring(&heap.control.writer_bell, |_| false);
    let mut next = 1;
    let mut waits = false;
    while next <= frames {
        let mut record = FrameRecord::NONE;
        if !side.take(heap, &mut record) {
            match side.look(heap, |_| true, |_, to| Some(to)) {
                Look::Frame(frame) => record = frame,
                Look::Empty => {
                    if held.drained(heap) {
                        ring_writer();
                    }
                    waits = true;
                    doorbell::sleep(&heap.control.reader_bell.bell, 0, FOREVER, || side.changed(heap));
                    continue;
                }
                other => panic!("{other:?}"),
            }
        }
        if std::mem::take(&mut waits) {
            doorbell::set(&heap.control.reader_bell.bell, 0);
        }
        assert_eq!((record.sequence, record.len()), (next, 16));
        // SAFETY: the frame is committed; loom checks that no other thread writes it meanwhile.
        heap.data[(record.position() / Cursor::UNIT) as usize]
            .with(|data| assert_eq!(unsafe { *data }, next, "the bytes come with the frame"));
        if held.release_last(heap, &record) {
            ring_writer();
        }
        next += 1;
    }
}

/// Both sides, with enough switches between them to show every known mistake.
fn check(switches: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.check(run);
}

fn frames_pass(units: usize, frames: u64, lap: u64, switches: usize) {
    check(switches, move || {
        let heap = Arc::new(Heap::new(units, lap));
        let writers = Arc::clone(&heap);
        let writer = thread::spawn(move || write(&writers, frames));
        read(&heap, frames);
        writer.join().unwrap();
    });
}

#[test]
fn loom_a_reader_that_sleeps_for_frames_gets_them() {
    frames_pass(8, 2, 0, 3);
}

#[test]
fn loom_a_writer_that_sleeps_for_space_gets_it_through_two_laps() {
    // Room for two frames.
    frames_pass(4, 3, (1 << 22) - 1, 2);
}

#[test]
fn loom_a_ring_with_room_for_one_frame_passes_three() {
    frames_pass(2, 3, 0, 2);
}

#[test]
fn loom_an_interrupt_ends_a_sleep() {
    check(3, || {
        let heap = Arc::new((AtomicBool::new(false), BellLine::new()));
        let other = Arc::clone(&heap);
        let interrupter = thread::spawn(move || {
            // The store of Interrupt::interrupt.
            other.0.store(true, Ordering::Release);
            doorbell::call(&other.1, |_| false);
        });
        let (interrupted, line) = &*heap;
        // The load and swap of take_interrupt. (The load is needed here: loom would let a swap that read
        // false undo the store.)
        while !(interrupted.load(Ordering::Relaxed) && interrupted.swap(false, Ordering::Acquire)) {
            doorbell::sleep(&line.bell, 0, FOREVER, || interrupted.load(Ordering::Relaxed));
        }
        interrupter.join().unwrap();
    });
}

/// A sleeper that is told of its peer's death by the watcher: it judges the peer, and only then sets its bell. The peer, who
/// has committed a frame, may have died just as it woke the sleeper: it has cleared the bell, and wakes no thread.
#[test]
fn loom_news_that_come_after_the_judgement_end_a_sleep() {
    check(3, || {
        /// News, the bell, the peer's role, and its frame.
        type Shared = (AtomicBool, BellLine, AtomicBool, AtomicU32);
        let shared: Arc<Shared> =
            Arc::new((AtomicBool::new(false), BellLine::new(), AtomicBool::new(true), AtomicU32::new(0)));
        let other = Arc::clone(&shared);
        let watcher = thread::spawn(move || {
            let (news, line, held, frame) = &*other;
            // The peer.
            frame.store(1, Ordering::Release);
            if doorbell::wants(&line.bell) & doorbell::SLEEPING != 0 {
                line.bell.fetch_and(!doorbell::SLEEPING, Ordering::Relaxed);
            }
            held.store(false, Ordering::Release);
            // The steps of Buffer::tell_news.
            news.store(true, Ordering::Release);
            doorbell::rouse(line, |_| false);
        });
        let (news, line, held, frame) = &*shared;
        loop {
            // (The load is needed here, as in the test above.)
            if news.load(Ordering::Relaxed) {
                news.swap(false, Ordering::Acquire);
            }
            if !held.load(Ordering::Acquire) {
                break;
            }
            doorbell::sleep(&line.bell, 0, FOREVER, || news.load(Ordering::Relaxed));
        }
        assert_eq!(frame.load(Ordering::Relaxed), 1);
        watcher.join().unwrap();
    });
}

/// Reads frames of one unit one after the other. `owned` says which of them are owned and released by another
/// thread; the others are lent.
fn frames_come_back(owned: [bool; 3]) {
    check(3, move || {
        let heap = Arc::new((Heap::new(8, 0), ReleaseQueue::new()));
        let mut side = WriteSide::resume(&heap.0, heap.0.size()).unwrap();
        for _ in owned {
            let place = side.place_below(&ROOM, side.fast_until(heap.0.size())).unwrap();
            side.commit(&heap.0, place, 16, Tag::default()).unwrap();
        }
        let mut side = ReadSide::new(&heap.0, heap.0.size());
        // So large that the reader withholds all frames but the last.
        heap.1.start(side.cursor(), 1 << 16);
        let mut releasers = vec![];
        for owned in owned {
            let mut record = FrameRecord::NONE;
            if !side.take(&heap.0, &mut record) {
                let Look::Frame(frame) = side.look(&heap.0, |_| true, |_, to| Some(to)) else {
                    panic!("no frame")
                };
                record = frame;
            }
            if !owned {
                heap.1.release_last(&heap.0, &record);
                continue;
            }
            let record = record.with_ticket(heap.1.hold(&record));
            let other = Arc::clone(&heap);
            releasers.push(thread::spawn(move || {
                // SAFETY: the reader holds the frame; loom checks that no other thread writes it meanwhile.
                let cell = &other.0.data[(record.position() / Cursor::UNIT) as usize];
                cell.with(|data| assert_eq!(unsafe { *data }, 0));
                other.1.release(&other.0, &record);
            }));
            write_what_came_back(&heap.0);
        }
        heap.1.drained(&heap.0);
        write_what_came_back(&heap.0);
        releasers.into_iter().for_each(|releaser| releaser.join().unwrap());
        heap.1.drained(&heap.0);
        assert_eq!(heap.0.control.read.tail.load(Ordering::Relaxed), side.cursor().0, "all has come back");
    });
}

/// A step that a writer may take at any time.
fn write_what_came_back(heap: &Heap) {
    let tail = Cursor(heap.control.read.tail.load(Ordering::Acquire));
    for cell in &heap.data[..(tail.position() / Cursor::UNIT) as usize] {
        // SAFETY: the bytes were given back; loom checks that no other thread reads them any more.
        cell.with_mut(|data| unsafe { *data = 1 });
    }
}

#[test]
fn loom_owned_frames_come_back_when_all_before_them_have() {
    frames_come_back([true, true, false]);
}

#[test]
fn loom_a_lone_frame_comes_back_before_the_next_ones() {
    frames_come_back([true, false, true]);
    frames_come_back([false, true, false]);
}
