//! `Endpoint`: the native engine's reactor on one UDP socket, for one event loop.
//!
//! The event loop calls in when the socket is readable, when the timer fires and once per turn
//! to flush; each call takes one batch and tells the sinks. No Python runs while the state is
//! locked, so sinks may call back.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::{intern, PyTraverseError, PyVisit};
use pywt_endpoint::{ConnectionKey, Notification, Reactor, Telling};
use pywt_quic::{Identity, ServerTls, Socket};

use crate::native_connection::EndpointConnection;
use crate::native_hooks::{is_exit, report, HookCalls, Hooks};
use crate::native_seam::EndpointSeam;
use crate::native_settings::{EndpointClient, EndpointServer, EndpointTransport};
use crate::native_sockets::{udp_socket, worker_reactor, WorkerPlace};
use crate::native_thread::Home;
use crate::quic::configuration_error;

/// A UDP socket and its connections.
///
/// `hooks` has the methods `schedule_flush()`, `arm_timer(delay)`, `watch_writable(on)`,
/// `watch_again()`, for loops that stop watching a socket that had an error, `is_running_here()`,
/// whether this thread runs the event loop now, `new_connection()`, which returns an
/// `EndpointConnection`, and `failed(connection, error)`, for what a sink raised; a server's also
/// `accepted(connection)`.
#[pyclass(frozen, weakref, module = "pywebtransport._native")]
pub(crate) struct Endpoint {
    seam: Py<EndpointSeam>,
    state: Mutex<State>,
}

pub(crate) struct State {
    /// `None` once closed.
    reactor: Option<Reactor>,
    /// Where the socket is bound, or was.
    bound: SocketAddr,
    hooks: Option<Hooks>,
    home: Home,
    connections: HashMap<ConnectionKey, Py<EndpointConnection>>,
    tls: Option<ServerTls>,
}

/// An address without a name; IPv6 may have a zone by number, as in `fe80::1%4`. Only link-local
/// addresses come back from the kernel with one, and a peer is known by its address as a whole.
fn socket_address(host: &str, port: u16) -> PyResult<SocketAddr> {
    let (ip, zone) = host.split_once('%').unwrap_or((host, "0"));
    match (ip.parse(), zone.parse()) {
        (Ok(IpAddr::V6(ip)), Ok(zone)) => {
            let zone = if ip.is_unicast_link_local() { zone } else { 0 };
            Ok(SocketAddrV6::new(ip, port, 0, zone).into())
        }
        (Ok(ip), Ok(0)) => Ok(SocketAddr::new(ip, port)),
        _ => Err(PyValueError::new_err(format!(
            "not an IP address: {host:?}"
        ))),
    }
}

