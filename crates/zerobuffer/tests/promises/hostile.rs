//! Hostile memory (spec failure 13): with a live reader or writer attached, its peer forges the first block
//! and the frame headers. The allowed outcomes are a typed error, a time-out, or a frame within the ring;
//! never a panic, a hang or an access outside the mapping. The victim is a process of its own, so that its
//! end by a signal is seen.

use crate::support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::forge::{Forge, Mapped, at};
use crate::support::{Name, Peer, confine, role, say};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use zerobuffer::{BufferConfig, Error, Frame, Reader, Writer, inspect};

const PAYLOAD: u64 = 4096;
const METADATA: u64 = 128;
/// Where the ring begins in the segment.
const RING: u64 = 128 + METADATA;
/// The size of an extended ring of this payload: the end of all frames.
const EXTENDED: u64 = PAYLOAD + PAYLOAD * 3 / 16 + 128;
/// Where the control block of an extended ring begins, which lies behind it.
const CONTROL: u64 = (RING + EXTENDED).next_multiple_of(128);
/// A call may take this much longer than its time-out.
const GRACE: Duration = Duration::from_millis(100);

fn config() -> BufferConfig {
    BufferConfig::default().payload_size(PAYLOAD as usize).metadata_size(METADATA as usize)
}

support::peers!(victim_reader, victim_writer);

// ---- victims ----

/// Counts the outcomes of the victim's calls, and how much longer than allowed the slowest took.
#[derive(Default)]
struct Tally {
    frames: u32,
    errors: u32,
    nothing: u32,
    late: Duration,
}

impl Tally {
    fn call<T>(&mut self, timeout: Duration, call: impl FnOnce() -> Result<Option<T>, Error>) -> Option<T> {
        let (start, kept_waiting) = (Instant::now(), support::kept_waiting());
        let result = call();
        // On a busy machine a thread that is ready may wait for seconds.
        let own = start.elapsed().saturating_sub(support::kept_waiting() - kept_waiting);
        self.late = self.late.max(own.saturating_sub(timeout));
        match result {
            Ok(Some(value)) => {
                self.frames += 1;
                Some(value)
            }
            Ok(None) => {
                self.nothing += 1;
                None
            }
            Err(error) => {
                assert!(!error.to_string().is_empty() && !error.kind().name().is_empty());
                self.errors += 1;
                None
            }
        }
    }

    fn say(&self) {
        say(format!("{} {} {} {}", self.frames, self.errors, self.nothing, self.late.as_micros()));
    }
}

/// Looks at every byte of a frame, which must lie within the ring.
fn touch(bytes: &[u8]) {
    let most = CONTROL - RING - 16;
    assert!(!bytes.is_empty() && bytes.len() as u64 <= most, "{} bytes", bytes.len());
    std::hint::black_box(bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)));
}

/// How often a victim calls everything: once is enough where it outlasts the library's patience with contradictions.
fn rounds_of(timeout: Duration) -> usize {
    if timeout > GRACE { 1 } else { 3 }
}

