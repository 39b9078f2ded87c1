//! Sessions: asking for one, answering, and what one is while it lives.

pub(crate) mod capsule;
mod close;
pub(crate) mod flow;

use pywt_wire::capsule::{Capsule, MAX_STREAMS};
use pywt_wire::qpack::Field;
use pywt_wire::stream_header::is_session_id;
use pywt_wire::{structured_field, varint};

use crate::config::{Request, Response, Role};
use crate::connection::{Connection, SessionState, SessionView};
use crate::dialect::{Dialect, TOKEN_CURRENT};
use crate::error::{ConnectionError, Error, Fault, StreamError};
use crate::event::Event;
use crate::request::fields::{
    check_local, check_local_pseudo, headers_frame, RequestHead, ResponseHead,
};
use crate::request::Phase;
use crate::session::flow::{Flow, FlowView};
use crate::Time;
use crate::{Dir, SessionId, StreamId};

const AVAILABLE_PROTOCOLS: &str = "wt-available-protocols";
const PROTOCOL: &str = "wt-protocol";
const DRAFT02_REQUEST: &str = "sec-webtransport-http3-draft02";
const DRAFT02_RESPONSE: &str = "sec-webtransport-http3-draft";

/// One session, from the request to the first sign of its end.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) state: State,
    /// The peer sent DRAIN or GOAWAY, and the application was told.
    pub(crate) draining: bool,
    /// Live WebTransport streams.
    pub(crate) streams: usize,
    /// Session flow control, when it is on.
    pub(crate) flow: Option<Box<Flow>>,
    /// Capsules go out without DATA frames around them.
    pub(crate) raw_capsules: bool,
    /// Waits in the connection's queue of sessions with capsules to send.
    pub(crate) dirty: bool,
}

/// Where a session stands.
#[derive(Debug)]
pub(crate) enum State {
    /// Client: the request waits for the server's SETTINGS.
    Queued(Box<Request>),
    /// Client: the request was sent and offered these protocols.
    Asked(Vec<String>),
    /// Server: the request waits for the client's SETTINGS.
    Unsettled(Box<RequestHead>),
    /// Server: the request waits for the application.
    Requested {
        /// Protocols offered.
        protocols: Vec<String>,
        /// The request carried the version header of draft 02.
        draft02: bool,
    },
    /// Established.
    Open,
}

impl Session {
    fn new(state: State) -> Self {
        Self {
            state,
            draining: false,
            streams: 0,
            flow: None,
            raw_capsules: false,
            dirty: false,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }
}

impl Request {
    /// Whether it can be sent: authority, path, fields and protocols, each as HTTP wants it.
    pub fn validate(&self) -> Result<(), Error> {
        check_local_pseudo(":authority", &self.authority)?;
        check_local_pseudo(":path", &self.path)?;
        // RFC 9114 §4.3.1.
        if !self.path.starts_with('/') {
            return Err(Error::InvalidField {
                name: ":path".to_owned(),
                why: "does not start with a slash",
            });
        }
        check_local(&self.headers)?;
        if structured_field::format_string_list(&self.protocols).is_none() {
            return Err(Error::InvalidField {
                name: AVAILABLE_PROTOCOLS.to_owned(),
                why: "application protocols are printable ASCII",
            });
        }
        Ok(())
    }
}

/// Verbs.
impl Connection {
    /// Client: asks for a session on a bidirectional stream that the driver opened and nobody
    /// wrote on. `SessionEstablished` or `SessionRejected` follows. Nothing is sent before the
    /// server's SETTINGS; they decide the dialect.
    pub fn connect(&mut self, stream: StreamId, request: Request, now: Time) -> Result<(), Error> {
        self.check_usable(Role::Client)?;
        self.tick(now);
        if self.goaway_received.is_some_and(|limit| stream >= limit) {
            return Err(Error::GoingAway);
        }
        if !is_session_id(stream) || self.streams.contains_key(&stream) {
            return Err(Error::StreamId(stream));
        }
        request.validate()?;
        self.insert_request(stream);
        self.sessions
            .insert(stream, Session::new(State::Queued(Box::new(request))));
        if self.peer.is_some() {
            self.ask(stream);
        }
        Ok(())
    }

