//! The reading side: creates and owns a buffer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::config::BufferConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{Frame, FrameRef};
use crate::layout::{HeaderWord, METADATA_PREFIX, Spot, WRITER_ROLE_BYTE};
use crate::lifecycle::create::{self, Locks, Parts};
use crate::lifecycle::liveness::{self, RoleProbe, WriterId, WriterState};
use crate::lifecycle::registry::OwnedFiles;
use crate::memory::Memory;
use crate::memory::mapping::Mapping;
use crate::memory::reserve::Reserver;
use crate::os;
use crate::ring::classic::{ReadSide, ReleaseQueue};
use crate::ring::extended;
use crate::ring::extended::held::Held;
use crate::ring::extended::pace::Pace;
use crate::ring::{Located, Look, ReadRing, Tag, Trouble};
use crate::sync::{AtomicBool, Ordering, fence};
use crate::testing::stop::stop_point;
use crate::wait::bell;
use crate::wait::{Deadline, FIRST_SLICE, SLICE, Spin, UNSURE_LIMIT, UNSURE_SLICE, taken_before_look};

/// Frames read before the semaphore's tokens for them are taken, so that its cache line moves rarely.
const TOKEN_BATCH: u32 = 256;

/// Tokens burnt between two looks at the ring and the clock.
const TOKEN_BURST: u32 = 1 << 16;

/// How often a waiting reader makes sure that its names still lead to its buffer.
const NAMES_CHECK: Duration = Duration::from_secs(1);

/// Memory that a reader keeps reserved ahead of a 1.x writer, which does not do so itself.
const FOREIGN_AHEAD: u64 = 4 << 20;

/// What a reader and its frames share; frames may outlive the reader.
pub(crate) struct Shared {
    name: Box<str>,
    pub(crate) mapping: Mapping,
    queue: Mutex<ReleaseQueue>,
    /// The same for an extended ring.
    held: Held,
    /// The ring is an extended one: set before its first frame is read.
    extended: AtomicBool,
    /// Posted by the writer.
    sem_w: os::Semaphore,
    /// Posted by us.
    sem_r: os::Semaphore,
    interrupted: AtomicBool,
    generation: u64,
}

impl Shared {
    pub(crate) fn new(name: &str, mapping: Mapping, sem_w: os::Semaphore, sem_r: os::Semaphore) -> Shared {
        Shared {
            name: name.into(),
            mapping,
            queue: Mutex::new(ReleaseQueue::new()),
            held: Held::new(),
            extended: AtomicBool::new(false),
            sem_w,
            sem_r,
            interrupted: AtomicBool::new(false),
            generation: os::fork_generation(),
        }
    }

    fn queue(&self) -> MutexGuard<'_, ReleaseQueue> {
        // Nothing in the critical sections panics half-way through a change, so a poisoned queue is still whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this process made the buffer, rather than a parent that it was forked from.
    pub(crate) fn is_mine(&self) -> bool {
        self.generation == os::fork_generation()
    }

    /// Releases an owned frame, on any thread.
    pub(crate) fn release(&self, located: &Located) {
        // In a forked child the frame is the parent's to release, and the lock may be held by a thread that is not here.
        if !self.is_mine() {
            return;
        }
        if self.is_extended() {
            if self.held.release(&self.mapping, located) {
                self.ring_writer();
            }
        } else {
            self.release_classic(located.ticket);
        }
    }

    /// Releases a borrowed frame: the last one read, on the reader's thread.
    #[inline]
    pub(crate) fn release_last(&self, located: &Located) {
        if !self.is_mine() {
            return;
        }
        if !self.is_extended() {
            self.release_classic(located.ticket);
        } else if self.held.release_last(&self.mapping, located) {
            self.ring_writer();
        }
    }

    fn release_classic(&self, ticket: u64) {
        let mut queue = self.queue();
        // A writer takes the tokens away before it waits for space, or does without.
        let given_back = queue.release(&self.mapping, ticket, || self.sem_r.value() <= 0);
        queue.take_wake();
        drop(queue);
        if given_back {
            self.wake_writer();
        }
    }

    #[inline]
    fn is_extended(&self) -> bool {
        // Relaxed: set by the reader's thread before it makes a frame, which comes to other threads in order.
        self.extended.load(Ordering::Relaxed)
    }

    #[cold]
    fn ring_writer(&self) {
        stop_point!("extended:ring-writer");
        bell::ring(&self.mapping.control().writer_bell.bell);
    }

