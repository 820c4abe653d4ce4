//! What a ring, and the entry to it, promise the rest of the crate: tests that need more than the public API shows.

mod doorbells;
mod laps;

use std::time::Duration;

use super::FastPath;
use crate::config::BufferConfig;
use crate::error::ErrorKind;
use crate::layout::{Cursor, ExtensionWord, HeaderWord};
use crate::memory::Memory;
use crate::memory::mapping::Mapping;
use crate::memory::reserve::Reserver;
use crate::os;
use crate::reader::Reader;
use crate::ring::entry::{self, Entry};
use crate::ring::{FrameAddress, Tag};
use crate::sync::Ordering;
use crate::writer::Writer;

fn name(what: &str) -> String {
    format!("unit-ring-{what}-{}", std::process::id())
}

/// The buffer as another process sees it.
fn map(name: &str, config: &BufferConfig) -> Mapping {
    let segment = os::Segment::open(name, true).unwrap();
    Mapping::new(&segment, config.geometry(name).unwrap(), false).unwrap()
}

#[test]
fn a_frame_can_be_withdrawn_from_its_commit_until_it_is_given_back() {
    let name = name("withdraw");
    // Room for five frames of 928 bytes in a lap, so the sixth begins the next one.
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(4096)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let write = |writer: &mut Writer| {
        writer.write_frame(&[7; 900]).unwrap();
        writer.last_place().expect("an extended ring")
    };
    let mut read = || reader.try_read_frame().unwrap().expect("a frame").is_cancelled();
    let mut places: Vec<FrameAddress> = (0..4).map(|_| write(&mut writer)).collect();
    assert!(writer.cancel(places[0]), "the oldest frame");
    assert!(read(), "the mark reaches the reader");
    assert!(!read(), "its neighbour has none");
    for given_back in &places[..2] {
        assert!(!writer.cancel(*given_back), "the reader has given it back");
    }
    places.extend([write(&mut writer), write(&mut writer)]);
    assert_ne!(places[5].0.lap(), places[2].0.lap(), "a new lap has begun");
    assert!(writer.cancel(places[2]), "the oldest frame, in the lap before");
    assert!(!writer.cancel(places[1]), "given back, in the lap before");
    assert!(writer.cancel(places[5]), "the newest frame");
    let behind = places[5].0.at(928);
    assert!(!writer.cancel(FrameAddress(behind)), "nothing is committed there");
    assert_eq!([read(), read(), read(), read()], [true, false, false, true]);
}

#[test]
fn a_header_that_is_too_short_for_a_deadline_has_none() {
    let name = name("deadline");
    let config = BufferConfig::default().payload_size(4096);
    let mut reader = Reader::create(&name, config.clone()).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let deadline = |reader: &mut Reader| reader.try_read_frame().unwrap().expect("a frame").deadline();
    let tag = Tag { deadline: 77, ..Tag::default() };
    writer.write_tagged(&[0x55; 32], tag, os::coarse_now()).unwrap();
    assert_eq!(deadline(&mut reader), 77);
    writer.write_frame(&[0x55; 32]).unwrap();
    // A hostile writer sets the flag without room for the word.
    let mapping = map(&name, &config);
    let [word, _] = mapping.words(writer.last_place().unwrap().0.position()).unwrap();
    word.fetch_or(u64::from(HeaderWord::DEADLINE) << HeaderWord::FLAGS, Ordering::SeqCst);
    assert_eq!(deadline(&mut reader), 0, "data is not taken for a deadline");
}

#[test]
fn frames_are_fast_while_the_clock_stands_still_and_31_of_them_at_most() {
    let mut path = FastPath::new();
    assert!(path.is_calm(|| panic!("the clock need not be read")));
    assert_eq!(path.until(), None, "nothing is known yet");
    path.grant(5, 640);
    assert_eq!(path.until(), None, "the clock has gone on since");
    for granted in [1, 3, 7, 15, 31, 31] {
        path.grant(5, 640);
        for left in (1..=granted).rev() {
            assert_eq!(path.until(), Some(640), "{left} of {granted}");
            // The clock is asked before every eighth one.
            let asked = std::cell::Cell::new(false);
            let calm = path.is_calm(|| {
                asked.set(true);
                6
            });
            assert_eq!((asked.get(), calm), (left % 8 == 0, left % 8 != 0), "{left} of {granted}");
            assert!(path.is_calm(|| 5));
            path.used();
        }
        assert_eq!(path.until(), None, "all {granted} are used");
    }
    assert!(path.is_now(5) && !path.is_now(6));
    path.grant(5, 640);
    path.suspend();
    assert_eq!(path.until(), Some(0), "a frame is acquired");
    path.resume();
    assert_eq!(path.until(), Some(640), "not any more");
    path.close();
    path.resume();
    assert_eq!(path.until(), None, "closed");
    path.grant(6, 640);
    assert_eq!(path.until(), None, "the clock has gone on");
}

