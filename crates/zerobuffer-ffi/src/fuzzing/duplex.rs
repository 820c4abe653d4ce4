//! Calls of the duplex half of the C ABI: one server and one client of one channel, in any order of calls.
//!
//! Whatever is called: a status and an error object that agree, no internal error, at most one outcome for each request, each
//! response whole and that of its request for as long as it is held, user data destroyed once, and nothing left behind. The
//! server's threads run beside the calls, so that one input may take other ways when it is run again.

use std::ffi::{CString, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{empty_frame, judge, put_off};
use crate::client::*;
use crate::config::*;
use crate::error::*;
use crate::frame::*;
use crate::server::*;

/// Responses held at once.
const HELD: usize = 6;

/// User data that is alive.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// Calls as the bytes say, three for each.
pub fn duplex_calls(input: &[u8]) {
    let mut world = World::new();
    for step in input.chunks_exact(3) {
        world.step([step[0], step[1], step[2]]);
    }
}

/// All that is there. A handle that was freed is NULL.
struct World {
    channel: CString,
    server: *mut zb_server,
    client: *mut zb_client,
    /// Whether the server changes requests in place; that of the client's time.
    mutable: [bool; 2],
    /// Whether one of the rings may be a classic one: in it an answer that is empty, failed or too large is one zero byte.
    classic: bool,
    clients: usize,
    acquired: Option<(*mut u8, usize, u64)>,
    /// The client's requests without an outcome so far: number and size.
    sent: Vec<(u64, usize)>,
    /// Responses, and what they are to hold.
    held: Vec<(zb_frame, Vec<u8>)>,
}

/// A request of this size.
pub(super) fn request(size: usize) -> Vec<u8> {
    (0..size).map(|at| (size * 3 + at) as u8).collect()
}

/// What a handler does with a request is told by the request's size.
fn fails(size: usize) -> bool {
    size % 8 == 5
}

/// What it answers otherwise.
fn answer(size: usize, mutable: bool) -> Vec<u8> {
    match size % 8 {
        _ if mutable => request(size).iter().map(|byte| byte ^ 0x55).collect(),
        6 => Vec::new(),
        _ => request(size),
    }
}

/// Data for one callback; destroyed by [`destroy`].
pub(super) fn data() -> *mut c_void {
    ALIVE.fetch_add(1, Ordering::Relaxed);
    Box::into_raw(Box::new(7_u8)).cast()
}

pub(super) unsafe extern "C" fn destroy(data: *mut c_void) {
    use_data(data);
    // SAFETY: from `data()`, and destroyed once.
    drop(unsafe { Box::from_raw(data.cast::<u8>()) });
    // Release: pairs with the load in `World::drop`.
    ALIVE.fetch_sub(1, Ordering::Release);
}

pub(super) fn use_data(data: *mut c_void) {
    // SAFETY: from `data()`, and not destroyed as long as it is used.
    assert_eq!(unsafe { *data.cast::<u8>() }, 7);
}

unsafe extern "C" fn respond(data: *mut c_void, frame: *const zb_frame, responder: *mut zb_responder) {
    use_data(data);
    // SAFETY: the frame and the responder are valid during this call; a NULL is to be refused.
    unsafe {
        let bytes = bytes_of(&*frame);
        assert!(bytes == request(bytes.len()) && (*frame).sequence > 0, "the request is torn");
        let reply = |data: &[u8]| zb_responder_reply(responder, data.as_ptr(), data.len(), null_mut());
        match bytes.len() % 8 {
            5 => {
                zb_responder_fail(responder, c"as asked".as_ptr());
                assert_eq!(reply(bytes), ZB_ERROR_INVALID_STATE);
            }
            6 => assert_eq!(zb_responder_reply(responder, null(), 1, null_mut()), ZB_ERROR_INVALID_ARGUMENT),
            7 => {
                assert_eq!(reply(bytes), ZB_OK);
                assert_eq!(reply(b"again"), ZB_ERROR_INVALID_STATE);
            }
            _ if put_off::is_put_off(bytes.len()) => put_off::put_off(responder, bytes),
            _ => assert_eq!(reply(bytes), ZB_OK),
        }
    }
}

unsafe extern "C" fn change(data: *mut c_void, frame: *mut zb_frame, responder: *mut zb_responder) {
    use_data(data);
    // SAFETY: the frame and the responder are valid during this call, and no other code uses the request's
    // bytes.
    unsafe {
        let size = (*frame).size;
        let bytes = std::slice::from_raw_parts_mut(zb_frame_mutable_data(frame), size);
        assert!(bytes == request(size) && (*frame).sequence > 0, "the request is torn");
        bytes.iter_mut().for_each(|byte| *byte ^= 0x55);
        assert_eq!(zb_responder_reply(responder, null(), 0, null_mut()), ZB_ERROR_INVALID_STATE);
        if fails(size) {
            zb_responder_fail(responder, null());
        }
        zb_frame_release(frame);
    }
}

unsafe extern "C" fn told(data: *mut c_void, error: *const zb_error) {
    use_data(data);
    // SAFETY: the error is valid during this call.
    let code = unsafe { zb_error_code(error) };
    assert!(code < ZB_OK && code != ZB_ERROR_INTERNAL);
}

unsafe extern "C" fn introduced(data: *mut c_void, metadata: *const u8, size: usize) {
    use_data(data);
    // SAFETY: the metadata is valid during this call.
    let metadata = unsafe { std::slice::from_raw_parts(metadata, size) };
    assert_eq!(metadata, request(size), "the metadata is torn");
}

/// # Safety
///
/// The frame is not released.
unsafe fn bytes_of(frame: &zb_frame) -> &[u8] {
    assert!(!frame.data.is_null());
    // SAFETY: the caller promises that the frame is held, so its bytes are mapped and do not change.
    unsafe { std::slice::from_raw_parts(frame.data, frame.size) }
}

fn release((mut frame, expected): (zb_frame, Vec<u8>)) {
    // SAFETY: the frame is a response that is held, and this is its only copy. A second release finds nothing.
    unsafe {
        assert_eq!(bytes_of(&frame), expected, "response {} has changed", frame.sequence);
        assert!(zb_frame_mutable_data(&raw mut frame).is_null());
        zb_frame_release(&raw mut frame);
        zb_frame_release(&raw mut frame);
    }
    assert!(frame.data.is_null() && frame.size == 0);
}

impl World {
    fn new() -> World {
        World {
            channel: CString::new(format!("zbtest-fuzz-{}-d", std::process::id())).expect("no zero byte"),
            server: null_mut(),
            client: null_mut(),
            mutable: [false; 2],
            classic: false,
            clients: 0,
            acquired: None,
            sent: Vec::new(),
            held: Vec::new(),
        }
    }

    /// One call. `how` chooses among what is alike and leaves things out, `number` is a size or the like.
    fn step(&mut self, [what, how, number]: [u8; 3]) {
        let (server, client) = (self.server, self.client);
        let (odd, size) = (how & 1 != 0, usize::from(number));
        let mut error = null_mut();
        let place = if how & 2 == 0 { &raw mut error } else { null_mut() };
        let mut frame = empty_frame();
        let room = if how & 0x1c == 0x1c { null_mut() } else { &raw mut frame };
        // Long enough for an answer if a server is there to give one.
        // SAFETY: the server is live or NULL.
        let patience = i64::from(how >> 5) * if unsafe { zb_server_is_running(server) } { 4 } else { 0 };
        let mut sequence = 0;
        let bytes = request(size);
        let (data_at, data_size) = match how & 0x1c {
            0x18 => (null(), size),
            0x14 => (bytes.as_ptr(), usize::MAX),
            _ => (bytes.as_ptr(), size),
        };
        // SAFETY: by the rules for callers, which `World` keeps: handles are live or NULL, places are on this stack, and
        // bytes and sizes belong together, but for NULL and sizes that no memory has, which are to be refused.
        let status = unsafe {
            match what % 24 {
                0 if server.is_null() => self.create(how, number, place),
                1 | 2 => start(server, how, number, self.mutable[0], place),
                3 => zb_server_stop(server, place),
                4 => {
                    zb_server_free(std::mem::replace(&mut self.server, null_mut()));
                    ZB_OK
                }
                5 if client.is_null() => self.connect(how, number, place),
                6 => zb_client_set_metadata(client, data_at, data_size, place),
                7 | 8 => {
                    let status = if odd {
                        let within = i64::from(how >> 5) - 1;
                        zb_client_send_request_within(
                            client,
                            data_at,
                            data_size,
                            within,
                            &raw mut sequence,
                            place,
                        )
                    } else {
                        zb_client_send_request(client, data_at, data_size, &raw mut sequence, place)
                    };
                    self.sent(status, sequence, size)
                }
                9 => {
                    let mut at = null_mut();
                    let status =
                        zb_client_acquire_request_buffer(client, size, &raw mut sequence, &raw mut at, place);
                    assert_eq!(status == ZB_OK, !at.is_null());
                    if status == ZB_OK {
                        assert!(self.acquired.replace((at, size, sequence)).is_none(), "acquired twice");
                    }
                    status
                }
                10 => {
                    let filled = self.fill();
                    let status = zb_client_commit_request(client, &raw mut sequence, place);
                    if status == ZB_OK {
                        assert_eq!(filled.map(|(_, number)| number), Some(sequence), "another number");
                    }
                    self.sent(status, sequence, filled.map_or(0, |(size, _)| size))
                }
                11 => {
                    let status = zb_client_discard_request(client, place);
                    assert_eq!(status == ZB_OK, self.acquired.take().is_some());
                    status
                }
                12 => self.outcome(zb_client_receive_response(client, patience, room, place), frame, error),
                13 => {
                    let chosen = self.chosen(odd, number);
                    let status = zb_client_receive_response_to(client, chosen, patience, room, place);
                    assert!(status != ZB_OK || frame.sequence == chosen, "the response to another request");
                    self.outcome(status, frame, error)
                }
                14 => {
                    let status = zb_client_call(client, data_at, data_size, patience, room, place);
                    self.answered(status, frame, size)
                }
                15 => {
                    // Without room for the response, the request is still acquired.
                    let filled = self.fill().filter(|_| !room.is_null() || client.is_null());
                    let status = zb_client_call_acquired(client, patience, room, place);
                    if room.is_null() {
                        assert_eq!(status, ZB_ERROR_INVALID_ARGUMENT);
                        judge(status, error, !place.is_null());
                        return;
                    }
                    self.acquired = None;
                    self.answered(status, frame, filled.map_or(0, |(size, _)| size))
                }
                16 => {
                    let (chosen, mut was) = (self.chosen(odd, number), false);
                    let status = zb_client_cancel_request(client, chosen, &raw mut was, place);
                    let known = self.sent.iter().any(|(number, _)| *number == chosen);
                    assert!(!was || (status == ZB_OK && known), "cancelled a request that was not sent");
                    assert!(!client.is_null() || status == ZB_ERROR_INVALID_ARGUMENT);
                    status
                }
                17 if !self.held.is_empty() => {
                    release(self.held.swap_remove(size % self.held.len()));
                    ZB_OK
                }
                18 if odd => zb_client_close(client, place),
                18 => {
                    self.acquired = None;
                    self.sent.clear();
                    zb_client_free(std::mem::replace(&mut self.client, null_mut()));
                    ZB_OK
                }
                19 => ask(server, client, how, number, place),
                20..=22 => put_off::go_on(how, number, place),
                _ => ZB_OK,
            }
        };
        judge(status, error, !place.is_null());
    }

    /// # Safety
    ///
    /// `place` is NULL or a place for an error.
    unsafe fn create(&mut self, how: u8, number: u8, place: *mut *mut zb_error) -> zb_status {
        self.mutable[0] = how & 1 != 0;
        self.classic |= number & 8 != 0;
        let config = config(number);
        let (name, out) = (self.channel.as_ptr(), &raw mut self.server);
        // SAFETY: as for this function; the rest is live.
        let status = unsafe {
            let status = match how & 1 {
                0 => zb_server_create_immutable(name, config, out, place),
                _ => zb_server_create_mutable(name, config, out, place),
            };
            zb_config_free(config);
            status
        };
        assert_eq!(status == ZB_OK, !self.server.is_null());
        status
    }

    /// # Safety
    ///
    /// `place` is NULL or a place for an error.
    unsafe fn connect(&mut self, how: u8, number: u8, place: *mut *mut zb_error) -> zb_status {
        let name = if how & 0xfc == 0xfc { null() } else { self.channel.as_ptr() };
        let (config, options) = (config(number), zb_client_options_new());
        // SAFETY: this function's caller promises a live client; the other handles are live. No other process
        // makes room or a server.
        let status = unsafe {
            zb_client_options_set_connect_timeout(options, 0);
            zb_client_options_set_request_timeout(options, 0);
            zb_client_options_set_response_config(options, config);
            let status = zb_client_connect(name, options, &raw mut self.client, place);
            zb_client_options_free(options);
            zb_config_free(config);
            status
        };
        assert_eq!(status == ZB_OK, !self.client.is_null());
        self.mutable[1] = self.mutable[0];
        self.classic |= number & 8 != 0;
        self.clients += 1;
        status
    }

    /// A request that was sent without waiting.
    fn sent(&mut self, status: zb_status, sequence: u64, size: usize) -> zb_status {
        if status == ZB_OK {
            assert!(self.sent.iter().all(|(number, _)| *number < sequence), "a number was given twice");
            self.sent.push((sequence, size));
            self.acquired = None;
        }
        status
    }

    /// Fills what is acquired; gives its size and number.
    fn fill(&mut self) -> Option<(usize, u64)> {
        let (data, size, sequence) = self.acquired?;
        let bytes = request(size);
        // SAFETY: acquired, and neither committed nor discarded, by a client that is not freed.
        unsafe { data.copy_from_nonoverlapping(bytes.as_ptr(), size) };
        Some((size, sequence))
    }

    /// The number of a request, or any.
    fn chosen(&self, any: bool, number: u8) -> u64 {
        match self.sent.len() {
            count if count > 0 && !any => self.sent[usize::from(number) % count].0,
            _ => u64::from(number),
        }
    }

    /// The outcome of a request that was sent without waiting, the first and only one.
    fn outcome(&mut self, status: zb_status, frame: zb_frame, error: *mut zb_error) -> zb_status {
        let sequence = match status {
            ZB_OK => frame.sequence,
            // SAFETY: the error is live.
            ZB_ERROR_REQUEST_FAILED if !error.is_null() => unsafe { zb_error_sequence(error) },
            _ => return self.answered(status, frame, 0),
        };
        let at = self.sent.iter().position(|(number, _)| *number == sequence);
        assert!(at.is_some() || self.others_answers(), "the outcome of a request that has none to come");
        let size = at.map_or(0, |at| self.sent.remove(at).1);
        self.answered(status, frame, size)
    }

    /// Where no flags travel, an answer to an earlier client may go to the next one.
    fn others_answers(&self) -> bool {
        self.classic && self.clients > 1
    }

    fn answered(&mut self, status: zb_status, frame: zb_frame, size: usize) -> zb_status {
        assert_eq!(status == ZB_OK, !frame.data.is_null());
        if status == ZB_OK {
            // SAFETY: the frame has just come.
            let bytes = unsafe { bytes_of(&frame) }.to_vec();
            let expected = answer(size, self.mutable[1]);
            let nothing = self.classic && bytes == [0];
            let right = nothing || (bytes == expected && !fails(size));
            assert!(right || self.others_answers(), "{bytes:?} is not the response to {}", frame.sequence);
            assert!(frame.sequence > 0);
            self.held.push((frame, bytes));
            if self.held.len() > HELD {
                release(self.held.remove(0));
            }
        }
        status
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // SAFETY: each handle is live or NULL, and not used afterwards.
        unsafe {
            zb_client_free(self.client);
            zb_server_free(self.server);
        }
        put_off::end_all();
        // Responses outlive both.
        self.held.drain(..).for_each(release);
        // A handler that the machine has let wait ends by itself.
        let start = Instant::now();
        // Acquire: pairs with the decrement in `destroy`.
        while ALIVE.load(Ordering::Acquire) > 0 {
            assert!(start.elapsed() < Duration::from_secs(5), "user data is never destroyed");
            std::thread::sleep(Duration::from_millis(1));
        }
        let name = self.channel.to_str().expect("ours");
        for end in ["request", "response"] {
            let path = format!("/dev/shm/{name}_{end}");
            assert!(!std::path::Path::new(&path).exists(), "`{path}` is left behind");
        }
    }
}

/// A small buffer.
fn config(number: u8) -> *mut zb_config {
    let config = zb_config_new();
    // SAFETY: the config is live.
    unsafe {
        zb_config_set_payload_size(config, 256 + usize::from(number >> 4) * 64);
        zb_config_set_metadata_size(config, usize::from(number & 7) * 16);
        zb_config_set_classic(config, number & 8 != 0);
    }
    config
}

/// # Safety
///
/// The server is live or NULL, `place` is NULL or a place for an error.
unsafe fn start(
    server: *const zb_server,
    how: u8,
    number: u8,
    mutable: bool,
    place: *mut *mut zb_error,
) -> zb_status {
    let mode = i32::from(number % 5 % 3);
    let none = how & 0x1c == 0x1c;
    // The function of the other kind is to be refused.
    let other = how & 0x1c == 0x18;
    // SAFETY: as for this function; the handlers fit their data.
    unsafe {
        zb_server_set_pool_size(server, usize::from(number >> 6), null_mut());
        let status = if mutable != other {
            let handler: zb_mutable_handler = if none { None } else { Some(change) };
            zb_server_start_mutable(server, handler, mode, data(), Some(destroy), place)
        } else {
            let handler: zb_handler = if none { None } else { Some(respond) };
            zb_server_start(server, handler, mode, data(), Some(destroy), place)
        };
        assert!(status != ZB_OK || (!none && !other && mode < 2 && zb_server_is_running(server)));
        status
    }
}

/// Questions, and callbacks.
///
/// # Safety
///
/// The handles are live or NULL, `place` is NULL or a place for an error.
unsafe fn ask(
    server: *const zb_server,
    client: *const zb_client,
    how: u8,
    number: u8,
    place: *mut *mut zb_error,
) -> zb_status {
    let none = how & 0x1c == 0x1c;
    // SAFETY: as for this function; the callbacks fit their data.
    unsafe {
        match number & 3 {
            0 => {
                let callback: zb_error_callback = if none { None } else { Some(told) };
                zb_server_on_error(server, callback, data(), Some(destroy), place)
            }
            1 => {
                let callback: zb_init_callback = if none { None } else { Some(introduced) };
                zb_server_on_init(server, callback, data(), Some(destroy), place)
            }
            2 => zb_client_connect(null(), null(), null_mut(), place),
            _ => {
                let ended = zb_server_wait(server, i64::from(how >> 7), place);
                assert!(ended != ZB_OK || !zb_server_is_running(server));
                assert!(ended >= ZB_OK || server.is_null());
                assert_eq!(zb_client_max_request_size(client) > 0, !client.is_null());
                assert!(!client.is_null() || !zb_client_is_server_connected(client));
                assert!(!zb_server_channel(server).is_null() && !zb_client_channel(client).is_null());
                ended
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_order_of_duplex_calls_breaks_the_c_abi() {
        super::super::replay("c_duplex", 60, 240, super::duplex_calls);
    }
}
