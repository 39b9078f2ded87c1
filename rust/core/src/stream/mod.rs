//! WebTransport streams: opening, counting payload, ending; and refusing streams of any kind.

pub(crate) mod table;

use bytes::Bytes;
use pywt_wire::codes::{app_error_to_http, http_to_app_error};
use pywt_wire::stream_header::{self, MAX_LEN};

use crate::config::{Role, Transport};
use crate::connection::{Connection, StreamKind};
use crate::error::{Error, OpenError};
use crate::event::{Action, Event};
use crate::stream::table::{dir_of, Entry, Halves, Kind};
use crate::{Dir, SessionId, StreamId, Time};

/// One WebTransport stream of an established session. `consumed <= received`.
#[derive(Debug)]
pub(crate) struct WtStream {
    pub(crate) session: SessionId,
    /// Payload that arrived, or that the peer sent and reset.
    pub(crate) received: u64,
    consumed: u64,
    /// Payload granted for sending and not given back.
    sent: u64,
    /// Bytes of the stream's header, which its opener sends; they do not count for the session
    /// (webtrans-http3-16 §5.4).
    header_len: u8,
    /// Opened by this end.
    local: bool,
    /// The session has flow control.
    has_flow: bool,
    /// Payload spends session credit as it arrives. Where ours is ample it is settled at the
    /// stream's end.
    metered: bool,
    /// The application wants no more; what arrives counts as consumed.
    pub(crate) stopped: bool,
}

impl WtStream {
    pub(crate) fn new(session: SessionId, header_len: usize, local: bool) -> Self {
        Self {
            session,
            received: 0,
            consumed: 0,
            sent: 0,
            header_len: header_len as u8,
            local,
            has_flow: false,
            metered: false,
            stopped: false,
        }
    }

    /// Session credit of the peer depends on what the application has yet to read.
    pub(crate) fn has_unread(&self) -> bool {
        self.metered && self.consumed < self.received
    }

    /// What a reset of the peer adds to the payload that arrived.
    pub(crate) fn missing(&self, final_size: u64) -> u64 {
        let header = if self.local { 0 } else { self.header_len };
        final_size
            .saturating_sub(u64::from(header))
            .saturating_sub(self.received)
    }

    /// How much of the stream our reset must leave: the header, without which the peer cannot tell
    /// whose stream it was (webtrans-http3-16 §4.4), and, if there is one, a byte more: quic-go
    /// 0.62 loses a stream whose reliable size is exactly its header. Where an end does not know
    /// RESET_STREAM_AT, a plain reset is all there is.
    pub(crate) fn reliable_size(&self, transport: &Transport) -> u64 {
        if !self.local || !transport.resets_at() {
            return 0;
        }
        u64::from(self.header_len) + self.sent.min(1)
    }
}

/// What became of counted payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Deliver,
    Drop,
    NotOfSession,
}

/// Application verbs.
impl Connection {
    /// What this crate knows about a stream.
    pub fn stream_kind(&self, id: StreamId) -> StreamKind {
        match self.streams.kind(id) {
            None => StreamKind::Unknown,
            Some(Kind::Head(_)) => StreamKind::Pending,
            Some(Kind::Held(_)) => StreamKind::Held,
            Some(Kind::Session(stream)) => StreamKind::Session(stream.session),
            Some(Kind::Request(request)) if request.is_shown() => StreamKind::Request,
            Some(_) => StreamKind::Internal,
        }
    }

    /// Whether a stream of this kind may be opened in the session now, as far as the session
    /// goes. `Blocked` is told to the peer once for each limit.
    pub fn check_open(&mut self, session: SessionId, dir: Dir) -> Result<(), OpenError> {
        let flow = &mut self.open_session_mut(session)?.flow;
        if flow
            .as_mut()
            .is_none_or(|flow| flow.send_streams.get_mut(dir).check())
        {
            return Ok(());
        }
        self.sessions.mark_dirty(session);
        Err(OpenError::Blocked { session, dir })
    }

