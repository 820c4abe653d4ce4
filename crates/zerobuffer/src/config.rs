//! What a reader decides about its buffer, and a writer about its connection.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::layout;

/// Metadata bytes of a buffer by default.
pub const DEFAULT_METADATA_SIZE: usize = 4096;
/// Payload bytes of a buffer by default: 256 MiB. Memory is used only where frames have been.
pub const DEFAULT_PAYLOAD_SIZE: usize = 256 * 1024 * 1024;
/// How long a write waits for space, and a read for a frame, by default.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(5000);

/// The sizes and rights of a buffer, decided by the reader that creates it.
///
/// ```
/// use zerobuffer::BufferConfig;
/// let config = BufferConfig::default().metadata_size(1024).payload_size(8 << 20).mode(0o660);
/// assert_eq!(config.get_payload_size(), 8 << 20);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferConfig {
    /// `None`: the default, or the size of the kept buffer that the reader takes over.
    pub(crate) metadata_size: Option<usize>,
    pub(crate) payload_size: Option<usize>,
    pub(crate) mode: u32,
    pub(crate) preallocate: bool,
    pub(crate) huge_pages: bool,
    pub(crate) numa_node: Option<NumaNode>,
    pub(crate) classic: bool,
    pub(crate) sharing: bool,
    pub(crate) wait: WaitStrategy,
}

impl Default for BufferConfig {
    fn default() -> Self {
        BufferConfig {
            metadata_size: None,
            payload_size: None,
            mode: 0o600,
            preallocate: false,
            huge_pages: false,
            numa_node: None,
            classic: false,
            sharing: false,
            wait: WaitStrategy::default(),
        }
    }
}

/// How a reader waits for frames and a writer for space.
///
/// ```
/// use zerobuffer::{BufferConfig, WaitStrategy};
/// let config = BufferConfig::default().wait_strategy(WaitStrategy::Spin); // a core of its own for this reader
/// # let _ = config;
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WaitStrategy {
    /// Spin for a moment if the last waits were short, else sleep: low latency under load, next to no
    /// processor time when idle.
    #[default]
    Adaptive,
    /// Sleep at once: the least processor time, but each wait costs a wake-up by the kernel.
    Block,
    /// Never sleep: the least latency, at the cost of a whole core.
    Spin,
}

/// Where a buffer's memory lies, on a machine with several NUMA nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NumaNode {
    /// The node of this number.
    Number(u32),
    /// The node that the thread runs on which creates the reader.
    OfReader,
}

impl BufferConfig {
    /// Bytes of the metadata block (default 4096), rounded up to a multiple of 64. 8 of them hold the length.
    #[must_use]
    pub fn metadata_size(mut self, bytes: usize) -> Self {
        self.metadata_size = Some(bytes);
        self
    }

    /// Bytes of the ring (default 256 MiB), rounded up to a multiple of 64. A frame needs its size plus 16.
    #[must_use]
    pub fn payload_size(mut self, bytes: usize) -> Self {
        self.payload_size = Some(bytes);
        self
    }

    /// Permission bits of the buffer's files (default `0o600`), set exactly, whatever the umask is.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Reserve and touch all memory at creation (default false), so that no later write fails because memory
    /// is missing, or pays for a page's first use.
    #[must_use]
    pub fn preallocate(mut self, preallocate: bool) -> Self {
        self.preallocate = preallocate;
        self
    }

    /// Reserve and touch all memory at creation, as [`BufferConfig::preallocate`] does, in pages of 2 MiB (default false): large
    /// frames cost far fewer page faults in every process that maps the buffer.
    ///
    /// Where `/dev/shm` is mounted with `huge=advise`, `within_size` or `always`, the kernel makes such pages at once; elsewhere it
    /// makes small ones and puts them together (Linux 6.1), which takes some milliseconds per MiB. What cannot be had stays in
    /// small pages: a log line says so, and [`Reader::huge_page_bytes`](crate::Reader::huge_page_bytes) tells how much.
    #[must_use]
    pub fn huge_pages(mut self, huge_pages: bool) -> Self {
        self.huge_pages = huge_pages;
        self
    }

