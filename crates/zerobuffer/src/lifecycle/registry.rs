//! Names, lock files, listing, and the clean-up of what the dead left behind.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::layout::{OIEB_SIZE, OiebCopy};
use crate::lifecycle::liveness::{self, ReaderState};
use crate::os::{self, FileId};
use crate::testing::stop::stop_point;

/// Longest name of a buffer, in bytes: NAME_MAX (255) less the longest prefix of its files, `sem.sem-w-`.
pub const MAX_NAME_LEN: usize = 255 - 10;

/// How long a creation waits for a lock that somebody holds without having a live buffer: they are cleaning up, or just
/// creating one. In tries, 2 s of them, rather than by a clock: where all processes stood still for longer (a suspended machine,
/// a frozen container), the holder has had no time either.
const LOCK_TRIES: u32 = 2000;
const LOCK_POLL: Duration = Duration::from_millis(1);

/// How long a clean-up waits for a lock: tools hold it for microseconds, only to see whether it is free.
const CLEAN_PATIENCE: Duration = Duration::from_millis(50);

/// A segment without an OIEB yet is a 1.x reader's at work (they need up to 0.4 s), or what is left of one.
const UNBORN_AGE: Duration = Duration::from_secs(10);

/// Refuses names that could reach other files, or that are too long.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let invalid = |why: &str| Err(Error::new(ErrorKind::InvalidName, name, format!("the name {why}")));
    if name.is_empty() {
        return invalid(&format!("is empty: choose one of 1 to {MAX_NAME_LEN} bytes"));
    }
    if name.len() > MAX_NAME_LEN {
        return invalid(&format!("has {} bytes, at most {MAX_NAME_LEN} are possible", name.len()));
    }
    if name == "." || name == ".." {
        return invalid("is that of a directory: choose another one");
    }
    if name.contains(['/', '\0']) {
        return invalid("contains `/` or a zero byte: leave it out");
    }
    if name.starts_with("sem.") {
        return invalid("starts with `sem.`, as the files of semaphores do");
    }
    Ok(())
}

/// Name of the semaphore that the writer posts.
pub(crate) fn write_semaphore(name: &str) -> String {
    format!("sem-w-{name}")
}

/// Name of the semaphore that the reader posts.
pub(crate) fn read_semaphore(name: &str) -> String {
    format!("sem-r-{name}")
}

pub(crate) fn lock_path(name: &str) -> PathBuf {
    Path::new(os::LOCK_DIR).join(format!("{name}.lock"))
}

/// The lock on a name: who holds it may create and remove the buffer's files.
pub(crate) struct NameLock {
    file: os::LockFile,
    path: PathBuf,
}

impl NameLock {
    /// Takes the lock on `name` if nobody holds it.
    pub(crate) fn try_take(name: &str, mode: u32) -> io::Result<Option<NameLock>> {
        let path = lock_path(name);
        loop {
            stop_point!("lock:open");
            let file = match os::LockFile::open(&path, Some(mode)) {
                // Somebody made it between our two attempts to open it.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => continue,
                result => result?,
            };
            stop_point!("lock:flock");
            if !file.try_flock()? {
                return Ok(None);
            }
            // Its last holder may have removed the file between our open and our lock; then it is nobody's.
            if os::path_id(&path)? == Some(file.id()?) {
                return Ok(Some(NameLock { file, path }));
            }
        }
    }

    /// Takes the lock on `name` if nobody holds it for longer than a look takes, and as long as it is `wanted`.
    pub(crate) fn take(
        name: &str,
        mode: u32,
        wanted: impl Fn() -> io::Result<bool>,
    ) -> io::Result<Option<NameLock>> {
        let start = Instant::now();
        while wanted()? {
            if let Some(lock) = NameLock::try_take(name, mode)? {
                return Ok(Some(lock));
            }
            if start.elapsed() > CLEAN_PATIENCE {
                break;
            }
            std::thread::sleep(LOCK_POLL);
        }
        Ok(None)
    }

    /// Replaces the lock of a keeper whose buffer we have taken over. The keeper's own lock dies with its file's name;
    /// who takes the new file's lock before us finds a live reader and drops it again.
    pub(crate) fn replace(name: &str, mode: u32) -> io::Result<NameLock> {
        stop_point!("adopt:lock-remove");
        os::remove(&lock_path(name))?;
        loop {
            if let Some(lock) = NameLock::try_take(name, mode)? {
                return Ok(lock);
            }
            std::thread::sleep(LOCK_POLL);
        }
    }

