//! Options of a client.

use std::time::Duration;

use crate::config::{BufferConfig, DEFAULT_TIMEOUT};

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

    /// How long sending a request waits for space, and for other threads that send (default 5 s).
    /// `Duration::ZERO` polls once, `Duration::MAX` waits without a limit. A call uses its own time-out
    /// instead.
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
