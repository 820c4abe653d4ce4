//! `zerobuffer tee`: the frames of one buffer into several others.

use std::fmt::{self, Display};

use serde::Serialize;
use zerobuffer::{Error, ErrorKind, Frame, Reader, Tee, TeeOutput};

use crate::args::TeeArgs;
use crate::arrivals::{Arrivals, tell_of_buffer};
use crate::exit::{self, Failure};
use crate::output::{complain, inform};
use crate::report::{self, Lines, Outcome, Progress, Report, Tally, Volume};
use crate::stop::Stop;
use crate::wait;
use crate::{connect, logger};

use super::{passing, reader};

#[derive(Serialize)]
struct Passed {
    operation: &'static str,
    input_buffer: String,
    frames_read: u64,
    #[serde(flatten)]
    volume: Volume,
    metadata_relayed: bool,
    outputs: Vec<Output>,
    #[serde(flatten)]
    outcome: Outcome,
}

/// What one output got.
#[derive(Serialize)]
struct Output {
    output_buffer: String,
    kind: &'static str,
    frames_shared: u64,
    frames_copied: u64,
    frames_dropped: u64,
    /// Why it ended before the stream did.
    ended: Option<&'static str>,
}

impl Output {
    fn tell(&mut self, output: &TeeOutput) {
        self.frames_shared = output.frames_shared();
        self.frames_copied = output.frames_copied();
        self.frames_dropped = output.frames_dropped();
        self.ended = output.ended().map(ErrorKind::name);
    }
}

impl Report for Passed {
    fn outcome(&mut self) -> &mut Outcome {
        &mut self.outcome
    }
}

impl Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.volume.write(f, "passed on", self.frames_read, "frame")?;
        if self.metadata_relayed {
            write!(f, "; {} bytes of metadata relayed", self.volume.metadata_size)?;
        }
        for output in &self.outputs {
            let Output { output_buffer, frames_shared, frames_copied, frames_dropped, .. } = output;
            write!(f, "; {output_buffer}: {frames_shared} shared, {frames_copied} copied")?;
            if *frames_dropped > 0 {
                write!(f, ", {frames_dropped} dropped")?;
            }
            if let Some(kind) = output.ended {
                write!(f, ", {kind}")?;
            }
        }
        self.outcome.write(f)
    }
}

pub(crate) fn run(args: &TeeArgs) -> u8 {
    logger::install(args.report.verbose);
    let named = |kind| {
        move |name: &String| Output {
            output_buffer: name.clone(),
            kind,
            frames_shared: 0,
            frames_copied: 0,
            frames_dropped: 0,
            ended: None,
        }
    };
    let outputs = args.outputs.iter().map(named("block")).chain(args.drop.iter().map(named("drop")));
    let mut report = Passed {
        operation: "tee",
        input_buffer: args.input.clone(),
        frames_read: 0,
        volume: Volume::default(),
        metadata_relayed: false,
        outputs: outputs.collect(),
        outcome: Outcome::default(),
    };
    let mut tally = Tally::default();
    let result = pass(args, &mut report, &mut tally);
    report.frames_read = tally.frames;
    report.volume.frame_size = tally.largest;
    report.volume.count(&tally);
    report::finish(report, result, args.report, false)
}

