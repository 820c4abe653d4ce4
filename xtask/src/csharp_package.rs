//! Tests the C# package the way programs use it: packed, restored by a project outside the tree, published in
//! every way.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::csharp::Sdk;
use crate::tools::{has, run};

const CONSUMER: &str = "bindings/csharp/tests/consumer";

/// The ways to publish the consumer: the kind, and the resulting program.
const KINDS: &[(&str, &str)] = &[
    ("framework", "a program for an installed runtime"),
    ("single", "one trimmed file with its runtime"),
    ("aot", "native code, the library beside it"),
    ("static", "native code, the library linked in"),
];

/// Packs the package, and runs the consumer in each way.
pub(crate) fn test(root: &Path, sdk: &Sdk) -> Result<()> {
    let packages = root.join("target/csharp/package");
    let _ = std::fs::remove_dir_all(&packages);
    run(sdk
        .command(root, &["pack", "src/ZeroBuffer", "--verbosity", "quiet", "-nodeReuse:false", "--output"])
        .arg(&packages))?;
    let version = packed(&packages)?;
    let folder = std::env::temp_dir().join(format!("zerobuffer-consumer-{}", std::process::id()));
    let result = KINDS.iter().try_for_each(|(kind, what)| {
        consume(root, sdk, &folder, &packages, &version, kind).with_context(|| format!("published as {what}"))
    });
    std::fs::remove_dir_all(&folder)?;
    result
}

/// The version of the packed package, which has its symbols beside it.
fn packed(packages: &Path) -> Result<String> {
    let entries = std::fs::read_dir(packages)?.collect::<std::io::Result<Vec<_>>>()?;
    let names: Vec<String> =
        entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let version = names.iter().find_map(|name| name.strip_prefix("ZeroBuffer.")?.strip_suffix(".nupkg"));
    let version = version.with_context(|| format!("no package in {}", packages.display()))?;
    if !names.iter().any(|name| name.ends_with(".snupkg")) {
        bail!("no symbols beside the package: {names:?}");
    }
    Ok(version.to_owned())
}

fn consume(root: &Path, sdk: &Sdk, folder: &Path, packages: &Path, version: &str, kind: &str) -> Result<()> {
    if matches!(kind, "aot" | "static") && !(has("gcc", &["--version"]) || has("clang", &["--version"])) {
        bail!(
            "native code needs a C compiler to link; on Debian and Ubuntu: sudo apt-get install -y gcc zlib1g-dev"
        );
    }
    let project = folder.join(kind);
    std::fs::create_dir_all(&project)?;
    for file in ["Consumer.csproj", "Program.cs"] {
        std::fs::copy(root.join(CONSUMER).join(file), project.join(file))?;
    }
    let out = project.join("out");
    let mut publish = sdk.command(root, &["publish", "--verbosity", "quiet", "-nodeReuse:false"]);
    publish.current_dir(&project).arg("--output").arg(&out);
    publish.arg(format!("-p:Kind={kind}")).arg(format!("-p:ZeroBufferVersion={version}"));
    publish.arg(format!("-p:ZeroBufferArchive={}", root.join("target/release/libzerobuffer_c.a").display()));
    publish.arg(format!("-p:RestoreAdditionalProjectSources={}", packages.display()));
    // The package is unpacked here, so that an earlier one of the same version is not taken.
    publish.arg(format!("-p:RestorePackagesPath={}", folder.join("packages").display()));
    if sdk.is_offline() {
        publish.arg(format!("-p:RestoreSources={}", packages.display()));
    }
    publish.env("DOTNET_CLI_UI_LANGUAGE", "en");
    run(&mut publish)?;
    let program: PathBuf = out.join("Consumer");
    let mut consumer = Command::new(&program);
    if kind == "framework" {
        consumer.envs(sdk.environment());
    }
    if kind == "static" && out.join("libzerobuffer_c.so").exists() {
        std::fs::remove_file(out.join("libzerobuffer_c.so"))?;
    }
    run(&mut consumer)?;
    println!("{kind}: {} bytes", std::fs::metadata(&program)?.len());
    Ok(())
}
