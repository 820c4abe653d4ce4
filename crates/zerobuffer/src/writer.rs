//! The writing side: connects to a buffer that a reader has created.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::WriterOptions;
use crate::connect::{self, Connection};
use crate::error::{Error, ErrorKind, Result};
use crate::frame_mut::FrameMut;
use crate::layout::{FRAME_HEADER, METADATA_PREFIX};
use crate::liveness::{self, ReaderState, WriterWords};
use crate::mapping::Mapping;
use crate::os;
use crate::reader::{Interrupt, InterruptHandle};
use crate::registry::{self, OwnedFiles};
use crate::reserve::Reserver;
use crate::ring::classic::{Reservation, WriteSide};
use crate::ring::space::{self, Plan};
use crate::ring::{Place, Tag, Trouble, WriteRing};
use crate::signal::{Deadline, FIRST_SLICE, SLICE, Spin, UNSURE_LIMIT, UNSURE_SLICE, taken_before_look};
use crate::stop::stop_point;
use crate::sync::{AtomicBool, Ordering, fence};

/// How often a writer that never blocks makes sure that its reader lives.
const READER_CHECK: Duration = Duration::from_millis(10);

/// Tokens burnt between two looks at the ring and the clock.
const TOKEN_BURST: u32 = 1 << 16;

/// What a writer and its interrupt handles share.
pub(crate) struct Shared {
    name: Box<str>,
    pub(crate) mapping: Mapping,
    /// Posted by us.
    sem_w: os::Semaphore,
    /// Posted by the reader.
    sem_r: os::Semaphore,
    interrupted: AtomicBool,
    generation: u64,
}

impl Interrupt for Shared {
    fn interrupt(&self) {
        // Release pairs with the swap in Writer::take_interrupt; the token wakes a call that already sleeps.
        self.interrupted.store(true, Ordering::Release);
        self.sem_r.post();
    }
}

impl Shared {
    pub(crate) fn new(name: &str, mapping: Mapping, sem_w: os::Semaphore, sem_r: os::Semaphore) -> Shared {
        Shared {
            name: name.into(),
            mapping,
            sem_w,
            sem_r,
            interrupted: AtomicBool::new(false),
            generation: os::fork_generation(),
        }
    }
    fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, &self.name, message)
    }
    fn trouble(&self, trouble: Trouble) -> Error {
        self.error(trouble.kind, trouble.message)
    }
}

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
    shared: Arc<Shared>,
    ring: WriteRing,
    /// The reader's files, for the clean-up after its death.
    files: OwnedFiles,
    /// `Some` until closed.
    role: Option<os::LockFile>,
    reserver: Reserver,
    write_timeout: Duration,
    pending: Option<Reservation>,
    spin: Spin,
    reader_checked: Duration,
    frames_written: u64,
    bytes_written: u64,
    /// Makes the type `!Sync`.
    not_sync: std::marker::PhantomData<std::cell::Cell<()>>,
}

impl Writer {
    /// Connects to the buffer `name`, which a reader must have created.
    ///
    /// # Errors
    ///
    /// `BufferNotFound`, `ReaderDead`, `WriterAlreadyConnected`, `PermissionDenied`, `IncompatibleProtocol`,
    /// `CorruptBuffer`, `InvalidName`.
    pub fn connect(name: &str) -> Result<Writer> {
        Writer::connect_with(name, WriterOptions::default())
    }

    /// Connects with other time-outs than the default; see [`WriterOptions`].
    ///
    /// # Errors
    ///
    /// As [`Writer::connect`]; `BufferNotFound` and `ReaderDead` only after the connect time-out.
    pub fn connect_with(name: &str, options: WriterOptions) -> Result<Writer> {
        let Connection { shared, segment, files, role, side } =
            connect::connect(name, options.connect_timeout)?;
        let geometry = *shared.mapping.geometry();
        Ok(Writer {
            reserver: Reserver::new(segment, geometry),
            shared: Arc::new(shared),
            ring: WriteRing::Classic(side),
            files,
            role: Some(role),
            write_timeout: options.write_timeout,
            pending: None,
            spin: Spin::new(),
            reader_checked: os::coarse_now(),
            frames_written: 0,
            bytes_written: 0,
            not_sync: std::marker::PhantomData,
        })
    }

