//! What the model checker tries in every order: the hand-overs between threads that share a client.
//!
//! Each rule that the receiving half rests on has a test here that fails without it (docs/RELIABILITY.md lists them).

use std::sync::Arc;
use std::time::Duration;

use loom::thread::{self, JoinHandle};

use super::DuplexClient;
use super::send::LOOK;
use super::state::ClientState;
use crate::duplex::model::Wire;
use crate::error::ErrorKind;
use crate::sync::Ordering;

const FOREVER: Duration = Duration::MAX;

/// There is no watcher in the model.
impl ClientState {
    pub(crate) fn watch_server(&self) {}

    pub(crate) fn look(&self) -> Duration {
        LOOK
    }

    pub(crate) fn take_server_news(&self) -> bool {
        false
    }
}

fn client(room: usize) -> (Arc<Wire>, Arc<DuplexClient>) {
    let (wire, writer, reader) = Wire::new(room);
    let state = ClientState::new("model", writer, reader).expect("the model's own");
    (wire, Arc::new(DuplexClient { state, request_timeout: FOREVER }))
}

/// A thread that calls, and checks that the response is its own.
fn caller(client: &Arc<DuplexClient>, byte: u8) -> JoinHandle<()> {
    let client = Arc::clone(client);
    thread::spawn(move || assert_eq!(*client.call(&[byte], FOREVER).expect("a response"), [byte]))
}

fn check(switches: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(switches);
    builder.max_branches = 20_000;
    builder.check(run);
}

#[test]
fn loom_two_callers_get_each_its_own_response_in_any_order() {
    check(2, || {
        let (wire, client) = client(4);
        let other = caller(&client, 1);
        let answers = {
            let wire = Arc::clone(&wire);
            thread::spawn(move || {
                let requests = [wire.take_request(), wire.take_request()];
                requests.into_iter().rev().for_each(|request| wire.answer(request));
            })
        };
        assert_eq!(*client.call(&[2], FOREVER).expect("a response"), [2]);
        other.join().unwrap();
        answers.join().unwrap();
    });
}

#[test]
fn loom_the_lead_is_passed_on_to_a_caller_that_still_waits() {
    check(2, || {
        let (wire, client) = client(4);
        let first = client.send_request(&[1]).expect("room");
        let second = client.send_request(&[2]).expect("room");
        let waiter = {
            let client = Arc::clone(&client);
            thread::spawn(move || {
                let response =
                    client.receive_response_to(second, FOREVER).expect("no end").expect("a response");
                assert_eq!(*response, [2]);
            })
        };
        let answers = {
            let wire = Arc::clone(&wire);
            thread::spawn(move || {
                (0..2).for_each(|_| wire.answer(wire.take_request()));
            })
        };
        let response = client.receive_response_to(first, FOREVER).expect("no end").expect("a response");
        assert_eq!(*response, [1]);
        waiter.join().unwrap();
        answers.join().unwrap();
        assert_eq!(client.state.following.load(Ordering::Relaxed), 0, "neither waits");
    });
}

#[test]
fn loom_two_receivers_share_what_comes() {
    check(2, || {
        let (wire, client) = client(4);
        (1..=2).for_each(|byte| _ = client.send_request(&[byte]).expect("room"));
        (0..2).for_each(|_| wire.answer(wire.take_request()));
        let other = {
            let client = Arc::clone(&client);
            thread::spawn(move || client.receive_response(FOREVER).expect("no end").expect("a response")[0])
        };
        let own = client.receive_response(FOREVER).expect("no end").expect("a response")[0];
        assert_eq!(own + other.join().unwrap(), 3);
    });
}

#[test]
fn loom_a_cancelled_request_is_told_to_the_thread_that_waits() {
    check(3, || {
        let (_wire, client) = client(4);
        let sequence = client.send_request(&[1]).expect("room");
        let canceller = {
            let client = Arc::clone(&client);
            thread::spawn(move || assert!(client.cancel_request(sequence).expect("no end")))
        };
        let error = client.receive_response_to(sequence, FOREVER).expect_err("cancelled");
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        canceller.join().unwrap();
    });
}

