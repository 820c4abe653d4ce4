//! The native half of `zerobuffer.duplex`.

pub(crate) mod async_call;
pub(crate) mod client;
pub(crate) mod coroutine;
mod executor;
mod link;
pub(crate) mod requests;
pub(crate) mod response_writer;
pub(crate) mod server;
