//! Reading a frame that is there, for runtimes to which a call that may wait costs more.

use std::sync::atomic::Ordering;

use crate::arguments::{passed, set_if_wanted};
use crate::panic::guarded_or;
use crate::reader::{zb_frame_ref, zb_reader};

/// Like `zb_reader_read_frame_ref`, if the next frame is known to be there and reading it is a matter of a few loads and stores: true, and
/// a frame. False tells nothing, neither of a frame nor of an error: call `zb_reader_read_frame_ref`. The loan of the last frame may have
/// ended then.
///
/// The function takes no lock, makes no system call, calls nothing back and logs nothing, so that a runtime with a garbage collector may
/// call it as if it were its own code (C#: `SuppressGCTransition`).
///
/// `due`, which may be NULL, gets whether the writer may need the frame's bytes as soon as they go back. If not, the release may be
/// left to the reader's next call that ends the loan: it would only note that the bytes may go back.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_take_frame_ref(
    reader: *const zb_reader,
    frame: *mut zb_frame_ref,
    due: *mut bool,
) -> bool {
    guarded_or(false, || {
        let Some(handle) = passed!(reader.as_ref()).filter(|_| !frame.is_null()) else { return false };
        handle.take(|lent, is_due| {
            passed!(set_if_wanted(frame, lent), set_if_wanted(due, is_due));
        })
    })
}

impl zb_reader {
    /// Lends the next frame to `tell`, if nothing is special about it and about the loan before it. Returns whether it did.
    #[inline(always)]
    fn take(&self, tell: impl FnOnce(zb_frame_ref, bool)) -> bool {
        let Some(mut inner) = self.inner.try_enter() else { return false };
        if !inner.lending.end_quietly() {
            return false;
        }
        // Relaxed: a thread that still reads the old number waits, and reads again.
        self.lent.store(0, Ordering::Relaxed);
        let Some(frame) = inner.lending.take() else { return false };
        let lent = zb_frame_ref { data: frame.as_ptr(), size: frame.len(), sequence: frame.sequence() };
        self.lent.store(lent.sequence, Ordering::Relaxed);
        tell(lent, frame.is_due());
        self.count(&inner);
        true
    }
}
