//! A server's `Endpoint` between a client that speaks QUIC well and HTTP/3 as it likes, and
//! strangers who send it packets: damaged ones, ones made from nothing, first flights with
//! anything inside. Nothing panics, and when all is over nothing is left.

#![no_main]

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use pywt_endpoint::core::{self, Config, Response};
use pywt_endpoint::quic::{
    ClientTls, Dir, Identity, Packet, ServerOptions, ServerTls, Standalone, TransportOptions,
    Verify,
};
use pywt_endpoint::{
    ConnectionKey, ConnectionOptions, Endpoint, Notification, Payload, ServerSetup,
};
use pywt_fuzz::packet::{initial, open_initial};
use pywt_fuzz::piece::{bytes_of, settings_of, Piece};
use pywt_fuzz::support::control_stream;

const SERVER: &str = "127.0.0.1:4433";
const CLIENT: &str = "127.0.0.1:1111";
const IDLE: Duration = Duration::from_secs(5);
/// Longer than every timer of a connection without a peer.
const FOR_GOOD: Duration = Duration::from_secs(60);

#[derive(Arbitrary, Debug)]
struct Run {
    retry: bool,
    /// As in the target `connection`.
    greeting: u8,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// The client, on a stream of its own.
    Open(bool, Vec<Piece>, bool),
    More(u8, Vec<Piece>, bool),
    ResetStream(u8, u64),
    StopStream(u8, u64),
    Datagram(Vec<u8>),
    CloseClient(u64),
    /// The path: the next packets vanish, come twice, or are damaged.
    Lose(u8),
    Twice,
    Damage(u16, u8),
    /// Strangers.
    Packet(Vec<u8>),
    Initial {
        dcid: [u8; 8],
        token: Vec<u8>,
        frames: Vec<u8>,
        short: bool,
    },
    /// A real first flight with some of its bytes changed, and changed in length.
    Hello(Vec<(u16, u8)>, u8),
    /// The server's application.
    Accept(u8),
    Reject(u8, u16),
    CloseSession(u8, u32, String),
    OpenStream(u8, bool),
    Write(u8, u16, bool),
    Read(u8),
    ResetOurs(u8, u32),
    StopOurs(u8, u32),
    SendDatagram(u8, Vec<u8>),
    Time(u16),
}

struct Site {
    base: Instant,
    elapsed: Duration,
    server: Endpoint,
    client: Standalone,
    key: Option<ConnectionKey>,
    opened: Vec<u64>,
    lose: u8,
    twice: bool,
    damage: Option<(u16, u8)>,
}

fn identity() -> Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY
        .get_or_init(|| {
            let key = rcgen::KeyPair::generate().expect("a key");
            let params = rcgen::CertificateParams::new(vec!["localhost".into()]).expect("a name");
            let certificate = params.self_signed(&key).expect("a certificate");
            Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())
                .expect("an identity")
        })
        .clone()
}

fn transport() -> TransportOptions {
    TransportOptions {
        max_idle_timeout: Some(IDLE),
        mtu_discovery: false,
        ..TransportOptions::default()
    }
}

fn new_client(now: Duration) -> Standalone {
    let tls = ClientTls {
        alpn: vec![b"h3".to_vec()],
        verify: Verify::None,
        ..ClientTls::default()
    };
    let mut client =
        Standalone::client(&tls, transport(), "localhost".into()).expect("good options");
    client
        .connect(SERVER.parse().expect("an address"), now)
        .expect("a first connect");
    client
}

impl Site {
    fn new(retry: bool) -> Self {
        let base = Instant::now();
        let mut server = Endpoint::new(true, None, base);
        let options = ServerOptions {
            retry,
            ..ServerOptions::default()
        };
        server
            .serve(ServerSetup {
                tls: ServerTls {
                    alpn: vec![b"h3".to_vec()],
                    ca_file: None,
                    identity: identity(),
                    key_log: None,
                    verify: Verify::None,
                },
                transport: transport(),
                options,
                connection: ConnectionOptions::new(Config::server()),
            })
            .expect("good options");
        Self {
            base,
            elapsed: Duration::ZERO,
            server,
            client: new_client(Duration::ZERO),
            key: None,
            opened: Vec::new(),
            lose: 0,
            twice: false,
            damage: None,
        }
    }

