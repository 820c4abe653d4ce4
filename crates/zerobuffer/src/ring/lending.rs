//! How a reader sleeps that has lent frames: until there is a frame, or something was given back.

use std::time::Duration;

use super::Lender;
use crate::buffer::Buffer;
use crate::memory::Memory;
use crate::os::{WAIT_ANY_MAX, WaitAny};
use crate::sync::{AtomicU32, Ordering, futex_wait_any};
use crate::wait::{SLICE, doorbell};

/// How long such a reader sleeps at a time, where it cannot wait for several words and its writer waits for space.
const SHORT_SLICE: Duration = Duration::from_millis(1);

/// Sleeps for up to `limit`, until `ready`, or until a borrower has given something back; then takes that back.
#[cold]
pub(super) fn sleep(lender: &Lender, limit: Duration, ready: &dyn Fn() -> bool) {
    let buffer = &lender.buffer;
    // Nothing tells of a borrower's death: its lock is tested after each slice.
    let limit = limit.min(SLICE);
    let ready = || ready() || lender.loans.has_news();
    let outputs = lender.loans.outputs(WAIT_ANY_MAX - 1);
    let loans_bells = outputs.iter().filter_map(|output| loans_bell(output));
    let bells: Vec<&AtomicU32> = std::iter::once(buffer.doorbell()).chain(loans_bells).collect();
    let armed: Vec<(&AtomicU32, u32)> = bells.iter().map(|bell| (*bell, arm(bell))).collect();
    // A bell that has rung by now has something for this reader.
    let quiet = armed.iter().all(|(_, value)| value & doorbell::SLEEPING != 0);
    if quiet && !ready() && futex_wait_any(&armed, limit) == WaitAny::NotOffered {
        // Relaxed: a writer that becomes short of space during the sleep is served after it.
        let wants = buffer.mapping.control().writer_bell.bell.load(Ordering::Relaxed);
        let is_short = wants & !doorbell::BARRIER != 0;
        let slice = if is_short { limit.min(SHORT_SLICE) } else { limit };
        doorbell::sleep(buffer.doorbell(), 0, slice, ready);
    }
    lender.settle_loans(true);
}

fn loans_bell(output: &Buffer) -> Option<&AtomicU32> {
    output.mapping.sharing().map(|sharing| &sharing.loans.loans_bell.bell)
}

/// Sets a doorbell of this reader as for a sleep, and returns it as it is then.
fn arm(bell: &AtomicU32) -> u32 {
    doorbell::sleep(bell, 0, Duration::ZERO, || true);
    // Relaxed: the futex call compares it with the word as it is then.
    bell.load(Ordering::Relaxed)
}
