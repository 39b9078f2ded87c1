//! The UDP socket: many packets a system call in both directions, congestion marks, ICMP errors.

use std::io::{self, IoSliceMut};
#[cfg(any(target_os = "linux", target_os = "android"))]
use std::mem::MaybeUninit;
use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use quinn_proto::{EcnCodepoint, Transmit};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, SockAddr, Type};
#[cfg(any(target_os = "linux", target_os = "android"))]
use socket2::{MaybeUninitSlice, MsgHdrMut};

use crate::batches::{Batches, BATCH};
use crate::Packet;

/// A nonblocking UDP socket with offloads.
pub struct Socket {
    io: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    buffers: Box<[u8]>,
    batches: Batches,
    reports_errors: bool,
}

/// How much [`Socket::receive`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Nothing.
    Empty,
    /// Something, and nothing more for now.
    Last,
    /// A full batch; there may be more.
    Full,
}

/// Packets to `remote` do not arrive.
#[derive(Clone, Debug)]
pub struct Unreachable {
    /// Who cannot be reached.
    pub remote: SocketAddr,
    /// The operating system's error.
    pub error: io::ErrorKind,
    /// Its text.
    pub reason: String,
}

impl Socket {
    /// Binds to an address. An IPv6 wildcard takes IPv4 as well where the system allows.
    ///
    /// With `reports_errors`, packets that cannot be delivered are told by [`Self::take_error`]:
    /// for clients, whom nobody else would tell.
    pub fn bind(address: SocketAddr, reports_errors: bool) -> io::Result<Self> {
        let socket = socket2::Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        if address.is_ipv6() && address.ip().is_unspecified() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&SockAddr::from(address))?;
        Self::new(socket.into(), reports_errors)
    }

    /// Takes over a bound socket; see [`Self::bind`].
    pub fn new(io: UdpSocket, reports_errors: bool) -> io::Result<Self> {
        let state = offloads(&io)?;
        let reference = UdpSockRef::from(&io);
        // A system may grant less or refuse; a smaller buffer only drops packets earlier.
        let _ = state.set_recv_buffer_size(reference, KERNEL_BUFFER);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&io), KERNEL_BUFFER);
        if reports_errors {
            state.enable_transport_errors(UdpSockRef::from(&io))?;
        }
        Ok(Self {
            local: io.local_addr()?,
            io,
            state,
            buffers: vec![0; RECEIVE_BATCH * BATCH].into_boxed_slice(),
            batches: Batches::default(),
            reports_errors,
        })
    }

    /// Takes one batch of packets from the kernel, up to [`RECEIVE_BATCH`] times what it may have
    /// put together.
    pub fn receive(&mut self, sink: impl FnMut(Packet)) -> io::Result<Batch> {
        self.receive_up_to(RECEIVE_BATCH, sink)
    }

    /// As [`Self::receive`], with fewer buffers, but one at least.
    pub fn receive_up_to(
        &mut self,
        buffers: usize,
        mut sink: impl FnMut(Packet),
    ) -> io::Result<Batch> {
        let buffers = buffers.clamp(1, RECEIVE_BATCH);
        let mut metas = [RecvMeta::default(); RECEIVE_BATCH];
        let mut slices = self.buffers.chunks_exact_mut(BATCH);
        let mut slices: [IoSliceMut<'_>; RECEIVE_BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(slices.next().unwrap_or_default()));
        let received = loop {
            match self.state.recv(
                UdpSockRef::from(&self.io),
                &mut slices[..buffers],
                &mut metas[..buffers],
            ) {
                Ok(received) => break received,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Batch::Empty),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        };
        let now = Instant::now();
        for (meta, buffer) in metas.iter().zip(&slices).take(received) {
            if !can_be_sent_to(meta.addr) {
                // Nobody there waits for an answer: RFC 768 on port 0.
                continue;
            }
            let batch = buffer.get(..meta.len).unwrap_or_default();
            self.batches.split(batch, meta.stride, |data| {
                sink(Packet {
                    now,
                    remote: meta.addr,
                    local_ip: meta.dst_ip,
                    ecn: meta
                        .ecn
                        .and_then(|mark| EcnCodepoint::from_bits(mark as u8)),
                    data,
                });
            });
        }
        Ok(if received < buffers {
            Batch::Last
        } else {
            Batch::Full
        })
    }

    /// The next error the network has reported for a packet of ours. `noticed` is what a receive
    /// or send call has failed with just before, which is the kernel's word about the same error.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub fn take_error(&self, noticed: Option<&io::Error>) -> Option<Unreachable> {
        if !self.reports_errors {
            return None;
        }
        // quinn-udp tells who reported the error; who could not be reached is needed here.
        // Queue and pending error go together: taking one of the queue makes the next pending.
        let socket = socket2::SockRef::from(&self.io);
        let pending = socket.take_error().ok().flatten();
        let mut remote = SockAddr::from(self.local);
        let mut data = [MaybeUninit::uninit(); 1];
        let mut buffers = [MaybeUninitSlice::new(&mut data)];
        let mut message = MsgHdrMut::new()
            .with_addr(&mut remote)
            .with_buffers(&mut buffers);
        socket
            .recvmsg(&mut message, MSG_ERRQUEUE | MSG_DONTWAIT)
            .ok()?;
        let error = pending.as_ref().or(noticed)?;
        Some(Unreachable {
            remote: remote.as_socket()?,
            error: error.kind(),
            reason: error.to_string(),
        })
    }

    /// Only Linux says whom an error is about.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub fn take_error(&self, _noticed: Option<&io::Error>) -> Option<Unreachable> {
        None
    }

    /// Hands one GSO batch to the kernel. `WouldBlock` means to try the same again when the
    /// socket is writable.
    pub fn send(&mut self, transmit: &Transmit, data: &[u8]) -> io::Result<()> {
        if !can_be_sent_to(transmit.destination) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let batch = data.get(..transmit.size).unwrap_or(data);
        let sent = self.send_segments(transmit, batch, transmit.segment_size);
        if !matches!(&sent, Err(e) if e.kind() == io::ErrorKind::InvalidInput) {
            return sent;
        }
        // quinn-udp takes this for a kernel without offloads and gives them up for everybody. But
        // an address to which nothing can be sent brings it about as well, and whoever forges the
        // source of a packet names such an address: a single packet tells.
        let single = transmit.segment_size.unwrap_or(batch.len());
        let packet = batch.get(..single).unwrap_or(batch);
        let sent = self.send_segments(transmit, packet, None);
        if matches!(&sent, Err(e) if e.kind() == io::ErrorKind::InvalidInput) {
            self.state = offloads(&self.io)?;
        }
        sent
    }

    fn send_segments(
        &self,
        transmit: &Transmit,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        self.state.try_send(
            UdpSockRef::from(&self.io),
            &quinn_udp::Transmit {
                destination: transmit.destination,
                ecn: transmit
                    .ecn
                    .and_then(|mark| quinn_udp::EcnCodepoint::from_bits(mark as u8)),
                contents,
                segment_size,
                // A socket bound to one address sends from it; naming it again would only cost.
                src_ip: transmit.src_ip.filter(|_| self.local.ip().is_unspecified()),
            },
        )
    }

    /// How many packets of `mtu` bytes one [`Self::send`] may carry.
    pub fn max_segments(&self, mtu: u16) -> usize {
        max_segments(self.state.max_gso_segments(), mtu)
    }

    /// Whether the network may fragment what is sent, which forbids MTU discovery.
    pub fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    /// Where the socket is bound.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// The socket itself, for an event loop to watch.
    pub fn io(&self) -> &UdpSocket {
        &self.io
    }
}

