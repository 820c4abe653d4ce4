//! The comparison: runs every scenario with every pair that supports it, interleaved.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::bars;
use crate::duplex;
use crate::fan;
use crate::lending;
use crate::machine::Machine;
use crate::musts::{self, PICTURE};
use crate::record::Record;
use crate::report::{self, Row};
use crate::role::{self, Mode};
use crate::run::{Pair, Runner, Scenario};
use crate::single_calls;
use crate::stats::Outcome;
use crate::transport::{BENCH_PYTHON, Program, Transport};
use crate::wakeups;

/// The name of a record whose plots need none.
pub const COMPARISON: &str = "bench";

/// What to compare, and how often.
pub struct Plan<'a> {
    pub transports: &'a [Transport],
    pub sizes: &'a [usize],
    pub only: Option<&'a str>,
    pub runs: usize,
    pub quick: bool,
    /// Only streams and round trips.
    pub streams: bool,
    /// The rows and pairs of `bars.rs`.
    pub bars: bool,
    /// Prefix of the names of written files.
    pub name: &'a str,
    pub out: Option<&'a Path>,
}

/// Measures and shows everything. Returns the failures of ZeroBuffer itself.
pub fn compare(plan: &Plan<'_>, runner: &Runner) -> Result<Vec<String>> {
    let machine = Machine::describe();
    let mut record = Record::new(plan.out, &machine.date, plan.name)?;
    println!("{} | {} x {} s", machine.line(), plan.runs, runner.seconds);
    let header = json!({ "machine": machine, "runs": plan.runs, "seconds": runner.seconds, "warm_up": runner.warm_up });
    record.line(&header)?;

    let mut failures = Vec::new();
    let mut good = |pair: &Pair| match verify(plan, runner, *pair) {
        Ok(()) => true,
        Err(error) => {
            println!("{} is left out: {error:#}", pair.name());
            failures.extend(own_failure(*pair, &error));
            false
        }
    };
    let mut pairs: Vec<Pair> = plan
        .transports
        .iter()
        .copied()
        .filter(|transport| transport.streams())
        .map(Pair::same)
        .filter(&mut good)
        .collect();
    let mixed = mixed(&pairs);
    pairs.extend(mixed.into_iter().filter(&mut good));
    println!("every byte arrived, over {} pairs", pairs.len());

    let mut all = Vec::new();
    for scenario in scenarios(plan) {
        let mut rows: Vec<Row> = pairs
            .iter()
            .filter(|&&pair| plan.fits(scenario, pair))
            .map(|&pair| Row::new(scenario, pair))
            .collect();
        // Interleaved, so that changes of the machine affect all pairs equally.
        for run in 0..plan.runs {
            for row in rows.iter_mut().filter(|row| row.failure.is_none()) {
                match runner.run(scenario, row.pair) {
                    Ok(measured) => {
                        record.line(&json!({
                            "scenario": scenario, "sender": row.pair.sender, "receiver": row.pair.receiver,
                            "run": run, "line_ns": measured.line_ns, "outcome": measured.outcome,
                            "other": measured.other,
                        }))?;
                        row.runs.push(measured);
                    }
                    Err(error) => {
                        failures.extend(own_failure(row.pair, &error));
                        row.failure = Some(format!("{error:#}"));
                    }
                }
            }
        }
        report::table(&rows);
        all.extend(rows);
    }

    if plan.bars {
        let (requests, failed) = duplex::measure(plan, runner, &mut record)?;
        failures.extend(failed);
        bars::judge(&all, &requests);
        return Ok(failures);
    }
    let csharp = plan.transports.contains(&Transport::OursCsharp);
    if !plan.streams || csharp {
        failures.extend(duplex::compare(plan, runner, &mut record)?);
    }
    duplex::mutable::compare(plan, runner, &mut record)?;
    wakeups::compare(plan, runner, &mut record)?;
    fan::compare(plan, runner, &mut record)?;
    lending::compare(plan, runner, &mut record)?;
    if plan.quick {
        println!("\nThis was a quick run: its figures mean little.");
    }
    if !all.is_empty() {
        musts::judge(&all, (plan.only.is_none() && !plan.streams).then_some(plan.transports));
    }
    if plan.wants("python overhead") && plan.transports.contains(&Transport::OursPython) {
        let script = "ours_python_overhead.py";
        let player = runner.start(script, Program::Script(script, BENCH_PYTHON), &[])?;
        if let Some(outcome) = runner.wait::<Outcome>(vec![player])?.into_iter().next() {
            musts::judge_python(outcome.p50_us);
            record.line(&json!({ "scenario": { "kind": "python-overhead" }, "outcome": outcome }))?;
        }
    }
    if plan.wants("single calls") && csharp {
        single_calls::compare(plan, runner, &mut record)?;
    }
    if plan.wants("creation") && !plan.streams {
        let channels = runner.channels(64, zerobuffer::DEFAULT_PAYLOAD_SIZE);
        let (outcome, resident) = role::creations(&channels.forth.name, if plan.quick { 20 } else { 200 })?;
        musts::judge_creation(outcome.p50_us, resident);
        record.line(
            &json!({ "scenario": { "kind": "creation" }, "resident_kib": resident, "outcome": outcome }),
        )?;
    }
    for (name, plot) in report::plots(&all) {
        let name = if plan.name == COMPARISON { name } else { format!("{}-{name}", plan.name) };
        record.plot(&name, &plot)?;
    }
    Ok(failures)
}

