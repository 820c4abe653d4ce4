//! Where lending begins to pay: relays, and tees with eight outputs, whose frames are lent, against such whose frames are copied.
//!
//! The library lends small frames only in a build with `--cfg fuzzing`; other builds measure those that it lends.

use anyhow::Result;
use serde_json::json;

use crate::compare::Plan;
use crate::fan::{self, Fan, Kind};
use crate::record::Record;
use crate::run::{Runner, human};
use crate::stats::median;
use crate::transport::Transport;

const SIZES: [usize; 8] = [1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10, 128 << 10];

/// What is lent without that flag.
const LENT_FROM: usize = 32 << 10;

/// A relay, and a tee.
const OUTPUTS: [usize; 2] = [1, 8];

/// Measures lent and copied frames of each size in turn, and shows their rates.
pub fn compare(plan: &Plan<'_>, runner: &Runner, record: &mut Record) -> Result<()> {
    if plan.streams || plan.only.is_none() || !plan.wants("lending") {
        return Ok(());
    }
    if !plan.transports.contains(&Transport::Ours) {
        return Ok(());
    }
    println!(
        "\nlending   (frames/s lent, copied, and the median of their ratios; every byte is written, and read by each viewer)"
    );
    println!("  {:8} {:>36} {:>36}", "", "relay", "tee with 8 outputs");
    let least = if cfg!(fuzzing) { 0 } else { LENT_FROM };
    for size in SIZES.into_iter().filter(|size| *size >= least) {
        let mut line = String::new();
        for outputs in OUTPUTS {
            let (mut rates, mut ratios) = ([Vec::new(), Vec::new()], Vec::new());
            for index in 0..plan.runs {
                for (kind, rates) in [Kind::Block, Kind::BlockCopied].into_iter().zip(&mut rates) {
                    let fan = Fan { kind, outputs, pace: 0, size, relayed: outputs == 1, reads_all: true };
                    let figures = fan::run(runner, fan)?;
                    let scenario = json!({ "kind": "lending", "fan": fan });
                    record.line(&json!({ "scenario": scenario, "run": index, "figures": figures }))?;
                    rates.push(figures.rate);
                }
                ratios.extend(rates[0].last().zip(rates[1].last()).map(|(lent, copied)| lent / copied));
            }
            let [lent, copied] = rates.map(|mut rates| median(&mut rates).unwrap_or(f64::NAN));
            let ratio = median(&mut ratios).unwrap_or(f64::NAN);
            line.push_str(&format!(" {lent:14.0} {copied:12.0} {ratio:8.2}"));
        }
        println!("  {:8}{line}", human(size));
    }
    Ok(())
}
