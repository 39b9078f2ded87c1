//! Nothing outlives its use: streams, sessions and early data that are over leave nothing behind,
//! whatever the peer sends and the application does.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use pywt_core::wire::codes::{capsule, error, frame, grease};
use pywt_core::{
    Action, ClosedBy, Config, Dialect, Dir, Event, FlowControl, Rate, SessionState, StreamKind,
};
use support::*;

fn entries(bench: &Bench) -> usize {
    bench.conn.stats().streams
}

/// A request that names a header twice that may be there once.
fn malformed() -> Vec<u8> {
    let mut fields = connect_fields("webtransport");
    fields.push(("content-length", "1"));
    headers(&fields)
}

/// The nth stream of its kind, and its first bytes.
type Opening = fn(u64) -> (u64, Vec<u8>);

fn generous() -> Config {
    let mut config = Config::server();
    config.limits.resets = Rate {
        burst: u32::MAX,
        per_second: 0,
    };
    config.limits.max_requests = usize::MAX;
    config
}

#[test]
fn a_refused_stream_leaves_nothing() {
    let openings: [(&str, Opening); 5] = [
        ("grease", |n| (14 + 4 * n, varint_of(grease(n)))),
        ("malformed", |n| (4 + 4 * n, malformed())),
        ("late", |n| (14 + 4 * n, stream_head(Dir::Uni, 0))),
        ("late bidi", |n| (4 + 4 * n, stream_head(Dir::Bidi, 0))),
        ("no session", |n| {
            let get = [(":method", "CONNECT"), (":authority", "a")];
            (4 + 4 * n, [headers(&get), frame_head(0x21, 4)].concat())
        }),
    ];
    for (what, opening) in openings {
        for fin in [false, true] {
            let mut bench = Bench::server_with(generous(), Dialect::Draft15).with_session();
            let before = entries(&bench) - 1;
            bench.conn.close_session(0, 0, "", bench.now).unwrap();
            bench.recv_fin(0, &[]);
            for n in 0..2_000 {
                let (id, bytes) = opening(n);
                bench.recv_with(id, &bytes, fin);
                // What still comes is nobody's, and no new stream.
                bench.recv(id, &[0x40, 0x54, 0]);
            }
            bench.advance(Config::server().limits.close_timeout);
            assert_eq!(entries(&bench), before, "{what} fin={fin}");
            assert!(bench.conn.is_idle());
            assert_eq!(bench.conn.poll_timeout(), None);
            assert_eq!(bench.connection_error(), None);
        }
    }
}

#[test]
fn a_request_that_ended_leaves_nothing_when_it_is_refused() {
    type Refusal = fn(&mut Bench, u64);
    let refusals: [(&str, Refusal); 3] = [
        ("reject", |bench, id| {
            bench.conn.reject(id, 404, &[], bench.now).unwrap();
        }),
        ("close", |bench, id| {
            bench.conn.close_session(id, 1, "", bench.now).unwrap();
        }),
        ("close_all", |bench, _| {
            bench.conn.close_all(1, "", bench.now)
        }),
    ];
    for (what, refuse) in refusals {
        let mut bench = Bench::server_with(generous(), Dialect::Draft02);
        let before = entries(&bench);
        for n in 0..1_000 {
            bench.recv_fin(4 * n, &connect_request("webtransport"));
            refuse(&mut bench, 4 * n);
            bench.drain();
            assert_eq!(bench.stop_code(4 * n), None);
        }
        assert_eq!(entries(&bench), before, "{what}");
        assert!(bench.conn.is_idle());
    }
}

/// MadeYouReset (CVE-2025-8671): what the peer makes us refuse costs as much as what it resets.
#[test]
fn refusals_are_counted_as_resets() {
    let mut config = Config::server();
    config.limits.resets = Rate {
        burst: 100,
        per_second: 1,
    };
    let openings: [Opening; 3] = [
        |n| (14 + 4 * n, varint_of(grease(n))),
        |n| (4 + 4 * n, malformed()),
        |n| {
            let get = [(":method", "CONNECT"), (":authority", "a")];
            (4 + 4 * n, headers(&get))
        },
    ];
    for opening in openings {
        let mut bench = Bench::server_with(config.clone(), Dialect::Draft02);
        for n in 0..100 {
            let (id, bytes) = opening(n);
            bench.recv_fin(id, &bytes);
            // The answer to our STOP_SENDING is no second offence.
            bench.reset(id, 0);
        }
        assert_eq!(bench.connection_error(), None);
        let (id, bytes) = opening(100);
        bench.recv_fin(id, &bytes);
        bench.assert_connection_error(error::H3_EXCESSIVE_LOAD);
        assert!(matches!(
            bench.actions.last(),
            Some(Action::CloseConnection { .. })
        ));
    }
}

