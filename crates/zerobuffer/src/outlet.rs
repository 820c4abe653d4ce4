//! How a writer's frames get into the ring: copied in, or filled in place, on the fast path or the slow one.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::os;
use crate::places::Places;
use crate::ring::extended::{FastPath, Marker, wake_reader};
use crate::ring::{FrameAddress, Reservation, Room, Tag, Way, flags};
use crate::sharing::Offers;
use crate::testing::stop::stop_point;

/// The working half of a [`crate::Writer`].
pub(crate) struct Outlet {
    pub(crate) places: Places,
    /// How long a write waits for space.
    pub(crate) timeout: Duration,
    /// The frame that is being filled in place.
    acquired: Option<Reservation>,
    fast: FastPath,
    pub(crate) offers: Offers,
}

impl Outlet {
    /// `shares`: the writer was asked to lend frames.
    pub(crate) fn new(places: Places, timeout: Duration, shares: bool) -> Outlet {
        Outlet { places, timeout, acquired: None, fast: FastPath::new(), offers: Offers::new(shares) }
    }

    // ---- frames that are copied in ----

    /// Writes a frame, waiting for space up to the write time-out. (Inlined where it is called, it takes 20 instructions more.)
    #[inline(never)]
    pub(crate) fn write(&mut self, data: &[u8]) -> Result<u64> {
        match self.write_fast(data) {
            Some(sequence) => Ok(sequence),
            None => self.write_plain(data),
        }
    }

    /// [`Outlet::write_slow`] without a tag, which the fast path would otherwise make room for.
    #[inline(never)]
    fn write_plain(&mut self, data: &[u8]) -> Result<u64> {
        self.write_slow(data, Tag::default())
    }

    /// Writes a frame if there is space now.
    #[inline]
    pub(crate) fn try_write(&mut self, data: &[u8]) -> Result<Option<u64>> {
        match self.write_fast(data) {
            Some(sequence) => Ok(Some(sequence)),
            None => self.try_write_plain(data),
        }
    }

    #[inline(never)]
    fn try_write_plain(&mut self, data: &[u8]) -> Result<Option<u64>> {
        self.write_now_or_until(data, Tag::default(), Duration::ZERO)
    }

    /// Writes a frame that carries `tag`, waiting for space up to the write time-out. `now` is the coarse clock, as the caller
    /// has just read it.
    #[inline]
    pub(crate) fn write_tagged(&mut self, data: &[u8], tag: Tag, now: u64) -> Result<u64> {
        let sequence = if self.fast.is_now(now) { self.put_tagged(data, tag) } else { None };
        match sequence {
            Some(sequence) => Ok(sequence),
            None => self.write_slow(data, tag),
        }
    }

    #[inline(never)]
    pub(crate) fn write_slow(&mut self, data: &[u8], tag: Tag) -> Result<u64> {
        match self.write_now_or_until(data, tag, self.timeout)? {
            Some(sequence) => Ok(sequence),
            None => Err(self.places.full(data.len(), self.timeout)),
        }
    }

    /// Writes a frame as soon as there is space, tells the reader, and decides whether frames may be fast from now on.
    #[inline(never)]
    pub(crate) fn write_now_or_until(
        &mut self,
        data: &[u8],
        tag: Tag,
        timeout: Duration,
    ) -> Result<Option<u64>> {
        let sequence = self.put(data, tag, timeout)?;
        // A 1.x reader would take a token without a frame for one (spec failure 17).
        if sequence.is_some() {
            self.places.wake_reader(1);
        }
        self.grant_fast();
        Ok(sequence)
    }

    /// After a look for a place that took the slow path: decides whether frames may be fast from now on.
    fn grant_fast(&mut self) {
        if let Some(until) = self.places.fast_until() {
            self.fast.grant(self.places.clock_read(), until);
        }
    }

    /// Writes a frame straight ahead, if there is nothing else to think of.
    #[inline(always)]
    fn write_fast(&mut self, data: &[u8]) -> Option<u64> {
        // The clock now and then: a writer that has slowed down must learn of its reader's end.
        if self.fast.is_calm(os::coarse_now) { self.put_fast(data, Tag::default()) } else { None }
    }

    /// What [`Outlet::reserve`] and the rest of the slow path do for any frame, in a quarter of the instructions. (As a call it
    /// takes 30 more of them.)
    #[inline(always)]
    fn put_fast(&mut self, data: &[u8], tag: Tag) -> Option<u64> {
        let until = self.fast_until()?;
        let sequence = self.places.ring.write_fast(&self.places.buffer, data, tag, until)?;
        wake_reader(&self.places.buffer.mapping);
        self.fast.used();
        self.places.frames_written += 1;
        self.places.bytes_written += data.len() as u64;
        Some(sequence)
    }

