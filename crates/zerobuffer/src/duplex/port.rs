//! What duplex channels know of the core: buffers, frames, and what frames carry. For the model checker a client gets a wire
//! of the model's own.

pub(crate) use crate::ring::extended::Marker;
pub(crate) use crate::ring::{FrameAddress as Place, Tag, flags};

#[cfg(not(loom))]
pub(crate) use crate::buffer::InterruptHandle;
#[cfg(not(loom))]
pub(crate) use crate::frame::Frame;
#[cfg(not(loom))]
pub(crate) use crate::reader::Reader;
#[cfg(not(loom))]
pub(crate) use crate::reader_watch::ReaderWatch;
#[cfg(not(loom))]
pub(crate) use crate::writer::Writer;

#[cfg(loom)]
pub(crate) use super::model::{Frame, InterruptHandle, Reader, ReaderWatch, Writer};