    /// Registers a stream that the driver opened in QUIC; returns the header to write first.
    pub fn open_stream(
        &mut self,
        session: SessionId,
        id: StreamId,
        dir: Dir,
    ) -> Result<Bytes, OpenError> {
        if !self.is_local(id) || dir_of(id) != dir || self.streams.contains(id) {
            return Err(Error::StreamId(id).into());
        }
        let entry = self.open_session_mut(session)?;
        let (has_flow, metered) = (entry.flow.is_some(), entry.is_metered());
        let flow = entry.flow.as_mut();
        if flow.is_some_and(|flow| flow.send_streams.get_mut(dir).take(1) == 0) {
            self.sessions.mark_dirty(session);
            return Err(OpenError::Blocked { session, dir });
        }
        entry.streams.insert(id);
        self.stats.streams_opened += 1;
        let mut header = Vec::with_capacity(MAX_LEN);
        stream_header::encode(dir, session, &mut header);
        let mut stream = WtStream::new(session, header.len(), true);
        (stream.has_flow, stream.metered) = (has_flow, metered);
        self.streams
            .insert(id, Halves::of_ours(id), Kind::Session(stream));
        Ok(header.into())
    }

    /// Takes session credit for up to `want` bytes of payload and returns how much was granted:
    /// all of it without session flow control, 0 when the sending side has ended. After less than
    /// `want`, `Event::SessionWritable` follows.
    pub fn reserve_send(&mut self, id: StreamId, want: u64) -> u64 {
        let Some(Entry {
            halves: Halves { send: true, .. },
            kind: Kind::Session(stream),
        }) = self.streams.get_mut(id)
        else {
            return 0;
        };
        let mut granted = want;
        if stream.has_flow {
            if let Some(flow) = self.sessions.flow_mut(stream.session) {
                granted = flow.send_data.take(want);
            }
            if granted < want {
                self.sessions.mark_dirty(stream.session);
            }
        }
        stream.sent = stream.sent.saturating_add(granted);
        self.stats.bytes_sent = self.stats.bytes_sent.saturating_add(granted);
        granted
    }

    /// Gives back what `reserve_send` granted and QUIC never took. Call it before the sending side
    /// ends, or the session loses the credit.
    pub fn release_send(&mut self, id: StreamId, unused: u64) {
        let Some((_, stream)) = self.session_stream(id) else {
            return;
        };
        let unused = unused.min(stream.sent);
        stream.sent -= unused;
        let session = stream.session;
        self.stats.bytes_sent = self.stats.bytes_sent.saturating_sub(unused);
        let flow = self.sessions.flow_mut(session);
        if flow.is_some_and(|flow| flow.send_data.give_back(unused)) {
            self.events.push_back(Event::SessionWritable { session });
        }
    }

    /// The application read `len` bytes of payload: the session's credit goes back to the peer.
    pub fn stream_consumed(&mut self, id: StreamId, len: u64, now: Time) {
        self.tick(now);
        let Some((halves, stream)) = self.session_stream(id) else {
            return;
        };
        if !stream.metered {
            return;
        }
        let len = len.min(stream.received - stream.consumed);
        stream.consumed += len;
        let (session, received_all) = (stream.session, !halves.recv);
        self.free_data(session, len);
        if received_all {
            self.settle(id);
        }
    }

    /// The application's FIN was handed to QUIC.
    pub fn stream_finished(&mut self, id: StreamId) {
        if let Some((halves, _)) = self.session_stream(id) {
            halves.send = false;
            self.settle(id);
        }
    }

    /// The application gives up sending.
    pub fn reset_stream(&mut self, id: StreamId, app_code: u32) {
        let Some(Entry {
            halves,
            kind: Kind::Session(stream),
        }) = self.streams.get_mut(id)
        else {
            return;
        };
        if std::mem::take(&mut halves.send) {
            self.actions.push_back(Action::ResetStream {
                id,
                code: app_error_to_http(app_code),
                reliable_size: stream.reliable_size(&self.transport),
            });
            self.settle(id);
        }
    }

    /// The application wants no more payload. What still arrives counts as consumed.
    pub fn stop_stream(&mut self, id: StreamId, app_code: u32) {
        let Some((halves, stream)) = self.session_stream(id) else {
            return;
        };
        if std::mem::replace(&mut stream.stopped, true) {
            return;
        }
        if halves.recv {
            self.actions.push_back(Action::StopSending {
                id,
                code: app_error_to_http(app_code),
            });
        }
        self.consume_rest(id);
        self.settle(id);
    }

