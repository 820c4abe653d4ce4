//! The buffers that `python -m zerobuffer relay --create-output` keeps.

use pyo3::prelude::*;

use crate::config::BufferConfig;
use crate::end;
use crate::errors::raise;
use crate::gate::beside;
use crate::lock::Attached;

/// A buffer that exists before its reader does, and holds frames for it.
#[pyclass(frozen, module = "zerobuffer")]
pub(crate) struct KeptBuffer(Attached<Option<zerobuffer::KeptBuffer>>);

#[pymethods]
impl KeptBuffer {
    #[new]
    fn new(py: Python<'_>, name: &str, config: &Bound<'_, BufferConfig>) -> PyResult<KeptBuffer> {
        let config = config.get().to_core();
        let (_unsettled, name) = (end::unsettled(py), name.to_owned());
        let kept = beside(py, move || zerobuffer::KeptBuffer::create(&name, config))?;
        Ok(KeptBuffer(Attached::new(Some(kept.map_err(|error| raise(py, error))?))))
    }

    /// Whether a reader has taken the buffer over.
    fn is_adopted(&self, py: Python<'_>) -> bool {
        self.0.with(py, |kept| kept.as_mut().is_some_and(zerobuffer::KeptBuffer::is_adopted))
    }

    /// Ends the keeping. Returns whether a reader had taken the buffer over. If none had, its frames are
    /// lost.
    fn close(&self, py: Python<'_>) -> PyResult<bool> {
        let unsettled = end::unsettled(py);
        let Some(kept) = self.0.replace(py, None) else { return Ok(false) };
        let close = move || {
            let closed = kept.close();
            drop(unsettled);
            closed
        };
        py.detach(close).map_err(|error| raise(py, error))
    }
}
