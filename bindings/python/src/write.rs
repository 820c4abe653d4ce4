//! UNSAFE (copies bytes that Python code may change meanwhile): how a `Writer` writes.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::prelude::*;
use zerobuffer::ErrorKind;

use crate::buffers::{Bytes, MUCH};
use crate::errors::{Failure, raise};
use crate::gate::in_slices;
use crate::in_place::{Acquired, acquire};
use crate::writer::Writer;

impl Writer {
    /// Writes without waiting and with the GIL held: few bytes, and no other thread in the way.
    #[inline]
    fn write_at_once(&self, bytes: &[u8]) -> Result<Option<u64>, Failure> {
        if bytes.len() >= MUCH {
            return Ok(None);
        }
        let written = self.gate.try_with(|writer| {
            let sequence = writer.try_write_frame(bytes)?;
            self.count(writer);
            Ok(sequence)
        });
        match written {
            Ok(sequence) => Ok(sequence.flatten()),
            Err(failure) if self.is_for_others(&failure) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// Whether a call failed only because another thread fills a frame.
    #[cold]
    pub(crate) fn is_for_others(&self, failure: &Failure) -> bool {
        failure.kind() == ErrorKind::InvalidState
            && self.gate.check_mine().is_ok()
            && self.acquired.with(|acquired| !acquired.as_ref().is_some_and(|one| one.owner.is_current()))
    }

    /// Makes a failure of [`Writer::is_for_others`] a reason to wait, and waits for the other thread up to `slice`.
    pub(crate) fn unless_for_others<R>(
        &self,
        slice: Duration,
        result: Result<Option<R>, Failure>,
    ) -> Result<Option<R>, Failure> {
        match result {
            Err(failure) if self.is_for_others(&failure) => {
                let ended = |acquired: &Option<Acquired>| {
                    acquired.as_ref().is_some_and(|acquired| acquired.owner.has_ended())
                };
                self.acquired
                    .wait_until(&self.returned, slice, |acquired| acquired.is_none() || ended(acquired));
                if self.acquired.with(|acquired| ended(acquired)) {
                    self.take_back()?;
                }
                Ok(None)
            }
            result => result,
        }
    }

    /// The bytes of an object, which lie outside of the ring: what was lent of it may be free space by now, and the very
    /// space that they are to be copied to.
    fn outside<'a>(&self, bytes: &'a Bytes<'_>) -> PyResult<Cow<'a, [u8]>> {
        // Relaxed: a view that this thread can use has been counted before.
        if self.lent.load(Ordering::Relaxed) == 0 {
            Ok(Cow::Borrowed(bytes.as_slice()))
        } else {
            bytes.copied()
        }
    }

    /// Writes with the GIL released. `None` when the time is over.
    fn write_within(&self, py: Python<'_>, bytes: &Bytes<'_>, timeout: Duration) -> PyResult<Option<u64>> {
        // Bytes that nothing changes while the GIL is released: those of an immutable object, or a copy of a few.
        let fixed = match bytes.immutable() {
            Some(fixed) => Some(Cow::Borrowed(fixed)),
            None if bytes.as_slice().len() < MUCH => Some(bytes.copied()?),
            None => None,
        };
        if let Some(fixed) = fixed {
            return in_slices(py, timeout, |slice| {
                let written = self.gate.attempt(slice, |writer| {
                    writer.set_write_timeout(slice);
                    match writer.write_frame(&fixed) {
                        Ok(sequence) => {
                            self.count(writer);
                            Ok(Some(sequence))
                        }
                        Err(error) if error.kind() == ErrorKind::BufferFull => Ok(None),
                        Err(error) => Err(error.into()),
                    }
                });
                self.unless_for_others(slice, written)
            });
        }
        let raw = bytes.raw();
        in_slices(py, timeout, |slice| {
            let written = self.gate.attempt(slice, |writer| {
                if !acquire(writer, raw.len, slice)? {
                    return Ok(None);
                }
                if let Some(target) = writer.acquired() {
                    // SAFETY: `raw` comes from `bytes`, which the caller of this function lends until it returns, and this closure runs
                    // within that.
                    unsafe { raw.copy_to(target) };
                }
                let sequence = writer.commit_frame(None)?;
                self.count(writer);
                Ok(Some(sequence))
            });
            self.unless_for_others(slice, written)
        })
    }

    pub(crate) fn write(
        &self,
        py: Python<'_>,
        bytes: &Bytes<'_>,
        timeout: Duration,
    ) -> PyResult<Option<u64>> {
        let source = self.outside(bytes)?;
        if let Some(sequence) = self.write_at_once(&source).map_err(|failure| raise(py, failure))? {
            return Ok(Some(sequence));
        }
        match &source {
            Cow::Owned(copy) => self.write_within(py, &Bytes::fixed(copy), timeout),
            Cow::Borrowed(_) => self.write_within(py, bytes, timeout),
        }
    }
}
