//! The reading side: creates and owns a buffer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::buffer::InterruptHandle;
use crate::config::BufferConfig;
use crate::end_of_writer::{EndsTold, NamesWatch};
use crate::error::{ErrorKind, Result};
use crate::frame::{Frame, FrameRef};
use crate::layout::{METADATA_PREFIX, WRITER_ROLE_BYTE};
use crate::lifecycle::create::{self, Locks, Parts};
use crate::lifecycle::liveness::{self, WriterState, WriterWords};
use crate::lifecycle::registry::OwnedFiles;
use crate::memory::reserve::Reserver;
use crate::os;
use crate::ring::{FaultKind, FrameRecord, Lender, Look, ReadRing, RingFault};
use crate::sync::Ordering;
use crate::testing::stop::stop_point;
use crate::wait::{Deadline, FIRST_SLICE, SLICE, Spin, UNSURE_LIMIT, UNSURE_SLICE};
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
    lender: Arc<Lender>,
    ring: ReadRing,
    files: OwnedFiles,
    /// `Some` until closed.
    locks: Option<Locks>,
    told: EndsTold,
    names: NamesWatch,
    /// The last frame read; meaningless before the first. Kept in one place, as copying it costs more than a small frame.
    last: FrameRecord,
    spin: Spin,
    crowded: bool,
    unsure_since: Option<Instant>,
    /// What is known to have memory, so that no forged position leads to where there is none.
    reserver: Reserver,
    frames_read: u64,
    bytes_read: u64,
    /// `bytes_read` at the last wait.
    bytes_before_wait: u64,
    /// The writer that a poll found alive, and the coarse clock then.
    polled: (Option<WriterWords>, u64),
    /// Makes the type `!Sync`.
    not_sync: std::marker::PhantomData<std::cell::Cell<()>>,
}

impl Reader {
    /// Creates the buffer `name` and becomes its reader.
    ///
    /// Whatever a dead reader left under this name is removed first. A buffer that is kept ([`crate::KeptBuffer`]) is taken
    /// over, with the frames in it; its sizes stay, and sizes that `config` sets must be the same. Takes well under a millisecond whatever the size:
    /// memory is used as frames reach it, unless [`BufferConfig::preallocate`] says otherwise.
    ///
    /// # Errors
    ///
    /// `InvalidName`, `InvalidConfig`; `ReaderAlreadyConnected` if a live reader has the name; `OutOfMemory` if
    /// `/dev/shm` or a resource limit has no room; `PermissionDenied`; `IncompatibleProtocol` if something that is no
    /// buffer stands in the way.
    pub fn create(name: &str, config: BufferConfig) -> Result<Reader> {
        let Parts { buffer, files, locks, reserver } = create::reader(name, &config)?;
        Ok(Reader {
            ring: ReadRing::new(&buffer),
            lender: Arc::new(Lender::new(buffer)),
            names: NamesWatch::new(),
            files,
            locks: Some(locks),
            told: EndsTold::default(),
            last: FrameRecord::NONE,
            spin: Spin::new(config.wait),
            crowded: false,
            unsure_since: None,
            reserver,
            frames_read: 0,
            bytes_read: 0,
            bytes_before_wait: 0,
            polled: (None, 0),
            not_sync: std::marker::PhantomData,
        })
    }

    /// The buffer's name.
    pub fn name(&self) -> &str {
        self.lender.buffer.name()
    }

    /// Waits up to `timeout` for the next frame. `None` when the time is over.
    ///
    /// `Duration::ZERO` polls once, `Duration::MAX` waits for ever.
    ///
    /// # Errors
    ///
    /// `WriterClosed` and `WriterDead`, once per writer, at once and after everything that it had committed has been
    /// delivered; later reads wait for the next writer. `SequenceError`, `CorruptBuffer` (both stay: create the buffer
    /// anew), `Interrupted`, `BufferNotFound` if another process removed the buffer's names.
    #[inline(always)]
    pub fn read_frame(&mut self, timeout: Duration) -> Result<Option<Frame>> {
        if self.take_fast() || self.next(timeout)? {
            return Ok(Some(self.own()));
        }
        Ok(None)
    }

    /// Makes a frame of the last one read. Inlined, so that it is made in its place, not copied there.
    #[inline(always)]
    fn own(&self) -> Frame {
        Frame::of_last(&self.lender, &self.last)
    }

