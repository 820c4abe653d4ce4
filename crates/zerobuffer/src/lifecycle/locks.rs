//! The lock on a name: the file `NAME.lock` that readers hold locked while they live.
//!
//! 1.x readers check nothing else, so native readers hold it too. Between native peers it only saves work:
//! they judge a buffer by its segment, and remove each file under a lock on that file (`os::Folder::remove`).
//! So neither a peer with another `/tmp` nor a user who holds lock files can cause the removal of a live
//! buffer's files.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::os::{self, Folder};
use crate::testing::stop::stop_point;
use crate::wait::poll_until;

/// How often a creation looks for a lock whose holder has no live buffer, but is cleaning up or creating one: for 2 s.
pub(super) const LOCK_TRIES: u32 = 2000;
pub(super) const LOCK_POLL: Duration = Duration::from_millis(1);

/// How often a clean-up looks for a lock: tools hold it for microseconds, only to see whether it is free.
const CLEAN_TRIES: u32 = 50;

/// The folder inside that of lock files in which 1.x C# readers keep their lock files.
const OLD_FOLDER: &str = "locks";

/// Name of the lock file of buffer `name`.
pub(super) fn file_name(name: &str) -> String {
    format!("{name}.lock")
}

/// The mode of a lock file or semaphore of a buffer of `mode`. Users who may only read the buffer get no
/// rights: they need neither file, and could hold locks on it.
pub(crate) fn mode_without_mere_readers(mode: u32) -> u32 {
    [(0o600, 0o700), (0o060, 0o070), (0o006, 0o007)]
        .iter()
        .filter(|(both, _)| mode & both == *both)
        .map(|(_, all)| mode & all)
        .sum()
}

/// The lock on a name: its holder may create and remove the buffer's files.
pub(crate) struct NameLock {
    file: os::LockFile,
    folder: Arc<Folder>,
    file_name: String,
}

impl NameLock {
    /// Takes the lock on `name` if it is free.
    pub(super) fn try_take(folder: &Arc<Folder>, name: &str, mode: u32) -> io::Result<Option<NameLock>> {
        let file_name = file_name(name);
        for _ in 0..LOCK_TRIES {
            stop_point!("lock:open");
            let file = match os::LockFile::open(folder, &file_name, Some(mode_without_mere_readers(mode))) {
                // Another process made it between the two attempts to open it.
                Err(error) if os::cause(&error) == os::Cause::Exists => continue,
                result => result?,
            };
            stop_point!("lock:flock");
            if !file.try_flock()? {
                return Ok(None);
            }
            // Its last holder may have removed the file between the open and the lock. Then the lock excludes
            // no other process.
            if folder.info(&file_name)?.map(|info| info.id) == Some(file.id()?) {
                return Ok(Some(NameLock { file, folder: Arc::clone(folder), file_name }));
            }
        }
        Ok(None)
    }

    /// Takes the lock on `name`. While it is `wanted`, waits for about as long as another process needs to
    /// look at it.
    pub(super) fn take(
        folder: &Arc<Folder>,
        name: &str,
        wanted: impl Fn() -> io::Result<bool>,
    ) -> io::Result<Option<NameLock>> {
        let lock = poll_until(CLEAN_TRIES, LOCK_POLL, || {
            Ok::<_, io::Error>(match wanted()? {
                true => NameLock::try_take(folder, name, 0o600)?.map(Some),
                false => Some(None),
            })
        });
        Ok(lock?.flatten())
    }

    /// Replaces the lock of a keeper whose buffer is to be taken over; returns `None` if another process
    /// holds the new lock for too long. The keeper's lock loses its meaning with its file's name. Another
    /// process that takes the new lock first finds a live reader and drops the lock again.
    pub(super) fn replace(name: &str, mode: u32) -> io::Result<Option<NameLock>> {
        let folder = Arc::new(Folder::make_locks()?);
        let file_name = file_name(name);
        stop_point!("adopt:lock-remove");
        if let Some(info) = folder.info(&file_name)? {
            folder.remove_now(&file_name, info.id)?;
        }
        poll_until(LOCK_TRIES, LOCK_POLL, || NameLock::try_take(&folder, name, mode))
    }

    /// Removes the lock file and drops the lock.
    pub(crate) fn remove(self) {
        stop_point!("lock:remove");
        if let Ok(id) = self.file.id()
            && let Err(error) = self.folder.remove_now(&self.file_name, id)
        {
            log::warn!("cannot remove {}: {error}", self.folder.path_of(&self.file_name).display());
        }
    }
}

/// Whether a process holds the lock file and keeps it; a process that only looks, like this one, holds it for
/// some microseconds. Fails if the file is not there, or may not be opened.
pub(super) fn is_held(folder: &Folder, file_name: &str) -> io::Result<bool> {
    const TRIES: u32 = 10;
    const PAUSE: Duration = Duration::from_micros(200);
    let file = os::LockFile::open(folder, file_name, None)?;
    let free = poll_until(TRIES, PAUSE, || file.try_flock().map(|locked| locked.then_some(())));
    Ok(free?.is_none())
}

/// The folder of the lock files of 1.x C# readers.
pub(super) fn old_folder(folder: &Folder) -> io::Result<Option<Folder>> {
    folder.folder(OLD_FOLDER)
}

/// Removes the lock file that a 1.x C# reader of `name` left behind, if no process holds it.
pub(super) fn remove_old(name: &str) -> io::Result<bool> {
    let Some(folder) = Folder::locks()? else { return Ok(false) };
    let Some(folder) = old_folder(&folder)? else { return Ok(false) };
    let file = match os::LockFile::open(&folder, &file_name(name), None) {
        Err(error) if os::is_not_found(&error) => return Ok(false),
        result => result?,
    };
    if !file.try_flock()? {
        return Ok(false);
    }
    Ok(folder.remove_now(&file_name(name), file.id()?)? == os::Removal::Removed)
}

#[cfg(test)]
mod tests {
    #[test]
    fn lock_files_are_for_those_who_may_write() {
        for (mode, expected) in
            [(0o600, 0o600), (0o640, 0o600), (0o644, 0o600), (0o664, 0o660), (0o666, 0o666)]
        {
            assert_eq!(super::mode_without_mere_readers(mode), expected, "{mode:o}");
        }
        assert_eq!(super::mode_without_mere_readers(0o777), 0o777);
    }
}
