//! One run: its processes, and their measurements.

use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::machine;
use crate::role::{Job, Mode, Role};
use crate::stats::Outcome;
use crate::transport::{Channel, PATIENCE, Program, Transport};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Scenario {
    Stream {
        size: usize,
        mode: Mode,
    },
    RoundTrip {
        size: usize,
        pace: u64,
    },
    Relay {
        size: usize,
        pace: u64,
        /// Milliseconds for which the display works on each frame.
        work: u64,
    },
    /// A stream in place through a relay.
    RelayedStream {
        size: usize,
    },
    IdleReader,
}

impl Scenario {
    pub fn size(self) -> usize {
        match self {
            Scenario::Stream { size, .. }
            | Scenario::RoundTrip { size, .. }
            | Scenario::Relay { size, .. }
            | Scenario::RelayedStream { size } => size,
            Scenario::IdleReader => 64,
        }
    }

    pub fn name(self) -> String {
        let size = human(self.size());
        match self {
            Scenario::Stream { mode, .. } => {
                let how = match mode {
                    Mode::Copy => "copied",
                    Mode::CopyIn => "copied in, ends read",
                    Mode::InPlace => "in place",
                    Mode::Marked => "in place, ends touched",
                    Mode::Checksum => "every byte read",
                    Mode::Fresh => "copied, the first 256 MiB",
                    Mode::Verify => "verified",
                    Mode::Idle => "idle",
                };
                format!("stream {size}, {how}")
            }
            Scenario::RoundTrip { pace: 0, .. } => format!("round trip {size}"),
            Scenario::RoundTrip { pace, .. } => format!("round trip {size} at {pace} Hz"),
            Scenario::Relay { pace, work: 0, .. } => format!("relay {size} at {pace} Hz"),
            Scenario::Relay { pace, work, .. } => {
                format!("relay {size} at {pace} Hz, display works {work} ms")
            }
            Scenario::RelayedStream { .. } => format!("relayed stream {size}, in place"),
            Scenario::IdleReader => "idle reader".to_owned(),
        }
    }

    /// Whether a pair can do this at all.
    pub fn fits(self, pair: Pair) -> bool {
        // Programs in other languages play the roles that are compared.
        let sides = [pair.sender.program(), pair.receiver.program()];
        let other = sides.iter().any(|&side| side != Program::Own);
        let script = sides.iter().any(|side| matches!(side, Program::Script(..)));
        let relayed = matches!(self, Scenario::Relay { .. } | Scenario::RelayedStream { .. });
        if pair.sender == Transport::OursShared && !relayed {
            return false;
        }
        match self {
            Scenario::RelayedStream { .. } => {
                matches!(pair.sender, Transport::Ours | Transport::OursShared) && !other
            }
            Scenario::Stream { mode: Mode::InPlace, .. } if script => false,
            Scenario::Stream { size, mode: Mode::InPlace | Mode::Marked } => {
                pair.sender.in_place(size) && pair.receiver.in_place(size)
            }
            Scenario::Stream { size, mode: Mode::CopyIn } => !other && pair.receiver.in_place(size),
            Scenario::Stream { mode: Mode::Checksum, .. } | Scenario::Relay { .. } | Scenario::IdleReader => {
                !other && pair.sender.publishes_each()
            }
            Scenario::RoundTrip { .. } => pair.sender.publishes_each(),
            Scenario::Stream { .. } => true,
        }
    }
}

pub fn human(size: usize) -> String {
    match size {
        size if size.is_power_of_two() && size >= 1 << 30 => format!("{} GiB", size >> 30),
        size if size.is_power_of_two() && size >= 1 << 20 => format!("{} MiB", size >> 20),
        size if size % 1024 == 0 && size < 1 << 20 => format!("{} KiB", size / 1024),
        size if size >= 1_000_000 => format!("{:.1} MB", size as f64 / 1e6),
        size => format!("{size} B"),
    }
}

/// The sender and the receiver; in round trips, the side that starts and the side that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pair {
    pub sender: Transport,
    pub receiver: Transport,
}

impl Pair {
    pub const fn same(transport: Transport) -> Pair {
        Pair { sender: transport, receiver: transport }
    }

    pub fn name(self) -> String {
        if self.sender == self.receiver {
            return self.sender.name();
        }
        format!("{} > {}", self.sender.name(), self.receiver.name())
    }
}

