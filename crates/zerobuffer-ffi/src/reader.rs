//! The reading side of a buffer.

use std::ffi::{CString, c_char};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use zerobuffer::{ErrorKind, Frame, Reader, WriterWatch};

use crate::arguments::{Out, handle, length_of, passed, string, timeout};
use crate::config::{config_or_default, give, take, zb_config};
use crate::error::{
    Failure, ZB_END_OF_STREAM, ZB_ERROR_INVALID_STATE, ZB_OK, ZB_TIMEOUT, text, zb_error, zb_status,
};
use crate::exclusive::{Closed, Entered, Exclusive};
use crate::frame::{Place, zb_frame};
use crate::interrupt::zb_interrupt;
use crate::lending::Lending;
use crate::panic::{guarded, guarded_or, guarded_wait};
use crate::peer::Peer;

/// The reading side of a buffer: creates it, owns it, removes it.
///
/// Used by one thread at a time: a second one gets `ZB_ERROR_INVALID_STATE`. `zb_reader_interrupt`,
/// `zb_reader_clear_interrupt`, `zb_reader_close`, `zb_reader_is_writer_connected`, `zb_reader_release_frame_ref_of`,
/// `zb_reader_name` and the counters may be used from any thread at any time.
pub struct zb_reader {
    pub(crate) inner: Exclusive<Inner>,
    pub(crate) peer: Peer<WriterWatch>,
    name: CString,
    /// The number of the frame that is lent; 0 if none is, or a call that ends the loan has begun.
    pub(crate) lent: AtomicU64,
    /// The frame that was lent when the reader was closed.
    left: Mutex<Option<Frame>>,
    // As of the last call that read, so that other threads may ask.
    cursor: AtomicU64,
    frames_read: AtomicU64,
    pub(crate) frames_skipped: AtomicU64,
    bytes_read: AtomicU64,
}

/// A frame that its reader lends until the reader's next call: bytes in shared memory, without the cost of owning them. `data` is
/// NULL when there was nothing to read.
///
/// A reader lends one frame at a time. The loan ends with the next call that reads or waits for a writer,
/// with `zb_reader_release_frame_ref`, with `zb_reader_release_frame_ref_of` on any thread, or with
/// `zb_reader_keep_frame_ref`, which turns it into an owned frame. Closing the reader does not end the loan:
/// it lasts until one of the last three calls, or until the reader is freed.
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
    pub(crate) const EMPTY: zb_frame_ref = zb_frame_ref { data: std::ptr::null(), size: 0, sequence: 0 };
}

pub(crate) struct Inner {
    pub(crate) lending: Lending,
    /// Keeps the memory mapped.
    batch: Vec<Frame>,
}

impl Inner {
    pub(crate) fn reader(&self) -> &Reader {
        self.lending.look()
    }
}

impl zb_reader {
    /// Enters a call that ends the loan.
    #[inline(always)]
    pub(crate) fn enter(&self) -> Result<Entered<'_, Inner>, Failure> {
        let inner = self.inner.enter()?;
        // Relaxed: a thread that still reads the old number waits, and reads again.
        self.lent.store(0, Ordering::Relaxed);
        Ok(inner)
    }

    /// Takes the reader out of the handle, which is as good as closed from then on.
    pub(crate) fn take_over(&self) -> Result<Reader, Failure> {
        // Fails if another thread uses it, or it is closed.
        drop(self.enter()?);
        match self.inner.close(|| ()) {
            Closed::Now(inner) => {
                self.peer.end();
                Ok(inner.lending.into_reader())
            }
            Closed::Later | Closed::Before => Err(self.inner.refusal()),
        }
    }

    /// Frames and bytes read, as of the last call that read.
    pub(crate) fn counters(&self) -> (u64, u64) {
        (self.frames_read.load(Ordering::Relaxed), self.bytes_read.load(Ordering::Relaxed))
    }

    /// Takes the frame that was lent when the reader was closed, if it is the one that is wanted.
    fn take_left(&self, wanted: impl FnOnce(&Frame) -> bool) -> Option<Frame> {
        if self.inner.is_forked() {
            return None;
        }
        // No critical section can panic with the state half-changed.
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.as_ref().is_some_and(wanted) { left.take() } else { None }
    }

    #[inline(always)]
    pub(crate) fn count(&self, inner: &Entered<'_, Inner>) {
        // Relaxed: the counters order nothing.
        let reader = inner.lending.look();
        self.cursor.store(reader.cursor(), Ordering::Relaxed);
        self.frames_read.store(reader.frames_read(), Ordering::Relaxed);
        self.bytes_read.store(reader.bytes_read(), Ordering::Relaxed);
    }

    /// As `count`, after a call that may have passed over frames.
    pub(crate) fn count_latest(&self, inner: &Entered<'_, Inner>) {
        self.count(inner);
        self.frames_skipped.store(inner.lending.look().frames_skipped(), Ordering::Relaxed);
    }
}

