//! Sessions: asking for one, answering, and what one is while it lives.

pub(crate) mod capsule;
mod close;
pub(crate) mod flow;
pub(crate) mod table;

use pywt_wire::capsule::{Capsule, MAX_STREAMS};
use pywt_wire::codes::quic::EXPORTER_LABEL;
use pywt_wire::qpack::Field;
use pywt_wire::quic_extras::ExporterContext;
use pywt_wire::stream_header::is_session_id;
use pywt_wire::{structured_field, varint};

use crate::config::{Request, Response, Role};
use crate::connection::{Connection, SessionState, SessionView};
use crate::dialect::{Dialect, Framing};
use crate::error::{ConnectionError, Error, Fault, StreamError};
use crate::event::Event;
use crate::map::IdSet;
use crate::request::fields::{
    check_local_authority, check_local_fields, check_local_path, headers_frame, invalid, joined,
    RequestHead, ResponseHead,
};
use crate::request::reader::Phase;
use crate::session::flow::{Flow, FlowView};
use crate::stream::table::{Halves, Kind};
use crate::Time;
use crate::{Dir, SessionId, StreamId};

const AVAILABLE_PROTOCOLS: &str = "wt-available-protocols";
const PROTOCOL: &str = "wt-protocol";
const DRAFT02_REQUEST: &str = "sec-webtransport-http3-draft02";
const DRAFT02_RESPONSE: &str = "sec-webtransport-http3-draft";
/// Fields of a request that this crate writes, or that no request has.
const OWN_REQUEST: [&str; 5] = [
    AVAILABLE_PROTOCOLS,
    PROTOCOL,
    DRAFT02_REQUEST,
    "content-length",
    "host",
];
/// Fields of a response that this crate writes, or that none of its responses has: a 2xx to CONNECT
/// must not (RFC 9110 §9.3.6), and others are without content.
const OWN_RESPONSE: [&str; 3] = [PROTOCOL, DRAFT02_RESPONSE, "content-length"];

/// One session, from the request to the first sign of its end.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) state: State,
    /// The dialect spoken, once both ends' SETTINGS and the request's token have settled it.
    pub(crate) dialect: Option<Dialect>,
    /// The peer sent DRAIN or GOAWAY, and the application was told.
    draining: bool,
    /// We sent DRAIN.
    drain_sent: bool,
    /// Its WebTransport streams that are not over.
    pub(crate) streams: IdSet,
    /// Session flow control, when it is on.
    pub(crate) flow: Option<Box<Flow>>,
    /// Waits in the queue of sessions with capsules to send.
    dirty: bool,
    /// Server: bytes of the CONNECT stream after the request, until it is accepted
    /// (webtrans-http3-16 §4.1).
    unread: Vec<u8>,
    /// What of it counts as waiting.
    weight: usize,
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
            dialect: None,
            draining: false,
            drain_sent: false,
            streams: IdSet::default(),
            flow: None,
            dirty: false,
            unread: Vec::new(),
            weight: 0,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Waits for SETTINGS of the peer.
    fn is_unsettled(&self) -> bool {
        matches!(self.state, State::Queued(_) | State::Unsettled(_))
    }

    pub(crate) fn is_metered(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.is_metered())
    }
}

impl Request {
    /// Whether it can be sent: authority, path, fields and protocols, each as HTTP wants it.
    pub fn validate(&self) -> Result<(), Error> {
        check_local_authority(&self.authority)?;
        check_local_path(&self.path)?;
        check_local_fields(&self.headers, &OWN_REQUEST)?;
        if structured_field::format_string_list(&self.protocols).is_none() {
            let why = "application protocols are printable ASCII";
            return Err(invalid(AVAILABLE_PROTOCOLS, why));
        }
        Ok(())
    }
}

/// Verbs.
impl Connection {
    /// Client: asks for a session on a bidirectional stream that the driver opened and nobody
    /// wrote on, or will have opened when SETTINGS arrive. `SessionEstablished` or
    /// `SessionRejected` follows. Nothing is sent before the server's SETTINGS; they decide the
    /// dialect.
    pub fn connect(&mut self, stream: StreamId, request: Request, now: Time) -> Result<(), Error> {
        self.check_usable(Role::Client)?;
        self.tick(now);
        if self.goaway_received.is_some_and(|limit| stream >= limit) {
            return Err(Error::GoingAway);
        }
        if !is_session_id(stream) || self.streams.contains(stream) {
            return Err(Error::StreamId(stream));
        }
        request.validate()?;
        self.insert_request(stream, Halves::of_ours(stream), None);
        self.sessions
            .insert(stream, State::Queued(Box::new(request)));
        if self.peer.is_some() {
            self.ask(stream);
        }
        Ok(())
    }

