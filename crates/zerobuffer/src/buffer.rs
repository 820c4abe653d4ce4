//! One opened buffer: the state that readers, writers and keepers share.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock, Weak};

use crate::descriptor::{self, Control, Descriptor};
use crate::error::{Error, ErrorKind, Result};
use crate::layout::BellLine;
use crate::lifecycle::liveness::WriterWords;
use crate::memory::Memory;
use crate::memory::mapping::Mapping;
use crate::notifier::Callback;
use crate::os;
use crate::ring::RingFault;
use crate::sharing::bell::LoansBell;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use crate::wait::doorbell;

/// The side that a handle has in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Reader,
    Writer,
}

/// One opened buffer.
pub(crate) struct Buffer {
    name: Box<str>,
    side: Side,
    pub(crate) mapping: Mapping,
    /// Posted by the writer.
    pub(crate) sem_w: os::Semaphore,
    /// Posted by the reader.
    pub(crate) sem_r: os::Semaphore,
    interrupted: AtomicBool,
    /// The watcher has found something about the peer; renamed: it may be that the buffer has lost its name.
    news: AtomicBool,
    renamed: AtomicBool,
    /// How often this side began to wait for the other one.
    waits: AtomicU64,
    /// How often this side, a writer, found no space in time.
    full: AtomicU64,
    /// The fork generation of the process that opened it.
    generation: u64,
    /// What an event loop polls, once it was asked for.
    descriptor: OnceLock<Descriptor>,
    /// For those who lend through this side, a writer.
    pub(crate) loans_bell: LoansBell,
}

impl Buffer {
    pub(crate) fn new(
        name: &str,
        side: Side,
        mapping: Mapping,
        sem_w: os::Semaphore,
        sem_r: os::Semaphore,
    ) -> Buffer {
        Buffer {
            name: name.into(),
            side,
            mapping,
            sem_w,
            sem_r,
            interrupted: AtomicBool::new(false),
            news: AtomicBool::new(false),
            renamed: AtomicBool::new(false),
            waits: AtomicU64::new(0),
            full: AtomicU64::new(0),
            generation: os::fork_generation(),
            descriptor: OnceLock::new(),
            loans_bell: LoansBell::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether this process opened the buffer, rather than a parent that it was forked from.
    #[inline]
    pub(crate) fn is_mine(&self) -> bool {
        self.generation == os::fork_generation()
    }

    /// Fails in a forked child that inherited the handle.
    #[inline]
    pub(crate) fn check_mine(&self) -> Result<()> {
        if self.is_mine() { Ok(()) } else { Err(self.inherited()) }
    }

    #[cold]
    fn inherited(&self) -> Error {
        let message = match self.side {
            Side::Reader => {
                "this reader belongs to the process that forked this one; create a buffer of your own"
            }
            Side::Writer => {
                "this writer belongs to the process that forked this one; connect one of your own"
            }
        };
        self.error(ErrorKind::InvalidState, message)
    }

    pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, &self.name, message)
    }

    pub(crate) fn fault(&self, fault: RingFault) -> Error {
        let gap = fault.gap();
        self.error(fault.kind.error_kind(), fault.message).of_gap(gap)
    }

    pub(crate) fn os_error(&self, doing: &str, error: std::io::Error) -> Error {
        Error::os(&self.name, doing, error)
    }

    /// The doorbell on which this side sleeps.
    pub(crate) fn doorbell(&self) -> &AtomicU32 {
        &self.line().bell
    }

    /// This side's doorbell, and what stands behind it.
    fn line(&self) -> &BellLine {
        let control = self.mapping.control();
        match self.side {
            Side::Reader => &control.reader_bell,
            Side::Writer => &control.writer_bell,
        }
    }

    /// The doorbell of who lends through this buffer, in its sharing block.
    pub(crate) fn loans_line(&self) -> Option<&BellLine> {
        self.mapping.sharing().map(|sharing| &sharing.loans.loans_bell)
    }

