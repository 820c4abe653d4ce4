//! `cargo xtask bench`: the benchmark driver, and the build requirements of its rivals.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::tools::{self, apt_install, cargo, has, is_root, run};
use crate::venv;

/// The folder for cmake, if the machine's cmake is missing or too old.
const VENV: &str = "target/bench-venv";

/// The cmake that Aeron needs: at least 3.30.
const CMAKE: &str = "cmake>=3.30,<5";

/// A rival: a feature of the driver, and the requirements of its build.
struct Rival {
    feature: &'static str,
    prepare: fn(&Path, &mut Tools) -> Result<()>,
}

const RIVALS: &[Rival] = &[
    Rival { feature: "iceoryx2", prepare: |_, _| Ok(()) },
    Rival { feature: "aeron", prepare: aeron },
    Rival { feature: "shmem-ipc", prepare: |_, _| Ok(()) },
    Rival { feature: "tachyon", prepare: tachyon },
    Rival { feature: "zeromq", prepare: zeromq },
    Rival { feature: "ipc-channel", prepare: |_, _| Ok(()) },
    Rival { feature: "grpc", prepare: |_, _| Ok(()) },
];

/// The fastest, with which `--bars` compares.
const BARS: [&str; 3] = ["iceoryx2", "shmem-ipc", "tachyon"];

/// Requirements of a build that the machine lacks: programs for the front of the path, compilers.
#[derive(Default)]
struct Tools {
    path: Option<PathBuf>,
    /// C and C++ compilers, if a rival needs others than the machine's.
    compilers: Option<[&'static str; 2]>,
}

/// Builds what the options ask for and runs the driver: all rivals that this machine can build (`--rivals`),
/// the C++ peer (`--cpp`), the C# peer (`--csharp`), the Python package and its rivals (`--python`).
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<()> {
    const BUILT: [&str; 4] = ["--rivals", "--cpp", "--csharp", "--python"];
    let [rivals, cpp, csharp, python] =
        BUILT.map(|option| arguments.iter().any(|argument| argument == option));
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.retain(|argument| !BUILT.contains(argument));
    let mut programs = Tools::default();
    let bars = arguments.contains(&"--bars");
    let features = if rivals { rivals_built(root, &mut programs, bars)? } else { Vec::new() };
    let mut driver = driver(root, &programs, "run", &features);
    if arguments == ["--quick"] && features.is_empty() {
        // The figures of a quick run mean little.
        tools::build_quickly(&mut driver);
    }
    let mut languages = Vec::new();
    if (rivals && !bars) || python {
        match venv::ensure(root) {
            Ok(interpreter) => drop(driver.env("ZEROBUFFER_PEER_PYTHON", interpreter)),
            Err(error) => println!("python-1x is left out: {error:#}"),
        }
    }
    if cpp {
        driver.env("ZEROBUFFER_BENCH_CPP", cpp_peer(root)?);
        languages.push("ours-cpp");
    }
    if csharp {
        let (peer, environment) = crate::csharp::bench_peer(root)?;
        driver.env("ZEROBUFFER_BENCH_CSHARP", peer).envs(environment);
        languages.push("ours-csharp");
    }
    if python {
        driver.env("ZEROBUFFER_BENCH_PYTHON", crate::python::bench(root)?);
        languages.extend(["ours-python", "python-1x", "python-pipe", "python-queue", "python-shared-memory"]);
        languages.extend(["iceoryx2-python", "zeromq-python"]);
    }
    driver.arg("--");
    // Languages are compared with Rust, and with all rivals only if the options ask for that.
    let given = |option: &str| arguments.iter().any(|argument| argument.starts_with(option));
    if !rivals && !languages.is_empty() && !given("--transports") {
        driver.args(["--streams", "--transports", &format!("ours,{}", languages.join(","))]);
        if !given("--sizes") {
            driver.args(["--sizes", "64,3110400"]);
        }
        if !given("--name") {
            driver.args(["--name", "languages"]);
        }
    }
    run(driver.args(arguments))
}

/// The features of the rivals that can be built here; of those that a run with `--bars` has only.
fn rivals_built(root: &Path, tools: &mut Tools, bars: bool) -> Result<Vec<&'static str>> {
    let mut features = Vec::new();
    for rival in RIVALS.iter().filter(|rival| !bars || BARS.contains(&rival.feature)) {
        match (rival.prepare)(root, tools) {
            Ok(()) => features.push(rival.feature),
            Err(error) => println!("{} is left out: {error:#}", rival.feature),
        }
    }
    if build(root, tools, &features).is_err() {
        // At least one rival fails to build: continue with those that build alone.
        features.retain(|feature| {
            let built = build(root, tools, &[feature]);
            if built.is_err() {
                println!("{feature} is left out: it does not build on this machine, see above");
            }
            built.is_ok()
        });
    }
    Ok(features)
}

/// Builds the peer that uses the C++ API, linked with the shared library, like most programs.
fn cpp_peer(root: &Path) -> Result<PathBuf> {
    need("cmake", || has("cmake", &["--version"]))?;
    need("g++", || has("g++", &["--version"]))?;
    need("nlohmann-json3-dev", || Path::new("/usr/include/nlohmann/json.hpp").exists())?;
    let build = root.join("target/bench-cpp");
    run(Command::new("cmake")
        .args(["-S".as_ref(), root.join("bindings/cpp").as_os_str(), "-B".as_ref(), build.as_os_str()])
        .args(["-DCMAKE_MESSAGE_LOG_LEVEL=WARNING", "-DZEROBUFFER_INSTALL=OFF"])
        .arg(format!("-DZEROBUFFER_CARGO_TARGET_DIR={}", root.join("target").display())))?;
    run(Command::new("cmake").arg("--build").arg(&build).args(["--target", "zerobuffer_cargo"]))?;
    let (library, peer) = (build.join("lib"), build.join("ours"));
    run(Command::new("g++")
        .current_dir(root)
        .args(["-O2", "-std=c++20", "-Wall", "-Wextra", "-Werror", "bench/peers/ours.cpp"])
        .args(["-Ibindings/cpp/include", "-Icrates/zerobuffer-ffi/include", "-o"])
        .args([peer.as_os_str(), "-L".as_ref(), library.as_os_str(), "-lzerobuffer_c".as_ref()])
        .arg(format!("-Wl,-rpath,{}", library.display())))?;
    Ok(peer)
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
    if let Some([c, cpp]) = tools.compilers {
        command.env("CC", c).env("CXX", cpp);
    }
    command
}

/// Builds the driver for a quick run.
pub(crate) fn prepare(root: &Path) -> Result<()> {
    run(tools::build_quickly(&mut driver(root, &Tools::default(), "build", &[])))
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

/// Tachyon's core is C++23, which GCC 14 and Clang 17 were the first to compile.
fn tachyon(_: &Path, tools: &mut Tools) -> Result<()> {
    need("libclang-dev", libclang)?;
    need("clang-19", || has("clang++-19", &["--version"]))?;
    tools.compilers = Some(["clang-19", "clang++-19"]);
    Ok(())
}

fn zeromq(_: &Path, _: &mut Tools) -> Result<()> {
    need("g++", || has("c++", &["--version"]))
}

/// Installs a package of Debian or Ubuntu, unless its content is `there` already.
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
