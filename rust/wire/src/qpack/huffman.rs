//! The Huffman code of RFC 7541 appendix B, both ways.
//!
//! The code is canonical: the lengths alone determine it, and every table below is built from
//! them at compile time. The decoder looks at 13 bits at once and usually takes two symbols per
//! look; only codes longer than that (no letter, digit or common punctuation) go by length.

use super::QpackError;

/// Length in bits of the code of each symbol; 256 is the end-of-string symbol.
static LENGTHS: [u8; SYMBOLS] = [
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
const LOOK: usize = 13;
/// Looks that fit the bits at hand after a refill.
const LOOKS: usize = 56 / LOOK;
/// Symbols in a batch.
const BATCH: usize = 2 * LOOKS;

/// Length in bytes of `input` when encoded.
#[inline]
pub fn encoded_len(input: &[u8]) -> usize {
    let bits: usize = input
        .iter()
        .map(|&byte| usize::from(LENGTHS[usize::from(byte)]))
        .sum();
    bits.div_ceil(8)
}

/// Append `input`, encoded and padded, of which `len` is the [`encoded_len`].
pub fn encode(input: &[u8], len: usize, out: &mut Vec<u8>) {
    let start = out.len();
    // Room for whole words; what is written past the end is cut off.
    out.resize(start + len + 8, 0);
    let mut writer = Writer {
        out: out.get_mut(start..).unwrap_or_default(),
        bits: 0,
        count: 0,
    };
    let (blocks, tail) = input.as_chunks();
    for block in blocks {
        let [a, b, c, d] = block.map(|byte| CODES[usize::from(byte)]);
        let length = a.1 + b.1 + c.1 + d.1;
        if length <= 32 {
            let ab = u64::from(a.0) << b.1 | u64::from(b.0);
            let cd = u64::from(c.0) << d.1 | u64::from(d.0);
            writer.push(ab << (c.1 + d.1) | cd, length);
        } else {
            for (code, length) in [a, b, c, d] {
                writer.push(u64::from(code), length);
            }
        }
    }
    for &byte in tail {
        let (code, length) = CODES[usize::from(byte)];
        writer.push(u64::from(code), length);
    }
    // RFC 7541 §5.2: the last byte is filled up with ones.
    writer.push(u64::from(u8::MAX), 8);
    out.truncate(start + len);
}

/// Collects bits and writes them a word at a time.
struct Writer<'a> {
    out: &'a mut [u8],
    bits: u64,
    /// How many of the lowest bits are not written yet: less than 32 between calls.
    count: u32,
}

impl Writer<'_> {
    /// Append the lowest `length` bits, 1 to 32, of a number that has no others.
    #[inline]
    fn push(&mut self, bits: u64, length: u8) {
        self.bits = self.bits << length | bits;
        self.count += u32::from(length);
        // A word that is not full yet is written as well, and again when it is: that is cheaper
        // than a branch nobody can predict.
        let Some(word) = self.out.first_chunk_mut() else {
            return;
        };
        *word = ((self.bits << (64 - self.count) >> 32) as u32).to_be_bytes();
        let full = self.count / 32;
        self.count -= 32 * full;
        let written = 4 * full as usize;
        self.out = std::mem::take(&mut self.out)
            .get_mut(written..)
            .unwrap_or_default();
    }
}

/// Decode `input` into `out`, replacing what is there. A string of more than `max` bytes is
/// refused, and not much more than that is allocated.
pub fn decode(input: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), QpackError> {
    // The shortest code has 5 bits. Symbols are written a batch at a time, of which not all count.
    let room = (input.len() * 8 / 5).min(max) + BATCH;
    out.clear();
    out.resize(room, 0);
    let mut written = 0;
    let mut reader = Reader {
        input,
        bits: 0,
        count: 0,
    };
    loop {
        let Some(slot) = out.get_mut(written..).and_then(<[u8]>::first_chunk_mut) else {
            return Err(QpackError::StringSize(max));
        };
        let (symbols, symbol_count) = match reader.batch() {
            (_, 0) => match reader.long_symbol() {
                Some(symbol) => (u64::from(symbol), 1),
                None => break,
            },
            batch => batch,
        };
        *slot = symbols.to_le_bytes();
        written += symbol_count;
        // Padding that is not all ones has been decoded as if ones came after it.
        if reader.count < 0 {
            return Err(QpackError::Huffman);
        }
    }
    if written > max {
        return Err(QpackError::StringSize(max));
    }
    out.truncate(written);
    // RFC 7541 §5.2: less than 8 bits of padding, all ones.
    let is_padding = reader.count < 8 && reader.bits == u64::MAX;
    if is_padding {
        Ok(())
    } else {
        Err(QpackError::Huffman)
    }
}

