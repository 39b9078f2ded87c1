//! Structured fields, QUIC extras and the exporter context for Python.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pywt_wire::quic_extras::{
    self, ExporterContext, QuicExtrasError, ResetStreamAt, TransportParameter,
};
use pywt_wire::{structured_field, varint};

use crate::codec_input::Input;
use crate::errors::CodecError;

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(string_list_parse, m)?)?;
    m.add_function(wrap_pyfunction!(string_list_format, m)?)?;
    m.add_function(wrap_pyfunction!(string_item_parse, m)?)?;
    m.add_function(wrap_pyfunction!(string_item_format, m)?)?;
    m.add_function(wrap_pyfunction!(reset_stream_at_encode, m)?)?;
    m.add_function(wrap_pyfunction!(reset_stream_at_decode, m)?)?;
    m.add_function(wrap_pyfunction!(transport_parameters_encode, m)?)?;
    m.add_function(wrap_pyfunction!(transport_parameters_decode, m)?)?;
    m.add_function(wrap_pyfunction!(exporter_context_encode, m)?)?;
    m.add_function(wrap_pyfunction!(exporter_context_decode, m)?)?;
    Ok(())
}

/// The strings of a structured List, or None when the field is to be ignored.
#[pyfunction]
#[pyo3(signature = (field, /))]
fn string_list_parse(field: &str) -> Option<Vec<String>> {
    structured_field::parse_string_list(field)
}

/// A structured List of Strings.
#[pyfunction]
#[pyo3(signature = (strings, /))]
fn string_list_format(strings: Vec<String>) -> PyResult<String> {
    structured_field::format_string_list(&strings).ok_or_else(not_printable)
}

/// The string of a structured Item, or None when the field is to be ignored.
#[pyfunction]
#[pyo3(signature = (field, /))]
fn string_item_parse(field: &str) -> Option<String> {
    structured_field::parse_string_item(field)
}

/// A structured Item that is a String.
#[pyfunction]
#[pyo3(signature = (string, /))]
fn string_item_format(string: &str) -> PyResult<String> {
    structured_field::format_string_item(string).ok_or_else(not_printable)
}

fn not_printable() -> PyErr {
    PyValueError::new_err("a structured field string holds printable ASCII only")
}

/// A RESET_STREAM_AT frame.
#[pyfunction]
fn reset_stream_at_encode(
    py: Python<'_>,
    stream_id: u64,
    code: u64,
    final_size: u64,
    reliable_size: u64,
) -> Result<Bound<'_, PyBytes>, CodecError> {
    for number in [stream_id, code, final_size, reliable_size] {
        varint::check(number)?;
    }
    let mut out = Vec::new();
    ResetStreamAt {
        stream_id,
        code,
        final_size,
        reliable_size,
    }
    .encode(&mut out);
    Ok(PyBytes::new(py, &out))
}

type ResetStreamAtFields = ((u64, u64, u64, u64), usize);

/// Stream id, code, final size and reliable size after the type of a RESET_STREAM_AT frame, and
/// their length; None when the data is too short.
#[pyfunction]
#[pyo3(signature = (data, /))]
fn reset_stream_at_decode(data: Input<'_>) -> Result<Option<ResetStreamAtFields>, CodecError> {
    let frame = ResetStreamAt::decode(&data)?;
    Ok(frame.map(|(frame, len)| {
        let ResetStreamAt {
            stream_id,
            code,
            final_size,
            reliable_size,
        } = frame;
        ((stream_id, code, final_size, reliable_size), len)
    }))
}

/// The body of a quic_transport_parameters extension.
#[pyfunction]
#[pyo3(signature = (parameters, /))]
fn transport_parameters_encode<'py>(
    py: Python<'py>,
    parameters: Vec<(u64, Vec<u8>)>,
) -> Result<Bound<'py, PyBytes>, CodecError> {
    let mut out = Vec::new();
    for (id, value) in &parameters {
        TransportParameter {
            id: varint::check(*id)?,
            value,
        }
        .encode(&mut out);
    }
    Ok(PyBytes::new(py, &out))
}

/// Identifiers and values of the body of a quic_transport_parameters extension.
#[pyfunction]
#[pyo3(signature = (data, /))]
fn transport_parameters_decode<'py>(
    py: Python<'py>,
    data: Input<'_>,
) -> Result<Vec<(u64, Bound<'py, PyBytes>)>, CodecError> {
    let parameters = quic_extras::parse_transport_parameters(&data).map(|parameter| {
        // Refuses a value where there can be none.
        let parameter = parameter?;
        parameter.announces_reset_stream_at()?;
        Ok((parameter.id, PyBytes::new(py, parameter.value)))
    });
    parameters
        .collect::<Result<_, QuicExtrasError>>()
        .map_err(CodecError::from)
}

/// The context to pass to the TLS exporter with the label `EXPORTER-WebTransport`.
#[pyfunction]
#[pyo3(signature = (session_id, label, context=Input::Borrowed(&[])))]
fn exporter_context_encode<'py>(
    py: Python<'py>,
    session_id: u64,
    label: Input<'_>,
    context: Input<'_>,
) -> Result<Bound<'py, PyBytes>, CodecError> {
    let mut out = Vec::new();
    ExporterContext {
        session_id,
        label: &label,
        context: &context,
    }
    .encode(&mut out)?;
    Ok(PyBytes::new(py, &out))
}

/// Session id, label and context of an exporter context.
#[pyfunction]
#[pyo3(signature = (data, /))]
fn exporter_context_decode<'py>(
    py: Python<'py>,
    data: Input<'_>,
) -> Result<(u64, Bound<'py, PyBytes>, Bound<'py, PyBytes>), CodecError> {
    let ExporterContext {
        session_id,
        label,
        context,
    } = ExporterContext::decode(&data)?;
    Ok((
        session_id,
        PyBytes::new(py, label),
        PyBytes::new(py, context),
    ))
}
