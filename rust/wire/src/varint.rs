//! Variable-length integers (RFC 9000 §16): 1, 2, 4 or 8 bytes, 62 bits of value.

use thiserror::Error;

/// The largest value that a varint can carry.
pub const MAX: u64 = (1 << 62) - 1;

/// The longest encoding, in bytes.
pub const MAX_LEN: usize = 8;

/// A number that no varint can carry. Always local misuse: a decoded value is in range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0} does not fit a varint; the largest value is {MAX}")]
pub struct Overflow(pub u64);

/// Length in bytes of the shortest encoding of `value`.
#[inline]
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// The value at the start of `buf` and its encoded length; `None` when `buf` is too short yet.
///
/// Encodings longer than needed are accepted, as everywhere but in QUIC frame types.
#[inline]
pub fn decode(buf: &[u8]) -> Option<(u64, usize)> {
    let first = *buf.first()?;
    match first >> 6 {
        0 => Some((u64::from(first), 1)),
        1 => Some((
            u64::from(u16::from_be_bytes(*buf.first_chunk()?) & 0x3fff),
            2,
        )),
        2 => Some((
            u64::from(u32::from_be_bytes(*buf.first_chunk()?) & 0x3fff_ffff),
            4,
        )),
        _ => Some((u64::from_be_bytes(*buf.first_chunk()?) & MAX, 8)),
    }
}

/// Append the shortest encoding of a `value` that is known to be in range: an identifier of
/// [`crate::codes`], a length, a stream id, or a number that came out of [`decode`].
///
/// Anything else goes through [`check`] or [`try_encode`] first. A value above [`MAX`] cannot be
/// said; it is written as [`MAX`], so that the output stays parseable.
#[inline]
pub fn encode(value: u64, out: &mut Vec<u8>) {
    match len(value) {
        1 => out.push(value as u8),
        2 => out.extend_from_slice(&(value as u16 | 0x4000).to_be_bytes()),
        4 => out.extend_from_slice(&(value as u32 | 0x8000_0000).to_be_bytes()),
        _ => out.extend_from_slice(&(value.min(MAX) | 0xc000_0000_0000_0000).to_be_bytes()),
    }
}

/// Append the shortest encoding of any `value`, or leave `out` alone when none exists.
pub fn try_encode(value: u64, out: &mut Vec<u8>) -> Result<(), Overflow> {
    encode(check(value)?, out);
    Ok(())
}

/// `value`, if a varint can carry it.
pub const fn check(value: u64) -> Result<u64, Overflow> {
    if value > MAX {
        return Err(Overflow(value));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_boundary_has_the_shortest_length() {
        for (value, length) in [
            (0, 1),
            (63, 1),
            (64, 2),
            (16_383, 2),
            (16_384, 4),
            ((1 << 30) - 1, 4),
            (1 << 30, 8),
            (MAX, 8),
        ] {
            let mut out = Vec::new();
            encode(value, &mut out);
            assert_eq!(out.len(), length);
            assert_eq!(len(value), length);
            assert_eq!(decode(&out), Some((value, length)));
        }
    }

    #[test]
    fn a_value_past_the_maximum_is_refused_and_writes_nothing() {
        let mut out = Vec::new();
        assert_eq!(try_encode(MAX, &mut out), Ok(()));
        assert_eq!(out.len(), 8);
        assert_eq!(try_encode(MAX + 1, &mut out), Err(Overflow(MAX + 1)));
        assert_eq!(out.len(), 8);
        encode(u64::MAX, &mut out);
        assert_eq!(decode(&out[8..]), Some((MAX, 8)));
    }
}
