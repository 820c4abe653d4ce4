//! A snapshot of a buffer, as `zerobuffer list` and `zerobuffer inspect` print it.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use zerobuffer::Error;
use zerobuffer::inspect::{Answer, Health, Peer, Presence, RingKind, Sharing, Snapshot};

/// The JSON object for a buffer that cannot be inspected.
#[derive(Serialize)]
pub(super) struct Unreadable {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The kind of the error.
    error: &'static str,
    message: String,
}

impl Unreadable {
    pub(super) fn new(name: Option<&str>, error: &Error) -> Unreadable {
        Unreadable { name: name.map(str::to_owned), error: error.kind().name(), message: error.to_string() }
    }

    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }
}

/// A snapshot as the tools print it.
#[derive(Serialize)]
pub(super) struct View {
    pub(super) name: String,
    pub(super) health: &'static str,
    pub(super) version: String,
    pub(super) ring: &'static str,
    pub(super) payload_size: u64,
    pub(super) payload_used: u64,
    pub(super) payload_free: u64,
    pub(super) utilisation: f64,
    pub(super) write_position: u64,
    pub(super) read_position: u64,
    pub(super) written_count: u64,
    pub(super) read_count: u64,
    pub(super) metadata_size: u64,
    pub(super) metadata_written: u64,
    pub(super) metadata_free: u64,
    pub(super) reader: PeerView,
    pub(super) writer: PeerView,
    pub(super) reader_fifo: Option<PathBuf>,
    pub(super) writer_fifo: Option<PathBuf>,
    pub(super) kept: bool,
    pub(super) sharing: Option<SharingView>,
    pub(super) file_size: u64,
    pub(super) memory: u64,
    pub(super) owner: u32,
    pub(super) mode: String,
    pub(super) age_seconds: Option<f64>,
    pub(super) defects: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct PeerView {
    pub(super) state: &'static str,
    pub(super) pid: u64,
    /// A native peer, whose state is certain; a 1.x peer is judged by its pid.
    pub(super) ours: bool,
}

impl From<Peer> for PeerView {
    fn from(peer: Peer) -> PeerView {
        let state = match peer.presence {
            Presence::Absent => "absent",
            Presence::Alive => "alive",
            Presence::Dead => "dead",
            Presence::Closed => "closed",
            _ => "unknown",
        };
        PeerView { state, pid: peer.pid, ours: peer.ours }
    }
}

impl Display for PeerView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = if self.pid == 0 || matches!(self.state, "absent" | "closed") {
            self.state.to_owned()
        } else {
            format!("{} ({}{})", self.state, self.pid, if self.ours { "" } else { ", 1.x" })
        };
        f.pad(&text)
    }
}

#[derive(Serialize)]
pub(super) struct SharingView {
    pub(super) enabled: bool,
    pub(super) offer: Option<OfferView>,
    /// A process holds the borrower's lock.
    pub(super) borrower: bool,
    pub(super) share_count: u64,
    pub(super) owner_pid: u64,
    pub(super) fifo: Option<PathBuf>,
}

#[derive(Serialize)]
pub(super) struct OfferView {
    pub(super) name: String,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) answer: &'static str,
}

impl From<Sharing> for SharingView {
    fn from(sharing: Sharing) -> SharingView {
        SharingView {
            enabled: sharing.enabled,
            offer: sharing.offer.map(|offer| OfferView {
                name: offer.name,
                device: offer.device,
                inode: offer.inode,
                answer: match offer.answer {
                    Answer::Pending => "pending",
                    Answer::Accepted => "accepted",
                    Answer::Refused => "refused",
                    _ => "unknown",
                },
            }),
            borrower: sharing.borrower,
            share_count: sharing.share_count,
            owner_pid: sharing.owner_pid,
            fifo: sharing.fifo,
        }
    }
}

impl Display for SharingView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", if self.enabled { "allowed" } else { "not allowed" })?;
        if let Some(OfferView { name, answer, .. }) = &self.offer {
            write!(f, "; frames of `{name}` offered by process {}, {answer}", self.owner_pid)?;
        }
        write!(f, "; {} lent, {} borrower", self.share_count, if self.borrower { "a" } else { "no" })
    }
}

impl From<Snapshot> for View {
    fn from(snapshot: Snapshot) -> View {
        let health = match snapshot.health() {
            _ if !snapshot.defects.is_empty() => "corrupt",
            Health::Healthy => "healthy",
            Health::Degraded => "degraded",
            Health::Critical => "critical",
            _ => "unknown",
        };
        let ring = match snapshot.ring {
            RingKind::Classic => "classic",
            RingKind::Extended => "extended",
            RingKind::Undecided => "undecided",
            _ => "unknown",
        };
        let (major, minor, patch) = snapshot.version;
        View {
            health,
            version: format!("{major}.{minor}.{patch}"),
            ring,
            payload_used: snapshot.payload_size.saturating_sub(snapshot.payload_free),
            utilisation: snapshot.utilisation(),
            name: snapshot.name,
            payload_size: snapshot.payload_size,
            payload_free: snapshot.payload_free,
            write_position: snapshot.write_position,
            read_position: snapshot.read_position,
            written_count: snapshot.written_count,
            read_count: snapshot.read_count,
            metadata_size: snapshot.metadata_size,
            metadata_written: snapshot.metadata_written,
            metadata_free: snapshot.metadata_free,
            reader: snapshot.reader.into(),
            writer: snapshot.writer.into(),
            reader_fifo: snapshot.reader_fifo,
            writer_fifo: snapshot.writer_fifo,
            kept: snapshot.kept,
            sharing: snapshot.sharing.map(SharingView::from),
            file_size: snapshot.file_size,
            memory: snapshot.memory,
            owner: snapshot.owner,
            mode: format!("{:04o}", snapshot.mode),
            age_seconds: snapshot.age.map(|age| age.as_secs_f64()),
            defects: snapshot.defects,
        }
    }
}

pub(super) fn age(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "unknown".to_owned() };
    let whole = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}
