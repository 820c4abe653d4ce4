//! The reading side of a buffer.

use std::ffi::{CString, c_char};
use std::sync::atomic::{AtomicU64, Ordering};

use zerobuffer::{ErrorKind, Frame, InterruptHandle, Reader};

use crate::arguments::{Out, handle, passed, string, timeout};
use crate::config::{config_or_default, give, take, zb_config};
use crate::error::{Failure, ZB_END_OF_STREAM, ZB_OK, ZB_TIMEOUT, text, zb_error, zb_status};
use crate::exclusive::{Entered, Exclusive};
use crate::frame::{Place, zb_frame};
use crate::interrupt::zb_interrupt;
use crate::lending::Lending;
use crate::panic::{guarded, guarded_or};

/// The reading side of a buffer: creates it, owns it, removes it.
///
/// Used by one thread at a time: a second one gets `ZB_ERROR_INVALID_STATE`. `zb_reader_interrupt`, `zb_reader_close`,
/// `zb_reader_name` and the counters may be used from any thread at any time.
pub struct zb_reader {
    inner: Exclusive<Inner>,
    interrupt: InterruptHandle,
    name: CString,
    // As of the last call that read, so that other threads may ask.
    frames_read: AtomicU64,
    bytes_read: AtomicU64,
}

/// A frame that its reader lends until the reader's next call: bytes in shared memory, without the cost of owning them. `data` is
/// NULL when there was nothing to read.
///
/// The loan ends with any further call of the reader but its name, counters, metadata and interrupts, with
/// `zb_reader_release_frame_ref`, and when the reader is closed (its bytes may be looked at until the reader is freed, but are
/// not the frame's any more). One at a time, and for the thread that uses the reader.
#[repr(C)]
pub struct zb_frame_ref {
    /// The first byte.
    pub data: *const u8,
    /// Bytes of data.
    pub size: usize,
    /// The number that the writer gave the frame: 1, 2, 3 ...
    pub sequence: u64,
}

impl zb_frame_ref {
    const EMPTY: zb_frame_ref = zb_frame_ref { data: std::ptr::null(), size: 0, sequence: 0 };
}

struct Inner {
    lending: Lending,
    /// Kept for its memory.
    batch: Vec<Frame>,
}

impl zb_reader {
    #[inline(always)]
    fn count(&self, inner: &Entered<'_, Inner>) {
        // Relaxed: numbers for people.
        let reader = inner.lending.look();
        self.frames_read.store(reader.frames_read(), Ordering::Relaxed);
        self.bytes_read.store(reader.bytes_read(), Ordering::Relaxed);
    }
}

/// Where the core reports the end of a stream as an error, the ABI has a status.
#[inline(always)]
pub(crate) fn ended(error: zerobuffer::Error) -> Result<zb_status, Failure> {
    match error.kind() {
        ErrorKind::WriterClosed => Ok(ZB_END_OF_STREAM),
        _ => Err(error.into()),
    }
}

/// Creates the buffer `name` and becomes its reader. `config` may be NULL for all defaults. Free it with `zb_reader_free`.
///
/// Whatever a dead reader left under this name is removed first; a kept buffer is taken over, with the frames in it.
///
/// Errors: `INVALID_NAME`, `INVALID_CONFIG`, `READER_ALREADY_CONNECTED`, `OUT_OF_MEMORY`, `PERMISSION_DENIED`,
/// `INCOMPATIBLE_PROTOCOL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_create(
    name: *const c_char,
    config: *const zb_config,
    reader: *mut *mut zb_reader,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (out, name, config) =
            passed!(Out::new(reader, "reader")?, string(name, "name")?, config_or_default(config));
        out.set(std::ptr::null_mut());
        let reader = Reader::create(name, config)?;
        out.set(give(zb_reader {
            interrupt: reader.interrupt_handle(),
            inner: Exclusive::new(name, Inner { lending: Lending::new(reader), batch: Vec::new() }),
            name: text(name),
            frames_read: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
        }));
        Ok(ZB_OK)
    })
}

