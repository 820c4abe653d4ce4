//! Statuses and errors: a number that is never reused, and a message.

use std::ffi::{CString, c_char};

use zerobuffer::{ErrorKind, SequenceGap};

use crate::arguments::{passed, set_if_wanted};

/// The result of a function: `ZB_OK`, a positive number when there is nothing to return, a negative number
/// when it failed.
pub type zb_status = i32;

/// Done.
pub const ZB_OK: zb_status = 0;
/// Nothing came, or became free, in time. This is no error, and there is no error object.
pub const ZB_TIMEOUT: zb_status = 1;
/// The writer closed and everything that it wrote has been read. Returned once per writer; no error.
pub const ZB_END_OF_STREAM: zb_status = 2;

/// No reader has created a buffer of this name (or its files are gone).
pub const ZB_ERROR_BUFFER_NOT_FOUND: zb_status = -1;
/// Another live writer is connected to the buffer.
pub const ZB_ERROR_WRITER_ALREADY_CONNECTED: zb_status = -2;
/// Another live reader owns the buffer.
pub const ZB_ERROR_READER_ALREADY_CONNECTED: zb_status = -3;
/// No space became free before the write time-out ended.
pub const ZB_ERROR_BUFFER_FULL: zb_status = -4;
/// The reader died, or closed the buffer: no process will read what is written.
pub const ZB_ERROR_READER_DEAD: zb_status = -5;
/// The writer died; everything that it had committed has been delivered.
pub const ZB_ERROR_WRITER_DEAD: zb_status = -6;
/// The writer closed. Functions that read return `ZB_END_OF_STREAM` instead.
pub const ZB_ERROR_WRITER_CLOSED: zb_status = -7;
/// The frame, with its 16-byte header, is larger than the buffer's payload.
pub const ZB_ERROR_FRAME_TOO_LARGE: zb_status = -8;
/// A frame of 0 bytes, or a commit of more bytes than were acquired.
pub const ZB_ERROR_INVALID_FRAME_SIZE: zb_status = -9;
/// A frame is missing: its sequence number is not the next one.
pub const ZB_ERROR_SEQUENCE_ERROR: zb_status = -10;
/// Metadata is written at most once per buffer.
pub const ZB_ERROR_METADATA_ALREADY_WRITTEN: zb_status = -11;
/// The metadata, with its 8-byte prefix, is larger than the buffer's metadata block.
pub const ZB_ERROR_METADATA_TOO_LARGE: zb_status = -12;
/// The buffer's name cannot be used.
pub const ZB_ERROR_INVALID_NAME: zb_status = -13;
/// The configuration cannot be used.
pub const ZB_ERROR_INVALID_CONFIG: zb_status = -14;
/// The call does not fit the state of the handle, or another thread is using it.
pub const ZB_ERROR_INVALID_STATE: zb_status = -15;
/// The buffer speaks another version of the protocol.
pub const ZB_ERROR_INCOMPATIBLE_PROTOCOL: zb_status = -16;
/// The shared memory holds values that cannot be true.
pub const ZB_ERROR_CORRUPT_BUFFER: zb_status = -17;
/// The operating system refused access.
pub const ZB_ERROR_PERMISSION_DENIED: zb_status = -18;
/// The shared-memory file system, or a limit on it, has no room left.
pub const ZB_ERROR_OUT_OF_MEMORY: zb_status = -19;
/// An interrupt ended the call.
pub const ZB_ERROR_INTERRUPTED: zb_status = -20;
/// The handle has been closed.
pub const ZB_ERROR_CLOSED: zb_status = -21;
/// The handler of a duplex server failed for this request only; the message is the handler's.
pub const ZB_ERROR_REQUEST_FAILED: zb_status = -22;
/// The request was cancelled.
pub const ZB_ERROR_CANCELLED: zb_status = -23;
/// No response came in time.
pub const ZB_ERROR_DEADLINE_EXCEEDED: zb_status = -24;
/// A handler of a duplex server is still running; the server ends when it returns.
pub const ZB_ERROR_HANDLER_BUSY: zb_status = -25;
/// Any other failure of the operating system.
pub const ZB_ERROR_SYSTEM: zb_status = -26;
/// A pointer is NULL where NULL is not allowed, or another argument is invalid.
pub const ZB_ERROR_INVALID_ARGUMENT: zb_status = -100;
/// The library itself failed: please report it.
pub const ZB_ERROR_INTERNAL: zb_status = -101;

