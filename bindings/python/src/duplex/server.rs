//! Servers: handlers in Python, on the server's threads or as tasks of an event loop.

use std::borrow::Cow;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use zerobuffer::duplex::{self, DuplexChannelFactory, HandlerError, ProcessingMode, Request};

use super::executor::Running;
use super::requests;
use crate::config::BufferConfig;
use crate::errors::{exception, raise};
use crate::frame::Frame;
use crate::logging;
use crate::owned::Owned;

/// A mode from its name, or from an enum's member that has it as its value.
fn processing_mode(mode: Option<&Bound<'_, PyAny>>) -> PyResult<ProcessingMode> {
    let Some(mode) = mode else { return Ok(ProcessingMode::SingleThread) };
    let value = mode.getattr("value").unwrap_or_else(|_| mode.clone());
    match value.extract::<String>().as_deref() {
        Ok("single_thread") => Ok(ProcessingMode::SingleThread),
        Ok("thread_pool") => Ok(ProcessingMode::ThreadPool),
        _ => Err(PyValueError::new_err(format!("mode is {mode} but must be a ProcessingMode"))),
    }
}

/// Counts a handler that runs, so that the interpreter's end can wait for it.
struct Busy(Arc<AtomicUsize>);

impl Busy {
    fn new(count: &Arc<AtomicUsize>) -> Busy {
        count.fetch_add(1, Ordering::AcqRel);
        Busy(Arc::clone(count))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What the client is told of a failed handler.
fn words(py: Python<'_>, error: &PyErr, sequence: u64) -> HandlerError {
    let log = || -> PyResult<()> {
        let logger = py.import("logging")?.call_method1("getLogger", ("zerobuffer",))?;
        let options = PyDict::new(py);
        options.set_item("exc_info", error.value(py))?;
        logger.call_method("warning", ("the handler failed at request %d", sequence), Some(&options))?;
        Ok(())
    };
    if let Err(error) = log() {
        error.write_unraisable(py, None);
    }
    error.to_string().into()
}

/// Calls Python from a thread of the server.
fn with_python<T>(work: impl FnOnce(Python<'_>) -> Result<T, HandlerError>) -> Result<T, HandlerError> {
    Python::try_attach(|py| {
        let result = work(py);
        logging::flush(py);
        result
    })
    .unwrap_or_else(|| Err("the server's interpreter is ending".into()))
}

/// Hands the errors of a server to a callable.
fn error_callback(callback: Py<PyAny>) -> impl Fn(&zerobuffer::Error) + Send + Sync + 'static {
    move |error| {
        Python::try_attach(|py| {
            let told = exception(py, error).and_then(|error| callback.call1(py, (error,)));
            if let Err(error) = told {
                error.write_unraisable(py, Some(callback.bind(py)));
            }
        });
    }
}

fn init_callback(callback: Py<PyAny>) -> impl Fn(&[u8]) + Send + Sync + 'static {
    move |metadata| {
        Python::try_attach(|py| {
            if let Err(error) = callback.call1(py, (PyBytes::new(py, metadata),)) {
                error.write_unraisable(py, Some(callback.bind(py)));
            }
        });
    }
}

macro_rules! server {
    ($name:ident, $create:ident, $core:ty, $($own:tt)*) => {
        /// See `zerobuffer.duplex`.
        #[pyclass(frozen, subclass, module = "zerobuffer._native")]
        pub(crate) struct $name {
            /// `Some` until dropped.
            server: Option<$core>,
            busy: Arc<AtomicUsize>,
        }

        impl $name {
            fn server(&self) -> PyResult<&$core> {
                self.server.as_ref().ok_or_else(|| PyRuntimeError::new_err("the server is gone"))
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                let server = self.server.take();
                // Its end waits for handlers, which need the GIL.
                if Python::try_attach(|py| py.detach(|| drop(server))).is_none() {
                    // At the interpreter's end all have been stopped.
                }
            }
        }

        #[pymethods]
        impl $name {
            #[new]
            #[pyo3(signature = (channel_name, config=None))]
            fn new(
                py: Python<'_>,
                channel_name: &str,
                config: Option<&Bound<'_, BufferConfig>>,
            ) -> PyResult<Self> {
                let config = config.map(|config| config.get().to_core()).unwrap_or_default();
                let server = py
                    .detach(|| DuplexChannelFactory::new().$create(channel_name, config))
                    .map_err(|error| raise(py, error))?;
                logging::flush(py);
                Ok(Self { server: Some(server), busy: Arc::default() })
            }

            /// The channel's name.
            #[getter]
            fn channel_name(&self) -> PyResult<&str> {
                Ok(self.server()?.channel())
            }

            /// Stops the server, whatever it waits for: clients learn of it at once. It can be started again.
            ///
            /// Raises:
            ///     HandlerBusyError: if a handler is still running after 80 ms. It can ask `frame.is_cancelled`; its answer
            ///         goes nowhere, and its thread ends when it returns.
            fn stop(&self, py: Python<'_>) -> PyResult<()> {
                let server = self.server()?;
                let stopped = py.detach(|| server.stop()).map_err(|error| raise(py, error));
                logging::flush(py);
                stopped
            }

            /// Whether requests are being processed.
            #[getter]
            fn is_running(&self) -> PyResult<bool> {
                Ok(self.server()?.is_running())
            }

            /// Sets what is called with a ZeroBufferError, on a thread of the server, when a handler fails, an answer cannot be
            /// sent, or the request buffer had to be made anew. The server goes on.
            fn on_error(&self, callback: Py<PyAny>) -> PyResult<()> {
                self.server()?.on_error(error_callback(callback));
                Ok(())
            }

            /// Sets what is called with the metadata (bytes) of each client that sets some, before its next request is handled.
            fn on_init(&self, callback: Py<PyAny>) -> PyResult<()> {
                self.server()?.on_init(init_callback(callback));
                Ok(())
            }

            /// Sets the number of threads of `ProcessingMode.THREAD_POOL`, for the next start (default: one for each
            /// processor, two at least). 0 counts as 1.
            fn set_pool_size(&self, threads: usize) -> PyResult<()> {
                self.server()?.set_pool_size(threads);
                Ok(())
            }

            /// Handlers that are running; for the end of the interpreter.
            #[getter]
            fn _busy(&self) -> usize {
                self.busy.load(Ordering::Acquire)
            }

            fn __enter__(slf: Py<Self>) -> Py<Self> {
                slf
            }

            $($own)*

            #[pyo3(signature = (*_exception))]
            fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
                self.stop(py)
            }
        }
    };
}

