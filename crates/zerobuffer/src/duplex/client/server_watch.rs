//! What the watcher does for a client: it tells of the server's end, which the response buffer does not show before the server
//! has connected there.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::send::LOOK;
use super::state::ClientState;
use crate::sync::{AtomicBool, Ordering};
use crate::wait::watcher::{PeerLook, Registration, Watched};

/// A client's watch over the server's role in the request buffer, which begins with its first wait.
pub(crate) struct ServerWatch {
    client: Weak<ClientState>,
    registration: Mutex<Option<Registration>>,
    stands: AtomicBool,
    /// The watcher has something to tell.
    news: AtomicBool,
}

impl ServerWatch {
    pub(super) fn new(client: Weak<ClientState>) -> ServerWatch {
        let [stands, news] = [false, false].map(AtomicBool::new);
        ServerWatch { client, registration: Mutex::default(), stands, news }
    }

    pub(super) fn end(&self) {
        let registration = self.registration.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(registration);
    }
}

struct ServerRole(Weak<ClientState>);

impl Watched for ServerRole {
    fn look(&self, _: u64) -> PeerLook {
        match self.0.upgrade() {
            Some(client) if !client.server_is_gone() => PeerLook::Quiet,
            _ => PeerLook::Gone,
        }
    }

    fn awaits_strangers(&self) -> bool {
        false
    }

    fn tell(&self, _names: bool) {
        if let Some(client) = self.0.upgrade() {
            // Release pairs with the swap in take_server_news().
            client.server_watch.news.store(true, Ordering::Release);
            client.wake_leader();
        }
    }
}

impl ClientState {
    /// Has the watcher tell of the server's end from now on, if it can. Comes before a look at the server.
    pub(crate) fn watch_server(&self) {
        let watch = &self.server_watch;
        let mut registration = watch.registration.lock().unwrap_or_else(PoisonError::into_inner);
        // A 1.x server has no role.
        if registration.is_some() || self.is_over() || !self.server.reader_is_native() {
            return;
        }
        let role = ServerRole(Weak::clone(&watch.client));
        *registration = Registration::new(self.server.segment(), Arc::new(role)).ok();
        // Relaxed: a hint for how long to wait, which the next look corrects.
        watch.stands.store(registration.is_some(), Ordering::Relaxed);
    }

    /// How long a leader waits before it looks whether the server lives.
    #[inline]
    pub(crate) fn look(&self) -> Duration {
        // Relaxed: a hint, set once. A leader that misses it looks once more, after LOOK.
        if self.server_watch.stands.load(Ordering::Relaxed) { Duration::MAX } else { LOOK }
    }

    /// Takes what the watcher had to tell. Returns whether there was anything.
    pub(crate) fn take_server_news(&self) -> bool {
        // Acquire pairs with the Release store in ServerRole::tell().
        self.server_watch.news.swap(false, Ordering::Acquire)
    }
}
