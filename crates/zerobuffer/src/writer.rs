//! The writing side: connects to a buffer that a reader has created.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::buffer::{Buffer, InterruptHandle};
use crate::config::WriterOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::frame_mut::FrameMut;
use crate::layout::{FRAME_HEADER, METADATA_PREFIX};
use crate::lifecycle::connect::{self, Connection};
use crate::lifecycle::liveness::{self, ReaderState, WriterWords};
use crate::lifecycle::registry::{self, OwnedFiles};
use crate::memory::mapping::Mapping;
use crate::memory::reserve::Reserver;
use crate::os;
use crate::reader_watch::{self, ReaderWatch};
use crate::ring::extended::{FastPath, Marker};
use crate::ring::{FrameAddress, NoPlace, Reservation, Room, Tag, WriteRing, flags};
use crate::sync::Ordering;
use crate::testing::stop::stop_point;
use crate::wait::{Deadline, FIRST_SLICE, SLICE, Spin, UNSURE_LIMIT, UNSURE_SLICE};

/// How often a writer that never blocks makes sure that its reader lives, in nanoseconds.
const READER_CHECK: u64 = 10_000_000;

/// Frames within [`READER_CHECK`] for which a fence each is worth saving: together some 20 us.
const MANY_FRAMES: u64 = 2000;

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
    buffer: Arc<Buffer>,
    ring: WriteRing,
    /// The reader's files, for the clean-up after its death.
    files: OwnedFiles,
    /// `Some` until closed.
    role: Option<os::LockFile>,
    reserver: Reserver,
    write_timeout: Duration,
    pending: Option<Reservation>,
    spin: Spin,
    fast: FastPath,
    /// The coarse clock as it was read last.
    clock_read: u64,
    reader_checked: u64,
    /// The coarse clock when a poll found the ring full, and the reader alive.
    found_full: u64,
    /// `frames_written` at `reader_checked`.
    frames_at_check: u64,
    frames_written: u64,
    bytes_written: u64,
    /// `bytes_written` at the last wait.
    bytes_before_wait: u64,
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
        let geometry = *buffer.mapping.geometry();
        Ok(Writer {
            reserver: Reserver::new(segment, geometry),
            buffer: Arc::new(buffer),
            ring,
            files,
            role: Some(role),
            write_timeout: options.write_timeout,
            pending: None,
            spin: Spin::new(options.wait),
            fast: FastPath::new(),
            clock_read: 0,
            reader_checked: os::coarse_now(),
            found_full: 0,
            frames_at_check: 0,
            frames_written: 0,
            bytes_written: 0,
            bytes_before_wait: 0,
            not_sync: std::marker::PhantomData,
        })
    }

    /// The buffer's name.
    pub fn name(&self) -> &str {
        self.buffer.name()
    }

    /// The largest frame that the buffer can hold, in bytes: its payload size less the 16-byte header.
    pub fn max_frame_size(&self) -> usize {
        (self.buffer.mapping.geometry().payload_size as usize).saturating_sub(FRAME_HEADER)
    }

    /// Copies `data` into the buffer as one frame; gives its sequence number. Waits for space up to the write time-out.
    ///
    /// # Errors
    ///
    /// `InvalidFrameSize` (0 bytes), `FrameTooLarge` (at once), `BufferFull` (after the time-out), `ReaderDead`,
    /// `OutOfMemory` if `/dev/shm` is full, `Interrupted`, `InvalidState`, `CorruptBuffer`.
    #[inline]
    pub fn write_frame(&mut self, data: &[u8]) -> Result<u64> {
        match self.write_fast(data) {
            Some(sequence) => Ok(sequence),
            None => self.write_slow(data, Tag::default()),
        }
    }

    /// As [`Writer::write_frame`], with more than bytes. `now` is the coarse clock, as the caller has just read it.
    #[inline]
    pub(crate) fn write_tagged(&mut self, data: &[u8], tag: Tag, now: u64) -> Result<u64> {
        let sequence = if self.fast.is_now(now) { self.put_fast(data, tag) } else { None };
        match sequence {
            Some(sequence) => Ok(sequence),
            None => self.write_slow(data, tag),
        }
    }

    #[inline(never)]
    fn write_slow(&mut self, data: &[u8], tag: Tag) -> Result<u64> {
        match self.write_now_or_until(data, tag, self.write_timeout)? {
            Some(sequence) => Ok(sequence),
            None => Err(self.full(data.len())),
        }
    }

    /// Writes a frame as soon as there is space, tells the reader, and decides whether small frames may be fast from now on.
    #[inline(never)]
    fn write_now_or_until(&mut self, data: &[u8], tag: Tag, timeout: Duration) -> Result<Option<u64>> {
        let sequence = self.put(data, timeout, tag)?;
        // A 1.x reader would take a token without a frame for one (spec failure 17).
        if sequence.is_some() {
            self.wake_reader(1);
        }
        if let Some(until) = self.ring.small_until(&self.buffer, &self.reserver)
            && self.pending.is_none()
        {
            self.fast.grant(self.clock_read, until);
        }
        Ok(sequence)
    }

    /// Writes a small frame straight ahead, if there is nothing else to think of.
    #[inline]
    fn write_fast(&mut self, data: &[u8]) -> Option<u64> {
        // The clock now and then: a writer that has slowed down must learn of its reader's end.
        if self.fast.is_calm(os::coarse_now) { self.put_fast(data, Tag::default()) } else { None }
    }

    /// What [`Writer::reserve`] and the rest of the way do for any frame, in a quarter of the instructions.
    #[inline]
    fn put_fast(&mut self, data: &[u8], tag: Tag) -> Option<u64> {
        let until = self.fast.until()?;
        if !self.buffer.is_mine() {
            return None;
        }
        let sequence = self.ring.write_small(&self.buffer, data, tag, until)?;
        self.fast.used();
        self.frames_written += 1;
        self.bytes_written += data.len() as u64;
        Some(sequence)
    }

    /// As [`Writer::write_frame`], without waiting: `None` if there is no space now.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::write_frame`], without `BufferFull`.
    #[inline]
    pub fn try_write_frame(&mut self, data: &[u8]) -> Result<Option<u64>> {
        match self.write_fast(data) {
            Some(sequence) => Ok(Some(sequence)),
            None => self.write_now_or_until(data, Tag::default(), Duration::ZERO),
        }
    }

    /// Writes each item as a frame, waiting for space for each up to the write time-out; gives the number of frames.
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
        let mut batch = Batch { writer: self, unannounced: 0 };
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
    pub fn acquire_frame(&mut self, len: usize) -> Result<FrameMut<'_>> {
        self.acquire_frame_buffer(len)?;
        Ok(FrameMut::new(self))
    }

    /// As [`Writer::acquire_frame`], without waiting: `None` if there is no space now.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::write_frame`], without `BufferFull`.
    pub fn try_acquire_frame(&mut self, len: usize) -> Result<Option<FrameMut<'_>>> {
        self.pending = self.reserve(&Room::in_place(len, &Tag::default()), Duration::ZERO)?;
        Ok(self.pending.map(|_| FrameMut::new(self)))
    }

    /// Acquires `len` bytes without a guard, for callers that cannot hold a borrow (language bindings); then
    /// [`Writer::acquired`], and [`Writer::commit_frame`] or [`Writer::discard_frame`].
    ///
    /// # Errors
    ///
    /// Those of [`Writer::write_frame`]; `InvalidState` if a frame is acquired already.
    pub fn acquire_frame_buffer(&mut self, len: usize) -> Result<()> {
        self.acquire_tagged(len, &Tag::default())
    }

    /// As [`Writer::acquire_frame_buffer`], with room in the header for what `tag` carries.
    pub(crate) fn acquire_tagged(&mut self, len: usize, tag: &Tag) -> Result<()> {
        self.pending = self.reserve(&Room::in_place(len, tag), self.write_timeout)?;
        if self.pending.is_none() {
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
            self.buffer.mapping.frame_bytes(reservation.data(), reservation.len)
        }
    }

    /// The bytes of a reservation, to fill in.
    #[inline]
    fn bytes_of(&mut self, reservation: &Reservation) -> Option<&mut [u8]> {
        // SAFETY: the place was found free, and the reader does not look at it before the commit; there is one writer,
        // which is borrowed mutably for as long as the slice lives.
        #[allow(unsafe_code)]
        unsafe {
            self.buffer.mapping.frame_bytes_mut(reservation.data(), reservation.len)
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
        self.buffer.check_mine()?;
        let Some(reservation) = self.pending else {
            return Err(self
                .buffer
                .error(ErrorKind::InvalidState, "commit without acquire: acquire a frame first"));
        };
        let len = len.unwrap_or(reservation.len);
        if len == 0 || len > reservation.len {
            let message = format!("cannot commit {len} of {} bytes acquired", reservation.len);
            return Err(self.buffer.error(ErrorKind::InvalidFrameSize, message));
        }
        self.pending = None;
        let sequence = self.commit(reservation, len, tag)?;
        self.wake_reader(1);
        Ok(sequence)
    }

    /// Whether flags and deadlines reach the reader.
    pub(crate) fn carries_tags(&self) -> bool {
        self.ring.carries_tags()
    }

    /// Where the frame stands that was committed last.
    pub(crate) fn last_place(&self) -> Option<FrameAddress> {
        self.ring.last()
    }

    /// Withdraws a committed frame: a reader that has not released it sees [`crate::ring::flags::CANCELLED`]. Returns
    /// whether the frame was still there.
    pub(crate) fn cancel(&mut self, frame: FrameAddress) -> bool {
        self.ring.mark(&self.buffer, frame, flags::CANCELLED)
    }

    /// What withdraws frames while the one acquired is filled; see [`ReaderWatch::cancel`].
    pub(crate) fn marker(&self) -> Option<Marker> {
        self.ring.marker()
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
        self.buffer.check_mine()?;
        let mapping = &self.buffer.mapping;
        let oieb = mapping.oieb();
        // Acquire: pairs with the Release below, of an earlier writer.
        if oieb.metadata_written_bytes.load(Ordering::Acquire) != 0 {
            let message =
                "its metadata is set already, and can be set only once: send what changes as frames";
            return Err(self.buffer.error(ErrorKind::MetadataAlreadyWritten, message));
        }
        let size = mapping.geometry().metadata_size;
        let written = metadata.len() as u64 + METADATA_PREFIX;
        if written > size {
            let message = format!(
                "{} bytes of metadata and an 8-byte prefix do not fit its metadata block of {size} bytes: create the \
                 buffer with a larger metadata size",
                metadata.len()
            );
            return Err(self.buffer.error(ErrorKind::MetadataTooLarge, message));
        }
        // A 1.x reader, or one that lies, has perhaps not reserved it.
        let reserved = self.reserver.reserve_metadata(written);
        reserved.map_err(|error| self.buffer.os_error("reserve memory for the metadata", error))?;
        write_metadata(mapping, metadata)
            .ok_or_else(|| self.buffer.error(ErrorKind::MetadataTooLarge, "the metadata does not fit"))?;
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
        let oieb = self.buffer.mapping.oieb();
        // Acquire pairs with the earlier writer's Release.
        if liveness::reader_words(oieb).1.is_ours()
            && oieb.metadata_written_bytes.load(Ordering::Acquire) != 0
        {
            stop_point!("metadata:forget");
            // Release: as in set_metadata. Seen by the reader with our first frame, at the latest.
            oieb.metadata_written_bytes.store(0, Ordering::Release);
            let size = self.buffer.mapping.geometry().metadata_size;
            oieb.metadata_free_bytes.store(size, Ordering::Relaxed);
        }
    }

    /// Whether the reader lives.
    pub fn is_reader_connected(&self) -> bool {
        let role = self.role.as_ref();
        role.is_some_and(|role| matches!(reader_watch::state(&self.buffer, role), Ok(ReaderState::Alive)))
    }

    /// What tells from any thread whether the reader is connected while another thread uses the writer.
    ///
    /// # Errors
    ///
    /// `System` if there is no file descriptor left; `Closed`.
    pub fn reader_watch(&self) -> Result<ReaderWatch> {
        ReaderWatch::new(&self.buffer, self.role()?)
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
        InterruptHandle::new(Arc::<Buffer>::clone(&self.buffer))
    }

    /// A guard that keeps the buffer's memory mapped, for language bindings: a view of [`Writer::acquired`] may outlive the
    /// writer there. What is written through such a view after the commit is lost, or spoils a later frame.
    pub fn memory_guard(&self) -> MemoryGuard {
        MemoryGuard { _buffer: Arc::clone(&self.buffer) }
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
        let buffer = &*self.buffer;
        if !buffer.is_mine() {
            // A forked child inherited this handle: the connection stays the parent's (spec failure 9).
            return;
        }
        let oieb = buffer.mapping.oieb();
        let words = WriterWords::load(oieb);
        self.ring.clear_pid(buffer);
        stop_point!("close:writer-word");
        // Release pairs with the Acquire load in WriterWords::load: a reader that sees "closed" sees all commits.
        oieb.writer_word.store(words.word.closed().0, Ordering::Release);
        // As late as possible: a reader that dies after this look leaves its files to the next creation.
        let reader = liveness::reader_state(|| Ok(liveness::reader_words(oieb)), &role);
        stop_point!("close:writer-unlock");
        drop(role);
        self.ring.close(buffer);
        if !matches!(reader, Ok(ReaderState::Alive)) {
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

    // ---- the writing loop ----

    #[inline]
    fn put(&mut self, data: &[u8], timeout: Duration, tag: Tag) -> Result<Option<u64>> {
        let Some(reservation) = self.reserve(&Room::of(data.len(), &tag), timeout)? else {
            return Ok(None);
        };
        stop_point!("write:data");
        // SAFETY: as for bytes_of(); `data` cannot lie in free space of the ring, as no slice of that is lent out.
        #[allow(unsafe_code)]
        let copied = unsafe { self.buffer.mapping.write_frame(reservation.data(), data) };
        if copied.is_none() {
            return Err(self.buffer.error(ErrorKind::CorruptBuffer, "a frame lies outside the ring"));
        }
        self.commit(reservation, data.len(), tag).map(Some)
    }

    #[inline]
    fn commit(&mut self, reservation: Reservation, len: usize, tag: Tag) -> Result<u64> {
        let committed = self.ring.commit(&self.buffer, reservation, len, tag);
        let sequence = committed.map_err(|fault| self.buffer.fault(fault))?;
        self.frames_written += 1;
        self.bytes_written += len as u64;
        Ok(sequence)
    }

    /// Tells the reader of `frames` more frames.
    #[inline]
    fn wake_reader(&self, frames: usize) {
        self.ring.wake(&self.buffer, frames);
    }

    /// Says why there was no place within the time-out: memory was missing, or space that the reader gives back.
    #[cold]
    fn full(&mut self, len: usize) -> Error {
        if let Err(error) = self.reserver.confirm() {
            return self.no_memory(error);
        }
        self.buffer.error(
            ErrorKind::BufferFull,
            format!(
                "no space for a frame of {len} bytes within {:?}: the reader is slower than the writer, or holds \
                 frames; read and release faster, make the buffer larger, or raise the write time-out",
                self.write_timeout
            ),
        )
    }

    fn role(&self) -> Result<&os::LockFile> {
        let closed = || self.buffer.error(ErrorKind::Closed, "the writer is closed: connect a new one");
        self.role.as_ref().ok_or_else(closed)
    }

    fn check_reader(&mut self) -> Result<()> {
        stop_point!("write:judge");
        let message = match reader_watch::state(&self.buffer, self.role()?)? {
            ReaderState::Closed => {
                "the reader has closed the buffer: connect again when there is a new reader"
            }
            ReaderState::Dead => "the reader died: connect again when there is a new one",
            ReaderState::Alive => {
                // 1.x peers may zero or overwrite the pid of a live writer; put it back for those that look.
                let shown = &self.buffer.mapping.oieb().writer_pid;
                let pid = self.ring.shown_pid(&self.buffer);
                if shown.load(Ordering::Relaxed) == 0 {
                    stop_point!("write:writer-pid");
                    let _ = shown.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed);
                }
                return Ok(());
            }
        };
        self.reader_checked = 0;
        Err(self.buffer.error(ErrorKind::ReaderDead, message))
    }

    /// Finds a place for a frame, waiting for it up to `timeout`; `None` when the time is over.
    #[inline]
    fn reserve(&mut self, room: &Room, timeout: Duration) -> Result<Option<Reservation>> {
        self.fast.close();
        self.buffer.check_mine()?;
        if self.pending.is_some() {
            let message = "a frame is acquired: commit or discard it first";
            return Err(self.buffer.error(ErrorKind::InvalidState, message));
        }
        if room.len == 0 || room.len > self.max_frame_size() {
            return Err(self.bad_size(room.len));
        }
        let now = os::coarse_now();
        self.clock_read = now;
        if now.saturating_sub(self.reader_checked) >= READER_CHECK {
            self.tend(now)?;
        }
        if let Some(place) = self.ring.place_ahead(&self.reserver, room) {
            return Ok(Some(place));
        }
        self.reserve_slowly(room, timeout)
    }

    /// What a writer has to do every [`READER_CHECK`].
    #[inline(never)]
    fn tend(&mut self, now: u64) -> Result<()> {
        // The time is noted only if all is well: a reader that was found dead must not seem alive a moment later.
        self.check_reader()?;
        self.reader_checked = now;
        let frames = self.frames_written - std::mem::replace(&mut self.frames_at_check, self.frames_written);
        self.ring.tend(&self.buffer, frames >= MANY_FRAMES);
        Ok(())
    }

    #[cold]
    fn bad_size(&self, len: usize) -> Error {
        if len == 0 {
            return self.buffer.error(
                ErrorKind::InvalidFrameSize,
                "a frame needs at least 1 byte: send nothing, or a byte to mark an event",
            );
        }
        let message = format!(
            "a frame of {len} bytes and its 16-byte header do not fit its payload of {} bytes: create the buffer with a \
             larger payload size",
            self.buffer.mapping.geometry().payload_size
        );
        self.buffer.error(ErrorKind::FrameTooLarge, message)
    }

    #[inline(never)]
    fn reserve_slowly(&mut self, room: &Room, timeout: Duration) -> Result<Option<Reservation>> {
        match self.find(room, timeout) {
            Ok(place) => {
                self.ring.say_short(&self.buffer, false);
                return Ok(Some(place));
            }
            Err(NoPlace::NoMemory(error)) => return Err(self.no_memory(error)),
            Err(NoPlace::Full | NoPlace::Unsure(_)) => {}
        }
        self.ring.say_short(&self.buffer, true);
        if timeout.is_zero() {
            // A full ring is polled often; whether the reader lives is asked once in a tick of the coarse clock.
            if self.clock_read != self.found_full {
                self.check_reader()?;
                self.found_full = self.clock_read;
            }
            self.ring.give_up(&self.buffer);
            return Ok(None);
        }
        self.buffer.take_interrupt()?;
        let place = self.wait_for_place(room, Deadline::after(timeout))?;
        if place.is_some() {
            self.ring.say_short(&self.buffer, false);
        }
        Ok(place)
    }

    /// One look for a place, with `left` of the call's time.
    fn find(&mut self, room: &Room, left: Duration) -> std::result::Result<Reservation, NoPlace> {
        let left = if self.spin.is_never() { Duration::ZERO } else { left };
        self.ring.find(&self.buffer, &mut self.reserver, room, left)
    }

    fn no_memory(&self, error: std::io::Error) -> Error {
        self.buffer.os_error("reserve memory for the frame", error)
    }

    fn wait_for_place(&mut self, room: &Room, deadline: Deadline) -> Result<Option<Reservation>> {
        self.spin.moved(self.bytes_written - self.bytes_before_wait);
        self.bytes_before_wait = self.bytes_written;
        let mut unsure_since: Option<Instant> = None;
        let mut began = None;
        let mut spin = self.ring.begin_wait() || self.spin.is_endless();
        let mut longest = FIRST_SLICE;
        loop {
            if spin {
                self.ring.spin(&self.buffer, &mut self.spin, began);
            }
            let first = began.is_none();
            let began = *began.get_or_insert_with(Instant::now);
            let mut slice = longest;
            let left = deadline.left(SLICE).unwrap_or_default();
            let found = self.find(room, left);
            let by_clock = self.ring.timed_sleep(&self.buffer, first);
            match found {
                Ok(place) => {
                    if !spin {
                        self.spin.learn(began.elapsed());
                    }
                    return Ok(Some(place));
                }
                Err(NoPlace::Full) => unsure_since = None,
                Err(NoPlace::NoMemory(error)) => return Err(self.no_memory(error)),
                Err(NoPlace::Unsure(fault)) => {
                    if unsure_since.get_or_insert_with(Instant::now).elapsed() > UNSURE_LIMIT {
                        return Err(self.buffer.fault(*fault));
                    }
                    slice = UNSURE_SLICE;
                }
            }
            let words = liveness::reader_words(self.buffer.mapping.oieb());
            self.check_reader()?;
            spin = self.spin.is_endless();
            let by_clock = by_clock.filter(|_| !spin);
            let Some(left) = deadline.left(by_clock.unwrap_or(slice)) else { return Ok(None) };
            if !spin {
                stop_point!("write:wait");
                if by_clock.is_some() {
                    std::thread::sleep(left);
                } else {
                    let role = self.role()?;
                    let news = || reader_watch::has_news(&self.buffer, role, words);
                    if !self.ring.sleep(&self.buffer, left, news) {
                        longest = SLICE;
                    }
                }
            }
            self.buffer.take_interrupt()?;
        }
    }
}

/// Frames that are written before the reader is told of them: it is told at the end, however that comes.
struct Batch<'a> {
    writer: &'a mut Writer,
    unannounced: usize,
}

