//! `zerobuffer list`: the buffers of this machine, a line each.

use std::time::{Duration, Instant};

use serde::Serialize;
use zerobuffer::inspect::{self, Presence, Snapshot};
use zerobuffer::{Error, ErrorKind};

use crate::args::ListArgs;
use crate::exit;
use crate::output::{Shown, complain, has_colours, say, say_json};

use super::view::{PeerView, Unreadable, View};

/// Time between the two looks that measure the writers' rates.
const SAMPLE: Duration = Duration::from_millis(250);

/// Columns of a terminal.
const WIDTH: usize = 80;

/// A buffer in the JSON array.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry {
    Buffer {
        #[serde(flatten)]
        view: Box<View>,
        /// Frames that the writer commits; `None` without a live writer.
        frames_per_second: Option<f64>,
    },
    Unreadable(Unreadable),
}

pub(crate) fn run(args: &ListArgs) -> u8 {
    let names = match inspect::list() {
        Ok(names) => names,
        Err(error) => {
            complain(&error);
            if args.json {
                say_json(&Unreadable::new(None, &error));
            }
            return exit::FAILED;
        }
    };
    let entries = look(&names);
    if args.json {
        say_json(&entries);
        return exit::OK;
    }
    if entries.is_empty() {
        say(&"no buffers");
        return exit::OK;
    }
    print(&entries);
    exit::OK
}

/// Looks at every buffer twice, if there is a writer whose frames can be counted.
fn look(names: &[String]) -> Vec<Entry> {
    let first: Vec<(&String, Result<Snapshot, Error>, Instant)> =
        names.iter().map(|name| (name, inspect::snapshot(name), Instant::now())).collect();
    if first.iter().any(|(_, snapshot, _)| snapshot.as_ref().is_ok_and(is_written)) {
        std::thread::sleep(SAMPLE);
    }
    let entries = first.into_iter().filter_map(|(name, before, then)| match before {
        Ok(before) if is_written(&before) => {
            let (after, passed) = (inspect::snapshot(name).ok()?, then.elapsed());
            let frames = after.written_count.wrapping_sub(before.written_count);
            let same = after.writer.pid == before.writer.pid && frames < 1 << 48;
            let frames_per_second = same.then(|| frames as f64 / passed.as_secs_f64());
            Some(Entry::Buffer { view: Box::new(after.into()), frames_per_second })
        }
        Ok(before) => Some(Entry::Buffer { view: Box::new(before.into()), frames_per_second: None }),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Some(Entry::Unreadable(Unreadable::new(Some(name), &error)))
        }
        // The buffer has gone in the meantime.
        Err(_) => None,
    });
    entries.collect()
}

fn is_written(buffer: &Snapshot) -> bool {
    buffer.writer.presence == Presence::Alive && buffer.defects.is_empty()
}

/// One column: its title, and whether its text ends at the right.
const COLUMNS: [(&str, bool); 6] = [
    ("SIZE", true),
    ("USED", true),
    ("MEMORY", true),
    ("READER", false),
    ("WRITER", false),
    ("FRAMES/S", true),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

impl Tone {
    /// The escape sequence of the colour.
    fn start(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Good => "\x1b[32m",
            Tone::Warning => "\x1b[33m",
            Tone::Bad => "\x1b[31m",
        }
    }
}

type Cell = (String, Tone);

