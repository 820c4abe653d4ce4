//! How often a reader looks.

use std::time::{Duration, Instant};

/// How a reader that is faster than its writer lets frames come together.
///
/// Each look at the writer's word takes that word's cache line away from the writer, and the lines behind it that are half
/// written: where lines come slowly, a reader that looks after each frame slows both sides down to a quarter. So a reader that
/// finds little at each look stays away for [`PollBackoff::AWAY`] before the next one. If it finds no more for that (frames
/// come one at a time, or answer its own), or reads no more frames a second for that (lines come fast), it goes back to looking
/// at once, and tries again later and later.
#[derive(Debug)]
pub(crate) struct PollBackoff {
    /// Pauses before each look; 0: none.
    pauses: u32,
    /// Those of the whole time that the reader may stay away.
    most: u32,
    /// Looks that found little until staying away is tried.
    hold: u32,
    /// What `hold` is set to next.
    backoff: u32,
    /// Looks of the reader while it stays away.
    looks: u32,
    /// Those that found little, one after the other.
    vain: u32,
    /// Where the measurement that is under way began.
    began: Option<Mark>,
    /// Frames in a nanosecond without staying away, as measured last.
    at_once: f64,
}

/// What a look found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// Bytes that the first frame takes in the ring.
    pub(crate) bytes: u64,
    /// Bytes that are known behind it.
    pub(crate) behind: u64,
}

/// A moment, and the number of frames read until then.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Instant,
    frames: u64,
}

impl Mark {
    /// Frames in a nanosecond since then.
    fn rate(self, now: Mark) -> f64 {
        let time = (now.at - self.at).as_nanos().max(1);
        now.frames.wrapping_sub(self.frames) as f64 / time as f64
    }
}

impl Found {
    /// Frames of this size that must be known behind the first one,
    const WORTH: u64 = 3;
    /// and bytes: a dozen small frames.
    const WORTH_BYTES: u64 = 1 << 10;
    /// Larger frames take so long to copy that the reader is away long enough as it is.
    pub(super) const LARGEST: u64 = 20 << 10;

    /// Whether the look came so soon that its reader had better stayed away.
    fn is_little(self) -> bool {
        self.bytes <= Self::LARGEST && self.behind < (Self::WORTH * self.bytes).max(Self::WORTH_BYTES)
    }
}

impl PollBackoff {
    /// The most that a frame is read later for all this.
    pub(super) const AWAY: Duration = Duration::from_nanos(2400);
    /// Stay away for less if so many bytes came meanwhile: a sixteenth of the writer's window.
    const PLENTY: u64 = 256 << 10;
    /// Looks in a row that may find little while the reader stays away.
    const VAIN: u32 = 4;
    const HOLD_MIN: u32 = 16;
    const HOLD_MAX: u32 = 1 << 16;
    /// Looks that found little during which the rate without staying away is measured.
    const SAMPLE: u32 = 16;
    /// Looks after which the rate with staying away is compared with it.
    const TRIAL: u32 = 64;
    /// Looks after which both are measured again.
    const AGAIN: u32 = 1 << 14;

    pub(crate) fn new() -> PollBackoff {
        PollBackoff {
            pauses: 0,
            most: 0,
            hold: Self::HOLD_MIN,
            backoff: Self::HOLD_MIN,
            looks: 0,
            vain: 0,
            began: None,
            at_once: 0.0,
        }
    }

    /// Before a look that may wait.
    #[inline]
    pub(crate) fn stay_away(&self) {
        for _ in 0..self.pauses {
            core::hint::spin_loop();
        }
    }

    /// After that look, which found a frame or not, with the number of frames read until then.
    #[inline]
    pub(crate) fn learn(&mut self, found: Option<Found>, frames: u64, clock: impl Fn() -> Instant) {
        let now = || Mark { at: clock(), frames };
        if self.pauses != 0 {
            self.learn_away(found, now);
        } else if found.is_some_and(Found::is_little) {
            self.learn_at_once(now);
        }
    }

    /// A look without staying away found little.
    #[inline]
    fn learn_at_once(&mut self, now: impl Fn() -> Mark) {
        if self.hold == Self::SAMPLE {
            self.began = Some(now());
        }
        if self.hold > 0 {
            self.hold -= 1;
            return;
        }
        let now = now();
        self.at_once = self.began.map_or(0.0, |began| began.rate(now));
        self.most = pauses_in(Self::AWAY);
        (self.pauses, self.looks, self.vain, self.began) = (self.most, 0, 0, Some(now));
    }

    /// After a look for which the reader had stayed away.
    #[inline(never)]
    fn learn_away(&mut self, found: Option<Found>, now: impl Fn() -> Mark) {
        self.looks += 1;
        self.vain = if found.is_none_or(Found::is_little) { self.vain + 1 } else { 0 };
        // What a stall of the reader has let come together goes by: the reader stays away for longer again.
        match found.map_or(0, |found| found.behind) {
            behind if behind > Self::PLENTY => self.pauses = (self.pauses / 2).max(1),
            behind if behind < Self::PLENTY / 2 => self.pauses = (2 * self.pauses).min(self.most),
            _ => {}
        }
        let too_large = found.is_some_and(|found| found.bytes > Found::LARGEST);
        let slower = || self.began.is_some_and(|began| began.rate(now()) < self.at_once);
        if too_large || self.vain == Self::VAIN {
            self.look_at_once(self.looks > Self::TRIAL);
        } else if self.looks == Self::TRIAL && slower() {
            self.look_at_once(false);
        } else if self.looks == Self::AGAIN {
            self.look_at_once(true);
        }
    }

