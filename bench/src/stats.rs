//! Rates and percentiles.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Length of the windows whose median is the active rate.
const WINDOW: Duration = Duration::from_millis(2);

/// A longer pause between two looks at the clock is a stall of the machine, where frames are small. Larger ones add a
/// nanosecond a byte, far more than they take.
const STALL: Duration = Duration::from_micros(100);

/// What comes so soon after a stall does not count for the steady rate: the ring drains, or fills.
const RECOVERY: Duration = Duration::from_micros(250);

/// Round trips of a fresh buffer that are shown apart.
const FIRST: usize = 256;

/// What one run measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// Frames that were counted, after the warm-up.
    pub frames: u64,
    /// Median of the rates over windows of 2 ms, in frames a second: the transport's rate without the
    /// machine's pauses.
    pub active_rate: f64,
    /// Frames by time on the wall, pauses of the machine included.
    pub wall_rate: f64,
    /// Frames a second over the stretches without a stall of the machine.
    pub steady_rate: f64,
    /// Share of the time that stalls took, in percent.
    pub stalled_percent: f64,
    /// Share of the windows whose rate was below half of their median, in percent.
    pub slow_percent: f64,
    /// Median of the first round trips, which meet a fresh buffer.
    pub first_us: f64,
    pub p50_us: f64,
    pub p90_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
    /// Processor time of this process from connection to end, in percent of one core.
    pub cpu_percent: f64,
    /// Largest resident memory of this process, shared memory included.
    pub resident_kib: u64,
}

/// Counts frames at the consumer, and reads the clock at every `stride`th.
pub struct Meter {
    stride: u64,
    until_look: u64,
    warm_at: Instant,
    start: Option<Instant>,
    last: Instant,
    frames: u64,
    window_start: Instant,
    window_frames: u64,
    rates: Vec<f64>,
    stall: Duration,
    stalled: Duration,
    /// Nothing before this moment counts for the steady rate.
    steady_at: Instant,
    steady: (u64, Duration),
}

impl Meter {
    /// Starts counting after `warm_up`.
    pub fn new(frame_size: usize, warm_up: Duration) -> Meter {
        let now = Instant::now();
        // A look costs some 20 ns: a third of what the fastest transports need for a small frame.
        let stride = if frame_size <= 4096 { 32 } else { 1 };
        Meter {
            stride,
            until_look: stride,
            warm_at: now + warm_up,
            start: None,
            last: now,
            frames: 0,
            window_start: now,
            window_frames: 0,
            rates: Vec::with_capacity(4096),
            stall: STALL + Duration::from_nanos(frame_size as u64),
            stalled: Duration::ZERO,
            steady_at: now,
            steady: (0, Duration::ZERO),
        }
    }

    #[inline]
    pub fn frame(&mut self) {
        self.until_look -= 1;
        if self.until_look == 0 {
            self.until_look = self.stride;
            self.look_at(Instant::now());
        }
    }

    fn look_at(&mut self, now: Instant) {
        if self.start.is_none() {
            if now >= self.warm_at {
                self.start = Some(now);
                self.window_start = now;
                self.last = now;
            }
            return;
        }
        self.frames += self.stride;
        self.window_frames += self.stride;
        let pause = now - self.last;
        if pause > self.stall {
            self.stalled += pause;
            self.steady_at = now + RECOVERY;
        } else if self.last >= self.steady_at {
            self.steady = (self.steady.0 + self.stride, self.steady.1 + pause);
        }
        self.last = now;
        let length = now - self.window_start;
        if length >= WINDOW {
            self.rates.push(self.window_frames as f64 / length.as_secs_f64());
            self.window_start = now;
            self.window_frames = 0;
        }
    }

    pub fn finish(mut self) -> Outcome {
        let wall = self.start.map_or(0.0, |start| (self.last - start).as_secs_f64());
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let wall_rate = share(self.frames as f64, wall);
        let active_rate = median(&mut self.rates).unwrap_or(wall_rate);
        let slow = self.rates.iter().filter(|&&rate| rate < active_rate / 2.0).count();
        let (frames, time) = self.steady;
        Outcome {
            frames: self.frames,
            active_rate,
            wall_rate,
            steady_rate: if frames > 0 { share(frames as f64, time.as_secs_f64()) } else { active_rate },
            stalled_percent: 100.0 * share(self.stalled.as_secs_f64(), wall),
            slow_percent: 100.0 * share(slow as f64, self.rates.len() as f64),
            ..Outcome::default()
        }
    }
}

/// Median of the first of these latencies, in microseconds.
pub fn first_us(samples: &[u64]) -> f64 {
    let first = &samples[..samples.len().min(FIRST)];
    median(&mut first.iter().map(|&ns| ns as f64 / 1000.0).collect::<Vec<_>>()).unwrap_or_default()
}

/// Latencies of round trips, in nanoseconds.
pub fn latencies(mut samples: Vec<u64>) -> Outcome {
    samples.sort_unstable();
    let at = |quantile: f64| {
        let index = (samples.len() as f64 * quantile) as usize;
        samples.get(index.min(samples.len().saturating_sub(1))).map_or(0.0, |&ns| ns as f64 / 1000.0)
    };
    Outcome {
        frames: samples.len() as u64,
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: at(1.0),
        ..Outcome::default()
    }
}

/// The median; of an even number of values the upper one.
pub fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalls_count_for_the_wall_and_not_for_the_steady_rate() {
        let start = Instant::now();
        let mut meter = Meter::new(1 << 20, Duration::ZERO);
        let mut now = start;
        let mut frame = |after: u64| {
            now += Duration::from_micros(after);
            meter.look_at(now);
        };
        // A frame every 100 us, but for a stall of 20 ms, after which two come at once.
        (0..=100).for_each(|_| frame(100));
        frame(20_000);
        (0..2).for_each(|_| frame(0));
        (0..100).for_each(|_| frame(100));
        let outcome = meter.finish();
        assert!((outcome.steady_rate - 10_000.0).abs() < 1.0, "{outcome:?}");
        assert!((outcome.stalled_percent - 50.0).abs() < 0.5, "{outcome:?}");
        assert!(outcome.wall_rate < 5_200.0 && outcome.active_rate > 9_000.0, "{outcome:?}");
        assert!((0.1..25.0).contains(&outcome.slow_percent), "{outcome:?}");
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_samples() {
        let outcome = latencies((1..=1000).rev().map(|us| us * 1000).collect());
        assert_eq!((outcome.p50_us, outcome.p90_us, outcome.max_us), (501.0, 901.0, 1000.0));
        assert_eq!(latencies(vec![]).p50_us, 0.0);
        assert_eq!((first_us(&[]), first_us(&[&[1000; 256][..], &[9000; 999]].concat())), (0.0, 1.0));
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
    }
}
