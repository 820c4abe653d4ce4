//! The Python package: its step of `cargo xtask test`, and `cargo xtask wheels`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools::{self, cargo, has, run};
use crate::venv;

const PACKAGE: &str = "bindings/python";

/// Versions of CPython that wheels are built for.
const VERSIONS: &[u32] = &[8, 9, 10, 11, 12, 13];

/// One version runs all tests; for the oldest and the newest version a wheel is built and tried.
const TESTED: u32 = 11;
const TRIED: &[u32] = &[8, 13];

/// Rounds of random calls on a debug build, of 3 s each.
const STRESS_DEBUG: u32 = 4;

/// The pinned requirements of the tests.
const REQUIREMENTS: &str = "bindings/python/tests/requirements.txt";

/// The pinned packages for the comparison and its figures. A rival that cannot be installed is left out.
const BENCH_REQUIREMENTS: &str = "bench/peers/requirements.txt";

/// An interpreter on this machine.
struct Interpreter {
    minor: u32,
    /// Names its folders.
    tag: String,
    program: PathBuf,
}

/// Finds CPython 3.`minor`: `python3.X` on the path, or one of pyenv's.
fn find(minor: u32) -> Option<Interpreter> {
    let name = format!("python3.{minor}");
    let check = format!("import sys, venv, ctypes; sys.exit(sys.version_info[:2] != (3, {minor}))");
    let works = |program: &Path| has(&program.to_string_lossy(), &["-c", &check]);
    let home = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let folders = home.and_then(|home| std::fs::read_dir(home.join("versions")).ok());
    let pyenv = folders.into_iter().flatten().flatten().map(|entry| entry.path());
    let pyenv = pyenv.filter(|folder| {
        folder
            .file_name()
            .is_some_and(|version| version.to_string_lossy().starts_with(&format!("3.{minor}.")))
    });
    // The path may lead to pyenv's shims, which fail for versions that have not been chosen.
    let candidates =
        std::iter::once(PathBuf::from(&name)).chain(pyenv.map(|folder| folder.join("bin").join(&name)));
    candidates.into_iter().find(|program| works(program)).map(|program| Interpreter {
        minor,
        tag: format!("3.{minor}"),
        program,
    })
}

/// The version that runs all tests: the usual one, or else the newest that is installed.
fn tested() -> Result<Interpreter> {
    let found = find(TESTED).or_else(|| VERSIONS.iter().rev().find_map(|&minor| find(minor)));
    let Some(found) = found else {
        bail!(
            "the Python package needs CPython 3.8 to 3.13 with venv, as python3.X on the path or below ~/.pyenv; on Debian \
             and Ubuntu: sudo apt-get install -y python3 python3-venv"
        );
    };
    if found.minor != TESTED {
        println!("CPython 3.{TESTED} is not installed here: testing on 3.{} instead", found.minor);
    }
    Ok(found)
}

/// Makes the environment of the tests and tools. Returns its interpreter.
fn environment(root: &Path, interpreter: &Interpreter) -> Result<PathBuf> {
    let requirements = root.join(REQUIREMENTS);
    let wanted = std::fs::read_to_string(&requirements)
        .with_context(|| format!("cannot read {}", requirements.display()))?;
    let venv = root.join(format!("target/python/venv-3.{}", interpreter.minor));
    let python = venv.join("bin/python");
    // Written last, when everything in it has been installed.
    let stamp = venv.join("installed.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|text| text == wanted)
        && has(&python.to_string_lossy(), &["-V"])
    {
        return Ok(python);
    }
    println!("installing what the Python tests need into {} (once)", venv.display());
    make(&venv, interpreter)?;
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(Command::new(&python).args(pip).arg(&requirements))
        .context("cannot install what the Python tests need; is the package index reachable?")?;
    std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(python)
}

fn make(venv: &Path, interpreter: &Interpreter) -> Result<()> {
    venv::make_with(&interpreter.program, venv)
}

/// Builds the wheel for an interpreter. Returns its path.
fn wheel(root: &Path, tools: &Path, interpreter: &Interpreter, profile: &str) -> Result<PathBuf> {
    let out = root.join(format!("target/python/wheels/{profile}/{}", interpreter.tag));
    let _ = std::fs::remove_dir_all(&out);
    run(Command::new(tools)
        .args(["-m", "maturin", "build", "--quiet", "--locked", "--profile", profile, "--interpreter"])
        .arg(&interpreter.program)
        .arg("--out")
        .arg(&out)
        .current_dir(root.join(PACKAGE))
        // A folder for each interpreter: pyo3 is built for one.
        .env("CARGO_TARGET_DIR", root.join("target/python/build").join(&interpreter.tag))
        .env_remove("VIRTUAL_ENV"))?;
    let wheels = std::fs::read_dir(&out).with_context(|| format!("cannot read {}", out.display()))?;
    let wheel = wheels
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|end| end == "whl"));
    wheel.ok_or_else(|| anyhow::anyhow!("maturin left no wheel in {}", out.display()))
}

