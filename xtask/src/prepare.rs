//! Builds what later steps of `cargo xtask test` need, while the tests run. Most tests wait for other
//! processes, so processor time is left.
//!
//! Preparation gets only idle processor time (SCHED_IDLE), and may fail: the step that needs the result
//! builds it again, and reports the error. It goes on beside later steps, each of which waits for its own part only.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};

use crate::tools::{has, run};

/// Where the output goes.
const LOG: &str = "target/prepare.log";

/// A step, and what builds what it needs.
type Part = (&'static str, fn(&Path) -> Result<()>);

/// What is built, one part after the other.
const PARTS: [Part; 6] = [
    // Tests of two steps before that one, too. Cargo lets them wait for what they need.
    ("loom", |root| crate::test::builds(root).iter_mut().try_for_each(run)),
    ("deny", |root| crate::tools::cargo_deny(root).map(drop)),
    ("cpp", crate::cpp::prepare),
    ("python", crate::python::prepare),
    ("csharp", crate::csharp::prepare),
    ("bench", crate::bench::prepare),
];

/// The parts that are still to be built.
static LEFT: Mutex<Vec<&str>> = Mutex::new(Vec::new());
/// Told of each part that has been built.
static BUILT: Condvar = Condvar::new();

fn left() -> MutexGuard<'static, Vec<&'static str>> {
    LEFT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts preparing, if this system can restrict it to idle processor time.
pub(crate) fn start(root: &Path) {
    let log = File::create(root.join(LOG));
    let (Ok(log), Ok(program), true) = (log, std::env::current_exe(), has("chrt", &["--version"])) else {
        return;
    };
    *left() = PARTS.map(|(step, _)| step).into();
    let root = root.to_owned();
    std::thread::spawn(move || build_all(&root, &program, &log));
}

fn build_all(root: &Path, program: &Path, log: &File) {
    for (step, _) in PARTS {
        if !left().contains(&step) {
            return;
        }
        if !build_one(root, program, log, step) {
            println!("what step `{step}` needs could not be built yet: the step will say more");
        }
        left().retain(|other| *other != step);
        BUILT.notify_all();
    }
}

/// Builds one part in a process of its own, which goes to its end even if this process has gone.
fn build_one(root: &Path, program: &Path, log: &File, step: &str) -> bool {
    let mut command = Command::new("chrt");
    command.args(["--idle", "0"]).arg(program).args(["prepare", step]).current_dir(root);
    let (Ok(out), Ok(errors)) = (log.try_clone(), log.try_clone()) else { return false };
    let command = command.stdin(Stdio::null()).stdout(out).stderr(errors);
    command.status().is_ok_and(|status| status.success())
}

/// Waits for what a step needs, if it is being prepared.
pub(crate) fn finish(step: &str) {
    let mut left = left();
    if left.contains(&step) {
        println!("waiting for what this step needs to be built ({LOG})");
    }
    while left.contains(&step) {
        left = BUILT.wait(left).unwrap_or_else(PoisonError::into_inner);
    }
}

/// Starts no further part; the part that is being built ends by itself.
pub(crate) fn give_up() {
    left().clear();
}

/// The preparing process's work: `prepare STEP`.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<()> {
    let [step] = arguments else { bail!("prepare takes one step") };
    match PARTS.iter().find(|(other, _)| other == step) {
        Some((_, build)) => build(root),
        None => bail!("nothing is built ahead for step `{step}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_waits_for_its_own_part_and_no_part_begins_once_it_is_given_up() {
        let folder = std::env::temp_dir().join(format!("zbtest-{}-prepare", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        // A script of this name plays the preparing process. One part fails, and one waits until it is told.
        let (shell, script) =
            (Path::new("sh"), "echo $1 >>built\n[ $1 != csharp ] || cat fifo\n[ $1 != cpp ]\n");
        std::fs::write(folder.join("prepare"), script).unwrap();
        assert!(Command::new("mkfifo").arg(folder.join("fifo")).status().unwrap().success());
        let log = File::create(folder.join("log")).unwrap();
        let built = || std::fs::read_to_string(folder.join("built")).unwrap_or_default();

        finish("loom");
        assert_eq!(built(), "", "nothing is prepared");
        *left() = PARTS.map(|(step, _)| step).into();
        std::thread::scope(|scope| {
            scope.spawn(|| build_all(&folder, shell, &log));
            finish("format");
            finish("python");
            while built().lines().count() < 5 {
                std::thread::yield_now();
            }
            assert_eq!(built().lines().take(4).collect::<Vec<_>>(), ["loom", "deny", "cpp", "python"]);
            assert!(left().contains(&"csharp"), "it waits");
            give_up();
            finish("bench");
            std::fs::write(folder.join("fifo"), "go on").unwrap();
        });
        assert_eq!(built().lines().last(), Some("csharp"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
