//! The first bytes of a stream, which say what it is (RFC 9114 §6.2, webtrans-http3-16 §4.2, §4.3).

use thiserror::Error;

use crate::codes::{error, frame, stream};
use crate::varint;

/// The longest header: two varints.
pub const MAX_LEN: usize = 2 * varint::MAX_LEN;

/// Bidirectional or unidirectional.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dir {
    /// Both sides send.
    Bidi,
    /// Only the opener sends.
    Uni,
}

/// What a unidirectional stream says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UniType {
    /// The HTTP/3 control stream.
    Control,
    /// A push stream; its push id has not been read.
    Push,
    /// The QPACK encoder stream.
    QpackEncoder,
    /// The QPACK decoder stream.
    QpackDecoder,
    /// A WebTransport stream.
    WebTransport {
        /// The session it belongs to.
        session: u64,
    },
    /// Something else, GREASE included.
    Unknown(u64),
}

/// What a bidirectional stream says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BidiType {
    /// A stream of HTTP/3 frames. Nothing has been consumed: the bytes are the first frame.
    Request,
    /// A WebTransport stream.
    WebTransport {
        /// The session it belongs to.
        session: u64,
    },
}

/// Why a stream header was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamHeaderError {
    /// The session id is not the id of a client-initiated bidirectional stream.
    #[error("session id {0} is not a client-initiated bidirectional stream")]
    SessionId(u64),
}

impl StreamHeaderError {
    /// The connection error that this is.
    pub const fn code(&self) -> u64 {
        match self {
            Self::SessionId(_) => error::H3_ID_ERROR,
        }
    }
}

/// Whether `id` can be a session id: that of a client-initiated bidirectional stream.
#[inline]
pub const fn is_session_id(id: u64) -> bool {
    id & 0b11 == 0 && id <= varint::MAX
}

/// The type of a unidirectional stream and the length of its header; `None` when `buf` is too
/// short yet. Feed the stream from its first byte.
#[inline]
pub fn decode_uni(buf: &[u8]) -> Result<Option<(UniType, usize)>, StreamHeaderError> {
    let Some((ty, len)) = varint::decode(buf) else {
        return Ok(None);
    };
    let ty = match ty {
        stream::CONTROL => UniType::Control,
        stream::PUSH => UniType::Push,
        stream::QPACK_ENCODER => UniType::QpackEncoder,
        stream::QPACK_DECODER => UniType::QpackDecoder,
        stream::WT_STREAM => {
            return Ok(decode_session(buf, len)?
                .map(|(session, len)| (UniType::WebTransport { session }, len)));
        }
        other => UniType::Unknown(other),
    };
    Ok(Some((ty, len)))
}

/// The type of a bidirectional stream and the length of its header; `None` when `buf` is too
/// short yet. Feed the stream from its first byte: 0x41 anywhere else is H3_FRAME_ERROR.
#[inline]
pub fn decode_bidi(buf: &[u8]) -> Result<Option<(BidiType, usize)>, StreamHeaderError> {
    match varint::decode(buf) {
        None => Ok(None),
        Some((frame::WT_STREAM, len)) => Ok(decode_session(buf, len)?
            .map(|(session, len)| (BidiType::WebTransport { session }, len))),
        Some(_) => Ok(Some((BidiType::Request, 0))),
    }
}

/// Append the header of a WebTransport stream of session `session_id`.
#[inline]
pub fn encode(dir: Dir, session_id: u64, out: &mut Vec<u8>) {
    let ty = match dir {
        Dir::Bidi => frame::WT_STREAM,
        Dir::Uni => stream::WT_STREAM,
    };
    varint::encode(ty, out);
    varint::encode(session_id, out);
}

#[inline]
fn decode_session(buf: &[u8], start: usize) -> Result<Option<(u64, usize)>, StreamHeaderError> {
    match varint::decode(buf.get(start..).unwrap_or_default()) {
        None => Ok(None),
        Some((id, len)) if is_session_id(id) => Ok(Some((id, start + len))),
        Some((id, _)) => Err(StreamHeaderError::SessionId(id)),
    }
}
