//! `cargo xtask instructions`: how many instructions a frame takes, as callgrind counts them.
//!
//! The counts do not depend on the machine's load. They do depend on the compiler and the C library, so the
//! figures in the tree name their compiler and library.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools::{self, cargo, run};

const DATA: &str = "xtask/data/instructions.txt";

const HEADING: &str = "\
# Instructions per frame of 64 bytes in a release build, counted by `cargo xtask test instructions`.
# A commit that changes a figure by more than 2 % says why, and writes this file with `cargo xtask instructions --update`.
";

const PACKAGE: &str = "zerobuffer-instructions";
const MEASURES: [&str; 4] = ["write", "read", "trip", "call"];
const RINGS: [&str; 2] = ["extended", "classic"];

/// Frames of the two runs whose difference is measured.
const RUNS: [u32; 2] = [2_000, 12_000];

/// The largest allowed change of a figure, as a share of it.
const TOLERANCE: f64 = 0.02;

/// A call has two threads. Where they may not run ahead of other programs, those change how the two meet now and then:
/// a count that differs from the figure in the tree is taken again, at most so many times.
const TRIES: usize = 4;

struct Figure {
    name: String,
    instructions: f64,
}

/// The figures in the tree.
struct Baseline {
    tools: String,
    figures: Vec<Figure>,
}

/// Counts instructions and compares them with the figures in the tree; `--update` replaces the figures.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<()> {
    let update = match arguments {
        [] => false,
        [option] if option == "--update" => true,
        _ => bail!("`cargo xtask instructions` takes --update or nothing"),
    };
    tools::need("valgrind", "valgrind")?;
    // Incremental code is cut into other units and inlined less: 17 % more instructions.
    let build = &["build", "--quiet", "--release", "--package", PACKAGE];
    run(cargo(root, build).env("CARGO_INCREMENTAL", "0"))?;
    let baseline = if update { None } else { Some(baseline(root)?) };
    let mut counted = Vec::new();
    let mut changed = Vec::new();
    println!("{:16} {:>10} {:>10} {:>8}", "", "now", "before", "change");
    for (measure, ring) in MEASURES.iter().flat_map(|measure| RINGS.map(|ring| (*measure, ring))) {
        let name = format!("{measure} {ring}");
        let before = baseline.as_ref().map(|all| all.get(&name)).transpose()?;
        let now = count(root, measure, ring, before)?;
        match before {
            None => println!("{name:16} {now:10.1}"),
            Some(before) => {
                let change = now / before - 1.0;
                println!("{name:16} {now:10.1} {before:10.1} {:+7.2} %", 100.0 * change);
                if change.abs() > TOLERANCE {
                    changed.push(name.clone());
                }
            }
        }
        counted.push(Figure { name, instructions: now });
    }
    let used = used_tools(root)?;
    let Some(baseline) = baseline else { return write(root, &used, &counted) };
    if baseline.tools != used {
        println!("not judged: the figures in {DATA} were taken with {}, these with {used}", baseline.tools);
        return Ok(());
    }
    if !changed.is_empty() {
        bail!(
            "instructions per frame have changed by more than {:.0} %: {}; if the commit means to, write {DATA} with \
             `cargo xtask instructions --update` and say why",
            100.0 * TOLERANCE,
            changed.join(", ")
        );
    }
    Ok(())
}

/// The step.
pub(crate) fn test(root: &Path, _: bool) -> Result<()> {
    command(root, &[])
}

impl Baseline {
    fn get(&self, name: &str) -> Result<f64> {
        let figure = self.figures.iter().find(|figure| figure.name == name);
        Ok(figure.with_context(|| format!("{DATA} has no figure for `{name}`"))?.instructions)
    }
}

fn baseline(root: &Path) -> Result<Baseline> {
    let text = std::fs::read_to_string(root.join(DATA)).with_context(|| format!("cannot read {DATA}"))?;
    let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let tools = lines.next().and_then(|line| line.strip_prefix("taken with "));
    let tools = tools.with_context(|| format!("{DATA} does not name its tools"))?.to_owned();
    let figures = lines
        .map(|line| {
            let (name, number) = line.rsplit_once(' ')?;
            Some(Figure { name: name.trim().to_owned(), instructions: number.parse().ok()? })
        })
        .collect::<Option<Vec<_>>>();
    Ok(Baseline { tools, figures: figures.with_context(|| format!("{DATA} has a line that is no figure"))? })
}

fn write(root: &Path, tools: &str, figures: &[Figure]) -> Result<()> {
    let lines: String =
        figures.iter().map(|figure| format!("{} {:.1}\n", figure.name, figure.instructions)).collect();
    std::fs::write(root.join(DATA), format!("{HEADING}\ntaken with {tools}\n{lines}"))?;
    println!("{DATA} is written");
    Ok(())
}

/// Instructions per frame: start-up cancels out.
fn count(root: &Path, measure: &str, ring: &str, before: Option<f64>) -> Result<f64> {
    let mut tries = 0;
    loop {
        let [short, long] = RUNS.map(|frames| instructions(root, measure, ring, frames));
        let count = (long? - short?) / f64::from(RUNS[1] - RUNS[0]);
        tries += 1;
        let unchanged = before.is_none_or(|before| (count / before - 1.0).abs() <= TOLERANCE);
        if unchanged || measure != "call" || tries == TRIES {
            return Ok(count);
        }
    }
}

/// Instructions of a whole run.
fn instructions(root: &Path, measure: &str, ring: &str, frames: u32) -> Result<f64> {
    let program = root.join("target/release").join(PACKAGE);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([measure, ring, &frames.to_string()])
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    let count = told.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match count {
        Some(count) if output.status.success() => Ok(count),
        _ => bail!("counting `{measure} {ring} {frames}` under valgrind failed ({}):\n{told}", output.status),
    }
}

/// The compiler and library on which the counts depend.
fn used_tools(root: &Path) -> Result<String> {
    let first_words = |command: &mut Command, words: usize| -> Result<String> {
        let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(text.split_whitespace().take(words).collect::<Vec<_>>().join(" "))
    };
    let compiler = first_words(Command::new("rustc").arg("--version").current_dir(root), 2)?;
    let library = first_words(Command::new("getconf").arg("GNU_LIBC_VERSION"), 2)?;
    let valgrind = first_words(Command::new("valgrind").arg("--version"), 1)?;
    Ok(format!("{compiler}, {library}, {valgrind}, {}", std::env::consts::ARCH))
}
