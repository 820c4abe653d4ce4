//! Measures ZeroBuffer and its rivals between two processes; docs/BENCHMARKS.md says how and why.

mod machine;
mod role;
mod run;
mod stats;
mod transport;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;

use crate::machine::Machine;
use crate::role::{Job, Mode};
use crate::run::{Measured, Pair, Runner, Scenario};
use crate::stats::{Outcome, median};
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
    /// Runs of each pair, one after the other in turn; the medians count
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Length of a run, without the warm-up
    #[arg(long, default_value_t = 0.8)]
    seconds: f64,
    /// What to compare (default: all; python-1x if ZEROBUFFER_PEER_PYTHON names a Python that has zerobuffer-ipc)
    #[arg(long, value_enum, value_delimiter = ',')]
    transports: Vec<Transport>,
    /// Frame sizes of the streams
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1024, 65_536, 3_110_400])]
    sizes: Vec<usize>,
    /// Only the rows whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Processors of producer and consumer
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1])]
    cpus: Vec<usize>,
    /// Write every single run to this file, one JSON object a line, the machine's description first
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Action {
    /// One process of a run (what this program starts itself as)
    #[command(hide = true)]
    Play { job: String },
}

fn main() -> ExitCode {
    match act() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Action::Play { job }) = arguments.command {
        let job: Job = serde_json::from_str(&job)?;
        let outcome = role::play(&job).with_context(|| format!("{:?} over {:?}", job.role, job.transport))?;
        println!("{}", serde_json::to_string(&outcome)?);
        return Ok(());
    }
    bench(&arguments)
}

/// A line of the table: one scenario, measured over one pair.
struct Row {
    scenario: Scenario,
    pair: Pair,
    outcomes: Vec<Measured>,
}

fn bench(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.sizes.iter().all(|&size| size >= role::MIN_SIZE), "sizes start at {}", role::MIN_SIZE);
    let (runs, seconds, warm_up) =
        if arguments.quick { (1, 0.15, 0.05) } else { (arguments.runs, arguments.seconds, 0.2) };
    let cpus: [usize; 2] = arguments.cpus.as_slice().try_into().context("--cpus takes two numbers")?;
    let enough = std::thread::available_parallelism()?.get() > 1;
    if !enough {
        eprintln!("note: there is one processor only, so producer and consumer share it");
    }
    let runner = Runner::new(enough.then_some(cpus), seconds, warm_up)?;

    let machine = Machine::describe();
    println!(
        "{} | {} | {} cores | Linux {} | load {} | commit {} | {runs} x {seconds} s",
        machine.date, machine.cpu, machine.cores, machine.kernel, machine.load, machine.commit
    );
    let mut json =
        arguments.json.as_ref().map(File::create).transpose().context("cannot write the JSON file")?;
    let mut record = |value: serde_json::Value| -> Result<()> {
        json.as_mut().map_or(Ok(()), |file| writeln!(file, "{value}")).context("cannot write the JSON file")
    };
    record(json!({ "machine": machine, "runs": runs, "seconds": seconds, "warm_up": warm_up }))?;

    let pairs = pairs(arguments);
    for &pair in &pairs {
        for &size in &arguments.sizes {
            let verify = Scenario::Stream { size, mode: Mode::Verify };
            if wanted(arguments, verify) {
                runner
                    .run(verify, pair)
                    .with_context(|| format!("{} over {}", verify.name(), pair.name()))?;
            }
        }
    }
    println!("every byte arrived, over {} pairs", pairs.len());

    for scenario in scenarios(arguments) {
        let rows = pairs.iter().copied().filter(|&pair| scenario.fits(pair)).map(|pair| Row {
            scenario,
            pair,
            outcomes: vec![],
        });
        let mut rows: Vec<Row> = rows.collect();
        // Interleaved, so that what the machine does meanwhile hits all alike.
        for run in 0..runs {
            for row in &mut rows {
                let outcome = runner
                    .run(scenario, row.pair)
                    .with_context(|| format!("{} over {}", scenario.name(), row.pair.name()))?;
                record(json!({
                    "scenario": scenario, "sender": row.pair.sender, "receiver": row.pair.receiver, "run": run,
                    "outcome": outcome.outcome, "other": outcome.other,
                }))?;
                row.outcomes.push(outcome);
            }
        }
        print_rows(&rows);
    }
    if arguments.only.as_ref().is_none_or(|only| "creation".contains(only.as_str())) {
        let channels = runner.channels(64, zerobuffer::DEFAULT_PAYLOAD_SIZE);
        let (outcome, resident) =
            role::creations(&channels.forth.name, if arguments.quick { 20 } else { 200 })?;
        println!(
            "\ncreation of a 256 MiB buffer: p50 {:.3} ms, p99 {:.3} ms, {} KiB resident",
            outcome.p50_us / 1000.0,
            outcome.p99_us / 1000.0,
            resident
        );
        record(json!({ "scenario": { "kind": "creation" }, "resident_kib": resident, "outcome": outcome }))?;
    }
    Ok(())
}

