//! The writing side: connects to a buffer that a reader has created.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::WriterOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::frame_mut::FrameMut;
use crate::layout::{FRAME_HEADER, METADATA_PREFIX};
use crate::lifecycle::connect::{self, Connection};
use crate::lifecycle::liveness::{self, ReaderState, RoleProbe, WriterWords};
use crate::lifecycle::registry::{self, OwnedFiles};
use crate::memory::Memory;
use crate::memory::mapping::Mapping;
use crate::memory::reserve::Reserver;
use crate::os;
use crate::reader::{Interrupt, InterruptHandle};
use crate::ring::classic::WriteSide;
use crate::ring::classic::nap::Nap;
use crate::ring::classic::plan::{self, Plan};
use crate::ring::extended::patience::Patience;
use crate::ring::extended::plan::ALIGN_FROM;
use crate::ring::extended::{self, Marker};
use crate::ring::{Place, Reservation, Tag, Trouble, WriteRing, flags};
use crate::sync::{AtomicBool, Ordering, fence};
use crate::testing::stop::stop_point;
use crate::wait::bell;
use crate::wait::{Deadline, FIRST_SLICE, SLICE, Spin, UNSURE_LIMIT, UNSURE_SLICE, taken_before_look};

/// How often a writer that never blocks makes sure that its reader lives, in nanoseconds.
const READER_CHECK: u64 = 10_000_000;

/// Frames within [`READER_CHECK`] for which a fence each is worth saving: together some 20 us.
const MANY_FRAMES: u64 = 2000;

/// Header of a frame that is acquired before it is known what it will carry (`Tag::header`).
const ACQUIRED_HEADER: u64 = 32;

/// The most small frames that go without a look at the clock.
const AT_ONCE_MAX: u32 = 31;

/// The clock is read before a frame that may go at once if none of these bits is set in the number of those that may: every
/// eighth time.
const AT_ONCE_CLOCK: u32 = 7;

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
        // Release pairs with the swap in Writer::take_interrupt; token or bell wake a call that already sleeps.
        self.interrupted.store(true, Ordering::Release);
        if self.mapping.can_be_extended() {
            bell::call(&self.mapping.control().writer_bell.bell);
        }
        self.sem_r.post();
    }

    fn clear(&self) {
        // Relaxed: what the interrupt was about is the caller's to know.
        self.interrupted.store(false, Ordering::Relaxed);
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
    fn reader_state(&self, probe: &impl RoleProbe) -> Result<ReaderState> {
        liveness::reader_state(|| Ok(liveness::reader_words(self.mapping.oieb())), probe)
            .map_err(|error| Error::os(&self.name, "test the reader's role lock", error))
    }
}

/// Tells from any thread whether the reader of a [`Writer`] is connected, whatever the writer is doing; made by
/// [`Writer::reader_watch`]. It changes nothing, and keeps the buffer's memory mapped.
///
/// ```
/// use zerobuffer::{BufferConfig, Reader, Writer};
///
/// # let name = format!("doc-reader-watch-{}", std::process::id());
/// let reader = Reader::create(&name, BufferConfig::default())?;
/// let watch = Writer::connect(&name)?.reader_watch()?;
/// assert!(watch.is_reader_connected());
/// reader.close()?;
/// std::thread::scope(|scope| scope.spawn(|| assert!(!watch.is_reader_connected())).join()).unwrap();
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct ReaderWatch {
    shared: Arc<Shared>,
    view: os::LockView,
}

impl ReaderWatch {
    /// Whether the reader lives.
    pub fn is_reader_connected(&self) -> bool {
        matches!(self.shared.reader_state(&self.view), Ok(ReaderState::Alive))
    }

