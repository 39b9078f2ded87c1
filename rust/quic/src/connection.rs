//! One QUIC connection: quinn-proto's state machine with stream ids as plain numbers, stream
//! limits that grow with use, and calls that never panic on an id that came from outside.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{Dir, EndpointEvent, SendDatagramError, Side, StreamEvent, Transmit, VarInt};

use crate::ack_clock::{flight, lift};
use crate::admission::Place;
use crate::crypto::Handshake;
use crate::keep_alive::KeepAlive;
use crate::pacer::Pacer;
use crate::sideband::Sideband;
use crate::stream::{number, Streams, RESET_ROOM};
use crate::{Close, Handle, Packet, Routed, TransportOptions};

/// What happened on a connection.
#[derive(Debug)]
pub enum Event {
    /// The handshake is complete.
    Connected,
    /// The connection is gone; nothing follows but draining.
    Closed(Close),
    /// The peer opened streams: call [`Connection::accept`] until it has none.
    StreamsOpened(Dir),
    /// More streams may be opened.
    StreamsAvailable(Dir),
    /// Data, an end or a reset waits on a stream.
    Readable(u64),
    /// A write that found no room may find some.
    Writable(u64),
    /// Everything written was acknowledged after [`Connection::finish`].
    Finished(u64),
    /// The peer asked to stop sending.
    Stopped {
        /// The stream.
        id: u64,
        /// The peer's code.
        code: u64,
    },
    /// The end of a stream that we stopped has arrived: nothing more is heard of it.
    StoppedStreamEnded {
        /// The stream.
        id: u64,
        /// How many bytes the peer has sent.
        final_size: u64,
    },
    /// Datagrams wait in [`Connection::receive_datagram`].
    DatagramsReceived,
    /// Datagrams may be sent again after [`DatagramRefused::Full`].
    DatagramsUnblocked,
}

/// Why a datagram was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatagramRefused {
    /// The outgoing buffer is full; the datagram is given back.
    Full(Bytes),
    /// Larger than [`Connection::max_datagram_size`].
    TooLarge,
    /// The peer takes no datagrams.
    Unsupported,
}

/// Counters and estimates of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Smoothed round trip time.
    pub rtt: Duration,
    /// Lowest round trip time seen.
    pub min_rtt: Duration,
    /// Congestion window in bytes.
    pub cwnd: u64,
    /// Bytes of packets with stream data that the peer may not have yet.
    pub bytes_in_flight: u64,
    /// Path MTU in bytes.
    pub mtu: u16,
    /// Bytes sent in UDP payloads.
    pub bytes_sent: u64,
    /// Bytes received in UDP payloads.
    pub bytes_received: u64,
    /// UDP datagrams sent.
    pub packets_sent: u64,
    /// UDP datagrams received.
    pub packets_received: u64,
    /// Packets declared lost.
    pub packets_lost: u64,
    /// Bytes of the packets declared lost.
    pub bytes_lost: u64,
    /// Bytes of TLS messages received, each counted once.
    pub tls_received: u64,
    /// Congestion events.
    pub congestion_events: u64,
    /// Datagrams that left in packets.
    pub datagrams_sent: u64,
    /// Datagrams that wait to leave.
    pub datagrams_waiting: u64,
    /// Datagrams of those whose packets the peer acknowledged.
    pub datagrams_acknowledged: u64,
    /// Datagrams of those whose packets were declared lost.
    pub datagrams_lost: u64,
    /// Datagrams that were taken and became too large for the path.
    pub datagrams_too_large: u64,
    /// Datagrams that came.
    pub datagrams_received: u64,
    /// Datagrams of those that were dropped because too many waited to be taken.
    pub datagrams_overflown: u64,
}

/// What quinn does not count.
#[derive(Clone, Copy, Debug, Default)]
struct DatagramCounts {
    /// Handed to quinn.
    given: u64,
    /// Of those, dropped when the path shrank.
    too_large: u64,
    /// Fetched from quinn.
    taken: u64,
    /// Dropped by quinn before they were.
    overflown: u64,
}

