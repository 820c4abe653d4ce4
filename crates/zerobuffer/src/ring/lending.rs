//! How a reader sleeps that has lent frames: until there is a frame, or something was given back.

use std::sync::Arc;
use std::time::Duration;

use super::Lender;
use crate::buffer::Buffer;
use crate::memory::Memory;
use crate::os::{WAIT_ANY_MAX, WaitAny};
use crate::sync::{AtomicU32, Ordering, futex_wait_any};
use crate::wait::{SLICE, doorbell};

/// How long such a reader sleeps at a time, where it cannot wait for several words and its writer waits for space.
const SHORT_SLICE: Duration = Duration::from_millis(1);

/// Outputs that it can wait for beside its own doorbell.
const MOST: usize = WAIT_ANY_MAX - 1;

/// The outputs through which something is lent. Kept as long as their doorbells are slept on.
struct Outputs {
    list: [Option<Arc<Buffer>>; MOST],
    /// The end of each borrower is told.
    told: bool,
}

impl Outputs {
    fn of(lender: &Lender) -> Outputs {
        let mut list = [const { None }; MOST];
        let mut places = list.iter_mut();
        let mut fit = true;
        let told = lender.loans.for_each_output(|output| match places.next() {
            Some(place) => *place = Some(Arc::clone(output)),
            None => fit = false,
        });
        Outputs { list, told: told && fit }
    }

    fn iter(&self) -> impl Iterator<Item = &Buffer> {
        self.list.iter().map_while(|output| output.as_deref())
    }

    /// Whether an output's writer has closed: the next one may lend, and own the doorbell.
    fn was_left(&self) -> bool {
        self.iter().any(Buffer::has_left)
    }
}

/// Sleeps for up to `limit`, until `ready`, or until a borrower has given something back. News that came before are taken.
#[cold]
pub(super) fn sleep(lender: &Lender, limit: Duration, ready: &dyn Fn() -> bool) {
    let own = lender.buffer.doorbell();
    // Own doorbell first: an output that is not in the list then has its first loan behind this, and rings for that.
    let mut armed = [(own, arm(own, 0)); WAIT_ANY_MAX];
    let mut count = 1;
    let outputs = Outputs::of(lender);
    let ready = || ready() || lender.loans.has_returned();
    for output in outputs.iter().filter(|output| !output.has_left()) {
        if let Some(line) = output.loans_line() {
            armed[count] = (&line.bell, arm(&line.bell, mark_of(output)));
            count += 1;
        }
    }
    let armed = &armed[..count];
    // A borrower that goes later is told of by the watcher, whose news `ready` sees.
    lender.settle_loans(true);
    let told = outputs.told && !outputs.was_left();
    let limit = if told { limit } else { limit.min(SLICE) };
    // A doorbell that has rung by now has something for this reader.
    if armed.iter().any(|(_, value)| value & doorbell::SLEEPING == 0) || ready() {
        return;
    }
    let second_look = doorbell::awake() & doorbell::BARRIER != 0 && doorbell::SECOND_LOOK < limit;
    let first = if second_look { doorbell::SECOND_LOOK } else { limit };
    if futex_wait_any(armed, first) == WaitAny::NotOffered {
        return sleep_alone(&lender.buffer, limit.min(SLICE), ready);
    }
    // The barrier may have missed a borrower (crate::wait::doorbell).
    // Relaxed: a hint to sleep on. The wait compares each doorbell once more in the kernel.
    let is_quiet = || armed.iter().all(|(bell, value)| bell.load(Ordering::Relaxed) == *value);
    if second_look && is_quiet() && !ready() && !outputs.was_left() {
        futex_wait_any(armed, limit - doorbell::SECOND_LOOK);
    }
}

/// Sleeps where the system cannot wait for several words.
fn sleep_alone(buffer: &Buffer, limit: Duration, ready: impl FnMut() -> bool) {
    // Relaxed: a writer that becomes short of space during the sleep is served after it.
    let wants = buffer.mapping.control().writer_bell.bell.load(Ordering::Relaxed);
    let is_short = wants & !doorbell::BARRIER != 0;
    doorbell::sleep(buffer.doorbell(), 0, if is_short { limit.min(SHORT_SLICE) } else { limit }, ready);
}

/// Bits of an output's doorbell that tell its lender from the next one. The output's writer may close between this reader's last look and
/// its sleep, and a lender of the next writer may set the doorbell by then: this reader must not fall asleep on that.
fn mark_of(output: &Buffer) -> u32 {
    let place = std::ptr::from_ref(output).addr() as u32 >> 4;
    (place ^ std::process::id().wrapping_mul(0x9E37_79B1)) << doorbell::TURN
}

/// Sets a doorbell of this reader as for a sleep, with the bits `mark`, and returns it as it is then.
fn arm(bell: &AtomicU32, mark: u32) -> u32 {
    doorbell::sleep(bell, mark, Duration::ZERO, || true);
    // Relaxed: the futex call compares it with the word as it is then.
    bell.load(Ordering::Relaxed)
}
