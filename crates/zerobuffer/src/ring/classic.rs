//! The classic ring: protocol 1 as 1.x peers speak it (docs/PROTOCOL.md, "The classic ring").
//!
//! One word carries the truth between the two sides: `payload_free_bytes`. The writer commits by subtracting what a
//! frame costs, the reader gives back by adding it. Everything else a reader needs it derives from its own books:
//! what was taken and not yet read is `capacity - free - held`, where `held` is what it has read and not given back.
//! `payload_write_pos`, the counts and the semaphores are kept for 1.x peers and never decide (spec failure 17).

use std::collections::VecDeque;
use std::time::Instant;

use super::{Located, Look, Reservation, Tag, Trouble, space};
use crate::entry;
use crate::error::ErrorKind;
use crate::layout::{FRAME_HEADER, FrameHeader, TailWord, WriterWord};
use crate::liveness::WriterWords;
use crate::mapping::Mapping;
use crate::reserve::Reserver;
use crate::signal::UNSURE_LIMIT;
use crate::stop::stop_point;
use crate::sync::Ordering;

const HEADER: u64 = FRAME_HEADER as u64;

/// Skips in a row without a frame between them. One is the rule, two (an exact end, then a marker) are imaginable; more
/// are a hostile writer's, who could hold the reader in its loop for as long as it likes.
const MAX_SKIPS: u32 = 3;

/// Bytes that may be withheld: enough to share the cost of giving back among many small frames. Also at most 1/64 of the
/// ring, so that a buffer never seems notably smaller than it is.
const WITHHELD_MAX: u64 = 16 << 10;

/// What was read and not given back, oldest first. Bytes go back in ring order only (spec failure 2).
///
/// Giving back takes cache lines away from the writer, which costs both sides more than a small frame does. So towards a
/// writer of ours released bytes are withheld for a moment, only while
///
/// * frames known to be committed are still unread: a drained ring is given back at once, so that a reader which waits
///   never owes space, and a frame as large as the ring always finds room in the end;
/// * half of the ring was free at the last look;
/// * the writer leaves its token on sem-r, as it does when it is not short of space;
/// * they are few: [`WITHHELD_MAX`].
///
/// What a paused reader withholds from a writer that runs short later is thus at most 1/64 of the ring.
pub(crate) struct ReleaseQueue {
    entries: VecDeque<Entry>,
    /// Ticket of the oldest entry.
    first: u64,
    /// Bytes of the entries, and those withheld.
    held: u64,
    /// Ring position of the first byte not given back.
    tail: u64,
    /// Bytes known to be committed and not read. There may be more.
    backlog: u64,
    /// Bytes released, and not given back yet. 0 if `backlog` is.
    withheld: u64,
    /// Half of the ring was free at the last look.
    ample: bool,
    /// The writer is ours: it needs no exact position or count of ours before it runs short.
    lazy: bool,
    /// How often the writer must still be seen to go on before its token counts as left alone: it may be the one that
    /// we posted to wake it, and it may not be awake yet.
    wary: u8,
    /// Bytes went back to a writer of ours, which has not been woken for them.
    wake: bool,
    /// Where the reader stands and what it has counted.
    read_pos: u64,
    read_count: u64,
    /// Both are in shared memory.
    published: bool,
}

struct Entry {
    bytes: u64,
    released: bool,
}

impl ReleaseQueue {
    /// One commit may have come between our look and our post; the second was made by a writer that was awake after it.
    const WARY: u8 = 2;

    pub(crate) fn new() -> ReleaseQueue {
        ReleaseQueue {
            entries: VecDeque::with_capacity(64),
            first: 0,
            held: 0,
            tail: 0,
            backlog: 0,
            withheld: 0,
            ample: false,
            lazy: false,
            wary: Self::WARY,
            wake: false,
            read_pos: 0,
            read_count: 0,
            published: true,
        }
    }

    fn push(&mut self, bytes: u64, released: bool) -> u64 {
        self.entries.push_back(Entry { bytes, released });
        self.held += bytes;
        self.first + (self.entries.len() as u64 - 1)
    }

