//! The instructions of the encoder and decoder streams (RFC 9204 §4.3, §4.4), and what a decoder
//! that offered no table, and an encoder that never inserts, let the peer send on them.

use super::{huffman, prefix_int, QpackError};
use crate::varint;

/// An instruction of an encoder stream, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncoderInstruction<'a> {
    /// Insert an existing entry again.
    Duplicate(u64),
    /// Insert a field with a literal name.
    InsertLiteral {
        /// The name.
        name: StringLiteral<'a>,
        /// The value.
        value: StringLiteral<'a>,
    },
    /// Insert a field with the name of another entry.
    InsertNameReference {
        /// Whether `index` is one of the static table.
        is_static: bool,
        /// The index.
        index: u64,
        /// The value.
        value: StringLiteral<'a>,
    },
    /// Set the capacity of the table.
    SetCapacity(u64),
}

/// An instruction of a decoder stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecoderInstruction {
    /// So many more insertions have been processed.
    InsertCountIncrement(u64),
    /// The section on this stream has been processed.
    SectionAcknowledgment(u64),
    /// The sections on this stream will not be read.
    StreamCancellation(u64),
}

/// A string as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StringLiteral<'a> {
    /// Whether `bytes` are Huffman-coded.
    pub is_huffman: bool,
    /// The bytes as sent.
    pub bytes: &'a [u8],
}

impl StringLiteral<'_> {
    /// The string itself, of at most `max` bytes.
    pub fn decode(&self, max: usize) -> Result<Vec<u8>, QpackError> {
        if self.is_huffman {
            let mut out = Vec::new();
            huffman::decode(self.bytes, max, &mut out)?;
            return Ok(out);
        }
        if self.bytes.len() > max {
            return Err(QpackError::StringSize(max));
        }
        Ok(self.bytes.to_vec())
    }

    fn encode(&self, prefix: u32, flags: u8, out: &mut Vec<u8>) {
        let huffman_bit = u8::from(self.is_huffman) << prefix;
        prefix_int::encode(self.bytes.len() as u64, prefix, flags | huffman_bit, out);
        out.extend_from_slice(self.bytes);
    }
}

impl<'a> EncoderInstruction<'a> {
    /// The instruction at the start of `buf` and its length; `None` when `buf` is too short yet.
    pub fn decode(buf: &'a [u8]) -> Result<Option<(Self, usize)>, QpackError> {
        let mut cursor = Cursor { rest: buf };
        let instruction = cursor
            .encoder_instruction()
            .map_err(|_| QpackError::EncoderStream)?;
        Ok(instruction.map(|instruction| (instruction, buf.len() - cursor.rest.len())))
    }

    /// Append the instruction.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Duplicate(index) => prefix_int::encode(*index, 5, 0x00, out),
            Self::InsertLiteral { name, value } => {
                name.encode(5, 0x40, out);
                value.encode(7, 0, out);
            }
            Self::InsertNameReference {
                is_static,
                index,
                value,
            } => {
                prefix_int::encode(*index, 6, 0x80 | u8::from(*is_static) << 6, out);
                value.encode(7, 0, out);
            }
            Self::SetCapacity(capacity) => prefix_int::encode(*capacity, 5, 0x20, out),
        }
    }
}

impl DecoderInstruction {
    /// The instruction at the start of `buf` and its length; `None` when `buf` is too short yet.
    pub fn decode(buf: &[u8]) -> Result<Option<(Self, usize)>, QpackError> {
        let Some(&first) = buf.first() else {
            return Ok(None);
        };
        let (prefix, instruction): (_, fn(u64) -> Self) = match first >> 6 {
            0b10 | 0b11 => (7, Self::SectionAcknowledgment),
            0b01 => (6, Self::StreamCancellation),
            _ => (6, Self::InsertCountIncrement),
        };
        let decoded = prefix_int::decode(buf, prefix).map_err(|_| QpackError::DecoderStream)?;
        match decoded.map(|(value, len)| (instruction(value), len)) {
            // §4.4.3
            Some((Self::InsertCountIncrement(0), _)) => Err(QpackError::DecoderStream),
            decoded => Ok(decoded),
        }
    }

    /// Append the instruction.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::InsertCountIncrement(value) => prefix_int::encode(value, 6, 0x00, out),
            Self::SectionAcknowledgment(value) => prefix_int::encode(value, 7, 0x80, out),
            Self::StreamCancellation(value) => prefix_int::encode(value, 6, 0x40, out),
        }
    }
}

/// Reads the peer's encoder stream when no dynamic table was offered.
///
/// Such a peer should send nothing; setting the capacity to the zero it already is harms nobody
/// and is let through. Every other instruction is recognised by its first byte.
#[derive(Debug, Clone, Copy, Default)]
pub struct EncoderStream;

