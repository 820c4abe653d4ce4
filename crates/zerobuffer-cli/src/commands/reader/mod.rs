//! `zerobuffer reader`: frames out of a buffer, verified, summed up, or written to a file.

mod checks;
mod sink;

use std::fmt::{self, Display};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use zerobuffer::{BufferConfig, Error, ErrorKind, Frame, NumaNode, Reader};

use crate::args::{BufferArgs, ReaderArgs, RingArgs};
use crate::arrivals::{Arrivals, tell_of_buffer};
use crate::exit::{self, Failure};
use crate::output::{complain, inform};
use crate::report::{self, Frames, Lines, Outcome, Progress, Report, Tally, Volume};
use crate::stop::Stop;
use crate::{logger, wait};
use checks::{Checks, Checksums};
use sink::Sink;

#[derive(Serialize)]
struct Read {
    operation: &'static str,
    buffer_name: String,
    frames_read: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    frames_skipped: Option<u64>,
    #[serde(flatten)]
    volume: Volume,
    verification_errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksums: Option<Checksums>,
    #[serde(flatten)]
    outcome: Outcome,
}

impl Report for Read {
    fn outcome(&mut self) -> &mut Outcome {
        &mut self.outcome
    }
}

impl Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.volume.write(f, "read", self.frames_read, "frame")?;
        if let Some(skipped) = self.frames_skipped {
            write!(f, "; {skipped} passed over")?;
        }
        if self.verification_errors > 0 {
            write!(f, "; {} FAILED verification", self.verification_errors)?;
        }
        if let Some((algorithm, sum)) = self.checksums.as_ref().map(Checksums::stream) {
            write!(f, "; {algorithm} {sum}")?;
        }
        self.outcome.write(f)
    }
}

pub(crate) fn run(args: &ReaderArgs) -> u8 {
    logger::install(args.report.verbose);
    let mut volume = Volume::default();
    let mut checks = Checks::new(args);
    let mut tally = Tally::default();
    let mut skipped = 0;
    let mut result = read(args, &mut volume, &mut tally, &mut checks, &mut skipped);
    volume.frame_size = tally.largest;
    volume.count(&tally);
    if result.is_ok() && checks.wrong > 0 {
        let message = format!(
            "buffer `{}`: {} of {} frames are not what was expected: writer and reader need the same pattern and --size",
            args.name, checks.wrong, tally.frames
        );
        result = Err(Failure::new(exit::reader::VERIFICATION_FAILED, message));
    }
    let report = Read {
        operation: "read",
        buffer_name: args.name.clone(),
        frames_read: tally.frames,
        frames_skipped: args.latest.then_some(skipped),
        volume,
        verification_errors: checks.wrong,
        checksums: checks.checksums(),
        outcome: Outcome::default(),
    };
    let data_on_stdout = args.output.as_deref() == Some(Path::new("-"));
    report::finish(report, result, args.report, data_on_stdout)
}

fn read(
    args: &ReaderArgs,
    volume: &mut Volume,
    tally: &mut Tally,
    checks: &mut Checks,
    skipped: &mut u64,
) -> Result<(), Failure> {
    let stop = Stop::install(exit::reader::CANNOT_CREATE)?;
    let mut reader = Reader::create(&args.name, ring_config(&args.ring))
        .map_err(|error| Failure::of(&error, exit::reader::CANNOT_CREATE, exit::BAD_ARGUMENTS))?;
    stop.watch(reader.interrupt_handle());
    tell_of_buffer(&args.name);
    let mut sink = match &args.output {
        Some(path) => Some(Sink::open(path, &stop)?),
        None => None,
    };

    let limit = (args.frames > 0).then_some(args.frames);
    let mut progress = Progress::new("reading", limit, args.report, Lines::Timed);
    let result = stream(args, &mut reader, sink.as_mut(), &stop, tally, checks, &mut progress);
    if let Ok(Some(metadata)) = reader.metadata() {
        volume.metadata_size = metadata.len() as u64;
    }
    *skipped = reader.frames_skipped();
    // The buffer is removed before the last bytes are written, so that no writer waits for a stalled pipe.
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
    let mut arrivals = Arrivals::new(&args.name);
    while args.frames == 0 || tally.frames < args.frames {
        if stop.requested() {
            return Err(Failure::Interrupted);
        }
        let idle = |_: &mut Reader| {
            // The writer may be waiting for the space that is held here.
            held.clear();
            progress.wait(tally, arrivals.awaited());
        };
        let next = match args.latest {
            true => wait::latest_frame(reader, wait::timeout(args.timeout_ms), idle),
            false => wait::next_frame(reader, wait::timeout(args.timeout_ms), idle),
        };
        let frame = match next {
            Ok(Some(frame)) => Arc::new(frame),
            Ok(None) if args.keep && !reader.is_writer_connected() => {
                if args.timeout_ms == 0 {
                    stop.sleep(Duration::from_millis(10));
                }
                continue;
            }
            Ok(None) => return Err(time_out(args)),
            Err(error) if ended(&error) => {
                arrivals.end();
                match end_of_writer(args, tally, &error) {
                    None => continue,
                    Some(result) => return result,
                }
            }
            Err(error) => return Err(failure(&error)),
        };
        tally.start();
        arrivals.frame();
        checks.check(&frame);
        if let Some(sink) = &mut sink
            && !sink.put(&frame, stop)
        {
            // Interrupted or failed: the thread's result says which.
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

/// The result at the end of a writer; `None` to continue.
fn end_of_writer(args: &ReaderArgs, tally: &Tally, error: &Error) -> Option<Result<(), Failure>> {
    let died = error.kind() == ErrorKind::WriterDead;
    if !died {
        inform(&format_args!("buffer `{}`: the writer closed; {} so far", args.name, Frames(tally.frames)));
    }
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
         --timeout-ms (-1: without limit)",
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

/// Contains only the sizes that were given: a buffer that a relay has kept for this reader has its sizes
/// already.
pub(crate) fn ring_config(args: &RingArgs) -> BufferConfig {
    let config = buffer_config(&args.buffer, args.mode).classic(args.classic).huge_pages(args.huge_pages);
    let mut config = config.allow_payload_sharing(true);
    if let Some(node) = args.numa_node {
        config = config.numa_node(u32::try_from(node).map_or(NumaNode::OfReader, NumaNode::Number));
    }
    if let Some(bytes) = args.metadata_size {
        config = config.metadata_size(bytes);
    }
    config
}

pub(crate) fn buffer_config(args: &BufferArgs, mode: Option<u32>) -> BufferConfig {
    let mut config = BufferConfig::default().preallocate(args.preallocate);
    if let Some(bytes) = args.buffer_size {
        config = config.payload_size(bytes);
    }
    if let Some(mode) = mode {
        config = config.mode(mode);
    }
    config
}
