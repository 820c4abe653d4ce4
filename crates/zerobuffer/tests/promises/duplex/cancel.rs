//! Cancellation and deadlines, at every moment of a request's life.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use zerobuffer::{BufferConfig, ErrorKind};

use super::Channel;
use super::roles::{clock_client, clock_server};
use crate::support::ledger::Stopwatch;
use crate::support::{PATIENCE, Peer, Random, confine, role};

#[test]
fn a_request_cancelled_before_its_start_never_starts() {
    for options in [&[][..], &["pool", "threads=1"], &["in-place"]] {
        let channel = Channel::new("cancel");
        let mut server = channel.server(options);
        let client = channel.client();
        let first = client.send_request(b"!wait").unwrap();
        server.expect("waiting 1");
        // A pool of one thread has taken a few on already, without starting them.
        let queued: Vec<u64> = (0..10).map(|_| client.send_request(b"!kill").unwrap()).collect();
        for sequence in &queued {
            assert!(client.cancel_request(*sequence).unwrap());
            let error = client.receive_response(Duration::ZERO).unwrap_err();
            assert_eq!((error.kind(), error.sequence()), (ErrorKind::Cancelled, Some(*sequence)), "at once");
            assert!(!client.cancel_request(*sequence).unwrap(), "only once");
        }
        assert!(client.cancel_request(first).unwrap());
        server.expect("cancelled 1");
        let error = client.receive_response_to(first, PATIENCE).unwrap_err();
        assert_eq!((error.kind(), error.sequence()), (ErrorKind::Cancelled, Some(first)));
        assert_eq!(*client.call(b"alive", PATIENCE).unwrap(), *b"alive");
        server.tell("started");
        assert_eq!(server.hear(), "2");
    }
}

#[test]
fn a_request_cancelled_while_it_waits_for_space_never_starts() {
    let channel = Channel::new("cancel");
    let mut server = channel.server(&["payload=65536"]);
    let client = channel.client();
    let padded = |order: &str| format!("{order:<40000}").into_bytes();
    const ROUNDS: u64 = 200;
    for _ in 0..ROUNDS {
        let first = client.send_request(&padded("!wait")).unwrap();
        server.expect(&format!("waiting {first}"));
        thread::scope(|scope| {
            let sender = scope.spawn(|| client.send_request(&padded("!kill")).unwrap());
            // It is under way before it is sent, with the number that it will have.
            while !client.cancel_request(first + 1).unwrap() {
                thread::yield_now();
            }
            assert!(client.cancel_request(first).unwrap());
            assert_eq!(sender.join().unwrap(), first + 1);
        });
        server.expect(&format!("cancelled {first}"));
        for _ in 0..2 {
            assert_eq!(client.receive_response(PATIENCE).unwrap_err().kind(), ErrorKind::Cancelled);
        }
    }
    assert_eq!(*client.call(b"alive", PATIENCE).unwrap(), *b"alive");
    server.tell("started");
    assert_eq!(server.hear(), (ROUNDS + 1).to_string());
}

#[test]
fn a_request_cancelled_while_the_next_one_is_filled_never_starts() {
    let channel = Channel::new("cancel");
    let mut server = channel.server(&[]);
    let client = channel.client();
    let first = client.send_request(b"!wait").unwrap();
    server.expect("waiting 1");
    let second = client.send_request(b"!kill").unwrap();
    let mut next = client.acquire_request_buffer(4).unwrap();
    next.copy_from_slice(b"next");
    let third = next.sequence();
    assert!(client.cancel_request(second).unwrap() && client.cancel_request(first).unwrap());
    server.expect("cancelled 1");
    // Long enough to start with the second one.
    thread::sleep(Duration::from_millis(30));
    assert_eq!(*next.call(PATIENCE).unwrap(), *b"next");
    for sequence in [second, first] {
        let error = client.receive_response(PATIENCE).unwrap_err();
        assert_eq!((error.kind(), error.sequence()), (ErrorKind::Cancelled, Some(sequence)));
    }
    assert_eq!(third, 3);
    server.tell("started");
    assert_eq!(server.hear(), "2");
}

