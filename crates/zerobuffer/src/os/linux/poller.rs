//! UNSAFE: waiting for many descriptors at once.
#![allow(unsafe_code)]

use std::io::Result;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use super::files::{check, own};
use super::fork;

/// Events of one wait.
const EVENTS: usize = 64;

/// Waits for any of many descriptors to become readable: an epoll, with an eventfd that ends a wait.
pub(crate) struct Poller {
    epoll: fork::Slot,
    waker: fork::Slot,
}

impl Poller {
    pub(crate) fn new() -> Result<Poller> {
        // SAFETY: epoll_create1 takes no pointers; own() takes over what it opens.
        let epoll = fork::Slot::enter(|| own(check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?))?;
        let flags = libc::EFD_CLOEXEC | libc::EFD_NONBLOCK;
        // SAFETY: eventfd takes no pointers; own() takes over what it opens.
        let waker = fork::Slot::enter(|| own(check(unsafe { libc::eventfd(0, flags) })?))?;
        let poller = Poller { epoll, waker };
        poller.control(libc::EPOLL_CTL_ADD, poller.waker.fd(), libc::EPOLLIN, u64::MAX)?;
        Ok(poller)
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, events: libc::c_int, key: u64) -> Result<()> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: key };
        // SAFETY: `event` is valid for the whole call.
        check(unsafe { libc::epoll_ctl(self.epoll.fd(), operation, fd, &raw mut event) }).map(|_| ())
    }

    /// Waits for `fd` from now on, and returns `key` for it. `key` is not the largest number.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, key: u64) -> Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), libc::EPOLLIN, key)
    }

    /// Waits for `fd` once: it is returned when it is ready, and then no more until the next call.
    pub(crate) fn once(&self, fd: BorrowedFd<'_>, key: u64) -> Result<()> {
        let (fd, events) = (fd.as_raw_fd(), libc::EPOLLIN | libc::EPOLLONESHOT);
        match self.control(libc::EPOLL_CTL_MOD, fd, events, key) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                self.control(libc::EPOLL_CTL_ADD, fd, events, key)
            }
            result => result,
        }
    }

    /// Waits for `fd` no more.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
        let _ = self.control(libc::EPOLL_CTL_DEL, fd.as_raw_fd(), 0, 0);
    }

    /// Ends a wait, or the next one.
    pub(crate) fn wake(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: the bytes outlive the call.
        unsafe { libc::write(self.waker.fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Waits for up to `limit` (`Duration::MAX`: without one), and appends the keys of what is ready to `keys`, at most `most` of
    /// them. Returns whether [`Poller::wake`] ended it. A signal may end it early.
    pub(crate) fn wait(&self, limit: Duration, most: usize, keys: &mut Vec<u64>) -> Result<bool> {
        // Rounded up, as a wait that ended early would be repeated at once.
        let millis = limit.as_nanos().div_ceil(1_000_000);
        let millis = if limit == Duration::MAX { -1 } else { libc::c_int::try_from(millis).unwrap_or(-1) };
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        let most = most.clamp(1, EVENTS) as libc::c_int;
        // SAFETY: there is room for as many events as are asked for.
        let count = unsafe { libc::epoll_wait(self.epoll.fd(), events.as_mut_ptr(), most, millis) };
        match check(count) {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => return Ok(false),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let mut woken = false;
        for event in &events[..count.cast_unsigned() as usize] {
            if event.u64 == u64::MAX {
                woken = true;
                let mut number = [0; 8];
                // SAFETY: there is room for the 8 bytes of an eventfd.
                unsafe { libc::read(self.waker.fd(), number.as_mut_ptr().cast(), number.len()) };
            } else {
                keys.push(event.u64);
            }
        }
        Ok(woken)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
        std::io::pipe().unwrap()
    }

    fn wait(poller: &Poller, millis: u64) -> (Vec<u64>, bool) {
        let mut keys = Vec::new();
        let woken = poller.wait(Duration::from_millis(millis), EVENTS, &mut keys).unwrap();
        (keys, woken)
    }

    #[test]
    fn a_poller_returns_what_is_ready_and_ends_when_it_is_woken() {
        use std::io::Write;
        let poller = Poller::new().unwrap();
        let ((one, mut to_one), (other, mut to_other)) = (pipe(), pipe());
        poller.add(one.as_fd(), 1).unwrap();
        poller.once(other.as_fd(), 2).unwrap();
        assert_eq!(wait(&poller, 0), (vec![], false));
        to_one.write_all(b"x").unwrap();
        to_other.write_all(b"x").unwrap();
        let (mut keys, _) = wait(&poller, 1000);
        keys.sort();
        assert_eq!(keys, [1, 2]);
        assert_eq!(wait(&poller, 1000).0, [1], "the other one was asked for once");
        poller.once(other.as_fd(), 3).unwrap();
        poller.remove(one.as_fd());
        assert_eq!(wait(&poller, 1000).0, [3]);
        poller.wake();
        assert_eq!(wait(&poller, 10_000), (vec![], true));
        assert_eq!(wait(&poller, 0), (vec![], false));
    }
}
