//! Servers: handlers in Python, on the server's threads or as tasks of an event loop.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::Instant;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyBytes, PyDict, PyTuple};
use zerobuffer::ErrorKind;
use zerobuffer::duplex::{self, DuplexChannelFactory, HandlerError, MAX_POOL_SIZE, ProcessingMode, Request};

use super::coroutine::{Answer, Slot};
use super::executor::Running;
use super::requests;
use super::response_writer::ResponseWriter;
use crate::config::{BufferConfig, count};
use crate::end::{self, Shut, call_python};
use crate::errors::{Failure, exception, raise};
use crate::gate::{beside, duration, in_slices};
use crate::lock::Attached;
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

/// What the client is told of a failed handler.
pub(super) fn words(py: Python<'_>, error: &PyErr, sequence: u64) -> HandlerError {
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
    call_python(work).unwrap_or_else(|| Err(ENDING.into()))
}

const ENDING: &str = "the server's interpreter is ending";

/// The functions of the user. They live in the object rather than in the core, so that the garbage collector sees them,
/// and so that the last reference to one never goes while the core holds a lock.
#[derive(Default)]
struct Callables {
    handler: Attached<Option<Py<PyAny>>>,
    error: Attached<Option<Py<PyAny>>>,
    init: Attached<Option<Py<PyAny>>>,
}

impl Callables {
    fn all(&self) -> [&Attached<Option<Py<PyAny>>>; 3] {
        [&self.handler, &self.error, &self.init]
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.all()
            .into_iter()
            .try_for_each(|slot| slot.peek(|callable| visit.call(callable)).unwrap_or(Ok(())))
    }

    fn clear(&self, py: Python<'_>) {
        self.all().into_iter().for_each(|slot| drop(slot.replace(py, None)));
    }

    /// Calls a function whose result is not wanted, from a thread of the server.
    fn tell(
        slot: &Attached<Option<Py<PyAny>>>,
        argument: impl for<'py> FnOnce(Python<'py>) -> PyResult<Bound<'py, PyAny>>,
    ) {
        call_python(|py| {
            let Some(callable) = get(py, slot) else { return };
            let told = argument(py).and_then(|argument| callable.call1(py, (argument,)));
            if let Err(error) = told {
                error.write_unraisable(py, Some(callable.bind(py)));
            }
        });
    }
}

/// The function in a slot.
fn get(py: Python<'_>, slot: &Attached<Option<Py<PyAny>>>) -> Option<Py<PyAny>> {
    // Out of the slot and back: counting references is Python's work.
    let callable = slot.replace(py, None)?;
    let found = callable.clone_ref(py);
    let other = slot.with(py, |slot| if slot.is_none() { slot.replace(callable) } else { Some(callable) });
    drop(other);
    Some(found)
}

/// Refuses what cannot be called.
fn callable(object: &Bound<'_, PyAny>, what: &str) -> PyResult<Py<PyAny>> {
    if object.is_callable() {
        return Ok(object.clone().unbind());
    }
    let message = format!("{what} must be callable, and {} is not", object.get_type().name()?);
    Err(PyTypeError::new_err(message))
}

