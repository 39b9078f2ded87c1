//! Nothing outlives its use on the real endpoint, whatever a client that knows no rules does.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use common::{client_options, server_setup, Setup};
use pywt_endpoint::core::wire::codes::{grease, setting, stream};
use pywt_endpoint::core::wire::{frame, qpack, settings, stream_header, varint};
use pywt_endpoint::core::{Config, Dir, Rate, Response};
use pywt_endpoint::quic::{Connection, Endpoint as Quic, Packet, Received};
use pywt_endpoint::{ConnectionKey, ConnectionOptions, Endpoint, Notification, Payload, Read};

const CLIENT: &str = "127.0.0.1:1111";
const SERVER: &str = "127.0.0.1:4433";

/// A QUIC client that writes what it likes, and the server.
struct Raw {
    now: Instant,
    client: Quic,
    quic: Connection,
    server: Endpoint,
    key: Option<ConnectionKey>,
    told: Vec<Notification>,
}

fn number(value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    varint::encode(value, &mut out);
    out
}

fn head(dir: Dir, session: u64) -> Vec<u8> {
    let mut out = Vec::new();
    stream_header::encode(dir, session, &mut out);
    out
}

fn request(fields: &[(&str, &str)]) -> Vec<u8> {
    let (mut section, mut out) = (Vec::new(), Vec::new());
    qpack::encode_section(fields.iter().copied(), &mut section);
    frame::encode(0x01, &section, &mut out);
    out
}

fn connect(more: &[(&str, &str)]) -> Vec<u8> {
    let mut fields = vec![
        (":method", "CONNECT"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/"),
        (":protocol", "webtransport-h3"),
    ];
    fields.extend(more);
    request(&fields)
}

impl Raw {
    /// Session 0 is asked for and accepted.
    fn with_session(mut config: Config) -> Self {
        config.limits.resets = Rate {
            burst: u32::MAX,
            per_second: 0,
        };
        config.limits.sessions = config.limits.resets;
        config.limits.max_requests = 10_000;
        let setup = Setup {
            server: ConnectionOptions {
                linger: Duration::from_secs(1_000),
                ..ConnectionOptions::new(config)
            },
            ..Setup::default()
        };
        let now = Instant::now();
        let mut server = Endpoint::new(true, None, now);
        server.serve(server_setup(&setup)).unwrap();
        let mut client = Quic::new(true, None);
        let options = client_options(&setup);
        let quic = client
            .connect(now, &options, SERVER.parse().unwrap(), "localhost")
            .unwrap();
        let mut raw = Self {
            now,
            client,
            quic,
            server,
            key: None,
            told: Vec::new(),
        };
        raw.settle();
        let control = raw.open(Dir::Uni).unwrap();
        let announced = [
            (setting::H3_DATAGRAM, 1),
            (setting::WT_ENABLED, 1),
            (setting::WT_INITIAL_MAX_DATA, 1 << 30),
            (setting::WT_INITIAL_MAX_STREAMS_UNI, 1 << 20),
            (setting::WT_INITIAL_MAX_STREAMS_BIDI, 1 << 20),
        ];
        let mut payload = Vec::new();
        settings::encode(&announced.into_iter().collect(), &mut payload);
        let mut bytes = number(stream::CONTROL);
        frame::encode(0x04, &payload, &mut bytes);
        raw.quic.write(control, &bytes);
        assert_eq!(raw.open(Dir::Bidi), Some(0));
        raw.quic.write(0, &connect(&[]));
        raw.settle();
        raw.server(|c, now| c.accept_session(0, Response::default(), now).unwrap());
        raw.settle();
        raw.told.clear();
        raw
    }

    fn open(&mut self, dir: Dir) -> Option<u64> {
        self.quic.open(match dir {
            Dir::Bidi => pywt_endpoint::quic::Dir::Bi,
            Dir::Uni => pywt_endpoint::quic::Dir::Uni,
        })
    }

    fn server<T>(&mut self, call: impl FnOnce(&mut pywt_endpoint::Connection, Instant) -> T) -> T {
        let (key, now) = (self.key.unwrap(), self.now);
        self.server.with(key, |c| Ok(call(c, now))).unwrap()
    }

    /// Streams that the server's core and QUIC keep anything about.
    fn kept(&self) -> (usize, usize) {
        let connection = self.server.connection(self.key.unwrap()).unwrap();
        let core = connection.stats().core;
        (core.streams, connection.quic().tracked_streams())
    }

    /// Moves packets until nothing is in flight.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            let (mut up, mut down) = (Vec::new(), Vec::new());
            while self.quic.poll().is_some() {}
            while self.quic.accept(pywt_endpoint::quic::Dir::Bi).is_some() {}
            let mut buffer = Vec::new();
            while let Some(transmit) = self.quic.poll_transmit(self.now, 10, &mut buffer) {
                cut(&buffer[..transmit.size], transmit.segment_size, &mut up);
                buffer.clear();
            }
            self.client.process(&mut self.quic);
            while let Some(transmit) =
                self.server
                    .poll_transmit(self.now, false, |_| 10, &mut buffer)
            {
                cut(&buffer[..transmit.size], transmit.segment_size, &mut down);
                buffer.clear();
            }
            if up.is_empty() && down.is_empty() {
                return;
            }
            self.now += Duration::from_millis(1);
            for data in up {
                self.server.receive(packet(self.now, CLIENT, data));
                self.server.drive(self.now);
            }
            for data in down {
                let mut next = Some(packet(self.now, SERVER, data));
                while let Some(packet) = next.take() {
                    if let Received::Routed(_, routed) = self.client.receive(packet) {
                        next = self.quic.handle_event(routed);
                    }
                }
            }
            self.timers();
        }
        panic!("the pair does not settle");
    }

    fn timers(&mut self) {
        self.server.handle_timeouts(self.now);
        if self.quic.poll_timeout().is_some_and(|at| at <= self.now) {
            self.quic.handle_timeout(self.now);
        }
        while let Some((key, notification)) = self.server.poll_notification() {
            self.key.get_or_insert(key);
            self.told.push(notification);
        }
    }

    fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            self.settle();
            let next = [self.quic.poll_timeout(), self.server.next_timeout()];
            match next.into_iter().flatten().min() {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    self.timers();
                }
                _ => break,
            }
        }
        self.now = end;
        self.settle();
    }
}

