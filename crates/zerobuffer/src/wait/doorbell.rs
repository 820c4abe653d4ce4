//! Bells: how a side of an extended ring sleeps, and how the other wakes it without a fence for each frame.
//!
//! A bell is one word on a line of its own. Its owner, who sleeps, sets and clears it; the other side, who publishes,
//! looks at it after each position that it stores, and clears [`SLEEPING`] when it wakes the owner.
//!
//! No wake-up is lost. The owner stores SLEEPING, then fences, then looks at the position once more, then sleeps while
//! the word is unchanged. The publisher stores the position, then fences, then looks at the bell. Of two threads that
//! each store, fence and load what the other stored, at least one sees the other's store: the owner sees the position
//! and does not sleep, or the publisher sees SLEEPING, clears it and wakes (and an owner that has not got to sleep by
//! then does not, as the word has changed).
//!
//! A fence per frame is what a publisher can't afford. So where both sides can, the owner pays for both: before its
//! second look it has the kernel execute a full fence on every processor that runs a thread of a registered process
//! (membarrier(2), MEMBARRIER_CMD_GLOBAL_EXPEDITED). That fence falls between two instructions of the publisher: if
//! it falls before the look at the bell, that look sees SLEEPING; if behind it, then it is behind the store of the
//! position too, which the owner's second look then sees. The publisher relies on it only while its own process is
//! registered and the owner's bell says [`BARRIER`]; if either is missing, it fences.
//!
//! Linux leaves a processor out of these barriers from the end of a thread of the publisher's process there until it runs
//! another process (docs/PROTOCOL.md, "Barriers that miss a processor"). So an owner that relies on a barrier sleeps for [`SECOND_LOOK`] first, looks
//! once more, and only then sleeps for as long as it likes.
//!
//! An owner whose descriptor is polled does not sleep itself: it *arms* its bell ([`DESCRIPTOR`]), and the publisher writes
//! a byte to the FIFO that the words behind the bell name ([`crate::descriptor`]).

use std::time::Duration;

use crate::layout::BellLine;
use crate::os::FifoId;
use crate::sync::{
    AtomicU32, Ordering, barrier, barrier_registered, barrier_works, compiler_fence, fence, futex_wait,
    futex_wake,
};
use crate::testing::stop::stop_point;

/// The owner sleeps, or is about to.
pub(crate) const SLEEPING: u32 = 1;
/// The owner, a writer, wants every byte given back at once.
pub(crate) const SHORT: u32 = 1 << 1;
/// The owner issues a barrier before it sleeps.
pub(crate) const BARRIER: u32 = 1 << 2;

/// The owner has a descriptor polled meanwhile. Set only together with [`SLEEPING`].
pub(crate) const DESCRIPTOR: u32 = 1 << 3;
/// From this bit on: which arming of the descriptor it is, or of a bell that has several owners. So who read an older one does not fall
/// asleep on this one.
pub(crate) const TURN: u32 = 8;

/// What the owner's bell says while it is awake.
pub(crate) fn awake() -> u32 {
    if barrier_works() { BARRIER } else { 0 }
}

/// Sets the owner's bell to [`awake`], and `more`.
pub(crate) fn set(bell: &AtomicU32, more: u32) {
    // Relaxed: a publisher that takes it for asleep wakes it in vain, and one that takes it for awake does so after the store.
    bell.store(awake() | more, Ordering::Relaxed);
}

/// How long a sleep lasts that relies on a barrier, before the owner looks once more: far longer than a store waits in a store buffer, and
/// no period of usual streams. A look that comes together with a frame keeps the reader's processor for some 20 us.
pub(crate) const SECOND_LOOK: Duration = Duration::from_micros(1500);

/// Sleeps until the bell rings, at most `limit`; not at all if, with the bell set, `ready` says that there is something.
/// The bell says `more` all the time: an owner that is woken, but does not run yet, wants what it wanted.
///
/// Leaves a bell that has not rung as it is, so that the next slice of the same wait needs neither fence nor barrier: it is
/// still set, so a publisher that has published since is yet to look at it. The owner calls [`set`] when its wait is over; if it does
/// not, it is woken once in vain.
pub(crate) fn sleep(bell: &AtomicU32, more: u32, limit: Duration, ready: impl FnMut() -> bool) {
    sleep_looking_again(bell, more, limit, Some(SECOND_LOOK), ready);
}

