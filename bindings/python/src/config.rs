//! `BufferConfig`.

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use zerobuffer::{ErrorKind, NumaNode, WaitStrategy};

use crate::errors;

/// The sizes and rights of a buffer, decided by the reader that creates it. Cannot be changed once made.
///
/// Args:
///     metadata_size: Bytes of the metadata block, 8 of which hold its length (default 4096).
///     payload_size: Bytes of the ring (default 268,435,456 = 256 MiB). A frame needs its size plus 16.
///         Memory is used only where frames have been.
///     mode: Permission bits of the buffer's files, set exactly, whatever the umask is.
///     preallocate: Reserve and touch all memory at creation.
///     huge_pages: Reserve and touch all memory at creation, in huge pages as far as the kernel has some. `Reader.huge_page_bytes` tells
///         what the buffer got.
///     numa_node: The NUMA node whose memory the buffer shall use, as far as there is room; -1: the one that the thread runs on which
///         creates the reader.
///     classic: Keep the ring classic (the layout that 1.x peers know), even between native peers.
///     wait_strategy: How the reader waits for frames; a `WaitStrategy` or its value.
///     allow_payload_sharing: Whether the reader's frames may be lent to other readers, and it takes frames that are lent to it
///         (`Writer.forward`). Who may read the buffer that they are passed on to may look at all of this one.
///
/// Sizes are rounded up to a multiple of 64. A size that is not given is the default, or the size of a kept
/// buffer (of `relay --create-output`) that the reader takes over. A kept buffer whose size differs from a
/// given one is refused. So a config that names the default sizes does not equal one without sizes, and
/// `repr` shows only the sizes that were given.
///
/// Raises:
///     ValueError: for a `wait_strategy` that does not exist.
///     InvalidConfigError: for a negative number. Other sizes and the mode are checked when the buffer is
///         created.
#[pyclass(frozen, eq, skip_from_py_object, module = "zerobuffer")]
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BufferConfig {
    metadata_size: Option<usize>,
    payload_size: Option<usize>,
    mode: u32,
    preallocate: bool,
    huge_pages: bool,
    numa_node: Option<i32>,
    classic: bool,
    wait: WaitStrategy,
    sharing: bool,
}

/// The positional arguments.
type Sizes = (Option<usize>, Option<usize>);

const STRATEGIES: [(&str, WaitStrategy); 3] =
    [("adaptive", WaitStrategy::Adaptive), ("block", WaitStrategy::Block), ("spin", WaitStrategy::Spin)];

/// A strategy from its name, or from an enum's member that has it as its value.
pub(crate) fn strategy(value: Option<&Bound<'_, PyAny>>) -> PyResult<WaitStrategy> {
    let Some(value) = value else { return Ok(WaitStrategy::default()) };
    let text = value.getattr("value").unwrap_or_else(|_| value.clone());
    let known = text.extract::<String>().ok();
    let known = known.and_then(|text| STRATEGIES.iter().find(|(name, _)| *name == text));
    known.map(|(_, strategy)| *strategy).ok_or_else(|| {
        PyValueError::new_err(format!("wait_strategy is {value} but must be one of adaptive, block and spin"))
    })
}

