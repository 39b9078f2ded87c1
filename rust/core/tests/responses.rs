//! Ordinary requests that the application answers: the responses, and how they end.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use pywt_core::wire::codes::{error, frame};
use pywt_core::{Action, Config, Dialect, Error, StreamKind};
use support::requests::*;
use support::*;

#[test]
fn a_response_is_headers_and_data() {
    let mut bench = asked_get();
    bench.recv_fin(0, b"");
    respond(&mut bench, 103, &[("link", "</a.css>")], false);
    respond(&mut bench, 200, &[("content-type", "text/plain")], false);
    assert_eq!(
        bench.conn.body_frame(0, 5, 7).unwrap().unwrap().as_ref(),
        [0x00, 0x05]
    );
    assert_eq!(
        bench.conn.body_frame(0, 70_000, 70_000).unwrap().unwrap(),
        frame_head(frame::DATA, 70_000)
    );
    assert!(bench.conn.body_frame(0, 0, 9).unwrap().unwrap().is_empty());
    bench
        .conn
        .finish_response(0, &lines(&[("x-sum", "1")]))
        .unwrap();
    bench.drain();
    let (bytes, is_ended) = bench.sent(0);
    assert!(is_ended);
    let frames = sections(&bytes);
    assert!(frames.iter().all(|(ty, _)| *ty == frame::HEADERS));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        frames.iter().map(|(_, s)| decoded(s)).collect::<Vec<_>>(),
        [
            vec![pair(":status", "103"), pair("link", "</a.css>")],
            vec![pair(":status", "200"), pair("content-type", "text/plain")],
            vec![pair("x-sum", "1")],
        ]
    );
    // Both halves have ended.
    assert_eq!(bench.conn.stream_kind(0), StreamKind::Unknown);
    assert!(bench.conn.is_idle());
}

#[test]
fn a_response_comes_in_order() {
    let mut bench = asked_get();
    let state = Err(Error::ResponseState(0));
    assert_eq!(bench.conn.body_frame(0, 1, 1), Err(Error::ResponseState(0)));
    assert_eq!(bench.conn.finish_response(0, &[]), state);
    respond(&mut bench, 200, &[], false);
    assert_eq!(bench.conn.respond(0, 200, &[], false), state);
    assert_eq!(bench.conn.respond(0, 103, &[], false), state);
    bench.conn.finish_response(0, &[]).unwrap();
    assert_eq!(bench.conn.finish_response(0, &[]), state);
    assert_eq!(bench.conn.body_frame(0, 1, 1), Err(Error::ResponseState(0)));
    let over = Err(Error::RequestOver(4));
    assert_eq!(bench.conn.respond(4, 200, &[], false), over);
}

#[test]
fn what_no_response_may_have_is_refused_here() {
    let mut bench = asked_get();
    for status in [0, 99, 101, 600, 999] {
        let refused = bench.conn.respond(0, status, &[], false);
        assert_eq!(refused, Err(Error::Status(status)));
    }
    assert_eq!(
        bench.conn.respond(0, 100, &[], true),
        Err(Error::Status(100))
    );
    for (name, value) in [
        ("X-Upper", "1"),
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        (":status", "200"),
        ("x", "a\r\nb: c"),
        ("", "1"),
        ("content-length", "many"),
    ] {
        let refused = bench.conn.respond(0, 200, &lines(&[(name, value)]), false);
        assert!(
            matches!(refused, Err(Error::InvalidField { .. })),
            "{name}: {refused:?}"
        );
    }
    respond(&mut bench, 200, &[], false);
    let refused = bench
        .conn
        .finish_response(0, &lines(&[("content-length", "1")]));
    assert!(matches!(refused, Err(Error::InvalidField { .. })));
    bench.conn.finish_response(0, &[]).unwrap();
}

