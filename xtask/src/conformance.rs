//! `cargo xtask conformance` and `cargo xtask soak`: builds what they need and runs them.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::tools::{cargo, run};
use crate::venv;

const PACKAGE: &str = "zerobuffer-conformance";

fn build(root: &Path) -> Result<()> {
    run(&mut cargo(root, &["build", "--package", PACKAGE]))
}

/// Plays the scenarios with all languages; `arguments` go to the runner.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<()> {
    build(root)?;
    let old = venv::ensure(root)?;
    let mut runner = Command::new(root.join("target/debug/conformance"));
    runner.current_dir(root);
    runner.args(["--peer", "rust=target/debug/conformance-peer"]);
    runner.arg("--peer").arg(format!("1.x={} conformance/peers/python/one_x.py", old.display()));
    // A short way to the report that is kept in the tree.
    for argument in arguments {
        runner.arg(argument);
        if argument == "--report" {
            runner.arg("docs/conformance");
        }
    }
    run(&mut runner)
}

/// Kills at random; `arguments` go to the soak.
pub(crate) fn soak(root: &Path, arguments: &[String]) -> Result<()> {
    build(root)?;
    run(Command::new(root.join("target/debug/soak")).current_dir(root).args(arguments))
}
