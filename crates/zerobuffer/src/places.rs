//! Where a writer's frames go: finds a place in the ring, waits for one, and looks after the reader meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::attention::Attention;
use crate::buffer::Buffer;
use crate::config::WaitStrategy;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::{Cursor, FRAME_HEADER, Reference};
use crate::lifecycle::liveness::{self, ReaderState};
use crate::memory::reserve::Reserver;
use crate::os;
use crate::peer_watch::{self, PeerWatch};
use crate::reader_watch;
use crate::ring::{NoPlace, Reservation, Room, Tag, WriteRing};
use crate::stats::WriterStats;
use crate::sync::Ordering;
use crate::testing::stop::stop_point;
use crate::wait::{Deadline, Doubt, FIRST_SLICE, SLICE, Spin, UNSURE_SLICE};

mod attend;

/// How often a writer that never blocks makes sure that its reader lives, in nanoseconds.
const READER_CHECK: u64 = 10_000_000;

/// Frames within [`READER_CHECK`] for which a fence each is worth saving: together some 20 us.
const MANY_FRAMES: u64 = 2000;

/// The ring of a writer, and what finding a place in it takes.
pub(crate) struct Places {
    pub(crate) buffer: Arc<Buffer>,
    pub(crate) ring: WriteRing,
    /// The writer's role; `None` once closed.
    pub(crate) role: Option<os::LockFile>,
    pub(crate) reserver: Reserver,
    pub(crate) watch: PeerWatch,
    spin: Spin,
    /// The coarse clock as it was read last.
    clock_read: u64,
    reader_checked: u64,
    /// The coarse clock when a poll found the ring full, and the reader alive.
    found_full: u64,
    /// `frames_written` at `reader_checked`.
    frames_at_check: u64,
    pub(crate) frames_written: u64,
    pub(crate) bytes_written: u64,
    /// Frames that were forwarded by reference.
    pub(crate) frames_shared: u64,
    /// Frames that were forwarded by a copy.
    pub(crate) frames_copied: u64,
    /// `bytes_written` at the last wait.
    bytes_before_wait: u64,
    attention: Attention,
}

impl Places {
    pub(crate) fn new(
        buffer: Arc<Buffer>,
        ring: WriteRing,
        role: os::LockFile,
        reserver: Reserver,
        wait: WaitStrategy,
    ) -> Places {
        Places {
            buffer,
            ring,
            role: Some(role),
            reserver,
            watch: PeerWatch::default(),
            spin: Spin::new(wait),
            clock_read: 0,
            reader_checked: os::coarse_now(),
            found_full: 0,
            frames_at_check: 0,
            frames_written: 0,
            bytes_written: 0,
            frames_shared: 0,
            frames_copied: 0,
            bytes_before_wait: 0,
            attention: Attention::Ready,
        }
    }

    /// Copies `data` to the place reserved.
    #[inline]
    pub(crate) fn copy_in(&self, place: &Reservation, data: &[u8]) -> Result<()> {
        // SAFETY: reserve() found the place free, and the reader does not look at it before the commit. There is one writer,
        // and no slice of free space is lent out while it writes, so `data` lies elsewhere.
        #[allow(unsafe_code)]
        let copied = unsafe { self.buffer.mapping.write_frame(place.data(), data) };
        copied.ok_or_else(|| self.out_of_bounds())
    }

    #[inline(always)]
    pub(crate) fn commit(&mut self, reservation: Reservation, len: usize, tag: Tag) -> Result<u64> {
        let committed = self.ring.commit(&self.buffer, reservation, len, tag);
        let sequence = committed.map_err(|fault| self.buffer.fault(fault))?;
        self.frames_written += 1;
        self.bytes_written += len as u64;
        Ok(sequence)
    }

    /// Commits a reference to a frame of `len` bytes. Returns the cursor behind the reference.
    pub(crate) fn commit_reference(&mut self, place: Reservation, len: u64, tag: Tag) -> Result<Cursor> {
        let end = place.end();
        self.commit(place, Reference::SIZE, tag)?;
        // A spin is worth while for bytes that were moved.
        let lent = len.saturating_sub(Reference::SIZE as u64);
        self.bytes_written += lent;
        self.bytes_before_wait += lent;
        // A reference has a multiple of 16 bytes, so its frame ends with it.
        self.ring.last().map(|last| last.0.at(end)).ok_or_else(|| self.out_of_bounds())
    }

