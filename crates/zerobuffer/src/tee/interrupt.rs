//! Ends a blocked call of a tee, whichever of its handles waits.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::buffer::InterruptHandle;

/// Ends a blocked call of a [`Tee`](crate::Tee) from another thread, whether it waits for a frame or for space in an output.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::{BufferConfig, ErrorKind, Reader, Tee};
///
/// # let name = format!("doc-tee-interrupt-{}", std::process::id());
/// let mut tee = Tee::new(Reader::create(&name, BufferConfig::default())?);
/// let handle = tee.interrupt_handle();
/// let thread = std::thread::spawn(move || handle.interrupt());
/// let error = tee.step(Duration::MAX).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Interrupted);
/// # thread.join().unwrap();
/// # Ok::<(), zerobuffer::Error>(())
/// ```
#[derive(Clone)]
pub struct TeeInterruptHandle(Arc<Mutex<Vec<InterruptHandle>>>);

impl TeeInterruptHandle {
    pub(super) fn new(reader: InterruptHandle) -> TeeInterruptHandle {
        TeeInterruptHandle(Arc::new(Mutex::new(vec![reader])))
    }

    fn handles(&self) -> MutexGuard<'_, Vec<InterruptHandle>> {
        // Nothing in the critical sections panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the handles of the outputs, which stand behind that of the reader.
    pub(super) fn set_outputs(&self, outputs: impl Iterator<Item = InterruptHandle>) {
        let mut handles = self.handles();
        // An output that has left must not keep an interrupt that was meant for the tee.
        handles[1..].iter().for_each(InterruptHandle::clear);
        handles.truncate(1);
        handles.extend(outputs);
    }

    /// Makes the call that is blocked now, or else the next one that would block, fail once with
    /// [`ErrorKind::Interrupted`](crate::ErrorKind::Interrupted).
    pub fn interrupt(&self) {
        self.handles().iter().for_each(InterruptHandle::interrupt);
    }

    /// Withdraws an interrupt that no call has met yet.
    pub fn clear(&self) {
        self.handles().iter().for_each(InterruptHandle::clear);
    }
}

impl std::fmt::Debug for TeeInterruptHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TeeInterruptHandle")
    }
}
