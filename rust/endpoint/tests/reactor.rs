//! Two reactors on loopback sockets: batches, offloads, errors of the network.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{client_options, server_setup, Setup};
use pywt_endpoint::core::{Dir, Request, Response};
use pywt_endpoint::quic::{CloseBy, CloseKind, Socket};
use pywt_endpoint::{ConnectionKey, Error, Notification, Payload, Reactor, Read};

const LOOPBACK: &str = "127.0.0.1:0";

struct Host {
    reactor: Reactor,
    key: Option<ConnectionKey>,
    seen: Vec<Notification>,
}

impl Host {
    fn new(reports_errors: bool) -> Self {
        let socket = Socket::bind(LOOPBACK.parse().unwrap(), reports_errors).unwrap();
        Self {
            reactor: Reactor::new(socket),
            key: None,
            seen: Vec::new(),
        }
    }

    fn turn(&mut self) {
        self.reactor.on_readable();
        self.tell();
        self.reactor.on_timer();
        self.tell();
        self.reactor.on_flush();
        self.tell();
        self.reactor.transmit();
        assert_eq!(self.reactor.wishes().watch_writable, None);
    }

    fn tell(&mut self) {
        let Some(mut telling) = self.reactor.begin_telling() else {
            return;
        };
        while let Some((key, notification)) = self.reactor.tell(&mut telling) {
            self.key.get_or_insert(key);
            self.seen.push(notification);
        }
        self.reactor.end_telling();
    }

    fn call<T>(
        &mut self,
        call: impl FnOnce(&mut pywt_endpoint::Connection) -> Result<T, Error>,
    ) -> T {
        let key = self.key.unwrap();
        self.reactor.endpoint().with(key, call).unwrap()
    }
}

fn connect(client: &mut Host, setup: &Setup, remote: SocketAddr) {
    let key = client
        .reactor
        .endpoint()
        .connect(
            &client_options(setup),
            &setup.client,
            remote,
            "localhost",
            Instant::now(),
        )
        .unwrap();
    client.key = Some(key);
}

/// Runs both until `done`, as an event loop would.
fn run(client: &mut Host, server: &mut Host, mut done: impl FnMut(&mut Host, &mut Host) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done(client, server) {
        assert!(
            Instant::now() < deadline,
            "{:?} {:?}",
            client.seen,
            server.seen
        );
        client.turn();
        server.turn();
    }
}

fn session() -> (Host, Host) {
    let setup = Setup::default();
    let (mut client, mut server) = (Host::new(true), Host::new(false));
    let address = server.reactor.local_address();
    server
        .reactor
        .endpoint()
        .serve(server_setup(&setup))
        .unwrap();
    connect(&mut client, &setup, address);
    run(&mut client, &mut server, |client, _| {
        client.seen.contains(&Notification::Connected)
    });
    let request = Request {
        authority: "localhost".into(),
        path: "/".into(),
        ..Request::default()
    };
    client.call(|c| c.open_session(request, Instant::now()));
    run(&mut client, &mut server, |_, server| {
        server
            .seen
            .iter()
            .any(|n| matches!(n, Notification::SessionRequested { .. }))
    });
    server.call(|c| c.accept_session(0, Response::default(), Instant::now()));
    run(&mut client, &mut server, |client, _| {
        client
            .seen
            .iter()
            .any(|n| matches!(n, Notification::SessionEstablished { .. }))
    });
    client.seen.clear();
    server.seen.clear();
    (client, server)
}

#[test]
fn megabytes_cross_sockets_unchanged() {
    let (mut client, mut server) = session();
    let now = Instant::now();
    let id = client.call(|c| c.open_stream(0, Dir::Uni, now)).unwrap();
    let data: bytes::Bytes = (0..30_000_000_u32).map(|i| (i % 251) as u8).collect();
    let mut sent = 0;
    let mut received = Vec::new();
    run(&mut client, &mut server, |client, server| {
        let now = Instant::now();
        if sent < data.len() {
            let rest = data.slice(sent..);
            sent += client.call(|c| c.stream_write(id, Payload::Shared(rest), true, now));
        }
        if server.key.is_none() {
            return false;
        }
        let mut chunks = Vec::new();
        let opened = server.seen.contains(&Notification::StreamOpened {
            session: 0,
            stream: id,
        });
        let read = server.call(|c| Ok(c.stream_read(id, usize::MAX, &mut chunks, now)));
        for chunk in chunks {
            received.extend_from_slice(&chunk);
        }
        opened && read == Read::End
    });
    assert!(received == data);
    let stats = client.call(|c| Ok(c.stats().quic));
    assert!(stats.mtu > 1_400, "{stats:?}");
}

