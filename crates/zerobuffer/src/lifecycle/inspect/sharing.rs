//! What the sharing block of a buffer shows.

use std::io;
use std::path::PathBuf;

use crate::layout::{BORROWER_ROLE_BYTE, Geometry, SHARING_SIZE, SharingCopy};
use crate::os::{self, FifoId};

/// Who offers bytes of another buffer to the reader of this one, and what is lent
/// ([`Writer::forward`](crate::Writer::forward)).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sharing {
    /// Whether the reader allows sharing: its frames may be lent, and it takes frames that are lent to it.
    pub enabled: bool,
    /// The buffer whose frames the writer would lend; `None` if it has offered none.
    pub offer: Option<Offer>,
    /// Whether a process may look at frames that were lent through this buffer: the kernel's word, unlike all else here.
    pub borrower: bool,
    /// Frames that are lent through this buffer. A killed lender leaves it as it was.
    pub share_count: u64,
    /// The process that lends; 0 = none. A killed lender leaves it as it was.
    pub owner_pid: u64,
    /// The FIFO behind the lender's descriptor, if it has one.
    pub fifo: Option<PathBuf>,
}

/// An offer of a buffer's frames.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Offer {
    /// The offered buffer. Empty if what stands there is no name.
    pub name: String,
    /// Device of its file.
    pub device: u64,
    /// Inode of its file.
    pub inode: u64,
    /// What the reader said to it.
    pub answer: Answer,
}

/// What a reader says to an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// Nothing yet: frames are copied.
    Pending,
    /// Frames may be lent to it.
    Accepted,
    /// Frames are copied.
    Refused,
}

/// Reads the sharing block, if the buffer has one.
pub(super) fn look(
    geometry: &Geometry,
    file_size: u64,
    segment: &os::Segment,
) -> io::Result<Option<Sharing>> {
    let is_sound = geometry.total().is_some_and(|total| total <= file_size);
    let Some(offset) = geometry.sharing_offset().filter(|_| is_sound) else { return Ok(None) };
    let mut bytes = [0; SHARING_SIZE as usize];
    segment.read_at(&mut bytes, offset)?;
    let words = SharingCopy::parse(&bytes);
    let (number, inode) = words.fifo;
    Ok(Some(Sharing {
        enabled: words.enabled,
        offer: (words.offer.number != 0).then(|| Offer {
            name: words.offer.name.unwrap_or_default(),
            device: words.offer.device,
            inode: words.offer.inode,
            answer: match words.offer.number {
                number if number == words.accepted => Answer::Accepted,
                number if number == words.refused => Answer::Refused,
                _ => Answer::Pending,
            },
        }),
        borrower: segment.role_is_held(BORROWER_ROLE_BYTE)?,
        share_count: words.share_count,
        owner_pid: words.owner_pid,
        fifo: (number != 0).then_some(FifoId { number, inode }).and_then(fifo),
    }))
}

/// The file of the FIFO behind a descriptor, if it is there.
pub(super) fn fifo(id: FifoId) -> Option<PathBuf> {
    let (folder, file) = (os::Folder::shared_memory(), os::fifo_file(id.number));
    let info = folder.info(&file).ok().flatten()?;
    (info.is_fifo && info.id.inode == id.inode).then(|| folder.path_of(&file))
}
