//! Answers that are given after their handler has returned.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zerobuffer::duplex::Deferred;

use crate::arguments::{Out, bytes, handle, handle_mut, length_of, passed};
use crate::callback::{UserData, zb_destroy};
use crate::config::{give, take};
use crate::error::{Failure, ZB_ERROR_INVALID_STATE, ZB_OK, zb_error, zb_status};
use crate::panic::{guarded_or, guarded_wait};
use crate::server::{failure_words, zb_responder};

/// A deferred answer to a request. Any thread may call any function, until it is freed.
pub struct zb_deferred {
    shared: Arc<Shared>,
}

/// Called once, on a thread of the library, when the response to a deferred request is not wanted any more.
/// Must not unwind.
pub type zb_cancel_callback = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

struct Shared {
    /// `None` once answered.
    answer: Mutex<Option<Deferred>>,
    callback: Mutex<Option<Callback>>,
}

struct Callback {
    function: unsafe extern "C" fn(*mut c_void),
    data: UserData,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No critical section can panic with the contents half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn take(&self) -> Result<Deferred, Failure> {
        let answer = lock(&self.answer).take();
        // The callback for a cancellation is not needed any more. Its destroy function is user code, so no
        // lock is held.
        let callback = lock(&self.callback).take();
        drop(callback);
        answer.ok_or_else(|| {
            Failure::new(ZB_ERROR_INVALID_STATE, "", "the request has been answered or failed already")
        })
    }

    /// Whether there is still something to wait for. Calls the callback for a cancellation, once.
    fn look(&self) -> bool {
        let cancelled = match &*lock(&self.answer) {
            None => return false,
            Some(answer) => answer.is_cancelled(),
        };
        if !cancelled {
            return true;
        }
        if let Some(callback) = lock(&self.callback).take() {
            // SAFETY: The caller of zb_deferred_on_cancel promises that the function fits its user data, which `callback` owns.
            unsafe { (callback.function)(callback.data.get()) };
        }
        false
    }
}

/// The deferred answers with a callback for a cancellation, and the thread that looks for cancellations.
struct Watch {
    watched: Mutex<Watched>,
    changed: Condvar,
}

struct Watched {
    shared: Vec<Arc<Shared>>,
    /// The thread runs, in the process of this fork generation.
    running: Option<u64>,
}

static WATCH: Watch =
    Watch { watched: Mutex::new(Watched { shared: Vec::new(), running: None }), changed: Condvar::new() };

impl Watch {
    /// How often to look for cancellations.
    const LOOK: Duration = Duration::from_millis(5);
    /// How long the thread stays alive when there is nothing to watch.
    const IDLE: Duration = Duration::from_secs(1);

    fn add(&'static self, shared: Arc<Shared>) -> Result<(), Failure> {
        let mut watched = lock(&self.watched);
        let generation = zerobuffer::fork_generation();
        if watched.running != Some(generation) {
            let thread = std::thread::Builder::new().name("zb-deferred".into());
            thread.spawn(|| self.run()).map_err(|error| {
                let message = format!("cannot start the thread that looks for cancellations: {error}");
                Failure::new(crate::error::ZB_ERROR_SYSTEM, "", message)
            })?;
            watched.running = Some(generation);
        }
        watched.shared.push(shared);
        drop(watched);
        self.changed.notify_one();
        Ok(())
    }

    fn run(&self) {
        let mut mine: Vec<Arc<Shared>> = Vec::new();
        loop {
            let mut watched = lock(&self.watched);
            if mine.is_empty() && watched.shared.is_empty() {
                let waited = self.changed.wait_timeout(watched, Self::IDLE);
                watched = waited.unwrap_or_else(PoisonError::into_inner).0;
                if watched.shared.is_empty() {
                    watched.running = None;
                    return;
                }
            }
            mine.append(&mut watched.shared);
            drop(watched);
            // No lock is held: callbacks may defer, answer and free.
            mine.retain(|shared| shared.look());
            std::thread::sleep(Self::LOOK);
        }
    }
}

