//! The table of streams, and WebTransport streams in it: opening, counting payload, ending.

use bytes::Bytes;
use pywt_wire::codes::{app_error_to_http, http_to_app_error};
use pywt_wire::stream_header::{self, MAX_LEN};

use crate::classify::Head;
use crate::config::{Role, Transport};
use crate::connection::{Connection, StreamKind};
use crate::early::Held;
use crate::error::{Error, OpenError};
use crate::event::{Action, Event};
use crate::request::RequestStream;
use crate::{Dir, SessionId, StreamId, Time};

/// What is known about one QUIC stream.
#[derive(Debug)]
pub(crate) enum Entry {
    /// The peer's control stream.
    Control,
    /// Nothing that comes in matters; kept so that it is not taken for a new stream.
    Discard,
    /// Its first bytes have not all arrived.
    Head(Head),
    /// A WebTransport stream whose session is not established.
    Held(Box<Held>),
    /// Our control stream.
    Local,
    QpackDecoder,
    QpackEncoder,
    /// A stream of HTTP/3 frames.
    Request(Box<RequestStream>),
    /// A WebTransport stream of an established session.
    Session(WtStream),
}

/// One WebTransport stream. `consumed <= received`.
#[derive(Debug)]
pub(crate) struct WtStream {
    pub(crate) session: SessionId,
    pub(crate) received: u64,
    pub(crate) consumed: u64,
    /// Bytes of the stream's header, which its opener sends; they do not count for the session
    /// (webtrans-http3-16 §5.4).
    pub(crate) header_len: u8,
    /// Payload granted for sending and not given back.
    pub(crate) sent: u64,
    pub(crate) dir: Dir,
    /// Opened by this end.
    pub(crate) local: bool,
    /// The session has flow control.
    pub(crate) flow: bool,
    pub(crate) recv_open: bool,
    pub(crate) send_open: bool,
    /// The application wants no more; what arrives counts as consumed.
    pub(crate) stopped: bool,
}

impl WtStream {
    pub(crate) fn from_peer(session: SessionId, dir: Dir, header_len: usize) -> Self {
        Self {
            session,
            received: 0,
            consumed: 0,
            header_len: header_len as u8,
            sent: 0,
            dir,
            local: false,
            flow: false,
            recv_open: true,
            send_open: dir == Dir::Bidi,
            stopped: false,
        }
    }

    fn from_local(session: SessionId, dir: Dir, header_len: usize, flow: bool) -> Self {
        Self {
            local: true,
            flow,
            recv_open: dir == Dir::Bidi,
            send_open: true,
            ..Self::from_peer(session, dir, header_len)
        }
    }

    /// Bytes of the receiving half that are header.
    fn peer_header(&self) -> u64 {
        match self.local {
            true => 0,
            false => u64::from(self.header_len),
        }
    }
}

/// How much of a stream its reset must leave: the header, without which the peer cannot tell
/// whose stream it was (webtrans-http3-16 §4.4), and, if there is one, a byte more: quic-go 0.62
/// loses a stream whose reliable size is exactly its header. Where an end does not know
/// RESET_STREAM_AT, a plain reset is all there is.
pub(crate) fn reliable_size(transport: &Transport, stream: &WtStream) -> u64 {
    if !stream.local || !transport.resets_at() {
        return 0;
    }
    u64::from(stream.header_len) + stream.sent.min(1)
}

/// What became of counted payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Deliver,
    Drop,
    NotOfSession,
}

/// The direction that a stream id has.
pub(crate) fn dir_of(id: StreamId) -> Dir {
    if id & 2 == 0 {
        Dir::Bidi
    } else {
        Dir::Uni
    }
}

