//! The writing side: connects to a buffer that a reader has created.

use std::sync::Arc;
use std::time::Duration;

use crate::buffer::{Buffer, InterruptHandle};
use crate::config::WriterOptions;
use crate::error::{Error, Result};
use crate::frame::Frame;
use crate::frame_mut::FrameMut;
use crate::lifecycle::connect::{self, Connection};
use crate::lifecycle::liveness::{self, ReaderState, WriterWords};
use crate::lifecycle::registry::{self, OwnedFiles};
use crate::memory::reserve::Reserver;
use crate::metadata;
use crate::outlet::{Batch, Outlet};
use crate::places::Places;
use crate::reader::Reader;
use crate::reader_watch::{self, ReaderWatch};
use crate::ring::extended::Marker;
use crate::ring::{FrameAddress, Tag};
use crate::sharing::{self, forward::Forwarded};
use crate::stats::WriterStats;
use crate::sync::Ordering;
use crate::testing::stop::stop_point;

/// The writing side of a buffer.
///
/// A writer may move between threads (`Send`) but is used by one at a time (not `Sync`).
///
/// ```
/// use zerobuffer::{BufferConfig, Reader, Writer};
///
/// # let name = format!("doc-writer-{}", std::process::id());
/// let mut reader = Reader::create(&name, BufferConfig::default())?; // usually in another process
/// let mut writer = Writer::connect(&name)?;
/// writer.write_frame(b"copied in")?;
///
/// let mut frame = writer.acquire_frame(1024)?; // or filled in place
/// frame.fill(7);
/// frame.commit()?;
/// assert_eq!(writer.frames_written(), 2);
/// # Ok::<(), zerobuffer::Error>(())
/// ```
///
/// ```compile_fail
/// fn shared_between_threads<T: Sync>() {}
/// shared_between_threads::<zerobuffer::Writer>();
/// ```
pub struct Writer {
    outlet: Outlet,
    /// The reader's files, for the clean-up after its death.
    files: OwnedFiles,
    /// Makes the type `!Sync`.
    not_sync: std::marker::PhantomData<std::cell::Cell<()>>,
}

impl Writer {
    /// Connects to the buffer `name`, which a reader must have created.
    ///
    /// # Errors
    ///
    /// `BufferNotFound`, `ReaderDead`, `WriterAlreadyConnected`, `PermissionDenied`, `IncompatibleProtocol`,
    /// `CorruptBuffer`, `InvalidName`; `InvalidState` if the last writer died at a moment that only the reader can tell from
    /// others, and the reader does not look at the buffer for a second.
    pub fn connect(name: &str) -> Result<Writer> {
        Writer::connect_with(name, WriterOptions::default())
    }

    /// Connects with other time-outs than the default; see [`WriterOptions`].
    ///
    /// # Errors
    ///
    /// Those of [`Writer::connect`]; `BufferNotFound` and `ReaderDead` only after the connect time-out.
    pub fn connect_with(name: &str, options: WriterOptions) -> Result<Writer> {
        let Connection { buffer, segment, files, role, ring } =
            connect::connect(name, options.connect_timeout)?;
        let reserver = Reserver::new(segment, *buffer.mapping.geometry());
        let places = Places::new(Arc::new(buffer), ring, role, reserver, options.wait);
        let outlet = Outlet::new(places, options.write_timeout, options.sharing);
        Ok(Writer { outlet, files, not_sync: std::marker::PhantomData })
    }

    #[inline]
    fn buffer(&self) -> &Arc<Buffer> {
        &self.outlet.places.buffer
    }

    pub(crate) fn outlet(&mut self) -> &mut Outlet {
        &mut self.outlet
    }

    /// The buffer's name.
    pub fn name(&self) -> &str {
        self.buffer().name()
    }

    /// The largest frame that the buffer can hold, in bytes: its payload size less the 16-byte header.
    pub fn max_frame_size(&self) -> usize {
        self.outlet.places.max_frame_size()
    }

    /// Copies `data` into the buffer as one frame; returns its sequence number. Waits for space up to the write time-out.
    ///
    /// # Errors
    ///
    /// `InvalidFrameSize` (0 bytes), `FrameTooLarge` (at once), `BufferFull` (after the time-out), `ReaderDead`,
    /// `OutOfMemory` if `/dev/shm` is full, `Interrupted`, `InvalidState`, `CorruptBuffer`.
    #[inline]
    pub fn write_frame(&mut self, data: &[u8]) -> Result<u64> {
        self.outlet.write(data)
    }

