//! `zerobuffer demo`: two real processes and a moving picture, at 60 frames per second, flat out, and with a kill.
//!
//! The demo starts this very program twice more, as the hidden command `demo-peer`. The peers tell how they are getting on
//! over their standard output, a line of JSON at a time, and end when their standard input is closed: whatever becomes
//! of the demo, nothing of it stays.

mod font;
mod peers;
mod picture;
mod sheet;

use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use zerobuffer::cleanup;

use crate::args::DemoArgs;
use crate::exit::{self, Failure};
use crate::logger;
use crate::output::{complain, say};
use crate::stop::Stop;
use peers::{FRAMES_PER_SECOND, Note, monotonic_ns};
use picture::{FRAME_SIZE, HEIGHT, WIDTH};

pub(crate) use peers::{Role, run_peer};

const QUICK: f64 = 0.5;
/// Longest time before the kill.
const BEFORE_KILL: f64 = 1.5;
/// A peer that has said nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

pub(crate) fn run(args: &DemoArgs) -> u8 {
    logger::install(args.verbose);
    let stop = match Stop::install() {
        Ok(stop) => stop,
        Err(error) => {
            complain(&error);
            return 1;
        }
    };
    let demo = Demo {
        stop,
        seconds: if args.quick { QUICK } else { args.seconds },
        name: format!("zerobuffer-demo-{}", std::process::id()),
        sheet: args.output.clone().unwrap_or_else(|| std::env::temp_dir().join("zerobuffer-demo.png")),
    };
    // Before anything runs, rather than after the last phase.
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
                Failure::Interrupted => say(&"\nInterrupted; nothing is left behind."),
                Failure::Error(..) => {
                    complain(&format_args!("{failure}\n(zerobuffer doctor looks for causes)"))
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
        say(&format_args!(
            "ZeroBuffer demo: a writer and a reader, two processes; {WIDTH}x{HEIGHT} YUV420 pictures, {size} bytes \
             each,\nthrough the buffer `{}` in shared memory. The reader compares every byte that arrives.",
            self.name
        ));
        let plain = Phase { seconds: self.seconds, flat_out: false, kill: false, sheet: false };

        say(&format_args!("\n1. {FRAMES_PER_SECOND} frames per second"));
        self.phase(&plain)?;

        say(&"\n2. Flat out (two pictures in turn, drawn beforehand)");
        self.phase(&Phase { flat_out: true, ..plain })?;

        say(&"\n3. The writer is killed (SIGKILL) between two frames");
        self.phase(&Phase { seconds: self.seconds.min(BEFORE_KILL), kill: true, ..plain })?;
        self.nothing_left()?;

        say(&"\n4. The pictures that arrive, to look at");
        self.phase(&Phase { sheet: true, ..plain })?;
        self.nothing_left()?;
        say(&"\nEverything arrived, every byte right.");
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
        let what = if phase.flat_out { ", the wait in the full ring included" } else { "" };
        say(&format_args!(
            "   latency from commit to the reader: p50 {}, p99 {}{what}",
            Time(end.p50),
            Time(end.p99)
        ));
        say(&format_args!("   verified: all {frames} frames, every byte"));
        if phase.sheet {
            say(&format_args!("   contact sheet of what arrived: {}", self.sheet.display()));
        }
        Ok(())
    }

    /// Shows progress until the reader has ended. Kills the writer on the way, if asked to, and says when.
    fn watch(&self, phase: &Phase, reader: &mut Peer, writer: &mut Peer) -> Result<Option<u64>, Failure> {
        let start = Instant::now();
        let mut progress = Progress::new(phase.seconds);
        let mut killed_at = None;
        // A writer that is killed before it wrote anything, on a busy machine, would be missed by nobody.
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
                        progress.finish();
                        reader.last = Some(Note::End(end));
                        return Ok(killed_at);
                    }
                    Note::Ready => {}
                    Note::Failed { message } => return Err(failed(&message)),
                }
            }
            // A writer that fails has its say; one that ends says nothing.
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

    /// Every file of the buffer, if there are any.
    fn files(&self) -> Vec<PathBuf> {
        let name = &self.name;
        [
            format!("/dev/shm/{name}"),
            format!("/dev/shm/sem.sem-w-{name}"),
            format!("/dev/shm/sem.sem-r-{name}"),
            format!("/tmp/zerobuffer/{name}.lock"),
        ]
        .map(PathBuf::from)
        .into_iter()
        .filter(|path| path.symlink_metadata().is_ok())
        .collect()
    }

    fn nothing_left(&self) -> Result<(), Failure> {
        let left = self.files();
        if left.is_empty() {
            say(&"   left behind in /dev/shm and /tmp/zerobuffer: nothing");
            return Ok(());
        }
        Err(failed(&format!("left behind: {left:?}")))
    }

    /// After a failure: what killed peers could not remove themselves.
    fn remove_leftovers(&self) {
        for leftover in cleanup::leftovers().unwrap_or_default() {
            if leftover.name() == self.name
                && let Err(error) = leftover.remove()
            {
                complain(&error);
            }
        }
    }
}

