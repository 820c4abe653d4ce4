//! `zerobuffer duplex-client`: sends requests, verifies the responses, and reports how long they took.

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use zerobuffer::duplex::{ClientOptions, DuplexChannelFactory, DuplexClient};
use zerobuffer::{ErrorKind, inspect};

use crate::args::{DuplexClientArgs, Handler, Pattern};
use crate::exit::{self, Failure};
use crate::logger;
use crate::output::{complain, inform};
use crate::report::{self, Lines, Outcome, Progress, Report, Tally, Volume};
use crate::stop::Stop;
use crate::wait::{self, Deadline};

use super::reader;

/// Between two looks of the main thread at the callers.
const LOOK: Duration = Duration::from_millis(5);

/// Number of latencies that are kept, of the last calls.
const LATENCIES: u64 = 1 << 20;

#[derive(Serialize)]
struct Called {
    operation: &'static str,
    channel_name: String,
    requests: u64,
    request_errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    handler: Option<&'static str>,
    /// Threads that call at once.
    concurrency: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_us: Option<Latency>,
    #[serde(flatten)]
    volume: Volume,
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_errors: Option<u64>,
    #[serde(flatten)]
    outcome: Outcome,
}

impl Report for Called {
    fn outcome(&mut self) -> &mut Outcome {
        &mut self.outcome
    }
}

impl Display for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.volume.write(f, "answered:", self.requests, "request")?;
        if let Some(Latency { p50, p90, p99, max, .. }) = self.latency_us {
            write!(f, "; latency p50 {p50:.1} us, p90 {p90:.1}, p99 {p99:.1}, max {max:.1}")?;
        }
        if self.request_errors > 0 {
            write!(f, "; {} requests FAILED", self.request_errors)?;
        }
        if let Some(errors) = self.verification_errors.filter(|errors| *errors > 0) {
            write!(f, "; {errors} FAILED verification")?;
        }
        self.outcome.write(f)
    }
}

/// Latencies in microseconds.
#[derive(Debug, Serialize)]
struct Latency {
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
    mean: f64,
}

impl Latency {
    /// Computes the summary from single latencies in nanoseconds; `None` if there are none.
    fn of(nanoseconds: &mut [u64]) -> Option<Latency> {
        nanoseconds.sort_unstable();
        let last = nanoseconds.len().checked_sub(1)?;
        let at = |share: usize| nanoseconds[last * share / 100] as f64 / 1000.0;
        let sum: f64 = nanoseconds.iter().map(|time| *time as f64).sum();
        let mean = sum / nanoseconds.len() as f64 / 1000.0;
        Some(Latency { p50: at(50), p90: at(90), p99: at(99), max: at(100), mean })
    }
}

pub(crate) fn run(args: &DuplexClientArgs) -> u8 {
    logger::install(args.report.verbose);
    let work = Work { args, next: AtomicU64::new(0), halted: AtomicBool::new(false), done: Mutex::default() };
    let result = work.run();
    let mut done = work.done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut report = Called {
        operation: "duplex-client",
        channel_name: args.name.clone(),
        requests: done.tally.frames,
        request_errors: done.errors,
        handler: args.verify.then(|| args.handler.name()),
        concurrency: args.concurrency,
        latency_us: Latency::of(&mut done.latencies),
        volume: Volume { frame_size: args.size as u64, ..Volume::default() },
        verification_errors: args.verify.then_some(done.wrong),
        outcome: Outcome { errors: std::mem::take(&mut done.causes), ..Outcome::default() },
    };
    report.volume.count(&done.tally);
    report::finish(report, result, args.report, false)
}

