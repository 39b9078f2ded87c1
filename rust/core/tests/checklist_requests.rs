//! The conformance checklist: requests (REQ) and capsules (CAP). Each test is named after its row:
//! bytes in, required code out.

mod support;

use std::time::Duration;

use pywt_core::wire::codes::{capsule, error, frame, grease};
use pywt_core::wire::qpack;
use pywt_core::{Action, ClosedBy, Config, Dialect, Event, Time};
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
    bench.assert_stream_error(0, error::H3_REQUEST_INCOMPLETE);
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

fn close(code: u32, reason: &[u8]) -> Vec<u8> {
    capsule_of(
        capsule::WT_CLOSE_SESSION,
        &[&code.to_be_bytes()[..], reason].concat(),
    )
}

fn closed(code: u32, reason: &str) -> Event {
    let (by, error) = (ClosedBy::Remote, None);
    Event::SessionClosed {
        session: 0,
        code,
        reason: reason.to_owned(),
        by,
        error,
    }
}

/// What an established server session makes of these CONNECT-stream bytes.
fn capsules(bytes: &[u8]) -> Bench {
    let mut bench = Bench::server_session(Dialect::Draft15);
    bench.recv(0, bytes);
    bench
}

#[track_caller]
fn session_error(bytes: &[u8], code: u64) {
    let bench = capsules(bytes);
    bench.assert_stream_error(0, code);
    let [Event::SessionClosed {
        by: ClosedBy::Local,
        error,
        ..
    }] = bench.events.as_slice()
    else {
        panic!("{:?}", bench.events);
    };
    assert_eq!(*error, Some(code));
}

#[test]
fn cap_01_capsule_over_many_data_frames() {
    let whole = close(420, b"bye");
    let mut bytes = Vec::new();
    for byte in &whole {
        bytes.extend(data_frame(&[]));
        bytes.extend(frame_of(grease(4), b"between"));
        bytes.extend(data_frame(&[*byte]));
    }
    assert_eq!(capsules(&bytes).events, [closed(420, "bye")]);
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.recv_bytewise(0, &bytes);
    assert_eq!(bench.events, [closed(420, "bye")]);
    // The forms that were captured on the wire.
    for form in [
        "000168000443070000000501a4627965",
        "000668430700000121000004a4627965",
    ] {
        assert_eq!(capsules(&hex(form)).events, [closed(420, "bye")]);
    }
}

#[test]
fn cap_02_several_capsules_in_one_data_frame() {
    let drain = capsule_of(capsule::WT_DRAIN_SESSION, &[]);
    let bytes = data_frame(&[drain, capsule_of(grease(2), b"x"), close(1, b"")].concat());
    let draining = Event::SessionDraining { session: 0 };
    assert_eq!(capsules(&bytes).events, [draining, closed(1, "")]);
}

#[test]
fn cap_03_unknown_capsule_of_huge_length() {
    let mut bench = capsules(&data_frame(&frame_head(grease(77), 1 << 50)));
    let chunk = data_frame(&[0; 1 << 16]);
    for _ in 0..64 {
        bench.recv(0, &chunk);
    }
    bench.assert_quiet();
    assert_eq!(bench.conn.stats().sessions, 1);
}

#[test]
fn cap_04_payload_of_wrong_length() {
    // Limits are read only where session flow control is on.
    let mut config = Config::server();
    config.flow_control = flow(100);
    let cases: [(u64, &[u8]); 7] = [
        (capsule::WT_MAX_DATA, &[]),
        (capsule::WT_MAX_DATA, &[0x40]),
        (capsule::WT_MAX_DATA, &[1, 2]),
        (capsule::WT_MAX_DATA, &[0; 9]),
        (capsule::WT_MAX_STREAMS_BIDI, &[0x80, 0, 0]),
        (capsule::WT_DATA_BLOCKED, &[]),
        (capsule::WT_STREAMS_BLOCKED_UNI, &[7, 7]),
    ];
    for (ty, payload) in cases {
        let mut bench = Bench::new(config.clone());
        bench.recv(
            CLIENT_CONTROL,
            &control_stream(&flow_settings(Dialect::Draft15, 100)),
        );
        let mut bench = bench.with_session();
        bench.recv(0, &data_frame(&capsule_of(ty, payload)));
        bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
    }
}

#[test]
fn cap_05_ends_inside_a_capsule() {
    let whole = close(420, b"bye");
    for cut in 1..whole.len() {
        let mut bench = Bench::server_session(Dialect::Draft15);
        bench.recv_fin(0, &data_frame(&whole[..cut]));
        bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
    }
}

#[test]
fn cap_06_close_text() {
    let text = "\u{e9}".repeat(512);
    assert_eq!(
        capsules(&data_frame(&close(7, text.as_bytes()))).events,
        [closed(7, &text)]
    );
    assert_eq!(
        capsules(&data_frame(&close(u32::MAX, b""))).events,
        [closed(u32::MAX, "")]
    );
    let error = error::H3_MESSAGE_ERROR;
    session_error(&data_frame(&close(7, &[b'x'; 1025])), error);
    session_error(&data_frame(&close(7, &[0xff])), error);
    for len in 0..4 {
        session_error(
            &data_frame(&capsule_of(capsule::WT_CLOSE_SESSION, &[0; 4][..len])),
            error,
        );
    }
    // An over-long one is refused by its length alone.
    session_error(
        &data_frame(&frame_head(capsule::WT_CLOSE_SESSION, 1 << 40)),
        error,
    );
}

