//! Which dialect is spoken with whom: the settings we send, the settings that deployed peers send
//! (captured), and what follows from them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use pywt_core::wire::codes::{capsule, error, frame, is_grease, setting};
use pywt_core::wire::{frame as wire_frame, qpack, settings};
use pywt_core::{
    Action, Config, Connection, Dialect, Dir, Event, FlowControl, Request, Response, Role, Time,
};
use support::*;

/// The settings a connection with this configuration sends, and the frames after them.
fn announced(config: Config) -> (Vec<(u64, u64)>, Vec<u64>) {
    let mut conn = Connection::new(config);
    conn.handle_connected(3, transport(), Time::ZERO);
    let Some(Action::SendStream {
        id: 3,
        data,
        fin: false,
    }) = conn.poll_action()
    else {
        panic!("no control stream");
    };
    assert_eq!(data[0], 0);
    let frames: Vec<_> = wire_frame::parse_many(&data[1..]).collect();
    assert_eq!(frames[0].ty, frame::SETTINGS);
    let settings = settings::decode(frames[0].payload).unwrap();
    (
        settings.iter().collect(),
        frames[1..].iter().map(|frame| frame.ty).collect(),
    )
}

fn value(settings: &[(u64, u64)], id: u64) -> Option<u64> {
    settings
        .iter()
        .find(|(other, _)| *other == id)
        .map(|(_, value)| *value)
}

#[test]
fn server_announces_the_union_of_its_dialects() {
    let (settings, frames) = announced(Config::server());
    for (id, expected) in [
        (setting::QPACK_MAX_TABLE_CAPACITY, Some(0)),
        (setting::MAX_FIELD_SECTION_SIZE, Some(65_536)),
        (setting::QPACK_BLOCKED_STREAMS, Some(0)),
        (setting::ENABLE_CONNECT_PROTOCOL, Some(1)),
        (setting::H3_DATAGRAM, Some(1)),
        (setting::H3_DATAGRAM_DRAFT04, Some(1)),
        (setting::ENABLE_WEBTRANSPORT_DRAFT02, Some(1)),
        (setting::WT_MAX_SESSIONS_DRAFT07, Some(100)),
        (setting::WT_MAX_SESSIONS_DRAFT13, Some(100)),
        (setting::WT_ENABLED, Some(1)),
        (setting::WT_INITIAL_MAX_DATA, Some(FlowControl::AMPLE)),
        (
            setting::WT_INITIAL_MAX_STREAMS_UNI,
            Some(FlowControl::AMPLE),
        ),
        (
            setting::WT_INITIAL_MAX_STREAMS_BIDI,
            Some(FlowControl::AMPLE),
        ),
    ] {
        assert_eq!(value(&settings, id), expected, "{id:#x}");
    }
    assert!(settings.iter().any(|(id, _)| is_grease(*id)));
    assert!(frames.len() == 1 && is_grease(frames[0]));
}

#[test]
fn flow_control_is_announced_when_configured() {
    let mut config = Config::server();
    config.flow_control = FlowControl {
        initial_max_data: 1 << 20,
        initial_max_streams_bidi: 100,
        initial_max_streams_uni: 200,
        ..FlowControl::default()
    };
    config.grease = false;
    let (settings, frames) = announced(config);
    assert_eq!(
        value(&settings, setting::WT_INITIAL_MAX_DATA),
        Some(1 << 20)
    );
    assert_eq!(
        value(&settings, setting::WT_INITIAL_MAX_STREAMS_BIDI),
        Some(100)
    );
    assert_eq!(
        value(&settings, setting::WT_INITIAL_MAX_STREAMS_UNI),
        Some(200)
    );
    assert_eq!(
        value(&settings, setting::WT_MAX_SESSIONS_DRAFT13),
        Some(100)
    );
    assert!(!settings.iter().any(|(id, _)| is_grease(*id)));
    assert_eq!(frames, []);
}

