//! `EndpointConnection`: one connection of the native engine, as the engine seam wants it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyType};
use pyo3::{intern, PyTraverseError, PyVisit};
use pywt_core::{Dir, Request, Response};
use pywt_endpoint::{Connection, ConnectionKey, Epilogue, Error, Notification, Payload, Read};

use crate::core_connection::flow_dict;
use crate::native_buffer::{join, with_slice};
use crate::native_endpoint::{address, report, Endpoint};
use crate::native_error::exception;
use crate::native_sink::{by, kind, Sink, BASE};

/// One QUIC connection with its HTTP/3 and WebTransport state. Made by `Endpoint`; meant to be
/// subclassed with the methods `connected()` and `lost(code, reason, by, kind)`.
#[pyclass(frozen, subclass, weakref, module = "pywebtransport._native")]
pub(crate) struct EndpointConnection {
    place: OnceLock<Place>,
    told: Mutex<Told>,
}

struct Place {
    endpoint: Py<Endpoint>,
    key: ConnectionKey,
    is_client: bool,
}

#[derive(Default)]
struct Told {
    sink: Option<Sink>,
    /// What came before there was a sink.
    early: Vec<Notification>,
    closed: bool,
    epilogue: Option<Box<Epilogue>>,
}

#[pymethods]
impl EndpointConnection {
    #[new]
    fn new() -> Self {
        Self {
            place: OnceLock::new(),
            told: Mutex::default(),
        }
    }

    #[getter]
    fn is_client(&self) -> PyResult<bool> {
        Ok(self.place()?.is_client)
    }

    /// Whether `closed` has been told.
    #[getter]
    fn is_closed(&self) -> bool {
        self.told().closed
    }

    /// Stays known after the end, as do the peer's and the figures.
    #[getter]
    fn local_address(&self, py: Python<'_>) -> PyResult<Option<(String, u16)>> {
        let place = self.place()?;
        let Some((remote, ip)) = self.facts(
            py,
            |connection| {
                (
                    connection.quic().remote_address(),
                    connection.quic().local_ip(),
                )
            },
            |epilogue| (epilogue.remote, epilogue.local_ip),
        )?
        else {
            return Ok(None);
        };
        let mut local = place.endpoint.bind(py).get().lock()?.bound();
        if local.ip().is_unspecified() {
            if let Some(ip) = ip.or_else(|| source_ip(remote)) {
                local.set_ip(ip);
            }
        }
        Ok(Some(address(local)))
    }

    #[getter]
    fn remote_address(&self, py: Python<'_>) -> PyResult<Option<(String, u16)>> {
        let remote = self.facts(
            py,
            |connection| connection.quic().remote_address(),
            |epilogue| epilogue.remote,
        )?;
        Ok(remote.map(address))
    }

    /// Attaches the facade; notifications that came before are delivered now.
    fn set_sink(slf: &Bound<'_, Self>, sink: &Bound<'_, PyAny>) -> PyResult<()> {
        let sink = Sink::new(sink)?;
        let early = {
            let mut told = slf.get().told();
            told.sink = Some(sink);
            std::mem::take(&mut told.early)
        };
        for notification in early {
            slf.get().tell(slf, notification);
        }
        Ok(())
    }

    #[pyo3(signature = (*, authority, path, headers, protocols = Vec::new()))]
    fn open_session(
        &self,
        py: Python<'_>,
        authority: String,
        path: String,
        headers: &Bound<'_, PyAny>,
        protocols: Vec<String>,
    ) -> PyResult<u64> {
        let request = Request {
            authority,
            path,
            headers: fields(headers)?,
            protocols,
        };
        self.with(py, |connection, now| connection.open_session(request, now))
    }

