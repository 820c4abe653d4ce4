//! Writes results to a folder: JSON lines and plots, with the date in their names.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Writes nothing if it has no folder.
pub struct Record {
    place: Option<(PathBuf, String)>,
    lines: Option<File>,
}

impl Record {
    /// `date`: of the form 2026-11-22, more may follow; `name`: of the file of JSON lines.
    pub fn new(folder: Option<&Path>, date: &str, name: &str) -> Result<Record> {
        let Some(folder) = folder else { return Ok(Record { place: None, lines: None }) };
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let day = date.get(..10).unwrap_or(date).to_owned();
        let path = folder.join(format!("{day}-{name}.jsonl"));
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Record { place: Some((folder.to_owned(), day)), lines: Some(file) })
    }

    pub fn line(&mut self, value: &serde_json::Value) -> Result<()> {
        match &mut self.lines {
            Some(file) => writeln!(file, "{value}").context("cannot write the results"),
            None => Ok(()),
        }
    }

    pub fn plot(&self, name: &str, svg: &str) -> Result<()> {
        let Some((folder, day)) = &self.place else { return Ok(()) };
        let path = folder.join(format!("{day}-{name}.svg"));
        std::fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {}", path.display());
        Ok(())
    }
}
