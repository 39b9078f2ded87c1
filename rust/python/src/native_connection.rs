//! `EndpointConnection`: one connection of the native engine, as the engine seam wants it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList};
use pyo3::{intern, PyTraverseError, PyVisit};
use pywt_core::{Dir, Request, Response};
use pywt_endpoint::{
    Audience, Connection, ConnectionKey, Epilogue, Error, Notification, Payload, Read, Sending,
};

use crate::core_connection::flow_dict;
use crate::fields::{field_lines, fields};
use crate::native_buffer::{join, slices, with_slice};
use crate::native_endpoint::{address, Endpoint, State};
use crate::native_seam::{by, kind, EndpointSeam};
use crate::native_sink::Sink;

/// One QUIC connection with its HTTP/3 and WebTransport state. Made by `Endpoint`; meant to be
/// subclassed with the methods `connected()` and `lost(code, reason, by, kind,
/// fault)`; `fault` is name and text of what this side has against the peer's certificate.
#[pyclass(frozen, subclass, weakref, module = "pywebtransport._native")]
pub(crate) struct EndpointConnection {
    place: OnceLock<Place>,
    audience: Mutex<Audience<Arc<Sink>>>,
}

struct Place {
    endpoint: Py<Endpoint>,
    key: ConnectionKey,
    is_client: bool,
}

#[pymethods]
impl EndpointConnection {
    #[new]
    fn new() -> Self {
        Self {
            place: OnceLock::new(),
            audience: Mutex::default(),
        }
    }

    #[getter]
    fn is_client(&self) -> PyResult<bool> {
        Ok(self.place()?.is_client)
    }

    /// Whether `closed` has been told.
    #[getter]
    fn is_closed(&self) -> bool {
        self.audience().is_closed()
    }

