//! Linux: system calls and glibc semaphores, and nothing else.
//!
//! Names follow docs/PLATFORM.md: shared memory and semaphores are in `/dev/shm`, where glibc's `shm_open`
//! and `sem_open` place them.

mod barrier;
mod fifo;
mod files;
mod fork;
mod futex;
mod inotify;
mod lock;
mod pages;
mod poller;
mod process;
mod segment;
mod semaphore;
mod view;

pub(crate) use barrier::{barrier, barrier_registered, barrier_works, register_for_barriers};
pub(crate) use fifo::{FIFO_FILE_PREFIX, Fifo, FifoEnd, fifo_file};
pub(crate) use files::{Folder, cause_of_number, no_space, too_large, user};
pub(crate) use fork::{OfProcess, generation as fork_generation};
pub(crate) use futex::{futex_wait, futex_wait_any, futex_wake};
pub(crate) use inotify::{FileWatch, spawn_background, spawn_for_callbacks};
pub(crate) use lock::{LockFile, LockView};
pub(crate) use pages::{huge_bytes, map_shared, populate};
pub(crate) use poller::Poller;
#[cfg(all(test, not(loom)))]
pub(crate) use process::pin_thread;
#[cfg(feature = "stop-points")]
pub(crate) use process::stop_self;
pub(crate) use process::{
    Uncancelled, coarse_now, monotonic_now, monotonic_offset, process_exists, process_maps,
};
pub(crate) use segment::{Segment, unmap};
pub(crate) use semaphore::{NewSemaphore, SEM_FILE_LEN, SEM_FILE_PREFIX, Semaphore};
pub(crate) use view::View;
