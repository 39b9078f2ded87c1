//! A client and a server endpoint joined by a wire in memory, on a clock that only tests move.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
pub mod link;

use pywt_quic::{
    ClientOptions, ClientTls, Close, Connection, Endpoint, Event, Handle, Identity, Packet,
    Processed, ReadState, Received, ServerOptions, ServerTls, TransportOptions, Verify,
};

pub const CLIENT: &str = "127.0.0.1:1111";
pub const SERVER: &str = "127.0.0.1:4433";

pub fn identity() -> (Identity, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let identity =
        Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    (identity, certificate.der().to_vec())
}

/// A chain of `copies` certificates, for its size.
pub fn identity_with_chain(copies: usize) -> Identity {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let chain = params.self_signed(&key).unwrap().pem().repeat(copies);
    Identity::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
}

/// Valid for ten days around now, as pinning wants.
pub fn short_lived_identity() -> (Identity, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    params.not_before = epoch + (now - Duration::from_secs(5 * 86_400));
    params.not_after = epoch + (now + Duration::from_secs(5 * 86_400));
    let certificate = params.self_signed(&key).unwrap();
    let identity =
        Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    (identity, certificate.der().to_vec())
}

pub fn server_tls(identity: Identity) -> ServerTls {
    ServerTls {
        alpn: vec![b"h3".to_vec()],
        ca_file: None,
        identity,
        key_log: None,
        verify: Verify::None,
    }
}

pub fn client_tls() -> ClientTls {
    ClientTls {
        alpn: vec![b"h3".to_vec()],
        verify: Verify::None,
        ..ClientTls::default()
    }
}

pub struct Peer {
    pub endpoint: Endpoint,
    pub address: SocketAddr,
    pub connections: HashMap<Handle, Connection>,
    pub events: Vec<(Handle, Event)>,
}

impl Peer {
    fn new(address: &str) -> Self {
        Self {
            endpoint: Endpoint::new(true, None),
            address: address.parse().unwrap(),
            connections: HashMap::new(),
            events: Vec::new(),
        }
    }

    pub fn only(&mut self) -> &mut Connection {
        assert_eq!(self.connections.len(), 1);
        self.connections.values_mut().next().unwrap()
    }

    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.drain(..).map(|(_, event)| event).collect()
    }
}

type Wire = VecDeque<(Instant, SocketAddr, SocketAddr, BytesMut)>;

pub struct Pair {
    pub now: Instant,
    pub client: Peer,
    pub server: Peer,
    pub wire: Wire,
    pub latency: Duration,
    /// Packets for which this says true are lost.
    pub drop_if: Box<dyn FnMut(u64) -> bool>,
    /// Packets for which this says true overtake those on the way.
    pub overtake_if: Box<dyn FnMut(u64) -> bool>,
    /// Every packet sent so far: who sent it, and its contents.
    pub log: Vec<(SocketAddr, BytesMut)>,
    sent: u64,
}

impl Pair {
    pub fn new(tls: &ServerTls, transport: TransportOptions, options: ServerOptions) -> Self {
        let mut server = Peer::new(SERVER);
        server.endpoint.serve(tls, transport, options).unwrap();
        Self {
            now: Instant::now(),
            client: Peer::new(CLIENT),
            server,
            wire: VecDeque::new(),
            latency: Duration::from_millis(5),
            drop_if: Box::new(|_| false),
            overtake_if: Box::new(|_| false),
            log: Vec::new(),
            sent: 0,
        }
    }

    pub fn default_pair() -> Self {
        Self::new(
            &server_tls(identity().0),
            TransportOptions::default(),
            ServerOptions::default(),
        )
    }

    pub fn connect(&mut self, tls: &ClientTls, transport: TransportOptions) -> Handle {
        let options = ClientOptions::new(tls, transport).unwrap();
        self.connect_with(&options)
    }

    pub fn connect_with(&mut self, options: &ClientOptions) -> Handle {
        let connection = self
            .client
            .endpoint
            .connect(self.now, options, self.server.address, "localhost")
            .unwrap();
        let handle = connection.handle();
        self.client.connections.insert(handle, connection);
        handle
    }

    pub fn connected() -> Self {
        Self::connected_with(TransportOptions::default())
    }

