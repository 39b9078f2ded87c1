//! The one PyO3 crate: translation only.

use pyo3::prelude::*;

/// `pywebtransport._native`.
#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
