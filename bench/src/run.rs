//! One run: two processes, a result.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use crate::role::{Job, Mode, Role};
use crate::stats::Outcome;
use crate::transport::{Channel, PATIENCE, Transport};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Scenario {
    Stream { size: usize, mode: Mode },
    RoundTrip { size: usize, pace: u64 },
    IdleReader,
}

/// Who sends and who receives; of round trips: who starts and who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pair {
    pub sender: Transport,
    pub receiver: Transport,
}

impl Pair {
    pub fn name(self) -> String {
        if self.sender == self.receiver {
            return self.sender.name().to_owned();
        }
        format!("{} > {}", self.sender.name(), self.receiver.name())
    }
}

/// Where and how long.
pub struct Runner {
    pub cpus: Option<[usize; 2]>,
    pub seconds: f64,
    pub warm_up: f64,
    pub python: Option<PathBuf>,
    directory: PathBuf,
}

impl Runner {
    pub fn new(
        cpus: Option<[usize; 2]>,
        seconds: f64,
        warm_up: f64,
        python: Option<PathBuf>,
    ) -> Result<Runner> {
        let directory = std::env::temp_dir().join(format!("zerobuffer-bench-{}", std::process::id()));
        std::fs::create_dir(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Runner { cpus, seconds, warm_up, python, directory })
    }

    /// Names for the two directions of one run.
    pub fn channels(&self, payload: usize) -> Channels {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |end: &str| format!("zbbench-{}-{count}-{end}", std::process::id());
        Channels {
            forth: Channel::new(&self.directory, name("forth"), payload),
            back: Channel::new(&self.directory, name("back"), payload),
        }
    }

    /// Bytes of a ring. A 1.x Python reader would need minutes to read 256 MiB of small frames, once the writer is done.
    fn payload(pair: Pair, size: usize) -> usize {
        if [pair.sender, pair.receiver].contains(&Transport::Python1x) {
            (4 * size).next_multiple_of(64).max(1 << 20)
        } else {
            zerobuffer::DEFAULT_PAYLOAD_SIZE
        }
    }

    /// Runs `scenario` once and gives what the receiver measured (of round trips: who started them, but with the
    /// other's processor time).
    pub fn run(&self, scenario: Scenario, pair: Pair) -> Result<Outcome> {
        let size = match scenario {
            Scenario::Stream { size, .. } | Scenario::RoundTrip { size, .. } => size,
            Scenario::IdleReader => 64,
        };
        let channels = self.channels(Runner::payload(pair, size));
        let job = |role, transport, mode, pace, place: usize| Job {
            role,
            transport,
            mode,
            cpu: self.cpus.map(|cpus| cpus[place]),
            size,
            seconds: self.seconds,
            warm_up: self.warm_up,
            count: (8_000_000 / size as u64).clamp(4, 20_000),
            pace,
            forth: channels.forth.clone(),
            back: channels.back.clone(),
        };
        match scenario {
            Scenario::Stream { mode, .. } => {
                let consumer = job(Role::Consume, pair.receiver, mode, 0, 1);
                let producer = job(Role::Produce, pair.sender, mode, 0, 0);
                let (outcome, _) = self.both(&consumer, &producer)?;
                Ok(outcome)
            }
            Scenario::RoundTrip { pace, .. } => {
                let ping = job(Role::Ping, pair.sender, Mode::Copy, pace, 0);
                let echo = job(Role::Echo, pair.receiver, Mode::Copy, pace, 1);
                let (outcome, other) = self.both(&ping, &echo)?;
                Ok(Outcome { cpu_percent: other.cpu_percent, ..outcome })
            }
            Scenario::IdleReader => {
                let idle = job(Role::Idle, pair.receiver, Mode::Copy, 0, 1);
                self.start(&idle)?.outcome()
            }
        }
    }

    fn both(&self, first: &Job, second: &Job) -> Result<(Outcome, Outcome)> {
        let first = self.start(first)?;
        let second = self.start(second)?;
        Ok((first.outcome()?, second.outcome()?))
    }

    fn start(&self, job: &Job) -> Result<Player> {
        let mut command = match (job.transport, &self.python) {
            (Transport::Python1x, Some(python)) => {
                let mut command = Command::new(python);
                command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/zerobuffer_1x.py"));
                command
            }
            (Transport::Python1x, None) => bail!("ZEROBUFFER_PEER_PYTHON does not name a Python to run"),
            _ => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("play");
                command
            }
        };
        command.arg(serde_json::to_string(job)?).stdin(Stdio::null()).stdout(Stdio::piped());
        // SAFETY: prctl is async-signal-safe. The child must not outlive this process.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let limit = Duration::from_secs_f64(job.seconds + job.warm_up) + PATIENCE * 2;
        Ok(Player { child, role: job.role, deadline: Instant::now() + limit })
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
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
struct Player {
    child: Child,
    role: Role,
    deadline: Instant,
}

impl Player {
    fn outcome(mut self) -> Result<Outcome> {
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < self.deadline, "the {:?} process does not end", self.role);
            std::thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "the {:?} process failed: {status}", self.role);
        // One short line: the pipe held it while the process ran.
        let mut output = String::new();
        self.child.stdout.take().context("no output")?.read_to_string(&mut output)?;
        serde_json::from_str(&output).with_context(|| format!("the {:?} process said {output:?}", self.role))
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