/// A writer whose next frame is most likely fast: so many frames within one tick of the coarse clock.
fn warm_up(reader: &mut Reader, writer: &mut Writer) {
    for _ in 0..40 {
        writer.write_frame(&[1; 8]).unwrap();
        reader.try_read_frame().unwrap().expect("a frame");
    }
}

#[test]
fn frames_on_the_fast_path_are_checked_like_all_others() {
    let name = name("fast");
    let config = BufferConfig::default().payload_size(64 << 10);
    let mut reader = Reader::create(&name, config).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let most = writer.max_frame_size();
    let frames = vec![3; most + 1];
    for _ in 0..50 {
        warm_up(&mut reader, &mut writer);
        for (len, kind) in [(0, ErrorKind::InvalidFrameSize), (most + 1, ErrorKind::FrameTooLarge)] {
            assert_eq!(writer.write_frame(&frames[..len]).unwrap_err().kind(), kind);
            warm_up(&mut reader, &mut writer);
            assert_eq!(writer.acquire_frame(len).unwrap_err().kind(), kind);
            warm_up(&mut reader, &mut writer);
        }
        assert_eq!(writer.acquire_frame(usize::MAX).unwrap_err().kind(), ErrorKind::FrameTooLarge);
        warm_up(&mut reader, &mut writer);
        writer.acquire_frame_buffer(100).unwrap();
        assert_eq!(writer.write_frame(&frames[..8]).unwrap_err().kind(), ErrorKind::InvalidState);
        assert_eq!(writer.acquire_frame_buffer(8).unwrap_err().kind(), ErrorKind::InvalidState);
        for bad in [0, 101, usize::MAX] {
            assert_eq!(writer.commit_frame(Some(bad)).unwrap_err().kind(), ErrorKind::InvalidFrameSize);
        }
        writer.acquired().expect("still acquired").fill(9);
        writer.commit_frame(Some(60)).unwrap();
        assert_eq!(*reader.try_read_frame().unwrap().expect("a frame"), [9; 60]);
        assert_eq!(writer.commit_frame(None).unwrap_err().kind(), ErrorKind::InvalidState);
        warm_up(&mut reader, &mut writer);
        drop(writer.acquire_frame(most).unwrap());
        warm_up(&mut reader, &mut writer);
        writer.write_frame(&frames[..most]).unwrap();
        assert_eq!(*reader.try_read_frame().unwrap().expect("a frame"), frames[..most]);
    }
}

#[test]
fn frames_of_every_size_arrive_whole_whatever_path_they_take() {
    let name = name("sizes");
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(1 << 20)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let data: Vec<u8> = (0..20_000_u32).map(|i| (i * 31 + 7) as u8).collect();
    let mut copy = vec![0; data.len()];
    for round in 0..4 {
        for len in (1..300).chain((1000..1100).step_by(3)).chain([2047, 2048, 2049, 8191, 20_000]) {
            if round % 2 == 0 {
                writer.write_frame(&data[..len]).unwrap();
            } else {
                let mut frame = writer.acquire_frame(len).unwrap();
                frame.copy_from_slice(&data[..len]);
                frame.commit().unwrap();
            }
            if round > 1 {
                let frame = reader.try_read_frame().unwrap().expect("a frame");
                assert_eq!(frame.copy_to(&mut copy), len);
            } else {
                let frame = reader.read_frame_ref(Duration::ZERO).unwrap().expect("a frame");
                assert_eq!(frame.copy_to(&mut copy), len);
            }
            assert_eq!(copy[..len], data[..len], "{len} bytes in round {round}");
        }
    }
}

#[test]
fn a_lap_that_begins_in_place_overwrites_nothing_that_is_unread() {
    let name = name("lap");
    // Room for five frames of 928 bytes in a lap.
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(4096)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let (mut written, mut read) = (0_u8, 0_u8);
    for _ in 0..2000 {
        while let Some(mut frame) = writer.try_acquire_frame(900).unwrap() {
            frame.fill(written);
            frame.commit().unwrap();
            written = written.wrapping_add(1);
            assert!(written.wrapping_sub(read) <= 5, "more frames than there is room for");
        }
        for _ in 0..2 {
            assert_eq!(*reader.try_read_frame().unwrap().expect("a frame"), [read; 900]);
            read = read.wrapping_add(1);
        }
    }
}

