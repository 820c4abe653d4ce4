//! A tee: what eight outputs cost, beside one.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zerobuffer::{BufferConfig, ErrorKind, Reader, Tee, Writer, WriterOptions};

use crate::compare::Plan;
use crate::machine;
use crate::musts::PICTURE;
use crate::record::Record;
use crate::role::{FILLING, age, marks, measured, pace, stamp, sum};
use crate::run::Runner;
use crate::stats::{Meter, Outcome, latencies, median};
use crate::transport::{PATIENCE, Program, Transport};

/// What the outputs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// They block, and are lent the source's bytes.
    Block,
    /// They block, and each gets a copy.
    BlockCopied,
    /// They drop frames, and are lent one copy.
    Drop,
    /// They drop frames, and each gets a copy.
    DropCopied,
}

const KINDS: [Kind; 3] = [Kind::Block, Kind::Drop, Kind::DropCopied];

/// Of fewer frames, most may have gone through before the viewers had looked.
const SETTLED: u64 = 100;

/// Eight outputs may cost so many times as much as one.
const BOUND: f64 = 1.5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Role {
    Camera,
    Tee,
    /// In place of a tee with one output.
    Relay,
    Viewer(usize),
}

/// What goes through a tee, and how.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Fan {
    pub kind: Kind,
    pub outputs: usize,
    /// A relay, not a tee.
    pub relayed: bool,
    /// Frames a second; 0: as many as go through.
    pub pace: u64,
    pub size: usize,
    /// Viewers read every byte, not only the ends.
    pub reads_all: bool,
}

/// The job of one process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    role: Role,
    fan: Fan,
    cpu: Option<usize>,
    seconds: f64,
    warm_up: f64,
    payload: usize,
    /// Name of the source; the outputs' names begin with it.
    source: String,
}

impl Job {
    fn output(&self, viewer: usize) -> String {
        format!("{}-{viewer}", self.source)
    }

    fn config(&self) -> BufferConfig {
        BufferConfig::default().payload_size(self.payload).allow_payload_sharing(true)
    }
}

/// Plays one of the processes.
pub fn play(job: &Job) -> Result<Outcome> {
    if let Some(cpu) = job.cpu {
        machine::pin(cpu)?;
    }
    match job.role {
        Role::Camera => camera(job),
        Role::Tee => tee(job),
        Role::Relay => relay(job),
        Role::Viewer(viewer) => view(job, viewer),
    }
}

fn camera(job: &Job) -> Result<Outcome> {
    let options = WriterOptions::default().connect_timeout(PATIENCE).write_timeout(PATIENCE);
    let mut writer = Writer::connect_with(&job.source, options)?;
    let picture = vec![FILLING; job.fan.size];
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(job.seconds + job.warm_up);
    let mut index = 0;
    while Instant::now() < end {
        pace(start, index, job.fan.pace);
        // The picture is made in place; the time starts when it is there.
        let mut frame = writer.acquire_frame(job.fan.size)?;
        frame.copy_from_slice(&picture);
        stamp(&mut frame, index);
        frame.commit()?;
        index += 1;
    }
    writer.close()?;
    Ok(Outcome::default())
}

/// What the writers of outputs are given.
fn options(job: &Job) -> WriterOptions {
    let lends = matches!(job.fan.kind, Kind::Block | Kind::Drop);
    let options = WriterOptions::default().connect_timeout(PATIENCE).write_timeout(PATIENCE);
    options.request_payload_sharing(lends)
}

fn relay(job: &Job) -> Result<Outcome> {
    let mut sink = Writer::connect_with(&job.output(0), options(job))?;
    let mut source = Reader::create(&job.source, job.config())?;
    ensure!(source.wait_for_writer(PATIENCE)?, "no writer came");
    let mut meter = Meter::new(job.fan.size, Duration::from_secs_f64(job.warm_up));
    measured(|| {
        loop {
            match source.read_frame(PATIENCE) {
                Ok(Some(frame)) => drop(sink.forward(frame).map_err(|(error, _)| error)?),
                Ok(None) => bail!("no frame came"),
                Err(error) if error.kind() == ErrorKind::WriterClosed => break,
                Err(error) => return Err(error.into()),
            }
            meter.frame();
        }
        let stats = sink.stats();
        ensure!(is_as_meant(job, stats.frames_shared, stats.frames_copied), "{stats:?}");
        Ok(Outcome { frames: source.frames_read(), ..meter.finish() })
    })
}

/// Whether the frames were lent, or copied, as the job has it. The first ones are copied, until the viewer has looked.
fn is_as_meant(job: &Job, shared: u64, copied: u64) -> bool {
    let is_shared = match job.fan.kind {
        Kind::Block => true,
        // A single drop output gets its copy in its own buffer.
        Kind::Drop => job.fan.outputs > 1,
        Kind::BlockCopied | Kind::DropCopied => false,
    };
    if is_shared { shared + copied < SETTLED || copied * 4 <= shared } else { shared == 0 }
}

