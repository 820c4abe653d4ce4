//! Readers and writers in tokio: its reactor polls their descriptors, so no thread of this library is on the way of a wake-up.
//!
//! The futures of the feature `async` ([`Reader::read_frame_async`]) run under tokio too, as under any executor.
//!
//! UNSAFE: a descriptor that tokio's reactor keeps.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use ::tokio::io::Interest;
use ::tokio::io::unix::AsyncFd;
use ::tokio::task::consume_budget;

use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::reader::Reader;
use crate::writer::Writer;

/// A reader whose frames tasks of tokio await.
///
/// Its futures take a frame only in the poll that returns it. So one that is dropped, by `select!` or a time-out, loses nothing.
///
/// ```
/// use zerobuffer::tokio::{AsyncReader, AsyncWriter};
/// use zerobuffer::{BufferConfig, Reader, Writer};
///
/// # let name = format!("doc-tokio-{}", std::process::id());
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
/// # runtime.block_on(async {
/// let mut reader = AsyncReader::new(Reader::create(&name, BufferConfig::default())?)?;
/// let mut writer = AsyncWriter::new(Writer::connect(&name)?)?; // usually in another process
/// let write = async { writer.write_frame(b"frame").await };
/// let (frame, sequence) = tokio::join!(reader.read_frame(), write);
/// assert_eq!((&*frame?, sequence?), (&b"frame"[..], 1));
/// # Ok::<(), zerobuffer::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct AsyncReader {
    ready: Ready,
    reader: Reader,
}

/// A writer whose space tasks of tokio await.
///
/// Its futures write a frame only in the poll that returns: one that is dropped has written all of it and returned, or nothing.
#[derive(Debug)]
pub struct AsyncWriter {
    ready: Ready,
    writer: Writer,
}

/// The reactor's view of a handle's descriptor: a copy, which it may keep for longer than the handle lives.
#[derive(Debug)]
struct Ready(AsyncFd<OwnedFd>);

impl Ready {
    fn new(name: &str, descriptor: BorrowedFd<'_>) -> Result<Ready> {
        let failed = |error: io::Error| Error::os(name, "have tokio poll its descriptor", error);
        let copy = descriptor.try_clone_to_owned().map_err(failed)?;
        // SAFETY: the copy is open until the `AsyncFd` is dropped, which owns it; nothing takes it out or exchanges it.
        let ready = unsafe { AsyncFd::register_with_interest(copy, Interest::READABLE) };
        ready.map(Ready).map_err(|error| failed(error.into()))
    }

    /// Calls `look` until it finds something, whenever the descriptor is ready. A look that finds nothing makes it no longer ready.
    async fn find<H, T>(
        &self,
        handle: &mut H,
        name: impl Fn(&H) -> &str,
        mut look: impl FnMut(&mut H) -> Result<Option<T>>,
    ) -> Result<T> {
        // A task that always finds something lets others run, too.
        consume_budget().await;
        loop {
            if let Some(found) = look(handle)? {
                return Ok(found);
            }
            let ready = self.0.readable().await;
            let mut ready =
                ready.map_err(|error| Error::os(name(handle), "wait for its descriptor", error))?;
            // Before the next look: what comes later makes it ready again.
            ready.clear_ready();
        }
    }
}

impl AsyncReader {
    /// Has the current runtime poll the reader's descriptor.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::descriptor`]; `System` if it cannot be polled.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, or if its I/O is not enabled.
    pub fn new(reader: Reader) -> Result<AsyncReader> {
        Ok(AsyncReader { ready: Ready::new(reader.name(), reader.descriptor()?)?, reader })
    }

    /// Waits for the next frame. It has no time-out: use `tokio::time::timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::read_frame`].
    pub async fn read_frame(&mut self) -> Result<Frame> {
        self.ready.find(&mut self.reader, Reader::name, |reader| reader.read_frame(Duration::ZERO)).await
    }

    /// Waits for a frame and returns the newest one, passing over those before it ([`Reader::read_latest_frame`]).
    ///
    /// # Errors
    ///
    /// Those of [`Reader::read_latest_frame`].
    pub async fn read_latest_frame(&mut self) -> Result<Frame> {
        self.ready
            .find(&mut self.reader, Reader::name, |reader| reader.read_latest_frame(Duration::ZERO))
            .await
    }

    /// Waits for the next frame of one writer; `None` once the writer has closed.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::read_frame`] but `WriterClosed`.
    pub async fn next(&mut self) -> Result<Option<Frame>> {
        until_closed(self.read_frame().await)
    }

    /// Waits for the newest frame of one writer; `None` once the writer has closed.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::read_latest_frame`] but `WriterClosed`.
    pub async fn next_latest(&mut self) -> Result<Option<Frame>> {
        until_closed(self.read_latest_frame().await)
    }

    /// The reader.
    pub fn get_ref(&self) -> &Reader {
        &self.reader
    }

    /// The reader, for calls that do not wait.
    pub fn get_mut(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// Takes the reader out of the runtime.
    pub fn into_inner(self) -> Reader {
        self.reader
    }
}

fn until_closed(read: Result<Frame>) -> Result<Option<Frame>> {
    match read {
        Err(error) if error.kind() == ErrorKind::WriterClosed => Ok(None),
        read => read.map(Some),
    }
}

impl AsyncWriter {
    /// Has the current runtime poll the writer's descriptor.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::descriptor`]; `System` if it cannot be polled.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, or if its I/O is not enabled.
    pub fn new(writer: Writer) -> Result<AsyncWriter> {
        Ok(AsyncWriter { ready: Ready::new(writer.name(), writer.descriptor()?)?, writer })
    }

    /// Writes `data` as one frame as soon as there is space. Returns the frame's sequence number. It has no time-out: use
    /// `tokio::time::timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::try_write_frame`].
    pub async fn write_frame(&mut self, data: &[u8]) -> Result<u64> {
        self.ready.find(&mut self.writer, Writer::name, |writer| writer.try_write_frame(data)).await
    }

    /// The writer.
    pub fn get_ref(&self) -> &Writer {
        &self.writer
    }

    /// The writer, for calls that do not wait.
    pub fn get_mut(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// Takes the writer out of the runtime.
    pub fn into_inner(self) -> Writer {
        self.writer
    }
}
