//! Actions and events as small tuples: `(tag, ...)`, the tag an index into
//! `CORE_NOTIFICATIONS`.

use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};
use pywt_core::{Action, ClosedBy, Dir, Event};

use crate::fields::field_list;

/// Declares the tags and, from the same list, their names.
macro_rules! tags {
    ($($tag:ident = $name:literal),+ $(,)?) => {
        #[derive(Clone, Copy)]
        enum Tag { $($tag),+ }
        const NAMES: &[&str] = &[$($name),+];
    };
}

tags! {
    CloseConnection = "close_connection",
    ResetStream = "reset_stream",
    SendStream = "send_stream",
    StopSending = "stop_sending",
    DatagramReceived = "datagram_received",
    GoawayReceived = "goaway_received",
    RequestAborted = "request_aborted",
    RequestReceived = "request_received",
    RequestTrailers = "request_trailers",
    SessionClosed = "session_closed",
    SessionDraining = "session_draining",
    SessionEstablished = "session_established",
    SessionRejected = "session_rejected",
    SessionRequested = "session_requested",
    SessionWritable = "session_writable",
    SettingsReceived = "settings_received",
    StreamData = "stream_data",
    StreamOpened = "stream_opened",
    StreamReset = "stream_reset",
    StreamStopped = "stream_stopped",
    StreamsAvailable = "streams_available",
}

type Item<'py> = Bound<'py, PyTuple>;

pub(crate) fn action(py: Python<'_>, action: Action) -> PyResult<Item<'_>> {
    match action {
        Action::CloseConnection { code, reason } => {
            (Tag::CloseConnection as u8, code, reason).into_pyobject(py)
        }
        Action::ResetStream {
            id,
            code,
            reliable_size,
        } => (Tag::ResetStream as u8, id, code, reliable_size).into_pyobject(py),
        Action::SendStream { id, data, fin } => {
            (Tag::SendStream as u8, id, payload(py, &data), fin).into_pyobject(py)
        }
        Action::StopSending { id, code } => (Tag::StopSending as u8, id, code).into_pyobject(py),
    }
}

/// `None` for an event that this binding does not know.
pub(crate) fn event(py: Python<'_>, event: Event) -> PyResult<Option<Item<'_>>> {
    let item = match event {
        Event::DatagramReceived { session, data } => {
            (Tag::DatagramReceived as u8, session, payload(py, &data)).into_pyobject(py)
        }
        Event::GoawayReceived { id } => (Tag::GoawayReceived as u8, id).into_pyobject(py),
        Event::RequestAborted { stream, code } => {
            (Tag::RequestAborted as u8, stream, code).into_pyobject(py)
        }
        Event::RequestReceived {
            stream,
            method,
            scheme,
            authority,
            path,
            headers,
            expects_continue,
        } => {
            let headers = field_list(py, &headers)?;
            (
                Tag::RequestReceived as u8,
                stream,
                method,
                scheme,
                authority,
                path,
                headers,
                expects_continue,
            )
                .into_pyobject(py)
        }
        Event::RequestTrailers { stream, fields } => {
            let fields = field_list(py, &fields)?;
            (Tag::RequestTrailers as u8, stream, fields).into_pyobject(py)
        }
        Event::SessionClosed {
            session,
            code,
            reason,
            by,
            error,
        } => {
            let by = match by {
                ClosedBy::Local => "local",
                ClosedBy::Remote => "remote",
                ClosedBy::Transport => "transport",
            };
            (Tag::SessionClosed as u8, session, code, reason, by, error).into_pyobject(py)
        }
        Event::SessionDraining { session } => {
            (Tag::SessionDraining as u8, session).into_pyobject(py)
        }
        Event::SessionEstablished {
            session,
            protocol,
            headers,
            dialect,
        } => {
            let headers = fields(py, headers)?;
            (
                Tag::SessionEstablished as u8,
                session,
                protocol,
                headers,
                dialect.name(),
            )
                .into_pyobject(py)
        }
        Event::SessionRejected {
            session,
            status,
            headers,
            error,
            reason,
        } => {
            let headers = fields(py, headers)?;
            (
                Tag::SessionRejected as u8,
                session,
                status,
                headers,
                error,
                reason,
            )
                .into_pyobject(py)
        }
        Event::SessionRequested {
            session,
            authority,
            path,
            origin: _, // among the headers
            headers,
            protocols,
            dialect,
        } => {
            let headers = fields(py, headers)?;
            let tag = Tag::SessionRequested as u8;
            (
                tag,
                session,
                authority,
                path,
                headers,
                protocols,
                dialect.name(),
            )
                .into_pyobject(py)
        }
        Event::SessionWritable { session } => {
            (Tag::SessionWritable as u8, session).into_pyobject(py)
        }
        Event::SettingsReceived { dialect } => (
            Tag::SettingsReceived as u8,
            dialect.map(|dialect| dialect.name()),
        )
            .into_pyobject(py),
        Event::StreamData { stream, data, fin } => {
            (Tag::StreamData as u8, stream, payload(py, &data), fin).into_pyobject(py)
        }
        Event::StreamOpened {
            session,
            stream,
            dir,
        } => (Tag::StreamOpened as u8, session, stream, dir == Dir::Uni).into_pyobject(py),
        Event::StreamReset { stream, code, raw } => {
            (Tag::StreamReset as u8, stream, code, raw).into_pyobject(py)
        }
        Event::StreamStopped { stream, code, raw } => {
            (Tag::StreamStopped as u8, stream, code, raw).into_pyobject(py)
        }
        Event::StreamsAvailable { session, dir } => {
            (Tag::StreamsAvailable as u8, session, dir == Dir::Uni).into_pyobject(py)
        }
        _ => return Ok(None),
    };
    item.map(Some)
}

fn payload<'py>(py: Python<'py>, data: &Bytes) -> Bound<'py, PyBytes> {
    PyBytes::new(py, data)
}

/// One mapping; lines of one name are joined as RFC 9110 §5.3 and, for cookies, RFC 9114
/// §4.2.1 say.
fn fields<'py>(py: Python<'py>, lines: Vec<(String, String)>) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    for (name, value) in lines {
        match fields.get_item(&name)? {
            Some(first) => {
                let first: String = first.extract()?;
                let separator = if name == "cookie" { "; " } else { ", " };
                fields.set_item(name, format!("{first}{separator}{value}"))?;
            }
            None => fields.set_item(name, value)?,
        }
    }
    Ok(fields)
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("CORE_NOTIFICATIONS", PyTuple::new(m.py(), NAMES)?)
}
