//! Read-only snapshots and health, for tools.

use std::ffi::{CString, c_char};

use zerobuffer::inspect::{self, Health, Peer, Presence, RingKind, Snapshot};

use crate::arguments::{Out, length_of, passed, string};
use crate::error::{ZB_OK, text, zb_error, zb_status};
use crate::panic::{guarded_or, guarded_wait};

/// How full a buffer is.
pub type zb_health = i32;
/// Less than 80 % of the payload is in use.
pub const ZB_HEALTHY: zb_health = 0;
/// 80 % or more, less than 95 %.
pub const ZB_DEGRADED: zb_health = 1;
/// 95 % or more.
pub const ZB_CRITICAL: zb_health = 2;

/// Which kind of ring a buffer has.
pub type zb_ring_kind = i32;
/// The layout that 1.x peers know.
pub const ZB_RING_CLASSIC: zb_ring_kind = 0;
/// The layout between two native peers.
pub const ZB_RING_EXTENDED: zb_ring_kind = 1;
/// Not decided yet. A native writer decides when it connects, a 1.x writer when it commits its first frame.
pub const ZB_RING_UNDECIDED: zb_ring_kind = 2;

/// The state of a peer.
pub type zb_presence = i32;
/// No process has the role.
pub const ZB_PEER_ABSENT: zb_presence = 0;
/// A live process has the role.
pub const ZB_PEER_ALIVE: zb_presence = 1;
/// The process that had the role died.
pub const ZB_PEER_DEAD: zb_presence = 2;
/// The process that had the role closed its handle.
pub const ZB_PEER_CLOSED: zb_presence = 3;

/// A state that this ABI cannot name, because the library is newer.
const UNKNOWN: i32 = -1;

/// One side of a buffer.
#[repr(C)]
pub struct zb_peer {
    /// Whether a process has the role, and whether it lives (`ZB_PEER_...`).
    pub presence: zb_presence,
    /// Whether the peer is a native one, whose state is certain. The state of a 1.x peer is judged by its
    /// pid.
    pub ours: bool,
    /// The process, in its own pid namespace; 0 if none.
    pub pid: u64,
}

/// A buffer at one moment. The library makes and frees it, and may append fields. The numbers come from
/// shared memory and are not checked against each other.
#[repr(C)]
pub struct zb_snapshot {
    /// The buffer's name.
    pub name: *const c_char,
    /// Protocol version: major, minor, patch.
    pub version: [u8; 3],
    /// Which kind of ring it has (`ZB_RING_...`).
    pub ring: zb_ring_kind,
    /// How full it is (`ZB_HEALTHY`, `ZB_DEGRADED`, `ZB_CRITICAL`).
    pub health: zb_health,
    /// Share of the payload that is in use, 0 to 1.
    pub utilisation: f64,
    /// Bytes of the metadata block.
    pub metadata_size: u64,
    /// Bytes of metadata written, with the 8-byte prefix; 0 = none yet.
    pub metadata_written: u64,
    /// Bytes free in the metadata block.
    pub metadata_free: u64,
    /// Bytes of payload.
    pub payload_size: u64,
    /// Bytes of the payload that are free.
    pub payload_free: u64,
    /// Ring position of the next write.
    pub write_position: u64,
    /// Ring position of the next read.
    pub read_position: u64,
    /// Frames written, and in a classic ring wrap markers.
    pub written_count: u64,
    /// Frames read, and in a classic ring wrap markers.
    pub read_count: u64,
    /// The reading side.
    pub reader: zb_peer,
    /// The writing side.
    pub writer: zb_peer,
    /// Whether the buffer is kept for a reader that comes later.
    pub kept: bool,
    /// Bytes of the whole file.
    pub file_size: u64,
    /// Bytes of memory that it occupies now.
    pub memory: u64,
    /// Owner's user id.
    pub owner: u32,
    /// Permission bits.
    pub mode: u32,
    /// Nanoseconds since the file was created, resized or given memory; -1 if unknown.
    pub age_ns: i64,
    /// Values that cannot be true: `defect_count` texts.
    pub defects: *const *const c_char,
    /// The number of defects.
    pub defect_count: usize,
}

/// Texts that the library made.
#[repr(C)]
pub struct zb_names {
    /// `count` of them.
    pub names: *const *const c_char,
    /// The number of texts.
    pub count: usize,
}

