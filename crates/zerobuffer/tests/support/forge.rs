//! Raw access to a buffer's files, for tests that forge what they hold.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Offsets in the first block (docs/PROTOCOL.md).
pub mod at {
    pub const OIEB_SIZE: u64 = 0x00;
    pub const VERSION: u64 = 0x04;
    pub const METADATA_SIZE: u64 = 0x08;
    pub const METADATA_WRITTEN: u64 = 0x18;
    pub const PAYLOAD_SIZE: u64 = 0x20;
    pub const FREE_BYTES: u64 = 0x28;
    pub const WRITE_POS: u64 = 0x30;
    pub const READ_POS: u64 = 0x38;
    pub const WRITER_PID: u64 = 0x50;
    pub const READER_PID: u64 = 0x58;
    pub const EXTENSION: u64 = 0x60;
    pub const READER_WORD: u64 = 0x68;
    pub const WRITER_WORD: u64 = 0x70;
    pub const TAIL_WORD: u64 = 0x78;
}

/// One file of a buffer, open for forging.
pub struct Forge(File);

impl Forge {
    /// The segment of buffer `name`.
    pub fn segment(name: &str) -> Forge {
        Forge::open(format!("/dev/shm/{name}").as_ref())
    }

    /// The semaphore of buffer `name`: `w` or `r`.
    pub fn semaphore(name: &str, which: char) -> Forge {
        Forge::open(format!("/dev/shm/sem.sem-{which}-{name}").as_ref())
    }

    fn open(path: &Path) -> Forge {
        Forge(OpenOptions::new().read(true).write(true).open(path).expect("a buffer's file"))
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) {
        self.0.write_all_at(bytes, offset).expect("pwrite");
    }

    pub fn set(&self, offset: u64, value: u64) {
        self.write(offset, &value.to_le_bytes());
    }

    pub fn get(&self, offset: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, offset).expect("pread");
        u64::from_le_bytes(bytes)
    }

    /// The count of a semaphore: the low half of glibc's `struct new_sem` on 64-bit systems.
    pub fn tokens(&self) -> u32 {
        self.get(0) as u32
    }

    pub fn set_tokens(&self, count: u32) {
        self.write(0, &count.to_le_bytes());
    }

    /// How many threads wait for a semaphore: the high half.
    pub fn waiters(&self) -> u32 {
        self.get(4) as u32
    }

    pub fn set_waiters(&self, count: u32) {
        self.write(4, &count.to_le_bytes());
    }
}

/// A semaphore of a buffer, opened as a 1.x peer opens it.
pub struct OldSemaphore(*mut libc::sem_t);

// SAFETY: semaphores are made for use by many threads.
unsafe impl Send for OldSemaphore {}

impl OldSemaphore {
    /// The semaphore of buffer `name`: `w` or `r`.
    pub fn open(name: &str, which: char) -> OldSemaphore {
        let path = std::ffi::CString::new(format!("/sem-{which}-{name}")).expect("no zero byte");
        // SAFETY: the path ends with a zero byte and lives until the call returns.
        let semaphore = unsafe { libc::sem_open(path.as_ptr(), 0) };
        assert_ne!(semaphore, libc::SEM_FAILED, "sem_open: {}", std::io::Error::last_os_error());
        OldSemaphore(semaphore)
    }

    /// Takes a token, waiting up to `limit`. Returns whether there was one.
    pub fn wait(&self, limit: std::time::Duration) -> bool {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let end = now + limit;
        let end = libc::timespec { tv_sec: end.as_secs() as i64, tv_nsec: end.subsec_nanos().into() };
        // SAFETY: the semaphore is open until drop; `end` lives until the call returns.
        unsafe { libc::sem_timedwait(self.0, &raw const end) == 0 }
    }
}

impl Drop for OldSemaphore {
    fn drop(&mut self) {
        // SAFETY: opened by `open`, and not used after this.
        unsafe { libc::sem_close(self.0) };
    }
}

/// A segment mapped, to forge it faster than its users can look.
pub struct Mapped {
    words: *const std::sync::atomic::AtomicU64,
    len: usize,
}

// SAFETY: only atomics are reached through the pointer, and the mapping lives until drop.
unsafe impl Send for Mapped {}
// SAFETY: the pointer is used for atomics only, which threads may share, and the mapping lives until drop.
unsafe impl Sync for Mapped {}

impl Mapped {
    pub fn segment(name: &str) -> Mapped {
        use std::os::fd::AsRawFd;
        let Forge(file) = Forge::segment(name);
        let len = file.metadata().expect("stat").len() as usize;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no memory of this process.
        let base =
            unsafe { libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        assert_ne!(base, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Mapped { words: base.cast_const().cast(), len }
    }

    /// The 8-byte word at `offset`.
    pub fn word(&self, offset: u64) -> &std::sync::atomic::AtomicU64 {
        let index = offset as usize / 8;
        assert!(offset.is_multiple_of(8) && index < self.len / 8);
        // SAFETY: inside the mapping, which is page-aligned and lives as long as `self`; atomics may be shared.
        unsafe { &*self.words.add(index) }
    }

    pub fn set(&self, offset: u64, value: u64) {
        self.word(offset).store(value, std::sync::atomic::Ordering::SeqCst);
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: mapped by `segment` with this length; no borrow of it is left.
        unsafe { libc::munmap(self.words.cast_mut().cast(), self.len) };
    }
}
