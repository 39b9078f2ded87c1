//! Which datagrams have arrived and which were lost, told by packet numbers: quinn forgets a
//! DATAGRAM frame as soon as it is in a packet.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

/// Packets with datagrams that the peer has not acknowledged.
#[derive(Debug, Default)]
pub(crate) struct DatagramsInFlight {
    /// Packet numbers in order, and how many datagrams each packet has.
    packets: VecDeque<(u64, u64)>,
    largest_acked: u64,
    /// Datagrams in packets that were acknowledged.
    pub(crate) delivered: u64,
    /// Datagrams in packets that were declared lost.
    pub(crate) lost: u64,
}

impl DatagramsInFlight {
    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// A packet leaves.
    pub(crate) fn sent(&mut self, packet: u64, datagrams: usize) {
        self.packets.push_back((packet, datagrams as u64));
    }

    /// The peer has these packets.
    pub(crate) fn acked(&mut self, range: &RangeInclusive<u64>) {
        self.largest_acked = self.largest_acked.max(*range.end());
        let from = self.packets.partition_point(|(n, _)| n < range.start());
        let to = self.packets.partition_point(|(n, _)| n <= range.end());
        let arrived: u64 = self.packets.drain(from..to).map(|(_, count)| count).sum();
        self.delivered += arrived;
    }

    /// Every range of an ACK frame has been told: what is far behind them is lost.
    pub(crate) fn declare_lost(&mut self) {
        while let Some((packet, count)) = self.packets.front() {
            if packet + PACKET_THRESHOLD > self.largest_acked {
                return;
            }
            self.lost += count;
            self.packets.pop_front();
        }
    }
}

/// RFC 9002 §6.1.1.
const PACKET_THRESHOLD: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_datagram_is_delivered_lost_or_in_flight() {
        let mut flight = DatagramsInFlight::default();
        for packet in 0..20 {
            flight.sent(packet, 2);
        }
        flight.acked(&(8..=9));
        flight.acked(&(2..=4));
        flight.declare_lost();
        assert_eq!((flight.delivered, flight.lost), (10, 8));
        let left: Vec<u64> = flight.packets.iter().map(|(packet, _)| *packet).collect();
        assert_eq!(left, [7, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19]);
        flight.acked(&(0..=30));
        flight.declare_lost();
        assert_eq!((flight.delivered, flight.lost), (32, 8));
        assert!(flight.is_empty());
    }
}
