//! UNSAFE: glibc semaphores.
#![allow(unsafe_code)]

use std::ffi::{CString, c_int};
use std::io::{Error, Result};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::time::Duration;

use super::files::{SEM_FILE_PREFIX, check, id_of, remove_if, semaphore_path, stat_path};
use super::process::monotonic_now;
use super::segment::Segment;
use crate::os::FileId;

unsafe extern "C" {
    // glibc >= 2.30; not in the libc crate.
    fn sem_clockwait(sem: *mut libc::sem_t, clock: libc::clockid_t, deadline: *const libc::timespec)
    -> c_int;
}

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
