//! One connection with an endpoint of its own, for drivers that bring their sockets and clocks:
//! the shape of aioquic's `QuicConnection`, which buffers what the peer's limits hold back.
//!
//! Time is a duration since an epoch of the driver's choice. Received data stays in quinn, and
//! its credit with the peer, until [`Standalone::next_event`] asks for it.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn_proto::{Dir, Side};

use crate::ack_clock::AckClock;
use crate::connection::DatagramRefused;
use crate::endpoint::{Packet, Processed, Received};
use crate::{
    ClientOptions, ClientTls, Close, CloseBy, Connection, Endpoint, Error, Event, ReadState,
    ServerOptions, ServerTls, Stats, TransportOptions, WriteState,
};

/// What happened, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum StandaloneEvent {
    /// The handshake is complete, with this application protocol.
    Connected {
        /// ALPN, when one was agreed on.
        protocol: Option<Vec<u8>>,
    },
    /// A datagram.
    Datagram(Bytes),
    /// A packet sent after the ping was acknowledged.
    PingAcknowledged(u64),
    /// The peer asks to stop sending; the stream has been reset in answer.
    Stopped {
        /// The stream.
        id: u64,
        /// The peer's code.
        code: u64,
    },
    /// The peer reset its sending side.
    StreamReset {
        /// The stream.
        id: u64,
        /// The peer's code.
        code: u64,
    },
    /// Stream data, in order.
    StreamData {
        /// The stream.
        id: u64,
        /// Maybe empty, when it only carries the end.
        data: Bytes,
        /// Whether nothing follows.
        fin: bool,
    },
    /// The connection has ended. The last event.
    Terminated(Close),
}

/// A local call that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// `connect` on a server or for the second time; anything else before it.
    #[error("the connection is not in a state for this: {0}")]
    State(&'static str),
    /// Not a stream this side can send on.
    #[error("stream {0} is not one that this side can send on")]
    CannotSend(u64),
    /// Not a stream this side can receive on.
    #[error("stream {0} is not one that this side can receive on")]
    CannotReceive(u64),
    /// Data after the end.
    #[error("stream {0} has been finished or reset")]
    Finished(u64),
    /// A datagram that does not fit.
    #[error("datagram is {size} bytes, this connection allows {limit} now")]
    DatagramTooLarge {
        /// Its size.
        size: usize,
        /// The limit; 0 when the peer takes none.
        limit: usize,
    },
}

enum Role {
    Client {
        options: Box<ClientOptions>,
        server_name: String,
    },
    Server,
}

#[derive(Default)]
struct Outgoing {
    queue: VecDeque<Bytes>,
    /// Bytes in `queue`.
    unsent: usize,
    fin: bool,
    /// A reset asked for before quinn could open the stream.
    reset: Option<u64>,
}

/// One QUIC connection without I/O.
pub struct Standalone {
    role: Role,
    endpoint: Endpoint,
    connection: Option<Connection>,
    epoch: Instant,
    /// The latest time the driver has told.
    now: Instant,
    ack_clock: Arc<AckClock>,
    events: VecDeque<StandaloneEvent>,
    readable: VecDeque<u64>,
    outgoing: HashMap<u64, Outgoing>,
    /// The next stream to hand out, by `Dir as usize`, as an index within its direction.
    next_index: [u64; 2],
    /// How many of them quinn has opened.
    opened: [u64; 2],
    datagrams: VecDeque<Bytes>,
    datagrams_dropped: u64,
    /// Pings, and when they left.
    pings: VecDeque<(u64, Option<Instant>)>,
    ping_frames: u64,
    local_close: Option<Close>,
    terminated: bool,
}

impl Standalone {
    /// A client that verifies `server_name` and sends it as SNI.
    pub fn client(
        tls: &ClientTls,
        mut transport: TransportOptions,
        server_name: String,
    ) -> Result<Self, Error> {
        let ack_clock = Arc::new(AckClock::default());
        transport.ack_clock = Some(ack_clock.clone());
        let options = ClientOptions::new(tls, transport)?;
        Ok(Self::new(
            Role::Client {
                options: Box::new(options),
                server_name,
            },
            Endpoint::new(true, None),
            ack_clock,
        ))
    }

