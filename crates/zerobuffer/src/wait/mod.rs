//! Waiting: deadlines on the monotonic clock, a short spin, then a sleep on a doorbell or a semaphore.
//!
//! Semaphore tokens only wake; whether there is something to do is read from the ring (spec failure 17).

mod budget;
mod deadline;
pub(crate) mod doorbell;
pub(crate) mod watcher;
pub(crate) mod wire;
mod yields;

pub(crate) use budget::Spin;
pub(crate) use deadline::{Deadline, Doubt, FIRST_SLICE, SLICE, UNSURE_LIMIT, UNSURE_SLICE, poll_until};
pub(crate) use yields::Yields;

use crate::sync::{Ordering, fence};

/// Stands between taking tokens and looking at the ring; returns `taken`.
///
/// The poster looks at the count behind a SeqCst fence, and leaves the post out if a token is there. That is right only
/// if the token's taker sees what came before that look, so it needs the other fence: taking a token is an acquire
/// operation, whose store a later load may overtake on aarch64.
pub(crate) fn taken_before_look(taken: bool) -> bool {
    if taken {
        fence(Ordering::SeqCst);
    }
    taken
}