/// A sender that always has more, and a reader that takes `appetite` datagrams in each turn: how
/// many were sent, and how many of them were not delivered.
fn flood(appetite: usize) -> (u64, u64) {
    let (mut client, mut server) = session();
    let block = vec![[7; 64]; 512];
    let mut received = 0;
    let mut turns = 0;
    run(&mut client, &mut server, |client, server| {
        while client.call(|c| c.offer_datagrams(0, &block)) == block.len() {}
        received += server.call(|c| Ok(c.receive_datagrams(0, appetite).len()));
        turns += 1;
        turns > 300
    });
    // Nothing more is sent, and whatever is on its way arrives.
    run(&mut client, &mut server, |client, server| {
        let taken = server.call(|c| Ok(c.receive_datagrams(0, appetite).len()));
        received += taken;
        taken == 0 && client.call(|c| Ok(c.stats())).datagrams_waiting == 0
    });
    let sent = client.call(|c| Ok(c.stats().quic.datagrams_sent));
    (sent, sent - received as u64)
}

#[test]
fn a_reader_who_keeps_reading_loses_no_datagrams() {
    let (sent, lost) = flood(1_500);
    assert!(sent > 100_000, "{sent}");
    assert!(lost * 100 < sent, "{lost} of {sent} lost");
}

#[test]
fn a_reader_slower_than_what_comes_loses_no_datagrams_while_it_reads() {
    // Nobody waits for it for more than 2 ms, so that it loses some where other programs run.
    let floods: Vec<_> = (0..5).map(|_| flood(300)).collect();
    let keeps = |&(sent, lost): &(u64, u64)| sent > 50_000 && lost * 10 < sent;
    assert!(floods.iter().any(keeps), "sent and lost: {floods:?}");
}

#[test]
fn whoever_takes_its_time_with_a_crowd_of_datagrams_keeps_nobody_waiting() {
    let (mut client, mut server) = session();
    let block = vec![[7; 64]; 512];
    // More than a quarter of what the queue holds, which is 4,096.
    let came = |server: &mut Host| server.call(|c| Ok(c.stats().quic.datagrams_received));
    run(&mut client, &mut server, |client, server| {
        client.call(|c| c.offer_datagrams(0, &block));
        came(server) > 3_000
    });
    let before = came(&mut server);
    client.call(|c| c.offer_datagrams(0, &block));
    client.turn();
    let mut taken = 0;
    let started = Instant::now();
    while came(&mut server) == before {
        taken += server.call(|c| Ok(c.receive_datagrams(0, 1).len())) as u64;
        server.reactor.on_readable();
        server.tell();
        assert!(started.elapsed() < Duration::from_secs(10), "{taken}");
    }
    assert!(
        before.min(4_096) - taken > 1_024,
        "{taken} of {before} taken first"
    );
}

#[test]
fn a_port_where_nobody_listens_is_refused_at_once() {
    let setup = Setup::default();
    let nobody = Socket::bind(LOOPBACK.parse().unwrap(), false)
        .unwrap()
        .local_address();
    let (mut client, mut other) = (Host::new(true), Host::new(false));
    connect(&mut client, &setup, nobody);
    let started = Instant::now();
    run(&mut client, &mut other, |client, _| !client.seen.is_empty());
    assert!(matches!(
        client.seen.as_slice(),
        [Notification::Closed(close, _)] if close.kind == CloseKind::Unreachable
    ));
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(client.reactor.endpoint().connections(), 0);
}

#[test]
fn a_refused_attempt_does_not_touch_another_connection_of_the_socket() {
    let (mut client, mut server) = session();
    let nobody = Socket::bind(LOOPBACK.parse().unwrap(), false)
        .unwrap()
        .local_address();
    let first = client.key;
    connect(&mut client, &Setup::default(), nobody);
    run(&mut client, &mut server, |client, _| {
        client
            .seen
            .iter()
            .any(|n| matches!(n, Notification::Closed(..)))
    });
    client.key = first;
    let now = Instant::now();
    assert!(client.call(|c| c.open_stream(0, Dir::Bidi, now)).is_some());
}

