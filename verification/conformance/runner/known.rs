//! Failures that are known, as data: `verification/conformance/known-failures.toml`. Only 1.x peers may have some.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Known {
    scenario: String,
    /// A case's label; `*` for any language.
    case: String,
    pub(crate) why: String,
    /// It fails only sometimes, so a success proves nothing.
    #[serde(default)]
    pub(crate) sometimes: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    failure: Vec<Known>,
}

pub(crate) fn load(path: &Path) -> Result<Vec<Known>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file: File = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
    for known in &file.failure {
        ensure!(
            known.case.contains("1.x"),
            "`{}`, {}: only 1.x peers may have known failures",
            known.scenario,
            known.case
        );
    }
    Ok(file.failure)
}

impl Known {
    pub(crate) fn is_about(&self, scenario: &str, case: &str) -> bool {
        let (mine, theirs): (Vec<&str>, Vec<&str>) =
            (self.case.split(" > ").collect(), case.split(" > ").collect());
        self.scenario == scenario
            && mine.len() == theirs.len()
            && mine.iter().zip(theirs).all(|(mine, theirs)| *mine == "*" || *mine == theirs)
    }
}