    /// This side, a writer that lends, is about to give its role up.
    pub(crate) fn leave(&self) {
        if let Some(line) = self.loans_line() {
            self.loans_bell.leave(line);
        }
    }

    /// Whether this side has closed; see [`LoansBell::has_left`].
    pub(crate) fn has_left(&self) -> bool {
        self.loans_bell.has_left()
    }

    /// The doorbell on which the other side sleeps.
    fn peers_line(&self) -> &BellLine {
        let control = self.mapping.control();
        match self.side {
            Side::Reader => &control.writer_bell,
            Side::Writer => &control.reader_bell,
        }
    }

    /// Wakes the other side of an extended ring, if it sleeps or has armed its descriptor.
    #[cold]
    #[inline(never)]
    pub(crate) fn ring_peer(&self) {
        doorbell::ring(self.peers_line(), |id| self.mapping.wire().ring(id));
    }

    /// Wakes the other side for something else than a position, stored just before.
    pub(crate) fn call_peer(&self) {
        doorbell::call(self.peers_line(), |id| self.mapping.wire().ring(id));
    }

    /// Wakes the thread that sleeps for this side, for something that another thread of this process has stored just before. Where the ring
    /// is or may become extended.
    pub(crate) fn call_own(&self) {
        // A descriptor that is armed hears of it through the listener.
        doorbell::call(self.line(), |_| false);
    }

    /// Wakes the other side whatever its bell says.
    pub(crate) fn rouse_peer(&self) {
        doorbell::rouse(self.peers_line(), |id| self.mapping.wire().ring(id));
    }

    // ---- the descriptor ----

    /// The side that the handle has.
    pub(crate) fn side(&self) -> Side {
        self.side
    }

    /// What an event loop polls, if it was asked for.
    #[inline]
    pub(crate) fn descriptor(&self) -> Option<&Descriptor> {
        self.descriptor.get()
    }

