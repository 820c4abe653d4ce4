//! The client of a duplex channel.

use std::ffi::{CString, c_char};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, OnceLock};

use zerobuffer::duplex::{DuplexChannelFactory, DuplexClient, RequestBuffer, ThreadRequest};

use crate::arguments::{Out, bytes, handle, length_of, passed, set_if_wanted, string, timeout};
use crate::call::Calls;
use crate::config::{give, take, zb_client_options};
use crate::error::{Failure, ZB_ERROR_INVALID_STATE, ZB_OK, ZB_TIMEOUT, text, zb_error, zb_status};
use crate::frame::{Place, zb_frame};
use crate::panic::{guarded_or, guarded_wait};

/// The client of a duplex channel. Any thread may call any function at any time, until the client is freed.
///
/// Each request has exactly one outcome. `zb_client_call` sends a request and waits for its outcome.
/// `zb_client_receive_response` returns, in the order of arrival, the outcomes of requests that were sent by
/// other functions.
pub struct zb_client {
    /// The acquired request, which is dropped before the client. The core lends one at a time.
    acquired: ThreadRequest,
    pub(crate) client: DuplexClient,
    channel: CString,
    /// For an event loop, once it was asked for.
    fd: OnceLock<OwnedFd>,
    /// Its calls that have callbacks.
    pub(crate) calls: Arc<Calls>,
}

impl zb_client {
    /// The number of the descriptor, which is open as long as the handle.
    pub(crate) fn descriptor(&self) -> Result<RawFd, Failure> {
        if self.fd.get().is_none() {
            // Another thread may be faster; then its descriptor is the one.
            let _ = self.fd.set(self.client.descriptor()?);
        }
        Ok(self.fd.get().map_or(-1, AsRawFd::as_raw_fd))
    }

    /// The request that this thread has acquired.
    fn take_acquired(&self) -> Result<RequestBuffer, Failure> {
        self.acquired.take().ok_or_else(|| {
            let message = "this thread has not acquired a request buffer: acquire and commit on one thread";
            Failure::new(ZB_ERROR_INVALID_STATE, self.client.channel(), message)
        })
    }
}

/// Connects to the server of `channel`, and creates the response buffer. `options` may be NULL for all defaults. Free it with
/// `zb_client_free`.
///
/// Errors: `BUFFER_NOT_FOUND` if there is no server, `READER_DEAD` if it died, `WRITER_ALREADY_CONNECTED` if
/// it has a client; those of `zb_reader_create` and `zb_writer_connect`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_connect(
    channel: *const c_char,
    options: *const zb_client_options,
    client: *mut *mut zb_client,
    error: *mut *mut zb_error,
) -> zb_status {
    passed!(zb_client_connect_n(channel, length_of(channel), options, client, error))
}

/// Like `zb_client_connect`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_connect_n(
    channel: *const c_char,
    length: usize,
    options: *const zb_client_options,
    client: *mut *mut zb_client,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (out, channel, options) =
            passed!(Out::new(client, "client")?, string(channel, length, "channel")?, options.as_ref());
        out.set(std::ptr::null_mut());
        let options = options.map(|given| given.options.clone()).unwrap_or_default();
        let client = DuplexChannelFactory::new().create_client_with(channel, options)?;
        out.set(give(zb_client {
            acquired: ThreadRequest::default(),
            client,
            channel: text(channel),
            fd: OnceLock::new(),
            calls: Arc::default(),
        }));
        Ok(ZB_OK)
    })
}

/// The largest request, in bytes: the payload size of the request buffer less a header of 16 bytes. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_max_request_size(client: *const zb_client) -> usize {
    passed!(client.as_ref()).map_or(0, |client| client.client.max_request_size())
}

/// Describes this client to the server, whose `on_init` gets the bytes before the next request. At most once per client.
///
/// Errors: `METADATA_ALREADY_WRITTEN`, `METADATA_TOO_LARGE`; `CLOSED`, or the error that ended the channel.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_set_metadata(
    client: *const zb_client,
    data: *const u8,
    size: usize,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, data) = passed!(handle(client, "client")?, bytes(data, size)?);
        handle.client.set_metadata(data)?;
        Ok(ZB_OK)
    })
}

