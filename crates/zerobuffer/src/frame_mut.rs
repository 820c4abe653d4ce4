//! A frame that is being filled in place.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::error::Result;
use crate::outlet::Outlet;
use crate::ring::Tag;

/// Bytes of the buffer, lent to be filled in; see [`Writer::acquire_frame`](crate::Writer::acquire_frame).
///
/// Nothing of it is visible to the reader before [`FrameMut::commit`]; dropping it discards it.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::{BufferConfig, Reader, Writer};
///
/// # let name = format!("doc-frame-mut-{}", std::process::id());
/// let mut reader = Reader::create(&name, BufferConfig::default())?;
/// let mut writer = Writer::connect(&name)?;
/// let mut frame = writer.acquire_frame(100)?;
/// frame[..3].copy_from_slice(b"abc");
/// frame.commit_len(3)?;
/// drop(writer.acquire_frame(50)?); // discarded
/// assert_eq!(&*reader.read_frame(Duration::from_secs(1))?.expect("a frame"), b"abc");
/// assert!(reader.try_read_frame()?.is_none());
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct FrameMut<'a> {
    /// Kept here: the outlet computes them each time that it is asked.
    bytes: &'a mut [u8],
    outlet: &'a mut Outlet,
}

impl<'a> FrameMut<'a> {
    /// A guard for the frame that `outlet` has acquired.
    #[inline]
    pub(crate) fn new(outlet: &'a mut Outlet) -> FrameMut<'a> {
        // SAFETY: the guard has borrowed the outlet, and asks it for nothing but the commit or the discard, behind which no one
        // uses the slice: both take the guard away.
        #[allow(unsafe_code)]
        let bytes = unsafe { outlet.bytes_of_guard() };
        FrameMut { bytes, outlet }
    }

    /// Commits the whole frame; returns its sequence number.
    ///
    /// # Errors
    ///
    /// `CorruptBuffer`.
    #[inline]
    pub fn commit(self) -> Result<u64> {
        self.outlet.commit_acquired(None, Tag::default())
    }

    /// Commits the first `len` bytes; returns the frame's sequence number.
    ///
    /// # Errors
    ///
    /// `InvalidFrameSize` if `len` is 0 or more than was acquired (the frame is discarded); `CorruptBuffer`.
    #[inline]
    pub fn commit_len(self, len: usize) -> Result<u64> {
        self.outlet.commit_acquired(Some(len), Tag::default())
    }
}

impl Deref for FrameMut<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl DerefMut for FrameMut<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

impl Drop for FrameMut<'_> {
    #[inline]
    fn drop(&mut self) {
        self.outlet.discard();
    }
}

impl fmt::Debug for FrameMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameMut").field("len", &self.len()).finish()
    }
}