/// One QUIC connection.
pub struct Connection {
    pub(crate) inner: Box<quinn_proto::Connection>,
    pub(crate) sideband: Arc<Sideband>,
    pub(crate) streams: Streams,
    handle: Handle,
    /// Streams that the peer was told it may open at first, by `Dir as usize`.
    announced_streams: [u64; 2],
    /// What the concurrent stream limits may grow to, by `Dir as usize`.
    max_streams: [u64; 2],
    /// What it takes of the server that accepted it.
    place: Option<Place>,
    /// The endpoint has yet to hear that the handshake is over.
    in_handshake: bool,
    /// Reading has returned credit that the next transmit carries to the peer.
    pub(crate) flow_control: bool,
    /// ACK frames received, and STREAM frames sent before the latest of them.
    acknowledged: (u64, u64),
    /// Size of the MTU probe that was not sent; 0 before.
    withheld_probe: u64,
    datagrams: DatagramCounts,
    keep_alive: KeepAlive,
    /// Where the congestion controller wants its rate kept.
    pacer: Option<Box<Pacer>>,
    /// How much QUIC's empty queue of outgoing datagrams takes.
    datagram_room: usize,
}

impl Connection {
    pub(crate) fn new(
        handle: Handle,
        inner: quinn_proto::Connection,
        options: &TransportOptions,
        place: Option<Place>,
    ) -> Self {
        let sideband = handshake(&inner).map_or_else(Arc::default, |data| data.sideband);
        let mut inner = Box::new(inner);
        Self {
            datagram_room: inner.datagrams().send_buffer_space(),
            inner,
            sideband,
            streams: Streams::default(),
            handle,
            announced_streams: options.announced_streams(),
            max_streams: [options.max_streams_bidi, options.max_streams_uni],
            in_handshake: true,
            place,
            flow_control: false,
            acknowledged: (0, 0),
            withheld_probe: 0,
            datagrams: DatagramCounts::default(),
            keep_alive: KeepAlive::new(options.keep_alive_interval),
            pacer: options.congestion.is_paced().then(Box::default),
        }
    }

    /// Takes a packet that [`crate::Endpoint::receive`] routed here. One that is returned is to be
    /// received again: for what is in it the connection had to be prepared.
    pub fn handle_event(&mut self, routed: Routed) -> Option<Packet> {
        let Routed { event, envelope } = routed;
        self.inner.handle_event(event);
        self.note_ends();
        let data = self.sideband.allowance.take_back()?;
        self.complete_allowance();
        Some(Packet { data, ..envelope })
    }

    /// Tells quinn of all the streams that were announced.
    fn complete_allowance(&mut self) {
        self.sideband.allowance.complete();
        for dir in [Dir::Bi, Dir::Uni] {
            self.set_max_concurrent_streams(dir, self.announced_streams[dir as usize]);
        }
    }

    fn set_max_concurrent_streams(&mut self, dir: Dir, count: u64) {
        if let Ok(count) = VarInt::from_u64(count) {
            self.inner.set_max_concurrent_streams(dir, count);
        }
    }

    /// How many streams the peer may have open at once.
    fn max_concurrent_streams(&self, dir: Dir) -> u64 {
        if self.sideband.allowance.is_short() {
            self.announced_streams[dir as usize]
        } else {
            self.inner.max_concurrent_streams(dir)
        }
    }

    /// The peer makes use of its streams: it may have twice as many, up to the configured maximum,
    /// when a quarter of them are open.
    pub(crate) fn grow_allowance(&mut self, dir: Dir) {
        let limit = self.max_concurrent_streams(dir);
        let ceiling = self.max_streams[dir as usize];
        if limit < ceiling && self.inner.streams().remote_open_streams(dir) * 4 >= limit {
            if self.sideband.allowance.is_short() {
                self.complete_allowance();
            }
            self.set_max_concurrent_streams(dir, (limit * 2).min(ceiling));
        }
    }

