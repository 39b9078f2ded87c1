//! `CoreConfig` and `CoreConnection`: pywt-core for Python.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};
use pywt_core::{
    Config, Connection, Dir, FlowControl, FlowView, Request, Response, Time, Transport,
};

use crate::core_error::{core_error, open_result, Guarded};
use crate::core_notification;
use crate::fields::field_lines;

/// What the connections of one endpoint have in common.
#[pyclass(frozen, module = "pywebtransport._native")]
pub(crate) struct CoreConfig(pub(crate) Arc<Config>);

#[pymethods]
impl CoreConfig {
    #[new]
    #[pyo3(signature = (
        *,
        is_client,
        initial_max_data = 0,
        initial_max_streams_bidi = 0,
        initial_max_streams_uni = 0,
        max_data_window = 0,
        max_streams_window = 0,
        strict = false,
        grease = true,
        grease_seed = 0,
        max_sessions = None,
        max_early_streams = None,
        max_early_stream_bytes = None,
        max_early_datagrams = None,
        early_timeout = None,
        close_timeout = None,
        max_field_section_size = None,
        settings_timeout = None,
        session_credit = true,
        max_early_streams_per_session = None,
        serves_requests = false,
        max_requests = None,
        headers_timeout = None,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        is_client: bool,
        initial_max_data: u64,
        initial_max_streams_bidi: u64,
        initial_max_streams_uni: u64,
        max_data_window: u64,
        max_streams_window: u64,
        strict: bool,
        grease: bool,
        grease_seed: u64,
        max_sessions: Option<u64>,
        max_early_streams: Option<usize>,
        max_early_stream_bytes: Option<u64>,
        max_early_datagrams: Option<usize>,
        early_timeout: Option<f64>,
        close_timeout: Option<f64>,
        max_field_section_size: Option<u64>,
        settings_timeout: Option<f64>,
        session_credit: bool,
        max_early_streams_per_session: Option<usize>,
        serves_requests: bool,
        max_requests: Option<usize>,
        headers_timeout: Option<f64>,
    ) -> Self {
        let mut config = if is_client {
            Config::client()
        } else {
            Config::server()
        };
        let given = FlowControl {
            initial_max_data,
            initial_max_streams_bidi,
            initial_max_streams_uni,
            max_data_window,
            max_streams_window,
        };
        config.flow_control = match (session_credit, given.is_offered()) {
            (true, true) => given,
            (true, false) => FlowControl::default(),
            (false, _) => FlowControl::OFF,
        };
        config.strict = strict;
        config.serves_requests = serves_requests;
        config.grease = grease;
        config.grease_seed = grease_seed;
        let limits = &mut config.limits;
        set(&mut limits.max_sessions, max_sessions);
        set(&mut limits.max_early_streams, max_early_streams);
        set(
            &mut limits.max_early_streams_per_session,
            max_early_streams_per_session,
        );
        set(&mut limits.max_early_stream_bytes, max_early_stream_bytes);
        set(&mut limits.max_early_datagrams, max_early_datagrams);
        set(&mut limits.early_timeout, early_timeout.map(seconds));
        set(&mut limits.close_timeout, close_timeout.map(seconds));
        set(&mut limits.max_field_section_size, max_field_section_size);
        set(&mut limits.settings_timeout, settings_timeout.map(seconds));
        set(&mut limits.max_requests, max_requests);
        set(&mut limits.headers_timeout, headers_timeout.map(seconds));
        Self(Arc::new(config))
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn seconds(time: f64) -> Time {
    Duration::try_from_secs_f64(time).unwrap_or_default()
}

fn dir(unidirectional: bool) -> Dir {
    if unidirectional {
        Dir::Uni
    } else {
        Dir::Bidi
    }
}

/// Copies `data` in; bytes without the detour of the buffer protocol.
fn bytes_of(data: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(data) = data.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(data.as_bytes()));
    }
    let buffer = PyBuffer::<u8>::get(data)?;
    Ok(Bytes::from(buffer.to_vec(data.py())?))
}

/// One HTTP/3 connection that carries WebTransport; see the crate `pywt-core` for the contract.
///
/// `now` is the time in seconds since an epoch of the caller's choice and never goes back.
#[pyclass(module = "pywebtransport._native")]
pub(crate) struct CoreConnection(Guarded<Connection>);

#[pymethods]
impl CoreConnection {
    #[new]
    fn new(config: &CoreConfig) -> Self {
        Self(Guarded::new(Connection::new(Arc::clone(&config.0))))
    }

