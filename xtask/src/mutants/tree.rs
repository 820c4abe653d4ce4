//! The copy of the tree with all changes in it, built once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::c_tests;
use super::hand::ByHand;
use super::sites::{self, Rendered};
use crate::tools::cargo;

/// The folders of the copy.
pub(super) const FOLDER: &str = "target/mutants";

/// The sources to change: a crate's files, their call of the switch, and the exceptions.
struct Changed {
    sources: &'static str,
    switch: &'static str,
    left_out: &'static [&'static str],
}

const CHANGED: [Changed; 2] = [
    Changed {
        sources: "crates/zerobuffer/src",
        switch: "crate::mutant_switch",
        left_out: &[
            "testing/",
            "os/unsupported.rs",
            "error.rs",
            "sync.rs",
            "lib.rs",
            "memory/copy.rs",
            "duplex/model.rs",
        ],
    },
    Changed {
        sources: "crates/zerobuffer-ffi/src",
        switch: "zerobuffer::mutant_switch",
        left_out: &["fuzzing", "lib.rs", "exclusive.rs"],
    },
];

const SWITCH: &str = include_str!("switch.rs.txt");
const SWITCH_FILE: &str = "crates/zerobuffer/src/mutant_switch.rs";
/// The file that says that the switch is a module.
const ROOT_FILE: &str = "crates/zerobuffer/src/lib.rs";

/// Errors about borrows that overlap.
const BORROWED: [&str; 4] = ["E0499", "E0502", "E0505", "E0506"];

/// So many numbers are for each file: another mutant in one leaves the numbers in others as they are, and what is built of them.
const NUMBERS: u32 = 512;

/// Rounds of leaving out what does not compile.
const ROUNDS: usize = 20;

/// What the model checker's program is called where tests are named.
pub(super) const LOOM: &str = "loom";
/// What the promises are called that are built with sleeps of 10 s.
pub(super) const SLICES: &str = "slices";

/// How a test program is told which tests to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rust,
    /// It is one test.
    Plain,
}

impl Kind {
    /// Arguments that choose `tests`.
    pub(super) fn arguments(self, tests: &[&str]) -> Vec<String> {
        match self {
            Kind::Rust => {
                let all = ["--exact"].iter().chain(tests).chain(&["--test-threads", "2"]);
                all.map(|&argument| argument.to_owned()).collect()
            }
            Kind::Plain => Vec::new(),
        }
    }
}

/// A test program.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) path: PathBuf,
    pub(super) folder: PathBuf,
}

/// What is built.
#[derive(Debug, Clone, Copy)]
pub(super) enum Extent<'a> {
    /// These mutants and those by hand, with every test.
    Sample(&'a BTreeSet<&'a String>),
    /// The same, with sleeps of 10 s and the promises alone.
    Slices(&'a BTreeSet<&'a String>),
    /// The same, with the runs of the model checker alone.
    Loom(&'a BTreeSet<&'a String>),
    /// Those by hand, with every test in Rust.
    ByHand,
    /// Those by hand, with the unit tests of the library.
    Slice,
}

/// The built tree.
pub(super) struct Tree {
    /// The mutants, by their numbers.
    pub(super) keys: BTreeMap<u32, String>,
    pub(super) programs: Vec<Program>,
}

struct File {
    path: PathBuf,
    text: String,
    shown: String,
    switch: &'static str,
}

/// Keys of all mutants, without building anything.
pub(super) fn all(root: &Path) -> Result<Vec<String>> {
    let mut keys = Vec::new();
    for file in files(root)? {
        let sites = sites::find(&file.text, &file.shown, |_| true)?;
        keys.extend(sites.into_iter().flat_map(|site| site.mutants).map(|mutant| mutant.key));
    }
    Ok(keys)
}

/// Fails if what was written by hand does not fit the sources.
pub(super) fn check_by_hand(root: &Path, by_hand: &[ByHand]) -> Result<()> {
    let files = files(root)?;
    for hand in by_hand {
        let file = files.iter().find(|file| file.path.ends_with(&hand.file));
        let file = file.with_context(|| format!("mutant `{}`: there is no {}", hand.name, hand.file))?;
        sites::by_hand(&file.text, &hand.key(), &hand.original, &hand.code)
            .with_context(|| format!("mutant `{}` in {}", hand.name, hand.file))?;
    }
    Ok(())
}

