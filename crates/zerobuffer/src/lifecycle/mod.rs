//! The life of a buffer: how it is created, found, joined, judged and removed.

pub mod cleanup;
pub(crate) mod connect;
pub(crate) mod create;
pub(crate) mod first_block;
pub mod inspect;
pub(crate) mod liveness;
pub(crate) mod locks;
pub(crate) mod registry;
