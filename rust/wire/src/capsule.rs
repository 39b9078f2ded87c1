//! Capsules on the CONNECT stream (RFC 9297 §3.2, webtrans-http3-16 §4.7, §5.6, §6).
//!
//! A reader takes a header, then decides: a type it knows is buffered whole (its length has been
//! checked against a small bound by then) and given to [`decode_payload`]; any other payload,
//! [`crate::codes::capsule::DATAGRAM`] included if it wants none, is skipped by count.

use thiserror::Error;

use crate::codes::{capsule, error};
use crate::stream_header::Dir;
use crate::varint;

pub use crate::frame::Header;

/// Most bytes of text in WT_CLOSE_SESSION (webtrans-http3-16 §6).
pub const MAX_REASON_SIZE: usize = 1024;

/// Largest cumulative stream count (webtrans-http3-16 §5.6.2).
pub const MAX_STREAMS: u64 = 1 << 60;

/// A capsule, borrowed from its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capsule<'a> {
    /// The session is over.
    Close {
        /// Application code.
        code: u32,
        /// Application text, at most [`MAX_REASON_SIZE`] bytes.
        reason: &'a str,
    },
    /// The sender is blocked at this session data limit.
    DataBlocked(u64),
    /// A datagram that came reliably.
    Datagram(&'a [u8]),
    /// The sender wants the session to end soon.
    Drain,
    /// The session data limit of the receiver of this capsule.
    MaxData(u64),
    /// Its stream limit.
    MaxStreams {
        /// Which streams.
        dir: Dir,
        /// How many in all, since the session began.
        limit: u64,
    },
    /// The sender is blocked at this stream limit.
    StreamsBlocked {
        /// Which streams.
        dir: Dir,
        /// The limit.
        limit: u64,
    },
    /// A type that this library does not know.
    Unknown {
        /// The type.
        ty: u64,
        /// Its payload.
        payload: &'a [u8],
    },
}

/// Why a capsule was refused. All but the last are malformed messages (RFC 9297 §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CapsuleError {
    /// A length that cannot belong to the fields of this type.
    #[error("capsule {ty:#x} cannot have {len} bytes")]
    Length {
        /// The type.
        ty: u64,
        /// Its length.
        len: u64,
    },
    /// A type that WebTransport over HTTP/3 prohibits (webtrans-http3-16 §5.6).
    #[error("capsule {0:#x} is not allowed over HTTP/3")]
    Prohibited(u64),
    /// The text of WT_CLOSE_SESSION is not UTF-8.
    #[error("the text of WT_CLOSE_SESSION is not UTF-8")]
    ReasonEncoding,
    /// The text of WT_CLOSE_SESSION is too long.
    #[error("the text of WT_CLOSE_SESSION is {0} bytes, more than {MAX_REASON_SIZE}")]
    ReasonSize(u64),
    /// A stream count above [`MAX_STREAMS`].
    #[error("a limit of {0} streams is above 2^60")]
    StreamLimit(u64),
}

impl CapsuleError {
    /// The error to reset the CONNECT stream, and so end the session, with.
    pub const fn code(&self) -> u64 {
        match self {
            Self::Length { .. }
            | Self::Prohibited(_)
            | Self::ReasonEncoding
            | Self::ReasonSize(_) => error::H3_MESSAGE_ERROR,
            Self::StreamLimit(_) => error::WT_FLOW_CONTROL_ERROR,
        }
    }
}

/// The header at the start of `buf` and its encoded length; `None` when `buf` is too short yet.
///
/// A length that the type cannot have is refused here, before any payload is buffered.
pub fn decode_header(buf: &[u8]) -> Result<Option<(Header, usize)>, CapsuleError> {
    let Some((header, consumed)) = crate::frame::decode_header(buf) else {
        return Ok(None);
    };
    check_header(header)?;
    Ok(Some((header, consumed)))
}