#[test]
fn datagrams_are_announced_only_where_quic_has_them() {
    let mut conn = Connection::new(Config::server());
    conn.handle_connected(3, pywt_core::Transport::default(), Time::ZERO);
    let Some(Action::SendStream { data, .. }) = conn.poll_action() else {
        panic!()
    };
    let settings = settings::decode(wire_frame::parse_many(&data[1..]).next().unwrap().payload);
    assert_eq!(settings.unwrap().get(setting::H3_DATAGRAM), None);
}

/// SETTINGS payloads of clients, as captured, and what a server makes of them.
const CLIENTS: [(&str, &str, Dialect); 8] = [
    (
        "Chromium 156",
        "018001000006800040000740643301 80ffd27701 ab60374201 c000000021b4b0e2 80aabbcc",
        Dialect::Draft02,
    ),
    (
        "Firefox 153",
        "01800100000714ab6037420180ffd2770133010801",
        Dialect::Draft02,
    ),
    ("webtransport-go 0.9", "3301", Dialect::Draft02),
    ("webtransport-go 0.10", "0680a000003301", Dialect::Draft02),
    (
        "wtransport 0.7",
        "01000700 0801 3301 ab60374201 c0000000c671706a01",
        Dialect::Draft07,
    ),
    (
        "web-transport 0.13",
        "06800040000801330180ffd27701ab60374201ab60374301c0000000c671706a01",
        Dialect::Draft07,
    ),
    (
        "webtransport-go 0.13",
        "0680a000003301ac7cf00001",
        Dialect::Draft15,
    ),
    (
        "PyWebTransport 0.21",
        "010006800100000700080133016b61804000006b640a6b650aac7cf00001",
        Dialect::Draft15,
    ),
];

#[test]
fn deployed_clients_get_a_session() {
    for (name, payload, dialect) in CLIENTS {
        let mut bench = Bench::silent_server();
        let control = [vec![0], frame_of(frame::SETTINGS, &hex(payload))].concat();
        bench.recv(CLIENT_CONTROL, &control);
        assert_eq!(bench.conn.dialect(), Some(dialect), "{name}");
        bench.request_session(0);
        bench.accept(0);
        bench.assert_quiet();
        assert_eq!(bench.status(0).as_deref(), Some("200"), "{name}");
        assert_eq!(
            bench.conn.session(0).map(|session| session.flow_control),
            Some(name == "PyWebTransport 0.21")
        );
    }
}

#[test]
fn session_credit_can_be_switched_off() {
    let mut config = Config::server();
    config.flow_control = FlowControl::OFF;
    let (settings, _) = announced(config);
    for (id, expected) in [
        // More would promise the session flow control that is not offered.
        (setting::WT_MAX_SESSIONS_DRAFT13, Some(1)),
        (setting::WT_INITIAL_MAX_DATA, None),
        (setting::WT_INITIAL_MAX_STREAMS_UNI, None),
        (setting::WT_INITIAL_MAX_STREAMS_BIDI, None),
    ] {
        assert_eq!(value(&settings, id), expected, "{id:#x}");
    }
}

#[test]
fn strict_server_refuses_a_client_that_announces_nothing() {
    let mut config = Config::server();
    config.strict = true;
    let mut bench = Bench::new(config.clone());
    bench.recv(
        CLIENT_CONTROL,
        &control_stream(&[(setting::H3_DATAGRAM, 1)]),
    );
    bench.recv(0, &connect_request("webtransport"));
    bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
    // And a token that is not of the dialect announced.
    for (dialect, token) in [
        (Dialect::Draft15, "webtransport"),
        (Dialect::Draft02, "webtransport-h3"),
    ] {
        let mut bench = Bench::server_with(config.clone(), dialect);
        bench.recv(0, &connect_request(token));
        assert_eq!(bench.status(0).as_deref(), Some("400"));
        let mut bench = Bench::server_for(dialect);
        bench.recv(0, &connect_request(token));
        assert!(matches!(
            bench.events.as_slice(),
            [Event::SessionRequested { .. }]
        ));
    }
    // And a dialect without the transport parameter it needs: the next one is spoken.
    let mut settings = peer_settings(Dialect::Draft15);
    settings.extend(peer_settings(Dialect::Draft07).pop());
    for (reset_stream_at, dialect) in [(true, Dialect::Draft15), (false, Dialect::Draft07)] {
        let mut conn = Connection::new(config.clone());
        let facts = pywt_core::Transport {
            reset_stream_at,
            ..transport()
        };
        conn.handle_connected(3, facts, Time::ZERO);
        let control = control_stream(&settings).into();
        conn.handle_stream_data(CLIENT_CONTROL, control, false, Time::ZERO);
        assert_eq!(conn.dialect(), Some(dialect));
    }
    // And H3_DATAGRAM without QUIC datagrams.
    let mut conn = Connection::new(config);
    let mut facts = transport();
    facts.max_datagram_frame_size = 0;
    conn.handle_connected(3, facts, Time::ZERO);
    let mut bench = Bench {
        conn,
        now: Time::ZERO,
        actions: vec![],
        events: vec![],
    };
    bench.recv(
        CLIENT_CONTROL,
        &control_stream(&peer_settings(Dialect::Draft15)),
    );
    bench.assert_connection_error(error::H3_SETTINGS_ERROR);
}

