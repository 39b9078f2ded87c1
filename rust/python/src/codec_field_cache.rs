//! Fields that were decoded, and lines that were encoded, before.
//!
//! Without a dynamic table the same bytes always mean the same field, and the clients of a server
//! send the same `:authority`, `user-agent` or `:protocol` line again and again. Finding the Python
//! tuple of last time takes a fraction of what decoding the strings and creating it anew takes;
//! finding the line of last time, of what Huffman coding takes.
//!
//! Both are bounded (at most [`SLOTS`](crate::codec_recurring::SLOTS) lines of [`MAX_LINE`] bytes,
//! which decode to less than [`MAX_LINE`] * 8 / 5), and never hold what its sender marked as
//! sensitive, credentials or cookies.

use std::sync::{Mutex, MutexGuard};

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pywt_wire::qpack::{self, static_table, EncodedLine, Huffman, Representation};

use crate::codec_recurring::{hash, mix, Recurring};

/// Long enough for the `user-agent` of a browser.
const MAX_LINE: usize = 192;
/// A shorter value is encoded as fast as it is found.
const MIN_VALUE: usize = 32;

/// Fields by the line that they are decoded from.
pub(crate) struct FieldCache(Recurring<KnownField>);

struct KnownField {
    line: Box<[u8]>,
    field: Py<PyTuple>,
    size: usize,
}

impl FieldCache {
    /// The cache, for as long as nobody else has it. Creating objects can run the garbage
    /// collector and so any Python code, which may decode a section itself: it goes without.
    pub(crate) fn lock() -> Option<MutexGuard<'static, Self>> {
        static CACHE: Mutex<FieldCache> = Mutex::new(FieldCache(Recurring::new()));
        CACHE.try_lock().ok()
    }

    /// The field of these bytes, and the bytes of its name and value.
    #[inline]
    pub(crate) fn get<'py>(
        &self,
        py: Python<'py>,
        line: &EncodedLine<'_>,
    ) -> Option<(Bound<'py, PyTuple>, usize)> {
        if line.bytes.len() > MAX_LINE {
            return None;
        }
        let known = self.0.get(hash(line.bytes))?;
        (*known.line == *line.bytes).then(|| (known.field.bind(py).clone(), known.size))
    }

    /// Remember what [`FieldCache::get`] did not know.
    pub(crate) fn insert(
        &mut self,
        line: &EncodedLine<'_>,
        field: &Bound<'_, PyTuple>,
        size: usize,
    ) {
        if line.bytes.len() > MAX_LINE || line.never_indexed || names_secret(line) {
            return;
        }
        self.0.offer(hash(line.bytes), || KnownField {
            line: line.bytes.into(),
            field: field.clone().unbind(),
            size,
        });
    }
}

fn names_secret(line: &EncodedLine<'_>) -> bool {
    let Representation::NameReference { index, .. } = line.representation else {
        return false;
    };
    static_table::get(index).is_some_and(|(name, _)| is_secret(name))
}

/// Names of fields that carry secrets.
fn is_secret(name: &[u8]) -> bool {
    matches!(
        name,
        b"authorization" | b"cookie" | b"proxy-authorization" | b"set-cookie"
    )
}

/// Lines by the field that they are encoded from, with Huffman where that is shorter.
pub(crate) struct LineCache(Recurring<KnownLine>);

struct KnownLine {
    name: Box<[u8]>,
    value: Box<[u8]>,
    line: Box<[u8]>,
}

impl LineCache {
    pub(crate) const fn new() -> Self {
        Self(Recurring::new())
    }

    /// Append one field, as [`qpack::encode_field`] does.
    #[inline]
    pub(crate) fn encode(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        if value.len() < MIN_VALUE || name.len() + value.len() > MAX_LINE || is_secret(name) {
            return qpack::encode_field(name, value, Huffman::WhenShorter, out);
        }
        let hash = mix(hash(value), hash(name));
        match self.0.get(hash) {
            Some(known) if *known.value == *value && *known.name == *name => {
                out.extend_from_slice(&known.line);
            }
            _ => {
                let start = out.len();
                qpack::encode_field(name, value, Huffman::WhenShorter, out);
                self.0.offer(hash, || KnownLine {
                    name: name.into(),
                    value: value.into(),
                    line: out.get(start..).unwrap_or_default().into(),
                });
            }
        }
    }
}
