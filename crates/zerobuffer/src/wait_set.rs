//! Waiting for any of many readers, writers, clients and foreign descriptors.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::duplex::DuplexClient;
use crate::error::{Error, Result};
use crate::os::Poller;
use crate::reader::Reader;
use crate::wait::Deadline;
use crate::writer::Writer;

/// Waits on one thread for any number of readers, writers, clients and foreign descriptors.
///
/// Each is added with a key of the program's choice, which [`WaitSet::wait`] returns while the handle is ready: while there may
/// be a frame, space, a response, or an end. It is ready from the moment it is added until a call that does not wait
/// finds nothing ([`Reader::descriptor`]). A handle leaves the set when it is dropped.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::{BufferConfig, Reader, WaitSet, Writer};
///
/// # let names = ["a", "b"].map(|which| format!("doc-wait-set-{which}-{}", std::process::id()));
/// let mut readers = names.each_ref().map(|name| Reader::create(name, BufferConfig::default()).unwrap());
/// let mut set = WaitSet::new()?;
/// for (reader, key) in readers.iter().zip(0..) {
///     set.add_reader(reader, key)?;
/// }
/// let mut writer = Writer::connect(&names[1])?; // usually in another process
/// writer.write_frame(b"frame")?;
/// let mut frames = Vec::new();
/// while frames.is_empty() {
///     for key in set.wait(Duration::from_secs(5))? {
///         while let Some(frame) = readers[*key as usize].try_read_frame()? {
///             frames.push((*key, frame));
///         }
///     }
/// }
/// assert_eq!(frames[0].0, 1);
/// # drop(frames);
/// # Ok::<(), zerobuffer::Error>(())
/// ```
pub struct WaitSet {
    poller: Poller,
    ready: Vec<u64>,
}

impl WaitSet {
    /// Makes an empty set.
    ///
    /// # Errors
    ///
    /// `System` if there is no file descriptor left.
    pub fn new() -> Result<WaitSet> {
        let poller = Poller::new().map_err(|error| Error::os("*", "make a wait set", error))?;
        Ok(WaitSet { poller, ready: Vec::new() })
    }

    /// Adds a reader, which is ready while there may be a frame, or a writer's end.
    ///
    /// # Errors
    ///
    /// Those of [`Reader::descriptor`]; `System` if it is in the set already.
    pub fn add_reader(&mut self, reader: &Reader, key: u64) -> Result<()> {
        self.add(reader.name(), reader.descriptor()?, key)
    }

    /// Adds a writer, which is ready while there may be space, or the reader's end.
    ///
    /// # Errors
    ///
    /// Those of [`Writer::descriptor`]; `System` if it is in the set already.
    pub fn add_writer(&mut self, writer: &Writer, key: u64) -> Result<()> {
        self.add(writer.name(), writer.descriptor()?, key)
    }

    /// Adds a client of a duplex channel, which is ready while there may be a response, or the channel's end.
    ///
    /// # Errors
    ///
    /// Those of [`DuplexClient::descriptor`].
    pub fn add_client(&mut self, client: &DuplexClient, key: u64) -> Result<()> {
        client.with_descriptor(|descriptor| self.add(client.channel(), descriptor, key))?
    }

    /// Adds a descriptor of the program's, such as a socket, which is ready while it can be read from.
    ///
    /// # Errors
    ///
    /// `System` if it is in the set already, or cannot be polled.
    pub fn add_fd(&mut self, descriptor: BorrowedFd<'_>, key: u64) -> Result<()> {
        self.add("*", descriptor, key)
    }

    fn add(&self, name: &str, descriptor: BorrowedFd<'_>, key: u64) -> Result<()> {
        self.poller.add(descriptor, key).map_err(|error| Error::os(name, "add it to a wait set", error))
    }

    /// Removes a reader.
    pub fn remove_reader(&mut self, reader: &Reader) {
        if let Ok(descriptor) = reader.descriptor() {
            self.poller.remove(descriptor);
        }
    }

    /// Removes a writer.
    pub fn remove_writer(&mut self, writer: &Writer) {
        if let Ok(descriptor) = writer.descriptor() {
            self.poller.remove(descriptor);
        }
    }

    /// Removes a client of a duplex channel.
    pub fn remove_client(&mut self, client: &DuplexClient) {
        let _ = client.with_descriptor(|descriptor| self.poller.remove(descriptor));
    }

    /// Removes a descriptor of the program's.
    pub fn remove_fd(&mut self, descriptor: BorrowedFd<'_>) {
        self.poller.remove(descriptor);
    }

    /// Waits up to `timeout` until any is ready, and returns the keys of those that are; none when the time is over.
    /// `Duration::ZERO` looks once, `Duration::MAX` waits without a limit.
    ///
    /// # Errors
    ///
    /// `System`.
    pub fn wait(&mut self, timeout: Duration) -> Result<&[u64]> {
        let deadline = Deadline::after(timeout);
        self.ready.clear();
        let mut left = timeout;
        loop {
            let waited = self.poller.wait(left, usize::MAX, &mut self.ready);
            waited.map_err(|error| Error::os("*", "wait for a set", error))?;
            match deadline.left(Duration::MAX) {
                // A signal may have ended the wait.
                Some(time) if self.ready.is_empty() => left = time,
                _ => return Ok(&self.ready),
            }
        }
    }
}

impl std::fmt::Debug for WaitSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WaitSet")
    }
}
