//! Bounded queues of datagrams: the newest are kept, the oldest dropped and counted.

use std::collections::VecDeque;

use bytes::Bytes;

/// A queue bounded by count and bytes.
#[derive(Debug, Default)]
pub(crate) struct DatagramQueue {
    items: VecDeque<Bytes>,
    bytes: usize,
}

/// Bounds of a [`DatagramQueue`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatagramLimits {
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

impl DatagramQueue {
    /// Appends and returns how many of the oldest had to go for it. One datagram always fits.
    pub(crate) fn push(&mut self, data: Bytes, limits: DatagramLimits) -> u64 {
        let mut dropped = 0;
        while self.is_full_for(data.len(), limits) && self.pop().is_some() {
            dropped += 1;
        }
        self.bytes += data.len();
        self.items.push_back(data);
        dropped
    }

    fn is_full_for(&self, len: usize, limits: DatagramLimits) -> bool {
        self.items.len() >= limits.count.max(1)
            || (!self.items.is_empty() && self.bytes + len > limits.bytes)
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let data = self.items.pop_front()?;
        self.bytes -= data.len();
        Some(data)
    }

    /// Puts back what was popped last.
    pub(crate) fn unpop(&mut self, data: Bytes) {
        self.bytes += data.len();
        self.items.push_front(data);
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: DatagramLimits = DatagramLimits {
        count: 3,
        bytes: 10,
    };

    #[test]
    fn at_the_count_limit_nothing_is_dropped_and_one_more_drops_the_oldest() {
        let mut queue = DatagramQueue::default();
        for byte in 0..3 {
            assert_eq!(queue.push(vec![byte].into(), LIMITS), 0);
        }
        assert_eq!(queue.push(vec![3].into(), LIMITS), 1);
        assert_eq!(queue.pop().as_deref(), Some(&[1][..]));
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn at_the_byte_limit_nothing_is_dropped_and_one_more_drops_enough() {
        let mut queue = DatagramQueue::default();
        assert_eq!(queue.push(vec![0; 4].into(), LIMITS), 0);
        assert_eq!(queue.push(vec![0; 6].into(), LIMITS), 0);
        assert_eq!(queue.push(vec![0; 5].into(), LIMITS), 2);
        assert_eq!(queue.push(vec![0; 100].into(), LIMITS), 1);
        assert_eq!(queue.pop().map(|data| data.len()), Some(100));
        assert_eq!(queue.len(), 0);
    }
}