macro_rules! server {
    ($name:ident, $create:ident, $core:ty, $($own:tt)*) => {
        /// See `zerobuffer.duplex`.
        #[pyclass(frozen, subclass, module = "zerobuffer._native")]
        pub(crate) struct $name {
            server: Arc<$core>,
            callables: Arc<Callables>,
            /// Calls of start() and stop() that are under way: the core may wait in them for seconds.
            changing: Arc<AtomicUsize>,
            /// Threads of the pool; 0 is the core's default.
            pool_size: AtomicUsize,
            told_errors: Once,
            told_inits: Once,
        }

        impl Shut for $core {
            fn quiet(&self) {
                // A handler that is busy has been told, and the end waits for it.
                let _ = self.stop();
            }
        }

        impl $name {
            /// Calls the core beside this thread, for up to some seconds.
            fn change<T: Send + 'static>(
                &self,
                py: Python<'_>,
                change: impl FnOnce(&$core) -> zerobuffer::Result<T> + Send + 'static,
            ) -> PyResult<T> {
                let (server, changing) = (Arc::clone(&self.server), Changing::new(&self.changing));
                let changed = beside(py, move || {
                    let _changing = changing;
                    change(&server)
                })?;
                changed.map_err(|error| raise(py, error))
            }

            fn start_with(
                &self,
                py: Python<'_>,
                handler: Py<PyAny>,
                start: impl FnOnce(&$core) -> zerobuffer::Result<()> + Send + 'static,
            ) -> PyResult<()> {
                let _unsettled = end::unsettled(py);
                if self.is_running(py) {
                    let message = "the server runs already: stop it first";
                    return Err(raise(py, Failure::of_channel(ErrorKind::InvalidState, self.server.channel(), message)));
                }
                drop(self.callables.handler.replace(py, Some(handler)));
                let threads = self.pool_size.load(Ordering::Relaxed);
                self.change(py, move |server| {
                    if threads > 0 {
                        server.set_pool_size(threads);
                    }
                    start(server)
                })
            }
        }

        impl Drop for $name {
            fn drop(&mut self) {
                let server = Arc::clone(&self.server);
                let _ = Python::try_attach(|py| {
                    // Its end waits for handlers, which need the GIL.
                    let _ = py.detach(|| server.stop());
                    // Not by a thread of the server that is still busy: the functions are Python's.
                    self.callables.clear(py);
                });
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
                let (_unsettled, name) = (end::unsettled(py), channel_name.to_owned());
                let server = beside(py, move || DuplexChannelFactory::new().$create(&name, config))?;
                let server = Arc::new(server.map_err(|error| raise(py, error))?);
                end::enlist(py, &server);
                Ok(Self {
                    server,
                    callables: Arc::default(),
                    changing: Arc::default(),
                    pool_size: AtomicUsize::new(0),
                    told_errors: Once::new(),
                    told_inits: Once::new(),
                })
            }

            /// The channel's name.
            #[getter]
            fn channel_name(&self) -> &str {
                self.server.channel()
            }

            /// Stops the server, even while it waits. Clients learn of it at once. It can be started again.
            ///
            /// Raises:
            ///     HandlerBusyError: if a handler is still running after 80 ms. The handler can check `frame.is_cancelled`; its
            ///         answer is dropped, and its thread ends when it returns.
            fn stop(&self, py: Python<'_>) -> PyResult<()> {
                self.change(py, |server| server.stop())
            }

            /// Waits until the server no longer runs and its handlers have ended: another thread has stopped it, or it has
            /// ended by itself (`on_error` says why).
            ///
            /// Args:
            ///     timeout_ms: Milliseconds; None or a negative number waits without limit.
            ///
            /// Returns:
            ///     Whether that is so: True at once if it was not started, False at once on a thread of the server, which
            ///     cannot wait for itself.
            #[pyo3(signature = (timeout_ms=None))]
            fn wait(&self, py: Python<'_>, timeout_ms: Option<f64>) -> PyResult<bool> {
                let ended = in_slices(py, duration(timeout_ms)?, |slice| {
                    let began = Instant::now();
                    let ended = self.server.wait(slice);
                    // On a thread of the server the core does not wait.
                    let decided = ended || began.elapsed() < slice / 2;
                    Ok(decided.then_some(ended))
                })?;
                Ok(ended == Some(true))
            }

            /// Whether requests are being processed. False while the server is being started or stopped.
            #[getter]
            fn is_running(&self, py: Python<'_>) -> bool {
                self.changing.load(Ordering::Acquire) == 0 && py.detach(|| self.server.is_running())
            }

            /// Sets the function that is called with a ZeroBufferError, on a thread of the server, when a handler fails, an
            /// answer cannot be sent, a client has died, or the request buffer had to be created again. The server continues.
            ///
            /// Raises:
            ///     TypeError: if it cannot be called.
            fn on_error(&self, callback: &Bound<'_, PyAny>) -> PyResult<()> {
                drop(self.callables.error.replace(callback.py(), Some(callable(callback, "the callback")?)));
                self.told_errors.call_once(|| {
                    let callables = Arc::clone(&self.callables);
                    self.server.on_error(move |error| {
                        Callables::tell(&callables.error, |py| exception(py, error));
                    });
                });
                Ok(())
            }

            /// Sets the function that is called with the metadata (bytes) of each client that sets some, before its next
            /// request is handled.
            ///
            /// Raises:
            ///     TypeError: if it cannot be called.
            fn on_init(&self, callback: &Bound<'_, PyAny>) -> PyResult<()> {
                drop(self.callables.init.replace(callback.py(), Some(callable(callback, "the callback")?)));
                self.told_inits.call_once(|| {
                    let callables = Arc::clone(&self.callables);
                    self.server.on_init(move |metadata| {
                        Callables::tell(&callables.init, |py| Ok(PyBytes::new(py, metadata).into_any()));
                    });
                });
                Ok(())
            }

            /// Sets the number of threads of `ProcessingMode.THREAD_POOL`, for the next start (default: one for each
            /// processor, two at least). 0 counts as 1.
            ///
            /// Raises:
            ///     InvalidConfigError: for a negative number, and for more than 1,024.
            fn set_pool_size(&self, threads: &Bound<'_, PyAny>) -> PyResult<()> {
                let size = count(threads)?.filter(|&size| size <= MAX_POOL_SIZE);
                let failed = || {
                    let message = format!("{threads} threads are no size for a pool: it takes 1 to {MAX_POOL_SIZE}");
                    raise(threads.py(), Failure::of_channel(ErrorKind::InvalidConfig, self.server.channel(), message))
                };
                self.pool_size.store(size.ok_or_else(failed)?.max(1), Ordering::Relaxed);
                Ok(())
            }

            fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
                self.callables.traverse(&visit)
            }

            fn __clear__(&self, py: Python<'_>) {
                self.callables.clear(py);
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

/// Counts a start or stop that is under way.
struct Changing(Arc<AtomicUsize>);

impl Changing {
    fn new(count: &Arc<AtomicUsize>) -> Changing {
        count.fetch_add(1, Ordering::AcqRel);
        Changing(Arc::clone(count))
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

server! {
    ImmutableDuplexServer, create_immutable_server, duplex::ImmutableDuplexServer,

    /// Starts processing on threads of the server, and returns at once.
    ///
    /// Args:
    ///     handler: Called with each request, a read-only frame that is released when it returns. Returns the response:
    ///         bytes, a NumPy array or another contiguous buffer, which must not be changed afterwards. An exception of it
    ///         reaches the client as RequestFailedError, for that request only.
    ///     mode: `ProcessingMode.SINGLE_THREAD` or `THREAD_POOL`.
    ///
    /// Raises:
    ///     InvalidStateError: if it runs. After a stop, those of the constructor.
    #[pyo3(signature = (handler, mode=None))]
    fn start(
        &self,
        py: Python<'_>,
        handler: &Bound<'_, PyAny>,
        mode: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (handler, mode) = (callable(handler, "the handler")?, processing_mode(mode)?);
        let callables = Arc::clone(&self.callables);
        let job = move |request: Request| {
            let sequence = request.sequence();
            with_python(|py| {
                let Some(handler) = get(py, &callables.handler) else { return Err(GONE.into()) };
                answer(py, &handler, request).map_err(|error| words(py, &error, sequence))
            })
        };
        self.start_with(py, handler, move |server| server.start_owned(job, mode))
    }

    /// Starts processing with a handler that writes its answer in place, in the response buffer.
    ///
    /// Args:
    ///     handler: Called with each request, as by `start`, and with a `ResponseWriter`. What it returns does not count. If it
    ///         writes no answer, the response has no bytes; but if it has acquired bytes and not committed them, the request
    ///         fails.
    ///     mode: `ProcessingMode.SINGLE_THREAD` or `THREAD_POOL`, where answers are copied once.
    ///
    /// Raises:
    ///     InvalidStateError: if it runs. After a stop, those of the constructor.
    #[pyo3(signature = (handler, mode=None))]
    fn start_in_place(
        &self,
        py: Python<'_>,
        handler: &Bound<'_, PyAny>,
        mode: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (handler, mode) = (callable(handler, "the handler")?, processing_mode(mode)?);
        let callables = Arc::clone(&self.callables);
        let channel: Box<str> = self.server.channel().into();
        let job = move |request: Request, response: &mut duplex::ResponseWriter<'_>| {
            let sequence = request.sequence();
            // Dropped last, without the GIL.
            let (response, _lending) = ResponseWriter::lend(&channel, response);
            with_python(|py| {
                let Some(handler) = get(py, &callables.handler) else { return Err(GONE.into()) };
                let write = || {
                    let (frame, response) = (requests::plain(py, request)?, Bound::new(py, response)?);
                    let result = handler.bind(py).call1((&frame, &response));
                    frame.get().give_back(py);
                    response.get().end_view(py);
                    result.map(drop)
                };
                write().map_err(|error| words(py, &error, sequence))
            })
        };
        self.start_with(py, handler, move |server| server.start_owned_in_place(job, mode))
    }

    /// For `zerobuffer.duplex`: calls `schedule` with the frame and the `Answer` of each request.
    fn _start_async(&self, py: Python<'_>, schedule: Py<PyAny>) -> PyResult<()> {
        let callables = Arc::clone(&self.callables);
        let handler = move |request: Request| {
            let slot = Arc::new(Slot::default());
            let sequence = request.sequence();
            let scheduled = with_python(|py| {
                let Some(schedule) = get(py, &callables.handler) else { return Err(GONE.into()) };
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
        let spawn = |task| drop(Running::start(task, |()| {}));
        self.start_with(py, schedule, move |server| server.start_async(handler, spawn))
    }
}

server! {
    MutableDuplexServer, create_mutable_server, duplex::MutableDuplexServer,

    /// Starts processing on threads of the server, and returns at once.
    ///
    /// Args:
    ///     handler: Called with each request, a writable frame, in shared memory itself; the response has its bytes when it
    ///         returns None. An exception of it reaches the client as RequestFailedError, for that request only.
    ///     mode: `ProcessingMode.SINGLE_THREAD` or `THREAD_POOL`.
    ///
    /// Raises:
    ///     InvalidStateError: if it runs. After a stop, those of the constructor.
    #[pyo3(signature = (handler, mode=None))]
    fn start(
        &self,
        py: Python<'_>,
        handler: &Bound<'_, PyAny>,
        mode: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (handler, mode) = (callable(handler, "the handler")?, processing_mode(mode)?);
        let callables = Arc::clone(&self.callables);
        let job = move |request: duplex::MutableFrame| {
            let sequence = request.sequence();
            with_python(|py| {
                let Some(handler) = get(py, &callables.handler) else { return Err(GONE.into()) };
                let change = || {
                    let (frame, answer) = requests::mutable(py, request)?;
                    let result = handler.bind(py).call1((&frame,));
                    frame.get().give_back(py);
                    result.map(|_| answer)
                };
                change().map_err(|error| words(py, &error, sequence))
            })
        };
        self.start_with(py, handler, move |server| server.start_shared(job, mode))
    }
}

/// Calls a handler with a request's frame.
fn answer(py: Python<'_>, handler: &Py<PyAny>, request: Request) -> PyResult<Owned> {
    let frame = requests::plain(py, request)?;
    let result = handler.bind(py).call1((&frame,));
    // An answer may be the frame itself, or a view of it.
    let bytes = result.and_then(|object| Owned::of(&object, "return in a handler"));
    frame.get().give_back(py);
    bytes
}

const GONE: &str = "the server is being dropped";
