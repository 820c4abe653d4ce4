//! No panic crosses into C: every function that can fail, or runs code that could panic, goes through here.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::error::{Failure, ZB_ERROR_INTERNAL, ZB_OK, zb_error, zb_status};

/// The body of a function of the ABI that returns a status, and whose last parameter takes the error object.
///
/// A failure, or a panic, becomes a negative status, and an error object where the caller wants one.
macro_rules! guarded {
    ($error:expr, $body:block) => {{
        let body = || -> Result<$crate::error::zb_status, $crate::error::Failure> { $body };
        // SAFETY: `$error` is the parameter of a function of the ABI. Its caller promises ("Rules for callers", crate
        // documentation) that it is NULL, or points to a place for a pointer until the function returns.
        unsafe { $crate::panic::run($error, body) }
    }};
}
pub(crate) use guarded;

/// As [`guarded!`], for functions that may wait, or open and close files: a `pthread_cancel` of the thread waits until they
/// return, as it would unwind through Rust code, which ends the process. Those that read, write and release frames go without:
/// the core sees to it where they wait.
macro_rules! guarded_wait {
    ($error:expr, $body:block) => {{
        let _uncancelled = zerobuffer::uncancelled();
        $crate::panic::guarded!($error, $body)
    }};
}
pub(crate) use guarded_wait;

/// Runs the body of a function of the ABI; what [`guarded!`] rests on. Sets `*error` to NULL unless the body fails.
///
/// # Safety
///
/// `error` is NULL or points to a place for a pointer.
#[inline(always)]
pub(crate) unsafe fn run(
    error: *mut *mut zb_error,
    body: impl FnOnce() -> Result<zb_status, Failure>,
) -> zb_status {
    // A failure becomes its status in here, so that what passes through catch_unwind() fits a register: a `Result` that is passed
    // through memory costs 7 ns, as it is read in a larger piece than it was written.
    let status = || match body() {
        Ok(status) => status,
        // SAFETY: fail() asks the same promise about `error` that this function's caller gives.
        Err(failure) => unsafe { fail(error, failure) },
    };
    // No state that a panic leaves half-changed is used again: a handle that a call panicked with lets no later call in, and
    // the rest holds no state of this crate.
    let status = catch_unwind(AssertUnwindSafe(status)).unwrap_or_else(|panic| {
        // SAFETY: fail() asks the same promise about `error` that this function's caller gives.
        unsafe { fail(error, panicked(&*panic)) }
    });
    if status >= ZB_OK && !error.is_null() {
        // SAFETY: The caller promises a place for a pointer where `error` is not NULL.
        unsafe { error.write(std::ptr::null_mut()) };
    }
    status
}

/// Turns a failure into its status, and into an error object where the caller wants one.
///
/// # Safety
///
/// `error` is NULL or points to a place for a pointer.
#[cold]
#[inline(never)]
unsafe fn fail(error: *mut *mut zb_error, failure: Failure) -> zb_status {
    let failed = zb_error::from(failure);
    let status = failed.code();
    if !error.is_null() {
        // SAFETY: The caller promises a place for a pointer where `error` is not NULL.
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

/// Runs the body of a function that returns no status; a panic returns `otherwise`.
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
        let status = guarded!(&raw mut error, { panic!("the {} panicked", "core") });
        assert_eq!(status, ZB_ERROR_INTERNAL);
        // SAFETY: `error` is the live error object that the call has made.
        let message = unsafe { std::ffi::CStr::from_ptr(zb_error_message(error)) };
        assert!(message.to_str().unwrap().ends_with("the core panicked"), "{message:?}");
        // SAFETY: `error` is the live error object that the call has made, and nothing uses it afterwards.
        unsafe { zb_error_free(error) };
        assert_eq!(guarded_or(7, || panic!("again")), 7);
    }
}
