//! Clients and servers belong to the process that made them. A forked child must not use their locks, because
//! a thread that the child does not have may hold one of them.

use crate::error::{Error, ErrorKind, Result};
use crate::os;

/// Identifies the process that made a client or a server, and tells it from its forked children.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner {
    generation: u64,
}

impl Owner {
    /// This process.
    pub(crate) fn this_process() -> Owner {
        Owner { generation: os::fork_generation() }
    }

    pub(crate) fn is_this_process(self) -> bool {
        self.generation == os::fork_generation()
    }

    /// Fails with `InvalidState` in a forked child. `what` names the object: "client" or "server".
    #[inline]
    pub(crate) fn check(self, channel: &str, what: &str) -> Result<()> {
        if self.is_this_process() {
            return Ok(());
        }
        let message = format!("this {what} belongs to the parent process; create one in this process");
        Err(Error::channel(ErrorKind::InvalidState, channel, message))
    }
}