/// Turns the core's error for the end of a stream into the ABI's status.
#[inline(always)]
pub(crate) fn ended(handle: &zb_reader, error: zerobuffer::Error) -> Result<zb_status, Failure> {
    match error.kind() {
        ErrorKind::WriterClosed => Ok(ZB_END_OF_STREAM),
        _ => Err(handle.inner.why(error)),
    }
}

/// The status of a call that reads; `take` gets the frame, if there is one.
#[inline(always)]
pub(crate) fn handed_out(
    handle: &zb_reader,
    read: zerobuffer::Result<Option<Frame>>,
    take: impl FnOnce(Frame),
) -> Result<zb_status, Failure> {
    match read {
        Ok(Some(frame)) => {
            take(frame);
            Ok(ZB_OK)
        }
        Ok(None) => Ok(ZB_TIMEOUT),
        Err(error) => ended(handle, error),
    }
}

/// Creates the buffer `name` and becomes its reader. `config` may be NULL for all defaults. Free it with `zb_reader_free`.
///
/// First removes the files that a dead reader left under this name. Takes over a kept buffer, with the frames
/// in it.
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
    passed!(zb_reader_create_n(name, length_of(name), config, reader, error))
}

/// Like `zb_reader_create`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_create_n(
    name: *const c_char,
    length: usize,
    config: *const zb_config,
    reader: *mut *mut zb_reader,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (out, name, config) =
            passed!(Out::new(reader, "reader")?, string(name, length, "name")?, config_or_default(config));
        out.set(std::ptr::null_mut());
        let reader = Reader::create(name, config)?;
        out.set(give(zb_reader {
            peer: Peer::new(reader.interrupt_handle(), reader.writer_watch()?),
            cursor: AtomicU64::new(reader.cursor()),
            inner: Exclusive::new(name, Inner { lending: Lending::new(reader), batch: Vec::new() }),
            name: text(name),
            lent: AtomicU64::new(0),
            left: Mutex::new(None),
            frames_read: AtomicU64::new(0),
            frames_skipped: AtomicU64::new(0),
            bytes_read: AtomicU64::new(0),
        }));
        Ok(ZB_OK)
    })
}

/// Waits up to `timeout_ms` for the next frame: `ZB_OK` and a frame, or `ZB_TIMEOUT`, or `ZB_END_OF_STREAM`,
/// or an error, and an empty frame. 0 polls once, a negative time-out waits without limit.
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
        let mut inner = handle.enter()?;
        let read = inner.lending.reader().read_frame(timeout(timeout_ms));
        handed_out(handle, read, |frame| {
            place.put(frame);
            handle.count(&inner);
        })
    })
}

/// Returns the next frame if there is one now. Like `zb_reader_read_frame` with a time-out of 0, but leaves
/// interrupts alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_try_read_frame(
    reader: *const zb_reader,
    frame: *mut zb_frame,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, place) = passed!(at(reader, frame)?);
        let mut inner = handle.enter()?;
        let read = inner.lending.reader().try_read_frame();
        handed_out(handle, read, |frame| {
            place.put(frame);
            handle.count(&inner);
        })
    })
}

