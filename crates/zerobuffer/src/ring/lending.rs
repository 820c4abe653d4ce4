//! How a reader waits that has lent frames: until there is a frame, or the oldest one that is lent has come back.

use std::time::{Duration, Instant};

use super::Lender;
use crate::buffer::Buffer;
use crate::memory::Memory;
use crate::os::WaitAny;
use crate::sharing::loans::OldestLoan;
use crate::sync::{AtomicU32, Ordering, futex_wait_any};
use crate::wait::{SLICE, Spin, doorbell};

/// How long such a reader sleeps at a time, where it cannot wait for several words and its writer waits for space.
const SHORT_SLICE: Duration = Duration::from_millis(1);

/// Spins until `ready`, as long as that is worth while. What comes back meanwhile goes back, so that the source's writer can fill
/// bytes that are still in the caches.
#[inline(never)]
pub(super) fn spin(
    lender: &Lender,
    spin: &mut Spin,
    since: Option<Instant>,
    mut ready: impl FnMut() -> bool,
) -> bool {
    let mut oldest = lender.loans.oldest();
    spin.until(since, || {
        if oldest.as_ref().is_some_and(OldestLoan::has_returned) {
            lender.settle_loans(false);
            oldest = lender.loans.oldest();
        }
        ready()
    })
}

/// Sleeps for up to `limit`, until `ready`, or until a borrower has given back the oldest frame that is lent: bytes go back in ring
/// order, so what others give back meanwhile is of no use before. News that came before are taken.
#[cold]
pub(super) fn sleep(lender: &Lender, limit: Duration, ready: &dyn Fn() -> bool) {
    // Own doorbell first: a thread that lends an older frame behind this rings it.
    let own = lender.buffer.doorbell();
    let own = (own, arm(own));
    // The caller looks again, and sleeps as a reader that has lent nothing.
    let Some(Armed { oldest, bell, is_told }) = arm_oldest(lender) else { return };
    let both = [own, oldest.output().loans_line().zip(bell).map_or(own, |(line, value)| (&line.bell, value))];
    let armed = if bell.is_some() { &both[..] } else { &both[..1] };
    let ready = || ready() || oldest.has_returned();
    // The output's next writer may lend, and own the doorbell.
    let was_left = || oldest.output().has_left();
    // A borrower that goes later is told of by the watcher, whose news `ready` sees.
    let told = is_told && !was_left();
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
    if second_look && is_quiet() && !ready() && !was_left() {
        futex_wait_any(armed, limit - doorbell::SECOND_LOOK);
    }
}

/// The loan whose end a reader sleeps for.
struct Armed {
    oldest: OldestLoan,
    /// What the output's doorbell says; `None`: the output's writer has closed, and its successor may own the doorbell.
    bell: Option<u32>,
    /// The watcher tells of the borrower's end.
    is_told: bool,
}

/// Arms the doorbell of the output through which the oldest frame is lent, and tests whether its borrower lives. `None`: nothing is
/// lent.
fn arm_oldest(lender: &Lender) -> Option<Armed> {
    loop {
        let oldest = lender.loans.oldest()?;
        // The watch stands before the lock is tested.
        let (bell, is_told) = lender.loans.arm_for(&oldest);
        // What came back before the doorbell was armed, no borrower rings for.
        lender.settle_oldest(&oldest);
        if lender.loans.is_lent(&oldest) {
            return Some(Armed { oldest, bell, is_told });
        }
    }
}

/// Sleeps where the system cannot wait for several words.
fn sleep_alone(buffer: &Buffer, limit: Duration, ready: impl FnMut() -> bool) {
    // Relaxed: a writer that becomes short of space during the sleep is served after it.
    let wants = buffer.mapping.control().writer_bell.bell.load(Ordering::Relaxed);
    let is_short = wants & !doorbell::BARRIER != 0;
    doorbell::sleep(buffer.doorbell(), 0, if is_short { limit.min(SHORT_SLICE) } else { limit }, ready);
}

/// Sets this reader's doorbell as for a sleep, and returns it as it is then.
fn arm(bell: &AtomicU32) -> u32 {
    doorbell::sleep(bell, 0, Duration::ZERO, || true);
    // Relaxed: the futex call compares it with the word as it is then.
    bell.load(Ordering::Relaxed)
}