    pub fn connected_with(transport: TransportOptions) -> Self {
        let tls = server_tls(identity().0);
        let mut pair = Self::new(&tls, transport, ServerOptions::default());
        pair.connect(&client_tls(), TransportOptions::default());
        pair.settle();
        assert!(pair
            .client
            .take_events()
            .iter()
            .any(|e| matches!(e, Event::Connected)));
        assert!(pair
            .server
            .take_events()
            .iter()
            .any(|e| matches!(e, Event::Connected)));
        pair
    }

    fn collect(peer: &mut Peer, now: Instant, wire: &mut Vec<(SocketAddr, SocketAddr, BytesMut)>) {
        let mut drained = Vec::new();
        for (handle, connection) in &mut peer.connections {
            while let Some(event) = connection.poll() {
                peer.events.push((*handle, event));
            }
            let mut buffer = Vec::new();
            while let Some(transmit) = connection.poll_transmit(now, 10, &mut buffer) {
                let mut data = BytesMut::from(&buffer[..transmit.size]);
                let stride = transmit.segment_size.unwrap_or(transmit.size);
                while !data.is_empty() {
                    let packet = data.split_to(stride.min(data.len()));
                    wire.push((peer.address, transmit.destination, packet));
                }
                buffer.clear();
            }
            if peer.endpoint.process(connection) == Processed::Drained {
                drained.push(*handle);
            }
        }
        for handle in drained {
            peer.connections.remove(&handle);
        }
        while let Some(response) = peer.endpoint.poll_response() {
            wire.push((
                peer.address,
                response.transmit.destination,
                BytesMut::from(&response.data[..]),
            ));
        }
    }

    fn deliver(peer: &mut Peer, now: Instant, from: SocketAddr, data: BytesMut) {
        let packet = Packet {
            now,
            remote: from,
            local_ip: None,
            ecn: None,
            data,
        };
        let mut next = Some(packet);
        while let Some(packet) = next.take() {
            match peer.endpoint.receive(packet) {
                Received::Routed(handle, routed) => {
                    let connection = peer.connections.get_mut(&handle);
                    next = connection.and_then(|connection| connection.handle_event(routed));
                }
                Received::Opened(connection) => {
                    peer.connections.insert(connection.handle(), connection);
                }
                Received::Handled => {}
            }
        }
    }

    /// Moves packets until nothing is in flight; the clock advances by latencies only.
    pub fn settle(&mut self) {
        for _ in 0..200_000 {
            let mut out = Vec::new();
            Self::collect(&mut self.client, self.now, &mut out);
            Self::collect(&mut self.server, self.now, &mut out);
            for (from, to, data) in out {
                self.sent += 1;
                self.log.push((from, data.clone()));
                if !(self.drop_if)(self.sent) {
                    let packet = (self.now + self.latency, from, to, data);
                    if (self.overtake_if)(self.sent) {
                        self.wire.push_front(packet);
                    } else {
                        self.wire.push_back(packet);
                    }
                }
            }
            let Some((at, from, to, data)) = self.wire.pop_front() else {
                return;
            };
            self.now = self.now.max(at);
            if to == self.server.address {
                Self::deliver(&mut self.server, self.now, from, data);
            } else {
                Self::deliver(&mut self.client, self.now, from, data);
            }
            self.fire_timers();
        }
        panic!("the pair does not settle");
    }

    fn fire_timers(&mut self) {
        for peer in [&mut self.client, &mut self.server] {
            for connection in peer.connections.values_mut() {
                if connection.poll_timeout().is_some_and(|at| at <= self.now) {
                    connection.handle_timeout(self.now);
                }
            }
        }
    }

    /// Lets time pass, with every timer and packet on the way.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            self.settle();
            let next = [&mut self.client, &mut self.server]
                .into_iter()
                .flat_map(|peer| peer.connections.values_mut())
                .filter_map(Connection::poll_timeout)
                .min();
            match next {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    self.fire_timers();
                }
                _ => break,
            }
        }
        self.now = self.now.max(end);
        self.settle();
    }
}

pub fn read_all(connection: &mut Connection, id: u64) -> (Vec<u8>, ReadState) {
    let mut chunks: Vec<Bytes> = Vec::new();
    let (_, state) = connection.read(id, usize::MAX, &mut chunks);
    (chunks.concat(), state)
}

/// Numbers that look random, the same in every run.
pub fn random(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    }
}

/// How a connection ended.
pub fn closed(events: Vec<Event>) -> Close {
    events
        .into_iter()
        .find_map(|event| match event {
            Event::Closed(close) => Some(close),
            _ => None,
        })
        .unwrap()
}
