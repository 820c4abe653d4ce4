//! UNSAFE: locks that end with the process.
#![allow(unsafe_code)]

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::files::{Folder, check, denied_in_locks, duplicate, info_of_fd, move_up, retry};
use super::fork;
use crate::os::{Attempt, Cause, FileId, Removal, cause, is_not_found};

/// Byte of a buffer's file that a process locks while it makes or removes the file.
const TURN_BYTE: i64 = 0;

/// How often to try for a lock that a process with read permission only can obstruct.
const TRIES: u32 = 3;

/// A file opened only to hold a lock, which the kernel drops when this process ends, however it ends.
pub(crate) struct LockFile(fork::Slot);

impl LockFile {
    pub(super) fn open_with(open: impl FnOnce() -> Result<OwnedFd>) -> Result<LockFile> {
        fork::Slot::enter(open).map(LockFile)
    }

    /// Opens the file `name`. If it is missing and `create` has a mode, creates it with that mode.
    pub(crate) fn open(folder: &Folder, name: &str, create: Option<u32>) -> Result<LockFile> {
        LockFile::open_with(|| {
            // The first attempt is without O_CREAT: the kernel refuses O_CREAT on another user's file in a
            // sticky folder, even if its mode allows opening it (proc(5), fs.protected_regular).
            match (folder.open_file(name, libc::O_RDWR), create) {
                (Ok((fd, _)), _) => Ok(move_up(fd)),
                (Err(error), Some(mode)) if is_not_found(&error) => {
                    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
                    let fd =
                        folder.open(name, flags, mode).map_err(|error| denied_in_locks(folder, error))?;
                    // SAFETY: fchmod takes no pointers, and `fd` is open.
                    check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) })?;
                    Ok(move_up(fd))
                }
                (Err(error), _) => Err(error),
            }
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.fd()
    }

    pub(crate) fn id(&self) -> Result<FileId> {
        let fd = self.fd();
        if fd < 0 {
            return Err(Error::from_raw_os_error(libc::EBADF));
        }
        // SAFETY: the descriptor is not -1 (its value in a forked child), and is open as long as `self`.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        Ok(info_of_fd(fd)?.id)
    }

    /// Takes the whole-file lock that 1.x peers use, without waiting. Returns whether it did.
    pub(crate) fn try_flock(&self) -> Result<bool> {
        // SAFETY: flock takes no pointers. A descriptor of -1 fails with EBADF.
        match retry(|| unsafe { libc::flock(self.fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EWOULDBLOCK) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the role lock on `byte`, without waiting. Returns whether it did.
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

    /// Takes the lock to make or remove this file. Returns false if another process has it.
    pub(super) fn try_turn(&self) -> Result<bool> {
        // A shared lock belongs to a user who may only read, and who can therefore neither make nor remove
        // the file.
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

    /// A view of the locks of other processes, which may outlive this file.
    pub(crate) fn view(&self) -> Result<LockView> {
        fork::Slot::enter(|| duplicate(self.fd())).map(LockView)
    }
}

impl Folder {
    /// Removes the file `name` if its identity still is `id`, under the lock of all processes that make or
    /// remove it.
    ///
    /// The lock is on the file itself. So every process that shares the file sees it, whatever folder of lock
    /// files it uses.
    pub(crate) fn remove(&self, name: &str, id: FileId) -> Result<Removal> {
        let turn = match LockFile::open(self, name, None) {
            Ok(file) if file.id()? == id => Some(file),
            Ok(_) => return Ok(Removal::Gone),
            Err(error) if is_not_found(&error) => return Ok(Removal::Gone),
            // There may be no descriptor left, for example at a close. Then the identity must suffice.
            Err(error) if matches!(cause(&error), Cause::ProcessFiles | Cause::SystemFiles) => None,
            Err(error) => return Err(error),
        };
        if turn.as_ref().is_some_and(|file| !matches!(file.try_turn(), Ok(true))) {
            return Ok(Removal::Busy);
        }
        self.remove_now(name, id)
    }
}

/// A second descriptor of a [`LockFile`], through which the locks of other processes can be seen. It does not
/// own the first descriptor's locks, which end when the first one is dropped.
pub(crate) struct LockView(fork::Slot);

impl LockView {
    /// Whether another open file description holds the role lock on `byte`.
    pub(crate) fn role_is_held(&self, byte: i64) -> Result<bool> {
        ofd_is_held(self.0.fd(), byte)
    }
}

impl Drop for LockFile {
    /// Unlocks before the descriptor is closed: a child that another thread is just starting has a copy of
    /// the descriptor, and with it the lock, until its exec.
    fn drop(&mut self) {
        let fd = self.fd();
        if fd < 0 {
            // This is a forked child, and the locks are the parent's.
            return;
        }
        let mut all = byte_lock(0);
        all.l_len = 0;
        all.l_type = libc::F_UNLCK as libc::c_short;
        // SAFETY: the descriptor is open, and `all` is a valid struct flock that outlives the calls. They can
        // fail only if there is no lock.
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
/// It asks as if for a shared lock, which does not conflict with other shared locks. Users who may only read
/// can take shared locks, and these must not count as a role.
pub(super) fn ofd_is_held(fd: RawFd, byte: i64) -> Result<bool> {
    let mut lock = byte_lock(byte);
    lock.l_type = libc::F_RDLCK as libc::c_short;
    // SAFETY: `lock` is a valid struct flock that the call fills in.
    check(unsafe { libc::fcntl(fd, libc::F_OFD_GETLK, &raw mut lock) })?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// Whether the creator of the open file `fd` is still creating the buffer, or another process is removing the
/// file.
pub(super) fn is_in_turn(fd: BorrowedFd<'_>) -> Result<bool> {
    ofd_is_held(fd.as_raw_fd(), TURN_BYTE)
}
