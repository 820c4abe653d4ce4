//! Frames that a writer passes on.

use pyo3::prelude::*;
use zerobuffer::{ErrorKind, Forwarded};

use crate::errors;
use crate::frame::Frame;
use crate::gate::in_slices;
use crate::writer::Writer;

impl Writer {
    /// Passes a frame on with the GIL released. Returns whether it was lent.
    pub(crate) fn pass_on(&self, py: Python<'_>, frame: &Frame) -> PyResult<bool> {
        let timeout = self.timeout.with(py, |timeout| *timeout);
        let lease = frame.lease(py)?;
        let lease = lease.get();
        if lease.with_frame(|_| ()).is_none() {
            let message = "no reader has read this frame: write its bytes instead";
            return Err(errors::own(py, ErrorKind::InvalidState, self.gate.name(), message));
        }
        let forwarded = in_slices(py, timeout, |slice| {
            let forwarded = self.gate.attempt(slice, |writer| {
                writer.set_write_timeout(slice);
                match lease.with_frame(|frame| writer.forward_to(frame)).transpose() {
                    Ok(forwarded) => {
                        self.count(writer);
                        Ok(forwarded.map(|forwarded| forwarded == Forwarded::Shared))
                    }
                    Err(error) if error.kind() == ErrorKind::BufferFull => Ok(None),
                    Err(error) => Err(error.into()),
                }
            });
            self.unless_for_others(slice, forwarded)
        })?;
        forwarded.ok_or_else(|| self.full(py, lease.len()))
    }
}
