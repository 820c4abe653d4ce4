//! Memory behind the ring, reserved before it is touched.
//!
//! A file in `/dev/shm` has a length but no memory until its pages are used, and using one that the file system has no
//! room for is SIGBUS (spec failure 10). So a writer reserves what it is about to write.

use std::io;
use std::time::Duration;

use crate::layout::{FRAME_HEADER, Geometry};
use crate::os;
use crate::stop::stop_point;

/// Bytes reserved at a time: some 40 us of work, once per place in the ring.
const CHUNK: u64 = 256 << 10;

/// How long a failed reservation is believed, so that a full file system does not cost a system call per frame.
const RETRY: Duration = Duration::from_millis(100);

/// Which parts of one ring are known to have memory.
pub(crate) struct Reserver {
    segment: os::Segment,
    geometry: Geometry,
    /// One bit per chunk.
    chunks: Box<[u64]>,
    /// All chunks below this one are reserved: the common case in one comparison.
    prefix: u64,
    failed_at: Option<Duration>,
}

impl Reserver {
    pub(crate) fn new(segment: os::Segment, geometry: Geometry) -> Reserver {
        let words = geometry.payload_size.div_ceil(CHUNK).div_ceil(64);
        Reserver { segment, geometry, chunks: vec![0; words as usize].into(), prefix: 0, failed_at: None }
    }

    fn has(&self, chunk: u64) -> bool {
        self.chunks[(chunk / 64) as usize] >> (chunk % 64) & 1 != 0
    }

    /// Reserves `len` bytes at ring position `start`, and a header's room behind them for a wrap marker.
    pub(crate) fn reserve(&mut self, start: u64, len: u64) -> io::Result<()> {
        let end = (start + len + FRAME_HEADER as u64).min(self.geometry.payload_size);
        if end <= self.prefix * CHUNK {
            return Ok(());
        }
        self.reserve_cold(start, end)
    }

    #[cold]
    fn reserve_cold(&mut self, start: u64, end: u64) -> io::Result<()> {
        let missing: Vec<u64> =
            (start / CHUNK..end.div_ceil(CHUNK)).filter(|&chunk| !self.has(chunk)).collect();
        let (Some(&first), Some(&last)) = (missing.first(), missing.last()) else { return Ok(()) };
        if self.failed_at.is_some_and(|at| os::coarse_now().saturating_sub(at) < RETRY) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let from = first * CHUNK;
        let to = ((last + 1) * CHUNK).min(self.geometry.payload_size);
        stop_point!("write:reserve");
        match self.segment.reserve(self.geometry.payload_offset() + from, to - from) {
            Ok(()) => {
                missing.iter().for_each(|&chunk| self.chunks[(chunk / 64) as usize] |= 1 << (chunk % 64));
                let chunks = self.geometry.payload_size.div_ceil(CHUNK);
                while self.prefix < chunks && self.has(self.prefix) {
                    self.prefix += 1;
                }
                self.failed_at = None;
                Ok(())
            }
            // Not whole chunks, but perhaps just what is needed.
            Err(_) => {
                self.segment.reserve(self.geometry.payload_offset() + start, end - start).inspect_err(|_| {
                    self.failed_at = Some(os::coarse_now());
                })
            }
        }
    }
}
