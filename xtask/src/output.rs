//! Watches the output of a test run's programs, so that a failing run can end with a summary: what failed,
//! and how to run it alone.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The file of the whole output.
const LOG: &str = "target/test.log";

/// Failures that the summary shows.
const SHOWN: usize = 7;

/// How long a program's output may stay open after its end, because a grandchild may have kept it.
const PATIENCE: Duration = Duration::from_secs(5);

/// `None` while nothing is watched.
static WATCHED: Mutex<Option<Watched>> = Mutex::new(None);

struct Watched {
    log: std::fs::File,
    failures: Vec<Failure>,
}

#[derive(Debug, PartialEq, Eq)]
struct Failure {
    what: String,
    /// The command that runs it alone, if that is known.
    alone: Option<String>,
}

/// Watches the output of programs from now on.
pub(crate) fn watch(root: &Path) -> Result<()> {
    std::fs::create_dir_all(root.join("target"))?;
    let log = std::fs::File::create(root.join(LOG)).with_context(|| format!("cannot write {LOG}"))?;
    *WATCHED.lock().unwrap_or_else(PoisonError::into_inner) = Some(Watched { log, failures: Vec::new() });
    Ok(())
}

/// Prints what failed, in at most ten lines.
pub(crate) fn summarise(step: &str) {
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(failures) = watched.as_mut().map(|watched| std::mem::take(&mut watched.failures)) else {
        return;
    };
    eprintln!("\n==== step `{step}` failed; alone: cargo xtask test {step}; whole output: {LOG}");
    for failure in failures.iter().take(SHOWN) {
        match &failure.alone {
            Some(command) => eprintln!("  {}: {command}", failure.what),
            None => eprintln!("  {}", failure.what),
        }
    }
    if failures.len() > SHOWN {
        eprintln!("  ... and {} more", failures.len() - SHOWN);
    }
}

/// Runs a command and shows its output.
pub(crate) fn status(command: &mut Command) -> std::io::Result<ExitStatus> {
    if WATCHED.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
        return command.status();
    }
    let (reader, writer) = std::io::pipe()?;
    let mut child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
    // The command keeps the pipe's other side open.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let printing = std::thread::spawn(move || {
        let mut parser = Parser::default();
        let mut lines = BufReader::new(reader);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let _ = std::io::stdout().write_all(&line);
            let found = parser.line(String::from_utf8_lossy(&line).trim_end());
            if let Some(watched) = &mut *WATCHED.lock().unwrap_or_else(PoisonError::into_inner) {
                let _ = watched.log.write_all(&line);
                watched.failures.extend(found.filter(|found| !watched.failures.contains(found)));
            }
            line.clear();
        }
    });
    let status = child.wait();
    let ended = Instant::now();
    while !printing.is_finished() && ended.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
    status
}

/// Finds failures by the lines that test programs print.
#[derive(Default)]
struct Parser {
    /// Cargo's options for the test program of the lines that follow.
    target: String,
}

impl Parser {
    fn line(&mut self, line: &str) -> Option<Failure> {
        let line = without_colours(line);
        let line = line.trim_start();
        let failure = |what: &str, alone: Option<String>| Some(Failure { what: what.to_owned(), alone });
        if let Some(rest) = line.strip_prefix("Running ") {
            self.target = target_of(rest).unwrap_or_default();
        } else if let Some(package) = line.strip_prefix("Doc-tests ") {
            self.target = format!("-p {} --doc", package.replace('_', "-"));
        } else if let Some(name) =
            line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            let alone = format!("cargo test {} -- --exact '{name}'", self.target);
            return failure(name, Some(alone));
        } else if let Some(test) =
            line.strip_prefix("FAILED bindings/python/").or(line.strip_prefix("FAILED tests/"))
        {
            let test = test.trim_start_matches("tests/");
            let name = test.split(" - ").next().unwrap_or(test);
            let part = name.rsplit("::").next().unwrap_or(name).split('[').next().unwrap_or(name);
            let alone = "target/python/venv-3.11/bin/python -m pytest bindings/python/tests -k";
            return failure(name, Some(format!("{alone} {part}")));
        } else if let Some(play) = line.strip_prefix("FAILED ").and_then(|rest| rest.split_once(": ")) {
            return failure(play.0, Some(format!("cargo xtask conformance --only '{}'", play.0)));
        } else if let Some(test) = line.strip_suffix("(Failed)").or(line.strip_suffix("(Timeout)")) {
            let name = test.split_once(" - ").map_or(test, |(_, name)| name).trim();
            return failure(
                name,
                Some(format!("ctest --test-dir target/cpp -R '{name}' --output-on-failure")),
            );
        } else if line.starts_with("error[E")
            || line.starts_with("error: ") && !line.contains("to rerun pass")
        {
            let follows_from_others =
                ["aborting due to", "could not compile", "target failed", "targets failed"];
            if !follows_from_others.iter().any(|part| line.contains(part)) {
                return failure(line, None);
            }
        }
        None
    }
}

