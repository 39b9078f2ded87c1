//! `Standalone`: two of them on a wire in memory, on a clock that only the tests move.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use common::{client_tls, identity, server_tls, CLIENT, SERVER};
use pywt_quic::{
    CloseBy, CloseKind, Dir, Misuse, Standalone, StandaloneEvent, TransportOptions,
    MAX_QUEUED_DATAGRAMS,
};

type Flight = (Duration, SocketAddr, Vec<u8>);

struct Two {
    now: Duration,
    client: Standalone,
    server: Standalone,
    wire: VecDeque<Flight>,
    client_events: Vec<StandaloneEvent>,
    server_events: Vec<StandaloneEvent>,
    /// Whether the server's application takes its events.
    server_reads: bool,
}

const LATENCY: Duration = Duration::from_millis(5);

impl Two {
    fn new(transport: TransportOptions) -> Self {
        let tls = server_tls(identity().0);
        let client = Standalone::client(
            &client_tls(),
            TransportOptions::default(),
            "localhost".into(),
        );
        let mut two = Self {
            now: Duration::ZERO,
            client: client.unwrap(),
            server: Standalone::server(&tls, transport).unwrap(),
            wire: VecDeque::new(),
            client_events: Vec::new(),
            server_events: Vec::new(),
            server_reads: true,
        };
        two.client
            .connect(SERVER.parse().unwrap(), two.now)
            .unwrap();
        two
    }

    fn connected(transport: TransportOptions) -> Self {
        let mut two = Self::new(transport);
        two.run(Duration::from_millis(200));
        let connected = StandaloneEvent::Connected {
            protocol: Some(b"h3".to_vec()),
        };
        assert_eq!(two.client_events, [connected]);
        two.client_events.clear();
        two.server_events.clear();
        two
    }

    /// Lets `time` pass, one packet or deadline at a time.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while let Some(event) = self.client.next_event() {
                self.client_events.push(event);
            }
            while self.server_reads {
                let Some(event) = self.server.next_event() else {
                    break;
                };
                self.server_events.push(event);
            }
            for (peer, from) in [(&mut self.client, CLIENT), (&mut self.server, SERVER)] {
                for (data, _) in peer.datagrams_to_send(self.now) {
                    self.wire
                        .push_back((self.now + LATENCY, from.parse().unwrap(), data));
                }
            }
            let arrival = self.wire.front().map(|flight| flight.0);
            let next = [arrival, self.client.timer(), self.server.timer()];
            match next.into_iter().flatten().min() {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => break,
            }
            while self.wire.front().is_some_and(|flight| flight.0 <= self.now) {
                let Some((_, from, data)) = self.wire.pop_front() else {
                    break;
                };
                let is_for_server = from == CLIENT.parse().unwrap();
                let peer = if is_for_server {
                    &mut self.server
                } else {
                    &mut self.client
                };
                peer.receive_datagram(&data, from, self.now);
            }
            self.client.handle_timer(self.now);
            self.server.handle_timer(self.now);
        }
        self.now = end;
    }

    fn server_data(&self, stream: u64) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        let mut ended = false;
        for event in &self.server_events {
            if let StandaloneEvent::StreamData { id, data, fin } = event {
                if *id == stream {
                    all.extend_from_slice(data);
                    ended |= fin;
                }
            }
        }
        (all, ended)
    }
}

#[test]
fn data_larger_than_every_window_arrives_whole() {
    let mut two = Two::connected(TransportOptions::default());
    let id = two.client.next_stream_id(Dir::Bi);
    let data: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
    two.client
        .send_stream_data(id, Bytes::from(data.clone()), true)
        .unwrap();
    two.run(Duration::from_secs(60));
    assert!(two.server_data(id) == (data, true));
}

#[test]
fn a_reader_that_takes_no_events_stops_the_sender() {
    let window = 100_000;
    let mut two = Two::connected(TransportOptions {
        stream_receive_window: window,
        ..TransportOptions::default()
    });
    two.server_reads = false;
    let before = two.client.stats().bytes_sent;
    two.client
        .send_stream_data(0, Bytes::from(vec![7; 10_000_000]), true)
        .unwrap();
    two.run(Duration::from_secs(5));
    assert!(two.client.stats().bytes_sent - before < 2 * window);
    two.server_reads = true;
    two.run(Duration::from_secs(60));
    assert_eq!(two.server_data(0).0.len(), 10_000_000);
}

#[test]
fn streams_beyond_the_peers_limit_wait_and_open_later() {
    let mut two = Two::connected(TransportOptions {
        initial_streams: 2,
        max_streams_bidi: 2,
        ..TransportOptions::default()
    });
    for index in 0..10 {
        two.client
            .send_stream_data(index * 4, Bytes::from(format!("{index}")), true)
            .unwrap();
    }
    two.client.reset_stream(40, 9).unwrap();
    assert_eq!(two.client.next_stream_id(Dir::Bi), 44);
    two.run(Duration::from_secs(1));
    assert!(!two.server_data(8).1, "the limit of two holds");
    for id in (0..40).step_by(4) {
        // A peer's stream counts until its own answer has ended too.
        let _ = two.server.send_stream_data(id, Bytes::new(), true);
        two.run(Duration::from_secs(1));
    }
    for index in 0..10u64 {
        assert_eq!(
            two.server_data(index * 4),
            (format!("{index}").into_bytes(), true)
        );
    }
    assert!(two
        .server_events
        .contains(&StandaloneEvent::StreamReset { id: 40, code: 9 }));
}