impl Plan<'_> {
    fn fits(&self, scenario: Scenario, pair: Pair) -> bool {
        scenario.fits(pair) && (!self.bars || bars::wants(scenario, pair))
    }

    pub fn wants(&self, name: &str) -> bool {
        self.only.is_none_or(|only| name.contains(only))
    }
}

/// A failure between rivals belongs to them. A failure of a pair with a ZeroBuffer side counts as a failure of
/// ZeroBuffer.
fn own_failure(pair: Pair, error: &anyhow::Error) -> Option<String> {
    let ours = pair.sender.is_ours() || pair.receiver.is_ours();
    ours.then(|| format!("{}: {error:#}", pair.name()))
}

/// Sends frames whose every byte is checked, of the sizes that will be measured.
fn verify(plan: &Plan<'_>, runner: &Runner, pair: Pair) -> Result<()> {
    let wanted = scenarios(plan);
    let mut sizes: Vec<usize> =
        wanted.into_iter().filter(|&scenario| plan.fits(scenario, pair)).map(Scenario::size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    for size in sizes {
        runner.run(Scenario::Stream { size, mode: Mode::Verify }, pair)?;
    }
    Ok(())
}

/// ZeroBuffer beside a 1.x peer, if both are there.
fn mixed(pairs: &[Pair]) -> Vec<Pair> {
    let there = |transport| pairs.contains(&Pair::same(transport));
    if !there(Transport::Ours) || !there(Transport::Python1x) {
        return Vec::new();
    }
    vec![
        Pair { sender: Transport::Ours, receiver: Transport::Python1x },
        Pair { sender: Transport::Python1x, receiver: Transport::Ours },
    ]
}

fn scenarios(plan: &Plan<'_>) -> Vec<Scenario> {
    if plan.bars {
        return bars::scenarios().into_iter().filter(|scenario| plan.wants(&scenario.name())).collect();
    }
    let mut scenarios = Vec::new();
    // In a quick run, one size shows that the minor modes work.
    let few = if plan.quick { plan.sizes.get(..1).unwrap_or_default() } else { plan.sizes };
    for (mode, sizes) in [
        (Mode::Copy, plan.sizes),
        (Mode::CopyIn, plan.sizes),
        (Mode::InPlace, plan.sizes),
        (Mode::Marked, few),
        (Mode::Checksum, few),
    ] {
        scenarios.extend(sizes.iter().map(|&size| Scenario::Stream { size, mode }));
    }
    scenarios.extend([
        Scenario::RoundTrip { size: 64, pace: 0 },
        Scenario::RoundTrip { size: 64, pace: 1000 },
        Scenario::RoundTrip { size: PICTURE, pace: 0 },
        Scenario::Relay { size: PICTURE, pace: 60, work: 0 },
        Scenario::Relay { size: PICTURE, pace: 60, work: 10 },
        Scenario::RelayedStream { size: 65_536 },
        Scenario::RelayedStream { size: PICTURE },
        Scenario::IdleReader,
    ]);
    let streams =
        |scenario: &Scenario| matches!(scenario, Scenario::Stream { .. } | Scenario::RoundTrip { .. });
    scenarios.retain(|scenario| plan.wants(&scenario.name()) && (!plan.streams || streams(scenario)));
    scenarios
}
