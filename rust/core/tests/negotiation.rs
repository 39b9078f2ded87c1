//! What a request may hold, and the dialect a session speaks: by its token, its version header and
//! the SETTINGS of both ends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use pywt_core::wire::codes::{app_error_to_http, capsule, error, frame, setting};
use pywt_core::{Config, Dialect, Dir, Error, Event, FlowControl, Request, Response};
use support::*;

const VERSION: (&str, &str) = ("sec-webtransport-http3-draft02", "1");

fn settings_of(dialects: &[Dialect], more: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut settings = vec![
        (setting::ENABLE_CONNECT_PROTOCOL, 1),
        (setting::H3_DATAGRAM, 1),
    ];
    for dialect in dialects {
        settings.push(*peer_settings(*dialect).last().unwrap());
    }
    settings.extend(more);
    settings
}

fn server(strict: bool, settings: &[(u64, u64)]) -> Bench {
    let mut config = Config::server();
    config.strict = strict;
    let mut bench = Bench::new(config);
    bench.recv(CLIENT_CONTROL, &control_stream(settings));
    bench
}

fn ask(bench: &mut Bench, id: u64, token: &str, versioned: bool) -> Option<Dialect> {
    let mut fields = connect_fields(token);
    if versioned {
        fields.push(VERSION);
    }
    bench.recv(id, &headers(&fields));
    bench.conn.session(id)?.dialect
}

#[test]
fn the_token_and_the_version_header_choose_the_dialect() {
    use Dialect::{Draft02, Draft07, Draft13, Draft15};
    let legacy = "webtransport";
    let current = "webtransport-h3";
    /// Offered, token, version header; the dialect where lenient and where strict.
    type Case<'a> = (
        &'a [Dialect],
        &'a str,
        bool,
        Option<Dialect>,
        Option<Dialect>,
    );
    let cases: [Case<'_>; 13] = [
        (
            &[Draft02, Draft15],
            legacy,
            true,
            Some(Draft02),
            Some(Draft02),
        ),
        (
            &[Draft02, Draft15],
            legacy,
            false,
            Some(Draft02),
            Some(Draft02),
        ),
        (
            &[Draft02, Draft15],
            current,
            false,
            Some(Draft15),
            Some(Draft15),
        ),
        (
            &[Draft02, Draft07],
            legacy,
            false,
            Some(Draft07),
            Some(Draft07),
        ),
        (
            &[Draft02, Draft07],
            legacy,
            true,
            Some(Draft02),
            Some(Draft02),
        ),
        (
            &[Draft13, Draft15],
            legacy,
            false,
            Some(Draft13),
            Some(Draft13),
        ),
        (
            &[Draft13, Draft15],
            current,
            false,
            Some(Draft15),
            Some(Draft15),
        ),
        (
            &[Draft02, Draft07, Draft13, Draft15],
            legacy,
            true,
            Some(Draft02),
            Some(Draft02),
        ),
        (
            &[Draft02, Draft07, Draft13, Draft15],
            legacy,
            false,
            Some(Draft13),
            Some(Draft13),
        ),
        (&[Draft07, Draft13], current, false, Some(Draft13), None),
        (&[Draft15], legacy, false, Some(Draft15), None),
        (&[Draft15], legacy, true, Some(Draft15), None),
        (&[Draft02], current, false, Some(Draft02), None),
    ];
    for (offered, token, versioned, lenient, strictly) in cases {
        for (strict, expected) in [(false, lenient), (true, strictly)] {
            let mut bench = server(strict, &settings_of(offered, &[]));
            let what = format!("{offered:?} {token} {versioned} strict={strict}");
            assert_eq!(ask(&mut bench, 0, token, versioned), expected, "{what}");
            let Some(dialect) = expected else {
                assert_eq!(bench.status(0).as_deref(), Some("400"), "{what}");
                continue;
            };
            assert!(bench.events.iter().any(
                |event| matches!(event, Event::SessionRequested { dialect: d, .. } if *d == dialect)
            ));
            bench.accept(0);
            assert_eq!(bench.status(0).as_deref(), Some("200"), "{what}");
        }
    }
}

