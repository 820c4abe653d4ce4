//! `zerobuffer demo`: real processes and a moving picture, at 60 frames per second, flat out, with a kill, and in a pipeline.
//!
//! The demo starts this program more than once, as the hidden command `demo-peer`. The peers report their
//! progress on standard output, one line of JSON at a time. They end when their standard input is closed, so
//! nothing is left if the demo dies.

mod font;
mod peers;
mod picture;
mod pipeline;
mod process;
mod progress;
mod sheet;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use zerobuffer::cleanup;

use crate::args::DemoArgs;
use crate::exit::{self, Failure};
use crate::logger;
use crate::output::{complain, say};
use crate::stop::Stop;
use peers::{FRAMES_PER_SECOND, Note, monotonic_ns};
use picture::{FRAME_SIZE, HEIGHT, WIDTH};
use process::Peer;
use progress::Progress;

pub(crate) use peers::{Role, run_peer};

const QUICK: f64 = 0.5;
/// Longest time before the kill.
const BEFORE_KILL: f64 = 1.5;
const LOOK: Duration = Duration::from_millis(20);

pub(crate) fn run(args: &DemoArgs) -> u8 {
    logger::install(args.verbose);
    let stop = match Stop::install(exit::FAILED) {
        Ok(stop) => stop,
        Err(failure) => {
            complain(&failure);
            return failure.code();
        }
    };
    let demo = Demo {
        stop,
        seconds: if args.quick { QUICK } else { args.seconds },
        name: format!("zerobuffer-demo-{}", std::process::id()),
        sheet: args.output.clone().unwrap_or_else(|| std::env::temp_dir().join("zerobuffer-demo.png")),
    };
    // Checked before anything runs, instead of after the last phase.
    let folder = demo.sheet.parent().filter(|folder| !folder.as_os_str().is_empty());
    if folder.is_some_and(|folder| !folder.is_dir()) || demo.sheet.is_dir() {
        complain(&format_args!("--output {}: not a file in an existing folder", demo.sheet.display()));
        return exit::BAD_ARGUMENTS;
    }
    match demo.run() {
        Ok(()) => exit::OK,
        Err(failure) => {
            demo.remove_leftovers();
            match failure {
                Failure::Interrupted => {
                    say(&"");
                    say(&"Interrupted; nothing is left behind.");
                }
                Failure::Error(..) => {
                    complain(&format_args!("{failure} (zerobuffer doctor looks for causes)"));
                }
            }
            failure.code()
        }
    }
}

struct Demo {
    stop: Stop,
    seconds: f64,
    name: String,
    sheet: PathBuf,
}

/// How one phase goes.
struct Phase {
    seconds: f64,
    flat_out: bool,
    kill: bool,
    sheet: bool,
}

impl Demo {
    fn run(&self) -> Result<(), Failure> {
        let size = grouped(FRAME_SIZE as u64);
        say(&"ZeroBuffer demo: two processes, a writer and a reader. The writer sends pictures");
        say(&format_args!("of {WIDTH}x{HEIGHT} pixels (YUV420, {size} bytes) through the buffer"));
        say(&format_args!("`{}` in shared memory. The reader compares every byte.", self.name));
        let plain = Phase { seconds: self.seconds, flat_out: false, kill: false, sheet: false };

        title(&format!("1. {FRAMES_PER_SECOND} frames per second"));
        self.phase(&plain)?;

        title("2. Flat out (two pictures in turn, drawn beforehand)");
        self.phase(&Phase { flat_out: true, ..plain })?;

        title("3. The writer is killed (SIGKILL) between two frames");
        self.phase(&Phase { seconds: self.seconds.min(BEFORE_KILL), kill: true, ..plain })?;
        self.nothing_left()?;

        title("4. The pictures that arrive, to look at");
        self.phase(&Phase { sheet: true, ..plain })?;
        self.nothing_left()?;

        title("5. A pipeline: camera, filter in place, and two viewers, one of them slow");
        self.pipeline(&plain)?;
        self.nothing_left()?;
        title("Everything arrived, every byte right.");
        Ok(())
    }

    fn phase(&self, phase: &Phase) -> Result<(), Failure> {
        let mut reader = self.start(Role::Reader, phase)?;
        let Note::Ready = reader.hear(&self.stop)? else { return Err(failed("the reader was not ready")) };
        let mut writer = self.start(Role::Writer, phase)?;
        let killed_at = self.watch(phase, &mut reader, &mut writer)?;
        let end = match reader.last.take() {
            Some(Note::End(end)) => end,
            _ => return Err(failed("the reader said nothing at its end")),
        };
        reader.wait(&self.stop)?;
        writer.wait(&self.stop)?;

        let frames = grouped(end.frames);
        if end.wrong > 0 {
            return Err(failed(&format!("{} of {frames} frames were not what was sent", grouped(end.wrong))));
        }
        if let Some(killed_at) = killed_at {
            if !end.writer_died {
                return Err(failed("the reader took the killed writer for one that had closed"));
            }
            let knew = end.ended_at.saturating_sub(killed_at);
            say(&format_args!("   the reader knew after {}", Time(knew)));
            say(&format_args!(
                "   {frames} frames had arrived: none missing, none torn, every byte compared"
            ));
            return Ok(());
        }
        let rate = end.frames.saturating_sub(1) as f64 / end.seconds.max(1e-9);
        let volume = rate * FRAME_SIZE as f64 / 1e9;
        say(&format_args!(
            "   {frames} frames in {:.2} s: {rate:.1} frames/s, {volume:.2} GB/s",
            end.seconds
        ));
        say(&format_args!(
            "   latency from commit to the reader: p50 {}, p99 {}",
            Time(end.p50),
            Time(end.p99)
        ));
        if phase.flat_out {
            say(&"   (with the wait in the full ring)");
        }
        say(&format_args!("   verified: all {frames} frames, every byte"));
        if phase.sheet {
            say(&format_args!("   contact sheet of what arrived: {}", self.sheet.display()));
        }
        Ok(())
    }

