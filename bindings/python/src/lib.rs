//! The native half of the Python package `zerobuffer`: a thin face over the core crate.
//!
//! `memory.rs`, `dlpack.rs` and `frame.rs` hand out memory, `gate.rs` waits, the others translate words. What users see is
//! documented in docs/PYTHON.md and in the docstrings.

#![deny(unsafe_code)]

mod buffers;
mod config;
mod dlpack;
mod duplex;
mod end;
mod errors;
mod fork;
mod forwarding;
mod frame;
mod gate;
mod in_place;
mod inspect;
mod interpreter;
mod kept;
mod lock;
mod logging;
mod memory;
mod numpy;
mod owned;
mod owner;
mod reader;
mod shared_writer;
mod stats;
mod stream;
mod tee;
mod thread_state;
mod watched;
mod write;
mod writer;

/// Private: import `zerobuffer`.
#[pyo3::pymodule(gil_used = true)]
mod _native {
    #[pymodule_export]
    use crate::config::BufferConfig;
    #[pymodule_export]
    use crate::duplex::async_call::AsyncCall;
    #[pymodule_export]
    use crate::duplex::client::DuplexClient;
    #[pymodule_export]
    use crate::duplex::coroutine::Answer;
    #[pymodule_export]
    use crate::duplex::response_writer::{ResponseWriter, WritableResponse};
    #[pymodule_export]
    use crate::duplex::server::{ImmutableDuplexServer, MutableDuplexServer};
    #[pymodule_export]
    use crate::end::{close_all, leave_to_parent};
    #[pymodule_export]
    use crate::frame::Frame;
    #[pymodule_export]
    use crate::in_place::WritableFrame;
    #[pymodule_export]
    use crate::inspect::{list_buffers, snapshot};
    #[pymodule_export]
    use crate::kept::KeptBuffer;
    #[pymodule_export]
    use crate::reader::Reader;
    #[pymodule_export]
    use crate::shared_writer::SharedWriter;
    #[pymodule_export]
    use crate::stats::{ReaderStats, WriterStats};
    #[pymodule_export]
    use crate::tee::{Tee, TeeOutput};
    #[pymodule_export]
    use crate::watched::Watched;
    #[pymodule_export]
    use crate::writer::Writer;

    /// The version of the core library.
    #[pymodule_export]
    const VERSION: &str = zerobuffer::VERSION;

    #[pymodule_init]
    fn init(_module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        crate::interpreter::refuse_others()?;
        crate::fork::install();
        crate::logging::install();
        Ok(())
    }
}
