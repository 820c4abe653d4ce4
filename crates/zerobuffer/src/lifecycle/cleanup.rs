//! What dead processes left behind: finding it, saying why, and removing what is provably dead.
//!
//! A buffer whose reader ended in good order leaves nothing. One whose reader was killed leaves its files until a
//! writer of ours closes, a new reader takes the name, or somebody cleans. Everything here is judged again under the
//! lock of the name before it is removed, so a reader that comes back in between loses nothing.
//!
//! ```
//! for leftover in zerobuffer::cleanup::leftovers()? {
//!     match leftover.obstacle() {
//!         None => println!("`zerobuffer clean` would remove {}: {}", leftover.name(), leftover.cause()),
//!         Some(why) => println!("{} stays: {why}", leftover.name()),
//!     }
//! }
//! # Ok::<(), zerobuffer::Error>(())
//! ```

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::layout::{OIEB_SIZE, OiebCopy};
use crate::lifecycle::liveness::{self, WriterState, WriterWords};
use crate::lifecycle::registry::{self, NameLock, Standing};
use crate::os;
use crate::testing::stop::stop_point;

/// Semaphores without a segment may be those of a 1.x C# reader at work, whose lock is not where ours is.
const UNBORN_AGE: Duration = Duration::from_secs(10);

/// Files under one name that look as if dead processes had left them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    name: String,
    files: Vec<PathBuf>,
    /// Which files these were, but for the lock file: what stands in their place by now is somebody else's.
    ids: Vec<Option<os::FileId>>,
    bytes: u64,
    cause: String,
    obstacle: Option<String>,
}

impl Leftover {
    /// The buffer's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The files that are left.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Bytes of memory that they occupy.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What happened, as far as can be told.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// Why it is not removed; `None` if it is provably dead.
    pub fn obstacle(&self) -> Option<&str> {
        self.obstacle.as_deref()
    }

    /// Removes the files, if they are still there and still dead. Says whether it did.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if the files are another user's; `System`.
    pub fn remove(&self) -> Result<bool> {
        let name = self.name.as_str();
        let failed = |error: io::Error| removal_error(name, error);
        stop_point!("clean:lock-dir");
        os::ensure_lock_dir().map_err(failed)?;
        let had_lock_file = is_file(&registry::lock_path(name));
        let lock = NameLock::take(name, 0o600, || Ok(true)).map_err(failed)?;
        let Some(lock) = lock else { return Ok(false) };
        let removed = match examine(name, Lock::Ours { had_file: had_lock_file }) {
            Ok(Some(Leftover { obstacle: None, files, ids, .. })) => {
                remove_files(name, &files, &ids).map(|()| true)
            }
            Ok(_) => Ok(false),
            Err(error) => Err(error),
        };
        // What is not removed is left as it was found.
        if matches!(removed, Ok(true)) || !had_lock_file {
            lock.remove();
        }
        removed.map_err(failed)
    }
}

fn removal_error(name: &str, error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => Error::new(
            ErrorKind::PermissionDenied,
            name,
            format!(
                "cannot remove its files ({error}): they are another user's; clean as that user, or as root"
            ),
        ),
        _ => Error::os(name, "remove its files", error),
    }
}

/// Removes the files but for the lock file, which goes last, by whoever holds the lock. Only what was judged: the lock keeps
/// out neither 1.x C# readers nor those whose /tmp is another one.
fn remove_files(name: &str, files: &[PathBuf], ids: &[Option<os::FileId>]) -> io::Result<()> {
    let lock = registry::lock_path(name);
    for (path, id) in files.iter().zip(ids).filter(|(path, _)| **path != lock) {
        stop_point!("clean:unlink");
        if let Some(id) = *id {
            os::remove_if(path, id)?;
        }
    }
    Ok(())
}

/// Everything on this machine that looks left behind, in alphabetical order of the names. Live buffers and files that
/// are not ZeroBuffer's are never among them.
///
/// # Errors
///
/// `System`, `PermissionDenied` if `/dev/shm` cannot be read.
pub fn leftovers() -> Result<Vec<Leftover>> {
    let mut names = BTreeSet::new();
    let entries = os::shm_entries().map_err(|error| Error::os("*", "list the shared memory", error))?;
    for entry in entries {
        match entry.strip_prefix(os::SEM_FILE_PREFIX) {
            None => names.insert(entry),
            Some(sem) => match sem.strip_prefix("sem-w-").or_else(|| sem.strip_prefix("sem-r-")) {
                Some(name) => names.insert(name.to_owned()),
                None => continue,
            },
        };
    }
    // A missing directory of locks only means that there are none.
    for entry in std::fs::read_dir(os::LOCK_DIR).into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".lock")) {
            names.insert(name.to_owned());
        }
    }
    let mut found = Vec::new();
    for name in names.into_iter().filter(|name| registry::check_name(name).is_ok()) {
        match examine(&name, Lock::Unknown) {
            Ok(Some(leftover)) => found.push(leftover),
            Ok(None) => {}
            // Gone or changed while we looked, or not to be looked at at all.
            Err(error) => log::debug!("cannot judge what is left of `{name}`: {error}"),
        }
    }
    Ok(found)
}

