//! A number for each thread, and a fence that one thread makes all others of the process pass.

use std::sync::OnceLock;
use std::time::Duration;

/// The number of this thread, which no other one has as long as it lives: neither 0 nor one of the highest.
///
/// A later thread may have it again, and with it what the former one owned. That one is gone, and has left no call half done.
/// (A thread-local number of our own would cost a call into the loader each time, as this is a shared library.)
#[inline(always)]
pub(crate) fn thread_number() -> u64 {
    // SAFETY: pthread_self takes nothing and always succeeds (pthread_self(3)).
    unsafe { libc::pthread_self() as u64 }
}

/// Whether [`fence_all`] can be relied on.
pub(crate) fn available() -> bool {
    static OFFERED: OnceLock<bool> = OnceLock::new();
    *OFFERED.get_or_init(|| {
        let needed = libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED | libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED;
        membarrier(libc::MEMBARRIER_CMD_QUERY)
            .is_some_and(|offered| offered & i64::from(needed) == i64::from(needed))
    })
}

/// Returns when every thread of this process has passed a full fence since the call, as if each had one in its program just
/// where it was. Microseconds; the first one of a process takes longer.
#[cold]
pub(crate) fn fence_all() {
    let fenced = || membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED).is_some();
    if fenced() {
        return;
    }
    // A process says once that it wants this; late, as few programs ever come here.
    let registered = membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED).is_some();
    if !(registered && fenced()) {
        // The kernel offered what it now refuses, which none is known to do. A processor's stores do not stay with it for longer.
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn membarrier(command: libc::c_int) -> Option<i64> {
    // SAFETY: membarrier takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    (result >= 0).then_some(result)
}
