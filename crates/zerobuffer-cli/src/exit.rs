//! Exit codes, one table per command, and failures with their exit code.

use std::fmt;
use std::io;

use rustix::io::Errno;
use zerobuffer::{Error, ErrorKind};

pub(crate) const OK: u8 = 0;
/// A tool could not do its work, or found a problem.
pub(crate) const FAILED: u8 = 1;
/// A bad command line, for every command but the relay.
pub(crate) const BAD_ARGUMENTS: u8 = 3;
/// The command did its work, but what it had to print did not reach standard output.
pub(crate) const UNPRINTED: u8 = 5;
/// An orderly end on Ctrl-C or SIGTERM.
pub(crate) const INTERRUPTED: u8 = 130;

pub(crate) mod writer {
    pub(crate) const CANNOT_CONNECT: u8 = 1;
    pub(crate) const WRITE_ERROR: u8 = 2;
}

pub(crate) mod reader {
    pub(crate) const CANNOT_CREATE: u8 = 1;
    pub(crate) const READ_ERROR: u8 = 2;
    pub(crate) const VERIFICATION_FAILED: u8 = 4;
}

pub(crate) mod relay {
    pub(crate) const INPUT_ERROR: u8 = 1;
    pub(crate) const OUTPUT_ERROR: u8 = 2;
    pub(crate) const RELAY_ERROR: u8 = 3;
    pub(crate) const BAD_ARGUMENTS: u8 = 4;
}

pub(crate) mod tee {
    pub(crate) const INPUT_ERROR: u8 = 1;
    pub(crate) const OUTPUT_ERROR: u8 = 2;
}

pub(crate) mod duplex_server {
    pub(crate) const CANNOT_CREATE: u8 = 1;
    pub(crate) const SERVER_ERROR: u8 = 2;
}

pub(crate) mod duplex_client {
    pub(crate) const CANNOT_CONNECT: u8 = 1;
    pub(crate) const REQUEST_ERROR: u8 = 2;
    pub(crate) const VERIFICATION_FAILED: u8 = 4;
}

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Ctrl-C or SIGTERM.
    Interrupted,
    /// Anything else: its exit code, what happened and the way out.
    Error(u8, String),
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure::Error(code, message.into())
    }

    /// From an error of the library: `code`, unless the command line was bad.
    pub(crate) fn of(error: &Error, code: u8, bad_arguments: u8) -> Failure {
        match error.kind() {
            ErrorKind::Interrupted => Failure::Interrupted,
            ErrorKind::InvalidName | ErrorKind::InvalidConfig => {
                Failure::Error(bad_arguments, error.to_string())
            }
            _ => Failure::Error(code, error.to_string()),
        }
    }

    /// From a file that cannot be opened or read: `code` if the system lacks a resource; otherwise the
    /// command line is bad.
    pub(crate) fn of_file(what: &str, error: &io::Error, code: u8) -> Failure {
        let shortage = error.raw_os_error().is_some_and(|number| {
            let shortages = [
                Errno::MFILE,
                Errno::NFILE,
                Errno::NOMEM,
                Errno::NOSPC,
                Errno::DQUOT,
                Errno::AGAIN,
                Errno::IO,
            ];
            shortages.contains(&Errno::from_raw_os_error(number))
        });
        Failure::new(if shortage { code } else { BAD_ARGUMENTS }, format!("{what}: {error}"))
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Interrupted => INTERRUPTED,
            Failure::Error(code, _) => *code,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Interrupted => f.write_str("interrupted"),
            Failure::Error(_, message) => f.write_str(message),
        }
    }
}