fn victim_reader(arguments: &[String]) {
    let name = &arguments[0];
    while let Some(line) = support::hear() {
        assert_eq!(line, "begin");
        let mut reader = Reader::create(name, config()).unwrap();
        let mut held: Vec<Frame> = Vec::new();
        say("ready");
        while let Some(line) = support::hear() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["pass"] => {
                    drop(reader.try_read_frame().unwrap().unwrap());
                    say("passed");
                }
                ["hold", count] => {
                    for _ in 0..count.parse().unwrap() {
                        held.push(reader.try_read_frame().unwrap().unwrap());
                    }
                    say("held");
                }
                ["elsewhere"] => confine::run_on_core(1),
                ["use", micros] => {
                    let timeout = Duration::from_micros(micros.parse().unwrap());
                    let mut tally = Tally::default();
                    for round in 0..rounds_of(timeout) {
                        if let Some(frame) = tally.call(timeout, || reader.read_frame(timeout)) {
                            touch(&frame);
                            held.push(frame);
                        }
                        tally.call(Duration::ZERO, || reader.metadata());
                        if let Some(frame) = tally.call(timeout, || reader.read_frame_ref(timeout)) {
                            touch(&frame);
                        }
                        tally.call(timeout, || reader.wait_for_writer(timeout).map(Some));
                        tally.call(Duration::ZERO, || Ok(Some(reader.is_writer_connected())));
                        tally.call(timeout, || reader.read_frames(&mut held, 3, timeout).map(Some));
                        held.iter().for_each(|frame| touch(frame));
                        if round == 1 && !held.is_empty() {
                            held.remove(held.len() / 2);
                            held.truncate(2);
                        }
                        tally.call(Duration::ZERO, || reader.try_read_frame());
                    }
                    tally.say();
                }
                ["end"] => break,
                _ => panic!("{line}?"),
            }
        }
        drop(held.pop());
        drop(reader);
        drop(held);
        say("ended");
    }
}

fn victim_writer(arguments: &[String]) {
    let name = &arguments[0];
    while let Some(line) = support::hear() {
        assert_eq!(line, "begin");
        // The segment may be forged already when the victim connects.
        let start = Instant::now();
        let mut writer = match Writer::connect(name) {
            Ok(writer) => {
                say("ready");
                writer
            }
            Err(error) => {
                say(error.kind());
                // A second is what a writer waits for a reader that is between two stores.
                assert!(start.elapsed() < Duration::from_secs(1) + GRACE * 3, "{:?}", start.elapsed());
                continue;
            }
        };
        while let Some(line) = support::hear() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["elsewhere"] => confine::run_on_core(1),
                ["use", micros] => {
                    let timeout = Duration::from_micros(micros.parse().unwrap());
                    writer.set_write_timeout(timeout);
                    let mut tally = Tally::default();
                    for len in
                        [100, 1, PAYLOAD as usize - 16, 1000, 2500].into_iter().take(rounds_of(timeout) + 2)
                    {
                        let data = vec![7; len];
                        tally.call(Duration::ZERO, || writer.try_write_frame(&data));
                        tally.call(timeout, || writer.write_frame(&data).map(Some));
                        tally.call(timeout, || {
                            let mut frame = writer.acquire_frame(len)?;
                            assert_eq!(frame.len(), len);
                            frame.fill(9);
                            frame.commit_len(len.div_ceil(2)).map(Some)
                        });
                        tally.call(timeout * 2, || writer.write_frames([&data[..1], &data]).map(Some));
                        tally.call(Duration::ZERO, || writer.set_metadata(&[5; 60]).map(Some));
                        tally.call(Duration::ZERO, || Ok(Some(writer.is_reader_connected())));
                    }
                    tally.say();
                }
                ["end"] => break,
                _ => panic!("{line}?"),
            }
        }
        drop(writer);
        say("ended");
    }
}

/// The outcomes of all victims' calls.
#[derive(Default)]
struct Totals {
    frames: u64,
    errors: u64,
    nothing: u64,
    late: Vec<Duration>,
}

impl Totals {
    /// Adds the report of a victim.
    fn add(&mut self, line: &str) {
        let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().expect(line)).collect();
        self.frames += numbers[0];
        self.errors += numbers[1];
        self.nothing += numbers[2];
        let late = Duration::from_micros(numbers[3]);
        assert!(late < GRACE * 20, "a call took {late:?} longer than it may");
        self.late.push(late);
    }

    /// Checks that all calls returned in time, except one in a hundred on a loaded machine.
    fn report(mut self, what: &str) {
        self.late.sort();
        let (cases, worst) = (self.late.len(), self.late.last().copied().unwrap_or_default());
        eprintln!(
            "{what}: {cases} cases: {} successes, {} errors, {} time-outs; at most {worst:?} late",
            self.frames, self.errors, self.nothing
        );
        assert!(self.frames > 0 && self.errors > 0, "{what}: the cases did not vary");
        let late = self.late.iter().filter(|late| **late > GRACE).count();
        assert!(late <= 1 + cases / 100, "{what}: {late} of {cases} calls were late");
    }
}

