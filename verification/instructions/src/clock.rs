//! The clock of this process, in place of the system's: it advances at each look, and never otherwise.

use std::sync::atomic::{AtomicI64, Ordering};

/// Nanoseconds between two looks.
const STEP: i64 = 50;

/// The coarse clocks advance by this many nanoseconds at once, like the kernel's at 250 Hz.
const TICK: i64 = 4_000_000;

/// Decades after any system's start: a wait until a time of this clock must not be over by the kernel's.
static NOW: AtomicI64 = AtomicI64::new(1 << 61);

/// What the library and the standard library call for the time of any clock: the program's own symbol is found before the
/// C library's.
///
/// # Safety
///
/// `time` points to a `timespec` that may be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    let mut now = NOW.fetch_add(STEP, Ordering::Relaxed);
    if clock == libc::CLOCK_MONOTONIC_COARSE || clock == libc::CLOCK_REALTIME_COARSE {
        now -= now % TICK;
    }
    // SAFETY: the caller promises that `time` may be written.
    unsafe { *time = libc::timespec { tv_sec: now / 1_000_000_000, tv_nsec: now % 1_000_000_000 } };
    0
}
