//! Two endpoints joined by a wire in memory, on a clock that only tests move.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use pywt_endpoint::core::{Config, Request, Response};
use pywt_endpoint::quic::{
    ClientOptions, ClientTls, Identity, Packet, ServerOptions, ServerTls, TransportOptions, Verify,
};
use pywt_endpoint::{
    Connection, ConnectionKey, ConnectionOptions, DatagramDrops, Endpoint, Error, Notification,
    Payload, Read, ServerSetup,
};

pub fn identity() -> Identity {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap()
}

/// What a test varies.
pub struct Setup {
    pub client: ConnectionOptions,
    pub server: ConnectionOptions,
    pub client_transport: TransportOptions,
    pub server_transport: TransportOptions,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            client: ConnectionOptions::new(Config::client()),
            server: ConnectionOptions::new(Config::server()),
            client_transport: TransportOptions::default(),
            server_transport: TransportOptions::default(),
        }
    }
}

pub fn server_setup(setup: &Setup) -> ServerSetup {
    ServerSetup {
        tls: ServerTls {
            alpn: vec![b"h3".to_vec()],
            ca_file: None,
            identity: identity(),
            key_log: None,
            verify: Verify::None,
        },
        transport: setup.server_transport.clone(),
        options: ServerOptions::default(),
        connection: setup.server.clone(),
    }
}

pub fn client_options(setup: &Setup) -> ClientOptions {
    let tls = ClientTls {
        alpn: vec![b"h3".to_vec()],
        verify: Verify::None,
        ..ClientTls::default()
    };
    ClientOptions::new(&tls, setup.client_transport.clone()).unwrap()
}

pub struct Side {
    pub endpoint: Endpoint,
    pub address: SocketAddr,
    pub key: Option<ConnectionKey>,
    pub seen: Vec<Notification>,
}

impl Side {
    fn new(address: &str, now: Instant) -> Self {
        Self {
            endpoint: Endpoint::new(true, None, now),
            address: address.parse().unwrap(),
            key: None,
            seen: Vec::new(),
        }
    }

    pub fn call<T>(
        &mut self,
        call: impl FnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.endpoint.with(self.key.unwrap(), call)
    }

    pub fn take(&mut self) -> Vec<Notification> {
        self.collect();
        std::mem::take(&mut self.seen)
    }

    fn collect(&mut self) {
        while let Some((key, notification)) = self.endpoint.poll_notification() {
            self.key.get_or_insert(key);
            self.seen.push(notification);
        }
    }

    /// Streams that the endpoint keeps for sessions, and sessions.
    pub fn kept(&mut self) -> usize {
        let connection = self.endpoint.connection(self.key.unwrap()).unwrap();
        let kept = connection.kept();
        kept.streams + kept.sessions + kept.left
    }

    pub fn drops(&mut self) -> DatagramDrops {
        self.call(|connection| Ok(connection.stats().datagrams))
            .unwrap()
    }

    pub fn read(&mut self, id: u64, now: Instant) -> (Vec<u8>, Read) {
        let mut chunks: Vec<Bytes> = Vec::new();
        let read = self
            .call(|connection| Ok(connection.stream_read(id, usize::MAX, &mut chunks, now)))
            .unwrap();
        (chunks.concat(), read)
    }

    pub fn write(&mut self, id: u64, data: &[u8], fin: bool, now: Instant) -> Result<usize, Error> {
        self.call(|connection| connection.stream_write(id, Payload::Slice(data), fin, now))
    }
}

pub struct Pair {
    pub now: Instant,
    pub client: Side,
    pub server: Side,
    wire: VecDeque<(Instant, SocketAddr, SocketAddr, BytesMut)>,
    pub latency: Duration,
    pub drop_if: Box<dyn FnMut(u64) -> bool>,
    sent: u64,
    quiet: bool,
}

impl Pair {
    pub fn new(setup: &Setup) -> Self {
        let now = Instant::now();
        let mut pair = Self {
            now,
            client: Side::new("127.0.0.1:1111", now),
            server: Side::new("127.0.0.1:4433", now),
            wire: VecDeque::new(),
            latency: Duration::from_millis(5),
            drop_if: Box::new(|_| false),
            sent: 0,
            quiet: false,
        };
        pair.server.endpoint.serve(server_setup(setup)).unwrap();
        let key = pair
            .client
            .endpoint
            .connect(
                &client_options(setup),
                &setup.client,
                pair.server.address,
                "localhost",
                now,
            )
            .unwrap();
        pair.client.key = Some(key);
        pair
    }

