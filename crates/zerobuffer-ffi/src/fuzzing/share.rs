//! Frames that are passed on.

use std::ffi::c_char;
use std::ptr::{null, null_mut};

use super::{World, empty_frame, writer_options};
use crate::config::zb_writer_options_free;
use crate::error::*;
use crate::sharing::*;

impl World {
    /// Passes frames on, changes them in place, and asks who shares.
    ///
    /// # Safety
    ///
    /// `name` is NULL or a string, `place` is NULL or a place for an error.
    pub(super) unsafe fn share(
        &mut self,
        what: u8,
        [r, w]: [usize; 2],
        name: *const c_char,
        number: u8,
        place: *mut *mut zb_error,
    ) -> zb_status {
        let (reader, writer) = (self.readers[r], self.writers[w]);
        let which = usize::from(number) % self.held.len().max(1);
        let mut shared = false;
        // SAFETY: As this function's caller promises; handles are live or NULL, frames are held.
        unsafe {
            match what {
                31 => {
                    let mut none = empty_frame();
                    let status = match self.held.get_mut(which) {
                        Some(frame) => zb_writer_forward(writer, frame, &raw mut shared, place),
                        None => zb_writer_forward(writer, &raw mut none, &raw mut shared, place),
                    };
                    if status == ZB_OK {
                        // Released by the call.
                        assert!(self.held.swap_remove(which).data.is_null());
                    }
                    status
                }
                32 => {
                    let frame = self.held.get(which).map_or(null(), std::ptr::from_ref);
                    zb_writer_forward_to(writer, frame, &raw mut shared, place)
                }
                33 => {
                    let (mut frame, lent) = (empty_frame(), self.lent[r].take());
                    let status =
                        zb_writer_forward_ref(writer, reader, &raw mut frame, &raw mut shared, place);
                    assert!(status != ZB_OK || lent.is_some() && frame.data.is_null());
                    self.hold(frame);
                    status
                }
                34 => {
                    let mut data = null_mut();
                    let Some(frame) = self.held.get_mut(which) else {
                        return zb_frame_make_mut(null_mut(), &raw mut data, place);
                    };
                    let status = zb_frame_make_mut(frame, &raw mut data, place);
                    assert!(status != ZB_OK || !zb_frame_is_shared(frame));
                    if status == ZB_OK {
                        assert_eq!(data.cast_const(), frame.data);
                        data.write_bytes(frame.size as u8, frame.size);
                    }
                    status
                }
                35 if writer.is_null() => {
                    let (options, out) = (writer_options(number, true), &raw mut self.writers[w]);
                    let status = zb_shared_writer_create(name, reader, null(), options, out, place);
                    zb_writer_options_free(options);
                    status
                }
                _ => self.ask_who_shares(reader, writer, which, number, place),
            }
        }
    }

    /// # Safety
    ///
    /// The handles are live or NULL, `place` is NULL or a place for an error.
    unsafe fn ask_who_shares(
        &self,
        reader: *const crate::reader::zb_reader,
        writer: *const crate::writer::zb_writer,
        which: usize,
        number: u8,
        place: *mut *mut zb_error,
    ) -> zb_status {
        let mut yes = false;
        let mut sharing = zb_payload_sharing { enabled: true, share_count: 9, owner_pid: 9 };
        // SAFETY: as for this function; frames are held.
        unsafe {
            match number & 3 {
                0 => zb_reader_payload_sharing(reader, &raw mut sharing, place),
                1 => zb_writer_payload_sharing(writer, &raw mut sharing, place),
                2 => zb_writer_is_adopted(writer, &raw mut yes, place),
                _ => {
                    zb_frame_is_shared(self.held.get(which).map_or(null(), std::ptr::from_ref));
                    zb_reader_is_frame_ref_shared(reader, &raw mut yes, place)
                }
            }
        }
    }
}
