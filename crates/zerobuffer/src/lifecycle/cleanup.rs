//! Finds what dead processes left behind, says why it counts as that, and removes what is provably dead.
//!
//! A buffer whose reader closed it leaves nothing. If its reader was killed, its files stay until a native
//! writer closes, a new reader takes the name, or a clean-up runs. A clean-up judges everything again under
//! the lock of the name before it removes it, so a reader that comes back in between loses nothing. It
//! removes only what is provably a buffer's, and by identity, because the name may lead to another program's
//! file by then.
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
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::lifecycle::first_block;
use crate::lifecycle::locks::{self, NameLock};
use crate::lifecycle::registry::{self, Remains, Standing};
use crate::os::{self, FifoId, FileInfo, Folder};
use crate::testing::stop::stop_point;

/// Semaphores without a segment may belong to a 1.x C# reader that is creating its buffer. Its lock is
/// elsewhere, so they count as left behind only after this time.
const UNBORN_AGE: Duration = Duration::from_secs(10);

/// A FIFO of this age that no process holds is left behind.
const YOUNG_FIFO: Duration = Duration::from_secs(1);

/// Files under one name that look as if dead processes had left them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    name: String,
    files: Vec<PathBuf>,
    /// The identities of the files, except for the lock files.
    remains: Remains,
    bytes: u64,
    cause: String,
    obstacle: Option<String>,
}

impl Leftover {
    /// The buffer's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The files that were left behind.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Bytes of memory that they occupy.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What probably happened.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// Why `zerobuffer clean` does not remove it; `None` if it is provably dead.
    pub fn obstacle(&self) -> Option<&str> {
        self.obstacle.as_deref()
    }

    /// Removes the files, if they are still there and still dead. Returns whether it did.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` if the files are another user's, or the folder of lock files cannot be trusted; `System`.
    pub fn remove(&self) -> Result<bool> {
        let name = self.name.as_str();
        if let (Some(_), [Some(id), _]) = (fifo_number(name), self.remains.fifos) {
            stop_point!("clean:fifo");
            return os::Fifo::remove_orphan(id).map_err(|error| {
                Error::os_denied(name, "remove it", error, || {
                    "it is another user's; clean as that user, or as root".into()
                })
            });
        }
        let failed = |error: io::Error| {
            Error::os_denied(name, "remove its files", error, || {
                "they are another user's; clean as that user, or as root".into()
            })
        };
        stop_point!("clean:lock-dir");
        let folder = Folder::make_locks().map(Arc::new).map_err(failed)?;
        let had_lock_file = has_file(&folder, &locks::file_name(name));
        let lock = NameLock::take(&folder, name, || Ok(true)).map_err(failed)?;
        let Some(lock) = lock else { return Ok(false) };
        let removed = match examine(name, &folder, Lock::Ours { had_file: had_lock_file }) {
            Ok(Some(Leftover { obstacle: None, remains, .. })) => {
                locks::remove_old(name).and_then(|_| remains.remove(name))
            }
            Ok(_) => Ok(false),
            Err(error) => Err(error),
        };
        // Files that are not removed stay as they were found.
        if matches!(removed, Ok(true)) || !had_lock_file {
            lock.remove();
        }
        removed.map_err(failed)
    }
}

