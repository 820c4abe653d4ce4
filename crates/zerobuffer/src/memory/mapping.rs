//! UNSAFE: bounds-checked access to shared memory.
//!
//! A `Mapping` is a whole segment mapped shared and writable. The OIEB is reached as atomics; ring and metadata bytes
//! are copied in and out, or lent as slices to one frame at a time, always after a check against the length that was
//! really mapped.
//!
//! Trust model (docs/PROTOCOL.md): a peer may write any value at any time, but does not truncate the file, and does
//! not rewrite a frame's bytes while we hold them lent as a slice.
#![allow(unsafe_code)]

use core::ptr::NonNull;

use super::Memory;
use super::copy::{copy, copy_out, prefetch, prefetch_to_write};
use crate::layout::{
    Control, Cursor, ExtensionWord, FRAME_HEADER, FrameHeader, Geometry, LINE, OIEB_SIZE, Oieb, Sharing,
};
use crate::os;
use crate::sync::{AtomicU64, Ordering};
use crate::wait::wire::Wire;

/// One segment in this process's address space; unmapped on drop.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    geometry: Geometry,
    /// Start of the ring in memory.
    ring: NonNull<u8>,
    /// Bytes of it, of whichever kind it is.
    ring_size: u64,
    /// The control block, if the buffer has one.
    control: Option<NonNull<Control>>,
    /// To the other side's descriptor: beside the bells, so that a frame costs no way to them.
    wire: Wire,
    /// The sharing block, if the buffer has one.
    sharing: Option<NonNull<Sharing>>,
}

// SAFETY: the mapping is plain shared memory, valid from any thread until drop. All access through `&self` is by
// atomics or by raw copies whose exclusivity the ring protocol grants (see the callers of the unsafe methods).
unsafe impl Send for Mapping {}
// SAFETY: as for Send.
unsafe impl Sync for Mapping {}

/// The words of a classic header, at any address. A volatile read of them is two loads; one of `[u8; 16]` is sixteen.
#[repr(C, packed)]
#[derive(Clone, Copy)]
struct Words([u64; 2]);

