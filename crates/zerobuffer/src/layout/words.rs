//! Values of one or two words: the reserved words of the first block, cursors, and headers of frames.

/// Size of a frame's header: u64 payload size, u64 sequence number.
pub(crate) const FRAME_HEADER: usize = 16;
/// Size of the length word in front of the metadata.
pub(crate) const METADATA_PREFIX: u64 = 8;

/// Reserved word 1: bits 48..64 a magic, bits 7..48 the offset of the control block in the segment (a multiple of 128),
/// bit 0 "extended": the ring is an extended one, for the life of the buffer; bit 1 "entering"; bit 2 "sharing": a sharing
/// block lies behind the control block. 0: no extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExtensionWord(pub(crate) u64);

impl ExtensionWord {
    /// "EZ", little-endian.
    const MAGIC: u64 = 0x5A45 << 48;
    const OFFSET_MASK: u64 = (1 << 48) - (1 << 7);
    /// The bit that the first writer sets.
    pub(crate) const EXTENDED: u64 = 1;
    /// A writer is making the ring extended, or died while it did so ([`crate::ring::entry`]).
    pub(crate) const ENTERING: u64 = 1 << 1;
    /// A sharing block lies behind the control block.
    const SHARING: u64 = 1 << 2;

    pub(crate) fn new(control: u64) -> ExtensionWord {
        debug_assert!(control & !Self::OFFSET_MASK == 0);
        ExtensionWord(Self::MAGIC | control)
    }
    /// The same word, with a sharing block behind the control block.
    pub(crate) fn with_sharing(self) -> ExtensionWord {
        ExtensionWord(self.0 | Self::SHARING)
    }
    /// Whether a sharing block lies behind the control block.
    pub(crate) fn has_sharing(self) -> bool {
        self.control().is_some() && self.0 & Self::SHARING != 0
    }
    /// Offset of the control block, if one is announced.
    pub(crate) fn control(self) -> Option<u64> {
        (self.0 >> 48 == Self::MAGIC >> 48).then_some(self.0 & Self::OFFSET_MASK)
    }
    pub(crate) fn is_entering(self) -> bool {
        self.control().is_some() && self.0 & Self::ENTERING != 0
    }
    pub(crate) fn is_extended(self) -> bool {
        self.control().is_some() && self.0 & Self::EXTENDED != 0
    }
}

/// Reserved word 2, written by a native reader: bits 0..32 its pid, equal to `reader_pid`; bit 32 "kept": its
/// creator keeps the buffer for a native reader that comes later and takes it over by clearing the bit.
///
/// It tells a native writer that this reader holds a role lock, maintains `tail_word`, and follows
/// `payload_read_pos` when the writer rewinds an empty ring to 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReaderWord(pub(crate) u64);

impl ReaderWord {
    const KEPT: u64 = 1 << 32;

    pub(crate) fn new(pid: u32) -> ReaderWord {
        ReaderWord(u64::from(pid))
    }
    pub(crate) fn kept(pid: u32) -> ReaderWord {
        ReaderWord(u64::from(pid) | Self::KEPT)
    }
    pub(crate) fn is_kept(self) -> bool {
        self.0 & Self::KEPT != 0
    }
    /// Whether a native reader made this buffer.
    pub(crate) fn is_ours(self) -> bool {
        self.0 as u32 != 0
    }
}

/// Reserved word 3, written only by the native writer that holds the role lock: bits 0..32 its pid, equal to
/// `writer_pid`; bits 32..56 the epoch (how many native writers this buffer has had); bit 62 "closed"; bits
/// 63 and 56..62 the fates of earlier writers (1 = died): bit 63 the previous writer's, bit 56 that of the
/// writer before it, and so on.
///
/// The word has several fates because a reader may learn of several writers' ends at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WriterWord(pub(crate) u64);

impl WriterWord {
    pub(super) const EPOCH_MASK: u64 = (1 << 24) - 1;
    const CLOSED: u64 = 1 << 62;
    const PREDECESSOR_DIED: u64 = 1 << 63;
    const OLDER_FATES: u32 = 56;
    const OLDER_MASK: u64 = (1 << 6) - 1;

