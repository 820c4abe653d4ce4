//! Where the blocks of a buffer lie.

use super::control::{CONTROL_SIZE, LINE};
use super::oieb::{OIEB_SIZE, OiebCopy};
use super::sharing::SHARING_SIZE;
use super::words::{Cursor, FRAME_HEADER};
use crate::error::{Error, ErrorKind, Result};

/// Blocks start and end on multiples of this.
pub(crate) const BLOCK_ALIGN: u64 = 64;

/// Where the blocks of one buffer lie; checked once, then trusted, never read from shared memory again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Size of the metadata block, a multiple of 64 if a native reader made the buffer.
    pub(crate) metadata_size: u64,
    /// Size of the classic ring, and the most that a frame may need in a ring of either kind.
    pub(crate) payload_size: u64,
    /// Offset of the control block in the segment, if the ring can be extended.
    pub(crate) control: Option<u64>,
    /// A sharing block lies behind the control block.
    pub(crate) sharing: bool,
}

impl Geometry {
    /// The largest segment we accept: the user half of a 47-bit address space.
    const MAX_TOTAL: u64 = 1 << 46;

    /// The geometry of a new buffer: sizes rounded up to the block alignment. `None` if it can't be mapped.
    pub(crate) fn new(
        metadata_size: u64,
        payload_size: u64,
        extension: bool,
        sharing: bool,
    ) -> Option<Geometry> {
        let mut geometry = Geometry {
            metadata_size: metadata_size.checked_next_multiple_of(BLOCK_ALIGN)?,
            payload_size: payload_size.checked_next_multiple_of(BLOCK_ALIGN)?,
            control: None,
            sharing: false,
        };
        let classic = geometry.total()?;
        if extension {
            let slack = geometry.payload_size.checked_mul(3)? / 16 + Self::LEAST_SLACK;
            geometry.control = Some(classic.checked_add(slack)?.checked_next_multiple_of(LINE)?);
            geometry.sharing = sharing;
        }
        geometry.total().map(|_| geometry)
    }

    /// Slack of the extended ring beyond the payload block and 3/16 of it. With it, a frame of
    /// `payload_size - 16` bytes fits an empty ring (its header takes up to 80 bytes, its end is rounded up by
    /// up to 15), and nearly as many frames fit as in a classic ring in spite of alignment and leaps
    /// ([`crate::ring`]). Slack takes memory only where frames have been.
    const LEAST_SLACK: u64 = 128;

    /// Bytes of the extended ring, from the start of the payload block to the control block. 0 without a
    /// control block.
    pub(crate) fn extended_size(&self) -> u64 {
        self.control.map_or(0, |control| (control - self.payload_offset()) & !(Cursor::UNIT - 1))
    }

    /// Bytes behind the start of the payload block that frames of either kind may lie in.
    pub(crate) fn ring_size(&self) -> u64 {
        self.payload_size.max(self.extended_size())
    }

    /// Bytes of the control block, and of the sharing block behind it.
    pub(crate) fn control_size(&self) -> u64 {
        CONTROL_SIZE + if self.sharing { SHARING_SIZE } else { 0 }
    }

    /// Offset of the sharing block in the segment, if the buffer has one.
    pub(crate) fn sharing_offset(&self) -> Option<u64> {
        self.control.filter(|_| self.sharing).map(|control| control + CONTROL_SIZE)
    }

    pub(crate) fn metadata_offset(&self) -> u64 {
        u64::from(OIEB_SIZE)
    }

    /// Start of the ring.
    pub(crate) fn payload_offset(&self) -> u64 {
        // total() was Some when this geometry was accepted, so neither step can overflow.
        self.metadata_offset() + self.metadata_size.next_multiple_of(BLOCK_ALIGN)
    }

    /// Bytes behind a classic ring that ends its segment. A 1.x C# writer that has 1 to 15 bytes left at the end writes its
    /// wrap marker past it, and dies if the file ends there.
    const SPARE: u64 = BLOCK_ALIGN;

    /// Bytes of the file of a new buffer. `None` if that is more than can be mapped.
    pub(crate) fn file_size(&self) -> Option<u64> {
        let spare = if self.control.is_none() { Self::SPARE } else { 0 };
        self.total()?.checked_add(spare)
    }