#[test]
fn where_responses_are_counted_those_to_withdrawn_requests_are_too() {
    for options in [&[][..], &["pool", "threads=1"], &["pool"]] {
        let channel = Channel::new("cancel");
        let mut server = channel.server(options);
        // Flags reach the server and nothing but bytes comes back.
        let client = channel.client_with(BufferConfig::default().classic(true));
        for round in 0..3 {
            let waits = client.send_request(b"!wait").unwrap();
            server.expect(&format!("waiting {waits}"));
            let withdrawn = client.send_request(b"withdrawn").unwrap();
            let kept = client.send_request(b"kept").unwrap();
            if options != ["pool"] {
                assert!(client.cancel_request(withdrawn).unwrap(), "round {round}");
            }
            assert!(client.cancel_request(waits).unwrap(), "round {round}");
            let response = client.receive_response_to(kept, PATIENCE).unwrap().expect("in time");
            assert_eq!(*response, *b"kept", "round {round}");
            drop(response);
            assert_eq!(*client.call(b"next", PATIENCE).unwrap(), *b"next", "round {round}");
            server.expect(&format!("cancelled {waits}"));
        }
    }
}

#[test]
fn a_running_handler_sees_the_cancellation_and_the_waiting_thread_is_told_at_once() {
    let channel = Channel::new("cancel");
    let mut server = channel.server(&[]);
    let client = channel.client();
    for by_number in [false, true] {
        let sequence = client.send_request(b"!wait").unwrap();
        server.expect(&format!("waiting {sequence}"));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let result = if by_number {
                    client.receive_response_to(sequence, PATIENCE)
                } else {
                    client.receive_response(PATIENCE)
                };
                (result.unwrap_err(), Instant::now())
            });
            thread::sleep(Duration::from_millis(20));
            let (start, watch) = (Instant::now(), Stopwatch::start());
            assert!(client.cancel_request(sequence).unwrap());
            let (error, told) = waiter.join().unwrap();
            assert_eq!((error.kind(), error.sequence()), (ErrorKind::Cancelled, Some(sequence)));
            watch.assert_took(told - start, super::SOON);
        });
        server.expect(&format!("cancelled {sequence}"));
    }
}

#[test]
fn a_cancellation_after_the_response_changes_nothing() {
    let channel = Channel::new("cancel");
    let _server = channel.server(&[]);
    let client = channel.client();
    let [one, two] = [b"one", b"two"].map(|request| client.send_request(request).unwrap());
    // The second one's response proves that the first one's has come, and been entered.
    assert_eq!(*client.receive_response_to(two, PATIENCE).unwrap().expect("in time"), *b"two");
    assert!(!client.cancel_request(one).unwrap());
    assert_eq!(*client.receive_response(PATIENCE).unwrap().expect("in time"), *b"one");
    assert!(!client.cancel_request(one).unwrap() && !client.cancel_request(99).unwrap());
}

#[test]
fn cancellations_that_race_with_responses_leave_each_request_one_outcome() {
    const ROUNDS: u64 = 100_000;
    let channel = Channel::new("race");
    let _server = channel.server(&[]);
    let client = channel.client();
    let under_way = AtomicU64::new(0);
    let start = Instant::now();
    let outcomes = thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::sync_channel::<u64>(4);
        // From at once to long after the response.
        let canceller = scope.spawn({
            let client = &client;
            move || {
                let mut random = Random(5);
                let mut cancel = |sequence: &u64| {
                    (0..1 << random.between(0, 14)).for_each(|_| std::hint::spin_loop());
                    client.cancel_request(*sequence).unwrap()
                };
                receiver.into_iter().filter(|sequence| cancel(sequence)).count() as u64
            }
        });
        let taker = scope.spawn(|| {
            let mut outcomes = [0_u64; 2];
            let mut seen = vec![false; ROUNDS as usize + 1];
            for count in 0..ROUNDS {
                let sequence = match client.receive_response(PATIENCE) {
                    Ok(Some(response)) => {
                        assert_eq!(*response, *b"race");
                        outcomes[0] += 1;
                        response.sequence()
                    }
                    Ok(None) => panic!("after {count} there is no outcome any more"),
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
                        outcomes[1] += 1;
                        error.sequence().expect("about one request")
                    }
                };
                assert!(!std::mem::replace(&mut seen[sequence as usize], true), "two outcomes of {sequence}");
                under_way.fetch_sub(1, Ordering::SeqCst);
            }
            outcomes
        });
        for _ in 0..ROUNDS {
            while under_way.load(Ordering::SeqCst) >= 8 && !taker.is_finished() {
                thread::yield_now();
            }
            under_way.fetch_add(1, Ordering::SeqCst);
            sender.send(client.send_request(b"race").unwrap()).unwrap();
        }
        drop(sender);
        let (cancelled, outcomes) = (canceller.join().unwrap(), taker.join().unwrap());
        assert_eq!(cancelled, outcomes[1], "each cancellation that took hold is one outcome");
        outcomes
    });
    eprintln!("{outcomes:?} answered and cancelled in {:?}", start.elapsed());
    assert!(outcomes.iter().all(|count| *count > 0), "no race at all: {outcomes:?}");
    assert_eq!(*client.call(b"after all", PATIENCE).unwrap(), *b"after all");
    assert!(client.receive_response(Duration::ZERO).unwrap().is_none());
}

