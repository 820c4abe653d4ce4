//! What a client and its request buffers share: both buffers, and the requests under way.
//!
//! Three locks, none of which is held while one waits for a peer that another thread needs it for: `sender` for a step
//! that does not wait (who must wait for space takes the writer out), `inbox` for the books, and `reader`, which is held
//! by the one who reads and which nobody else ever waits for but to close. Order: sender, inbox.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Condvar, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::due::Due;
use super::inbox::{Inbox, Leading};
use super::turns::Turns;
use super::{lock, wait};
use crate::error::{Error, ErrorKind, Result};
use crate::os;
use crate::reader::{InterruptHandle, Reader};
use crate::ring::Place;
use crate::ring::extended::Marker;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::writer::{ReaderWatch, Writer};

/// What they are told whose server has gone.
pub(crate) const GONE: &str = "the server has stopped, or died; create a new client when there is one";

/// How long closing waits for a call that has the writer, and has been interrupted.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

pub(crate) struct Link {
    pub(crate) channel: Box<str>,
    pub(crate) sender: Mutex<Sender>,
    /// The writer is back, or the channel has ended.
    pub(crate) writer_free: Condvar,
    /// Whoever has it leads; `None` after the close.
    pub(crate) reader: Mutex<Option<Box<Reader>>>,
    pub(crate) inbox: Mutex<Inbox>,
    /// Length of `inbox.followers`, to be seen without the lock.
    pub(crate) following: AtomicU64,
    /// For how long those who wait do not sleep.
    pub(crate) turns: Turns,
    /// `inbox.ended` is set.
    over: AtomicBool,
    /// Closed by the very thread that reads, which gives the reader up when it lets go of it.
    pub(crate) reader_left: AtomicBool,
    /// Tells whether the server lives, and withdraws requests, while somebody fills one.
    server: ReaderWatch,
    reader_interrupt: InterruptHandle,
    writer_interrupt: InterruptHandle,
    /// Flags and deadlines reach the server, and come back from it.
    pub(crate) tags: bool,
    /// Tells this client's deadlines from those of others.
    salt: u64,
    generation: u64,
}

pub(crate) struct Sender {
    /// `None` while somebody waits for space with it or fills it in place, and after the close.
    pub(crate) writer: Option<Box<Writer>>,
    /// Somebody has the writer, and will put it back when it is interrupted.
    pub(crate) is_waiting_for_space: bool,
    /// The thread that has acquired a request buffer, and so the writer; and what withdraws requests meanwhile.
    pub(crate) acquired: Option<(ThreadId, Option<Marker>)>,
    /// Threads that wait for the writer.
    pub(crate) waiting: usize,
    /// Sequence number of the next request.
    pub(crate) next: u64,
    /// Requests to withdraw, as soon as the writer is there.
    pub(crate) withdrawn: Vec<Place>,
    pub(crate) closed: bool,
}

impl Sender {
    /// Withdraws what was to be withdrawn, by one who has the writer.
    pub(crate) fn withdraw_with(&mut self, writer: &mut Writer) {
        self.withdrawn.drain(..).for_each(|place| _ = writer.cancel(place));
    }
}

/// Why a channel ended.
#[derive(Clone)]
pub(crate) struct End {
    kind: ErrorKind,
    message: String,
}

impl Link {
    pub(crate) fn new(channel: &str, writer: Writer, reader: Reader) -> Result<Link> {
        let never_spins = reader.never_spins();
        Ok(Link {
            server: writer.reader_watch()?,
            channel: channel.into(),
            writer_free: Condvar::new(),
            reader_interrupt: reader.interrupt_handle(),
            writer_interrupt: writer.interrupt_handle(),
            tags: writer.carries_tags(),
            salt: Due::salt(),
            generation: os::fork_generation(),
            sender: Mutex::new(Sender {
                writer: Some(Box::new(writer)),
                is_waiting_for_space: false,
                acquired: None,
                waiting: 0,
                next: 1,
                withdrawn: Vec::new(),
                closed: false,
            }),
            reader: Mutex::new(Some(Box::new(reader))),
            inbox: Mutex::default(),
            following: AtomicU64::new(0),
            turns: Turns::new(never_spins),
            over: AtomicBool::new(false),
            reader_left: AtomicBool::new(false),
        })
    }

    pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::channel(kind, &self.channel, message)
    }

    /// `timeout` from now, as this client's requests carry it.
    pub(crate) fn due(&self, timeout: Duration) -> Due {
        Due::after(timeout).salted(self.salt)
    }

    /// The same, by one who has just read the coarse clock.
    pub(crate) fn due_from(&self, coarse_now: u64, timeout: Duration) -> Due {
        Due::from(coarse_now, timeout).salted(self.salt)
    }

    /// Refuses to work in a forked child, whose copy of a lock may be held by a thread that is not there.
    pub(crate) fn check_mine(&self) -> Result<()> {
        if self.generation == os::fork_generation() {
            return Ok(());
        }
        Err(self.error(
            ErrorKind::InvalidState,
            "this client belongs to the process that forked this one; create one of your own",
        ))
    }

    /// Whether the channel has ended.
    pub(crate) fn is_over(&self) -> bool {
        // Acquire pairs with the Release in end().
        self.over.load(Ordering::Acquire)
    }

    /// Why the channel has ended, if it has.
    pub(crate) fn check_end(&self) -> Result<()> {
        if !self.is_over() {
            return Ok(());
        }
        match &lock(&self.inbox).ended {
            Some(end) => Err(self.end_error(end)),
            None => Ok(()),
        }
    }

    /// The error of everybody who waits after the end.
    pub(crate) fn end_error(&self, end: &End) -> Error {
        self.error(end.kind, end.message.clone())
    }

    /// Ends the channel for all who wait, unless it has ended before.
    pub(crate) fn end(&self, kind: ErrorKind, message: impl Into<String>) {
        let mut inbox = lock(&self.inbox);
        if inbox.ended.is_none() {
            inbox.ended = Some(End { kind, message: message.into() });
        }
        self.over.store(true, Ordering::Release);
        for follower in &inbox.followers {
            follower.thread.unpark();
        }
        #[cfg(feature = "async")]
        let (tasks, reader) = inbox.all_tasks();
        drop(inbox);
        // Whoever looked before and is about to wait for the writer holds this lock until it waits.
        drop(lock(&self.sender));
        self.writer_free.notify_all();
        #[cfg(feature = "async")]
        {
            tasks.into_iter().for_each(std::task::Waker::wake);
            reader.inspect(std::thread::Thread::unpark);
        }
    }

    /// Whoever reads must look at the state.
    pub(crate) fn wake_leader(&self) {
        self.reader_interrupt.interrupt();
    }

    /// Whoever waits for space must look at the state.
    pub(crate) fn wake_sender(&self) {
        self.writer_interrupt.interrupt();
    }

    /// Withdraws a request from the request buffer, if it is known to be there.
    pub(crate) fn withdraw(&self, place: Option<Place>) {
        let mut sender = lock(&self.sender);
        let Some(place) = place else {
            if sender.is_waiting_for_space {
                // It may be this one that waits: it looks again.
                self.wake_sender();
            }
            return;
        };
        if let Some(writer) = &mut sender.writer {
            writer.cancel(place);
            return;
        }
        if sender.closed {
            return;
        }
        if let Some((_, Some(marker))) = sender.acquired {
            // Nobody commits more than what has been acquired before this lock is let go.
            return self.server.cancel(marker, place);
        }
        sender.withdrawn.push(place);
        drop(sender);
        // Whoever has the writer may be waiting for space behind this very request.
        self.wake_sender();
    }

    pub(crate) fn put_writer_back(&self, mut writer: Box<Writer>) {
        let mut sender = lock(&self.sender);
        sender.withdraw_with(&mut writer);
        sender.acquired = None;
        sender.is_waiting_for_space = false;
        if sender.closed {
            drop(writer);
            self.writer_free.notify_all();
        } else {
            sender.writer = Some(writer);
            if sender.waiting > 0 {
                self.writer_free.notify_one();
            }
        }
    }

    /// Ends all calls with `Closed`, and gives both buffers up.
    pub(crate) fn close(&self) {
        if self.check_mine().is_err() || std::mem::replace(&mut lock(&self.sender).closed, true) {
            return;
        }
        self.end(ErrorKind::Closed, "the client has been closed");
        // The response buffer first: who finds the writer's role free finds the response buffer's name free too.
        self.wake_leader();
        let reader = if Leading::is_mine(self) {
            // By a waker that this thread calls while it reads. Relaxed: only this thread asks, when it lets go.
            self.reader_left.store(true, Ordering::Relaxed);
            None
        } else {
            lock(&self.reader).take()
        };
        let entries = std::mem::take(&mut lock(&self.inbox).entries);
        drop(entries);
        drop(reader);
        self.wake_sender();
        let until = Instant::now() + CLOSE_PATIENCE;
        let mut sender = lock(&self.sender);
        // A request buffer that is kept acquired takes the writer along when it goes.
        while sender.is_waiting_for_space {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            sender = wait(&self.writer_free, sender, left);
        }
        let writer = sender.writer.take();
        drop(sender);
        drop(writer);
    }

    /// Whether the server no longer has the request buffer.
    pub(crate) fn server_is_gone(&self) -> bool {
        !self.server.is_reader_connected()
    }

    /// Becomes the one who reads, if nobody is.
    pub(crate) fn try_lead(&self) -> Option<Leading<'_>> {
        Leading::try_new(self)
    }
}

/// Sequence numbers are consecutive, so one multiplication spreads them well enough (Knuth's golden ratio).
#[derive(Default)]
pub(crate) struct SequenceHasher(u64);

pub(crate) type BySequence<T> = HashMap<u64, T, BuildHasherDefault<SequenceHasher>>;

impl Hasher for SequenceHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte) ^ self.0);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