    /// A server for the one client whose packets it is given.
    pub fn server(tls: &ServerTls, mut transport: TransportOptions) -> Result<Self, Error> {
        let ack_clock = Arc::new(AckClock::default());
        transport.ack_clock = Some(ack_clock.clone());
        let mut endpoint = Endpoint::new(true, None);
        let options = ServerOptions {
            max_connections: 1,
            ..ServerOptions::default()
        };
        endpoint.serve(tls, transport, options)?;
        Ok(Self::new(Role::Server, endpoint, ack_clock))
    }

    fn new(role: Role, endpoint: Endpoint, ack_clock: Arc<AckClock>) -> Self {
        let epoch = Instant::now();
        Self {
            role,
            endpoint,
            connection: None,
            epoch,
            now: epoch,
            ack_clock,
            events: VecDeque::new(),
            readable: VecDeque::new(),
            outgoing: HashMap::new(),
            next_index: [0; 2],
            opened: [0; 2],
            datagrams: VecDeque::new(),
            datagrams_dropped: 0,
            pings: VecDeque::new(),
            ping_frames: 0,
            local_close: None,
            terminated: false,
        }
    }

    /// Client: starts the handshake.
    pub fn connect(&mut self, remote: SocketAddr, now: Duration) -> Result<(), ConnectError> {
        let Role::Client {
            options,
            server_name,
        } = &self.role
        else {
            return Err(Misuse::State("a server does not connect").into());
        };
        if self.connection.is_some() || self.terminated {
            return Err(Misuse::State("connect was called before").into());
        }
        self.now = self.epoch + now;
        self.connection = Some(
            self.endpoint
                .connect(self.now, options, remote, server_name)?,
        );
        Ok(())
    }

    /// Takes one UDP payload.
    pub fn receive_datagram(&mut self, data: &[u8], remote: SocketAddr, now: Duration) {
        self.now = self.epoch + now;
        let packet = Packet {
            now: self.now,
            remote,
            local_ip: None,
            ecn: None,
            data: BytesMut::from(data),
        };
        let mut next = Some(packet);
        while let Some(packet) = next.take() {
            match self.endpoint.receive(packet) {
                Received::Routed(_, routed) => {
                    let connection = self.connection.as_mut();
                    next = connection.and_then(|connection| connection.handle_event(routed));
                }
                Received::Opened(connection) => self.connection = Some(connection),
                Received::Handled => {}
            }
        }
        self.drain();
    }

    /// The UDP payloads to send now, and where to.
    pub fn datagrams_to_send(&mut self, now: Duration) -> Vec<(Vec<u8>, SocketAddr)> {
        let now = self.epoch + now;
        self.now = now;
        let mut packets = Vec::new();
        while let Some(response) = self.endpoint.poll_response() {
            packets.push((response.data, response.transmit.destination));
        }
        while let Some(connection) = &mut self.connection {
            let mut buffer = Vec::new();
            let Some(transmit) = connection.poll_transmit(now, MAX_SEGMENTS, &mut buffer) else {
                break;
            };
            buffer.truncate(transmit.size);
            let size = transmit.segment_size.unwrap_or(buffer.len()).max(1);
            packets.extend(
                buffer
                    .chunks(size)
                    .map(|p| (p.to_vec(), transmit.destination)),
            );
        }
        self.note_pings_sent(now);
        self.drain();
        packets
    }

    /// When [`Self::handle_timer`] wants to be called.
    pub fn timer(&mut self) -> Option<Duration> {
        let at = self.connection.as_mut()?.poll_timeout()?;
        Some(at.saturating_duration_since(self.epoch))
    }

    /// Takes note that a deadline has passed.
    pub fn handle_timer(&mut self, now: Duration) {
        let now = self.epoch + now;
        self.now = now;
        if let Some(connection) = &mut self.connection {
            if connection.poll_timeout().is_some_and(|at| at <= now) {
                connection.handle_timeout(now);
            }
        }
        self.drain();
    }

