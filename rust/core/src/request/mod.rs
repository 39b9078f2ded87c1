//! Streams of HTTP/3 frames: requests and their answers (RFC 9114 §4.1, §7).
//!
//! A [`RequestStream`] knows which frames its phase allows and turns the bytes of a CONNECT
//! stream into a field section first and a byte stream of capsules afterwards.

pub(crate) mod fields;

use bytes::Bytes;
use pywt_wire::codes::{capsule, error, frame};
use pywt_wire::frame::is_reserved_http2;
use pywt_wire::qpack::decode_section;

use crate::config::Role;
use crate::connection::Connection;
use crate::dialect::{TOKEN_CURRENT, TOKEN_LEGACY};
use crate::error::{ConnectionError, Fault, StreamError};
use crate::event::Action;
use crate::limits::Limits;
use crate::request::fields::{check_trailers, headers_frame, RequestHead};
use crate::session::capsule::CapsuleReader;
use crate::stream::Entry;
use crate::tlv::{Gather, Piece, TlvReader};
use crate::{SessionId, StreamId, Time};

/// Where a stream of frames stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The field section (client: of a final response) is not complete.
    Head,
    /// Server: a session was asked for; bytes are kept unread until it is accepted
    /// (webtrans-http3-16 §4.1).
    Waiting,
    /// The session is established: DATA carries capsules.
    Capsules,
    /// The peer's CLOSE capsule was read; nothing may follow it.
    AfterClose,
    /// The session ended at this end; capsules under way are of no interest.
    Ended,
    /// Answered for good: content is of no interest, frames must still be legal.
    Done {
        /// Only the end may follow.
        trailers_seen: bool,
    },
}

/// One stream of frames.
#[derive(Debug)]
pub(crate) struct RequestStream {
    pub(crate) phase: Phase,
    frames: TlvReader,
    payload: Gather,
    /// Capsules inside DATA frames.
    pub(crate) capsules: CapsuleReader,
    /// Capsules in place of frames, as PyWebTransport 0.8 writes them.
    raw: CapsuleReader,
    /// Bytes kept while waiting.
    waiting: Vec<u8>,
    /// FIN came while waiting.
    waiting_fin: bool,
    pub(crate) send_open: bool,
}

/// What a stream of frames holds.
#[derive(Debug)]
pub(crate) enum Item {
    /// A capsule that somebody has to act on.
    Capsule { ty: u64, payload: Bytes, raw: bool },
    /// A complete field section.
    Fields(Bytes),
    /// A frame or capsule that carries nothing was skipped.
    Idle(&'static str),
    /// Trailers.
    Trailers(Bytes),
}

/// What a reader must know of its surroundings.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) role: Role,
    pub(crate) limits: &'a Limits,
    pub(crate) strict: bool,
    /// Session flow control is on.
    pub(crate) flow: bool,
    /// Capsules of the HTTP/2 binding are an error.
    pub(crate) forbids_stream_data: bool,
}

