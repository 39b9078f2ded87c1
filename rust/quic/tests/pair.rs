//! Two endpoints without sockets: handshake, streams, datagrams, limits, loss, closing.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{client_tls, closed, identity, read_all, server_tls, Pair};
use pywt_quic::{
    CertificateFault, ClientOptions, ClientTls, CloseBy, CloseKind, DatagramRefused, Dir, Event,
    Identity, KeyKind, ReadState, Reset, ServerOptions, Stopped, TransportOptions, Verify,
    WriteState,
};

#[test]
fn a_stream_carries_bytes_both_ways() {
    let mut pair = Pair::connected();
    let client = pair.client.only();
    let id = client.open(Dir::Bi).unwrap();
    assert_eq!(client.write(id, b"ping"), (4, WriteState::Done));
    assert!(client.finish(id));
    pair.settle();
    let server = pair.server.only();
    assert_eq!(server.accept(Dir::Bi), Some(id));
    assert_eq!(server.accept(Dir::Bi), None);
    assert_eq!(
        read_all(server, id),
        (b"ping".to_vec(), ReadState::Finished)
    );
    assert_eq!(server.write(id, b"pong").1, WriteState::Done);
    assert!(server.finish(id));
    assert_eq!(server.write(id, b"late"), (0, WriteState::Unknown));
    pair.settle();
    assert_eq!(
        read_all(pair.client.only(), id),
        (b"pong".to_vec(), ReadState::Finished)
    );
    assert_eq!(
        read_all(pair.client.only(), id),
        (Vec::new(), ReadState::Unknown)
    );
}

#[test]
fn ids_from_outside_never_panic() {
    let mut pair = Pair::connected();
    let client = pair.client.only();
    let own_uni = client.open(Dir::Uni).unwrap();
    for id in [own_uni, 0, 1_000_003, u64::MAX] {
        assert_eq!(read_all(client, id).1, ReadState::Unknown);
        assert_eq!(client.stop(id, 0), Stopped::Unknown);
    }
    for id in [3, 1_000_003, u64::MAX] {
        assert_eq!(client.write(id, b"x"), (0, WriteState::Unknown));
        assert!(!client.finish(id));
        assert!(!client.reset(id, 0, b""));
        client.set_priority(id, 1);
    }
    assert!(!client.reset(own_uni, u64::MAX, b""));
}

#[test]
fn a_writer_is_blocked_by_the_window_and_woken_by_the_reader() {
    let transport = TransportOptions {
        stream_receive_window: 10_000,
        ..TransportOptions::default()
    };
    let mut pair = Pair::new(
        &server_tls(identity().0),
        transport,
        ServerOptions::default(),
    );
    pair.connect(&client_tls(), TransportOptions::default());
    pair.settle();
    let client = pair.client.only();
    let id = client.open(Dir::Uni).unwrap();
    let mut data = Bytes::from(vec![7; 25_000]);
    assert_eq!(
        client.write_bytes(id, &mut data),
        (10_000, WriteState::Blocked)
    );
    assert_eq!(data.len(), 15_000);
    pair.settle();
    pair.client.take_events();
    let server = pair.server.only();
    assert_eq!(server.accept(Dir::Uni), Some(id));
    let (bytes, state) = read_all(server, id);
    assert_eq!((bytes.len(), state), (10_000, ReadState::Blocked));
    pair.settle();
    assert!(pair
        .client
        .take_events()
        .iter()
        .any(|event| matches!(event, Event::Writable(writable) if *writable == id)));
    assert_eq!(pair.client.only().write_bytes(id, &mut data).0, 10_000);
}

#[test]
fn stream_limits_grow_with_use_up_to_the_ceiling() {
    let transport = TransportOptions {
        initial_streams: 4,
        max_streams_bidi: 10,
        ..TransportOptions::default()
    };
    let mut pair = Pair::new(
        &server_tls(identity().0),
        transport,
        ServerOptions::default(),
    );
    pair.connect(&client_tls(), TransportOptions::default());
    pair.settle();
    let mut opened = 0;
    for _ in 0..10 {
        while let Some(id) = pair.client.only().open(Dir::Bi) {
            pair.client.only().write(id, b"x");
            opened += 1;
        }
        pair.settle();
        while pair.server.only().accept(Dir::Bi).is_some() {}
        pair.settle();
    }
    assert_eq!(opened, 10);
}

