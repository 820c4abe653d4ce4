//! The library's log, for a callback of the user's.

use std::ffi::{c_char, c_void};
use std::sync::{Arc, PoisonError, RwLock};

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::callback::{UserData, zb_destroy};
use crate::error::{Failure, ZB_ERROR_INVALID_STATE, ZB_OK, text, zb_error, zb_status};
use crate::panic::guarded;

/// How much a message matters, and how much is wanted.
pub type zb_log_level = i32;
/// Nothing at all.
pub const ZB_LOG_OFF: zb_log_level = 0;
/// What went wrong for good.
pub const ZB_LOG_ERROR: zb_log_level = 1;
/// What somebody should look at.
pub const ZB_LOG_WARN: zb_log_level = 2;
/// What happened, such as a clean-up of what a dead process left.
pub const ZB_LOG_INFO: zb_log_level = 3;
/// What helps to find a fault.
pub const ZB_LOG_DEBUG: zb_log_level = 4;
/// Everything.
pub const ZB_LOG_TRACE: zb_log_level = 5;

/// Gets one message; called on any thread, on more than one at once. Must not unwind.
pub type zb_log_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        level: zb_log_level,
        target: *const c_char,
        message: *const c_char,
    ),
>;

type Function = unsafe extern "C" fn(*mut c_void, zb_log_level, *const c_char, *const c_char);

struct Hook {
    function: Function,
    data: UserData,
}

struct Logger(RwLock<Option<Arc<Hook>>>);

static LOGGER: Logger = Logger(RwLock::new(None));

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // The lock is not held during the call, which may set another callback.
        let hook = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(hook) = hook else { return };
        let level = match record.level() {
            Level::Error => ZB_LOG_ERROR,
            Level::Warn => ZB_LOG_WARN,
            Level::Info => ZB_LOG_INFO,
            Level::Debug => ZB_LOG_DEBUG,
            Level::Trace => ZB_LOG_TRACE,
        };
        let (target, message) = (text(record.target()), text(record.args().to_string()));
        // SAFETY: The caller who set the callback promises that it fits its user data, which `hook` keeps alive.
        unsafe { (hook.function)(hook.data.get(), level, target.as_ptr(), message.as_ptr()) };
    }

    fn flush(&self) {}
}

/// Sets what gets the library's messages up to `level`, in place of an earlier one; NULL for nothing. `destroy`, which may be
/// NULL, is called with `user_data` when the callback is not used any more, also if this fails.
///
/// The library logs clean-up and repair only, never on the way of a frame.
///
/// Errors: `INVALID_ARGUMENT` (no such level); `INVALID_STATE` if the program already has a logger of Rust's `log` crate, which
/// gets the messages then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_set_logger(
    callback: zb_log_callback,
    level: zb_log_level,
    user_data: *mut c_void,
    destroy: zb_destroy,
    error: *mut *mut zb_error,
) -> zb_status {
    let data = UserData::new(user_data, destroy);
    guarded!(error, {
        let filter = match level {
            ZB_LOG_OFF => LevelFilter::Off,
            ZB_LOG_ERROR => LevelFilter::Error,
            ZB_LOG_WARN => LevelFilter::Warn,
            ZB_LOG_INFO => LevelFilter::Info,
            ZB_LOG_DEBUG => LevelFilter::Debug,
            ZB_LOG_TRACE => LevelFilter::Trace,
            other => return Err(Failure::argument(format!("there is no log level {other}"))),
        };
        let hook = callback.map(|function| Arc::new(Hook { function, data }));
        let is_some = hook.is_some();
        // A second time it is refused, as ours is set already.
        let set = log::set_logger(&LOGGER);
        let ours = set.is_ok() || std::ptr::addr_eq(log::logger(), &raw const LOGGER);
        if !ours {
            let message =
                "this program has a logger of its own for Rust's `log` crate, which gets the messages";
            return Err(Failure::new(ZB_ERROR_INVALID_STATE, "", message));
        }
        let before = {
            let mut current = LOGGER.0.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, hook)
        };
        log::set_max_level(if is_some { filter } else { LevelFilter::Off });
        // Its destroy function may call us again: the lock is free by now.
        drop(before);
        Ok(ZB_OK)
    })
}
