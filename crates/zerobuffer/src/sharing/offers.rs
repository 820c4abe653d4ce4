//! What a writer does that lends: it offers the source's buffer to its reader, and asks whether that has accepted.

use std::sync::{Arc, Weak};

use crate::buffer::Buffer;
use crate::layout::{WriterWord, offer_number, words_of_name};
use crate::memory::Memory;
use crate::os;
use crate::ring::Lender;
use crate::sync::{Ordering, fence};
use crate::testing::stop::stop_point;

/// A writer's offers to its reader.
pub(crate) struct Offers {
    /// The writer was asked to lend.
    requested: bool,
    /// Offers made.
    count: u32,
    current: Option<Current>,
    /// An offer was made since the last frame.
    pub(crate) unannounced: bool,
}

struct Current {
    number: u64,
    lender: Weak<Lender>,
}

impl Offers {
    pub(crate) fn new(requested: bool) -> Offers {
        Offers { requested, count: 0, current: None, unannounced: false }
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.requested
    }

    /// Nothing more of the source that is offered will be lent, so another one may be.
    pub(crate) fn withdraw(&mut self) {
        self.current = None;
    }

    /// Number of the offer of `lender`'s buffer, if the reader has accepted it. Makes the offer if there is none, or the one
    /// that stands is of a reader that has closed: a writer has one source at a time.
    pub(crate) fn accepted(
        &mut self,
        buffer: &Arc<Buffer>,
        segment: &Arc<os::Segment>,
        lender: &Arc<Lender>,
    ) -> Option<u64> {
        let sharing = buffer.mapping.sharing().filter(|_| self.requested)?;
        if let Some(current) = &self.current {
            if std::ptr::eq(current.lender.as_ptr(), Arc::as_ptr(lender)) {
                // Acquire pairs with the Release store in Borrower::answer: the borrower has its lock.
                let accepted = sharing.answer.accepted.load(Ordering::Acquire);
                return (accepted == current.number).then_some(current.number);
            }
            if current.lender.upgrade().is_some_and(|lender| !lender.loans.is_closed()) {
                return None;
            }
        }
        self.publish(buffer, segment, lender);
        None
    }

    /// Offers `lender`'s buffer.
    #[cold]
    fn publish(&mut self, buffer: &Arc<Buffer>, segment: &Arc<os::Segment>, lender: &Arc<Lender>) {
        let (Some(file), Some(sharing)) = (lender.loans.file(), buffer.mapping.sharing()) else {
            return;
        };
        let name = lender.buffer.name();
        // A frame that is lent within its own buffer would wait for itself.
        let can_be = buffer.mapping.is_extended() && name != buffer.name();
        let Some(words) = words_of_name(name).filter(|_| can_be) else { return };
        // Relaxed: only this writer stores the word while it has the role.
        let epoch = WriterWord(buffer.mapping.oieb().writer_word.load(Ordering::Relaxed)).epoch();
        self.count += 1;
        let number = offer_number(epoch, self.count);
        let weak = Arc::downgrade(lender);
        if !lender.loans.open_lane(weak, buffer, segment, number) {
            return;
        }
        let line = &sharing.offer;
        stop_point!("sharing:offer-begin");
        line.offer.store(0, Ordering::Relaxed);
        // Pairs with the Acquire fence in read_offer(): who sees one of the fields sees the 0 too.
        fence(Ordering::Release);
        stop_point!("sharing:offer-fields");
        line.offer_device.store(file.device, Ordering::Relaxed);
        line.offer_inode.store(file.inode, Ordering::Relaxed);
        line.offer_name_size.store(name.len() as u64, Ordering::Relaxed);
        for (target, word) in sharing.name.offer_name.iter().zip(words) {
            target.store(word, Ordering::Relaxed);
        }
        line.payload_share_count.store(0, Ordering::Relaxed);
        line.payload_owner_pid.store(u64::from(std::process::id()), Ordering::Relaxed);
        stop_point!("sharing:offer-end");
        // Release pairs with the Acquire load in read_offer().
        line.offer.store(number, Ordering::Release);
        self.current = Some(Current { number, lender: Arc::downgrade(lender) });
        self.unannounced = true;
    }
}
