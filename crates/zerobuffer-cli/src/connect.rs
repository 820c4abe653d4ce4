//! Connecting a writer, with patience that Ctrl-C can end.

use zerobuffer::{ErrorKind, Writer, WriterOptions};

use crate::exit::Failure;
use crate::stop::Stop;
use crate::wait::{self, Deadline};

/// Waits up to `timeout_ms` for the reader of `name`. A failure carries `code`, or `bad_arguments`.
pub(crate) fn writer(
    stop: &Stop,
    name: &str,
    timeout_ms: i64,
    code: u8,
    bad_arguments: u8,
) -> Result<Writer, Failure> {
    let timeout = wait::timeout(timeout_ms);
    let deadline = Deadline::after(timeout);
    loop {
        if stop.requested() {
            return Err(Failure::Interrupted);
        }
        let options = WriterOptions::default().write_timeout(timeout).connect_timeout(deadline.slice());
        match Writer::connect_with(name, options) {
            Ok(writer) => {
                stop.watch(writer.interrupt_handle());
                return Ok(writer);
            }
            Err(error) => match error.kind() {
                ErrorKind::BufferNotFound | ErrorKind::ReaderDead if !deadline.is_over() => {}
                ErrorKind::BufferNotFound | ErrorKind::ReaderDead => {
                    let message = format!("{error} (waited {timeout_ms} ms; see --timeout-ms)");
                    return Err(Failure::new(code, message));
                }
                _ => return Err(Failure::of(&error, code, bad_arguments)),
            },
        }
    }
}
