//! Figures about a reader and a writer, for any thread.

use std::mem::{offset_of, size_of};

use zerobuffer::HeldFrames;

use crate::arguments::{Out, handle, passed};
use crate::error::{Failure, ZB_OK, zb_error, zb_status};
use crate::panic::guarded_wait;
use crate::reader::zb_reader;
use crate::writer::zb_writer;

/// What a reader has done so far, and what it holds. Set `size` to `sizeof(zb_reader_stats)` first.
///
/// Frames are held until they are released. They keep their space, and that of all later frames, from the writer.
#[repr(C)]
pub struct zb_reader_stats {
    /// The size of the structure, in bytes; afterwards how many of its bytes were filled in. Later versions may add figures.
    pub size: usize,
    /// Frames read.
    pub frames_read: u64,
    /// Bytes of data read, without headers.
    pub bytes_read: u64,
    /// How often a call found no frame and began to wait for one.
    pub waits: u64,
    /// Owned frames that have not been released. In a classic ring a frame that is lent counts too.
    pub frames_held: u64,
    /// Bytes of the ring that cannot go back to the writer because of them: their own, and those of later frames that were
    /// released already, headers included.
    pub bytes_held: u64,
    /// The sequence number of the oldest one; 0 if none is held.
    pub oldest_held: u64,
    /// How many of the frames held are lent to other readers now (`zb_writer_forward`).
    pub frames_lent: u64,
    /// Frames read whose bytes lie in another reader's buffer, which lent them; they count as frames read, too.
    pub frames_shared: u64,
    /// Bytes of data of these.
    pub bytes_shared: u64,
}

/// What a writer has done so far. Set `size` to `sizeof(zb_writer_stats)` first.
#[repr(C)]
pub struct zb_writer_stats {
    /// The size of the structure, in bytes; afterwards how many of its bytes were filled in. Later versions may add figures.
    pub size: usize,
    /// Frames written.
    pub frames_written: u64,
    /// Bytes of data written, without headers.
    pub bytes_written: u64,
    /// How often a call found no space and began to wait for some.
    pub waits: u64,
    /// How often a call found no space in time.
    pub full: u64,
    /// Frames that were forwarded without a copy (`zb_writer_forward`).
    pub frames_shared: u64,
    /// Frames that were forwarded by a copy.
    pub frames_copied: u64,
}

/// Figures that begin with their own size.
///
/// # Safety
///
/// The type is `repr(C)`, has no padding, and its first field is `size: usize`.
unsafe trait Stats {
    fn set_size(&mut self, size: usize);
}

// SAFETY: repr(C); one usize and nine u64, in this order, without padding on systems of 64 bits (checked below).
unsafe impl Stats for zb_reader_stats {
    fn set_size(&mut self, size: usize) {
        self.size = size;
    }
}

// SAFETY: repr(C); one usize and six u64, in this order, without padding on systems of 64 bits (checked below).
unsafe impl Stats for zb_writer_stats {
    fn set_size(&mut self, size: usize) {
        self.size = size;
    }
}

const _: () = {
    assert!(
        size_of::<usize>() == 8 && size_of::<zb_reader_stats>() == 80 && size_of::<zb_writer_stats>() == 56
    );
    assert!(offset_of!(zb_reader_stats, size) == 0 && offset_of!(zb_writer_stats, size) == 0);
};

/// Copies as much of `stats` as the caller's structure has room for.
///
/// # Safety
///
/// `target` is NULL, or points to a `size` that says how many bytes there are, itself included.
unsafe fn fill<T: Stats>(target: *mut T, mut stats: T) -> Result<(), Failure> {
    if target.is_null() {
        return Err(Failure::argument("the place for the figures is NULL"));
    }
    // SAFETY: The caller promises a `size` there, which is the first field by the contract of Stats.
    let room = unsafe { target.cast::<usize>().read() };
    if room < size_of::<usize>() {
        return Err(Failure::argument("`size` is too small: set it to the size of the structure first"));
    }
    let filled = room.min(size_of::<T>());
    stats.set_size(filled);
    // SAFETY: The caller promises `room` writable bytes, `stats` has at least `filled`, and is a local that nothing else overlaps.
    unsafe { target.cast::<u8>().copy_from_nonoverlapping((&raw const stats).cast(), filled) };
    Ok(())
}

/// Fills `*stats`, whose `size` the caller has set. Frames and bytes are as of the last call that read; the others are as of now.
/// From any thread, during any call of the reader.
///
/// Errors: `CLOSED`; `INVALID_STATE` in a forked child; `INVALID_ARGUMENT` if `size` is less than its own size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_get_stats(
    reader: *const zb_reader,
    stats: *mut zb_reader_stats,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let handle = passed!(handle(reader, "reader")?);
        let (frames_read, bytes_read) = handle.counters();
        let (HeldFrames { frames, bytes, oldest, .. }, waits, lent, (frames_shared, bytes_shared)) = handle
            .peer
            .ask(&handle.inner, |watch| (watch.held(), watch.waits(), watch.lent(), watch.shared()))?;
        passed!(fill(
            stats,
            zb_reader_stats {
                size: 0,
                frames_read,
                bytes_read,
                waits,
                frames_held: frames,
                bytes_held: bytes,
                oldest_held: oldest.unwrap_or(0),
                frames_lent: lent,
                frames_shared,
                bytes_shared,
            }
        )?);
        Ok(ZB_OK)
    })
}

/// Tells how many bytes of the reader's buffer this process has mapped by huge pages now: what `zb_config_set_huge_pages` got.
///
/// Errors: `CLOSED`, `INVALID_STATE`; `SYSTEM` where the system does not tell.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_reader_get_huge_page_bytes(
    reader: *const zb_reader,
    bytes: *mut u64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, out) = passed!(handle(reader, "reader")?, Out::new(bytes, "number")?);
        out.set(0);
        let inner = handle.inner.enter()?;
        out.set(inner.reader().huge_page_bytes()?);
        Ok(ZB_OK)
    })
}

/// Fills `*stats`, whose `size` the caller has set. Frames and bytes are as of the last call that wrote; the others are as of
/// now. From any thread, during any call of the writer.
///
/// Errors: `CLOSED`; `INVALID_STATE` in a forked child; `INVALID_ARGUMENT` if `size` is less than its own size.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_writer_get_stats(
    writer: *const zb_writer,
    stats: *mut zb_writer_stats,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let handle = passed!(handle(writer, "writer")?);
        let (frames_written, bytes_written) = handle.counters();
        let (waits, full) = handle.peer.ask(&handle.writer, |watch| (watch.waits(), watch.full()))?;
        let (frames_shared, frames_copied) = handle.forwarded();
        passed!(fill(
            stats,
            zb_writer_stats {
                size: 0,
                frames_written,
                bytes_written,
                waits,
                full,
                frames_shared,
                frames_copied
            }
        )?);
        Ok(ZB_OK)
    })
}
