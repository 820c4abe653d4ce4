//! What commands print: results on standard output, lines for people on standard error.

use std::fmt::{self, Display, Write};
use std::io::{self, IsTerminal};
use std::os::fd::BorrowedFd;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::stdio;
use serde::Serialize;

use crate::exit;
use crate::stop;

/// Bytes that a pipe which is ready takes without blocking.
const PIECE: usize = 4096;

/// How long a line for people waits for room on standard error.
const PATIENCE: Duration = Duration::from_millis(100);

/// How long results wait for room once the end is requested.
const GRACE: Duration = Duration::from_millis(500);

/// How often to look at a stream without room.
const LOOK: Duration = Duration::from_millis(20);

/// The state of both streams.
#[derive(Default)]
struct State {
    verbose: bool,
    /// A progress line is on the terminal.
    progress: bool,
    /// Standard error had no room when last looked at.
    stalled: bool,
    /// Lines that were dropped because there was no room.
    dropped: u64,
    /// The first failure of standard output.
    failure: Option<Failed>,
}

#[derive(Clone, Copy)]
struct Failed {
    error: Errno,
    /// The output that failed was JSON.
    json: bool,
}

static STATE: LazyLock<Mutex<State>> = LazyLock::new(Mutex::default);

fn state() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes [`inform`] print.
pub(crate) fn set_verbose(verbose: bool) {
    state().verbose = verbose;
}

/// Whether [`inform`] prints.
pub(crate) fn is_verbose() -> bool {
    state().verbose
}

/// Prints an error on standard error.
pub(crate) fn complain(message: &dyn Display) {
    tell(&format_args!("zerobuffer: error: {message}"));
}

/// Logs what happens on standard error, if the user asks for it (`--verbose`).
pub(crate) fn inform(message: &dyn Display) {
    if is_verbose() {
        tell(&format_args!("zerobuffer: info: {message}"));
    }
}

/// Prints a line on standard error. Nothing depends on it: a line that cannot be printed is dropped, and the
/// function waits for a stream that is not read only once and only for a moment.
pub(crate) fn tell(line: &dyn Display) {
    let text = format!("{}\n", Shown(&line.to_string()));
    let mut state = state();
    clear(&mut state);
    if !put_for_people(&mut state, text.as_bytes()) {
        state.dropped += 1;
    }
}

/// Prints a line on standard output. Waits until it is read; a failure decides the exit code (see [`exit_code`]).
pub(crate) fn say(line: &dyn Display) {
    let text = format!("{}\n", Shown(&line.to_string()));
    put_result(text.as_bytes(), false);
}

/// Prints text of several lines on standard output as it is.
pub(crate) fn say_text(text: &[u8]) {
    put_result(text, false);
}

/// Prints `value` as JSON on standard output, with a line for each field.
pub(crate) fn say_json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(json) => put_result(format!("{}\n", escaped(&json)).as_bytes(), true),
        Err(error) => complain(&error),
    }
}

/// Prints a JSON object of one line on standard output, or on standard error.
pub(crate) fn say_object(json: &str, to_stderr: bool) {
    let text = format!("{}\n", escaped(json));
    if to_stderr {
        clear(&mut state());
        // Standard error does not affect the exit code.
        let _ = put_all(stdio::stderr(), text.as_bytes());
    } else {
        put_result(text.as_bytes(), true);
    }
}

/// Whether standard error is a terminal on which a line can be replaced.
pub(crate) fn has_terminal() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|name| name != "dumb")
}

/// Whether standard output is a terminal, and the user has nothing against colours (<https://no-color.org>).
pub(crate) fn has_colours() -> bool {
    io::stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|name| name != "dumb")
}

/// Shows a line on a terminal that the next line replaces.
pub(crate) fn show_progress(line: &dyn Display) {
    let width = rustix::termios::tcgetwinsize(stdio::stderr()).map_or(0, |size| usize::from(size.ws_col));
    let width = if width > 1 { width - 1 } else { 79 };
    let line: String = Shown(&line.to_string()).to_string().chars().take(width).collect();
    let mut state = state();
    // A terminal that is stopped (Ctrl-S) is not waited for.
    if has_room(stdio::stderr(), Duration::ZERO) {
        put_for_people(&mut state, format!("\r\x1b[K{line}").as_bytes());
        state.progress = true;
    }
}

/// Removes the line that [`show_progress`] has left.
pub(crate) fn clear_progress() {
    clear(&mut state());
}

