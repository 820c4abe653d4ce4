//! The table of results, as Markdown and JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::scenario::Scenario;

/// The result of one scenario with one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Passed,
    /// A peer has no such operation, or the scenario says nothing about it.
    Inapplicable,
    /// Failed in a way that is known of 1.x peers.
    Known,
    /// A known failure that did not fail.
    Stale,
    Failed,
}

#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) scenario: usize,
    pub(crate) label: String,
    pub(crate) verdict: Verdict,
}

#[derive(Serialize)]
struct Row<'a> {
    theme: &'a str,
    name: &'a str,
    title: &'a str,
    results: BTreeMap<&'a str, Verdict>,
}

#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    languages: Vec<String>,
    scenarios: Vec<Row<'a>>,
}

fn mark(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        None => "",
        Some(Verdict::Passed) => "yes",
        Some(Verdict::Inapplicable) => "-",
        Some(Verdict::Known) => "known",
        Some(Verdict::Stale) => "STALE",
        Some(Verdict::Failed) => "NO",
    }
}

/// Writes `report.md` and `report.json`.
pub(crate) fn write(
    folder: &Path,
    scenarios: &[Scenario],
    findings: &[Finding],
    languages: Vec<String>,
) -> Result<()> {
    let rows: Vec<Row<'_>> = scenarios
        .iter()
        .enumerate()
        .map(|(index, scenario)| Row {
            theme: &scenario.theme,
            name: &scenario.name,
            title: &scenario.title,
            results: findings
                .iter()
                .filter(|finding| finding.scenario == index)
                .map(|finding| (finding.label.as_str(), finding.verdict))
                .collect(),
        })
        .collect();
    std::fs::create_dir_all(folder)?;
    let mut text = String::from(
        "# Conformance: scenario by pair of languages\n\nMade by `cargo xtask conformance --report`; not edited by hand. A column is \
         the way that frames take, `writer > reader`, or `client > server`. `yes`: the promise was kept, over both kinds of ring where both \
         sides are native. `-`: the scenario says nothing about this pair, or 1.x has no such operation. `known`: fails, as \
         verification/conformance/known-failures.toml says of 1.x peers.\n",
    );
    let mut theme = "";
    for (index, row) in rows.iter().enumerate() {
        let columns = columns(&rows, row.theme, scenarios[index].is_chain());
        if row.theme != theme {
            theme = row.theme;
            writeln!(text, "\n## {}\n\n| promise | {} |", title_of(theme), columns.join(" | "))?;
            writeln!(text, "|---|{}", "---|".repeat(columns.len()))?;
        }
        let cells: Vec<&str> = columns
            .iter()
            .map(|column| {
                let classic = format!("{column} (classic)");
                let worst = [column.as_str(), classic.as_str()]
                    .iter()
                    .filter_map(|label| row.results.get(label).copied())
                    .max();
                mark(worst)
            })
            .collect();
        writeln!(text, "| {} | {} |", row.title, cells.join(" | "))?;
    }
    std::fs::write(folder.join("report.md"), text)?;
    let report = Report { version: zerobuffer::VERSION, languages, scenarios: rows };
    std::fs::write(folder.join("report.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    Ok(())
}

fn title_of(theme: &str) -> String {
    let name = theme.split_once('-').map_or(theme, |(_, name)| name);
    let mut letters = name.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Labels of a theme's cases, those of classic rings under their pair.
fn columns(rows: &[Row<'_>], theme: &str, chain: bool) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for label in rows.iter().filter(|row| row.theme == theme).flat_map(|row| row.results.keys()) {
        let label = label.trim_end_matches(" (classic)").to_owned();
        if (label.matches(" > ").count() == 2) == chain && !all.contains(&label) {
            all.push(label);
        }
    }
    all.sort();
    all
}