    /// Takes note that a deadline has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
        self.sideband.expect_probe();
        if self.keep_alive.take_due(now) {
            self.inner.ping();
        }
    }

    /// What happened, one event at a time until `None`.
    pub fn poll(&mut self) -> Option<Event> {
        loop {
            if let Some((id, final_size)) = self.next_ended() {
                return Some(Event::StoppedStreamEnded { id, final_size });
            }
            let Some(event) = self.inner.poll() else {
                self.send_waiting_resets();
                self.note_acknowledged();
                return None;
            };
            let event = match event {
                quinn_proto::Event::HandshakeDataReady => continue,
                quinn_proto::Event::Connected => {
                    let timeout = self.sideband.peer_idle_timeout();
                    self.keep_alive.set_peer_idle_timeout(timeout);
                    Event::Connected
                }
                quinn_proto::Event::ConnectionLost { reason } => {
                    // Where a peer broke a rule of QUIC, it is quinn that closes.
                    lift(self.inner.congestion_state());
                    let mut close = Close::from(reason);
                    close.certificate = self.sideband.take_certificate_fault();
                    Event::Closed(close)
                }
                quinn_proto::Event::DatagramReceived => Event::DatagramsReceived,
                quinn_proto::Event::DatagramsUnblocked => Event::DatagramsUnblocked,
                quinn_proto::Event::Stream(event) => match event {
                    StreamEvent::Opened { dir } => Event::StreamsOpened(dir),
                    StreamEvent::Available { dir } => Event::StreamsAvailable(dir),
                    StreamEvent::Readable { id } => Event::Readable(number(id)),
                    StreamEvent::Writable { id } => Event::Writable(number(id)),
                    StreamEvent::Finished { id } => Event::Finished(number(id)),
                    StreamEvent::Stopped { id, error_code } => Event::Stopped {
                        id: number(id),
                        code: error_code.into_inner(),
                    },
                },
            };
            return Some(event);
        }
    }

    /// Once per batch of packets: counters are too many to look at them for each.
    fn note_acknowledged(&mut self) {
        let stats = self.inner.stats();
        if stats.frame_rx.acks != self.acknowledged.0 {
            self.acknowledged = (stats.frame_rx.acks, stats.frame_tx.stream);
        }
        let counts = self.datagrams;
        if stats.frame_rx.datagram > counts.taken {
            // Whoever was told of datagrams has taken all there were.
            self.datagrams.overflown = stats.frame_rx.datagram - counts.taken;
        }
        if counts.given > stats.frame_tx.datagram && self.unsent_datagrams() == 0 {
            self.datagrams.too_large = counts.given - stats.frame_tx.datagram;
        }
    }

    /// Writes packets of one GSO batch of at most `max_segments` into the empty `buffer`;
    /// the transmit says where they go.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        max_segments: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.keep_alive.start(now);
        let transmit = self.transmit_inner(now, max_segments.max(1), buffer)?;
        // The first MTU probe stays here. quinn makes it as soon as the handshake is complete, and
        // again when later packets show that it did not arrive. A connection that does not live to
        // see that has no use for large packets, and to many of them both ends' probes are a
        // fifteenth of their cost. Nothing but a probe is larger than the MTU.
        let is_probe = transmit.segment_size.is_none()
            && transmit.size > usize::from(self.inner.current_mtu());
        if is_probe && self.withheld_probe == 0 {
            self.withheld_probe = transmit.size as u64;
            buffer.clear();
            return None;
        }
        Some(transmit)
    }

    fn transmit_inner(
        &mut self,
        now: Instant,
        max_segments: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let transmit = self.transmit_paced(now, max_segments, buffer);
        if transmit.is_some() || !self.sideband.end_probe() {
            return transmit;
        }
        // There may be what needs the room that was kept for a probe.
        self.transmit_paced(now, max_segments, buffer)
    }

    fn transmit_paced(
        &mut self,
        now: Instant,
        max_segments: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        let Some(pacer) = &mut self.pacer else {
            return self.inner.poll_transmit(now, max_segments, buffer);
        };
        let mtu = self.inner.current_mtu();
        let packets = pacer.begin(self.inner.congestion_state(), now, mtu, max_segments);
        let transmit = self.inner.poll_transmit(now, packets, buffer);
        pacer.end(transmit.as_ref().map_or(0, |transmit| transmit.size));
        transmit
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let quic = self.inner.poll_timeout();
        if self.inner.is_closed() {
            return quic;
        }
        let ping = self.keep_alive.due();
        let room = self.pacer.as_ref().and_then(|pacer| pacer.due());
        quic.into_iter().chain(ping).chain(room).min()
    }

    pub(crate) fn poll_endpoint_event(&mut self) -> Option<EndpointEvent> {
        self.inner.poll_endpoint_events()
    }

    /// True once, when the handshake is found to be over, well or badly.
    pub(crate) fn take_handshake_end(&mut self) -> bool {
        self.in_handshake && !self.inner.is_handshaking() && self.take_in_handshake()
    }

    /// Whether the endpoint has yet to hear that the handshake is over; it has now.
    pub(crate) fn take_in_handshake(&mut self) -> bool {
        std::mem::take(&mut self.in_handshake)
    }

    pub(crate) fn place(&mut self) -> &mut Option<Place> {
        &mut self.place
    }

    /// The largest datagram that can be sent now; `None` when the peer takes none.
    pub fn max_datagram_size(&mut self) -> Option<usize> {
        let max = self.inner.datagrams().max_size()?;
        if !self.peer_takes_reset_stream_at() {
            return Some(max);
        }
        // quinn has subtracted the room that is in use.
        Some((max + self.sideband.room()).saturating_sub(RESET_ROOM))
    }

    /// Whether the peer takes RESET_STREAM_AT; known when [`Event::Connected`] is. This side does.
    pub fn peer_takes_reset_stream_at(&self) -> bool {
        self.sideband.peer_takes_reset_stream_at()
    }

    /// Queues one datagram.
    pub fn send_datagram(&mut self, data: Bytes) -> Result<(), DatagramRefused> {
        let limit = self
            .max_datagram_size()
            .ok_or(DatagramRefused::Unsupported)?;
        self.send_datagram_within(limit, data)
    }

    /// Queues one datagram, of several: `limit` is what [`Self::max_datagram_size`] says before
    /// the first.
    pub fn send_datagram_within(
        &mut self,
        limit: usize,
        data: Bytes,
    ) -> Result<(), DatagramRefused> {
        if data.len() > limit {
            return Err(DatagramRefused::TooLarge);
        }
        let sent = self.inner.datagrams().send(data, false);
        if sent.is_ok() {
            self.datagrams.given += 1;
            self.sideband.set_sends_datagrams();
        }
        sent.map_err(|error| match error {
            SendDatagramError::Blocked(data) => DatagramRefused::Full(data),
            SendDatagramError::TooLarge => DatagramRefused::TooLarge,
            SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled => {
                DatagramRefused::Unsupported
            }
        })
    }

    /// Bytes of datagrams, and of what keeps them, that wait to be packed. QUIC packs them before
    /// any stream data.
    pub fn unsent_datagrams(&mut self) -> usize {
        let room = self.inner.datagrams().send_buffer_space();
        self.datagram_room.saturating_sub(room)
    }

    /// Bytes that may be in flight at once.
    pub fn congestion_window(&self) -> u64 {
        self.inner.congestion_state().window()
    }

    /// Packets declared lost.
    pub fn packets_lost(&self) -> u64 {
        self.inner.stats().path.lost_packets
    }

    /// Whether so many packets of ours wait for each other on the way that more of them would only
    /// wait longer, or find no room: at a slow link, or in the socket of a peer that is busy.
    pub fn has_queue_ahead(&self) -> bool {
        if self.inner.rtt() <= 2 * self.inner.min_rtt() + QUEUE_DELAY {
            return false;
        }
        let flight = flight(self.inner.congestion_state());
        flight.after_ack + flight.since > QUEUE_SIZE
    }

    /// Takes the oldest received datagram.
    pub fn receive_datagram(&mut self) -> Option<Bytes> {
        let datagram = self.inner.datagrams().recv()?;
        self.datagrams.taken += 1;
        Some(datagram)
    }

    /// CONNECTION_CLOSE with an application code.
    pub fn close(&mut self, now: Instant, code: u64, reason: &str) {
        let code = VarInt::from_u64(code).unwrap_or(VarInt::MAX);
        lift(self.inner.congestion_state());
        self.inner
            .close(now, code, Bytes::copy_from_slice(reason.as_bytes()));
    }

    /// Queues a PING.
    pub fn ping(&mut self) {
        self.inner.ping();
    }

    /// The local address has changed: the next packet probes the path from there.
    pub fn local_address_changed(&mut self) {
        self.inner.local_address_changed();
    }

    /// TLS keying material (RFC 8446 §7.5); false when `output` is too long.
    pub fn export_keying_material(&self, output: &mut [u8], label: &[u8], context: &[u8]) -> bool {
        self.inner
            .crypto_session()
            .export_keying_material(output, label, context)
            .is_ok()
    }

    /// The peer's certificate chain in DER, leaf first; empty when it showed none.
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        self.inner
            .crypto_session()
            .peer_identity()
            .and_then(|chain| {
                chain
                    .downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>()
                    .ok()
            })
            .map(|chain| chain.iter().map(|der| der.to_vec()).collect())
            .unwrap_or_default()
    }

    /// The application protocol agreed on, once the handshake has come that far.
    pub fn protocol(&self) -> Option<Vec<u8>> {
        handshake(&self.inner)?.protocol
    }

    /// This connection's place in its endpoint.
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Which side this is.
    pub fn side(&self) -> Side {
        self.inner.side()
    }

    /// Whether the handshake still runs.
    pub fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    /// Whether the connection is closing, draining or gone.
    pub fn is_closed(&self) -> bool {
        self.inner.is_closed()
    }

    /// Whether nothing is left to do but forget the connection.
    pub fn is_drained(&self) -> bool {
        self.inner.is_drained()
    }

    /// Where the peer is now.
    pub fn remote_address(&self) -> SocketAddr {
        self.inner.remote_address()
    }

    /// The local address packets arrive at, when the socket tells.
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.inner.local_ip()
    }

    /// The path MTU.
    pub fn mtu(&self) -> u16 {
        self.inner.current_mtu()
    }

    /// Smoothed round trip time.
    pub fn rtt(&self) -> Duration {
        self.inner.rtt()
    }

    /// PING frames sent so far, probes included.
    pub fn ping_frames_sent(&self) -> u64 {
        self.inner.stats().frame_tx.ping
    }

    /// Counters and estimates.
    pub fn stats(&self) -> Stats {
        let stats = self.inner.stats();
        let flight = flight(self.inner.congestion_state());
        let is_sending = stats.frame_tx.stream != self.acknowledged.1;
        let (datagrams_acknowledged, datagrams_lost) = self.sideband.datagrams_arrived_and_lost();
        Stats {
            bytes_in_flight: flight.after_ack + if is_sending { flight.since } else { 0 },
            rtt: stats.path.rtt,
            min_rtt: self.inner.min_rtt(),
            cwnd: stats.path.cwnd,
            mtu: stats.path.current_mtu,
            bytes_sent: stats.udp_tx.bytes - self.withheld_probe,
            bytes_received: stats.udp_rx.bytes,
            packets_sent: stats.udp_tx.datagrams - u64::from(self.withheld_probe > 0),
            packets_received: stats.udp_rx.datagrams,
            packets_lost: stats.path.lost_packets,
            bytes_lost: stats.path.lost_bytes,
            tls_received: self.sideband.tls_received(),
            congestion_events: stats.path.congestion_events,
            datagrams_sent: stats.frame_tx.datagram,
            datagrams_waiting: self.datagrams.given
                - self.datagrams.too_large
                - stats.frame_tx.datagram,
            datagrams_acknowledged,
            datagrams_lost,
            datagrams_too_large: self.datagrams.too_large,
            datagrams_received: stats.frame_rx.datagram,
            datagrams_overflown: self.datagrams.overflown,
        }
    }
}

/// How much longer than twice the path's own a round trip takes when packets wait on the way; what
/// an end takes that is busy with others is less.
const QUEUE_DELAY: Duration = Duration::from_millis(5);
/// Bytes that may be on the way however long they take. A socket has as much room by default.
const QUEUE_SIZE: u64 = 256 * 1024;

fn handshake(inner: &quinn_proto::Connection) -> Option<Box<Handshake>> {
    inner.crypto_session().handshake_data()?.downcast().ok()
}
