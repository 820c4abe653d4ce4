//! Runs tests of the changed tree, in a mount namespace of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::tree::{FOLDER, Kind, Program};

/// A changed library must not reach other processes' files, so /dev/shm and the locks belong to this run and
/// are bounded.
const PRIVATE: &str = "mkdir -p /tmp/zerobuffer && mount -t tmpfs -o mode=1777,size=3g tmpfs /dev/shm \
    && mount -t tmpfs -o mode=1777,size=64m tmpfs /tmp/zerobuffer && exec \"$0\" \"$@\"";

/// Tests that take less are run together, up to so much.
const TOGETHER: Duration = Duration::from_secs(3);

/// What tests may take beyond three times what they took without a change.
const PATIENCE: Duration = Duration::from_secs(8);

/// A test, its duration, and the numbers of the changes whose places it reaches.
#[derive(Debug, Clone)]
pub(super) struct Test {
    pub(super) program: usize,
    pub(super) name: String,
    pub(super) time: Duration,
    pub(super) reached: BTreeSet<u32>,
}

/// Outcome of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Caught by this test, or by one of these.
    Caught(String),
    Survived,
    /// No test reaches its place.
    Unreached,
}

/// How a run of tests ended.
#[derive(Debug)]
enum End {
    Passed,
    /// This test failed.
    Failed(String),
    /// The program ended without a result, or did not end in time.
    Lost(&'static str),
}

/// Some tests of a program, in a mount namespace of their own, with change `number` on.
fn command(program: &Program, python: &Path, tests: &[&str], number: Option<u32>) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", PRIVATE])
        .arg(&program.path)
        .args(program.kind.arguments(tests))
        .current_dir(&program.folder)
        .env("ZEROBUFFER_PEER_PYTHON", python)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    if let Some(number) = number {
        command.env("ZEROBUFFER_MUTANT", number.to_string());
    }
    command
}

/// Runs tests until the first failure, for up to `limit`, and ends all that they have started.
fn run(mut command: Command, kind: Kind, limit: Duration) -> Result<End> {
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot start a test program")?;
    let output = child.stdout.take().context("piped")?;
    let group = child.id();
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let until = Instant::now() + limit;
    let mut end = loop {
        let left = until.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => {
                let name = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
                if let Some(name) = name {
                    break End::Failed(name.to_owned());
                }
                // A child of a test may keep the output open for longer.
                if line.starts_with("test result: ok") {
                    break End::Passed;
                }
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => break End::Lost("a time-out"),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                break End::Lost("the end of the program");
            }
        }
    };
    if kind != Kind::Rust && matches!(end, End::Lost("the end of the program")) && child.wait()?.success() {
        end = End::Passed;
    }
    if !matches!(end, End::Passed) {
        // All of the group, which this command began.
        let _ =
            Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).stderr(Stdio::null()).status();
    }
    let _ = child.wait();
    Ok(end)
}

/// The tests of a program.
fn names(program: &Program) -> Result<Vec<String>> {
    match program.kind {
        Kind::Rust => {
            let output = Command::new(&program.path).args(["--list", "--format", "terse"]).output()?;
            let text = String::from_utf8(output.stdout)?;
            let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
            Ok(names.filter(|name| !name.ends_with("peer_main")).map(str::to_owned).collect())
        }
        Kind::Plain => Ok(vec![program.name.clone()]),
    }
}

