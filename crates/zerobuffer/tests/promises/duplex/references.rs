//! Responses of a mutable server that refer to the bytes of their requests: where they lie, and who keeps whom waiting.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use zerobuffer::duplex::{
    ClientOptions, DuplexChannelFactory, DuplexClient, MutableFrame, ProcessingMode, Response,
};
use zerobuffer::{BufferConfig, ErrorKind};

use super::Channel;
use super::roles::holder;
use crate::support::{PATIENCE, Peer, fill, is_filled, role};

const LARGE: usize = 100_000;
/// Room for ten large requests.
const PAYLOAD: &str = "payload=1048576";

/// The file in whose mapping these bytes lie.
fn file_of(bytes: &[u8]) -> String {
    let at = bytes.as_ptr() as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
    let line = maps.lines().find(|line| {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        number(start) <= at && at < number(end)
    });
    line.unwrap_or_default().to_owned()
}

fn is_reference(response: &Response) -> bool {
    file_of(response).contains("_request")
}

fn request(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(seed, &mut bytes);
    bytes
}

fn is_answer(seed: u64, response: &[u8]) -> bool {
    let mut bytes = response.to_vec();
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    is_filled(seed, &bytes)
}

fn client(channel: &Channel, timeout: Duration) -> DuplexClient {
    let options = ClientOptions::default().connect_timeout(PATIENCE).request_timeout(timeout);
    DuplexChannelFactory::new().create_client_with(&channel.name, options).unwrap()
}

/// Calls until the responses are references: the client has to look at the server's offer first.
fn warm_up(client: &DuplexClient) {
    let start = Instant::now();
    while !is_reference(&client.call(&request(0, LARGE), PATIENCE).unwrap()) {
        assert!(start.elapsed() < PATIENCE, "no response refers to its request");
    }
}

#[test]
fn a_large_response_of_a_mutable_server_lies_in_its_request() {
    for (options, shared) in
        [(&["mutable"][..], true), (&["mutable", "pool"], true), (&["mutable", "classic"], false)]
    {
        let channel = Channel::new("refer");
        let _server = channel.server(options);
        let client = channel.client();
        if shared {
            warm_up(&client);
        }
        for seed in 0..50 {
            for len in [LARGE, 1000, 3_110_400] {
                let response = client.call(&request(seed, len), PATIENCE).unwrap();
                assert!(is_answer(seed, &response) && response.len() == len, "{options:?}: {len} bytes");
                assert_eq!(is_reference(&response), shared && len >= LARGE, "{options:?}: {len} bytes");
            }
        }
        // Several are held at once, and given back in any order.
        let mut held: Vec<Response> =
            (0..8).map(|seed| client.call(&request(seed, LARGE), PATIENCE).unwrap()).collect();
        for seed in [3, 0, 7, 5] {
            assert!(is_answer(seed, &held[seed as usize]));
        }
        held.swap_remove(2);
        drop(held);
        drop(client);
    }
}

#[test]
fn many_threads_may_call_a_mutable_server_by_reference() {
    for options in [&["mutable", PAYLOAD][..], &["mutable", "pool", PAYLOAD]] {
        let channel = Channel::new("refer-many");
        let _server = channel.server(options);
        let client = channel.client();
        warm_up(&client);
        thread::scope(|scope| {
            for thread in 0..6_u64 {
                let client = &client;
                scope.spawn(move || {
                    for call in 0..100 {
                        let seed = thread * 1000 + call;
                        let response = client.call(&request(seed, LARGE), PATIENCE).unwrap();
                        assert!(is_answer(seed, &response), "call {seed}");
                    }
                });
            }
        });
    }
}

#[test]
fn a_client_does_not_wait_for_the_responses_that_it_has_not_read() {
    let channel = Channel::new("refer-unread");
    let _server = channel.server(&["mutable", PAYLOAD]);
    let client = client(&channel, PATIENCE);
    warm_up(&client);
    // More than the request buffer holds: the first responses keep its space.
    let sent: Vec<u64> = (0..15).map(|seed| client.send_request(&request(seed, LARGE)).unwrap()).collect();
    for (seed, sequence) in sent.into_iter().enumerate() {
        let response = client.receive_response_to(sequence, PATIENCE).unwrap().expect("in time");
        assert!(is_answer(seed as u64, &response), "response {seed}");
    }
    warm_up(&client);
}

