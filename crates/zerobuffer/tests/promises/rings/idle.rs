//! The cost of waiting, and how soon a blocked peer learns of an end.

use super::support;

use std::time::Duration;

use super::support::ledger::{Ledger, StallWatch, assert_times, now};
use super::support::{Name, PATIENCE, Peer, Random, hear, role, say};
use zerobuffer::{BufferConfig, ErrorKind, Reader, Writer, WriterOptions};

/// When the peer began to close.
const ENDED_AT: usize = 0;

const IDLE: Duration = Duration::from_secs(2);
/// Share of a core that a blocked peer may cost.
const CHEAP: f64 = 0.005;
const TRIALS: usize = 50;

support::peers!(blocked_reader, blocked_writer, closing_writer, closing_reader, writer, reader);

fn small() -> BufferConfig {
    support::config().payload_size(4096)
}

/// CPU time of this process.
fn cpu() -> Duration {
    // SAFETY: rusage is plain integers, for which zero is a value, and getrusage fills it in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let time = |time: libc::timeval| {
        Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_usec).unwrap() * 1000)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// Returns the CPU time of `wait`, which takes `IDLE`, in microseconds: the least of up to eight times,
/// because load on the other core, or on another machine of the host, makes every system call slower.
fn say_least_cpu(mut wait: impl FnMut()) {
    let mut least = Duration::MAX;
    for _ in 0..8 {
        let before = cpu();
        wait();
        least = least.min(cpu() - before);
        if least <= IDLE.mul_f64(CHEAP) {
            break;
        }
    }
    say(least.as_micros());
}

fn blocked_reader(arguments: &[String]) {
    let mut reader = Reader::create(&arguments[0], small()).unwrap();
    say("created");
    assert!(reader.wait_for_writer(PATIENCE).unwrap());
    say_least_cpu(|| assert!(reader.read_frame(IDLE).unwrap().is_none()));
}

fn blocked_writer(arguments: &[String]) {
    let mut writer =
        Writer::connect_with(&arguments[0], WriterOptions::default().write_timeout(IDLE)).unwrap();
    while writer.try_write_frame(&[1; 1000]).unwrap().is_some() {}
    say_least_cpu(|| assert_eq!(writer.write_frame(&[1; 1000]).unwrap_err().kind(), ErrorKind::BufferFull));
}

#[track_caller]
fn assert_cheap(what: &str, micros: &str) {
    let share = micros.parse::<f64>().unwrap() / IDLE.as_micros() as f64;
    eprintln!("{what}: {:.3} % of a core", share * 100.0);
    assert!(share <= CHEAP, "{what}: {:.3} % of a core", share * 100.0);
}

#[test]
fn failure_06_a_blocked_reader_costs_next_to_nothing() {
    let name = Name::new("idle-r");
    let mut peer = Peer::start(role!(blocked_reader), &[&name]);
    peer.expect("created");
    let _writer = Writer::connect(&name).unwrap();
    assert_cheap("blocked reader", &peer.hear());
    assert!(peer.wait().success());
}

#[test]
fn failure_06_a_blocked_writer_costs_next_to_nothing() {
    let name = Name::new("idle-w");
    let _reader = Reader::create(&name, small()).unwrap();
    let mut peer = Peer::start(role!(blocked_writer), &[&name]);
    assert_cheap("blocked writer", &peer.hear());
    assert!(peer.wait().success());
}

// ---- how soon an end is noticed ----

fn writer(arguments: &[String]) {
    let _writer = Writer::connect(&arguments[0]).unwrap();
    say("connected");
    hear();
}

fn reader(arguments: &[String]) {
    let _reader = Reader::create(&arguments[0], small()).unwrap();
    say("created");
    hear();
}

/// Connects and closes when it is told to.
fn closing_writer(arguments: &[String]) {
    let ledger = Ledger::open(&arguments[1]);
    while hear().is_some() {
        let writer = Writer::connect(&arguments[0]).unwrap();
        say("connected");
        hear();
        ledger.set(ENDED_AT, now());
        writer.close().unwrap();
    }
}

/// Creates and closes when it is told to.
fn closing_reader(arguments: &[String]) {
    let ledger = Ledger::open(&arguments[1]);
    while hear().is_some() {
        let reader = Reader::create(&arguments[0], small()).unwrap();
        say("created");
        hear();
        ledger.set(ENDED_AT, now());
        reader.close().unwrap();
        say("closed");
    }
}

/// Runs `blocked` on its own thread and `end` a while later. Returns the result of `blocked`, and its time.
///
/// The trials end at every phase of three sleeps of 20 ms alike: 50 phases at random have a median of up to 15 ms, and
/// those of one sleep do not show that it is longer.
fn end_while_blocked<T: Send>(
    trial: usize,
    random: &mut Random,
    blocked: impl FnOnce() -> T + Send,
    end: impl FnOnce(),
) -> (T, u64) {
    const PHASE: u64 = 60_000 / TRIALS as u64;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| (blocked(), now()));
        let start = 25_000 + trial as u64 * PHASE;
        std::thread::sleep(Duration::from_micros(random.between(start, start + PHASE)));
        end();
        thread.join().unwrap()
    })
}

