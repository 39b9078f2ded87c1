//! The connection: what it holds, which input goes where, and the drain. Each rule lives in the
//! file of its noun, as further methods of [`Connection`].

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pywt_wire::codes::error;
use pywt_wire::settings::Settings;

use crate::config::{Config, Role, Transport};
use crate::control::{control_preamble, goaway_frame, ControlFrame, Critical};
use crate::dialect::{check_early, Dialect, Peer};
use crate::early::Early;
use crate::error::{ConnectionError, Error, StreamError};
use crate::event::{Action, ClosedBy, Event, Stats};
use crate::limits::Meter;
use crate::map::IdMap;
use crate::request::Phase;
use crate::session::{Session, State};
use crate::stream::{Counted, Entry};
use crate::timer::Deadlines;
use crate::{SessionId, StreamId, Time};

/// Assumed round-trip time until the driver says better (RFC 9002 §6.2.2).
const INITIAL_RTT: Duration = Duration::from_millis(333);

/// What this crate knows about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A WebTransport stream whose session is not established.
    Held,
    /// Control, QPACK, CONNECT and discarded streams: push every byte here.
    Internal,
    /// The header has not arrived completely: push what comes.
    Pending,
    /// A WebTransport stream of this established session.
    Session(SessionId),
    /// No entry: never seen, or ended.
    Unknown,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// Client: the request was sent. Server: the request waits for the client's SETTINGS, or for
    /// `accept` or `reject`.
    Connecting,
    /// Established.
    Open,
    /// Client: the request waits for the server's SETTINGS.
    Queued,
}

/// One session, as it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Where it stands.
    pub state: SessionState,
    /// The peer sent DRAIN or GOAWAY.
    pub draining: bool,
    /// Session flow control is on.
    pub flow_control: bool,
    /// Live WebTransport streams.
    pub streams: usize,
}

/// One HTTP/3 connection that carries WebTransport. See the crate's documentation for the
/// contract between it and its driver.
pub struct Connection {
    pub(crate) config: Arc<Config>,
    pub(crate) transport: Transport,
    pub(crate) now: Time,
    pub(crate) rtt: Duration,
    closed: bool,
    control_stream: Option<StreamId>,
    pub(crate) critical: Critical,
    pub(crate) peer: Option<Box<Peer>>,
    pub(crate) streams: IdMap<Entry>,
    pub(crate) sessions: IdMap<Session>,
    /// Ids of sessions that ended, the latest last.
    pub(crate) ended: VecDeque<SessionId>,
    pub(crate) early: Early,
    /// Entries that are streams of frames.
    pub(crate) requests: usize,
    /// The lowest request id not seen yet, for GOAWAY.
    pub(crate) next_request: StreamId,
    pub(crate) goaway_sent: Option<u64>,
    pub(crate) goaway_received: Option<u64>,
    /// Sessions that may owe the peer flow-control capsules.
    pub(crate) dirty: Vec<SessionId>,
    pub(crate) deadlines: Timers,
    resets: Meter,
    pub(crate) idle: Meter,
    pub(crate) actions: VecDeque<Action>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) stats: Stats,
}

/// Deadlines other than those of early streams.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    settings: Option<Time>,
    pub(crate) headers: Deadlines,
    pub(crate) closing: Deadlines,
}

impl Connection {
    /// A connection whose QUIC handshake is not complete. `config`: a [`Config`], or an
    /// `Arc<Config>` to share one.
    pub fn new(config: impl Into<Arc<Config>>) -> Self {
        Self {
            config: config.into(),
            transport: Transport::default(),
            now: Time::ZERO,
            rtt: INITIAL_RTT,
            closed: false,
            control_stream: None,
            critical: Critical::default(),
            peer: None,
            streams: IdMap::default(),
            sessions: IdMap::default(),
            ended: VecDeque::new(),
            early: Early::default(),
            requests: 0,
            next_request: 0,
            goaway_sent: None,
            goaway_received: None,
            dirty: Vec::new(),
            deadlines: Timers::default(),
            resets: Meter::default(),
            idle: Meter::default(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            stats: Stats::default(),
        }
    }
}

/// Input from QUIC.
impl Connection {
    /// The handshake is complete, or so far that streams can be opened. `control_stream`: a
    /// unidirectional stream the driver opened, the first of this end; SETTINGS are sent on it.
    /// Call it before any other input.
    pub fn handle_connected(&mut self, control_stream: StreamId, transport: Transport, now: Time) {
        if self.closed || self.control_stream.is_some() {
            return;
        }
        self.tick(now);
        self.transport = transport;
        self.control_stream = Some(control_stream);
        self.streams.insert(control_stream, Entry::Local);
        let data = control_preamble(&self.config, &self.transport);
        self.actions.push_back(Action::SendStream {
            id: control_stream,
            data,
            fin: false,
        });
        if !self.transport.is_handshaking {
            self.await_settings(now);
        }
    }