    /// Server: establishes a requested session.
    pub fn accept(
        &mut self,
        session: SessionId,
        response: Response,
        now: Time,
    ) -> Result<(), Error> {
        self.check_usable(Role::Server)?;
        self.tick(now);
        let entry = self
            .sessions
            .get(&session)
            .ok_or(Error::UnknownSession(session))?;
        let State::Requested { protocols, draft02 } = &entry.state else {
            return Err(Error::SessionState(session));
        };
        if let Some(protocol) = &response.protocol {
            if !protocols.contains(protocol) {
                return Err(Error::ProtocolNotOffered(protocol.clone()));
            }
        }
        check_local(&response.headers)?;
        let mut fields = vec![(":status", "200")];
        if *draft02 {
            fields.push((DRAFT02_RESPONSE, "draft02"));
        }
        let protocol = response
            .protocol
            .as_deref()
            .and_then(structured_field::format_string_item);
        if let Some(protocol) = &protocol {
            fields.push((PROTOCOL, protocol));
        }
        fields.extend(
            response
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let data = headers_frame(fields);
        self.send_request(session, data, false);
        self.establish(session, now);
        if let Err(error) = self.resume_request(session, now) {
            self.fail(&error);
        }
        Ok(())
    }

    /// Server: refuses a requested session with a status of 300 to 599. Ends it; no event follows.
    pub fn reject(
        &mut self,
        session: SessionId,
        status: u16,
        headers: &[(String, String)],
        now: Time,
    ) -> Result<(), Error> {
        self.check_usable(Role::Server)?;
        self.tick(now);
        let entry = self
            .sessions
            .get(&session)
            .ok_or(Error::UnknownSession(session))?;
        if !matches!(entry.state, State::Requested { .. }) {
            return Err(Error::SessionState(session));
        }
        if !(300..=599).contains(&status) {
            return Err(Error::RejectStatus(status));
        }
        check_local(headers)?;
        self.drop_unanswered(session);
        self.answer(session, status, headers, now);
        Ok(())
    }

    /// A session as it is now; `None`: unknown or ended.
    pub fn session(&self, session: SessionId) -> Option<SessionView> {
        let entry = self.sessions.get(&session)?;
        Some(SessionView {
            state: match entry.state {
                State::Queued(_) => SessionState::Queued,
                State::Asked(_) | State::Unsettled(_) | State::Requested { .. } => {
                    SessionState::Connecting
                }
                State::Open => SessionState::Open,
            },
            draining: entry.draining,
            flow_control: entry.flow.is_some(),
            streams: entry.streams,
        })
    }

    /// The limits of a session and their use; `None` without flow control.
    pub fn session_flow(&self, session: SessionId) -> Option<FlowView> {
        Some(self.sessions.get(&session)?.flow.as_ref()?.view())
    }

    /// The sessions that have not ended, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.keys().copied()
    }

    pub(crate) fn open_session_mut(&mut self, session: SessionId) -> Result<&mut Session, Error> {
        if self.is_closed() {
            return Err(Error::ConnectionClosed);
        }
        match self.sessions.get_mut(&session) {
            Some(entry) if entry.is_open() => Ok(entry),
            Some(_) => Err(Error::SessionState(session)),
            None => Err(Error::UnknownSession(session)),
        }
    }