/// Copies the tree, puts mutants into it, and builds its tests.
pub(super) fn build(root: &Path, by_hand: &[&ByHand], extent: Extent<'_>) -> Result<Tree> {
    let copy = root.join(FOLDER).join(match extent {
        Extent::Sample(_) => "tree",
        Extent::Slices(_) => "tree-slices",
        Extent::Loom(_) => "tree-loom",
        Extent::ByHand | Extent::Slice => "slice",
    });
    let files = files(root)?;
    mirror(root, &copy, &files)?;
    // Those of the last build: what did not compile then hardly does now.
    let known = root.join(FOLDER).join("left-out.txt");
    let mut left_out: BTreeSet<String> =
        std::fs::read_to_string(&known).unwrap_or_default().lines().map(str::to_owned).collect();
    for _ in 0..ROUNDS {
        let mut keys = BTreeMap::new();
        let mut rendered_files = Vec::new();
        for (first, file) in (0..).step_by(NUMBERS as usize).zip(&files) {
            let mut sites = match extent {
                Extent::Sample(chosen) | Extent::Slices(chosen) | Extent::Loom(chosen) => {
                    sites::find(&file.text, &file.shown, |key| chosen.contains(key))?
                }
                Extent::ByHand | Extent::Slice => Vec::new(),
            };
            for hand in by_hand.iter().filter(|hand| file.path.ends_with(&hand.file)) {
                let site = sites::by_hand(&file.text, &hand.key(), &hand.original, &hand.code);
                sites.push(site.with_context(|| format!("mutant `{}` in {}", hand.name, hand.file))?);
            }
            let (rendered, more) = sites::render(&file.text, sites, first, file.switch, &left_out);
            if more.len() > NUMBERS as usize {
                bail!("{} has {} mutants, and {NUMBERS} numbers are for them", file.shown, more.len());
            }
            keys.extend((first..).zip(more));
            let relative = file.path.strip_prefix(root)?;
            write_if_new(&copy.join(relative), &rendered.text)?;
            rendered_files.push((relative.to_owned(), rendered));
        }
        add_switch(root, &copy)?;
        if matches!(extent, Extent::ByHand | Extent::Slice) {
            return Ok(Tree { keys, programs: programs(root, &copy, extent)? });
        }
        let failed = check(root, &copy, extent, &rendered_files, &keys)?;
        if failed.is_empty() {
            println!("{} changes compile, {} do not", keys.len(), left_out.len());
            std::fs::write(&known, left_out.iter().map(|key| format!("{key}\n")).collect::<String>())?;
            let mut programs = programs(root, &copy, extent)?;
            if matches!(extent, Extent::Sample(_)) {
                programs.extend(c_tests::programs(root, &copy)?);
            }
            return Ok(Tree { keys, programs });
        }
        if let Some(hand) = by_hand.iter().find(|hand| failed.iter().any(|number| keys[number] == hand.key()))
        {
            bail!("mutant `{}` of {} does not compile", hand.name, super::hand::FILE);
        }
        left_out.extend(failed.iter().map(|number| keys[number].clone()));
    }
    bail!("after {ROUNDS} rounds some changes still do not compile");
}

/// The files that are changed.
fn files(root: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for changed in &CHANGED {
        for path in tracked(root, changed.sources)? {
            let inside = path.strip_prefix(changed.sources)?.to_string_lossy().into_owned();
            let is_left_out = changed.left_out.iter().any(|prefix| inside.starts_with(prefix));
            if inside.ends_with(".rs") && !is_left_out && !is_of_tests(&inside) {
                let path = root.join(&path);
                let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                let crate_name = changed.sources.split('/').nth(1).unwrap_or_default();
                let shown = if crate_name == "zerobuffer" { inside } else { format!("ffi/{inside}") };
                files.push(File { path, text, shown, switch: changed.switch });
            }
        }
    }
    Ok(files)
}

/// Whether a file holds tests alone, which only its parent says to be for tests.
fn is_of_tests(inside: &str) -> bool {
    let stem = inside.strip_suffix(".rs").unwrap_or(inside);
    stem.split('/').any(|part| part == "tests" || part == "loom")
}

