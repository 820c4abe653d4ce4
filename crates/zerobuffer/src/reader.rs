//! The reading side: creates and owns a buffer.

use std::sync::Arc;
use std::time::Duration;

use crate::buffer::InterruptHandle;
use crate::config::BufferConfig;
use crate::error::{ErrorKind, Result};
use crate::frame::{Frame, FrameRef};
use crate::inlet::Inlet;
use crate::lifecycle::create;
use crate::metadata;
use crate::ring::Lender;
use crate::sharing;
use crate::stats::ReaderStats;
use crate::writer_watch::WriterWatch;

/// The reading side of a buffer: creates it, owns it, removes it.
///
/// A reader may move between threads (`Send`) but is used by one at a time (not `Sync`); its frames may go anywhere.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::{BufferConfig, Reader, Writer};
///
/// # let name = format!("doc-reader-{}", std::process::id());
/// let mut reader = Reader::create(&name, BufferConfig::default())?;
/// let mut writer = Writer::connect(&name)?; // usually in another process
/// writer.write_frame(&[1, 2, 3])?;
/// if let Some(frame) = reader.read_frame(Duration::from_secs(5))? {
///     assert_eq!(*frame, [1, 2, 3]);
/// }
/// # Ok::<(), zerobuffer::Error>(())
/// ```
///
/// ```compile_fail
/// fn shared_between_threads<T: Sync>() {}
/// shared_between_threads::<zerobuffer::Reader>();
/// ```
pub struct Reader {
    inlet: Inlet,
    /// Makes the type `!Sync`.
    not_sync: std::marker::PhantomData<std::cell::Cell<()>>,
}

impl Reader {
    /// Creates the buffer `name` and becomes its reader.
    ///
    /// Whatever a dead reader left under this name is removed first. A buffer that is kept ([`crate::KeptBuffer`]) is taken
    /// over, with the frames in it; its sizes stay, and sizes that `config` sets must equal them. Takes well under a
    /// millisecond for a buffer of any size: memory is used as frames reach it, unless [`BufferConfig::preallocate`] is set.
    ///
    /// # Errors
    ///
    /// `InvalidName`, `InvalidConfig`; `ReaderAlreadyConnected` if a live reader has the name; `OutOfMemory` if
    /// `/dev/shm` or a resource limit has no room; `PermissionDenied`; `IncompatibleProtocol` if something that is no
    /// buffer stands in the way.
    pub fn create(name: &str, config: BufferConfig) -> Result<Reader> {
        let mut inlet = Inlet::new(create::reader(name, &config)?, config.wait, config.sharing);
        // The writer of a kept buffer may have made its offer already.
        inlet.look_for_offer();
        Ok(Reader { inlet, not_sync: std::marker::PhantomData })
    }

    /// The buffer's name.
    pub fn name(&self) -> &str {
        self.inlet.lender.buffer.name()
    }

    /// Waits up to `timeout` for the next frame. `None` when the time is over.
    ///
    /// `Duration::ZERO` polls once, `Duration::MAX` waits without a limit.
    ///
    /// # Errors
    ///
    /// `WriterClosed` and `WriterDead`, once per writer, at once and after everything that it had committed has been
    /// delivered; later reads wait for the next writer. `SequenceError`, `CorruptBuffer` (both stay: create the buffer
    /// again), `Interrupted`, `BufferNotFound` if another process removed the buffer's names.
    #[inline(always)]
    pub fn read_frame(&mut self, timeout: Duration) -> Result<Option<Frame>> {
        if self.inlet.take_fast() || self.inlet.next(timeout)? {
            return Ok(Some(self.own()));
        }
        Ok(None)
    }

    /// Makes a frame of the last one read. Inlined, so that it is made in its place, not copied there.
    #[inline(always)]
    fn own(&self) -> Frame {
        Frame::of_last(&self.inlet.lender, &self.inlet.last)
    }

