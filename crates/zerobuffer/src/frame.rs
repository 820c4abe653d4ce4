//! Frames: bytes that a reader lends until they are released.
#![allow(unsafe_code)]

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::ring::{FrameRecord, Lender, flags};

/// A frame that owns its bytes in shared memory until it is dropped.
///
/// Several frames can be held at once, released in any order and from any thread; the writer gets space back in ring
/// order. A frame stays valid after its reader is closed or dropped.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::{BufferConfig, Reader, Writer};
///
/// # let name = format!("doc-frame-{}", std::process::id());
/// let mut reader = Reader::create(&name, BufferConfig::default().payload_size(4096))?;
/// let mut writer = Writer::connect(&name)?;
/// writer.write_frame(b"hello")?;
/// let frame = reader.read_frame(Duration::from_secs(1))?.expect("a frame");
/// assert_eq!((&*frame, frame.sequence()), (&b"hello"[..], 1));
/// frame.release(); // or just drop it
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct Frame {
    lender: Arc<Lender>,
    record: FrameRecord,
}

impl Frame {
    /// Makes an owned frame of the last one read, on the reader's thread.
    #[inline(always)]
    pub(crate) fn of_last(lender: &Arc<Lender>, record: &FrameRecord) -> Frame {
        Frame { lender: Arc::clone(lender), record: lender.own(record) }
    }

    /// The sequence number that the writer gave the frame: 1, 2, 3 ...
    pub fn sequence(&self) -> u64 {
        self.record.sequence
    }

