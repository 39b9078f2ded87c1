//! Integers that share their first byte with flags (RFC 7541 §5.1, RFC 9204 §4.1.1).

use super::QpackError;
use crate::varint;

/// Continuation bytes carry 7 bits each; nine hold any 62-bit number.
const MAX_SHIFT: u32 = 7 * 8;

/// The integer in the low `prefix` bits (1 to 8) of the first byte and what follows, and its
/// length; `None` when `buf` is too short.
#[inline]
pub(super) fn decode(buf: &[u8], prefix: u32) -> Result<Option<(u64, usize)>, QpackError> {
    let Some((&first, rest)) = buf.split_first() else {
        return Ok(None);
    };
    let mask = mask(prefix);
    let value = u64::from(first & mask);
    if value < u64::from(mask) {
        return Ok(Some((value, 1)));
    }
    decode_long(value, rest)
}

/// Append `value` with `flags` above the low `prefix` bits of its first byte.
#[inline]
pub(super) fn encode(value: u64, prefix: u32, flags: u8, out: &mut Vec<u8>) {
    let mask = mask(prefix);
    match u8::try_from(value) {
        Ok(value) if value < mask => out.push(flags | value),
        _ => {
            out.push(flags | mask);
            let mut value = value - u64::from(mask);
            while value >= 0x80 {
                out.push(value as u8 | 0x80);
                value >>= 7;
            }
            out.push(value as u8);
        }
    }
}

fn decode_long(mut value: u64, rest: &[u8]) -> Result<Option<(u64, usize)>, QpackError> {
    let mut shift = 0;
    for (position, &byte) in rest.iter().enumerate() {
        if shift > MAX_SHIFT {
            return Err(QpackError::Integer);
        }
        value += u64::from(byte & 0x7f) << shift;
        if value > varint::MAX {
            return Err(QpackError::Integer);
        }
        if byte & 0x80 == 0 {
            return Ok(Some((value, position + 2)));
        }
        shift += 7;
    }
    Ok(None)
}

const fn mask(prefix: u32) -> u8 {
    u8::MAX >> (8 - prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_document_hold() {
        // RFC 7541 appendix C.1
        for (value, prefix, hex) in [
            (10, 5, &[0x0a][..]),
            (1337, 5, &[0x1f, 0x9a, 0x0a]),
            (42, 8, &[0x2a]),
        ] {
            let mut out = Vec::new();
            encode(value, prefix, 0, &mut out);
            assert_eq!(out, hex);
            assert_eq!(decode(hex, prefix), Ok(Some((value, hex.len()))));
        }
    }

    #[test]
    fn sixty_two_bits_fit_and_one_more_does_not() {
        for prefix in 1..=8 {
            let mut out = Vec::new();
            encode(varint::MAX, prefix, 0, &mut out);
            assert_eq!(decode(&out, prefix), Ok(Some((varint::MAX, out.len()))));
            for cut in 0..out.len() {
                assert_eq!(decode(&out[..cut], prefix), Ok(None));
            }
            out.clear();
            encode(varint::MAX + 1, prefix, 0, &mut out);
            assert_eq!(decode(&out, prefix), Err(QpackError::Integer));
        }
    }

    #[test]
    fn endless_zero_continuation_is_refused() {
        let padded = |zeros| [vec![0xff], vec![0x80; zeros], vec![0]].concat();
        assert_eq!(decode(&padded(8), 8), Ok(Some((255, 10))));
        assert_eq!(decode(&padded(9), 8), Err(QpackError::Integer));
    }
}
