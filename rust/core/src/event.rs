//! What a connection tells its driver: actions for QUIC, events for the application, counters.

use bytes::Bytes;

use crate::dialect::Dialect;
use crate::{Dir, SessionId, StreamId};

/// Something the driver must do with the QUIC connection, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// CONNECTION_CLOSE with an application code. The last action; later input is ignored.
    CloseConnection {
        /// HTTP/3 or WebTransport error code.
        code: u64,
        /// Why, for the peer's log.
        reason: String,
    },
    /// RESET_STREAM, or RESET_STREAM_AT. A no-op when QUIC no longer knows the sending side.
    ResetStream {
        /// Whose sending side.
        id: StreamId,
        /// The code as it goes on the wire.
        code: u64,
        /// Bytes from the stream's start that must still reach the peer. 0: RESET_STREAM; else
        /// RESET_STREAM_AT (only where both ends announced it), unless the driver has not yet
        /// handed that many bytes to QUIC: then the peer has seen no header to keep.
        reliable_size: u64,
    },
    /// Write `data` on a stream this crate owns (control, CONNECT), all of it, in order.
    SendStream {
        /// Where.
        id: StreamId,
        /// What.
        data: Bytes,
        /// Whether it is the last.
        fin: bool,
    },
    /// STOP_SENDING. A no-op when QUIC no longer knows the receiving side. The driver says when
    /// that side has ended: by FIN, reset or
    /// [`stopped_stream_gone`](crate::Connection::stopped_stream_gone).
    StopSending {
        /// Whose receiving side.
        id: StreamId,
        /// The code as it goes on the wire.
        code: u64,
    },
}

/// Who ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedBy {
    /// This end: `close_session`, or a rule of the protocol that the peer broke.
    Local,
    /// The peer: CLOSE capsule, FIN, or reset of the CONNECT stream.
    Remote,
    /// The QUIC connection ended first.
    Transport,
}