    /// Withdraws a committed frame while the writer's next one is filled; see [`extended::WriteSide::marker`].
    pub(crate) fn cancel(&self, marker: Marker, place: Place) {
        marker.mark(&self.shared.mapping, place.0, flags::CANCELLED);
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
    /// Our bell says that space is short.
    short: bool,
    patience: Patience,
    spin: Spin,
    nap: Nap,
    /// Small frames that may go at once, up to where, and how many it were when this was decided last.
    at_once: u32,
    at_once_until: u64,
    at_once_most: u32,
    /// The coarse clock when that was decided, and as it was read last.
    tick: u64,
    clock_read: u64,
    reader_checked: u64,
    /// `frames_written` at that time.
    frames_at_check: u64,
    frames_written: u64,
    bytes_written: u64,
    /// `bytes_written` at the last wait.
    bytes_before_wait: u64,
    /// Makes the type `!Sync`.
    not_sync: std::marker::PhantomData<std::cell::Cell<()>>,
}

impl std::fmt::Debug for ReaderWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReaderWatch").field("name", &self.shared.name).finish()
    }
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
    /// As [`Writer::connect`]; `BufferNotFound` and `ReaderDead` only after the connect time-out.
    pub fn connect_with(name: &str, options: WriterOptions) -> Result<Writer> {
        let Connection { shared, segment, files, role, ring } =
            connect::connect(name, options.connect_timeout)?;
        let geometry = *shared.mapping.geometry();
        Ok(Writer {
            reserver: Reserver::new(segment, geometry),
            shared: Arc::new(shared),
            ring,
            files,
            role: Some(role),
            write_timeout: options.write_timeout,
            pending: None,
            short: false,
            patience: Patience::new(),
            spin: Spin::new(options.wait),
            nap: Nap::new(),
            at_once: 0,
            at_once_until: 0,
            at_once_most: 0,
            tick: 0,
            clock_read: 0,
            reader_checked: os::coarse_now(),
            frames_at_check: 0,
            frames_written: 0,
            bytes_written: 0,
            bytes_before_wait: 0,
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
    #[inline]
    pub fn write_frame(&mut self, data: &[u8]) -> Result<u64> {
        // The clock now and then: a writer that has slowed down must learn of its reader's end.
        let calm = self.at_once & AT_ONCE_CLOCK != 0 || self.at_once == 0 || os::coarse_now() == self.tick;
        let sequence = if calm { self.put_at_once(data, Tag::default()) } else { None };
        sequence.map_or_else(|| self.write_closely(data, Tag::default()), Ok)
    }

    /// As [`Writer::write_frame`], with more than bytes. `now` is the coarse clock, as the caller has just read it.
    #[inline]
    pub(crate) fn write_tagged(&mut self, data: &[u8], tag: Tag, now: u64) -> Result<u64> {
        let sequence = if now == self.tick { self.put_at_once(data, tag) } else { None };
        sequence.map_or_else(|| self.write_closely(data, tag), Ok)
    }

    #[inline(never)]
    fn write_closely(&mut self, data: &[u8], tag: Tag) -> Result<u64> {
        let sequence = self.put(data, self.write_timeout, tag)?;
        // A token to a 1.x reader without a frame would be taken for one (spec failure 17).
        if sequence.is_some() {
            self.wake_reader(1);
        }
        self.expect_small_frames();
        sequence.ok_or_else(|| self.full(data.len()))
    }

    /// Writes a small frame straight ahead, if there is nothing else to think of: what [`Writer::reserve`] and the rest of
    /// the way do for any frame, in a quarter of the instructions.
    #[inline]
    fn put_at_once(&mut self, data: &[u8], tag: Tag) -> Option<u64> {
        let WriteRing::Extended(side) = &mut self.ring else { return None };
        let shared = &*self.shared;
        let calm = shared.generation == os::fork_generation() && !shared.interrupted.load(Ordering::Relaxed);
        if self.at_once == 0 || !calm {
            return None;
        }
        let place = side.small_place(data.len(), tag.header(), self.at_once_until)?;
        self.at_once -= 1;
        stop_point!("write:data");
        // SAFETY: as for bytes_of(); `data` cannot lie in free space of the ring, as no slice of that is lent out.
        #[allow(unsafe_code)]
        unsafe {
            shared.mapping.write_frame(place.data(), data)?;
        }
        let sequence = side.commit(&shared.mapping, place, data.len(), tag).ok()?;
        self.frames_written += 1;
        self.bytes_written += data.len() as u64;
        let bell = &shared.mapping.control().reader_bell.bell;
        if bell::wants(bell) & bell::SLEEPING != 0 {
            stop_point!("extended:ring-reader");
            bell::ring(bell);
        }
        Some(sequence)
    }

    /// Says how many small frames may go [at once](Writer::put_at_once): none, unless frames follow each other so fast that
    /// the coarse clock stands still meanwhile, then as many more each time, until the clock is seen to have gone on. So
    /// a look at the reader is late by eight frames at the most.
    #[inline]
    fn expect_small_frames(&mut self) {
        let now = self.clock_read;
        let WriteRing::Extended(side) = &self.ring else { return };
        self.at_once_most = match now == self.tick {
            true => (2 * self.at_once_most + 1).min(AT_ONCE_MAX),
            false => 0,
        };
        self.tick = now;
        let usual = !self.short
            && self.pending.is_none()
            && self.shared.mapping.geometry().payload_size > ALIGN_FROM * 2;
        self.at_once = if usual { self.at_once_most } else { 0 };
        self.at_once_until = side.open_until().min(self.reserver.up_to());
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
        let reservation = self.reserve(len, true, Duration::ZERO, ACQUIRED_HEADER)?;
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
        let reservation = self.reserve(len, true, self.write_timeout, ACQUIRED_HEADER)?;
        self.pending = reservation;
        if reservation.is_none() {
            return Err(self.full(len));
        }
        Ok(())
    }

    /// The bytes acquired, if any.
    pub fn acquired(&mut self) -> Option<&mut [u8]> {
        let reservation = self.pending?;
        self.bytes_of(&reservation)
    }

    pub(crate) fn acquired_ref(&self) -> Option<&[u8]> {
        let reservation = self.pending.as_ref()?;
        // SAFETY: as for bytes_of(); the shared borrow of the writer keeps that from being called meanwhile.
        #[allow(unsafe_code)]
        unsafe {
            self.shared.mapping.frame_bytes(reservation.data(), reservation.len)
        }
    }

    /// The bytes of a reservation, to fill in.
    #[inline]
    fn bytes_of(&mut self, reservation: &Reservation) -> Option<&mut [u8]> {
        // SAFETY: the place was found free, and the reader does not look at it before the commit; there is one writer,
        // which is borrowed mutably for as long as the slice lives.
        #[allow(unsafe_code)]
        unsafe {
            self.shared.mapping.frame_bytes_mut(reservation.data(), reservation.len)
        }
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
            return Err(self
                .shared
                .error(ErrorKind::InvalidState, "commit without acquire: acquire a frame first"));
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
    pub(crate) fn carries_tags(&self) -> bool {
        matches!(self.ring, WriteRing::Extended(_))
    }

    /// Where the frame stands that was committed last.
    pub(crate) fn last_place(&self) -> Option<Place> {
        match &self.ring {
            WriteRing::Classic(_) => None,
            WriteRing::Extended(side) => Some(Place(side.last())),
        }
    }

    /// Withdraws a committed frame: a reader that has not released it sees [`crate::ring::flags::CANCELLED`]. Says
    /// whether the frame was still there.
    pub(crate) fn cancel(&mut self, place: Place) -> bool {
        match &mut self.ring {
            WriteRing::Classic(_) => false,
            WriteRing::Extended(side) => side.mark(&self.shared.mapping, place.0, flags::CANCELLED),
        }
    }

    /// What withdraws frames while the one acquired is filled; see [`ReaderWatch::cancel`].
    pub(crate) fn marker(&self) -> Option<Marker> {
        match &self.ring {
            WriteRing::Classic(_) => None,
            WriteRing::Extended(side) => Some(side.marker()),
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
    /// `MetadataAlreadyWritten`, `MetadataTooLarge`, `OutOfMemory`, `InvalidState`.
    pub fn set_metadata(&mut self, metadata: &[u8]) -> Result<()> {
        self.check_mine()?;
        let mapping = &self.shared.mapping;
        let oieb = mapping.oieb();
        // Acquire: pairs with the Release below, of an earlier writer.
        if oieb.metadata_written_bytes.load(Ordering::Acquire) != 0 {
            let message =
                "its metadata is set already, and can be set only once: send what changes as frames";
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
        // A 1.x reader, or one that lies, has perhaps not reserved it.
        self.reserver
            .reserve_metadata(written)
            .map_err(|error| Error::os(&self.shared.name, "reserve memory for the metadata", error))?;
        WriteSide::write_metadata(mapping, metadata)
            .ok_or_else(|| self.shared.error(ErrorKind::MetadataTooLarge, "the metadata does not fit"))?;
        stop_point!("metadata:free");
        oieb.metadata_free_bytes.store(size - written, Ordering::Relaxed);
        stop_point!("metadata:written");
        // Release pairs with the Acquire load in Reader::metadata.
        oieb.metadata_written_bytes.store(written, Ordering::Release);
        Ok(())
    }

    /// Takes back the metadata of an earlier writer, so that each client of a duplex server can set its own. Only a reader
    /// of ours expects that.
    pub(crate) fn forget_metadata(&mut self) {
        let oieb = self.shared.mapping.oieb();
        // Acquire pairs with the earlier writer's Release.
        if liveness::reader_words(oieb).1.is_ours()
            && oieb.metadata_written_bytes.load(Ordering::Acquire) != 0
        {
            stop_point!("metadata:forget");
            // Release: as in set_metadata. Seen by the reader with our first frame, at the latest.
            oieb.metadata_written_bytes.store(0, Ordering::Release);
            let size = self.shared.mapping.geometry().metadata_size;
            oieb.metadata_free_bytes.store(size, Ordering::Relaxed);
        }
    }

    /// Whether the reader lives.
    pub fn is_reader_connected(&self) -> bool {
        matches!(self.reader_state(), Ok(ReaderState::Alive))
    }

    /// What tells from any thread whether the reader is connected while another thread uses the writer.
    ///
    /// # Errors
    ///
    /// `System` if there is no file descriptor left; `Closed`.
    pub fn reader_watch(&self) -> Result<ReaderWatch> {
        let view = self.role()?.view();
        let view = view.map_err(|error| Error::os(&self.shared.name, "copy its descriptor", error))?;
        Ok(ReaderWatch { shared: Arc::<Shared>::clone(&self.shared), view })
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
        if let WriteRing::Classic(_) = self.ring {
            // The pid first, so that "closed" beside a pid can only mean a 1.x writer that came later. The one in an
            // extended buffer keeps 1.x writers away.
            stop_point!("close:writer-pid");
            let pid = u64::from(std::process::id());
            let _ = oieb.writer_pid.compare_exchange(pid, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
        stop_point!("close:writer-word");
        // Release pairs with the Acquire load in WriterWords::load: whoever sees "closed" sees all commits.
        oieb.writer_word.store(words.word.closed().0, Ordering::Release);
        // As late as possible: a reader that dies after this look leaves its files to the next creation.
        let reader = liveness::reader_state(|| Ok(liveness::reader_words(oieb)), &role);
        stop_point!("close:writer-unlock");
        drop(role);
        match &self.ring {
            WriteRing::Extended(_) => {
                stop_point!("close:ring-reader");
                bell::call(&self.shared.mapping.control().reader_bell.bell);
            }
            WriteRing::Classic(side) if side.reader_is_ours => {
                stop_point!("close:post-sem-w");
                self.shared.sem_w.post();
            }
            WriteRing::Classic(_) => {}
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

    #[inline]
    fn put(&mut self, data: &[u8], timeout: Duration, tag: Tag) -> Result<Option<u64>> {
        let Some(reservation) = self.reserve(data.len(), false, timeout, tag.header())? else {
            return Ok(None);
        };
        stop_point!("write:data");
        // SAFETY: as for bytes_of(); `data` cannot lie in free space of the ring, as no slice of that is lent out.
        #[allow(unsafe_code)]
        let copied = unsafe { self.shared.mapping.write_frame(reservation.data(), data) };
        if copied.is_none() {
            return Err(self.shared.error(ErrorKind::CorruptBuffer, "a frame lies outside the ring"));
        }
        self.commit(reservation, data.len(), tag).map(Some)
    }

    #[inline]
    fn commit(&mut self, reservation: Reservation, len: usize, tag: Tag) -> Result<u64> {
        let mapping = &self.shared.mapping;
        let sequence = match &mut self.ring {
            WriteRing::Extended(side) => side.commit(mapping, reservation, len, tag),
            WriteRing::Classic(side) => side.commit(mapping, reservation, len, tag),
        }
        .map_err(|trouble| self.shared.trouble(trouble))?;
        self.frames_written += 1;
        self.bytes_written += len as u64;
        Ok(sequence)
    }

    /// Tells the reader of `frames` more frames.
    #[inline]
    fn wake_reader(&self, frames: usize) {
        match &self.ring {
            WriteRing::Extended(_) => {
                let bell = &self.shared.mapping.control().reader_bell.bell;
                if bell::wants(bell) & bell::SLEEPING != 0 {
                    stop_point!("extended:ring-reader");
                    bell::ring(bell);
                }
            }
            WriteRing::Classic(side) => self.wake_classic(side, frames),
        }
    }

    fn wake_classic(&self, side: &WriteSide, frames: usize) {
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

    /// Says why there was no place within the time-out: for want of memory, or of space that the reader gives back.
    #[cold]
    fn full(&mut self, len: usize) -> Error {
        if let Err(error) = self.reserver.confirm() {
            return Error::os(&self.shared.name, "reserve memory for the frame", error);
        }
        self.shared.error(
            ErrorKind::BufferFull,
            format!(
                "no space for a frame of {len} bytes within {:?}: the reader is slower than the writer, or holds \
                 frames; read and release faster, make the buffer larger, or raise the write time-out",
                self.write_timeout
            ),
        )
    }

    fn role(&self) -> Result<&os::LockFile> {
        let closed = || self.shared.error(ErrorKind::Closed, "the writer is closed: connect a new one");
        self.role.as_ref().ok_or_else(closed)
    }

    fn reader_state(&self) -> Result<ReaderState> {
        self.shared.reader_state(self.role()?)
    }

    fn check_reader(&mut self) -> Result<()> {
        stop_point!("write:judge");
        match self.reader_state()? {
            ReaderState::Alive => {}
            ReaderState::Closed => {
                let message = "the reader has closed the buffer: connect again when there is a new reader";
                return Err(self.shared.error(ErrorKind::ReaderDead, message));
            }
            ReaderState::Dead => {
                let message = "the reader died: connect again when there is a new one";
                return Err(self.shared.error(ErrorKind::ReaderDead, message));
            }
        }
        // 1.x peers may zero or overwrite the pid of a live writer; put it back for those that look.
        let oieb = self.shared.mapping.oieb();
        let pid = match self.ring {
            WriteRing::Classic(_) => u64::from(std::process::id()),
            WriteRing::Extended(_) => oieb.reader_pid.load(Ordering::Relaxed),
        };
        if oieb.writer_pid.load(Ordering::Relaxed) == 0 {
            stop_point!("write:writer-pid");
            let _ = oieb.writer_pid.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Finds a place for a frame of `len` bytes, waiting for it up to `timeout`; `None` when the time is over. `header` is
    /// what its header takes in an extended ring, at the least.
    #[inline]
    fn reserve(
        &mut self,
        len: usize,
        may_shrink: bool,
        timeout: Duration,
        header: u64,
    ) -> Result<Option<Reservation>> {
        self.at_once = 0;
        self.check_mine()?;
        if self.pending.is_some() {
            let message = "a frame is acquired: commit or discard it first";
            return Err(self.shared.error(ErrorKind::InvalidState, message));
        }
        if len == 0 || len > self.max_frame_size() {
            return Err(self.bad_size(len));
        }
        self.take_interrupt()?;
        let now = os::coarse_now();
        self.clock_read = now;
        if now.saturating_sub(self.reader_checked) >= READER_CHECK {
            // The time is noted only if all is well: a reader that was found dead must not seem alive a moment later.
            self.check_reader()?;
            self.reader_checked = now;
            self.burn_tokens();
            self.save_fences();
        }
        if let WriteRing::Extended(side) = &self.ring
            && let Some(place) = side.place_at_once(len, header)
            && self.reserver.has_up_to(place.data() + len as u64)
            && !self.short
        {
            return Ok(Some(place));
        }
        self.reserve_slowly(len, may_shrink, timeout, header)
    }

    /// A writer of many small frames has its process registered for the barriers that its reader issues, and saves a fence
    /// a frame. Others do not: registering takes the kernel some 12 ms, for which a process that is killed meanwhile
    /// lives on.
    fn save_fences(&mut self) {
        let frames = self.frames_written - std::mem::replace(&mut self.frames_at_check, self.frames_written);
        if frames >= MANY_FRAMES && matches!(self.ring, WriteRing::Extended(_)) {
            os::register_for_barriers();
        }
    }

    #[cold]
    fn bad_size(&self, len: usize) -> Error {
        if len == 0 {
            return self.shared.error(
                ErrorKind::InvalidFrameSize,
                "a frame needs at least 1 byte: send nothing, or a byte to mark an event",
            );
        }
        let message = format!(
            "a frame of {len} bytes and its 16-byte header do not fit its payload of {} bytes: create the buffer with a \
             larger payload size",
            self.shared.mapping.geometry().payload_size
        );
        self.shared.error(ErrorKind::FrameTooLarge, message)
    }

    #[inline(never)]
    fn reserve_slowly(
        &mut self,
        len: usize,
        may_shrink: bool,
        timeout: Duration,
        header: u64,
    ) -> Result<Option<Reservation>> {
        match self.find_place(len, may_shrink, header, timeout) {
            Ok(Some(reservation)) => {
                self.say_short(false);
                return Ok(Some(reservation));
            }
            Ok(None) => {}
            Err(Doubt::Final(error)) => return Err(error),
            Err(Doubt::Passing(_)) => {}
        }
        self.say_short(true);
        if timeout.is_zero() {
            self.check_reader()?;
            if let WriteRing::Classic(_) = self.ring {
                // Tells the reader that space is short, so that it gives back at once (ReleaseQueue).
                while self.shared.sem_r.try_wait() {}
            }
            return Ok(None);
        }
        let place = self.wait_for_place(len, may_shrink, header, Deadline::after(timeout));
        if matches!(place, Ok(Some(_))) {
            self.say_short(false);
        }
        place
    }

    /// Tells the reader of an extended ring whether to give back every byte at once.
    fn say_short(&mut self, short: bool) {
        if let (WriteRing::Extended(_), true) = (&self.ring, short || self.short) {
            bell::set(&self.shared.mapping.control().writer_bell.bell, if short { bell::SHORT } else { 0 });
            self.short = short;
        }
    }

    fn wait_for_place(
        &mut self,
        len: usize,
        may_shrink: bool,
        header: u64,
        deadline: Deadline,
    ) -> Result<Option<Reservation>> {
        self.spin.moved(self.bytes_written - self.bytes_before_wait);
        self.bytes_before_wait = self.bytes_written;
        let mut unsure_since: Option<Instant> = None;
        let mut began = None;
        // A 1.x reader with enough to do is left alone: spinning takes the count's line away from it.
        let mut spin = self.nap.length().is_none();
        let mut free_before = self.free_beside_1x();
        let mut longest = FIRST_SLICE;
        loop {
            if spin {
                self.spin_for_change(began);
            }
            let first = began.is_none();
            let began = *began.get_or_insert_with(Instant::now);
            let mut slice = longest;
            let left = deadline.left(SLICE).unwrap_or_default();
            let found = self.find_place(len, may_shrink, header, left);
            let nap = self.nap_after_look(&mut free_before, first);
            match found {
                Ok(Some(reservation)) => {
                    if !spin {
                        self.spin.learn(began.elapsed());
                    }
                    return Ok(Some(reservation));
                }
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
                self.reader_checked = 0;
                return Err(error);
            }
            let Some(left) = deadline.left(nap.unwrap_or(slice)) else { return Ok(None) };
            spin = self.spin.is_endless();
            if !spin {
                stop_point!("write:wait");
                if nap.is_some() {
                    std::thread::sleep(left);
                } else if self.sleep(left) {
                    longest = SLICE;
                }
            }
            self.take_interrupt()?;
        }
    }

    /// What the last look found free, if naps may be taken: in the ring of a 1.x reader, by a writer that may sleep.
    fn free_beside_1x(&self) -> Option<u64> {
        match &self.ring {
            WriteRing::Classic(side) if !side.reader_is_ours && !self.spin.is_endless() => {
                Some(side.seen_free())
            }
            _ => None,
        }
    }

    /// How long to sleep by the clock before the next look for space; `None`: until the reader posts. `free_before` is
    /// what the look before found free, `first` says that this was the first of the wait.
    fn nap_after_look(&mut self, free_before: &mut Option<u64>, first: bool) -> Option<Duration> {
        let free = self.free_beside_1x()?;
        let changed = free_before.replace(free) != Some(free);
        if changed {
            self.nap.learn(free, self.shared.mapping.geometry().payload_size);
        }
        // A reader that gives nothing back may not for long: asleep on the semaphore we cost nothing.
        if changed || first { self.nap.length() } else { None }
    }

    fn spin_for_change(&mut self, since: Option<Instant>) {
        let Writer { ring, shared, spin, .. } = self;
        match ring {
            WriteRing::Classic(side) => {
                let before = side.free(&shared.mapping).ok();
                spin.until(since, || side.free(&shared.mapping).ok() != before);
            }
            WriteRing::Extended(side) => {
                spin.until(since, || side.changed(&shared.mapping));
            }
        }
    }

    /// Sleeps until space was given back or somebody interrupts, at most `left`. Says whether nothing happened, as far as
    /// is known.
    fn sleep(&mut self, left: Duration) -> bool {
        let Shared { mapping, sem_r, interrupted, .. } = &*self.shared;
        match &self.ring {
            WriteRing::Classic(_) => {
                let woken = sem_r.wait(left);
                if woken {
                    // Tokens only wake: burn the stale ones at once, without a look at the ring for each.
                    self.burn_tokens();
                    taken_before_look(true);
                }
                !woken
            }
            WriteRing::Extended(side) => {
                let ready = || side.changed(mapping) || interrupted.load(Ordering::Relaxed);
                let bell = &mapping.control().writer_bell.bell;
                bell::sleep(bell, bell::SHORT, left, ready);
                !side.changed(mapping)
            }
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

    /// One look for a place, with memory behind it; in an extended ring with some patience, as far as there is time `left`.
    fn find_place(
        &mut self,
        len: usize,
        may_shrink: bool,
        header: u64,
        left: Duration,
    ) -> std::result::Result<Option<Reservation>, Doubt> {
        match self.ring {
            WriteRing::Classic(_) => self.find_classic(len, may_shrink),
            WriteRing::Extended(_) => self.find_extended(len, header, left),
        }
    }

    fn find_extended(
        &mut self,
        len: usize,
        header: u64,
        left: Duration,
    ) -> std::result::Result<Option<Reservation>, Doubt> {
        let WriteRing::Extended(side) = &mut self.ring else { return Ok(None) };
        let mut only_start = false;
        loop {
            let look = |side: &mut extended::WriteSide| {
                side.place(&self.shared.mapping, len, header, only_start)
                    .map_err(|trouble| Doubt::Passing(self.shared.trouble(trouble)))
            };
            let mut found = look(side)?;
            if let Some((place, true)) = found
                && !left.is_zero()
                && !self.spin.is_never()
            {
                let fresh = !self.reserver.has_up_to(place.data() + len as u64);
                if let Some(patience) = self.patience.before_growing(len as u64, fresh) {
                    // The reader may be about to give back what is in the caches. Relaxed: take_interrupt() acquires.
                    let (start, patience) = (Instant::now(), patience.min(left));
                    while matches!(found, Some((_, true)))
                        && start.elapsed() < patience
                        && !self.shared.interrupted.load(Ordering::Relaxed)
                    {
                        for _ in 0..64 {
                            if side.changed(&self.shared.mapping) {
                                break;
                            }
                            core::hint::spin_loop();
                        }
                        found = look(side)?;
                    }
                    match found {
                        Some((_, true)) => self.patience.failed(len as u64),
                        _ => self.patience.restore(),
                    }
                }
            } else if side.is_drained() {
                self.patience.restore();
            }
            let Some((place, _)) = found else { return Ok(None) };
            let start = place.placement.start;
            match self.reserver.reserve(start, place.header + len as u64) {
                Ok(()) => return Ok(Some(place)),
                Err(error) if start == 0 || only_start => return Err(self.no_memory(error)),
                // No memory straight ahead: go on with what there is, from the start of the ring.
                Err(_) => only_start = true,
            }
        }
    }

    fn no_memory(&self, error: std::io::Error) -> Doubt {
        Doubt::Final(Error::os(&self.shared.name, "reserve memory for the frame", error))
    }

    fn find_classic(
        &mut self,
        len: usize,
        may_shrink: bool,
    ) -> std::result::Result<Option<Reservation>, Doubt> {
        let WriteRing::Classic(side) = &mut self.ring else { return Ok(None) };
        let mapping = &self.shared.mapping;
        let doubt = |trouble| Doubt::Passing(self.shared.trouble(trouble));
        let known = side.known_free_for(mapping, len);
        let mut fresh = known.is_none();
        let free = known.map_or_else(|| side.look_free(mapping).map_err(doubt), Ok)?;
        let mut question = side.question(mapping, free, len, may_shrink);
        loop {
            let placement = match plan::plan(question) {
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
            // A marker goes where the writer before ended; if that was a 1.x writer, nobody has reserved those bytes.
            let marked = match placement.skip {
                0 => Ok(()),
                _ => self.reserver.ensure(question.position, question.position + FRAME_HEADER as u64),
            };
            let reserved = marked.and_then(|()| self.reserver.reserve(placement.start, question.need));
            match reserved {
                Ok(()) => return Ok(Some(Reservation { placement, header: FRAME_HEADER as u64, len })),
                Err(error) if placement.start == 0 || question.only_start => {
                    return Err(self.no_memory(error));
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