fn clear(state: &mut State) {
    if std::mem::take(&mut state.progress) {
        put_for_people(state, b"\r\x1b[K");
    }
}

/// The exit code of a command that ends with `code`, and whose results may not have reached standard output.
pub(crate) fn exit_code(code: u8) -> u8 {
    clear_progress();
    let (dropped, failure) = {
        let state = state();
        (state.dropped, state.failure)
    };
    if dropped > 0 {
        tell(&format_args!(
            "zerobuffer: warn: {dropped} lines were dropped, because standard error was not read"
        ));
    }
    match failure {
        // A reader that closes a pipe has read enough of a text, but needs a JSON value completely.
        None | Some(Failed { error: Errno::PIPE, json: false }) => code,
        Some(Failed { error, .. }) => {
            let error = io::Error::from(error);
            complain(&format_args!("cannot write to standard output: {error}"));
            if code == exit::OK { exit::UNPRINTED } else { code }
        }
    }
}

/// Whether `stream` takes some bytes; waits up to `limit`.
fn has_room(stream: BorrowedFd<'_>, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs().cast_signed(), tv_nsec: limit.subsec_nanos().into() };
    loop {
        match poll(&mut [PollFd::from_borrowed_fd(stream, PollFlags::OUT)], Some(&limit)) {
            Err(Errno::INTR) => {}
            Ok(0) => return false,
            // A stream that cannot be polled, or that has failed, reports that when it is written to.
            Ok(_) | Err(_) => return true,
        }
    }
}

/// Writes a piece; returns how much of it is written.
fn write_piece(stream: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    match rustix::io::write(stream, &bytes[..bytes.len().min(PIECE)]) {
        Err(Errno::INTR | Errno::AGAIN) => Ok(0),
        result => result,
    }
}

/// Writes to standard error as much as it accepts within a moment. Returns false if it has no room.
fn put_for_people(state: &mut State, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let limit = if state.stalled { Duration::ZERO } else { PATIENCE };
        state.stalled = !has_room(stdio::stderr(), limit);
        if state.stalled {
            return false;
        }
        match write_piece(stdio::stderr(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            // An error that cannot be printed cannot be reported either.
            Err(_) => return true,
        }
    }
    true
}

/// Writes to standard output; remembers the first failure.
fn put_result(bytes: &[u8], json: bool) {
    let mut state = state();
    clear(&mut state);
    if state.failure.is_none() {
        // Others may print while this waits until standard output is read.
        drop(state);
        if let Err(error) = put_all(stdio::stdout(), bytes) {
            self::state().failure.get_or_insert(Failed { error, json });
        }
    }
}

/// Writes all bytes, without a time limit, unless the end is requested.
fn put_all(stream: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    let mut deadline = None;
    while !bytes.is_empty() {
        if has_room(stream, LOOK) {
            bytes = &bytes[write_piece(stream, bytes)?..];
        } else if stop::is_requested()
            && Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + GRACE)
        {
            return Err(Errno::AGAIN);
        }
    }
    Ok(())
}

/// Text in which control characters, and characters that change the direction of text, are shown as escapes.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match u32::from(character) {
                _ if !must_be_escaped(character) => f.write_char(character)?,
                code if code < 0x100 => write!(f, "\\x{code:02x}")?,
                code => write!(f, "\\u{code:04x}")?,
            }
        }
        Ok(())
    }
}

/// JSON in which every such character is an escape. serde_json leaves some of them as they are.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character != '\n' && must_be_escaped(character) {
            // Writing into a string cannot fail.
            let _ = write!(text, "\\u{:04x}", u32::from(character));
        } else {
            text.push(character);
        }
    }
    text
}

fn must_be_escaped(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A number of bytes in a readable unit.
pub(crate) struct Bytes(pub(crate) u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut units = ["B", "KiB", "MiB", "GiB", "TiB"].into_iter();
        let mut unit = units.next().unwrap_or_default();
        while value >= 1024.0
            && let Some(next) = units.next()
        {
            value /= 1024.0;
            unit = next;
        }
        let text = if unit == "B" { format!("{} B", self.0) } else { format!("{value:.1} {unit}") };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_reaches_a_terminal_raw() {
        let name = "a\x1b[31m\n\u{9b}5m\u{202e}ö\u{7f}";
        assert_eq!(Shown(name).to_string(), "a\\x1b[31m\\x0a\\x9b5m\\u202eö\\x7f");
        let json = escaped(&serde_json::to_string(name).unwrap());
        assert!(json.chars().all(|character| !must_be_escaped(character)), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), name);
    }
}