server! {
    ImmutableDuplexServer, create_immutable_server, duplex::ImmutableDuplexServer,

    /// Starts processing on threads of the server, and returns at once.
    ///
    /// Args:
    ///     handler: Called with each request, a read-only frame that is released when it returns. Returns the response:
    ///         bytes, a NumPy array or another contiguous buffer, which must not be changed afterwards. What it raises
    ///         reaches the client as RequestFailedError, for that request alone.
    ///     mode: `ProcessingMode.SINGLE_THREAD` or `THREAD_POOL`.
    ///
    /// Raises:
    ///     InvalidStateError: if it runs. After a stop, as the constructor.
    #[pyo3(signature = (handler, mode=None))]
    fn start(&self, py: Python<'_>, handler: Py<PyAny>, mode: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (server, mode, busy) = (self.server()?, processing_mode(mode)?, Arc::clone(&self.busy));
        let job = move |request: Request| {
            let _busy = Busy::new(&busy);
            let sequence = request.sequence();
            with_python(|py| answer(py, &handler, request).map_err(|error| words(py, &error, sequence)))
        };
        py.detach(|| server.start_owned(job, mode)).map_err(|error| raise(py, error))
    }

    /// For `zerobuffer.duplex`: calls `schedule` with the frame and the `Answer` of each request.
    fn _start_async(&self, py: Python<'_>, schedule: Py<PyAny>) -> PyResult<()> {
        let server = self.server()?;
        let handler = move |request: Request| {
            let slot = Arc::new(Slot::default());
            let sequence = request.sequence();
            let scheduled = with_python(|py| {
                let frame = requests::plain(py, request).map_err(|error| words(py, &error, sequence))?;
                let answer = Answer(Arc::clone(&slot));
                // Fails when the loop is closed.
                schedule.call1(py, (frame, answer)).map_err(|error| words(py, &error, sequence))
            });
            if let Err(error) = scheduled {
                slot.fill(Err(error));
            }
            poll_fn(move |context| slot.poll(context.waker()))
        };
        let spawn = |task| drop(Running::start(task));
        py.detach(|| server.start_async(handler, spawn)).map_err(|error| raise(py, error))
    }
}

