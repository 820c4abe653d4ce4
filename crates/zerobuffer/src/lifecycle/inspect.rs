//! Read-only snapshots and health, for tools. Looking never changes a buffer, and works with read permission alone.

use std::time::Duration;

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
    /// Protocol 1 as 1.x peers speak it.
    Classic,
    /// Between two of this library.
    Extended,
    /// The first writer to commit a frame will decide: nothing has been written yet.
    Undecided,
}

/// What can be known of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Presence {
    /// Nobody has the role.
    Absent,
    /// Somebody has it and lives.
    Alive,
    /// Somebody had it and died.
    Dead,
    /// Somebody had it and closed in good order.
    Closed,
}

/// One side of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Whether somebody is there.
    pub presence: Presence,
    /// The process, in its own pid namespace; 0 if none.
    pub pid: u64,
    /// Whether the peer is of this library, so that its presence is certain, rather than a 1.x peer, of which it is
    /// judged by its pid.
    pub ours: bool,
}

/// A buffer at one moment. Its numbers come from shared memory and are not checked against each other: under load they
/// may be a few frames apart, and in a corrupt buffer they may be anything.
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
    /// Bytes of payload that the buffer was made for.
    pub payload_size: u64,
    /// Bytes of these that are free. An extended ring has a little more, for padding: it may take frames at 0 still.
    pub payload_free: u64,
    /// Ring position of the next write.
    pub write_position: u64,
    /// Ring position of the next read; in an extended ring, of the oldest byte not given back.
    pub read_position: u64,
    /// Frames written, and in a classic ring wrap markers.
    pub written_count: u64,
    /// Frames read, and in a classic ring wrap markers; in an extended ring as of when the reader last ran out of frames.
    pub read_count: u64,
    /// The reading side.
    pub reader: Peer,
    /// The reading side only keeps the buffer for a reader that comes later ([`crate::KeptBuffer`]).
    pub kept: bool,
    /// The writing side.
    pub writer: Peer,
    /// Bytes of the whole file.
    pub file_size: u64,
    /// Bytes of memory that it occupies now.
    pub memory: u64,
    /// Owner's user id.
    pub owner: u32,
    /// Permission bits.
    pub mode: u32,
    /// Time since the file last changed, on the wall clock: it was created, or a writer reserved memory (the kernel's ctime).
    pub age: Option<Duration>,
    /// What is wrong with the numbers, if they cannot be true.
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
/// `BufferNotFound`, `PermissionDenied`, `InvalidName`, `IncompatibleProtocol` if the file of that name is no buffer of
/// protocol 1.
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
            "the file of this name holds nothing yet: it is just being created, or is no buffer"
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

/// What a ring of either kind has to say.
struct Ring {
    kind: RingKind,
    free: u64,
    write_position: u64,
    read_position: u64,
    written_count: u64,
    read_count: u64,
}

/// Looks at the words of an extended ring, until they agree: both sides change theirs all the time.
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
        // A writer that died on the way into an extended ring leaves all taken.
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
        // As OiebCopy::check has it.
        control: oieb.extension.control().filter(|_| oieb.reader_word.is_ours()),
    }
}

fn defects(oieb: &OiebCopy, file_size: u64) -> Vec<String> {
    let mut defects = Vec::new();
    if geometry(oieb).total().is_none_or(|total| total > file_size) {
        defects.push(format!("metadata_size and payload_size do not fit a file of {file_size} bytes"));
    }
    // A writer may be half-way into an extended ring, or have died there: the reader, or the next writer, mends the count.
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

/// Names of all buffers on this machine, live or not, in alphabetical order: every segment that starts as a buffer of
/// protocol 1 does, and those that this user may not look at, whose semaphores stand beside them.
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
