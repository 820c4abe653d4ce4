//! Builds what later steps of `cargo xtask test` need, while the tests run. Most tests wait for other
//! processes, so processor time is left.
//!
//! Preparation gets only idle processor time (SCHED_IDLE), and may fail: the step that needs the result
//! builds it again, and reports the error.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::Result;

use crate::tools::{has, run};

/// Where the output goes.
const LOG: &str = "target/prepare.log";

/// The preparing process, until it has been waited for.
static BESIDE: Mutex<Option<Child>> = Mutex::new(None);

/// Starts preparing, if this system can restrict it to idle processor time.
pub(crate) fn start(root: &Path) {
    *BESIDE.lock().unwrap_or_else(PoisonError::into_inner) = spawn(root);
}

fn spawn(root: &Path) -> Option<Child> {
    if !has("chrt", &["--version"]) {
        return None;
    }
    let log = File::create(root.join(LOG)).ok()?;
    Command::new("chrt")
        .args(["--idle", "0"])
        .arg(std::env::current_exe().ok()?)
        .arg("prepare")
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(log.try_clone().ok()?)
        .stdout(log)
        .spawn()
        .ok()
}

/// Waits for what [`start`] has started, if anything.
pub(crate) fn finish() {
    let beside = BESIDE.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut child) = beside else { return };
    if !matches!(child.try_wait(), Ok(Some(_))) {
        println!("waiting for what later steps need to be built ({LOG})");
    }
    if !child.wait().is_ok_and(|status| status.success()) {
        println!("not all of it could be: the step that needs it will say more");
    }
}

/// Starts no further part; the part that is being built ends by itself.
pub(crate) fn give_up() {
    if let Some(mut child) = BESIDE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The preparing process's work. It does all parts, even if some fail.
pub(crate) fn command(root: &Path) -> Result<()> {
    let parts: [fn(&Path) -> Result<()>; 6] = [
        |root| crate::test::builds(root).iter_mut().try_for_each(run),
        |root| crate::tools::cargo_deny(root).map(drop),
        crate::cpp::prepare,
        crate::python::prepare,
        crate::csharp::prepare,
        crate::bench::prepare,
    ];
    let results: Vec<_> = parts.iter().map(|part| part(root)).collect();
    results.into_iter().collect()
}
