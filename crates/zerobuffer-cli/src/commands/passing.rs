//! The input of the commands that pass frames on: relay and tee.

use crate::exit::Failure;
use crate::output::inform;
use crate::report::Frames;

/// The writer of `input` has closed after so many frames of those `wanted` (0: all). `code` is that of an error of the input.
pub(super) fn closed(input: &str, wanted: u64, frames: u64, code: u8) -> Result<(), Failure> {
    inform(&format_args!("buffer `{input}`: the writer closed; {} so far", Frames(frames)));
    if wanted == 0 {
        return Ok(());
    }
    let message =
        format!("buffer `{input}`: the writer closed after {frames} of {wanted} frames; ask for fewer");
    Err(Failure::new(code, message))
}

/// No frame of `input` came in time.
pub(super) fn time_out(input: &str, timeout_ms: i64, code: u8) -> Failure {
    let message = format!(
        "buffer `{input}`: no frame within {timeout_ms} ms; start its writer (zerobuffer writer {input}), or wait longer with \
         --timeout-ms (-1: without limit)"
    );
    Failure::new(code, message)
}