    #[pyo3(signature = (session_id, *, protocol = None, headers = None))]
    fn accept_session(
        &self,
        py: Python<'_>,
        session_id: u64,
        protocol: Option<String>,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let headers = headers.map(fields).transpose()?.unwrap_or_default();
        let response = Response { protocol, headers };
        self.with(py, |connection, now| {
            connection.accept_session(session_id, response, now)
        })?;
        self.transmit(py)
    }

    #[pyo3(signature = (session_id, *, status, headers = None))]
    fn reject_session(
        &self,
        py: Python<'_>,
        session_id: u64,
        status: u16,
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let headers = headers.map(fields).transpose()?.unwrap_or_default();
        self.with(py, |connection, now| {
            connection.reject_session(session_id, status, &headers, now)
        })
    }

    #[pyo3(signature = (session_id, *, code, reason))]
    fn close_session(
        &self,
        py: Python<'_>,
        session_id: u64,
        code: u32,
        reason: &str,
    ) -> PyResult<()> {
        self.with(py, |connection, now| {
            connection.close_session(session_id, code, reason, now)
        })?;
        self.transmit(py)
    }

    fn drain_session(&self, py: Python<'_>, session_id: u64) -> PyResult<()> {
        self.with(py, |connection, now| {
            connection.drain_session(session_id, now)
        })
    }

    fn open_stream(
        &self,
        py: Python<'_>,
        session_id: u64,
        unidirectional: bool,
    ) -> PyResult<Option<u64>> {
        let dir = if unidirectional { Dir::Uni } else { Dir::Bidi };
        self.with(py, |connection, now| {
            connection.open_stream(session_id, dir, now)
        })
    }