/// A number of things. `None` if it is negative, or larger than any that could be meant.
pub(crate) fn count(value: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
    match value.extract::<usize>() {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A number of an argument that a config takes.
fn number(value: Option<&Bound<'_, PyAny>>, what: &str) -> PyResult<Option<usize>> {
    let Some(value) = value else { return Ok(None) };
    let failed = || {
        let message = format!("{what} is {value}, which is not a possible number");
        errors::own(value.py(), ErrorKind::InvalidConfig, "", message)
    };
    count(value)?.map_or_else(|| Err(failed()), |count| Ok(Some(count)))
}

/// The number of a NUMA node, or -1. What is no node of the machine is refused when a buffer is made.
fn node(value: &Bound<'_, PyAny>) -> PyResult<i32> {
    match value.extract::<i32>() {
        Ok(node) if node >= -1 => Ok(node),
        _ => {
            let message = format!("numa_node is {value}, which is no node");
            Err(errors::own(value.py(), ErrorKind::InvalidConfig, "", message))
        }
    }
}

impl BufferConfig {
    pub(crate) fn to_core(&self) -> zerobuffer::BufferConfig {
        let mut config = zerobuffer::BufferConfig::default()
            .mode(self.mode)
            .preallocate(self.preallocate)
            .huge_pages(self.huge_pages)
            .classic(self.classic)
            .wait_strategy(self.wait)
            .allow_payload_sharing(self.sharing);
        if let Some(node) = self.numa_node {
            config = config.numa_node(u32::try_from(node).map_or(NumaNode::OfReader, NumaNode::Number));
        }
        if let Some(bytes) = self.metadata_size {
            config = config.metadata_size(bytes);
        }
        if let Some(bytes) = self.payload_size {
            config = config.payload_size(bytes);
        }
        config
    }
}

#[pymethods]
impl BufferConfig {
    #[new]
    #[pyo3(
        signature = (metadata_size=None, payload_size=None, *, mode=None, preallocate=false, classic=false, wait_strategy=None, allow_payload_sharing=false, huge_pages=false, numa_node=None),
        text_signature = "(metadata_size=None, payload_size=None, *, mode=0o600, preallocate=False, classic=False, wait_strategy=None, allow_payload_sharing=False, huge_pages=False, numa_node=None)"
    )]
    #[allow(clippy::too_many_arguments, reason = "they are named in Python")]
    fn new(
        metadata_size: Option<&Bound<'_, PyAny>>,
        payload_size: Option<&Bound<'_, PyAny>>,
        mode: Option<&Bound<'_, PyAny>>,
        preallocate: bool,
        classic: bool,
        wait_strategy: Option<&Bound<'_, PyAny>>,
        allow_payload_sharing: bool,
        huge_pages: bool,
        numa_node: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<BufferConfig> {
        let wait = strategy(wait_strategy)?;
        let metadata_size = number(metadata_size, "metadata_size")?;
        let payload_size = number(payload_size, "payload_size")?;
        // What is no mode of a file is refused when a buffer is made.
        let mode = number(mode, "mode")?.map_or(0o600, |mode| u32::try_from(mode).unwrap_or(u32::MAX));
        let sharing = allow_payload_sharing;
        let numa_node = numa_node.map(node).transpose()?;
        Ok(BufferConfig {
            metadata_size,
            payload_size,
            mode,
            preallocate,
            huge_pages,
            numa_node,
            classic,
            wait,
            sharing,
        })
    }

    /// Bytes of the metadata block; the default if they were not given.
    #[getter]
    fn metadata_size(&self) -> usize {
        self.to_core().get_metadata_size()
    }

    /// Bytes of the ring; the default if they were not given.
    #[getter]
    fn payload_size(&self) -> usize {
        self.to_core().get_payload_size()
    }

    /// Permission bits of the buffer's files.
    #[getter]
    fn mode(&self) -> u32 {
        self.mode
    }

    /// Whether all memory is reserved at creation.
    #[getter]
    fn preallocate(&self) -> bool {
        self.preallocate
    }

    /// Whether huge pages are asked for.
    #[getter]
    fn huge_pages(&self) -> bool {
        self.huge_pages
    }

    /// The NUMA node asked for.
    #[getter]
    fn numa_node(&self) -> Option<i32> {
        self.numa_node
    }

    /// Whether the ring stays classic.
    #[getter]
    fn classic(&self) -> bool {
        self.classic
    }

    /// How the reader waits for frames.
    #[getter]
    fn wait_strategy<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let name = STRATEGIES.iter().find(|(_, strategy)| *strategy == self.wait).map(|(name, _)| *name);
        py.import("zerobuffer")?.getattr("WaitStrategy")?.call1((name,))
    }

    /// Whether the reader's frames may be lent, and it takes frames that are lent to it.
    #[getter]
    fn allow_payload_sharing(&self) -> bool {
        self.sharing
    }

    fn __hash__(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        (self.metadata_size, self.payload_size, self.mode, self.preallocate, self.classic, self.sharing)
            .hash(&mut hasher);
        (self.huge_pages, self.numa_node).hash(&mut hasher);
        hasher.finish()
    }

    fn __repr__(&self) -> String {
        let sizes = [("metadata_size", self.metadata_size), ("payload_size", self.payload_size)];
        let given = |(name, size): (&str, Option<usize>)| size.map(|size| format!("{name}={size}, "));
        format!(
            "BufferConfig({}mode={:#o}, preallocate={}, classic={}, wait_strategy='{}'{}{}{})",
            sizes.into_iter().filter_map(given).collect::<String>(),
            self.mode,
            if self.preallocate { "True" } else { "False" },
            if self.classic { "True" } else { "False" },
            STRATEGIES.iter().find(|(_, strategy)| *strategy == self.wait).map_or("", |(name, _)| name),
            if self.sharing { ", allow_payload_sharing=True" } else { "" },
            if self.huge_pages { ", huge_pages=True" } else { "" },
            self.numa_node.map_or(String::new(), |node| format!(", numa_node={node}"))
        )
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Sizes, Bound<'py, PyDict>)> {
        let options = PyDict::new(py);
        options.set_item("mode", self.mode)?;
        options.set_item("preallocate", self.preallocate)?;
        options.set_item("classic", self.classic)?;
        options.set_item("wait_strategy", self.wait_strategy(py)?)?;
        options.set_item("allow_payload_sharing", self.sharing)?;
        options.set_item("huge_pages", self.huge_pages)?;
        options.set_item("numa_node", self.numa_node)?;
        Ok(((self.metadata_size, self.payload_size), options))
    }
}