/// The fields of the request a client sends to a server with these settings.
fn asked(config: Config, pairs: &[(u64, u64)], request: Request) -> Vec<(String, String)> {
    let mut bench = Bench::new(config);
    bench.conn.connect(0, request, bench.now).unwrap();
    bench.drain();
    assert_eq!(
        bench.sent(0),
        (vec![], false),
        "nothing is sent before SETTINGS"
    );
    bench.recv(SERVER_CONTROL, &control_stream(pairs));
    let (bytes, fin) = bench.sent(0);
    assert!(!fin);
    let request = wire_frame::parse_many(&bytes).next().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let fields = qpack::decode_section(request.payload, 65_536).unwrap();
    fields
        .iter()
        .map(|field| (text(&field.name), text(&field.value)))
        .collect()
}

#[test]
fn client_asks_in_the_servers_dialect() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for dialect in Dialect::ALL {
        let mut request = request();
        request.protocols = vec!["moq-00".into(), "x".into()];
        request.headers = vec![pair("origin", "https://example.com")];
        let fields = asked(Config::client(), &peer_settings(dialect), request);
        let mut expected: Vec<_> = connect_fields(dialect.token())
            .iter()
            .map(|(n, v)| pair(n, v))
            .collect();
        if dialect == Dialect::Draft02 {
            expected.push(pair("sec-webtransport-http3-draft02", "1"));
        }
        expected.push(pair("wt-available-protocols", "\"moq-00\", \"x\""));
        expected.push(pair("origin", "https://example.com"));
        assert_eq!(fields, expected);
    }
}

#[test]
fn client_speaks_the_highest_dialect_of_deployed_servers() {
    let servers = [
        ("webtransport-go 0.9", "08013301ab60374201", "webtransport"),
        (
            "wtransport",
            "0100070008013301ab60374201c0000000c671706a01",
            "webtransport",
        ),
        (
            "webtransport-go 0.13",
            "068010000008013301 94e9cd29 ffffffffffffffff ab60374201 ac7cf00001",
            "webtransport-h3",
        ),
        (
            "PyWebTransport 0.21",
            "010006800100000700080133016b61804000006b640a6b650aac7cf00001",
            "webtransport-h3",
        ),
        ("one with extended CONNECT only", "08013301", "webtransport"),
    ];
    for (name, payload, token) in servers {
        let pairs: Vec<_> = settings::decode(&hex(payload)).unwrap().iter().collect();
        let fields = asked(Config::client(), &pairs, request());
        let sent = fields.iter().find(|(name, _)| name == ":protocol").unwrap();
        assert_eq!(sent.1, token, "{name}");
    }
}

#[test]
fn client_leaves_a_server_without_webtransport() {
    let mut bench = Bench::silent_client();
    bench.conn.connect(0, request(), Time::ZERO).unwrap();
    bench.recv(
        SERVER_CONTROL,
        &control_stream(&[(setting::H3_DATAGRAM, 1)]),
    );
    bench.assert_connection_error(error::WT_REQUIREMENTS_NOT_MET);
    let error = Some(error::WT_REQUIREMENTS_NOT_MET);
    assert!(matches!(&bench.events[1], Event::SessionRejected { error: e, .. } if *e == error));
    // Or one that stays silent.
    let mut bench = Bench::silent_client();
    bench.conn.connect(0, request(), Time::ZERO).unwrap();
    bench.advance(Config::client().limits.settings_timeout);
    bench.assert_connection_error(error::H3_MISSING_SETTINGS);
    assert_eq!(bench.events.len(), 1);
}