#[test]
fn noise_from_strangers_changes_nothing() {
    let (mut client, mut server) = session();
    let stranger = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    let target = server.reactor.local_address();
    let mut state = 7_u32;
    for len in (0..1_400).step_by(7) {
        let noise: Vec<u8> = (0..len)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        stranger.send_to(&noise, target).unwrap();
        server.turn();
    }
    // An unknown version in a packet of full size is answered with the versions we speak.
    let mut unknown = vec![0_u8; 1_200];
    unknown[0] = 0xc0;
    unknown[1..5].copy_from_slice(&0x1234_5678_u32.to_be_bytes());
    unknown[5] = 8;
    unknown[14] = 8;
    stranger
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    stranger.send_to(&unknown, target).unwrap();
    let mut answer = [0; 1_500];
    stranger.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut negotiated = false;
    while !negotiated && Instant::now() < deadline {
        server.turn();
        if let Ok(len) = stranger.recv(&mut answer) {
            // RFC 9000 §17.2.1: version 0.
            negotiated = len > 5 && answer[0] & 0x80 != 0 && answer[1..5] == [0; 4];
        }
    }
    assert!(negotiated);
    assert_eq!(server.reactor.endpoint().connections(), 1);
    let now = Instant::now();
    let id = client.call(|c| c.open_stream(0, Dir::Uni, now)).unwrap();
    client.call(|c| c.stream_write(id, Payload::Slice(b"still here"), true, now));
    run(&mut client, &mut server, |_, server| {
        server.seen.contains(&Notification::StreamOpened {
            session: 0,
            stream: id,
        })
    });
}

#[test]
fn a_call_of_the_event_loop_takes_no_more_than_its_budget_and_the_rest_later() {
    let (mut client, mut server) = session();
    let now = Instant::now();
    let id = client.call(|c| c.open_stream(0, Dir::Uni, now)).unwrap();
    // What the kernel holds is more than a call can digest: garbage costs time too.
    let stranger = std::net::UdpSocket::bind(LOOPBACK).unwrap();
    stranger.set_nonblocking(true).unwrap();
    let target = server.reactor.local_address();
    let mut initial = vec![0x17_u8; 1_200];
    initial[0] = 0xc0;
    initial[1..5].copy_from_slice(&1_u32.to_be_bytes());
    initial[5] = 8;
    initial[14] = 8;
    for _ in 0..200 {
        let _full_is_full = stranger.send_to(&initial, target);
    }
    client.call(|c| c.stream_write(id, Payload::Slice(b"behind them"), true, now));
    client.reactor.transmit();
    let opened = Notification::StreamOpened {
        session: 0,
        stream: id,
    };
    server.reactor.on_readable();
    server.tell();
    assert!(!server.seen.contains(&opened), "one call took it all");
    run(&mut client, &mut server, |_, server| {
        server.seen.contains(&opened)
    });
}

#[test]
fn whoever_closes_tells_both_peers_and_applications_and_refuses_what_comes() {
    let (mut client, mut server) = session();
    server.reactor.close();
    let key = server.key.unwrap();
    let mut told = Vec::new();
    while let Some((of, notification)) = server.reactor.endpoint().poll_notification() {
        assert_eq!(of, key);
        told.push(notification);
    }
    assert!(
        matches!(
            told.as_slice(),
            [
                Notification::SessionClosed { session: 0, .. },
                Notification::Closed(close, Some(_))
            ] if close.code == 0x100 && close.by == CloseBy::Local
        ),
        "{told:?}"
    );
    let refused = server
        .reactor
        .endpoint()
        .with(key, |c| c.goaway(Instant::now()));
    assert_eq!(refused, Err(Error::Closed));
    run(&mut client, &mut server, |client, _| {
        client
            .seen
            .iter()
            .any(|n| matches!(n, Notification::Closed(close, _) if close.by == CloseBy::Remote))
    });
    // Nobody new is taken.
    let address = server.reactor.local_address();
    client.seen.clear();
    connect(&mut client, &Setup::default(), address);
    run(&mut client, &mut server, |client, _| {
        !client.seen.is_empty()
    });
    assert!(matches!(client.seen.as_slice(), [Notification::Closed(..)]));
    assert_eq!(server.reactor.endpoint().poll_notification(), None);
}
