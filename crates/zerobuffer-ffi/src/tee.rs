//! One reader, many outputs.

use std::ffi::{CString, c_char};
use std::sync::{Mutex, PoisonError};

use zerobuffer::{ErrorKind, KeptBuffer, Tee, TeeInterruptHandle};

use crate::arguments::{Out, handle, handle_mut, length_of, passed, set_if_wanted, string, timeout};
use crate::config::{give, take};
use crate::error::{Failure, ZB_END_OF_STREAM, ZB_OK, ZB_TIMEOUT, status_of, text, zb_error, zb_status};
use crate::exclusive::{Closed, Exclusive};
use crate::frame::{Place, zb_frame};
use crate::panic::{guarded, guarded_or, guarded_wait};
use crate::reader::zb_reader;
use crate::sharing::of_a_reader;
use crate::writer::{Output, zb_writer};

/// Passes the frames of one reader on to any number of outputs.
///
/// A *block* output gets every frame: while it is full, the tee waits, and so does the source in the end. It is lent the source's
/// bytes where its writer requests sharing and both readers allow it. A *drop* output has at most so many frames that its reader has
/// not given back; what comes then is dropped, and counted. The tee never waits for it. Two and more such outputs are lent one copy,
/// where they request and allow sharing. Block outputs are served first. An output whose reader dies or closes ends: it gets nothing
/// more, and the others go on.
///
/// Used by one thread at a time: a second one gets `ZB_ERROR_INVALID_STATE`. `zb_tee_interrupt`, `zb_tee_close` and `zb_tee_name` may be
/// used from any thread at any time.
pub struct zb_tee {
    inner: Exclusive<Inner>,
    /// `None` once closed, as it keeps memory mapped.
    interrupt: Mutex<Option<TeeInterruptHandle>>,
    name: CString,
}

struct Inner {
    // The writers end first: then the buffers go, unless they have readers.
    tee: Tee,
    kept: Vec<KeptBuffer>,
}

/// What an output of a tee got.
#[repr(C)]
pub struct zb_tee_output {
    /// Name of the buffer that it writes, with a zero byte at its end.
    pub name: [c_char; 256],
    /// Of a drop output, how many frames it has at most that its reader has not given back; 0: a block output.
    pub bound: usize,
    /// Frames that it got without a copy of its own.
    pub frames_shared: u64,
    /// Frames that it got as a copy of its own.
    pub frames_copied: u64,
    /// Frames that it did not get.
    pub frames_dropped: u64,
    /// Why it has ended, for example `ZB_ERROR_READER_DEAD`; `ZB_OK` while it gets frames.
    pub ended: zb_status,
}

/// Makes a tee without outputs of what `reader` reads. The tee takes the reader over: the handle is as good as closed afterwards, and
/// must still be freed. A frame that it has lent goes back. Free the tee with `zb_tee_free`.
///
/// Errors: `CLOSED`, `INVALID_STATE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_create(
    reader: *const zb_reader,
    tee: *mut *mut zb_tee,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (reader, out) = passed!(handle(reader, "reader")?, Out::new(tee, "tee")?);
        out.set(std::ptr::null_mut());
        let core = reader.take_over()?;
        let name = core.name().to_owned();
        let tee = Tee::new(core);
        out.set(give(zb_tee {
            interrupt: Mutex::new(Some(tee.interrupt_handle())),
            inner: Exclusive::new(&name, Inner { tee, kept: Vec::new() }),
            name: text(&name),
        }));
        Ok(ZB_OK)
    })
}

/// Adds an output that gets every frame from the next one on. How long the tee waits for space in it is the writer's write time-out.
/// The tee takes the writer over: the handle is as good as closed afterwards, and must still be freed. A frame that is acquired is
/// discarded. The output takes the place of one of that name that has ended.
///
/// Errors: `CLOSED`, `INVALID_STATE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_add_block_output(
    tee: *const zb_tee,
    writer: *const zb_writer,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (tee, writer) = passed!(handle(tee, "tee")?, handle(writer, "writer")?);
        let mut inner = tee.inner.enter()?;
        let Output { writer, kept } = writer.take_over()?;
        inner.tee.add_block_output(writer);
        inner.kept.extend(kept);
        Ok(ZB_OK)
    })
}

