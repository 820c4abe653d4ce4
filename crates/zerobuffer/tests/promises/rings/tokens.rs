//! The semaphores between two native peers: tokens only wake. A full semaphore is no error (spec failure 3), a backlog costs
//! next to nothing, and a token without a frame is nothing (spec failure 17).

use super::support;
use super::support::ledger::Stopwatch;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::support::forge::{Forge, at};
use super::support::{Name, Peer, confine, fill, is_filled, role, say};
use zerobuffer::{BufferConfig, ErrorKind, Reader, Writer, WriterOptions};

const SEM_VALUE_MAX: u32 = i32::MAX as u32;
const STALE: u32 = 5_000_000;

/// Held by tests that measure, or that keep a core busy.
static BUSY: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    BUSY.lock().unwrap_or_else(PoisonError::into_inner)
}

support::peers!(writer);

fn writer(arguments: &[String]) {
    let [name, count] = arguments else { panic!("name, count") };
    let options =
        WriterOptions::default().connect_timeout(support::PATIENCE).write_timeout(support::PATIENCE);
    let mut writer = Writer::connect_with(name, options).unwrap();
    for index in 0..count.parse().unwrap() {
        let mut frame = writer.acquire_frame(1 + index as usize % 700).unwrap();
        fill(index, &mut frame);
        frame.commit().unwrap();
    }
    say("written");
}

fn small() -> BufferConfig {
    support::config().payload_size(4096)
}

/// The semaphores are the only means of waking here.
fn classic() -> BufferConfig {
    small().classic(true)
}

#[test]
fn failure_03_full_semaphores_stop_nobody() {
    let _alone = alone();
    let name = Name::new("sem-max");
    let mut reader = Reader::create(&name, small()).unwrap();
    let [tokens_w, tokens_r] = ['w', 'r'].map(|which| Forge::semaphore(&name, which));
    for near in [0, 1, 3] {
        tokens_w.set_tokens(SEM_VALUE_MAX - near);
        tokens_r.set_tokens(SEM_VALUE_MAX - near);
        let mut peer = Peer::start(role!(writer), &[&name, "1000"]);
        let mut held = std::collections::VecDeque::new();
        let mut count = 0;
        for frame in reader.frames() {
            held.push_back(frame.unwrap());
            if held.len() > 2 {
                assert!(is_filled(count, &held.pop_front().unwrap()));
                count += 1;
            }
        }
        assert_eq!(count + held.len() as u64, 1000);
        peer.expect("written");
        assert!(peer.wait().success());
        // An interrupt posts whatever the count is.
        reader.interrupt_handle().interrupt();
        assert_eq!(reader.read_frame(Duration::ZERO).unwrap_err().kind(), ErrorKind::Interrupted);
    }
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn failure_03_tokens_do_not_pile_up() {
    let name = Name::new("sem-low");
    let mut reader = Reader::create(&name, small()).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let tokens = ['w', 'r'].map(|which| Forge::semaphore(&name, which));
    let mut most = 0;
    for index in 0..20_000_u64 {
        writer.write_frame(&index.to_le_bytes()).unwrap();
        assert_eq!(*reader.try_read_frame().unwrap().unwrap(), index.to_le_bytes());
        most = most.max(tokens[0].tokens()).max(tokens[1].tokens());
    }
    assert!(most <= 3, "up to {most} tokens, though no side waited");
}

#[test]
fn failure_17_no_token_is_posted_to_a_1_x_reader_for_a_frame_that_found_no_space() {
    let name = Name::new("sem-full");
    let reader = Reader::create(&name, classic()).unwrap();
    // The words of a 1.x reader: no native word.
    Forge::segment(&name).set(0x68, 0);
    let tokens = Forge::semaphore(&name, 'w');
    let mut writer = Writer::connect(&name).unwrap();
    writer.set_write_timeout(Duration::from_millis(1));
    let before = tokens.tokens();
    let results: Vec<_> = (0..10).map(|_| writer.write_frame(&[7; 1000])).collect();
    let written = results.iter().filter(|result| result.is_ok()).count();
    assert!((1..10).contains(&written));
    assert_eq!((tokens.tokens() - before) as usize, written, "1.x readers take a token for a frame");
    drop((writer, reader));
    name.assert_nothing_left();
}

#[test]
fn a_batch_that_panics_leaves_a_1_x_reader_a_token_for_each_frame_that_was_written() {
    let name = Name::new("sem-panic");
    let reader = Reader::create(&name, classic()).unwrap();
    Forge::segment(&name).set(at::READER_WORD, 0);
    let tokens = Forge::semaphore(&name, 'w');
    let mut writer = Writer::connect(&name).unwrap();
    let before = tokens.tokens();
    let frames = (0..5_u8).map(|byte| if byte < 3 { [byte; 10] } else { panic!("the iterator's own") });
    let batch = std::panic::AssertUnwindSafe(|| writer.write_frames(frames));
    assert!(std::panic::catch_unwind(batch).is_err());
    assert_eq!((writer.frames_written(), tokens.tokens() - before), (3, 3));
    drop((writer, reader));
}

/// Lets a call that waits for 200 ms meet stale tokens: it keeps its time, and burns them in less than 100 ms of CPU. The
/// best of three times counts, as other load on a core slows its neighbours down.
fn burn(who: &str, tokens: &Forge, mut wait: impl FnMut()) {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        tokens.set_tokens(STALE);
        let (start, cpu) = (Instant::now(), confine::thread_cpu());
        wait();
        let (took, cpu) = (start.elapsed(), confine::thread_cpu() - cpu);
        assert!(took >= Duration::from_millis(200) && took < Duration::from_millis(700), "{took:?}");
        // On a loaded machine the time may be over before the tokens are.
        let burnt = STALE - tokens.tokens();
        assert!(burnt > STALE / 20, "only {burnt} tokens burnt");
        best = best.min(cpu.mul_f64(f64::from(STALE) / f64::from(burnt)));
    }
    eprintln!("a {who} burns {STALE} stale tokens in {best:?} of CPU");
    assert!(best < Duration::from_millis(100), "{best:?} of CPU");
}