/// The number of a kind. Numbers never change, and are never used for another kind.
pub(crate) fn status_of(kind: ErrorKind) -> zb_status {
    match kind {
        ErrorKind::BufferNotFound => ZB_ERROR_BUFFER_NOT_FOUND,
        ErrorKind::WriterAlreadyConnected => ZB_ERROR_WRITER_ALREADY_CONNECTED,
        ErrorKind::ReaderAlreadyConnected => ZB_ERROR_READER_ALREADY_CONNECTED,
        ErrorKind::BufferFull => ZB_ERROR_BUFFER_FULL,
        ErrorKind::ReaderDead => ZB_ERROR_READER_DEAD,
        ErrorKind::WriterDead => ZB_ERROR_WRITER_DEAD,
        ErrorKind::WriterClosed => ZB_ERROR_WRITER_CLOSED,
        ErrorKind::FrameTooLarge => ZB_ERROR_FRAME_TOO_LARGE,
        ErrorKind::InvalidFrameSize => ZB_ERROR_INVALID_FRAME_SIZE,
        ErrorKind::SequenceError => ZB_ERROR_SEQUENCE_ERROR,
        ErrorKind::MetadataAlreadyWritten => ZB_ERROR_METADATA_ALREADY_WRITTEN,
        ErrorKind::MetadataTooLarge => ZB_ERROR_METADATA_TOO_LARGE,
        ErrorKind::InvalidName => ZB_ERROR_INVALID_NAME,
        ErrorKind::InvalidConfig => ZB_ERROR_INVALID_CONFIG,
        ErrorKind::InvalidState => ZB_ERROR_INVALID_STATE,
        ErrorKind::IncompatibleProtocol => ZB_ERROR_INCOMPATIBLE_PROTOCOL,
        ErrorKind::CorruptBuffer => ZB_ERROR_CORRUPT_BUFFER,
        ErrorKind::PermissionDenied => ZB_ERROR_PERMISSION_DENIED,
        ErrorKind::OutOfMemory => ZB_ERROR_OUT_OF_MEMORY,
        ErrorKind::Interrupted => ZB_ERROR_INTERRUPTED,
        ErrorKind::Closed => ZB_ERROR_CLOSED,
        ErrorKind::RequestFailed => ZB_ERROR_REQUEST_FAILED,
        ErrorKind::Cancelled => ZB_ERROR_CANCELLED,
        ErrorKind::DeadlineExceeded => ZB_ERROR_DEADLINE_EXCEEDED,
        ErrorKind::HandlerBusy => ZB_ERROR_HANDLER_BUSY,
        ErrorKind::System => ZB_ERROR_SYSTEM,
        // A kind that was added to the core but not here makes the test below fail first.
        _ => ZB_ERROR_INTERNAL,
    }
}

/// Why a function of this crate fails.
pub(crate) enum Failure {
    /// An error of the core.
    Core(zerobuffer::Error),
    /// An error that this crate found before it called the core.
    Own { status: zb_status, buffer: String, message: String },
}

impl Failure {
    #[cold]
    pub(crate) fn new(status: zb_status, buffer: &str, message: impl Into<String>) -> Failure {
        Failure::Own { status, buffer: buffer.to_owned(), message: message.into() }
    }

    pub(crate) fn status(&self) -> zb_status {
        match self {
            Failure::Core(error) => status_of(error.kind()),
            Failure::Own { status, .. } => *status,
        }
    }

    #[cold]
    pub(crate) fn argument(message: impl Into<String>) -> Failure {
        Failure::new(ZB_ERROR_INVALID_ARGUMENT, "", message)
    }
}

impl From<zerobuffer::Error> for Failure {
    fn from(error: zerobuffer::Error) -> Failure {
        Failure::Core(error)
    }
}

/// An error: its number, and a message that names the buffer, the cause and the way out. Free it with
/// `zb_error_free`.
pub struct zb_error {
    status: zb_status,
    message: CString,
    buffer: CString,
    os_error: i32,
    sequence: u64,
    gap: Option<SequenceGap>,
}