// ---- forgeries ----

/// One change of the segment.
#[derive(Debug, Clone)]
enum Forgery {
    /// A word of the first block.
    Word { index: u64, value: u64 },
    /// Bytes anywhere in the first block.
    Bytes { offset: u64, bytes: Vec<u8> },
    /// A frame header where the reader stands, where the writer stands, or anywhere.
    Header { place: Place, size: u64, sequence: u64 },
    /// Committed bytes for a frame that reaches this much (less 32) further than the end of the ring.
    PastTheEnd(u64),
    /// The metadata's length.
    MetadataLength(u64),
    /// A word of the control block.
    Control { index: u64, value: u64 },
    /// Two words where the next frame of an extended ring stands, or a few units behind.
    Unit { place: Place, word: u64, sequence: u64 },
}

#[derive(Debug, Clone)]
enum Place {
    Read,
    Write,
    Anywhere(u64),
}

fn number() -> impl Strategy<Value = u64> {
    let edges: &[u64] = &[
        0,
        1,
        2,
        15,
        16,
        17,
        63,
        64,
        128,
        PAYLOAD - 17,
        PAYLOAD - 16,
        PAYLOAD - 15,
        PAYLOAD - 1,
        PAYLOAD,
        PAYLOAD + 1,
        PAYLOAD * 2,
        1 << 31,
        1 << 32,
        1 << 62,
        1 << 63,
        i64::MAX as u64,
        u64::MAX - 16,
        u64::MAX - 15,
        u64::MAX - 1,
        u64::MAX,
    ];
    prop_oneof![3 => prop::sample::select(edges), 2 => 0..PAYLOAD * 2, 1 => any::<u64>()]
}

/// A place in an extended ring: a lap near those in use, or any; a position in and around the ring, in units.
fn spot() -> impl Strategy<Value = u64> {
    let lap = prop_oneof![8 => 0_u64..4, 1 => Just((1 << 22) - 1), 1 => 0_u64..1 << 22];
    let position = prop_oneof![6 => 0..EXTENDED / 16 + 4, 1 => number(), 1 => Just((1 << 42) - 1)];
    (lap, position).prop_map(|(lap, position)| lap << 42 | position & ((1 << 42) - 1))
}

/// The first word of a frame's header in an extended ring.
fn header_word() -> impl Strategy<Value = u64> {
    let flags = prop_oneof![3 => Just(0_u64), 1 => Just(1 << 9), 1 => Just(1 << 8), 1 => 0_u64..1 << 10];
    let units = prop_oneof![4 => 1_u64..6, 1 => 0_u64..64];
    (number(), units, flags).prop_map(|(len, units, flags)| len & ((1 << 48) - 1) | units << 48 | flags << 54)
}

fn forgery() -> impl Strategy<Value = Forgery> {
    // The words that are looked at, more often than the unused ones of each line.
    let index = prop_oneof![
        8 => prop::sample::select(&[0_u64, 1, 2, 3, 4, 5, 16, 32, 48][..]),
        1 => 0_u64..64,
    ];
    let value = prop_oneof![4 => spot(), 3 => number(), 1 => any::<u64>()];
    let control = (index, value).prop_map(|(index, value)| Forgery::Control { index, value });
    let place = prop_oneof![
        3 => Just(Place::Read),
        1 => Just(Place::Write),
        1 => (0..EXTENDED / 16 - 1).prop_map(|unit| Place::Anywhere(unit * 16)),
    ];
    let word = prop_oneof![3 => header_word(), 1 => any::<u64>()];
    let sequence = prop_oneof![4 => 0_u64..8, 1 => any::<u64>()];
    let unit =
        (place, word, sequence).prop_map(|(place, word, sequence)| Forgery::Unit { place, word, sequence });
    prop_oneof![3 => classic_forgery(), 2 => control, 1 => unit]
}

