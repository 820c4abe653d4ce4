//! The C# packages: their step of `cargo xtask test`, and the peer of the conformance suite.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

use crate::tools::{self, build_quickly, cargo, has, quick_target, run};

const SOLUTION: &str = "bindings/csharp";

/// A script beside the repository that may unpack an SDK, and prints the environment for it.
const SHARED: &str = "../shared/dotnet/use";

/// The test programs, and the folders of their builds: those of the packages run on two runtimes. Two of them run on the assemblies for
/// net6.0, on .NET 8.
const TESTS: &[(&str, &str)] = &[
    ("ZeroBuffer.Tests", "debug_net8.0"),
    ("ZeroBuffer.Tests", "debug_net10.0"),
    ("ZeroBuffer.Net6.Tests", "debug"),
    ("ZeroBuffer.V1.Tests", "debug_net8.0"),
    ("ZeroBuffer.V1.Tests", "debug_net10.0"),
    ("ZeroBuffer.Web.Tests", "debug"),
];

/// The message for a machine without an SDK.
const MISSING: &str =
    "there is no .NET SDK 10 (dotnet in PATH or DOTNET_ROOT): https://dotnet.microsoft.com/download";

/// A .NET SDK: its command, and the environment that it needs.
pub(crate) struct Sdk {
    dotnet: PathBuf,
    environment: Vec<(String, String)>,
}

impl Sdk {
    /// The SDK of `DOTNET_ROOT`, of the path, or of the folder beside the repository.
    fn find(root: &Path) -> Result<Option<Sdk>> {
        let of_root = std::env::var_os("DOTNET_ROOT").map(|folder| PathBuf::from(folder).join("dotnet"));
        for dotnet in of_root.into_iter().chain([PathBuf::from("dotnet")]) {
            // A runtime without an SDK has this command too, and fails.
            if has(&dotnet.to_string_lossy(), &["--version"]) {
                // Programs that are not started by `dotnet` look for their runtime there.
                let folder = in_path(&dotnet).and_then(|dotnet| Some(dotnet.parent()?.display().to_string()));
                let environment = folder.map(|folder| ("DOTNET_ROOT".to_owned(), folder));
                return Ok(Some(Sdk { dotnet, environment: environment.into_iter().collect() }));
            }
        }
        let script = root.join(SHARED);
        if !script.exists() {
            return Ok(None);
        }
        let output =
            Command::new(&script).output().with_context(|| format!("cannot run {}", script.display()))?;
        if !output.status.success() {
            bail!("{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
        }
        // The script prints shell text, so a shell evaluates it.
        let shell = format!("{}\nenv -0", String::from_utf8(output.stdout)?);
        let output = Command::new("bash").args(["-c", &shell]).output()?;
        let environment: Vec<_> = String::from_utf8_lossy(&output.stdout)
            .split('\0')
            .filter_map(|line| line.split_once('='))
            .filter(|(name, _)| ["DOTNET", "NUGET", "NuGet"].iter().any(|start| name.starts_with(start)))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let folder = environment.iter().find(|(name, _)| name == "DOTNET_ROOT").map(|(_, value)| value);
        let folder = folder.with_context(|| format!("{} names no DOTNET_ROOT", script.display()))?;
        Ok(Some(Sdk { dotnet: Path::new(folder).join("dotnet"), environment }))
    }

    /// `dotnet` in the folder of the solution.
    pub(crate) fn command(&self, root: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.dotnet);
        command.current_dir(root.join(SOLUTION)).args(arguments);
        // A build server that outlives the step would hold its files.
        command
            .envs(self.environment())
            .env("MSBUILDDISABLENODEREUSE", "1")
            .env("UseSharedCompilation", "false");
        command.env("ZeroBufferNative", quick_target(root).join("release/libzerobuffer_c.so"));
        command.env("DOTNET_CLI_TELEMETRY_OPTOUT", "1");
        command
    }

    /// The environment in which programs find their runtime.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether all packages come from a folder, so that no server is needed.
    pub(crate) fn is_offline(&self) -> bool {
        std::env::var_os("NUGET_FALLBACK_PACKAGES").is_some()
            || self.environment.iter().any(|(name, _)| name == "NUGET_FALLBACK_PACKAGES")
    }
}

/// Returns the file that a command stands for.
fn in_path(command: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).find_map(|folder| folder.join(command).canonicalize().ok())
}

/// Returns the SDK. Without one, prints a line, or fails in CI.
fn sdk(root: &Path) -> Result<Option<Sdk>> {
    let found = Sdk::find(root)?;
    if found.is_none() {
        if std::env::var_os("CI").is_some() {
            bail!("{MISSING}; CI must not leave C# out");
        }
        println!("C# is left out: {MISSING}");
    }
    Ok(found)
}

/// Builds every project, once per run of this command.
fn build(root: &Path, sdk: &Sdk) -> Result<()> {
    static BUILT: OnceLock<()> = OnceLock::new();
    if BUILT.get().is_none() {
        let mut native = cargo(root, &["build", "--quiet", "--release", "--package", "zerobuffer-ffi"]);
        run(build_quickly(&mut native).env("CARGO_TARGET_DIR", quick_target(root)))?;
        run(&mut sdk.command(root, &["build", "--verbosity", "quiet", "-nodeReuse:false"]))?;
        BUILT.get_or_init(|| ());
    }
    Ok(())
}

