//! The threads that make descriptors ready where the other side cannot: where it only woke the bell, because it cannot open
//! the FIFO; where it posts a semaphore; and where a wake-up was lost with a process that died.
//!
//! One thread serves up to [`MOST`] descriptors. It sleeps without a limit while nothing happens, and ends with the last of
//! its descriptors. A forked child starts its own.
//!
//! UNSAFE: a list of listeners that a forked child leaves behind.
#![allow(unsafe_code)]

use std::sync::atomic::AtomicPtr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::buffer::{Buffer, HasBuffer, Side};
use crate::descriptor::{Control, Source};
use crate::lifecycle::liveness::{self, ReaderState, WriterState, WriterWords};
use crate::os::{self, WAIT_ANY_MAX, WaitAny};
use crate::second_look;
use crate::sync::{AtomicU32, Ordering, futex_wait, futex_wait_any};
use crate::wait::doorbell;

/// Descriptors of one thread: one word is that of its control.
const MOST: usize = WAIT_ANY_MAX - 1;

/// How often to look where the system cannot wait for several words.
const BY_CLOCK: Duration = Duration::from_millis(20);

/// How often to ask whether the other side of an armed descriptor lives, where the watcher does not tell.
const PEERS: Duration = Duration::from_millis(20);

/// One thread, and the buffers whose descriptors it serves.
struct Listener {
    control: Arc<Control>,
    buffers: Mutex<Vec<Arc<dyn HasBuffer>>>,
    /// How often `buffers` has changed.
    changes: AtomicU32,
}

impl Listener {
    fn buffers(&self) -> MutexGuard<'_, Vec<Arc<dyn HasBuffer>>> {
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the thread look for what has changed.
    fn note_change(&self) {
        // Relaxed: the kick publishes it.
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.control.kick();
    }
}

/// All listeners of one process.
struct Listeners {
    generation: u64,
    all: Mutex<Vec<Arc<Listener>>>,
}

static LISTENERS: AtomicPtr<Listeners> = AtomicPtr::new(std::ptr::null_mut());

