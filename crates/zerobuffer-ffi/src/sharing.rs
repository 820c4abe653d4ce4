//! Frames that are passed on without a copy.

use std::ffi::c_char;

use zerobuffer::{BufferConfig, Forwarded, SharedWriter, WriterOptions};

use crate::arguments::{Out, handle, handle_mut, length_of, passed, set_if_wanted, string};
use crate::config::{DEFAULT_TIMEOUT_MS, config_or_default, give, zb_config, zb_writer_options};
use crate::error::{Failure, ZB_ERROR_INVALID_STATE, ZB_OK, zb_error, zb_status};
use crate::frame::{zb_frame, zb_frame_release};
use crate::panic::{guarded, guarded_wait};
use crate::reader::{zb_reader, zb_reader_keep_frame_ref};
use crate::writer::{Output, zb_writer};

/// Creates the buffer `name` for a reader that comes later, connects to it, and offers it the payload of `source`: a writer in all
/// else. `config` and `options` may be NULL for all defaults. Free it with `zb_writer_free`.
///
/// The buffer is at least as large as the one of `source`, so that it can hold each of its frames as a copy, and a reader whose
/// config asks for less takes it over all the same. Both sides share, whatever `config` and `options` say about that. If no reader
/// has taken the buffer over when the writer is closed, it is removed.
///
/// Errors: those of `zb_kept_buffer_create` and `zb_writer_connect`; `CLOSED`, `INVALID_STATE` of the source.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_shared_writer_create(
    name: *const c_char,
    source: *const zb_reader,
    config: *const zb_config,
    options: *const zb_writer_options,
    writer: *mut *mut zb_writer,
    error: *mut *mut zb_error,
) -> zb_status {
    passed!(zb_shared_writer_create_n(name, length_of(name), source, config, options, writer, error))
}

/// Like `zb_shared_writer_create`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is
/// refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_shared_writer_create_n(
    name: *const c_char,
    length: usize,
    source: *const zb_reader,
    config: *const zb_config,
    options: *const zb_writer_options,
    writer: *mut *mut zb_writer,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (out, name, source, config, options) = passed!(
            Out::new(writer, "writer")?,
            string(name, length, "name")?,
            handle(source, "source")?,
            config_or_default(config),
            options.as_ref()
        );
        out.set(std::ptr::null_mut());
        let (options, write_timeout_ms) = options.map_or_else(
            || (WriterOptions::default(), DEFAULT_TIMEOUT_MS),
            |given| (given.options.clone(), given.write_timeout_ms),
        );
        let (writer, kept) = create(name, source, config, options)?.into_parts();
        out.set(give(zb_writer::new(name, Output { writer, kept: Some(kept) }, write_timeout_ms)?));
        Ok(ZB_OK)
    })
}

fn create(
    name: &str,
    source: &zb_reader,
    config: BufferConfig,
    options: WriterOptions,
) -> Result<SharedWriter, Failure> {
    let source = source.inner.enter()?;
    Ok(SharedWriter::create_with(name, source.reader(), config, options)?)
}

/// Whether a reader has taken over the buffer that `zb_shared_writer_create` made; true for any other writer.
///
/// Errors: `CLOSED`, `INVALID_STATE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_is_adopted(
    writer: *const zb_writer,
    adopted: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, out) = passed!(handle(writer, "writer")?, Out::new(adopted, "answer")?);
        out.set(false);
        out.set(handle.writer.enter()?.kept.as_mut().is_none_or(|kept| kept.is_adopted()));
        Ok(ZB_OK)
    })
}

/// Passes a frame on that any reader of this process has read, waiting for space up to the write time-out: by a reference to its
/// bytes where both readers allow sharing and the writer requests it, else by a copy. `shared`, which may be NULL, gets whether
/// the next reader looks at the bytes where they are.
///
/// Releases the frame, unless the call fails: then it stays with the caller. A frame that is lent keeps its place in its
/// ring until the next reader has released it, too.
///
/// Errors: those of `zb_writer_write_frame`; `INVALID_ARGUMENT` if the frame is empty, or is not one of a `zb_reader`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_forward(
    writer: *const zb_writer,
    frame: *mut zb_frame,
    shared: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, frame) = passed!(handle(writer, "writer")?, handle_mut(frame, "frame")?);
        let forwarded = forward(handle, frame)?;
        passed!(set_if_wanted(shared, forwarded));
        passed!(zb_frame_release(frame));
        Ok(ZB_OK)
    })
}

/// Like `zb_writer_forward`, for a frame that goes to several writers: it stays with the caller, who releases it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_forward_to(
    writer: *const zb_writer,
    frame: *const zb_frame,
    shared: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, frame) = passed!(handle(writer, "writer")?, handle(frame, "frame")?);
        let forwarded = forward(handle, frame)?;
        passed!(set_if_wanted(shared, forwarded));
        Ok(ZB_OK)
    })
}

/// Like `zb_writer_forward`, for the frame that `reader` lends: takes it from there as `zb_reader_keep_frame_ref` does. If the
/// call fails `*frame` gets it, to be passed on later or released; else `*frame` is empty.
///
/// Errors: those of `zb_writer_forward` and `zb_reader_keep_frame_ref`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_forward_ref(
    writer: *const zb_writer,
    reader: *const zb_reader,
    frame: *mut zb_frame,
    shared: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    let status = passed!(zb_reader_keep_frame_ref(reader, frame, error));
    if status != ZB_OK {
        return status;
    }
    passed!(zb_writer_forward(writer, frame, shared, error))
}

