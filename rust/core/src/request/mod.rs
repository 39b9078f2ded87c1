//! Requests and their answers (RFC 9114 §4.1): the life of a stream of HTTP/3 frames.

mod exchange;
pub(crate) mod fields;
pub(crate) mod reader;

use bytes::Bytes;
use pywt_wire::codes::error;
use pywt_wire::qpack::{decode_section, Field};

use crate::config::Role;
use crate::connection::Connection;
use crate::dialect::{TOKEN_CURRENT, TOKEN_LEGACY};
use crate::error::{ConnectionError, Fault, StreamError};
use crate::event::{Action, Event};
use crate::request::exchange::Exchange;
use crate::request::fields::{check_trailers, ordinary_fields, RequestHead};
use crate::request::reader::{Item, Phase, Reader, Rules};
use crate::session::answer_frame;
use crate::stream::table::{Entry, Halves, Kind};
use crate::{SessionId, StreamId, Time};

/// One stream of frames.
#[derive(Debug)]
pub(crate) struct RequestStream {
    reader: Reader,
    /// When the request must be complete, or the peer's side must have ended.
    due: Option<Time>,
    /// The application has the request: what was sent of the response.
    exchange: Option<Exchange>,
}

impl RequestStream {
    /// The application has the request.
    pub(crate) fn is_shown(&self) -> bool {
        self.exchange.is_some()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.reader.phase
    }

    /// The application has yet to answer.
    pub(crate) fn is_waiting(&self) -> bool {
        self.reader.phase == Phase::Waiting
    }
}

impl Connection {
    /// Starts a stream of frames the client opened. `halves`: what is open of it once its first
    /// bytes are read.
    pub(crate) fn open_request(&mut self, id: StreamId, halves: Halves, due: Time) {
        let refused = self.goaway_sent.is_some_and(|limit| id >= limit);
        // Sessions have a limit of their own.
        let spare = self.streams.requests().saturating_sub(self.sessions.len());
        if refused || spare >= self.config.limits.max_requests {
            self.refuse(id, halves, error::H3_REQUEST_REJECTED);
            return self.drop_unanswered(id);
        }
        self.next_request = self.next_request.max(id.saturating_add(4));
        self.insert_request(id, Halves::of_peer(id), Some(due));
    }

    /// `due`: when the peer must have said all of its request.
    pub(crate) fn insert_request(&mut self, id: StreamId, halves: Halves, due: Option<Time>) {
        let reader = Reader::new();
        let request = RequestStream {
            reader,
            due,
            exchange: None,
        };
        self.streams
            .insert(id, halves, Kind::Request(Box::new(request)));
    }

    /// Gives the first bytes of a stream, or of a request, a deadline for the rest.
    pub(crate) fn await_head(&mut self, id: StreamId, due: Time) {
        let streams = &self.streams;
        let waits = |id, at| match streams.kind(id) {
            Some(Kind::Head(head)) => head.due == at,
            Some(Kind::Request(request)) => request.due == Some(at),
            _ => false,
        };
        self.deadlines.headers.push(due, id, waits);
    }

    pub(crate) fn request(&self, id: StreamId) -> Option<&RequestStream> {
        match self.streams.kind(id)? {
            Kind::Request(request) => Some(request),
            _ => None,
        }
    }

    pub(crate) fn request_mut(
        &mut self,
        id: StreamId,
    ) -> Option<(&mut Halves, &mut RequestStream)> {
        match self.streams.get_mut(id)? {
            Entry {
                halves,
                kind: Kind::Request(request),
            } => Some((halves, request)),
            _ => None,
        }
    }

    pub(crate) fn set_phase(&mut self, id: StreamId, phase: Phase) {
        if let Some((_, request)) = self.request_mut(id) {
            request.reader.phase = phase;
        }
    }

    /// A request that did not fit into its first bytes.
    pub(crate) fn await_request(&mut self, id: StreamId) {
        let due = self.request(id).filter(|r| r.phase() == Phase::Head);
        if let Some(due) = due.and_then(|request| request.due) {
            self.await_head(id, due);
        }
    }

    /// Bytes of a stream of frames.
    pub(crate) fn request_data(
        &mut self,
        id: StreamId,
        data: Bytes,
        fin: bool,
        now: Time,
    ) -> Result<(), ConnectionError> {
        let result = self.read_request(id, data, fin, now);
        if let (true, Some((halves, _))) = (fin, self.request_mut(id)) {
            halves.recv = false;
        }
        match result {
            Err(Fault::Connection(error)) => return Err(error),
            Err(Fault::Stream(error)) => self.fail_request(id, &error),
            Ok(()) => self.settle(id),
        }
        Ok(())
    }