    /// The receiving side of a stream that [`Action::StopSending`] stopped has ended, by FIN or
    /// reset, and QUIC reports no more of it. `final_size` as in
    /// [`Connection::handle_stream_reset`].
    pub fn stopped_stream_gone(&mut self, id: StreamId, final_size: u64) {
        match self.streams.kind(id) {
            Some(Kind::Session(stream)) if stream.stopped => {
                self.session_stream_reset(id, 0, final_size);
            }
            Some(Kind::Refused(_)) => self.refused_ended(id, final_size),
            _ => {}
        }
    }

    /// QUIC reports nothing more about this stream: its entry goes, whatever state it is in.
    pub fn stream_gone(&mut self, id: StreamId) {
        match self.streams.kind(id) {
            Some(Kind::Session(_)) => {
                if let Some((halves, _)) = self.session_stream(id) {
                    *halves = Halves {
                        recv: false,
                        send: false,
                    };
                }
                self.consume_rest(id);
                self.settle(id);
            }
            Some(Kind::Held(_)) => {
                self.take_held(id);
            }
            Some(Kind::Refused(_)) => self.refused_ended(id, 0),
            Some(Kind::Head(_)) => {
                self.streams.remove(id);
            }
            Some(Kind::Request(_)) => self.end_by_reset(id, None),
            // They last as long as the connection.
            Some(Kind::Control | Kind::OwnControl | Kind::QpackDecoder | Kind::QpackEncoder)
            | None => {}
        }
    }
}

/// Input from QUIC.
impl Connection {
    /// Takes a stream of the peer into its established session.
    pub(crate) fn admit(&mut self, id: StreamId, halves: Halves, mut stream: WtStream) {
        let session = stream.session;
        let dir = dir_of(id);
        let Some(entry) = self.sessions.get_mut(session) else {
            return;
        };
        let flow = entry.flow.as_mut();
        if let Some(Err(error)) = flow.map(|flow| flow.streams.get_mut(dir).take(1)) {
            self.refuse(id, halves, error.code());
            return self.fail_session(session, &error);
        }
        entry.streams.insert(id);
        stream.has_flow = entry.flow.is_some();
        stream.metered = entry.is_metered();
        self.streams.insert(id, halves, Kind::Session(stream));
        self.stats.streams_accepted += 1;
        self.events.push_back(Event::StreamOpened {
            session,
            stream: id,
            dir,
        });
    }

    /// Counts payload of a WebTransport stream.
    pub(crate) fn count(&mut self, id: StreamId, len: u64, fin: bool) -> Counted {
        let Some((halves, stream)) = self.session_stream(id) else {
            return Counted::NotOfSession;
        };
        if !halves.recv {
            return Counted::Drop;
        }
        halves.recv = !fin;
        stream.received = stream.received.saturating_add(len);
        let (session, metered, stopped) = (stream.session, stream.metered, stream.stopped);
        self.stats.bytes_received = self.stats.bytes_received.saturating_add(len);
        if metered && !self.charge_data(session, len) {
            return Counted::Drop;
        }
        if stopped {
            self.consume_rest(id);
        }
        if fin {
            self.settle(id);
        }
        match stopped {
            true => Counted::Drop,
            false => Counted::Deliver,
        }
    }

    /// Payload for the application.
    pub(crate) fn deliver(&mut self, stream: StreamId, data: Bytes, fin: bool) {
        if !data.is_empty() || fin {
            self.events
                .push_back(Event::StreamData { stream, data, fin });
        }
    }

    /// The peer reset a stream of a session.
    pub(crate) fn session_stream_reset(&mut self, id: StreamId, code: u64, final_size: u64) {
        let Some((halves, stream)) = self.session_stream(id) else {
            return;
        };
        if !std::mem::take(&mut halves.recv) {
            return;
        }
        // Payload that never arrived counts for the session (webtrans-http3-16 §5.4).
        let missing = stream.missing(final_size);
        stream.received = stream.received.saturating_add(missing);
        let (session, metered) = (stream.session, stream.metered);
        if !stream.stopped {
            self.events.push_back(Event::StreamReset {
                stream: id,
                code: http_to_app_error(code),
                raw: code,
            });
        }
        if metered && !self.charge_data(session, missing) {
            return;
        }
        self.consume_rest(id);
        self.settle(id);
    }

