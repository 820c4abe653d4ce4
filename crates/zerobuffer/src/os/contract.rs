//! The contract, function by function: what an implementation for another system must provide, and do.
//!
//! Each constant below names one function with its type, so the compiler checks whichever implementation is built. Who
//! ports the library copies `unsupported.rs`, fills it in, and then runs the tests of promises.
//!
//! What a port may choose freely: where the files are, what they are called, and how a lock or a sleep comes about. What
//! it may not: a role ends with its process, however that ends; names appear only when what they name is complete; no call
//! waits longer than it was told.

use std::io::{Error, Result};
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::*;

// ---- errors ----

/// What the system's error number means. Unknown numbers are [`Cause::Other`].
const _: fn(Option<i32>) -> Cause = cause_of_number;
/// The error of a file system without room ([`Cause::NoSpace`]).
const _: fn() -> Error = no_space;
/// The error of a size that the system cannot have ([`Cause::Other`]).
const _: fn() -> Error = too_large;
/// The user whose rights this process has.
const _: fn() -> u32 = user;

// ---- folders that several users share ----

/// The folder of segments and semaphores. It may be missing; then its functions say [`Found::NoSharedMemory`].
const _: fn() -> Folder = Folder::shared_memory;
/// The folder of lock files, if it is there. Refuses one whose files other users could exchange
/// ([`Found::UnsafeFolder`]), and mends its mode where this user owns it.
const _: fn() -> Result<Option<Folder>> = Folder::locks;
/// The folder of lock files, made for all users if it is missing.
const _: fn() -> Result<Folder> = Folder::make_locks;
/// A folder in this one, if it is there.
const _: fn(&Folder, &str) -> Result<Option<Folder>> = Folder::folder;
/// The path of a file in the folder, for people.
const _: fn(&Folder, &str) -> PathBuf = Folder::path_of;
/// The path of a lock file, for people.
const _: fn(&str) -> PathBuf = Folder::lock_path;
/// What a file is, if it is there. Never follows a link.
const _: fn(&Folder, &str) -> Result<Option<FileInfo>> = Folder::info;
/// The names of all files.
const _: fn(&Folder) -> Result<Vec<String>> = Folder::names;
/// Removes a file if it still is the one meant, in turn with all who make or remove it, whatever they share.
const _: fn(&Folder, &str, FileId) -> Result<Removal> = Folder::remove;
/// Removes a file if it still is the one meant. The caller keeps others from exchanging it.
const _: fn(&Folder, &str, FileId) -> Result<Removal> = Folder::remove_now;

// ---- shared memory ----

/// Makes shared memory without a name, of exactly this mode. The system frees it if the process ends before `link`.
const _: fn(u32) -> Result<Segment> = Segment::create_unnamed;
/// Opens the shared memory of a name, to write if the flag says so. Anything but a regular file is [`Found::Alien`].
const _: fn(&str, bool) -> Result<Segment> = Segment::open;
/// Gives it its name, at once for all processes; [`Cause::Exists`] if that is taken.
const _: fn(&Segment, &str) -> Result<()> = Segment::link;
/// Opens it once more, to hold role locks: they must not end with the segment's own handle, nor outlive this one.
const _: fn(&Segment) -> Result<LockFile> = Segment::role_file;
/// What the file is.
const _: fn(&Segment) -> Result<FileInfo> = Segment::info;
/// Which file it is.
const _: fn(&Segment) -> Result<FileId> = Segment::id;
/// Its length in bytes.
const _: fn(&Segment) -> Result<u64> = Segment::len;
/// Sets its length; [`Cause::FileSizeLimit`] where a limit forbids it, never a signal.
const _: fn(&Segment, u64) -> Result<()> = Segment::set_len;
/// Sees to it that bytes (offset, length) have memory: all or nothing, [`Cause::NoSpace`] if they cannot. A system
/// that provides memory with the length does nothing.
const _: fn(&Segment, u64, u64) -> Result<()> = Segment::reserve;
/// Reads from the start of the file, without mapping it; returns how much.
const _: fn(&Segment, &mut [u8]) -> Result<usize> = Segment::read_start;
/// Reads from an offset of the file, without mapping it; returns how much.
const _: fn(&Segment, &mut [u8], u64) -> Result<usize> = Segment::read_at;
/// Whether another handle holds a role. Reading rights suffice to ask, and only those who may write can hold one.
const _: fn(&Segment, i64) -> Result<bool> = Segment::role_is_held;
/// Maps the first bytes for reading and writing, with their pages if the flag says so.
const _: fn(&Segment, usize, bool) -> Result<NonNull<u8>> = map_shared;
/// Unmaps what `map_shared` mapped.
const _: unsafe fn(NonNull<u8>, usize) = unmap;

