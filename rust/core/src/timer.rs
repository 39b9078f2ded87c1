//! Deadlines of one kind: all are set the same distance ahead, so a queue keeps them in order.

use std::collections::VecDeque;

use crate::Time;

/// Streams waiting for one kind of timeout. The stream holds its deadline, an entry here is a hint:
/// it stays when its stream moves on; whoever takes it checks, and the queue sheds such entries before it grows, so that its length follows the
/// streams that do wait and not the rate at which they come and go.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    queue: VecDeque<(Time, u64)>,
}

impl Deadlines {
    /// Adds a deadline; `waits` tells which entries still mean something.
    pub(crate) fn push(&mut self, due: Time, id: u64, waits: impl Fn(u64, Time) -> bool) {
        let capacity = self.queue.capacity();
        if self.queue.len() == capacity {
            self.queue.retain(|&(at, id)| waits(id, at));
            if self.queue.len() > capacity / 2 {
                self.queue.reserve(capacity);
            }
        }
        self.queue.push_back((due, id));
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.queue.front().map(|&(at, _)| at)
    }

    pub(crate) fn pop_due(&mut self, now: Time) -> Option<u64> {
        if self.next()? > now {
            return None;
        }
        let due = self.queue.pop_front();
        shed(&mut self.queue);
        due.map(|(_, id)| id)
    }
}

/// Gives back what an empty queue holds of a burst that is over.
pub(crate) fn shed<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() && queue.capacity() > KEPT {
        *queue = VecDeque::new();
    }
}

/// Places that an empty queue keeps.
const KEPT: usize = 256;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const AFTER: Duration = Duration::from_secs(1);

    #[test]
    fn entries_that_no_longer_wait_do_not_accumulate() {
        let mut deadlines = Deadlines::default();
        for id in 0..1_000_000 {
            deadlines.push(AFTER, id, |other, _| other % 100_000 == 0);
        }
        assert!(
            deadlines.queue.capacity() <= 64,
            "{}",
            deadlines.queue.capacity()
        );
    }

    #[test]
    fn only_what_is_due_comes_out() {
        let mut deadlines = Deadlines::default();
        deadlines.push(AFTER, 7, |_, _| true);
        assert_eq!(deadlines.next(), Some(AFTER));
        assert_eq!(deadlines.pop_due(Time::ZERO), None);
        assert_eq!(deadlines.pop_due(AFTER), Some(7));
        assert_eq!(deadlines.pop_due(AFTER), None);
    }
}