/// Defers the answer to the request, within its handler. Any thread answers later, by `zb_deferred_reply` or
/// `zb_deferred_fail`, and no thread of the server waits for it. Until then the request's bytes stay in
/// place. Free it with `zb_deferred_free`.
///
/// Errors: `INVALID_STATE` if the request has been answered, failed or deferred, or the server is a mutable one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_responder_defer(
    responder: *mut zb_responder,
    deferred: *mut *mut zb_deferred,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (responder, out) = passed!(handle_mut(responder, "responder")?, Out::new(deferred, "deferred")?);
        out.set(std::ptr::null_mut());
        let answer = responder.defer()?;
        let shared = Shared { answer: Mutex::new(Some(answer)), callback: Mutex::new(None) };
        out.set(give(zb_deferred { shared: Arc::new(shared) }));
        Ok(ZB_OK)
    })
}

/// Answers the request with a copy of `data`, which may be bytes of the request; the request ends with this
/// call. Waits for space in the response buffer. The server's error callback gets an error of sending. After
/// a stop the answer is dropped.
///
/// Errors: `INVALID_STATE` if it has been answered or failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_deferred_reply(
    deferred: *const zb_deferred,
    data: *const u8,
    size: usize,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, data) = passed!(handle(deferred, "deferred")?, bytes(data, size)?);
        handle.shared.take()?.reply(data);
        Ok(ZB_OK)
    })
}

/// Fails this request only: the client gets `REQUEST_FAILED` with this message (bytes that are not UTF-8 are
/// replaced), and the server's error callback gets the error.
///
/// Errors: `INVALID_STATE` if it has been answered or failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_deferred_fail(
    deferred: *const zb_deferred,
    message: *const c_char,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let handle = passed!(handle(deferred, "deferred")?);
        let words = passed!(bytes(message.cast(), length_of(message)));
        handle.shared.take()?.fail(&failure_words(words.unwrap_or_default()));
        Ok(ZB_OK)
    })
}

/// Whether the response is not wanted any more, like `zb_frame_is_cancelled` of the request. False for NULL,
/// and after an answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_deferred_is_cancelled(deferred: *const zb_deferred) -> bool {
    guarded_or(false, || {
        passed!(deferred.as_ref())
            .is_some_and(|handle| lock(&handle.shared.answer).as_ref().is_some_and(Deferred::is_cancelled))
    })
}

/// Sets a function that is called once, within a few milliseconds after the response is no longer wanted,
/// unless the request has been answered by then. It replaces an earlier one. `destroy`, which may be NULL, is
/// called with `user_data` when the callback is not used any more, or when this function fails. Neither an
/// answer nor freeing waits for a callback that is running.
///
/// Errors: `INVALID_STATE` if it has been answered or failed; `SYSTEM` if no thread can be started.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_deferred_on_cancel(
    deferred: *const zb_deferred,
    callback: zb_cancel_callback,
    user_data: *mut c_void,
    destroy: zb_destroy,
    error: *mut *mut zb_error,
) -> zb_status {
    let data = UserData::new(user_data, destroy);
    guarded_wait!(error, {
        let handle = passed!(handle(deferred, "deferred")?);
        let function = callback.ok_or_else(|| Failure::argument("the callback is NULL"))?;
        if lock(&handle.shared.answer).is_none() {
            return Err(Failure::new(
                ZB_ERROR_INVALID_STATE,
                "",
                "the request has been answered or failed already",
            ));
        }
        let before = lock(&handle.shared.callback).replace(Callback { function, data });
        let is_first = before.is_none();
        // Its destroy function is user code, so no lock is held.
        drop(before);
        if is_first {
            WATCH.add(Arc::clone(&handle.shared))?;
        }
        Ok(ZB_OK)
    })
}

/// Frees the deferred answer. A request that has not been answered fails. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_deferred_free(deferred: *mut zb_deferred) {
    if let Some(handle) = passed!(deferred.as_ref()) {
        guarded_or((), || drop(handle.shared.take()));
    }
    passed!(take(deferred));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_watch_ends_and_says_so() {
        let here = zerobuffer::fork_generation();
        let watched = Mutex::new(Watched { shared: Vec::new(), running: Some(here) });
        let watch = Watch { watched, changed: Condvar::new() };
        watch.run();
        assert_eq!(lock(&watch.watched).running, None, "the next callback starts a thread");
    }
}
