//! The metadata block: bytes that a writer publishes once, for a reader that asks at any time.

use crate::buffer::Buffer;
use crate::error::{ErrorKind, Result};
use crate::layout::METADATA_PREFIX;
use crate::lifecycle::liveness;
use crate::memory::mapping::Mapping;
use crate::memory::reserve::Reserver;
use crate::sync::Ordering;
use crate::testing::stop::stop_point;

/// Publishes `metadata`. For the buffer's writer.
pub(crate) fn publish(buffer: &Buffer, reserver: &Reserver, metadata: &[u8]) -> Result<()> {
    let mapping = &buffer.mapping;
    let oieb = mapping.oieb();
    // Acquire pairs with the Release store below, of an earlier writer.
    if oieb.metadata_written_bytes.load(Ordering::Acquire) != 0 {
        let message = "its metadata is set already, and can be set only once: send what changes as frames";
        return Err(buffer.error(ErrorKind::MetadataAlreadyWritten, message));
    }
    let size = mapping.geometry().metadata_size;
    let written = metadata.len() as u64 + METADATA_PREFIX;
    if written > size {
        let message = format!(
            "{} bytes of metadata and an 8-byte prefix do not fit its metadata block of {size} bytes: create the buffer \
             with a larger metadata size",
            metadata.len()
        );
        return Err(buffer.error(ErrorKind::MetadataTooLarge, message));
    }
    // A 1.x reader, or a dishonest one, may not have reserved it.
    let reserved = reserver.reserve_metadata(written);
    reserved.map_err(|error| buffer.os_error("reserve memory for the metadata", error))?;
    write(mapping, metadata)
        .ok_or_else(|| buffer.error(ErrorKind::MetadataTooLarge, "the metadata does not fit"))?;
    stop_point!("metadata:free");
    // Relaxed: no reader orders anything by this count; `metadata_written_bytes` publishes the metadata.
    oieb.metadata_free_bytes.store(size - written, Ordering::Relaxed);
    stop_point!("metadata:written");
    // Release pairs with the Acquire load in read().
    oieb.metadata_written_bytes.store(written, Ordering::Release);
    Ok(())
}

/// Writes length and bytes. `None` if they do not fit.
fn write(mapping: &Mapping, metadata: &[u8]) -> Option<()> {
    let prefix = (metadata.len() as u64).to_le_bytes();
    stop_point!("metadata:bytes");
    // SAFETY: publish() is called by the one writer, and has seen that nothing is published.
    #[allow(unsafe_code)]
    unsafe {
        mapping.write_metadata(0, &prefix)?;
        mapping.write_metadata(prefix.len() as u64, metadata)
    }
}

/// Takes an earlier writer's metadata back, so that each client of a duplex server can publish its own. Only a native reader
/// expects that, so nothing happens beside a 1.x reader.
pub(crate) fn withdraw(buffer: &Buffer) {
    let oieb = buffer.mapping.oieb();
    let reader_is_native = liveness::reader_words(oieb).1.is_ours();
    // Acquire pairs with the earlier writer's Release store.
    if reader_is_native && oieb.metadata_written_bytes.load(Ordering::Acquire) != 0 {
        stop_point!("metadata:forget");
        // Release, as in publish(). The reader sees it with the next frame, at the latest.
        oieb.metadata_written_bytes.store(0, Ordering::Release);
        oieb.metadata_free_bytes.store(buffer.mapping.geometry().metadata_size, Ordering::Relaxed);
    }
}

/// Reads the metadata, if it is published. For the buffer's reader.
pub(crate) fn read(buffer: &Buffer, reserver: &Reserver) -> Result<Option<Vec<u8>>> {
    let mapping = &buffer.mapping;
    // Acquire pairs with the Release store in publish().
    let written = mapping.oieb().metadata_written_bytes.load(Ordering::Acquire);
    if written == 0 {
        return Ok(None);
    }
    let corrupt = || {
        let message = format!("the metadata's lengths cannot be true (metadata_written_bytes is {written})");
        buffer.error(ErrorKind::CorruptBuffer, message)
    };
    if written > mapping.geometry().metadata_size {
        return Err(corrupt());
    }
    // A forged length may lead to where there is no memory: a touch there is SIGBUS.
    reserver
        .reserve_metadata(written.max(METADATA_PREFIX))
        .map_err(|error| buffer.os_error("reserve memory for the metadata", error))?;
    let prefix = mapping.read_metadata(0, METADATA_PREFIX).ok_or_else(corrupt)?;
    let len = u64::from_le_bytes(prefix.try_into().map_err(|_| corrupt())?);
    if len.checked_add(METADATA_PREFIX) != Some(written) {
        return Err(corrupt());
    }
    mapping.read_metadata(METADATA_PREFIX, len).map(Some).ok_or_else(corrupt)
}