/// Adds an output that has at most `frames` frames (at least one; usually 2) that its reader has not given back. What comes then is
/// dropped. In all else like `zb_tee_add_block_output`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_add_drop_output(
    tee: *const zb_tee,
    writer: *const zb_writer,
    frames: usize,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (tee, writer) = passed!(handle(tee, "tee")?, handle(writer, "writer")?);
        let mut inner = tee.inner.enter()?;
        let Output { writer, kept } = writer.take_over()?;
        inner.tee.add_drop_output(writer, frames);
        inner.kept.extend(kept);
        Ok(ZB_OK)
    })
}

/// Closes the output that writes the buffer `name`. `removed`, which may be NULL, gets whether there was one. What it got stays with
/// its reader.
///
/// Errors: `CLOSED`, `INVALID_STATE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_remove_output(
    tee: *const zb_tee,
    name: *const c_char,
    removed: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    passed!(zb_tee_remove_output_n(tee, name, length_of(name), removed, error))
}

/// Like `zb_tee_remove_output`, for a name of `length` bytes that need not end with a zero byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_remove_output_n(
    tee: *const zb_tee,
    name: *const c_char,
    length: usize,
    removed: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (tee, name) = passed!(handle(tee, "tee")?, string(name, length, "name")?);
        let mut inner = tee.inner.enter()?;
        let writer = inner.tee.remove_output(name);
        passed!(set_if_wanted(removed, writer.is_some()));
        // The writer ends first.
        drop(writer);
        inner.kept.retain(|kept| kept.name() != name);
        Ok(ZB_OK)
    })
}

/// Waits up to `timeout_ms` for a frame, and passes it on: `ZB_OK`, or `ZB_TIMEOUT`, or `ZB_END_OF_STREAM` when the writer has closed,
/// or an error. 0 polls once, a negative time-out waits without limit.
///
/// Errors: those of `zb_reader_read_frame` and of `zb_tee_forward`; the error object names the buffer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_step(
    tee: *const zb_tee,
    timeout_ms: i64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let tee = passed!(handle(tee, "tee")?);
        let stepped = tee.inner.enter()?.tee.step(timeout(timeout_ms));
        match stepped {
            Ok(true) => Ok(ZB_OK),
            Ok(false) => Ok(ZB_TIMEOUT),
            Err(error) => tee.ended(error),
        }
    })
}

/// Passes frames on until their writer closes: `ZB_END_OF_STREAM`, or an error. After the error of an output a further call goes on.
///
/// Errors: those of `zb_tee_step`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_run(tee: *const zb_tee, error: *mut *mut zb_error) -> zb_status {
    guarded_wait!(error, {
        let tee = passed!(handle(tee, "tee")?);
        let run = tee.inner.enter()?.tee.run();
        run.map_or_else(|error| tee.ended(error), |()| Ok(ZB_END_OF_STREAM))
    })
}

/// Waits up to `timeout_ms` for a frame, for a program that looks at it or changes it (`zb_frame_make_mut`) before it passes it on
/// (`zb_tee_forward`): `ZB_OK` and a frame, or `ZB_TIMEOUT`, or `ZB_END_OF_STREAM`, or an error, and an empty frame. Frames that a full
/// output has kept back go first.
///
/// Errors: those of `zb_tee_step`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_read_frame(
    tee: *const zb_tee,
    timeout_ms: i64,
    frame: *mut zb_frame,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (place, tee) = passed!(Place::empty(Out::new(frame, "frame")?.as_ptr()), handle(tee, "tee")?);
        let read = tee.inner.enter()?.tee.read_frame(timeout(timeout_ms));
        match read {
            Ok(Some(frame)) => {
                place.put(frame);
                Ok(ZB_OK)
            }
            Ok(None) => Ok(ZB_TIMEOUT),
            Err(error) => tee.ended(error),
        }
    })
}

/// Passes a frame on to all outputs, which any reader of this process has read. The tee takes the frame, and `*frame` is empty
/// afterwards, unless the error is `INVALID_ARGUMENT`, `CLOSED` or `INVALID_STATE`.
///
/// Errors: of a block output, whose buffer the error object names. `BUFFER_FULL`, `OUT_OF_MEMORY`, `INTERRUPTED`: the outputs from that
/// one on have still to get the frame, and the next call goes on there. `FRAME_TOO_LARGE`: that output does without the frame. All else,
/// as `READER_DEAD`: that output has ended; the others have got the frame. `INVALID_ARGUMENT` if the frame is empty, or is not one of
/// a `zb_reader` or a `zb_tee`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_forward(
    tee: *const zb_tee,
    frame: *mut zb_frame,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (tee, frame) = passed!(handle(tee, "tee")?, handle_mut(frame, "frame")?);
        let mut inner = tee.inner.enter()?;
        let frame = of_a_reader(frame.take_of_reader())?;
        let forwarded = inner.tee.forward(frame);
        forwarded.map(|()| ZB_OK).map_err(|error| tee.inner.why(error))
    })
}

