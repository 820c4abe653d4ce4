//! How long it takes to wake a reader that has been asleep, and what that costs the writer: in a blocking read (futex), in epoll
//! (the descriptor's FIFO), and in epoll by the listener, where the writer cannot open the FIFO.
//!
//! One process writes, another one has a reader for each way, on a thread of its own. The ways take turns every few frames: what it
//! costs to wake a processor changes by several microseconds within seconds, which is more than what they differ by.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zerobuffer::{BufferConfig, Frame, Reader, WaitStrategy, Writer, WriterOptions};

use crate::compare::Plan;
use crate::machine;
use crate::record::Record;
use crate::role::{END, FILLING, age, marks, stamp};
use crate::run::{Measured, Runner};
use crate::stats::{Outcome, latencies, median};
use crate::transport::{Channel, PATIENCE, Program, Spin, Transport, until};

const SIZE: usize = 64;

/// Begins the names of FIFOs in /dev/shm.
const FIFO: &str = "sem.zbf-";

/// How the reader sleeps, and what wakes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// It blocks in a read, on a futex.
    Futex,
    /// It polls its descriptor by epoll; the writer writes to the FIFO.
    Descriptor,
    /// It polls its descriptor by epoll; the writer cannot open the FIFO, so the reader's listener passes the news on.
    Listener,
}

const WAYS: [Way; 3] = [Way::Futex, Way::Descriptor, Way::Listener];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Futex => "futex",
            Way::Descriptor => "descriptor",
            Way::Listener => "listener",
        }
    }

    /// Microseconds that waking may take longer than by a futex.
    fn bound(self) -> f64 {
        match self {
            Way::Futex => 0.0,
            Way::Descriptor => 5.0,
            Way::Listener => 12.0,
        }
    }
}

/// Microseconds that a write may take longer than one that wakes by a futex.
const POSTER: f64 = 1.0;

/// How long the reader has been asleep when the writer writes, in microseconds.
const ASLEEP: [u64; 2] = [100, 1000];

/// Frames that are written in one way, before it is the turn of the next one.
const TURN: u64 = 16;

/// The first ones of a turn do not count, as readers that fell asleep before it look again 1.5 ms later.
const SETTLING: u64 = 4;

/// The job of one process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// Whether it reads; the other one writes.
    sleeps: bool,
    asleep_us: u64,
    cpu: Option<usize>,
    seconds: f64,
    warm_up: f64,
    forth: Channel,
    back: Channel,
}

impl Job {
    /// When the warm-up ends, and when the run does.
    fn times(&self) -> (Instant, Instant) {
        let warm_at = Instant::now() + Duration::from_secs_f64(self.warm_up);
        (warm_at, warm_at + Duration::from_secs_f64(self.seconds))
    }
}

/// What one process measured, for each of [`WAYS`].
pub type Outcomes = Vec<Outcome>;

/// Plays one side.
pub fn play(job: &Job) -> Result<Outcomes> {
    if let Some(cpu) = job.cpu {
        machine::pin(cpu)?;
    }
    if job.sleeps { sleep(job) } else { post(job) }
}

fn config() -> BufferConfig {
    // It never spins, so it falls asleep at once, as epoll does.
    BufferConfig::default().payload_size(1 << 20).wait_strategy(WaitStrategy::Block)
}

fn connect(channel: &Channel, way: Way) -> Result<Writer> {
    Ok(Writer::connect_with(&name_of(channel, way), WriterOptions::default().connect_timeout(PATIENCE))?)
}

/// The buffer of one way.
fn name_of(channel: &Channel, way: Way) -> String {
    format!("{}-{}", channel.name, way.name())
}

/// A reader, how it waits, and its writer of acknowledgements.
struct Sleeper {
    way: Way,
    reader: Reader,
    epoll: Option<Epoll>,
    acknowledge: Writer,
}

fn sleep(job: &Job) -> Result<Outcomes> {
    let mut readers = Vec::new();
    for way in WAYS {
        let reader = Reader::create(&name_of(&job.forth, way), config())?;
        let epoll = match way {
            Way::Futex => None,
            Way::Descriptor | Way::Listener => Some(Epoll::of(reader.descriptor()?)?),
        };
        if way == Way::Listener {
            remove_fifo(&reader)?;
        }
        readers.push((way, reader, epoll));
    }
    // The writer opens the FIFO when it connects.
    std::fs::write(&job.forth.path, [])?;
    let mut sleepers = Vec::new();
    for (way, mut reader, epoll) in readers {
        let acknowledge = connect(&job.back, way)?;
        ensure!(reader.wait_for_writer(PATIENCE)?, "no writer came");
        sleepers.push(Sleeper { way, reader, epoll, acknowledge });
    }
    let (warm_at, _) = job.times();
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            sleepers.into_iter().map(|sleeper| scope.spawn(move || sleeper.run(warm_at))).collect();
        let results = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        results.map(|result| result.unwrap_or_else(|_| bail!("a reader panicked"))).collect()
    })
}