    /// Marks the entry of `ticket` released and gives back what is released at the front, or withholds it if that does
    /// no harm. Says whether the writer is to be woken.
    pub(crate) fn release(
        &mut self,
        mapping: &Mapping,
        ticket: u64,
        writer_is_short: impl FnOnce() -> bool,
    ) -> bool {
        let index = ticket.wrapping_sub(self.first);
        match usize::try_from(index).ok().and_then(|index| self.entries.get_mut(index)) {
            Some(entry) => entry.released = true,
            None => debug_assert!(false, "ticket {ticket} released twice"),
        }
        self.take_released();
        let most = WITHHELD_MAX.min(mapping.geometry().payload_size / 64);
        let calm = self.lazy && self.ample && self.wary == 0;
        if calm && self.backlog > 0 && self.withheld <= most && !writer_is_short() {
            return false;
        }
        self.give_back(mapping)
    }

    /// The writer had taken its token, so it is short of space, and is about to be woken.
    pub(crate) fn writer_was_short(&mut self) {
        self.wary = Self::WARY;
    }

    /// Takes the newest count of committed bytes that are not read.
    fn set_backlog(&mut self, unread: u64) {
        if unread > self.backlog {
            self.wary = self.wary.saturating_sub(1);
        }
        self.backlog = unread;
    }

    /// Whether bytes went back since the last question, to a writer that may be waiting for them.
    pub(crate) fn take_wake(&mut self) -> bool {
        std::mem::take(&mut self.wake)
    }

    /// Moves what is released at the front from the entries to the bytes withheld.
    fn take_released(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.released) {
            self.withheld += self.entries.pop_front().map_or(0, |entry| entry.bytes);
            self.first += 1;
        }
    }

    /// Gives back what is released at the front, and says where the reader stands. Says whether bytes went back.
    fn give_back(&mut self, mapping: &Mapping) -> bool {
        self.publish(mapping);
        self.take_released();
        let bytes = std::mem::take(&mut self.withheld);
        if bytes == 0 {
            return false;
        }
        self.held -= bytes;
        let capacity = mapping.geometry().payload_size;
        self.tail = (self.tail + bytes) % capacity;
        let oieb = mapping.oieb();
        // "Changing" brackets the addition, so that a writer that recovers (WriteSide::recover) never pairs an old
        // tail with a new count. Relaxed then AcqRel: the addition cannot move up past the first store (release) nor
        // the last store, itself a release, before it. Pairs with the Acquire loads in WriteSide::recover.
        stop_point!("release:tail-changing");
        oieb.tail_word.store(TailWord::changing(self.tail).0, Ordering::Relaxed);
        stop_point!("release:free-bytes");
        // Release pairs with the writer's Acquire load: our reads of the frame's bytes are done before it reuses them.
        // Acquire pairs with the writer's AcqRel subtraction, so that this is a look for new frames too.
        let free = oieb.payload_free_bytes.fetch_add(bytes, Ordering::AcqRel).wrapping_add(bytes);
        stop_point!("release:tail-settled");
        oieb.tail_word.store(TailWord::settled(self.tail).0, Ordering::Release);
        // Frames seen here lie behind the last one read: before the addition the ring was not empty, so its writer
        // cannot have taken it back to 0. Nonsense counts as nothing; the next look will say what is wrong with it.
        self.set_backlog(
            capacity.checked_sub(free).and_then(|used| used.checked_sub(self.held)).unwrap_or(0),
        );
        self.ample = free >= capacity / 2;
        // A 1.x writer gets no token for a skip (docs/PROTOCOL.md); release() posts the one for a frame.
        self.wake |= self.lazy;
        true
    }

    /// Stores where the reader stands.
    fn publish(&mut self, mapping: &Mapping) {
        if std::mem::replace(&mut self.published, true) {
            return;
        }
        let oieb = mapping.oieb();
        // Stored before payload_free_bytes is raised (1.x writers compare the two); the addition's release orders it.
        // After an exact end this is `capacity`, never 0: a 1.x Python writer would otherwise write past the ring.
        stop_point!("read:read-pos");
        oieb.payload_read_pos.store(self.read_pos, Ordering::Relaxed);
        stop_point!("read:read-count");
        oieb.payload_read_count.store(self.read_count, Ordering::Relaxed);
    }
}

