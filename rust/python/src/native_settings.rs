//! `EndpointServer` and `EndpointClient`: what the native engine's endpoints are made from.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use pyo3::prelude::*;
use pywt_endpoint::{ConnectionOptions, ServerSetup};
use pywt_quic::{
    ClientOptions, ClientTls, FileKeyLog, Identity, KeyLog, QlogDirectory, ServerOptions,
    ServerTls, TransportOptions, Verify,
};

use crate::core_connection::CoreConfig;
use crate::quic::{configuration_error, congestion, seconds, QuicConfigurationError};

/// QUIC and queue settings, shared by clients and servers. Sizes in bytes, times in seconds.
#[pyclass(frozen, module = "pywebtransport._native")]
pub(crate) struct EndpointTransport {
    transport: TransportOptions,
    incoming_datagrams: Option<usize>,
    outgoing_datagrams: Option<usize>,
    linger: Option<f64>,
    close_timeout: Option<f64>,
}

#[pymethods]
impl EndpointTransport {
    #[new]
    #[pyo3(signature = (
        *,
        congestion_control_algorithm = "cubic",
        idle_timeout = None,
        keep_alive_interval = None,
        stream_receive_window = None,
        receive_window = None,
        send_window = None,
        initial_streams = None,
        max_streams_bidi = None,
        max_streams_uni = None,
        mtu_discovery = true,
        qlog = None,
        incoming_datagrams = None,
        outgoing_datagrams = None,
        linger = None,
        close_timeout = None,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        congestion_control_algorithm: &str,
        idle_timeout: Option<f64>,
        keep_alive_interval: Option<f64>,
        stream_receive_window: Option<u64>,
        receive_window: Option<u64>,
        send_window: Option<u64>,
        initial_streams: Option<u64>,
        max_streams_bidi: Option<u64>,
        max_streams_uni: Option<u64>,
        mtu_discovery: bool,
        qlog: Option<(PathBuf, Py<PyAny>)>,
        incoming_datagrams: Option<usize>,
        outgoing_datagrams: Option<usize>,
        linger: Option<f64>,
        close_timeout: Option<f64>,
    ) -> PyResult<Self> {
        let defaults = TransportOptions::default();
        let transport = TransportOptions {
            congestion: congestion(congestion_control_algorithm)?,
            // The endpoint keeps datagrams in queues of its own. QUIC holds few on the way out,
            // and on the way in as many as one batch of packets can carry.
            datagram_receive_buffer: QUIC_RECEIVED_DATAGRAMS,
            datagram_send_buffer: QUIC_DATAGRAM_BUFFER,
            initial_streams: initial_streams.unwrap_or(defaults.initial_streams),
            keep_alive_interval: keep_alive_interval.map(seconds).transpose()?,
            max_idle_timeout: match idle_timeout {
                Some(time) => Some(seconds(time)?),
                None => defaults.max_idle_timeout,
            },
            max_streams_bidi: max_streams_bidi.unwrap_or(defaults.max_streams_bidi),
            max_streams_uni: max_streams_uni.unwrap_or(defaults.max_streams_uni),
            mtu_discovery,
            qlog: qlog.map(|(path, report)| qlog_directory(path, report)),
            receive_window: receive_window.unwrap_or(defaults.receive_window),
            send_window: send_window.unwrap_or(defaults.send_window),
            stream_receive_window: stream_receive_window.unwrap_or(defaults.stream_receive_window),
            ..defaults
        };
        Ok(Self {
            transport,
            incoming_datagrams,
            outgoing_datagrams,
            linger,
            close_timeout,
        })
    }
}

impl EndpointTransport {
    fn connection(&self, core: &CoreConfig) -> PyResult<ConnectionOptions> {
        let mut options = ConnectionOptions::new(core.0.clone());
        if let Some(count) = self.incoming_datagrams {
            options.incoming_datagram_count = count;
        }
        if let Some(count) = self.outgoing_datagrams {
            options.outgoing_datagram_count = count;
        }
        if let Some(time) = self.linger {
            options.linger = seconds(time)?;
        }
        if let Some(time) = self.close_timeout {
            options.close_timeout = seconds(time)?;
        }
        Ok(options)
    }
}

/// A server: certificate, admission, transport and protocol.
#[pyclass(frozen, module = "pywebtransport._native")]
pub(crate) struct EndpointServer(pub(crate) ServerSetup);

