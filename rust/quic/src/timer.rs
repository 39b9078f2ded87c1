//! The earliest of many deadlines, one per connection.

use std::collections::BTreeSet;
use std::time::Instant;

/// One deadline per slot, ordered by time. Setting a slot replaces its deadline.
#[derive(Debug, Default)]
pub struct Deadlines {
    order: BTreeSet<(Instant, usize)>,
    slots: Vec<Option<Instant>>,
}

impl Deadlines {
    /// Sets or clears the deadline of a slot.
    pub fn set(&mut self, slot: usize, deadline: Option<Instant>) {
        if slot >= self.slots.len() {
            if deadline.is_none() {
                return;
            }
            self.slots.resize(slot + 1, None);
        }
        if let Some(entry) = self.slots.get_mut(slot) {
            if *entry == deadline {
                return;
            }
            if let Some(old) = std::mem::replace(entry, deadline) {
                self.order.remove(&(old, slot));
            }
            if let Some(new) = deadline {
                self.order.insert((new, slot));
            }
        }
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes one slot whose deadline has passed.
    pub fn pop_expired(&mut self, now: Instant) -> Option<usize> {
        let (at, slot) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.set(slot, None);
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_slot_holds_one_deadline_and_expires_in_order() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut deadlines = Deadlines::default();
        deadlines.set(3, Some(at(30)));
        deadlines.set(1, Some(at(20)));
        deadlines.set(3, Some(at(10)));
        assert_eq!(deadlines.next(), Some(at(10)));
        assert_eq!(deadlines.pop_expired(at(5)), None);
        assert_eq!(deadlines.pop_expired(at(25)), Some(3));
        assert_eq!(deadlines.pop_expired(at(25)), Some(1));
        assert_eq!(deadlines.pop_expired(at(25)), None);
        assert_eq!(deadlines.next(), None);
    }
}