/// The reader's books.
pub(crate) struct ReadSide {
    /// Ring position of the next header; `capacity` after a frame that ended exactly there.
    position: u64,
    /// Sequence number of the next frame.
    expected: u64,
    /// The writer whose frames are being read has at least this epoch (0: not of ours, or none yet).
    epoch: u32,
    /// `payload_free_bytes` at the last look, to notice a change cheaply.
    last_free: u64,
    /// Frames come in any order of sequence numbers (responses of a duplex server).
    pub(crate) any_sequence: bool,
    /// No frame has been read, and the first writer may still make the ring an extended one.
    pub(crate) undecided: bool,
    /// Since when all bytes have been taken by an entry that does not end.
    taken_since: Option<Instant>,
}

impl ReadSide {
    /// The reader of a new ring.
    pub(crate) fn new(capacity: u64, undecided: bool) -> ReadSide {
        ReadSide {
            position: 0,
            expected: 1,
            epoch: 0,
            last_free: capacity,
            any_sequence: false,
            undecided,
            taken_since: None,
        }
    }

    /// Everything that the writer of `epoch` and those before it committed has been read.
    pub(crate) fn settle(&mut self, epoch: u32) {
        self.epoch = epoch;
    }

    /// Whether something happened since the last look; may be wrong for a moment, never for long.
    pub(crate) fn changed(&self, mapping: &Mapping) -> bool {
        // Relaxed: only a hint to look again.
        mapping.oieb().payload_free_bytes.load(Ordering::Relaxed) != self.last_free
    }

    /// Bytes committed and not read.
    pub(crate) fn unread(&mut self, mapping: &Mapping, queue: &mut ReleaseQueue) -> Result<u64, Trouble> {
        // Acquire pairs with the writer's AcqRel subtraction: header and data are there.
        let mut free = mapping.oieb().payload_free_bytes.load(Ordering::Acquire);
        self.last_free = free;
        let capacity = mapping.geometry().payload_size;
        if free.wrapping_sub(1) >= capacity {
            free = self.free_beside_an_entry(mapping, queue, free);
        }
        queue.ample = free >= capacity / 2;
        capacity.checked_sub(free).and_then(|used| used.checked_sub(queue.held)).ok_or_else(|| Trouble {
            kind: ErrorKind::CorruptBuffer,
            message: format!(
                "payload_free_bytes is {free}, but of {capacity} bytes {} are held by the reader",
                queue.held
            ),
        })
    }

    /// `payload_free_bytes`, found to be 0 or impossible, as it would be without a writer of ours that has taken all bytes on
    /// its way into an extended ring.
    #[cold]
    fn free_beside_an_entry(&mut self, mapping: &Mapping, queue: &ReleaseQueue, mut free: u64) -> u64 {
        let capacity = mapping.geometry().payload_size;
        let since = self.taken_since.take();
        // A hostile writer may change the count as often as it likes.
        for _ in 0..entry::LOOKS {
            let word = entry::word(mapping);
            if word.is_extended() {
                // The next look sees that.
                return capacity;
            }
            if !word.is_entering() {
                // Whoever gives bytes back takes the mark away after that.
                let again = mapping.oieb().payload_free_bytes.load(Ordering::Acquire);
                if again == free {
                    return free;
                }
                free = again;
                continue;
            }
            if free == 0 {
                if queue.held > 0 || !entry::is_taken(mapping, queue.read_count) {
                    return 0;
                }
                self.taken_since = since.or_else(|| Some(Instant::now()));
                return capacity;
            }
            if free > capacity {
                entry::mend(mapping, free);
            }
            free = mapping.oieb().payload_free_bytes.load(Ordering::Acquire);
            if free != 0 && free <= capacity {
                break;
            }
        }
        free
    }

    /// Whether the mark of an entry stands, which may have come to nothing.
    pub(crate) fn is_being_entered(&mut self, mapping: &Mapping) -> bool {
        let word = entry::word(mapping);
        let marked = word.is_entering() && !word.is_extended();
        if !marked {
            self.taken_since = None;
        }
        marked
    }

    /// Ends that entry; the writer's role is locked. Says whether bytes were given back.
    pub(crate) fn end_entry(
        &mut self,
        mapping: &Mapping,
        queue: &ReleaseQueue,
        memory: &mut Reserver,
    ) -> bool {
        if queue.held > 0 {
            return false;
        }
        // A ring that is full starts with a frame. Else it may be one that a 1.x writer has just filled, and not counted yet.
        let lasted = self.taken_since.is_some_and(|since| {
            let nothing_begun = self.undecided
                && memory.ensure(0, HEADER).is_ok()
                && mapping.read_header(0) == Some(FrameHeader::WRAP);
            nothing_begun || since.elapsed() >= UNSURE_LIMIT
        });
        let given_back = entry::end(mapping, lasted.then_some(queue.read_count));
        if given_back {
            self.taken_since = None;
        }
        given_back
    }

