//! UNSAFE: what a forked child must not inherit.
//!
//! Lock descriptors must not stay open in a forked child. An open file description keeps its locks until its
//! last descriptor is closed, so the child would make its dead parent seem alive. A `pthread_atfork` handler
//! closes them.

#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};

const SLOTS: usize = 64;
const EMPTY: RawFd = -1;

/// Descriptors to close in a child. Chunks are never freed, because the handler may only call
/// async-signal-safe functions.
struct Chunk {
    slots: [AtomicI32; SLOTS],
    next: AtomicPtr<Chunk>,
}

impl Chunk {
    const fn new() -> Chunk {
        Chunk { slots: [const { AtomicI32::new(EMPTY) }; SLOTS], next: AtomicPtr::new(std::ptr::null_mut()) }
    }
}

static FIRST: Chunk = Chunk::new();
/// Held while a descriptor is opened and entered, and across fork, so that no child inherits a descriptor
/// that is not entered.
static BUSY: AtomicBool = AtomicBool::new(false);
/// Barriers of other processes reach this one (`barrier.rs`). A forked child starts without that.
pub(super) static REGISTERED: AtomicBool = AtomicBool::new(false);
static GENERATION: AtomicU64 = AtomicU64::new(0);

fn lock() {
    // Acquire pairs with the Release in unlock().
    while BUSY.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
        std::thread::yield_now();
    }
}

fn unlock() {
    BUSY.store(false, Ordering::Release);
}

extern "C" fn prepare() {
    lock();
}

extern "C" fn parent() {
    unlock();
}

extern "C" fn child() {
    // Only this thread is left, and prepare() took the lock, so no other code changes the slots.
    GENERATION.fetch_add(1, Ordering::Relaxed);
    REGISTERED.store(false, Ordering::Relaxed);
    let mut chunk = &FIRST;
    loop {
        for slot in &chunk.slots {
            let fd = slot.swap(EMPTY, Ordering::Relaxed);
            if fd != EMPTY {
                // SAFETY: close(2) is async-signal-safe; the descriptor is the child's copy of one that `Slot`
                // owned, and taking it out of the slot makes this the only close.
                unsafe { libc::close(fd) };
            }
        }
        // SAFETY: chunks are leaked boxes or null, so the reference is valid until the process ends.
        match unsafe { chunk.next.load(Ordering::Relaxed).as_ref() } {
            Some(next) => chunk = next,
            None => break,
        }
    }
    blank_ranges();
    unlock();
}

/// A number that differs between a process and its forked children.
pub(crate) fn generation() -> u64 {
    // Relaxed: changes only inside fork(), in a child with one thread.
    GENERATION.load(Ordering::Relaxed)
}

pub(crate) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the three handlers are plain functions that live as long as this library's code.
        let result = unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
        assert_eq!(result, 0, "pthread_atfork fails only if a few bytes of memory are missing");
    });
}

/// A value that each process makes for itself: a forked child does not see its parent's, whose locks another thread of the parent may
/// have held at the fork.
pub(crate) struct OfProcess<T: 'static> {
    /// The last one made, with the generation that made it. Never freed.
    last: AtomicPtr<(u64, T)>,
}

