//! The conformance checklist: requests (REQ). Each test is named after its row:
//! bytes in, required code out.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use pywt_core::wire::codes::{error, frame, grease};
use pywt_core::wire::qpack;
use pywt_core::{Action, Config, Dialect, Event};
use support::*;

/// Sends a request with these fields on stream 0.
fn requested(fields: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::server();
    bench.recv(0, &headers(fields));
    bench
}

/// A valid CONNECT with one field replaced (`Some`) or left out (`None`).
fn connect_with<'a>(name: &str, value: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    connect_fields("webtransport")
        .into_iter()
        .filter(|(field, _)| *field != name || value.is_some())
        .map(|(field, old)| {
            if field == name {
                (field, value.unwrap_or(old))
            } else {
                (field, old)
            }
        })
        .collect()
}

fn connect_plus<'a>(name: &'a str, value: &'a str) -> Vec<(&'a str, &'a str)> {
    let mut fields = connect_fields("webtransport");
    fields.push((name, value));
    fields
}

#[track_caller]
fn malformed(fields: &[(&str, &str)]) {
    let bench = requested(fields);
    bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
    assert_eq!(bench.events, []);
    assert!(!bench.conn.is_closed());
}

#[track_caller]
fn well_formed(fields: &[(&str, &str)]) {
    let bench = requested(fields);
    bench.assert_quiet();
    assert!(matches!(
        bench.events.as_slice(),
        [Event::SessionRequested { .. }]
    ));
}

fn get_fields() -> Vec<(&'static str, &'static str)> {
    vec![
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/"),
    ]
}

#[test]
fn req_01_frames_in_the_wrong_order() {
    let mut bench = Bench::server();
    bench.recv(0, &data_frame(b"x"));
    bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
    let trailers = headers(&[("x-sum", "1")]);
    let mut bench = requested(&get_fields());
    bench.recv(0, &data_frame(b"x"));
    bench.recv(0, &trailers);
    assert_eq!(bench.connection_error(), None);
    bench.recv(0, &trailers);
    bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
    // A client is owed HEADERS first as well.
    let mut bench = Bench::client_asked(Dialect::Draft02);
    bench.recv(0, &data_frame(b"x"));
    bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
}

#[test]
fn req_02_other_frames_on_an_established_connect() {
    let known = [
        headers(&[("x-sum", "1")]),
        frame_of(frame::PUSH_PROMISE, &[0, 0, 0]),
        frame_of(frame::SETTINGS, &[]),
        frame_of(frame::GOAWAY, &[0]),
    ];
    for bytes in known {
        let mut bench = Bench::server_session(Dialect::Draft15);
        bench.recv(0, &bytes);
        bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
        let mut bench = Bench::client_session(Dialect::Draft15);
        bench.recv(0, &bytes);
        bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
    }
    let mut bench = Bench::server_session(Dialect::Draft15);
    bench.recv(
        0,
        &[frame_of(grease(9), b"x"), frame_of(0x7_0000, &[0; 99])].concat(),
    );
    bench.assert_quiet();
    assert_eq!(bench.conn.stats().sessions, 1);
}

#[test]
fn req_03_ends_before_a_complete_field_section() {
    for bytes in [vec![], frame_of(grease(1), b"x")] {
        let mut bench = Bench::server();
        bench.recv(0, &bytes);
        bench.recv_fin(0, &[]);
        assert_eq!(bench.reset_code(0), Some(error::H3_REQUEST_INCOMPLETE));
        assert_eq!(bench.connection_error(), None);
    }
    let mut bench = Bench::server();
    bench.recv_fin(0, &[0x40]);
    assert_eq!(bench.reset_code(0), Some(error::H3_REQUEST_INCOMPLETE));
    // The same of a response.
    let mut bench = Bench::client_asked(Dialect::Draft02);
    bench.recv_fin(0, &[]);
    bench.assert_reset_only(0, error::H3_REQUEST_INCOMPLETE);
    assert!(matches!(
        bench.events.as_slice(),
        [Event::SessionRejected { status: 0, .. }]
    ));
}