#[test]
fn loom_a_cancelled_request_makes_its_sender_look_while_it_waits_for_space() {
    check(2, || {
        let (wire, client) = client(1);
        client.send_request(&[1]).expect("room");
        let sender = {
            let client = Arc::clone(&client);
            thread::spawn(move || client.send_request(&[2]).expect("sent in the end"))
        };
        // It is under way before it is sent, or not at all yet.
        let cancelled = client.cancel_request(2).expect("no end");
        assert_eq!(wire.take_request().sequence(), 1);
        if cancelled {
            assert!(
                wire.next_is_withdrawn(),
                "the server may start a request that was cancelled before there was space"
            );
        }
        assert_eq!(sender.join().unwrap(), 2);
        if cancelled {
            let error = client.receive_response_to(2, FOREVER).expect_err("cancelled");
            assert_eq!(error.kind(), ErrorKind::Cancelled);
        }
    });
}

#[test]
fn loom_a_cancelled_request_is_withdrawn_while_a_sender_waits_for_space_behind_it() {
    check(2, || {
        let (wire, client) = client(1);
        client.send_request(&[1]).expect("room");
        let sender = {
            let client = Arc::clone(&client);
            thread::spawn(move || client.send_request(&[2]).expect("sent in the end"))
        };
        assert!(client.cancel_request(1).expect("no end"));
        // The server reads nothing before, so the sender gets no space before.
        wire.await_withdrawn(1);
        assert_eq!(wire.take_request().sequence(), 2);
        assert_eq!(sender.join().unwrap(), 2);
    });
}