/// Decode a whole payload of type `ty`.
pub fn decode_payload(ty: u64, payload: &[u8]) -> Result<Capsule<'_>, CapsuleError> {
    check_header(Header {
        ty,
        len: payload.len() as u64,
    })?;
    Ok(match ty {
        capsule::DATAGRAM => Capsule::Datagram(payload),
        capsule::WT_CLOSE_SESSION => decode_close(payload)?,
        capsule::WT_DRAIN_SESSION => Capsule::Drain,
        capsule::WT_MAX_DATA => Capsule::MaxData(decode_number(ty, payload)?),
        capsule::WT_DATA_BLOCKED => Capsule::DataBlocked(decode_number(ty, payload)?),
        capsule::WT_MAX_STREAMS_BIDI => Capsule::MaxStreams {
            dir: Dir::Bidi,
            limit: decode_stream_limit(ty, payload)?,
        },
        capsule::WT_MAX_STREAMS_UNI => Capsule::MaxStreams {
            dir: Dir::Uni,
            limit: decode_stream_limit(ty, payload)?,
        },
        capsule::WT_STREAMS_BLOCKED_BIDI => Capsule::StreamsBlocked {
            dir: Dir::Bidi,
            limit: decode_stream_limit(ty, payload)?,
        },
        capsule::WT_STREAMS_BLOCKED_UNI => Capsule::StreamsBlocked {
            dir: Dir::Uni,
            limit: decode_stream_limit(ty, payload)?,
        },
        ty => Capsule::Unknown { ty, payload },
    })
}

/// Append a whole capsule. A reason longer than [`MAX_REASON_SIZE`] is cut by [`truncate_reason`].
pub fn encode(capsule: &Capsule<'_>, out: &mut Vec<u8>) {
    let ty = capsule.ty();
    match *capsule {
        Capsule::Close { code, reason } => {
            let reason = truncate_reason(reason);
            crate::frame::encode_header(ty, 4 + reason.len() as u64, out);
            out.extend_from_slice(&code.to_be_bytes());
            out.extend_from_slice(reason.as_bytes());
        }
        Capsule::Drain => crate::frame::encode_header(ty, 0, out),
        Capsule::Datagram(payload) | Capsule::Unknown { payload, .. } => {
            crate::frame::encode(ty, payload, out);
        }
        Capsule::DataBlocked(number)
        | Capsule::MaxData(number)
        | Capsule::MaxStreams { limit: number, .. }
        | Capsule::StreamsBlocked { limit: number, .. } => {
            crate::frame::encode_header(ty, varint::len(number) as u64, out);
            varint::encode(number, out);
        }
    }
}

/// The longest start of `reason` that fits WT_CLOSE_SESSION and ends between characters.
pub fn truncate_reason(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON_SIZE);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default()
}

/// Whether [`decode_payload`] gives anything but [`Capsule::Unknown`] for `ty`.
pub const fn is_known(ty: u64) -> bool {
    matches!(
        ty,
        capsule::DATAGRAM
            | capsule::WT_CLOSE_SESSION
            | capsule::WT_DRAIN_SESSION
            | capsule::WT_MAX_DATA..=capsule::WT_STREAMS_BLOCKED_UNI
    )
}

impl Capsule<'_> {
    /// The type on the wire.
    pub const fn ty(&self) -> u64 {
        match self {
            Self::Close { .. } => capsule::WT_CLOSE_SESSION,
            Self::DataBlocked(_) => capsule::WT_DATA_BLOCKED,
            Self::Datagram(_) => capsule::DATAGRAM,
            Self::Drain => capsule::WT_DRAIN_SESSION,
            Self::MaxData(_) => capsule::WT_MAX_DATA,
            Self::MaxStreams { dir: Dir::Bidi, .. } => capsule::WT_MAX_STREAMS_BIDI,
            Self::MaxStreams { dir: Dir::Uni, .. } => capsule::WT_MAX_STREAMS_UNI,
            Self::StreamsBlocked { dir: Dir::Bidi, .. } => capsule::WT_STREAMS_BLOCKED_BIDI,
            Self::StreamsBlocked { dir: Dir::Uni, .. } => capsule::WT_STREAMS_BLOCKED_UNI,
            Self::Unknown { ty, .. } => *ty,
        }
    }
}