/// What one run measured: at the receiver (of round trips: who started them; of a relay: the display), and what the
/// other side used meanwhile (of a relay: the one in the middle).
#[derive(Debug, Clone, Default, Serialize)]
pub struct Measured {
    pub outcome: Outcome,
    pub other: Outcome,
    /// What a cache line took from one processor to the other and back, just before (0: not pinned).
    pub line_ns: f64,
}

/// Where and how long.
pub struct Runner {
    pub cpus: Option<[usize; 2]>,
    pub seconds: f64,
    pub warm_up: f64,
    /// Payload bytes of ZeroBuffer's buffers.
    pub payload: usize,
    /// Frames that ZeroBuffer's consumer keeps.
    pub held: Option<usize>,
    directory: PathBuf,
}

/// Where frames come slowly, it takes longer to see some: so many times as long.
const RELAY_TIMES: f64 = 4.0;

/// What a channel moves in a run of its first frames: once through ZeroBuffer's default buffer.
const FIRST_BYTES: u64 = 256 << 20;

/// Prefix of the names of all files of a driver and its processes.
const PREFIX: &str = "zbbench-";

impl Runner {
    pub fn new(cpus: Option<[usize; 2]>, seconds: f64, warm_up: f64) -> Result<Runner> {
        sweep();
        let directory = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let payload = zerobuffer::DEFAULT_PAYLOAD_SIZE;
        Ok(Runner { cpus, seconds, warm_up, payload, held: None, directory })
    }

    /// Names for the two directions of one run.
    pub fn channels(&self, size: usize, payload: usize) -> Channels {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let run = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let channel = |way| Channel::new(&self.directory, &run, way, size, payload);
        Channels { forth: channel(1), back: channel(2) }
    }

    /// Bytes of a ring. A 1.x Python reader would need minutes to read 256 MiB of small frames, once the writer is done.
    fn payload(&self, pair: Pair, size: usize) -> usize {
        if [pair.sender, pair.receiver].contains(&Transport::Python1x) {
            (4 * size).next_multiple_of(64).max(1 << 20)
        } else {
            match pair.sender {
                Transport::OursSmall => (4 * size).max(4 << 20),
                _ => self.payload,
            }
        }
    }

    /// Runs `scenario` once.
    pub fn run(&self, scenario: Scenario, pair: Pair) -> Result<Measured> {
        let size = scenario.size();
        let channels = self.channels(size, self.payload(pair, size));
        let job = |role, transport, mode, pace, place: usize| Job {
            role,
            transport,
            mode,
            cpu: self.cpus.map(|cpus| cpus[place]),
            size,
            seconds: if matches!(scenario, Scenario::Relay { .. }) {
                self.seconds * RELAY_TIMES
            } else {
                self.seconds
            },
            warm_up: self.warm_up,
            count: match mode {
                Mode::Fresh => (FIRST_BYTES / size as u64).max(1),
                _ => (8_000_000 / size as u64).clamp(4, 20_000),
            },
            pace,
            work: if let Scenario::Relay { work, .. } = scenario { work } else { 0 },
            held: self.held,
            forth: channels.forth.clone(),
            back: channels.back.clone(),
        };
        let _driver = [pair.sender, pair.receiver]
            .contains(&Transport::Aeron)
            .then(|| {
                self.start_role(&Job {
                    cpu: None,
                    ..job(Role::MediaDriver, Transport::Aeron, Mode::Copy, 0, 0)
                })
            })
            .transpose()?;
        let jobs = match scenario {
            Scenario::Stream { mode, .. } => vec![
                job(Role::Consume, pair.receiver, mode, 0, 1),
                job(Role::Produce, pair.sender, mode, 0, 0),
            ],
            Scenario::IdleReader => vec![
                job(Role::Consume, pair.receiver, Mode::Idle, 0, 1),
                job(Role::Produce, pair.sender, Mode::Idle, 0, 0),
            ],
            Scenario::RoundTrip { pace, .. } => vec![
                job(Role::Ping, pair.sender, Mode::Copy, pace, 0),
                job(Role::Echo, pair.receiver, Mode::Copy, pace, 1),
            ],
            Scenario::Relay { pace, .. } => vec![
                job(Role::Display, pair.receiver, Mode::Copy, pace, 0),
                job(Role::Relay, pair.sender, Mode::Copy, pace, 1),
                job(Role::Camera, pair.sender, Mode::Copy, pace, 0),
            ],
            Scenario::RelayedStream { .. } => vec![
                Job {
                    forth: channels.back.clone(),
                    ..job(Role::Consume, pair.receiver, Mode::InPlace, 0, 0)
                },
                job(Role::Relay, pair.sender, Mode::InPlace, 0, 1),
                job(Role::Produce, pair.sender, Mode::InPlace, 0, 0),
            ],
        };
        let line_ns = self.cpus.map_or(Ok(0.0), machine::line_round_trip)?;
        let players = jobs.iter().map(|job| self.start_role(job)).collect::<Result<Vec<_>>>()?;
        let mut outcomes = self.wait::<Outcome>(players)?.into_iter();
        let (Some(outcome), Some(other)) = (outcomes.next(), outcomes.next()) else {
            bail!("no process reported")
        };
        Ok(Measured { outcome, other, line_ns })
    }

