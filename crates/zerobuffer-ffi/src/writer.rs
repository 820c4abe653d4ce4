//! The writing side of a buffer.

use std::ffi::{CString, c_char};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use zerobuffer::{KeptBuffer, MemoryGuard, ReaderWatch, Writer, WriterOptions};

use crate::arguments::{Out, bytes, handle, length_of, passed, set_if_wanted, string, timeout};
use crate::config::{DEFAULT_TIMEOUT_MS, give, take, zb_writer_options};
use crate::error::{Failure, ZB_ERROR_INTERNAL, ZB_OK, ZB_TIMEOUT, text, zb_error, zb_status};
use crate::exclusive::{Closed, Entered, Exclusive};
use crate::interrupt::zb_interrupt;
use crate::panic::{guarded, guarded_or, guarded_wait};
use crate::peer::Peer;

/// The writing side of a buffer.
///
/// Used by one thread at a time: a second one gets `ZB_ERROR_INVALID_STATE`. `zb_writer_interrupt`,
/// `zb_writer_clear_interrupt`, `zb_writer_close`, `zb_writer_is_reader_connected`, `zb_writer_name` and the counters may be used
/// from any thread at any time.
pub struct zb_writer {
    pub(crate) writer: Exclusive<Output>,
    pub(crate) peer: Peer<ReaderWatch>,
    name: CString,
    write_timeout_ms: AtomicI64,
    // As of the last call that wrote, so that other threads may ask.
    frames_written: AtomicU64,
    bytes_written: AtomicU64,
    frames_shared: AtomicU64,
    frames_copied: AtomicU64,
}

/// A writer, and the buffer that was made for it.
pub(crate) struct Output {
    // The writer ends first: then the buffer goes, unless it has a reader.
    pub(crate) writer: Writer,
    pub(crate) kept: Option<KeptBuffer>,
}

impl Deref for Output {
    type Target = Writer;

    #[inline(always)]
    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl DerefMut for Output {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }
}

/// Keeps the memory of an acquired frame mapped, for languages whose views may outlive the writer.
pub struct zb_memory_guard {
    _guard: MemoryGuard,
}

/// Some bytes.
#[repr(C)]
pub struct zb_bytes {
    /// The first byte.
    pub data: *const u8,
    /// The number of bytes.
    pub size: usize,
}

/// A size to commit: all bytes that were acquired. cbindgen.toml has it for C.
///
/// cbindgen:ignore
pub const ZB_WHOLE_FRAME: usize = usize::MAX;

impl zb_writer {
    pub(crate) fn new(name: &str, output: Output, write_timeout_ms: i64) -> Result<zb_writer, Failure> {
        Ok(zb_writer {
            peer: Peer::new(output.interrupt_handle(), output.reader_watch()?),
            writer: Exclusive::new(name, output),
            name: text(name),
            write_timeout_ms: AtomicI64::new(write_timeout_ms),
            frames_written: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            frames_shared: AtomicU64::new(0),
            frames_copied: AtomicU64::new(0),
        })
    }

    #[inline(always)]
    pub(crate) fn count(&self, writer: &Entered<'_, Output>) {
        // Relaxed: the counters order nothing.
        self.frames_written.store(writer.frames_written(), Ordering::Relaxed);
        self.bytes_written.store(writer.bytes_written(), Ordering::Relaxed);
    }

    /// Counts a frame that was passed on.
    pub(crate) fn count_forwarded(&self, shared: bool) {
        // Relaxed, as in forwarded(): the counters order nothing.
        let counter = if shared { &self.frames_shared } else { &self.frames_copied };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Frames passed on without a copy, and by one.
    pub(crate) fn forwarded(&self) -> (u64, u64) {
        (self.frames_shared.load(Ordering::Relaxed), self.frames_copied.load(Ordering::Relaxed))
    }

    /// Takes the writer out of the handle, which is as good as closed from then on.
    pub(crate) fn take_over(&self) -> Result<Output, Failure> {
        // Fails if another thread uses it, or it is closed.
        drop(self.writer.enter()?);
        match self.writer.close(|| ()) {
            Closed::Now(output) => {
                self.peer.end();
                Ok(output)
            }
            Closed::Later | Closed::Before => Err(self.writer.refusal()),
        }
    }

    /// Frames and bytes written, as of the last call that wrote.
    pub(crate) fn counters(&self) -> (u64, u64) {
        (self.frames_written.load(Ordering::Relaxed), self.bytes_written.load(Ordering::Relaxed))
    }
}

/// Connects to the buffer `name`. `options` may be NULL for all defaults. Free it with `zb_writer_free`.
///
/// Errors: `BUFFER_NOT_FOUND`, `WRITER_ALREADY_CONNECTED`, `READER_DEAD`, `INVALID_NAME`, `INCOMPATIBLE_PROTOCOL`,
/// `CORRUPT_BUFFER`, `PERMISSION_DENIED`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_connect(
    name: *const c_char,
    options: *const zb_writer_options,
    writer: *mut *mut zb_writer,
    error: *mut *mut zb_error,
) -> zb_status {
    passed!(zb_writer_connect_n(name, length_of(name), options, writer, error))
}

