//! How a publisher makes the other side's descriptor ready.

use std::sync::{Mutex, PoisonError};

use crate::os::{self, FifoId};
use crate::testing::stop::stop_point;

/// The publisher's end of the other side's FIFO, opened at the first ring.
pub(crate) struct Wire(Mutex<End>);

enum End {
    None,
    Open(os::FifoEnd),
    /// This FIFO could not be opened; the other side's listener hears the futex.
    Refused(FifoId),
}

impl Wire {
    pub(crate) fn new() -> Wire {
        Wire(Mutex::new(End::None))
    }

    /// Writes a byte to the FIFO `id`. Returns whether that worked.
    pub(crate) fn ring(&self, id: FifoId) -> bool {
        let mut end = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*end {
            End::Open(open) if open.id() == id => {}
            End::Refused(refused) if *refused == id => return false,
            _ => {
                stop_point!("descriptor:open");
                *end = os::FifoEnd::open(id).map_or(End::Refused(id), End::Open);
            }
        }
        stop_point!("descriptor:ring");
        match &*end {
            End::Open(open) => open.ring(),
            _ => false,
        }
    }
}
