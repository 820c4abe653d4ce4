//! Buffers that exist before their reader does.

use std::ffi::c_char;

use zerobuffer::KeptBuffer;

use crate::arguments::{Out, handle, length_of, passed, set_if_wanted, string};
use crate::config::{config_or_default, give, take, zb_config};
use crate::error::{ZB_OK, zb_error, zb_status};
use crate::exclusive::{Closed, Exclusive};
use crate::panic::guarded_wait;

/// A buffer kept for a reader that comes later, which takes it over with the frames in it.
///
/// Used by one thread at a time: a second one gets `ZB_ERROR_INVALID_STATE`.
pub struct zb_kept_buffer {
    kept: Exclusive<KeptBuffer>,
}

/// Creates the buffer `name`, to be taken over by a reader that comes later. `config` may be NULL for all defaults. Free it with
/// `zb_kept_buffer_free`.
///
/// Errors: those of `zb_reader_create`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_kept_buffer_create(
    name: *const c_char,
    config: *const zb_config,
    kept: *mut *mut zb_kept_buffer,
    error: *mut *mut zb_error,
) -> zb_status {
    passed!(zb_kept_buffer_create_n(name, length_of(name), config, kept, error))
}

/// Like `zb_kept_buffer_create`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_kept_buffer_create_n(
    name: *const c_char,
    length: usize,
    config: *const zb_config,
    kept: *mut *mut zb_kept_buffer,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (out, name, config) =
            passed!(Out::new(kept, "kept buffer")?, string(name, length, "name")?, config_or_default(config));
        out.set(std::ptr::null_mut());
        let kept = KeptBuffer::create(name, config)?;
        out.set(give(zb_kept_buffer { kept: Exclusive::new(name, kept) }));
        Ok(ZB_OK)
    })
}

/// Whether a reader has taken the buffer over.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_kept_buffer_is_adopted(
    kept: *const zb_kept_buffer,
    adopted: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, out) = passed!(handle(kept, "kept buffer")?, Out::new(adopted, "answer")?);
        out.set(false);
        out.set(handle.kept.enter()?.is_adopted());
        Ok(ZB_OK)
    })
}

/// Ends the keeping. `adopted`, which may be NULL, gets whether a reader had taken the buffer over. If none
/// had, its names are removed and the frames in it are lost. The handle must still be freed. A second close
/// does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_kept_buffer_close(
    kept: *const zb_kept_buffer,
    adopted: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let handle = passed!(handle(kept, "kept buffer")?);
        let was = match handle.kept.close(|| ()) {
            Closed::Now(kept) => kept.close()?,
            Closed::Later | Closed::Before => false,
        };
        passed!(set_if_wanted(adopted, was));
        Ok(ZB_OK)
    })
}

/// Ends the keeping, if it has not ended, and frees the handle. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_kept_buffer_free(kept: *mut zb_kept_buffer) {
    passed!(take(kept));
}
