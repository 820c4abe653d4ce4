//! Futures of the core, each run by whoever wakes it: they only ever wait for each other's threads, never compute.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Wake, Waker};

use parking_lot::Mutex;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

const IDLE: u8 = 0;
const POLLING: u8 = 1;
/// Woken while it was being polled.
const AGAIN: u8 = 2;

/// A task that runs, until it is done or cancelled.
pub(crate) struct Running {
    task: Mutex<Option<Task>>,
    state: AtomicU8,
}

impl Running {
    /// Runs a task as far as it goes now; the rest follows on the threads that wake it.
    pub(crate) fn start(task: Task) -> Arc<Running> {
        let running = Arc::new(Running { task: Mutex::new(Some(task)), state: AtomicU8::new(IDLE) });
        Arc::clone(&running).wake();
        running
    }

    /// Drops the task. Must not be called by the task itself.
    pub(crate) fn cancel(&self) {
        let task = self.task.lock().take();
        drop(task);
    }
}

impl Wake for Running {
    fn wake(self: Arc<Self>) {
        // Whoever comes while it is being polled, perhaps by the very poll, leaves that to the one who polls.
        if self.state.swap(AGAIN, Ordering::AcqRel) != IDLE {
            return;
        }
        let waker = Waker::from(Arc::clone(&self));
        let mut context = Context::from_waker(&waker);
        loop {
            self.state.store(POLLING, Ordering::Release);
            let mut task = self.task.lock();
            let done = match &mut *task {
                Some(task) => task.as_mut().poll(&mut context).is_ready(),
                None => true,
            };
            let finished = if done { task.take() } else { None };
            drop(task);
            drop(finished);
            if self.state.compare_exchange(POLLING, IDLE, Ordering::AcqRel, Ordering::Acquire).is_ok() || done
            {
                return;
            }
        }
    }
}
