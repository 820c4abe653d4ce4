//! How a ring becomes an extended one, and what is left of an entry that was broken off (docs/PROTOCOL.md, "Entry";
//! verification/models/entry.pml).
//!
//! A writer that enters takes all bytes away for a moment, under the mark ENTERING of the extension word. While that mark stands,
//! `payload_free_bytes` may be short by exactly the capacity, and it can be told whether it is:
//!
//! * below 0 (a huge number): it is. A 1.x writer, which had found space before, has committed in the meantime.
//! * above 0: it is not.
//! * 0: the ring is full, or taken. It is taken if nothing was ever written, or if the counts say that nothing is unread.
//!
//! Only the holder of the writer's role sets it, and removes it unless it dies.

use crate::layout::{ExtensionWord, FrameHeader};
use crate::memory::mapping::Mapping;
use crate::sync::{Ordering, fence};
use crate::testing::stop::stop_point;

/// Looks at a count that changes.
pub(crate) const LOOKS: u32 = 100;

/// Outcome of [`enter`].
pub(crate) enum Entry {
    /// The ring is an extended one now, for the life of the buffer.
    Extended,
    /// It stays a classic one.
    Classic,
    /// A 1.x writer has overwritten our pid.
    Foreign(u64),
    /// The reader has to take back first what a writer left that died here.
    Later,
}

/// The word with the mark, as of now. To be read after the count: a peer that gives bytes back takes the mark away after that.
pub(crate) fn word(mapping: &Mapping) -> ExtensionWord {
    // Acquire pairs with the AcqRel changes below.
    ExtensionWord(mapping.oieb().extension.load(Ordering::Acquire))
}

fn unmark(mapping: &Mapping) {
    stop_point!("enter:unmark");
    mapping.oieb().extension.fetch_and(!ExtensionWord::ENTERING, Ordering::AcqRel);
}

/// Makes a ring that no writer has used an extended one. Our pid and word stand, and we hold the role lock.
pub(crate) fn enter(mapping: &Mapping, reader_is_ours: bool) -> Entry {
    let oieb = mapping.oieb();
    let capacity = mapping.geometry().payload_size;
    if !reader_is_ours || !mapping.can_be_extended() {
        return Entry::Classic;
    }
    settle(mapping);
    let broken_off = word(mapping).is_entering();
    if !is_unused(mapping) {
        return if broken_off { Entry::Later } else { classic(mapping) };
    }
    if broken_off {
        // A ring that is full starts with a frame.
        if mapping.read_header(0) != Some(FrameHeader::WRAP) {
            return Entry::Later;
        }
    } else {
        stop_point!("enter:mark");
        oieb.extension.fetch_or(ExtensionWord::ENTERING, Ordering::AcqRel);
        stop_point!("enter:free");
        // SeqCst: before the second look at the pid. Exactly the capacity is taken, or nothing.
        let taken = oieb
            .payload_free_bytes
            .compare_exchange(capacity, 0, Ordering::SeqCst, Ordering::Acquire)
            .is_ok();
        if !taken {
            unmark(mapping);
            return classic(mapping);
        }
    }
    fence(Ordering::SeqCst);
    stop_point!("enter:second-look");
    let pid = oieb.writer_pid.load(Ordering::SeqCst);
    if pid != u64::from(std::process::id()) {
        // A 1.x writer connects at the same time. If it has found space before we took it, it shall soon be told how much
        // there is; else it waits until the reader gives it back.
        stop_point!("enter:undo");
        settle(mapping);
        return Entry::Foreign(pid);
    }
    stop_point!("enter:kind");
    // Release pairs with the Acquire load in Mapping::is_extended. The mark goes in the same step; if it is gone, the reader
    // has mended what a 1.x writer did.
    let set = |word: u64| {
        let entered = word & !ExtensionWord::ENTERING | ExtensionWord::EXTENDED;
        ExtensionWord(word).is_entering().then_some(entered)
    };
    match oieb.extension.fetch_update(Ordering::AcqRel, Ordering::Acquire, set) {
        Ok(_) => Entry::Extended,
        Err(_) => classic(mapping),
    }
}

/// A 1.x writer has used the ring. It may be there still, if it began to connect before our pid stood.
fn classic(mapping: &Mapping) -> Entry {
    match mapping.oieb().writer_pid.load(Ordering::Acquire) {
        pid if pid == u64::from(std::process::id()) => Entry::Classic,
        foreign => Entry::Foreign(foreign),
    }
}

/// Whether no writer has ever committed anything.
fn is_unused(mapping: &Mapping) -> bool {
    let oieb = mapping.oieb();
    let untouched = [
        &oieb.payload_write_pos,
        &oieb.payload_read_pos,
        &oieb.payload_written_count,
        &oieb.payload_read_count,
    ];
    // Acquire pairs with the stores of the last writer and the last reader.
    let free = oieb.payload_free_bytes.load(Ordering::Acquire);
    (free == 0 || free == mapping.geometry().payload_size)
        && untouched.iter().all(|word| word.load(Ordering::Acquire) == 0)
}

/// Takes away the mark of an entry that comes to nothing, and what it has taken, unless the count is 0. For the holder of the
/// writer's role.
fn settle(mapping: &Mapping) {
    // A hostile peer may change the count as often as it likes.
    for _ in 0..LOOKS {
        // Acquire: as in is_unused.
        let free = mapping.oieb().payload_free_bytes.load(Ordering::Acquire);
        if free == 0 || !word(mapping).is_entering() || mend(mapping, free) {
            return;
        }
    }
}

/// Makes good a count of `free` bytes, not 0, under the mark of an entry that comes to nothing: every peer that sees one below 0 may
/// do it, as it cannot come twice. `false`: it has changed, look again.
pub(crate) fn mend(mapping: &Mapping, free: u64) -> bool {
    let capacity = mapping.geometry().payload_size;
    if free > capacity {
        stop_point!("enter:mend");
        let count = &mapping.oieb().payload_free_bytes;
        let whole = free.wrapping_add(capacity);
        if count.compare_exchange(free, whole, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
    }
    unmark(mapping);
    true
}

/// Whether a count of 0 under the mark says "taken", to a reader that holds nothing and has counted `read`.
pub(crate) fn is_taken(mapping: &Mapping, read: u64) -> bool {
    // Acquire: a 1.x writer counts what it has committed, right after the commit.
    let written = mapping.oieb().payload_written_count.load(Ordering::Acquire);
    written.wrapping_sub(read) as i64 <= 0
}

/// Ends an entry that came to nothing: gives back what it has taken, and takes its mark away. For the reader, with the
/// writer's role locked, so that no writer is on the way; `read` as in [`is_taken`], `None` if it is too early to judge a
/// count of 0. Returns whether it gave anything back.
pub(crate) fn end(mapping: &Mapping, read: Option<u64>) -> bool {
    let count = &mapping.oieb().payload_free_bytes;
    let capacity = mapping.geometry().payload_size;
    let word = word(mapping);
    if !word.is_entering() || word.is_extended() {
        return false;
    }
    // Acquire: as in is_unused.
    let free = count.load(Ordering::Acquire);
    if free == 0 {
        if !read.is_some_and(|read| is_taken(mapping, read)) {
            return false;
        }
        stop_point!("enter:give-back");
        if count.compare_exchange(0, capacity, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
    } else if free > capacity {
        // The reader's next look mends that.
        return false;
    }
    unmark(mapping);
    free == 0
}
