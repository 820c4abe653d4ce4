//! The native library and the 1.x package from PyPI as each other's peer: streams, metadata, full buffers,
//! ends.
//!
//! Each test notes the faults of 1.x that it meets. The numbered failures of the protocol are in
//! `peers_failures.rs`.

use crate::support;
use crate::support::ledger::Stopwatch;

use std::time::{Duration, Instant};

use crate::driver::{Content, Old, Raw, Word, hex};
use crate::support::{Name, Peer, Random, confine, role, say};
use zerobuffer::{BufferConfig, ErrorKind, Reader, Writer};

const SECOND: Duration = Duration::from_secs(1);

/// How soon a blocked native side must know.
const SOON: Duration = Duration::from_millis(100);

/// Ring size, largest frame, frames: 100,000 in all. No size is a multiple of 16 but by chance.
const STREAMS: [(usize, u64, u64); 5] = [
    (64, 9, 10_000),
    (1024, 400, 35_000),
    (4096, 2000, 30_000),
    (65536, 9000, 20_000),
    (1 << 20, 60_000, 5_000),
];

support::peers!(our_reader, our_writer);

fn config(payload_size: usize) -> BufferConfig {
    support::config().metadata_size(256).payload_size(payload_size)
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

#[test]
fn metadata_crosses_both_ways() {
    for size in [1, 7, 247, 248] {
        let metadata: Vec<u8> = (0..size).map(|i| (i * 37 + size) as u8).collect();
        let name = Name::new("metadata");
        let reader = Reader::create(&name, config(1024)).unwrap();
        let mut old = Old::writer(&name);
        assert_eq!(reader.metadata().unwrap(), None);
        old.ok(&format!("set-metadata {}", hex(&metadata)));
        assert_eq!(reader.metadata().unwrap().unwrap(), metadata);
        // Once a 1.x writer has set it, it is set for a native writer too.
        drop(old);
        let mut writer = Writer::connect(&name).unwrap();
        assert_eq!(writer.set_metadata(b"again").unwrap_err().kind(), ErrorKind::MetadataAlreadyWritten);
        drop((reader, writer));
        name.assert_nothing_left();

        let mut old = Old::reader(&name, 1024);
        let mut writer = Writer::connect(&name).unwrap();
        assert_eq!(old.ok("metadata"), "none");
        writer.set_metadata(&metadata).unwrap();
        assert_eq!(old.ok("metadata"), hex(&metadata));
        assert_eq!(writer.set_metadata(b"again").unwrap_err().kind(), ErrorKind::MetadataAlreadyWritten);
    }
    let name = Name::new("metadata");
    let reader = Reader::create(&name, config(1024)).unwrap();
    let mut old = Old::writer(&name);
    assert!(old.ask(&format!("set-metadata {}", hex(&[1; 249]))).starts_with("error"));
    assert_eq!(reader.metadata().unwrap(), None);
}

#[test]
fn their_blocked_writer_goes_on_when_our_slow_reader_makes_space() {
    let name = Name::new("slow-reader");
    let content = Content { seed: 3, low: 1, high: 400 };
    let mut reader = Reader::create(&name, config(1024)).unwrap();
    let mut old = Old::writer(&name);
    old.ok("write-timeout 20");
    old.tell(&format!("send {} both", content.arguments(0, 300)));
    let mut next = 0;
    while next < 300 {
        // Full when no more than the largest frame and its skip can be free: the writer is asleep by now, or soon.
        let start = Instant::now();
        while Raw::of(&name).get(Word::FreeBytes) >= 850 && start.elapsed() < Duration::from_millis(50) {
            std::thread::yield_now();
        }
        // A few at once, given back together.
        let mut frames = Vec::new();
        reader.read_frames(&mut frames, 3, SECOND * 20).unwrap();
        for frame in frames {
            assert!(*frame == *content.frame(next), "frame {next}");
            next += 1;
        }
    }
    assert_eq!(old.answer_ok(), "300");
    // And one that times out leaves nothing behind.
    old.ok("write-timeout 0.05");
    let mut written = 0;
    while old.ask(&format!("write {}", hex(&[7; 100]))) == "ok" {
        written += 1;
    }
    assert!((6..=8).contains(&written), "{written}");
    for _ in 0..written {
        assert_eq!(*reader.read_frame(SECOND).unwrap().unwrap(), [7; 100]);
    }
    assert!(reader.try_read_frame().unwrap().is_none());
}

#[test]
fn our_blocked_writer_goes_on_when_their_slow_reader_makes_space() {
    let name = Name::new("slow-old-reader");
    let mut old = Old::reader(&name, 1024);
    let mut writer = Writer::connect(&name).unwrap();
    let mut written = 0_u8;
    while writer.try_write_frame(&[written; 100]).unwrap().is_some() {
        written += 1;
    }
    writer.set_write_timeout(Duration::from_millis(50));
    let start = Stopwatch::start();
    assert_eq!(writer.write_frame(&[0; 100]).unwrap_err().kind(), ErrorKind::BufferFull);
    assert!(start.elapsed() >= Duration::from_millis(50));
    start.assert_within(SECOND);
    writer.set_write_timeout(support::PATIENCE);
    let mut delays = Vec::new();
    for round in 0..20 {
        let thread = std::thread::spawn(move || {
            writer.write_frame(&[written + round; 100]).unwrap();
            (writer, Instant::now())
        });
        let frame = old.ok("read 5");
        let answered = Instant::now();
        assert_eq!(frame, format!("{} {}", round + 1, hex(&[round; 100])));
        let done;
        (writer, done) = thread.join().unwrap();
        delays.push(done.saturating_duration_since(answered));
    }
    delays.sort();
    eprintln!(
        "ours blocked, 1.x released: woken after {:?} in the median, {:?} at the worst",
        delays[10], delays[19]
    );
    assert!(delays[10] < Duration::from_millis(20));
}

/// A 1.x reader pays for each wake-up of a writer that sleeps on the semaphore: a native writer sleeps by the clock.
#[test]
fn their_busy_reader_rarely_has_to_wake_our_writer() {
    // On a busy machine, whose clock wakes late, one try may see more.
    assert!((0..3).any(|_| sleeps_beside_their_busy_reader() < FOUND_SPACE / 3));
}

/// Frames that a writer beside their busy reader finds space for, one after the other.
const FOUND_SPACE: u64 = 8000;

fn sleeps_beside_their_busy_reader() -> u64 {
    let name = Name::new("busy-old-reader");
    let mut old = Old::reader(&name, 65536);
    let mut writer = Writer::connect(&name).unwrap();
    writer.set_write_timeout(support::PATIENCE);
    let content = Content { seed: 5, low: 100, high: 101 };
    let filled = 500;
    content.send(&mut writer, 0, filled);
    let count = filled + FOUND_SPACE;
    old.tell(&format!("receive {}", content.arguments(0, count)));
    let before = confine::thread_sleeps();
    content.send(&mut writer, filled, count - filled);
    let sleeps = confine::thread_sleeps() - before;
    assert_eq!(old.answer_ok(), count.to_string());
    eprintln!("{sleeps} sleeps while {} frames found space", count - filled);
    sleeps
}

#[test]
fn failure_19_our_blocked_reader_learns_at_once_that_their_writer_closed() {
    let name = Name::new("close-writer");
    let mut reader = Reader::create(&name, config(1024)).unwrap();
    let mut old = Old::start();
    let mut delays = Vec::new();
    for _ in 0..20 {
        old.ok(&format!("connect {}", &*name));
        old.ok("write aabbcc");
        assert_eq!(*reader.read_frame(SECOND).unwrap().unwrap(), [0xaa, 0xbb, 0xcc]);
        // A 1.x reader would wait for its whole time-out.
        let thread = std::thread::spawn(move || {
            let kind = reader.read_frame(support::PATIENCE).unwrap_err().kind();
            (reader, kind, Instant::now())
        });
        // Includes what the 1.x writer's close takes.
        let start = Instant::now();
        old.ok("close");
        let (back, kind, told) = thread.join().unwrap();
        reader = back;
        assert_eq!(kind, ErrorKind::WriterClosed);
        delays.push(told - start);
    }
    report("1.x writer closed, ours knew", delays);
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn our_blocked_writer_learns_at_once_that_their_reader_closed() {
    let mut old = Old::start();
    let mut delays = Vec::new();
    for _ in 0..20 {
        let name = Name::new("close-reader");
        old.ok(&format!("create {} 256 1024", &*name));
        let mut writer = Writer::connect(&name).unwrap();
        writer.write_frame(&[1; 900]).unwrap();
        writer.set_write_timeout(support::PATIENCE);
        let thread = std::thread::spawn(move || {
            let kind = writer.write_frame(&[2; 900]).unwrap_err().kind();
            (kind, Instant::now())
        });
        let start = Instant::now();
        old.ok("close");
        let (kind, told) = thread.join().unwrap();
        assert_eq!(kind, ErrorKind::ReaderDead);
        delays.push(told - start);
        // A 1.x Python reader leaves both semaphores behind when it closes. The next reader removes them.
        drop(Reader::create(&name, config(1024)).unwrap());
        name.assert_nothing_left();
    }
    report("1.x reader closed, ours knew", delays);
}

/// Prints delays and checks the bounds for what a blocked native side must notice.
#[track_caller]
fn report(what: &str, mut delays: Vec<Duration>) {
    delays.sort();
    let (median, worst) = (delays[delays.len() / 2], delays[delays.len() - 1]);
    eprintln!("{what} after {median:?} in the median, {worst:?} at the worst, of {}", delays.len());
    assert!(median < SOON, "{what}: {delays:?}");
    // The bound itself is for a machine that has time for us.
    assert!(worst < SOON * 10, "{what}: {delays:?}");
}

fn rounds(few: usize, many: usize) -> usize {
    if support::full() { many } else { few }
}

#[test]
fn our_reader_outlives_kills_of_their_writer_and_reads_the_next_one() {
    let name = Name::new("kill-writer");
    let content = Content { seed: 11, low: 1, high: 700 };
    let mut random = Random(11);
    let mut reader = Reader::create(&name, config(4096)).unwrap();
    let mut delays = Vec::new();
    for round in 0..rounds(20, 200) {
        let mut old = Old::writer(&name);
        old.ok("prepare");
        old.tell(&format!("send {} {}", content.arguments(0, 1 << 40), ["copied", "in-place"][round % 2]));
        let after = Duration::from_micros(random.between(0, 60_000));
        let killer = std::thread::spawn(move || {
            // A random moment is wanted, not an event.
            std::thread::sleep(after);
            (old.kill(), old)
        });
        let mut next = 0;
        let error = loop {
            match reader.read_frame(SECOND * 20) {
                Ok(frame) => {
                    let frame = frame.expect("a frame or the end within 20 s");
                    assert_eq!(frame.sequence(), next + 1);
                    assert!(
                        *frame == *content.frame(next),
                        "round {round}: frame {next} is not what was written"
                    );
                    next += 1;
                }
                Err(error) => break error,
            }
        };
        let told = Instant::now();
        let (killed, _) = killer.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::WriterDead, "round {round}, after {next} frames: {error}");
        delays.push(told.saturating_duration_since(killed));
        // All that was committed has been read and given back; but the rest of the ring, if the writer had skipped it for a frame
        // that never came.
        let raw = Raw::of(&name);
        let free = raw.get(Word::FreeBytes);
        assert!(free == 4096 || free == raw.get(Word::ReadPos), "round {round}: {free} bytes are free");
        // The next writer works at once, native or 1.x.
        if round % 4 < 2 {
            let mut writer = Writer::connect(&name).unwrap();
            content.send(&mut writer, 0, 3);
            content.receive(&mut reader, 0, 3);
        } else {
            let mut old = Old::writer(&name);
            old.tell(&format!("send {} both", content.arguments(0, 3)));
            content.receive(&mut reader, 0, 3);
            old.answer_ok();
            old.ok("close");
        }
        assert_eq!(reader.read_frame(SECOND).unwrap_err().kind(), ErrorKind::WriterClosed);
        assert_eq!(raw.get(Word::FreeBytes), 4096, "round {round}");
    }
    report("1.x writer killed, ours knew", delays);
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn failure_20_our_writer_outlives_kills_of_their_reader_and_leaves_nothing_of_it() {
    let name = Name::new("kill-reader");
    let content = Content { seed: 12, low: 1, high: 700 };
    let mut random = Random(12);
    let mut delays = Vec::new();
    for round in 0..rounds(20, 200) {
        let mut old = Old::reader(&name, 4096);
        old.ok("prepare");
        let mut writer = Writer::connect(&name).unwrap();
        writer.set_write_timeout(support::PATIENCE);
        // Every other time the reader stands still, so that our writer is blocked when it dies.
        if round % 2 == 0 {
            old.tell(&format!("receive {}", content.arguments(0, 1 << 40)));
        }
        let after = Duration::from_micros(random.between(5_000, 60_000));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(after);
            (old.kill(), old)
        });
        let mut next = 0;
        let error = loop {
            match writer.write_frame(content.frame(next)) {
                Ok(_) => next += 1,
                Err(error) => break error,
            }
        };
        let told = Instant::now();
        let (killed, _) = killer.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::ReaderDead, "round {round}, after {next} frames: {error}");
        delays.push(told.saturating_duration_since(killed));
        // A new pair under the same name, at once: half of the time while the old writer is still there.
        let writer = if round % 4 < 2 { Some(writer) } else { None };
        let mut reader = Reader::create(&name, config(4096)).unwrap();
        let mut next_writer = Old::writer(&name);
        next_writer.ok("write abcd");
        assert_eq!(*reader.read_frame(SECOND).unwrap().unwrap(), [0xab, 0xcd]);
        drop(writer);
        next_writer.ok("write abcd");
        assert_eq!(*reader.read_frame(SECOND).unwrap().unwrap(), [0xab, 0xcd]);
        next_writer.ok("close");
        drop(reader);
        name.assert_nothing_left();
    }
    report("1.x reader killed, ours knew", delays);
}

