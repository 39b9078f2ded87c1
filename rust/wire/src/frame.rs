//! HTTP/3 frames (RFC 9114 §7.1): type, length, payload.

use std::iter::FusedIterator;

pub use crate::codes::is_grease;
use crate::varint;

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Frame type.
    pub ty: u64,
    /// Payload length in bytes.
    pub len: u64,
}

/// A whole frame, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Frame type.
    pub ty: u64,
    /// Its payload.
    pub payload: &'a [u8],
}

/// The header at the start of `buf` and its encoded length; `None` when `buf` is too short yet.
#[inline]
pub fn decode_header(buf: &[u8]) -> Option<(Header, usize)> {
    let (ty, ty_len) = varint::decode(buf)?;
    let (len, len_len) = varint::decode(buf.get(ty_len..)?)?;
    Some((Header { ty, len }, ty_len + len_len))
}

/// Append a header; the caller appends `len` bytes of payload. Both numbers are in varint range.
#[inline]
pub fn encode_header(ty: u64, len: u64, out: &mut Vec<u8>) {
    varint::encode(ty, out);
    varint::encode(len, out);
}

/// Append a whole frame.
pub fn encode(ty: u64, payload: &[u8], out: &mut Vec<u8>) {
    encode_header(ty, payload.len() as u64, out);
    out.extend_from_slice(payload);
}

/// The frames that are complete in `buf`. After the last one, [`Frames::consumed`] tells where
/// the first incomplete frame starts.
pub fn parse_many(buf: &[u8]) -> Frames<'_> {
    Frames { buf, consumed: 0 }
}

/// Whether `ty` belonged to HTTP/2 and must be refused with H3_FRAME_UNEXPECTED
/// (RFC 9114 §7.2.8): PRIORITY, PING, WINDOW_UPDATE, CONTINUATION.
pub const fn is_reserved_http2(ty: u64) -> bool {
    matches!(ty, 0x02 | 0x06 | 0x08 | 0x09)
}

/// Iterator over the complete frames of one buffer.
#[derive(Debug, Clone)]
pub struct Frames<'a> {
    buf: &'a [u8],
    consumed: usize,
}

impl Frames<'_> {
    /// Bytes taken by the frames returned up to now.
    pub fn consumed(&self) -> usize {
        self.consumed
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    #[inline]
    fn next(&mut self) -> Option<Frame<'a>> {
        let rest = self.buf.get(self.consumed..)?;
        let (Header { ty, len }, start) = decode_header(rest)?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        let payload = rest.get(start..end)?;
        self.consumed += end;
        Some(Frame { ty, payload })
    }
}

impl FusedIterator for Frames<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_frame_ends_the_iteration_where_it_starts() {
        let buf = [0x00, 0x02, b'h', b'i', 0x21, 0x00, 0x00, 0x05, b'x'];
        let mut frames = parse_many(&buf);
        assert_eq!(
            frames.next(),
            Some(Frame {
                ty: 0,
                payload: b"hi"
            })
        );
        assert_eq!(
            frames.next(),
            Some(Frame {
                ty: 0x21,
                payload: b""
            })
        );
        assert_eq!(frames.next(), None);
        assert_eq!(frames.consumed(), 6);
    }

    #[test]
    fn the_largest_length_does_not_overflow() {
        let mut buf = Vec::new();
        encode_header(0, varint::MAX, &mut buf);
        assert_eq!(parse_many(&buf).next(), None);
    }
}
