//! Fields that were decoded before.
//!
//! Without a dynamic table the same bytes always mean the same field, and the clients of a server
//! send the same `:authority`, `origin` or `:protocol` line again and again. Finding the Python
//! tuple of last time takes a fraction of what decoding the strings and creating it anew takes.
//!
//! The cache is bounded (at most [`SLOTS`] lines of [`MAX_LINE`] bytes, which decode to less than
//! [`MAX_LINE`] * 8 / 5), and never holds what its sender marked as sensitive, credentials or
//! cookies.

use std::sync::{Mutex, MutexGuard};

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pywt_wire::qpack::{static_table, EncodedLine, Representation};

const SLOTS: usize = 256;
const MAX_LINE: usize = 64;

#[derive(Default)]
pub(crate) struct FieldCache {
    slots: Vec<Slot>,
}

#[derive(Default)]
struct Slot {
    /// The hash of the line that came by last. Only a line that comes twice in a row is kept, so
    /// that lines which come once do not push out those that come often.
    candidate: u64,
    known: Option<Known>,
}

struct Known {
    line: Box<[u8]>,
    field: Py<PyTuple>,
    size: usize,
}

impl FieldCache {
    /// The cache, for as long as nobody else has it. Creating objects can run the garbage
    /// collector and so any Python code, which may decode a section itself: it goes without.
    pub(crate) fn lock() -> Option<MutexGuard<'static, Self>> {
        static CACHE: Mutex<FieldCache> = Mutex::new(FieldCache { slots: Vec::new() });
        CACHE.try_lock().ok()
    }

    /// The field of these bytes, and the bytes of its name and value.
    #[inline]
    pub(crate) fn get<'py>(
        &self,
        py: Python<'py>,
        line: &EncodedLine<'_>,
    ) -> Option<(Bound<'py, PyTuple>, usize)> {
        let slot = self.slots.get(position(hash(line.bytes)))?;
        let known = slot.known.as_ref()?;
        (*known.line == *line.bytes).then(|| (known.field.bind(py).clone(), known.size))
    }

    /// Remember what [`FieldCache::get`] did not know.
    pub(crate) fn insert(
        &mut self,
        line: &EncodedLine<'_>,
        field: &Bound<'_, PyTuple>,
        size: usize,
    ) {
        if line.bytes.len() > MAX_LINE || line.never_indexed || is_sensitive(line) {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, Slot::default);
        }
        let hash = hash(line.bytes);
        let Some(slot) = self.slots.get_mut(position(hash)) else {
            return;
        };
        if slot.candidate == hash {
            let field = field.clone().unbind();
            slot.known = Some(Known {
                line: line.bytes.into(),
                field,
                size,
            });
        }
        slot.candidate = hash;
    }
}

/// Names of the static table that carry secrets.
fn is_sensitive(line: &EncodedLine<'_>) -> bool {
    let Representation::NameReference { index, .. } = line.representation else {
        return false;
    };
    static_table::get(index)
        .is_some_and(|(name, _)| matches!(name, b"authorization" | b"cookie" | b"set-cookie"))
}

/// Good enough for lines of the wire, and fast. A peer that makes lines collide slows down only
/// the decoding of its own.
#[inline]
fn hash(line: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |state: u64, word: u64| (state.rotate_left(5) ^ word).wrapping_mul(FACTOR);
    let mut state = line.len() as u64;
    if let Some(last) = line.last_chunk() {
        let (words, _) = line.as_chunks();
        for word in words.iter().chain([last]) {
            state = mix(state, u64::from_le_bytes(*word));
        }
    } else {
        for &byte in line {
            state = mix(state, u64::from(byte));
        }
    }
    state
}

#[inline]
fn position(hash: u64) -> usize {
    (hash >> 48) as usize % SLOTS
}
