//! `zerobuffer clean`: removes what dead processes left.

use serde::Serialize;
use zerobuffer::cleanup;

use crate::args::CleanArgs;
use crate::output::{Bytes, complain, say, say_json};
use crate::{exit, logger};

use super::view::Unreadable;

/// Outcome for one leftover.
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

pub(crate) fn run(args: &CleanArgs) -> u8 {
    logger::install(args.verbose);
    let leftovers = match cleanup::leftovers() {
        Ok(leftovers) => leftovers,
        Err(error) => {
            complain(&error);
            if args.json {
                say_json(&Unreadable::new(None, &error));
            }
            return exit::FAILED;
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
                Ok(false) => (false, Some("another process has taken the name in the meantime".to_owned())),
                Err(error) => {
                    code = exit::FAILED;
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
