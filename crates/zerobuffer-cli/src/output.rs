//! What commands print: lines for people, and JSON.

use std::fmt::{self, Display};
use std::io::{self, Write};

use serde::Serialize;

/// Prints an error.
pub(crate) fn complain(message: &dyn Display) {
    // An error that cannot be printed cannot be reported either.
    let _ = writeln!(io::stderr(), "zerobuffer: error: {message}");
}

/// Prints a line on standard output; a closed pipe is no reason to fail.
pub(crate) fn say(line: &dyn Display) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints `value` as JSON on standard output.
pub(crate) fn say_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => say(&text),
        Err(error) => complain(&error),
    }
}

/// A number of bytes for people.
pub(crate) struct Bytes(pub(crate) u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
        let mut unit = units.next().unwrap_or_default();
        while value >= 1024.0
            && let Some(next) = units.next()
        {
            value /= 1024.0;
            unit = next;
        }
        let text = if unit == "B" { format!("{} B", self.0) } else { format!("{value:.1} {unit}") };
        f.pad(&text)
    }
}
