//! Tests the C# packages the way programs use them: packed, restored by a project outside the tree, published in every way.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::csharp::Sdk;
use crate::tools::{has, quick_target, run};

const CONSUMER: &str = "bindings/csharp/tests/consumer";

/// The packages of libraries. All have one version.
const LIBRARIES: &[&str] = &["ZeroBuffer", "ZeroBuffer.Hosting", "ZeroBuffer.V1"];

/// The package of the command, which is a .NET tool.
const TOOL: &str = "ZeroBuffer.Cli";

/// How long a side of the command waits for the other one, which may be slow to start.
const PATIENCE: [&str; 2] = ["--timeout-ms", "60000"];

/// A way to publish the consumer.
struct Kind {
    name: &'static str,
    what: &'static str,
    /// Whether it takes a minute, so that `--full` alone tries it.
    slow: bool,
}

const KINDS: &[Kind] = &[
    Kind { name: "framework", what: "a program for an installed runtime", slow: false },
    Kind { name: "v1", what: "a program of 1.x for an installed runtime", slow: true },
    Kind { name: "hosting", what: "a program with a host for an installed runtime", slow: true },
    Kind { name: "single", what: "one trimmed file with its runtime", slow: true },
    Kind { name: "aot", what: "native code, the library beside it", slow: true },
    Kind { name: "static", what: "native code, the library linked in", slow: true },
];

/// Packs the packages, which have been built for the tests, installs the command and runs the consumer; with `full` in each way.
pub(crate) fn test(root: &Path, sdk: &Sdk, full: bool) -> Result<()> {
    let packages = root.join("target/csharp/package");
    let _ = std::fs::remove_dir_all(&packages);
    for package in LIBRARIES.iter().chain([&TOOL]) {
        let pack =
            ["pack", "--no-build", "--configuration", "Debug", "--verbosity", "quiet", "-nodeReuse:false"];
        let project = format!("src/{package}");
        run(sdk.command(root, &pack).arg(project).arg("--output").arg(&packages))?;
    }
    let version = packed(&packages)?;
    let folder = std::env::temp_dir().join(format!("zerobuffer-consumer-{}", std::process::id()));
    let mut kinds = KINDS.iter().filter(|kind| full || !kind.slow);
    let result = install(root, sdk, &folder, &packages, &version)
        .context("the command as a .NET tool")
        .and_then(|()| {
            kinds.try_for_each(|kind| {
                consume(root, sdk, &folder, &packages, &version, kind.name)
                    .with_context(|| format!("published as {}", kind.what))
            })
        });
    std::fs::remove_dir_all(&folder)?;
    if !full {
        println!(
            "other ways to publish (trimmed single file, native code) are tried by `cargo xtask test --full csharp`"
        );
    }
    result
}

/// Returns the version of the packages. Each library has its symbols beside it.
fn packed(packages: &Path) -> Result<String> {
    let entries = std::fs::read_dir(packages)?.collect::<std::io::Result<Vec<_>>>()?;
    let names: Vec<String> =
        entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let first = LIBRARIES[0];
    let version = names.iter().find_map(|name| {
        let version = name.strip_prefix(first)?.strip_prefix('.')?.strip_suffix(".nupkg")?;
        version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
    });
    let version = version.with_context(|| format!("no package in {}", packages.display()))?;
    let libraries = LIBRARIES
        .iter()
        .flat_map(|package| ["nupkg", "snupkg"].map(|end| format!("{package}.{version}.{end}")));
    for file in libraries.chain([format!("{TOOL}.{version}.nupkg")]) {
        if !names.contains(&file) {
            bail!("{file} was not packed: {names:?}");
        }
    }
    Ok(version)
}