    /// Client: the driver could not open the stream of a request that waits for SETTINGS.
    /// `SessionRejected` with the reason follows.
    pub fn cannot_send(&mut self, session: SessionId, reason: String) {
        if matches!(self.sessions.get(session), Some(entry) if entry.is_unsettled()) {
            self.streams.remove(session);
            self.fail_session(session, &StreamError::Unsendable(reason));
        }
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
            .get(session)
            .ok_or(Error::UnknownSession(session))?;
        let State::Requested { protocols, draft02 } = &entry.state else {
            return Err(Error::SessionState(session));
        };
        if let Some(protocol) = &response.protocol {
            if !protocols.contains(protocol) {
                return Err(Error::ProtocolNotOffered(protocol.clone()));
            }
        }
        check_local_fields(&response.headers, &OWN_RESPONSE)?;
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
        let data = headers_frame(fields, self.max_section())?;
        self.send_request(session, data);
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
            .get(session)
            .ok_or(Error::UnknownSession(session))?;
        if !matches!(entry.state, State::Requested { .. }) {
            return Err(Error::SessionState(session));
        }
        if !(300..=599).contains(&status) {
            return Err(Error::RejectStatus(status));
        }
        check_local_fields(headers, &OWN_RESPONSE)?;
        let data = answer_frame(status, headers, self.max_section())?;
        self.drop_unanswered(session);
        self.answer(session, data, now);
        Ok(())
    }

    /// A session as it is now; `None`: unknown or ended.
    pub fn session(&self, session: SessionId) -> Option<SessionView> {
        let entry = self.sessions.get(session)?;
        Some(SessionView {
            dialect: entry.dialect,
            state: match entry.state {
                State::Queued(_) => SessionState::Queued,
                State::Asked(_) | State::Unsettled(_) | State::Requested { .. } => {
                    SessionState::Connecting
                }
                State::Open => SessionState::Open,
            },
            draining: entry.draining,
            flow_control: entry.flow.is_some(),
            streams: entry.streams.len(),
        })
    }

    /// The limits of a session and their use; `None` without flow control.
    pub fn session_flow(&self, session: SessionId) -> Option<FlowView> {
        let entry = self.sessions.get(session)?;
        let mut view = entry.flow.as_ref()?.view();
        if !entry.is_metered() {
            // What streams that go on carried is settled at their end.
            let received = |id| match self.streams.kind(id) {
                Some(Kind::Session(stream)) => stream.received,
                _ => 0,
            };
            view.peer_data.used += entry.streams.iter().map(|&id| received(id)).sum::<u64>();
        }
        Some(view)
    }

    /// Label and context to give to the TLS exporter for keying material of an established session
    /// (webtrans-http3-16 §4.9). What the application chooses, at most 255 bytes each, is in the
    /// context.
    pub fn exporter(
        &self,
        session: SessionId,
        label: &[u8],
        context: &[u8],
    ) -> Result<(&'static str, Vec<u8>), Error> {
        match self.sessions.get(session) {
            None => return Err(Error::UnknownSession(session)),
            Some(entry) if !entry.is_open() => return Err(Error::SessionState(session)),
            Some(_) => {}
        }
        let mut scope = Vec::new();
        ExporterContext {
            session_id: session,
            label,
            context,
        }
        .encode(&mut scope)?;
        Ok((EXPORTER_LABEL, scope))
    }

