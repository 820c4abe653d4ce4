//! How a reader gets its buffer: it builds the buffer completely before the buffer has a name, or takes it
//! over from a keeper.

use crate::buffer::{Buffer, Side};
use crate::config::{BufferConfig, NumaNode};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{
    ExtensionWord, FRAME_HEADER, Geometry, KEEPER_ROLE_BYTE, OIEB_SIZE, READER_ROLE_BYTE, ReaderWord,
    TailWord, VERSION_1_0_0,
};
use crate::lifecycle::first_block::FirstBlock;
use crate::lifecycle::locks::{LOCK_POLL, LOCK_TRIES, NameLock, mode_without_mere_readers};
use crate::lifecycle::registry::{self, Claim, OwnedFiles};
use crate::memory::Memory;
use crate::memory::mapping::Mapping;
use crate::memory::reserve::Reserver;
use crate::os::{self, Attempt, Cause, FileInfo, NewSemaphore};
use crate::sync::Ordering;
use crate::testing::stop::stop_point;
use crate::wait::poll_until;

/// The parts of a reader.
pub(crate) struct Parts {
    pub(crate) buffer: Buffer,
    pub(crate) files: OwnedFiles,
    pub(crate) locks: Locks,
    pub(crate) reserver: Reserver,
}

/// The locks, which the kernel drops when the process ends.
pub(crate) struct Locks {
    pub(crate) name: NameLock,
    pub(crate) role: os::LockFile,
}

/// Whether the creator will read, or keeps the buffer for a reader.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Read,
    Keep,
}

/// Creates the buffer `name` for reading, or takes it over from its keeper.
pub(crate) fn reader(name: &str, config: &BufferConfig) -> Result<Parts> {
    registry::check_name(name)?;
    let geometry = config.geometry(name)?;
    let parts = poll_until(LOCK_TRIES, LOCK_POLL, || match registry::claim(name, config.mode)? {
        Claim::Fresh(lock) => build(name, config, geometry, Purpose::Read, lock).map(Some),
        // Nothing to take over: the keeper has just ended, or another reader was faster. The next claim() tells which.
        Claim::Kept => adopt(name, config),
    })?;
    parts.ok_or_else(|| {
        let message = "a kept buffer of this name can neither be taken over nor removed: end its keeper";
        Error::new(ErrorKind::ReaderAlreadyConnected, name, message)
    })
}

/// Creates the buffer `name` to be kept for a reader.
pub(crate) fn keeper(name: &str, config: &BufferConfig) -> Result<Parts> {
    registry::check_name(name)?;
    let geometry = config.geometry(name)?;
    match registry::claim(name, config.mode)? {
        Claim::Fresh(lock) => build(name, config, geometry, Purpose::Keep, lock),
        Claim::Kept => {
            let message = "another process keeps this buffer for a reader: end it, or choose another name";
            Err(Error::new(ErrorKind::ReaderAlreadyConnected, name, message))
        }
    }
}

fn build(
    name: &str,
    config: &BufferConfig,
    geometry: Geometry,
    purpose: Purpose,
    lock: NameLock,
) -> Result<Parts> {
    match build_files(name, config, geometry, purpose) {
        Ok((buffer, files, role, reserver)) => {
            Ok(Parts { buffer, files, locks: Locks { name: lock, role }, reserver })
        }
        Err(error) => {
            lock.remove();
            Err(error)
        }
    }
}

