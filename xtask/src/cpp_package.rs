//! Tests the C++ package the way programs use it: installed (CMake, pkg-config), as a subdirectory, fetched;
//! and its command.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools::{self, run};

const BUILD: &str = "target/cpp-package";
const CONSUMER: &str = "bindings/cpp/tests/consumer";

/// Headers that the command is built with, and the packages of Debian and Ubuntu that have them.
const HEADERS: &[(&str, &str)] = &[
    ("CLI/CLI.hpp", "libcli11-dev"),
    ("nlohmann/json.hpp", "nlohmann-json3-dev"),
    ("xxhash.h", "libxxhash-dev"),
];

/// The command that the step builds.
pub(crate) fn command(root: &Path) -> PathBuf {
    root.join(BUILD).join("shared/moved/bin/zerobuffer-cpp")
}

/// The two ways of building the package, and what else to build.
const BUILDS: [(&str, &str); 2] =
    [("shared", "-DZEROBUFFER_BUILD_CLI=ON"), ("static", "-DZEROBUFFER_SHARED=OFF")];

/// Builds the package, both ways.
pub(crate) fn prepare(root: &Path) -> Result<()> {
    for (header, package) in HEADERS {
        need_header(header, package)?;
    }
    tools::need("pkg-config", "pkg-config")?;
    tools::need("python3", "python3")?;
    BUILDS.iter().try_for_each(|(name, option)| {
        let build = root.join(BUILD).join(name);
        run(Command::new("cmake")
            .args(["-S".as_ref(), root.join("bindings/cpp").as_os_str(), "-B".as_ref(), build.as_os_str()])
            .arg(format!("-DCMAKE_INSTALL_PREFIX={}", build.join("installed").display()))
            .arg(format!("-DZEROBUFFER_CARGO_TARGET_DIR={}", tools::quick_target(root).display()))
            .arg(option))?;
        make(&build)
    })
}

/// Tests the packages that [`prepare`] has built.
pub(crate) fn test(root: &Path) -> Result<()> {
    let shared = install(root, "shared")?;
    let fixed = install(root, "static")?;
    linked_names(&shared)?;
    // The step has built the Rust command before. Its tests and those of the C++ one mostly wait.
    std::thread::scope(|scope| {
        let beside =
            scope.spawn(|| tools::command_lines(root, &[("cpp", command(root).display().to_string())]));
        let used = consumers(root, &shared, &fixed);
        used.and(beside.join().unwrap_or_else(|_| bail!("the tests of the command line panicked")))
    })
}

/// Builds and runs programs that use the package in each way.
fn consumers(root: &Path, shared: &Path, fixed: &Path) -> Result<()> {
    for (name, prefix) in [("shared", shared), ("static", fixed)] {
        let found = format!("-DCMAKE_PREFIX_PATH={}", prefix.display());
        consumer(root, name, &["-DZEROBUFFER_FROM=package", &found])?;
        pkg_config(root, name, prefix)?;
    }
    // The library is built already; these variables say where, which users do not need.
    let built = format!("-DZEROBUFFER_CARGO_TARGET_DIR={}", tools::quick_target(root).display());
    for from in ["subdirectory", "fetch"] {
        consumer(root, from, &[&format!("-DZEROBUFFER_FROM={from}"), &built])?;
    }
    Ok(())
}

fn need_header(header: &str, package: &str) -> Result<()> {
    let path = Path::new("/usr/include").join(header);
    if path.exists() { Ok(()) } else { tools::apt(package) }
}

/// Installs the package, and moves the installed files: none of them may depend on the old path.
fn install(root: &Path, name: &str) -> Result<PathBuf> {
    let build = root.join(BUILD).join(name);
    let (installed, moved) = (build.join("installed"), build.join("moved"));
    for old in [&installed, &moved] {
        if old.exists() {
            std::fs::remove_dir_all(old)?;
        }
    }
    run(Command::new("cmake").arg("--install").arg(&build))?;
    std::fs::rename(&installed, &moved).context("nothing was installed")?;
    Ok(moved)
}

pub(crate) fn make(build: &Path) -> Result<()> {
    run(tools::build_quickly(Command::new("cmake").arg("--build").arg(build).args(["--parallel", "2"])))
}

/// Linkers find the shared library by its bare name, programs by its SONAME; one file has the contents.
fn linked_names(prefix: &Path) -> Result<()> {
    let link = prefix.join("lib/libzerobuffer_c.so");
    let soname = std::fs::read_link(&link).with_context(|| format!("{} is no link", link.display()))?;
    let file = std::fs::read_link(link.with_file_name(&soname)).context("the SONAME is no link")?;
    if file.components().count() != 1 || !link.with_file_name(&file).is_file() {
        bail!("{} ends at {}, which is not beside it", link.display(), file.display());
    }
    Ok(())
}

/// Builds and runs a foreign project's programs.
fn consumer(root: &Path, name: &str, options: &[&str]) -> Result<()> {
    let build = root.join(BUILD).join(format!("consumer-{name}"));
    run(Command::new("cmake")
        .args(["-S".as_ref(), root.join(CONSUMER).as_os_str(), "-B".as_ref(), build.as_os_str()])
        .args(options))?;
    make(&build)?;
    for program in ["consumer", "consumer_c"] {
        run(&mut Command::new(build.join(program)))?;
    }
    Ok(())
}

/// Builds and runs them without CMake.
fn pkg_config(root: &Path, name: &str, prefix: &Path) -> Result<()> {
    let output = Command::new("pkg-config")
        .args(["--cflags", "--libs", "zerobuffer"])
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .output()?;
    if !output.status.success() {
        bail!("pkg-config: {}", String::from_utf8_lossy(&output.stderr));
    }
    let flags = String::from_utf8(output.stdout)?;
    let program = root.join(BUILD).join(format!("pkg-config-{name}"));
    run(Command::new("g++")
        .args(["-std=c++20".as_ref(), root.join(CONSUMER).join("main.cpp").as_os_str()])
        .args(["-o".as_ref(), program.as_os_str()] as [&OsStr; 2])
        .args(flags.split_whitespace()))?;
    // The program finds the shared library without help.
    run(Command::new(&program).env_remove("LD_LIBRARY_PATH"))
}
