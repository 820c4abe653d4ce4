//! Promises that hold for both kinds of ring. `main.rs` includes this module once for each.

mod basics;
mod bindings;
mod cleanup;
mod ends;
mod event_loops;
mod exhausted;
mod figures;
mod futures;
mod give_back;
mod huge_pages;
mod idle;
mod kept;
mod kills;
mod latest;
mod limits;
mod model;
mod races;
mod real_data;
mod room;
mod shm;
mod starved;
mod tokens;
mod tokio;
mod torture;

/// The common tools, with buffers of this module's kind of ring.
mod support {
    pub(crate) use crate::support::*;

    /// A buffer's default configuration, with this kind of ring.
    pub(crate) fn config() -> zerobuffer::BufferConfig {
        crate::support::config().classic(is_classic())
    }

    pub(crate) fn is_classic() -> bool {
        module_path!().ends_with("::classic::support")
    }
}
