//! Calls of a client that do not wait: their outcomes come to callbacks.
//!
//! A call is a future of the core. The threads that wake it also run it: those of the library, and those that are in a call of the
//! same client.

use std::collections::HashMap;
use std::ffi::c_void;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};

use zerobuffer::duplex::{Call, DuplexClient, Response};

use crate::arguments::{bytes, handle, passed, set_if_wanted, timeout};
use crate::callback::{UserData, zb_destroy};
use crate::client::zb_client;
use crate::error::{Failure, ZB_ERROR_INVALID_ARGUMENT, ZB_OK, zb_error, zb_status};
use crate::frame::{Place, zb_frame};
use crate::panic::guarded_wait;

/// Called once with the outcome of a call: `ZB_OK` and a response, or an error's number and the error. Must not wait, and should only pass
/// the outcome on: wake a thread, or post to an event loop. It may call any function of this library, except `zb_client_free` for
/// this client.
///
/// The response is the callback's: it releases it (`zb_frame_release`), or copies the struct to another place to release it later. The
/// error, which is NULL for `ZB_OK`, is the library's, and valid until the callback returns.
pub type zb_call_done = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        status: zb_status,
        response: *mut zb_frame,
        error: *const zb_error,
    ),
>;

type Outcome = zerobuffer::Result<Response>;

/// The callback of one call, with its user data.
struct Done {
    function: unsafe extern "C" fn(*mut c_void, zb_status, *mut zb_frame, *const zb_error),
    data: UserData,
}

impl Done {
    /// # Safety
    ///
    /// The function fits the data, and both may be used from any thread ("Rules for callers").
    unsafe fn new(
        callback: zb_call_done,
        user_data: *mut c_void,
        destroy: zb_destroy,
    ) -> Result<Done, Failure> {
        // Taken over first: it is destroyed in any case.
        let data = UserData::new(user_data, destroy);
        match callback {
            Some(function) => Ok(Done { function, data }),
            None => Err(Failure::new(ZB_ERROR_INVALID_ARGUMENT, "", "`callback` is NULL")),
        }
    }

    fn call(self, outcome: Outcome) {
        let mut frame = std::mem::MaybeUninit::<zb_frame>::uninit();
        // SAFETY: the place is valid for writes until the end of this function, which is after that of the `Place`.
        let place = unsafe { Place::empty(frame.as_mut_ptr()) };
        let error = match outcome {
            Ok(response) => {
                place.put_response(response);
                None
            }
            Err(error) => Some(zb_error::from(&error)),
        };
        let status = error.as_ref().map_or(ZB_OK, zb_error::code);
        let error = error.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: Who made this was promised that the function fits the data, and may be called from any thread. `self` owns the data
        // until after the call. `Place::empty` made the frame, which put_response() has filled or left empty, and nothing here uses it
        // again.
        unsafe { (self.function)(self.data.get(), status, frame.as_mut_ptr(), error) };
    }
}

/// A call under way, and what is called with its outcome.
type Task = (Call<Vec<u8>>, Done);

enum State {
    Waits(Box<Task>),
    /// A thread runs it.
    Runs {
        /// It was woken meanwhile.
        again: bool,
        /// It was cancelled meanwhile.
        cancelled: bool,
    },
    Over,
}

/// A call of a client.
struct Running {
    number: u64,
    calls: Weak<Calls>,
    state: Mutex<State>,
}

/// The calls of one client that have callbacks.
#[derive(Default)]
pub(crate) struct Calls(Mutex<Numbered>);

