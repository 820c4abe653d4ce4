//! The descriptor of a handle, which event loops poll: made ready by the other side through a FIFO, and otherwise by a thread
//! of this process ([`crate::listener`]).
//!
//! *Ready* means: look. The descriptor is ready unless it is *armed*. A look that finds nothing takes the bytes out of
//! the FIFO, arms, and looks again. Each way out of the armed state leaves a byte in the FIFO: the other side's ring, the
//! listener's, or the owner's own. docs/PROTOCOL.md ("Descriptors") argues that nothing is lost.
//!
//! UNSAFE: a descriptor that is lent for as long as its handle lives.
#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::buffer::HasBuffer;
use crate::layout::BellLine;
use crate::lifecycle::locks::mode_without_mere_readers;
use crate::notifier::{Callback, Notified};
use crate::os::{self, FileInfo};
#[cfg(not(loom))]
use crate::second_look;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering, futex_wake};
use crate::testing::stop::stop_point;
use crate::wait::doorbell;

/// Removes the FIFO that a dead owner of the bell left, and forgets it.
pub(crate) fn remove_orphan(line: &BellLine) {
    let Some(id) = doorbell::fifo_of(line) else { return };
    stop_point!("descriptor:remove-orphan");
    match os::Fifo::remove_orphan(id) {
        // Another process took the role meanwhile, or the words are not true.
        Ok(false) => {}
        Ok(true) => {
            // A new owner may have stored its own meanwhile.
            let _ = line.fifo.compare_exchange(id.number, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        Err(error) => log::debug!("cannot remove a dead process's FIFO: {error}"),
    }
}

/// What a listener sleeps on beside the bells of its descriptors.
pub(crate) struct Control {
    word: AtomicU32,
}

impl Control {
    pub(crate) fn new() -> Control {
        Control { word: AtomicU32::new(0) }
    }

    pub(crate) fn word(&self) -> &AtomicU32 {
        &self.word
    }

    /// Has the listener look at all of its descriptors.
    pub(crate) fn kick(&self) {
        // Release pairs with the listener's Acquire load: it sees what was changed before.
        self.word.fetch_add(1, Ordering::Release);
        futex_wake(&self.word);
    }
}

/// What a descriptor waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nothing, as it was never armed.
    None,
    /// The bell.
    Bell,
    /// The semaphore that 1.x peers post, and all peers of a ring that is not extended.
    Semaphore,
}

/// The descriptor, and what its owner notes for the listener.
pub(crate) struct Descriptor {
    /// `None` once closed.
    fifo: Mutex<Option<os::Fifo>>,
    fd: RawFd,
    /// The buffer whose descriptor this is.
    own: Weak<dyn HasBuffer>,
    /// The listener that serves it.
    listener: Arc<Control>,
    /// How often it was armed.
    armings: AtomicU32,
    /// The [`Source`] since then.
    source: AtomicU32,
    /// The other side's position before the look that came with the last arming.
    known: AtomicU64,
    /// The other side lived at that look, and no watcher tells of its end.
    peer_lived: AtomicBool,
    /// The arming for which the listener has rung because of the semaphore.
    rung: AtomicU32,
    /// The listener counts as a thread that waits for the semaphore.
    counted: AtomicBool,
    /// Shows the other side's role.
    view: os::LockView,
    /// For callbacks, once one was asked for.
    notified: OnceLock<Notified>,
}

impl Descriptor {
    /// Makes the descriptor of the side whose bell is in `line`; `None`: the ring has no bells. `segment` is the buffer's
    /// file, if that is known.
    pub(crate) fn new(
        line: Option<&BellLine>,
        segment: Option<&FileInfo>,
        own: Weak<dyn HasBuffer>,
        listener: Arc<Control>,
        view: os::LockView,
    ) -> std::io::Result<Descriptor> {
        stop_point!("descriptor:create");
        let fifo = line.and(segment).and_then(|segment| {
            os::Fifo::create(segment, mode_without_mere_readers(segment.mode & 0o666))
                .inspect_err(|error| log::info!("no FIFO, so a thread wakes this descriptor: {error}"))
                .ok()
        });
        let fifo = fifo.map_or_else(os::Fifo::pipe, Ok)?;
        if let (Some(line), Some(id)) = (line, fifo.id()) {
            // Release pairs with the Acquire loads in doorbell::fifo_of(): the number comes with its inode.
            stop_point!("descriptor:inode");
            line.inode.store(id.inode, Ordering::Relaxed);
            stop_point!("descriptor:number");
            line.fifo.store(id.number, Ordering::Release);
        }
        fifo.ring();
        Ok(Descriptor {
            fd: fifo.fd(),
            fifo: Mutex::new(Some(fifo)),
            own,
            listener,
            armings: AtomicU32::new(0),
            source: AtomicU32::new(0),
            known: AtomicU64::new(0),
            peer_lived: AtomicBool::new(false),
            rung: AtomicU32::new(0),
            counted: AtomicBool::new(false),
            view,
            notified: OnceLock::new(),
        })
    }

    /// The descriptor to poll.
    pub(crate) fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: it is open until close(), which comes with the handle's end; the handles lend it for as long as they are
        // borrowed themselves.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// Calls `with` with the descriptor, unless it is closed; it is not closed meanwhile.
    pub(crate) fn with<R>(&self, with: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        let fifo = self.fifo();
        fifo.is_some().then(|| with(self.borrow()))
    }

    fn fifo(&self) -> MutexGuard<'_, Option<os::Fifo>> {
        self.fifo.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The FIFO that another process may write to, if there is one.
    pub(crate) fn fifo_id(&self) -> Option<os::FifoId> {
        self.fifo().as_ref().and_then(os::Fifo::id)
    }

    /// Calls `callback` once, as soon as it is ready.
    pub(crate) fn notify(&self, callback: Callback) -> std::io::Result<()> {
        self.notified.get_or_init(Notified::new).notify(self.borrow(), callback)
    }

    /// Calls the callback off, if it still waits. Returns whether it did.
    pub(crate) fn cancel_notify(&self) -> bool {
        self.notified.get().is_some_and(Notified::cancel)
    }

    /// Makes it ready, on any thread.
    pub(crate) fn ring(&self) {
        if let Some(fifo) = &*self.fifo() {
            fifo.ring();
        }
    }

    /// Makes it ready unless it is.
    pub(crate) fn make_ready(&self) {
        if let Some(fifo) = &*self.fifo()
            && !fifo.is_ready()
        {
            fifo.ring();
        }
    }

    /// Makes it no longer ready. Returns whether it was.
    pub(crate) fn drain(&self) -> bool {
        self.fifo().as_ref().is_some_and(os::Fifo::drain)
    }

    /// Removes the FIFO; the descriptor is closed, and copies of it are ready for good. `line` as in [`Descriptor::new`].
    pub(crate) fn close(&self, line: Option<&BellLine>) {
        if let Some(notified) = self.notified.get() {
            notified.end(self.borrow());
        }
        let Some(fifo) = self.fifo().take() else { return };
        if let Some(line) = line {
            stop_point!("descriptor:forget");
            // Relaxed: a publisher that still sees it finds a FIFO that is gone, and wakes the bell.
            line.fifo.store(0, Ordering::Relaxed);
        }
        stop_point!("descriptor:unlink");
        if let Err(error) = fifo.remove() {
            log::warn!("cannot remove the FIFO of a descriptor: {error}");
        }
        // Who has a copy of the descriptor looks, and finds that the handle is closed.
        fifo.ring();
    }

    /// The number of the last arming.
    pub(crate) fn turn(&self) -> u32 {
        // Relaxed: only the owner changes it.
        self.armings.load(Ordering::Relaxed)
    }

    /// The number of the next arming.
    pub(crate) fn next_turn(&self) -> u32 {
        self.turn().wrapping_add(1)
    }

    /// Notes an arming for the listener; `known` is the other side's position before the look that follows. `again`: it is to be
    /// looked at again in a moment.
    pub(crate) fn note(&self, source: Source, known: u64, again: bool) {
        self.known.store(known, Ordering::Relaxed);
        let before = self.source.swap(source as u32, Ordering::Relaxed);
        // Release pairs with the Acquire load in armings().
        self.armings.store(self.next_turn(), Ordering::Release);
        if source == Source::Semaphore || before != source as u32 {
            // It does not sleep on this source yet.
            self.listener.kick();
        }
        #[cfg(not(loom))]
        if again {
            second_look::ask(&self.own, self.turn());
        }
        #[cfg(loom)]
        let _ = (again, &self.own);
    }

    /// Has the listener sleep on more doorbells, which were armed just now.
    pub(crate) fn note_outputs(&self) {
        self.listener.kick();
    }

    /// Notes whether the listener is to ask for the other side, which lived at the look that followed an arming.
    pub(crate) fn note_peer(&self, lives: bool) {
        // Relaxed: kick() releases it, and the listener acquires that. That it changed to false may be seen late, which costs a look.
        if !self.peer_lived.swap(lives, Ordering::Relaxed) && lives {
            // It may sleep without a limit.
            self.listener.kick();
        }
    }

    /// Has posters of the semaphore wake the listener, or no longer.
    pub(crate) fn count_waiter(&self, semaphore: &os::Semaphore, count: bool) {
        // Relaxed: only the owner changes it.
        if self.counted.swap(count, Ordering::Relaxed) != count {
            if count { semaphore.add_waiter() } else { semaphore.remove_waiter() }
        }
    }

    /// Whether the listener has rung since it was armed on the semaphore.
    pub(crate) fn was_rung(&self) -> bool {
        // Acquire: the thread that took the listener's byte out of the FIFO sees the note that came before.
        self.rung.load(Ordering::Acquire) == self.armings.load(Ordering::Relaxed)
    }

    // ---- for the listener ----

    /// How often it was armed, and what it waits for since then.
    pub(crate) fn armings(&self) -> (u32, Source) {
        let armings = self.armings.load(Ordering::Acquire);
        let source = match self.source.load(Ordering::Relaxed) {
            0 => Source::None,
            1 => Source::Bell,
            _ => Source::Semaphore,
        };
        (armings, source)
    }

    /// The other side's position before the look that came with the last arming.
    pub(crate) fn known(&self) -> u64 {
        self.known.load(Ordering::Relaxed)
    }

    /// What shows the other side's role.
    pub(crate) fn view(&self) -> &os::LockView {
        &self.view
    }

    /// Whether the other side lived then, and no watcher tells of its end.
    pub(crate) fn peer_lived(&self) -> bool {
        // Relaxed: the listener has acquired the kick of note_peer() before.
        self.peer_lived.load(Ordering::Relaxed)
    }

    /// Rings because of the semaphore, once for each arming.
    pub(crate) fn ring_for(&self, arming: u32) {
        if self.rung.swap(arming, Ordering::AcqRel) != arming {
            self.ring();
        }
    }

    /// Whether the listener has rung for this arming.
    pub(crate) fn rung_for(&self, arming: u32) -> bool {
        self.rung.load(Ordering::Relaxed) == arming
    }
}
