//! What event loops of asyncio watch: a copy of a handle's descriptor.
//!
//! The copy stays open for as long as a loop has it. The end of the handle makes it ready for good, so a task that waits looks
//! again, and finds that the handle is closed. All copies that are handed out are one descriptor.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use pyo3::prelude::*;
use zerobuffer::ErrorKind;

use crate::errors::{Failure, raise};
use crate::gate::Gate;
use crate::lock::Guarded;

/// For `zerobuffer._aio`: a descriptor that is open for as long as this lives.
#[pyclass(frozen, module = "zerobuffer._native")]
pub(crate) struct Watched(Arc<OwnedFd>);

#[pymethods]
impl Watched {
    fn fileno(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// The copy of one handle, once a task has waited for it.
#[derive(Default)]
pub(crate) struct Watch(Guarded<Option<Arc<OwnedFd>>>);

impl Watch {
    /// The copy of a handle that takes calls of several threads at once. `copy` makes it.
    pub(crate) fn share(
        &self,
        copy: impl FnOnce() -> zerobuffer::Result<OwnedFd>,
    ) -> zerobuffer::Result<Watched> {
        if let Some(copy) = self.0.with(|copy| copy.clone()) {
            return Ok(Watched(copy));
        }
        let copy = Arc::new(copy()?);
        Ok(Watched(self.0.with(|kept| Arc::clone(kept.get_or_insert(copy)))))
    }

    /// The copy. `None` if another thread has the handle.
    pub(crate) fn open<T: Send>(
        &self,
        py: Python<'_>,
        gate: &Gate<T>,
        descriptor: impl FnOnce(&mut T) -> zerobuffer::Result<BorrowedFd<'_>> + Send,
    ) -> PyResult<Option<Watched>> {
        let opened = gate.check_mine().and_then(|()| {
            if let Some(copy) = self.0.with(|copy| copy.clone()) {
                return Ok(Some(copy));
            }
            gate.try_with(|handle| {
                let copy = descriptor(handle)?.try_clone_to_owned().map_err(|error| {
                    Failure::own(
                        ErrorKind::System,
                        gate.name(),
                        format!("cannot copy its descriptor: {error}"),
                    )
                })?;
                let copy = Arc::new(copy);
                // With the handle in hand: close() takes the handle first, and then this away.
                self.0.with(|kept| *kept = Some(Arc::clone(&copy)));
                Ok(copy)
            })
        });
        opened.map(|copy| copy.map(Watched)).map_err(|failure| raise(py, failure))
    }

    /// Leaves the copy to the loops that have it.
    pub(crate) fn close(&self) {
        drop(self.0.replace(None));
    }
}
