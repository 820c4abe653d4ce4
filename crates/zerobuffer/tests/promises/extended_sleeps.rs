//! Real sleeps: two processes that block at every frame, in both roles. A lost wake-up shows as a wait that ended only with its
//! slice (5 ms), although its frame, or its space, had been there for long. Every frame carries the time of its commit.
//!
//! These writers are too slow to leave out their fences. What barriers are for shows in the tests of src/wait/doorbell.rs.

use crate::support;

use std::time::{Duration, Instant};

use crate::support::forge::{Forge, at};
use crate::support::ledger::now;
use crate::support::{Name, PATIENCE, Peer, confine, hear, role, say};
use zerobuffer::{BufferConfig, Reader, WaitStrategy, Writer, WriterOptions};

support::peers!(echo, drain, confined);

/// The durations of waits that should have been short, in bands.
#[derive(Default, Debug)]
struct Waits {
    total: u64,
    /// Near the first slice, or a later one: 4.6 to 5.6 ms, 19 to 21 ms.
    at_slice: u64,
    /// Bands of equal width beside these, for comparison with a busy machine.
    beside: u64,
    /// Longer than any wait of a machine that is not busy.
    slow: u64,
    worst: u64,
}

impl Waits {
    fn add(&mut self, nanos: u64) {
        self.total += 1;
        self.worst = self.worst.max(nanos);
        self.slow += u64::from(nanos > 3_600_000);
        match nanos / 1000 {
            4600..5600 | 19_000..21_000 => self.at_slice += 1,
            3600..4600 | 5600..6600 | 17_000..19_000 | 21_000..23_000 => self.beside += 1,
            _ => {}
        }
    }

    fn check(&self, what: &str) {
        eprintln!("{what}: {self:?}");
        assert!(self.total > 1000, "{what}: hardly anything was measured");
        assert!(self.slow <= 50 + self.total / 1000, "{what}: wake-ups were lost: {self:?}");
        assert!(self.at_slice <= 10 + 3 * self.beside, "{what}: wake-ups were lost: {self:?}");
    }
}

fn rounds() -> Duration {
    Duration::from_secs(if support::full() { 300 } else { 4 })
}

fn reader(name: &str) -> Reader {
    Reader::create(name, BufferConfig::default().payload_size(4096).wait_strategy(WaitStrategy::Block))
        .unwrap()
}

fn writer(name: &str) -> Writer {
    let options = WriterOptions::default()
        .connect_timeout(PATIENCE)
        .write_timeout(PATIENCE)
        .wait_strategy(WaitStrategy::Block);
    Writer::connect_with(name, options).unwrap()
}

fn stamp(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

/// Answers each frame by a frame with the time that it took to arrive.
fn echo(arguments: &[String]) {
    let mut requests = reader(&arguments[0]);
    say("created");
    let mut responses = writer(&arguments[1]);
    while let Ok(Some(frame)) = requests.read_frame_ref(PATIENCE) {
        let came = now() - stamp(&frame);
        drop(frame);
        let mut answer = [0; 16];
        answer[8..].copy_from_slice(&came.to_le_bytes());
        answer[..8].copy_from_slice(&now().to_le_bytes());
        responses.write_frame(&answer).unwrap();
    }
}

#[test]
fn a_reader_that_sleeps_is_woken_by_every_frame() {
    let (requests, responses) = (Name::new("sleep-a"), Name::new("sleep-b"));
    let mut back = reader(&responses);
    let mut peer = Peer::start(role!(echo), &[&requests, &responses]);
    peer.expect("created");
    let mut forth = writer(&requests);
    let (mut there, mut here) = (Waits::default(), Waits::default());
    let start = Instant::now();
    while start.elapsed() < rounds() {
        forth.write_frame(&now().to_le_bytes()).unwrap();
        let answer = back.read_frame_ref(PATIENCE).unwrap().expect("in time");
        here.add(now() - stamp(&answer));
        there.add(stamp(&answer[8..]));
    }
    drop(forth);
    assert!(peer.wait().success());
    there.check("frames to a process that sleeps");
    here.check("frames from it");
}

/// Takes each frame as soon as the writer sleeps for its space, and enters the time in the shared ledger.
fn drain(arguments: &[String]) {
    let ledger = support::ledger::Ledger::open(&arguments[1]);
    let mut reader = reader(&arguments[0]);
    say("created");
    while let Ok(Some(frame)) = reader.read_frame(PATIENCE) {
        ledger.set(0, now());
        drop(frame);
    }
}

#[test]
fn a_writer_that_sleeps_is_woken_by_every_release() {
    let name = Name::new("sleep-w");
    let ledger = support::ledger::Ledger::create();
    let mut peer = Peer::start(role!(drain), &[&name, ledger.path()]);
    peer.expect("created");
    let mut writer = writer(&name);
    let mut waits = Waits::default();
    let start = Instant::now();
    // One fills the ring, so that the next has to wait for all of it.
    let bytes = vec![7; writer.max_frame_size()];
    while start.elapsed() < rounds() {
        let begun = now();
        writer.acquire_frame(bytes.len()).unwrap().commit().unwrap();
        // Released during the wait, or long before it.
        let released = ledger.get(0).max(begun);
        waits.add(now() - released);
    }
    drop(writer);
    assert!(peer.wait().success());
    waits.check("space to a process that sleeps");
}

/// Reads a frame at each word, from the second on without the right to issue barriers.
fn confined(arguments: &[String]) {
    let mut reader = reader(&arguments[0]);
    say("created");
    while let Ok(Some(frame)) = reader.read_frame(PATIENCE) {
        drop(frame);
        say("read");
        hear();
        confine::refuse(libc::SYS_membarrier);
    }
}

/// Bits of a doorbell (docs/PROTOCOL.md, "Doorbells").
const SLEEPING: u64 = 1;
const BARRIER: u64 = 4;

#[test]
fn a_sleeper_whose_barrier_was_refused_claims_it_no_more() {
    let name = Name::new("sleep-c");
    let mut peer = Peer::start(role!(confined), &[&name]);
    peer.expect("created");
    let mut writer = writer(&name);
    let forge = Forge::segment(&name);
    let reader_bell = (forge.get(at::EXTENSION) & ((1 << 48) - 128)) + 256;
    let bell = || forge.get(reader_bell) & u64::from(u32::MAX);
    let mut seen = Vec::new();
    for round in 0..3 {
        let start = Instant::now();
        // Once it was refused, the reader takes back what its doorbell claims before it sleeps. Built with `--cfg long_slices`,
        // the sleep lasts longer than that.
        let claimed = if round == 0 { 0 } else { BARRIER };
        while bell() & (SLEEPING | claimed) != SLEEPING {
            assert!(
                start.elapsed() < PATIENCE / 6,
                "the reader does not sleep, or claims a barrier: {:#x}",
                bell()
            );
            std::thread::yield_now();
        }
        writer.write_frame(b"wake up").unwrap();
        peer.expect("read");
        seen.push(bell());
        peer.tell("");
    }
    peer.kill();
    if seen[0] != BARRIER {
        eprintln!("this kernel offers no barriers: bells {seen:?}");
    }
    // While it claims a barrier that it cannot issue, a publisher that relies on it may not see it asleep.
    assert_eq!(seen[1..], [0, 0], "awake, the reader's bell said {seen:?}");
}
