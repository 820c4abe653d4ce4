//! UNSAFE: descriptors, folders, and the files in them.
//!
//! Names follow docs/PLATFORM.md. Only root can exchange `/dev/shm`, so its files are reached by their paths.
//! Any user can own `/tmp/zerobuffer`, so it is opened once and its files are reached through that
//! descriptor.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_int};
use std::io::{Error, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::os::{Cause, FileId, FileInfo, Found, Removal, cause, finding, is_not_found};

/// Where segments and semaphores live.
pub(super) const SHM_DIR: &str = "/dev/shm";
/// Where lock files live; protocol 1 fixes it, so `$TMPDIR` changes nothing.
const LOCK_DIR: &str = "/tmp/zerobuffer";
/// The permission bits of that folder.
const LOCK_DIR_MODE: u32 = 0o1777;
/// Standard input, output and error. None of them may be a descriptor of this library, or the program's
/// output would land in a buffer.
const HIGHEST_STANDARD: RawFd = 2;

pub(crate) fn cause_of_number(number: Option<i32>) -> Cause {
    match number {
        Some(libc::ENOENT) => Cause::NotFound,
        Some(libc::EEXIST) => Cause::Exists,
        Some(libc::EACCES | libc::EPERM) => Cause::Denied,
        Some(libc::EROFS) => Cause::ReadOnlyFileSystem,
        Some(libc::ENOSPC | libc::EDQUOT) => Cause::NoSpace,
        Some(libc::ENOMEM) => Cause::NoMemory,
        Some(libc::EFBIG) => Cause::FileSizeLimit,
        Some(libc::EMFILE) => Cause::ProcessFiles,
        Some(libc::ENFILE) => Cause::SystemFiles,
        _ => Cause::Other,
    }
}

/// The error of a file system without room.
pub(crate) fn no_space() -> Error {
    Error::from_raw_os_error(libc::ENOSPC)
}

/// The error of a size that the system does not support.
pub(crate) fn too_large() -> Error {
    Error::from_raw_os_error(libc::EOVERFLOW)
}

/// The effective user of this process.
pub(crate) fn user() -> u32 {
    // SAFETY: geteuid takes no pointers and cannot fail.
    unsafe { libc::geteuid() }
}

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

fn c_string(bytes: impl Into<Vec<u8>>) -> Result<CString> {
    CString::new(bytes).map_err(|_| Error::from_raw_os_error(libc::EINVAL))
}

pub(super) fn c_path(path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    c_string(path.as_os_str().as_bytes())
}

// ---- descriptors ----

/// Takes over a descriptor that a system call has just opened. Every descriptor of this library comes from
/// here.
///
/// A program that has closed its standard streams gets their numbers for the next files that it opens. This
/// function moves such a file to a higher number.
pub(super) fn own(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: the callers pass a fresh descriptor that has no other owner.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    if fd.as_raw_fd() > HIGHEST_STANDARD { Ok(fd) } else { duplicate(fd.as_raw_fd()) }
}

/// A second descriptor of an open file.
pub(super) fn duplicate(fd: RawFd) -> Result<OwnedFd> {
    // SAFETY: fcntl takes no pointers here. A descriptor that is not open fails with EBADF.
    let copy = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, HIGHEST_STANDARD + 1) })?;
    // SAFETY: the call has just made this descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Moves `file` to a descriptor of a high number, if there is one.
///
/// Linux closes the descriptors of a process that has ended in descending order, and takes some 10 ms for one of inotify
/// (`synchronize_srcu` in fsnotify). A lock above it is free before; below it, who waits for the lock learns that much later of the
/// death. 64 descriptors is what a process has room for from the start: a larger table is made only after all processors have
/// passed a quiet point, which takes milliseconds, too.
pub(super) fn move_up(file: OwnedFd) -> OwnedFd {
    const HIGH: c_int = 40;
    // SAFETY: fcntl takes no pointers here, and the descriptor is open.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_DUPFD_CLOEXEC, HIGH) } {
        // More than the process may have.
        ..0 => file,
        // SAFETY: the call has just made this descriptor, which has no other owner.
        copy => unsafe { OwnedFd::from_raw_fd(copy) },
    }
}

