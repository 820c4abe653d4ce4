//! The library's log, for callbacks of C.

use std::cell::RefCell;
use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::arguments::{Out, passed};
use crate::callback::{UserData, zb_destroy};
use crate::config::{give, take};
use crate::error::{Failure, ZB_ERROR_INVALID_STATE, ZB_OK, text, zb_error, zb_status};
use crate::panic::guarded_wait;

/// The level of a message, or the level up to which messages are wanted.
pub type zb_log_level = i32;
/// No messages.
pub const ZB_LOG_OFF: zb_log_level = 0;
/// Permanent failures.
pub const ZB_LOG_ERROR: zb_log_level = 1;
/// Problems that a person should look at.
pub const ZB_LOG_WARN: zb_log_level = 2;
/// Events, such as a clean-up of what a dead process left.
pub const ZB_LOG_INFO: zb_log_level = 3;
/// Details that help to find a fault.
pub const ZB_LOG_DEBUG: zb_log_level = 4;
/// All messages.
pub const ZB_LOG_TRACE: zb_log_level = 5;

/// Gets one message. It may be called on several threads at once. It runs in the middle of a call: it may
/// close that call's handle and add or remove loggers, and must call nothing else. Must not unwind.
pub type zb_log_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        level: zb_log_level,
        target: *const c_char,
        message: *const c_char,
    ),
>;

type Function = unsafe extern "C" fn(*mut c_void, zb_log_level, *const c_char, *const c_char);

/// A logger that gets the library's messages, from `zb_logger_add` to `zb_logger_remove`.
pub struct zb_logger {
    hook: Arc<Hook>,
}

struct Hook {
    function: Function,
    level: LevelFilter,
    /// Calls of the function that are under way.
    calls: AtomicUsize,
    data: UserData,
}

/// All loggers.
struct Loggers(RwLock<Vec<Arc<Hook>>>);

static LOGGERS: Loggers = Loggers(RwLock::new(Vec::new()));

/// The logger that zb_set_logger has set.
static SET: Mutex<Option<Arc<Hook>>> = Mutex::new(None);

/// How often a removal checks whether the last call has ended.
const LOOK: Duration = Duration::from_micros(100);

thread_local! {
    /// The hooks whose functions are running on this thread, innermost last.
    static RUNNING: RefCell<Vec<*const Hook>> = const { RefCell::new(Vec::new()) };
}

impl Log for Loggers {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // The lock is not held during the calls, which may add and remove loggers. A hook counts its calls from under the lock,
        // so that a removal, which takes the hook out first, misses none.
        let hooks: Vec<Call> = {
            let hooks = self.0.read().unwrap_or_else(PoisonError::into_inner);
            hooks.iter().filter(|hook| record.level() <= hook.level).map(Call::begin).collect()
        };
        if hooks.is_empty() {
            return;
        }
        let level = match record.level() {
            Level::Error => ZB_LOG_ERROR,
            Level::Warn => ZB_LOG_WARN,
            Level::Info => ZB_LOG_INFO,
            Level::Debug => ZB_LOG_DEBUG,
            Level::Trace => ZB_LOG_TRACE,
        };
        let (target, message) = (text(record.target()), text(record.args().to_string()));
        for call in hooks {
            let hook = &call.0;
            RUNNING.with_borrow_mut(|running| running.push(Arc::as_ptr(hook)));
            // SAFETY: The caller who added the logger promises that the function fits its user data, which `hook` keeps alive.
            unsafe { (hook.function)(hook.data.get(), level, target.as_ptr(), message.as_ptr()) };
            RUNNING.with_borrow_mut(|running| _ = running.pop());
        }
    }

    fn flush(&self) {}
}

/// A call of a hook that is to come, or under way.
struct Call(Arc<Hook>);

impl Call {
    fn begin(hook: &Arc<Hook>) -> Call {
        // Relaxed: under the lock that a removal takes before it reads.
        hook.calls.fetch_add(1, Ordering::Relaxed);
        Call(Arc::clone(hook))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Release pairs with the Acquire in remove().
        self.0.calls.fetch_sub(1, Ordering::Release);
    }
}