fn since(start: u64, end: u64) -> Duration {
    Duration::from_nanos(end.saturating_sub(start))
}

#[test]
fn failure_06_a_blocked_reader_learns_of_its_writers_death_at_once() {
    let (name, stalls, mut random) = (Name::new("death-w"), StallWatch::start(), Random(1));
    let mut reader = Reader::create(&name, small()).unwrap();
    let mut times = Vec::new();
    for trial in 0..TRIALS {
        let mut peer = Peer::start(role!(writer), &[&name]);
        peer.expect("connected");
        let mut killed = 0;
        let (result, at) = end_while_blocked(
            trial,
            &mut random,
            || reader.read_frame(Duration::MAX).unwrap_err().kind(),
            || killed = stalls.kill(&mut peer),
        );
        assert_eq!(result, ErrorKind::WriterDead);
        times.push(since(killed, at));
    }
    assert_times("blocked reader learns of its writer's death", &mut times, &stalls);
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn failure_06_a_blocked_writer_learns_of_its_readers_death_at_once() {
    let (name, stalls, mut random) = (Name::new("death-r"), StallWatch::start(), Random(2));
    let mut times = Vec::new();
    for trial in 0..TRIALS {
        let mut peer = Peer::start(role!(reader), &[&name]);
        peer.expect("created");
        let mut writer = full_writer(&name);
        let mut killed = 0;
        let (result, at) = end_while_blocked(
            trial,
            &mut random,
            || writer.write_frame(&[1; 1000]).unwrap_err().kind(),
            || killed = stalls.kill(&mut peer),
        );
        assert_eq!(result, ErrorKind::ReaderDead);
        times.push(since(killed, at));
        drop(writer);
        name.assert_nothing_left();
    }
    assert_times("blocked writer learns of its reader's death", &mut times, &stalls);
}

fn full_writer(name: &Name) -> Writer {
    let options = WriterOptions::default().write_timeout(Duration::MAX);
    let mut writer = Writer::connect_with(name, options).unwrap();
    while writer.try_write_frame(&[1; 1000]).unwrap().is_some() {}
    writer
}

/// A peer that closes wakes the other one, which need not find out by itself, every 20 ms. `times` are sorted.
#[track_caller]
fn assert_told(times: &[Duration]) {
    let median = times[times.len() / 2];
    assert!(median < Duration::from_millis(4), "no waiter was woken: {median:?} in the median");
}

#[test]
fn failure_19_a_blocked_reader_learns_of_an_orderly_close_at_once() {
    let (name, stalls, mut random) = (Name::new("close-w"), StallWatch::start(), Random(3));
    let ledger = Ledger::create();
    let mut reader = Reader::create(&name, small()).unwrap();
    let mut peer = Peer::start(role!(closing_writer), &[&name, ledger.path()]);
    let mut times = Vec::new();
    for trial in 0..TRIALS {
        peer.tell("connect");
        peer.expect("connected");
        let (result, at) = end_while_blocked(
            trial,
            &mut random,
            || reader.read_frame(Duration::MAX).unwrap_err().kind(),
            || peer.tell("close"),
        );
        assert_eq!(result, ErrorKind::WriterClosed);
        times.push(since(ledger.get(ENDED_AT), at));
    }
    assert_times("blocked reader learns of its writer's close", &mut times, &stalls);
    assert_told(&times);
    assert!(peer.wait().success());
    drop(reader);
    name.assert_nothing_left();
}

#[test]
fn failure_19_a_blocked_writer_learns_of_an_orderly_close_at_once() {
    let (name, stalls, mut random) = (Name::new("close-r"), StallWatch::start(), Random(4));
    let ledger = Ledger::create();
    let mut peer = Peer::start(role!(closing_reader), &[&name, ledger.path()]);
    let mut times = Vec::new();
    for trial in 0..TRIALS {
        peer.tell("create");
        peer.expect("created");
        let mut writer = full_writer(&name);
        let (result, at) = end_while_blocked(
            trial,
            &mut random,
            || writer.write_frame(&[1; 1000]).unwrap_err().kind(),
            || peer.tell("close"),
        );
        assert_eq!(result, ErrorKind::ReaderDead);
        times.push(since(ledger.get(ENDED_AT), at));
        peer.expect("closed");
        drop(writer);
        name.assert_nothing_left();
    }
    assert_times("blocked writer learns of its reader's close", &mut times, &stalls);
    assert_told(&times);
    assert!(peer.wait().success());
}