/// Like `zb_reader_read_frame`, but lends the frame, which is the cheapest way to read: see `zb_frame_ref`.
/// First gives back the frame that was lent before, if it was not released.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_read_frame_ref(
    reader: *const zb_reader,
    timeout_ms: i64,
    frame: *mut zb_frame_ref,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, out) = passed!(handle(reader, "reader")?, Out::new(frame, "frame")?);
        let mut inner = handle.enter().inspect_err(|_| out.set(zb_frame_ref::EMPTY))?;
        match inner.lending.lend(timeout(timeout_ms)) {
            Ok(Some(frame)) => {
                out.set(zb_frame_ref { data: frame.as_ptr(), size: frame.len(), sequence: frame.sequence() });
                handle.lent.store(frame.sequence(), Ordering::Relaxed);
                handle.count(&inner);
                Ok(ZB_OK)
            }
            Ok(None) => {
                out.set(zb_frame_ref::EMPTY);
                Ok(ZB_TIMEOUT)
            }
            Err(error) => {
                out.set(zb_frame_ref::EMPTY);
                ended(handle, error)
            }
        }
    })
}

/// Gives back the frame that the reader has lent, if any, without reading the next one. Works on a closed
/// reader too.
///
/// Errors: `CLOSED`, `INVALID_STATE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_release_frame_ref(
    reader: *const zb_reader,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let handle = passed!(handle(reader, "reader")?);
        let mut inner = handle.enter().inspect_err(|_| drop(handle.take_left(|_| true)))?;
        inner.lending.end();
        Ok(ZB_OK)
    })
}

/// Gives back the frame `sequence` if the reader has lent it. May be called on any thread, during any call of
/// the reader. Does nothing if the loan has ended already, so a late call does no harm.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_release_frame_ref_of(
    reader: *const zb_reader,
    sequence: u64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let handle = passed!(handle(reader, "reader")?);
        // A call that ends the loan stores 0 when it begins, and a close when it has put the frame aside. Acquire pairs with the
        // Release of the latter.
        while handle.lent.load(Ordering::Acquire) == sequence && !handle.inner.is_forked() {
            let Some(mut inner) = handle.inner.enter_briefly() else {
                std::thread::yield_now();
                continue;
            };
            if inner.lending.lent() == sequence {
                handle.lent.store(0, Ordering::Relaxed);
                inner.lending.end();
            }
            return Ok(ZB_OK);
        }
        drop(handle.take_left(|frame| frame.sequence() == sequence));
        Ok(ZB_OK)
    })
}

/// Turns the frame that the reader has lent into an owned frame, which stays valid until `zb_frame_release`
/// on any thread, whatever the reader does. Works on a closed reader too.
///
/// Errors: `INVALID_STATE` if no frame is lent, or another thread is using the reader.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_keep_frame_ref(
    reader: *const zb_reader,
    frame: *mut zb_frame,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, place) = passed!(at(reader, frame)?);
        let kept = match handle.enter() {
            Ok(mut inner) => inner.lending.keep(),
            Err(refused) => Some(handle.take_left(|_| true).ok_or(refused)?),
        };
        let Some(kept) = kept else {
            let name = handle.name.to_string_lossy();
            return Err(Failure::new(ZB_ERROR_INVALID_STATE, &name, "no frame is lent: read one first"));
        };
        place.put(kept);
        Ok(ZB_OK)
    })
}

/// Checks the reader and the place for a frame, and makes the place empty.
///
/// # Safety
///
/// Each pointer is NULL, or valid by the rules for callers.
#[inline(always)]
pub(crate) unsafe fn at<'a>(
    reader: *const zb_reader,
    frame: *mut zb_frame,
) -> Result<(&'a zb_reader, Place), Failure> {
    // SAFETY: This function's caller promises of each pointer what the checks ask for.
    unsafe {
        let place = Place::empty(Out::new(frame, "frame")?.as_ptr());
        Ok((handle(reader, "reader")?, place))
    }
}

