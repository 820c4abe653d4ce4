//! Counts of frames and bytes, and the time that they take.

use std::time::{Duration, Instant};

/// Counts frames, bytes and the time that they took.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) largest: u64,
    started: Option<Instant>,
    pub(super) ended: Option<Instant>,
}

impl Tally {
    /// Starts the clock, unless it runs.
    pub(crate) fn start(&mut self) {
        self.started.get_or_insert_with(Instant::now);
    }

    /// Takes over counts that are kept elsewhere.
    pub(crate) fn set(&mut self, frames: u64, bytes: u64) {
        (self.frames, self.bytes) = (frames, bytes);
        self.ended = Some(Instant::now());
    }

    /// Counts a frame that is done with.
    pub(crate) fn count(&mut self, len: usize) {
        self.frames += 1;
        self.bytes += len as u64;
        self.largest = self.largest.max(len as u64);
        self.ended = Some(Instant::now());
    }

    pub(super) fn duration(&self) -> Duration {
        match (self.started, self.ended) {
            (Some(started), Some(ended)) => ended.saturating_duration_since(started),
            _ => Duration::ZERO,
        }
    }
}
