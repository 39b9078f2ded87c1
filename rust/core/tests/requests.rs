//! Ordinary requests that the application answers: what arrives of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use pywt_core::wire::codes::{error, frame, grease};
use pywt_core::wire::qpack;
use pywt_core::{Config, Dialect, Error, Event, StreamKind};
use support::requests::*;
use support::*;

#[test]
fn a_request_is_shown_with_its_fields_as_they_came() {
    let mut bench = server();
    let fields = with(&[
        ("cookie", "a=1"),
        ("accept", "*/*"),
        ("cookie", "b=2"),
        ("x-twice", "1"),
        ("x-twice", "2"),
    ]);
    bench.recv_fin(0, &headers(&fields));
    assert_eq!(
        bench.take_events(),
        [
            Event::RequestReceived {
                stream: 0,
                method: "GET".into(),
                scheme: "https".into(),
                authority: "a.example".into(),
                path: "/x?y=1".into(),
                headers: lines(&[
                    ("cookie", "a=1; b=2"),
                    ("accept", "*/*"),
                    ("x-twice", "1"),
                    ("x-twice", "2"),
                ]),
                expects_continue: false,
            },
            Event::StreamData {
                stream: 0,
                data: Bytes::new(),
                fin: true,
            },
        ]
    );
    assert_eq!(bench.conn.stream_kind(0), StreamKind::Request);
    assert_eq!(bench.conn.stats().requests, 1);
    bench.assert_quiet();
    assert!(!bench.conn.is_idle());
}

#[test]
fn values_that_are_no_text_arrive_as_bytes() {
    let mut section = Vec::new();
    let fields = get_fields()
        .into_iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    qpack::encode_section(
        fields.chain([(b"x-raw".as_slice(), b"\xff\xfe".as_slice())]),
        &mut section,
    );
    let mut bench = server();
    bench.recv(0, &frame_of(frame::HEADERS, &section));
    let [Event::RequestReceived { headers, .. }] = bench.events.as_slice() else {
        panic!("{:?}", bench.events);
    };
    assert_eq!(headers[0].1.as_ref(), b"\xff\xfe");
}

#[test]
fn the_host_field_is_the_authority_where_that_is_missing() {
    let mut fields = with(&[("host", "b.example")]);
    fields.remove(2);
    let bench = asked(&fields);
    let [Event::RequestReceived {
        authority, headers, ..
    }] = bench.events.as_slice()
    else {
        panic!("{:?}", bench.events);
    };
    assert_eq!(authority, "b.example");
    assert_eq!(*headers, lines(&[("host", "b.example")]));
}

#[test]
fn a_client_that_expects_100_is_known() {
    for (value, expects) in [
        ("100-continue", true),
        ("100-Continue", true),
        ("other", false),
    ] {
        let bench = asked(&post_with(&[("expect", value)]));
        let [Event::RequestReceived {
            expects_continue, ..
        }] = bench.events.as_slice()
        else {
            panic!("{:?}", bench.events);
        };
        assert_eq!(*expects_continue, expects, "{value}");
    }
}

#[test]
fn ordinary_requests_need_no_settings() {
    let mut bench = Bench::new(config());
    bench.recv(0, &headers(&get_fields()));
    assert!(is_shown(&bench));
}

#[test]
fn connect_and_other_protocols_are_answered_as_without_an_application() {
    let mut bench = server();
    bench.recv(
        0,
        &headers(&[(":method", "CONNECT"), (":authority", "a:443")]),
    );
    assert_eq!(bench.status(0).as_deref(), Some("501"));
    bench.recv(4, &connect_request("websocket"));
    assert_eq!(bench.status(4).as_deref(), Some("501"));
    assert_eq!(bench.events, []);
}

#[test]
fn without_an_application_the_answer_is_404() {
    let mut bench = Bench::server();
    bench.recv_fin(0, &headers(&get_fields()));
    assert_eq!(bench.status(0).as_deref(), Some("404"));
    assert_eq!(bench.events, []);
    assert!(matches!(
        bench.conn.respond(0, 200, &[], true),
        Err(Error::RequestOver(0))
    ));
}