#[test]
fn fields_larger_than_the_client_takes_are_refused_here() {
    let mut settings = peer_settings(Dialect::Draft15);
    settings.push((pywt_core::wire::codes::setting::MAX_FIELD_SECTION_SIZE, 100));
    let mut bench = Bench::new(config());
    bench.recv(CLIENT_CONTROL, &control_stream(&settings));
    bench.recv(0, &headers(&get_fields()));
    // ":status" is 42 of them, 32 + 1 are left for the value.
    let fits = lines(&[("a", "0123456789012345678901234")]);
    let refused = bench.conn.respond(
        0,
        200,
        &lines(&[("ab", "0123456789012345678901234")]),
        false,
    );
    assert_eq!(
        refused,
        Err(Error::FieldsTooLarge {
            size: 101,
            max: 100
        })
    );
    bench.conn.respond(0, 200, &fits, false).unwrap();
}

#[test]
fn a_response_keeps_to_its_content_length() {
    let mut bench = asked_get();
    respond(&mut bench, 200, &[("content-length", "3")], false);
    assert_eq!(
        bench.conn.body_frame(0, 2, 4),
        Err(Error::BodyTooLong { size: 4, length: 3 })
    );
    assert!(bench.conn.body_frame(0, 2, 3).unwrap().is_some());
    assert_eq!(
        bench.conn.finish_response(0, &[]),
        Err(Error::BodyTooShort { size: 2, length: 3 })
    );
    assert!(bench.conn.body_frame(0, 1, 1).unwrap().is_some());
    bench.conn.finish_response(0, &[]).unwrap();
    let mut bench = asked_get();
    assert_eq!(
        bench
            .conn
            .respond(0, 200, &lines(&[("content-length", "3")]), true),
        Err(Error::BodyTooShort { size: 0, length: 3 })
    );
    respond(&mut bench, 200, &[("content-length", "0")], true);
    assert!(bench.sent(0).1);
}

#[test]
fn responses_without_a_body() {
    let mut head = get_fields();
    head[0].1 = "HEAD";
    let mut bench = asked(&head);
    respond(&mut bench, 200, &[("content-length", "3")], false);
    assert_eq!(bench.conn.body_frame(0, 9, 9), Ok(None));
    bench.conn.finish_response(0, &[]).unwrap();
    for status in [204, 304] {
        let mut bench = asked_get();
        respond(&mut bench, status, &[("content-length", "3")], false);
        assert_eq!(
            bench.conn.body_frame(0, 1, 1),
            Err(Error::BodyTooLong { size: 1, length: 0 })
        );
        bench.conn.finish_response(0, &[]).unwrap();
        let (bytes, _) = bench.sent(0);
        let fields = decoded(&sections(&bytes)[0].1);
        let is_length = |(name, _): &&(String, String)| name == "content-length";
        assert_eq!(fields.iter().find(is_length).is_some(), status == 304);
    }
}

#[test]
fn a_client_may_give_a_request_up() {
    // By reset: of the request, and nobody wants the response.
    let mut bench = asked_get();
    bench.reset(0, 0x10c);
    assert_eq!(aborted(&bench), Some(0x10c));
    bench.assert_reset_only(0, error::H3_REQUEST_CANCELLED);
    // By STOP_SENDING alone.
    let mut bench = asked_get();
    bench.stop(0, 0x77);
    assert_eq!(aborted(&bench), Some(0x77));
    bench.assert_stream_error(0, 0x77);
    assert_eq!(bench.conn.stream_kind(0), StreamKind::Unknown);
    assert_eq!(
        bench.conn.respond(0, 200, &[], true),
        Err(Error::RequestOver(0))
    );
    assert!(bench.conn.is_idle());
    // After the whole response there is nothing to give up but the rest of the body.
    let mut bench = asked_get();
    respond(&mut bench, 200, &[], true);
    bench.stop(0, 0x77);
    assert_eq!(aborted(&bench), None);
    bench.assert_quiet();
}

#[test]
fn the_application_ends_a_request_in_any_state() {
    // No answer.
    let mut bench = asked_get();
    bench.conn.end_request(0, error::H3_INTERNAL_ERROR);
    bench.drain();
    bench.assert_stream_error(0, error::H3_INTERNAL_ERROR);
    assert_eq!(bench.events, []);
    // A whole answer, and a body that goes on (RFC 9114 §4.1).
    let mut bench = asked_get();
    respond(&mut bench, 200, &[], true);
    bench.conn.end_request(0, error::H3_NO_ERROR);
    bench.drain();
    assert_eq!(bench.reset_code(0), None);
    assert_eq!(bench.stop_code(0), Some(error::H3_NO_ERROR));
    assert!(bench.conn.is_idle());
    // Both halves have ended.
    let mut bench = asked_get();
    bench.recv_fin(0, b"");
    respond(&mut bench, 200, &[], true);
    bench.conn.end_request(0, error::H3_NO_ERROR);
    bench.drain();
    bench.assert_quiet();
    // It is not for sessions, nor for streams of theirs.
    let mut bench = Bench::server_session(Dialect::Draft15);
    bench.conn.end_request(0, error::H3_NO_ERROR);
    bench.drain();
    assert_eq!(bench.conn.stats().sessions, 1);
}

