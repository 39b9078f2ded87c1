//! Sessions: the verbs that ask for one and answer, and what one is while it lives.

pub(crate) mod capsule;
mod close;
pub(crate) mod flow;
mod opening;
pub(crate) mod table;

use pywt_wire::codes::quic::EXPORTER_LABEL;
use pywt_wire::quic_extras::ExporterContext;
use pywt_wire::stream_header::is_session_id;
use pywt_wire::structured_field;

use crate::config::{Request, Response, Role};
use crate::connection::{Connection, SessionState, SessionView};
use crate::dialect::Dialect;
use crate::error::{Error, StreamError};
use crate::map::IdSet;
use crate::request::fields::{
    check_local_authority, check_local_fields, check_local_path, headers_frame, invalid,
    RequestHead,
};
use crate::session::flow::{Flow, FlowView};
use crate::stream::table::{Halves, Kind};
use crate::Time;
use crate::{SessionId, StreamId};

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