    /// The buffer's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The largest frame that the buffer can hold, in bytes: its payload size less the 16-byte header.
    pub fn max_frame_size(&self) -> usize {
        (self.shared.mapping.geometry().payload_size as usize).saturating_sub(FRAME_HEADER)
    }

    /// Copies `data` into the buffer as one frame; gives its sequence number. Waits for space up to the write time-out.
    ///
    /// # Errors
    ///
    /// `InvalidFrameSize` (0 bytes), `FrameTooLarge` (at once), `BufferFull` (after the time-out), `ReaderDead`,
    /// `OutOfMemory` if `/dev/shm` is full, `Interrupted`, `InvalidState`, `CorruptBuffer`.
    pub fn write_frame(&mut self, data: &[u8]) -> Result<u64> {
        self.write_tagged(data, Tag::default())
    }

    /// As [`Writer::write_frame`], with more than bytes.
    pub(crate) fn write_tagged(&mut self, data: &[u8], tag: Tag) -> Result<u64> {
        let sequence = self.put(data, self.write_timeout, tag)?;
        self.wake_reader(1);
        sequence.ok_or_else(|| self.full(data.len()))
    }

    /// As [`Writer::write_frame`], without waiting: `None` if there is no space now.
    ///
    /// # Errors
    ///
    /// As [`Writer::write_frame`], without `BufferFull`.
    pub fn try_write_frame(&mut self, data: &[u8]) -> Result<Option<u64>> {
        let sequence = self.put(data, Duration::ZERO, Tag::default())?;
        if sequence.is_some() {
            self.wake_reader(1);
        }
        Ok(sequence)
    }

    /// Writes each item as a frame, waiting for space for each up to the write time-out; gives the number of frames.
    ///
    /// Cheaper than one call each: the reader is woken once.
    ///
    /// # Errors
    ///
    /// As [`Writer::write_frame`], at the first frame that fails; those before it are written, and
    /// [`Writer::frames_written`] tells how many.
    pub fn write_frames<I>(&mut self, frames: I) -> Result<usize>
    where
        I: IntoIterator,
        I::Item: AsRef<[u8]>,
    {
        let mut total = 0;
        let mut unannounced = 0;
        for frame in frames {
            let data = frame.as_ref();
            // Before waiting for space the reader must know of what it could make space with.
            let mut sequence = self.put(data, Duration::ZERO, Tag::default());
            if matches!(sequence, Ok(None)) {
                self.wake_reader(std::mem::take(&mut unannounced));
                sequence = self.put(data, self.write_timeout, Tag::default());
            }
            match sequence {
                Ok(Some(_)) => {
                    total += 1;
                    unannounced += 1;
                }
                Ok(None) => return Err(self.full(data.len())),
                Err(error) => {
                    self.wake_reader(unannounced);
                    return Err(error);
                }
            }
        }
        self.wake_reader(unannounced);
        Ok(total)
    }