impl zb_error {
    pub(crate) fn code(&self) -> zb_status {
        self.status
    }
}

impl From<Failure> for zb_error {
    fn from(failure: Failure) -> zb_error {
        match failure {
            Failure::Core(error) => zb_error::from(&error),
            Failure::Own { status, buffer, message } => {
                let message = match buffer.as_str() {
                    "" => message,
                    name => format!("buffer `{name}`: {message}"),
                };
                let (message, buffer) = (text(message), text(buffer));
                zb_error { status, message, buffer, os_error: 0, sequence: 0, gap: None }
            }
        }
    }
}

impl From<&zerobuffer::Error> for zb_error {
    fn from(error: &zerobuffer::Error) -> zb_error {
        zb_error {
            status: status_of(error.kind()),
            message: text(error.to_string()),
            buffer: text(error.buffer()),
            os_error: error.os_error().and_then(std::io::Error::raw_os_error).unwrap_or(0),
            sequence: error.sequence().unwrap_or(0),
            gap: error.sequence_gap(),
        }
    }
}

/// A C string; zero bytes, which it cannot hold, are left out.
pub(crate) fn text(words: impl Into<String>) -> CString {
    let mut words = words.into();
    words.retain(|character| character != '\0');
    CString::new(words).unwrap_or_default()
}

/// The error's number; `ZB_OK` for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_error_code(error: *const zb_error) -> zb_status {
    passed!(error.as_ref()).map_or(ZB_OK, |error| error.status)
}

/// The error's message (UTF-8): the buffer, the cause, the way out. Valid until the error is freed; empty for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_error_message(error: *const zb_error) -> *const c_char {
    passed!(error.as_ref()).map_or(c"".as_ptr(), |error| error.message.as_ptr())
}

/// The name of the buffer that the error is about; empty if it is about none. Valid until the error is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_error_buffer(error: *const zb_error) -> *const c_char {
    passed!(error.as_ref()).map_or(c"".as_ptr(), |error| error.buffer.as_ptr())
}

/// The operating system's number (`errno`), 0 if it was not the operating system.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_error_os_error(error: *const zb_error) -> i32 {
    passed!(error.as_ref()).map_or(0, |error| error.os_error)
}

/// The sequence number of the request of a duplex channel that the error is about, 0 if it is not about a
/// single request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_error_sequence(error: *const zb_error) -> u64 {
    passed!(error.as_ref()).map_or(0, |error| error.sequence)
}

/// The gap that a `SEQUENCE_ERROR` is about: `*expected` gets the sequence number that the next frame had to have, `*got` the one
/// that it has. Each place may be NULL. Returns whether the error is about a gap; both numbers are 0 if not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_error_sequence_gap(
    error: *const zb_error,
    expected: *mut u64,
    got: *mut u64,
) -> bool {
    let gap = passed!(error.as_ref()).and_then(|error| error.gap);
    let numbers = gap.map_or((0, 0), |gap| (gap.expected, gap.got));
    passed!(set_if_wanted(expected, numbers.0));
    passed!(set_if_wanted(got, numbers.1));
    gap.is_some()
}

/// Frees an error. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_error_free(error: *mut zb_error) {
    if !error.is_null() {
        // SAFETY: The caller promises that it came from this library, which made it by Box::new, and is not used any more.
        drop(unsafe { Box::from_raw(error) });
    }
}

