//! What a client makes of its server's frames and end, beyond what the public API shows.

#[cfg(feature = "async")]
mod tasks;

use std::time::{Duration, Instant};

use super::inbox::Wants;
use crate::config::BufferConfig;
use crate::duplex::due;
use crate::duplex::port::{Reader, Tag, Writer};
use crate::duplex::sync::lock;
use crate::duplex::{DuplexChannelFactory, DuplexClient};
use crate::error::ErrorKind;
use crate::sync::Ordering;

const PATIENCE: Duration = Duration::from_secs(30);

/// A client, and both buffers as its server has them.
fn channel(what: &str) -> (DuplexClient, Reader, Writer) {
    let channel = format!("unit-client-{what}-{}", std::process::id());
    let requests = Reader::create(&format!("{channel}_request"), BufferConfig::default()).unwrap();
    let client = DuplexChannelFactory::new().create_client(&channel).unwrap();
    let responses = Writer::connect(&format!("{channel}_response")).unwrap();
    (client, requests, responses)
}

/// Answers the next request.
fn answer(requests: &mut Reader, responses: &mut Writer, bytes: &[u8]) {
    let request = requests.read_frame(PATIENCE).unwrap().expect("the request");
    let tag = Tag { sequence: Some(request.sequence()), flags: 0, deadline: request.deadline() };
    responses.write_tagged(bytes, tag, due::coarse_now()).unwrap();
}

#[test]
fn an_answer_to_a_predecessors_request_of_the_same_number_is_dropped() {
    let (client, mut requests, mut responses) = channel("predecessor");
    let mut answer = |requests: &mut Reader| {
        let request = requests.read_frame(Duration::from_secs(30)).unwrap().expect("the request");
        let (sequence, deadline) = (Some(request.sequence()), request.deadline());
        for (deadline, bytes) in [(deadline ^ 8, b"old"), (deadline, b"new")] {
            responses.write_tagged(bytes, Tag { sequence, flags: 0, deadline }, due::coarse_now()).unwrap();
        }
    };
    client.send_request(b"x").unwrap();
    answer(&mut requests);
    assert_eq!(&*client.receive_response(Duration::from_secs(30)).unwrap().expect("in time"), b"new");
    let caller = std::thread::spawn(move || client.call(b"y", Duration::from_secs(30)).unwrap().to_vec());
    answer(&mut requests);
    assert_eq!(caller.join().unwrap(), b"new");
}

#[test]
fn a_poll_finds_a_response_that_has_come() {
    let (client, mut requests, mut responses) = channel("poll");
    client.send_request(b"x").unwrap();
    answer(&mut requests, &mut responses, b"y");
    assert_eq!(*client.receive_response(Duration::ZERO).unwrap().expect("it has come"), *b"y");
}

#[test]
fn a_stopped_server_is_called_stopped_and_is_sent_nothing_more() {
    let (client, requests, responses) = channel("stopped");
    client.send_request(b"x").unwrap();
    drop(requests);
    drop(responses);
    let error = client.receive_response(PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReaderDead);
    assert!(error.message().contains("it reads no more requests"), "{error}");
    let next = lock(&client.state.sender).next;
    let again = client.call(b"y", PATIENCE).unwrap_err();
    assert_eq!((again.kind(), again.message()), (error.kind(), error.message()));
    assert_eq!(lock(&client.state.sender).next, next, "no request was written");
}

#[test]
fn a_request_cancelled_while_a_thread_sends_is_withdrawn_when_the_writer_is_back() {
    let (client, mut requests, _responses) = channel("back");
    let sequence = client.send_request(b"x").unwrap();
    let (writer, _) = client.state.take_writer(client.state.due(PATIENCE)).unwrap();
    assert!(client.cancel_request(sequence).unwrap());
    client.state.put_writer_back(writer);
    assert!(requests.try_read_frame().unwrap().expect("the request").is_cancelled());
}

#[test]
fn a_request_cancelled_before_another_one_is_acquired_is_withdrawn_at_once() {
    let (client, mut requests, _responses) = channel("acquire");
    let sequence = client.send_request(b"x").unwrap();
    // As a thread leaves it that cancels while another one waits for space to fill.
    let place = lock(&client.state.inbox).entries[&sequence].place.expect("an extended ring");
    lock(&client.state.sender).withdrawn.push(place);
    let request = client.acquire_request_buffer(8).unwrap();
    assert!(requests.try_read_frame().unwrap().expect("the request").is_cancelled());
    drop(request);
}

#[test]
fn two_responses_that_come_at_once_reach_two_threads_while_another_one_reads() {
    let (client, mut requests, mut responses) = channel("two");
    for _ in 0..10 {
        let [first, second, third] = [(); 3].map(|()| client.send_request(b"x").unwrap());
        std::thread::scope(|scope| {
            let leader = scope.spawn(|| client.receive_response_to(third, PATIENCE));
            while lock(&client.state.inbox).leader != Some(Wants::One(third)) {
                std::thread::yield_now();
            }
            let receivers = [(); 2].map(|()| {
                scope.spawn(|| {
                    let response = client.receive_response(PATIENCE / 3).unwrap().expect("a response");
                    (response.sequence(), Instant::now())
                })
            });
            while client.state.following.load(Ordering::Relaxed) < 2 {
                std::thread::yield_now();
            }
            // For both to sleep.
            std::thread::sleep(Duration::from_millis(5));
            let start = Instant::now();
            (0..2).for_each(|_| answer(&mut requests, &mut responses, b"y"));
            let mut got = receivers.map(|receiver| receiver.join().unwrap());
            answer(&mut requests, &mut responses, b"z");
            assert!(leader.join().unwrap().unwrap().is_some());
            got.sort();
            assert_eq!(got.map(|(sequence, _)| sequence), [first, second]);
            let late = got.map(|(_, at)| at - start);
            assert!(late.iter().all(|late| *late < PATIENCE / 6), "one was not woken: {late:?}");
        });
    }
}
