//! The core's log records for Python's `logging`, logger "zerobuffer".
//!
//! The core logs on any thread, perhaps with a lock held, so a record is put aside and handed to Python by the next call
//! that holds the GIL anyway.

use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use pyo3::prelude::*;

use crate::end;
use crate::lock::Guarded;

/// Records that wait at most; more than that in one call is noise.
const LIMIT: usize = 256;

struct Pending {
    any: AtomicBool,
    records: Guarded<Vec<(Level, String)>>,
}

static PENDING: Pending = Pending { any: AtomicBool::new(false), records: Guarded::new(Vec::new()) };

impl Log for Pending {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Debug
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (level, message) = (record.level(), record.args().to_string());
        self.records.with(|records| {
            if records.len() < LIMIT {
                records.push((level, message));
                self.any.store(true, Ordering::Release);
            }
        });
    }

    fn flush(&self) {}
}

/// Takes the core's records from now on.
pub(crate) fn install() {
    // Fails if this module is imported once more.
    if log::set_logger(&PENDING).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}

/// Hands what has been logged to Python.
#[inline]
pub(crate) fn flush(py: Python<'_>) {
    if PENDING.any.load(Ordering::Relaxed) {
        hand_over(py);
    }
}

#[cold]
fn hand_over(py: Python<'_>) {
    // Logging handlers are Python code, which the interpreter's end waits for.
    let _calling = end::calling(py);
    PENDING.any.store(false, Ordering::Release);
    let records = PENDING.records.replace(Vec::new());
    let hand = || -> PyResult<()> {
        let logger = py.import("logging")?.call_method1("getLogger", ("zerobuffer",))?;
        for (level, message) in records {
            let level = match level {
                Level::Error => 40,
                Level::Warn => 30,
                Level::Info => 20,
                Level::Debug | Level::Trace => 10,
            };
            logger.call_method1("log", (level, "%s", message))?;
        }
        Ok(())
    };
    if let Err(error) = hand() {
        // A logging handler that fails must not fail the call that happened to log.
        error.write_unraisable(py, None);
    }
}