/// Builds everything that the step tests.
pub(crate) fn prepare(root: &Path) -> Result<()> {
    sdk(root)?.map_or(Ok(()), |sdk| build(root, &sdk))
}

/// The step: build with warnings as errors, format, all tests on both runtimes, the command line; with `--full` the package.
pub(crate) fn test(root: &Path, full: bool) -> Result<()> {
    let Some(sdk) = sdk(root)? else { return Ok(()) };
    build(root, &sdk)?;
    run(&mut cargo(root, &["build", "--quiet", "--package", "zerobuffer-cli"]))?;
    // The requested examples keep their original format.
    let formatted = [
        "src",
        "samples",
        "tests/ZeroBuffer.Tests",
        "tests/ZeroBuffer.Net6.Tests",
        "tests/ZeroBuffer.V1.Tests",
        "tests/ZeroBuffer.Web.Tests",
    ];
    let format = ["format", "whitespace", "--no-restore", "--verify-no-changes", "--include"];
    run(sdk.command(root, &format).args(formatted.map(|folder| format!("{folder}/"))))?;
    tests(root, &sdk, full)?;
    crate::csharp_package::test(root, &sdk, full)
}

/// The test programs. The tests of the command line run beside them: they mostly wait for other processes.
fn tests(root: &Path, sdk: &Sdk, full: bool) -> Result<()> {
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| tools::command_lines(root, &[("cs", command_line(root, sdk))]));
        let tested =
            TESTS.iter().try_for_each(|(project, build)| test_program(root, sdk, full, project, build));
        let compared = beside.join().map_err(|_| anyhow!("the tests of the command line panicked"))?;
        tested.and(compared)
    })
}

fn test_program(root: &Path, sdk: &Sdk, full: bool, project: &str, build: &str) -> Result<()> {
    println!("{project} ({build})");
    let assembly = root.join(format!("target/csharp/bin/{project}/{build}/{project}.dll"));
    let mut tests = sdk.command(root, &["exec"]);
    tests.arg(assembly).args(["--progress", "off"]);
    tests.env("DOTNET_HOST_PATH", &sdk.dotnet);
    tests.env("ZEROBUFFER_CLI", root.join("target/debug/zerobuffer"));
    let cpp = crate::cpp_package::command(root);
    if cpp.exists() {
        tests.env("ZEROBUFFER_CPP_CLI", cpp);
    }
    if let Some(python) = crate::python::at_hand(root) {
        tests.env("ZEROBUFFER_PYTHON", python);
    }
    if full {
        tools::need("chromium", "chromium")?;
        tests.env("ZEROBUFFER_CHROMIUM", "chromium");
    }
    run(&mut tests)
}

/// The command `zerobuffer-cs`, as the packed tool is started.
fn command_line(root: &Path, sdk: &Sdk) -> String {
    let program = root.join("target/csharp/bin/ZeroBuffer.Cli/debug/zerobuffer-cs.dll");
    format!("{} exec {}", sdk.dotnet.display(), program.display())
}

/// Builds the peer of the conformance suite. Returns its command, or `None` without an SDK.
pub(crate) fn conformance_peer(root: &Path) -> Result<Option<String>> {
    let Some(sdk) = sdk(root)? else { return Ok(None) };
    build(root, &sdk)?;
    let peer = root.join("target/csharp/bin/ConformancePeer/debug/conformance_peer.dll");
    Ok(Some(format!("{} exec {}", sdk.dotnet.display(), peer.display())))
}

/// Builds the peer of the soak. Returns its command, or `None` without an SDK.
pub(crate) fn soak_peer(root: &Path) -> Result<Option<String>> {
    let Some(sdk) = sdk(root)? else { return Ok(None) };
    build(root, &sdk)?;
    let peer = root.join("target/csharp/bin/SoakPeer/debug/soak_peer.dll");
    Ok(Some(format!("{} exec {}", sdk.dotnet.display(), peer.display())))
}

/// Builds the peer of the benchmark driver with the library as it is shipped; its program and environment.
pub(crate) fn bench_peer(root: &Path) -> Result<(PathBuf, Vec<(String, String)>)> {
    let sdk = Sdk::find(root)?.context(MISSING)?;
    run(&mut cargo(root, &["build", "--quiet", "--release", "--package", "zerobuffer-ffi"]))?;
    let build = ["build", "--verbosity", "quiet", "-nodeReuse:false", "--configuration", "Release"];
    let library = root.join("target/release/libzerobuffer_c.so");
    run(sdk.command(root, &build).arg(root.join("bench/peers/csharp")).env("ZeroBufferNative", library))?;
    Ok((root.join("target/csharp/bin/BenchPeer/release/bench_peer"), sdk.environment))
}

/// Starts the example of a topic.
pub(crate) type Starter = Box<dyn Fn(&str) -> Command>;

/// Builds the examples. Returns a function that starts the example of a topic, or `None` without an SDK.
pub(crate) fn examples(root: &Path) -> Result<Option<Starter>> {
    let Some(sdk) = sdk(root)? else { return Ok(None) };
    build(root, &sdk)?;
    let programs = root.join("target/csharp/bin");
    Ok(Some(Box::new(move |topic| {
        let mut command = Command::new(&sdk.dotnet);
        command.arg("exec").arg(programs.join(format!("{topic}/debug/{topic}.dll")));
        command
    })))
}
