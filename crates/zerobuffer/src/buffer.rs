//! One opened buffer: the state that readers, writers and keepers share.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::memory::Memory;
use crate::memory::mapping::Mapping;
use crate::os;
use crate::ring::RingFault;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};
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
    /// How often this side began to wait for the other one.
    waits: AtomicU64,
    /// How often this side, a writer, found no space in time.
    full: AtomicU64,
    /// The fork generation of the process that opened it.
    generation: u64,
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
            waits: AtomicU64::new(0),
            full: AtomicU64::new(0),
            generation: os::fork_generation(),
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
        self.doorbell_of(self.side)
    }

    /// The doorbell on which the other side sleeps.
    #[inline]
    pub(crate) fn peers_doorbell(&self) -> &AtomicU32 {
        match self.side {
            Side::Reader => self.doorbell_of(Side::Writer),
            Side::Writer => self.doorbell_of(Side::Reader),
        }
    }

    #[inline]
    fn doorbell_of(&self, side: Side) -> &AtomicU32 {
        let control = self.mapping.control();
        match side {
            Side::Reader => &control.reader_bell.bell,
            Side::Writer => &control.writer_bell.bell,
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

    // ---- interrupts ----

    fn interrupt(&self) {
        // Release pairs with the swap in take_interrupt. Token and doorbell wake a call that already sleeps.
        self.interrupted.store(true, Ordering::Release);
        if self.mapping.can_be_extended() {
            doorbell::call(self.doorbell());
        }
        match self.side {
            Side::Reader => self.sem_w.post(),
            Side::Writer => self.sem_r.post(),
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
