//! The Huffman code of RFC 7541 appendix B, both ways.
//!
//! The code is canonical: the lengths alone determine it, and every table below is built from
//! them at compile time. The decoder looks at 11 bits at once and usually takes two symbols per
//! look; only codes longer than that (no letter, digit or common punctuation) go by length.

use super::QpackError;

/// Length in bits of the code of each symbol; 256 is the end-of-string symbol.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const SYMBOLS: usize = 257;
const EOS: usize = 256;
const MAX_LENGTH: usize = 30;
const LOOK: usize = 11;

/// Length in bytes of `input` when encoded.
#[inline]
pub fn encoded_len(input: &[u8]) -> usize {
    let bits: usize = input
        .iter()
        .map(|&byte| usize::from(CODES[usize::from(byte)].1))
        .sum();
    bits.div_ceil(8)
}

/// Append `input`, encoded and padded.
pub fn encode(input: &[u8], out: &mut Vec<u8>) {
    let mut bits = 0u64;
    let mut count = 0u32;
    for &byte in input {
        let (code, length) = CODES[usize::from(byte)];
        bits = bits << length | u64::from(code);
        count += u32::from(length);
        // At most 31 + 30 bits are ever held.
        if count >= 32 {
            count -= 32;
            out.extend_from_slice(&((bits >> count) as u32).to_be_bytes());
        }
    }
    while count >= 8 {
        count -= 8;
        out.push((bits >> count) as u8);
    }
    if count > 0 {
        out.push((bits << (8 - count)) as u8 | 0xff >> count);
    }
}

/// Decode `input` into `out`, replacing what is there. A string of more than `max` bytes is
/// refused, and never more than that is allocated.
pub fn decode(input: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), QpackError> {
    // The shortest code has 5 bits. Symbols are written in pairs of which the second may not
    // count, hence the extra room.
    let room = (input.len() * 8 / 5).min(max) + 2;
    out.clear();
    out.resize(room, 0);
    let mut written = 0;
    let mut reader = Reader {
        input,
        bits: 0,
        count: 0,
    };
    loop {
        reader.refill();
        let entry = LOOKUP[(reader.bits >> (u64::BITS as usize - LOOK)) as usize];
        let (symbols, symbol_count, length) = if entry.both <= reader.count {
            (
                entry.symbols,
                1 + usize::from(entry.both > entry.first),
                entry.both,
            )
        } else if entry.first <= reader.count {
            (entry.symbols, 1, entry.first)
        } else if entry.first == LONG {
            match long_code(reader.bits) {
                Some((symbol, length)) if length <= reader.count => ([symbol, 0], 1, length),
                // Fewer bits are left than the code has: they are the padding.
                Some(_) => break,
                None => return Err(QpackError::Huffman),
            }
        } else {
            break;
        };
        let Some(slot) = out.get_mut(written..).and_then(<[u8]>::first_chunk_mut) else {
            return Err(QpackError::StringSize(max));
        };
        *slot = symbols;
        written += symbol_count;
        reader.bits <<= length;
        reader.count -= length;
    }
    if written > max {
        return Err(QpackError::StringSize(max));
    }
    out.truncate(written);
    // RFC 7541 §5.2: less than 8 bits of padding, all ones.
    let padding_is_ones = reader.bits.leading_ones() >= u32::from(reader.count);
    if reader.count < 8 && padding_is_ones {
        Ok(())
    } else {
        Err(QpackError::Huffman)
    }
}

/// The bits not decoded yet, from the top of `bits`; below the top `count` there may be more bits
/// of the input already.
struct Reader<'a> {
    input: &'a [u8],
    bits: u64,
    count: u8,
}

impl Reader<'_> {
    /// Hold at least 32 bits, or all that are left.
    #[inline]
    fn refill(&mut self) {
        if self.count >= 32 {
            return;
        }
        if let Some(word) = self.input.first_chunk() {
            self.bits |= u64::from_be_bytes(*word) >> self.count;
            let bytes = (63 - self.count) / 8;
            self.input = self.input.get(usize::from(bytes)..).unwrap_or_default();
            self.count += bytes * 8;
            return;
        }
        while let Some((&byte, rest)) = self.input.split_first() {
            if self.count > 56 {
                break;
            }
            self.bits |= u64::from(byte) << (56 - self.count);
            self.input = rest;
            self.count += 8;
        }
    }
}

/// The symbol and length of the code at the top of `bits`, for codes longer than [`LOOK`]; `None`
/// for end-of-string, which no string may contain (RFC 7541 §5.2).
fn long_code(bits: u64) -> Option<(u8, u8)> {
    for (length, range) in LONG_CODES.iter().enumerate().skip(LOOK + 1) {
        let code = (bits >> (u64::BITS as usize - length)) as u32;
        if let Some(position) = code.checked_sub(range.first) {
            if position < range.count {
                let symbol = SORTED.get(usize::from(range.start) + position as usize)?;
                return u8::try_from(*symbol)
                    .ok()
                    .map(|symbol| (symbol, length as u8));
            }
        }
    }
    None
}