/// Waits up to `timeout_ms` for the next frame: `ZB_OK` and a frame, or `ZB_TIMEOUT`, or `ZB_END_OF_STREAM`, or an error, and
/// an empty frame. 0 polls once, a negative time-out waits for ever.
///
/// Errors: `WRITER_DEAD` (once, after everything that the writer had committed), `SEQUENCE_ERROR`, `CORRUPT_BUFFER`,
/// `INTERRUPTED`, `BUFFER_NOT_FOUND`, `CLOSED`, `INVALID_STATE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_read_frame(
    reader: *const zb_reader,
    timeout_ms: i64,
    frame: *mut zb_frame,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, place) = passed!(at(reader, frame)?);
        let mut inner = handle.inner.enter()?;
        match inner.lending.reader().read_frame(timeout(timeout_ms)) {
            Ok(Some(frame)) => {
                place.put(frame);
                handle.count(&inner);
                Ok(ZB_OK)
            }
            Ok(None) => Ok(ZB_TIMEOUT),
            Err(error) => ended(error),
        }
    })
}

/// The next frame if there is one now; as `zb_reader_read_frame` with a time-out of 0, but leaves interrupts alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_try_read_frame(
    reader: *const zb_reader,
    frame: *mut zb_frame,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, place) = passed!(at(reader, frame)?);
        let mut inner = handle.inner.enter()?;
        match inner.lending.reader().try_read_frame() {
            Ok(Some(frame)) => {
                place.put(frame);
                handle.count(&inner);
                Ok(ZB_OK)
            }
            Ok(None) => Ok(ZB_TIMEOUT),
            Err(error) => ended(error),
        }
    })
}

/// As `zb_reader_read_frame`, but the frame is lent, and the cheapest to be had: see `zb_frame_ref`. Gives back the one that was
/// lent before, if it was not released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_read_frame_ref(
    reader: *const zb_reader,
    timeout_ms: i64,
    frame: *mut zb_frame_ref,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, out) = passed!(handle(reader, "reader")?, Out::new(frame, "frame")?);
        let mut inner = handle.inner.enter().inspect_err(|_| out.set(zb_frame_ref::EMPTY))?;
        match inner.lending.lend(timeout(timeout_ms)) {
            Ok(Some(frame)) => {
                out.set(zb_frame_ref { data: frame.as_ptr(), size: frame.len(), sequence: frame.sequence() });
                handle.count(&inner);
                Ok(ZB_OK)
            }
            Ok(None) => {
                out.set(zb_frame_ref::EMPTY);
                Ok(ZB_TIMEOUT)
            }
            Err(error) => {
                out.set(zb_frame_ref::EMPTY);
                ended(error)
            }
        }
    })
}

/// Gives the frame back that the reader has lent, if any, without reading the next one.
///
/// Errors: `CLOSED`, `INVALID_STATE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_release_frame_ref(
    reader: *const zb_reader,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        passed!(handle(reader, "reader")?).inner.enter()?.lending.end();
        Ok(ZB_OK)
    })
}

/// The reader, and the place for a frame, made empty.
///
/// # Safety
///
/// Each pointer is NULL or as the rules for callers say.
#[inline(always)]
unsafe fn at<'a>(reader: *const zb_reader, frame: *mut zb_frame) -> Result<(&'a zb_reader, Place), Failure> {
    // SAFETY: This function's caller promises of each pointer what the checks ask for.
    unsafe {
        let place = Place::empty(Out::new(frame, "frame")?.as_ptr());
        Ok((handle(reader, "reader")?, place))
    }
}

/// Waits up to `timeout_ms` for a first frame, then takes it and those behind it, at most `max`, without waiting again.
/// `frames` has room for `max` frames; `*count` of them are filled, and each is to be released.
///
/// As `zb_reader_read_frame`; a failure only when there is no frame.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_read_frames(
    reader: *const zb_reader,
    frames: *mut zb_frame,
    max: usize,
    timeout_ms: i64,
    count: *mut usize,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, frames, count) =
            passed!(handle(reader, "reader")?, Out::new(frames, "frames")?, Out::new(count, "count")?);
        count.set(0);
        let mut inner = handle.inner.enter()?;
        let Inner { lending, batch } = &mut *inner;
        let read = match lending.reader().read_frames(batch, max, timeout(timeout_ms)) {
            Ok(0) => return Ok(ZB_TIMEOUT),
            Ok(read) => read,
            Err(error) => return ended(error),
        };
        for (index, frame) in batch.drain(..).enumerate() {
            // SAFETY: The caller promises room for `max` frames at `frames`, and `index` is less than that, as the core reads
            // at most `max`.
            unsafe { Place::empty(frames.as_ptr().add(index)) }.put(frame);
        }
        count.set(read);
        handle.count(&inner);
        Ok(ZB_OK)
    })
}

