//! One error type, told apart by [`ErrorKind`].
//!
//! The kind is what a program branches on, and what each language binding maps to an exception; the message
//! is for people and may change. Details stay private so that they can grow without breaking programs.

use std::fmt;
use std::io;

use crate::os::{self, Cause, Found};

/// Shorthand for results of this library.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, as far as a program can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// No reader has created a buffer of this name (or its files are gone).
    BufferNotFound,
    /// Another live writer is connected to the buffer.
    WriterAlreadyConnected,
    /// Another live reader owns the buffer.
    ReaderAlreadyConnected,
    /// No space became free before the write timeout ended.
    BufferFull,
    /// The reader died, or closed the buffer: no process will read what is written.
    ReaderDead,
    /// The writer died; everything that it had committed has been delivered.
    WriterDead,
    /// The writer closed; everything that it wrote has been delivered. Reported once per writer.
    WriterClosed,
    /// The frame, with its 16-byte header, is larger than the buffer's payload.
    FrameTooLarge,
    /// A frame of 0 bytes, or a commit of more bytes than were acquired.
    InvalidFrameSize,
    /// A frame is missing: its sequence number is not the next one.
    SequenceError,
    /// Metadata is written at most once per buffer.
    MetadataAlreadyWritten,
    /// The metadata, with its 8-byte prefix, is larger than the buffer's metadata block.
    MetadataTooLarge,
    /// The buffer's name cannot be used.
    InvalidName,
    /// The configuration cannot be used.
    InvalidConfig,
    /// The call does not fit the state of the handle.
    InvalidState,
    /// The buffer speaks another version of the protocol.
    IncompatibleProtocol,
    /// The shared memory holds values that cannot be true.
    CorruptBuffer,
    /// The operating system refused access.
    PermissionDenied,
    /// The shared-memory file system, or a limit on it, has no room left.
    OutOfMemory,
    /// An interrupt handle ended the call.
    Interrupted,
    /// The handle has been closed.
    Closed,
    /// The handler of a duplex server failed for this request only; the message is the handler's.
    RequestFailed,
    /// The request was cancelled.
    Cancelled,
    /// No response came in time.
    DeadlineExceeded,
    /// A handler of a duplex server is still running; the server ends when it returns.
    HandlerBusy,
    /// Any other failure of the operating system.
    System,
}

impl ErrorKind {
    /// The kind's name as written in this enum, for logs and tools.
    ///
    /// ```
    /// assert_eq!(zerobuffer::ErrorKind::BufferFull.name(), "BufferFull");
    /// ```
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::BufferNotFound => "BufferNotFound",
            ErrorKind::WriterAlreadyConnected => "WriterAlreadyConnected",
            ErrorKind::ReaderAlreadyConnected => "ReaderAlreadyConnected",
            ErrorKind::BufferFull => "BufferFull",
            ErrorKind::ReaderDead => "ReaderDead",
            ErrorKind::WriterDead => "WriterDead",
            ErrorKind::WriterClosed => "WriterClosed",
            ErrorKind::FrameTooLarge => "FrameTooLarge",
            ErrorKind::InvalidFrameSize => "InvalidFrameSize",
            ErrorKind::SequenceError => "SequenceError",
            ErrorKind::MetadataAlreadyWritten => "MetadataAlreadyWritten",
            ErrorKind::MetadataTooLarge => "MetadataTooLarge",
            ErrorKind::InvalidName => "InvalidName",
            ErrorKind::InvalidConfig => "InvalidConfig",
            ErrorKind::InvalidState => "InvalidState",
            ErrorKind::IncompatibleProtocol => "IncompatibleProtocol",
            ErrorKind::CorruptBuffer => "CorruptBuffer",
            ErrorKind::PermissionDenied => "PermissionDenied",
            ErrorKind::OutOfMemory => "OutOfMemory",
            ErrorKind::Interrupted => "Interrupted",
            ErrorKind::Closed => "Closed",
            ErrorKind::RequestFailed => "RequestFailed",
            ErrorKind::Cancelled => "Cancelled",
            ErrorKind::DeadlineExceeded => "DeadlineExceeded",
            ErrorKind::HandlerBusy => "HandlerBusy",
            ErrorKind::System => "System",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error of this library: a kind, the buffer's name, the cause and the way out.
///
/// ```
/// use zerobuffer::{ErrorKind, Writer};
/// let error = Writer::connect("no-such-buffer").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::BufferNotFound);
/// assert!(error.to_string().contains("no-such-buffer"));
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    buffer: Box<str>,
    message: String,
    source: Option<io::Error>,
    sequence: Option<u64>,
    gap: Option<SequenceGap>,
    /// `buffer` names a duplex channel.
    of_channel: bool,
}

