//! The reader's side of a classic ring.

use std::time::{Duration, Instant};

use super::ahead::Ahead;
use super::plan::{self, HEADER};
use super::release::ReleaseQueue;
use crate::buffer::Buffer;
use crate::layout::{FrameHeader, WriterWord};
use crate::lifecycle::liveness::WriterWords;
use crate::memory::mapping::Mapping;
use crate::memory::reserve::Reserver;
use crate::ring::{FaultKind, FrameRecord, Look, RingFault, entry};
use crate::sync::Ordering;
use crate::testing::stop::stop_point;
use crate::wait::{UNSURE_LIMIT, taken_before_look};

/// Frames read before the semaphore's tokens for them are taken, so that its cache line moves rarely.
const TOKEN_BATCH: u32 = 256;

/// Tokens burnt between two looks at the ring and the clock.
const TOKEN_BURST: u32 = 1 << 16;

/// Skips in a row without a frame between them. One is the rule, two (an exact end, then a marker) are imaginable; more
/// are a hostile writer's, who could hold the reader in its loop for as long as it likes.
pub(super) const MAX_SKIPS: u32 = 3;

/// The reader's books.
pub(crate) struct ReadSide {
    /// Ring position of the next header; `capacity` after a frame that ended exactly there.
    pub(super) position: u64,
    /// Sequence number of the next frame.
    pub(super) expected: u64,
    /// The writer whose frames are being read has at least this epoch (0: a 1.x writer, or none yet).
    epoch: u32,
    /// `payload_free_bytes` at the last look, to notice a change cheaply.
    last_free: u64,
    /// Frames come in any order of sequence numbers (responses of a duplex server).
    pub(crate) any_sequence: bool,
    /// No frame has been read, and the first writer may still make the ring an extended one.
    pub(crate) undecided: bool,
    /// Since when all bytes have been taken by an entry that does not end.
    taken_since: Option<Instant>,
    /// Frames read whose tokens have not been taken.
    tokens_owed: u32,
    ahead: Ahead,
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
            tokens_owed: 0,
            ahead: Ahead::default(),
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
    pub(crate) fn unread(&mut self, mapping: &Mapping, queue: &mut ReleaseQueue) -> Result<u64, RingFault> {
        // Acquire pairs with the writer's AcqRel subtraction: header and data are there.
        let mut free = mapping.oieb().payload_free_bytes.load(Ordering::Acquire);
        self.last_free = free;
        let capacity = mapping.geometry().payload_size;
        if free.wrapping_sub(1) >= capacity {
            free = self.free_beside_an_entry(mapping, queue, free);
        }
        queue.ample = free >= capacity / 2;
        capacity.checked_sub(free).and_then(|used| used.checked_sub(queue.held)).ok_or_else(|| {
            RingFault::corrupt(format!(
                "payload_free_bytes is {free}, but of {capacity} bytes {} are held by the reader",
                queue.held
            ))
        })
    }

    /// `payload_free_bytes`, found to be 0 or impossible, as it would be without a native writer that has taken all bytes on
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
                // A peer that gives bytes back takes the mark away after that.
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

    /// Ends that entry; the writer's role is locked. Returns whether bytes were given back.
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

    /// Looks for the next frame and takes it. `begins` is asked before the first frame of another writer is taken.
    /// `memory` knows, or finds out, where the ring has memory: nothing else is touched.
    pub(crate) fn look(
        &mut self,
        mapping: &Mapping,
        queue: &mut ReleaseQueue,
        memory: &mut Reserver,
        mut begins: impl FnMut(Option<WriterWord>) -> bool,
    ) -> Look {
        // What is known to be committed is read without another look at the count. Not so what a 1.x writer committed,
        // whose count may be wrong for a while (spec failure 17).
        if queue.lazy && queue.backlog > 0 {
            if let frame @ Look::Frame(_) = self.parse(mapping, queue, memory, &mut begins) {
                return frame;
            }
            // Anything but a frame is said of the newest count only, and with all space given back.
            queue.give_back(mapping);
        }
        match self.unread(mapping, queue) {
            Ok(unread) => queue.set_backlog(unread),
            Err(fault) => {
                queue.backlog = 0;
                return Look::Unsure(fault);
            }
        }
        if queue.backlog == 0 {
            return Look::Empty;
        }
        if let Err(fault) = self.follow_rewind(mapping, queue) {
            return Look::Unsure(fault);
        }
        self.parse(mapping, queue, memory, &mut begins)
    }

