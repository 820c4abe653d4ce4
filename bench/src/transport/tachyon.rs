//! Tachyon: a ring in shared memory behind a Unix socket, C++ with a Rust face. The receiving side makes the ring.
//!
//! A commit is published by a flush, or by itself after 32 commits. `FLUSH` tells which of the two: with a
//! flush for each frame, as every other transport publishes each frame, or without, which suits streams only.

use anyhow::{Context, Result, anyhow, ensure};
use tachyon_ipc::{Bus, TachyonError, TxGuard};

use super::{Channel, Next, Sink, Source, Spin, until};

/// Turns before a waiting side sleeps. Neither is meant to: both have a processor of their own.
pub const SPINS: u32 = u32::MAX;

/// Frames that the receiver takes at a time, where it may.
const BATCH: usize = 1024;

/// A power of two with room for four frames, and what the crate's own benchmark takes at most.
pub fn capacity(size: usize) -> usize {
    (4 * size).next_power_of_two().max(4 << 20)
}

pub fn error(error: TachyonError) -> anyhow::Error {
    anyhow!("tachyon: {error}")
}

/// The socket's path as the crate wants it.
pub fn path(channel: &Channel) -> Result<&str> {
    channel.path.to_str().context("the socket's path is no UTF-8")
}

pub struct TachyonSink<const FLUSH: bool>(Bus);

impl<const FLUSH: bool> TachyonSink<FLUSH> {
    /// Waits for space; what is committed already must be published for the reader to make some.
    #[inline]
    fn acquire(&self, len: usize) -> Result<TxGuard<'_>> {
        let mut spin = Spin::default();
        loop {
            match self.0.acquire_tx(len) {
                Ok(guard) => return Ok(guard),
                Err(TachyonError::BufferFull) => {
                    if !FLUSH {
                        self.0.flush();
                    }
                    spin.turn()?;
                }
                Err(other) => return Err(error(other)),
            }
        }
    }

    #[inline]
    fn commit(guard: TxGuard<'_>, len: usize) -> Result<()> {
        if FLUSH { guard.commit(len, 1) } else { guard.commit_unflushed(len, 1) }.map_err(error)
    }
}

impl<const FLUSH: bool> Sink for TachyonSink<FLUSH> {
    fn connect(channel: &Channel) -> Result<Self> {
        let path = path(channel)?;
        let bus = until("a receiver", || Ok(Bus::connect(path).ok()))?;
        bus.set_polling_mode(1);
        Ok(TachyonSink(bus))
    }

    #[inline]
    fn send(&mut self, data: &[u8]) -> Result<()> {
        let guard = self.acquire(data.len())?;
        guard.write(data);
        Self::commit(guard, data.len())
    }

    #[inline]
    fn send_in_place(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut guard = self.acquire(len)?;
        // SAFETY: the slot has `len` bytes, and nothing else touches it before the commit.
        write(unsafe { guard.as_mut_slice() });
        Self::commit(guard, len)
    }

    fn finish(&mut self) -> Result<()> {
        self.0.flush();
        // The ring ends with its sender: leave the receiver the time to read what is in it.
        std::thread::sleep(std::time::Duration::from_millis(50));
        Ok(())
    }
}

pub struct TachyonSource<const FLUSH: bool> {
    channel: Channel,
    bus: Option<Bus>,
}

impl<const FLUSH: bool> TachyonSource<FLUSH> {
    fn bus(&self) -> Result<&Bus> {
        self.bus.as_ref().context("the sender has not been accepted")
    }
}

impl<const FLUSH: bool> Source for TachyonSource<FLUSH> {
    fn listen(channel: &Channel) -> Result<Self> {
        Ok(TachyonSource { channel: channel.clone(), bus: None })
    }

    /// Makes the ring, too: the crate does both in one call.
    fn accept(&mut self) -> Result<()> {
        let bus = Bus::listen(path(&self.channel)?, capacity(self.channel.size)).map_err(error)?;
        bus.set_polling_mode(1);
        self.bus = Some(bus);
        Ok(())
    }

    #[inline]
    fn receive<R>(&mut self, target: &mut [u8], look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let frame = self.bus()?.acquire_rx(SPINS).map_err(error)?;
        ensure!(frame.actual_size == target.len(), "a frame of {} bytes", frame.actual_size);
        target.copy_from_slice(frame.data());
        frame.commit().map_err(error)?;
        Ok(look(target))
    }

    #[inline]
    fn receive_in_place<R>(&mut self, look: impl FnOnce(&[u8]) -> R) -> Result<R> {
        let frame = self.bus()?.acquire_rx(SPINS).map_err(error)?;
        let looked = look(frame.data());
        frame.commit().map_err(error)?;
        Ok(looked)
    }

    fn receive_each(&mut self, target: &mut [u8], mut look: impl FnMut(&[u8]) -> Next) -> Result<()> {
        if target.len() > BATCHED {
            while self.receive(target, &mut look)??.is_continue() {}
            return Ok(());
        }
        self.each(|frame| {
            ensure!(frame.len() == target.len(), "a frame of {} bytes", frame.len());
            target.copy_from_slice(frame);
            look(target)
        })
    }

    fn receive_each_in_place(&mut self, mut look: impl FnMut(&[u8]) -> Next) -> Result<()> {
        self.each(&mut look)
    }
}

/// Largest frame that is taken in batches: a batch is given back as a whole, and must leave the sender room.
const BATCHED: usize = 1024;

impl<const FLUSH: bool> TachyonSource<FLUSH> {
    /// All frames, as many at a time as there are.
    fn each(&mut self, mut look: impl FnMut(&[u8]) -> Next) -> Result<()> {
        let bus = self.bus()?;
        loop {
            let batch = bus.drain_batch(BATCH, SPINS).map_err(error)?;
            for frame in batch.iter() {
                if look(frame.data())?.is_break() {
                    return Ok(());
                }
            }
            batch.commit().map_err(error)?;
        }
    }
}