/// What the caller knows of the name's lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    /// It is held by the caller; its file was there before, or not.
    Ours {
        had_file: bool,
    },
    Unknown,
}

/// Judges the files under `name`; `None` if nothing is left behind, or what is there is not ZeroBuffer's.
fn examine(name: &str, lock: Lock) -> io::Result<Option<Leftover>> {
    let lock_path = registry::lock_path(name);
    let semaphores: Vec<PathBuf> = [registry::write_semaphore(name), registry::read_semaphore(name)]
        .iter()
        .map(|semaphore| os::semaphore_path(semaphore))
        .filter(|path| is_semaphore(path))
        .collect();
    let mut files = semaphores.clone();
    let mut ids: Vec<Option<os::FileId>> =
        semaphores.iter().map(|path| os::path_id(path)).collect::<io::Result<_>>()?;
    let has_lock_file = match lock {
        Lock::Ours { had_file } => had_file,
        Lock::Unknown => is_file(&lock_path),
    };
    if has_lock_file {
        files.push(lock_path.clone());
        ids.push(None);
    }
    let leftover =
        |files: Vec<PathBuf>, ids: Vec<Option<os::FileId>>, cause: String, obstacle: Option<String>| {
            if files.is_empty() {
                return None;
            }
            let bytes = files.iter().map(|path| memory(path)).sum();
            Some(Leftover { name: name.to_owned(), files, ids, bytes, cause, obstacle })
        };

    let standing = match registry::standing(name) {
        Ok(standing) => standing,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
            // A file of that name need not be a buffer; beside semaphores or a lock file it is.
            let why = "it is another user's, and may not be looked at: ask as that user, or as root";
            return Ok(leftover(files, ids, "cannot be told".into(), Some(why.into())));
        }
        Err(error) => return Err(error),
    };
    let (cause, mut obstacle) = match standing {
        Standing::Live(_) | Standing::Kept => return Ok(None),
        Standing::Stale(id) => {
            // First: a 1.x writer must not find the segment without semaphores.
            files.insert(0, os::segment_path(name));
            ids.insert(0, Some(id));
            match live_writer(name)? {
                Some(pid) => {
                    let why = format!("its writer lives (pid {pid}) and cleans up when it closes");
                    ("its reader is gone".to_owned(), Some(why))
                }
                None => ("its reader is gone".to_owned(), None),
            }
        }
        Standing::Nothing | Standing::Alien(_) if !semaphores.is_empty() => {
            let age = semaphores.iter().filter_map(|path| modified_ago(path)).min().unwrap_or_default();
            let why = (age < UNBORN_AGE).then(|| {
                format!("made {:.1} s ago: a 1.x reader may be just creating the buffer", age.as_secs_f64())
            });
            ("semaphores without a buffer".to_owned(), why)
        }
        Standing::Nothing | Standing::Alien(_) => ("a lock file that nobody holds".to_owned(), None),
    };
    if lock == Lock::Unknown && has_lock_file {
        match is_locked(&lock_path) {
            // Nothing but the lock file: somebody is creating or cleaning.
            Ok(true) if files.len() == 1 => return Ok(None),
            Ok(true) => obstacle = obstacle.or(Some("a live process holds its lock file".into())),
            Ok(false) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
                let why = "its lock file is another user's: clean as that user, or as root";
                obstacle = obstacle.or(Some(why.into()));
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(leftover(files, ids, cause, obstacle))
}

/// The pid of a live writer of the segment `name`, if it has one.
fn live_writer(name: &str) -> io::Result<Option<u64>> {
    let segment = os::Segment::open(name, false)?;
    let words = || {
        let mut bytes = [0; OIEB_SIZE as usize];
        segment.read_start(&mut bytes)?;
        let oieb = OiebCopy::parse(&bytes);
        Ok(WriterWords::of(&oieb))
    };
    let state = liveness::writer_state(words, &segment)?;
    Ok(if matches!(state, WriterState::Alive(_)) { Some(words()?.shown_pid()) } else { None })
}

/// Whether somebody holds the lock file, and goes on holding it: who only looks, as we do, has it for some microseconds.
fn is_locked(path: &Path) -> io::Result<bool> {
    const TRIES: u32 = 10;
    const PAUSE: Duration = Duration::from_micros(200);
    let file = os::LockFile::open(path, None)?;
    for _ in 1..TRIES {
        if file.try_flock()? {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
    Ok(!file.try_flock()?)
}

/// Whether there is a regular file, rather than a link or something else.
fn is_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Whether `path` can be the file of a named semaphore.
fn is_semaphore(path: &Path) -> bool {
    std::fs::symlink_metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() == size_of::<libc::sem_t>() as u64)
}

/// Bytes of memory that the file occupies.
fn memory(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    // st_blocks counts units of 512 bytes, whatever the block size (stat(3type)).
    std::fs::symlink_metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}

fn modified_ago(path: &Path) -> Option<Duration> {
    let modified = std::fs::symlink_metadata(path).ok()?.modified().ok()?;
    Some(modified.elapsed().unwrap_or_default())
}
