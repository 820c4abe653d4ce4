//! Progress while a command runs.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Tally;
use crate::args::ReportArgs;
use crate::output::Bytes;

/// Time between two looks of people.
const REDRAW: Duration = Duration::from_millis(100);
const LINE: Duration = Duration::from_secs(2);

/// When to print a line, where there is no bar.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lines {
    /// Every two seconds.
    Timed,
    /// Every so many frames; 0 never.
    Every(u64),
}

/// Live progress on standard error: a bar on a terminal, lines otherwise, nothing beside JSON.
pub(crate) struct Progress {
    what: &'static str,
    bar: Option<ProgressBar>,
    lines: Option<Lines>,
    last: Instant,
    last_bytes: u64,
}

impl Progress {
    pub(crate) fn new(what: &'static str, total: Option<u64>, how: ReportArgs, lines: Lines) -> Progress {
        let now = Instant::now();
        let mut progress = Progress { what, bar: None, lines: None, last: now, last_bytes: 0 };
        if how.json_output {
            return progress;
        }
        // Log lines and a bar would get into each other's way.
        if io::stderr().is_terminal() && !how.verbose {
            let bar = match total {
                Some(total) => ProgressBar::new(total)
                    .with_style(style("{prefix} {wide_bar:.cyan/dim} {pos}/{len} {msg} eta {eta}")),
                None => ProgressBar::no_length()
                    .with_style(style("{prefix} {spinner} {pos} frames {msg} {elapsed}")),
            };
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar.set_prefix(what);
            progress.bar = Some(bar);
        } else {
            progress.lines = Some(lines);
        }
        progress
    }

    /// Shows how far it is, if it is time to.
    pub(crate) fn show(&mut self, tally: &Tally) {
        let (interval, counted) = match (&self.bar, self.lines) {
            (Some(_), _) => (REDRAW, false),
            (None, Some(Lines::Timed)) => (LINE, false),
            (None, Some(Lines::Every(0)) | None) => return,
            (None, Some(Lines::Every(count))) => (Duration::ZERO, tally.frames.is_multiple_of(count)),
        };
        let now = tally.ended.unwrap_or_else(Instant::now);
        let passed = now.saturating_duration_since(self.last);
        if !counted && (passed < interval || interval.is_zero()) {
            return;
        }
        let rate =
            (tally.bytes - self.last_bytes) as f64 / f64::from(1 << 20) / passed.as_secs_f64().max(1e-9);
        (self.last, self.last_bytes) = (now, tally.bytes);
        match &self.bar {
            Some(bar) => {
                bar.set_message(format!("{rate:.0} MiB/s"));
                bar.set_position(tally.frames);
            }
            None => {
                let what = self.what;
                let (frames, bytes) = (tally.frames, Bytes(tally.bytes));
                let _ = writeln!(io::stderr(), "{what}: {frames} frames, {bytes}, {rate:.1} MiB/s");
            }
        }
    }

    /// Removes the bar.
    pub(crate) fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
