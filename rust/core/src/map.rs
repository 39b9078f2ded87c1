//! Maps and sets of stream ids, for the hot path.
//!
//! Stream ids are handed out in sequence and their number is bounded by QUIC, so the hash only
//! has to spread them; it does not have to resist an attacker who chooses keys freely.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

pub(crate) type IdMap<V> = HashMap<u64, V, BuildHasherDefault<IdHasher>>;
pub(crate) type IdSet = HashSet<u64, BuildHasherDefault<IdHasher>>;

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

/// The streams of one kind that the peer was seen to use, as ranges of their numbers in order.
///
/// A stream between two ranges is open for QUIC, which lets the peer have so many open and no
/// more: QUIC's stream limit bounds the number of ranges.
#[derive(Debug, Default)]
pub(crate) struct Seen(Vec<(u64, u64)>);

impl Seen {
    /// Notes a stream; false when it was seen before.
    pub(crate) fn insert(&mut self, id: u64) -> bool {
        let number = id >> 2;
        let ranges = &mut self.0;
        // `at`: the first range that begins behind it.
        let at = match ranges.last() {
            Some(&(first, _)) if first <= number => ranges.len(),
            _ => ranges.partition_point(|&(first, _)| first <= number),
        };
        let joins_next = ranges
            .get(at)
            .is_some_and(|&(first, _)| first == number.saturating_add(1));
        if let Some((_, last)) = at.checked_sub(1).and_then(|before| ranges.get_mut(before)) {
            if number <= *last {
                return false;
            }
            if number == last.saturating_add(1) {
                *last = number;
                if joins_next {
                    let (_, end) = ranges.remove(at);
                    if let Some((_, last)) = ranges.get_mut(at - 1) {
                        *last = end;
                    }
                }
                return true;
            }
        }
        match ranges.get_mut(at) {
            Some((first, _)) if joins_next => *first = number,
            _ => ranges.insert(at, (number, number)),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn seen_is_a_set_of_ranges(numbers in prop::collection::vec(0..40u64, 0..60)) {
            let (mut seen, mut set) = (Seen::default(), HashSet::new());
            for number in numbers {
                prop_assert_eq!(seen.insert(number << 2), set.insert(number));
                for pair in seen.0.windows(2) {
                    prop_assert!(pair[0].1 + 1 < pair[1].0, "{:?}", seen.0);
                }
            }
            let held: u64 = seen.0.iter().map(|(first, last)| last - first + 1).sum();
            prop_assert_eq!(held, set.len() as u64);
        }
    }

    #[test]
    fn a_million_streams_with_a_few_gaps_are_a_few_ranges() {
        let mut seen = Seen::default();
        for number in (0..1_000_000u64).filter(|number| number % 100_000 != 7) {
            assert!(seen.insert(number << 2 | 2));
        }
        assert_eq!(seen.0.len(), 11);
    }
}
