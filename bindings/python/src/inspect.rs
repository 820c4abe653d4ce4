//! What `zerobuffer.inspect` is made of.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use zerobuffer::inspect::{self, Health, Peer, Presence, RingKind};

use crate::errors::raise;

fn presence(presence: Presence) -> &'static str {
    match presence {
        Presence::Absent => "absent",
        Presence::Alive => "alive",
        Presence::Dead => "dead",
        Presence::Closed => "closed",
        _ => "unknown",
    }
}

fn peer<'py>(py: Python<'py>, peer: Peer) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("presence", presence(peer.presence))?;
    fields.set_item("pid", peer.pid)?;
    fields.set_item("ours", peer.ours)?;
    Ok(fields)
}

/// The fields of a `zerobuffer.inspect.Snapshot`.
#[pyfunction]
pub(crate) fn snapshot<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyDict>> {
    let snapshot = py.detach(|| inspect::snapshot(name)).map_err(|error| raise(py, error))?;
    let fields = PyDict::new(py);
    let ring = match snapshot.ring {
        RingKind::Classic => "classic",
        RingKind::Extended => "extended",
        RingKind::Undecided => "undecided",
        _ => "unknown",
    };
    let health = match snapshot.health() {
        Health::Healthy => "healthy",
        Health::Degraded => "degraded",
        _ => "critical",
    };
    fields.set_item("name", &snapshot.name)?;
    fields.set_item("version", snapshot.version)?;
    fields.set_item("ring", ring)?;
    fields.set_item("metadata_size", snapshot.metadata_size)?;
    fields.set_item("metadata_written", snapshot.metadata_written)?;
    fields.set_item("metadata_free", snapshot.metadata_free)?;
    fields.set_item("payload_size", snapshot.payload_size)?;
    fields.set_item("payload_free", snapshot.payload_free)?;
    fields.set_item("write_position", snapshot.write_position)?;
    fields.set_item("read_position", snapshot.read_position)?;
    fields.set_item("written_count", snapshot.written_count)?;
    fields.set_item("read_count", snapshot.read_count)?;
    fields.set_item("reader", peer(py, snapshot.reader)?)?;
    fields.set_item("kept", snapshot.kept)?;
    fields.set_item("writer", peer(py, snapshot.writer)?)?;
    fields.set_item("file_size", snapshot.file_size)?;
    fields.set_item("memory", snapshot.memory)?;
    fields.set_item("owner", snapshot.owner)?;
    fields.set_item("mode", snapshot.mode)?;
    fields.set_item("age", snapshot.age.map(|age| age.as_secs_f64()))?;
    fields.set_item("utilisation", snapshot.utilisation())?;
    fields.set_item("health", health)?;
    fields.set_item("defects", &snapshot.defects)?;
    Ok(fields)
}

/// Names of all buffers on this machine, live or not, in alphabetical order.
#[pyfunction]
pub(crate) fn list_buffers(py: Python<'_>) -> PyResult<Vec<String>> {
    py.detach(inspect::list).map_err(|error| raise(py, error))
}