    /// Writes a frame that carries `tag`. `now` is the coarse clock, as the caller has just read it.
    #[inline]
    pub(crate) fn write_tagged(&mut self, data: &[u8], tag: Tag, now: u64) -> Result<u64> {
        self.outlet.write_tagged(data, tag, now)
    }

    /// As [`Writer::write_frame`], without waiting: `None` if there is no space now.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::write_frame`], without `BufferFull`.
    #[inline]
    pub fn try_write_frame(&mut self, data: &[u8]) -> Result<Option<u64>> {
        self.outlet.try_write(data)
    }

    /// Writes each item as a frame, waiting for space for each up to the write time-out; returns how many frames were written.
    ///
    /// Cheaper than one call each: the reader is woken once.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::write_frame`], at the first frame that fails; those before it are written, and
    /// [`Writer::frames_written`] tells how many.
    pub fn write_frames<I>(&mut self, frames: I) -> Result<usize>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let mut batch = Batch::new(&mut self.outlet);
        let mut total = 0;
        for frame in frames {
            batch.write(frame.as_ref())?;
            total += 1;
        }
        Ok(total)
    }

    /// Lends `len` bytes of the buffer to be filled in place; committed by [`FrameMut::commit`], discarded by drop.
    ///
    /// Waits for space up to the write time-out. The bytes' first content is undefined.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::write_frame`].
    #[inline]
    pub fn acquire_frame(&mut self, len: usize) -> Result<FrameMut<'_>> {
        self.outlet.acquire(len, &Tag::default())?;
        Ok(FrameMut::new(&mut self.outlet))
    }

    /// As [`Writer::acquire_frame`], without waiting: `None` if there is no space now.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::write_frame`], without `BufferFull`.
    #[inline]
    pub fn try_acquire_frame(&mut self, len: usize) -> Result<Option<FrameMut<'_>>> {
        Ok(if self.outlet.try_acquire(len)? { Some(FrameMut::new(&mut self.outlet)) } else { None })
    }

    /// Acquires `len` bytes without a guard, for callers that cannot hold a borrow (language bindings); then
    /// [`Writer::acquired`], and [`Writer::commit_frame`] or [`Writer::discard_frame`].
    ///
    /// # Errors
    ///
    /// Those of [`Writer::write_frame`]; `InvalidState` if a frame is acquired already.
    #[inline]
    pub fn acquire_frame_buffer(&mut self, len: usize) -> Result<()> {
        self.acquire_tagged(len, &Tag::default())
    }

    /// Acquires `len` bytes, with room in the header for what `tag` carries.
    #[inline]
    pub(crate) fn acquire_tagged(&mut self, len: usize, tag: &Tag) -> Result<()> {
        self.outlet.acquire(len, tag)
    }

    /// As [`Writer::acquire_tagged`]. `now` is the coarse clock, as the caller has just read it.
    pub(crate) fn acquire_tagged_at(&mut self, len: usize, tag: &Tag, now: u64) -> Result<()> {
        self.outlet.acquire_at(len, tag, now)
    }

    /// The bytes acquired, if any.
    #[inline]
    pub fn acquired(&mut self) -> Option<&mut [u8]> {
        self.outlet.bytes_mut()
    }

    pub(crate) fn acquired_ref(&self) -> Option<&[u8]> {
        self.outlet.bytes()
    }

    /// Commits the first `len` bytes of the frame acquired, all of them if `None`; returns its sequence number.
    ///
    /// # Errors
    ///
    /// `InvalidState` if nothing is acquired; `InvalidFrameSize` if `len` is 0 or more than was acquired; `CorruptBuffer`.
    /// Towards a 1.x reader, where a shorter frame has to be moved to the start of the ring, also what
    /// [`Writer::write_frame`] fails with. But for `CorruptBuffer` the frame stays acquired.
    #[inline]
    pub fn commit_frame(&mut self, len: Option<usize>) -> Result<u64> {
        self.commit_tagged(len, Tag::default())
    }

    /// Commits a frame that carries `tag`.
    #[inline]
    pub(crate) fn commit_tagged(&mut self, len: Option<usize>, tag: Tag) -> Result<u64> {
        self.outlet.commit_acquired(len, tag)
    }

    /// Whether flags and deadlines reach the reader.
    pub(crate) fn carries_tags(&self) -> bool {
        self.outlet.carries_tags()
    }

    /// Where the frame stands that was committed last.
    pub(crate) fn last_place(&self) -> Option<FrameAddress> {
        self.outlet.last_place()
    }

    /// Withdraws a committed frame. Returns whether the reader had not released it.
    pub(crate) fn cancel(&mut self, frame: FrameAddress) -> bool {
        self.outlet.cancel(frame)
    }

    /// What withdraws frames while the one acquired is filled; see [`ReaderWatch::cancel`].
    pub(crate) fn marker(&self) -> Option<Marker> {
        self.outlet.marker()
    }

    /// Discards the frame acquired, if any. The reader never learns of it.
    #[inline]
    pub fn discard_frame(&mut self) {
        self.outlet.discard();
    }

    /// Passes on a frame that a reader of this process has read, waiting for space up to the write time-out.
    ///
    /// Without a copy, if this writer requests sharing ([`WriterOptions::request_payload_sharing`]), the frame's reader and this
    /// writer's allow it ([`BufferConfig::allow_payload_sharing`](crate::BufferConfig::allow_payload_sharing)), and the frame has
    /// 32 KiB or more: the reader then looks at the bytes where they are. They count as held by the frame's reader until this
    /// writer's reader has released them, or is gone. Otherwise by a copy, which is no error: the reader must have looked at the
    /// buffer first; at most half of the frame's buffer is lent at a time; and a frame that was borrowed itself
    /// ([`Frame::is_shared`]) is not lent on.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::write_frame`], with the frame. `FrameTooLarge` if the buffer cannot hold the frame as a copy, even
    /// where it would be lent.
    ///
    /// ```
    /// use std::time::Duration;
    /// use zerobuffer::{BufferConfig, Forwarded, Reader, Writer, WriterOptions};
    ///
    /// # let [camera, display] = ["camera", "display"].map(|what| format!("doc-forward-{what}-{}", std::process::id()));
    /// let config = BufferConfig::default().allow_payload_sharing(true);
    /// let mut viewer = Reader::create(&display, config.clone())?; // usually in another process
    /// // The relay: reads one buffer, and writes the other one.
    /// let mut input = Reader::create(&camera, config)?;
    /// let mut output = Writer::connect_with(&display, WriterOptions::default().request_payload_sharing(true))?;
    ///
    /// let mut source = Writer::connect(&camera)?; // in a third process
    /// let mut forwarded = Vec::new();
    /// for _ in 0..2 {
    ///     source.write_frame(&[7; 100_000])?;
    ///     let frame = input.read_frame(Duration::from_secs(1))?.expect("a frame");
    ///     forwarded.push(output.forward(frame).map_err(|(error, _)| error)?);
    ///     let frame = viewer.read_frame(Duration::from_secs(1))?.expect("a frame");
    ///     assert_eq!((frame.len(), frame[0]), (100_000, 7));
    /// }
    /// // The viewer learned of the relay with the first frame.
    /// assert_eq!(forwarded, [Forwarded::Copied, Forwarded::Shared]);
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn forward(&mut self, frame: Frame) -> std::result::Result<Forwarded, (Error, Frame)> {
        match self.outlet.forward(&frame) {
            Ok(forwarded) => Ok(forwarded),
            Err(error) => Err((error, frame)),
        }
    }

    /// As [`Writer::forward`], for a frame that goes to several writers, or that the caller keeps.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::forward`].
    pub fn forward_to(&mut self, frame: &Frame) -> Result<Forwarded> {
        self.outlet.forward(frame)
    }

    /// As [`Writer::forward_to`], as a frame that carries `tag`.
    pub(crate) fn forward_tagged(&mut self, frame: &Frame, tag: Tag) -> Result<Forwarded> {
        self.outlet.forward_tagged(frame, tag)
    }

    /// Offers `source`'s payload to this writer's reader, before there is a frame to forward.
    pub(crate) fn offer(&mut self, source: &Reader) -> Result<()> {
        self.outlet.offer(source.lender())
    }

    /// Whether this writer requests payload sharing and its reader allows it.
    pub fn payload_sharing_enabled(&self) -> bool {
        self.outlet.offers.is_requested() && sharing::is_enabled(self.buffer())
    }

    /// How many frames are lent through this writer now, as far as the lending reader has looked: a figure.
    pub fn payload_share_count(&self) -> u64 {
        sharing::share_count(self.buffer())
    }

    /// The process that lends frames through this buffer; 0 = none. A figure: a killed process leaves it.
    pub fn payload_owner_pid(&self) -> u64 {
        sharing::owner_pid(self.buffer())
    }

    /// Sets the buffer's metadata: at most once per buffer, and at most its metadata size less 8 bytes.
    ///
    /// # Errors
    ///
    /// `MetadataAlreadyWritten`, `MetadataTooLarge`, `OutOfMemory`, `InvalidState`.
    pub fn set_metadata(&mut self, metadata: &[u8]) -> Result<()> {
        self.buffer().check_mine()?;
        metadata::publish(self.buffer(), &self.outlet.places.reserver, metadata)
    }

    /// Takes back the metadata of an earlier writer, so that each client of a duplex server can set its own.
    pub(crate) fn forget_metadata(&mut self) {
        metadata::withdraw(self.buffer());
    }

    /// Whether the reader lives.
    pub fn is_reader_connected(&self) -> bool {
        let role = self.outlet.places.role.as_ref();
        role.is_some_and(|role| matches!(reader_watch::state(self.buffer(), role), Ok(ReaderState::Alive)))
    }

    /// What tells from any thread whether the reader is connected while another thread uses the writer.
    ///
    /// # Errors
    ///
    /// `Closed`.
    pub fn reader_watch(&self) -> Result<ReaderWatch> {
        self.outlet.places.role()?;
        Ok(ReaderWatch::new(self.buffer(), self.outlet.places.reserver.segment()))
    }

    /// How long a write waits for space. `Duration::ZERO` polls once, `Duration::MAX` waits without a limit.
    pub fn set_write_timeout(&mut self, timeout: Duration) {
        self.outlet.timeout = timeout;
    }

    /// How long a write waits for space.
    pub fn write_timeout(&self) -> Duration {
        self.outlet.timeout
    }

    /// Frames committed by this writer.
    pub fn frames_written(&self) -> u64 {
        self.outlet.places.frames_written
    }

    /// What the writer has done so far.
    pub fn stats(&self) -> WriterStats {
        self.outlet.places.stats()
    }

    /// Bytes of data (without headers) committed by this writer.
    pub fn bytes_written(&self) -> u64 {
        self.outlet.places.bytes_written
    }

    /// A file descriptor for event loops: *ready to read* means that there may be space, or an end. Poll it for reading only, like a
    /// reader's ([`Reader::descriptor`](crate::Reader::descriptor)). It is ready at first, and from then on unless the last
    /// [`Writer::try_write_frame`] or [`Writer::try_acquire_frame`] returned `None`. Closed with the writer.
    ///
    /// Never write to it or read from it. It belongs to this process: a forked child has none.
    ///
    /// # Errors
    ///
    /// `System` if there is no file descriptor left, or no thread; `InvalidState` in a forked child.
    ///
    /// ```
    /// use std::os::fd::AsRawFd;
    /// use zerobuffer::{BufferConfig, Reader, Writer};
    ///
    /// # let name = format!("doc-writer-descriptor-{}", std::process::id());
    /// let mut reader = Reader::create(&name, BufferConfig::default().payload_size(4096))?;
    /// let mut writer = Writer::connect(&name)?;
    /// let mut event = libc::pollfd { fd: writer.descriptor()?.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    /// while writer.try_write_frame(&[1; 1000])?.is_some() {}
    /// // SAFETY: one valid `pollfd`.
    /// assert_eq!(unsafe { libc::poll(&mut event, 1, 0) }, 0, "there is no space");
    /// drop(reader.try_read_frame()?);
    /// drop(reader.try_read_frame()?);
    /// // SAFETY: one valid `pollfd`.
    /// assert_eq!(unsafe { libc::poll(&mut event, 1, 5000) }, 1);
    /// assert!(writer.try_write_frame(&[1; 1000])?.is_some());
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    #[cfg(not(loom))]
    pub fn descriptor(&self) -> Result<std::os::fd::BorrowedFd<'_>> {
        self.outlet.places.descriptor()
    }

    /// Calls `callback` once, as soon as there may be space, or an end: at once if the [descriptor](Writer::descriptor) is ready. A thread
    /// of the library calls it, one for the whole process, so it only passes the news on: it wakes a thread or a task, or posts to
    /// an event loop. A second callback replaces one that still waits.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::descriptor`]; then the callback is dropped.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use std::time::Duration;
    /// use zerobuffer::{BufferConfig, Reader, Writer};
    ///
    /// # let name = format!("doc-notify-writer-{}", std::process::id());
    /// let mut reader = Reader::create(&name, BufferConfig::default())?;
    /// let mut writer = Writer::connect(&name)?; // usually in another process
    /// writer.descriptor()?; // from here on, a write that finds no space waits for some
    /// while writer.try_write_frame(&[1; 1 << 20])?.is_some() {}
    /// let (sender, news) = channel();
    /// writer.notify(move || sender.send(()).unwrap())?;
    /// drop(reader.read_frame(Duration::ZERO)?);
    /// news.recv_timeout(Duration::from_secs(5)).expect("news");
    /// assert!(writer.try_write_frame(&[1; 1 << 20])?.is_some());
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    #[cfg(not(loom))]
    pub fn notify(&self, callback: impl FnOnce() + Send + 'static) -> Result<()> {
        self.descriptor()?;
        self.buffer().notify(Box::new(callback))
    }

    /// Calls a callback of [`Writer::notify`] off, and drops it. Returns whether it still waited: if not, it has been called, or is
    /// being called.
    pub fn cancel_notify(&self) -> bool {
        self.buffer().cancel_notify()
    }

    /// A handle with which another thread ends a blocked call.
    pub fn interrupt_handle(&self) -> InterruptHandle {
        InterruptHandle::new(Arc::<Buffer>::clone(self.buffer()))
    }

    /// A guard that keeps the buffer's memory mapped, for language bindings: a view of [`Writer::acquired`] may outlive the
    /// writer there. What is written through such a view after the commit is lost, or spoils a later frame.
    pub fn memory_guard(&self) -> MemoryGuard {
        MemoryGuard { _buffer: Arc::clone(self.buffer()) }
    }

    /// Closes the writer, as dropping it does: the reader gets all frames, and learns at once that there will be no more.
    ///
    /// # Errors
    ///
    /// None today; kept for systems where closing can fail.
    pub fn close(mut self) -> Result<()> {
        self.shut();
        Ok(())
    }

    fn shut(&mut self) {
        let Some(role) = self.outlet.places.role.take() else { return };
        self.outlet.places.close_descriptor();
        let Outlet { places: Places { buffer, ring, watch, .. }, offers, .. } = &mut self.outlet;
        if !buffer.is_mine() {
            // A forked child inherited this handle: the connection stays the parent's (spec failure 9).
            return;
        }
        watch.end();
        let oieb = buffer.mapping.oieb();
        let words = WriterWords::load(oieb);
        ring.clear_pid(buffer);
        stop_point!("close:writer-word");
        // Release pairs with the Acquire load in WriterWords::load: a reader that sees "closed" sees all commits.
        oieb.writer_word.store(words.word.closed().0, Ordering::Release);
        // As late as possible: a reader that dies after this look leaves its files to the next creation.
        let reader = liveness::reader_state(|| Ok(liveness::reader_words(oieb)), &role);
        if matches!(reader, Ok(ReaderState::Alive)) {
            ring.tell_old_reader(buffer);
        }
        if offers.is_requested() {
            buffer.leave();
        }
        stop_point!("close:writer-unlock");
        drop(role);
        ring.close(buffer);
        if !matches!(reader, Ok(ReaderState::Alive)) {
            buffer.forget_dead_peer();
            let name = buffer.name();
            match registry::clean_after_reader(name, &self.files) {
                Ok(true) => log::info!("buffer `{name}`: removed what its dead reader left behind"),
                Ok(false) => {}
                Err(error) => {
                    log::warn!("buffer `{name}`: cannot remove what its dead reader left: {error}");
                }
            }
        }
    }
}

/// Keeps a buffer's memory mapped in this process for as long as it lives; see [`Writer::memory_guard`].
#[derive(Clone)]
pub struct MemoryGuard {
    _buffer: Arc<Buffer>,
}

impl std::fmt::Debug for MemoryGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryGuard")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shut();
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer")
            .field("name", &self.name())
            .field("frames_written", &self.frames_written())
            .finish()
    }
}