#[test]
fn req_04_invalid_names_and_values() {
    for name in [
        "X-Upper",
        "a b",
        "a:b",
        "caf\u{e9}",
        "tab\t",
        "del\x7f",
        "",
        "nul\0",
    ] {
        malformed(&connect_plus(name, "v"));
    }
    for value in ["a\0b", "a\rb", "a\nb"] {
        malformed(&connect_plus("x-test", value));
        malformed(&connect_with(":path", Some(value)));
    }
    well_formed(&connect_plus("x-test", "tab\tinside is fine, so is \u{e9}"));
    well_formed(&connect_plus("x-!#$%&'*+.^_`|~0", ""));
}

#[test]
fn req_05_blanks_around_a_value() {
    for value in [" a", "a ", "\ta", "a\t", " "] {
        malformed(&connect_plus("x-test", value));
    }
}

#[test]
fn req_06_connection_specific_fields() {
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    ] {
        malformed(&connect_plus(name, "x"));
    }
    malformed(&connect_plus("te", "gzip"));
    well_formed(&connect_plus("te", "trailers"));
}

#[test]
fn req_07_pseudo_header_fields() {
    malformed(&connect_plus(":unknown", "x"));
    malformed(&connect_plus(":status", "200"));
    for (name, value) in connect_fields("webtransport") {
        let mut fields = connect_fields("webtransport");
        fields.insert(0, (name, value));
        malformed(&fields);
        let mut late = connect_fields("webtransport");
        late.retain(|(field, _)| *field != name);
        late.push(("x-regular", "1"));
        late.push((name, value));
        malformed(&late);
    }
    let mut bench = requested(&get_fields());
    bench.actions.clear();
    bench.recv(0, &headers(&[(":path", "/")]));
    bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
    // A response has :status, once, of three digits, and nothing else.
    let responses: [&[(&str, &str)]; 6] = [
        &[],
        &[(":status", "200"), (":status", "200")],
        &[(":status", "20")],
        &[(":status", "+20")],
        &[(":status", "2000")],
        &[(":status", "200"), (":path", "/")],
    ];
    for response in responses {
        let mut bench = Bench::client_asked(Dialect::Draft15);
        bench.recv(0, &headers(response));
        bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
        assert!(matches!(
            bench.events.as_slice(),
            [Event::SessionRejected { status: 0, .. }]
        ));
    }
}

#[test]
fn req_08_extended_connect_incomplete() {
    for name in [":scheme", ":path", ":authority"] {
        malformed(&connect_with(name, None));
        malformed(&connect_with(name, Some("")));
    }
    malformed(&connect_with(":scheme", Some("http")));
    malformed(&connect_with(":path", Some("no-slash")));
    malformed(&connect_with(":protocol", Some("")));
    well_formed(&connect_with(":path", Some("/?query=only")));
}

#[test]
fn req_09_connect_and_protocol_do_not_mix_otherwise() {
    let plain = [(":method", "CONNECT"), (":authority", "a:1")];
    assert_eq!(requested(&plain).status(0).as_deref(), Some("501"));
    malformed(&[plain[0], plain[1], (":scheme", "https")]);
    malformed(&[plain[0], plain[1], (":path", "/")]);
    malformed(&[plain[0]]);
    malformed(&connect_with(":method", Some("GET")));
    malformed(&connect_with(":method", None));
}

#[test]
fn req_10_protocol_without_extended_connect() {
    let mut config = Config::server();
    config.dialects.clear();
    let mut bench = Bench::new(config);
    bench.recv(CLIENT_CONTROL, &control_stream(&[]));
    bench.recv(0, &connect_request("webtransport"));
    bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
}