    /// Bytes of data.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a frame is never empty: protocol 1 has no frame of 0 bytes"
    )]
    pub fn len(&self) -> usize {
        self.record.len()
    }

    /// Copies the frame to the start of `target` and returns the number of bytes copied.
    ///
    /// For a program that does not trust the writer to leave the bytes alone while it looks at them.
    ///
    /// # Panics
    ///
    /// If `target` is shorter than the frame.
    #[inline]
    pub fn copy_to(&self, target: &mut [u8]) -> usize {
        // SAFETY: `self` has not been released.
        unsafe { copy_out(&self.lender, &self.record, target) }
    }

    /// Gives the bytes back, as dropping the frame does.
    pub fn release(self) {}

    /// The bytes, to be changed in place by a mutable duplex server. The writer never learns of it.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        if let Some(copy) = self.record.copied_at() {
            // SAFETY: the address is that of `len` bytes of a Vec, taken for writing, which the release queue keeps until this `Frame`
            // is dropped (ReleaseQueue::keep_copy), and which nothing else touches. `Frame` is not `Clone`, and is borrowed mutably for as long
            // as the slice lives.
            return unsafe { std::slice::from_raw_parts_mut(copy.cast_mut(), self.record.len()) };
        }
        // SAFETY: the bytes belong to this `Frame` until it is dropped: the writer does not touch them before
        // they are given back (trust model), and no other frame of this process has them, as each is taken once and
        // `Frame` is not `Clone`. So this `Frame` is the only way to them here, and it is borrowed mutably for as long
        // as the slice lives. The header, which a writer may still flag, lies outside. The mapping is writable.
        unsafe { self.lender.buffer.mapping.frame_bytes_mut(self.record.position(), self.record.len()) }
            .unwrap_or_default()
    }

    /// The bytes, to be changed in place before the frame is forwarded ([`Writer::forward`](crate::Writer::forward)), while
    /// nothing else has them. The writer never learns of it.
    ///
    /// `None` if the frame is lent already, or is itself a borrowed one ([`Frame::is_shared`]): its bytes are another reader's.
    ///
    /// ```
    /// use std::time::Duration;
    /// use zerobuffer::{BufferConfig, Reader, Writer};
    ///
    /// # let name = format!("doc-frame-make-mut-{}", std::process::id());
    /// let mut reader = Reader::create(&name, BufferConfig::default())?;
    /// Writer::connect(&name)?.write_frame(&[1, 2, 3])?;
    /// let mut frame = reader.read_frame(Duration::from_secs(1))?.expect("a frame");
    /// frame.make_mut().expect("it is not lent").reverse();
    /// assert_eq!(*frame, [3, 2, 1]);
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn make_mut(&mut self) -> Option<&mut [u8]> {
        self.is_only_mine().then(|| self.bytes_mut())
    }

    /// As [`Frame::make_mut`], but of a private copy where others may look at the bytes: the frame has the copy from then on, until it
    /// is dropped, and is passed on by a copy.
    ///
    /// `None` in a forked child, where the frame is its parent's.
    ///
    /// ```
    /// use std::time::Duration;
    /// use zerobuffer::{BufferConfig, Reader, Writer, WriterOptions};
    ///
    /// # let [camera, display] = ["camera", "display"].map(|what| format!("doc-frame-to-mut-{what}-{}", std::process::id()));
    /// let config = BufferConfig::default().allow_payload_sharing(true);
    /// let mut reader = Reader::create(&camera, config.clone())?;
    /// let mut viewer = Reader::create(&display, config)?; // usually in another process
    /// let mut output = Writer::connect_with(&display, WriterOptions::default().request_payload_sharing(true))?;
    /// Writer::connect(&camera)?.write_frame(&[1; 100_000])?;
    /// let mut frame = reader.read_frame(Duration::from_secs(1))?.expect("a frame");
    /// output.forward_to(&frame)?; // it may be lent now
    /// frame.to_mut().expect("this process read it").fill(2);
    /// assert_eq!((frame[0], viewer.read_frame(Duration::from_secs(1))?.expect("a frame")[0]), (2, 1));
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn to_mut(&mut self) -> Option<&mut [u8]> {
        if !self.lender.buffer.is_mine() {
            return None;
        }
        if !self.is_only_mine()
            && let Some(copied) = self.lender.keep_copy(&self.record, self.to_vec())
        {
            self.record = copied;
        }
        Some(self.bytes_mut())
    }

    /// Whether nothing else has the bytes.
    fn is_only_mine(&self) -> bool {
        !self.is_shared() && (self.record.copied_at().is_some() || self.lender.is_only_mine(&self.record))
    }

    /// Whether the bytes lie in another reader's buffer, which has lent them ([`Writer::forward`](crate::Writer::forward)).
    /// They keep their place there, and its writer waits for them in the end, so release the frame soon.
    pub fn is_shared(&self) -> bool {
        self.record.is_borrowed()
    }

    /// What a writer needs to lend the frame; `None` if its bytes do not lie in its reader's buffer.
    pub(crate) fn to_be_lent(&self) -> Option<(&Arc<Lender>, &FrameRecord)> {
        self.record.elsewhere_at().is_none().then_some((&self.lender, &self.record))
    }

    /// Flags of the header as they were when the frame was read ([`crate::ring::flags`]); 0 in a classic ring.
    pub(crate) fn flags(&self) -> u16 {
        self.record.flags()
    }

    /// Whether the writer has withdrawn the frame, as of now.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.lender.header_word(&self.record).is_some_and(|word| word.flags() & flags::CANCELLED != 0)
    }

    /// Whether the frame's reader has been closed.
    pub(crate) fn is_orphaned(&self) -> bool {
        // Relaxed: a hint. The reader clears its pid when it closes.
        self.lender.buffer.mapping.oieb().reader_pid.load(crate::sync::Ordering::Relaxed) == 0
    }

    /// When the frame is worth nothing any more, as it travels (docs/PROTOCOL.md, "Duplex channels"); 0 = never.
    pub(crate) fn deadline(&self) -> u64 {
        self.lender.deadline(&self.record)
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the frame was committed when it was taken, and its bytes are given back only by the drop of this
        // `Frame`; the mapping lives as long as `self.lender`, which outlives the slice's borrow of `self`.
        unsafe { bytes_of(&self.lender, &self.record) }
    }
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.lender.release(&self.record);
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("sequence", &self.sequence()).field("len", &self.len()).finish()
    }
}

/// A frame borrowed from its reader: no reference counting, one at a time.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::{BufferConfig, Reader, Writer};
///
/// # let name = format!("doc-frame-ref-{}", std::process::id());
/// let mut reader = Reader::create(&name, BufferConfig::default().payload_size(4096))?;
/// Writer::connect(&name)?.write_frame(b"hello")?;
/// let frame = reader.read_frame_ref(Duration::from_secs(1))?.expect("a frame");
/// assert_eq!(frame.len(), 5);
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct FrameRef<'a> {
    lender: &'a Arc<Lender>,
    record: &'a FrameRecord,
}

