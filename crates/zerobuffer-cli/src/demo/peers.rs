//! The processes of the demo.

use std::io::Read;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use zerobuffer::{BufferConfig, ErrorKind, Reader, Result, Writer, WriterOptions};

use super::picture::{FRAME_SIZE, Loop, Picture, Stamp};
use super::pipeline::{self, LONG_LOOK, Passed, Seen};
use super::sheet::Sheet;
use crate::args::DemoPeerArgs;
use crate::output::say_text;
use crate::stop::Stop;

pub(crate) const FRAMES_PER_SECOND: u32 = 60;
/// The ring has room for so many frames: 25 MB, which fits even the /dev/shm of a container with default settings.
pub(super) const RING_FRAMES: usize = 8;
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const PROGRESS: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Writer,
    Reader,
    /// Of the pipeline, from here on.
    Camera,
    Tee,
    Viewer,
    SlowViewer,
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Writer => "writer",
            Role::Reader => "reader",
            Role::Camera => "camera",
            Role::Tee => "tee",
            Role::Viewer => "viewer",
            Role::SlowViewer => "slow-viewer",
        }
    }
}

/// A message of a peer to the demo.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Note {
    /// The buffer exists.
    Ready,
    Progress {
        frames: u64,
    },
    End(End),
    /// A writer's end: what it sent, and how often it waited for space.
    Sent {
        frames: u64,
        waits: u64,
    },
    Passed(Passed),
    Seen(Seen),
    Failed {
        message: String,
    },
}

/// A reader's results. Times are in nanoseconds, unless named otherwise.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct End {
    pub(crate) frames: u64,
    pub(crate) wrong: u64,
    /// From the first frame to the last.
    pub(crate) seconds: f64,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) writer_died: bool,
    /// When it learned of the writer's end, on CLOCK_MONOTONIC.
    pub(crate) ended_at: u64,
}

/// The content to send: drawn for each frame, or from a loop when flat out.
enum Film {
    Drawn(Box<Picture>),
    Looped(Loop),
}

impl Film {
    fn new(flat_out: bool) -> Film {
        let picture = Picture::new();
        if flat_out { Film::Looped(Loop::new(&picture)) } else { Film::Drawn(Box::new(picture)) }
    }

    fn draw(&self, index: u64, frame: &mut [u8]) {
        match self {
            Film::Drawn(picture) => picture.draw(index, frame),
            Film::Looped(frames) => frames.draw(index, frame),
        }
    }

    fn matches(&self, index: u64, frame: &[u8]) -> bool {
        match self {
            Film::Drawn(picture) => picture.matches(index, frame),
            Film::Looped(frames) => frames.matches(index, frame),
        }
    }
}

/// CLOCK_MONOTONIC, which is equal for all processes.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

pub(super) fn note(note: &Note) {
    if let Ok(line) = serde_json::to_string(note) {
        say_text(format!("{line}\n").as_bytes());
    }
}

pub(crate) fn run_peer(args: &DemoPeerArgs) -> u8 {
    let result = Stop::install(1).map_err(|failure| failure.to_string()).and_then(|stop| {
        end_with_parent(&stop);
        match args.role {
            Role::Writer => write(&args.name, args, &stop).map_err(|error| error.to_string()),
            Role::Reader => read(args, &stop),
            Role::Camera => {
                write(&pipeline::camera(&args.name), args, &stop).map_err(|error| error.to_string())
            }
            Role::Tee => pipeline::pass_on(&args.name, &stop),
            Role::Viewer => pipeline::view(&pipeline::viewer(&args.name), None, &stop),
            Role::SlowViewer => pipeline::view(&pipeline::slow(&args.name), Some(LONG_LOOK), &stop),
        }
    });
    match result {
        Ok(()) => 0,
        Err(message) => {
            note(&Note::Failed { message });
            1
        }
    }
}

/// Asks this process for an orderly end when the demo has gone.
fn end_with_parent(stop: &Stop) {
    let stop = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        stop.request();
    });
}

