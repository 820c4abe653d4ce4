//! UNSAFE (views of requests and responses): what frames of duplex channels rest on.
#![allow(unsafe_code)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use zerobuffer::duplex::{MutableFrame, Request, Response};

use crate::frame::Frame;
use crate::memory::Lease;

/// A request that a handler has, for as long as it or a view of it lives.
#[derive(Clone)]
pub(crate) enum Held {
    Plain(Arc<Request>),
    Mutable(Arc<MutableFrame>),
}

impl Held {
    /// Whether the response is no longer wanted.
    pub(crate) fn is_cancelled(&self) -> bool {
        match self {
            Held::Plain(request) => request.is_cancelled(),
            Held::Mutable(frame) => frame.is_cancelled(),
        }
    }

    /// How long the client still waits for the response; `None` if it set no limit.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let deadline = match self {
            Held::Plain(request) => request.deadline(),
            Held::Mutable(frame) => frame.deadline(),
        };
        Some(deadline?.saturating_duration_since(Instant::now()))
    }
}

/// A request and its frame.
pub(crate) fn plain(py: Python<'_>, request: Request) -> PyResult<Bound<'_, Frame>> {
    let (sequence, request) = (request.sequence(), Arc::new(request));
    let (start, len) = (request.as_ptr(), request.len());
    // SAFETY: the request keeps its bytes.
    let lease = unsafe { Lease::readable(start, len, Arc::<Request>::clone(&request)) };
    Frame::of_lease(py, lease, sequence, Some(Held::Plain(request)))
}

/// A request that its handler changes in place: the frame, and what the response's bytes are read from.
pub(crate) fn mutable(
    py: Python<'_>,
    mut frame: MutableFrame,
) -> PyResult<(Bound<'_, Frame>, Arc<MutableFrame>)> {
    let (sequence, start, len) = (frame.sequence(), frame.as_mut_ptr(), frame.len());
    let frame = Arc::new(frame);
    // SAFETY: the frame keeps its bytes, which are this process's until then. Python code alone writes to them. Where a view is
    // kept for longer than the handler runs, the response is a copy, which a write meanwhile may spoil.
    let lease = unsafe { Lease::writable(start, len, Arc::<MutableFrame>::clone(&frame)) };
    let answer = Arc::clone(&frame);
    Ok((Frame::of_lease(py, lease, sequence, Some(Held::Mutable(frame)))?, answer))
}

/// A response's frame. May have 0 bytes.
pub(crate) fn response(py: Python<'_>, response: Response) -> PyResult<Bound<'_, Frame>> {
    let (sequence, start, len) = (response.sequence(), response.as_ptr(), response.len());
    // SAFETY: the response keeps its bytes.
    let lease = unsafe { Lease::readable(start, len, Arc::new(response)) };
    Frame::of_lease(py, lease, sequence, None)
}