/// Whether a writer lives, or frames that one committed are still unread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_is_writer_connected(
    reader: *const zb_reader,
    connected: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, out) = passed!(handle(reader, "reader")?, Out::new(connected, "answer")?);
        out.set(false);
        out.set(handle.inner.enter()?.lending.reader().is_writer_connected());
        Ok(ZB_OK)
    })
}

/// Waits up to `timeout_ms` for a writer: `ZB_OK` when one is there (or was, and left frames), else `ZB_TIMEOUT`.
///
/// Errors: `INTERRUPTED`, `BUFFER_NOT_FOUND`, `SYSTEM`, `CLOSED`, `INVALID_STATE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_wait_for_writer(
    reader: *const zb_reader,
    timeout_ms: i64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let mut inner = passed!(handle(reader, "reader")?).inner.enter()?;
        let there = inner.lending.reader().wait_for_writer(timeout(timeout_ms))?;
        Ok(if there { ZB_OK } else { ZB_TIMEOUT })
    })
}

/// Copies the metadata into `target`, as far as its `capacity` reaches, and sets `*size` to its whole size; 0 and
/// `ZB_TIMEOUT` if the writer has set none yet. To learn the size first, pass NULL and 0.
///
/// Errors: `CORRUPT_BUFFER`, `CLOSED`, `INVALID_STATE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_get_metadata(
    reader: *const zb_reader,
    target: *mut u8,
    capacity: usize,
    size: *mut usize,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, size) = passed!(handle(reader, "reader")?, Out::new(size, "size")?);
        size.set(0);
        if target.is_null() && capacity > 0 {
            return Err(Failure::argument("the target is NULL, and its capacity is not 0"));
        }
        let Some(metadata) = handle.inner.enter()?.lending.look().metadata()? else { return Ok(ZB_TIMEOUT) };
        size.set(metadata.len());
        if capacity > 0 {
            // SAFETY: The caller promises `capacity` writable bytes at `target`, which is not NULL and cannot overlap `metadata`,
            // a fresh copy on the heap.
            unsafe { target.copy_from_nonoverlapping(metadata.as_ptr(), metadata.len().min(capacity)) };
        }
        Ok(ZB_OK)
    })
}

/// Frames read so far. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_frames_read(reader: *const zb_reader) -> u64 {
    passed!(reader.as_ref()).map_or(0, |handle| handle.frames_read.load(Ordering::Relaxed))
}

/// Bytes of data (without headers) read so far. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_bytes_read(reader: *const zb_reader) -> u64 {
    passed!(reader.as_ref()).map_or(0, |handle| handle.bytes_read.load(Ordering::Relaxed))
}

/// The buffer's name; valid until the reader is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_name(reader: *const zb_reader) -> *const c_char {
    passed!(reader.as_ref()).map_or(c"".as_ptr(), |handle| handle.name.as_ptr())
}

/// Makes the reader's call that is blocked now, or else the next one that may block, fail once with `ZB_ERROR_INTERRUPTED`.
/// From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_interrupt(reader: *const zb_reader) {
    guarded_or((), || {
        if let Some(handle) = passed!(reader.as_ref()) {
            handle.interrupt.interrupt();
        }
    });
}

/// An interrupt that may outlive the reader; NULL for NULL. Free it with `zb_interrupt_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_interrupt_handle(reader: *const zb_reader) -> *mut zb_interrupt {
    guarded_or(std::ptr::null_mut(), || {
        passed!(reader.as_ref())
            .map_or(std::ptr::null_mut(), |reader| give(zb_interrupt { handle: reader.interrupt.clone() }))
    })
}

/// Closes the reader and removes the buffer's names. From any thread: a call that is blocked fails with `INTERRUPTED`, later
/// ones with `CLOSED`. Frames still held stay valid; the handle is still to be freed. A second close does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_close(reader: *const zb_reader, error: *mut *mut zb_error) -> zb_status {
    guarded!(error, {
        let handle = passed!(handle(reader, "reader")?);
        if let Some(inner) = handle.inner.close(|| handle.interrupt.interrupt()) {
            inner.lending.close()?;
        }
        Ok(ZB_OK)
    })
}

/// Closes the reader, if that was not done, and frees it. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_free(reader: *mut zb_reader) {
    passed!(take(reader));
}