#[derive(Default)]
struct Numbered {
    last: u64,
    running: HashMap<u64, Weak<Running>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in the critical sections leaves a value half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Calls {
    /// Starts a call, after it has told its number. If it cannot be sent, the error is returned, and does not come to the callback.
    fn start(
        self: &Arc<Calls>,
        client: &DuplexClient,
        data: Vec<u8>,
        timeout_ms: i64,
        done: Done,
        tell: impl FnOnce(u64),
    ) -> zerobuffer::Result<()> {
        let task = Box::new((client.call_async(data, timeout(timeout_ms)), done));
        let mut numbered = lock(&self.0);
        numbered.last += 1;
        let number = numbered.last;
        let state = Mutex::new(State::Runs { again: false, cancelled: false });
        let running = Arc::new(Running { number, calls: Arc::downgrade(self), state });
        numbered.running.insert(number, Arc::downgrade(&running));
        drop(numbered);
        tell(number);
        match running.run(task) {
            // It was not sent. An error about a request that was sent is an outcome, which may have come already.
            Some((Err(error), _)) if error.sequence().is_none() => return Err(error),
            Some((outcome, done)) => done.call(outcome),
            None => {}
        }
        Ok(())
    }

    /// Withdraws a call. Returns whether its callback is not called any more.
    fn cancel(&self, number: u64) -> bool {
        let running = lock(&self.0).running.get(&number).and_then(Weak::upgrade);
        running.is_some_and(|running| running.cancel())
    }
}

impl Running {
    /// Runs the call as far as it goes now. Returns its outcome, if that has come and was not cancelled.
    fn run(self: &Arc<Running>, mut task: Box<Task>) -> Option<(Outcome, Done)> {
        let waker = Waker::from(Arc::clone(self));
        let mut context = Context::from_waker(&waker);
        loop {
            let outcome = Pin::new(&mut task.0).poll(&mut context);
            let mut state = lock(&self.state);
            let State::Runs { again, cancelled } = &mut *state else { return None };
            if outcome.is_ready() || *cancelled {
                let cancelled = *cancelled;
                *state = State::Over;
                // Withdraws the request, and destroys the user data, with nothing locked.
                drop(state);
                self.forget();
                let (call, done) = *task;
                drop(call);
                return match outcome {
                    Poll::Ready(outcome) if !cancelled => Some((outcome, done)),
                    _ => None,
                };
            }
            if !std::mem::replace(again, false) {
                *state = State::Waits(task);
                return None;
            }
        }
    }

    fn cancel(&self) -> bool {
        let mut state = lock(&self.state);
        match &mut *state {
            State::Waits(_) => {
                let task = std::mem::replace(&mut *state, State::Over);
                drop(state);
                self.forget();
                drop(task);
                true
            }
            // The thread that runs it sees to the rest. Only the first cancellation is told so.
            State::Runs { cancelled, .. } => !std::mem::replace(cancelled, true),
            State::Over => false,
        }
    }

    fn forget(&self) {
        if let Some(calls) = self.calls.upgrade() {
            lock(&calls.0).running.remove(&self.number);
        }
    }
}

impl Wake for Running {
    fn wake(self: Arc<Running>) {
        let mut state = lock(&self.state);
        let task = match &mut *state {
            State::Waits(_) => std::mem::replace(&mut *state, State::Runs { again: false, cancelled: false }),
            State::Runs { again, .. } => {
                *again = true;
                return;
            }
            State::Over => return,
        };
        drop(state);
        if let State::Waits(task) = task
            && let Some((outcome, done)) = self.run(task)
        {
            done.call(outcome);
        }
    }
}

/// Sends a request, copied, and returns at once. `callback` is called once with its outcome, which comes within `timeout_ms`: by a thread
/// of the library, by one that is in a call of this client, or by this one before the function returns. `call`, which
/// may be NULL, gets the number by which `zb_client_cancel_call` knows it, before the callback can come. If there is no space, the request waits for it.
///
/// When the client is closed, or the channel ends, the callbacks of all calls under way get that error. `destroy`, which may be NULL, is
/// called exactly once with `user_data`: after the callback, when the call is cancelled, or before this function returns an error.
///
/// Errors, which do not come to the callback: `INVALID_ARGUMENT`, `INVALID_FRAME_SIZE` (0 bytes), `FRAME_TOO_LARGE`; `CLOSED`, or the error
/// that ended the channel; `BUFFER_FULL` for a time-out of 0. The callback gets those of `zb_client_call`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_call_async(
    client: *const zb_client,
    data: *const u8,
    size: usize,
    timeout_ms: i64,
    callback: zb_call_done,
    user_data: *mut c_void,
    destroy: zb_destroy,
    call: *mut u64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let done = passed!(Done::new(callback, user_data, destroy)?);
        let (handle, data) = passed!(handle(client, "client")?, bytes(data, size)?);
        let tell = |number| passed!(set_if_wanted(call, number));
        handle.calls.start(&handle.client, data.to_vec(), timeout_ms, done, tell)?;
        Ok(ZB_OK)
    })
}

/// Withdraws a call of `zb_client_call_async`, and its request. `waited`, which may be NULL, gets whether it was still under way: then the
/// callback is not called any more. If not, it has been called, or is being called.
///
/// Errors: `INVALID_ARGUMENT`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_cancel_call(
    client: *const zb_client,
    call: u64,
    waited: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let cancelled = passed!(handle(client, "client")?).calls.cancel(call);
        passed!(set_if_wanted(waited, cancelled));
        Ok(ZB_OK)
    })
}
