//! The C ABI and the C++ package: header, symbols, tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools::{self, cargo, run};

/// Version of cbindgen that the header was made with.
const CBINDGEN: &str = "0.29.4";

const CRATE: &str = "crates/zerobuffer-ffi";
const HEADER: &str = "crates/zerobuffer-ffi/include/zerobuffer/zerobuffer_c.h";
const BUILD: &str = "target/cpp";

/// Programs that the step runs, and the packages of Debian and Ubuntu that have them.
const PROGRAMS: &[(&str, &str)] =
    &[("cmake", "cmake"), ("g++", "g++"), ("nm", "binutils"), ("clang-tidy", "clang-tidy")];

/// The newest glibc that the libraries may need, as docs/PLATFORM.md says: 2.34.
const GLIBC_MINOR: u32 = 34;

const EXAMPLES: &str = "bindings/cpp/tests/examples.cpp";

/// The framework of the C++ tests.
const DOCTEST: &str = "/usr/include/doctest/doctest.h";

pub(crate) fn test(root: &Path, _: bool) -> Result<()> {
    prepare(root)?;
    header(root)?;
    symbols(root)?;
    tests(root)?;
    // This takes most of a minute, on one processor.
    std::thread::scope(|scope| {
        let tidied = scope.spawn(|| tidy(root));
        let tested = crate::cpp_package::test(root);
        tested.and(tidied.join().unwrap_or_else(|_| bail!("clang-tidy could not be run")))
    })
}

/// Builds everything that the step tests.
pub(crate) fn prepare(root: &Path) -> Result<()> {
    for (program, package) in PROGRAMS {
        tools::need(program, package)?;
    }
    if !Path::new(DOCTEST).exists() {
        tools::apt("doctest-dev")?;
    }
    cbindgen(root)?;
    build(root)?;
    crate::cpp_package::prepare(root)
}

fn tests(root: &Path) -> Result<()> {
    // The peer of the streams between C++ and Rust.
    run(&mut cargo(root, &["build", "--quiet", "--package", "zerobuffer-cli"]))?;
    run(Command::new("ctest")
        .current_dir(root.join(BUILD))
        .args(["--output-on-failure", "--no-tests=error"])
        .env("ZEROBUFFER_RUST_CLI", root.join("target/debug/zerobuffer")))
}

/// Checks that the committed header is the one that the code makes.
fn header(root: &Path) -> Result<()> {
    let program = cbindgen(root)?;
    let made = root.join("target/zerobuffer_c.h");
    run(Command::new(program)
        .current_dir(root.join(CRATE))
        .args(["--quiet", "--config", "cbindgen.toml", "--crate", "zerobuffer-ffi", "--output"])
        .arg(&made)
        .arg("."))?;
    let [made_text, committed] = [&made, &root.join(HEADER)]
        .map(|path| std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())));
    if made_text? != committed? {
        let _ = Command::new("diff").args(["-u", HEADER]).arg(&made).current_dir(root).status();
        bail!("{HEADER} is not what the code makes: cp target/zerobuffer_c.h {HEADER}");
    }
    Ok(())
}

fn cbindgen(root: &Path) -> Result<PathBuf> {
    // Other versions format differently, so the machine's cbindgen cannot be used.
    tools::cargo_install(root, "cbindgen", CBINDGEN)
}

fn build(root: &Path) -> Result<()> {
    run(Command::new("cmake")
        .current_dir(root)
        .args(["-S", "bindings/cpp", "-B", BUILD, "-DZEROBUFFER_BUILD_TESTS=ON"])
        .arg("-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
        .arg(format!("-DZEROBUFFER_CARGO_TARGET_DIR={}", tools::quick_target(root).display())))?;
    crate::cpp_package::make(&root.join(BUILD))
}

/// clang-tidy with bindings/cpp/.clang-tidy, over a file that includes every header.
fn tidy(root: &Path) -> Result<()> {
    run(Command::new("clang-tidy").current_dir(root).args(["--quiet", "-p", BUILD, EXAMPLES]))
}

/// Checks that the shared library exports its functions and nothing else, and that its SONAME is right.
fn symbols(root: &Path) -> Result<()> {
    let library = root.join(BUILD).join("lib/libzerobuffer_c.so");
    let shown = output(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(&library))?;
    let exported: Vec<&str> = shown.lines().filter_map(|line| line.split_whitespace().next()).collect();
    if let Some(stranger) = exported.iter().find(|name| !name.starts_with("zb_")) {
        bail!("{} exports `{stranger}`, which is no function of the C ABI", library.display());
    }
    let declared = std::fs::read_to_string(root.join(HEADER))?;
    for name in &exported {
        if !declared.contains(&format!("{name}(")) {
            bail!("{} exports `{name}`, which its header does not declare", library.display());
        }
    }
    // And the reverse: a declared function that is missing would show only when a program links with it.
    let declarations = declared.split("zb_").skip(1).filter_map(|rest| rest.split_once('('));
    for (name, _) in declarations
        .filter(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
    {
        if !exported.contains(&format!("zb_{name}").as_str()) {
            bail!("{HEADER} declares `zb_{name}`, which {} does not export", library.display());
        }
    }
    let dynamic = output(Command::new("readelf").arg("-d").arg(&library))?;
    if !dynamic.contains("soname: [libzerobuffer_c.so.") {
        bail!("{} has no SONAME with the ABI's number", library.display());
    }
    println!("{} functions are exported, all of them zb_", exported.len());
    glibc(&library)
}

/// Checks that a library needs no newer glibc than docs/PLATFORM.md says.
pub(crate) fn glibc(library: &Path) -> Result<()> {
    let wanted = output(Command::new("objdump").arg("-T").arg(library))?;
    let minor = |version: &str| version.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok();
    let newest = wanted.split("GLIBC_2.").skip(1).filter_map(minor).max();
    match newest {
        Some(minor) if minor <= GLIBC_MINOR => Ok(()),
        Some(minor) => bail!(
            "{} needs glibc 2.{minor}, and docs/PLATFORM.md promises that 2.{GLIBC_MINOR} will do: \
             objdump -T names the symbols",
            library.display()
        ),
        None => bail!("{} names no version of glibc", library.display()),
    }
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}
