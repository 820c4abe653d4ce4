//! Memory ahead of a 1.x writer, which reserves none itself and would die of SIGBUS where there is none.

use crate::buffer::Buffer;
use crate::memory::reserve::Reserver;
use crate::testing::stop::stop_point;

/// Bytes that are always reserved ahead of the reader.
const LEAST: u64 = 4 << 20;

/// Before it waits, a reader reserves so many times what it has read since its last wait. So it gets ahead of a writer whose
/// frames are large within a quarter of the ring, and no frame of the rest of the first lap pays for memory (150 us a MiB).
const LEAD: u64 = 4;

/// But no more than this at a time: a frame that comes meanwhile is read up to 2 ms later.
const STEP: u64 = 16 << 20;

/// How far a reader has reserved memory for a 1.x writer.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// Ring position.
    upto: u64,
    /// Bytes of the frames read since the last wait.
    read: u64,
}

impl Ahead {
    /// Takes note of a frame of `bytes` bytes that was read.
    pub(super) fn read(&mut self, bytes: u64) {
        self.read = self.read.saturating_add(bytes);
    }

    /// Reserves what a reader at `position` wants ahead of it.
    pub(super) fn reserve(
        &mut self,
        position: u64,
        before_wait: bool,
        buffer: &Buffer,
        memory: &mut Reserver,
    ) {
        let size = buffer.mapping.geometry().payload_size;
        let least = if (position + LEAST).min(size) > self.upto { position + 2 * LEAST } else { 0 };
        let lead = match before_wait {
            true => std::mem::take(&mut self.read).saturating_mul(LEAD).min(STEP),
            false => 0,
        };
        let wanted = least.max(self.upto + lead).min(size);
        if wanted <= self.upto {
            return;
        }
        stop_point!("read:reserve-ahead");
        if let Err(error) = memory.ensure(self.upto, wanted) {
            log::warn!("buffer `{}`: cannot reserve memory ahead of a 1.x writer: {error}", buffer.name());
        }
        // Tried once: where there is no memory, trying again at each frame would only cost time.
        self.upto = wanted;
    }
}