    fn receive(&mut self, data: &[u8], from: &str) {
        self.server.receive(Packet {
            now: self.base + self.elapsed,
            remote: from.parse().expect("an address"),
            local_ip: None,
            ecn: None,
            data: BytesMut::from(data),
        });
    }

    /// What a path does to a packet of either side.
    fn carried(&mut self, mut data: Vec<u8>) -> Vec<Vec<u8>> {
        if self.lose > 0 {
            self.lose -= 1;
            return Vec::new();
        }
        if let Some((at, with)) = self.damage.take() {
            let at = usize::from(at) % data.len().max(1);
            if let Some(byte) = data.get_mut(at) {
                *byte ^= with;
            }
        }
        if std::mem::take(&mut self.twice) {
            return vec![data.clone(), data];
        }
        vec![data]
    }

    /// Moves packets until both ends are quiet.
    fn run(&mut self) {
        let client: SocketAddr = CLIENT.parse().expect("an address");
        for _ in 0..2_000 {
            let now = self.base + self.elapsed;
            let mut moved = false;
            for (data, _) in self.client.datagrams_to_send(self.elapsed) {
                moved = true;
                for data in self.carried(data) {
                    self.receive(&data, CLIENT);
                }
            }
            self.server.drive(now);
            self.told();
            let mut buffer = Vec::new();
            while let Some(transmit) = self.server.poll_transmit(now, false, |_| 10, &mut buffer) {
                moved = true;
                let packets = buffer[..transmit.size]
                    .chunks(transmit.segment_size.unwrap_or(transmit.size))
                    .map(<[u8]>::to_vec)
                    .collect::<Vec<_>>();
                buffer.clear();
                for data in packets {
                    if transmit.destination == client {
                        let from = SERVER.parse().expect("an address");
                        for data in self.carried(data) {
                            self.client.receive_datagram(&data, from, self.elapsed);
                        }
                    }
                }
            }
            while self.client.next_event().is_some() {}
            if !moved {
                return;
            }
        }
        panic!("two ends that never stop sending");
    }