#[test]
fn a_peer_that_opens_all_it_may_is_soon_allowed_hundreds() {
    let mut pair = Pair::connected();
    let (mut opened, mut after) = (0, Vec::new());
    for _ in 0..3 {
        while let Some(id) = pair.client.only().open(Dir::Bi) {
            pair.client.only().write(id, b"x");
            opened += 1;
        }
        after.push(opened);
        pair.settle();
        while pair.server.only().accept(Dir::Bi).is_some() {}
        pair.settle();
    }
    assert_eq!(after, [110, 880, 1024]);
}

#[test]
fn a_hundred_streams_in_the_first_packet_arrive_with_it() {
    let mut pair = Pair::connected();
    pair.settle();
    let sent = pair.client.only().stats().packets_sent;
    let opened: Vec<u64> = (0..110)
        .map(|_| pair.client.only().open(Dir::Uni).unwrap())
        .collect();
    assert_eq!(pair.client.only().open(Dir::Uni), None);
    for id in &opened {
        pair.client.only().write(*id, b"x");
    }
    pair.settle();
    let mut accepted = Vec::new();
    while let Some(id) = pair.server.only().accept(Dir::Uni) {
        assert_eq!(read_all(pair.server.only(), id).0, b"x");
        accepted.push(id);
    }
    assert_eq!(accepted, opened);
    let stats = pair.client.only().stats();
    assert_eq!(stats.packets_lost, 0);
    // Nothing was sent twice: a packet of streams, and answers to what the server allows.
    assert!(stats.packets_sent - sent <= 3, "{stats:?}");
}

#[test]
fn reset_and_stop_carry_their_codes() {
    let mut pair = Pair::connected();
    let client = pair.client.only();
    let id = client.open(Dir::Bi).unwrap();
    client.write(id, b"x");
    pair.settle();
    let server = pair.server.only();
    server.accept(Dir::Bi).unwrap();
    assert_eq!(server.stop(id, 77), Stopped::Sent);
    assert!(server.reset(id, 78, b""));
    pair.settle();
    let events = pair.client.take_events();
    assert!(events
        .iter()
        .any(|event| matches!(event, Event::Stopped { id: stopped, code: 77 } if *stopped == id)));
    assert_eq!(
        read_all(pair.client.only(), id).1,
        ReadState::Reset(Reset {
            code: 78,
            final_size: 0
        })
    );
    assert_eq!(
        pair.client.only().write(id, b"x").1,
        WriteState::Stopped(77)
    );
}

#[test]
fn datagrams_arrive_and_oversize_ones_are_refused() {
    let mut pair = Pair::connected();
    let client = pair.client.only();
    let limit = client.max_datagram_size().unwrap();
    assert!(limit > 1_100);
    assert_eq!(
        client.send_datagram(vec![0; limit + 1].into()),
        Err(DatagramRefused::TooLarge)
    );
    client.send_datagram(vec![1; limit].into()).unwrap();
    client.send_datagram(Bytes::new()).unwrap();
    pair.settle();
    let server = pair.server.only();
    assert_eq!(server.receive_datagram().unwrap().len(), limit);
    assert_eq!(server.receive_datagram().unwrap().len(), 0);
    assert_eq!(server.receive_datagram(), None);
}

#[test]
fn every_datagram_is_accounted_for() {
    let transport = TransportOptions {
        datagram_receive_buffer: 20_000,
        ..TransportOptions::default()
    };
    let mut pair = Pair::connected_with(transport);
    let mut number = common::random(5);
    pair.drop_if = Box::new(move |_| number().is_multiple_of(4));
    let mut given = 0;
    let mut taken = 0;
    for round in 0..50 {
        for _ in 0..20 {
            let data = vec![7; 500 + round];
            given += u64::from(pair.client.only().send_datagram(data.into()).is_ok());
        }
        pair.advance(Duration::from_millis(20));
        // Now and then too many wait.
        if round % 7 < 3 {
            while pair.server.only().receive_datagram().is_some() {
                taken += 1;
            }
        }
    }
    pair.drop_if = Box::new(|_| false);
    for _ in 0..3 {
        // What follows tells what was lost.
        pair.client.only().ping();
        pair.advance(Duration::from_secs(2));
    }
    while pair.server.only().receive_datagram().is_some() {
        taken += 1;
    }
    pair.settle();
    let (sent, received) = (pair.client.only().stats(), pair.server.only().stats());
    assert_eq!(sent.datagrams_sent + sent.datagrams_too_large, given);
    assert_eq!(
        sent.datagrams_acknowledged + sent.datagrams_lost,
        sent.datagrams_sent
    );
    assert_eq!(received.datagrams_received, sent.datagrams_acknowledged);
    assert_eq!(
        received.datagrams_overflown + taken,
        received.datagrams_received
    );
    assert!(sent.datagrams_lost > 0 && received.datagrams_overflown > 0 && taken > 0);
}

