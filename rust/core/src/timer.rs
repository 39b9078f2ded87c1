//! Deadlines of one kind: all are set the same distance ahead, so a queue keeps them in order.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;

/// Streams waiting for one kind of timeout. An entry stays when its stream moves on; whoever takes
/// it checks, and the queue sheds such entries before it grows, so that its length follows the
/// streams that do wait and not the rate at which they come and go.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    queue: VecDeque<(Time, u64)>,
}

impl Deadlines {
    /// Adds a deadline; `waits` tells which entries still mean something.
    pub(crate) fn push(
        &mut self,
        now: Time,
        after: Duration,
        id: u64,
        waits: impl Fn(u64) -> bool,
    ) {
        let capacity = self.queue.capacity();
        if self.queue.len() == capacity {
            self.queue.retain(|&(_, id)| waits(id));
            if self.queue.len() > capacity / 2 {
                self.queue.reserve(capacity);
            }
        }
        self.queue.push_back((now.saturating_add(after), id));
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.queue.front().map(|&(at, _)| at)
    }

    pub(crate) fn pop_due(&mut self, now: Time) -> Option<u64> {
        if self.next()? > now {
            return None;
        }
        self.queue.pop_front().map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(1);

    #[test]
    fn entries_that_no_longer_wait_do_not_accumulate() {
        let mut deadlines = Deadlines::default();
        for id in 0..1_000_000 {
            deadlines.push(Time::ZERO, AFTER, id, |other| other % 100_000 == 0);
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
        deadlines.push(Time::ZERO, AFTER, 7, |_| true);
        assert_eq!(deadlines.next(), Some(AFTER));
        assert_eq!(deadlines.pop_due(Time::ZERO), None);
        assert_eq!(deadlines.pop_due(AFTER), Some(7));
        assert_eq!(deadlines.pop_due(AFTER), None);
    }
}
