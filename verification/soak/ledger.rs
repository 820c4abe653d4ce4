//! Shared memory in which the processes of a soak report: the progress of each lane, and the sums of all
//! lanes.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use serde::Serialize;
use zerobuffer::ErrorKind;

use crate::process::{self, Patience, Place, place};

/// Writers, or clients, whose progress is remembered.
pub(crate) const SALTS: usize = 256;
/// Processes of a lane at a time, at most.
const SEATS: usize = 8;

/// The progress of a peer.
pub(crate) const STARTED: u32 = 0;
pub(crate) const READY: u32 = 1;
/// It has noticed the other side's end, and waits for an order.
pub(crate) const TOLD: u32 = 2;
pub(crate) const CLOSED: u32 = 3;

/// One process's words.
pub(crate) struct Seat {
    /// Not 0: it is in use.
    taken: AtomicU32,
    pub(crate) state: AtomicU32,
    /// Not 0: it is to close its handles and end.
    order: AtomicU32,
    /// Not 0: a relay waits for what it has lent before it closes.
    settle: AtomicU32,
    /// Checks that a viewer is to make, and that it has made.
    checks: AtomicU32,
    checked: AtomicU32,
    /// Shared frames that have passed a relay, or a viewer.
    pub(crate) progress: AtomicU64,
    /// Ends of writers that a reader has returned.
    pub(crate) ends: AtomicU32,
    /// The last of them: 1 = WriterClosed, 2 = WriterDead.
    pub(crate) last_end: AtomicU32,
    /// The time at which the other side's end was noticed.
    pub(crate) noticed_at: AtomicU64,
}

pub(crate) const END_CLOSED: u32 = 1;
pub(crate) const END_DEAD: u32 = 2;

/// The words of one lane. All accesses are sequentially consistent: speed is not the point here.
pub(crate) struct Ledger {
    /// Rung whenever a peer has got on; the lane sleeps on it.
    bell: AtomicU32,
    seats: [Seat; SEATS],
    /// Frames whose commit returned (requests whose answer came), by salt.
    committed: [AtomicU64; SALTS],
    /// Frames received and found right, by salt.
    received: [AtomicU64; SALTS],
}

impl Ledger {
    /// A free seat. Only the lane calls this.
    pub(crate) fn take_seat(&self) -> &Seat {
        let seat = self.seats.iter().find(|seat| seat.taken.load(SeqCst) == 0).expect("a free seat");
        let words = [&seat.state, &seat.order, &seat.ends, &seat.last_end];
        for word in words.into_iter().chain([&seat.settle, &seat.checks, &seat.checked]) {
            word.store(0, SeqCst);
        }
        seat.noticed_at.store(0, SeqCst);
        seat.progress.store(0, SeqCst);
        seat.taken.store(1, SeqCst);
        seat
    }

    pub(crate) fn committed(&self, salt: u64) -> &AtomicU64 {
        &self.committed[salt as usize % SALTS]
    }

    pub(crate) fn received(&self, salt: u64) -> &AtomicU64 {
        &self.received[salt as usize % SALTS]
    }

    /// The words that a peer of another program needs, with their names there: those of its seat and its salt, and the first of
    /// those of all salts.
    pub(crate) fn places(&self, seat: &Seat, salt: u64) -> Vec<(&'static str, Place)> {
        vec![
            ("state", place(&seat.state)),
            ("order", place(&seat.order)),
            ("ends", place(&seat.ends)),
            ("last-end", place(&seat.last_end)),
            ("noticed-at", place(&seat.noticed_at)),
            ("bell", place(&self.bell)),
            ("committed", place(self.committed(salt))),
            ("received", place(self.received(salt))),
            ("received-of-all", place(&self.received)),
        ]
    }

    pub(crate) fn ring(&self) {
        self.bell.fetch_add(1, SeqCst);
        process::wake(&self.bell);
    }

    /// Waits until `ready`, or reports that it never happened.
    pub(crate) fn wait(&self, limit: Duration, mut ready: impl FnMut() -> bool) -> bool {
        let mut patience = Patience::new(limit);
        loop {
            let heard = self.bell.load(SeqCst);
            if ready() {
                return true;
            }
            if patience.is_over() {
                return false;
            }
            process::sleep_on(&self.bell, heard, Duration::from_millis(20));
        }
    }
}

impl Seat {
    pub(crate) fn free(&self) {
        self.taken.store(0, SeqCst);
    }

    pub(crate) fn is(&self, state: u32) -> bool {
        self.state.load(SeqCst) == state
    }

    /// Asks for an orderly close.
    pub(crate) fn order_close(&self) {
        self.order.store(1, SeqCst);
        process::wake(&self.order);
    }

    pub(crate) fn is_ordered(&self) -> bool {
        self.order.load(SeqCst) != 0
    }

    /// A relay that is asked to close waits for what it has lent first.
    pub(crate) fn settle_before_closing(&self) {
        self.settle.store(1, SeqCst);
    }

    pub(crate) fn is_to_settle(&self) -> bool {
        self.settle.load(SeqCst) != 0
    }

    /// Asks a viewer to compare what it holds. Returns the number of the check.
    pub(crate) fn order_check(&self) -> u32 {
        self.checks.fetch_add(1, SeqCst) + 1
    }

    /// Whether check `number` has been made.
    pub(crate) fn has_checked(&self, number: u32) -> bool {
        self.checked.load(SeqCst) >= number
    }

    /// The number of the check that is due, if one is.
    pub(crate) fn checks_due(&self) -> Option<u32> {
        let wanted = self.checks.load(SeqCst);
        (wanted > self.checked.load(SeqCst)).then_some(wanted)
    }