    fn check_usable(&self, role: Role) -> Result<(), Error> {
        if self.config.role != role {
            return Err(Error::Role(role));
        }
        match self.is_closed() {
            true => Err(Error::ConnectionClosed),
            false => Ok(()),
        }
    }
}

/// The request, at either end.
impl Connection {
    /// The peer's SETTINGS arrived: what waited for them goes on, in order.
    pub(crate) fn settle_sessions(&mut self, now: Time) {
        let waits =
            |session: &Session| matches!(session.state, State::Queued(_) | State::Unsettled(_));
        let mut waiting: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, s)| waits(s))
            .map(|(&id, _)| id)
            .collect();
        waiting.sort_unstable();
        for id in waiting {
            match self.config.role {
                Role::Client => self.ask(id),
                Role::Server => {
                    if let Err(error) = self.offer(id, now) {
                        self.fail_request(id, &error);
                    }
                }
            }
        }
    }

    /// Client: sends a queued request in the dialect the server speaks.
    fn ask(&mut self, id: SessionId) {
        let Some(peer) = &self.peer else { return };
        let Some(dialect) = peer.dialect else {
            return self.fail_session(id, &StreamError::Unsupported);
        };
        let asked = |session: &&Session| !matches!(session.state, State::Queued(_));
        let live = self.sessions.values().filter(asked).count() as u64;
        if live >= peer.max_sessions {
            return self.fail_session(id, &StreamError::Rejected);
        }
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        let State::Queued(request) = &mut session.state else {
            return;
        };
        let request = std::mem::take(&mut **request);
        let mut fields = vec![
            (":method", "CONNECT"),
            (":scheme", "https"),
            (":authority", request.authority.as_str()),
            (":path", request.path.as_str()),
            (":protocol", dialect.token()),
        ];
        if dialect.row().version_header {
            fields.push((DRAFT02_REQUEST, "1"));
        }
        let list = structured_field::format_string_list(&request.protocols);
        if let Some(list) = list.as_ref().filter(|_| !request.protocols.is_empty()) {
            fields.push((AVAILABLE_PROTOCOLS, list));
        }
        fields.extend(
            request
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let data = headers_frame(fields);
        session.state = State::Asked(request.protocols);
        self.send_request(id, data, false);
    }

    /// Client: a response arrived.
    pub(crate) fn on_response(
        &mut self,
        id: SessionId,
        fields: Vec<Field>,
        now: Time,
    ) -> Result<(), Fault> {
        let response = ResponseHead::parse(fields)?;
        let Some(Session {
            state: State::Asked(offered),
            ..
        }) = self.sessions.get(&id)
        else {
            return Ok(());
        };
        let Some(dialect) = self.dialect() else {
            return Ok(());
        };
        match response.status {
            100..=199 => return Ok(()),
            200..=299 => {}
            status => {
                self.drop_unanswered(id);
                let (error, reason) = (None, String::new());
                let headers = response.fields;
                let session = id;
                self.events.push_back(Event::SessionRejected {
                    session,
                    status,
                    headers,
                    error,
                    reason,
                });
                self.send_request(id, bytes::Bytes::new(), true);
                self.linger(
                    id,
                    Phase::Done {
                        trailers_seen: false,
                    },
                    now,
                );
                return Ok(());
            }
        }
        let chosen = response
            .field(PROTOCOL)
            .and_then(structured_field::parse_string_item);
        let protocol = match chosen {
            Some(protocol) if offered.contains(&protocol) => Some(protocol),
            // webtrans-http3-16 §3.3; drafts up to 14 ignore the field.
            Some(_) if dialect.row().alpn_mismatch_ends => {
                return Err(StreamError::AlpnMismatch.into());
            }
            _ => None,
        };
        let headers = response.fields;
        self.events.push_back(Event::SessionEstablished {
            session: id,
            protocol,
            headers,
            dialect,
        });
        if let Some(request) = self.request_mut(id) {
            request.phase = Phase::Capsules;
        }
        self.establish(id, now);
        Ok(())
    }

    /// Server: a well-formed request for a session arrived.
    pub(crate) fn on_session_request(
        &mut self,
        id: SessionId,
        head: RequestHead,
        now: Time,
    ) -> Result<(), Fault> {
        if self.sessions.len() as u64 >= self.config.limits.max_sessions {
            return Err(StreamError::Rejected.into());
        }
        if let Some(request) = self.request_mut(id) {
            request.phase = Phase::Waiting;
        }
        self.sessions
            .insert(id, Session::new(State::Unsettled(Box::new(head))));
        // RFC 9220 and webtrans-http3-16 §3.1: no request is processed before SETTINGS.
        if self.peer.is_some() {
            self.offer(id, now)?;
        }
        Ok(())
    }

    /// Server: shows a request to the application, unless a rule answers it.
    fn offer(&mut self, id: SessionId, now: Time) -> Result<(), StreamError> {
        let strict = self.config.strict;
        let Some(peer) = &self.peer else {
            return Ok(());
        };
        let Some(dialect) = peer.dialect else {
            return Err(StreamError::Message("client announced no WebTransport"));
        };
        let datagrams = peer.datagrams && self.transport.max_datagram_frame_size > 0;
        let single = dialect.row().single_without_flow && !peer.flow && !peer.raw_capsules;
        if single && self.sessions.len() > 1 {
            return Err(StreamError::Rejected);
        }
        let Some(session) = self.sessions.get_mut(&id) else {
            return Ok(());
        };
        let State::Unsettled(head) = &mut session.state else {
            return Ok(());
        };
        let head = std::mem::take(&mut **head);
        let current_token = head.protocol.as_deref() == Some(TOKEN_CURRENT);
        let fits = current_token == (dialect == Dialect::Draft15);
        if strict && (!fits || !datagrams) {
            self.drop_unanswered(id);
            self.answer(id, 400, &[], now);
            return Ok(());
        }
        let protocols = head
            .field(AVAILABLE_PROTOCOLS)
            .and_then(structured_field::parse_string_list)
            .unwrap_or_default();
        let origin = head.field("origin").map(str::to_owned);
        let draft02 = head.field(DRAFT02_REQUEST).is_some();
        session.state = State::Requested {
            protocols: protocols.clone(),
            draft02,
        };
        let RequestHead {
            authority,
            path,
            fields: headers,
            ..
        } = head;
        self.events.push_back(Event::SessionRequested {
            session: id,
            authority,
            path,
            origin,
            headers,
            protocols,
            dialect,
        });
        Ok(())
    }

    /// Both ends agreed: flow control starts, and what was early comes out.
    fn establish(&mut self, id: SessionId, now: Time) {
        let Some(peer) = &self.peer else { return };
        let strict_limits = peer
            .dialect
            .is_some_and(|dialect| dialect.row().strict_limits);
        let flow = peer.flow.then(|| {
            Box::new(Flow::new(
                &self.config.flow_control,
                peer,
                strict_limits,
                now,
            ))
        });
        let raw_capsules = peer.raw_capsules;
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        session.state = State::Open;
        session.flow = flow;
        session.raw_capsules = raw_capsules;
        self.stats.sessions_established += 1;
        if raw_capsules {
            // PyWebTransport 0.8 sends nothing it was not granted, and grants too little: QUIC's
            // limits apply to it in both directions.
            self.send_capsules(
                id,
                &[
                    Capsule::MaxData(varint::MAX),
                    Capsule::MaxStreams {
                        dir: Dir::Bidi,
                        limit: MAX_STREAMS,
                    },
                    Capsule::MaxStreams {
                        dir: Dir::Uni,
                        limit: MAX_STREAMS,
                    },
                ],
                false,
            );
        }
        self.release_early(id, now);
    }

    /// The server's SETTINGS offer no dialect of ours.
    pub(crate) fn check_offer(&self) -> Result<(), ConnectionError> {
        match self.config.role {
            Role::Client if self.dialect().is_none() => Err(ConnectionError::RequirementsNotMet),
            _ => Ok(()),
        }
    }
}
