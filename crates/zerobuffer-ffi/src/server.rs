//! The servers of duplex channels, and the objects that their handlers get.

use std::ffi::{CString, c_char, c_void};

use zerobuffer::duplex::{
    Deferred, DuplexChannelFactory, HandlerError, ImmutableDuplexServer, MAX_POOL_SIZE, MutableDuplexServer,
    ProcessingMode, Responder,
};

use crate::arguments::{Out, bytes, handle, handle_mut, length_of, passed, string, timeout};
use crate::callback::{UserData, zb_destroy};
use crate::config::{config_or_default, give, take, zb_config};
use crate::error::{
    Failure, ZB_ERROR_INVALID_CONFIG, ZB_ERROR_INVALID_STATE, ZB_OK, ZB_TIMEOUT, text, zb_error, zb_status,
};
use crate::frame::{of_mutable_request, of_request, zb_frame};
use crate::panic::{guarded_or, guarded_wait};

/// How a server runs its handler.
pub type zb_processing_mode = i32;
/// One request after the other, on the thread that reads the request buffer. The default.
pub const ZB_SINGLE_THREAD: zb_processing_mode = 0;
/// Several requests at once; responses may overtake each other.
pub const ZB_THREAD_POOL: zb_processing_mode = 1;

/// The server of a duplex channel, of one of two kinds. Any thread may call any function at any time, until
/// it is freed. It outlives its clients: when a client closes or dies, the next one can connect.
pub struct zb_server {
    kind: Kind,
    channel: CString,
}

enum Kind {
    Immutable(ImmutableDuplexServer),
    Mutable(MutableDuplexServer),
}

/// Calls a method that both kinds have.
macro_rules! either {
    ($server:expr, $inner:ident => $call:expr) => {
        match &$server.kind {
            Kind::Immutable($inner) => $call,
            Kind::Mutable($inner) => $call,
        }
    };
}

/// Takes a handler's answer, for the time of its call.
pub struct zb_responder {
    /// `None` in a mutable server: the changed request is the answer.
    responder: Option<*mut Responder<'static>>,
    failure: Option<String>,
}

/// Handles a request, on a thread of the server: answers by `zb_responder_reply`, or by `zb_responder_acquire` and
/// `zb_responder_commit`, or fails by `zb_responder_fail`, once. Doing none of these answers with 0 bytes. `request` and `responder` are valid during the call. Must not unwind.
pub type zb_handler = Option<
    unsafe extern "C" fn(user_data: *mut c_void, request: *const zb_frame, responder: *mut zb_responder),
>;

/// Changes a request in place (`zb_frame_mutable_data`), on a thread of the server. The changed bytes are the
/// response. May fail by `zb_responder_fail`. `request` and `responder` are valid during the call. Must not
/// unwind.
pub type zb_mutable_handler = Option<
    unsafe extern "C" fn(user_data: *mut c_void, request: *mut zb_frame, responder: *mut zb_responder),
>;

/// Gets an error, on a thread of the server. The error is valid during the call; the callback must not free
/// it. Must not unwind.
pub type zb_error_callback = Option<unsafe extern "C" fn(user_data: *mut c_void, error: *const zb_error)>;

/// Gets a client's metadata, on a thread of the server, before its next request is handled. Must not unwind.
pub type zb_init_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, metadata: *const u8, size: usize)>;

fn mode_of(number: zb_processing_mode) -> Result<ProcessingMode, Failure> {
    match number {
        ZB_SINGLE_THREAD => Ok(ProcessingMode::SingleThread),
        ZB_THREAD_POOL => Ok(ProcessingMode::ThreadPool),
        other => Err(Failure::argument(format!("there is no processing mode {other}"))),
    }
}

/// Creates the request buffer of `channel` and its server, whose handler reads each request and answers with
/// its own bytes. `config` may be NULL for all defaults. Free it with `zb_server_free`.
///
/// Errors: those of `zb_reader_create`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_server_create_immutable(
    channel: *const c_char,
    config: *const zb_config,
    server: *mut *mut zb_server,
    error: *mut *mut zb_error,
) -> zb_status {
    passed!(zb_server_create_immutable_n(channel, length_of(channel), config, server, error))
}

