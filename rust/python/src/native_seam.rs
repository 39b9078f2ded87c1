//! The Python side of the engine seam: the types and errors that cross it, handed in by the engine.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pywt_endpoint::{ConnectionStats, Error};
use pywt_quic::{Close, CloseBy, CloseKind};

/// What Python's side of the seam is made of.
#[pyclass(frozen, module = "pywebtransport._native")]
pub(crate) struct EndpointSeam {
    close_info: Py<PyAny>,
    session_request: Py<PyAny>,
    stats: Py<PyAny>,
    closed: Py<PyAny>,
    stream_finished: Py<PyAny>,
    session_refused: Py<PyAny>,
    datagram_too_large: Py<PyAny>,
    no_datagrams: Py<PyAny>,
    wrong_thread: Py<PyAny>,
}

#[pymethods]
impl EndpointSeam {
    #[new]
    #[pyo3(signature = (
        *, close_info, session_request, stats, closed, stream_finished, session_refused,
        datagram_too_large, no_datagrams, wrong_thread
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords of one Python call")]
    fn new(
        close_info: Py<PyAny>,
        session_request: Py<PyAny>,
        stats: Py<PyAny>,
        closed: Py<PyAny>,
        stream_finished: Py<PyAny>,
        session_refused: Py<PyAny>,
        datagram_too_large: Py<PyAny>,
        no_datagrams: Py<PyAny>,
        wrong_thread: Py<PyAny>,
    ) -> Self {
        Self {
            close_info,
            session_request,
            stats,
            closed,
            stream_finished,
            session_refused,
            datagram_too_large,
            no_datagrams,
            wrong_thread,
        }
    }
}

impl EndpointSeam {
    pub(crate) fn session_request<'py>(
        &self,
        py: Python<'py>,
        fields: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.session_request.bind(py).call1(fields)
    }

    pub(crate) fn close_info<'py>(
        &self,
        py: Python<'py>,
        close: Close,
    ) -> PyResult<Bound<'py, PyAny>> {
        let is_application = close.kind == CloseKind::Application;
        self.close_info
            .bind(py)
            .call1((close.code, close.reason, by(close.by), is_application))
    }

    /// The error of the endpoint as the exception of the seam.
    pub(crate) fn exception(&self, py: Python<'_>, error: &Error) -> PyErr {
        let class = match error {
            Error::Closed
            | Error::Internal
            | Error::Protocol(pywt_core::Error::ConnectionClosed) => &self.closed,
            Error::StreamFinished(_) | Error::Protocol(pywt_core::Error::RequestOver(_)) => {
                &self.stream_finished
            }
            Error::Session(_)
            | Error::StreamsExhausted
            | Error::Protocol(
                pywt_core::Error::GoingAway
                | pywt_core::Error::SessionState(_)
                | pywt_core::Error::UnknownSession(_),
            ) => &self.session_refused,
            Error::DatagramTooLarge { size, limit } => {
                let sizes = PyDict::new(py);
                let filled = sizes
                    .set_item("size", size)
                    .and_then(|()| sizes.set_item("max_size", limit));
                return made(filled.and_then(|()| {
                    let call = self.datagram_too_large.bind(py);
                    call.call((), Some(&sizes))
                }));
            }
            Error::DatagramsUnsupported
            | Error::Protocol(pywt_core::Error::DatagramsUnsupported) => {
                return made(self.no_datagrams.bind(py).call0());
            }
            _ => return PyValueError::new_err(error.to_string()),
        };
        made(class.bind(py).call1((error.to_string(),)))
    }

    /// A call from `caller`, a thread that does not run the event loop of `owner`.
    pub(crate) fn wrong_thread(&self, py: Python<'_>, owner: &str, caller: &str) -> PyErr {
        made(self.wrong_thread.bind(py).call1((owner, caller)))
    }

    pub(crate) fn stats<'py>(
        &self,
        py: Python<'py>,
        stats: &ConnectionStats,
    ) -> PyResult<Bound<'py, PyAny>> {
        let ConnectionStats { quic, core, .. } = stats;
        let dropped_outgoing = stats.datagrams_dropped_outgoing();
        let dropped_incoming = stats.datagrams_dropped_incoming();
        let fields = PyDict::new(py);
        fields.set_item("rtt", quic.rtt.as_secs_f64())?;
        fields.set_item("cwnd", quic.cwnd)?;
        fields.set_item("bytes_in_flight", quic.bytes_in_flight)?;
        fields.set_item("bytes_sent", quic.bytes_sent)?;
        fields.set_item("bytes_received", quic.bytes_received)?;
        fields.set_item("packets_sent", quic.packets_sent)?;
        fields.set_item("packets_received", quic.packets_received)?;
        fields.set_item("packets_lost", quic.packets_lost)?;
        let dropped = dropped_outgoing + dropped_incoming + core.datagrams_dropped;
        fields.set_item("datagrams_dropped", dropped)?;
        let extra = PyDict::new(py);
        extra.set_item("min_rtt", quic.min_rtt.as_secs_f64())?;
        extra.set_item("bytes_lost", quic.bytes_lost)?;
        extra.set_item("tls_bytes_received", quic.tls_received)?;
        extra.set_item("mtu", quic.mtu)?;
        extra.set_item("congestion_events", quic.congestion_events)?;
        extra.set_item("sessions", core.sessions)?;
        extra.set_item("streams", core.streams)?;
        extra.set_item("requests", core.requests)?;
        extra.set_item("early_streams", core.early_streams)?;
        extra.set_item("early_stream_bytes", core.early_stream_bytes)?;
        extra.set_item("early_datagrams", core.early_datagrams)?;
        extra.set_item("sessions_established", core.sessions_established)?;
        extra.set_item("streams_opened", core.streams_opened)?;
        extra.set_item("streams_accepted", core.streams_accepted)?;
        extra.set_item("streams_rejected", core.streams_rejected)?;
        extra.set_item("datagrams_sent", quic.datagrams_sent)?;
        extra.set_item("datagrams_lost", quic.datagrams_lost)?;
        extra.set_item("datagrams_waiting", stats.datagrams_waiting)?;
        extra.set_item("datagrams_dropped_outgoing", dropped_outgoing)?;
        extra.set_item("datagrams_dropped_incoming", dropped_incoming)?;
        extra.set_item("datagrams_dropped_early", core.datagrams_dropped)?;
        extra.set_item("datagrams_received", core.datagrams_received)?;
        extra.set_item("unknown_skipped", core.unknown_skipped)?;
        fields.set_item("extra", extra)?;
        self.stats.bind(py).call((), Some(&fields))
    }
}

/// A made exception, or the one that its making raised.
fn made(exception: PyResult<Bound<'_, PyAny>>) -> PyErr {
    exception.map_or_else(|failed| failed, PyErr::from_value)
}

pub(crate) fn by(by: CloseBy) -> &'static str {
    match by {
        CloseBy::Local => "local",
        CloseBy::Remote => "remote",
        CloseBy::Transport => "transport",
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
