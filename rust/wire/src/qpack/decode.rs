//! Field section to fields (RFC 9204 §4.5).

use std::iter::FusedIterator;

use bytes::Bytes;

use super::instructions::StringLiteral;
use super::{huffman, prefix_int, static_table, Field, QpackError, FIELD_OVERHEAD, MAX_FIELDS};

/// How large a section may become while it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes in all: names, values, and [`FIELD_OVERHEAD`] for each field. Also bounds every
    /// string, and so every allocation.
    pub max_size: usize,
    /// Most fields.
    pub max_fields: usize,
}

impl Limits {
    /// `max_size` and [`MAX_FIELDS`].
    pub const fn new(max_size: usize) -> Self {
        Self {
            max_size,
            max_fields: MAX_FIELDS,
        }
    }
}

/// What is left of the [`Limits`] while a section is decoded.
#[derive(Debug, Clone)]
pub struct Budget {
    limits: Limits,
    size: usize,
    fields: usize,
}

impl Budget {
    /// All of it is left.
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            size: limits.max_size,
            fields: limits.max_fields,
        }
    }

    /// Pay for a field, apart from its strings. Call it before the field is decoded.
    #[inline]
    pub fn take_field(&mut self) -> Result<(), QpackError> {
        let fields = self.fields.checked_sub(1);
        self.fields = fields.ok_or(QpackError::FieldCount(self.limits.max_fields))?;
        self.take(FIELD_OVERHEAD)
    }

    /// Pay for so many bytes of name or value.
    #[inline]
    pub fn take(&mut self, bytes: usize) -> Result<(), QpackError> {
        let size = self.size.checked_sub(bytes);
        self.size = size.ok_or(QpackError::SectionSize(self.limits.max_size))?;
        Ok(())
    }
}

/// A field as it stands on the wire, its strings not decoded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodedLine<'a> {
    /// All bytes of it. Without a dynamic table the same bytes always mean the same field.
    pub bytes: &'a [u8],
    /// What they are.
    pub representation: Representation<'a>,
    /// The sender asked that no intermediary puts it into a dynamic table (RFC 9204 §7.1.3).
    pub never_indexed: bool,
}

/// The forms of a field that need no dynamic table. Each index is one of the static table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation<'a> {
    /// §4.5.2: name and value by index.
    Indexed(usize),
    /// §4.5.6: name and value as strings.
    Literal {
        /// The name.
        name: StringLiteral<'a>,
        /// The value.
        value: StringLiteral<'a>,
    },
    /// §4.5.4: the name by index.
    NameReference {
        /// The index.
        index: usize,
        /// The value.
        value: StringLiteral<'a>,
    },
}

/// Name and value, borrowed from the static table, the section, or the buffers of a [`Scratch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldLine<'a> {
    /// The name, as sent.
    pub name: &'a [u8],
    /// The value, as sent.
    pub value: &'a [u8],
}

/// Where Huffman strings are decoded; reused from line to line.
#[derive(Debug, Default)]
pub struct Scratch {
    name: Vec<u8>,
    value: Vec<u8>,
}

/// Decode a whole section of at most `max_size` bytes (as [`Limits::max_size`] counts) and
/// [`MAX_FIELDS`] fields.
pub fn decode_section(section: &[u8], max_size: usize) -> Result<Vec<Field>, QpackError> {
    let mut budget = Budget::new(Limits::new(max_size));
    let mut scratch = Scratch::default();
    let mut fields = Vec::new();
    for line in parse_section(section)? {
        let line = line?;
        fields.push(line.decode(&mut budget, &mut scratch)?.into_field(&line));
    }
    Ok(fields)
}

/// Check the prefix of a whole section and find its lines. After an error nothing follows.
pub fn parse_section(section: &[u8]) -> Result<Lines<'_>, QpackError> {
    let mut cursor = Cursor { rest: section };
    cursor.prefix()?;
    Ok(Lines { cursor })
}

/// Iterator over the lines of a section.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Result<EncodedLine<'a>, QpackError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let start = self.cursor.rest;
        let &first = start.first()?;
        Some(match self.cursor.line(first) {
            Ok((representation, never_indexed)) => {
                let len = start.len() - self.cursor.rest.len();
                let bytes = start.get(..len).unwrap_or_default();
                Ok(EncodedLine {
                    bytes,
                    representation,
                    never_indexed,
                })
            }
            Err(error) => {
                self.cursor.rest = &[];
                Err(error)
            }
        })
    }
}