/// RFC 9220 §3: an explicit 0 is a no; deployed servers that stay silent are asked.
#[test]
fn client_asks_no_server_that_denies_extended_connect() {
    let all = Dialect::ALL.map(peer_settings);
    for announced in all {
        for (said, asks) in [(None, true), (Some(1), true), (Some(0), false)] {
            let mut pairs = announced.clone();
            pairs.retain(|(id, _)| *id != setting::ENABLE_CONNECT_PROTOCOL);
            pairs.extend(said.map(|value| (setting::ENABLE_CONNECT_PROTOCOL, value)));
            let mut bench = Bench::silent_client();
            bench.conn.connect(0, request(), Time::ZERO).unwrap();
            bench.recv(SERVER_CONTROL, &control_stream(&pairs));
            let refused = Some(error::WT_REQUIREMENTS_NOT_MET);
            let expected = if asks { None } else { refused };
            assert_eq!(bench.connection_error(), expected, "{pairs:?}");
        }
    }
}

#[test]
fn client_keeps_to_the_servers_session_limit() {
    let limit = [(setting::WT_MAX_SESSIONS_DRAFT07, 2)];
    let mut bench = Bench::silent_client();
    bench.recv(SERVER_CONTROL, &control_stream(&limit));
    bench.events.clear();
    for id in [0, 4] {
        bench.conn.connect(id, request(), Time::ZERO).unwrap();
    }
    bench.drain();
    assert_eq!(bench.events, []);
    bench.conn.connect(8, request(), Time::ZERO).unwrap();
    bench.drain();
    assert!(matches!(
        bench.events.as_slice(),
        [Event::SessionRejected { session: 8, .. }]
    ));
}

#[test]
fn version_header_is_answered_only_when_sent() {
    for sent in [true, false] {
        let mut fields = connect_fields("webtransport");
        if sent {
            fields.push(("sec-webtransport-http3-draft02", "1"));
        }
        let mut bench = Bench::server();
        bench.recv(0, &headers(&fields));
        bench.accept(0);
        let (bytes, _) = bench.sent(0);
        let response = wire_frame::parse_many(&bytes).next().unwrap();
        let fields = qpack::decode_section(response.payload, 4096).unwrap();
        let answered = fields
            .iter()
            .any(|field| field.name == "sec-webtransport-http3-draft" && field.value == "draft02");
        assert_eq!(answered, sent);
    }
}

#[test]
fn protocol_that_was_not_offered_ends_only_where_the_draft_says_so() {
    for dialect in Dialect::ALL {
        let mut bench = Bench::client_for(dialect);
        let request = Request {
            protocols: vec!["a".into()],
            ..request()
        };
        bench.conn.connect(0, request, Time::ZERO).unwrap();
        bench.drain();
        bench.recv(0, &headers(&[(":status", "200"), ("wt-protocol", "\"b\"")]));
        if dialect == Dialect::Draft15 {
            bench.assert_stream_error(0, error::WT_ALPN_ERROR);
            let error = Some(error::WT_ALPN_ERROR);
            assert!(matches!(bench.events.as_slice(),
                [Event::SessionRejected { error: e, .. }] if *e == error));
        } else {
            assert!(matches!(
                bench.events.as_slice(),
                [Event::SessionEstablished { protocol: None, .. }]
            ));
        }
    }
    // What is not a quoted string is no choice at all.
    let mut bench = Bench::client_asked(Dialect::Draft15);
    bench.recv(0, &headers(&[(":status", "200"), ("wt-protocol", "b")]));
    assert!(matches!(
        bench.events.as_slice(),
        [Event::SessionEstablished { protocol: None, .. }]
    ));
}

