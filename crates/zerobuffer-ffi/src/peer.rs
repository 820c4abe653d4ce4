//! What other threads use of a handle while one is in a call: the interrupt, and the question whether the peer is there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use zerobuffer::InterruptHandle;

use crate::error::Failure;
use crate::exclusive::Exclusive;

/// The interrupt and the watch; gone once the handle is closed, as each keeps the buffer's memory mapped.
type Parts<W> = Option<(Arc<InterruptHandle>, W)>;

/// What a handle keeps for other threads.
pub(crate) struct Peer<W> {
    parts: Mutex<Parts<W>>,
    /// The fork generation of the process that made the handle.
    generation: u64,
}

impl<W> Peer<W> {
    pub(crate) fn new(interrupt: InterruptHandle, watch: W) -> Peer<W> {
        let parts = Mutex::new(Some((Arc::new(interrupt), watch)));
        Peer { parts, generation: zerobuffer::fork_generation() }
    }

    /// `None` in a forked child where a thread had the lock that the child does not have.
    fn parts(&self) -> Option<MutexGuard<'_, Parts<W>>> {
        if self.generation != zerobuffer::fork_generation() {
            return match self.parts.try_lock() {
                Ok(parts) => Some(parts),
                Err(TryLockError::Poisoned(parts)) => Some(parts.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
        }
        // Nothing in the critical sections leaves it half-changed.
        Some(self.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The interrupt; `None` once the handle is closed.
    pub(crate) fn interrupt(&self) -> Option<Arc<InterruptHandle>> {
        self.parts()?.as_ref().map(|(interrupt, _)| Arc::clone(interrupt))
    }

    /// Asks the watch of `handle`. Fails once the handle is closed, and in a forked child.
    pub(crate) fn ask<T, A>(
        &self,
        handle: &Exclusive<T>,
        question: impl FnOnce(&W) -> A,
    ) -> Result<A, Failure> {
        if handle.is_forked() {
            return Err(handle.refusal());
        }
        let answer = self.parts().and_then(|parts| parts.as_ref().map(|(_, watch)| question(watch)));
        answer.ok_or_else(|| handle.refusal())
    }

    /// Lets go of both.
    pub(crate) fn end(&self) {
        let parts = self.parts().and_then(|mut parts| parts.take());
        drop(parts);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use zerobuffer::{BufferConfig, Reader};

    use super::*;

    #[test]
    fn an_interrupt_waits_for_a_thread_that_asks() {
        let name = format!("unit-ffi-peer-{}", std::process::id());
        let reader = Reader::create(&name, BufferConfig::default()).expect("a buffer");
        let peer = Peer::new(reader.interrupt_handle(), ());
        let handle = Exclusive::new(&name, ());
        let (enter, entered) = channel();
        let (go, told) = channel::<()>();
        std::thread::scope(|scope| {
            let (peer, handle) = (&peer, &handle);
            scope.spawn(move || {
                let asked = peer.ask(handle, |()| {
                    enter.send(()).expect("a receiver");
                    told.recv().expect("a sender");
                });
                assert!(asked.is_ok(), "an answer");
            });
            entered.recv().expect("a question");
            let (begin, begun) = channel();
            let interrupter = scope.spawn(move || {
                begin.send(()).expect("a receiver");
                peer.interrupt().is_some()
            });
            begun.recv().expect("an interrupt");
            // For the interrupt to get to the lock.
            std::thread::sleep(Duration::from_millis(50));
            go.send(()).expect("a receiver");
            assert!(interrupter.join().expect("no panic"), "no interrupt is left out");
        });
    }
}