/// Installs the command from its package alone, and lets one process of it read what another one writes.
fn install(root: &Path, sdk: &Sdk, folder: &Path, packages: &Path, version: &str) -> Result<()> {
    let tool = folder.join("tool");
    std::fs::create_dir_all(&tool)?;
    // No other source is asked.
    let sources = tool.join("nuget.config");
    let text = format!(
        "<configuration><packageSources><clear /><add key=\"here\" value=\"{}\" /></packageSources></configuration>",
        packages.display()
    );
    std::fs::write(&sources, text)?;
    let mut install = sdk.command(root, &["tool", "install", TOOL, "--version", version]);
    install.arg("--tool-path").arg(&tool).arg("--configfile").arg(&sources);
    // The package is unpacked here, so that an earlier one of the same version is not taken.
    install.current_dir(&tool).env("NUGET_PACKAGES", folder.join("packages"));
    run(install.env("DOTNET_CLI_UI_LANGUAGE", "en"))?;

    let command = |arguments: &[&str]| {
        let mut command = Command::new(tool.join("zerobuffer-cs"));
        command.args(arguments).envs(sdk.environment());
        command
    };
    let name = format!("zbtest-tool-{}", std::process::id());
    let mut reader = command(&["reader", &name, "-n", "3", "--verify", "sequential", "--json-output"]);
    reader.args(PATIENCE);
    let reader = reader.stdout(Stdio::piped()).spawn().context("cannot start the installed reader")?;
    // The writer waits for the reader's buffer.
    let written = run(command(&["writer", &name, "-n", "3"]).args(PATIENCE));
    let read = reader.wait_with_output()?;
    written?;
    let summary = String::from_utf8_lossy(&read.stdout);
    if !read.status.success() || !summary.replace(' ', "").contains("\"frames_read\":3") {
        bail!("the installed reader ended with {}: {summary}", read.status);
    }
    println!("tool: the installed command wrote and read 3 frames");
    Ok(())
}

fn consume(root: &Path, sdk: &Sdk, folder: &Path, packages: &Path, version: &str, kind: &str) -> Result<()> {
    if matches!(kind, "aot" | "static") && !(has("gcc", &["--version"]) || has("clang", &["--version"])) {
        bail!(
            "native code needs a C compiler to link; on Debian and Ubuntu: sudo apt-get install -y gcc zlib1g-dev"
        );
    }
    let project = folder.join(kind);
    std::fs::create_dir_all(&project)?;
    for file in ["Consumer.csproj", "Program.cs", "V1.cs", "Hosting.cs"] {
        std::fs::copy(root.join(CONSUMER).join(file), project.join(file))?;
    }
    let out = project.join("out");
    let mut publish = sdk.command(root, &["publish", "--verbosity", "quiet", "-nodeReuse:false"]);
    publish.current_dir(&project).arg("--output").arg(&out);
    publish.arg(format!("-p:Kind={kind}")).arg(format!("-p:ZeroBufferVersion={version}"));
    let archive = quick_target(root).join("release/libzerobuffer_c.a");
    publish.arg(format!("-p:ZeroBufferArchive={}", archive.display()));
    publish.arg(format!("-p:RestoreAdditionalProjectSources={}", packages.display()));
    // The package is unpacked here, so that an earlier one of the same version is not taken.
    publish.arg(format!("-p:RestorePackagesPath={}", folder.join("packages").display()));
    if sdk.is_offline() {
        publish.arg(format!("-p:RestoreSources={}", packages.display()));
    }
    publish.env("DOTNET_CLI_UI_LANGUAGE", "en");
    run(&mut publish)?;
    let library = out.join("libzerobuffer_c.so");
    if kind == "static" && library.exists() {
        // The package brings it; the program has its own.
        std::fs::remove_file(library)?;
    }
    let program: PathBuf = out.join("Consumer");
    let mut consumer = Command::new(&program);
    if !matches!(kind, "framework" | "v1" | "hosting") {
        // These need no runtime.
        consumer.env_remove("DOTNET_ROOT");
    } else {
        consumer.envs(sdk.environment());
    }
    run(&mut consumer)?;
    println!("{kind}: {} bytes", std::fs::metadata(&program)?.len());
    Ok(())
}
