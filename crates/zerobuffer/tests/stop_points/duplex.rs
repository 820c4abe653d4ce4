//! A duplex server, or client, that is killed anywhere: the other side notices soon, the channel works for
//! the next peer, and nothing is left over.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use zerobuffer::duplex::{
    ClientOptions, DuplexChannelFactory, DuplexClient, ImmutableDuplexServer, ProcessingMode,
};
use zerobuffer::{BufferConfig, Error, ErrorKind, inspect};

use crate::support::{Name, PATIENCE, role};
use crate::victim::{Action, NOTICE, Ring, Victim, config_of, wait_for};

/// Requests that a server handles before it stops.
const REQUESTS: usize = 6;
/// The handler takes its time.
const SLOW: &[u8] = b"slow";
/// The time that the survivor may take, except in one case of ten, on a machine with other work.
const SOON: Duration = Duration::from_millis(100);

/// Cases whose point was not passed this time: whether a peer sleeps, or has to be woken, depends on the other one's speed.
static IN_VAIN: Mutex<Vec<Action>> = Mutex::new(Vec::new());

/// How long survivors took.
static HEARD: Mutex<Vec<Duration>> = Mutex::new(Vec::new());

fn config(channel: &str) -> BufferConfig {
    config_of(channel, 4096).metadata_size(64)
}

fn serve(channel: &str, handled: impl Fn() + Send + Sync + 'static) -> ImmutableDuplexServer {
    let server = DuplexChannelFactory::new().create_immutable_server(channel, config(channel)).unwrap();
    server
        .start_in_place(
            move |request, response| {
                if **request == *SLOW {
                    std::thread::sleep(Duration::from_millis(5));
                    handled();
                    return Ok(response.write(request)?);
                }
                let mut bytes = response.acquire(request.len())?;
                bytes.copy_from_slice(request);
                handled();
                Ok(bytes.commit()?)
            },
            ProcessingMode::SingleThread,
        )
        .unwrap();
    server
}

fn connect(channel: &str, timeout: Duration) -> Result<DuplexClient, Error> {
    let options = ClientOptions::default().connect_timeout(timeout).response_config(config(channel));
    DuplexChannelFactory::new().create_client_with(channel, options)
}

/// Answers two requests in place. Arguments: channel.
pub(crate) fn short_server(arguments: &[String]) {
    let (sender, handled) = channel();
    let _server = serve(&arguments[0], move || _ = sender.send(()));
    for _ in 0..2 {
        handled.recv_timeout(PATIENCE).unwrap();
    }
    crate::support::hear();
}

/// Serves, then stops. Arguments: channel.
pub(crate) fn server(arguments: &[String]) {
    let (sender, handled) = channel();
    let server = serve(&arguments[0], move || _ = sender.send(()));
    for _ in 0..REQUESTS {
        handled.recv().unwrap();
    }
    server.stop().unwrap();
}

/// Calls, sends, cancels, closes. Arguments: channel.
pub(crate) fn caller(arguments: &[String]) {
    let client = connect(&arguments[0], PATIENCE).unwrap();
    client.set_metadata(b"the victim").unwrap();
    for number in 0..REQUESTS {
        let request = [number as u8; 50];
        assert_eq!(*client.call(&request, PATIENCE).unwrap(), request);
    }
    let slow = client.send_request(SLOW).unwrap();
    let cancelled = client.send_request(b"not to be started").unwrap();
    assert!(client.cancel_request(cancelled).unwrap());
    let outcome = |sequence| client.receive_response_to(sequence, PATIENCE);
    assert_eq!(*outcome(slow).unwrap().expect("in time"), *SLOW);
    assert_eq!(outcome(cancelled).unwrap_err().kind(), ErrorKind::Cancelled);
    client.close();
}

/// Calls once. Arguments: channel.
pub(crate) fn lone_caller(arguments: &[String]) {
    let client = connect(&arguments[0], PATIENCE).unwrap();
    assert_eq!(*client.call(b"question", PATIENCE).unwrap(), *b"answer");
}

#[test]
fn an_answer_that_comes_just_before_its_server_ends_reaches_a_lone_caller() {
    for ring in [Ring::Extended, Ring::Classic] {
        let channel = ring.name("stop-da");
        let [_requests, responses] = buffers(&channel);
        let (go, told) = std::sync::mpsc::sync_channel::<()>(0);
        let told = Mutex::new(told);
        let server = DuplexChannelFactory::new().create_immutable_server(&channel, config(&channel)).unwrap();
        server
            .start(
                move |_| {
                    told.lock().unwrap().recv().unwrap();
                    Ok(b"answer".into())
                },
                ProcessingMode::SingleThread,
            )
            .unwrap();
        // It has found no answer, and is about to look whether its server lives.
        let mut caller = Action::Halt("duplex:look".into(), 1).start(role!(lone_caller), &[&channel]);
        wait_for("the look", || caller.is_stopped());
        go.send(()).unwrap();
        wait_for("the answer", || inspect::snapshot(&responses).unwrap().written_count == 1);
        server.stop().unwrap();
        caller.signal(libc::SIGCONT);
        let status = caller.wait();
        assert!(status.success(), "{ring:?}: {status}");
    }
}