    /// The descriptor, which is open until it is closed with its handle.
    pub(crate) fn borrow_descriptor(&self) -> Result<BorrowedFd<'_>> {
        let Some(descriptor) = self.descriptor() else {
            return Err(self.error(ErrorKind::Closed, "the descriptor is closed"));
        };
        Ok(descriptor.borrow())
    }

    /// Calls `callback` once, as soon as the descriptor is ready.
    pub(crate) fn notify(&self, callback: Callback) -> Result<()> {
        self.check_mine()?;
        let Some(descriptor) = self.descriptor() else { return Ok(()) };
        descriptor.notify(callback).map_err(|error| self.os_error("wait for the descriptor", error))
    }

    /// Calls a callback off that still waits. Returns whether there was one.
    pub(crate) fn cancel_notify(&self) -> bool {
        self.is_mine() && self.descriptor().is_some_and(Descriptor::cancel_notify)
    }

    /// Makes the descriptor. `own` leads to this buffer; `view` shows the other side's role.
    pub(crate) fn make_descriptor(
        &self,
        own: Weak<dyn HasBuffer>,
        listener: Arc<Control>,
        view: os::LockView,
    ) -> std::io::Result<()> {
        let line = self.mapping.can_be_extended().then(|| self.line());
        // A buffer whose name is gone gets a pipe.
        let segment = line.and_then(|_| os::Folder::shared_memory().info(&self.name).ok().flatten());
        let descriptor = Descriptor::new(line, segment.as_ref(), own, listener, view)?;
        // The caller has made sure that there is none.
        let _ = self.descriptor.set(descriptor);
        Ok(())
    }

    /// Closes the descriptor, if there is one, and removes its FIFO.
    pub(crate) fn close_descriptor(&self) {
        if let Some(descriptor) = self.descriptor() {
            descriptor.count_waiter(self.own_semaphore(), false);
            descriptor.close(self.mapping.can_be_extended().then(|| self.line()));
        }
    }

    /// Removes the FIFO that the last process in this role left behind.
    pub(crate) fn forget_predecessor(&self) {
        if self.mapping.can_be_extended() {
            descriptor::remove_orphan(self.line());
            // Relaxed: a publisher that still sees it finds a FIFO that is gone.
            self.line().fifo.store(0, Ordering::Relaxed);
        }
    }

    /// Removes the FIFO that the other side left behind, if it died.
    pub(crate) fn forget_dead_peer(&self) {
        if self.mapping.can_be_extended() {
            descriptor::remove_orphan(self.peers_line());
        }
    }

    /// The semaphore that the other side posts.
    pub(crate) fn own_semaphore(&self) -> &os::Semaphore {
        match self.side {
            Side::Reader => &self.sem_w,
            Side::Writer => &self.sem_r,
        }
    }

    /// The other side's position in an extended ring.
    pub(crate) fn peers_position(&self) -> u64 {
        let control = self.mapping.control();
        // Acquire: a thread that finds a change here finds what was committed or given back.
        match self.side {
            Side::Reader => control.written.head.load(Ordering::Acquire),
            Side::Writer => control.read.tail.load(Ordering::Acquire),
        }
    }

    // ---- figures: Relaxed, as they order nothing ----

    pub(crate) fn count_wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_full(&self) {
        self.full.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    pub(crate) fn times_full(&self) -> u64 {
        self.full.load(Ordering::Relaxed)
    }

    // ---- news of the peer ----

    /// Tells the handle that there is news of its peer, or of the buffer's name, and wakes it.
    pub(crate) fn tell_news(&self, renamed: bool) {
        // Relaxed: the store of `news` publishes it.
        if renamed {
            self.renamed.store(true, Ordering::Relaxed);
        }
        // Release pairs with the swap in take_news. A thread that sets a bell later sees it: rouse() fences.
        self.news.store(true, Ordering::Release);
        self.ring_own();
    }

    /// Wakes the thread that waits for this side, even if a peer died just as it did so.
    fn ring_own(&self) {
        if self.mapping.can_be_extended() {
            doorbell::rouse(self.line(), |_| false);
        }
        // Between the news and the look at the count; pairs with the fence of a thread that has taken a token.
        fence(Ordering::SeqCst);
        // A thread that waits although there is a token was not woken for it.
        let semaphore = self.own_semaphore();
        if semaphore.value() <= 0 || semaphore.waiters() > 0 {
            semaphore.post();
        }
        if let Some(descriptor) = self.descriptor() {
            descriptor.ring();
        }
    }

    /// Whether this side may sleep although a peer that died has set out to wake it.
    pub(crate) fn may_sleep_in_vain(&self) -> bool {
        // Relaxed: a hint, asked for again and again.
        let is_rung = || self.doorbell().load(Ordering::Relaxed) & doorbell::SLEEPING == 0;
        let semaphore = self.own_semaphore();
        self.mapping.is_extended() && is_rung() || semaphore.value() > 0 && semaphore.waiters() > 0
    }

    /// What a 1.x writer has done to the pid in a ring that is not extended, of which this side is to know; 0: nothing. For a reader, the
    /// pid with which one has connected; for a writer, that one has cleared the pid. `peer_lives`: the other side has a role.
    pub(crate) fn stranger(&self, peer_lives: bool) -> u64 {
        let words = WriterWords::load(self.mapping.oieb());
        match self.side {
            Side::Reader if peer_lives || words.extended || words.is_ours() => 0,
            Side::Reader => words.pid,
            Side::Writer => u64::from(words.pid == 0),
        }
    }

    /// Lets the handle make sure of the buffer's name.
    pub(crate) fn note_renamed(&self) {
        // As in tell_news(); the handle's own thread calls this.
        self.renamed.store(true, Ordering::Relaxed);
        self.news.store(true, Ordering::Release);
    }

    /// Whether there is news that was not taken. A hint: take_news() acquires.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.news.load(Ordering::Relaxed)
    }

    /// Takes the news, before the peer is judged. Returns whether the buffer may have lost its name.
    pub(crate) fn take_news(&self) -> bool {
        // A plain load comes first: most waits meet none.
        self.has_news()
            && self.news.swap(false, Ordering::Acquire)
            && self.renamed.swap(false, Ordering::Relaxed)
    }

    // ---- interrupts ----

    fn interrupt(&self) {
        // Release pairs with the swap in take_interrupt. Token and doorbell wake a call that already sleeps.
        self.interrupted.store(true, Ordering::Release);
        if self.mapping.can_be_extended() {
            self.call_own();
        }
        self.own_semaphore().post();
        if let Some(descriptor) = self.descriptor() {
            descriptor.ring();
        }
    }

    /// Whether an interrupt waits for a call to end. A hint: take_interrupt() acquires.
    #[inline]
    pub(crate) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Fails once for each interrupt.
    #[inline]
    pub(crate) fn take_interrupt(&self) -> Result<()> {
        // A plain load comes first: a swap at every call would take the cache line exclusively.
        if self.is_interrupted() && self.interrupted.swap(false, Ordering::Acquire) {
            return Err(self.error(ErrorKind::Interrupted, "the call was interrupted"));
        }
        Ok(())
    }
}