/// Calls to make, by several threads.
struct Work<'a> {
    args: &'a DuplexClientArgs,
    /// Index of the next request.
    next: AtomicU64,
    /// A permanent failure has occurred.
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
        let stop = Stop::install(exit::duplex_client::CANNOT_CONNECT)?;
        let limit = (self.args.requests > 0).then_some(self.args.requests);
        let mut progress = Progress::new("calling", limit, self.args.report, Lines::Timed).of_requests();
        let client = connect(&stop, self.args, &mut progress)?;
        let requests = Requests::new(self.args)?;
        inform(&format_args!("channel `{}`: connected to the server", self.args.name));
        self.lock().tally.start();
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..self.args.concurrency)
                .map(|_| scope.spawn(|| self.call_all(&client, &requests)))
                .collect();
            // A request to stop ends a pending call, too.
            while !callers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                if !stop.sleep(LOOK) {
                    client.close();
                    break;
                }
                progress.show(&self.lock().tally);
            }
        });
        drop(progress);
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
    fn call_all(&self, client: &DuplexClient, requests: &Requests) {
        let args = self.args;
        let timeout = wait::timeout(args.timeout_ms);
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if (args.requests > 0 && index >= args.requests) || self.halted.load(Ordering::Relaxed) {
                return;
            }
            let request = requests.get(index);
            let start = Instant::now();
            let result = client.call(request, timeout);
            let latency = start.elapsed();
            match result {
                Ok(response) => {
                    let right = !args.verify || is_answer(args, request, &response);
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
                // An error of this request only.
                Err(error) if error.sequence().is_some() => {
                    complain(&error);
                    let mut done = self.lock();
                    done.errors += 1;
                    super::keep_cause(&mut done.causes, &error);
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

/// The requests: slices of one run of bytes, which all callers share.
struct Requests {
    bytes: Vec<u8>,
    size: usize,
}

impl Requests {
    /// Takes memory only for requests that the server's buffer can hold.
    fn new(args: &DuplexClientArgs) -> Result<Requests, Failure> {
        let failed = |message| Failure::new(exit::duplex_client::REQUEST_ERROR, message);
        let (name, size) = (&args.name, args.size);
        if let Ok(buffer) = inspect::snapshot(&format!("{name}_request"))
            && size as u64 > buffer.payload_size
        {
            let most = buffer.payload_size;
            return Err(failed(format!(
                "channel `{name}`: a request of {size} bytes does not fit into the server's buffer of {most} bytes; send \
                 less (--size), or start the server with a larger --buffer-size"
            )));
        }
        // Request `index` of the pattern sequential starts `index % 256` bytes into the first.
        let len = size.saturating_add(256);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| {
            failed(format!("channel `{name}`: no memory for a request of {size} bytes; send less (--size)"))
        })?;
        bytes.resize(len, 0);
        Pattern::Sequential.fill(0, &mut bytes);
        Ok(Requests { bytes, size })
    }

    fn get(&self, index: u64) -> &[u8] {
        &self.bytes[(index % 256) as usize..][..self.size]
    }
}

/// Whether `response` is the handler's result for `request`.
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

/// Waits for the server, and connects; Ctrl-C ends the wait.
fn connect(stop: &Stop, args: &DuplexClientArgs, progress: &mut Progress) -> Result<DuplexClient, Failure> {
    let deadline = Deadline::after(wait::timeout(args.timeout_ms));
    let mut waits = false;
    loop {
        if stop.requested() {
            return Err(Failure::Interrupted);
        }
        let options = ClientOptions::default()
            .connect_timeout(if waits { deadline.slice() } else { Duration::ZERO })
            .request_timeout(wait::timeout(args.timeout_ms))
            .response_config(reader::buffer_config(&args.buffer, args.permissions));
        match DuplexChannelFactory::new().create_client_with(&args.name, options) {
            Ok(client) => return Ok(client),
            Err(error) => match error.kind() {
                ErrorKind::BufferNotFound | ErrorKind::ReaderDead if !deadline.is_over() => {
                    if !std::mem::replace(&mut waits, true) {
                        inform(&format_args!("channel `{}`: waiting for the server", args.name));
                    }
                    progress.wait(&Tally::default(), "the server");
                }
                ErrorKind::BufferNotFound | ErrorKind::ReaderDead => {
                    let message = format!(
                        "channel `{0}`: no server within {1} ms; start it (zerobuffer duplex-server {0}), or wait longer \
                         with --timeout-ms (-1: without limit)",
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
