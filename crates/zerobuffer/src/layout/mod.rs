//! docs/PROTOCOL.md as types: the only place that knows an offset.
//!
//! All words are little-endian, which is also the byte order of every supported target. The fields are
//! atomics because a peer may write them at any time. A comment at each access names the access that it pairs
//! with.

mod control;
mod geometry;
mod oieb;
mod sharing;
mod words;

pub(crate) use control::*;
pub(crate) use geometry::*;
pub(crate) use oieb::*;
pub(crate) use sharing::*;
pub(crate) use words::*;

#[cfg(not(all(target_pointer_width = "64", target_endian = "little")))]
compile_error!("ZeroBuffer needs a 64-bit little-endian target: protocol 1 maps its 64-bit words in place");
