//! UNSAFE: files of shared memory, and mappings of them.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io::{Error, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;

use super::files::{Folder, SHM_DIR, check, info_of_fd, move_up, no_shared_memory, open_path, reopen, retry};
use super::lock::{LockFile, ofd_is_held};
use super::process::Uncancelled;
use crate::os::{FileId, FileInfo};

/// An open file of shared memory.
pub(crate) struct Segment(pub(super) OwnedFd);

impl Segment {
    /// A new file without a name; `link` gives it one. `mode` is set exactly.
    pub(crate) fn create_unnamed(mode: u32) -> Result<Segment> {
        let fd =
            open_path(Path::new(SHM_DIR), libc::O_TMPFILE | libc::O_RDWR, mode).map_err(no_shared_memory)?;
        // SAFETY: fchmod takes no pointers, and `fd` is open.
        check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) })?;
        Ok(Segment(fd))
    }

    /// Opens the segment of buffer `name` for reading and writing, or only for reading.
    pub(crate) fn open(name: &str, writable: bool) -> Result<Segment> {
        let access = if writable { libc::O_RDWR } else { libc::O_RDONLY };
        let (fd, _) = Folder::shared_memory().open_file(name, access).map_err(no_shared_memory)?;
        Ok(Segment(fd))
    }

    /// Gives an unnamed segment its name; fails with [`Cause::Exists`](crate::os::Cause) if the name is taken.
    pub(crate) fn link(&self, name: &str) -> Result<()> {
        Folder::shared_memory().link(self.0.as_fd(), name)
    }

    /// A role lock on an open file description of its own (docs/PROTOCOL.md, "Liveness"). Not locked yet.
    pub(crate) fn role_file(&self) -> Result<LockFile> {
        LockFile::open_with(|| reopen(self.0.as_fd()).map(move_up))
    }

    /// What the file is.
    pub(crate) fn info(&self) -> Result<FileInfo> {
        info_of_fd(self.0.as_fd())
    }

    /// Which file it is.
    pub(crate) fn id(&self) -> Result<FileId> {
        Ok(self.info()?.id)
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> Result<u64> {
        Ok(self.info()?.len)
    }

    /// Sets the length. Where RLIMIT_FSIZE forbids it, fails with EFBIG rather than raising SIGXFSZ.
    pub(crate) fn set_len(&self, len: u64) -> Result<()> {
        let mut limit = MaybeUninit::<libc::rlimit>::uninit();
        // SAFETY: `limit` has room for the result and is read only if the call succeeded.
        let limit = unsafe {
            check(libc::getrlimit(libc::RLIMIT_FSIZE, limit.as_mut_ptr()))?;
            limit.assume_init()
        };
        if limit.rlim_cur != libc::RLIM_INFINITY && len > limit.rlim_cur {
            return Err(Error::from_raw_os_error(libc::EFBIG));
        }
        let len = len.try_into().map_err(|_| Error::from_raw_os_error(libc::EFBIG))?;
        // SAFETY: ftruncate takes no pointers, and the descriptor is open as long as `self`.
        retry(|| unsafe { libc::ftruncate(self.0.as_raw_fd(), len) })?;
        Ok(())
    }

    /// Makes sure that `len` bytes at `offset` have memory behind them, all or nothing; fails with ENOSPC if
    /// they cannot.
    pub(crate) fn reserve(&self, offset: u64, len: u64) -> Result<()> {
        let range = (i64::try_from(offset), i64::try_from(len));
        let (Ok(offset), Ok(len)) = range else { return Err(Error::from_raw_os_error(libc::EFBIG)) };
        let _uncancelled = Uncancelled::new();
        // SAFETY: fallocate takes no pointers, and the descriptor is open as long as `self`. With KEEP_SIZE it never changes
        // the length.
        let result =
            retry(|| unsafe { libc::fallocate(self.0.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, offset, len) });
        match result {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Writes `bytes` to the start of the file, whose end moves with them.
    pub(super) fn write_start(&self, bytes: &[u8]) -> Result<()> {
        self.set_len(bytes.len() as u64)?;
        // SAFETY: the array is valid for reads of its length.
        let n = unsafe { libc::pwrite(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        match usize::try_from(n) {
            Ok(n) if n == bytes.len() => Ok(()),
            Ok(_) => Err(Error::from_raw_os_error(libc::ENOSPC)),
            Err(_) => Err(Error::last_os_error()),
        }
    }

    /// Reads up to `bytes.len()` bytes from the start of the file; short if the file is.
    pub(crate) fn read_start(&self, bytes: &mut [u8]) -> Result<usize> {
        self.read_at(bytes, 0)
    }

    /// Reads up to `bytes.len()` bytes from `offset` of the file; short if the file is.
    pub(crate) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<usize> {
        let offset = libc::off_t::try_from(offset).map_err(Error::other)?;
        // SAFETY: the buffer is valid for writes of its length.
        let n = unsafe { libc::pread(self.0.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), offset) };
        usize::try_from(n).map_err(|_| Error::last_os_error())
    }

    /// Whether another open file description holds the role lock on `byte`.
    pub(crate) fn role_is_held(&self, byte: i64) -> Result<bool> {
        ofd_is_held(self.0.as_raw_fd(), byte)
    }
}

/// Unmaps what `map_shared` mapped.
///
/// # Safety
///
/// `base` and `len` are those of one live mapping, and no code uses that mapping any more.
pub(crate) unsafe fn unmap(base: NonNull<u8>, len: usize) {
    // SAFETY: the caller promises that `base` and `len` describe one live mapping that is no longer used.
    let result = unsafe { libc::munmap(base.as_ptr().cast::<c_void>(), len) };
    debug_assert_eq!(result, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_locks_are_seen_through_other_descriptions_only_and_end_with_theirs() {
        let segment = Segment::create_unnamed(0o600).unwrap();
        let (first, second) = (segment.role_file().unwrap(), segment.role_file().unwrap());
        assert!(first.try_lock_role(7).unwrap());
        assert!(!second.try_lock_role(7).unwrap());
        assert!(second.role_is_held(7).unwrap() && segment.role_is_held(7).unwrap());
        assert!(!first.role_is_held(7).unwrap(), "one's own lock is no conflict");
        assert!(second.try_lock_role(8).unwrap());
        drop(first);
        assert!(!segment.role_is_held(7).unwrap());
        assert!(second.try_lock_role(7).unwrap());
    }
}
