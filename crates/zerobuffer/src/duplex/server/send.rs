//! The sending half of a server: answers go to the response buffer of one client at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Address, Answer};
use crate::buffer::InterruptHandle;
use crate::config::WriterOptions;
use crate::duplex::due;
use crate::duplex::port::Tag;
use crate::duplex::sync::{Mutex, MutexGuard, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::Frame;
use crate::reader::Reader;
use crate::sync::{AtomicBool, AtomicU64, Ordering};
use crate::testing::stop::stop_point;
use crate::wait::Deadline;
use crate::writer::Writer;

/// How long a server waits for the response buffer of a client that has sent a request.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);
const CLIENT_POLL: Duration = Duration::from_millis(1);
/// How long a server waits for the end of the other role of a client that died.
const DEATH_PATIENCE: Duration = Duration::from_millis(20);
/// A handler that has taken so many nanoseconds to fill its answer makes a look at the client worth while.
const LONG: u64 = 10_000_000;

/// The names of a channel and its buffers.
pub(crate) struct Names {
    pub(crate) channel: Box<str>,
    pub(crate) requests: Box<str>,
    pub(crate) responses: Box<str>,
}

/// Sends answers to the current client.
pub(crate) struct AnswerSender {
    names: Arc<Names>,
    stopping: AtomicBool,
    /// Number of the current client.
    client: AtomicU64,
    /// A client that has gone: its other requests are not started.
    gone: AtomicU64,
    /// The largest answer that the client's response buffer holds; 0 before there is one.
    largest: AtomicU64,
    /// Locked while an answer is sent, never while a handler runs.
    current: Mutex<Current>,
    interrupt: Mutex<Option<InterruptHandle>>,
}

/// The response buffer of the current client.
#[derive(Default)]
struct Current {
    client: u64,
    /// `None` while the client has none, and while a handler fills its answer in place.
    writer: Option<Box<Writer>>,
    order: Order,
}

/// For a client that needs responses in the order of its requests: the number of the next response, and the
/// early responses.
#[derive(Default)]
struct Order {
    next: u64,
    early: BTreeMap<u64, Vec<u8>>,
}

/// The response buffer's writer, taken out for an answer that its handler fills in place.
pub(crate) struct Lent {
    pub(crate) writer: Box<Writer>,
    /// The coarse clock at the acquire.
    since: u64,
}

impl AnswerSender {
    pub(crate) fn new(names: Arc<Names>) -> AnswerSender {
        AnswerSender {
            names,
            stopping: AtomicBool::new(false),
            client: AtomicU64::new(0),
            gone: AtomicU64::new(0),
            largest: AtomicU64::new(0),
            current: Mutex::default(),
            interrupt: Mutex::new(None),
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Gives up every answer that waits for space, and sends no others.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.interrupt();
    }

    /// Whether this client has gone.
    pub(crate) fn is_gone(&self, client: u64) -> bool {
        // Relaxed: a hint that saves work.
        self.gone.load(Ordering::Relaxed) == client
    }

    /// Takes the response buffer of another client, whose first request here is `first`. Returns the client's number.
    pub(crate) fn begin_client(&self, requests: &Reader, first: u64) -> (u64, Result<()>) {
        let (client, mut current) = self.next_client();
        current.order.next = first;
        // A predecessor that came and went without a request has left a dead reader; a 1.x client may keep
        // its reader.
        if current.writer.as_ref().is_some_and(|writer| !writer.is_reader_connected()) {
            current.writer = None;
        }
        if current.writer.is_some() {
            return (client, Ok(()));
        }
        let patience = Deadline::after(CLIENT_PATIENCE);
        let result = loop {
            match self.connect() {
                Ok(mut writer) => {
                    // So that the first response can refer to its request. Without an offer it is a copy.
                    let _ = writer.offer(requests);
                    self.largest.store(writer.max_frame_size() as u64, Ordering::Relaxed);
                    current.writer = Some(Box::new(writer));
                    break Ok(());
                }
                Err(error) => {
                    let later = matches!(
                        error.kind(),
                        ErrorKind::BufferNotFound | ErrorKind::ReaderDead | ErrorKind::WriterAlreadyConnected
                    );
                    if self.is_stopping() || !requests.writer_lives() {
                        // No client is left to answer.
                        self.gone.store(client, Ordering::Relaxed);
                        break Ok(());
                    }
                    if !later || !patience.pause(CLIENT_POLL) {
                        self.gone.store(client, Ordering::Relaxed);
                        break Err(error);
                    }
                }
            }
        };
        (client, result)
    }

    /// Gives up the response buffer, because the client has died. The kernel ends a killed process's roles one after the other, and
    /// only a writer that finds its reader dead removes what that left.
    pub(crate) fn end_dead_client(&self) {
        let current = lock(&self.current);
        if let Some(writer) = &current.writer {
            let patience = Deadline::after(DEATH_PATIENCE);
            while writer.is_reader_connected() && !self.is_stopping() && patience.pause(CLIENT_POLL) {}
        }
        drop(current);
        self.end_client();
    }

    /// Gives up the response buffer, because the client has gone.
    pub(crate) fn end_client(&self) {
        let (_, mut current) = self.next_client();
        current.writer = None;
        *lock(&self.interrupt) = None;
    }

    fn next_client(&self) -> (u64, MutexGuard<'_, Current>) {
        // Release pairs with the Acquire in is_over(): a thread that is interrupted sees the new number.
        let client = self.client.fetch_add(1, Ordering::AcqRel) + 1;
        self.interrupt();
        let mut current = lock(&self.current);
        current.client = client;
        current.order.early.clear();
        (client, current)
    }

    fn connect(&self) -> Result<Writer> {
        // A client that does not fetch its responses makes its server wait for as long as the client lives.
        let options = WriterOptions::default().write_timeout(Duration::MAX).request_payload_sharing(true);
        let writer = Writer::connect_with(&self.names.responses, options)?;
        *lock(&self.interrupt) = Some(writer.interrupt_handle());
        Ok(writer)
    }

    fn interrupt(&self) {
        if let Some(handle) = &*lock(&self.interrupt) {
            handle.interrupt();
        }
    }

    /// Sends an answer, if its client is still there.
    pub(crate) fn send(&self, to: Address, answer: &Answer<'_>) -> Result<()> {
        let mut current = lock(&self.current);
        let Current { client, writer, order } = &mut *current;
        if *client != to.client {
            return Ok(());
        }
        let Some(connected) = writer else { return Ok(()) };
        let result = if connected.carries_tags() {
            if matches!(answer, Answer::Withdrawn) {
                return Ok(());
            }
            let (flags, bytes) = answer.tagged();
            match answer {
                Answer::Frame(frame) => self.forward(connected, to, frame),
                _ => self.write(connected, to, flags, bytes),
            }
        } else {
            self.write_in_order(connected, to, answer.plain(), order)
        };
        match result {
            Err(error) if error.kind() == ErrorKind::ReaderDead => {
                // Closing this side removes the files that a dead client left.
                *writer = None;
                self.gone.store(to.client, Ordering::Relaxed);
                Ok(())
            }
            result => result,
        }
    }

    /// Writes responses in the order of the requests and leaves none out, because 1.x clients count them.
    fn write_in_order(
        &self,
        writer: &mut Writer,
        to: Address,
        bytes: &[u8],
        order: &mut Order,
    ) -> Result<()> {
        if to.sequence != order.next {
            // An answer that is too large fails now: it must not cost memory until its turn comes.
            let (bytes, result) = if bytes.len() > writer.max_frame_size() {
                (Answer::Withdrawn.plain(), Err(self.too_large(bytes.len())))
            } else {
                (bytes, Ok(()))
            };
            order.early.insert(to.sequence, bytes.to_vec());
            return result;
        }
        let result = self.write(writer, to, 0, bytes);
        result.and(self.write_early(writer, to, order))
    }

    /// A response was written whose turn it was: writes the early ones that come next.
    fn write_early(&self, writer: &mut Writer, to: Address, Order { next, early }: &mut Order) -> Result<()> {
        let mut result = Ok(());
        *next += 1;
        while let Some(bytes) = early.remove(next) {
            let written = self.write(writer, Address { sequence: *next, ..to }, 0, &bytes);
            result = result.and(written);
            *next += 1;
        }
        result
    }

    fn write(&self, writer: &mut Writer, to: Address, flags: u16, bytes: &[u8]) -> Result<()> {
        let tag = Tag { sequence: Some(to.sequence), flags, deadline: to.mark };
        let written = self.persist(writer, to, bytes, tag);
        self.or_fail(writer, to, tag, written, bytes.len())
    }

    /// Writes a response with the bytes of `frame`, which it refers to where it can.
    fn forward(&self, writer: &mut Writer, to: Address, frame: &Frame) -> Result<()> {
        let tag = Tag { sequence: Some(to.sequence), flags: 0, deadline: to.mark };
        let written = self.repeat(to, || writer.forward_tagged(frame, tag));
        self.or_fail(writer, to, tag, written, frame.len())
    }

    /// Fails the request where its answer, of `len` bytes, could not be `written`.
    fn or_fail(
        &self,
        writer: &mut Writer,
        to: Address,
        tag: Tag,
        written: Result<()>,
        len: usize,
    ) -> Result<()> {
        let error = match written {
            Err(error) if !matches!(error.kind(), ErrorKind::ReaderDead | ErrorKind::CorruptBuffer) => error,
            result => return result,
        };
        // Too large, or no memory for it: the client must not wait in vain.
        let error = match error.kind() {
            ErrorKind::FrameTooLarge => self.too_large(len),
            kind => {
                let words = format!("its answer could not be sent: {}", error.message());
                Error::channel(kind, &self.names.channel, words)
            }
        };
        let instead = Answer::Failed(error.message().into());
        let (flags, bytes) = if writer.carries_tags() { instead.tagged() } else { (0, instead.plain()) };
        let len = bytes.len().min(writer.max_frame_size());
        self.persist(writer, to, &bytes[..len], Tag { flags, ..tag })?;
        Err(error)
    }

    /// Acquires `len` bytes of the response buffer for an answer that its handler fills in place, and takes the writer out.
    /// Waits for space for as long as the client lives. Returns `None` if the answer has no place there: its client has gone,
    /// the server is being stopped, or it is not the answer's turn.
    ///
    /// No other answer can be sent until the writer is back, by [`AnswerSender::commit`] or [`AnswerSender::put_back`].
    pub(crate) fn acquire(&self, to: Address, len: usize) -> Result<Option<Lent>> {
        let Some(mut writer) = self.take_writer(to) else { return Ok(None) };
        let tag = Tag { deadline: to.mark, ..Tag::default() };
        let error = loop {
            if self.is_over(to) {
                self.put_back(to, writer);
                return Ok(None);
            }
            let since = due::coarse_now();
            match writer.acquire_tagged_at(len, &tag, since) {
                Ok(()) => {
                    stop_point!("answer:acquired");
                    return Ok(Some(Lent { writer, since }));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break error,
            }
        };
        if error.kind() == ErrorKind::ReaderDead {
            self.gone.store(to.client, Ordering::Relaxed);
            // Closing this side removes the files that a dead client left.
            drop(writer);
            return Ok(None);
        }
        self.put_back(to, writer);
        Err(match error.kind() {
            ErrorKind::FrameTooLarge => self.too_large(len),
            kind => {
                let words = format!("there is no place for its answer: {}", error.message());
                Error::channel(kind, &self.names.channel, words)
            }
        })
    }

    /// Sends the first `len` bytes of what was acquired, and puts the writer back.
    pub(crate) fn commit(&self, to: Address, Lent { mut writer, since }: Lent, len: usize) -> Result<()> {
        let mut tag = Tag { sequence: Some(to.sequence), flags: 0, deadline: to.mark };
        if len == 0 {
            // A frame has at least one byte.
            (tag.flags, _) = Answer::Bytes([][..].into()).tagged();
            writer.acquired().and_then(<[u8]>::first_mut).into_iter().for_each(|byte| *byte = 0);
        }
        let result = loop {
            if self.is_over(to) {
                break Ok(());
            }
            stop_point!("answer:commit");
            match writer.commit_tagged(Some(len.max(1)), tag) {
                Ok(_) => break Ok(()),
                // The bytes are still acquired.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        let Err(error) = result else {
            // A commit does not notice that the client died while a long handler filled the bytes.
            let is_long = due::coarse_now().saturating_sub(since) >= LONG;
            if is_long && !writer.is_reader_connected() {
                self.gone.store(to.client, Ordering::Relaxed);
            }
            return self.restore(to, writer, true);
        };
        self.put_back(to, writer);
        if error.kind() == ErrorKind::ReaderDead {
            return Ok(());
        }
        // The client must not wait in vain.
        let words = format!("its answer could not be sent: {}", error.message());
        let error = Error::channel(error.kind(), &self.names.channel, words);
        self.send(to, &Answer::Failed(error.message().into()))?;
        Err(error)
    }

    /// Discards what was acquired, if anything was, and puts the writer back.
    pub(crate) fn put_back(&self, to: Address, writer: Box<Writer>) {
        let _ = self.restore(to, writer, false);
    }

    fn restore(&self, to: Address, mut writer: Box<Writer>, answered: bool) -> Result<()> {
        writer.discard_frame();
        let mut current = lock(&self.current);
        if current.client != to.client || self.is_stopping() {
            // A stop has taken it for given up.
            drop(current);
            drop(writer);
            return Ok(());
        }
        let result = if answered && !writer.carries_tags() {
            self.write_early(&mut writer, to, &mut current.order)
        } else {
            Ok(())
        };
        current.writer = Some(writer);
        result
    }

    /// Takes the writer out, if the answer may be written now.
    fn take_writer(&self, to: Address) -> Option<Box<Writer>> {
        let mut current = lock(&self.current);
        let Current { client, writer, order } = &mut *current;
        let is_next = writer.as_ref()?.carries_tags() || order.next == to.sequence;
        if *client == to.client && is_next { writer.take() } else { None }
    }

    /// Fails if an answer of `len` bytes is known to be too large.
    pub(crate) fn check_size(&self, len: usize) -> Result<()> {
        // Relaxed: it was stored before the client's first request was passed on.
        let largest = self.largest.load(Ordering::Relaxed);
        if largest > 0 && len as u64 > largest { Err(self.too_large(len)) } else { Ok(()) }
    }

    /// Whether no answer to this client is to be sent any more.
    fn is_over(&self, to: Address) -> bool {
        // Acquire pairs with the AcqRel in next_client(): a thread that is interrupted sees the new number.
        self.is_stopping() || self.client.load(Ordering::Acquire) != to.client
    }

    fn too_large(&self, len: usize) -> Error {
        let words = format!(
            "its answer of {len} bytes is too large for the response buffer: the client must create that with a larger \
             payload size (its response_config)"
        );
        Error::channel(ErrorKind::FrameTooLarge, &self.names.channel, words)
    }

    fn persist(&self, writer: &mut Writer, to: Address, bytes: &[u8], tag: Tag) -> Result<()> {
        // The clock is read again: the handler may have taken long, and the client may have died meanwhile.
        self.repeat(to, || writer.write_tagged(bytes, tag, due::coarse_now()))
    }

    /// Writes, and repeats after each interrupt that was not meant to end the write.
    fn repeat<T>(&self, to: Address, mut write: impl FnMut() -> Result<T>) -> Result<()> {
        loop {
            // Another answer may have taken the interrupt that was meant for all answers that wait for space.
            // The two words are changed before the interrupt, so this check finds the change.
            if self.is_over(to) {
                return Ok(());
            }
            match write() {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