fn cut(mut data: &[u8], segment: Option<usize>, out: &mut Vec<BytesMut>) {
    let stride = segment.unwrap_or(data.len());
    while !data.is_empty() {
        let (packet, rest) = data.split_at(stride.min(data.len()));
        out.push(packet.into());
        data = rest;
    }
}

fn packet(now: Instant, from: &str, data: BytesMut) -> Packet {
    Packet {
        now,
        remote: from.parse().unwrap(),
        local_ip: None,
        ecn: None,
        data,
    }
}

#[test]
fn refused_streams_leave_nothing() {
    let malformed = connect(&[("content-length", "1")]);
    let get = [
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/"),
        (":authority", "a"),
    ];
    let openings = [
        ("grease", Dir::Uni, number(grease(7))),
        ("malformed", Dir::Bidi, malformed),
        ("get", Dir::Bidi, request(&get)),
        ("no session to come", Dir::Bidi, connect(&[("x", "y")])),
        ("early", Dir::Uni, head(Dir::Uni, 400)),
        ("early bidi", Dir::Bidi, head(Dir::Bidi, 400)),
    ];
    for (what, dir, bytes) in openings {
        for fin in [false, true] {
            let mut raw = Raw::with_session(Config::server());
            let before = raw.kept().0;
            let mut opened = 0;
            for _ in 0..5 {
                while let Some(id) = raw.open(dir) {
                    raw.quic.write(id, &bytes);
                    if fin {
                        raw.quic.finish(id);
                    }
                    opened += 1;
                }
                raw.settle();
                let asked: Vec<_> = raw.told.drain(..).collect();
                for told in asked {
                    if let Notification::SessionRequested { session, .. } = told {
                        raw.server(|c, now| c.reject_session(session, 404, &[], now).unwrap());
                    }
                }
                raw.advance(Duration::from_secs(6));
            }
            assert!(opened > 1_000, "{what}: {opened}");
            assert_eq!(raw.kept().0, before, "{what} fin={fin}");
        }
    }
}

