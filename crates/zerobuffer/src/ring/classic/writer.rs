//! The writer's side of a classic ring.

use super::{HEADER, corrupt, plan};
use crate::layout::{FrameHeader, TailWord};
use crate::memory::mapping::Mapping;
use crate::ring::{Reservation, Tag, Trouble};
use crate::sync::Ordering;
use crate::testing::stop::stop_point;

/// The writer's books.
pub(crate) struct WriteSide {
    /// Ring position of the next header, below the capacity.
    position: u64,
    sequence: u64,
    written_count: u64,
    /// At least so many bytes are free, as of the last look or commit: only we take any.
    known_free: u64,
    /// The reader is ours: it follows rewinds, and tokens are posted only when none is there.
    pub(crate) reader_is_ours: bool,
}

impl WriteSide {
    /// The writer of a ring whose last writer closed in good order, or whose reader is not of ours.
    pub(crate) fn resume(mapping: &Mapping, reader_is_ours: bool) -> Result<WriteSide, Trouble> {
        let oieb = mapping.oieb();
        // Acquire pairs with the last writer's Release store of its position.
        let position = oieb.payload_write_pos.load(Ordering::Acquire);
        let written_count = oieb.payload_written_count.load(Ordering::Relaxed);
        let capacity = mapping.geometry().payload_size;
        if position > capacity {
            return Err(corrupt(format!("payload_write_pos is {position}, the ring has {capacity} bytes")));
        }
        Ok(WriteSide {
            position: position % capacity,
            sequence: 1,
            written_count,
            known_free: 0,
            reader_is_ours,
        })
    }

    /// The writer of a ring of ours whose last writer, of whichever side, died anywhere. `None`: the reader is just
    /// changing its words, ask again.
    ///
    /// The dead writer's position may be one frame ahead of its last commit. The commit itself is the subtraction from
    /// `payload_free_bytes`; with the reader's tail, that count says where committed bytes end.
    pub(crate) fn recover(mapping: &Mapping) -> Result<Option<WriteSide>, Trouble> {
        let oieb = mapping.oieb();
        let capacity = mapping.geometry().payload_size;
        // Acquire loads pair with the stores in ReleaseQueue::give_back: equal, settled tails around the count mean
        // that no addition fell between them.
        let before = TailWord(oieb.tail_word.load(Ordering::Acquire));
        let free = oieb.payload_free_bytes.fetch_add(0, Ordering::AcqRel);
        let after = TailWord(oieb.tail_word.load(Ordering::Acquire));
        if before != after || before.is_changing() {
            return Ok(None);
        }
        let read_pos = oieb.payload_read_pos.load(Ordering::Relaxed);
        let Some(used) = capacity.checked_sub(free) else {
            return Err(corrupt(format!("payload_free_bytes is {free}, the ring has {capacity} bytes")));
        };
        if read_pos > capacity || before.position() >= capacity {
            return Err(corrupt(format!(
                "the reader's positions {read_pos}, {} are out of bounds",
                before.position()
            )));
        }
        let mut side = WriteSide::resume(mapping, true)?;
        if used == 0 {
            // Nothing is held, so the reader stands where the next frame goes; a rewind may have got half-way.
            side.position = read_pos % capacity;
            stop_point!("connect:tail");
            oieb.tail_word.store(TailWord::settled(side.position).0, Ordering::Release);
        } else {
            side.position = (before.position() + used) % capacity;
        }
        stop_point!("connect:write-pos");
        oieb.payload_write_pos.store(side.position, Ordering::Release);
        Ok(Some(side))
    }

    /// Bytes known to be free, if that is enough to know for a frame of `len` bytes: a look at the shared word takes its
    /// line from the reader. `None` if the ring might have to be taken back to 0, which asks whether it is empty.
    pub(crate) fn known_free_for(&self, mapping: &Mapping, len: usize) -> Option<u64> {
        let need = len as u64 + HEADER;
        let no_rewind = self.position + need <= plan::HOT_BYTES.min(mapping.geometry().payload_size);
        (self.reader_is_ours && no_rewind && need <= self.known_free).then_some(self.known_free)
    }

    /// Looks at `payload_free_bytes`, and remembers it.
    pub(crate) fn look_free(&mut self, mapping: &Mapping) -> Result<u64, Trouble> {
        self.known_free = self.free(mapping)?;
        Ok(self.known_free)
    }

    /// What the last look found free, less what was committed since.
    pub(crate) fn seen_free(&self) -> u64 {
        self.known_free
    }

    /// `payload_free_bytes`, checked.
    pub(crate) fn free(&self, mapping: &Mapping) -> Result<u64, Trouble> {
        // Acquire pairs with the reader's AcqRel addition: it is done with the bytes that we now reuse.
        let free = mapping.oieb().payload_free_bytes.load(Ordering::Acquire);
        let capacity = mapping.geometry().payload_size;
        if free > capacity {
            return Err(corrupt(format!("payload_free_bytes is {free}, the ring has {capacity} bytes")));
        }
        Ok(free)
    }

