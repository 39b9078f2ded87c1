//! `Endpoint`: the native engine's reactor on one UDP socket, for one event loop.
//!
//! The event loop calls in when the socket is readable, when the timer fires and once per turn
//! to flush; each call takes one batch and tells the sinks. No Python runs while the state is
//! locked, so sinks may call back.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::{intern, PyTraverseError, PyVisit};
use pywt_endpoint::{ConnectionKey, Endpoint as Connections, Flushed, Notification, Reactor};
use pywt_quic::{Identity, ServerTls, Socket};

use crate::native_connection::EndpointConnection;
use crate::native_settings::{EndpointClient, EndpointServer, EndpointTransport};
use crate::quic::configuration_error;

/// A UDP socket and its connections.
///
/// `hooks` has the methods `schedule_flush()`, `arm_timer(delay)`, `watch_writable(on)`,
/// `watch_again()`, for loops that stop watching a socket that had an error, and
/// `new_connection()`, which returns an `EndpointConnection`; a server's also
/// `accepted(connection)`.
#[pyclass(frozen, weakref, module = "pywebtransport._native")]
pub(crate) struct Endpoint {
    state: Mutex<State>,
}

pub(crate) struct State {
    /// `None` once closed.
    reactor: Option<Reactor>,
    /// Where the socket is bound, or was.
    bound: SocketAddr,
    hooks: Option<Hooks>,
    connections: HashMap<ConnectionKey, Py<EndpointConnection>>,
    tls: Option<ServerTls>,
    flush_scheduled: bool,
    /// Something was sent at once since the event loop last called; what follows is gathered.
    sent_promptly: bool,
    /// Sinks are being told; whoever tells them asks for a flush.
    dispatching: bool,
    /// The socket had no room; the loop says when it has.
    blocked: bool,
    writable_watched: bool,
    armed: Option<Instant>,
}

struct Hooks {
    object: Py<PyAny>,
    schedule_flush: Py<PyAny>,
}

/// What Python has to be told after the state is unlocked.
#[derive(Default)]
pub(crate) struct Wishes {
    schedule: Option<Py<PyAny>>,
    arm: Option<(Py<PyAny>, f64)>,
    watch_again: Option<Py<PyAny>>,
    watch_writable: Option<(Py<PyAny>, bool)>,
}

impl Wishes {
    pub(crate) fn grant(self, py: Python<'_>) {
        let Self {
            schedule,
            arm,
            watch_again,
            watch_writable,
        } = self;
        if let Some(hook) = schedule {
            report(py, hook.call0(py));
        }
        if let Some((hooks, delay)) = arm {
            report(
                py,
                hooks.call_method1(py, intern!(py, "arm_timer"), (delay,)),
            );
        }
        if let Some(hooks) = watch_again {
            report(py, hooks.call_method0(py, intern!(py, "watch_again")));
        }
        if let Some((hooks, on)) = watch_writable {
            report(
                py,
                hooks.call_method1(py, intern!(py, "watch_writable"), (on,)),
            );
        }
    }
}

#[pymethods]
impl Endpoint {
    /// Binds a socket. OSError: the address cannot be bound.
    #[new]
    #[pyo3(signature = (*, host, port, hooks, server = None))]
    fn new(
        py: Python<'_>,
        host: IpAddr,
        port: u16,
        hooks: Py<PyAny>,
        server: Option<&EndpointServer>,
    ) -> PyResult<Self> {
        let socket =
            Socket::bind(SocketAddr::new(host, port), server.is_none()).map_err(os_error)?;
        let mut reactor = Reactor::new(socket);
        let mut tls = None;
        if let Some(EndpointServer(setup)) = server {
            tls = Some(setup.tls.clone());
            reactor
                .endpoint()
                .serve(setup.clone())
                .map_err(configuration_error)?;
        }
        let schedule_flush = hooks.getattr(py, intern!(py, "schedule_flush"))?;
        Ok(Self {
            state: Mutex::new(State {
                bound: reactor.local_address(),
                reactor: Some(reactor),
                hooks: Some(Hooks {
                    object: hooks,
                    schedule_flush,
                }),
                connections: HashMap::new(),
                tls,
                flush_scheduled: false,
                sent_promptly: false,
                dispatching: false,
                blocked: false,
                writable_watched: false,
                armed: None,
            }),
        })
    }

