//! A reader, and the frame that it lends to C until the next call.

use std::ptr::NonNull;
use std::time::Duration;

use zerobuffer::{Frame, FrameRef, Reader, Result};

/// A reader whose last borrowed frame stays borrowed between two calls of C.
///
/// In Rust the borrow would prevent uses of the reader. Here each use of the reader ends the loan first.
pub(crate) struct Lending {
    /// Borrows `*reader`. It is dropped before the reader is used or freed.
    lent: Option<FrameRef<'static>>,
    /// Made by Box::leak in new(). It is not the box itself: moving a box asserts unique access to its
    /// contents, which are lent.
    reader: NonNull<Reader>,
}

// SAFETY: A reader may move between threads, and with it the right to release its last frame.
unsafe impl Send for Lending {}

impl Lending {
    pub(crate) fn new(reader: Reader) -> Lending {
        Lending { lent: None, reader: NonNull::from(Box::leak(Box::new(reader))) }
    }

    /// Ends the loan and returns the reader.
    #[inline(always)]
    pub(crate) fn reader(&mut self) -> &mut Reader {
        self.lent = None;
        // SAFETY: The box lives as long as `self`, which is borrowed mutably. The only other borrow of it, `lent`, has just ended.
        unsafe { self.reader.as_mut() }
    }

    /// The reader, for reading only. The loan continues.
    #[inline(always)]
    pub(crate) fn look(&self) -> &Reader {
        // SAFETY: The box lives as long as `self`. `lent` borrows it shared, as this does, and reader() and lend(), which borrow
        // it mutably, need `self` mutably.
        unsafe { self.reader.as_ref() }
    }

    /// Ends the loan, then waits for the next frame and lends it.
    #[inline(always)]
    pub(crate) fn lend(&mut self, timeout: Duration) -> Result<Option<&FrameRef<'static>>> {
        self.lend_by(|reader| reader.read_frame_ref(timeout))
    }

    /// Ends the loan, then waits for a frame and lends the newest one.
    pub(crate) fn lend_latest(&mut self, timeout: Duration) -> Result<Option<&FrameRef<'static>>> {
        self.lend_by(|reader| reader.read_latest_frame_ref(timeout))
    }

    #[inline(always)]
    fn lend_by(
        &mut self,
        read: impl FnOnce(&'static mut Reader) -> Result<Option<FrameRef<'static>>>,
    ) -> Result<Option<&FrameRef<'static>>> {
        self.lent = None;
        // SAFETY: The box lives as long as `self`, which is borrowed mutably, and the last loan has just ended. The frame may call
        // itself 'static, as each function of this type ends it before the box is borrowed mutably or freed.
        let reader: &'static mut Reader = unsafe { &mut *self.reader.as_ptr() };
        self.lent = read(reader)?;
        Ok(self.lent.as_ref())
    }

    /// Ends the loan if that takes no lock and no system call; returns whether none is left.
    #[inline(always)]
    pub(crate) fn end_quietly(&mut self) -> bool {
        match self.lent.take().map(FrameRef::release_quietly) {
            Some(Err(frame)) => {
                self.lent = Some(frame);
                false
            }
            _ => true,
        }
    }

    /// Lends the next frame, if it is known to be there and nothing is special about it; after `end_quietly`.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Option<&FrameRef<'static>> {
        self.lend_by(|reader| Ok(reader.take_frame_ref())).ok().flatten()
    }

    /// The number of the frame that is lent; 0 if none is.
    pub(crate) fn lent(&self) -> u64 {
        self.lent.as_ref().map_or(0, FrameRef::sequence)
    }

    /// Whether the bytes of the frame that is lent are another reader's.
    pub(crate) fn is_shared(&self) -> bool {
        self.lent.as_ref().is_some_and(FrameRef::is_shared)
    }

    /// Gives back the frame that is lent, if any.
    #[inline(always)]
    pub(crate) fn end(&mut self) {
        self.lent = None;
    }

    /// Turns the frame that is lent, if any, into an owned one.
    #[inline(always)]
    pub(crate) fn keep(&mut self) -> Option<Frame> {
        self.lent.take().map(FrameRef::keep)
    }

    /// Ends the loan, and takes the reader out.
    pub(crate) fn into_reader(mut self) -> Reader {
        self.lent = None;
        let reader = self.reader;
        std::mem::forget(self);
        // SAFETY: new() leaked this box, nothing borrows it, as the loan has ended, and the drop that would free it was
        // forgotten.
        *unsafe { Box::from_raw(reader.as_ptr()) }
    }

    /// Closes the reader. The frame that is lent, if any, becomes an owned one.
    pub(crate) fn close(mut self) -> (Option<Frame>, Result<()>) {
        let kept = self.keep();
        let reader = self.reader;
        std::mem::forget(self);
        // SAFETY: new() leaked this box, nothing borrows it, as the loan has ended, and the drop that would free it was
        // forgotten.
        (kept, unsafe { Box::from_raw(reader.as_ptr()) }.close())
    }
}

impl Drop for Lending {
    fn drop(&mut self) {
        self.lent = None;
        // SAFETY: new() leaked this box, and close(), which frees it too, forgets this drop.
        drop(unsafe { Box::from_raw(self.reader.as_ptr()) });
    }
}