    /// The handshake that went on in [`Connection::handle_connected`] is complete: from now on the
    /// peer can send SETTINGS.
    pub fn handle_handshake_complete(&mut self, now: Time) {
        if !self.closed && std::mem::take(&mut self.transport.is_handshaking) {
            self.tick(now);
            self.await_settings(now);
        }
    }

    fn await_settings(&mut self, now: Time) {
        if self.peer.is_none() {
            let timeout = self.config.limits.settings_timeout;
            self.deadlines.settings = Some(now.saturating_add(timeout));
        }
    }

    /// Bytes of a stream, in order. `data` may be empty with `fin`.
    pub fn handle_stream_data(&mut self, id: StreamId, data: Bytes, fin: bool, now: Time) {
        if self.closed {
            return;
        }
        self.tick(now);
        match self.count(id, data.len() as u64, fin) {
            Counted::Deliver if !data.is_empty() || fin => {
                self.events.push_back(Event::StreamData {
                    stream: id,
                    data,
                    fin,
                });
            }
            Counted::Deliver | Counted::Drop => {}
            Counted::NotOfSession => {
                if let Err(error) = self.internal_data(id, data, fin, now) {
                    self.fail(&error);
                }
            }
        }
    }

    /// Payload bytes of a stream whose kind is `Session` or `Held` that the driver keeps itself.
    pub fn handle_stream_bytes(&mut self, id: StreamId, len: u64, fin: bool, now: Time) {
        if self.closed {
            return;
        }
        self.tick(now);
        if self.count(id, len, fin) == Counted::NotOfSession {
            self.hold_data(id, &[], len, fin);
        }
    }

    /// RESET_STREAM, or RESET_STREAM_AT once all of its reliable part was given. `final_size`: of
    /// the whole QUIC stream, header included; less than what has arrived is taken for that.
    pub fn handle_stream_reset(&mut self, id: StreamId, code: u64, final_size: u64, now: Time) {
        if self.closed {
            return;
        }
        self.tick(now);
        // Also streams reset before they said what they are: opening and resetting at line rate
        // costs the peer nothing and us an entry each time.
        if !self.is_local(id) && !self.resets.allow(self.config.limits.resets, now) {
            return self.fail(&ConnectionError::Flood("stream resets"));
        }
        match self.streams.get(&id) {
            Some(Entry::Control | Entry::QpackDecoder | Entry::QpackEncoder) => {
                self.fail(&ConnectionError::ClosedCriticalStream);
            }
            Some(Entry::Discard) => {
                self.streams.remove(&id);
            }
            Some(Entry::Head(_)) => {
                self.streams.remove(&id);
                self.answer_reset(id);
            }
            Some(Entry::Held(_)) => self.hold_reset(id, code, final_size),
            Some(Entry::Request(_)) => self.end_by_reset(id, code),
            Some(Entry::Session(_)) => self.session_stream_reset(id, code, final_size),
            Some(Entry::Local) => {}
            None => self.answer_reset(id),
        }
    }

    /// STOP_SENDING.
    pub fn handle_stop_sending(&mut self, id: StreamId, code: u64, now: Time) {
        if self.closed {
            return;
        }
        self.tick(now);
        match self.streams.get(&id) {
            Some(Entry::Local) => self.fail(&ConnectionError::ClosedCriticalStream),
            Some(Entry::Head(_)) => self.head_stopped(id, code),
            Some(Entry::Held(_)) => self.hold_stopped(id, code),
            Some(Entry::Request(_)) => self.request_stopped(id, code, now),
            Some(Entry::Session(_)) => self.session_stream_stopped(id, code),
            Some(Entry::Control | Entry::Discard | Entry::QpackDecoder | Entry::QpackEncoder)
            | None => {}
        }
    }