    /// Lends `len` bytes of the buffer to be filled in place; committed by [`FrameMut::commit`], discarded by drop.
    ///
    /// Waits for space up to the write time-out. The bytes' first content is undefined.
    ///
    /// # Errors
    ///
    /// As [`Writer::write_frame`].
    pub fn acquire_frame(&mut self, len: usize) -> Result<FrameMut<'_>> {
        self.acquire_frame_buffer(len)?;
        Ok(FrameMut::new(self))
    }

    /// As [`Writer::acquire_frame`], without waiting: `None` if there is no space now.
    ///
    /// # Errors
    ///
    /// As [`Writer::write_frame`], without `BufferFull`.
    pub fn try_acquire_frame(&mut self, len: usize) -> Result<Option<FrameMut<'_>>> {
        let reservation = self.reserve(len, true, Duration::ZERO)?;
        self.pending = reservation;
        Ok(reservation.map(|_| FrameMut::new(self)))
    }

    /// Acquires `len` bytes without a guard, for callers that cannot hold a borrow (language bindings); then
    /// [`Writer::acquired`], and [`Writer::commit_frame`] or [`Writer::discard_frame`].
    ///
    /// # Errors
    ///
    /// As [`Writer::write_frame`]; `InvalidState` if a frame is acquired already.
    pub fn acquire_frame_buffer(&mut self, len: usize) -> Result<()> {
        let reservation = self.reserve(len, true, self.write_timeout)?;
        self.pending = reservation;
        if reservation.is_none() {
            return Err(self.full(len));
        }
        Ok(())
    }

    /// The bytes acquired, if any.
    pub fn acquired(&mut self) -> Option<&mut [u8]> {
        let reservation = self.pending.as_ref()?;
        let WriteRing::Classic(side) = &mut self.ring;
        side.data(&self.shared.mapping, reservation)
    }

    pub(crate) fn acquired_ref(&self) -> Option<&[u8]> {
        let reservation = self.pending.as_ref()?;
        let WriteRing::Classic(side) = &self.ring;
        side.data_ref(&self.shared.mapping, reservation)
    }

    /// Commits the first `len` bytes of the frame acquired, all of them if `None`; gives its sequence number.
    ///
    /// # Errors
    ///
    /// `InvalidState` if nothing is acquired; `InvalidFrameSize` if `len` is 0 or more than was acquired (the frame
    /// stays acquired); `CorruptBuffer`.
    pub fn commit_frame(&mut self, len: Option<usize>) -> Result<u64> {
        self.commit_tagged(len, Tag::default())
    }

    /// As [`Writer::commit_frame`], with more than bytes.
    pub(crate) fn commit_tagged(&mut self, len: Option<usize>, tag: Tag) -> Result<u64> {
        self.check_mine()?;
        let Some(reservation) = self.pending else {
            return Err(self.shared.error(ErrorKind::InvalidState, "commit without acquire"));
        };
        let len = len.unwrap_or(reservation.len);
        if len == 0 || len > reservation.len {
            let message = format!("cannot commit {len} of {} bytes acquired", reservation.len);
            return Err(self.shared.error(ErrorKind::InvalidFrameSize, message));
        }
        self.pending = None;
        let sequence = self.commit(reservation, len, tag)?;
        self.wake_reader(1);
        Ok(sequence)
    }

    /// Whether flags and deadlines reach the reader.
    #[expect(dead_code, reason = "the duplex channel asks")]
    pub(crate) fn carries_tags(&self) -> bool {
        match self.ring {
            WriteRing::Classic(_) => false,
        }
    }

    /// Where the frame stands that was committed last.
    #[expect(dead_code, reason = "the duplex channel asks")]
    pub(crate) fn last_place(&self) -> Option<Place> {
        match self.ring {
            WriteRing::Classic(_) => None,
        }
    }

    /// Withdraws a committed frame: a reader that has not released it sees [`crate::ring::flags::CANCELLED`]. Says
    /// whether the frame was still there.
    #[expect(dead_code, reason = "the duplex channel cancels")]
    pub(crate) fn cancel(&mut self, _place: Place) -> bool {
        match self.ring {
            WriteRing::Classic(_) => false,
        }
    }

    /// Discards the frame acquired, if any. The reader never learns of it.
    pub fn discard_frame(&mut self) {
        self.pending = None;
    }

    /// Sets the buffer's metadata: at most once per buffer, and at most its metadata size less 8 bytes.
    ///
    /// # Errors
    ///
    /// `MetadataAlreadyWritten`, `MetadataTooLarge`, `InvalidState`.
    pub fn set_metadata(&mut self, metadata: &[u8]) -> Result<()> {
        self.check_mine()?;
        let mapping = &self.shared.mapping;
        let oieb = mapping.oieb();
        // Acquire: pairs with the Release below, of an earlier writer.
        if oieb.metadata_written_bytes.load(Ordering::Acquire) != 0 {
            let message = "its metadata is set already, and can be set only once";
            return Err(self.shared.error(ErrorKind::MetadataAlreadyWritten, message));
        }
        let size = mapping.geometry().metadata_size;
        let written = metadata.len() as u64 + METADATA_PREFIX;
        if written > size {
            let message = format!(
                "{} bytes of metadata and an 8-byte prefix do not fit its metadata block of {size} bytes: create the \
                 buffer with a larger metadata size",
                metadata.len()
            );
            return Err(self.shared.error(ErrorKind::MetadataTooLarge, message));
        }
        WriteSide::write_metadata(mapping, metadata)
            .ok_or_else(|| self.shared.error(ErrorKind::MetadataTooLarge, "the metadata does not fit"))?;
        stop_point!("metadata:free");
        oieb.metadata_free_bytes.store(size - written, Ordering::Relaxed);
        stop_point!("metadata:written");
        // Release pairs with the Acquire load in Reader::metadata.
        oieb.metadata_written_bytes.store(written, Ordering::Release);
        Ok(())
    }

    /// Whether the reader lives.
    pub fn is_reader_connected(&self) -> bool {
        matches!(self.reader_state(), Ok(ReaderState::Alive))
    }

    /// How long a write waits for space. `Duration::ZERO` polls once, `Duration::MAX` waits for ever.
    pub fn set_write_timeout(&mut self, timeout: Duration) {
        self.write_timeout = timeout;
    }

    /// How long a write waits for space.
    pub fn write_timeout(&self) -> Duration {
        self.write_timeout
    }

    /// Frames committed by this writer.
    pub fn frames_written(&self) -> u64 {
        self.frames_written
    }

    /// Bytes of data (without headers) committed by this writer.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// A handle with which another thread ends a blocked call.
    pub fn interrupt_handle(&self) -> InterruptHandle {
        InterruptHandle(Arc::<Shared>::clone(&self.shared))
    }

    /// A guard that keeps the buffer's memory mapped, for language bindings: a view of [`Writer::acquired`] may outlive the
    /// writer there. What is written through such a view after the commit is lost, or spoils a later frame.
    pub fn memory_guard(&self) -> MemoryGuard {
        MemoryGuard { _shared: Arc::<Shared>::clone(&self.shared) }
    }

    /// Closes the writer in good order: the reader gets all frames, then learns of the end at once. The same as
    /// dropping it.
    ///
    /// # Errors
    ///
    /// None today; kept for systems where closing can fail.
    pub fn close(mut self) -> Result<()> {
        self.shut();
        Ok(())
    }

    fn shut(&mut self) {
        let Some(role) = self.role.take() else { return };
        if self.check_mine().is_err() {
            // A forked child inherited this handle: the connection stays the parent's (spec failure 9).
            return;
        }
        let oieb = self.shared.mapping.oieb();
        let words = WriterWords::load(oieb);
        // The pid first, so that "closed" beside a pid can only mean a 1.x writer that came later.
        stop_point!("close:writer-pid");
        let pid = u64::from(std::process::id());
        let _ = oieb.writer_pid.compare_exchange(pid, 0, Ordering::AcqRel, Ordering::Relaxed);
        stop_point!("close:writer-word");
        // Release pairs with the Acquire load in WriterWords::load: whoever sees "closed" sees all commits.
        oieb.writer_word.store(words.word.closed().0, Ordering::Release);
        // As late as possible: a reader that dies after this look leaves its files to the next creation.
        let reader = liveness::reader_state(|| Ok(liveness::reader_words(oieb)), &role);
        stop_point!("close:writer-unlock");
        drop(role);
        let WriteRing::Classic(side) = &self.ring;
        if side.reader_is_ours {
            stop_point!("close:post-sem-w");
            self.shared.sem_w.post();
        }
        if !matches!(reader, Ok(ReaderState::Alive)) {
            match registry::clean_after_reader(&self.shared.name, &self.files) {
                Ok(true) => {
                    log::info!("buffer `{}`: removed what its dead reader left behind", self.shared.name)
                }
                Ok(false) => {}
                Err(error) => {
                    log::warn!(
                        "buffer `{}`: cannot remove what its dead reader left: {error}",
                        self.shared.name
                    );
                }
            }
        }
    }

    // ---- the writing loop ----

    fn check_mine(&self) -> Result<()> {
        if self.shared.generation == os::fork_generation() {
            return Ok(());
        }
        Err(self.shared.error(
            ErrorKind::InvalidState,
            "this writer belongs to the process that forked this one; connect one of your own",
        ))
    }

    fn take_interrupt(&self) -> Result<()> {
        // A plain look first: the swap would take the cache line for itself at every call.
        if self.shared.interrupted.load(Ordering::Relaxed)
            && self.shared.interrupted.swap(false, Ordering::Acquire)
        {
            return Err(self.shared.error(ErrorKind::Interrupted, "the call was interrupted"));
        }
        Ok(())
    }

    fn put(&mut self, data: &[u8], timeout: Duration, tag: Tag) -> Result<Option<u64>> {
        let Some(reservation) = self.reserve(data.len(), false, timeout)? else { return Ok(None) };
        let WriteRing::Classic(side) = &mut self.ring;
        match side.data(&self.shared.mapping, &reservation) {
            Some(target) => {
                stop_point!("write:data");
                target.copy_from_slice(data);
            }
            None => return Err(self.shared.error(ErrorKind::CorruptBuffer, "a frame lies outside the ring")),
        }
        self.commit(reservation, data.len(), tag).map(Some)
    }

    fn commit(&mut self, reservation: Reservation, len: usize, tag: Tag) -> Result<u64> {
        let WriteRing::Classic(side) = &mut self.ring;
        let sequence = side
            .commit(&self.shared.mapping, reservation, len, tag)
            .map_err(|trouble| self.shared.trouble(trouble))?;
        self.frames_written += 1;
        self.bytes_written += len as u64;
        Ok(sequence)
    }

    /// Tells the reader of `frames` more frames.
    fn wake_reader(&self, frames: usize) {
        let WriteRing::Classic(side) = &self.ring;
        if !side.reader_is_ours {
            // A 1.x reader takes exactly one token per frame.
            for _ in 0..frames {
                stop_point!("write:post-sem-w");
                self.shared.sem_w.post();
            }
            return;
        }
        if frames == 0 {
            return;
        }
        // SeqCst between the commit and the look at the count; a waiting reader takes a token before it looks at the
        // ring. So if we see a token here, its taker will see our frame.
        fence(Ordering::SeqCst);
        if self.shared.sem_w.value() <= 0 {
            stop_point!("write:post-sem-w");
            self.shared.sem_w.post();
        }
    }

    fn full(&self, len: usize) -> Error {
        self.shared.error(
            ErrorKind::BufferFull,
            format!(
                "no space for a frame of {len} bytes within {:?}: the reader is slower than the writer, or holds \
                 frames; read and release faster, make the buffer larger, or raise the write time-out",
                self.write_timeout
            ),
        )
    }

    fn reader_state(&self) -> Result<ReaderState> {
        let Some(role) = &self.role else {
            return Err(self.shared.error(ErrorKind::Closed, "the writer is closed"));
        };
        let oieb = self.shared.mapping.oieb();
        liveness::reader_state(|| Ok(liveness::reader_words(oieb)), role)
            .map_err(|error| Error::os(&self.shared.name, "test the reader's role lock", error))
    }

    fn check_reader(&mut self) -> Result<()> {
        stop_point!("write:judge");
        match self.reader_state()? {
            ReaderState::Alive => {}
            ReaderState::Closed => {
                return Err(self.shared.error(ErrorKind::ReaderDead, "the reader has closed the buffer"));
            }
            ReaderState::Dead => return Err(self.shared.error(ErrorKind::ReaderDead, "the reader died")),
        }
        // 1.x peers may zero or overwrite the pid of a live writer; put it back for those that look.
        let pid = u64::from(std::process::id());
        let oieb = self.shared.mapping.oieb();
        if oieb.writer_pid.load(Ordering::Relaxed) == 0 {
            stop_point!("write:writer-pid");
            let _ = oieb.writer_pid.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Finds a place for a frame of `len` bytes, waiting for it up to `timeout`; `None` when the time is over.
    fn reserve(&mut self, len: usize, may_shrink: bool, timeout: Duration) -> Result<Option<Reservation>> {
        self.check_mine()?;
        if self.pending.is_some() {
            let message = "a frame is acquired: commit or discard it first";
            return Err(self.shared.error(ErrorKind::InvalidState, message));
        }
        if len == 0 {
            return Err(self.shared.error(ErrorKind::InvalidFrameSize, "a frame needs at least 1 byte"));
        }
        if len > self.max_frame_size() {
            let message = format!(
                "a frame of {len} bytes and its 16-byte header do not fit its payload of {} bytes: create the buffer \
                 with a larger payload size",
                self.shared.mapping.geometry().payload_size
            );
            return Err(self.shared.error(ErrorKind::FrameTooLarge, message));
        }
        self.take_interrupt()?;
        let now = os::coarse_now();
        if now.saturating_sub(self.reader_checked) >= READER_CHECK {
            // The time is noted only if all is well: a reader that was found dead must not seem alive a moment later.
            self.check_reader()?;
            self.reader_checked = now;
            self.burn_tokens();
        }
        match self.find_place(len, may_shrink) {
            Ok(Some(reservation)) => return Ok(Some(reservation)),
            Ok(None) => {}
            Err(Doubt::Final(error)) => return Err(error),
            Err(Doubt::Passing(_)) => {}
        }
        if timeout.is_zero() {
            self.check_reader()?;
            // Tells the reader that space is short, so that it gives back at once (ReleaseQueue).
            while self.shared.sem_r.try_wait() {}
            return Ok(None);
        }
        self.wait_for_place(len, may_shrink, Deadline::after(timeout))
    }

    fn wait_for_place(
        &mut self,
        len: usize,
        may_shrink: bool,
        deadline: Deadline,
    ) -> Result<Option<Reservation>> {
        let mut unsure_since: Option<Instant> = None;
        let mut spin = true;
        let mut longest = FIRST_SLICE;
        loop {
            if spin {
                let Writer { ring: WriteRing::Classic(side), shared, spin, .. } = self;
                let before = side.free(&shared.mapping).ok();
                spin.until(|| side.free(&shared.mapping).ok() != before);
            }
            spin = true;
            let mut slice = longest;
            match self.find_place(len, may_shrink) {
                Ok(Some(reservation)) => return Ok(Some(reservation)),
                Ok(None) => unsure_since = None,
                Err(Doubt::Final(error)) => return Err(error),
                Err(Doubt::Passing(error)) => {
                    if unsure_since.get_or_insert_with(Instant::now).elapsed() > UNSURE_LIMIT {
                        return Err(error);
                    }
                    slice = UNSURE_SLICE;
                }
            }
            if let Err(error) = self.check_reader() {
                self.reader_checked = Duration::ZERO;
                return Err(error);
            }
            let Some(left) = deadline.left(slice) else { return Ok(None) };
            stop_point!("write:wait");
            if self.shared.sem_r.wait(left) {
                // Tokens only wake: burn the stale ones at once, without a look at the ring for each.
                self.burn_tokens();
                taken_before_look(true);
                spin = false;
            } else {
                longest = SLICE;
            }
            self.take_interrupt()?;
        }
    }

    /// Takes tokens that nobody waits for: a 1.x reader posts one per frame, and dies when they are too many (spec
    /// failure 3).
    fn burn_tokens(&self) {
        let mut burst = TOKEN_BURST;
        while burst > 0 && self.shared.sem_r.try_wait() {
            burst -= 1;
        }
    }

    /// One look for a place, with memory behind it.
    fn find_place(
        &mut self,
        len: usize,
        may_shrink: bool,
    ) -> std::result::Result<Option<Reservation>, Doubt> {
        let WriteRing::Classic(side) = &mut self.ring;
        let mapping = &self.shared.mapping;
        let doubt = |trouble| Doubt::Passing(self.shared.trouble(trouble));
        let known = side.known_free_for(mapping, len);
        let mut fresh = known.is_none();
        let free = known.map_or_else(|| side.look_free(mapping).map_err(doubt), Ok)?;
        let mut question = side.question(mapping, free, len, may_shrink);
        loop {
            let placement = match space::plan(question) {
                Plan::Place(placement) => placement,
                Plan::Wait { .. } if fresh => return Ok(None),
                Plan::Wait { .. } => {
                    fresh = true;
                    question.free = side.look_free(mapping).map_err(doubt)?;
                    continue;
                }
            };
            if placement.rewind && !side.rewind(mapping) {
                question.can_rewind = false;
                continue;
            }
            let reserved = self.reserver.reserve(placement.start, question.need);
            match reserved {
                Ok(()) => return Ok(Some(Reservation { placement, len })),
                Err(error) if placement.start == 0 || question.only_start => {
                    return Err(Doubt::Final(Error::os(
                        &self.shared.name,
                        "reserve memory for the frame",
                        error,
                    )));
                }
                // No memory straight ahead: go on with what there is, from the start of the ring.
                Err(_) => question.only_start = true,
            }
        }
    }
}

/// Why there was no place: for good, or by a contradiction that may pass.
enum Doubt {
    Final(Error),
    Passing(Error),
}

/// Keeps a buffer's memory mapped in this process for as long as it lives; see [`Writer::memory_guard`].
#[derive(Clone)]
pub struct MemoryGuard {
    _shared: Arc<Shared>,
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
            .field("name", &self.shared.name)
            .field("frames_written", &self.frames_written)
            .finish()
    }
}