impl<T: Send + Sync> OfProcess<T> {
    pub(crate) const fn new() -> OfProcess<T> {
        OfProcess { last: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// The value of this process, which this call makes if there is none.
    pub(crate) fn get_or_make(
        &'static self,
        make: impl FnOnce() -> std::io::Result<T>,
    ) -> std::io::Result<&'static T> {
        let generation = generation();
        // Acquire pairs with the Release of the exchange below.
        let last = self.last.load(Ordering::Acquire);
        // SAFETY: what the pointer has ever led to is never freed.
        if let Some((of, value)) = unsafe { last.as_ref() }
            && *of == generation
        {
            return Ok(value);
        }
        let made = Box::into_raw(Box::new((generation, make()?)));
        match self.last.compare_exchange(last, made, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: the box is leaked from here on.
            Ok(_) => Ok(unsafe { &(*made).1 }),
            // Another thread of this process was faster.
            Err(other) => {
                // SAFETY: no other thread has seen this box. The other one is leaked; only null is none, which nothing stores.
                unsafe {
                    drop(Box::from_raw(made));
                    Ok(&(*other).1)
                }
            }
        }
    }
}

/// An entered descriptor: closed on drop in the process that opened it, by the handler in a child.
pub(crate) struct Slot(&'static AtomicI32);

impl Slot {
    pub(crate) fn enter(open: impl FnOnce() -> std::io::Result<OwnedFd>) -> std::io::Result<Slot> {
        install();
        lock();
        let result = open().map(|fd| {
            let fd = std::os::fd::IntoRawFd::into_raw_fd(fd);
            let mut chunk = &FIRST;
            loop {
                // Relaxed throughout: the slots are changed under the lock, or by their one owner.
                let free = chunk.slots.iter().find(|slot| slot.load(Ordering::Relaxed) == EMPTY);
                if let Some(slot) = free {
                    slot.store(fd, Ordering::Relaxed);
                    return Slot(slot);
                }
                let mut next = chunk.next.load(Ordering::Relaxed);
                if next.is_null() {
                    next = Box::into_raw(Box::new(Chunk::new()));
                    chunk.next.store(next, Ordering::Relaxed);
                }
                // SAFETY: the chunk is a leaked box, valid until the process ends.
                chunk = unsafe { &*next };
            }
        });
        unlock();
        result
    }

    /// The descriptor, or -1 in a forked child.
    pub(crate) fn fd(&self) -> RawFd {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let fd = self.0.swap(EMPTY, Ordering::Relaxed);
        if fd != EMPTY {
            // SAFETY: the descriptor was taken out of the slot, so this is its only owner.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
        }
    }
}

/// A mapped range that is all zeroes in a forked child. Nodes are never freed, as chunks are not.
struct Node {
    base: AtomicPtr<u8>,
    /// 0: the node is free.
    len: AtomicUsize,
    next: AtomicPtr<Node>,
}

/// The first node. The list is changed under the lock only.
static RANGES: AtomicPtr<Node> = AtomicPtr::new(std::ptr::null_mut());

/// The nodes. The caller has the lock, or is the only thread of a forked child.
fn nodes() -> impl Iterator<Item = &'static Node> {
    let mut next = RANGES.load(Ordering::Relaxed);
    std::iter::from_fn(move || {
        // SAFETY: nodes are leaked boxes or null, so the reference is valid until the process ends.
        let node = unsafe { next.as_ref() }?;
        next = node.next.load(Ordering::Relaxed);
        Some(node)
    })
}

/// Maps zeroes over every entered range, in a forked child. A process that changes these bytes knows nothing of the child.
fn blank_ranges() {
    for node in nodes() {
        let (base, len) = (node.base.load(Ordering::Relaxed), node.len.load(Ordering::Relaxed));
        if len != 0 {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
            // SAFETY: the range is a live mapping of a `Range`, which this one replaces as a whole; slices of it stay valid. A
            // failure leaves the old mapping: what the child reads there may change, but can be read.
            unsafe { libc::mmap(base.cast(), len, libc::PROT_READ, flags, -1, 0) };
        }
    }
}

/// An entered range of memory: unmapped on drop.
pub(super) struct Range(&'static Node);

impl Range {
    /// Enters the `len` bytes that `map` maps, during which no thread of this process forks.
    pub(super) fn enter(
        len: usize,
        map: impl FnOnce() -> std::io::Result<*mut u8>,
    ) -> std::io::Result<Range> {
        install();
        lock();
        let range = map().map(|base| {
            let free = nodes().find(|node| node.len.load(Ordering::Relaxed) == 0);
            let node = free.unwrap_or_else(|| {
                let next = AtomicPtr::new(RANGES.load(Ordering::Relaxed));
                let node = Node { base: AtomicPtr::new(base), len: AtomicUsize::new(0), next };
                let node: &'static Node = Box::leak(Box::new(node));
                RANGES.store(std::ptr::from_ref(node).cast_mut(), Ordering::Relaxed);
                node
            });
            node.base.store(base, Ordering::Relaxed);
            node.len.store(len, Ordering::Relaxed);
            Range(node)
        });
        unlock();
        range
    }

    /// Where the range begins, and its bytes.
    pub(super) fn range(&self) -> (*mut u8, usize) {
        // Relaxed: changed by the owner of the range only.
        (self.0.base.load(Ordering::Relaxed), self.0.len.load(Ordering::Relaxed))
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        lock();
        let (base, len) = self.range();
        self.0.len.store(0, Ordering::Relaxed);
        // SAFETY: base and len are those of a mapping that was entered (or of zeroes in its place). The owner of the range has
        // let go of every slice of it.
        unsafe { libc::munmap(base.cast(), len) };
        unlock();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use super::super::barrier::{barrier_registered, barrier_works, register_for_barriers};
    use super::{Slot, install, lock, unlock};

    /// What `body` returns in a child of this process.
    fn in_child(body: impl FnOnce() -> i32) -> i32 {
        // SAFETY: the child calls `body` and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = body();
            // SAFETY: _exit() runs nothing of this process.
            unsafe { libc::_exit(code) };
        }
        let mut status = 0;
        // SAFETY: the child is this process's own, and `status` has room for the result.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        libc::WEXITSTATUS(status)
    }

    #[test]
    fn a_forked_child_is_not_registered_for_barriers_until_it_registers() {
        let needed = libc::MEMBARRIER_CMD_GLOBAL_EXPEDITED | libc::MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED;
        // SAFETY: membarrier takes no pointers.
        let offered = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_QUERY, 0, 0) };
        assert_eq!(barrier_works(), offered > 0 && offered & i64::from(needed) == i64::from(needed));
        if !barrier_works() {
            eprintln!("this kernel offers no barriers");
            return;
        }
        install();
        register_for_barriers();
        let until = Instant::now() + Duration::from_secs(10);
        while !barrier_registered() {
            assert!(Instant::now() < until, "the process is not registered");
            std::thread::yield_now();
        }
        assert_eq!(in_child(|| i32::from(barrier_registered())), 0, "the child takes itself for registered");
        assert!(barrier_registered(), "the parent still is");
        // A process of one thread registers at once.
        let registers = || {
            register_for_barriers();
            i32::from(barrier_registered())
        };
        assert_eq!(in_child(registers), 1);
    }

