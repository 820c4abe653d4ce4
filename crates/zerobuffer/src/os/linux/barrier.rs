//! UNSAFE: barriers that a sleeper issues, so that its peer needs no fence per frame.
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

/// Whether this process can issue [`barrier`]s to others. Asks the kernel once, and believes the answer until
/// a barrier is refused.
pub(crate) fn barrier_works() -> bool {
    // Relaxed: a refusal concerns the thread that met it. Other threads may learn of it later, or meet their
    // own.
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

/// Executes a full fence on every processor that runs a thread of a registered process. Returns whether that
/// worked; once it did not, [`barrier_works`] returns false for good.
pub(crate) fn barrier() -> bool {
    let issued = membarrier(libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED).is_ok();
    if !issued {
        REFUSED.store(true, Ordering::Relaxed);
    }
    issued
}

/// The fork generation plus 1 in which registration began.
static BEGUN: AtomicU64 = AtomicU64::new(0);

/// Whether barriers of other processes reach this one.
#[inline]
pub(crate) fn barrier_registered() -> bool {
    // Relaxed: the registration was effective on all processors before the system call returned, so it holds
    // whenever this thread learns of it.
    REGISTERED.load(Ordering::Relaxed)
}

/// Registers this process once. The registration takes effect in a moment.
///
/// In a process of one thread this takes about 3 us. In a process of several threads the kernel waits for all
/// processors, about 12 ms, so a thread of its own registers and ends.
pub(crate) fn register_for_barriers() {
    let generation = fork::generation() + 1;
    // A child of fork() must register itself.
    if BEGUN.swap(generation, Ordering::AcqRel) == generation || !barrier_works() {
        return;
    }
    let register = || {
        if membarrier(libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED).is_ok() {
            REGISTERED.store(true, Ordering::Release);
        }
    };
    // A directory has one link for each sub-directory (here one per thread), and two of its own.
    let alone = std::fs::metadata("/proc/self/task")
        .is_ok_and(|tasks| std::os::unix::fs::MetadataExt::nlink(&tasks) <= 3);
    if alone {
        register();
    } else {
        // Without the registration every frame costs a fence of about 8 ns, which is no reason to fail.
        let _ = std::thread::Builder::new().name("zb-membarrier".into()).stack_size(64 << 10).spawn(register);
    }
}