    /// The oldest event that was not taken.
    pub fn next_event(&mut self) -> Option<StandaloneEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            let id = self.readable.pop_front()?;
            self.read(id);
        }
    }

    /// The id that the next stream of this side will have.
    pub fn next_stream_id(&self, dir: Dir) -> u64 {
        self.id_of(dir, self.next_index[dir as usize])
    }

    /// Queues data on a stream; a new id of this side opens the stream. What the peer's limits
    /// hold back waits here.
    pub fn send_stream_data(&mut self, id: u64, data: Bytes, fin: bool) -> Result<(), Misuse> {
        self.check_can_send(id)?;
        self.reserve(id);
        let outgoing = self.outgoing.entry(id).or_default();
        if outgoing.fin {
            return Err(Misuse::Finished(id));
        }
        if !data.is_empty() {
            outgoing.unsent += data.len();
            outgoing.queue.push_back(data);
        }
        outgoing.fin |= fin;
        self.open_waiting();
        if self.flush(id) {
            Ok(())
        } else {
            Err(Misuse::Finished(id))
        }
    }

    /// Bytes of a stream that the peer's limits hold back.
    pub fn unsent(&self, id: u64) -> usize {
        self.outgoing.get(&id).map_or(0, |stream| stream.unsent)
    }

    /// RESET_STREAM; queued data is dropped.
    pub fn reset_stream(&mut self, id: u64, code: u64) -> Result<(), Misuse> {
        self.check_can_send(id)?;
        self.reserve(id);
        self.open_waiting();
        if self.has_opened(id) {
            self.outgoing.remove(&id);
            if let Some(connection) = &mut self.connection {
                connection.reset(id, code, &[]);
            }
        } else {
            let outgoing = self.outgoing.entry(id).or_default();
            *outgoing = Outgoing {
                fin: true,
                reset: Some(code),
                ..Outgoing::default()
            };
        }
        Ok(())
    }

    /// STOP_SENDING; unread data is dropped.
    pub fn stop_stream(&mut self, id: u64, code: u64) -> Result<(), Misuse> {
        let is_local = id & 1 == self.initiator_bit();
        if id & 2 != 0 && is_local {
            return Err(Misuse::CannotReceive(id));
        }
        if let Some(connection) = &mut self.connection {
            connection.stop(id, code);
        }
        Ok(())
    }

    /// Queues a PING; [`StandaloneEvent::PingAcknowledged`] carries `uid` back.
    pub fn send_ping(&mut self, uid: u64) {
        if let Some(connection) = &mut self.connection {
            connection.ping();
            self.pings.push_back((uid, None));
        }
    }

    /// Queues one datagram. Beyond [`MAX_QUEUED_DATAGRAMS`] the oldest is dropped and counted.
    pub fn send_datagram(&mut self, data: Bytes) -> Result<(), Misuse> {
        let limit = self.max_datagram_size();
        if data.len() > limit {
            return Err(Misuse::DatagramTooLarge {
                size: data.len(),
                limit,
            });
        }
        if self.datagrams.len() >= MAX_QUEUED_DATAGRAMS {
            self.datagrams.pop_front();
            self.datagrams_dropped += 1;
        }
        self.datagrams.push_back(data);
        self.flush_datagrams();
        Ok(())
    }

    /// The largest datagram that fits now; 0 before the handshake or when the peer takes none.
    pub fn max_datagram_size(&mut self) -> usize {
        self.connection
            .as_mut()
            .and_then(Connection::max_datagram_size)
            .unwrap_or(0)
    }

    /// CONNECTION_CLOSE with an application code; [`StandaloneEvent::Terminated`] follows when
    /// the peer can no longer need an answer.
    pub fn close(&mut self, code: u64, reason: &str) {
        if self.terminated || self.local_close.is_some() {
            return;
        }
        let close = Close::local(code, reason);
        match &mut self.connection {
            Some(connection) => {
                connection.close(self.now, code, reason);
                self.local_close = Some(close);
                self.drain();
            }
            None => self.terminate(close),
        }
    }

    /// Counters and estimates; zero before the connection exists.
    pub fn stats(&self) -> Stats {
        self.connection
            .as_ref()
            .map(Connection::stats)
            .unwrap_or_default()
    }

    /// Outgoing datagrams dropped because too many waited.
    pub fn datagrams_dropped(&self) -> u64 {
        self.datagrams_dropped
    }

    /// Which side this is.
    pub fn side(&self) -> Side {
        match self.role {
            Role::Client { .. } => Side::Client,
            Role::Server => Side::Server,
        }
    }

    /// Where the peer is, once that is known.
    pub fn remote_address(&self) -> Option<SocketAddr> {
        self.connection.as_ref().map(Connection::remote_address)
    }

    /// The peer's certificate chain in DER, leaf first.
    pub fn peer_certificates(&self) -> Vec<Vec<u8>> {
        self.connection
            .as_ref()
            .map(Connection::peer_certificates)
            .unwrap_or_default()
    }

    /// Everything that follows from a call: quinn's events, then the endpoint's share.
    fn drain(&mut self) {
        while let Some(connection) = &mut self.connection {
            if let Some(event) = connection.poll() {
                self.handle(event);
            } else if self.endpoint.process(connection) == Processed::Drained {
                self.connection = None;
                if let Some(close) = self.local_close.take() {
                    self.terminate(close);
                }
            } else {
                break;
            }
        }
        while let Some((uid, Some(sent))) = self.pings.front() {
            if !self.ack_clock.has_passed(*sent) {
                break;
            }
            self.events
                .push_back(StandaloneEvent::PingAcknowledged(*uid));
            self.pings.pop_front();
        }
    }

    fn handle(&mut self, event: Event) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        match event {
            Event::Connected => {
                let protocol = connection.protocol();
                self.events
                    .push_back(StandaloneEvent::Connected { protocol });
                self.open_waiting();
                self.flush_datagrams();
            }
            Event::Closed(close) if close.by != CloseBy::Local || self.local_close.is_none() => {
                self.terminate(close);
            }
            Event::Closed(_) | Event::Finished(_) | Event::StoppedStreamEnded { .. } => {}
            Event::StreamsOpened(dir) => {
                while let Some(id) = connection.accept(dir) {
                    self.readable.push_back(id);
                }
            }
            Event::StreamsAvailable(_) => self.open_waiting(),
            Event::Readable(id) => {
                if !self.readable.contains(&id) {
                    self.readable.push_back(id);
                }
            }
            Event::Writable(id) => {
                self.flush(id);
            }
            Event::Stopped { id, code } => self.stopped(id, code),
            Event::DatagramsReceived => {
                while let Some(data) = connection.receive_datagram() {
                    self.events.push_back(StandaloneEvent::Datagram(data));
                }
            }
            Event::DatagramsUnblocked => self.flush_datagrams(),
        }
    }

    fn terminate(&mut self, close: Close) {
        if !self.terminated {
            self.terminated = true;
            self.outgoing.clear();
            self.datagrams.clear();
            self.events.push_back(StandaloneEvent::Terminated(close));
        }
    }

    fn stopped(&mut self, id: u64, code: u64) {
        self.outgoing.remove(&id);
        if let Some(connection) = &mut self.connection {
            connection.reset(id, code, &[]);
        }
        self.events.push_back(StandaloneEvent::Stopped { id, code });
    }

    /// Turns what waits on a stream, up to [`READ_SIZE`], into events.
    fn read(&mut self, id: u64) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let mut chunks = Vec::new();
        let (_, state) = connection.read(id, READ_SIZE, &mut chunks);
        for data in chunks {
            self.events.push_back(StandaloneEvent::StreamData {
                id,
                data,
                fin: false,
            });
        }
        match state {
            ReadState::More => self.readable.push_back(id),
            ReadState::Finished => match self.events.back_mut() {
                Some(StandaloneEvent::StreamData { id: last, fin, .. }) if *last == id => {
                    *fin = true;
                }
                _ => {
                    let data = Bytes::new();
                    self.events.push_back(StandaloneEvent::StreamData {
                        id,
                        data,
                        fin: true,
                    });
                }
            },
            ReadState::Reset(reset) => {
                let code = reset.code;
                self.events
                    .push_back(StandaloneEvent::StreamReset { id, code });
            }
            ReadState::Blocked | ReadState::Unknown => {}
        }
    }

    /// Opens streams that were handed out, as far as the peer's limit allows, and sends what
    /// waits on them.
    fn open_waiting(&mut self) {
        for dir in [Dir::Bi, Dir::Uni] {
            while self.opened[dir as usize] < self.next_index[dir as usize] {
                let Some(connection) = &mut self.connection else {
                    return;
                };
                let Some(id) = connection.open(dir) else {
                    break;
                };
                self.opened[dir as usize] += 1;
                self.flush(id);
            }
        }
    }

    /// Hands quinn what waits on a stream; false when the stream takes nothing any more.
    fn flush(&mut self, id: u64) -> bool {
        if !self.has_opened(id) {
            return true;
        }
        let (Some(connection), Some(outgoing)) = (&mut self.connection, self.outgoing.get_mut(&id))
        else {
            return true;
        };
        let mut is_sending = true;
        if let Some(code) = outgoing.reset {
            connection.reset(id, code, &[]);
        }
        while let Some(data) = outgoing.queue.front_mut() {
            let (taken, state) = connection.write_bytes(id, data);
            outgoing.unsent -= taken;
            match state {
                WriteState::Done => {
                    outgoing.queue.pop_front();
                }
                WriteState::Blocked => return true,
                // The peer's STOP_SENDING is an event of its own.
                WriteState::Stopped(_) | WriteState::Unknown => {
                    is_sending = false;
                    break;
                }
            }
        }
        if is_sending && outgoing.fin && outgoing.reset.is_none() {
            is_sending = connection.finish(id);
        }
        self.outgoing.remove(&id);
        is_sending
    }

    fn flush_datagrams(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        while let Some(data) = self.datagrams.pop_front() {
            match connection.send_datagram(data) {
                Ok(()) => {}
                Err(DatagramRefused::Full(data)) => {
                    self.datagrams.push_front(data);
                    return;
                }
                // The path's MTU has fallen since it was queued.
                Err(DatagramRefused::TooLarge | DatagramRefused::Unsupported) => {
                    self.datagrams_dropped += 1;
                }
            }
        }
    }

    /// One PING frame answers every ping that was queued when it left.
    fn note_pings_sent(&mut self, now: Instant) {
        let Some(connection) = &self.connection else {
            return;
        };
        let frames = connection.ping_frames_sent();
        if frames > self.ping_frames {
            for (_, sent) in &mut self.pings {
                sent.get_or_insert(now);
            }
        }
        self.ping_frames = frames;
    }

    fn initiator_bit(&self) -> u64 {
        u64::from(self.side().is_server())
    }

    fn id_of(&self, dir: Dir, index: u64) -> u64 {
        index << 2 | (dir as u64) << 1 | self.initiator_bit()
    }

    fn check_can_send(&self, id: u64) -> Result<(), Misuse> {
        if self.terminated || self.local_close.is_some() {
            return Err(Misuse::State("the connection has ended"));
        }
        if id & 2 != 0 && id & 1 != self.initiator_bit() {
            return Err(Misuse::CannotSend(id));
        }
        Ok(())
    }

    /// Hands out every id of this side up to `id`.
    fn reserve(&mut self, id: u64) {
        if id & 1 == self.initiator_bit() {
            let next = &mut self.next_index[(id >> 1 & 1) as usize];
            *next = (*next).max((id >> 2) + 1);
        }
    }

    /// Whether quinn knows of this stream: the peer opened it, or its limit let us.
    fn has_opened(&self, id: u64) -> bool {
        id & 1 != self.initiator_bit() || id >> 2 < self.opened[(id >> 1 & 1) as usize]
    }
}

/// Why a handshake cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A call at the wrong moment.
    #[error(transparent)]
    Misuse(#[from] Misuse),
    /// A name or address that cannot be used.
    #[error(transparent)]
    Refused(#[from] Error),
}

/// Outgoing datagrams that wait for room in packets; the oldest is dropped beyond it.
pub const MAX_QUEUED_DATAGRAMS: usize = 1024;
/// Bytes of one stream that are turned into events before another stream has its turn.
const READ_SIZE: usize = 64 * 1024;
/// Packets built by one call into quinn; they are handed out one by one.
const MAX_SEGMENTS: usize = 10;
