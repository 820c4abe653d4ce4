//! `zerobuffer writer`: a pattern, or real data, into a buffer.

mod source;

use std::fmt::{self, Display};
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use zerobuffer::{Error, Writer, inspect};

use crate::args::WriterArgs;
use crate::exit::{self, Failure};
use crate::output::inform;
use crate::report::{self, Frames, Lines, Outcome, Progress, Report, Tally, Volume};
use crate::stop::Stop;
use crate::{connect, logger, open};
use source::Source;

#[derive(Serialize)]
struct Written {
    operation: &'static str,
    buffer_name: String,
    frames_written: u64,
    #[serde(flatten)]
    volume: Volume,
    #[serde(flatten)]
    outcome: Outcome,
}

impl Report for Written {
    fn outcome(&mut self) -> &mut Outcome {
        &mut self.outcome
    }
}

impl Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.volume.write(f, "wrote", self.frames_written, "frame")?;
        self.outcome.write(f)
    }
}

/// Frames by default, of a pattern.
const DEFAULT_FRAMES: u64 = 1000;

pub(crate) fn run(args: &WriterArgs) -> u8 {
    logger::install(args.report.verbose);
    let mut report = Written {
        operation: "write",
        buffer_name: args.name.clone(),
        frames_written: 0,
        volume: Volume { frame_size: args.size as u64, ..Volume::default() },
        outcome: Outcome::default(),
    };
    let mut tally = Tally::default();
    let result = write(args, &mut report.volume, &mut tally);
    report.frames_written = tally.frames;
    report.volume.count(&tally);
    report::finish(report, result, args.report, false)
}

fn write(args: &WriterArgs, volume: &mut Volume, tally: &mut Tally) -> Result<(), Failure> {
    let code = exit::writer::WRITE_ERROR;
    let open = |option: &str, path: &Path| {
        open::input(path)
            .map_err(|error| Failure::of_file(&format!("{option} {}", path.display()), &error, code))
    };
    // A file that cannot be read is an error before any wait.
    let metadata_file = match &args.metadata_file {
        Some(path) => Some((path, open("--metadata-file", path)?)),
        None => None,
    };
    let mut source = match &args.input {
        Some(path) => Some(Source::new(open("--input", path)?, path)),
        None => None,
    };
    let limit = match (args.frames, &source) {
        (Some(0), _) | (None, Some(_)) => None,
        (Some(frames), _) => Some(frames),
        (None, None) => Some(DEFAULT_FRAMES),
    };

    let stop = Stop::install(exit::writer::CANNOT_CONNECT)?;
    let codes = (exit::writer::CANNOT_CONNECT, exit::BAD_ARGUMENTS);
    let mut progress = Progress::new("writing", limit, args.report, Lines::Timed);
    let mut writer = connect::writer(&stop, &args.name, args.timeout_ms, codes, &mut progress)?;
    let metadata = match (&args.metadata, metadata_file) {
        (Some(text), _) => Some(text.clone().into_bytes()),
        (None, Some((path, file))) => Some(read_metadata(&args.name, path, &file, &stop)?),
        (None, None) => None,
    };
    if let Some(metadata) = metadata {
        writer.set_metadata(&metadata).map_err(failure)?;
        volume.metadata_size = metadata.len() as u64;
        inform(&format_args!("buffer `{}`: {} bytes of metadata are set", args.name, metadata.len()));
    }

    tally.start();
    let result = stream(args, &mut writer, source.as_mut(), limit, &stop, tally, &mut progress);
    writer.close().map_err(failure)?;
    inform(&format_args!("buffer `{}`: closed after {}", args.name, Frames(tally.frames)));
    result
}

/// The metadata in a file. Reads at most one byte more than is allowed.
fn read_metadata(name: &str, path: &Path, file: &File, stop: &Stop) -> Result<Vec<u8>, Failure> {
    let most = inspect::snapshot(name).map_err(failure)?.metadata_size + 1;
    let metadata = open::read_all(file, most, stop).map_err(|error| {
        Failure::of_file(&format!("--metadata-file {}", path.display()), &error, exit::writer::WRITE_ERROR)
    })?;
    if stop.requested() { Err(Failure::Interrupted) } else { Ok(metadata) }
}

fn stream(
    args: &WriterArgs,
    writer: &mut Writer,
    mut source: Option<&mut Source>,
    limit: Option<u64>,
    stop: &Stop,
    tally: &mut Tally,
    progress: &mut Progress,
) -> Result<(), Failure> {
    while limit.is_none_or(|limit| tally.frames < limit) {
        if stop.requested() {
            return Err(Failure::Interrupted);
        }
        let len = match &mut source {
            None => {
                let mut frame = writer.acquire_frame(args.size).map_err(failure)?;
                args.pattern.fill(tally.frames, &mut frame);
                frame.commit().map_err(failure)?;
                args.size
            }
            Some(source) => {
                if !source.has_more(writer, stop, args.size)? {
                    return Ok(());
                }
                writer.acquire_frame_buffer(args.size).map_err(failure)?;
                let len = source.fill(writer, stop, args.size)?;
                writer.commit_frame(Some(len)).map_err(failure)?;
                len
            }
        };
        tally.count(len);
        progress.show(tally);
        let pause = args.delay_ms > 0 && tally.frames.is_multiple_of(args.batch_size);
        if pause && limit != Some(tally.frames) {
            stop.sleep(Duration::from_millis(args.delay_ms));
        }
    }
    Ok(())
}

fn failure(error: Error) -> Failure {
    Failure::of(&error, exit::writer::WRITE_ERROR, exit::BAD_ARGUMENTS)
}