    /// The first word of a frame's header as it is now; `None` in a classic ring.
    pub(crate) fn header_word(&self, located: &Located) -> Option<HeaderWord> {
        if !self.is_extended() {
            return None;
        }
        // Acquire pairs with the Release in WriteSide::mark.
        self.mapping.words(located.header()).map(|[word, _]| HeaderWord(word.load(Ordering::Acquire)))
    }

    pub(crate) fn deadline(&self, located: &Located) -> u64 {
        let has_one = located.flags() & HeaderWord::DEADLINE != 0;
        // A header that is too short for a deadline has none, whatever its flags say.
        if !has_one || located.header_len() < (Tag { deadline: 1, ..Tag::default() }).header() {
            return 0;
        }
        // Relaxed: the Acquire load of `head` came before.
        let word = self.mapping.words(located.header() + Spot::UNIT);
        word.map_or(0, |[deadline, _]| deadline.load(Ordering::Relaxed))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Makes the last frame read an owned one, on the reader's thread; returns its ticket.
    #[inline(always)]
    fn hold(&self, located: &Located) -> u64 {
        if self.is_extended() { self.held.hold(located) } else { located.ticket }
    }

    /// Makes an owned frame of the last one read, on the reader's thread.
    #[inline(always)]
    pub(crate) fn own(self: &Arc<Self>, located: &Located) -> Frame {
        Frame::new(Arc::clone(self), located.with_ticket(self.hold(located)))
    }

    /// Whether something is committed behind [`Reader::cursor`]; on any thread.
    pub(crate) fn has_unread_behind(&self, cursor: u64) -> bool {
        if self.mapping.can_be_extended() && self.mapping.is_extended() {
            // Acquire: whoever is told of a frame finds it.
            return self.mapping.control().written.head.load(Ordering::Acquire) != cursor;
        }
        let held = self.queue().held();
        let free = self.mapping.oieb().payload_free_bytes.load(Ordering::Acquire);
        self.mapping.geometry().payload_size.saturating_sub(free) > held
    }

    /// Whether a writer lives; on any thread.
    pub(crate) fn writer_lives(&self, probe: &impl RoleProbe) -> bool {
        let words = || Ok(liveness::WriterWords::load(self.mapping.oieb()));
        matches!(liveness::writer_state(words, probe), Ok(WriterState::Alive(_)))
    }

    /// Sleeps until something is committed or somebody interrupts, at most `left`.
    fn sleep(&self, side: &extended::ReadSide, left: Duration) {
        let ready = || side.changed(&self.mapping) || self.interrupted.load(Ordering::Relaxed);
        bell::sleep(&self.mapping.control().reader_bell.bell, 0, left, ready);
    }

    fn wake_writer(&self) {
        // SeqCst between the addition to payload_free_bytes and the look at the count; a waiting writer takes a token
        // before it looks at the ring. So if we see a token here, its taker will see our bytes (and the count never
        // nears SEM_VALUE_MAX, spec failure 3).
        fence(Ordering::SeqCst);
        if self.sem_r.value() <= 0 {
            self.queue().writer_was_short();
            stop_point!("release:post-sem-r");
            self.sem_r.post();
        }
    }

    fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, &self.name, message)
    }
}

/// Tells from any thread whether the writer of a [`Reader`](crate::Reader) is connected, whatever the reader is doing; made by
/// [`Reader::writer_watch`](crate::Reader::writer_watch). It changes nothing, and keeps the buffer's memory mapped.
///
/// ```
/// use zerobuffer::{BufferConfig, Reader, Writer};
///
/// # let name = format!("doc-writer-watch-{}", std::process::id());
/// let mut reader = Reader::create(&name, BufferConfig::default())?;
/// let watch = reader.writer_watch()?;
/// let mut writer = Writer::connect(&name)?;
/// writer.write_frame(b"unread")?;
/// writer.close()?;
/// assert!(watch.is_writer_connected(reader.cursor())); // it left a frame
/// let frame = reader.try_read_frame()?;
/// let cursor = reader.cursor();
/// std::thread::scope(|scope| scope.spawn(|| assert!(!watch.is_writer_connected(cursor))).join()).unwrap();
/// # drop(frame);
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct WriterWatch {
    shared: Arc<Shared>,
    view: os::LockView,
}

