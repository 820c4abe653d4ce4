//! `cargo xtask test`: all checks, in one command.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::prepare;
use crate::tools::{self, cargo, run};
use crate::venv;

struct Step {
    name: &'static str,
    what: &'static str,
    check: fn(&Path, bool) -> Result<()>,
}

const STEPS: &[Step] = &[
    Step { name: "format", what: "rustfmt on all packages", check: format },
    Step {
        name: "house",
        what: "the shape of the sources; PROTOCOL.md against the layout; copies of the version; links; plain words",
        check: crate::house::test,
    },
    Step {
        name: "lint",
        what: "clippy, warnings are errors; also checks the minimum Rust version's API",
        check: lint,
    },
    Step {
        name: "port",
        what: "the core against the contract for other systems, on one that offers nothing",
        check: port,
    },
    Step { name: "msrv", what: "a build with the minimum Rust version, where it is installed", check: msrv },
    Step { name: "docs", what: "rustdoc, broken links are errors", check: docs },
    Step { name: "unit", what: "all tests, against real processes and real 1.x peers", check: unit },
    Step { name: "stops", what: "the kill at every stop point", check: stops },
    Step {
        name: "slices",
        what: "streams and calls with sleeps of 10 s, so that a wake-up that is lost shows",
        check: slices,
    },
    Step {
        name: "instructions",
        what: "how many instructions a frame takes, against the figures in the tree",
        check: crate::instructions::test,
    },
    Step {
        name: "mutants",
        what: "notes on mutants against the sources, and changes that break the library and must be noticed: a few, with --full all",
        check: crate::mutants::test,
    },
    Step { name: "loom", what: "the extended ring and its bells under the model checker", check: loom },
    Step {
        name: "workflows",
        what: "the workflows and forms of .github against their schemas",
        check: crate::workflows::test,
    },
    Step { name: "deny", what: "rules for dependencies: bans, licences, sources", check: deny },
    Step {
        name: "cpp",
        what: "the C ABI and the C++ package: header, symbols, tests under sanitizers",
        check: crate::cpp::test,
    },
    Step {
        name: "python",
        what: "the Python package: lint, types, tests, wheels",
        check: crate::python::test,
    },
    Step {
        name: "csharp",
        what: "the C# packages: format, analyzers, tests on .NET 8 and .NET 10",
        check: crate::csharp::test,
    },
    Step {
        name: "examples",
        what: "the programs of examples/, in every language and between them",
        check: crate::examples::test,
    },
    Step {
        name: "conformance",
        what: "the API's names in every language, a share of the scenarios for every pair, random kills",
        check: crate::conformance::test,
    },
    Step { name: "bench", what: "a quick run of the benchmark driver, to keep it alive", check: bench },
    Step { name: "tidy", what: "nothing is left in /dev/shm and /tmp/zerobuffer", check: tidy },
];

fn run_steps(root: &Path, full: bool, keep_going: bool, chosen: &[&String]) -> Result<()> {
    for name in chosen {
        if !STEPS.iter().any(|step| step.name == name.as_str()) {
            bail!("there is no step `{name}`; `cargo xtask test --list` names them");
        }
    }
    crate::output::watch(root)?;
    LEFT_BEFORE.get_or_init(leftovers);
    ALL.get_or_init(|| chosen.is_empty());
    let start = Instant::now();
    let mut times = Vec::new();
    let mut failed = Vec::new();
    for step in STEPS.iter().filter(|step| chosen.is_empty() || chosen.iter().any(|name| step.name == **name))
    {
        println!("\n==== {}: {}", step.name, step.what);
        let begun = Instant::now();
        prepare::finish(step.name);
        if let Err(error) = (step.check)(root, full) {
            crate::output::summarise(step.name);
            let error = error.context(format!("step `{}` failed", step.name));
            if !keep_going {
                return Err(error);
            }
            println!("{error:#}");
            failed.push(step.name);
        }
        times.push(format!("{} {:.0} s", step.name, begun.elapsed().as_secs_f64()));
    }
    println!("\n==== {:.0} s: {}", start.elapsed().as_secs_f64(), times.join(", "));
    if !failed.is_empty() {
        bail!("steps that failed: {}", failed.join(", "));
    }
    println!("==== all steps passed");
    Ok(())
}

pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--list") {
        STEPS.iter().for_each(|step| println!("{:13} {}", step.name, step.what));
        return Ok(());
    }
    let full = arguments.iter().any(|argument| argument == "--full");
    let keep_going = arguments.iter().any(|argument| argument == "--keep-going");
    let chosen: Vec<&String> = arguments
        .iter()
        .filter(|argument| !["--full", "--keep-going"].contains(&argument.as_str()))
        .collect();
    let result = run_steps(root, full, keep_going, &chosen);
    if result.is_err() {
        prepare::give_up();
    }
    result
}

fn format(root: &Path, _: bool) -> Result<()> {
    run(&mut cargo(root, &["fmt", "--all", "--check"]))?;
    run(&mut cargo(&root.join("bench"), &["fmt", "--check"]))
}

fn lint(root: &Path, _: bool) -> Result<()> {
    let rules = ["--", "--deny", "warnings"];
    run(cargo(root, &["clippy", "--workspace", "--all-targets"]).args(rules))?;
    let features = ["--features", "zerobuffer/async,zerobuffer-tests/stop-points"];
    run(cargo(root, &["clippy", "-p", "zerobuffer", "-p", "zerobuffer-tests", "--all-targets"])
        .args(features)
        .args(rules))
}

/// A flag removes this system's implementation, so no other system's standard library is needed.
fn port(root: &Path, _: bool) -> Result<()> {
    let mut command = cargo(root, &["check", "-p", "zerobuffer", "--lib", "--features", "async"]);
    command.env("RUSTFLAGS", "--cfg zerobuffer_unsupported_os -D warnings");
    command.env("CARGO_TARGET_DIR", root.join("target/port"));
    run(&mut command)
}

