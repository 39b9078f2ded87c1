//! What strangers may do, and what a path does: admission, address validation, packet sizes,
//! congestion, another address.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use common::{client_tls, closed, identity, read_all, server_tls, Pair};
use pywt_quic::{
    CloseBy, Congestion, Dir, Event, ReadState, ServerOptions, TransportOptions, WriteState,
};

#[test]
fn retry_makes_the_client_prove_its_address() {
    let options = ServerOptions {
        retry: true,
        ..ServerOptions::default()
    };
    let mut pair = Pair::new(
        &server_tls(identity().0),
        TransportOptions::default(),
        options,
    );
    pair.connect(&client_tls(), TransportOptions::default());
    pair.settle();
    assert!(pair
        .client
        .take_events()
        .iter()
        .any(|e| matches!(e, Event::Connected)));
    let retries: Vec<_> = pair.log.iter().filter(|packet| is_retry(packet)).collect();
    assert_eq!(retries.len(), 1);
    assert_eq!(retries[0].0, pair.server.address);
}

#[test]
fn a_crowd_of_handshakes_makes_newcomers_prove_their_address() {
    let options = ServerOptions {
        retry_above: 2,
        ..ServerOptions::default()
    };
    let mut pair = Pair::new(
        &server_tls(identity().0),
        TransportOptions::default(),
        options,
    );
    // Nothing of the server arrives, so that handshakes stay what they are.
    for handshakes in 1..=3 {
        let already = pair.log.len() as u64;
        pair.drop_if = Box::new(move |sent| sent > already + 1);
        pair.connect(&client_tls(), TransportOptions::default());
        pair.settle();
        assert_eq!(pair.log.iter().any(is_retry), handshakes == 3);
    }
    assert_eq!(pair.server.endpoint.connections(), 2);
    // When they have ended, nobody has to.
    pair.drop_if = Box::new(|_| false);
    pair.advance(Duration::from_secs(60));
    pair.log.clear();
    pair.client.take_events();
    pair.connect(&client_tls(), TransportOptions::default());
    pair.settle();
    assert!(!pair.log.iter().any(is_retry));
    assert!(pair
        .client
        .take_events()
        .iter()
        .any(|e| matches!(e, Event::Connected)));
}

/// RFC 9000 §17.2.5.
fn is_retry((_, packet): &(SocketAddr, BytesMut)) -> bool {
    packet[0] & 0xf0 == 0xf0 && packet[1..5] == [0, 0, 0, 1]
}

#[test]
fn a_stranger_gets_no_more_than_three_times_what_it_sent() {
    let mut pair = Pair::new(
        &server_tls(common::identity_with_chain(10)),
        TransportOptions::default(),
        ServerOptions::default(),
    );
    // One packet arrives and no answer does (RFC 9000 §8.1).
    pair.drop_if = Box::new(|sent| sent > 1);
    pair.connect(&client_tls(), TransportOptions::default());
    pair.advance(Duration::from_secs(20));
    let received = pair.log[0].1.len();
    let (server, mut answered) = (pair.server.address, 0);
    for (from, packet) in &pair.log {
        answered += if *from == server { packet.len() } else { 0 };
    }
    assert!(
        received < answered && answered <= 3 * received,
        "{answered} bytes for {received}"
    );
}

#[test]
fn packets_grow_to_what_the_path_takes() {
    for (mtu_discovery, max_mtu, expected) in [
        (true, 1_452, 1_452),
        (true, 1_400, 1_400),
        (false, 1_452, 1_200),
    ] {
        let transport = TransportOptions {
            mtu_discovery,
            max_mtu,
            ..TransportOptions::default()
        };
        let mut pair = Pair::default_pair();
        pair.connect(&client_tls(), transport);
        pair.settle();
        let id = pair.client.only().open(Dir::Uni).unwrap();
        pair.client.only().write(id, &[0; 100_000]);
        pair.settle();
        assert_eq!(pair.client.only().stats().mtu, expected);
        let client = pair.client.address;
        let largest = pair
            .log
            .iter()
            .filter(|(from, _)| *from == client)
            .map(|(_, packet)| packet.len());
        assert_eq!(largest.max(), Some(usize::from(expected)));
    }
}

