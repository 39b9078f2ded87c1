//! What the last packet had of streams, for probes to repeat.
//!
//! When the last of what was sent is lost, nothing later tells so, and a probe asks (RFC 9002 §6.2).
//! quinn-proto's is a PING: its acknowledgement shows the loss, and one round trip later the data
//! arrives. RFC 9002 §6.2.4 would have data in the probe, which saves that round trip.

use std::ops::RangeInclusive;

use crate::frames;

/// STREAM frames of the last packet that had any, until that packet is acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    packet: u64,
    frames: Vec<u8>,
}

impl Tail {
    pub(crate) fn frames(&self) -> &[u8] {
        &self.frames
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Takes note of a packet that is sent. Of a full one follows more, or its loss costs no more
    /// than it takes to send as much again.
    pub(crate) fn sent(&mut self, packet: u64, payload: &[u8]) {
        if payload.len() > MAX_TAIL {
            self.forget();
        } else if frames::copy_streams(payload, &mut self.frames) {
            self.packet = packet;
        }
    }

    pub(crate) fn acked(&mut self, packets: &RangeInclusive<u64>) {
        if packets.contains(&self.packet) {
            self.forget();
        }
    }

    pub(crate) fn forget(&mut self) {
        self.frames.clear();
    }
}

/// Bytes of frames: a probe of 1200 bytes has room for them beside its own.
pub(crate) const MAX_TAIL: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sideband::Sideband;

    /// A STREAM frame with FIN of stream 4 that ends with the packet, behind a PING.
    fn packet(size: usize) -> Vec<u8> {
        let mut frames = vec![0x01, 0x09, 0x04];
        frames.resize(size, b'x');
        frames
    }

    const PROBE: [u8; 2] = [0x01, 0x1f];

    /// What becomes of a probe, if it has room for more.
    fn probe(sideband: &Sideband) -> Vec<u8> {
        sideband.expect_probe();
        let room = sideband.all_room();
        let mut payload = PROBE.to_vec();
        payload.resize(PROBE.len() + room, 0);
        sideband.sending(9, &mut payload, room);
        sideband.end_probe();
        payload
    }

    #[test]
    fn a_probe_repeats_the_last_packet_until_that_is_acknowledged() {
        let sideband = Sideband::default();
        assert_eq!(probe(&sideband), PROBE);
        sideband.sending(7, &mut packet(5), 0);
        // Stream 4 from 0 on, two bytes, and its end.
        let repeated = [0x0f, 4, 0, 2, b'x', b'x', 0x01, 0x1f];
        assert_eq!(probe(&sideband), repeated);
        // Not while nothing was due, nor in a packet that nobody acknowledges.
        let mut ack = [0x02, 3, 0, 0, 3];
        sideband.sending(8, &mut ack, 0);
        sideband.received(&mut ack);
        assert_eq!(probe(&sideband), repeated);
        let mut ack = [0x02, 7, 0, 0, 0];
        sideband.received(&mut ack);
        assert_eq!(probe(&sideband), PROBE);
    }

    #[test]
    fn a_reset_takes_the_data_out_of_probes() {
        let sideband = Sideband::default();
        sideband.sending(7, &mut packet(5), 0);
        sideband.forget_tail();
        assert_eq!(probe(&sideband), PROBE);
    }

    #[test]
    fn only_a_small_packet_is_kept() {
        let sideband = Sideband::default();
        sideband.sending(7, &mut packet(MAX_TAIL), 0);
        assert!(probe(&sideband).len() > MAX_TAIL);
        sideband.sending(8, &mut packet(MAX_TAIL + 1), 0);
        assert_eq!(probe(&sideband), PROBE);
    }
}
