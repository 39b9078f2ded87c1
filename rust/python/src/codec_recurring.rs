//! A bounded memory of what comes again and again.

/// How many are remembered.
pub(crate) const SLOTS: usize = 256;

/// Something that comes twice in a row at its slot is kept, so that what comes once does not push
/// out what comes often.
pub(crate) struct Recurring<T> {
    slots: Vec<Slot<T>>,
}

struct Slot<T> {
    /// The hash of what came by last.
    candidate: u64,
    known: Option<T>,
}

impl<T> Recurring<T> {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// What is at the place of this hash, which may be another's.
    #[inline]
    pub(crate) fn get(&self, hash: u64) -> Option<&T> {
        self.slots.get(position(hash))?.known.as_ref()
    }

    /// Tell of what [`Recurring::get`] did not know.
    #[inline]
    pub(crate) fn offer(&mut self, hash: u64, make: impl FnOnce() -> T) {
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || Slot {
                candidate: 0,
                known: None,
            });
        }
        let Some(slot) = self.slots.get_mut(position(hash)) else {
            return;
        };
        if slot.candidate == hash {
            slot.known = Some(make());
        }
        slot.candidate = hash;
    }
}

/// Good enough for lines of the wire, and fast. A peer that makes lines collide slows down only
/// the decoding of its own.
#[inline]
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut state = bytes.len() as u64;
    if let Some(last) = bytes.last_chunk() {
        let (words, _) = bytes.as_chunks();
        for word in words.iter().chain([last]) {
            state = mix(state, u64::from_le_bytes(*word));
        }
    } else {
        for &byte in bytes {
            state = mix(state, u64::from(byte));
        }
    }
    state
}

/// A hash of two.
#[inline]
pub(crate) fn mix(state: u64, word: u64) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    (state.rotate_left(5) ^ word).wrapping_mul(FACTOR)
}

#[inline]
fn position(hash: u64) -> usize {
    (hash >> 48) as usize % SLOTS
}