    /// The question that [`plan::plan`] answers for a frame of `len` bytes.
    pub(crate) fn question(
        &self,
        mapping: &Mapping,
        free: u64,
        len: usize,
        may_shrink: bool,
    ) -> plan::Question {
        plan::Question {
            capacity: mapping.geometry().payload_size,
            position: self.position,
            free,
            need: len as u64 + HEADER,
            may_shrink,
            can_rewind: self.reader_is_ours,
            only_start: false,
        }
    }

    /// Takes the empty ring back to 0, for free: only towards a reader of ours, and only if it stands where we do.
    pub(crate) fn rewind(&mut self, mapping: &Mapping) -> bool {
        let oieb = mapping.oieb();
        let capacity = mapping.geometry().payload_size;
        let read_pos = oieb.payload_read_pos.load(Ordering::Relaxed);
        let tail = TailWord(oieb.tail_word.load(Ordering::Acquire));
        if read_pos % capacity != self.position || tail != TailWord::settled(self.position) {
            return false;
        }
        // The ring is empty and only we can fill it, so the reader changes neither word before our next commit; whose
        // AcqRel subtraction makes both visible to it. A crash in between: see recover().
        stop_point!("write:rewind-tail");
        oieb.tail_word.store(TailWord::settled(0).0, Ordering::Relaxed);
        stop_point!("write:rewind-read-pos");
        oieb.payload_read_pos.store(0, Ordering::Relaxed);
        self.position = 0;
        stop_point!("write:rewind-write-pos");
        oieb.payload_write_pos.store(0, Ordering::Release);
        true
    }

    /// Writes length and bytes into a metadata block where nothing is published yet. `None` if they do not fit.
    pub(crate) fn write_metadata(mapping: &Mapping, metadata: &[u8]) -> Option<()> {
        let prefix = (metadata.len() as u64).to_le_bytes();
        stop_point!("metadata:bytes");
        // SAFETY: the caller is the one writer, and has seen that nothing is published.
        #[allow(unsafe_code)]
        unsafe {
            mapping.write_metadata(0, &prefix)?;
            mapping.write_metadata(prefix.len() as u64, metadata)
        }
    }

    /// Commits `len` bytes at the place reserved; gives the frame's sequence number.
    pub(crate) fn commit(
        &mut self,
        mapping: &Mapping,
        reservation: Reservation,
        len: usize,
        tag: Tag,
    ) -> Result<u64, Trouble> {
        debug_assert!(len > 0 && len <= reservation.len);
        self.sequence = tag.sequence.unwrap_or(self.sequence);
        let oieb = mapping.oieb();
        let capacity = mapping.geometry().payload_size;
        let placement = reservation.placement;
        let need = len as u64 + HEADER;
        let out_of_bounds = || corrupt("a reservation lies outside the ring".to_owned());
        let marker = placement.skip >= HEADER;
        if marker {
            stop_point!("write:wrap-marker");
            // SAFETY: the bytes from our position to the end are free (the plan charged them), and nobody looks at
            // them before the subtraction below.
            #[allow(unsafe_code)]
            unsafe { mapping.write_header(self.position, FrameHeader::WRAP) }.ok_or_else(out_of_bounds)?;
        }
        stop_point!("write:header");
        let header = FrameHeader { size: len as u64, sequence: self.sequence };
        // SAFETY: the plan found these bytes free; nobody looks at them before the subtraction below.
        #[allow(unsafe_code)]
        unsafe { mapping.write_header(placement.start, header) }.ok_or_else(out_of_bounds)?;

        self.position = (placement.start + need) % capacity;
        stop_point!("write:write-pos");
        oieb.payload_write_pos.store(self.position, Ordering::Release);
        stop_point!("write:free-bytes");
        // The commit. Release publishes header and data to the reader's Acquire load; Acquire keeps the counts below
        // from moving up.
        let cost = placement.skip + need;
        let before = oieb.payload_free_bytes.fetch_sub(cost, Ordering::AcqRel);
        self.written_count = self.written_count.wrapping_add(1 + u64::from(placement.skip > 0));
        stop_point!("write:written-count");
        oieb.payload_written_count.store(self.written_count, Ordering::Relaxed);
        let sequence = self.sequence;
        self.sequence = self.sequence.wrapping_add(1);
        self.known_free = before.saturating_sub(cost);
        if before < cost || before > capacity {
            self.known_free = 0;
            return Err(corrupt(format!("payload_free_bytes was {before} at a commit of {cost} bytes")));
        }
        Ok(sequence)
    }
}
