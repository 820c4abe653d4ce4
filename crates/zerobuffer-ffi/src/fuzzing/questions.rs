//! Calls that change nothing: questions, and what is refused.

use std::ptr::null_mut;

use super::empty_frame;
use crate::client::*;
use crate::error::*;
use crate::frame::*;
use crate::reader::*;
use crate::writer::*;

/// Questions that change nothing.
///
/// # Safety
///
/// The handles are live or NULL, `place` is NULL or a place for an error.
pub(super) unsafe fn ask(
    reader: *const zb_reader,
    writer: *const zb_writer,
    number: u8,
    place: *mut *mut zb_error,
) -> zb_status {
    let (mut yes, mut size) = (false, 0);
    // SAFETY: as for this function.
    unsafe {
        match number & 7 {
            0 => zb_reader_is_writer_connected(reader, &raw mut yes, place),
            1 => zb_reader_wait_for_writer(reader, 0, place),
            2 => zb_writer_is_reader_connected(writer, &raw mut yes, place),
            3 => zb_writer_max_frame_size(writer, &raw mut size, place),
            4 => {
                assert!(zb_reader_frames_read(reader) <= zb_reader_bytes_read(reader));
                assert!(zb_writer_frames_written(writer) <= zb_writer_bytes_written(writer));
                assert!(!zb_reader_name(reader).is_null() && !zb_writer_name(writer).is_null());
                ZB_OK
            }
            5 => zb_writer_set_write_timeout(writer, 0, place),
            6 => zb_reader_read_frame(reader, 0, null_mut(), place),
            _ => zb_writer_acquire_frame_buffer(writer, 1, null_mut(), place),
        }
    }
}

/// Calls of the duplex half, which must refuse NULL.
///
/// # Safety
///
/// `place` is NULL or a place for an error.
pub(super) unsafe fn without_a_handle(number: u8, place: *mut *mut zb_error) -> zb_status {
    let mut frame = empty_frame();
    // SAFETY: as for this function; NULL is what is tried.
    let status = unsafe {
        match number & 7 {
            0 => zb_client_call(null_mut(), null_mut(), 1, 0, &raw mut frame, place),
            1 => zb_client_send_request(null_mut(), null_mut(), 0, null_mut(), place),
            2 => zb_client_receive_response(null_mut(), 0, &raw mut frame, place),
            3 => zb_client_commit_request(null_mut(), null_mut(), place),
            4 => zb_client_close(null_mut(), place),
            5 => zb_client_connect(null_mut(), null_mut(), null_mut(), place),
            6 => zb_reader_create(null_mut(), null_mut(), null_mut(), place),
            _ => {
                zb_client_free(null_mut());
                zb_frame_release(null_mut());
                zb_error_free(null_mut());
                return ZB_OK;
            }
        }
    };
    assert!(status < ZB_OK && frame.data.is_null());
    status
}
