//! Requests and responses of every size, by every way of sending and receiving.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use zerobuffer::duplex::{
    DuplexChannelFactory, DuplexClient, MAX_CHANNEL_NAME_LEN, ProcessingMode, Request, Responder,
};
use zerobuffer::{BufferConfig, ErrorKind};

use super::Channel;
use crate::support::{PATIENCE, Random, fill};

/// 1 B to 10 MB, around every boundary of the rings.
const SIZES: [usize; 16] =
    [1, 2, 15, 16, 17, 47, 48, 49, 63, 64, 4095, 4096, 65_537, 1 << 20, 3_110_400, 10_000_000];

fn bytes(index: usize, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fill(index as u64, &mut bytes);
    bytes
}

/// Sends each size three ways, and checks what comes back.
fn exchange(client: &DuplexClient, expected: impl Fn(&[u8]) -> Vec<u8>) {
    for (index, size) in SIZES.into_iter().enumerate() {
        let request = bytes(index, size);
        let expected = expected(&request);
        let response = client.call(&request, PATIENCE).unwrap();
        assert!(*response == *expected, "call of {size} bytes");

        let sequence = client.send_request(&request).unwrap();
        let response = client.receive_response(PATIENCE).unwrap().expect("in time");
        assert!(*response == *expected && response.sequence() == sequence, "sending {size} bytes");

        let mut buffer = client.acquire_request_buffer(size).unwrap();
        buffer.copy_from_slice(&request);
        let sequence = buffer.sequence();
        assert_eq!(client.commit_request(buffer).unwrap(), sequence);
        let response = client.receive_response_to(sequence, PATIENCE).unwrap().expect("in time");
        assert!(*response == *expected && response.sequence() == sequence, "{size} bytes in place");

        let mut buffer = client.acquire_request_buffer(size).unwrap();
        buffer.copy_from_slice(&request);
        assert!(*buffer.call(PATIENCE).unwrap() == *expected, "call of {size} bytes in place");
    }
}

#[test]
fn requests_of_1_byte_to_10_megabytes_come_back_whole_from_every_kind_of_server() {
    let plain = [&[][..], &["pool"], &["classic"], &["classic", "pool"]];
    let in_place = plain.map(|options| [options, &["in-place"]].concat());
    for options in plain.into_iter().chain(in_place.iter().map(Vec::as_slice)) {
        let channel = Channel::new("echo");
        let _server = channel.server(options);
        exchange(&channel.client(), <[u8]>::to_vec);
    }
    for options in [&["mutable"][..], &["mutable", "pool"], &["mutable", "classic"]] {
        let channel = Channel::new("mutable");
        let _server = channel.server(options);
        exchange(&channel.client(), |request| request.iter().map(|byte| !byte).collect());
    }
}

#[test]
fn a_mutable_server_changes_frames_at_the_end_of_a_small_ring_too() {
    // Every place of a ring that wraps all the time.
    let channel = Channel::new("mutable");
    let _server = channel.server(&["mutable", "payload=4096"]);
    let client = channel.client_with(BufferConfig::default().payload_size(4096));
    let mut random = Random(7);
    for index in 0..20_000 {
        let request = bytes(index, random.between(1, 1900) as usize);
        let response = client.call(&request, PATIENCE).unwrap();
        assert!(response.iter().zip(&request).all(|(new, old)| *new == !*old), "request {index}");
        assert_eq!(response.len(), request.len());
    }
}

#[test]
fn ten_requests_may_be_sent_before_any_response_is_read() {
    for options in [&[][..], &["pool"]] {
        let channel = Channel::new("ten");
        let _server = channel.server(options);
        let client = channel.client();
        let mut sent: Vec<u64> =
            (0..10).map(|index| client.send_request(&bytes(index, 1000 + index)).unwrap()).collect();
        while !sent.is_empty() {
            let response = client.receive_response(PATIENCE).unwrap().expect("in time");
            let at = sent
                .iter()
                .position(|sequence| *sequence == response.sequence())
                .expect("a request that was sent");
            assert!(options == ["pool"] || at == 0, "one thread answers in order");
            let index = response.len() - 1000;
            assert_eq!(sent.remove(at), index as u64 + 1, "each response is that of its request");
            assert!(*response == *bytes(index, 1000 + index));
        }
        assert!(client.receive_response(Duration::ZERO).unwrap().is_none());
    }
}

