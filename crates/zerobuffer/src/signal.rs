//! Waiting: deadlines on the monotonic clock, a short spin, then a semaphore in slices.
//!
//! Semaphore tokens only wake; whether there is something to do is read from the ring (spec failure 17).

use std::time::{Duration, Instant};

use crate::config::WaitStrategy;
use crate::ring::laps::CALM;
use crate::sync::{Ordering, fence};

/// Longest sleep between two looks at the peer's role lock: a death is noticed after 10 ms in the median, at a cost of
/// some 50 wake-ups a second.
pub(crate) const SLICE: Duration = Duration::from_millis(20);

/// The first sleep of a wait is shorter: a peer that dies in full flight is missed at once, and would otherwise always
/// cost a whole slice. One more wake-up a wait.
pub(crate) const FIRST_SLICE: Duration = Duration::from_millis(5);

/// Sleep between two looks while words contradict each other.
pub(crate) const UNSURE_SLICE: Duration = Duration::from_millis(1);

/// How long a contradiction may last before it is taken for corruption: far longer than any peer takes between two
/// stores, unless it was stopped between them.
pub(crate) const UNSURE_LIMIT: Duration = Duration::from_millis(100);

/// To be passed between taking tokens and looking at the ring; gives `taken` back.
///
/// Who posts looks at the count behind a SeqCst fence, and leaves the post out if a token is there. That is right only
/// if the token's taker sees what came before that look, so it needs the other fence: taking a token is an acquire
/// operation, whose store a later load may overtake on aarch64.
pub(crate) fn taken_before_look(taken: bool) -> bool {
    if taken {
        fence(Ordering::SeqCst);
    }
    taken
}

/// When a call must come back. `Duration::ZERO` polls once; what overflows the clock waits for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(timeout))
    }

    /// Time left, at most `limit`; `None` when it is over.
    pub(crate) fn left(&self, limit: Duration) -> Option<Duration> {
        match self.0 {
            None => Some(limit),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                (!left.is_zero()).then(|| left.min(limit))
            }
        }
    }
}

/// A spin before sleeping, as long as the waits seen lately make worth while.
#[derive(Debug)]
pub(crate) struct Spin {
    strategy: WaitStrategy,
    /// A moving average of the waits in nanoseconds, each counted as [`Spin::LONG`] times `longest` at the most.
    /// (Arithmetic with `Duration` takes some 20 ns, just when a frame is there.)
    usual: u64,
    /// Longest spin worth while, in nanoseconds.
    longest: u64,
}

impl Spin {
    /// About what two sleeps and wake-ups cost (performance on the machines measured: 8 to 90 us each), in nanoseconds:
    /// spinning longer cannot pay.
    pub(crate) const USUAL: u64 = 100_000;
    /// But who has moved many bytes waits while the peer moves them too: for as long as that takes at some 4 GB/s, so that
    /// spinning costs no more than what it waits for.
    const BYTES_A_NANOSECOND: u64 = 4;
    /// However many they are.
    pub(crate) const MOST: u64 = 1_000_000;
    /// Enough for a peer that is just about to publish.
    const MIN: Duration = Duration::from_micros(2);
    /// Waits beyond so many longest spins are all alike.
    const LONG: u64 = 4;
    /// Looks before the clock is asked for the first time: about a microsecond.
    const FIRST_LOOKS: u32 = 40;

    pub(crate) fn new(strategy: WaitStrategy) -> Spin {
        Spin { strategy, usual: 0, longest: Self::USUAL }
    }

    fn budget(&self) -> Duration {
        match self.strategy {
            WaitStrategy::Block => Duration::ZERO,
            WaitStrategy::Spin => SLICE,
            WaitStrategy::Adaptive if self.usual > self.longest => Self::MIN,
            // A frame that is a little late, for its writer was interrupted, must not cost a sleep of 50 to 200 us.
            WaitStrategy::Adaptive => Duration::from_nanos(self.longest),
        }
    }

    /// Before a wait: so many bytes have been moved since the one before.
    pub(crate) fn moved(&mut self, bytes: u64) {
        self.longest = (bytes / Self::BYTES_A_NANOSECOND).clamp(Self::USUAL, Self::MOST);
    }

    /// Whether a wait never spins.
    pub(crate) fn is_never(&self) -> bool {
        self.strategy == WaitStrategy::Block
    }

