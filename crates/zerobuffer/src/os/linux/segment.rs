//! UNSAFE: files of shared memory, and mappings of them.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io::{Error, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use super::files::{SHM_DIR, c_path, check, id_of, open_at, retry, segment_path, stat_fd};
use super::lock::{LockFile, ofd_is_held};
use crate::os::FileId;

/// Says that something stands in a segment's place that cannot be one.
fn alien_file() -> Error {
    Error::new(std::io::ErrorKind::Unsupported, "it is no regular file")
}

/// Whether `error` says that something stands in a segment's place that cannot be one.
pub(crate) fn is_alien_file(error: &Error) -> bool {
    error.raw_os_error().is_none() && error.kind() == std::io::ErrorKind::Unsupported
}

/// An open file of shared memory.
pub(crate) struct Segment(pub(super) OwnedFd);

impl Segment {
    /// A new file without a name; `link` gives it one. `mode` is set exactly.
    pub(crate) fn create_unnamed(mode: u32) -> Result<Segment> {
        let fd = open_at(Path::new(SHM_DIR), libc::O_TMPFILE | libc::O_RDWR, mode)?;
        // SAFETY: plain system call on an open descriptor.
        check(unsafe { libc::fchmod(fd.as_raw_fd(), mode) })?;
        Ok(Segment(fd))
    }

    /// Opens the segment of buffer `name` for reading and writing, or only for reading.
    pub(crate) fn open(name: &str, writable: bool) -> Result<Segment> {
        let access = if writable { libc::O_RDWR } else { libc::O_RDONLY };
        match open_at(&segment_path(name), access | libc::O_NOFOLLOW | libc::O_NONBLOCK, 0) {
            // A link, a directory, a socket.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EISDIR | libc::ENXIO)) => {
                Err(alien_file())
            }
            Err(error) => Err(error),
            Ok(fd) if stat_fd(fd.as_fd())?.st_mode & libc::S_IFMT != libc::S_IFREG => Err(alien_file()),
            Ok(fd) => Ok(Segment(fd)),
        }
    }

    fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Gives an unnamed segment its name; fails with EEXIST if the name is taken.
    pub(crate) fn link(&self, name: &str) -> Result<()> {
        let from = c_path(&self.proc_path())?;
        let to = c_path(&segment_path(name))?;
        // SAFETY: both are C strings that outlive the call.
        check(unsafe {
            libc::linkat(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::AT_SYMLINK_FOLLOW)
        })?;
        Ok(())
    }

    /// A role lock on an open file description of its own (docs/PROTOCOL.md, "Liveness"). Not locked yet.
    pub(crate) fn role_file(&self) -> Result<LockFile> {
        let path = self.proc_path();
        LockFile::open_with(|| open_at(&path, libc::O_RDWR, 0))
    }

    pub(crate) fn len(&self) -> Result<u64> {
        Ok(stat_fd(self.0.as_fd())?.st_size.try_into().unwrap_or(0))
    }

    pub(crate) fn id(&self) -> Result<FileId> {
        Ok(id_of(&stat_fd(self.0.as_fd())?))
    }

    /// Owner's uid and permission bits.
    pub(crate) fn owner_and_mode(&self) -> Result<(u32, u32)> {
        let stat = stat_fd(self.0.as_fd())?;
        Ok((stat.st_uid, stat.st_mode & 0o777))
    }

    /// Bytes of memory that the file occupies now.
    pub(crate) fn allocated(&self) -> Result<u64> {
        // st_blocks counts units of 512 bytes, whatever the block size (stat(3type)).
        Ok(u64::try_from(stat_fd(self.0.as_fd())?.st_blocks).unwrap_or(0) * 512)
    }

    /// Sets the length; says EFBIG instead of raising SIGXFSZ where RLIMIT_FSIZE forbids it.
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
        // SAFETY: plain system call on an open descriptor.
        retry(|| unsafe { libc::ftruncate(self.0.as_raw_fd(), len) })?;
        Ok(())
    }

    /// Makes sure that `len` bytes at `offset` have memory behind them; all or nothing, ENOSPC if they can't.
    pub(crate) fn reserve(&self, offset: u64, len: u64) -> Result<()> {
        let range = (i64::try_from(offset), i64::try_from(len));
        let (Ok(offset), Ok(len)) = range else { return Err(Error::from_raw_os_error(libc::EFBIG)) };
        // SAFETY: plain system call on an open descriptor. KEEP_SIZE: the length is never changed here.
        let result =
            retry(|| unsafe { libc::fallocate(self.0.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, offset, len) });
        match result {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Reads up to `bytes.len()` bytes from the start of the file; short if the file is.
    pub(crate) fn read_start(&self, bytes: &mut [u8]) -> Result<usize> {
        self.read_at(bytes, 0)
    }

    /// As `read_start`, from `offset` of the file.
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

/// Maps `len` bytes of `file` shared, readable and writable.
pub(crate) fn map_shared(file: &Segment, len: usize, populate: bool) -> Result<NonNull<u8>> {
    let flags = libc::MAP_SHARED | if populate { libc::MAP_POPULATE } else { 0 };
    let fd = file.0.as_raw_fd();
    // SAFETY: a new mapping at an address that the kernel chooses touches no memory of ours.
    let base =
        unsafe { libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0) };
    if base == libc::MAP_FAILED {
        return Err(Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| Error::from_raw_os_error(libc::EINVAL))
}

/// Unmaps what `map_shared` mapped.
///
/// # Safety
///
/// `base` and `len` are those of one live mapping, which nobody uses any more.
pub(crate) unsafe fn unmap(base: NonNull<u8>, len: usize) {
    // SAFETY: by the caller's promise.
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