server! {
    MutableDuplexServer, create_mutable_server, duplex::MutableDuplexServer,

    /// Starts processing on threads of the server, and returns at once.
    ///
    /// Args:
    ///     handler: Called with each request, a writable frame, in shared memory itself; the response has its bytes when it
    ///         returns None. What it raises reaches the client as RequestFailedError, for that request alone.
    ///     mode: `ProcessingMode.SINGLE_THREAD` or `THREAD_POOL`.
    ///
    /// Raises:
    ///     InvalidStateError: if it runs. After a stop, as the constructor.
    #[pyo3(signature = (handler, mode=None))]
    fn start(&self, py: Python<'_>, handler: Py<PyAny>, mode: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let (server, mode, busy) = (self.server()?, processing_mode(mode)?, Arc::clone(&self.busy));
        let job = move |request: duplex::MutableFrame| {
            let _busy = Busy::new(&busy);
            let sequence = request.sequence();
            with_python(|py| {
                let change = || {
                    let (frame, answer) = requests::mutable(py, request)?;
                    let result = handler.bind(py).call1((&frame,));
                    frame.get().give_back();
                    result.map(|_| answer)
                };
                change().map_err(|error| words(py, &error, sequence))
            })
        };
        py.detach(|| server.start_owned(job, mode)).map_err(|error| raise(py, error))
    }
}

/// Calls a handler with a request's frame.
fn answer(py: Python<'_>, handler: &Py<PyAny>, request: Request) -> PyResult<Owned> {
    let frame = requests::plain(py, request)?;
    let result = handler.bind(py).call1((&frame,));
    // An answer may be the frame itself, or a view of it.
    let bytes = result.and_then(|object| Owned::of(&object, "return in a handler"));
    frame.get().give_back();
    bytes
}

type Outcome = Result<duplex::Reply<'static>, HandlerError>;

/// Where a coroutine's result goes.
#[derive(Default)]
struct Slot {
    state: Mutex<(Option<Outcome>, Option<Waker>)>,
}

impl Slot {
    fn fill(&self, result: Outcome) {
        let mut state = self.state.lock();
        state.0 = Some(result);
        let waker = state.1.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    fn poll(&self, waker: &Waker) -> Poll<Outcome> {
        let mut state = self.state.lock();
        match state.0.take() {
            Some(result) => Poll::Ready(result),
            None => {
                state.1 = Some(waker.clone());
                Poll::Pending
            }
        }
    }
}

/// The answer that a coroutine owes; for `zerobuffer.duplex`.
#[pyclass(frozen, module = "zerobuffer._native")]
pub(crate) struct Answer(Arc<Slot>);

#[pymethods]
impl Answer {
    /// Answers with the bytes of a buffer; raises what `write_frame` does of what is none.
    fn send(&self, py: Python<'_>, frame: &Bound<'_, Frame>, response: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = Owned::of(response, "return in a handler")?.as_ref().to_vec();
        frame.get().give_back();
        py.detach(|| self.0.fill(Ok(Cow::Owned(bytes))));
        Ok(())
    }

    /// Tells the client that the handler failed.
    fn fail(&self, py: Python<'_>, frame: &Bound<'_, Frame>, error: &Bound<'_, PyAny>) {
        let error = words(py, &PyErr::from_value(error.clone()), frame.get().number());
        frame.get().give_back();
        py.detach(|| self.0.fill(Err(error)));
    }
}
