//! The machine on which the figures were measured.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    pub date: String,
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    pub load: String,
    pub commit: String,
}

impl Machine {
    /// In one line.
    pub fn line(&self) -> String {
        let Machine { date, cpu, cores, kernel, load, commit } = self;
        format!("{date} | {cpu} | {cores} cores | Linux {kernel} | load {load} | commit {commit}")
    }

    pub fn describe() -> Machine {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| {
                line.strip_prefix("model name")?.split_once(':').map(|(_, name)| name.trim().to_owned())
            })
            .unwrap_or_else(|| "unknown".into());
        Machine {
            date: output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
            cpu,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            commit: output("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]),
        }
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output
        .map_or_else(|_| "unknown".into(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// How fast cache lines come from one processor to the other. A virtual machine changes between these states, and what is fast in
/// one may be slow in the other, so figures are compared within a state only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Bad,
    Good,
    /// Both processors share a core.
    Core,
}

impl State {
    pub const ALL: [State; 3] = [State::Bad, State::Good, State::Core];

    /// The state in which a line's round trip takes so many nanoseconds: 300 to 500 have been seen in one, 60 to 150 in the next, 20
    /// to 27 in the last.
    pub fn of(line_ns: f64) -> State {
        match line_ns {
            ..45.0 => State::Core,
            ..220.0 => State::Good,
            _ => State::Bad,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            State::Bad => "bad",
            State::Good => "good",
            State::Core => "core",
        }
    }
}

/// Keeps this thread on one processor, and those that it starts.
pub fn pin(cpu: usize) -> Result<()> {
    // SAFETY: cpu_set_t is a plain array of bits, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    anyhow::ensure!(cpu < libc::CPU_SETSIZE as usize, "cpu {cpu} is out of range");
    // SAFETY: `set` is valid and `cpu` lies within it; 0 means this thread.
    let result = unsafe {
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    anyhow::ensure!(result == 0, "cannot stay on cpu {cpu}: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Nanoseconds that a cache line takes from one processor to the other and back. The processors of a virtual machine may
/// lie on two cores at one time and on one at another, which changes all figures by a factor of up to three.
pub fn line_round_trip(cpus: [usize; 2]) -> Result<f64> {
    const BATCHES: u32 = 10;
    const TRIPS: u32 = 1000;
    static LINE: AtomicU32 = AtomicU32::new(0);
    LINE.store(0, Ordering::SeqCst);
    let wait = |value: u32| {
        while LINE.load(Ordering::Acquire) != value {
            std::hint::spin_loop();
        }
    };
    let side = |first: bool| {
        // A thread that cannot be pinned still plays, so that the other one ends.
        let pinned = pin(cpus[usize::from(!first)]);
        // The fastest batch is the one that nothing else disturbed.
        let mut fastest = f64::INFINITY;
        for batch in 0..BATCHES {
            let start = Instant::now();
            for trip in batch * TRIPS..(batch + 1) * TRIPS {
                if first {
                    LINE.store(2 * trip + 1, Ordering::Release);
                    wait(2 * trip + 2);
                } else {
                    wait(2 * trip + 1);
                    LINE.store(2 * trip + 2, Ordering::Release);
                }
            }
            fastest = fastest.min(start.elapsed().as_nanos() as f64 / f64::from(TRIPS));
        }
        pinned.map(|()| fastest)
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| side(false));
        let timed = scope.spawn(|| side(true)).join();
        let _ = other.join();
        timed.map_err(|_| anyhow::anyhow!("the probe panicked"))?
    })
}

/// How much processor time this process has used, and when.
pub struct Usage {
    at: Instant,
    cpu_seconds: f64,
}

impl Usage {
    pub fn now() -> Usage {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: `usage` has room for the result, and zeroes are a value of it should the call fail.
        let usage = unsafe {
            libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
            usage.assume_init()
        };
        let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        Usage { at: Instant::now(), cpu_seconds: seconds(usage.ru_utime) + seconds(usage.ru_stime) }
    }

    /// In percent of one core.
    pub fn cpu_percent_since(&self, before: &Usage) -> f64 {
        (self.cpu_seconds - before.cpu_seconds) / (self.at - before.at).as_secs_f64() * 100.0
    }
}

/// Largest resident memory that this process has had, shared memory included.
pub fn peak_resident_kib() -> Result<u64> {
    field("/proc/self/status", "VmHWM:")
}

/// Resident memory of this process, shared memory included. To the page, which the sum in /proc/self/status is not.
pub fn resident_kib() -> Result<u64> {
    field("/proc/self/smaps_rollup", "Rss:")
}

fn field(path: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path)?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
    Ok(value.with_context(|| format!("{path} has no {name}"))?.parse()?)
}

/// The clock that all processes share.
pub fn monotonic_nanoseconds() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` has room for the result; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Lets this process open as many files as it may.
pub fn raise_file_limit() -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` has room for the result, and is a valid value for the second call.
    let result = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
    };
    anyhow::ensure!(result == 0, "cannot open more files: {}", std::io::Error::last_os_error());
    Ok(())
}
