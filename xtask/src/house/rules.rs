//! The rules, as lines of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::modules::Module;

/// Lines that a file may have.
const LONGEST: usize = 550;

/// Where a kind of ring may be named.
const RINGS: &str = "ring";

/// Where libc may be named: this module and what lies in it.
const SYSTEM: &str = "os";

/// Kinds of source files, by the end of their names.
const SOURCES: &[&str] = &[".rs", ".py", ".pyi", ".h", ".hpp", ".cpp", ".c", ".cs"];

/// Files that a program writes.
const GENERATED: &[&str] = &["crates/zerobuffer-ffi/include/zerobuffer/zerobuffer_c.h"];

/// The lines of the core's modules.
pub(super) fn of_modules(modules: &BTreeMap<String, Module>) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (name, module) in modules {
        for other in &module.edges {
            lines.insert(format!("edge {name} -> {other}"));
        }
        if module.kinds > 0 && name != RINGS {
            lines.insert(format!("kind {name} {}", module.kinds));
        }
        if module.libc > 0 && name.split('/').next() != Some(SYSTEM) {
            lines.insert(format!("libc {name} {}", module.libc));
        }
    }
    for circle in circles(modules) {
        lines.insert(format!("circle {}", circle.into_iter().collect::<Vec<_>>().join(" ")));
    }
    lines
}

/// Sets of modules in which each module reaches all others.
fn circles(modules: &BTreeMap<String, Module>) -> BTreeSet<BTreeSet<&str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        modules.keys().map(|name| (name.as_str(), reached_from(modules, name))).collect();
    let circle = |name: &'_ str| -> BTreeSet<&str> {
        reached[name].iter().copied().filter(|other| reached[other].contains(name)).collect()
    };
    modules.keys().map(|name| circle(name)).filter(|circle| circle.len() > 1).collect()
}

fn reached_from<'a>(modules: &'a BTreeMap<String, Module>, start: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(name) = open.pop() {
        for other in modules.get(name).map(|module| &module.edges).into_iter().flatten() {
            if reached.insert(other.as_str()) {
                open.push(other);
            }
        }
    }
    reached
}

/// Lines of the table for files that are too long.
pub(super) fn long_files(root: &Path) -> Result<BTreeSet<String>> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let output = output.context("cannot start git, which knows the files of the tree")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut lines = BTreeSet::new();
    for path in String::from_utf8(output.stdout)?.split_terminator('\0') {
        let is_source = SOURCES.iter().any(|end| path.ends_with(end)) && !GENERATED.contains(&path);
        // A file that was removed and not yet committed is still listed.
        if is_source && root.join(path).is_file() {
            let text = std::fs::read_to_string(root.join(path)).with_context(|| path.to_owned())?;
            if text.lines().count() > LONGEST {
                lines.insert(format!("long {path}"));
            }
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(edges: &[&str]) -> Module {
        Module { edges: edges.iter().map(|&name| name.to_owned()).collect(), ..Module::default() }
    }

    #[test]
    fn a_circle_is_told_once_with_all_its_files() {
        let modules = BTreeMap::from([
            ("a".to_owned(), module(&["b"])),
            ("b".to_owned(), module(&["c"])),
            ("c".to_owned(), module(&["a", "d"])),
            ("d".to_owned(), module(&[])),
        ]);
        let lines = of_modules(&modules);
        let circles: Vec<&String> = lines.iter().filter(|line| line.starts_with("circle")).collect();
        assert_eq!(circles, ["circle a b c"]);
    }

    #[test]
    fn kinds_and_libc_are_allowed_where_they_belong() {
        let modules = BTreeMap::from([
            ("ring".to_owned(), Module { kinds: 3, ..Module::default() }),
            ("reader".to_owned(), Module { kinds: 2, libc: 1, ..Module::default() }),
            ("os/linux".to_owned(), Module { libc: 9, ..Module::default() }),
        ]);
        assert_eq!(of_modules(&modules), ["kind reader 2".to_owned(), "libc reader 1".to_owned()].into());
    }
}