    /// A QUIC datagram.
    pub fn handle_datagram(&mut self, data: Bytes, now: Time) {
        if self.closed {
            return;
        }
        self.tick(now);
        if let Err(error) = self.on_datagram(data, now) {
            self.fail(&error);
        }
    }

    /// Time reached what [`Connection::poll_timeout`] said.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.closed {
            return;
        }
        self.tick(now);
        if self.deadlines.settings.is_some_and(|due| due <= now) {
            return self.fail(&ConnectionError::SettingsTimeout);
        }
        while let Some(id) = self.deadlines.headers.pop_due(now) {
            self.headers_timed_out(id);
        }
        while let Some(id) = self.deadlines.closing.pop_due(now) {
            self.close_timed_out(id);
        }
        self.expire_early(now);
    }

    /// The QUIC connection is gone. `code`: the application code of the peer's CONNECTION_CLOSE;
    /// `None` when it ended in any other way. Each session ends with `SessionClosed`.
    pub fn handle_closed(&mut self, code: Option<u64>, reason: &str) {
        if self.closed {
            return;
        }
        self.end_all(ClosedBy::Transport, code, reason);
        self.shut();
        self.actions.clear();
    }

    /// The connection's smoothed round-trip time, for the tuning of session windows.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
    }
}

/// The drain.
impl Connection {
    /// The next thing to do with the QUIC connection.
    pub fn poll_action(&mut self) -> Option<Action> {
        while self.actions.is_empty() {
            let session = self.dirty.pop()?;
            self.flush_flow(session);
        }
        self.actions.pop_front()
    }

