//! Time-outs as the command line has them, and waits in slices, so that other work gets its turn.

use std::time::{Duration, Instant};

use zerobuffer::{Frame, Reader, Result};

/// Longest time in one call of the library.
const SLICE: Duration = Duration::from_millis(50);

/// A time-out; -1 has no end.
pub(crate) fn timeout(ms: i64) -> Duration {
    u64::try_from(ms).map_or(Duration::MAX, Duration::from_millis)
}

/// What is left of a time-out.
#[derive(Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Deadline {
        // An instant that cannot be represented is never reached.
        Deadline(Instant::now().checked_add(timeout))
    }

    pub(crate) fn left(self) -> Duration {
        self.0.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()))
    }

    pub(crate) fn is_over(self) -> bool {
        self.left().is_zero()
    }

    /// The time for the next call: what is left, but no more than a slice.
    pub(crate) fn slice(self) -> Duration {
        self.left().min(SLICE)
    }
}

/// Waits for the next frame, calling `idle` whenever there has been none for a slice.
pub(crate) fn next_frame(
    reader: &mut Reader,
    timeout: Duration,
    idle: impl FnMut(&mut Reader),
) -> Result<Option<Frame>> {
    // The hot path: no clock, no deadline.
    if let Some(frame) = reader.try_read_frame()? {
        return Ok(Some(frame));
    }
    wait_for(reader, timeout, Reader::read_frame, idle)
}

/// Waits for a frame as [`next_frame`], and passes over all but the newest.
pub(crate) fn latest_frame(
    reader: &mut Reader,
    timeout: Duration,
    idle: impl FnMut(&mut Reader),
) -> Result<Option<Frame>> {
    wait_for(reader, timeout, Reader::read_latest_frame, idle)
}

/// Waits for what `read` returns, calling `idle` whenever there has been none for a slice.
pub(crate) fn wait_for<R>(
    reader: &mut R,
    timeout: Duration,
    read: impl Fn(&mut R, Duration) -> Result<Option<Frame>>,
    mut idle: impl FnMut(&mut R),
) -> Result<Option<Frame>> {
    let deadline = Deadline::after(timeout);
    loop {
        if let Some(frame) = read(reader, deadline.slice())? {
            return Ok(Some(frame));
        }
        if deadline.is_over() {
            return Ok(None);
        }
        idle(reader);
    }
}
