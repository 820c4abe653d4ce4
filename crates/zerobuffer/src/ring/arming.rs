//! What a handle waits for, by the kind of ring.

use super::{Lender, ReadRing, WriteRing};
use crate::descriptor::Source;

impl ReadRing {
    /// Whether every writer from now on is a native one, which wakes this side for all that it does.
    pub(crate) fn is_native(&self) -> bool {
        matches!(self, ReadRing::Extended(_))
    }

    /// Whether a writer is on its way into an extended ring, or did not live to end it.
    pub(crate) fn is_being_entered(&mut self, lender: &Lender) -> bool {
        let mapping = &lender.buffer.mapping;
        match self {
            ReadRing::Classic(side) => mapping.can_be_extended() && side.is_being_entered(mapping),
            ReadRing::Extended(_) => false,
        }
    }

    /// Before a descriptor is armed: takes the tokens of frames already read. Returns what the descriptor waits for.
    pub(crate) fn before_arming(&mut self, lender: &Lender) -> Source {
        match self {
            ReadRing::Classic(side) => {
                side.settle_tokens(&lender.buffer);
                side.burn_tokens(&lender.buffer);
                Source::Semaphore
            }
            ReadRing::Extended(_) => Source::Bell,
        }
    }
}

impl WriteRing {
    /// Whether the peer is a native one, which wakes this side for all that it does.
    pub(crate) fn is_native(&self) -> bool {
        match self {
            WriteRing::Classic(side) => side.reader_is_ours,
            WriteRing::Extended(_) => true,
        }
    }

    /// What a descriptor waits for.
    pub(crate) fn source(&self) -> Source {
        match self {
            WriteRing::Classic(_) => Source::Semaphore,
            WriteRing::Extended(_) => Source::Bell,
        }
    }
}