    fn handle_connected(
        &mut self,
        control_stream: u64,
        max_datagram_frame_size: u64,
        local_max_datagram_frame_size: u64,
        reset_stream_at: bool,
        local_reset_stream_at: bool,
        now: f64,
    ) -> PyResult<()> {
        let transport = Transport {
            max_datagram_frame_size,
            local_max_datagram_frame_size,
            reset_stream_at,
            local_reset_stream_at,
            ..Transport::default()
        };
        self.0
            .run(|core| core.handle_connected(control_stream, transport, seconds(now)))
    }

    fn handle_stream_data(
        &mut self,
        stream_id: u64,
        data: &Bound<'_, PyAny>,
        fin: bool,
        now: f64,
    ) -> PyResult<()> {
        let data = bytes_of(data)?;
        self.0
            .run(|core| core.handle_stream_data(stream_id, data, fin, seconds(now)))
    }

    fn handle_stream_bytes(
        &mut self,
        stream_id: u64,
        size: u64,
        fin: bool,
        now: f64,
    ) -> PyResult<()> {
        self.0
            .run(|core| core.handle_stream_bytes(stream_id, size, fin, seconds(now)))
    }

    fn handle_stream_reset(
        &mut self,
        stream_id: u64,
        code: u64,
        final_size: u64,
        now: f64,
    ) -> PyResult<()> {
        self.0
            .run(|core| core.handle_stream_reset(stream_id, code, final_size, seconds(now)))
    }

    fn handle_stop_sending(&mut self, stream_id: u64, code: u64, now: f64) -> PyResult<()> {
        self.0
            .run(|core| core.handle_stop_sending(stream_id, code, seconds(now)))
    }

    fn handle_datagram(&mut self, data: &Bound<'_, PyAny>, now: f64) -> PyResult<()> {
        let data = bytes_of(data)?;
        self.0.run(|core| core.handle_datagram(data, seconds(now)))
    }

    /// QUIC still holds back so many bytes of `send_stream` for one stream.
    fn handle_unsent(&mut self, size: usize) -> PyResult<()> {
        self.0.run(|core| core.handle_unsent(size))
    }

    fn handle_timeout(&mut self, now: f64) -> PyResult<()> {
        self.0.run(|core| core.handle_timeout(seconds(now)))
    }

    /// `code`: the application code of the peer's CONNECTION_CLOSE, or None.
    #[pyo3(signature = (code, reason))]
    fn handle_closed(&mut self, code: Option<u64>, reason: &str) -> PyResult<()> {
        self.0.run(|core| core.handle_closed(code, reason))
    }

    fn set_rtt(&mut self, rtt: f64) -> PyResult<()> {
        self.0.run(|core| core.set_rtt(seconds(rtt)))
    }

