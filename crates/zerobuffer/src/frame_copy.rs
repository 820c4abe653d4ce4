//! Frames made of bytes, for tests of code that takes frames.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::BufferConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::layout::FRAME_HEADER;
use crate::os;
use crate::reader::Reader;
use crate::writer::Writer;

/// The smallest payload of the buffer that a copy lies in, in bytes.
const PAYLOAD_MIN: usize = 4096;

impl Frame {
    /// Makes a frame of a copy of `bytes`, with the sequence number 1: for tests of code that takes frames.
    ///
    /// It is a real frame: the copy lies in shared memory, in a buffer of its own that has lost its name already.
    ///
    /// # Errors
    ///
    /// `InvalidFrameSize` (0 bytes), `OutOfMemory`, `PermissionDenied`, `System`.
    ///
    /// ```
    /// use zerobuffer::Frame;
    ///
    /// fn brightness(frame: &Frame) -> u64 {
    ///     frame.iter().map(|byte| u64::from(*byte)).sum()
    /// }
    /// assert_eq!(brightness(&Frame::copy_of(&[1, 2, 3])?), 6);
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn copy_of(bytes: &[u8]) -> Result<Frame> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Processes of other pid namespaces may share /dev/shm.
        let name = format!("frame-copy-{}-{}-{count}", std::process::id(), os::monotonic_now());
        let payload = bytes.len().saturating_add(FRAME_HEADER).max(PAYLOAD_MIN);
        let mut reader = Reader::create(&name, BufferConfig::default().payload_size(payload))?;
        Writer::connect(&name)?.write_frame(bytes)?;
        let frame = reader.read_frame(Duration::ZERO)?;
        frame.ok_or_else(|| Error::new(ErrorKind::CorruptBuffer, &name, "the frame just written is missing"))
    }
}