/// Like `zb_server_create_immutable`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_server_create_immutable_n(
    channel: *const c_char,
    length: usize,
    config: *const zb_config,
    server: *mut *mut zb_server,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (out, channel, config) = passed!(
            Out::new(server, "server")?,
            string(channel, length, "channel")?,
            config_or_default(config)
        );
        out.set(std::ptr::null_mut());
        let kind = Kind::Immutable(DuplexChannelFactory::new().create_immutable_server(channel, config)?);
        out.set(give(zb_server { kind, channel: text(channel) }));
        Ok(ZB_OK)
    })
}

/// Like `zb_server_create_immutable`, for a server whose handler changes each request in place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_server_create_mutable(
    channel: *const c_char,
    config: *const zb_config,
    server: *mut *mut zb_server,
    error: *mut *mut zb_error,
) -> zb_status {
    passed!(zb_server_create_mutable_n(channel, length_of(channel), config, server, error))
}

/// Like `zb_server_create_mutable`, for a name of `length` bytes that need not end with a zero byte, and in which a zero byte is refused.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_server_create_mutable_n(
    channel: *const c_char,
    length: usize,
    config: *const zb_config,
    server: *mut *mut zb_server,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (out, channel, config) = passed!(
            Out::new(server, "server")?,
            string(channel, length, "channel")?,
            config_or_default(config)
        );
        out.set(std::ptr::null_mut());
        let kind = Kind::Mutable(DuplexChannelFactory::new().create_mutable_server(channel, config)?);
        out.set(give(zb_server { kind, channel: text(channel) }));
        Ok(ZB_OK)
    })
}

/// Starts processing, on threads of the server, and returns at once. `destroy`, which may be NULL, is called
/// with `user_data` when the handler is not used any more, or when this function fails.
///
/// Errors: `INVALID_STATE` if it runs, or is a mutable server; `SYSTEM`; after a stop, those of
/// `zb_reader_create`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_server_start(
    server: *const zb_server,
    handler: zb_handler,
    mode: zb_processing_mode,
    user_data: *mut c_void,
    destroy: zb_destroy,
    error: *mut *mut zb_error,
) -> zb_status {
    let data = UserData::new(user_data, destroy);
    guarded_wait!(error, {
        let server = passed!(handle(server, "server")?);
        let handler = handler.ok_or_else(|| Failure::argument("the handler is NULL"))?;
        let Kind::Immutable(immutable) = &server.kind else { return Err(other_kind(server, "mutable")) };
        let run = move |request: &_, responder: &mut Responder<'_>| {
            let frame = of_request(request);
            let responder = (&raw mut *responder).cast::<Responder<'static>>();
            let mut answer = zb_responder { responder: Some(responder), failure: None };
            // SAFETY: The caller of zb_server_start promises that the handler fits its user data, which `data` keeps alive, and
            // that it uses `frame` and `answer` until it returns and no longer; both live on this stack until then.
            unsafe { handler(data.get(), &raw const frame, &raw mut answer) };
            answer.outcome()
        };
        immutable.start_responding(run, mode_of(mode)?)?;
        Ok(ZB_OK)
    })
}

