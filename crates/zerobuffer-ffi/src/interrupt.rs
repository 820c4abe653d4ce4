//! Ending a blocked call of another thread.

use zerobuffer::InterruptHandle;

use crate::arguments::handle;
use crate::config::take;
use crate::error::{Failure, ZB_OK, zb_error, zb_status};
use crate::panic::guarded;

/// Ends the blocked calls of a reader or writer from any thread. Lives on its own: it may be used when the reader or writer is
/// gone already.
pub struct zb_interrupt {
    pub(crate) handle: InterruptHandle,
}

/// Makes the call that is blocked now, or else the next one that may block, fail once with `ZB_ERROR_INTERRUPTED`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_interrupt_fire(
    interrupt: *const zb_interrupt,
    error: *mut *mut zb_error,
) -> zb_status {
    let body = || -> Result<zb_status, Failure> {
        // SAFETY: by the rules for callers.
        unsafe { handle(interrupt, "interrupt") }?.handle.interrupt();
        Ok(ZB_OK)
    };
    // SAFETY: the same.
    unsafe { guarded(error, body) }
}

/// Frees an interrupt. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_interrupt_free(interrupt: *mut zb_interrupt) {
    // SAFETY: by the rules for callers.
    unsafe { take(interrupt) };
}
