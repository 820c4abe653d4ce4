//! A call in steps.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::inbox::{Entry, Wants};
use super::response::Response;
use super::state::ClientState;
use crate::duplex::due::{self, Due};
use crate::error::Result;

/// A request under way, whose caller waits for the response in steps; see [`DuplexClient::start_call`].
/// Dropping it withdraws the request.
///
/// [`DuplexClient::start_call`]: super::DuplexClient::start_call
pub struct PendingCall {
    state: Arc<ClientState>,
    sequence: u64,
    due: Due,
    done: bool,
}

impl PendingCall {
    /// Sends a request, waiting for space up to `request_timeout`.
    pub(crate) fn send(
        state: &Arc<ClientState>,
        data: &[u8],
        timeout: Duration,
        request_timeout: Duration,
    ) -> Result<PendingCall> {
        state.check_mine()?;
        let due = state.due(timeout);
        let sequence = match state.try_send(data, due, due::coarse_now(), Some(Entry::new(due, true)))? {
            Some(sent) => {
                state.set_place(sent);
                sent.sequence
            }
            None => state.send(data, due, true, Due::after(request_timeout))?,
        };
        Ok(PendingCall::new(Arc::clone(state), sequence, due))
    }

    /// Makes a call of a request that has been sent and has an entry.
    pub(crate) fn new(state: Arc<ClientState>, sequence: u64, due: Due) -> PendingCall {
        PendingCall { state, sequence, due, done: false }
    }

    /// The request's sequence number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Waits up to `limit` for the response. Returns `None` if it has not come yet, and may still come.
    ///
    /// # Errors
    ///
    /// Those of [`DuplexClient::call`](super::DuplexClient::call), once; from then on `InvalidState`.
    pub fn wait(&mut self, limit: Duration) -> Result<Option<Response>> {
        self.state.check_mine()?;
        let left = self.due.left();
        let until = Due::after(left.unwrap_or_default().min(limit));
        match self.state.wait(Wants::One(self.sequence), until) {
            Ok(None) if left.is_none() => {
                self.give_up();
                Err(self.state.too_late(self.sequence))
            }
            Ok(None) => Ok(None),
            outcome => {
                self.done = true;
                outcome
            }
        }
    }

    fn give_up(&mut self) {
        if std::mem::replace(&mut self.done, true) || self.state.check_mine().is_err() {
            return;
        }
        self.state.give_up(self.sequence);
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl fmt::Debug for PendingCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingCall").field("sequence", &self.sequence).finish()
    }
}