/// Reaches a buffer and keeps its memory mapped.
pub(crate) trait HasBuffer: Send + Sync {
    fn buffer(&self) -> &Buffer;

    /// Adds the buffers on whose loans' doorbells this side sleeps, too. Returns whether their borrowers' ends are told.
    fn add_outputs(&self, _outputs: &mut Vec<Arc<Buffer>>) -> bool {
        true
    }

    /// Whether something that this side has lent may have come back.
    fn has_returned(&self) -> bool {
        false
    }
}

impl HasBuffer for Buffer {
    fn buffer(&self) -> &Buffer {
        self
    }
}

/// Ends a blocked call of a [`Reader`](crate::Reader) or [`Writer`](crate::Writer) from another thread.
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
pub struct InterruptHandle(Arc<dyn HasBuffer>);

impl InterruptHandle {
    pub(crate) fn new(buffer: Arc<dyn HasBuffer>) -> InterruptHandle {
        InterruptHandle(buffer)
    }

    /// Makes the call that is blocked now, or else the next one that would block, fail once with
    /// [`ErrorKind::Interrupted`].
    pub fn interrupt(&self) {
        self.0.buffer().interrupt();
    }

    /// Makes the handle's descriptor ready, if there is one.
    pub(crate) fn ring_descriptor(&self) {
        if let Some(descriptor) = self.0.buffer().descriptor() {
            descriptor.make_ready();
        }
    }

    /// Calls `with` with the handle's descriptor, if there is one that is not closed.
    pub(crate) fn with_descriptor<R>(&self, with: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        self.0.buffer().descriptor()?.with(with)
    }

    /// Calls `callback` once, as soon as the descriptor is ready.
    pub(crate) fn notify(&self, callback: Callback) -> Result<()> {
        self.0.buffer().notify(callback)
    }

    /// Calls a callback off that still waits. Returns whether there was one.
    pub(crate) fn cancel_notify(&self) -> bool {
        self.0.buffer().cancel_notify()
    }

    /// Makes the handle's descriptor no longer ready, if there is one.
    pub(crate) fn drain_descriptor(&self) {
        if let Some(descriptor) = self.0.buffer().descriptor() {
            descriptor.drain();
        }
    }

    /// Whether there is a descriptor.
    pub(crate) fn has_descriptor(&self) -> bool {
        self.0.buffer().descriptor().is_some()
    }

    /// Withdraws an interrupt that no call has met yet.
    pub fn clear(&self) {
        // Relaxed: the caller orders whatever the interrupt is about.
        self.0.buffer().interrupted.store(false, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for InterruptHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InterruptHandle")
    }
}
