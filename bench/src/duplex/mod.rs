//! Requests and responses: a client process and a server process that echoes, over ZeroBuffer's duplex
//! channel and its rivals.
//!
//! Each request is copied in by its caller, copied once by the server to its response, and copied out by the caller,
//! which checks the marks at both ends; before anything is timed, every byte.

mod drive;
#[cfg(feature = "grpc")]
mod grpc;
#[cfg(feature = "iceoryx2")]
mod iceoryx2;
pub mod mutable;
mod ours;
#[cfg(feature = "tachyon")]
mod tachyon;
mod verdict;
#[cfg(feature = "zeromq")]
mod zeromq;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zerobuffer::duplex::ProcessingMode;

use crate::compare::Plan;
use crate::machine;
use crate::musts::PICTURE;
use crate::record::Record;
use crate::run::{Measured, Runner, human};
use crate::stats::{Outcome, median};
use crate::transport::{CSHARP_PEER, Channel, PEER_PYTHON, Program, Transport};

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// ZeroBuffer's channel, its server on one thread.
    Ours,
    /// ZeroBuffer's channel, its server with a pool of threads.
    OursPool,
    /// ZeroBuffer's channel, the client through the C# package.
    OursCsharp,
    /// ZeroBuffer's channel, its server changes requests in place.
    OursMutable,
    /// Two plain streams of ZeroBuffer.
    OurStreams,
    Iceoryx2,
    Tachyon,
    Zeromq,
    Grpc,
    #[serde(rename = "python-1x")]
    Python1x,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Ours => "ours",
            Peer::OursPool => "ours, pool",
            Peer::OursCsharp => "ours-csharp",
            Peer::OursMutable => "ours, mutable",
            Peer::OurStreams => "two streams",
            Peer::Iceoryx2 => "iceoryx2",
            Peer::Tachyon => "tachyon",
            Peer::Zeromq => "zeromq",
            Peer::Grpc => "grpc",
            Peer::Python1x => "python-1x",
        }
    }

    fn is_ours(self) -> bool {
        matches!(self, Peer::Ours | Peer::OursPool | Peer::OursCsharp | Peer::OursMutable | Peer::OurStreams)
    }

    /// The kinds of requests and responses that a transport supports.
    fn of(transport: Transport) -> &'static [Peer] {
        match transport {
            Transport::Ours => &[Peer::Ours, Peer::OursPool, Peer::OurStreams],
            Transport::OursCsharp => &[Peer::OursCsharp],
            Transport::Iceoryx2 => &[Peer::Iceoryx2],
            Transport::Tachyon => &[Peer::Tachyon],
            Transport::Zeromq => &[Peer::Zeromq],
            Transport::Grpc => &[Peer::Grpc],
            Transport::Python1x => &[Peer::Python1x],
            _ => &[],
        }
    }

    fn does(self, case: Case) -> bool {
        match self {
            Peer::OursCsharp => case.callers == 1,
            // A stream has one writer.
            Peer::OurStreams => case.callers == 1 || case.way == Way::Pipeline,
            // The clients of these transports do not support several threads.
            Peer::Python1x | Peer::Tachyon => case.callers == 1 || case.way == Way::Pipeline,
            _ => true,
        }
    }
}

/// How a client gets several requests under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// So many threads call, each waiting for its own response.
    Threads,
    /// One thread sends so many requests before it waits, and another one for each response.
    Pipeline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename = "request-response")]
pub struct Case {
    pub size: usize,
    pub callers: usize,
    pub way: Way,
}

impl Case {
    pub fn name(self) -> String {
        let size = human(self.size);
        match (self.callers, self.way) {
            (1, _) => format!("request-response {size}"),
            (callers, Way::Threads) => format!("request-response {size}, {callers} threads call"),
            (callers, Way::Pipeline) => format!("request-response {size}, {callers} under way"),
        }
    }
}

