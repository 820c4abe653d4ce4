//! Space that a reader gives back in batches: never so late that a writer notices.

use super::support;

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::support::Name;
use super::support::forge::Forge;
use zerobuffer::{Reader, Writer, inspect};

const SECOND: Duration = Duration::from_secs(1);
const RING: usize = 1 << 20;

fn pair(name: &Name) -> (Reader, Writer) {
    let mut reader = Reader::create(name, support::config().payload_size(RING)).unwrap();
    let mut writer = Writer::connect(name).unwrap();
    // As any traffic does: a token on sem-r without a waiter, a writer that goes on.
    for _ in 0..5 {
        writer.write_frame(&[1; 100]).unwrap();
        read_and_release(&mut reader, 1);
    }
    (reader, writer)
}

fn read_and_release(reader: &mut Reader, count: usize) {
    for _ in 0..count {
        assert!(reader.try_read_frame().unwrap().is_some());
    }
}

/// Bytes of the ring that a frame of `len` bytes, less than 1024, takes up.
fn bytes(len: u64) -> u64 {
    if support::is_classic() { len + 16 } else { (16 + len).next_multiple_of(16) }
}

fn free(name: &Name) -> u64 {
    inspect::snapshot(name).unwrap().payload_free
}

#[test]
fn a_drained_ring_owes_no_space() {
    let name = Name::new("drained");
    let (mut reader, mut writer) = pair(&name);
    for round in 1..60 {
        for _ in 0..round {
            writer.write_frame(&[1; 50]).unwrap();
        }
        read_and_release(&mut reader, round - 1);
        let last = reader.try_read_frame().unwrap().unwrap();
        let held = RING as u64 - free(&name);
        // The reader of an extended ring may put off giving back until it has released all.
        let most = bytes(50) + if support::is_classic() { 0 } else { RING as u64 / 64 };
        assert!(held >= bytes(50) && held <= most, "{held} bytes are in use after {round} frames");
        drop(last);
        assert_eq!(free(&name), RING as u64);
        let snapshot = inspect::snapshot(&name).unwrap();
        let read = (snapshot.read_count, snapshot.read_position);
        assert_eq!(read, (snapshot.written_count, snapshot.write_position));
    }
    // Every legal frame finds room, without a wait.
    writer.set_write_timeout(Duration::ZERO);
    writer.write_frame(&vec![2; RING - 16]).unwrap();
    assert_eq!(reader.try_read_frame().unwrap().unwrap().len(), RING - 16);
}

#[test]
fn space_released_is_withheld_by_no_more_than_a_64th_of_the_ring() {
    let name = Name::new("withheld");
    let (mut reader, mut writer) = pair(&name);
    for _ in 0..4000 {
        writer.write_frame(&[1; 100]).unwrap();
    }
    // A writer that took long took its token, too, which means that space is short. That is over when it has gone on.
    let mut written = 4000;
    let mut read = 0;
    while support::is_classic() && Forge::semaphore(&name, 'r').tokens() == 0 {
        read_and_release(&mut reader, 1);
        read += 1;
        (0..2).for_each(|_| _ = writer.write_frame(&[1; 100]).unwrap());
        written += 2;
    }
    let mut batched = false;
    while read < written {
        read_and_release(&mut reader, 1);
        read += 1;
        let owed = RING as u64 - free(&name) - (written - read) * bytes(100);
        assert!(owed <= RING as u64 / 64, "{owed} bytes are owed after {read} frames");
        batched |= owed > 0;
    }
    assert!(batched, "space went back at every release: is the batch gone?");
}

#[test]
fn a_held_frame_keeps_back_none_of_those_before_it() {
    let name = Name::new("lone");
    let (mut reader, mut writer) = pair(&name);
    for _ in 0..3 {
        writer.write_frame(&[1; 50]).unwrap();
    }
    // The first two go back with the look that finds nothing more to read.
    read_and_release(&mut reader, 2);
    let last = reader.try_read_frame().unwrap().unwrap();
    assert!(reader.try_read_frame().unwrap().is_none());
    assert_eq!(free(&name), RING as u64 - bytes(50));
    drop(last);
    assert_eq!(free(&name), RING as u64);
}

#[test]
fn a_borrowed_frame_goes_back_behind_the_held_ones_before_it() {
    let name = Name::new("behind");
    let (mut reader, mut writer) = pair(&name);
    for held in 1..=3 {
        for _ in 0..=held {
            writer.write_frame(&[1; 50]).unwrap();
        }
        let frames: Vec<_> = (0..held).map(|_| reader.try_read_frame().unwrap().unwrap()).collect();
        drop(reader.read_frame_ref(SECOND).unwrap().unwrap());
        assert_eq!(free(&name), RING as u64 - (held + 1) * bytes(50), "{held} frames are held");
        drop(frames);
        assert_eq!(free(&name), RING as u64);
    }
}

