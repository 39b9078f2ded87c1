//! Session flow control on the wire (webtrans-http3-16 §5).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use pywt_core::wire::capsule::{decode_payload, encode, Capsule, MAX_STREAMS};
use pywt_core::wire::codes::{app_error_to_http, capsule, error, frame};
use pywt_core::wire::frame::parse_many;
use pywt_core::{ClosedBy, Config, Dialect, Dir, Event, FlowControl, OpenError, Usage};
use support::*;

const WITH_FLOW: [Dialect; 3] = [Dialect::Draft07, Dialect::Draft13, Dialect::Draft15];

fn config(data: u64, streams: u64) -> Config {
    let mut config = Config::server();
    config.flow_control = FlowControl {
        initial_max_data: data,
        initial_max_streams_bidi: streams,
        initial_max_streams_uni: streams,
        ..FlowControl::default()
    };
    config
}

/// A server session; we grant `data` and `streams`, the peer grants `peer` of everything.
fn session(dialect: Dialect, data: u64, streams: u64, peer: u64) -> Bench {
    session_with(config(data, streams), dialect, peer)
}

fn session_with(config: Config, dialect: Dialect, peer: u64) -> Bench {
    let mut bench = Bench::new(config);
    bench.recv(
        CLIENT_CONTROL,
        &control_stream(&flow_settings(dialect, peer)),
    );
    let bench = bench.with_session();
    assert!(bench.conn.session(0).unwrap().flow_control);
    bench
}

/// The capsules written on stream 0 since the last call; each must be a DATA frame of its own.
fn sent_capsules(bench: &mut Bench) -> Vec<(u64, u64)> {
    bench.drain();
    let (bytes, _) = bench.sent(0);
    bench.actions.clear();
    let mut capsules = Vec::new();
    for outer in parse_many(&bytes) {
        assert_eq!(outer.ty, frame::DATA);
        let inner: Vec<_> = parse_many(outer.payload).collect();
        assert_eq!(inner.len(), 1);
        let number = match decode_payload(inner[0].ty, inner[0].payload).unwrap() {
            Capsule::MaxData(limit) | Capsule::DataBlocked(limit) => limit,
            Capsule::MaxStreams { limit, .. } | Capsule::StreamsBlocked { limit, .. } => limit,
            other => panic!("{other:?}"),
        };
        capsules.push((inner[0].ty, number));
    }
    capsules
}

fn in_data(capsule: &Capsule<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    encode(capsule, &mut out);
    data_frame(&out)
}

#[track_caller]
fn assert_violation(bench: &Bench) {
    bench.assert_stream_error(0, error::WT_FLOW_CONTROL_ERROR);
    let expected = Some(error::WT_FLOW_CONTROL_ERROR);
    let is_end = |event: &&Event| {
        matches!(event, Event::SessionClosed { by: ClosedBy::Local, error, .. }
            if *error == expected)
    };
    assert_eq!(bench.events.iter().filter(is_end).count(), 1);
}

#[test]
fn payload_up_to_the_limit_is_taken_and_one_byte_past_it_ends_the_session() {
    for dialect in WITH_FLOW {
        for bodies in [[100, 0], [60, 40]] {
            let mut bench = session(dialect, 100, 10, 10);
            for (n, body) in bodies.iter().enumerate() {
                let id = 14 + 4 * n as u64;
                bench.recv(id, &[stream_head(Dir::Uni, 0), vec![0; *body]].concat());
            }
            bench.assert_quiet();
            bench.recv(14, &[0]);
            assert_violation(&bench);
            assert!(!bench.conn.is_closed());
        }
    }
}

#[test]
fn headers_do_not_count_whatever_their_length() {
    let mut bench = session(Dialect::Draft15, 1, 10, 10);
    bench.recv(14, &hex("c000000000000054c000000000000000"));
    bench.recv(4, &hex("c000000000000041c000000000000000"));
    bench.assert_quiet();
    bench.recv(14, &[1]);
    bench.assert_quiet();
    bench.recv(4, &[1]);
    assert_violation(&bench);
}