#[test]
fn a_full_datagram_buffer_gives_the_datagram_back_and_unblocks() {
    let transport = TransportOptions {
        datagram_send_buffer: 2_000,
        ..TransportOptions::default()
    };
    let mut pair = Pair::default_pair();
    pair.connect(&client_tls(), transport);
    pair.settle();
    pair.client.take_events();
    let client = pair.client.only();
    client.send_datagram(vec![1; 1_000].into()).unwrap();
    assert!(matches!(
        client.send_datagram(vec![2; 1_000].into()),
        Err(DatagramRefused::Full(data)) if data.len() == 1_000
    ));
    pair.settle();
    assert!(pair
        .client
        .take_events()
        .iter()
        .any(|event| matches!(event, Event::DatagramsUnblocked)));
}

#[test]
fn loss_delays_data_and_loses_none() {
    let mut pair = Pair::connected();
    let mut state = 1_u64;
    pair.drop_if = Box::new(move |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33).is_multiple_of(20)
    });
    let client = pair.client.only();
    let id = client.open(Dir::Uni).unwrap();
    let sent: Vec<u8> = (0..400_000_u32).map(|i| (i % 251) as u8).collect();
    assert_eq!(client.write(id, &sent).1, WriteState::Done);
    client.finish(id);
    pair.advance(Duration::from_secs(20));
    let server = pair.server.only();
    server.accept(Dir::Uni).unwrap();
    let (received, state) = read_all(server, id);
    assert_eq!(state, ReadState::Finished);
    assert!(received == sent);
    assert!(pair.client.only().stats().packets_lost > 0);
}

#[test]
fn an_application_close_reaches_the_peer_and_both_forget() {
    let mut pair = Pair::connected();
    let now = pair.now;
    pair.client.only().close(now, 0x100, "bye");
    pair.settle();
    let close = closed(pair.server.take_events());
    assert_eq!((close.code, close.reason.as_str()), (0x100, "bye"));
    assert_eq!(
        (close.by, close.kind),
        (CloseBy::Remote, CloseKind::Application)
    );
    pair.advance(Duration::from_secs(5));
    assert_eq!(pair.client.endpoint.connections(), 0);
    assert_eq!(pair.server.endpoint.connections(), 0);
}

#[test]
fn silence_ends_a_connection() {
    let mut pair = Pair::connected();
    pair.drop_if = Box::new(|_| true);
    pair.advance(Duration::from_secs(40));
    let close = closed(pair.client.take_events());
    assert_eq!(
        (close.by, close.kind),
        (CloseBy::Transport, CloseKind::IdleTimeout)
    );
    assert_eq!(pair.server.endpoint.connections(), 0);
}

#[test]
fn keep_alive_outlives_the_idle_timeout() {
    let mut pair = Pair::default_pair();
    let transport = TransportOptions {
        keep_alive_interval: Some(Duration::from_secs(10)),
        ..TransportOptions::default()
    };
    pair.connect(&client_tls(), transport);
    pair.advance(Duration::from_secs(120));
    assert_eq!(pair.server.endpoint.connections(), 1);
}

#[test]
fn no_common_application_protocol_is_a_tls_alert() {
    let mut pair = Pair::default_pair();
    let tls = ClientTls {
        alpn: vec![b"other".to_vec()],
        ..client_tls()
    };
    pair.connect(&tls, TransportOptions::default());
    pair.settle();
    let close = closed(pair.client.take_events());
    assert_eq!(close.kind, CloseKind::Tls { alert: 120 });
}

