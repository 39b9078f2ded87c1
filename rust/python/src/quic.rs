//! `QuicCore`: one sans-I/O QUIC connection for `pywebtransport.quic`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyOverflowError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};
use pywt_quic::{
    ClientTls, Close, CloseKind, Congestion, ConnectError, Dir, FileKeyLog, Identity, KeyLog,
    Misuse, ServerTls, Standalone, StandaloneEvent, TransportOptions, Verify,
};

create_exception!(
    pywebtransport._native,
    QuicConfigurationError,
    PyException,
    "A certificate, a trust store or a limit that QUIC cannot use."
);
create_exception!(
    pywebtransport._native,
    QuicMisuse,
    PyException,
    "A call that the state of the QUIC connection or stream does not allow."
);

use crate::core_error::Guarded;

/// Datagrams kept until the application takes them, in bytes.
const DATAGRAM_BUFFER: usize = 1 << 20;

/// The longest time a connection may be told of, which any clock can still add up.
const MAX_SECONDS: f64 = 1e9;

/// One QUIC connection without I/O; times are seconds on the driver's clock.
#[pyclass(module = "pywebtransport._native")]
pub(crate) struct QuicCore {
    inner: Guarded<Standalone>,
    /// The driver's time at the first call that told one.
    start: Option<f64>,
}

