//! The roles of the other process.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zerobuffer::BufferConfig;
use zerobuffer::duplex::{
    ClientOptions, DuplexChannelFactory, HandlerError, ImmutableDuplexServer, ProcessingMode, Reply, Request,
    ResponseWriter,
};

use crate::support::{PATIENCE, hear, say};

/// Handlers that ran at once, most of them.
static RUNNING: AtomicU64 = AtomicU64::new(0);
static MOST: AtomicU64 = AtomicU64::new(0);
/// Whether handlers pass the gate.
static OPEN: AtomicBool = AtomicBool::new(false);
static STARTED: AtomicU64 = AtomicU64::new(0);
/// Whose turn it is, of the handlers that wait for theirs.
static TURN: AtomicU64 = AtomicU64::new(0);

/// Arguments: channel, then any of `pool`, `mutable`, `classic`, `payload=BYTES`, `threads=N`, `init`,
/// `in-place`.
///
/// Prints `running`. Obeys `stop` (prints its result, and `stopped`), `start`, `most` (prints how many
/// handlers ran at once) and `started` (prints how many were started). Ends with its input.
pub(crate) fn server(arguments: &[String]) {
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let value = |key: &str| -> Option<usize> {
        arguments.iter().find_map(|argument| argument.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
    };
    let mut config = BufferConfig::default().classic(has("classic"));
    if let Some(bytes) = value("payload") {
        config = config.payload_size(bytes);
    }
    let mode = if has("pool") { ProcessingMode::ThreadPool } else { ProcessingMode::SingleThread };
    let factory = DuplexChannelFactory::new();
    let channel = &arguments[0];
    if has("mutable") {
        let server = factory.create_mutable_server(channel, config).unwrap();
        let invert = |frame: &mut zerobuffer::duplex::MutableFrame| {
            frame.iter_mut().for_each(|byte| *byte = !*byte);
            Ok(())
        };
        server.start(invert, mode).unwrap();
        say("running");
        while hear().is_some() {}
        return server.stop().unwrap();
    }
    let server = factory.create_immutable_server(channel, config).unwrap();
    server.on_error(|error| say(format!("error {:?} {:?} {error}", error.kind(), error.sequence())));
    if has("init") {
        server.on_init(|metadata| say(format!("init {}", String::from_utf8_lossy(metadata))));
    }
    if let Some(threads) = value("threads") {
        server.set_pool_size(threads);
    }
    let start = |server: &ImmutableDuplexServer| match has("in-place") {
        true => server.start_in_place(handle_in_place, mode).unwrap(),
        false => server.start(handle, mode).unwrap(),
    };
    start(&server);
    say("running");
    while let Some(order) = hear() {
        match order.as_str() {
            "stop" => {
                let start = Instant::now();
                match server.stop() {
                    Ok(()) => say(format!("stopped {}", start.elapsed().as_millis())),
                    Err(error) => say(format!("{:?} {}", error.kind(), start.elapsed().as_millis())),
                }
            }
            "start" => {
                start(&server);
                say("running");
            }
            "is-running" => say(server.is_running()),
            "shut" => {
                OPEN.store(false, Ordering::SeqCst);
                say("shut");
            }
            "open" => OPEN.store(true, Ordering::SeqCst),
            turn if turn.starts_with("turn ") => TURN.store(turn[5..].parse().unwrap(), Ordering::SeqCst),
            "most" => say(MOST.load(Ordering::SeqCst)),
            "started" => say(STARTED.load(Ordering::SeqCst)),
            other => panic!("unknown order {other}"),
        }
    }
}

/// Answers with the request, unless it is an order: `!sleep MS`, `!wait` (until it is cancelled), `!fail TEXT`,
/// `!gate` (until the test opens it), `!turn N` (until the test says that it is the turn of N), `!panic TEXT`, `!empty`, `!kill` (dies), `!hold MS` (sleeps, whatever is cancelled), `!large BYTES`.
pub(crate) fn handle(request: &Request) -> Result<Reply<'_>, HandlerError> {
    STARTED.fetch_add(1, Ordering::SeqCst);
    MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    let _running = Running;
    let order = request.strip_prefix(b"!").and_then(|order| std::str::from_utf8(order).ok());
    let Some(order) = order else { return Ok((&**request).into()) };
    let (order, rest) = order.split_once(' ').unwrap_or((order, ""));
    match order {
        "sleep" | "hold" => {
            let until = Instant::now() + Duration::from_millis(rest.parse()?);
            say(format!("sleeping {}", request.sequence()));
            while Instant::now() < until && (order == "hold" || !request.is_cancelled()) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        "gate" => {
            say(format!("at the gate {}", request.sequence()));
            let start = Instant::now();
            while !OPEN.load(Ordering::SeqCst) {
                assert!(start.elapsed() < PATIENCE, "never opened");
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        "turn" => {
            let start = Instant::now();
            while TURN.load(Ordering::SeqCst) != rest.parse::<u64>()? {
                assert!(start.elapsed() < PATIENCE, "its turn never came");
                std::thread::sleep(Duration::from_micros(200));
            }
            say(format!("turn {rest} came"));
        }
        "wait" => {
            say(format!("waiting {}", request.sequence()));
            let start = Instant::now();
            while !request.is_cancelled() {
                assert!(start.elapsed() < PATIENCE, "never cancelled");
                std::thread::sleep(Duration::from_micros(200));
            }
            say(format!("cancelled {}", request.sequence()));
        }
        "fail" => return Err(rest.into()),
        "panic" => panic!("{rest}"),
        "empty" => return Ok(Reply::Borrowed(&[])),
        "kill" => std::process::abort(),
        "large" => return Ok(vec![1; rest.parse()?].into()),
        // Other bytes may begin like an order.
        _ => {}
    }
    Ok((&**request).into())
}

/// As [`handle`], in bytes that are acquired before anything else happens.
pub(crate) fn handle_in_place(
    request: &Request,
    response: &mut ResponseWriter<'_>,
) -> Result<(), HandlerError> {
    let mut bytes = response.acquire(request.len())?;
    let reply = handle(request)?;
    if reply.len() != bytes.len() {
        drop(bytes);
        bytes = response.acquire(reply.len())?;
    }
    bytes.copy_from_slice(&reply);
    Ok(bytes.commit()?)
}

struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Arguments: channel, then requests to send. Prints `sent` after them, and then the first response.
pub(crate) fn client(arguments: &[String]) {
    let options = ClientOptions::default().connect_timeout(PATIENCE);
    let client = DuplexChannelFactory::new().create_client_with(&arguments[0], options).unwrap();
    for request in &arguments[1..] {
        if let Some(metadata) = request.strip_prefix("metadata=") {
            client.set_metadata(metadata.as_bytes()).unwrap();
        } else {
            client.send_request(request.as_bytes()).unwrap();
        }
    }
    say("sent");
    match client.receive_response(PATIENCE) {
        Ok(Some(response)) => {
            say(format!("got {} bytes", response.len()));
            hear();
        }
        other => say(format!("{other:?}")),
    }
    hear();
}

/// Holds three responses that refer to their requests, and says so. Arguments: channel.
pub(crate) fn holder(arguments: &[String]) {
    let options = ClientOptions::default().connect_timeout(PATIENCE);
    let client = DuplexChannelFactory::new().create_client_with(&arguments[0], options).unwrap();
    let call = || client.call(&[7; 100_000], PATIENCE).unwrap();
    // The client looks at the server's offer first.
    (0..5).for_each(|_| drop(call()));
    let held = [call(), call(), call()];
    say(format!("holding {}", held.len()));
    hear();
}

crate::support::peers!(server, client, holder, clock_server, clock_client);

/// Answers with the milliseconds that are left until the request's deadline. Arguments: channel.
pub(crate) fn clock_server(arguments: &[String]) {
    let server =
        DuplexChannelFactory::new().create_immutable_server(&arguments[0], BufferConfig::default()).unwrap();
    let answer = |request: &Request| -> Result<Reply<'static>, HandlerError> {
        let left = request.deadline().ok_or("no deadline")?.saturating_duration_since(Instant::now());
        Ok(left.as_millis().to_string().into_bytes().into())
    };
    server.start(move |request| answer(request), ProcessingMode::SingleThread).unwrap();
    say("running");
    hear();
}

/// Calls with a time-out of ten seconds, and prints the answer. Arguments: channel.
pub(crate) fn clock_client(arguments: &[String]) {
    let options = ClientOptions::default().connect_timeout(PATIENCE);
    let client = DuplexChannelFactory::new().create_client_with(&arguments[0], options).unwrap();
    match client.call(b"?", Duration::from_secs(10)) {
        Ok(response) => say(String::from_utf8_lossy(&response)),
        Err(error) => say(error),
    }
}
