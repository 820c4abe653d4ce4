//! Features for language bindings: calls in steps, and handlers that own their requests.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zerobuffer::duplex::{DuplexChannelFactory, MutableFrame, ProcessingMode, Request, ThreadRequest};
use zerobuffer::{BufferConfig, ErrorKind};

use super::Channel;
use crate::support::PATIENCE;

fn config() -> BufferConfig {
    BufferConfig::default().payload_size(1 << 16)
}

#[test]
fn a_call_in_steps_gets_its_response_or_gives_its_request_up() {
    let channel = Channel::new("steps");
    let mut server = channel.server(&[]);
    let client = channel.client();
    let mut call = client.start_call(b"!wait", PATIENCE).unwrap();
    server.expect("waiting 1");
    assert!(call.wait(Duration::ZERO).unwrap().is_none());
    assert!(call.wait(Duration::from_millis(5)).unwrap().is_none());
    assert_eq!(call.sequence(), 1);
    drop(call);
    server.expect("cancelled 1");
    let mut call = client.start_call(b"echo", PATIENCE).unwrap();
    let response = loop {
        if let Some(response) = call.wait(Duration::from_millis(50)).unwrap() {
            break response;
        }
    };
    assert_eq!(*response, *b"echo");
    assert_eq!(call.wait(Duration::ZERO).unwrap_err().kind(), ErrorKind::InvalidState);
    let mut late = client.start_call(b"!wait", Duration::from_millis(30)).unwrap();
    let error = loop {
        match late.wait(Duration::from_millis(5)) {
            Ok(response) => assert!(response.is_none()),
            Err(error) => break error,
        }
    };
    assert_eq!((error.kind(), error.sequence()), (ErrorKind::DeadlineExceeded, Some(3)));
}

#[test]
fn a_handler_may_keep_its_request_and_answer_with_any_owner_of_bytes() {
    let channel = Channel::new("owned");
    let server = DuplexChannelFactory::new().create_immutable_server(&channel.name, config()).unwrap();
    let kept: Arc<Mutex<Vec<Request>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let handler = move |request: Request| {
        let answer: Arc<[u8]> = request.to_ascii_uppercase().into();
        keep.lock().unwrap().push(request);
        if *answer == *b"BAD" { Err("not this one".into()) } else { Ok(answer) }
    };
    // A stop gives the names up, whether it was started or not.
    server.stop().unwrap();
    channel.assert_nothing_left();
    server.start_owned(handler, ProcessingMode::SingleThread).unwrap();
    let client = channel.client();
    assert_eq!(*client.call(b"good", PATIENCE).unwrap(), *b"GOOD");
    let error = client.call(b"bad", PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestFailed);
    assert!(error.to_string().contains("not this one"));
    assert_eq!(
        kept.lock().unwrap().iter().map(|request| request.to_vec()).collect::<Vec<_>>(),
        [b"good".to_vec(), b"bad".to_vec()]
    );
    client.close();
    server.stop().unwrap();
}

#[test]
fn a_mutable_request_that_is_kept_is_its_response() {
    let channel = Channel::new("owned-mutable");
    let server = DuplexChannelFactory::new().create_mutable_server(&channel.name, config()).unwrap();
    let (sender, receiver) = channel_of_frames();
    let handler = move |mut frame: MutableFrame| {
        assert!(!frame.is_cancelled());
        frame.reverse();
        let frame = Arc::new(frame);
        sender.send(Arc::clone(&frame))?;
        Ok(Shared(frame))
    };
    server.start_owned(handler, ProcessingMode::ThreadPool).unwrap();
    let client = channel.client();
    assert_eq!(*client.call(b"abc", PATIENCE).unwrap(), *b"cba");
    assert_eq!(**receiver.recv().unwrap(), *b"cba");
    client.close();
    server.stop().unwrap();
}

struct Shared(Arc<MutableFrame>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

type Frames = (std::sync::mpsc::Sender<Arc<MutableFrame>>, std::sync::mpsc::Receiver<Arc<MutableFrame>>);

fn channel_of_frames() -> Frames {
    channel()
}

/// An owner of bytes.
enum Owner {
    Fine(Request),
    /// An owner whose bytes cannot be read.
    Broken,
    /// An owner that panics when it is dropped.
    Trap,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        match self {
            Owner::Fine(request) => request,
            Owner::Broken => panic!("no bytes"),
            Owner::Trap => b"trap",
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        assert!(!matches!(self, Owner::Trap), "sprung");
    }
}

/// An error without words.
#[derive(Debug)]
struct Speechless;

impl std::fmt::Display for Speechless {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("no words")
    }
}

