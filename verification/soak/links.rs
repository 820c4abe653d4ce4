//! The processes of a chain: a camera writes IN, a relay lends its frames to the reader of OUT, a viewer. A tee in the relay's place
//! has drop outputs, too, whose readers look on.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use zerobuffer::{BufferConfig, ErrorKind, Forwarded, Frame, Reader, Tee, Writer, WriterOptions};

use crate::content::{Random, fill, is_filled};
use crate::lane::PATIENCE;
use crate::ledger::{CLOSED, Ledger, READY, Seat, Totals, add, is_death};
use crate::process::Patience;

/// Frames from the oldest held one to the newest, at most: with frames of at most an eighth of the ring a camera always
/// finds a place.
const SPAN: u64 = 4;

/// Bytes in front of a frame that name its camera, and its number there.
const HEAD: usize = 16;

/// Bytes of a frame, at most: three quarters of them are large enough to be lent.
const MOST: u64 = 128 << 10;

/// Frames of a drop output, at most: more than its viewer holds.
const DROP_FRAMES: usize = 6;

/// The buffers of a chain: IN, OUT, those of the drop outputs of a tee, and the tee's own.
pub(crate) fn names(lane: &str) -> [String; 5] {
    ["in", "out", "drop-1", "drop-2", "in_tee"].map(|end| format!("{lane}-{end}"))
}

fn config(random: &mut Random) -> BufferConfig {
    let payload = 8 * MOST + (random.between(0, 1 << 20) & !63);
    BufferConfig::default().metadata_size(64).payload_size(payload as usize).allow_payload_sharing(true)
}

/// Numbers that `fill` does not take for that of a first frame.
fn number(sequence: u64) -> u64 {
    sequence | 1 << 63
}

/// Which frame of which camera these bytes are, if all of them are that frame's.
fn identify(bytes: &[u8]) -> Option<(u64, u64)> {
    let (head, rest) = bytes.split_first_chunk::<HEAD>()?;
    let word = |at: usize| Some(u64::from_le_bytes(head[at..at + 8].try_into().ok()?));
    let (salt, sequence) = (word(0)?, word(8)?);
    is_filled(salt, number(sequence), rest).then_some((salt, sequence))
}

/// Connects, and writes until it is told to close, or its relay ends.
pub(crate) fn camera(name: &str, salt: u64, seed: u64, seat: &Seat, ledger: &'static Ledger) {
    let mut random = Random(seed);
    let options = WriterOptions::default().connect_timeout(Duration::MAX).write_timeout(Duration::MAX);
    let mut writer = Writer::connect_with(name, options).expect("connected");
    seat.state.store(READY, SeqCst);
    ledger.ring();
    let burst = [1, 16, u64::MAX][random.between(0, 3) as usize];
    let mut sequence: u64 = 0;
    while !seat.is_ordered() {
        sequence += 1;
        let len = random.between(HEAD as u64 + 1, MOST + 1) as usize;
        let written = writer.acquire_frame(len).and_then(|mut frame| {
            frame[..8].copy_from_slice(&salt.to_le_bytes());
            frame[8..HEAD].copy_from_slice(&sequence.to_le_bytes());
            fill(salt, number(sequence), &mut frame[HEAD..]);
            frame.commit()
        });
        if let Err(error) = written {
            assert_eq!(error.kind(), ErrorKind::ReaderDead, "{error:?}");
            seat.rest(ledger);
            break;
        }
        if sequence.is_multiple_of(burst) {
            std::thread::sleep(Duration::from_micros(random.between(0, 2000)));
        }
    }
    writer.close().expect("closed");
    seat.state.store(CLOSED, SeqCst);
    ledger.ring();
}

/// Creates IN, and forwards what comes to one viewer after the other, until it is told to close.
pub(crate) fn relay(names: &[String; 5], seed: u64, seat: &Seat, ledger: &'static Ledger) {
    let mut random = Random(seed);
    let mut reader = Reader::create(&names[0], config(&mut random)).expect("IN is created");
    let mut output: Option<Writer> = None;
    while !seat.is_ordered() {
        let Some(writer) = &mut output else {
            output = connect(&names[1]);
            if output.is_some() {
                seat.state.store(READY, SeqCst);
                ledger.ring();
            }
            continue;
        };
        let frame = match reader.read_frame(Duration::from_millis(10)) {
            Ok(Some(frame)) => frame,
            Ok(None) => continue,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WriterDead | ErrorKind::WriterClosed), "{error:?}");
                seat.told();
                seat.ends.fetch_add(1, SeqCst);
                ledger.ring();
                continue;
            }
        };
        match writer.forward(frame) {
            Ok(Forwarded::Shared) => _ = seat.progress.fetch_add(1, SeqCst),
            Ok(Forwarded::Copied) => {}
            Err((error, _)) => {
                assert!(is_death(error.kind()), "{error:?}");
                seat.told();
                output = None;
            }
        }
    }
    settle(&reader, seat);
    if random.one_in(2) {
        drop(output.take());
    }
    reader.close().expect("IN is closed");
    drop(output);
    seat.state.store(CLOSED, SeqCst);
    ledger.ring();
}

