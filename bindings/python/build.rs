//! Says which version of CPython this is built for, as `cfg(Py_3_9)` and the like.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
