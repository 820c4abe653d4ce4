//! UNSAFE: locks that end with the process.
#![allow(unsafe_code)]

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::files::{Folder, check, denied_in_locks, duplicate, info_of_fd, retry};
use super::fork;
use crate::os::{Attempt, Cause, FileId, Removal, cause, is_not_found};

/// Byte of a buffer's file that is locked by the process that makes or removes the file.
const TURN_BYTE: i64 = 0;

/// How often a lock is tried for that a process which may only read can obstruct.
const TRIES: u32 = 3;

/// A file opened only to hold a lock, which the kernel drops when this process ends, however it ends.
pub(crate) struct LockFile(fork::Slot);

impl LockFile {
    pub(super) fn open_with(open: impl FnOnce() -> Result<OwnedFd>) -> Result<LockFile> {
        fork::Slot::enter(open).map(LockFile)
    }

    /// Opens the file `name`, making it with `mode` if `create` says so.
    pub(crate) fn open(folder: &Folder, name: &str, create: Option<u32>) -> Result<LockFile> {
        LockFile::open_with(|| {
            // Without O_CREAT first: the kernel refuses O_CREAT on another user's file in a sticky folder, even where
            // its mode allows opening it (proc(5), fs.protected_regular).
            match (folder.open_file(name, libc::O_RDWR), create) {
                (Ok((fd, _)), _) => Ok(fd),
                (Err(error), Some(mode)) if is_not_found(&error) => {
                    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
                    let fd =
                        folder.open(name, flags, mode).map_err(|error| denied_in_locks(folder, error))?;
                    // SAFETY: plain system call on an open descriptor.
                    check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) })?;
                    Ok(fd)
                }
                (Err(error), _) => Err(error),
            }
        })
    }

    fn fd(&self) -> RawFd {
        self.0.fd()
    }

    pub(crate) fn id(&self) -> Result<FileId> {
        let fd = self.fd();
        if fd < 0 {
            return Err(Error::from_raw_os_error(libc::EBADF));
        }
        // SAFETY: not -1 (which it is in a forked child), and open as long as `self`.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        Ok(info_of_fd(fd)?.id)
    }

    /// Takes the whole-file lock that 1.x peers use, without waiting. Says whether it did.
    pub(crate) fn try_flock(&self) -> Result<bool> {
        // SAFETY: plain system call; a descriptor of -1 fails with EBADF.
        match retry(|| unsafe { libc::flock(self.fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EWOULDBLOCK) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the role lock on `byte`, without waiting. Says whether it did.
    pub(crate) fn try_lock_role(&self, byte: i64) -> Result<bool> {
        let lock = byte_lock(byte);
        // SAFETY: `lock` is a valid struct flock that outlives the call.
        match retry(|| unsafe { libc::fcntl(self.fd(), libc::F_OFD_SETLK, &raw const lock) }) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the role lock on `byte`, without waiting, and tells a holder from an obstacle.
    pub(crate) fn attempt_role(&self, byte: i64) -> Result<Attempt> {
        for _ in 0..TRIES {
            if self.try_lock_role(byte)? {
                return Ok(Attempt::Locked);
            }
            if self.role_is_held(byte)? {
                return Ok(Attempt::Held);
            }
        }
        Ok(Attempt::Obstructed)
    }

    /// Takes the turn to make or remove this file. Returns false if it is another process's.
    pub(super) fn try_turn(&self) -> Result<bool> {
        // Shared locks are those of users who may only read, and so may neither make nor remove the file.
        Ok(self.attempt_role(TURN_BYTE)? != Attempt::Held)
    }

    /// Gives the role lock on `byte` back.
    pub(crate) fn unlock_role(&self, byte: i64) {
        let mut lock = byte_lock(byte);
        lock.l_type = libc::F_UNLCK as libc::c_short;
        // SAFETY: `lock` is a valid struct flock that outlives the call. It can fail only if there is no lock.
        unsafe { libc::fcntl(self.fd(), libc::F_OFD_SETLK, &raw const lock) };
    }

    /// Whether another open file description holds the role lock on `byte`.
    pub(crate) fn role_is_held(&self, byte: i64) -> Result<bool> {
        ofd_is_held(self.fd(), byte)
    }

    /// Eyes for the locks of others that may outlive this.
    pub(crate) fn view(&self) -> Result<LockView> {
        fork::Slot::enter(|| duplicate(self.fd())).map(LockView)
    }
}

impl Folder {
    /// Removes the file `name` if it still is `id`, in turn with all others who make or remove it.
    ///
    /// The turn is a lock on the file itself: whoever shares the file sees it, whatever folder of lock files they use.
    pub(crate) fn remove(&self, name: &str, id: FileId) -> Result<Removal> {
        let turn = match LockFile::open(self, name, None) {
            Ok(file) if file.id()? == id => Some(file),
            Ok(_) => return Ok(Removal::Gone),
            Err(error) if is_not_found(&error) => return Ok(Removal::Gone),
            // No descriptor to be had, as may be at a close: the identity alone has to do.
            Err(error) if matches!(cause(&error), Cause::ProcessFiles | Cause::SystemFiles) => None,
            Err(error) => return Err(error),
        };
        if turn.as_ref().is_some_and(|file| !matches!(file.try_turn(), Ok(true))) {
            return Ok(Removal::Busy);
        }
        self.remove_now(name, id)
    }
}

/// A second descriptor of a [`LockFile`], through which the locks of others can be seen. It is no owner of the first one's
/// locks: that one gives them back when it goes.
pub(crate) struct LockView(fork::Slot);

impl LockView {
    /// Whether another open file description holds the role lock on `byte`.
    pub(crate) fn role_is_held(&self, byte: i64) -> Result<bool> {
        ofd_is_held(self.0.fd(), byte)
    }
}

impl Drop for LockFile {
    /// Unlocks before the descriptor is closed: a child that another thread is just starting holds a copy of it until its
    /// exec, and with it the lock.
    fn drop(&mut self) {
        let fd = self.fd();
        if fd < 0 {
            // In a forked child: the locks are the parent's.
            return;
        }
        let mut all = byte_lock(0);
        all.l_len = 0;
        all.l_type = libc::F_UNLCK as libc::c_short;
        // SAFETY: plain system calls on an open descriptor; `all` outlives them. They can fail only if there is no lock.
        unsafe {
            libc::fcntl(fd, libc::F_OFD_SETLK, &raw const all);
            libc::flock(fd, libc::LOCK_UN);
        }
    }
}

fn byte_lock(byte: i64) -> libc::flock {
    // SAFETY: struct flock is plain integers, for which zero is a value; l_pid must be 0 for OFD locks (fcntl(2)).
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte;
    lock.l_len = 1;
    lock
}

/// Whether another open file description holds `byte` exclusively.
///
/// The question is asked as if for a shared lock, with which other shared locks do not conflict: those are what users who
/// may only read can take, and they must not pass for a role.
pub(super) fn ofd_is_held(fd: RawFd, byte: i64) -> Result<bool> {
    let mut lock = byte_lock(byte);
    lock.l_type = libc::F_RDLCK as libc::c_short;
    // SAFETY: `lock` is a valid struct flock that the call fills in.
    check(unsafe { libc::fcntl(fd, libc::F_OFD_GETLK, &raw mut lock) })?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// Whether the maker of the open file `fd` is still at work on the buffer, or another process just removes the file.
pub(super) fn is_in_turn(fd: BorrowedFd<'_>) -> Result<bool> {
    ofd_is_held(fd.as_raw_fd(), TURN_BYTE)
}