    /// Shows progress until the reader has ended. If asked to, kills the writer meanwhile, and returns the
    /// time of the kill.
    fn watch(&self, phase: &Phase, reader: &mut Peer, writer: &mut Peer) -> Result<Option<u64>, Failure> {
        let start = Instant::now();
        let mut progress = Progress::new(phase.seconds);
        let mut killed_at = None;
        // On a busy machine, a writer could be killed before it wrote anything, and the reader would not
        // notice.
        let mut arriving: Option<Instant> = None;
        loop {
            let long_enough = arriving.is_some_and(|since| since.elapsed().as_secs_f64() >= phase.seconds);
            if phase.kill && killed_at.is_none() && long_enough {
                killed_at = Some(monotonic_ns());
                writer.kill()?;
            }
            if let Some(note) = reader.poll(&self.stop, LOOK)? {
                match note {
                    Note::Progress { frames } => {
                        if frames > 0 {
                            arriving.get_or_insert_with(Instant::now);
                        }
                        progress.show(frames, start.elapsed());
                    }
                    Note::End(end) => {
                        drop(progress);
                        reader.last = Some(Note::End(end));
                        return Ok(killed_at);
                    }
                    Note::Failed { message } => return Err(failed(&message)),
                    _ => {}
                }
            }
            // A writer that fails reports it; a writer that ends reports nothing.
            while let Ok(note) = writer.notes.try_recv() {
                if let Note::Failed { message } = note {
                    return Err(failed(&message));
                }
            }
        }
    }

    fn start(&self, role: Role, phase: &Phase) -> Result<Peer, Failure> {
        let seconds = if phase.kill { 3600.0 } else { phase.seconds };
        let mut command = Command::new(std::env::current_exe().map_err(|error| failed(&error.to_string()))?);
        command.arg("demo-peer").arg(role.name()).arg(&self.name).args(["--seconds", &seconds.to_string()]);
        if phase.flat_out {
            command.arg("--flat-out");
        }
        if phase.sheet && role == Role::Reader {
            command.arg("--sheet").arg(&self.sheet);
        }
        Peer::start(command).map_err(|error| failed(&format!("cannot start a process: {error}")))
    }

    /// The buffers of all phases.
    fn buffers(&self) -> [String; 4] {
        let name = &self.name;
        [name.clone(), pipeline::camera(name), pipeline::viewer(name), pipeline::slow(name)]
    }

    /// Every file of the buffers, if there are any.
    fn files(&self) -> Vec<PathBuf> {
        let files = |name: String| {
            [
                format!("/dev/shm/{name}"),
                format!("/dev/shm/sem.sem-w-{name}"),
                format!("/dev/shm/sem.sem-r-{name}"),
                format!("/tmp/zerobuffer/{name}.lock"),
            ]
        };
        let files = self.buffers().into_iter().flat_map(files).map(PathBuf::from);
        files.filter(|path| path.symlink_metadata().is_ok()).collect()
    }

    fn nothing_left(&self) -> Result<(), Failure> {
        let left = self.files();
        if left.is_empty() {
            say(&"   left behind in /dev/shm and /tmp/zerobuffer: nothing");
            return Ok(());
        }
        Err(failed(&format!("left behind: {left:?}")))
    }

    /// After a failure: the files that killed peers could not remove.
    fn remove_leftovers(&self) {
        let buffers = self.buffers();
        for leftover in cleanup::leftovers().unwrap_or_default() {
            if buffers.iter().any(|name| name == leftover.name())
                && let Err(error) = leftover.remove()
            {
                complain(&error);
            }
        }
    }
}

/// Prints the title of a phase.
fn title(text: &str) {
    say(&"");
    say(&text);
}

fn failed(message: &str) -> Failure {
    Failure::new(1, message)
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Nanoseconds in a readable unit.
struct Time(u64);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            0..10_000 => write!(f, "{:.1} us", self.0 as f64 / 1e3),
            10_000..1_000_000 => write!(f, "{:.0} us", self.0 as f64 / 1e3),
            1_000_000..1_000_000_000 => write!(f, "{:.1} ms", self.0 as f64 / 1e6),
            _ => write!(f, "{:.2} s", self.0 as f64 / 1e9),
        }
    }
}
