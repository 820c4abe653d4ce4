//! `zerobuffer relay`: frames from one buffer to another, without a copy where it can, else straight from ring to ring.

use std::fmt::{self, Display};
use std::time::Duration;

use serde::Serialize;
use zerobuffer::{BufferConfig, Error, ErrorKind, Forwarded, Frame, KeptBuffer, Reader, Writer, inspect};

use crate::args::{RelayArgs, Transform};
use crate::arrivals::{Arrivals, tell_of_buffer};
use crate::exit::{self, Failure};
use crate::output::{complain, inform};
use crate::report::{self, Lines, Outcome, Progress, Report, Tally, Volume};
use crate::stop::Stop;
use crate::wait::{self, Deadline};
use crate::{connect, logger};

use super::{passing, reader};

/// Pause between two looks at whether a created output has found its reader.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Serialize)]
struct Relayed {
    operation: &'static str,
    input_buffer: String,
    output_buffer: String,
    frames_relayed: u64,
    #[serde(flatten)]
    volume: Volume,
    transform: &'static str,
    metadata_relayed: bool,
    /// Frames that OUT's reader looks at in IN.
    frames_shared: u64,
    frames_copied: u64,
    /// Frames that no reader fetched from an output that the relay created.
    #[serde(skip_serializing_if = "Option::is_none")]
    frames_lost: Option<u64>,
    #[serde(flatten)]
    outcome: Outcome,
}

impl Report for Relayed {
    fn outcome(&mut self) -> &mut Outcome {
        &mut self.outcome
    }
}

impl Display for Relayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.volume.write(f, "relayed", self.frames_relayed, "frame")?;
        if self.metadata_relayed {
            write!(f, "; {} bytes of metadata relayed", self.volume.metadata_size)?;
        }
        if self.frames_shared > 0 {
            write!(f, "; {} shared, {} copied", self.frames_shared, self.frames_copied)?;
        }
        if let Some(lost) = self.frames_lost.filter(|lost| *lost > 0) {
            write!(f, "; {lost} LOST")?;
        }
        self.outcome.write(f)
    }
}

pub(crate) fn run(args: &RelayArgs) -> u8 {
    logger::install(args.report.verbose);
    let mut report = Relayed {
        operation: "relay",
        input_buffer: args.input.clone(),
        output_buffer: args.output.clone(),
        frames_relayed: 0,
        volume: Volume::default(),
        transform: args.transform.name(),
        metadata_relayed: false,
        frames_shared: 0,
        frames_copied: 0,
        frames_lost: None,
        outcome: Outcome::default(),
    };
    let mut tally = Tally::default();
    let result = relay(args, &mut report, &mut tally);
    report.frames_relayed = tally.frames;
    report.frames_copied = tally.frames - report.frames_shared;
    report.volume.frame_size = tally.largest;
    report.volume.count(&tally);
    report::finish(report, result, args.report, false)
}

fn relay(args: &RelayArgs, report: &mut Relayed, tally: &mut Tally) -> Result<(), Failure> {
    if args.input == args.output {
        let message = "IN and OUT are the same buffer: a relay needs two";
        return Err(Failure::new(exit::relay::BAD_ARGUMENTS, message));
    }
    let stop = Stop::install(exit::relay::RELAY_ERROR)?;
    let mut input = Reader::create(&args.input, ring_config(args)).map_err(|error| input_failure(&error))?;
    stop.watch(input.interrupt_handle());
    tell_of_buffer(&args.input);
    let mut kept = if args.create_output { Some(create_output(args)?) } else { None };
    let limit = (args.frames > 0).then_some(args.frames);
    let mut progress = Progress::new("relaying", limit, args.report, Lines::Every(args.log_interval));
    let codes = (exit::relay::OUTPUT_ERROR, exit::relay::BAD_ARGUMENTS);
    let mut output = connect::writer(&stop, &args.output, args.timeout_ms, codes, &mut progress)?;

    let mut state = Relay { args, metadata: Metadata::Awaited, report };
    let mut result = state.stream(&mut input, &mut output, &stop, tally, &mut progress);
    if result.is_ok() {
        // It may have come after the last frame.
        result = state.pass_metadata(&input, &mut output);
    }
    let closed = input.close().map_err(|error| input_failure(&error));
    let output_closed = end_output(args, output, &result);
    if let Some(kept) = kept.take() {
        let handed_over = hand_over(args, kept, &stop, tally, report);
        result = result.and(handed_over);
    }
    result.and(closed).and(output_closed)
}

/// Closes the output after a complete stream. After an incomplete stream it leaves the writer open: the
/// writer ends with the process, so that the reader reports a dead writer.
fn end_output(args: &RelayArgs, output: Writer, result: &Result<(), Failure>) -> Result<(), Failure> {
    if let Err(Failure::Error(..)) = result {
        inform(&format_args!(
            "buffer `{}`: left as by a writer that died, as the stream is incomplete",
            args.output
        ));
        std::mem::forget(output);
        return Ok(());
    }
    output.close().map_err(|error| output_failure(&error))
}

fn create_output(args: &RelayArgs) -> Result<KeptBuffer, Failure> {
    // The metadata block is as large as the input's, so that the input's metadata fits.
    let metadata_size = inspect::snapshot(&args.input).map_err(|error| input_failure(&error))?.metadata_size;
    let config = ring_config(args).metadata_size(metadata_size as usize);
    KeptBuffer::create(&args.output, config).map_err(|error| output_failure(&error))
}

