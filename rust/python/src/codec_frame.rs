//! HTTP/3 frames for Python. Many frames are found in one call and become objects one by one, as
//! they are asked for.

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyList};
use pywt_wire::{frame, varint};

use crate::codec_input::Input;
use crate::errors::CodecError;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Frames>()?;
    m.add_function(wrap_pyfunction!(frame_encode, m)?)?;
    m.add_function(wrap_pyfunction!(frame_decode_header, m)?)?;
    m.add_function(wrap_pyfunction!(frame_parse_many, m)?)?;
    Ok(())
}

/// A whole frame.
#[pyfunction]
#[pyo3(signature = (type_, payload, /))]
fn frame_encode<'py>(
    py: Python<'py>,
    type_: u64,
    payload: Input<'_>,
) -> Result<Bound<'py, PyBytes>, CodecError> {
    let mut out = Vec::with_capacity(2 * varint::MAX_LEN + payload.len());
    frame::encode(varint::check(type_)?, &payload, &mut out);
    Ok(PyBytes::new(py, &out))
}

/// Type, payload length and header length of the frame at `offset`, or None when the data is too
/// short yet.
#[pyfunction]
#[pyo3(signature = (data, offset=0, /))]
fn frame_decode_header(data: Input<'_>, offset: usize) -> Option<(u64, u64, usize)> {
    let (header, len) = frame::decode_header(data.get(offset..)?)?;
    Some((header.ty, header.len, len))
}

/// All frames that are complete in `data`.
#[pyfunction]
#[pyo3(signature = (data, /))]
fn frame_parse_many(data: &Bound<'_, PyAny>) -> PyResult<Frames> {
    // Payloads are cut out of `bytes` later, so anything else becomes `bytes` first.
    let data = match data.cast::<PyBytes>() {
        Ok(bytes) => bytes.clone(),
        Err(_) => PyBytes::new(data.py(), &data.extract::<Input<'_>>()?),
    };
    let buf = data.as_bytes();
    let mut frames = frame::parse_many(buf);
    // Most frames on a control or request stream are short; a wrong guess costs one more growth.
    let mut entries = Vec::with_capacity(buf.len() / 16 + 1);
    let mut consumed = 0;
    while let Some(frame) = frames.next() {
        consumed = frames.consumed();
        entries.push(Entry {
            ty: frame.ty,
            start: consumed - frame.payload.len(),
            end: consumed,
        });
    }
    Ok(Frames {
        data: data.unbind(),
        entries,
        consumed,
    })
}

struct Entry {
    ty: u64,
    start: usize,
    end: usize,
}

/// Frames found in one buffer: a sequence of `(type, payload)`.
#[pyclass(frozen, module = "pywebtransport._native", sequence)]
struct Frames {
    data: Py<PyBytes>,
    entries: Vec<Entry>,
    /// Bytes up to the first incomplete frame.
    #[pyo3(get)]
    consumed: usize,
}

#[pymethods]
impl Frames {
    fn __len__(&self) -> usize {
        self.entries.len()
    }

    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        index: isize,
    ) -> PyResult<(u64, Bound<'py, PyBytes>)> {
        let position = match usize::try_from(index) {
            Ok(position) => Some(position),
            Err(_) => self.entries.len().checked_sub(index.unsigned_abs()),
        };
        let entry = position.and_then(|position| self.entries.get(position));
        let entry = entry.ok_or_else(|| PyIndexError::new_err("frame index out of range"))?;
        let payload = self
            .data
            .as_bytes(py)
            .get(entry.start..entry.end)
            .unwrap_or_default();
        Ok((entry.ty, PyBytes::new(py, payload)))
    }

    /// All of them, created at once.
    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        let data = self.data.as_bytes(py);
        let frames = self.entries.iter().map(|entry| {
            let payload = data.get(entry.start..entry.end).unwrap_or_default();
            (entry.ty, PyBytes::new(py, payload))
        });
        PyList::new(py, frames)?.try_iter()
    }

    /// The types of all frames.
    fn types(&self) -> Vec<u64> {
        self.entries.iter().map(|entry| entry.ty).collect()
    }

    /// Where the payloads of all frames start and end in the buffer.
    fn spans(&self) -> Vec<(usize, usize)> {
        self.entries
            .iter()
            .map(|entry| (entry.start, entry.end))
            .collect()
    }
}