#[test]
fn an_untrusted_certificate_is_refused_and_a_pinned_one_accepted() {
    let (identity, der) = common::identity();
    let mut pair = Pair::new(
        &server_tls(identity),
        TransportOptions::default(),
        ServerOptions::default(),
    );
    let hash = |der: &[u8]| {
        let digest = ring::digest::digest(&ring::digest::SHA256, der);
        <[u8; 32]>::try_from(digest.as_ref()).unwrap()
    };
    let refused = ClientTls {
        certificate_hashes: vec![[0; 32]],
        ..client_tls()
    };
    pair.connect(&refused, TransportOptions::default());
    pair.settle();
    let close = closed(pair.client.take_events());
    assert_eq!(close.by, CloseBy::Local);
    assert!(matches!(close.kind, CloseKind::Tls { .. }), "{close:?}");
    let fault = CertificateFault::Hash {
        actual: hash(&der),
        expected: vec![[0; 32]],
    };
    assert_eq!(close.certificate, Some(fault));
    // rcgen's default validity is far beyond two weeks, so the right hash alone is not enough.
    let long = ClientTls {
        certificate_hashes: vec![hash(&der)],
        ..client_tls()
    };
    pair.connect(&long, TransportOptions::default());
    pair.settle();
    assert!(matches!(
        closed(pair.client.take_events()).certificate,
        Some(CertificateFault::Lifetime { seconds }) if seconds > 14 * 86_400
    ));
    let (identity, der) = common::short_lived_identity();
    pair.server.endpoint.reload(&server_tls(identity)).unwrap();
    let pinned = ClientTls {
        certificate_hashes: vec![[0; 32], hash(&der)],
        ..client_tls()
    };
    pair.connect(&pinned, TransportOptions::default());
    pair.settle();
    assert!(pair
        .client
        .take_events()
        .iter()
        .any(|e| matches!(e, Event::Connected)));
}

#[test]
fn a_self_signed_authority_is_trusted_when_it_is_the_ca_file() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let file = std::env::temp_dir().join(format!("pywt-quic-ca-{}.pem", std::process::id()));
    std::fs::write(&file, certificate.pem()).unwrap();
    let identity =
        pywt_quic::Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())
            .unwrap();
    let mut pair = Pair::new(
        &server_tls(identity),
        TransportOptions::default(),
        ServerOptions::default(),
    );
    let tls = ClientTls {
        ca_file: Some(file.clone()),
        verify: Verify::Required,
        ..client_tls()
    };
    let options = ClientOptions::new(&tls, TransportOptions::default()).unwrap();
    std::fs::remove_file(file).unwrap();
    pair.connect_with(&options);
    pair.settle();
    assert!(pair
        .client
        .take_events()
        .iter()
        .any(|e| matches!(e, Event::Connected)));
    let other = pair
        .client
        .endpoint
        .connect(pair.now, &options, pair.server.address, "example.org")
        .unwrap();
    pair.client.connections.insert(other.handle(), other);
    pair.settle();
    let close = closed(pair.client.take_events());
    assert!(matches!(close.kind, CloseKind::Tls { .. }));
    assert_eq!(close.certificate, Some(CertificateFault::Name));
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_as_data() {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let day = Duration::from_secs(86_400);
    let ecdsa = &rcgen::PKCS_ECDSA_P256_SHA256;
    let cases = [
        // Key, validity in days from now, whether it is pinned, what is wrong.
        (
            &rcgen::PKCS_ED25519,
            -1,
            5,
            true,
            CertificateFault::Key(KeyKind::Ed25519),
        ),
        (ecdsa, -5, -1, true, CertificateFault::Expired),
        (ecdsa, 1, 5, true, CertificateFault::NotYetValid),
        // The hash is told as well; which one is seen below.
        (
            ecdsa,
            -1,
            5,
            false,
            CertificateFault::SelfSigned { actual: [0; 32] },
        ),
    ];
    for (algorithm, from, until, is_pinned, fault) in cases {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        let at = |days: i32| {
            let since = day * days.unsigned_abs();
            epoch + if days < 0 { now - since } else { now + since }
        };
        params.not_before = at(from);
        params.not_after = at(until);
        let certificate = params.self_signed(&key).unwrap();
        let identity =
            Identity::from_pem(certificate.pem().as_bytes(), key.serialize_pem().as_bytes())
                .unwrap();
        let mut pair = Pair::new(
            &server_tls(identity),
            TransportOptions::default(),
            ServerOptions::default(),
        );
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate.der());
        let roots =
            std::env::temp_dir().join(format!("pywt-quic-fault-{}.pem", std::process::id()));
        let other = rcgen::generate_simple_self_signed(vec!["other".into()]).unwrap();
        std::fs::write(&roots, other.cert.pem()).unwrap();
        let tls = ClientTls {
            certificate_hashes: if is_pinned {
                vec![digest.as_ref().try_into().unwrap()]
            } else {
                Vec::new()
            },
            ca_file: Some(roots.clone()),
            verify: Verify::Required,
            ..client_tls()
        };
        pair.connect(&tls, TransportOptions::default());
        pair.settle();
        std::fs::remove_file(roots).unwrap();
        let fault = match fault {
            CertificateFault::SelfSigned { .. } => CertificateFault::SelfSigned {
                actual: digest.as_ref().try_into().unwrap(),
            },
            fault => fault,
        };
        assert_eq!(closed(pair.client.take_events()).certificate, Some(fault));
    }
}

