//! The checks of each frame: its size, its bytes, its checksum.

use std::path::Path;

use serde::Serialize;
use twox_hash::XxHash3_64;
use zerobuffer::Frame;

use crate::args::{Pattern, ReaderArgs};
use crate::output::{complain, say, tell};

/// Bytes expected per frame by default.
const DEFAULT_SIZE: usize = 1024;

/// The most wrong frames that are reported one by one.
const TOLD: u64 = 10;

#[derive(Debug, Serialize)]
pub(super) struct Checksums {
    algorithm: &'static str,
    /// Of all frames' bytes one after the other.
    stream: String,
    /// Of each frame, in the order of arrival.
    frames: Vec<String>,
}

impl Checksums {
    /// The algorithm and the checksum of the stream.
    pub(super) fn stream(&self) -> (&str, &str) {
        (self.algorithm, &self.stream)
    }
}

/// The checks of each frame.
pub(super) struct Checks {
    pattern: Option<Pattern>,
    /// `None` for any size.
    size: Option<usize>,
    pub(super) wrong: u64,
    sums: Option<Sums>,
    /// Checksums are printed as they come: `Some(true)` on standard error, as standard output has the data.
    print: Option<bool>,
}

impl Checks {
    pub(super) fn new(args: &ReaderArgs) -> Checks {
        let pattern = args.verify.pattern();
        let size = match args.size {
            None if pattern.is_none() => None,
            None => Some(DEFAULT_SIZE),
            Some(size) => (size > 0).then_some(size),
        };
        let print = (!args.report.json_output).then_some(args.output.as_deref() == Some(Path::new("-")));
        Checks { pattern, size, wrong: 0, sums: args.checksum.then(Sums::default), print }
    }

    /// The checksums, if they were asked for.
    pub(super) fn checksums(self) -> Option<Checksums> {
        self.sums.map(Sums::report)
    }

    pub(super) fn check(&mut self, frame: &Frame) {
        // The first frame of a writer has the number 1.
        let index = frame.sequence().wrapping_sub(1);
        let trouble = match (self.size, self.pattern) {
            (Some(size), _) if size != frame.len() => {
                Some(format!("frame {index} has {} bytes, {size} were expected", frame.len()))
            }
            (_, Some(pattern)) => pattern.mismatch(index, frame).map(|(at, found, expected)| {
                format!("frame {index} is wrong: byte {at} is {found}, {expected} was expected")
            }),
            (_, None) => None,
        };
        if let Some(trouble) = trouble {
            self.wrong += 1;
            if self.wrong <= TOLD {
                complain(&trouble);
            }
            if self.wrong == TOLD {
                complain(&"further wrong frames are only counted");
            }
        }
        if let Some(sums) = &mut self.sums {
            let sum = sums.add(frame, self.print.is_none());
            let line = format_args!("frame {index}: {} bytes, {} {sum:016x}", frame.len(), Sums::ALGORITHM);
            match self.print {
                Some(false) => say(&line),
                Some(true) => tell(&line),
                None => {}
            }
        }
    }
}

#[derive(Default)]
struct Sums {
    stream: XxHash3_64,
    /// For the JSON object; elsewhere they are printed as they come.
    frames: Vec<u64>,
}

impl Sums {
    const ALGORITHM: &'static str = "xxh3-64";

    fn add(&mut self, bytes: &[u8], keep: bool) -> u64 {
        use std::hash::Hasher;
        self.stream.write(bytes);
        let sum = XxHash3_64::oneshot(bytes);
        if keep {
            self.frames.push(sum);
        }
        sum
    }

    fn report(self) -> Checksums {
        use std::hash::Hasher;
        Checksums {
            algorithm: Sums::ALGORITHM,
            stream: format!("{:016x}", self.stream.finish()),
            frames: self.frames.iter().map(|sum| format!("{sum:016x}")).collect(),
        }
    }
}
