//! What a call on a connection can be refused for.

use pywt_core::{SessionId, StreamId};

/// A call the state of the connection, session or stream does not allow.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The QUIC connection is gone or closing.
    #[error("connection is closed")]
    Closed,
    /// A datagram larger than fits now.
    #[error("datagram of {size} bytes exceeds the limit of {limit} bytes")]
    DatagramTooLarge {
        /// Its payload size.
        size: usize,
        /// The largest payload that fits now.
        limit: usize,
    },
    /// The peer takes no datagrams.
    #[error("peer does not accept datagrams")]
    DatagramsUnsupported,
    /// A defect on this side ended the connection.
    #[error("internal error; the connection was closed, please report this")]
    Internal,
    /// The protocol refuses.
    #[error(transparent)]
    Protocol(#[from] pywt_core::Error),
    /// The session is unknown, not established, or ended.
    #[error("session {0} is unknown, not established, or has ended")]
    Session(SessionId),
    /// The sending side of the stream has ended.
    #[error("sending side of stream {0} has ended")]
    StreamFinished(StreamId),
    /// The peer allows no further request stream now.
    #[error("peer allows no further request stream now")]
    StreamsExhausted,
}