#[test]
fn after_goaway_requests_go_on_and_new_ones_are_refused() {
    let mut bench = asked_get();
    bench.conn.goaway().unwrap();
    bench.recv(4, &headers(&get_fields()));
    bench.assert_stream_error(4, error::H3_REQUEST_REJECTED);
    bench.take_actions();
    bench.recv_fin(0, &data_frame(b"x"));
    respond(&mut bench, 200, &[], true);
    assert_eq!(body(&bench.events), (b"x".to_vec(), true));
    bench.assert_quiet();
    assert!(bench.conn.is_idle());
}

#[test]
fn a_close_answers_what_has_no_answer_and_cuts_the_rest() {
    let mut bench = server();
    for id in [0, 4, 8] {
        bench.recv(id, &headers(&get_fields()));
    }
    bench.conn.respond(4, 200, &[], false).unwrap();
    bench.conn.respond(8, 200, &[], true).unwrap();
    bench.take_events();
    bench.conn.close_all(error::H3_NO_ERROR, "", bench.now);
    bench.drain();
    assert_eq!(bench.status(0).as_deref(), Some("503"));
    assert_eq!(bench.reset_code(0), None);
    assert_eq!(bench.stop_code(0), Some(error::H3_NO_ERROR));
    assert_eq!(bench.reset_code(4), Some(error::H3_REQUEST_CANCELLED));
    assert_eq!(bench.reset_code(8), None);
    assert!(bench.sent(8).1);
    assert!(bench.conn.is_idle());
    let told = bench.take_events();
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn a_request_has_no_use_for_datagrams() {
    let mut bench = asked_get();
    bench.datagram(&[0, b'x']);
    bench.assert_stream_error(0, error::H3_DATAGRAM_ERROR);
    assert_eq!(aborted(&bench), Some(error::H3_DATAGRAM_ERROR));
}

#[test]
fn a_flood_of_requests_given_up_ends_the_connection() {
    let mut bench = server();
    let burst = u64::from(Config::server().limits.resets.burst);
    let bytes = headers(&get_fields());
    for number in 0..burst {
        bench.recv(4 * number, &bytes);
        bench.reset(4 * number, 0x10c);
        bench.take_events();
        bench.take_actions();
    }
    assert!(!bench.conn.is_closed());
    bench.recv(4 * burst, &bytes);
    bench.reset(4 * burst, 0x10c);
    bench.assert_connection_error(error::H3_EXCESSIVE_LOAD);
}

#[test]
fn answered_requests_are_no_flood() {
    let mut bench = server();
    let count = 2 * u64::from(Config::server().limits.resets.burst);
    let bytes = headers(&get_fields());
    for number in 0..count {
        bench.recv_fin(4 * number, &bytes);
        bench.conn.respond(4 * number, 200, &[], true).unwrap();
        bench.drain();
        bench.take_events();
        bench.take_actions();
    }
    assert!(!bench.conn.is_closed());
    assert_eq!(bench.conn.stats().requests, count);
    let kept = bench.conn.stats().streams;
    assert!(kept < 10, "{kept}");
}

#[test]
fn a_lost_connection_takes_calls() {
    let mut bench = asked_get();
    bench.conn.handle_closed(None, "");
    bench.drain();
    assert_eq!(
        bench.conn.respond(0, 200, &[], true),
        Err(Error::ConnectionClosed)
    );
    bench.conn.end_request(0, error::H3_NO_ERROR);
    bench.drain();
    let sends = |action: &Action| matches!(action, Action::SendStream { .. });
    assert!(!bench.actions.iter().any(sends));
}