    /// [`Outlet::put_fast`] as a call, for frames that carry a tag.
    #[inline(never)]
    fn put_tagged(&mut self, data: &[u8], tag: Tag) -> Option<u64> {
        self.put_fast(data, tag)
    }

    /// Up to where the next frame may go, if it may be fast.
    #[inline]
    fn fast_until(&self) -> Option<u64> {
        let until = self.fast.until()?;
        self.places.buffer.is_mine().then_some(until)
    }

    /// Writes a frame as soon as there is space, but does not tell the reader.
    #[inline]
    fn put(&mut self, data: &[u8], tag: Tag, timeout: Duration) -> Result<Option<u64>> {
        let Some(reservation) = self.reserve(&Room::of(data.len(), &tag), timeout)? else {
            return Ok(None);
        };
        stop_point!("write:data");
        self.places.copy_in(&reservation, data)?;
        self.places.commit(reservation, data.len(), tag).map(Some)
    }

    /// Finds a place for a frame, waiting for it up to `timeout`; `None` when the time is over. Ends the fast path.
    #[inline(always)]
    pub(crate) fn reserve(&mut self, room: &Room, timeout: Duration) -> Result<Option<Reservation>> {
        self.fast.close();
        if self.acquired.is_some() {
            let message = "a frame is acquired: commit or discard it first";
            return Err(self.places.buffer.error(ErrorKind::InvalidState, message));
        }
        self.places.reserve(room, timeout)
    }

    // ---- frames that are filled in place ----

    /// Acquires `len` bytes, with room in the header for what `tag` carries; waits for space up to the write time-out.
    #[inline]
    pub(crate) fn acquire(&mut self, len: usize, tag: &Tag) -> Result<()> {
        let room = Room::of(len, tag);
        if self.acquire_fast(&room) || self.acquire_slow(&room, self.timeout)? {
            return Ok(());
        }
        Err(self.places.full(len, self.timeout))
    }

    /// As [`Outlet::acquire`], where `now` is the coarse clock as the caller has just read it: the fast path is left as soon
    /// as that has gone on.
    pub(crate) fn acquire_at(&mut self, len: usize, tag: &Tag, now: u64) -> Result<()> {
        if !self.fast.is_now(now) {
            self.fast.close();
        }
        self.acquire(len, tag)
    }

    /// Acquires `len` bytes if there is space now. Returns whether there was.
    #[inline]
    pub(crate) fn try_acquire(&mut self, len: usize) -> Result<bool> {
        let room = Room::of(len, &Tag::default());
        Ok(self.acquire_fast(&room) || self.acquire_slow(&room, Duration::ZERO)?)
    }

    /// Acquires a place straight ahead, if there is nothing else to think of.
    #[inline]
    fn acquire_fast(&mut self, room: &Room) -> bool {
        if room.len.wrapping_sub(1) >= self.places.max_frame_size() || !self.fast.is_calm(os::coarse_now) {
            return false;
        }
        let Some(until) = self.fast_until() else { return false };
        let Some(place) = self.places.ring.place_below(room, until) else { return false };
        self.acquired = Some(place);
        self.fast.used();
        self.fast.suspend();
        true
    }

    #[inline(never)]
    fn acquire_slow(&mut self, room: &Room, timeout: Duration) -> Result<bool> {
        let place = self.reserve(room, timeout)?;
        self.acquired = place;
        // Elsewhere the commit moves what lies straight ahead.
        if place.is_some_and(|place| place.way == Way::Ahead) {
            self.grant_fast();
            self.fast.suspend();
        }
        Ok(place.is_some())
    }

