//! What a writer does whose descriptor is polled.

use std::time::Duration;

use super::Places;
use crate::error::Result;
use crate::ring::{NoPlace, Reservation, Room};
use crate::wait::doorbell;
#[cfg(not(loom))]
use {crate::buffer::HasBuffer, crate::listener, std::os::fd::BorrowedFd, std::sync::Arc};

impl Places {
    /// The descriptor, which is made at the first call.
    #[cfg(not(loom))]
    pub(crate) fn descriptor(&self) -> Result<BorrowedFd<'_>> {
        self.buffer.check_mine()?;
        if self.buffer.descriptor().is_none() {
            let role = self.role()?;
            let shared: Arc<dyn HasBuffer> = Arc::<crate::buffer::Buffer>::clone(&self.buffer);
            listener::register(&shared, |own, control| {
                self.buffer.make_descriptor(own, control, role.view()?)
            })
            .map_err(|error| self.buffer.os_error("make a descriptor", error))?;
        }
        self.buffer.borrow_descriptor()
    }

    /// Closes the descriptor, if there is one.
    pub(crate) fn close_descriptor(&self) {
        if self.buffer.descriptor().is_some() && self.buffer.is_mine() {
            #[cfg(not(loom))]
            listener::forget(&self.buffer);
            self.buffer.close_descriptor();
        }
    }

    /// Makes the descriptor ready, if it is armed; then the bell says `more`.
    #[inline]
    pub(super) fn leave_armed(&mut self, more: u32) {
        if self.attention.is_armed() {
            self.attention.leave(&self.buffer, more);
        }
    }

    /// After a look that found no place: arms the descriptor, and looks again.
    pub(super) fn arm(&mut self, room: &Room) -> Result<Option<Reservation>> {
        let (armed, was_ready) = self.attention.rest(&self.buffer);
        if armed && !was_ready {
            return Ok(None);
        }
        if !armed {
            // The tokens of a classic ring were taken when the frame was given up.
            self.attention.arm(&self.buffer, self.ring.source(), doorbell::SHORT);
        }
        let watched = self.is_watched();
        let alive = self.check_reader();
        let found = alive.and_then(|()| match self.find(room, Duration::ZERO) {
            Ok(place) => Ok(Some(place)),
            Err(NoPlace::NoMemory(error)) => Err(self.no_memory(error)),
            Err(NoPlace::Full | NoPlace::Unsure(_)) => Ok(None),
        });
        if matches!(found, Ok(None)) {
            if let Some(descriptor) = self.buffer.descriptor() {
                // What is not watched, the listener asks for.
                descriptor.note_peer(!watched);
            }
        } else {
            self.leave_armed(0);
            self.ring.say_short(&self.buffer, false);
        }
        found
    }
}