    /// Check `number` has been made.
    pub(crate) fn note_check(&self, number: u32) {
        self.checked.store(number, SeqCst);
    }

    /// Sleeps until the order comes.
    pub(crate) fn await_order(&self) {
        while !self.is_ordered() {
            process::sleep_on(&self.order, 0, Duration::from_secs(1));
        }
    }

    /// Records that a writer, client or reader has noticed the other side's end.
    pub(crate) fn told(&self) {
        self.noticed_at.store(process::now(), SeqCst);
    }

    /// Records it, and does nothing more until the order comes.
    pub(crate) fn rest(&self, ledger: &Ledger) {
        self.told();
        self.state.store(TOLD, SeqCst);
        ledger.ring();
        self.await_order();
    }
}

/// Who was killed, and over which kind of ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Victim {
    Reader,
    Writer,
    Server,
    Client,
    Cleaner,
    Camera,
    Relay,
    Viewer,
    /// A relay with three outputs.
    Tee,
    /// A viewer that a tee does not wait for.
    Onlooker,
}

pub(crate) const VICTIMS: [Victim; 10] = [
    Victim::Reader,
    Victim::Writer,
    Victim::Server,
    Victim::Client,
    Victim::Cleaner,
    Victim::Camera,
    Victim::Relay,
    Victim::Viewer,
    Victim::Tee,
    Victim::Onlooker,
];

/// Sums over all lanes.
pub(crate) struct Totals {
    /// Not 0: lanes close and end. 2: cleaners end too, after the lanes, which depend on them.
    pub(crate) stop: AtomicU32,
    /// By victim and kind of ring (extended, classic).
    pub(crate) kills: [[AtomicU64; 2]; VICTIMS.len()],
    /// Those of them that hit a peer in C#.
    pub(crate) csharp_kills: AtomicU64,
    pub(crate) frames: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) answers: AtomicU64,
    /// Frames that a viewer looked at in the buffer of a chain's camera, or of a tee.
    pub(crate) shared: AtomicU64,
    /// Comparisons of a frame that a viewer has held with what was written.
    pub(crate) compared: AtomicU64,
    /// Responses that a client got to a predecessor's request; only in classic rings (docs/PROTOCOL.md).
    pub(crate) strays: AtomicU64,
    pub(crate) orderly: AtomicU64,
    pub(crate) cleaned: AtomicU64,
    /// Checks that nothing was left behind.
    pub(crate) tidy: AtomicU64,
    pub(crate) missing: AtomicU64,
    pub(crate) torn: AtomicU64,
    pub(crate) left_behind: AtomicU64,
    /// Times that the kernel took half a minute to end a process whose program had ended.
    pub(crate) late_ends: AtomicU64,
    pub(crate) failures: AtomicU64,
    /// How soon a survivor knew: by its side, counts of times below 2^index microseconds.
    pub(crate) noticed: [[AtomicU64; BUCKETS]; VICTIMS.len()],
    /// Likewise, how late the machine itself was for a sleeper.
    pub(crate) late: [AtomicU64; BUCKETS],
}

pub(crate) const BUCKETS: usize = 32;

pub(crate) fn add(word: &AtomicU64, number: u64) {
    word.fetch_add(number, SeqCst);
}

pub(crate) fn count_time(buckets: &[AtomicU64; BUCKETS], nanos: u64) {
    let micros = nanos / 1000;
    let index = (u64::BITS - micros.leading_zeros()) as usize;
    add(&buckets[index.min(BUCKETS - 1)], 1);
}

/// Times of one kind, in microseconds: each share of them lies below the figure.
#[derive(Debug, Serialize)]
pub(crate) struct Times {
    pub(crate) count: u64,
    pub(crate) median_below_us: u64,
    pub(crate) p99_below_us: u64,
    pub(crate) all_below_us: u64,
}

pub(crate) fn times(buckets: &[AtomicU64; BUCKETS]) -> Times {
    let counts: Vec<u64> = buckets.iter().map(|count| count.load(SeqCst)).collect();
    let count: u64 = counts.iter().sum();
    let below = |share: f64| {
        let wanted = (count as f64 * share).ceil() as u64;
        let mut sum = 0;
        let index = counts.iter().position(|&bucket| {
            sum += bucket;
            sum >= wanted
        });
        1 << index.unwrap_or(0)
    };
    Times { count, median_below_us: below(0.5), p99_below_us: below(0.99), all_below_us: below(1.0) }
}

impl Totals {
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(SeqCst) != 0
    }

    pub(crate) fn are_cleaners_stopped(&self) -> bool {
        self.stop.load(SeqCst) > 1
    }

    pub(crate) fn all_kills(&self) -> u64 {
        self.kills.iter().flatten().map(|count| count.load(SeqCst)).sum()
    }

    /// The words that a peer of another program needs, with their names there.
    pub(crate) fn places(&self) -> Vec<(&'static str, Place)> {
        vec![
            ("frames", place(&self.frames)),
            ("bytes", place(&self.bytes)),
            ("answers", place(&self.answers)),
            ("strays", place(&self.strays)),
            ("missing", place(&self.missing)),
            ("torn", place(&self.torn)),
            ("failures", place(&self.failures)),
        ]
    }

    /// Counts and prints a violation.
    pub(crate) fn fail(&self, what: &str) {
        add(&self.failures, 1);
        eprintln!("FAILURE: {what}");
    }
}

pub(crate) fn is_death(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WriterDead | ErrorKind::ReaderDead)
}