    pub(crate) fn stats(&self) -> WriterStats {
        WriterStats {
            frames_written: self.frames_written,
            bytes_written: self.bytes_written,
            waits: self.buffer.waits(),
            full: self.buffer.times_full(),
            frames_shared: self.frames_shared,
            frames_copied: self.frames_copied,
        }
    }

    /// Tells the reader of `frames` more frames.
    #[inline]
    pub(crate) fn wake_reader(&self, frames: usize) {
        self.ring.wake(&self.buffer, frames);
    }

    // ---- the reader ----

    pub(crate) fn role(&self) -> Result<&os::LockFile> {
        let closed = || self.buffer.error(ErrorKind::Closed, "the writer is closed: connect a new one");
        self.role.as_ref().ok_or_else(closed)
    }

    fn check_reader(&mut self) -> Result<()> {
        stop_point!("write:judge");
        let message = match reader_watch::state(&self.buffer, self.role()?)? {
            ReaderState::Closed => {
                "the reader has closed the buffer: connect again when there is a new reader"
            }
            ReaderState::Dead => "the reader died: connect again when there is a new one",
            ReaderState::Alive => {
                // A 1.x peer may zero or overwrite the pid of a live writer; other 1.x peers look at it.
                let shown = &self.buffer.mapping.oieb().writer_pid;
                let pid = self.ring.shown_pid(&self.buffer);
                if shown.load(Ordering::Relaxed) == 0 {
                    stop_point!("write:writer-pid");
                    // Release pairs with the Acquire of an entry that looks at the pid; Acquire, with the store that cleared it.
                    let _ = shown.compare_exchange(0, pid, Ordering::AcqRel, Ordering::Relaxed);
                }
                return Ok(());
            }
        };
        self.reader_checked = 0;
        Err(self.buffer.error(ErrorKind::ReaderDead, message))
    }

    /// What a writer has to do every [`READER_CHECK`].
    #[inline(never)]
    fn tend(&mut self, now: u64) -> Result<()> {
        // The time is noted only if all is well: a reader that was found dead must not seem alive a moment later.
        self.check_reader().inspect_err(|_| self.leave_armed(0))?;
        self.reader_checked = now;
        let frames = self.frames_written - std::mem::replace(&mut self.frames_at_check, self.frames_written);
        self.ring.tend(&self.buffer, frames >= MANY_FRAMES);
        Ok(())
    }

    // ---- places ----

    /// The largest frame that the buffer can hold, in bytes.
    pub(crate) fn max_frame_size(&self) -> usize {
        (self.buffer.mapping.geometry().payload_size as usize).saturating_sub(FRAME_HEADER)
    }

    /// The coarse clock as the last search for a place read it.
    #[inline]
    pub(crate) fn clock_read(&self) -> u64 {
        self.clock_read
    }

    /// Up to where frames may go straight ahead without another thought, until one goes elsewhere; `None` if none may.
    #[inline]
    pub(crate) fn fast_until(&self) -> Option<u64> {
        self.ring.fast_until(&self.reserver, self.max_frame_size())
    }

    /// Finds a place for a frame, waiting for it up to `timeout`; `None` when the time is over.
    #[inline(always)]
    pub(crate) fn reserve(&mut self, room: &Room, timeout: Duration) -> Result<Option<Reservation>> {
        self.buffer.check_mine()?;
        if room.len == 0 || room.len > self.max_frame_size() {
            return Err(self.bad_size(room.len));
        }
        let now = os::coarse_now();
        self.clock_read = now;
        if now.saturating_sub(self.reader_checked) >= READER_CHECK {
            self.tend(now)?;
        }
        match self.fast_until().and_then(|until| self.ring.place_below(room, until)) {
            Some(place) => Ok(Some(place)),
            None => self.reserve_slow(room, timeout),
        }
    }