fn failed(message: &str) -> Failure {
    Failure::new(1, message)
}

/// A process of the demo. Ended, at the latest, when it is dropped.
struct Peer {
    child: Child,
    notes: Receiver<Note>,
    heard: Instant,
    last: Option<Note>,
}

impl Peer {
    fn start(mut command: Command) -> io::Result<Peer> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (sender, notes) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if let Ok(note) = serde_json::from_str(&line)
                        && sender.send(note).is_err()
                    {
                        return;
                    }
                }
            });
        }
        Ok(Peer { child, notes, heard: Instant::now(), last: None })
    }

    /// The next note, if one comes within `limit`.
    fn poll(&mut self, stop: &Stop, limit: Duration) -> Result<Option<Note>, Failure> {
        if stop.requested() {
            return Err(Failure::Interrupted);
        }
        match self.notes.recv_timeout(limit) {
            Ok(Note::Failed { message }) => Err(failed(&message)),
            Ok(note) => {
                self.heard = Instant::now();
                Ok(Some(note))
            }
            Err(RecvTimeoutError::Timeout) if self.heard.elapsed() < PATIENCE => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(failed("a process of the demo says nothing any more")),
            // A Ctrl-C reaches the peers as well, and sometimes first.
            Err(RecvTimeoutError::Disconnected) if !stop.sleep(Duration::from_millis(100)) => {
                Err(Failure::Interrupted)
            }
            Err(RecvTimeoutError::Disconnected) => Err(failed("a process of the demo has ended early")),
        }
    }

    fn hear(&mut self, stop: &Stop) -> Result<Note, Failure> {
        loop {
            if let Some(note) = self.poll(stop, LOOK)? {
                return Ok(note);
            }
        }
    }

    fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill().map_err(|error| failed(&error.to_string()))
    }

    /// Waits for the process to end by itself.
    fn wait(&mut self, stop: &Stop) -> Result<(), Failure> {
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if stop.requested() {
                return Err(Failure::Interrupted);
            }
            if start.elapsed() > PATIENCE {
                return Err(failed("a process of the demo does not end"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Closing its standard input asks it to end in good order.
        drop(self.child.stdin.take());
        let start = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if start.elapsed() > Duration::from_secs(2) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Live progress: a bar on a terminal, else a line per second.
struct Progress {
    bar: Option<ProgressBar>,
    last: (Duration, u64),
    seconds: f64,
}

impl Progress {
    fn new(seconds: f64) -> Progress {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("   {bar:30.cyan/dim} {msg}");
            let bar = ProgressBar::new((seconds * 1000.0) as u64);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Progress { bar, last: (Duration::ZERO, 0), seconds }
    }

    fn show(&mut self, frames: u64, elapsed: Duration) {
        let (since, before) = self.last;
        let passed = elapsed.saturating_sub(since);
        let interval = if self.bar.is_some() { 0.1 } else { 1.0 };
        if passed.as_secs_f64() < interval {
            return;
        }
        let rate = (frames - before) as f64 / passed.as_secs_f64();
        let volume = rate * FRAME_SIZE as f64 / 1e9;
        self.last = (elapsed, frames);
        let text = format!("{} frames, {rate:.0} frames/s, {volume:.2} GB/s", grouped(frames));
        match &self.bar {
            Some(bar) => {
                bar.set_position((elapsed.as_millis() as u64).min((self.seconds * 1000.0) as u64));
                bar.set_message(text);
            }
            None => {
                let _ = writeln!(io::stderr(), "   ... {text}");
            }
        }
    }

    fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
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

/// Nanoseconds for people.
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
