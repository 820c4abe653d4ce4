//! Memory behind the ring, reserved before it is touched.
//!
//! A file in `/dev/shm` has a length but no memory until its pages are used, and using one that the file system has no
//! room for is SIGBUS (spec failure 10). So a writer reserves what it is about to write, and a reader what it is told to
//! read: an honest writer's frames have their memory, but a forged position may lead to where nothing was ever written.

use std::io;
use std::sync::Arc;

use crate::layout::{FRAME_HEADER, Geometry};
use crate::os;
use crate::testing::stop::stop_point;

/// Bytes reserved at a time: some 40 us of work, once per place in the ring.
const CHUNK: u64 = 256 << 10;

/// How long a failed reservation is believed, so that a full file system does not cost a system call per frame. What is
/// smaller than it may still find room. In nanoseconds.
const RETRY: u64 = 100_000_000;

/// Which parts of one ring are known to have memory.
pub(crate) struct Reserver {
    segment: Arc<os::Segment>,
    geometry: Geometry,
    /// One bit per chunk.
    chunks: Box<[u64]>,
    /// All bytes of the ring below this one are reserved: the common case in one comparison, and all that there is of
    /// a chunk for which the memory does not suffice.
    prefix: u64,
    /// When a reservation failed, and of how many bytes: the smallest one since the last that succeeded.
    failed: Option<(u64, u64)>,
    /// When a whole chunk found no room. For a while only what is needed is asked for: an attempt that fails takes what
    /// there is for a moment, and a 1.x writer would die of that.
    tight: Option<u64>,
    /// The bytes of the ring whose memory the last reservation made sure of, until they are asked for.
    reserved: Option<(u64, u64)>,
}

impl Reserver {
    pub(crate) fn new(segment: os::Segment, geometry: Geometry) -> Reserver {
        let words = geometry.ring_size().div_ceil(CHUNK).div_ceil(64);
        Reserver {
            segment: Arc::new(segment),
            geometry,
            chunks: vec![0; words as usize].into(),
            prefix: 0,
            failed: None,
            tight: None,
            reserved: None,
        }
    }

    /// From where to where memory was made sure of since the last call.
    #[inline]
    pub(crate) fn take_reserved(&mut self) -> Option<(u64, u64)> {
        self.reserved.take()
    }

    /// The file of the buffer.
    pub(crate) fn segment(&self) -> &Arc<os::Segment> {
        &self.segment
    }

    fn has(&self, chunk: u64) -> bool {
        self.chunks[(chunk / 64) as usize] >> (chunk % 64) & 1 != 0
    }

    /// Whether all of the ring up to `end`, and a little behind it, is reserved.
    #[inline]
    pub(crate) fn has_up_to(&self, end: u64) -> bool {
        end + FRAME_HEADER as u64 <= self.prefix
    }

    /// Up to where frames may end, with a header's room behind them, all of it reserved.
    #[inline]
    pub(crate) fn up_to(&self) -> u64 {
        self.prefix.saturating_sub(FRAME_HEADER as u64)
    }

    /// Reserves `len` bytes at ring position `start`, and a header's room behind them for a wrap marker.
    pub(crate) fn reserve(&mut self, start: u64, len: u64) -> io::Result<()> {
        self.ensure(start, start + len + FRAME_HEADER as u64)
    }

    /// Makes sure that the ring has memory from position `start` to `end`, as far as it reaches.
    #[inline]
    pub(crate) fn ensure(&mut self, start: u64, end: u64) -> io::Result<()> {
        let end = end.min(self.geometry.ring_size());
        if end <= self.prefix {
            return Ok(());
        }
        self.reserve_cold(start, end)
    }

    /// As `ensure`; returns up to where there is memory, `None` if there is not enough.
    #[inline]
    pub(crate) fn back(&mut self, start: u64, end: u64) -> Option<u64> {
        if end <= self.prefix { Some(self.prefix) } else { self.back_cold(start, end) }
    }

    #[cold]
    fn back_cold(&mut self, start: u64, end: u64) -> Option<u64> {
        self.ensure(start, end).ok()?;
        let size = self.geometry.ring_size();
        let last = end.min(size).saturating_sub(1) / CHUNK;
        let known = if self.has(last) { ((last + 1) * CHUNK).min(size) } else { end };
        Some(known.max(self.prefix))
    }

    /// Returns an error if memory is what the ring lacks: asks once more for what could not be had.
    #[cold]
    pub(crate) fn confirm(&mut self) -> io::Result<()> {
        let Some((_, bytes)) = self.failed.take() else { return Ok(()) };
        self.tight = None;
        let start = self.prefix;
        self.ensure(start, start.saturating_add(bytes))
    }

    /// Reserves the first `len` bytes of the metadata block. Their count comes from a peer, so it may be any.
    pub(crate) fn reserve_metadata(&self, len: u64) -> io::Result<()> {
        self.segment.reserve(self.geometry.metadata_offset(), len)
    }

    #[cold]
    fn reserve_cold(&mut self, start: u64, end: u64) -> io::Result<()> {
        let missing: Vec<u64> =
            (start / CHUNK..end.div_ceil(CHUNK)).filter(|&chunk| !self.has(chunk)).collect();
        let (Some(&first), Some(&last)) = (missing.first(), missing.last()) else { return Ok(()) };
        let from = first * CHUNK;
        let to = ((last + 1) * CHUNK).min(self.geometry.ring_size());
        let asked = end.min(to) - start.max(from);
        let now = os::coarse_now();
        if self.failed.is_some_and(|(at, bytes)| asked >= bytes && now.saturating_sub(at) < RETRY) {
            return Err(os::no_space());
        }
        stop_point!("ring:reserve");
        let roomy = self.tight.is_none_or(|at| now.saturating_sub(at) >= RETRY);
        match roomy.then(|| self.segment.reserve(self.geometry.payload_offset() + from, to - from)) {
            Some(Ok(())) => {
                missing.iter().for_each(|&chunk| self.chunks[(chunk / 64) as usize] |= 1 << (chunk % 64));
                let size = self.geometry.ring_size();
                while self.prefix < size && self.has(self.prefix / CHUNK) {
                    self.prefix = ((self.prefix / CHUNK + 1) * CHUNK).min(size);
                }
                (self.failed, self.tight) = (None, None);
                self.reserved = Some((from, to));
                Ok(())
            }
            // Not whole chunks, but perhaps just what is needed.
            failed => {
                self.tight = failed.map_or(self.tight, |_| Some(now));
                let exact = self.segment.reserve(self.geometry.payload_offset() + start, end - start);
                match exact {
                    Ok(()) if start <= self.prefix => self.prefix = self.prefix.max(end),
                    Ok(()) => {}
                    Err(_) => self.failed = Some((now, asked)),
                }
                exact
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::BufferConfig;
    use crate::reader::Reader;

    #[test]
    fn for_a_frame_half_way_through_the_ring_one_chunk_is_reserved() {
        let name = format!("unit-chunk-{}", std::process::id());
        let config = BufferConfig::default().payload_size(4 << 20);
        let _reader = Reader::create(&name, config.clone()).unwrap();
        let segment = || os::Segment::open(&name, true).unwrap();
        let memory = || segment().info().unwrap().memory;
        let mut reserver = Reserver::new(segment(), config.geometry(&name).unwrap());
        let before = memory();
        reserver.reserve(8 * CHUNK, 1000).unwrap();
        let reserved = memory() - before;
        assert!((1..CHUNK * 3 / 2).contains(&reserved), "{reserved} bytes");
        assert!(reserver.has(8) && !reserver.has(7) && !reserver.has(9));
    }
}
