//! The extended ring, between two native peers (docs/PROTOCOL.md, "The extended ring").
//!
//! Two words carry the truth: `head`, stored by the writer, is where the last committed frame ends; `tail`,
//! stored by the reader, which bytes have been given back. Each side keeps a copy of the other's word, and looks again
//! only when the ring seems full or empty.

mod fast_path;
mod growth_backoff;
mod latest;
mod leaps;
mod lines;
mod plan;
mod poll_backoff;
mod reader;
mod release;
pub(crate) mod survey;
#[cfg(all(test, not(loom)))]
mod tests;
mod writer;

pub(crate) use fast_path::FastPath;
pub(crate) use latest::Stretch;
pub(crate) use reader::{ReadSide, signature};
pub(crate) use release::ReleaseQueue;
pub(crate) use writer::{Marker, WriteSide, wake_reader};
