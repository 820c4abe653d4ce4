//! Sleeps by the clock beside a busy 1.x reader.

use std::time::Duration;

/// How long a writer sleeps when the ring of a 1.x reader is full.
///
/// A 1.x reader posts at each release. A writer that sleeps on the semaphore is woken by the first post, fills the little
/// space it was told of and sleeps again, so that the reader pays for a wake-up at each frame (15 us; a post without a sleeper:
/// 20 ns). So beside a reader that is busy the writer sleeps by the clock instead. A frame arrives no later for that, as
/// long as the reader does not run out of frames: a timed sleep is to free between an eighth and a quarter of the ring.
#[derive(Debug)]
pub(crate) struct TimedSleep {
    length: Duration,
}

impl TimedSleep {
    /// A longer sleep would spare next to nothing, and is how late the end of the wait is noticed (an interrupt).
    const MAX: Duration = Duration::from_micros(1 << 10);
    /// The kernel ends a sleep some 50 us late. A ring that is read faster than this is no case for timed sleeps.
    const MIN: Duration = Duration::from_micros(1 << 6);
    /// Below `MIN`, so that it takes some waits on the semaphore to get there: timed sleeps are rarely tried where they do
    /// not pay.
    const FIRST: Duration = Duration::from_micros(1);

    pub(crate) fn new() -> TimedSleep {
        TimedSleep { length: Self::FIRST }
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
    fn timed_sleeps_follow_what_they_free() {
        let mut sleep = TimedSleep::new();
        // A ring of one frame: all of it is free after each wait.
        for _ in 0..10 {
            sleep.learn(100, 100);
            assert_eq!(sleep.length(), None);
        }
        for _ in 0..20 {
            sleep.learn(1, 100);
        }
        assert_eq!(sleep.length(), Some(TimedSleep::MAX));
        sleep.learn(26, 100);
        let length = sleep.length().unwrap();
        assert_eq!(length, TimedSleep::MAX / 2);
        // That is a good length.
        for free in [12, 20, 25] {
            sleep.learn(free, 100);
            assert_eq!(sleep.length(), Some(length));
        }
        for _ in 0..20 {
            sleep.learn(100, 100);
        }
        assert_eq!(sleep.length(), None);
    }
}
