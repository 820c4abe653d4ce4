//! Ours and the 1.x package from PyPI, as each other's peer: streams, metadata, full buffers, ends.
//!
//! What 1.x does wrong is said where it shows; the numbered failures of the protocol are in `peers_failures.rs`.

#[path = "peers/driver.rs"]
mod driver;
mod support;

use std::time::{Duration, Instant};

use driver::{Content, Old, Raw, Word, hex};
use support::{Name, Peer, Random, say};
use zerobuffer::{BufferConfig, ErrorKind, Reader, Writer};

const SECOND: Duration = Duration::from_secs(1);

/// How soon a blocked side of ours must know.
const SOON: Duration = Duration::from_millis(100);

/// Ring size, largest frame, frames: 100,000 in all. No size is a multiple of 16 but by chance.
const STREAMS: [(usize, u64, u64); 5] =
    [(64, 9, 10_000), (1024, 400, 35_000), (4096, 2000, 30_000), (65536, 9000, 20_000), (1 << 20, 60_000, 5_000)];

#[test]
fn peer_main() {
    support::run_peer(&[("reader", our_reader), ("writer", our_writer)]);
}

fn config(payload_size: usize) -> BufferConfig {
    BufferConfig::default().metadata_size(256).payload_size(payload_size)
}

#[test]
fn a_hundred_thousand_frames_of_their_writer_reach_our_reader() {
    let start = Instant::now();
    let mut old = Old::start();
    old.ok("prepare");
    let mut total = 0;
    for (payload_size, high, count) in STREAMS {
        let name = Name::new("from-old");
        let content = Content { seed: payload_size as u64, low: 1, high };
        let mut reader = Reader::create(&name, config(payload_size)).unwrap();
        old.ok(&format!("connect {}", &*name));
        let start = Instant::now();
        old.tell(&format!("send {} both", content.arguments(0, count)));
        content.receive(&mut reader, 0, count);
        assert_eq!(old.answer_ok(), count.to_string());
        eprintln!("1.x -> ours, ring of {payload_size}: {count} frames in {:?}", start.elapsed());
        old.ok("close");
        assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::WriterClosed);
        assert_eq!(Raw::of(&name).get(Word::FreeBytes), payload_size as u64);
        drop(reader);
        name.assert_nothing_left();
        total += count;
    }
    assert!(total >= 100_000);
    eprintln!("1.x -> ours: {total} frames in {:?}", start.elapsed());
}

#[test]
fn a_hundred_thousand_frames_of_our_writer_reach_their_reader() {
    let start = Instant::now();
    let mut old = Old::start();
    old.ok("prepare");
    let mut total = 0;
    for (payload_size, high, count) in STREAMS {
        let name = Name::new("to-old");
        let content = Content { seed: payload_size as u64, low: 1, high };
        old.ok(&format!("create {} 256 {payload_size}", &*name));
        let mut writer = Writer::connect(&name).unwrap();
        let start = Instant::now();
        old.tell(&format!("receive {}", content.arguments(0, count)));
        content.send(&mut writer, 0, count);
        assert_eq!(old.answer_ok(), count.to_string());
        eprintln!("ours -> 1.x, ring of {payload_size}: {count} frames in {:?}", start.elapsed());
        assert_eq!(Raw::of(&name).get(Word::FreeBytes), payload_size as u64);
        old.ok("close");
        drop(writer);
        total += count;
    }
    assert!(total >= 100_000);
    eprintln!("ours -> 1.x: {total} frames in {:?}", start.elapsed());
}

fn our_reader(_: &[String]) {}
fn our_writer(_: &[String]) {}