    /// Stays known after the end, as do the peer's and the figures.
    #[getter]
    fn local_address(&self) -> PyResult<Option<(String, u16)>> {
        let place = self.place()?;
        let Some((remote, ip)) = self.facts(
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
        let mut local = place.endpoint.get().look()?.bound();
        if local.ip().is_unspecified() {
            if let Some(ip) = ip.or_else(|| source_ip(remote)) {
                local.set_ip(ip);
            }
        }
        Ok(Some(address(local)))
    }

    #[getter]
    fn remote_address(&self) -> PyResult<Option<(String, u16)>> {
        let remote = self.facts(
            |connection| connection.quic().remote_address(),
            |epilogue| epilogue.remote,
        )?;
        Ok(remote.map(address))
    }

    /// Attaches the facade; notifications that came before are delivered now. It is let go when it
    /// has been told the end.
    fn set_sink(&self, py: Python<'_>, sink: &Bound<'_, PyAny>) -> PyResult<()> {
        let seam = self.place()?.endpoint.get().seam();
        let sink = Arc::new(Sink::new(sink)?);
        let (missed, before) = self.audience().attach(&sink);
        drop(before);
        let mut told = Ok(());
        for notification in missed {
            told = told.and(self.deliver(py, seam, &sink, notification));
        }
        told
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
        self.with(py, Sending::Later, |connection, now| {
            connection.open_session(request, now)
        })
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
        self.with(py, Sending::Now, |connection, now| {
            connection.accept_session(session_id, response, now)
        })
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
        self.with(py, Sending::Later, |connection, now| {
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
        self.with(py, Sending::Now, |connection, now| {
            connection.close_session(session_id, code, reason, now)
        })
    }

    fn drain_session(&self, py: Python<'_>, session_id: u64) -> PyResult<()> {
        self.with(py, Sending::Later, |connection, now| {
            connection.drain_session(session_id, now)
        })
    }

    /// An interim response, or the head of the final one.
    #[pyo3(signature = (stream_id, *, status, headers, fin))]
    fn respond(
        &self,
        py: Python<'_>,
        stream_id: u64,
        status: u16,
        headers: &Bound<'_, PyAny>,
        fin: bool,
    ) -> PyResult<()> {
        let headers = field_lines(headers)?;
        let sending = if fin {
            Sending::Message
        } else {
            Sending::Later
        };
        self.with(py, sending, |connection, now| {
            connection.respond(stream_id, status, &headers, fin, now)
        })
    }

    /// The end of a response.
    #[pyo3(signature = (stream_id, *, trailers = None))]
    fn finish_response(
        &self,
        py: Python<'_>,
        stream_id: u64,
        trailers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let trailers = trailers.map(field_lines).transpose()?.unwrap_or_default();
        self.with(py, Sending::Message, |connection, now| {
            connection.finish_response(stream_id, &trailers, now)
        })
    }

    fn abort_request(&self, py: Python<'_>, stream_id: u64, code: u64) -> PyResult<()> {
        self.with(py, Sending::Later, |connection, now| {
            connection.abort_request(stream_id, code, now)
        })
    }

    fn open_stream(
        &self,
        py: Python<'_>,
        session_id: u64,
        unidirectional: bool,
    ) -> PyResult<Option<u64>> {
        let dir = if unidirectional { Dir::Uni } else { Dir::Bidi };
        self.with(py, Sending::Later, |connection, now| {
            connection.open_stream(session_id, dir, now)
        })
    }

    fn stream_read<'py>(
        &self,
        py: Python<'py>,
        stream_id: u64,
        max_size: isize,
    ) -> PyResult<(Bound<'py, PyBytes>, bool)> {
        let max = usize::try_from(max_size).unwrap_or(usize::MAX);
        let mut chunks = Vec::new();
        let read = self.read(py, |connection, now| {
            connection.stream_read(stream_id, max, &mut chunks, now)
        })?;
        match read {
            Some(Read::Data(total)) => Ok((join(py, &chunks, total)?, false)),
            Some(Read::Last(total)) => Ok((join(py, &chunks, total)?, true)),
            Some(Read::Nothing) => Ok((PyBytes::new(py, b""), false)),
            Some(Read::End) => Ok((PyBytes::new(py, b""), true)),
            None => Ok((PyBytes::new(py, b""), self.audience().is_closed())),
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
        self.with(py, Sending::Later, |connection, now| {
            connection.stream_reset(stream_id, code, now)
        })
    }

    fn stream_stop(&self, py: Python<'_>, stream_id: u64, code: u32) -> PyResult<()> {
        self.with(py, Sending::Later, |connection, now| {
            connection.stream_stop(stream_id, code, now)
        })
    }

    fn set_stream_priority(&self, py: Python<'_>, stream_id: u64, priority: i32) -> PyResult<()> {
        self.with(py, Sending::Later, |connection, _| {
            connection.set_stream_priority(stream_id, priority);
            Ok(())
        })
    }

    fn max_datagram_size(&self, py: Python<'_>, session_id: u64) -> PyResult<usize> {
        self.with(py, Sending::Later, |connection, _| {
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
            return self.push(py, session_id, slice);
        }
        let buffer = PyBuffer::<u8>::get(data)?;
        with_slice(py, &buffer, |slice| self.push(py, session_id, slice))
    }

    fn offer_datagram(
        &self,
        py: Python<'_>,
        session_id: u64,
        data: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        if let Ok(bytes) = data.cast::<PyBytes>() {
            let slice = bytes.as_bytes();
            return Ok(self.offer(py, session_id, &[slice])? == 1);
        }
        let buffer = PyBuffer::<u8>::get(data)?;
        with_slice(py, &buffer, |slice| {
            Ok(self.offer(py, session_id, &[slice])? == 1)
        })
    }

    fn offer_datagrams(
        &self,
        py: Python<'_>,
        session_id: u64,
        datagrams: &Bound<'_, PyList>,
    ) -> PyResult<usize> {
        let datagrams: Vec<_> = datagrams.iter().collect();
        self.offer(py, session_id, &slices(py, &datagrams)?)
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
        let stats = self
            .facts(Connection::stats, |epilogue| epilogue.stats)?
            .unwrap_or_default();
        self.place()?.endpoint.get().seam().stats(py, &stats)
    }

    fn export_keying_material<'py>(
        &self,
        py: Python<'py>,
        session_id: u64,
        label: &[u8],
        context: &[u8],
        length: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut output = vec![0; length.min(MAX_EXPORT + 1)];
        let exported = length <= MAX_EXPORT
            && self.with(py, Sending::Later, |connection, _| {
                connection.export_keying_material(session_id, label, context, &mut output)
            })?;
        if !exported {
            return Err(PyValueError::new_err(format!(
                "cannot export {length} bytes of keying material"
            )));
        }
        Ok(PyBytes::new(py, &output))
    }

    fn send_goaway(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, Sending::Later, |connection, now| connection.goaway(now))
    }

    /// CONNECTION_CLOSE once the peer has read how its sessions ended. Idempotent.
    #[pyo3(signature = (*, code, reason))]
    fn close(&self, py: Python<'_>, code: u64, reason: &str) -> PyResult<()> {
        if self.audience().is_closed() {
            return Ok(());
        }
        self.with(py, Sending::Later, |connection, now| {
            connection.close(code, reason, now);
            Ok(())
        })
    }

    /// The peer's certificates in DER, leaf first.
    fn peer_certificates<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let chain = self.with(py, Sending::Later, |connection, _| {
            Ok(connection.quic().peer_certificates())
        })?;
        PyList::new(py, chain.iter().map(|der| PyBytes::new(py, der)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(place) = self.place.get() {
            visit.call(&place.endpoint)?;
        }
        if let Ok(audience) = self.audience.try_lock() {
            if let Some(sink) = audience.listener() {
                sink.traverse(&visit)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let sink = self.audience().detach();
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

    /// Tells the sink, or keeps the notification until there is one; and the object itself of
    /// beginning and end.
    pub(crate) fn tell(
        &self,
        object: &Bound<'_, Self>,
        seam: &EndpointSeam,
        notification: Notification,
    ) -> PyResult<()> {
        let py = object.py();
        let lost = match &notification {
            Notification::Connected => {
                object.call_method0(intern!(py, "connected"))?;
                return Ok(());
            }
            Notification::Closed(close, _) => Some((
                close.code,
                close.reason.clone(),
                by(close.by),
                kind(close.kind),
                close
                    .certificate
                    .as_ref()
                    .map(|fault| (fault.name(), fault.to_string())),
            )),
            _ => None,
        };
        let heard = self.audience().hear(notification);
        let told = match heard {
            Some((sink, notification)) => self.deliver(py, seam, &sink, notification),
            None => Ok(()),
        };
        match lost {
            // Whatever the sink made of it, those who wait for the end are told.
            Some(lost) => told.and(object.call_method1(intern!(py, "lost"), lost).map(drop)),
            None => told,
        }
    }

    /// While the sink is told the end of a session it can read what had arrived.
    fn deliver(
        &self,
        py: Python<'_>,
        seam: &EndpointSeam,
        sink: &Sink,
        notification: Notification,
    ) -> PyResult<()> {
        let ended = match &notification {
            Notification::SessionClosed { session, .. } => Some(*session),
            _ => None,
        };
        let told = sink.tell(py, seam, notification);
        if let Some(session) = ended {
            self.read(py, |connection, _| connection.forget_ended(session))?;
        }
        told
    }

    /// What is known of the connection while it lives, or was when it ended. From any thread.
    fn facts<T>(
        &self,
        now: impl FnOnce(&Connection) -> T,
        at_end: impl FnOnce(&Epilogue) -> T,
    ) -> PyResult<Option<T>> {
        if let Some(epilogue) = self.audience().epilogue() {
            return Ok(Some(at_end(epilogue)));
        }
        let place = self.place()?;
        let mut state = place.endpoint.get().look()?;
        let connection = state
            .reactor()
            .and_then(|reactor| reactor.endpoint().connection(place.key));
        Ok(connection.map(now))
    }

    /// Locked for moments only, in which no Python runs.
    fn audience(&self) -> MutexGuard<'_, Audience<Arc<Sink>>> {
        self.audience.lock().unwrap_or_else(PoisonError::into_inner)
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
        let call = |connection: &mut Connection, now| Ok(call(connection, now));
        match self.run(py, Sending::Later, call)? {
            Ok(value) => Ok(Some(value)),
            Err(Error::Closed) => Ok(None),
            Err(error) => Err(self.exception(py, &error)),
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
        let sending = if fin {
            Sending::Message
        } else {
            Sending::Later
        };
        let written = self.run(py, sending, |connection, now| {
            connection.stream_write(stream_id, data, fin, now)
        })?;
        match written {
            Ok(taken) => Ok(taken),
            Err(Error::Closed) if !self.audience().is_closed() => Ok(0),
            Err(error) => Err(self.exception(py, &error)),
        }
    }

    /// Runs a call on the connection, with its errors as the seam's exceptions.
    fn with<T>(
        &self,
        py: Python<'_>,
        sending: Sending,
        call: impl FnOnce(&mut Connection, Instant) -> Result<T, Error>,
    ) -> PyResult<T> {
        self.run(py, sending, call)?
            .map_err(|error| self.exception(py, &error))
    }

    fn push(&self, py: Python<'_>, session_id: u64, data: &[u8]) -> PyResult<bool> {
        self.with(py, Sending::Message, |connection, _| {
            connection.send_datagram(session_id, data)
        })
    }

    fn offer(
        &self,
        py: Python<'_>,
        session_id: u64,
        datagrams: &[impl AsRef<[u8]>],
    ) -> PyResult<usize> {
        self.with(py, Sending::Message, |connection, _| {
            connection.offer_datagrams(session_id, datagrams)
        })
    }

    fn exception(&self, py: Python<'_>, error: &Error) -> PyErr {
        match self.place() {
            Ok(place) => place.endpoint.get().seam().exception(py, error),
            Err(none) => none,
        }
    }

    /// Runs a call on the connection, then asks the event loop for what came of it.
    fn run<T>(
        &self,
        py: Python<'_>,
        sending: Sending,
        call: impl FnOnce(&mut Connection, Instant) -> Result<T, Error>,
    ) -> PyResult<Result<T, Error>> {
        let place = self.place()?;
        let mut state = place.endpoint.get().enter(py)?;
        let result = match state.reactor() {
            Some(reactor) => reactor.call(place.key, sending, |connection| {
                call(connection, Instant::now())
            }),
            None => Err(Error::Closed),
        };
        State::leave(state, py)?;
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

/// From here on keeping a `bytes` alive is cheaper than copying it.
const ZERO_COPY: usize = 64 * 1024;
/// What TLS 1.3 can export at once with SHA-256 (RFC 5869 §2.3).
const MAX_EXPORT: usize = 255 * 32;