#[test]
fn streams_up_to_the_limit_are_taken_and_one_past_it_ends_the_session() {
    for dir in [Dir::Bidi, Dir::Uni] {
        let mut bench = session(Dialect::Draft15, 100, 2, 10);
        let ids = match dir {
            Dir::Bidi => [4, 8, 12],
            Dir::Uni => [14, 18, 22],
        };
        bench.recv(ids[0], &stream_head(dir, 0));
        bench.recv(ids[1], &stream_head(dir, 0));
        bench.assert_quiet();
        bench.recv(ids[2], &stream_head(dir, 0));
        assert_violation(&bench);
    }
}

#[test]
fn early_streams_count_when_their_session_starts() {
    let mut bench = Bench::new(config(10, 2));
    bench.recv(
        CLIENT_CONTROL,
        &control_stream(&flow_settings(Dialect::Draft15, 10)),
    );
    for id in [14, 18, 22] {
        bench.recv(id, &stream_head(Dir::Uni, 0));
    }
    bench.request_session(0);
    bench.accept(0);
    assert_violation(&bench);
    // And their payload, pushed or counted.
    for pushed in [true, false] {
        let mut bench = Bench::new(config(10, 2));
        bench.recv(
            CLIENT_CONTROL,
            &control_stream(&flow_settings(Dialect::Draft15, 10)),
        );
        bench.recv(14, &stream_head(Dir::Uni, 0));
        match pushed {
            true => bench.recv(14, &[0; 11]),
            false => bench.conn.handle_stream_bytes(14, 11, false, bench.now),
        }
        bench.request_session(0);
        bench.accept(0);
        assert_violation(&bench);
    }
}

#[test]
fn a_reset_stream_counts_its_final_size() {
    let mut bench = session(Dialect::Draft15, 100, 10, 10);
    bench.recv(14, &[stream_head(Dir::Uni, 0), vec![0; 10]].concat());
    let header = stream_head(Dir::Uni, 0).len() as u64;
    bench
        .conn
        .handle_stream_reset(14, 0, header + 60, bench.now);
    // 60 of 100 are used and free again.
    assert_eq!(sent_capsules(&mut bench), [(capsule::WT_MAX_DATA, 160)]);
    bench.recv(18, &stream_head(Dir::Uni, 0));
    bench
        .conn
        .handle_stream_reset(18, 0, header + 101, bench.now);
    bench.drain();
    assert_violation(&bench);
}

#[test]
fn limits_are_renewed_at_half_a_window_once_per_drain_and_never_equal() {
    let mut bench = session(Dialect::Draft15, 100, 4, 10);
    bench.now = Duration::from_secs(60);
    bench.recv(14, &[stream_head(Dir::Uni, 0), vec![0; 100]].concat());
    for _ in 0..49 {
        bench.conn.stream_consumed(14, 1, bench.now);
    }
    assert_eq!(sent_capsules(&mut bench), []);
    for _ in 0..30 {
        bench.conn.stream_consumed(14, 1, bench.now);
    }
    // One capsule for all of it.
    assert_eq!(sent_capsules(&mut bench), [(capsule::WT_MAX_DATA, 179)]);
    assert_eq!(sent_capsules(&mut bench), []);
    // Two of four streams ended.
    bench.recv_fin(14, &[]);
    bench.conn.stream_consumed(14, 100, bench.now);
    bench.recv_fin(18, &stream_head(Dir::Uni, 0));
    assert_eq!(
        sent_capsules(&mut bench),
        [(capsule::WT_MAX_STREAMS_UNI, 6)]
    );
}

#[test]
fn windows_grow_while_the_application_keeps_up() {
    let mut config = config(100, 4);
    config.flow_control.max_data_window = 350;
    let mut bench = session_with(config, Dialect::Draft15, 10);
    bench.conn.set_rtt(Duration::from_millis(50));
    bench.recv(14, &stream_head(Dir::Uni, 0));
    let mut limits = Vec::new();
    for _ in 0..4 {
        bench.now += Duration::from_millis(60);
        bench.recv(14, &[0; 100]);
        bench.conn.stream_consumed(14, 100, bench.now);
        limits.extend(sent_capsules(&mut bench).iter().map(|(_, limit)| *limit));
    }
    assert_eq!(limits, [300, 550, 750]);
}

