//! Figures about a reader and a writer.

use pyo3::prelude::*;

/// What a reader has done so far, and what it holds.
#[pyclass(frozen, get_all, module = "zerobuffer")]
pub(crate) struct ReaderStats {
    /// Frames read.
    frames_read: u64,
    /// Bytes of data read, without headers.
    bytes_read: u64,
    /// How often a call found no frame and began to wait for one. A long wait counts every 45 ms.
    waits: u64,
    /// Frames that have not been released.
    frames_held: u64,
    /// Bytes of the ring that cannot go back to the writer because of them: their own, and those of later frames that were
    /// released already, headers included.
    bytes_held: u64,
    /// The sequence number of the oldest one; None if none is held.
    oldest_held: Option<u64>,
    /// Frames that are lent to other readers now (`Writer.forward`).
    frames_lent: u64,
    /// Frames read whose bytes lie in another reader's buffer, which lent them; they count as frames read, too.
    frames_shared: u64,
    /// Bytes of data of these.
    bytes_shared: u64,
}

impl From<zerobuffer::ReaderStats> for ReaderStats {
    fn from(stats: zerobuffer::ReaderStats) -> ReaderStats {
        ReaderStats {
            frames_read: stats.frames_read,
            bytes_read: stats.bytes_read,
            waits: stats.waits,
            frames_held: stats.held.frames,
            bytes_held: stats.held.bytes,
            oldest_held: stats.held.oldest,
            frames_lent: stats.lent,
            frames_shared: stats.frames_shared,
            bytes_shared: stats.bytes_shared,
        }
    }
}

#[pymethods]
impl ReaderStats {
    fn __repr__(&self) -> String {
        let oldest = self.oldest_held.map_or("None".to_owned(), |number| number.to_string());
        format!(
            "ReaderStats(frames_read={}, bytes_read={}, waits={}, frames_held={}, bytes_held={}, oldest_held={oldest}, \
             frames_lent={}, frames_shared={}, bytes_shared={})",
            self.frames_read,
            self.bytes_read,
            self.waits,
            self.frames_held,
            self.bytes_held,
            self.frames_lent,
            self.frames_shared,
            self.bytes_shared
        )
    }
}

/// What a writer has done so far.
#[pyclass(frozen, get_all, module = "zerobuffer")]
pub(crate) struct WriterStats {
    /// Frames written.
    frames_written: u64,
    /// Bytes of data written, without headers.
    bytes_written: u64,
    /// How often a call found no space and began to wait for some. A long wait counts every 45 ms.
    waits: u64,
    /// How often a call found no space in time.
    full: u64,
    /// Frames that were forwarded without a copy.
    frames_shared: u64,
    /// Frames that were forwarded by a copy.
    frames_copied: u64,
}

impl WriterStats {
    pub(crate) fn new(stats: zerobuffer::WriterStats, full: u64) -> WriterStats {
        WriterStats {
            frames_written: stats.frames_written,
            bytes_written: stats.bytes_written,
            waits: stats.waits,
            full,
            frames_shared: stats.frames_shared,
            frames_copied: stats.frames_copied,
        }
    }
}

#[pymethods]
impl WriterStats {
    fn __repr__(&self) -> String {
        format!(
            "WriterStats(frames_written={}, bytes_written={}, waits={}, full={}, frames_shared={}, frames_copied={})",
            self.frames_written,
            self.bytes_written,
            self.waits,
            self.full,
            self.frames_shared,
            self.frames_copied
        )
    }
}
