//! UNSAFE: the barrier that a sleeper pays for those who might wake it.
#![allow(unsafe_code)]

use std::io::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::fork::{self, REGISTERED};

fn membarrier(command: libc::c_int) -> Result<libc::c_long> {
    // SAFETY: membarrier takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// A [`barrier`] was refused, although the kernel offers it.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Whether this process can issue [`barrier`]s to others: asked once, and believed until one is refused.
pub(crate) fn barrier_works() -> bool {
    // Relaxed: a refusal concerns the thread that met it; others may learn of it later, or meet their own.
    if REFUSED.load(Ordering::Relaxed) {
        return false;
    }
    static KNOWN: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *KNOWN.get_or_init(|| {
        let needed =
            i64::from(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED | libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED);
        let offered = membarrier(libc::MEMBARRIER_CMD_QUERY).unwrap_or(0);
        offered & needed == needed && membarrier(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED).is_ok()
    })
}

/// A full fence on every processor that runs a thread of a process that is registered. Says whether it worked; once it
/// has not, [`barrier_works`] says no for good.
pub(crate) fn barrier() -> bool {
    let issued = membarrier(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED).is_ok();
    if !issued {
        REFUSED.store(true, Ordering::Relaxed);
    }
    issued
}

/// The fork generation, plus 1, for which registration was begun.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// Whether barriers of other processes reach this one.
#[inline]
pub(crate) fn barrier_registered() -> bool {
    // Relaxed: the kernel has made the registration effective on all processors before the system call returned, so
    // whenever this thread learns of it, it holds.
    REGISTERED.load(Ordering::Relaxed)
}

/// Registers this process, once; it takes effect in a moment.
///
/// Takes some 3 us in a process of one thread. In one of several the kernel waits for all processors, some 12 ms, which
/// nobody shall wait for: a thread of its own does it, and ends.
pub(crate) fn register_for_barriers() {
    let generation = fork::generation() + 1;
    // A child of fork() has to see for itself.
    if BEGUN.swap(generation, Ordering::AcqRel) == generation || !barrier_works() {
        return;
    }
    let register = || {
        if membarrier(libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED).is_ok() {
            REGISTERED.store(true, Ordering::Release);
        }
    };
    // A directory has one link for each sub-directory, here one a thread, and two of its own.
    let alone = std::fs::metadata("/proc/self/task")
        .is_ok_and(|tasks| std::os::unix::fs::MetadataExt::nlink(&tasks) <= 3);
    if alone {
        register();
    } else {
        // Without it every frame costs a fence of some 8 ns more: no reason to fail.
        let _ = std::thread::Builder::new().name("zb-membarrier".into()).stack_size(64 << 10).spawn(register);
    }
}
