//! Everything that duplex channels use of the core: buffers, frames, and the tags of frames. For the model
//! checker the buffers are those of `model.rs`.

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