#[test]
fn sessions_and_requests_share_a_connection() {
    let mut bench = server();
    bench.recv(0, &connect_request("webtransport-h3"));
    bench.accept(0);
    bench.recv_fin(4, &headers(&get_fields()));
    assert!(is_shown(&bench));
    bench.conn.respond(4, 200, &[], true).unwrap();
    bench.drain();
    assert_eq!(bench.conn.stream_kind(4), StreamKind::Unknown);
    assert_eq!(bench.conn.stats().sessions, 1);
}

#[test]
fn a_body_arrives_whole_however_it_is_cut() {
    let bytes = [
        headers(&post_with(&[])),
        data_frame(b"one "),
        frame_of(grease(3), b"nothing"),
        data_frame(b""),
        data_frame(b"two"),
    ]
    .concat();
    let mut bench = server();
    bench.recv_bytewise(0, &bytes);
    bench.recv_fin(0, b"");
    assert_eq!(body(&bench.events), (b"one two".to_vec(), true));
    let mut bench = server();
    bench.recv_fin(0, &bytes);
    assert_eq!(body(&bench.events), (b"one two".to_vec(), true));
    bench.assert_quiet();
}

proptest! {
    #[test]
    fn any_body_in_any_frames_and_any_pieces(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        cuts in prop::collection::vec(1..50usize, 1..20),
        has_length in any::<bool>(),
        has_trailers in any::<bool>(),
    ) {
        let whole = frames.concat();
        let length = whole.len().to_string();
        let mut fields = post_with(&[]);
        if has_length {
            fields.push(("content-length", &length));
        }
        let mut bytes = headers(&fields);
        for payload in &frames {
            bytes.extend(data_frame(payload));
        }
        if has_trailers {
            bytes.extend(headers(&[("x-sum", "1")]));
        }
        let mut bench = server();
        let mut rest = bytes.as_slice();
        for cut in cuts.into_iter().cycle() {
            let (part, next) = rest.split_at(cut.min(rest.len()));
            bench.recv_with(0, part, next.is_empty());
            rest = next;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(body(&bench.events), (whole, true));
        let told = bench.events.iter().any(|e| matches!(e, Event::RequestTrailers { .. }));
        prop_assert_eq!(told, has_trailers);
        bench.assert_quiet();
    }
}

#[test]
fn trailers_come_before_the_end() {
    let mut bench = asked(&post_with(&[]));
    bench.take_events();
    bench.recv(0, &data_frame(b"x"));
    bench.recv_fin(0, &headers(&[("x-sum", "1")]));
    assert_eq!(
        bench.take_events()[1..],
        [
            Event::RequestTrailers {
                stream: 0,
                fields: lines(&[("x-sum", "1")]),
            },
            Event::StreamData {
                stream: 0,
                data: Bytes::new(),
                fin: true,
            },
        ]
    );
}

#[test]
fn nothing_but_the_end_follows_trailers() {
    for after in [headers(&[("x-sum", "1")]), data_frame(b"x")] {
        let mut bench = asked_get();
        bench.recv(0, &headers(&[("x-sum", "1")]));
        bench.recv(0, &after);
        bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
    }
}

#[test]
fn malformed_trailers_end_the_request() {
    for (name, value) in [(":path", "/"), ("X-Sum", "1"), ("connection", "close")] {
        let mut bench = asked_get();
        bench.recv(0, &headers(&[(name, value)]));
        bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
        assert_eq!(aborted(&bench), Some(error::H3_MESSAGE_ERROR), "{name}");
    }
}

#[test]
fn malformed_requests_are_not_shown() {
    let mut cases: Vec<Vec<(&str, &str)>> = [
        ("X-Upper", "1"),
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "close"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("x", "a\nb"),
        ("x", "a\0"),
        ("bad name", "1"),
        ("", "1"),
        (":late", "1"),
        (":status", "200"),
        ("host", "other.example"),
        ("content-length", "1a"),
        ("content-length", "+1"),
        ("content-length", ""),
        ("content-length", "1, 2"),
        ("content-length", "99999999999999999999"),
    ]
    .iter()
    .map(|field| with(&[*field]))
    .collect();
    cases.push(with(&[("content-length", "1"), ("content-length", "2")]));
    for missing in 0..4 {
        let mut fields = get_fields();
        fields.remove(missing);
        cases.push(fields);
        let mut fields = get_fields();
        fields[missing].1 = "";
        cases.push(fields);
        let mut fields = get_fields();
        fields.push(fields[missing]);
        cases.push(fields);
    }
    for fields in cases {
        let bench = asked(&fields);
        assert!(!is_shown(&bench), "{fields:?}");
        bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
    }
}

#[test]
fn well_formed_requests_of_less_common_shape_are_shown() {
    for field in [
        ("te", "trailers"),
        ("content-length", "0"),
        ("content-length", "5, 5"),
        ("host", "a.example"),
    ] {
        assert!(is_shown(&asked(&with(&[field]))), "{field:?}");
    }
    let mut options = get_fields();
    (options[0].1, options[3].1) = ("OPTIONS", "*");
    assert!(is_shown(&asked(&options)));
}

#[test]
fn a_body_is_as_long_as_its_content_length() {
    let mut bench = asked(&post_with(&[("content-length", "3")]));
    bench.recv(0, &data_frame(b"ab"));
    bench.recv_fin(0, &data_frame(b"c"));
    assert_eq!(body(&bench.events), (b"abc".to_vec(), true));
    bench.assert_quiet();
    // One more is known before any of it is there.
    let mut bench = asked(&post_with(&[("content-length", "3")]));
    bench.recv(0, &data_frame(b"ab"));
    bench.recv(0, &frame_head(frame::DATA, 2));
    bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
    assert_eq!(aborted(&bench), Some(error::H3_MESSAGE_ERROR));
    assert_eq!(bench.conn.stream_kind(0), StreamKind::Unknown);
    // One less at the end, with trailers or without.
    for last in [vec![], headers(&[("x-sum", "1")])] {
        let mut bench = asked(&post_with(&[("content-length", "3")]));
        bench.recv(0, &data_frame(b"ab"));
        bench.recv_fin(0, &last);
        bench.assert_reset_only(0, error::H3_MESSAGE_ERROR);
        assert_eq!(aborted(&bench), Some(error::H3_MESSAGE_ERROR));
        assert!(!body(&bench.events).1);
    }
}

#[test]
fn a_stream_that_ends_inside_a_frame_ends_the_connection() {
    let mut bench = asked_get();
    bench.recv_fin(0, &frame_head(frame::DATA, 2));
    bench.assert_connection_error(error::H3_FRAME_ERROR);
}

#[test]
fn so_many_requests_at_once_and_no_more() {
    let mut config = config();
    config.limits.max_requests = 3;
    let mut bench = Bench::server_with(config, Dialect::Draft15);
    for number in 0..3 {
        bench.recv(4 * number, &headers(&get_fields()));
    }
    bench.assert_quiet();
    bench.recv(12, &headers(&get_fields()));
    bench.assert_stream_error(12, error::H3_REQUEST_REJECTED);
    assert_eq!(bench.conn.stats().requests, 3);
    bench.take_actions();
    bench.conn.end_request(4, error::H3_NO_ERROR);
    bench.drain();
    bench.take_actions();
    bench.recv(16, &headers(&get_fields()));
    assert_eq!(bench.conn.stats().requests, 4);
    bench.assert_quiet();
}

#[test]
fn a_head_has_limited_time_and_a_body_has_not() {
    let mut bench = server();
    let timeout = Config::server().limits.headers_timeout;
    let bytes = headers(&get_fields());
    bench.recv(0, &bytes[..5]);
    bench.recv(4, &bytes);
    bench.advance(timeout - Duration::from_millis(1));
    bench.assert_quiet();
    bench.advance(Duration::from_millis(1));
    bench.assert_stream_error(0, error::H3_REQUEST_INCOMPLETE);
    bench.advance(timeout * 100);
    assert_eq!(bench.conn.stream_kind(4), StreamKind::Request);
    assert_eq!(bench.conn.poll_timeout(), None);
}

#[test]
fn a_section_larger_than_announced_is_answered_431() {
    let mut config = config();
    config.limits.max_field_section_size = 1000;
    let size: usize = get_fields()
        .iter()
        .map(|(name, value)| name.len() + value.len() + 32)
        .sum();
    let value = "v".repeat(1000 - size - 33);
    let mut bench = Bench::server_with(config, Dialect::Draft15);
    bench.recv(0, &headers(&with(&[("x", &value)])));
    assert!(is_shown(&bench));
    bench.recv(4, &headers(&with(&[("xx", &value)])));
    assert_eq!(bench.status(4).as_deref(), Some("431"));
    assert_eq!(bench.conn.stats().requests, 1);
}