/// Texts, and pointers to them for C.
struct Texts {
    _texts: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Texts {
    fn new(texts: impl IntoIterator<Item = String>) -> Texts {
        let texts: Vec<CString> = texts.into_iter().map(text).collect();
        // A CString's bytes stay where they are when it is moved.
        let pointers = texts.iter().map(|text| text.as_ptr()).collect();
        Texts { _texts: texts, pointers }
    }
}

/// Memory behind a [`zb_snapshot`]. It starts with the snapshot, so that a pointer to one is a pointer to the
/// other.
#[repr(C)]
struct OwnedSnapshot {
    shown: zb_snapshot,
    _name: CString,
    _defects: Texts,
}

/// Memory behind a [`zb_names`], as the library allocated it.
#[repr(C)]
struct OwnedNames {
    shown: zb_names,
    _texts: Texts,
}

fn peer(peer: Peer) -> zb_peer {
    let presence = match peer.presence {
        Presence::Absent => ZB_PEER_ABSENT,
        Presence::Alive => ZB_PEER_ALIVE,
        Presence::Dead => ZB_PEER_DEAD,
        Presence::Closed => ZB_PEER_CLOSED,
        _ => UNKNOWN,
    };
    zb_peer { presence, ours: peer.ours, pid: peer.pid }
}

fn own(snapshot: Snapshot) -> OwnedSnapshot {
    let ring = match snapshot.ring {
        RingKind::Classic => ZB_RING_CLASSIC,
        RingKind::Extended => ZB_RING_EXTENDED,
        RingKind::Undecided => ZB_RING_UNDECIDED,
        _ => UNKNOWN,
    };
    let health = match snapshot.health() {
        Health::Healthy => ZB_HEALTHY,
        Health::Degraded => ZB_DEGRADED,
        Health::Critical => ZB_CRITICAL,
        _ => UNKNOWN,
    };
    let utilisation = snapshot.utilisation();
    let (major, minor, patch) = snapshot.version;
    let name = text(snapshot.name);
    let defects = Texts::new(snapshot.defects);
    OwnedSnapshot {
        shown: zb_snapshot {
            name: name.as_ptr(),
            version: [major, minor, patch],
            ring,
            health,
            utilisation,
            metadata_size: snapshot.metadata_size,
            metadata_written: snapshot.metadata_written,
            metadata_free: snapshot.metadata_free,
            payload_size: snapshot.payload_size,
            payload_free: snapshot.payload_free,
            write_position: snapshot.write_position,
            read_position: snapshot.read_position,
            written_count: snapshot.written_count,
            read_count: snapshot.read_count,
            reader: peer(snapshot.reader),
            writer: peer(snapshot.writer),
            kept: snapshot.kept,
            file_size: snapshot.file_size,
            memory: snapshot.memory,
            owner: snapshot.owner,
            mode: snapshot.mode,
            age_ns: snapshot.age.map_or(-1, |age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX)),
            defects: defects.pointers.as_ptr(),
            defect_count: defects.pointers.len(),
        },
        _name: name,
        _defects: defects,
    }
}

/// Takes a snapshot of the buffer `name`, without changing it. Free it with `zb_snapshot_free`.
///
/// Errors: `BUFFER_NOT_FOUND`, `PERMISSION_DENIED`, `INVALID_NAME`, `INCOMPATIBLE_PROTOCOL`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_inspect_snapshot(
    name: *const c_char,
    snapshot: *mut *mut zb_snapshot,
    error: *mut *mut zb_error,
) -> zb_status {
    passed!(zb_inspect_snapshot_n(name, length_of(name), snapshot, error))
}

/// Like `zb_inspect_snapshot`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_inspect_snapshot_n(
    name: *const c_char,
    length: usize,
    snapshot: *mut *mut zb_snapshot,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (out, name) = passed!(Out::new(snapshot, "snapshot")?, string(name, length, "name")?);
        out.set(std::ptr::null_mut());
        out.set(Box::into_raw(Box::new(own(inspect::snapshot(name)?))).cast());
        Ok(ZB_OK)
    })
}

/// Frees a snapshot. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_snapshot_free(snapshot: *mut zb_snapshot) {
    if !snapshot.is_null() {
        // SAFETY: The caller promises that it came from zb_inspect_snapshot, which made an OwnedSnapshot, and that it is not
        // used any more.
        let snapshot = unsafe { Box::from_raw(snapshot.cast::<OwnedSnapshot>()) };
        guarded_or((), || drop(snapshot));
    }
}

/// Names of all buffers on this machine, live or not, in alphabetical order. Free them with `zb_names_free`.
///
/// Errors: `SYSTEM`, `PERMISSION_DENIED`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_inspect_list(names: *mut *mut zb_names, error: *mut *mut zb_error) -> zb_status {
    guarded_wait!(error, {
        let out = passed!(Out::new(names, "names")?);
        out.set(std::ptr::null_mut());
        let texts = Texts::new(inspect::list()?);
        let shown = zb_names { names: texts.pointers.as_ptr(), count: texts.pointers.len() };
        out.set(Box::into_raw(Box::new(OwnedNames { shown, _texts: texts })).cast());
        Ok(ZB_OK)
    })
}

/// Frees names. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_names_free(names: *mut zb_names) {
    if !names.is_null() {
        // SAFETY: The caller promises that they came from zb_inspect_list, which made OwnedNames, and are not used any more.
        let names = unsafe { Box::from_raw(names.cast::<OwnedNames>()) };
        guarded_or((), || drop(names));
    }
}
