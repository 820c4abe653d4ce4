//! How a writer connects: it finds the buffer, checks it, takes the writer's role, and finds the position to
//! continue at.

use std::time::{Duration, Instant};

use crate::buffer::{Buffer, Side};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{OIEB_SIZE, WRITER_ROLE_BYTE, WriterWord};
use crate::lifecycle::first_block::FirstBlock;
use crate::lifecycle::liveness::{self, ReaderState, WriterWords};
use crate::lifecycle::registry::{self, OwnedFiles};
use crate::memory::mapping::Mapping;
use crate::os;
use crate::ring::entry::{self, Entry};
use crate::ring::{FaultKind, RingFault, WriteRing};
use crate::sync::Ordering;
use crate::testing::stop::stop_point;
use crate::wait::Deadline;

/// Pause between two attempts to connect.
const CONNECT_POLL: Duration = Duration::from_millis(2);

/// How long a connecting writer waits for a reader that is between two stores, or that must look first.
const RECOVER_LIMIT: Duration = Duration::from_secs(1);

/// The parts of a writer.
pub(crate) struct Connection {
    pub(crate) buffer: Buffer,
    pub(crate) segment: os::Segment,
    /// The reader's files.
    pub(crate) files: OwnedFiles,
    pub(crate) role: os::LockFile,
    pub(crate) ring: WriteRing,
}

/// Outcome of one attempt: connected, or an error that may pass with time.
enum Attempt {
    Connected(Box<Connection>),
    Later(Error),
    /// An error that passes as soon as the reader looks.
    Soon(Error),
}

/// Connects to the buffer `name`, waiting up to `timeout` for its reader.
pub(crate) fn connect(name: &str, timeout: Duration) -> Result<Connection> {
    registry::check_name(name)?;
    let (later, soon) = (Deadline::after(timeout), Deadline::after(timeout.max(RECOVER_LIMIT)));
    loop {
        let (error, deadline) = match attempt(name)? {
            Attempt::Connected(connection) => return Ok(*connection),
            Attempt::Later(error) => (error, &later),
            Attempt::Soon(error) => (error, &soon),
        };
        if !deadline.pause(CONNECT_POLL) {
            return Err(error);
        }
    }
}

