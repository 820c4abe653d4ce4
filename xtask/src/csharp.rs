//! The C# packages: their step of `cargo xtask test`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tools::{cargo, has, run};

const SOLUTION: &str = "bindings/csharp";

/// A folder beside the repository that may have an SDK; its script prints the environment that uses it.
const SHARED: &str = "../shared/dotnet/use";

/// Runtimes that the tests run on; the assembly for net6.0 is loaded on the first.
const FRAMEWORKS: &[&str] = &["net8.0", "net10.0"];

/// A .NET SDK: its command, and what has to be in the environment.
struct Sdk {
    dotnet: PathBuf,
    environment: Vec<(String, String)>,
}

impl Sdk {
    /// That of `DOTNET_ROOT`, of the path, or of the folder beside the repository.
    fn find(root: &Path) -> Result<Option<Sdk>> {
        let of_root = std::env::var_os("DOTNET_ROOT").map(|folder| PathBuf::from(folder).join("dotnet"));
        let candidates = of_root.into_iter().chain([PathBuf::from("dotnet")]);
        for dotnet in candidates {
            // A runtime without an SDK has this command too, and fails.
            if has(&dotnet.to_string_lossy(), &["--version"]) {
                return Ok(Some(Sdk { dotnet, environment: Vec::new() }));
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
        // The script prints shell text; a shell says what it comes to.
        let shell = format!("{}\nenv -0", String::from_utf8(output.stdout)?);
        let output = Command::new("bash").args(["-c", &shell]).output()?;
        let environment: Vec<_> = String::from_utf8_lossy(&output.stdout)
            .split('\0')
            .filter_map(|line| line.split_once('='))
            .filter(|(name, _)| {
                name.starts_with("DOTNET") || name.starts_with("NUGET") || name.starts_with("NuGet")
            })
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let folder =
            environment.iter().find(|(name, _)| name == "DOTNET_ROOT").map(|(_, value)| value.clone());
        let folder = folder.with_context(|| format!("{} names no DOTNET_ROOT", script.display()))?;
        Ok(Some(Sdk { dotnet: Path::new(&folder).join("dotnet"), environment }))
    }

    fn command(&self, root: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.dotnet);
        command.current_dir(root.join(SOLUTION)).args(arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        // A build server that outlives the step would hold its files.
        command.env("MSBUILDDISABLENODEREUSE", "1").env("DOTNET_CLI_TELEMETRY_OPTOUT", "1");
        command
    }
}

/// The step: format, build with warnings as errors, all tests on both runtimes.
pub(crate) fn test(root: &Path, _full: bool) -> Result<()> {
    let Some(sdk) = Sdk::find(root)? else {
        let missing =
            "there is no .NET SDK 10 (dotnet in PATH or DOTNET_ROOT): https://dotnet.microsoft.com/download";
        if std::env::var_os("CI").is_some() {
            bail!("{missing}; CI must not leave C# out");
        }
        println!("C# is left out: {missing}");
        return Ok(());
    };
    run(&mut cargo(
        root,
        &["build", "--quiet", "--package", "zerobuffer-ffi", "--package", "zerobuffer-cli", "--release"],
    ))?;
    run(&mut sdk.command(root, &["build", "--verbosity", "quiet", "-nodeReuse:false"]))?;
    run(&mut sdk.command(root, &["format", "whitespace", "--no-restore", "--verify-no-changes"]))?;
    for framework in FRAMEWORKS {
        println!("the tests on {framework}");
        let program = root.join("target/csharp/bin/ZeroBuffer.Tests").join(format!("debug_{framework}"));
        let assembly = program.join("ZeroBuffer.Tests.dll");
        run(sdk
            .command(root, &["exec"])
            .arg(assembly)
            .args(["--progress", "off"])
            .env("ZEROBUFFER_CLI", root.join("target/release/zerobuffer")))?;
    }
    Ok(())
}
