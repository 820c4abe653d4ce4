//! `cargo xtask model`: runs the Promela models of verification/models under spin, and shows that each
//! measure of the protocol is needed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools::{self, run};

/// A model, its definitions for `-D`, and whether it must hold. If not, spin must find a fault, because a
/// measure is left out or a known limit is shown.
type Check = (&'static str, &'static [&'static str], bool);

const CHECKS: &[Check] = &[
    ("entry", &["OLDS=1"], true),
    ("entry", &["OLDS=2"], true),
    ("entry", &["OLDS=1", "NO_MARK"], false),
    ("entry", &["OLDS=1", "SWAP"], false),
    ("entry", &["OLDS=1", "NO_SECOND_LOOK"], false),
    ("entry", &["OLDS=1", "NO_REPAIR"], false),
    ("entry", &["OLDS=1", "NO_UNDO"], false),
    ("entry", &["OLDS=1", "PER_OLD=3", "NOBODY_LOOKS"], false),
    ("bell", &[], true),
    ("bell", &["FENCED"], true),
    ("bell", &["REFUSED"], true),
    ("bell", &["NEVER_MISSES", "NO_SECOND_LOOK"], true),
    ("bell", &["SOON"], true),
    ("bell", &["SOON", "RINGS_ONLY"], true),
    ("bell", &["NO_SECOND_LOOK"], false),
    ("bell", &["NEVER_MISSES", "NO_SECOND_LOOK", "NO_BARRIER"], false),
    ("bell", &["NEVER_MISSES", "NO_SECOND_LOOK", "REFUSED"], false),
    ("bell", &["FENCED", "SLEEPER_NEVER_FENCES"], false),
    ("bell", &["FENCED", "NEVER_FENCES"], false),
    ("bell", &["NEWS_BEFORE_ARMING"], false),
    ("bell", &["NO_WORDS"], false),
    ("bell", &["NO_ROUSE"], false),
    ("bell", &["NO_LAST_RING"], false),
    ("bell", &["LOOK_ONCE"], false),
    ("bell", &["SOON", "NO_LOCK"], false),
    ("bell", &["SOON", "RINGS_ONLY", "NO_BELL"], false),
    ("descriptor", &["WRITERS=1"], true),
    ("descriptor", &["WRITERS=1", "FRAMES=2", "CALLS=0", "NEVER_MISSES"], true),
    ("descriptor", &["CALLS=0", "LOOKS=0", "NEVER_MISSES", "ALWAYS_OPENS"], true),
    ("descriptor", &["WRITERS=1", "CALLS=0", "ALWAYS_OPENS", "NEVER_MISSES", "NO_LISTENER"], true),
    (
        "descriptor",
        &["WRITERS=1", "CALLS=0", "ALWAYS_OPENS", "NEVER_MISSES", "NO_LISTENER", "DRAINS_BEHIND"],
        false,
    ),
    ("descriptor", &["WRITERS=1", "CALLS=0", "NO_LISTENER"], false),
    ("descriptor", &["WRITERS=1", "FRAMES=2", "CALLS=0", "NEVER_MISSES", "NO_TURN"], false),
    ("descriptor", &["WRITERS=1", "NO_LOOK_BEHIND"], false),
    ("descriptor", &["WRITERS=1", "NEWS_BEFORE_ARMING"], false),
    ("descriptor", &["WRITERS=1", "LEAVES_SILENTLY"], false),
    ("descriptor", &["WRITERS=1", "WAKE_ONE"], false),
    ("descriptor", &["WRITERS=1", "CALLS=0", "NO_LOOK_LATER"], false),
    ("descriptor", &["WRITERS=1", "FRAMES=0", "NO_ROUSE"], false),
    ("descriptor", &["CALLS=0", "LOOKS=0", "NEVER_MISSES", "RINGS_ONLY", "NO_BELL"], false),
    ("lend", &["M=2", "N=1", "ONE_RELAY", "ONE_READER"], true),
    ("lend", &["M=3", "N=2", "ONE_RELAY", "ONE_READER"], true),
    ("lend", &["M=2", "N=1", "ONE_RELAY", "NO_BORROWER_LOCK"], false),
    ("lend", &["M=2", "N=1", "ONE_RELAY", "LOCK_WITH_ROLE"], false),
    ("lend", &["M=2", "N=1", "ONE_RELAY", "LOCK_WITH_HANDLES"], false),
    ("lend", &["M=2", "N=1", "ONE_RELAY", "FIFO_IN_WRITER"], false),
    ("lend", &["M=2", "N=1", "ONE_RELAY", "FIFO_DROPPED_AT_CLOSE"], false),
    ("lend", &["M=2", "N=1", "ONE_RELAY", "ACCEPT_BEFORE_LOCK"], false),
    ("lend", &["M=2", "N=1", "ONE_RELAY", "NO_HANDSHAKE"], false),
    ("lend", &["M=2", "M2=1", "N=1", "ONE_READER", "LEAN", "SOURCE_BY_OFFER"], false),
    ("chain", &["ONE_HOP"], true),
    ("chain", &["TOLD"], true),
    ("chain", &[], false),
    ("tee", &["COPY", "M=3"], true),
    ("tee", &["POOL", "M=3"], true),
    ("tee", &["POOL", "REMOVED", "M=3"], true),
    ("tee", &["POOL", "REMOVED", "M=3", "FORGETS"], false),
    ("tee", &["POOL", "REMOVED", "M=3", "TAKES"], false),
    ("tee", &["POOL", "REMOVED", "M=5", "WAITS"], false),
    ("tee", &["LEND"], false),
    ("tee", &["LEND", "SHARE"], false),
    ("duplex", &["DRAIN"], true),
    ("duplex", &[], false),
    ("duplex", &["HALF"], false),
    ("duplex", &["DRAIN", "FORGETS"], false),
    ("adopt", &["WAIT_OUT"], true),
    ("adopt", &["WAIT_IN"], true),
    ("adopt", &[], false),
    ("twobell", &["OWN_BELL"], true),
    ("twobell", &[], false),
    ("left", &[], true),
    ("left", &["NO_SLICES"], false),
    ("left", &["STILL_SETS"], false),
    ("left", &["NO_CALL"], false),
    ("left", &["RINGS_FIRST"], false),
    ("left", &["SAME_VALUE"], false),
    ("oldest", &["L=2", "NO_FRAME"], true),
    ("oldest", &["NO_LOOK"], false),
    ("oldest", &["STAYS"], false),
    ("oldest", &["NO_TEST"], false),
    ("oldest", &["TESTS_FIRST"], false),
    ("oldest", &["OWN_LATE"], false),
    ("oldest", &["NO_CALL"], false),
    ("oldest", &["FIRST_CALLS"], false),
    ("oldest", &["CALLS_EARLY"], false),
    ("oldest", &["NO_RING"], false),
    ("turns", &["A_CALLS", "B_CALLS"], true),
    ("turns", &["A_CALLS"], true),
    ("turns", &["B_CALLS"], true),
    ("turns", &["SAME", "A_CALLS"], true),
    ("turns", &["A_CALLS", "B_CALLS", "OWN_TURNS"], false),
    ("turns", &["B_CALLS", "NO_LOCK"], false),
    ("turns", &["B_CALLS", "SILENT"], false),
    ("turns", &["B_CALLS", "CLOSED_FIRST"], false),
    ("turns", &["A_CALLS", "B_CALLS", "NO_SLICES"], false),
    ("turns", &["SAME", "A_CALLS", "NAMES"], false),
    ("turns", &["SAME", "A_CALLS", "RUNG_FLAGS"], false),
    ("turns", &["SAME", "A_CALLS", "B_CALLS", "SETS_AWAKE"], false),
];

/// Models whose processes may stand still at the end of a search: their assertions say who may.
const MAY_STAND_STILL: [&str; 7] = ["lend", "chain", "tee", "duplex", "adopt", "oldest", "turns"];

pub(crate) fn command(root: &Path, models: &[String]) -> Result<()> {
    if let Some(unknown) = models.iter().find(|name| CHECKS.iter().all(|(model, ..)| model != name)) {
        bail!("there is no model `{unknown}`");
    }
    tools::need_by("spin", "-V", "spin")?;
    tools::need("gcc", "gcc")?;
    let folder = root.join("target/model");
    std::fs::create_dir_all(&folder)?;
    let log =
        std::fs::read_to_string(root.join("verification/models/LOG.md")).context("cannot read the log")?;
    let mut rows = Vec::new();
    let is_wanted = |model: &str| models.is_empty() || models.iter().any(|name| name == model);
    for check in CHECKS.iter().filter(|(model, ..)| is_wanted(model)) {
        let (model, definitions, _) = check;
        let states = one(root, &folder, check).with_context(|| format!("model `{model}` {definitions:?}"))?;
        rows.push(format!("| {model} | {} | {states} |", definitions.join(", ")).replace("|  |", "| |"));
        println!("{}", rows.last().expect("just pushed"));
    }
    let missing: Vec<&String> = rows.iter().filter(|row| !log.contains(row.as_str())).collect();
    if !missing.is_empty() {
        bail!("verification/models/LOG.md does not say so: {missing:#?}");
    }
    println!("{} searches came out as verification/models/LOG.md says", rows.len());
    Ok(())
}

/// Searches all states. Returns their number.
fn one(root: &Path, folder: &Path, (model, definitions, holds): &Check) -> Result<String> {
    let file = root.join("verification/models").join(model).with_extension("pml");
    let definitions = definitions.iter().map(|definition| format!("-D{definition}"));
    run(Command::new("spin").current_dir(folder).args(definitions).arg("-a").arg(&file))?;
    let flags =
        ["-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=6000", "-DVECTORSZ=2048", "-o", "pan", "pan.c"];
    run(Command::new("gcc").current_dir(folder).args(flags))?;
    let mut pan = Command::new(folder.join("pan"));
    pan.current_dir(folder).args(["-m1000000", "-n"]);
    if MAY_STAND_STILL.contains(model) {
        pan.arg("-E");
    }
    let output = pan.output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = said.lines().find(|line| line.contains("errors:")).unwrap_or("").trim();
    // A search that did not come to its end proves nothing.
    let whole = !said.contains("Search not completed") && !said.contains("max search depth too small");
    if *holds && !(whole && errors.ends_with("errors: 0")) {
        bail!("an assertion fails, or the search was cut short:\n{said}");
    }
    // A sleeper that never wakes is a state without a successor.
    if !holds && !["assertion violated", "invalid end state"].iter().any(|fault| said.contains(fault)) {
        bail!("a fault should have been found:\n{said}");
    }
    let states = said.lines().find(|line| line.contains("states, stored"));
    let states = states.and_then(|line| line.split_whitespace().next()?.parse().ok());
    Ok(grouped(states.context("the checker did not count its states")?))
}

/// 1167642 as `1,167,642`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits")).collect();
    groups.join(",")
}