/// Whether an address can be anybody's.
fn can_be_sent_to(address: SocketAddr) -> bool {
    address.port() != 0
}

/// Asks the kernel for batches of packets in both directions, and for congestion marks.
fn offloads(io: &UdpSocket) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(UdpSockRef::from(io))?;
    // quinn-udp asks for time stamps, and has no room for them beside what tells of a batch of
    // packets: the kernel then drops the congestion mark. Until quinn-udp has room.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    nix::sys::socket::setsockopt(io, nix::sys::socket::sockopt::ReceiveTimestampns, &false)?;
    Ok(state)
}

/// How many packets of `mtu` bytes fit in one send, of those the kernel would take: a batch
/// larger than a UDP datagram may be fails with EMSGSIZE and is lost.
pub fn max_segments(offered: usize, mtu: u16) -> usize {
    offered
        .min(MAX_SEGMENTS)
        .min(MAX_UDP_PAYLOAD / usize::from(mtu.max(1)))
        .max(1)
}

/// recvmsg(2): from the error queue.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MSG_ERRQUEUE: i32 = 0x2000;
/// recvmsg(2): without waiting.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MSG_DONTWAIT: i32 = 0x40;
/// Buffers per receive call; measured, more gains nothing.
pub const RECEIVE_BATCH: usize = 8;
/// Packets per send call; measured, more does not fit at usual MTUs.
const MAX_SEGMENTS: usize = 44;
/// Largest UDP payload over IPv4.
const MAX_UDP_PAYLOAD: usize = 65_507;
/// Asked for as the kernel's buffers, in and out.
const KERNEL_BUFFER: usize = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_never_exceeds_a_udp_datagram() {
        assert_eq!(max_segments(64, 1200), 44);
        assert_eq!(max_segments(64, 1452), 44);
        assert_eq!(max_segments(64, 8952), 7);
        assert_eq!(max_segments(64, u16::MAX), 1);
        assert_eq!(max_segments(1, 1452), 1);
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    mod kernel {
        use super::*;

        const SEGMENT: usize = 1_200;

        fn bind(address: &str) -> Socket {
            Socket::bind(address.parse().unwrap(), false).unwrap()
        }

        fn batch(destination: SocketAddr, size: usize) -> Transmit {
            Transmit {
                destination,
                ecn: Some(EcnCodepoint::Ect0),
                size,
                segment_size: (size > SEGMENT).then_some(SEGMENT),
                src_ip: None,
            }
        }

        #[test]
        fn one_send_carries_many_packets_and_their_mark_and_one_receive_takes_them() {
            for wildcard in ["0.0.0.0:0", "[::]:0"] {
                let (mut sender, mut receiver) = (bind("127.0.0.1:0"), bind(wildcard));
                let count = sender.max_segments(SEGMENT as u16);
                assert_eq!(count, MAX_SEGMENTS);
                let destination =
                    SocketAddr::from(([127, 0, 0, 1], receiver.local_address().port()));
                let data: Vec<u8> = (0..count * SEGMENT - 7)
                    .map(|i| (i / SEGMENT) as u8)
                    .collect();
                sender.send(&batch(destination, data.len()), &data).unwrap();
                let mut packets = Vec::new();
                // Loopback delivers before it returns.
                assert_eq!(receiver.receive(|p| packets.push(p)).unwrap(), Batch::Last);
                assert_eq!(packets.len(), count);
                for (number, packet) in packets.iter().enumerate() {
                    let short = if number + 1 == count { 7 } else { 0 };
                    assert_eq!(packet.data, vec![number as u8; SEGMENT - short]);
                    assert_eq!(packet.ecn, Some(EcnCodepoint::Ect0));
                    assert_eq!(
                        packet.remote.ip().to_canonical(),
                        sender.local_address().ip()
                    );
                    assert_eq!(
                        packet.local_ip.map(|ip| ip.to_canonical()),
                        Some(destination.ip())
                    );
                }
                assert_eq!(receiver.receive(|_| ()).unwrap(), Batch::Empty);
            }
        }

        #[test]
        fn empty_packets_do_not_keep_others_waiting() {
            let mut receiver = bind("127.0.0.1:0");
            let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut seen = Vec::new();
            for _ in 0..3 {
                for _ in 0..RECEIVE_BATCH + 1 {
                    sender.send_to(b"", receiver.local_address()).unwrap();
                }
                sender.send_to(b"real", receiver.local_address()).unwrap();
                while receiver.receive(|packet| seen.push(packet.data)).unwrap() != Batch::Empty {}
            }
            assert_eq!(seen, [&b"real"[..]; 3]);
        }

        #[test]
        fn an_impossible_address_leaves_the_offloads_to_others() {
            let (mut sender, mut receiver) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
            let data = vec![7; 3 * SEGMENT];
            for size in [SEGMENT, 3 * SEGMENT] {
                let nowhere = batch(SocketAddr::from(([127, 0, 0, 1], 0)), size);
                let refused = sender.send(&nowhere, &data).unwrap_err();
                assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
                assert_eq!(sender.max_segments(SEGMENT as u16), MAX_SEGMENTS);
                sender
                    .send(&batch(receiver.local_address(), size), &data)
                    .unwrap();
                let mut marks = Vec::new();
                receiver.receive(|packet| marks.push(packet.ecn)).unwrap();
                assert_eq!(marks, vec![Some(EcnCodepoint::Ect0); size / SEGMENT]);
            }
        }

        #[test]
        fn the_kernel_is_asked_for_large_buffers_and_not_to_fragment() {
            let granted = |name: &str| {
                let path = format!("/proc/sys/net/core/{name}");
                let most: usize = std::fs::read_to_string(path)
                    .unwrap()
                    .trim()
                    .parse()
                    .unwrap();
                // socket(7): twice of what was asked for, at most twice the limit of the system.
                2 * most.min(KERNEL_BUFFER)
            };
            let socket = bind("127.0.0.1:0");
            let reference = UdpSockRef::from(socket.io());
            assert_eq!(
                socket.state.recv_buffer_size(reference).unwrap(),
                granted("rmem_max")
            );
            let reference = UdpSockRef::from(socket.io());
            assert_eq!(
                socket.state.send_buffer_size(reference).unwrap(),
                granted("wmem_max")
            );
            assert!(!socket.may_fragment());
        }
    }
}
