//! The core's client behind a Python one, until it is closed.

use std::sync::Arc;

use pyo3::prelude::*;
use zerobuffer::ErrorKind;
use zerobuffer::duplex;

use crate::end::{self, Shut};
use crate::errors::Failure;
use crate::lock::Guarded;

/// The core's client until it is closed; then why calls fail. A closed client keeps no memory mapped.
pub(super) struct Link(Guarded<Connection>);

enum Connection {
    Open(Arc<duplex::DuplexClient>),
    /// The kind, the channel and the text of the error.
    Ended(ErrorKind, String, String),
}

impl Link {
    pub(super) fn new(py: Python<'_>, client: duplex::DuplexClient) -> Arc<Link> {
        let link = Arc::new(Link(Guarded::new(Connection::Open(Arc::new(client)))));
        end::enlist(py, &link);
        link
    }

    pub(super) fn client(&self) -> Result<Arc<duplex::DuplexClient>, Failure> {
        self.0.with(|connection| match connection {
            Connection::Open(client) => Ok(Arc::clone(client)),
            Connection::Ended(kind, channel, text) => Err(Failure::Own(*kind, channel.clone(), text.clone())),
        })
    }

    /// Closes the client. Threads that are in a call still have it, until that has failed.
    pub(super) fn close(&self) {
        let Ok(client) = self.client() else { return };
        // What ended the channel before stays the reason; no request has the number 0.
        let (kind, text) = match client.cancel_request(0) {
            // In a forked child: the client is the parent's.
            Err(error) if error.kind() == ErrorKind::InvalidState => return,
            Err(error) => (error.kind(), error.to_string()),
            Ok(_) => {
                (ErrorKind::Closed, format!("channel `{}`: the client has been closed", client.channel()))
            }
        };
        client.close();
        drop(self.0.replace(Connection::Ended(kind, client.channel().to_owned(), text)));
    }
}

impl Shut for Link {
    fn quiet(&self) {
        self.close();
    }
}
