//! A server's run, from its start to its stop: the thread that reads requests, and the state that it shares
//! with other threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use super::answer::{Address, Answer};
use super::request::Request;
use super::send::{AnswerSender, Lent, Names};
use crate::buffer::InterruptHandle;
use crate::config::BufferConfig;
use crate::duplex::due::{self, Due};
use crate::duplex::sync::{Condvar, Mutex, lock, wait};
use crate::duplex::turns::Turns;
use crate::error::{Error, ErrorKind, Result};
use crate::reader::Reader;
use crate::sync::{AtomicBool, AtomicU64, Ordering};

/// How long a stop waits for a handler.
const STOP_PATIENCE: Duration = Duration::from_millis(80);

const STOP_LOOK: Duration = Duration::from_millis(10);

/// How long a stop waits for threads that run no handler.
const THREAD_PATIENCE: Duration = Duration::from_secs(5);

/// Pause before a request buffer that failed is created again.
const RENEW_PAUSE: Duration = Duration::from_millis(20);

type OnError = dyn Fn(&Error) + Send + Sync;
type OnInit = dyn Fn(&[u8]) + Send + Sync;

/// The user's callbacks.
#[derive(Default)]
pub(crate) struct Callbacks {
    error: Mutex<Option<Arc<OnError>>>,
    init: Mutex<Option<Arc<OnInit>>>,
    has_init: AtomicBool,
}

impl Callbacks {
    pub(crate) fn set_error(&self, callback: Arc<OnError>) {
        // The old callback is dropped without the lock, because dropping it runs user code.
        let before = lock(&self.error).replace(callback);
        drop(before);
    }

    pub(crate) fn set_init(&self, callback: Arc<OnInit>) {
        let before = lock(&self.init).replace(callback);
        self.has_init.store(true, Ordering::Release);
        drop(before);
    }
}

/// What the reading thread knows about the client.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reading {
    /// Its number; 0 = none yet.
    client: u64,
    /// `on_init` has been called for it.
    described: bool,
}

/// The function that processes a request.
pub(crate) type Job = Arc<dyn Fn(&Run, Request, Address) + Send + Sync>;

pub(crate) struct Run {
    me: Weak<Run>,
    pub(crate) names: Arc<Names>,
    config: BufferConfig,
    callbacks: Arc<Callbacks>,
    answers: AnswerSender,
    /// `None` after the end. Locked while a thread reads, never while a handler runs, so that a stop can free
    /// the buffer's name although a handler is busy.
    requests: Mutex<Option<Reader>>,
    requests_interrupt: Mutex<InterruptHandle>,
    /// How long the reading thread takes turns instead of sleeping while other threads work.
    turns: Turns,
    /// The number of the user's functions that are running.
    handlers: AtomicU64,
    /// One thread runs all handlers.
    single: bool,
    /// Deferred answers that have not been given.
    deferred: AtomicU64,
    threads: Mutex<Vec<ThreadId>>,
    thread_ended: Condvar,
}

impl Run {
    pub(crate) fn new(
        me: Weak<Run>,
        names: Arc<Names>,
        config: BufferConfig,
        callbacks: Arc<Callbacks>,
        requests: Reader,
        single: bool,
    ) -> Run {
        due::set_clock();
        let never_spins = requests.never_spins();
        Run {
            me,
            answers: AnswerSender::new(Arc::clone(&names)),
            names,
            config,
            callbacks,
            requests_interrupt: Mutex::new(requests.interrupt_handle()),
            requests: Mutex::new(Some(requests)),
            turns: Turns::new(never_spins),
            handlers: AtomicU64::new(0),
            single,
            deferred: AtomicU64::new(0),
            threads: Mutex::default(),
            thread_ended: Condvar::new(),
        }
    }

    /// Starts a thread of this run.
    pub(crate) fn spawn(self: &Arc<Run>, body: impl FnOnce(&Arc<Run>) + Send + 'static) -> Result<()> {
        let run = Arc::clone(self);
        // The thread that starts it enters it, so that a stop never overlooks it.
        let mut threads = lock(&self.threads);
        let thread = std::thread::Builder::new().name("zb-duplex".into()).spawn(move || {
            let _end = EndOfThread(&run);
            body(&run);
        });
        match thread {
            Ok(thread) => {
                threads.push(thread.thread().id());
                Ok(())
            }
            Err(error) => Err(Error::os(&self.names.channel, "start a thread", error)),
        }
    }

