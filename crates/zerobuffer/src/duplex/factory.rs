//! Makes servers and clients.

#[cfg(not(loom))]
use super::client::{ClientOptions, DuplexClient};
use super::server::{ImmutableDuplexServer, MutableDuplexServer};
use crate::config::BufferConfig;
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
    /// Returns a factory. All factories are equal.
    pub fn new() -> DuplexChannelFactory {
        DuplexChannelFactory(())
    }

    /// Creates the request buffer of `channel` and its server, whose handler reads each request and answers
    /// with its own bytes.
    ///
    /// # Errors
    ///
    /// Those of [`crate::Reader::create`]; `InvalidName` if `channel` is longer than
    /// [`super::MAX_CHANNEL_NAME_LEN`].
    pub fn create_immutable_server(
        &self,
        channel: &str,
        config: BufferConfig,
    ) -> Result<ImmutableDuplexServer> {
        ImmutableDuplexServer::create(channel, config)
    }

    /// Creates the request buffer of `channel` and its server, whose handler changes each request in place.
    /// The changed bytes are the response.
    ///
    /// # Errors
    ///
    /// Those of [`DuplexChannelFactory::create_immutable_server`].
    pub fn create_mutable_server(&self, channel: &str, config: BufferConfig) -> Result<MutableDuplexServer> {
        MutableDuplexServer::create(channel, config)
    }

    /// Connects to the server of `channel`, and creates the response buffer.
    ///
    /// # Errors
    ///
    /// `BufferNotFound` if there is no server, `ReaderDead` if it died, `WriterAlreadyConnected` if it has a
    /// client; those of [`crate::Writer::connect`] and [`crate::Reader::create`].
    #[cfg(not(loom))]
    pub fn create_client(&self, channel: &str) -> Result<DuplexClient> {
        self.create_client_with(channel, ClientOptions::default())
    }

    /// Connects to the server of `channel` with `options`, and creates the response buffer.
    ///
    /// # Errors
    ///
    /// Those of [`DuplexChannelFactory::create_client`]; `BufferNotFound` and `ReaderDead` only after the connect time-out.
    #[cfg(not(loom))]
    pub fn create_client_with(&self, channel: &str, options: ClientOptions) -> Result<DuplexClient> {
        DuplexClient::connect(channel, options)
    }
}