    #[inline(never)]
    fn reserve_slow(&mut self, room: &Room, timeout: Duration) -> Result<Option<Reservation>> {
        // A frame that would leave a gap behind position 0 fits nowhere else.
        if self.ring.leaves_gap(&self.buffer, 0, room.len) {
            return Err(self.bad_size(room.len));
        }
        match self.find(room, timeout) {
            Ok(place) => {
                self.leave_armed(0);
                self.ring.say_short(&self.buffer, false);
                return Ok(Some(place));
            }
            Err(NoPlace::NoMemory(error)) => {
                self.leave_armed(0);
                return Err(self.no_memory(error));
            }
            Err(NoPlace::Full | NoPlace::Unsure(_)) => {}
        }
        if timeout.is_zero() {
            return self.give_up(room);
        }
        self.leave_armed(0);
        self.ring.say_short(&self.buffer, true);
        self.buffer.take_interrupt()?;
        self.buffer.count_wait();
        let place = self.wait_for_place(room, Deadline::after(timeout))?;
        match place {
            Some(_) => self.ring.say_short(&self.buffer, false),
            None => self.buffer.count_full(),
        }
        Ok(place)
    }

    /// A frame is given up at `now` rather than written, until the reader has given something back.
    pub(crate) fn pass_up(&mut self, now: u64) -> Result<()> {
        // An armed bell says it already.
        if !self.attention.is_by_bell() {
            self.ring.say_short(&self.buffer, true);
        }
        // A full ring is polled often; whether the reader lives is asked once in a tick of the coarse clock.
        if now != self.found_full {
            self.check_reader().inspect_err(|_| self.leave_armed(0))?;
            self.found_full = now;
        }
        self.ring.give_up(&self.buffer);
        Ok(())
    }

    /// There is no place now, and no time to wait for one.
    fn give_up(&mut self, room: &Room) -> Result<Option<Reservation>> {
        self.pass_up(self.clock_read)?;
        if self.buffer.descriptor().is_some()
            && let Some(place) = self.arm(room)?
        {
            return Ok(Some(place));
        }
        self.buffer.count_full();
        Ok(None)
    }

    /// One look for a place, with `left` of the call's time.
    fn find(&mut self, room: &Room, left: Duration) -> std::result::Result<Reservation, NoPlace> {
        let left = if self.spin.is_never() { Duration::ZERO } else { left };
        self.ring.find(&self.buffer, &mut self.reserver, room, left)
    }

    fn wait_for_place(&mut self, room: &Room, deadline: Deadline) -> Result<Option<Reservation>> {
        let _uncancelled = os::Uncancelled::new();
        self.spin.moved(self.bytes_written - self.bytes_before_wait);
        self.bytes_before_wait = self.bytes_written;
        let mut doubt = Doubt::default();
        let mut began = None;
        let mut spin = self.ring.begin_wait() || self.spin.is_endless();
        let mut longest = FIRST_SLICE;
        if spin {
            self.ring.stay_away(room.len);
        }
        loop {
            if spin {
                self.ring.spin(&self.buffer, &mut self.spin, began);
            }
            let first = began.is_none();
            let began = *began.get_or_insert_with(Instant::now);
            let mut slice = longest;
            let left = deadline.left(SLICE).unwrap_or_default();
            let found = self.find(room, left);
            let by_clock = self.ring.timed_sleep(&self.buffer, first);
            match found {
                Ok(place) => {
                    if !spin {
                        self.spin.learn(began.elapsed());
                    }
                    return Ok(Some(place));
                }
                Err(NoPlace::Full) => doubt.end(),
                Err(NoPlace::NoMemory(error)) => return Err(self.no_memory(error)),
                Err(NoPlace::Unsure(fault)) => {
                    if doubt.has_lasted() {
                        return Err(self.buffer.fault(*fault));
                    }
                    slice = UNSURE_SLICE;
                }
            }
            spin = self.spin.is_endless();
            let watched = !spin && self.is_watched();
            self.buffer.take_news();
            let words = liveness::reader_words(self.buffer.mapping.oieb());
            self.check_reader()?;
            let by_clock = by_clock.filter(|_| !spin);
            if slice != UNSURE_SLICE {
                slice = peer_watch::slice(watched, slice);
            }
            let Some(left) = deadline.left(by_clock.unwrap_or(slice)) else { return Ok(None) };
            if !spin {
                stop_point!("write:wait");
                if by_clock.is_some() {
                    std::thread::sleep(left);
                } else {
                    let role = self.role()?;
                    let news = || self.buffer.has_news() || reader_watch::has_news(&self.buffer, role, words);
                    if !self.ring.sleep(&self.buffer, left, news) {
                        longest = SLICE;
                    }
                }
            }
            self.buffer.take_interrupt()?;
        }
    }

