//! How reader and writer get from one lap to the next, and what either makes of words that say otherwise.

use std::time::Duration;

use super::{map, name};
use crate::config::BufferConfig;
use crate::error::ErrorKind;
use crate::layout::{Cursor, HeaderWord};
use crate::memory::Memory;
use crate::memory::mapping::Mapping;
use crate::reader::Reader;
use crate::ring::extended::leaps::{Leap, Leaps};
use crate::ring::extended::{ReadSide, WriteSide};
use crate::ring::{Look, Room, Tag, Way};
use crate::sync::Ordering;
use crate::writer::Writer;

fn buffer(what: &str, payload: usize) -> (String, Reader, Mapping, u64) {
    let name = name(what);
    let config = BufferConfig::default().payload_size(payload);
    let reader = Reader::create(&name, config.clone()).unwrap();
    let mapping = map(&name, &config);
    let size = mapping.geometry().extended_size();
    (name, reader, mapping, size)
}

#[test]
fn a_leap_is_forgotten_two_laps_later_and_if_nothing_was_committed_behind_it() {
    let (_name, _reader, mapping, _) = buffer("forgotten", 4096);
    let written = &mapping.control().written;
    let head = Cursor::new(1, 160);
    let mut leaps = Leaps::resume(&mapping, Cursor::new(1, 0));
    leaps.leap(&mapping, head, 320);
    assert_eq!(Leap::find(&mapping, head).map(|leap| leap.to), Some(320));
    leaps.begin_lap(&mapping, Cursor::new(2, 0));
    assert!(leaps.is_leapt(head), "the lap after it is another one");
    leaps.begin_lap(&mapping, Cursor::new(3, 0));
    assert_eq!(written.leap_from[1].load(Ordering::SeqCst), 0);

    // A writer that died before it committed stands where it leapt from.
    leaps.leap(&mapping, head, 320);
    assert!(Leaps::resume(&mapping, Cursor::new(1, 400)).is_leapt(head));
    assert!(!Leaps::resume(&mapping, head).is_leapt(head));
    assert_eq!(written.leap_from[1].load(Ordering::SeqCst), 0);
}

/// A reader at `tail` of a ring whose words are as they would be after more was written.
fn look(mapping: &Mapping, size: u64, tail: Cursor, head: Cursor, lap_end: u64) -> Look {
    let control = mapping.control();
    control.read.tail.store(tail.0, Ordering::SeqCst);
    control.written.head.store(head.0, Ordering::SeqCst);
    control.written.lap_end.store(lap_end, Ordering::SeqCst);
    ReadSide::new(mapping, size).look(mapping, |_| true, |_, to| Some(to))
}

#[test]
fn a_reader_believes_no_leap_that_was_not_committed_and_no_end_of_a_lap_behind_it() {
    let (name, _reader, mapping, size) = buffer("believes", 4096);
    let mut writer = Writer::connect(&name).unwrap();
    writer.write_frame(b"frame").unwrap();
    // The first frame has a header of 32 bytes.
    let (at, next) = (Cursor::new(1, 160), Cursor::new(2, 48));
    Leaps::resume(&mapping, Cursor::new(1, 0)).leap(&mapping, at, 320);
    assert_eq!(look(&mapping, size, at, at, 0), Look::Empty);
    assert!(matches!(look(&mapping, size, Cursor::new(1, 640), next, 640), Look::Frame(_)));
    assert!(matches!(look(&mapping, size, Cursor::new(1, 640), next, 480), Look::Unsure(_)));
    assert!(matches!(look(&mapping, size, Cursor::new(1, 640), next, size + 16), Look::Unsure(_)));
}

