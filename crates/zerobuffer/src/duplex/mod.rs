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
//! // Another one:
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
//! Exactly one of: a [`Response`], or an error of the kind [`RequestFailed`](crate::ErrorKind::RequestFailed) (the
//! handler's message), [`Cancelled`](crate::ErrorKind::Cancelled),
//! [`DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded), each about that request alone
//! ([`Error::sequence`](crate::Error::sequence)); or, when the channel ends, the error that ended it. A 1.x server knows
//! nothing of failures, cancellation and deadlines; what that means is in docs/API.md.

//!
//! # Async
//!
//! With the feature `async`, `DuplexClient::call_async` gives a future, and `ImmutableDuplexServer::start_async` takes an
//! async handler. Both work with any executor: futures are woken by a thread of the client, and the server hands its tasks
//! to a function of yours.

mod client;
mod due;
mod factory;
mod inbox;
mod link;
mod outbox;
mod pending;
mod pool;
mod request;
mod request_buffer;
mod responder;
mod response;
mod responses;
mod run;
mod server;
#[cfg(feature = "async")]
mod start_async;
#[cfg(feature = "async")]
mod tasks;
mod turns;

use std::borrow::Cow;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::lifecycle::registry::MAX_NAME_LEN;

pub use client::DuplexClient;
pub use factory::{ClientOptions, DuplexChannelFactory};
pub use pending::PendingCall;
pub use request::{MutableFrame, Request};
pub use request_buffer::RequestBuffer;
pub use responder::Responder;
pub use response::Response;
pub use server::{ImmutableDuplexServer, MutableDuplexServer};
#[cfg(feature = "async")]
pub use start_async::Task;
#[cfg(feature = "async")]
pub use tasks::Call;

/// How a server runs its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProcessingMode {
    /// One request after the other, on the one thread that reads the request buffer: no hop between threads.
    #[default]
    SingleThread,
    /// Several requests at once, one thread for each processor (two at least). Responses may overtake each other, except
    /// towards a 1.x client, which gets them in the order of its requests.
    ThreadPool,
}

/// What the handler of an immutable server answers: bytes of its own (`Vec`), or borrowed from the request.
pub type Reply<'a> = Cow<'a, [u8]>;

/// Why a handler failed: anything that says so in words.
pub type HandlerError = Box<dyn std::error::Error + Send + Sync>;

/// The longest name of a channel, in bytes: that of a buffer less the longer suffix.
pub const MAX_CHANNEL_NAME_LEN: usize = MAX_NAME_LEN - RESPONSE.len();

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

/// A mutex whose state is whole even if a thread panicked with it: nothing panics half-way through a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits on a condition variable for at most `limit`.
fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>, limit: Duration) -> MutexGuard<'a, T> {
    // What overflows the clock is for ever; a year is as good.
    let limit = limit.min(Duration::from_secs(365 * 86400));
    condvar.wait_timeout(guard, limit).unwrap_or_else(PoisonError::into_inner).0
}