fn print(entries: &[Entry]) {
    let rows: Vec<(String, Option<[Cell; 6]>)> = entries
        .iter()
        .map(|entry| match entry {
            Entry::Buffer { view, frames_per_second } => {
                (Shown(&view.name).to_string(), Some(cells(view, *frames_per_second)))
            }
            Entry::Unreadable(unreadable) => (Shown(unreadable.name()).to_string(), None),
        })
        .collect();
    let widths: [usize; 6] = std::array::from_fn(|at| {
        let cells = rows.iter().filter_map(|(_, cells)| cells.as_ref()).map(|cells| cells[at].0.len());
        cells.chain([COLUMNS[at].0.len()]).max().unwrap_or_default()
    });
    let others: usize = widths.iter().map(|width| width + 2).sum();
    let longest = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default().max(4);
    let width = longest.min(WIDTH.saturating_sub(others).max(8));
    let colours = has_colours();

    let titles = COLUMNS.map(|(title, _)| (title.to_owned(), Tone::Plain));
    let header = format!("{:width$}{}", "NAME", line(&titles, &widths, false));
    print_line(header.trim_end(), if colours { "\x1b[1m" } else { "" });
    for (name, cells) in rows {
        let Some(cells) = cells else {
            print_line(
                &format!("{name:width$}  another user's, who has not allowed others to look at it"),
                "",
            );
            continue;
        };
        let cells = line(&cells, &widths, colours);
        if name.chars().count() > width {
            // A long name has a line of its own, so that it can be copied and the columns stay.
            print_line(&name, "");
            print_line(&format!("{:width$}{cells}", ""), "");
        } else {
            print_line(&format!("{name:width$}{cells}"), "");
        }
    }
}

/// Prints a line whose names are escaped already and which may hold colours.
fn print_line(line: &str, start: &str) {
    let end = if start.is_empty() { "" } else { "\x1b[0m" };
    crate::output::say_text(format!("{start}{}{end}\n", line.trim_end()).as_bytes());
}

fn line(cells: &[Cell; 6], widths: &[usize; 6], colours: bool) -> String {
    let mut text = String::new();
    for (((cell, tone), width), (_, right)) in cells.iter().zip(widths).zip(COLUMNS) {
        let padding = " ".repeat(width - cell.len());
        let (start, end) = if colours && *tone != Tone::Plain { (tone.start(), "\x1b[0m") } else { ("", "") };
        text += &if right {
            format!("  {padding}{start}{cell}{end}")
        } else {
            format!("  {start}{cell}{end}{padding}")
        };
    }
    text
}

fn cells(view: &View, frames_per_second: Option<f64>) -> [Cell; 6] {
    let plain = |text: String| (text, Tone::Plain);
    let used = format!("{:.1}%", view.utilisation * 100.0);
    let used = match view.health {
        "critical" => (used, Tone::Bad),
        "degraded" => (used, Tone::Warning),
        _ => plain(used),
    };
    let rate = match frames_per_second {
        _ if !view.defects.is_empty() => ("CORRUPT".to_owned(), Tone::Bad),
        Some(rate) => plain(format!("{rate:.0}")),
        None => plain("-".to_owned()),
    };
    [
        plain(compact(view.payload_size)),
        used,
        plain(compact(view.memory)),
        peer(&view.reader, view.kept),
        peer(&view.writer, false),
        rate,
    ]
}

/// A peer in at most twelve characters: the pid of a live peer, with a prefix for special cases.
fn peer(peer: &PeerView, keeps: bool) -> Cell {
    let pid = peer.pid;
    match peer.state {
        "alive" if keeps => (format!("kept {pid}"), Tone::Good),
        "alive" if !peer.ours => (format!("1.x {pid}"), Tone::Good),
        "alive" => (pid.to_string(), Tone::Good),
        "dead" => (format!("dead {pid}"), Tone::Bad),
        "absent" => ("-".to_owned(), Tone::Plain),
        state => (state.to_owned(), Tone::Plain),
    }
}

/// A number of bytes in at most six characters, as 64K or 303.8M.
fn compact(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["", "K", "M", "G", "T", "P"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1024.0
        && let Some(next) = units.next()
    {
        value /= 1024.0;
        unit = next;
    }
    if value.fract() == 0.0 { format!("{value:.0}{unit}") } else { format!("{value:.1}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let sizes = [0, 1023, 1024, 1536, 64 << 10, 256 << 20, (256 << 20) + 4608, u64::MAX];
        let expected = ["0", "1023", "1K", "1.5K", "64K", "256M", "256.0M", "16384P"];
        assert_eq!(sizes.map(compact), expected);
    }
}