    /// The sessions that have not ended, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.iter().map(|(id, _)| id)
    }

    pub(crate) fn open_session_mut(&mut self, session: SessionId) -> Result<&mut Session, Error> {
        if self.is_closed() {
            return Err(Error::ConnectionClosed);
        }
        match self.sessions.get_mut(session) {
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
        for id in self.sessions.ids(Session::is_unsettled) {
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
        let Some(dialect) = peer.dialect() else {
            return self.fail_session(id, &StreamError::Unsupported);
        };
        let asked = self.sessions.iter().filter(|(_, s)| !s.is_unsettled());
        let asked = asked.count() as u64;
        if asked >= peer.max_sessions {
            return self.fail_session(id, &StreamError::Rejected);
        }
        // A server that has not seen the end of the last session would refuse the next.
        let ending = self.streams.requests() - self.sessions.len();
        if asked + ending as u64 >= peer.max_sessions {
            return;
        }
        let Some(session) = self.sessions.get_mut(id) else {
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
        let max = peer.max_section();
        match headers_frame(fields, max) {
            Ok(data) => {
                session.state = State::Asked(request.protocols);
                session.dialect = Some(dialect);
                self.send_request(id, data);
            }
            Err(error) => self.fail_session(id, &StreamError::Unsendable(error.to_string())),
        }
    }

    /// Client: the CONNECT stream of an ended session is over; a request may have waited for that.
    pub(crate) fn ask_next(&mut self) {
        if self.peer.is_none() || self.is_closed() {
            return;
        }
        let next = self.sessions.ids(|s| matches!(s.state, State::Queued(_)));
        if let Some(&id) = next.first() {
            self.ask(id);
        }
    }

    /// Client: a response arrived.
    pub(crate) fn on_response(
        &mut self,
        id: SessionId,
        fields: Vec<Field>,
        now: Time,
    ) -> Result<(), Fault> {
        let response = ResponseHead::parse(&fields)?;
        let Some(Session {
            state: State::Asked(offered),
            dialect: Some(dialect),
            ..
        }) = self.sessions.get(id)
        else {
            return Ok(());
        };
        let dialect = *dialect;
        match response.status {
            // RFC 9114 §4.5.
            101 => return Err(StreamError::Message("status 101").into()),
            100..=199 => return Ok(self.count_idle("interim responses", now)?),
            200..=299 => {}
            status => {
                self.drop_unanswered(id);
                self.events.push_back(Event::SessionRejected {
                    session: id,
                    status,
                    headers: response.fields,
                    error: None,
                    reason: String::new(),
                });
                self.finish_request(id, bytes::Bytes::new(), Phase::DONE, now);
                return Ok(());
            }
        }
        let chosen = joined(&response.fields, PROTOCOL);
        let chosen = chosen.and_then(|field| structured_field::parse_string_item(&field));
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
        self.set_phase(id, Phase::Capsules);
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
        if !self.new_sessions.allow(self.config.limits.sessions, now) {
            return Err(ConnectionError::Flood("requests for sessions").into());
        }
        if self.sessions.len() as u64 >= self.config.limits.max_sessions {
            return Err(StreamError::Rejected.into());
        }
        self.set_phase(id, Phase::Waiting);
        self.sessions.insert(id, State::Unsettled(Box::new(head)));
        self.sessions.weigh(id, &self.config.limits)?;
        self.early.asked(id);
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
        let Some(State::Unsettled(head)) = self.sessions.get(id).map(|session| &session.state)
        else {
            return Ok(());
        };
        if peer.dialect().is_none() {
            return Err(StreamError::Message("client announced no WebTransport"));
        }
        let token = head.protocol.as_deref().unwrap_or_default();
        let draft02 = joined(&head.fields, DRAFT02_REQUEST).is_some();
        let datagrams = peer.datagrams && self.transport.max_datagram_frame_size > 0;
        let dialect = peer.dialect_of(token, draft02, strict);
        let Some(dialect) = dialect.filter(|_| !strict || datagrams) else {
            self.drop_unanswered(id);
            self.answer_plainly(id, 400, now);
            return Ok(());
        };
        let settled = |(_, session): &(_, &Session)| !session.is_unsettled();
        if peer.is_single(dialect) && self.sessions.iter().any(|entry| settled(&entry)) {
            return Err(StreamError::Rejected);
        }
        let protocols = joined(&head.fields, AVAILABLE_PROTOCOLS)
            .and_then(|field| structured_field::parse_string_list(&field))
            .unwrap_or_default();
        if protocols.len() > self.config.limits.max_protocols {
            self.drop_unanswered(id);
            self.answer_plainly(id, 431, now);
            return Ok(());
        }
        let Some(session) = self.sessions.get_mut(id) else {
            return Ok(());
        };
        session.dialect = Some(dialect);
        let state = State::Requested {
            protocols: protocols.clone(),
            draft02,
        };
        let State::Unsettled(head) = std::mem::replace(&mut session.state, state) else {
            return Ok(());
        };
        self.sessions.weigh(id, &self.config.limits)?;
        let origin = joined(&head.fields, "origin");
        let RequestHead {
            authority,
            path,
            fields: headers,
            ..
        } = *head;
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
        let (Some(peer), Some(session)) = (&self.peer, self.sessions.get_mut(id)) else {
            return;
        };
        let Some(dialect) = session.dialect else {
            return;
        };
        let flow = peer
            .has_flow(dialect)
            .then(|| Flow::new(&self.config.flow_control, peer, dialect, now));
        session.state = State::Open;
        session.flow = flow.map(Box::new);
        self.stats.sessions_established += 1;
        if peer.framing == Framing::Raw {
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
            );
        }
        // webtrans-http3-16 §4.7: GOAWAY concerns sessions that come later too.
        if self.goaway_received.is_some() {
            self.drain_by_peer(id);
        }
        self.release_early(id);
    }

    /// The server's SETTINGS offer no dialect of ours.
    pub(crate) fn check_offer(&self) -> Result<(), ConnectionError> {
        match self.config.role {
            Role::Client if self.dialect().is_none() => Err(ConnectionError::RequirementsNotMet),
            _ => Ok(()),
        }
    }
}

/// A final answer without content.
pub(crate) fn answer_frame(
    status: u16,
    headers: &[(String, String)],
    max: u64,
) -> Result<bytes::Bytes, Error> {
    let code = status.to_string();
    let rest = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    headers_frame([(":status", code.as_str())].into_iter().chain(rest), max)
}
