//! Descriptors for event loops, and callbacks for those that have none.

use std::ffi::{c_int, c_void};
use std::os::fd::AsRawFd;

use crate::arguments::{handle, passed, set_if_wanted};
use crate::callback::{UserData, zb_destroy};
use crate::client::zb_client;
use crate::error::{Failure, ZB_ERROR_INVALID_ARGUMENT, ZB_OK, zb_error, zb_status};
use crate::panic::{guarded_or, guarded_wait};
use crate::reader::zb_reader;
use crate::writer::zb_writer;

/// Called once by a thread of the library. Must not wait, and should only pass the news on: wake a thread, or post to an event loop
/// (`zb_set_callback_threads` is for those that do more). It may call any function of this library.
pub type zb_notify = Option<unsafe extern "C" fn(user_data: *mut c_void)>;

/// Has at least `count` threads call back, at most 16, on which callbacks may do anything for any time: they have large stacks, and take
/// the signals that the thread takes which first sets a callback. As long as fewer than `count` callbacks run, others are called at once.
///
/// By default there is one thread, whose callbacks must not wait. To be called before the first callback is set. Returns false if it comes too
/// late, as long as a callback may still come. A larger count of an earlier call stays.
#[unsafe(no_mangle)]
pub extern "C" fn zb_set_callback_threads(count: usize) -> bool {
    guarded_or(false, || zerobuffer::set_callback_threads(count))
}

/// A callback with its user data.
struct Call {
    function: unsafe extern "C" fn(user_data: *mut c_void),
    data: UserData,
}

impl Call {
    /// # Safety
    ///
    /// The function fits the data, and both may be used from any thread ("Rules for callers").
    unsafe fn new(callback: zb_notify, user_data: *mut c_void, destroy: zb_destroy) -> Result<Call, Failure> {
        // Taken over first: it is destroyed in any case.
        let data = UserData::new(user_data, destroy);
        match callback {
            Some(function) => Ok(Call { function, data }),
            None => Err(Failure::new(ZB_ERROR_INVALID_ARGUMENT, "", "`callback` is NULL")),
        }
    }

    fn run(self) {
        // SAFETY: The caller promises that the function fits the data, and may be called from any thread. The data is
        // destroyed after it.
        unsafe { (self.function)(self.data.get()) };
    }
}

/// A file descriptor for event loops: *ready to read* (POLLIN, EPOLLIN) means that there may be a frame, or an end.
///
/// Works with poll, select, and epoll of both kinds. Poll it for reading only. It is ready at first. Whenever it is
/// ready, read with a time-out of 0: it stays ready until such a read returns `ZB_TIMEOUT`, so an edge-triggered
/// loop reads until then. Never read from it, write to it or close it: it is closed with the reader. A forked child has none.
///
/// Errors: `SYSTEM` if there is no file descriptor left, or no thread; `INVALID_STATE` in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_fd(
    reader: *const zb_reader,
    fd: *mut c_int,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        passed!(set_if_wanted(fd, -1));
        let inner = passed!(handle(reader, "reader")?).inner.enter()?;
        passed!(set_if_wanted(fd, inner.reader().descriptor()?.as_raw_fd()));
        Ok(ZB_OK)
    })
}

/// Calls `callback` once, as soon as there may be a frame, or an end: at once if the descriptor (`zb_reader_fd`) is ready. So read with a
/// time-out of 0 first, and ask when that returns `ZB_TIMEOUT`. One thread of the library calls back for the whole process, unless
/// `zb_set_callback_threads` asks for more. A second callback replaces one that still waits. It may come before this function
/// returns; until then this thread uses the reader, so another one that reads gets `INVALID_STATE`.
///
/// `destroy`, which may be NULL, is called exactly once with `user_data`: after the callback, when the callback is called off or
/// replaced, when the reader is closed, or before this function returns an error.
///
/// Errors: those of `zb_reader_fd`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_notify(
    reader: *const zb_reader,
    callback: zb_notify,
    user_data: *mut c_void,
    destroy: zb_destroy,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let call = passed!(Call::new(callback, user_data, destroy)?);
        let inner = passed!(handle(reader, "reader")?).inner.enter()?;
        inner.reader().notify(|| call.run())?;
        Ok(ZB_OK)
    })
}

