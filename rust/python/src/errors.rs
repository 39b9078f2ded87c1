//! Every error of `pywt-wire` as one Python exception, mapped once.
//!
//! `CodecError` is what a peer caused and carries the wire code. What the caller did wrong is a
//! `ValueError` or `OverflowError`, as everywhere in Python.

use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use pywt_wire::capsule::CapsuleError;
use pywt_wire::datagram::DatagramError;
use pywt_wire::qpack::QpackError;
use pywt_wire::quic_extras::QuicExtrasError;
use pywt_wire::settings::SettingsError;
use pywt_wire::stream_header::StreamHeaderError;
use pywt_wire::varint::Overflow;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("CodecError", codec_error_type(m.py())?)
}

/// Any error on its way to Python; `?` gets there from every error of `pywt-wire`.
pub(crate) struct CodecError(PyErr);

impl From<CodecError> for PyErr {
    fn from(error: CodecError) -> Self {
        error.0
    }
}

impl From<PyErr> for CodecError {
    fn from(error: PyErr) -> Self {
        Self(error)
    }
}

impl From<Overflow> for CodecError {
    fn from(error: Overflow) -> Self {
        Self(PyValueError::new_err(error.to_string()))
    }
}

impl From<QuicExtrasError> for CodecError {
    fn from(error: QuicExtrasError) -> Self {
        match error.code() {
            Some(code) => remote(code, error),
            None => Self(PyValueError::new_err(error.to_string())),
        }
    }
}

macro_rules! remote_errors {
    ($($error:ty),+) => {
        $(impl From<$error> for CodecError {
            fn from(error: $error) -> Self {
                remote(error.code(), error)
            }
        })+
    };
}

remote_errors!(
    CapsuleError,
    DatagramError,
    QpackError,
    SettingsError,
    StreamHeaderError
);

fn remote(code: u64, error: impl std::fmt::Display) -> CodecError {
    let text = error.to_string();
    CodecError(Python::attach(|py| {
        let raised = codec_error_type(py).and_then(|ty| {
            let value = ty.call1((text,))?;
            value.setattr("code", code)?;
            Ok(PyErr::from_value(value))
        });
        raised.unwrap_or_else(|error| error)
    }))
}

fn codec_error_type(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static TYPE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let ty = TYPE.get_or_try_init(py, || {
        let ty = PyErr::new_type(
            py,
            c"pywebtransport._native.CodecError",
            Some(
                c"Bytes from a peer that can never become valid; `code` is the error on the wire.",
            ),
            Some(&py.get_type::<PyException>()),
            None,
        )?;
        ty.bind(py).setattr("code", 0)?;
        Ok::<_, PyErr>(ty)
    })?;
    Ok(ty.bind(py))
}