#[test]
fn a_reader_touches_no_frame_that_there_is_no_memory_for() {
    let (name, _reader, mapping, size) = buffer("untouched", 4 << 20);
    let mut writer = Writer::connect(&name).unwrap();
    writer.write_frame(&vec![1; 600 << 10]).unwrap();
    for (memory, expected) in [(256 << 10, false), (700 << 10, true)] {
        let mut side = ReadSide::new(&mapping, size);
        let look = side.look(&mapping, |_| true, |_, to| (to <= memory).then_some(to));
        assert_eq!(matches!(look, Look::Frame(_)), expected, "{memory} bytes: {look:?}");
    }
}

#[test]
fn a_frame_without_bytes_is_corrupt_wherever_it_stands() {
    let (name, mut reader, mapping, _) = buffer("no-bytes", 4096);
    let mut writer = Writer::connect(&name).unwrap();
    (0..3).for_each(|_| _ = writer.write_frame(&[1; 16]).unwrap());
    let [word, _] = mapping.words(writer.last_place().unwrap().0.position()).unwrap();
    word.store(HeaderWord::new(0, 1, 0).0, Ordering::SeqCst);
    let mut read = || reader.read_frame(Duration::from_secs(30)).map(|frame| frame.expect("a frame").len());
    assert_eq!([read().unwrap(), read().unwrap()], [16, 16]);
    assert_eq!(read().unwrap_err().kind(), ErrorKind::CorruptBuffer);
}

#[test]
fn frames_behind_one_that_is_held_do_not_go_back_before_it() {
    let (name, mut reader, mapping, _) = buffer("behind", 4096);
    let mut writer = Writer::connect(&name).unwrap();
    (0..3).for_each(|_| _ = writer.write_frame(&[1; 900]).unwrap());
    let tail = || Cursor(mapping.control().read.tail.load(Ordering::SeqCst)).position();
    let first = reader.try_read_frame().unwrap().expect("a frame");
    let second = reader.try_read_frame().unwrap().expect("a frame");
    drop(reader.read_frame_ref(Duration::ZERO).unwrap().expect("a frame"));
    assert_eq!(tail(), 0);
    drop(second);
    assert_eq!(tail(), 0);
    drop(first);
    // The header of the first frame has room for the writer's word.
    assert_eq!(tail(), 3 * 928 + 16);
}

#[test]
fn all_of_a_lap_that_was_given_back_is_free_in_the_next_one() {
    let (name, mut reader, _mapping, _) = buffer("next-lap", 4096);
    let mut writer = Writer::connect(&name).unwrap();
    // Five frames of 928 bytes are a lap.
    let mut write = |len: usize| writer.try_write_frame(&vec![1; len]).unwrap().is_some();
    assert!((0..5).all(|_| write(900)));
    (0..3).for_each(|_| drop(reader.try_read_frame().unwrap().expect("a frame")));
    assert!(write(900), "the first of the next lap");
    (0..2).for_each(|_| drop(reader.try_read_frame().unwrap().expect("a frame")));
    assert!(write(3800), "up to behind the end of the lap before");
}

#[test]
fn a_writer_does_not_leap_to_where_there_was_no_memory() {
    let (_name, _reader, mapping, size) = buffer("no-memory", 64 << 10);
    let mut side = WriteSide::resume(&mapping, size).expect("sound words");
    let room = Room::of(900, &Tag::default());
    let mut write = |only_start| {
        let (place, _) = side.place(&mapping, &room, only_start).expect("sound words")?;
        side.commit(&mapping, place, room.len, Tag::default()).expect("sound words");
        Some(place.way)
    };
    // Frames of 928 bytes. The lap ends because there is no memory for the seventh.
    assert!((0..6).all(|_| write(false) == Some(Way::Ahead)));
    mapping.control().read.tail.store(Cursor::new(0, 3 * 928).0, Ordering::SeqCst);
    assert_eq!(write(true), Some(Way::NewLap));
    assert!((0..2).all(|_| write(false) == Some(Way::Ahead)));
    // What is in use of the lap before is little enough to be leapt over.
    assert_eq!(write(false), None);
}
