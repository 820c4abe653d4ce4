//! `cargo xtask sanitize`: tests of the core under AddressSanitizer, which brings LeakSanitizer, by the stable compiler.

use std::path::Path;

use anyhow::Result;

use crate::tools::{HOST, cargo, run};
use crate::venv;

/// Test binaries of the core beside its unit tests. Left out are those whose subject is the kernel's side (limits, isolation,
/// idle, cleanup) and 1.x peers.
const TESTS: &[&str] = &[
    "basics",
    "bindings",
    "corrupt",
    "duplex",
    "extended_counters",
    "give_back",
    "hostile",
    "kept",
    "model",
    "races",
    "tokens",
];

pub(crate) fn command(root: &Path) -> Result<()> {
    let mut test = cargo(root, &["test", "--package", "zerobuffer", "--features", "async", "--lib"]);
    TESTS.iter().for_each(|name| {
        test.args(["--test", name]);
    });
    run(test
        .args(["--no-fail-fast", "--target", HOST])
        // It watches memory, of which the sanitizer keeps what was freed.
        .args(["--", "--skip", "a_thousand_clients_leave_nothing_behind"])
        .env("ZEROBUFFER_PEER_PYTHON", venv::ensure(root)?)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-Zsanitizer=address")
        .env("ASAN_OPTIONS", "detect_leaks=1")
        .env("CARGO_TARGET_DIR", root.join("target/sanitize")))
}
