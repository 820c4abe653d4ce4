//! Answers that handlers fill in place: where their bytes lie, and what happens to those that are never committed.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zerobuffer::duplex::{
    ClientOptions, Deferred, DuplexChannelFactory, DuplexClient, HandlerError, ImmutableDuplexServer,
    ProcessingMode, Request, Responder, ResponseWriter,
};
use zerobuffer::{BufferConfig, ErrorKind};

use super::Channel;
use crate::support::PATIENCE;

type Done = Result<(), HandlerError>;

fn server(channel: &Channel, classic: bool) -> Arc<ImmutableDuplexServer> {
    let config = BufferConfig::default().payload_size(1 << 20).classic(classic);
    Arc::new(DuplexChannelFactory::new().create_immutable_server(&channel.name, config).unwrap())
}

fn client(channel: &Channel, classic: bool) -> DuplexClient {
    let config = BufferConfig::default().payload_size(1 << 16).classic(classic);
    let options = ClientOptions::default().response_config(config);
    DuplexChannelFactory::new().create_client_with(&channel.name, options).unwrap()
}

/// Whether these bytes lie in a mapping of a response buffer.
fn lies_in_a_response_buffer(bytes: &[u8]) -> bool {
    let at = bytes.as_ptr() as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let number = |text: &str| usize::from_str_radix(text, 16).unwrap();
    maps.lines().any(|line| {
        let (range, rest) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        number(start) <= at && at < number(end) && rest.contains("_response")
    })
}

/// Answers `1` in bytes of the response buffer, `0` in others.
fn tell_where(_: &Request, response: &mut ResponseWriter<'_>) -> Done {
    let mut bytes = response.acquire(5)?;
    let answer = u8::from(lies_in_a_response_buffer(&bytes));
    bytes.fill(answer);
    Ok(bytes.commit_len(1)?)
}

#[test]
fn the_bytes_are_those_of_the_response_buffer_where_one_thread_runs_all_handlers() {
    for classic in [false, true] {
        for (mode, expected) in [(ProcessingMode::SingleThread, 1), (ProcessingMode::ThreadPool, 0)] {
            let channel = Channel::new("where");
            let server = server(&channel, classic);
            server.start_in_place(tell_where, mode).unwrap();
            let client = client(&channel, classic);
            for _ in 0..3 {
                assert_eq!(*client.call(b"where?", PATIENCE).unwrap(), [expected], "{mode:?} {classic}");
            }
            drop(client);
            server.stop().unwrap();
            channel.assert_nothing_left();
        }
    }
}

#[test]
fn a_handler_that_has_acquired_bytes_keeps_no_deferred_answer_waiting() {
    for classic in [false, true] {
        let channel = Channel::new("defer");
        let server = server(&channel, classic);
        let (later, deferred): (Sender<Deferred>, _) = mpsc::channel();
        let (go, told): (Sender<()>, Receiver<()>) = mpsc::channel();
        let told = Mutex::new(told);
        let (tell, acquired): (Sender<()>, Receiver<()>) = mpsc::channel();
        let handler = move |request: &Request, responder: &mut Responder<'_>| -> Done {
            if **request == *b"later" {
                return Ok(later.send(responder.defer()?)?);
            }
            let mut bytes = responder.response().acquire(1)?;
            bytes[0] = u8::from(lies_in_a_response_buffer(&bytes));
            if **request == *b"wait" {
                tell.send(())?;
                told.lock().unwrap().recv_timeout(PATIENCE)?;
            }
            Ok(bytes.commit()?)
        };
        server.start_responding(handler, ProcessingMode::SingleThread).unwrap();
        let client = client(&channel, classic);
        assert_eq!(*client.call(b"before", PATIENCE).unwrap(), [1]);
        let first = client.send_request(b"later").unwrap();
        let second = client.send_request(b"wait").unwrap();
        let answer = deferred.recv_timeout(PATIENCE).unwrap();
        acquired.recv_timeout(PATIENCE).unwrap();
        answer.reply(b"now");
        // The second handler waits until the test has that.
        let response = client.receive_response_to(first, PATIENCE).unwrap().expect("the deferred answer");
        assert_eq!(*response, *b"now");
        go.send(()).unwrap();
        assert_eq!(*client.receive_response_to(second, PATIENCE).unwrap().expect("the other"), [0]);
        assert_eq!(*client.call(b"after", PATIENCE).unwrap(), [1], "none is deferred any more");
        // One that is dropped counts no longer, either.
        client.send_request(b"later").unwrap();
        drop(deferred.recv_timeout(PATIENCE).unwrap());
        let failed = client.receive_response(PATIENCE);
        assert!(classic && failed.is_ok() || failed.unwrap_err().kind() == ErrorKind::RequestFailed);
        assert_eq!(*client.call(b"after", PATIENCE).unwrap(), [1], "none is deferred any more");
        drop(client);
        server.stop().unwrap();
    }
}