/// Runs every test once, without a change, and records which places it reaches. Tests that take more than
/// `longest` are left out.
pub(super) fn trace(
    root: &Path,
    programs: &[Program],
    numbers: usize,
    python: &Path,
    parts: &[&str],
    longest: Duration,
    jobs: usize,
) -> Result<Vec<Test>> {
    let mut open = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        let chosen = names(program)?.into_iter().filter(|name| parts.iter().any(|part| name.contains(part)));
        open.extend(chosen.map(|name| (index, name)));
    }
    println!("tracing {} tests, once", open.len());
    let open = std::sync::Mutex::new(open);
    let traced = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..jobs)
            .map(|worker| {
                let (open, traced) = (&open, &traced);
                scope.spawn(move || -> Result<()> {
                    let file = root.join(FOLDER).join(format!("trace-{}-{worker}", std::process::id()));
                    loop {
                        let next = open.lock().expect("not poisoned").pop();
                        let Some((program, name)) = next else {
                            let _ = std::fs::remove_file(&file);
                            return Ok(());
                        };
                        std::fs::write(&file, vec![0; numbers])?;
                        let kind = programs[program].kind;
                        let mut command = command(&programs[program], python, &[&name], None);
                        command.env("ZEROBUFFER_MUTANTS_TRACE", &file);
                        let begun = Instant::now();
                        let end = run(command, kind, longest)?;
                        if !matches!(end, End::Passed) {
                            println!(
                                "{}: {name} does not pass without any change ({end:?}): left out",
                                programs[program].name
                            );
                            continue;
                        }
                        let time = begun.elapsed();
                        let marks = std::fs::read(&file)?;
                        let reached = (0..)
                            .zip(marks)
                            .filter(|(_, mark)| *mark != 0)
                            .map(|(number, _)| number)
                            .collect();
                        traced.lock().expect("not poisoned").push(Test { program, name, time, reached });
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no panic"))
    })?;
    let mut tests = traced.into_inner().expect("not poisoned");
    tests.sort_by_key(|test| test.time);
    Ok(tests)
}

/// Runs the tests that reach a change, for as long as they take `budget` without it.
pub(super) fn judge(
    number: u32,
    tests: &[Test],
    programs: &[Program],
    python: &Path,
    budget: Duration,
) -> Result<Outcome> {
    let mut reaching: Vec<&Test> = tests.iter().filter(|test| test.reached.contains(&number)).collect();
    // Those first that look at little else, as they look at it closely; the quick ones first where that is equal.
    reaching.sort_by_key(|test| test.time.as_millis() * (test.reached.len() as u128).pow(2));
    if reaching.is_empty() {
        return Ok(Outcome::Unreached);
    }
    let mut spent = Duration::ZERO;
    let mut batches: Vec<Vec<&Test>> = Vec::new();
    let mut waiting: BTreeMap<usize, (Duration, Vec<&Test>)> = BTreeMap::new();
    for test in reaching {
        if spent + test.time > budget {
            continue;
        }
        spent += test.time;
        let (time, batch) = waiting.entry(test.program).or_default();
        *time += test.time;
        batch.push(test);
        if *time > TOGETHER {
            batches.push(std::mem::take(batch));
            *time = Duration::ZERO;
        }
    }
    batches.extend(waiting.into_values().map(|(_, batch)| batch).filter(|batch| !batch.is_empty()));
    for batch in batches {
        let time: Duration = batch.iter().map(|test| test.time).sum();
        let chosen: Vec<&str> = batch.iter().map(|test| test.name.as_str()).collect();
        let limit = 3 * time + PATIENCE;
        if let Some(noticed) = noticed(&programs[batch[0].program], python, &chosen, number, limit)? {
            return Ok(Outcome::Caught(noticed));
        }
    }
    Ok(Outcome::Survived)
}

/// What notices a change. A test must fail twice with it and pass right behind that without it; where all that is known is that
/// the tests did not come to an end, they must do so without it. So a slow moment of the machine, or a test that fails now and
/// then or always, is not taken for a test that notices.
fn noticed(
    program: &Program,
    python: &Path,
    tests: &[&str],
    number: u32,
    limit: Duration,
) -> Result<Option<String>> {
    let mut tests = tests.to_vec();
    while !tests.is_empty() {
        let first = run(command(program, python, &tests, Some(number)), program.kind, limit)?;
        match first {
            End::Passed => return Ok(None),
            End::Failed(name) => {
                let again = run(command(program, python, &[&name], Some(number)), program.kind, limit)?;
                if !matches!(again, End::Passed) {
                    let without = run(command(program, python, &[&name], None), program.kind, limit)?;
                    if matches!(without, End::Passed) {
                        return Ok(Some(name));
                    }
                    println!("{}: {name} does not pass without any change: left out", program.name);
                }
                tests.retain(|test| *test != name);
            }
            End::Lost(how) => {
                let without = run(command(program, python, &tests, None), program.kind, limit)?;
                if matches!(without, End::Passed) {
                    let others = if tests.len() > 1 { " and others" } else { "" };
                    return Ok(Some(format!("{how} ({}{others})", tests[0])));
                }
                // The machine is too slow just now for what these tests promise.
                return Ok(None);
            }
        }
    }
    Ok(None)
}

/// Runs the tests that are named for a change.
pub(super) fn judge_by_name(
    number: u32,
    chosen: &[(String, String)],
    programs: &[Program],
    python: &Path,
) -> Result<Outcome> {
    for (name, part) in chosen {
        let program = programs.iter().find(|program| program.name == *name);
        let program = program.with_context(|| format!("there is no test program `{name}`"))?;
        let names = names(program)?;
        let chosen: Vec<&str> =
            names.iter().map(String::as_str).filter(|test| test.contains(part.as_str())).collect();
        if chosen.is_empty() {
            bail!("no test of `{name}` is called `{part}`");
        }
        if let Some(test) = noticed(program, python, &chosen, number, Duration::from_secs(240))? {
            return Ok(Outcome::Caught(test));
        }
    }
    Ok(Outcome::Survived)
}