    /// Whether a wait never sleeps.
    pub(crate) fn is_endless(&self) -> bool {
        self.strategy == WaitStrategy::Spin
    }

    /// Spins until `ready`, or until it is not worth while any more. Says which. `since` is when the wait began, if it is
    /// known; else this is its beginning.
    pub(crate) fn until(&mut self, since: Option<Instant>, mut ready: impl FnMut() -> bool) -> bool {
        let budget = self.budget();
        if budget.is_zero() {
            return ready();
        }
        for _ in 0..Self::FIRST_LOOKS {
            if ready() {
                self.usual = self.usual * 3 / 4;
                return true;
            }
            core::hint::spin_loop();
        }
        let start = Instant::now();
        loop {
            for _ in 0..32 {
                if ready() {
                    self.learn(since.unwrap_or(start).elapsed());
                    return true;
                }
                core::hint::spin_loop();
            }
            if start.elapsed() >= budget {
                return false;
            }
        }
    }

    /// Takes note of a wait that ended with something.
    pub(crate) fn learn(&mut self, wait: Duration) {
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX).min(Self::LONG * self.longest);
        self.usual = (self.usual * 3 + wait) / 4;
    }
}

/// How long a writer waits for its reader rather than leave the part of an extended ring that is in the caches.
///
/// As long as leaving costs. If the reader does not give back in time, the next try comes after one more MiB, or frame, then
/// after two, four and so on: a reader that keeps frames costs little, and one that was only late soon has another chance.
/// (With no other try, reader and writer each waited in turn while the other reserved memory, through the whole ring.)
#[derive(Debug)]
pub(crate) struct Patience {
    /// Bytes until the next try.
    left: u64,
    /// After how many MiB, or frames, if that one fails.
    backoff: u64,
}

impl Patience {
    /// Bytes a nanosecond: what copying to memory that is not in the caches gives.
    const COPY: u64 = 4;
    /// Bytes a nanosecond: what the kernel gives that makes new memory (1 to 5 on the machines measured).
    const FRESH: u64 = 1;
    /// Nanoseconds, however large the frame is.
    const MOST: u64 = 4_000_000;
    /// So that trying costs no more than 1/64 of what copying does.
    const BACKOFF_MAX: u64 = 64;

    pub(crate) fn new() -> Patience {
        Patience { left: 0, backoff: 1 }
    }

    /// Before a frame of `len` bytes leaves the caches, for `fresh` memory or not: how long to wait, if at all.
    pub(crate) fn before_growing(&mut self, len: u64, fresh: bool) -> Option<Duration> {
        if self.left > 0 {
            self.left = self.left.saturating_sub(len);
            return None;
        }
        let speed = if fresh { Self::FRESH } else { Self::COPY };
        Some(Duration::from_nanos((CALM.max(len) / speed).min(Self::MOST)))
    }

    /// After such a wait in vain.
    pub(crate) fn failed(&mut self, len: u64) {
        self.left = self.backoff.saturating_mul(CALM.max(len));
        self.backoff = (2 * self.backoff).min(Self::BACKOFF_MAX);
    }

    /// The reader has caught up.
    pub(crate) fn restore(&mut self) {
        *self = Patience::new();
    }
}

/// How a reader that is faster than its writer lets small frames come together.
///
/// Each look at the writer's word takes that word's cache line away from the writer, and the lines behind it that are half
/// written: a reader that looks after each frame slows both sides down to a quarter. So a reader that finds little at each
/// look stays away for [`Pace::AWAY`] before the next one. If it finds no more for that (frames come one at a time, or
/// answer those of ours), it goes back to looking at once, and tries again later and later.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Pauses before each look; 0: none.
    pauses: u32,
    /// Looks that found little until staying away is tried.
    hold: u32,
    /// What `hold` is set to next.
    backoff: u32,
    /// Looks in a row for which staying away paid.
    paid: u32,
}

impl Pace {
    /// Some 50 small frames in a row, and the most that a frame is read later for all this.
    const AWAY: Duration = Duration::from_nanos(1200);
    /// It pays if so many bytes are known behind the first frame: a dozen small frames.
    const WORTH: u64 = 1 << 10;
    /// More than is needed: stay away for less.
    const PLENTY: u64 = 32 << 10;
    const HOLD_MIN: u32 = 16;
    const HOLD_MAX: u32 = 1 << 14;
    /// After so many looks for which it paid, it is worth another try soon.
    const LONG: u32 = 64;

