//! Messages of `--verbose` about a buffer that a command creates, and about its writers.

use zerobuffer::inspect;

use crate::output::{Bytes, inform, is_verbose};

/// Reports a buffer that has been created.
pub(crate) fn tell_of_buffer(name: &str) {
    if is_verbose()
        && let Ok(buffer) = inspect::snapshot(name)
    {
        let (payload, metadata) = (Bytes(buffer.payload_size), Bytes(buffer.metadata_size));
        inform(&format_args!(
            "buffer `{name}`: created with {payload} of payload, {metadata} of metadata, mode {:04o}; waiting for a writer",
            buffer.mode
        ));
    }
}

/// Reports the writers of a buffer that is read.
pub(crate) struct Arrivals<'a> {
    name: &'a str,
    writing: bool,
}

impl Arrivals<'_> {
    pub(crate) fn new(name: &str) -> Arrivals<'_> {
        Arrivals { name, writing: false }
    }

    /// A frame has come.
    pub(crate) fn frame(&mut self) {
        if std::mem::replace(&mut self.writing, true) || !is_verbose() {
            return;
        }
        if let Ok(buffer) = inspect::snapshot(self.name) {
            let pid = match buffer.writer.pid {
                0 => String::new(),
                pid => format!(" (pid {pid})"),
            };
            inform(&format_args!("buffer `{}`: the first frame of the writer{pid} has come", self.name));
        }
    }

    /// The writer has ended.
    pub(crate) fn end(&mut self) {
        self.writing = false;
    }

    /// What comes next.
    pub(crate) fn awaited(&self) -> &'static str {
        if self.writing { "a frame" } else { "a writer" }
    }
}
