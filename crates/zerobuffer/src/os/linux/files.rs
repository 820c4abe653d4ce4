//! UNSAFE: paths and open files.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int};
use std::io::{Error, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::os::FileId;

/// Where segments and semaphores live.
pub(crate) const SHM_DIR: &str = "/dev/shm";
/// Where lock files live; fixed by protocol 1, so not `$TMPDIR`.
pub(crate) const LOCK_DIR: &str = "/tmp/zerobuffer";
/// glibc's prefix for the file of a named semaphore.
pub(crate) const SEM_FILE_PREFIX: &str = "sem.";

pub(super) fn check(result: c_int) -> Result<c_int> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// Repeats `call` while a signal interrupts it.
pub(super) fn retry(mut call: impl FnMut() -> c_int) -> Result<c_int> {
    loop {
        match check(call()) {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            result => return result,
        }
    }
}

pub(super) fn c_path(path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::from_raw_os_error(libc::EINVAL))
}

pub(super) fn open_at(path: &Path, flags: c_int, mode: u32) -> Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: `path` is a C string that outlives the call; the result is checked before use.
    let fd = retry(|| unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) })?;
    // SAFETY: `fd` is fresh, open and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn stat_fd(fd: BorrowedFd<'_>) -> Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` has room for the result; fstat fills it in when it returns 0.
    check(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: filled in, as the call succeeded.
    Ok(unsafe { stat.assume_init() })
}

pub(super) fn stat_path(path: &Path) -> Result<libc::stat> {
    let path = c_path(path)?;
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `path` is a C string, `stat` has room for the result.
    check(unsafe { libc::lstat(path.as_ptr(), stat.as_mut_ptr()) })?;
    // SAFETY: filled in, as the call succeeded.
    Ok(unsafe { stat.assume_init() })
}

pub(super) fn id_of(stat: &libc::stat) -> FileId {
    FileId { device: stat.st_dev, inode: stat.st_ino }
}

/// What `path` itself (not a link's target) is, if anything.
pub(crate) fn path_id(path: &Path) -> Result<Option<FileId>> {
    match stat_path(path) {
        Ok(stat) => Ok(Some(id_of(&stat))),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// How long ago the inode at `path` last changed, on the wall clock; `None` if there is nothing there.
pub(crate) fn path_age(path: &Path) -> Option<Duration> {
    let stat = stat_path(path).ok()?;
    let changed = Duration::new(stat.st_ctime.try_into().ok()?, stat.st_ctime_nsec.try_into().ok()?);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(now.saturating_sub(changed))
}

/// Removes `path` if it still is the file `id`. Says whether it did.
pub(crate) fn remove_if(path: &Path, id: FileId) -> Result<bool> {
    if path_id(path)? != Some(id) {
        return Ok(false);
    }
    remove(path)
}

/// Removes `path`. Says whether there was something to remove.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Path of the segment of buffer `name`.
pub(crate) fn segment_path(name: &str) -> PathBuf {
    Path::new(SHM_DIR).join(name)
}

/// Path of the file behind the semaphore `/sem_name`.
pub(crate) fn semaphore_path(sem_name: &str) -> PathBuf {
    Path::new(SHM_DIR).join(format!("{SEM_FILE_PREFIX}{sem_name}"))
}

/// Names of all files in the directory of segments and semaphores.
pub(crate) fn shm_entries() -> Result<Vec<String>> {
    let entries = std::fs::read_dir(SHM_DIR)?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}
