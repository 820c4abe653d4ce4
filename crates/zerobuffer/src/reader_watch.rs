//! What a writer knows of its reader.

use std::sync::Arc;

use crate::buffer::Buffer;
use crate::error::Result;
use crate::layout::{READER_ROLE_BYTE, ReaderWord};
use crate::lifecycle::liveness::{self, ReaderState, RoleProbe};
use crate::os;
use crate::ring::extended::Marker;
use crate::ring::{FrameAddress, flags};

/// The state of the reader, seen through `probe`.
pub(crate) fn state(buffer: &Buffer, probe: &impl RoleProbe) -> Result<ReaderState> {
    liveness::reader_state(|| Ok(liveness::reader_words(buffer.mapping.oieb())), probe)
        .map_err(|error| buffer.os_error("test the reader's role lock", error))
}

/// Whether the reader has come or gone since its words were `words`.
///
/// A reader that closes clears its pid, gives its role up, and wakes the writer. So what it had not done before this look it
/// does before it wakes.
pub(crate) fn has_news(buffer: &Buffer, probe: &impl RoleProbe, words: (u64, ReaderWord)) -> bool {
    liveness::reader_words(buffer.mapping.oieb()) != words
        || words.0 == 0 && matches!(probe.role_is_held(READER_ROLE_BYTE), Ok(false))
}

/// Tells from any thread whether the reader of a [`Writer`](crate::Writer) is connected, while another thread uses the writer; made by
/// [`Writer::reader_watch`](crate::Writer::reader_watch). It changes nothing, and keeps the buffer's memory mapped.
///
/// ```
/// use zerobuffer::{BufferConfig, Reader, Writer};
///
/// # let name = format!("doc-reader-watch-{}", std::process::id());
/// let reader = Reader::create(&name, BufferConfig::default())?;
/// let watch = Writer::connect(&name)?.reader_watch()?;
/// assert!(watch.is_reader_connected());
/// reader.close()?;
/// std::thread::scope(|scope| scope.spawn(|| assert!(!watch.is_reader_connected())).join()).unwrap();
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct ReaderWatch {
    buffer: Arc<Buffer>,
    /// An open file of the buffer that holds no role.
    segment: Arc<os::Segment>,
}

impl std::fmt::Debug for ReaderWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReaderWatch").field("name", &self.buffer.name()).finish()
    }
}

impl ReaderWatch {
    pub(crate) fn new(buffer: &Arc<Buffer>, segment: &Arc<os::Segment>) -> ReaderWatch {
        ReaderWatch { buffer: Arc::clone(buffer), segment: Arc::clone(segment) }
    }

    /// Whether the reader lives.
    pub fn is_reader_connected(&self) -> bool {
        matches!(state(&self.buffer, &*self.segment), Ok(ReaderState::Alive))
    }

    /// The buffer's file, through a handle that holds no role.
    pub(crate) fn segment(&self) -> &os::Segment {
        &self.segment
    }

    /// Whether the reader is a native peer, whose role the watcher sees.
    pub(crate) fn reader_is_native(&self) -> bool {
        liveness::reader_words(self.buffer.mapping.oieb()).1.is_ours()
    }

    /// How often a call of the writer found no space and began to wait for some.
    pub fn waits(&self) -> u64 {
        self.buffer.waits()
    }

    /// How often a call of the writer found no space in time.
    pub fn full(&self) -> u64 {
        self.buffer.times_full()
    }

    /// Withdraws a committed frame while the writer's next one is filled; see [`crate::Writer::marker`].
    pub(crate) fn cancel(&self, marker: Marker, frame: FrameAddress) {
        marker.mark(&self.buffer.mapping, frame.0, flags::CANCELLED);
    }
}