    /// Goes back to looking at once; `paid`: staying away did what it is for, so that it is worth another try soon.
    #[cold]
    fn look_at_once(&mut self, paid: bool) {
        self.pauses = 0;
        self.backoff = if paid { Self::HOLD_MIN } else { (2 * self.backoff).min(Self::HOLD_MAX) };
        self.hold = self.backoff;
    }
}

/// How many of the processor's pauses take so long: 5 to 50 ns each.
#[cold]
pub(super) fn pauses_in(time: Duration) -> u32 {
    const SAMPLE: u32 = 64;
    let start = Instant::now();
    for _ in 0..SAMPLE {
        core::hint::spin_loop();
    }
    let sample = start.elapsed().max(Duration::from_nanos(u64::from(SAMPLE)));
    (u128::from(SAMPLE) * time.as_nanos() / sample.as_nanos()).clamp(1, 1000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader whose looks find what a test says, at times that it says.
    struct Looks {
        backoff: PollBackoff,
        frames: u64,
        now: Instant,
    }

    impl Looks {
        fn new() -> Looks {
            Looks { backoff: PollBackoff::new(), frames: 0, now: Instant::now() }
        }
        fn is_away(&self) -> bool {
            self.backoff.pauses > 0
        }
        /// A look that finds `frames` of `bytes` each, `nanoseconds` after the last one.
        fn find(&mut self, bytes: u64, frames: u64, nanoseconds: u64) {
            self.now += Duration::from_nanos(nanoseconds);
            let found = frames.checked_sub(1).map(|behind| Found { bytes, behind: behind * bytes });
            self.backoff.learn(found, self.frames, || self.now);
            self.frames += frames;
        }
    }

    #[test]
    fn a_reader_stays_away_only_where_that_brings_frames_together() {
        // A request, or an answer, at a time: little is found at each look, however long it stays away.
        for bytes in [80, 4112] {
            let mut looks = Looks::new();
            let mut away = 0;
            for _ in 0..100_000 {
                looks.find(bytes, 1, 500);
                away += u32::from(looks.is_away());
            }
            assert!((4..100).contains(&away), "stayed away {away} times of 100,000");
        }
        // Looks that find nothing say nothing.
        let mut looks = Looks::new();
        (0..1000).for_each(|_| looks.find(80, 0, 100));
        assert!(!looks.is_away());
        // Frames that come together are worth it, as long as they do, of whatever size up to 20 KiB.
        for bytes in [80, 1088, 16_448] {
            let mut looks = Looks::new();
            while !looks.is_away() {
                looks.find(bytes, 1, 400);
            }
            for _ in 0..1000 {
                looks.find(bytes, 14, 2400);
                assert!(looks.is_away());
            }
            (0..3).for_each(|_| looks.find(bytes, 3, 2400));
            looks.find(bytes, 14, 2400);
            (0..3).for_each(|_| looks.find(bytes, 0, 2400));
            assert!(looks.is_away(), "three looks that find little are borne");
            looks.find(bytes, 1, 2400);
            assert_eq!((looks.is_away(), looks.backoff.hold), (false, PollBackoff::HOLD_MIN));
        }
        let mut looks = Looks::new();
        (0..1000).for_each(|_| looks.find(64 << 10, 1, 400));
        assert!(!looks.is_away(), "large frames are read at once");
    }

    #[test]
    fn a_reader_that_reads_no_more_for_staying_away_looks_at_once() {
        let mut looks = Looks::new();
        let mut away = 0;
        for _ in 0..1_000_000 {
            // Ten frames in a microsecond, or five if the reader stays away.
            if looks.is_away() {
                looks.find(80, 14, 2400)
            } else {
                looks.find(80, 1, 100)
            }
            away += u32::from(looks.is_away());
        }
        assert!((64..2000).contains(&away), "stayed away {away} times of 1,000,000");
        // Now twenty: it stays away, but makes sure now and then.
        let mut looks = Looks::new();
        let mut at_once = 0;
        for _ in 0..1_000_000 {
            if looks.is_away() {
                looks.find(80, 48, 2400)
            } else {
                looks.find(80, 1, 100)
            }
            at_once += u32::from(!looks.is_away());
        }
        assert!((500..2000).contains(&at_once), "looked at once {at_once} times of 1,000,000");
    }

    #[test]
    fn a_reader_that_was_stopped_for_a_while_stays_away_as_long_as_before() {
        let mut looks = Looks::new();
        while !looks.is_away() {
            looks.find(80, 1, 400);
        }
        let pauses = looks.backoff.pauses;
        // It catches up with what has come meanwhile.
        for frames in [1 << 20, 1 << 16, 1 << 13, 1 << 12] {
            looks.find(80, frames, 20_000_000);
        }
        assert!(looks.backoff.pauses < pauses / 8);
        (0..10).for_each(|_| looks.find(80, 40, 1200));
        assert_eq!(looks.backoff.pauses, pauses);
    }

    #[test]
    fn a_reader_never_stays_away_for_more_than_a_quarter_of_the_window() {
        let mut looks = Looks::new();
        while !looks.is_away() {
            looks.find(4112, 1, 100);
        }
        let pauses = looks.backoff.pauses;
        // As many as come in the time.
        for _ in 0..1000 {
            let frames = u64::from(looks.backoff.pauses) * 400 / u64::from(pauses);
            looks.find(4112, frames.max(4), 2400);
        }
        assert!(
            looks.backoff.pauses <= pauses / 4 && looks.is_away(),
            "{} of {pauses}",
            looks.backoff.pauses
        );
    }
}
