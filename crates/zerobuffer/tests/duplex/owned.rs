//! What language bindings rest on: calls in steps, and handlers that own their requests.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use zerobuffer::duplex::{DuplexChannelFactory, MutableFrame, ProcessingMode, Request};
use zerobuffer::{BufferConfig, ErrorKind};

use crate::Channel;
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