fn tee(job: &Job) -> Result<Outcome> {
    let options = options(job);
    let outputs = (0..job.fan.outputs)
        .map(|viewer| Writer::connect_with(&job.output(viewer), options.clone()))
        .collect::<zerobuffer::Result<Vec<_>>>()?;
    let mut tee = Tee::new(Reader::create(&job.source, job.config())?);
    for output in outputs {
        match job.fan.kind {
            Kind::Block | Kind::BlockCopied => tee.add_block_output(output),
            Kind::Drop | Kind::DropCopied => tee.add_drop_output(output, Tee::DROP_FRAMES),
        }
    }
    ensure!(tee.reader_mut().wait_for_writer(PATIENCE)?, "no writer came");
    let mut meter = Meter::new(job.fan.size, Duration::from_secs_f64(job.warm_up));
    measured(|| {
        loop {
            match tee.step(PATIENCE) {
                Ok(true) => meter.frame(),
                Ok(false) => bail!("no frame came"),
                Err(error) if error.kind() == ErrorKind::WriterClosed => break,
                Err(error) => return Err(error.into()),
            }
        }
        for output in tee.outputs() {
            let is_as_meant = is_as_meant(job, output.frames_shared(), output.frames_copied());
            ensure!(is_as_meant, "{output:?}");
        }
        // All frames, as the processor time is that of all of them.
        Ok(Outcome { frames: tee.reader().frames_read(), ..meter.finish() })
    })
}

fn view(job: &Job, viewer: usize) -> Result<Outcome> {
    let mut reader = Reader::create(&job.output(viewer), job.config())?;
    ensure!(reader.wait_for_writer(PATIENCE)?, "no tee came");
    let warm_at = Instant::now() + Duration::from_secs_f64(job.warm_up);
    let (mut samples, mut last) = (Vec::new(), None);
    loop {
        let age = match reader.read_frame_ref(PATIENCE) {
            Ok(Some(frame)) => {
                let (age, (index, same)) = (age(&frame), marks(&frame));
                let in_order = last.is_none_or(|last| index > last);
                ensure!(index == same && in_order, "frame {index} behind {last:?}, its other mark is {same}");
                last = Some(index);
                if job.fan.reads_all {
                    std::hint::black_box(sum(&frame));
                }
                age
            }
            Ok(None) => bail!("no frame came"),
            Err(error) if error.kind() == ErrorKind::WriterClosed => return Ok(latencies(samples)),
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= warm_at {
            samples.push(age);
        }
    }
}

/// What one run measured.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Figures {
    /// Frames that went through the tee in a second.
    pub rate: f64,
    /// Processor time of the tee for each, in microseconds.
    tee_us: f64,
    /// How old a frame is when the last viewer has it, in microseconds.
    p50_us: f64,
}

pub fn run(runner: &Runner, fan: Fan) -> Result<Figures> {
    let outputs = fan.outputs;
    let channels = runner.channels(fan.size, runner.payload);
    let job = |role, place: usize| Job {
        role,
        fan,
        cpu: runner.cpus.map(|cpus| cpus[place]),
        seconds: runner.seconds,
        warm_up: runner.warm_up,
        payload: runner.payload,
        source: channels.forth.name.clone(),
    };
    let viewers = (0..outputs).map(|viewer| job(Role::Viewer(viewer), 0));
    let middle = if fan.relayed { Role::Relay } else { Role::Tee };
    let jobs = viewers.chain([job(middle, 1), job(Role::Camera, 0)]);
    let players = jobs
        .map(|job| {
            let who = format!("{:?}", job.role);
            runner.start(&who, Program::Own, &["play-fan", &serde_json::to_string(&job)?])
        })
        .collect::<Result<Vec<_>>>()?;
    let outcomes = runner.wait::<Outcome>(players)?;
    let (viewed, tee) =
        (outcomes.get(..outputs).context("viewers")?, outcomes.get(outputs).context("a tee")?);
    let seconds = runner.seconds + runner.warm_up;
    Ok(Figures {
        rate: tee.wall_rate,
        tee_us: tee.cpu_percent / 100.0 * seconds * 1e6 / tee.frames as f64,
        p50_us: viewed.iter().map(|outcome| outcome.p50_us).fold(0.0, f64::max),
    })
}

/// Measures and shows all rows.
pub fn compare(plan: &Plan<'_>, runner: &Runner, record: &mut Record) -> Result<()> {
    if plan.streams || !plan.wants("tee") || !plan.transports.contains(&Transport::Ours) {
        return Ok(());
    }
    println!(
        "\ntee {PICTURE} B: frames/s; us of the tee's processor for a frame; us until the last viewer has it (p50)"
    );
    for pace in [60, 0] {
        for kind in KINDS {
            let mut rows = [Vec::new(), Vec::new()];
            for index in 0..plan.runs {
                for (row, outputs) in rows.iter_mut().zip([1, 8]) {
                    let fan = Fan { kind, outputs, pace, size: PICTURE, relayed: false, reads_all: false };
                    let figures = run(runner, fan)?;
                    let scenario = json!({ "kind": "tee", "outputs": outputs, "what": kind, "pace": pace });
                    record.line(&json!({ "scenario": scenario, "run": index, "figures": figures }))?;
                    row.push(figures);
                }
            }
            let of = |row: &[Figures], field: fn(&Figures) -> f64| {
                median(&mut row.iter().map(field).collect::<Vec<_>>()).unwrap_or_default()
            };
            let how = if pace == 0 { "as fast as they go".to_owned() } else { format!("at {pace} Hz") };
            for (row, outputs) in rows.iter().zip([1, 8]) {
                println!(
                    "  {how:20} {outputs} x {kind:?}: {:8.0} {:8.1} {:8.1}",
                    of(row, |f| f.rate),
                    of(row, |f| f.tee_us),
                    of(row, |f| f.p50_us)
                );
            }
            if pace == 0 && kind != Kind::DropCopied {
                let cost = of(&rows[0], |f| f.rate) / of(&rows[1], |f| f.rate);
                let verdict = if cost < BOUND { "holds" } else { "fails" };
                println!("    eight cost {cost:.2} times one: at most {BOUND} {verdict}");
            }
        }
    }
    Ok(())
}
