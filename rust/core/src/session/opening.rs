//! The way to a session: a request and its answer, at either end.

use pywt_wire::capsule::{Capsule, MAX_STREAMS};
use pywt_wire::qpack::Field;
use pywt_wire::{structured_field, varint};

use crate::config::Role;
use crate::connection::Connection;
use crate::dialect::Framing;
use crate::error::{ConnectionError, Fault, StreamError};
use crate::event::Event;
use crate::request::fields::{headers_frame, joined, RequestHead, ResponseHead};
use crate::request::reader::Phase;
use crate::session::flow::Flow;
use crate::session::{Session, State, AVAILABLE_PROTOCOLS, DRAFT02_REQUEST, PROTOCOL};
use crate::Time;
use crate::{Dir, SessionId};

/// The request, at either end.
impl Connection {
    /// The peer's SETTINGS arrived: what waited for them goes on, in order.
    pub(crate) fn settle_sessions(&mut self, now: Time) {
        for id in self.sessions.unsettled() {
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
    pub(super) fn ask(&mut self, id: SessionId) {
        let Some(peer) = &self.peer else { return };
        let Some(dialect) = peer.dialect() else {
            return self.fail_session(id, &StreamError::Unsupported);
        };
        let asked = self.sessions.settled() as u64;
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
                let asked = State::Asked(request.protocols);
                self.sessions.settle(id, dialect, asked);
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
        if let Some(id) = self.sessions.first_unsettled() {
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
        // One that has to be alone is so also among sessions of other dialects.
        let is_alone = |session: &Session| session.dialect.is_some_and(|it| peer.is_single(it));
        let is_taken = self.sessions.settled() == 1
            && self.sessions.iter().any(|(_, session)| is_alone(session));
        if is_taken || (peer.is_single(dialect) && self.sessions.settled() > 0) {
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
        let state = State::Requested {
            protocols: protocols.clone(),
            draft02,
        };
        let Some(State::Unsettled(head)) = self.sessions.settle(id, dialect, state) else {
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
    pub(super) fn establish(&mut self, id: SessionId, now: Time) {
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
