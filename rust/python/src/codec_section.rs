//! Header sections for Python: lists of `(name, value)` in `bytes`.
//!
//! What the static table has is made into Python objects once, so that decoding `:method` or
//! `:status: 200` creates nothing.

use std::cell::Cell;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList, PyTuple};
use pywt_wire::qpack::{
    self, static_table, Budget, DecoderStream, EncoderStream, Huffman, Limits, QpackError,
    Representation, Scratch,
};

use crate::codec_field_cache::{FieldCache, LineCache};
use crate::codec_input::Input;
use crate::errors::CodecError;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<QpackEncoderStream>()?;
    m.add_class::<QpackDecoderStream>()?;
    m.add_function(wrap_pyfunction!(section_encode, m)?)?;
    m.add_function(wrap_pyfunction!(section_decode, m)?)?;
    Ok(())
}

/// A header section, with literals Huffman-coded where that is shorter.
#[pyfunction]
#[pyo3(signature = (fields, /, *, huffman=true))]
fn section_encode<'py>(
    fields: &Bound<'py, PyAny>,
    huffman: bool,
) -> Result<Bound<'py, PyBytes>, CodecError> {
    let policy = if huffman {
        Huffman::WhenShorter
    } else {
        Huffman::Never
    };
    let Memory { mut out, mut lines } = MEMORY.take();
    qpack::encode_prefix(&mut out);
    let encoded = match fields.cast_exact::<PyList>() {
        Ok(list) => (0..list.len()).try_for_each(|index| {
            // SAFETY: the index is within the list, and the item stays in it while it is borrowed:
            // the GIL is held and encoding runs no Python code that could change the list.
            let field = unsafe {
                let item = ffi::PyList_GetItem(list.as_ptr(), index as ffi::Py_ssize_t);
                Borrowed::from_ptr(list.py(), item)
            };
            encode_field(field, policy, &mut lines, &mut out)
        }),
        Err(_) => fields.try_iter().and_then(|mut fields| {
            fields.try_for_each(|field| {
                encode_field(field?.as_borrowed(), policy, &mut lines, &mut out)
            })
        }),
    };
    let section = encoded.map(|()| PyBytes::new(fields.py(), &out));
    out.clear();
    out.shrink_to(MAX_KEPT);
    MEMORY.set(Memory { out, lines });
    Ok(section?)
}

/// What is kept from call to call.
struct Memory {
    /// To encode into.
    out: Vec<u8>,
    lines: LineCache,
}

impl Memory {
    const EMPTY: Self = Self {
        out: Vec::new(),
        lines: LineCache::new(),
    };
}

impl Default for Memory {
    fn default() -> Self {
        Self::EMPTY
    }
}

thread_local! {
    static MEMORY: Cell<Memory> = const { Cell::new(Memory::EMPTY) };
}

/// Most memory to encode into that is kept.
const MAX_KEPT: usize = 4096;

#[inline]
fn encode_field(
    field: Borrowed<'_, '_, PyAny>,
    policy: Huffman,
    lines: &mut LineCache,
    out: &mut Vec<u8>,
) -> PyResult<()> {
    let wrong = || PyTypeError::new_err("a field is a tuple of two bytes objects, (name, value)");
    let pair = field.cast_exact::<PyTuple>().map_err(|_| wrong())?;
    let name = pair
        .get_borrowed_item(0)
        .ok()
        .and_then(bytes_of)
        .ok_or_else(wrong)?;
    let value = pair
        .get_borrowed_item(1)
        .ok()
        .and_then(bytes_of)
        .ok_or_else(wrong)?;
    match policy {
        Huffman::WhenShorter => lines.encode(name, value, out),
        Huffman::Never => qpack::encode_field(name, value, policy, out),
    }
    Ok(())
}

/// What `PyBytesMethods::as_bytes` gives, in one call across the stable ABI instead of two.
#[inline]
fn bytes_of<'a>(object: Borrowed<'a, '_, PyAny>) -> Option<&'a [u8]> {
    let bytes = object.cast_exact::<PyBytes>().ok()?;
    let (mut start, mut len) = (std::ptr::null_mut(), 0);
    // SAFETY: for a bytes object the call cannot fail and gives its contents, which do not change
    // and live as long as it does.
    unsafe {
        ffi::PyBytes_AsStringAndSize(bytes.as_ptr(), &mut start, &mut len);
        Some(std::slice::from_raw_parts(start.cast(), len as usize))
    }
}