    /// Removes the lock file and drops the lock.
    pub(crate) fn remove(self) {
        stop_point!("lock:remove");
        if let Ok(id) = self.file.id()
            && let Err(error) = os::remove_if(&self.path, id)
        {
            log::warn!("cannot remove {}: {error}", self.path.display());
        }
    }
}

/// What stands under a name in shared memory.
pub(crate) enum Standing {
    Nothing,
    /// A reader lives that uses it, or may do so.
    Live(String),
    /// A process keeps it for a reader that comes later.
    Kept,
    /// Nobody will ever use it again.
    Stale(FileId),
    /// Not a buffer, as far as we can tell; not ours to remove.
    Alien(String),
}

/// Looks at what stands under `name`. The caller holds the name's lock, or only wants to report.
pub(crate) fn standing(name: &str) -> io::Result<Standing> {
    let segment = match os::Segment::open(name, false) {
        Ok(segment) => segment,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Standing::Nothing),
        Err(error) if os::is_alien_file(&error) => return Ok(Standing::Alien(error.to_string())),
        Err(error) => return Err(error),
    };
    let id = segment.id()?;
    let mut bytes = [0; OIEB_SIZE as usize];
    let read = segment.read_start(&mut bytes)?;
    let oieb = OiebCopy::parse(&bytes);
    if read < bytes.len() || (oieb.oieb_size == 0 && oieb.reader_pid == 0) {
        // Buffers of ours are complete before they have a name.
        let age = os::path_age(&os::segment_path(name)).unwrap_or_default();
        return Ok(if age < UNBORN_AGE {
            Standing::Live("another reader is just creating it".into())
        } else if has_semaphores(name) {
            Standing::Stale(id)
        } else {
            Standing::Alien("it holds no buffer, and has no semaphores".into())
        });
    }
    if liveness::is_kept(oieb.reader_word, &segment)? {
        return Ok(Standing::Kept);
    }
    let words = || {
        let mut bytes = [0; OIEB_SIZE as usize];
        segment.read_start(&mut bytes)?;
        let oieb = OiebCopy::parse(&bytes);
        Ok((oieb.reader_pid, oieb.reader_word))
    };
    if liveness::reader_state(words, &segment)? == ReaderState::Alive {
        return Ok(Standing::Live(format!("its reader lives (pid {})", oieb.reader_pid)));
    }
    if (oieb.oieb_size != OIEB_SIZE || oieb.version[0] != 1) && !has_semaphores(name) {
        return Ok(Standing::Alien("it does not look like a buffer, and has no semaphores".into()));
    }
    Ok(Standing::Stale(id))
}

fn has_semaphores(name: &str) -> bool {
    [write_semaphore(name), read_semaphore(name)]
        .iter()
        .any(|sem| matches!(os::path_id(&os::semaphore_path(sem)), Ok(Some(_))))
}

/// Removes the segment `id` and both semaphores of `name`. The caller holds the name's lock and knows them to be dead.
fn remove_stale(name: &str, id: FileId) -> io::Result<()> {
    stop_point!("clean:unlink-shm");
    os::remove_if(&os::segment_path(name), id)?;
    remove_semaphores(name)
}

fn remove_semaphores(name: &str) -> io::Result<()> {
    stop_point!("clean:unlink-sem-w");
    os::remove(&os::semaphore_path(&write_semaphore(name)))?;
    stop_point!("clean:unlink-sem-r");
    os::remove(&os::semaphore_path(&read_semaphore(name)))?;
    Ok(())
}

/// What became of a claim.
pub(crate) enum Claim {
    /// The name is ours, and nothing stands under it.
    Fresh(NameLock),
    /// A buffer stands there that is kept for a reader.
    Kept,
}

/// Takes the name for a new buffer: its lock, with everything stale removed.
pub(crate) fn claim(name: &str, mode: u32) -> Result<Claim> {
    let taken = |why: &str| {
        Error::new(
            ErrorKind::ReaderAlreadyConnected,
            name,
            format!("another reader has this buffer: {why}; close it first, or choose another name"),
        )
    };
    stop_point!("create:lock-dir");
    os::ensure_lock_dir()
        .map_err(|error| Error::os(name, &format!("make the directory {}", os::LOCK_DIR), error))?;
    let mut tries = 0;
    loop {
        let lock = NameLock::try_take(name, mode).map_err(|error| {
            Error::os(name, &format!("take the lock file {}", lock_path(name).display()), error)
        })?;
        let outcome = clear(name, lock.is_some());
        match (lock, outcome) {
            (Some(lock), Ok(Cleared::Free)) => return Ok(Claim::Fresh(lock)),
            (lock, outcome) => {
                // Who does not get the name leaves no lock file behind.
                if let Some(lock) = lock {
                    lock.remove();
                }
                match outcome? {
                    Cleared::Kept => return Ok(Claim::Kept),
                    Cleared::Live(why) => return Err(taken(&why)),
                    Cleared::Free | Cleared::Busy => {}
                }
            }
        }
        // Somebody is creating or cleaning: a matter of milliseconds.
        tries += 1;
        if tries > LOCK_TRIES {
            return Err(taken("its lock file is held"));
        }
        std::thread::sleep(LOCK_POLL);
    }
}

