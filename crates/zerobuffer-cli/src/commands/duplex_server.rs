//! `zerobuffer duplex-server`: answers requests, to try out and to measure.

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use zerobuffer::duplex::{
    DuplexChannelFactory, HandlerError, ImmutableDuplexServer, MutableDuplexServer, MutableFrame,
    ProcessingMode, Reply, Request,
};
use zerobuffer::{Error, ErrorKind};

use crate::args::{DuplexServerArgs, Handler, Mode};
use crate::exit::{self, Failure};
use crate::logger;
use crate::output::{complain, inform};
use crate::report::{self, Lines, Outcome, Progress, Report, Tally, Volume};
use crate::stop::Stop;
use crate::wait::Deadline;

use super::reader;

/// Between two looks of the main thread.
const LOOK: Duration = Duration::from_millis(50);

/// Longest sleep of the handler `sleep` between two looks at whether the answer is still wanted.
const NAP: Duration = Duration::from_millis(2);

#[derive(Serialize)]
struct Served {
    operation: &'static str,
    channel_name: String,
    requests: u64,
    request_errors: u64,
    handler: &'static str,
    #[serde(flatten)]
    volume: Volume,
    #[serde(flatten)]
    outcome: Outcome,
}

impl Report for Served {
    fn outcome(&mut self) -> &mut Outcome {
        &mut self.outcome
    }
}

impl Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.volume.write(f, "handled", self.requests, "request")?;
        if self.request_errors > 0 {
            write!(f, "; {} requests FAILED", self.request_errors)?;
        }
        self.outcome.write(f)
    }
}

/// Counters of the handlers.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    bytes: AtomicU64,
    largest: AtomicU64,
    errors: AtomicU64,
    causes: Mutex<Vec<String>>,
}

impl Counts {
    fn count(&self, len: usize) {
        // Relaxed: only for the display.
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(len as u64, Ordering::Relaxed);
        self.largest.fetch_max(len as u64, Ordering::Relaxed);
    }
}

pub(crate) fn run(args: &DuplexServerArgs) -> u8 {
    logger::install(args.report.verbose);
    let counts = Arc::new(Counts::default());
    let start = Instant::now();
    let result = serve(args, &counts);
    let frame_size = counts.largest.load(Ordering::Relaxed);
    let errors = std::mem::take(&mut *counts.causes.lock().unwrap_or_else(PoisonError::into_inner));
    let mut report = Served {
        operation: "duplex-server",
        channel_name: args.name.clone(),
        requests: counts.requests.load(Ordering::Relaxed),
        request_errors: counts.errors.load(Ordering::Relaxed),
        handler: args.handler.name(),
        volume: Volume { frame_size, ..Volume::default() },
        outcome: Outcome { errors, ..Outcome::default() },
    };
    report.volume.set(counts.bytes.load(Ordering::Relaxed), start.elapsed());
    report::finish(report, result, args.report, false)
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
    let stop = Stop::install(exit::duplex_server::CANNOT_CREATE)?;
    let failure = |error: Error| Failure::of(&error, exit::duplex_server::CANNOT_CREATE, exit::BAD_ARGUMENTS);
    let server = start_server(args, counts).map_err(failure)?;
    inform(&format_args!("channel `{}`: waiting for requests", args.name));
    let mut progress = Progress::new("serving", None, args.report, Lines::Timed).of_requests();
    let mut tally = Tally::default();
    tally.start();
    while stop.sleep(LOOK) && server.is_running() {
        let counted = counts.requests.load(Ordering::Relaxed);
        if counted > tally.frames {
            tally.set(counted, counts.bytes.load(Ordering::Relaxed));
            progress.show(&tally);
        } else {
            progress.wait(&tally, "requests");
        }
    }
    drop(progress);
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
    let config = reader::buffer_config(&args.buffer, args.permissions);
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
            super::keep_cause(&mut counts.causes.lock().unwrap_or_else(PoisonError::into_inner), error);
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