    /// Returns the next frame if there is one now, and leaves interrupts alone.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::read_frame`], without `Interrupted`.
    #[inline(always)]
    pub fn try_read_frame(&mut self) -> Result<Option<Frame>> {
        if self.take_fast() || self.poll()? {
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
        if self.take_fast() || self.next(timeout)? {
            return Ok(Some(FrameRef::new(&self.lender, &self.last)));
        }
        Ok(None)
    }

    /// Takes a frame that is known to be there, if there is nothing else to think of: the short way of [`Reader::next`].
    #[inline(always)]
    fn take_fast(&mut self) -> bool {
        if !self.lender.buffer.is_mine() || !self.ring.take(&self.lender, &mut self.last) {
            return false;
        }
        self.note();
        true
    }

    /// Waits up to `timeout` for a first frame, then appends it and those behind it, at most `max`, to `frames`, without
    /// waiting again. Gives how many were appended.
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
        if max == 0 || !self.next(timeout)? {
            return Ok(0);
        }
        frames.push(self.own());
        let mut count = 1;
        while count < max {
            let told = self.told;
            match self.look() {
                Ok(true) => frames.push(self.own()),
                Ok(false) => break,
                Err(_) => {
                    // The next call finds the same again; a writer's end only as long as it counts as untold.
                    self.told = told;
                    break;
                }
            }
            count += 1;
        }
        Ok(count)
    }

