//! UNSAFE: one function that is unsafe to call by contract.
//!
//! A system without an implementation: every function that makes or opens something returns an error that
//! says so. The types have no values, so no other function can be called.
#![allow(unsafe_code)]

use std::io::{Error, ErrorKind, Result};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use super::kinds::{
    Attempt, Cause, FifoId, FifoState, FileEvent, FileId, FileInfo, Removal, SemaphoreFile, WaitAny, WatchId,
};

/// Has no values.
enum Never {}

fn refused<T>() -> Result<T> {
    Err(Error::new(
        ErrorKind::Unsupported,
        "ZeroBuffer runs on Linux (x86-64, aarch64); this system is not supported yet",
    ))
}

pub(crate) const SEM_FILE_PREFIX: &str = "sem.";
pub(crate) const SEM_FILE_LEN: u64 = 32;

pub(crate) fn cause_of_number(_: Option<i32>) -> Cause {
    Cause::Other
}

pub(crate) fn no_space() -> Error {
    Error::from(ErrorKind::StorageFull)
}

pub(crate) fn too_large() -> Error {
    Error::from(ErrorKind::FileTooLarge)
}

pub(crate) fn user() -> u32 {
    0
}

/// The only type with values, because callers name folders before they use them.
pub(crate) struct Folder;

impl Folder {
    pub(crate) fn shared_memory() -> Folder {
        Folder
    }
    pub(crate) fn locks() -> Result<Option<Folder>> {
        refused()
    }
    pub(crate) fn make_locks() -> Result<Folder> {
        refused()
    }
    pub(crate) fn folder(&self, _: &str) -> Result<Option<Folder>> {
        refused()
    }
    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        name.into()
    }
    pub(crate) fn lock_path(name: &str) -> PathBuf {
        name.into()
    }
    pub(crate) fn info(&self, _: &str) -> Result<Option<FileInfo>> {
        refused()
    }
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        refused()
    }
    pub(crate) fn remove(&self, _: &str, _: FileId) -> Result<Removal> {
        refused()
    }
    pub(crate) fn remove_now(&self, _: &str, _: FileId) -> Result<Removal> {
        refused()
    }
}

pub(crate) struct Segment(Never);

impl Segment {
    pub(crate) fn create_unnamed(_: u32) -> Result<Segment> {
        refused()
    }
    pub(crate) fn open(_: &str, _: bool) -> Result<Segment> {
        refused()
    }
    pub(crate) fn link(&self, _: &str) -> Result<()> {
        match self.0 {}
    }
    pub(crate) fn role_file(&self) -> Result<LockFile> {
        match self.0 {}
    }
    pub(crate) fn info(&self) -> Result<FileInfo> {
        match self.0 {}
    }
    pub(crate) fn id(&self) -> Result<FileId> {
        match self.0 {}
    }
    pub(crate) fn len(&self) -> Result<u64> {
        match self.0 {}
    }
    pub(crate) fn set_len(&self, _: u64) -> Result<()> {
        match self.0 {}
    }
    pub(crate) fn reserve(&self, _: u64, _: u64) -> Result<()> {
        match self.0 {}
    }
    pub(crate) fn read_start(&self, _: &mut [u8]) -> Result<usize> {
        match self.0 {}
    }
    pub(crate) fn read_at(&self, _: &mut [u8], _: u64) -> Result<usize> {
        match self.0 {}
    }
    pub(crate) fn role_is_held(&self, _: i64) -> Result<bool> {
        match self.0 {}
    }
    pub(crate) fn make_huge(&self, _: usize) -> Result<()> {
        match self.0 {}
    }
    pub(crate) fn prefer_node(&self, _: usize, _: Option<u32>) -> Result<()> {
        match self.0 {}
    }
}

pub(crate) fn map_shared(segment: &Segment, _: usize, _: bool) -> Result<NonNull<u8>> {
    match segment.0 {}
}

/// Never called: there is no mapping.
///
/// # Safety
///
/// None: it is never called.
pub(crate) unsafe fn unmap(_: NonNull<u8>, _: usize) {}

