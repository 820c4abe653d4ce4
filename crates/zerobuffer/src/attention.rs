//! What the owner of a descriptor does after each look ([`crate::descriptor`]).

use crate::buffer::Buffer;
use crate::descriptor::Source;
use crate::sync::{Ordering, fence};
use crate::wait::doorbell;

/// Whether the descriptor of a handle is armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attention {
    /// It is ready, or there is none.
    Ready,
    /// The bell said this when it was armed.
    Bell(u32),
    Semaphore,
}

impl Attention {
    /// Whether the descriptor is armed, as far as its owner knows.
    #[inline]
    pub(crate) fn is_armed(self) -> bool {
        self != Attention::Ready
    }

    /// Whether it is armed by the bell.
    pub(crate) fn is_by_bell(self) -> bool {
        matches!(self, Attention::Bell(_))
    }

    /// After a look that found nothing: makes the descriptor no longer ready. Returns whether it is still armed, and whether
    /// it was ready. If both are false or both are true, look again.
    pub(crate) fn rest(self, buffer: &Buffer) -> (bool, bool) {
        let Some(descriptor) = buffer.descriptor() else { return (true, false) };
        // Before the bell is looked at: a ring that comes later leaves its byte.
        let was_ready = descriptor.drain();
        let armed = match self {
            Attention::Ready => false,
            // Acquire: a publisher's byte that was just taken out came behind its change of the bell.
            Attention::Bell(bell) => buffer.doorbell().load(Ordering::Acquire) == bell,
            Attention::Semaphore => !descriptor.was_rung(),
        };
        (armed, was_ready)
    }

    /// Arms the descriptor, before another look. `more` is what the bell says beside that; the tokens of a semaphore have been
    /// taken.
    pub(crate) fn arm(&mut self, buffer: &Buffer, source: Source, more: u32) {
        let Some(descriptor) = buffer.descriptor() else { return };
        match source {
            Source::Bell => {
                let known = buffer.peers_position();
                let bell = doorbell::arm(buffer.doorbell(), more, descriptor.next_turn());
                *self = Attention::Bell(bell);
                descriptor.count_waiter(buffer.own_semaphore(), false);
                descriptor.note(source, known, bell & doorbell::BARRIER != 0);
            }
            Source::Semaphore => {
                *self = Attention::Semaphore;
                descriptor.count_waiter(buffer.own_semaphore(), true);
                descriptor.note(source, 0, false);
                // Between the listener's turn and the look; pairs with the fence of a waker that reads the count.
                fence(Ordering::SeqCst);
            }
            Source::None => {}
        }
    }

    /// Leaves the armed state: the descriptor is ready, and the bell says `more`.
    #[cold]
    pub(crate) fn leave(&mut self, buffer: &Buffer, more: u32) {
        if let Attention::Bell(_) = std::mem::replace(self, Attention::Ready) {
            doorbell::set(buffer.doorbell(), more);
        }
        if let Some(descriptor) = buffer.descriptor() {
            // A publisher that has cleared the bit may still be about to ring, or may only wake the bell.
            descriptor.make_ready();
        }
    }
}
