//! The contract with the operating system: shared memory, semaphores, locks, processes.
//!
//! One file per system implements it and is the only place with its system calls; `unsupported.rs` says so clearly
//! where there is none yet. Functions return `io::Error`; what that means for a buffer is decided by the caller.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

#[cfg(not(target_os = "linux"))]
mod unsupported;
#[cfg(not(target_os = "linux"))]
pub(crate) use unsupported::*;

/// Identity of a file: device and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}