#[test]
fn server_may_choose_only_what_was_offered() {
    let mut fields = connect_fields("webtransport");
    fields.push(("wt-available-protocols", "\"a\";q=1, \"b\""));
    let mut bench = Bench::server();
    bench.recv(0, &headers(&fields));
    let response = |protocol: &str| Response {
        protocol: Some(protocol.to_owned()),
        ..Response::default()
    };
    let refused = bench.conn.accept(0, response("c"), Time::ZERO);
    assert_eq!(
        refused,
        Err(pywt_core::Error::ProtocolNotOffered("c".into()))
    );
    assert_eq!(bench.conn.accept(0, response("b"), Time::ZERO), Ok(()));
    // A list with anything else in it is no offer.
    let mut fields = connect_fields("webtransport");
    fields.push(("wt-available-protocols", "\"a\", b"));
    let mut bench = Bench::server();
    bench.recv(0, &headers(&fields));
    assert!(matches!(&bench.events[0],
        Event::SessionRequested { protocols, .. } if protocols.is_empty()));
}

/// The settings of PyWebTransport 0.8, in its order, with its default limits.
fn pywebtransport_08() -> Vec<u8> {
    let payload = hex("0801 3301 0710 015000 6b6100 6b6500 6b6400 94e9cd2901");
    [vec![0], frame_of(frame::SETTINGS, &payload)].concat()
}

#[test]
fn pywebtransport_08_client_is_served_with_raw_capsules() {
    let mut bench = Bench::silent_server();
    bench.recv(0, &connect_request("webtransport"));
    bench.recv(CLIENT_CONTROL, &pywebtransport_08());
    assert_eq!(bench.conn.dialect(), Some(Dialect::Draft13));
    bench.actions.clear();
    bench.accept(0);
    // It sends nothing it was not granted, and its own limits of 0 are not meant.
    let (bytes, _) = bench.sent(0);
    let frames: Vec<_> = wire_frame::parse_many(&bytes)
        .map(|frame| frame.ty)
        .collect();
    let grants = [
        capsule::WT_MAX_DATA,
        capsule::WT_MAX_STREAMS_BIDI,
        capsule::WT_MAX_STREAMS_UNI,
    ];
    assert_eq!(frames, [&[frame::HEADERS][..], &grants].concat());
    bench.conn.open_stream(0, 1, Dir::Bidi).unwrap();
    assert_eq!(bench.conn.reserve_send(1, 1 << 30), 1 << 30);
    // Raw, as it writes it.
    bench.events.clear();
    bench.recv_fin(0, &hex("6843 0a 0000002a 62796520c3a9"));
    assert!(matches!(bench.events.last(),
        Some(Event::SessionClosed { code: 42, reason, .. }) if reason == "bye \u{e9}"));
    // Raw, as it reads it.
    let mut bench = Bench::silent_server();
    bench.recv(CLIENT_CONTROL, &pywebtransport_08());
    bench.request_session(0);
    bench.accept(0);
    bench.actions.clear();
    bench
        .conn
        .close_session(0, 42, "bye \u{e9}", Time::ZERO)
        .unwrap();
    bench.drain();
    assert_eq!(bench.sent(0), (hex("6843 0a 0000002a 62796520c3a9"), true));
    // It answers with the same capsule.
    bench.recv_fin(0, &hex("6843 0a 0000002a 62796520c3a9"));
    assert!(bench.conn.is_idle());
}

#[test]
fn pywebtransport_08_server_is_spoken_to_in_raw_capsules() {
    let mut bench = Bench::silent_client();
    bench.recv(SERVER_CONTROL, &pywebtransport_08());
    bench.conn.connect(0, request(), Time::ZERO).unwrap();
    bench.drain();
    bench.actions.clear();
    bench.recv(0, &headers(&[(":status", "200")]));
    assert!(bench.sent(0).0.starts_with(&hex("990b4d3d")));
    assert!(bench.conn.check_open(0, Dir::Uni).is_ok());
}