/// The sequence numbers between which frames are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SequenceGap {
    /// The number that the next frame had to have.
    pub expected: u64,
    /// The number that the frame in the buffer has.
    pub got: u64,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, buffer: &str, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            buffer: buffer.into(),
            message: message.into(),
            source: None,
            sequence: None,
            gap: None,
            of_channel: false,
        }))
    }

    /// An error about a duplex channel rather than one of its buffers.
    pub(crate) fn channel(kind: ErrorKind, channel: &str, message: impl Into<String>) -> Error {
        let mut error = Error::new(kind, channel, message);
        error.0.of_channel = true;
        error
    }

    /// An error of the operating system while `doing` something with shared memory; the kind follows from its cause.
    pub(crate) fn os(buffer: &str, doing: &str, error: io::Error) -> Error {
        Error::os_denied(buffer, doing, error, || "this user lacks the right; run as one who has it".into())
    }

    /// An error of the operating system while `doing` something with shared memory, with the way out of a lack of rights.
    pub(crate) fn os_denied(
        buffer: &str,
        doing: &str,
        error: io::Error,
        denied: impl FnOnce() -> String,
    ) -> Error {
        let room = "free space in /dev/shm, make it larger (`mount -o remount,size=... /dev/shm`; a container's: \
                    `--shm-size`), or use a smaller buffer";
        Error::of_cause(buffer, doing, error, room, ErrorKind::IncompatibleProtocol, denied)
    }

    /// An error of the operating system while `doing` something in the folder of lock files.
    pub(crate) fn os_locks(buffer: &str, doing: &str, error: io::Error) -> Error {
        Error::of_cause(buffer, doing, error, "free space in /tmp", ErrorKind::System, || {
            "the file is another user's: end that user's reader of this buffer, or run `zerobuffer clean` as that user \
             or root, or choose another name"
                .into()
        })
    }

    fn of_cause(
        buffer: &str,
        doing: &str,
        error: io::Error,
        room: &str,
        alien: ErrorKind,
        denied: impl FnOnce() -> String,
    ) -> Error {
        let (kind, way_out) = match os::cause(&error) {
            Cause::NotFound => (ErrorKind::BufferNotFound, String::new()),
            Cause::Denied => (ErrorKind::PermissionDenied, denied()),
            Cause::ReadOnlyFileSystem => (
                ErrorKind::PermissionDenied,
                "the file system is mounted read-only; mount it writable (a container's /dev/shm: a tmpfs)".into(),
            ),
            Cause::NoSpace => (ErrorKind::OutOfMemory, room.into()),
            Cause::NoMemory => (
                ErrorKind::OutOfMemory,
                "the process may not have more memory, or the machine has none; raise the limit (`ulimit -v`), or use a \
                 smaller buffer"
                    .into(),
            ),
            Cause::FileSizeLimit => (
                ErrorKind::OutOfMemory,
                "files of this process may not be so large; raise that limit (`ulimit -f`), or use a smaller buffer"
                    .into(),
            ),
            Cause::ProcessFiles => (
                ErrorKind::System,
                "the process has too many files open; close some, or raise the limit (`ulimit -n`)".into(),
            ),
            Cause::SystemFiles => (
                ErrorKind::System,
                "the machine has too many files open; close some, or raise its limit (`sysctl fs.file-max`)".into(),
            ),
            Cause::Found(Found::Alien) => (alien, String::new()),
            Cause::Found(Found::Damaged) => (ErrorKind::CorruptBuffer, String::new()),
            Cause::Found(Found::UnsafeFolder) => (ErrorKind::PermissionDenied, String::new()),
            Cause::Found(Found::NoSharedMemory) | Cause::Exists | Cause::Other => {
                (ErrorKind::System, String::new())
            }
        };
        let separator = if way_out.is_empty() { "" } else { ": " };
        let mut of_system = Error::new(kind, buffer, format!("cannot {doing} ({error}){separator}{way_out}"));
        of_system.0.source = Some(error);
        of_system
    }

    /// What went wrong, as far as a program can act on it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The name of the buffer, or the duplex channel, that the error is about.
    pub fn buffer(&self) -> &str {
        &self.0.buffer
    }

    /// Makes the error one about the request `sequence` of a duplex channel.
    pub(crate) fn of_request(mut self, sequence: u64) -> Error {
        self.0.sequence = Some(sequence);
        self
    }

    /// The sequence number of the request of a duplex channel that the error is about, if it is about a
    /// single request.
    pub fn sequence(&self) -> Option<u64> {
        self.0.sequence
    }

    /// The gap that a [`SequenceError`](ErrorKind::SequenceError) is about; `None` for other kinds.
    pub fn sequence_gap(&self) -> Option<SequenceGap> {
        self.0.gap
    }

    pub(crate) fn of_gap(mut self, gap: Option<SequenceGap>) -> Error {
        self.0.gap = gap;
        self
    }

    /// The text without the buffer's name.
    pub(crate) fn message(&self) -> &str {
        &self.0.message
    }

    /// The operating system's error, if there was one.
    pub fn os_error(&self) -> Option<&io::Error> {
        self.0.source.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.0.of_channel { "channel" } else { "buffer" };
        write!(f, "{what} `{}`: {}", self.0.buffer, self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.0.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|error| error as _)
    }
}
