//! What the handles of a ring do when they go, and what a reader does for a writer that has gone.

use super::{Lender, ReadRing, WriteRing, classic};
use crate::buffer::Buffer;
use crate::layout::WRITER_ROLE_BYTE;
use crate::lifecycle::liveness::WriterWords;
use crate::memory::reserve::Reserver;
use crate::os;
use crate::sync::Ordering;
use crate::testing::stop::stop_point;

impl ReadRing {
    /// Keeps memory reserved ahead of a 1.x writer, and more of it before a wait.
    pub(crate) fn reserve_ahead(&mut self, lender: &Lender, memory: &mut Reserver, before_wait: bool) {
        if let ReadRing::Classic(side) = self {
            side.reserve_ahead(&lender.buffer, memory, before_wait);
        }
    }

    /// Gives back what a native writer took that died, or gave up, on its way into an extended ring. `role` can be locked.
    pub(crate) fn end_entry(&mut self, lender: &Lender, memory: &mut Reserver, role: &os::LockFile) {
        let ReadRing::Classic(side) = self else { return };
        let mapping = &lender.buffer.mapping;
        if !mapping.can_be_extended() || !side.is_being_entered(mapping) {
            return;
        }
        // While the reader has the writer's role no writer is on the way.
        if !matches!(role.try_lock_role(WRITER_ROLE_BYTE), Ok(true)) {
            return;
        }
        let given_back = side.end_entry(mapping, &lender.classic(), memory);
        role.unlock_role(WRITER_ROLE_BYTE);
        if given_back {
            let name = lender.buffer.name();
            log::info!("buffer `{name}`: gave back what a writer had taken that did not live to connect");
            lender.wake_writer();
        }
    }

    /// All that a writer which is gone committed has been read; `dead` has its words if it died.
    pub(crate) fn withdraw_uncommitted(&mut self, lender: &Lender, dead: WriterWords) {
        if let ReadRing::Classic(side) = self {
            side.withdraw_uncommitted(&lender.buffer.mapping, &mut lender.classic(), dead);
        }
    }

    /// All that the native writers up to `epoch` committed has been read.
    pub(crate) fn settle_writers(&mut self, epoch: u32) {
        if let ReadRing::Classic(side) = self {
            side.settle(epoch);
        }
    }

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