#[pymethods]
impl EndpointServer {
    #[new]
    #[pyo3(signature = (
        *,
        certfile,
        keyfile,
        transport,
        core,
        alpn_protocols,
        verify_mode = "none",
        ca_certs = None,
        key_log_file = None,
        max_connections,
        max_connections_per_address,
        retry,
        retry_above,
        handshake_timeout,
        first_session_timeout,
        request_linger,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        certfile: PathBuf,
        keyfile: PathBuf,
        transport: &EndpointTransport,
        core: &CoreConfig,
        alpn_protocols: Vec<String>,
        verify_mode: &str,
        ca_certs: Option<PathBuf>,
        key_log_file: Option<PathBuf>,
        max_connections: usize,
        max_connections_per_address: Option<usize>,
        retry: bool,
        retry_above: usize,
        handshake_timeout: f64,
        first_session_timeout: f64,
        request_linger: f64,
    ) -> PyResult<Self> {
        let mut connection = transport.connection(core)?;
        connection.handshake_timeout = seconds(handshake_timeout)?;
        connection.first_session_timeout = seconds(first_session_timeout)?;
        connection.request_linger = seconds(request_linger)?;
        Ok(Self(ServerSetup {
            tls: ServerTls {
                alpn: alpn(alpn_protocols),
                ca_file: ca_certs,
                identity: Identity::from_files(&certfile, &keyfile).map_err(configuration_error)?,
                key_log: key_log(key_log_file),
                verify: verify(verify_mode)?,
            },
            transport: transport.transport.clone(),
            options: ServerOptions {
                max_connections,
                max_connections_per_address: max_connections_per_address.unwrap_or(usize::MAX),
                retry,
                retry_above,
            },
            connection,
        }))
    }
}

/// A client: trust, transport and protocol. Connections made with one value share tickets.
#[pyclass(frozen, module = "pywebtransport._native")]
pub(crate) struct EndpointClient {
    pub(crate) options: ClientOptions,
    pub(crate) connection: ConnectionOptions,
}

#[pymethods]
impl EndpointClient {
    #[new]
    #[pyo3(signature = (
        *,
        transport,
        core,
        alpn_protocols,
        verify_mode = "required",
        ca_certs = None,
        certificate_hashes = Vec::new(),
        certfile = None,
        keyfile = None,
        key_log_file = None,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        transport: &EndpointTransport,
        core: &CoreConfig,
        alpn_protocols: Vec<String>,
        verify_mode: &str,
        ca_certs: Option<PathBuf>,
        certificate_hashes: Vec<[u8; 32]>,
        certfile: Option<PathBuf>,
        keyfile: Option<PathBuf>,
        key_log_file: Option<PathBuf>,
    ) -> PyResult<Self> {
        let identity = match (certfile, keyfile) {
            (Some(chain), Some(key)) => {
                Some(Identity::from_files(&chain, &key).map_err(configuration_error)?)
            }
            _ => None,
        };
        let tls = ClientTls {
            alpn: alpn(alpn_protocols),
            ca_file: ca_certs,
            certificate_hashes,
            identity,
            key_log: key_log(key_log_file),
            verify: verify(verify_mode)?,
        };
        Ok(Self {
            options: ClientOptions::new(&tls, transport.transport.clone())
                .map_err(configuration_error)?,
            connection: transport.connection(core)?,
        })
    }
}

fn alpn(names: Vec<String>) -> Vec<Vec<u8>> {
    names.into_iter().map(String::into_bytes).collect()
}

/// A log that cannot be opened is no reason not to serve: it is a debugging aid.
fn key_log(path: Option<PathBuf>) -> Option<Arc<dyn KeyLog>> {
    let log = FileKeyLog::open(&path?).ok()?;
    Some(Arc::new(log))
}

/// `report` is called with why a file is not written, from a thread of its own: what a connection
/// does must not run Python.
fn qlog_directory(path: PathBuf, report: Py<PyAny>) -> QlogDirectory {
    let report = Arc::new(report);
    QlogDirectory::new(path, move |reason| {
        let report = report.clone();
        let tell = move || {
            // None when the interpreter ends: nobody listens then.
            let _told = Python::try_attach(|py| {
                if let Err(error) = report.call1(py, (reason,)) {
                    error.write_unraisable(py, None);
                }
            });
        };
        // Without a thread nobody hears of it, and the connection goes on.
        let _untold = thread::Builder::new().spawn(tell);
    })
}

fn verify(mode: &str) -> PyResult<Verify> {
    match mode {
        "none" => Ok(Verify::None),
        "optional" => Ok(Verify::Optional),
        "required" => Ok(Verify::Required),
        _ => Err(QuicConfigurationError::new_err(format!(
            "verify_mode {mode:?} is not one of 'none', 'optional', 'required'"
        ))),
    }
}

/// Two GSO batches of datagrams; more would only age there, where the oldest cannot be dropped.
const QUIC_DATAGRAM_BUFFER: usize = 128 * 1024;
/// What quinn counts for half a megabyte of packets full of the shortest datagrams.
const QUIC_RECEIVED_DATAGRAMS: usize = 8 * 1024 * 1024;
