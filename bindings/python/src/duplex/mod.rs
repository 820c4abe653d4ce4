//! The native half of `zerobuffer.duplex`.

pub(crate) mod client;
mod executor;
mod link;
pub(crate) mod requests;
pub(crate) mod server;
