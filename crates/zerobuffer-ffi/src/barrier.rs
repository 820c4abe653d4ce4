//! A number for each thread, and a fence that one thread makes all others of the process pass.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The number of this thread: from 1 up, never used again.
#[inline(always)]
pub(crate) fn thread_number() -> u64 {
    thread_local!(static NUMBER: Cell<u64> = const { Cell::new(0) });
    NUMBER.with(|number| match number.get() {
        0 => new_number(number),
        known => known,
    })
}

#[cold]
fn new_number(place: &Cell<u64>) -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    // Relaxed: only the number counts.
    let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
    place.set(number);
    number
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
