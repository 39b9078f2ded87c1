//! The other workers of a port, for packets that the kernel has given to the wrong one.
//!
//! It looks at one packet of each batch that it has joined, and a batch may hold packets of several
//! connections of one client.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use bytes::BytesMut;
use pywt_quic::{EcnCodepoint, Packet};

/// Where a worker takes what others hand on, and where it hands on what is theirs.
pub struct Fellows {
    inbox: UnixDatagram,
    outboxes: Vec<UnixDatagram>,
    buffer: Vec<u8>,
}

impl Fellows {
    /// `outboxes` are by the workers' places; each is a pair with that worker's `inbox`.
    pub fn new(inbox: UnixDatagram, outboxes: Vec<UnixDatagram>) -> io::Result<Self> {
        for socket in outboxes.iter().chain([&inbox]) {
            socket.set_nonblocking(true)?;
        }
        Ok(Self {
            inbox,
            outboxes,
            buffer: Vec::new(),
        })
    }

    /// What becomes readable when another worker has handed something on.
    pub fn inbox(&self) -> &UnixDatagram {
        &self.inbox
    }

    /// Hands a packet on. Losing one that finds no room is what QUIC is made for.
    pub(crate) fn hand_on(&mut self, place: usize, packet: &Packet) {
        if let Some(outbox) = self.outboxes.get(place) {
            encode(packet, &mut self.buffer);
            let _ = outbox.send(&self.buffer);
        }
    }

    /// Takes what others have handed on, up to a batch.
    pub(crate) fn receive(&mut self, mut sink: impl FnMut(Packet)) {
        self.buffer.resize(HEADER + MAX_PACKET, 0);
        for _ in 0..BATCH {
            let Ok(size) = self.inbox.recv(&mut self.buffer) else {
                return;
            };
            let message = self.buffer.get(..size).unwrap_or_default();
            if let Some(packet) = decode(message, Instant::now()) {
                sink(packet);
            }
        }
    }
}

/// Congestion mark; which of the addresses are IPv4 and whether there is a local one; the peer's
/// address, port and zone; the local address; the packet.
fn encode(packet: &Packet, out: &mut Vec<u8>) {
    let remote = packet.remote;
    let mut shape = 0;
    if remote.is_ipv4() {
        shape |= REMOTE_V4;
    }
    let local = match packet.local_ip {
        Some(IpAddr::V4(ip)) => {
            shape |= HAS_LOCAL | LOCAL_V4;
            ip.to_ipv6_mapped()
        }
        Some(IpAddr::V6(ip)) => {
            shape |= HAS_LOCAL;
            ip
        }
        None => Ipv6Addr::UNSPECIFIED,
    };
    let (ip, zone) = match remote {
        SocketAddr::V4(remote) => (remote.ip().to_ipv6_mapped(), 0),
        SocketAddr::V6(remote) => (*remote.ip(), remote.scope_id()),
    };
    out.clear();
    out.push(packet.ecn.map_or(0, |mark| mark as u8));
    out.push(shape);
    out.extend_from_slice(&ip.octets());
    out.extend_from_slice(&remote.port().to_be_bytes());
    out.extend_from_slice(&zone.to_be_bytes());
    out.extend_from_slice(&local.octets());
    out.extend_from_slice(&packet.data);
}

fn decode(message: &[u8], now: Instant) -> Option<Packet> {
    let ([mark, shape], rest) = message.split_first_chunk()?;
    let (ip, rest) = rest.split_first_chunk::<16>()?;
    let (port, rest) = rest.split_first_chunk()?;
    let (zone, rest) = rest.split_first_chunk()?;
    let (local, data) = rest.split_first_chunk::<16>()?;
    let (ip, port) = (Ipv6Addr::from(*ip), u16::from_be_bytes(*port));
    let local = Ipv6Addr::from(*local);
    Some(Packet {
        now,
        remote: if shape & REMOTE_V4 != 0 {
            SocketAddr::new(ip.to_canonical(), port)
        } else {
            SocketAddrV6::new(ip, port, 0, u32::from_be_bytes(*zone)).into()
        },
        local_ip: (shape & HAS_LOCAL != 0).then_some(if shape & LOCAL_V4 != 0 {
            local.to_canonical()
        } else {
            local.into()
        }),
        ecn: EcnCodepoint::from_bits(*mark),
        data: BytesMut::from(data),
    })
}

const REMOTE_V4: u8 = 1;
const HAS_LOCAL: u8 = 2;
const LOCAL_V4: u8 = 4;
/// Bytes before the packet.
const HEADER: usize = 40;
/// Bytes of the largest UDP payload.
const MAX_PACKET: usize = 65_535;
/// Packets taken at a time; the inbox stays readable when there are more.
const BATCH: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(remote: &str, local: Option<&str>, ecn: Option<EcnCodepoint>, size: usize) -> Packet {
        Packet {
            now: Instant::now(),
            remote: remote.parse().unwrap(),
            local_ip: local.map(|ip| ip.parse().unwrap()),
            ecn,
            data: BytesMut::from_iter((0..size).map(|i| i as u8)),
        }
    }

    fn pair() -> (Fellows, Fellows) {
        let ends = |_| UnixDatagram::pair().unwrap();
        let [(first, to_first), (second, to_second)] = [(); 2].map(ends);
        let outboxes = || {
            vec![
                to_first.try_clone().unwrap(),
                to_second.try_clone().unwrap(),
            ]
        };
        let one = Fellows::new(first, outboxes()).unwrap();
        (one, Fellows::new(second, outboxes()).unwrap())
    }

    #[test]
    fn a_packet_that_was_handed_on_is_as_it_was() {
        let (mut one, mut other) = pair();
        for sent in [
            packet("192.0.2.7:4433", None, None, 0),
            packet(
                "192.0.2.7:1",
                Some("198.51.100.1"),
                Some(EcnCodepoint::Ce),
                1200,
            ),
            packet(
                "[::ffff:192.0.2.7]:9",
                Some("::ffff:198.51.100.1"),
                None,
                21,
            ),
            packet(
                "[fe80::1%4]:65535",
                Some("fe80::2"),
                Some(EcnCodepoint::Ect0),
                65_507,
            ),
        ] {
            one.hand_on(1, &sent);
            let mut got = Vec::new();
            other.receive(|packet| got.push(packet));
            assert_eq!(got.len(), 1, "{sent:?}");
            assert_eq!(got[0].remote, sent.remote);
            assert_eq!(got[0].local_ip, sent.local_ip);
            assert_eq!(got[0].ecn, sent.ecn);
            assert_eq!(got[0].data, sent.data);
        }
    }

    #[test]
    fn a_worker_that_does_not_listen_holds_nobody_up() {
        let (mut one, mut other) = pair();
        let sent = packet("192.0.2.7:1", None, None, 1200);
        for _ in 0..10_000 {
            one.hand_on(1, &sent);
        }
        // No such place.
        one.hand_on(2, &sent);
        let mut got = 0;
        other.receive(|_| got += 1);
        assert!(got > 0 && got <= BATCH, "{got}");
    }

    #[test]
    fn what_is_too_short_is_no_packet() {
        let mut message = Vec::new();
        encode(&packet("192.0.2.7:1", None, None, 1), &mut message);
        assert_eq!(message.len(), HEADER + 1);
        for size in 0..HEADER {
            assert!(decode(&message[..size], Instant::now()).is_none());
        }
    }
}
