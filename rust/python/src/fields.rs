//! Header fields between Rust and Python.

use bytes::Bytes;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

/// From a mapping of text.
pub(crate) fn fields(headers: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    headers
        .call_method0(intern!(headers.py(), "items"))?
        .try_iter()?
        .map(|item| item?.extract())
        .collect()
}

/// From pairs of `bytes`.
pub(crate) fn field_lines(lines: &Bound<'_, PyAny>) -> PyResult<Vec<(Bytes, Bytes)>> {
    let copied = |bytes: &Bound<'_, PyBytes>| Bytes::copy_from_slice(bytes.as_bytes());
    lines
        .try_iter()?
        .map(|line| {
            let (name, value): (Bound<'_, PyBytes>, Bound<'_, PyBytes>) = line?.extract()?;
            Ok((copied(&name), copied(&value)))
        })
        .collect()
}

/// As a list of pairs of `bytes`.
pub(crate) fn field_list<'py>(
    py: Python<'py>,
    lines: &[(Bytes, Bytes)],
) -> PyResult<Bound<'py, PyList>> {
    let pair = |(name, value): &(Bytes, Bytes)| (PyBytes::new(py, name), PyBytes::new(py, value));
    PyList::new(py, lines.iter().map(pair))
}