/// Builds the buffer completely before it has a name, so that no process sees a part of it.
fn build_files(
    name: &str,
    config: &BufferConfig,
    geometry: Geometry,
    purpose: Purpose,
) -> Result<(Buffer, OwnedFiles, os::LockFile, Reserver)> {
    let os_error = |doing: &'static str| move |error| Error::os(name, doing, error);
    let (total, size) = (geometry.total().unwrap_or(u64::MAX), geometry.file_size().unwrap_or(u64::MAX));
    stop_point!("create:segment");
    let segment = os::Segment::create_unnamed(config.mode).map_err(|error| {
        Error::os_denied(name, "make a file in /dev/shm", error, || registry::way_to_rights(name))
    })?;
    stop_point!("create:truncate");
    segment.set_len(size).map_err(os_error("make the shared memory as large as asked for"))?;
    if let Some(node) = config.numa_node {
        stop_point!("create:node");
        prefer_node(name, &segment, total, node)?;
    }
    if config.huge_pages {
        stop_point!("create:huge-pages");
        make_huge(name, &segment, total);
    }
    // This includes the first header, because every writer that connects looks at it.
    let reserve = if config.takes_all() { size } else { geometry.payload_offset() + FRAME_HEADER as u64 };
    stop_point!("create:reserve");
    segment.reserve(0, reserve).map_err(os_error("reserve shared memory"))?;
    // What the ring does not count as its own: the control block, or the bytes behind a classic ring.
    stop_point!("create:reserve-control");
    let (behind, len) =
        geometry.control.map_or((total, size - total), |control| (control, geometry.control_size()));
    segment.reserve(behind, len).map_err(os_error("reserve shared memory"))?;
    stop_point!("create:map");
    let mapping = Mapping::new(&segment, geometry, config.takes_all()).map_err(os_error("map the buffer"))?;
    if config.huge_pages {
        tell_huge_pages(name, &mapping);
    }

    // No other process sees the memory yet, so these are plain stores in any order. The link below publishes
    // them.
    let pid = std::process::id();
    let oieb = mapping.oieb();
    oieb.version.store(VERSION_1_0_0, Ordering::Relaxed);
    oieb.metadata_size.store(geometry.metadata_size, Ordering::Relaxed);
    oieb.metadata_free_bytes.store(geometry.metadata_size, Ordering::Relaxed);
    oieb.payload_size.store(geometry.payload_size, Ordering::Relaxed);
    oieb.payload_free_bytes.store(geometry.payload_size, Ordering::Relaxed);
    let (word, role_byte) = match purpose {
        Purpose::Read => (ReaderWord::new(pid), READER_ROLE_BYTE),
        Purpose::Keep => (ReaderWord::kept(pid), KEEPER_ROLE_BYTE),
    };
    oieb.reader_word.store(word.0, Ordering::Relaxed);
    oieb.tail_word.store(TailWord::settled(0).0, Ordering::Relaxed);
    let extension = geometry.control.map_or(ExtensionWord(0), ExtensionWord::new);
    let extension = if geometry.sharing { extension.with_sharing() } else { extension };
    oieb.extension.store(extension.0, Ordering::Relaxed);
    // A keeper takes no references; the reader that takes the buffer over decides.
    if let (Some(sharing), Purpose::Read) = (mapping.sharing(), purpose) {
        sharing.offer.payload_sharing_enabled.store(1, Ordering::Relaxed);
    }
    oieb.reader_pid.store(u64::from(pid), Ordering::Relaxed);
    oieb.oieb_size.store(OIEB_SIZE, Ordering::Release);

    stop_point!("create:role-open");
    let role = segment.role_file().map_err(os_error("open the buffer a second time"))?;
    stop_point!("create:role-lock");
    if !role.try_lock_role(role_byte).map_err(os_error("lock the reader's role"))? {
        return Err(Error::new(ErrorKind::System, name, "the role lock of a fresh file is held"));
    }

    // Both semaphores exist before the name: a 1.x writer that misses one fails, and leaves its pid.
    let mode = mode_without_mere_readers(config.mode);
    stop_point!("create:sem-w");
    let segment_id = segment.id().map_err(os_error("look at the buffer's file"))?;
    let make = |semaphore: String| {
        os::Semaphore::create(&semaphore, mode, segment_id).map_err(|error| match os::cause(&error) {
            // This process holds the name's lock, so only a process with another /tmp can have been faster.
            Cause::Exists => faster(name),
            _ => Error::os(name, "make a semaphore", error),
        })
    };
    let sem_w = make(registry::write_semaphore(name))?;
    let mut files =
        OwnedFiles { segment: segment_id, write_semaphore: Some(sem_w.id()), read_semaphore: None };
    let undo = |files: &OwnedFiles, turns: Vec<NewSemaphore>, error: Error| {
        drop(turns);
        files.remove(name);
        Err(error)
    };
    stop_point!("create:sem-r");
    let sem_r = match make(registry::read_semaphore(name)) {
        Ok(semaphore) => semaphore,
        Err(error) => return undo(&files, vec![sem_w], error),
    };
    files.read_semaphore = Some(sem_r.id());

    stop_point!("create:link");
    if let Err(error) = segment.link(name) {
        if os::cause(&error) == Cause::Exists {
            // A 1.x C# reader does not know the lock, so it can have been faster. It uses the semaphores that
            // it finds, so they stay.
            return Err(faster(name));
        }
        return undo(&files, vec![sem_w, sem_r], Error::os(name, "name the buffer", error));
    }
    let (sem_w, sem_r) = (sem_w.finish(), sem_r.finish());
    let buffer = Buffer::new(name, Side::Reader, mapping, sem_w, sem_r);
    Ok((buffer, files, role, Reserver::new(segment, geometry)))
}