fn install(python: &Path, wheel: &Path) -> Result<()> {
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
    run(Command::new(python).args(pip).args(["--no-index", "--no-deps", "--force-reinstall"]).arg(wheel))
}

/// The other versions that are installed, for each of which a wheel is built and tried. Says which are missing.
fn tried(tested: &Interpreter) -> Vec<Interpreter> {
    let found = TRIED.iter().filter(|minor| **minor != tested.minor).filter_map(|&minor| {
        let found = find(minor);
        if found.is_none() {
            println!("CPython 3.{minor} is not installed here: no wheel has been built and tried for it");
        }
        found
    });
    found.collect()
}

/// Builds a wheel, installs it into an empty environment, and tries it, without NumPy or anything else.
fn try_out(root: &Path, tools: &Path, interpreter: &Interpreter, profile: &str) -> Result<PathBuf> {
    let built = wheel(root, tools, interpreter, profile)?;
    let venv = root.join(format!("target/python/try-3.{}", interpreter.minor));
    let python = venv.join("bin/python");
    if !has(&python.to_string_lossy(), &["-m", "pip", "--version"]) {
        make(&venv, interpreter)?;
    }
    install(&python, &built)?;
    run(Command::new(&python).arg(root.join(PACKAGE).join("tests/smoke.py")))?;
    tools::need("objdump", "binutils")?;
    crate::cpp::glibc(&native(&python)?)?;
    Ok(built)
}

/// The native half of the package that an interpreter has.
fn native(python: &Path) -> Result<PathBuf> {
    let tell = "import zerobuffer._native as native; print(native.__file__)";
    let told = Command::new(python).args(["-c", tell]).output()?;
    if !told.status.success() {
        bail!("{} cannot import the package: {}", python.display(), String::from_utf8_lossy(&told.stderr));
    }
    Ok(PathBuf::from(String::from_utf8(told.stdout)?.trim()))
}

/// CPython's debug build with its internal checks: Debian's `python3-dbg`.
fn find_debug() -> Result<Option<Interpreter>> {
    let find = || {
        VERSIONS.iter().rev().find_map(|&minor| {
            let program = PathBuf::from(format!("python3.{minor}-dbg"));
            let works = has(&program.to_string_lossy(), &["-c", "import sys, venv; sys.gettotalrefcount()"]);
            works.then(|| Interpreter { minor, tag: format!("3.{minor}-debug"), program })
        })
    };
    if let Some(found) = find() {
        return Ok(Some(found));
    }
    if tools::is_root() && has("apt-get", &["--version"]) {
        tools::apt_install("python3-dbg")?;
    }
    Ok(find())
}

/// An environment of a debug build of CPython, and the wheel for it. `None` without such a build.
fn debug_environment(root: &Path, tools: &Path) -> Result<Option<(Interpreter, PathBuf)>> {
    let Some(interpreter) = find_debug()? else { return Ok(None) };
    let venv = root.join("target/python/debug");
    let python = venv.join("bin/python");
    if !has(&python.to_string_lossy(), &["-m", "pip", "--version"]) {
        make(&venv, &interpreter)?;
    }
    // By the environment's name of it: maturin knows no other name of a debug build.
    let interpreter = Interpreter { program: python, ..interpreter };
    let wheel = wheel(root, tools, &interpreter, "tests")?;
    Ok(Some((interpreter, wheel)))
}

/// Random calls on a debug build of CPython.
fn stress_debug(root: &Path, tools: &Path) -> Result<()> {
    let Some((interpreter, wheel)) = debug_environment(root, tools)? else {
        println!("no debug build of CPython is installed here (python3-dbg): no random calls on one");
        return Ok(());
    };
    let python = &interpreter.program;
    install(python, &wheel)?;
    let stress = root.join(PACKAGE).join("tests/stress.py");
    for seed in 1..=STRESS_DEBUG {
        let name = format!("zbtest-py-debug-{}-{seed}", std::process::id());
        let mut round = Command::new(python);
        let output = round.arg(&stress).args([&name, &seed.to_string(), "3"]).output()?;
        let said = [output.stdout, output.stderr].concat();
        if !output.status.success() || !said.is_empty() {
            bail!(
                "random calls on {} fail with seed {seed}: {}\n{}",
                interpreter.tag,
                output.status,
                String::from_utf8_lossy(&said)
            );
        }
    }
    Ok(())
}

/// An interpreter that has the package, for programs that use it.
pub(crate) fn with_package(root: &Path) -> Result<PathBuf> {
    let interpreter = tested()?;
    let python = environment(root, &interpreter)?;
    install(&python, &wheel(root, &python, &interpreter, "tests")?)?;
    Ok(python)
}

/// Installs and builds everything that the step needs.
pub(crate) fn prepare(root: &Path) -> Result<()> {
    let interpreter = tested()?;
    let python = environment(root, &interpreter)?;
    wheel(root, &python, &interpreter, "tests")?;
    run(&mut clippy(root, &python))?;
    tried(&interpreter).iter().try_for_each(|other| wheel(root, &python, other, "tests").map(drop))?;
    debug_environment(root, &python).map(drop)
}