#[test]
fn a_full_response_buffer_makes_the_server_wait_and_nothing_is_lost_when_it_is_drained() {
    for options in [&[][..], &["pool"], &["classic"], &["in-place"], &["in-place", "classic"]] {
        let channel = Channel::new("full");
        let mut server = channel.server(options);
        let client = channel.client_with(BufferConfig::default().payload_size(64 << 10));
        for index in 0..100 {
            client.send_request(&bytes(index, 4000)).unwrap();
        }
        // Some 15 responses fit; the server is stuck behind them, but neither dead nor dropping.
        let start = Instant::now();
        let mut last = 0;
        loop {
            server.tell("started");
            let started: u64 = server.hear().parse().unwrap();
            if started >= 15 && started == last {
                break assert!(started < 30, "{started} responses fit 64 KiB?");
            }
            last = started;
            assert!(start.elapsed() < PATIENCE, "only {started} were started");
            std::thread::sleep(Duration::from_millis(30));
        }
        let mut seen = [false; 100];
        for _ in 0..100 {
            let response = client.receive_response(PATIENCE).unwrap().expect("in time");
            let index = response.sequence() as usize - 1;
            assert!(*response == *bytes(index, 4000), "response {index}");
            assert!(!std::mem::replace(&mut seen[index], true), "response {index} came twice");
        }
        assert!(client.receive_response(Duration::ZERO).unwrap().is_none());
    }
}

#[test]
fn a_client_that_sends_before_it_reads_takes_in_what_has_come_when_it_needs_space() {
    // Some 260 requests fit, and 16 responses.
    const REQUESTS: usize = 400;
    for options in [&["payload=1048576"][..], &["payload=1048576", "pool"], &["payload=1048576", "classic"]] {
        let channel = Channel::new("take-in");
        let _server = channel.server(options);
        let client = channel.client_with(BufferConfig::default().payload_size(64 << 10));
        let send = |index: usize| {
            if index.is_multiple_of(2) {
                return client.send_request(&bytes(index, 4000));
            }
            let mut buffer = client.acquire_request_buffer(4000)?;
            buffer.copy_from_slice(&bytes(index, 4000));
            buffer.commit()
        };
        let mut sent: BTreeSet<u64> = (0..REQUESTS).map(|index| send(index).unwrap()).collect();
        while !sent.is_empty() {
            let response = client.receive_response(PATIENCE).unwrap().expect("in time");
            let sequence = response.sequence();
            assert!(sent.remove(&sequence), "response {sequence}");
            assert!(*response == *bytes(sequence as usize - 1, 4000), "response {sequence}");
        }
        assert_eq!(*client.call(b"and on", PATIENCE).unwrap(), *b"and on");
    }
}

#[test]
fn a_client_that_never_reads_keeps_copies_of_as_many_bytes_as_the_request_buffer_has() {
    let channel = Channel::new("never-read");
    let _server = channel.server(&["payload=65536"]);
    let options = zerobuffer::duplex::ClientOptions::default()
        .connect_timeout(PATIENCE)
        .request_timeout(Duration::from_millis(300))
        .response_config(BufferConfig::default().payload_size(64 << 10));
    let client = DuplexChannelFactory::new().create_client_with(&channel.name, options).unwrap();
    let mut sent = 0;
    let error = loop {
        match client.send_request(&bytes(sent, 4000)) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::BufferFull);
    assert!(error.to_string().contains("responses are held"), "{error}");
    // Two buffers, and the copies.
    assert!((40..60).contains(&sent), "{sent} requests were sent");
    for index in 0..sent {
        let response = client.receive_response(PATIENCE).unwrap().expect("in time");
        assert!(*response == *bytes(index, 4000), "response {index}");
    }
}

#[test]
fn a_failing_handler_fails_its_request_alone_with_its_words() {
    for options in [&[][..], &["pool"], &["in-place"], &["in-place", "pool"]] {
        let channel = Channel::new("fail");
        let mut server = channel.server(options);
        let client = channel.client();
        for (request, words) in [(&b"!fail no such picture"[..], "no such picture"), (b"!panic ouch", "ouch")]
        {
            let error = client.call(request, PATIENCE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RequestFailed);
            assert!(error.to_string().contains(words) && error.sequence().is_some(), "{error}");
            let told = server.hear();
            assert!(told.starts_with("error RequestFailed") && told.contains(words), "{told}");
            let sequence = client.send_request(request).unwrap();
            let error = client.receive_response(PATIENCE).unwrap_err();
            assert_eq!((error.kind(), error.sequence()), (ErrorKind::RequestFailed, Some(sequence)));
            server.hear();
            assert_eq!(*client.call(b"and on", PATIENCE).unwrap(), *b"and on");
        }
    }
}

