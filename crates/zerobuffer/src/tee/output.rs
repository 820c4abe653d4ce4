//! An output of a tee.

use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::ring::Unreturned;
use crate::sharing::forward::Forwarded;
use crate::tee::pool::{Pool, Slot};
use crate::writer::Writer;

/// An output of a [`Tee`](crate::Tee), and what it got.
pub struct TeeOutput {
    pub(super) writer: Writer,
    /// Of a drop output.
    bound: Option<usize>,
    /// Frames of a drop output that its reader has not given back.
    unreturned: Unreturned,
    /// The frame that goes round has not been here.
    pub(super) waits: bool,
    shared: u64,
    copied: u64,
    dropped: u64,
    ended: Option<ErrorKind>,
}

/// What becomes of a frame that an output could not get.
enum Failure {
    /// The output waits for it: the next call goes on with it.
    Keep,
    /// The output does without it.
    Skip,
    /// The output gets nothing any more.
    End,
}

impl TeeOutput {
    pub(super) fn new(mut writer: Writer, bound: Option<usize>) -> TeeOutput {
        writer.discard_frame();
        if bound.is_some() {
            // It was perhaps to be lent the source's own bytes.
            writer.outlet().offers.withdraw();
        }
        TeeOutput {
            writer,
            bound,
            unreturned: Unreturned::default(),
            waits: false,
            shared: 0,
            copied: 0,
            dropped: 0,
            ended: None,
        }
    }

    /// Name of the buffer that it writes.
    pub fn name(&self) -> &str {
        self.writer.name()
    }

    /// Of a drop output, how many frames it has at most that its reader has not given back; `None`: a block output.
    pub fn bound(&self) -> Option<usize> {
        self.bound
    }

    /// Frames that it got without a copy of its own.
    pub fn frames_shared(&self) -> u64 {
        self.shared
    }

    /// Frames that it got as a copy of its own.
    pub fn frames_copied(&self) -> u64 {
        self.copied
    }

    /// Frames that it did not get.
    pub fn frames_dropped(&self) -> u64 {
        self.dropped
    }

    /// Why it has ended, for example [`ErrorKind::ReaderDead`]; `None` while it gets frames.
    pub fn ended(&self) -> Option<ErrorKind> {
        self.ended
    }

    pub(super) fn is_block(&self) -> bool {
        self.bound.is_none()
    }

    /// The bound of a drop output that can be lent frames of the pool.
    pub(super) fn bound_of_borrower(&self) -> Option<usize> {
        self.bound.filter(|_| self.ended.is_none() && self.writer.payload_sharing_enabled())
    }

    /// A frame goes round.
    pub(super) fn begin(&mut self) {
        // One that waits still has not got the frame before, which its caller has given up.
        self.dropped += u64::from(self.waits);
        self.waits = self.ended.is_none();
    }

    /// Passes `frame` on, waiting for space up to the write time-out. If the error is one after which the output still waits for
    /// the frame, `waits` is still set.
    pub(super) fn block(&mut self, frame: &Frame) -> Result<()> {
        let forwarded = self.writer.forward_to(frame);
        if let Err(error) = &forwarded {
            match failure(error) {
                Failure::Keep => return forwarded.map(drop),
                Failure::Skip => self.dropped += 1,
                Failure::End => self.end(error),
            }
        }
        self.waits = false;
        self.count(forwarded?);
        Ok(())
    }

    /// Passes `frame` on if there is room for it now, from the pool if that is of use.
    pub(super) fn offer(&mut self, frame: &Frame, pool: Option<&mut Pool>, slot: &mut Slot) {
        self.waits = false;
        match self.try_forward(frame, pool, slot) {
            Ok(Some(forwarded)) => self.count(forwarded),
            Ok(None) => self.dropped += 1,
            Err(error) => match failure(&error) {
                Failure::Keep | Failure::Skip => self.dropped += 1,
                Failure::End => self.end(&error),
            },
        }
    }

    /// `None`: it has as many frames as it may have, or no space.
    fn try_forward(
        &mut self,
        frame: &Frame,
        pool: Option<&mut Pool>,
        slot: &mut Slot,
    ) -> Result<Option<Forwarded>> {
        let TeeOutput { writer, unreturned, .. } = self;
        let bound = self.bound.unwrap_or(usize::MAX);
        if !writer.outlet().is_below(bound, unreturned)? {
            return Ok(None);
        }
        let fits = frame.len() <= writer.max_frame_size();
        if let Some(pool) = pool.filter(|_| fits)
            && let Some(lent) = pool.lend(writer, unreturned, frame, slot)?
        {
            return Ok(lent.then_some(Forwarded::Shared));
        }
        let copied = writer.outlet().try_copy(frame, unreturned)?;
        Ok(copied.then_some(Forwarded::Copied))
    }

    fn count(&mut self, forwarded: Forwarded) {
        match forwarded {
            Forwarded::Shared => self.shared += 1,
            Forwarded::Copied => self.copied += 1,
        }
    }

    #[cold]
    fn end(&mut self, error: &Error) {
        log::info!("buffer `{}`: gets no more frames of its tee: {error}", self.name());
        self.ended = Some(error.kind());
    }
}

fn failure(error: &Error) -> Failure {
    match error.kind() {
        ErrorKind::BufferFull | ErrorKind::Interrupted | ErrorKind::OutOfMemory => Failure::Keep,
        ErrorKind::FrameTooLarge | ErrorKind::InvalidFrameSize => Failure::Skip,
        _ => Failure::End,
    }
}

impl std::fmt::Debug for TeeOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TeeOutput")
            .field("name", &self.name())
            .field("bound", &self.bound)
            .field("frames_shared", &self.shared)
            .field("frames_copied", &self.copied)
            .field("frames_dropped", &self.dropped)
            .field("ended", &self.ended)
            .finish()
    }
}
