//! Types that the contract's functions return on every system.

use std::time::{Duration, SystemTime};

/// Identity of a file: device and inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// What the system knows about a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileInfo {
    pub(crate) id: FileId,
    /// Neither a link nor a folder nor a device.
    pub(crate) is_file: bool,
    pub(crate) is_fifo: bool,
    /// Length in bytes.
    pub(crate) len: u64,
    /// Bytes of memory that it occupies.
    pub(crate) memory: u64,
    /// The owner's user id.
    pub(crate) owner: u32,
    /// The group id.
    pub(crate) group: u32,
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

/// Outcome of removing a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    Removed,
    /// The name leads to nothing, or to another file by now.
    Gone,
    /// Another process is making or removing this file.
    Busy,
}

/// Outcome of an attempt to take a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    Locked,
    /// Another process holds the lock.
    Held,
    /// No process holds the role, but the lock cannot be taken: a process with read permission only holds a
    /// shared lock.
    Obstructed,
}

/// What is known about a semaphore's file before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SemaphoreFile {
    pub(crate) info: FileInfo,
    /// The segment that a native peer made it for; `None` for a 1.x peer's, and for another program's.
    pub(crate) segment: Option<FileId>,
    /// Its creator is still creating the buffer.
    pub(crate) is_new: bool,
}

/// The meaning of an error of the operating system.
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

/// What can be wrong with a file or a folder although every system call worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The file of that name cannot be a buffer's.
    Alien,
    /// The file is a buffer's, and damaged.
    Damaged,
    /// Other users could exchange the files in the folder of lock files.
    UnsafeFolder,
    /// There is no shared memory on this machine.
    NoSharedMemory,
}

/// Identity of a FIFO: the number in its name, and its inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FifoId {
    pub(crate) number: u64,
    pub(crate) inode: u64,
}

/// What is known about a FIFO that another process may own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FifoState {
    pub(crate) info: FileInfo,
    /// Its owner lives, or that cannot be told.
    pub(crate) in_use: bool,
}

/// The most words that one wait for several words takes.
pub(crate) const WAIT_ANY_MAX: usize = 128;

/// Outcome of a wait for several words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitAny {
    /// A word was woken or has changed, the time is over, or the wait ended early.
    Over,
    /// This system, or this machine now, cannot wait for several words.
    NotOffered,
}

/// Names a file that a `FileWatch` watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct WatchId(pub(crate) i32);

/// What a `FileWatch` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileEvent {
    /// A process has opened the file.
    Opened(WatchId),
    /// An open file that could be written to is being closed. Its locks are dropped a moment later.
    Closed(WatchId),
    /// The file has got or lost a name, or has changed its owner or mode.
    Renamed(WatchId),
    /// Some events are lost.
    Lost,
}