    /// Bytes of the segment that this library uses. `None` if that is more than can be mapped.
    pub(crate) fn total(&self) -> Option<u64> {
        let metadata = self.metadata_size.checked_next_multiple_of(BLOCK_ALIGN)?;
        let payload = self.payload_size.checked_next_multiple_of(BLOCK_ALIGN)?;
        let classic = u64::from(OIEB_SIZE).checked_add(metadata)?.checked_add(payload)?;
        let total = match self.control {
            None => classic,
            Some(control) if control < classic.checked_add(Self::LEAST_SLACK)? => return None,
            Some(control) => control.checked_add(self.control_size())?,
        };
        (total <= Self::MAX_TOTAL).then_some(total)
    }
}

impl OiebCopy {
    /// The geometry that the block announces, checked against the length of its file.
    pub(crate) fn check(&self, name: &str, file_len: u64) -> Result<Geometry> {
        if self.oieb_size != OIEB_SIZE || self.version[0] != 1 {
            let message = format!(
                "it speaks protocol {}.{}.{} with a first block of {} bytes; this library speaks protocol 1 (128 bytes)",
                self.version[0], self.version[1], self.version[2], self.oieb_size
            );
            return Err(Error::new(ErrorKind::IncompatibleProtocol, name, message));
        }
        let geometry = Geometry {
            metadata_size: self.metadata_size,
            payload_size: self.payload_size,
            // Only a native reader makes an extension, so only with a native reader's word is it believed.
            control: self.extension.control().filter(|_| self.reader_word.is_ours()),
            sharing: self.extension.has_sharing() && self.reader_word.is_ours(),
        };
        match geometry.total() {
            Some(total) if total <= file_len && self.payload_size > FRAME_HEADER as u64 => Ok(geometry),
            _ => {
                let message = format!(
                    "its sizes cannot be true: {} bytes of metadata and {} of payload in a file of {file_len} bytes",
                    self.metadata_size, self.payload_size
                );
                Err(Error::new(ErrorKind::CorruptBuffer, name, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::ExtensionWord;
    use super::*;

    #[test]
    fn geometry_rounds_up_and_refuses_what_cannot_be_mapped() {
        let geometry = Geometry::new(100, 1000, false, false).unwrap();
        assert_eq!((geometry.metadata_size, geometry.payload_size), (128, 1024));
        assert_eq!((geometry.payload_offset(), geometry.total()), (256, Some(1280)));
        assert_eq!((geometry.extended_size(), geometry.ring_size()), (0, 1024));
        for extension in [false, true] {
            assert_eq!(Geometry::new(0, u64::MAX, extension, false), None);
            assert_eq!(Geometry::new(u64::MAX - 63, 64, extension, false), None);
            assert_eq!(Geometry::new(1 << 45, 1 << 46, extension, false), None);
        }
        assert_eq!(Geometry::new(0, Geometry::MAX_TOTAL - 128, true, false), None);
    }

    #[test]
    fn the_control_block_lies_behind_the_slack() {
        let geometry = Geometry::new(100, 1000, true, false).unwrap();
        // 256 + 1024 + 192 + 128, rounded.
        assert_eq!((geometry.control, geometry.total()), (Some(1664), Some(1664 + 512)));
        assert_eq!((geometry.extended_size(), geometry.ring_size()), (1408, 1408));
        assert_eq!(geometry.sharing_offset(), None);
        let sharing = Geometry::new(100, 1000, true, true).unwrap();
        assert_eq!((sharing.control, sharing.sharing_offset()), (Some(1664), Some(1664 + 512)));
        assert_eq!(sharing.total(), Some(1664 + 512 + 640));
        assert_eq!(Geometry::new(100, 1000, false, true), Geometry::new(100, 1000, false, false));
        let word = ExtensionWord::new(1664).with_sharing();
        assert!(word.has_sharing() && word.control() == Some(1664) && !word.is_extended());
        assert!(!ExtensionWord::new(1664).has_sharing() && !ExtensionWord(4).has_sharing());
        assert!(ExtensionWord::new(1664).control() == Some(1664) && !ExtensionWord::new(1664).is_extended());
        assert!(
            ExtensionWord(ExtensionWord::new(1664).0 | 1).is_extended() && !ExtensionWord(1).is_extended()
        );
        for misplaced in [0, 1280, Geometry::MAX_TOTAL] {
            assert_eq!(Geometry { control: Some(misplaced - misplaced % 128), ..geometry }.total(), None);
        }
    }
}
