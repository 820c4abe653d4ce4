//! The duplex client and server of the 1.x package from PyPI, with each other and with native peers.

use std::time::Duration;

use zerobuffer::ErrorKind;

use super::{Channel, SOON};
use crate::driver::{Old, hex};
use crate::support::PATIENCE;

#[test]
fn a_1x_client_gets_all_its_responses_from_every_kind_of_server() {
    for options in [&[][..], &["pool", "threads=4"], &["in-place"], &["in-place", "pool", "threads=4"]] {
        let channel = Channel::new("old-client");
        let mut server = channel.server(options);
        let mut old = Old::start();
        old.ok(&format!("duplex-client {}", &*channel.name));
        for size in [1, 15, 16, 17, 1000, 100_000] {
            let request = hex(&vec![b'a'; size]);
            let answer = old.ok(&format!("duplex-call {request}"));
            assert!(answer.ends_with(&format!(" {request}")), "{size} bytes");
        }
        assert_eq!(old.ok("duplex-connected"), "yes");
        // Ten under way, of which the first takes longest and some fail: in order, and none left out.
        let requests =
            ["!sleep 60", "!fail a", "!sleep 20", "b", "!empty", "c", "!panic d", "e", "!sleep 5", "f"];
        for request in requests {
            old.ok(&format!("duplex-send {}", hex(request.as_bytes())));
        }
        for (index, request) in requests.into_iter().enumerate() {
            let nothing = ["!fail", "!empty", "!panic"].iter().any(|order| request.starts_with(order));
            let expected = if nothing { "00".to_owned() } else { hex(request.as_bytes()) };
            assert_eq!(old.ok("duplex-receive"), format!("{} {expected}", index + 7), "{request}");
        }
        old.ok("duplex-close");
        // The next one, a native peer, then another 1.x peer.
        let client = channel.client();
        assert_eq!(*client.call(b"ours", PATIENCE).unwrap(), *b"ours");
        drop(client);
        let mut old = Old::start();
        old.ok(&format!("duplex-client {}", &*channel.name));
        assert!(old.ok(&format!("duplex-call {}", hex(b"theirs"))).ends_with(&hex(b"theirs")));
        // And it is killed.
        old.kill();
        let client = channel.client();
        assert_eq!(*client.call(b"ours", PATIENCE).unwrap(), *b"ours");
        drop(client);
        while server.hear_within(Duration::from_millis(1)).is_some() {}
    }
}

#[test]
fn a_mutable_server_serves_a_1x_client() {
    let channel = Channel::new("old-client");
    let _server = channel.server(&["mutable"]);
    let mut old = Old::start();
    old.ok(&format!("duplex-client {}", &*channel.name));
    assert_eq!(old.ok("duplex-call 00ff55"), "1 ff00aa");
}

#[test]
fn a_1x_server_serves_a_native_client() {
    let channel = Channel::new("old-server");
    let mut old = Old::start();
    old.ok(&format!("duplex-server {}", &*channel.name));
    let client = channel.client();
    for size in [1, 15, 16, 17, 1000, 100_000] {
        let request: Vec<u8> = (0..size).map(|index| index as u8).collect();
        let response = client.call(&request, PATIENCE).unwrap();
        assert!(response.iter().rev().eq(request.iter()), "{size} bytes");
    }
    let sent: Vec<u64> = (0..10_u8).map(|index| client.send_request(&[index, 1]).unwrap()).collect();
    for (index, sequence) in (0..10_u8).zip(sent) {
        let response = client.receive_response(PATIENCE).unwrap().expect("in time");
        assert_eq!((&*response, response.sequence()), (&[1, index][..], sequence));
    }
    // Cancellation is local to the client: it is reported at once, and the late response is dropped.
    let sequence = client.send_request(b"sleep").unwrap();
    assert!(client.cancel_request(sequence).unwrap());
    let error = client.receive_response(PATIENCE).unwrap_err();
    assert_eq!((error.kind(), error.sequence()), (ErrorKind::Cancelled, Some(sequence)));
    assert_eq!(*client.call(b"ab", PATIENCE).unwrap(), *b"ba");
    assert!(client.receive_response(Duration::from_millis(20)).unwrap().is_none());
    // A call that times out is local to the client too.
    let error = client.call(b"sleep", Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(*client.call(b"cd", PATIENCE).unwrap(), *b"dc");
    // It dies.
    let sequence = client.send_request(b"sleep").unwrap();
    let watch = crate::support::ledger::Stopwatch::start();
    let killed = old.kill();
    let error = client.receive_response_to(sequence, PATIENCE).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WriterDead | ErrorKind::ReaderDead), "{error}");
    eprintln!("the death of a 1.x server is known after {:?}", killed.elapsed());
    watch.assert_took(killed.elapsed(), SOON * 5);
}