impl Mapping {
    /// Maps `geometry.total()` bytes of `file`, which must be at least that long.
    pub(crate) fn new(file: &os::Segment, geometry: Geometry, populate: bool) -> std::io::Result<Mapping> {
        let len = geometry.total().ok_or_else(os::too_large)?;
        let len = usize::try_from(len).map_err(std::io::Error::other)?;
        let base = os::map_shared(file, len, populate)?;
        // SAFETY: total() checked that payload and control block end inside the mapping.
        let at = |offset: u64| unsafe { base.add(offset as usize) };
        Ok(Mapping {
            base,
            len,
            geometry,
            ring: at(geometry.payload_offset()),
            ring_size: geometry.ring_size(),
            wire: Wire::new(),
            control: geometry.control.map(|offset| {
                debug_assert!(offset.is_multiple_of(LINE));
                at(offset).cast()
            }),
            sharing: geometry.sharing_offset().map(|offset| at(offset).cast()),
        })
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Maps the pages of the ring from one position to another, which have memory, rather than one at a time when they are touched.
    #[inline]
    pub(crate) fn populate(&self, range: Option<(u64, u64)>) {
        if let Some((from, to)) = range {
            self.populate_cold(from, to);
        }
    }

    #[cold]
    fn populate_cold(&self, from: u64, to: u64) {
        let start = (self.geometry.payload_offset() + from) as usize;
        let end = ((self.geometry.payload_offset() + to.min(self.ring_size)) as usize).min(self.len);
        if start < end {
            // SAFETY: `new` made the mapping by map_shared(), and it lives as long as `self`. `start < end <= self.len`, so the bytes
            // lie in it.
            unsafe { os::populate(self.base.add(start), end - start) };
        }
    }

    /// How many of its bytes this process has mapped by huge pages now, and how many there are.
    pub(crate) fn huge_bytes(&self) -> std::io::Result<(u64, u64)> {
        // The last page may reach beyond the end.
        Ok((os::huge_bytes(self.base)?.min(self.len as u64), self.len as u64))
    }

    /// The block of control words.
    pub(crate) fn oieb(&self) -> &Oieb {
        const { assert!(align_of::<Oieb>() <= 64) };
        debug_assert!(self.len >= OIEB_SIZE as usize);
        // SAFETY: the mapping is page-aligned and at least 128 bytes long (Geometry::total), lives as long as `self`,
        // and Oieb consists of atomics only, for which concurrent writes by a peer are not data races in this process.
        unsafe { self.base.cast::<Oieb>().as_ref() }
    }

    /// Whether the ring is an extended one, as of now.
    pub(crate) fn is_extended(&self) -> bool {
        // Acquire pairs with the first writer's Release in entry::enter.
        self.control.is_some() && ExtensionWord(self.oieb().extension.load(Ordering::Acquire)).is_extended()
    }

    /// Whether the ring is, or may become, an extended one.
    pub(crate) fn can_be_extended(&self) -> bool {
        self.control.is_some()
    }

    /// A pointer to `len` bytes at `position` of the ring, or `None` if they do not lie within it.
    fn ring(&self, position: u64, len: usize) -> Option<NonNull<u8>> {
        let end = position.checked_add(len as u64)?;
        if end > self.ring_size {
            return None;
        }
        // SAFETY: position + len <= ring_size, and the ring ends at or before the control block or the mapping's end by
        // Geometry::total, so the result stays inside the one mapping.
        Some(unsafe { self.ring.add(position as usize) })
    }

    /// Copies the header at `position` out. Classic headers have no alignment.
    pub(crate) fn read_header(&self, position: u64) -> Option<FrameHeader> {
        let source = self.ring(position, FRAME_HEADER)?;
        // SAFETY: `ring` checked the bounds. `Words` is packed, so any address is aligned. A volatile read loads each word once, so what
        // is checked later is what was read. A racing peer yields arbitrary words, which the caller checks.
        let words = unsafe { source.cast::<Words>().as_ptr().read_volatile() };
        Some(FrameHeader::from_memory(words.0))
    }

    /// Writes a header at `position`. `None` if it does not fit.
    ///
    /// # Safety
    ///
    /// The caller is the writer, and the bytes are free: no reader looks at them before the next commit.
    pub(crate) unsafe fn write_header(&self, position: u64, header: FrameHeader) -> Option<()> {
        let target = self.ring(position, FRAME_HEADER)?;
        // SAFETY: in bounds by `ring`, alignment 1; exclusive by the caller's promise.
        unsafe { target.cast::<[u8; FRAME_HEADER]>().as_ptr().write_volatile(header.to_bytes()) };
        Some(())
    }

    /// The `len` bytes at `position` of the ring.
    ///
    /// # Safety
    ///
    /// The bytes belong to a frame that has been committed and not been given back, for as long as the slice lives,
    /// and `self` lives at least as long.
    pub(crate) unsafe fn frame_bytes<'a>(&self, position: u64, len: usize) -> Option<&'a [u8]> {
        let start = self.ring(position, len)?;
        // SAFETY: in bounds by `ring`, initialised (the file system zeroes pages), not written while the frame is held
        // (trust model), alive by the caller's promise; u8 has alignment 1.
        Some(unsafe { core::slice::from_raw_parts(start.as_ptr(), len) })
    }

    /// The `len` bytes at `position` of the ring, to fill in.
    ///
    /// # Safety
    ///
    /// The bytes belong to the caller alone: it is the writer, and they are free and reserved, or it is the reader, and
    /// they are those of a frame that it holds. No other slice of them lives; `self` lives at least as long as the slice.
    pub(crate) unsafe fn frame_bytes_mut<'a>(&self, position: u64, len: usize) -> Option<&'a mut [u8]> {
        let start = self.ring(position, len)?;
        // SAFETY: in bounds by `ring`, initialised, exclusive and alive by the caller's promise.
        Some(unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), len) })
    }

    /// Copies `data` to `position` of the ring. `None` if it does not fit.
    ///
    /// # Safety
    ///
    /// As for `frame_bytes_mut`.
    #[inline]
    pub(crate) unsafe fn write_frame(&self, position: u64, data: &[u8]) -> Option<()> {
        let target = self.ring(position, data.len())?;
        // SAFETY: in bounds by `ring`, exclusive by the caller's promise, so distinct from `data`.
        unsafe { copy(data, target.as_ptr()) };
        Some(())
    }

    /// Copies the `target.len()` bytes at `position` of the ring out. `None` if they do not lie within it.
    ///
    /// # Safety
    ///
    /// As for `frame_bytes`.
    #[inline]
    pub(crate) unsafe fn read_frame(&self, position: u64, target: &mut [u8]) -> Option<()> {
        // SAFETY: by the caller's promise; the slice does not leave this function.
        let data = unsafe { self.frame_bytes(position, target.len()) }?;
        // SAFETY: `target` is as long, and a slice of the caller's, hence no part of the ring that is lent out.
        unsafe { copy_out(data, target.as_mut_ptr()) };
        Some(())
    }

    /// Copies `len` bytes at `at` of the metadata block out. `None` if they do not lie within it.
    pub(crate) fn read_metadata(&self, at: u64, len: u64) -> Option<Vec<u8>> {
        if at.checked_add(len)? > self.geometry.metadata_size {
            return None;
        }
        let len = usize::try_from(len).ok()?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).ok()?;
        bytes.resize(len, 0_u8);
        // SAFETY: at + len <= metadata_size, which lies inside the mapping behind the OIEB; the target is as long.
        unsafe {
            let source = self.base.add((self.geometry.metadata_offset() + at) as usize);
            core::ptr::copy_nonoverlapping(source.as_ptr(), bytes.as_mut_ptr(), bytes.len());
        }
        Some(bytes)
    }

    /// Copies `bytes` to `at` of the metadata block. `None` if they do not fit.
    ///
    /// # Safety
    ///
    /// The caller is the writer, and nothing has been published in the metadata block yet.
    pub(crate) unsafe fn write_metadata(&self, at: u64, bytes: &[u8]) -> Option<()> {
        if at.checked_add(bytes.len() as u64)? > self.geometry.metadata_size {
            return None;
        }
        // SAFETY: in bounds as checked; exclusive by the caller's promise; source and target are distinct objects.
        unsafe {
            let target = self.base.add((self.geometry.metadata_offset() + at) as usize);
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), target.as_ptr(), bytes.len());
        }
        Some(())
    }
}

