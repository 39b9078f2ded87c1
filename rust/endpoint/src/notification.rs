//! What the application is told. One connection's notifications come in order.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use pywt_core::{ClosedBy, Dialect, Dir, SessionId, StreamId};
use pywt_quic::Close;

use crate::ConnectionStats;

/// The last facts of a connection, for when its state is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epilogue {
    /// Where the peer was.
    pub remote: SocketAddr,
    /// Where packets to it came from, if that is known.
    pub local_ip: Option<IpAddr>,
    /// Counters.
    pub stats: ConnectionStats,
}

/// Something the application should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notification {
    /// The QUIC connection is gone; sessions and streams were told before. The last one. No
    /// facts when a defect of ours ended it.
    Closed(Close, Option<Box<Epilogue>>),
    /// The handshake is complete. The first one.
    Connected,
    /// `receive_datagram` will return something.
    DatagramsReadable(SessionId),
    /// `offer_datagrams` that found no room will find some.
    DatagramsWritable(SessionId),
    /// Server: a request is over, because of the client, or of a close.
    RequestAborted {
        /// Its stream.
        stream: StreamId,
        /// An HTTP/3 code.
        code: u64,
    },
    /// Server: an ordinary request, which the application answers.
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
        /// Request fields without pseudo-header fields.
        headers: Vec<(Bytes, Bytes)>,
        /// The client may wait for status 100 before it sends the body.
        expects_continue: bool,
    },
    /// The trailers of a request; the end of its body can be read afterwards.
    RequestTrailers {
        /// Its stream.
        stream: StreamId,
        /// In wire order.
        fields: Vec<(Bytes, Bytes)>,
    },
    /// The session ended; its streams were told before, but for those that had come whole. They,
    /// and datagrams, can be read until [`crate::Connection::forget_ended`] is called.
    SessionClosed {
        /// Which.
        session: SessionId,
        /// Application code.
        code: u32,
        /// Text of whoever ended it.
        reason: String,
        /// Who ended it.
        by: ClosedBy,
        /// Wire code when it did not end by CLOSE or FIN.
        error: Option<u64>,
    },
    /// Finish what runs: the peer drains the session or goes away.
    SessionDraining(SessionId),
    /// Client: the server accepted.
    SessionEstablished {
        /// Which.
        session: SessionId,
        /// Application protocol the server chose.
        protocol: Option<String>,
        /// Response fields.
        headers: Vec<(String, String)>,
    },
    /// Client: the session was not established.
    SessionRejected {
        /// Which.
        session: SessionId,
        /// HTTP status; 0 without a valid answer.
        status: u16,
        /// Response fields.
        headers: Vec<(String, String)>,
        /// Why there was no answer; empty when the server has not said so.
        reason: String,
    },
    /// Server: a client asks for a session.
    SessionRequested {
        /// Which.
        session: SessionId,
        /// Host and port the client named.
        authority: String,
        /// Path and query.
        path: String,
        /// Every request field.
        headers: Vec<(String, String)>,
        /// Application protocols offered, most wanted first.
        protocols: Vec<String>,
        /// Dialect spoken.
        dialect: Dialect,
    },
    /// The peer opened a stream; reading it finds its first bytes or says that none are there.
    StreamOpened {
        /// Its session.
        session: SessionId,
        /// Which.
        stream: StreamId,
    },
    /// A read that found nothing will find data, the end, or a reset.
    StreamReadable(StreamId),
    /// The peer reset its sending side.
    StreamReset {
        /// Which.
        stream: StreamId,
        /// Application code; `None` when the wire code carries none.
        code: Option<u32>,
        /// Code as on the wire.
        raw: u64,
    },
    /// The peer stopped our sending side.
    StreamStopped {
        /// Which.
        stream: StreamId,
        /// Application code; `None` when the wire code carries none.
        code: Option<u32>,
        /// Code as on the wire.
        raw: u64,
    },
    /// A write that fell short will be accepted.
    StreamWritable(StreamId),
    /// Opening a stream that failed may succeed.
    StreamsAvailable {
        /// Which session.
        session: SessionId,
        /// Which kind.
        dir: Dir,
    },
}