impl EncoderStream {
    /// Check the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), QpackError> {
        const SET_CAPACITY_0: u8 = 0x20;
        match bytes.iter().all(|&byte| byte == SET_CAPACITY_0) {
            true => Ok(()),
            false => Err(QpackError::EncoderStream),
        }
    }
}

/// Reads the peer's decoder stream when our encoder never inserts.
///
/// Nothing can be acknowledged then. Cancelled streams are of no interest, but peers announce
/// them and that is allowed.
#[derive(Debug, Clone, Copy, Default)]
pub struct DecoderStream {
    /// An instruction that is not complete yet. Prefix integers are short, so it always fits.
    partial: [u8; PARTIAL],
    len: usize,
}

/// One more byte than the longest prefix integer.
const PARTIAL: usize = varint::MAX_LEN + 3;

impl DecoderStream {
    /// Check the next bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), QpackError> {
        for &byte in bytes {
            // Both kinds of acknowledgment are wrong whatever their number is.
            if self.len == 0 && byte >> 6 != 0b01 {
                return Err(QpackError::DecoderStream);
            }
            let Some(slot) = self.partial.get_mut(self.len) else {
                return Err(QpackError::DecoderStream);
            };
            *slot = byte;
            self.len += 1;
            let partial = self.partial.get(..self.len).unwrap_or_default();
            if DecoderInstruction::decode(partial)?.is_some() {
                self.len = 0;
            }
        }
        Ok(())
    }
}

struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn encoder_instruction(&mut self) -> Result<Option<EncoderInstruction<'a>>, QpackError> {
        let Some(&first) = self.rest.first() else {
            return Ok(None);
        };
        Ok(if first & 0x80 != 0 {
            let Some(index) = self.int(6)? else {
                return Ok(None);
            };
            let is_static = first & 0x40 != 0;
            self.string(7)?
                .map(|value| EncoderInstruction::InsertNameReference {
                    is_static,
                    index,
                    value,
                })
        } else if first & 0x40 != 0 {
            let Some(name) = self.string(5)? else {
                return Ok(None);
            };
            self.string(7)?
                .map(|value| EncoderInstruction::InsertLiteral { name, value })
        } else if first & 0x20 != 0 {
            self.int(5)?.map(EncoderInstruction::SetCapacity)
        } else {
            self.int(5)?.map(EncoderInstruction::Duplicate)
        })
    }

    fn int(&mut self, prefix: u32) -> Result<Option<u64>, QpackError> {
        let Some((value, len)) = prefix_int::decode(self.rest, prefix)? else {
            return Ok(None);
        };
        self.rest = self.rest.get(len..).unwrap_or_default();
        Ok(Some(value))
    }

    fn string(&mut self, prefix: u32) -> Result<Option<StringLiteral<'a>>, QpackError> {
        let is_huffman = self
            .rest
            .first()
            .is_some_and(|first| first >> prefix & 1 == 1);
        let Some(len) = self.int(prefix)? else {
            return Ok(None);
        };
        let split = usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.split_at_checked(len));
        Ok(split.map(|(bytes, rest)| {
            self.rest = rest;
            StringLiteral { is_huffman, bytes }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::error;

    #[test]
    fn the_encoder_stream_may_only_set_capacity_zero() {
        let mut stream = EncoderStream;
        assert_eq!(stream.feed(&[]), Ok(()));
        assert_eq!(stream.feed(&[0x20, 0x20]), Ok(()));
        for first in (0..=u8::MAX).filter(|&byte| byte != 0x20) {
            assert_eq!(stream.feed(&[0x20, first]), Err(QpackError::EncoderStream));
        }
        assert_eq!(
            QpackError::EncoderStream.code(),
            error::QPACK_ENCODER_STREAM_ERROR
        );
    }

    #[test]
    fn the_decoder_stream_may_only_cancel() {
        for first in (0..=u8::MAX).filter(|&byte| byte >> 6 != 0b01) {
            let refused = DecoderStream::default().feed(&[first]);
            assert_eq!(refused, Err(QpackError::DecoderStream));
        }
        assert_eq!(
            QpackError::DecoderStream.code(),
            error::QPACK_DECODER_STREAM_ERROR
        );
    }

    #[test]
    fn cancellations_are_read_in_any_pieces() {
        let mut bytes = Vec::new();
        for stream in [0, 62, 63, 64, 1000, varint::MAX] {
            DecoderInstruction::StreamCancellation(stream).encode(&mut bytes);
        }
        assert_eq!(DecoderStream::default().feed(&bytes), Ok(()));
        let mut stream = DecoderStream::default();
        for byte in &bytes {
            assert_eq!(stream.feed(&[*byte]), Ok(()));
        }
        assert_eq!(stream.len, 0);
    }

    #[test]
    fn an_endless_cancellation_is_refused() {
        let mut stream = DecoderStream::default();
        assert_eq!(stream.feed(&[0x7f, 0x80, 0x80, 0x80]), Ok(()));
        assert_eq!(stream.feed(&[0x80; 16]), Err(QpackError::DecoderStream));
    }
}
