//! Bytes that Python passes in.

use std::ops::Deref;

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;

/// Anything with the buffer protocol. `bytes` are borrowed; what could change while it is read (a
/// `bytearray`, a `memoryview`) is copied once.
pub(crate) enum Input<'a> {
    Borrowed(&'a [u8]),
    Copied(Vec<u8>),
}

impl Deref for Input<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Borrowed(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}

impl<'a, 'py> FromPyObject<'a, 'py> for Input<'a> {
    type Error = PyErr;

    #[inline]
    fn extract(object: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        match <&'a [u8]>::extract(object) {
            Ok(bytes) => Ok(Self::Borrowed(bytes)),
            Err(_) => PyBuffer::get(&object)?
                .to_vec(object.py())
                .map(Self::Copied),
        }
    }
}
