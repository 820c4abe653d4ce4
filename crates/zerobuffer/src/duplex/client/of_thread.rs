//! A request that belongs to the thread that fills it, for languages that have no guards.

use std::cell::RefCell;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;

use super::in_place::RequestBuffer;
use crate::duplex::owner::Owner;

/// Keeps the request that a thread fills in place, for language bindings whose callers commit through the
/// client.
///
/// If a thread ends without a commit, its request is discarded, so that other threads can send.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::BufferConfig;
/// use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode, ThreadRequest};
///
/// # let name = format!("doc-thread-request-{}", std::process::id());
/// let factory = DuplexChannelFactory::new();
/// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
/// server.start(|request| Ok((&**request).into()), ProcessingMode::SingleThread)?;
/// let client = factory.create_client(&name)?;
/// let acquired = ThreadRequest::default();
/// std::thread::scope(|scope| {
///     scope.spawn(|| acquired.put(client.acquire_request_buffer(4).expect("room"))); // and never sent
/// });
/// assert_eq!(client.call(b"next", Duration::from_secs(5))?.sequence(), 1);
/// # client.close();
/// # server.stop()?;
/// # Ok::<(), zerobuffer::Error>(())
/// ```
#[derive(Default)]
pub struct ThreadRequest(Arc<Slot>);

type Slot = Mutex<Option<(ThreadId, RequestBuffer)>>;

impl ThreadRequest {
    /// Keeps a request for this thread. A request that was kept before is discarded.
    pub fn put(&self, request: RequestBuffer) {
        let thread = std::thread::current().id();
        LEFT_BEHIND.with_borrow_mut(|left| {
            left.slots.retain(|slot| slot.strong_count() > 0);
            if !left.slots.iter().any(|slot| slot.as_ptr() == Arc::as_ptr(&self.0)) {
                left.slots.push(Arc::downgrade(&self.0));
            }
            left.thread = Some((thread, Owner::this_process()));
        });
        let before = slot(&self.0).replace((thread, request));
        drop(before);
    }

    /// Takes the request that this thread has put here.
    pub fn take(&self) -> Option<RequestBuffer> {
        take_of(&self.0, std::thread::current().id())
    }

    /// Discards the request, whichever thread has it.
    pub fn clear(&self) {
        let taken = slot(&self.0).take();
        drop(taken);
    }
}

impl fmt::Debug for ThreadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadRequest").field("is_filled", &slot(&self.0).is_some()).finish()
    }
}

fn slot(slot: &Slot) -> MutexGuard<'_, Option<(ThreadId, RequestBuffer)>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

fn take_of(of: &Slot, thread: ThreadId) -> Option<RequestBuffer> {
    slot(of).take_if(|(owner, _)| *owner == thread).map(|(_, request)| request)
}

thread_local! {
    static LEFT_BEHIND: RefCell<LeftBehind> = RefCell::default();
}

/// The clients in which this thread may leave a request behind.
#[derive(Default)]
struct LeftBehind {
    slots: Vec<Weak<Slot>>,
    /// The thread's number, because a thread that ends cannot ask for it any more. A forked child must not
    /// touch the locks.
    thread: Option<(ThreadId, Owner)>,
}

impl Drop for LeftBehind {
    fn drop(&mut self) {
        let Some((thread, owner)) = self.thread else { return };
        if !owner.is_this_process() {
            return;
        }
        for slot in self.slots.drain(..) {
            // Dropped without the lock on the slot.
            let left = slot.upgrade().and_then(|slot| take_of(&slot, thread));
            drop(left);
        }
    }
}
