//! The state that a client shares with its request buffers and calls: both buffers, and the requests under way.
//!
//! There are three locks. `sender` is for steps that do not wait; a thread that must wait for space takes the
//! writer out of it. `inbox` is for the list of requests and outcomes. The leader holds `reader` while it
//! reads, and no other thread waits for it. The order is sender, then inbox. User code (wakers) runs without
//! any of them.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::inbox::{End, Inbox};
#[cfg(not(loom))]
use super::server_watch::ServerWatch;
use crate::duplex::due::{self, Due};
use crate::duplex::owner::Owner;
use crate::duplex::port::{InterruptHandle, Marker, Place, Reader, ReaderWatch, Writer};
use crate::duplex::sync::{Condvar, Mutex, ThreadId, TryMutex, lock, try_lock, wait};
use crate::duplex::turns::Turns;
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// The message for a client whose server has gone.
pub(crate) const GONE: &str = "the server has stopped, or died; create a new client when there is one";

/// How long closing waits for an interrupted thread that has one of the buffers.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct ClientState {
    pub(crate) channel: Box<str>,
    pub(crate) sender: Mutex<Sender>,
    /// The writer is back, a buffer has been closed, or the channel has ended.
    pub(crate) sender_changed: Condvar,
    /// Locked by the leader. `None` after the close.
    pub(crate) reader: TryMutex<Option<Box<Reader>>>,
    pub(crate) inbox: Mutex<Inbox>,
    /// The number of followers, plus one once the client is being closed. Read without a lock.
    pub(crate) following: AtomicU64,
    /// How long waiting threads take turns instead of sleeping.
    pub(crate) turns: Turns,
    /// `inbox.ended` is set.
    over: AtomicBool,
    /// The client is being closed: the leader closes the reader when it lets go.
    closing: AtomicBool,
    /// A thread waits until the reader has a descriptor.
    #[cfg(not(loom))]
    pub(super) wants_descriptor: AtomicBool,
    /// An event loop has taken bytes out of the descriptor, although it did not have the reader.
    pub(super) drained: AtomicBool,
    /// Tests whether the server lives, and withdraws requests, while a thread has the writer.
    pub(crate) server: ReaderWatch,
    pub(super) reader_interrupt: InterruptHandle,
    writer_interrupt: InterruptHandle,
    /// Flags and deadlines travel both ways.
    pub(crate) tags: bool,
    pub(crate) max_request_size: usize,
    /// Makes this client's deadlines differ from those of other clients.
    salt: u64,
    owner: Owner,
    #[cfg(not(loom))]
    pub(super) server_watch: ServerWatch,
}

/// The request buffer's writer, and the state of its users.
pub(crate) struct Sender {
    pub(crate) slot: WriterSlot,
    /// Threads that wait for the writer.
    pub(crate) waiting: usize,
    /// Sequence number of the next request.
    pub(crate) next: u64,
    /// Requests to withdraw as soon as the writer is back.
    pub(crate) withdrawn: Vec<Place>,
    /// The client is closed, or being closed.
    pub(crate) closed: bool,
    /// The response buffer's reader has been closed.
    reader_closed: bool,
}

/// The writer, or which thread has it.
pub(crate) enum WriterSlot {
    Free(Box<Writer>),
    /// A thread sends with it, and puts it back soon, or when it is interrupted.
    Sending,
    /// A thread fills a request in place with it. The marker withdraws requests meanwhile.
    Lent {
        thread: ThreadId,
        marker: Option<Marker>,
    },
    /// The client is closed.
    Gone,
}

impl Sender {
    /// Takes the writer out, if it is free.
    pub(crate) fn take(&mut self) -> Option<Box<Writer>> {
        match std::mem::replace(&mut self.slot, WriterSlot::Sending) {
            WriterSlot::Free(writer) => Some(writer),
            other => {
                self.slot = other;
                None
            }
        }
    }

    /// Withdraws the requests that waited for the writer.
    pub(crate) fn withdraw_with(&mut self, writer: &mut Writer) {
        self.withdrawn.drain(..).for_each(|place| _ = writer.cancel(place));
    }
}

