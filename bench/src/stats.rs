//! Rates and percentiles.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Length of the windows whose median is the active rate.
const WINDOW: Duration = Duration::from_millis(2);

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
        }
    }

    #[inline]
    pub fn frame(&mut self) {
        self.until_look -= 1;
        if self.until_look == 0 {
            self.until_look = self.stride;
            self.look();
        }
    }

    fn look(&mut self) {
        let now = Instant::now();
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
        let wall_rate = if wall > 0.0 { self.frames as f64 / wall } else { 0.0 };
        Outcome {
            frames: self.frames,
            active_rate: median(&mut self.rates).unwrap_or(wall_rate),
            wall_rate,
            ..Outcome::default()
        }
    }
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
    fn percentiles_are_those_of_the_sorted_samples() {
        let outcome = latencies((1..=1000).rev().map(|us| us * 1000).collect());
        assert_eq!((outcome.p50_us, outcome.p90_us, outcome.max_us), (501.0, 901.0, 1000.0));
        assert_eq!(latencies(vec![]).p50_us, 0.0);
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
    }
}
