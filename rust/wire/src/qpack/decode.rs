//! Field section to fields (RFC 9204 §4.5).

use bytes::Bytes;

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

/// One decoded field, borrowed until the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldLine<'a> {
    /// The name, as sent.
    pub name: &'a [u8],
    /// The value, as sent.
    pub value: &'a [u8],
    /// What of it came out of the static table.
    pub source: Source,
    /// The sender asked that no intermediary puts it into a dynamic table (RFC 9204 §7.1.3).
    pub never_indexed: bool,
}

/// What of a field came out of the static table, and from which index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Name and value.
    Field(usize),
    /// Only the name.
    Name(usize),
    /// Nothing.
    Literal,
}

/// Decode a whole section of at most `max_size` bytes (as [`Limits::max_size`] counts) and
/// [`MAX_FIELDS`] fields.
pub fn decode_section(section: &[u8], max_size: usize) -> Result<Vec<Field>, QpackError> {
    let mut fields = Vec::new();
    visit_section(section, Limits::new(max_size), |line| {
        fields.push(line.to_field());
        Ok::<_, QpackError>(())
    })?;
    Ok(fields)
}

/// Decode a whole section, one call of `visit` for each field. Limits are enforced before a field
/// is given out; `visit` can end the work with an error of its own.
pub fn visit_section<E: From<QpackError>>(
    section: &[u8],
    limits: Limits,
    mut visit: impl FnMut(FieldLine<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut cursor = Cursor { rest: section };
    cursor.prefix()?;
    let mut budget = Budget {
        limits,
        size: limits.max_size,
        fields: limits.max_fields,
    };
    let (mut name_buf, mut value_buf) = (Vec::new(), Vec::new());
    while let Some(&first) = cursor.rest.first() {
        budget.field()?;
        let line = if first & 0x80 != 0 {
            // §4.5.2, indexed: 1 T index(6)
            let index = cursor.static_index(6, first & 0x40 != 0)?;
            let (name, value) = static_entry(index)?;
            FieldLine {
                name,
                value,
                source: Source::Field(index),
                never_indexed: false,
            }
        } else if first & 0x40 != 0 {
            // §4.5.4, literal with name reference: 0 1 N T index(4)
            let index = cursor.static_index(4, first & 0x10 != 0)?;
            let (name, _) = static_entry(index)?;
            let left = budget.left_after(name)?;
            let value = cursor.string(7, left, &mut value_buf)?;
            let never_indexed = first & 0x20 != 0;
            FieldLine {
                name,
                value,
                source: Source::Name(index),
                never_indexed,
            }
        } else if first & 0x20 != 0 {
            // §4.5.6, literal with literal name: 0 0 1 N H length(3)
            let name = cursor.string(3, budget.size, &mut name_buf)?;
            let left = budget.left_after(name)?;
            let value = cursor.string(7, left, &mut value_buf)?;
            FieldLine {
                name,
                value,
                source: Source::Literal,
                never_indexed: first & 0x10 != 0,
            }
        } else {
            // §4.5.3 and §4.5.5, post-base: always the dynamic table
            return Err(QpackError::DynamicReference.into());
        };
        budget.take(&line)?;
        visit(line)?;
    }
    Ok(())
}

impl FieldLine<'_> {
    /// An owned copy; what the static table has is not copied.
    pub fn to_field(&self) -> Field {
        let entry = match self.source {
            Source::Field(index) | Source::Name(index) => static_table::get(index),
            Source::Literal => None,
        };
        match (entry, self.source) {
            (Some((name, value)), Source::Field(_)) => Field {
                name: Bytes::from_static(name),
                value: Bytes::from_static(value),
            },
            (Some((name, _)), _) => Field {
                name: Bytes::from_static(name),
                value: Bytes::copy_from_slice(self.value),
            },
            _ => Field {
                name: Bytes::copy_from_slice(self.name),
                value: Bytes::copy_from_slice(self.value),
            },
        }
    }
}

/// What is left of the limits.
struct Budget {
    limits: Limits,
    size: usize,
    fields: usize,
}

impl Budget {
    #[inline]
    fn field(&mut self) -> Result<(), QpackError> {
        let (Some(fields), Some(size)) = (
            self.fields.checked_sub(1),
            self.size.checked_sub(FIELD_OVERHEAD),
        ) else {
            return Err(match self.fields {
                0 => QpackError::FieldCount(self.limits.max_fields),
                _ => QpackError::SectionSize(self.limits.max_size),
            });
        };
        self.fields = fields;
        self.size = size;
        Ok(())
    }

    #[inline]
    fn left_after(&self, name: &[u8]) -> Result<usize, QpackError> {
        let left = self.size.checked_sub(name.len());
        left.ok_or(QpackError::SectionSize(self.limits.max_size))
    }

    #[inline]
    fn take(&mut self, line: &FieldLine<'_>) -> Result<(), QpackError> {
        let left = self.left_after(line.name)?.checked_sub(line.value.len());
        self.size = left.ok_or(QpackError::SectionSize(self.limits.max_size))?;
        Ok(())
    }
}

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
        let sign = self.rest.first().is_some_and(|first| first & 0x80 != 0);
        self.int(7)?;
        if sign {
            Err(QpackError::DynamicReference)
        } else {
            Ok(())
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
        usize::try_from(index).map_err(|_| QpackError::StaticIndex(index))
    }

    /// §4.1.2: a string whose length has `prefix` bits with the H bit above them. `buf` is only
    /// used for Huffman.
    #[inline]
    fn string<'b>(
        &mut self,
        prefix: u32,
        max: usize,
        buf: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], QpackError>
    where
        'a: 'b,
    {
        let is_huffman = self
            .rest
            .first()
            .is_some_and(|first| first >> prefix & 1 == 1);
        let len = self.int(prefix)?;
        let split = usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.split_at_checked(len));
        let (string, rest) = split.ok_or(QpackError::Truncated)?;
        self.rest = rest;
        if is_huffman {
            huffman::decode(string, max, buf)?;
            return Ok(buf);
        }
        if string.len() > max {
            return Err(QpackError::StringSize(max));
        }
        Ok(string)
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
    fn the_never_indexed_bit_and_the_source_are_reported() {
        let mut lines = Vec::new();
        let input = [0, 0, 0x7f, 0x45, 1, b'x', 0xd9, 0x31, b'n', 0];
        visit_section(&input, Limits::new(1000), |line| {
            lines.push((line.source, line.never_indexed));
            Ok::<_, QpackError>(())
        })
        .unwrap();
        let expected = [
            (Source::Name(84), true),
            (Source::Field(25), false),
            (Source::Literal, true),
        ];
        assert_eq!(lines, expected);
    }
}
