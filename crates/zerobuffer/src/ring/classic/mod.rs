//! The classic ring: protocol 1 as 1.x peers speak it (docs/PROTOCOL.md, "The classic ring").
//!
//! One word carries the truth between the two sides: `payload_free_bytes`. The writer commits by subtracting what a
//! frame costs, the reader gives back by adding it. Everything else a reader needs it derives from its own books:
//! what was taken and not yet read is `capacity - free - held`, where `held` is what it has read and not given back.
//! `payload_write_pos`, the counts and the semaphores are kept for 1.x peers and never decide (spec failure 17).

mod ahead;
pub(crate) mod farewell;
mod latest;
pub(crate) mod plan;
mod reader;
mod release;
mod timed_sleep;
mod writer;

pub(crate) use reader::ReadSide;
pub(crate) use release::{ReleaseQueue, wake_writer};
pub(crate) use writer::WriteSide;