impl FusedIterator for Lines<'_> {}

impl<'a> EncodedLine<'a> {
    /// Decode the strings and pay for the field.
    #[inline]
    pub fn decode<'b>(
        &self,
        budget: &mut Budget,
        scratch: &'b mut Scratch,
    ) -> Result<FieldLine<'b>, QpackError>
    where
        'a: 'b,
    {
        budget.take_field()?;
        let (name, value) = match self.representation {
            Representation::Indexed(index) => {
                let (name, value) = static_entry(index)?;
                budget.take(name.len())?;
                budget.take(value.len())?;
                (name, value)
            }
            Representation::NameReference { index, value } => {
                let (name, _) = static_entry(index)?;
                budget.take(name.len())?;
                (name, value.decode_within(budget, &mut scratch.value)?)
            }
            Representation::Literal { name, value } => {
                let name = name.decode_within(budget, &mut scratch.name)?;
                (name, value.decode_within(budget, &mut scratch.value)?)
            }
        };
        Ok(FieldLine { name, value })
    }
}

impl<'a> StringLiteral<'a> {
    #[inline]
    fn decode_within<'b>(
        &self,
        budget: &mut Budget,
        buf: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], QpackError>
    where
        'a: 'b,
    {
        let string = if self.is_huffman {
            huffman::decode(self.bytes, budget.size, buf)?;
            &buf[..]
        } else {
            self.bytes
        };
        budget.take(string.len())?;
        Ok(string)
    }
}

impl FieldLine<'_> {
    /// An owned copy; what the static table has is not copied.
    fn into_field(self, line: &EncodedLine<'_>) -> Field {
        let copy = Bytes::copy_from_slice;
        match line.representation {
            Representation::Indexed(index) => match static_table::get(index) {
                Some((name, value)) => Field {
                    name: Bytes::from_static(name),
                    value: Bytes::from_static(value),
                },
                None => Field {
                    name: copy(self.name),
                    value: copy(self.value),
                },
            },
            Representation::NameReference { index, .. } => {
                let name = static_table::get(index)
                    .map_or_else(|| copy(self.name), |(name, _)| Bytes::from_static(name));
                Field {
                    name,
                    value: copy(self.value),
                }
            }
            Representation::Literal { .. } => Field {
                name: copy(self.name),
                value: copy(self.value),
            },
        }
    }
}

#[derive(Debug, Clone)]
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// §4.5.1: Required Insert Count and Base, which can only be zero. A negative Base is not
    /// allowed, a positive one is without meaning when nothing refers to it.
    #[inline]
    fn prefix(&mut self) -> Result<(), QpackError> {
        if self.int(8)? != 0 {
            return Err(QpackError::DynamicReference);
        }
        let is_negative = self.rest.first().is_some_and(|first| first & 0x80 != 0);
        self.int(7)?;
        if is_negative {
            Err(QpackError::DynamicReference)
        } else {
            Ok(())
        }
    }

    #[inline]
    fn line(&mut self, first: u8) -> Result<(Representation<'a>, bool), QpackError> {
        if first & 0x80 != 0 {
            // §4.5.2: 1 T index(6)
            let index = self.static_index(6, first & 0x40 != 0)?;
            Ok((Representation::Indexed(index), false))
        } else if first & 0x40 != 0 {
            // §4.5.4: 0 1 N T index(4)
            let index = self.static_index(4, first & 0x10 != 0)?;
            let value = self.string(7)?;
            Ok((
                Representation::NameReference { index, value },
                first & 0x20 != 0,
            ))
        } else if first & 0x20 != 0 {
            // §4.5.6: 0 0 1 N H length(3)
            let name = self.string(3)?;
            let value = self.string(7)?;
            Ok((Representation::Literal { name, value }, first & 0x10 != 0))
        } else {
            // §4.5.3 and §4.5.5, post-base: always the dynamic table
            Err(QpackError::DynamicReference)
        }
    }

    #[inline]
    fn int(&mut self, prefix: u32) -> Result<u64, QpackError> {
        let (value, len) = prefix_int::decode(self.rest, prefix)?.ok_or(QpackError::Truncated)?;
        self.rest = self.rest.get(len..).unwrap_or_default();
        Ok(value)
    }

    #[inline]
    fn static_index(&mut self, prefix: u32, is_static: bool) -> Result<usize, QpackError> {
        let index = self.int(prefix)?;
        if !is_static {
            return Err(QpackError::DynamicReference);
        }
        match usize::try_from(index) {
            Ok(index) if index < static_table::ENTRIES.len() => Ok(index),
            _ => Err(QpackError::StaticIndex(index)),
        }
    }

    /// §4.1.2: the length has `prefix` bits, the H bit stands above them.
    #[inline]
    fn string(&mut self, prefix: u32) -> Result<StringLiteral<'a>, QpackError> {
        let is_huffman = self
            .rest
            .first()
            .is_some_and(|first| first >> prefix & 1 == 1);
        let len = self.int(prefix)?;
        let split = usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.split_at_checked(len));
        let (bytes, rest) = split.ok_or(QpackError::Truncated)?;
        self.rest = rest;
        Ok(StringLiteral { is_huffman, bytes })
    }
}