fn our_reader(arguments: &[String]) {
    let mut reader = Reader::create(&arguments[0], config(4096)).unwrap();
    say("created");
    for frame in reader.frames() {
        drop(frame.unwrap());
    }
}

fn our_writer(arguments: &[String]) {
    let content = Content { seed: 13, low: 1, high: 700 };
    let mut writer = Writer::connect(&arguments[0]).unwrap();
    say("connected");
    content.send(&mut writer, 0, u64::MAX);
}

#[test]
fn a_new_pair_works_at_once_after_a_kill_of_our_reader_under_their_writer() {
    let name = Name::new("kill-ours");
    let content = Content { seed: 14, low: 1, high: 700 };
    let mut random = Random(14);
    for _ in 0..rounds(8, 100) {
        let mut ours = Peer::start(role!(our_reader), &[&name]);
        ours.expect("created");
        let mut old = Old::writer(&name);
        old.ok("write-timeout 0.2");
        old.tell(&format!("send {} both", content.arguments(0, 1 << 40)));
        std::thread::sleep(Duration::from_micros(random.between(1_000, 30_000)));
        ours.kill();
        // The 1.x writer is still there, and may still be writing to the dead buffer.
        let mut reader = Reader::create(&name, config(4096)).unwrap();
        let mut next = Old::writer(&name);
        next.tell(&format!("send {} both", content.arguments(0, 50)));
        content.receive(&mut reader, 0, 50);
        next.answer_ok();
        // The 1.x writer learns of the death only when its time-out is over.
        let answer = old.answer();
        assert!(answer.starts_with("error ReaderDead") || answer.starts_with("error BufferFull"), "{answer}");
        assert_eq!(old.ok("connected"), "no");
        old.ok("close");
        // What it did on its way out did not touch the new pair.
        next.ok("write 0123");
        assert_eq!(*reader.read_frame(SECOND).unwrap().unwrap(), [0x01, 0x23]);
        drop(reader);
        name.assert_nothing_left();
    }
}