impl Mapping {
    /// To the other side's descriptor.
    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }
}

impl Memory for Mapping {
    #[inline]
    fn control(&self) -> &Control {
        let control = self.control.expect("only buffers with a control block have extended rings");
        // SAFETY: Geometry::total checked that the block lies inside the mapping and is aligned to 128 bytes (the mapping
        // is page-aligned, the offset a multiple of 128). It lives as long as `self` and consists of atomics only.
        unsafe { control.as_ref() }
    }

    fn sharing(&self) -> Option<&Sharing> {
        // SAFETY: Geometry::total checked that the block lies inside the mapping, right behind the control block, so it is aligned to
        // 128 bytes as that is. It lives as long as `self` and consists of atomics only.
        self.sharing.map(|sharing| unsafe { sharing.as_ref() })
    }

    #[inline]
    fn words(&self, position: u64) -> Option<&[AtomicU64; 2]> {
        let start = self.ring(position, 16)?;
        if !position.is_multiple_of(Cursor::UNIT) {
            return None;
        }
        // SAFETY: in bounds by `ring`. The ring starts on a multiple of 64 in a page-aligned mapping, so the words are
        // aligned. They are reached as atomics only: data of frames, which is lent as plain slices, never covers the
        // header of a live frame, and the header of a frame to be is in free space that no slice covers.
        Some(unsafe { start.cast().as_ref() })
    }

    #[inline]
    fn prefetch(&self, position: u64) {
        prefetch(self.ring.as_ptr().wrapping_add(position as usize));
    }

    #[inline]
    fn prefetch_to_write(&self, position: u64) {
        prefetch_to_write(self.ring.as_ptr().wrapping_add(position as usize));
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and len are those of the mmap in `new`; every slice lent out lives shorter than `self`.
        unsafe { os::unmap(self.base, self.len) };
    }
}