    /// Looks for the next frame and takes it. `restart` allows a frame with sequence number 1 of another writer.
    /// `memory` knows, or finds out, where the ring has memory: nothing else is touched.
    pub(crate) fn look(
        &mut self,
        mapping: &Mapping,
        queue: &mut ReleaseQueue,
        memory: &mut Reserver,
        restart: bool,
    ) -> Look {
        // What is known to be committed is read without another look at the count. Not so what a 1.x writer committed,
        // whose count may be wrong for a while (spec failure 17).
        if queue.lazy && queue.backlog > 0 {
            if let frame @ Look::Frame(_) = self.parse(mapping, queue, memory, restart) {
                return frame;
            }
            // Anything but a frame is said of the newest count only, and with all space given back.
            queue.give_back(mapping);
        }
        match self.unread(mapping, queue) {
            Ok(unread) => queue.set_backlog(unread),
            Err(trouble) => {
                queue.backlog = 0;
                return Look::Unsure(trouble);
            }
        }
        if queue.backlog == 0 {
            return Look::Empty;
        }
        if let Err(trouble) = self.follow_rewind(mapping, queue) {
            return Look::Unsure(trouble);
        }
        self.parse(mapping, queue, memory, restart)
    }

    /// Takes the next frame of the backlog.
    fn parse(
        &mut self,
        mapping: &Mapping,
        queue: &mut ReleaseQueue,
        memory: &mut Reserver,
        restart: bool,
    ) -> Look {
        let capacity = mapping.geometry().payload_size;
        for _ in 0..=MAX_SKIPS {
            let unread = queue.backlog;
            if unread == 0 {
                // The skip was charged alone, as 1.x writers do; its frame is not there yet.
                return Look::Empty;
            }
            if let Some(gap) = space::gap(capacity, self.position) {
                // Too little room for a marker: a wrap without one (spec failure 1). The gap was charged together with
                // the frame behind it, or (1.x) just before it.
                if unread <= gap {
                    return Look::Empty;
                }
                if self.contradicted(mapping, memory, unread) {
                    return Look::Unsure(self.contradiction(unread));
                }
                self.skip(mapping, queue, gap, false);
                continue;
            }
            if memory.ensure(self.position, self.position + HEADER).is_err() {
                return Look::Unsure(self.without_memory(HEADER));
            }
            let Some(header) = mapping.read_header(self.position) else {
                return Look::Unsure(corrupt(format!("read position {} is out of bounds", self.position)));
            };
            if header == FrameHeader::WRAP && unread >= capacity - self.position {
                if self.contradicted(mapping, memory, unread) {
                    return Look::Unsure(self.contradiction(unread));
                }
                self.skip(mapping, queue, capacity - self.position, true);
                continue;
            }
            return self.take(mapping, queue, memory, header, restart);
        }
        Look::Unsure(corrupt("the ring holds nothing but wraps".to_owned()))
    }