#[test]
fn unread_payload_keeps_the_window_shut() {
    let mut bench = session(Dialect::Draft15, 100, 4, 10);
    bench.recv_fin(14, &[stream_head(Dir::Uni, 0), vec![0; 100]].concat());
    assert_eq!(sent_capsules(&mut bench), []);
    // The entry outlives FIN until the application has read, so that the credit is not lost.
    assert_eq!(bench.conn.session(0).unwrap().streams, 1);
    bench.conn.stream_consumed(14, 1 << 40, bench.now);
    assert_eq!(sent_capsules(&mut bench), [(capsule::WT_MAX_DATA, 200)]);
    assert_eq!(bench.conn.session(0).unwrap().streams, 0);
}

#[test]
fn a_stopped_stream_returns_credit_for_what_still_arrives() {
    let mut bench = session(Dialect::Draft15, 100, 4, 10);
    bench.recv(14, &[stream_head(Dir::Uni, 0), vec![0; 30]].concat());
    bench.conn.stop_stream(14, 5);
    assert_eq!(sent_capsules(&mut bench), []);
    bench.events.clear();
    bench.recv(14, &[0; 30]);
    assert_eq!(bench.events, []);
    assert_eq!(sent_capsules(&mut bench), [(capsule::WT_MAX_DATA, 160)]);
    // A QUIC that drops it silently says when the stream is gone.
    bench.conn.stream_gone(14);
    assert_eq!(bench.conn.session(0).unwrap().streams, 0);
}

#[test]
fn what_a_stopped_stream_carried_unheard_is_charged_and_returned_at_its_end() {
    let mut bench = session(Dialect::Draft15, 100, 4, 10);
    let header = stream_head(Dir::Bidi, 0);
    bench.recv(4, &[header.clone(), vec![0; 10]].concat());
    bench.conn.stop_stream(4, 5);
    bench.events.clear();
    // The other ninety bytes went to nobody.
    bench.conn.stopped_stream_gone(4, header.len() as u64 + 100);
    assert_eq!(last_limit(&mut bench), Some(200));
    assert_eq!(bench.events, []);
    // Its sending half goes on, and a stream that nobody stopped is none of this.
    assert_eq!(bench.conn.session(0).unwrap().streams, 1);
    bench.conn.stream_finished(4);
    bench.recv(8, &header);
    bench.conn.stopped_stream_gone(8, 50);
    assert_eq!(bench.conn.session(0).unwrap().streams, 1);
    bench.recv(8, &[0; 100]);
    assert_eq!(
        bench.conn.session_flow(0).unwrap().peer_data,
        Usage {
            limit: 200,
            used: 200
        }
    );
}

#[test]
fn credit_limits_sending_and_blocking_is_reported_once() {
    let mut bench = session(Dialect::Draft15, 100, 4, 2);
    for id in [15, 19] {
        bench.conn.check_open(0, Dir::Uni).unwrap();
        bench.conn.open_stream(0, id, Dir::Uni).unwrap();
    }
    let blocked = Err(OpenError::Blocked {
        session: 0,
        dir: Dir::Uni,
    });
    assert_eq!(bench.conn.check_open(0, Dir::Uni), blocked);
    assert_eq!(bench.conn.open_stream(0, 23, Dir::Uni).map(|_| ()), blocked);
    assert_eq!(bench.conn.reserve_send(15, 5), 2);
    assert_eq!(bench.conn.reserve_send(19, 5), 0);
    let expected = [
        (capsule::WT_DATA_BLOCKED, 2),
        (capsule::WT_STREAMS_BLOCKED_UNI, 2),
    ];
    assert_eq!(sent_capsules(&mut bench), expected);
    assert_eq!(bench.conn.check_open(0, Dir::Uni), blocked);
    assert_eq!(bench.conn.reserve_send(19, 5), 0);
    assert_eq!(sent_capsules(&mut bench), []);

    bench.recv(0, &in_data(&Capsule::MaxData(3)));
    bench.recv(
        0,
        &in_data(&Capsule::MaxStreams {
            dir: Dir::Uni,
            limit: 3,
        }),
    );
    let writable = Event::SessionWritable { session: 0 };
    let available = Event::StreamsAvailable {
        session: 0,
        dir: Dir::Uni,
    };
    assert_eq!(bench.take_events(), [writable, available]);
    assert_eq!(bench.conn.reserve_send(19, 5), 1);
    assert_eq!(sent_capsules(&mut bench), [(capsule::WT_DATA_BLOCKED, 3)]);
    assert!(bench.conn.open_stream(0, 23, Dir::Uni).is_ok());
    // Nobody waits for bidirectional streams: no event.
    bench.recv(
        0,
        &in_data(&Capsule::MaxStreams {
            dir: Dir::Bidi,
            limit: 3,
        }),
    );
    assert_eq!(bench.take_events(), []);
}

