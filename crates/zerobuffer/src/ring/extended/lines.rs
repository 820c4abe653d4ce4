//! Which cache lines each side asks for before it needs them.
//!
//! In a ring that stays in the caches the other core has had each line since it was last written or read, and takes some
//! 100 to 400 ns to hand one over. The processor itself asks for the lines within a frame, which it sees walked through. It
//! does not for headers and ends: where a header stands depends on the one before it.

use super::plan::CACHE_LINE;
use crate::memory::Memory;

/// Bytes of the largest frame, header included, of which all lines are asked for.
const SMALL: u64 = 256 + 32;

/// How far ahead those of small frames are asked for.
const AHEAD: u64 = 1024;

/// Bytes of the largest frame of which the writer asks for some lines.
const MEDIUM: u64 = 128 << 10;

/// So many bytes count as little: a frame of 1 KiB with its header.
const FIRST: u64 = 1024 + CACHE_LINE;

/// How many frames ahead those of medium frames are asked for.
const FRAMES_AHEAD: u64 = 3;

/// After a commit up to `head`, of a frame that takes `bytes`: asks for lines that will be written soon. None at or behind
/// `open`, where the reader may be.
#[inline(always)]
pub(crate) fn ask_to_write(memory: &impl Memory, head: u64, bytes: u64, open: u64) {
    if bytes <= SMALL {
        let at = head + AHEAD;
        if at <= open {
            memory.prefetch_to_write(at - CACHE_LINE);
            memory.prefetch_to_write(at - 2 * CACHE_LINE);
        }
    } else if bytes <= MEDIUM {
        // Where a header will stand if frames keep their size, with the end before it and the data behind it.
        let at = head + FRAMES_AHEAD * bytes;
        if at + CACHE_LINE <= open {
            memory.prefetch_to_write(at - CACHE_LINE);
            memory.prefetch_to_write(at);
            memory.prefetch_to_write(at + CACHE_LINE);
        }
    }
}

/// After a frame that takes `bytes` up to `end` was read: asks for lines that will be read soon. None at or behind `limit`,
/// where the writer may be; and none for larger frames, of which the reader would take lines that the writer needs first.
#[inline]
pub(crate) fn ask_to_read(memory: &impl Memory, end: u64, bytes: u64, limit: u64) {
    if bytes <= SMALL && end + AHEAD <= limit {
        memory.prefetch(end + AHEAD - CACHE_LINE);
        memory.prefetch(end + AHEAD - 2 * CACHE_LINE);
    }
}

/// After a look at the writer's word: asks for the next frame's header and what lies behind it together: the end of a small one,
/// or all that was found, if that is little. Where a frame's data lies depends on its header, so a copy would wait for the header's
/// line first, and then for the others.
#[inline]
pub(crate) fn ask_for_first(memory: &impl Memory, position: u64, limit: u64) {
    memory.prefetch(position);
    if position + CACHE_LINE < limit {
        memory.prefetch(position + CACHE_LINE);
    }
    if position + 2 * CACHE_LINE < limit && limit - position <= FIRST {
        ask_for_rest(memory, position + 2 * CACHE_LINE, limit);
    }
}

/// Apart, so that the common look stays short.
#[inline(never)]
fn ask_for_rest(memory: &impl Memory, position: u64, limit: u64) {
    let mut at = position;
    while at < limit {
        memory.prefetch(at);
        at += CACHE_LINE;
    }
}