#[test]
fn calls_that_were_given_up_keep_no_space() {
    let channel = Channel::new("refer-late");
    let _server = channel.server(&["mutable", PAYLOAD]);
    let client = client(&channel, PATIENCE);
    warm_up(&client);
    let mut late = 0;
    for seed in 0..100 {
        match client.call(&request(seed, LARGE), Duration::from_micros(50)) {
            Ok(response) => assert!(is_answer(seed, &response)),
            Err(error) => {
                assert!(
                    matches!(error.kind(), ErrorKind::DeadlineExceeded | ErrorKind::BufferFull),
                    "{error}"
                );
                late += 1;
            }
        }
    }
    eprintln!("{late} of 100 calls were late");
    for seed in 0..30 {
        assert!(is_answer(seed, &client.call(&request(seed, LARGE), PATIENCE).unwrap()), "call {seed}");
    }
}

#[test]
fn a_response_outlives_its_client_whatever_the_next_one_sends() {
    let channel = Channel::new("refer-outlive");
    let _server = channel.server(&["mutable", PAYLOAD]);
    let first = client(&channel, PATIENCE);
    warm_up(&first);
    let held = first.call(&request(77, LARGE), PATIENCE).unwrap();
    assert!(is_reference(&held));
    drop(first);
    let next = client(&channel, Duration::from_millis(200));
    let mut stopped = false;
    for seed in 0..40 {
        match next.call(&request(seed, LARGE), Duration::from_secs(1)) {
            Ok(response) => assert!(is_answer(seed, &response), "call {seed}"),
            Err(error) => {
                let kinds = [ErrorKind::BufferFull, ErrorKind::DeadlineExceeded];
                assert!(kinds.contains(&error.kind()), "{error}");
                stopped = true;
                break;
            }
        }
        assert!(is_answer(77, &held), "after call {seed}");
    }
    // What is held keeps its place, which the ring comes to in the end.
    assert!(stopped && is_answer(77, &held));
    drop(held);
    for seed in 0..40 {
        assert!(is_answer(seed, &next.call(&request(seed, LARGE), PATIENCE).unwrap()), "call {seed}");
    }
}

#[test]
fn a_killed_client_gives_all_its_responses_back() {
    for options in [&["mutable", PAYLOAD][..], &["mutable", "pool", PAYLOAD]] {
        let channel = Channel::new("refer-killed");
        let _server = channel.server(options);
        for _ in 0..3 {
            let mut holds = Peer::start(role!(holder), &[&channel.name]);
            holds.expect("holding 3");
            holds.kill();
            let next = client(&channel, PATIENCE);
            // All of the buffer is there.
            for seed in 0..3 {
                let response = next.call(&request(seed, 1_000_000), PATIENCE).unwrap();
                assert!(is_answer(seed, &response));
            }
            warm_up(&next);
        }
    }
}

#[test]
fn a_response_stays_as_it_is_when_its_server_is_killed() {
    let channel = Channel::new("refer-server");
    let mut server = channel.server(&["mutable", PAYLOAD]);
    let client = client(&channel, PATIENCE);
    warm_up(&client);
    let held: Vec<Response> =
        (0..3).map(|seed| client.call(&request(seed, LARGE), PATIENCE).unwrap()).collect();
    assert!(held.iter().all(is_reference));
    server.kill();
    assert!(client.call(&request(9, LARGE), PATIENCE).is_err());
    drop(client);
    let _next = channel.server(&["mutable", PAYLOAD]);
    let client = channel.client();
    warm_up(&client);
    for (seed, response) in held.iter().enumerate() {
        assert!(is_answer(seed as u64, response), "response {seed}");
    }
}

#[test]
fn a_response_is_a_copy_while_its_handler_keeps_the_request() {
    let channel = Channel::new("refer-kept");
    let config = BufferConfig::default();
    let server = DuplexChannelFactory::new().create_mutable_server(&channel.name, config).unwrap();
    let kept: Arc<Mutex<Vec<Arc<MutableFrame>>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let handler = move |mut frame: MutableFrame| {
        frame.iter_mut().for_each(|byte| *byte = !*byte);
        let frame = Arc::new(frame);
        if frame.len() > LARGE {
            keep.lock().unwrap().push(Arc::clone(&frame));
        }
        Ok(frame)
    };
    server.start_shared(handler, ProcessingMode::SingleThread).unwrap();
    let client = channel.client();
    warm_up(&client);
    for (len, shared) in [(LARGE, true), (LARGE + 1, false), (LARGE, true)] {
        let response = client.call(&request(1, len), PATIENCE).unwrap();
        assert!(is_answer(1, &response));
        assert_eq!(is_reference(&response), shared, "{len} bytes");
    }
    assert!(is_answer(1, &kept.lock().unwrap()[0]));
    client.close();
    server.stop().unwrap();
}
