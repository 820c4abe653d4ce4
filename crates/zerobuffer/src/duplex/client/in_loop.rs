//! Calls as futures for which an event loop reads: it polls the client's descriptor, so that no thread is needed. For bindings.

use std::time::Duration;

use super::DuplexClient;
use super::future::{Call, RETRY};
use super::state::{ClientState, wake_all};
use crate::duplex::sync::lock;

/// Responses that an event loop takes at once, before it sees to other things.
const BURST: usize = 64;

impl DuplexClient {
    /// [`DuplexClient::call_async`], but no thread reads the response. From before the first poll to the future's end the program polls
    /// [`DuplexClient::descriptor`], calls [`DuplexClient::look_for_calls`] when it is ready and as often as that says, and
    /// polls the future when its time is over.
    #[doc(hidden)]
    pub fn call_in_loop<D: AsRef<[u8]>>(&self, data: D, timeout: Duration) -> Call<D> {
        Call::new(&self.state, data, timeout, false)
    }

    /// Takes responses, and wakes the futures that wait for them or for space. Returns as
    /// [`DuplexClient::next_look_for_calls`].
    #[doc(hidden)]
    pub fn look_for_calls(&self) -> Option<Duration> {
        self.state.check_mine().ok()?;
        let mut inbox = lock(&self.state.inbox);
        let stalled = std::mem::take(&mut inbox.tasks.stalled);
        if !stalled.is_empty() {
            inbox.copy_responses(self.state.max_request_size);
        }
        drop(inbox);
        self.state.read_what_has_come();
        wake_all(stalled);
        self.next_look_for_calls()
    }

    /// How soon to look for calls though the descriptor is not ready; `None`: not at all.
    #[doc(hidden)]
    pub fn next_look_for_calls(&self) -> Option<Duration> {
        self.state.check_mine().ok()?;
        let stalls = !lock(&self.state.inbox).tasks.stalled.is_empty();
        let soon = if stalls { RETRY } else { self.state.look() };
        (soon != Duration::MAX && !self.state.is_over()).then_some(soon)
    }
}

impl ClientState {
    /// Takes the responses that are there. Leaves the descriptor ready unless there are no more, or another thread has the reader.
    fn read_what_has_come(&self) {
        let mut leading = self.try_lead();
        if leading.is_none() {
            self.leave_to_leader();
            leading = self.try_lead();
        }
        let Some(mut leading) = leading else { return };
        for _ in 0..BURST {
            if self.is_over() {
                return;
            }
            leading.read(Duration::ZERO, |_| false);
            if leading.is_armed() {
                return;
            }
        }
    }
}