#[test]
fn a_request_has_one_answer_and_its_bytes_are_acquired_once_at_a_time() {
    for mode in [ProcessingMode::SingleThread, ProcessingMode::ThreadPool] {
        let channel = Channel::new("misuse");
        let server = server(&channel, false);
        let kind = |result: zerobuffer::Result<()>| result.unwrap_err().kind();
        let misuse = move |_: &Request, responder: &mut Responder<'_>| -> Done {
            let response = responder.response();
            assert_eq!(kind(response.commit(None)), ErrorKind::InvalidState, "nothing is acquired");
            assert!(response.acquired().is_none() && response.memory_guard().is_none());
            response.acquire_buffer(4)?;
            response.acquired().expect("bytes").copy_from_slice(b"done");
            assert_eq!(kind(response.acquire_buffer(4)), ErrorKind::InvalidState, "twice");
            assert_eq!(kind(response.write(b"x")), ErrorKind::InvalidState, "written while acquired");
            assert_eq!(kind(response.commit(Some(5))), ErrorKind::InvalidFrameSize);
            assert_eq!(kind(responder.reply(b"x")), ErrorKind::InvalidState);
            assert_eq!(kind(responder.defer().map(drop)), ErrorKind::InvalidState);
            let response = responder.response();
            let in_place = mode == ProcessingMode::SingleThread;
            assert_eq!(response.memory_guard().is_some(), in_place);
            assert!(!response.is_answered());
            response.commit(None)?;
            assert!(response.is_answered());
            assert_eq!(kind(response.acquire_buffer(1)), ErrorKind::InvalidState, "answered");
            assert_eq!(kind(response.commit(None)), ErrorKind::InvalidState, "answered");
            assert_eq!(kind(response.write(b"x")), ErrorKind::InvalidState, "answered");
            assert_eq!(kind(responder.defer().map(drop)), ErrorKind::InvalidState);
            Ok(())
        };
        server.start_responding(misuse, mode).unwrap();
        let client = client(&channel, false);
        for _ in 0..2 {
            assert_eq!(*client.call(b"x", PATIENCE).unwrap(), *b"done");
        }
        assert!(client.receive_response(Duration::ZERO).unwrap().is_none(), "one answer each");
        drop(client);
        server.stop().unwrap();
    }
}

/// Does as the request says with its answer.
fn obey(request: &Request, response: &mut ResponseWriter<'_>) -> Done {
    match &**request {
        b"forget" => drop(response.acquire(10)?),
        b"leak" => std::mem::forget(response.acquire(10)?),
        b"fail" => {
            let _bytes = response.acquire(10)?;
            return Err("on purpose".into());
        }
        b"panic" => {
            let _bytes = response.acquire(10)?;
            panic!("on purpose");
        }
        b"late" => {
            let bytes = response.acquire(10)?;
            bytes.commit_len(0)?;
            return Err("after the answer".into());
        }
        b"too much" => return Ok(response.acquire(10)?.commit_len(11)?),
        b"nothing" => {}
        b"none" => response.acquire(10)?.commit_len(0)?,
        b"zero" => response.acquire(0)?.commit()?,
        b"again" => {
            response.acquire(10)?.fill(7);
            let mut bytes = response.acquire(3)?;
            bytes.copy_from_slice(b"yes");
            bytes.commit()?;
        }
        b"copy" => {
            drop(response.acquire(10)?);
            response.write(b"yes")?;
        }
        _ => return tell_where(request, response),
    }
    Ok(())
}

#[test]
fn bytes_that_are_never_committed_fail_their_request_alone() {
    for mode in [ProcessingMode::SingleThread, ProcessingMode::ThreadPool] {
        let channel = Channel::new("forget");
        let server = server(&channel, false);
        let (tell, errors) = mpsc::channel();
        server.on_error(move |error| {
            tell.send((error.kind(), error.sequence(), error.to_string())).expect("the test listens")
        });
        server.start_in_place(obey, mode).unwrap();
        let client = client(&channel, false);
        let in_place = [u8::from(mode == ProcessingMode::SingleThread)];
        for (request, words) in [
            ("forget", "committed none"),
            ("leak", "committed none"),
            ("fail", "on purpose"),
            ("panic", "on purpose"),
            ("too much", "cannot commit 11 of 10 bytes"),
        ] {
            let error = client.call(request.as_bytes(), PATIENCE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RequestFailed, "{request}");
            assert!(error.to_string().contains(words), "{request}: {error}");
            let (kind, sequence, text) = errors.recv_timeout(PATIENCE).unwrap();
            assert_eq!((kind, sequence), (ErrorKind::RequestFailed, error.sequence()), "{request}");
            assert!(text.contains(words), "{request}: {text}");
            assert_eq!(*client.call(b"where?", PATIENCE).unwrap(), in_place, "after {request}");
        }
        for request in [&b"nothing"[..], b"none", b"zero", b"late"] {
            assert!(client.call(request, PATIENCE).unwrap().is_empty(), "{request:?}");
        }
        assert!(errors.recv_timeout(PATIENCE).unwrap().2.contains("after the answer"));
        for request in [&b"again"[..], b"copy"] {
            assert_eq!(*client.call(request, PATIENCE).unwrap(), *b"yes");
        }
        assert!(errors.try_recv().is_err(), "no other error");
        drop(client);
        server.stop().unwrap();
    }
}

