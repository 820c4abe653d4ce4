//! `zerobuffer list`: the buffers of this machine, a line each.

use zerobuffer::{ErrorKind, inspect};

use crate::args::ListArgs;
use crate::exit;
use crate::output::{Bytes, complain, say, say_json};

use super::view::{View, age};

pub(crate) fn run(args: &ListArgs) -> u8 {
    let names = match inspect::list() {
        Ok(names) => names,
        Err(error) => {
            complain(&error);
            return exit::FAILED;
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