/// Waits for what is lent, if the relay is told to. No viewer looks any more: all is back, by tails or by locks.
fn settle(reader: &Reader, seat: &Seat) {
    let mut patience = Patience::new(PATIENCE);
    while seat.is_to_settle() && reader.payload_share_count() > 0 {
        assert!(!patience.is_over(), "{} frames are lent for good", reader.payload_share_count());
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Creates IN, and passes what comes on to one viewer after the other in each of three outputs, until it is told to close.
pub(crate) fn tee(names: &[String; 5], seed: u64, seat: &Seat, ledger: &'static Ledger) {
    let mut random = Random(seed);
    let mut tee = Tee::new(Reader::create(&names[0], config(&mut random)).expect("IN is created"));
    while !seat.is_ordered() {
        for name in &names[1..4] {
            let is_at_work =
                tee.outputs().iter().any(|output| output.name() == name && output.ended().is_none());
            let Some(writer) = (!is_at_work).then(|| connect(name)).flatten() else { continue };
            if *name == names[1] {
                tee.add_block_output(writer);
            } else {
                tee.add_drop_output(writer, DROP_FRAMES);
            }
            seat.state.store(READY, SeqCst);
            ledger.ring();
        }
        let Err(error) = tee.step(Duration::from_millis(10)) else { continue };
        seat.told();
        if error.kind() == ErrorKind::ReaderDead {
            continue;
        }
        assert!(matches!(error.kind(), ErrorKind::WriterDead | ErrorKind::WriterClosed), "{error:?}");
        seat.ends.fetch_add(1, SeqCst);
        ledger.ring();
    }
    settle(tee.reader(), seat);
    if random.one_in(2) {
        for name in &names[1..4] {
            drop(tee.remove_output(name));
        }
    }
    tee.into_reader().close().expect("IN is closed");
    seat.state.store(CLOSED, SeqCst);
    ledger.ring();
}

/// Connects to the next viewer, if it comes soon.
fn connect(name: &str) -> Option<Writer> {
    let options = WriterOptions::default()
        .connect_timeout(Duration::from_millis(10))
        .write_timeout(Duration::MAX)
        .request_payload_sharing(true);
    match Writer::connect_with(name, options) {
        Ok(writer) => Some(writer),
        Err(error) if matches!(error.kind(), ErrorKind::BufferNotFound | ErrorKind::ReaderDead) => None,
        Err(error) => panic!("{error:?}"),
    }
}

/// Creates OUT, reads it until it is told to close, and holds a few frames all the time. One that looks on misses some frames.
pub(crate) fn viewer(
    name: &str,
    looks_on: bool,
    seed: u64,
    seat: &Seat,
    ledger: &'static Ledger,
    totals: &'static Totals,
) {
    let mut random = Random(seed);
    let mut reader = Reader::create(name, config(&mut random)).expect("OUT is created");
    seat.state.store(READY, SeqCst);
    ledger.ring();
    let slow = random.one_in(4);
    let hold = random.between(0, 4) as usize;
    let mut eyes = Eyes { totals, looks_on, hold, random, last: None, arrivals: 0, held: vec![] };
    while !seat.is_ordered() {
        match reader.read_frame(Duration::from_millis(10)) {
            Ok(Some(frame)) => {
                let shared = frame.is_shared();
                eyes.take(frame);
                if shared {
                    add(&totals.shared, 1);
                    seat.progress.fetch_add(1, SeqCst);
                    ledger.ring();
                }
                if slow {
                    std::thread::sleep(Duration::from_micros(500));
                }
            }
            Ok(None) => {}
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WriterDead | ErrorKind::WriterClosed), "{error:?}");
                seat.told();
                eyes.last = None;
                seat.ends.fetch_add(1, SeqCst);
                ledger.ring();
            }
        }
        if let Some(number) = seat.checks_due() {
            eyes.check();
            seat.note_check(number);
            ledger.ring();
        }
    }
    // Frames outlive their reader, or go before it.
    let early = eyes.random.one_in(2);
    if early {
        eyes.release_all();
    }
    reader.close().expect("OUT is closed");
    eyes.check();
    eyes.release_all();
    seat.state.store(CLOSED, SeqCst);
    ledger.ring();
}

struct Held {
    /// Camera and number of the frame.
    is: (u64, u64),
    arrival: u64,
    frame: Frame,
}

/// Checks frames, and holds a few.
struct Eyes {
    totals: &'static Totals,
    looks_on: bool,
    hold: usize,
    random: Random,
    /// The last frame, unless its relay has ended since.
    last: Option<(u64, u64)>,
    arrivals: u64,
    held: Vec<Held>,
}

impl Eyes {
    fn take(&mut self, frame: Frame) {
        let Some(is) = identify(&frame) else {
            add(&self.totals.torn, 1);
            panic!("a frame of {} bytes is none that a camera has written", frame.len());
        };
        let follows = self.last.is_none_or(|(salt, sequence)| match is {
            (same, next) if same == salt => next == sequence + 1 || self.looks_on && next > sequence,
            (later, first) => later > salt && (first == 1 || self.looks_on),
        });
        if !follows {
            add(&self.totals.missing, 1);
            panic!("frame {is:?} came after {:?}", self.last);
        }
        self.last = Some(is);
        add(&self.totals.frames, 1);
        add(&self.totals.bytes, frame.len() as u64);
        self.arrivals += 1;
        self.held.push(Held { is, arrival: self.arrivals, frame });
        while self.held.len() > self.hold {
            let elderly = self.arrivals - self.held[0].arrival >= SPAN;
            let which = if elderly { 0 } else { self.random.between(0, self.held.len() as u64) as usize };
            let held = self.held.remove(which);
            self.compare(&held);
        }
    }

    fn compare(&self, held: &Held) {
        add(&self.totals.compared, 1);
        if identify(&held.frame) != Some(held.is) {
            add(&self.totals.torn, 1);
            panic!("frame {:?} has changed while it was held (shared: {})", held.is, held.frame.is_shared());
        }
    }

    /// Compares all that is held.
    fn check(&self) {
        self.held.iter().for_each(|held| self.compare(held));
    }

    fn release_all(&mut self) {
        self.check();
        self.held.clear();
    }
}
