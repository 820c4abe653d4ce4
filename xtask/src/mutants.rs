//! `cargo xtask mutants`: changes the library in many small ways, one at a time, and sees whether a test notices.
//!
//! All changes are built into one copy of the tree, each behind a switch that a variable of the environment sets. So there
//! is one build for all of them, and a change costs no more than the tests that reach it.

mod c_tests;
mod hand;
mod run;
mod sites;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::tools::is_root;
use crate::venv;
use hand::{ByHand, Named};
use run::{Outcome, Test};
use tree::Extent;

const HELP: &str = "\
cargo xtask mutants [OPTION...]
  --sample N      so many mutants, drawn evenly from all, and those that were written by hand (else all)
  --seed S        draws others (1)
  --shard K/N     the K-th of N parts of them
  --only TEXT     those with this in their name
  --again         also those that have been judged before
  --survivors     those that survived before and have no argument, again
  --slices        with sleeps of 10 s, so that a wake-up that is lost shows: only tests that can pass then
  --tests TEXT    notices by tests with this in their name only (else by every test)
  --named         by those tests only that verification/mutants/tests.txt names, whatever time they take, under the model
                  checker too (`loom`) and with sleeps of 10 s (`slices`); with --survivors, those that were never judged, too
  --budget S      seconds of tests for one mutant (60)
  --jobs N        mutants at a time (1)
  --list          prints names and judges nothing
  --record        writes the outcomes so far to verification/records/mutants/results.txt
  --score         prints what is known, and survivors without an argument";

/// Where the outcomes are kept beside those of [`RECORD`], which they replace: `outcome<TAB>name<TAB>test`.
const RESULTS: &str = "target/mutants/results.txt";
/// Those with sleeps of 10 s, of which only what was caught counts.
const RESULTS_OF_SLICES: &str = "target/mutants/results-slices.txt";

const RECORD: &str = "verification/records/mutants/results.txt";

struct Options {
    sample: Option<usize>,
    seed: u64,
    shard: (usize, usize),
    only: Option<String>,
    again: bool,
    survivors: bool,
    slices: bool,
    tests: Option<String>,
    named: bool,
    budget: Duration,
    jobs: usize,
    list: bool,
    record: bool,
    score: bool,
}

fn options(arguments: &[String]) -> Result<Options> {
    let mut options = Options {
        sample: None,
        seed: 1,
        shard: (1, 1),
        only: None,
        again: false,
        survivors: false,
        slices: false,
        tests: None,
        named: false,
        budget: Duration::from_secs(60),
        jobs: 1,
        list: false,
        record: false,
        score: false,
    };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{argument} takes a value\n{HELP}"));
        match argument.as_str() {
            "--sample" => options.sample = Some(value()?.parse().context("--sample takes a number")?),
            "--seed" => options.seed = value()?.parse().context("--seed takes a number")?,
            "--shard" => {
                let (number, of) = value()?.split_once('/').context("--shard takes K/N")?;
                options.shard = (number.parse()?, of.parse()?);
                if options.shard.0 == 0 || options.shard.0 > options.shard.1 {
                    bail!("--shard takes K/N with K from 1 to N");
                }
            }
            "--tests" => options.tests = Some(value()?.clone()),
            "--only" => options.only = Some(value()?.clone()),
            "--budget" => {
                options.budget = Duration::from_secs(value()?.parse().context("--budget takes seconds")?)
            }
            "--jobs" => options.jobs = value()?.parse().context("--jobs takes a number")?,
            "--again" => options.again = true,
            "--survivors" => options.survivors = true,
            "--named" => options.named = true,
            "--slices" => options.slices = true,
            "--record" => options.record = true,
            "--list" => options.list = true,
            "--score" => options.score = true,
            other => bail!("`{other}` is no option\n{HELP}"),
        }
    }
    Ok(options)
}

pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<()> {
    let options = options(arguments)?;
    let by_hand = hand::read(root)?;
    let mut names: Vec<String> = by_hand.iter().map(hand::ByHand::key).collect();
    names.extend(tree::all(root)?);
    arguments_hold(root, &names)?;
    if options.record {
        record(root, &names)?;
    }
    if options.score || options.record {
        return score(root, &names);
    }
    let results = results(root)?;
    let mut chosen = chosen(&names, by_hand.len(), &options, &results);
    if options.survivors {
        let argued: BTreeSet<String> = hand::equivalent(root)?.into_iter().map(|(key, _)| key).collect();
        chosen.retain(|name| !argued.contains(*name));
    }
    if options.list {
        chosen.iter().for_each(|name| println!("{name}"));
        println!("{} of {} mutants", chosen.len(), names.len());
        return Ok(());
    }
    own_place()?;
    let python = venv::ensure(root)?;
    let hands: Vec<&ByHand> = by_hand.iter().collect();
    if options.named {
        let named = hand::named(root)?;
        let tests_of = |name: &String| match by_hand.iter().find(|hand| hand.key() == **name) {
            Some(hand) => hand.tests.clone(),
            None => hand::tests_of(&named, name),
        };
        let wanted: Vec<_> = chosen.iter().map(|name| ((*name).clone(), tests_of(name))).collect();
        let drawn = chosen.into_iter().collect();
        judge_by_name(root, &python, &hands, &wanted, Extent::Sample(&drawn), |name, outcome| {
            save(root, false, name, outcome)
        })?;
        return score(root, &names);
    }
    // The whole sample, whatever part of it is judged now: so one build does for all parts.
    let drawn = sampled(&names, by_hand.len(), &options).into_iter().collect();
    let extent = if options.slices { Extent::Slices(&drawn) } else { Extent::Sample(&drawn) };
    let built = tree::build(root, &hands, extent)?;
    let tests = traced(root, &built, &python, &options)?;
    let numbers: BTreeMap<&str, u32> =
        built.keys.iter().map(|(number, key)| (key.as_str(), *number)).collect();
    let open: Vec<(usize, &String)> =
        chosen.iter().filter(|name| numbers.contains_key(name.as_str())).copied().enumerate().collect();
    println!("{} mutants to judge; {} of those chosen do not compile", open.len(), chosen.len() - open.len());
    let total = open.len();
    let open = std::sync::Mutex::new(open.into_iter());
    std::thread::scope(|scope| -> Result<()> {
        let judge = || -> Result<()> {
            loop {
                let next = open.lock().expect("not poisoned").next();
                let Some((index, name)) = next else { return Ok(()) };
                let outcome =
                    run::judge(numbers[name.as_str()], &tests, &built.programs, &python, options.budget)?;
                println!("{}/{total} {}", index + 1, told(name, &outcome));
                save(root, options.slices, name, &outcome)?;
            }
        };
        let workers: Vec<_> = (0..options.jobs.max(1)).map(|_| scope.spawn(judge)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no panic"))
    })?;
    score(root, &names)
}

/// The step: what is written about mutants must still fit the sources, and a test must notice each of a few mutants that were
/// written by hand; with `--full`, each of all that are not said to be open.
pub(crate) fn test(root: &Path, full: bool) -> Result<()> {
    let by_hand = hand::read(root)?;
    let mut names: Vec<String> = by_hand.iter().map(hand::ByHand::key).collect();
    names.extend(tree::all(root)?);
    arguments_hold(root, &names)?;
    tree::check_by_hand(root, &by_hand)?;
    println!(
        "{} mutants by hand fit the sources, {} others can be made",
        by_hand.len(),
        names.len() - by_hand.len()
    );
    if let Err(error) = own_place() {
        println!("none is judged: {error}");
        return Ok(());
    }
    let python = venv::ensure(root)?;
    let chosen: Vec<&ByHand> = by_hand.iter().filter(|mutant| full || mutant.always).collect();
    let (mut survivors, mut noticed) = (Vec::new(), Vec::new());
    let wanted: Vec<_> = chosen.iter().map(|mutant| (mutant.key(), mutant.tests.clone())).collect();
    let extent = if full { Extent::ByHand } else { Extent::Slice };
    judge_by_name(root, &python, &chosen, &wanted, extent, |key, outcome| {
        let mutant = chosen.iter().find(|mutant| mutant.key() == key).context("it was chosen")?;
        match (outcome, &mutant.open) {
            (Outcome::Caught(_), Some(_)) => noticed.push(mutant.name.as_str()),
            (Outcome::Survived | Outcome::Unreached, None) => survivors.push(mutant.name.as_str()),
            _ => {}
        }
        Ok(())
    })?;
    println!("{} mutants by hand judged", chosen.len());
    if !survivors.is_empty() {
        bail!("no test notices: {}", survivors.join("; "));
    }
    // A test that depends on timing may notice in one run only.
    noticed.iter().for_each(|name| println!("noticed, though {} calls it open: {name}", hand::FILE));
    Ok(())
}

/// Judges mutants by the tests that are named for each, and hands each outcome on. What the tests of `extent` do not notice,
/// the model checker and the tests with sleeps of 10 s are asked for, where they are named.
fn judge_by_name(
    root: &Path,
    python: &Path,
    hands: &[&ByHand],
    wanted: &[(String, Vec<Named>)],
    extent: Extent<'_>,
    mut hand_on: impl FnMut(&str, &Outcome) -> Result<()>,
) -> Result<()> {
    let none = BTreeSet::new();
    let drawn = if let Extent::Sample(drawn) = extent { drawn } else { &none };
    let is_of = |program: &str, extent: &Extent<'_>| match extent {
        Extent::Loom(_) => program == tree::LOOM,
        Extent::Slices(_) => program == tree::SLICES,
        _ => ![tree::LOOM, tree::SLICES].contains(&program),
    };
    let mut left: Vec<&(String, Vec<Named>)> = wanted.iter().collect();
    for extent in [extent, Extent::Loom(drawn), Extent::Slices(drawn)] {
        let (now, mut later): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(_, tests)| tests.iter().any(|(program, _)| is_of(program, &extent)));
        let built = if now.is_empty() { None } else { Some(tree::build(root, hands, extent)?) };
        for (index, mutant) in now.iter().enumerate() {
            let (key, tests) = mutant;
            let built = built.as_ref().context("it was built")?;
            let Some((number, _)) = built.keys.iter().find(|(_, built)| *built == key) else {
                println!("{key}: does not compile");
                continue;
            };
            let tests: Vec<Named> =
                tests.iter().filter(|(program, _)| is_of(program, &extent)).cloned().collect();
            let outcome = run::judge_by_name(*number, &tests, &built.programs, python)?;
            if matches!(outcome, Outcome::Caught(_)) {
                println!("{}/{} {}", index + 1, now.len(), told(key, &outcome));
                hand_on(key, &outcome)?;
            } else {
                later.push(mutant);
            }
        }
        left = later;
    }
    for (key, tests) in left {
        if tests.is_empty() {
            println!("{key}: no test is named for it");
            continue;
        }
        println!("{}", told(key, &Outcome::Survived));
        hand_on(key, &Outcome::Survived)?;
    }
    Ok(())
}

