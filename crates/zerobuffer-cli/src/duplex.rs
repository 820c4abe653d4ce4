//! `zerobuffer duplex-server` and `zerobuffer duplex-client`: requests and responses, to try out and to measure.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use zerobuffer::duplex::{
    ClientOptions, DuplexChannelFactory, DuplexClient, HandlerError, ImmutableDuplexServer,
    MutableDuplexServer, MutableFrame, ProcessingMode, Reply, Request,
};
use zerobuffer::{Error, ErrorKind};

use crate::args::{DuplexClientArgs, DuplexServerArgs, Handler, Mode, Pattern};
use crate::exit::{self, Failure};
use crate::report::{Latency, Lines, Progress, Report, Tally, complain};
use crate::stop::Stop;
use crate::wait::{self, Deadline};
use crate::{logger, reader};

/// Between two looks of the main thread.
const LOOK: Duration = Duration::from_millis(50);

/// The same while callers work, which may be done soon.
const CALLERS_LOOK: Duration = Duration::from_millis(5);

/// Latencies that are kept: of more calls the last ones.
const LATENCIES: u64 = 1 << 20;

/// Longest sleep of the handler `sleep` between two looks at whether the answer is still wanted.
const NAP: Duration = Duration::from_millis(2);

/// What the handlers count.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    bytes: AtomicU64,
    largest: AtomicU64,
    errors: AtomicU64,
    causes: Mutex<Vec<String>>,
}

/// Causes that are told in the report.
const CAUSES: usize = 10;

/// Keeps an error for the report, one of the first few.
fn keep(causes: &mut Vec<String>, error: &Error) {
    if causes.len() < CAUSES {
        causes.push(error.to_string());
    }
}

impl Counts {
    fn count(&self, len: usize) {
        // Relaxed: only for the display.
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        self.largest.fetch_max(len as u64, Ordering::Relaxed);
    }
}

pub(crate) fn run_server(args: &DuplexServerArgs) -> u8 {
    logger::install(args.report.verbose);
    let counts = Arc::new(Counts::default());
    let mut report = Report {
        operation: "duplex-server",
        channel_name: Some(args.name.clone()),
        handler: Some(args.handler.name()),
        ..Report::default()
    };
    let start = Instant::now();
    let result = serve(args, &counts);
    report.requests = Some(counts.requests.load(Ordering::Relaxed));
    report.request_errors = Some(counts.errors.load(Ordering::Relaxed));
    report.errors = std::mem::take(&mut counts.causes.lock().unwrap_or_else(PoisonError::into_inner));
    report.bytes = counts.bytes.load(Ordering::Relaxed);
    report.frame_size = counts.largest.load(Ordering::Relaxed);
    report.timed(start.elapsed());
    report.finish(result, args.report, false)
}

/// Either kind of server.
enum Server {
    Immutable(ImmutableDuplexServer),
    Mutable(MutableDuplexServer),
}

impl Server {
    fn stop(&self) -> zerobuffer::Result<()> {
        match self {
            Server::Immutable(server) => server.stop(),
            Server::Mutable(server) => server.stop(),
        }
    }

    fn is_running(&self) -> bool {
        match self {
            Server::Immutable(server) => server.is_running(),
            Server::Mutable(server) => server.is_running(),
        }
    }
}

fn serve(args: &DuplexServerArgs, counts: &Arc<Counts>) -> Result<(), Failure> {
    let bad = |message: String| Failure::new(exit::BAD_ARGUMENTS, message);
    let stop = Stop::install().map_err(|error| bad(format!("cannot take over the signals: {error}")))?;
    let failure = |error: Error| Failure::of(&error, exit::duplex_server::CANNOT_CREATE, exit::BAD_ARGUMENTS);
    let server = start_server(args, counts).map_err(failure)?;
    let mut progress = Progress::new("serving", None, args.report, Lines::Timed);
    let mut tally = Tally::default();
    tally.start();
    while stop.sleep(LOOK) && server.is_running() {
        let counted = counts.requests.load(Ordering::Relaxed);
        if counted > tally.frames {
            tally.set(counted, counts.bytes.load(Ordering::Relaxed));
            progress.show(&tally);
        }
    }
    progress.finish();
    if !stop.requested() {
        let message =
            format!("channel `{}`: the server ended; another process has taken its name", args.name);
        return Err(Failure::new(exit::duplex_server::SERVER_ERROR, message));
    }
    match server.stop() {
        Err(error) if error.kind() == ErrorKind::HandlerBusy => complain(&error),
        other => other.map_err(failure)?,
    }
    Err(Failure::Interrupted)
}

