//! The facade's sink: notifications of the endpoint as calls of its methods.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use pyo3::{intern, PyTraverseError, PyVisit};
use pywt_core::{ClosedBy, Dir};
use pywt_endpoint::Notification;

use crate::fields::field_list;
use crate::native_seam::EndpointSeam;

/// The facade's object, and the functions of its class that are its busiest methods: bound to the
/// object they would be four more objects for every connection.
pub(crate) struct Sink {
    object: Py<PyAny>,
    datagrams_readable: Py<PyAny>,
    stream_opened: Py<PyAny>,
    stream_readable: Py<PyAny>,
    stream_writable: Py<PyAny>,
}

impl Sink {
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let class = object.get_type();
        let method = |name| Ok::<_, PyErr>(class.getattr(name)?.unbind());
        Ok(Self {
            datagrams_readable: method(intern!(py, "datagrams_readable"))?,
            stream_opened: method(intern!(py, "stream_opened"))?,
            stream_readable: method(intern!(py, "stream_readable"))?,
            stream_writable: method(intern!(py, "stream_writable"))?,
            object: object.clone().unbind(),
        })
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.object)?;
        visit.call(&self.datagrams_readable)?;
        visit.call(&self.stream_opened)?;
        visit.call(&self.stream_readable)?;
        visit.call(&self.stream_writable)
    }

    /// Calls the method that a notification is for.
    pub(crate) fn tell(
        &self,
        py: Python<'_>,
        seam: &EndpointSeam,
        notification: Notification,
    ) -> PyResult<()> {
        let object = self.object.bind(py);
        match notification {
            Notification::DatagramsReadable(session) => {
                self.datagrams_readable.call1(py, (object, session))?;
            }
            Notification::DatagramsWritable(session) => {
                object.call_method1(intern!(py, "datagrams_writable"), (session,))?;
            }
            Notification::StreamOpened { session, stream } => {
                self.stream_opened.call1(py, (object, session, stream))?;
            }
            Notification::StreamReadable(stream) => {
                self.stream_readable.call1(py, (object, stream))?;
            }
            Notification::StreamWritable(stream) => {
                self.stream_writable.call1(py, (object, stream))?;
            }
            Notification::RequestReceived {
                stream,
                method,
                scheme,
                authority,
                path,
                headers,
                expects_continue,
            } => {
                let headers = field_list(py, &headers)?;
                let request = (
                    stream,
                    method,
                    scheme,
                    authority,
                    path,
                    headers,
                    expects_continue,
                );
                object.call_method1(intern!(py, "request_received"), request)?;
            }
            Notification::RequestTrailers { stream, fields } => {
                let trailers = (stream, field_list(py, &fields)?);
                object.call_method1(intern!(py, "request_trailers"), trailers)?;
            }
            Notification::RequestAborted { stream, code } => {
                object.call_method1(intern!(py, "request_aborted"), (stream, code))?;
            }
            Notification::SessionClosed {
                session,
                code,
                reason,
                by,
                error,
            } => {
                let closed = (session, code, reason, closed_by(by), error);
                object.call_method1(intern!(py, "session_closed"), closed)?;
            }
            Notification::SessionDraining(session) => {
                object.call_method1(intern!(py, "session_draining"), (session,))?;
            }
            Notification::SessionEstablished {
                session,
                protocol,
                headers,
            } => {
                let established = (session, protocol, mapping(py, headers)?);
                object.call_method1(intern!(py, "session_established"), established)?;
            }
            Notification::SessionRejected {
                session,
                status,
                headers,
                reason,
            } => {
                let rejected = (session, status, mapping(py, headers)?, reason);
                object.call_method1(intern!(py, "session_rejected"), rejected)?;
            }
            Notification::SessionRequested {
                session,
                authority,
                path,
                headers,
                protocols,
                dialect,
            } => {
                let headers = mapping(py, headers)?;
                let dialect = dialect.name();
                let fields = (session, authority, path, headers, protocols, dialect);
                let request = seam.session_request(py, fields)?;
                object.call_method1(intern!(py, "session_requested"), (request,))?;
            }
            Notification::StreamReset { stream, raw, .. } => {
                object.call_method1(intern!(py, "stream_reset"), (stream, raw))?;
            }
            Notification::StreamStopped { stream, raw, .. } => {
                object.call_method1(intern!(py, "stream_stopped"), (stream, raw))?;
            }
            Notification::StreamsAvailable { session, dir } => {
                let which = (session, dir == Dir::Uni);
                object.call_method1(intern!(py, "streams_available"), which)?;
            }
            Notification::Closed(close, _) => {
                let info = seam.close_info(py, close)?;
                object.call_method1(intern!(py, "closed"), (info,))?;
            }
            // For the connection's object, not for its sink.
            Notification::Connected => {}
        }
        Ok(())
    }
}

/// Header fields as a dict; a repeated name is joined as RFC 9110 §5.3 says.
fn mapping<'py>(py: Python<'py>, headers: Vec<(String, String)>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in headers {
        let value = match dict.get_item(&name)? {
            None => value,
            Some(earlier) => {
                let separator = if name == "cookie" { "; " } else { ", " };
                format!("{}{separator}{value}", earlier.extract::<String>()?)
            }
        };
        dict.set_item(text(py, &name), text(py, &value))?;
    }
    Ok(dict)
}

/// One object for what every request says: sessions keep their fields as long as they live.
fn text<'py>(py: Python<'py>, text: &str) -> Bound<'py, PyString> {
    let shared = match text {
        ":authority" => intern!(py, ":authority"),
        ":method" => intern!(py, ":method"),
        ":path" => intern!(py, ":path"),
        ":protocol" => intern!(py, ":protocol"),
        ":scheme" => intern!(py, ":scheme"),
        ":status" => intern!(py, ":status"),
        "CONNECT" => intern!(py, "CONNECT"),
        "https" => intern!(py, "https"),
        "origin" => intern!(py, "origin"),
        "webtransport" => intern!(py, "webtransport"),
        _ => return PyString::new(py, text),
    };
    shared.clone()
}

fn closed_by(by: ClosedBy) -> &'static str {
    match by {
        ClosedBy::Local => "local",
        ClosedBy::Remote => "remote",
        ClosedBy::Transport => "transport",
    }
}