#[test]
fn requests_for_sessions_have_a_rate() {
    let mut config = Config::server();
    config.limits.sessions = Rate {
        burst: 10,
        per_second: 1,
    };
    let mut bench = Bench::server_with(config, Dialect::Draft02);
    let churn = |bench: &mut Bench, n: u64| {
        bench.request_session(4 * n);
        if bench.connection_error().is_none() {
            bench.accept(4 * n);
            bench.recv_fin(4 * n, &[]);
        }
    };
    (0..10).for_each(|n| churn(&mut bench, n));
    bench.advance(Duration::from_secs(1));
    churn(&mut bench, 10);
    assert_eq!(bench.connection_error(), None);
    churn(&mut bench, 11);
    bench.assert_connection_error(error::H3_EXCESSIVE_LOAD);
}

#[test]
fn a_goaway_that_says_nothing_new_tells_nobody() {
    let goaway = frame_of(frame::GOAWAY, &varint_of(1 << 20));
    let mut bench = Bench::client_session(Dialect::Draft02);
    bench.recv(SERVER_CONTROL, &goaway);
    let told = bench.take_events();
    let expected = [
        Event::GoawayReceived { id: 1 << 20 },
        Event::SessionDraining { session: 0 },
    ];
    assert_eq!(told, expected);
    bench.recv(SERVER_CONTROL, &goaway.repeat(9_000));
    assert_eq!(bench.take_events(), []);
    bench.recv(SERVER_CONTROL, &frame_of(frame::GOAWAY, &[0]));
    assert_eq!(bench.take_events(), [Event::GoawayReceived { id: 0 }]);
}

/// webtrans-http3-16 §4.7.
#[test]
fn goaway_before_a_session_is_established_drains_it_too() {
    let mut bench = Bench::client_asked(Dialect::Draft15);
    bench.recv(SERVER_CONTROL, &frame_of(frame::GOAWAY, &[4]));
    bench.recv(0, &headers(&[(":status", "200")]));
    assert!(bench
        .events
        .contains(&Event::SessionDraining { session: 0 }));
    assert!(bench.conn.session(0).unwrap().draining);
    let mut bench = Bench::server_for(Dialect::Draft15);
    bench.request_session(0);
    bench.recv(CLIENT_CONTROL, &frame_of(frame::GOAWAY, &[0]));
    bench.accept(0);
    assert!(bench.conn.session(0).unwrap().draining);
}

#[test]
fn waiting_requests_have_a_bound_together() {
    let mut config = Config::server();
    config.limits.max_waiting_bytes = 100_000;
    config.limits.max_early_capsule_bytes = 20_000;
    let mut bench = Bench::server_with(config, Dialect::Draft02);
    for n in 0..6 {
        bench.request_session(4 * n);
        bench.recv(4 * n, &data_frame(&vec![0; 16_000]));
    }
    assert_eq!(bench.connection_error(), None);
    assert_eq!(bench.reset_code(20), None);
    bench.request_session(24);
    bench.recv(24, &data_frame(&vec![0; 16_000]));
    bench.assert_stream_error(24, error::H3_EXCESSIVE_LOAD);
    // An answer makes room.
    bench.conn.reject(0, 404, &[], bench.now).unwrap();
    bench.request_session(28);
    bench.recv(28, &data_frame(&vec![0; 16_000]));
    assert_eq!(bench.reset_code(28), None);
    // So does the answer that accepts, and with it what was kept is read.
    bench.accept(4);
    bench.request_session(32);
    bench.recv(32, &data_frame(&vec![0; 16_000]));
    assert_eq!(bench.reset_code(32), None);
}

#[test]
fn requests_before_settings_have_the_same_bound() {
    let mut config = Config::server();
    config.limits.max_waiting_bytes = 20_000;
    let mut bench = Bench::new(config);
    let long = "x".repeat(8_000);
    let mut fields = connect_fields("webtransport");
    fields.push(("x", &long));
    bench.recv(0, &headers(&fields));
    bench.recv(4, &headers(&fields));
    assert_eq!(bench.actions, []);
    bench.recv(8, &headers(&fields));
    bench.assert_stream_error(8, error::H3_EXCESSIVE_LOAD);
}

