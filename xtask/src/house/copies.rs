//! Checks facts that are in more than one place: the version, and links between pages.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Files with a copy of the workspace's version, and the text before it.
const VERSIONS: [(&str, &str); 5] = [
    ("Cargo.toml", "zerobuffer = { path = \"crates/zerobuffer\", version = \""),
    ("bindings/python/Cargo.toml", "version = \""),
    ("bindings/csharp/Directory.Build.props", "<Version>"),
    ("bindings/cpp/packaging/vcpkg/zerobuffer/vcpkg.json", "\"version-semver\": \""),
    ("bindings/cpp/packaging/conan/conanfile.py", "version = \""),
];

/// Checks that every copy has the version that `Cargo.toml` states for the workspace.
pub(super) fn versions(root: &Path) -> Result<()> {
    let read =
        |file: &str| std::fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"));
    let version = after(&read("Cargo.toml")?, "version = \"").context("Cargo.toml states no version")?;
    for (file, before) in VERSIONS {
        let copy = after(&read(file)?, before).with_context(|| format!("{file} has no `{before}`"))?;
        if copy != version {
            bail!("{file} has version {copy}, Cargo.toml has {version}");
        }
    }
    Ok(())
}

/// The text behind `before` at the beginning of a line, up to a quote or a tag.
fn after(text: &str, before: &str) -> Option<String> {
    let rest = text.lines().find_map(|line| line.trim_start().strip_prefix(before))?;
    Some(rest.split(['"', '<']).next()?.to_owned())
}

/// Checks that links of the tree's pages lead to existing files.
pub(super) fn links(root: &Path) -> Result<usize> {
    let output = Command::new("git").args(["ls-files", "-z", "*.md"]).current_dir(root).output()?;
    let mut count = 0;
    let mut broken = Vec::new();
    for page in String::from_utf8(output.stdout)?.split_terminator('\0') {
        let Ok(text) = std::fs::read_to_string(root.join(page)) else { continue };
        // Code between fences and within a line has brackets that are no links.
        let prose: String = text.split("```").step_by(2).collect();
        let prose: String = prose.split('`').step_by(2).collect();
        for link in prose.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ', '\n']).next()) {
            let is_file = !link.is_empty() && !link.contains(':') && !link.starts_with('<');
            let folder = Path::new(page).parent().context("a page lies somewhere")?;
            count += usize::from(is_file);
            if is_file && !root.join(folder).join(link).exists() {
                broken.push(format!("{page} leads to {link}, which is not there"));
            }
        }
    }
    if !broken.is_empty() {
        bail!("{}", broken.join("; "));
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::after;

    #[test]
    fn a_version_is_found_behind_its_words() {
        assert_eq!(after("x\n  <Version>2.0.0-a</Version>", "<Version>").as_deref(), Some("2.0.0-a"));
        assert_eq!(after("version = \"1\"", "version = \"").as_deref(), Some("1"));
        assert_eq!(after("rust-version = \"1\"", "version = \""), None);
    }
}