/// What the next [`LOOK`] bits decode to.
#[derive(Clone, Copy)]
struct Entry {
    symbols: [u8; 2],
    /// Bits of the first symbol, or [`LONG`].
    first: u8,
    /// Bits of both symbols; of the first alone where there is no second.
    both: u8,
}

/// The codes of one length: consecutive numbers from `first`, for the symbols of [`SORTED`] from
/// `start`.
#[derive(Clone, Copy)]
struct Range {
    first: u32,
    count: u32,
    start: u16,
}

/// More bits than a reader ever holds.
const LONG: u8 = u8::MAX;

/// Code and length by symbol.
static CODES: [(u32, u8); SYMBOLS] = TABLES.0;
/// Symbols by code.
static SORTED: [u16; SYMBOLS] = TABLES.1;
/// Codes by length.
static LONG_CODES: [Range; MAX_LENGTH + 1] = TABLES.2;
/// Symbols by the next bits.
static LOOKUP: [Entry; 1 << LOOK] = lookup();

const TABLES: (
    [(u32, u8); SYMBOLS],
    [u16; SYMBOLS],
    [Range; MAX_LENGTH + 1],
) = {
    let mut codes = [(0, 0); SYMBOLS];
    let mut sorted = [0; SYMBOLS];
    let mut ranges = [Range {
        first: 0,
        count: 0,
        start: 0,
    }; MAX_LENGTH + 1];
    let mut code = 0;
    let mut position = 0;
    let mut length = 1;
    while length <= MAX_LENGTH {
        code <<= 1;
        ranges[length].first = code;
        ranges[length].start = position as u16;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                codes[symbol] = (code, LENGTHS[symbol]);
                sorted[position] = symbol as u16;
                code += 1;
                position += 1;
                ranges[length].count += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    (codes, sorted, ranges)
};

const fn lookup() -> [Entry; 1 << LOOK] {
    let mut table = [Entry {
        symbols: [0, 0],
        first: LONG,
        both: LONG,
    }; 1 << LOOK];
    let mut symbol = 0;
    while symbol < EOS {
        let (code, length) = TABLES.0[symbol];
        let spare = LOOK.saturating_sub(length as usize);
        if length as usize <= LOOK {
            let mut tail = 0;
            while tail < 1 << spare {
                let entry = &mut table[(code as usize) << spare | tail];
                entry.symbols[0] = symbol as u8;
                entry.first = length;
                entry.both = length;
                tail += 1;
            }
        }
        symbol += 1;
    }
    let mut window = 0;
    while window < 1 << LOOK {
        let first = table[window].first;
        if first != LONG {
            let second = table[(window << first) & ((1 << LOOK) - 1)];
            if second.first != LONG && (first + second.first) as usize <= LOOK {
                table[window].symbols[1] = second.symbols[0];
                table[window].both = first + second.first;
            }
        }
        window += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(input, &mut out);
        assert_eq!(out.len(), encoded_len(input));
        out
    }

    fn decoded(input: &[u8]) -> Result<Vec<u8>, QpackError> {
        let mut out = vec![1, 2, 3];
        decode(input, 1 << 16, &mut out).map(|()| out)
    }

    #[test]
    fn the_examples_of_the_document_hold() {
        // RFC 7541 appendix C.4 and C.6
        for (text, hex) in [
            (
                "www.example.com",
                &[
                    0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
                ][..],
            ),
            ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            ("302", &[0x64, 0x02]),
            ("", &[]),
        ] {
            assert_eq!(encoded(text.as_bytes()), hex);
            assert_eq!(decoded(hex), Ok(text.as_bytes().to_vec()));
        }
    }

    #[test]
    fn every_symbol_and_every_pair_survives() {
        for a in 0..=u8::MAX {
            assert_eq!(decoded(&encoded(&[a])), Ok(vec![a]));
            for b in 0..=u8::MAX {
                assert_eq!(decoded(&encoded(&[a, b])), Ok(vec![a, b]));
            }
        }
    }

    #[test]
    fn wrong_padding_and_end_of_string_are_refused() {
        for hex in [
            &[0x00][..],               // '0', then three zero bits
            &[0x07, 0xff],             // '0', then eleven ones
            &[0xff],                   // eight ones
            &[0xff, 0xff, 0xff, 0xff], // end of string
            &[0xff, 0xff, 0xff, 0xfc, 0x00],
        ] {
            assert_eq!(decoded(hex), Err(QpackError::Huffman), "{hex:02x?}");
        }
        assert_eq!(decoded(&[0x07]), Ok(vec![b'0']));
    }

    #[test]
    fn a_string_is_accepted_at_its_limit_and_refused_one_past_it() {
        for length in 0..40 {
            let input = encoded(&vec![b'a'; length]);
            let mut out = Vec::new();
            assert_eq!(decode(&input, length, &mut out), Ok(()));
            assert_eq!(out.len(), length);
            if let Some(short) = length.checked_sub(1) {
                assert_eq!(
                    decode(&input, short, &mut out),
                    Err(QpackError::StringSize(short))
                );
                assert!(out.capacity() <= 64);
            }
        }
    }
}
