//! The codecs of `pywt-wire` as functions: what does not fill a file of its own.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pywt_wire::stream_header::{BidiType, UniType};
use pywt_wire::{codes, datagram, stream_header, varint, Dir};

use crate::codec_input::Input;
use crate::errors::{self, CodecError};
use crate::{codec_capsule, codec_extras, codec_frame, codec_section};

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(varint_encode, m)?)?;
    m.add_function(wrap_pyfunction!(varint_decode, m)?)?;
    m.add_function(wrap_pyfunction!(stream_header_encode, m)?)?;
    m.add_function(wrap_pyfunction!(stream_header_decode, m)?)?;
    m.add_function(wrap_pyfunction!(datagram_encode, m)?)?;
    m.add_function(wrap_pyfunction!(datagram_decode, m)?)?;
    m.add_function(wrap_pyfunction!(app_error_to_http, m)?)?;
    m.add_function(wrap_pyfunction!(http_to_app_error, m)?)?;
    m.add_function(wrap_pyfunction!(error_name, m)?)?;
    codec_capsule::register(m)?;
    codec_extras::register(m)?;
    codec_frame::register(m)?;
    codec_section::register(m)?;
    errors::register(m)
}

/// Shortest encoding of a variable-length integer.
#[pyfunction]
#[pyo3(signature = (value, /))]
fn varint_encode(py: Python<'_>, value: u64) -> Result<Bound<'_, PyBytes>, CodecError> {
    let mut out = Vec::with_capacity(varint::MAX_LEN);
    varint::try_encode(value, &mut out)?;
    Ok(PyBytes::new(py, &out))
}

/// Value and length of the integer at `offset`, or None when the data is too short yet.
#[pyfunction]
#[pyo3(signature = (data, offset=0, /))]
fn varint_decode(data: Input<'_>, offset: usize) -> Option<(u64, usize)> {
    varint::decode(data.get(offset..)?)
}

/// What a WebTransport stream of this session starts with.
#[pyfunction]
#[pyo3(signature = (session_id, *, unidirectional))]
fn stream_header_encode(
    py: Python<'_>,
    session_id: u64,
    unidirectional: bool,
) -> Result<Bound<'_, PyBytes>, CodecError> {
    let dir = if unidirectional { Dir::Uni } else { Dir::Bidi };
    let mut out = Vec::with_capacity(stream_header::MAX_LEN);
    stream_header::encode(dir, varint::check(session_id)?, &mut out);
    Ok(PyBytes::new(py, &out))
}

/// Type, session id, length.
type StreamHeader = (Option<u64>, Option<u64>, usize);

/// Type, session id and header length of a stream, or None when the data is too short yet. A
/// bidirectional stream of HTTP/3 frames has the type None and no header.
#[pyfunction]
#[pyo3(signature = (data, *, unidirectional))]
fn stream_header_decode(
    data: Input<'_>,
    unidirectional: bool,
) -> Result<Option<StreamHeader>, CodecError> {
    if unidirectional {
        let header = stream_header::decode_uni(&data)?;
        return Ok(header.map(|(ty, len)| match ty {
            UniType::Control => (Some(codes::stream::CONTROL), None, len),
            UniType::Push => (Some(codes::stream::PUSH), None, len),
            UniType::QpackEncoder => (Some(codes::stream::QPACK_ENCODER), None, len),
            UniType::QpackDecoder => (Some(codes::stream::QPACK_DECODER), None, len),
            UniType::WebTransport { session } => {
                (Some(codes::stream::WT_STREAM), Some(session), len)
            }
            UniType::Unknown(ty) => (Some(ty), None, len),
        }));
    }
    let header = stream_header::decode_bidi(&data)?;
    Ok(header.map(|(ty, len)| match ty {
        BidiType::Request => (None, None, len),
        BidiType::WebTransport { session } => (Some(codes::frame::WT_STREAM), Some(session), len),
    }))
}

/// A QUIC datagram with this payload.
#[pyfunction]
#[pyo3(signature = (session_id, payload, /))]
fn datagram_encode<'py>(
    py: Python<'py>,
    session_id: u64,
    payload: Input<'_>,
) -> Result<Bound<'py, PyBytes>, CodecError> {
    let session_id = varint::check(session_id)?;
    let mut out = Vec::with_capacity(datagram::prefix_len(session_id) + payload.len());
    datagram::encode_prefix(session_id, &mut out);
    out.extend_from_slice(&payload);
    Ok(PyBytes::new(py, &out))
}

/// Session id and payload of a QUIC datagram.
#[pyfunction]
#[pyo3(signature = (data, /))]
fn datagram_decode<'py>(
    py: Python<'py>,
    data: Input<'_>,
) -> Result<(u64, Bound<'py, PyBytes>), CodecError> {
    let (quarter_id, start) = datagram::decode(&data)?;
    Ok((
        quarter_id * 4,
        PyBytes::new(py, data.get(start..).unwrap_or_default()),
    ))
}

/// The HTTP/3 error code that carries an application's stream error code.
#[pyfunction]
#[pyo3(signature = (code, /))]
fn app_error_to_http(code: u32) -> u64 {
    codes::app_error_to_http(code)
}

/// The application's stream error code inside an HTTP/3 error code, or None.
#[pyfunction]
#[pyo3(signature = (code, /))]
fn http_to_app_error(code: u64) -> Option<u32> {
    codes::http_to_app_error(code)
}

/// The name of an HTTP/3, QPACK or WebTransport error code, or None.
#[pyfunction]
#[pyo3(signature = (code, /))]
fn error_name(code: u64) -> Option<&'static str> {
    codes::ErrorCode::from_code(code).map(codes::ErrorCode::name)
}