#[test]
fn a_writer_that_found_no_space_gets_every_release_at_once() {
    let name = Name::new("short");
    let (mut reader, mut writer) = pair(&name);
    for _ in 0..3000 {
        writer.write_frame(&[1; 100]).unwrap();
    }
    // More than half of the ring is free, but not enough.
    let large = vec![2; RING - 1000];
    assert_eq!(writer.try_write_frame(&large).unwrap(), None);
    for read in 1..=50 {
        read_and_release(&mut reader, 1);
        assert_eq!(free(&name), RING as u64 - (3000 - read) * bytes(100), "after {read} releases");
        if read > 2 {
            // It asks again, as a writer does that was woken.
            assert_eq!(writer.try_write_frame(&large).unwrap(), None);
        }
    }
}

#[test]
fn a_classic_ring_that_is_more_than_half_full_owes_nothing() {
    if !support::is_classic() {
        return;
    }
    let name = Name::new("half");
    let (mut reader, mut writer) = pair(&name);
    let frames = RING as u64 / bytes(100) * 3 / 4;
    for _ in 0..frames {
        writer.write_frame(&[1; 100]).unwrap();
    }
    for read in 1..=frames / 4 {
        read_and_release(&mut reader, 1);
        assert_eq!(free(&name), RING as u64 - (frames - read) * bytes(100), "after {read} releases");
    }
}

#[test]
fn a_full_ring_has_room_as_soon_as_one_frame_is_released() {
    let name = Name::new("full");
    let (mut reader, mut writer) = pair(&name);
    let mut written = 0;
    while writer.try_write_frame(&[1; 100]).unwrap().is_some() {
        written += 1;
    }
    for _ in 0..written / 2 {
        read_and_release(&mut reader, 1);
        assert!(writer.try_write_frame(&[1; 100]).unwrap().is_some(), "one frame was released");
        assert!(writer.try_write_frame(&[1; 100]).unwrap().is_none(), "one frame was released");
    }
}

#[test]
fn a_writer_waiting_for_space_is_woken_by_the_very_release_that_makes_it() {
    let name = Name::new("woken");
    let (mut reader, mut writer) = pair(&name);
    let position = || inspect::snapshot(&name).unwrap().write_position;
    writer.write_frame(&vec![1; RING - 20_000 - 16 - position() as usize]).unwrap();
    read_and_release(&mut reader, 1);
    let behind = position();
    for _ in 0..100 {
        writer.write_frame(&[1; 100]).unwrap();
    }
    // More than half of the ring is free, but this frame must go to its start, over the first two of the hundred.
    let header = if support::is_classic() { 16 } else { 64 };
    let large = behind + 2 * bytes(100) - header;
    let waiting = std::thread::spawn(move || {
        writer.write_frame(&vec![2; large as usize]).unwrap();
        (writer, Instant::now())
    });
    // Long enough for it to have gone to sleep; if it has not, the test is only easier to pass.
    std::thread::sleep(Duration::from_millis(50));
    read_and_release(&mut reader, 1);
    assert!(!waiting.is_finished());
    read_and_release(&mut reader, 1);
    let released = Instant::now();
    let (_writer, written) = waiting.join().unwrap();
    assert!(written.saturating_duration_since(released) < SECOND, "the writer was left asleep");
}

#[test]
fn nothing_uncommitted_is_delivered_after_a_batch() {
    let name = Name::new("uncommitted");
    let (mut reader, mut writer) = pair(&name);
    let segment = std::fs::OpenOptions::new().write(true).open(&name.paths()[0]).unwrap();
    let snapshot = inspect::snapshot(&name).unwrap();
    let ring = 128 + snapshot.metadata_size;
    for round in 0..20 {
        let position = inspect::snapshot(&name).unwrap().write_position;
        for _ in 0..5 {
            writer.write_frame(&[1; 100]).unwrap();
        }
        // A header behind the last frame, as a writer leaves it that dies before the commit.
        // In an extended ring its size, in units of 16 bytes, stands in bits 48 and up.
        let size = 100 | if support::is_classic() { 0 } else { 1_u64 << 48 };
        let header = [size.to_le_bytes(), (round * 5 + 11_u64).to_le_bytes()].concat();
        segment.write_all_at(&header, ring + position + 5 * bytes(100)).unwrap();
        read_and_release(&mut reader, 5);
        assert!(reader.try_read_frame().unwrap().is_none(), "a frame was delivered that was never committed");
    }
}

#[test]
fn a_frame_that_must_wrap_finds_space_released_since_the_last_commit() {
    let name = Name::new("wrap");
    let mut reader = Reader::create(&name, support::config().payload_size(1024)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    writer.write_frame(&[1; 600 - 16]).unwrap();
    read_and_release(&mut reader, 1);
    // It would fit behind the first, but for a gap of 8 bytes; so it goes to the start, where the first one was.
    let second = writer.try_write_frame(&[2; 416 - 16]).unwrap();
    assert_eq!(second, Some(2), "the ring is empty");
    assert_eq!(*reader.try_read_frame().unwrap().unwrap(), [2; 416 - 16]);
}