/// The fields of a header section. Limits are enforced while decoding: `max_size` counts name,
/// value and 32 bytes for each field.
#[pyfunction]
#[pyo3(signature = (data, /, *, max_size=65536, max_fields=256))]
fn section_decode<'py>(
    py: Python<'py>,
    data: Input<'_>,
    max_size: usize,
    max_fields: usize,
) -> Result<Bound<'py, PyList>, CodecError> {
    let table = StaticObjects::get(py)?;
    let mut cache = FieldCache::lock();
    let mut budget = Budget::new(Limits {
        max_size,
        max_fields,
    });
    let mut scratch = Scratch::default();
    let mut fields = Vec::with_capacity(16);
    for line in qpack::parse_section(&data)? {
        let line = line?;
        let field = if let Representation::Indexed(index) = line.representation {
            line.decode(&mut budget, &mut scratch)?;
            table.field(py, index)?
        } else if let Some((field, size)) = cache.as_ref().and_then(|cache| cache.get(py, &line)) {
            budget.take_field()?;
            budget.take(size)?;
            field
        } else {
            let decoded = line.decode(&mut budget, &mut scratch)?;
            let name = match line.representation {
                Representation::NameReference { index, .. } => table.name(py, index)?,
                _ => PyBytes::new(py, decoded.name),
            };
            let field = PyTuple::new(py, [name, PyBytes::new(py, decoded.value)])?;
            if let Some(cache) = &mut cache {
                cache.insert(&line, &field, decoded.name.len() + decoded.value.len());
            }
            field
        };
        fields.push(field);
    }
    Ok(PyList::new(py, fields)?)
}

/// The static table, made into objects once.
struct StaticObjects(Vec<Py<PyTuple>>);

impl StaticObjects {
    fn get(py: Python<'_>) -> PyResult<&Self> {
        static OBJECTS: PyOnceLock<StaticObjects> = PyOnceLock::new();
        OBJECTS.get_or_try_init(py, || {
            let fields = static_table::ENTRIES.iter().map(|(name, value)| {
                let strings = [name, value].map(|string| PyBytes::new(py, string.as_bytes()));
                Ok(PyTuple::new(py, strings)?.unbind())
            });
            fields.collect::<PyResult<_>>().map(Self)
        })
    }

    #[inline]
    fn field<'py>(&self, py: Python<'py>, index: usize) -> Result<Bound<'py, PyTuple>, QpackError> {
        let field = self
            .0
            .get(index)
            .ok_or(QpackError::StaticIndex(index as u64))?;
        Ok(field.bind(py).clone())
    }

    #[inline]
    fn name<'py>(&self, py: Python<'py>, index: usize) -> PyResult<Bound<'py, PyBytes>> {
        let field = self.field(py, index).map_err(CodecError::from)?;
        Ok(field.get_item(0)?.cast_into()?)
    }
}

/// Reads a peer's QPACK encoder stream when no dynamic table was offered.
#[pyclass(module = "pywebtransport._native")]
struct QpackEncoderStream(EncoderStream);

#[pymethods]
impl QpackEncoderStream {
    #[new]
    fn new() -> Self {
        Self(EncoderStream)
    }

    /// Check the next bytes of the stream.
    #[pyo3(signature = (data, /))]
    fn feed(&mut self, data: Input<'_>) -> Result<(), CodecError> {
        Ok(self.0.feed(&data)?)
    }
}

/// Reads a peer's QPACK decoder stream when our encoder never inserts.
#[pyclass(module = "pywebtransport._native")]
struct QpackDecoderStream(DecoderStream);

#[pymethods]
impl QpackDecoderStream {
    #[new]
    fn new() -> Self {
        Self(DecoderStream::default())
    }

    /// Check the next bytes of the stream.
    #[pyo3(signature = (data, /))]
    fn feed(&mut self, data: Input<'_>) -> Result<(), CodecError> {
        Ok(self.0.feed(&data)?)
    }
}
