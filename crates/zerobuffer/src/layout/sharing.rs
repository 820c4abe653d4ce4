//! The sharing block of an extended ring: who offers bytes of another buffer, and who has accepted.

use core::mem::{offset_of, size_of};

use super::control::{BellLine, LINE};
use super::oieb::Oieb;
use super::words::WriterWord;
use crate::sync::AtomicU64;

/// Byte of the segment that a borrower locks: that of `tail_word`. A borrower is a reader that may look at bytes of another
/// buffer.
pub(crate) const BORROWER_ROLE_BYTE: i64 = offset_of!(Oieb, tail_word) as i64;

/// Words of the name of an offered buffer.
pub(crate) const NAME_WORDS: usize = 32;

/// The sharing block, behind the control block of a buffer whose extension word says *sharing*.
#[repr(C)]
pub(crate) struct Sharing {
    pub(crate) offer: OfferLine,
    pub(crate) name: NameLines,
    pub(crate) answer: AnswerLine,
    /// The loans' doorbell, of the writer that lends: tells the reader whether that writer's source sleeps.
    pub(crate) loans: LoansLine,
}

#[repr(C, align(128))]
pub(crate) struct OfferLine {
    /// 1: the reader allows sharing. Its frames may be lent, and it takes references.
    pub(crate) payload_sharing_enabled: AtomicU64,
    /// References in this buffer that have not been taken back; for tools.
    pub(crate) payload_share_count: AtomicU64,
    /// The process that lends; for tools.
    pub(crate) payload_owner_pid: AtomicU64,
    pub(crate) reserved_sharing: [AtomicU64; 5],
    /// Number of the offer; 0 = there is none, or it is being changed.
    pub(crate) offer: AtomicU64,
    /// The offered buffer's file.
    pub(crate) offer_device: AtomicU64,
    pub(crate) offer_inode: AtomicU64,
    /// Bytes of its name.
    pub(crate) offer_name_size: AtomicU64,
}

#[repr(C, align(128))]
pub(crate) struct NameLines {
    /// Name of the offered buffer, filled up with zeroes.
    pub(crate) offer_name: [AtomicU64; 32],
}

#[repr(C, align(128))]
pub(crate) struct AnswerLine {
    /// Number of the offer that the reader accepted last.
    pub(crate) accepted: AtomicU64,
    /// Number of the offer that it refused last.
    pub(crate) refused: AtomicU64,
}

#[repr(C, align(128))]
pub(crate) struct LoansLine {
    pub(crate) loans_bell: BellLine,
}

/// Bytes of the sharing block.
pub(crate) const SHARING_SIZE: u64 = size_of::<Sharing>() as u64;

#[cfg(not(loom))]
const _: () = {
    assert!(BORROWER_ROLE_BYTE == 0x78);
    assert!(SHARING_SIZE == 5 * LINE);
    assert!(offset_of!(Sharing, offer) == 0);
    assert!(offset_of!(OfferLine, payload_sharing_enabled) == 0);
    assert!(offset_of!(OfferLine, payload_share_count) == 8);
    assert!(offset_of!(OfferLine, payload_owner_pid) == 16);
    assert!(offset_of!(OfferLine, reserved_sharing) == 24);
    assert!(offset_of!(OfferLine, offer) == 64);
    assert!(offset_of!(OfferLine, offer_device) == 72);
    assert!(offset_of!(OfferLine, offer_inode) == 80);
    assert!(offset_of!(OfferLine, offer_name_size) == 88);
    assert!(offset_of!(Sharing, name) == 128);
    assert!(size_of::<NameLines>() == 8 * NAME_WORDS);
    assert!(offset_of!(Sharing, answer) == 384);
    assert!(offset_of!(AnswerLine, accepted) == 0);
    assert!(offset_of!(AnswerLine, refused) == 8);
    assert!(offset_of!(Sharing, loans) == 512);
};

/// The number of a writer's offer: its epoch, and how many it has made.
pub(crate) fn offer_number(epoch: u32, count: u32) -> u64 {
    u64::from(epoch) << 32 | u64::from(count)
}

/// Epoch of the writer that made the offer `number`.
pub(crate) fn epoch_of_offer(number: u64) -> u32 {
    (number >> 32 & WriterWord::EPOCH_MASK) as u32
}