/// RFC 9114 §4.1: a complete answer is not reset.
#[test]
fn our_fin_is_followed_by_no_reset() {
    let timeout = Config::server().limits.close_timeout;
    let mut bench = Bench::server_for(Dialect::Draft02);
    bench.request_session(0);
    bench.conn.reject(0, 404, &[], bench.now).unwrap();
    bench.advance(timeout);
    assert_eq!(bench.reset_code(0), None);
    assert_eq!(bench.stop_code(0), Some(error::H3_NO_ERROR));
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.recv(
        0,
        &data_frame(&capsule_of(capsule::WT_CLOSE_SESSION, &[0; 4])),
    );
    bench.advance(timeout);
    assert_eq!(bench.sent(0), (vec![], true));
    assert_eq!(bench.reset_code(0), None);
}

#[test]
fn a_deadline_belongs_to_what_it_was_set_for() {
    let timeout = Config::server().limits.close_timeout;
    let step = Duration::from_millis(100);
    let mut bench = Bench::client_session(Dialect::Draft15);
    bench.stop(0, error::H3_NO_ERROR);
    bench.actions.clear();
    bench.advance(timeout - step);
    bench.conn.close_session(0, 0, "", bench.now).unwrap();
    bench.advance(step);
    assert_eq!(bench.stop_code(0), None);
    assert!(!bench.conn.is_idle());
    assert_eq!(bench.conn.poll_timeout(), Some(timeout - step + timeout));
    bench.advance(timeout - step);
    assert_eq!(bench.stop_code(0), Some(error::WT_SESSION_GONE));
    assert!(bench.conn.is_idle());
}

/// Legal and reorderable (RFC 9000 §3.5); the stop is the stream's, whoever has it.
#[test]
fn stop_sending_before_the_first_byte_is_kept() {
    let code = 0x52e4_a40f_a8db;
    let stopped = Event::StreamStopped {
        stream: 4,
        code: Some(0),
        raw: code,
    };
    let mut bench = Bench::server_session(Dialect::Draft15);
    bench.stop(4, code);
    assert_eq!(bench.conn.stream_kind(4), StreamKind::Pending);
    bench.recv(4, &stream_head(Dir::Bidi, 0));
    assert!(bench.events.contains(&stopped));
    assert_eq!(bench.reset_code(4), Some(code));
    assert_eq!(bench.conn.reserve_send(4, 10), 0);
    // Held, its session hears of it when there is one.
    let mut bench = Bench::server_for(Dialect::Draft15);
    bench.stop(4, code);
    bench.recv(4, &stream_head(Dir::Bidi, 0));
    bench.request_session(0);
    assert_eq!(bench.reset_code(4), None);
    bench.accept(0);
    assert!(bench.events.contains(&stopped));
    // Nothing comes: the stream has the time of any that does not say what it is.
    let mut bench = Bench::server_session(Dialect::Draft15);
    let before = entries(&bench);
    bench.stop(4, code);
    bench.advance(Config::server().limits.headers_timeout);
    bench.assert_stream_error(4, error::H3_REQUEST_INCOMPLETE);
    assert_eq!(entries(&bench), before);
    // A stop for what is over is too late.
    bench.stop(4, code);
    assert_eq!(entries(&bench), before);
}

#[test]
fn a_stream_over_the_limit_was_never_opened() {
    let mut config = Config::server();
    config.flow_control.initial_max_streams_uni = 1;
    let mut bench = Bench::new(config);
    let settings = flow_settings(Dialect::Draft15, 10);
    bench.recv(CLIENT_CONTROL, &control_stream(&settings));
    let mut bench = bench.with_session();
    bench.recv(14, &stream_head(Dir::Uni, 0));
    bench.events.clear();
    bench.recv(18, &stream_head(Dir::Uni, 0));
    bench.assert_stream_error(0, error::WT_FLOW_CONTROL_ERROR);
    let about_it = |event: &&Event| {
        matches!(event, Event::StreamReset { stream: 18, .. })
            || matches!(event, Event::StreamStopped { stream: 18, .. })
            || matches!(event, Event::StreamOpened { stream: 18, .. })
    };
    assert_eq!(bench.events.iter().find(about_it), None);
    assert!(bench.stop_code(18).is_some());
}

