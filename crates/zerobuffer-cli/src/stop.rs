//! An orderly end on Ctrl-C, SIGTERM or a closed terminal, whatever the command waits for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use zerobuffer::InterruptHandle;

use crate::exit::{self, Failure};
use crate::output::clear_progress;

/// Whether the end is requested, for code that has no [`Stop`] at hand.
static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Whether the end of this process is requested; false before [`Stop::install`].
pub(crate) fn is_requested() -> bool {
    REQUESTED.load(Ordering::Acquire)
}

/// A request to end, and what it must wake.
#[derive(Clone)]
pub(crate) struct Stop(Arc<Inner>);

struct Inner {
    requested: AtomicBool,
    handles: Mutex<Vec<InterruptHandle>>,
    /// Readable once the end is requested, for use with poll(2).
    waker: OwnedFd,
    wake: OwnedFd,
}

/// What ended a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    Ready,
    TimeOut,
    Stopped,
}

impl Stop {
    /// Takes over the signals. A second one ends the process at once. A failure carries `code`.
    pub(crate) fn install(code: u8) -> Result<Stop, Failure> {
        Stop::try_install()
            .map_err(|error| Failure::new(code, format!("cannot take over the signals: {error}")))
    }

    fn try_install() -> io::Result<Stop> {
        let (waker, wake) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let stop = Stop(Arc::new(Inner {
            requested: AtomicBool::new(false),
            handles: Mutex::default(),
            waker,
            wake,
        }));
        let mut wanted = vec![SIGINT, SIGTERM];
        // nohup(1) starts commands with SIGHUP ignored, and that is to stay so.
        if !is_ignored(SIGHUP) {
            wanted.push(SIGHUP);
        }
        let mut signals = Signals::new(wanted)?;
        let other = stop.clone();
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            for _ in signals.forever() {
                if other.requested() {
                    clear_progress();
                    std::process::exit(exit::INTERRUPTED.into());
                }
                other.request();
            }
        })?;
        Ok(stop)
    }

    /// Asks for the end.
    pub(crate) fn request(&self) {
        let handles = self.0.handles.lock().unwrap_or_else(PoisonError::into_inner);
        // Release pairs with the Acquire in requested(); stored under the lock, so that no handle is missed.
        self.0.requested.store(true, Ordering::Release);
        REQUESTED.store(true, Ordering::Release);
        for handle in handles.iter() {
            handle.interrupt();
        }
        // The pipe is never read, so this fails at worst when it is full, and then it is readable anyway.
        let _ = rustix::io::write(&self.0.wake, b"!");
    }

    pub(crate) fn requested(&self) -> bool {
        self.0.requested.load(Ordering::Acquire)
    }

    /// Interrupts the calls of `handle` when the end is requested.
    pub(crate) fn watch(&self, handle: InterruptHandle) {
        let mut handles = self.0.handles.lock().unwrap_or_else(PoisonError::into_inner);
        if self.requested() {
            handle.interrupt();
        }
        handles.push(handle);
    }

    /// Sleeps. Returns whether it slept all the time: false if a request ended the sleep.
    pub(crate) fn sleep(&self, time: Duration) -> bool {
        self.wait(None, time) == Woken::TimeOut
    }

    /// Waits until there is something to read from `source`.
    pub(crate) fn wait_readable(&self, source: BorrowedFd<'_>, limit: Duration) -> Woken {
        self.wait(Some(source), limit)
    }

    fn wait(&self, source: Option<BorrowedFd<'_>>, limit: Duration) -> Woken {
        let deadline = Instant::now() + limit.min(Duration::from_secs(1 << 30));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let waker = PollFd::from_borrowed_fd(self.0.waker.as_fd(), PollFlags::IN);
            let mut fds = vec![waker];
            fds.extend(source.map(|source| PollFd::from_borrowed_fd(source, PollFlags::IN)));
            match poll(&mut fds, Some(&timeout)) {
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) | Ok(0) if source.is_none() || left.is_zero() => return Woken::TimeOut,
                // What cannot be polled can be read without waiting, or fails then.
                Err(_) => return Woken::Ready,
                Ok(0) => return Woken::TimeOut,
                Ok(_) if self.requested() => return Woken::Stopped,
                Ok(_) => return Woken::Ready,
            }
        }
    }
}

/// Whether this process was started with the signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