#[pymethods]
impl Endpoint {
    /// Binds a socket, for the event loop that runs in this thread, or takes over the bound one
    /// behind `fileno`, of a worker at its `place`. OSError: the address cannot be bound.
    #[new]
    #[pyo3(signature = (*, host, port, hooks, seam, server = None, fileno = None, place = None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        host: &str,
        port: u16,
        hooks: Bound<'_, PyAny>,
        seam: Py<EndpointSeam>,
        server: Option<&EndpointServer>,
        fileno: Option<i64>,
        place: Option<WorkerPlace>,
    ) -> PyResult<Self> {
        // A worker's socket is the server's, whoever looks after it.
        let reports_errors = server.is_none() && place.is_none();
        let socket = match fileno {
            Some(fileno) => Socket::new(udp_socket(fileno)?, reports_errors),
            None => Socket::bind(socket_address(host, port)?, reports_errors),
        }
        .map_err(os_error)?;
        let mut reactor = match place {
            Some(place) => worker_reactor(socket, place)?,
            None => Reactor::new(socket),
        };
        let mut tls = None;
        if let Some(EndpointServer(setup)) = server {
            tls = Some(setup.tls.clone());
            reactor
                .endpoint()
                .serve(setup.clone())
                .map_err(configuration_error)?;
        }
        Ok(Self {
            seam,
            state: Mutex::new(State {
                bound: reactor.local_address(),
                reactor: Some(reactor),
                hooks: Some(Hooks::new(hooks)?),
                home: Home::here(py)?,
                connections: HashMap::new(),
                tls,
            }),
        })
    }

    /// The socket's file descriptor, for the event loop to watch.
    #[cfg(unix)]
    fn fileno(&self) -> PyResult<i32> {
        use std::os::fd::AsRawFd;
        let state = self.look()?;
        let reactor = state.reactor.as_ref().ok_or_else(closed)?;
        Ok(reactor.socket().io().as_raw_fd())
    }

    /// The file descriptor that is readable when another worker has handed a packet on; None
    /// without others.
    #[cfg(unix)]
    fn inbox_fileno(&self) -> PyResult<Option<i32>> {
        use std::os::fd::AsRawFd;
        let state = self.look()?;
        let reactor = state.reactor.as_ref().ok_or_else(closed)?;
        Ok(reactor.fellows().map(|fellows| fellows.inbox().as_raw_fd()))
    }

    /// Where the socket is bound.
    #[getter]
    fn local_address(&self) -> PyResult<(String, u16)> {
        let state = self.look()?;
        let reactor = state.reactor.as_ref().ok_or_else(closed)?;
        Ok(address(reactor.local_address()))
    }

    /// Connections whose state is still kept, the closed ones in their draining period included.
    #[getter]
    fn connections(&self) -> PyResult<usize> {
        let mut state = self.look()?;
        Ok(state
            .reactor
            .as_mut()
            .map_or(0, |reactor| reactor.endpoint().connections()))
    }

    /// What became of clients that began, by the names of `Handshakes`.
    fn handshakes(&self) -> PyResult<[u64; 5]> {
        let mut state = self.look()?;
        let count = state
            .reactor
            .as_mut()
            .map_or_else(Default::default, |reactor| reactor.endpoint().handshakes());
        Ok([
            count.begun,
            count.retried,
            count.refused_full,
            count.refused_network,
            count.refused_leaving,
        ])
    }

    /// The connections that have not been told closed.
    fn open_connections(&self, py: Python<'_>) -> PyResult<Vec<Py<EndpointConnection>>> {
        let state = self.look()?;
        Ok(state
            .connections
            .values()
            .map(|connection| connection.clone_ref(py))
            .collect())
    }

    /// Starts a client connection; `connected` or `lost` is called on it.
    fn connect(
        slf: &Bound<'_, Self>,
        client: &EndpointClient,
        remote: (String, u16),
        server_name: &str,
    ) -> PyResult<Py<EndpointConnection>> {
        let py = slf.py();
        let remote = socket_address(&remote.0, remote.1)?;
        let this = slf.get();
        let object = this.new_connection(py)?;
        let mut state = this.enter(py)?;
        let reactor = state.reactor.as_mut().ok_or_else(closed)?;
        let started = reactor.endpoint().connect(
            &client.options,
            &client.connection,
            remote,
            server_name,
            Instant::now(),
        );
        let key = started.map_err(|error| PyValueError::new_err(error.to_string()))?;
        reactor.transmit();
        object.get().attach(slf, key, true);
        state.connections.insert(key, object.clone().unbind());
        State::leave(state, py)?;
        Ok(object.unbind())
    }

    /// The socket is readable: takes what has arrived and tells the sinks. Sends at once when
    /// nobody had to be told, else after whoever was told has had a turn.
    fn on_readable(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::turn(slf, Reactor::on_readable, |_| {})
    }

    /// Another worker has handed a packet on.
    #[cfg(unix)]
    fn on_handed_on(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::turn(slf, Reactor::on_handed_on, |_| {})
    }

    /// The timer has fired.
    fn on_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::turn(slf, Reactor::on_timer, |_| {})
    }

    /// Tells the sinks what calls brought about, and sends what is to be sent.
    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::turn(slf, Reactor::on_flush, Reactor::transmit)
    }

    /// Uses another certificate for connections that start from now on.
    fn reload_certificate(
        &self,
        py: Python<'_>,
        certfile: std::path::PathBuf,
        keyfile: std::path::PathBuf,
    ) -> PyResult<()> {
        let identity = Identity::from_files(&certfile, &keyfile).map_err(configuration_error)?;
        let mut state = self.enter(py)?;
        let Some(tls) = state.tls.clone() else {
            return Err(PyRuntimeError::new_err("not a server"));
        };
        let tls = ServerTls { identity, ..tls };
        let reactor = state.reactor.as_mut().ok_or_else(closed)?;
        reactor
            .endpoint()
            .reload(&tls)
            .map_err(configuration_error)?;
        state.tls = Some(tls);
        Ok(())
    }

    /// Refuses new connections and closes the running ones.
    fn close_connections(&self, py: Python<'_>, code: u64, reason: &str) -> PyResult<()> {
        let mut state = self.enter(py)?;
        if let Some(reactor) = &mut state.reactor {
            let now = Instant::now();
            reactor.endpoint().close_connections(code, reason, now);
        }
        State::leave(state, py)
    }

    /// Ends every connection at once, tells their peers and their sinks, and releases the socket.
    /// Idempotent. Not `tell`: nobody listens any more.
    #[pyo3(signature = (*, tell = true))]
    fn close(slf: &Bound<'_, Self>, tell: bool) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        if let Some(reactor) = &mut this.enter(py)?.reactor {
            reactor.close();
        }
        let told = if tell {
            Self::tell_the_rest(slf)
        } else {
            Ok(())
        };
        this.release();
        told
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.seam)?;
        if let Ok(state) = self.state.try_lock() {
            if let Some(hooks) = &state.hooks {
                hooks.traverse(&visit)?;
            }
            for connection in state.connections.values() {
                visit.call(connection)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.release();
    }
}