    #[test]
    fn a_forked_child_inherits_none_of_any_number_of_descriptors() {
        let open = || std::fs::File::open("/dev/null").map(OwnedFd::from);
        let slots: Vec<Slot> = (0..3 * super::SLOTS).map(|_| Slot::enter(open).unwrap()).collect();
        let fds: Vec<i32> = slots.iter().map(Slot::fd).collect();
        // SAFETY: F_GETFD takes no pointer.
        let is_open = |fd: i32| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
        assert!(fds.iter().all(|fd| is_open(*fd)));
        assert_eq!(in_child(|| i32::from(fds.iter().any(|fd| is_open(*fd)))), 0);
        assert!(fds.iter().all(|fd| is_open(*fd)), "the parent keeps them");
        drop(slots);
        // Another thread may have been given some of the numbers.
        assert!(fds.iter().filter(|fd| is_open(**fd)).count() < fds.len() / 2, "they are closed");
    }

    #[test]
    fn a_forked_child_makes_its_own_value() {
        static VALUE: super::OfProcess<u32> = super::OfProcess::new();
        install();
        assert!(VALUE.get_or_make(|| Err(std::io::Error::other("none"))).is_err());
        assert_eq!(*VALUE.get_or_make(|| Ok(1)).unwrap(), 1);
        assert_eq!(*VALUE.get_or_make(|| Ok(2)).unwrap(), 1, "it is made once");
        let childs =
            || *VALUE.get_or_make(|| Ok(3)).unwrap() as i32 + *VALUE.get_or_make(|| Ok(4)).unwrap() as i32;
        assert_eq!(in_child(childs), 6);
        assert_eq!(*VALUE.get_or_make(|| Ok(5)).unwrap(), 1);
    }

    #[test]
    fn a_fork_waits_until_a_descriptor_that_is_being_opened_is_entered() {
        static PASSED: AtomicBool = AtomicBool::new(false);
        lock();
        let other = std::thread::spawn(|| {
            lock();
            PASSED.store(true, Ordering::SeqCst);
            unlock();
        });
        // If the other thread has not run by then, the test is only easier to pass.
        std::thread::sleep(Duration::from_millis(50));
        let passed = PASSED.load(Ordering::SeqCst);
        unlock();
        other.join().unwrap();
        assert!(!passed, "two threads had the lock");
    }
}