fn pairs(arguments: &Arguments) -> Vec<Pair> {
    let mut transports = arguments.transports.clone();
    if transports.is_empty() {
        transports = Transport::value_variants().to_vec();
        transports.retain(|transport| transport.missing().is_none());
    }
    let mut pairs: Vec<Pair> =
        transports.iter().map(|&transport| Pair { sender: transport, receiver: transport }).collect();
    if transports.contains(&Transport::Ours) && transports.contains(&Transport::Python1x) {
        pairs.push(Pair { sender: Transport::Ours, receiver: Transport::Python1x });
        pairs.push(Pair { sender: Transport::Python1x, receiver: Transport::Ours });
    }
    pairs
}

fn scenarios(arguments: &Arguments) -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    for mode in [Mode::Copy, Mode::InPlace] {
        scenarios.extend(arguments.sizes.iter().map(|&size| Scenario::Stream { size, mode }));
    }
    scenarios.push(Scenario::RoundTrip { size: 64, pace: 0 });
    scenarios.push(Scenario::RoundTrip { size: 64, pace: 1000 });
    scenarios.push(Scenario::RoundTrip { size: 3_110_400, pace: 0 });
    scenarios.push(Scenario::Relay { size: 3_110_400, pace: 60 });
    scenarios.push(Scenario::IdleReader);
    scenarios.retain(|&scenario| wanted(arguments, scenario));
    scenarios
}

fn wanted(arguments: &Arguments, scenario: Scenario) -> bool {
    arguments.only.as_ref().is_none_or(|only| scenario.name().contains(only.as_str()))
}

/// Medians of the runs, one line a pair.
fn print_rows(rows: &[Row]) {
    let Some(first) = rows.first() else { return };
    println!("\n{}", first.scenario.name());
    for row in rows {
        let of = |field: fn(&Outcome) -> f64| {
            median(&mut row.outcomes.iter().map(|run| field(&run.outcome)).collect::<Vec<_>>())
                .unwrap_or_default()
        };
        let pair = row.pair.name();
        match row.scenario {
            Scenario::Stream { size, mode } => {
                let bytes = |rate: f64| match mode {
                    Mode::InPlace => String::new(),
                    _ => format!("{:8.2} GB/s", rate * size as f64 / 1e9),
                };
                let (active, wall) = (of(|o| o.active_rate), of(|o| o.wall_rate));
                let lowest = row.outcomes.iter().map(|o| o.outcome.active_rate).fold(f64::INFINITY, f64::min);
                let highest = row.outcomes.iter().map(|o| o.outcome.active_rate).fold(0.0, f64::max);
                println!(
                    "  {pair:18} active {:10.4} M/s {}  ({:.4} to {:.4})  wall {:10.4} M/s {}",
                    active / 1e6,
                    bytes(active),
                    lowest / 1e6,
                    highest / 1e6,
                    wall / 1e6,
                    bytes(wall)
                );
            }
            Scenario::RoundTrip { .. } | Scenario::Relay { .. } => println!(
                "  {pair:18} p50 {:8.2} us  p90 {:8.2}  p99 {:8.2}  p99.9 {:9.2}  max {:9.1}  echo's CPU {:5.1} %",
                of(|o| o.p50_us),
                of(|o| o.p90_us),
                of(|o| o.p99_us),
                of(|o| o.p999_us),
                of(|o| o.max_us),
                of(|o| o.cpu_percent)
            ),
            Scenario::IdleReader => println!("  {pair:18} CPU {:.2} %", of(|o| o.cpu_percent)),
        }
    }
}
