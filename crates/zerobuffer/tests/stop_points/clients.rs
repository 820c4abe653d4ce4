//! A duplex client that is stopped, or dies, while it erases its predecessor's metadata.

use zerobuffer::BufferConfig;
use zerobuffer::duplex::{ClientOptions, DuplexChannelFactory, ProcessingMode};

use crate::support::{PATIENCE, role, say};
use crate::victim::{Action, Ring, Victim, run_all};

/// Arguments: channel.
pub(crate) fn client(arguments: &[String]) {
    let options = ClientOptions::default().connect_timeout(PATIENCE);
    let client = DuplexChannelFactory::new().create_client_with(&arguments[0], options).unwrap();
    assert_eq!(&*client.call(b"hello", PATIENCE).unwrap(), b"hello");
    say("answered");
}

fn case(action: &Action) {
    let name = Ring::Extended.name("stop-c");
    let config = BufferConfig::default().payload_size(4096);
    let factory = DuplexChannelFactory::new();
    let server = factory.create_immutable_server(&name, config).unwrap();
    server.start(|request| Ok((&**request).into()), ProcessingMode::SingleThread).unwrap();
    let connect = || {
        let options = ClientOptions::default().connect_timeout(PATIENCE);
        factory.create_client_with(&name, options).unwrap()
    };
    let first = connect();
    first.set_metadata(b"the first").unwrap();
    first.call(b"hello", PATIENCE).unwrap();
    drop(first);
    let mut victim = Victim::start(action, role!(client), &[&name]);
    assert!(victim.suffered());
    // The next one starts afresh, whatever is left of the metadata.
    let next = connect();
    next.set_metadata(b"the next").unwrap();
    assert_eq!(&*next.call(b"once more", PATIENCE).unwrap(), b"once more");
    drop(next);
    server.stop().unwrap();
    drop(server);
    for buffer in ["request", "response"] {
        let path = format!("/dev/shm/{}_{buffer}", &*name);
        assert!(!std::path::Path::new(&path).exists(), "{path} is left");
    }
}

#[test]
fn a_client_that_ends_while_it_takes_metadata_back_leaves_a_channel_that_works() {
    let point = || "metadata:forget".to_owned();
    let actions = [Action::Kill(point(), 1), Action::Halt(point(), 1)];
    let boxed = |action: Action| -> Box<dyn Fn() + Send + Sync> { Box::new(move || case(&action)) };
    run_all(actions.map(|action| (format!("{action:?}"), boxed(action))).into());
}

crate::support::peers!(client);
