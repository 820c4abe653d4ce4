//! The summary at the end of a command, and progress until then.
//!
//! Each command has a report type of its own, made of the parts here.

mod progress;
mod tally;

use std::fmt::{self, Display};
use std::time::Duration;

use serde::Serialize;

pub(crate) use progress::{Lines, Progress};
pub(crate) use tally::Tally;

use crate::args::ReportArgs;
use crate::exit::{self, Failure};
use crate::output::{Bytes, complain, inform, say, say_object, tell};

/// The summary of a command: its fields are those of `--json-output`, its text is the line without that option.
pub(crate) trait Report: Serialize + Display {
    fn outcome(&mut self) -> &mut Outcome;
}

/// The data that a command moved, and the time that this took.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Volume {
    /// Bytes of data without headers; of a duplex channel, those of the requests.
    pub(crate) bytes: u64,
    /// Bytes of a frame: as the user of a writer asks for, or of the largest that came.
    pub(crate) frame_size: u64,
    /// Bytes of metadata written, read or relayed; 0 if there is none.
    pub(crate) metadata_size: u64,
    pub(crate) duration_seconds: f64,
    /// MiB/s.
    pub(crate) throughput_mbps: f64,
}

impl Volume {
    /// Enters what was counted.
    pub(crate) fn count(&mut self, tally: &Tally) {
        self.set(tally.bytes, tally.duration());
    }

    /// Enters the bytes and the time that they took.
    pub(crate) fn set(&mut self, bytes: u64, duration: Duration) {
        self.bytes = bytes;
        self.duration_seconds = duration.as_secs_f64();
        self.throughput_mbps = match self.duration_seconds {
            seconds if seconds > 0.0 => bytes as f64 / f64::from(1 << 20) / seconds,
            _ => 0.0,
        };
    }

    /// Writes the first part of a summary, as in "read 2 frames, 2.0 KiB, in 0.100 s: 0.0 MiB/s, 20 frames/s".
    pub(crate) fn write(
        &self,
        f: &mut fmt::Formatter<'_>,
        done: &str,
        count: u64,
        what: &str,
    ) -> fmt::Result {
        write!(f, "{done} {count} {what}{}", if count == 1 { "" } else { "s" })?;
        write!(f, ", {}, in {:.3} s", Bytes(self.bytes), self.duration_seconds)?;
        if self.duration_seconds > 0.0 {
            let rate = count as f64 / self.duration_seconds;
            write!(f, ": {:.1} MiB/s, {rate:.0} {what}s/s", self.throughput_mbps)?;
        }
        Ok(())
    }
}

/// A number of frames, in words.
pub(crate) struct Frames(pub(crate) u64);

impl Display for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frame{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

/// How a command ended.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Outcome {
    pub(crate) interrupted: bool,
    pub(crate) errors: Vec<String>,
}

impl Outcome {
    /// Writes the last part of a summary.
    pub(crate) fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.interrupted { f.write_str("; interrupted") } else { Ok(()) }
    }
}

/// Enters how the command ended, prints errors and the summary, and returns the exit code.
pub(crate) fn finish(
    mut report: impl Report,
    result: Result<(), Failure>,
    how: ReportArgs,
    to_stderr: bool,
) -> u8 {
    let mut code = exit::OK;
    if let Err(failure) = result {
        code = failure.code();
        match failure {
            Failure::Interrupted => {
                report.outcome().interrupted = true;
                inform(&"ended by a signal");
            }
            Failure::Error(_, message) => {
                complain(&message);
                report.outcome().errors.push(message);
            }
        }
    }
    if how.json_output {
        let json = serde_json::to_string(&report).unwrap_or_else(|error| error.to_string());
        say_object(&json, to_stderr);
    } else if to_stderr {
        tell(&report);
    } else {
        say(&report);
    }
    code
}
