//! Buffers that exist before their reader does.

use crate::buffer::Buffer;
use crate::config::BufferConfig;
use crate::error::Result;
use crate::layout::ReaderWord;
use crate::lifecycle::create::{self, Locks, Parts};
use crate::lifecycle::registry::OwnedFiles;
use crate::sync::Ordering;
use crate::testing::stop::stop_point;

/// A buffer kept for a reader that comes later.
///
/// Usually the reader creates a buffer and the writer waits for it. A relay may have to turn this around: it keeps the
/// buffer, connects a [`crate::Writer`] to it and fills it, and [`crate::Reader::create`] of this library in any process
/// takes it over with all its frames. A 1.x reader is told that another reader is connected.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::{BufferConfig, KeptBuffer, Reader, Writer};
///
/// # let name = format!("doc-kept-{}", std::process::id());
/// let mut kept = KeptBuffer::create(&name, BufferConfig::default())?;
/// Writer::connect(&name)?.write_frame(b"early")?;
/// let mut reader = Reader::create(&name, BufferConfig::default())?; // usually in another process
/// assert_eq!(&*reader.read_frame(Duration::from_secs(1))?.expect("a frame"), b"early");
/// assert!(kept.is_adopted());
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct KeptBuffer {
    buffer: Buffer,
    files: OwnedFiles,
    /// `Some` until the buffer is given away.
    locks: Option<Locks>,
}

impl KeptBuffer {
    /// Creates the buffer `name`, to be taken over by a reader that comes later.
    ///
    /// # Errors
    ///
    /// Those of [`crate::Reader::create`]; `ReaderAlreadyConnected` also if another process keeps a buffer of this name.
    pub fn create(name: &str, config: BufferConfig) -> Result<KeptBuffer> {
        let Parts { buffer, files, locks, .. } = create::keeper(name, &config)?;
        Ok(KeptBuffer { buffer, files, locks: Some(locks) })
    }

    /// The buffer's name.
    pub fn name(&self) -> &str {
        self.buffer.name()
    }

    /// Whether a reader has taken the buffer over.
    pub fn is_adopted(&mut self) -> bool {
        // Acquire pairs with the adopter's compare-and-swap.
        let word = ReaderWord(self.buffer.mapping.oieb().reader_word.load(Ordering::Acquire));
        let adopted = self.locks.is_none() || !word.is_kept();
        if adopted {
            // The keeper's lock file is no longer the name's: the adopter has made its own.
            self.locks = None;
        }
        adopted
    }

    /// Ends the keeping, as dropping it does. Returns whether a reader had taken the buffer over. If none had, the buffer's
    /// names are removed and the frames in it are lost.
    ///
    /// # Errors
    ///
    /// None today; kept for systems where removing can fail.
    pub fn close(mut self) -> Result<bool> {
        Ok(self.shut())
    }

    fn shut(&mut self) -> bool {
        if !self.buffer.is_mine() {
            // A forked child inherited this handle: the buffer stays the parent's.
            self.locks = None;
            return false;
        }
        let Some(locks) = self.locks.take() else { return true };
        let oieb = self.buffer.mapping.oieb();
        let pid = std::process::id();
        let kept = ReaderWord::kept(pid).0;
        stop_point!("kept:reader-word");
        // Either the keeper clears the bit, or an adopter has done so (create::adopt).
        let mine = oieb.reader_word.compare_exchange(
            kept,
            ReaderWord::new(pid).0,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if mine.is_err() {
            return true;
        }
        stop_point!("kept:reader-pid");
        let _ = oieb.reader_pid.compare_exchange(u64::from(pid), 0, Ordering::AcqRel, Ordering::Relaxed);
        self.files.remove(self.buffer.name());
        drop(locks.role);
        locks.name.remove();
        false
    }
}

impl Drop for KeptBuffer {
    fn drop(&mut self) {
        self.shut();
    }
}

impl std::fmt::Debug for KeptBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptBuffer").field("name", &self.buffer.name()).finish()
    }
}