impl std::error::Error for Speechless {}

#[test]
fn a_panic_in_whatever_a_handler_gives_back_fails_that_request_alone() {
    for mode in [ProcessingMode::SingleThread, ProcessingMode::ThreadPool] {
        let channel = Channel::new("owned");
        let server = DuplexChannelFactory::new().create_immutable_server(&channel.name, config()).unwrap();
        let (tell, told) = std::sync::mpsc::channel::<String>();
        server.on_error(move |error| tell.send(error.to_string()).unwrap());
        let handler = |request: Request| match &*request {
            b"broken" => Ok(Owner::Broken),
            b"speechless" => Err(Speechless.into()),
            b"trap" => Ok(Owner::Trap),
            _ => Ok(Owner::Fine(request)),
        };
        server.start_owned(handler, mode).unwrap();
        let client = channel.client();
        for (request, words) in [(b"broken".as_slice(), "no bytes"), (b"speechless", "no words")] {
            // More often than there are threads.
            for _ in 0..5 {
                let error = client.call(request, PATIENCE).unwrap_err();
                assert!(
                    error.kind() == ErrorKind::RequestFailed && error.to_string().contains(words),
                    "{error}"
                );
                assert!(told.recv_timeout(PATIENCE).unwrap().contains(words));
            }
        }
        assert_eq!(*client.call(b"trap", PATIENCE).unwrap(), *b"trap");
        assert!(told.recv_timeout(PATIENCE).unwrap().contains("sprung"));
        assert!(server.is_running());
        assert_eq!(*client.call(b"alive", PATIENCE).unwrap(), *b"alive");
        drop(client);
        server.stop().unwrap();
    }
}

#[test]
fn a_handler_whose_answer_cannot_be_sent_is_busy_all_the_same() {
    let channel = Channel::new("owned");
    let server = DuplexChannelFactory::new().create_immutable_server(&channel.name, config()).unwrap();
    let (tell, told) = std::sync::mpsc::channel::<String>();
    server.on_error(move |error| tell.send(error.to_string()).unwrap());
    let (go, wait) = std::sync::mpsc::sync_channel::<()>(0);
    let wait = Mutex::new(wait);
    server
        .start_responding(
            move |_, responder| {
                responder.reply(&vec![1; 1 << 20])?;
                wait.lock().unwrap().recv()?;
                Ok(())
            },
            ProcessingMode::SingleThread,
        )
        .unwrap();
    let client = channel.client_with(config());
    client.send_request(b"too much").unwrap();
    assert!(told.recv_timeout(PATIENCE).unwrap().contains("too large"));
    let start = crate::support::ledger::Stopwatch::start();
    assert_eq!(server.stop().unwrap_err().kind(), ErrorKind::HandlerBusy);
    start.assert_within(super::SOON);
    go.send(()).unwrap();
}

#[test]
fn a_request_that_an_ended_thread_has_acquired_is_discarded() {
    let channel = Channel::new("left");
    let _server = channel.server(&[]);
    let client = channel.client();
    let acquired = ThreadRequest::default();
    for round in 1..=3 {
        let number = std::thread::scope(|scope| {
            let filler = scope.spawn(|| {
                acquired.put(client.acquire_request_buffer(100).unwrap());
                client.send_request(b"own").unwrap_err().kind()
            });
            // Waits until the thread that fills a request has ended.
            let sender = scope.spawn(|| client.call(b"next", PATIENCE).unwrap().sequence());
            assert_eq!(filler.join().unwrap(), ErrorKind::InvalidState, "the thread has a request buffer");
            sender.join().unwrap()
        });
        assert_eq!(number, round * 2 - 1, "what was discarded took no number");
        assert!(acquired.take().is_none());
        // A request that is taken in time is sent.
        acquired.put(client.acquire_request_buffer(1).unwrap());
        let other = std::thread::scope(|scope| scope.spawn(|| acquired.take().is_none()).join().unwrap());
        assert!(other, "it belongs to this thread");
        let mut request = acquired.take().expect("put by this thread");
        request[0] = b'x';
        assert_eq!(*request.call(PATIENCE).unwrap(), *b"x");
    }
    acquired.put(client.acquire_request_buffer(1).unwrap());
    std::thread::scope(|scope| scope.spawn(|| acquired.clear()).join().unwrap());
    assert_eq!(*client.call(b"cleared", PATIENCE).unwrap(), *b"cleared");
}