impl<'a> FrameRef<'a> {
    pub(crate) fn new(lender: &'a Arc<Lender>, record: &'a FrameRecord) -> FrameRef<'a> {
        FrameRef { lender, record }
    }

    /// The sequence number that the writer gave the frame.
    pub fn sequence(&self) -> u64 {
        self.record.sequence
    }

    /// Bytes of data.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a frame is never empty: protocol 1 has no frame of 0 bytes"
    )]
    pub fn len(&self) -> usize {
        self.record.len()
    }

    /// Copies the frame to the start of `target` and returns the number of bytes copied.
    ///
    /// # Panics
    ///
    /// If `target` is shorter than the frame.
    #[inline]
    pub fn copy_to(&self, target: &mut [u8]) -> usize {
        // SAFETY: `self` has not been released.
        unsafe { copy_out(self.lender, self.record, target) }
    }

    /// Whether the bytes lie in another reader's buffer; see [`Frame::is_shared`].
    pub fn is_shared(&self) -> bool {
        self.record.is_borrowed()
    }

    /// Whether the release would be more than a note that the bytes may go back, because the writer may need them now. For bindings,
    /// which leave a release that is not due to their next call.
    #[doc(hidden)]
    #[inline]
    pub fn is_due(&self) -> bool {
        self.lender.is_due(self.record)
    }

    /// Releases the frame if that is not due; otherwise returns it. Takes no lock, makes no system call, and logs nothing.
    ///
    /// # Errors
    ///
    /// The frame.
    #[doc(hidden)]
    #[inline]
    pub fn release_quietly(self) -> Result<(), Self> {
        if !self.lender.release_quietly(self.record) {
            return Err(self);
        }
        // It has been released.
        std::mem::forget(self);
        Ok(())
    }

    /// Makes an owned frame of it, which outlives the next read and the reader.
    ///
    /// ```
    /// use std::time::Duration;
    /// use zerobuffer::{BufferConfig, Reader, Writer};
    ///
    /// # let name = format!("doc-frame-ref-keep-{}", std::process::id());
    /// let mut reader = Reader::create(&name, BufferConfig::default().payload_size(4096))?;
    /// Writer::connect(&name)?.write_frame(b"hello")?;
    /// let kept = reader.read_frame_ref(Duration::from_secs(1))?.expect("a frame").keep();
    /// reader.close()?;
    /// assert_eq!(*kept, *b"hello");
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    #[inline]
    pub fn keep(self) -> Frame {
        let frame = Frame::of_last(self.lender, self.record);
        // The owned frame gives the bytes back.
        std::mem::forget(self);
        frame
    }

    /// Gives the bytes back, as dropping the frame does.
    #[inline]
    pub fn release(self) {}
}

impl Deref for FrameRef<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: as for Frame; `lender` is borrowed for longer than the slice.
        unsafe { bytes_of(self.lender, self.record) }
    }
}

impl AsRef<[u8]> for FrameRef<'_> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Drop for FrameRef<'_> {
    #[inline]
    fn drop(&mut self) {
        self.lender.release_last(self.record);
    }
}

impl fmt::Debug for FrameRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameRef").field("sequence", &self.sequence()).field("len", &self.len()).finish()
    }
}

/// Copies a frame to the start of `target`; returns the number of bytes copied. Panics if there is no room.
///
/// # Safety
///
/// The frame has not been released.
#[inline]
unsafe fn copy_out(lender: &Lender, record: &FrameRecord, target: &mut [u8]) -> usize {
    let target = &mut target[..record.len()];
    // SAFETY: the frame was committed when it was taken, and is not released meanwhile, by the caller's promise.
    let copied = unsafe { lender.buffer.mapping.read_frame(record.position(), target) };
    if copied.is_none() {
        // SAFETY: by the caller's promise.
        let bytes = unsafe { bytes_elsewhere(record) };
        target[..bytes.len()].copy_from_slice(bytes);
        return bytes.len();
    }
    target.len()
}

/// The bytes of a frame.
///
/// # Safety
///
/// The frame has not been released for as long as the slice lives, and neither has `lender`.
unsafe fn bytes_of<'a>(lender: &'a Lender, record: &FrameRecord) -> &'a [u8] {
    // SAFETY: by the caller's promise. The bounds were checked when the frame was taken; if they did not hold, an
    // empty slice would be the worst outcome.
    let bytes = unsafe { lender.buffer.mapping.frame_bytes(record.position(), record.len()) };
    // SAFETY: by the caller's promise.
    bytes.unwrap_or_else(|| unsafe { bytes_elsewhere(record) })
}

/// The bytes of a frame that do not lie in its reader's ring: those of a borrowed frame, or of a copy, else none.
///
/// # Safety
///
/// The frame has not been released for as long as the slice lives.
#[cold]
unsafe fn bytes_elsewhere<'a>(record: &FrameRecord) -> &'a [u8] {
    // SAFETY: the address is that of `record.len()` readable bytes, which the release queue keeps until the frame is released
    // (ReleaseQueue::hold_borrowed, keep_copy). Those of a borrowed frame are not written meanwhile: their reader has lent them (trust
    // model). Those of a copy are written through a `&mut Frame` alone.
    record.elsewhere_at().map_or(&[], |at| unsafe { std::slice::from_raw_parts(at, record.len()) })
}
