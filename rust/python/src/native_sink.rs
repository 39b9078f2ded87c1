//! The facade's sink: notifications of the endpoint as calls of its methods.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};
use pyo3::{intern, PyTraverseError, PyVisit};
use pywt_core::{ClosedBy, Dir};
use pywt_endpoint::Notification;
use pywt_quic::{Close, CloseBy, CloseKind};

/// The facade's object and its busiest methods.
pub(crate) struct Sink {
    object: Py<PyAny>,
    datagrams_readable: Py<PyAny>,
    stream_opened: Py<PyAny>,
    stream_readable: Py<PyAny>,
    stream_writable: Py<PyAny>,
}

/// A method of the sink and its arguments, to be called when nothing is locked.
pub(crate) struct Call {
    method: Py<PyAny>,
    arguments: Py<PyTuple>,
}

impl Call {
    pub(crate) fn make(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.method.call1(py, self.arguments.into_bound(py))
    }
}

impl Sink {
    pub(crate) fn new(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let method = |name| Ok::<_, PyErr>(object.getattr(name)?.unbind());
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

    /// Which method a notification calls, with what.
    pub(crate) fn call(&self, py: Python<'_>, notification: Notification) -> PyResult<Call> {
        let named = |name, arguments: Bound<'_, PyTuple>| {
            Ok(Call {
                method: self.object.getattr(py, name)?,
                arguments: arguments.unbind(),
            })
        };
        let busy = |method: &Py<PyAny>, arguments: Bound<'_, PyTuple>| {
            Ok(Call {
                method: method.clone_ref(py),
                arguments: arguments.unbind(),
            })
        };
        match notification {
            Notification::DatagramsReadable(session) => {
                busy(&self.datagrams_readable, (session,).into_pyobject(py)?)
            }
            Notification::StreamOpened { session, stream } => {
                busy(&self.stream_opened, (session, stream).into_pyobject(py)?)
            }
            Notification::StreamReadable(stream) => {
                busy(&self.stream_readable, (stream,).into_pyobject(py)?)
            }
            Notification::StreamWritable(stream) => {
                busy(&self.stream_writable, (stream,).into_pyobject(py)?)
            }
            Notification::SessionClosed {
                session,
                code,
                reason,
                by,
            } => named(
                intern!(py, "session_closed"),
                (session, code, reason, closed_by(by)).into_pyobject(py)?,
            ),
            Notification::SessionDraining(session) => named(
                intern!(py, "session_draining"),
                (session,).into_pyobject(py)?,
            ),
            Notification::SessionEstablished {
                session,
                protocol,
                headers,
            } => named(
                intern!(py, "session_established"),
                (session, protocol, mapping(py, headers)?).into_pyobject(py)?,
            ),
            Notification::SessionRejected {
                session,
                status,
                headers,
            } => named(
                intern!(py, "session_rejected"),
                (session, status, mapping(py, headers)?).into_pyobject(py)?,
            ),
            Notification::SessionRequested {
                session,
                authority,
                path,
                headers,
                protocols,
                dialect,
            } => {
                static REQUEST: PyOnceLock<Py<PyType>> = PyOnceLock::new();
                let request = REQUEST.import(py, BASE, "SessionRequest")?.call1((
                    session,
                    authority,
                    path,
                    mapping(py, headers)?,
                    protocols,
                    dialect.name(),
                ))?;
                named(
                    intern!(py, "session_requested"),
                    (request,).into_pyobject(py)?,
                )
            }
            Notification::StreamReset { stream, code } => named(
                intern!(py, "stream_reset"),
                (stream, code).into_pyobject(py)?,
            ),
            Notification::StreamStopped { stream, code } => named(
                intern!(py, "stream_stopped"),
                (stream, code).into_pyobject(py)?,
            ),
            Notification::StreamsAvailable { session, dir } => named(
                intern!(py, "streams_available"),
                (session, dir == Dir::Uni).into_pyobject(py)?,
            ),
            Notification::Closed(close, _) => named(
                intern!(py, "closed"),
                (close_info(py, close)?,).into_pyobject(py)?,
            ),
            Notification::Connected => Err(PyRuntimeError::new_err("told elsewhere")),
        }
    }
}

fn close_info<'py>(py: Python<'py>, close: Close) -> PyResult<Bound<'py, PyAny>> {
    static INFO: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    INFO.import(py, BASE, "CloseInfo")?.call1((
        close.code,
        close.reason,
        by(close.by),
        close.kind == CloseKind::Application,
    ))
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
        dict.set_item(name, value)?;
    }
    Ok(dict)
}

pub(crate) fn by(by: CloseBy) -> &'static str {
    match by {
        CloseBy::Local => "local",
        CloseBy::Remote => "remote",
        CloseBy::Transport => "transport",
    }
}

fn closed_by(by: ClosedBy) -> &'static str {
    match by {
        ClosedBy::Local => "local",
        ClosedBy::Remote => "remote",
        ClosedBy::Transport => "transport",
    }
}

pub(crate) fn kind(kind: CloseKind) -> &'static str {
    match kind {
        CloseKind::Application => "application",
        CloseKind::Tls { .. } => "tls",
        CloseKind::Quic => "quic",
        CloseKind::IdleTimeout => "idle",
        CloseKind::StatelessReset => "reset",
        CloseKind::VersionMismatch => "version",
        CloseKind::Unreachable => "unreachable",
    }
}

/// The seam's Python module.
pub(crate) const BASE: &str = "pywebtransport._engine.base";
