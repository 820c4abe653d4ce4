//! Yields during a spin: the side that is waited for may share the processor.

use std::time::{Duration, Instant};

/// When a spin yields the processor.
///
/// Where both sides share a processor, a spin keeps the other side from doing what is waited for, to the end of the spin. A yield costs
/// 0.3 us where no other thread wants the processor, which makes a call of 64 KiB slower by a fifth: so a spin yields only when it has
/// taken long, or if another thread has run during the last yield. Where a thread wants the processor that never sleeps, a yield costs a
/// time slice of that thread. So after a yield that took long there is none for a while.
#[derive(Debug)]
pub(crate) struct Yields {
    /// Another thread has run during the last one.
    is_shared: bool,
    /// There is none before this time.
    next: Option<Instant>,
    /// For how long there is none after the next one that takes long.
    pause: Duration,
}

impl Yields {
    /// So long a spin goes on without one, unless the processor is shared.
    const PATIENCE: Duration = Duration::from_micros(20);
    /// Another side of a buffer has usually done its work by then; a time slice of Linux takes 0.7 ms or more.
    const LONG: Duration = Duration::from_micros(500);
    /// After a yield that took less than this, no other thread has run.
    const SHORT: Duration = Duration::from_micros(3);
    /// At first; then twice as long each time. So slices given away take 6 % of the time at first, and 0.3 % in the end.
    const PAUSE: Duration = Duration::from_millis(50);
    const PAUSE_MAX: Duration = Duration::from_secs(1);

    pub(crate) fn new() -> Yields {
        Yields { is_shared: false, next: None, pause: Self::PAUSE }
    }

    /// Yields at `now`, after a spin of `spent`, if that is worth while.
    pub(crate) fn turn(&mut self, now: Instant, spent: Duration) {
        if self.is_due(now, spent) {
            std::thread::yield_now();
            self.learn(now, Instant::now());
        }
    }

    fn is_due(&self, now: Instant, spent: Duration) -> bool {
        (self.is_shared || spent >= Self::PATIENCE) && self.next.is_none_or(|next| now >= next)
    }

    /// Takes note of a yield that began at `from` and was over at `to`.
    fn learn(&mut self, from: Instant, to: Instant) {
        let took = to.saturating_duration_since(from);
        self.is_shared = took >= Self::SHORT;
        if took >= Self::LONG {
            self.next = Some(to + self.pause);
            self.pause = (2 * self.pause).min(Self::PAUSE_MAX);
        } else if self.is_shared {
            self.pause = Self::PAUSE;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::WaitStrategy;
    use crate::os::pin_thread;
    use crate::sync::{AtomicBool, AtomicU64, Ordering};
    use crate::wait::Spin;

    #[test]
    fn after_a_yield_that_took_long_there_is_none_for_a_while() {
        let start = Instant::now();
        let after = |time: Duration| start + time;
        let mut yields = Yields::new();
        yields.learn(start, after(Yields::LONG - Duration::from_nanos(1)));
        let is_due = |yields: &Yields, now| yields.is_due(now, Duration::ZERO);
        assert!(is_due(&yields, start), "the other side ran");
        let mut pause = Yields::PAUSE;
        for _ in 0..10 {
            let back = after(Yields::LONG);
            yields.learn(start, back);
            assert!(
                !is_due(&yields, back + pause - Duration::from_nanos(1)) && is_due(&yields, back + pause)
            );
            pause = (2 * pause).min(Yields::PAUSE_MAX);
        }
        yields.learn(start, after(Yields::SHORT - Duration::from_nanos(1)));
        yields.learn(start, after(Yields::LONG));
        assert!(!is_due(&yields, after(Yields::LONG + Yields::PAUSE)), "nothing ran, which tells nothing");
        yields.learn(start, after(Yields::SHORT));
        yields.learn(start, after(Yields::LONG));
        assert!(is_due(&yields, after(Yields::LONG + Yields::PAUSE)), "others had come back soon again");
    }

    #[test]
    fn a_short_spin_yields_only_where_the_processor_is_shared() {
        let start = Instant::now();
        let mut yields = Yields::new();
        let short = Yields::PATIENCE - Duration::from_nanos(1);
        for (took, is_shared) in [(Yields::SHORT, true), (Yields::SHORT - Duration::from_nanos(1), false)] {
            yields.learn(start, start + took);
            assert_eq!(yields.is_due(start, short), is_shared);
            assert!(yields.is_due(start, Yields::PATIENCE));
        }
    }

    /// Without yields the other side runs when the spin is over.
    #[test]
    fn a_spin_ends_with_what_another_thread_of_the_processor_does() {
        const ROUNDS: usize = 20;
        // Rounds that were begun, that the other thread has answered, and whether it is to end.
        let (begun, answered, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pin_thread(0);
                while !over.load(Ordering::Acquire) {
                    // It is never woken, as a thread that wakes up takes the processor.
                    std::thread::yield_now();
                    answered.store(begun.load(Ordering::Acquire), Ordering::Release);
                }
            });
            pin_thread(0);
            let start = Instant::now();
            let mut seen = 0;
            // Other programs may want this processor for a while.
            while seen <= ROUNDS / 2 && start.elapsed() < Duration::from_secs(30) {
                seen = 0;
                for _ in 0..ROUNDS {
                    let mut spin = Spin::new(WaitStrategy::Adaptive);
                    spin.moved(u64::MAX);
                    let round = begun.fetch_add(1, Ordering::AcqRel) + 1;
                    let is_answered = || answered.load(Ordering::Acquire) == round;
                    seen += usize::from(spin.until(None, is_answered));
                    while !is_answered() {
                        std::thread::yield_now();
                    }
                }
            }
            over.store(true, Ordering::Release);
            assert!(seen > ROUNDS / 2, "only {seen} of {ROUNDS} spins ended with what they waited for");
        });
    }
}
