//! Memory for batches of packets that the kernel has joined. Whoever keeps a part of one packet
//! keeps its whole batch, 64 KB for a few bytes; so there are few batches, and no more copies are
//! made of packets than necessary.

use std::collections::VecDeque;

use bytes::BytesMut;

/// Buffers that are used again when nobody has a part of them any more.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    buffers: VecDeque<BytesMut>,
}

impl Batches {
    /// The packets of a batch, each of `stride` bytes but the last.
    pub(crate) fn split(&mut self, batch: &[u8], stride: usize, mut sink: impl FnMut(BytesMut)) {
        let stride = stride.max(1);
        let buffer = if batch.len() > stride {
            self.free_buffer()
        } else {
            None
        };
        let Some(mut buffer) = buffer else {
            for packet in batch.chunks(stride) {
                sink(BytesMut::from(packet));
            }
            return;
        };
        buffer.extend_from_slice(batch);
        while !buffer.is_empty() {
            sink(buffer.split_to(stride.min(buffer.len())));
        }
        // What is left is empty, and knows when the others are gone.
        self.buffers.push_back(buffer);
    }

    /// None when others keep all of them: their packets are then copied one by one.
    fn free_buffer(&mut self) -> Option<BytesMut> {
        for _ in 0..self.buffers.len().min(MAX_TRIES) {
            let mut buffer = self.buffers.pop_front()?;
            if buffer.try_reclaim(BATCH) {
                return Some(buffer);
            }
            self.buffers.push_back(buffer);
        }
        (self.buffers.len() < MAX_BATCHES).then(|| BytesMut::with_capacity(BATCH))
    }
}

/// Bytes of the largest batch.
pub(crate) const BATCH: usize = 64 * 1024;
/// Batches that parts may be kept of: 2 MiB for each socket.
const MAX_BATCHES: usize = 32;
/// How many of them are looked at for each batch.
const MAX_TRIES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn split(batches: &mut Batches, size: usize, stride: usize) -> Vec<BytesMut> {
        let batch: Vec<u8> = (0..size).map(|i| (i / stride) as u8).collect();
        let mut packets = Vec::new();
        batches.split(&batch, stride, |packet| packets.push(packet));
        assert_eq!(packets.concat(), batch);
        packets
    }

    #[test]
    fn a_batch_is_used_again_when_nobody_has_a_part_of_it() {
        let mut batches = Batches::default();
        for _ in 0..100 {
            assert_eq!(split(&mut batches, BATCH, 1_000).len(), 66);
            assert_eq!(split(&mut batches, 2_500, 1_000).len(), 3);
        }
        assert_eq!(batches.buffers.len(), 1);
    }

    #[test]
    fn who_keeps_a_packet_of_each_batch_keeps_few_batches() {
        let mut batches = Batches::default();
        let mut kept = Vec::new();
        for _ in 0..10 * MAX_BATCHES {
            kept.extend(split(&mut batches, BATCH, 100).pop());
        }
        assert_eq!(batches.buffers.len(), MAX_BATCHES);
        let held: usize = kept[MAX_BATCHES..].iter().map(BytesMut::capacity).sum();
        assert!(held < kept.len() * 100, "{held} bytes for {}", kept.len());
        kept.clear();
        split(&mut batches, BATCH, 1_000);
        assert_eq!(batches.buffers.len(), MAX_BATCHES);
    }

    #[test]
    fn a_lone_packet_takes_no_batch() {
        let mut batches = Batches::default();
        let kept = split(&mut batches, 700, 1_400);
        assert_eq!(kept[0].capacity(), 700);
        assert!(split(&mut batches, 0, 0).is_empty());
        assert!(batches.buffers.is_empty());
    }
}