/// Application verbs.
impl Connection {
    /// What this crate knows about a stream.
    pub fn stream_kind(&self, id: StreamId) -> StreamKind {
        match self.streams.get(&id) {
            None => StreamKind::Unknown,
            Some(Entry::Head(_)) => StreamKind::Pending,
            Some(Entry::Held(_)) => StreamKind::Held,
            Some(Entry::Session(stream)) => StreamKind::Session(stream.session),
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
        self.mark_dirty(session);
        Err(OpenError::Blocked { session, dir })
    }

    /// Registers a stream that the driver opened in QUIC; returns the header to write first.
    pub fn open_stream(
        &mut self,
        session: SessionId,
        id: StreamId,
        dir: Dir,
    ) -> Result<Bytes, OpenError> {
        if !self.is_local(id) || dir_of(id) != dir || self.streams.contains_key(&id) {
            return Err(Error::StreamId(id).into());
        }
        let entry = self.open_session_mut(session)?;
        let has_flow = entry.flow.is_some();
        let granted = entry
            .flow
            .as_mut()
            .is_none_or(|flow| flow.send_streams.get_mut(dir).take(1) == 1);
        if !granted {
            self.mark_dirty(session);
            return Err(OpenError::Blocked { session, dir });
        }
        entry.streams += 1;
        self.stats.streams_opened += 1;
        let mut header = Vec::with_capacity(MAX_LEN);
        stream_header::encode(dir, session, &mut header);
        let stream = WtStream::from_local(session, dir, header.len(), has_flow);
        self.streams.insert(id, Entry::Session(stream));
        Ok(header.into())
    }

    /// Takes session credit for up to `want` bytes of payload and returns how much was granted:
    /// all of it without session flow control, 0 when the sending side has ended. After less than
    /// `want`, `Event::SessionWritable` follows.
    pub fn reserve_send(&mut self, id: StreamId, want: u64) -> u64 {
        let Some(Entry::Session(stream)) = self.streams.get_mut(&id) else {
            return 0;
        };
        if !stream.send_open {
            return 0;
        }
        let mut granted = want;
        let session = stream.session;
        if stream.flow {
            let flow = self
                .sessions
                .get_mut(&session)
                .and_then(|session| session.flow.as_mut());
            if let Some(flow) = flow {
                granted = flow.send_data.take(want);
            }
        }
        stream.sent = stream.sent.saturating_add(granted);
        if granted < want {
            self.mark_dirty(session);
        }
        self.stats.bytes_sent = self.stats.bytes_sent.saturating_add(granted);
        granted
    }

    /// Gives back what `reserve_send` granted and QUIC never took. Call it before the sending side
    /// ends, or the session loses the credit.
    pub fn release_send(&mut self, id: StreamId, unused: u64) {
        let Some(Entry::Session(stream)) = self.streams.get_mut(&id) else {
            return;
        };
        stream.sent = stream.sent.saturating_sub(unused);
        self.stats.bytes_sent = self.stats.bytes_sent.saturating_sub(unused);
        if !stream.flow {
            return;
        }
        let session = stream.session;
        let flow = self
            .sessions
            .get_mut(&session)
            .and_then(|session| session.flow.as_mut());
        if flow.is_some_and(|flow| flow.send_data.give_back(unused)) {
            self.events.push_back(Event::SessionWritable { session });
        }
    }

    /// The application read `len` bytes of payload: the session's credit goes back to the peer.
    pub fn stream_consumed(&mut self, id: StreamId, len: u64, now: Time) {
        self.tick(now);
        let Some(Entry::Session(stream)) = self.streams.get_mut(&id) else {
            return;
        };
        if !stream.flow {
            return;
        }
        let len = len.min(stream.received - stream.consumed);
        stream.consumed += len;
        let session = stream.session;
        let ended = !stream.recv_open && !stream.send_open;
        self.free_data(session, len);
        if ended {
            self.settle(id);
        }
    }

    /// The application's FIN was handed to QUIC.
    pub fn stream_finished(&mut self, id: StreamId) {
        if let Some(Entry::Session(stream)) = self.streams.get_mut(&id) {
            stream.send_open = false;
            self.settle(id);
        }
    }

    /// The application gives up sending.
    pub fn reset_stream(&mut self, id: StreamId, app_code: u32) {
        let Some(Entry::Session(stream)) = self.streams.get_mut(&id) else {
            return;
        };
        if std::mem::take(&mut stream.send_open) {
            let reliable_size = reliable_size(&self.transport, stream);
            self.actions.push_back(Action::ResetStream {
                id,
                code: app_error_to_http(app_code),
                reliable_size,
            });
            self.settle(id);
        }
    }

    /// The application wants no more payload. What still arrives counts as consumed.
    pub fn stop_stream(&mut self, id: StreamId, app_code: u32) {
        let Some(Entry::Session(stream)) = self.streams.get_mut(&id) else {
            return;
        };
        if std::mem::replace(&mut stream.stopped, true) {
            return;
        }
        if stream.recv_open {
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
        match self.streams.get(&id) {
            Some(Entry::Session(stream)) if stream.stopped => {
                self.session_stream_reset(id, 0, final_size);
            }
            Some(Entry::Discard) => {
                self.streams.remove(&id);
            }
            _ => {}
        }
    }

    /// QUIC reports nothing more about this stream: its entry goes, whatever state it is in.
    pub fn stream_gone(&mut self, id: StreamId) {
        match self.streams.get_mut(&id) {
            Some(Entry::Session(stream)) => {
                stream.recv_open = false;
                stream.send_open = false;
                self.consume_rest(id);
                self.settle(id);
            }
            Some(Entry::Held(_)) => {
                self.take_held(id);
            }
            Some(Entry::Discard | Entry::Head(_)) => {
                self.streams.remove(&id);
            }
            Some(
                Entry::Control
                | Entry::Local
                | Entry::QpackDecoder
                | Entry::QpackEncoder
                | Entry::Request(_),
            )
            | None => {}
        }
    }
}

/// Input from QUIC.
impl Connection {
    /// Takes a stream of the peer into its established session.
    pub(crate) fn admit(&mut self, id: StreamId, mut stream: WtStream) {
        let session = stream.session;
        let dir = stream.dir;
        let Some(entry) = self.sessions.get_mut(&session) else {
            return;
        };
        stream.flow = entry.flow.is_some();
        entry.streams += 1;
        let counted = entry
            .flow
            .as_mut()
            .map_or(Ok(()), |flow| flow.streams.get_mut(dir).take(1));
        self.streams.insert(id, Entry::Session(stream));
        if let Err(error) = counted {
            return self.fail_session(session, &error);
        }
        self.stats.streams_accepted += 1;
        self.events.push_back(Event::StreamOpened {
            session,
            stream: id,
            dir,
        });
    }

    /// Counts payload of a WebTransport stream.
    pub(crate) fn count(&mut self, id: StreamId, len: u64, fin: bool) -> Counted {
        let Some(Entry::Session(stream)) = self.streams.get_mut(&id) else {
            return Counted::NotOfSession;
        };
        if !stream.recv_open {
            return Counted::Drop;
        }
        stream.received = stream.received.saturating_add(len);
        stream.recv_open = !fin;
        self.stats.bytes_received = self.stats.bytes_received.saturating_add(len);
        let counted = if stream.stopped {
            Counted::Drop
        } else {
            Counted::Deliver
        };
        if stream.flow {
            let session = stream.session;
            let flow = self
                .sessions
                .get_mut(&session)
                .and_then(|session| session.flow.as_mut());
            if let Some(Err(error)) = flow.map(|flow| flow.data.take(len)) {
                self.fail_session(session, &error);
                return Counted::Drop;
            }
            if counted == Counted::Drop {
                self.consume_rest(id);
            }
        }
        if fin {
            self.settle(id);
        }
        counted
    }

    /// The peer reset a stream of a session.
    pub(crate) fn session_stream_reset(&mut self, id: StreamId, code: u64, final_size: u64) {
        let Some(Entry::Session(stream)) = self.streams.get(&id) else {
            return;
        };
        if !stream.recv_open {
            return;
        }
        // Payload that never arrived still counts for the session (webtrans-http3-16 §5.4).
        let body = final_size.saturating_sub(stream.peer_header());
        let missing = body.saturating_sub(stream.received);
        if missing > 0 {
            self.count(id, missing, false);
        }
        // Counting may have ended the session, and with it the stream.
        let Some(Entry::Session(stream)) = self.streams.get_mut(&id) else {
            return;
        };
        stream.recv_open = false;
        if !stream.stopped {
            let app_code = http_to_app_error(code);
            self.events.push_back(Event::StreamReset {
                stream: id,
                code: app_code,
                raw: code,
            });
        }
        self.consume_rest(id);
        self.settle(id);
    }

    /// The peer stopped a stream of a session.
    pub(crate) fn session_stream_stopped(&mut self, id: StreamId, code: u64) {
        let Some(Entry::Session(stream)) = self.streams.get_mut(&id) else {
            return;
        };
        if std::mem::take(&mut stream.send_open) {
            // In answer to STOP_SENDING nothing need arrive (reliable-stream-reset-10 §6).
            self.reset_plainly(id, code);
            let app_code = http_to_app_error(code);
            self.events.push_back(Event::StreamStopped {
                stream: id,
                code: app_code,
                raw: code,
            });
            self.settle(id);
        }
    }

    /// Refuses a stream of the peer and forgets what it carries.
    pub(crate) fn discard(&mut self, id: StreamId, code: u64, recv_open: bool, send_open: bool) {
        if send_open {
            self.reset_plainly(id, code);
        }
        if recv_open {
            self.actions.push_back(Action::StopSending { id, code });
            self.streams.insert(id, Entry::Discard);
        } else {
            self.streams.remove(&id);
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

    /// Counts everything received as consumed.
    fn consume_rest(&mut self, id: StreamId) {
        let Some(Entry::Session(stream)) = self.streams.get_mut(&id) else {
            return;
        };
        let rest = stream.received - stream.consumed;
        stream.consumed = stream.received;
        if stream.flow && rest > 0 {
            let session = stream.session;
            self.free_data(session, rest);
        }
    }

    fn free_data(&mut self, session: SessionId, len: u64) {
        let flow = self
            .sessions
            .get_mut(&session)
            .and_then(|session| session.flow.as_mut());
        if flow.is_some_and(|flow| flow.data.free(len)) {
            self.mark_dirty(session);
        }
    }

    /// Drops the entry of a stream about which nothing can happen any more.
    fn settle(&mut self, id: StreamId) {
        let Some(Entry::Session(stream)) = self.streams.get(&id) else {
            return;
        };
        let unread = stream.flow && stream.consumed < stream.received;
        if stream.recv_open || stream.send_open || unread {
            return;
        }
        let (session, dir, local) = (stream.session, stream.dir, stream.local);
        self.streams.remove(&id);
        let Some(entry) = self.sessions.get_mut(&session) else {
            return;
        };
        entry.streams -= 1;
        let flow = entry.flow.as_mut();
        if !local && flow.is_some_and(|flow| flow.streams.get_mut(dir).free(1)) {
            self.mark_dirty(session);
        }
    }
}