/// Copies `data` into the request buffer as one request. `sequence`, which may be NULL, gets its number. Its response is for
/// `zb_client_receive_response`. Waits for space up to the request time-out of the options.
///
/// Errors: `INVALID_FRAME_SIZE` (0 bytes), `FRAME_TOO_LARGE`, `BUFFER_FULL`, `OUT_OF_MEMORY`; `INVALID_STATE`
/// if this thread has acquired a request buffer; `READER_DEAD`, `WRITER_DEAD`, `CLOSED`, or another error
/// that ended the channel.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_send_request(
    client: *const zb_client,
    data: *const u8,
    size: usize,
    sequence: *mut u64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, data) = passed!(handle(client, "client")?, bytes(data, size)?);
        let number = handle.client.send_request(data)?;
        passed!(set_if_wanted(sequence, number));
        Ok(ZB_OK)
    })
}

/// Like `zb_client_send_request`, with a deadline `timeout_ms` from now. If the server has not started the
/// request by then, it does not start it, and the outcome is `DEADLINE_EXCEEDED`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_send_request_within(
    client: *const zb_client,
    data: *const u8,
    size: usize,
    timeout_ms: i64,
    sequence: *mut u64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, data) = passed!(handle(client, "client")?, bytes(data, size)?);
        let number = handle.client.send_request_within(data, timeout(timeout_ms))?;
        passed!(set_if_wanted(sequence, number));
        Ok(ZB_OK)
    })
}

/// Acquires `size` bytes of the request buffer, to be filled in place: `*data` gets the address of the first
/// byte, `*sequence` (may be NULL) the number that the request will have. Call `zb_client_commit_request`,
/// `zb_client_call_acquired` or `zb_client_discard_request` afterwards, on this thread. Other threads that
/// send wait meanwhile.
///
/// Errors: those of `zb_client_send_request`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_acquire_request_buffer(
    client: *const zb_client,
    size: usize,
    sequence: *mut u64,
    data: *mut *mut u8,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, out) = passed!(handle(client, "client")?, Out::new(data, "data")?);
        out.set(std::ptr::null_mut());
        let mut request = handle.client.acquire_request_buffer(size)?;
        passed!(set_if_wanted(sequence, request.sequence()));
        out.set(request.as_mut_ptr());
        handle.acquired.put(request);
        Ok(ZB_OK)
    })
}

/// Sends the request that this thread has acquired. `sequence`, which may be NULL, gets its number.
///
/// Errors: `INVALID_STATE` if this thread has acquired none; `CLOSED`, or the error that ended the channel
/// meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_commit_request(
    client: *const zb_client,
    sequence: *mut u64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let number = passed!(handle(client, "client")?).take_acquired()?.commit()?;
        passed!(set_if_wanted(sequence, number));
        Ok(ZB_OK)
    })
}

/// Sends the request that this thread has acquired, and waits up to `timeout_ms` for its response, like
/// `zb_client_call`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_call_acquired(
    client: *const zb_client,
    timeout_ms: i64,
    response: *mut zb_frame,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, place) = passed!(at(client, response)?);
        place.put_response(handle.take_acquired()?.call(timeout(timeout_ms))?);
        Ok(ZB_OK)
    })
}

/// Discards the request that this thread has acquired.
///
/// Errors: `INVALID_STATE` if this thread has acquired none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_discard_request(
    client: *const zb_client,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        drop(passed!(handle(client, "client")?).take_acquired()?);
        Ok(ZB_OK)
    })
}