/// Never called: there is no mapping.
///
/// # Safety
///
/// None: it is never called.
pub(crate) unsafe fn populate(_: NonNull<u8>, _: usize) {}

pub(crate) fn huge_bytes(_: NonNull<u8>) -> Result<u64> {
    refused()
}

pub(crate) struct View(Never);

impl View {
    pub(crate) fn map(_: &Segment, _: usize) -> Result<View> {
        refused()
    }
    pub(crate) fn range(&self) -> (NonNull<u8>, usize) {
        match self.0 {}
    }
    pub(crate) fn populate(&self, _: usize, _: usize) -> Result<bool> {
        match self.0 {}
    }
}

pub(crate) struct LockFile(Never);

impl LockFile {
    pub(crate) fn open(_: &Folder, _: &str, _: Option<u32>) -> Result<LockFile> {
        refused()
    }
    pub(crate) fn id(&self) -> Result<FileId> {
        match self.0 {}
    }
    pub(crate) fn try_flock(&self) -> Result<bool> {
        match self.0 {}
    }
    pub(crate) fn try_lock_role(&self, _: i64) -> Result<bool> {
        match self.0 {}
    }
    pub(crate) fn attempt_role(&self, _: i64) -> Result<Attempt> {
        match self.0 {}
    }
    pub(crate) fn unlock_role(&self, _: i64) {
        match self.0 {}
    }
    pub(crate) fn role_is_held(&self, _: i64) -> Result<bool> {
        match self.0 {}
    }
    pub(crate) fn view(&self) -> Result<LockView> {
        match self.0 {}
    }
}

pub(crate) struct LockView(Never);

impl LockView {
    pub(crate) fn role_is_held(&self, _: i64) -> Result<bool> {
        match self.0 {}
    }
}

pub(crate) fn fork_generation() -> u64 {
    0
}

pub(crate) struct NewSemaphore(Never);

impl NewSemaphore {
    pub(crate) fn finish(self) -> Semaphore {
        match self.0 {}
    }
    pub(crate) fn id(&self) -> FileId {
        match self.0 {}
    }
}

pub(crate) struct Semaphore(Never);

impl Semaphore {
    pub(crate) fn create(_: &str, _: u32, _: FileId) -> Result<NewSemaphore> {
        refused()
    }
    pub(crate) fn look(_: &str) -> Result<Option<SemaphoreFile>> {
        refused()
    }
    pub(crate) fn open(_: &str) -> Result<(Semaphore, FileInfo)> {
        refused()
    }
    pub(crate) fn post(&self) {
        match self.0 {}
    }
    pub(crate) fn value(&self) -> i32 {
        match self.0 {}
    }
    pub(crate) fn waiters(&self) -> u32 {
        match self.0 {}
    }
    pub(crate) fn count(&self) -> &AtomicU32 {
        match self.0 {}
    }
    pub(crate) fn add_waiter(&self) {
        match self.0 {}
    }
    pub(crate) fn remove_waiter(&self) {
        match self.0 {}
    }
    pub(crate) fn try_wait(&self) -> bool {
        match self.0 {}
    }
    pub(crate) fn wait(&self, _: Duration) -> bool {
        match self.0 {}
    }
}

pub(crate) const FIFO_FILE_PREFIX: &str = "sem.zbf-";

pub(crate) fn fifo_file(number: u64) -> String {
    format!("{FIFO_FILE_PREFIX}{number:016x}")
}

/// Has no values.
pub(crate) struct Fifo(Never);

impl Fifo {
    pub(crate) fn create(_: &FileInfo, _: u32) -> Result<Fifo> {
        refused()
    }
    pub(crate) fn pipe() -> Result<Fifo> {
        refused()
    }
    pub(crate) fn fd(&self) -> std::os::fd::RawFd {
        match self.0 {}
    }
    pub(crate) fn id(&self) -> Option<FifoId> {
        match self.0 {}
    }
    pub(crate) fn ring(&self) {
        match self.0 {}
    }
    pub(crate) fn drain(&self) -> bool {
        match self.0 {}
    }
    pub(crate) fn is_ready(&self) -> bool {
        match self.0 {}
    }
    pub(crate) fn remove(&self) -> Result<()> {
        match self.0 {}
    }
    pub(crate) fn look(_: FifoId) -> Result<Option<FifoState>> {
        refused()
    }
    pub(crate) fn remove_orphan(_: FifoId) -> Result<bool> {
        refused()
    }
}