/// Files below a folder that git tracks, or would track.
fn tracked(root: &Path, folder: &str) -> Result<Vec<PathBuf>> {
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", folder];
    let output = Command::new("git").args(arguments).current_dir(root).output()?;
    let names = String::from_utf8(output.stdout)?;
    Ok(names.split_terminator('\0').map(PathBuf::from).filter(|path| root.join(path).is_file()).collect())
}

/// Copies what the workspace needs to build. Unchanged files keep their time, so that little is built again.
fn mirror(root: &Path, copy: &Path, changed: &[File]) -> Result<()> {
    let mut wanted = BTreeSet::new();
    for folder in [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "docs",
        "crates",
        "examples",
        "fuzz",
        "verification",
        "xtask",
    ] {
        for path in tracked(root, folder)? {
            let is_root = path == Path::new(ROOT_FILE);
            let is_changed = is_root || changed.iter().any(|file| file.path == root.join(&path));
            let bytes = std::fs::read(root.join(&path))?;
            let target = copy.join(&path);
            wanted.insert(path.clone());
            // The changed ones are written later.
            if !(is_changed && target.exists()) && std::fs::read(&target).ok().as_ref() != Some(&bytes) {
                std::fs::create_dir_all(target.parent().context("a folder")?)?;
                std::fs::write(&target, bytes)?;
            }
        }
    }
    wanted.insert(SWITCH_FILE.into());
    remove_others(copy, copy, &wanted)
}