#[test]
fn req_11_unknown_protocol_token() {
    for token in [
        "websocket",
        "connect-udp",
        "webtransport-h4",
        "WebTransport",
    ] {
        let mut bench = requested(&connect_fields(token));
        assert_eq!(bench.status(0).as_deref(), Some("501"));
        assert!(bench.sent(0).1);
        assert_eq!(bench.connection_error(), None);
        // The connection goes on.
        bench.recv(4, &connect_request("webtransport"));
        assert!(matches!(
            bench.events.as_slice(),
            [Event::SessionRequested { session: 4, .. }]
        ));
    }
    // Not WebTransport at all.
    let bench = requested(&get_fields());
    assert_eq!(bench.status(0).as_deref(), Some("404"));
    assert!(bench.sent(0).1);
}

#[test]
fn req_12_authority() {
    malformed(&connect_plus("host", "other.example"));
    malformed(&connect_with(":authority", Some("user@example.com")));
    malformed(&connect_with(":authority", Some("user:pw@example.com")));
    well_formed(&connect_plus("host", "example.com"));
}

#[test]
fn req_13_content_length_on_connect() {
    malformed(&connect_plus("content-length", "5"));
    malformed(&connect_plus("content-length", "0"));
}

#[test]
fn req_14_field_section_over_limit() {
    let mut config = Config::server();
    let fields = connect_fields("webtransport");
    let size: usize = fields
        .iter()
        .map(|(name, value)| name.len() + value.len() + 32)
        .sum();
    config.limits.max_field_section_size = size as u64;
    let mut bench = Bench::server_with(config.clone(), Dialect::Draft02);
    bench.recv(0, &headers(&fields));
    assert!(matches!(
        bench.events.as_slice(),
        [Event::SessionRequested { .. }]
    ));

    config.limits.max_field_section_size -= 1;
    let mut bench = Bench::server_with(config, Dialect::Draft02);
    bench.recv(0, &headers(&fields));
    assert_eq!(bench.status(0).as_deref(), Some("431"));
    assert!(bench.sent(0).1);
    assert_eq!(bench.events, []);
    bench.advance(Duration::from_secs(2));
    assert_eq!(bench.stop_code(0), Some(error::H3_NO_ERROR));
    assert_eq!(bench.connection_error(), None);

    // A small section that decodes to a huge one: 60 000 indexed lines of one byte.
    let bomb = [vec![0, 0], vec![0xc0 | 15; 60_000]].concat();
    let mut bench = Bench::server();
    bench.recv(0, &frame_of(frame::HEADERS, &bomb));
    assert_eq!(bench.status(0).as_deref(), Some("431"));
    // The same in trailers.
    let mut bench = requested(&get_fields());
    bench.actions.clear();
    bench.recv(0, &frame_of(frame::HEADERS, &bomb));
    bench.assert_stream_error(0, error::H3_EXCESSIVE_LOAD);
    // The same in a response.
    let mut bench = Bench::client_asked(Dialect::Draft02);
    bench.recv(0, &frame_of(frame::HEADERS, &bomb));
    bench.assert_stream_error(0, error::H3_EXCESSIVE_LOAD);
}

#[test]
fn req_15_many_lines_and_slow_headers() {
    let lines = |count: usize| {
        let mut fields = connect_fields("webtransport");
        let cookie = ("cookie", "a=b");
        fields.resize(count, cookie);
        fields
    };
    well_formed(&lines(qpack::MAX_FIELDS));
    let bench = requested(&lines(qpack::MAX_FIELDS + 1));
    assert_eq!(bench.status(0).as_deref(), Some("431"));

    // One byte a second does not hold a stream for ever.
    let timeout = Config::server().limits.headers_timeout;
    for head in [&connect_request("webtransport")[..12], &[0x40]] {
        let mut bench = Bench::server();
        bench.recv(0, &head[..1]);
        for byte in &head[1..] {
            bench.advance(Duration::from_millis(100));
            bench.recv(0, &[*byte]);
        }
        assert_eq!(bench.conn.poll_timeout(), Some(timeout));
        bench.advance(timeout - bench.now);
        bench.assert_stream_error(0, error::H3_REQUEST_INCOMPLETE);
        assert_eq!(bench.conn.poll_timeout(), None);
    }
    // A complete request in time: the deadline passes without effect.
    let mut bench = Bench::server();
    bench.recv_bytewise(0, &connect_request("webtransport"));
    bench.advance(timeout);
    bench.assert_quiet();

    // How many may be incomplete at once.
    let limit = Config::server().limits.max_requests as u64;
    let mut bench = Bench::server();
    (0..limit).for_each(|n| bench.recv(4 * n, &[frame::HEADERS as u8]));
    bench.assert_quiet();
    bench.recv(4 * limit, &[frame::HEADERS as u8]);
    bench.assert_stream_error(4 * limit, error::H3_REQUEST_REJECTED);
}