    fn told(&mut self) {
        while let Some((key, notification)) = self.server.poll_notification() {
            if matches!(notification, Notification::Connected) {
                self.key.get_or_insert(key);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.elapsed + time;
        loop {
            self.run();
            let server = self.server.next_timeout();
            let server = server.map(|at| at.saturating_duration_since(self.base));
            let Some(next) = server.into_iter().chain(self.client.timer()).min() else {
                break;
            };
            if next > end {
                break;
            }
            self.elapsed = self.elapsed.max(next);
            self.client.handle_timer(self.elapsed);
            self.server.handle_timeouts(self.base + self.elapsed);
        }
        self.elapsed = self.elapsed.max(end);
    }

    fn stream(&self, which: u8) -> Option<u64> {
        let count = self.opened.len().max(1);
        self.opened.get(usize::from(which) % count).copied()
    }

    fn open(&mut self, dir: Dir, data: Vec<u8>, fin: bool) {
        let id = self.client.next_stream_id(dir);
        if self.client.send_stream_data(id, data.into(), fin).is_ok() {
            self.opened.push(id);
        }
    }

    fn application(&mut self, step: Step) {
        let Some(key) = self.key else { return };
        let now = self.base + self.elapsed;
        let session = |which: u8| u64::from(which % 4) * 4;
        // The client's streams, and those that the server may have opened itself.
        let stream = |which: u8| u64::from(which % 40);
        // A verb that comes at a bad time is refused; that is its right.
        let _ = self.server.with(key, |connection| match step {
            Step::Accept(id) => connection.accept_session(session(id), Response::default(), now),
            Step::Reject(id, status) => connection.reject_session(session(id), status, &[], now),
            Step::CloseSession(id, code, reason) => {
                connection.close_session(session(id), code, &reason, now)
            }
            Step::OpenStream(id, bidi) => connection
                .open_stream(
                    session(id),
                    if bidi {
                        core::Dir::Bidi
                    } else {
                        core::Dir::Uni
                    },
                    now,
                )
                .map(drop),
            Step::Write(id, len, fin) => connection
                .stream_write(stream(id), Payload::Slice(&vec![7; len.into()]), fin, now)
                .map(drop),
            Step::Read(id) => {
                connection.stream_read(stream(id), 1 << 16, &mut Vec::new(), now);
                Ok(())
            }
            Step::ResetOurs(id, code) => connection.stream_reset(stream(id), code, now),
            Step::StopOurs(id, code) => connection.stream_stop(stream(id), code, now),
            Step::SendDatagram(id, data) => connection.send_datagram(session(id), &data).map(drop),
            _ => Ok(()),
        });
    }

    fn apply(&mut self, step: Step) {
        let now = self.elapsed;
        match step {
            Step::Open(uni, pieces, fin) => {
                let dir = if uni { Dir::Uni } else { Dir::Bi };
                self.open(dir, bytes_of(&pieces), fin);
            }
            Step::More(which, pieces, fin) => {
                if let Some(id) = self.stream(which) {
                    let data = Bytes::from(bytes_of(&pieces));
                    let _ = self.client.send_stream_data(id, data, fin);
                }
            }
            Step::ResetStream(which, code) => {
                if let Some(id) = self.stream(which) {
                    let _ = self.client.reset_stream(id, code >> 2);
                }
            }
            Step::StopStream(which, code) => {
                if let Some(id) = self.stream(which) {
                    let _ = self.client.stop_stream(id, code >> 2);
                }
            }
            Step::Datagram(data) => drop(self.client.send_datagram(data.into())),
            Step::CloseClient(code) => self.client.close(code >> 2, "over"),
            Step::Lose(count) => self.lose = count % 8,
            Step::Twice => self.twice = true,
            Step::Damage(at, with) => self.damage = Some((at, with)),
            Step::Packet(data) => self.receive(&data, "127.0.0.1:2222"),
            Step::Initial {
                dcid,
                token,
                frames,
                short,
            } => self.receive(&initial(&dcid, &token, 0, &frames, short), "127.0.0.1:3333"),
            Step::Hello(changes, cut) => {
                let first = new_client(now).datagrams_to_send(now);
                if let Some((dcid, mut frames)) = first.first().and_then(|d| open_initial(&d.0)) {
                    for (at, with) in changes {
                        let at = usize::from(at) % frames.len();
                        frames[at] = with;
                    }
                    frames.truncate(frames.len() - usize::from(cut));
                    self.receive(&initial(&dcid, &[], 0, &frames, false), "127.0.0.1:4444");
                }
            }
            Step::Time(millis) => self.pass(Duration::from_millis(millis.into())),
            step => self.application(step),
        }
        self.run();
    }
}

fuzz_target!(|run: Run| {
    let mut site = Site::new(run.retry);
    site.run();
    if run.greeting != 0 {
        let settings = settings_of(run.greeting, 20, run.greeting & 16 != 0);
        site.open(Dir::Uni, control_stream(&settings), false);
        site.open(
            Dir::Bi,
            bytes_of(&[Piece::Connect(run.greeting & 8 != 0)]),
            false,
        );
        site.run();
    }
    for step in run.steps.into_iter().take(100) {
        site.apply(step);
    }
    site.client.close(0, "over");
    site.pass(FOR_GOOD);
    site.told();
    assert_eq!(site.server.connections(), 0, "connections are left");
    assert_eq!(site.server.next_timeout(), None, "a timer is left");
    assert_eq!(site.server.notifications(), 0);
});