    fn take(
        &mut self,
        mapping: &Mapping,
        queue: &mut ReleaseQueue,
        memory: &mut Reserver,
        header: FrameHeader,
        restart: bool,
    ) -> Look {
        let unread = queue.backlog;
        let capacity = mapping.geometry().payload_size;
        let rest = capacity - self.position;
        let end = header.size.checked_add(HEADER).filter(|need| *need <= unread && *need <= rest);
        let (Some(need), true) = (end, header.size > 0) else {
            if self.contradicted(mapping, memory, unread) {
                return Look::Unsure(self.contradiction(unread));
            }
            return Look::Unsure(corrupt(format!(
                "a frame of {} bytes at {} does not fit the {unread} bytes committed ({rest} to the end of the ring)",
                header.size, self.position
            )));
        };
        if header.sequence != self.expected && !self.any_sequence {
            if self.contradicted(mapping, memory, unread) {
                return Look::Unsure(self.contradiction(unread));
            }
            if header.sequence != 1 || !self.writer_changed(mapping) {
                return Look::Unsure(Trouble {
                    kind: ErrorKind::SequenceError,
                    message: format!(
                        "frame {} was expected, {} was found: frames were lost or overwritten; close the reader and \
                         create it anew",
                        self.expected, header.sequence
                    ),
                });
            }
            if !restart {
                return Look::Restart;
            }
        }
        if memory.ensure(self.position, self.position + need).is_err() {
            return Look::Unsure(self.without_memory(need));
        }
        if header.sequence == 1 {
            // The writer in the word may be a later one already, so count on by one at the most.
            self.epoch = self.epoch.saturating_add(1).min(writer_word(mapping).epoch());
            queue.lazy = WriterWords::load(mapping.oieb()).is_ours();
        }
        self.expected = header.sequence.wrapping_add(1);
        self.undecided = false;
        let position = self.position + HEADER;
        let ticket = queue.push(need, false);
        self.advance(mapping, queue, self.position + need, need, 1);
        Look::Frame(Located::classic(position, header.size, header.sequence, ticket))
    }

    /// Passes over the rest of the ring. 1.x readers count a marker as one read.
    fn skip(&mut self, mapping: &Mapping, queue: &mut ReleaseQueue, bytes: u64, marker: bool) {
        queue.push(bytes, true);
        self.advance(mapping, queue, 0, bytes, u64::from(marker));
        queue.give_back(mapping);
    }

    /// Goes on to `position`, by `bytes` of the backlog, which are held now.
    fn advance(
        &mut self,
        mapping: &Mapping,
        queue: &mut ReleaseQueue,
        position: u64,
        bytes: u64,
        count: u64,
    ) {
        self.position = position;
        queue.read_pos = position;
        queue.read_count = queue.read_count.wrapping_add(count);
        queue.published = false;
        queue.backlog -= bytes;
        if !queue.lazy {
            queue.publish(mapping);
        } else if queue.backlog == 0 {
            queue.give_back(mapping);
        }
    }

    /// A writer of ours takes an empty ring back to 0 by storing our position (WriteSide::rewind).
    fn follow_rewind(&mut self, mapping: &Mapping, queue: &mut ReleaseQueue) -> Result<(), Trouble> {
        if queue.held > 0 {
            return Ok(());
        }
        // Relaxed: ordered by the Acquire load of payload_free_bytes in unread(), which saw the commit that followed.
        let stored = mapping.oieb().payload_read_pos.load(Ordering::Relaxed);
        if stored == self.position {
            return Ok(());
        }
        if stored != 0 {
            return Err(corrupt(format!(
                "payload_read_pos is {stored}, the reader stands at {}",
                self.position
            )));
        }
        self.position = 0;
        queue.tail = 0;
        Ok(())
    }

    fn writer_changed(&self, mapping: &Mapping) -> bool {
        let word = writer_word(mapping);
        // Relaxed: the pid only tells whose word it is; the Acquire load of the word came first.
        let pid = mapping.oieb().writer_pid.load(Ordering::Relaxed);
        word.epoch() != self.epoch || word.is_closed() || word.epoch() == 0 || pid != u64::from(word.pid())
    }

    /// Whether the positions say that the ring is empty, so that `unread` must be an error of the count: updates of
    /// 1.x Python without libatomic get lost (spec failure 17). A ring that is exactly full looks the same.
    ///
    /// While a writer commits, or if it was stopped or died there, its position is one frame ahead of the count, and a
    /// frame that would fill the ring makes it look empty. A writer of ours loses no updates; for a 1.x writer the frames
    /// themselves must account for the count.
    fn contradicted(&self, mapping: &Mapping, memory: &mut Reserver, unread: u64) -> bool {
        let capacity = mapping.geometry().payload_size;
        let words = WriterWords::load(mapping.oieb());
        if words.is_ours() && !words.word.is_closed() {
            return false;
        }
        // Relaxed: 1.x writers store the position before they subtract, which the load in unread() acquired.
        let write_pos = mapping.oieb().payload_write_pos.load(Ordering::Relaxed);
        unread < capacity
            && write_pos % capacity == self.position % capacity
            && !self.accounted_for(mapping, memory, unread)
    }

