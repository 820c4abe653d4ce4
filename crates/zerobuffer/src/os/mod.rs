//! The contract with the operating system: shared memory, semaphores, locks, processes, clocks.
//!
//! One folder per system implements the contract, and is the only place with that system's calls and error
//! numbers. The functions return `io::Error`. [`cause`] returns the meaning of such an error, and the callers
//! decide what it means for a buffer. `contract.rs` lists every function with its type and what it must do.

#![cfg_attr(
    any(not(target_os = "linux"), zerobuffer_unsupported_os),
    allow(dead_code, reason = "an implementation makes these values")
)]

mod contract;

#[cfg(all(target_os = "linux", not(zerobuffer_unsupported_os)))]
mod linux;
#[cfg(all(target_os = "linux", not(zerobuffer_unsupported_os)))]
use linux as system;

#[cfg(any(not(target_os = "linux"), zerobuffer_unsupported_os))]
mod unsupported;
#[cfg(any(not(target_os = "linux"), zerobuffer_unsupported_os))]
use unsupported as system;

mod kinds;

use std::fmt;
use std::io::Error;

pub(crate) use kinds::*;
pub(crate) use system::*;

/// An error that this library found rather than the system, with a text for people.
#[derive(Debug)]
struct Finding(Found, String);

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

impl std::error::Error for Finding {}

/// Makes an error of a finding.
pub(crate) fn finding(found: Found, text: impl Into<String>) -> Error {
    Error::other(Finding(found, text.into()))
}

/// Returns the meaning of `error`.
pub(crate) fn cause(error: &Error) -> Cause {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Finding>()) {
        Some(Finding(found, _)) => Cause::Found(*found),
        None => cause_of_number(error.raw_os_error()),
    }
}

/// Whether `error` means that there is no file of that name.
pub(crate) fn is_not_found(error: &Error) -> bool {
    cause(error) == Cause::NotFound
}

/// Whether `error` means that this user lacks the right.
pub(crate) fn is_denied(error: &Error) -> bool {
    cause(error) == Cause::Denied
}
