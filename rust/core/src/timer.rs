//! Deadlines of one kind: all are set the same distance ahead, so a queue keeps them in order.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Time;

/// Streams waiting for one kind of timeout. Entries are not removed when their stream moves on;
/// whoever takes them checks, and [`Deadlines::prune`] keeps the front honest.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    queue: VecDeque<(Time, u64)>,
}

impl Deadlines {
    pub(crate) fn push(&mut self, now: Time, after: Duration, id: u64) {
        self.queue.push_back((now.saturating_add(after), id));
    }

    /// Drops leading entries that no longer wait.
    pub(crate) fn prune(&mut self, mut waits: impl FnMut(u64) -> bool) {
        while self.queue.front().is_some_and(|&(_, id)| !waits(id)) {
            self.queue.pop_front();
        }
        if self.queue.is_empty() {
            self.queue.shrink_to(8);
        }
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

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}
