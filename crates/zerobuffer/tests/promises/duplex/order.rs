//! Many callers, many requests under way: whose response is whose.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use zerobuffer::ErrorKind;

use super::Channel;
use crate::support::{PATIENCE, Peer, Random, fill, is_filled};

/// Calls from `threads` threads at once, each with content of its own.
fn storm(channel: &Channel, threads: u64, calls: u64) {
    let client = channel.client();
    thread::scope(|scope| {
        for thread in 0..threads {
            let client = &client;
            scope.spawn(move || {
                let mut random = Random(thread);
                for call in 0..calls {
                    let index = thread * calls + call;
                    let mut request = vec![0; random.between(8, 3000) as usize];
                    fill(index, &mut request);
                    let response = client.call(&request, PATIENCE).unwrap();
                    assert!(is_filled(index, &response), "thread {thread} got another's response");
                    assert_eq!(response.len(), request.len());
                }
            });
        }
    });
}

#[test]
fn calls_from_64_threads_get_each_its_own_response() {
    for options in [&[][..], &["pool", "threads=4"], &["classic", "pool", "threads=4"]] {
        let channel = Channel::new("storm");
        let mut server = channel.server(options);
        let calls = if crate::support::full() { 5000 } else { 300 };
        let start = Instant::now();
        storm(&channel, 64, calls);
        eprintln!("{options:?}: 64 x {calls} calls in {:?}", start.elapsed());
        server.tell("most");
        let most: u64 = server.hear().parse().unwrap();
        if options.is_empty() {
            assert_eq!(most, 1, "a single thread runs one handler at a time");
        }
        server.tell("started");
        assert_eq!(server.hear(), (64 * calls).to_string(), "each request is handled once");
    }
}

#[test]
fn a_single_thread_runs_one_handler_at_a_time_and_a_pool_several() {
    for (options, most) in [(&[][..], 1), (&["pool", "threads=3"], 3)] {
        let channel = Channel::new("sequential");
        let mut server = channel.server(options);
        let client = channel.client();
        for _ in 0..9 {
            client.send_request(b"!hold 20").unwrap();
        }
        let start = Instant::now();
        for _ in 0..9 {
            client.receive_response(PATIENCE).unwrap().expect("in time");
        }
        let needed = start.elapsed();
        (0..9).for_each(|_| assert!(server.hear().starts_with("sleeping")));
        server.tell("most");
        assert_eq!(server.hear(), most.to_string());
        assert!(
            most > 1 || needed > Duration::from_millis(170),
            "9 times 20 ms in a row take longer than {needed:?}"
        );
    }
}

#[test]
fn a_long_handler_behind_many_short_ones_does_not_hold_up_a_pool() {
    let channel = Channel::new("surprise");
    let mut server = channel.server(&["pool", "threads=2"]);
    let client = channel.client();
    for _ in 0..3 {
        // The pool gets used to short ones, and has one worker handle them all.
        for _ in 0..300 {
            client.call(b"short", PATIENCE).unwrap();
        }
        let long = client.send_request(b"!hold 1000").unwrap();
        assert!(server.hear().starts_with("sleeping"));
        let start = Instant::now();
        client.call(b"next", PATIENCE).unwrap();
        eprintln!("the next one was answered after {:?}", start.elapsed());
        let waiting = client.receive_response_to(long, Duration::ZERO).unwrap();
        assert!(waiting.is_none(), "the next request had to wait for a long one before it");
        client.receive_response_to(long, PATIENCE).unwrap().expect("in time");
    }
}