    fn stream_read<'py>(
        &self,
        py: Python<'py>,
        stream_id: u64,
        max_size: isize,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let max = usize::try_from(max_size).unwrap_or(usize::MAX);
        let mut chunks = Vec::new();
        let read = self.read(py, |connection, now| {
            connection.stream_read(stream_id, max, &mut chunks, now)
        })?;
        let gone = if self.told().closed {
            Read::End
        } else {
            Read::Nothing
        };
        match read.unwrap_or(gone) {
            Read::Data(total) => join(py, &chunks, total).map(Some),
            Read::Nothing => Ok(None),
            Read::End => Ok(Some(PyBytes::new(py, b""))),
        }
    }

    fn stream_write(
        &self,
        py: Python<'_>,
        stream_id: u64,
        data: &Bound<'_, PyAny>,
        fin: bool,
    ) -> PyResult<usize> {
        if let Ok(bytes) = data.cast::<PyBytes>() {
            let slice = bytes.as_bytes();
            if slice.len() < ZERO_COPY {
                return self.write(py, stream_id, Payload::Slice(slice), fin);
            }
            let shared = Bytes::from_owner(PyBackedBytes::from(bytes.clone()));
            return self.write(py, stream_id, Payload::Shared(shared), fin);
        }
        let buffer = PyBuffer::<u8>::get(data)?;
        with_slice(py, &buffer, |slice| {
            self.write(py, stream_id, Payload::Slice(slice), fin)
        })
    }

    fn stream_reset(&self, py: Python<'_>, stream_id: u64, code: u32) -> PyResult<()> {
        self.with(py, |connection, now| {
            connection.stream_reset(stream_id, code, now)
        })
    }

    fn stream_stop(&self, py: Python<'_>, stream_id: u64, code: u32) -> PyResult<()> {
        self.with(py, |connection, now| {
            connection.stream_stop(stream_id, code, now)
        })
    }

    fn set_stream_priority(&self, py: Python<'_>, stream_id: u64, priority: i32) -> PyResult<()> {
        self.with(py, |connection, _| {
            connection.set_stream_priority(stream_id, priority);
            Ok(())
        })
    }

    fn max_datagram_size(&self, py: Python<'_>, session_id: u64) -> PyResult<usize> {
        self.with(py, |connection, _| {
            Ok(connection.max_datagram_size(session_id))
        })
    }

    fn send_datagram(
        &self,
        py: Python<'_>,
        session_id: u64,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        if let Ok(bytes) = data.cast::<PyBytes>() {
            let slice = bytes.as_bytes();
            return self.send_message(py, session_id, slice);
        }
        let buffer = PyBuffer::<u8>::get(data)?;
        with_slice(py, &buffer, |slice| {
            self.send_message(py, session_id, slice)
        })
    }

    fn receive_datagram<'py>(
        &self,
        py: Python<'py>,
        session_id: u64,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let data = self.read(py, |connection, _| connection.receive_datagram(session_id))?;
        Ok(data.flatten().map(|data| PyBytes::new(py, &data)))
    }

    fn datagrams_dropped(&self, py: Python<'_>, session_id: u64) -> PyResult<u64> {
        let dropped = self.read(py, |connection, _| connection.datagrams_dropped(session_id))?;
        Ok(dropped.unwrap_or_default())
    }

    fn receive_datagrams<'py>(
        &self,
        py: Python<'py>,
        session_id: u64,
        max_count: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let taken = self.read(py, |connection, _| {
            connection.receive_datagrams(session_id, max_count)
        })?;
        PyList::new(
            py,
            taken
                .unwrap_or_default()
                .iter()
                .map(|data| PyBytes::new(py, data)),
        )
    }

    fn session_flow<'py>(&self, py: Python<'py>, session_id: u64) -> PyResult<Bound<'py, PyDict>> {
        let flow = self.read(py, |connection, _| {
            connection.core().session_flow(session_id)
        })?;
        flow_dict(py, flow.flatten())
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static STATS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let stats = self
            .facts(py, Connection::stats, |epilogue| epilogue.stats)?
            .unwrap_or_default();
        let fields = PyDict::new(py);
        fields.set_item("rtt", stats.quic.rtt.as_secs_f64())?;
        fields.set_item("cwnd", stats.quic.cwnd)?;
        fields.set_item("bytes_in_flight", stats.quic.bytes_in_flight)?;
        fields.set_item("bytes_sent", stats.quic.bytes_sent)?;
        fields.set_item("bytes_received", stats.quic.bytes_received)?;
        fields.set_item("packets_sent", stats.quic.packets_sent)?;
        fields.set_item("packets_received", stats.quic.packets_received)?;
        fields.set_item("packets_lost", stats.quic.packets_lost)?;
        fields.set_item(
            "datagrams_dropped",
            stats.datagrams_dropped + stats.core.datagrams_dropped,
        )?;
        let extra = PyDict::new(py);
        extra.set_item("min_rtt", stats.quic.min_rtt.as_secs_f64())?;
        extra.set_item("mtu", stats.quic.mtu)?;
        extra.set_item("congestion_events", stats.quic.congestion_events)?;
        extra.set_item("sessions", stats.core.sessions)?;
        extra.set_item("streams", stats.core.streams)?;
        extra.set_item("early_streams", stats.core.early_streams)?;
        extra.set_item("early_stream_bytes", stats.core.early_stream_bytes)?;
        extra.set_item("early_datagrams", stats.core.early_datagrams)?;
        extra.set_item("sessions_established", stats.core.sessions_established)?;
        extra.set_item("streams_opened", stats.core.streams_opened)?;
        extra.set_item("streams_accepted", stats.core.streams_accepted)?;
        extra.set_item("streams_rejected", stats.core.streams_rejected)?;
        extra.set_item("datagrams_received", stats.core.datagrams_received)?;
        extra.set_item("unknown_skipped", stats.core.unknown_skipped)?;
        fields.set_item("extra", extra)?;
        STATS
            .import(py, BASE, "EngineStats")?
            .call((), Some(&fields))
    }

    fn export_keying_material<'py>(
        &self,
        py: Python<'py>,
        session_id: u64,
        label: &[u8],
        context: &[u8],
        length: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let (Ok(label_len), Ok(context_len)) =
            (u8::try_from(label.len()), u8::try_from(context.len()))
        else {
            return Err(PyValueError::new_err(
                "label and context of an exporter are at most 255 bytes long",
            ));
        };
        // webtrans-http3-16 §4.9.
        let mut scope = session_id.to_be_bytes().to_vec();
        scope.push(label_len);
        scope.extend_from_slice(label);
        scope.push(context_len);
        scope.extend_from_slice(context);
        let mut output = vec![0; length.min(MAX_EXPORT + 1)];
        let exported = length <= MAX_EXPORT
            && self.with(py, |connection, _| {
                Ok(connection.export_keying_material(&scope, &mut output))
            })?;
        if !exported {
            return Err(PyValueError::new_err(format!(
                "cannot export {length} bytes of keying material"
            )));
        }
        Ok(PyBytes::new(py, &output))
    }

    fn send_goaway(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |connection, now| connection.goaway(now))
    }

    /// CONNECTION_CLOSE once the peer has read how its sessions ended. Idempotent.
    #[pyo3(signature = (*, code, reason))]
    fn close(&self, py: Python<'_>, code: u64, reason: &str) -> PyResult<()> {
        if self.told().closed {
            return Ok(());
        }
        self.with(py, |connection, now| {
            connection.close(code, reason, now);
            Ok(())
        })
    }

    /// The peer's certificates in DER, leaf first.
    fn peer_certificates<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let chain = self.with(py, |connection, _| {
            Ok(connection.quic().peer_certificates())
        })?;
        PyList::new(py, chain.iter().map(|der| PyBytes::new(py, der)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(place) = self.place.get() {
            visit.call(&place.endpoint)?;
        }
        if let Ok(told) = self.told.try_lock() {
            if let Some(sink) = &told.sink {
                sink.traverse(&visit)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let sink = self.told().sink.take();
        drop(sink);
    }
}

impl EndpointConnection {
    pub(crate) fn attach(
        &self,
        endpoint: &Bound<'_, Endpoint>,
        key: ConnectionKey,
        is_client: bool,
    ) {
        // A fresh object has no place yet; `new_connection` returning an old one is refused by
        // its keeping the first.
        let _first = self.place.set(Place {
            endpoint: endpoint.clone().unbind(),
            key,
            is_client,
        });
    }

    /// Tells the sink, or keeps the notification until there is one.
    pub(crate) fn tell(&self, object: &Bound<'_, Self>, notification: Notification) {
        let py = object.py();
        match &notification {
            Notification::Connected => {
                report(
                    py,
                    object
                        .call_method0(intern!(py, "connected"))
                        .map(Bound::unbind),
                );
                return;
            }
            Notification::Closed(close, epilogue) => {
                let lost = (
                    close.code,
                    close.reason.clone(),
                    by(close.by),
                    kind(close.kind),
                );
                {
                    let mut told = self.told();
                    told.closed = true;
                    told.epilogue = epilogue.clone();
                }
                self.deliver(py, notification);
                report(
                    py,
                    object
                        .call_method1(intern!(py, "lost"), lost)
                        .map(Bound::unbind),
                );
                return;
            }
            _ => {}
        }
        self.deliver(py, notification);
    }

    fn deliver(&self, py: Python<'_>, notification: Notification) {
        let call = {
            let mut told = self.told();
            let Some(sink) = &told.sink else {
                told.early.push(notification);
                return;
            };
            sink.call(py, notification)
        };
        match call {
            Ok(call) => report(py, call.make(py)),
            Err(error) => error.write_unraisable(py, None),
        }
    }

    /// What is known of the connection while it lives, or was when it ended.
    fn facts<T>(
        &self,
        py: Python<'_>,
        now: impl FnOnce(&Connection) -> T,
        at_end: impl FnOnce(&Epilogue) -> T,
    ) -> PyResult<Option<T>> {
        if let Some(epilogue) = &self.told().epilogue {
            return Ok(Some(at_end(epilogue)));
        }
        let place = self.place()?;
        let mut state = place.endpoint.bind(py).get().lock()?;
        let endpoint = state.endpoint();
        Ok(endpoint.and_then(|endpoint| endpoint.connection(place.key).map(now)))
    }

    /// Sends at once what the peer waits for, instead of at the end of the loop's turn.
    fn transmit(&self, py: Python<'_>) -> PyResult<()> {
        let mut state = self.place()?.endpoint.bind(py).get().lock()?;
        state.transmit();
        let wishes = state.wishes(py);
        drop(state);
        wishes.grant(py);
        Ok(())
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> PyResult<&Place> {
        self.place
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("not a connection of an endpoint"))
    }

    /// Runs a call that reads; `None` when the connection is gone.
    fn read<T>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut Connection, Instant) -> T,
    ) -> PyResult<Option<T>> {
        match self.run(py, false, |connection, now| Ok(call(connection, now)))? {
            Ok(value) => Ok(Some(value)),
            Err(Error::Closed) => Ok(None),
            Err(error) => Err(exception(py, &error)),
        }
    }

    /// Nothing is taken while the connection is gone and nobody has been told why.
    fn write(
        &self,
        py: Python<'_>,
        stream_id: u64,
        data: Payload<'_>,
        fin: bool,
    ) -> PyResult<usize> {
        let written = self.run(py, fin, |connection, now| {
            connection.stream_write(stream_id, data, fin, now)
        })?;
        match written {
            Ok(taken) => Ok(taken),
            Err(Error::Closed) if !self.told().closed => Ok(0),
            Err(error) => Err(exception(py, &error)),
        }
    }

    /// Runs a call on the connection, with its errors as the seam's exceptions.
    fn with<T>(
        &self,
        py: Python<'_>,
        call: impl FnOnce(&mut Connection, Instant) -> Result<T, Error>,
    ) -> PyResult<T> {
        self.run(py, false, call)?
            .map_err(|error| exception(py, &error))
    }

    fn send_message(&self, py: Python<'_>, session_id: u64, data: &[u8]) -> PyResult<bool> {
        self.run(py, true, |connection, _| {
            connection.send_datagram(session_id, data)
        })?
        .map_err(|error| exception(py, &error))
    }

    /// Runs a call on the connection, then asks the event loop for what came of it. `is_message`:
    /// the call completes what the peer is to have.
    fn run<T>(
        &self,
        py: Python<'_>,
        is_message: bool,
        call: impl FnOnce(&mut Connection, Instant) -> Result<T, Error>,
    ) -> PyResult<Result<T, Error>> {
        let place = self.place()?;
        let mut state = place.endpoint.bind(py).get().lock()?;
        let result = match state.endpoint() {
            Some(endpoint) => {
                endpoint.with(place.key, |connection| call(connection, Instant::now()))
            }
            None => Err(Error::Closed),
        };
        if is_message {
            state.transmit_message();
        }
        let wishes = state.wishes(py);
        drop(state);
        wishes.grant(py);
        Ok(result)
    }
}

/// The address this machine sends from to `remote`; nothing is sent to find out.
fn source_ip(remote: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match remote {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let probe = UdpSocket::bind((any, 0)).ok()?;
    probe.connect(remote).ok()?;
    Some(probe.local_addr().ok()?.ip())
}

/// Header fields from a mapping.
fn fields(headers: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    headers
        .call_method0(intern!(headers.py(), "items"))?
        .try_iter()?
        .map(|item| item?.extract())
        .collect()
}

/// From here on keeping a `bytes` alive is cheaper than copying it.
const ZERO_COPY: usize = 64 * 1024;
/// What TLS 1.3 can export at once with SHA-256 (RFC 5869 §2.3).
const MAX_EXPORT: usize = 255 * 32;