#[test]
fn req_16_request_above_our_goaway() {
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.conn.goaway().unwrap();
    bench.drain();
    assert_eq!(bench.sent(SERVER_CONTROL).0, frame_of(frame::GOAWAY, &[4]));
    bench.recv(4, &connect_request("webtransport"));
    bench.assert_stream_error(4, error::H3_REQUEST_REJECTED);
    // Streams of the session that runs are not requests.
    bench.actions.clear();
    bench.recv(8, &stream_head(pywt_core::Dir::Bidi, 0));
    bench.assert_quiet();
}

#[test]
fn req_17_connect_before_client_settings() {
    let mut bench = Bench::silent_server();
    bench.recv(0, &connect_request("webtransport"));
    bench.assert_quiet();
    assert_eq!(bench.events, []);
    bench.recv(
        CLIENT_CONTROL,
        &control_stream(&peer_settings(Dialect::Draft02)),
    );
    bench.assert_quiet();
    assert!(matches!(
        bench.events.as_slice(),
        [
            Event::SettingsReceived {
                dialect: Some(Dialect::Draft02)
            },
            Event::SessionRequested { session: 0, .. }
        ]
    ));
    // Not for ever.
    let mut bench = Bench::silent_server();
    bench.recv(0, &connect_request("webtransport"));
    let timeout = Config::server().limits.settings_timeout;
    assert_eq!(bench.conn.poll_timeout(), Some(timeout));
    bench.advance(timeout);
    bench.assert_connection_error(error::H3_MISSING_SETTINGS);
}

#[test]
fn req_18_second_session_without_flow_control() {
    for dialect in [Dialect::Draft13, Dialect::Draft15] {
        let mut bench = Bench::server_session(dialect);
        bench.request_session(4);
        bench.assert_stream_error(4, error::H3_REQUEST_REJECTED);
        assert_eq!(bench.events, []);
        // After the first one ended there is room again.
        bench.recv_fin(0, &[]);
        bench.events.clear();
        bench.request_session(8);
        assert!(matches!(
            bench.events.as_slice(),
            [Event::SessionRequested { session: 8, .. }]
        ));
    }
    for dialect in [Dialect::Draft02, Dialect::Draft07] {
        let mut bench = Bench::server_session(dialect);
        bench.request_session(4);
        bench.assert_quiet();
    }
    // And the limit of every dialect.
    let mut config = Config::server();
    config.limits.max_sessions = 2;
    let mut bench = Bench::server_with(config, Dialect::Draft02);
    bench.request_session(0);
    bench.request_session(4);
    bench.assert_quiet();
    bench.request_session(8);
    bench.assert_stream_error(8, error::H3_REQUEST_REJECTED);
}

/// A response that the peer of a client sends.
#[test]
fn client_takes_informational_responses_before_the_final_one() {
    let mut bench = Bench::client_asked(Dialect::Draft15);
    bench.recv(0, &headers(&[(":status", "103"), ("link", "x")]));
    assert_eq!(bench.events, []);
    bench.recv(0, &headers(&[(":status", "204")]));
    assert!(matches!(
        bench.events.as_slice(),
        [Event::SessionEstablished { .. }]
    ));
    assert!(bench
        .actions
        .iter()
        .all(|action| !matches!(action, Action::ResetStream { .. })));
}
