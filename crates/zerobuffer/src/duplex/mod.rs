//! Duplex channels: request and response over two buffers (docs/PROTOCOL.md, "Duplex channels").
//!
//! A channel `C` is the buffer `C_request`, which the server creates, and the buffer `C_response`, which its client
//! creates. A response carries the sequence number of its request. One server, one client at a time; the client may be
//! used by any number of threads at once, and the server outlives its clients.
//!
//! ```
//! use std::time::Duration;
//! use zerobuffer::BufferConfig;
//! use zerobuffer::duplex::{DuplexChannelFactory, ProcessingMode};
//!
//! # let name = format!("doc-duplex-{}", std::process::id());
//! let factory = DuplexChannelFactory::new();
//! // One process:
//! let server = factory.create_immutable_server(&name, BufferConfig::default())?;
//! server.start(|request| Ok(request.to_ascii_uppercase().into()), ProcessingMode::SingleThread)?;
//! // Another process:
//! let client = factory.create_client(&name)?;
//! let response = client.call(b"hello", Duration::from_secs(5))?;
//! assert_eq!(&*response, b"HELLO");
//! # drop(response);
//! # client.close();
//! server.stop()?;
//! # Ok::<(), zerobuffer::Error>(())
//! ```
//!
//! # What a client gets for a request
//!
//! A client gets exactly one of these: a [`Response`]; or an error of the kind
//! [`RequestFailed`](crate::ErrorKind::RequestFailed) (the handler's message),
//! [`Cancelled`](crate::ErrorKind::Cancelled), [`DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded),
//! about that request only ([`Error::sequence`](crate::Error::sequence)); or, when the channel ends, the
//! error that ended it. A 1.x server does not know failures, cancellation and deadlines; docs/API.md
//! describes the consequences.
//!
//! # Callbacks
//!
//! Handlers, `on_init`, `on_error` and wakers may call any function of this library and drop any of its objects: no lock is
//! held while they run. A logger of the `log` crate must not call the library.
//!
//! # Async
//!
//! With the feature `async`, `DuplexClient::call_async` returns a future, and `ImmutableDuplexServer::start_async` takes an
//! async handler. Both work with any executor: a thread of the client wakes the futures, and the server hands its tasks to
//! a function that the program provides.
//!
//! # How it is built
//!
//! `client/` is the side that calls, around `ClientState`; `server/` the side that answers, around `Run`.
//! Both use the public reader and writer, and the few items of `port.rs`. In `sync.rs` a model checker can
//! replace the standard library's locks and threads.

mod client;
mod due;
mod factory;
#[cfg(loom)]
mod model;
mod owner;
mod port;
mod server;
mod sync;
mod turns;

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::lifecycle::registry::MAX_NAME_LEN;

#[cfg(feature = "async")]
pub use client::Call;
#[cfg(not(loom))]
pub use client::ThreadRequest;
pub use client::{ClientOptions, DuplexClient, PendingCall, RequestBuffer, Response};
pub use factory::DuplexChannelFactory;
#[cfg(feature = "async")]
pub use server::Task;
pub use server::{
    Deferred, ImmutableDuplexServer, MAX_POOL_SIZE, MutableDuplexServer, MutableFrame, Request, Responder,
    ResponseMut, ResponseWriter,
};

/// How a server runs its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProcessingMode {
    /// One request after the other, on the thread that reads the request buffer: no switch between threads.
    #[default]
    SingleThread,
    /// Several requests at once, one thread for each processor (two at least). Responses may overtake each other, except
    /// towards a 1.x client, which gets them in the order of its requests.
    ThreadPool,
}

/// The answer of an immutable server's handler: its own bytes (`Vec`), or bytes borrowed from the request.
pub type Reply<'a> = Cow<'a, [u8]>;

/// Why a handler failed: any error with a message.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// The longest name of a channel, in bytes: the longest name of a buffer less the longer suffix.
pub const MAX_CHANNEL_NAME_LEN: usize = MAX_NAME_LEN - RESPONSE.len();

/// The longest message of a failed request, in bytes.
const MESSAGE_MAX: usize = 64 << 10;

const REQUEST: &str = "_request";
const RESPONSE: &str = "_response";

/// The buffers' names of a channel.
fn buffer_names(channel: &str) -> Result<(String, String)> {
    if channel.is_empty() || channel.len() > MAX_CHANNEL_NAME_LEN {
        let message = format!(
            "the name of a channel has {} bytes, 1 to {MAX_CHANNEL_NAME_LEN} are possible",
            channel.len()
        );
        return Err(Error::channel(ErrorKind::InvalidName, channel, message));
    }
    Ok((format!("{channel}{REQUEST}"), format!("{channel}{RESPONSE}")))
}