fn check_header(Header { ty, len }: Header) -> Result<(), CapsuleError> {
    let possible = match ty {
        capsule::WT_CLOSE_SESSION => {
            if len > 4 + MAX_REASON_SIZE as u64 {
                return Err(CapsuleError::ReasonSize(len - 4));
            }
            len >= 4
        }
        capsule::WT_DRAIN_SESSION => len == 0,
        capsule::WT_MAX_STREAM_DATA | capsule::WT_STREAM_DATA_BLOCKED => {
            return Err(CapsuleError::Prohibited(ty));
        }
        capsule::WT_MAX_DATA..=capsule::WT_STREAMS_BLOCKED_UNI => matches!(len, 1 | 2 | 4 | 8),
        _ => true,
    };
    if possible {
        Ok(())
    } else {
        Err(CapsuleError::Length { ty, len })
    }
}

fn decode_close(payload: &[u8]) -> Result<Capsule<'_>, CapsuleError> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        let len = payload.len() as u64;
        return Err(CapsuleError::Length {
            ty: capsule::WT_CLOSE_SESSION,
            len,
        });
    };
    let reason = std::str::from_utf8(reason).map_err(|_| CapsuleError::ReasonEncoding)?;
    Ok(Capsule::Close {
        code: u32::from_be_bytes(*code),
        reason,
    })
}

fn decode_number(ty: u64, payload: &[u8]) -> Result<u64, CapsuleError> {
    match varint::decode(payload) {
        Some((number, len)) if len == payload.len() => Ok(number),
        _ => Err(CapsuleError::Length {
            ty,
            len: payload.len() as u64,
        }),
    }
}

fn decode_stream_limit(ty: u64, payload: &[u8]) -> Result<u64, CapsuleError> {
    match decode_number(ty, payload)? {
        limit if limit > MAX_STREAMS => Err(CapsuleError::StreamLimit(limit)),
        limit => Ok(limit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close_of(reason: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&Capsule::Close { code: 7, reason }, &mut out);
        out
    }

    #[test]
    fn a_reason_is_accepted_at_the_limit_and_refused_one_past_it() {
        let payload = [vec![0; 4], vec![b'x'; MAX_REASON_SIZE]].concat();
        assert!(decode_payload(capsule::WT_CLOSE_SESSION, &payload).is_ok());
        let longer = [payload, vec![b'x']].concat();
        let error = decode_payload(capsule::WT_CLOSE_SESSION, &longer);
        assert_eq!(error, Err(CapsuleError::ReasonSize(1025)));
        assert_eq!(error.map_err(|e| e.code()), Err(error::H3_MESSAGE_ERROR));
    }

    #[test]
    fn an_over_long_reason_is_cut_between_characters() {
        let text = format!("{}\u{e9}", "x".repeat(MAX_REASON_SIZE - 1));
        assert_eq!(truncate_reason(&text).len(), MAX_REASON_SIZE - 1);
        let out = close_of(&text);
        let (header, start) = decode_header(&out).unwrap().unwrap();
        assert_eq!(header.len as usize, out.len() - start);
        assert_eq!(header.len as usize, 4 + MAX_REASON_SIZE - 1);
    }

    #[test]
    fn every_known_type_is_listed() {
        for (ty, payload) in [
            (capsule::DATAGRAM, &[][..]),
            (capsule::WT_CLOSE_SESSION, &[0, 0, 0, 0]),
            (capsule::WT_DRAIN_SESSION, &[]),
            (capsule::WT_MAX_DATA, &[1]),
            (capsule::WT_MAX_STREAMS_BIDI, &[1]),
            (capsule::WT_MAX_STREAMS_UNI, &[1]),
            (capsule::WT_DATA_BLOCKED, &[1]),
            (capsule::WT_STREAMS_BLOCKED_BIDI, &[1]),
            (capsule::WT_STREAMS_BLOCKED_UNI, &[1]),
        ] {
            let decoded = decode_payload(ty, payload).unwrap();
            assert_eq!(decoded.ty(), ty);
            assert!(is_known(ty) && !matches!(decoded, Capsule::Unknown { .. }));
        }
        assert!(!is_known(0x1717));
        assert!(matches!(
            decode_payload(0x1717, b"x"),
            Ok(Capsule::Unknown { ty: 0x1717, .. })
        ));
    }
}
