//! What any thread can ask about the writer of a reader.

use std::sync::Arc;

use crate::lifecycle::liveness::{self, WriterState, WriterWords};
use crate::os;
use crate::ring::Lender;
use crate::stats::HeldFrames;

/// Tells from any thread whether the writer of a [`Reader`](crate::Reader) is connected, while another thread uses the reader; made by
/// [`Reader::writer_watch`](crate::Reader::writer_watch). It changes nothing, and keeps the buffer's memory mapped.
///
/// ```
/// use zerobuffer::{BufferConfig, Reader, Writer};
///
/// # let name = format!("doc-writer-watch-{}", std::process::id());
/// let mut reader = Reader::create(&name, BufferConfig::default())?;
/// let watch = reader.writer_watch()?;
/// let mut writer = Writer::connect(&name)?;
/// writer.write_frame(b"unread")?;
/// writer.close()?;
/// assert!(watch.is_writer_connected(reader.cursor())); // it left a frame
/// let frame = reader.try_read_frame()?;
/// let cursor = reader.cursor();
/// std::thread::scope(|scope| scope.spawn(|| assert!(!watch.is_writer_connected(cursor))).join()).unwrap();
/// # drop(frame);
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct WriterWatch {
    lender: Arc<Lender>,
    view: os::LockView,
}

impl WriterWatch {
    pub(crate) fn new(lender: Arc<Lender>, view: os::LockView) -> WriterWatch {
        WriterWatch { lender, view }
    }

    /// Whether a writer lives, or frames that one committed are still unread by the reader, which stood at `cursor`
    /// ([`Reader::cursor`](crate::Reader::cursor)) after the last frame that it read.
    pub fn is_writer_connected(&self, cursor: u64) -> bool {
        let buffer = &self.lender.buffer;
        let words = || Ok(WriterWords::load(buffer.mapping.oieb()));
        let lives = || matches!(liveness::writer_state(words, &self.view), Ok(WriterState::Alive(_)));
        buffer.is_mine() && (self.lender.has_unread_behind(cursor) || lives())
    }

    /// The frames that the reader has lent and that have not been released.
    pub fn held(&self) -> HeldFrames {
        self.lender.held()
    }

    /// How many of these are lent to other readers ([`Writer::forward`](crate::Writer::forward)).
    pub fn lent(&self) -> u64 {
        if self.lender.buffer.is_mine() { self.lender.extended.count_lent() } else { 0 }
    }

    /// Frames that the reader has read whose bytes lie in another reader's buffer, and their bytes.
    pub fn shared(&self) -> (u64, u64) {
        (self.lender.borrowed.frames(), self.lender.borrowed.bytes())
    }

    /// How often a call of the reader found no frame and began to wait for one.
    pub fn waits(&self) -> u64 {
        self.lender.buffer.waits()
    }
}

impl std::fmt::Debug for WriterWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriterWatch").field("name", &self.lender.buffer.name()).finish()
    }
}
