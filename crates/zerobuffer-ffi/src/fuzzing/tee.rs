//! A tee: frames of one reader that are passed on to many writers.

use std::ffi::{CStr, c_char};
use std::ptr::null_mut;

use super::{World, check, empty_frame};
use crate::error::*;
use crate::tee::*;

impl World {
    /// Makes a tee, gives it outputs, and passes frames on.
    ///
    /// # Safety
    ///
    /// `name` is NULL or a string, `place` is NULL or a place for an error.
    pub(super) unsafe fn pass_on(
        &mut self,
        what: u8,
        [r, w]: [usize; 2],
        name: *const c_char,
        number: u8,
        place: *mut *mut zb_error,
    ) -> zb_status {
        let (reader, writer, tee) = (self.readers[r], self.writers[w], self.tee);
        // SAFETY: As this function's caller promises; handles are live or NULL, frames are held.
        unsafe {
            match what {
                37 => {
                    let mut made = null_mut();
                    let room = if tee.is_null() { &raw mut made } else { null_mut() };
                    let status = zb_tee_create(reader, room, place);
                    assert_eq!(status == ZB_OK, !made.is_null());
                    if status == ZB_OK {
                        // The tee has the reader, whose loan has ended.
                        self.tee = made;
                        self.lent[r] = None;
                    }
                    status
                }
                38 | 39 => {
                    let status = match what {
                        38 => zb_tee_add_block_output(tee, writer, place),
                        _ => zb_tee_add_drop_output(tee, writer, usize::from(number), place),
                    };
                    if status == ZB_OK {
                        // The tee has the writer, whose frame is discarded.
                        self.acquired[w] = None;
                    }
                    status
                }
                40 => {
                    let mut removed = false;
                    let status = match number & 1 {
                        0 => zb_tee_remove_output(tee, name, &raw mut removed, place),
                        // Of the whole name, or of a part of it.
                        _ => {
                            let length = if name.is_null() { 3 } else { CStr::from_ptr(name).count_bytes() };
                            let length = if number & 2 == 0 { length } else { length / 2 };
                            zb_tee_remove_output_n(tee, name, length, &raw mut removed, place)
                        }
                    };
                    assert!(status == ZB_OK || !removed);
                    status
                }
                41 => {
                    let status = zb_tee_step(tee, 0, place);
                    assert!(status <= ZB_OK || [ZB_TIMEOUT, ZB_END_OF_STREAM].contains(&status));
                    status
                }
                42 => {
                    // Otherwise it would wait for a frame that no other thread writes.
                    zb_tee_interrupt(tee);
                    let status = zb_tee_run(tee, place);
                    assert!(status < ZB_OK || status == ZB_END_OF_STREAM);
                    status
                }
                43 => {
                    let mut frame = empty_frame();
                    let room = if number == u8::MAX { null_mut() } else { &raw mut frame };
                    let status = zb_tee_read_frame(tee, 0, room, place);
                    assert_eq!(status == ZB_OK, !frame.data.is_null());
                    self.hold(frame);
                    status
                }
                44 => self.forward(usize::from(number), place),
                45 => zb_tee_flush(tee, place),
                46 => self.ask_outputs(usize::from(number & 3), place),
                _ => match number & 3 {
                    0 => {
                        zb_tee_interrupt(tee);
                        ZB_OK
                    }
                    1 => {
                        assert_eq!(zb_tee_name(tee).is_null(), tee.is_null());
                        ZB_OK
                    }
                    2 => zb_tee_close(tee, place),
                    _ => {
                        zb_tee_free(std::mem::replace(&mut self.tee, null_mut()));
                        ZB_OK
                    }
                },
            }
        }
    }

    /// # Safety
    ///
    /// `place` is NULL or a place for an error.
    unsafe fn forward(&mut self, number: usize, place: *mut *mut zb_error) -> zb_status {
        let which = number % self.held.len().max(1);
        let mut none = empty_frame();
        let frame = self.held.get_mut(which).unwrap_or(&mut none);
        // SAFETY: as for this function; the tee is live or NULL, and the frame is held or empty.
        let status = unsafe { zb_tee_forward(self.tee, frame, place) };
        let refused = [ZB_ERROR_INVALID_ARGUMENT, ZB_ERROR_CLOSED, ZB_ERROR_INVALID_STATE].contains(&status);
        if let Some(frame) = self.held.get(which) {
            assert_eq!(frame.data.is_null(), !refused, "status {status}");
            if refused {
                check(frame);
            } else {
                self.held.swap_remove(which);
            }
        } else {
            assert!(refused, "an empty frame was passed on");
        }
        status
    }

    /// # Safety
    ///
    /// `place` is NULL or a place for an error.
    unsafe fn ask_outputs(&self, capacity: usize, place: *mut *mut zb_error) -> zb_status {
        let mut outputs = Vec::with_capacity(capacity);
        let mut count = 9;
        // SAFETY: as for this function; the tee is live or NULL. There is room for `capacity` outputs, of which as many are set as
        // there are, at most all.
        let status = unsafe {
            let status =
                zb_tee_outputs(self.tee, outputs.as_mut_ptr(), outputs.capacity(), &raw mut count, place);
            outputs.set_len(if status == ZB_OK { count.min(outputs.capacity()) } else { 0 });
            status
        };
        for output in &outputs {
            let output: &zb_tee_output = output;
            // SAFETY: the name ends with a zero byte within its place.
            let name = unsafe { CStr::from_ptr(output.name.as_ptr()) };
            assert!(self.names.iter().any(|own| own.as_c_str() == name), "{name:?}");
            assert!(output.ended <= ZB_OK && output.ended != ZB_ERROR_INTERNAL);
            assert!(output.bound > 0 || output.frames_dropped == 0 || output.ended < ZB_OK);
        }
        status
    }
}
