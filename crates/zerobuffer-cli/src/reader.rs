//! `zerobuffer reader`: frames out of a buffer, verified, summed up, or written to a file.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use twox_hash::XxHash3_64;
use zerobuffer::{BufferConfig, Error, ErrorKind, Frame, Reader};

use crate::args::{Pattern, ReaderArgs};
use crate::exit::{self, Failure};
use crate::logger;
use crate::report::{Checksums, Lines, Progress, Report, Tally, complain, say};
use crate::sink::Sink;
use crate::stop::Stop;
use crate::wait;

/// Bytes expected per frame by default.
const DEFAULT_SIZE: usize = 1024;

/// Wrong frames that are told of one by one.
const TOLD: u64 = 10;

pub(crate) fn run(args: &ReaderArgs) -> u8 {
    logger::install(args.report.verbose);
    let mut report = Report { operation: "read", buffer_name: Some(args.name.clone()), ..Report::default() };
    let mut checks = Checks::new(args);
    let mut tally = Tally::default();
    let mut result = read(args, &mut report, &mut tally, &mut checks);
    report.frames_read = Some(tally.frames);
    report.frame_size = tally.largest;
    report.verification_errors = Some(checks.wrong);
    report.tally(&tally);
    if result.is_ok() && checks.wrong > 0 {
        let message = format!(
            "buffer `{}`: {} of {} frames are not what was expected: writer and reader need the same pattern and --size",
            args.name, checks.wrong, tally.frames
        );
        result = Err(Failure::new(exit::reader::VERIFICATION_FAILED, message));
    }
    report.checksums = checks.sums.map(Sums::report);
    let data_on_stdout = args.output.as_deref() == Some(Path::new("-"));
    report.finish(result, args.report, data_on_stdout)
}

fn read(
    args: &ReaderArgs,
    report: &mut Report,
    tally: &mut Tally,
    checks: &mut Checks,
) -> Result<(), Failure> {
    let bad = |message: String| Failure::new(exit::BAD_ARGUMENTS, message);
    let stop = Stop::install().map_err(|error| bad(format!("cannot take over the signals: {error}")))?;
    let mut reader =
        Reader::create(&args.name, config(args.buffer_size, args.metadata_size).classic(args.classic))
            .map_err(|error| Failure::of(&error, exit::reader::CANNOT_CREATE, exit::BAD_ARGUMENTS))?;
    stop.watch(reader.interrupt_handle());
    let mut sink = match &args.output {
        Some(path) => {
            Some(Sink::open(path).map_err(|error| bad(format!("--output {}: {error}", path.display())))?)
        }
        None => None,
    };

    let limit = (args.frames > 0).then_some(args.frames);
    let mut progress = Progress::new("reading", limit, args.report, Lines::Timed);
    let result = stream(args, &mut reader, sink.as_mut(), &stop, tally, checks, &mut progress);
    progress.finish();
    if let Ok(Some(metadata)) = reader.metadata() {
        report.metadata_size = metadata.len() as u64;
    }
    // The names go before the last bytes are written: a stalled pipe keeps nobody else waiting.
    let closed = reader.close();
    if let Some(sink) = sink {
        sink.finish(&stop).map_err(|error| output_failure(args, &error))?;
    }
    result?;
    closed.map_err(|error| failure(&error))
}

fn stream(
    args: &ReaderArgs,
    reader: &mut Reader,
    mut sink: Option<&mut Sink>,
    stop: &Stop,
    tally: &mut Tally,
    checks: &mut Checks,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mut held: Vec<Arc<Frame>> = Vec::new();
    while args.frames == 0 || tally.frames < args.frames {
        if stop.requested() {
            return Err(Failure::Interrupted);
        }
        let next = wait::next_frame(reader, wait::timeout(args.timeout_ms), |_| {
            // The writer may be waiting for the very space that is held here.
            held.clear();
        });
        let frame = match next {
            Ok(Some(frame)) => Arc::new(frame),
            Ok(None) if args.keep && !reader.is_writer_connected() => {
                if args.timeout_ms == 0 {
                    stop.sleep(Duration::from_millis(10));
                }
                continue;
            }
            Ok(None) => return Err(time_out(args)),
            Err(error) if ended(&error) => match end_of_writer(args, tally, &error) {
                None => continue,
                Some(result) => return result,
            },
            Err(error) => return Err(failure(&error)),
        };
        tally.start();
        checks.check(&frame);
        if let Some(sink) = &mut sink
            && !sink.put(&frame, stop)
        {
            // Interrupted, or failed; the thread's result tells.
            return if stop.requested() { Err(Failure::Interrupted) } else { Ok(()) };
        }
        tally.count(frame.len());
        held.push(frame);
        if held.len() as u64 >= args.batch_size {
            held.clear();
        }
        progress.show(tally);
    }
    Ok(())
}

