//! Reading and writing as futures, for any executor: a task is woken through [`Reader::notify`].
//!
//! A future takes a frame, or writes one, only in the poll that returns it. So a future that is dropped loses nothing.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;

use crate::error::{ErrorKind, Result};
use crate::frame::Frame;
use crate::reader::Reader;
use crate::writer::Writer;

/// The next frame, or the newest one, as a future; see [`Reader::read_frame_async`] and [`Reader::read_latest_frame_async`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub struct ReadFrame<'a> {
    reader: &'a mut Reader,
    latest: bool,
    waits: bool,
}

/// The frames of one writer, or the newest ones, as a stream; see [`Reader::frames_async`] and [`Reader::latest_frames_async`].
#[derive(Debug)]
#[must_use = "streams do nothing unless they are polled"]
pub struct FrameStream<'a>(ReadFrame<'a>);

/// A frame that is written as soon as there is space, as a future; see [`Writer::write_frame_async`].
#[derive(Debug)]
#[must_use = "futures do nothing unless they are polled"]
pub struct WriteFrame<'a, D> {
    writer: &'a mut Writer,
    data: D,
    waits: bool,
}

impl<D> Unpin for WriteFrame<'_, D> {}

impl Reader {
    /// Waits for the next frame, as a future that any executor can run.
    ///
    /// Dropping it loses no frame. It has no time-out: use the executor's, or [`Reader::read_frame`].
    ///
    /// # Errors
    ///
    /// Those of [`Reader::read_frame`] and [`Reader::descriptor`].
    ///
    /// ```
    /// use zerobuffer::{BufferConfig, Reader, Writer};
    ///
    /// # let name = format!("doc-read-async-{}", std::process::id());
    /// let mut reader = Reader::create(&name, BufferConfig::default())?;
    /// let mut writer = Writer::connect(&name)?; // usually in another process
    /// let thread = std::thread::spawn(move || writer.write_frame(b"frame"));
    /// let frame = futures::executor::block_on(reader.read_frame_async())?;
    /// assert_eq!(&*frame, b"frame");
    /// # thread.join().unwrap()?;
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn read_frame_async(&mut self) -> ReadFrame<'_> {
        ReadFrame { reader: self, latest: false, waits: false }
    }

    /// Waits for a frame and returns the newest one, passing over those before it ([`Reader::read_latest_frame`]), as a future that any
    /// executor can run; otherwise like [`Reader::read_frame_async`].
    ///
    /// # Errors
    ///
    /// Those of [`Reader::read_frame_async`].
    pub fn read_latest_frame_async(&mut self) -> ReadFrame<'_> {
        ReadFrame { reader: self, latest: true, waits: false }
    }

    /// The frames of one writer, as a stream that any executor can run; ends when the writer closes.
    ///
    /// ```
    /// use futures::StreamExt;
    /// use zerobuffer::{BufferConfig, Reader, Writer};
    ///
    /// # let name = format!("doc-frames-async-{}", std::process::id());
    /// let mut reader = Reader::create(&name, BufferConfig::default())?;
    /// let mut writer = Writer::connect(&name)?; // usually in another process
    /// writer.write_frames([b"one", b"two"])?;
    /// writer.close()?;
    /// let frames: Vec<_> = futures::executor::block_on(reader.frames_async().collect());
    /// assert_eq!(frames.len(), 2);
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn frames_async(&mut self) -> FrameStream<'_> {
        FrameStream(self.read_frame_async())
    }

    /// The newest frame of one writer, again and again, as a stream that any executor can run; ends when the writer closes.
    pub fn latest_frames_async(&mut self) -> FrameStream<'_> {
        FrameStream(self.read_latest_frame_async())
    }
}

impl Writer {
    /// Writes `data` as one frame as soon as there is space, as a future that any executor can run. Returns the frame's sequence
    /// number.
    ///
    /// A future that is dropped has written all of the frame, and returned, or nothing. It has no time-out.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::try_write_frame`] and [`Writer::descriptor`].
    ///
    /// ```
    /// use zerobuffer::{BufferConfig, Reader, Writer};
    ///
    /// # let name = format!("doc-write-async-{}", std::process::id());
    /// let mut reader = Reader::create(&name, BufferConfig::default())?; // usually in another process
    /// let mut writer = Writer::connect(&name)?;
    /// assert_eq!(futures::executor::block_on(writer.write_frame_async(b"frame"))?, 1);
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn write_frame_async<D: AsRef<[u8]>>(&mut self, data: D) -> WriteFrame<'_, D> {
        WriteFrame { writer: self, data, waits: false }
    }
}

impl Future for ReadFrame<'_> {
    type Output = Result<Frame>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<Frame>> {
        let this = self.get_mut();
        // Before the look: one that finds nothing arms the descriptor.
        this.reader.descriptor()?;
        let found = match this.latest {
            false => this.reader.read_frame(Duration::ZERO),
            true => this.reader.read_latest_frame(Duration::ZERO),
        };
        if let Some(frame) = found? {
            return Poll::Ready(Ok(frame));
        }
        let waker = context.waker().clone();
        this.reader.notify(move || waker.wake())?;
        this.waits = true;
        Poll::Pending
    }
}

impl Stream for FrameStream<'_> {
    type Item = Result<Frame>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame>>> {
        match Pin::new(&mut self.get_mut().0).poll(context) {
            Poll::Ready(Err(error)) if error.kind() == ErrorKind::WriterClosed => Poll::Ready(None),
            other => other.map(Some),
        }
    }
}

impl<D: AsRef<[u8]>> Future for WriteFrame<'_, D> {
    type Output = Result<u64>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<u64>> {
        let this = self.get_mut();
        this.writer.descriptor()?;
        if let Some(sequence) = this.writer.try_write_frame(this.data.as_ref())? {
            return Poll::Ready(Ok(sequence));
        }
        let waker = context.waker().clone();
        this.writer.notify(move || waker.wake())?;
        this.waits = true;
        Poll::Pending
    }
}

impl Drop for ReadFrame<'_> {
    fn drop(&mut self) {
        if self.waits {
            self.reader.cancel_notify();
        }
    }
}

impl<D> Drop for WriteFrame<'_, D> {
    fn drop(&mut self) {
        if self.waits {
            self.writer.cancel_notify();
        }
    }
}