/// A thread that is woken to lead, and returns without having led because its request is cancelled, wakes another one.
#[test]
fn loom_a_thread_that_stops_waiting_passes_on_that_it_was_woken_to_lead() {
    check(2, || {
        let (wire, client) = client(4);
        (1..=3).for_each(|byte| _ = client.send_request(&[byte]).expect("room"));
        let [_first, second, third] = [(); 3].map(|()| wire.take_request());
        wire.answer(third);
        let waiters: Vec<_> = (1..=2)
            .map(|sequence| {
                let client = Arc::clone(&client);
                thread::spawn(move || match client.receive_response_to(sequence, FOREVER) {
                    Ok(response) => assert_eq!(*response.expect("a response"), [2]),
                    Err(error) => assert_eq!((error.kind(), sequence), (ErrorKind::Cancelled, 1)),
                })
            })
            .collect();
        let response = client.receive_response_to(3, FOREVER).expect("no end").expect("a response");
        assert_eq!(*response, [3]);
        assert!(client.cancel_request(1).expect("no end"));
        wire.answer(second);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

/// Two outcomes that come together may both wake the same thread, which takes one of them and wakes the next thread for the other.
#[test]
fn loom_a_receiver_wakes_the_next_one_for_an_outcome_that_it_leaves() {
    check(1, || {
        let (wire, client) = client(4);
        (1..=3).for_each(|byte| _ = client.send_request(&[byte]).expect("room"));
        let [first, second, third] = [(); 3].map(|()| wire.take_request());
        let leader = {
            let client = Arc::clone(&client);
            thread::spawn(move || {
                let response = client.receive_response_to(3, FOREVER).expect("no end").expect("a response");
                assert_eq!(*response, [3]);
            })
        };
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                let client = Arc::clone(&client);
                thread::spawn(move || {
                    let response = client.receive_response(FOREVER).expect("no end").expect("a response");
                    assert!(response[0] < 3);
                })
            })
            .collect();
        // An outcome that comes before a receiver waits does not wake it.
        while client.state.following.load(Ordering::Relaxed) < 2 {
            thread::yield_now();
        }
        wire.answer(first);
        wire.answer(second);
        receivers.into_iter().for_each(|receiver| receiver.join().unwrap());
        wire.answer(third);
        leader.join().unwrap();
    });
}

/// A close ends `receivers` threads that wait, one of which leads the others, and both buffers.
fn a_close_ends(receivers: usize, bound: usize) {
    check(bound, move || {
        let (wire, client) = client(4);
        let waiters: Vec<_> = (0..receivers)
            .map(|_| {
                let client = Arc::clone(&client);
                thread::spawn(move || {
                    let error = client.receive_response(FOREVER).expect_err("closed");
                    assert_eq!(error.kind(), ErrorKind::Closed);
                })
            })
            .collect();
        client.close();
        assert_eq!(wire.open_ends(), 0, "closed when close() returns");
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn loom_a_close_ends_a_leader_and_a_follower_and_both_buffers() {
    a_close_ends(2, 2);
}

#[test]
fn loom_a_close_ends_every_follower() {
    a_close_ends(3, 1);
}

#[test]
fn loom_a_close_ends_a_caller_and_a_sender_that_waits_for_space() {
    check(2, || {
        let (wire, client) = client(1);
        client.send_request(&[1]).expect("room");
        let sender = {
            let client = Arc::clone(&client);
            thread::spawn(move || {
                let error = client.call(&[2], FOREVER).expect_err("closed");
                assert_eq!(error.kind(), ErrorKind::Closed);
            })
        };
        client.close();
        assert_eq!(wire.open_ends(), 0, "closed when close() returns");
        sender.join().unwrap();
    });
}

#[test]
fn loom_a_close_ends_a_sender_that_waits_for_the_writer() {
    check(2, || {
        let (wire, client) = client(4);
        let request = client.acquire_request_buffer(1).expect("room");
        let sender = {
            let client = Arc::clone(&client);
            thread::spawn(move || {
                let error = client.send_request(&[2]).expect_err("closed");
                assert_eq!(error.kind(), ErrorKind::Closed);
            })
        };
        client.close();
        sender.join().unwrap();
        assert_eq!(wire.open_ends(), 1, "the request that is being filled has the writer");
        drop(request);
        assert_eq!(wire.open_ends(), 0);
    });
}

#[test]
fn loom_a_close_does_not_wait_for_a_request_that_is_being_filled() {
    check(2, || {
        let (wire, client) = client(4);
        let filler = {
            let client = Arc::clone(&client);
            // It has the request until the close is over.
            thread::spawn(move || client.acquire_request_buffer(1).ok())
        };
        client.close();
        drop(filler.join().unwrap());
        assert_eq!(wire.open_ends(), 0);
    });
}

#[test]
fn loom_the_servers_end_is_told_to_all_that_wait() {
    check(2, || {
        let (wire, client) = client(4);
        let waiter = {
            let client = Arc::clone(&client);
            thread::spawn(move || client.call(&[1], FOREVER).expect_err("no server").kind())
        };
        let server = thread::spawn(move || wire.end());
        let own = client.receive_response(FOREVER).expect_err("no server").kind();
        let other = waiter.join().unwrap();
        assert!(own == ErrorKind::ReaderDead && other == ErrorKind::ReaderDead, "{own} {other}");
        server.join().unwrap();
    });
}

#[test]
fn loom_the_writer_goes_from_one_sender_to_the_next() {
    check(2, || {
        let (wire, client) = client(4);
        let mut request = client.acquire_request_buffer(1).expect("room");
        let sender = {
            let client = Arc::clone(&client);
            thread::spawn(move || client.send_request(&[2]).expect("the writer comes back"))
        };
        request[0] = 1;
        assert_eq!(request.commit().expect("room"), 1);
        assert_eq!(sender.join().unwrap(), 2);
        assert_eq!(*wire.take_request(), [1]);
        assert_eq!(*wire.take_request(), [2]);
    });
}