impl Batch<'_> {
    fn write(&mut self, data: &[u8]) -> Result<()> {
        let mut sequence = self.writer.put(data, Duration::ZERO, Tag::default())?;
        if sequence.is_none() {
            // Before the wait for space the reader must know of what it can make space with.
            self.announce();
            sequence = self.writer.put(data, self.writer.write_timeout, Tag::default())?;
        }
        if sequence.is_none() {
            return Err(self.writer.full(data.len()));
        }
        self.unannounced += 1;
        Ok(())
    }

    fn announce(&mut self) {
        self.writer.wake_reader(std::mem::take(&mut self.unannounced));
    }
}

impl Drop for Batch<'_> {
    /// Also when the caller's iterator panics: a 1.x reader needs a token for each frame.
    fn drop(&mut self) {
        self.announce();
    }
}

/// Writes length and bytes into a metadata block where nothing is published yet. `None` if they do not fit.
fn write_metadata(mapping: &Mapping, metadata: &[u8]) -> Option<()> {
    let prefix = (metadata.len() as u64).to_le_bytes();
    stop_point!("metadata:bytes");
    // SAFETY: the caller is the one writer, and has seen that nothing is published.
    #[allow(unsafe_code)]
    unsafe {
        mapping.write_metadata(0, &prefix)?;
        mapping.write_metadata(prefix.len() as u64, metadata)
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
            .field("frames_written", &self.frames_written)
            .finish()
    }
}