/// What stands in an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) number: u64,
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// `None` if it cannot be a name.
    pub(crate) name: Option<String>,
}

/// The name in `words`, of which `size` bytes count.
pub(crate) fn offered_name(words: &[u64; NAME_WORDS], size: u64) -> Option<String> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let size = usize::try_from(size).ok()?;
    String::from_utf8(bytes.get(..size)?.to_vec()).ok()
}

/// The words of `name`; `None` if it is too long.
pub(crate) fn words_of_name(name: &str) -> Option<[u64; NAME_WORDS]> {
    let mut bytes = [0; 8 * NAME_WORDS];
    bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
    let mut words = [0; NAME_WORDS];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        let mut chunk = [0; 8];
        chunk.copy_from_slice(bytes);
        *word = u64::from_le_bytes(chunk);
    }
    Some(words)
}

/// Data of a reference: where the bytes of the frame lie in another buffer. Its four words are those of the frame's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Number of the offer that names the buffer.
    pub(crate) offer: u64,
    /// Ring position of the first byte there.
    pub(crate) position: u64,
    /// Bytes of data.
    pub(crate) len: u64,
    /// Sequence number of the frame there; for tools.
    pub(crate) sequence: u64,
}

impl Reference {
    /// Bytes of a reference.
    pub(crate) const SIZE: usize = 32;

    pub(crate) fn words(self) -> [u64; 4] {
        [self.offer, self.position, self.len, self.sequence]
    }

    pub(crate) fn of_words([offer, position, len, sequence]: [u64; 4]) -> Reference {
        Reference { offer, position, len, sequence }
    }

    pub(crate) fn to_bytes(self) -> [u8; Reference::SIZE] {
        let mut bytes = [0; Reference::SIZE];
        for (target, word) in bytes.chunks_exact_mut(8).zip(self.words()) {
            target.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

/// A plain copy of the block's words, for tools that only look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharingCopy {
    pub(crate) enabled: bool,
    pub(crate) share_count: u64,
    pub(crate) owner_pid: u64,
    pub(crate) offer: Offer,
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    /// Number and inode of the FIFO of the lender's descriptor; number 0: none.
    pub(crate) fifo: (u64, u64),
}

impl SharingCopy {
    pub(crate) fn parse(bytes: &[u8; SHARING_SIZE as usize]) -> SharingCopy {
        let at = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        let mut words = [0; NAME_WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = at(offset_of!(Sharing, name) + 8 * index);
        }
        let answer = |field: usize| at(offset_of!(Sharing, answer) + field);
        let loans = |field: usize| at(offset_of!(Sharing, loans) + field);
        SharingCopy {
            enabled: at(offset_of!(OfferLine, payload_sharing_enabled)) == 1,
            share_count: at(offset_of!(OfferLine, payload_share_count)),
            owner_pid: at(offset_of!(OfferLine, payload_owner_pid)),
            offer: Offer {
                number: at(offset_of!(OfferLine, offer)),
                device: at(offset_of!(OfferLine, offer_device)),
                inode: at(offset_of!(OfferLine, offer_inode)),
                name: offered_name(&words, at(offset_of!(OfferLine, offer_name_size))),
            },
            accepted: answer(offset_of!(AnswerLine, accepted)),
            refused: answer(offset_of!(AnswerLine, refused)),
            fifo: (loans(offset_of!(BellLine, fifo)), loans(offset_of!(BellLine, inode))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_references_survive_the_round_trip() {
        for name in ["a", "camera-1", &"n".repeat(245)] {
            let words = words_of_name(name).unwrap();
            assert_eq!(offered_name(&words, name.len() as u64).as_deref(), Some(name));
        }
        assert!(words_of_name(&"n".repeat(257)).is_none());
        assert!(offered_name(&[u64::MAX; NAME_WORDS], 8).is_none(), "no UTF-8");
        assert!(
            offered_name(&[0; NAME_WORDS], 257).is_none()
                && offered_name(&[0; NAME_WORDS], u64::MAX).is_none()
        );
        let reference = Reference { offer: offer_number(7, 2), position: 64, len: 5, sequence: u64::MAX };
        assert_eq!(Reference::of_words(reference.words()), reference);
        assert_eq!(reference.to_bytes()[8], 64);
        assert_eq!(epoch_of_offer(reference.offer), 7);
    }
}
