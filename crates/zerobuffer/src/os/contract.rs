//! The contract, function by function: what an implementation for another system must provide and do.
//!
//! Each constant below names one function with its type, so the compiler checks the implementation that is
//! built. To port the library, copy `unsupported.rs`, implement its functions, select it in `mod.rs`, and run
//! the tests of promises.
//!
//! A port may choose the places and names of files, and how locks and sleeps work. It must keep three
//! promises: a role ends with its process, however the process ends; a name appears only when its file is
//! complete; no call waits longer than its limit.

use std::io::{Error, Result};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::*;

// ---- errors ----

/// The meaning of the system's error number. Unknown numbers are [`Cause::Other`].
const _: fn(Option<i32>) -> Cause = cause_of_number;
/// The error of a file system without room ([`Cause::NoSpace`]).
const _: fn() -> Error = no_space;
/// The error of a size that the system does not support ([`Cause::Other`]).
const _: fn() -> Error = too_large;
/// The user whose rights this process has.
const _: fn() -> u32 = user;

// ---- folders that several users share ----

/// The folder of segments and semaphores. If it is missing, its functions return [`Found::NoSharedMemory`].
const _: fn() -> Folder = Folder::shared_memory;
/// The folder of lock files, if it is there. Refuses a folder whose files other users could exchange
/// ([`Found::UnsafeFolder`]), and corrects its mode if this user owns it.
const _: fn() -> Result<Option<Folder>> = Folder::locks;
/// The folder of lock files. Creates it for all users if it is missing.
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
/// Removes a file if it still has this identity, under the lock of all processes that make or remove it.
const _: fn(&Folder, &str, FileId) -> Result<Removal> = Folder::remove;
/// Removes a file if it still has this identity. The caller keeps other processes from exchanging it.
const _: fn(&Folder, &str, FileId) -> Result<Removal> = Folder::remove_now;

// ---- shared memory ----

/// Creates shared memory without a name, with exactly this mode. The system frees it if the process ends
/// before `link`.
const _: fn(u32) -> Result<Segment> = Segment::create_unnamed;
/// Opens the shared memory of a name; the flag says whether for writing too. Anything but a regular file is
/// [`Found::Alien`].
const _: fn(&str, bool) -> Result<Segment> = Segment::open;
/// Gives it its name, atomically for all processes; [`Cause::Exists`] if the name is taken.
const _: fn(&Segment, &str) -> Result<()> = Segment::link;
/// Opens it once more to hold role locks. The locks must not end with the segment's own handle, and must not
/// outlive this one.
const _: fn(&Segment) -> Result<LockFile> = Segment::role_file;
/// What the file is.
const _: fn(&Segment) -> Result<FileInfo> = Segment::info;
/// Which file it is.
const _: fn(&Segment) -> Result<FileId> = Segment::id;
/// Its length in bytes.
const _: fn(&Segment) -> Result<u64> = Segment::len;
/// Sets its length; [`Cause::FileSizeLimit`] where a limit forbids it, never a signal.
const _: fn(&Segment, u64) -> Result<()> = Segment::set_len;
/// Reserves memory for bytes (offset, length), all or nothing; [`Cause::NoSpace`] if there is none. A system
/// that provides memory with the length does nothing.
const _: fn(&Segment, u64, u64) -> Result<()> = Segment::reserve;
/// Reads from the start of the file, without mapping it. Returns the number of bytes.
const _: fn(&Segment, &mut [u8]) -> Result<usize> = Segment::read_start;
/// Reads from an offset of the file, without mapping it. Returns the number of bytes.
const _: fn(&Segment, &mut [u8], u64) -> Result<usize> = Segment::read_at;
/// Whether another handle holds a role. The right to read suffices to ask; only a process with the right to
/// write can hold a role.
const _: fn(&Segment, i64) -> Result<bool> = Segment::role_is_held;
/// Maps the first bytes for reading and writing. The flag says whether to touch all pages now.
const _: fn(&Segment, usize, bool) -> Result<NonNull<u8>> = map_shared;
/// Makes the pages of a range and maps them, if the system can.
const _: unsafe fn(NonNull<u8>, usize) = populate;
/// Makes the memory of the first bytes in huge pages, as far as the system has some; what it lacks stays without memory.
const _: fn(&Segment, usize) -> Result<()> = Segment::make_huge;
/// How many bytes of the mapping that starts there are mapped by huge pages.
const _: fn(NonNull<u8>) -> Result<u64> = huge_bytes;
/// Has the memory of the first bytes made on a NUMA node, `None`: that of this thread, where it has room.
const _: fn(&Segment, usize, Option<u32>) -> Result<()> = Segment::prefer_node;
/// Unmaps what `map_shared` mapped.
const _: unsafe fn(NonNull<u8>, usize) = unmap;
/// Maps the first bytes for reading only. In a forked child they are zeroes, because no process waits for the child to be done with them.
/// The mapping ends with the value.
const _: fn(&Segment, usize) -> Result<View> = View::map;
/// Where the mapping begins, and its length.
const _: fn(&View) -> (NonNull<u8>, usize) = View::range;
/// Makes sure that bytes (from, to) can be read without a signal; an error if they have no memory. `false` if the system cannot
/// tell: then the caller reads the file instead.
const _: fn(&View, usize, usize) -> Result<bool> = View::populate;