    /// The bytes acquired, if any, to be filled in.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        let place = self.acquired?;
        // SAFETY: reserve() found the place free, and the reader does not look at it before the commit. There is one writer,
        // which is borrowed mutably for as long as the slice lives.
        #[allow(unsafe_code)]
        unsafe {
            self.places.buffer.mapping.frame_bytes_mut(place.data(), place.len)
        }
    }

    /// The bytes acquired, if any.
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        let place = self.acquired.as_ref()?;
        // SAFETY: the place is free space of the one writer, whose shared borrow keeps bytes_mut() from being called while the
        // slice lives.
        #[allow(unsafe_code)]
        unsafe {
            self.places.buffer.mapping.frame_bytes(place.data(), place.len)
        }
    }

    /// The bytes acquired, for a guard that has borrowed this outlet.
    ///
    /// # Safety
    ///
    /// Until the frame is committed or discarded, and the slice gone, nothing else asks for its bytes, and the outlet lives.
    #[inline]
    #[allow(unsafe_code)]
    pub(crate) unsafe fn bytes_of_guard<'a>(&mut self) -> &'a mut [u8] {
        let Some(place) = self.acquired else { return &mut [] };
        // SAFETY: reserve() found the place free, and the reader does not look at it before the commit. There is one writer,
        // and by the caller's promise no other slice of it. The mapping lives as long as the outlet.
        unsafe { self.places.buffer.mapping.frame_bytes_mut(place.data(), place.len) }.unwrap_or_default()
    }

    /// Commits the first `len` bytes acquired, all of them if `None`; returns the frame's sequence number. After an error the
    /// frame is still acquired, unless the buffer is corrupt.
    #[inline]
    pub(crate) fn commit_acquired(&mut self, len: Option<usize>, tag: Tag) -> Result<u64> {
        self.places.buffer.check_mine()?;
        let Some(reservation) = self.acquired else { return Err(self.nothing_acquired()) };
        let len = len.unwrap_or(reservation.len);
        if len.wrapping_sub(1) >= reservation.len {
            return Err(self.bad_commit(len, reservation.len));
        }
        self.discard();
        let sequence = if self.places.ring.leaves_gap(&self.places.buffer, reservation.start, len) {
            self.commit_elsewhere(reservation, len, tag).inspect_err(|_| self.acquired = Some(reservation))
        } else {
            self.places.commit(reservation, len, tag)
        }?;
        self.places.wake_reader(1);
        Ok(sequence)
    }

    #[cold]
    fn nothing_acquired(&self) -> Error {
        self.places.buffer.error(ErrorKind::InvalidState, "commit without acquire: acquire a frame first")
    }

    #[cold]
    fn bad_commit(&self, len: usize, acquired: usize) -> Error {
        let message = format!("cannot commit {len} of {acquired} bytes acquired");
        self.places.buffer.error(ErrorKind::InvalidFrameSize, message)
    }

    /// Commits the first `len` bytes of a frame that turned out so much shorter that, where it stands, a 1.x reader could not
    /// get past its end: at the start of the ring, as a frame of that length that is copied in.
    #[cold]
    fn commit_elsewhere(&mut self, old: Reservation, len: usize, tag: Tag) -> Result<u64> {
        let Some(place) = self.reserve(&Room::of(len, &tag), self.timeout)? else {
            return Err(self.places.full(len, self.timeout));
        };
        if place.start != old.start {
            // SAFETY: both places are free space of the one writer, which lends no slice of it now. They do not overlap: the
            // new one begins at 0, and the plan charged it with all bytes from the old one to the end of the ring.
            #[allow(unsafe_code)]
            let bytes = unsafe { self.places.buffer.mapping.frame_bytes(old.data(), len) };
            self.places.copy_in(&place, bytes.ok_or_else(|| self.places.out_of_bounds())?)?;
        }
        self.places.commit(place, len, tag)
    }

    /// Discards the frame acquired, if any.
    #[inline]
    pub(crate) fn discard(&mut self) {
        self.acquired = None;
        self.fast.resume();
    }

    // ---- what frames carry, for duplex channels ----

    /// Whether flags and deadlines reach the reader.
    pub(crate) fn carries_tags(&self) -> bool {
        self.places.ring.carries_tags()
    }

    /// Where the frame stands that was committed last.
    pub(crate) fn last_place(&self) -> Option<FrameAddress> {
        self.places.ring.last()
    }

    /// Withdraws a committed frame: a reader that has not released it sees [`flags::CANCELLED`]. Returns whether the frame was
    /// still there.
    pub(crate) fn cancel(&mut self, frame: FrameAddress) -> bool {
        self.places.ring.mark(&self.places.buffer, frame, flags::CANCELLED)
    }

    /// What withdraws frames while the one acquired is filled.
    pub(crate) fn marker(&self) -> Option<Marker> {
        self.places.ring.marker()
    }
}

/// Frames that are written before the reader is told of them. It is told at the end, however that comes.
pub(crate) struct Batch<'a> {
    outlet: &'a mut Outlet,
    unannounced: usize,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(outlet: &'a mut Outlet) -> Batch<'a> {
        Batch { outlet, unannounced: 0 }
    }

    /// Writes a frame, waiting for space up to the write time-out.
    pub(crate) fn write(&mut self, data: &[u8]) -> Result<()> {
        // Tells the reader, too: where a frame is fast, that costs one look at a word.
        if self.outlet.write_fast(data).is_some() {
            return Ok(());
        }
        let mut sequence = self.outlet.put(data, Tag::default(), Duration::ZERO)?;
        if sequence.is_none() {
            // Before the wait for space the reader must know of what it can make space with.
            self.announce();
            sequence = self.outlet.put(data, Tag::default(), self.outlet.timeout)?;
        }
        if sequence.is_none() {
            return Err(self.outlet.places.full(data.len(), self.outlet.timeout));
        }
        self.unannounced += 1;
        self.outlet.grant_fast();
        Ok(())
    }

    fn announce(&mut self) {
        self.outlet.places.wake_reader(std::mem::take(&mut self.unannounced));
    }
}

impl Drop for Batch<'_> {
    /// Also when the caller's iterator panics: a 1.x reader needs a token for each frame.
    fn drop(&mut self) {
        self.announce();
    }
}