fn cases(plan: &Plan<'_>) -> Vec<Case> {
    let mut cases = Vec::new();
    for size in [64, 65_536, PICTURE] {
        for (callers, way) in [(1, Way::Threads), (8, Way::Threads), (8, Way::Pipeline)] {
            cases.push(Case { size, callers, way });
        }
    }
    // In a hurry, one size shows that all ways work, and one caller that large ones do.
    // C# is compared with one caller.
    let one = plan.quick || plan.streams || plan.bars;
    cases.retain(|case| {
        (case.size == 64 || !plan.bars)
            && plan.wants(&case.name())
            && (case.callers == 1 || !one || (plan.quick && case.size == 64))
    });
    cases
}

/// The job of one process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    pub peer: Peer,
    pub serves: bool,
    pub cpu: Option<usize>,
    pub size: usize,
    pub callers: usize,
    pub way: Way,
    pub seconds: f64,
    pub warm_up: f64,
    /// A few requests whose every byte is checked, instead of as many as there is time for.
    pub verify: bool,
    pub forth: Channel,
    pub back: Channel,
}

/// Plays one side.
pub fn play(job: &Job) -> Result<Outcome> {
    if let Some(cpu) = job.cpu {
        machine::pin(cpu)?;
    }
    match (job.peer, job.serves) {
        (Peer::Ours | Peer::OursCsharp, true) => ours::serve(job, ProcessingMode::SingleThread),
        (Peer::OursPool, true) => ours::serve(job, ProcessingMode::ThreadPool),
        (Peer::Ours | Peer::OursPool, false) => ours::call(job),
        (Peer::OursMutable, true) => mutable::serve(job),
        (Peer::OursMutable, false) => mutable::call(job),
        (Peer::OurStreams, true) => ours::serve_streams(job),
        (Peer::OurStreams, false) => ours::call_streams(job),
        #[cfg(feature = "iceoryx2")]
        (Peer::Iceoryx2, true) => iceoryx2::serve(job),
        #[cfg(feature = "iceoryx2")]
        (Peer::Iceoryx2, false) => iceoryx2::call(job),
        #[cfg(feature = "tachyon")]
        (Peer::Tachyon, true) => tachyon::serve(job),
        #[cfg(feature = "tachyon")]
        (Peer::Tachyon, false) => tachyon::call(job),
        #[cfg(feature = "zeromq")]
        (Peer::Zeromq, true) => zeromq::serve(job),
        #[cfg(feature = "zeromq")]
        (Peer::Zeromq, false) => zeromq::call(job),
        #[cfg(feature = "grpc")]
        (Peer::Grpc, true) => grpc::serve(job),
        #[cfg(feature = "grpc")]
        (Peer::Grpc, false) => grpc::call(job),
        #[allow(unreachable_patterns)]
        (peer, _) => bail!("{} is not part of this program", peer.name()),
    }
}

/// A line of a table.
pub struct Row {
    pub case: Case,
    pub peer: Peer,
    pub runs: Vec<Measured>,
    failure: Option<String>,
}

impl Row {
    /// The median of the client's measurements.
    pub fn of(&self, field: fn(&Outcome) -> f64) -> Option<f64> {
        median(&mut self.runs.iter().map(|run| field(&run.outcome)).collect::<Vec<_>>())
    }
}

/// Measures and shows all cases over all peers, interleaved. Returns the failures of ZeroBuffer itself.
pub fn compare(plan: &Plan<'_>, runner: &Runner, record: &mut Record) -> Result<Vec<String>> {
    let (rows, failures) = measure(plan, runner, record)?;
    if !rows.is_empty() {
        verdict::judge(&rows);
    }
    Ok(failures)
}

