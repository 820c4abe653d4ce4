//! Answering a request while its handler runs.

use std::fmt;

use super::answer::{Address, Answer};
use super::run::Run;
use crate::error::{Error, ErrorKind, Result};

/// Takes the answer to one request from its handler; see [`ImmutableDuplexServer::start_responding`].
///
/// [`ImmutableDuplexServer::start_responding`]: super::ImmutableDuplexServer::start_responding
pub struct Responder<'a> {
    run: &'a Run,
    to: Address,
    answered: bool,
}

impl<'a> Responder<'a> {
    pub(crate) fn new(run: &'a Run, to: Address) -> Responder<'a> {
        Responder { run, to, answered: false }
    }

    /// Answers with a copy of `bytes`, made at once in the response buffer. What goes wrong with sending it is told to
    /// `on_error`.
    ///
    /// # Errors
    ///
    /// `InvalidState` if the request has been answered.
    pub fn reply(&mut self, bytes: &[u8]) -> Result<()> {
        if self.answered {
            let message = format!("request {} has been answered already", self.to.sequence);
            return Err(Error::channel(ErrorKind::InvalidState, self.run.channel(), message));
        }
        self.answered = true;
        self.run.answer(self.to, &Answer::Bytes(bytes.into()));
        Ok(())
    }

    /// Whether the request has been answered.
    pub fn is_answered(&self) -> bool {
        self.answered
    }
}

impl fmt::Debug for Responder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Responder { to, answered, .. } = self;
        f.debug_struct("Responder").field("sequence", &to.sequence).field("answered", answered).finish()
    }
}
