//! Frames without allocations: a struct of the caller holds the core's frame itself.

use std::mem::{align_of, size_of};
use std::ptr::NonNull;
use std::time::Instant;

use zerobuffer::Frame;
use zerobuffer::duplex::{MutableFrame, Request, Response};

use crate::arguments::{Out, bytes, passed};
use crate::error::{ZB_OK, zb_error, zb_status};
use crate::panic::{guarded, guarded_or};

/// Words for the core's frame, more than it needs today. The struct repeats the number, because the header
/// shows it.
const OWNER_WORDS: usize = 12;

const EMPTY: u64 = 0;
const FRAME: u64 = 1;
const RESPONSE: u64 = 2;
const REQUEST: u64 = 3;
const MUTABLE_REQUEST: u64 = 4;
const COPY: u64 = 5;

/// A frame: bytes in shared memory, valid until `zb_frame_release`. It is empty (`data` is NULL) when there
/// was nothing to read.
///
/// The caller provides the struct and the library fills it, without an allocation. It may be moved in memory
/// byte by byte, but only one copy may be used. Several frames may be held at once, and released in any order
/// and on any thread. They stay valid when their reader or client is closed or freed.
///
/// A function that fills a frame overwrites the struct without releasing an earlier frame.
#[repr(C)]
pub struct zb_frame {
    /// The first byte; NULL in an empty frame.
    pub data: *const u8,
    /// Bytes of data.
    pub size: usize,
    /// The number that the writer gave the frame: 1, 2, 3 ...; in a duplex channel, that of the request.
    pub sequence: u64,
    /// Private to the library.
    pub state: u64,
    /// Private to the library.
    pub owner: [u64; 12],
}

const _: () = {
    assert!(
        size_of::<Frame>() <= size_of::<[u64; OWNER_WORDS]>() && align_of::<Frame>() <= align_of::<u64>()
    );
    assert!(size_of::<Response>() <= size_of::<[u64; OWNER_WORDS]>());
    assert!(align_of::<Response>() <= align_of::<u64>());
    assert!(size_of::<zb_frame>() == 128, "the size is part of the ABI");
};

/// The place for a frame. Its bytes may be uninitialised.
#[derive(Clone, Copy)]
pub(crate) struct Place(*mut zb_frame);

impl Place {
    /// Makes the frame empty.
    ///
    /// # Safety
    ///
    /// The pointer is valid for writes until the `Place` is gone.
    #[inline(always)]
    pub(crate) unsafe fn empty(frame: *mut zb_frame) -> Place {
        let place = Place(frame);
        place.describe(std::ptr::null(), 0, 0, EMPTY);
        place
    }

    #[inline(always)]
    fn describe(self, data: *const u8, size: usize, sequence: u64, state: u64) {
        // Volatile, so that each word is read and written alone: the compiler would move two of them at a time, and a pair that was
        // stored one by one makes the processor wait, for 4 ns.
        // SAFETY: The caller of empty() promised a place for a frame as long as `self` is used. No reference is made, as the
        // rest of the struct may be uninitialised.
        unsafe {
            (&raw mut (*self.0).data).write_volatile(data);
            (&raw mut (*self.0).size).write_volatile(size);
            (&raw mut (*self.0).sequence).write_volatile(sequence);
            (&raw mut (*self.0).state).write_volatile(state);
        }
    }

    #[inline(always)]
    fn own<T>(self, owner: T) {
        // SAFETY: The caller of empty() promised a place for a frame as long as `self` is used; a `T` fits into `owner`, as is
        // asserted above of frames and responses, and as a pointer does.
        unsafe { (&raw mut (*self.0).owner).cast::<T>().write(owner) };
    }

    #[inline(always)]
    pub(crate) fn put(self, frame: Frame) {
        self.describe(frame.as_ptr(), frame.len(), frame.sequence(), FRAME);
        self.own(frame);
    }

    pub(crate) fn put_response(self, response: Response) {
        self.describe(response.as_ptr(), response.len(), response.sequence(), RESPONSE);
        self.own(response);
    }
}

/// A request as its handler sees it, for the time of the call.
pub(crate) fn of_request(request: &Request) -> zb_frame {
    let mut frame = zb_frame {
        data: request.as_ptr(),
        size: request.len(),
        sequence: request.sequence(),
        state: REQUEST,
        owner: [0; OWNER_WORDS],
    };
    Place(&raw mut frame).own(NonNull::from(request));
    frame
}

/// A mutable request as its handler sees it, for the time of the call.
pub(crate) fn of_mutable_request(request: &mut MutableFrame) -> zb_frame {
    let mut frame = zb_frame {
        data: request.as_mut_ptr(),
        size: request.len(),
        sequence: request.sequence(),
        state: MUTABLE_REQUEST,
        owner: [0; OWNER_WORDS],
    };
    Place(&raw mut frame).own(NonNull::from(request));
    frame
}

impl zb_frame {
    /// The object behind it, with the type that its state names.
    fn owner<T>(&self) -> *const T {
        (&raw const self.owner).cast()
    }

    /// The frame that a reader has read; `None` if it is another one, or none.
    pub(crate) fn of_reader(&self) -> Option<&Frame> {
        // SAFETY: put() wrote a Frame there, which lives until zb_frame_release() changes the state.
        (self.state == FRAME).then(|| unsafe { &*self.owner::<Frame>() })
    }