fn attempt(name: &str) -> Result<Attempt> {
    let os_error = |doing: &'static str| move |error| Error::os(name, doing, error);
    let not_found = |why: &str| {
        let message =
            format!("{why}: start the reader first, or give the writer a connect time-out to wait for it");
        Ok(Attempt::Later(Error::new(ErrorKind::BufferNotFound, name, message)))
    };
    let denied = |doing: &'static str| {
        move |error| Error::os_denied(name, doing, error, || registry::way_to_rights(name))
    };
    stop_point!("connect:open");
    let segment = match os::Segment::open(name, true) {
        Ok(segment) => segment,
        Err(error) if os::is_not_found(&error) => return not_found("no reader has created it"),
        Err(error) => return Err(denied("open the buffer")(error)),
    };
    let first_block = || FirstBlock::read(&segment).map_err(os_error("read the buffer's first block"));
    let unfinished = "its reader has not finished creating it";
    let block = first_block()?;
    if block.is_blank() || block.oieb.oieb_size == 0 {
        return not_found(unfinished);
    }
    let oieb = block.oieb;
    let geometry = match block.geometry(name) {
        Ok(geometry) => geometry,
        // A 1.x reader fills in its first block word by word, after the buffer has its name.
        Err(_) if !oieb.reader_word.is_ours() && (oieb.reader_pid == 0 || first_block()?.oieb != oieb) => {
            return not_found(unfinished);
        }
        Err(error) => return Err(error),
    };
    let info = segment.info().map_err(os_error("look at the buffer's file"))?;

    stop_point!("connect:sem-open");
    let opened = os::Semaphore::open(&registry::write_semaphore(name))
        .and_then(|sem_w| Ok((sem_w, os::Semaphore::open(&registry::read_semaphore(name))?)));
    let ((sem_w, sem_w_info), (sem_r, sem_r_info)) = match opened {
        Ok(semaphores) => semaphores,
        Err(error) if os::is_not_found(&error) => {
            return not_found("its semaphores are missing, so its reader is closing it");
        }
        Err(error) => return Err(denied("open the buffer's semaphores")(error)),
    };
    stop_point!("connect:same-name");
    // If the name leads to this segment before and after the semaphores are opened, they belong to this
    // segment.
    let files = OwnedFiles {
        segment: info.id,
        write_semaphore: Some(sem_w_info.id),
        read_semaphore: Some(sem_r_info.id),
    };
    if !files.have_their_name(name).map_err(os_error("look at the buffer's file"))? {
        return not_found("it has just been removed");
    }
    // A semaphore's owner can truncate its file, which would end this process with SIGBUS.
    for semaphore in [&sem_w_info, &sem_r_info] {
        if ![info.owner, os::user(), 0].contains(&semaphore.owner) {
            let message = format!(
                "one of its semaphores belongs to user {}, who has no part in this buffer of user {}: as root, or as that \
                 user, remove it, and create the buffer again",
                semaphore.owner, info.owner
            );
            return Err(Error::new(ErrorKind::PermissionDenied, name, message));
        }
    }
    // A 1.x reader makes the semaphores last, so its first block is complete from here on.
    let now = first_block()?.oieb;
    if (now.metadata_size, now.payload_size) != (geometry.metadata_size, geometry.payload_size) {
        return not_found(unfinished);
    }
    // An honest reader has reserved these bytes. If their memory is missing, the first access raises SIGBUS.
    segment.reserve(0, OIEB_SIZE.into()).map_err(os_error("reserve shared memory"))?;
    if let Some(control) = geometry.control {
        segment.reserve(control, geometry.control_size()).map_err(os_error("reserve shared memory"))?;
    }

    stop_point!("connect:map");
    let mapping = Mapping::new(&segment, geometry, false).map_err(os_error("map the buffer"))?;
    stop_point!("connect:role-open");
    let role = segment.role_file().map_err(os_error("open the buffer a second time"))?;
    let words = || Ok(liveness::reader_words(mapping.oieb()));
    match liveness::reader_state(words, &role).map_err(os_error("test the reader's role lock"))? {
        ReaderState::Alive => {}
        ReaderState::Closed => return not_found("its reader has closed it"),
        ReaderState::Dead => {
            let message = format!("its reader (pid {}) has died: start a new reader", oieb.reader_pid);
            return Ok(Attempt::Later(Error::new(ErrorKind::ReaderDead, name, message)));
        }
    }

    let taken = |who: &str| {
        let message = format!(
            "{who} is connected: end it first, or use another buffer (each has one writer at a time)"
        );
        Error::new(ErrorKind::WriterAlreadyConnected, name, message)
    };
    stop_point!("connect:role-lock");
    // The reader takes the writer's role for a moment while it ends an unfinished entry.
    let entering = entry::word(&mapping).is_entering();
    let attempt = role.attempt_role(WRITER_ROLE_BYTE).map_err(os_error("lock the writer's role"))?;
    if attempt == os::Attempt::Obstructed {
        return Err(registry::obstructed(name));
    }
    if attempt == os::Attempt::Held {
        let error = match WriterWords::load(mapping.oieb()).shown_pid() {
            0 => taken("another writer"),
            pid => taken(&format!("another writer (pid {pid})")),
        };
        return if entering { Ok(Attempt::Soon(error)) } else { Err(error) };
    }
    let ring = if mapping.is_extended() {
        join_extended(name, &mapping)?
    } else {
        match join_classic(name, &mapping)? {
            Joined::Ring(ring) => ring,
            Joined::Foreign(pid) => return Err(taken(&format!("a 1.x writer (pid {pid})"))),
            Joined::Later => {
                let message = "a writer died just while it connected, and the reader, which has not looked at the \
                               buffer since, has to put that right; let it read, then connect again";
                return Ok(Attempt::Soon(Error::new(ErrorKind::InvalidState, name, message)));
            }
        }
    };
    let reader_is_ours = liveness::reader_words(mapping.oieb()).1.is_ours();
    let buffer = Buffer::new(name, Side::Writer, mapping, sem_w, sem_r);
    ring.announce(&buffer, reader_is_ours);
    Ok(Attempt::Connected(Box::new(Connection { buffer, segment, files, role, ring })))
}

/// Outcome of joining a ring that is not extended yet.
enum Joined {
    Ring(WriteRing),
    /// A 1.x writer with this pid is connected.
    Foreign(u64),
    /// The reader must look first.
    Later,
}

