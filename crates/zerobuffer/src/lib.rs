//! ZeroBuffer moves frames (video, tensors, telemetry) between two processes on one machine through shared memory: one
//! writer, one reader, a ring of variable-size frames, a metadata block, no broker.
//!
//! The **reader** creates and owns a buffer, the **writer** connects to it. Frames are read in place, without a copy,
//! and given back when they are dropped; the writer can fill them in place as well. When one side dies or closes, the
//! other learns of it within milliseconds, whatever it is waiting for, and nothing that was committed is lost.
//!
//! ```
//! use std::time::Duration;
//! use zerobuffer::{BufferConfig, Reader, Writer};
//!
//! # let name = format!("doc-crate-{}", std::process::id());
//! // One process:
//! let mut reader = Reader::create(&name, BufferConfig::default())?;
//! // Another process:
//! let mut writer = Writer::connect(&name)?;
//! writer.set_metadata(b"1920x1080 YUV420")?;
//! writer.write_frame(&[42; 3_110_400])?;
//! // The first process:
//! let frame = reader.read_frame(Duration::from_secs(5))?.expect("in time");
//! assert_eq!(frame.len(), 3_110_400);
//! assert_eq!(reader.metadata()?.as_deref(), Some(&b"1920x1080 YUV420"[..]));
//! # Ok::<(), zerobuffer::Error>(())
//! ```
//!
//! Buffers are wire-compatible with the ZeroBuffer 1.x libraries in either role. What crosses shared memory, and why it
//! is safe, is in docs/PROTOCOL.md; the choices behind this library are in docs/DESIGN.md.
//!
//! # Logging
//!
//! The library never prints. Clean-up and repair are logged through the `log` crate, never on the hot path.

#![deny(unsafe_code)]
// The model checker replaces some of this.
#![cfg_attr(loom, allow(dead_code))]

mod attention;
mod buffer;
mod config;
mod descriptor;
pub mod duplex;
mod end_of_writer;
mod error;
mod frame;
mod frame_copy;
mod frame_mut;
mod inlet;
mod kept;
mod latest;
mod layout;
mod lifecycle;
#[cfg(not(loom))]
mod listener;
mod memory;
mod metadata;
mod notifier;
mod os;
mod outlet;
mod peer_watch;
mod places;
mod reader;
mod reader_watch;
mod ring;
#[cfg(not(loom))]
mod second_look;
mod shared_writer;
mod sharing;
mod stats;
mod sync;
#[cfg(all(feature = "async", not(loom)))]
mod tasks;
mod tee;
mod testing;
#[cfg(all(feature = "tokio", not(loom)))]
pub mod tokio;
mod wait;
#[cfg(not(loom))]
mod wait_set;
mod writer;
mod writer_watch;

pub use buffer::InterruptHandle;
pub use config::{
    BufferConfig, DEFAULT_METADATA_SIZE, DEFAULT_PAYLOAD_SIZE, DEFAULT_TIMEOUT, NumaNode, WaitStrategy,
    WriterOptions,
};
pub use error::{Error, ErrorKind, Result, SequenceGap};
pub use frame::{Frame, FrameRef};
pub use frame_mut::FrameMut;
pub use kept::KeptBuffer;
pub use lifecycle::registry::MAX_NAME_LEN;
pub use lifecycle::{cleanup, inspect};
pub use notifier::set_callback_threads;
pub use reader::{Frames, LatestFrames, Reader};
pub use reader_watch::ReaderWatch;
pub use shared_writer::SharedWriter;
pub use sharing::forward::Forwarded;
pub use stats::{HeldFrames, ReaderStats, WriterStats};
#[cfg(all(feature = "async", not(loom)))]
pub use tasks::{FrameStream, ReadFrame, WriteFrame};
pub use tee::{Tee, TeeInterruptHandle, TeeOutput};
#[cfg(any(fuzzing, all(test, not(loom))))]
#[doc(hidden)]
pub use testing::fuzzing;
#[cfg(not(loom))]
pub use wait_set::WaitSet;
pub use writer::{MemoryGuard, Writer};
pub use writer_watch::WriterWatch;

/// While this lives, a `pthread_cancel` of this thread waits. For the C ABI.
#[doc(hidden)]
pub fn uncancelled() -> impl Sized {
    os::Uncancelled::new()
}

/// A number that differs between a process that has opened a buffer and its forked children. For the C ABI.
#[doc(hidden)]
pub fn fork_generation() -> u64 {
    os::fork_generation()
}

/// The version of this library.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the examples of the pages outside the crate.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../docs/MIGRATION.md")]
    struct Migration;
}
