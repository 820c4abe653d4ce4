//! What a reader and a writer tell about themselves, and what any thread can ask.

use super::support::{self, Name, PATIENCE};

use std::time::Duration;

use zerobuffer::{Reader, Writer};

/// Bytes of the ring that a frame of `len` bytes, less than 1024, takes up when it is written by a copy.
fn bytes(len: u64) -> u64 {
    if support::is_classic() { len + 16 } else { (16 + len).next_multiple_of(16) }
}

#[test]
fn the_frames_that_are_held_are_counted_in_whatever_order_they_are_released() {
    let name = Name::new("held");
    let mut reader = Reader::create(&name, support::config().payload_size(64 << 10)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    for len in [100, 200, 300, 400] {
        writer.write_frame(&vec![1; len]).unwrap();
    }
    let held = |reader: &Reader| {
        let held = reader.stats().held;
        (held.frames, held.bytes, held.oldest)
    };
    assert_eq!(held(&reader), (0, 0, None));
    // The header of a writer's first frame in an extended ring has room for the writer's word.
    let word = if support::is_classic() { 0 } else { 16 };
    let first = reader.read_frame(PATIENCE).unwrap().unwrap();
    assert_eq!(held(&reader), (1, word + bytes(100), Some(1)));
    let second = reader.read_frame(PATIENCE).unwrap().unwrap();
    let third = reader.read_frame(PATIENCE).unwrap().unwrap();
    assert_eq!(held(&reader), (3, word + bytes(100) + bytes(200) + bytes(300), Some(1)));
    second.release();
    // Its space cannot go back before that of the first.
    assert_eq!(held(&reader), (2, word + bytes(100) + bytes(200) + bytes(300), Some(1)));
    first.release();
    assert_eq!(held(&reader), (1, bytes(300), Some(3)));
    third.release();
    assert_eq!(held(&reader), (0, 0, None));
    // Alone again.
    let fourth = reader.read_frame(PATIENCE).unwrap().unwrap();
    assert_eq!(held(&reader), (1, bytes(400), Some(4)));
    let watch = reader.writer_watch().unwrap();
    std::thread::spawn(move || {
        assert_eq!((watch.held().frames, watch.held().oldest), (1, Some(4)), "asked on another thread");
        drop(fourth);
        assert_eq!(watch.held().frames, 0);
    })
    .join()
    .unwrap();
    let stats = reader.stats();
    assert_eq!((stats.frames_read, stats.bytes_read), (4, 1000));
}

#[test]
fn waits_are_counted_and_frames_that_are_there_are_not() {
    let name = Name::new("waits");
    let mut reader = Reader::create(&name, support::config().payload_size(4096)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let waits = |reader: &Reader| reader.stats().waits;
    writer.write_frame(&[1; 100]).unwrap();
    assert!(reader.read_frame(PATIENCE).unwrap().is_some());
    assert!(reader.read_frame(Duration::ZERO).unwrap().is_none());
    assert!(reader.try_read_frame().unwrap().is_none());
    assert_eq!(waits(&reader), 0);
    assert!(reader.read_frame(Duration::from_millis(1)).unwrap().is_none());
    assert_eq!(waits(&reader), 1);

    writer.write_frame(&[1; 3000]).unwrap();
    assert_eq!((writer.stats().waits, writer.stats().full), (0, 0));
    assert!(writer.try_write_frame(&[1; 3000]).unwrap().is_none());
    assert_eq!((writer.stats().waits, writer.stats().full), (0, 1));
    writer.set_write_timeout(Duration::from_millis(1));
    writer.write_frame(&[1; 3000]).unwrap_err();
    assert_eq!((writer.stats().waits, writer.stats().full), (1, 2));
    let watch = writer.reader_watch().unwrap();
    assert_eq!((watch.waits(), watch.full()), (1, 2), "what any thread is told");
    let stats = writer.stats();
    assert_eq!((stats.frames_written, stats.bytes_written), (2, 3100));
}