    /// Waits for all processes to end, and returns their measurements.
    pub fn wait<T: DeserializeOwned>(&self, mut players: Vec<Player>) -> Result<Vec<T>> {
        // A failure ends all processes, because the others would wait for each other.
        while !players
            .iter_mut()
            .map(Player::is_done)
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .all(|done| done)
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        players.into_iter().map(Player::outcome).collect()
    }

    fn start_role(&self, job: &Job) -> Result<Player> {
        let (who, job_text) = (format!("{:?}", job.role), serde_json::to_string(job)?);
        self.start(&who, job.transport.program(), &["play", &job_text])
    }

    /// Starts the process called `who` with these arguments.
    pub fn start(&self, who: &str, program: Program, arguments: &[&str]) -> Result<Player> {
        let mut command = match program {
            Program::Own => Command::new(std::env::current_exe()?),
            Program::Named(variable) => Command::new(named_by(variable)?),
            Program::Script(script, python) => script_command(script, python)?,
        };
        let complaints = self.directory.join(format!("{who}.stderr"));
        command
            .args(arguments)
            // A rival's files in the folder for temporary files are removed with ZeroBuffer's.
            .env("TMPDIR", &self.directory)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&complaints)?);
        // SAFETY: prctl is async-signal-safe. The child must not outlive this process.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        // A relay takes longest.
        let limit =
            Duration::from_secs_f64(self.seconds * RELAY_TIMES + self.warm_up) + PATIENCE + PATIENCE / 4;
        Ok(Player { child, who: who.to_owned(), complaints, deadline: Instant::now() + limit })
    }
}

fn script_command(script: &str, python: &str) -> Result<Command> {
    let mut command = Command::new(named_by(python)?);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script));
    // Nothing but sources is to lie there.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(command)
}

fn named_by(variable: &str) -> Result<PathBuf> {
    let Some(program) = std::env::var_os(variable) else { bail!("{variable} names no program") };
    Ok(program.into())
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Removes the files that killed drivers have left.
fn sweep() {
    let temporary = std::env::temp_dir();
    for folder in [Path::new("/dev/shm"), Path::new("/tmp/zerobuffer"), &temporary] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some((_, rest)) = name.split_once(PREFIX) else { continue };
            let pid: String = rest.chars().take_while(char::is_ascii_digit).collect();
            if !pid.is_empty() && !Path::new("/proc").join(pid).exists() {
                let _ = std::fs::remove_file(entry.path());
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// The two directions of one run; leave nothing behind.
pub struct Channels {
    pub forth: Channel,
    pub back: Channel,
}

impl Drop for Channels {
    fn drop(&mut self) {
        self.forth.clean();
        self.back.clean();
    }
}

/// A process that plays a role; killed when dropped.
pub struct Player {
    child: Child,
    who: String,
    complaints: PathBuf,
    deadline: Instant,
}

impl Player {
    /// Whether it has ended, and well.
    fn is_done(&mut self) -> Result<bool> {
        let Some(status) = self.child.try_wait()? else {
            ensure!(Instant::now() < self.deadline, "the {} process does not end", self.who);
            return Ok(false);
        };
        let complaints = std::fs::read_to_string(&self.complaints).unwrap_or_default();
        ensure!(status.success(), "the {} process failed ({status}): {}", self.who, complaints.trim());
        Ok(true)
    }

    fn outcome<T: DeserializeOwned>(mut self) -> Result<T> {
        // One short line: the pipe held it while the process ran.
        let mut output = String::new();
        self.child.stdout.take().context("no output")?.read_to_string(&mut output)?;
        serde_json::from_str(&output).with_context(|| format!("the {} process said {output:?}", self.who))
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
