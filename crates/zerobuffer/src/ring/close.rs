//! What the handles of a ring do when they go.

use super::{Lender, ReadRing, WriteRing, classic};
use crate::buffer::Buffer;
use crate::sync::Ordering;
use crate::testing::stop::stop_point;

impl ReadRing {
    /// Wakes a writer that waits for a reader that has just gone.
    pub(crate) fn close(&self, lender: &Lender) {
        let buffer = &lender.buffer;
        match self {
            ReadRing::Extended(_) => {
                stop_point!("close:ring-writer");
                buffer.call_peer();
            }
            // A writer of either kind looks for space again, finds none, and then looks at the reader. This buffer gets no other
            // reader, whom the token could mislead.
            ReadRing::Classic(_) => {
                stop_point!("close:post-sem-r");
                buffer.sem_r.post();
            }
        }
    }
}

impl WriteRing {
    /// The pid that `writer_pid` shows while this writer lives: in an extended ring the reader's, which keeps 1.x writers
    /// away.
    pub(crate) fn shown_pid(&self, buffer: &Buffer) -> u64 {
        match self {
            WriteRing::Classic(_) => u64::from(std::process::id()),
            WriteRing::Extended(_) => buffer.mapping.oieb().reader_pid.load(Ordering::Relaxed),
        }
    }

    /// Takes this writer's pid away, before its word says "closed": "closed" beside a pid means a 1.x writer that came later.
    pub(crate) fn clear_pid(&self, buffer: &Buffer) {
        if let WriteRing::Classic(_) = self {
            stop_point!("close:writer-pid");
            let pid = u64::from(std::process::id());
            let shown = &buffer.mapping.oieb().writer_pid;
            let _ = shown.compare_exchange(pid, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Wakes a 1.x reader that waits for a writer which is about to go, and whose pid is cleared.
    pub(crate) fn tell_old_reader(&self, buffer: &Buffer) {
        if let WriteRing::Classic(side) = self
            && !side.reader_is_ours
        {
            classic::farewell::wake_reader(buffer);
        }
    }

    /// Wakes a native reader that waits for a writer that has just gone.
    pub(crate) fn close(&self, buffer: &Buffer) {
        match self {
            WriteRing::Extended(_) => {
                stop_point!("close:ring-reader");
                buffer.call_peer();
            }
            WriteRing::Classic(side) if side.reader_is_ours => {
                stop_point!("close:post-sem-w");
                buffer.sem_w.post();
            }
            WriteRing::Classic(_) => {}
        }
    }
}