/// Numbers that look random, the same in every run.
fn random(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

#[test]
fn what_is_over_leaves_nothing() {
    for seed in 0..12 {
        let mut dice = random(seed);
        let mut config = Config::server();
        if seed % 3 == 0 {
            config.flow_control.initial_max_data = 50_000;
            config.flow_control.initial_max_streams_bidi = 20;
            config.flow_control.initial_max_streams_uni = 20;
        }
        let mut raw = Raw::with_session(config);
        let mut clients: Vec<u64> = Vec::new();
        let mut servers: HashSet<u64> = HashSet::new();
        let mut payload: HashSet<u64> = HashSet::new();
        for _ in 0..400 {
            let pick = |dice: &mut dyn FnMut(u64) -> u64, of: &[u64]| {
                (!of.is_empty()).then(|| of[dice(of.len() as u64) as usize])
            };
            let theirs = pick(&mut dice, &clients);
            let mut known: Vec<u64> = servers.iter().copied().collect();
            known.sort_unstable();
            let ours = pick(&mut dice, &known);
            match (dice(16), theirs, ours) {
                (0..=3, ..) => {
                    let dir = if dice(2) == 0 { Dir::Bidi } else { Dir::Uni };
                    let session = [0, 0, 0, 4, 400][dice(5) as usize];
                    let Some(id) = raw.open(dir) else { continue };
                    clients.push(id);
                    let bytes = match (dice(5), dir) {
                        (0, Dir::Uni) => number(grease(dice(9))),
                        (0, Dir::Bidi) => connect(&[("content-length", "1")]),
                        (1, Dir::Bidi) => connect(&[]),
                        (2, _) => head(dir, session)[..1].to_vec(),
                        _ => {
                            payload.insert(id);
                            [head(dir, session), vec![7; dice(500) as usize]].concat()
                        }
                    };
                    raw.quic.write(id, &bytes);
                }
                (4, Some(id), _) if payload.contains(&id) => {
                    raw.quic.write(id, &[1; 300]);
                }
                (5 | 6, Some(id), _) => {
                    raw.quic.finish(id);
                }
                (7, Some(id), _) => {
                    raw.quic.reset(id, 0x52e4_a40f_a8db, &[]);
                }
                (8, Some(id), _) if id & 2 == 0 => {
                    raw.quic.stop(id, 0x52e4_a40f_a8db);
                }
                (9, _, Some(id)) => {
                    let _refused = raw.server(|c, now| c.stream_stop(id, 1, now));
                }
                (10, _, Some(id)) => {
                    let _refused = raw.server(|c, now| c.stream_reset(id, 1, now));
                }
                (11, _, Some(id)) => {
                    let _refused =
                        raw.server(|c, now| c.stream_write(id, Payload::Slice(b"x"), true, now));
                }
                (12, ..) => {
                    let dir = if dice(2) == 0 { Dir::Bidi } else { Dir::Uni };
                    if let Ok(Some(id)) = raw.server(|c, now| c.open_stream(0, dir, now)) {
                        servers.insert(id);
                    }
                }
                (_, _, Some(id)) => {
                    raw.server(|c, now| {
                        while let Read::Data(_) = c.stream_read(id, 10_000, &mut Vec::new(), now) {}
                    });
                }
                _ => {}
            }
            if dice(3) == 0 {
                raw.settle();
            }
            let told: Vec<_> = raw.told.drain(..).collect();
            for told in told {
                match told {
                    Notification::StreamOpened { stream, .. } => {
                        servers.insert(stream);
                    }
                    Notification::SessionRequested { session, .. } => {
                        raw.server(|c, now| match session % 3 {
                            0 => c.reject_session(session, 404, &[], now).unwrap(),
                            _ => c.accept_session(session, Response::default(), now).unwrap(),
                        });
                    }
                    Notification::Closed(close, _) => panic!("seed {seed}: {close:?}"),
                    _ => {}
                }
            }
        }
        // Both ends give up everything; then nothing is left but what lasts as long as the
        // connection: the control streams.
        let theirs = servers.iter().copied().filter(|id| id & 3 == 1);
        for id in clients.into_iter().chain(theirs) {
            raw.quic.reset(id, 0, &[]);
            if id & 2 == 0 {
                raw.quic.stop(id, 0);
            }
        }
        raw.quic.finish(0);
        raw.advance(Duration::from_secs(20));
        for told in std::mem::take(&mut raw.told) {
            if let Notification::StreamOpened { stream, .. } = told {
                servers.insert(stream);
            }
        }
        // What had arrived whole stays readable.
        for id in servers {
            raw.server(|c, now| c.stream_read(id, usize::MAX, &mut Vec::new(), now));
            raw.server(|c, now| c.stream_read(id, usize::MAX, &mut Vec::new(), now));
        }
        raw.advance(Duration::from_secs(5));
        let (core, tracked) = raw.kept();
        assert_eq!(core, 2, "seed {seed}");
        assert!(tracked <= 2, "seed {seed}: {tracked}");
    }
}
