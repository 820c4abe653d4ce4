//! Makes servers and clients.

use std::time::Duration;

use super::client::DuplexClient;
use super::server::{ImmutableDuplexServer, MutableDuplexServer};
use crate::config::{BufferConfig, DEFAULT_TIMEOUT};
use crate::error::Result;

/// Makes the servers and clients of duplex channels.
///
/// ```
/// use zerobuffer::BufferConfig;
/// use zerobuffer::duplex::DuplexChannelFactory;
///
/// # let name = format!("doc-factory-{}", std::process::id());
/// let factory = DuplexChannelFactory::new();
/// let server = factory.create_immutable_server(&name, BufferConfig::default())?;
/// assert!(!server.is_running());
/// let client = factory.create_client(&name)?;
/// assert!(client.is_server_connected());
/// # Ok::<(), zerobuffer::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct DuplexChannelFactory(());

impl DuplexChannelFactory {
    /// A factory; all are the same.
    pub fn new() -> DuplexChannelFactory {
        DuplexChannelFactory(())
    }

    /// Creates the request buffer of `channel` and its server, whose handler reads each request and answers with bytes of
    /// its own.
    ///
    /// # Errors
    ///
    /// As [`crate::Reader::create`]; `InvalidName` if `channel` is longer than [`super::MAX_CHANNEL_NAME_LEN`].
    pub fn create_immutable_server(
        &self,
        channel: &str,
        config: BufferConfig,
    ) -> Result<ImmutableDuplexServer> {
        ImmutableDuplexServer::create(channel, config)
    }

    /// Creates the request buffer of `channel` and its server, whose handler changes each request in place: its bytes then
    /// are the response.
    ///
    /// # Errors
    ///
    /// As [`DuplexChannelFactory::create_immutable_server`].
    pub fn create_mutable_server(&self, channel: &str, config: BufferConfig) -> Result<MutableDuplexServer> {
        MutableDuplexServer::create(channel, config)
    }

    /// Connects to the server of `channel`, and creates the response buffer.
    ///
    /// # Errors
    ///
    /// `BufferNotFound` if there is no server, `ReaderDead` if it died, `WriterAlreadyConnected` if it has a client; as
    /// [`crate::Writer::connect`] and [`crate::Reader::create`].
    pub fn create_client(&self, channel: &str) -> Result<DuplexClient> {
        self.create_client_with(channel, ClientOptions::default())
    }

    /// As [`DuplexChannelFactory::create_client`], with other time-outs and sizes than the default.
    ///
    /// # Errors
    ///
    /// As [`DuplexChannelFactory::create_client`]; `BufferNotFound` and `ReaderDead` only after the connect time-out.
    pub fn create_client_with(&self, channel: &str, options: ClientOptions) -> Result<DuplexClient> {
        DuplexClient::connect(channel, options)
    }
}

/// How a client connects and waits, and the response buffer that it creates.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::BufferConfig;
/// use zerobuffer::duplex::ClientOptions;
/// let options = ClientOptions::default()
///     .connect_timeout(Duration::from_secs(10))
///     .response_config(BufferConfig::default().payload_size(64 << 20));
/// # let _ = options;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) response_config: BufferConfig,
}

impl Default for ClientOptions {
    fn default() -> Self {
        ClientOptions {
            connect_timeout: Duration::ZERO,
            request_timeout: DEFAULT_TIMEOUT,
            response_config: BufferConfig::default(),
        }
    }
}

impl ClientOptions {
    /// How long connecting waits for a server (default zero: fail at once).
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long sending a request waits for space, and for other threads that send (default 5 s). `Duration::ZERO` polls
    /// once, `Duration::MAX` waits for ever. A call has a time-out of its own.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// Sizes and mode of the response buffer (default: 4096 bytes of metadata, 256 MiB of payload, 0600).
    #[must_use]
    pub fn response_config(mut self, config: BufferConfig) -> Self {
        self.response_config = config;
        self
    }
}
