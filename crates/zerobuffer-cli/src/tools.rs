//! `zerobuffer list`, `inspect` and `clean`: what buffers there are, how they are, and what the dead left.

use std::fmt::Display;
use std::time::Duration;

use serde::Serialize;
use zerobuffer::inspect::{Health, Peer, Presence, RingKind, Snapshot};
use zerobuffer::{ErrorKind, cleanup, inspect};

use crate::args::{CleanArgs, InspectArgs, ListArgs};
use crate::report::{Bytes, complain, say, say_json};
use crate::{exit, logger};

const FAILED: u8 = 1;
const CORRUPT: u8 = 2;

/// A snapshot as the tools print it.
#[derive(Serialize)]
struct View {
    name: String,
    health: &'static str,
    version: String,
    ring: &'static str,
    payload_size: u64,
    payload_used: u64,
    payload_free: u64,
    utilisation: f64,
    write_position: u64,
    read_position: u64,
    written_count: u64,
    read_count: u64,
    metadata_size: u64,
    metadata_written: u64,
    metadata_free: u64,
    reader: PeerView,
    writer: PeerView,
    kept: bool,
    file_size: u64,
    memory: u64,
    owner: u32,
    mode: String,
    age_seconds: Option<f64>,
    defects: Vec<String>,
}

#[derive(Serialize)]
struct PeerView {
    state: &'static str,
    pid: u64,
    /// Of this library, so that its state is certain.
    ours: bool,
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
            kept: snapshot.kept,
            file_size: snapshot.file_size,
            memory: snapshot.memory,
            owner: snapshot.owner,
            mode: format!("{:04o}", snapshot.mode),
            age_seconds: snapshot.age.map(|age| age.as_secs_f64()),
            defects: snapshot.defects,
        }
    }
}