/// RFC 9114 §9: unknown frames are ignored. Only the peer known by its fingerprint means capsules.
#[test]
fn raw_capsules_of_any_other_peer_are_unknown_frames() {
    let close = hex("684307000001a4627965");
    let drain = hex("800078ae00");
    let stream_data = frame_of(0x190b_4d3e, &[1, 2, 3]);
    for dialect in Dialect::ALL {
        for raw in [&close, &drain, &stream_data] {
            let mut bench = Bench::server_session(dialect);
            bench.recv(0, raw);
            bench.assert_quiet();
            assert_eq!(bench.events, [], "{dialect:?}");
            // Ours stay in DATA frames.
            bench.conn.close_session(0, 1, "", bench.now).unwrap();
            bench.drain();
            let capsule = capsule_of(0x2843, &[0, 0, 0, 1]);
            assert_eq!(bench.sent(0), (data_frame(&capsule), true));
        }
    }
    for cut in [1, 2, 3, 6, 9] {
        let mut bench = Bench::silent_server();
        bench.recv(CLIENT_CONTROL, &pywebtransport_08());
        let mut bench = bench.with_session();
        bench.recv(0, &close[..cut]);
        bench.recv(0, &close[cut..]);
        assert!(matches!(
            bench.events.as_slice(),
            [Event::SessionClosed { code: 420, .. }]
        ));
        let mut bench = Bench::silent_server();
        bench.recv(CLIENT_CONTROL, &pywebtransport_08());
        let mut bench = bench.with_session();
        bench.recv_fin(0, &close[..cut]);
        match cut {
            1 | 2 => bench.assert_connection_error(error::H3_FRAME_ERROR),
            _ => assert_eq!(bench.reset_code(0), Some(error::H3_MESSAGE_ERROR)),
        }
    }
}

#[test]
fn chromium_greets_with_a_grease_capsule_before_the_answer() {
    let mut bench = Bench::server();
    bench.request_session(0);
    bench.recv(
        0,
        &data_frame(&capsule_of(0x17 + 0x29 * 1_000_003, &[7; 60])),
    );
    bench.accept(0);
    bench.advance(Duration::from_secs(60));
    bench.assert_quiet();
    assert_eq!(bench.conn.stats().sessions, 1);
}

#[test]
fn verbs_of_the_other_role_are_refused() {
    let mut server = Bench::server();
    let refused = server.conn.connect(0, request(), Time::ZERO);
    assert_eq!(refused, Err(pywt_core::Error::Role(Role::Client)));
    let mut client = Bench::client_asked(Dialect::Draft02);
    let refused = client.conn.accept(0, Response::default(), Time::ZERO);
    assert_eq!(refused, Err(pywt_core::Error::Role(Role::Server)));
    let refused = client.conn.reject(0, 404, &[], Time::ZERO);
    assert_eq!(refused, Err(pywt_core::Error::Role(Role::Server)));
}

#[test]
fn fields_that_cannot_be_sent_are_local_misuse() {
    let mut bench = Bench::client_for(Dialect::Draft15);
    let with = |name: &str, value: &str| Request {
        headers: vec![(name.to_owned(), value.to_owned())],
        ..request()
    };
    let bad = [
        ("X", "a"),
        (":path", "/"),
        ("x", "a\nb"),
        ("upgrade", "x"),
        ("x", " a"),
    ];
    for (name, value) in bad {
        let refused = bench.conn.connect(0, with(name, value), Time::ZERO);
        let refused = refused.unwrap_err();
        assert!(
            matches!(&refused, pywt_core::Error::InvalidField { .. }),
            "{refused}"
        );
    }
    let request = Request {
        path: "/a\r\nb".into(),
        ..request()
    };
    assert!(bench.conn.connect(0, request, Time::ZERO).is_err());
    let request = Request {
        protocols: vec!["\u{e9}".into()],
        ..support::request()
    };
    assert!(bench.conn.connect(0, request, Time::ZERO).is_err());
    assert!(bench
        .conn
        .connect(2, support::request(), Time::ZERO)
        .is_err());
    assert!(bench
        .conn
        .connect(0, support::request(), Time::ZERO)
        .is_ok());
    assert!(bench
        .conn
        .connect(0, support::request(), Time::ZERO)
        .is_err());
}