/// Waits up to `timeout_ms` for a first frame, then takes it and the frames behind it, at most `max`, without
/// waiting again. `frames` has room for `max` frames. The function fills `*count` of them; release each.
///
/// Statuses and errors are those of `zb_reader_read_frame`; it fails only if there is no frame.
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
        let mut inner = handle.enter()?;
        let Inner { lending, batch } = &mut *inner;
        let read = match lending.reader().read_frames(batch, max, timeout(timeout_ms)) {
            Ok(0) => return Ok(ZB_TIMEOUT),
            Ok(read) => read,
            Err(error) => return ended(handle, error),
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

/// Whether a writer lives, or committed frames are still unread. Any thread may call it, during any call of
/// the reader. Changes nothing.
///
/// Errors: `CLOSED`; `INVALID_STATE` in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_is_writer_connected(
    reader: *const zb_reader,
    connected: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, out) = passed!(handle(reader, "reader")?, Out::new(connected, "answer")?);
        out.set(false);
        let cursor = handle.cursor.load(Ordering::Relaxed);
        out.set(handle.peer.ask(&handle.inner, |watch| watch.is_writer_connected(cursor))?);
        Ok(ZB_OK)
    })
}

/// Waits up to `timeout_ms` for a writer. Returns `ZB_OK` when a writer is connected (or was, and left
/// frames), else `ZB_TIMEOUT`.
///
/// Errors: `INTERRUPTED`, `BUFFER_NOT_FOUND`, `SYSTEM`, `CLOSED`, `INVALID_STATE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_wait_for_writer(
    reader: *const zb_reader,
    timeout_ms: i64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let handle = passed!(handle(reader, "reader")?);
        let mut inner = handle.enter()?;
        let there = inner.lending.reader().wait_for_writer(timeout(timeout_ms));
        let there = there.map_err(|error| handle.inner.why(error))?;
        Ok(if there { ZB_OK } else { ZB_TIMEOUT })
    })
}

/// Copies up to `capacity` bytes of the metadata to `target`, and sets `*size` to the whole size of the
/// metadata. If the writer has set none yet, `*size` is 0 and the function returns `ZB_TIMEOUT`. To learn the
/// size first, pass NULL and 0.
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
    guarded_wait!(error, {
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
        if let Some(interrupt) = passed!(reader.as_ref()).and_then(|handle| handle.peer.interrupt()) {
            interrupt.interrupt();
        }
    });
}

/// Withdraws an interrupt that no call has met yet. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_clear_interrupt(reader: *const zb_reader) {
    guarded_or((), || {
        if let Some(interrupt) = passed!(reader.as_ref()).and_then(|handle| handle.peer.interrupt()) {
            interrupt.clear();
        }
    });
}

/// Returns an interrupt that may outlive the reader; NULL for NULL. Free it with `zb_interrupt_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_interrupt_handle(reader: *const zb_reader) -> *mut zb_interrupt {
    guarded_or(std::ptr::null_mut(), || {
        passed!(reader.as_ref()).map_or(std::ptr::null_mut(), |reader| {
            let handle = reader.peer.interrupt().map(|interrupt| Arc::downgrade(&interrupt));
            give(zb_interrupt { handle: handle.unwrap_or_default() })
        })
    })
}

/// Closes the reader and removes the buffer's names. Any thread may call it: a blocked call fails with
/// `CLOSED`, and so does every later call. Frames that are held or lent stay valid. The handle must still be
/// freed. A second close does nothing. If a callback of one of the reader's own calls closes it, that call
/// closes it when it ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_close(reader: *const zb_reader, error: *mut *mut zb_error) -> zb_status {
    guarded_wait!(error, {
        let handle = passed!(handle(reader, "reader")?);
        let interrupt = handle.peer.interrupt();
        let closed = handle.inner.close(|| interrupt.iter().for_each(|interrupt| interrupt.interrupt()));
        drop(interrupt);
        handle.peer.end();
        if let Closed::Now(inner) = closed {
            let (left, result) = inner.lending.close();
            *handle.left.lock().unwrap_or_else(PoisonError::into_inner) = left;
            // Release pairs with the Acquire in zb_reader_release_frame_ref_of.
            handle.lent.store(0, Ordering::Release);
            result?;
        }
        Ok(ZB_OK)
    })
}

/// Closes the reader, if it is not closed, and frees it. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_free(reader: *mut zb_reader) {
    passed!(take(reader));
}