/// What came early for a request that is refused goes with it, and so does what comes late.
#[test]
fn early_streams_of_a_refused_request_do_not_wait() {
    type Refusal = fn(&mut Bench);
    let refusals: [(&str, Refusal); 4] = [
        ("max_sessions", |bench| {
            bench.recv(4, &connect_request("webtransport"))
        }),
        ("malformed", |bench| bench.recv(4, &malformed())),
        ("501", |bench| bench.recv(4, &connect_request("other"))),
        ("goaway", |bench| {
            bench.conn.goaway().unwrap();
            bench.recv(4, &connect_request("webtransport"));
        }),
    ];
    for (what, refuse) in refusals {
        let mut config = Config::server();
        config.limits.max_sessions = 1;
        let mut bench = Bench::server_with(config, Dialect::Draft02).with_session();
        bench.recv(14, &stream_head(Dir::Uni, 4));
        bench.datagram(&[1, 0]);
        assert_eq!(bench.conn.stats().early_streams, 1);
        refuse(&mut bench);
        let stats = bench.conn.stats();
        assert_eq!(
            (stats.early_streams, stats.early_datagrams),
            (0, 0),
            "{what}"
        );
        bench.recv(18, &stream_head(Dir::Uni, 4));
        assert!(bench.stop_code(14).is_some() && bench.stop_code(18).is_some());
        assert_eq!(bench.conn.stats().early_streams, 0, "{what}");
    }
}

#[test]
fn strangers_make_room_for_what_was_asked_for() {
    let mut config = Config::server();
    config.limits.max_early_streams = 4;
    config.limits.max_early_datagrams = 4;
    let mut bench = Bench::server_with(config, Dialect::Draft02);
    bench.recv(14, &stream_head(Dir::Uni, 0));
    bench.datagram(&[0, 7]);
    bench.request_session(0);
    bench.recv(18, &stream_head(Dir::Uni, 0));
    for n in 0..10 {
        bench.recv(22 + 4 * n, &stream_head(Dir::Uni, 40));
        bench.datagram(&[10, 0]);
    }
    assert_eq!(bench.conn.stats().early_streams, 4);
    bench.accept(0);
    let mut opened: Vec<_> = bench.take_events();
    opened.retain(|event| {
        matches!(
            event,
            Event::StreamOpened { .. } | Event::DatagramReceived { .. }
        )
    });
    assert_eq!(opened.len(), 3, "{opened:?}");
}

#[test]
fn one_session_cannot_take_all_places_of_early_streams() {
    let mut config = Config::server();
    config.limits.max_early_streams_per_session = 2;
    let mut bench = Bench::server_with(config, Dialect::Draft02);
    bench.recv(14, &stream_head(Dir::Uni, 4));
    for n in 1..=3 {
        bench.recv(14 + 4 * n, &stream_head(Dir::Uni, 0));
    }
    assert_eq!(
        bench.stop_code(18),
        Some(error::WT_BUFFERED_STREAM_REJECTED)
    );
    assert_eq!(bench.stop_code(14), None);
    assert_eq!(bench.conn.stats().early_streams, 3);
}

/// A received train of datagrams is one allocation; one byte of it would keep all of it.
#[test]
fn held_datagrams_keep_alive_what_they_count() {
    let mut bench = Bench::server_for(Dialect::Draft02);
    let mut train = Bytes::from(vec![0; 64 << 10]);
    let first = train.split_to(2);
    bench.conn.handle_datagram(first, bench.now);
    assert_eq!(bench.conn.stats().early_datagrams, 1);
    assert!(train.try_into_mut().is_ok(), "the rest of it is free");
}

#[test]
fn sessions_asked_for_before_settings_are_taken_in_order() {
    let mut config = Config::server();
    config.flow_control = FlowControl::OFF;
    let mut bench = Bench::new(config);
    for id in [0, 4, 8] {
        bench.recv(id, &connect_request("webtransport-h3"));
    }
    let settings = control_stream(&peer_settings(Dialect::Draft15));
    bench.recv(CLIENT_CONTROL, &settings);
    assert!(bench.conn.session(0).is_some());
    for id in [4, 8] {
        assert_eq!(bench.reset_code(id), Some(error::H3_REQUEST_REJECTED));
    }
    assert_eq!(bench.reset_code(0), None);
}