/// Firefox's plan: 02 and 15 offered at once.
#[test]
fn each_session_goes_by_the_rules_of_its_own_dialect() {
    let offered = settings_of(&[Dialect::Draft02, Dialect::Draft15], &[]);
    // Draft 02 has no limit of sessions, 15 has one where flow control is off.
    let mut bench = server(false, &offered);
    for id in [0, 4, 8] {
        assert_eq!(
            ask(&mut bench, id, "webtransport", true),
            Some(Dialect::Draft02)
        );
        bench.accept(id);
    }
    bench.assert_quiet();
    assert_eq!(ask(&mut bench, 12, "webtransport-h3", false), None);
    assert_eq!(bench.reset_code(12), Some(error::H3_REQUEST_REJECTED));
    // DRAIN is unknown to 02, and known to 15.
    bench.events.clear();
    let drain = data_frame(&capsule_of(capsule::WT_DRAIN_SESSION, b"x"));
    bench.recv(0, &drain);
    assert_eq!((bench.reset_code(0), bench.events.len()), (None, 0));
    bench.conn.drain_session(0).unwrap();
    let before = bench.sent(0).0;
    bench.drain();
    assert_eq!(bench.sent(0).0, before);
    // One that has to be alone is so among sessions of the other dialect, too.
    let mut bench = server(false, &offered);
    ask(&mut bench, 0, "webtransport-h3", false);
    bench.accept(0);
    assert_eq!(ask(&mut bench, 4, "webtransport", true), None);
    assert_eq!(bench.reset_code(4), Some(error::H3_REQUEST_REJECTED));
    let mut bench = server(false, &offered);
    ask(&mut bench, 0, "webtransport-h3", false);
    bench.accept(0);
    bench.recv(0, &drain);
    bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
    // Flow control, and with it several sessions, as far as the dialect has it.
    let limits = [
        (setting::WT_INITIAL_MAX_DATA, 10),
        (setting::WT_INITIAL_MAX_STREAMS_UNI, 10),
        (setting::WT_INITIAL_MAX_STREAMS_BIDI, 10),
    ];
    let offered = settings_of(&[Dialect::Draft02, Dialect::Draft15], &limits);
    let mut bench = server(false, &offered);
    for (id, token, versioned, has_flow) in [
        (0, "webtransport", true, false),
        (4, "webtransport-h3", false, true),
        (8, "webtransport-h3", false, true),
    ] {
        ask(&mut bench, id, token, versioned);
        bench.accept(id);
        assert_eq!(bench.conn.session(id).unwrap().flow_control, has_flow);
    }
}

/// webtrans-http3-16 §3.1: 0 means not supported; silence is what old peers keep.
#[test]
fn an_explicit_zero_means_no() {
    let enabled = [
        setting::WT_ENABLED,
        setting::ENABLE_WEBTRANSPORT_DRAFT02,
        setting::WT_MAX_SESSIONS_DRAFT07,
        setting::WT_MAX_SESSIONS_DRAFT13,
    ];
    for zero in enabled {
        let settings = settings_of(&[], &[(zero, 0)]);
        let mut bench = Bench::silent_client();
        bench.conn.connect(0, request(), bench.now).unwrap();
        bench.recv(SERVER_CONTROL, &control_stream(&settings));
        assert_eq!(bench.conn.dialect(), None);
        assert_eq!(bench.sent(0).0, []);
        bench.assert_connection_error(error::WT_REQUIREMENTS_NOT_MET);
        let mut bench = server(false, &settings);
        bench.request_session(0);
        assert_eq!(bench.reset_code(0), Some(error::H3_MESSAGE_ERROR));
    }
    let mut bench = server(false, &settings_of(&[], &[]));
    bench.request_session(0);
    bench.accept(0);
    assert_eq!(bench.conn.dialect(), Some(Dialect::Draft02));
}

#[test]
fn wt_enabled_of_another_value_is_malformed_where_strict() {
    for value in [2, 100] {
        let settings = settings_of(&[], &[(setting::WT_ENABLED, value)]);
        server(true, &settings).assert_connection_error(error::H3_SETTINGS_ERROR);
        assert_eq!(
            server(false, &settings).conn.dialect(),
            Some(Dialect::Draft15)
        );
    }
}

