//! Answers to requests, and how they travel.

use std::borrow::Cow;

use crate::duplex::MESSAGE_MAX;
use crate::duplex::port::flags;

/// What stands for "no bytes": a frame has at least one.
const NOTHING: &[u8] = &[0];

/// What became of a request.
pub(crate) enum Answer<'a> {
    Bytes(Cow<'a, [u8]>),
    Failed(Cow<'a, str>),
    /// Not started: its deadline was over.
    TooLate,
    /// Not started, and nobody waits. Sent only where responses are counted.
    Withdrawn,
}

/// Which request an answer is to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    /// Number of the client, counted by the server.
    pub(crate) client: u64,
    pub(crate) sequence: u64,
    /// The request's deadline word, which its response repeats.
    pub(crate) mark: u64,
}

impl Answer<'_> {
    /// Flags and bytes, for a ring with tags.
    pub(crate) fn tagged(&self) -> (u16, &[u8]) {
        match self {
            Answer::Bytes(bytes) if bytes.is_empty() => (flags::EMPTY, NOTHING),
            Answer::Bytes(bytes) => (0, bytes),
            Answer::Failed(message) if message.is_empty() => (flags::FAILED | flags::EMPTY, NOTHING),
            Answer::Failed(message) => (flags::FAILED, &message.as_bytes()[..message.len().min(MESSAGE_MAX)]),
            Answer::TooLate | Answer::Withdrawn => (flags::FAILED | flags::CANCELLED, NOTHING),
        }
    }

    /// Bytes, where nothing else travels.
    pub(crate) fn plain(&self) -> &[u8] {
        match self {
            Answer::Bytes(bytes) if !bytes.is_empty() => bytes,
            _ => NOTHING,
        }
    }
}