impl Loggers {
    /// Changes the list.
    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Hook>>)) {
        let mut hooks = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut hooks);
        let most = hooks.iter().map(|hook| hook.level).max();
        log::set_max_level(most.unwrap_or(LevelFilter::Off));
    }

    fn add(&self, hook: &Arc<Hook>) -> Result<(), Failure> {
        // From the second time on this is refused, because the logger is set already.
        let set = log::set_logger(&LOGGERS);
        if set.is_err() && !std::ptr::addr_eq(log::logger(), &raw const LOGGERS) {
            let message =
                "this program has a logger of its own for Rust's `log` crate, which gets the messages";
            return Err(Failure::new(ZB_ERROR_INVALID_STATE, "", message));
        }
        self.change(|hooks| hooks.push(Arc::clone(hook)));
        Ok(())
    }

    /// Takes a hook out, and waits until no other thread is in its function.
    fn remove(&self, hook: &Arc<Hook>) {
        let process = std::process::id();
        self.change(|hooks| hooks.retain(|other| !Arc::ptr_eq(other, hook)));
        let own =
            || RUNNING.with_borrow(|running| running.iter().filter(|run| **run == Arc::as_ptr(hook)).count());
        // Acquire pairs with the Release at a call's end.
        while hook.calls.load(Ordering::Acquire) > own() && process == hook.data.process() {
            std::thread::sleep(LOOK);
        }
    }
}

fn filter_of(level: zb_log_level) -> Result<LevelFilter, Failure> {
    match level {
        ZB_LOG_OFF => Ok(LevelFilter::Off),
        ZB_LOG_ERROR => Ok(LevelFilter::Error),
        ZB_LOG_WARN => Ok(LevelFilter::Warn),
        ZB_LOG_INFO => Ok(LevelFilter::Info),
        ZB_LOG_DEBUG => Ok(LevelFilter::Debug),
        ZB_LOG_TRACE => Ok(LevelFilter::Trace),
        other => Err(Failure::argument(format!("there is no log level {other}"))),
    }
}

/// Adds a logger, which gets the library's messages up to `level`, like every other added logger. `destroy`,
/// which may be NULL, is called with `user_data` when the callback is not used any more, or when this
/// function fails. Remove it with `zb_logger_remove`.
///
/// The library logs clean-up and repair only, never on the way of a frame.
///
/// Errors: `INVALID_ARGUMENT` (no callback, or no such level); `INVALID_STATE` if the program already has a logger of Rust's
/// `log` crate, which gets the messages then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_logger_add(
    callback: zb_log_callback,
    level: zb_log_level,
    user_data: *mut c_void,
    destroy: zb_destroy,
    logger: *mut *mut zb_logger,
    error: *mut *mut zb_error,
) -> zb_status {
    let data = UserData::new(user_data, destroy);
    guarded_wait!(error, {
        let out = passed!(Out::new(logger, "logger")?);
        out.set(std::ptr::null_mut());
        let function = callback.ok_or_else(|| Failure::argument("the callback is NULL"))?;
        let hook = Arc::new(Hook { function, level: filter_of(level)?, calls: AtomicUsize::new(0), data });
        LOGGERS.add(&hook)?;
        out.set(give(zb_logger { hook }));
        Ok(ZB_OK)
    })
}

/// Removes a logger and frees it. When this returns, no thread is in its callback, and none will enter it, so
/// its code may be unloaded. A call from the callback itself does not wait for that callback. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_logger_remove(logger: *mut zb_logger) {
    if let Some(logger) = passed!(logger.as_ref()) {
        LOGGERS.remove(&logger.hook);
    }
    passed!(take(logger));
}

/// Sets a callback for the library's messages up to `level`, in place of the one that an earlier call of this
/// function set; NULL for none. Loggers of `zb_logger_add` stay. Use `zb_logger_add` in libraries that may be
/// unloaded, or of which a program may have several. `destroy`, which may be NULL, is called with `user_data`
/// when the callback is not used any more, or when this function fails.
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
    guarded_wait!(error, {
        let level = filter_of(level)?;
        let hook =
            callback.map(|function| Arc::new(Hook { function, level, calls: AtomicUsize::new(0), data }));
        if let Some(hook) = &hook {
            LOGGERS.add(hook)?;
        }
        let before = std::mem::replace(&mut *SET.lock().unwrap_or_else(PoisonError::into_inner), hook);
        if let Some(before) = before {
            LOGGERS.change(|hooks| hooks.retain(|other| !Arc::ptr_eq(other, &before)));
            // The last user of the callback destroys its data: this call, or a thread that is still in it. No lock is held.
            drop(before);
        }
        Ok(ZB_OK)
    })
}
