//! The sending half of a server: one client's response buffer at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::lock;
use super::run::Run;
use crate::config::WriterOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::os;
use crate::reader::Reader;
use crate::ring::{Tag, flags};
use crate::sync::Ordering;
use crate::writer::Writer;

/// How long a server waits for the response buffer of a client that has sent a request.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);
const CLIENT_POLL: Duration = Duration::from_millis(1);

/// Longest message of a failure that travels.
const MESSAGE_MAX: usize = 64 << 10;

/// What stands for "no bytes": a frame has at least one.
const NOTHING: &[u8] = &[0];

/// What became of a request.
pub(crate) enum Answer<'a> {
    Bytes(Cow<'a, [u8]>),
    Failed(Cow<'a, str>),
    /// Not started: its deadline was over.
    TooLate,
    /// Not started, and nobody waits. Sent only where responses are counted.
    Withdrawn,
}

/// Which request an answer is to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    /// Number of the client, counted by the server.
    pub(crate) client: u64,
    pub(crate) sequence: u64,
    /// The request's deadline word, which its response repeats.
    pub(crate) mark: u64,
}

/// The response buffer of the current client.
#[derive(Default)]
pub(crate) struct Responses {
    client: u64,
    writer: Option<Writer>,
    /// Towards a client that wants them in order: the next one's number, and those that are early.
    next: u64,
    early: BTreeMap<u64, Vec<u8>>,
}

impl Answer<'_> {
    /// Flags and bytes, for a ring with tags.
    fn tagged(&self) -> (u16, &[u8]) {
        match self {
            Answer::Bytes(bytes) if bytes.is_empty() => (flags::EMPTY, NOTHING),
            Answer::Bytes(bytes) => (0, bytes),
            Answer::Failed(message) if message.is_empty() => (flags::FAILED | flags::EMPTY, NOTHING),
            Answer::Failed(message) => (flags::FAILED, &message.as_bytes()[..message.len().min(MESSAGE_MAX)]),
            Answer::TooLate | Answer::Withdrawn => (flags::FAILED | flags::CANCELLED, NOTHING),
        }
    }

    /// Bytes, where nothing else travels.
    fn plain(&self) -> &[u8] {
        match self {
            Answer::Bytes(bytes) if !bytes.is_empty() => bytes,
            _ => NOTHING,
        }
    }
}

impl Run {
    /// A request of another client has come, its `first` for us: takes its response buffer. Gives the client's number.
    pub(crate) fn begin_client(&self, requests: &Reader, first: u64) -> (u64, Result<()>) {
        let (client, mut responses) = self.next_client();
        responses.next = first;
        // The reader of a predecessor that came and went without a request is dead; 1.x clients may keep theirs.
        if responses.writer.as_ref().is_some_and(|writer| !writer.is_reader_connected()) {
            responses.writer = None;
        }
        if responses.writer.is_some() {
            return (client, Ok(()));
        }
        let start = Instant::now();
        let result = loop {
            match self.connect() {
                Ok(writer) => {
                    responses.writer = Some(writer);
                    break Ok(());
                }
                Err(error) => {
                    let later = matches!(
                        error.kind(),
                        ErrorKind::BufferNotFound | ErrorKind::ReaderDead | ErrorKind::WriterAlreadyConnected
                    );
                    if self.is_stopping() || !requests.writer_lives() {
                        // Nobody is there to answer to.
                        self.gone.store(client, Ordering::Relaxed);
                        break Ok(());
                    }
                    if !later || start.elapsed() > CLIENT_PATIENCE {
                        self.gone.store(client, Ordering::Relaxed);
                        break Err(error);
                    }
                    std::thread::sleep(CLIENT_POLL);
                }
            }
        };
        (client, result)
    }

    /// The client has gone.
    pub(crate) fn end_client(&self) {
        let (_, mut responses) = self.next_client();
        responses.writer = None;
        *lock(&self.responses_interrupt) = None;
    }

    fn next_client(&self) -> (u64, std::sync::MutexGuard<'_, Responses>) {
        // Release pairs with the Acquire in persist(): who is interrupted sees the new number.
        let client = self.client.fetch_add(1, Ordering::AcqRel) + 1;
        self.interrupt_responses();
        let mut responses = lock(&self.responses);
        responses.client = client;
        responses.early.clear();
        (client, responses)
    }

    fn connect(&self) -> Result<Writer> {
        // A client that does not fetch its responses keeps its server waiting, for as long as it lives.
        let options = WriterOptions::default().write_timeout(Duration::MAX);
        let writer = Writer::connect_with(&self.names.responses, options)?;
        *lock(&self.responses_interrupt) = Some(writer.interrupt_handle());
        Ok(writer)
    }

    /// Sends an answer, if its client is still there. Reports what keeps it from arriving.
    pub(crate) fn answer(&self, to: Address, answer: &Answer<'_>) {
        if let Err(error) = self.try_answer(to, answer) {
            self.report(&error.of_request(to.sequence));
        }
    }