/// Like `zb_writer_connect`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_connect_n(
    name: *const c_char,
    length: usize,
    options: *const zb_writer_options,
    writer: *mut *mut zb_writer,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (out, name, options) =
            passed!(Out::new(writer, "writer")?, string(name, length, "name")?, options.as_ref());
        out.set(std::ptr::null_mut());
        let (options, write_timeout_ms) = options.map_or_else(
            || (WriterOptions::default(), DEFAULT_TIMEOUT_MS),
            |given| (given.options.clone(), given.write_timeout_ms),
        );
        let writer = Writer::connect_with(name, options)?;
        out.set(give(zb_writer::new(name, Output { writer, kept: None }, write_timeout_ms)?));
        Ok(ZB_OK)
    })
}

/// Copies `data` into the buffer as one frame, waiting for space up to the write time-out. `sequence`, which may be NULL,
/// gets its number.
///
/// Errors: `INVALID_FRAME_SIZE` (0 bytes), `FRAME_TOO_LARGE`, `BUFFER_FULL`, `READER_DEAD`, `INVALID_STATE`, `INTERRUPTED`,
/// `OUT_OF_MEMORY`, `CORRUPT_BUFFER`, `CLOSED`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_write_frame(
    writer: *const zb_writer,
    data: *const u8,
    size: usize,
    sequence: *mut u64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, data) = passed!(handle(writer, "writer")?, bytes(data, size)?);
        let mut writer = handle.writer.enter()?;
        let number = writer.write_frame(data).map_err(|error| handle.writer.why(error))?;
        handle.count(&writer);
        passed!(set_if_wanted(sequence, number));
        Ok(ZB_OK)
    })
}

/// Like `zb_writer_write_frame`, but waits for space up to `timeout_ms` instead of the write time-out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_write_frame_within(
    writer: *const zb_writer,
    data: *const u8,
    size: usize,
    timeout_ms: i64,
    sequence: *mut u64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, data) = passed!(handle(writer, "writer")?, bytes(data, size)?);
        let mut writer = handle.writer.enter()?;
        let written = within(&mut writer, timeout_ms, |writer| writer.write_frame(data));
        let number = written.map_err(|error| handle.writer.why(error))?;
        handle.count(&writer);
        passed!(set_if_wanted(sequence, number));
        Ok(ZB_OK)
    })
}

/// Calls a function of the writer with another write time-out.
#[inline(always)]
fn within<A>(writer: &mut Writer, timeout_ms: i64, call: impl FnOnce(&mut Writer) -> A) -> A {
    let usual = writer.write_timeout();
    writer.set_write_timeout(timeout(timeout_ms));
    let answer = call(writer);
    writer.set_write_timeout(usual);
    answer
}

/// Like `zb_writer_write_frame`, but does not wait: `ZB_TIMEOUT` if there is no space now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_try_write_frame(
    writer: *const zb_writer,
    data: *const u8,
    size: usize,
    sequence: *mut u64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, data) = passed!(handle(writer, "writer")?, bytes(data, size)?);
        let mut writer = handle.writer.enter()?;
        let Some(number) = writer.try_write_frame(data)? else { return Ok(ZB_TIMEOUT) };
        handle.count(&writer);
        passed!(set_if_wanted(sequence, number));
        Ok(ZB_OK)
    })
}

/// Writes `count` frames and wakes the reader once, waiting for space for each. `written`, which may be NULL,
/// gets the number of frames written, even if one fails.
///
/// Errors: those of `zb_writer_write_frame`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_write_frames(
    writer: *const zb_writer,
    frames: *const zb_bytes,
    count: usize,
    written: *mut usize,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        passed!(set_if_wanted(written, 0));
        let handle = passed!(handle(writer, "writer")?);
        let frames = match count {
            0 => &[],
            _ if frames.is_null() => return Err(Failure::argument("the frames are NULL")),
            _ => passed!(std::slice::from_raw_parts(frames, count)),
        };
        // All are checked before the first is written.
        for frame in frames {
            passed!(bytes(frame.data, frame.size)?);
        }
        let mut writer = handle.writer.enter()?;
        // None of them is empty: all were checked a moment ago.
        let checked = frames.iter().map(|frame| passed!(bytes(frame.data, frame.size)).unwrap_or_default());
        let before = writer.frames_written();
        let outcome = writer.write_frames(checked);
        handle.count(&writer);
        passed!(set_if_wanted(written, (writer.frames_written() - before) as usize));
        outcome.map_err(|error| handle.writer.why(error))?;
        Ok(ZB_OK)
    })
}

