//! A verifiable stream of frames: every frame differs from every other one, and each side keeps a ledger of
//! its progress.

use zerobuffer::{Error, Frame, Writer};

use super::ledger::Ledger;
use super::{Random, fill, is_filled};

/// Sequence number of the last frame whose commit returned. Stored by the writer.
pub const COMMITTED: usize = 0;
/// Sequence number of the last frame that was received and found right. Stored by the reader.
pub const RECEIVED: usize = 1;
/// Sequence number up to which frames were released. Stored by the reader.
pub const RELEASED: usize = 2;
/// The time at which the survivor noticed, in nanoseconds.
pub const NOTICED_AT: usize = 4;
/// Frames from the oldest held one to the newest, at most; with frames of at most an eighth of the ring a writer always
/// finds a place.
const SPAN: u64 = 4;

/// Not 0: the writer is asked to close.
pub const STOP: usize = 5;

/// The content of frame `sequence` of stream `salt`.
fn content(salt: u64, sequence: u64) -> u64 {
    salt << 40 | sequence
}

/// The frames that one writer writes.
pub struct Source {
    pub salt: u64,
    pub sequence: u64,
    pub random: Random,
    /// Largest frame.
    pub max: u64,
}

impl Source {
    pub fn new(salt: u64, max: u64) -> Source {
        Source { salt, sequence: 0, random: Random(salt ^ 0x5eed), max }
    }

    /// Writes the next frame, in one of the ways that there are, and enters it into the ledger.
    pub fn write(&mut self, writer: &mut Writer, ledger: &Ledger) -> Result<(), Error> {
        let len = self.random.between(1, self.max + 1) as usize;
        let next = self.sequence + 1;
        let index = content(self.salt, next);
        let sequence = match self.random.between(0, 8) {
            0 => {
                // Longer than needed: the rest is given up at the commit.
                let mut frame = writer.acquire_frame(self.max as usize)?;
                fill(index, &mut frame[..len]);
                frame.commit_len(len)?
            }
            1 => {
                // Discarded, as if it had never been; its bytes would be found out.
                writer.acquire_frame(len)?.fill(0xdd);
                let mut bytes = vec![0; len];
                fill(index, &mut bytes);
                writer.write_frame(&bytes)?
            }
            2..4 => {
                let mut frame = writer.acquire_frame(len)?;
                fill(index, &mut frame);
                frame.commit()?
            }
            _ => {
                let mut bytes = vec![0; len];
                fill(index, &mut bytes);
                writer.write_frame(&bytes)?
            }
        };
        assert_eq!(sequence, next, "the writer's own count");
        self.sequence = next;
        ledger.set(COMMITTED, next);
        Ok(())
    }
}

struct Held {
    index: u64,
    arrival: u64,
    frame: Frame,
}

/// Takes the frames of one writer after the other, checks them, and holds a few.
pub struct Sink {
    pub salt: u64,
    /// Frames received of this writer.
    pub received: u64,
    held: Vec<Held>,
    /// Frames received of all writers.
    arrivals: u64,
    hold: usize,
    random: Random,
}

impl Sink {
    pub fn new(salt: u64, hold: usize) -> Sink {
        Sink { salt, received: 0, held: Vec::new(), arrivals: 0, hold, random: Random(salt) }
    }

    /// From now on frames of the next writer come; those held stay held.
    pub fn next_writer(&mut self, salt: u64, ledger: &Ledger) {
        (self.salt, self.received) = (salt, 0);
        ledger.set(RECEIVED, 0);
        ledger.set(RELEASED, 0);
    }

    #[track_caller]
    pub fn take(&mut self, frame: Frame, ledger: &Ledger) {
        self.received += 1;
        assert_eq!(frame.sequence(), self.received, "the next frame of writer {}", self.salt);
        let index = content(self.salt, self.received);
        assert!(
            is_filled(index, &frame),
            "frame {} of writer {} is not what was written",
            self.received,
            self.salt
        );
        ledger.set(RECEIVED, self.received);
        self.arrivals += 1;
        self.held.push(Held { index, arrival: self.arrivals, frame });
        while self.held.len() > self.hold {
            // Any of them, but never one elder without end: everything behind it waits for it.
            let oldest = (0..self.held.len()).min_by_key(|&at| self.held[at].arrival).expect("some");
            let elderly = self.arrivals - self.held[oldest].arrival >= SPAN;
            let which =
                if elderly { oldest } else { self.random.between(0, self.held.len() as u64) as usize };
            self.release(which);
        }
        if self.held.is_empty() {
            ledger.set(RELEASED, self.received);
        }
    }

    #[track_caller]
    fn release(&mut self, which: usize) {
        let Held { index, frame, .. } = self.held.swap_remove(which);
        assert!(is_filled(index, &frame), "frame {} was overwritten while it was held", frame.sequence());
    }

    /// Gives everything back, after a last check.
    #[track_caller]
    pub fn release_all(&mut self, ledger: &Ledger) {
        while !self.held.is_empty() {
            self.release(0);
        }
        ledger.set(RELEASED, self.received);
    }

    pub fn hold(&mut self, frames: usize) {
        self.hold = frames;
    }
}
