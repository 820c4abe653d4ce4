//! The tests in C, linked with the changed library of the C ABI.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::tree::{FOLDER, Kind, Program, shared_library};
use crate::tools::run;

const TESTS: &str = "bindings/cpp/tests";
const HEADERS: &str = "crates/zerobuffer-ffi/include";
const SANITIZE: &str = "-fsanitize=address,undefined";

/// Programs that are one test each.
const C_PROGRAMS: [&str; 9] = [
    "c_abi",
    "c_loans",
    "c_closing",
    "c_deferred",
    "c_in_place",
    "c_loggers",
    "c_server",
    "c_sharing",
    "c_tee",
];

pub(super) fn programs(root: &Path, copy: &Path) -> Result<Vec<Program>> {
    let library = shared_library(root, copy)?;
    let folder = root.join(FOLDER).join("c");
    std::fs::create_dir_all(&folder)?;
    // Programs ask for the name with the ABI's number.
    let named = folder.join("libzerobuffer_c.so.1");
    std::fs::copy(&library, &named).with_context(|| format!("cannot copy {}", library.display()))?;
    let mut programs = Vec::new();
    for name in C_PROGRAMS {
        let path = folder.join(name);
        run(Command::new("cc")
            .args(["-std=gnu11", SANITIZE, "-fno-sanitize-recover=all", "-g1", "-pthread", "-I"])
            .arg(root.join(HEADERS))
            .arg(root.join(TESTS).join(format!("{name}.c")))
            .arg(&named)
            .arg(format!("-Wl,-rpath,{}", folder.display()))
            .arg("-o")
            .arg(&path))?;
        programs.push(Program { name: name.to_owned(), kind: Kind::Plain, path, folder: root.to_owned() });
    }
    Ok(programs)
}