/// Removes files from the copy that the tree no longer has.
fn remove_others(copy: &Path, folder: &Path, wanted: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            remove_others(copy, &path, wanted)?;
        } else if !wanted.contains(path.strip_prefix(copy)?) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn write_if_new(path: &Path, text: &str) -> Result<()> {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    std::fs::create_dir_all(path.parent().context("a folder")?)?;
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

fn add_switch(root: &Path, copy: &Path) -> Result<()> {
    write_if_new(&copy.join(SWITCH_FILE), SWITCH)?;
    let text = std::fs::read_to_string(root.join(ROOT_FILE))?;
    write_if_new(&copy.join(ROOT_FILE), &format!("{text}\n#[doc(hidden)]\npub mod mutant_switch;\n"))
}

fn build_command(root: &Path, copy: &Path, extent: Extent<'_>, arguments: &[&str]) -> Command {
    let (folder, flags) = match extent {
        Extent::Slices(_) => ("build-slices", "-Awarnings --cfg long_slices"),
        Extent::Loom(_) => ("build-loom", "-Awarnings --cfg loom"),
        _ => ("build", "-Awarnings"),
    };
    let mut command = cargo(copy, arguments);
    match extent {
        // The model checker knows neither futures nor other crates.
        Extent::Loom(_) => command.args(["--package", "zerobuffer", "--release"]),
        _ => command
            .args(["--package", "zerobuffer", "--package", "zerobuffer-tests", "--package", "zerobuffer-ffi"])
            .args(["--features", "zerobuffer/async,zerobuffer-tests/stop-points"]),
    };
    command
        .args(["--message-format", "json"])
        .env("CARGO_TARGET_DIR", root.join(FOLDER).join(folder))
        // Built quickly: with few optimisations, which streaming tests need, and without debug information.
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_PACKAGE_ZEROBUFFER_OPT_LEVEL", "1")
        .env("CARGO_INCREMENTAL", "1")
        .env("RUSTFLAGS", flags)
        .stderr(Stdio::null());
    command
}

/// Builds the unit tests of the library alone, in a folder of its own: in the folder of the other steps cargo would take the
/// changed library for theirs.
fn slice_command(root: &Path, copy: &Path) -> Command {
    let mut command = cargo(copy, &["test", "--no-run", "--lib", "--package", "zerobuffer"]);
    command
        .args(["--features", "zerobuffer/async", "--message-format", "json"])
        .env("CARGO_TARGET_DIR", root.join(FOLDER).join("build-slice"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_PACKAGE_ZEROBUFFER_OPT_LEVEL", "1")
        .env("RUSTFLAGS", "-Awarnings")
        .stderr(Stdio::null());
    command
}

fn messages(command: &mut Command) -> Result<(bool, Vec<serde_json::Value>)> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let text = String::from_utf8(output.stdout)?;
    Ok((output.status.success(), text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()))
}

/// Numbers of the mutants that do not compile.
fn check(
    root: &Path,
    copy: &Path,
    extent: Extent<'_>,
    files: &[(PathBuf, Rendered)],
    keys: &BTreeMap<u32, String>,
) -> Result<BTreeSet<u32>> {
    // Only tests know the model checker.
    let what = if matches!(extent, Extent::Loom(_)) { "--tests" } else { "--lib" };
    let (passed, messages) =
        messages(&mut build_command(root, copy, extent, &["check", "--keep-going", what]))?;
    let mut failed = BTreeSet::new();
    for message in &messages {
        let message = &message["message"];
        if message["level"] != "error" {
            continue;
        }
        // A value that is borrowed for too long would have been dropped at a place that the message does not
        // name.
        let is_borrowed = message["code"]["code"].as_str().is_some_and(|code| BORROWED.contains(&code));
        let mut mine = BTreeSet::new();
        let mut places = BTreeSet::new();
        for span in message["spans"].as_array().into_iter().flatten() {
            let name = span["file_name"].as_str().unwrap_or_default();
            let found = files.iter().find(|(path, _)| Path::new(name).ends_with(path));
            let Some((_, rendered)) = found else { continue };
            if is_borrowed {
                let drops = rendered.codes.iter().map(|(number, _)| *number);
                mine.extend(drops.filter(|&number| keys[&number].contains(": without drop(")));
            }
            let number = |field: &str| span[field].as_u64().unwrap_or(0) as usize;
            let (start, end) = (number("byte_start"), number("byte_end"));
            for (number, code) in &rendered.codes {
                // A statement that is left out has no code of its own.
                if start < code.end.max(code.start + 1) && code.start < end && end - start < 4096 {
                    mine.insert(*number);
                }
            }
            // The innermost place around it.
            let around = rendered.places.iter().filter(|(_, place)| place.start <= start && end <= place.end);
            if let Some((numbers, _)) = around.min_by_key(|(_, place)| place.len()) {
                places.extend(numbers);
            }
        }
        failed.extend(if mine.is_empty() { places } else { mine });
    }
    if !passed && failed.is_empty() {
        let rendered = messages.iter().filter_map(|message| message["message"]["rendered"].as_str());
        bail!("the changed tree does not compile:\n{}", rendered.take(3).collect::<String>());
    }
    Ok(failed)
}

/// Builds the tests.
fn programs(root: &Path, copy: &Path, extent: Extent<'_>) -> Result<Vec<Program>> {
    let mut command = match extent {
        Extent::Slice => slice_command(root, copy),
        Extent::Slices(_) => build_command(root, copy, extent, &["test", "--no-run", "--test", "promises"]),
        Extent::Loom(_) => build_command(root, copy, extent, &["test", "--no-run", "--lib"]),
        _ => build_command(root, copy, extent, &["test", "--no-run", "--lib", "--tests"]),
    };
    let (passed, messages) = messages(&mut command)?;
    if !passed {
        let rendered = messages.iter().filter_map(|message| message["message"]["rendered"].as_str());
        bail!("the changed tree's tests do not compile:\n{}", rendered.take(3).collect::<String>());
    }
    let mut programs = Vec::new();
    for message in &messages {
        if let (Some(path), Some(manifest)) =
            (message["executable"].as_str(), message["manifest_path"].as_str())
        {
            let name = match extent {
                Extent::Loom(_) => LOOM,
                Extent::Slices(_) => SLICES,
                _ => message["target"]["name"].as_str().unwrap_or_default(),
            };
            let name = name.to_owned();
            let folder = Path::new(manifest).parent().context("a folder")?.to_owned();
            programs.push(Program { name, kind: Kind::Rust, path: path.into(), folder });
        }
    }
    // Cargo tells of them in any order, and traces count on one.
    programs.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(programs)
}

/// The shared library of the C ABI.
pub(super) fn shared_library(root: &Path, copy: &Path) -> Result<PathBuf> {
    let (passed, messages) = messages(&mut build_command(root, copy, Extent::ByHand, &["build", "--lib"]))?;
    let files = messages.iter().filter_map(|message| message["filenames"].as_array()).flatten();
    let library = files.filter_map(|file| file.as_str()).find(|file| file.ends_with("libzerobuffer_c.so"));
    match library {
        Some(library) if passed => Ok(library.into()),
        _ => bail!("the changed library of the C ABI does not build"),
    }
}
