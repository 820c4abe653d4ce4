//! UNSAFE: cheap processes (fork without exec), shared memory, and sleeps on it.

#![allow(unsafe_code)]

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicU32;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::account;
use crate::lane::PATIENCE;

/// Memory of [`shared`], which a program that is started maps by the descriptor.
struct Region {
    start: usize,
    len: usize,
    descriptor: i32,
}

static REGIONS: Mutex<Vec<Region>> = Mutex::new(Vec::new());

/// Where a word of [`shared`] memory lies, for a program that is started: the descriptor that it inherits, and the offset.
pub(crate) struct Place {
    descriptor: i32,
    offset: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}:{}", self.descriptor, self.offset)
    }
}

/// The place of a word of [`shared`] memory.
pub(crate) fn place<T>(word: &T) -> Place {
    let address = std::ptr::from_ref(word).addr();
    let regions = REGIONS.lock().unwrap_or_else(PoisonError::into_inner);
    let region = regions.iter().find(|region| (region.start..region.start + region.len).contains(&address));
    let region = region.expect("a word of shared memory");
    Place { descriptor: region.descriptor, offset: address - region.start }
}

/// Memory that processes share, zeroed; lives as long as the process. Forked ones have it, and programs that they start can map it.
///
/// # Safety
///
/// `T` must consist of atomics alone, for which all-zero bytes are a value.
pub(crate) unsafe fn shared<T: Sync>() -> &'static T {
    let len = size_of::<T>();
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the name is a string; no flag closes the descriptor when a program is started.
    let descriptor = unsafe { libc::memfd_create(c"soak".as_ptr(), 0) };
    // SAFETY: a descriptor that no other code knows, or -1, which the call refuses.
    let sized = unsafe { libc::ftruncate(descriptor, len.cast_signed() as libc::off_t) };
    assert_eq!(sized, 0, "no memory to share: {}", std::io::Error::last_os_error());
    // SAFETY: a new mapping, which no other code knows.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), len, rights, libc::MAP_SHARED, descriptor, 0) };
    assert_ne!(base, libc::MAP_FAILED, "no memory to share: {}", std::io::Error::last_os_error());
    let region = Region { start: base.addr(), len, descriptor };
    REGIONS.lock().unwrap_or_else(PoisonError::into_inner).push(region);
    // SAFETY: page-aligned, large enough, never unmapped; the caller vouches for zeroes being a `T`.
    unsafe { &*base.cast::<T>() }
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Exit(i32),
    Signal(i32),
}

/// A forked process. Killed when dropped; dies with its parent.
#[derive(Debug)]
pub(crate) struct Child {
    pid: i32,
    ended: Option<End>,
}

/// Starts a process that runs `work` and nothing else.
///
/// The caller must have one thread only: the child has no others, and locks that they held would stay locked.
pub(crate) fn fork(work: impl FnOnce()) -> Child {
    let parent = std::process::id();
    // SAFETY: the caller promises that it has one thread, so no lock is held by a thread that the child
    // lacks.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: plain system calls.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::getppid().cast_unsigned() != parent {
                    libc::_exit(0);
                }
            }
            let code = if catch_unwind(AssertUnwindSafe(work)).is_ok() { 0 } else { 101 };
            // SAFETY: ends this process; what the parent would do at exit is the parent's.
            unsafe { libc::_exit(code) }
        }
        pid => Child { pid, ended: None },
    }
}

impl Child {
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// How the child ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<End> {
        if self.ended.is_none() {
            let mut status = 0;
            // SAFETY: a child of this process that has not been waited for; `status` has room for the answer.
            let got = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) };
            if got == self.pid {
                self.ended = Some(if libc::WIFSIGNALED(status) {
                    End::Signal(libc::WTERMSIG(status))
                } else {
                    End::Exit(libc::WEXITSTATUS(status))
                });
            }
        }
        self.ended
    }

    /// Waits for the end. Returns `None` if it has not come in `limit`.
    pub(crate) fn await_end(&mut self, limit: Duration) -> Option<End> {
        // SAFETY: plain system call; the child has not been reaped, or the call fails.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) } as i32;
        let mut ends = libc::pollfd { fd: descriptor, events: libc::POLLIN, revents: 0 };
        let mut patience = Patience::new(limit);
        while self.ended().is_none() && !patience.is_over() {
            // SAFETY: one pollfd. If there is no descriptor, it is a sleep.
            unsafe { libc::poll(&raw mut ends, 1, 20) };
        }
        if descriptor >= 0 {
            // SAFETY: opened above, and known to no other code.
            unsafe { libc::close(descriptor) };
        }
        self.ended
    }

    /// Sends SIGKILL, and waits for the end. Returns whether the child died of it, instead of ending before.
    pub(crate) fn kill(&mut self) -> bool {
        if self.ended.is_none() {
            // SAFETY: plain system call; the child has not been reaped, so the pid is its own.
            unsafe { libc::kill(self.pid, libc::SIGKILL) };
        }
        // Only the kernel is at work on it from now on.
        while self.await_end(PATIENCE).is_none() {
            eprintln!("killed, and not gone after {PATIENCE:?}: {}", account::of(self.pid));
        }
        self.ended == Some(End::Signal(libc::SIGKILL))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// SIGINT ends the parent's work in order; children finish their own.
pub(crate) fn ignore_interrupts() {
    // SAFETY: plain system call; nothing is run at the signal.
    unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) };
}

/// Sleeps until a process wakes the sleepers of `word`, `word` is not `value` any more, or `limit` is over.
pub(crate) fn sleep_on(word: &AtomicU32, value: u32, limit: Duration) {
    let time =
        libc::timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: i64::from(limit.subsec_nanos()) };
    // SAFETY: word and time-out live for the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, &raw const time) };
}

/// Wakes all sleepers on `word`.
pub(crate) fn wake(word: &AtomicU32) {
    // SAFETY: the kernel looks at the word's address only.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// Nanoseconds on the clock that all processes share.
pub(crate) fn now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` has room for the result.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// A deadline in this process's own time: while the whole soak is stopped, it does not advance.
pub(crate) struct Patience {
    left: Duration,
    last: Instant,
}

impl Patience {
    /// The most that counts between two looks.
    const STEP: Duration = Duration::from_millis(100);

    pub(crate) fn new(limit: Duration) -> Patience {
        Patience { left: limit, last: Instant::now() }
    }

    pub(crate) fn is_over(&mut self) -> bool {
        let now = Instant::now();
        self.left = self.left.saturating_sub((now - self.last).min(Self::STEP));
        self.last = now;
        self.left.is_zero()
    }
}