    /// The run, for objects that may outlive the handler.
    pub(crate) fn shared(&self) -> Option<Arc<Run>> {
        self.me.upgrade()
    }

    /// The channel's name.
    pub(crate) fn channel(&self) -> &str {
        &self.names.channel
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.answers.is_stopping()
    }

    /// Whether requests are being read.
    pub(crate) fn is_running(&self) -> bool {
        !self.is_stopping() && !lock(&self.threads).is_empty()
    }

    /// Reads requests until the end, and passes each to `hand_on`.
    pub(crate) fn read(&self, mut hand_on: impl FnMut(Request, Address)) {
        let mut reading = Reading::default();
        while let Some((request, to)) = self.read_one(&mut reading, false) {
            hand_on(request, to);
        }
    }

    /// Waits for the next request; returns `None` at the end. `crowded` says whether other threads of the
    /// server work meanwhile.
    pub(crate) fn read_one(&self, reading: &mut Reading, crowded: bool) -> Option<(Request, Address)> {
        loop {
            let mut requests = lock(&self.requests);
            let reader = requests.as_mut()?;
            reader.set_crowded(crowded);
            let began = crowded.then(|| self.take_turns(reader));
            let error = match reader.read_frame(Duration::MAX) {
                Ok(Some(frame)) => {
                    if let Some(began) = began {
                        self.turns.learn(began.elapsed(), frame.len());
                    }
                    let mut trouble = Ok(());
                    // Every client begins at 1.
                    if frame.sequence() == 1 || reading.client == 0 {
                        (reading.client, trouble) = self.answers.begin_client(reader, frame.sequence());
                        reading.described = false;
                    }
                    let metadata = if reading.described { None } else { self.metadata_of(reader) };
                    drop(requests);
                    if let Err(error) = trouble {
                        self.report(&error);
                    }
                    if let Some(metadata) = metadata {
                        reading.described = true;
                        self.init(&metadata);
                    }
                    let to = Address {
                        client: reading.client,
                        sequence: frame.sequence(),
                        mark: frame.deadline(),
                    };
                    return Some((Request::new(frame), to));
                }
                Ok(None) => continue,
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::Interrupted if self.is_stopping() => return None,
                ErrorKind::Interrupted => {}
                ErrorKind::WriterClosed | ErrorKind::WriterDead => {
                    drop(requests);
                    reading.client = 0;
                    if error.kind() == ErrorKind::WriterDead {
                        self.answers.end_dead_client();
                    } else {
                        self.answers.end_client();
                    }
                    if error.kind() == ErrorKind::WriterDead {
                        let message = "the client died; the server waits for the next one";
                        self.report(&Error::channel(ErrorKind::WriterDead, &self.names.channel, message));
                    }
                }
                _ => {
                    // The buffer cannot be read any more. Its client must notice, and the next client must
                    // find a sound buffer.
                    let renewed = self.renew(&mut requests);
                    drop(requests);
                    reading.client = 0;
                    self.answers.end_client();
                    self.report(&error);
                    if let Err(error) = renewed {
                        self.report(&error);
                        return None;
                    }
                }
            }
        }
    }

    /// Yields to threads that may handle a request on this processor: when they are done, the client can send
    /// its next request. Returns the time at which the wait began.
    fn take_turns(&self, reader: &Reader) -> Instant {
        let began = Instant::now();
        let turns = self.turns.of_this_wait(1);
        while reader.is_quiet() && !self.is_stopping() && began.elapsed() < turns {
            std::thread::yield_now();
        }
        began
    }

    /// Returns whether to start a request. If not, answers it, unless no caller waits for it.
    pub(crate) fn admits(&self, request: &Request, to: Address) -> bool {
        if self.is_stopping() || self.answers.is_gone(to.client) {
            return false;
        }
        if request.is_withdrawn() {
            self.answer(to, &Answer::Withdrawn);
            return false;
        }
        if Due(to.mark).is_over() {
            self.answer(to, &Answer::TooLate);
            return false;
        }
        true
    }

    fn renew(&self, requests: &mut Option<Reader>) -> Result<()> {
        *requests = None;
        std::thread::sleep(RENEW_PAUSE);
        if self.is_stopping() {
            return Ok(());
        }
        let reader = Reader::create(&self.names.requests, self.config.clone())?;
        *lock(&self.requests_interrupt) = reader.interrupt_handle();
        *requests = Some(reader);
        if self.is_stopping() {
            // The stop may have interrupted the old reader.
            *requests = None;
        }
        Ok(())
    }