#[test]
fn an_empty_answer_is_empty() {
    for options in [&[][..], &["in-place"]] {
        let channel = Channel::new("empty");
        let _server = channel.server(options);
        let client = channel.client();
        let response = client.call(b"!empty", PATIENCE).unwrap();
        assert!(response.is_empty() && *response == *b"");
        assert!(!client.call(b"x", PATIENCE).unwrap().is_empty());
    }
}

#[test]
fn an_answer_that_does_not_fit_fails_its_request_alone() {
    let channel = Channel::new("large");
    let mut server = channel.server(&[]);
    let client = channel.client_with(BufferConfig::default().payload_size(64 << 10));
    let error = client.call(b"!large 100000", PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RequestFailed, "{error}");
    assert!(server.hear().starts_with("error FrameTooLarge"));
    assert_eq!(client.call(b"!large 60000", PATIENCE).unwrap().len(), 60_000);
}

#[test]
fn without_tags_empty_and_failed_answers_are_one_zero_byte_and_the_order_is_kept() {
    // Two native peers over a ring that 1.x peers would use.
    let channel = Channel::new("classic");
    let _server = channel.server(&["classic", "pool", "threads=4"]);
    let client = channel.client_with(BufferConfig::default().classic(true));
    assert_eq!(*client.call(b"!empty", PATIENCE).unwrap(), [0]);
    assert_eq!(*client.call(b"!fail why", PATIENCE).unwrap(), [0]);
    let requests = [&b"!sleep 60"[..], b"!fail early", b"!sleep 20", b"b", b"!panic early", b"c"];
    let sent: Vec<u64> = requests.iter().map(|request| client.send_request(request).unwrap()).collect();
    for (sequence, request) in sent.into_iter().zip(requests) {
        let response = client.receive_response(PATIENCE).unwrap().expect("in time");
        assert_eq!(response.sequence(), sequence, "in order");
        let failed = request.starts_with(b"!fail") || request.starts_with(b"!panic");
        assert_eq!(&*response, if failed { &[0] } else { request });
    }
}

#[test]
fn bad_requests_are_refused_and_change_nothing() {
    let channel = Channel::new("bad");
    let _server = channel.server(&["payload=65536"]);
    let client = channel.client();
    assert_eq!(client.call(b"", PATIENCE).unwrap_err().kind(), ErrorKind::InvalidFrameSize);
    assert_eq!(client.call(&[0; 1 << 20], PATIENCE).unwrap_err().kind(), ErrorKind::FrameTooLarge);
    assert_eq!(client.send_request(&[0; 1 << 20]).unwrap_err().kind(), ErrorKind::FrameTooLarge);
    assert_eq!(client.acquire_request_buffer(0).unwrap_err().kind(), ErrorKind::InvalidFrameSize);
    let unknown = client.receive_response_to(77, PATIENCE).unwrap_err();
    assert_eq!((unknown.kind(), unknown.sequence()), (ErrorKind::InvalidState, Some(77)));
    drop(client.acquire_request_buffer(100).unwrap());
    let held = client.acquire_request_buffer(100).unwrap();
    assert_eq!(client.acquire_request_buffer(100).unwrap_err().kind(), ErrorKind::InvalidState);
    assert_eq!(client.send_request(b"x").unwrap_err().kind(), ErrorKind::InvalidState);
    drop(held);
    let response = client.call(b"first", PATIENCE).unwrap();
    assert_eq!((&*response, response.sequence()), (&b"first"[..], 1), "nothing before took a number");
}

#[test]
fn names_leave_room_for_the_longer_suffix() {
    let factory = DuplexChannelFactory::new();
    let longest = Channel { ..Channel::of_length(MAX_CHANNEL_NAME_LEN) };
    let server = factory.create_immutable_server(&longest.name, BufferConfig::default()).unwrap();
    let client = factory.create_client(&longest.name).unwrap();
    drop((server, client));
    longest.assert_nothing_left();
    for name in ["", &"x".repeat(MAX_CHANNEL_NAME_LEN + 1), "a/b"] {
        let kinds = [
            factory.create_immutable_server(name, BufferConfig::default()).unwrap_err().kind(),
            factory.create_client(name).unwrap_err().kind(),
        ];
        assert_eq!(kinds, [ErrorKind::InvalidName; 2], "{name}");
    }
}

