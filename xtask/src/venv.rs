//! The interpreter with the published 1.x package, for the tests against real 1.x peers.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools::{apt_install, has, is_root, run};

/// The pinned packages, with everything that they need.
const REQUIREMENTS: &str = "crates/zerobuffer/tests/peers/requirements.txt";

/// The folder in which the tests look, even in a plain `cargo test`.
const VENV: &str = "target/peer-venv";

/// Makes the virtual environment of the 1.x peer, unless it already matches `requirements.txt`. Returns its
/// interpreter. `ZEROBUFFER_PEER_PYTHON` names another interpreter, which is used unchanged.
pub(crate) fn ensure(root: &Path) -> Result<PathBuf> {
    if let Some(python) = std::env::var_os("ZEROBUFFER_PEER_PYTHON") {
        return Ok(python.into());
    }
    let requirements = root.join(REQUIREMENTS);
    let wanted = std::fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let venv = root.join(VENV);
    let python = venv.join("bin/python");
    // Written last: what it says has been installed.
    let stamp = venv.join("installed.txt");
    let installed = std::fs::read_to_string(&stamp).is_ok_and(|text| text == wanted);
    if installed && works(&python) {
        atomic(&python)?;
        return Ok(python);
    }
    println!("installing the 1.x package from PyPI into {VENV} (once)");
    make(&venv)?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(Command::new(&python).args(pip).arg(&requirements)).context(
        "cannot install the 1.x package that the tests run against; is the package index reachable?",
    )?;
    if !works(&python) {
        bail!("{} cannot import the 1.x package after installing it", python.display());
    }
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    atomic(&python)?;
    Ok(python)
}

/// Without libatomic the 1.x package changes shared words by plain instructions, and loses frames. Such a
/// package is useless for tests.
fn atomic(python: &Path) -> Result<()> {
    let there = || has(&python.to_string_lossy(), &["-c", "import ctypes; ctypes.CDLL('libatomic.so.1')"]);
    if there() {
        return Ok(());
    }
    if is_root() && has("apt-get", &["--version"]) {
        apt_install("libatomic1")?;
    }
    if !there() {
        bail!("the 1.x package needs libatomic; on Debian and Ubuntu: sudo apt-get install -y libatomic1");
    }
    Ok(())
}

fn works(python: &Path) -> bool {
    has(&python.to_string_lossy(), &["-c", "import zerobuffer, posix_ipc"])
}

/// Makes an empty environment in place of an earlier one.
pub(crate) fn make(venv: &Path) -> Result<()> {
    make_with("python3".as_ref(), venv)
}

/// Makes an empty environment with the given interpreter.
pub(crate) fn make_with(python: &Path, venv: &Path) -> Result<()> {
    let create = || {
        let done = Command::new(python).args(["-m", "venv", "--clear"]).arg(venv).output();
        match done {
            Ok(output) if output.status.success() => Ok(()),
            // The module reports on stdout what is missing.
            Ok(output) => {
                Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    };
    let Err(why) = create() else { return Ok(()) };
    if is_root() && has("apt-get", &["--version"]) {
        println!("python3 cannot make virtual environments ({why})");
        apt_install("python3-venv")?;
        return create().map_err(|why| anyhow::anyhow!("python3 -m venv still fails: {why}"));
    }
    bail!(
        "the tests against the 1.x package need python3 with venv ({why}); on Debian and Ubuntu: sudo apt-get install -y \
         python3-venv; or let ZEROBUFFER_PEER_PYTHON name an interpreter that has the packages of {REQUIREMENTS}"
    )
}