fn classic_forgery() -> impl Strategy<Value = Forgery> {
    let place = prop_oneof![
        3 => Just(Place::Read),
        1 => Just(Place::Write),
        1 => (0..PAYLOAD - 16).prop_map(Place::Anywhere),
    ];
    let sequence = prop_oneof![4 => 0_u64..8, 1 => any::<u64>()];
    prop_oneof![
        4 => (0_u64..16, number()).prop_map(|(index, value)| Forgery::Word { index, value }),
        2 => (0_u64..128, prop::collection::vec(any::<u8>(), 1..32)).prop_map(|(offset, mut bytes)| {
            bytes.truncate((128 - offset) as usize);
            Forgery::Bytes { offset, bytes }
        }),
        4 => (place, number(), sequence).prop_map(|(place, size, sequence)| Forgery::Header { place, size, sequence }),
        2 => (0_u64..64).prop_map(Forgery::PastTheEnd),
        1 => number().prop_map(Forgery::MetadataLength),
    ]
}

fn apply(name: &str, forgeries: &[Forgery]) {
    let forge = Forge::segment(name);
    let stands = |word| forge.get(word).min(PAYLOAD - 16);
    let (read, write) = (stands(at::READ_POS), stands(at::WRITE_POS));
    let spot = |word: u64| (forge.get(CONTROL + word) & ((1 << 42) - 1)).min(EXTENDED / 16 - 1) * 16;
    let (tail, head) = (spot(128), spot(0));
    for forgery in forgeries {
        match forgery {
            Forgery::Word { index, value } => forge.set(index * 8, *value),
            Forgery::Bytes { offset, bytes } => forge.write(*offset, bytes),
            Forgery::Header { place, size, sequence } => {
                let position = match place {
                    Place::Read => read,
                    Place::Write => write,
                    Place::Anywhere(position) => *position,
                };
                forge.set(RING + position, *size);
                forge.set(RING + position + 8, *sequence);
            }
            Forgery::PastTheEnd(more) => {
                forge.set(at::FREE_BYTES, 0);
                forge.set(RING + read, (PAYLOAD - read + more).saturating_sub(16 + 32));
            }
            Forgery::Control { index, value } => forge.set(CONTROL + index * 8, *value),
            Forgery::Unit { place, word, sequence } => {
                let position = match place {
                    Place::Read => tail,
                    Place::Write => head,
                    Place::Anywhere(position) => *position,
                };
                forge.set(RING + position, *word);
                forge.set(RING + position + 8, *sequence);
            }
            Forgery::MetadataLength(length) => {
                forge.set(128, *length);
                forge.set(at::METADATA_WRITTEN, length.wrapping_add(8));
            }
        }
    }
}

