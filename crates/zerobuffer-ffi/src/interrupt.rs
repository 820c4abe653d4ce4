//! Ending a blocked call of another thread.

use std::sync::Weak;

use zerobuffer::InterruptHandle;

use crate::arguments::{handle, passed};
use crate::config::take;
use crate::error::{ZB_OK, zb_error, zb_status};
use crate::panic::guarded;

/// Ends the blocked calls of a reader or writer from any thread. It may outlive the reader or writer.
pub struct zb_interrupt {
    /// Weak, as it must not keep the memory of a closed buffer mapped.
    pub(crate) handle: Weak<InterruptHandle>,
}

/// Makes the call that is blocked now, or else the next one that may block, fail once with `ZB_ERROR_INTERRUPTED`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_interrupt_fire(
    interrupt: *const zb_interrupt,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        if let Some(handle) = passed!(handle(interrupt, "interrupt")?).handle.upgrade() {
            handle.interrupt();
        }
        Ok(ZB_OK)
    })
}

/// Frees an interrupt. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_interrupt_free(interrupt: *mut zb_interrupt) {
    passed!(take(interrupt));
}