impl RequestStream {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Head,
            frames: TlvReader::default(),
            payload: Gather::default(),
            capsules: CapsuleReader::default(),
            raw: CapsuleReader::default(),
            waiting: Vec::new(),
            waiting_fin: false,
            send_open: true,
        }
    }

    /// Reads up to the next item; `None` when the input is used up.
    fn next(&mut self, input: &mut Bytes, rules: Rules<'_>) -> Result<Option<Item>, Fault> {
        loop {
            if self.phase == Phase::AfterClose && self.capsules.has_input() {
                return Err(StreamError::DataAfterClose.into());
            }
            // Capsules of a DATA frame come before the next frame.
            if let Some(item) = self.capsules.next(rules)? {
                return Ok(Some(item));
            }
            match self.frames.next(input) {
                None => return Ok(None),
                Some(Piece::Head { ty, len }) => {
                    self.check_head(ty, len, rules)?;
                    if self.is_raw_capsule(ty, rules) {
                        if let Some(item) = self.raw.head(ty, len, rules)? {
                            return Ok(Some(item));
                        }
                    } else if !matches!(ty, frame::DATA | frame::HEADERS) {
                        return Ok(Some(Item::Idle("unknown frames")));
                    } else if len == 0 && ty == frame::DATA {
                        return Ok(Some(Item::Idle("empty frames")));
                    }
                }
                Some(Piece::Body {
                    ty: frame::HEADERS,
                    data,
                    last,
                }) => {
                    if let Some(payload) = self.payload.push(data, last) {
                        return Ok(Some(match self.phase {
                            Phase::Head => Item::Fields(payload),
                            _ => Item::Trailers(payload),
                        }));
                    }
                }
                Some(Piece::Body {
                    ty: frame::DATA,
                    data,
                    ..
                }) => match self.phase {
                    Phase::Capsules => self.capsules.feed(data),
                    Phase::AfterClose if !data.is_empty() => {
                        return Err(StreamError::DataAfterClose.into());
                    }
                    _ => {}
                },
                Some(Piece::Body { ty, data, last }) => {
                    if self.is_raw_capsule(ty, rules) {
                        if let Some(item) = self.raw.body(ty, data, last) {
                            return Ok(Some(mark_raw(item)));
                        }
                    }
                }
            }
        }
    }

    /// What can be said of a frame before any payload is kept.
    fn check_head(&mut self, ty: u64, len: u64, rules: Rules<'_>) -> Result<(), Fault> {
        let unexpected = Err(ConnectionError::FrameUnexpected(ty).into());
        match ty {
            frame::DATA => match self.phase {
                Phase::Head => unexpected,
                Phase::Done {
                    trailers_seen: true,
                } if len > 0 => unexpected,
                _ => Ok(()),
            },
            frame::HEADERS => {
                match &mut self.phase {
                    Phase::Head => {}
                    Phase::Done { trailers_seen } if !*trailers_seen => *trailers_seen = true,
                    _ => return unexpected,
                }
                let max = rules.limits.max_headers_frame_size;
                if len > max {
                    return Err(ConnectionError::FrameTooLarge { ty, len, max }.into());
                }
                Ok(())
            }
            // No push was ever allowed (RFC 9114 §7.2.5).
            frame::PUSH_PROMISE if rules.role == Role::Client && self.phase == Phase::Head => {
                Err(ConnectionError::PushStream.into())
            }
            frame::SETTINGS
            | frame::GOAWAY
            | frame::MAX_PUSH_ID
            | frame::CANCEL_PUSH
            | frame::PUSH_PROMISE
            | frame::PRIORITY_UPDATE_REQUEST
            | frame::PRIORITY_UPDATE_PUSH => unexpected,
            // webtrans-http3-16 §4.3
            frame::WT_STREAM => Err(ConnectionError::WtSignalMisplaced.into()),
            _ if is_reserved_http2(ty) => unexpected,
            _ if self.phase == Phase::AfterClose && self.is_raw_capsule(ty, rules) => {
                Err(StreamError::DataAfterClose.into())
            }
            _ => Ok(()),
        }
    }

    /// PyWebTransport 0.8 writes capsules without DATA frames around them; their types are
    /// unknown as frame types, which everybody else skips.
    fn is_raw_capsule(&self, ty: u64, rules: Rules<'_>) -> bool {
        !rules.strict
            && matches!(self.phase, Phase::Capsules | Phase::AfterClose)
            && matches!(
                ty,
                capsule::WT_CLOSE_SESSION | capsule::WT_DRAIN_SESSION | capsule::WT_MAX_DATA
                    ..=capsule::WT_STREAMS_BLOCKED_UNI
            )
    }

    /// Checks that the stream may end here.
    fn check_end(&self) -> Result<(), Fault> {
        match self.phase {
            Phase::Done { .. } | Phase::Ended => Ok(()),
            _ if self.raw.is_inside() => Err(StreamError::CapsuleTruncated.into()),
            _ if !self.frames.at_boundary() => Err(ConnectionError::FrameTruncated.into()),
            Phase::Head => Err(StreamError::Incomplete.into()),
            _ if !self.capsules.at_boundary() => Err(StreamError::CapsuleTruncated.into()),
            _ => Ok(()),
        }
    }
}

fn mark_raw(item: Item) -> Item {
    match item {
        Item::Capsule { ty, payload, .. } => Item::Capsule {
            ty,
            payload,
            raw: true,
        },
        other => other,
    }
}

