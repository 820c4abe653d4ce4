//! Names, the files behind them, and the removal of what dead processes left.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::lifecycle::first_block::{self, FirstBlock};
use crate::lifecycle::liveness::{self, ReaderState};
use crate::lifecycle::locks::{self, LOCK_POLL, LOCK_TRIES, NameLock};
use crate::os::{self, Cause, FifoId, FileId, FileInfo, Folder, Found, Removal, SemaphoreFile};
use crate::testing::stop::stop_point;
use crate::wait::poll_until;

/// Longest name of a buffer, in bytes: NAME_MAX (255) less the longest prefix of its files, `sem.sem-w-`.
pub const MAX_NAME_LEN: usize = 255 - 10;

/// For this long, a segment without a first block may belong to a 1.x reader that is creating it, which takes
/// up to 0.4 s.
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
        return invalid("is that of a folder: choose another one");
    }
    if name.contains(['/', '\0']) {
        return invalid("contains `/` or a zero byte: leave it out");
    }
    if name.starts_with(os::SEM_FILE_PREFIX) {
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

/// Names of the files of both semaphores, the writer's first.
pub(super) fn semaphore_files(name: &str) -> [String; 2] {
    [write_semaphore(name), read_semaphore(name)].map(|sem| format!("{}{sem}", os::SEM_FILE_PREFIX))
}

/// Tells a user who lacks the rights to the files of buffer `name` how to get them.
pub(super) fn way_to_rights(name: &str) -> String {
    let shm = Folder::shared_memory();
    match shm.info(name) {
        Ok(Some(FileInfo { owner, mode, .. })) => format!(
            "the buffer belongs to user {owner} and has mode {mode:o}; ask that user to create it with a mode that lets \
             this one in (0660 for a common group, 0666 for everyone)"
        ),
        Ok(None) => format!(
            "this user may not make files in {}; as root, run `chmod 1777 {}`",
            shm.path_of("").display(),
            shm.path_of("").display()
        ),
        Err(_) => format!(
            "this user may not enter {}; as root, run `chmod 1777 {}`",
            shm.path_of("").display(),
            shm.path_of("").display()
        ),
    }
}

/// The error that a process with read permission only keeps others from taking a role.
pub(super) fn obstructed(name: &str) -> Error {
    let message = "a process that may only read the buffer holds a lock on its file, so no role can be taken: end that \
                   process (`lslocks` shows it), or create the buffer with a mode that lets no user only read";
    Error::new(ErrorKind::PermissionDenied, name, message)
}

/// What a name in shared memory leads to.
pub(crate) enum Standing {
    Nothing,
    /// A live reader uses it, or may use it.
    Live(String),
    /// Another process is making or removing it.
    Changing(String),
    /// A process keeps it for a reader that comes later.
    Kept,
    /// Files that are provably a buffer's and that no process will use again.
    Stale(Remains),
    /// Not known to be a buffer, and not to be removed.
    Alien(String),
}

/// The files of a buffer whose reader is gone, by identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Remains {
    pub(crate) segment: Option<FileId>,
    /// The writer's semaphore first.
    pub(crate) semaphores: [Option<FileId>; 2],
    /// The FIFOs that the segment names, the reader's first. They may be gone, or not be this buffer's.
    pub(crate) fifos: [Option<FifoId>; 2],
}

impl Remains {
    /// Removes each file that still has its identity. The segment goes first: a 1.x writer must not find it
    /// without semaphores. Returns false if another process is making or removing one of the files.
    pub(super) fn remove(&self, name: &str) -> io::Result<bool> {
        let shm = Folder::shared_memory();
        for id in self.fifos.into_iter().flatten() {
            stop_point!("clean:unlink-fifo");
            // Only one that no process holds, whatever the segment says. If it stays, the next clean-up finds it.
            log_failure(os::Fifo::remove_orphan(id));
        }
        if let Some(id) = self.segment {
            stop_point!("clean:unlink-shm");
            if shm.remove(name, id)? == Removal::Busy {
                return Ok(false);
            }
        }
        let mut all = true;
        for (file, id) in semaphore_files(name).iter().zip(self.semaphores) {
            stop_point!("clean:unlink-sem");
            if let Some(id) = id {
                all &= shm.remove(file, id)? != Removal::Busy;
            }
        }
        Ok(all)
    }
}