/// Has the memory of the file made on a NUMA node.
fn prefer_node(name: &str, segment: &os::Segment, total: u64, node: NumaNode) -> Result<()> {
    let number = if let NumaNode::Number(number) = node { Some(number) } else { None };
    segment.prefer_node(usize::try_from(total).unwrap_or(usize::MAX), number).map_err(|error| {
        let message =
            format!("numa_node {node:?}: {error}; `zerobuffer doctor` tells the nodes of this machine");
        Error::new(ErrorKind::InvalidConfig, name, message)
    })
}

/// Makes the memory of the file in huge pages. A buffer without them works, and one without memory fails where that is reserved.
fn make_huge(name: &str, segment: &os::Segment, total: u64) {
    if let Err(error) = segment.make_huge(usize::try_from(total).unwrap_or(usize::MAX)) {
        log::warn!("buffer `{name}`: the kernel gives no huge pages, or not enough: {error}");
    }
}

/// Says what the buffer got.
fn tell_huge_pages(name: &str, mapping: &Mapping) {
    match mapping.huge_bytes() {
        Ok((huge, all)) => log::info!("buffer `{name}`: {huge} of {all} bytes are in huge pages"),
        Err(error) => log::info!("buffer `{name}`: the system does not tell what is in huge pages: {error}"),
    }
}

/// The error that another reader has just created the buffer.
fn faster(name: &str) -> Error {
    let message =
        "another reader has just created this buffer: choose another name, or end that reader first";
    Error::new(ErrorKind::ReaderAlreadyConnected, name, message)
}

/// Takes over a kept buffer. Returns `None` if it is no longer there to be taken.
///
/// Every step that can fail comes before the store that makes this process the reader, so a failure leaves
/// the buffer kept.
fn adopt(name: &str, config: &BufferConfig) -> Result<Option<Parts>> {
    let os_error = |doing: &'static str| move |error| Error::os(name, doing, error);
    stop_point!("adopt:open");
    let segment = match os::Segment::open(name, true) {
        Ok(segment) => segment,
        Err(error) if os::is_not_found(&error) => return Ok(None),
        Err(error) => {
            return Err(Error::os_denied(name, "open the kept buffer", error, || {
                registry::way_to_rights(name)
            }));
        }
    };
    let info = segment.info().map_err(os_error("look at the buffer's file"))?;
    check_trust(name, config, "the buffer", &info)?;
    let block = FirstBlock::read(&segment).map_err(os_error("read the buffer's first block"))?;
    let geometry = block.geometry(name)?;
    check_sizes(name, config, geometry)?;

    stop_point!("adopt:sem-open");
    let opened = os::Semaphore::open(&registry::write_semaphore(name))
        .and_then(|sem_w| Ok((sem_w, os::Semaphore::open(&registry::read_semaphore(name))?)));
    let ((sem_w, sem_w_info), (sem_r, sem_r_info)) = match opened {
        Ok(semaphores) => semaphores,
        Err(error) if os::is_not_found(&error) => return Ok(None),
        Err(error) => {
            return Err(Error::os_denied(name, "open the buffer's semaphores", error, || {
                registry::way_to_rights(name)
            }));
        }
    };
    for info in [&sem_w_info, &sem_r_info] {
        check_trust(name, config, "a semaphore of the buffer", info)?;
    }
    let files = OwnedFiles {
        segment: info.id,
        write_semaphore: Some(sem_w_info.id),
        read_semaphore: Some(sem_r_info.id),
    };
    if config.huge_pages {
        stop_point!("adopt:huge-pages");
        make_huge(name, &segment, geometry.total().unwrap_or(u64::MAX));
    }
    // An honest keeper has reserved these bytes. If their memory is missing, the first access raises SIGBUS.
    let reserve = if config.takes_all() { geometry.total() } else { Some(u64::from(OIEB_SIZE)) };
    segment.reserve(0, reserve.unwrap_or(u64::MAX)).map_err(os_error("reserve shared memory"))?;
    if let Some(control) = geometry.control {
        segment.reserve(control, geometry.control_size()).map_err(os_error("reserve shared memory"))?;
    }
    stop_point!("adopt:map");
    let mapping = Mapping::new(&segment, geometry, config.takes_all()).map_err(os_error("map the buffer"))?;
    if config.huge_pages {
        tell_huge_pages(name, &mapping);
    }
    stop_point!("adopt:role-open");
    let role = segment.role_file().map_err(os_error("open the buffer a second time"))?;
    // The role comes before the word, so that the keeper's writer sees a live reader all the time.
    stop_point!("adopt:role-lock");
    match role.attempt_role(READER_ROLE_BYTE).map_err(os_error("lock the reader's role"))? {
        Attempt::Locked => {}
        Attempt::Held => return Ok(None),
        Attempt::Obstructed => return Err(registry::obstructed(name)),
    }
    let buffer = Buffer::new(name, Side::Reader, mapping, sem_w, sem_r);
    let oieb = buffer.mapping.oieb();
    let keeper = ReaderWord(oieb.reader_word.load(Ordering::Acquire));
    if !keeper.is_kept() {
        return Ok(None);
    }
    let name_lock = NameLock::replace(name, config.mode)
        .map_err(|error| Error::os_locks(name, "replace the lock file of the buffer's keeper", error))?;
    let Some(name_lock) = name_lock else {
        let message = format!(
            "it is kept for a reader, and another process holds its lock file {}: end that process, or try again",
            os::Folder::lock_path(&format!("{name}.lock")).display()
        );
        return Err(Error::new(ErrorKind::ReaderAlreadyConnected, name, message));
    };
    let pid = std::process::id();
    stop_point!("adopt:reader-word");
    // The keeper clears the bit by compare-and-swap too when it ends (KeptBuffer::close), so only one side
    // succeeds.
    let adopted = oieb.reader_word.compare_exchange(
        keeper.0,
        ReaderWord::new(pid).0,
        Ordering::AcqRel,
        Ordering::Relaxed,
    );
    if adopted.is_err() {
        name_lock.remove();
        return Ok(None);
    }
    if let Some(sharing) = buffer.mapping.sharing().filter(|_| config.sharing) {
        stop_point!("adopt:sharing");
        // Relaxed: this buffer's frames are lent only after its reader has read them.
        sharing.offer.payload_sharing_enabled.store(1, Ordering::Relaxed);
    }
    stop_point!("adopt:reader-pid");
    oieb.reader_pid.store(u64::from(pid), Ordering::Release);
    if buffer.mapping.is_extended() {
        // A writer that waits for space has another reader now, and shall watch that one.
        stop_point!("adopt:ring-writer");
        buffer.rouse_peer();
    }
    let reserver = Reserver::new(segment, geometry);
    Ok(Some(Parts { buffer, files, locks: Locks { name: name_lock, role }, reserver }))
}