    /// As `of_reader`, to be changed.
    pub(crate) fn of_reader_mut(&mut self) -> Option<&mut Frame> {
        // SAFETY: put() wrote a Frame there, which lives until zb_frame_release() changes the state, and `self` is borrowed
        // mutably, so that nothing else reaches it.
        (self.state == FRAME).then(|| unsafe { &mut *(&raw mut self.owner).cast::<Frame>() })
    }

    /// Takes the frame that a reader has read out; `None` if it is another one, or none.
    pub(crate) fn take_of_reader(&mut self) -> Option<Frame> {
        if self.state != FRAME {
            return None;
        }
        self.state = EMPTY;
        self.data = std::ptr::null();
        self.size = 0;
        // SAFETY: put() wrote a Frame there, which is read only here, as the state says EMPTY from now on.
        Some(unsafe { self.owner::<Frame>().read() })
    }

    fn cancelled(&self) -> bool {
        match self.state {
            // SAFETY: of_request() pointed it at a request that lives until the handler returns, and the rules for callers
            // (crate documentation) end the use of the frame there.
            REQUEST => unsafe { (*self.owner::<NonNull<Request>>()).as_ref() }.is_cancelled(),
            // SAFETY: of_mutable_request() pointed it at a request that lives until the handler returns, and the rules for
            // callers end the use of the frame there. A shared reference is made, whose bytes are not touched.
            MUTABLE_REQUEST => unsafe { (*self.owner::<NonNull<MutableFrame>>()).as_ref() }.is_cancelled(),
            _ => false,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.state {
            // SAFETY: of_request() pointed it at a request that lives until the handler returns, and the rules for callers
            // (crate documentation) end the use of the frame there.
            REQUEST => unsafe { (*self.owner::<NonNull<Request>>()).as_ref() }.deadline(),
            // SAFETY: of_mutable_request() pointed it at a request that lives until the handler returns, and the rules for
            // callers end the use of the frame there. A shared reference is made, whose bytes are not touched.
            MUTABLE_REQUEST => unsafe { (*self.owner::<NonNull<MutableFrame>>()).as_ref() }.deadline(),
            _ => None,
        }
    }
}

/// Gives the bytes back and makes the frame empty. NULL, an empty frame and a handler's request are allowed,
/// and left alone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_frame_release(frame: *mut zb_frame) {
    let Some(frame) = passed!(frame.as_mut()) else { return };
    let state = frame.state;
    if !matches!(state, FRAME | RESPONSE | COPY) {
        return;
    }
    // The state changes before the drop, so that a second release finds nothing.
    frame.state = EMPTY;
    frame.data = std::ptr::null();
    frame.size = 0;
    let owner = &raw mut frame.owner;
    guarded_or((), || match state {
        // SAFETY: put() wrote a Frame there, which is dropped only here, as the state says EMPTY from now on.
        FRAME => unsafe { owner.cast::<Frame>().drop_in_place() },
        // SAFETY: zb_frame_copy_of() wrote a pointer there that it got from Box::into_raw, and that is used only here, as the
        // state says EMPTY from now on.
        COPY => drop(unsafe { Box::from_raw(owner.cast::<*mut [u8]>().read()) }),
        // SAFETY: put_response() wrote a Response there, which is dropped only here, as the state says EMPTY from now on.
        _ => unsafe { owner.cast::<Response>().drop_in_place() },
    });
}

/// Makes a frame with a copy of the bytes, in its own memory, for tests of handlers, which may also change it
/// in place (`zb_frame_mutable_data`). Release it like any other frame.
///
/// Errors: `INVALID_ARGUMENT`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_frame_copy_of(
    data: *const u8,
    size: usize,
    sequence: u64,
    frame: *mut zb_frame,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded!(error, {
        let place = passed!(Place::empty(Out::new(frame, "frame")?.as_ptr()));
        let copy: *mut [u8] = Box::into_raw(passed!(bytes(data, size)?).into());
        place.describe(copy.cast::<u8>(), size, sequence, COPY);
        place.own(copy);
        Ok(ZB_OK)
    })
}

/// The bytes of a request that the handler of a mutable server may change, or of a copy; NULL for any other frame.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_frame_mutable_data(frame: *mut zb_frame) -> *mut u8 {
    match passed!(frame.as_ref()) {
        Some(frame) if matches!(frame.state, MUTABLE_REQUEST | COPY) => frame.data.cast_mut(),
        _ => std::ptr::null_mut(),
    }
}

/// Whether the response to this request is no longer wanted: the client has cancelled the request or given it
/// up, its deadline is over, or the server has been stopped. False for any other frame. A handler that works
/// for long should check this regularly.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_frame_is_cancelled(frame: *const zb_frame) -> bool {
    guarded_or(false, || passed!(frame.as_ref()).is_some_and(zb_frame::cancelled))
}

/// How long the client of this request still waits for its response, in nanoseconds; -1 if it set no limit, and for any
/// other frame.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_frame_time_left_ns(frame: *const zb_frame) -> i64 {
    guarded_or(-1, || {
        let deadline = passed!(frame.as_ref()).and_then(zb_frame::deadline);
        deadline.map_or(-1, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            i64::try_from(left.as_nanos()).unwrap_or(i64::MAX)
        })
    })
}
