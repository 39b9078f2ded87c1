//! The one PyO3 crate: translation only.

mod core_connection;
mod core_error;
mod core_notification;

use pyo3::prelude::*;

/// `pywebtransport._native`.
#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    core_connection::register(m)?;
    core_error::register(m)?;
    core_notification::register(m)?;
    Ok(())
}