/// Safari 26.4 offers drafts 13 or 14 with credit, sends `webtransport`, and obeys.
#[test]
fn a_peer_that_obeys_credit_has_it_by_default() {
    let limits = [
        (setting::WT_INITIAL_MAX_DATA, 1 << 20),
        (setting::WT_INITIAL_MAX_STREAMS_UNI, 100),
        (setting::WT_INITIAL_MAX_STREAMS_BIDI, 100),
    ];
    let mut bench = server(false, &settings_of(&[Dialect::Draft13], &limits));
    for id in [0, 4] {
        assert_eq!(
            ask(&mut bench, id, "webtransport", false),
            Some(Dialect::Draft13)
        );
        bench.accept(id);
        let view = bench.conn.session_flow(id).unwrap();
        for usage in [view.peer_data, view.peer_bidi, view.peer_uni] {
            assert_eq!((usage.limit, usage.used), (FlowControl::AMPLE, 0));
        }
    }
    bench.actions.clear();
    // What it uses is counted, whether the application reads or not, and its streams end by
    // themselves.
    bench.recv_fin(14, &[stream_head(Dir::Uni, 0), vec![0; 1000]].concat());
    bench.recv(18, &[stream_head(Dir::Uni, 0), vec![0; 500]].concat());
    let view = bench.conn.session_flow(0).unwrap();
    assert_eq!((view.peer_data.used, view.peer_uni.used), (1500, 2));
    assert_eq!(bench.conn.session(0).unwrap().streams, 1);
    let raw = app_error_to_http(1);
    bench.conn.handle_stream_reset(18, raw, 3 + 700, bench.now);
    bench.drain();
    let view = bench.conn.session_flow(0).unwrap();
    assert_eq!(view.peer_data.used, 1700);
    assert_eq!(bench.conn.session(0).unwrap().streams, 0);
    bench.assert_quiet();
    assert_eq!(bench.sent(0).0, []);
}

fn field_error(name: &str) -> impl Fn(Result<(), Error>) -> bool + '_ {
    move |result| matches!(result, Err(Error::InvalidField { name: n, .. }) if n == name)
}

#[test]
fn protocols_in_several_lines_are_one_list() {
    let cases: [(&[&str], &[&str]); 5] = [
        (&["\"a\"", "\"b\""], &["a", "b"]),
        (&["\"a\", \"b\"", "\"c\";q=1"], &["a", "b", "c"]),
        // One member that is no String, in any line, and the field is ignored (RFC 9651 §4.2).
        (&["\"a\"", "1"], &[]),
        (&["\"a\"", ""], &[]),
        (&["\"a"], &[]),
    ];
    for (lines, expected) in cases {
        let mut fields = connect_fields("webtransport");
        fields.extend(lines.iter().map(|line| ("wt-available-protocols", *line)));
        let mut bench = server(false, &settings_of(&[Dialect::Draft15], &[]));
        bench.recv(0, &headers(&fields));
        let Some(Event::SessionRequested { protocols, .. }) = bench.events.last() else {
            panic!("{lines:?}");
        };
        assert_eq!(protocols, expected, "{lines:?}");
    }
    // An Item of two lines is none.
    let mut bench = Bench::client_for(Dialect::Draft15);
    let offer = Request {
        protocols: vec!["a".into()],
        ..request()
    };
    bench.conn.connect(0, offer, bench.now).unwrap();
    let twice = [
        (":status", "200"),
        ("wt-protocol", "\"a\""),
        ("wt-protocol", "\"a\""),
    ];
    bench.recv(0, &headers(&twice));
    assert!(matches!(
        bench.events.as_slice(),
        [Event::SessionEstablished { protocol: None, .. }]
    ));
}

#[test]
fn the_number_of_protocols_has_a_limit() {
    let max = Config::server().limits.max_protocols;
    for (count, status) in [(max, None), (max + 1, Some("431"))] {
        let list = vec!["\"\""; count].join(",");
        let mut fields = connect_fields("webtransport");
        fields.push(("wt-available-protocols", &list));
        let mut bench = server(false, &settings_of(&[Dialect::Draft15], &[]));
        bench.recv(0, &headers(&fields));
        assert_eq!(bench.status(0).as_deref(), status);
    }
}

#[test]
fn interim_responses_are_counted_and_101_is_malformed() {
    let mut config = Config::client();
    config.limits.idle_frames.burst = 100;
    let mut bench = Bench::client_with(config, Dialect::Draft15);
    bench.conn.connect(0, request(), bench.now).unwrap();
    let early_hints = headers(&[(":status", "103")]);
    bench.recv(0, &early_hints.repeat(100));
    assert_eq!(bench.connection_error(), None);
    bench.recv(0, &early_hints);
    bench.assert_connection_error(error::H3_EXCESSIVE_LOAD);
    let mut bench = Bench::client_asked(Dialect::Draft15);
    bench.recv(0, &headers(&[(":status", "101")]));
    bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
}

