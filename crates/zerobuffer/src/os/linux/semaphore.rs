//! UNSAFE: glibc semaphores.
//!
//! The files are those of glibc's `sem_open`, which 1.x peers use. This library opens, checks and maps them itself:
//! `sem_open` looks neither at the owner nor at the length of the file.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::io::{Error, ErrorKind, Result};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::files::Folder;
use super::lock::{LockFile, is_in_turn};
use super::pages::map_shared;
use super::process::monotonic_now;
use super::segment::{Segment, unmap};
use crate::os::{FileId, FileInfo, Found, SemaphoreFile, finding};

unsafe extern "C" {
    // glibc >= 2.30; not in the libc crate.
    fn sem_clockwait(sem: *mut libc::sem_t, clock: libc::clockid_t, deadline: *const libc::timespec)
    -> c_int;
}

/// glibc's prefix for the file of a named semaphore.
pub(crate) const SEM_FILE_PREFIX: &str = "sem.";

/// Bytes that glibc uses.
const LEN: usize = size_of::<libc::sem_t>();
/// Length of the file of a 1.x peer's semaphore.
pub(crate) const SEM_FILE_LEN: u64 = LEN as u64;

/// The mark behind glibc's bytes in a file that a native peer made, followed by the identity of the segment
/// that the semaphore is for. It proves that the file is not another program's.
const MARK: [u8; 16] = *b"ZeroBuffer sem 1";
const MARKED_LEN: usize = LEN + MARK.len() + 2 * size_of::<u64>();

/// Name of the file of the semaphore `/sem_name`.
fn file_name(sem_name: &str) -> String {
    format!("{SEM_FILE_PREFIX}{sem_name}")
}

/// A named semaphore of the kind that `sem_open` makes.
pub(crate) struct Semaphore(NonNull<libc::sem_t>);

// SAFETY: sem_t is made for use by many threads and processes at once; the mapping lives until drop.
unsafe impl Send for Semaphore {}
// SAFETY: sem_t is made for use by many threads and processes at once; the mapping lives until drop.
unsafe impl Sync for Semaphore {}

/// A semaphore that this process has just made. While this value lives, no other process takes the semaphore
/// for a leftover.
pub(crate) struct NewSemaphore {
    semaphore: Semaphore,
    id: FileId,
    _turn: LockFile,
}

impl NewSemaphore {
    /// Which file it is.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// Ends the creation: the buffer has its name now.
    pub(crate) fn finish(self) -> Semaphore {
        self.semaphore
    }
}

impl Semaphore {
    /// Creates a semaphore for `segment` with the count 0 and exactly `mode`. It must not exist yet.
    ///
    /// The file gets its name when it is complete. (`sem_open` begins with a file of a random name, which would stay if the
    /// process were killed at that moment.)
    pub(crate) fn create(sem_name: &str, mode: u32, segment: FileId) -> Result<NewSemaphore> {
        let file = Segment::create_unnamed(mode)?;
        let mut initial = MaybeUninit::<libc::sem_t>::zeroed();
        let mut bytes = [0_u8; MARKED_LEN];
        // SAFETY: `initial` has room for a semaphore, which sem_init fills in, and starts as zeros; so all its bytes are
        // initialised when they are copied to the array, which is larger.
        unsafe {
            super::files::check(libc::sem_init(initial.as_mut_ptr(), 1, 0))?;
            std::ptr::copy_nonoverlapping(initial.as_ptr().cast(), bytes.as_mut_ptr(), LEN);
        }
        bytes[LEN..][..16].copy_from_slice(&MARK);
        bytes[LEN + 16..][..8].copy_from_slice(&segment.device.to_le_bytes());
        bytes[LEN + 24..][..8].copy_from_slice(&segment.inode.to_le_bytes());
        file.write_start(&bytes)?;
        let semaphore = Semaphore::map(&file)?;
        let turn = file.role_file()?;
        if !turn.try_turn()? {
            return Err(Error::other("the lock of a fresh file is held"));
        }
        let id = file.id()?;
        file.link(&file_name(sem_name))?;
        Ok(NewSemaphore { semaphore, id, _turn: turn })
    }

    /// Examines the file of a semaphore, if there is one, without using it.
    pub(crate) fn look(sem_name: &str) -> Result<Option<SemaphoreFile>> {
        let folder = Folder::shared_memory();
        let Some(info) = folder.info(&file_name(sem_name))? else { return Ok(None) };
        let unknown = SemaphoreFile { info, segment: None, is_new: false };
        match folder.open_file(&file_name(sem_name), libc::O_RDONLY) {
            Ok((fd, info)) => {
                let is_new = is_in_turn(fd.as_fd())?;
                Ok(Some(SemaphoreFile { info, segment: mark(&Segment(fd))?, is_new }))
            }
            // Removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            // A file that this user may not read, or that is not regular, is not known to be ZeroBuffer's.
            Err(_) => Ok(Some(unknown)),
        }
    }

    /// Opens an existing semaphore. Returns it with the information about its file.
    pub(crate) fn open(sem_name: &str) -> Result<(Semaphore, FileInfo)> {
        let (fd, info) = Folder::shared_memory().open_file(&file_name(sem_name), libc::O_RDWR)?;
        if info.len < LEN as u64 {
            let text = format!("the file of a semaphore has {} bytes instead of {LEN}", info.len);
            return Err(finding(Found::Damaged, text));
        }
        let file = Segment(fd);
        // A file can have a length without memory. If no memory is left, touching it raises SIGBUS.
        file.reserve(0, LEN as u64)?;
        Ok((Semaphore::map(&file)?, info))
    }