#[test]
fn tickets_are_used_and_carry_no_early_data() {
    // A chain of several packets, which a resumed handshake does not repeat.
    let mut pair = Pair::new(
        &server_tls(common::identity_with_chain(10)),
        TransportOptions::default(),
        ServerOptions::default(),
    );
    let options = ClientOptions::new(&client_tls(), TransportOptions::default()).unwrap();
    let first = pair.connect_with(&options);
    pair.settle();
    let full = pair.client.connections[&first].stats().bytes_received;
    let second = pair.connect_with(&options);
    // With early data a stream could be opened before the server has answered.
    let connection = pair.client.connections.get_mut(&second).unwrap();
    assert_eq!(connection.open(Dir::Bi), None);
    pair.settle();
    let resumed = pair.client.connections[&second].stats().bytes_received;
    assert!(resumed < full, "resumed {resumed}, full {full}");
}

#[test]
fn a_reloaded_certificate_is_for_new_connections() {
    let mut pair = Pair::connected();
    let (fresh, der) = identity();
    pair.server.endpoint.reload(&server_tls(fresh)).unwrap();
    let second = pair.connect(&client_tls(), TransportOptions::default());
    pair.settle();
    assert_eq!(
        pair.client.connections[&second].peer_certificates(),
        vec![der]
    );
    assert_eq!(pair.server.endpoint.connections(), 2);
}

#[test]
fn client_certificates_are_required_when_asked_for() {
    let ours = identity().0;
    let dir = std::env::temp_dir().join(format!("pywt-quic-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let ca = dir.join("ca.pem");
    let mut ca_params = rcgen::CertificateParams::new(vec![]).unwrap();
    ca_params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca_certificate = ca_params.self_signed(&ca_key).unwrap();
    std::fs::write(&ca, ca_certificate.pem()).unwrap();
    let issuer = rcgen::Issuer::new(ca_params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let client = rcgen::CertificateParams::new(vec!["client".into()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let mut tls = server_tls(ours);
    tls.verify = Verify::Required;
    tls.ca_file = Some(ca);
    let mut pair = Pair::new(&tls, TransportOptions::default(), ServerOptions::default());

    pair.connect(&client_tls(), TransportOptions::default());
    pair.settle();
    // certificate_required (RFC 8446 §6.2).
    assert_eq!(
        closed(pair.client.take_events()).kind,
        CloseKind::Tls { alert: 116 }
    );

    pair.server.take_events();
    let with = ClientTls {
        identity: Some(
            pywt_quic::Identity::from_pem(client.pem().as_bytes(), key.serialize_pem().as_bytes())
                .unwrap(),
        ),
        ..client_tls()
    };
    pair.connect(&with, TransportOptions::default());
    pair.settle();
    assert!(pair
        .server
        .take_events()
        .iter()
        .any(|e| matches!(e, Event::Connected)));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn keying_material_agrees_on_both_sides() {
    let mut pair = Pair::connected();
    let (mut ours, mut theirs) = ([0; 32], [1; 32]);
    assert!(pair
        .client
        .only()
        .export_keying_material(&mut ours, b"label", b"context"));
    assert!(pair
        .server
        .only()
        .export_keying_material(&mut theirs, b"label", b"context"));
    assert_eq!(ours, theirs);
}