/// Measures all cases over all peers, and shows what came out. Returns the failures of ZeroBuffer itself, too.
pub fn measure(plan: &Plan<'_>, runner: &Runner, record: &mut Record) -> Result<(Vec<Row>, Vec<String>)> {
    let cases = cases(plan);
    let peers = plan.transports.iter().flat_map(|&transport| Peer::of(transport)).copied();
    let bars = [Peer::Ours, Peer::Tachyon];
    let peers: Vec<Peer> = peers.filter(|peer| !plan.bars || bars.contains(peer)).collect();
    let mut failures = Vec::new();
    let mut all = Vec::new();
    for case in cases {
        let mut rows: Vec<Row> = peers
            .iter()
            .filter(|peer| peer.does(case))
            .map(|&peer| Row { case, peer, runs: Vec::new(), failure: None })
            .collect();
        // The first turn is not counted: every byte is checked.
        for turn in 0..=plan.runs {
            for row in rows.iter_mut().filter(|row| row.failure.is_none()) {
                match run(runner, row, turn == 0) {
                    Ok(_) if turn == 0 => {}
                    Ok(measured) => {
                        record.line(&json!({
                            "scenario": case, "peer": row.peer, "run": turn - 1, "line_ns": measured.line_ns,
                            "outcome": measured.outcome, "other": measured.other,
                        }))?;
                        row.runs.push(measured);
                    }
                    Err(error) => {
                        if row.peer.is_ours() {
                            failures.push(format!("{}, {}: {error:#}", row.peer.name(), case.name()));
                        }
                        row.failure = Some(format!("{error:#}"));
                    }
                }
            }
        }
        table(&rows);
        all.extend(rows);
    }
    Ok((all, failures))
}

fn run(runner: &Runner, row: &Row, verify: bool) -> Result<Measured> {
    let Case { size, callers, way } = row.case;
    let channels = runner.channels(size, zerobuffer::DEFAULT_PAYLOAD_SIZE);
    let job = |serves: bool| Job {
        peer: row.peer,
        serves,
        cpu: runner.cpus.map(|cpus| cpus[usize::from(serves)]),
        size,
        callers,
        way,
        seconds: runner.seconds,
        warm_up: runner.warm_up,
        verify,
        forth: channels.forth.clone(),
        back: channels.back.clone(),
    };
    let line_ns = runner.cpus.map_or(Ok(0.0), machine::line_round_trip)?;
    let mut players = Vec::new();
    for serves in [false, true] {
        let job = serde_json::to_string(&job(serves))?;
        let program = match row.peer {
            Peer::Python1x => Program::Script("zerobuffer_1x_duplex.py", PEER_PYTHON),
            Peer::OursCsharp if !serves => Program::Named(CSHARP_PEER),
            _ => Program::Own,
        };
        let who = if serves { "server" } else { "client" };
        players.push(runner.start(who, program, &["play-duplex", &job])?);
    }
    let [outcome, other] =
        runner.wait(players)?.try_into().map_err(|_| anyhow::anyhow!("no process reported"))?;
    Ok(Measured { outcome, other, line_ns })
}

fn table(rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    println!(
        "\n{}   (responses/s; p50, p90, p99, p99.9, max in us; CPU of server/client; ours is so many times better: \
         rate, p50)",
        first.case.name()
    );
    let ours = rows.iter().find(|row| row.peer == Peer::Ours && !row.runs.is_empty());
    for row in rows {
        let peer = row.peer.name();
        if let Some(failure) = &row.failure {
            println!("  {peer:12} failed: {failure}");
        }
        let shown = |field| row.of(field).unwrap_or(f64::NAN);
        if row.runs.is_empty() {
            continue;
        }
        let ratio = |field, rate: bool| {
            let (Some(own), other) = (ours.and_then(|ours| ours.of(field)), shown(field)) else {
                return f64::NAN;
            };
            if rate { own / other } else { other / own }
        };
        let server = median(&mut row.runs.iter().map(|run| run.other.cpu_percent).collect::<Vec<_>>());
        println!(
            "  {peer:12} {:10.0} {:9.2} {:9.2} {:9.2} {:9.1} {:9.1}  {:3.0}/{:3.0} %  {:6.2} {:6.2}",
            shown(|o| o.wall_rate),
            shown(|o| o.p50_us),
            shown(|o| o.p90_us),
            shown(|o| o.p99_us),
            shown(|o| o.p999_us),
            shown(|o| o.max_us),
            server.unwrap_or(f64::NAN),
            shown(|o| o.cpu_percent),
            ratio(|o| o.wall_rate, true),
            ratio(|o| o.p50_us, false),
        );
    }
}