/// Like `zb_server_start`, for a mutable server.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_server_start_mutable(
    server: *const zb_server,
    handler: zb_mutable_handler,
    mode: zb_processing_mode,
    user_data: *mut c_void,
    destroy: zb_destroy,
    error: *mut *mut zb_error,
) -> zb_status {
    let data = UserData::new(user_data, destroy);
    guarded_wait!(error, {
        let server = passed!(handle(server, "server")?);
        let handler = handler.ok_or_else(|| Failure::argument("the handler is NULL"))?;
        let Kind::Mutable(mutable) = &server.kind else { return Err(other_kind(server, "immutable")) };
        let run = move |request: &mut _| {
            let mut frame = of_mutable_request(request);
            let mut answer = zb_responder { responder: None, failure: None };
            // SAFETY: The caller of zb_server_start_mutable promises that the handler fits its user data, which `data` keeps
            // alive, and that it uses `frame` and `answer` until it returns and no longer. Nothing else touches `request`
            // meanwhile.
            unsafe { handler(data.get(), &raw mut frame, &raw mut answer) };
            answer.outcome()
        };
        mutable.start(run, mode_of(mode)?)?;
        Ok(ZB_OK)
    })
}

#[cold]
fn other_kind(server: &zb_server, kind: &str) -> Failure {
    let message = format!(
        "this is the server of a channel of the other kind ({kind}): start it with the other function"
    );
    Failure::new(ZB_ERROR_INVALID_STATE, &server.channel.to_string_lossy(), message)
}

impl zb_responder {
    /// What takes the answer, unless the request has failed.
    pub(crate) fn open(&self) -> Option<*mut Responder<'static>> {
        self.responder.filter(|_| self.failure.is_none())
    }

    /// Defers the answer.
    pub(crate) fn defer(&mut self) -> Result<Deferred, Failure> {
        let Some(responder) = self.open() else {
            let message = "the request has failed, or its changed bytes are the answer (mutable server)";
            return Err(Failure::new(ZB_ERROR_INVALID_STATE, "", message));
        };
        // SAFETY: zb_server_start pointed it at the responder of the handler that is running: the caller promises to use
        // `self` only until that handler returns, and on one thread at a time.
        Ok(unsafe { (*responder).defer() }?)
    }

    fn outcome(self) -> Result<(), HandlerError> {
        self.failure.map_or(Ok(()), |message| Err(message.into()))
    }
}

/// Answers the request with a copy of `data`, made at once in the response buffer; the caller may free the
/// bytes when this returns. The server's error callback gets an error of sending.
///
/// Errors: `INVALID_STATE` if the request has been answered or failed, bytes are acquired for its answer, or the server is a
/// mutable one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_responder_reply(
    responder: *mut zb_responder,
    data: *const u8,
    size: usize,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (answer, data) = passed!(handle_mut(responder, "responder")?, bytes(data, size)?);
        let Some(responder) = answer.open() else {
            let message = "the request has failed, or its changed bytes are the answer (mutable server)";
            return Err(Failure::new(ZB_ERROR_INVALID_STATE, "", message));
        };
        // SAFETY: zb_server_start pointed it at the responder of the handler that is running: the caller promises to use
        // `responder` only until that handler returns, and on one thread at a time.
        unsafe { (*responder).reply(data) }?;
        Ok(ZB_OK)
    })
}

/// Fails this request only: the client gets `REQUEST_FAILED` with this message. Bytes that are not UTF-8 are
/// replaced. After a reply it has no effect on the client, but the server's error callback gets the error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_responder_fail(responder: *mut zb_responder, message: *const c_char) {
    guarded_or((), || {
        if let Some(answer) = passed!(responder.as_mut()) {
            let words = passed!(bytes(message.cast(), length_of(message)));
            answer.failure = Some(failure_words(words.unwrap_or_default()));
        }
    });
}

/// A handler's message about its failure, as UTF-8.
pub(crate) fn failure_words(bytes: &[u8]) -> String {
    match bytes {
        [] => String::from("the handler failed"),
        words => String::from_utf8_lossy(words).into_owned(),
    }
}

