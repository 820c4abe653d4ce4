//! The buffer whose bytes are lent, as its borrower sees it: mapped for reading only, checked once.

use std::ptr::NonNull;
use std::sync::Arc;

use crate::layout::{Geometry, Offer, SHARING_SIZE, SharingCopy};
use crate::lifecycle::first_block::FirstBlock;
use crate::lifecycle::registry;
use crate::os;
use crate::ring::FrameRecord;
use crate::testing::stop::stop_point;

/// Bytes that are made sure of at a time.
const CHUNK: u64 = 256 << 10;

/// A buffer of which bytes are borrowed.
pub(crate) struct Source {
    view: os::View,
    segment: os::Segment,
    geometry: Geometry,
}

/// Why an offer is refused, for the log.
pub(crate) type Refusal = String;

impl Source {
    /// Opens the buffer that `offer` names, if it is that buffer and its reader lends.
    pub(crate) fn open(offer: &Offer) -> Result<Source, Refusal> {
        let name = offer.name.as_deref().filter(|name| registry::check_name(name).is_ok());
        let Some(name) = name else { return Err("its name is no buffer's".into()) };
        let failed = |what: &str, error: std::io::Error| format!("`{name}`: cannot {what}: {error}");
        stop_point!("sharing:open");
        let segment = os::Segment::open(name, false).map_err(|error| failed("open it", error))?;
        let id = segment.id().map_err(|error| failed("look at it", error))?;
        if (id.device, id.inode) != (offer.device, offer.inode) {
            return Err(format!("`{name}` is another buffer by now"));
        }
        let block = FirstBlock::read(&segment).map_err(|error| failed("read it", error))?;
        let geometry = block.geometry(name).map_err(|error| error.to_string())?;
        let mut bytes = [0; SHARING_SIZE as usize];
        // Whether its ring is extended may not be decided yet; only frames of an extended one are lent.
        let read = geometry.sharing_offset().map(|offset| segment.read_at(&mut bytes, offset));
        if !matches!(read, Some(Ok(n)) if n == bytes.len()) || !SharingCopy::parse(&bytes).enabled {
            return Err(format!("`{name}`: its reader does not lend"));
        }
        let len = geometry.total().and_then(|total| usize::try_from(total).ok()).unwrap_or(usize::MAX);
        stop_point!("sharing:map");
        let view = os::View::map(&segment, len).map_err(|error| failed("map it", error))?;
        Ok(Source { view, segment, geometry })
    }

    /// Where the `len` bytes at `position` of the ring lie in the file; `None` if they do not lie within the ring.
    fn offset(&self, position: u64, len: u64) -> Option<u64> {
        let end = position.checked_add(len)?;
        (len > 0 && end <= self.geometry.extended_size()).then(|| self.geometry.payload_offset() + position)
    }

    /// Reads these bytes of the ring into memory of this process.
    fn read(&self, position: u64, len: u64) -> Option<Box<[u8]>> {
        let offset = self.offset(position, len)?;
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        let mut done = 0;
        while done < bytes.len() {
            match self.segment.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(n) if n > 0 => done += n,
                _ => return None,
            }
        }
        Some(bytes.into())
    }
}

/// Where the bytes of a borrowed frame lie, which stay there as long as this lives.
pub(crate) enum Borrowed {
    /// In the source.
    InPlace(Arc<Source>, u64),
    /// In memory of this process, as this kernel cannot tell whether the source's pages can be touched.
    Copied(Box<[u8]>),
}

impl Borrowed {
    /// The address of the first byte.
    pub(crate) fn address(&self) -> NonNull<u8> {
        match self {
            Borrowed::InPlace(source, offset) => {
                let (base, len) = source.view.range();
                // The offset lies within the mapping, as Known::borrow has checked.
                debug_assert!(*offset < len as u64);
                NonNull::new(base.as_ptr().wrapping_add(*offset as usize)).unwrap_or(base)
            }
            Borrowed::Copied(bytes) => NonNull::from(&bytes[..]).cast(),
        }
    }
}

/// A source that was accepted, and what is known of its memory.
pub(crate) struct Known {
    /// Number of the offer.
    pub(crate) number: u64,
    source: Arc<Source>,
    /// One bit for each chunk of the file that can be touched.
    chunks: Box<[u64]>,
    /// This kernel can tell.
    can_tell: bool,
}

impl Known {
    pub(crate) fn new(number: u64, source: Source) -> Known {
        let chunks = source.geometry.total().unwrap_or(0).div_ceil(CHUNK).div_ceil(64);
        Known { number, source: Arc::new(source), chunks: vec![0; chunks as usize].into(), can_tell: true }
    }

    /// The `len` bytes at `position` of the source's ring. The error says what is wrong with them.
    pub(crate) fn borrow(&mut self, position: u64, len: u64) -> Result<Borrowed, String> {
        let Some(offset) = self.source.offset(position, len) else {
            let size = self.source.geometry.extended_size();
            return Err(format!("{len} bytes at {position} do not lie within a ring of {size} bytes"));
        };
        if self.can_tell {
            match self.populate(offset, offset + len) {
                Ok(true) => return Ok(Borrowed::InPlace(Arc::clone(&self.source), offset)),
                Ok(false) => self.can_tell = false,
                Err(error) => return Err(format!("{len} bytes at {position} have no memory: {error}")),
            }
        }
        let bytes = self.source.read(position, len).map(Borrowed::Copied);
        bytes.ok_or_else(|| format!("{len} bytes at {position} cannot be read"))
    }

    /// Makes sure that these bytes of the file can be touched; `false` if this kernel cannot tell.
    fn populate(&mut self, start: u64, end: u64) -> std::io::Result<bool> {
        let missing = |chunk: &u64| self.chunks[(chunk / 64) as usize] >> (chunk % 64) & 1 == 0;
        let chunks = start / CHUNK..end.div_ceil(CHUNK);
        let Some(first) = chunks.clone().find(missing) else { return Ok(true) };
        let last = chunks.rev().find(missing).unwrap_or(first);
        let whole = ((first * CHUNK) as usize, ((last + 1) * CHUNK) as usize);
        // Beside these bytes there may be some that were never written.
        match self.source.view.populate(whole.0, whole.1) {
            Ok(true) => {
                for chunk in first..=last {
                    self.chunks[(chunk / 64) as usize] |= 1 << (chunk % 64);
                }
                Ok(true)
            }
            Ok(false) => Ok(false),
            Err(_) => self.source.view.populate(start as usize, end as usize),
        }
    }
}

/// A frame that is borrowed, as the release queue of its reader keeps it.
pub(crate) struct BorrowedFrame {
    /// Keeps the bytes where they are.
    pub(crate) _bytes: Borrowed,
    /// The reference to it.
    pub(crate) reference: FrameRecord,
    /// When the frame is worth nothing any more; 0 = never.
    pub(crate) deadline: u64,
}