    fn read_request(
        &mut self,
        id: StreamId,
        mut data: Bytes,
        fin: bool,
        now: Time,
    ) -> Result<(), Fault> {
        let framing = self.framing();
        loop {
            let Some(Entry {
                halves: Halves { recv: true, .. },
                kind: Kind::Request(request),
            }) = self.streams.get_mut(id)
            else {
                return Ok(());
            };
            let limits = &self.config.limits;
            if request.is_waiting() {
                return Ok(self.sessions.keep(id, &data, limits)?);
            }
            let session = self.sessions.get(id);
            let rules = Rules {
                role: self.config.role,
                limits,
                framing,
                dialect: session.and_then(|session| session.dialect),
                has_flow: session.is_some_and(|session| session.flow.is_some()),
            };
            let Some(item) = request.reader.next(&mut data, rules)? else {
                break;
            };
            match item {
                Item::Fields(section) => self.on_fields(id, &section, now)?,
                Item::Body(data) => self.deliver(id, data, false),
                Item::Trailers(section) => {
                    let is_shown = request.is_shown();
                    let Some(fields) = self.decode(&section)? else {
                        return Err(StreamError::Overload("trailers").into());
                    };
                    check_trailers(&fields)?;
                    if is_shown {
                        self.events.push_back(Event::RequestTrailers {
                            stream: id,
                            fields: ordinary_fields(fields),
                        });
                    }
                }
                Item::Capsule { ty, payload } => self.on_capsule(id, ty, &payload, now)?,
                Item::DroppedDatagram => self.stats.datagrams_dropped += 1,
                Item::Idle(what) => self.count_idle(what, now)?,
            }
        }
        if let (true, Some(request)) = (fin, self.request(id)) {
            request.reader.check_end()?;
            if request.is_shown() {
                self.deliver(id, Bytes::new(), true);
                return Ok(());
            }
            // Without a capsule the session ends with code 0 and no text (webtrans-http3-16 §6).
            if request.phase() == Phase::Capsules {
                self.end_by_peer(id, 0, String::new(), now);
            }
        }
        Ok(())
    }