#[test]
fn a_cancelled_request_makes_way_for_a_sender_that_waits_for_space() {
    let channel = Channel::new("space");
    let mut server = channel.server(&["payload=4096"]);
    let client = channel.client();
    let first = client.send_request(b"!wait").unwrap();
    server.expect("waiting 1");
    let mut kill = b"!kill".to_vec();
    kill.resize(1000, b' ');
    let queued: Vec<u64> = (0..3).map(|_| client.send_request(&kill).unwrap()).collect();
    thread::scope(|scope| {
        let sender = scope.spawn(|| client.call(&[7; 3000], PATIENCE).unwrap());
        thread::sleep(Duration::from_millis(20));
        assert!(!sender.is_finished());
        // The sender has the writer while it waits; the cancellations must reach the buffer all the same.
        for sequence in queued.iter().chain([&first]) {
            assert!(client.cancel_request(*sequence).unwrap());
        }
        assert_eq!(*sender.join().unwrap(), [7; 3000]);
    });
    server.tell("started");
    loop {
        let heard = server.hear();
        if !heard.starts_with("cancelled") {
            break assert_eq!(heard, "2", "none of the cancelled ones was started");
        }
    }
}

#[test]
fn a_call_that_is_not_answered_in_time_is_withdrawn_and_its_late_response_dropped() {
    for classic in [false, true] {
        let channel = Channel::new("deadline");
        let options: &[&str] = if classic { &["classic"] } else { &[] };
        let mut server = channel.server(options);
        let client = channel.client_with(BufferConfig::default().classic(classic));
        let (start, watch) = (Instant::now(), Stopwatch::start());
        let error = client.call(b"!hold 150", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
        assert!(start.elapsed() >= Duration::from_millis(45));
        watch.assert_within(Duration::from_millis(140));
        server.expect(&format!("sleeping {}", error.sequence().unwrap()));
        // Waits behind the first one for longer than its time.
        let error = client.call(b"x", Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded, "{error}");
        assert_eq!(*client.call(b"next", PATIENCE).unwrap(), *b"next");
        assert!(client.receive_response(Duration::from_millis(20)).unwrap().is_none());
        server.tell("started");
        assert_eq!(
            server.hear(),
            if classic { "3" } else { "2" },
            "with tags, the second one was never started"
        );
    }
}

#[test]
fn a_request_whose_deadline_passes_before_its_start_is_not_started() {
    let channel = Channel::new("deadline");
    let mut server = channel.server(&[]);
    let client = channel.client();
    let first = client.send_request(b"!hold 60").unwrap();
    let late = client.send_request_within(b"!kill", Duration::from_millis(10)).unwrap();
    let good = client.send_request_within(b"good", PATIENCE).unwrap();
    assert_eq!(client.receive_response(PATIENCE).unwrap().expect("in time").sequence(), first);
    let error = client.receive_response(PATIENCE).unwrap_err();
    assert_eq!((error.kind(), error.sequence()), (ErrorKind::DeadlineExceeded, Some(late)));
    assert_eq!(client.receive_response(PATIENCE).unwrap().expect("in time").sequence(), good);
    server.expect("sleeping 1");
    // A handler under way sees it too.
    let sequence = client.send_request_within(b"!wait", Duration::from_millis(30)).unwrap();
    server.expect(&format!("waiting {sequence}"));
    server.expect(&format!("cancelled {sequence}"));
}

#[test]
fn a_deadline_is_the_same_moment_in_every_time_namespace() {
    let later = confine::unshare(&["--time", "--monotonic", "1000000", "--boottime", "1000000"]);
    for (server, client) in [(&later[..], &[][..]), (&[], &later), (&later, &later)] {
        let channel = Channel::new("time");
        let start = |wrapper: &[String], role| match wrapper {
            [] => Peer::start(role, &[&channel.name]),
            _ => Peer::start_through(wrapper, role, &[&channel.name], |_| {}),
        };
        let mut server = start(server, role!(clock_server));
        server.expect("running");
        let answer = start(client, role!(clock_client)).hear();
        let left: u64 = answer.parse().unwrap_or_else(|_| panic!("{answer}"));
        assert!((1000..=10_010).contains(&left), "{left} of 10,000 ms are left");
    }
}