impl Listeners {
    /// Those of this process. In a forked child they are new: a thread that is not here may hold the parent's lock.
    fn of_process() -> &'static Listeners {
        let generation = os::fork_generation();
        loop {
            // Acquire pairs with the Release below.
            let now = LISTENERS.load(Ordering::Acquire);
            // SAFETY: null, or a leaked box.
            let known = unsafe { now.as_ref() };
            if let Some(known) = known.filter(|known| known.generation == generation) {
                return known;
            }
            let new = Box::new(Listeners { generation, all: Mutex::new(Vec::new()) });
            let new = Box::into_raw(new);
            if LISTENERS.compare_exchange(now, new, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                // SAFETY: made above, and no other thread has seen it.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Listener>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds a listener for `buffer`, whose descriptor `make` makes. The listener looks at it from then on.
pub(crate) fn register(
    buffer: &Arc<dyn HasBuffer>,
    make: impl FnOnce(Weak<dyn HasBuffer>, Arc<Control>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    second_look::start()?;
    let mut all = Listeners::of_process().all();
    let listener = match all.iter().find(|listener| listener.buffers().len() < MOST) {
        Some(listener) => Arc::clone(listener),
        None => {
            let control = Arc::new(Control::new());
            let listener =
                Arc::new(Listener { control, buffers: Mutex::default(), changes: AtomicU32::new(0) });
            // It finds a buffer when it first looks, as it needs the lock of `all` to end.
            let own = Arc::clone(&listener);
            os::spawn_background("zb-descriptors", move || serve(&own))?;
            all.push(Arc::clone(&listener));
            listener
        }
    };
    let made = make(Arc::downgrade(buffer), Arc::clone(&listener.control));
    if made.is_ok() {
        listener.buffers().push(Arc::clone(buffer));
    }
    drop(all);
    listener.note_change();
    made
}

/// The descriptor of `buffer` is about to close.
pub(crate) fn forget(buffer: &Buffer) {
    let all = Listeners::of_process().all();
    for listener in all.iter() {
        let mut buffers = listener.buffers();
        if let Some(at) = buffers.iter().position(|other| std::ptr::eq(other.buffer(), buffer)) {
            // Dropped without the lock: the last owner unmaps the buffer.
            let gone = buffers.swap_remove(at);
            drop(buffers);
            listener.note_change();
            drop(all);
            drop(gone);
            return;
        }
    }
}

/// Whether the listener of this thread has nothing to serve, and ends.
fn ends(listener: &Arc<Listener>) -> bool {
    let mut all = Listeners::of_process().all();
    let ends = listener.buffers().is_empty();
    if ends {
        all.retain(|other| !Arc::ptr_eq(other, listener));
    }
    ends
}

/// What a listener's thread knows about one descriptor.
struct Book {
    buffer: Arc<dyn HasBuffer>,
    /// What to sleep on.
    listen: Listen,
    /// Outputs through which frames are lent, and what their doorbells say.
    outputs: Vec<Arc<Buffer>>,
    loans: Vec<u32>,
    /// The bell that it rang for last.
    rung: u32,
}

enum Listen {
    Nothing,
    /// The bell, with this value.
    Bell(u32),
    /// The semaphore, at 0.
    Semaphore,
}

impl Book {
    fn new(buffer: Arc<dyn HasBuffer>) -> Book {
        Book { buffer, listen: Listen::Nothing, outputs: Vec::new(), loans: Vec::new(), rung: 0 }
    }

    fn word(&self) -> Option<(&AtomicU32, u32)> {
        let buffer = self.buffer.buffer();
        match self.listen {
            Listen::Nothing => None,
            Listen::Bell(bell) => Some((buffer.doorbell(), bell)),
            Listen::Semaphore => Some((buffer.own_semaphore().count(), 0)),
        }
    }

    /// The doorbells of what is lent.
    fn loans(&self) -> impl Iterator<Item = (&AtomicU32, u32)> {
        let lines = self.outputs.iter().filter_map(|output| output.loans_line());
        lines.zip(&self.loans).map(|(line, bell)| (&line.bell, *bell))
    }

    /// Rings if a borrower has rung, or something that was lent has come back. Returns for how long to sleep at most.
    fn serve_loans(&mut self) -> Duration {
        self.outputs.clear();
        let told = self.buffer.add_outputs(&mut self.outputs);
        self.loans.clear();
        // Acquire pairs with the borrower's read-modify-write: what it gave back before is seen below.
        let lines = self.outputs.iter().filter_map(|output| output.loans_line());
        self.loans.extend(lines.map(|line| line.bell.load(Ordering::Acquire)));
        // The owner arms a doorbell again that has rung, whether a loan has ended or not. Another lender may have set it last, and for a sleep.
        let mut bells = self.outputs.iter().zip(&self.loans);
        let is_rung = bells.any(|(output, bell)| bell & doorbell::SLEEPING == 0 && !output.has_left());
        if let Some(descriptor) = self.buffer.buffer().descriptor()
            && (is_rung || self.buffer.has_returned())
        {
            descriptor.make_ready();
        }
        // Behind the look at their doorbells: a writer that closes after this changes what they say.
        let owned = !self.outputs.iter().any(|output| output.has_left());
        if told && owned { Duration::MAX } else { PEERS }
    }

    /// Rings what is to be rung.
    fn serve(&mut self) {
        self.listen = Listen::Nothing;
        let buffer = self.buffer.buffer();
        let Some(descriptor) = buffer.descriptor() else { return };
        let (arming, source) = descriptor.armings();
        match source {
            Source::None => {}
            Source::Bell => {
                // Acquire pairs with the publisher's read-modify-write.
                let bell = buffer.doorbell().load(Ordering::Acquire);
                // The publisher has cleared the bit: it has rung or woken, or died before it could.
                if doorbell::is_rung(bell) && bell != self.rung {
                    self.rung = bell;
                    descriptor.ring();
                }
                self.listen = Listen::Bell(bell);
            }
            Source::Semaphore => {
                // Acquire: a look behind this one sees what was posted for.
                if descriptor.rung_for(arming) {
                } else if buffer.own_semaphore().count().load(Ordering::Acquire) != 0 {
                    descriptor.ring_for(arming);
                } else {
                    self.listen = Listen::Semaphore;
                }
            }
        }
    }

    /// Rings if the other side lived when the descriptor was armed, and does no longer. Returns how long to sleep at most.
    fn ask_for_peer(&self) -> Duration {
        let buffer = self.buffer.buffer();
        match buffer.descriptor() {
            Some(descriptor) if descriptor.peer_lived() => {
                if !peer_lives(buffer, descriptor.view()) {
                    descriptor.make_ready();
                }
                PEERS
            }
            _ => Duration::MAX,
        }
    }
}

/// Whether the other side lives, as far as can be told.
fn peer_lives(buffer: &Buffer, view: &os::LockView) -> bool {
    let oieb = buffer.mapping.oieb();
    match buffer.side() {
        Side::Reader => {
            let state = liveness::writer_state(|| Ok(WriterWords::load(oieb)), view);
            state.map_or(true, |state| matches!(state, WriterState::Alive(_)))
        }
        Side::Writer => {
            let state = liveness::reader_state(|| Ok(liveness::reader_words(oieb)), view);
            state.map_or(true, |state| state == ReaderState::Alive)
        }
    }
}

/// Serves the descriptors of a listener until there are none.
fn serve(listener: &Arc<Listener>) {
    let control = &listener.control;
    let mut books: Vec<Book> = Vec::new();
    let mut adopted = None;
    loop {
        // Acquire pairs with the Release in kick(): what was changed before is seen.
        let kicks = control.word().load(Ordering::Acquire);
        // Relaxed: note_change() adds before its kick, which was acquired above.
        let changes = listener.changes.load(Ordering::Relaxed);
        if adopted != Some(changes) {
            adopted = Some(changes);
            adopt(listener, &mut books);
        }
        if books.is_empty() && ends(listener) {
            return;
        }
        books.iter_mut().for_each(Book::serve);
        let loans = books.iter_mut().map(Book::serve_loans).min().unwrap_or(Duration::MAX);
        let mut limit = books.iter().map(Book::ask_for_peer).min().unwrap_or(loans).min(loans);
        let mut words = [(control.word(), kicks); WAIT_ANY_MAX];
        let mut count = 1;
        for word in books.iter().filter_map(Book::word).chain(books.iter().flat_map(Book::loans)) {
            match words.get_mut(count) {
                Some(place) => *place = word,
                // Each descriptor has a word, so this is a doorbell of loans.
                None => limit = limit.min(BY_CLOCK),
            }
            count += 1;
        }
        let count = count.min(WAIT_ANY_MAX);
        if futex_wait_any(&words[..count], limit) == WaitAny::NotOffered {
            futex_wait(control.word(), kicks, limit.min(BY_CLOCK));
        }
    }
}

/// Brings the books up to date with the descriptors that have come and gone.
fn adopt(listener: &Listener, books: &mut Vec<Book>) {
    let buffers = listener.buffers().clone();
    books.retain(|book| buffers.iter().any(|buffer| is_same(buffer, &book.buffer)));
    for buffer in buffers {
        if !books.iter().any(|book| is_same(&buffer, &book.buffer)) {
            books.push(Book::new(buffer));
        }
    }
}

fn is_same(one: &Arc<dyn HasBuffer>, other: &Arc<dyn HasBuffer>) -> bool {
    std::ptr::eq(one.buffer(), other.buffer())
}
