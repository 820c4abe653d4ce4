//! The newest frame: what is passed over, what is told on the way, and what it costs.

use super::support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::forge::Forge;
use super::support::{Name, PATIENCE, Peer, Random, fill, is_filled, role, say};
use zerobuffer::{ErrorKind, Reader, Writer, WriterOptions, inspect};

support::peers!(writer, page_counter);

/// Writes frames, the sequence number of each in its content, until it is killed.
fn writer(arguments: &[String]) {
    let options = WriterOptions::default().connect_timeout(PATIENCE).write_timeout(PATIENCE);
    let mut writer = Writer::connect_with(&arguments[0], options).unwrap();
    say("connected");
    let mut random = Random(7);
    for sequence in 1_u64.. {
        let mut frame = writer.acquire_frame(random.between(1, 400) as usize).unwrap();
        fill(sequence, &mut frame);
        frame.commit().unwrap();
    }
}

#[test]
fn the_newest_frame_comes_and_those_before_it_are_counted_and_given_back_at_once() {
    let name = Name::new("newest");
    let mut reader = Reader::create(&name, support::config().payload_size(1 << 16)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let free = || inspect::snapshot(&name).unwrap().payload_free;
    assert!(reader.read_latest_frame(Duration::ZERO).unwrap().is_none());
    for index in 1..=100 {
        writer.write_frame(&[index; 240]).unwrap();
    }
    let frame = reader.read_latest_frame(PATIENCE).unwrap().unwrap();
    assert_eq!((&*frame, frame.sequence()), ([100; 240].as_slice(), 100));
    assert_eq!((reader.frames_read(), reader.bytes_read(), reader.frames_skipped()), (1, 240, 99));
    assert_eq!(free(), (1 << 16) - 256, "all but the newest frame");
    assert_eq!((reader.stats().held.frames, reader.stats().held.oldest), (1, Some(100)));
    drop(frame);
    assert_eq!(free(), 1 << 16);
    // One frame alone is the newest.
    writer.write_frame(b"alone").unwrap();
    assert_eq!(&*reader.read_latest_frame_ref(PATIENCE).unwrap().unwrap(), b"alone");
    assert_eq!((reader.frames_skipped(), free()), (99, 1 << 16));
    assert!(reader.read_latest_frame(Duration::ZERO).unwrap().is_none());
}

#[test]
fn frames_that_are_held_keep_what_was_passed_over_behind_them() {
    let name = Name::new("newest-held");
    let mut reader = Reader::create(&name, support::config().payload_size(1 << 16)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let mut write = |count: u8| (0..count).for_each(|_| _ = writer.write_frame(&[5; 240]).unwrap());
    let held = |reader: &Reader| (reader.stats().held.frames, reader.stats().held.oldest);
    write(1);
    let first = reader.read_frame(PATIENCE).unwrap().unwrap();
    write(10);
    let second = reader.read_latest_frame(PATIENCE).unwrap().unwrap();
    write(10);
    let third = reader.read_latest_frame(PATIENCE).unwrap().unwrap();
    assert_eq!((held(&reader), reader.frames_skipped()), ((3, Some(1)), 18));
    let free = || (1 << 16) - inspect::snapshot(&name).unwrap().payload_free;
    assert!(free() >= 21 * 256, "the first frame has the space of all");
    drop(second);
    assert_eq!(held(&reader), (2, Some(1)));
    drop(first);
    assert_eq!((held(&reader), free()), ((1, Some(21)), 256));
    drop(third);
    assert_eq!(free(), 0);
}

#[test]
fn each_writers_newest_frame_comes_before_its_end_and_that_before_the_next_writers() {
    let name = Name::new("newest-ends");
    let mut reader = Reader::create(&name, support::config().payload_size(1 << 16)).unwrap();
    let write = |first: u8, count: u8| {
        let mut writer = Writer::connect(&name).unwrap();
        (first..first + count).for_each(|byte| _ = writer.write_frame(&[byte; 30]).unwrap());
        writer
    };
    write(10, 5).close().unwrap();
    write(20, 3).close().unwrap();
    let live = write(30, 4);
    let mut found = Vec::new();
    let mut read = |timeout| match reader.read_latest_frame(timeout) {
        Ok(frame) => found.push(frame.map_or("nothing".to_owned(), |frame| frame[0].to_string())),
        Err(error) => found.push(error.kind().to_string()),
    };
    (0..6).for_each(|_| read(Duration::ZERO));
    drop(live);
    (0..2).for_each(|_| read(Duration::ZERO));
    let expected = ["14", "WriterClosed", "22", "WriterClosed", "33", "nothing", "WriterClosed", "nothing"];
    assert_eq!(found, expected);
    write(40, 2).close().unwrap();
    write(50, 2).close().unwrap();
    let firsts: Vec<u8> = reader.latest_frames().map(|frame| frame.unwrap()[0]).collect();
    assert_eq!(firsts, [41], "one writer's");
    assert_eq!(reader.frames_skipped(), 4 + 2 + 3 + 1);
}

#[test]
fn the_newest_frame_of_a_writer_that_was_killed_comes_before_its_death() {
    for round in 0..if support::full() { 200 } else { 12 } {
        let name = Name::new("newest-kill");
        let mut reader = Reader::create(&name, support::config().payload_size(1 << 16)).unwrap();
        let mut peer = Peer::start(role!(writer), &[&name]);
        peer.expect("connected");
        let mut random = Random(round);
        let (mut last, mut held) = (0, None);
        let kill_at = random.between(1, 20_000);
        let mut killed = false;
        let end = loop {
            match reader.read_latest_frame(PATIENCE) {
                Ok(frame) => {
                    let frame = frame.expect("in time");
                    let sequence = frame.sequence();
                    assert!(sequence > last, "{sequence} after {last}");
                    assert!(is_filled(sequence, &frame), "frame {sequence}");
                    last = sequence;
                    // All that was passed over lies between the two.
                    held = Some(frame);
                }
                Err(error) => break error,
            }
            if last >= kill_at && !std::mem::replace(&mut killed, true) {
                peer.kill();
            }
        };
        assert_eq!(end.kind(), ErrorKind::WriterDead, "{end}");
        assert_eq!(reader.frames_read() + reader.frames_skipped(), last, "every frame was read or skipped");
        drop(held);
        assert_eq!(inspect::snapshot(&name).unwrap().payload_free, 1 << 16);
        // The next writer's newest.
        Writer::connect(&name).unwrap().write_frames([[1], [2]]).unwrap();
        assert_eq!(*reader.read_latest_frame(PATIENCE).unwrap().unwrap(), [2]);
    }
}

#[test]
fn a_writer_that_never_rests_is_not_followed_without_end() {
    let name = Name::new("newest-fast");
    let mut reader = Reader::create(&name, support::config().payload_size(1 << 20)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writing = {
        let (name, stop) = (name.to_string(), Arc::clone(&stop));
        std::thread::spawn(move || {
            let mut writer = Writer::connect(&name).unwrap();
            while !stop.load(Ordering::Relaxed) {
                writer.write_frame(&writer.frames_written().wrapping_add(1).to_le_bytes()).unwrap();
            }
            writer.frames_written()
        })
    };
    let mut last = 0;
    for _ in 0..if support::full() { 1_000_000 } else { 20_000 } {
        let frame = reader.read_latest_frame(PATIENCE).unwrap().expect("in time");
        let sequence = frame.sequence();
        assert_eq!(*frame, sequence.to_le_bytes());
        assert!(sequence > last);
        last = sequence;
        // A call passes over what is there when it begins and what came meanwhile: no more than two rings of it.
        assert!(reader.frames_read() + reader.frames_skipped() == sequence);
    }
    stop.store(true, Ordering::Relaxed);
    // The writer may wait for space.
    while !writing.is_finished() {
        let _ = reader.read_latest_frame(Duration::from_millis(1));
    }
    let written = writing.join().unwrap();
    let left = reader.read_latest_frame(Duration::ZERO);
    last = left.ok().flatten().map_or(last, |frame| frame.sequence()).max(last);
    assert!(last <= written);
    assert_eq!(reader.frames_read() + reader.frames_skipped(), written);
}

#[test]
fn frames_that_are_passed_over_are_not_touched() {
    let mut peer = Peer::start(role!(page_counter), &[&*Name::new("newest-pages")]);
    let said = peer.hear();
    assert!(peer.wait().success(), "{said}");
}

fn page_counter(arguments: &[String]) {
    const FRAMES: u64 = 60;
    let name = &arguments[0];
    let mut reader = Reader::create(name, support::config().payload_size(128 << 20)).unwrap();
    let mut writer = Writer::connect(name).unwrap();
    for index in 0..FRAMES {
        let mut frame = writer.acquire_frame(1 << 20).unwrap();
        frame[..8].copy_from_slice(&index.to_le_bytes());
        frame.commit().unwrap();
    }
    let faults = || {
        // SAFETY: a rusage is plain numbers, and `usage` has room for the result.
        unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage), 0);
            usage.ru_minflt.cast_unsigned()
        }
    };
    let before = faults();
    let frame = reader.read_latest_frame(PATIENCE).unwrap().unwrap();
    let faults = faults() - before;
    assert_eq!(frame[..8], (FRAMES - 1).to_le_bytes());
    // A frame has 256 pages; those of the newest are mapped.
    assert!(faults < 256 + 4 * FRAMES, "{faults} page faults");
    say(format!("{faults} page faults"));
}

