//! What a reader does whose descriptor is polled.

use super::Inlet;
use crate::error::Result;
#[cfg(not(loom))]
use {crate::buffer::HasBuffer, crate::listener, std::os::fd::BorrowedFd, std::sync::Arc};

impl Inlet {
    /// The descriptor, which is made at the first call.
    #[cfg(not(loom))]
    pub(crate) fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        let buffer = &self.lender.buffer;
        buffer.check_mine()?;
        if buffer.descriptor().is_none() {
            let role = &self.locks()?.role;
            let shared: Arc<dyn HasBuffer> = Arc::<crate::ring::Lender>::clone(&self.lender);
            listener::register(&shared, |own, control| buffer.make_descriptor(own, control, role.view()?))
                .map_err(|error| buffer.os_error("make a descriptor", error))?;
        }
        buffer.borrow_descriptor()
    }

    /// Closes the descriptor, if there is one.
    pub(super) fn close_descriptor(&self) {
        let buffer = &self.lender.buffer;
        if buffer.descriptor().is_some() && buffer.is_mine() {
            #[cfg(not(loom))]
            listener::forget(buffer);
            buffer.close_descriptor();
        }
    }

    /// Whether the descriptor is armed.
    pub(crate) fn is_armed(&self) -> bool {
        self.attention.is_armed()
    }

    /// Makes the descriptor ready, if it is armed: before a wait, which rings for itself alone.
    #[inline]
    pub(super) fn leave_armed(&mut self) {
        if self.attention.is_armed() {
            self.attention.leave(&self.lender.buffer, 0);
        }
    }

    /// After a look, with what it found: leaves the descriptor ready, unless there is nothing.
    #[cold]
    pub(super) fn attend(&mut self, found: Result<bool>, interruptible: bool) -> Result<bool> {
        let found = match found {
            Ok(false) => self.arm(interruptible),
            found => found,
        };
        if !matches!(found, Ok(false)) {
            self.leave_armed();
        }
        found
    }

    /// Arms the descriptor, and looks again. Returns whether there is a frame.
    fn arm(&mut self, interruptible: bool) -> Result<bool> {
        let (mut armed, was_ready) = self.attention.rest(&self.lender.buffer);
        armed &= self.lender.loans.are_armed();
        if armed && !was_ready {
            return Ok(false);
        }
        if !armed {
            let source = self.ring.before_arming(&self.lender);
            self.attention.arm(&self.lender.buffer, source, 0);
        }
        self.lender.arm_loans(!armed);
        // The watch, as the kernel's bell, stands before the look.
        let watched = self.is_watched();
        // The writer may have died since the first look, within the same tick of the clock.
        self.polled = (None, 0);
        let found = self.glance(interruptible)?;
        let asks = !(watched && self.is_woken()) && self.writer_lives();
        if let Some(descriptor) = self.lender.buffer.descriptor() {
            // What is not watched, the listener asks for.
            descriptor.note_peer(asks);
        }
        Ok(found)
    }
}