#[test]
fn cap_07_data_after_close() {
    let after = [
        data_frame(b"x"),
        data_frame(&close(2, b"again")),
        capsule_of(capsule::WT_DRAIN_SESSION, &[]),
    ];
    for more in after {
        for together in [true, false] {
            let mut bench = Bench::server_session(Dialect::Draft15);
            let first = data_frame(&close(1, b"bye"));
            if together {
                bench.recv(0, &[first, more.clone()].concat());
            } else {
                bench.recv(0, &first);
                bench.recv(0, &more);
            }
            bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
            assert_eq!(bench.events, [closed(1, "bye")]);
        }
    }
    let mut bench = capsules(&data_frame(&[close(1, b"bye"), vec![0]].concat()));
    bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
    bench.recv_fin(0, &[]);
    assert_eq!(bench.events, [closed(1, "bye")]);
}

#[test]
fn cap_08_drain_with_payload() {
    let bytes = data_frame(&capsule_of(capsule::WT_DRAIN_SESSION, &[1]));
    session_error(&bytes, error::H3_MESSAGE_ERROR);
}

#[test]
fn cap_09_datagram_capsule() {
    let bench = capsules(&data_frame(&capsule_of(capsule::DATAGRAM, b"reliable")));
    bench.assert_quiet();
    let data = bytes::Bytes::from_static(b"reliable");
    assert_eq!(bench.events, [Event::DatagramReceived { session: 0, data }]);
    // At the size limit it is delivered, one past it dropped unread.
    let max = Config::server().limits.max_datagram_capsule_size as usize;
    let sized = |len| capsules(&data_frame(&capsule_of(capsule::DATAGRAM, &vec![0; len])));
    assert_eq!(sized(max).events.len(), 1);
    assert_eq!(sized(max + 1).events.len(), 0);
    sized(max + 1).assert_quiet();
}

#[test]
fn cap_10_capsules_of_the_http2_binding() {
    for ty in [capsule::WT_MAX_STREAM_DATA, capsule::WT_STREAM_DATA_BLOCKED] {
        let bytes = data_frame(&capsule_of(ty, &[0, 0]));
        session_error(&bytes, error::H3_MESSAGE_ERROR);
        // Older dialects do not know them.
        let mut bench = Bench::server_session(Dialect::Draft02);
        bench.recv(0, &bytes);
        bench.assert_quiet();
    }
}

#[test]
fn cap_11_flow_control_capsules_when_it_is_off() {
    let types = [
        capsule::WT_MAX_DATA,
        capsule::WT_MAX_STREAMS_BIDI,
        capsule::WT_MAX_STREAMS_UNI,
        capsule::WT_DATA_BLOCKED,
        capsule::WT_STREAMS_BLOCKED_BIDI,
        capsule::WT_STREAMS_BLOCKED_UNI,
    ];
    for dialect in Dialect::ALL {
        for ty in types {
            let mut bench = Bench::server_session(dialect);
            bench.recv(0, &data_frame(&capsule_of(ty, &[0])));
            bench.recv(0, &data_frame(&capsule_of(ty, &[0])));
            bench.assert_quiet();
            assert_eq!(bench.events, []);
        }
    }
}

#[test]
fn cap_12_capsules_before_the_answer() {
    let mut bench = Bench::server();
    bench.request_session(0);
    bench.events.clear();
    bench.recv_fin(0, &data_frame(&close(9, b"early")));
    bench.assert_quiet();
    assert_eq!(bench.events, []);
    bench.accept(0);
    assert_eq!(bench.events, [closed(9, "early")]);
    assert!(bench.conn.is_idle());
    // Rejection drops them unread, whatever they are.
    let mut bench = Bench::server();
    bench.request_session(0);
    bench.events.clear();
    bench.recv(0, &frame_of(frame::SETTINGS, &[]));
    bench.conn.reject(0, 403, &[], Time::ZERO).unwrap();
    bench.drain();
    bench.assert_quiet();
    assert_eq!(bench.status(0).as_deref(), Some("403"));
    // Bounded: at the limit held, one past it refused.
    let max = Config::server().limits.max_early_capsule_bytes;
    let mut bench = Bench::server();
    bench.request_session(0);
    bench.recv(0, &vec![0; max]);
    bench.assert_quiet();
    bench.recv(0, &[0]);
    bench.assert_stream_error(0, error::H3_EXCESSIVE_LOAD);
    assert_eq!(bench.closed_events().len(), 1);
}

#[test]
fn cap_13_varints_not_minimal() {
    let payload = 7u32.to_be_bytes();
    let ty = capsule::WT_CLOSE_SESSION;
    let inner = [long8(ty), long4(4), payload.to_vec()].concat();
    let bytes = [long8(frame::DATA), long8(inner.len() as u64), inner].concat();
    assert_eq!(capsules(&bytes).events, [closed(7, "")]);
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

fn flow(limit: u64) -> pywt_core::FlowControl {
    pywt_core::FlowControl {
        initial_max_data: limit,
        initial_max_streams_bidi: limit,
        initial_max_streams_uni: limit,
        ..Default::default()
    }
}