    pub(crate) fn new() -> Pace {
        Pace { pauses: 0, hold: Self::HOLD_MIN, backoff: Self::HOLD_MIN, paid: 0 }
    }

    /// Before a look that may wait.
    #[inline]
    pub(crate) fn stay_away(&self) {
        for _ in 0..self.pauses {
            core::hint::spin_loop();
        }
    }

    /// After that look: `behind` bytes were found behind the first frame; `None` if there was no frame.
    #[inline]
    pub(crate) fn learn(&mut self, behind: Option<u64>) {
        if self.pauses == 0 {
            match behind {
                Some(0..Self::WORTH) if self.hold > 0 => self.hold -= 1,
                Some(0..Self::WORTH) => self.pauses = pauses_in(Self::AWAY),
                _ => {}
            }
            return;
        }
        match behind {
            Some(Self::PLENTY..) => self.pauses -= self.pauses / 8,
            Some(Self::WORTH..) => {}
            _ => {
                let long = self.paid > Self::LONG;
                let backoff = if long { Self::HOLD_MIN } else { (2 * self.backoff).min(Self::HOLD_MAX) };
                *self = Pace { pauses: 0, hold: backoff, backoff, paid: 0 };
                return;
            }
        }
        self.paid = self.paid.saturating_add(1);
    }
}

/// How many of the processor's pauses take so long: 5 to 50 ns each.
#[cold]
fn pauses_in(time: Duration) -> u32 {
    const SAMPLE: u32 = 64;
    let start = Instant::now();
    for _ in 0..SAMPLE {
        core::hint::spin_loop();
    }
    let sample = start.elapsed().max(Duration::from_nanos(u64::from(SAMPLE)));
    (u128::from(SAMPLE) * time.as_nanos() / sample.as_nanos()).clamp(1, 1000) as u32
}

/// How long a writer sleeps when the ring of a 1.x reader is full.
///
/// A 1.x reader posts at each release. A writer that sleeps on the semaphore is woken by the first post, fills the little
/// space it was told of and sleeps again, so that the reader pays for a wake-up at each frame (15 us; a post to nobody:
/// 20 ns). So beside a reader that is busy the writer sleeps by the clock instead. A frame arrives no later for that, as
/// long as the reader does not run out of frames: a nap is to free between an eighth and a quarter of the ring.
#[derive(Debug)]
pub(crate) struct Nap {
    length: Duration,
}

impl Nap {
    /// A longer nap would spare next to nothing, and is how late the end of the wait is noticed (an interrupt).
    const MAX: Duration = Duration::from_micros(1 << 10);
    /// The kernel ends a sleep some 50 us late. A ring that is read faster than this is no case for naps.
    const MIN: Duration = Duration::from_micros(1 << 6);
    /// Below `MIN`, so that it takes some waits on the semaphore to get there: naps are rarely tried where they do not
    /// pay.
    const FIRST: Duration = Duration::from_micros(1);

    pub(crate) fn new() -> Nap {
        Nap { length: Self::FIRST }
    }

    /// How long to sleep; `None` if the semaphore is better.
    pub(crate) fn length(&self) -> Option<Duration> {
        (self.length >= Self::MIN).then_some(self.length)
    }