    /// The NUMA node whose memory the buffer shall use, as far as there is room (default: for each page, the node of the process
    /// that touches it first, which is mostly the writer). A kept buffer that the reader takes over stays where it is.
    #[must_use]
    pub fn numa_node(mut self, node: NumaNode) -> Self {
        self.numa_node = Some(node);
        self
    }

    /// Keeps the ring classic, whichever writer connects (default false).
    ///
    /// Otherwise the first writer decides for the life of the buffer. A native writer makes the ring
    /// extended, which is faster, but which later 1.x writers cannot use. Set this where native writers and
    /// 1.x writers take turns.
    #[must_use]
    pub fn classic(mut self, classic: bool) -> Self {
        self.classic = classic;
        self
    }

    /// Allows payload sharing (default false): the reader's frames may be lent, and it takes frames that are lent to it.
    ///
    /// A relay reads one buffer and writes another. If the readers of both allow sharing and its writer requests it
    /// ([`WriterOptions::request_payload_sharing`]), [`Writer::forward`](crate::Writer::forward) passes frames on without a copy:
    /// the second buffer's reader looks at the bytes in the first one, read-only. So who may read the second buffer may look at
    /// all of the first one. A ring that is kept classic shares nothing.
    #[must_use]
    pub fn allow_payload_sharing(mut self, allow: bool) -> Self {
        self.sharing = allow;
        self
    }

    /// How the reader waits for frames.
    #[must_use]
    pub fn wait_strategy(mut self, strategy: WaitStrategy) -> Self {
        self.wait = strategy;
        self
    }

    /// The metadata bytes asked for, or the default.
    pub fn get_metadata_size(&self) -> usize {
        self.metadata_size.unwrap_or(DEFAULT_METADATA_SIZE)
    }

    /// The payload bytes asked for, or the default.
    pub fn get_payload_size(&self) -> usize {
        self.payload_size.unwrap_or(DEFAULT_PAYLOAD_SIZE)
    }

    /// The permission bits asked for.
    pub fn get_mode(&self) -> u32 {
        self.mode
    }

    /// Whether all memory is made at creation.
    pub(crate) fn takes_all(&self) -> bool {
        self.preallocate || self.huge_pages
    }

    pub(crate) fn geometry(&self, name: &str) -> Result<layout::Geometry> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidConfig, name, message));
        let (metadata_size, payload_size) = (self.get_metadata_size(), self.get_payload_size());
        if payload_size <= layout::FRAME_HEADER {
            return invalid(format!(
                "payload_size is {payload_size} but must be at least 17: a frame takes its size plus a 16-byte header"
            ));
        }
        if self.mode & !0o777 != 0 || self.mode & 0o600 != 0o600 {
            return invalid(format!("mode {:#o} must lie within 0o777 and contain 0o600", self.mode));
        }
        match layout::Geometry::new(metadata_size as u64, payload_size as u64, !self.classic, self.sharing) {
            Some(geometry) => Ok(geometry),
            None => invalid(format!(
                "metadata_size {metadata_size} and payload_size {payload_size} are more than a process can map"
            )),
        }
    }
}

/// How a writer connects and waits.
///
/// ```
/// use std::time::Duration;
/// use zerobuffer::WriterOptions;
/// let options = WriterOptions::default().connect_timeout(Duration::from_secs(10));
/// # let _ = options;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterOptions {
    pub(crate) write_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) sharing: bool,
    pub(crate) wait: WaitStrategy,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            write_timeout: DEFAULT_TIMEOUT,
            connect_timeout: Duration::ZERO,
            sharing: false,
            wait: WaitStrategy::default(),
        }
    }
}

impl WriterOptions {
    /// How long a write waits for space (default 5 s). `Duration::ZERO` polls once, `Duration::MAX` waits
    /// without limit.
    #[must_use]
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// How long connecting waits for a reader to create the buffer (default zero: fail at once).
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Requests payload sharing (default false): [`Writer::forward`](crate::Writer::forward) lends frames rather than copying them,
    /// where both readers allow it ([`BufferConfig::allow_payload_sharing`]).
    #[must_use]
    pub fn request_payload_sharing(mut self, request: bool) -> Self {
        self.sharing = request;
        self
    }

    /// How the writer waits for space.
    #[must_use]
    pub fn wait_strategy(mut self, strategy: WaitStrategy) -> Self {
        self.wait = strategy;
        self
    }
}