#[test]
fn a_short_connection_sends_no_padding_to_learn_what_the_path_takes() {
    let mut pair = Pair::default_pair();
    // Nothing arrives but the six packets of the handshake.
    pair.drop_if = Box::new(|sent| sent > 6);
    pair.connect(&client_tls(), TransportOptions::default());
    pair.settle();
    for peer in [&mut pair.client, &mut pair.server] {
        let events = peer.take_events();
        assert!(events.iter().any(|event| matches!(event, Event::Connected)));
    }
    let sizes: Vec<usize> = pair.log.iter().map(|(_, packet)| packet.len()).collect();
    assert!(sizes.iter().all(|size| *size <= 1_200), "{sizes:?}");
    for (peer, address) in [
        (pair.client.only().stats(), pair.client.address),
        (pair.server.only().stats(), pair.server.address),
    ] {
        let sent = pair.log.iter().filter(|(from, _)| *from == address);
        let sizes: Vec<u64> = sent.map(|(_, packet)| packet.len() as u64).collect();
        assert_eq!(peer.packets_sent, sizes.len() as u64);
        assert_eq!(peer.bytes_sent, sizes.iter().sum::<u64>());
    }
    // One that stays learns it, without any data.
    pair.drop_if = Box::new(|_| false);
    pair.advance(Duration::from_secs(1));
    assert_eq!(pair.client.only().stats().mtu, 1_452);
    assert_eq!(pair.server.only().stats().mtu, 1_452);
}

#[test]
fn every_congestion_controller_is_one_of_its_own_and_recovers_from_loss() {
    let mut windows = Vec::new();
    for congestion in [Congestion::Bbr, Congestion::Cubic, Congestion::NewReno] {
        let transport = TransportOptions {
            congestion,
            ..TransportOptions::default()
        };
        let mut pair = Pair::default_pair();
        pair.connect(&client_tls(), transport);
        pair.settle();
        pair.drop_if = Box::new(|sent| sent % 40 == 0);
        let id = pair.client.only().open(Dir::Uni).unwrap();
        assert_eq!(
            pair.client.only().write(id, &[7; 400_000]).1,
            WriteState::Done
        );
        pair.client.only().finish(id);
        pair.advance(Duration::from_secs(20));
        let stats = pair.client.only().stats();
        assert!(stats.packets_lost > 0);
        windows.push(stats.cwnd);
        let server = pair.server.only();
        server.accept(Dir::Uni).unwrap();
        let (received, state) = read_all(server, id);
        assert_eq!((received.len(), state), (400_000, ReadState::Finished));
    }
    windows.dedup();
    assert_eq!(windows.len(), 3, "{windows:?}");
}

#[test]
fn connections_beyond_the_limit_are_refused() {
    let options = ServerOptions {
        max_connections: 1,
        ..ServerOptions::default()
    };
    let mut pair = Pair::new(
        &server_tls(identity().0),
        TransportOptions::default(),
        options,
    );
    pair.connect(&client_tls(), TransportOptions::default());
    pair.settle();
    pair.client.take_events();
    pair.connect(&client_tls(), TransportOptions::default());
    pair.settle();
    let close = closed(pair.client.take_events());
    // CONNECTION_REFUSED (RFC 9000 §20.1).
    assert_eq!((close.code, close.by), (0x02, CloseBy::Remote));
}

#[test]
fn a_client_that_moves_keeps_its_connection() {
    let mut pair = Pair::connected();
    pair.client.address = "127.0.0.2:2222".parse().unwrap();
    let client = pair.client.only();
    let id = client.open(Dir::Uni).unwrap();
    client.write(id, b"moved");
    pair.settle();
    let server = pair.server.only();
    server.accept(Dir::Uni).unwrap();
    assert_eq!(read_all(server, id).0, b"moved");
    assert_eq!(server.remote_address(), "127.0.0.2:2222".parse().unwrap());
}