impl Endpoint {
    pub(crate) fn seam(&self) -> &EndpointSeam {
        self.seam.get()
    }

    /// The state, for a look from any thread.
    pub(crate) fn look(&self) -> PyResult<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::Poisoned(poisoned)) => Ok(PoisonError::into_inner(poisoned)),
            // Nothing that runs under the lock calls Python or lets go of the GIL.
            Err(TryLockError::WouldBlock) => Err(PyRuntimeError::new_err("endpoint is in use")),
        }
    }

    /// The state, for a call that may change it: only from the thread that runs the event loop.
    /// [`State::leave`] follows.
    pub(crate) fn enter(&self, py: Python<'_>) -> PyResult<MutexGuard<'_, State>> {
        let state = self.look()?;
        match &state.hooks {
            Some(hooks) if !state.home.is_here() => {
                let (hooks, owner) = (hooks.object(py), state.home.name().to_owned());
                drop(state);
                let here = Home::here(py)?;
                // An event loop may go on in another thread when it has stopped in one.
                if !hooks
                    .call_method0(intern!(py, "is_running_here"))?
                    .extract::<bool>()?
                {
                    return Err(self.seam().wrong_thread(py, &owner, here.name()));
                }
                let mut state = self.look()?;
                state.home = here;
                Ok(state)
            }
            _ => Ok(state),
        }
    }

    /// Lets go of the socket and everything else, telling nobody.
    fn release(&self) {
        if let Ok(mut state) = self.look() {
            let reactor = state.reactor.take();
            let hooks = state.hooks.take();
            let connections = std::mem::take(&mut state.connections);
            drop(state);
            drop((reactor, hooks, connections));
        }
    }

    fn new_connection<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, EndpointConnection>> {
        let object = self
            .hooks(py)?
            .call_method0(intern!(py, "new_connection"))?;
        Ok(object.cast_into::<EndpointConnection>()?)
    }

    fn hooks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.look()?;
        Ok(state.hooks.as_ref().ok_or_else(closed)?.object(py))
    }

    /// The event loop calls in: does `first`, tells the sinks what they should know by now, does
    /// `last`, and asks the event loop for what came of it all.
    fn turn(
        slf: &Bound<'_, Self>,
        first: impl FnOnce(&mut Reactor),
        last: impl FnOnce(&mut Reactor),
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let telling = {
            let mut state = this.enter(py)?;
            let Some(reactor) = &mut state.reactor else {
                return Ok(());
            };
            first(reactor);
            reactor.begin_telling()
        };
        let told = match telling {
            Some(telling) => Self::tell_all(slf, telling),
            None => Ok(()),
        };
        let mut state = this.look()?;
        if let Some(reactor) = &mut state.reactor {
            last(reactor);
        }
        let left = State::leave(state, py);
        told.and(left)
    }

    /// Tells the sinks until the turn's share of it is told, or the program is to end.
    fn tell_all(slf: &Bound<'_, Self>, mut telling: Telling) -> PyResult<()> {
        let _end = EndTelling(slf.get());
        loop {
            let next = match &mut slf.get().look()?.reactor {
                Some(reactor) => reactor.tell(&mut telling),
                None => None,
            };
            let Some((key, notification)) = next else {
                return Ok(());
            };
            Self::tell(slf, key, notification)?;
        }
    }

    /// Tells the sinks everything, whoever else is about to.
    fn tell_the_rest(slf: &Bound<'_, Self>) -> PyResult<()> {
        let mut told = Ok(());
        loop {
            let next = match &mut slf.get().look()?.reactor {
                Some(reactor) => reactor.endpoint().poll_notification(),
                None => None,
            };
            let Some((key, notification)) = next else {
                return told;
            };
            told = told.and(Self::tell(slf, key, notification));
        }
    }

    /// Tells one connection one thing. Fails only with what is to end the program: what else a
    /// sink raises is a defect on this side, and ends its connection.
    fn tell(slf: &Bound<'_, Self>, key: ConnectionKey, notification: Notification) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let known = {
            let mut state = this.look()?;
            if matches!(notification, Notification::Closed(..)) {
                state.connections.remove(&key)
            } else {
                let known = state.connections.get(&key);
                known.map(|connection| connection.clone_ref(py))
            }
        };
        let told = match known {
            Some(connection) => {
                let connection = connection.into_bound(py);
                let told = connection
                    .get()
                    .tell(&connection, this.seam(), notification);
                told.map_err(|error| (connection, error))
            }
            // A client's handshake is complete.
            None if notification == Notification::Connected => Self::accept(slf, key)?,
            // It never had an object.
            None => Ok(()),
        };
        match told {
            Err((connection, error)) if !is_exit(py, &error) => {
                let failed = (connection, error.into_value(py));
                let hooks = this.hooks(py)?;
                report(py, hooks.call_method1(intern!(py, "failed"), failed))
            }
            told => told.map_err(|(_, error)| error),
        }
    }

    /// Makes the object of a connection that a client has opened.
    fn accept<'py>(
        slf: &Bound<'py, Self>,
        key: ConnectionKey,
    ) -> PyResult<Result<(), (Bound<'py, EndpointConnection>, PyErr)>> {
        let py = slf.py();
        let this = slf.get();
        let object = this.new_connection(py)?;
        object.get().attach(slf, key, false);
        let kept = object.clone().unbind();
        this.look()?.connections.insert(key, kept);
        let accepted = this
            .hooks(py)?
            .call_method1(intern!(py, "accepted"), (&object,));
        Ok(accepted.map(drop).map_err(|error| (object, error)))
    }
}

