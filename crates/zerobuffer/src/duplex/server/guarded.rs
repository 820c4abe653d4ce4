//! Handlers may fail and panic; their requests are answered all the same.

use super::answer::{Address, Answer};
use super::run::Run;
use crate::duplex::HandlerError;

/// Runs a handler. Its failure, or panic, becomes an answer.
pub(super) fn guarded<T>(
    run: &Run,
    to: Address,
    handler: impl FnOnce() -> std::result::Result<T, HandlerError>,
) -> std::result::Result<T, Answer<'static>> {
    // Formatting the error and dropping it run user code too.
    let message = match run.guard(|| handler().map_err(|error| error.to_string())) {
        Ok(Ok(reply)) => return Ok(reply),
        Ok(Err(words)) | Err(words) => words,
    };
    run.report_failure(to.sequence, &message);
    Err(Answer::Failed(message.into()))
}

/// Runs a handler that owns its request, and sends its answer.
pub(super) fn answer_owned<R: AsRef<[u8]>>(
    run: &Run,
    to: Address,
    handler: impl FnOnce() -> std::result::Result<R, HandlerError>,
) {
    let reply = match guarded(run, to, handler) {
        Ok(reply) => reply,
        Err(failed) => return run.answer(to, &failed),
    };
    // Reading the owner's bytes and dropping it run user code too.
    let mut answered = false;
    let sent = run.guard(|| {
        let bytes = reply.as_ref();
        answered = true;
        run.answer(to, &Answer::Bytes(bytes.into()));
        drop(reply);
    });
    if let Err(words) = sent {
        run.report_failure(to.sequence, &words);
        if !answered {
            run.answer(to, &Answer::Failed(words.into()));
        }
    }
}