    /// Everything there is to do and to tell, in order: actions first, then events.
    fn drain<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let (actions, events) = self.0.run(|core| {
            let actions: Vec<_> = std::iter::from_fn(|| core.poll_action()).collect();
            let events: Vec<_> = std::iter::from_fn(|| core.poll_event()).collect();
            (actions, events)
        })?;
        let list = PyList::empty(py);
        for action in actions {
            list.append(core_notification::action(py, action)?)?;
        }
        for event in events {
            if let Some(item) = core_notification::event(py, event)? {
                list.append(item)?;
            }
        }
        Ok(list)
    }

    /// When to call `handle_timeout`, or None.
    fn poll_timeout(&mut self) -> PyResult<Option<f64>> {
        self.0
            .run(|core| core.poll_timeout().map(|time| time.as_secs_f64()))
    }

    fn connect(
        &mut self,
        stream_id: u64,
        authority: String,
        path: String,
        headers: Vec<(String, String)>,
        protocols: Vec<String>,
        now: f64,
    ) -> PyResult<()> {
        let request = Request {
            authority,
            path,
            headers,
            protocols,
        };
        self.0
            .run(|core| core.connect(stream_id, request, seconds(now)))?
            .map_err(core_error)
    }

    #[pyo3(signature = (session_id, protocol, headers, now))]
    fn accept(
        &mut self,
        session_id: u64,
        protocol: Option<String>,
        headers: Vec<(String, String)>,
        now: f64,
    ) -> PyResult<()> {
        let response = Response { protocol, headers };
        self.0
            .run(|core| core.accept(session_id, response, seconds(now)))?
            .map_err(core_error)
    }

    fn reject(
        &mut self,
        session_id: u64,
        status: u16,
        headers: Vec<(String, String)>,
        now: f64,
    ) -> PyResult<()> {
        self.0
            .run(|core| core.reject(session_id, status, &headers, seconds(now)))?
            .map_err(core_error)
    }

    fn close_session(
        &mut self,
        session_id: u64,
        code: u32,
        reason: &str,
        now: f64,
    ) -> PyResult<()> {
        self.0
            .run(|core| core.close_session(session_id, code, reason, seconds(now)))?
            .map_err(core_error)
    }

    /// Ends every session before a close of the connection with this code.
    fn close_all(&mut self, code: u64, reason: &str, now: f64) -> PyResult<()> {
        self.0
            .run(|core| core.close_all(code, reason, seconds(now)))
    }

    fn drain_session(&mut self, session_id: u64) -> PyResult<()> {
        self.0
            .run(|core| core.drain_session(session_id))?
            .map_err(core_error)
    }

    fn goaway(&mut self) -> PyResult<()> {
        self.0.run(Connection::goaway)?.map_err(core_error)
    }

    /// An interim response, or the head of the final one.
    fn respond(
        &mut self,
        stream_id: u64,
        status: u16,
        headers: &Bound<'_, PyAny>,
        fin: bool,
    ) -> PyResult<()> {
        let headers = field_lines(headers)?;
        self.0
            .run(|core| core.respond(stream_id, status, &headers, fin))?
            .map_err(core_error)
    }

    /// What goes before `size` bytes of a body that goes on for `wanted`; None: they are dropped.
    fn body_frame<'py>(
        &mut self,
        py: Python<'py>,
        stream_id: u64,
        size: u64,
        wanted: u64,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let head = self
            .0
            .run(|core| core.body_frame(stream_id, size, wanted))?
            .map_err(core_error)?;
        Ok(head.map(|head| PyBytes::new(py, &head)))
    }

    /// The end of a response.
    fn finish_response(&mut self, stream_id: u64, trailers: &Bound<'_, PyAny>) -> PyResult<()> {
        let trailers = field_lines(trailers)?;
        self.0
            .run(|core| core.finish_response(stream_id, &trailers))?
            .map_err(core_error)
    }

    /// Ends a request in any state, with an HTTP/3 code for what is cut off.
    fn end_request(&mut self, stream_id: u64, code: u64) -> PyResult<()> {
        self.0.run(|core| core.end_request(stream_id, code))
    }

    /// False: blocked, `streams_available` follows.
    fn check_open(&mut self, session_id: u64, unidirectional: bool) -> PyResult<bool> {
        let result = self
            .0
            .run(|core| core.check_open(session_id, dir(unidirectional)))?;
        Ok(open_result(result)?.is_some())
    }

    /// The header to write first; None: blocked, `streams_available` follows.
    fn open_stream<'py>(
        &mut self,
        py: Python<'py>,
        session_id: u64,
        stream_id: u64,
        unidirectional: bool,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let result = self
            .0
            .run(|core| core.open_stream(session_id, stream_id, dir(unidirectional)))?;
        Ok(open_result(result)?.map(|header| PyBytes::new(py, &header)))
    }

    fn reserve_send(&mut self, stream_id: u64, want: u64) -> PyResult<u64> {
        self.0.run(|core| core.reserve_send(stream_id, want))
    }

    /// Gives back what `reserve_send` granted and nobody used.
    fn release_send(&mut self, stream_id: u64, unused: u64) -> PyResult<()> {
        self.0.run(|core| core.release_send(stream_id, unused))
    }

    fn stream_consumed(&mut self, stream_id: u64, size: u64, now: f64) -> PyResult<()> {
        self.0
            .run(|core| core.stream_consumed(stream_id, size, seconds(now)))
    }

    fn stream_finished(&mut self, stream_id: u64) -> PyResult<()> {
        self.0.run(|core| core.stream_finished(stream_id))
    }

    fn reset_stream(&mut self, stream_id: u64, code: u32) -> PyResult<()> {
        self.0.run(|core| core.reset_stream(stream_id, code))
    }

    fn stop_stream(&mut self, stream_id: u64, code: u32) -> PyResult<()> {
        self.0.run(|core| core.stop_stream(stream_id, code))
    }

    /// The receiving side of a stream that `stop_sending` stopped has ended.
    fn stopped_stream_gone(&mut self, stream_id: u64, final_size: u64) -> PyResult<()> {
        self.0
            .run(|core| core.stopped_stream_gone(stream_id, final_size))
    }

    /// QUIC reports nothing more about a stream.
    fn stream_gone(&mut self, stream_id: u64) -> PyResult<()> {
        self.0.run(|core| core.stream_gone(stream_id))
    }

    /// What goes before the payload of a datagram of this session.
    fn datagram_prefix<'py>(
        &mut self,
        py: Python<'py>,
        session_id: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let prefix = self
            .0
            .run(|core| core.datagram_prefix(session_id))?
            .map_err(core_error)?;
        Ok(PyBytes::new(py, &prefix))
    }

    /// Label and context to give to the TLS exporter.
    fn exporter<'py>(
        &mut self,
        py: Python<'py>,
        session_id: u64,
        label: &[u8],
        context: &[u8],
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let (label, context) = self
            .0
            .run(|core| core.exporter(session_id, label, context))?
            .map_err(core_error)?;
        let bytes = |part| PyBytes::new(py, part);
        Ok((bytes(label.as_bytes()), bytes(&context)))
    }

    /// The peer's SETTINGS by id, or None while they have not arrived.
    fn peer_settings<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let Some(settings) = self.0.run(|core| core.peer_settings().cloned())? else {
            return Ok(None);
        };
        let dict = PyDict::new(py);
        for (id, value) in settings.iter() {
            dict.set_item(id, value)?;
        }
        Ok(Some(dict))
    }

    #[getter]
    fn dialect(&mut self) -> PyResult<Option<&'static str>> {
        self.0
            .run(|core| core.dialect().map(|dialect| dialect.name()))
    }

    /// No session, and every CONNECT stream is closed by both ends.
    #[getter]
    fn is_idle(&mut self) -> PyResult<bool> {
        self.0.run(|core| core.is_idle())
    }

    fn session_flow<'py>(
        &mut self,
        py: Python<'py>,
        session_id: u64,
    ) -> PyResult<Bound<'py, PyDict>> {
        flow_dict(py, self.0.run(|core| core.session_flow(session_id))?)
    }

    fn stats<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.0.run(|core| core.stats())?;
        let dict = PyDict::new(py);
        dict.set_item("sessions", stats.sessions)?;
        dict.set_item("requests", stats.requests)?;
        dict.set_item("streams", stats.streams)?;
        dict.set_item("early_streams", stats.early_streams)?;
        dict.set_item("early_stream_bytes", stats.early_stream_bytes)?;
        dict.set_item("early_datagrams", stats.early_datagrams)?;
        dict.set_item("sessions_established", stats.sessions_established)?;
        dict.set_item("streams_opened", stats.streams_opened)?;
        dict.set_item("streams_accepted", stats.streams_accepted)?;
        dict.set_item("streams_rejected", stats.streams_rejected)?;
        dict.set_item("datagrams_received", stats.datagrams_received)?;
        dict.set_item("datagrams_dropped", stats.datagrams_dropped)?;
        dict.set_item("bytes_received", stats.bytes_received)?;
        dict.set_item("bytes_sent", stats.bytes_sent)?;
        dict.set_item("unknown_skipped", stats.unknown_skipped)?;
        Ok(dict)
    }
}

/// The flow control of a session by the field names of `WebTransportSessionInfo`; empty without.
pub(crate) fn flow_dict(py: Python<'_>, flow: Option<FlowView>) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    if let Some(flow) = flow {
        dict.set_item("local_max_data", flow.peer_data.limit)?;
        dict.set_item("local_data_sent", flow.local_data.used)?;
        dict.set_item("peer_max_data", flow.local_data.limit)?;
        dict.set_item("peer_data_sent", flow.peer_data.used)?;
        dict.set_item("local_max_streams_bidi", flow.peer_bidi.limit)?;
        dict.set_item("local_streams_bidi_opened", flow.local_bidi.used)?;
        dict.set_item("peer_max_streams_bidi", flow.local_bidi.limit)?;
        dict.set_item("peer_streams_bidi_opened", flow.peer_bidi.used)?;
        dict.set_item("local_max_streams_uni", flow.peer_uni.limit)?;
        dict.set_item("local_streams_uni_opened", flow.local_uni.used)?;
        dict.set_item("peer_max_streams_uni", flow.local_uni.limit)?;
        dict.set_item("peer_streams_uni_opened", flow.peer_uni.used)?;
    }
    Ok(dict)
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<CoreConfig>()?;
    m.add_class::<CoreConnection>()
}