    /// The frames of one writer, waiting for each as long as it takes; ends when the writer closes in good order.
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
        self.ring.has_unread(&self.lender) || self.writer_lives()
    }

    /// Whether a writer lives, whatever is unread.
    pub(crate) fn writer_lives(&self) -> bool {
        matches!(self.writer_state(), Ok(WriterState::Alive(_)))
    }

    /// Waits up to `timeout` for a writer. Returns whether one is there (or was, and left frames).
    ///
    /// # Errors
    ///
    /// `Interrupted`; `BufferNotFound` if another process removed the buffer's names; `System`.
    pub fn wait_for_writer(&mut self, timeout: Duration) -> Result<bool> {
        let deadline = Deadline::after(timeout);
        loop {
            self.lender.buffer.check_mine()?;
            let words = self.writer_words();
            if self.ring.has_unread(&self.lender) || matches!(self.writer_state()?, WriterState::Alive(_)) {
                return Ok(true);
            }
            self.lender.buffer.take_interrupt()?;
            self.names.check(&self.lender.buffer, &self.files, WriterState::None)?;
            let Some(left) = deadline.left(SLICE) else { return Ok(false) };
            // A native writer posts and rings when it connects.
            self.sleep(left, words);
        }
    }

    /// The metadata, if the writer has set it.
    ///
    /// # Errors
    ///
    /// `CorruptBuffer` if its lengths cannot be true; `OutOfMemory`.
    pub fn metadata(&self) -> Result<Option<Vec<u8>>> {
        let mapping = &self.lender.buffer.mapping;
        // Acquire pairs with the Release store in Writer::set_metadata.
        let written = mapping.oieb().metadata_written_bytes.load(Ordering::Acquire);
        if written == 0 {
            return Ok(None);
        }
        let corrupt = || {
            self.lender.buffer.error(
                ErrorKind::CorruptBuffer,
                format!("the metadata's lengths cannot be true (metadata_written_bytes is {written})"),
            )
        };
        if written > mapping.geometry().metadata_size {
            return Err(corrupt());
        }
        // Where a forged length leads, memory may be missing: touching it would be SIGBUS, copying it take all there is.
        self.reserver
            .reserve_metadata(written.max(METADATA_PREFIX))
            .map_err(|error| self.lender.buffer.os_error("reserve memory for the metadata", error))?;
        let prefix = mapping.read_metadata(0, METADATA_PREFIX).ok_or_else(corrupt)?;
        let len = u64::from_le_bytes(prefix.try_into().map_err(|_| corrupt())?);
        if len.checked_add(METADATA_PREFIX) != Some(written) {
            return Err(corrupt());
        }
        mapping.read_metadata(METADATA_PREFIX, len).map(Some).ok_or_else(corrupt)
    }

    /// Frames read by this reader.
    pub fn frames_read(&self) -> u64 {
        self.frames_read
    }

    /// Bytes of data (without headers) read by this reader.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Where the reader stands behind the last frame that it read: what a [`WriterWatch`] compares.
    #[inline]
    pub fn cursor(&self) -> u64 {
        self.ring.cursor(&self.lender)
    }

    /// What tells from any thread whether the writer is connected while another thread uses the reader.
    ///
    /// # Errors
    ///
    /// `System` if there is no file descriptor left.
    pub fn writer_watch(&self) -> Result<WriterWatch> {
        let view = self.locks()?.role.view();
        let view = view.map_err(|error| self.lender.buffer.os_error("copy its descriptor", error))?;
        Ok(WriterWatch::new(Arc::clone(&self.lender), view))
    }

    /// A handle with which another thread ends a blocked call.
    pub fn interrupt_handle(&self) -> InterruptHandle {
        InterruptHandle::new(Arc::<Lender>::clone(&self.lender))
    }

    /// Accepts frames in any order of sequence numbers, as a duplex server's responses come.
    pub(crate) fn accept_any_sequence(&mut self) {
        self.ring.accept_any_sequence();
    }

    /// Tells whether threads of this process have work to do while this one waits. Then it does not spin for as long as the
    /// peer may take with many bytes without letting go of its processor.
    #[inline]
    pub(crate) fn set_crowded(&mut self, crowded: bool) {
        self.crowded = crowded;
    }

    /// Whether this reader only ever waits asleep.
    pub(crate) fn never_spins(&self) -> bool {
        self.spin.is_never()
    }

    /// Whether there is nothing to be read, as far as one can tell without a closer look: of a classic ring one cannot.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.ring.is_quiet(&self.lender)
    }

    /// Closes the reader and removes the buffer's names, as dropping it does. Frames still held stay valid.
    ///
    /// # Errors
    ///
    /// None today; kept for systems where removing can fail.
    pub fn close(mut self) -> Result<()> {
        self.shut();
        Ok(())
    }

    fn shut(&mut self) {
        let Some(locks) = self.locks.take() else { return };
        let buffer = &self.lender.buffer;
        if !buffer.is_mine() {
            // A forked child inherited this handle: the buffer stays the parent's (spec failure 9).
            return;
        }
        // A writer that fills the ring of a reader which never looked waits as writers of extended rings do.
        self.ring.decide(&self.lender);
        let pid = u64::from(std::process::id());
        stop_point!("close:reader-pid");
        // Only this reader's own pid is cleared. Release pairs with the writer's Acquire load in liveness::reader_words.
        let shown = &buffer.mapping.oieb().reader_pid;
        let _ = shown.compare_exchange(pid, 0, Ordering::AcqRel, Ordering::Relaxed);
        self.files.remove(buffer.name());
        // The role lock last but for the name: a writer that finds it free finds the pid cleared.
        stop_point!("close:role-unlock");
        drop(locks.role);
        self.ring.close(&self.lender);
        locks.name.remove();
    }

    // ---- the reading loop ----

    /// The long way to the next frame. An interrupt ends it only if there is no frame.
    #[inline(never)]
    fn next(&mut self, timeout: Duration) -> Result<bool> {
        self.lender.buffer.check_mine()?;
        if timeout.is_zero() {
            if self.look()? {
                return Ok(true);
            }
            self.lender.buffer.take_interrupt()?;
            return self.poll_writer();
        }
        self.ring.stay_away();
        let found = self.look()?;
        self.ring.learn(found);
        Ok(found || self.wait_for_frame(timeout)?)
    }

    #[inline(never)]
    fn wait_for_frame(&mut self, timeout: Duration) -> Result<bool> {
        self.lender.buffer.take_interrupt()?;
        self.spin.moved(if self.crowded { 0 } else { self.bytes_read - self.bytes_before_wait });
        self.bytes_before_wait = self.bytes_read;
        // A frame that comes within a microsecond or so shall cost no look at the clock.
        if self.ring.spin(&self.lender, &mut self.spin, None) && self.look()? {
            return Ok(true);
        }
        let began = Instant::now();
        let deadline = Deadline::after(timeout);
        let mut longest = FIRST_SLICE;
        loop {
            if self.ring.settle_tokens(&self.lender) && self.look()? {
                return Ok(true);
            }
            let words = self.writer_words();
            if self.judge_writer()? {
                return Ok(true);
            }
            let slice = if self.unsure_since.is_some() { UNSURE_SLICE } else { longest };
            let Some(left) = deadline.left(slice) else { return Ok(false) };
            let found = if self.spin.is_endless() {
                self.ring.spin(&self.lender, &mut self.spin, Some(began));
                self.look()?
            } else {
                stop_point!("read:wait");
                let by_token = self.sleep(left, words);
                let found = self.look()?;
                self.ring.slept(&self.lender, by_token, found) && self.look()? || found
            };
            if found {
                self.ring.end_wait(&self.lender);
                self.spin.learn(began.elapsed());
                return Ok(true);
            }
            self.lender.buffer.take_interrupt()?;
            longest = SLICE;
        }
    }

    /// Sleeps for up to `limit`, until there is something to look at: a frame, an interrupt, or other news of the writer
    /// than `words` tell. Returns whether a token ended the sleep.
    fn sleep(&self, limit: Duration, words: WriterWords) -> bool {
        // A writer that closes stores its word, gives its role up, and rings. So whatever it had not done before this look
        // it does before it rings.
        let closed = words.is_ours() && words.word.is_closed();
        let news =
            || self.writer_words() != words || closed && self.role_is_held(WRITER_ROLE_BYTE) == Some(false);
        self.ring.sleep(&self.lender, limit, news)
    }

    /// One look at the ring and, if there is nothing, one at the writer.
    #[inline(never)]
    fn poll(&mut self) -> Result<bool> {
        self.lender.buffer.check_mine()?;
        Ok(self.look()? || self.poll_writer()?)
    }

    fn poll_writer(&mut self) -> Result<bool> {
        // An orderly end shows in the writer's words. Only a death has to be asked for, once in a tick of the coarse clock.
        let seen = (Some(self.writer_words()), os::coarse_now());
        if seen == self.polled && self.unsure_since.is_none() {
            return Ok(false);
        }
        self.polled = (None, 0);
        let found = self.judge_writer()?;
        let lives = seen.0.is_some_and(|words| words.is_ours() && !words.word.is_closed());
        if !found && lives {
            self.polled = seen;
        }
        Ok(found)
    }

    /// One look at the ring.
    #[inline]
    fn look(&mut self) -> Result<bool> {
        if self.ring.take_new(&self.lender, &mut self.reserver, &mut self.last) {
            self.note();
            return Ok(true);
        }
        self.look_closer()
    }

    /// Keeps the books of the frame that was taken.
    #[inline]
    fn note(&mut self) {
        self.unsure_since = None;
        self.told.frame();
        self.frames_read += 1;
        self.bytes_read += self.last.len() as u64;
    }

    #[inline(never)]
    fn look_closer(&mut self) -> Result<bool> {
        // While the end of the writer whose frames were read is untold, its successor's first frame waits for it.
        let restart = !self.told.owes_end();
        match self.ring.look(&self.lender, &mut self.reserver, restart) {
            Look::Frame(record) => {
                if self.told.is_foreign() {
                    self.ring.reserve_ahead(&self.lender, &mut self.reserver);
                }
                self.last = record;
                self.note();
                Ok(true)
            }
            Look::Empty => {
                self.unsure_since = None;
                Ok(false)
            }
            Look::Restart => Err(self.told.tell_restart(&self.lender.buffer, self.writer_words())),
            Look::Unsure(fault) => self.doubt(fault).map(|()| false),
        }
    }

    /// Tolerates contradictory words for up to `UNSURE_LIMIT`, then repairs them or fails.
    fn doubt(&mut self, fault: RingFault) -> Result<()> {
        let since = *self.unsure_since.get_or_insert_with(Instant::now);
        if since.elapsed() < UNSURE_LIMIT {
            return Ok(());
        }
        if fault.kind != FaultKind::LostUpdate {
            return Err(self.lender.buffer.fault(fault));
        }
        if let Some(bytes) = self.ring.repair(&self.lender, &mut self.reserver) {
            log::warn!(
                "buffer `{}`: the count of free bytes was {bytes} short and has been repaired; a 1.x writer loses \
                 updates where libatomic is missing",
                self.name()
            );
        }
        self.unsure_since = None;
        Ok(())
    }

    fn locks(&self) -> Result<&Locks> {
        let closed = || self.lender.buffer.error(ErrorKind::Closed, "the reader is closed: create a new one");
        self.locks.as_ref().ok_or_else(closed)
    }

    fn writer_words(&self) -> WriterWords {
        WriterWords::load(self.lender.buffer.mapping.oieb())
    }

    /// Whether another process holds the role of `byte`; `None` if that cannot be told.
    fn role_is_held(&self, byte: i64) -> Option<bool> {
        self.locks.as_ref()?.role.role_is_held(byte).ok()
    }

    fn writer_state(&self) -> Result<WriterState> {
        liveness::writer_state(|| Ok(self.writer_words()), &self.locks()?.role)
            .map_err(|error| self.lender.buffer.os_error("test the writer's role lock", error))
    }

    /// Looks at the writer; tells its end if all that it committed has been read, and the end was not told. Returns whether
    /// a frame was found meanwhile.
    fn judge_writer(&mut self) -> Result<bool> {
        if let Some(locks) = &self.locks {
            self.ring.end_entry(&self.lender, &mut self.reserver, &locks.role);
        }
        let words = self.writer_words();
        stop_point!("read:judge");
        let state = self.writer_state()?;
        let Some(news) = self.told.news(state) else {
            if self.told.is_foreign() {
                self.ring.reserve_ahead(&self.lender, &mut self.reserver);
            }
            self.names.check(&self.lender.buffer, &self.files, state)?;
            return Ok(false);
        };
        // Its last frames may have been committed after the last look at the ring, but before its end.
        if self.look()? {
            return Ok(true);
        }
        if self.unsure_since.is_some() {
            return Ok(false);
        }
        if news.died {
            self.ring.withdraw_uncommitted(&self.lender, words);
        }
        if let Some(liveness::WriterId::Ours { epoch }) = news.id {
            self.ring.settle_writers(epoch);
        }
        Err(self.told.tell(&self.lender.buffer, news, self.writer_words()))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shut();
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("name", &self.name()).field("frames_read", &self.frames_read).finish()
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
