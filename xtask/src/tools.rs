//! Runs programs, and installs tools from a registry that the machine may lack.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Version of cargo-deny that `deny.toml` is written for.
const CARGO_DENY: &str = "0.20.2";

/// The platform for builds with special flags. It is named, so that the flags do not apply to build scripts
/// and macros.
pub(crate) const HOST: &str = "x86_64-unknown-linux-gnu";

/// Runs a command, showing its output; fails if it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}").replace('"', "");
    let status = crate::output::status(command).with_context(|| format!("cannot start {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Tests the command lines of other languages (a name and a command each) beside the Rust one, which is built
/// already.
pub(crate) fn command_lines(root: &Path, others: &[(&str, String)]) -> Result<()> {
    let mut tests = Command::new("python3");
    tests.arg(root.join("crates/zerobuffer-cli/tests/command_lines/run.py"));
    tests.arg(format!("rust={}", root.join("target/debug/zerobuffer").display()));
    tests.args(others.iter().map(|(name, command)| format!("{name}={command}")));
    // A .NET runtime that is killed would leave its diagnostic socket behind.
    tests.env("DOTNET_EnableDiagnostics", "0");
    run(&mut tests)
}

/// Cargo, in the workspace's folder.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root).args(arguments);
    if std::env::var_os("CI").is_some() {
        // A one-time build needs no incremental data.
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}

/// The folder in which [`build_quickly`] builds the library of the C ABI for tests. It is separate from the
/// shipped library, which has the same name.
pub(crate) fn quick_target(root: &Path) -> PathBuf {
    root.join("target/quick")
}

/// Makes a release build without optimising across crates, which would take longer than tests gain from it.
pub(crate) fn build_quickly(command: &mut Command) -> &mut Command {
    command.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
}

/// Whether `program --version` works.
pub(crate) fn has(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// cargo-deny, installed by [`cargo_install`] if the machine has none.
pub(crate) fn cargo_deny(root: &Path) -> Result<PathBuf> {
    if has("cargo-deny", &["--version"]) {
        return Ok("cargo-deny".into());
    }
    cargo_install(root, "cargo-deny", CARGO_DENY)
}

/// Where built tools are kept: in the user's cache, so that each clone does not take minutes to build them
/// again; below `target/` for users without a cache.
fn tools_folder(root: &Path, name: &str, version: &str) -> PathBuf {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    match cache.filter(|cache| cache.is_absolute()) {
        Some(cache) => cache.join("zerobuffer-xtask").join(format!("{name}-{version}")),
        None => root.join("target/tools"),
    }
}

/// A program of crates.io in exactly this version, built once.
pub(crate) fn cargo_install(root: &Path, name: &str, version: &str) -> Result<PathBuf> {
    let tools = tools_folder(root, name, version);
    let program = tools.join("bin").join(name);
    let shown = Command::new(&program).arg("--version").output();
    if shown.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim().ends_with(version)) {
        return Ok(program);
    }
    println!("installing {name} {version} into {} (once, a minute or two)", tools.display());
    // Unoptimised: it runs for a second, and is often built on two cores.
    run(cargo(root, &["install", name, "--locked", "--force", "--version", version, "--debug", "--root"])
        .arg(&tools)
        .env("CARGO_TARGET_DIR", root.join("target/tools/build"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0"))?;
    // Only the program is needed.
    let _ = std::fs::remove_dir_all(tools.join("build"));
    Ok(program)
}

/// Makes sure that a program is there, by the system's packages if this process may install them.
pub(crate) fn need(program: &str, package: &str) -> Result<()> {
    need_by(program, "--version", package)
}

/// Like [`need`], for a program that prints its version when it is given `version`.
pub(crate) fn need_by(program: &str, version: &str, package: &str) -> Result<()> {
    if has(program, &[version]) {
        return Ok(());
    }
    apt(package)
}

/// Installs a package that the tests need, or says how.
pub(crate) fn apt(package: &str) -> Result<()> {
    if is_root() && has("apt-get", &["--version"]) {
        return apt_install(package);
    }
    bail!("the tests need {package}; on Debian and Ubuntu: sudo apt-get install -y {package}");
}

/// Installs a package of Debian or Ubuntu.
pub(crate) fn apt_install(package: &str) -> Result<()> {
    println!("installing {package} from the system's packages");
    let install = || run(Command::new("apt-get").args(["install", "-y", package]));
    // The lists of packages may be missing, as in a fresh container.
    if install().is_err() {
        run(Command::new("apt-get").arg("update"))?;
        install()?;
    }
    Ok(())
}

/// Whether this process may install packages.
pub(crate) fn is_root() -> bool {
    // The owner of a process's folder in /proc is its effective user.
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|status| status.uid() == 0)
}
