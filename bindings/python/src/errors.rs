//! Errors of the core as exceptions of `zerobuffer._errors`: each kind's class is its name and "Error".

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;
use zerobuffer::ErrorKind;

use crate::end;

static CLASSES: PyOnceLock<Py<PyModule>> = PyOnceLock::new();

/// Why a call failed.
pub(crate) enum Failure {
    Core(zerobuffer::Error),
    /// Found by this binding: kind, buffer or channel, and the whole text.
    Own(ErrorKind, String, String),
}

impl From<zerobuffer::Error> for Failure {
    fn from(error: zerobuffer::Error) -> Failure {
        Failure::Core(error)
    }
}

impl Failure {
    pub(crate) fn own(kind: ErrorKind, buffer: &str, message: impl Into<String>) -> Failure {
        let message = message.into();
        let text = if buffer.is_empty() { message } else { format!("buffer `{buffer}`: {message}") };
        Failure::Own(kind, buffer.to_owned(), text)
    }

    /// About a duplex channel rather than one of its buffers.
    pub(crate) fn of_channel(kind: ErrorKind, channel: &str, message: impl std::fmt::Display) -> Failure {
        Failure::Own(kind, channel.to_owned(), format!("channel `{channel}`: {message}"))
    }

    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Failure::Core(error) => error.kind(),
            Failure::Own(kind, ..) => *kind,
        }
    }
}

/// The class of a kind; `ZeroBufferError` for one that this package does not know.
fn class<'py>(py: Python<'py>, kind: ErrorKind) -> PyResult<Bound<'py, PyAny>> {
    let module = CLASSES.get_or_try_init(py, || py.import("zerobuffer._errors").map(Bound::unbind))?.bind(py);
    let name = kind.name();
    let name = if name.ends_with("Error") { name.to_owned() } else { format!("{name}Error") };
    module.getattr(name).or_else(|_| module.getattr("ZeroBufferError"))
}

/// The exception that stands for an error of the core.
pub(crate) fn exception<'py>(py: Python<'py>, error: &zerobuffer::Error) -> PyResult<Bound<'py, PyAny>> {
    let instance = class(py, error.kind())?.call1((error.to_string(),))?;
    instance.setattr("buffer", error.buffer())?;
    if let Some(sequence) = error.sequence() {
        instance.setattr("sequence", sequence)?;
    }
    if let Some(gap) = error.sequence_gap() {
        instance.setattr("expected", gap.expected)?;
        instance.setattr("got", gap.got)?;
    }
    if let Some(errno) = error.os_error().and_then(std::io::Error::raw_os_error) {
        instance.setattr("errno", errno)?;
    }
    Ok(instance)
}

fn instance<'py>(py: Python<'py>, failure: &Failure) -> PyResult<Bound<'py, PyAny>> {
    match failure {
        Failure::Core(error) => exception(py, error),
        Failure::Own(kind, buffer, text) => {
            let instance = class(py, *kind)?.call1((text,))?;
            instance.setattr("buffer", buffer)?;
            Ok(instance)
        }
    }
}

/// The exception to raise. Not to be made under a lock, as it runs Python code.
#[cold]
pub(crate) fn raise(py: Python<'_>, failure: impl Into<Failure>) -> PyErr {
    if end::stands_still() {
        end::stand_still(py);
    }
    instance(py, &failure.into()).map_or_else(|error| error, PyErr::from_value)
}

/// The exception for what this binding finds.
pub(crate) fn own(py: Python<'_>, kind: ErrorKind, buffer: &str, message: impl Into<String>) -> PyErr {
    raise(py, Failure::own(kind, buffer, message))
}
