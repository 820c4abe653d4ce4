//! Answers that handlers put off: given, failed, watched and freed by later calls, in any order.

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::duplex::{data, destroy, request, use_data};
use crate::deferred::*;
use crate::error::*;
use crate::server::*;

/// An answer that is to come, and the bytes of its request.
struct PutOff {
    deferred: *mut zb_deferred,
    bytes: *const u8,
    size: usize,
}

// SAFETY: any thread may use a deferred answer, and the bytes are only read.
unsafe impl Send for PutOff {}

static PUT_OFF: Mutex<Vec<PutOff>> = Mutex::new(Vec::new());
/// Threads that answer: they wait for space in the response buffer, which the fuzzer's thread makes.
static ANSWERING: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

fn lock<T>(list: &'static Mutex<Vec<T>>) -> MutexGuard<'static, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a handler puts the answer to a request of this size off.
pub(super) fn is_put_off(size: usize) -> bool {
    size % 16 == 12
}

/// Puts an answer off, within its handler.
///
/// # Safety
///
/// The responder is that of the handler that is running, and `bytes` are its request's.
pub(super) unsafe fn put_off(responder: *mut zb_responder, bytes: &[u8]) {
    let (mut deferred, mut second) = (null_mut(), null_mut());
    // SAFETY: the caller promises that the responder is that of the running handler; the places are on this stack.
    unsafe {
        assert_eq!(zb_responder_defer(responder, &raw mut deferred, null_mut()), ZB_OK);
        assert_eq!(zb_responder_defer(responder, &raw mut second, null_mut()), ZB_ERROR_INVALID_STATE);
        let reply = zb_responder_reply(responder, bytes.as_ptr(), bytes.len(), null_mut());
        assert_eq!(reply, ZB_ERROR_INVALID_STATE);
    }
    assert!(!deferred.is_null() && second.is_null());
    lock(&PUT_OFF).push(PutOff { deferred, bytes: bytes.as_ptr(), size: bytes.len() });
}

unsafe extern "C" fn cancelled(data: *mut c_void) {
    use_data(data);
}

/// Ends an answer: gives it, fails it, or gives it up.
fn end(one: PutOff, how: u8) {
    let handle = one.deferred;
    // SAFETY: the handle is live, and freed here. The request's bytes are there until it has been answered.
    unsafe {
        let bytes = std::slice::from_raw_parts(one.bytes, one.size);
        assert_eq!(bytes, request(one.size), "the request has changed");
        match how & 3 {
            0 | 1 => assert_eq!(zb_deferred_reply(handle, one.bytes, one.size, null_mut()), ZB_OK),
            2 => assert_eq!(zb_deferred_fail(handle, c"as asked".as_ptr(), null_mut()), ZB_OK),
            _ => {}
        }
        if how & 3 != 3 {
            assert_eq!(zb_deferred_reply(handle, null(), 0, null_mut()), ZB_ERROR_INVALID_STATE);
            assert_eq!(zb_deferred_fail(handle, null(), null_mut()), ZB_ERROR_INVALID_STATE);
            assert!(!zb_deferred_is_cancelled(handle));
            let told = zb_deferred_on_cancel(handle, Some(cancelled), data(), Some(destroy), null_mut());
            assert_eq!(told, ZB_ERROR_INVALID_STATE);
        }
        zb_deferred_free(handle);
    }
}

/// One call about an answer that was put off.
///
/// # Safety
///
/// `place` is NULL or a place for an error.
pub(super) unsafe fn go_on(how: u8, number: u8, place: *mut *mut zb_error) -> zb_status {
    let mut list = lock(&PUT_OFF);
    let index = usize::from(number) % list.len().max(1);
    let Some(one) = list.get(index).filter(|_| how & 0x1c != 0x1c) else {
        drop(list);
        // SAFETY: NULL is to be refused; the callback fits its data.
        return unsafe {
            assert!(!zb_deferred_is_cancelled(null()));
            zb_deferred_free(null_mut());
            zb_deferred_on_cancel(null(), Some(cancelled), data(), Some(destroy), place)
        };
    };
    // SAFETY: the handle is live as long as it is in the list.
    unsafe {
        match how >> 5 {
            0..=3 => {
                let one = list.swap_remove(index);
                drop(list);
                lock(&ANSWERING).push(std::thread::spawn(move || end(one, how >> 5)));
                ZB_OK
            }
            4 => zb_deferred_reply(one.deferred, null(), 1, place),
            5 => {
                let _ = zb_deferred_is_cancelled(one.deferred);
                ZB_OK
            }
            _ => {
                let callback: zb_cancel_callback = if how & 1 == 0 { None } else { Some(cancelled) };
                let status = zb_deferred_on_cancel(one.deferred, callback, data(), Some(destroy), place);
                assert_eq!(status == ZB_OK, callback.is_some());
                status
            }
        }
    }
}

/// Ends what is left, once client and server are gone.
pub(super) fn end_all() {
    let left = std::mem::take(&mut *lock(&PUT_OFF));
    left.into_iter().enumerate().for_each(|(index, one)| end(one, index as u8));
    let threads = std::mem::take(&mut *lock(&ANSWERING));
    threads.into_iter().for_each(|thread| thread.join().expect("an answer goes well"));
}