    /// The word of the next writer.
    pub(crate) fn next(self, pid: u32, predecessor_died: bool) -> WriterWord {
        let epoch = (u64::from(self.epoch()) + 1) & Self::EPOCH_MASK;
        let died = if predecessor_died { Self::PREDECESSOR_DIED } else { 0 };
        let older = (self.fates() & Self::OLDER_MASK) << Self::OLDER_FATES;
        // Epoch 0 means "no native writer so far", so the count skips 0 when it wraps.
        WriterWord(u64::from(pid) | epoch.max(1) << 32 | older | died)
    }
    /// Fates of the earlier writers, the previous writer's in bit 0.
    fn fates(self) -> u64 {
        (self.0 >> Self::OLDER_FATES & Self::OLDER_MASK) << 1 | self.0 >> 63
    }
    pub(crate) fn closed(self) -> WriterWord {
        WriterWord(self.0 | Self::CLOSED)
    }
    pub(crate) fn pid(self) -> u32 {
        self.0 as u32
    }
    pub(crate) fn epoch(self) -> u32 {
        ((self.0 >> 32) & Self::EPOCH_MASK) as u32
    }
    pub(crate) fn is_closed(self) -> bool {
        self.0 & Self::CLOSED != 0
    }
    /// Whether the previous writer died.
    pub(crate) fn predecessor_died(self) -> bool {
        self.0 & Self::PREDECESSOR_DIED != 0
    }
    /// The epoch before `epoch`.
    pub(crate) fn epoch_before(epoch: u32) -> u32 {
        if epoch <= 1 { Self::EPOCH_MASK as u32 } else { epoch - 1 }
    }
    /// The epoch after `epoch`.
    pub(crate) fn epoch_after(epoch: u32) -> u32 {
        epoch % Self::EPOCH_MASK as u32 + 1
    }
    /// How many epochs `newer` is ahead of `older`; 0 if it is not. Epochs go round, so the shorter way decides which one is
    /// ahead. Epoch 0 is before all others.
    pub(crate) fn epochs_between(older: u32, newer: u32) -> u32 {
        let all = Self::EPOCH_MASK as u32;
        match (newer + all - older) % all {
            _ if older == 0 => newer,
            ahead if ahead <= all / 2 => ahead,
            _ => 0,
        }
    }
    /// Whether an earlier writer with an epoch behind `after` and up to `upto` is known to have died.
    pub(crate) fn died_among(self, after: u32, upto: u32) -> bool {
        let back = |epoch| Self::epochs_between(epoch, self.epoch()).saturating_sub(1);
        // Writers further back than the fates reach are not known to have died.
        let (newest, oldest) = (back(upto), back(after).min(u64::BITS - 1));
        let mask = (1_u64 << oldest) - 1;
        oldest > newest && self.fates() & mask >> newest << newest != 0
    }
}

/// Reserved word 4, maintained by a native reader: bit 0 "changing", bits 1..64 the ring position of the
/// oldest byte not given back yet.
///
/// This position and `payload_free_bytes` together say where the last committed frame ends, whatever a dead
/// writer has stored in `payload_write_pos`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TailWord(pub(crate) u64);

impl TailWord {
    pub(crate) fn settled(position: u64) -> TailWord {
        TailWord(position << 1)
    }
    pub(crate) fn changing(position: u64) -> TailWord {
        TailWord(position << 1 | 1)
    }
    pub(crate) fn is_changing(self) -> bool {
        self.0 & 1 != 0
    }
    pub(crate) fn position(self) -> u64 {
        self.0 >> 1
    }
}

/// A point in the stream of an extended ring: bits 0..42 the ring position in units of 16 bytes, bits 42..64
/// the *lap* (how often the writer has gone back to position 0; wraps).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor(pub(crate) u64);

impl Cursor {
    const LAP: u32 = 42;
    /// Frames start at multiples of this.
    pub(crate) const UNIT: u64 = 16;

    pub(crate) fn new(lap: u64, position: u64) -> Cursor {
        debug_assert!(position.is_multiple_of(Self::UNIT) && position / Self::UNIT < 1 << Self::LAP);
        Cursor((lap << Self::LAP) | (position / Self::UNIT))
    }
    pub(crate) fn lap(self) -> u64 {
        self.0 >> Self::LAP
    }
    /// Ring position in bytes.
    pub(crate) fn position(self) -> u64 {
        (self.0 & ((1 << Self::LAP) - 1)) * Self::UNIT
    }
    /// Index of the word for this lap, of two: at most two laps are in use.
    pub(crate) fn parity(self) -> usize {
        (self.lap() & 1) as usize
    }
    /// The cursor at `position` of this lap.
    pub(crate) fn at(self, position: u64) -> Cursor {
        Cursor::new(self.lap(), position)
    }
    /// Position 0 of the next lap.
    pub(crate) fn next_lap(self) -> Cursor {
        Cursor(self.lap().wrapping_add(1) << Self::LAP)
    }
    /// Whether `tail` stands at this cursor or behind it in the stream. Of two laps, the one that is ahead by at most half of all
    /// lap numbers is the later one.
    pub(crate) fn is_passed_by(self, tail: Cursor) -> bool {
        let laps = tail.lap().wrapping_sub(self.lap()) & ((1 << (64 - Self::LAP)) - 1);
        if laps == 0 { tail.position() >= self.position() } else { laps < 1 << (63 - Self::LAP) }
    }
    /// Whether this is one lap behind `other`.
    pub(crate) fn is_lap_before(self, other: Cursor) -> bool {
        self.next_lap().lap() == other.lap()
    }
}