    /// A wait that began with a full ring found `free` of its `capacity` bytes free.
    pub(crate) fn learn(&mut self, free: u64, capacity: u64) {
        if free < capacity / 8 {
            self.length = (self.length * 2).min(Self::MAX);
        } else if free > capacity / 4 {
            self.length = (self.length / 2).max(Self::FIRST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_end_or_never_do() {
        assert_eq!(Deadline::after(Duration::ZERO).left(SLICE), None);
        assert_eq!(Deadline::after(Duration::MAX).left(SLICE), Some(SLICE));
        assert!(Deadline::after(Duration::from_secs(9)).left(SLICE) == Some(SLICE));
        assert!(Deadline::after(Duration::from_millis(5)).left(SLICE).is_some_and(|left| left < SLICE));
    }

    #[test]
    fn patience_is_tried_again_and_costs_little_whatever_the_size_of_frames() {
        for len in [64, 1 << 16, 3 << 20] {
            let mut patience = Patience::new();
            let (mut tries, mut waited, mut bytes) = (0_u64, Duration::ZERO, 0);
            while bytes < 1000 * CALM.max(len) {
                if let Some(wait) = patience.before_growing(len, false) {
                    assert_eq!(wait, Duration::from_nanos(CALM.max(len) / Patience::COPY));
                    patience.failed(len);
                    (tries, waited) = (tries + 1, waited + wait);
                }
                bytes += len;
            }
            assert!((15..30).contains(&tries), "{tries} tries before 1000 MiB or frames of {len} bytes");
            assert!(
                waited < Duration::from_nanos(bytes / Patience::COPY / 30),
                "{waited:?} for {bytes} bytes"
            );
        }
        let mut patience = Patience::new();
        patience.failed(64);
        assert_eq!(patience.before_growing(64, false), None);
        patience.restore();
        let large = patience.before_growing(3 << 20, true).expect("it paid, so it is tried at once");
        assert_eq!(large, Duration::from_nanos((3 << 20) / Patience::FRESH));
        assert_eq!(patience.before_growing(1 << 30, true), Some(Duration::from_nanos(Patience::MOST)));
    }

    #[test]
    fn spin_follows_the_waits_seen() {
        let mut spin = Spin::new(WaitStrategy::Adaptive);
        for _ in 0..10 {
            spin.learn(Duration::from_millis(1));
        }
        assert_eq!(spin.budget(), Spin::MIN, "no spinning where frames are rare");
        for _ in 0..10 {
            spin.learn(Duration::from_micros(30));
        }
        assert_eq!(
            spin.budget(),
            Duration::from_nanos(Spin::USUAL),
            "where they are frequent, as long as a sleep costs"
        );
        for _ in 0..10 {
            spin.learn(Duration::from_micros(300));
        }
        assert_eq!(spin.budget(), Spin::MIN, "waits for small frames are not worth so much");
        spin.moved(3_100_000);
        assert_eq!(spin.budget(), Duration::from_micros(775), "for large ones they are");
        spin.moved(u64::MAX);
        assert_eq!(spin.budget(), Duration::from_nanos(Spin::MOST));
        spin.moved(64);
        assert_eq!(spin.budget(), Spin::MIN);
        assert!(spin.until(None, || true));
        assert!(!spin.until(None, || false));
        for (strategy, budget) in [(WaitStrategy::Block, Duration::ZERO), (WaitStrategy::Spin, SLICE)] {
            assert_eq!(Spin::new(strategy).budget(), budget);
        }
    }

    #[test]
    fn a_reader_stays_away_only_where_that_brings_frames_together() {
        let mut pace = Pace::new();
        // A request, or an answer, at a time: little is found at each look, however long it stays away.
        let mut away = 0;
        for _ in 0..100_000 {
            pace.learn(Some(0));
            away += u32::from(pace.pauses > 0);
            pace.stay_away();
        }
        assert!((1..30).contains(&away), "stayed away {away} times of 100,000");
        // Looks that find nothing say nothing.
        let mut pace = Pace::new();
        (0..1000).for_each(|_| pace.learn(None));
        assert_eq!(pace.pauses, 0);
        // Frames that come together are worth it, as long as they do.
        while pace.pauses == 0 {
            pace.learn(Some(80));
        }
        for _ in 0..1000 {
            pace.learn(Some(4000));
            assert!(pace.pauses > 0);
        }
        let pauses = pace.pauses;
        (0..100).for_each(|_| pace.learn(Some(Pace::PLENTY)));
        assert!(pace.pauses < pauses / 2 + 8, "less of it while plenty is there");
        pace.learn(None);
        assert_eq!((pace.pauses, pace.hold), (0, Pace::HOLD_MIN));
    }

    #[test]
    fn naps_follow_what_they_free() {
        let mut nap = Nap::new();
        // A ring of one frame: all of it is free after each wait.
        for _ in 0..10 {
            nap.learn(100, 100);
            assert_eq!(nap.length(), None);
        }
        for _ in 0..20 {
            nap.learn(1, 100);
        }
        assert_eq!(nap.length(), Some(Nap::MAX));
        nap.learn(26, 100);
        let length = nap.length().unwrap();
        assert_eq!(length, Nap::MAX / 2);
        // Good as it is.
        for free in [12, 20, 25] {
            nap.learn(free, 100);
            assert_eq!(nap.length(), Some(length));
        }
        for _ in 0..20 {
            nap.learn(100, 100);
        }
        assert_eq!(nap.length(), None);
    }
}