// ---- locks that end with the process ----

/// Opens a lock file; creates it if a mode is given. Never follows a link.
const _: fn(&Folder, &str, Option<u32>) -> Result<LockFile> = LockFile::open;
/// Which file it is.
const _: fn(&LockFile) -> Result<FileId> = LockFile::id;
/// Takes the whole-file lock that 1.x readers use, without waiting. Returns whether it did.
const _: fn(&LockFile) -> Result<bool> = LockFile::try_flock;
/// Takes a role, without waiting. Returns whether it did.
const _: fn(&LockFile, i64) -> Result<bool> = LockFile::try_lock_role;
/// Takes a role, without waiting. The result tells a holder from an obstacle.
const _: fn(&LockFile, i64) -> Result<Attempt> = LockFile::attempt_role;
/// Releases a role.
const _: fn(&LockFile, i64) = LockFile::unlock_role;
/// Whether another handle holds a role.
const _: fn(&LockFile, i64) -> Result<bool> = LockFile::role_is_held;
/// A view of the roles of other handles, which may outlive the lock file.
const _: fn(&LockFile) -> Result<LockView> = LockFile::view;
/// Whether another handle than the lock file's holds a role.
const _: fn(&LockView, i64) -> Result<bool> = LockView::role_is_held;
/// A number that differs between a process and its forked children; a constant on a system without fork.
const _: fn() -> u64 = fork_generation;