#[test]
fn unused_credit_can_be_given_back() {
    let mut bench = session(Dialect::Draft15, 100, 4, 10);
    bench.conn.open_stream(0, 15, Dir::Uni).unwrap();
    bench.conn.open_stream(0, 19, Dir::Uni).unwrap();
    assert_eq!(bench.conn.reserve_send(15, 10), 10);
    assert_eq!(bench.conn.reserve_send(19, 10), 0);
    bench.conn.release_send(15, 4);
    bench.drain();
    assert_eq!(bench.take_events(), [Event::SessionWritable { session: 0 }]);
    assert_eq!(bench.conn.reserve_send(19, 10), 4);
}

#[test]
fn limits_that_do_not_increase() {
    let capsules = [
        Capsule::MaxData(10),
        Capsule::MaxStreams {
            dir: Dir::Bidi,
            limit: 10,
        },
        Capsule::MaxStreams {
            dir: Dir::Uni,
            limit: 10,
        },
    ];
    for dialect in WITH_FLOW {
        for equal in capsules {
            let mut bench = session(dialect, 100, 4, 10);
            bench.recv(0, &in_data(&equal));
            match dialect {
                Dialect::Draft15 => assert_violation(&bench),
                _ => bench.assert_quiet(),
            }
            let mut bench = session(dialect, 100, 4, 11);
            bench.recv(0, &in_data(&equal));
            assert_violation(&bench);
        }
    }
}

#[test]
fn stream_limits_stop_at_two_to_the_sixtieth() {
    for ty in [
        capsule::WT_MAX_STREAMS_BIDI,
        capsule::WT_STREAMS_BLOCKED_UNI,
    ] {
        let capsule = |limit: u64| data_frame(&capsule_of(ty, &long8(limit)));
        let mut bench = session(Dialect::Draft15, 100, 4, 10);
        bench.recv(0, &capsule(MAX_STREAMS));
        bench.assert_quiet();
        let mut bench = session(Dialect::Draft15, 100, 4, 10);
        bench.recv(0, &capsule(MAX_STREAMS + 1));
        assert_violation(&bench);
    }
}

#[test]
fn a_peer_that_is_blocked_gets_nothing_for_saying_so() {
    let mut bench = session(Dialect::Draft15, 100, 4, 10);
    bench.recv(0, &in_data(&Capsule::DataBlocked(100)));
    bench.recv(
        0,
        &in_data(&Capsule::StreamsBlocked {
            dir: Dir::Bidi,
            limit: 4,
        }),
    );
    assert_eq!(sent_capsules(&mut bench), []);
    assert_eq!(bench.events, []);
}

#[test]
fn several_sessions_share_a_connection_and_not_their_limits() {
    let mut bench = session(Dialect::Draft15, 10, 4, 10);
    bench.request_session(4);
    bench.accept(4);
    bench.actions.clear();
    bench.recv(14, &[stream_head(Dir::Uni, 0), vec![0; 10]].concat());
    bench.recv(18, &[stream_head(Dir::Uni, 4), vec![0; 10]].concat());
    bench.assert_quiet();
    bench.events.clear();
    bench.recv(18, &[0]);
    bench.assert_stream_error(4, error::WT_FLOW_CONTROL_ERROR);
    assert!(bench.conn.session(0).is_some() && bench.conn.session(4).is_none());
    let raw = error::WT_SESSION_GONE;
    assert_eq!(bench.stop_code(18), Some(raw));
    assert!(bench.events.contains(&Event::StreamReset {
        stream: 18,
        code: None,
        raw
    }));
}

