//! Bytes between Rust and Python: one copy in, one copy out.

use std::borrow::Cow;

use bytes::Bytes;
use pyo3::buffer::PyBuffer;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// One `bytes` from the pieces of a read: the only copy that received data sees.
pub(crate) fn join<'py>(
    py: Python<'py>,
    chunks: &[Bytes],
    total: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    if let [chunk] = chunks {
        return Ok(PyBytes::new(py, chunk));
    }
    let size = ffi::Py_ssize_t::try_from(total)?;
    // SAFETY: a null pointer asks for `total` bytes without contents; the result is a new
    // reference or null with an exception set, which `from_owned_ptr_or_err` tells apart.
    let bytes: Bound<'py, PyBytes> = unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(std::ptr::null(), size))?
            .cast_into_unchecked()
    };
    let mut at = 0;
    // SAFETY: nobody else has seen the object yet, so its buffer of `total` bytes may be
    // written. Every chunk is copied only as far as room is left, and all of it is written
    // because `total` is the sum of the chunks, which the assertion holds us to.
    unsafe {
        let room = ffi::PyBytes_AsString(bytes.as_ptr()).cast::<u8>();
        for chunk in chunks {
            let len = chunk.len().min(total - at);
            std::ptr::copy_nonoverlapping(chunk.as_ptr(), room.add(at), len);
            at += len;
        }
    }
    assert_eq!(at, total, "a read told a wrong size");
    Ok(bytes)
}

/// Lends the contents of a buffer, copying them only when they are not contiguous.
pub(crate) fn with_slice<T>(
    py: Python<'_>,
    buffer: &PyBuffer<u8>,
    call: impl FnOnce(&[u8]) -> PyResult<T>,
) -> PyResult<T> {
    if !buffer.is_c_contiguous() {
        return call(&buffer.to_vec(py)?);
    }
    if buffer.item_count() == 0 {
        return call(&[]);
    }
    // SAFETY: the buffer is contiguous, not empty and held, so it stays allocated; no Python code
    // runs in the call that uses the slice before it is copied, so it does not change.
    let slice =
        unsafe { std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.item_count()) };
    call(slice)
}

/// Lends the contents of buffers, copying those that are not `bytes`.
pub(crate) fn slices<'a>(
    py: Python<'_>,
    buffers: &'a [Bound<'_, PyAny>],
) -> PyResult<Vec<Cow<'a, [u8]>>> {
    let slice = |buffer: &'a Bound<'_, PyAny>| match buffer.cast::<PyBytes>() {
        Ok(bytes) => Ok(Cow::Borrowed(bytes.as_bytes())),
        Err(_) => PyBuffer::<u8>::get(buffer)?.to_vec(py).map(Cow::Owned),
    };
    buffers.iter().map(slice).collect()
}
