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
            let never_indexed = if is_sensitive(name) { 0x10 } else { 0 };
            encode_string(name, 3, 0x20 | never_indexed, huffman, out);
            encode_string(value, 7, 0, huffman, out);
        }
    }
}

/// Credentials must not enter a dynamic table further on, where their length leaks
/// (RFC 9204 §7.1.3).
fn is_sensitive(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"proxy-authorization")
}

/// §4.1.2: the H bit stands directly above the length.
#[inline]
fn encode_string(string: &[u8], prefix: u32, flags: u8, policy: Huffman, out: &mut Vec<u8>) {
    if policy == Huffman::WhenShorter {
        let len = huffman::encoded_len(string);
        if len < string.len() {
            prefix_int::encode(len as u64, prefix, flags | 1 << prefix, out);
            huffman::encode(string, out);
            return;
        }
    }
    prefix_int::encode(string.len() as u64, prefix, flags, out);
    out.extend_from_slice(string);
}