/// Calls a callback of `zb_reader_notify` off. `waited`, which may be NULL, gets whether it still waited: if not, it has been called, or
/// is being called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_cancel_notify(
    reader: *const zb_reader,
    waited: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let inner = passed!(handle(reader, "reader")?).inner.enter()?;
        passed!(set_if_wanted(waited, inner.reader().cancel_notify()));
        Ok(ZB_OK)
    })
}

/// A file descriptor for event loops, like `zb_reader_fd`: *ready to read* means that there may be space, or an end. Poll it for reading, too.
/// It stays ready until a write that does not wait finds no space (`zb_writer_try_write_frame`).
///
/// Errors: `SYSTEM` if there is no file descriptor left, or no thread; `INVALID_STATE` in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_fd(
    writer: *const zb_writer,
    fd: *mut c_int,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        passed!(set_if_wanted(fd, -1));
        let inner = passed!(handle(writer, "writer")?).writer.enter()?;
        passed!(set_if_wanted(fd, inner.descriptor()?.as_raw_fd()));
        Ok(ZB_OK)
    })
}

/// Calls `callback` once, as soon as there may be space, or an end; otherwise like `zb_reader_notify`.
///
/// Errors: those of `zb_writer_fd`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_notify(
    writer: *const zb_writer,
    callback: zb_notify,
    user_data: *mut c_void,
    destroy: zb_destroy,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let call = passed!(Call::new(callback, user_data, destroy)?);
        let inner = passed!(handle(writer, "writer")?).writer.enter()?;
        inner.notify(|| call.run())?;
        Ok(ZB_OK)
    })
}

/// Calls a callback of `zb_writer_notify` off; otherwise like `zb_reader_cancel_notify`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_cancel_notify(
    writer: *const zb_writer,
    waited: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let inner = passed!(handle(writer, "writer")?).writer.enter()?;
        passed!(set_if_wanted(waited, inner.cancel_notify()));
        Ok(ZB_OK)
    })
}

/// A file descriptor for event loops, like `zb_reader_fd`: *ready to read* means that there may be a response for
/// `zb_client_receive_response`, or the channel's end. It stays ready until that returns `ZB_TIMEOUT` for a time-out of 0. It is closed
/// with `zb_client_free`. Other threads may use the client meanwhile.
///
/// Errors: `SYSTEM` if there is no file descriptor left, or no thread; `INVALID_STATE` in a forked child; the one
/// that ended the channel.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_fd(
    client: *const zb_client,
    fd: *mut c_int,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        passed!(set_if_wanted(fd, -1));
        let number = passed!(handle(client, "client")?).descriptor()?;
        passed!(set_if_wanted(fd, number));
        Ok(ZB_OK)
    })
}

/// Calls `callback` once, as soon as there may be a response for `zb_client_receive_response`, or the channel's end; otherwise like
/// `zb_reader_notify`.
///
/// Errors: those of `zb_client_fd`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_notify(
    client: *const zb_client,
    callback: zb_notify,
    user_data: *mut c_void,
    destroy: zb_destroy,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let call = passed!(Call::new(callback, user_data, destroy)?);
        passed!(handle(client, "client")?).client.notify(|| call.run())?;
        Ok(ZB_OK)
    })
}

/// Calls a callback of `zb_client_notify` off; otherwise like `zb_reader_cancel_notify`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_cancel_notify(
    client: *const zb_client,
    waited: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let cancelled = passed!(handle(client, "client")?).client.cancel_notify();
        passed!(set_if_wanted(waited, cancelled));
        Ok(ZB_OK)
    })
}

#[cfg(test)]
mod tests {
    use std::ptr::{null, null_mut};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::reader::{zb_reader_close, zb_reader_create, zb_reader_free, zb_reader_read_frame};
    use crate::writer::{zb_writer_connect, zb_writer_free, zb_writer_write_frame};

    /// How often it was called, and destroyed.
    #[derive(Default)]
    struct Seen {
        called: AtomicU32,
        destroyed: AtomicU32,
    }

