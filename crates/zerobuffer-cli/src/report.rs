//! What a command says: the JSON object or the summary at the end, progress meanwhile, errors at any time.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::args::ReportArgs;
use crate::exit::Failure;

/// Prints an error.
pub(crate) fn complain(message: &dyn Display) {
    // With nobody to listen there is nothing to be done about it.
    let _ = writeln!(io::stderr(), "zerobuffer: error: {message}");
}

/// Prints a line on standard output; a closed pipe is no reason to fail.
pub(crate) fn say(line: &dyn Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints `value` as JSON on standard output.
pub(crate) fn say_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(&text),
        Err(error) => complain(&error),
    }
}

/// The object that `--json-output` prints; fields that do not apply are left out.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) operation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) buffer_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) input_buffer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) output_buffer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frames_written: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frames_read: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frames_relayed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) channel_name: Option<String>,
    /// Requests handled, or answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requests: Option<u64>,
    /// Requests that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) request_errors: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) handler: Option<&'static str>,
    /// Threads that call at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) concurrency: Option<usize>,
    /// From a call to its response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency_us: Option<Latency>,
    /// Bytes of data, without headers; of a duplex channel, those of the requests.
    pub(crate) bytes: u64,
    /// Bytes of a frame, as asked for by a writer, or of the largest that came.
    pub(crate) frame_size: u64,
    /// Bytes of metadata written, read or relayed; 0 = none.
    pub(crate) metadata_size: u64,
    pub(crate) duration_seconds: f64,
    /// MiB/s.
    pub(crate) throughput_mbps: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verification_errors: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) checksums: Option<Checksums>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transform: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata_relayed: Option<bool>,
    /// Frames that nobody fetched from an output buffer that the relay had created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frames_lost: Option<u64>,
    pub(crate) interrupted: bool,
    pub(crate) errors: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Checksums {
    pub(crate) algorithm: &'static str,
    /// Of all frames' bytes one after the other.
    pub(crate) stream: String,
    /// Of each frame, in the order of arrival.
    pub(crate) frames: Vec<String>,
}

/// Latencies in microseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    pub(crate) mean: f64,
}

impl Latency {
    /// From single ones in nanoseconds; `None` if there are none.
    pub(crate) fn of(nanoseconds: &mut [u64]) -> Option<Latency> {
        nanoseconds.sort_unstable();
        let last = nanoseconds.len().checked_sub(1)?;
        let at = |share: usize| nanoseconds[last * share / 100] as f64 / 1000.0;
        let sum: f64 = nanoseconds.iter().map(|time| *time as f64).sum();
        let mean = sum / nanoseconds.len() as f64 / 1000.0;
        Some(Latency { p50: at(50), p90: at(90), p99: at(99), max: at(100), mean })
    }
}

/// Counts frames, bytes and the time that they took.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
    pub(crate) largest: u64,
    started: Option<Instant>,
    ended: Option<Instant>,
}

impl Tally {
    /// Starts the clock, unless it runs.
    pub(crate) fn start(&mut self) {
        self.started.get_or_insert_with(Instant::now);
    }

    /// Takes over counts that somebody else keeps.
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

    fn duration(&self) -> Duration {
        match (self.started, self.ended) {
            (Some(started), Some(ended)) => ended.saturating_duration_since(started),
            _ => Duration::ZERO,
        }
    }
}

impl Report {
    /// Enters the counts.
    pub(crate) fn tally(&mut self, tally: &Tally) {
        self.bytes = tally.bytes;
        self.timed(tally.duration());
    }

    /// Enters how long the bytes took.
    pub(crate) fn timed(&mut self, duration: Duration) {
        self.duration_seconds = duration.as_secs_f64();
        self.throughput_mbps = if self.duration_seconds > 0.0 {
            self.bytes as f64 / f64::from(1 << 20) / self.duration_seconds
        } else {
            0.0
        };
    }

    /// Enters how the command ended, prints errors and the summary, and gives the exit code.
    pub(crate) fn finish(mut self, result: Result<(), Failure>, how: ReportArgs, to_stderr: bool) -> u8 {
        let mut code = crate::exit::OK;
        if let Err(failure) = result {
            code = failure.code();
            match failure {
                Failure::Interrupted => self.interrupted = true,
                Failure::Error(_, message) => {
                    complain(&message);
                    self.errors.push(message);
                }
            }
        }
        let text = if how.json_output {
            serde_json::to_string(&self).unwrap_or_else(|error| error.to_string())
        } else {
            self.to_string()
        };
        if to_stderr {
            let _ = writeln!(io::stderr(), "{text}");
        } else {
            say(&text);
        }
        code
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (done, what, count) = match self.operation {
            "write" => ("wrote", "frame", self.frames_written),
            "read" => ("read", "frame", self.frames_read),
            "relay" => ("relayed", "frame", self.frames_relayed),
            "duplex-server" => ("handled", "request", self.requests),
            _ => ("answered:", "request", self.requests),
        };
        let frames = count.unwrap_or_default();
        write!(f, "{done} {frames} {what}{}", if frames == 1 { "" } else { "s" })?;
        write!(f, ", {}, in {:.3} s", Bytes(self.bytes), self.duration_seconds)?;
        if self.duration_seconds > 0.0 {
            let rate = frames as f64 / self.duration_seconds;
            write!(f, ": {:.1} MiB/s, {rate:.0} {what}s/s", self.throughput_mbps)?;
        }
        if let Some(Latency { p50, p90, p99, max, .. }) = self.latency_us {
            write!(f, "; latency p50 {p50:.1} us, p90 {p90:.1}, p99 {p99:.1}, max {max:.1}")?;
        }
        if let Some(errors) = self.request_errors.filter(|errors| *errors > 0) {
            write!(f, "; {errors} requests FAILED")?;
        }
        if let Some(errors) = self.verification_errors.filter(|errors| *errors > 0) {
            write!(f, "; {errors} FAILED verification")?;
        }
        if self.metadata_relayed == Some(true) {
            write!(f, "; {} bytes of metadata relayed", self.metadata_size)?;
        }
        if let Some(lost) = self.frames_lost.filter(|lost| *lost > 0) {
            write!(f, "; {lost} LOST")?;
        }
        if let Some(checksums) = &self.checksums {
            write!(f, "; {} {}", checksums.algorithm, checksums.stream)?;
        }
        if self.interrupted {
            f.write_str("; interrupted")?;
        }
        Ok(())
    }
}

/// A number of bytes for people.
pub(crate) struct Bytes(pub(crate) u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
        let mut unit = units.next().unwrap_or_default();
        while value >= 1024.0
            && let Some(next) = units.next()
        {
            value /= 1024.0;
            unit = next;
        }
        let text = if unit == "B" { format!("{} B", self.0) } else { format!("{value:.1} {unit}") };
        f.pad(&text)
    }
}

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