#[pymethods]
impl QuicCore {
    #[new]
    #[pyo3(signature = (
        *,
        is_client,
        alpn_protocols,
        server_name,
        verify,
        cafile,
        certificate_hashes,
        certificate_chain,
        private_key,
        secrets_log_file,
        congestion_control_algorithm,
        idle_timeout,
        max_data,
        max_stream_data,
        max_streams,
        datagrams,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        is_client: bool,
        alpn_protocols: Vec<String>,
        server_name: String,
        verify: bool,
        cafile: Option<PathBuf>,
        certificate_hashes: Vec<[u8; 32]>,
        certificate_chain: Option<Vec<u8>>,
        private_key: Option<Vec<u8>>,
        secrets_log_file: Option<PathBuf>,
        congestion_control_algorithm: &str,
        idle_timeout: f64,
        max_data: u64,
        max_stream_data: u64,
        max_streams: u64,
        datagrams: bool,
    ) -> PyResult<Self> {
        let transport = TransportOptions {
            congestion: congestion(congestion_control_algorithm)?,
            datagram_receive_buffer: if datagrams { DATAGRAM_BUFFER } else { 0 },
            initial_streams: max_streams,
            max_idle_timeout: (idle_timeout > 0.0)
                .then(|| seconds(idle_timeout))
                .transpose()?,
            max_streams_bidi: max_streams,
            max_streams_uni: max_streams,
            receive_window: max_data,
            stream_receive_window: max_stream_data,
            ..TransportOptions::default()
        };
        let alpn = alpn_protocols.into_iter().map(String::into_bytes).collect();
        let identity = match (certificate_chain, private_key) {
            (Some(chain), Some(key)) => {
                Some(Identity::from_pem(&chain, &key).map_err(configuration_error)?)
            }
            _ => None,
        };
        let key_log = secrets_log_file.map(|path| key_log(&path)).transpose()?;
        let inner = if is_client {
            let verify = if verify {
                Verify::Required
            } else {
                Verify::None
            };
            let tls = ClientTls {
                alpn,
                ca_file: cafile,
                certificate_hashes,
                identity,
                key_log,
                verify,
            };
            Standalone::client(&tls, transport, server_name)
        } else {
            let identity = identity.ok_or_else(|| {
                QuicConfigurationError::new_err(
                    "a server needs a certificate: call load_cert_chain(certfile, keyfile)",
                )
            })?;
            let verify = if verify {
                Verify::Required
            } else {
                Verify::None
            };
            let tls = ServerTls {
                alpn,
                ca_file: cafile,
                identity,
                key_log,
                verify,
            };
            Standalone::server(&tls, transport)
        };
        let inner = Guarded::new(inner.map_err(configuration_error)?);
        Ok(Self { inner, start: None })
    }

    fn connect(&mut self, host: &str, port: u16, now: f64) -> PyResult<()> {
        let now = self.elapsed(now)?;
        let remote = address(host, port)?;
        self.inner
            .run(|quic| quic.connect(remote, now))?
            .map_err(|error| match error {
                ConnectError::Misuse(error) => misuse(error),
                ConnectError::Refused(error) => configuration_error(error),
            })
    }

    fn receive_datagram(&mut self, data: &[u8], host: &str, port: u16, now: f64) -> PyResult<()> {
        let now = self.elapsed(now)?;
        let remote = address(host, port)?;
        self.inner
            .run(|quic| quic.receive_datagram(data, remote, now))
    }

    /// (data, host, port) of each packet.
    fn datagrams_to_send<'py>(
        &mut self,
        py: Python<'py>,
        now: f64,
    ) -> PyResult<Vec<(Bound<'py, PyBytes>, String, u16)>> {
        let now = self.elapsed(now)?;
        let packets = self.inner.run(|quic| quic.datagrams_to_send(now))?;
        Ok(packets
            .into_iter()
            .map(|(data, to)| (PyBytes::new(py, &data), to.ip().to_string(), to.port()))
            .collect())
    }

    fn get_timer(&mut self) -> PyResult<Option<f64>> {
        let timer = self.inner.run(Standalone::timer)?;
        Ok(self
            .start
            .zip(timer)
            .map(|(start, timer)| start + timer.as_secs_f64()))
    }

    fn handle_timer(&mut self, now: f64) -> PyResult<()> {
        let now = self.elapsed(now)?;
        self.inner.run(|quic| quic.handle_timer(now))
    }

    /// A tuple that starts with the event's kind, or None.
    fn next_event<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        self.inner
            .run(Standalone::next_event)?
            .map(|event| tuple(py, event))
            .transpose()
    }

    fn get_next_available_stream_id(&mut self, is_unidirectional: bool) -> PyResult<u64> {
        let dir = if is_unidirectional { Dir::Uni } else { Dir::Bi };
        self.inner.run(|quic| quic.next_stream_id(dir))
    }

    fn send_stream_data(&mut self, stream_id: u64, data: &[u8], end_stream: bool) -> PyResult<()> {
        let data = Bytes::copy_from_slice(data);
        self.inner
            .run(|quic| quic.send_stream_data(stream_id, data, end_stream))?
            .map_err(misuse)
    }

    /// Bytes that the peer's limits hold back.
    fn unsent(&mut self, stream_id: u64) -> PyResult<usize> {
        self.inner.run(|quic| quic.unsent(stream_id))
    }

    fn reset_stream(&mut self, stream_id: u64, error_code: u64) -> PyResult<()> {
        self.inner
            .run(|quic| quic.reset_stream(stream_id, error_code))?
            .map_err(misuse)
    }

    fn stop_stream(&mut self, stream_id: u64, error_code: u64) -> PyResult<()> {
        self.inner
            .run(|quic| quic.stop_stream(stream_id, error_code))?
            .map_err(misuse)
    }

    fn send_ping(&mut self, uid: u64) -> PyResult<()> {
        self.inner.run(|quic| quic.send_ping(uid))
    }

    fn send_datagram_frame(&mut self, data: &[u8]) -> PyResult<()> {
        let data = Bytes::copy_from_slice(data);
        self.inner
            .run(|quic| quic.send_datagram(data))?
            .map_err(misuse)
    }

    #[getter]
    fn max_datagram_size(&mut self) -> PyResult<usize> {
        self.inner.run(Standalone::max_datagram_size)
    }

    #[getter]
    fn datagrams_dropped(&mut self) -> PyResult<u64> {
        self.inner.run(|quic| quic.datagrams_dropped())
    }

    #[getter]
    fn rtt(&mut self) -> PyResult<f64> {
        self.inner.run(|quic| quic.stats().rtt.as_secs_f64())
    }

    #[getter]
    fn peer_certificates<'py>(&mut self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let chain = self.inner.run(|quic| quic.peer_certificates())?;
        Ok(chain.iter().map(|der| PyBytes::new(py, der)).collect())
    }

    fn close(&mut self, error_code: u64, reason_phrase: &str) -> PyResult<()> {
        self.inner.run(|quic| quic.close(error_code, reason_phrase))
    }
}