/// Goes on with a frame that an output has kept back; without one it does nothing.
///
/// Errors: those of `zb_tee_forward`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_flush(tee: *const zb_tee, error: *mut *mut zb_error) -> zb_status {
    guarded_wait!(error, {
        let tee = passed!(handle(tee, "tee")?);
        let flushed = tee.inner.enter()?.tee.flush();
        flushed.map(|()| ZB_OK).map_err(|error| tee.inner.why(error))
    })
}

/// Copies what is known of up to `capacity` outputs, also of those that have ended, to `outputs`, in the order in which they were added,
/// and sets `*count` to the number of all of them. `outputs` may be NULL if `capacity` is 0.
///
/// Errors: `CLOSED`, `INVALID_STATE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_outputs(
    tee: *const zb_tee,
    outputs: *mut zb_tee_output,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (tee, count) = passed!(handle(tee, "tee")?, Out::new(count, "count")?);
        count.set(0);
        let inner = tee.inner.enter()?;
        let all = inner.tee.outputs();
        for (index, output) in all.iter().enumerate().take(capacity) {
            // SAFETY: The caller promises room for `capacity` outputs at `outputs`, and `index` is less than that.
            passed!(Out::new(outputs.wrapping_add(index), "outputs")?).set(zb_tee_output {
                name: name_of(output.name()),
                bound: output.bound().unwrap_or(0),
                frames_shared: output.frames_shared(),
                frames_copied: output.frames_copied(),
                frames_dropped: output.frames_dropped(),
                ended: output.ended().map_or(ZB_OK, status_of),
            });
        }
        count.set(all.len());
        Ok(ZB_OK)
    })
}

fn name_of(name: &str) -> [c_char; 256] {
    let mut place = [0; 256];
    // A name is shorter than that (MAX_NAME_LEN).
    for (byte, target) in name.bytes().zip(&mut place[..255]) {
        *target = byte as c_char;
    }
    place
}

/// Name of the buffer that the tee reads. Freed with the tee. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_name(tee: *const zb_tee) -> *const c_char {
    passed!(tee.as_ref()).map_or(std::ptr::null(), |tee| tee.name.as_ptr())
}

/// Makes the tee's call that is blocked now, or else the next one that may block, fail once with `ZB_ERROR_INTERRUPTED`, whether it waits for
/// a frame or for space in an output. From any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_interrupt(tee: *const zb_tee) {
    guarded_or((), || {
        if let Some(interrupt) = passed!(tee.as_ref()).and_then(zb_tee::interrupt) {
            interrupt.interrupt();
        }
    });
}

/// Closes the tee: its reader and its outputs. Any thread may call it: a blocked call fails with `CLOSED`, and so does every later call.
/// The handle must still be freed. A second close does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_close(tee: *const zb_tee, error: *mut *mut zb_error) -> zb_status {
    guarded_wait!(error, {
        let tee = passed!(handle(tee, "tee")?);
        let interrupt = tee.interrupt();
        let closed = tee.inner.close(|| interrupt.iter().for_each(TeeInterruptHandle::interrupt));
        if !tee.inner.is_forked() {
            *tee.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        if let Closed::Now(inner) = closed {
            drop(inner);
        }
        Ok(ZB_OK)
    })
}

/// Closes the tee, if it is not closed, and frees it. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_tee_free(tee: *mut zb_tee) {
    passed!(take(tee));
}

impl zb_tee {
    /// `None` once closed, and in a forked child, where another thread may have the lock.
    fn interrupt(&self) -> Option<TeeInterruptHandle> {
        if self.inner.is_forked() {
            return None;
        }
        self.interrupt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The end of the source as the ABI's status.
    fn ended(&self, error: zerobuffer::Error) -> Result<zb_status, Failure> {
        match error.kind() {
            ErrorKind::WriterClosed => Ok(ZB_END_OF_STREAM),
            _ => Err(self.inner.why(error)),
        }
    }
}
