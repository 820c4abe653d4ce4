//! `SharedWriter`, and what every writer holds.

use std::ops::{Deref, DerefMut};

use pyo3::prelude::*;
use zerobuffer::{KeptBuffer, WriterOptions};

use crate::config::{self, BufferConfig};
use crate::gate::duration;
use crate::reader::Reader;
use crate::writer::Writer;
use crate::{end, logging};

/// The core's writer, and the buffer that was made for it.
pub(crate) struct Output {
    // The writer ends first: then the buffer goes, unless it has a reader.
    pub(crate) writer: zerobuffer::Writer,
    pub(crate) kept: Option<KeptBuffer>,
}

impl Deref for Output {
    type Target = zerobuffer::Writer;

    fn deref(&self) -> &zerobuffer::Writer {
        &self.writer
    }
}

impl DerefMut for Output {
    fn deref_mut(&mut self) -> &mut zerobuffer::Writer {
        &mut self.writer
    }
}

/// A writer with a buffer of its own making, for frames that it forwards: a relay's output that exists before its reader does.
///
/// Args:
///     name: The buffer's name.
///     source: The reader whose frames will be forwarded. If it allows payload sharing, a reader that allows it too gets frames
///         without a copy from the first one on.
///     config: Sizes and rights (default: `BufferConfig()`). The payload is at least as large as the source's.
///     write_timeout_ms: How long a write waits for space; see `Writer`.
///     wait_strategy: How the writer waits for space; see `Writer`.
///
/// A reader that comes later takes the buffer over, with the frames in it. If none has come when the writer is closed, the
/// buffer is removed.
///
/// Raises:
///     ReaderAlreadyConnectedError: if a live reader has the name, or it is kept already.
///     ClosedError: if the source is closed.
///     InvalidNameError, InvalidConfigError, OutOfMemoryError, PermissionDeniedError, IncompatibleProtocolError.
#[pyclass(frozen, extends = Writer, module = "zerobuffer")]
pub(crate) struct SharedWriter;

#[pymethods]
impl SharedWriter {
    #[new]
    #[pyo3(
        signature = (name, source, config=None, *, write_timeout_ms=Some(5000.0), wait_strategy=None),
        text_signature = "(name, source, config=None, *, write_timeout_ms=5000, wait_strategy=None)"
    )]
    fn new(
        py: Python<'_>,
        name: &str,
        source: &Bound<'_, Reader>,
        config: Option<&Bound<'_, BufferConfig>>,
        write_timeout_ms: Option<f64>,
        wait_strategy: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<PyClassInitializer<SharedWriter>> {
        let options = WriterOptions::default().wait_strategy(config::strategy(wait_strategy)?);
        let write_timeout = duration(write_timeout_ms)?;
        let config = config.map(|config| config.get().to_core()).unwrap_or_default();
        let _unsettled = end::unsettled(py);
        let created = source.get().0.gate.enter(py, |reader| {
            Ok(zerobuffer::SharedWriter::create_with(name, reader, config, options)?.into_parts())
        });
        logging::flush(py);
        let (writer, kept) = created?;
        let writer = Writer::of(py, name, Output { writer, kept: Some(kept) }, write_timeout);
        Ok(PyClassInitializer::from(writer).add_subclass(SharedWriter))
    }

    /// Whether a reader has taken the buffer over.
    ///
    /// Raises:
    ///     ClosedError: if the writer is closed.
    fn is_adopted(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let writer = slf.as_super().get();
        writer.gate.enter(slf.py(), |output| Ok(output.kept.as_mut().is_some_and(KeptBuffer::is_adopted)))
    }
}
