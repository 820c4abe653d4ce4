//! The commands, one file or folder each. Each has a function `run` that returns the exit code.

pub(crate) mod clean;
pub(crate) mod doctor;
pub(crate) mod duplex_client;
pub(crate) mod duplex_server;
pub(crate) mod inspect;
pub(crate) mod list;
pub(crate) mod manual;
mod passing;
pub(crate) mod reader;
pub(crate) mod relay;
pub(crate) mod tee;
pub(crate) mod writer;

mod view;

/// The most causes in a report.
const CAUSES: usize = 10;

/// Keeps an error for the report, one of the first few.
fn keep_cause(causes: &mut Vec<String>, error: &zerobuffer::Error) {
    if causes.len() < CAUSES {
        causes.push(error.to_string());
    }
}