#[test]
fn drafts_13_and_14_turn_it_on_by_a_session_count_as_well() {
    let mut bench = Bench::new(config(10, 4));
    let settings = [
        (pywt_core::wire::codes::setting::H3_DATAGRAM, 1),
        (pywt_core::wire::codes::setting::WT_MAX_SESSIONS_DRAFT13, 2),
    ];
    bench.recv(CLIENT_CONTROL, &control_stream(&settings));
    let mut bench = bench.with_session();
    assert!(bench.conn.session(0).unwrap().flow_control);
    // Nothing was granted yet.
    let blocked = Err(OpenError::Blocked {
        session: 0,
        dir: Dir::Bidi,
    });
    assert_eq!(bench.conn.check_open(0, Dir::Bidi), blocked);
    bench.recv(
        0,
        &in_data(&Capsule::MaxStreams {
            dir: Dir::Bidi,
            limit: 1,
        }),
    );
    assert!(bench.conn.check_open(0, Dir::Bidi).is_ok());
}

#[test]
fn reset_after_everything_was_received_is_reported() {
    let mut bench = session(Dialect::Draft15, 100, 4, 10);
    bench.recv(14, &[stream_head(Dir::Uni, 0), vec![0; 60]].concat());
    bench.events.clear();
    let raw = app_error_to_http(9);
    bench.conn.handle_stream_reset(14, raw, 63, bench.now);
    assert_eq!(sent_capsules(&mut bench), [(capsule::WT_MAX_DATA, 160)]);
    assert_eq!(
        bench.events,
        [Event::StreamReset {
            stream: 14,
            code: Some(9),
            raw
        }]
    );
    assert_eq!(bench.conn.session(0).unwrap().streams, 0);
}

#[test]
fn credit_of_reset_streams_comes_back_without_a_complaint() {
    let mut bench = session(Dialect::Draft15, 100, 200, 10);
    let header = stream_head(Dir::Uni, 0);
    let (mut limit, mut peer_used) = (100, 0);
    for n in 0..100 {
        // Ten bytes arrive, thirty are lost with the reset.
        let id = 14 + 4 * n;
        bench.recv(id, &[header.clone(), vec![0; 10]].concat());
        let final_size = header.len() as u64 + 40;
        bench.conn.handle_stream_reset(id, 0, final_size, bench.now);
        peer_used += 40;
        limit = last_limit(&mut bench).unwrap_or(limit);
        assert!(peer_used + 40 <= limit, "{peer_used} of {limit}");
    }
    let view = bench.conn.session_flow(0).unwrap().peer_data;
    assert_eq!(
        view,
        Usage {
            limit,
            used: peer_used
        }
    );
}

/// Complaints used to open the window: 51 MiB of 1 MiB after fifty of them.
#[test]
fn complaints_do_not_open_the_window() {
    let mut bench = session(Dialect::Draft15, 100, 200, 10);
    for n in 0..50 {
        let id = 14 + 4 * n;
        bench.recv(id, &stream_head(Dir::Uni, 0));
        bench.reset(id, 0);
        let limit = bench.conn.session_flow(0).unwrap().peer_data.limit;
        bench.recv(0, &in_data(&Capsule::DataBlocked(limit)));
    }
    let view = bench.conn.session_flow(0).unwrap().peer_data;
    assert_eq!(
        view,
        Usage {
            limit: 100,
            used: 0
        }
    );
}

/// They cost as much to read as what carries something.
#[test]
fn limits_that_raise_nothing_and_repeated_drains_are_counted() {
    let mut config = config(100, 200);
    config.limits.idle_frames.burst = 100;
    let streams = |dir| Capsule::MaxStreams { dir, limit: 10 };
    for idle in [
        Capsule::MaxData(10),
        streams(Dir::Bidi),
        streams(Dir::Uni),
        Capsule::Drain,
    ] {
        let mut bench = session_with(config.clone(), Dialect::Draft13, 10);
        let idle = in_data(&idle);
        bench.recv(0, &in_data(&Capsule::Drain));
        bench.recv(0, &idle.repeat(100));
        assert_eq!(bench.connection_error(), None);
        assert_eq!(bench.conn.stats().unknown_skipped, 100);
        bench.recv(0, &idle);
        bench.assert_connection_error(error::H3_EXCESSIVE_LOAD);
    }
    // What does raise a limit is not idle.
    let mut bench = session_with(config, Dialect::Draft13, 10);
    for limit in 11..1000 {
        bench.recv(0, &in_data(&Capsule::MaxData(limit)));
    }
    assert_eq!(bench.conn.stats().unknown_skipped, 0);
    assert_eq!(bench.connection_error(), None);
}

