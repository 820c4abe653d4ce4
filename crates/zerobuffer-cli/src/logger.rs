//! Shows the library's log on standard error.

use log::{LevelFilter, Log, Metadata, Record};

use crate::output::{set_verbose, tell};

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_ascii_lowercase();
            tell(&format_args!("zerobuffer: {level}: {}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Shows warnings always, the rest if `verbose`.
pub(crate) fn install(verbose: bool) {
    set_verbose(verbose);
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(if verbose { LevelFilter::Debug } else { LevelFilter::Warn });
    }
}