pub(crate) fn list(args: &ListArgs) -> u8 {
    let names = match inspect::list() {
        Ok(names) => names,
        Err(error) => {
            complain(&error);
            return FAILED;
        }
    };
    let (mut views, mut barred) = (Vec::<View>::new(), Vec::new());
    for name in &names {
        match inspect::snapshot(name) {
            Ok(snapshot) => views.push(snapshot.into()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => barred.push(name),
            // A buffer that went in between is none any more.
            Err(_) => {}
        }
    }
    if args.json {
        say_json(&views);
        return exit::OK;
    }
    if names.is_empty() {
        say(&"no buffers");
        return exit::OK;
    }
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(4);
    say(&format_args!(
        "{:width$}  {:>10}  {:>6}  {:>10}  {:22}  {:22}  {:9}  {:>9}",
        "NAME", "PAYLOAD", "USED", "MEMORY", "READER", "WRITER", "RING", "CHANGED"
    ));
    for view in views {
        say(&format_args!(
            "{:width$}  {:>10}  {:>5.1}%  {:>10}  {:22}  {:22}  {:9}  {:>9}",
            view.name,
            Bytes(view.payload_size),
            view.utilisation * 100.0,
            Bytes(view.memory),
            if view.kept { format!("kept ({})", view.reader.pid) } else { view.reader.to_string() },
            view.writer,
            if view.defects.is_empty() { view.ring } else { "CORRUPT" },
            age(view.age_seconds),
        ));
    }
    for name in barred {
        say(&format_args!("{name:width$}  another user's, who has not allowed others to look at it"));
    }
    exit::OK
}

pub(crate) fn inspect(args: &InspectArgs) -> u8 {
    let view: View = match inspect::snapshot(&args.name) {
        Ok(snapshot) => snapshot.into(),
        Err(error) => {
            let (code, hint) = match error.kind() {
                ErrorKind::InvalidName => (exit::BAD_ARGUMENTS, ""),
                ErrorKind::BufferNotFound => (FAILED, " (zerobuffer list shows what there is)"),
                _ => (FAILED, ""),
            };
            complain(&format_args!("{error}{hint}"));
            return code;
        }
    };
    let code = if view.defects.is_empty() { exit::OK } else { CORRUPT };
    if args.json {
        say_json(&view);
        return code;
    }
    let line = |what: &str, value: &dyn Display| say(&format_args!("{what:12} {value}"));
    line("name", &view.name);
    match view.reader.state {
        "dead" => line("health", &format_args!("{}, but its reader is dead: zerobuffer clean", view.health)),
        _ => line("health", &view.health),
    }
    line("reader", &view.reader);
    line("writer", &view.writer);
    if view.kept {
        line("kept", &"for a reader that comes later");
    }
    line("ring", &format_args!("{}, protocol {}", view.ring, view.version));
    let used = format_args!(
        "{} of {} bytes in use ({:.1} %), {} free",
        view.payload_used,
        view.payload_size,
        view.utilisation * 100.0,
        view.payload_free
    )
    .to_string();
    line("payload", &used);
    line("positions", &format_args!("write {}, read {}", view.write_position, view.read_position));
    let what = if view.ring == "extended" { "frames" } else { "frames and wrap markers" };
    let counts = format!("{} written, {} read ({what})", view.written_count, view.read_count);
    line("counts", &counts);
    let metadata = format!(
        "{} of {} bytes written, {} free",
        view.metadata_written, view.metadata_size, view.metadata_free
    );
    line("metadata", &metadata);
    line("file", &format_args!("{} bytes, of which {} in memory", view.file_size, view.memory));
    line("rights", &format_args!("mode {}, owner {}", view.mode, view.owner));
    line("age", &age(view.age_seconds));
    for defect in &view.defects {
        line("DEFECT", defect);
    }
    code
}

fn age(seconds: Option<f64>) -> String {
    let Some(seconds) = seconds else { return "unknown".to_owned() };
    let whole = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// What became of one leftover.
#[derive(Serialize)]
struct Cleaned {
    name: String,
    cause: String,
    files: Vec<String>,
    bytes: u64,
    removed: bool,
    /// Why it was not removed, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

pub(crate) fn clean(args: &CleanArgs) -> u8 {
    logger::install(args.verbose);
    let leftovers = match cleanup::leftovers() {
        Ok(leftovers) => leftovers,
        Err(error) => {
            complain(&error);
            return FAILED;
        }
    };
    let mut code = exit::OK;
    let mut results = Vec::new();
    let wanted = |name: &str| args.names.is_empty() || args.names.iter().any(|wanted| wanted == name);
    for leftover in leftovers.into_iter().filter(|leftover| wanted(leftover.name())) {
        let (removed, why) = match leftover.obstacle() {
            Some(why) => (false, Some(why.to_owned())),
            None if args.dry_run => (false, Some("dry run".to_owned())),
            None => match leftover.remove() {
                Ok(true) => (true, None),
                Ok(false) => (false, Some("somebody has taken the name in the meantime".to_owned())),
                Err(error) => {
                    code = FAILED;
                    (false, Some(error.to_string()))
                }
            },
        };
        results.push(Cleaned {
            name: leftover.name().to_owned(),
            cause: leftover.cause().to_owned(),
            files: leftover.files().iter().map(|path| path.display().to_string()).collect(),
            bytes: leftover.bytes(),
            removed,
            why,
        });
    }
    if args.json {
        say_json(&results);
        return code;
    }
    if results.is_empty() {
        say(&"nothing to clean");
    }
    for Cleaned { name, cause, files, bytes, removed, why } in results {
        let size = Bytes(bytes);
        match why {
            None if removed => say(&format_args!("removed {name} ({cause}; {size})")),
            Some(_) if args.dry_run && why.as_deref() == Some("dry run") => {
                say(&format_args!("would remove {name} ({cause}; {size}): {}", files.join(" ")));
            }
            why => say(&format_args!("left {name} ({cause}): {}", why.unwrap_or_default())),
        }
    }
    code
}
