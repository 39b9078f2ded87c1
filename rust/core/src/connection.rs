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
use crate::session::table::Sessions;
use crate::session::{Session, State};
use crate::stream::table::{dir_of, Halves, Kind, Streams};
use crate::stream::Counted;
use crate::timer::{shed, Deadlines};
use crate::{Dir, SessionId, StreamId, Time};

/// Assumed round-trip time until the driver says better (RFC 9002 §6.2.2).
const INITIAL_RTT: Duration = Duration::from_millis(333);

/// What this crate knows about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// A WebTransport stream whose session is not established.
    Held,
    /// Control, QPACK, CONNECT and refused streams: push every byte here.
    Internal,
    /// The header has not arrived completely: push what comes.
    Pending,
    /// A request that the application answers: push its bytes only as fast as the body is read.
    Request,
    /// A WebTransport stream of this established session.
    Session(SessionId),
    /// No entry: never seen, refused, or ended. What still comes is ignored.
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
    /// The dialect spoken, once it is settled.
    pub dialect: Option<Dialect>,
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
    pub(crate) streams: Streams,
    pub(crate) sessions: Sessions,
    pub(crate) early: Early,
    /// The lowest request id not seen yet, for GOAWAY.
    pub(crate) next_request: StreamId,
    pub(crate) goaway_sent: Option<u64>,
    pub(crate) goaway_received: Option<u64>,
    /// Client: a request that waits may be sent now.
    pub(crate) asks_next: bool,
    pub(crate) deadlines: Timers,
    resets: Meter,
    /// More streams were refused than `resets` allows.
    refuses_too_often: bool,
    idle: Meter,
    pub(crate) new_sessions: Meter,
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
            streams: Streams::default(),
            sessions: Sessions::default(),
            early: Early::default(),
            next_request: 0,
            goaway_sent: None,
            goaway_received: None,
            asks_next: false,
            deadlines: Timers::default(),
            resets: Meter::default(),
            refuses_too_often: false,
            idle: Meter::default(),
            new_sessions: Meter::default(),
            // What a beginning needs: on their own they would start with four large places.
            actions: VecDeque::with_capacity(1),
            events: VecDeque::with_capacity(2),
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
        let halves = Halves::of_ours(control_stream);
        self.streams
            .insert(control_stream, halves, Kind::OwnControl);
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
        self.input(now, |conn| conn.stream_data(id, data, fin, now));
    }

    /// Payload bytes of a stream whose kind is `Session` or `Held` that the driver keeps itself.
    pub fn handle_stream_bytes(&mut self, id: StreamId, len: u64, fin: bool, now: Time) {
        self.input(now, |conn| {
            if conn.count(id, len, fin) == Counted::NotOfSession {
                conn.hold_data(id, &[], len, fin);
            }
            Ok(())
        });
    }

    /// RESET_STREAM, or RESET_STREAM_AT once all of its reliable part was given. `final_size`: of
    /// the whole QUIC stream, header included; less than what has arrived is taken for that.
    pub fn handle_stream_reset(&mut self, id: StreamId, code: u64, final_size: u64, now: Time) {
        self.input(now, |conn| conn.stream_reset(id, code, final_size, now));
    }

    /// STOP_SENDING.
    pub fn handle_stop_sending(&mut self, id: StreamId, code: u64, now: Time) {
        self.input(now, |conn| conn.stop_sending(id, code, now));
    }

    /// A QUIC datagram.
    pub fn handle_datagram(&mut self, data: Bytes, now: Time) {
        self.input(now, |conn| conn.on_datagram(data, now));
    }

    /// QUIC has not taken `bytes` of what [`Action::SendStream`] gave it for one stream: over
    /// [`Limits::max_unsent_bytes`](crate::Limits) the connection closes.
    pub fn handle_unsent(&mut self, bytes: usize) {
        self.input(self.now, |conn| {
            match bytes > conn.config.limits.max_unsent_bytes {
                true => Err(ConnectionError::Unsent(bytes)),
                false => Ok(()),
            }
        });
    }

    /// Time reached what [`Connection::poll_timeout`] said.
    pub fn handle_timeout(&mut self, now: Time) {
        self.input(now, |conn| {
            if conn.deadlines.settings.is_some_and(|due| due <= now) {
                return Err(ConnectionError::SettingsTimeout);
            }
            while let Some(id) = conn.deadlines.headers.pop_due(now) {
                conn.head_timed_out(id, now);
                conn.request_timed_out(id, now);
            }
            while let Some(id) = conn.deadlines.closing.pop_due(now) {
                conn.close_timed_out(id, now);
            }
            conn.expire_early(now);
            Ok(())
        });
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
        loop {
            if let Some(action) = self.actions.pop_front() {
                shed(&mut self.actions);
                return Some(action);
            }
            if std::mem::take(&mut self.asks_next) {
                self.ask_next();
            } else {
                let session = self.sessions.pop_dirty()?;
                self.flush_flow(session);
            }
        }
    }

    /// The next thing to tell the application.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        shed(&mut self.events);
        event
    }

    /// When to call [`Connection::handle_timeout`] next; `None`: no deadline.
    pub fn poll_timeout(&self) -> Option<Time> {
        let early = self.early.deadline(self.config.limits.early_timeout);
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
    /// The highest dialect both ends know, in which a client asks for sessions; `None` before the
    /// peer's SETTINGS, or when it offers no WebTransport. That of a session: [`SessionView`].
    pub fn dialect(&self) -> Option<Dialect> {
        self.peer.as_ref().and_then(|peer| peer.dialect())
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
        self.sessions.is_empty() && self.streams.requests() == 0
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
        self.streams = Streams::default();
        self.sessions = Sessions::default();
        self.early = Early::default();
        self.deadlines = Timers::default();
    }

    /// Reads input unless the connection is closed; what breaks a rule closes it.
    fn input(&mut self, now: Time, read: impl FnOnce(&mut Self) -> Result<(), ConnectionError>) {
        if self.closed {
            return;
        }
        self.tick(now);
        let mut result = read(self);
        if self.refuses_too_often {
            result = result.and(Err(ConnectionError::Flood("streams to refuse")));
        }
        if let Err(error) = result {
            self.fail(&error);
        }
    }

    /// Counts a stream that is refused because of what the peer did.
    pub(crate) fn count_refusal(&mut self) {
        let now = self.now;
        self.refuses_too_often |= !self.resets.allow(self.config.limits.resets, now);
    }

    /// Counts what carries nothing.
    pub(crate) fn count_idle(
        &mut self,
        what: &'static str,
        now: Time,
    ) -> Result<(), ConnectionError> {
        self.stats.unknown_skipped += 1;
        match self.idle.allow(self.config.limits.idle_frames, now) {
            true => Ok(()),
            false => Err(ConnectionError::Flood(what)),
        }
    }

    /// The largest field section the peer takes.
    pub(crate) fn max_section(&self) -> u64 {
        self.peer
            .as_ref()
            .map_or(u64::MAX, |peer| peer.max_section())
    }

    pub(crate) fn stream_data(
        &mut self,
        id: StreamId,
        data: Bytes,
        fin: bool,
        now: Time,
    ) -> Result<(), ConnectionError> {
        match self.count(id, data.len() as u64, fin) {
            Counted::NotOfSession => return self.internal_data(id, data, fin, now),
            Counted::Deliver => self.deliver(id, data, fin),
            Counted::Drop => {}
        }
        Ok(())
    }

    /// Bytes of a stream that is not one of an established session.
    fn internal_data(
        &mut self,
        id: StreamId,
        mut data: Bytes,
        fin: bool,
        now: Time,
    ) -> Result<(), ConnectionError> {
        match self.streams.kind(id) {
            Some(Kind::Control) => {
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
            Some(Kind::QpackEncoder) => self.critical.encoder(&data)?,
            Some(Kind::QpackDecoder) => self.critical.decoder(&data)?,
            Some(Kind::Request(_)) => return self.request_data(id, data, fin, now),
            Some(Kind::Held(_)) => {
                self.hold_data(id, &data, data.len() as u64, fin);
                return Ok(());
            }
            Some(Kind::Refused(_)) => {
                self.refused_data(id, data.len() as u64, fin);
                return Ok(());
            }
            Some(Kind::Head(_)) => return self.classify(id, data, fin, now),
            Some(Kind::OwnControl | Kind::Session(_)) => return Ok(()),
            None => {
                return match !self.is_local(id) && self.streams.meet(id) {
                    true => self.classify(id, data, fin, now),
                    false => Ok(()),
                };
            }
        }
        match fin {
            true => Err(ConnectionError::ClosedCriticalStream),
            false => Ok(()),
        }
    }

    fn stream_reset(
        &mut self,
        id: StreamId,
        code: u64,
        final_size: u64,
        now: Time,
    ) -> Result<(), ConnectionError> {
        // Also streams reset before they said what they are: opening and resetting at line rate
        // costs the peer nothing and us an entry each time. Those refused were counted then.
        let is_new = !self.is_local(id) && self.streams.meet(id);
        let is_counted = is_new || (!self.is_local(id) && self.streams.contains(id));
        if is_counted && !self.resets.allow(self.config.limits.resets, now) {
            return Err(ConnectionError::Flood("stream resets"));
        }
        match self.streams.kind(id) {
            Some(Kind::Control | Kind::QpackDecoder | Kind::QpackEncoder) => {
                return Err(ConnectionError::ClosedCriticalStream);
            }
            Some(Kind::Head(_)) => {
                self.streams.remove(id);
                self.answer_reset(id);
            }
            Some(Kind::Held(_)) => self.hold_reset(id, code, final_size),
            Some(Kind::Refused(_)) => self.refused_ended(id, final_size),
            Some(Kind::Request(_)) => self.end_by_reset(id, Some(code)),
            Some(Kind::Session(_)) => self.session_stream_reset(id, code, final_size),
            Some(Kind::OwnControl) => {}
            None if is_new => self.answer_reset(id),
            None => {}
        }
        Ok(())
    }

    pub(crate) fn stop_sending(
        &mut self,
        id: StreamId,
        code: u64,
        now: Time,
    ) -> Result<(), ConnectionError> {
        match self.streams.kind(id) {
            Some(Kind::OwnControl) => return Err(ConnectionError::ClosedCriticalStream),
            Some(Kind::Head(_)) => self.head_stopped(id, code, now),
            Some(Kind::Held(_)) => self.hold_stopped(id, code),
            Some(Kind::Request(_)) => self.request_stopped(id, code, now),
            Some(Kind::Session(_)) => self.session_stream_stopped(id, code),
            Some(Kind::Control | Kind::QpackDecoder | Kind::QpackEncoder | Kind::Refused(_)) => {}
            None => {
                let can_be = !self.is_local(id) && dir_of(id) == Dir::Bidi;
                if can_be && self.streams.meet(id) {
                    self.head_stopped(id, code, now);
                }
            }
        }
        Ok(())
    }

    fn on_settings(&mut self, settings: Settings, now: Time) -> Result<(), ConnectionError> {
        self.deadlines.settings = None;
        if let Some(early) = self.transport.early_settings.take() {
            check_early(&early, &settings)?;
        }
        let peer = Peer::new(settings, &self.config, &self.transport)?;
        let dialect = peer.dialect();
        self.peer = Some(Box::new(peer));
        self.events.push_back(Event::SettingsReceived { dialect });
        self.settle_sessions(now);
        self.check_offer()
    }

    fn on_goaway(&mut self, id: u64) {
        let is_first = self.goaway_received.replace(id).is_none();
        self.events.push_back(Event::GoawayReceived { id });
        let is_asked = |s: &Session| matches!(s.state, State::Queued(_) | State::Asked(_));
        for session in self.sessions.ids(is_asked) {
            if session >= id {
                self.fail_session(session, &StreamError::Rejected);
            }
        }
        if is_first {
            for session in self.sessions.ids(Session::is_open) {
                self.drain_by_peer(session);
            }
        }
    }

    /// A bidirectional stream whose peer gave up before it said what it is gets an end too.
    fn answer_reset(&mut self, id: StreamId) {
        if dir_of(id) == Dir::Bidi {
            self.reset_plainly(id, error::H3_REQUEST_CANCELLED);
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