/// The first word of a frame's header in an extended ring; the second one is the sequence number.
///
/// Bits 0..48 the bytes of data, bits 48..54 the size of the header in units of 16 bytes (1 or more: the data begins
/// behind it), bits 54..64 flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeaderWord(pub(crate) u64);

impl HeaderWord {
    const LEN_MASK: u64 = (1 << 48) - 1;
    pub(crate) const FLAGS: u32 = 54;
    /// The first frame of its writer.
    pub(crate) const FIRST: u16 = 1 << 9;
    /// The third word of the header is a deadline.
    pub(crate) const DEADLINE: u16 = 1 << 8;
    /// The fourth word of the header is the [`WriterWord`] of the frame's writer.
    pub(crate) const SIGNED: u16 = 1 << 3;
    /// The data is a [`super::Reference`] to bytes of another buffer.
    pub(crate) const SHARED: u16 = 1 << 4;
    /// The writer has made an offer since its last frame.
    pub(crate) const OFFER: u16 = 1 << 5;
    /// What a reader must look at more closely.
    pub(crate) const SPECIAL_MASK: u16 = Self::FIRST | Self::SHARED | Self::OFFER;
    const FLAGS_MASK: u16 = (1 << 10) - 1;

    pub(crate) fn new(len: u64, units: u64, flags: u16) -> HeaderWord {
        debug_assert!(len <= Self::LEN_MASK && units < 64 && flags <= Self::FLAGS_MASK);
        HeaderWord(len | units << 48 | u64::from(flags) << Self::FLAGS)
    }
    pub(crate) fn len(self) -> u64 {
        self.0 & Self::LEN_MASK
    }
    /// Bytes of the header.
    pub(crate) fn header(self) -> u64 {
        (self.0 >> 48 & 63) * Cursor::UNIT
    }
    pub(crate) fn flags(self) -> u16 {
        (self.0 >> Self::FLAGS) as u16
    }
}

/// The header of a frame in a classic ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) size: u64,
    pub(crate) sequence: u64,
}

impl FrameHeader {
    /// A wrap marker: the rest of the ring is unused, and the next header is at position 0.
    pub(crate) const WRAP: FrameHeader = FrameHeader { size: 0, sequence: 0 };

    pub(crate) fn to_bytes(self) -> [u8; FRAME_HEADER] {
        let mut bytes = [0; FRAME_HEADER];
        bytes[..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..].copy_from_slice(&self.sequence.to_le_bytes());
        bytes
    }

