//! `zerobuffer inspect`: every field of one buffer.

use std::fmt::Display;

use zerobuffer::{ErrorKind, inspect};

use crate::args::InspectArgs;
use crate::exit;
use crate::output::{complain, say, say_json};

use super::view::{Unreadable, View, age};

/// The numbers of the buffer cannot be true.
const CORRUPT: u8 = 2;

pub(crate) fn run(args: &InspectArgs) -> u8 {
    let view: View = match inspect::snapshot(&args.name) {
        Ok(snapshot) => snapshot.into(),
        Err(error) => {
            let (code, hint) = match error.kind() {
                ErrorKind::InvalidName => (exit::BAD_ARGUMENTS, ""),
                ErrorKind::BufferNotFound => (exit::FAILED, " (zerobuffer list shows what there is)"),
                _ => (exit::FAILED, ""),
            };
            complain(&format_args!("{error}{hint}"));
            if args.json {
                say_json(&Unreadable::new(Some(&args.name), &error));
            }
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
    if let Some(sharing) = &view.sharing {
        line("sharing", sharing);
    }
    let fifos = [&view.reader_fifo, &view.writer_fifo];
    let lender = view.sharing.iter().map(|sharing| &sharing.fifo);
    for (who, fifo) in ["reader", "writer", "lender"].iter().zip(fifos.into_iter().chain(lender)) {
        if let Some(path) = fifo {
            line("descriptor", &format_args!("{who}'s: {}", path.display()));
        }
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
