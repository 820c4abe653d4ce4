//! A mutable duplex server, or its client, that is killed while responses refer to their requests: what is held stays as it
//! is, and all space comes back.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use zerobuffer::duplex::{
    ClientOptions, DuplexChannelFactory, DuplexClient, MutableDuplexServer, ProcessingMode, Response,
};
use zerobuffer::{BufferConfig, ErrorKind};

use crate::support::{Name, PATIENCE, fill, hear, is_filled, role, say};
use crate::victim::{Action, Victim};

const LEN: usize = 40_000;
/// Below what a server answers by reference.
const SMALL: usize = 100;
/// Requests that a victim sends or answers before it ends.
const CALLS: u64 = 12;

fn config() -> BufferConfig {
    BufferConfig::default().payload_size(1 << 18).metadata_size(64)
}

fn serve(channel: &str) -> MutableDuplexServer {
    let server = DuplexChannelFactory::new().create_mutable_server(channel, config()).unwrap();
    let invert = |frame: &mut zerobuffer::duplex::MutableFrame| {
        frame.iter_mut().for_each(|byte| *byte = !*byte);
        Ok(())
    };
    server.start(invert, ProcessingMode::SingleThread).unwrap();
    server
}

fn connect(channel: &str) -> DuplexClient {
    let options = ClientOptions::default().connect_timeout(PATIENCE).response_config(config());
    DuplexChannelFactory::new().create_client_with(channel, options).unwrap()
}

fn call(client: &DuplexClient, seed: u64, len: usize) -> Result<Response, zerobuffer::Error> {
    let mut request = vec![0; len];
    fill(seed, &mut request);
    let response = client.call(&request, PATIENCE)?;
    assert!(is_answer(seed, &response), "response {seed}");
    Ok(response)
}

fn is_answer(seed: u64, response: &[u8]) -> bool {
    is_filled(seed, &response.iter().map(|byte| !byte).collect::<Vec<u8>>())
}

/// Serves. Arguments: channel.
pub(crate) fn mutable_server(arguments: &[String]) {
    let server = serve(&arguments[0]);
    say("running");
    hear();
    server.stop().unwrap();
}

/// Calls, holds two responses, and closes before it gives them back. Arguments: channel.
pub(crate) fn mutable_caller(arguments: &[String]) {
    let client = connect(&arguments[0]);
    let mut held: Vec<(u64, Response)> = Vec::new();
    for seed in 0..CALLS {
        held.push((seed, call(&client, seed, LEN).unwrap()));
        if held.len() > 2 {
            held.remove(0);
        }
    }
    client.close();
    assert!(held.iter().all(|(seed, response)| is_answer(*seed, response)));
}

fn buffers(channel: &Name) -> [Name; 2] {
    ["_request", "_response"].map(|suffix| channel.suffixed(suffix))
}

/// Large requests, which need all of the buffer one after the other.
fn use_all(client: &DuplexClient) {
    for seed in 0..4 {
        drop(call(client, seed, 200_000).expect("the next client has all space"));
    }
}

/// Where a server is stopped that answers by reference, and how often it has passed the point then.
const SERVER: [(&str, u64); 16] = [
    ("sharing:offer-begin", 1),
    ("sharing:offer-fields", 1),
    ("sharing:offer-end", 1),
    ("sharing:reference", 1),
    ("sharing:reference", 5),
    ("write:data", 1),
    ("write:data", 3),
    ("extended:header", 1),
    ("extended:header", 6),
    ("extended:head", 1),
    ("extended:head", 6),
    ("extended:ring-reader", 1),
    ("sharing:count", 1),
    ("sharing:count", 6),
    ("extended:tail", 1),
    ("extended:tail", 6),
];

/// Where its client is stopped.
const CLIENT: [(&str, u64); 13] = [
    ("sharing:open", 1),
    ("sharing:map", 1),
    ("sharing:lock-open", 1),
    ("sharing:lock", 1),
    ("sharing:accept", 1),
    ("sharing:unlock", 1),
    ("sharing:ring", 1),
    ("write:data", 4),
    ("write:data", CALLS),
    ("extended:header", 5),
    ("extended:head", 5),
    ("extended:tail", 1),
    ("extended:tail", 5),
];