    /// From the two words as they stand in memory.
    pub(crate) fn from_memory([size, sequence]: [u64; 2]) -> FrameHeader {
        FrameHeader { size: u64::from_le(size), sequence: u64::from_le(sequence) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spots_and_header_words_keep_their_parts() {
        let cursor = Cursor::new((1 << 22) - 1, 48);
        assert_eq!((cursor.lap(), cursor.position()), ((1 << 22) - 1, 48));
        assert_eq!((cursor.next_lap().lap(), cursor.next_lap().position()), (0, 0));
        assert!(cursor.is_lap_before(Cursor::new(0, 32)) && !Cursor::new(0, 32).is_lap_before(cursor));
        for (tail, passed) in [
            (Cursor::new((1 << 22) - 1, 48), true),
            (Cursor::new((1 << 22) - 1, 32), false),
            (Cursor::new((1 << 22) - 1, 64), true),
            (Cursor::new(0, 0), true),
            (Cursor::new((1 << 21) - 2, 0), true),
            (Cursor::new((1 << 21) - 1, 64), false),
            (Cursor::new((1 << 22) - 2, 64), false),
        ] {
            assert_eq!(cursor.is_passed_by(tail), passed, "{tail:?}");
        }
        let word = HeaderWord::new(5_000_000_000, 4, HeaderWord::FIRST | 3);
        assert_eq!((word.len(), word.header(), word.flags()), (5_000_000_000, 64, HeaderWord::FIRST | 3));
    }

    #[test]
    fn extension_words_say_what_they_are_only_behind_the_magic() {
        let word = ExtensionWord::new(1 << 20);
        assert_eq!((word.control(), word.is_entering(), word.is_extended()), (Some(1 << 20), false, false));
        let entering = ExtensionWord(word.0 | ExtensionWord::ENTERING);
        assert_eq!((entering.control(), entering.is_entering()), (Some(1 << 20), true));
        assert!(!entering.is_extended() && ExtensionWord(word.0 | ExtensionWord::EXTENDED).is_extended());
        for bits in [ExtensionWord::EXTENDED, ExtensionWord::ENTERING, 1 << 20 | 3] {
            let word = ExtensionWord(bits);
            assert_eq!((word.control(), word.is_entering(), word.is_extended()), (None, false, false));
        }
    }

    #[test]
    fn reader_words_and_tail_words_keep_their_parts() {
        let kept = ReaderWord::kept(7);
        assert!(kept.is_kept() && !ReaderWord::new(7).is_kept());
        assert!(kept.is_ours() && ReaderWord::new(7).is_ours() && !ReaderWord(0).is_ours());
        for position in [0, 1, 4095] {
            let (settled, changing) = (TailWord::settled(position), TailWord::changing(position));
            assert_eq!((settled.position(), settled.is_changing()), (position, false));
            assert_eq!((changing.position(), changing.is_changing()), (position, true));
        }
    }

    #[test]
    fn headers_survive_the_round_trip() {
        let header = FrameHeader { size: 0x0102_0304_0506_0708, sequence: u64::MAX - 1 };
        let words = [0, 8].map(|at| u64::from_ne_bytes(header.to_bytes()[at..at + 8].try_into().unwrap()));
        assert_eq!(FrameHeader::from_memory(words), header);
        assert_eq!(FrameHeader::WRAP.to_bytes(), [0; 16]);
    }

    #[test]
    fn writer_words_count_epochs_and_never_reach_zero() {
        let first = WriterWord(0).next(7, false);
        assert_eq!((first.pid(), first.epoch(), first.is_closed()), (7, 1, false));
        let second = first.closed().next(8, true);
        assert_eq!((second.pid(), second.epoch()), (8, 2));
        assert!(second.predecessor_died() && !second.is_closed());
        assert!(second.died_among(0, 1) && !second.died_among(1, 2));
        let last = WriterWord(WriterWord::EPOCH_MASK << 32);
        assert_eq!(last.next(1, false).epoch(), 1);
    }

    #[test]
    fn epochs_are_compared_across_their_wrap() {
        let last = WriterWord::EPOCH_MASK as u32;
        assert_eq!([0, 1, 2, last].map(WriterWord::epoch_before), [last, last, 1, last - 1]);
        assert_eq!([0, 1, last - 1, last].map(WriterWord::epoch_after), [1, 2, last, 1]);
        for (older, newer, ahead) in [
            (0, 0, 0),
            (0, 5, 5),
            (0, last, last),
            (5, 5, 0),
            (5, 7, 2),
            (7, 5, 0),
            (last, 1, 1),
            (1, last, 0),
            (last - 1, 3, 4),
            (3, last - 1, 0),
        ] {
            assert_eq!(WriterWord::epochs_between(older, newer), ahead, "{older} to {newer}");
        }
        // The writers of the last two epochs and the first two; the last one and the first one died.
        let word = [false, true, true, false]
            .iter()
            .fold(WriterWord(u64::from(last - 1) << 32), |word, died| word.next(1, *died));
        assert_eq!(word.epoch(), 3);
        assert!(word.died_among(last - 1, last) && word.died_among(last, 1) && !word.died_among(1, 2));
        assert!(word.died_among(last - 2, 2) && !word.died_among(last - 2, last - 1));
    }

    #[test]
    fn writer_words_remember_who_died() {
        let died = [true, false, false, true, false, true, false, true, false];
        let word = died.iter().fold(WriterWord(0).next(1, false), |word, died| word.next(1, *died));
        assert_eq!(word.epoch(), 10);
        for after in 2..10 {
            for upto in after..=10 {
                let expected = (after + 1..=upto.min(9)).any(|epoch| died[epoch as usize - 1]);
                assert_eq!(word.died_among(after, upto), expected, "{after}..={upto}");
            }
        }
        // Out of reach: the first two writers.
        assert!(!word.died_among(0, 2));
        assert_eq!((word.pid(), word.is_closed(), word.closed().is_closed()), (1, false, true));
    }
}
