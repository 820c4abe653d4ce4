//! Plays every scenario with every ordered pair of languages. `cargo xtask conformance` builds the peers and runs it.

mod known;
mod peer;
mod play;
mod report;
mod scenario;

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;

use known::Known;
use play::{Case, Language, Outcome, Pool};
use report::{Finding, Verdict};
use scenario::Scenario;

/// Plays the conformance scenarios with every ordered pair of languages.
#[derive(Parser)]
#[command(name = "conformance")]
struct Options {
    /// A language and the command of its peer: `rust=target/debug/conformance-peer`. `1.x` is the earlier library.
    #[arg(long = "peer", required = true, value_parser = language)]
    peers: Vec<Language>,
    #[arg(long, default_value = "verification/conformance/scenarios")]
    scenarios: PathBuf,
    #[arg(long, default_value = "verification/conformance/known-failures.toml")]
    known: PathBuf,
    /// Only scenarios and cases with this in their name (`scenario` or `scenario/case`).
    #[arg(long)]
    only: Option<String>,
    /// Only one case in this many, a different share for each scenario.
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Where report.md and report.json go.
    #[arg(long)]
    report: Option<PathBuf>,
    /// Cases at a time.
    #[arg(long, default_value_t = 3)]
    jobs: usize,
    /// Print what each peer answered, even for successful cases.
    #[arg(long)]
    verbose: bool,
}

fn language(text: &str) -> Result<Language, String> {
    let (name, command) = text.split_once('=').ok_or("expected NAME=COMMAND")?;
    Ok(Language { name: name.to_owned(), command: command.split_whitespace().map(str::to_owned).collect() })
}

/// All cases that a scenario is played with.
fn cases<'a>(scenario: &Scenario, languages: &'a [Language]) -> Vec<Case<'a>> {
    let mut all = Vec::new();
    let thirds: Vec<Option<&Language>> =
        if scenario.is_chain() { languages.iter().map(Some).collect() } else { vec![None] };
    for reader in languages {
        for writer in languages {
            for third in &thirds {
                let mut these = vec![reader, writer];
                these.extend(third);
                let foreign = these.iter().filter(|language| language.is_foreign()).count();
                // ZeroBuffer promises nothing about two 1.x peers.
                if foreign > 1 || foreign > 0 && !scenario.foreign {
                    continue;
                }
                all.push(Case { languages: these.clone(), classic: false });
                if foreign == 0 && scenario.classic {
                    all.push(Case { languages: these, classic: true });
                }
            }
        }
    }
    all
}

fn verdict(outcome: &Outcome, known: Option<&Known>) -> Verdict {
    match (outcome, known) {
        (Outcome::Failed(_), Some(_)) => Verdict::Known,
        (Outcome::Failed(_), None) => Verdict::Failed,
        (Outcome::NotApplicable(_), _) => Verdict::Inapplicable,
        (Outcome::Passed, Some(known)) if !known.sometimes => Verdict::Stale,
        (Outcome::Passed, _) => Verdict::Passed,
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let scenarios = scenario::load(&options.scenarios)?;
    let known = known::load(&options.known)?;
    let mut work = Vec::new();
    for (index, scenario) in scenarios.iter().enumerate() {
        for (number, case) in cases(scenario, &options.peers).into_iter().enumerate() {
            let path = format!("{}/{}", scenario.name, case.label());
            let chosen = options.only.as_ref().is_none_or(|only| path.contains(only.as_str()));
            if chosen && (number + index).is_multiple_of(options.every) {
                work.push((index, case));
            }
        }
    }
    if work.is_empty() {
        bail!("no scenario and case is called `{}`", options.only.unwrap_or_default());
    }
    // From the end, so that the order stays that of the files.
    work.reverse();
    let start = Instant::now();
    let (work, findings) = (Mutex::new(work), Mutex::new(Vec::<Finding>::new()));
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                let mut pool = Pool::default();
                loop {
                    let next = work.lock().expect("not poisoned").pop();
                    let Some((index, case)) = next else { return };
                    let (scenario, label) = (&scenarios[index], case.label());
                    let outcome = play::play(scenario, &case, &mut pool);
                    let known = known.iter().find(|known| known.is_about(&scenario.name, &label));
                    let verdict = verdict(&outcome, known);
                    say(&scenario.name, &label, verdict, &outcome, known, options.verbose);
                    let finding = Finding { scenario: index, label, verdict };
                    findings.lock().expect("not poisoned").push(finding);
                }
            });
        }
    });
    let findings = findings.into_inner().context("a thread panicked")?;
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    println!(
        "{} scenarios, {} plays in {:.1} s: {} passed, {} known failures of 1.x, {} not applicable, {} failed, {} stale",
        scenarios.len(),
        findings.len(),
        start.elapsed().as_secs_f64(),
        count(Verdict::Passed),
        count(Verdict::Known),
        count(Verdict::Inapplicable),
        count(Verdict::Failed),
        count(Verdict::Stale)
    );
    if let Some(folder) = &options.report {
        let names = options.peers.iter().map(|peer| peer.name.clone()).collect();
        report::write(folder, &scenarios, &findings, names)?;
    }
    // A scenario that no pair of native peers can play would prove nothing.
    for (index, scenario) in scenarios.iter().enumerate() {
        let mut mine = findings.iter().filter(|finding| finding.scenario == index).peekable();
        if options.only.is_none()
            && mine.peek().is_some()
            && mine.all(|one| one.verdict == Verdict::Inapplicable)
        {
            bail!("no pair of languages can play `{}`", scenario.name);
        }
    }
    if count(Verdict::Failed) + count(Verdict::Stale) > 0 {
        bail!("{} failed, {} stale", count(Verdict::Failed), count(Verdict::Stale));
    }
    Ok(())
}

fn say(
    scenario: &str,
    label: &str,
    verdict: Verdict,
    outcome: &Outcome,
    known: Option<&Known>,
    verbose: bool,
) {
    match (verdict, outcome) {
        (Verdict::Failed, Outcome::Failed(why)) => println!("FAILED {scenario}/{label}: {why}"),
        (Verdict::Stale, _) => {
            let why = known.map_or("", |known| known.why.as_str());
            println!("STALE {scenario}/{label}: does not fail any more, take it off the list ({why})");
        }
        (Verdict::Known, Outcome::Failed(why)) if verbose => println!("known {scenario}/{label}: {why}"),
        (Verdict::Inapplicable, Outcome::NotApplicable(why)) if verbose => {
            println!("-     {scenario}/{label}: {why}");
        }
        (Verdict::Passed, _) if verbose => println!("ok    {scenario}/{label}"),
        _ => {}
    }
}