/// Takes the writer's place in an extended ring. Its writers are native, whatever pid `writer_pid` shows.
fn join_extended(name: &str, mapping: &Mapping) -> Result<WriteRing> {
    let oieb = mapping.oieb();
    let last = WriterWords::load(oieb).word;
    let died = last.epoch() != 0 && !last.is_closed();
    let word = last.next(std::process::id(), died);
    let ring = WriteRing::join_extended(mapping, word).map_err(|fault| fault_error(name, fault))?;
    stop_point!("connect:writer-word");
    // Release pairs with the Acquire load in WriterWords::load.
    oieb.writer_word.store(word.0, Ordering::Release);
    show_taken(mapping);
    Ok(ring)
}

/// Shows 1.x writers a writer that lives as long as the buffer does: its reader.
fn show_taken(mapping: &Mapping) {
    let oieb = mapping.oieb();
    let (reader, _) = liveness::reader_words(oieb);
    let shown = oieb.writer_pid.load(Ordering::Relaxed);
    stop_point!("connect:show-taken");
    // A 1.x writer that stores its pid meanwhile keeps it there. It finds no space in any case.
    let _ = oieb.writer_pid.compare_exchange(shown, reader, Ordering::AcqRel, Ordering::Relaxed);
}

/// Takes the writer's place, and makes the ring extended where that is possible. The caller holds the role
/// lock.
fn join_classic(name: &str, mapping: &Mapping) -> Result<Joined> {
    let oieb = mapping.oieb();
    let last = WriterWords::load(oieb);
    // The role lock is held here, so the pid of another native writer is that of a dead one.
    let last_is_foreign = last.pid != 0 && !last.is_ours();
    if last_is_foreign && os::process_exists(last.pid) {
        return Ok(Joined::Foreign(last.pid));
    }
    let died = last_is_foreign || (last.word.epoch() != 0 && !last.word.is_closed());
    let pid = std::process::id();
    // Wherever this process dies, pid and word must not come from two native writers: the word would seem to
    // be an older writer's, and the pid that of a 1.x writer.
    let mut last_pid = last.pid;
    if last_pid != 0 && !last_is_foreign {
        stop_point!("connect:dead-pid");
        if let Err(pid) = oieb.writer_pid.compare_exchange(last_pid, 0, Ordering::AcqRel, Ordering::Acquire) {
            return Ok(Joined::Foreign(pid));
        }
        last_pid = 0;
    }
    let mut word = last.word.next(pid, died);
    // A 1.x writer that closed has left no trace but its frames. Frames that may be its own therefore get a
    // separate epoch. Otherwise the reader would attribute them to this writer, and take this writer's first
    // frame for an error.
    let frames_left = oieb.payload_free_bytes.load(Ordering::Acquire) != mapping.geometry().payload_size;
    if frames_left && (last.word.epoch() == 0 || last.word.is_closed()) {
        word = word.next(pid, false);
    }
    let written = || {
        // Acquire pairs with the Release store of the last writer's position.
        let position = oieb.payload_write_pos.load(Ordering::Acquire);
        (position, oieb.payload_written_count.load(Ordering::Acquire))
    };
    let before = written();
    stop_point!("connect:writer-word");
    // Release pairs with the Acquire load in WriterWords::load.
    oieb.writer_word.store(word.0, Ordering::Release);
    stop_point!("connect:writer-pid");
    let swapped =
        oieb.writer_pid.compare_exchange(last_pid, u64::from(pid), Ordering::AcqRel, Ordering::Acquire);
    let withdraw = |word: WriterWord, foreign: u64| {
        stop_point!("connect:writer-word-back");
        oieb.writer_word.store(word.closed().0, Ordering::Release);
        Ok(Joined::Foreign(foreign))
    };
    if let Err(foreign) = swapped {
        return withdraw(word, foreign);
    }
    if written() != before {
        // A 1.x writer has connected, written and closed meanwhile.
        word = word.next(pid, false);
        stop_point!("connect:writer-word-again");
        oieb.writer_word.store(word.0, Ordering::Release);
    }
    let (_, reader_word) = liveness::reader_words(oieb);
    let reader_is_ours = reader_word.is_ours();
    let undo = || {
        // Restores the last writer's words: if it died, the next attempt must know that.
        stop_point!("connect:undo-pid");
        let own = u64::from(pid);
        let _ = oieb.writer_pid.compare_exchange(own, last_pid, Ordering::AcqRel, Ordering::Relaxed);
        stop_point!("connect:undo-word");
        oieb.writer_word.store(last.word.0, Ordering::Release);
    };
    let ring = match entry::enter(mapping, reader_is_ours) {
        Entry::Foreign(foreign) => return withdraw(word, foreign),
        Entry::Later => {
            undo();
            return Ok(Joined::Later);
        }
        Entry::Extended => {
            show_taken(mapping);
            WriteRing::join_extended(mapping, word)
        }
        Entry::Classic if reader_is_ours && died => recover(name, mapping),
        Entry::Classic => WriteRing::join_classic(mapping, reader_is_ours),
    };
    ring.map(Joined::Ring).map_err(|fault| {
        undo();
        fault_error(name, fault)
    })
}