/// Acquires `size` bytes of the buffer, to be filled in place: `*data` gets the address of the first byte.
/// Waits for space up to the write time-out. Call `zb_writer_commit_frame` or `zb_writer_discard_frame`
/// afterwards. These calls, and closing, end the right to write there.
///
/// Errors: those of `zb_writer_write_frame`; `INVALID_STATE` if a frame is acquired already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_acquire_frame_buffer(
    writer: *const zb_writer,
    size: usize,
    data: *mut *mut u8,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, out) = passed!(handle(writer, "writer")?, Out::new(data, "data")?);
        out.set(std::ptr::null_mut());
        let mut writer = handle.writer.enter()?;
        writer.acquire_frame_buffer(size).map_err(|error| handle.writer.why(error))?;
        out.set(acquired(&mut writer)?);
        Ok(ZB_OK)
    })
}

/// Like `zb_writer_acquire_frame_buffer`, but waits for space up to `timeout_ms` instead of the write time-out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_acquire_frame_buffer_within(
    writer: *const zb_writer,
    size: usize,
    timeout_ms: i64,
    data: *mut *mut u8,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, out) = passed!(handle(writer, "writer")?, Out::new(data, "data")?);
        out.set(std::ptr::null_mut());
        let mut writer = handle.writer.enter()?;
        let done = within(&mut writer, timeout_ms, |writer| writer.acquire_frame_buffer(size));
        done.map_err(|error| handle.writer.why(error))?;
        out.set(acquired(&mut writer)?);
        Ok(ZB_OK)
    })
}

/// Like `zb_writer_acquire_frame_buffer`, but does not wait: `ZB_TIMEOUT` if there is no space now.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_try_acquire_frame_buffer(
    writer: *const zb_writer,
    size: usize,
    data: *mut *mut u8,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, out) = passed!(handle(writer, "writer")?, Out::new(data, "data")?);
        out.set(std::ptr::null_mut());
        let mut writer = handle.writer.enter()?;
        match writer.try_acquire_frame(size)? {
            None => return Ok(ZB_TIMEOUT),
            // The guard borrows the writer, and its drop would discard the frame.
            Some(guard) => std::mem::forget(guard),
        }
        out.set(acquired(&mut writer)?);
        Ok(ZB_OK)
    })
}

#[inline(always)]
fn acquired(writer: &mut Writer) -> Result<*mut u8, Failure> {
    match writer.acquired() {
        Some(bytes) => Ok(bytes.as_mut_ptr()),
        None => Err(Failure::new(ZB_ERROR_INTERNAL, writer.name(), "the frame acquired is gone")),
    }
}

/// Commits the first `size` bytes of the frame acquired, or all of them (`ZB_WHOLE_FRAME`). `sequence`, which may be NULL, gets
/// its number.
///
/// Errors: `INVALID_STATE` if nothing is acquired; `INVALID_FRAME_SIZE` if `size` is 0 or more than was acquired (the frame
/// stays acquired); `CORRUPT_BUFFER`, `CLOSED`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_commit_frame(
    writer: *const zb_writer,
    size: usize,
    sequence: *mut u64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let handle = passed!(handle(writer, "writer")?);
        let mut writer = handle.writer.enter()?;
        let number = writer.commit_frame((size != ZB_WHOLE_FRAME).then_some(size))?;
        handle.count(&writer);
        passed!(set_if_wanted(sequence, number));
        Ok(ZB_OK)
    })
}

/// Discards the acquired frame, if any. The reader never sees it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_discard_frame(
    writer: *const zb_writer,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        passed!(handle(writer, "writer")?).writer.enter()?.discard_frame();
        Ok(ZB_OK)
    })
}

/// A guard that keeps the buffer's memory mapped when the writer is closed or freed. Bytes that are written
/// there after a commit are lost, or damage a later frame. Free it with `zb_memory_guard_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_memory_guard(
    writer: *const zb_writer,
    guard: *mut *mut zb_memory_guard,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, out) = passed!(handle(writer, "writer")?, Out::new(guard, "guard")?);
        out.set(std::ptr::null_mut());
        let guard = handle.writer.enter()?.memory_guard();
        out.set(give(zb_memory_guard { _guard: guard }));
        Ok(ZB_OK)
    })
}

/// Frees a guard. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_memory_guard_free(guard: *mut zb_memory_guard) {
    passed!(take(guard));
}