    /// Takes the next frame of the backlog.
    fn parse(
        &mut self,
        mapping: &Mapping,
        queue: &mut ReleaseQueue,
        memory: &mut Reserver,
        begins: &mut impl FnMut(Option<WriterWord>) -> bool,
    ) -> Look {
        let capacity = mapping.geometry().payload_size;
        for _ in 0..=MAX_SKIPS {
            let unread = queue.backlog;
            if unread == 0 {
                // The skip was charged alone, as 1.x writers do; its frame is not there yet.
                return Look::Empty;
            }
            if let Some(gap) = plan::gap(capacity, self.position) {
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
                return Look::Unsure(RingFault::corrupt(format!(
                    "read position {} is out of bounds",
                    self.position
                )));
            };
            if header == FrameHeader::WRAP && unread >= capacity - self.position {
                if self.contradicted(mapping, memory, unread) {
                    return Look::Unsure(self.contradiction(unread));
                }
                self.skip(mapping, queue, capacity - self.position, true);
                continue;
            }
            return self.take(mapping, queue, memory, header, begins);
        }
        Look::Unsure(RingFault::corrupt("the ring holds nothing but wraps".to_owned()))
    }

    fn take(
        &mut self,
        mapping: &Mapping,
        queue: &mut ReleaseQueue,
        memory: &mut Reserver,
        header: FrameHeader,
        begins: &mut impl FnMut(Option<WriterWord>) -> bool,
    ) -> Look {
        let unread = queue.backlog;
        let capacity = mapping.geometry().payload_size;
        let rest = capacity - self.position;
        let end = header.size.checked_add(HEADER).filter(|need| *need <= unread && *need <= rest);
        let (Some(need), true) = (end, header.size > 0) else {
            if self.contradicted(mapping, memory, unread) {
                return Look::Unsure(self.contradiction(unread));
            }
            return Look::Unsure(RingFault::corrupt(format!(
                "a frame of {} bytes at {} does not fit the {unread} bytes committed ({rest} to the end of the ring)",
                header.size, self.position
            )));
        };
        if header.sequence != self.expected && !self.any_sequence {
            if self.contradicted(mapping, memory, unread) {
                return Look::Unsure(self.contradiction(unread));
            }
            if header.sequence != 1 || !self.writer_changed(mapping) {
                return Look::Unsure(RingFault::out_of_sequence(self.expected, header.sequence));
            }
            // A classic frame does not say whose it is.
            if !begins(None) {
                return Look::Restart(None);
            }
        }
        if memory.ensure(self.position, self.position + need).is_err() {
            return Look::Unsure(self.without_memory(need));
        }
        if header.sequence == 1 {
            // The writer in the word may be a later one already, so count on by one only.
            if self.epoch != writer_word(mapping).epoch() {
                self.epoch = WriterWord::epoch_after(self.epoch);
            }
            queue.lazy = WriterWords::load(mapping.oieb()).is_ours();
        }
        self.expected = header.sequence.wrapping_add(1);
        self.undecided = false;
        self.ahead.read(need);
        let position = self.position + HEADER;
        let ticket = queue.push(need, header.sequence);
        self.advance(mapping, queue, self.position + need, need, 1);
        Look::Frame(FrameRecord::classic(position, header.size, header.sequence, ticket))
    }

