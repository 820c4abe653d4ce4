//! The processes of a stream.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use zerobuffer::{BufferConfig, ErrorKind, Frame, Reader, Writer, WriterOptions};

use crate::content::{Random, SALT, fill, is_filled};
use crate::ledger::{CLOSED, END_CLOSED, END_DEAD, Ledger, READY, Seat, Totals, add};

/// Frames from the oldest held one to the newest, at most; with frames of at most an eighth of the ring a writer always
/// finds a place.
const SPAN: u64 = 4;

const METADATA: &[u8] = b"the metadata of every writer";

/// Creates the buffer, and reads one writer after the other until it is told to close.
pub(crate) fn reader(
    name: &str,
    classic: bool,
    seed: u64,
    seat: &Seat,
    ledger: &'static Ledger,
    totals: &'static Totals,
) {
    let mut random = Random(seed);
    let capacity = 64 * random.between(4, 1024) as usize;
    let config = BufferConfig::default().classic(classic).metadata_size(64).payload_size(capacity);
    let mut reader = Reader::create(name, config).expect("the buffer is created");
    seat.state.store(READY, SeqCst);
    ledger.ring();
    let slow = random.one_in(4);
    let hold = random.between(0, 4) as usize;
    let mut sink = Sink { ledger, totals, hold, random, writer: None, last: 0, arrivals: 0, held: vec![] };
    while !seat.is_ordered() {
        match reader.read_frame(Duration::from_millis(10)) {
            Ok(Some(frame)) => {
                if sink.take(frame) {
                    let metadata = reader.metadata().expect("metadata");
                    assert!(metadata.is_none_or(|metadata| metadata == METADATA), "torn metadata");
                }
                if slow {
                    std::thread::sleep(Duration::from_micros(200));
                }
            }
            Ok(None) => {}
            Err(error) => {
                let end = match error.kind() {
                    ErrorKind::WriterDead => END_DEAD,
                    ErrorKind::WriterClosed => END_CLOSED,
                    _ => panic!("{error:?}"),
                };
                seat.told();
                sink.writer = None;
                seat.last_end.store(end, SeqCst);
                seat.ends.fetch_add(1, SeqCst);
                ledger.ring();
            }
        }
    }
    sink.release_all();
    drop(sink);
    reader.close().expect("closed");
    seat.state.store(CLOSED, SeqCst);
    ledger.ring();
}

struct Held {
    salt: u64,
    arrival: u64,
    frame: Frame,
}

/// Checks frames, and holds a few.
struct Sink {
    ledger: &'static Ledger,
    totals: &'static Totals,
    hold: usize,
    random: Random,
    /// The writer whose frames come, until the reader returns its end; and how many have come.
    writer: Option<(u64, u64)>,
    /// The last writer.
    last: u64,
    arrivals: u64,
    held: Vec<Held>,
}

impl Sink {
    /// Returns whether it is the first frame of a writer.
    fn take(&mut self, frame: Frame) -> bool {
        let first = frame.sequence() == 1;
        if first {
            assert_eq!(self.writer, None, "a frame of the next writer before the end of this one was told");
            let salt = frame.first_chunk::<SALT>().map(|salt| u64::from_le_bytes(*salt));
            let salt = salt.expect("a first frame names its writer");
            if salt <= self.last {
                add(&self.totals.torn, 1);
                panic!("a first frame of writer {salt} after one of {}", self.last);
            }
            self.writer = Some((salt, 0));
            self.last = salt;
        }
        let Some((salt, received)) = &mut self.writer else {
            add(&self.totals.missing, 1);
            panic!("frame {} is the first one of its writer to come", frame.sequence());
        };
        *received += 1;
        if frame.sequence() != *received {
            add(&self.totals.missing, 1);
            panic!("frame {} of writer {salt}, not {received}", frame.sequence());
        }
        if !is_filled(*salt, *received, &frame) {
            add(&self.totals.torn, 1);
            panic!("frame {received} of writer {salt} is not what was written");
        }
        self.ledger.received(*salt).store(*received, SeqCst);
        add(&self.totals.frames, 1);
        add(&self.totals.bytes, frame.len() as u64);
        if first {
            self.ledger.ring();
        }
        self.arrivals += 1;
        self.held.push(Held { salt: *salt, arrival: self.arrivals, frame });
        while self.held.len() > self.hold {
            let elderly = self.arrivals - self.held[0].arrival >= SPAN;
            let which = if elderly { 0 } else { self.random.between(0, self.held.len() as u64) as usize };
            self.release(which);
        }
        first
    }

    fn release(&mut self, which: usize) {
        let Held { salt, frame, .. } = self.held.remove(which);
        if !is_filled(salt, frame.sequence(), &frame) {
            add(&self.totals.torn, 1);
            panic!("frame {} of writer {salt} was overwritten while it was held", frame.sequence());
        }
    }

    fn release_all(&mut self) {
        while !self.held.is_empty() {
            self.release(0);
        }
    }
}

/// Connects, and writes until it is told to close, or its reader ends.
pub(crate) fn writer(
    name: &str,
    salt: u64,
    seed: u64,
    seat: &Seat,
    ledger: &'static Ledger,
    _: &'static Totals,
) {
    let mut random = Random(seed);
    let options = WriterOptions::default().connect_timeout(Duration::MAX).write_timeout(Duration::MAX);
    let mut writer = Writer::connect_with(name, options).expect("connected");
    match writer.set_metadata(METADATA) {
        Ok(()) => {}
        // A writer before this one has written it.
        Err(error) if error.kind() == ErrorKind::MetadataAlreadyWritten => {}
        Err(error) => panic!("{error:?}"),
    }
    seat.state.store(READY, SeqCst);
    ledger.ring();
    let burst = [1, 16, u64::MAX][random.between(0, 3) as usize];
    let max = ((writer.max_frame_size() + 16) / 8 - 16) as u64;
    let mut bytes = vec![0; max as usize];
    let mut sequence = 0;
    while !seat.is_ordered() {
        sequence += 1;
        let low = if sequence == 1 { SALT as u64 } else { 1 };
        let len = random.between(low, max + 1) as usize;
        let written = match random.between(0, 4) {
            0 => in_place(&mut writer, max as usize, len, |bytes| fill(salt, sequence, bytes)),
            1 => in_place(&mut writer, len, len, |bytes| fill(salt, sequence, bytes)),
            _ => {
                fill(salt, sequence, &mut bytes[..len]);
                writer.write_frame(&bytes[..len])
            }
        };
        match written {
            Ok(number) => assert_eq!(number, sequence, "the writer's own count"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ReaderDead, "{error:?}");
                seat.rest(ledger);
                break;
            }
        }
        ledger.committed(salt).store(sequence, SeqCst);
        if sequence.is_multiple_of(burst) {
            std::thread::sleep(Duration::from_micros(random.between(0, 2000)));
        }
    }
    writer.close().expect("closed");
    seat.state.store(CLOSED, SeqCst);
    ledger.ring();
}

/// Writes `len` bytes into a frame of `acquired`.
fn in_place(
    writer: &mut Writer,
    acquired: usize,
    len: usize,
    fill: impl FnOnce(&mut [u8]),
) -> zerobuffer::Result<u64> {
    let mut frame = writer.acquire_frame(acquired)?;
    fill(&mut frame[..len]);
    frame.commit_len(len)
}
