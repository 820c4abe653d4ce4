//! Checks of the arguments that C passes.

use std::ffi::{CStr, c_char};
use std::time::Duration;

use crate::error::Failure;

/// Applies checks of this module to the parameters of a function of the ABI: one, or several as a tuple.
///
/// This is the only place that turns the promise of C callers into the promise that the checks require.
macro_rules! passed {
    ($check:expr) => {
        // SAFETY: The checks ask that each pointer be NULL, or valid for its type until the call returns. These are the
        // parameters of a function of the ABI, or read from an array that one points to, and its caller promises just that
        // ("Rules for callers", crate documentation).
        unsafe { $check }
    };
    ($($check:expr),+) => {
        // SAFETY: The checks ask that each pointer be NULL, or valid for its type until the call returns. These are the
        // parameters of a function of the ABI, whose caller promises just that ("Rules for callers", crate documentation).
        unsafe { ($($check),+) }
    };
}
pub(crate) use passed;

/// The object behind a handle.
///
/// # Safety
///
/// The pointer is NULL, or a live handle of this type that outlives `'a`.
#[inline(always)]
pub(crate) unsafe fn handle<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Failure> {
    // SAFETY: The caller promises a pointer that is NULL or live during `'a`.
    match unsafe { pointer.as_ref() } {
        Some(object) => Ok(object),
        None => Err(Failure::argument(format!("the {what} is NULL"))),
    }
}

/// The object behind a handle, to be changed.
///
/// # Safety
///
/// The pointer is NULL, or a live handle of this type that outlives `'a`, and nothing else uses the object during `'a`.
#[inline(always)]
pub(crate) unsafe fn handle_mut<'a, T>(pointer: *mut T, what: &str) -> Result<&'a mut T, Failure> {
    // SAFETY: The caller promises a pointer that is NULL, or live and used by nothing else during `'a`.
    match unsafe { pointer.as_mut() } {
        Some(object) => Ok(object),
        None => Err(Failure::argument(format!("the {what} is NULL"))),
    }
}

/// A place for a result, which must not be NULL.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// # Safety
    ///
    /// The pointer is NULL, or valid for a write of a `T` until the `Out` is gone.
    #[inline(always)]
    pub(crate) unsafe fn new(pointer: *mut T, what: &str) -> Result<Out<T>, Failure> {
        match pointer.is_null() {
            true => Err(Failure::argument(format!("the place for the {what} is NULL"))),
            false => Ok(Out(pointer)),
        }
    }

    #[inline(always)]
    pub(crate) fn set(&self, value: T) {
        // SAFETY: The caller of new() promised a place for a `T` as long as `self` lives, and new() refused NULL.
        unsafe { self.0.write(value) };
    }

    pub(crate) fn as_ptr(&self) -> *mut T {
        self.0
    }
}

/// Writes a result to a place that may be NULL.
///
/// # Safety
///
/// The pointer is NULL, or valid for a write.
#[inline(always)]
pub(crate) unsafe fn set_if_wanted<T>(pointer: *mut T, value: T) {
    if !pointer.is_null() {
        // SAFETY: The caller promises a place for a `T` where the pointer is not NULL.
        unsafe { pointer.write(value) };
    }
}

/// Bytes of a string without its zero byte; 0 for NULL.
///
/// # Safety
///
/// The pointer is NULL, or a string that ends with a zero byte.
pub(crate) unsafe fn length_of(pointer: *const c_char) -> usize {
    // SAFETY: The caller promises a string that ends with a zero byte where the pointer is not NULL.
    if pointer.is_null() { 0 } else { unsafe { CStr::from_ptr(pointer) }.count_bytes() }
}

/// A name or another text of `length` bytes.
///
/// # Safety
///
/// The pointer is NULL, or valid for reads of `length` bytes that stay unchanged during `'a`.
pub(crate) unsafe fn string<'a>(
    pointer: *const c_char,
    length: usize,
    what: &str,
) -> Result<&'a str, Failure> {
    if pointer.is_null() {
        return Err(Failure::argument(format!("the {what} is NULL")));
    }
    // SAFETY: This function's caller promises of pointer and length what bytes() asks for.
    let text = unsafe { bytes(pointer.cast(), length) }?;
    std::str::from_utf8(text).map_err(|_| {
        let shown = String::from_utf8_lossy(text);
        Failure::new(crate::error::ZB_ERROR_INVALID_NAME, "", format!("the {what} `{shown}` is not UTF-8"))
    })
}

/// Bytes to be read; NULL is fine for none.
///
/// # Safety
///
/// The pointer is NULL, or valid for reads of `size` bytes that stay unchanged during `'a`.
#[inline(always)]
pub(crate) unsafe fn bytes<'a>(data: *const u8, size: usize) -> Result<&'a [u8], Failure> {
    if size == 0 {
        return Ok(&[]);
    }
    if data.is_null() || size > isize::MAX as usize {
        return Err(bad_bytes(size));
    }
    // SAFETY: The caller promises `size` readable bytes that do not change during `'a`; NULL and sizes beyond those of a slice
    // were refused above.
    Ok(unsafe { std::slice::from_raw_parts(data, size) })
}

#[cold]
fn bad_bytes(size: usize) -> Failure {
    Failure::argument(format!("the data is NULL, or its size of {size} bytes cannot be"))
}

/// A time-out: 0 polls once, a negative one waits without limit.
#[inline(always)]
pub(crate) fn timeout(milliseconds: i64) -> Duration {
    u64::try_from(milliseconds).map_or(Duration::MAX, Duration::from_millis)
}