/// Checks that each survivor with an argument is a mutant that still exists.
fn arguments_hold(root: &Path, names: &[String]) -> Result<()> {
    for (key, _) in hand::equivalent(root)? {
        if !names.contains(&key) {
            bail!("{}: there is no mutant `{key}` any more", hand::EQUIVALENT);
        }
    }
    Ok(())
}

fn own_place() -> Result<()> {
    if !is_root() || !crate::tools::has("unshare", &["-m", "true"]) {
        bail!(
            "a changed library may harm the buffers of others: mutants need root, for a /dev/shm of their own"
        );
    }
    Ok(())
}

/// The mutants that the options choose. The first `by_hand` of all mutants were written by hand.
fn chosen<'a>(
    names: &'a [String],
    by_hand: usize,
    options: &Options,
    results: &BTreeMap<String, Outcome>,
) -> Vec<&'a String> {
    let (number, of) = options.shard;
    let all = sampled(names, by_hand, options).into_iter().enumerate();
    let all = all.filter(|(index, _)| index % of == number - 1);
    let named = all
        .map(|(_, name)| name)
        .filter(|name| options.only.as_ref().is_none_or(|text| name.contains(text.as_str())));
    named
        .filter(|name| match results.get(name.as_str()) {
            None => !options.survivors || options.named,
            Some(outcome) if options.survivors => !matches!(outcome, Outcome::Caught(_)),
            Some(_) => options.again || options.list,
        })
        .collect()
}