#[test]
fn capsules_a_session_ignores_are_counted() {
    let mut config = Config::server();
    config.limits.idle_frames.burst = 100;
    let number = |ty: u64| data_frame(&capsule_of(ty, &[1]));
    let ignored = [
        (Dialect::Draft15, capsule::WT_DATA_BLOCKED),
        (Dialect::Draft15, capsule::WT_MAX_DATA),
        (Dialect::Draft02, capsule::WT_MAX_STREAM_DATA),
        (Dialect::Draft07, capsule::WT_STREAM_DATA_BLOCKED),
        (Dialect::Draft02, capsule::WT_DRAIN_SESSION),
    ];
    for (dialect, ty) in ignored {
        let mut bench = Bench::server_with(config.clone(), dialect).with_session();
        bench.recv(0, &number(ty).repeat(100));
        bench.assert_quiet();
        assert_eq!(bench.conn.stats().unknown_skipped, 100, "{ty:#x}");
        bench.recv(0, &number(ty));
        bench.assert_connection_error(error::H3_EXCESSIVE_LOAD);
    }
}

#[test]
fn a_datagram_capsule_over_the_limit_is_dropped_and_counted() {
    let mut config = Config::server();
    config.limits.max_datagram_capsule_size = 10;
    let mut bench = Bench::server_with(config, Dialect::Draft15).with_session();
    for (size, dropped) in [(10, 0), (11, 1)] {
        bench.recv(
            0,
            &data_frame(&capsule_of(capsule::DATAGRAM, &vec![0; size])),
        );
        assert_eq!(bench.conn.stats().datagrams_dropped, dropped);
    }
    assert_eq!(bench.conn.stats().datagrams_received, 1);
}

fn replaced(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut fields = connect_fields("webtransport");
    for field in &mut fields {
        if field.0 == name {
            field.1 = value;
        }
    }
    fields
}

fn outcome(fields: &[(&str, &str)], strict: bool) -> bool {
    let mut bench = server(strict, &settings_of(&[Dialect::Draft07], &[]));
    bench.recv(0, &headers(fields));
    assert_eq!(bench.connection_error(), None);
    let asked = bench.conn.session(0).is_some();
    let code = bench.reset_code(0);
    assert_eq!(
        code,
        (!asked).then_some(error::H3_MESSAGE_ERROR),
        "{fields:?}"
    );
    asked
}

#[test]
fn authority_and_path_are_what_a_uri_holds() {
    for (name, value) in [
        (":path", "/a b"),
        (":path", "/a\u{1}b"),
        (":path", "/a#frag"),
        (":path", "/\u{7f}"),
        (":path", "/\u{e9}"),
        (":path", "/a\"b"),
        (":path", "/<a>"),
        (":path", "/{a}"),
        (":path", "/a\\b"),
        (":path", "a"),
        (":path", "*"),
        (":authority", "a b"),
        (":authority", "a/b"),
        (":authority", "a?b"),
        (":authority", "a\tb"),
        (":authority", "a:99999"),
        (":authority", "a:b"),
        (":authority", ":443"),
        (":authority", "u@a"),
        (":authority", "[::1"),
        (":authority", "[::1]x"),
        (":authority", "[x y]"),
        (":authority", "\u{e9}"),
    ] {
        assert!(!outcome(&replaced(name, value), false), "{name} {value:?}");
    }
    for (name, value) in [
        (":path", "/"),
        (":path", "/a/b%20c?d=e&f=/?:@!$'()*+,;"),
        (":authority", "example.com"),
        (":authority", "example.com:443"),
        (":authority", "127.0.0.1:65535"),
        (":authority", "[2001:db8::1]:4433"),
        (":authority", "[::1]"),
        (":authority", "xn--bcher-kva.example:"),
    ] {
        assert!(outcome(&replaced(name, value), true), "{name} {value:?}");
    }
    // Browsers leave these as they are.
    for path in ["/a|b[c]^", "/?{a}`\\|^[b]"] {
        assert!(outcome(&replaced(":path", path), false), "{path}");
        assert!(!outcome(&replaced(":path", path), true), "{path}");
    }
}

