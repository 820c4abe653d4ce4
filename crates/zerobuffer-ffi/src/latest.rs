//! The newest frame of a reader, past those before it.

use std::sync::atomic::Ordering;

use crate::arguments::{Out, handle, passed, timeout};
use crate::error::{ZB_OK, ZB_TIMEOUT, zb_error, zb_status};
use crate::frame::zb_frame;
use crate::panic::guarded;
use crate::reader::{at, ended, handed_out, zb_frame_ref, zb_reader};

/// Waits up to `timeout_ms` for a frame, and returns the newest one: those before it are passed over, and their space goes
/// back at once. `zb_reader_frames_skipped` counts them. Only frames of one writer are passed over: the newest frame of a
/// writer that ended comes before its end, and its end before the next writer's newest frame.
///
/// Statuses and errors are those of `zb_reader_read_frame`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_read_latest_frame(
    reader: *const zb_reader,
    timeout_ms: i64,
    frame: *mut zb_frame,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, place) = passed!(at(reader, frame)?);
        let mut inner = handle.enter()?;
        let read = inner.lending.reader().read_latest_frame(timeout(timeout_ms));
        let result = handed_out(handle, read, |frame| place.put(frame));
        handle.count_latest(&inner);
        result
    })
}

/// Like `zb_reader_read_latest_frame`, but lends the frame: see `zb_frame_ref`. First gives back the frame that was lent before,
/// if it was not released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_read_latest_frame_ref(
    reader: *const zb_reader,
    timeout_ms: i64,
    frame: *mut zb_frame_ref,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, out) = passed!(handle(reader, "reader")?, Out::new(frame, "frame")?);
        let mut inner = handle.enter().inspect_err(|_| out.set(zb_frame_ref::EMPTY))?;
        out.set(zb_frame_ref::EMPTY);
        let result = match inner.lending.lend_latest(timeout(timeout_ms)) {
            Ok(Some(frame)) => {
                out.set(zb_frame_ref { data: frame.as_ptr(), size: frame.len(), sequence: frame.sequence() });
                handle.lent.store(frame.sequence(), Ordering::Relaxed);
                Ok(ZB_OK)
            }
            Ok(None) => Ok(ZB_TIMEOUT),
            Err(error) => ended(handle, error),
        };
        handle.count_latest(&inner);
        result
    })
}

/// Frames that `zb_reader_read_latest_frame` and `zb_reader_read_latest_frame_ref` passed over so far. They do not count as read.
/// From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_frames_skipped(reader: *const zb_reader) -> u64 {
    passed!(reader.as_ref()).map_or(0, |handle| handle.frames_skipped.load(Ordering::Relaxed))
}