#[test]
fn failure_17_five_million_stale_tokens_cost_a_reader_next_to_nothing() {
    let _alone = alone();
    let name = Name::new("stale-w");
    let mut reader = Reader::create(&name, classic()).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let tokens = Forge::semaphore(&name, 'w');
    burn("reader", &tokens, || {
        assert!(reader.read_frame(Duration::from_millis(200)).unwrap().is_none(), "a frame out of tokens");
    });
    // Frames pass as ever, with tokens of their own or without.
    tokens.set_tokens(STALE);
    writer.write_frame(b"one").unwrap();
    assert_eq!(&*reader.read_frame(Duration::from_secs(1)).unwrap().unwrap(), b"one");
    tokens.set_tokens(0);
    writer.write_frame(b"two").unwrap();
    tokens.set_tokens(0);
    let start = Stopwatch::start();
    assert_eq!(&*reader.read_frame(support::PATIENCE).unwrap().unwrap(), b"two");
    start.assert_within(Duration::from_millis(100));
}

#[test]
fn failure_17_five_million_stale_tokens_cost_a_writer_next_to_nothing() {
    let _alone = alone();
    let name = Name::new("stale-r");
    let mut reader = Reader::create(&name, classic()).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    writer.set_write_timeout(Duration::from_millis(200));
    while writer.try_write_frame(&[1; 1000]).unwrap().is_some() {}
    let tokens = Forge::semaphore(&name, 'r');
    burn("writer", &tokens, || {
        assert_eq!(writer.write_frame(&[1; 1000]).unwrap_err().kind(), ErrorKind::BufferFull);
    });
    drop(reader.try_read_frame().unwrap().unwrap());
    writer.write_frame(&[1; 900]).unwrap();
}

#[test]
fn failure_17_neither_tokens_nor_counts_nor_write_pos_make_a_frame() {
    let name = Name::new("no-frame");
    let mut reader = Reader::create(&name, small()).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    let (segment, tokens) = (Forge::segment(&name), Forge::semaphore(&name, 'w'));
    for round in 1..50 {
        tokens.set_tokens(round % 4);
        // The counts drift between peers of different makes.
        segment.set(0x40, u64::from(round) * 7);
        segment.set(0x48, u64::MAX - u64::from(round));
        assert!(reader.read_frame(Duration::from_millis(2)).unwrap().is_none());
        let stood = segment.get(at::WRITE_POS);
        segment.set(at::WRITE_POS, (stood + 100) % 4096);
        assert!(reader.try_read_frame().unwrap().is_none());
        segment.set(at::WRITE_POS, stood);
        writer.write_frame(&[round as u8; 300]).unwrap();
        segment.set(0x40, 0);
        assert_eq!(*reader.read_frame(Duration::from_secs(1)).unwrap().unwrap(), [round as u8; 300]);
        assert!(reader.try_read_frame().unwrap().is_none());
    }
}

#[test]
fn failure_17_a_count_that_contradicts_an_empty_ring_is_repaired_at_rest() {
    let name = Name::new("repair");
    let mut reader = Reader::create(&name, small()).unwrap();
    let segment = Forge::segment(&name);
    // The pid of a process that lives, and no native word: a 1.x writer. One without libatomic loses updates.
    segment.set(at::WRITER_PID, u64::from(std::process::id()));
    for _ in 0..3 {
        segment.set(at::FREE_BYTES, 4096 - 500);
        let (repaired, ended) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let result = reader.read_frame(Duration::from_millis(300));
            repaired.send(result.map(|frame| frame.is_none())).unwrap();
            reader
        });
        // The side that repairs the count wakes the writer too, and must not wait for itself.
        let nothing = ended.recv_timeout(support::PATIENCE).expect("the reader hangs").unwrap();
        assert!(nothing, "a frame out of a wrong count");
        assert_eq!(segment.get(at::FREE_BYTES), 4096, "not repaired");
        reader = thread.join().unwrap();
    }
    segment.set(at::WRITER_PID, 0);
    // All of the ring is there again.
    let mut writer = Writer::connect(&name).unwrap();
    assert!(writer.try_write_frame(&[9; 4096 - 16]).unwrap().is_some());
}