/// [`sleep`], with a second look after a while, if there is one.
fn sleep_looking_again(
    bell: &AtomicU32,
    more: u32,
    limit: Duration,
    second_look: Option<Duration>,
    mut ready: impl FnMut() -> bool,
) {
    let mut asleep = awake() | SLEEPING | more;
    let second_look = second_look.filter(|after| asleep & BARRIER != 0 && *after < limit);
    // Relaxed throughout: ordered by the fences.
    if bell.load(Ordering::Relaxed) != asleep {
        bell.store(asleep, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if asleep & BARRIER != 0 && !barrier() {
            // Refused from now on (a new seccomp filter, perhaps): the publisher shall fence again, and awake() claims
            // no barrier any more. It may miss this one wake-up before it sees that, which the second look makes up for.
            asleep = SLEEPING | more;
            bell.store(asleep, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
    }
    if ready() {
        return;
    }
    let Some(after) = second_look else { return futex_wait(bell, asleep, limit) };
    futex_wait(bell, asleep, after);
    // The barrier may have missed a publisher (see above). What it had stored by then has long come out of its store buffer, and
    // whatever it stores later it looks at this bell after.
    if bell.load(Ordering::Relaxed) == asleep && !ready() {
        futex_wait(bell, asleep, limit - after);
    }
}

/// Arms the bell for the arming `turn` of a descriptor; returns what it says. The owner looks once more after that. The bell
/// says `more` all the time.
pub(crate) fn arm(bell: &AtomicU32, more: u32, turn: u32) -> u32 {
    arm_saying(bell, DESCRIPTOR | more, turn)
}

/// Sets a bell that has several owners for one that sleeps, or has its descriptor polled (`more` = [`DESCRIPTOR`]). Returns what it says,
/// which it has not said before. The caller has the lock of those owners, and looks once more after that.
pub(crate) fn arm_next(bell: &AtomicU32, more: u32) -> u32 {
    arm_saying(bell, more, next_turn(bell))
}

/// Tells all owners of such a bell that it is not theirs any more. The caller has their lock, under which it has noted that.
pub(crate) fn pass_on(bell: &AtomicU32) {
    // Release pairs with the Acquire of a listener, which then finds what was noted. An owner that is just falling asleep finds another
    // value.
    bell.store(awake() | next_turn(bell) << TURN, Ordering::Release);
    futex_wake(bell);
}

/// The turn behind that of the last owner who set the bell.
fn next_turn(bell: &AtomicU32) -> u32 {
    // Relaxed: owners store it under their lock, and publishers leave the turn as it is.
    (bell.load(Ordering::Relaxed) >> TURN).wrapping_add(1)
}

fn arm_saying(bell: &AtomicU32, more: u32, turn: u32) -> u32 {
    let mut armed = awake() | SLEEPING | more | turn << TURN;
    // Relaxed throughout: ordered by the fences.
    bell.store(armed, Ordering::Relaxed);
    fence(Ordering::SeqCst);
    if armed & BARRIER != 0 && !barrier() {
        // Refused from now on; as in sleep().
        armed &= !BARRIER;
        bell.store(armed, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }
    armed
}

/// Whether a publisher has answered an armed bell, or has died before it could.
pub(crate) fn is_rung(bell: u32) -> bool {
    bell & (SLEEPING | DESCRIPTOR) == DESCRIPTOR
}

/// Whether the bell is armed, and not rung.
pub(crate) fn is_armed(bell: u32) -> bool {
    bell & (SLEEPING | DESCRIPTOR) == SLEEPING | DESCRIPTOR
}

/// For the publisher, after it stored a position: what the owner wants, if anything ([`SLEEPING`], [`SHORT`]).
#[inline]
pub(crate) fn wants(bell: &AtomicU32) -> u32 {
    // The compiler must not look before the store either.
    compiler_fence(Ordering::SeqCst);
    let seen = bell.load(Ordering::Relaxed);
    if seen == BARRIER && barrier_registered() { 0 } else { wants_fenced(bell) }
}

#[cold]
fn wants_fenced(bell: &AtomicU32) -> u32 {
    fence(Ordering::SeqCst);
    bell.load(Ordering::Relaxed) & (SLEEPING | SHORT)
}

/// Wakes the owner for something else than a position, stored just before: an interrupt, an arrival, an end. What the
/// owner looks at with its bell set is seen, or else the owner is woken.
/// `send` as in [`ring`].
pub(crate) fn call(line: &BellLine, send: impl FnOnce(FifoId) -> bool) {
    // The fence of wants_fenced() stands between the caller's store and the look at the bell. It pairs with those of sleep() and
    // arm(). An owner that is awake keeps the bell's line.
    if wants_fenced(&line.bell) & SLEEPING != 0 {
        ring(line, send);
    }
}

/// The FIFO behind the owner's descriptor, if there is one. While the owner changes it, one that does not exist.
pub(crate) fn fifo_of(line: &BellLine) -> Option<FifoId> {
    // Acquire pairs with the Release store of a number: its inode is there.
    let number = line.fifo.load(Ordering::Acquire);
    (number != 0).then(|| FifoId { number, inode: line.inode.load(Ordering::Relaxed) })
}

/// Names the FIFO of the owner's descriptor behind its bell; `None`: there is none.
pub(crate) fn name_fifo(line: &BellLine, id: Option<FifoId>) {
    let id = id.unwrap_or(FifoId { number: 0, inode: 0 });
    // Relaxed: the Release store of the number publishes it, and pairs with the Acquire in fifo_of().
    line.inode.store(id.inode, Ordering::Relaxed);
    line.fifo.store(id.number, Ordering::Release);
}

/// Wakes the owner even if its bell does not say that it sleeps, for something stored just before: for a publisher that takes over from another one, which may
/// have died between clearing [`SLEEPING`] and the wake, and for the watcher that tells of such a death.
pub(crate) fn rouse(line: &BellLine, send: impl FnOnce(FifoId) -> bool) {
    // Pairs with the fences of sleep() and arm(): an owner that sets its bell later sees what was stored.
    fence(Ordering::SeqCst);
    stop_point!("bell:clear");
    // Release pairs with the Acquire of a listener, which rings for what it finds cleared.
    line.bell.fetch_and(!SLEEPING, Ordering::Release);
    stop_point!("bell:rouse");
    fifo_of(line).map(send);
    stop_point!("bell:rouse-futex");
    futex_wake(&line.bell);
}

/// Wakes the owner if it sleeps. `send` writes a byte to the FIFO of an owner whose descriptor is polled, and returns whether
/// it could; if not, the wake reaches the owner's listener.
#[cold]
pub(crate) fn ring(line: &BellLine, send: impl FnOnce(FifoId) -> bool) {
    // Acquire pairs with the owner's fence in arm(): the words behind the bell are those of that time or newer. Release, with the
    // Acquire of a listener. The rest is ordered by the fence in wants().
    let bell = line.bell.fetch_and(!SLEEPING, Ordering::AcqRel);
    if bell & SLEEPING == 0 {
        return;
    }
    stop_point!("bell:wake");
    if bell & DESCRIPTOR != 0 && fifo_of(line).is_some_and(send) {
        return;
    }
    futex_wake(&line.bell);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::sync::{AtomicBool, AtomicU64};

    /// A publisher clears the bit and dies before the wake; its successor wakes the owner all the same.
    #[test]
    fn a_successor_wakes_an_owner_whose_bell_no_longer_says_that_it_sleeps() {
        let line = Arc::new(BellLine::new());
        let sleeper = Arc::clone(&line);
        let limit = Duration::from_secs(30);
        let owner = std::thread::spawn(move || {
            let start = Instant::now();
            sleep(&sleeper.bell, 0, limit, || false);
            start.elapsed()
        });
        let mut cleared = false;
        while !owner.is_finished() {
            // The owner has set its bell; whether it is in the kernel already is not to be seen, so this goes on until it ends.
            if line.bell.load(Ordering::SeqCst) & SLEEPING != 0 && !cleared {
                std::thread::sleep(Duration::from_millis(50));
                line.bell.fetch_and(!SLEEPING, Ordering::SeqCst);
                cleared = true;
            }
            if cleared {
                rouse(&line, |_| true);
            }
            std::thread::yield_now();
        }
        assert!(owner.join().unwrap() < limit, "the owner slept to its limit");
    }

    /// One thread publishes a position while the other one goes to sleep, round after round, on two processors: the store buffer
    /// of the publisher's is full of stores to lines that it does not have, so that its position comes late.
    struct Race {
        bell: AtomicU32,
        position: AtomicU64,
        /// The round that the owner has begun.
        begun: AtomicU64,
        /// The round that the publisher has ended, times two, and whether it saw the owner asleep.
        ended: AtomicU64,
        /// What the publisher writes before its position.
        lines: Vec<AtomicU64>,
    }

    /// Words of a cache line.
    const LINE: usize = 8;
    /// As many as fit a store buffer, or nearly.
    const STORES: usize = 40;

    impl Race {
        fn new() -> Race {
            Race {
                bell: AtomicU32::new(0),
                position: AtomicU64::new(0),
                begun: AtomicU64::new(0),
                ended: AtomicU64::new(0),
                // More than the caches of a core hold.
                lines: std::iter::repeat_with(|| AtomicU64::new(0)).take(8 << 20).collect(),
            }
        }

        /// Runs rounds until `enough` wake-ups were lost, or for `limit`, or for `most` rounds. `sleep` sleeps as [`sleep`] does.
        /// Returns how many rounds there were, and how many wake-ups were lost.
        fn run(
            &self,
            most: u64,
            enough: u64,
            limit: Duration,
            sleep: impl Fn(&AtomicU32, &mut dyn FnMut() -> bool) + Send,
        ) -> (u64, u64) {
            let first = self.begun.load(Ordering::Relaxed);
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    crate::os::pin_thread(1);
                    refresh_processor();
                    self.publish(first, &stop);
                });
                let owner = scope.spawn(|| {
                    crate::os::pin_thread(0);
                    let result = self.own(first, most, enough, limit, sleep, &stop);
                    stop.store(true, Ordering::Release);
                    result
                });
                owner.join().unwrap()
            })
        }

        fn own(
            &self,
            first: u64,
            most: u64,
            enough: u64,
            limit: Duration,
            sleep: impl Fn(&AtomicU32, &mut dyn FnMut() -> bool),
            stop: &AtomicBool,
        ) -> (u64, u64) {
            let start = Instant::now();
            let (mut rounds, mut lost) = (0, 0);
            while rounds < most && lost < enough && (rounds % 64 != 0 || start.elapsed() < limit) {
                rounds += 1;
                let round = first + rounds;
                set(&self.bell, 0);
                self.begun.store(round, Ordering::Release);
                // The owner goes to sleep sooner or later than its frame is written.
                (0..rounds % 64).for_each(|_| core::hint::spin_loop());
                let mut saw = false;
                sleep(&self.bell, &mut || {
                    saw = self.position.load(Ordering::Relaxed) == round;
                    // What matters is known: no need to sleep.
                    true
                });
                let ended = await_change(&self.ended, |ended| ended / 2 == round, stop);
                lost += u64::from(!saw && ended % 2 == 0);
            }
            (rounds, lost)
        }

        /// As [`Race::run`], with real sleeps and wake-ups, while threads end on the publisher's processor. Returns how many rounds there
        /// were, how many needed more than the first look, and how many wake-ups were lost.
        fn run_beside_ending_threads(
            &self,
            limit: Duration,
            second_look: Option<Duration>,
        ) -> (u64, u64, u64) {
            const LONG: Duration = Duration::from_millis(50);
            let first = self.begun.load(Ordering::Relaxed);
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    crate::os::pin_thread(1);
                    self.publish_and_ring(first, &stop);
                });
                scope.spawn(|| {
                    crate::os::pin_thread(1);
                    while !stop.load(Ordering::Relaxed) {
                        std::thread::scope(|short| _ = short.spawn(std::thread::yield_now));
                    }
                });
                let owner = scope.spawn(|| {
                    crate::os::pin_thread(0);
                    let (start, mut rounds, mut late, mut lost) = (Instant::now(), 0, 0, 0);
                    while start.elapsed() < limit && lost < 20 {
                        rounds += 1;
                        let round = first + rounds;
                        set(&self.bell, 0);
                        self.begun.store(round, Ordering::Release);
                        (0..rounds % 64).for_each(|_| core::hint::spin_loop());
                        let (mut looks, mut saw, began) = (0, false, Instant::now());
                        sleep_looking_again(&self.bell, 0, LONG, second_look, || {
                            looks += 1;
                            saw = self.position.load(Ordering::Relaxed) == round;
                            saw
                        });
                        let ended = await_change(&self.ended, |ended| ended / 2 == round, &stop);
                        let rung = ended % 2 == 1;
                        late += u64::from(!rung && looks > 1 && saw);
                        // Not seen by either side, and slept to the end.
                        lost += u64::from(!rung && !saw && began.elapsed() >= LONG);
                    }
                    stop.store(true, Ordering::Release);
                    (rounds, late, lost)
                });
                owner.join().unwrap()
            })
        }

        fn publish_and_ring(&self, first: u64, stop: &AtomicBool) {
            for round in first + 1.. {
                await_change(&self.begun, |begun| begun == round, stop);
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let asleep = self.publish_one(round);
                if asleep {
                    self.bell.fetch_and(!SLEEPING, Ordering::AcqRel);
                    futex_wake(&self.bell);
                }
                self.ended.store(round * 2 + u64::from(asleep), Ordering::Release);
            }
        }

        fn publish(&self, first: u64, stop: &AtomicBool) {
            for round in first + 1.. {
                await_change(&self.begun, |begun| begun == round, stop);
                if stop.load(Ordering::Acquire) {
                    return;
                }
                let asleep = self.publish_one(round);
                self.ended.store(round * 2 + u64::from(asleep), Ordering::Release);
            }
        }

        /// Returns whether the owner was seen asleep.
        fn publish_one(&self, round: u64) -> bool {
            for store in 0..STORES {
                let line = (round as usize * STORES + store) * 7919 % (self.lines.len() / LINE);
                self.lines[line * LINE].store(round, Ordering::Relaxed);
            }
            self.position.store(round, Ordering::Release);
            wants(&self.bell) & SLEEPING != 0
        }
    }

    /// Spins until `word` is what is wanted; returns it. Lets others run now and then: the two may share a processor.
    fn await_change(word: &AtomicU64, wanted: impl Fn(u64) -> bool, stop: &AtomicBool) -> u64 {
        loop {
            for _ in 0..1000 {
                let seen = word.load(Ordering::Acquire);
                if wanted(seen) || stop.load(Ordering::Relaxed) {
                    return seen;
                }
                core::hint::spin_loop();
            }
            std::thread::yield_now();
        }
    }

    /// Has the processor run another process for a moment. The kernel leaves a processor out of barriers from the end of a thread of
    /// a registered process on, until it runs another process (docs/RELIABILITY.md).
    fn refresh_processor() {
        let ended = std::process::Command::new("true").status();
        assert!(ended.is_ok_and(|status| status.success()), "`true` runs");
    }

    /// What the barrier is for: without it, the shipped code loses wake-ups, as a copy of it without the barrier shows on this machine.
    ///
    /// In a process of its own, as threads of other tests end all the time.
    #[test]
    fn no_wake_up_is_lost_by_a_publisher_without_a_fence() {
        const ALONE: &str = "ZEROBUFFER_RACE_ALONE";
        if std::env::var_os(ALONE).is_none() {
            let test = "wait::doorbell::tests::no_wake_up_is_lost_by_a_publisher_without_a_fence";
            let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
            alone.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(ALONE, "");
            let output = alone.output().unwrap();
            let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success() && told.contains("1 passed"), "{told}");
            return;
        }
        if !barrier_works() {
            eprintln!("this kernel offers no barriers");
            return;
        }
        let race = Race::new();
        let shipped =
            |bell: &AtomicU32, ready: &mut dyn FnMut() -> bool| sleep(bell, 0, Duration::ZERO, ready);
        if !barrier_registered() {
            // Barriers do not reach this process yet: its publisher must fence.
            let (rounds, lost) = race.run(100_000, 1, Duration::from_secs(5), shipped);
            assert_eq!(lost, 0, "of {rounds} rounds of a publisher that is not registered");
        }
        crate::os::register_for_barriers();
        let start = Instant::now();
        while !barrier_registered() {
            assert!(start.elapsed() < Duration::from_secs(30), "this process cannot register for barriers");
            std::thread::yield_now();
        }
        let without = |bell: &AtomicU32, ready: &mut dyn FnMut() -> bool| {
            bell.store(BARRIER | SLEEPING, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            ready();
        };
        let (rounds, lost) = race.run(u64::MAX, 200, Duration::from_secs(5), without);
        eprintln!("without a barrier {lost} of {rounds} wake-ups were lost");
        if lost < 20 {
            eprintln!("this machine is too busy, or of a kind, to show what the barrier is for");
            return;
        }
        // As many as would lose some 1,000 wake-ups.
        let enough = rounds.saturating_mul(1000) / lost;
        let (rounds, lost) = race.run(enough.max(20_000), 1, Duration::from_secs(20), shipped);
        eprintln!("with barriers {lost} of {rounds} wake-ups were lost");
        assert_eq!(lost, 0, "of {rounds} rounds");
        // Barriers miss a processor on which a thread ended; the second look makes up for them.
        let limit = Duration::from_secs(4);
        let (rounds, _, lost) = race.run_beside_ending_threads(limit, None);
        eprintln!("beside threads that end, without a second look, {lost} of {rounds} wake-ups were lost");
        let (rounds, late, lost) = race.run_beside_ending_threads(limit, Some(SECOND_LOOK));
        eprintln!("with a second look {lost} of {rounds} were lost, and {late} came at the second look");
        assert_eq!(lost, 0, "of {rounds} rounds beside threads that end");
    }
}