/// Everything on this machine that looks left behind, in alphabetical order of the names. This never includes
/// live buffers, or files that are not ZeroBuffer's.
///
/// # Errors
///
/// `System`; `PermissionDenied` if `/dev/shm` cannot be read, or the folder of lock files cannot be trusted.
pub fn leftovers() -> Result<Vec<Leftover>> {
    let shm = Folder::shared_memory();
    let failed = |error| Error::os("*", "list the shared memory", error);
    let failed_locks = |error| Error::os_locks("*", "list the lock files", error);
    let mut names = BTreeSet::new();
    let mut found = Vec::new();
    for entry in shm.names().map_err(failed)? {
        if let Some(number) = fifo_number(&entry) {
            found.extend(examine_fifo(&shm, entry, number).unwrap_or_default());
            continue;
        }
        match entry.strip_prefix(os::SEM_FILE_PREFIX) {
            None => names.insert(entry),
            Some(sem) => match sem.strip_prefix("sem-w-").or_else(|| sem.strip_prefix("sem-r-")) {
                Some(name) => names.insert(name.to_owned()),
                None => continue,
            },
        };
    }
    // A missing folder of locks only means that there are none.
    let locks = Folder::locks().map_err(failed_locks)?;
    if let Some(folder) = &locks {
        let old = locks::old_folder(folder).ok().flatten();
        for folder in [Some(folder), old.as_ref()].into_iter().flatten() {
            let files = folder.names().map_err(failed_locks)?;
            names.extend(files.iter().filter_map(|file| file.strip_suffix(".lock")).map(str::to_owned));
        }
    }
    for name in names.into_iter().filter(|name| registry::check_name(name).is_ok()) {
        match examine(&name, locks.as_ref().unwrap_or(&shm), Lock::Unknown) {
            Ok(Some(leftover)) => found.push(leftover),
            Ok(None) => {}
            // It has gone or changed meanwhile, or this user may not read it.
            Err(error) => log::debug!("cannot judge what is left of `{name}`: {error}"),
        }
    }
    Ok(found)
}

/// The number of the FIFO whose file has this name.
fn fifo_number(file: &str) -> Option<u64> {
    let number = u64::from_str_radix(file.strip_prefix(os::FIFO_FILE_PREFIX)?, 16).ok()?;
    (number != 0 && os::fifo_file(number) == file).then_some(number)
}

/// Judges the FIFO of a descriptor. Returns `None` if it is in use.
fn examine_fifo(shm: &Folder, file: String, number: u64) -> io::Result<Option<Leftover>> {
    let Some(info) = shm.info(&file)? else { return Ok(None) };
    let id = FifoId { number, inode: info.id.inode };
    if os::Fifo::look(id)?.is_none_or(|state| state.in_use) {
        return Ok(None);
    }
    // Its owner locks it just after it has made it.
    let age = info.changed_ago();
    let obstacle = (age < YOUNG_FIFO)
        .then(|| format!("made {:.1} s ago: a process may be about to use it", age.as_secs_f64()));
    Ok(Some(Leftover {
        files: vec![shm.path_of(&file)],
        name: file,
        remains: Remains { fifos: [Some(id), None], ..Remains::default() },
        bytes: info.memory,
        cause: "the process of this descriptor is gone".into(),
        obstacle,
    }))
}

/// What the caller knows about the name's lock.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    /// The caller holds it. `had_file` says whether its file was there before.
    Ours {
        had_file: bool,
    },
    Unknown,
}

