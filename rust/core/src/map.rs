//! A map from stream ids, for the hot path.
//!
//! Stream ids are handed out in sequence and their number is bounded by QUIC, so the hash only
//! has to spread them; it does not have to resist an attacker who chooses keys freely.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

pub(crate) type IdMap<V> = HashMap<u64, V, BuildHasherDefault<IdHasher>>;

#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        // Multiplication by an odd constant carries upwards only; the rotation brings the well
        // mixed high half down to where the table takes its bucket from.
        self.0 = id.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}