/// However the telling ends, somebody else may begin it afterwards.
struct EndTelling<'a>(&'a Endpoint);

impl Drop for EndTelling<'_> {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.look() {
            if let Some(reactor) = &mut state.reactor {
                reactor.end_telling();
            }
        }
    }
}

impl State {
    pub(crate) fn reactor(&mut self) -> Option<&mut Reactor> {
        self.reactor.as_mut()
    }

    pub(crate) fn bound(&self) -> SocketAddr {
        self.bound
    }

    /// Unlocks, then asks the event loop for what came of the call.
    pub(crate) fn leave(mut state: MutexGuard<'_, Self>, py: Python<'_>) -> PyResult<()> {
        let this = &mut *state;
        let calls = match (&mut this.reactor, &this.hooks) {
            (Some(reactor), Some(hooks)) => hooks.calls(py, reactor.wishes()),
            _ => HookCalls::default(),
        };
        drop(state);
        calls.make(py)
    }
}

pub(crate) fn address(address: SocketAddr) -> (String, u16) {
    (address.ip().to_canonical().to_string(), address.port())
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Endpoint>()?;
    m.add_class::<EndpointClient>()?;
    m.add_class::<EndpointConnection>()?;
    m.add_class::<EndpointSeam>()?;
    m.add_class::<EndpointServer>()?;
    m.add_class::<EndpointTransport>()
}

fn closed() -> PyErr {
    PyOSError::new_err("the endpoint is closed")
}

/// With `errno`, which PyO3's own conversion leaves out.
fn os_error(error: std::io::Error) -> PyErr {
    let Some(code) = error.raw_os_error() else {
        return error.into();
    };
    let text = error.to_string();
    let suffix = format!(" (os error {code})");
    PyOSError::new_err((code, text.trim_end_matches(&suffix).to_owned()))
}