    /// Whether the frames from our position on, in sequence, are `unread` bytes long, skips included.
    fn accounted_for(&self, mapping: &Mapping, memory: &mut Reserver, unread: u64) -> bool {
        let capacity = mapping.geometry().payload_size;
        let (mut position, mut sequence, mut left) = (self.position, self.expected, unread);
        let mut wrapped = false;
        while left > 0 {
            let rest = capacity - position;
            if memory.ensure(position, position + HEADER).is_err() {
                return false;
            }
            let header = mapping.read_header(position);
            if rest < HEADER || header == Some(FrameHeader::WRAP) {
                if wrapped || left < rest {
                    return false;
                }
                (position, left, wrapped) = (0, left - rest, true);
                continue;
            }
            // A writer that changed on the way has begun again at 1.
            let Some(header) = header
                .filter(|header| self.any_sequence || header.sequence == sequence || header.sequence == 1)
            else {
                return false;
            };
            let Some(need) = header.size.checked_add(HEADER).filter(|need| *need <= left.min(rest)) else {
                return false;
            };
            if header.size == 0 {
                return false;
            }
            (position, left, sequence) = (position + need, left - need, header.sequence.wrapping_add(1));
        }
        true
    }

    /// An honest writer has written what it commits.
    fn without_memory(&self, bytes: u64) -> Trouble {
        corrupt(format!(
            "{bytes} bytes at {} count as committed, but were never written, and there is no memory for them",
            self.position
        ))
    }

    fn contradiction(&self, unread: u64) -> Trouble {
        Trouble {
            kind: ErrorKind::InvalidState,
            message: format!("payload_free_bytes counts {unread} bytes that no frame accounts for"),
        }
    }

    /// Gives back what a lost update of the count took, after a contradiction that lasted.
    pub(crate) fn repair(
        &mut self,
        mapping: &Mapping,
        queue: &mut ReleaseQueue,
        memory: &mut Reserver,
    ) -> Option<u64> {
        let unread = self.unread(mapping, queue).ok()?;
        if unread == 0 || !self.contradicted(mapping, memory, unread) {
            return None;
        }
        stop_point!("read:repair");
        mapping.oieb().payload_free_bytes.fetch_add(unread, Ordering::AcqRel);
        queue.backlog = 0;
        Some(unread)
    }