#[test]
fn a_ring_has_room_for_a_frame_as_large_as_its_payload_wherever_it_stands() {
    let name = name("largest");
    for classic in [false, true] {
        let config = BufferConfig::default().payload_size(1024).classic(classic);
        let mut reader = Reader::create(&name, config).unwrap();
        let mut writer = Writer::connect(&name).unwrap();
        writer.set_write_timeout(Duration::ZERO);
        for len in (1..=1008).step_by(7) {
            writer.write_frame(&vec![1; len]).unwrap();
            assert_eq!(reader.try_read_frame().unwrap().expect("a frame").len(), len);
            writer.write_frame(&[2; 1008]).unwrap();
            assert_eq!(*reader.try_read_frame().unwrap().expect("a frame"), [2; 1008]);
        }
    }
}

#[test]
fn cursors_count_laps_and_units() {
    let cursor = Cursor::new(3, 160);
    assert_eq!((cursor.parity(), cursor.next_lap().parity(), cursor.at(32)), (1, 0, Cursor::new(3, 32)));
}

#[test]
fn where_responses_come_in_any_order_the_end_of_a_writer_is_told_before_the_next_ones_frames() {
    let name = name("any-order");
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(4096)).unwrap();
    reader.accept_any_sequence();
    for _ in 0..2 {
        let mut writer = Writer::connect(&name).unwrap();
        writer.write_frame(b"one").unwrap();
        writer.write_frame(b"two").unwrap();
    }
    for _ in 0..2 {
        assert_eq!(&*reader.read_frame(Duration::from_secs(9)).unwrap().expect("a frame"), b"one");
        assert_eq!(&*reader.read_frame(Duration::from_secs(9)).unwrap().expect("a frame"), b"two");
        let end = reader.read_frame(Duration::from_secs(9)).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::WriterClosed);
    }
}

#[test]
fn an_entry_takes_all_bytes_or_leaves_the_count_whole() {
    let name = name("entry");
    let config = BufferConfig::default().payload_size(4096);
    let pid = u64::from(std::process::id());
    let fresh = || (Reader::create(&name, config.clone()).unwrap(), map(&name, &config));
    let free = |mapping: &Mapping| mapping.oieb().payload_free_bytes.load(Ordering::SeqCst);
    let is_marked = |mapping: &Mapping| entry::word(mapping).is_entering();
    let mark = |mapping: &Mapping| {
        mapping.oieb().extension.fetch_or(ExtensionWord::ENTERING, Ordering::SeqCst);
    };

    let (reader, mapping) = fresh();
    mapping.oieb().writer_pid.store(pid, Ordering::SeqCst);
    assert!(matches!(entry::enter(&mapping, true), Entry::Extended));
    assert_eq!((free(&mapping), is_marked(&mapping), mapping.is_extended()), (0, false, true));
    drop(reader);

    // Another writer's pid stands there: 0 bytes stay taken, which its reader gives back, and anything else is mended.
    let (reader, mapping) = fresh();
    mapping.oieb().writer_pid.store(pid + 1, Ordering::SeqCst);
    assert!(matches!(entry::enter(&mapping, true), Entry::Foreign(foreign) if foreign == pid + 1));
    assert_eq!((free(&mapping), is_marked(&mapping), mapping.is_extended()), (0, true, false));
    assert!(!entry::end(&mapping, None), "it is too early");
    assert!(entry::end(&mapping, Some(0)));
    assert_eq!((free(&mapping), is_marked(&mapping)), (4096, false));
    assert!(!entry::end(&mapping, Some(0)), "there is nothing to end");
    drop(reader);

    // A writer died with the mark, and had taken nothing.
    let (reader, mapping) = fresh();
    mapping.oieb().writer_pid.store(pid, Ordering::SeqCst);
    mark(&mapping);
    assert!(matches!(entry::enter(&mapping, true), Entry::Extended));
    assert_eq!((free(&mapping), is_marked(&mapping), mapping.is_extended()), (0, false, true));
    drop(reader);

    // A writer died with the mark, and had taken all bytes.
    let (reader, mapping) = fresh();
    mapping.oieb().writer_pid.store(pid, Ordering::SeqCst);
    mapping.oieb().payload_free_bytes.store(0, Ordering::SeqCst);
    mark(&mapping);
    assert!(matches!(entry::enter(&mapping, true), Entry::Extended));
    assert_eq!((free(&mapping), is_marked(&mapping), mapping.is_extended()), (0, false, true));
    drop(reader);

    // The count says that a writer is at work, though it has counted nothing yet.
    let (reader, mapping) = fresh();
    mapping.oieb().writer_pid.store(pid, Ordering::SeqCst);
    mapping.oieb().payload_free_bytes.store(100, Ordering::SeqCst);
    assert!(matches!(entry::enter(&mapping, true), Entry::Classic));
    assert_eq!((free(&mapping), is_marked(&mapping), mapping.is_extended()), (100, false, false));
    drop(reader);

    // A 1.x writer has written, or has written and its reader has not looked.
    for free_bytes in [4096 - 100, 0] {
        let (reader, mapping) = fresh();
        mapping.oieb().writer_pid.store(pid, Ordering::SeqCst);
        mapping.oieb().payload_free_bytes.store(free_bytes, Ordering::SeqCst);
        mapping.oieb().payload_written_count.store(1, Ordering::SeqCst);
        assert!(matches!(entry::enter(&mapping, true), Entry::Classic));
        assert_eq!((free(&mapping), is_marked(&mapping)), (free_bytes, false));
        mark(&mapping);
        assert!(!entry::end(&mapping, Some(0)), "the ring is in use, or full");
        drop(reader);
    }

    // What a commit left below 0 is made whole once; what is whole stays.
    for (left, whole) in [(100_u64.wrapping_neg(), 4096 - 100), (4096, 4096), (17, 17)] {
        let (reader, mapping) = fresh();
        mapping.oieb().payload_free_bytes.store(left, Ordering::SeqCst);
        mark(&mapping);
        assert!(entry::mend(&mapping, left));
        assert_eq!((free(&mapping), is_marked(&mapping)), (whole, false), "{left:#x}");
        drop(reader);
    }
    let (_reader, mapping) = fresh();
    assert!(!entry::mend(&mapping, 5_u64.wrapping_neg()), "the count has changed since it was looked at");
}