fn open_in(folder: RawFd, name: &CStr, flags: c_int, mode: u32) -> Result<OwnedFd> {
    // SAFETY: `name` is a C string that outlives the call.
    own(retry(|| unsafe { libc::openat(folder, name.as_ptr(), flags | libc::O_CLOEXEC, mode) })?)
}

pub(super) fn open_path(path: &Path, flags: c_int, mode: u32) -> Result<OwnedFd> {
    open_in(libc::AT_FDCWD, &c_path(path)?, flags, mode)
}

/// The path of an open file, to open it once more or to give it a name.
pub(super) fn proc_path(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Opens `fd`'s file a second time.
pub(super) fn reopen(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let path = proc_path(fd);
    open_path(&path, libc::O_RDWR, 0).map_err(|error| match cause(&error) {
        Cause::NotFound => Error::other(format!("{} is missing: mount /proc", path.display())),
        _ => error,
    })
}

// ---- what a file is ----

fn info_of(stat: &libc::stat) -> FileInfo {
    let time = |seconds: i64, nanoseconds: i64| {
        let since = Duration::new(seconds.try_into().unwrap_or(0), nanoseconds.try_into().unwrap_or(0));
        UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    FileInfo {
        id: FileId { device: stat.st_dev, inode: stat.st_ino },
        is_file: stat.st_mode & libc::S_IFMT == libc::S_IFREG,
        is_fifo: stat.st_mode & libc::S_IFMT == libc::S_IFIFO,
        len: stat.st_size.try_into().unwrap_or(0),
        // st_blocks counts units of 512 bytes, whatever the block size (stat(3type)).
        memory: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
        owner: stat.st_uid,
        group: stat.st_gid,
        mode: stat.st_mode & 0o7777,
        modified: time(stat.st_mtime, stat.st_mtime_nsec),
        changed: time(stat.st_ctime, stat.st_ctime_nsec),
    }
}

fn stat_fd(fd: BorrowedFd<'_>) -> Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` has room for the result; fstat fills it in when it returns 0.
    check(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: filled in, as the call succeeded.
    Ok(unsafe { stat.assume_init() })
}

pub(super) fn info_of_fd(fd: BorrowedFd<'_>) -> Result<FileInfo> {
    stat_fd(fd).map(|stat| info_of(&stat))
}

fn stat_in(folder: RawFd, name: &CStr) -> Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `name` is a C string, `stat` has room for the result.
    check(unsafe { libc::fstatat(folder, name.as_ptr(), stat.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) })?;
    // SAFETY: filled in, as the call succeeded.
    Ok(unsafe { stat.assume_init() })
}

// ---- folders ----

/// A folder that several users share. Links in it are never followed.
pub(crate) struct Folder {
    /// `None`: the folder is reached by its path.
    fd: Option<OwnedFd>,
    path: PathBuf,
}

impl Folder {
    /// The folder of segments and semaphores.
    pub(crate) fn shared_memory() -> Folder {
        Folder { fd: None, path: SHM_DIR.into() }
    }

    /// The folder of lock files, if there is one.
    pub(crate) fn locks() -> Result<Option<Folder>> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let fd = match open_path(Path::new(LOCK_DIR), flags, 0) {
            Ok(fd) => fd,
            Err(error) if is_not_found(&error) => return Ok(None),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENOTDIR)) => {
                let text =
                    format!("{LOCK_DIR} is a link or a file, not a folder: as its owner or root, remove it");
                return Err(Error::other(text));
            }
            Err(error) if cause(&error) == Cause::Denied => {
                return Err(unusable(stat_in(libc::AT_FDCWD, &c_path(Path::new(LOCK_DIR))?)?));
            }
            Err(error) => return Err(error),
        };
        let stat = stat_fd(fd.as_fd())?;
        if stat.st_mode & 0o7777 != LOCK_DIR_MODE {
            if stat.st_uid == user() {
                // SAFETY: fchmod takes no pointers, and the descriptor is open as long as `folder`.
                check(unsafe { libc::fchmod(fd.as_raw_fd(), LOCK_DIR_MODE) })?;
            } else if stat.st_mode & libc::S_ISVTX == 0 && stat.st_mode & 0o022 != 0 {
                return Err(unusable(stat));
            }
        }
        Ok(Some(Folder { fd: Some(fd), path: LOCK_DIR.into() }))
    }

    /// The folder of lock files. If it is missing, it is created sticky and writable for all users, like
    /// `/tmp`.
    pub(crate) fn make_locks() -> Result<Folder> {
        let path = c_path(Path::new(LOCK_DIR))?;
        loop {
            if let Some(folder) = Folder::locks()? {
                return Ok(folder);
            }
            // SAFETY: `path` is a C string. The next look sets the exact mode, which the umask may have narrowed.
            match check(unsafe { libc::mkdir(path.as_ptr(), LOCK_DIR_MODE) }) {
                Ok(_) => {}
                Err(error) if cause(&error) == Cause::Exists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The folder `name` in this one, if it is there.
    pub(crate) fn folder(&self, name: &str) -> Result<Option<Folder>> {
        match self.open(name, libc::O_RDONLY | libc::O_DIRECTORY, 0) {
            Ok(fd) => Ok(Some(Folder { fd: Some(fd), path: self.path.join(name) })),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Path of the lock file `name`, for people.
    pub(crate) fn lock_path(name: &str) -> PathBuf {
        Path::new(LOCK_DIR).join(name)
    }

    /// Path of the file `name`, for people.
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The descriptor of a folder and a path in it that lead to `name`.
    fn at(&self, name: &str) -> Result<(RawFd, CString)> {
        Ok(match &self.fd {
            Some(fd) => (fd.as_raw_fd(), c_string(name)?),
            None => (libc::AT_FDCWD, c_path(&self.path.join(name))?),
        })
    }

    /// Opens the file `name`. Follows no link and waits for no pipe.
    pub(super) fn open(&self, name: &str, flags: c_int, mode: u32) -> Result<OwnedFd> {
        let (folder, name) = self.at(name)?;
        open_in(folder, &name, flags | libc::O_NOFOLLOW | libc::O_NONBLOCK, mode)
    }

    /// Opens the file `name`, which must be a regular file.
    pub(super) fn open_file(&self, name: &str, flags: c_int) -> Result<(OwnedFd, FileInfo)> {
        let alien = || Err(finding(Found::Alien, "it is no regular file"));
        match self.open(name, flags, 0) {
            // A link, a folder, a socket.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EISDIR | libc::ENXIO)) => {
                alien()
            }
            Err(error) => Err(error),
            Ok(fd) => match info_of_fd(fd.as_fd())? {
                info if info.is_file => Ok((fd, info)),
                _ => alien(),
            },
        }
    }

    /// Makes a FIFO with the name `name`, which only its owner may use.
    pub(super) fn make_fifo(&self, name: &str) -> Result<()> {
        let (folder, name) = self.at(name)?;
        // SAFETY: `name` is a C string.
        check(unsafe { libc::mkfifoat(folder, name.as_ptr(), 0o600) }).map(|_| ())
    }

    /// Removes the file `name`, if it is there.
    pub(super) fn unlink(&self, name: &str) -> Result<()> {
        let (folder, name) = self.at(name)?;
        // SAFETY: `name` is a C string.
        match check(unsafe { libc::unlinkat(folder, name.as_ptr(), 0) }) {
            Err(error) if !is_not_found(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Information about the file `name`, if it is there.
    pub(crate) fn info(&self, name: &str) -> Result<Option<FileInfo>> {
        let (folder, name) = self.at(name)?;
        match stat_in(folder, &name) {
            Ok(stat) => Ok(Some(info_of(&stat))),
            Err(error) if is_not_found(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names of all files in the folder.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let fd = match &self.fd {
            Some(_) => self.open(".", libc::O_RDONLY | libc::O_DIRECTORY, 0)?,
            None => open_path(&self.path, libc::O_RDONLY | libc::O_DIRECTORY, 0).map_err(no_shared_memory)?,
        };
        // SAFETY: an open descriptor of a folder, which the stream owns from here on.
        let stream = unsafe { libc::fdopendir(fd.into_raw_fd()) };
        if stream.is_null() {
            return Err(Error::last_os_error());
        }
        let mut names = Vec::new();
        loop {
            // SAFETY: the stream is open; only this thread uses it.
            let entry = unsafe { libc::readdir(stream) };
            if entry.is_null() {
                break;
            }
            // SAFETY: the entry is valid until the next call, and its name ends with a zero byte.
            let name = unsafe { CStr::from_ptr((*entry).d_name.as_ptr()) };
            if let Ok(name) = name.to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        // SAFETY: open, and not used after this.
        unsafe { libc::closedir(stream) };
        Ok(names)
    }

    /// Removes the file `name` if its identity still is `id`. The caller keeps other processes from
    /// exchanging it.
    pub(crate) fn remove_now(&self, name: &str, id: FileId) -> Result<Removal> {
        if self.info(name)?.map(|info| info.id) != Some(id) {
            return Ok(Removal::Gone);
        }
        let (folder, name) = self.at(name)?;
        // SAFETY: `name` is a C string.
        match check(unsafe { libc::unlinkat(folder, name.as_ptr(), 0) }) {
            Ok(_) => Ok(Removal::Removed),
            Err(error) if is_not_found(&error) => Ok(Removal::Gone),
            Err(error) => Err(error),
        }
    }

    /// Gives an open file without a name the name `name`; fails with [`Cause::Exists`] if that is taken.
    pub(super) fn link(&self, fd: BorrowedFd<'_>, name: &str) -> Result<()> {
        let from = c_path(&proc_path(fd))?;
        let (folder, to) = self.at(name)?;
        // SAFETY: both are C strings that outlive the call.
        check(unsafe {
            libc::linkat(libc::AT_FDCWD, from.as_ptr(), folder, to.as_ptr(), libc::AT_SYMLINK_FOLLOW)
        })?;
        Ok(())
    }
}

/// The error that a folder of lock files cannot be used: whose it is, and what its owner can do.
fn unusable(stat: libc::stat) -> Error {
    let (owner, mode) = (stat.st_uid, stat.st_mode & 0o7777);
    let why = if mode & 0o022 != 0 && mode & libc::S_ISVTX == 0 {
        "other users could exchange the files in it"
    } else {
        "other users cannot use it"
    };
    let text = format!(
        "{LOCK_DIR} belongs to user {owner} and has mode {mode:o}, so {why}: as that user or root, run \
         `chmod {LOCK_DIR_MODE:o} {LOCK_DIR}`"
    );
    finding(Found::UnsafeFolder, text)
}

/// The meaning of a lack of rights in the folder of lock files.
pub(super) fn denied_in_locks(folder: &Folder, error: Error) -> Error {
    let Some(fd) = folder.fd.as_ref().filter(|_| cause(&error) == Cause::Denied) else { return error };
    match stat_fd(fd.as_fd()) {
        Ok(stat) if stat.st_mode & 0o7777 != LOCK_DIR_MODE => unusable(stat),
        _ => error,
    }
}

/// Tells a missing folder of shared memory, and a file in its place, from other errors.
pub(super) fn no_shared_memory(error: Error) -> Error {
    let mount = format!("mount a tmpfs there (`mount -t tmpfs -o mode=1777 tmpfs {SHM_DIR}`)");
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) if !Path::new(SHM_DIR).is_dir() => {
            finding(Found::NoSharedMemory, format!("{SHM_DIR} is missing: {mount}"))
        }
        Some(libc::EOPNOTSUPP | libc::EISDIR) => {
            finding(Found::NoSharedMemory, format!("{SHM_DIR} is no tmpfs: {mount}"))
        }
        _ => error,
    }
}