/// Sets a function that is called when a handler fails, an answer cannot be sent, a client dies, or the request
/// buffer had to be created again. Before or during a run. `destroy`, which may be NULL, is called with `user_data` when
/// the callback is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_server_on_error(
    server: *const zb_server,
    callback: zb_error_callback,
    user_data: *mut c_void,
    destroy: zb_destroy,
    error: *mut *mut zb_error,
) -> zb_status {
    let data = UserData::new(user_data, destroy);
    guarded_wait!(error, {
        let server = passed!(handle(server, "server")?);
        let callback = callback.ok_or_else(|| Failure::argument("the callback is NULL"))?;
        let tell = move |error: &zerobuffer::Error| {
            let error = zb_error::from(error);
            // SAFETY: The caller who set the callback promises that it fits its user data, which `data` keeps alive.
            unsafe { callback(data.get(), &raw const error) };
        };
        either!(server, inner => inner.on_error(tell));
        Ok(ZB_OK)
    })
}

/// Sets a function that is called with the metadata of each client that sets some. Before or during a run.
/// `destroy`, which may be NULL, is called with `user_data` when the callback is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_server_on_init(
    server: *const zb_server,
    callback: zb_init_callback,
    user_data: *mut c_void,
    destroy: zb_destroy,
    error: *mut *mut zb_error,
) -> zb_status {
    let data = UserData::new(user_data, destroy);
    guarded_wait!(error, {
        let server = passed!(handle(server, "server")?);
        let callback = callback.ok_or_else(|| Failure::argument("the callback is NULL"))?;
        let tell = move |metadata: &[u8]| {
            // SAFETY: The caller who set the callback promises that it fits its user data, which `data` keeps alive.
            unsafe { callback(data.get(), metadata.as_ptr(), metadata.len()) };
        };
        either!(server, inner => inner.on_init(tell));
        Ok(ZB_OK)
    })
}

/// Sets the number of threads of `ZB_THREAD_POOL`, for the next start: 1 to 1024, where 0 counts as 1. If it is never set there is
/// one thread for each processor, and two at least.
///
/// Errors: `INVALID_CONFIG` for more than 1024.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_server_set_pool_size(
    server: *const zb_server,
    threads: usize,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let server = passed!(handle(server, "server")?);
        if threads > MAX_POOL_SIZE {
            let message = format!("{threads} threads are no size for a pool: it takes 1 to {MAX_POOL_SIZE}");
            return Err(Failure::new(ZB_ERROR_INVALID_CONFIG, &server.channel.to_string_lossy(), message));
        }
        either!(server, inner => inner.set_pool_size(threads));
        Ok(ZB_OK)
    })
}

/// Stops the server: clients learn of it at once, and both buffers' names are free. It can be started again.
///
/// Errors: `HANDLER_BUSY` if a handler is still running after 80 ms. `zb_frame_is_cancelled` tells the
/// handler, and its answer is dropped. When it returns, its thread ends and its user data is destroyed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_server_stop(server: *const zb_server, error: *mut *mut zb_error) -> zb_status {
    guarded_wait!(error, {
        let server = passed!(handle(server, "server")?);
        either!(server, inner => inner.stop())?;
        Ok(ZB_OK)
    })
}

/// Waits up to `timeout_ms` until the server no longer runs, and its handlers have ended: another thread has stopped it, or it has
/// ended by itself (the error callback is told why). `ZB_OK` if that is so, at once if it was not started; `ZB_TIMEOUT` if not, at
/// once on a thread of the server, which cannot wait for itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_server_wait(
    server: *const zb_server,
    timeout_ms: i64,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let server = passed!(handle(server, "server")?);
        let ended = either!(server, inner => inner.wait(timeout(timeout_ms)));
        Ok(if ended { ZB_OK } else { ZB_TIMEOUT })
    })
}

/// Whether requests are being processed; false for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_server_is_running(server: *const zb_server) -> bool {
    guarded_or(false, || {
        passed!(server.as_ref()).is_some_and(|server| either!(server, inner => inner.is_running()))
    })
}

/// The channel's name; valid until the server is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_server_channel(server: *const zb_server) -> *const c_char {
    passed!(server.as_ref()).map_or(c"".as_ptr(), |server| server.channel.as_ptr())
}

/// Stops the server, if it runs, and frees it. No other thread may be using it. NULL is fine.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_server_free(server: *mut zb_server) {
    passed!(take(server));
}