impl ClientState {
    pub(crate) fn new(channel: &str, writer: Writer, reader: Reader) -> Result<Arc<ClientState>> {
        due::set_clock();
        let never_spins = reader.never_spins();
        let server = writer.reader_watch()?;
        Ok(Arc::new_cyclic(|own| ClientState {
            server,
            channel: channel.into(),
            sender_changed: Condvar::new(),
            reader_interrupt: reader.interrupt_handle(),
            writer_interrupt: writer.interrupt_handle(),
            tags: writer.carries_tags(),
            max_request_size: writer.max_frame_size(),
            salt: Due::salt(),
            owner: Owner::this_process(),
            sender: Mutex::new(Sender {
                slot: WriterSlot::Free(Box::new(writer)),
                waiting: 0,
                next: 1,
                withdrawn: Vec::new(),
                closed: false,
                reader_closed: false,
            }),
            reader: TryMutex::new(Some(Box::new(reader))),
            inbox: Mutex::default(),
            following: AtomicU64::new(0),
            turns: Turns::new(never_spins),
            over: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            #[cfg(not(loom))]
            wants_descriptor: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            #[cfg(not(loom))]
            server_watch: ServerWatch::new(Weak::clone(own)),
        }))
    }

    pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::channel(kind, &self.channel, message)
    }

    /// The error of a request without an outcome to wait for.
    pub(crate) fn no_response_expected(&self, sequence: u64) -> Error {
        let message = format!(
            "request {sequence} has no response to wait for: it was never sent, or its response was fetched"
        );
        self.error(ErrorKind::InvalidState, message).of_request(sequence)
    }

    /// The error of a request that was not answered in time.
    pub(crate) fn too_late(&self, sequence: u64) -> Error {
        let message = format!(
            "request {sequence} was not answered by its deadline: allow more time, or let the server work with a thread pool"
        );
        self.error(ErrorKind::DeadlineExceeded, message).of_request(sequence)
    }

    /// The deadline `timeout` from now, in the form that this client's requests carry.
    pub(crate) fn due(&self, timeout: Duration) -> Due {
        Due::after(timeout).salted(self.salt)
    }

    /// The deadline `timeout` from now, where the coarse clock has just been read.
    pub(crate) fn due_from(&self, coarse_now: u64, timeout: Duration) -> Due {
        Due::from(coarse_now, timeout).salted(self.salt)
    }

    /// Fails in a forked child.
    #[inline]
    pub(crate) fn check_mine(&self) -> Result<()> {
        self.owner.check(&self.channel, "client")
    }

    /// Whether the channel has ended.
    pub(crate) fn is_over(&self) -> bool {
        // Acquire pairs with the Release in end().
        self.over.load(Ordering::Acquire)
    }

    /// Fails with the reason why the channel has ended, if it has.
    pub(crate) fn check_end(&self) -> Result<()> {
        if !self.is_over() {
            return Ok(());
        }
        match &lock(&self.inbox).ended {
            Some(end) => Err(self.end_error(end)),
            None => Ok(()),
        }
    }

    /// The error of every call after the end.
    pub(crate) fn end_error(&self, end: &End) -> Error {
        self.error(end.kind, end.message.clone())
    }

    /// Whether the server no longer has the request buffer.
    pub(crate) fn server_is_gone(&self) -> bool {
        !self.server.is_reader_connected()
    }

    /// Ends the channel for all callers that wait, unless it has ended before. Returns the wakers of tasks,
    /// for [`wake_all`].
    #[must_use]
    pub(crate) fn end(&self, kind: ErrorKind, message: impl Into<String>) -> Wakers {
        let mut inbox = lock(&self.inbox);
        if inbox.ended.is_none() {
            inbox.ended = Some(End { kind, message: message.into() });
        }
        self.over.store(true, Ordering::Release);
        inbox.wake_followers();
        self.ring_descriptor();
        #[cfg(feature = "async")]
        let (tasks, reader) = inbox.take_all_tasks();
        #[cfg(not(feature = "async"))]
        let tasks = vec![];
        drop(inbox);
        // A thread that looked before, and is about to wait for the writer, holds this lock until it waits.
        drop(lock(&self.sender));
        self.sender_changed.notify_all();
        #[cfg(feature = "async")]
        reader.inspect(std::thread::Thread::unpark);
        tasks
    }

    /// Whether an event loop polls this client.
    #[inline]
    pub(crate) fn has_descriptor(&self) -> bool {
        self.reader_interrupt.has_descriptor()
    }

    /// Makes the descriptor ready, if there is one: there may be an outcome.
    pub(crate) fn ring_descriptor(&self) {
        self.reader_interrupt.ring_descriptor();
    }

    /// Makes the leader look at the inbox.
    pub(crate) fn wake_leader(&self) {
        self.reader_interrupt.interrupt();
    }

    /// Makes the thread that waits for space look at the inbox.
    pub(crate) fn wake_sender(&self) {
        self.writer_interrupt.interrupt();
    }

    /// Ends all calls with `Closed`, and gives both buffers up.
    pub(crate) fn close(&self) {
        if self.check_mine().is_err() || std::mem::replace(&mut lock(&self.sender).closed, true) {
            return;
        }
        #[cfg(not(loom))]
        self.server_watch.end();
        wake_all(self.end(ErrorKind::Closed, "the client has been closed"));
        // The response buffer is given up first, so that a process that finds the writer's role free also
        // finds the response buffer's name free.
        self.close_reader();
        let entries = std::mem::take(&mut lock(&self.inbox).entries);
        drop(entries);
        self.wake_sender();
        let mut sender = lock(&self.sender);
        if let Some(writer) = sender.take() {
            drop(sender);
            drop(writer);
            lock(&self.sender).slot = WriterSlot::Gone;
            return;
        }
        // If a request stays acquired, its guard closes the writer when it is dropped.
        let until = Instant::now() + CLOSE_PATIENCE;
        while matches!(sender.slot, WriterSlot::Sending) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            sender = wait(&self.sender_changed, sender, left);
        }
    }

    /// Closes the reader, or has the leader do so.
    fn close_reader(&self) {
        // A leader that gives up the reader sees this change, or has given it up before the attempt to lock
        // (see the drop of Leading).
        let inbox = lock(&self.inbox);
        self.closing.store(true, Ordering::Relaxed);
        self.following.fetch_add(1, Ordering::AcqRel);
        drop(inbox);
        self.wake_leader();
        if let Some(reader) = try_lock(&self.reader).and_then(|mut reader| reader.take()) {
            drop(reader);
            return;
        }
        // A leader has the reader, or has taken it out and is closing it.
        let until = Instant::now() + CLOSE_PATIENCE;
        let mut sender = lock(&self.sender);
        while !sender.reader_closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            sender = wait(&self.sender_changed, sender, left);
        }
    }

    /// Closes the reader if the client is being closed. For a leader that has given up the reader and has
    /// seen that others wait.
    pub(crate) fn close_reader_if_closing(&self) {
        // Relaxed: the lock on the inbox, which the caller has taken since it gave up the reader, orders
        // this.
        if !self.closing.load(Ordering::Relaxed) {
            return;
        }
        let Some(mut reader) = try_lock(&self.reader) else { return };
        let taken = reader.take();
        drop(reader);
        drop(taken);
        lock(&self.sender).reader_closed = true;
        self.sender_changed.notify_all();
    }
}

/// Tasks to wake.
#[cfg(feature = "async")]
pub(crate) type Wakers = Vec<std::task::Waker>;
/// Tasks to wake: there are none.
#[cfg(not(feature = "async"))]
pub(crate) type Wakers = Vec<std::convert::Infallible>;

/// Wakes tasks. Must be called without a lock: a waker is user code, and may panic.
pub(crate) fn wake_all(wakers: Wakers) {
    #[cfg(feature = "async")]
    for waker in wakers {
        let wake = std::panic::AssertUnwindSafe(|| waker.wake());
        if std::panic::catch_unwind(wake).is_err() {
            log::warn!("a waker panicked");
        }
    }
    #[cfg(not(feature = "async"))]
    drop(wakers);
}
