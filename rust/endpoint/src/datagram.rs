//! Datagrams: bounded queues, a pair of them for each session, and their share of the packets. The
//! newest are kept, the oldest dropped and counted.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use pywt_core::SessionId;
use pywt_quic::Transmit;
use rustc_hash::FxHashMap;

use crate::connection::Connection;
use crate::session::Session;
use crate::Notification;

/// What is worth keeping of a received datagram: a small one would keep its whole packet, and what
/// counts for the bound is its length.
pub(crate) fn kept(data: Bytes) -> Bytes {
    if data.len() < WORTH_SHARING {
        Bytes::copy_from_slice(&data)
    } else {
        data
    }
}

/// Bytes from which on a datagram is most of its packet.
const WORTH_SHARING: usize = 1024;

/// What the buffer has been filled with since the last one was taken. The last one of a buffer
/// needs nothing that is shared.
pub(crate) fn frame(buffer: &mut BytesMut) -> Bytes {
    if buffer.len() == buffer.capacity() {
        return std::mem::take(buffer).freeze();
    }
    buffer.split().freeze()
}

/// What a datagram to send does that finds the queue full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenFull {
    /// It takes the place of the oldest.
    DropOldest,
    /// It is not taken; its sender is told when there is room.
    Wait,
}

/// What became of datagrams that were given to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Queued {
    /// How many were queued.
    pub(crate) count: usize,
    /// How many of the oldest in the queue were dropped for them.
    pub(crate) dropped: u64,
}

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
        while !self.has_room(1, data.len(), limits) && self.pop().is_some() {
            dropped += 1;
        }
        self.bytes += data.len();
        self.items.push_back(data);
        dropped
    }

    /// Whether so many more datagrams, of so many bytes together, push none out.
    pub(crate) fn has_room(&self, count: usize, bytes: usize, limits: DatagramLimits) -> bool {
        let all = self.items.len() + count;
        all <= limits.count.max(1) && (all <= 1 || self.bytes + bytes <= limits.bytes)
    }

    /// Whether a sender that found no room should try again: half of it is free.
    fn is_roomy(&self, limits: DatagramLimits) -> bool {
        self.items.len() <= limits.count / 2 && self.bytes <= limits.bytes / 2
    }

    /// What the datagrams that have come to this queue are.
    pub(crate) fn arrivals(&self, limits: DatagramLimits) -> Arrivals {
        if self.items.len() > limits.count / CROWDED || self.bytes > limits.bytes / CROWDED {
            Arrivals::Crowd
        } else {
            Arrivals::Some
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let data = self.items.pop_front()?;
        self.bytes -= data.len();
        Some(data)
    }

    /// Up to `max` of the oldest.
    pub(crate) fn take(&mut self, max: usize) -> Vec<Bytes> {
        let count = self.len().min(max);
        let taken: Vec<Bytes> = self.items.drain(..count).collect();
        self.bytes -= taken.iter().map(Bytes::len).sum::<usize>();
        taken
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }
}

/// The part of a queue's limits from which on it is crowded: a quarter, since as much again comes
/// with the next few packets that the socket has put together.
const CROWDED: usize = 4;

/// What came for applications that read datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Arrivals {
    /// No datagram.
    #[default]
    None,
    /// Datagrams, for which there is room.
    Some,
    /// So many datagrams that the application should have a turn before more are taken.
    Crowd,
}

/// Where datagrams were dropped, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DatagramDrops {
    /// The session's outgoing queue was full, and newer ones took their place.
    pub send_queue: u64,
    /// The path had become too narrow for them, or the connection ended first.
    pub unsendable: u64,
    /// The session's incoming queue was full, and newer ones took their place.
    pub receive_queue: u64,
    /// The session ended before they were read.
    pub ended: u64,
}

/// How stream data and datagrams share what may be sent. QUIC packs every datagram it has before
/// any stream data, so it is given only as many as are due.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// Bytes that streams are behind by.
    owed: usize,
    /// When last asked, streams had nothing to send.
    is_alone: bool,
    /// Lost packets may have had stream data; the number when last asked.
    lost: u64,
}

impl Share {
    /// Stream data was written.
    pub(crate) fn streams_wait(&mut self) {
        self.is_alone = false;
    }

    fn note_lost(&mut self, lost: u64) {
        if std::mem::replace(&mut self.lost, lost) != lost {
            self.is_alone = false;
        }
    }

    /// How many bytes of datagrams may stand before stream data in a batch: half of what may be
    /// sent, less what streams are behind by; all of it when no stream has anything to send.
    fn due(&self, batch: usize, mtu: usize, window: u64) -> usize {
        if self.is_alone {
            return batch;
        }
        let window = usize::try_from(window).unwrap_or(usize::MAX);
        (batch.min(window) / 2).max(mtu).saturating_sub(self.owed)
    }

    fn note_sent(&mut self, datagrams: usize, all: usize) {
        let datagrams = datagrams.min(all);
        self.owed = (self.owed + datagrams).saturating_sub(all - datagrams);
    }
}