#[test]
fn reset_and_stop_carry_their_codes_both_ways() {
    let mut two = Two::connected(TransportOptions::default());
    two.client
        .send_stream_data(0, Bytes::from_static(b"half"), false)
        .unwrap();
    two.run(Duration::from_millis(100));
    two.server.stop_stream(0, 5).unwrap();
    two.server.reset_stream(0, 6).unwrap();
    two.run(Duration::from_millis(100));
    assert_eq!(
        two.client_events,
        [
            StandaloneEvent::Stopped { id: 0, code: 5 },
            StandaloneEvent::StreamReset { id: 0, code: 6 },
        ]
    );
    assert_eq!(
        two.client
            .send_stream_data(0, Bytes::from_static(b"late"), false),
        Err(Misuse::Finished(0))
    );
}

#[test]
fn misuse_names_what_is_wrong() {
    let mut two = Two::connected(TransportOptions::default());
    two.client.send_stream_data(0, Bytes::new(), true).unwrap();
    let late = two
        .client
        .send_stream_data(0, Bytes::from_static(b"x"), false);
    assert_eq!(late, Err(Misuse::Finished(0)));
    let foreign = two
        .client
        .send_stream_data(3, Bytes::from_static(b"x"), false);
    assert_eq!(foreign, Err(Misuse::CannotSend(3)));
    assert_eq!(two.client.stop_stream(2, 0), Err(Misuse::CannotReceive(2)));
    assert!(two
        .client
        .connect(SERVER.parse().unwrap(), two.now)
        .is_err());
    let limit = two.client.max_datagram_size();
    assert_eq!(
        two.client.send_datagram(Bytes::from(vec![0; limit + 1])),
        Err(Misuse::DatagramTooLarge {
            size: limit + 1,
            limit
        })
    );
    assert_eq!(
        two.client.send_datagram(Bytes::from(vec![0; limit])),
        Ok(())
    );
}

#[test]
fn a_ping_is_acknowledged_with_its_uid_and_not_before() {
    let mut two = Two::connected(TransportOptions::default());
    two.client.send_ping(7);
    two.client.send_ping(8);
    two.run(LATENCY);
    assert_eq!(two.client_events, []);
    two.run(Duration::from_millis(100));
    assert_eq!(
        two.client_events,
        [
            StandaloneEvent::PingAcknowledged(7),
            StandaloneEvent::PingAcknowledged(8)
        ]
    );
}

#[test]
fn datagrams_queue_up_to_the_limit_and_then_drop_the_oldest() {
    let transport = TransportOptions {
        datagram_receive_buffer: 16 << 20,
        ..TransportOptions::default()
    };
    let mut two = Two::connected(transport);
    // Enough that quinn's own buffer is full as well.
    let size = 1000;
    let in_quinn = TransportOptions::default().datagram_send_buffer / size;
    let too_many = (in_quinn + MAX_QUEUED_DATAGRAMS + 50) as u32;
    for number in 0..too_many {
        let mut data = vec![0; size];
        data[..4].copy_from_slice(&number.to_be_bytes());
        two.client.send_datagram(Bytes::from(data)).unwrap();
    }
    let dropped = two.client.datagrams_dropped();
    assert!((1..=100).contains(&dropped), "{dropped}");
    two.run(Duration::from_secs(10));
    let arrived = two.server_events.iter().filter_map(|event| match event {
        StandaloneEvent::Datagram(data) => Some(u32::from_be_bytes(data[..4].try_into().unwrap())),
        _ => None,
    });
    let arrived: Vec<u32> = arrived.collect();
    assert_eq!(arrived.len() as u64, u64::from(too_many) - dropped);
    assert_eq!(arrived.last(), Some(&(too_many - 1)));
}

#[test]
fn close_reaches_both_sides_once() {
    let mut two = Two::connected(TransportOptions::default());
    two.client.close(77, "bye");
    two.client.close(78, "again");
    two.run(Duration::from_secs(10));
    let [StandaloneEvent::Terminated(remote)] = &two.server_events[..] else {
        panic!("{:?}", two.server_events)
    };
    assert_eq!(
        (remote.code, remote.reason.as_str(), remote.by),
        (77, "bye", CloseBy::Remote)
    );
    let [StandaloneEvent::Terminated(local)] = &two.client_events[..] else {
        panic!("{:?}", two.client_events)
    };
    assert_eq!((local.code, local.by), (77, CloseBy::Local));
    assert!(two.client.send_stream_data(0, Bytes::new(), true).is_err());
}

#[test]
fn silence_terminates_at_the_idle_timeout_of_the_virtual_clock() {
    let mut two = Two::connected(TransportOptions::default());
    two.run(Duration::from_secs(29));
    assert_eq!(two.client_events, []);
    two.run(Duration::from_secs(5));
    let [StandaloneEvent::Terminated(close)] = &two.client_events[..] else {
        panic!("{:?}", two.client_events)
    };
    assert_eq!(close.kind, CloseKind::IdleTimeout);
}