/// Those that were written by hand, and the others of the sample.
fn sampled<'a>(names: &'a [String], by_hand: usize, options: &Options) -> Vec<&'a String> {
    let (hands, others) = names.split_at(by_hand);
    let mut others: Vec<&String> = others.iter().collect();
    if let Some(sample) = options.sample {
        others.sort_by_key(|name| lot(name, options.seed));
        others.truncate(sample.saturating_sub(hands.len()));
    }
    hands.iter().chain(others).collect()
}

/// Where a name stands in the order of draws. It depends on the name and the seed alone, so most of a sample stays the same when
/// the sources change.
fn lot(name: &str, seed: u64) -> u64 {
    // FNV-1a (Fowler, Noll, Vo), then the end of SplitMix64 (Steele, Lea, Flood 2014), which spreads what is alike.
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut z = seed.to_le_bytes().into_iter().chain(name.bytes()).fold(0xcbf2_9ce4_8422_2325, hash);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Which test reaches which mutant: found earlier for exactly this tree, or found now.
fn traced(root: &Path, built: &tree::Tree, python: &Path, options: &Options) -> Result<Vec<Test>> {
    let path = root.join(tree::FOLDER).join(if options.slices { "traces-slices.txt" } else { "traces.txt" });
    let programs: Vec<String> =
        built.programs.iter().map(|program| program.path.display().to_string()).collect();
    // A program that was built again may have the name that it had. Those in C are linked each time, with the same library.
    let times = built
        .programs
        .iter()
        .filter(|program| program.kind == tree::Kind::Rust)
        .map(|program| Ok(format!("{:?}", std::fs::metadata(&program.path)?.modified()?)));
    let part = match &options.tests {
        Some(part) => vec![part.as_str()],
        None if options.slices => crate::test::AWAKE.to_vec(),
        None => vec![""],
    };
    let heading = format!(
        "{} {:?} {part:?} {programs:?} {:?}",
        built.keys.len(),
        options.budget,
        times.collect::<Result<Vec<_>>>()?
    );
    let numbers = built.keys.keys().last().map_or(1, |last| *last as usize + 1);
    if let Ok(text) = std::fs::read_to_string(&path)
        && text.lines().next() == Some(&heading)
    {
        return text.lines().skip(1).map(|line| read_test(line).context("a line of traces.txt")).collect();
    }
    let tests =
        run::trace(root, &built.programs, numbers, python, &part, options.budget, options.jobs.max(2))?;
    let mut text = heading + "\n";
    for test in &tests {
        let numbers: Vec<String> = test.reached.iter().map(u32::to_string).collect();
        writeln!(text, "{}\t{}\t{}\t{}", test.program, test.name, test.time.as_millis(), numbers.join(","))?;
    }
    std::fs::write(&path, text)?;
    Ok(tests)
}

fn read_test(line: &str) -> Option<Test> {
    let mut fields = line.split('\t');
    Some(Test {
        program: fields.next()?.parse().ok()?,
        name: fields.next()?.to_owned(),
        time: Duration::from_millis(fields.next()?.parse().ok()?),
        reached: fields.next()?.split(',').filter_map(|number| number.parse().ok()).collect(),
    })
}

fn told(name: &str, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Caught(test) => format!("caught    {name} ({test})"),
        Outcome::Survived => format!("SURVIVED  {name}"),
        Outcome::Unreached => format!("UNREACHED {name}"),
    }
}

/// The outcomes so far, the last one of each mutant.
fn results(root: &Path) -> Result<BTreeMap<String, Outcome>> {
    let mut results = BTreeMap::new();
    for path in [RECORD, RESULTS, RESULTS_OF_SLICES] {
        let text = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        for line in text.lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let outcome = match fields[..] {
                ["caught", _, test] => Outcome::Caught(test.to_owned()),
                ["survived" | "argued", ..] => Outcome::Survived,
                ["unreached", ..] => Outcome::Unreached,
                _ => bail!("{path}: `{line}` is no outcome"),
            };
            results.insert(fields[1].to_owned(), outcome);
        }
    }
    Ok(results)
}

