//! What a reader does that takes frames by reference: it answers offers, and resolves references.

use crate::buffer::Buffer;
use crate::error::{Error, ErrorKind};
use crate::layout::{
    BORROWER_ROLE_BYTE, NAME_WORDS, Offer, Reference, WriterWord, epoch_of_offer, offered_name,
};
use crate::memory::Memory;
use crate::os;
use crate::ring::{FrameRecord, Lender};
use crate::sharing::source::{Known, Source};
use crate::sync::{Ordering, fence};
use crate::testing::stop::stop_point;

/// The most sources of one writer that are kept. Each of its references names the newest that was accepted, or an older one.
const SOURCES: usize = 4;

/// The books of a reader that takes references.
pub(crate) struct Borrower {
    /// Number of the last offer that was answered.
    answered: u64,
    /// The sources that were accepted, oldest first.
    sources: Vec<Known>,
}

impl Borrower {
    /// For the reader of `buffer`; `None` if it takes no references.
    pub(crate) fn new(buffer: &Buffer, allowed: bool) -> Option<Borrower> {
        buffer.mapping.sharing().filter(|_| allowed)?;
        Some(Borrower { answered: 0, sources: Vec::new() })
    }

    /// Answers the writer's offer, if it has made one since the last look. On the reader's thread; `segment` is the buffer's.
    #[inline]
    pub(crate) fn look(&mut self, lender: &Lender, segment: &os::Segment) {
        let Some(sharing) = lender.buffer.mapping.sharing() else { return };
        // Relaxed: a hint to look closer.
        let number = sharing.offer.offer.load(Ordering::Relaxed);
        if number != 0 && number != self.answered {
            self.answer(lender, segment);
        }
    }

    #[cold]
    fn answer(&mut self, lender: &Lender, segment: &os::Segment) {
        let buffer = &lender.buffer;
        let Some(sharing) = buffer.mapping.sharing() else { return };
        let Some(offer) = read_offer(buffer) else { return };
        let _uncancelled = os::Uncancelled::new();
        self.answered = offer.number;
        match self.open(lender, segment, &offer) {
            Ok(known) => {
                self.sources.push(known);
                stop_point!("sharing:accept");
                // Release, after the borrower's lock was taken; pairs with the Acquire load in Offers::is_accepted.
                sharing.answer.accepted.store(offer.number, Ordering::Release);
            }
            Err(refusal) => {
                log::debug!("buffer `{}`: its frames are copied: {refusal}", buffer.name());
                stop_point!("sharing:refuse");
                // Relaxed: it orders nothing.
                sharing.answer.refused.store(offer.number, Ordering::Relaxed);
            }
        }
    }

    /// Opens the source of an offer, and takes the borrower's lock before anything of it may be lent.
    fn open(&mut self, lender: &Lender, segment: &os::Segment, offer: &Offer) -> Result<Known, String> {
        if self.sources.len() >= SOURCES {
            return Err("its writer has offered too many buffers".into());
        }
        let known = Known::new(offer.number, Source::open(offer)?);
        if !lender.is_borrowing() {
            let failed = |error: std::io::Error| format!("cannot lock the borrower's role: {error}");
            stop_point!("sharing:lock-open");
            let lock = segment.role_file().map_err(failed)?;
            stop_point!("sharing:lock");
            match lock.attempt_role(BORROWER_ROLE_BYTE).map_err(failed)? {
                os::Attempt::Locked => lender.begin_to_borrow(lock),
                _ => return Err("another process holds the borrower's role".into()),
            }
        }
        Ok(known)
    }

    /// A frame of another writer is read, whose word is `word`: nothing of the writers before it will refer to their sources. The
    /// offer of a later one may be accepted already.
    pub(crate) fn begins(&mut self, word: WriterWord) {
        let is_before =
            |known: &Known| WriterWord::epochs_between(epoch_of_offer(known.number), word.epoch()) > 0;
        self.sources.retain(|known| !is_before(known));
    }

    /// The frame that a reference stands for. On the reader's thread; the result is held already.
    pub(crate) fn resolve(&mut self, lender: &Lender, record: &FrameRecord) -> Result<FrameRecord, Error> {
        let buffer = &lender.buffer;
        let corrupt =
            |what: String| buffer.error(ErrorKind::CorruptBuffer, format!("a reference is wrong: {what}"));
        let reference = read_reference(buffer, record)
            .ok_or_else(|| corrupt(format!("it has {} bytes at {}", record.len(), record.position())))?;
        let index = self.sources.iter().position(|known| known.number == reference.offer);
        let index = index.ok_or_else(|| {
            corrupt(format!("it names offer {:#x}, which was not accepted", reference.offer))
        })?;
        let borrowed = self.sources[index].borrow(reference.position, reference.len).map_err(corrupt)?;
        // A writer refers to no offer that it made before.
        self.sources.drain(..index);
        lender.borrowed.add(reference.len);
        Ok(lender.hold_borrowed(record, reference.len, borrowed))
    }
}

/// The offer that stands in the sharing block; `None` if it is just being changed.
fn read_offer(buffer: &Buffer) -> Option<Offer> {
    let sharing = buffer.mapping.sharing()?;
    let line = &sharing.offer;
    // Acquire pairs with the Release store in Offers::publish: the fields are there.
    let number = line.offer.load(Ordering::Acquire);
    let [device, inode, size] = [&line.offer_device, &line.offer_inode, &line.offer_name_size]
        .map(|word| word.load(Ordering::Relaxed));
    let words: [u64; NAME_WORDS] =
        std::array::from_fn(|index| sharing.name.offer_name[index].load(Ordering::Relaxed));
    // Pairs with the Release fence in Offers::publish: if a field is a later offer's, so is the number, or it is 0.
    fence(Ordering::Acquire);
    if number == 0 || line.offer.load(Ordering::Relaxed) != number {
        return None;
    }
    Some(Offer { number, device, inode, name: offered_name(&words, size) })
}

/// The data of a frame that is a reference.
fn read_reference(buffer: &Buffer, record: &FrameRecord) -> Option<Reference> {
    if record.len() != Reference::SIZE {
        return None;
    }
    // Relaxed: the Acquire load of `head` came before. Each word is read once.
    let words = |at: u64| {
        Some(
            buffer.mapping.words(record.position() + at)?.each_ref().map(|word| word.load(Ordering::Relaxed)),
        )
    };
    let ([offer, position], [len, sequence]) = (words(0)?, words(16)?);
    Some(Reference::of_words([offer, position, len, sequence]))
}
