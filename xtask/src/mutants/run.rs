//! Runs tests of the changed tree, in a mount namespace of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::tree::{FOLDER, Program};

/// A changed library must not reach other processes' files, so /dev/shm and the locks belong to this run and
/// are bounded.
const PRIVATE: &str = "mkdir -p /tmp/zerobuffer && mount -t tmpfs -o mode=1777,size=3g tmpfs /dev/shm \
    && mount -t tmpfs -o mode=1777,size=64m tmpfs /tmp/zerobuffer && exec \"$0\" \"$@\"";

/// The longest time of a test.
const LONGEST: Duration = Duration::from_secs(300);

/// Tests that take less are run together, up to this time.
const TOGETHER: Duration = Duration::from_secs(4);

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

/// A test program in a mount namespace of its own.
fn command(program: &Program, python: &Path) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", PRIVATE])
        .arg(&program.path)
        .current_dir(&program.folder)
        .env("ZEROBUFFER_PEER_PYTHON", python)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    command
}

/// Returns whether the tests pass in time, or the name of one that fails. Ends them at the first failure.
fn passes(mut command: Command, limit: Duration) -> Result<Option<String>> {
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
    let mut failed = None;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left) {
            Ok(line) => {
                let name = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"));
                if let Some(name) = name {
                    failed = Some(name.to_owned());
                    break;
                }
                if line.starts_with("test result: ok") {
                    break;
                }
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                failed = Some("a time-out".to_owned());
                break;
            }
            // The program has ended without a result.
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                failed = Some("the end of the test program".to_owned());
                break;
            }
        }
    }
    if failed.is_some() {
        // Ends the whole process group, which this command started.
        let _ =
            Command::new("kill").args(["-KILL", "--", &format!("-{group}")]).stderr(Stdio::null()).status();
    }
    let _ = child.wait();
    Ok(failed)
}

/// The tests of a program.
fn names(program: &Program) -> Result<Vec<String>> {
    let output = Command::new(&program.path).args(["--list", "--format", "terse"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    Ok(names.filter(|name| !name.ends_with("peer_main")).map(str::to_owned).collect())
}

/// Runs every test once, without a change, and records which places it reaches.
pub(super) fn trace(
    root: &Path,
    programs: &[Program],
    mutants: usize,
    python: &Path,
    part: &str,
    jobs: usize,
) -> Result<Vec<Test>> {
    let mut open = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        let chosen = names(program)?.into_iter().filter(|name| name.contains(part));
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
                    let file = root.join(FOLDER).join(format!("trace-{worker}"));
                    loop {
                        let next = open.lock().expect("not poisoned").pop();
                        let Some((program, name)) = next else { return Ok(()) };
                        std::fs::write(&file, vec![0; mutants.max(1)])?;
                        let mut command = command(&programs[program], python);
                        command.args(["--exact", &name, "--test-threads=1"]);
                        command.env("ZEROBUFFER_MUTANTS_TRACE", &file);
                        let begun = Instant::now();
                        if let Some(failed) = passes(command, LONGEST)? {
                            println!(
                                "{}: {name} fails without any change ({failed}): left out",
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

/// Runs the tests that reach a change, the quick ones first, for as long as they take `budget` without it.
pub(super) fn judge(
    number: u32,
    tests: &[Test],
    programs: &[Program],
    python: &Path,
    budget: Duration,
) -> Result<Outcome> {
    let reaching: Vec<&Test> = tests.iter().filter(|test| test.reached.contains(&number)).collect();
    if reaching.is_empty() {
        return Ok(Outcome::Unreached);
    }
    let mut spent = Duration::ZERO;
    let mut batches: Vec<Vec<&Test>> = Vec::new();
    let mut waiting: BTreeMap<usize, (Duration, Vec<&Test>)> = BTreeMap::new();
    for test in reaching {
        if spent + test.time > budget {
            break;
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
        let mut command = command(&programs[batch[0].program], python);
        command.arg("--exact").args(batch.iter().map(|test| &test.name)).args(["--test-threads", "2"]);
        command.env("ZEROBUFFER_MUTANT", number.to_string());
        if let Some(failed) = passes(command, 3 * time + Duration::from_secs(15))? {
            return Ok(Outcome::Caught(if failed.contains(' ') {
                format!("{failed} ({})", batch[0].name)
            } else {
                failed
            }));
        }
    }
    Ok(Outcome::Survived)
}

/// Runs the tests that a change by hand names.
pub(super) fn judge_by_name(
    number: u32,
    chosen: &[(String, String)],
    programs: &[Program],
    python: &Path,
) -> Result<Outcome> {
    for (name, part) in chosen {
        let program = programs.iter().find(|program| program.name == *name);
        let program = program.with_context(|| format!("there is no test program `{name}`"))?;
        if !names(program)?.iter().any(|test| test.contains(part.as_str())) {
            bail!("no test of `{name}` is called `{part}`");
        }
        let mut command = command(program, python);
        command.arg(part).args(["--test-threads", "2"]).env("ZEROBUFFER_MUTANT", number.to_string());
        if let Some(failed) = passes(command, Duration::from_secs(60))? {
            return Ok(Outcome::Caught(failed));
        }
    }
    Ok(Outcome::Survived)
}