/// Judges the files under `name`. Returns `None` if nothing is left behind, or if the files are not
/// ZeroBuffer's.
fn examine(name: &str, folder: &Folder, lock: Lock) -> io::Result<Option<Leftover>> {
    let shm = Folder::shared_memory();
    let mut files = Files::default();
    let lock_file = locks::file_name(name);
    let mut lock_files = Files::default();
    let has_lock_file = match lock {
        Lock::Ours { had_file } => had_file,
        Lock::Unknown => has_file(folder, &lock_file),
    };
    if has_lock_file {
        lock_files.add(folder, &lock_file)?;
    }
    let old_folder = locks::old_folder(folder).ok().flatten().filter(|old| has_file(old, &lock_file));
    if let Some(old) = &old_folder {
        lock_files.add(old, &lock_file)?;
    }
    let semaphores = registry::semaphore_files(name);
    let leftover = |mut files: Files, remains, cause: &str, obstacle: Option<String>| {
        files.paths.extend(lock_files.paths.iter().cloned());
        if files.paths.is_empty() {
            return None;
        }
        let (cause, bytes) = (cause.to_owned(), files.bytes + lock_files.bytes);
        Some(Leftover { name: name.to_owned(), files: files.paths, remains, bytes, cause, obstacle })
    };

    let standing = match registry::standing(name) {
        Ok(standing) => standing,
        Err(error) if os::is_denied(&error) => {
            // A file of that name need not be a buffer. Beside two semaphores or a lock file it is likely
            // one.
            for semaphore in &semaphores {
                files.add(&shm, semaphore)?;
            }
            let why = "it is another user's, and this user may not read it: run as that user, or as root";
            return Ok(leftover(files, Remains::default(), "cannot be told", Some(why.into())));
        }
        Err(error) => return Err(error),
    };
    let (remains, cause, mut obstacle) = match standing {
        Standing::Live(_) | Standing::Changing(_) | Standing::Kept => return Ok(None),
        Standing::Stale(remains) => {
            if remains.segment.is_some() {
                files.add(&shm, name)?;
            }
            for id in remains.fifos.into_iter().flatten() {
                if os::Fifo::look(id)?.is_some_and(|state| !state.in_use) {
                    files.add(&shm, &os::fifo_file(id.number))?;
                }
            }
            let mut youngest = Duration::MAX;
            for (semaphore, id) in semaphores.iter().zip(remains.semaphores) {
                if id.is_some()
                    && let Some(info) = files.add(&shm, semaphore)?
                {
                    youngest = youngest.min(info.modified_ago());
                }
            }
            if remains.segment.is_none() {
                let why = (youngest < UNBORN_AGE).then(|| {
                    let age = youngest.as_secs_f64();
                    format!("made {age:.1} s ago: a 1.x reader may be creating the buffer")
                });
                (remains, "semaphores without a buffer", why)
            } else {
                let writer = first_block::live_writer(&os::Segment::open(name, false)?)?;
                let why =
                    writer.map(|pid| format!("its writer lives (pid {pid}) and cleans up when it closes"));
                (remains, "its reader is gone", why)
            }
        }
        Standing::Nothing if registry::has_old_semaphores(name)? => {
            for semaphore in &semaphores {
                files.add(&shm, semaphore)?;
            }
            let why = "they may be another program's: a reader of that name and user replaces them, or remove them by hand";
            (Remains::default(), "semaphores without a buffer", Some(why.into()))
        }
        Standing::Nothing | Standing::Alien(_) => {
            (Remains::default(), "a lock file that no process holds", None)
        }
    };
    let held = [has_lock_file.then_some(folder).filter(|_| lock == Lock::Unknown), old_folder.as_ref()];
    for folder in held.into_iter().flatten() {
        match locks::is_held(folder, &lock_file) {
            // There is only the lock file: a process is creating or cleaning.
            Ok(true) if files.paths.is_empty() => return Ok(None),
            Ok(true) => obstacle = obstacle.or(Some("a live process holds its lock file".into())),
            Ok(false) => {}
            Err(error) if os::is_denied(&error) => {
                let why = "its lock file is another user's: clean as that user, or as root";
                obstacle = obstacle.or(Some(why.into()));
            }
            Err(error) if os::is_not_found(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(leftover(files, remains, cause, obstacle))
}

/// Files to be shown.
#[derive(Default)]
struct Files {
    paths: Vec<PathBuf>,
    bytes: u64,
}

impl Files {
    /// Adds a file, if it is there.
    fn add(&mut self, folder: &Folder, name: &str) -> io::Result<Option<FileInfo>> {
        let info = folder.info(name)?;
        if let Some(info) = &info {
            self.paths.push(folder.path_of(name));
            self.bytes += info.memory;
        }
        Ok(info)
    }
}

/// Whether there is a regular file, rather than a link or something else.
fn has_file(folder: &Folder, name: &str) -> bool {
    folder.info(name).is_ok_and(|info| info.is_some_and(|info| info.is_file))
}