/// Sets the buffer's metadata: at most once per buffer, and at most its metadata size less 8 bytes.
///
/// Errors: `METADATA_ALREADY_WRITTEN`, `METADATA_TOO_LARGE`, `INVALID_STATE`, `CLOSED`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_set_metadata(
    writer: *const zb_writer,
    data: *const u8,
    size: usize,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, data) = passed!(handle(writer, "writer")?, bytes(data, size)?);
        handle.writer.enter()?.set_metadata(data)?;
        Ok(ZB_OK)
    })
}

/// Whether the reader lives. Any thread may call it, during any call of the writer.
///
/// Errors: `CLOSED`; `INVALID_STATE` in a forked child.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_is_reader_connected(
    writer: *const zb_writer,
    connected: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, out) = passed!(handle(writer, "writer")?, Out::new(connected, "answer")?);
        out.set(false);
        out.set(handle.peer.ask(&handle.writer, ReaderWatch::is_reader_connected)?);
        Ok(ZB_OK)
    })
}

/// The largest frame that the buffer can take, in bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_max_frame_size(
    writer: *const zb_writer,
    size: *mut usize,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, out) = passed!(handle(writer, "writer")?, Out::new(size, "size")?);
        out.set(0);
        out.set(handle.writer.enter()?.max_frame_size());
        Ok(ZB_OK)
    })
}

/// Sets how long a write waits for space, in milliseconds: 0 polls once, a negative number waits without
/// limit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_set_write_timeout(
    writer: *const zb_writer,
    timeout_ms: i64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let handle = passed!(handle(writer, "writer")?);
        let mut writer = handle.writer.enter()?;
        writer.set_write_timeout(timeout(timeout_ms));
        handle.write_timeout_ms.store(timeout_ms, Ordering::Relaxed);
        Ok(ZB_OK)
    })
}

/// How long a write waits for space, in milliseconds. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_write_timeout(writer: *const zb_writer) -> i64 {
    passed!(writer.as_ref()).map_or(0, |handle| handle.write_timeout_ms.load(Ordering::Relaxed))
}

/// Frames committed so far. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_frames_written(writer: *const zb_writer) -> u64 {
    passed!(writer.as_ref()).map_or(0, |handle| handle.frames_written.load(Ordering::Relaxed))
}

/// Bytes of data (without headers) committed so far. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_bytes_written(writer: *const zb_writer) -> u64 {
    passed!(writer.as_ref()).map_or(0, |handle| handle.bytes_written.load(Ordering::Relaxed))
}

/// The buffer's name; valid until the writer is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_name(writer: *const zb_writer) -> *const c_char {
    passed!(writer.as_ref()).map_or(c"".as_ptr(), |handle| handle.name.as_ptr())
}

/// Makes the writer's call that is blocked now, or else the next one that may block, fail once with `ZB_ERROR_INTERRUPTED`.
/// From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_interrupt(writer: *const zb_writer) {
    guarded_or((), || {
        if let Some(interrupt) = passed!(writer.as_ref()).and_then(|handle| handle.peer.interrupt()) {
            interrupt.interrupt();
        }
    });
}

/// Withdraws an interrupt that no call has met yet. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_clear_interrupt(writer: *const zb_writer) {
    guarded_or((), || {
        if let Some(interrupt) = passed!(writer.as_ref()).and_then(|handle| handle.peer.interrupt()) {
            interrupt.clear();
        }
    });
}

/// Returns an interrupt that may outlive the writer; NULL for NULL. Free it with `zb_interrupt_free`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_interrupt_handle(writer: *const zb_writer) -> *mut zb_interrupt {
    guarded_or(std::ptr::null_mut(), || {
        passed!(writer.as_ref()).map_or(std::ptr::null_mut(), |writer| {
            let handle = writer.peer.interrupt().map(|interrupt| Arc::downgrade(&interrupt));
            give(zb_interrupt { handle: handle.unwrap_or_default() })
        })
    })
}

/// Closes the writer: the reader gets all frames, then the end of the stream at once. Any thread may call it:
/// a blocked call fails with `CLOSED`, and so does every later call. The handle must still be freed. A second
/// close does nothing. If a callback of one of the writer's own calls closes it, that call closes it when it
/// ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_close(writer: *const zb_writer, error: *mut *mut zb_error) -> zb_status {
    guarded_wait!(error, {
        let handle = passed!(handle(writer, "writer")?);
        let interrupt = handle.peer.interrupt();
        let closed = handle.writer.close(|| interrupt.iter().for_each(|interrupt| interrupt.interrupt()));
        drop(interrupt);
        handle.peer.end();
        if let Closed::Now(Output { writer, kept }) = closed {
            writer.close()?;
            kept.map_or(Ok(false), KeptBuffer::close)?;
        }
        Ok(ZB_OK)
    })
}

/// Closes the writer, if it is not closed, and frees it. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_free(writer: *mut zb_writer) {
    passed!(take(writer));
}
