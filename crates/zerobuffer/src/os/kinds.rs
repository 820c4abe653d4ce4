//! What the contract's functions return, the same on every system.

use std::time::{Duration, SystemTime};

/// Identity of a file: device and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// What the system knows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileInfo {
    pub(crate) id: FileId,
    /// Neither a link nor a folder nor a device.
    pub(crate) is_file: bool,
    /// Length in bytes.
    pub(crate) len: u64,
    /// Bytes of memory that it occupies.
    pub(crate) memory: u64,
    /// The owner's user id.
    pub(crate) owner: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    /// Last change of the content.
    pub(crate) modified: SystemTime,
    /// Last change of the content, the owner, the mode or the name.
    pub(crate) changed: SystemTime,
}

impl FileInfo {
    /// Time since the content changed, on the wall clock.
    pub(crate) fn modified_ago(&self) -> Duration {
        self.modified.elapsed().unwrap_or_default()
    }

    /// Time since the file changed in any way, on the wall clock.
    pub(crate) fn changed_ago(&self) -> Duration {
        self.changed.elapsed().unwrap_or_default()
    }
}

/// What became of a file that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    Removed,
    /// The name leads to nothing, or to another file by now.
    Gone,
    /// Another process is making or removing this file.
    Busy,
}

/// What became of an attempt to take a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    Locked,
    /// Another process holds the lock.
    Held,
    /// No process holds the lock, and yet it cannot be had: a process that may only read holds a shared one.
    Obstructed,
}

/// What a semaphore's file is, before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SemaphoreFile {
    pub(crate) info: FileInfo,
    /// The segment that a native peer made it for; `None` for a 1.x peer's, and for another program's.
    pub(crate) segment: Option<FileId>,
    /// Its creator is still at work on the buffer.
    pub(crate) is_new: bool,
}

/// What an error of the operating system means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    NotFound,
    Exists,
    /// This user lacks the right.
    Denied,
    ReadOnlyFileSystem,
    /// The file system, or a quota, has no room left.
    NoSpace,
    /// The process cannot have more memory, or the machine has none.
    NoMemory,
    /// The process may not make files so large.
    FileSizeLimit,
    /// The process may not have more files open.
    ProcessFiles,
    /// The machine may not have more files open.
    SystemFiles,
    /// This library found it, not the system.
    Found(Found),
    Other,
}

/// What a look at a file or a folder can find wrong, although every system call worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// What stands in a file's place cannot be one of a buffer.
    Alien,
    /// The file is one of a buffer, and damaged.
    Damaged,
    /// Other users could exchange what is in the folder of lock files.
    UnsafeFolder,
    /// There is no shared memory on this machine.
    NoSharedMemory,
}