/// `tests/kinds.rs (target/debug/deps/kinds-0123456789abcdef)` as cargo's options.
fn target_of(text: &str) -> Option<String> {
    let (source, program) = text.split_once(" (")?;
    let name = Path::new(program.trim_end_matches(')')).file_name()?.to_str()?.rsplit_once('-')?.0.to_owned();
    if let Some(source) = source.strip_prefix("unittests ") {
        let kind = if source.ends_with("lib.rs") { "--lib".to_owned() } else { format!("--bin {name}") };
        // The package of a library or a program has its name, except for the C ABI's.
        let package =
            if name == "zerobuffer_c" { "zerobuffer-ffi".to_owned() } else { name.replace('_', "-") };
        return Some(if kind == "--lib" {
            format!("-p {package} --lib")
        } else {
            format!("--workspace {kind}")
        });
    }
    if name == "stop_points" {
        return Some("-p zerobuffer-tests --features stop-points --test stop_points".to_owned());
    }
    Some(format!("--workspace --features zerobuffer/async --test {name}"))
}

/// The line without escape sequences of a terminal.
fn without_colours(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        text.push_str(before);
        rest = after.split_once(|end: char| end.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_with_the_command_that_runs_it_alone() {
        let mut parser = Parser::default();
        let mut found = Vec::new();
        for line in [
            "\u{1b}[1m\u{1b}[32m     Running\u{1b}[0m tests/promises/main.rs (target/debug/deps/promises-59c97d02ce79eb34)",
            "test duplex::ends::one ... ok",
            "test duplex::ends::two ... FAILED",
            "     Running stop_points/main.rs (target/debug/deps/stop_points-5d)",
            "test leaps::b ... FAILED",
            "     Running unittests src/lib.rs (target/debug/deps/zerobuffer_c-0a)",
            "test a ... FAILED",
            "   Doc-tests zerobuffer",
            "test crates/zerobuffer/src/lib.rs - (line 9) ... FAILED",
            "FAILED bindings/python/tests/test_duplex.py::test_x[1-2] - AssertionError: no",
            "FAILED metadata/rust > c++: no answer",
            "\t  3 - streams (Failed)",
            "error[E0308]: mismatched types",
            "error: could not compile `zerobuffer` (lib) due to 1 previous error",
            "error: test failed, to rerun pass `-p zerobuffer --test promises`",
        ] {
            found.extend(parser.line(line).map(|failure| (failure.what, failure.alone.unwrap_or_default())));
        }
        let expected = [
            (
                "duplex::ends::two",
                "cargo test --workspace --features zerobuffer/async --test promises -- --exact 'duplex::ends::two'",
            ),
            (
                "leaps::b",
                "cargo test -p zerobuffer-tests --features stop-points --test stop_points -- --exact 'leaps::b'",
            ),
            ("a", "cargo test -p zerobuffer-ffi --lib -- --exact 'a'"),
            (
                "crates/zerobuffer/src/lib.rs - (line 9)",
                "cargo test -p zerobuffer --doc -- --exact 'crates/zerobuffer/src/lib.rs - (line 9)'",
            ),
            (
                "test_duplex.py::test_x[1-2]",
                "target/python/venv-3.11/bin/python -m pytest bindings/python/tests -k test_x",
            ),
            ("metadata/rust > c++", "cargo xtask conformance --only 'metadata/rust > c++'"),
            ("streams", "ctest --test-dir target/cpp -R 'streams' --output-on-failure"),
            ("error[E0308]: mismatched types", ""),
        ];
        let expected: Vec<(String, String)> =
            expected.map(|(what, alone)| (what.to_owned(), alone.to_owned())).into();
        assert_eq!(found, expected);
    }
}
