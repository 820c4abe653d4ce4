//! A client that waits costs nothing, and learns at once of the end of a server that never answered it.

use std::time::Duration;

use super::Channel;
use crate::support::ledger::Stopwatch;
use crate::support::{self, PATIENCE, Peer, hear, idle, role, say};
use zerobuffer::ErrorKind;
use zerobuffer::duplex::{ClientOptions, DuplexChannelFactory, DuplexClient};

support::peers!(receiver, caller);

fn connect(channel: &str) -> DuplexClient {
    let options = ClientOptions::default().connect_timeout(PATIENCE);
    DuplexChannelFactory::new().create_client_with(channel, options).unwrap()
}

/// Waits for a response that no request asks for, so that the server never connects to the response buffer.
fn receiver(arguments: &[String]) {
    let client = connect(&arguments[0]);
    say("waits");
    say(format!("{:?}", client.receive_response(Duration::MAX).unwrap_err().kind()));
    hear();
}

/// Waits for the answer of a server that takes its time.
fn caller(arguments: &[String]) {
    let client = connect(&arguments[0]);
    say("waits");
    say(format!("{:?}", client.call(b"!hold 600000", Duration::MAX).unwrap_err().kind()));
    hear();
}

#[test]
fn a_client_that_waits_does_not_wake_and_is_told_of_its_servers_death() {
    for role in [role!(receiver), role!(caller)] {
        let channel = Channel::new("still");
        let mut server = channel.server(&[]);
        let mut peer = Peer::start(role, &[&channel.name]);
        peer.expect("waits");
        assert_eq!(idle::runs_when_quiet(&peer), 0, "it woke for nothing");
        let watch = Stopwatch::start();
        server.kill();
        let told = peer.hear_within(PATIENCE).expect("an error");
        watch.assert_took(watch.elapsed(), Duration::from_millis(100));
        let deaths = [ErrorKind::ReaderDead, ErrorKind::WriterDead].map(|kind| format!("{kind:?}"));
        assert!(deaths.contains(&told), "{told}");
        peer.kill();
    }
}
