//! Duplex channels between real processes: what each side is promised, whatever the other one does.

mod cancel;
mod echo;
mod ends;
mod idle;
mod in_place;
mod order;
mod owned;
mod peers;
mod references;
mod roles;
mod server;

use std::time::Duration;

use crate::support::{Name, PATIENCE, Peer, role};
use zerobuffer::BufferConfig;
use zerobuffer::duplex::{ClientOptions, DuplexChannelFactory, DuplexClient};

/// How soon a blocked side must know.
const SOON: Duration = Duration::from_millis(100);

/// A channel's name; all files of its buffers go with it.
struct Channel {
    name: Name,
    buffers: [Name; 2],
}

impl Channel {
    fn new(what: &str) -> Channel {
        let name = Name::new(what);
        let buffers = [name.suffixed("_request"), name.suffixed("_response")];
        Channel { name, buffers }
    }

    /// Starts a server process and waits until it runs; see [`roles::server`].
    #[track_caller]
    fn server(&self, arguments: &[&str]) -> Peer {
        let mut all = vec![&*self.name];
        all.extend_from_slice(arguments);
        let mut server = Peer::start(role!(roles::server), &all);
        server.expect("running");
        server
    }

    #[track_caller]
    fn client(&self) -> DuplexClient {
        self.client_with(BufferConfig::default())
    }

    #[track_caller]
    fn client_with(&self, config: BufferConfig) -> DuplexClient {
        let options = ClientOptions::default().connect_timeout(PATIENCE).response_config(config);
        DuplexChannelFactory::new().create_client_with(&self.name, options).unwrap()
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        self.buffers.iter().for_each(Name::assert_nothing_left);
    }
}