fn ended(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WriterClosed | ErrorKind::WriterDead)
}

/// What the end of a writer means: `None` to go on.
fn end_of_writer(args: &ReaderArgs, tally: &Tally, error: &Error) -> Option<Result<(), Failure>> {
    let died = error.kind() == ErrorKind::WriterDead;
    if args.keep {
        if died {
            complain(&format_args!("{error}; waiting for the next writer"));
        }
        return None;
    }
    let code = exit::reader::READ_ERROR;
    let (frames, wanted) = (tally.frames, args.frames);
    Some(match (died, wanted) {
        (true, _) => {
            let message =
                format!("{error} ({frames} frames); start both again, or wait for the next with --keep");
            Err(Failure::new(code, message))
        }
        (false, 0) => Ok(()),
        (false, _) => {
            let message = format!(
                "buffer `{}`: the writer closed after {frames} of {wanted} frames; ask for fewer, or wait for the next \
                 writer with --keep",
                args.name
            );
            Err(Failure::new(code, message))
        }
    })
}

fn time_out(args: &ReaderArgs) -> Failure {
    let message = format!(
        "buffer `{0}`: no frame within {1} ms; start the writer (zerobuffer writer {0}), or wait longer with \
         --timeout-ms (-1: for ever)",
        args.name, args.timeout_ms
    );
    Failure::new(exit::reader::READ_ERROR, message)
}

fn output_failure(args: &ReaderArgs, error: &io::Error) -> Failure {
    let path = args.output.as_deref().unwrap_or(Path::new("-"));
    let message = format!("cannot write to --output {}: {error}", path.display());
    Failure::new(exit::reader::READ_ERROR, message)
}

fn failure(error: &Error) -> Failure {
    Failure::of(error, exit::reader::READ_ERROR, exit::BAD_ARGUMENTS)
}

/// Only what was asked for: a buffer that a relay has kept for us has its sizes already.
pub(crate) fn config(buffer_size: Option<usize>, metadata_size: Option<usize>) -> BufferConfig {
    let mut config = BufferConfig::default();
    if let Some(bytes) = buffer_size {
        config = config.payload_size(bytes);
    }
    if let Some(bytes) = metadata_size {
        config = config.metadata_size(bytes);
    }
    config
}

/// What is looked at in each frame.
struct Checks {
    pattern: Option<Pattern>,
    /// `None` for any size.
    size: Option<usize>,
    wrong: u64,
    sums: Option<Sums>,
    /// Checksums are printed as they come: `Some(true)` on standard error, as standard output has the data.
    print: Option<bool>,
}

impl Checks {
    fn new(args: &ReaderArgs) -> Checks {
        let pattern = args.verify.pattern();
        let size = match args.size {
            None if pattern.is_none() => None,
            None => Some(DEFAULT_SIZE),
            Some(size) => (size > 0).then_some(size),
        };
        let print = (!args.report.json_output).then_some(args.output.as_deref() == Some(Path::new("-")));
        Checks { pattern, size, wrong: 0, sums: args.checksum.then(Sums::default), print }
    }

    fn check(&mut self, frame: &Frame) {
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
            let sum = sums.add(frame);
            let line = format_args!("frame {index}: {} bytes, {} {sum:016x}", frame.len(), Sums::ALGORITHM);
            match self.print {
                Some(false) => say(&line),
                Some(true) => eprintln!("{line}"),
                None => {}
            }
        }
    }
}

#[derive(Default)]
struct Sums {
    stream: XxHash3_64,
    frames: Vec<u64>,
}

impl Sums {
    const ALGORITHM: &'static str = "xxh3-64";

    fn add(&mut self, bytes: &[u8]) -> u64 {
        use std::hash::Hasher;
        self.stream.write(bytes);
        let sum = XxHash3_64::oneshot(bytes);
        self.frames.push(sum);
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