impl Connection {
    /// Starts a stream of frames the client opened.
    pub(crate) fn open_request(&mut self, id: StreamId) {
        let refused = self.goaway_sent.is_some_and(|limit| id >= limit);
        // Sessions have a limit of their own.
        let spare = self.requests.saturating_sub(self.sessions.len());
        if refused || spare >= self.config.limits.max_requests {
            return self.discard(id, error::H3_REQUEST_REJECTED, true, true);
        }
        self.next_request = self.next_request.max(id + 4);
        self.insert_request(id);
    }

    /// Gives the first bytes of a stream, or of a request, a deadline for the rest.
    pub(crate) fn await_head(&mut self, id: StreamId, now: Time) {
        let streams = &self.streams;
        let waits = |id| match streams.get(&id) {
            Some(Entry::Head(_)) => true,
            Some(Entry::Request(request)) => request.phase == Phase::Head,
            _ => false,
        };
        self.deadlines
            .headers
            .push(now, self.config.limits.headers_timeout, id, waits);
    }

    pub(crate) fn insert_request(&mut self, id: StreamId) {
        self.requests += 1;
        self.streams
            .insert(id, Entry::Request(Box::new(RequestStream::new())));
    }

    pub(crate) fn request_mut(&mut self, id: StreamId) -> Option<&mut RequestStream> {
        match self.streams.get_mut(&id) {
            Some(Entry::Request(request)) => Some(request),
            _ => None,
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
        match self.read_request(id, data, fin, now) {
            Err(Fault::Connection(error)) => Err(error),
            Err(Fault::Stream(error)) => {
                self.fail_request(id, &error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn read_request(
        &mut self,
        id: StreamId,
        mut data: Bytes,
        fin: bool,
        now: Time,
    ) -> Result<(), Fault> {
        loop {
            let forbids_stream_data = self
                .peer
                .as_ref()
                .and_then(|peer| peer.dialect)
                .is_some_and(|dialect| dialect.row().forbids_stream_data_capsules);
            let rules = Rules {
                role: self.config.role,
                limits: &self.config.limits,
                strict: self.config.strict,
                flow: self.peer.as_ref().is_some_and(|peer| peer.flow),
                forbids_stream_data,
            };
            let Some(Entry::Request(request)) = self.streams.get_mut(&id) else {
                return Ok(());
            };
            if request.phase == Phase::Waiting {
                if request.waiting.len() + data.len() > rules.limits.max_early_capsule_bytes {
                    return Err(StreamError::Overload("capsules before the answer").into());
                }
                request.waiting.extend_from_slice(&data);
                request.waiting_fin |= fin;
                return Ok(());
            }
            let Some(item) = request.next(&mut data, rules)? else {
                break;
            };
            match item {
                Item::Fields(section) => self.on_fields(id, &section, now)?,
                Item::Trailers(section) => self.on_trailers(&section)?,
                Item::Capsule { ty, payload, raw } => {
                    self.on_capsule(id, ty, &payload, raw, now)?
                }
                Item::Idle(what) => {
                    self.stats.unknown_skipped += 1;
                    if !self.idle.allow(self.config.limits.idle_frames, now) {
                        return Err(ConnectionError::Flood(what).into());
                    }
                }
            }
        }
        if fin {
            if let Some(request) = self.request_mut(id) {
                request.check_end()?;
                self.request_ended(id, now);
            }
        }
        Ok(())
    }

    fn on_fields(&mut self, id: StreamId, section: &[u8], now: Time) -> Result<(), Fault> {
        let max = self.config.limits.max_field_section_size;
        let fields = match decode_section(section, usize::try_from(max).unwrap_or(usize::MAX)) {
            Ok(fields) => fields,
            Err(error) if error.is_limit() => {
                if self.config.role == Role::Client {
                    return Err(StreamError::Overload("response fields").into());
                }
                self.remember_ended(id);
                self.answer(id, 431, &[], now);
                return Ok(());
            }
            Err(error) => return Err(ConnectionError::from(error).into()),
        };
        match self.config.role {
            Role::Client => self.on_response(id, fields, now),
            Role::Server => {
                let head = RequestHead::parse(fields)?;
                self.on_request(id, head, now)
            }
        }
    }

    fn on_trailers(&mut self, section: &[u8]) -> Result<(), Fault> {
        let max = self.config.limits.max_field_section_size;
        match decode_section(section, usize::try_from(max).unwrap_or(usize::MAX)) {
            Ok(fields) => Ok(check_trailers(fields)?),
            Err(error) if error.is_limit() => Err(StreamError::Overload("trailers").into()),
            Err(error) => Err(ConnectionError::from(error).into()),
        }
    }

    /// A well-formed request: a session is asked for, or the answer is known at once.
    fn on_request(&mut self, id: StreamId, head: RequestHead, now: Time) -> Result<(), Fault> {
        match head.protocol.as_deref() {
            None => {
                let status = if head.method == "CONNECT" { 501 } else { 404 };
                self.answer(id, status, &[], now);
                Ok(())
            }
            // Extended CONNECT was not announced (RFC 8441 §3, RFC 9220 §3).
            Some(_) if self.config.dialects.is_empty() => {
                Err(StreamError::Message(":protocol without extended CONNECT").into())
            }
            Some(TOKEN_LEGACY | TOKEN_CURRENT) => self.on_session_request(id, head, now),
            Some(_) => {
                self.remember_ended(id);
                self.answer(id, 501, &[], now);
                Ok(())
            }
        }
    }

    /// Answers a request for good. The peer's side lingers until it ends.
    pub(crate) fn answer(
        &mut self,
        id: StreamId,
        status: u16,
        headers: &[(String, String)],
        now: Time,
    ) {
        let code = status.to_string();
        let rest = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let data = headers_frame([(":status", code.as_str())].into_iter().chain(rest));
        self.send_request(id, data, true);
        self.linger(
            id,
            Phase::Done {
                trailers_seen: false,
            },
            now,
        );
    }

    /// Writes on a stream of frames while its sending side is open.
    pub(crate) fn send_request(&mut self, id: StreamId, data: Bytes, fin: bool) {
        let Some(request) = self.request_mut(id) else {
            return;
        };
        if request.send_open {
            request.send_open = !fin;
            self.actions.push_back(Action::SendStream { id, data, fin });
        }
    }

    /// The session was accepted: what was kept is read now.
    pub(crate) fn resume_request(
        &mut self,
        id: SessionId,
        now: Time,
    ) -> Result<(), ConnectionError> {
        let Some(request) = self.request_mut(id) else {
            return Ok(());
        };
        request.phase = Phase::Capsules;
        let data = Bytes::from(std::mem::take(&mut request.waiting));
        let fin = std::mem::take(&mut request.waiting_fin);
        self.request_data(id, data, fin, now)
    }

    /// The peer's side ended where it may.
    fn request_ended(&mut self, id: StreamId, now: Time) {
        let Some(request) = self.request_mut(id) else {
            return;
        };
        match request.phase {
            // Without a capsule the session ends with code 0 and no text
            // (webtrans-http3-16 §6).
            Phase::Capsules => self.end_by_peer(id, 0, String::new(), now),
            Phase::Head
            | Phase::Waiting
            | Phase::AfterClose
            | Phase::Ended
            | Phase::Done { .. } => {}
        }
        self.remove_request(id);
    }

    /// Drops the entry of a stream of frames whose receiving side has ended.
    pub(crate) fn remove_request(&mut self, id: StreamId) {
        if matches!(self.streams.get(&id), Some(Entry::Request(_))) {
            self.streams.remove(&id);
            self.requests -= 1;
        }
    }

    /// Ends a request, and its session if it has one, because of a fault of the peer.
    pub(crate) fn fail_request(&mut self, id: StreamId, error: &StreamError) {
        if self.sessions.contains_key(&id) {
            return self.fail_session(id, error);
        }
        self.abort_request(id, error.code());
    }

    /// Resets and stops a stream of frames; what still comes is ignored.
    pub(crate) fn abort_request(&mut self, id: StreamId, code: u64) {
        if matches!(self.streams.get(&id), Some(Entry::Request(_))) {
            self.requests -= 1;
            self.discard(id, code, true, true);
        }
    }
}