    /// The next thing to tell the application.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Connection::handle_timeout`] next; `None`: no deadline.
    pub fn poll_timeout(&self) -> Option<Time> {
        let timeout = self.config.limits.early_timeout;
        let early = self.early.deadline(timeout, &self.streams, &self.sessions);
        let timers = &self.deadlines;
        [
            timers.settings,
            timers.headers.next(),
            timers.closing.next(),
            early,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// Facts.
impl Connection {
    /// The dialect spoken; `None` before the peer's SETTINGS, or when it offers no WebTransport.
    pub fn dialect(&self) -> Option<Dialect> {
        self.peer.as_ref().and_then(|peer| peer.dialect)
    }

    /// The peer's SETTINGS, once they arrived.
    pub fn peer_settings(&self) -> Option<&Settings> {
        self.peer.as_ref().map(|peer| &peer.settings)
    }

    /// The facts given to `handle_connected`.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// After `Action::CloseConnection` or `handle_closed`.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// No session is left and every CONNECT stream is closed by both ends (or timed out): closing
    /// QUIC now loses nothing.
    pub fn is_idle(&self) -> bool {
        self.sessions.is_empty() && self.requests == 0
    }

    /// Counters and sizes.
    pub fn stats(&self) -> Stats {
        Stats {
            sessions: self.sessions.len(),
            streams: self.streams.len(),
            early_streams: self.early.stream_count(),
            early_stream_bytes: self.early.stream_bytes(),
            early_datagrams: self.early.datagram_count(),
            ..self.stats
        }
    }

    /// Takes no new session from now on; those that run go on. A server names the first request
    /// it will not answer; the peer's application is told to wind down.
    pub fn goaway(&mut self) -> Result<(), Error> {
        let Some(id) = self.control_stream.filter(|_| !self.closed) else {
            return Err(Error::ConnectionClosed);
        };
        if self.goaway_sent.is_none() {
            let limit = match self.config.role {
                Role::Client => 0,
                Role::Server => self.next_request,
            };
            self.goaway_sent = Some(limit);
            let data = goaway_frame(limit);
            self.actions.push_back(Action::SendStream {
                id,
                data,
                fin: false,
            });
        }
        Ok(())
    }
}

impl Connection {
    pub(crate) fn tick(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    /// Ends the connection because of the peer.
    pub(crate) fn fail(&mut self, fault: &ConnectionError) {
        if self.closed {
            return;
        }
        let (code, reason) = (fault.code(), fault.to_string());
        self.end_all(ClosedBy::Local, Some(code), &reason);
        self.shut();
        self.actions
            .push_back(Action::CloseConnection { code, reason });
    }

    fn shut(&mut self) {
        self.closed = true;
        self.streams = IdMap::default();
        self.requests = 0;
        self.early = Early::default();
        self.deadlines = Timers::default();
        self.dirty = Vec::new();
    }

    /// Bytes of a stream that is not one of an established session.
    fn internal_data(
        &mut self,
        id: StreamId,
        mut data: Bytes,
        fin: bool,
        now: Time,
    ) -> Result<(), ConnectionError> {
        match self.streams.get(&id) {
            Some(Entry::Control) => {
                let config = Arc::clone(&self.config);
                while let Some(frame) =
                    self.critical
                        .control(&mut data, &config, &mut self.idle, now)?
                {
                    match frame {
                        ControlFrame::Settings(settings) => self.on_settings(settings, now)?,
                        ControlFrame::Goaway(id) => self.on_goaway(id),
                    }
                }
            }
            Some(Entry::QpackEncoder) => self.critical.encoder(&data)?,
            Some(Entry::QpackDecoder) => self.critical.decoder(&data)?,
            Some(Entry::Request(_)) => return self.request_data(id, data, fin, now),
            Some(Entry::Held(_)) => {
                self.hold_data(id, &data, data.len() as u64, fin);
                return Ok(());
            }
            Some(Entry::Discard) => {
                if fin {
                    self.streams.remove(&id);
                }
                return Ok(());
            }
            Some(Entry::Head(_)) => return self.classify(id, data, fin, now),
            None if !self.is_local(id) => return self.classify(id, data, fin, now),
            Some(Entry::Local | Entry::Session(_)) | None => return Ok(()),
        }
        match fin {
            true => Err(ConnectionError::ClosedCriticalStream),
            false => Ok(()),
        }
    }

    fn on_settings(&mut self, settings: Settings, now: Time) -> Result<(), ConnectionError> {
        self.deadlines.settings = None;
        if let Some(early) = self.transport.early_settings.take() {
            check_early(&early, &settings)?;
        }
        let peer = Peer::new(settings, &self.config, &self.transport)?;
        let dialect = peer.dialect;
        self.peer = Some(Box::new(peer));
        self.events.push_back(Event::SettingsReceived { dialect });
        self.settle_sessions(now);
        self.check_offer()
    }

    fn on_goaway(&mut self, id: u64) {
        self.goaway_received = Some(id);
        self.events.push_back(Event::GoawayReceived { id });
        let mut sessions: Vec<_> = self.sessions.keys().copied().collect();
        sessions.sort_unstable();
        for session in sessions {
            let state = self.sessions.get(&session).map(|session| &session.state);
            let asked = matches!(state, Some(State::Queued(_) | State::Asked(_)));
            match asked && session >= id {
                true => self.fail_session(session, &StreamError::Rejected),
                false => self.drain_by_peer(session),
            }
        }
    }

    /// A bidirectional stream whose peer gave up before it said what it is gets an end too.
    fn answer_reset(&mut self, id: StreamId) {
        if id & 2 == 0 && !self.is_local(id) {
            let code = error::H3_REQUEST_CANCELLED;
            self.reset_plainly(id, code);
        }
    }

    /// STOP_SENDING on a CONNECT stream stops our side only: the peer's CLOSE may still come.
    fn request_stopped(&mut self, id: StreamId, code: u64, now: Time) {
        let Some(request) = self.request_mut(id) else {
            return;
        };
        if std::mem::take(&mut request.send_open) {
            self.reset_plainly(id, code);
            self.await_close(id, now);
        }
    }

    /// A stream has not said what it is, or a request is not complete, in the time allowed.
    fn headers_timed_out(&mut self, id: StreamId) {
        match self.streams.get(&id) {
            Some(Entry::Head(_)) => {
                let code = error::H3_REQUEST_INCOMPLETE;
                self.discard(id, code, true, id & 2 == 0);
            }
            Some(Entry::Request(request))
                if request.phase == Phase::Head && self.config.role == Role::Server =>
            {
                self.fail_request(id, &StreamError::Incomplete);
            }
            _ => {}
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("role", &self.config.role)
            .field("closed", &self.closed)
            .field("dialect", &self.dialect())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