/// The server refuses a session that comes before the end of the one before.
#[test]
fn the_next_single_session_waits_for_the_end_of_the_last() {
    let mut bench = Bench::client_session(Dialect::Draft15);
    bench.conn.close_session(0, 0, "", bench.now).unwrap();
    bench.drain();
    bench.conn.connect(4, request(), bench.now).unwrap();
    bench.drain();
    assert_eq!(bench.sent(4).0, []);
    assert_eq!(bench.conn.session(4).unwrap().state, SessionState::Queued);
    bench.recv_fin(0, &[]);
    assert!(!bench.sent(4).0.is_empty());
    assert_eq!(
        bench.conn.session(4).unwrap().state,
        SessionState::Connecting
    );
    // A server that never ends it holds up nobody for long.
    let mut bench = Bench::client_session(Dialect::Draft15);
    bench.conn.close_session(0, 0, "", bench.now).unwrap();
    bench.conn.connect(4, request(), bench.now).unwrap();
    bench.advance(Config::client().limits.close_timeout);
    assert!(!bench.sent(4).0.is_empty());
}

#[test]
fn drain_is_sent_once() {
    let mut bench = Bench::server_session(Dialect::Draft15);
    for _ in 0..3 {
        bench.conn.drain_session(0).unwrap();
    }
    bench.drain();
    let drain = data_frame(&capsule_of(capsule::WT_DRAIN_SESSION, &[]));
    assert_eq!(bench.sent(0).0, drain);
}

/// Payload that arrived whole before the session ended was not reset, and is not void.
#[test]
fn the_end_of_a_session_leaves_what_had_arrived_whole() {
    let mut bench = Bench::server_session(Dialect::Draft15);
    bench.recv_fin(14, &[stream_head(Dir::Uni, 0), b"whole".to_vec()].concat());
    bench.recv_fin(4, &[stream_head(Dir::Bidi, 0), b"whole".to_vec()].concat());
    bench.recv(18, &[stream_head(Dir::Uni, 0), b"part".to_vec()].concat());
    bench.events.clear();
    bench.recv_fin(0, &[]);
    let resets: Vec<_> = bench
        .events
        .iter()
        .filter_map(|event| match event {
            Event::StreamReset { stream, .. } => Some(*stream),
            _ => None,
        })
        .collect();
    assert_eq!(resets, [18]);
    assert_eq!((bench.stop_code(14), bench.stop_code(4)), (None, None));
}

#[test]
fn close_all_answers_requests_and_closes_sessions() {
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.request_session(4);
    bench.actions.clear();
    // A code of the WebTransport range is the application's.
    let code = 0x52e4_a40f_a8db + 7;
    bench.conn.close_all(code, "bye", bench.now);
    bench.drain();
    assert_eq!(bench.status(4).as_deref(), Some("503"));
    let close = capsule_of(capsule::WT_CLOSE_SESSION, b"\0\0\0\x07bye");
    assert_eq!(bench.sent(0), (data_frame(&close), true));
    assert_eq!(bench.conn.stats().sessions, 0);
    // Any other is cut to 32 bits.
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.conn.close_all(0x1_0000_0005, "", bench.now);
    bench.drain();
    let close = capsule_of(capsule::WT_CLOSE_SESSION, b"\0\0\0\x05");
    assert_eq!(bench.sent(0).0, data_frame(&close));
}

/// Some peers close the connection with the session's code (reports D4).
#[test]
fn a_connection_close_of_the_webtransport_range_is_the_sessions_code() {
    for (code, expected) in [
        (Some(0x52e4_a40f_a8db + 7), 7),
        (Some(0x100), 0),
        (Some(7), 0),
        (None, 0),
    ] {
        let mut bench = Bench::server_session(Dialect::Draft02);
        bench.conn.handle_closed(code, "bye");
        bench.drain();
        let closed = Event::SessionClosed {
            session: 0,
            code: expected,
            reason: "bye".into(),
            by: ClosedBy::Transport,
            error: code,
        };
        assert_eq!(bench.events, [closed]);
    }
}

#[test]
fn bytes_that_quic_does_not_take_have_a_limit() {
    let limit = Config::server().limits.max_unsent_bytes;
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.conn.handle_unsent(limit);
    bench.drain();
    assert_eq!(bench.connection_error(), None);
    bench.conn.handle_unsent(limit + 1);
    bench.drain();
    bench.assert_connection_error(error::H3_EXCESSIVE_LOAD);
}