// ---- locks that end with the process ----

/// Opens a lock file, making it with a mode if one is given. Never follows a link.
const _: fn(&Folder, &str, Option<u32>) -> Result<LockFile> = LockFile::open;
/// Which file it is.
const _: fn(&LockFile) -> Result<FileId> = LockFile::id;
/// Takes the lock on the whole file that 1.x readers use, without waiting.
const _: fn(&LockFile) -> Result<bool> = LockFile::try_flock;
/// Takes a role, without waiting.
const _: fn(&LockFile, i64) -> Result<bool> = LockFile::try_lock_role;
/// Takes a role, without waiting, and tells a holder from an obstacle.
const _: fn(&LockFile, i64) -> Result<Attempt> = LockFile::attempt_role;
/// Gives a role back.
const _: fn(&LockFile, i64) = LockFile::unlock_role;
/// Whether another handle holds a role.
const _: fn(&LockFile, i64) -> Result<bool> = LockFile::role_is_held;
/// Eyes for the roles of others, which may outlive the lock file.
const _: fn(&LockFile) -> Result<LockView> = LockFile::view;
/// Whether another handle than the lock file's holds a role.
const _: fn(&LockView, i64) -> Result<bool> = LockView::role_is_held;
/// A number that differs between a process and its forked children; constant where there is no fork.
const _: fn() -> u64 = fork_generation;

// ---- semaphores ----

/// Makes a semaphore for a segment, of exactly this mode, at 0; [`Cause::Exists`] if the name is taken. While the result
/// lives, no other process takes it for a leftover.
const _: fn(&str, u32, FileId) -> Result<NewSemaphore> = Semaphore::create;
/// Which file it is.
const _: fn(&NewSemaphore) -> FileId = NewSemaphore::id;
/// Ends the making: the segment has its name.
const _: fn(NewSemaphore) -> Semaphore = NewSemaphore::finish;
/// Looks at a semaphore without using it.
const _: fn(&str) -> Result<Option<SemaphoreFile>> = Semaphore::look;
/// Opens a semaphore; [`Found::Damaged`] if it cannot be one.
const _: fn(&str) -> Result<(Semaphore, FileInfo)> = Semaphore::open;
/// Adds one. A full semaphore is no error.
const _: fn(&Semaphore) = Semaphore::post;
/// The count, as it was a moment ago.
const _: fn(&Semaphore) -> i32 = Semaphore::value;
/// Takes one if there is one.
const _: fn(&Semaphore) -> bool = Semaphore::try_wait;
/// Takes one, waiting on a clock that nobody sets; may return early.
const _: fn(&Semaphore, Duration) -> bool = Semaphore::wait;
/// What the name of a semaphore's file begins with; no buffer's name may.
const _: &str = SEM_FILE_PREFIX;
/// Length of the file of a 1.x peer's semaphore.
const _: u64 = SEM_FILE_LEN;

// ---- sleeping on a word of shared memory ----

/// Sleeps while a word has a value, at most so long, on a clock that nobody sets; may return early.
const _: fn(&AtomicU32, u32, Duration) = futex_wait;
/// Wakes one sleeper of a word, in whichever process.
const _: fn(&AtomicU32) = futex_wake;
/// Whether this process can have all processors that run registered processes pass a full fence. `false` is always
/// right, and costs each frame a fence.
const _: fn() -> bool = barrier_works;
/// Has them pass it; `false` if it was refused.
const _: fn() -> bool = barrier;
/// Whether such fences reach this process.
const _: fn() -> bool = barrier_registered;
/// Has them reach it from some time on.
const _: fn() = register_for_barriers;

// ---- processes and clocks ----

/// Whether a process lives; one that has ended and only waits for its parent does not. For 1.x peers.
const _: fn(u64) -> bool = process_exists;
/// A clock in nanoseconds that nobody sets, the same for all processes of one namespace of clocks.
const _: fn() -> u64 = monotonic_now;
/// How far that clock is ahead of the one outside of all namespaces, in nanoseconds; 0 where there are none.
const _: fn() -> i64 = monotonic_offset;
/// That clock to within a few milliseconds, read in a few nanoseconds.
const _: fn() -> u64 = coarse_now;
/// Kills this process (true), or halts it, at once.
#[cfg(feature = "stop-points")]
const _: fn(bool) = stop_self;
