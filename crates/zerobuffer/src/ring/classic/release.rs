//! What was read from a classic ring and not given back.

use crate::buffer::Buffer;
use crate::layout::TailWord;
use crate::memory::mapping::Mapping;
use crate::ring::release::InOrder;
use crate::stats::HeldFrames;
use crate::sync::{Ordering, fence};
use crate::testing::stop::stop_point;

/// Bytes that may be withheld: enough to share the cost of giving back among many small frames. Also at most 1/64 of the
/// ring, so that a buffer never seems notably smaller than it is.
const WITHHELD_MAX: u64 = 16 << 10;

/// What was read and not given back, oldest first. Bytes go back in ring order only (spec failure 2).
///
/// Giving back takes cache lines away from the writer, which costs both sides more than a small frame does. So towards a
/// native writer released bytes are withheld for a moment, only while
///
/// * frames known to be committed are still unread: a drained ring is given back at once, so that a reader which waits
///   never owes space, and a frame as large as the ring always finds room in the end;
/// * half of the ring was free at the last look;
/// * the writer leaves its token on sem-r, as it does when it is not short of space;
/// * they are few: [`WITHHELD_MAX`].
///
/// What a paused reader withholds from a writer that runs short later is thus at most 1/64 of the ring.
pub(crate) struct ReleaseQueue {
    frames: InOrder<Entry>,
    /// Bytes of the frames, and those withheld.
    pub(super) held: u64,
    /// Ring position of the first byte not given back.
    pub(super) tail: u64,
    /// Bytes known to be committed and not read. There may be more.
    pub(super) backlog: u64,
    /// Bytes released, and not given back yet. 0 if `backlog` is.
    withheld: u64,
    /// Half of the ring was free at the last look.
    pub(super) ample: bool,
    /// The writer is a native peer: it needs no exact position or count of the reader before it runs short.
    pub(super) lazy: bool,
    /// How often the writer must still be seen to go on before its token counts as left alone: it may be the one that
    /// we posted to wake it, and it may not be awake yet.
    wary: u8,
    /// Bytes went back to a native writer, which has not been woken for them.
    wake: bool,
    /// Where the reader stands and what it has counted.
    pub(super) read_pos: u64,
    pub(super) read_count: u64,
    /// Both are in shared memory.
    pub(super) published: bool,
}

/// A frame, or bytes that were skipped.
struct Entry {
    bytes: u64,
    /// `None` for bytes that were skipped.
    sequence: Option<u64>,
}

impl ReleaseQueue {
    /// One commit may have come between our look and our post; the second was made by a writer that was awake after it.
    const WARY: u8 = 2;

    pub(crate) fn new() -> ReleaseQueue {
        ReleaseQueue {
            frames: InOrder::new(),
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

    /// Bytes of the frames that were read and not given back.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    /// The frames that are held.
    pub(crate) fn held_frames(&self) -> HeldFrames {
        let held = || self.frames.iter().filter(|(_, released)| !released);
        HeldFrames {
            frames: held().count() as u64,
            bytes: self.frames.iter().map(|(entry, _)| entry.bytes).sum(),
            oldest: held().find_map(|(entry, _)| entry.sequence),
        }
    }

    /// Appends a frame that takes `bytes`, and returns its ticket.
    pub(super) fn push(&mut self, bytes: u64, sequence: u64) -> u64 {
        self.held += bytes;
        self.frames.push(Entry { bytes, sequence: Some(sequence) }, false)
    }

    /// The frame of `ticket`, the last one read, is passed over, with `bytes` behind it.
    pub(super) fn pass_over(&mut self, ticket: u64, bytes: u64) {
        self.held += bytes;
        self.frames.change(ticket, |entry| {
            *entry = Entry { bytes: entry.bytes + bytes, sequence: None };
        });
    }

    /// Appends bytes that were skipped.
    pub(super) fn push_skipped(&mut self, bytes: u64) {
        self.held += bytes;
        self.frames.push(Entry { bytes, sequence: None }, true);
    }

    /// Marks the entry of `ticket` released and gives back what is released at the front, or withholds it if that does
    /// no harm. Returns whether the writer is to be woken.
    pub(crate) fn release(
        &mut self,
        mapping: &Mapping,
        ticket: u64,
        writer_is_short: impl FnOnce() -> bool,
    ) -> bool {
        self.frames.release(ticket);
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
    pub(super) fn set_backlog(&mut self, unread: u64) {
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
        while let Some(entry) = self.frames.pop_released() {
            self.withheld += entry.bytes;
        }
    }

    /// Gives back what is released at the front, and publishes where the reader stands. Returns whether bytes went back.
    pub(super) fn give_back(&mut self, mapping: &Mapping) -> bool {
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
    pub(super) fn publish(&mut self, mapping: &Mapping) {
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

/// Wakes the writer, to which bytes went back. Not to be called with the queue's lock held, which it takes through `queue`.
pub(crate) fn wake_writer(buffer: &Buffer, was_short: impl FnOnce()) {
    // SeqCst between the addition to payload_free_bytes and the look at the count; a waiting writer takes a token
    // before it looks at the ring. So if a token is seen here, its taker will see the bytes (and the count never
    // nears SEM_VALUE_MAX, spec failure 3).
    fence(Ordering::SeqCst);
    if buffer.sem_r.value() <= 0 {
        was_short();
        stop_point!("release:post-sem-r");
        buffer.sem_r.post();
    }
}