/// The bits not decoded yet. The input is followed by ones without end, which no short code
/// starts with.
struct Reader<'a> {
    input: &'a [u8],
    /// From the top.
    bits: u64,
    /// How many of them are certainly there and belong to the input.
    count: i32,
}

impl Reader<'_> {
    /// Up to [`BATCH`] symbols, the first in the lowest byte, and how many they are: none where
    /// the next code is a long one or the input is at its end.
    #[inline]
    fn batch(&mut self) -> (u64, usize) {
        self.refill();
        let (mut symbols, mut shift, mut taken) = (0, 0, 0);
        for _ in 0..LOOKS {
            let entry = LOOKUP[(self.bits >> (u64::BITS as usize - LOOK)) as usize];
            self.bits = self.bits.wrapping_shl(entry.0);
            symbols |= u64::from(entry.symbols()) << shift;
            shift += entry.symbol_bits();
            taken += entry.code_bits();
        }
        self.count -= taken as i32;
        (symbols, shift as usize / 8)
    }

    /// The symbol of a long code; `None` when the input is at its end, or should be.
    fn long_symbol(&mut self) -> Option<u8> {
        let (symbol, length) = long_code(self.bits)?;
        if i32::from(length) > self.count {
            return None;
        }
        self.bits <<= length;
        self.count -= i32::from(length);
        Some(symbol)
    }

    /// Have 56 bits, ones where the input ends.
    #[inline]
    fn refill(&mut self) {
        let Some(word) = self.input.first_chunk() else {
            return self.refill_at_end();
        };
        // While the input lasts, no more is taken than is there: 0 to 63 bits are left.
        let count = self.count as u32 % u64::BITS;
        self.add(u64::from_be_bytes(*word), count, (63 - count) as usize / 8);
    }

    fn refill_at_end(&mut self) {
        let Ok(count @ 0..64) = u32::try_from(self.count) else {
            return;
        };
        let left = self.input.len();
        let last = self
            .input
            .iter()
            .fold(u64::MAX, |word, &byte| word << 8 | u64::from(byte));
        let word = last.rotate_right(8 * left as u32);
        self.add(word, count, left.min((63 - count) as usize / 8));
    }

    /// Append the first `bytes` of the input, which stand at the top of `word`.
    #[inline]
    fn add(&mut self, word: u64, count: u32, bytes: usize) {
        self.bits |= word >> count;
        self.input = self.input.get(bytes..).unwrap_or_default();
        self.count += 8 * bytes as i32;
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

/// What the next [`LOOK`] bits decode to, from the lowest byte: bits of all codes, two symbols
/// (zero where there is none), bits of the symbols, bits of the first code. All zero for the start
/// of a longer code. The first byte is where a shift wants it, which is what the speed hangs on.
#[derive(Clone, Copy)]
struct Entry(u32);

impl Entry {
    const fn code_bits(self) -> u32 {
        self.0 & 0xff
    }
    const fn symbols(self) -> u16 {
        (self.0 >> 8) as u16
    }
    const fn symbol_bits(self) -> u32 {
        self.0 >> 24
    }
}

/// The codes of one length: consecutive numbers from `first`, for the symbols of [`SORTED`] from
/// `start`.
#[derive(Clone, Copy)]
struct Range {
    first: u32,
    count: u32,
    start: u16,
}

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
    let mut single = [(0, 0); 1 << LOOK];
    let mut symbol = 0;
    while symbol < EOS {
        let (code, length) = TABLES.0[symbol];
        if length as usize <= LOOK {
            let spare = LOOK - length as usize;
            let mut tail = 0;
            while tail < 1 << spare {
                single[((code as usize) << spare) | tail] = (symbol as u32, length as u32);
                tail += 1;
            }
        }
        symbol += 1;
    }
    let mut table = [Entry(0); 1 << LOOK];
    let mut window = 0;
    while window < 1 << LOOK {
        let (a, a_length) = single[window];
        let (b, b_length) = single[(window << a_length) & ((1 << LOOK) - 1)];
        let both = a_length + b_length;
        table[window] = if a_length == 0 {
            Entry(0)
        } else if b_length == 0 || both as usize > LOOK {
            Entry(a_length | a << 8 | 8 << 24)
        } else {
            Entry(both | a << 8 | b << 16 | 16 << 24)
        };
        window += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(input, encoded_len(input), &mut out);
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
