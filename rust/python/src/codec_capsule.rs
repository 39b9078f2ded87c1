//! SETTINGS payloads and capsules for Python.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use pyo3::IntoPyObjectExt;
use pywt_wire::capsule::{self, Capsule};
use pywt_wire::settings::{self, Settings};
use pywt_wire::{codes, varint};

use crate::codec_input::Input;
use crate::errors::CodecError;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(settings_encode, m)?)?;
    m.add_function(wrap_pyfunction!(settings_decode, m)?)?;
    m.add_function(wrap_pyfunction!(capsule_decode_header, m)?)?;
    m.add_function(wrap_pyfunction!(capsule_decode, m)?)?;
    m.add_function(wrap_pyfunction!(capsule_encode, m)?)?;
    Ok(())
}

/// The payload of a SETTINGS frame, in the order of the mapping.
#[pyfunction]
#[pyo3(signature = (settings, /))]
fn settings_encode<'py>(settings: &Bound<'py, PyDict>) -> Result<Bound<'py, PyBytes>, CodecError> {
    let mut wire = Settings::new();
    for (id, value) in settings {
        wire.insert(
            varint::check(id.extract()?)?,
            varint::check(value.extract()?)?,
        );
    }
    let mut out = Vec::new();
    settings::encode(&wire, &mut out);
    Ok(PyBytes::new(settings.py(), &out))
}

/// The settings in a SETTINGS payload, in order. With `wt_enabled_is_flag`, WT_ENABLED must be
/// 0 or 1, as webtrans-http3-16 demands of a server.
#[pyfunction]
#[pyo3(signature = (payload, /, *, wt_enabled_is_flag=false))]
fn settings_decode<'py>(
    py: Python<'py>,
    payload: Input<'_>,
    wt_enabled_is_flag: bool,
) -> Result<Bound<'py, PyDict>, CodecError> {
    let settings = settings::decode(&payload)?;
    if wt_enabled_is_flag {
        settings.check_wt_enabled()?;
    }
    let dict = PyDict::new(py);
    for (id, value) in settings.iter() {
        dict.set_item(id, value)?;
    }
    Ok(dict)
}

/// Type, payload length and header length of the capsule at `offset`, or None when the data is
/// too short yet. A length that the type cannot have is refused here.
#[pyfunction]
#[pyo3(signature = (data, offset=0, /))]
fn capsule_decode_header(
    data: Input<'_>,
    offset: usize,
) -> Result<Option<(u64, u64, usize)>, CodecError> {
    let header = capsule::decode_header(data.get(offset..).unwrap_or_default())?;
    Ok(header.map(|(header, len)| (header.ty, header.len, len)))
}

/// What a capsule of this type carries: `(code, reason)` for WT_CLOSE_SESSION, None for
/// WT_DRAIN_SESSION, the limit for the flow-control types, the payload itself for any other.
#[pyfunction]
#[pyo3(signature = (type_, payload, /))]
fn capsule_decode<'py>(
    py: Python<'py>,
    type_: u64,
    payload: Input<'_>,
) -> Result<Bound<'py, PyAny>, CodecError> {
    Ok(match capsule::decode_payload(type_, &payload)? {
        Capsule::Close { code, reason } => (code, reason).into_bound_py_any(py)?,
        Capsule::DataBlocked(limit)
        | Capsule::MaxData(limit)
        | Capsule::MaxStreams { limit, .. }
        | Capsule::StreamsBlocked { limit, .. } => limit.into_bound_py_any(py)?,
        Capsule::Datagram(payload) | Capsule::Unknown { payload, .. } => {
            PyBytes::new(py, payload).into_any()
        }
        Capsule::Drain => py.None().into_bound(py),
    })
}

/// A whole capsule; `value` as `capsule_decode` returns it. A reason of more than 1024 bytes is
/// cut between characters.
#[pyfunction]
#[pyo3(signature = (type_, value, /))]
fn capsule_encode<'py>(
    type_: u64,
    value: &Bound<'py, PyAny>,
) -> Result<Bound<'py, PyBytes>, CodecError> {
    let type_ = varint::check(type_)?;
    let mut out = Vec::new();
    match type_ {
        codes::capsule::WT_CLOSE_SESSION => {
            let (code, reason) = value.extract::<(u32, String)>()?;
            capsule::encode(
                &Capsule::Close {
                    code,
                    reason: &reason,
                },
                &mut out,
            );
        }
        codes::capsule::WT_DRAIN_SESSION => {
            if !value.is_none() {
                return Err(PyValueError::new_err("WT_DRAIN_SESSION carries nothing").into());
            }
            capsule::encode(&Capsule::Drain, &mut out);
        }
        codes::capsule::WT_MAX_DATA..=codes::capsule::WT_STREAMS_BLOCKED_UNI => {
            let mut payload = Vec::new();
            varint::try_encode(value.extract()?, &mut payload)?;
            let capsule = capsule::decode_payload(type_, &payload);
            let capsule = capsule.map_err(|error| PyValueError::new_err(error.to_string()))?;
            capsule::encode(&capsule, &mut out);
        }
        ty => capsule::encode(
            &Capsule::Unknown {
                ty,
                payload: &value.extract::<Input<'_>>()?,
            },
            &mut out,
        ),
    }
    Ok(PyBytes::new(value.py(), &out))
}
