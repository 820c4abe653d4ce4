//! `cargo xtask fuzz`: the fuzz targets of fuzz/, with libFuzzer and AddressSanitizer, by the stable compiler.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools::{self, HOST, cargo, run};

/// Targets, and the most bytes that an input of each may have.
const TARGETS: [(&str, u32); 7] = [
    ("first_block", 192),
    ("classic", 1024),
    ("extended", 1024),
    ("sharing", 192),
    ("c_calls", 72),
    ("c_duplex", 48),
    ("arguments", 256),
];

/// Compiler flags for everything that is built.
const FLAGS: &str = "--cfg fuzzing -Ccodegen-units=1 -Zsanitizer=address";

/// Compiler flags that report branches and comparisons to libFuzzer.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// The crates to instrument: libFuzzer reads every counter after each run, and most of them would belong to
/// dependencies.
const COVERED: [&str; 2] = ["zerobuffer", "zerobuffer-fuzz"];

/// `fuzz [--executions N] [TARGET...]`.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<()> {
    let mut executions = 10_000_000;
    let mut chosen = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--executions" {
            let number = rest.next().and_then(|number| number.parse().ok());
            executions = number.context("--executions takes a number")?;
        } else if let Some(target) = TARGETS.iter().find(|(name, _)| name == argument) {
            chosen.push(target);
        } else {
            let names = TARGETS.map(|(name, _)| name);
            bail!("there is no target `{argument}`; there are {}", names.join(", "));
        }
    }
    if chosen.is_empty() {
        chosen.extend(&TARGETS);
    }
    tools::need("c++", "g++")?;
    // The target is named, so that build scripts and macros are not instrumented.
    let arguments =
        ["build", "--release", "--locked", "--target", HOST, "--manifest-path", "fuzz/Cargo.toml"];
    run(cargo(root, &arguments)
        .arg("-Zprofile-rustflags")
        .args(
            COVERED
                .map(|package| format!("--config=profile.release.package.{package}.rustflags={COVERAGE:?}")),
        )
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", root.join("target/fuzz")))?;
    chosen.into_iter().try_for_each(|&(target, longest)| fuzz(root, target, longest, executions))
}

fn fuzz(root: &Path, target: &str, longest: u32, executions: u64) -> Result<()> {
    // Findings go below target/; the tree has a few seeds.
    let [found, artifacts] =
        ["corpus", "artifacts"].map(|folder| root.join("target/fuzz").join(folder).join(target));
    for folder in [&found, &artifacts] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    println!("fuzzing {target}");
    let fuzzer = |arguments: &[String]| {
        run(Command::new(root.join("target/fuzz").join(HOST).join("release").join(target))
            .current_dir(root)
            .arg(&found)
            .arg(root.join("fuzz/seeds").join(target))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(["-timeout=10", "-entropic=0", "-verbosity=0", "-print_funcs=0"])
            .args(arguments)
            // Checks that take time and find nothing here: little is freed, no stack is used after its
            // function, and an input with a finding can be run again for the callers of an allocation.
            .env(
                "ASAN_OPTIONS",
                "quarantine_size_mb=4:detect_stack_use_after_return=0:malloc_context_size=1",
            ))
    };
    let [runs, longest] = [format!("-runs={executions}"), format!("-max_len={longest}")];
    fuzzer(&[runs, longest, "-detect_leaks=0".into(), "-print_final_stats=1".into()])?;
    // The search for leaks takes long, so it runs on the kept inputs only, which cover all paths that were
    // found.
    fuzzer(&["-runs=0".into()])
}
