//! A writer with a buffer of its own making, for frames that it forwards.

use std::ops::{Deref, DerefMut};

use crate::config::{BufferConfig, DEFAULT_PAYLOAD_SIZE, WriterOptions};
use crate::error::Result;
use crate::kept::KeptBuffer;
use crate::reader::Reader;
use crate::writer::Writer;

/// The writing side of a buffer that shares the payload of another one: a relay's output that exists before its reader does.
///
/// It keeps the buffer ([`KeptBuffer`]) for a reader that comes later, and offers it the source's bytes, so that a reader that
/// allows sharing gets frames without a copy from the first one on. In all else it is a [`Writer`].
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::{BufferConfig, Forwarded, Reader, SharedWriter, Writer};
///
/// # let [camera, display] = ["camera", "display"].map(|what| format!("doc-shared-writer-{what}-{}", std::process::id()));
/// let config = BufferConfig::default().allow_payload_sharing(true);
/// let mut input = Reader::create(&camera, config.clone())?;
/// let mut source = Writer::connect(&camera)?; // in another process
/// let mut output = SharedWriter::create(&display, &input)?;
/// let mut viewer = Reader::create(&display, config)?; // in a third process
///
/// source.write_frame(&[7; 100_000])?;
/// let frame = input.read_frame(Duration::from_secs(1))?.expect("a frame");
/// assert_eq!(output.forward(frame).map_err(|(error, _)| error)?, Forwarded::Shared);
/// let frame = viewer.read_frame(Duration::from_secs(1))?.expect("a frame");
/// assert!(frame.is_shared() && frame.iter().all(|byte| *byte == 7));
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct SharedWriter {
    // The writer ends first: then the buffer goes, unless it has a reader.
    writer: Writer,
    kept: KeptBuffer,
}

impl SharedWriter {
    /// Creates the buffer `name` for a reader that comes later, connects to it, and offers it the payload of `source`.
    ///
    /// The buffer is as large as the source's, and has the default size at least, so that it can hold every frame as a copy; memory is used only
    /// where frames have been copied. A reader whose config asks for less takes it over all the same. If `source` does not allow
    /// sharing, frames are copied.
    ///
    /// # Errors
    ///
    /// Those of [`KeptBuffer::create`] and [`Writer::connect`].
    pub fn create(name: &str, source: &Reader) -> Result<SharedWriter> {
        SharedWriter::create_with(name, source, BufferConfig::default(), WriterOptions::default())
    }

    /// As [`SharedWriter::create`], with a mode, a metadata size and other options. The payload is at least as large as the source's;
    /// both sides share, whatever `config` and `options` say about that.
    ///
    /// # Errors
    ///
    /// Those of [`SharedWriter::create`].
    pub fn create_with(
        name: &str,
        source: &Reader,
        config: BufferConfig,
        options: WriterOptions,
    ) -> Result<SharedWriter> {
        let least = config.payload_size.unwrap_or(DEFAULT_PAYLOAD_SIZE);
        let config = config.payload_size(least.max(source.payload_size())).allow_payload_sharing(true);
        let kept = KeptBuffer::create(name, config)?;
        let mut writer = Writer::connect_with(name, options.request_payload_sharing(true))?;
        writer.offer(source)?;
        Ok(SharedWriter { writer, kept })
    }

    /// Whether a reader has taken the buffer over.
    pub fn is_adopted(&mut self) -> bool {
        self.kept.is_adopted()
    }

    /// The writer and the buffer that is kept for its reader, for programs that hold them apart. Close or drop the writer first: the
    /// buffer goes with its keeper, unless a reader has taken it over.
    pub fn into_parts(self) -> (Writer, KeptBuffer) {
        (self.writer, self.kept)
    }

    /// Closes the writer, as dropping it does. Returns whether a reader has taken the buffer over; if none has, the frames in it
    /// are lost.
    ///
    /// # Errors
    ///
    /// None today; kept for systems where closing can fail.
    pub fn close(self) -> Result<bool> {
        let (writer, kept) = self.into_parts();
        writer.close()?;
        kept.close()
    }
}

impl Deref for SharedWriter {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.writer
    }
}

impl DerefMut for SharedWriter {
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }
}

impl std::fmt::Debug for SharedWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedWriter").field("name", &self.name()).finish()
    }
}