/// Finds out what `name` leads to, without changing it.
pub(crate) fn standing(name: &str) -> io::Result<Standing> {
    // The semaphores come first. A creator holds its lock on them until its segment has a name. So a
    // semaphore that is not locked now, and has no segment later, is a leftover.
    let semaphores = look_at_semaphores(name)?;
    let segment = match os::Segment::open(name, false) {
        Ok(segment) => segment,
        Err(error) if os::is_not_found(&error) => return Ok(without_segment(semaphores)),
        Err(error) if os::cause(&error) == Cause::Found(Found::Alien) => {
            return Ok(Standing::Alien(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    let info = segment.info()?;
    // A semaphore of the segment's owner that names the segment proves that it is a buffer's.
    let block = FirstBlock::read(&segment)?;
    let is_named =
        semaphores.iter().flatten().any(|sem| sem.segment == Some(info.id) && sem.info.owner == info.owner);
    let remains = Remains {
        segment: Some(info.id),
        // Another user's semaphores do not belong to this buffer, whatever their names.
        semaphores: semaphores.map(|sem| {
            sem.filter(|sem| is_semaphore(sem) && sem.info.owner == info.owner).map(|sem| sem.info.id)
        }),
        fifos: block.fifos(name, &segment)?,
    };
    if block.is_blank() {
        // The buffers of native peers are complete before they have a name.
        let age = info.changed_ago();
        return Ok(match is_named {
            true => Standing::Stale(remains),
            false if age < UNBORN_AGE => Standing::Changing(format!(
                "whose file {} was made {:.1} s ago and is still empty (remove it if no 1.x reader is creating it)",
                Folder::shared_memory().path_of(name).display(),
                age.as_secs_f64()
            )),
            false => Standing::Alien("it holds no buffer".into()),
        });
    }
    if liveness::is_kept(block.oieb.reader_word, &segment)? {
        return Ok(Standing::Kept);
    }
    if first_block::reader_state(&segment)? == ReaderState::Alive {
        return Ok(match block.oieb.reader_pid {
            0 => Standing::Changing("which its reader is closing".into()),
            pid => Standing::Live(format!("its reader lives (pid {pid})")),
        });
    }
    match is_named || block.geometry(name).is_ok() {
        true => Ok(Standing::Stale(remains)),
        false => Ok(Standing::Alien("it does not look like a buffer".into())),
    }
}

fn look_at_semaphores(name: &str) -> io::Result<[Option<SemaphoreFile>; 2]> {
    Ok([os::Semaphore::look(&write_semaphore(name))?, os::Semaphore::look(&read_semaphore(name))?])
}

/// Whether the file can be a semaphore of a native peer or a 1.x peer.
fn is_semaphore(file: &SemaphoreFile) -> bool {
    file.segment.is_some() || (file.info.is_file && file.info.len == os::SEM_FILE_LEN)
}

/// Judges semaphores that have no segment.
fn without_segment(semaphores: [Option<SemaphoreFile>; 2]) -> Standing {
    if semaphores.iter().flatten().any(|sem| sem.is_new) {
        return Standing::Changing("which it is creating or removing".into());
    }
    // Only a mark proves that a semaphore is a buffer's: any program can have a semaphore of that name.
    let marked = semaphores.map(|sem| sem.filter(|sem| sem.segment.is_some()).map(|sem| sem.info.id));
    match marked {
        [None, None] => Standing::Nothing,
        semaphores => Standing::Stale(Remains { semaphores, ..Remains::default() }),
    }
}

/// What the semaphores in the way of a creation are, where there is no segment.
enum InTheWay {
    Nothing,
    /// Two unmarked semaphores of this user, with exactly the names that the new buffer needs. 1.x readers
    /// leave such semaphores behind.
    Old(Remains),
    /// Another process is at work on the buffer.
    Native,
    /// A file that may be another program's, with the way out.
    Alien(String),
}

fn semaphores_in_the_way(name: &str) -> io::Result<InTheWay> {
    let semaphores = look_at_semaphores(name)?;
    if semaphores.iter().flatten().any(|sem| sem.segment.is_some()) {
        return Ok(InTheWay::Native);
    }
    if let [Some(first), Some(second)] = semaphores
        && [first, second].iter().all(|sem| is_semaphore(sem) && sem.info.owner == os::user())
    {
        let semaphores = [Some(first.info.id), Some(second.info.id)];
        return Ok(InTheWay::Old(Remains { semaphores, ..Remains::default() }));
    }
    let shm = Folder::shared_memory();
    let files = semaphore_files(name);
    Ok(match files.iter().zip(semaphores).find_map(|(file, sem)| Some((file, sem?))) {
        None => InTheWay::Nothing,
        Some((file, sem)) => InTheWay::Alien(format!(
            "{} is in the way: it belongs to user {}, and nothing shows that it is a buffer's; remove it by hand, or choose \
             another name",
            shm.path_of(file).display(),
            sem.info.owner
        )),
    })
}

/// Whether there are two semaphores that a 1.x reader may have left behind.
pub(super) fn has_old_semaphores(name: &str) -> io::Result<bool> {
    Ok(matches!(semaphores_in_the_way(name)?, InTheWay::Old(_)))
}

/// Outcome of a claim.
pub(crate) enum Claim {
    /// The name is the caller's, and leads to nothing.
    Fresh(NameLock),
    /// The name leads to a buffer that is kept for a reader.
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
    let folder = Folder::make_locks().map(Arc::new);
    let folder = folder.map_err(|error| Error::os_locks(name, "use the folder of lock files", error))?;
    let mut busy = String::new();
    let claim = poll_until(LOCK_TRIES, LOCK_POLL, || {
        let lock = NameLock::try_take(&folder, name, mode).map_err(|error| {
            let path = folder.path_of(&locks::file_name(name));
            Error::os_locks(name, &format!("take the lock file {}", path.display()), error)
        })?;
        let outcome = clear(name, lock.is_some());
        match (lock, outcome) {
            (Some(lock), Ok(Cleared::Free)) => Ok(Some(Claim::Fresh(lock))),
            (lock, outcome) => {
                // A process that does not get the name leaves no lock file behind.
                if let Some(lock) = lock {
                    lock.remove();
                }
                busy = match outcome? {
                    Cleared::Kept => return Ok(Some(Claim::Kept)),
                    Cleared::Live(why) => return Err(taken(&why)),
                    Cleared::Free => "whose lock file it holds".to_owned(),
                    Cleared::Busy(why) => why,
                };
                // Another process is creating or cleaning, which takes milliseconds.
                Ok(None)
            }
        }
    })?;
    claim.ok_or_else(|| {
        let message =
            format!("another process is at work on this buffer, {busy}: try again, or choose another name");
        Error::new(ErrorKind::ReaderAlreadyConnected, name, message)
    })
}

/// What a claimant found under a name.
enum Cleared {
    /// Nothing, or nothing any more.
    Free,
    Kept,
    Live(String),
    /// Another process is making or removing it.
    Busy(String),
}

/// Removes what is stale under `name`, if the caller holds its lock.
fn clear(name: &str, locked: bool) -> Result<Cleared> {
    let shm = Folder::shared_memory();
    let path = shm.path_of(name);
    let standing = standing(name).map_err(|error| {
        Error::os_denied(name, &format!("look at {}", path.display()), error, || way_to_rights(name))
    })?;
    let in_the_way = |what: String| Err(Error::new(ErrorKind::IncompatibleProtocol, name, what));
    let cleaned = match standing {
        Standing::Live(why) => return Ok(Cleared::Live(why)),
        Standing::Changing(why) => return Ok(Cleared::Busy(why)),
        Standing::Kept => return Ok(Cleared::Kept),
        _ if !locked => return Ok(Cleared::Busy("whose lock file it holds".into())),
        Standing::Alien(why) => {
            return in_the_way(format!(
                "{} is in the way: {why}; remove it by hand, or choose another name",
                path.display()
            ));
        }
        Standing::Stale(remains) => {
            log::info!("buffer `{name}`: removing what a dead reader left behind");
            log_failure(locks::remove_old(name));
            remains.remove(name)
        }
        Standing::Nothing => match semaphores_in_the_way(name) {
            Ok(InTheWay::Nothing) => Ok(true),
            Ok(InTheWay::Old(remains)) => remains.remove(name),
            Ok(InTheWay::Native) => Ok(false),
            Ok(InTheWay::Alien(obstacle)) => return in_the_way(obstacle),
            Err(error) => Err(error),
        },
    };
    let cleaned = cleaned.map_err(|error| {
        Error::os_denied(name, "remove the files of a dead reader", error, || {
            "they are another user's; run `zerobuffer clean` as that user or as root, or choose another name"
                .into()
        })
    })?;
    // A semaphore that did not belong to the removed segment is found only now.
    match semaphores_in_the_way(name) {
        Ok(InTheWay::Nothing) if cleaned => Ok(Cleared::Free),
        Ok(InTheWay::Alien(obstacle)) => in_the_way(obstacle),
        Ok(_) => Ok(Cleared::Busy("which it is creating or removing".into())),
        Err(error) => Err(Error::os(name, "look at its semaphores", error)),
    }
}

/// The files of one live buffer, by identity, so that no other buffer's files are removed.
pub(crate) struct OwnedFiles {
    pub(crate) segment: FileId,
    pub(crate) write_semaphore: Option<FileId>,
    pub(crate) read_semaphore: Option<FileId>,
}

impl OwnedFiles {
    /// Removes each name of the buffer that still leads to its file. The segment goes first: a 1.x writer
    /// must not find it without semaphores.
    pub(crate) fn remove(&self, name: &str) {
        let shm = Folder::shared_memory();
        stop_point!("close:unlink-shm");
        log_failure(shm.remove(name, self.segment));
        for (file, id) in self.semaphores(name) {
            stop_point!("close:unlink-sem");
            log_failure(shm.remove(&file, id));
        }
    }

    /// Whether the buffer's name leads to its segment.
    pub(crate) fn have_their_name(&self, name: &str) -> io::Result<bool> {
        Ok(Folder::shared_memory().info(name)?.map(|info| info.id) == Some(self.segment))
    }

    fn semaphores(&self, name: &str) -> impl Iterator<Item = (String, FileId)> {
        let ids = [self.write_semaphore, self.read_semaphore];
        semaphore_files(name).into_iter().zip(ids).filter_map(|(file, id)| Some((file, id?)))
    }

    fn has_semaphores(&self, name: &str) -> io::Result<bool> {
        let shm = Folder::shared_memory();
        for (file, id) in self.semaphores(name) {
            if shm.info(&file)?.map(|info| info.id) == Some(id) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn log_failure<T>(result: io::Result<T>) {
    if let Err(error) = result {
        log::warn!("cannot remove a file of a buffer: {error}");
    }
}

/// Removes the `files` that a dead reader left under `name`, if the name's lock is free. Returns whether
/// there were any.
///
/// If the name leads to other files by now, they are another reader's and stay. A reader may have died
/// half-way through its own removal, so any of its files, or only the lock file, may be left.
pub(crate) fn clean_after_reader(name: &str, files: &OwnedFiles) -> io::Result<bool> {
    let shm = Folder::shared_memory();
    let folder = Arc::new(Folder::make_locks()?);
    let lock_file = locks::file_name(name);
    let left = || {
        Ok(match shm.info(name)? {
            Some(found) => found.id == files.segment,
            None => files.has_semaphores(name)? || folder.info(&lock_file)?.is_some(),
        })
    };
    stop_point!("clean:lock");
    let Some(lock) = NameLock::take(&folder, name, left)? else { return Ok(false) };
    let result = clean_locked(name, files);
    // Native, 1.x C++ and 1.x Python readers hold this lock while they live, so no process needs the file.
    lock.remove();
    result
}

fn clean_locked(name: &str, files: &OwnedFiles) -> io::Result<bool> {
    let shm = Folder::shared_memory();
    let stale = match standing(name)? {
        Standing::Stale(remains) => remains.segment,
        Standing::Nothing => None,
        _ => return Ok(false),
    };
    match stale {
        Some(id) if id == files.segment => {
            stop_point!("clean:own-shm");
            shm.remove(name, id)?;
        }
        Some(_) => return Ok(false),
        None => {}
    }
    for (file, id) in files.semaphores(name) {
        stop_point!("clean:own-sem");
        shm.remove(&file, id)?;
    }
    log_failure(locks::remove_old(name));
    Ok(true)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_245_bytes() {
        assert!(check_name(&"n".repeat(MAX_NAME_LEN)).is_ok());
        assert_eq!(check_name(&"n".repeat(MAX_NAME_LEN + 1)).unwrap_err().kind(), ErrorKind::InvalidName);
    }

    #[test]
    fn files_that_a_reader_left_half_way_through_its_close_are_removed() {
        let name = format!("unit-half-way-{}", std::process::id());
        let shm = Folder::shared_memory();
        let [file, _] = semaphore_files(&name);
        // Kept, so that no other file gets its identity.
        let segment = os::Segment::create_unnamed(0o600).unwrap();
        let segment_id = segment.id().unwrap();
        let semaphore = os::Semaphore::create(&write_semaphore(&name), 0o600, segment_id).unwrap();
        let id = semaphore.id();
        let files = OwnedFiles { segment: segment_id, write_semaphore: Some(id), read_semaphore: None };
        assert!(matches!(shm.remove(&file, id), Ok(Removal::Busy)), "its creator is at work");
        drop(semaphore.finish());
        assert!(files.has_semaphores(&name).unwrap());
        let others = OwnedFiles { write_semaphore: Some(segment_id), ..files };
        assert!(!others.has_semaphores(&name).unwrap(), "that is another file");

        // The lock file of a 1.x C# reader.
        Folder::make_locks().unwrap();
        let old = Folder::lock_path("locks").join(locks::file_name(&name));
        std::fs::create_dir_all(Folder::lock_path("locks")).unwrap();
        std::fs::write(&old, "").unwrap();
        assert!(clean_after_reader(&name, &files).unwrap());
        assert!(shm.info(&file).unwrap().is_none() && !old.exists());
        assert!(!clean_after_reader(&name, &files).unwrap(), "nothing is left");
        // Fails while another test has a file there.
        let _ = std::fs::remove_dir(Folder::lock_path("locks"));
    }
}
