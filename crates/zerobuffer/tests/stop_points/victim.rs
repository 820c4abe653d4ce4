//! Kills and halts of a peer at a stop point.

use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use zerobuffer::{BufferConfig, NumaNode};

use crate::support::{Name, PATIENCE, Peer, Role};

pub(crate) const CAPACITY: usize = 1024;
pub(crate) const MAX: u64 = CAPACITY as u64 / 8 - 16;
/// Frames that a script writes or reads.
pub(crate) const FRAMES: u64 = 60;
/// Ledger word, not 0: the writer waits until everything is released, so that it finds the ring empty.
pub(crate) const DRAIN: usize = 10;

/// Longer than a contradiction between words is tolerated (100 ms), and than several looks at the peer take.
pub(crate) const HALT: Duration = Duration::from_millis(140);
/// The time that a survivor may take to notice, on a machine with other work.
pub(crate) const NOTICE: Duration = Duration::from_secs(2);

/// Frames in a kept buffer.
pub(crate) const KEPT: u64 = 3;

/// Which kind of ring a case is played over. The name of the buffer tells it to all who take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ring {
    Extended,
    Classic,
}

impl Ring {
    const MARK: &str = "-classic";

    pub(crate) fn name(self, what: &str) -> Name {
        Name::new(&format!("{what}{}", if self == Ring::Classic { Self::MARK } else { "" }))
    }
}

/// The config of the buffer `name`, of this payload size.
/// In the name of a buffer whose memory is to be in huge pages, on a NUMA node.
pub(crate) const HUGE: &str = "-huge";

pub(crate) fn config_of(name: &str, payload: usize) -> BufferConfig {
    let config = BufferConfig::default().payload_size(payload).classic(name.contains(Ring::MARK));
    if name.contains(HUGE) { config.huge_pages(true).numa_node(NumaNode::OfReader) } else { config }
}

pub(crate) fn config(name: &str) -> BufferConfig {
    config_of(name, CAPACITY)
}

/// The action on the victim.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Nothing; the points that it passes are written down.
    Trace,
    Kill(String, u64),
    Halt(String, u64),
}

impl Action {
    pub(crate) fn start(&self, role: Role, arguments: &[&str]) -> Peer {
        Peer::start_with(role, arguments, |command| {
            match self {
                Action::Trace => command.env("ZEROBUFFER_STOP_TRACE", trace_path(arguments[0])),
                Action::Kill(point, nth) => command.env("ZEROBUFFER_STOP", format!("kill:{nth}:{point}")),
                Action::Halt(point, nth) => command.env("ZEROBUFFER_STOP", format!("halt:{nth}:{point}")),
            };
        })
    }

    pub(crate) fn is_at(&self, points: &[&str]) -> bool {
        matches!(self, Action::Kill(point, _) | Action::Halt(point, _) if points.contains(&point.as_str()))
    }
}

pub(crate) fn trace_path(name: &str) -> std::path::PathBuf {
    std::env::temp_dir().join(format!("{name}.trace"))
}

/// A victim, and how far it is with what it has to suffer.
pub(crate) struct Victim {
    pub(crate) peer: Peer,
    pub(crate) action: Action,
    started_at: Instant,
    stopped_at: Option<Instant>,
    over: bool,
    pub(crate) ended_at: Option<Instant>,
}

impl Victim {
    pub(crate) fn start(action: &Action, role: Role, arguments: &[&str]) -> Victim {
        let peer = action.start(role, arguments);
        Victim {
            peer,
            action: action.clone(),
            started_at: Instant::now(),
            stopped_at: None,
            over: false,
            ended_at: None,
        }
    }

    /// Must be called regularly. Ends a halt that has lasted long enough, and records the end. Returns
    /// whether the victim lives.
    pub(crate) fn tend(&mut self) -> bool {
        assert!(self.started_at.elapsed() < PATIENCE, "{:?}: the victim does not end", self.action);
        if matches!(self.action, Action::Halt(..)) && !self.over {
            match self.stopped_at {
                None if self.peer.is_stopped() => self.stopped_at = Some(Instant::now()),
                Some(at) if at.elapsed() > HALT => {
                    self.over = true;
                    self.peer.signal(libc::SIGCONT);
                }
                _ => {}
            }
        }
        if self.ended_at.is_none() && self.peer.ended().is_some() {
            self.ended_at = Some(Instant::now());
        }
        self.ended_at.is_none()
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.stopped_at.is_some() && !self.over
    }

    /// Whether it was halted and goes on.
    pub(crate) fn has_gone_on(&self) -> bool {
        self.over
    }

    /// Checks that the action happened. Returns `false` if the point was not passed that often this time.
    pub(crate) fn suffered(&mut self) -> bool {
        let start = Instant::now();
        while self.tend() && start.elapsed() < NOTICE {
            std::thread::sleep(Duration::from_millis(1));
        }
        let status = self.peer.wait();
        match &self.action {
            Action::Trace => assert!(status.success(), "{status}"),
            Action::Kill(..) if status.signal() == Some(libc::SIGKILL) => {}
            Action::Halt(..) if self.over => assert!(status.success(), "{status}"),
            Action::Kill(point, nth) | Action::Halt(point, nth) => {
                let may_be_missed = *nth > 1 || point.starts_with("bell:");
                assert!(status.success() && may_be_missed, "the point was not passed ({status})");
                return false;
            }
        }
        true
    }
}

pub(crate) const FREE_BYTES: u64 = 0x28;
pub(crate) const WRITER_PID: u64 = 0x50;
/// Bits 7..48 lead to the control block, which begins with the head.
pub(crate) const EXTENSION: u64 = 0x60;

pub(crate) fn poke(name: &str, offset: u64, value: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(format!("/dev/shm/{name}"));
    if let Ok(file) = file {
        file.write_all_at(&value.to_le_bytes(), offset).unwrap();
    }
}

pub(crate) fn peek(name: &str, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    if let Ok(file) = std::fs::File::open(format!("/dev/shm/{name}")) {
        file.read_exact_at(&mut bytes, offset).unwrap();
    }
    u64::from_le_bytes(bytes)
}

pub(crate) fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Runs all cases, a few at a time, and fails with all that failed.
pub(crate) fn run_all(cases: Vec<(String, Box<dyn Fn() + Send + Sync>)>) {
    // To look at a few.
    let chosen = std::env::var("ZEROBUFFER_CASES").unwrap_or_default();
    let cases: Vec<_> = cases.into_iter().filter(|(what, _)| what.contains(&chosen)).collect();
    let count = cases.len();
    let queue = Mutex::new(cases);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some((what, case)) = queue.lock().unwrap().pop() else { return };
                    if catch_unwind(AssertUnwindSafe(case)).is_err() {
                        failures.lock().unwrap().push(what);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    eprintln!("{count} cases, {} failed", failures.len());
    assert!(failures.is_empty(), "{failures:#?}");
}
