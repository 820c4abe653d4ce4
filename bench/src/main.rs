//! Measures ZeroBuffer and its rivals between two processes; docs/BENCHMARKS.md says how and why.

mod bars;
mod compare;
mod curves;
mod duplex;
mod fan;
mod large;
mod lending;
mod machine;
mod musts;
mod record;
mod report;
mod role;
mod run;
mod single_calls;
mod stats;
mod svg;
mod transport;
mod wakeups;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use crate::compare::Plan;
use crate::machine::Machine;
use crate::record::Record;
use crate::run::Runner;
use crate::transport::Transport;

#[derive(Parser)]
#[command(
    about = "Measures ZeroBuffer and its rivals between two processes",
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Action>,
    /// One short run of everything, to see that it works and that every byte arrives; the figures mean little
    #[arg(long)]
    quick: bool,
    /// Instead of the comparison: ZeroBuffer alone, against frame size, buffer size, number of buffers,
    /// frames kept
    #[arg(long)]
    curves: bool,
    /// Instead of the comparison: how near ZeroBuffer comes to bare rings, and how far ahead of Tachyon, iceoryx2 and shmem-ipc,
    /// for each state of the machine
    #[arg(long)]
    bars: bool,
    /// Runs of each pair, one after the other in turn; the medians count [default: 7; of a curve's points 3]
    #[arg(long)]
    runs: Option<usize>,
    /// Length of a run, without the warm-up [default: 0.5; with --bars 0.2]
    #[arg(long)]
    seconds: Option<f64>,
    /// What to compare (default: all that this program was built with; what is written in other languages if the variables
    /// are set that `cargo xtask bench --rivals`, `--cpp`, `--csharp` and `--python` set)
    #[arg(long, value_enum, value_delimiter = ',')]
    transports: Vec<Transport>,
    /// Frame sizes of the streams
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1024, 65_536, 1 << 20, 3_110_400])]
    sizes: Vec<usize>,
    /// Bytes of ZeroBuffer's buffers [default: the library's]
    #[arg(long)]
    payload: Option<usize>,
    /// Only streams and round trips, without the measures that only Rust has
    #[arg(long)]
    streams: bool,
    /// Only the rows, or curves, whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Processors of producer and consumer
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1])]
    cpus: Vec<usize>,
    /// Name of the file of JSON lines, after the date; plots have it too
    #[arg(long, default_value = compare::COMPARISON)]
    name: String,
    /// Write every single run (JSON lines, the machine's description first) and plots (SVG) to this folder [default:
    /// bench/records for complete runs, else none]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Action {
    /// One process of a run (what this program starts itself as)
    #[command(hide = true)]
    Play { job: String },
    /// One process of a run of requests and responses (what this program starts itself as)
    #[command(hide = true)]
    PlayDuplex { job: String },
    /// One process of a wake-up (what this program starts itself as)
    #[command(hide = true)]
    PlayWakeup { job: String },
    /// Frames of 16 and 64 MB from a fresh buffer, against memcpy between two processes
    Large {
        /// Runs of each, in turn; the medians count
        #[arg(long, default_value_t = 7)]
        runs: usize,
        /// Write every single run (JSON lines) to this folder
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
    },
    /// One process of a run of large frames (what this program starts itself as)
    #[command(hide = true)]
    PlayLarge { job: String },
    /// One process of a tee (what this program starts itself as)
    #[command(hide = true)]
    PlayFan { job: String },
    /// Rust's side of what C# adds to single calls
    #[command(hide = true)]
    SingleCalls,
}

