//! The interpreter with the published 1.x package.

use std::path::{Path, PathBuf};

use anyhow::Result;

pub(crate) fn ensure(root: &Path) -> Result<PathBuf> {
    Ok(root.join("target/peer-venv/bin/python"))
}