    /// The socket's file descriptor, for the event loop to watch.
    #[cfg(unix)]
    fn fileno(&self) -> PyResult<i32> {
        use std::os::fd::AsRawFd;
        let state = self.lock()?;
        let reactor = state.reactor.as_ref().ok_or_else(closed)?;
        Ok(reactor.socket().io().as_raw_fd())
    }

    /// Where the socket is bound.
    #[getter]
    fn local_address(&self) -> PyResult<(String, u16)> {
        let state = self.lock()?;
        let reactor = state.reactor.as_ref().ok_or_else(closed)?;
        Ok(address(reactor.local_address()))
    }

    /// Connections whose state is still kept, the closed ones in their draining period included.
    #[getter]
    fn connections(&self) -> PyResult<usize> {
        let mut state = self.lock()?;
        Ok(state
            .reactor
            .as_mut()
            .map_or(0, |reactor| reactor.endpoint().connections()))
    }

    /// The connections that have not been told closed.
    fn open_connections(&self, py: Python<'_>) -> PyResult<Vec<Py<EndpointConnection>>> {
        let state = self.lock()?;
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
        remote: (IpAddr, u16),
        server_name: &str,
    ) -> PyResult<Py<EndpointConnection>> {
        let py = slf.py();
        let this = slf.get();
        let hooks = this.hooks(py)?;
        let object = hooks
            .call_method0(py, intern!(py, "new_connection"))?
            .cast_bound::<EndpointConnection>(py)?
            .clone();
        let mut state = this.lock()?;
        let reactor = state.reactor.as_mut().ok_or_else(closed)?;
        let started = reactor.endpoint().connect(
            &client.options,
            &client.connection,
            SocketAddr::new(remote.0, remote.1),
            server_name,
            Instant::now(),
        );
        let key = match started {
            Ok(key) => key,
            Err(error) => {
                drop(state);
                return Err(PyValueError::new_err(error.to_string()));
            }
        };
        object.get().attach(slf, key, true);
        state.connections.insert(key, object.clone().unbind());
        state.transmit();
        let wishes = state.wishes(py);
        drop(state);
        wishes.grant(py);
        Ok(object.unbind())
    }

    /// The socket is readable: takes what has arrived and tells the sinks. Sends at once when
    /// nobody had to be told, else after whoever was told has had a turn.
    fn on_readable(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let mut state = this.lock()?;
        state.sent_promptly = false;
        let Some(reactor) = &mut state.reactor else {
            return Ok(());
        };
        reactor.on_readable();
        Self::digest(slf, state)
    }

    /// The timer has fired.
    fn on_timer(slf: &Bound<'_, Self>) -> PyResult<()> {
        let this = slf.get();
        let mut state = this.lock()?;
        state.armed = None;
        state.sent_promptly = false;
        let Some(reactor) = &mut state.reactor else {
            return Ok(());
        };
        reactor.on_timeout();
        Self::digest(slf, state)
    }

