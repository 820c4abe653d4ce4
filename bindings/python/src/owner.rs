//! Threads as owners of what they have acquired.

use std::sync::{Arc, Weak};

thread_local! {
    /// Dropped when the thread ends.
    static SELF: Arc<()> = Arc::new(());
}

/// A thread, dead or alive. The allocation behind it is not reused while this lives, so its address identifies the thread.
pub(crate) struct Owner(Weak<()>);

impl Owner {
    /// The calling thread.
    pub(crate) fn current() -> Owner {
        Owner(SELF.try_with(Arc::downgrade).unwrap_or_default())
    }

    /// Whether this is the calling thread.
    pub(crate) fn is_current(&self) -> bool {
        SELF.try_with(|current| Weak::as_ptr(&self.0) == Arc::as_ptr(current)).unwrap_or(false)
    }

    /// Whether the thread has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.strong_count() == 0
    }
}
