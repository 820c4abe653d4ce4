//! UNSAFE: Linux system calls and glibc semaphores, and nothing else.
//!
//! Names follow docs/PLATFORM.md: shared memory and semaphores live in `/dev/shm`, as `shm_open` and `sem_open` of
//! glibc place them.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int, c_void};
use std::io::{Error, Result};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::time::Duration;

use super::FileId;

mod futex;

/// Where segments and semaphores live.
pub(crate) const SHM_DIR: &str = "/dev/shm";
/// Where lock files live; fixed by protocol 1, so not `$TMPDIR`.
pub(crate) const LOCK_DIR: &str = "/tmp/zerobuffer";
/// glibc's prefix for the file of a named semaphore.
pub(crate) const SEM_FILE_PREFIX: &str = "sem.";

unsafe extern "C" {
    // glibc >= 2.30; not in the libc crate.
    fn sem_clockwait(sem: *mut libc::sem_t, clock: libc::clockid_t, deadline: *const libc::timespec)
    -> c_int;
}

fn check(result: c_int) -> Result<c_int> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// Repeats `call` while a signal interrupts it.
fn retry(mut call: impl FnMut() -> c_int) -> Result<c_int> {
    loop {
        match check(call()) {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            result => return result,
        }
    }
}

fn c_path(path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::from_raw_os_error(libc::EINVAL))
}

fn open_at(path: &Path, flags: c_int, mode: u32) -> Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: `path` is a C string that outlives the call; the result is checked before use.
    let fd = retry(|| unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, mode) })?;
    // SAFETY: `fd` is fresh, open and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn stat_fd(fd: BorrowedFd<'_>) -> Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `stat` has room for the result; fstat fills it in when it returns 0.
    check(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: filled in, as the call succeeded.
    Ok(unsafe { stat.assume_init() })
}

fn stat_path(path: &Path) -> Result<libc::stat> {
    let path = c_path(path)?;
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `path` is a C string, `stat` has room for the result.
    check(unsafe { libc::lstat(path.as_ptr(), stat.as_mut_ptr()) })?;
    // SAFETY: filled in, as the call succeeded.
    Ok(unsafe { stat.assume_init() })
}