    fn metadata_of(&self, reader: &Reader) -> Option<Vec<u8>> {
        if !self.callbacks.has_init.load(Ordering::Acquire) {
            return None;
        }
        // Reads it twice, because the next client may be replacing it. If the two differ, the metadata is not
        // this client's.
        let metadata = reader.metadata().ok().flatten()?;
        (reader.metadata().ok().flatten().as_ref() == Some(&metadata)).then_some(metadata)
    }

    fn init(&self, metadata: &[u8]) {
        let callback = lock(&self.callbacks.init).clone();
        if let Some(callback) = callback
            && let Err(words) = self.guard(move || callback(metadata))
        {
            let message = format!("on_init panicked: {words}");
            self.report(&Error::channel(ErrorKind::RequestFailed, &self.names.channel, message));
        }
    }

    /// Reports an error to the user.
    pub(crate) fn report(&self, error: &Error) {
        log::debug!("{error}");
        let callback = lock(&self.callbacks.error).clone();
        if let Some(callback) = callback {
            // A panic of this callback cannot be reported.
            let _ = self.guard(move || callback(error));
        }
    }

    /// Reports a request's failure.
    pub(crate) fn report_failure(&self, sequence: u64, message: &str) {
        let message = format!("the handler failed at request {sequence}: {message}");
        let error = Error::channel(ErrorKind::RequestFailed, &self.names.channel, message);
        self.report(&error.of_request(sequence));
    }

    /// Sends an answer, if its client is still there. Reports a failure to send it.
    pub(crate) fn answer(&self, to: Address, answer: &Answer<'_>) {
        if let Err(error) = self.answers.send(to, answer) {
            self.report(&error.of_request(to.sequence));
        }
    }

    /// Acquires `len` bytes of the response buffer for an answer in place; [`AnswerSender::acquire`]. Returns `None` if other
    /// threads may have to answer meanwhile, too: the handler of this answer would keep them waiting, and perhaps waits for one
    /// of them.
    pub(crate) fn acquire(&self, to: Address, len: usize) -> Result<Option<Lent>> {
        // Acquire pairs with the Release in count_deferred(). A handler of this thread has counted what may come.
        if !self.single || self.deferred.load(Ordering::Acquire) > 0 {
            return Ok(None);
        }
        self.answers.acquire(to, len)
    }

    /// Sends an answer that was filled in place. Reports a failure to send it.
    pub(crate) fn commit(&self, to: Address, lent: Lent, len: usize) {
        if let Err(error) = self.answers.commit(to, lent, len) {
            self.report(&error.of_request(to.sequence));
        }
    }

    /// Takes back what was acquired.
    pub(crate) fn put_back(&self, to: Address, lent: Lent) {
        self.answers.put_back(to, lent.writer);
    }

    /// Fails if an answer of `len` bytes is known to be too large.
    pub(crate) fn check_size(&self, len: usize) -> Result<()> {
        self.answers.check_size(len)
    }

    /// Counts one more deferred answer, or one that was given.
    pub(crate) fn count_deferred(&self, given: bool) {
        // Release pairs with the Acquire in acquire(): who finds none any more finds the writer put back.
        match given {
            false => self.deferred.fetch_add(1, Ordering::Release),
            true => self.deferred.fetch_sub(1, Ordering::Release),
        };
    }

    /// Ends the run and gives up both buffers at once. Returns `HandlerBusy` if a handler still runs after a
    /// while.
    pub(crate) fn stop(&self) -> Result<()> {
        self.answers.stop();
        lock(&self.requests_interrupt).interrupt();
        let reader = lock(&self.requests).take();
        drop(reader);
        self.answers.end_client();
        let own = std::thread::current().id();
        let start = Instant::now();
        let mut threads = lock(&self.threads);
        while !threads.is_empty() && !threads.contains(&own) {
            let busy = self.handlers.load(Ordering::Relaxed) > 0;
            let patience = if busy { STOP_PATIENCE } else { THREAD_PATIENCE };
            if start.elapsed() < patience {
                threads = wait(&self.thread_ended, threads, STOP_LOOK);
                continue;
            }
            let message = "a handler is still running; no other request is started, the buffers are given up, and the \
                           server ends when the handler returns (it can ask is_cancelled())";
            return Err(Error::channel(ErrorKind::HandlerBusy, &self.names.channel, message));
        }
        Ok(())
    }