    /// Tells the sinks what calls brought about, and sends what is to be sent.
    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let mut state = this.lock()?;
        state.flush_scheduled = false;
        state.sent_promptly = false;
        if state.notifications() > 0 {
            drop(state);
            Self::dispatch(slf)?;
            state = this.lock()?;
        }
        state.transmit();
        let wishes = state.wishes(py);
        drop(state);
        wishes.grant(py);
        Ok(())
    }

    /// Uses another certificate for connections that start from now on.
    fn reload_certificate(
        &self,
        certfile: std::path::PathBuf,
        keyfile: std::path::PathBuf,
    ) -> PyResult<()> {
        let identity = Identity::from_files(&certfile, &keyfile).map_err(configuration_error)?;
        let mut state = self.lock()?;
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
    fn close_connections(slf: &Bound<'_, Self>, code: u64, reason: &str) -> PyResult<()> {
        let py = slf.py();
        let mut state = slf.get().lock()?;
        if let Some(reactor) = &mut state.reactor {
            let now = Instant::now();
            let endpoint = reactor.endpoint();
            endpoint.stop_accepting();
            for key in endpoint.open_connections() {
                // One that ends by itself meanwhile has ended, which is what was wanted.
                let _ended = endpoint.with(key, |connection| {
                    connection.close(code, reason, now);
                    Ok(())
                });
            }
        }
        let wishes = state.wishes(py);
        drop(state);
        wishes.grant(py);
        Ok(())
    }

    /// Releases the socket and everything else. Idempotent.
    fn close(&self) {
        if let Ok(mut state) = self.lock() {
            let reactor = state.reactor.take();
            let hooks = state.hooks.take();
            let connections = std::mem::take(&mut state.connections);
            drop(state);
            drop((reactor, hooks, connections));
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(state) = self.state.try_lock() {
            if let Some(hooks) = &state.hooks {
                visit.call(&hooks.object)?;
                visit.call(&hooks.schedule_flush)?;
            }
            for connection in state.connections.values() {
                visit.call(connection)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        self.close();
    }
}

impl Endpoint {
    /// The lock is never held while Python runs, so it can only be taken when another thread is
    /// inside; that is against the rules of an event loop's objects.
    pub(crate) fn lock(&self) -> PyResult<MutexGuard<'_, State>> {
        match self.state.try_lock() {
            Ok(state) => Ok(state),
            Err(TryLockError::Poisoned(poisoned)) => Ok(PoisonError::into_inner(poisoned)),
            Err(TryLockError::WouldBlock) => Err(PyRuntimeError::new_err(
                "the endpoint is in use by another thread",
            )),
        }
    }

    fn hooks(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let state = self.lock()?;
        let hooks = state.hooks.as_ref().ok_or_else(closed)?;
        Ok(hooks.object.clone_ref(py))
    }

    /// After packets or time: tells the sinks, and sends now or soon.
    fn digest<'a>(slf: &'a Bound<'_, Self>, mut state: MutexGuard<'a, State>) -> PyResult<()> {
        let py = slf.py();
        if state.notifications() == 0 {
            state.transmit();
        } else {
            drop(state);
            Self::dispatch(slf)?;
            state = slf.get().lock()?;
        }
        let wishes = state.wishes(py);
        drop(state);
        wishes.grant(py);
        Ok(())
    }

    /// Tells the sinks what they should know by now; what they bring about is told next time.
    fn dispatch(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let count = {
            let mut state = this.lock()?;
            state.transmit_prompt();
            // What they bring about is flushed when those they wake have had a turn.
            state.dispatching = true;
            state.notifications()
        };
        for _ in 0..count {
            let mut state = this.lock()?;
            let Some((key, notification)) =
                state.endpoint().and_then(Connections::poll_notification)
            else {
                break;
            };
            let known = if matches!(notification, Notification::Closed(..)) {
                state.connections.remove(&key)
            } else {
                state
                    .connections
                    .get(&key)
                    .map(|connection| connection.clone_ref(py))
            };
            drop(state);
            let connection = match known {
                Some(connection) => connection.into_bound(py),
                None if notification == Notification::Connected => match Self::accept(slf, key) {
                    Ok(connection) => connection,
                    Err(error) => {
                        error.write_unraisable(py, None);
                        continue;
                    }
                },
                None => continue,
            };
            connection.get().tell(&connection, notification);
        }
        this.lock()?.dispatching = false;
        Ok(())
    }

    /// A client's handshake is complete: makes the connection's object.
    fn accept<'py>(
        slf: &Bound<'py, Self>,
        key: ConnectionKey,
    ) -> PyResult<Bound<'py, EndpointConnection>> {
        let py = slf.py();
        let this = slf.get();
        let hooks = this.hooks(py)?;
        let object = hooks
            .call_method0(py, intern!(py, "new_connection"))?
            .cast_bound::<EndpointConnection>(py)?
            .clone();
        object.get().attach(slf, key, false);
        this.lock()?
            .connections
            .insert(key, object.clone().unbind());
        report(
            py,
            hooks.call_method1(py, intern!(py, "accepted"), (&object,)),
        );
        Ok(object)
    }
}