/// What a claimant found under a name.
enum Cleared {
    /// Nothing, or nothing any more.
    Free,
    Kept,
    Live(String),
    /// Not for us to say while another process holds the lock.
    Busy,
}

/// Removes what is stale under `name`, if its lock is held by us.
fn clear(name: &str, locked: bool) -> Result<Cleared> {
    let path = os::segment_path(name);
    let standing =
        standing(name).map_err(|error| Error::os(name, &format!("look at {}", path.display()), error))?;
    let cleaned = match standing {
        Standing::Live(why) => return Ok(Cleared::Live(why)),
        Standing::Kept => return Ok(Cleared::Kept),
        _ if !locked => return Ok(Cleared::Busy),
        Standing::Alien(why) => {
            let message =
                format!("{} is in the way: {why}; remove it by hand, or choose another name", path.display());
            return Err(Error::new(ErrorKind::IncompatibleProtocol, name, message));
        }
        Standing::Stale(id) => {
            log::info!("buffer `{name}`: removing what a dead reader left behind");
            remove_stale(name, id)
        }
        Standing::Nothing => remove_semaphores(name),
    };
    cleaned.map_err(|error| Error::os(name, "remove the files of a dead reader", error))?;
    Ok(Cleared::Free)
}

/// The files of one live buffer of ours, by identity, so that nobody else's are ever removed.
pub(crate) struct OwnedFiles {
    pub(crate) segment: FileId,
    pub(crate) write_semaphore: Option<FileId>,
    pub(crate) read_semaphore: Option<FileId>,
}

impl OwnedFiles {
    /// Removes the buffer's names as far as they are still ours. The segment first: a 1.x writer must not find it
    /// without semaphores.
    pub(crate) fn remove(&self, name: &str) {
        stop_point!("close:unlink-shm");
        log_failure(os::remove_if(&os::segment_path(name), self.segment));
        for (path, id) in self.semaphores(name) {
            stop_point!("close:unlink-sem");
            log_failure(os::remove_if(&path, id));
        }
    }

    fn semaphores(&self, name: &str) -> impl Iterator<Item = (PathBuf, FileId)> {
        [(write_semaphore(name), self.write_semaphore), (read_semaphore(name), self.read_semaphore)]
            .into_iter()
            .filter_map(|(sem, id)| Some((os::semaphore_path(&sem), id?)))
    }

    fn has_semaphores(&self, name: &str) -> io::Result<bool> {
        for (path, id) in self.semaphores(name) {
            if os::path_id(&path)? == Some(id) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn log_failure(result: io::Result<bool>) {
    if let Err(error) = result {
        log::warn!("cannot remove a file of a buffer: {error}");
    }
}

/// Removes what a reader that is gone, and that had `files`, left under `name`, if its lock can be had. Says whether
/// there was anything.
///
/// Whatever stands there by now instead of its files is somebody else's. A reader may have died half-way through its
/// own removal, so each file, and the lock file, may be left alone.
pub(crate) fn clean_after_reader(name: &str, files: &OwnedFiles) -> io::Result<bool> {
    let left = || {
        Ok(match os::path_id(&os::segment_path(name))? {
            Some(found) => found == files.segment,
            None => files.has_semaphores(name)? || os::path_id(&lock_path(name))?.is_some(),
        })
    };
    stop_point!("clean:lock");
    let Some(lock) = NameLock::take(name, 0o600, left)? else { return Ok(false) };
    let result = clean_locked(name, files);
    // Readers of ours and 1.x C++ and Python readers hold this lock as long as they live, so nobody needs the file.
    lock.remove();
    result
}

fn clean_locked(name: &str, files: &OwnedFiles) -> io::Result<bool> {
    match standing(name)? {
        Standing::Stale(found) if found == files.segment => {
            stop_point!("clean:own-shm");
            os::remove_if(&os::segment_path(name), found)?;
        }
        Standing::Nothing => {}
        _ => return Ok(false),
    }
    for (path, id) in files.semaphores(name) {
        stop_point!("clean:own-sem");
        os::remove_if(&path, id)?;
    }
    Ok(true)
}
