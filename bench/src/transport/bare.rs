//! A bare ring: what two processes reach without checks, sleep, or care for each other's death. It is no rival, but the
//! limit that ZeroBuffer's figures are compared with. Frames of 16 bytes of header and the data, a head word, a tail word
//! that is stored every 16 KiB; both sides poll. It has 1 MiB, which stays in a core's caches, or four frames.
//!
//! `AWAY`: a reader that finds nothing stays away from the head for 2.4 us. `AHEAD`: the writer asks for cache lines three
//! frames ahead. `LARGE`: the ring has 4 MiB at least, so that small frames find room for longer. Which of them helps depends
//! on the machine and the frames, so the best of the five is the limit to quote.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Channel, Sink, Source, Spin, until};

const HEADER: u64 = 16;

/// In place of a length: the next frame is at the start of the ring.
const WRAP: u64 = u64::MAX;

/// Bytes that are given back at a time.
const GIVEN_BACK: u64 = 16 << 10;

const AWAY_FOR: Duration = Duration::from_nanos(2400);

/// Bytes before the ring, in which the words lie.
const WORDS: usize = 4096;

#[repr(C, align(128))]
struct Word(AtomicU64);

#[repr(C)]
struct Words {
    head: Word,
    tail: Word,
    ready: Word,
}

/// One side's view of the segment; unmapped when dropped.
struct Ring {
    base: NonNull<u8>,
    /// Bytes of the ring: a power of two.
    size: u64,
    /// Where this side stands, in bytes since the beginning.
    at: u64,
    /// Where the other side stood at the last look.
    other: u64,
}

impl Ring {
    fn path(channel: &Channel) -> PathBuf {
        PathBuf::from("/dev/shm").join(&channel.name)
    }

    /// Maps the segment: that of a reader, or a new one with a ring of `new` bytes at least.
    fn map(channel: &Channel, new: Option<usize>) -> Result<Ring> {
        let path = Ring::path(channel);
        let file = OpenOptions::new().read(true).write(true).create_new(new.is_some()).open(&path)?;
        if let Some(least) = new {
            file.set_len((WORDS + (4 * channel.size).next_power_of_two().max(least)) as u64)?;
        }
        let len = file.metadata()?.len() as usize;
        ensure!(len > WORDS, "the segment is not made yet");
        let size = len - WORDS;
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: a new mapping of an open file, at an address of the kernel's choice.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, file.as_raw_fd(), 0) };
        ensure!(base != libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        let base = NonNull::new(base.cast()).context("mapped at 0")?;
        Ok(Ring { base, size: size as u64, at: 0, other: 0 })
    }

    #[inline]
    fn words(&self) -> &Words {
        // SAFETY: the segment begins with them, on a page; they are atomics, which zeroes are a value of.
        unsafe { self.base.cast::<Words>().as_ref() }
    }

    /// The address of a position.
    #[inline]
    fn address(&self, position: u64) -> *mut u8 {
        // SAFETY: below `size`, so within the mapping.
        unsafe { self.base.as_ptr().add(WORDS + (position & (self.size - 1)) as usize) }
    }

    /// The length in the header at a position.
    #[inline]
    fn length(&self, position: u64) -> &AtomicU64 {
        // SAFETY: positions of headers are multiples of 16 within the mapping, and no data lies there meanwhile.
        unsafe { &*self.address(position).cast::<AtomicU64>() }
    }

    /// Bytes up to the end of the ring.
    #[inline]
    fn rest(&self) -> u64 {
        self.size - (self.at & (self.size - 1))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping that `map` made; no slice of it outlives the calls that lend one.
        unsafe { libc::munmap(self.base.as_ptr().cast(), WORDS + self.size as usize) };
    }
}

fn bytes(len: usize) -> u64 {
    HEADER + (len as u64).next_multiple_of(HEADER)
}

/// The writer; see the top for `AHEAD`.
pub struct BareSink<const AHEAD: bool>(Ring);

impl<const AHEAD: bool> BareSink<AHEAD> {
    /// Finds a place for `len` bytes, and lends them to `write`; then publishes the frame.
    #[inline]
    fn put(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<()> {
        let ring = &mut self.0;
        let bytes = bytes(len);
        let rest = ring.rest();
        let skipped = if rest < bytes { rest } else { 0 };
        if ring.at + skipped + bytes - ring.other > ring.size {
            Self::wait(ring, skipped + bytes)?;
        }
        if skipped > 0 {
            ring.length(ring.at).store(WRAP, Ordering::Relaxed);
            ring.at += skipped;
        }
        // SAFETY: the bytes lie within the ring, and are free: the reader looks at them only behind the store of `head`.
        write(unsafe { std::slice::from_raw_parts_mut(ring.address(ring.at + HEADER), len) });
        ring.length(ring.at).store(len as u64, Ordering::Relaxed);
        ring.at += bytes;
        ring.words().head.0.store(ring.at, Ordering::Release);
        if AHEAD {
            let at = ring.at + 3 * bytes;
            if at + 64 - ring.other <= ring.size {
                for line in [at - 64, at, at + 64] {
                    prefetch_to_write(ring.address(line));
                }
            }
        }
        Ok(())
    }

    /// Waits until `bytes` are free.
    #[cold]
    fn wait(ring: &mut Ring, bytes: u64) -> Result<()> {
        let mut spin = Spin::default();
        loop {
            ring.other = ring.words().tail.0.load(Ordering::Acquire);
            if ring.at + bytes - ring.other <= ring.size {
                return Ok(());
            }
            spin.turn()?;
        }
    }
}

impl<const AHEAD: bool> Sink for BareSink<AHEAD> {
    fn connect(channel: &Channel) -> Result<Self> {
        let ring = until("a reader", || Ok(Ring::map(channel, None).ok()))?;
        ring.words().ready.0.store(1, Ordering::Release);
        Ok(BareSink(ring))
    }

