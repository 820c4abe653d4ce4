//! Real data for a writer: a file or a pipe, read straight into shared memory.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use zerobuffer::Writer;

use crate::exit::{self, Failure};
use crate::stop::{Stop, Woken};

/// Bytes read ahead, so that the end of the data is known before space for another frame is asked for.
const AHEAD: usize = 4096;

/// Pause between two looks at the reader while the input has nothing.
const LOOK: Duration = Duration::from_millis(100);

pub(super) struct Source {
    file: File,
    what: String,
    /// A pipe, a terminal or a socket, which can keep a read waiting.
    can_block: bool,
    ahead: Vec<u8>,
}

impl Source {
    /// Data from a file that [`crate::open::input`] has opened.
    pub(super) fn new(file: File, path: &Path) -> Source {
        let what =
            if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
        // A larger pipe buffer, if the system allows it; else the usual 64 KiB.
        let _ = rustix::pipe::fcntl_setpipe_size(&file, 1 << 20);
        let can_block = !file.metadata().is_ok_and(|metadata| metadata.is_file());
        Source { file, what, can_block, ahead: Vec::with_capacity(AHEAD) }
    }

    /// Whether there is more. Waits until that is known.
    pub(super) fn has_more(&mut self, writer: &Writer, stop: &Stop, size: usize) -> Result<bool, Failure> {
        if self.ahead.is_empty() {
            let mut bytes = [0; AHEAD];
            let n = self.read(writer, stop, &mut bytes[..size.min(AHEAD)])?;
            self.ahead.extend_from_slice(&bytes[..n]);
        }
        Ok(!self.ahead.is_empty())
    }

    /// Fills in the frame that `writer` has acquired. Returns the number of bytes.
    pub(super) fn fill(&mut self, writer: &mut Writer, stop: &Stop, size: usize) -> Result<usize, Failure> {
        let mut filled = self.ahead.len();
        acquired(writer)?[..filled].copy_from_slice(&self.ahead);
        self.ahead.clear();
        while filled < size {
            self.wait(writer, stop)?;
            match self.read_now(&mut acquired(writer)?[filled..])? {
                0 => break,
                n => filled += n,
            }
        }
        Ok(filled)
    }

    fn read(&mut self, writer: &Writer, stop: &Stop, bytes: &mut [u8]) -> Result<usize, Failure> {
        self.wait(writer, stop)?;
        self.read_now(bytes)
    }

    fn read_now(&mut self, bytes: &mut [u8]) -> Result<usize, Failure> {
        loop {
            match self.file.read(bytes) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                result => {
                    return result.map_err(|error| {
                        let message = format!("cannot read {}: {error}", self.what);
                        Failure::new(exit::writer::WRITE_ERROR, message)
                    });
                }
            }
        }
    }

    fn wait(&self, writer: &Writer, stop: &Stop) -> Result<(), Failure> {
        if !self.can_block {
            return Ok(());
        }
        loop {
            match stop.wait_readable(self.file.as_fd(), LOOK) {
                Woken::Ready => return Ok(()),
                Woken::Stopped => return Err(Failure::Interrupted),
                Woken::TimeOut if writer.is_reader_connected() => {}
                Woken::TimeOut => {
                    let message = format!("buffer `{}`: the reader has gone: start it again", writer.name());
                    return Err(Failure::new(exit::writer::WRITE_ERROR, message));
                }
            }
        }
    }
}

fn acquired(writer: &mut Writer) -> Result<&mut [u8], Failure> {
    writer.acquired().ok_or_else(|| Failure::new(exit::writer::WRITE_ERROR, "no frame is acquired"))
}