/// Something that happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An HTTP Datagram of an established session.
    DatagramReceived {
        /// Its session.
        session: SessionId,
        /// Payload without the quarter id.
        data: Bytes,
    },
    /// GOAWAY. The sessions it concerns get `SessionDraining` or `SessionRejected` as well.
    GoawayReceived {
        /// The first request the server will not answer; a push id from a client.
        id: u64,
    },
    /// Server: the client gave a request up, or broke a rule; or `close_all` ended it. Nothing more
    /// comes of it.
    RequestAborted {
        /// Which.
        stream: StreamId,
        /// Code as on the wire.
        code: u64,
    },
    /// Server: an ordinary request that the application answers, see
    /// [`Config::serves_requests`](crate::Config). Its body comes as `StreamData`.
    RequestReceived {
        /// Its stream.
        stream: StreamId,
        /// `GET`, `POST`, ...
        method: String,
        /// `https`.
        scheme: String,
        /// Host and port the client named.
        authority: String,
        /// Path and query.
        path: String,
        /// Every field but pseudo-header fields, in wire order, cookies in one.
        headers: Vec<(Bytes, Bytes)>,
        /// The client may wait for status 100 before it sends the body (RFC 9110 §10.1.1).
        expects_continue: bool,
    },
    /// The trailers of a request, before the end of its body.
    RequestTrailers {
        /// Which.
        stream: StreamId,
        /// In wire order.
        fields: Vec<(Bytes, Bytes)>,
    },
    /// The session ended; exactly once per session that was requested here or established.
    /// Each of its streams has had `StreamReset` and `StreamStopped` for the halves still open.
    SessionClosed {
        /// Which.
        session: SessionId,
        /// Application code of the CLOSE capsule, or mapped back from CONNECTION_CLOSE; else 0.
        code: u32,
        /// Text of the CLOSE capsule, of CONNECTION_CLOSE, or of the rule broken; else empty.
        reason: String,
        /// Who ended it.
        by: ClosedBy,
        /// Wire code when it did not end by CLOSE or FIN.
        error: Option<u64>,
    },
    /// The peer sent DRAIN or GOAWAY: open no new work, finish what runs. Once per session.
    SessionDraining {
        /// Which.
        session: SessionId,
    },
    /// Client: the server accepted.
    SessionEstablished {
        /// Which.
        session: SessionId,
        /// Application protocol the server chose.
        protocol: Option<String>,
        /// Response fields, `:status` first.
        headers: Vec<(String, String)>,
        /// Dialect spoken.
        dialect: Dialect,
    },
    /// Client: the session was not established. Ends it; no `SessionClosed` follows.
    SessionRejected {
        /// Which.
        session: SessionId,
        /// HTTP status; 0 when there was no valid answer.
        status: u16,
        /// Response fields.
        headers: Vec<(String, String)>,
        /// Wire code when there was no valid answer.
        error: Option<u64>,
        /// Why, when there was no valid answer.
        reason: String,
    },
    /// Server: a client asks for a session. Answer with `accept` or `reject`.
    SessionRequested {
        /// Which.
        session: SessionId,
        /// Host and port the client named.
        authority: String,
        /// Path and query.
        path: String,
        /// The `origin` field.
        origin: Option<String>,
        /// Every field in wire order, pseudo-header fields included.
        headers: Vec<(String, String)>,
        /// Application protocols offered, most wanted first.
        protocols: Vec<String>,
        /// Dialect spoken.
        dialect: Dialect,
    },
    /// The peer granted data after `reserve_send` fell short.
    SessionWritable {
        /// Which.
        session: SessionId,
    },
    /// The peer's SETTINGS arrived.
    SettingsReceived {
        /// The highest dialect both ends know; `None`: the peer does not offer WebTransport.
        dialect: Option<Dialect>,
    },
    /// Payload of a WebTransport stream (push mode, and the first chunk in pull mode), or of the body
    /// of a request.
    StreamData {
        /// Which.
        stream: StreamId,
        /// A slice of what `handle_stream_data` was given; may be empty with `fin`.
        data: Bytes,
        /// Whether it is the last.
        fin: bool,
    },
    /// The peer opened a stream in an established session.
    StreamOpened {
        /// Its session.
        session: SessionId,
        /// Which.
        stream: StreamId,
        /// Its kind.
        dir: Dir,
    },
    /// The peer's sending side ended by reset, or with its session (`raw` is WT_SESSION_GONE then);
    /// unread payload is void.
    StreamReset {
        /// Which.
        stream: StreamId,
        /// Application code; `None`: the wire code is outside the WebTransport range.
        code: Option<u32>,
        /// Code as on the wire.
        raw: u64,
    },
    /// The peer stopped our sending side; the answering reset is among the actions.
    StreamStopped {
        /// Which.
        stream: StreamId,
        /// Application code; `None`: the wire code is outside the WebTransport range.
        code: Option<u32>,
        /// Code as on the wire.
        raw: u64,
    },
    /// The peer granted streams after `check_open` or `open_stream` said `Blocked`.
    StreamsAvailable {
        /// Which.
        session: SessionId,
        /// The kind.
        dir: Dir,
    },
}

/// Counters and sizes of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions asked for or established now.
    pub sessions: usize,
    /// Requests ever shown to the application.
    pub requests: u64,
    /// Stream entries kept now, of every kind.
    pub streams: usize,
    /// Streams waiting for their session now.
    pub early_streams: usize,
    /// Payload bytes of those.
    pub early_stream_bytes: u64,
    /// Datagrams waiting for their session now.
    pub early_datagrams: usize,
    /// Sessions ever established.
    pub sessions_established: u64,
    /// WebTransport streams ever opened by this end.
    pub streams_opened: u64,
    /// WebTransport streams ever accepted from the peer.
    pub streams_accepted: u64,
    /// Early streams rejected by a limit.
    pub streams_rejected: u64,
    /// Datagrams delivered.
    pub datagrams_received: u64,
    /// Datagrams dropped: unknown or ended session, or a limit.
    pub datagrams_dropped: u64,
    /// Payload bytes of WebTransport streams received.
    pub bytes_received: u64,
    /// Payload bytes of WebTransport streams granted for sending.
    pub bytes_sent: u64,
    /// Frames and capsules of unknown type skipped.
    pub unknown_skipped: u64,
}
