//! Linux: system calls and glibc semaphores, and nothing else.
//!
//! Names follow docs/PLATFORM.md: shared memory and semaphores live in `/dev/shm`, as `shm_open` and `sem_open` of
//! glibc place them.

mod barrier;
mod files;
mod fork;
mod futex;
mod lock;
mod process;
mod segment;
mod semaphore;

pub(crate) use barrier::{barrier, barrier_registered, barrier_works, register_for_barriers};
pub(crate) use files::{
    LOCK_DIR, SEM_FILE_PREFIX, path_age, path_id, remove, remove_if, segment_path, semaphore_path,
    shm_entries,
};
pub(crate) use fork::generation as fork_generation;
pub(crate) use futex::{futex_wait, futex_wake};
pub(crate) use lock::{LockFile, LockView, ensure_lock_dir};
#[cfg(feature = "stop-points")]
pub(crate) use process::stop_self;
pub(crate) use process::{coarse_now, monotonic_now, process_exists};
pub(crate) use segment::{Segment, is_alien_file, map_shared, unmap};
pub(crate) use semaphore::Semaphore;