    #[inline]
    fn send(&mut self, data: &[u8]) -> Result<()> {
        self.put(data.len(), |target| target.copy_from_slice(data))
    }

    #[inline]
    fn send_in_place(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<()> {
        self.put(len, write)
    }
}

/// The reader; see the top for `AWAY` and `LARGE`.
pub struct BareSource<const AWAY: bool, const LARGE: bool = false> {
    ring: Ring,
    given_back: u64,
    /// Pauses before a look.
    pauses: u32,
}

impl<const AWAY: bool, const LARGE: bool> BareSource<AWAY, LARGE> {
    /// Lends the next frame to `look`, and gives it back.
    #[inline]
    fn take<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        loop {
            if self.ring.at == self.ring.other {
                self.wait()?;
            }
            let len = self.ring.length(self.ring.at).load(Ordering::Relaxed);
            if len == WRAP {
                self.ring.at += self.ring.rest();
                continue;
            }
            let len = len as usize;
            // SAFETY: a committed frame lies within the ring, and is not written before it is given back.
            let result =
                look(unsafe { std::slice::from_raw_parts(self.ring.address(self.ring.at + HEADER), len) });
            self.ring.at += bytes(len);
            if self.ring.at - self.given_back >= GIVEN_BACK {
                self.ring.words().tail.0.store(self.ring.at, Ordering::Release);
                self.given_back = self.ring.at;
            }
            return Ok(result);
        }
    }

    /// Waits until something is committed.
    #[inline(never)]
    fn wait(&mut self) -> Result<()> {
        let mut spin = Spin::default();
        loop {
            for _ in 0..self.pauses {
                std::hint::spin_loop();
            }
            self.ring.other = self.ring.words().head.0.load(Ordering::Acquire);
            if self.ring.other != self.ring.at {
                return Ok(());
            }
            spin.turn()?;
        }
    }
}

impl<const AWAY: bool, const LARGE: bool> Source for BareSource<AWAY, LARGE> {
    fn listen(channel: &Channel) -> Result<Self> {
        let pauses = if AWAY { pauses_in(AWAY_FOR) } else { 0 };
        let least = if LARGE { 4 << 20 } else { 1 << 20 };
        Ok(BareSource { ring: Ring::map(channel, Some(least))?, given_back: 0, pauses })
    }

    fn accept(&mut self) -> Result<()> {
        let ready = &self.ring.words().ready.0;
        until("a writer", || Ok((ready.load(Ordering::Acquire) == 1).then_some(())))
    }

    #[inline]
    fn receive<R>(&mut self, target: &mut [u8], look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        self.take(|frame| {
            ensure!(frame.len() == target.len(), "a frame of {} bytes", frame.len());
            target.copy_from_slice(frame);
            Ok(())
        })??;
        Ok(look(target))
    }

    #[inline]
    fn receive_in_place<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        self.take(look)
    }
}

/// How many of the processor's pauses take so long.
fn pauses_in(time: Duration) -> u32 {
    const SAMPLE: u32 = 1000;
    let start = Instant::now();
    for _ in 0..SAMPLE {
        std::hint::spin_loop();
    }
    (time.as_secs_f64() / start.elapsed().as_secs_f64() * f64::from(SAMPLE)) as u32
}

#[inline]
fn prefetch_to_write(at: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint that faults on no address.
    unsafe {
        std::arch::asm!("prefetchw [{at}]", at = in(reg) at, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