    fn map(file: &Segment) -> Result<Semaphore> {
        map_shared(file, LEN, false).map(|base| Semaphore(base.cast()))
    }

    /// Adds one. A full semaphore is no error: its waiters have more than enough tokens.
    pub(crate) fn post(&self) {
        // SAFETY: mapped until drop.
        let result = unsafe { libc::sem_post(self.0.as_ptr()) };
        debug_assert!(result == 0 || Error::last_os_error().raw_os_error() == Some(libc::EOVERFLOW));
    }

    /// The count, as it was a moment ago.
    pub(crate) fn value(&self) -> i32 {
        let mut value = 0;
        // SAFETY: mapped until drop; `value` has room for the result.
        unsafe { libc::sem_getvalue(self.0.as_ptr(), &raw mut value) };
        value
    }

    /// How many threads wait, in any process, as it was a moment ago.
    pub(crate) fn waiters(&self) -> u32 {
        // glibc's `struct new_sem` on 64-bit systems: the count in the low half, the waiters in the high one.
        // SAFETY: mapped until drop and aligned as glibc's own 64-bit word, which glibc changes by atomic operations alone.
        let word = unsafe { AtomicU64::from_ptr(self.0.as_ptr().cast()) };
        // Relaxed: the caller only wants to know whether there are any.
        (word.load(Ordering::Relaxed) >> 32) as u32
    }

    /// The count, as a word to sleep on. A poster wakes it only while [`Semaphore::add_waiter`] is in force.
    pub(crate) fn count(&self) -> &AtomicU32 {
        // SAFETY: mapped until drop. glibc's 64-bit word begins with the count (little-endian); glibc changes the word by atomic
        // operations, and sleeps on the count in the same way.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().cast()) }
    }

    /// Counts one more thread that waits, so that posters wake it.
    pub(crate) fn add_waiter(&self) {
        // SAFETY: as in waiters().
        let word = unsafe { AtomicU64::from_ptr(self.0.as_ptr().cast()) };
        // SeqCst: a post that does not see it comes before the caller's next look at the count.
        word.fetch_add(1 << 32, Ordering::SeqCst);
    }

    /// Takes back [`Semaphore::add_waiter`].
    pub(crate) fn remove_waiter(&self) {
        // SAFETY: as in waiters().
        let word = unsafe { AtomicU64::from_ptr(self.0.as_ptr().cast()) };
        word.fetch_sub(1 << 32, Ordering::SeqCst);
    }

    /// Takes one if there is one.
    pub(crate) fn try_wait(&self) -> bool {
        // SAFETY: mapped until drop.
        unsafe { libc::sem_trywait(self.0.as_ptr()) == 0 }
    }

    /// Waits on the monotonic clock for at most `limit`. Returns whether it took one; also returns on a signal.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let deadline = Duration::from_nanos(monotonic_now()).saturating_add(limit);
        let deadline = libc::timespec {
            tv_sec: deadline.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: deadline.subsec_nanos().into(),
        };
        // SAFETY: mapped until drop; `deadline` outlives the call.
        unsafe { sem_clockwait(self.0.as_ptr(), libc::CLOCK_MONOTONIC, &raw const deadline) == 0 }
    }
}

/// The segment that the mark of a semaphore's file names.
fn mark(file: &Segment) -> Result<Option<FileId>> {
    let mut bytes = [0; MARKED_LEN];
    if file.read_at(&mut bytes, 0)? < MARKED_LEN || bytes[LEN..][..16] != MARK {
        return Ok(None);
    }
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..][..8]);
        u64::from_le_bytes(word)
    };
    Ok(Some(FileId { device: word(LEN + 16), inode: word(LEN + 24) }))
}

impl Drop for Semaphore {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length, and not used after this.
        unsafe { unmap(self.0.cast(), LEN) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_semaphore_is_unmapped_when_it_is_dropped() {
        let name = format!("sem-w-unit-unmapped-{}", std::process::id());
        let segment = Segment::create_unnamed(0o600).unwrap();
        drop(Semaphore::create(&name, 0o600, segment.id().unwrap()).unwrap().finish());
        let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().matches(&name).count();
        let (semaphore, _) = Semaphore::open(&name).unwrap();
        assert_eq!(mappings(), 1);
        drop(semaphore);
        assert_eq!(mappings(), 0);
        std::fs::remove_file(Folder::shared_memory().path_of(&file_name(&name))).unwrap();
    }
    #[test]
    fn a_semaphore_that_comes_and_goes_is_never_taken_for_another_programs() {
        let name = format!("sem-w-unit-comes-{}", std::process::id());
        let segment = Segment::create_unnamed(0o600).unwrap().id().unwrap();
        let path = Folder::shared_memory().path_of(&file_name(&name));
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    drop(Semaphore::create(&name, 0o600, segment).unwrap().finish());
                    std::fs::remove_file(&path).unwrap();
                }
                done.store(true, Ordering::Relaxed);
            });
            while !done.load(Ordering::Relaxed) {
                let found = Semaphore::look(&name).unwrap();
                assert!(found.is_none_or(|found| found.segment == Some(segment)));
            }
        });
    }
}
