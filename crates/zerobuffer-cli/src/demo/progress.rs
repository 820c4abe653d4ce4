//! Progress of a phase of the demo.

use std::time::Duration;

use super::grouped;
use super::picture::FRAME_SIZE;
use crate::output::{clear_progress, has_terminal, show_progress, tell};

/// Characters of the bar.
const BAR: usize = 24;

/// A bar on a terminal, else a line each second.
pub(super) struct Progress {
    terminal: bool,
    last: (Duration, u64),
    seconds: f64,
}

impl Progress {
    pub(super) fn new(seconds: f64) -> Progress {
        Progress { terminal: has_terminal(), last: (Duration::ZERO, 0), seconds }
    }

    pub(super) fn show(&mut self, frames: u64, elapsed: Duration) {
        let (since, before) = self.last;
        let passed = elapsed.saturating_sub(since).as_secs_f64();
        if passed < if self.terminal { 0.1 } else { 1.0 } {
            return;
        }
        let rate = (frames - before) as f64 / passed;
        let volume = rate * FRAME_SIZE as f64 / 1e9;
        self.last = (elapsed, frames);
        let text = format!("{} frames, {rate:.0} frames/s, {volume:.2} GB/s", grouped(frames));
        if self.terminal {
            let share = (elapsed.as_secs_f64() / self.seconds).min(1.0);
            let full = (share * BAR as f64) as usize;
            show_progress(&format_args!("   [{}{}] {text}", "=".repeat(full), " ".repeat(BAR - full)));
        } else {
            tell(&format_args!("   ... {text}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            clear_progress();
        }
    }
}