    /// The fields of a section; `None`: larger than announced.
    fn decode(&self, section: &[u8]) -> Result<Option<Vec<Field>>, ConnectionError> {
        let max = usize::try_from(self.config.limits.max_field_section_size);
        match decode_section(section, max.unwrap_or(usize::MAX)) {
            Ok(fields) => Ok(Some(fields)),
            Err(error) if error.is_limit() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn on_fields(&mut self, id: StreamId, section: &[u8], now: Time) -> Result<(), Fault> {
        match (self.config.role, self.decode(section)?) {
            (Role::Client, Some(fields)) => self.on_response(id, fields, now),
            (Role::Client, None) => Err(StreamError::Overload("response fields").into()),
            (Role::Server, Some(fields)) => {
                let head = RequestHead::parse(&fields, self.config.strict)?;
                self.on_request(id, head, fields, now)
            }
            (Role::Server, None) => {
                self.drop_unanswered(id);
                self.answer_plainly(id, 431, now);
                Ok(())
            }
        }
    }

    /// A well-formed request: a session is asked for, or the answer is known at once.
    fn on_request(
        &mut self,
        id: StreamId,
        head: RequestHead,
        fields: Vec<Field>,
        now: Time,
    ) -> Result<(), Fault> {
        match head.protocol.as_deref() {
            None if self.config.serves_requests && head.method != "CONNECT" => {
                self.show_request(id, head, fields);
                Ok(())
            }
            None => {
                let status = if head.method == "CONNECT" { 501 } else { 404 };
                self.answer_plainly(id, status, now);
                Ok(())
            }
            // Extended CONNECT was not announced (RFC 8441 §3, RFC 9220 §3).
            Some(_) if self.config.dialects.is_empty() => {
                Err(StreamError::Message(":protocol without extended CONNECT").into())
            }
            Some(TOKEN_LEGACY | TOKEN_CURRENT) => self.on_session_request(id, head, now),
            Some(_) => {
                self.drop_unanswered(id);
                self.answer_plainly(id, 501, now);
                Ok(())
            }
        }
    }

    /// Answers a request with a status alone.
    pub(crate) fn answer_plainly(&mut self, id: StreamId, status: u16, now: Time) {
        if let Ok(data) = answer_frame(status, &[], u64::MAX) {
            self.answer(id, data, now);
        }
    }

    /// Answers a request for good.
    pub(crate) fn answer(&mut self, id: StreamId, data: Bytes, now: Time) {
        self.count_refusal();
        self.finish_request(id, data, Phase::DONE, now);
    }

    /// Writes on a stream of frames while its sending side is open.
    pub(crate) fn send_request(&mut self, id: StreamId, data: Bytes) {
        if matches!(self.request_mut(id), Some((halves, _)) if halves.send) {
            let fin = false;
            self.actions.push_back(Action::SendStream { id, data, fin });
        }
    }

    /// Writes the last of a stream of frames, which then waits for the peer's side to end, for a
    /// limited time.
    pub(crate) fn finish_request(&mut self, id: StreamId, data: Bytes, phase: Phase, now: Time) {
        let Some((halves, request)) = self.request_mut(id) else {
            return;
        };
        request.reader.phase = phase;
        if std::mem::take(&mut halves.send) {
            let fin = true;
            self.actions.push_back(Action::SendStream { id, data, fin });
        }
        self.settle(id);
        self.await_close(id, now);
    }

    /// Gives the peer's side of a CONNECT stream a deadline.
    fn await_close(&mut self, id: StreamId, now: Time) {
        let due = now.saturating_add(self.config.limits.close_timeout);
        let Some((_, request)) = self.request_mut(id) else {
            return;
        };
        request.due = Some(due);
        let streams = &self.streams;
        let waits = |id, at| matches!(streams.kind(id), Some(Kind::Request(request)) if request.due == Some(at));
        self.deadlines.closing.push(due, id, waits);
    }

    /// STOP_SENDING on a CONNECT stream stops our side only: the peer's CLOSE may still come. An
    /// ordinary request that nobody wants the answer to is over.
    pub(crate) fn request_stopped(&mut self, id: StreamId, code: u64, now: Time) {
        let Some((halves, request)) = self.request_mut(id) else {
            return;
        };
        if request.is_shown() {
            if halves.send {
                self.tell_aborted(id, code);
                self.abort_request(id, code);
            }
            return;
        }
        if std::mem::take(&mut halves.send) {
            self.reset_plainly(id, code);
            self.settle(id);
            self.await_close(id, now);
        }
    }

    /// A request is not complete in the time allowed.
    pub(crate) fn request_timed_out(&mut self, id: StreamId, now: Time) {
        let due = self.request(id).and_then(|request| request.due);
        let is_head = |r: &RequestStream| r.phase() == Phase::Head;
        if due.is_some_and(|due| due <= now) && self.request(id).is_some_and(is_head) {
            self.fail_request(id, &StreamError::Incomplete);
        }
    }

    /// The peer did not end its side of a CONNECT stream in time.
    pub(crate) fn close_timed_out(&mut self, id: StreamId, now: Time) {
        let Some((halves, request)) = self.request_mut(id) else {
            return;
        };
        if request.due.is_none_or(|due| due > now) {
            return;
        }
        match request.phase() {
            Phase::AfterClose | Phase::Ended => self.abort_request(id, error::WT_SESSION_GONE),
            Phase::Done { .. } => self.abort_request(id, error::H3_NO_ERROR),
            // The peer stopped our side and then said nothing more.
            Phase::Head | Phase::Waiting | Phase::Capsules if !halves.send => {
                self.fail_request(id, &StreamError::Stopped);
            }
            // A request of the application has as long as that takes.
            Phase::Head | Phase::Waiting | Phase::Capsules | Phase::Body { .. } => {}
        }
    }

    /// The session was accepted: what was kept is read now.
    pub(crate) fn resume_request(
        &mut self,
        id: SessionId,
        now: Time,
    ) -> Result<(), ConnectionError> {
        let unread = self.sessions.take_unread(id);
        let Some((halves, request)) = self.request_mut(id) else {
            return Ok(());
        };
        request.reader.phase = Phase::Capsules;
        let fin = !std::mem::replace(&mut halves.recv, true);
        self.request_data(id, unread.into(), fin, now)
    }

    /// Ends a request, and its session if it has one, because of a fault of the peer.
    pub(crate) fn fail_request(&mut self, id: StreamId, error: &StreamError) {
        if self.sessions.contains(id) {
            return self.fail_session(id, error);
        }
        self.fail_exchange(id, error);
        self.drop_unanswered(id);
    }

    /// As `abort_request` when the peer broke a rule: the stream must be reset, even where our FIN
    /// is under way (webtrans-http3-16 §6).
    pub(crate) fn break_request(&mut self, id: StreamId, code: u64) {
        if let Some((halves, _)) = self.request_mut(id) {
            halves.send = true;
            self.count_refusal();
            self.abort_request(id, code);
        }
    }

    /// Resets and stops what is open of a stream of frames, and forgets it.
    pub(crate) fn abort_request(&mut self, id: StreamId, code: u64) {
        if self.request(id).is_none() {
            return;
        }
        if let Some(entry) = self.streams.remove(id) {
            self.request_left();
            self.abandon(id, entry.halves, code, 0);
        }
    }

    /// A client's next request may have waited for the end of this one.
    pub(crate) fn request_left(&mut self) {
        self.asks_next = self.config.role == Role::Client;
    }
}
