//! Read-only snapshots and health, for tools. A snapshot never changes a buffer, and needs read permission
//! only.

mod sharing;

use std::path::PathBuf;
use std::time::Duration;

pub use self::sharing::{Answer, Offer, Sharing};

use crate::error::{Error, ErrorKind, Result};
use crate::layout::{CONTROL_SIZE, ControlCopy, Geometry, OiebCopy};
use crate::lifecycle::first_block::{self, FirstBlock};
use crate::lifecycle::liveness::{self, ReaderState, WriterId, WriterState, WriterWords};
use crate::lifecycle::registry;
use crate::os;
use crate::ring::extended::survey;

/// How full a buffer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// Less than 80 % of the payload is in use.
    Healthy,
    /// 80 % or more, less than 95 %.
    Degraded,
    /// 95 % or more.
    Critical,
}

/// Which kind of ring a buffer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingKind {
    /// The layout that 1.x peers know.
    Classic,
    /// The layout between two native peers.
    Extended,
    /// Not decided yet. A native writer decides when it connects, a 1.x writer when it commits its first
    /// frame.
    Undecided,
}

/// The state of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Presence {
    /// No process has the role.
    Absent,
    /// A live process has the role.
    Alive,
    /// The process that had the role died.
    Dead,
    /// The process that had the role closed its handle.
    Closed,
}

/// One side of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Whether a process has the role, and whether it lives.
    pub presence: Presence,
    /// The process, in its own pid namespace; 0 if none.
    pub pid: u64,
    /// Whether the peer is a native one, whose state is certain. The state of a 1.x peer is judged by its
    /// pid.
    pub ours: bool,
}

/// A buffer at one moment. Its numbers come from shared memory and are not checked against each other. Under
/// load they may be a few frames apart; in a corrupt buffer they may have any value.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The buffer's name.
    pub name: String,
    /// Protocol version: major, minor, patch.
    pub version: (u8, u8, u8),
    /// Which kind of ring it has.
    pub ring: RingKind,
    /// Bytes of the metadata block.
    pub metadata_size: u64,
    /// Bytes of metadata written, with the 8-byte prefix; 0 = none yet.
    pub metadata_written: u64,
    /// Bytes free in the metadata block.
    pub metadata_free: u64,
    /// Bytes of payload that the buffer was created with.
    pub payload_size: u64,
    /// Bytes of the payload that are free. An extended ring has some more bytes for padding, so it may accept
    /// frames even at 0.
    pub payload_free: u64,
    /// Ring position of the next write.
    pub write_position: u64,
    /// Ring position of the next read; in an extended ring, of the oldest byte that was not given back.
    pub read_position: u64,
    /// Frames written, and in a classic ring wrap markers.
    pub written_count: u64,
    /// Frames read, and in a classic ring wrap markers. In an extended ring the reader updates this when it
    /// has read everything.
    pub read_count: u64,
    /// The reading side.
    pub reader: Peer,
    /// Whether the buffer is kept for a reader that comes later ([`crate::KeptBuffer`]).
    pub kept: bool,
    /// The writing side.
    pub writer: Peer,
    /// The FIFO behind the descriptor that the reader polls, if it has asked for one.
    pub reader_fifo: Option<PathBuf>,
    /// The FIFO behind the descriptor that the writer polls, if it has asked for one.
    pub writer_fifo: Option<PathBuf>,
    /// Who offers and borrows; `None` if the buffer was not made for sharing.
    pub sharing: Option<Sharing>,
    /// Bytes of the whole file.
    pub file_size: u64,
    /// Bytes of memory that it occupies now.
    pub memory: u64,
    /// Owner's user id.
    pub owner: u32,
    /// Permission bits.
    pub mode: u32,
    /// Time on the wall clock since the file was created or a writer reserved memory (the kernel's ctime).
    pub age: Option<Duration>,
    /// Values that cannot be true; empty if there are none.
    pub defects: Vec<String>,
}

impl Snapshot {
    /// Share of the payload that is in use, 0 to 1.
    pub fn utilisation(&self) -> f64 {
        if self.payload_size == 0 {
            return 0.0;
        }
        self.payload_size.saturating_sub(self.payload_free) as f64 / self.payload_size as f64
    }

    /// How full the buffer is.
    pub fn health(&self) -> Health {
        match self.utilisation() {
            full if full < 0.80 => Health::Healthy,
            full if full < 0.95 => Health::Degraded,
            _ => Health::Critical,
        }
    }
}

