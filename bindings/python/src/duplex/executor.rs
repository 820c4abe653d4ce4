//! Futures of the core, each run by the thread that wakes it: they only wait for other threads, and never compute.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::lock::Guarded;

type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Done<T> = Box<dyn FnOnce(T) + Send>;

const IDLE: u8 = 0;
const POLLING: u8 = 1;
/// Woken while it was being polled.
const AGAIN: u8 = 2;

/// A task that runs, until it is done or cancelled.
pub(crate) struct Running<T> {
    /// `None` while it is being polled, and at the end: nothing is locked while a task runs.
    task: Guarded<Option<(Task<T>, Done<T>)>>,
    cancelled: AtomicBool,
    state: AtomicU8,
}

impl<T: Send + 'static> Running<T> {
    /// Runs a task as far as it goes now; the rest follows on the threads that wake it. `done` is called with its result.
    pub(crate) fn start(task: Task<T>, done: impl FnOnce(T) + Send + 'static) -> Arc<Running<T>> {
        let running = Arc::new(Running {
            task: Guarded::new(Some((task, Box::new(done) as Done<T>))),
            cancelled: AtomicBool::new(false),
            state: AtomicU8::new(IDLE),
        });
        Arc::clone(&running).wake();
        running
    }

    /// Drops the task, now or when the poll that is under way returns.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        drop(self.task.replace(None));
    }
}

impl<T: Send + 'static> Wake for Running<T> {
    fn wake(self: Arc<Self>) {
        // A thread that comes while it is being polled, perhaps from within the poll, leaves that to the polling one.
        if self.state.swap(AGAIN, Ordering::AcqRel) != IDLE {
            return;
        }
        let waker = Waker::from(Arc::clone(&self));
        let mut context = Context::from_waker(&waker);
        loop {
            self.state.store(POLLING, Ordering::Release);
            let Some((mut task, done)) = self.task.replace(None) else { return };
            match task.as_mut().poll(&mut context) {
                Poll::Ready(result) => {
                    drop(task);
                    return done(result);
                }
                Poll::Pending => drop(self.task.replace(Some((task, done)))),
            }
            if self.cancelled.load(Ordering::SeqCst) {
                return drop(self.task.replace(None));
            }
            if self.state.compare_exchange(POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return;
            }
        }
    }
}
