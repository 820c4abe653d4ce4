//! NumPy, if the user has it: arrays over a lease's memory.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyTuple;

use crate::memory::Lease;

/// What is looked up once.
struct NumPy {
    ndarray: Py<PyAny>,
    dtype: Py<PyAny>,
    uint8: Py<PyAny>,
}

static NUMPY: PyOnceLock<NumPy> = PyOnceLock::new();

fn numpy(py: Python<'_>) -> PyResult<&'static NumPy> {
    NUMPY.get_or_try_init(py, || {
        let module = py.import("numpy")?;
        let dtype = module.getattr("dtype")?;
        let uint8 = dtype.call1(("uint8",))?.unbind();
        Ok(NumPy { ndarray: module.getattr("ndarray")?.unbind(), dtype: dtype.unbind(), uint8 })
    })
}

/// An array of all of the lease's bytes; the lease is its base.
pub(crate) fn array<'py>(
    lease: &Bound<'py, Lease>,
    dtype: Option<&Bound<'py, PyAny>>,
    shape: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = lease.py();
    let numpy = numpy(py)?;
    let ndarray = numpy.ndarray.bind(py);
    let len = lease.get().len();
    if dtype.is_none() && shape.is_none() {
        // A tuple: of a bare number NumPy first finds out, by an exception, that it is no sequence.
        return ndarray.call1(((len,), &numpy.uint8, lease));
    }
    let dtype = match dtype {
        Some(dtype) => numpy.dtype.bind(py).call1((dtype,))?,
        None => numpy.uint8.bind(py).clone(),
    };
    // Its memory would be taken for pointers.
    if dtype.getattr("hasobject")?.is_truthy()? {
        return Err(PyTypeError::new_err(format!("a frame cannot hold Python objects (dtype {dtype})")));
    }
    let item: usize = dtype.getattr("itemsize")?.extract()?;
    let shape = dimensions(len, item, shape)
        .ok_or_else(|| PyValueError::new_err(misfit(len, &dtype, item, shape)))?;
    ndarray.call1((PyTuple::new(py, shape)?, dtype, lease))
}

/// The shape that takes exactly `len` bytes, with -1 worked out.
fn dimensions(len: usize, item: usize, shape: Option<&Bound<'_, PyAny>>) -> Option<Vec<usize>> {
    let wanted: Vec<i64> = match shape {
        None => vec![-1],
        Some(shape) => match shape.extract::<i64>() {
            Ok(length) => vec![length],
            Err(_) => {
                shape.try_iter().ok()?.map(|length| length?.extract::<i64>()).collect::<PyResult<_>>().ok()?
            }
        },
    };
    let open = wanted.iter().filter(|&&length| length == -1).count();
    let known = wanted
        .iter()
        .filter(|&&length| length != -1)
        .try_fold(item, |product, &length| product.checked_mul(usize::try_from(length).ok()?))?;
    let rest = match open {
        0 if known == len => 1,
        1 if known > 0 && len.is_multiple_of(known) => len / known,
        _ => return None,
    };
    Some(wanted.iter().map(|&length| usize::try_from(length).unwrap_or(rest)).collect())
}

fn misfit(len: usize, dtype: &Bound<'_, PyAny>, item: usize, shape: Option<&Bound<'_, PyAny>>) -> String {
    match shape {
        Some(shape) => format!(
            "the frame's {len} bytes are not exactly an array of shape {shape} and dtype {dtype} ({item} bytes an item)"
        ),
        None => format!(
            "the frame's {len} bytes are no whole number of items of dtype {dtype} ({item} bytes each)"
        ),
    }
}
