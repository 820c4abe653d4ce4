//! What a client makes of frames that no honest server sends it.

use std::time::Duration;

use crate::config::BufferConfig;
use crate::duplex::due;
use crate::duplex::port::{Reader, Tag, Writer};
use crate::duplex::{DuplexChannelFactory, DuplexClient};

/// A client, and both buffers as its server has them.
fn channel(what: &str) -> (DuplexClient, Reader, Writer) {
    let channel = format!("unit-client-{what}-{}", std::process::id());
    let requests = Reader::create(&format!("{channel}_request"), BufferConfig::default()).unwrap();
    let client = DuplexChannelFactory::new().create_client(&channel).unwrap();
    let responses = Writer::connect(&format!("{channel}_response")).unwrap();
    (client, requests, responses)
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
