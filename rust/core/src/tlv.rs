//! Type-length-value records off a byte stream, however it is cut: HTTP/3 frames (RFC 9114 §7.1)
//! and capsules (RFC 9297 §3.2) share the shape.

use bytes::{Buf, Bytes, BytesMut};
use pywt_wire::frame::{decode_header, Header};

/// Reads records without storing payload.
#[derive(Debug, Default)]
pub(crate) struct TlvReader {
    /// Type and length so far, while incomplete.
    head: [u8; 16],
    have: u8,
    body: Option<Body>,
}

#[derive(Debug)]
struct Body {
    ty: u64,
    left: u64,
}

/// What a reader found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A record starts.
    Head { ty: u64, len: u64 },
    /// Payload of the record that started last; an empty record has one empty, last piece.
    Body { ty: u64, data: Bytes, last: bool },
}

impl TlvReader {
    /// The next piece of `input`, which is advanced; `None` when it is used up.
    pub(crate) fn next(&mut self, input: &mut Bytes) -> Option<Piece> {
        if let Some(body) = &mut self.body {
            if input.is_empty() && body.left > 0 {
                return None;
            }
            let take = usize::try_from(body.left)
                .unwrap_or(usize::MAX)
                .min(input.len());
            let data = input.split_to(take);
            body.left -= take as u64;
            let (ty, last) = (body.ty, body.left == 0);
            if last {
                self.body = None;
            }
            return Some(Piece::Body { ty, data, last });
        }
        let (ty, len) = self.read_head(input)?;
        self.body = Some(Body { ty, left: len });
        Some(Piece::Head { ty, len })
    }

    /// Whether the stream may end here.
    pub(crate) fn at_boundary(&self) -> bool {
        self.have == 0 && self.body.is_none()
    }

    fn read_head(&mut self, input: &mut Bytes) -> Option<(u64, u64)> {
        if self.have == 0 {
            if let Some((Header { ty, len }, used)) = decode_header(input) {
                input.advance(used);
                return Some((ty, len));
            }
        }
        while !input.is_empty() {
            let slot = self.head.get_mut(usize::from(self.have))?;
            *slot = input.get_u8();
            self.have += 1;
            let head = self.head.get(..usize::from(self.have))?;
            if let Some((Header { ty, len }, _)) = decode_header(head) {
                self.have = 0;
                return Some((ty, len));
            }
        }
        None
    }
}

/// Joins the pieces of one record's payload; without a copy when there is only one.
#[derive(Debug, Default)]
pub(crate) struct Gather(BytesMut);

impl Gather {
    /// The whole payload once `last` came. The caller has bounded the record's length.
    pub(crate) fn push(&mut self, data: Bytes, last: bool) -> Option<Bytes> {
        if last && self.0.is_empty() {
            return Some(data);
        }
        self.0.extend_from_slice(&data);
        last.then(|| std::mem::take(&mut self.0).freeze())
    }
}