/// Calls until its server is dead, or at least 40 times and until it is `enough`. Returns what is held then.
fn calls(
    client: &DuplexClient,
    enough: impl Fn() -> bool,
) -> (Vec<(u64, Response)>, Option<zerobuffer::Error>) {
    let mut held: Vec<(u64, Response)> = Vec::new();
    for seed in 0.. {
        if seed >= 40 && enough() {
            break;
        }
        // A small request is answered with a copy; whether the first large one is, depends on who comes first.
        let len = if seed % 8 == 7 { SMALL } else { LEN };
        match call(client, seed, len) {
            Ok(response) => held.push((seed, response)),
            Err(error) => return (held, Some(error)),
        }
        if held.len() > 2 {
            held.remove(0);
        }
    }
    (held, None)
}

fn stay(held: &[(u64, Response)]) -> bool {
    held.iter().all(|(seed, response)| is_answer(*seed, response))
}

#[test]
fn responses_stay_as_they_are_wherever_their_mutable_server_is_killed() {
    for (point, nth) in SERVER {
        let channel = Name::new("stop-ms");
        let removed = buffers(&channel);
        let mut victim = Action::Kill(point.into(), nth).start(role!(mutable_server), &[&channel]);
        victim.expect("running");
        let client = connect(&channel);
        // A point that is passed only for a client that sleeps may be passed late.
        let start = Instant::now();
        let (held, error) = calls(&client, || start.elapsed() > PATIENCE);
        let error = error.unwrap_or_else(|| panic!("{point} is not passed {nth} times"));
        assert!(matches!(error.kind(), ErrorKind::WriterDead | ErrorKind::ReaderDead), "{point}: {error}");
        assert!(!victim.wait().success());
        drop(client);
        let server = serve(&channel);
        let next = connect(&channel);
        use_all(&next);
        assert!(stay(&held), "{point}, {nth}: a response has changed");
        drop((held, next));
        server.stop().unwrap();
        removed.iter().for_each(Name::assert_nothing_left);
    }
}

#[test]
fn calls_go_on_wherever_their_mutable_server_is_halted() {
    for (point, nth) in SERVER {
        let channel = Name::new("stop-hs");
        let removed = buffers(&channel);
        let mut victim = Victim::start(&Action::Halt(point.into(), nth), role!(mutable_server), &[&channel]);
        victim.peer.expect("running");
        let client = connect(&channel);
        let (start, has_suffered) = (Instant::now(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let calling = scope.spawn(|| {
                let (held, error) =
                    calls(&client, || has_suffered.load(Relaxed) || start.elapsed() > PATIENCE);
                assert!(error.is_none() && stay(&held), "{point}, {nth}: {error:?}");
            });
            while !calling.is_finished() {
                victim.tend();
                has_suffered.store(victim.has_gone_on(), Relaxed);
                std::thread::yield_now();
            }
        });
        use_all(&client);
        drop(client);
        victim.peer.tell("stop");
        assert!(victim.suffered(), "{point} is not passed {nth} times");
        removed.iter().for_each(Name::assert_nothing_left);
    }
}

#[test]
fn all_space_comes_back_wherever_the_client_of_a_mutable_server_is_killed_or_halted() {
    for (point, nth) in CLIENT {
        for action in [Action::Kill(point.into(), nth), Action::Halt(point.into(), nth)] {
            let channel = Name::new("stop-mc");
            let removed = buffers(&channel);
            let server = serve(&channel);
            let mut victim = Victim::start(&action, role!(mutable_caller), &[&channel]);
            while victim.tend() {
                std::thread::yield_now();
            }
            assert!(victim.suffered(), "{action:?} did not happen");
            let next = connect(&channel);
            use_all(&next);
            drop(next);
            server.stop().unwrap();
            removed.iter().for_each(Name::assert_nothing_left);
        }
    }
}

#[test]
fn a_mutable_server_that_stops_and_its_successor_leave_responses_as_they_are() {
    let channel = Name::new("stop-os");
    let removed = buffers(&channel);
    let mut generations = Vec::new();
    for _ in 0..3 {
        let server = serve(&channel);
        let client = connect(&channel);
        let (held, error) = calls(&client, || true);
        assert!(error.is_none(), "{error:?}");
        generations.push(held);
        server.stop().unwrap();
        drop(client);
        assert!(generations.iter().all(|held| stay(held)), "a response has changed");
    }
    drop(generations);
    removed.iter().for_each(Name::assert_nothing_left);
}

crate::support::peers!(mutable_server, mutable_caller);