impl WriterWatch {
    /// Whether a writer lives, or frames that one committed are still unread by the reader, which stood at `cursor`
    /// ([`Reader::cursor`](crate::Reader::cursor)) after the last frame that it read.
    pub fn is_writer_connected(&self, cursor: u64) -> bool {
        self.shared.is_mine()
            && (self.shared.has_unread_behind(cursor) || self.shared.writer_lives(&self.view))
    }
}

impl std::fmt::Debug for WriterWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriterWatch").field("name", &self.shared.name()).finish()
    }
}

/// Ends a blocked call of a [`Reader`] or [`crate::Writer`] from another thread.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::{BufferConfig, ErrorKind, Reader};
///
/// # let name = format!("doc-interrupt-{}", std::process::id());
/// let mut reader = Reader::create(&name, BufferConfig::default())?;
/// let handle = reader.interrupt_handle();
/// let thread = std::thread::spawn(move || handle.interrupt());
/// let error = reader.read_frame(Duration::MAX).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Interrupted);
/// # thread.join().unwrap();
/// # Ok::<(), zerobuffer::Error>(())
/// ```
#[derive(Clone)]
pub struct InterruptHandle(pub(crate) Arc<dyn Interrupt>);

pub(crate) trait Interrupt: Send + Sync {
    fn interrupt(&self);
    fn clear(&self);
}

impl Interrupt for Shared {
    fn interrupt(&self) {
        // Release pairs with the swap in Reader::take_interrupt; token or bell wake a call that already sleeps.
        self.interrupted.store(true, Ordering::Release);
        if self.mapping.can_be_extended() {
            bell::call(&self.mapping.control().reader_bell.bell);
        }
        self.sem_w.post();
    }

    fn clear(&self) {
        // Relaxed: what the interrupt was about is the caller's to know.
        self.interrupted.store(false, Ordering::Relaxed);
    }
}

impl InterruptHandle {
    /// Makes the call that is blocked now, or else the next one that may block, fail once with
    /// [`ErrorKind::Interrupted`].
    pub fn interrupt(&self) {
        self.0.interrupt();
    }

    /// Takes back an interrupt that no call has met yet.
    pub fn clear(&self) {
        self.0.clear();
    }
}

impl std::fmt::Debug for InterruptHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InterruptHandle")
    }
}

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
    shared: Arc<Shared>,
    ring: ReadRing,
    files: OwnedFiles,
    /// `Some` until closed.
    locks: Option<Locks>,
    tracker: Tracker,
    /// The last frame read; meaningless before the first. Kept in one place, as copying it costs more than a small frame.
    last: Located,
    spin: Spin,
    crowded: bool,
    unsure_since: Option<Instant>,
    names_checked: Instant,
    names_lost: bool,
    /// What is known to have memory, so that no forged position leads to where there is none.
    reserver: Reserver,
    foreign_reserved: u64,
    /// Frames read whose tokens have not been taken.
    tokens_owed: u32,
    frames_read: u64,
    bytes_read: u64,
    /// `bytes_read` at the last wait.
    bytes_before_wait: u64,
    pace: Pace,
    /// Makes the type `!Sync`.
    not_sync: std::marker::PhantomData<std::cell::Cell<()>>,
}