fn main() -> ExitCode {
    match act(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(arguments: &Arguments) -> Result<()> {
    if let Some(action) = &arguments.command {
        let outcome = match action {
            Action::Play { job } => serde_json::to_string(&role::play(&serde_json::from_str(job)?)?),
            Action::PlayDuplex { job } => serde_json::to_string(&duplex::play(&serde_json::from_str(job)?)?),
            Action::PlayWakeup { job } => serde_json::to_string(&wakeups::play(&serde_json::from_str(job)?)?),
            Action::PlayLarge { job } => serde_json::to_string(&large::play(&serde_json::from_str(job)?)?),
            Action::Large { runs, out } => return large(*runs, out.as_deref()),
            Action::PlayFan { job } => serde_json::to_string(&fan::play(&serde_json::from_str(job)?)?),
            Action::SingleCalls => serde_json::to_string(&single_calls::measure()?),
        }?;
        println!("{outcome}");
        return Ok(());
    }
    ensure!(arguments.sizes.iter().all(|&size| size >= role::MIN_SIZE), "sizes start at {}", role::MIN_SIZE);
    let (seconds, warm_up) = if arguments.quick {
        (0.12, 0.03)
    } else {
        (arguments.seconds.unwrap_or(if arguments.bars { 0.2 } else { 0.5 }), 0.15)
    };
    let cpus: [usize; 2] = arguments.cpus.as_slice().try_into().context("--cpus takes two numbers")?;
    let enough = std::thread::available_parallelism()?.get() > 1;
    if !enough {
        eprintln!("note: there is one processor only, so producer and consumer share it");
    }
    let mut runner = Runner::new(enough.then_some(cpus), seconds, warm_up)?;
    runner.payload = arguments.payload.unwrap_or(runner.payload);
    let usual = arguments.only.is_none() && arguments.transports.is_empty() && arguments.payload.is_none();
    let usual = usual && !arguments.bars;
    let complete = !arguments.quick && usual;
    let docs = complete.then(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("records"));
    let out = arguments.out.clone().or(docs);
    let runs = |usual| if arguments.quick { 1 } else { arguments.runs.unwrap_or(usual) };
    let plan = Plan {
        transports: &transports(arguments)?,
        sizes: &arguments.sizes,
        only: arguments.only.as_deref(),
        runs: runs(if arguments.curves { 3 } else { 7 }),
        quick: arguments.quick,
        streams: arguments.streams,
        bars: arguments.bars,
        name: &arguments.name,
        out: out.as_deref(),
    };
    if arguments.curves {
        return curves::curves(&mut runner, &plan);
    }
    let failures = compare::compare(&plan, &runner)?;
    ensure!(failures.is_empty(), "ours failed:\n{}", failures.join("\n"));
    Ok(())
}

/// Large frames only.
fn large(runs: usize, out: Option<&Path>) -> Result<()> {
    let enough = std::thread::available_parallelism()?.get() > 1;
    let runner = Runner::new(enough.then_some([0, 1]), 0.0, 0.0)?;
    let mut record = Record::new(out, &Machine::describe().date, "large")?;
    large::compare(&runner, runs, &mut record)
}

/// Those that were asked for, or all that this program has, with a word on those that it has not. Yardsticks, which are no rivals,
/// have to be asked for.
fn transports(arguments: &Arguments) -> Result<Vec<Transport>> {
    for &transport in &arguments.transports {
        if let Some(why) = transport.missing() {
            bail!(
                "{} needs {why}; `cargo xtask bench --rivals --cpp --csharp --python` builds all that this machine can",
                transport.name()
            );
        }
    }
    if !arguments.transports.is_empty() {
        return Ok(arguments.transports.clone());
    }
    let all = match arguments.bars {
        true => bars::TRANSPORTS.to_vec(),
        false => Transport::value_variants()
            .iter()
            .copied()
            .filter(|transport| !transport.is_yardstick())
            .collect(),
    };
    let (there, missing): (Vec<Transport>, Vec<Transport>) =
        all.into_iter().partition(|transport| transport.missing().is_none());
    for transport in missing {
        println!("{} is left out: it needs {}", transport.name(), transport.missing().unwrap_or_default());
    }
    Ok(there)
}
