//! `cargo xtask conformance` and `cargo xtask soak`: builds what they need and runs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::tools::{self, apt_install, cargo, has, is_root, run};
use crate::venv;

const PACKAGE: &str = "zerobuffer-verification";
const CPP_BUILD: &str = "target/conformance-cpp";

/// The step plays one case in this many.
const SHARE: &str = "6";

fn build(root: &Path) -> Result<()> {
    run(&mut cargo(root, &["build", "--package", PACKAGE]))
}

/// The step: the API's names, a share of the plays, and a short soak. Earlier steps have built what it needs.
pub(crate) fn test(root: &Path, full: bool) -> Result<()> {
    let (share, seconds) = if full { ("1", 120.0) } else { (SHARE, 10.0) };
    command(root, &["--every".to_owned(), share.to_owned()])?;
    soak(root, &["--minutes".to_owned(), (seconds / 60.0_f64).to_string()])
}

/// Checks the API's names, and plays the scenarios with all languages; `arguments` go to the runner.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<()> {
    build(root)?;
    let cpp = cpp_peer(root)?;
    let python = crate::python::with_package(root)?;
    run(Command::new(&python).current_dir(root).arg("verification/parity.py"))?;
    let old = venv::ensure(root)?;
    let mut runner = Command::new(root.join("target/debug/conformance"));
    runner.current_dir(root);
    // A .NET runtime that is killed would leave its diagnostic socket behind.
    runner.env("DOTNET_EnableDiagnostics", "0");
    runner.args(["--peer", "rust=target/debug/conformance-peer"]);
    runner.arg("--peer").arg(format!("c++={}", cpp.display()));
    runner
        .arg("--peer")
        .arg(format!("python={} verification/conformance/peers/python/ours.py", python.display()));
    if let Some(peer) = crate::csharp::conformance_peer(root)? {
        runner.arg("--peer").arg(format!("c#={peer}"));
    }
    runner.arg("--peer").arg(format!("1.x={} verification/conformance/peers/python/one_x.py", old.display()));
    for argument in arguments {
        runner.arg(argument);
        // The report in the tree.
        if argument == "--report" {
            runner.arg("verification/records/conformance");
        }
    }
    run(&mut runner)
}

fn cpp_peer(root: &Path) -> Result<PathBuf> {
    for (program, package) in [("cmake", "cmake"), ("g++", "g++")] {
        tools::need(program, package)?;
    }
    let header = Path::new("/usr/include/nlohmann/json.hpp");
    if !header.exists() && is_root() && has("apt-get", &["--version"]) {
        apt_install("nlohmann-json3-dev")?;
    }
    if !header.exists() {
        bail!(
            "the C++ peer needs nlohmann-json; on Debian and Ubuntu: sudo apt-get install -y nlohmann-json3-dev"
        );
    }
    run(Command::new("cmake")
        .current_dir(root)
        .args(["-S", "verification/conformance/peers/cpp", "-B", CPP_BUILD, "-DCMAKE_CXX_FLAGS=-O1"])
        .arg(format!("-DZEROBUFFER_CARGO_TARGET_DIR={}", tools::quick_target(root).display())))?;
    crate::cpp_package::make(&root.join(CPP_BUILD))?;
    Ok(root.join(CPP_BUILD).join("conformance_peer"))
}

/// Runs a program with its own /dev/shm and folder of lock files.
const PRIVATE: &str = "mkdir -p /tmp/zerobuffer && mount -t tmpfs -o mode=1777 tmpfs /dev/shm \
    && mount -t tmpfs -o mode=1777 tmpfs /tmp/zerobuffer && exec \"$0\" \"$@\"";

/// A command that is given a program and its arguments. The program gets SIGTERM when this process ends, however it ends.
fn ending_with_this_process() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]);
    command
}

/// Kills at random; `arguments` go to the soak.
///
/// A 1.x reader that is created anywhere on the machine removes, by name, the files of readers that it takes
/// for dead, and may remove those of the next reader. So the soak gets its own /dev/shm, if this process has
/// the right to make one.
pub(crate) fn soak(root: &Path, arguments: &[String]) -> Result<()> {
    build(root)?;
    let program = root.join("target/debug/soak");
    let mut command = ending_with_this_process();
    if is_root() && has("unshare", &["-m", "true"]) {
        command.args(["unshare", "-m", "sh", "-c", PRIVATE]);
    } else {
        println!(
            "this process may not make a /dev/shm of its own: 1.x readers on this machine would disturb the run"
        );
    }
    command.arg(program);
    if let Some(peer) = crate::csharp::soak_peer(root)? {
        command.args(["--csharp", &peer]);
        // A .NET runtime that is killed would leave its diagnostic socket behind.
        command.env("DOTNET_EnableDiagnostics", "0");
    }
    run(command.current_dir(root).args(arguments))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_program_ends_with_the_process_that_started_it() {
        let watched = "trap 'echo told; kill $!; exit' TERM; sleep 20 & echo ready; wait; echo left alone";
        let wrapper = ending_with_this_process();
        // A shell plays this process. Its second command keeps it from becoming the program.
        let mut starter = Command::new("sh")
            .args(["-c", "\"$0\" \"$@\"; true"])
            .arg(wrapper.get_program())
            .args(wrapper.get_args())
            .args(["sh", "-c", watched])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(starter.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(lines.next().unwrap(), "ready");
        starter.kill().unwrap();
        starter.wait().unwrap();
        assert_eq!(lines.next().unwrap(), "told");
    }
}
