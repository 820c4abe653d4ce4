//! Counters of an extended ring that wrap: laps (22 bits) and counts (64 bits) are started just before their
//! ends, by forging the control block before its first use.

use crate::support;

use std::time::Duration;

use crate::support::forge::Mapped;
use crate::support::{Name, PATIENCE, Random, fill, is_filled};
use zerobuffer::{BufferConfig, Reader, Writer, WriterOptions};

const EXTENSION: u64 = 0x60;
/// Words of the control block.
const HEAD: u64 = 0;
const WRITTEN: u64 = 48;
const TAIL: u64 = 128;
const READ: u64 = 136;

const LAPS: u64 = 1 << 22;

/// Passes `frames` frames of mixed sizes through a ring whose first one stands at `position` of `lap`, as if `count` had
/// gone before.
fn pass(payload: usize, lap: u64, position: u64, count: u64, frames: u64) {
    let name = Name::new("counters");
    let mut reader = Reader::create(&name, BufferConfig::default().payload_size(payload)).unwrap();
    let words = Mapped::segment(&name);
    let get = |offset: u64| words.word(offset).load(std::sync::atomic::Ordering::SeqCst);
    let control = get(EXTENSION) & ((1 << 48) - 128);
    let begin = (lap << 42) | (position / 16);
    for (word, value) in [(HEAD, begin), (TAIL, begin), (WRITTEN, count), (READ, count)] {
        words.set(control + word, value);
    }
    let writer_name = name.to_owned();
    let writer = std::thread::spawn(move || {
        let options = WriterOptions::default().write_timeout(PATIENCE);
        let mut writer = Writer::connect_with(&writer_name, options).unwrap();
        let mut random = Random(payload as u64);
        let mut bytes = vec![0; payload];
        for index in 0..frames {
            let most = if index % 100 == 0 { payload as u64 - 16 } else { payload as u64 / 10 };
            let len = random.between(1, most + 1) as usize;
            fill(index, &mut bytes[..len]);
            writer.write_frame(&bytes[..len]).unwrap();
        }
    });
    let mut held = Vec::new();
    for index in 0..frames {
        let frame = reader.read_frame(PATIENCE).unwrap().expect("in time");
        assert_eq!(frame.sequence(), index + 1);
        assert!(is_filled(index, &frame), "frame {index} of {} bytes", frame.len());
        // Every other frame is held until the next but one comes, but none while a large one waits for space.
        held.clear();
        if (1..97).contains(&(index % 100)) && index % 2 == 0 {
            held.push(frame);
        }
    }
    writer.join().unwrap();
    drop(held);
    assert!(reader.read_frame(Duration::ZERO).is_err(), "the writer's end");
    assert_eq!(
        get(control + WRITTEN),
        count.wrapping_add(frames),
        "frames written since the buffer was made"
    );
    assert_eq!(get(control + READ), count.wrapping_add(frames), "frames read since the buffer was made");
    let laps = (get(control + HEAD) >> 42).wrapping_sub(lap) & (LAPS - 1);
    eprintln!("ring of {payload}: {frames} frames in {laps} laps from {lap}, count from {count:#x}");
    assert!(laps > 4, "the count of laps has come round");
    drop(reader);
    name.assert_nothing_left();
}

fn frames() -> u64 {
    if support::full() { 5_000_000 } else { 150_000 }
}

#[test]
fn frames_pass_while_the_count_of_laps_comes_round() {
    pass(4096, LAPS - 1, 0, 0, frames());
    pass(4096, LAPS - 2, 4000, 0, frames());
    pass(64, LAPS - 3, 64, 0, frames());
    // Laps that end early, and leaps.
    pass(32 << 20, LAPS - 2, 0, 0, frames() / 500);
}

#[test]
fn frames_pass_while_counts_come_round() {
    pass(4096, 0, 0, (1 << 32) - 1000, frames());
    pass(4096, LAPS - 5, 16, u64::MAX - 1000, frames());
}
