//! How a writer passes a frame on that this process has read: by a reference to it where it can, else by a copy.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::frame::Frame;
use crate::layout::{HeaderWord, Reference};
use crate::os;
use crate::outlet::Outlet;
use crate::ring::{Lender, Reservation, Room, Tag, Unreturned};
use crate::testing::stop::stop_point;

/// Frames of at least so many bytes are lent. Smaller ones are copied in less time than a loan takes. For a fuzzer, small ones are large.
pub(crate) const LENT_FROM: usize = if cfg!(any(fuzzing, test)) { 64 } else { 32 << 10 };

/// How a frame was passed on; see [`Writer::forward`](crate::Writer::forward).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forwarded {
    /// The reader looks at the bytes where they are. They count as held until it has released the frame.
    Shared,
    /// The reader has a copy.
    Copied,
}

impl Outlet {
    /// Offers the buffer of `lender` to this writer's reader, before there is a frame to forward.
    pub(crate) fn offer(&mut self, lender: &Arc<Lender>) -> Result<()> {
        if self.offers.is_requested() && lender.may_lend() {
            self.accepted(lender)?;
        }
        Ok(())
    }

    /// Number of the offer of `lender`'s buffer, if the reader has accepted it; makes the offer first.
    pub(crate) fn accepted(&mut self, lender: &Arc<Lender>) -> Result<Option<u64>> {
        let Outlet { places, offers, .. } = self;
        places.role()?;
        Ok(offers.accepted(&places.buffer, places.reserver.segment(), lender))
    }

    /// Passes `frame` on, waiting for space up to the write time-out.
    pub(crate) fn forward(&mut self, frame: &Frame) -> Result<Forwarded> {
        self.forward_tagged(frame, Tag::default())
    }

    /// Passes `frame` on, as a frame that carries `tag`.
    pub(crate) fn forward_tagged(&mut self, frame: &Frame, tag: Tag) -> Result<Forwarded> {
        // A frame that the reader could not get as a copy is refused, so that this does not depend on who has looked by then.
        if frame.len() <= self.places.max_frame_size() && self.lend(frame, tag)? {
            self.places.frames_shared += 1;
            return Ok(Forwarded::Shared);
        }
        self.copy(frame, tag)?;
        self.places.frames_copied += 1;
        Ok(Forwarded::Copied)
    }

    /// Writes a copy of `frame`.
    fn copy(&mut self, frame: &Frame, tag: Tag) -> Result<()> {
        let offer = if self.offers.unannounced { HeaderWord::OFFER } else { 0 };
        let tag = Tag { flags: tag.flags | offer, ..tag };
        if tag == Tag::default() {
            self.write(frame)?;
        } else {
            self.write_tagged(frame, tag, os::coarse_now())?;
        }
        self.offers.unannounced = false;
        Ok(())
    }

    /// Writes a reference to `frame`, if its bytes may be lent and the reader takes references. Returns whether it did.
    fn lend(&mut self, frame: &Frame, tag: Tag) -> Result<bool> {
        let Some((lender, record)) = frame.to_be_lent().filter(|_| frame.len() >= LENT_FROM) else {
            return Ok(false);
        };
        self.places.buffer.check_mine()?;
        let Some(offer) = self.accepted(lender)? else { return Ok(false) };
        let ticket = lender.lend(record).or_else(|| {
            // What has come back makes room for another loan.
            lender.settle_loans(false);
            lender.lend(record)
        });
        let Some(ticket) = ticket else { return Ok(false) };
        let (position, len) = (record.position(), record.len() as u64);
        let reference = Reference { offer, position, len, sequence: record.sequence };
        let lent = match self.reserve_reference(&tag, self.timeout) {
            Ok(Some(place)) => self.commit_reference(lender, ticket, reference, tag, place),
            Ok(None) => Err(self.places.full(Reference::SIZE, self.timeout)),
            Err(error) => Err(error),
        };
        match lent {
            // Behind the wake, so that the reader need not wait for this look at its tail.
            Ok(true) => lender.settle_loans(false),
            _ => lender.end_loan(ticket),
        }
        lent
    }

    /// One place in the code for all references: a second one would make frames of other kinds slower.
    #[inline(never)]
    fn reserve_reference(&mut self, tag: &Tag, timeout: Duration) -> Result<Option<Reservation>> {
        self.reserve(&Room::of(Reference::SIZE, tag), timeout)
    }

    /// Commits a reference at `place`, and enters the loan of `ticket`. Returns whether it did: not if the borrower is gone.
    fn commit_reference(
        &mut self,
        lender: &Lender,
        ticket: u64,
        reference: Reference,
        tag: Tag,
        place: Reservation,
    ) -> Result<bool> {
        stop_point!("sharing:reference");
        self.places.copy_in(&place, &reference.to_bytes())?;
        let offer = if self.offers.unannounced { HeaderWord::OFFER } else { 0 };
        let tag = Tag { flags: tag.flags | HeaderWord::SHARED | offer, ..tag };
        let output = Arc::as_ptr(&self.places.buffer);
        let entered =
            lender.loans.enter(output, ticket, || self.places.commit_reference(place, reference.len, tag));
        let Some(is_oldest) = entered? else { return Ok(false) };
        self.offers.unannounced = false;
        self.places.wake_reader(1);
        if is_oldest {
            // Another thread may sleep as a reader that has lent nothing, or a later frame, and would not hear when it is given back.
            lender.buffer.call_own();
        }
        Ok(true)
    }

    // ---- frames of a bounded output ----

    /// Whether fewer than `bound` of the frames in `unreturned` have not been given back. If not, has them given back at once.
    pub(crate) fn is_below(&mut self, bound: usize, unreturned: &mut Unreturned) -> Result<bool> {
        self.places.ring.forget_returned(&self.places.buffer, unreturned);
        let is_below = unreturned.len() < bound;
        if !is_below {
            self.places.pass_up(os::coarse_now())?;
        }
        Ok(is_below)
    }

    /// Writes a copy of `data` if there is space now, and notes it in `unreturned`. Returns whether it did.
    pub(crate) fn try_copy(&mut self, data: &[u8], unreturned: &mut Unreturned) -> Result<bool> {
        let flags = if self.offers.unannounced { HeaderWord::OFFER } else { 0 };
        if self.write_now_or_until(data, Tag { flags, ..Tag::default() }, Duration::ZERO)?.is_none() {
            return Ok(false);
        }
        self.places.ring.note_unreturned(unreturned);
        self.offers.unannounced = false;
        self.places.frames_copied += 1;
        Ok(true)
    }

    /// Writes a reference to bytes that the books of `lender` call `ticket`, if there is space now, and notes it in `unreturned`.
    /// Returns whether it did.
    pub(crate) fn try_lend(
        &mut self,
        lender: &Lender,
        ticket: u64,
        reference: Reference,
        unreturned: &mut Unreturned,
    ) -> Result<bool> {
        let tag = Tag::default();
        let Some(place) = self.reserve_reference(&tag, Duration::ZERO)? else { return Ok(false) };
        if !self.commit_reference(lender, ticket, reference, tag, place)? {
            return Ok(false);
        }
        self.places.ring.note_unreturned(unreturned);
        self.places.frames_shared += 1;
        Ok(true)
    }
}