/// Which writers' ends have been reported.
#[derive(Debug, Default, Clone, Copy)]
struct Tracker {
    reported: Option<WriterId>,
    /// A 1.x writer has been seen whose end was not reported.
    foreign: bool,
    /// Frames were delivered since the last report.
    frames: bool,
    /// The ends of writers of ours up to this epoch have been reported. Ends that fall together are told as one, and
    /// a death among them as a death.
    epoch: u32,
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
        let Parts { shared, files, locks, reserver } = create::reader(name, &config)?;
        let capacity = shared.mapping.geometry().payload_size;
        let undecided = shared.mapping.can_be_extended();
        if undecided {
            bell::set(&shared.mapping.control().reader_bell.bell, 0);
        }
        Ok(Reader {
            shared: Arc::new(shared),
            ring: ReadRing::Classic(ReadSide::new(capacity, undecided)),
            files,
            locks: Some(locks),
            tracker: Tracker::default(),
            last: Located::NONE,
            spin: Spin::new(config.wait),
            crowded: false,
            unsure_since: None,
            names_checked: Instant::now(),
            names_lost: false,
            reserver,
            foreign_reserved: 0,
            tokens_owed: 0,
            frames_read: 0,
            bytes_read: 0,
            bytes_before_wait: 0,
            pace: Pace::new(),
            not_sync: std::marker::PhantomData,
        })
    }

    /// The buffer's name.
    pub fn name(&self) -> &str {
        &self.shared.name
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
        if self.take_at_once() || self.next(timeout)? {
            return Ok(Some(self.own()));
        }
        Ok(None)
    }

    /// Makes a frame of the last one read. Inlined, so that it is made in its place, not copied there.
    #[inline(always)]
    fn own(&self) -> Frame {
        self.shared.own(&self.last)
    }

    /// The next frame if there is one now; the same as a time-out of zero, but for interrupts, which it leaves alone.
    ///
    /// # Errors
    ///
    /// As [`Reader::read_frame`], without `Interrupted`.
    pub fn try_read_frame(&mut self) -> Result<Option<Frame>> {
        Ok(self.poll()?.then(|| self.own()))
    }

    /// As [`Reader::read_frame`], but the frame borrows the reader: one at a time, and no reference counting.
    ///
    /// # Errors
    ///
    /// As [`Reader::read_frame`].
    #[inline(always)]
    pub fn read_frame_ref(&mut self, timeout: Duration) -> Result<Option<FrameRef<'_>>> {
        if self.take_at_once() || self.next(timeout)? {
            return Ok(Some(FrameRef::new(&self.shared, &self.last)));
        }
        Ok(None)
    }

    /// Takes a frame that is known to be there, if there is nothing else to think of: the short way of [`Reader::next`].
    #[inline(always)]
    fn take_at_once(&mut self) -> bool {
        let ReadRing::Extended(side) = &mut self.ring else { return false };
        let calm = self.shared.is_mine() && !self.shared.interrupted.load(Ordering::Relaxed);
        if !calm || !side.take(&self.shared.mapping, &mut self.last) {
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
    /// As [`Reader::read_frame`], but only when nothing was appended.
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
        if max == 0 {
            return Ok(0);
        }
        if !self.next(timeout)? {
            return Ok(0);
        }
        frames.push(self.own());
        let mut count = 1;
        while count < max {
            let tracker = self.tracker;
            match self.look() {
                Ok(true) => frames.push(self.own()),
                Ok(false) => break,
                Err(_) => {
                    // The next call finds the same again; a writer's end only as long as it counts as unreported.
                    self.tracker = tracker;
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
        self.has_unread() || matches!(self.writer_state(), Ok(WriterState::Alive(_)))
    }

    /// Whether a writer lives, whatever is unread.
    pub(crate) fn writer_lives(&self) -> bool {
        matches!(self.writer_state(), Ok(WriterState::Alive(_)))
    }

    /// Waits up to `timeout` for a writer. Says whether one is there (or was, and left frames).
    ///
    /// # Errors
    ///
    /// `Interrupted`; `BufferNotFound` if another process removed the buffer's names; `System`.
    pub fn wait_for_writer(&mut self, timeout: Duration) -> Result<bool> {
        let deadline = Deadline::after(timeout);
        loop {
            self.check_mine()?;
            self.take_interrupt()?;
            if self.has_unread() || matches!(self.writer_state()?, WriterState::Alive(_)) {
                return Ok(true);
            }
            self.check_names(WriterState::None)?;
            let Some(left) = deadline.left(SLICE) else { return Ok(false) };
            // A writer of ours posts and rings when it connects.
            match &self.ring {
                ReadRing::Classic(_) => {
                    self.shared.sem_w.wait(left);
                }
                ReadRing::Extended(side) => self.shared.sleep(side, left),
            }
        }
    }

    /// The metadata, if the writer has set it.
    ///
    /// # Errors
    ///
    /// `CorruptBuffer` if its lengths cannot be true; `OutOfMemory`.
    pub fn metadata(&self) -> Result<Option<Vec<u8>>> {
        let mapping = &self.shared.mapping;
        // Acquire pairs with the Release store in Writer::set_metadata.
        let written = mapping.oieb().metadata_written_bytes.load(Ordering::Acquire);
        if written == 0 {
            return Ok(None);
        }
        let corrupt = || {
            self.shared.error(
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
            .map_err(|error| Error::os(self.name(), "reserve memory for the metadata", error))?;
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
        match &self.ring {
            ReadRing::Extended(side) => side.spot().0,
            // Relaxed: before the first frame of an extended ring only this reader stores it.
            ReadRing::Classic(_) if self.shared.mapping.can_be_extended() => {
                self.shared.mapping.control().read.tail.load(Ordering::Relaxed)
            }
            ReadRing::Classic(_) => 0,
        }
    }

    /// What tells from any thread whether the writer is connected while another thread uses the reader.
    ///
    /// # Errors
    ///
    /// `System` if there is no file descriptor left.
    pub fn writer_watch(&self) -> Result<WriterWatch> {
        let Some(locks) = &self.locks else {
            return Err(self.shared.error(ErrorKind::Closed, "the reader is closed: create a new one"));
        };
        let view = locks.role.view();
        let view = view.map_err(|error| Error::os(&self.shared.name, "copy its descriptor", error))?;
        Ok(WriterWatch { shared: Arc::clone(&self.shared), view })
    }

    /// A handle with which another thread ends a blocked call.
    pub fn interrupt_handle(&self) -> InterruptHandle {
        InterruptHandle(Arc::<Shared>::clone(&self.shared))
    }

    /// Takes frames in any order of sequence numbers, as a duplex server's responses come.
    pub(crate) fn accept_any_sequence(&mut self) {
        match &mut self.ring {
            ReadRing::Classic(side) => side.any_sequence = true,
            ReadRing::Extended(side) => side.any_sequence = true,
        }
    }

    /// Says whether threads of this process have work to do while this one waits. Then it does not wait for as long as the
    /// peer may take with many bytes without letting go of its processor.
    #[inline]
    pub(crate) fn set_crowded(&mut self, crowded: bool) {
        self.crowded = crowded;
    }

    /// Whether this reader never waits but asleep.
    pub(crate) fn never_spins(&self) -> bool {
        self.spin.is_never()
    }

    /// Whether there is nothing to be read, as far as one can tell without a closer look: of a classic ring one cannot.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        match &self.ring {
            ReadRing::Classic(_) => false,
            ReadRing::Extended(side) => !side.changed(&self.shared.mapping),
        }
    }

    /// Whether flags and deadlines come with the frames.
    #[expect(dead_code, reason = "the duplex channel asks")]
    pub(crate) fn carries_tags(&mut self) -> bool {
        self.decide();
        matches!(self.ring, ReadRing::Extended(_))
    }

    /// Closes the reader and removes the buffer's names; the same as dropping it. Frames still held stay valid.
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
        if !self.shared.is_mine() {
            // A forked child inherited this handle: the buffer stays the parent's (spec failure 9).
            return;
        }
        // A writer that fills the ring of a reader which never looked waits as writers of extended rings do.
        self.decide();
        let oieb = self.shared.mapping.oieb();
        let pid = u64::from(std::process::id());
        stop_point!("close:reader-pid");
        // Only our own pid is cleared. Release pairs with the writer's Acquire load in liveness::reader_words.
        let _ = oieb.reader_pid.compare_exchange(pid, 0, Ordering::AcqRel, Ordering::Relaxed);
        self.files.remove(&self.shared.name);
        // The role lock last but for the name: a writer that finds it free finds the pid cleared.
        stop_point!("close:role-unlock");
        drop(locks.role);
        if let ReadRing::Extended(_) = self.ring {
            stop_point!("close:ring-writer");
            bell::call(&self.shared.mapping.control().writer_bell.bell);
            locks.name.remove();
            return;
        }
        // A token more than frames were released could surprise a 1.x writer; one of ours takes it as a mere wake-up.
        if liveness::WriterWords::load(oieb).is_ours() {
            stop_point!("close:post-sem-r");
            self.shared.sem_r.post();
        }
        locks.name.remove();
    }

    // ---- the reading loop ----

    fn check_mine(&self) -> Result<()> {
        if self.shared.is_mine() {
            return Ok(());
        }
        Err(self.shared.error(
            ErrorKind::InvalidState,
            "this reader belongs to the process that forked this one; create a buffer of your own",
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

    #[inline(never)]
    fn next(&mut self, timeout: Duration) -> Result<bool> {
        self.check_mine()?;
        self.take_interrupt()?;
        if timeout.is_zero() {
            return self.poll();
        }
        self.pace.stay_away();
        let found = self.look()?;
        if let ReadRing::Extended(side) = &self.ring {
            self.pace.learn(found.then(|| side.known_bytes()));
        }
        Ok(found || self.wait_for_frame(timeout)?)
    }

    #[inline(never)]
    fn wait_for_frame(&mut self, timeout: Duration) -> Result<bool> {
        self.spin.moved(if self.crowded { 0 } else { self.bytes_read - self.bytes_before_wait });
        self.bytes_before_wait = self.bytes_read;
        // A frame that comes within a microsecond or so shall cost no look at the clock.
        if self.spin_for_change(None) && self.look()? {
            return Ok(true);
        }
        let began = Instant::now();
        let deadline = Deadline::after(timeout);
        let mut longest = FIRST_SLICE;
        loop {
            // After a token was taken the ring must be looked at before the next sleep: a writer of ours that saw it did
            // not post another (see wake_reader).
            if self.settle_tokens() && self.look()? {
                return Ok(true);
            }
            if self.judge_writer()? {
                return Ok(true);
            }
            let slice = if self.unsure_since.is_some() { UNSURE_SLICE } else { longest };
            let Some(left) = deadline.left(slice) else { return Ok(false) };
            let found = if self.spin.is_endless() {
                self.spin_for_change(Some(began));
                self.take_interrupt()?;
                self.look()?
            } else {
                stop_point!("read:wait");
                match &self.ring {
                    ReadRing::Classic(_) => self.sleep_classic(left)?,
                    ReadRing::Extended(side) => {
                        self.shared.sleep(side, left);
                        self.take_interrupt()?;
                        self.look()?
                    }
                }
            };
            if found {
                if let ReadRing::Extended(_) = self.ring {
                    bell::set(&self.shared.mapping.control().reader_bell.bell, 0);
                }
                self.spin.learn(began.elapsed());
                return Ok(true);
            }
            longest = SLICE;
        }
    }

    /// Waits for a token, then looks at the ring.
    fn sleep_classic(&mut self, left: Duration) -> Result<bool> {
        let woken = taken_before_look(self.shared.sem_w.wait(left));
        self.take_interrupt()?;
        if self.look()? {
            // The token that woke us stands for this frame.
            self.tokens_owed = self.tokens_owed.saturating_sub(u32::from(woken));
            return Ok(true);
        }
        if woken {
            // A token without a frame: burn the others like it without a look at the ring for each.
            let mut burst = TOKEN_BURST;
            while burst > 0 && self.shared.sem_w.try_wait() {
                burst -= 1;
            }
            taken_before_look(true);
            return self.look();
        }
        Ok(false)
    }

    /// One look at the ring and, if there is nothing, one at the writer.
    fn poll(&mut self) -> Result<bool> {
        self.check_mine()?;
        Ok(self.look()? || self.judge_writer()?)
    }

    fn spin_for_change(&mut self, since: Option<Instant>) -> bool {
        let Reader { ring, shared, spin, .. } = self;
        match ring {
            ReadRing::Classic(side) => spin.until(since, || side.changed(&shared.mapping)),
            ReadRing::Extended(side) => spin.until(since, || side.changed(&shared.mapping)),
        }
    }

    /// Goes over to the extended ring, if the first writer has made it one.
    fn decide(&mut self) {
        let ReadRing::Classic(ReadSide { undecided: true, any_sequence, .. }) = self.ring else { return };
        if !self.shared.mapping.is_extended() {
            return;
        }
        let size = self.shared.mapping.geometry().extended_size();
        let mut side = extended::ReadSide::new(&self.shared.mapping, size);
        side.any_sequence = any_sequence;
        self.shared.held.start(side.spot(), size);
        self.shared.extended.store(true, Ordering::Relaxed);
        self.ring = ReadRing::Extended(side);
    }

    /// Takes the tokens of frames already read, as far as they have come. Says whether there were any.
    fn settle_tokens(&mut self) -> bool {
        let owed = std::mem::take(&mut self.tokens_owed);
        taken_before_look((0..owed).take_while(|_| self.shared.sem_w.try_wait()).count() > 0)
    }

    /// One look at the ring.
    #[inline]
    fn look(&mut self) -> Result<bool> {
        let mapping = &self.shared.mapping;
        if let ReadRing::Extended(side) = &mut self.ring {
            let mut back = |from, to| self.reserver.back(from, to);
            if side.take(mapping, &mut self.last)
                || side.refresh(mapping, &mut back).is_ok() && side.take(mapping, &mut self.last)
            {
                self.note();
                return Ok(true);
            }
        }
        self.look_closer()
    }

    /// Keeps the books of the frame that was taken.
    #[inline]
    fn note(&mut self) {
        self.unsure_since = None;
        self.tracker.frames = true;
        self.frames_read += 1;
        self.bytes_read += self.last.len() as u64;
    }

    #[inline(never)]
    fn look_closer(&mut self) -> Result<bool> {
        self.decide();
        // While frames of the last writer are unreported, its successor's first frame waits for the report.
        let restart = !self.tracker.frames;
        let look = match &mut self.ring {
            ReadRing::Extended(side) => {
                let back = |from, to| self.reserver.back(from, to);
                let look = side.look(&self.shared.mapping, restart, back);
                // Whatever was found instead of a frame, nobody shall wait for what we withhold.
                if !matches!(look, Look::Frame(_)) && self.shared.held.drained(&self.shared.mapping) {
                    self.shared.ring_writer();
                }
                look
            }
            ReadRing::Classic(side) => {
                let mut queue = self.shared.queue();
                let look = side.look(&self.shared.mapping, &mut queue, &mut self.reserver, restart);
                let wake = queue.take_wake();
                drop(queue);
                if wake {
                    self.shared.wake_writer();
                }
                if let Look::Frame(_) = look {
                    self.tokens_owed += 1;
                    if self.tokens_owed >= TOKEN_BATCH {
                        self.settle_tokens();
                    }
                    if self.tracker.foreign {
                        self.reserve_ahead();
                    }
                }
                look
            }
        };
        match look {
            Look::Frame(located) => {
                self.last = located;
                self.note();
                Ok(true)
            }
            Look::Empty => {
                self.unsure_since = None;
                Ok(false)
            }
            Look::Restart => {
                // Which writers ended here is not known exactly if several came and went since the last report: some
                // may have written nothing. So all but the last one are taken together.
                let words = liveness::WriterWords::load(self.shared.mapping.oieb());
                let epoch = words.word.epoch().saturating_sub(1);
                let died = if epoch > self.tracker.epoch {
                    words.word.died_among(self.tracker.epoch, epoch)
                } else {
                    words.word.predecessor_died()
                };
                let epoch = epoch.max(self.tracker.epoch);
                self.tracker = Tracker { frames: false, epoch, ..self.tracker };
                Err(self.end_of_writer(words.is_ours() && died))
            }
            Look::Unsure(trouble) => self.doubt(trouble).map(|()| false),
        }
    }

    /// Bears a contradiction for a while, then mends it or fails.
    fn doubt(&mut self, trouble: Trouble) -> Result<()> {
        let since = *self.unsure_since.get_or_insert_with(Instant::now);
        if since.elapsed() < UNSURE_LIMIT {
            return Ok(());
        }
        if trouble.kind == ErrorKind::InvalidState {
            let ReadRing::Classic(side) = &mut self.ring else { return Ok(()) };
            // In a statement of its own, so that the lock is free when the writer is woken.
            let repaired = side.repair(&self.shared.mapping, &mut self.shared.queue(), &mut self.reserver);
            if let Some(bytes) = repaired {
                log::warn!(
                    "buffer `{}`: the count of free bytes was {bytes} short and has been repaired; a 1.x writer \
                     loses updates where libatomic is missing",
                    self.shared.name
                );
                // The writer may be asleep for want of these bytes.
                self.shared.wake_writer();
            }
            self.unsure_since = None;
            return Ok(());
        }
        Err(self.shared.error(trouble.kind, trouble.message))
    }

    fn has_unread(&mut self) -> bool {
        self.decide();
        match &mut self.ring {
            ReadRing::Extended(side) => side.has_unread(&self.shared.mapping),
            ReadRing::Classic(side) => {
                let mut queue = self.shared.queue();
                side.unread(&self.shared.mapping, &mut queue).is_ok_and(|unread| unread > 0)
            }
        }
    }

    fn writer_state(&self) -> Result<WriterState> {
        let Some(locks) = &self.locks else {
            return Err(self.shared.error(ErrorKind::Closed, "the reader is closed: create a new one"));
        };
        let oieb = self.shared.mapping.oieb();
        liveness::writer_state(|| Ok(liveness::WriterWords::load(oieb)), &locks.role)
            .map_err(|error| Error::os(&self.shared.name, "test the writer's role lock", error))
    }

    /// Gives back what a writer of ours took that died, or gave up, on its way into an extended ring.
    fn end_entry(&mut self) {
        let (ReadRing::Classic(side), Some(locks)) = (&mut self.ring, &self.locks) else { return };
        let mapping = &self.shared.mapping;
        if !mapping.can_be_extended() || !side.is_being_entered(mapping) {
            return;
        }
        // While we have the writer's role nobody is on the way.
        if !matches!(locks.role.try_lock_role(WRITER_ROLE_BYTE), Ok(true)) {
            return;
        }
        let given_back = side.end_entry(mapping, &self.shared.queue(), &mut self.reserver);
        locks.role.unlock_role(WRITER_ROLE_BYTE);
        if given_back {
            let name = &self.shared.name;
            log::info!("buffer `{name}`: gave back what a writer had taken that did not live to connect");
            self.shared.wake_writer();
        }
    }

    /// Looks at the writer; reports its end if all that it committed has been read, and there is news.
    fn judge_writer(&mut self) -> Result<bool> {
        self.end_entry();
        let words = liveness::WriterWords::load(self.shared.mapping.oieb());
        stop_point!("read:judge");
        let state = self.writer_state()?;
        let (id, died) = match state {
            WriterState::Alive(id) => {
                if matches!(id, WriterId::Foreign { .. }) {
                    self.tracker.foreign = true;
                    self.reserve_ahead();
                }
                self.check_names(state)?;
                return Ok(false);
            }
            WriterState::Dead(id) => (Some(id), true),
            WriterState::Closed(id) => (Some(id), false),
            WriterState::None => (None, false),
        };
        let news =
            self.tracker.frames || self.tracker.foreign || (id.is_some() && id != self.tracker.reported);
        if !news {
            self.check_names(state)?;
            return Ok(false);
        }
        // Its last frames may have been committed after our last look at the ring, but before its end.
        if self.look()? {
            return Ok(true);
        }
        if self.unsure_since.is_some() {
            return Ok(false);
        }
        if let (true, ReadRing::Classic(side)) = (died, &mut self.ring) {
            side.withdraw_uncommitted(&self.shared.mapping, &mut self.shared.queue(), words);
        }
        let Tracker { mut epoch, .. } = self.tracker;
        let mut died = died;
        if let Some(WriterId::Ours { epoch: ended }) = id {
            if let ReadRing::Classic(side) = &mut self.ring {
                side.settle(ended);
            }
            // The last one's own fate is known; those of its predecessors are in its word, or its successor's.
            let words = liveness::WriterWords::load(self.shared.mapping.oieb());
            died |= words.word.died_among(epoch, ended.saturating_sub(1));
            epoch = ended;
        }
        let reported = id.or(self.tracker.reported);
        self.tracker = Tracker { reported, foreign: false, frames: false, epoch };
        Err(self.end_of_writer(died))
    }

    fn end_of_writer(&self, died: bool) -> Error {
        let (kind, what) = match died {
            true => (ErrorKind::WriterDead, "the writer died; all that it had committed has been delivered"),
            false => (ErrorKind::WriterClosed, "the writer has closed; all that it wrote has been delivered"),
        };
        self.shared.error(kind, format!("{what}: read again to wait for the next writer"))
    }

    /// Notices that another process removed or replaced our names (1.x readers do, when they think us dead).
    fn check_names(&mut self, state: WriterState) -> Result<()> {
        if self.names_checked.elapsed() < NAMES_CHECK {
            return Ok(());
        }
        self.names_checked = Instant::now();
        if matches!(self.files.have_their_name(&self.shared.name), Ok(false)) {
            if !matches!(state, WriterState::Alive(_)) {
                let message = "another process removed or replaced the buffer's files, so no writer can connect to \
                               it any more; close the reader and create the buffer anew";
                return Err(self.shared.error(ErrorKind::BufferNotFound, message));
            }
            if !std::mem::replace(&mut self.names_lost, true) {
                log::warn!(
                    "buffer `{}`: another process removed or replaced its files; the connected writer goes on, but \
                     no other can connect",
                    self.shared.name
                );
            }
        }
        Ok(())
    }

    /// Keeps memory reserved in front of a 1.x writer, which would die of SIGBUS where there is none.
    fn reserve_ahead(&mut self) {
        let ReadRing::Classic(side) = &self.ring else { return };
        let geometry = self.shared.mapping.geometry();
        let wanted = (side.position() + FOREIGN_AHEAD).min(geometry.payload_size);
        if wanted <= self.foreign_reserved {
            return;
        }
        let upto = (wanted + FOREIGN_AHEAD).min(geometry.payload_size);
        stop_point!("read:reserve-ahead");
        if let Err(error) = self.reserver.ensure(self.foreign_reserved, upto) {
            log::warn!("buffer `{}`: cannot reserve memory ahead of a 1.x writer: {error}", self.shared.name);
        }
        // Tried once: where there is no memory, trying again at each frame would only cost time.
        self.foreign_reserved = upto;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.shut();
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("name", &self.shared.name)
            .field("frames_read", &self.frames_read)
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
