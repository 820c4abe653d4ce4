//! Connecting a writer; Ctrl-C ends the wait for the reader.

use std::time::Duration;

use zerobuffer::{ErrorKind, Writer, WriterOptions, inspect};

use crate::exit::Failure;
use crate::output::{Bytes, inform, is_verbose};
use crate::report::{Progress, Tally};
use crate::stop::Stop;
use crate::wait::{self, Deadline};

/// Waits up to `timeout_ms` for the reader of `name`. A failure carries `code`, or `bad_arguments`.
pub(crate) fn writer(
    stop: &Stop,
    name: &str,
    timeout_ms: i64,
    (code, bad_arguments): (u8, u8),
    progress: &mut Progress,
) -> Result<Writer, Failure> {
    let timeout = wait::timeout(timeout_ms);
    let deadline = Deadline::after(timeout);
    let mut waits = false;
    loop {
        if stop.requested() {
            return Err(Failure::Interrupted);
        }
        let slice = if waits { deadline.slice() } else { Duration::ZERO };
        let options = WriterOptions::default()
            .write_timeout(timeout)
            .connect_timeout(slice)
            .request_payload_sharing(true);
        match Writer::connect_with(name, options) {
            Ok(writer) => {
                stop.watch(writer.interrupt_handle());
                tell_of_connection(name);
                return Ok(writer);
            }
            Err(error) => match error.kind() {
                ErrorKind::BufferNotFound | ErrorKind::ReaderDead if !deadline.is_over() => {
                    if !std::mem::replace(&mut waits, true) {
                        inform(&format_args!("buffer `{name}`: waiting for the reader"));
                    }
                    progress.wait(&Tally::default(), "the reader");
                }
                ErrorKind::BufferNotFound | ErrorKind::ReaderDead => {
                    let message = format!("{error} (waited {timeout_ms} ms; see --timeout-ms)");
                    return Err(Failure::new(code, message));
                }
                _ => return Err(Failure::of(&error, code, bad_arguments)),
            },
        }
    }
}

fn tell_of_connection(name: &str) {
    // A buffer that cannot be inspected can still be written to.
    if is_verbose()
        && let Ok(buffer) = inspect::snapshot(name)
    {
        let (pid, payload) = (buffer.reader.pid, Bytes(buffer.payload_size));
        inform(&format_args!("buffer `{name}`: connected to the reader (pid {pid}), {payload} of payload"));
    }
}
