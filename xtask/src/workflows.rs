//! Checks the workflows and forms of `.github` against their schemas, and for unsafe practices.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::tools::{has, run};
use crate::venv;

/// The linters, pinned: `check-jsonschema` brings its schemas along, `zizmor` works without a network.
const LINTERS: &[&str] = &["check-jsonschema==0.39.0", "zizmor==1.32.0"];

const FOLDER: &str = "target/workflows-venv";

/// The files and their schemas.
const SCHEMAS: &[(&str, &str)] =
    &[("vendor.github-workflows", ".github/workflows"), ("vendor.dependabot", ".github/dependabot.yml")];

/// Checks everything below `.github` that has a schema.
pub(crate) fn test(root: &Path, _full: bool) -> Result<()> {
    let programs = linters(root)?;
    for (schema, path) in SCHEMAS {
        let files = files(&root.join(path))?;
        run(Command::new(programs.join("check-jsonschema"))
            .args(["--quiet", "--builtin-schema", schema])
            .args(files))?;
    }
    run(Command::new(programs.join("zizmor"))
        .args(["--offline", "--no-progress", "--quiet", "."])
        .current_dir(root.join(".github")))
}

/// Installs the linters into a separate environment, once. Returns the folder of their programs.
fn linters(root: &Path) -> Result<PathBuf> {
    let venv = root.join(FOLDER);
    let programs = venv.join("bin");
    let stamp = venv.join("installed.txt");
    let wanted = LINTERS.join("\n");
    let zizmor = programs.join("zizmor");
    if std::fs::read_to_string(&stamp).is_ok_and(|text| text == wanted)
        && has(&zizmor.to_string_lossy(), &["--version"])
    {
        return Ok(programs);
    }
    println!("installing the workflow linters into {FOLDER} (once)");
    venv::make(&venv)?;
    run(Command::new(programs.join("python"))
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(LINTERS))
    .context("cannot install the workflow linters; is the package index reachable?")?;
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(programs)
}

/// The file itself, or the files of a folder.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}