/// The name of a status without its prefix, such as "BUFFER_FULL"; "UNKNOWN" for other numbers. Never freed.
#[unsafe(no_mangle)]
pub extern "C" fn zb_status_name(status: zb_status) -> *const c_char {
    let name = match status {
        ZB_OK => c"OK",
        ZB_TIMEOUT => c"TIMEOUT",
        ZB_END_OF_STREAM => c"END_OF_STREAM",
        ZB_ERROR_BUFFER_NOT_FOUND => c"BUFFER_NOT_FOUND",
        ZB_ERROR_WRITER_ALREADY_CONNECTED => c"WRITER_ALREADY_CONNECTED",
        ZB_ERROR_READER_ALREADY_CONNECTED => c"READER_ALREADY_CONNECTED",
        ZB_ERROR_BUFFER_FULL => c"BUFFER_FULL",
        ZB_ERROR_READER_DEAD => c"READER_DEAD",
        ZB_ERROR_WRITER_DEAD => c"WRITER_DEAD",
        ZB_ERROR_WRITER_CLOSED => c"WRITER_CLOSED",
        ZB_ERROR_FRAME_TOO_LARGE => c"FRAME_TOO_LARGE",
        ZB_ERROR_INVALID_FRAME_SIZE => c"INVALID_FRAME_SIZE",
        ZB_ERROR_SEQUENCE_ERROR => c"SEQUENCE_ERROR",
        ZB_ERROR_METADATA_ALREADY_WRITTEN => c"METADATA_ALREADY_WRITTEN",
        ZB_ERROR_METADATA_TOO_LARGE => c"METADATA_TOO_LARGE",
        ZB_ERROR_INVALID_NAME => c"INVALID_NAME",
        ZB_ERROR_INVALID_CONFIG => c"INVALID_CONFIG",
        ZB_ERROR_INVALID_STATE => c"INVALID_STATE",
        ZB_ERROR_INCOMPATIBLE_PROTOCOL => c"INCOMPATIBLE_PROTOCOL",
        ZB_ERROR_CORRUPT_BUFFER => c"CORRUPT_BUFFER",
        ZB_ERROR_PERMISSION_DENIED => c"PERMISSION_DENIED",
        ZB_ERROR_OUT_OF_MEMORY => c"OUT_OF_MEMORY",
        ZB_ERROR_INTERRUPTED => c"INTERRUPTED",
        ZB_ERROR_CLOSED => c"CLOSED",
        ZB_ERROR_REQUEST_FAILED => c"REQUEST_FAILED",
        ZB_ERROR_CANCELLED => c"CANCELLED",
        ZB_ERROR_DEADLINE_EXCEEDED => c"DEADLINE_EXCEEDED",
        ZB_ERROR_HANDLER_BUSY => c"HANDLER_BUSY",
        ZB_ERROR_SYSTEM => c"SYSTEM",
        ZB_ERROR_INVALID_ARGUMENT => c"INVALID_ARGUMENT",
        ZB_ERROR_INTERNAL => c"INTERNAL",
        _ => c"UNKNOWN",
    };
    name.as_ptr()
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    /// `BufferFull` becomes `BUFFER_FULL`.
    fn shouted(name: &str) -> String {
        let mut shouted = String::new();
        for character in name.chars() {
            if character.is_uppercase() && !shouted.is_empty() {
                shouted.push('_');
            }
            shouted.push(character.to_ascii_uppercase());
        }
        shouted
    }

    #[test]
    fn every_kind_of_the_core_has_a_number_of_its_own_and_a_name() {
        // The enum is not exhaustive for other crates, so its source says what there is.
        let core = include_str!("../../zerobuffer/src/error.rs");
        let own = include_str!("error.rs");
        let kinds: Vec<&str> = core
            .lines()
            .filter_map(|line| {
                let (kind, text) = line.trim().strip_prefix("ErrorKind::")?.split_once(" => \"")?;
                // Names alone: other texts for a kind are hints.
                text.starts_with(kind).then_some(kind)
            })
            .collect();
        assert!(kinds.len() >= 26, "{kinds:?}");
        for kind in &kinds {
            let arm = format!("ErrorKind::{kind} => ZB_ERROR_{},", shouted(kind));
            assert!(own.contains(&arm), "no number for {kind}");
        }
        let mut numbers = Vec::new();
        for line in own.lines() {
            let Some(rest) = line.strip_prefix("pub const ZB_") else { continue };
            let (name, number) = rest.split_once(": zb_status = ").expect("a status");
            let number: zb_status = number.trim_end_matches(';').parse().expect("a number");
            assert!(!numbers.contains(&number), "{number} is used twice");
            numbers.push(number);
            // SAFETY: names are static strings.
            let shown = unsafe { CStr::from_ptr(zb_status_name(number)) };
            assert_eq!(shown.to_str().unwrap(), name.trim_start_matches("ERROR_"));
        }
        assert_eq!(numbers.len(), kinds.len() + 5);
    }
}
