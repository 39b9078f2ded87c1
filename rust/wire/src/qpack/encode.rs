//! Fields to field section (RFC 9204 §4.5), with the static table and literals only.

use super::static_table::{self, Match};
use super::{huffman, prefix_int};

/// When a literal is Huffman-coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Huffman {
    /// Never: literals stay readable.
    Never,
    /// When that is shorter.
    WhenShorter,
}

/// Append a whole section, with Huffman where it is shorter.
pub fn encode_section<N, V>(fields: impl IntoIterator<Item = (N, V)>, out: &mut Vec<u8>)
where
    N: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    encode_section_with(fields, Huffman::WhenShorter, out);
}

/// Append a whole section.
pub fn encode_section_with<N, V>(
    fields: impl IntoIterator<Item = (N, V)>,
    huffman: Huffman,
    out: &mut Vec<u8>,
) where
    N: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    encode_prefix(out);
    for (name, value) in fields {
        encode_field(name.as_ref(), value.as_ref(), huffman, out);
    }
}

/// Append what every section starts with: Required Insert Count and Base, both zero (§4.5.1).
#[inline]
pub fn encode_prefix(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
}

/// Append one field. Names must be in lower case already; nothing here validates HTTP.
#[inline]
pub fn encode_field(name: &[u8], value: &[u8], huffman: Huffman, out: &mut Vec<u8>) {
    match static_table::find(name, value) {
        Match::Field(index) => prefix_int::encode(index as u64, 6, 0xc0, out),
        Match::Name(index) => {
            let never_indexed = if is_sensitive(name) { 0x20 } else { 0 };
            prefix_int::encode(index as u64, 4, 0x50 | never_indexed, out);
            encode_string(value, 7, 0, huffman, out);
        }
        Match::Nothing => {
            match known_name(name) {
                Some(encoded) if huffman == Huffman::WhenShorter => out.extend_from_slice(encoded),
                _ => {
                    let never_indexed = if is_sensitive(name) { 0x10 } else { 0 };
                    encode_string(name, 3, 0x20 | never_indexed, huffman, out);
                }
            }
            encode_string(value, 7, 0, huffman, out);
        }
    }
}

/// Credentials must not enter a dynamic table further on, where their length leaks
/// (RFC 9204 §7.1.3).
fn is_sensitive(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"proxy-authorization")
}

/// The encoded name, if it is one of [`KNOWN_NAMES`].
fn known_name(name: &[u8]) -> Option<&'static [u8]> {
    KNOWN_NAMES
        .iter()
        .find(|known| known.0.as_bytes() == name)
        .map(|known| known.1)
}

/// §4.1.2: the H bit stands directly above the length.
#[inline]
fn encode_string(string: &[u8], prefix: u32, flags: u8, policy: Huffman, out: &mut Vec<u8>) {
    if policy == Huffman::WhenShorter {
        let len = huffman::encoded_len(string);
        if len < string.len() {
            prefix_int::encode(len as u64, prefix, flags | 1 << prefix, out);
            huffman::encode(string, len, out);
            return;
        }
    }
    prefix_int::encode(string.len() as u64, prefix, flags, out);
    out.extend_from_slice(string);
}

/// The names of WebTransport's own fields, which no static table has, as literals with Huffman.
const KNOWN_NAMES: [(&str, &[u8]); 5] = [
    (
        ":protocol",
        &[0x2f, 0x00, 0xb9, 0x5d, 0x87, 0x49, 0xc8, 0x7a, 0x3f],
    ),
    (
        "wt-protocol",
        &[0x2f, 0x01, 0xf0, 0x95, 0xab, 0xb0, 0xe9, 0x39, 0x0f, 0x47],
    ),
    (
        "wt-available-protocols",
        &[
            0x2f, 0x09, 0xf0, 0x95, 0x87, 0xdc, 0x66, 0xa0, 0x71, 0xd0, 0x55, 0xab, 0xb0, 0xe9,
            0x39, 0x0f, 0x42, 0x3f,
        ],
    ),
    (
        "sec-webtransport-http3-draft",
        &[
            0x2f, 0x0d, 0x41, 0x48, 0xb7, 0x82, 0xc6, 0x9b, 0x07, 0x52, 0x2b, 0x3d, 0x89, 0x5a,
            0x74, 0xa6, 0xb6, 0x56, 0x92, 0xc1, 0xca, 0x9f,
        ],
    ),
    (
        "sec-webtransport-http3-draft02",
        &[
            0x2f, 0x0e, 0x41, 0x48, 0xb7, 0x82, 0xc6, 0x9b, 0x07, 0x52, 0x2b, 0x3d, 0x89, 0x5a,
            0x74, 0xa6, 0xb6, 0x56, 0x92, 0xc1, 0xca, 0x90, 0x0b,
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_what_encoding_gives() {
        for (name, encoded) in KNOWN_NAMES {
            let mut out = Vec::new();
            encode_string(name.as_bytes(), 3, 0x20, Huffman::WhenShorter, &mut out);
            assert_eq!(out, encoded);
            assert!(!is_sensitive(name.as_bytes()));
        }
    }
}
