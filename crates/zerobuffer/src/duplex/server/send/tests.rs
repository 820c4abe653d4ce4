//! Answers that come late, early or for a client that has gone.

use super::*;
use crate::config::BufferConfig;
use crate::duplex::{DuplexChannelFactory, ProcessingMode};

#[test]
fn an_answer_that_waited_while_its_client_went_is_not_written_for_the_next_one() {
    let names = ["", "_request", "_response"].map(|end| format!("unit-late{end}-{}", std::process::id()));
    let [channel, requests, responses] = names.map(String::into_boxed_str);
    let mut reader = Reader::create(&responses, BufferConfig::default()).unwrap();
    let mut writer = Writer::connect(&responses).unwrap();
    let sender = AnswerSender::new(Arc::new(Names { channel, requests, responses }));
    sender.end_client();
    for (client, comes) in [(0, false), (1, true)] {
        let to = Address { client, sequence: 1, mark: 0 };
        sender.persist(&mut writer, to, b"late", Tag::default()).unwrap();
        assert_eq!(reader.try_read_frame().unwrap().is_some(), comes, "client {client} of 1");
    }
}

#[test]
fn responses_are_counted_from_the_first_request_that_came() {
    let channel = format!("unit-first-{}", std::process::id());
    let classic = || BufferConfig::default().classic(true);
    let server = DuplexChannelFactory::new().create_immutable_server(&channel, classic()).unwrap();
    server.start(|request| Ok((&**request).into()), ProcessingMode::ThreadPool).unwrap();
    let mut responses = Reader::create(&format!("{channel}_response"), classic()).unwrap();
    responses.accept_any_sequence();
    let mut sequence = 0;
    // A 1.x client that was taken for dead continues.
    for _ in 0..2 {
        let mut requests = Writer::connect(&format!("{channel}_request")).unwrap();
        for _ in 0..2 {
            sequence += 1;
            let tag = Tag { sequence: Some(sequence), flags: 0, deadline: 0 };
            requests.write_tagged(&[sequence as u8], tag, due::coarse_now()).unwrap();
        }
        for expected in sequence - 1..=sequence {
            let response = loop {
                match responses.read_frame(Duration::from_secs(30)) {
                    Ok(response) => break response.expect("an answer"),
                    // The server has noticed the end of the first.
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WriterClosed),
                }
            };
            assert_eq!((response.sequence(), &*response), (expected, &[expected as u8][..]));
        }
    }
    server.stop().unwrap();
}

#[test]
fn an_answer_to_a_client_that_has_gone_reaches_no_other_and_takes_no_turn() {
    for classic in [false, true] {
        answer_a_client_that_has_gone(classic);
    }
}

fn answer_a_client_that_has_gone(classic: bool) {
    let channel = format!("unit-gone-{classic}-{}", std::process::id());
    let config = || BufferConfig::default().classic(classic);
    let server = DuplexChannelFactory::new().create_immutable_server(&channel, config()).unwrap();
    server.set_pool_size(2);
    let (enter, entered) = std::sync::mpsc::channel();
    let [(first, wait_first), (second, wait_second)] = [(); 2].map(|()| {
        let (go, told) = std::sync::mpsc::channel::<()>();
        (go, Mutex::new(told))
    });
    let handler = move |request: &crate::duplex::Request| {
        let told = match &**request {
            b"first" => &wait_first,
            b"second" => &wait_second,
            b"last" => {
                enter.send(())?;
                return Ok(request.to_vec().into());
            }
            _ => return Ok(request.to_vec().into()),
        };
        enter.send(())?;
        lock(told).recv()?;
        Ok(request.to_vec().into())
    };
    server.start(move |request| handler(request), ProcessingMode::ThreadPool).unwrap();
    // A client made of plain buffers, which drops no response by itself.
    let connect = || {
        let mut responses = Reader::create(&format!("{channel}_response"), config()).unwrap();
        responses.accept_any_sequence();
        (Writer::connect(&format!("{channel}_request")).unwrap(), responses)
    };
    let patience = Duration::from_secs(30);
    let (mut requests, mut responses) = connect();
    requests.write_frame(b"hello").unwrap();
    assert_eq!(responses.read_frame(patience).unwrap().expect("a response").sequence(), 1);
    requests.write_frame(b"first").unwrap();
    entered.recv_timeout(patience).unwrap();
    drop((requests, responses));

    let (mut requests, mut responses) = connect();
    let mut response = || {
        let frame = responses.read_frame(patience).unwrap().expect("a response");
        (frame.sequence(), frame.to_vec())
    };
    requests.write_frame(b"hello").unwrap();
    assert_eq!(response(), (1, b"hello".to_vec()));
    // Occupies the other worker, so that the next request waits until the late answer has been sent.
    requests.write_frame(b"second").unwrap();
    entered.recv_timeout(patience).unwrap();
    first.send(()).unwrap();
    requests.write_frame(b"last").unwrap();
    entered.recv_timeout(patience).unwrap();
    let last = (3, b"last".to_vec());
    if !classic {
        assert_eq!(response(), last, "an answer to another client");
    }
    second.send(()).unwrap();
    assert_eq!(response(), (2, b"second".to_vec()));
    if classic {
        assert_eq!(response(), last, "in order");
    }
    server.stop().unwrap();
}