#[test]
fn an_answer_that_cannot_fit_is_refused_at_the_acquire_and_another_may_follow() {
    for classic in [false, true] {
        for mode in [ProcessingMode::SingleThread, ProcessingMode::ThreadPool] {
            let channel = Channel::new("refused");
            let server = server(&channel, classic);
            let handler = |_: &Request, response: &mut ResponseWriter<'_>| -> Done {
                let error = response.acquire((1 << 16) - 15).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::FrameTooLarge);
                assert!(error.to_string().contains("response_config"), "{error}");
                let mut largest = response.acquire((1 << 16) - 16)?;
                largest.fill(9);
                Ok(largest.commit()?)
            };
            server.start_in_place(handler, mode).unwrap();
            let client = client(&channel, classic);
            for _ in 0..3 {
                let response = client.call(b"x", PATIENCE).unwrap();
                assert!(response.len() == (1 << 16) - 16 && response.iter().all(|byte| *byte == 9));
            }
            drop(client);
            server.stop().unwrap();
        }
    }
}

#[test]
fn an_answer_in_place_after_its_deadline_reaches_no_caller() {
    let channel = Channel::new("late");
    let mut server = channel.server(&["in-place"]);
    let client = channel.client();
    server.tell("shut");
    server.expect("shut");
    let error = client.call(b"!gate", Duration::from_millis(20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    server.expect("at the gate 1");
    server.tell("open");
    assert_eq!(*client.call(b"next", PATIENCE).unwrap(), *b"next");
    assert!(client.receive_response(Duration::from_millis(20)).unwrap().is_none());
    // One that is cancelled while its bytes are acquired.
    let sequence = client.send_request(b"!wait").unwrap();
    server.expect("waiting 3");
    assert!(client.cancel_request(sequence).unwrap());
    server.expect("cancelled 3");
    assert_eq!(*client.call(b"next", PATIENCE).unwrap(), *b"next");
    assert_eq!(client.receive_response(PATIENCE).unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(client.receive_response(Duration::from_millis(20)).unwrap().is_none());
}

#[test]
fn a_handler_may_stop_its_server_while_it_has_acquired_bytes() {
    let channel = Channel::new("stop");
    let server = server(&channel, false);
    let own = Arc::downgrade(&server);
    let (tell, told) = mpsc::channel();
    let handler = move |request: &Request, response: &mut ResponseWriter<'_>| -> Done {
        let mut bytes = response.acquire(request.len())?;
        bytes.copy_from_slice(request);
        if **request == *b"stop" {
            own.upgrade().expect("it runs").stop()?;
            bytes.fill(0);
            bytes.commit()?;
            // From now on the bytes are no client's.
            assert!(response.acquire(1).is_err(), "it was answered");
            return Ok(tell.send(())?);
        }
        Ok(bytes.commit()?)
    };
    server.start_in_place(handler, ProcessingMode::SingleThread).unwrap();
    let first = client(&channel, false);
    assert_eq!(*first.call(b"go", PATIENCE).unwrap(), *b"go");
    let error = first.call(b"stop", PATIENCE).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ReaderDead | ErrorKind::WriterDead), "{error}");
    told.recv_timeout(PATIENCE).unwrap();
    assert!(server.wait(PATIENCE));
    drop(first);
    channel.assert_nothing_left();
}

#[test]
fn private_memory_shows_no_answer_to_another_client() {
    let channel = Channel::new("private");
    let server = server(&channel, false);
    server.set_pool_size(1);
    let handler = |request: &Request, response: &mut ResponseWriter<'_>| -> Done {
        let mut bytes = response.acquire(6)?;
        if **request == *b"secret" {
            bytes.copy_from_slice(request);
        }
        Ok(bytes.commit()?)
    };
    server.start_in_place(handler, ProcessingMode::ThreadPool).unwrap();
    let first = client(&channel, false);
    assert_eq!(*first.call(b"secret", PATIENCE).unwrap(), *b"secret");
    assert_eq!(*first.call(b"again", PATIENCE).unwrap(), *b"secret", "it is used again");
    drop(first);
    let other = client(&channel, false);
    assert_eq!(*other.call(b"what?", PATIENCE).unwrap(), [0; 6]);
    drop(other);
    server.stop().unwrap();
}