fn pass(args: &TeeArgs, report: &mut Passed, tally: &mut Tally) -> Result<(), Failure> {
    let mut names: Vec<&String> = report.outputs.iter().map(|output| &output.output_buffer).collect();
    names.push(&args.input);
    names.sort();
    if names.len() == 1 || names.windows(2).any(|pair| pair[0] == pair[1]) {
        let message = "a tee needs outputs, and no two of its buffers are the same";
        return Err(Failure::new(exit::BAD_ARGUMENTS, message));
    }
    let stop = Stop::install(exit::tee::OUTPUT_ERROR)?;
    let config = reader::ring_config(&args.ring).allow_payload_sharing(!args.copy);
    let input = Reader::create(&args.input, config).map_err(|error| input_failure(&error))?;
    stop.watch(input.interrupt_handle());
    tell_of_buffer(&args.input);
    let limit = (args.frames > 0).then_some(args.frames);
    let mut progress = Progress::new("passing on", limit, args.report, Lines::Every(args.log_interval));
    let mut tee = Tee::new(input);
    for index in 0..report.outputs.len() {
        let name = &report.outputs[index].output_buffer;
        let codes = (exit::tee::OUTPUT_ERROR, exit::BAD_ARGUMENTS);
        let writer = connect::writer(&stop, name, args.timeout_ms, codes, &mut progress)?;
        if index < args.outputs.len() {
            tee.add_block_output(writer);
        } else {
            tee.add_drop_output(writer, args.drop_frames);
        }
    }
    let mut state = State { args, report, failure: None };
    let mut result = state.stream(&mut tee, &stop, tally, &mut progress);
    if result.is_ok() {
        // It may have come after the last frame.
        result = state.pass_metadata(&mut tee);
    }
    let State { report, failure, .. } = state;
    for told in &mut report.outputs {
        let output = tee.outputs().iter().find(|output| output.name() == told.output_buffer);
        output.into_iter().for_each(|output| told.tell(output));
    }
    if let Err(Failure::Error(..)) = result {
        inform(&"the outputs are left as by writers that died, as the stream is incomplete");
        std::mem::forget(tee);
        return result;
    }
    let closed = tee.into_reader().close().map_err(|error| input_failure(&error));
    result.and(closed).and(failure.map_or(Ok(()), Err))
}

struct State<'a> {
    args: &'a TeeArgs,
    report: &'a mut Passed,
    /// A block output has ended before the stream did.
    failure: Option<Failure>,
}

impl State<'_> {
    fn stream(
        &mut self,
        tee: &mut Tee,
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
            let next = wait::wait_for(tee, wait::timeout(args.timeout_ms), Tee::read_frame, |tee| {
                if passed.is_ok() {
                    passed = self.pass_metadata(tee);
                }
                progress.wait(tally, arrivals.awaited());
            });
            passed?;
            let frame = match next {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    return Err(passing::time_out(&args.input, args.timeout_ms, exit::tee::INPUT_ERROR));
                }
                Err(error) if error.kind() == ErrorKind::WriterClosed => {
                    return passing::closed(&args.input, args.frames, tally.frames, exit::tee::INPUT_ERROR);
                }
                Err(error) => return Err(input_failure(&error)),
            };
            tally.start();
            arrivals.frame();
            // The metadata comes before the frame that it may describe.
            self.pass_metadata(tee)?;
            let len = frame.len();
            self.forward(tee, frame)?;
            tally.count(len);
            progress.show(tally);
        }
        Ok(())
    }

    /// Passes a frame on. An output that ends is left out from then on, as long as there is another one.
    fn forward(&mut self, tee: &mut Tee, frame: Frame) -> Result<(), Failure> {
        if let Err(error) = tee.forward(frame) {
            let is_left_out =
                |output: &TeeOutput| output.name() == error.buffer() && output.ended().is_some();
            if !tee.outputs().iter().any(is_left_out) {
                return Err(output_failure(&error));
            }
            if self.failure.is_none() {
                self.failure = Some(output_failure(&error));
            } else {
                complain(&error);
                self.report.outcome.errors.push(error.to_string());
            }
        }
        if tee.outputs().iter().any(|output| output.ended().is_none()) {
            return Ok(());
        }
        Err(Failure::new(exit::tee::OUTPUT_ERROR, "no output is left: each of their readers is gone"))
    }

    /// Passes on the metadata, if it has come and is not passed on yet.
    fn pass_metadata(&mut self, tee: &mut Tee) -> Result<(), Failure> {
        if self.report.metadata_relayed {
            return Ok(());
        }
        let metadata = tee.reader().metadata().map_err(|error| input_failure(&error))?;
        let Some(metadata) = metadata else { return Ok(()) };
        tee.set_metadata(&metadata).map_err(|error| output_failure(&error))?;
        inform(&format_args!("{} bytes of metadata are passed on", metadata.len()));
        self.report.metadata_relayed = true;
        self.report.volume.metadata_size = metadata.len() as u64;
        Ok(())
    }
}

fn input_failure(error: &Error) -> Failure {
    Failure::of(error, exit::tee::INPUT_ERROR, exit::BAD_ARGUMENTS)
}

fn output_failure(error: &Error) -> Failure {
    Failure::of(error, exit::tee::OUTPUT_ERROR, exit::BAD_ARGUMENTS)
}
