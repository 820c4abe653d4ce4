//! The native half of `zerobuffer.duplex`.

pub(crate) mod client;
mod executor;
pub(crate) mod requests;
pub(crate) mod server;