    /// A pair with one established session, whose id is 0.
    pub fn with_session(setup: &Setup) -> Self {
        let mut pair = Self::new(setup);
        pair.settle();
        assert_eq!(pair.client.take(), [Notification::Connected]);
        assert_eq!(pair.server.take(), [Notification::Connected]);
        assert_eq!(pair.request(), 0);
        pair.accept(0);
        pair
    }

    pub fn request(&mut self) -> u64 {
        let request = Request {
            authority: "localhost:4433".into(),
            path: "/echo".into(),
            ..Request::default()
        };
        let now = self.now;
        let session = self
            .client
            .call(|connection| connection.open_session(request, now))
            .unwrap();
        self.settle();
        assert!(matches!(
            self.server.take().as_slice(),
            [Notification::SessionRequested { session: asked, path, .. }]
                if *asked == session && path == "/echo"
        ));
        session
    }

    pub fn accept(&mut self, session: u64) {
        let now = self.now;
        self.server
            .call(|connection| connection.accept_session(session, Response::default(), now))
            .unwrap();
        self.settle();
        // Before it, QUIC may allow streams that another session waits for.
        assert!(matches!(
            self.client.take().as_slice(),
            [.., Notification::SessionEstablished { session: opened, .. }] if *opened == session
        ));
    }

    /// Moves packets until nothing is in flight, telling nobody anything.
    pub fn deliver_quietly(&mut self) {
        self.quiet = true;
        self.settle();
        self.quiet = false;
    }

    /// Puts on the wire what both may send now.
    pub fn transmit(&mut self) {
        let mut buffer = Vec::new();
        for side in [&mut self.client, &mut self.server] {
            while let Some(transmit) =
                side.endpoint
                    .poll_transmit(self.now, false, |_| 10, &mut buffer)
            {
                let mut data = BytesMut::from(&buffer[..transmit.size]);
                let stride = transmit.segment_size.unwrap_or(transmit.size);
                while !data.is_empty() {
                    let packet = data.split_to(stride.min(data.len()));
                    self.sent += 1;
                    if !(self.drop_if)(self.sent) {
                        self.wire.push_back((
                            self.now + self.latency,
                            side.address,
                            transmit.destination,
                            packet,
                        ));
                    }
                }
                buffer.clear();
            }
            if !self.quiet {
                side.collect();
            }
        }
    }

    /// Delivers what is on the wire now, and nothing that comes of it.
    pub fn deliver_one_flight(&mut self) {
        for _ in 0..self.wire.len() {
            self.deliver_next();
        }
    }

    fn deliver_next(&mut self) -> bool {
        let Some((at, from, to, data)) = self.wire.pop_front() else {
            return false;
        };
        self.now = self.now.max(at);
        let now = self.now;
        let side = if to == self.server.address {
            &mut self.server
        } else {
            &mut self.client
        };
        side.endpoint.receive(Packet {
            now,
            remote: from,
            local_ip: None,
            ecn: None,
            data,
        });
        side.endpoint.drive(now);
        for side in [&mut self.client, &mut self.server] {
            side.endpoint.handle_timeouts(now);
            if !self.quiet {
                side.collect();
            }
        }
        true
    }

    /// Packets and timers in the order of time until `end`; `turn` is called before each.
    pub fn flow_until(
        &mut self,
        end: Instant,
        mut turn: impl FnMut(&mut Side, &mut Side, Instant),
    ) {
        while self.now < end {
            turn(&mut self.client, &mut self.server, self.now);
            self.step();
        }
    }

    /// Sends what there is, then lets the next packet arrive or the next timer fire.
    pub fn step(&mut self) {
        self.transmit();
        let timer = [&self.client, &self.server]
            .into_iter()
            .filter_map(|side| side.endpoint.next_timeout())
            .min();
        let packet = self.wire.front().map(|(at, ..)| *at);
        match (timer, packet) {
            (Some(timer), packet) if packet.is_none_or(|at| timer < at) => {
                self.now = self.now.max(timer);
                for side in [&mut self.client, &mut self.server] {
                    side.endpoint.handle_timeouts(self.now);
                }
            }
            _ => assert!(self.deliver_next(), "nothing will ever happen"),
        }
    }

    /// Moves packets until nothing is in flight; the clock advances by latencies only.
    pub fn settle(&mut self) {
        for _ in 0..500_000 {
            self.transmit();
            if !self.deliver_next() {
                return;
            }
        }
        panic!("the pair does not settle");
    }

    /// Lets time pass, with every timer and packet on the way.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            self.settle();
            let next = [&self.client, &self.server]
                .into_iter()
                .filter_map(|side| side.endpoint.next_timeout())
                .min();
            match next {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    for side in [&mut self.client, &mut self.server] {
                        side.endpoint.handle_timeouts(self.now);
                    }
                }
                _ => break,
            }
        }
        self.now = self.now.max(end);
        self.settle();
    }
}
