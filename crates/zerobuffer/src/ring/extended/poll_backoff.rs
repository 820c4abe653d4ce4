//! How often a reader looks.

use std::time::{Duration, Instant};

/// How a reader that is faster than its writer lets small frames come together.
///
/// Each look at the writer's word takes that word's cache line away from the writer, and the lines behind it that are half
/// written: a reader that looks after each frame slows both sides down to a quarter. So a reader that finds little at each
/// look stays away for [`PollBackoff::AWAY`] before the next one. If it finds no more for that (frames come one at a time, or
/// answer its own), it goes back to looking at once, and tries again later and later.
#[derive(Debug)]
pub(crate) struct PollBackoff {
    /// Pauses before each look; 0: none.
    pauses: u32,
    /// Looks that found little until staying away is tried.
    hold: u32,
    /// What `hold` is set to next.
    backoff: u32,
    /// Looks in a row for which staying away paid.
    paid: u32,
}

impl PollBackoff {
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

    pub(crate) fn new() -> PollBackoff {
        PollBackoff { pauses: 0, hold: Self::HOLD_MIN, backoff: Self::HOLD_MIN, paid: 0 }
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
                *self = PollBackoff { pauses: 0, hold: backoff, backoff, paid: 0 };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_stays_away_only_where_that_brings_frames_together() {
        let mut pace = PollBackoff::new();
        // A request, or an answer, at a time: little is found at each look, however long it stays away.
        let mut away = 0;
        for _ in 0..100_000 {
            pace.learn(Some(0));
            away += u32::from(pace.pauses > 0);
            pace.stay_away();
        }
        assert!((1..30).contains(&away), "stayed away {away} times of 100,000");
        // Looks that find nothing say nothing.
        let mut pace = PollBackoff::new();
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
        (0..100).for_each(|_| pace.learn(Some(PollBackoff::PLENTY)));
        assert!(pace.pauses < pauses / 2 + 8, "less of it while plenty is there");
        pace.learn(None);
        assert_eq!((pace.pauses, pace.hold), (0, PollBackoff::HOLD_MIN));
    }
}