/// Refuses a kept buffer whose files belong to a user other than this one and root, or whose mode is wider
/// than the config's. Such users could read the frames or truncate the files.
fn check_trust(name: &str, config: &BufferConfig, what: &str, info: &FileInfo) -> Result<()> {
    if ![os::user(), 0].contains(&info.owner) {
        let message = format!(
            "{what} is kept by user {}, and only a buffer of one's own or of root's is taken over: choose another name, or \
             have that user end its keeper",
            info.owner
        );
        return Err(Error::new(ErrorKind::PermissionDenied, name, message));
    }
    if info.mode & !config.mode != 0 {
        let message = format!(
            "{what} is kept with mode {:#o}, which lets more users in than {:#o}, the mode asked for: ask for that mode to \
             take it over",
            info.mode, config.mode
        );
        return Err(Error::new(ErrorKind::InvalidConfig, name, message));
    }
    Ok(())
}

/// Keeps the sizes of a kept buffer, and refuses a config that asks for others.
fn check_sizes(name: &str, config: &BufferConfig, geometry: Geometry) -> Result<()> {
    let wanted = config.geometry(name)?;
    for (what, asked, wanted, found) in [
        ("metadata_size", config.metadata_size, wanted.metadata_size, geometry.metadata_size),
        ("payload_size", config.payload_size, wanted.payload_size, geometry.payload_size),
    ] {
        // A relay keeps a buffer as large as its source, whatever the reader will ask for.
        let suits = if geometry.sharing { wanted <= found } else { wanted == found };
        if asked.is_some() && !suits {
            let message = format!(
                "it is kept by another process with a {what} of {found}, {wanted} was asked for: leave the size open \
                 to take it over"
            );
            return Err(Error::new(ErrorKind::InvalidConfig, name, message));
        }
    }
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::kept::KeptBuffer;

    #[test]
    fn a_buffer_that_its_keeper_is_just_giving_up_is_not_taken_over() {
        let name = format!("unit-adopt-{}", std::process::id());
        let config = BufferConfig::default().payload_size(4096);
        let kept = KeptBuffer::create(&name, config.clone()).unwrap();
        let segment = os::Segment::open(&name, true).unwrap();
        let mapping = Mapping::new(&segment, config.geometry(&name).unwrap(), false).unwrap();
        let word = &mapping.oieb().reader_word;
        let before = word.swap(ReaderWord::new(std::process::id()).0, Ordering::SeqCst);
        assert!(adopt(&name, &config).unwrap().is_none());
        word.store(before, Ordering::SeqCst);
        assert!(!kept.close().unwrap(), "no reader has it");
    }
}