fn id_of(stat: &libc::stat) -> FileId {
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

// ---- shared memory ----

/// Says that something stands in a segment's place that cannot be one.
fn alien_file() -> Error {
    Error::new(std::io::ErrorKind::Unsupported, "it is no regular file")
}

/// Whether `error` says that something stands in a segment's place that cannot be one.
pub(crate) fn is_alien_file(error: &Error) -> bool {
    error.raw_os_error().is_none() && error.kind() == std::io::ErrorKind::Unsupported
}

/// An open file of shared memory.
pub(crate) struct Segment(OwnedFd);

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

// ---- locks that end with the process ----

mod fork {
    //! Lock descriptors must not live on in a forked child: an open file description keeps its locks until its last
    //! descriptor is closed, so a child would keep its dead parent alive. A `pthread_atfork` handler closes them.

    use std::os::fd::{FromRawFd, OwnedFd, RawFd};
    use std::sync::Once;
    use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering};

    const SLOTS: usize = 64;
    const EMPTY: RawFd = -1;

    /// Descriptors to close in a child. Chunks are never freed: the handler may only do async-signal-safe things.
    struct Chunk {
        slots: [AtomicI32; SLOTS],
        next: AtomicPtr<Chunk>,
    }

    impl Chunk {
        const fn new() -> Chunk {
            Chunk {
                slots: [const { AtomicI32::new(EMPTY) }; SLOTS],
                next: AtomicPtr::new(std::ptr::null_mut()),
            }
        }
    }

    static FIRST: Chunk = Chunk::new();
    /// Held while descriptors are opened and entered, and across fork: no child inherits one that is not entered.
    static BUSY: AtomicBool = AtomicBool::new(false);
    static GENERATION: AtomicU64 = AtomicU64::new(0);

    fn lock() {
        // Acquire pairs with the Release in unlock().
        while BUSY.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::thread::yield_now();
        }
    }

    fn unlock() {
        BUSY.store(false, Ordering::Release);
    }

    extern "C" fn prepare() {
        lock();
    }

    extern "C" fn parent() {
        unlock();
    }

    extern "C" fn child() {
        // One thread is left, and prepare() took the lock: nobody changes the slots.
        GENERATION.fetch_add(1, Ordering::Relaxed);
        super::futex::forget_registration();
        let mut chunk = &FIRST;
        loop {
            for slot in &chunk.slots {
                let fd = slot.swap(EMPTY, Ordering::Relaxed);
                if fd != EMPTY {
                    // SAFETY: close(2) is async-signal-safe; the descriptor is the child's copy of one that `Slot`
                    // owned, and taking it out of the slot makes this the only close.
                    unsafe { libc::close(fd) };
                }
            }
            // SAFETY: chunks are leaked boxes or null, so the reference is valid for ever.
            match unsafe { chunk.next.load(Ordering::Relaxed).as_ref() } {
                Some(next) => chunk = next,
                None => break,
            }
        }
        unlock();
    }

    /// A number that differs between a process and its forked children.
    pub(crate) fn generation() -> u64 {
        // Relaxed: changes only inside fork(), in a child with one thread.
        GENERATION.load(Ordering::Relaxed)
    }

    pub(crate) fn install() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // SAFETY: the three handlers are plain functions that live as long as this library's code.
            let result = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
            assert_eq!(result, 0, "pthread_atfork fails only for want of a few bytes of memory");
        });
    }

    /// An entered descriptor: closed on drop in the process that opened it, by the handler in a child.
    pub(crate) struct Slot(&'static AtomicI32);

    impl Slot {
        pub(crate) fn enter(open: impl FnOnce() -> std::io::Result<OwnedFd>) -> std::io::Result<Slot> {
            install();
            lock();
            let result = open().map(|fd| {
                let fd = std::os::fd::IntoRawFd::into_raw_fd(fd);
                let mut chunk = &FIRST;
                loop {
                    // Relaxed throughout: the slots are changed under the lock, or by their one owner.
                    let free = chunk.slots.iter().find(|slot| slot.load(Ordering::Relaxed) == EMPTY);
                    if let Some(slot) = free {
                        slot.store(fd, Ordering::Relaxed);
                        return Slot(slot);
                    }
                    let mut next = chunk.next.load(Ordering::Relaxed);
                    if next.is_null() {
                        next = Box::into_raw(Box::new(Chunk::new()));
                        chunk.next.store(next, Ordering::Relaxed);
                    }
                    // SAFETY: a leaked box, valid for ever.
                    chunk = unsafe { &*next };
                }
            });
            unlock();
            result
        }

        /// The descriptor, or -1 in a forked child.
        pub(crate) fn fd(&self) -> RawFd {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Drop for Slot {
        fn drop(&mut self) {
            let fd = self.0.swap(EMPTY, Ordering::Relaxed);
            if fd != EMPTY {
                // SAFETY: taken out of the slot, so this is the only owner.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
}

pub(crate) use fork::generation as fork_generation;
pub(crate) use futex::{
    barrier, barrier_registered, barrier_works, futex_wait, futex_wake, register_for_barriers,
};

/// A file opened only to hold a lock, which the kernel drops when this process ends, however it ends.
pub(crate) struct LockFile(fork::Slot);

impl LockFile {
    fn open_with(open: impl FnOnce() -> Result<OwnedFd>) -> Result<LockFile> {
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

fn ofd_is_held(fd: RawFd, byte: i64) -> Result<bool> {
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

// ---- semaphores ----

/// A named semaphore, as `sem_open` makes it.
pub(crate) struct Semaphore(NonNull<libc::sem_t>);

// SAFETY: sem_t is made for use by many threads and processes at once; the pointer is valid until sem_close in drop.
unsafe impl Send for Semaphore {}
// SAFETY: as for Send.
unsafe impl Sync for Semaphore {}

fn sem_c_name(sem_name: &str) -> Result<CString> {
    CString::new(format!("/{sem_name}")).map_err(|_| Error::from_raw_os_error(libc::EINVAL))
}

impl Semaphore {
    /// Makes a semaphore that must not exist, at 0, with `mode` set exactly.
    ///
    /// As glibc's `sem_open` does, but through a file without a name: `sem_open` writes to `/dev/shm/sem.XXXXXX` first,
    /// which nobody would ever remove if we were killed there.
    pub(crate) fn create(sem_name: &str, mode: u32) -> Result<(Semaphore, FileId)> {
        let file = Segment::create_unnamed(mode)?;
        let mut initial = MaybeUninit::<libc::sem_t>::zeroed();
        const LEN: usize = size_of::<libc::sem_t>();
        // SAFETY: `initial` has room for a semaphore, which sem_init fills in; all its bytes are initialised, zero or
        // by sem_init, so they can be written to the file.
        let written = unsafe {
            check(libc::sem_init(initial.as_mut_ptr(), 1, 0))?;
            libc::pwrite(file.0.as_raw_fd(), initial.as_ptr().cast(), LEN, 0)
        };
        if usize::try_from(written) != Ok(LEN) {
            let error = Error::last_os_error();
            return Err(if written < 0 { error } else { Error::from_raw_os_error(libc::ENOSPC) });
        }
        let id = file.id()?;
        file.link(&format!("{SEM_FILE_PREFIX}{sem_name}"))?;
        match Semaphore::open(sem_name) {
            Ok((semaphore, found)) if found == id => Ok((semaphore, id)),
            result => {
                remove_if(&semaphore_path(sem_name), id)?;
                Err(result.err().unwrap_or_else(|| Error::from_raw_os_error(libc::EEXIST)))
            }
        }
    }

    /// Opens an existing semaphore.
    pub(crate) fn open(sem_name: &str) -> Result<(Semaphore, FileId)> {
        let stat = stat_path(&semaphore_path(sem_name))?;
        // glibc maps the file without looking at its length; a short one would be SIGBUS at the first touch.
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG || (stat.st_size as usize) < size_of::<libc::sem_t>()
        {
            let message = "a semaphore's file is too short, or no regular file";
            return Err(Error::new(std::io::ErrorKind::InvalidData, message));
        }
        let name = sem_c_name(sem_name)?;
        // SAFETY: `name` is a C string; without O_CREAT there are no further arguments.
        Ok((Semaphore::from_raw(unsafe { libc::sem_open(name.as_ptr(), 0) })?, id_of(&stat)))
    }

    fn from_raw(sem: *mut libc::sem_t) -> Result<Semaphore> {
        if sem == libc::SEM_FAILED {
            return Err(Error::last_os_error());
        }
        NonNull::new(sem).map(Semaphore).ok_or_else(|| Error::from_raw_os_error(libc::EINVAL))
    }

    /// Adds one. A full semaphore is no error: whoever waits has more than enough tokens.
    pub(crate) fn post(&self) {
        // SAFETY: open until drop.
        let result = unsafe { libc::sem_post(self.0.as_ptr()) };
        debug_assert!(result == 0 || Error::last_os_error().raw_os_error() == Some(libc::EOVERFLOW));
    }

    /// The count, as it was a moment ago.
    pub(crate) fn value(&self) -> i32 {
        let mut value = 0;
        // SAFETY: open until drop; `value` has room for the result.
        unsafe { libc::sem_getvalue(self.0.as_ptr(), &raw mut value) };
        value
    }

    /// Takes one if there is one.
    pub(crate) fn try_wait(&self) -> bool {
        // SAFETY: open until drop.
        unsafe { libc::sem_trywait(self.0.as_ptr()) == 0 }
    }

    /// Waits on the monotonic clock for at most `limit`. Says whether it took one; also returns on a signal.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let deadline = Duration::from_nanos(monotonic_now()).saturating_add(limit);
        let deadline = libc::timespec {
            tv_sec: deadline.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: deadline.subsec_nanos().into(),
        };
        // SAFETY: open until drop; `deadline` outlives the call.
        unsafe { sem_clockwait(self.0.as_ptr(), libc::CLOCK_MONOTONIC, &raw const deadline) == 0 }
    }
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        // SAFETY: open, and not used after this.
        unsafe { libc::sem_close(self.0.as_ptr()) };
    }
}

// ---- processes and time ----

/// Whether a process with this pid lives, in this process's pid namespace. Another user's does; one that has ended and
/// only waits to be reaped by its parent does not.
pub(crate) fn process_exists(pid: u64) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    if pid <= 0 {
        return false;
    }
    // SAFETY: signal 0 only asks.
    match check(unsafe { libc::kill(pid, 0) }) {
        Ok(_) => !is_zombie(pid),
        Err(error) => error.raw_os_error() != Some(libc::ESRCH),
    }
}

/// Whether all threads of a process have ended (proc_pid_stat(5): field 3 is the state, field 20 the number of threads;
/// a process whose first thread alone has ended also shows state Z).
fn is_zombie(pid: libc::pid_t) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The name in field 2 may contain anything, also `)`.
    let Some((_, fields)) = stat.rsplit_once(')') else { return false };
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next();
    let threads = fields.nth(16).and_then(|field| field.parse::<u32>().ok());
    matches!(state, Some("Z" | "X")) && threads.is_some_and(|threads| threads <= 1)
}

/// In nanoseconds, not as a `Duration`, whose arithmetic would take longer than to read the coarse clock.
fn clock(id: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` has room for the result; the clocks asked for exist on every Linux.
    unsafe { libc::clock_gettime(id, &raw mut now) };
    // Of the time since the machine was started, which 64 bits hold for 584 years; neither is negative.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The monotonic clock in nanoseconds: the same for all processes.
pub(crate) fn monotonic_now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

/// The same to within a few milliseconds, read in a few nanoseconds.
pub(crate) fn coarse_now() -> u64 {
    clock(libc::CLOCK_MONOTONIC_COARSE)
}

/// Kills or halts this process; for stop points.
#[cfg(feature = "stop-points")]
pub(crate) fn stop_self(kill: bool) {
    let signal = if kill { libc::SIGKILL } else { libc::SIGSTOP };
    // To this very thread: one sent to the process may stop another thread first, and this one only a few stores later.
    // SAFETY: sends a signal to this thread; both act on the whole process.
    unsafe { libc::raise(signal) };
}

/// Names of all files in the directory of segments and semaphores.
pub(crate) fn shm_entries() -> Result<Vec<String>> {
    let entries = std::fs::read_dir(SHM_DIR)?;
    Ok(entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_ended_is_gone_before_it_is_reaped() {
        assert!(process_exists(std::process::id().into()));
        assert!(process_exists(1));
        assert!(!process_exists(0) && !process_exists(u64::MAX));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = u64::from(child.id());
        assert!(process_exists(pid));
        child.kill().unwrap();
        let start = std::time::Instant::now();
        while process_exists(pid) {
            assert!(start.elapsed() < Duration::from_secs(10), "a zombie counts as alive");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!process_exists(pid));
    }

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