#[inline]
fn static_entry(index: usize) -> Result<(&'static [u8], &'static [u8]), QpackError> {
    static_table::get(index).ok_or(QpackError::StaticIndex(index as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::error;
    use crate::qpack::encode_section;

    fn section(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_section(fields.iter().copied(), &mut out);
        out
    }

    #[test]
    fn the_size_limit_holds_at_the_limit_and_one_past_it() {
        for fields in [
            &[(":method", "CONNECT")][..],
            &[(":path", "/chat/room")],
            &[("x-name", "abcdefgh"), ("y", "")],
            &[("x-name", "\u{1}\u{2}\u{3}")],
        ] {
            let input = section(fields);
            let size = fields
                .iter()
                .map(|(name, value)| name.len() + value.len() + 32)
                .sum();
            assert_eq!(
                decode_section(&input, size).map(|f| f.len()),
                Ok(fields.len())
            );
            let error = decode_section(&input, size - 1).unwrap_err();
            assert!(error.is_limit(), "{error:?}");
            assert_eq!(error.code(), error::H3_EXCESSIVE_LOAD);
        }
    }

    #[test]
    fn the_field_limit_holds_at_the_limit_and_one_past_it() {
        let one_byte_each = |count| [vec![0, 0], vec![0xd9; count]].concat();
        let decode = |count| decode_section(&one_byte_each(count), usize::MAX).map(|f| f.len());
        assert_eq!(decode(MAX_FIELDS), Ok(MAX_FIELDS));
        assert_eq!(
            decode(MAX_FIELDS + 1),
            Err(QpackError::FieldCount(MAX_FIELDS))
        );
    }

    #[test]
    fn a_declared_string_length_allocates_nothing_by_itself() {
        // 2^62-1 bytes declared, none there.
        let mut input = vec![0, 0];
        prefix_int::encode(15, 4, 0x50, &mut input);
        prefix_int::encode(crate::varint::MAX, 7, 0x80, &mut input);
        assert_eq!(
            decode_section(&input, usize::MAX),
            Err(QpackError::Truncated)
        );
    }

    #[test]
    fn only_a_non_negative_base_is_accepted() {
        assert_eq!(
            decode_section(&[0, 0x05, 0xd9], 100).map(|f| f.len()),
            Ok(1)
        );
        assert_eq!(
            decode_section(&[0, 0x80, 0xd9], 100),
            Err(QpackError::DynamicReference)
        );
    }

    #[test]
    fn lines_keep_their_bytes_and_the_never_indexed_bit() {
        let input = [0, 0, 0x7f, 0x45, 1, b'x', 0xd9, 0x31, b'n', 0];
        let lines: Vec<_> = parse_section(&input).unwrap().map(Result::unwrap).collect();
        let value = StringLiteral {
            is_huffman: false,
            bytes: b"x",
        };
        assert_eq!(
            lines[0].representation,
            Representation::NameReference { index: 84, value }
        );
        assert_eq!(lines[1].representation, Representation::Indexed(25));
        let found: Vec<_> = lines
            .iter()
            .map(|line| (line.bytes, line.never_indexed))
            .collect();
        assert_eq!(
            found,
            [
                (&input[2..6], true),
                (&input[6..7], false),
                (&input[7..], true)
            ]
        );
    }

    #[test]
    fn nothing_follows_an_error() {
        let mut lines = parse_section(&[0, 0, 0xff, 0x24, 0xd9]).unwrap();
        assert_eq!(lines.next(), Some(Err(QpackError::StaticIndex(99))));
        assert_eq!(lines.next(), None);
    }
}