/// Has no values.
pub(crate) struct FifoEnd(Never);

impl FifoEnd {
    pub(crate) fn open(_: FifoId) -> Result<FifoEnd> {
        refused()
    }
    pub(crate) fn id(&self) -> FifoId {
        match self.0 {}
    }
    pub(crate) fn ring(&self) -> bool {
        match self.0 {}
    }
}

/// Has no values.
pub(crate) struct Poller(Never);

impl Poller {
    pub(crate) fn new() -> Result<Poller> {
        refused()
    }
    pub(crate) fn add(&self, _: BorrowedFd<'_>, _: u64) -> Result<()> {
        match self.0 {}
    }
    pub(crate) fn once(&self, _: BorrowedFd<'_>, _: u64) -> Result<()> {
        match self.0 {}
    }
    pub(crate) fn remove(&self, _: BorrowedFd<'_>) {
        match self.0 {}
    }
    pub(crate) fn wake(&self) {
        match self.0 {}
    }
    pub(crate) fn wait(&self, _: Duration, _: usize, _: &mut Vec<u64>) -> Result<bool> {
        match self.0 {}
    }
}

pub(crate) fn futex_wait(_: &AtomicU32, _: u32, _: Duration) {}
pub(crate) fn futex_wait_any(_: &[(&AtomicU32, u32)], _: Duration) -> WaitAny {
    WaitAny::NotOffered
}
pub(crate) fn futex_wake(_: &AtomicU32) {}

pub(crate) fn barrier_works() -> bool {
    false
}

pub(crate) fn barrier() -> bool {
    false
}

pub(crate) fn barrier_registered() -> bool {
    false
}

pub(crate) fn register_for_barriers() {}

pub(crate) fn process_exists(_: u64) -> bool {
    false
}

pub(crate) fn process_maps(_: u64, _: FileId) -> Option<bool> {
    None
}

#[cfg(all(test, not(loom)))]
pub(crate) fn pin_thread(_: usize) -> bool {
    false
}

/// Without effect where there is no system.
pub(crate) struct Uncancelled(());

impl Uncancelled {
    /// Turns cancellation of this thread off.
    pub(crate) fn new() -> Uncancelled {
        Uncancelled(())
    }
}

pub(crate) fn monotonic_now() -> u64 {
    0
}

pub(crate) fn monotonic_offset() -> i64 {
    0
}

pub(crate) fn coarse_now() -> u64 {
    0
}

#[cfg(feature = "stop-points")]
pub(crate) fn stop_self(_: bool) {}

/// Every process is one of its own here.
pub(crate) struct OfProcess<T: 'static>(std::sync::OnceLock<T>);

impl<T: Send + Sync> OfProcess<T> {
    pub(crate) const fn new() -> OfProcess<T> {
        OfProcess(std::sync::OnceLock::new())
    }
    pub(crate) fn get_or_make(&'static self, make: impl FnOnce() -> Result<T>) -> Result<&'static T> {
        if let Some(value) = self.0.get() {
            return Ok(value);
        }
        let made = make()?;
        Ok(self.0.get_or_init(|| made))
    }
}

pub(crate) struct FileWatch(Never);

impl FileWatch {
    pub(crate) fn new() -> Result<FileWatch> {
        refused()
    }
    pub(crate) fn add(&self, _: &Segment, _: bool) -> Result<WatchId> {
        match self.0 {}
    }
    pub(crate) fn remove(&self, _: WatchId) {
        match self.0 {}
    }
    pub(crate) fn events(&self, _: Option<Duration>, _: &mut dyn FnMut(FileEvent)) {
        match self.0 {}
    }
}

pub(crate) fn spawn_background(_: &str, _: impl FnOnce() + Send + 'static) -> Result<()> {
    refused()
}

pub(crate) fn spawn_for_callbacks(_: &str, _: impl FnOnce() + Send + 'static) -> Result<()> {
    refused()
}