#[test]
fn passing_over_frames_costs_a_fraction_of_reading_them() {
    const FRAMES: u32 = 100_000;
    let name = Name::new("newest-cost");
    let mut reader = Reader::create(&name, support::config().payload_size(16 << 20)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let mut best = [Duration::MAX; 2];
    for round in 0..12 {
        for _ in 0..FRAMES {
            writer.write_frame(&[round; 64]).unwrap();
        }
        let began = Instant::now();
        if round % 2 == 0 {
            assert!(reader.read_latest_frame(Duration::ZERO).unwrap().is_some());
        } else {
            (0..FRAMES).for_each(|_| drop(reader.read_frame_ref(Duration::ZERO).unwrap().unwrap()));
        }
        let best = &mut best[usize::from(round % 2)];
        *best = began.elapsed().min(*best);
    }
    let [latest, each] = best;
    println!("100,000 frames of 64 bytes: {latest:?} to the newest, {each:?} one by one");
    if !cfg!(debug_assertions) {
        assert!(latest * 2 < each, "{latest:?}, {each:?}");
    }
}

#[test]
fn a_frame_that_is_wrong_comes_after_the_newest_one_before_it() {
    let name = Name::new("newest-wrong");
    let mut reader = Reader::create(&name, support::config().payload_size(1 << 16)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    (0..8).for_each(|index| _ = writer.write_frame(&[index; 240]).unwrap());
    // The numbers of the sixth frame's header: behind the first block and the metadata, 256 bytes a frame, and 16 more for the word in
    // the first header of an extended ring.
    let snapshot = inspect::snapshot(&name).unwrap();
    let ring = 128 + snapshot.metadata_size;
    let sixth = ring + 5 * 256 + if support::is_classic() { 0 } else { 16 };
    let segment = Forge::segment(&name);
    assert_eq!(segment.get(sixth + 8), 6);
    segment.set(sixth + 8, 7);
    assert_eq!(reader.read_latest_frame(PATIENCE).unwrap().unwrap().sequence(), 5);
    let error = reader.read_latest_frame(PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SequenceError, "{error}");
    segment.set(sixth + 8, 6);
    assert_eq!(reader.read_latest_frame(PATIENCE).unwrap().unwrap().sequence(), 8);
    assert_eq!(reader.frames_skipped(), 6);
}

#[test]
fn failure_03_the_tokens_of_frames_that_were_passed_over_are_taken() {
    if !support::is_classic() {
        // Without semaphores.
        return;
    }
    let name = Name::new("newest-tokens");
    let mut reader = Reader::create(&name, support::config().payload_size(1 << 16)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    (0..300).for_each(|_| _ = writer.write_frame(&[1; 8]).unwrap());
    // A 1.x writer posts one for each frame.
    let tokens = Forge::semaphore(&name, 'w');
    tokens.set_tokens(300);
    assert_eq!(reader.read_latest_frame(Duration::ZERO).unwrap().unwrap().sequence(), 300);
    assert_eq!(tokens.tokens(), 0);
}

#[test]
fn an_interrupt_ends_a_wait_for_the_newest_frame_and_leaves_one_that_is_there() {
    let name = Name::new("newest-interrupt");
    let mut reader = Reader::create(&name, support::config().payload_size(1 << 16)).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let handle = reader.interrupt_handle();
    writer.write_frames([b"a", b"b"]).unwrap();
    handle.interrupt();
    assert_eq!(&*reader.read_latest_frame(PATIENCE).unwrap().unwrap(), b"b");
    assert_eq!(reader.read_latest_frame(PATIENCE).unwrap_err().kind(), ErrorKind::Interrupted);
}