fn msrv(root: &Path, _: bool) -> Result<()> {
    let manifest = std::fs::read_to_string(root.join("Cargo.toml"))?;
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .map(|value| value.trim_matches('"').to_owned())
        .ok_or_else(|| anyhow::anyhow!("Cargo.toml states no rust-version"))?;
    if !tools::has("rustup", &["run", &version, "rustc", "--version"]) {
        println!(
            "Rust {version} is not installed here; `clippy::incompatible_msrv` (step lint) and the resolver have \
             checked against it. To build with it: rustup toolchain install {version}"
        );
        return Ok(());
    }
    run(Command::new("rustup")
        .current_dir(root)
        .args(["run", &version, "cargo", "check", "--workspace", "--target-dir", "target/msrv"])
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN"))
}

fn docs(root: &Path, _: bool) -> Result<()> {
    run(cargo(root, &["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "--deny warnings"))
}

fn deny(root: &Path, _: bool) -> Result<()> {
    let program = tools::cargo_deny(root)?;
    run(Command::new(program).current_dir(root).args(["check", "bans", "licenses", "sources"]))
}

fn with_environment(mut command: Command, root: &Path, full: bool) -> Result<Command> {
    command.env("ZEROBUFFER_PEER_PYTHON", venv::ensure(root)?);
    if full {
        command.env("ZEROBUFFER_FULL", "1");
    }
    Ok(command)
}

fn unit(root: &Path, full: bool) -> Result<()> {
    let test = ["test", "--workspace", "--features", "zerobuffer/async", "--no-fail-fast"];
    run(cargo(root, &test).arg("--no-run"))?;
    let mut tests = with_environment(cargo(root, &test), root, full)?;
    // Most of them wait for other processes.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    tests.env("RUST_TEST_THREADS", (2 * processors).to_string());
    if ALL.get() == Some(&true) {
        prepare::start(root);
    }
    run(&mut tests)
}

fn stops(root: &Path, full: bool) -> Result<()> {
    run(&mut with_environment(stops_test(root), root, full)?)
}

fn stops_test(root: &Path) -> Command {
    cargo(root, &["test", "-p", "zerobuffer-tests", "--features", "stop-points", "--test", "stop_points"])
}

/// Tests in which no wake-up depends on the end of a sleep, because no process dies.
pub(crate) const AWAKE: &[&str] = &[
    "a_blocked_call_can_be_interrupted",
    "a_close_that_falls_between_the_last_look_and_the_sleep_is_told_at_once",
    "a_full_buffer_waits_times_out_and_goes_on",
    "a_writer_waits_to_connect_and_says_what_is_missing",
    "duplex::echo::",
    "duplex::order::",
    "extended_sleeps::",
    "frames_arrive_in_order_and_whole_between_two_processes",
    "give_back::",
];

fn slices(root: &Path, full: bool) -> Result<()> {
    run(with_environment(slices_test(root), root, full)?.arg("--").args(AWAKE))
}

fn slices_test(root: &Path) -> Command {
    let mut command = cargo(root, &["test", "-p", "zerobuffer-tests", "--features", "stop-points"]);
    command.args(["--test", "promises", "--test", "stop_points"]);
    // Its own folder, because everything is built with another flag.
    command.env("RUSTFLAGS", "--cfg long_slices").env("CARGO_TARGET_DIR", root.join("target/slices"));
    command
}

fn loom(root: &Path, _: bool) -> Result<()> {
    run(loom_test(root).arg("loom"))
}

fn loom_test(root: &Path) -> Command {
    let mut command = cargo(root, &["test", "-p", "zerobuffer", "--lib", "--release"]);
    // A folder of its own, because everything is built with another flag.
    command.env("RUSTFLAGS", "--cfg loom").env("CARGO_TARGET_DIR", root.join("target/loom"));
    tools::build_quickly(&mut command);
    command
}

/// What builds the tests of later steps.
pub(crate) fn builds(root: &Path) -> Vec<Command> {
    let mut tests = vec![stops_test(root), slices_test(root), loom_test(root)];
    for test in &mut tests {
        test.arg("--no-run");
    }
    tests
}

fn bench(root: &Path, _: bool) -> Result<()> {
    crate::bench::command(root, &["--quick".into()])
}

fn tidy(_: &Path, _: bool) -> Result<()> {
    let before = LEFT_BEFORE.get_or_init(leftovers);
    let left: Vec<String> = leftovers().into_iter().filter(|path| !before.contains(path)).collect();
    if !left.is_empty() {
        bail!("tests left files: {}", left.join(", "));
    }
    Ok(())
}

/// Whether all steps are run.
static ALL: OnceLock<bool> = OnceLock::new();

/// Files that killed test runs had left before this one began. `zerobuffer clean` removes them.
static LEFT_BEFORE: OnceLock<Vec<String>> = OnceLock::new();

/// Files of buffers that tests made, and FIFOs that were left.
fn leftovers() -> Vec<String> {
    ["/dev/shm", "/tmp/zerobuffer"]
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(|entries| {
            entries.filter_map(|entry| entry.ok()?.path().into_os_string().into_string().ok())
        })
        .filter(|path| path.contains("zbtest-") || is_orphan(path))
        .collect()
}

/// Whether the file is the FIFO of a descriptor whose process is gone. A FIFO has no name of a test's, but its owner locks it.
fn is_orphan(path: &str) -> bool {
    let Some(inode) =
        std::fs::metadata(path).ok().filter(|_| path.contains("/sem.zbf-")).map(|info| info.ino())
    else {
        return false;
    };
    // The file of each lock: major and minor number of its device, and its inode (proc_locks(5)).
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    !locks.contains(&format!(":{inode} "))
}