#[test]
fn a_server_that_is_halted_with_acquired_bytes_is_alive_and_its_late_response_is_dropped() {
    for (ring, point) in [Ring::Extended, Ring::Classic]
        .into_iter()
        .flat_map(|ring| ["answer:acquired", "answer:commit"].map(|point| (ring, point)))
    {
        let channel = ring.name("stop-dh");
        let _removed = buffers(&channel);
        let mut victim = Action::Halt(point.into(), 1).start(role!(short_server), &[&channel]);
        let client = connect(&channel, PATIENCE).unwrap();
        // As long as a client takes to learn that its server has gone.
        let error = client.call(b"first", Duration::from_millis(120)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{ring:?}, {point}");
        wait_for("the halt", || victim.is_stopped());
        assert!(client.is_server_connected());
        victim.signal(libc::SIGCONT);
        assert_eq!(*client.call(b"other", PATIENCE).unwrap(), *b"other", "{ring:?}, {point}");
        assert!(client.receive_response(Duration::from_millis(20)).unwrap().is_none());
        drop(client);
        victim.tell("");
        assert!(victim.wait().success());
        buffers(&channel).iter().for_each(Name::assert_nothing_left);
    }
}

/// Both buffers of a channel.
fn buffers(channel: &Name) -> [Name; 2] {
    ["_request", "_response"].map(|suffix| channel.suffixed(suffix))
}

/// The next pair works on the channel, which its buffers then leave.
fn work_and_end(channel: &Name, ring: Ring, server: &ImmutableDuplexServer) {
    let client = connect(channel, PATIENCE).expect("the next client");
    let first = client.call(b"first", PATIENCE).expect("an answer");
    // In a classic ring the answer to a predecessor's first request cannot be told from that (docs/PROTOCOL.md).
    assert!(*first == *b"first" || ring == Ring::Classic && *first == [0; 50], "{first:?}");
    drop(first);
    assert_eq!(*client.call(b"next", PATIENCE).expect("an answer"), *b"next");
    client.set_metadata(b"the next").expect("metadata of the next client");
    drop(client);
    server.stop().unwrap();
    buffers(channel).iter().for_each(Name::assert_nothing_left);
}

/// A server that suffers `action`, and a client in this process.
pub(crate) fn server_case(action: &Action, ring: Ring) -> bool {
    let channel = ring.name("stop-ds");
    let _removed = buffers(&channel);
    let mut victim = Victim::start(action, role!(server), &[&channel]);
    let client = loop {
        match connect(&channel, Duration::from_millis(2)) {
            Ok(client) => break Some(client),
            Err(error) => {
                let kinds = [ErrorKind::BufferNotFound, ErrorKind::ReaderDead];
                assert!(kinds.contains(&error.kind()), "connecting: {error}");
            }
        }
        if !victim.tend() {
            break None;
        }
    };
    if let Some(client) = client {
        let mut ended = (ErrorKind::Closed, Instant::now());
        std::thread::scope(|scope| {
            let calls = scope.spawn(|| {
                let mut answered = 0;
                loop {
                    let request = [answered as u8; 50];
                    match client.call(&request, PATIENCE) {
                        Ok(response) => assert_eq!(*response, request),
                        Err(error) => break (answered, error.kind(), Instant::now()),
                    }
                    answered += 1;
                }
            });
            while victim.tend() {
                std::thread::sleep(Duration::from_micros(500));
            }
            let (answered, kind, at) = calls.join().unwrap();
            assert!(matches!(action, Action::Kill(..)) || answered + 1 >= REQUESTS, "{answered} answers");
            ended = (kind, at);
        });
        let (kind, at) = ended;
        assert!(matches!(kind, ErrorKind::WriterDead | ErrorKind::ReaderDead), "{kind:?}");
        heard(at.saturating_duration_since(victim.ended_at.unwrap()));
        assert!(!client.is_server_connected());
        drop(client);
        buffers(&channel).iter().for_each(Name::assert_nothing_left);
    }
    if !suffered(&mut victim) {
        return false;
    }
    work_and_end(&channel, ring, &serve(&channel, || {}));
    true
}

/// A client that suffers `action`, and a server in this process.
pub(crate) fn client_case(action: &Action, ring: Ring) -> bool {
    let channel = ring.name("stop-dc");
    let _removed = buffers(&channel);
    let server = serve(&channel, || {});
    let mut victim = Victim::start(action, role!(caller), &[&channel]);
    while victim.tend() {
        std::thread::sleep(Duration::from_micros(500));
    }
    if !suffered(&mut victim) {
        return false;
    }
    work_and_end(&channel, ring, &server);
    heard(victim.ended_at.unwrap().elapsed());
    true
}

/// Like [`Victim::suffered`], for a victim that has ended.
fn suffered(victim: &mut Victim) -> bool {
    let unharmed = victim.peer.ended().expect("it has ended").success();
    if unharmed && matches!(victim.action, Action::Kill(_, 1)) {
        IN_VAIN.lock().unwrap().push(victim.action.clone());
        return true;
    }
    victim.suffered()
}

fn heard(after: Duration) {
    assert!(after < NOTICE, "only after {after:?}");
    HEARD.lock().unwrap().push(after);
}

/// To be called when all cases are over.
pub(crate) fn assert_heard_soon() {
    let mut heard = std::mem::take(&mut *HEARD.lock().unwrap());
    heard.sort();
    let in_vain = std::mem::take(&mut *IN_VAIN.lock().unwrap());
    eprintln!("duplex, in vain: {in_vain:?}");
    assert!(in_vain.len() * 20 <= heard.len(), "points are not passed any more: {in_vain:?}");
    let late: Vec<_> = heard.iter().filter(|after| **after > SOON).collect();
    eprintln!("duplex: {} survivors, the last after {:?}", heard.len(), heard.last());
    assert!(
        late.len() * 10 <= heard.len(),
        "{} of {} survivors heard late: {late:?}",
        late.len(),
        heard.len()
    );
}

crate::support::peers!(server, short_server, caller, lone_caller);