impl Sleeper {
    /// Reads all frames. Returns how long after they were written.
    fn run(mut self, warm_at: Instant) -> Result<Outcome> {
        let (mut samples, mut frames, mut waits) = (Vec::with_capacity(1 << 16), 0_u64, 0_u64);
        loop {
            let frame = match &self.epoll {
                None => self.reader.read_frame(PATIENCE)?.context("no frame came")?,
                Some(epoll) => polled(&mut self.reader, epoll, &mut waits)?,
            };
            let age = age(&frame);
            let (index, same) = marks(&frame);
            ensure!(index == same && (index == frames || index == END), "frame {index} instead of {frames}");
            drop(frame);
            if index == END {
                break;
            }
            if counts(index) && Instant::now() >= warm_at {
                samples.push(age);
            }
            frames += 1;
            self.acknowledge.write_frame(&index.to_le_bytes())?;
        }
        if self.epoll.is_none() {
            waits = self.reader.stats().waits;
        }
        let way = self.way.name();
        ensure!(waits >= frames / 2, "the reader slept before {waits} of {frames} frames only ({way})");
        Ok(latencies(samples))
    }
}

/// Whether frame `index` of a way counts.
fn counts(index: u64) -> bool {
    index % TURN >= SETTLING
}

fn polled(reader: &mut Reader, epoll: &Epoll, waits: &mut u64) -> Result<Frame> {
    loop {
        if let Some(frame) = reader.try_read_frame()? {
            return Ok(frame);
        }
        epoll.wait()?;
        *waits += 1;
    }
}

/// Removes the name of the reader's FIFO, before the writer could open it.
fn remove_fifo(reader: &Reader) -> Result<()> {
    let fd = reader.descriptor()?.as_raw_fd();
    let inode = std::fs::metadata(format!("/proc/self/fd/{fd}"))?.ino();
    for entry in std::fs::read_dir("/dev/shm")?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(FIFO) && entry.ino() == inode {
            return std::fs::remove_file(entry.path()).context("cannot remove the FIFO");
        }
    }
    bail!("the descriptor is no FIFO")
}

/// How many FIFOs this process has open.
fn fifos() -> Result<usize> {
    let links = std::fs::read_dir("/proc/self/fd")?.flatten();
    let links = links.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    Ok(links.filter(|link| link.to_string_lossy().contains(FIFO)).count())
}

/// A writer, its reader of acknowledgements, and what it measured.
struct Poster {
    writer: Writer,
    acknowledged: Reader,
    written: u64,
    samples: Vec<u64>,
}

fn post(job: &Job) -> Result<Outcomes> {
    let readers: Vec<Reader> = WAYS
        .into_iter()
        .map(|way| Ok(Reader::create(&name_of(&job.back, way), config())?))
        .collect::<Result<_>>()?;
    until("a reader", || Ok(job.forth.path.exists().then_some(())))?;
    let mut posters = Vec::new();
    for (way, mut acknowledged) in WAYS.into_iter().zip(readers) {
        let writer = connect(&job.forth, way)?;
        ensure!(acknowledged.wait_for_writer(PATIENCE)?, "no reader came");
        posters.push(Poster { writer, acknowledged, written: 0, samples: Vec::with_capacity(1 << 16) });
    }
    let asleep = Duration::from_micros(job.asleep_us);
    let (warm_at, end) = job.times();
    while Instant::now() < end {
        for poster in &mut posters {
            poster.take_turn(asleep, warm_at)?;
        }
    }
    let mut data = [FILLING; SIZE];
    stamp(&mut data, END);
    for poster in &mut posters {
        poster.writer.write_frame(&data)?;
    }
    // The writer has no other end open, as it has no descriptor of its own.
    ensure!(fifos()? == 1, "the writer did not wake in the ways meant");
    Ok(posters.into_iter().map(|poster| latencies(poster.samples)).collect())
}

impl Poster {
    fn take_turn(&mut self, asleep: Duration, warm_at: Instant) -> Result<()> {
        let mut data = [FILLING; SIZE];
        for _ in 0..TURN {
            stamp(&mut data, self.written);
            let sent = Instant::now();
            self.writer.write_frame(&data)?;
            let took = sent.elapsed();
            if counts(self.written) && sent >= warm_at {
                self.samples.push(took.as_nanos() as u64);
            }
            self.written += 1;
            let mut spin = Spin::default();
            while self.acknowledged.try_read_frame()?.is_none() {
                spin.turn()?;
            }
            // The processor stays awake, so that its own sleep is no part of the figures.
            let acknowledged_at = Instant::now();
            while acknowledged_at.elapsed() < asleep {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }
}

/// An epoll instance that waits for one descriptor.
struct Epoll(OwnedFd);

impl Epoll {
    fn of(descriptor: BorrowedFd<'_>) -> Result<Epoll> {
        // SAFETY: epoll_create1 takes no pointers.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        ensure!(epoll >= 0, "epoll_create1: {}", std::io::Error::last_os_error());
        // SAFETY: a new descriptor, which nothing else owns.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        let (add, fd) = (libc::EPOLL_CTL_ADD, descriptor.as_raw_fd());
        // SAFETY: a valid event, which the kernel copies.
        let added = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), add, fd, &mut event) };
        ensure!(added == 0, "epoll_ctl: {}", std::io::Error::last_os_error());
        Ok(Epoll(epoll))
    }

    fn wait(&self) -> Result<()> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: room for the one event that is asked for.
        let ready =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), &mut event, 1, PATIENCE.as_millis() as i32) };
        ensure!(ready == 1, "no news came: {ready}");
        Ok(())
    }
}