/// Keeps an outcome.
fn save(root: &Path, slices: bool, name: &str, outcome: &Outcome) -> Result<()> {
    let (word, test) = match outcome {
        Outcome::Caught(test) => ("caught", test.as_str()),
        // What these few tests do not notice may be noticed by others.
        _ if slices => return Ok(()),
        Outcome::Survived => ("survived", ""),
        Outcome::Unreached => ("unreached", ""),
    };
    let path = root.join(if slices { RESULTS_OF_SLICES } else { RESULTS });
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    // One write, because a run may be ended at any moment.
    file.write_all(format!("{word}\t{name}\t{test}\n").as_bytes())?;
    Ok(())
}

/// Writes the outcomes of the mutants that still exist, one a line: outcome, name, and the test that caught it or the argument.
fn record(root: &Path, names: &[String]) -> Result<()> {
    let equivalent: BTreeMap<String, String> = hand::equivalent(root)?.into_iter().collect();
    let results = results(root)?;
    let names: BTreeSet<&String> = names.iter().collect();
    let mut text = String::new();
    for name in names {
        let (word, why) = match (results.get(name), equivalent.get(name)) {
            (Some(Outcome::Caught(test)), _) => ("caught", test.as_str()),
            (Some(_), Some(reason)) => ("argued", reason.as_str()),
            (Some(Outcome::Survived), None) => ("survived", ""),
            (Some(Outcome::Unreached), None) => ("unreached", ""),
            (None, _) => continue,
        };
        writeln!(text, "{word}\t{name}\t{why}")?;
    }
    let path = root.join(RECORD);
    std::fs::create_dir_all(path.parent().context("a folder")?)?;
    std::fs::write(path, text).with_context(|| format!("cannot write {RECORD}"))
}

/// Prints the score, and what is left to do.
fn score(root: &Path, names: &[String]) -> Result<()> {
    let results = results(root)?;
    let equivalent: BTreeMap<String, String> = hand::equivalent(root)?.into_iter().collect();
    let judged: Vec<(&String, &Outcome)> =
        names.iter().filter_map(|name| Some((name, results.get(name)?))).collect();
    let is_caught = |outcome: &Outcome| matches!(outcome, Outcome::Caught(_));
    let caught = judged.iter().filter(|(_, outcome)| is_caught(outcome)).count();
    let argued =
        judged.iter().filter(|(name, outcome)| !is_caught(outcome) && equivalent.contains_key(*name)).count();
    let open: Vec<_> = judged
        .iter()
        .filter(|(name, outcome)| !is_caught(outcome) && !equivalent.contains_key(*name))
        .collect();
    open.iter().for_each(|(name, outcome)| println!("{}", told(name, outcome)));
    let real = judged.len() - argued;
    let share = if real > 0 { 100.0 * caught as f64 / real as f64 } else { 0.0 };
    println!(
        "{} of {} mutants judged: {caught} caught, {argued} argued to be no change, {} open; score {share:.1} %",
        judged.len(),
        names.len(),
        open.len()
    );
    for (name, outcome) in &judged {
        if is_caught(outcome) && equivalent.contains_key(*name) {
            bail!("{}: `{name}` is caught, so it is a change", hand::EQUIVALENT);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_depends_on_the_seed_alone_and_shards_share_it_out() {
        let names: Vec<String> = (0..100).map(|number| format!("m{number}")).collect();
        let choose = |arguments: &str| {
            let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
            let options = options(&arguments).expect("options");
            chosen(&names, 2, &options, &BTreeMap::new()).into_iter().cloned().collect::<Vec<_>>()
        };
        let sample = choose("--sample 20 --seed 7");
        assert_eq!((sample.len(), &sample[..2]), (20, &names[..2]));
        assert_eq!(sample, choose("--sample 20 --seed 7"));
        assert_ne!(sample, choose("--sample 20 --seed 8"));
        let mut shards =
            [choose("--sample 20 --seed 7 --shard 1/2"), choose("--sample 20 --seed 7 --shard 2/2")].concat();
        shards.sort();
        let mut sorted = sample;
        sorted.sort();
        assert_eq!(shards, sorted);
        assert!(options(&["--shard".to_owned(), "3/2".to_owned()]).is_err());
    }
}
