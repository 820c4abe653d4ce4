//! `cargo xtask bench`: the benchmark driver, and what its rivals need to be built.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::tools::{apt_install, cargo, has, is_root, run};
use crate::venv;

/// Where cmake is put, if the machine's own is missing or too old.
const VENV: &str = "target/bench-venv";

/// cmake as Aeron wants it: at least 3.30.
const CMAKE: &str = "cmake>=3.30,<5";

/// A rival: a feature of the driver, and what must be there to build it.
struct Rival {
    feature: &'static str,
    prepare: fn(&Path, &mut Tools) -> Result<()>,
}

const RIVALS: &[Rival] = &[
    Rival { feature: "iceoryx2", prepare: |_, _| Ok(()) },
    Rival { feature: "aeron", prepare: aeron },
    Rival { feature: "shmem-ipc", prepare: |_, _| Ok(()) },
    Rival { feature: "zeromq", prepare: zeromq },
    Rival { feature: "ipc-channel", prepare: |_, _| Ok(()) },
    Rival { feature: "grpc", prepare: |_, _| Ok(()) },
];

/// Programs that go to the front of the path.
#[derive(Default)]
struct Tools {
    path: Option<PathBuf>,
}

/// Runs the driver; `--rivals` builds it with all rivals that this machine can build.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<()> {
    let rivals = arguments.iter().any(|argument| argument == "--rivals");
    let arguments: Vec<&String> = arguments.iter().filter(|argument| *argument != "--rivals").collect();
    if !rivals {
        return run(cargo(&root.join("bench"), &["run", "--release", "--quiet", "--"]).args(arguments));
    }
    let mut tools = Tools::default();
    let mut features = Vec::new();
    for rival in RIVALS {
        match (rival.prepare)(root, &mut tools) {
            Ok(()) => features.push(rival.feature),
            Err(error) => println!("{} is left out: {error:#}", rival.feature),
        }
    }
    if build(root, &tools, &features).is_err() {
        // One of them at least: go on with those that build by themselves.
        features.retain(|feature| {
            let built = build(root, &tools, &[feature]);
            if built.is_err() {
                println!("{feature} is left out: it does not build on this machine, see above");
            }
            built.is_ok()
        });
    }
    let mut driver = driver(root, &tools, "run", &features);
    match venv::ensure(root) {
        Ok(python) => drop(driver.env("ZEROBUFFER_PEER_PYTHON", python)),
        Err(error) => println!("python-1x is left out: {error:#}"),
    }
    run(driver.arg("--").args(arguments))
}

fn build(root: &Path, tools: &Tools, features: &[&str]) -> Result<()> {
    run(&mut driver(root, tools, "build", features))
}

fn driver(root: &Path, tools: &Tools, action: &str, features: &[&str]) -> Command {
    let mut command = cargo(&root.join("bench"), &[action, "--release", "--quiet", "--features"]);
    command.arg(features.join(","));
    if let Some(first) = &tools.path {
        let rest = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(first.clone()).chain(std::env::split_paths(&rest));
        if let Ok(path) = std::env::join_paths(paths) {
            command.env("PATH", path);
        }
    }
    command
}

/// Aeron is C: its client and media driver are built from the sources that its crate contains.
fn aeron(root: &Path, tools: &mut Tools) -> Result<()> {
    if !cmake_is_new("cmake".as_ref()) {
        let venv = root.join(VENV);
        let cmake = venv.join("bin/cmake");
        if !cmake_is_new(&cmake) {
            println!("installing cmake from PyPI into {VENV} (once)");
            venv::make(&venv)?;
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", CMAKE];
            run(Command::new(venv.join("bin/python")).args(pip))
                .context("cannot install cmake 3.30 or newer")?;
        }
        tools.path = Some(venv.join("bin"));
    }
    need("libclang-dev", libclang)?;
    need("libbsd-dev", || links("bsd"))?;
    need("uuid-dev", || links("uuid"))
}

fn zeromq(_: &Path, _: &mut Tools) -> Result<()> {
    need("g++", || has("c++", &["--version"]))
}

/// Installs a package of Debian or Ubuntu, unless what it brings is `there`.
fn need(package: &str, there: impl Fn() -> bool) -> Result<()> {
    if there() {
        return Ok(());
    }
    if is_root() && has("apt-get", &["--version"]) {
        apt_install(package)?;
    }
    if !there() {
        bail!("it needs {package}; on Debian and Ubuntu: sudo apt-get install -y {package}");
    }
    Ok(())
}

fn cmake_is_new(program: &Path) -> bool {
    let Ok(output) = Command::new(program).arg("--version").output() else { return false };
    let output = String::from_utf8_lossy(&output.stdout);
    let version = output.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let mut numbers = version.unwrap_or_default().split('.').map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (3, 30)
}

/// Whether a C program can be linked with a library.
fn links(library: &str) -> bool {
    let child = Command::new("cc")
        .args(["-x", "c", "-", "-o", "/dev/null", &format!("-l{library}")])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else { return false };
    if let Some(mut input) = child.stdin.take() {
        let _ = std::io::Write::write_all(&mut input, b"int main(void) { return 0; }");
    }
    child.wait().is_ok_and(|status| status.success())
}

/// Whether libclang is where the crate bindgen looks for it.
fn libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let names = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let llvm =
        names(Path::new("/usr/lib")).into_iter().filter(|path| path.to_string_lossy().contains("/llvm-"));
    llvm.flat_map(|folder| names(&folder.join("lib")))
        .any(|file| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libclang.so")))
}