    fn try_answer(&self, to: Address, answer: &Answer<'_>) -> Result<()> {
        let mut responses = lock(&self.responses);
        let Responses { client, writer, next, early } = &mut *responses;
        if *client != to.client {
            return Ok(());
        }
        let Some(connected) = writer else { return Ok(()) };
        let result = if connected.carries_tags() {
            if matches!(answer, Answer::Withdrawn) {
                return Ok(());
            }
            let (flags, bytes) = answer.tagged();
            self.write(connected, to, flags, bytes)
        } else {
            self.write_in_order(connected, to, answer.plain(), next, early)
        };
        match result {
            Err(error) if error.kind() == ErrorKind::ReaderDead => {
                // Closing our side removes what a dead client left.
                *writer = None;
                self.gone.store(to.client, Ordering::Relaxed);
                Ok(())
            }
            result => result,
        }
    }

    /// 1.x clients count: responses come in the order of the requests, and none is left out.
    fn write_in_order(
        &self,
        writer: &mut Writer,
        to: Address,
        bytes: &[u8],
        next: &mut u64,
        early: &mut BTreeMap<u64, Vec<u8>>,
    ) -> Result<()> {
        if to.sequence != *next {
            early.insert(to.sequence, bytes.to_vec());
            return Ok(());
        }
        let mut result = self.write(writer, to, 0, bytes);
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
        let error = match self.persist(writer, to, bytes, tag) {
            Err(error) if !matches!(error.kind(), ErrorKind::ReaderDead | ErrorKind::CorruptBuffer) => error,
            result => return result,
        };
        // Too large, or no memory for it: the client must not wait for ever.
        let words = match error.kind() {
            ErrorKind::FrameTooLarge => format!(
                "its answer of {} bytes is too large for the response buffer: the client must create that with a larger \
                 payload size (its response_config)",
                bytes.len()
            ),
            _ => format!("its answer could not be sent: {}", error.message()),
        };
        let error = Error::channel(error.kind(), &self.names.channel, words.as_str());
        let instead = Answer::Failed(words.into());
        let (flags, bytes) = if writer.carries_tags() { instead.tagged() } else { (0, instead.plain()) };
        let len = bytes.len().min(writer.max_frame_size());
        self.persist(writer, to, &bytes[..len], Tag { flags, ..tag })?;
        Err(error)
    }

    /// Writes, again after each interrupt that was not meant to end it.
    fn persist(&self, writer: &mut Writer, to: Address, bytes: &[u8], tag: Tag) -> Result<()> {
        loop {
            // Another answer may have had the interrupt that was meant for all who wait for space. Who changes either word
            // interrupts afterwards, so nothing is missed from here on.
            if self.is_stopping() || self.client.load(Ordering::Acquire) != to.client {
                return Ok(());
            }
            // Read anew, as the handler may have taken long, and the client be dead.
            match writer.write_tagged(bytes, tag, os::coarse_now()) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn interrupt_responses(&self) {
        if let Some(handle) = &*lock(&self.responses_interrupt) {
            handle.interrupt();
        }
    }

    /// Reports a request's failure.
    pub(crate) fn report_failure(&self, sequence: u64, message: &str) {
        let message = format!("the handler failed at request {sequence}: {message}");
        let error = Error::channel(ErrorKind::RequestFailed, &self.names.channel, message);
        self.report(&error.of_request(sequence));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BufferConfig;
    use crate::duplex::{DuplexChannelFactory, ProcessingMode};

    #[test]
    fn responses_are_counted_from_the_first_request_that_came() {
        let channel = format!("unit-first-{}", std::process::id());
        let classic = || BufferConfig::default().classic(true);
        let server = DuplexChannelFactory::new().create_immutable_server(&channel, classic()).unwrap();
        server.start(|request| Ok((&**request).into()), ProcessingMode::ThreadPool).unwrap();
        let mut responses = Reader::create(&format!("{channel}_response"), classic()).unwrap();
        responses.accept_any_sequence();
        let mut sequence = 0;
        // A 1.x client that was taken for dead, and goes on where it was.
        for _ in 0..2 {
            let mut requests = Writer::connect(&format!("{channel}_request")).unwrap();
            for _ in 0..2 {
                sequence += 1;
                let tag = Tag { sequence: Some(sequence), flags: 0, deadline: 0 };
                requests.write_tagged(&[sequence as u8], tag, os::coarse_now()).unwrap();
            }
            for expected in sequence - 1..=sequence {
                let response = loop {
                    match responses.read_frame(Duration::from_secs(30)) {
                        Ok(response) => break response.expect("an answer"),
                        // The server has noticed the end of the first.
                        Err(error) => assert_eq!(error.kind(), ErrorKind::WriterClosed),
                    }
                };
                assert_eq!((response.sequence(), &*response), (expected, &[expected as u8][..]));
            }
        }
        server.stop().unwrap();
    }
}