    /// Takes back a position that a dead writer stored for a frame that it did not live to commit: a 1.x writer that
    /// follows goes on from there, while we go on from the last committed frame. All that was committed has been read.
    pub(crate) fn withdraw_uncommitted(
        &mut self,
        mapping: &Mapping,
        queue: &mut ReleaseQueue,
        dead: WriterWords,
    ) {
        let oieb = mapping.oieb();
        let capacity = mapping.geometry().payload_size;
        // A writer of ours may have got half-way through a rewind, which a 1.x successor cannot know of.
        if self.follow_rewind(mapping, queue).is_err() {
            return;
        }
        // Acquire: as in WriteSide::resume.
        let write_pos = oieb.payload_write_pos.load(Ordering::Acquire);
        stop_point!("read:withdraw");
        // Whoever connected meanwhile owns the word; a writer of ours does this for itself (WriteSide::recover).
        if write_pos % capacity != self.position % capacity && WriterWords::load(oieb) == dead {
            // Release: as a writer's own store. Compared, so that a writer that is this fast is not set back.
            let _ = oieb.payload_write_pos.compare_exchange(
                write_pos,
                self.position,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
    }

    /// Ring position up to which a 1.x writer may write next; it does not reserve memory itself.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }
}

fn writer_word(mapping: &Mapping) -> WriterWord {
    // Acquire pairs with the Release store in Writer's connect and close.
    WriterWord(mapping.oieb().writer_word.load(Ordering::Acquire))
}

fn corrupt(message: String) -> Trouble {
    Trouble { kind: ErrorKind::CorruptBuffer, message }
}

/// The writer's books.
pub(crate) struct WriteSide {
    /// Ring position of the next header, below the capacity.
    position: u64,
    sequence: u64,
    written_count: u64,
    /// At least so many bytes are free, as of the last look or commit: only we take any.
    known_free: u64,
    /// The reader is ours: it follows rewinds, and tokens are posted only when none is there.
    pub(crate) reader_is_ours: bool,
}

impl WriteSide {
    /// The writer of a ring whose last writer closed in good order, or whose reader is not of ours.
    pub(crate) fn resume(mapping: &Mapping, reader_is_ours: bool) -> Result<WriteSide, Trouble> {
        let oieb = mapping.oieb();
        // Acquire pairs with the last writer's Release store of its position.
        let position = oieb.payload_write_pos.load(Ordering::Acquire);
        let written_count = oieb.payload_written_count.load(Ordering::Relaxed);
        let capacity = mapping.geometry().payload_size;
        if position > capacity {
            return Err(corrupt(format!("payload_write_pos is {position}, the ring has {capacity} bytes")));
        }
        Ok(WriteSide {
            position: position % capacity,
            sequence: 1,
            written_count,
            known_free: 0,
            reader_is_ours,
        })
    }

    /// The writer of a ring of ours whose last writer, of whichever side, died anywhere. `None`: the reader is just
    /// changing its words, ask again.
    ///
    /// The dead writer's position may be one frame ahead of its last commit. The commit itself is the subtraction from
    /// `payload_free_bytes`; with the reader's tail, that count says where committed bytes end.
    pub(crate) fn recover(mapping: &Mapping) -> Result<Option<WriteSide>, Trouble> {
        let oieb = mapping.oieb();
        let capacity = mapping.geometry().payload_size;
        // Acquire loads pair with the stores in ReleaseQueue::give_back: equal, settled tails around the count mean
        // that no addition fell between them.
        let before = TailWord(oieb.tail_word.load(Ordering::Acquire));
        let free = oieb.payload_free_bytes.fetch_add(0, Ordering::AcqRel);
        let after = TailWord(oieb.tail_word.load(Ordering::Acquire));
        if before != after || before.is_changing() {
            return Ok(None);
        }
        let read_pos = oieb.payload_read_pos.load(Ordering::Relaxed);
        let Some(used) = capacity.checked_sub(free) else {
            return Err(corrupt(format!("payload_free_bytes is {free}, the ring has {capacity} bytes")));
        };
        if read_pos > capacity || before.position() >= capacity {
            return Err(corrupt(format!(
                "the reader's positions {read_pos}, {} are out of bounds",
                before.position()
            )));
        }
        let mut side = WriteSide::resume(mapping, true)?;
        if used == 0 {
            // Nothing is held, so the reader stands where the next frame goes; a rewind may have got half-way.
            side.position = read_pos % capacity;
            stop_point!("connect:tail");
            oieb.tail_word.store(TailWord::settled(side.position).0, Ordering::Release);
        } else {
            side.position = (before.position() + used) % capacity;
        }
        stop_point!("connect:write-pos");
        oieb.payload_write_pos.store(side.position, Ordering::Release);
        Ok(Some(side))
    }

    /// Bytes known to be free, if that is enough to know for a frame of `len` bytes: a look at the shared word takes its
    /// line from the reader. `None` if the ring might have to be taken back to 0, which asks whether it is empty.
    pub(crate) fn known_free_for(&self, mapping: &Mapping, len: usize) -> Option<u64> {
        let need = len as u64 + HEADER;
        let no_rewind = self.position + need <= space::HOT_BYTES.min(mapping.geometry().payload_size);
        (self.reader_is_ours && no_rewind && need <= self.known_free).then_some(self.known_free)
    }

    /// Looks at `payload_free_bytes`, and remembers it.
    pub(crate) fn look_free(&mut self, mapping: &Mapping) -> Result<u64, Trouble> {
        self.known_free = self.free(mapping)?;
        Ok(self.known_free)
    }

    /// What the last look found free, less what was committed since.
    pub(crate) fn seen_free(&self) -> u64 {
        self.known_free
    }

    /// `payload_free_bytes`, checked.
    pub(crate) fn free(&self, mapping: &Mapping) -> Result<u64, Trouble> {
        // Acquire pairs with the reader's AcqRel addition: it is done with the bytes that we now reuse.
        let free = mapping.oieb().payload_free_bytes.load(Ordering::Acquire);
        let capacity = mapping.geometry().payload_size;
        if free > capacity {
            return Err(corrupt(format!("payload_free_bytes is {free}, the ring has {capacity} bytes")));
        }
        Ok(free)
    }

    /// The question that [`space::plan`] answers for a frame of `len` bytes.
    pub(crate) fn question(
        &self,
        mapping: &Mapping,
        free: u64,
        len: usize,
        may_shrink: bool,
    ) -> space::Question {
        space::Question {
            capacity: mapping.geometry().payload_size,
            position: self.position,
            free,
            need: len as u64 + HEADER,
            may_shrink,
            can_rewind: self.reader_is_ours,
            only_start: false,
        }
    }

    /// Takes the empty ring back to 0, for free: only towards a reader of ours, and only if it stands where we do.
    pub(crate) fn rewind(&mut self, mapping: &Mapping) -> bool {
        let oieb = mapping.oieb();
        let capacity = mapping.geometry().payload_size;
        let read_pos = oieb.payload_read_pos.load(Ordering::Relaxed);
        let tail = TailWord(oieb.tail_word.load(Ordering::Acquire));
        if read_pos % capacity != self.position || tail != TailWord::settled(self.position) {
            return false;
        }
        // The ring is empty and only we can fill it, so the reader changes neither word before our next commit; whose
        // AcqRel subtraction makes both visible to it. A crash in between: see recover().
        stop_point!("write:rewind-tail");
        oieb.tail_word.store(TailWord::settled(0).0, Ordering::Relaxed);
        stop_point!("write:rewind-read-pos");
        oieb.payload_read_pos.store(0, Ordering::Relaxed);
        self.position = 0;
        stop_point!("write:rewind-write-pos");
        oieb.payload_write_pos.store(0, Ordering::Release);
        true
    }

    /// Writes length and bytes into a metadata block where nothing is published yet. `None` if they do not fit.
    pub(crate) fn write_metadata(mapping: &Mapping, metadata: &[u8]) -> Option<()> {
        let prefix = (metadata.len() as u64).to_le_bytes();
        stop_point!("metadata:bytes");
        // SAFETY: the caller is the one writer, and has seen that nothing is published.
        #[allow(unsafe_code)]
        unsafe {
            mapping.write_metadata(0, &prefix)?;
            mapping.write_metadata(prefix.len() as u64, metadata)
        }
    }

    /// Commits `len` bytes at the place reserved; gives the frame's sequence number.
    pub(crate) fn commit(
        &mut self,
        mapping: &Mapping,
        reservation: Reservation,
        len: usize,
        tag: Tag,
    ) -> Result<u64, Trouble> {
        debug_assert!(len > 0 && len <= reservation.len);
        self.sequence = tag.sequence.unwrap_or(self.sequence);
        let oieb = mapping.oieb();
        let capacity = mapping.geometry().payload_size;
        let placement = reservation.placement;
        let need = len as u64 + HEADER;
        let out_of_bounds = || corrupt("a reservation lies outside the ring".to_owned());
        let marker = placement.skip >= HEADER;
        if marker {
            stop_point!("write:wrap-marker");
            // SAFETY: the bytes from our position to the end are free (the plan charged them), and nobody looks at
            // them before the subtraction below.
            #[allow(unsafe_code)]
            unsafe { mapping.write_header(self.position, FrameHeader::WRAP) }.ok_or_else(out_of_bounds)?;
        }
        stop_point!("write:header");
        let header = FrameHeader { size: len as u64, sequence: self.sequence };
        // SAFETY: the plan found these bytes free; nobody looks at them before the subtraction below.
        #[allow(unsafe_code)]
        unsafe { mapping.write_header(placement.start, header) }.ok_or_else(out_of_bounds)?;

        self.position = (placement.start + need) % capacity;
        stop_point!("write:write-pos");
        oieb.payload_write_pos.store(self.position, Ordering::Release);
        stop_point!("write:free-bytes");
        // The commit. Release publishes header and data to the reader's Acquire load; Acquire keeps the counts below
        // from moving up.
        let cost = placement.skip + need;
        let before = oieb.payload_free_bytes.fetch_sub(cost, Ordering::AcqRel);
        self.written_count = self.written_count.wrapping_add(1 + u64::from(placement.skip > 0));
        stop_point!("write:written-count");
        oieb.payload_written_count.store(self.written_count, Ordering::Relaxed);
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        self.known_free = before.saturating_sub(cost);
        if before < cost || before > capacity {
            self.known_free = 0;
            return Err(corrupt(format!("payload_free_bytes was {before} at a commit of {cost} bytes")));
        }
        Ok(sequence)
    }
}
