//! No panic crosses into C: every function that can fail, or runs code that could panic, goes through here.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Failure, ZB_ERROR_INTERNAL, zb_error, zb_status};

/// Runs the body of a function of the ABI. A failure, or a panic, becomes a negative status, and an error object where the
/// caller wants one; otherwise `*error` is set to NULL.
///
/// # Safety
///
/// `error` is NULL or points to a place for a pointer.
#[inline(always)]
pub(crate) unsafe fn guarded(
    error: *mut *mut zb_error,
    body: impl FnOnce() -> Result<zb_status, Failure>,
) -> zb_status {
    // A panic leaves nothing half-done that is used again: handles stay locked by whoever panicked with them, or hold no
    // state of ours.
    let outcome = catch_unwind(AssertUnwindSafe(body));
    match outcome {
        Ok(Ok(status)) => {
            if !error.is_null() {
                // SAFETY: by the caller's promise.
                unsafe { error.write(std::ptr::null_mut()) };
            }
            status
        }
        // SAFETY: the same.
        Ok(Err(failure)) => unsafe { fail(error, failure) },
        // SAFETY: the same.
        Err(panic) => unsafe { fail(error, panicked(&*panic)) },
    }
}

#[cold]
#[inline(never)]
unsafe fn fail(error: *mut *mut zb_error, failure: Failure) -> zb_status {
    let failed = zb_error::from(failure);
    let status = failed.code();
    if !error.is_null() {
        // SAFETY: by the promise of guarded().
        unsafe { error.write(Box::into_raw(Box::new(failed))) };
    }
    status
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let words = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => String::from("no message"),
    };
    Failure::new(ZB_ERROR_INTERNAL, "", format!("internal error, please report it: {words}"))
}

/// Runs the body of a function that has no status to give; a panic gives `otherwise`.
#[inline(always)]
pub(crate) fn guarded_or<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{zb_error_free, zb_error_message};

    #[test]
    fn a_panic_becomes_an_error_with_its_words() {
        let mut error = std::ptr::null_mut();
        // SAFETY: `error` is a place for a pointer.
        let status = unsafe { guarded(&raw mut error, || panic!("the {} panicked", "core")) };
        assert_eq!(status, ZB_ERROR_INTERNAL);
        // SAFETY: the error was just made.
        let message = unsafe { std::ffi::CStr::from_ptr(zb_error_message(error)) };
        assert!(message.to_str().unwrap().ends_with("the core panicked"), "{message:?}");
        // SAFETY: the same; it is not used any more.
        unsafe { zb_error_free(error) };
        assert_eq!(guarded_or(7, || panic!("again")), 7);
    }
}