/// `frame`, or the error for a frame that no reader has read.
pub(crate) fn of_a_reader<T>(frame: Option<T>) -> Result<T, Failure> {
    frame.ok_or_else(|| Failure::argument("the frame is empty, or is not one that a reader has read"))
}

/// Passes a frame on. Returns whether it was lent.
fn forward(handle: &zb_writer, frame: &zb_frame) -> Result<bool, Failure> {
    let frame = of_a_reader(frame.of_reader())?;
    let mut writer = handle.writer.enter()?;
    let forwarded = writer.forward_to(frame).map_err(|error| handle.writer.why(error))?;
    handle.count(&writer);
    let shared = forwarded == Forwarded::Shared;
    handle.count_forwarded(shared);
    Ok(shared)
}

/// The first of the frame's bytes, to be changed in place before the frame is passed on. The writer that wrote it never learns of it.
///
/// Errors: `INVALID_STATE` if others may look at the bytes: the frame is lent already, or is a shared one itself
/// (`zb_frame_is_shared`); `INVALID_ARGUMENT` if the frame is empty, or is not one of a `zb_reader`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_frame_make_mut(
    frame: *mut zb_frame,
    data: *mut *mut u8,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (frame, out) = passed!(handle_mut(frame, "frame")?, Out::new(data, "data")?);
        out.set(std::ptr::null_mut());
        let frame = of_a_reader(frame.of_reader_mut())?;
        let Some(bytes) = frame.make_mut() else {
            let message =
                "others may look at the frame: it is lent, or its bytes are another reader's; change a copy";
            return Err(Failure::new(ZB_ERROR_INVALID_STATE, "", message));
        };
        out.set(bytes.as_mut_ptr());
        Ok(ZB_OK)
    })
}

/// Like `zb_frame_make_mut`, but returns a private copy if others may look at the bytes: the frame has the copy from then on, with
/// another `data`, and is passed on by a copy. The bytes as they were before stay until the frame is released.
///
/// Errors: `INVALID_STATE` in a forked child; `INVALID_ARGUMENT` if the frame is empty, or is not one of a `zb_reader`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_frame_to_mut(
    frame: *mut zb_frame,
    data: *mut *mut u8,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (frame, out) = passed!(handle_mut(frame, "frame")?, Out::new(data, "data")?);
        out.set(std::ptr::null_mut());
        let core = of_a_reader(frame.of_reader_mut())?;
        let Some(bytes) = core.to_mut().map(<[u8]>::as_mut_ptr) else {
            let message = "the frame belongs to the process that forked this one: change a copy";
            return Err(Failure::new(ZB_ERROR_INVALID_STATE, "", message));
        };
        frame.data = bytes;
        out.set(bytes);
        Ok(ZB_OK)
    })
}

/// Whether the frame's bytes lie in another reader's buffer, which has lent them. They are read-only, and keep their place there,
/// so release the frame soon. False for an empty frame and for one that no `zb_reader` has read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_frame_is_shared(frame: *const zb_frame) -> bool {
    passed!(frame.as_ref()).and_then(zb_frame::of_reader).is_some_and(zerobuffer::Frame::is_shared)
}

/// Payload sharing as a reader or a writer sees it. Figures but for `enabled`: others may change them at once, and a process
/// that was killed leaves them.
#[repr(C)]
pub struct zb_payload_sharing {
    /// Of a reader: whether it allows sharing, and its buffer can. Of a writer: whether it requests sharing, and its reader
    /// allows it.
    pub enabled: bool,
    /// Of a reader: how many of its frames are lent to other readers now. Of a writer: how many frames are lent through it.
    pub share_count: u64,
    /// The process that lends frames through this buffer; 0 = none.
    pub owner_pid: u64,
}

impl zb_payload_sharing {
    const NONE: zb_payload_sharing = zb_payload_sharing { enabled: false, share_count: 0, owner_pid: 0 };
}

/// Tells what a reader shares.
///
/// Errors: `CLOSED`, `INVALID_STATE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_payload_sharing(
    reader: *const zb_reader,
    sharing: *mut zb_payload_sharing,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, out) = passed!(handle(reader, "reader")?, Out::new(sharing, "answer")?);
        out.set(zb_payload_sharing::NONE);
        let inner = handle.inner.enter()?;
        let reader = inner.reader();
        out.set(zb_payload_sharing {
            enabled: reader.payload_sharing_enabled(),
            share_count: reader.payload_share_count(),
            owner_pid: reader.payload_owner_pid(),
        });
        Ok(ZB_OK)
    })
}

/// Tells what a writer shares.
///
/// Errors: `CLOSED`, `INVALID_STATE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_payload_sharing(
    writer: *const zb_writer,
    sharing: *mut zb_payload_sharing,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, out) = passed!(handle(writer, "writer")?, Out::new(sharing, "answer")?);
        out.set(zb_payload_sharing::NONE);
        let writer = handle.writer.enter()?;
        out.set(zb_payload_sharing {
            enabled: writer.payload_sharing_enabled(),
            share_count: writer.payload_share_count(),
            owner_pid: writer.payload_owner_pid(),
        });
        Ok(ZB_OK)
    })
}

/// Whether the frame that the reader lends lies in another reader's buffer, as `zb_frame_is_shared` tells of an owned one. False if
/// no frame is lent. The loan continues.
///
/// Errors: `CLOSED`, `INVALID_STATE`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_is_frame_ref_shared(
    reader: *const zb_reader,
    shared: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let (handle, out) = passed!(handle(reader, "reader")?, Out::new(shared, "answer")?);
        out.set(false);
        out.set(handle.inner.enter()?.lending.is_shared());
        Ok(ZB_OK)
    })
}
