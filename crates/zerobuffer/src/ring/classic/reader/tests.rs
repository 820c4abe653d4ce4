//! What a reader of a classic ring makes of words and headers that 1.x, dying or hostile writers leave.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use super::*;
use crate::config::BufferConfig;
use crate::error::ErrorKind;
use crate::lifecycle::registry;
use crate::os;
use crate::reader::Reader;
use crate::writer::Writer;

const CAPACITY: u64 = 1024;
const PATIENCE: Duration = Duration::from_secs(30);

/// A buffer, and what is needed to change it behind its reader's back.
struct Forge {
    name: String,
    reader: Reader,
    mapping: Mapping,
    memory: Reserver,
    file: File,
}

impl Forge {
    fn new(what: &str) -> Forge {
        let name = format!("unit-classic-{what}-{}", std::process::id());
        let config = BufferConfig::default().payload_size(CAPACITY as usize).classic(true);
        let reader = Reader::create(&name, config.clone()).unwrap();
        let segment = os::Segment::open(&name, true).unwrap();
        let geometry = config.geometry(&name).unwrap();
        let mapping = Mapping::new(&segment, geometry, false).unwrap();
        let path = os::Folder::shared_memory().path_of(&name);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        Forge { name, reader, mapping, memory: Reserver::new(segment, geometry), file }
    }

    fn write(&self, position: u64, bytes: &[u8]) {
        self.file.write_all_at(bytes, self.mapping.geometry().payload_offset() + position).unwrap();
    }

    fn header(&self, position: u64, size: u64, sequence: u64) {
        self.write(position, &FrameHeader { size, sequence }.to_bytes());
    }
}

#[test]
fn frames_account_for_a_count_if_they_follow_each_other_to_its_end() {
    let mut forge = Forge::new("account");
    let mut side = ReadSide::new(CAPACITY, false);
    side.expected = 5;
    let mut accounts = |forge: &mut Forge, position, unread| {
        side.position = position;
        side.accounted_for(&forge.mapping, &mut forge.memory, unread)
    };
    // Two frames of 32 bytes each: in order, then from another writer, then with one missing between them.
    for (second, expected) in [(6, true), (1, true), (7, false)] {
        forge.header(0, 16, 5);
        forge.header(32, 16, second);
        assert_eq!(accounts(&mut forge, 0, 64), expected, "5, {second}");
    }
    assert!(!accounts(&mut forge, 0, 80), "no frame is behind them");
    // The second one at the start of the ring: behind a marker, and behind a gap without one.
    forge.header(0, 16, 6);
    forge.header(960, 16, 5);
    forge.header(992, 0, 0);
    assert!(accounts(&mut forge, 960, 96));
    forge.header(960, 40, 5);
    forge.write(1016, &[0xff; 8]);
    assert!(accounts(&mut forge, 960, 96));
    // Where a marker has room, there must be one.
    forge.header(976, 16, 5);
    forge.header(1008, 7, 6);
    assert!(!accounts(&mut forge, 976, 80));
}

#[test]
fn a_frame_that_begins_again_is_another_writers_if_the_words_say_so() {
    let forge = Forge::new("changed");
    let oieb = forge.mapping.oieb();
    let mut side = ReadSide::new(CAPACITY, false);
    let own = std::process::id();
    let word = WriterWord(0).next(own, false);
    let changed = |side: &ReadSide, word: WriterWord, pid: u64| {
        oieb.writer_word.store(word.0, Ordering::SeqCst);
        oieb.writer_pid.store(pid, Ordering::SeqCst);
        side.writer_changed(&forge.mapping)
    };
    assert!(changed(&side, WriterWord(0), 0), "a 1.x writer has closed");
    assert!(changed(&side, WriterWord(0), 1), "a 1.x writer is there");
    assert!(changed(&side, word, own.into()), "the first native one");
    side.settle(word.epoch());
    assert!(!changed(&side, word, own.into()), "the same one");
    assert!(changed(&side, word.closed(), 0));
    assert!(changed(&side, word, 1), "a 1.x writer took its place");
}

#[test]
fn the_position_of_a_frame_that_a_dead_writer_did_not_commit_is_taken_back() {
    let forge = Forge::new("withdraw");
    let oieb = forge.mapping.oieb();
    let withdraw = |dead| {
        oieb.payload_write_pos.store(64, Ordering::SeqCst);
        ReadSide::new(CAPACITY, false).withdraw_uncommitted(&forge.mapping, &mut ReleaseQueue::new(), dead);
        oieb.payload_write_pos.load(Ordering::SeqCst)
    };
    let words = WriterWords::load(oieb);
    assert_eq!(withdraw(words), 0);
    assert_eq!(withdraw(WriterWords { pid: 7, ..words }), 64, "the next writer is there");
}

#[test]
fn tokens_are_taken_with_the_frames_that_they_came_for() {
    let mut forge = Forge::new("tokens");
    let (semaphore, _) = os::Semaphore::open(&registry::write_semaphore(&forge.name)).unwrap();
    let mut writer = Writer::connect(&forge.name).unwrap();
    for _ in 0..TOKEN_BATCH {
        // As a 1.x writer does for each frame.
        semaphore.post();
        writer.write_frame(b"frame").unwrap();
        assert!(forge.reader.try_read_frame().unwrap().is_some());
    }
    assert_eq!(semaphore.value(), 1, "that of the connection is left");
}

#[test]
fn a_writer_that_begins_again_is_out_of_sequence_although_others_came_before_it() {
    let mut forge = Forge::new("again");
    drop(Writer::connect(&forge.name).unwrap());
    assert_eq!(forge.reader.read_frame(PATIENCE).unwrap_err().kind(), ErrorKind::WriterClosed);
    let mut writer = Writer::connect(&forge.name).unwrap();
    (0..3).for_each(|_| _ = writer.write_frame(&[1; 16]).unwrap());
    forge.header(64, 16, 1);
    for _ in 0..2 {
        assert!(forge.reader.read_frame(PATIENCE).unwrap().is_some());
    }
    assert_eq!(forge.reader.read_frame(PATIENCE).unwrap_err().kind(), ErrorKind::SequenceError);
}

#[test]
fn memory_is_reserved_ahead_of_a_1x_writer() {
    let name = format!("unit-classic-ahead-{}", std::process::id());
    let config = BufferConfig::default().payload_size(32 << 20).classic(true);
    let mut reader = Reader::create(&name, config.clone()).unwrap();
    let segment = os::Segment::open(&name, true).unwrap();
    let mapping = Mapping::new(&segment, config.geometry(&name).unwrap(), false).unwrap();
    let memory = || segment.info().unwrap().memory;
    assert!(memory() < 1 << 20);
    // Process 1 lives, and is no native writer.
    mapping.oieb().writer_pid.store(1, Ordering::SeqCst);
    assert!(reader.try_read_frame().unwrap().is_none());
    assert!(memory() >= 8 << 20, "{} bytes", memory());
}