    /// The peer stopped a stream of a session.
    pub(crate) fn session_stream_stopped(&mut self, id: StreamId, code: u64) {
        let Some((halves, _)) = self.session_stream(id) else {
            return;
        };
        if std::mem::take(&mut halves.send) {
            // In answer to STOP_SENDING nothing need arrive (reliable-stream-reset-10 §6).
            self.reset_plainly(id, code);
            self.events.push_back(Event::StreamStopped {
                stream: id,
                code: http_to_app_error(code),
                raw: code,
            });
            self.settle(id);
        }
    }

    /// Refuses a stream of the peer: what is open of it is reset and stopped, and it is forgotten.
    /// `halves`: of a stream that has no entry yet.
    pub(crate) fn refuse(&mut self, id: StreamId, halves: Halves, code: u64) {
        let halves = self.streams.remove(id).map_or(halves, |entry| Halves {
            recv: entry.halves.recv && halves.recv,
            ..entry.halves
        });
        self.count_refusal();
        self.abandon(id, halves, code, 0);
    }

    /// Resets and stops what is open of a stream without an entry.
    pub(crate) fn abandon(&mut self, id: StreamId, halves: Halves, code: u64, reliable_size: u64) {
        if halves.send {
            self.actions.push_back(Action::ResetStream {
                id,
                code,
                reliable_size,
            });
        }
        if halves.recv {
            self.actions.push_back(Action::StopSending { id, code });
        }
    }

    /// Resets a stream on which we sent no header.
    pub(crate) fn reset_plainly(&mut self, id: StreamId, code: u64) {
        self.actions.push_back(Action::ResetStream {
            id,
            code,
            reliable_size: 0,
        });
    }

    pub(crate) fn is_local(&self, id: StreamId) -> bool {
        let server_bit = id & 1 == 1;
        server_bit == (self.config.role == Role::Server)
    }

    /// Drops the entry of a stream about which nothing can happen any more.
    pub(crate) fn settle(&mut self, id: StreamId) {
        let Some(entry) = self.streams.remove_if_over(id) else {
            return;
        };
        match entry.kind {
            Kind::Session(stream) => self.leave_session(id, &stream),
            Kind::Request(_) => self.request_left(),
            _ => {}
        }
    }

    fn leave_session(&mut self, id: StreamId, stream: &WtStream) {
        let session = stream.session;
        let Some(entry) = self.sessions.get_mut(session) else {
            return;
        };
        entry.streams.remove(&id);
        let Some(flow) = entry.flow.as_mut() else {
            return;
        };
        let mut due = !stream.metered && flow.data.pass(stream.received);
        if !stream.local {
            due |= flow.streams.get_mut(dir_of(id)).free(1);
        }
        if due {
            self.sessions.mark_dirty(session);
        }
    }

    pub(crate) fn session_stream(&mut self, id: StreamId) -> Option<(&mut Halves, &mut WtStream)> {
        match self.streams.get_mut(id)? {
            Entry {
                halves,
                kind: Kind::Session(stream),
            } => Some((halves, stream)),
            _ => None,
        }
    }

    /// Spends the peer's credit; false when that ended the session.
    pub(crate) fn charge_data(&mut self, session: SessionId, len: u64) -> bool {
        let flow = self.sessions.flow_mut(session);
        match flow.map_or(Ok(()), |flow| flow.data.take(len)) {
            Ok(()) => true,
            Err(error) => {
                self.fail_session(session, &error);
                false
            }
        }
    }

    /// Counts everything received as consumed.
    fn consume_rest(&mut self, id: StreamId) {
        let Some((_, stream)) = self.session_stream(id) else {
            return;
        };
        let rest = stream.received - stream.consumed;
        stream.consumed = stream.received;
        let (session, metered) = (stream.session, stream.metered);
        if metered && rest > 0 {
            self.free_data(session, rest);
        }
    }

    pub(crate) fn free_data(&mut self, session: SessionId, len: u64) {
        let flow = self.sessions.flow_mut(session);
        if flow.is_some_and(|flow| flow.data.free(len)) {
            self.sessions.mark_dirty(session);
        }
    }
}
