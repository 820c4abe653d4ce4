//! Standard streams that are closed when the process starts.
//!
//! The runtime of Rust opens /dev/null in their place before `main` runs. Results written there would be lost without an error,
//! so this module looks before the runtime does.
#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::fd::BorrowedFd;
use rustix::stdio;

/// Bit n: stream n was closed.
static CLOSED: AtomicU8 = AtomicU8::new(0);

// SAFETY: the section `.init_array` holds pointers to functions of this type, which the dynamic loader calls
// once each, before `main` and on the only thread. `look` does not need the runtime: it makes three system
// calls and stores into an atomic.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    let streams: [BorrowedFd<'_>; 3] = [stdio::stdin(), stdio::stdout(), stdio::stderr()];
    for (bit, stream) in streams.into_iter().enumerate() {
        if rustix::io::fcntl_getfd(stream) == Err(rustix::io::Errno::BADF) {
            CLOSED.fetch_or(1 << bit, Ordering::Relaxed);
        }
    }
}

/// Puts an unusable placeholder in the place of each standard stream that was closed, so that a use fails
/// like a use of the closed stream.
pub(crate) fn occupy_standard_streams() -> io::Result<()> {
    let closed = |bit: u8| CLOSED.load(Ordering::Relaxed) >> bit & 1 == 1;
    // Opened in the wrong direction.
    if closed(0) {
        stdio::dup2_stdin(OpenOptions::new().write(true).open("/dev/null")?)?;
    }
    if closed(1) {
        stdio::dup2_stdout(OpenOptions::new().read(true).open("/dev/null")?)?;
    }
    if closed(2) {
        stdio::dup2_stderr(OpenOptions::new().read(true).open("/dev/null")?)?;
    }
    Ok(())
}
