//! Kills and restarts at random, of either side of streams and duplex channels over both kinds of ring, and of each process of
//! chains with payload sharing, with real processes; counts everything. `cargo xtask soak` runs it.
//!
//! Lanes are processes of one thread, each with a buffer or channel of its own; the peers are forked from them, so that a
//! kill and a restart cost some milliseconds, most of which is the time that a survivor takes to notice.

mod account;
mod chain;
mod clean;
mod content;
mod duplex;
mod lane;
mod ledger;
mod links;
mod peers;
mod process;
mod report;
mod stream;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Parser;

use content::Random;
use lane::{Failure, Lane, remove_files};
use ledger::{Ledger, Totals};
use process::{Child, fork};

/// Kills peers at random and counts what happens to the others.
#[derive(Parser)]
#[command(name = "soak")]
struct Options {
    /// Ends after so many minutes of work (without either, after one).
    #[arg(long)]
    minutes: Option<f64>,
    /// Ends after so many kills.
    #[arg(long)]
    kills: Option<u64>,
    /// Streams, channels and chains at work at once; a fifth each of streams and channels, extended and classic, and of chains,
    /// of which every second one has a tee.
    #[arg(long, default_value_t = 10)]
    lanes: u64,
    /// Chains alone in all lanes.
    #[arg(long)]
    chains: bool,
    /// Without a lane of cleaners.
    #[arg(long)]
    no_cleaner: bool,
    /// The command of the peer in C#, which then takes the place of some peers.
    #[arg(long, value_name = "COMMAND", value_delimiter = ' ')]
    csharp: Vec<String>,
    /// Repeats the choices of another run, though not its timing.
    #[arg(long)]
    seed: Option<u64>,
    /// Seconds between lines of progress.
    #[arg(long, default_value_t = 10)]
    every: u64,
    /// Where the summary goes, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(process::now);
    // SAFETY: atomics alone.
    #[allow(unsafe_code)]
    let totals: &Totals = unsafe { process::shared() };
    println!("seed {seed}, {} lanes", options.lanes);
    let cleaner = !options.no_cleaner;
    let csharp: &'static [String] = options.csharp.leak();
    // Of ten lanes the fifth is a chain, and the tenth one with a tee.
    let spread = |index| if options.chains { index * 5 + 4 } else { index };
    let mut lanes: Vec<Child> =
        (0..options.lanes).map(|index| start_lane(spread(index), seed, totals, cleaner, csharp)).collect();
    let mut cleaners: Vec<Child> = cleaner.then(|| start_cleaner(seed, totals)).into_iter().collect();
    // Not earlier: the lanes ignore it.
    let interrupted = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted))?;
    signal_hook::flag::register(signal_hook::consts::SIGTERM, Arc::clone(&interrupted))?;

    let begun = Instant::now();
    // Time in which this process was not stopped.
    let mut worked = Duration::ZERO;
    let mut said = Duration::ZERO;
    let minutes = options.minutes.or_else(|| options.kills.is_none().then_some(1.0));
    let is_over = |worked: Duration| {
        minutes.is_some_and(|minutes| worked.as_secs_f64() >= minutes * 60.0)
            || options.kills.is_some_and(|kills| totals.all_kills() >= kills)
    };
    while !is_over(worked) && !interrupted.load(SeqCst) {
        let before = Instant::now();
        std::thread::sleep(Duration::from_millis(100));
        worked += before.elapsed().min(Duration::from_secs(1));
        if (worked - said).as_secs() >= options.every {
            said = worked;
            println!("{}", report::line(totals, worked));
        }
    }
    for (stop, children) in [(1, &mut lanes), (2, &mut cleaners)] {
        totals.stop.store(stop, SeqCst);
        for child in children {
            while child.ended().is_none() {
                std::thread::sleep(Duration::from_millis(10));
            }
            if child.ended() != Some(process::End::Exit(0)) {
                totals.fail(&format!("a lane ended with {:?}", child.ended()));
            }
        }
    }
    let summary = report::Summary::of(totals, seed, options.lanes, worked, begun.elapsed());
    let json = serde_json::to_string_pretty(&summary)?;
    println!("{json}");
    if let Some(path) = &options.json {
        std::fs::write(path, json + "\n")?;
    }
    if summary.failures > 0 {
        bail!("{} failures", summary.failures);
    }
    if summary.kills == 0 || summary.frames_delivered == 0 {
        bail!("the soak killed or delivered nothing, so it shows nothing");
    }
    if !options.chains && summary.requests_answered == 0 {
        bail!("no request was answered, so the soak shows nothing of channels");
    }
    let chains = options.chains || options.lanes >= 5;
    if chains && (summary.frames_shared == 0 || summary.held_frames_compared == 0) {
        bail!("the soak shared or compared nothing, so it shows nothing of chains");
    }
    if !csharp.is_empty() && summary.kills_of_csharp_peers == 0 {
        bail!("the soak killed no peer in C#, so it shows nothing of them");
    }
    Ok(())
}

/// Prefix of all names of this run.
fn prefix(run: u32) -> String {
    format!("soak-zbtest-{run}-")
}

fn start_cleaner(seed: u64, totals: &'static Totals) -> Child {
    // SAFETY: atomics alone.
    #[allow(unsafe_code)]
    let ledger: &Ledger = unsafe { process::shared() };
    let prefix = prefix(std::process::id());
    fork(move || {
        process::ignore_interrupts();
        let mut lane = Lane::new("cleaners".to_owned(), false, seed, ledger, totals);
        if let Err(Failure(what)) = clean::run(&mut lane, &prefix) {
            totals.fail(&format!("cleaners: {what}"));
        }
    })
}

fn start_lane(
    index: u64,
    seed: u64,
    totals: &'static Totals,
    has_cleaner: bool,
    csharp: &'static [String],
) -> Child {
    // SAFETY: atomics alone.
    #[allow(unsafe_code)]
    let ledger: &Ledger = unsafe { process::shared() };
    let own = std::process::id();
    fork(move || {
        process::ignore_interrupts();
        let (kind, classic) = (index % 5 / 2, index % 5 % 2 == 1);
        let mut random = Random(seed ^ index << 32);
        let mut tries = 0;
        while !totals.is_stopped() {
            let name = format!("{}{index}-{tries}", prefix(own));
            let mut buffers = vec![name.clone(), format!("{name}_request"), format!("{name}_response")];
            buffers.extend(links::names(&name));
            let mut lane = Lane::new(name, classic, random.next(), ledger, totals);
            lane.has_cleaner = has_cleaner;
            lane.csharp = csharp;
            let outcome = match kind {
                0 => stream::run(&mut lane),
                1 => duplex::run(&mut lane),
                _ => chain::run(&mut lane, index % 10 == 9),
            };
            if let Err(Failure(what)) = outcome {
                totals.fail(&format!("{} after salt {}: {what}", lane.name, lane.salt));
                for buffer in &buffers {
                    eprintln!("{buffer}: {:?}", zerobuffer::inspect::snapshot(buffer));
                }
            }
            remove_files(&buffers);
            tries += 1;
        }
    })
}