    /// Whether the watcher tells of the reader's end, and the reader wakes the writer for all else.
    fn is_watched(&mut self) -> bool {
        self.ring.is_native() && self.watch.stands(&self.buffer, self.reserver.segment())
    }

    // ---- errors ----

    /// The error of a frame that found no place within the time-out: memory was missing, or space that the reader gives back.
    #[cold]
    pub(crate) fn full(&mut self, len: usize, timeout: Duration) -> Error {
        if let Err(error) = self.reserver.confirm() {
            return self.no_memory(error);
        }
        self.buffer.error(
            ErrorKind::BufferFull,
            format!(
                "no space for a frame of {len} bytes within {timeout:?}: the reader is slower than the writer, or holds \
                 frames; read and release faster, make the buffer larger, or raise the write time-out"
            ),
        )
    }

    fn no_memory(&self, error: std::io::Error) -> Error {
        self.buffer.os_error("reserve memory for the frame", error)
    }

    #[cold]
    pub(crate) fn out_of_bounds(&self) -> Error {
        self.buffer.error(ErrorKind::CorruptBuffer, "a frame lies outside the ring")
    }

    #[cold]
    fn bad_size(&self, len: usize) -> Error {
        if len == 0 {
            return self.buffer.error(
                ErrorKind::InvalidFrameSize,
                "a frame needs at least 1 byte: send nothing, or a byte to mark an event",
            );
        }
        let most = self.max_frame_size();
        let message = if len > most {
            format!(
                "a frame of {len} bytes and its 16-byte header do not fit its payload of {} bytes: create the buffer with \
                 a larger payload size",
                self.buffer.mapping.geometry().payload_size
            )
        } else {
            format!(
                "a frame of {len} bytes leaves {} bytes at the end of the ring, which a 1.x reader cannot get past: send \
                 {most} bytes, or at most {}, or create the buffer with a larger payload size",
                most - len,
                most - FRAME_HEADER
            )
        };
        self.buffer.error(ErrorKind::FrameTooLarge, message)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::BufferConfig;
    use crate::reader::Reader;
    use crate::writer::Writer;

    fn buffer(what: &str, classic: bool) -> (Reader, Writer) {
        let name = format!("unit-places-{what}-{classic}-{}", std::process::id());
        let config = BufferConfig::default().payload_size(1 << 20).classic(classic);
        let reader = Reader::create(&name, config).unwrap();
        (reader, Writer::connect(&name).unwrap())
    }

    #[test]
    fn a_writer_that_is_never_short_of_space_learns_that_its_reader_has_gone() {
        for classic in [false, true] {
            let (reader, mut writer) = buffer("gone", classic);
            writer.write_frame(b"frame").unwrap();
            std::thread::sleep(Duration::from_nanos(2 * READER_CHECK));
            drop(reader);
            // The fast path asks after 31 frames at most.
            let error = (0..40).find_map(|_| writer.write_frame(b"frame").err());
            assert_eq!(error.expect("none is told").kind(), ErrorKind::ReaderDead);
        }
    }

    #[test]
    fn frames_and_bytes_are_counted_on_every_way() {
        for classic in [false, true] {
            let (_reader, mut writer) = buffer("counted", classic);
            for len in (1..100).chain([5000]) {
                writer.write_frame(&vec![1; len]).unwrap();
            }
            let mut frame = writer.acquire_frame(60).unwrap();
            frame.fill(1);
            frame.commit().unwrap();
            assert_eq!((writer.frames_written(), writer.bytes_written()), (101, 4950 + 5000 + 60));
        }
    }

    #[test]
    fn a_frame_has_a_byte_at_least_and_what_the_ring_holds_at_most() {
        for classic in [false, true] {
            let (_reader, mut writer) = buffer("sizes", classic);
            let largest = writer.max_frame_size();
            for (len, expected) in [(0, ErrorKind::InvalidFrameSize), (largest + 1, ErrorKind::FrameTooLarge)]
            {
                assert_eq!(writer.write_frame(&vec![1; len]).unwrap_err().kind(), expected);
                assert_eq!(writer.acquire_frame(len).unwrap_err().kind(), expected);
            }
            writer.write_frame(&vec![1; largest]).unwrap();
        }
    }
}