impl Channel {
    fn of_length(len: usize) -> Channel {
        let name = crate::support::Name::of_length("long", len);
        let buffers = [name.suffixed("_request"), name.suffixed("_response")];
        Channel { name, buffers }
    }
}

#[test]
fn each_client_may_describe_itself_and_the_server_is_told_once() {
    for options in [&["init"][..], &["init", "pool", "threads=3"]] {
        let channel = Channel::new("init");
        let mut server = channel.server(options);
        for round in 0..5 {
            let client = channel.client();
            if round % 2 == 1 {
                // Late: after requests that came without a description.
                (0..3).for_each(|_| _ = client.call(b"early", PATIENCE).unwrap());
            }
            client.set_metadata(format!("client {round}").as_bytes()).unwrap();
            let again = client.set_metadata(b"again").unwrap_err();
            assert_eq!(again.kind(), ErrorKind::MetadataAlreadyWritten);
            for request in [b"one", b"two"] {
                client.call(request, PATIENCE).unwrap();
                if request == b"one" {
                    assert_eq!(
                        server.hear(),
                        format!("init client {round}"),
                        "before the request is handled"
                    );
                }
                // Nothing more is told: the answer to this order would come after it.
                server.tell("most");
                let told = server.hear();
                assert!(told.parse::<u64>().is_ok(), "{told}");
            }
            drop(client);
            // A client without metadata does not inherit another client's.
            channel.client().call(b"three", PATIENCE).unwrap();
            let snapshot = zerobuffer::inspect::snapshot(&channel.buffers[0]).unwrap();
            let metadata = (snapshot.metadata_written, snapshot.metadata_free);
            assert_eq!(metadata, (0, snapshot.metadata_size), "it has been taken back");
        }
        server.tell("started");
        assert_eq!(server.hear(), "21", "and init was called for no other request");
    }
}

#[test]
fn a_handler_may_answer_while_it_runs_once_and_its_later_failure_is_told_to_on_error() {
    let channel = Channel::new("responding");
    let server =
        DuplexChannelFactory::new().create_immutable_server(&channel.name, BufferConfig::default()).unwrap();
    let (told, errors) = std::sync::mpsc::channel();
    server.on_error(move |error| told.send(error.to_string()).unwrap());
    let handler = |request: &Request, responder: &mut Responder<'_>| match &**request {
        b"nothing" => Ok(()),
        b"fail" => Err("before the answer".into()),
        b"fail late" => {
            responder.reply(b"in time")?;
            Err("after the answer".into())
        }
        b"panic late" => {
            responder.reply(b"in time too")?;
            panic!("panic after the answer")
        }
        other => {
            // Bytes that are freed when the handler returns.
            let answer = other.repeat(2);
            responder.reply(&answer)?;
            let kind = responder.reply(b"again").unwrap_err().kind();
            assert!(kind == ErrorKind::InvalidState && responder.is_answered(), "{kind}");
            Ok(())
        }
    };
    server.start_responding(handler, ProcessingMode::SingleThread).unwrap();
    let client = channel.client();
    let call = |request: &[u8]| client.call(request, PATIENCE).map(|response| response.to_vec());
    assert_eq!(call(b"ab").unwrap(), b"abab");
    assert_eq!(call(b"nothing").unwrap(), b"");
    let failed = call(b"fail").unwrap_err();
    assert!(failed.kind() == ErrorKind::RequestFailed && failed.to_string().contains("before"), "{failed}");
    assert!(errors.recv_timeout(PATIENCE).unwrap().contains("before the answer"));
    assert_eq!(call(b"fail late").unwrap(), b"in time");
    assert!(errors.recv_timeout(PATIENCE).unwrap().contains("after the answer"));
    assert_eq!(call(b"panic late").unwrap(), b"in time too");
    assert!(errors.recv_timeout(PATIENCE).unwrap().contains("panic after the answer"));
    assert_eq!(call(b"cd").unwrap(), b"cdcd", "each request has had one answer");
    drop(client);
    server.stop().unwrap();
    channel.assert_nothing_left();
}