    /// Returns the next frame if there is one now, and leaves interrupts alone.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::read_frame`], without `Interrupted`.
    #[inline(always)]
    pub fn try_read_frame(&mut self) -> Result<Option<Frame>> {
        if self.inlet.take_fast() || self.inlet.poll()? {
            return Ok(Some(self.own()));
        }
        Ok(None)
    }

    /// As [`Reader::read_frame`], but the frame borrows the reader: one at a time, and no reference counting.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::read_frame`].
    #[inline(always)]
    pub fn read_frame_ref(&mut self, timeout: Duration) -> Result<Option<FrameRef<'_>>> {
        if self.inlet.take_fast() || self.inlet.next(timeout)? {
            return Ok(Some(FrameRef::new(&self.inlet.lender, &self.inlet.last)));
        }
        Ok(None)
    }

    /// As [`Reader::read_frame_ref`], if the frame is known to be there, and to take it needs no lock, no system call and no message to
    /// the log. `None` tells nothing: `read_frame_ref` finds out. For bindings.
    #[doc(hidden)]
    #[inline(always)]
    pub fn take_frame_ref(&mut self) -> Option<FrameRef<'_>> {
        let taken = self.inlet.take_fast();
        taken.then(|| FrameRef::new(&self.inlet.lender, &self.inlet.last))
    }

    /// Waits up to `timeout` for a frame, and returns the newest one: those before it are passed over, and their space goes
    /// back at once. `None` when the time is over.
    ///
    /// A reader that is slower than its writer thus always has a fresh frame. The frames passed over are counted in
    /// [`Reader::frames_skipped`]. Only frames of one writer are passed over: the newest frame of a writer that closed or
    /// died comes before its end, and its end before the next writer's newest frame. The cost of a frame passed over is a look at
    /// its header.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::read_frame`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use zerobuffer::{BufferConfig, Reader, Writer};
    ///
    /// # let name = format!("doc-latest-{}", std::process::id());
    /// let mut reader = Reader::create(&name, BufferConfig::default())?;
    /// let mut writer = Writer::connect(&name)?;
    /// writer.write_frames([b"old", b"new"])?;
    /// let frame = reader.read_latest_frame(Duration::from_secs(1))?.expect("a frame");
    /// assert_eq!((&*frame, reader.frames_skipped()), (b"new".as_slice(), 1));
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn read_latest_frame(&mut self, timeout: Duration) -> Result<Option<Frame>> {
        Ok(self.inlet.latest(timeout)?.then(|| self.own()))
    }

    /// As [`Reader::read_latest_frame`], but the frame borrows the reader, as in [`Reader::read_frame_ref`].
    ///
    /// # Errors
    ///
    /// Those of [`Reader::read_frame`].
    pub fn read_latest_frame_ref(&mut self, timeout: Duration) -> Result<Option<FrameRef<'_>>> {
        let found = self.inlet.latest(timeout)?;
        Ok(found.then(|| FrameRef::new(&self.inlet.lender, &self.inlet.last)))
    }

    /// The newest frame of one writer, again and again, waiting for each as long as it takes; ends when the writer closes.
    ///
    /// ```
    /// use zerobuffer::{BufferConfig, Reader, Writer};
    ///
    /// # let name = format!("doc-latest-frames-{}", std::process::id());
    /// let mut reader = Reader::create(&name, BufferConfig::default())?;
    /// let mut writer = Writer::connect(&name)?;
    /// writer.write_frames([b"one", b"two", b"six"])?;
    /// writer.close()?;
    /// let frames: Vec<u64> = reader.latest_frames().map(|frame| frame.map(|f| f.sequence())).collect::<Result<_, _>>()?;
    /// assert_eq!(frames, [3]);
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn latest_frames(&mut self) -> LatestFrames<'_> {
        LatestFrames { reader: self }
    }

    /// Waits up to `timeout` for a first frame, then appends it and those behind it, at most `max`, to `frames`, without
    /// waiting again. Returns how many were appended.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::read_frame`], but only when nothing was appended.
    ///
    /// ```
    /// use std::time::Duration;
    /// use zerobuffer::{BufferConfig, Reader, Writer};
    ///
    /// # let name = format!("doc-batch-{}", std::process::id());
    /// let mut reader = Reader::create(&name, BufferConfig::default())?;
    /// Writer::connect(&name)?.write_frames([b"one", b"two"])?;
    /// let mut frames = Vec::new();
    /// assert_eq!(reader.read_frames(&mut frames, 10, Duration::from_secs(1))?, 2);
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn read_frames(&mut self, frames: &mut Vec<Frame>, max: usize, timeout: Duration) -> Result<usize> {
        if max == 0 || !self.inlet.next(timeout)? {
            return Ok(0);
        }
        frames.push(self.own());
        let mut count = 1;
        while count < max && self.inlet.look_again() {
            frames.push(self.own());
            count += 1;
        }
        Ok(count)
    }

    /// The frames of one writer, waiting for each as long as it takes; ends when the writer closes.
    ///
    /// ```
    /// use zerobuffer::{BufferConfig, Reader, Writer};
    ///
    /// # let name = format!("doc-frames-{}", std::process::id());
    /// let mut reader = Reader::create(&name, BufferConfig::default())?;
    /// let mut writer = Writer::connect(&name)?;
    /// writer.write_frame(&[7; 100])?;
    /// writer.close()?;
    /// let sizes: Vec<usize> = reader.frames().map(|frame| frame.map(|f| f.len())).collect::<Result<_, _>>()?;
    /// assert_eq!(sizes, [100]);
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn frames(&mut self) -> Frames<'_> {
        Frames { reader: self }
    }

    /// Whether a writer lives, or frames that one committed are still unread.
    pub fn is_writer_connected(&mut self) -> bool {
        self.inlet.has_unread() || self.inlet.writer_lives()
    }

    /// Whether a writer lives, even if frames are unread.
    pub(crate) fn writer_lives(&self) -> bool {
        self.inlet.writer_lives()
    }

    /// Waits up to `timeout` for a writer. Returns whether one is there (or was, and left frames).
    ///
    /// # Errors
    ///
    /// `Interrupted`; `BufferNotFound` if another process removed the buffer's names; `System`.
    pub fn wait_for_writer(&mut self, timeout: Duration) -> Result<bool> {
        self.inlet.wait_for_writer(timeout)
    }

    /// The metadata, if the writer has set it.
    ///
    /// # Errors
    ///
    /// `CorruptBuffer` if its lengths cannot be true; `OutOfMemory`.
    pub fn metadata(&self) -> Result<Option<Vec<u8>>> {
        metadata::read(&self.inlet.lender.buffer, &self.inlet.reserver)
    }

    /// Frames read by this reader.
    pub fn frames_read(&self) -> u64 {
        self.inlet.frames_read
    }

    /// Frames that [`Reader::read_latest_frame`] passed over. They do not count as read.
    pub fn frames_skipped(&self) -> u64 {
        self.inlet.frames_skipped
    }

    /// Bytes of data (without headers) read by this reader.
    pub fn bytes_read(&self) -> u64 {
        self.inlet.bytes_read
    }

    /// What the reader has done so far, and the frames that it holds.
    pub fn stats(&self) -> ReaderStats {
        self.inlet.stats()
    }

    /// Bytes of the buffer's payload.
    pub fn payload_size(&self) -> usize {
        self.inlet.lender.buffer.mapping.geometry().payload_size as usize
    }

    /// How many bytes of the buffer this process has mapped by huge pages now: what [`BufferConfig::huge_pages`] got. It reads a
    /// list of all mappings of the process.
    ///
    /// # Errors
    ///
    /// `System` where the system does not tell.
    ///
    /// ```
    /// use zerobuffer::{BufferConfig, Reader};
    ///
    /// # let name = format!("doc-huge-{}", std::process::id());
    /// let reader = Reader::create(&name, BufferConfig::default().payload_size(8 << 20).huge_pages(true))?;
    /// println!("{} KiB of the buffer are huge pages", reader.huge_page_bytes()? >> 10);
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    pub fn huge_page_bytes(&self) -> Result<u64> {
        let buffer = &self.inlet.lender.buffer;
        let told =
            buffer.mapping.huge_bytes().map_err(|error| buffer.os_error("read /proc/self/smaps", error));
        Ok(told?.0)
    }

    /// Whether this reader allows payload sharing, and its buffer can: its frames may be lent, and it takes frames that are lent to it.
    pub fn payload_sharing_enabled(&self) -> bool {
        self.inlet.lender.loans.file().is_some()
    }

    /// How many frames of this reader are lent to other readers now: a figure, which others may change at once.
    pub fn payload_share_count(&self) -> u64 {
        self.inlet.lender.settle_loans(true);
        self.inlet.lender.extended.count_lent()
    }

    /// The process whose bytes this reader is offered, in its own pid namespace; 0 = none. A figure: a killed process leaves it.
    pub fn payload_owner_pid(&self) -> u64 {
        sharing::owner_pid(&self.inlet.lender.buffer)
    }

    /// What lends this reader's frames.
    pub(crate) fn lender(&self) -> &Arc<Lender> {
        &self.inlet.lender
    }

    /// Where the reader stands behind the last frame that it read: what a [`WriterWatch`] compares.
    #[inline]
    pub fn cursor(&self) -> u64 {
        self.inlet.ring.cursor(&self.inlet.lender)
    }

    /// What tells from any thread whether the writer is connected while another thread uses the reader.
    ///
    /// # Errors
    ///
    /// `System` if there is no file descriptor left.
    pub fn writer_watch(&self) -> Result<WriterWatch> {
        self.inlet.writer_watch()
    }

    /// A file descriptor for event loops: *ready to read* means that there may be a frame, or the end of a writer. Works with level- and
    /// edge-triggered epoll, poll, select, and everything that is made of them. Poll it for reading only.
    ///
    /// Whenever it is ready, read without waiting, for example by [`Reader::try_read_frame`]. It stays ready until such a
    /// read returns `None`, so an edge-triggered loop reads until then. It is ready at first, and closed with the reader.
    ///
    /// Never write to it or read from it. It belongs to this process: a forked child has none. Blocking reads may be mixed
    /// in; they make it ready once in vain.
    ///
    /// # Errors
    ///
    /// `System` if there is no file descriptor left, or no thread; `InvalidState` in a forked child.
    ///
    /// ```
    /// use std::os::fd::AsRawFd;
    /// use zerobuffer::{BufferConfig, Reader, Writer};
    ///
    /// # let name = format!("doc-descriptor-{}", std::process::id());
    /// let mut reader = Reader::create(&name, BufferConfig::default())?;
    /// let mut writer = Writer::connect(&name)?; // usually in another process
    /// let mut event = libc::pollfd { fd: reader.descriptor()?.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    /// assert!(reader.try_read_frame()?.is_none());
    /// // SAFETY: one valid `pollfd`.
    /// assert_eq!(unsafe { libc::poll(&mut event, 1, 0) }, 0, "there is nothing to read");
    /// writer.write_frame(b"frame")?;
    /// // SAFETY: one valid `pollfd`.
    /// assert_eq!(unsafe { libc::poll(&mut event, 1, 5000) }, 1);
    /// assert_eq!(&*reader.try_read_frame()?.expect("a frame"), b"frame");
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    #[cfg(not(loom))]
    pub fn descriptor(&self) -> Result<std::os::fd::BorrowedFd<'_>> {
        self.inlet.descriptor()
    }

    /// Calls `callback` once, as soon as there may be a frame, or an end: at once if the [descriptor](Reader::descriptor) is ready. A thread
    /// of the library calls it, one for the whole process, so it only passes the news on: it wakes a thread or a task, or posts to
    /// an event loop. A second callback replaces one that still waits.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::descriptor`]; then the callback is dropped.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    /// use std::time::Duration;
    /// use zerobuffer::{BufferConfig, Reader, Writer};
    ///
    /// # let name = format!("doc-notify-reader-{}", std::process::id());
    /// let mut reader = Reader::create(&name, BufferConfig::default())?;
    /// let mut writer = Writer::connect(&name)?; // usually in another process
    /// reader.descriptor()?; // from here on, a read that finds nothing waits for news
    /// assert!(reader.try_read_frame()?.is_none());
    /// let (sender, news) = channel();
    /// reader.notify(move || sender.send(()).unwrap())?;
    /// writer.write_frame(b"frame")?;
    /// news.recv_timeout(Duration::from_secs(5)).expect("news");
    /// assert!(reader.try_read_frame()?.is_some());
    /// # Ok::<(), zerobuffer::Error>(())
    /// ```
    #[cfg(not(loom))]
    pub fn notify(&self, callback: impl FnOnce() + Send + 'static) -> Result<()> {
        self.descriptor()?;
        self.inlet.lender.buffer.notify(Box::new(callback))
    }

    /// Calls a callback of [`Reader::notify`] off, and drops it. Returns whether it still waited: if not, it has been called, or is
    /// being called.
    pub fn cancel_notify(&self) -> bool {
        self.inlet.lender.buffer.cancel_notify()
    }

    /// A handle with which another thread ends a blocked call.
    pub fn interrupt_handle(&self) -> InterruptHandle {
        InterruptHandle::new(Arc::<Lender>::clone(&self.inlet.lender))
    }

    /// Accepts frames in any order of sequence numbers, as a duplex server's responses come.
    pub(crate) fn accept_any_sequence(&mut self) {
        self.inlet.ring.accept_any_sequence();
    }

    /// Tells whether threads of this process have work to do while this one waits. Then it does not spin for as long as the
    /// peer may take with many bytes without letting go of its processor.
    #[inline]
    pub(crate) fn set_crowded(&mut self, crowded: bool) {
        self.inlet.crowded = crowded;
    }

    /// Whether the descriptor is not ready: the last look found nothing.
    pub(crate) fn is_armed(&self) -> bool {
        self.inlet.is_armed()
    }

    /// Whether this reader only ever waits asleep.
    pub(crate) fn never_spins(&self) -> bool {
        self.inlet.spin.is_never()
    }

    /// Whether there is nothing to be read, as far as one can tell without a closer look: of a classic ring one cannot.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.inlet.ring.is_quiet(&self.inlet.lender)
    }

    /// Closes the reader and removes the buffer's names, as dropping it does. Frames still held stay valid.
    ///
    /// # Errors
    ///
    /// None today; kept for systems where removing can fail.
    pub fn close(mut self) -> Result<()> {
        self.inlet.shut();
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.inlet.shut();
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("name", &self.name())
            .field("frames_read", &self.frames_read())
            .finish()
    }
}

/// Iterator over the frames of one writer; see [`Reader::frames`].
#[derive(Debug)]
pub struct Frames<'a> {
    reader: &'a mut Reader,
}

impl Iterator for Frames<'_> {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Result<Frame>> {
        match self.reader.read_frame(Duration::MAX) {
            Ok(Some(frame)) => Some(Ok(frame)),
            Ok(None) => None,
            Err(error) if error.kind() == ErrorKind::WriterClosed => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// Iterator over the newest frames of one writer; see [`Reader::latest_frames`].
#[derive(Debug)]
pub struct LatestFrames<'a> {
    reader: &'a mut Reader,
}

impl Iterator for LatestFrames<'_> {
    type Item = Result<Frame>;

    fn next(&mut self) -> Option<Result<Frame>> {
        match self.reader.read_latest_frame(Duration::MAX) {
            Ok(Some(frame)) => Some(Ok(frame)),
            Ok(None) => None,
            Err(error) if error.kind() == ErrorKind::WriterClosed => None,
            Err(error) => Some(Err(error)),
        }
    }
}
