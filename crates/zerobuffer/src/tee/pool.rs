//! The pool: one copy of a frame, in a buffer of the tee's own, from which all drop outputs are lent.
//!
//! A drop output is never lent the source's bytes, as the source goes back in ring order: one frame that a stopped viewer holds
//! would stop the camera. The pool has *slots* instead, which come back in any order. With a slot for each frame that the outputs
//! may hold, and one more, there is always one that no viewer looks at.

use crate::config::{BufferConfig, WriterOptions};
use crate::error::Result;
use crate::frame::Frame;
use crate::layout::Reference;
use crate::reader::Reader;
use crate::ring::{Lender, Reservation, Unreturned, Way};
use crate::testing::stop::stop_point;
use crate::writer::Writer;

/// Bytes of the smallest slots.
const LEAST: usize = 64 << 10;

/// The tee's own buffer, made when it is first of use.
pub(super) struct Pool {
    name: String,
    slots: Option<Slots>,
    /// Number and size of slots that there was no room for.
    refused: Option<(usize, usize)>,
}

/// What a look for a slot found, for one frame.
#[derive(Debug, Clone, Copy)]
pub(super) enum Slot {
    /// The frame is no copy yet.
    Open,
    /// It stands in this slot.
    Filled(usize),
    /// There is no slot for it.
    None,
}

struct Slots {
    /// The lender. It reads nothing.
    reader: Reader,
    /// Fills the slots, and keeps other writers out. It commits nothing.
    writer: Writer,
    /// Bytes of a slot.
    size: usize,
    /// How often each slot is lent.
    loans: Vec<usize>,
}

impl Pool {
    /// The pool of the tee whose source is called `source`. A next tee removes what a killed one left under the name.
    pub(super) fn new(source: &str) -> Pool {
        Pool { name: format!("{source}_tee"), slots: None, refused: None }
    }

    /// Makes room for `count` frames of `len` bytes. Returns whether there is.
    pub(super) fn prepare(&mut self, count: usize, len: usize) -> bool {
        if self.slots.as_ref().is_some_and(|slots| slots.loans.len() >= count && slots.size >= len) {
            return true;
        }
        let before = self.slots.as_ref().map_or(LEAST, |slots| slots.size);
        let wanted = (count, len.next_power_of_two().max(before));
        if self.refused != Some(wanted) {
            // The frames that are looked at in the old pool stay as they are: nothing is written there any more.
            self.slots = None;
            self.refused = None;
            match Slots::new(&self.name, wanted.0, wanted.1) {
                Ok(slots) => self.slots = Some(slots),
                Err(error) => {
                    log::warn!("buffer `{}`: no pool for drop outputs, which get copies: {error}", self.name);
                    self.refused = Some(wanted);
                }
            }
        }
        self.refused.is_none()
    }

    /// Lends `frame` to an output, from `slot`, where it is copied to first. `None`: the output is to get a copy of its own; else
    /// whether there was space in the output.
    pub(super) fn lend(
        &mut self,
        output: &mut Writer,
        unreturned: &mut Unreturned,
        frame: &Frame,
        slot: &mut Slot,
    ) -> Result<Option<bool>> {
        let Some(slots) = &mut self.slots else { return Ok(None) };
        let Some(offer) = output.outlet().accepted(slots.reader.lender())? else { return Ok(None) };
        if matches!(slot, Slot::Open) {
            *slot = slots.fill(frame).map_or(Slot::None, Slot::Filled);
        }
        let Slot::Filled(index) = *slot else { return Ok(None) };
        let position = (index * slots.size) as u64;
        let reference = Reference { offer, position, len: frame.len() as u64, sequence: frame.sequence() };
        let lender: &Lender = slots.reader.lender();
        let lent = output.outlet().try_lend(lender, index as u64, reference, unreturned)?;
        slots.loans[index] += usize::from(lent);
        Ok(Some(lent))
    }
}

impl Slots {
    fn new(name: &str, count: usize, size: usize) -> Result<Slots> {
        let config = BufferConfig::default().metadata_size(0).allow_payload_sharing(true);
        let bytes = count.checked_mul(size);
        let reader = Reader::create(name, config.payload_size(bytes.unwrap_or(usize::MAX)))?;
        let writer = Writer::connect_with(name, WriterOptions::default())?;
        Ok(Slots { reader, writer, size, loans: vec![0; count] })
    }

    /// Takes back what is not looked at any more.
    fn settle(&mut self) {
        let Slots { reader, loans, .. } = self;
        reader.lender().loans.settle(
            |_| false,
            |ticket| {
                if let Some(loans) = usize::try_from(ticket).ok().and_then(|index| loans.get_mut(index)) {
                    *loans -= 1;
                }
            },
        );
    }

    /// Copies `frame` to a slot that no viewer looks at: the first one, so that few of them are in use while the viewers keep up.
    fn fill(&mut self, frame: &Frame) -> Option<usize> {
        self.settle();
        let index = self.loans.iter().position(|loans| *loans == 0)?;
        stop_point!("tee:slot");
        let places = &mut self.writer.outlet().places;
        let start = (index * self.size) as u64;
        let place = Reservation { start, header: 0, len: frame.len(), way: Way::Ahead };
        let reserved = places.reserver.reserve(start, frame.len() as u64);
        let filled = reserved.is_ok() && places.copy_in(&place, frame).is_ok();
        filled.then_some(index)
    }
}