impl Connection {
    /// Writes the next packets into the empty `buffer`, at most `segments` of them.
    pub(crate) fn transmit_shared(
        &mut self,
        now: Instant,
        segments: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let mut waiting = self.quic.unsent_datagrams();
        if self.outbox.is_empty() && waiting == 0 {
            return self.quic.poll_transmit(now, segments, buffer);
        }
        self.share.note_lost(self.quic.packets_lost());
        let mtu = usize::from(self.quic.mtu());
        let is_turn_of_streams = self.share.owed > 0 && !self.share.is_alone && waiting == 0;
        let mut due = self
            .share
            .due(segments * mtu, mtu, self.quic.congestion_window());
        if is_turn_of_streams {
            if let Some(transmit) = self.quic.poll_transmit(now, segments, buffer) {
                self.share.note_sent(0, transmit.size);
                return Some(transmit);
            }
            // Streams have nothing to send, or nothing may be sent now: one datagram tells.
            due = 1;
        }
        self.give_datagrams(due.saturating_sub(waiting));
        waiting = self.quic.unsent_datagrams();
        let transmit = self.quic.poll_transmit(now, segments, buffer)?;
        let left = self.quic.unsent_datagrams();
        // A packet that a datagram has left room in has that of every stream, too.
        let has_room = last_packet(&transmit) + ROOM <= mtu;
        if is_turn_of_streams || (waiting > left && left == 0 && has_room) {
            self.share.is_alone = true;
            self.share.owed = 0;
        } else {
            self.share
                .note_sent(waiting - left.min(waiting), transmit.size);
        }
        Some(transmit)
    }

    /// The connection is gone.
    pub(crate) fn drop_unsent_datagrams(&mut self) {
        while self.outbox.pop(&mut self.sessions).is_some() {
            self.drops.unsendable += 1;
        }
    }

    fn tell_of_room(&mut self, session: SessionId) {
        let Some(entry) = self.sessions.get_mut(&session) else {
            return;
        };
        let limits = self.options.outgoing_datagrams();
        if entry.datagram_room_wanted && entry.outgoing.is_roomy(limits) {
            entry.datagram_room_wanted = false;
            self.notifications
                .push(Notification::DatagramsWritable(session));
        }
    }

    /// Moves waiting datagrams of about that many bytes into QUIC, sessions taking turns.
    fn give_datagrams(&mut self, bytes: usize) {
        let Some(limit) = self.quic.max_datagram_size() else {
            return;
        };
        // What waits anyway waits here, where the newest can be kept, and not in the network. Where
        // streams fill it as well, datagrams have their share all the same.
        if bytes == 0 || (self.share.is_alone && self.quic.has_queue_ahead()) {
            return;
        }
        let mut given = 0;
        while given < bytes {
            let Some((session, data)) = self.outbox.pop(&mut self.sessions) else {
                return;
            };
            if let Some(session) = session {
                self.tell_of_room(session);
            }
            given += data.len();
            // QUIC's own queue holds more than is ever due. What else it refuses has become too
            // large for the path.
            if self.quic.send_datagram_within(limit, data).is_err() {
                self.drops.unsendable += 1;
            }
        }
    }
}

/// The size of the last packet of a batch.
fn last_packet(transmit: &Transmit) -> usize {
    let segment = transmit.segment_size.unwrap_or(transmit.size).max(1);
    match transmit.size % segment {
        0 => segment,
        rest => rest,
    }
}

/// In so much room QUIC packs stream data.
const ROOM: usize = 64;

/// Which sessions have datagrams to send. Each has a queue of its own, and they take turns.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    turns: VecDeque<SessionId>,
    /// Of sessions that have ended since, together.
    left: DatagramQueue,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty() && self.left.len() == 0
    }

    /// A session whose queue was empty has something to send.
    pub(crate) fn push(&mut self, session: SessionId) {
        self.turns.push_back(session);
    }

    /// A session has ended; what it has sent leaves all the same. Returns how many had to go.
    pub(crate) fn inherit(
        &mut self,
        session: SessionId,
        queue: DatagramQueue,
        limits: DatagramLimits,
    ) -> u64 {
        if queue.len() > 0 {
            self.turns.retain(|waiting| *waiting != session);
        }
        queue
            .items
            .into_iter()
            .map(|data| self.left.push(data, limits))
            .sum()
    }

    pub(crate) fn len(&self, sessions: &FxHashMap<SessionId, Box<Session>>) -> usize {
        let waiting = self.turns.iter().filter_map(|id| sessions.get(id));
        self.left.len() + waiting.map(|entry| entry.outgoing.len()).sum::<usize>()
    }

    /// The next to be sent, and whose it is unless its session has ended.
    fn pop(
        &mut self,
        sessions: &mut FxHashMap<SessionId, Box<Session>>,
    ) -> Option<(Option<SessionId>, Bytes)> {
        if let Some(data) = self.left.pop() {
            return Some((None, data));
        }
        let session = self.turns.pop_front()?;
        let queue = &mut sessions.get_mut(&session)?.outgoing;
        let data = queue.pop()?;
        if queue.len() > 0 {
            self.turns.push_back(session);
        }
        Some((Some(session), data))
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
