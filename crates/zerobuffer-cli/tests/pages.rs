//! The pages tell the truth: every error is explained, every command named exists, every link leads somewhere.

mod common;

use std::path::{Path, PathBuf};

use common::run;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_kind_of_error_is_explained() {
    let page = read("docs/TROUBLESHOOTING.md");
    let source = read("crates/zerobuffer/src/error.rs");
    let (_, kinds) = source.split_once("pub enum ErrorKind {").expect("the kinds");
    let (kinds, _) = kinds.split_once("\n}").expect("their end");
    let kinds: Vec<&str> = kinds
        .lines()
        .filter_map(|line| line.trim().strip_suffix(','))
        .filter(|line| !line.contains(' '))
        .collect();
    assert!(kinds.len() >= 22, "{kinds:?}");
    for kind in kinds {
        assert!(
            page.contains(&format!("\n### {kind}\n")),
            "docs/TROUBLESHOOTING.md says nothing about {kind}"
        );
    }
}

#[test]
fn links_lead_to_files() {
    for page in ["README.md", "docs/TROUBLESHOOTING.md", "docs/MIGRATION.md"] {
        let text = read(page);
        let dir = root().join(page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = dir.parent().expect("a folder").join(link.split('#').next().unwrap_or_default());
            assert!(link.starts_with("http") || target.exists(), "{page} links to {link}");
        }
    }
}

#[test]
fn the_commands_and_options_that_pages_name_exist() {
    let help = |command: &str| run(&[command, "--help"]).expect(0).text();
    for page in ["README.md", "docs/TROUBLESHOOTING.md", "docs/MIGRATION.md"] {
        let text = read(page);
        for usage in text.split("zerobuffer ").skip(1) {
            let mut words = usage.split(|c: char| c.is_whitespace() || "`(),;:|&#".contains(c));
            let Some(command) = words.next().filter(|word| word.chars().all(|c| c.is_ascii_lowercase()))
            else {
                continue;
            };
            if command.is_empty() {
                continue;
            }
            let help = help(command);
            let line = usage.lines().next().unwrap_or_default().split('`').next().unwrap_or_default();
            for option in line.split_whitespace().filter(|word| word.starts_with("--")) {
                assert!(
                    help.contains(option.trim_end_matches(|c| ",;:)".contains(c))),
                    "{page}: {command} {option}"
                );
            }
        }
    }
}