    /// Waits up to `timeout` until no thread of this run is left. Returns whether that is so; on a thread of
    /// the run it is never so.
    pub(crate) fn wait(&self, timeout: Duration) -> bool {
        let until = Due::after(timeout);
        let own = std::thread::current().id();
        let mut threads = lock(&self.threads);
        while !threads.is_empty() {
            let left = until.left().filter(|_| !threads.contains(&own));
            let Some(left) = left else { return false };
            threads = wait(&self.thread_ended, threads, left);
        }
        true
    }

    /// Runs a function of the user. Turns a panic into its message.
    pub(crate) fn guard<T>(&self, function: impl FnOnce() -> T) -> std::result::Result<T, String> {
        // Relaxed: only a stop reads the count, to tell a busy handler from a slow machine. With one thread,
        // plain stores save two locked instructions between a request and its response.
        let running = match self.single {
            true => {
                let running = self.handlers.load(Ordering::Relaxed);
                self.handlers.store(running + 1, Ordering::Relaxed);
                running
            }
            false => self.handlers.fetch_add(1, Ordering::Relaxed),
        };
        let result = catch_unwind(AssertUnwindSafe(function));
        match self.single {
            // A nested function, such as on_error within a handler, leaves the outer one counted.
            true => self.handlers.store(running, Ordering::Relaxed),
            false => _ = self.handlers.fetch_sub(1, Ordering::Relaxed),
        }
        result.map_err(|panic| panic_message(&*panic))
    }
}

/// Takes a thread off the list, however it ends.
struct EndOfThread<'a>(&'a Run);

impl Drop for EndOfThread<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Perhaps no other thread sends answers, and clients must not wait for this one.
            let _ = self.0.stop();
            let message = "a thread of the server panicked, and the server has stopped";
            self.0.report(&Error::channel(ErrorKind::InvalidState, &self.0.names.channel, message));
        }
        let own = std::thread::current().id();
        lock(&self.0.threads).retain(|id| *id != own);
        self.0.thread_ended.notify_all();
    }
}

pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "the handler panicked".to_owned(),
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::duplex::{DuplexChannelFactory, ProcessingMode};

    fn run(what: &str) -> Arc<Run> {
        let channel = format!("unit-run-{what}-{}", std::process::id());
        let names = Names {
            requests: format!("{channel}_request").into(),
            responses: format!("{channel}_response").into(),
            channel: channel.into(),
        };
        let reader = Reader::create(&names.requests, BufferConfig::default()).unwrap();
        let (names, config) = (Arc::new(names), BufferConfig::default());
        Arc::new_cyclic(|me| Run::new(me.clone(), names, config, Arc::default(), reader, false))
    }

    #[test]
    fn a_stop_waits_longer_for_a_thread_that_runs_no_handler() {
        let run = run("patience");
        let (go, told) = channel::<()>();
        run.spawn(move |_| _ = told.recv()).unwrap();
        std::thread::scope(|scope| {
            let stop = scope.spawn(|| run.stop());
            while !run.is_stopping() {
                std::thread::yield_now();
            }
            // For as long as a stop waits for a handler, and a little longer.
            std::thread::sleep(STOP_PATIENCE * 2);
            go.send(()).unwrap();
            stop.join().unwrap().expect("no handler is busy");
        });
    }

    #[test]
    fn a_server_that_was_stopped_while_its_handler_is_busy_no_longer_runs() {
        let run = run("busy");
        assert!(!run.is_running(), "no thread reads");
        let (go, told) = channel::<()>();
        run.spawn(move |run| _ = run.guard(|| told.recv())).unwrap();
        assert!(run.is_running());
        assert_eq!(run.stop().unwrap_err().kind(), ErrorKind::HandlerBusy);
        assert!(!run.is_running(), "it starts no other request");
        go.send(()).unwrap();
        assert!(run.wait(THREAD_PATIENCE));
    }

    #[test]
    fn each_client_is_described_to_the_server() {
        let channel_name = format!("unit-run-described-{}", std::process::id());
        let factory = DuplexChannelFactory::new();
        let server = factory.create_immutable_server(&channel_name, BufferConfig::default()).unwrap();
        let (tell, told) = channel();
        server.on_init(move |metadata| tell.send(metadata.to_vec()).unwrap());
        server.start(|request| Ok((&**request).into()), ProcessingMode::SingleThread).unwrap();
        for name in [b"first", b"other"] {
            let client = factory.create_client(&channel_name).unwrap();
            client.set_metadata(name).unwrap();
            client.call(b"x", Duration::from_secs(30)).unwrap();
            assert_eq!(told.try_recv().as_deref(), Ok(&name[..]), "before the request is handled");
        }
        server.stop().unwrap();
    }
}
