//! Answers to requests, and their form in the ring.

use std::borrow::Cow;

use crate::duplex::MESSAGE_MAX;
use crate::duplex::port::flags;
use crate::frame::Frame;

/// The byte of an answer without bytes: a frame has at least one.
const NOTHING: &[u8] = &[0];

/// Outcome of a request.
pub(crate) enum Answer<'a> {
    Bytes(Cow<'a, [u8]>),
    /// The bytes of the request, changed in place. The response refers to them, where it can.
    Frame(&'a Frame),
    Failed(Cow<'a, str>),
    /// The request was not started, because its deadline was over.
    TooLate,
    /// The request was not started, and no caller waits for it. Sent only to a client that counts responses.
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
            Answer::Frame(frame) => (0, frame),
            Answer::Failed(message) if message.is_empty() => (flags::FAILED | flags::EMPTY, NOTHING),
            Answer::Failed(message) => (flags::FAILED, &message.as_bytes()[..message.len().min(MESSAGE_MAX)]),
            Answer::TooLate | Answer::Withdrawn => (flags::FAILED | flags::CANCELLED, NOTHING),
        }
    }

    /// The bytes for a ring without tags.
    pub(crate) fn plain(&self) -> &[u8] {
        match self {
            Answer::Bytes(bytes) if !bytes.is_empty() => bytes,
            Answer::Frame(frame) => frame,
            _ => NOTHING,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_without_a_response_say_why_in_their_flags() {
        let late = flags::FAILED | flags::CANCELLED;
        for (answer, expected) in [
            (Answer::Bytes(b"x"[..].into()), (0, &b"x"[..])),
            (Answer::Bytes(b""[..].into()), (flags::EMPTY, NOTHING)),
            (Answer::Failed("why".into()), (flags::FAILED, b"why")),
            (Answer::Failed("".into()), (flags::FAILED | flags::EMPTY, NOTHING)),
            (Answer::TooLate, (late, NOTHING)),
            (Answer::Withdrawn, (late, NOTHING)),
        ] {
            assert_eq!(answer.tagged(), expected);
        }
    }
}
