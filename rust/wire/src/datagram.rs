//! HTTP datagrams inside QUIC DATAGRAM frames (RFC 9297 §2.1): quarter stream id, payload.

use thiserror::Error;

use crate::codes::error;
use crate::varint;

/// The largest quarter stream id.
pub const MAX_QUARTER_ID: u64 = (1 << 60) - 1;

/// Why a QUIC datagram was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// The id names no stream that can exist.
    #[error("quarter stream id {0} is larger than 2^60-1")]
    QuarterId(u64),
    /// The datagram ends before or inside its quarter stream id.
    #[error("the datagram is too short for a quarter stream id")]
    Truncated,
}

impl DatagramError {
    /// The connection error that this is.
    pub const fn code(&self) -> u64 {
        match self {
            Self::QuarterId(_) | Self::Truncated => error::H3_DATAGRAM_ERROR,
        }
    }
}

/// The quarter stream id (the session id divided by four) and where the payload starts.
#[inline]
pub fn decode(datagram: &[u8]) -> Result<(u64, usize), DatagramError> {
    match varint::decode(datagram) {
        None => Err(DatagramError::Truncated),
        Some((id, _)) if id > MAX_QUARTER_ID => Err(DatagramError::QuarterId(id)),
        Some(decoded) => Ok(decoded),
    }
}

/// Append what stands before the payload of a datagram of session `session_id`.
#[inline]
pub fn encode_prefix(session_id: u64, out: &mut Vec<u8>) {
    varint::encode(session_id / 4, out);
}

/// Length of that prefix.
pub const fn prefix_len(session_id: u64) -> usize {
    varint::len(session_id / 4)
}
