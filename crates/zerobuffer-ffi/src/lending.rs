//! A reader, and the frame that it lends to C until the next call.

use std::ptr::NonNull;
use std::time::Duration;

use zerobuffer::{FrameRef, Reader, Result};

/// A reader whose last borrowed frame stays borrowed between two calls of C.
///
/// In Rust the borrow would keep the reader from being used; here each use of the reader ends the loan first.
pub(crate) struct Lending {
    /// Borrows `*reader`: gone before that is used, or freed.
    lent: Option<FrameRef<'static>>,
    /// Of a box of ours. Not the box itself, as moving that would claim its contents for it alone, which are lent.
    reader: NonNull<Reader>,
}

// SAFETY: a reader may move between threads, and with it the right to release its last frame.
unsafe impl Send for Lending {}

impl Lending {
    pub(crate) fn new(reader: Reader) -> Lending {
        Lending { lent: None, reader: NonNull::from(Box::leak(Box::new(reader))) }
    }

    /// The reader; ends the loan.
    #[inline(always)]
    pub(crate) fn reader(&mut self) -> &mut Reader {
        self.lent = None;
        // SAFETY: the box lives as long as `self`, which is borrowed mutably, and nothing else borrows it any more.
        unsafe { self.reader.as_mut() }
    }

    /// The reader, to look at only; the loan goes on.
    #[inline(always)]
    pub(crate) fn look(&self) -> &Reader {
        // SAFETY: as in reader(), but shared, as is what `lent` borrows.
        unsafe { self.reader.as_ref() }
    }

    /// Ends the loan, then waits for the next frame and lends it.
    #[inline(always)]
    pub(crate) fn lend(&mut self, timeout: Duration) -> Result<Option<&FrameRef<'static>>> {
        self.lent = None;
        // SAFETY: as in reader(). The frame may call itself 'static, as it goes before the box is used again or freed.
        let reader: &'static mut Reader = unsafe { &mut *self.reader.as_ptr() };
        self.lent = reader.read_frame_ref(timeout)?;
        Ok(self.lent.as_ref())
    }

    /// Gives the frame back that is lent, if any.
    #[inline(always)]
    pub(crate) fn end(&mut self) {
        self.lent = None;
    }

    /// Closes the reader. What was lent is given back; its memory stays mapped as long as an interrupt of the reader lives.
    pub(crate) fn close(mut self) -> Result<()> {
        self.lent = None;
        let reader = self.reader;
        std::mem::forget(self);
        // SAFETY: new() leaked this box, nothing borrows it, and the drop that would free it was forgotten.
        unsafe { Box::from_raw(reader.as_ptr()) }.close()
    }
}

impl Drop for Lending {
    fn drop(&mut self) {
        self.lent = None;
        // SAFETY: new() leaked this box, and close(), which frees it too, forgets this drop.
        drop(unsafe { Box::from_raw(self.reader.as_ptr()) });
    }
}