/// Checks the client and the place for a response, and makes the place empty.
///
/// # Safety
///
/// Each pointer is NULL, or valid by the rules for callers.
unsafe fn at<'a>(
    client: *const zb_client,
    response: *mut zb_frame,
) -> Result<(&'a zb_client, Place), Failure> {
    // SAFETY: This function's caller promises of each pointer what the checks ask for.
    unsafe {
        let place = Place::empty(Out::new(response, "response")?.as_ptr());
        Ok((handle(client, "client")?, place))
    }
}

/// Waits up to `timeout_ms` for the next outcome that no other caller waits for, in the order of arrival.
/// Returns `ZB_OK` and a response; or `ZB_TIMEOUT` or an error, and an empty frame. The `data` of a response
/// of 0 bytes is not NULL.
///
/// Errors: about one request (`zb_error_sequence`): `REQUEST_FAILED`, `CANCELLED`, `DEADLINE_EXCEEDED`. About
/// the channel, from now on: `WRITER_DEAD` or `READER_DEAD` (the server died or stopped), `CLOSED`, or
/// another error that ended it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_receive_response(
    client: *const zb_client,
    timeout_ms: i64,
    response: *mut zb_frame,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, place) = passed!(at(client, response)?);
        let Some(response) = handle.client.receive_response(timeout(timeout_ms))? else {
            return Ok(ZB_TIMEOUT);
        };
        place.put_response(response);
        Ok(ZB_OK)
    })
}

/// Like `zb_client_receive_response`, for the outcome of one request.
///
/// Errors: those of `zb_client_receive_response`; `INVALID_STATE` if the request's outcome has been returned
/// already, or there was no such request.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_receive_response_to(
    client: *const zb_client,
    sequence: u64,
    timeout_ms: i64,
    response: *mut zb_frame,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, place) = passed!(at(client, response)?);
        let outcome = handle.client.receive_response_to(sequence, timeout(timeout_ms))?;
        let Some(response) = outcome else { return Ok(ZB_TIMEOUT) };
        place.put_response(response);
        Ok(ZB_OK)
    })
}

/// Sends a request and waits up to `timeout_ms` for its response, while other threads may send and receive.
///
/// Errors: `REQUEST_FAILED` with the handler's message, `DEADLINE_EXCEEDED`, `CANCELLED`; those of
/// `zb_client_send_request`, with `BUFFER_FULL` after `timeout_ms`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_call(
    client: *const zb_client,
    data: *const u8,
    size: usize,
    timeout_ms: i64,
    response: *mut zb_frame,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (handle, place) = passed!(at(client, response)?);
        let data = passed!(bytes(data, size)?);
        place.put_response(handle.client.call(data, timeout(timeout_ms))?);
        Ok(ZB_OK)
    })
}

/// Cancels a request: its outcome is `CANCELLED`, at once. `under_way`, which may be NULL, gets whether the
/// request was still under way.
///
/// Errors: the one that ended the channel.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_cancel_request(
    client: *const zb_client,
    sequence: u64,
    under_way: *mut bool,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let was = passed!(handle(client, "client")?).client.cancel_request(sequence)?;
        passed!(set_if_wanted(under_way, was));
        Ok(ZB_OK)
    })
}

/// Whether the server lives and reads requests; false for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_is_server_connected(client: *const zb_client) -> bool {
    guarded_or(false, || passed!(client.as_ref()).is_some_and(|handle| handle.client.is_server_connected()))
}

/// The channel's name; valid until the client is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_channel(client: *const zb_client) -> *const c_char {
    passed!(client.as_ref()).map_or(c"".as_ptr(), |handle| handle.channel.as_ptr())
}

/// Closes the client. Waiting calls of other threads get `CLOSED`. The channel is free for the next client.
/// Responses that are still held stay valid. The handle must still be freed. A second close does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_close(client: *const zb_client, error: *mut *mut zb_error) -> zb_status {
    guarded_wait!(error, {
        passed!(handle(client, "client")?).client.close();
        Ok(ZB_OK)
    })
}

/// Closes the client, if it is not closed, and frees it. No other thread may be using it. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_client_free(client: *mut zb_client) {
    passed!(take(client));
}