impl State {
    pub(crate) fn endpoint(&mut self) -> Option<&mut Connections> {
        self.reactor.as_mut().map(Reactor::endpoint)
    }

    pub(crate) fn bound(&self) -> SocketAddr {
        self.bound
    }

    fn notifications(&mut self) -> usize {
        self.endpoint()
            .map_or(0, |endpoint| endpoint.notifications())
    }

    pub(crate) fn transmit(&mut self) {
        if let Some(reactor) = &mut self.reactor {
            self.blocked = reactor.flush(false) == Flushed::Blocked;
        }
    }

    /// A whole message was given to send. The first of a turn leaves at once, so that an answer
    /// does not wait for the turn's end; those after it share their packets and system calls.
    pub(crate) fn transmit_message(&mut self) {
        if !(self.sent_promptly || self.flush_scheduled || self.dispatching) {
            self.sent_promptly = true;
            self.transmit();
        }
    }

    fn transmit_prompt(&mut self) {
        if let Some(reactor) = &mut self.reactor {
            if reactor.endpoint().wants_prompt_transmit() {
                self.blocked = reactor.flush(true) == Flushed::Blocked;
            }
        }
    }

    /// What the event loop must do now that something was done here.
    pub(crate) fn wishes(&mut self, py: Python<'_>) -> Wishes {
        let mut wishes = Wishes::default();
        let (Some(reactor), Some(hooks)) = (&mut self.reactor, &self.hooks) else {
            return wishes;
        };
        if reactor.take_erred() {
            wishes.watch_again = Some(hooks.object.clone_ref(py));
        }
        let endpoint = reactor.endpoint();
        let wants_flush =
            endpoint.notifications() > 0 || (endpoint.wants_transmit() && !self.blocked);
        if wants_flush && !self.flush_scheduled && !self.dispatching {
            self.flush_scheduled = true;
            wishes.schedule = Some(hooks.schedule_flush.clone_ref(py));
        }
        if self.blocked != self.writable_watched {
            self.writable_watched = self.blocked;
            wishes.watch_writable = Some((hooks.object.clone_ref(py), self.blocked));
        }
        if let Some(deadline) = endpoint.next_timeout() {
            // Only an earlier deadline needs the loop; a later one is found when the timer fires.
            // Event loops count milliseconds, and some fire at once what is due in less than one:
            // rounded up, a timer never fires in vain.
            if self
                .armed
                .is_none_or(|armed| deadline + TIMER_PRECISION < armed)
            {
                let delay = deadline.saturating_duration_since(Instant::now());
                let millis = u64::try_from(delay.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX);
                let delay = Duration::from_millis(millis).max(TIMER_PRECISION);
                self.armed = Some(deadline);
                wishes.arm = Some((hooks.object.clone_ref(py), delay.as_secs_f64()));
            }
        }
        wishes
    }
}

/// An exception that nobody is there to catch goes where Python sends those.
pub(crate) fn report(py: Python<'_>, result: PyResult<Py<PyAny>>) {
    if let Err(error) = result {
        error.write_unraisable(py, None);
    }
}

pub(crate) fn address(address: SocketAddr) -> (String, u16) {
    (address.ip().to_canonical().to_string(), address.port())
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Endpoint>()?;
    m.add_class::<EndpointClient>()?;
    m.add_class::<EndpointConnection>()?;
    m.add_class::<EndpointServer>()?;
    m.add_class::<EndpointTransport>()
}

/// How exactly an event loop's timer fires.
const TIMER_PRECISION: Duration = Duration::from_millis(1);

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