/// A value that each process makes for itself: a forked child does not see its parent's.
const _: fn() -> OfProcess<u8> = OfProcess::new;
/// The value of this process, which this call makes if there is none.
const _: fn(&'static OfProcess<u8>, Make) -> Result<&'static u8> = OfProcess::get_or_make;
type Make = fn() -> Result<u8>;

// ---- news of open files ----

/// A new queue of events, which a forked child does not inherit.
const _: fn() -> Result<FileWatch> = FileWatch::new;
/// Watches a segment's file, until `remove`: that some process closes it, having opened it for writing, and that it loses its
/// name; if the flag says so, also that some process opens it. The same file has the same id.
const _: fn(&FileWatch, &Segment, bool) -> Result<WatchId> = FileWatch::add;
/// Ends the watch of a file.
const _: fn(&FileWatch, WatchId) = FileWatch::remove;
/// Waits up to a limit until there are events, and hands over those that are there. May return early.
const _: fn(&FileWatch, Option<Duration>, &mut dyn FnMut(FileEvent)) = FileWatch::events;
/// Starts a thread that lasts as long as the process, takes no signals, and has precise timers.
const _: fn(&str, fn()) -> Result<()> = spawn_background;
/// Starts a thread for code of the program: it takes the signals that the calling thread takes, and has a large stack and precise timers.
const _: fn(&str, fn()) -> Result<()> = spawn_for_callbacks;

// ---- semaphores ----

/// Creates a semaphore for a segment, with exactly this mode and the count 0; [`Cause::Exists`] if the name
/// is taken. While the result lives, no other process takes the semaphore for a leftover.
const _: fn(&str, u32, FileId) -> Result<NewSemaphore> = Semaphore::create;
/// Which file it is.
const _: fn(&NewSemaphore) -> FileId = NewSemaphore::id;
/// Ends the creation: the segment has its name now.
const _: fn(NewSemaphore) -> Semaphore = NewSemaphore::finish;
/// Examines a semaphore without using it.
const _: fn(&str) -> Result<Option<SemaphoreFile>> = Semaphore::look;
/// Opens a semaphore; [`Found::Damaged`] if it cannot be one.
const _: fn(&str) -> Result<(Semaphore, FileInfo)> = Semaphore::open;
/// Adds one. A full semaphore is no error.
const _: fn(&Semaphore) = Semaphore::post;
/// The count, as it was a moment ago.
const _: fn(&Semaphore) -> i32 = Semaphore::value;
/// How many threads wait, as it was a moment ago; 0 on a system that does not tell.
const _: fn(&Semaphore) -> u32 = Semaphore::waiters;
/// Takes one if there is one.
const _: fn(&Semaphore) -> bool = Semaphore::try_wait;
/// Takes one, waiting on a clock that cannot be set. May return early.
const _: fn(&Semaphore, Duration) -> bool = Semaphore::wait;
/// The prefix of a semaphore's file. No buffer's name may begin with it.
const _: &str = SEM_FILE_PREFIX;
/// Length of the file of a 1.x peer's semaphore.
const _: u64 = SEM_FILE_LEN;

/// The count, as a word that [`futex_wait_any`] can sleep on.
const _: fn(&Semaphore) -> &AtomicU32 = Semaphore::count;
/// Counts one more thread that waits, so that posters wake the count.
const _: fn(&Semaphore) = Semaphore::add_waiter;
/// Takes that back.
const _: fn(&Semaphore) = Semaphore::remove_waiter;

// ---- descriptors that event loops poll ----

/// Makes a FIFO of a file's owner in the folder of shared memory, with exactly this mode and a name that other users cannot
/// guess. The process holds it until it ends or drops the result.
const _: fn(&FileInfo, u32) -> Result<Fifo> = Fifo::create;
/// Makes a pipe, which only this process can write to.
const _: fn() -> Result<Fifo> = Fifo::pipe;
/// The descriptor to poll; -1 in a forked child.
const _: fn(&Fifo) -> std::os::fd::RawFd = Fifo::fd;
/// Which FIFO it is; `None` for a pipe.
const _: fn(&Fifo) -> Option<FifoId> = Fifo::id;
/// Makes the descriptor ready. Never waits.
const _: fn(&Fifo) = Fifo::ring;
/// Makes it no longer ready. Returns whether it was.
const _: fn(&Fifo) -> bool = Fifo::drain;
/// Whether it is ready.
const _: fn(&Fifo) -> bool = Fifo::is_ready;
/// Removes the FIFO's name, if that still leads to it.
const _: fn(&Fifo) -> Result<()> = Fifo::remove;
/// Looks at a FIFO; `None` if it is not there, or another file is in its place.
const _: fn(FifoId) -> Result<Option<FifoState>> = Fifo::look;
/// Removes the FIFO of a process that is gone. Returns whether it did.
const _: fn(FifoId) -> Result<bool> = Fifo::remove_orphan;
/// Opens another process's FIFO to make its descriptor ready.
const _: fn(FifoId) -> Result<FifoEnd> = FifoEnd::open;
/// Which FIFO it is.
const _: fn(&FifoEnd) -> FifoId = FifoEnd::id;
/// Makes the descriptor ready, without a signal or a wait. Returns whether it did.
const _: fn(&FifoEnd) -> bool = FifoEnd::ring;
/// The name of the file of the FIFO with this number.
const _: fn(u64) -> String = fifo_file;
/// The prefix of such a name. No buffer's name may begin with it.
const _: &str = FIFO_FILE_PREFIX;

/// Makes a poller of descriptors.
const _: fn() -> Result<Poller> = Poller::new;
/// Waits for a descriptor from now on, and returns a key for it. The key is not the largest number.
const _: fn(&Poller, BorrowedFd<'_>, u64) -> Result<()> = Poller::add;
/// Waits for a descriptor once: it is returned when it is ready, and then no more until the next call.
const _: fn(&Poller, BorrowedFd<'_>, u64) -> Result<()> = Poller::once;
/// Waits for a descriptor no more.
const _: fn(&Poller, BorrowedFd<'_>) = Poller::remove;
/// Ends a wait, or the next one.
const _: fn(&Poller) = Poller::wake;
/// Waits, and appends the keys of what is ready, up to a number of them. Returns whether `wake` ended it. May return early.
const _: fn(&Poller, Duration, usize, &mut Vec<u64>) -> Result<bool> = Poller::wait;

// ---- sleeping on a word of shared memory ----

/// Sleeps while a word has a value, up to a limit on a clock that cannot be set. May return early.
const _: fn(&AtomicU32, u32, Duration) = futex_wait;
/// Sleeps while each of up to [`WAIT_ANY_MAX`] words has its value, up to a limit on that clock (`Duration::MAX`: no
/// limit). May return early. [`WaitAny::NotOffered`] is always correct, and makes the caller look by the clock.
const _: fn(&[(&AtomicU32, u32)], Duration) -> WaitAny = futex_wait_any;
/// Wakes all sleepers of a word, in any process.
const _: fn(&AtomicU32) = futex_wake;
/// Whether this process can make all processors that run registered processes execute a full fence. `false`
/// is always correct, and costs each frame a fence.
const _: fn() -> bool = barrier_works;
/// Makes those processors execute the fence; `false` if the system refused.
const _: fn() -> bool = barrier;
/// Whether such fences reach this process.
const _: fn() -> bool = barrier_registered;
/// Registers this process, so that such fences reach it from some moment on.
const _: fn() = register_for_barriers;

// ---- processes and clocks ----

/// Whether a process lives; a process that has ended and waits for its parent does not. For 1.x peers.
const _: fn(u64) -> bool = process_exists;
/// Whether a process has mapped a file; `None` if that cannot be told. For 1.x peers.
const _: fn(u64, FileId) -> Option<bool> = process_maps;
/// While the value lives, no other thread of C code can cancel this one, which would unwind through Rust code.
const _: fn() -> Uncancelled = Uncancelled::new;
/// A clock in nanoseconds that cannot be set, equal for all processes of one time namespace.
const _: fn() -> u64 = monotonic_now;
/// How far that clock is ahead of the clock outside all time namespaces, in nanoseconds; 0 on a system
/// without them.
const _: fn() -> i64 = monotonic_offset;
/// That clock to within a few milliseconds, read in a few nanoseconds.
const _: fn() -> u64 = coarse_now;
/// Kills this process (true), or halts it, at once.
#[cfg(feature = "stop-points")]
const _: fn(bool) = stop_self;