impl QuicCore {
    /// The driver's clock as time since its first call; a clock that goes back stands still.
    fn elapsed(&mut self, now: f64) -> PyResult<Duration> {
        let start = *self.start.get_or_insert(now);
        seconds((now - start).max(0.0))
    }
}

fn tuple(py: Python<'_>, event: StandaloneEvent) -> PyResult<Bound<'_, PyTuple>> {
    match event {
        StandaloneEvent::Connected { protocol } => {
            let protocol = protocol.map(|name| String::from_utf8_lossy(&name).into_owned());
            ("connected", protocol).into_pyobject(py)
        }
        StandaloneEvent::Datagram(data) => ("datagram", PyBytes::new(py, &data)).into_pyobject(py),
        StandaloneEvent::PingAcknowledged(uid) => ("ping", uid).into_pyobject(py),
        StandaloneEvent::Stopped { id, code } => ("stopped", id, code).into_pyobject(py),
        StandaloneEvent::StreamReset { id, code } => ("reset", id, code).into_pyobject(py),
        StandaloneEvent::StreamData { id, data, fin } => {
            ("data", id, PyBytes::new(py, &data), fin).into_pyobject(py)
        }
        StandaloneEvent::Terminated(close) => {
            let frame_type = frame_type(&close);
            ("terminated", close.code, frame_type, close.reason).into_pyobject(py)
        }
    }
}

/// The frame type a transport close is about: CRYPTO for TLS alerts, else not known; None says
/// that the application closed.
fn frame_type(close: &Close) -> Option<u64> {
    match close.kind {
        CloseKind::Application => None,
        CloseKind::Tls { .. } => Some(0x06),
        _ => Some(0x00),
    }
}

fn address(host: &str, port: u16) -> PyResult<SocketAddr> {
    // A zone (fe80::1%eth0) is for the socket that sends, not for QUIC.
    let ip: IpAddr = host
        .split('%')
        .next()
        .unwrap_or(host)
        .parse()
        .map_err(|_| {
            PyValueError::new_err(format!(
                "{host:?} is not an IP address; resolve names first"
            ))
        })?;
    Ok(SocketAddr::new(ip, port))
}

pub(crate) fn congestion(name: &str) -> PyResult<Congestion> {
    match name {
        "bbr" => Ok(Congestion::Bbr),
        "cubic" => Ok(Congestion::Cubic),
        "reno" => Ok(Congestion::NewReno),
        _ => Err(QuicConfigurationError::new_err(format!(
            "congestion_control_algorithm '{name}' is not one of 'bbr', 'cubic', 'reno'"
        ))),
    }
}

pub(crate) fn key_log(path: &Path) -> PyResult<Arc<dyn KeyLog>> {
    Ok(Arc::new(
        FileKeyLog::open(path).map_err(configuration_error)?,
    ))
}

pub(crate) fn seconds(value: f64) -> PyResult<Duration> {
    if (0.0..=MAX_SECONDS).contains(&value) {
        return Ok(Duration::from_secs_f64(value));
    }
    Err(PyOverflowError::new_err(format!(
        "{value} is not a time between 0 and {MAX_SECONDS} s"
    )))
}

pub(crate) fn configuration_error(error: pywt_quic::Error) -> PyErr {
    QuicConfigurationError::new_err(error.to_string())
}

fn misuse(error: Misuse) -> PyErr {
    QuicMisuse::new_err(error.to_string())
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    m.add_class::<QuicCore>()?;
    m.add(
        "QuicConfigurationError",
        py.get_type::<QuicConfigurationError>(),
    )?;
    m.add("QuicMisuse", py.get_type::<QuicMisuse>())?;
    Ok(())
}
