//! UNSAFE: locks that end with the process.
#![allow(unsafe_code)]

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use super::files::{LOCK_DIR, c_path, check, id_of, open_at, retry, stat_fd, stat_path};
use super::fork;
use crate::os::FileId;

/// A file opened only to hold a lock, which the kernel drops when this process ends, however it ends.
pub(crate) struct LockFile(fork::Slot);

impl LockFile {
    pub(super) fn open_with(open: impl FnOnce() -> Result<OwnedFd>) -> Result<LockFile> {
        fork::Slot::enter(open).map(LockFile)
    }

    /// Opens the lock file at `path`, making it with `mode` if `create` says so. Links are not followed.
    pub(crate) fn open(path: &Path, create: Option<u32>) -> Result<LockFile> {
        let flags = libc::O_RDWR | libc::O_NOFOLLOW | libc::O_NONBLOCK;
        LockFile::open_with(|| {
            // Without O_CREAT first: the kernel refuses O_CREAT on another user's file in a sticky directory, even
            // where its mode allows opening it (proc(5), fs.protected_regular).
            match (open_at(path, flags, 0), create) {
                (Err(error), Some(mode)) if error.raw_os_error() == Some(libc::ENOENT) => {
                    let fd = open_at(path, flags | libc::O_CREAT | libc::O_EXCL, mode)?;
                    // SAFETY: plain system call on an open descriptor.
                    check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) })?;
                    Ok(fd)
                }
                (result, _) => result,
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
        Ok(id_of(&stat_fd(fd)?))
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
        let copy = || {
            // SAFETY: plain system call; a descriptor of -1 fails with EBADF.
            let fd = check(unsafe { libc::fcntl(self.fd(), libc::F_DUPFD_CLOEXEC, 0) })?;
            // SAFETY: a new descriptor, which nobody else has.
            Ok(unsafe { OwnedFd::from_raw_fd(fd) })
        };
        fork::Slot::enter(copy).map(LockView)
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

pub(super) fn ofd_is_held(fd: RawFd, byte: i64) -> Result<bool> {
    let mut lock = byte_lock(byte);
    // SAFETY: `lock` is a valid struct flock that the call fills in.
    check(unsafe { libc::fcntl(fd, libc::F_OFD_GETLK, &raw mut lock) })?;
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// Makes the directory of lock files sticky and world-writable, as `/tmp` is, if it is missing.
pub(crate) fn ensure_lock_dir() -> Result<()> {
    let path = c_path(Path::new(LOCK_DIR))?;
    // SAFETY: `path` is a C string.
    let made = match check(unsafe { libc::mkdir(path.as_ptr(), 0o700) }) {
        Ok(_) => true,
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => false,
        Err(error) => return Err(error),
    };
    let stat = stat_path(Path::new(LOCK_DIR))?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
        return Err(Error::from_raw_os_error(libc::ENOTDIR));
    }
    // SAFETY: plain system call.
    let mine = stat.st_uid == unsafe { libc::geteuid() };
    if made || (mine && stat.st_mode & 0o7777 != 0o1777) {
        // SAFETY: `path` is a C string.
        check(unsafe { libc::chmod(path.as_ptr(), 0o1777) })?;
    }
    Ok(())
}
