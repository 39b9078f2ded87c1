//! The one PyO3 crate: translation only.

mod codec;
mod codec_capsule;
mod codec_extras;
mod codec_field_cache;
mod codec_frame;
mod codec_input;
mod codec_recurring;
mod codec_section;
mod core_connection;
mod core_error;
mod core_notification;
mod errors;
mod fields;
mod native_buffer;
mod native_connection;
mod native_endpoint;
mod native_hooks;
mod native_seam;
mod native_settings;
mod native_sink;
mod native_sockets;
mod native_thread;
mod quic;

use pyo3::prelude::*;

/// `pywebtransport._native`. It relies on the GIL: a build without one keeps it for this module.
#[pymodule(gil_used = true)]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    codec::register(m)?;
    core_connection::register(m)?;
    core_error::register(m)?;
    core_notification::register(m)?;
    native_endpoint::register(m)?;
    quic::register(m)?;
    Ok(())
}
