//! The endpoint's errors as the exceptions of the engine seam.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use pywt_endpoint::Error;

use crate::native_sink::BASE;

pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    static CLOSED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static FINISHED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static REFUSED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let (place, name) = match error {
        Error::Closed | Error::Internal | Error::Protocol(pywt_core::Error::ConnectionClosed) => {
            (&CLOSED, "EngineClosed")
        }
        Error::StreamFinished(_) => (&FINISHED, "StreamFinished"),
        Error::Session(_)
        | Error::StreamsExhausted
        | Error::Protocol(
            pywt_core::Error::GoingAway
            | pywt_core::Error::SessionState(_)
            | pywt_core::Error::UnknownSession(_),
        ) => (&REFUSED, "SessionRefused"),
        Error::DatagramTooLarge { size, limit } => return too_large(py, *size, *limit),
        _ => return PyValueError::new_err(error.to_string()),
    };
    match place.import(py, BASE, name) {
        Ok(class) => PyErr::from_type(class.clone(), error.to_string()),
        Err(failed) => failed,
    }
}

fn too_large(py: Python<'_>, size: usize, limit: usize) -> PyErr {
    let make = || {
        let sizes = PyDict::new(py);
        sizes.set_item("size", size)?;
        sizes.set_item("max_size", limit)?;
        py.import("pywebtransport.exceptions")?
            .call_method("datagram_too_large", (), Some(&sizes))
    };
    match make() {
        Ok(error) => PyErr::from_value(error),
        Err(failed) => failed,
    }
}