#[test]
fn host_and_origin_come_once() {
    let host = ("host", "example.com");
    let origin = ("origin", "https://a");
    for (more, is_well_formed) in [
        (vec![host], true),
        (vec![host, host], false),
        (vec![host, ("host", "evil")], false),
        (vec![("host", "evil")], false),
        (vec![origin], true),
        (vec![origin, origin], false),
        (vec![origin, ("origin", "https://b")], false),
        (vec![("x", "a\u{1}")], false),
        (vec![("x", "a\u{7f}b")], false),
        (vec![("x", "a\tb")], true),
    ] {
        let mut fields = connect_fields("webtransport");
        fields.extend(&more);
        assert_eq!(outcome(&fields, false), is_well_formed, "{more:?}");
    }
}

#[test]
fn fields_that_are_not_the_applications_to_send_are_refused() {
    let with = |name: &str| Request {
        headers: vec![(name.into(), "1".into())],
        ..request()
    };
    for name in [
        "wt-available-protocols",
        "wt-protocol",
        "host",
        "content-length",
        VERSION.0,
        "connection",
        ":path",
        "X",
    ] {
        assert!(field_error(name)(with(name).validate()), "{name}");
    }
    for (authority, path, name) in [
        ("u:p@a", "/", ":authority"),
        ("a/b", "/", ":authority"),
        ("", "/", ":authority"),
        ("a", "/ b", ":path"),
        ("a", "b", ":path"),
    ] {
        let request = Request {
            authority: authority.into(),
            path: path.into(),
            ..request()
        };
        assert!(field_error(name)(request.validate()), "{authority} {path}");
    }
    let mut bench = Bench::server();
    bench.request_session(0);
    for name in ["wt-protocol", "content-length"] {
        let headers = vec![(name.to_owned(), "1".to_owned())];
        let response = Response {
            headers: headers.clone(),
            ..Response::default()
        };
        let accepted = bench.conn.accept(0, response, bench.now);
        assert!(field_error(name)(accepted), "{name}");
        let rejected = bench.conn.reject(0, 404, &headers, bench.now);
        assert!(field_error(name)(rejected), "{name}");
    }
    assert!(bench.conn.session(0).is_some());
}

/// RFC 9114 §4.2.2.
#[test]
fn the_peers_limit_of_a_field_section_is_kept() {
    let tight = settings_of(
        &[Dialect::Draft15],
        &[(setting::MAX_FIELD_SECTION_SIZE, 400)],
    );
    let mut long = request();
    long.headers.push(("x".into(), "y".repeat(400)));
    let mut bench = Bench::silent_client();
    bench.recv(SERVER_CONTROL, &control_stream(&tight));
    bench.events.clear();
    bench.conn.connect(0, long, bench.now).unwrap();
    bench.drain();
    assert_eq!(bench.sent(0).0, []);
    let [Event::SessionRejected {
        status: 0, reason, ..
    }] = bench.events.as_slice()
    else {
        panic!("{:?}", bench.events);
    };
    assert!(reason.contains("400"), "{reason}");
    bench.conn.connect(4, request(), bench.now).unwrap();
    bench.drain();
    assert!(!bench.sent(4).0.is_empty());
    // A server's answers too.
    let mut bench = server(false, &tight);
    bench.request_session(0);
    let long = vec![("x".to_owned(), "y".repeat(400))];
    let response = Response {
        headers: long.clone(),
        ..Response::default()
    };
    let refused = Err(Error::FieldsTooLarge {
        size: 475,
        max: 400,
    });
    assert_eq!(bench.conn.accept(0, response, bench.now), refused);
    assert!(bench.conn.reject(0, 404, &long, bench.now).is_err());
    bench.accept(0);
}

/// The peer of one draft is told of no frame it does not know.
#[test]
fn draft_07_alone_works_without_capsules() {
    let mut bench = server(false, &settings_of(&[Dialect::Draft07], &[]));
    assert_eq!(
        ask(&mut bench, 0, "webtransport", false),
        Some(Dialect::Draft07)
    );
    bench.accept(0);
    assert!(!bench.conn.session(0).unwrap().flow_control);
    let (bytes, _) = bench.sent(0);
    let frames = pywt_core::wire::frame::parse_many(&bytes);
    assert_eq!(frames.map(|f| f.ty).collect::<Vec<_>>(), [frame::HEADERS]);
    for n in 0..200 {
        bench.recv_fin(
            14 + 4 * n,
            &[stream_head(Dir::Uni, 0), vec![0; 100]].concat(),
        );
    }
    bench.assert_quiet();
}
