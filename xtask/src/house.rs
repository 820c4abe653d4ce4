//! `cargo xtask house`: which modules of the core may know which, and the other rules of its shape.
//!
//! A table in the tree lists the exceptions to the rules and the allowed edges. It must match the sources
//! exactly: a new line fails, and so does a line that is no longer true. So the table changes only in commits
//! that intend to change it.

mod copies;
mod modules;
mod rules;
mod wire;
mod words;

pub(crate) use modules::{attributes, is_for_tests};

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

const TABLE: &str = "xtask/data/house.txt";

const HEADING: &str = "\
# The shape of the tree, checked by `cargo xtask test house`; `cargo xtask house --update` rewrites this table.
# Add a line knowingly, and explain it in the commit.
#
#   edge A -> B       file A of crates/zerobuffer/src names something of file B
#   circle A B ...    these files know each other, directly or not
#   kind A N          file A names a kind of ring (`ReadRing::Classic`) N times; only ring/mod.rs should
#   libc A N          file A names libc N times; only os/ should
#   long PATH         the file has more than 550 lines
";

/// Compares the tree with the table; `--update` writes the table.
pub(crate) fn command(root: &Path, arguments: &[String]) -> Result<()> {
    let update = match arguments {
        [] => false,
        [option] if option == "--update" => true,
        _ => bail!("`cargo xtask house` takes --update or nothing"),
    };
    let found = found(root)?;
    let path = root.join(TABLE);
    let table = if update && !path.exists() {
        String::new()
    } else {
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {TABLE}"))?
    };
    let allowed: BTreeSet<String> =
        table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect();
    let new: Vec<&String> = found.difference(&allowed).collect();
    let gone: Vec<&String> = allowed.difference(&found).collect();
    new.iter().for_each(|line| println!("+ {line}"));
    gone.iter().for_each(|line| println!("- {line}"));
    if update {
        let lines: Vec<&str> = found.iter().map(String::as_str).collect();
        std::fs::write(&path, format!("{HEADING}\n{}\n", lines.join("\n")))?;
        println!("{TABLE}: {} new lines, {} removed; {}", new.len(), gone.len(), summary(&found));
        return Ok(());
    }
    if !new.is_empty() || !gone.is_empty() {
        bail!(
            "the tree has {} lines that {TABLE} does not allow (+) and lacks {} that it still has (-); mend the code, or \
             write the table with `cargo xtask house --update` and explain the new lines in the commit",
            new.len(),
            gone.len()
        );
    }
    println!("{}", summary(&found));
    Ok(())
}

/// The step.
pub(crate) fn test(root: &Path, _: bool) -> Result<()> {
    println!("{} words and bits are where docs/PROTOCOL.md has them", wire::check(root)?);
    copies::versions(root)?;
    println!("{} links between pages lead somewhere", copies::links(root)?);
    println!("{} pages and sources are free of phrases that read as translated", words::check(root)?);
    command(root, &[])
}

/// The lines of the table, found in the sources.
fn found(root: &Path) -> Result<BTreeSet<String>> {
    let modules = modules::read(&root.join("crates/zerobuffer/src"))?;
    let mut lines = rules::of_modules(&modules);
    lines.extend(rules::long_files(root)?);
    Ok(lines)
}

fn summary(lines: &BTreeSet<String>) -> String {
    let count = |kind: &str| lines.iter().filter(|line| line.starts_with(kind)).count();
    format!(
        "{} edges, {} circles, {} files that name a kind of ring, {} that name libc outside os/, {} long files",
        count("edge "),
        count("circle "),
        count("kind "),
        count("libc "),
        count("long ")
    )
}