/// How one case goes.
#[derive(Debug, Clone)]
struct Case {
    /// A frame of this size has passed before, so that the ring is not used from its start; none if 0.
    passed: usize,
    /// Frames written before the forgery.
    sizes: Vec<usize>,
    /// Of these, how many the reader reads and holds.
    held: usize,
    forgeries: Vec<Forgery>,
    /// Time-out of the victim's calls in microseconds; some outlast the library's patience with contradictions.
    micros: u64,
    /// The victim is in the middle of its calls when the forgery happens.
    meanwhile: bool,
    /// The peer goes on, or closes, before the victim does anything.
    peer_goes_on: bool,
    peer_closes: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let micros = prop_oneof![4 => Just(0_u64), 8 => 500_u64..3_000, 1 => 110_000_u64..150_000];
    (
        prop_oneof![0..1_usize, 1..PAYLOAD as usize - 16],
        prop::collection::vec(1_usize..700, 0..5),
        0_usize..4,
        prop::collection::vec(forgery(), 1..5),
        micros,
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(|(passed, sizes, held, forgeries, micros, meanwhile, peer_goes_on, peer_closes)| {
            Case {
                passed,
                held: held.min(sizes.len()),
                sizes,
                forgeries,
                micros,
                meanwhile,
                peer_goes_on,
                peer_closes,
            }
        })
}

fn cases() -> TestRunner {
    let cases = if support::full() { 5000 } else { 300 };
    // Cases are not shrunk: a victim that hangs or died cannot try smaller ones.
    let max_shrink_iters = 0;
    TestRunner::new(ProptestConfig {
        cases,
        max_shrink_iters,
        failure_persistence: None,
        ..ProptestConfig::default()
    })
}

/// Lets the victim use its handle while, or after, the segment is forged.
fn attack(victim: &mut Peer, name: &str, case: &Case) -> String {
    if case.meanwhile {
        victim.tell(format!("use {}", case.micros));
        std::thread::sleep(Duration::from_micros(case.micros / 2));
        apply(name, &case.forgeries);
    } else {
        apply(name, &case.forgeries);
        victim.tell(format!("use {}", case.micros));
    }
    // Tools look at anything.
    let _ = inspect::snapshot(name).map(|snapshot| (snapshot.utilisation(), snapshot.health()));
    let said = victim.hear();
    victim.tell("end");
    victim.expect("ended");
    said
}

#[test]
fn failure_13_a_reader_survives_any_first_block_and_any_header() {
    let name = Name::new("hostile-r");
    let mut victim = Peer::start(role!(victim_reader), &[&name]);
    let mut totals = Totals::default();
    let totals_ref = std::cell::RefCell::new(&mut totals);
    let victim_ref = std::cell::RefCell::new(&mut victim);
    cases()
        .run(&case(), |case| {
            let mut victim = victim_ref.borrow_mut();
            victim.tell("begin");
            victim.expect("ready");
            let mut writer = Writer::connect(&name).unwrap();
            writer.set_metadata(b"some").unwrap();
            if case.passed > 0 {
                writer.write_frame(&vec![2; case.passed]).unwrap();
                victim.tell("pass");
                victim.expect("passed");
            }
            for size in &case.sizes {
                writer.write_frame(&vec![3; *size]).unwrap();
            }
            victim.tell(format!("hold {}", case.held));
            victim.expect("held");
            if case.peer_goes_on {
                // Whatever the forged words make of it: no panic here either.
                apply(&name, &case.forgeries);
                let _ = writer.try_write_frame(&[4; 700]);
            }
            let writer = if case.peer_closes { None } else { Some(writer) };
            let said = attack(&mut victim, &name, &case);
            totals_ref.borrow_mut().add(&said);
            drop(writer);
            name.assert_nothing_left();
            Ok(())
        })
        .unwrap();
    assert!(victim.wait().success());
    totals.report("hostile to readers");
}

#[test]
fn failure_13_a_writer_survives_any_first_block_and_any_header() {
    let name = Name::new("hostile-w");
    let mut victim = Peer::start(role!(victim_writer), &[&name]);
    let mut totals = Totals::default();
    let totals_ref = std::cell::RefCell::new(&mut totals);
    let victim_ref = std::cell::RefCell::new(&mut victim);
    cases()
        .run(&case(), |case| {
            let mut victim = victim_ref.borrow_mut();
            let mut reader = Reader::create(&name, config()).unwrap();
            let mut held = Vec::new();
            if !case.sizes.is_empty() {
                let mut writer = Writer::connect(&name).unwrap();
                if case.passed > 0 {
                    writer.write_frame(&vec![2; case.passed]).unwrap();
                    drop(reader.try_read_frame().unwrap().unwrap());
                }
                for size in &case.sizes {
                    writer.write_frame(&vec![3; *size]).unwrap();
                }
                drop(writer);
                reader.read_frames(&mut held, case.held, Duration::ZERO).unwrap();
            }
            if case.peer_goes_on {
                // The victim finds the forged block when it connects.
                apply(&name, &case.forgeries);
            }
            victim.tell("begin");
            if victim.hear() == "ready" {
                let reader = if case.peer_closes { None } else { Some(&mut reader) };
                let said = attack(&mut victim, &name, &case);
                totals_ref.borrow_mut().add(&said);
                if let Some(reader) = reader {
                    while let Ok(Some(frame)) = reader.try_read_frame() {
                        touch(&frame);
                    }
                }
            }
            held.iter().for_each(|frame| touch(frame));
            drop(reader);
            name.assert_nothing_left();
            Ok(())
        })
        .unwrap();
    assert!(victim.wait().success());
    totals.report("hostile to writers");
}

// ---- races ----

/// Forges all the time while the victim works, until the victim has used its handle `rounds` times.
fn race(victim: &mut Peer, totals: &mut Totals, rounds: u32, attack: impl Fn(u64) + Send + Sync) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Two, so that the attack goes on while one of them has to pause.
        for attacker in 0..2 {
            let (done, attack) = (&done, &attack);
            scope.spawn(move || {
                confine::run_on_core(0);
                let mut count = attacker << 31;
                while !done.load(Ordering::Relaxed) {
                    attack(count);
                    count += 1;
                }
            });
        }
        // The scope waits for the thread, so it must be stopped before a failure here unwinds.
        let said = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            victim.tell("elsewhere");
            for round in 0..rounds {
                victim.tell(format!("use {}", [0, 500, 2000][round as usize % 3]));
                totals.add(&victim.hear());
            }
        }));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = said {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The forgeries of an attacker in a race.
type Attack = (&'static str, fn(&Mapped, u64));

fn anything(mapped: &Mapped, count: u64) {
    let mut random = support::Random(count);
    let value = match random.between(0, 4) {
        0 => random.next(),
        1 => random.between(0, PAYLOAD * 2),
        2 => random.between(0, 40),
        _ => u64::MAX - random.between(0, 40),
    };
    let offset =
        if random.between(0, 2) == 0 { random.between(0, 16) * 8 } else { RING + random.between(0, 40) * 8 };
    mapped.set(offset, value);
}

/// Forgeries on an extended ring: its control block and the frames at its start.
fn anything_extended(mapped: &Mapped, count: u64) {
    let mut random = support::Random(count);
    let value = match random.between(0, 5) {
        0 => random.next(),
        1 => u64::MAX - random.between(0, 40),
        2 => random.between(0, 40),
        _ => random.between(0, 4) << 42 | random.between(0, EXTENDED / 16 + 2),
    };
    match random.between(0, 4) {
        0 => mapped.set(RING + random.between(0, 60) * 8, 1 << 48 | value & 0xfff),
        1 => mapped.set(RING + random.between(0, 60) * 8, value),
        _ => {
            let words = [0, 8, 16, 24, 32, 40, 128, 256, 384];
            mapped.set(CONTROL + words[random.between(0, 9) as usize], value);
        }
    }
}

const RACES: &[Attack] = &[
    ("anything", anything),
    ("anything extended", anything_extended),
    // A ring that is full, and empty, at the same time; a lap further, and back.
    ("laps", |mapped, count| {
        mapped.set(CONTROL, ((count % 3) << 42) | (count % 7 * 16));
        mapped.set(CONTROL + 8, count % 5 * 1024);
        mapped.set(CONTROL + 128, ((count % 2) << 42) | (count % 11 * 16));
    }),
    // A ring without an end: small frames, and a head that is always elsewhere.
    ("endless leaps", |mapped, count| {
        mapped.set(CONTROL, ((count % 2) << 42) | (EXTENDED / 16 - 1));
        mapped.set(CONTROL + 16 + count % 2 * 8, ((count % 2) << 42) | (count % 64));
        mapped.set(CONTROL + 32 + count % 2 * 8, (count % EXTENDED) & !15);
    }),
    // Bells that ring all the time, or never.
    ("bells", |mapped, count| {
        mapped.set(CONTROL + 256, count % 8);
        mapped.set(CONTROL + 384, count % 8);
    }),
    ("extension", |mapped, count| {
        mapped.set(0x60, (0x5A45 << 48) | ((count * 64) & 0xffff_ffff));
    }),
    // Words that differ at every look.
    ("writer's word", |mapped, count| mapped.set(at::WRITER_WORD, count << 32 | count)),
    ("reader's word", |mapped, count| mapped.set(at::READER_WORD, count)),
    ("pids", |mapped, count| {
        mapped.set(at::WRITER_PID, count);
        mapped.set(at::READER_PID, count);
    }),
    // A full ring of nothing but a wrap marker at its start.
    ("endless wraps", |mapped, _| {
        mapped.set(RING, 0);
        mapped.set(RING + 8, 0);
        mapped.set(at::READ_POS, 0);
        mapped.set(at::FREE_BYTES, 0);
    }),
    ("positions", |mapped, count| {
        mapped.set(at::READ_POS, if count % 3 == 0 { 0 } else { count % PAYLOAD });
        mapped.set(at::WRITE_POS, count % 17 * 256);
        mapped.set(at::FREE_BYTES, count * 64 % (PAYLOAD + 64));
        mapped.set(at::TAIL_WORD, count);
    }),
];

fn rounds() -> u32 {
    if support::full() { 1000 } else { 30 }
}

#[test]
fn failure_13_a_reader_survives_a_racing_writer() {
    let name = Name::new("race-r");
    let mut victim = Peer::start(role!(victim_reader), &[&name]);
    let mut totals = Totals::default();
    for with_writer in [false, true] {
        for (what, attack) in RACES {
            eprintln!("reader, racing {what}, writer alive: {with_writer}");
            victim.tell("begin");
            victim.expect("ready");
            let writer = Writer::connect(&name).unwrap();
            let mapped = Mapped::segment(&name);
            let writer = with_writer.then_some(writer);
            race(&mut victim, &mut totals, rounds(), |count| attack(&mapped, count));
            drop(writer);
            victim.tell("end");
            victim.expect("ended");
            name.assert_nothing_left();
        }
    }
    assert!(victim.wait().success());
    totals.report("races against readers");
}

#[test]
fn failure_13_a_writer_survives_a_racing_reader() {
    let name = Name::new("race-w");
    let mut victim = Peer::start(role!(victim_writer), &[&name]);
    let mut totals = Totals::default();
    for with_reader in [false, true] {
        for (what, attack) in RACES {
            eprintln!("writer, racing {what}, reader alive: {with_reader}");
            let reader = Reader::create(&name, config()).unwrap();
            let mapped = Mapped::segment(&name);
            victim.tell("begin");
            victim.expect("ready");
            let reader = with_reader.then_some(reader);
            race(&mut victim, &mut totals, rounds(), |count| attack(&mapped, count));
            victim.tell("end");
            victim.expect("ended");
            drop(reader);
            name.assert_nothing_left();
        }
    }
    assert!(victim.wait().success());
    totals.report("races against writers");
}

#[test]
fn failure_13_a_frame_that_reaches_past_the_end_is_refused() {
    let name = Name::new("past-the-end");
    for more in [-20_i64, -1, 0, 1, 15, 16, 17, 300] {
        let mut reader = Reader::create(&name, config().classic(true)).unwrap();
        let mut writer = Writer::connect(&name).unwrap();
        writer.write_frame(&[1; 1000]).unwrap();
        drop(reader.try_read_frame().unwrap().unwrap());
        writer.write_frame(&[2; 500]).unwrap();
        let forge = Forge::segment(&name);
        let read = forge.get(at::READ_POS);
        assert_eq!(read, 1016);
        // More is committed than lies before the end.
        forge.set(at::FREE_BYTES, 0);
        forge.set(RING + read, (PAYLOAD - read - 16).checked_add_signed(more).unwrap());
        let result = reader.read_frame(Duration::from_millis(200));
        if more > 0 {
            assert_eq!(
                result.unwrap_err().kind(),
                zerobuffer::ErrorKind::CorruptBuffer,
                "{more} bytes too far"
            );
        } else {
            touch(&result.unwrap().unwrap());
        }
    }
}

#[test]
fn failure_13_a_frame_that_reaches_past_what_is_committed_is_refused_in_an_extended_ring() {
    let name = Name::new("past-the-head");
    for more in [-16_i64, 0, 1, 16, 1 << 20, 1 << 47] {
        let mut reader = Reader::create(&name, config()).unwrap();
        let mut writer = Writer::connect(&name).unwrap();
        writer.write_frame(&[1; 992]).unwrap();
        drop(reader.try_read_frame().unwrap().unwrap());
        writer.write_frame(&[2; 512]).unwrap();
        let forge = Forge::segment(&name);
        // The first header has room for the writer's word.
        assert_eq!(forge.get(CONTROL), (1024 + 528) / 16, "the ring is where this test looks for it");
        forge.set(RING + 1024, 1 << 48 | 512_u64.checked_add_signed(more).unwrap());
        let result = reader.read_frame(Duration::from_millis(200));
        if more > 0 {
            assert_eq!(
                result.unwrap_err().kind(),
                zerobuffer::ErrorKind::CorruptBuffer,
                "{more} bytes too far"
            );
        } else {
            touch(&result.unwrap().unwrap());
        }
    }
}

#[test]
fn failure_13_impossible_words_of_a_new_lap_make_no_frame_of_what_lies_there() {
    let name = Name::new("new-lap");
    let mut reader = Reader::create(&name, config()).unwrap();
    let mut writer = Writer::connect(&name).unwrap();
    for _ in 0..3 {
        writer.write_frame(&[1; 112]).unwrap();
        drop(reader.try_read_frame().unwrap().unwrap());
    }
    let forge = Forge::segment(&name);
    let end = forge.get(CONTROL);
    // The first header has room for the writer's word.
    assert_eq!(end, (3 * 128 + 16) / 16, "the ring is where this test looks for it");
    // The lap has ended where the reader stands, but the next one cannot reach beyond the ring. At its start is what would
    // be a frame, if anything were committed there.
    forge.set(RING + 8, 4);
    forge.set(CONTROL + 8, end * 16);
    forge.set(CONTROL, 1 << 42 | (EXTENDED / 16 + 1));
    for _ in 0..3 {
        assert!(reader.try_read_frame().unwrap().is_none(), "bytes that were never committed were delivered");
    }
    let error = reader.read_frame(Duration::from_secs(5)).unwrap_err();
    assert_eq!(error.kind(), zerobuffer::ErrorKind::CorruptBuffer);
}

#[test]
fn failure_13_impossible_words_of_the_writer_before_are_refused() {
    let name = Name::new("resume");
    for word in [8, 32, 40] {
        for value in [u64::MAX, u64::MAX - 15, EXTENDED.next_multiple_of(128) + 128, 24] {
            let mut reader = Reader::create(&name, config()).unwrap();
            Writer::connect(&name).unwrap().write_frame(&[1; 100]).unwrap();
            Forge::segment(&name).set(CONTROL + word, value);
            let error = Writer::connect(&name).unwrap_err();
            assert_eq!(error.kind(), zerobuffer::ErrorKind::CorruptBuffer, "{word}: {value}: {error}");
            // What was committed is there all the same.
            assert_eq!(*reader.try_read_frame().unwrap().unwrap(), [1; 100]);
        }
    }
}
