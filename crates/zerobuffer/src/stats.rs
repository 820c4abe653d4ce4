//! Figures about a reader and a writer, for those who watch a program run.

/// What a [`Reader`](crate::Reader) has done so far, and what it holds.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::{BufferConfig, Reader, Writer};
///
/// # let name = format!("doc-reader-stats-{}", std::process::id());
/// let mut reader = Reader::create(&name, BufferConfig::default())?;
/// let mut writer = Writer::connect(&name)?;
/// writer.write_frame(b"a frame")?;
/// let frame = reader.read_frame(Duration::from_secs(1))?;
/// let stats = reader.stats();
/// assert_eq!((stats.frames_read, stats.bytes_read), (1, 7));
/// assert_eq!((stats.held.frames, stats.held.oldest), (1, Some(1)));
/// # drop(frame);
/// # Ok::<(), zerobuffer::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReaderStats {
    /// Frames read.
    pub frames_read: u64,
    /// Bytes of data read, without headers.
    pub bytes_read: u64,
    /// How often a call found no frame and began to wait for one.
    pub waits: u64,
    /// The frames that are held now.
    pub held: HeldFrames,
    /// How many of these are lent to other readers ([`Writer::forward`](crate::Writer::forward)).
    pub lent: u64,
    /// Frames read whose bytes lie in another reader's buffer, which lent them; they count as frames read, too.
    pub frames_shared: u64,
    /// Bytes of data of these.
    pub bytes_shared: u64,
}

/// Frames that were read and have not been released. They keep their space, and that of all later frames, from the writer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldFrames {
    /// How many there are. In a classic ring one that is borrowed ([`Reader::read_frame_ref`](crate::Reader::read_frame_ref)) counts
    /// too.
    pub frames: u64,
    /// Bytes of the ring that cannot go back to the writer because of them: their own, and those of later frames that were
    /// released already, headers included.
    pub bytes: u64,
    /// The sequence number of the oldest one.
    pub oldest: Option<u64>,
}

/// What a [`Writer`](crate::Writer) has done so far.
///
/// ```
/// use zerobuffer::{BufferConfig, Reader, Writer};
///
/// # let name = format!("doc-writer-stats-{}", std::process::id());
/// let _reader = Reader::create(&name, BufferConfig::default().payload_size(4096))?;
/// let mut writer = Writer::connect(&name)?;
/// writer.write_frame(&[1; 3000])?;
/// assert!(!writer.try_write_frame(&[2; 3000])?.is_some(), "there is no space");
/// let stats = writer.stats();
/// assert_eq!((stats.frames_written, stats.bytes_written), (1, 3000));
/// assert_eq!((stats.full, stats.waits), (1, 0));
/// # Ok::<(), zerobuffer::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriterStats {
    /// Frames written.
    pub frames_written: u64,
    /// Bytes of data written, without headers.
    pub bytes_written: u64,
    /// How often a call found no space and began to wait for some.
    pub waits: u64,
    /// How often a call found no space in time.
    pub full: u64,
    /// Frames that were forwarded without a copy ([`Writer::forward`](crate::Writer::forward)).
    pub frames_shared: u64,
    /// Frames that were forwarded by a copy.
    pub frames_copied: u64,
}
