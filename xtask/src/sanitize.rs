//! `cargo xtask sanitize`: tests of the core under AddressSanitizer, which brings LeakSanitizer, by the stable compiler.

use std::path::Path;

use anyhow::Result;

use crate::tools::{HOST, cargo, run};
use crate::venv;

/// Tests to leave out, by a part of their names: modules about the kernel or 1.x peers, and a test that
/// measures memory, because the sanitizer keeps freed memory.
const LEFT_OUT: &[&str] = &[
    "a_thousand_clients_leave_nothing_behind",
    "cleanup::",
    "entry::",
    "extended_sleeps::",
    "idle::",
    "isolation::",
    "kills::",
    "limits::",
    "peers::",
    "peers_failures::",
    "real_data::",
];

pub(crate) fn command(root: &Path) -> Result<()> {
    let mut test = cargo(root, &["test", "--package", "zerobuffer", "--package", "zerobuffer-tests"]);
    test.args([
        "--features",
        "zerobuffer/async",
        "--lib",
        "--test",
        "promises",
        "--no-fail-fast",
        "--target",
        HOST,
        "--",
    ]);
    LEFT_OUT.iter().for_each(|name| _ = test.args(["--skip", name]));
    run(test
        .env("ZEROBUFFER_PEER_PYTHON", venv::ensure(root)?)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address")
        .env("ASAN_OPTIONS", "detect_leaks=1")
        .env("CARGO_TARGET_DIR", root.join("target/sanitize")))
}
