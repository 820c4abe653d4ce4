//! Answers that a handler fills in place.

use zerobuffer::duplex::ResponseWriter;

use crate::arguments::{Out, handle_mut, passed};
use crate::error::{Failure, ZB_ERROR_INTERNAL, ZB_ERROR_INVALID_STATE, ZB_OK, zb_error, zb_status};
use crate::panic::{guarded_or, guarded_wait};
use crate::server::zb_responder;
use crate::writer::ZB_WHOLE_FRAME;

impl zb_responder {
    /// What writes the answer in place.
    fn response(&mut self) -> Result<&mut ResponseWriter<'static>, Failure> {
        let Some(responder) = self.open() else {
            let message = "the request has failed, or its changed bytes are the answer (mutable server)";
            return Err(Failure::new(ZB_ERROR_INVALID_STATE, "", message));
        };
        // SAFETY: zb_server_start pointed it at the responder of the handler that is running: the caller promises to use
        // `self` only until that handler returns, and on one thread at a time.
        Ok(unsafe { (*responder).response() })
    }
}

/// Lends `size` bytes for the answer, to be filled and committed. `data` gets the first of them; their content is undefined.
///
/// They are bytes of the response buffer where one thread runs all handlers and no answer is deferred; this then waits for
/// space for as long as the client lives. Elsewhere they are memory of the process, which the commit copies. They belong to the
/// handler until it commits or discards them, or returns. A handler that acquires bytes and then neither commits nor answers
/// otherwise fails its request.
///
/// Errors: `FRAME_TOO_LARGE` if the response buffer is too small; `OUT_OF_MEMORY`; `INVALID_STATE` if the request has been
/// answered, failed or deferred, bytes are acquired already, or the server is a mutable one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_responder_acquire(
    responder: *mut zb_responder,
    size: usize,
    data: *mut *mut u8,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let (answer, out) = passed!(handle_mut(responder, "responder")?, Out::new(data, "data")?);
        out.set(std::ptr::null_mut());
        let response = answer.response()?;
        response.acquire_buffer(size)?;
        match response.acquired() {
            Some(bytes) => out.set(bytes.as_mut_ptr()),
            None => return Err(Failure::new(ZB_ERROR_INTERNAL, "", "the bytes acquired are gone")),
        }
        Ok(ZB_OK)
    })
}

/// Answers the request with the first `size` bytes acquired; `ZB_WHOLE_FRAME` stands for all of them, and 0 answers with no
/// bytes. The server's error callback gets an error of sending.
///
/// Errors: `INVALID_STATE` if nothing is acquired; `INVALID_FRAME_SIZE` if fewer bytes are (they stay acquired).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_responder_commit(
    responder: *mut zb_responder,
    size: usize,
    error: *mut *mut zb_error,
) -> zb_status {
    guarded_wait!(error, {
        let answer = passed!(handle_mut(responder, "responder")?);
        answer.response()?.commit((size != ZB_WHOLE_FRAME).then_some(size))?;
        Ok(ZB_OK)
    })
}

/// Discards the bytes acquired, if any. The handler may acquire others, or answer by `zb_responder_reply`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn zb_responder_discard(responder: *mut zb_responder) {
    guarded_or((), || {
        if let Some(answer) = passed!(responder.as_mut())
            && let Ok(response) = answer.response()
        {
            response.discard();
        }
    });
}