#[test]
fn responses_that_overtake_each_other_reach_their_callers() {
    let channel = Channel::new("overtake");
    let mut server = channel.server(&["pool", "threads=5"]);
    let client = channel.client();
    // Each handler answers when its turn comes: the last one first.
    let requests = |turns: [usize; 5]| turns.map(|turn| format!("!turn {turn}"));
    let send = |requests: &[String]| -> Vec<u64> {
        requests.iter().map(|request| client.send_request(request.as_bytes()).unwrap()).collect()
    };
    let give_turn = |server: &mut Peer, turn: usize| {
        server.tell(format!("turn {turn}"));
        server.expect(&format!("turn {turn} came"));
    };
    // As they arrive.
    let asked = requests([5, 4, 3, 2, 1]);
    let sent = send(&asked);
    for turn in 1..=5 {
        give_turn(&mut server, turn);
        let response = client.receive_response(PATIENCE).unwrap().expect("in time");
        assert_eq!(response.sequence(), sent[5 - turn], "the one whose turn it was");
        assert_eq!(*response, *asked[5 - turn].as_bytes());
    }
    // By number, whatever arrives first.
    let asked = requests([15, 14, 13, 12, 11]);
    let sent = send(&asked);
    (11..=15).for_each(|turn| give_turn(&mut server, turn));
    for (sequence, request) in sent.iter().zip(&asked) {
        let response = client.receive_response_to(*sequence, PATIENCE).unwrap().expect("in time");
        assert_eq!(*response, *request.as_bytes());
    }
    // By their callers.
    thread::scope(|scope| {
        for request in &requests([25, 24, 23, 22, 21]) {
            let (client, request) = (&client, request.clone());
            scope.spawn(move || {
                assert_eq!(*client.call(request.as_bytes(), PATIENCE).unwrap(), *request.as_bytes())
            });
        }
        (21..=25).for_each(|turn| give_turn(&mut server, turn));
    });
}

#[test]
fn callers_and_receivers_share_a_client_and_each_gets_its_own_responses() {
    const EACH: u64 = 2000;
    let channel = Channel::new("shared");
    let _server = channel.server(&["pool"]);
    let client = channel.client();
    let received = AtomicU64::new(0);
    let sum = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Two receive what two others send; three call.
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        if let Some(response) = client.receive_response(Duration::from_millis(5)).unwrap() {
                            assert!(response.starts_with(b"sent"), "a call's response went to a receiver");
                            sum.fetch_add(response.sequence(), Ordering::SeqCst);
                            received.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                })
            })
            .collect();
        let callers: Vec<_> = (0..3)
            .map(|caller| {
                let client = &client;
                scope.spawn(move || {
                    for index in 0..EACH {
                        let request = format!("call {caller} {index}");
                        assert_eq!(*client.call(request.as_bytes(), PATIENCE).unwrap(), *request.as_bytes());
                    }
                })
            })
            .collect();
        let senders: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| (0..EACH).map(|_| client.send_request(b"sent").unwrap()).sum::<u64>()))
            .collect();
        let sent: u64 = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        let start = Instant::now();
        while received.load(Ordering::SeqCst) < 2 * EACH {
            assert!(start.elapsed() < PATIENCE, "only {received:?} of {} responses", 2 * EACH);
            thread::sleep(Duration::from_millis(1));
        }
        done.store(true, Ordering::SeqCst);
        receivers.into_iter().for_each(|receiver| receiver.join().unwrap());
        assert_eq!((received.load(Ordering::SeqCst), sum.load(Ordering::SeqCst)), (2 * EACH, sent));
    });
}

#[test]
fn who_acquires_a_request_buffer_makes_other_senders_wait_and_no_receivers() {
    let channel = Channel::new("acquire");
    let mut server = channel.server(&[]);
    let client = channel.client();
    let early = client.send_request(b"!sleep 100").unwrap();
    server.expect("sleeping 1");
    let mut buffer = client.acquire_request_buffer(5).unwrap();
    thread::scope(|scope| {
        let other = scope.spawn(|| client.send_request(b"other").unwrap());
        // Received while the buffer is acquired.
        assert_eq!(client.receive_response(PATIENCE).unwrap().expect("in time").sequence(), early);
        assert!(!other.is_finished(), "another request was sent before the one acquired");
        buffer.copy_from_slice(b"first");
        let first = buffer.commit().unwrap();
        assert_eq!(other.join().unwrap(), first + 1);
        for expected in [&b"first"[..], b"other"] {
            assert_eq!(*client.receive_response(PATIENCE).unwrap().expect("in time"), *expected);
        }
    });
}

#[test]
fn a_second_client_is_refused_until_the_first_has_gone() {
    let channel = Channel::new("second");
    let _server = channel.server(&[]);
    let client = channel.client();
    let factory = zerobuffer::duplex::DuplexChannelFactory::new();
    let refused = factory.create_client(&channel.name).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WriterAlreadyConnected);
    assert_eq!(*client.call(b"still here", PATIENCE).unwrap(), *b"still here");
    client.close();
    assert_eq!(client.call(b"x", PATIENCE).unwrap_err().kind(), ErrorKind::Closed);
    let next = factory.create_client(&channel.name).unwrap();
    assert_eq!(*next.call(b"next", PATIENCE).unwrap(), *b"next");
}