fn ring_config(args: &RelayArgs) -> BufferConfig {
    reader::ring_config(&args.ring).allow_payload_sharing(!args.copy)
}

/// Waits for a reader to take over the output that the relay created, then gives the output up.
fn hand_over(
    args: &RelayArgs,
    mut kept: KeptBuffer,
    stop: &Stop,
    tally: &Tally,
    report: &mut Relayed,
) -> Result<(), Failure> {
    let deadline = Deadline::after(wait::timeout(args.timeout_ms));
    let mut waited = !stop.requested();
    while tally.frames > 0 && waited && !kept.is_adopted() && !deadline.is_over() {
        waited = stop.sleep(LOOK);
    }
    let adopted = kept.close().map_err(|error| output_failure(&error))?;
    report.frames_lost = Some(if adopted { 0 } else { tally.frames });
    if adopted || tally.frames == 0 {
        return if waited { Ok(()) } else { Err(Failure::Interrupted) };
    }
    let message = format!(
        "buffer `{}`: no reader took it over, so {} frames are lost; start the reader earlier, or wait longer for it \
         with --timeout-ms",
        args.output, tally.frames
    );
    if !waited {
        // The exit code says "interrupted"; the loss is reported all the same.
        complain(&message);
        report.outcome.errors.push(message);
        return Err(Failure::Interrupted);
    }
    Err(Failure::new(exit::relay::RELAY_ERROR, message))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Metadata {
    Awaited,
    Passed,
}

struct Relay<'a> {
    args: &'a RelayArgs,
    metadata: Metadata,
    report: &'a mut Relayed,
}

impl Relay<'_> {
    fn stream(
        &mut self,
        input: &mut Reader,
        output: &mut Writer,
        stop: &Stop,
        tally: &mut Tally,
        progress: &mut Progress,
    ) -> Result<(), Failure> {
        let args = self.args;
        let mut arrivals = Arrivals::new(&args.input);
        while args.frames == 0 || tally.frames < args.frames {
            if stop.requested() {
                return Err(Failure::Interrupted);
            }
            let mut passed = Ok(());
            let next = wait::next_frame(input, wait::timeout(args.timeout_ms), |input| {
                if passed.is_ok() {
                    passed = self.pass_metadata(input, output);
                }
                progress.wait(tally, arrivals.awaited());
            });
            passed?;
            let frame = match next {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    return Err(passing::time_out(&args.input, args.timeout_ms, exit::relay::INPUT_ERROR));
                }
                Err(error) if error.kind() == ErrorKind::WriterClosed => {
                    return passing::closed(&args.input, args.frames, tally.frames, exit::relay::INPUT_ERROR);
                }
                Err(error) => return Err(input_failure(&error)),
            };
            tally.start();
            arrivals.frame();
            // The metadata comes before the frame that it may describe.
            self.pass_metadata(input, output)?;
            let len = frame.len();
            let forwarded = self.pass(frame, output).map_err(|error| output_failure(&error))?;
            tally.count(len);
            self.report.frames_shared += u64::from(forwarded == Forwarded::Shared);
            progress.show(tally);
        }
        Ok(())
    }

    /// Transforms a frame where it is, and passes it on.
    fn pass(&self, mut frame: Frame, output: &mut Writer) -> zerobuffer::Result<Forwarded> {
        if self.args.transform != Transform::None {
            if let Some(bytes) = frame.make_mut() {
                self.change(bytes);
            } else {
                // The bytes are another relay's: a copy is transformed.
                let mut target = output.acquire_frame(frame.len())?;
                target.copy_from_slice(&frame);
                self.change(&mut target);
                return target.commit().map(|_| Forwarded::Copied);
            }
        }
        output.forward(frame).map_err(|(error, _)| error)
    }

    fn change(&self, bytes: &mut [u8]) {
        match self.args.transform {
            Transform::None => {}
            Transform::Reverse => bytes.reverse(),
            Transform::Xor => bytes.iter_mut().for_each(|byte| *byte ^= self.args.xor_key),
        }
    }

    /// Passes on the metadata, if it has come and is not passed on yet.
    fn pass_metadata(&mut self, input: &Reader, output: &mut Writer) -> Result<(), Failure> {
        if self.metadata == Metadata::Passed {
            return Ok(());
        }
        let Some(metadata) = input.metadata().map_err(|error| input_failure(&error))? else { return Ok(()) };
        output
            .set_metadata(&metadata)
            .map_err(|error| Failure::of(&error, exit::relay::RELAY_ERROR, exit::relay::BAD_ARGUMENTS))?;
        self.metadata = Metadata::Passed;
        inform(&format_args!(
            "buffer `{}`: {} bytes of metadata are passed on",
            self.args.output,
            metadata.len()
        ));
        self.report.metadata_relayed = true;
        self.report.volume.metadata_size = metadata.len() as u64;
        Ok(())
    }
}

fn input_failure(error: &Error) -> Failure {
    Failure::of(error, exit::relay::INPUT_ERROR, exit::relay::BAD_ARGUMENTS)
}

fn output_failure(error: &Error) -> Failure {
    Failure::of(error, exit::relay::OUTPUT_ERROR, exit::relay::BAD_ARGUMENTS)
}
