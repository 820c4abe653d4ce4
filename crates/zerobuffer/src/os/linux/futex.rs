//! UNSAFE: sleeping on a word of shared memory.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::os::{WAIT_ANY_MAX, WaitAny};

/// Sleeps while `word` is `expected`, for at most `limit` (monotonic clock; a limit of centuries is none). May return
/// early, like every futex.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, limit: Duration) {
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(limit.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    };
    // Without FUTEX_PRIVATE_FLAG, because other processes sleep on this word too.
    // SAFETY: `word` is a live, aligned 32-bit word and `time` a valid timespec for the whole call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            &raw const time,
            std::ptr::null::<u32>(),
            0,
        );
    }
    // Woken, timed out, interrupted or the word had changed: the caller looks again in any case.
}

/// Wakes all sleepers on `word`.
pub(crate) fn futex_wake(word: &AtomicU32) {
    // SAFETY: `word` is a live, aligned 32-bit word; the kernel only compares its address.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// One word of futex_waitv(2), as the kernel defines it (`struct futex_waitv`).
#[repr(C)]
#[derive(Clone, Copy)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// `FUTEX2_SIZE_U32`: a word of 32 bits. Without `FUTEX2_PRIVATE`, because other processes wake it too.
const SHARED_WORD: u32 = 2;

/// Sleeps while each of the words has its value, for at most `limit` (monotonic clock; `Duration::MAX` is no
/// limit). May return early.
pub(crate) fn futex_wait_any(words: &[(&AtomicU32, u32)], limit: Duration) -> WaitAny {
    debug_assert!(words.len() <= WAIT_ANY_MAX, "the caller waits for {WAIT_ANY_MAX} words at most");
    let mut waiters = [const { MaybeUninit::<Waiter>::uninit() }; WAIT_ANY_MAX];
    let mut count = 0;
    for (waiter, (word, value)) in waiters.iter_mut().zip(words) {
        let (value, address) = (u64::from(*value), word.as_ptr() as u64);
        waiter.write(Waiter { value, address, flags: SHARED_WORD, reserved: 0 });
        count += 1;
    }
    // The call takes a point in time rather than a duration.
    let end = u128::from(super::monotonic_now()) + limit.as_nanos();
    let until = libc::timespec {
        tv_sec: libc::time_t::try_from(end / 1_000_000_000).unwrap_or(libc::time_t::MAX),
        tv_nsec: (end % 1_000_000_000) as _,
    };
    let until = if limit == Duration::MAX { std::ptr::null() } else { &raw const until };
    // SAFETY: the first `count` waiters are filled in, and name live, aligned words of 32 bits that are borrowed for
    // the whole call; `until` is null or a valid timespec.
    let result = unsafe {
        libc::syscall(libc::SYS_futex_waitv, waiters.as_ptr(), count, 0, until, libc::CLOCK_MONOTONIC)
    };
    if result >= 0 {
        return WaitAny::Over;
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT) => WaitAny::Over,
        // ENOSYS before Linux 5.16; ENOSYS or EPERM where a filter forbids the call; ENOMEM.
        _ => WaitAny::NotOffered,
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::Ordering;
    use std::time::Instant;

    use super::*;

    fn offered() -> bool {
        let word = AtomicU32::new(0);
        let offered = futex_wait_any(&[(&word, 1)], Duration::MAX) == WaitAny::Over;
        if !offered {
            eprintln!("this kernel offers no futex_waitv");
        }
        offered
    }

    #[test]
    fn a_wait_for_many_words_ends_when_any_of_them_is_woken() {
        if !offered() {
            return;
        }
        let words: Arc<Vec<AtomicU32>> = Arc::new((0..WAIT_ANY_MAX as u32).map(AtomicU32::new).collect());
        for index in [0, 1, WAIT_ANY_MAX - 1] {
            let others = Arc::clone(&words);
            let sleeper = std::thread::spawn(move || {
                let expected: Vec<_> = others.iter().zip(0..).collect();
                while others[index].load(Ordering::SeqCst) == index as u32 {
                    assert_eq!(futex_wait_any(&expected, Duration::MAX), WaitAny::Over);
                }
            });
            std::thread::sleep(Duration::from_millis(20));
            words[index].store(u32::MAX, Ordering::SeqCst);
            futex_wake(&words[index]);
            sleeper.join().unwrap();
            words[index].store(index as u32, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_wait_for_words_ends_at_once_where_one_has_changed_and_else_at_its_limit() {
        if !offered() {
            return;
        }
        let words = [AtomicU32::new(1), AtomicU32::new(2)];
        let start = Instant::now();
        futex_wait_any(&[(&words[0], 1), (&words[1], 3)], Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(30), "the second word differs");
        let start = Instant::now();
        // A signal may end a wait early.
        while start.elapsed() < Duration::from_millis(30) {
            let wait = futex_wait_any(&[(&words[0], 1), (&words[1], 2)], Duration::from_millis(30));
            assert_eq!(wait, WaitAny::Over);
        }
    }

    #[test]
    fn one_wake_reaches_a_blocked_call_and_a_wait_for_many_words() {
        if !offered() {
            return;
        }
        let word = Arc::new(AtomicU32::new(0));
        let sleepers = [false, true].map(|many| {
            let word = Arc::clone(&word);
            std::thread::spawn(move || {
                while word.load(Ordering::SeqCst) == 0 {
                    if many {
                        futex_wait_any(&[(&word, 0)], Duration::MAX);
                    } else {
                        futex_wait(&word, 0, Duration::MAX);
                    }
                }
            })
        });
        std::thread::sleep(Duration::from_millis(50));
        word.store(1, Ordering::SeqCst);
        futex_wake(&word);
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    }
}