#[test]
fn memory_is_asked_for_once_and_known_from_then_on() {
    let name = name("reserve");
    let config = BufferConfig::default().payload_size(2 << 20);
    let _reader = Reader::create(&name, config.clone()).unwrap();
    let segment = || os::Segment::open(&name, true).unwrap();
    let memory = || segment().info().unwrap().memory;
    let mut reserver = Reserver::new(segment(), config.geometry(&name).unwrap());
    assert!(!reserver.has_up_to(1));
    let before = memory();
    reserver.reserve(0, 1000).unwrap();
    assert!(memory() > before, "the memory is there");
    assert!(reserver.has_up_to(1000) && reserver.up_to() >= 1000);
    assert!(!reserver.has_up_to(1 << 20));
    // Behind a gap nothing is known up to there; with the gap closed, all is.
    reserver.reserve(1 << 20, 1000).unwrap();
    assert!(!reserver.has_up_to((1 << 20) + 1000));
    reserver.reserve(0, 1 << 20).unwrap();
    assert!(reserver.has_up_to((1 << 20) + 1000));
    assert_eq!(reserver.back(0, 5000), Some(reserver.up_to() + 16));
}

#[test]
fn a_successor_overwrites_nothing_that_is_unread() {
    let name = name("successor");
    // As above: five frames of 928 bytes a lap.
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(4096)).unwrap();
    let mut written = 0_u8;
    let mut write = |writer: &mut Writer| {
        let sequence = writer.try_write_frame(&[written; 900]).unwrap();
        written += u8::from(sequence.is_some());
        sequence.is_some()
    };
    let mut writer = Writer::connect(&name).unwrap();
    assert!((0..5).all(|_| write(&mut writer)));
    for index in 0..2 {
        assert_eq!(*reader.try_read_frame().unwrap().expect("a frame"), [index; 900]);
    }
    assert!(write(&mut writer), "the first of the next lap");
    drop(writer);
    let mut writer = Writer::connect(&name).unwrap();
    assert!(write(&mut writer), "one place was given back");
    assert!(!write(&mut writer), "what follows has not been read");
    let mut next = 2;
    while next < 7 {
        match reader.read_frame(Duration::from_secs(9)) {
            Ok(frame) => {
                assert_eq!(*frame.expect("a frame"), [next; 900]);
                next += 1;
            }
            Err(error) => assert_eq!((error.kind(), next), (ErrorKind::WriterClosed, 6)),
        }
    }
}
