//! Scenarios as data: the files in `verification/conformance/scenarios/`. verification/conformance/README.md
//! describes their format.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Which of a case's languages an actor speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// The first language: readers and servers.
    Reader,
    /// The second one: writers and clients.
    Writer,
    /// The third one, between the two: relays.
    Relay,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    /// The promise, in words.
    pub(crate) title: String,
    pub(crate) actors: BTreeMap<String, Side>,
    pub(crate) steps: Vec<Map<String, Value>>,
    /// Also played with classic rings, if both sides are native (default true).
    #[serde(default = "yes")]
    pub(crate) classic: bool,
    /// Whether it applies to 1.x peers (default true).
    #[serde(default = "yes")]
    pub(crate) foreign: bool,
    /// Its file.
    #[serde(skip)]
    pub(crate) theme: String,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    scenario: Vec<Scenario>,
}

impl Scenario {
    /// Whether it takes three languages.
    pub(crate) fn is_chain(&self) -> bool {
        self.actors.values().any(|side| *side == Side::Relay)
    }
}

/// All scenarios of a folder, in the order of their files.
pub(crate) fn load(folder: &Path) -> Result<Vec<Scenario>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    let mut all: Vec<Scenario> = Vec::new();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let text = std::fs::read_to_string(path)?;
        let file: File = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        let theme = path.file_stem().unwrap_or_default().to_string_lossy();
        for mut scenario in file.scenario {
            if all.iter().any(|other| other.name == scenario.name) {
                bail!("{}: a second scenario `{}`", path.display(), scenario.name);
            }
            scenario.theme = theme.clone().into_owned();
            all.push(scenario);
        }
    }
    if all.is_empty() {
        bail!("no scenarios in {}", folder.display());
    }
    Ok(all)
}