/// A line of the table.
struct Row {
    asleep_us: u64,
    way: Way,
    runs: Vec<Measured>,
}

impl Row {
    fn of(&self, figure: impl Fn(&Measured) -> f64) -> f64 {
        median(&mut self.runs.iter().map(figure).collect::<Vec<_>>()).unwrap_or(f64::NAN)
    }
}

/// Measures all ways of waking, interleaved, and judges them.
pub fn compare(plan: &Plan<'_>, runner: &Runner, record: &mut Record) -> Result<()> {
    if plan.streams || !plan.transports.contains(&Transport::Ours) {
        return Ok(());
    }
    let mut rows: Vec<Row> = ASLEEP
        .into_iter()
        .filter(|asleep| plan.wants(&name(*asleep)))
        .flat_map(|asleep_us| WAYS.map(|way| Row { asleep_us, way, runs: Vec::new() }))
        .collect();
    for run in 0..plan.runs {
        for rows in rows.chunks_mut(WAYS.len()) {
            let Some(asleep_us) = rows.first().map(|row| row.asleep_us) else { continue };
            let measured = once(runner, asleep_us).with_context(|| name(asleep_us))?;
            for (row, measured) in rows.iter_mut().zip(measured) {
                record.line(&json!({
                    "scenario": { "kind": "wake-up", "way": row.way, "asleep_us": row.asleep_us }, "run": run,
                    "line_ns": measured.line_ns, "outcome": measured.outcome, "other": measured.other,
                }))?;
                row.runs.push(measured);
            }
        }
    }
    for rows in rows.chunks(WAYS.len()) {
        show(rows);
    }
    Ok(())
}

fn name(asleep_us: u64) -> String {
    match asleep_us {
        us if us % 1000 == 0 => format!("wake-up, asleep {} ms", us / 1000),
        us => format!("wake-up, asleep {us} us"),
    }
}

/// One run of all ways.
fn once(runner: &Runner, asleep_us: u64) -> Result<Vec<Measured>> {
    let channels = runner.channels(SIZE, 1 << 20);
    let line_ns = runner.cpus.map_or(Ok(0.0), machine::line_round_trip)?;
    let mut players = Vec::new();
    for sleeps in [true, false] {
        let job = Job {
            sleeps,
            asleep_us,
            cpu: runner.cpus.map(|cpus| cpus[usize::from(sleeps)]),
            seconds: runner.seconds * WAYS.len() as f64,
            warm_up: runner.warm_up,
            forth: channels.forth.clone(),
            back: channels.back.clone(),
        };
        let who = if sleeps { "sleeper" } else { "poster" };
        players.push(runner.start(who, Program::Own, &["play-wakeup", &serde_json::to_string(&job)?])?);
    }
    let [sleeper, poster] =
        runner.wait::<Outcomes>(players)?.try_into().map_err(|_| anyhow::anyhow!("no process reported"))?;
    ensure!(sleeper.len() == WAYS.len() && poster.len() == WAYS.len(), "a way is missing");
    let both = sleeper.into_iter().zip(poster);
    Ok(both.map(|(outcome, other)| Measured { outcome, other, line_ns }).collect())
}

/// The table of one time asleep, and whether each way reaches its aims beside the futex.
fn show(rows: &[Row]) {
    let Some(futex) = rows.iter().find(|row| row.way == Way::Futex) else { return };
    println!(
        "\n{}   (write to wake-up: p50, p90, p99 in us; write_frame: p50, p99 in us)",
        name(futex.asleep_us)
    );
    for row in rows {
        println!(
            "  {:20} {:9.2} {:9.2} {:9.2}  {:9.2} {:9.2}",
            row.way.name(),
            row.of(|run| run.outcome.p50_us),
            row.of(|run| run.outcome.p90_us),
            row.of(|run| run.outcome.p99_us),
            row.of(|run| run.other.p50_us),
            row.of(|run| run.other.p99_us),
        );
    }
    for row in rows.iter().filter(|row| row.way != Way::Futex) {
        let more = |p50: fn(&Measured) -> f64| row.of(p50) - futex.of(p50);
        for (what, more, bound) in [
            ("wake-up", more(|run| run.outcome.p50_us), row.way.bound()),
            ("write_frame", more(|run| run.other.p50_us), POSTER),
        ] {
            let verdict = if more <= bound { "reached" } else { "MISSED" };
            let head = format!("{}, {what}", row.way.name());
            println!("  {head:30} {verdict:7} {more:+.2} us to the futex (must: {bound:+.0} at most)");
        }
    }
}