fn start_server(args: &DuplexServerArgs, counts: &Arc<Counts>) -> zerobuffer::Result<Server> {
    let factory = DuplexChannelFactory::new();
    let config = reader::config(args.buffer_size, None);
    let mode = match args.mode {
        Mode::SingleThread => ProcessingMode::SingleThread,
        Mode::ThreadPool => ProcessingMode::ThreadPool,
    };
    let on_error = {
        let counts = Arc::clone(counts);
        move |error: &Error| {
            if error.sequence().is_some() {
                counts.errors.fetch_add(1, Ordering::Relaxed);
            }
            keep(&mut counts.causes.lock().unwrap_or_else(PoisonError::into_inner), error);
            complain(error);
        }
    };
    let counts = Arc::clone(counts);
    if args.handler == Handler::Xor {
        let key = args.xor_key;
        let server = factory.create_mutable_server(&args.name, config)?;
        server.on_error(on_error);
        args.threads.into_iter().for_each(|threads| server.set_pool_size(threads));
        let handler = move |frame: &mut MutableFrame| {
            counts.count(frame.len());
            frame.iter_mut().for_each(|byte| *byte ^= key);
            Ok(())
        };
        server.start(handler, mode)?;
        return Ok(Server::Mutable(server));
    }
    let server = factory.create_immutable_server(&args.name, config)?;
    server.on_error(on_error);
    args.threads.into_iter().for_each(|threads| server.set_pool_size(threads));
    let (handler, sleep) = (args.handler, Duration::from_millis(args.sleep_ms));
    server.start(
        move |request| {
            counts.count(request.len());
            answer(handler, sleep, request)
        },
        mode,
    )?;
    Ok(Server::Immutable(server))
}

fn answer(handler: Handler, sleep: Duration, request: &Request) -> Result<Reply<'_>, HandlerError> {
    if handler == Handler::Reverse {
        return Ok(request.iter().rev().copied().collect::<Vec<u8>>().into());
    }
    if handler == Handler::Sleep {
        let until = Deadline::after(sleep);
        while !until.is_over() {
            if request.is_cancelled() {
                return Err("the answer is no longer wanted".into());
            }
            std::thread::sleep(until.left().min(NAP));
        }
    }
    Ok(Reply::Borrowed(request))
}

pub(crate) fn run_client(args: &DuplexClientArgs) -> u8 {
    logger::install(args.report.verbose);
    let mut report = Report {
        operation: "duplex-client",
        channel_name: Some(args.name.clone()),
        handler: args.verify.then(|| args.handler.name()),
        concurrency: Some(args.concurrency),
        frame_size: args.size as u64,
        verification_errors: args.verify.then_some(0),
        ..Report::default()
    };
    let work = Work { args, next: AtomicU64::new(0), halted: AtomicBool::new(false), done: Mutex::default() };
    let result = work.run();
    let mut done = work.done.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.requests = Some(done.tally.frames);
    report.request_errors = Some(done.errors);
    report.errors = std::mem::take(&mut done.causes);
    report.tally(&done.tally);
    report.latency_us = Latency::of(&mut done.latencies);
    if args.verify {
        report.verification_errors = Some(done.wrong);
    }
    report.finish(result, args.report, false)
}

/// Calls to make, by several threads.
struct Work<'a> {
    args: &'a DuplexClientArgs,
    /// Index of the next request.
    next: AtomicU64,
    /// Something is wrong for good.
    halted: AtomicBool,
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    tally: Tally,
    /// Nanoseconds from the call to the response.
    latencies: Vec<u64>,
    errors: u64,
    causes: Vec<String>,
    wrong: u64,
    failure: Option<Failure>,
}