    /// Passes over the rest of the ring. 1.x readers count a marker as one read.
    fn skip(&mut self, mapping: &Mapping, queue: &mut ReleaseQueue, bytes: u64, marker: bool) {
        queue.push_skipped(bytes);
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

    /// A native writer takes an empty ring back to 0 by storing the reader's position (WriteSide::rewind).
    fn follow_rewind(&mut self, mapping: &Mapping, queue: &mut ReleaseQueue) -> Result<(), RingFault> {
        if queue.held > 0 {
            return Ok(());
        }
        // Relaxed: ordered by the Acquire load of payload_free_bytes in unread(), which saw the commit that followed.
        let stored = mapping.oieb().payload_read_pos.load(Ordering::Relaxed);
        if stored == self.position {
            return Ok(());
        }
        if stored != 0 {
            return Err(RingFault::corrupt(format!(
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
    /// frame that would fill the ring makes it look empty. A native writer loses no updates; for a 1.x writer the frames
    /// themselves must account for the count.
    pub(super) fn contradicted(&self, mapping: &Mapping, memory: &mut Reserver, unread: u64) -> bool {
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
    fn without_memory(&self, bytes: u64) -> RingFault {
        RingFault::corrupt(format!(
            "{bytes} bytes at {} count as committed, but were never written, and there is no memory for them",
            self.position
        ))
    }

    fn contradiction(&self, unread: u64) -> RingFault {
        RingFault {
            kind: FaultKind::LostUpdate,
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
        // A native writer may have got half-way through a rewind, which a 1.x successor cannot know of.
        if self.follow_rewind(mapping, queue).is_err() {
            return;
        }
        // Acquire: as in WriteSide::resume.
        let write_pos = oieb.payload_write_pos.load(Ordering::Acquire);
        stop_point!("read:withdraw");
        // A writer that connected meanwhile owns the word; a native one does this for itself (WriteSide::recover).
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

    // ---- tokens of the writer ----

    /// Frames of `bytes` bytes were read.
    pub(super) fn note_read(&mut self, bytes: u64) {
        self.ahead.read(bytes);
    }

    /// One more frame was read, for which a token may come.
    pub(crate) fn owe_token(&mut self, buffer: &Buffer) {
        self.owe_tokens(buffer, 1);
    }

    /// So many more frames were read.
    pub(crate) fn owe_tokens(&mut self, buffer: &Buffer, frames: u64) {
        self.tokens_owed = self.tokens_owed.saturating_add(u32::try_from(frames).unwrap_or(u32::MAX));
        if self.tokens_owed >= TOKEN_BATCH {
            self.settle_tokens(buffer);
        }
    }

    /// Takes the tokens of frames already read, as far as they have come. Returns whether there were any.
    pub(crate) fn settle_tokens(&mut self, buffer: &Buffer) -> bool {
        let owed = std::mem::take(&mut self.tokens_owed);
        taken_before_look((0..owed).take_while(|_| buffer.sem_w.try_wait()).count() > 0)
    }

    /// The token that ended a sleep stood for the frame that was read then.
    pub(crate) fn token_taken(&mut self) {
        self.tokens_owed = self.tokens_owed.saturating_sub(1);
    }

    /// After a token without a frame: burns the others like it without a look at the ring for each.
    pub(crate) fn burn_tokens(&self, buffer: &Buffer) {
        let mut burst = TOKEN_BURST;
        while burst > 0 && buffer.sem_w.try_wait() {
            burst -= 1;
        }
        taken_before_look(true);
    }

    /// Sleeps until a token comes, for up to `limit`. Returns whether one came.
    pub(crate) fn sleep(&self, buffer: &Buffer, limit: Duration) -> bool {
        taken_before_look(buffer.sem_w.wait(limit))
    }

    /// Keeps memory reserved ahead of a 1.x writer, and more of it before a wait.
    pub(crate) fn reserve_ahead(&mut self, buffer: &Buffer, memory: &mut Reserver, before_wait: bool) {
        self.ahead.reserve(self.position, before_wait, buffer, memory);
    }
}

fn writer_word(mapping: &Mapping) -> WriterWord {
    // Acquire pairs with the Release store in Writer's connect and close.
    WriterWord(mapping.oieb().writer_word.load(Ordering::Acquire))
}

#[cfg(all(test, not(loom)))]
mod tests;