fn last_limit(bench: &mut Bench) -> Option<u64> {
    let is_data = |(ty, limit): (u64, u64)| (ty == capsule::WT_MAX_DATA).then_some(limit);
    sent_capsules(bench)
        .into_iter()
        .filter_map(is_data)
        .next_back()
}

/// A stream that a limit refused before its session was established was counted by the peer.
#[test]
fn early_streams_that_are_refused_are_charged_and_come_free() {
    for (limit, early) in [(4, 1), (4, 2), (40, 16)] {
        let mut config = config(1 << 20, limit);
        config.limits.max_early_streams = early;
        let mut bench = Bench::new(config);
        let settings = flow_settings(Dialect::Draft15, 10);
        bench.recv(CLIENT_CONTROL, &control_stream(&settings));
        for n in 0..limit {
            bench.recv(14 + 4 * n, &stream_head(Dir::Uni, 0));
        }
        bench.request_session(0);
        bench.actions.clear();
        bench.conn.accept(0, Default::default(), bench.now).unwrap();
        bench.drain();
        let used = bench.conn.session_flow(0).unwrap().peer_uni;
        assert_eq!(used.used, limit);
        assert_eq!(used.limit, limit + limit - early as u64);
        // Those that were held end like any other: then the whole window is free.
        for n in limit - early as u64..limit {
            bench.recv_fin(14 + 4 * n, &[]);
        }
        let view = bench.conn.session_flow(0).unwrap().peer_uni;
        assert!(
            view.limit - view.used > limit / 2,
            "{limit} {early} {view:?}"
        );
    }
}

#[test]
fn bytes_of_refused_early_streams_come_back_whole() {
    const WINDOW: usize = 1 << 20;
    for together in [true, false] {
        let mut bench = Bench::new(config(WINDOW as u64, 100));
        let settings = flow_settings(Dialect::Draft15, 10);
        bench.recv(CLIENT_CONTROL, &control_stream(&settings));
        let header = stream_head(Dir::Uni, 0);
        let size = (header.len() + WINDOW) as u64;
        bench.recv(14, &header);
        bench.recv(14, &vec![0; WINDOW - 100]);
        // A byte of another session is one too much for all of them.
        bench.recv(18, &[stream_head(Dir::Uni, 40), vec![0; 101]].concat());
        let refused: Vec<_> = [14, 18].map(|id| bench.stop_code(id)).into();
        assert_eq!(refused, [Some(error::WT_BUFFERED_STREAM_REJECTED), None]);
        // Ninety-nine more are under way; the last is lost with the reset.
        if together {
            bench.recv(14, &[0; 99]);
            bench.conn.handle_stream_reset(14, 0, size, bench.now);
        }
        bench.request_session(0);
        bench.actions.clear();
        bench.conn.accept(0, Default::default(), bench.now).unwrap();
        if !together {
            bench.drain();
            bench.recv(14, &[0; 99]);
            bench.conn.stopped_stream_gone(14, size);
        }
        bench.drain();
        bench.assert_quiet();
        let view = bench.conn.session_flow(0).unwrap().peer_data;
        assert_eq!(view.used, WINDOW as u64);
        assert!(view.limit - view.used > WINDOW as u64 / 2, "{view:?}");
    }
}

/// What is refused has spent no more than it could.
#[test]
fn refused_early_streams_cannot_spend_what_was_not_granted() {
    let mut config = config(1 << 20, 2);
    config.limits.max_early_streams = 1;
    let mut bench = Bench::new(config);
    let settings = flow_settings(Dialect::Draft15, 10);
    bench.recv(CLIENT_CONTROL, &control_stream(&settings));
    for n in 0..4 {
        bench.recv(14 + 4 * n, &stream_head(Dir::Uni, 0));
    }
    bench.request_session(0);
    bench.actions.clear();
    bench.conn.accept(0, Default::default(), bench.now).unwrap();
    bench.drain();
    assert_violation(&bench);
}
