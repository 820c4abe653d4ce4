//! Progress while a command runs.

use std::time::{Duration, Instant};

use super::Tally;
use crate::args::ReportArgs;
use crate::output::{Bytes, clear_progress, has_terminal, show_progress, tell};

/// Time between two changes of the line on a terminal.
const REDRAW: Duration = Duration::from_millis(100);

/// Time between two lines elsewhere.
const BETWEEN_LINES: Duration = Duration::from_secs(2);

/// When to print a line, where there is no terminal.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lines {
    /// Every two seconds.
    Timed,
    /// Every so many frames; 0 never.
    Every(u64),
}

/// Live progress on standard error: one line that changes on a terminal, lines otherwise, nothing beside JSON.
pub(crate) struct Progress {
    what: &'static str,
    /// What is counted: "frame" or "request".
    unit: &'static str,
    total: Option<u64>,
    lines: Lines,
    silent: bool,
    terminal: bool,
    last: Instant,
    last_frame: Instant,
    last_bytes: u64,
}

impl Progress {
    pub(crate) fn new(what: &'static str, total: Option<u64>, how: ReportArgs, lines: Lines) -> Progress {
        let now = Instant::now();
        Progress {
            what,
            unit: "frame",
            total,
            lines,
            silent: how.json_output,
            terminal: has_terminal(),
            last: now,
            last_frame: now,
            last_bytes: 0,
        }
    }

    /// Counts requests instead of frames.
    pub(crate) fn of_requests(self) -> Progress {
        Progress { unit: "request", ..self }
    }

    /// Shows how far the command is, if it is time to.
    pub(crate) fn show(&mut self, tally: &Tally) {
        if self.silent {
            return;
        }
        let now = tally.ended.unwrap_or_else(Instant::now);
        self.last_frame = now;
        let passed = now.saturating_duration_since(self.last);
        let due = match self.lines {
            _ if self.terminal => passed >= REDRAW,
            Lines::Timed => passed >= BETWEEN_LINES,
            Lines::Every(count) => count > 0 && tally.frames.is_multiple_of(count),
        };
        if !due {
            return;
        }
        let bytes = tally.bytes.saturating_sub(self.last_bytes) as f64;
        let rate = bytes / f64::from(1 << 20) / passed.as_secs_f64().max(1e-9);
        (self.last, self.last_bytes) = (now, tally.bytes);
        let line = format!("{}, {rate:.1} MiB/s", self.counts(tally));
        if self.terminal { show_progress(&line) } else { tell(&line) }
    }

    /// Shows on a terminal what the command waits for.
    pub(crate) fn wait(&mut self, tally: &Tally, what: &str) {
        let now = Instant::now();
        if self.silent || !self.terminal || now.saturating_duration_since(self.last) < REDRAW {
            return;
        }
        (self.last, self.last_bytes) = (now, tally.bytes);
        let seconds = now.saturating_duration_since(self.last_frame).as_secs();
        let start =
            if tally.frames > 0 { format!("{}, ", self.counts(tally)) } else { format!("{}: ", self.what) };
        show_progress(&format_args!("{start}waiting for {what}, {seconds} s"));
    }

    fn counts(&self, tally: &Tally) -> String {
        let (what, unit, frames) = (self.what, self.unit, tally.frames);
        let of = self.total.map(|total| format!(" of {total}")).unwrap_or_default();
        let plural = if frames == 1 && self.total.is_none() { "" } else { "s" };
        format!("{what}: {frames}{of} {unit}{plural}, {}", Bytes(tally.bytes))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            clear_progress();
        }
    }
}