/// For a writer that has found its buffer and holds the role lock.
#[cfg(any(fuzzing, all(test, not(loom))))]
pub(crate) fn join(mapping: &Mapping) -> Option<WriteRing> {
    if mapping.is_extended() {
        return join_extended("fuzz", mapping).ok();
    }
    match join_classic("fuzz", mapping) {
        Ok(Joined::Ring(ring)) => Some(ring),
        _ => None,
    }
}

fn fault_error(name: &str, fault: RingFault) -> Error {
    Error::new(fault.kind.error_kind(), name, fault.message)
}

/// Finds out where the committed frames of a dead writer end.
fn recover(name: &str, mapping: &Mapping) -> std::result::Result<WriteRing, RingFault> {
    let start = Instant::now();
    loop {
        if let Some(ring) = WriteRing::recover(mapping)? {
            log::info!("buffer `{name}`: the last writer died; continuing behind its last committed frame");
            return Ok(ring);
        }
        if start.elapsed() > RECOVER_LIMIT {
            return Err(RingFault {
                kind: FaultKind::ReaderStopped,
                message: "the reader was stopped in the middle of giving space back; let it go on, or end it"
                    .into(),
            });
        }
        std::thread::yield_now();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::BufferConfig;
    use crate::reader::Reader;
    use crate::writer::Writer;

    fn buffer(what: &str, classic: bool) -> (String, Reader, Mapping) {
        let name = format!("unit-connect-{what}-{classic}-{}", std::process::id());
        let config = BufferConfig::default().payload_size(4096).classic(classic);
        let reader = Reader::create(&name, config.clone()).unwrap();
        let segment = os::Segment::open(&name, true).unwrap();
        let mapping = Mapping::new(&segment, config.geometry(&name).unwrap(), false).unwrap();
        (name, reader, mapping)
    }

    #[test]
    fn a_dead_native_writers_pid_may_be_another_processs_by_now() {
        let (_name, _reader, mapping) = buffer("reused", true);
        let oieb = mapping.oieb();
        let own = std::process::id();
        // Process 1 lives.
        oieb.writer_word.store(WriterWord(0).next(1, false).0, Ordering::SeqCst);
        oieb.writer_pid.store(1, Ordering::SeqCst);
        assert!(join(&mapping).is_some(), "it is taken for a 1.x writer");
        let words = WriterWords::load(oieb);
        assert_eq!((words.pid, words.word.pid(), words.word.epoch()), (u64::from(own), own, 2));
        assert!(words.word.predecessor_died());
    }

    #[test]
    fn the_first_writer_has_no_predecessor() {
        for classic in [false, true] {
            let (_name, _reader, mapping) = buffer("first", classic);
            assert!(join(&mapping).is_some());
            let word = WriterWords::load(mapping.oieb()).word;
            assert_eq!((word.epoch(), word.predecessor_died()), (1, false));
        }
    }

    #[test]
    fn a_successor_in_an_extended_ring_shows_itself_and_the_readers_pid() {
        let (name, _reader, mapping) = buffer("successor", false);
        let (oieb, own) = (mapping.oieb(), std::process::id());
        drop(Writer::connect(&name).unwrap());
        // As a 1.x peer does that was refused.
        oieb.writer_pid.store(0, Ordering::SeqCst);
        let _writer = Writer::connect(&name).unwrap();
        let words = WriterWords::load(oieb);
        assert_eq!((words.word.pid(), words.word.epoch(), words.word.is_closed()), (own, 2, false));
        assert_eq!(words.pid, u64::from(own), "1.x writers stay away");
    }

    #[test]
    fn a_reader_that_waits_with_the_semaphore_is_told_of_its_writer() {
        for classic in [false, true] {
            let (name, _reader, _mapping) = buffer("told", classic);
            let (semaphore, _) = os::Semaphore::open(&registry::write_semaphore(&name)).unwrap();
            assert_eq!(semaphore.value(), 0);
            let _writer = Writer::connect(&name).unwrap();
            assert_eq!(semaphore.value(), 1);
        }
    }
}