#[test]
fn their_reader_gets_whole_frames_until_our_killed_writer_ends() {
    let name = Name::new("kill-ours");
    let content = Content { seed: 13, low: 1, high: 700 };
    let mut random = Random(15);
    for _ in 0..rounds(6, 60) {
        let mut old = Old::reader(&name, 4096);
        old.ok("prepare");
        let mut ours = Peer::start(role!(our_writer), &[&name]);
        ours.expect("connected");
        old.tell(&format!("receive {} 0.3", content.arguments(0, 1 << 40)));
        std::thread::sleep(Duration::from_micros(random.between(1_000, 30_000)));
        ours.kill();
        // The 1.x reader learns of it only when the read's time-out is over.
        let answer = old.answer();
        assert!(answer.starts_with("error WriterDead"), "{answer}");
        old.ok("close");
        // The 1.x reader leaves both semaphores behind. A new pair works at once, and removes them.
        let mut reader = Reader::create(&name, config(4096)).unwrap();
        let mut next = Old::writer(&name);
        next.ok("write 0123");
        assert_eq!(*reader.read_frame(SECOND).unwrap().unwrap(), [0x01, 0x23]);
        next.ok("close");
        drop(reader);
        name.assert_nothing_left();
    }
}

#[test]
fn one_writer_at_a_time_whichever_side_it_is_of() {
    let name = Name::new("two-writers");
    // A 1.x writer can follow a native one in a classic ring only.
    let mut reader = Reader::create(&name, config(1024).classic(true)).unwrap();
    let ours = Writer::connect(&name).unwrap();
    let mut old = Old::start();
    let answer = old.ask(&format!("connect {}", &*name));
    assert!(answer.starts_with("error WriterAlreadyConnected"), "{answer}");
    drop(ours);
    old.ok(&format!("connect {}", &*name));
    let error = Writer::connect(&name).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriterAlreadyConnected);
    assert!(error.to_string().contains(&old.pid().to_string()), "{error}");
    // The refusals harmed no peer.
    old.ok("write 0123");
    assert_eq!(*reader.read_frame(SECOND).unwrap().unwrap(), [0x01, 0x23]);
    drop(reader);

    let mut old_reader = Old::reader(&name, 1024);
    let ours = Writer::connect(&name).unwrap();
    assert!(ours.is_reader_connected());
    assert_eq!(old_reader.ok("connected"), "yes");
    let answer = old.ask(&format!("connect {}", &*name));
    assert!(answer.starts_with("error WriterAlreadyConnected"), "{answer}");
    old.kill();
    drop(ours);
    assert_eq!(old_reader.ok("connected"), "no");
    let mut old = Old::writer(&name);
    assert_eq!(Writer::connect(&name).unwrap_err().kind(), ErrorKind::WriterAlreadyConnected);
    old.ok("write 0123");
    assert_eq!(old_reader.ok("read 5"), "1 0123");
}

#[test]
fn one_reader_at_a_time_whichever_side_it_is_of() {
    let name = Name::new("two-readers");
    let mut old = Old::reader(&name, 1024);
    assert_eq!(Reader::create(&name, config(1024)).unwrap_err().kind(), ErrorKind::ReaderAlreadyConnected);
    old.ok("close");
    let mut reader = Reader::create(&name, config(1024)).unwrap();
    let answer = old.ask(&format!("create {} 256 1024", &*name));
    // It minds the lock that our reader holds.
    assert!(answer.starts_with("error ZeroBufferException Failed to acquire lock"), "{answer}");
    let mut writer = Old::writer(&name);
    writer.ok("write 0123");
    assert_eq!(*reader.read_frame(SECOND).unwrap().unwrap(), [0x01, 0x23]);
}