/// Takes a snapshot of the buffer `name`.
///
/// # Errors
///
/// `BufferNotFound`; `PermissionDenied`; `InvalidName`; `IncompatibleProtocol` if the file of that name is no
/// buffer of protocol 1.
///
/// ```
/// use zerobuffer::{BufferConfig, Reader, inspect};
///
/// # let name = format!("doc-inspect-{}", std::process::id());
/// let _reader = Reader::create(&name, BufferConfig::default())?;
/// let snapshot = inspect::snapshot(&name)?;
/// assert_eq!(snapshot.health(), inspect::Health::Healthy);
/// assert_eq!(snapshot.reader.pid, u64::from(std::process::id()));
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub fn snapshot(name: &str) -> Result<Snapshot> {
    registry::check_name(name)?;
    let segment = match os::Segment::open(name, false) {
        Ok(segment) => segment,
        Err(error) if os::is_not_found(&error) => {
            return Err(Error::new(ErrorKind::BufferNotFound, name, "there is no buffer of this name"));
        }
        Err(error) => {
            return Err(Error::os_denied(name, "open the buffer", error, || registry::way_to_rights(name)));
        }
    };
    let failed = |error| Error::os(name, "look at the buffer", error);
    let block = FirstBlock::read(&segment).map_err(failed)?;
    let (oieb, file_size) = (block.oieb, block.file_len);
    if !block.is_of_protocol_1() {
        let message = if block.is_blank() {
            "the file of this name is still empty: a reader is creating it, or it is no buffer"
        } else {
            "the file of this name is no buffer of protocol 1: it is another program's, or damaged"
        };
        return Err(Error::new(ErrorKind::IncompatibleProtocol, name, message));
    }
    let reader = first_block::reader_state(&segment).map_err(failed)?;
    let writer = first_block::writer_state(&segment).map_err(failed)?;
    let info = segment.info().map_err(failed)?;
    let mut defects = defects(&oieb, file_size);
    let ring = look_at_ring(&segment, &oieb, file_size, &mut defects).map_err(failed)?;
    let fifos = block.fifos(name, &segment).map_err(failed)?;
    let [reader_fifo, writer_fifo] = fifos.map(|id| id.and_then(sharing::fifo));
    let sharing = sharing::look(&geometry(&oieb), file_size, &segment).map_err(failed)?;
    Ok(Snapshot {
        name: name.to_owned(),
        version: (oieb.version[0], oieb.version[1], oieb.version[2]),
        ring: ring.kind,
        metadata_size: oieb.metadata_size,
        metadata_written: oieb.metadata_written_bytes,
        metadata_free: oieb.metadata_free_bytes,
        payload_size: oieb.payload_size,
        payload_free: ring.free,
        write_position: ring.write_position,
        read_position: ring.read_position,
        written_count: ring.written_count,
        read_count: ring.read_count,
        reader: Peer {
            presence: match reader {
                ReaderState::Alive => Presence::Alive,
                ReaderState::Closed => Presence::Closed,
                ReaderState::Dead => Presence::Dead,
            },
            pid: oieb.reader_pid,
            ours: oieb.reader_word.is_ours(),
        },
        kept: liveness::is_kept(oieb.reader_word, &segment).map_err(failed)?,
        writer: writer_peer(writer, &oieb),
        reader_fifo,
        writer_fifo,
        sharing,
        file_size,
        memory: info.memory,
        owner: info.owner,
        mode: info.mode & 0o777,
        age: Some(info.changed_ago()),
        defects,
    })
}

fn writer_peer(state: WriterState, oieb: &OiebCopy) -> Peer {
    let (presence, id) = match state {
        WriterState::None => (Presence::Absent, None),
        WriterState::Alive(id) => (Presence::Alive, Some(id)),
        WriterState::Dead(id) => (Presence::Dead, Some(id)),
        WriterState::Closed(id) => (Presence::Closed, Some(id)),
    };
    Peer { presence, pid: WriterWords::of(oieb).shown_pid(), ours: matches!(id, Some(WriterId::Ours { .. })) }
}

/// The figures of a ring of either kind.
struct Ring {
    kind: RingKind,
    free: u64,
    write_position: u64,
    read_position: u64,
    written_count: u64,
    read_count: u64,
}