impl Work<'_> {
    fn run(&self) -> Result<(), Failure> {
        let bad = |message: String| Failure::new(exit::BAD_ARGUMENTS, message);
        let stop = Stop::install().map_err(|error| bad(format!("cannot take over the signals: {error}")))?;
        let client = connect(&stop, self.args)?;
        let limit = (self.args.requests > 0).then_some(self.args.requests);
        let mut progress = Progress::new("calling", limit, self.args.report, Lines::Timed);
        self.lock().tally.start();
        std::thread::scope(|scope| {
            let callers: Vec<_> =
                (0..self.args.concurrency).map(|_| scope.spawn(|| self.call_all(&client))).collect();
            // A request to stop ends a pending call, too.
            while !callers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                if !stop.sleep(CALLERS_LOOK) {
                    client.close();
                    break;
                }
                progress.show(&self.lock().tally);
            }
        });
        progress.finish();
        client.close();
        let mut done = self.lock();
        if stop.requested() {
            return Err(Failure::Interrupted);
        }
        if let Some(failure) = done.failure.take() {
            return Err(failure);
        }
        let total = done.tally.frames;
        match (done.wrong, done.errors) {
            (0, 0) => Ok(()),
            (0, errors) => Err(Failure::new(
                exit::duplex_client::REQUEST_ERROR,
                format!("channel `{}`: {errors} of {} requests failed", self.args.name, total + errors),
            )),
            (wrong, _) => Err(Failure::new(
                exit::duplex_client::VERIFICATION_FAILED,
                format!(
                    "channel `{}`: {wrong} of {total} responses are not what the handler {} makes of their requests",
                    self.args.name,
                    self.args.handler.name()
                ),
            )),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One caller: takes request after request until there are no more.
    fn call_all(&self, client: &DuplexClient) {
        let args = self.args;
        let timeout = wait::timeout(args.timeout_ms);
        let mut request = vec![0; args.size];
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if (args.requests > 0 && index >= args.requests) || self.halted.load(Ordering::Relaxed) {
                return;
            }
            Pattern::Sequential.fill(index, &mut request);
            let start = Instant::now();
            let result = client.call(&request, timeout);
            let latency = start.elapsed();
            match result {
                Ok(response) => {
                    let right = !args.verify || is_answer(args, &request, &response);
                    drop(response);
                    let mut done = self.lock();
                    let latency = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
                    match (done.tally.frames % LATENCIES) as usize {
                        at if at < done.latencies.len() => done.latencies[at] = latency,
                        _ => done.latencies.push(latency),
                    }
                    done.tally.count(args.size);
                    done.wrong += u64::from(!right);
                }
                // About this request alone.
                Err(error) if error.sequence().is_some() => {
                    complain(&error);
                    let mut done = self.lock();
                    done.errors += 1;
                    keep(&mut done.causes, &error);
                }
                Err(error) => {
                    self.halted.store(true, Ordering::Relaxed);
                    let failure =
                        Failure::of(&error, exit::duplex_client::REQUEST_ERROR, exit::BAD_ARGUMENTS);
                    self.lock().failure.get_or_insert(failure);
                    return;
                }
            }
        }
    }
}

/// Whether `response` is what the handler makes of `request`.
fn is_answer(args: &DuplexClientArgs, request: &[u8], response: &[u8]) -> bool {
    match args.handler {
        Handler::Echo | Handler::Sleep => response == request,
        Handler::Reverse => response.iter().rev().eq(request),
        Handler::Xor => {
            response.len() == request.len()
                && response.iter().zip(request).all(|(new, old)| *new == old ^ args.xor_key)
        }
    }
}

/// Connects, with patience that Ctrl-C can end.
fn connect(stop: &Stop, args: &DuplexClientArgs) -> Result<DuplexClient, Failure> {
    let deadline = Deadline::after(wait::timeout(args.timeout_ms));
    loop {
        if stop.requested() {
            return Err(Failure::Interrupted);
        }
        let options = ClientOptions::default()
            .connect_timeout(deadline.slice())
            .request_timeout(wait::timeout(args.timeout_ms))
            .response_config(reader::config(args.buffer_size, None));
        match DuplexChannelFactory::new().create_client_with(&args.name, options) {
            Ok(client) => return Ok(client),
            Err(error) => match error.kind() {
                ErrorKind::BufferNotFound | ErrorKind::ReaderDead if !deadline.is_over() => {}
                ErrorKind::BufferNotFound | ErrorKind::ReaderDead => {
                    let message = format!(
                        "channel `{0}`: no server within {1} ms; start it (zerobuffer duplex-server {0}), or wait longer \
                         with --timeout-ms (-1: for ever)",
                        args.name, args.timeout_ms
                    );
                    return Err(Failure::new(exit::duplex_client::CANNOT_CONNECT, message));
                }
                _ => {
                    let code = exit::duplex_client::CANNOT_CONNECT;
                    return Err(Failure::of(&error, code, exit::BAD_ARGUMENTS));
                }
            },
        }
    }
}