fn write(name: &str, args: &DemoPeerArgs, stop: &Stop) -> Result<()> {
    // This comes before connecting, because it takes a moment.
    let film = Film::new(args.flat_out);
    let options = WriterOptions::default().connect_timeout(PATIENCE).write_timeout(PATIENCE);
    let mut writer = Writer::connect_with(name, options)?;
    stop.watch(writer.interrupt_handle());
    writer.set_metadata(b"1920x1080 YUV420 60 fps")?;
    let start = Instant::now();
    let length = Duration::from_secs_f64(args.seconds);
    for index in 0.. {
        if !args.flat_out {
            let due = start + index * Duration::from_secs(1) / FRAMES_PER_SECOND;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        if start.elapsed() >= length || stop.requested() {
            break;
        }
        let index = u64::from(index);
        let result = writer.acquire_frame(FRAME_SIZE).and_then(|mut frame| {
            film.draw(index, &mut frame);
            Stamp { index, time: monotonic_ns() }.write(&mut frame);
            frame.commit()
        });
        match result {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => break,
            Err(error) => return Err(error),
        }
    }
    let stats = writer.stats();
    writer.close()?;
    note(&Note::Sent { frames: stats.frames_written, waits: stats.waits });
    Ok(())
}

fn read(args: &DemoPeerArgs, stop: &Stop) -> std::result::Result<(), String> {
    let film = Film::new(args.flat_out);
    let config = BufferConfig::default().payload_size((FRAME_SIZE + 64) * RING_FRAMES);
    let mut reader = Reader::create(&args.name, config).map_err(|error| error.to_string())?;
    stop.watch(reader.interrupt_handle());
    note(&Note::Ready);
    let mut sheet = args.sheet.as_deref().map(|_| Sheet::new(args.seconds * f64::from(FRAMES_PER_SECOND)));

    let (mut frames, mut wrong) = (0, 0);
    let mut latencies = Vec::new();
    let mut first: Option<Instant> = None;
    let mut last = Instant::now();
    let mut told = last;
    let writer_died = loop {
        let frame = match reader.read_frame(PATIENCE) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err("no frame came".to_owned()),
            Err(error) => match error.kind() {
                ErrorKind::WriterClosed => break false,
                ErrorKind::WriterDead => break true,
                ErrorKind::Interrupted => return Ok(()),
                _ => return Err(error.to_string()),
            },
        };
        let arrived = monotonic_ns();
        last = Instant::now();
        first.get_or_insert(last);
        let stamp = Stamp::read(&frame).filter(|stamp| stamp.index == frames);
        let right = stamp.is_some() && film.matches(frames, &frame);
        wrong += u64::from(!right);
        let latency = stamp.map_or(0, |stamp| arrived.saturating_sub(stamp.time));
        latencies.push(latency);
        if let Some(sheet) = &mut sheet {
            sheet.look(frames, &frame, latency, right);
        }
        frames += 1;
        if last.duration_since(told) >= PROGRESS {
            told = last;
            note(&Note::Progress { frames });
        }
    };
    let ended_at = monotonic_ns();
    reader.close().map_err(|error| error.to_string())?;
    if let (Some(sheet), Some(path)) = (sheet, &args.sheet) {
        sheet.save(path).map_err(|error| format!("cannot save {}: {error}", path.display()))?;
    }
    latencies.sort_unstable();
    note(&Note::End(End {
        frames,
        wrong,
        seconds: first.map_or(0.0, |first| last.duration_since(first).as_secs_f64()),
        p50: quantile(&latencies, 0.50),
        p99: quantile(&latencies, 0.99),
        writer_died,
        ended_at,
    }));
    Ok(())
}

pub(super) fn quantile(sorted: &[u64], share: f64) -> u64 {
    sorted.get((sorted.len() as f64 * share) as usize).copied().unwrap_or(0)
}