/// Reads the words of an extended ring until they agree, because both sides change them all the time.
const LOOKS: usize = 100;

fn look_at_ring(
    segment: &os::Segment,
    oieb: &OiebCopy,
    file_size: u64,
    defects: &mut Vec<String>,
) -> std::io::Result<Ring> {
    let geometry = geometry(oieb);
    let is_sound = geometry.total().is_some_and(|total| total <= file_size);
    let classic = Ring {
        kind: RingKind::Classic,
        free: oieb.payload_free_bytes,
        write_position: oieb.payload_write_pos,
        read_position: oieb.payload_read_pos,
        written_count: oieb.payload_written_count,
        read_count: oieb.payload_read_count,
    };
    let Some(control) = geometry.control.filter(|_| is_sound) else { return Ok(classic) };
    if !oieb.extension.is_extended() {
        // A writer that died during its entry leaves all bytes taken.
        let untouched = oieb.payload_free_bytes == oieb.payload_size || oieb.payload_free_bytes == 0;
        let unused =
            classic.write_position | classic.read_position | classic.written_count | classic.read_count;
        return Ok(match untouched && unused == 0 {
            true => Ring { kind: RingKind::Undecided, free: oieb.payload_size, ..classic },
            false => classic,
        });
    }
    let mut looks = 0;
    let (words, used) = loop {
        let mut bytes = [0; CONTROL_SIZE as usize];
        segment.read_at(&mut bytes, control)?;
        let words = ControlCopy::parse(&bytes);
        let used = survey::used(&words, geometry.extended_size());
        looks += 1;
        if used.is_ok() || looks == LOOKS {
            break (words, used);
        }
    };
    let used = used.unwrap_or_else(|defect| {
        defects.push(defect);
        geometry.payload_size
    });
    Ok(Ring {
        kind: RingKind::Extended,
        free: geometry.payload_size.saturating_sub(used),
        write_position: words.head.position(),
        read_position: words.tail.position(),
        written_count: words.written_count,
        read_count: words.read_count,
    })
}

fn geometry(oieb: &OiebCopy) -> Geometry {
    Geometry {
        metadata_size: oieb.metadata_size,
        payload_size: oieb.payload_size,
        // OiebCopy::check refuses such sizes.
        control: oieb.extension.control().filter(|_| oieb.reader_word.is_ours()),
        sharing: oieb.extension.has_sharing() && oieb.reader_word.is_ours(),
    }
}

fn defects(oieb: &OiebCopy, file_size: u64) -> Vec<String> {
    let mut defects = Vec::new();
    if geometry(oieb).total().is_none_or(|total| total > file_size) {
        defects.push(format!("metadata_size and payload_size do not fit a file of {file_size} bytes"));
    }
    // A writer may be in the middle of its entry, or have died there. The reader, or the next writer,
    // corrects the count.
    let any = oieb.extension.is_entering();
    for (what, value, limit) in [
        ("payload_free_bytes", oieb.payload_free_bytes, if any { u64::MAX } else { oieb.payload_size }),
        ("payload_write_pos", oieb.payload_write_pos, oieb.payload_size),
        ("payload_read_pos", oieb.payload_read_pos, oieb.payload_size),
        ("metadata_written_bytes", oieb.metadata_written_bytes, oieb.metadata_size),
        ("metadata_free_bytes", oieb.metadata_free_bytes, oieb.metadata_size),
    ] {
        if value > limit {
            defects.push(format!("{what} is {value}, more than {limit}"));
        }
    }
    defects
}

/// Names of all buffers on this machine, live or not, in alphabetical order. They include every segment that
/// begins with the first block of protocol 1, and every segment with two semaphores that this user may not
/// read.
///
/// # Errors
///
/// `System`, `PermissionDenied` if `/dev/shm` cannot be read.
pub fn list() -> Result<Vec<String>> {
    let shm = os::Folder::shared_memory();
    let entries = shm.names().map_err(|error| Error::os("*", "list the shared memory", error))?;
    let is_buffer = |name: &String| match snapshot(name) {
        Ok(_) => true,
        Err(error) => {
            let [semaphore, _] = registry::semaphore_files(name);
            error.kind() == ErrorKind::PermissionDenied && matches!(shm.info(&semaphore), Ok(Some(_)))
        }
    };
    let mut names: Vec<String> = entries.into_iter().filter(is_buffer).collect();
    names.sort();
    Ok(names)
}
