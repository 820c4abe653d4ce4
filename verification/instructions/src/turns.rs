//! Threads that take turns, so that their count of instructions does not depend on how they meet.

use std::io::{Error, Result};

/// Binds this thread, and those that it starts, to one processor, on which a thread that is woken waits until the running
/// one sleeps.
///
/// # Errors
///
/// Those of the system.
pub(crate) fn share_a_processor() -> Result<()> {
    // SAFETY: the call takes no arguments.
    let processor = unsafe { libc::sched_getcpu() };
    let processor = usize::try_from(processor).map_err(|_| Error::last_os_error())?;
    // SAFETY: a set of processors is an array of bits, and all of them may be 0.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel's number of a processor is within the set's bits.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the set lives throughout the call, and its size is its own.
    done(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) })?;
    // Under both policies a wake-up does not preempt the running thread: sched(7). The first, which needs privilege, also
    // keeps other programs from coming between.
    if policy(libc::SCHED_FIFO, 1).is_ok() { Ok(()) } else { policy(libc::SCHED_BATCH, 0) }
}

fn policy(policy: libc::c_int, priority: libc::c_int) -> Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameters live throughout the call.
    done(unsafe { libc::sched_setscheduler(0, policy, &parameters) })
}

fn done(result: libc::c_int) -> Result<()> {
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