    impl Seen {
        fn is(&self, called: u32, destroyed: u32) -> bool {
            (self.called.load(Ordering::SeqCst), self.destroyed.load(Ordering::SeqCst)) == (called, destroyed)
        }

        #[track_caller]
        fn becomes(&self, called: u32, destroyed: u32) {
            let start = Instant::now();
            while !self.is(called, destroyed) {
                assert!(start.elapsed() < Duration::from_secs(30), "no callback");
                std::thread::yield_now();
            }
        }
    }

    unsafe extern "C" fn called(data: *mut c_void) {
        // SAFETY: the tests pass a `Seen` that outlives all callbacks.
        unsafe { &*data.cast::<Seen>() }.called.fetch_add(1, Ordering::SeqCst);
    }

    unsafe extern "C" fn destroyed(data: *mut c_void) {
        // SAFETY: the tests pass a `Seen` that outlives the destruction of all callbacks.
        unsafe { &*data.cast::<Seen>() }.destroyed.fetch_add(1, Ordering::SeqCst);
    }

    #[test]
    fn a_callback_comes_once_and_its_data_is_destroyed_once() {
        let name = std::ffi::CString::new(format!("unit-ffi-notify-{}", std::process::id())).unwrap();
        let seen = Seen::default();
        let data = (&raw const seen).cast_mut().cast::<c_void>();
        let (mut reader, mut writer, mut fd, mut waited) = (null_mut(), null_mut(), 0, false);
        // SAFETY: by the rules for callers; `seen` outlives the handles.
        unsafe {
            assert_eq!(zb_reader_create(name.as_ptr(), null(), &raw mut reader, null_mut()), ZB_OK);
            assert_eq!(zb_reader_fd(reader, &raw mut fd, null_mut()), ZB_OK);
            assert!(fd > 2);
            let notify = || zb_reader_notify(reader, Some(called), data, Some(destroyed), null_mut());
            // It is ready at first.
            assert_eq!(notify(), ZB_OK);
            seen.becomes(1, 1);
            let mut frame = std::mem::zeroed();
            let mut read = || zb_reader_read_frame(reader, 0, &raw mut frame, null_mut());
            assert_eq!(read(), crate::error::ZB_TIMEOUT);
            assert_eq!(notify(), ZB_OK);
            assert!(seen.is(1, 1));
            // A second callback replaces the first.
            assert_eq!(notify(), ZB_OK);
            assert!(seen.is(1, 2));
            assert_eq!(zb_reader_cancel_notify(reader, &raw mut waited, null_mut()), ZB_OK);
            assert!(waited && seen.is(1, 3));
            assert_eq!(zb_reader_cancel_notify(reader, &raw mut waited, null_mut()), ZB_OK);
            assert!(!waited);
            assert_eq!(
                zb_reader_notify(reader, None, data, Some(destroyed), null_mut()),
                ZB_ERROR_INVALID_ARGUMENT
            );
            assert!(seen.is(1, 4));
            assert_eq!(notify(), ZB_OK);
            assert_eq!(zb_writer_connect(name.as_ptr(), null(), &raw mut writer, null_mut()), ZB_OK);
            assert_eq!(zb_writer_write_frame(writer, [1].as_ptr(), 1, null_mut(), null_mut()), ZB_OK);
            seen.becomes(2, 5);
            // A writer that has not looked for space is ready.
            assert_eq!(zb_writer_notify(writer, Some(called), data, Some(destroyed), null_mut()), ZB_OK);
            seen.becomes(3, 6);
            assert_eq!(zb_writer_fd(writer, &raw mut fd, null_mut()), ZB_OK);
            zb_writer_free(writer);
            // The end, perhaps the news of the writer.
            while read() != crate::error::ZB_TIMEOUT {}
            assert_eq!(notify(), ZB_OK);
            assert_eq!(zb_reader_close(reader, null_mut()), ZB_OK);
            // On a slow machine the watcher's late ring, a second after the writer's end, comes before the close.
            let times = if seen.is(4, 7) { 4 } else { 3 };
            assert!(seen.is(times, 7), "closing calls it off");
            assert_eq!(notify(), crate::error::ZB_ERROR_CLOSED);
            assert!(seen.is(times, 8));
            zb_reader_free(reader);
        }
    }
}