fn clippy(root: &Path, python: &Path) -> Command {
    let mut command =
        cargo(&root.join(PACKAGE), &["clippy", "--locked", "--quiet", "--", "--deny", "warnings"]);
    command.env("PYO3_PYTHON", python).env("CARGO_TARGET_DIR", root.join("target/python/lint"));
    command
}

/// The step: format, lint, build, types, tests; a wheel for the oldest and the newest version.
pub(crate) fn test(root: &Path, full: bool) -> Result<()> {
    let interpreter = tested()?;
    let python = environment(root, &interpreter)?;
    run(&mut cargo(&root.join(PACKAGE), &["fmt", "--check"]))?;
    run(&mut clippy(root, &python))?;
    install(&python, &wheel(root, &python, &interpreter, "tests")?)?;
    run(&mut cargo(root, &["build", "--quiet", "--package", "zerobuffer-cli"]))?;
    // The tests of the package mostly wait.
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| {
            types(root, &python)?;
            tools::command_lines(root, &[("python", format!("{} -m zerobuffer", python.display()))])?;
            for other in tried(&interpreter) {
                try_out(root, &python, &other, "tests")?;
            }
            stress_debug(root, &python)
        });
        let tested = tests(root, &python, full);
        tested.and(beside.join().unwrap_or_else(|_| bail!("the tests beside those of the package panicked")))
    })
}

/// The package's types, and its stub against it.
fn types(root: &Path, python: &Path) -> Result<()> {
    let package = root.join(PACKAGE);
    run(Command::new(python)
        .args(["-m", "mypy", "--package", "zerobuffer"])
        .args(["--config-file", "pyproject.toml", "--cache-dir"])
        .arg(root.join("target/python/mypy"))
        .current_dir(&package))?;
    run(Command::new(python)
        .args(["-m", "mypy.stubtest", "zerobuffer", "--ignore-unused-allowlist", "--allowlist"])
        .arg(package.join("tests/stubtest-allowlist.txt"))
        .current_dir(root.join("target/python")))
}

/// The tests of the package.
fn tests(root: &Path, python: &Path, full: bool) -> Result<()> {
    let mut tests = Command::new(python);
    tests
        .args(["-m", "pytest", "-q", "-p", "no:cacheprovider"])
        .current_dir(root.join(PACKAGE))
        .env("ZEROBUFFER_PEER_PYTHON", venv::ensure(root)?)
        .env("ZEROBUFFER_CLI", root.join("target/debug/zerobuffer"))
        .env("ZEROBUFFER_CPP_CLI", crate::cpp_package::command(root));
    if full {
        tests.env("ZEROBUFFER_FULL", "1");
    }
    run(&mut tests)
}

/// The environment of the tests with the package installed, as the tests build it. Returns its interpreter.
pub(crate) fn installed(root: &Path) -> Result<PathBuf> {
    let interpreter = tested()?;
    let python = environment(root, &interpreter)?;
    install(&python, &wheel(root, &python, &interpreter, "tests")?)?;
    Ok(python)
}

/// The interpreter of an environment that has the package, if an earlier step has made one.
pub(crate) fn at_hand(root: &Path) -> Option<PathBuf> {
    let environments =
        VERSIONS.iter().map(|minor| root.join(format!("target/python/venv-3.{minor}/bin/python")));
    environments.into_iter().find(|python| has(&python.to_string_lossy(), &["-c", "import zerobuffer"]))
}

/// Makes an environment with the shipped package and its rivals in the benchmarks. Returns its interpreter.
pub(crate) fn bench(root: &Path) -> Result<PathBuf> {
    let interpreter = tested()?;
    let tools = environment(root, &interpreter)?;
    let venv = root.join("target/bench-python");
    let python = venv.join("bin/python");
    let requirements = std::fs::read_to_string(root.join(BENCH_REQUIREMENTS))
        .with_context(|| format!("cannot read {BENCH_REQUIREMENTS}"))?;
    // Written last: what it says has been installed, or tried.
    let stamp = venv.join("installed.txt");
    if !std::fs::read_to_string(&stamp).is_ok_and(|text| text == requirements) {
        println!("installing the Python rivals into {} (once)", venv.display());
        make(&venv, &interpreter)?;
        for package in requirements.lines().filter(|line| !line.starts_with('#')) {
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            if let Err(error) = run(Command::new(&python).args(pip).arg(package)) {
                println!("{package} is left out: {error:#}");
            }
        }
        std::fs::write(&stamp, requirements)?;
    }
    install(&python, &wheel(root, &tools, &interpreter, "release")?)?;
    Ok(python)
}

/// Builds wheels for every version that is installed, and tries each.
pub(crate) fn wheels(root: &Path) -> Result<()> {
    let python = environment(root, &tested()?)?;
    let mut built = Vec::new();
    for &minor in VERSIONS {
        match find(minor) {
            Some(interpreter) => built.push(try_out(root, &python, &interpreter, "release")?),
            None => println!("CPython 3.{minor} is not installed here: no wheel for it"),
        }
    }
    println!("\nwheels, each installed and tried:");
    built.iter().for_each(|wheel| println!("  {}", wheel.display()));
    Ok(())
}
