//! Two connections talk to each other at every pair of dialects.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use pywt_core::wire::codes::error;
use pywt_core::{
    Config, Dialect, Dir, Event, FlowControl, OpenError, Request, Response, Role, SessionState,
};
use support::pair::Pair;
use support::request;

const ROLES: [Role; 2] = [Role::Client, Role::Server];
const DIRS: [Dir; 2] = [Dir::Bidi, Dir::Uni];

fn configs(client: &[Dialect], server: &[Dialect]) -> (Config, Config) {
    let (mut a, mut b) = (Config::client(), Config::server());
    a.dialects = client.to_vec();
    b.dialects = server.to_vec();
    (a, b)
}

fn flow(limit: u64) -> FlowControl {
    FlowControl {
        initial_max_data: limit,
        initial_max_streams_bidi: limit.min(4),
        initial_max_streams_uni: limit.min(4),
        ..FlowControl::default()
    }
}

/// Every set that a peer may offer: one dialect, or all.
fn offers() -> Vec<Vec<Dialect>> {
    let mut offers: Vec<_> = Dialect::ALL.iter().map(|&dialect| vec![dialect]).collect();
    offers.push(Dialect::ALL.to_vec());
    offers
}

/// Runs `test` at each pair that has a dialect in common, whole and one byte at a time.
fn each_pair(test: impl Fn(&mut Pair, Dialect)) {
    for client in offers() {
        for server in offers() {
            let common = client
                .iter()
                .filter(|dialect| server.contains(dialect))
                .max();
            let Some(&dialect) = common else { continue };
            for chunk in [usize::MAX, 1, 7] {
                let (a, b) = configs(&client, &server);
                let mut pair = Pair::new(a, b);
                pair.chunk = chunk;
                test(&mut pair, dialect);
                assert_eq!((&pair.client.closed, &pair.server.closed), (&None, &None));
            }
        }
    }
}

fn established(pair: &mut Pair) -> u64 {
    let session = pair.establish(request(), Response::default());
    assert_eq!(
        pair.client.conn.session(session).unwrap().state,
        SessionState::Open
    );
    assert_eq!(
        pair.server.conn.session(session).unwrap().state,
        SessionState::Open
    );
    session
}

#[test]
fn session_opens_in_the_highest_common_dialect() {
    each_pair(|pair, dialect| {
        let session = established(pair);
        assert_eq!(pair.client.conn.dialect(), Some(dialect));
        assert_eq!(pair.server.conn.dialect(), Some(dialect));
        assert!(pair.server.events.iter().any(|event| matches!(event,
            Event::SessionRequested { session: id, authority, path, dialect: spoken, .. }
                if *id == session && authority == "example.com" && path == "/chat"
                    && *spoken == dialect)));
        assert!(pair.client.events.iter().any(|event| matches!(event,
            Event::SessionEstablished { session: id, .. } if *id == session)));
    });
}

#[test]
fn without_a_common_dialect_the_client_says_why_and_leaves() {
    for client in Dialect::ALL {
        for server in Dialect::ALL {
            if client == server {
                continue;
            }
            let (a, b) = configs(&[client], &[server]);
            let mut pair = Pair::new(a, b);
            let stream = pair.client.stream_id(Dir::Bidi);
            pair.client
                .conn
                .connect(stream, request(), pair.now)
                .unwrap();
            pair.run();
            let rejected = pair.client.events.iter().any(|event| {
                matches!(event,
                Event::SessionRejected { status: 0, error, .. }
                    if *error == Some(error::WT_REQUIREMENTS_NOT_MET))
            });
            assert!(rejected, "{:?}", pair.client.events);
            let closed = pair.client.closed.as_ref().map(|(code, _)| *code);
            assert_eq!(closed, Some(error::WT_REQUIREMENTS_NOT_MET));
        }
    }
}

#[test]
fn streams_of_both_kinds_carry_payload_both_ways() {
    each_pair(|pair, _| {
        let session = established(pair);
        for role in ROLES {
            for dir in DIRS {
                let id = pair.end(role).open(session, dir).unwrap();
                assert_eq!(pair.end(role).write(id, b"hello, ", false), 7);
                assert_eq!(pair.end(role).write(id, b"world", true), 5);
                pair.run();
                let other = other(role);
                assert_eq!(
                    pair.end(other).received[&id],
                    (b"hello, world".to_vec(), true)
                );
                let opened = Event::StreamOpened {
                    session,
                    stream: id,
                    dir,
                };
                assert!(pair.end(other).events.contains(&opened));
                if dir == Dir::Bidi {
                    pair.end(other).write(id, b"answer", true);
                    pair.run();
                    assert_eq!(pair.end(role).received[&id], (b"answer".to_vec(), true));
                }
            }
        }
        // Control streams and the CONNECT stream remain.
        assert_eq!(pair.client.conn.stats().streams, 3);
        assert_eq!(pair.server.conn.stats().streams, 3);
    });
}

#[test]
fn datagrams_go_both_ways() {
    each_pair(|pair, _| {
        let session = established(pair);
        for role in ROLES {
            pair.end(role).send_datagram(session, b"ping");
            pair.run();
            let data = bytes::Bytes::from_static(b"ping");
            let other = other(role);
            assert!(pair
                .end(other)
                .events
                .contains(&Event::DatagramReceived { session, data }));
        }
    });
}

#[test]
fn reset_and_stop_carry_application_codes_both_ways() {
    each_pair(|pair, _| {
        let session = established(pair);
        for role in ROLES {
            for app_code in [0, 29, 30, 255, u32::MAX] {
                let id = pair.end(role).open(session, Dir::Bidi).unwrap();
                pair.end(role).write(id, b"x", false);
                pair.run();
                pair.end(role).conn.reset_stream(id, app_code);
                pair.end(role).conn.stop_stream(id, app_code);
                pair.run();
                let raw = pywt_core::wire::codes::app_error_to_http(app_code);
                let code = Some(app_code);
                let events = pair.end(other(role)).take_events();
                assert!(events.contains(&Event::StreamReset {
                    stream: id,
                    code,
                    raw
                }));
                assert!(events.contains(&Event::StreamStopped {
                    stream: id,
                    code,
                    raw
                }));
            }
        }
        assert_eq!(pair.client.conn.stats().streams, 3);
        assert_eq!(pair.server.conn.stats().streams, 3);
    });
}

#[test]
fn close_carries_code_and_reason_both_ways_once() {
    for closer in ROLES {
        each_pair(|pair, _| {
            let session = established(pair);
            let stream = pair.end(closer).open(session, Dir::Bidi).unwrap();
            pair.end(closer).write(stream, b"cut off", false);
            pair.run();
            let now = pair.now;
            pair.end(closer)
                .conn
                .close_session(session, 4242, "bye \u{e9}", now)
                .unwrap();
            pair.run();
            for role in ROLES {
                let end = pair.end(role);
                assert_eq!(end.session_end(session), Some((4242, "bye \u{e9}")));
                let ends = end
                    .events
                    .iter()
                    .filter(|e| matches!(e, Event::SessionClosed { .. }));
                assert_eq!(ends.count(), 1);
                assert!(end.conn.is_idle());
                assert_eq!(end.conn.stats().sessions, 0);
                assert!(end.conn.close_session(session, 0, "", now).is_err());
            }
            assert_eq!(pair.client.conn.stats().streams, 2);
            assert_eq!(pair.server.conn.stats().streams, 2);
        });
    }
}

#[test]
fn close_at_both_ends_at_once_ends_once_at_each() {
    each_pair(|pair, _| {
        let session = established(pair);
        let now = pair.now;
        pair.client
            .conn
            .close_session(session, 1, "client", now)
            .unwrap();
        pair.server
            .conn
            .close_session(session, 2, "server", now)
            .unwrap();
        pair.run();
        assert_eq!(pair.client.session_end(session), Some((1, "client")));
        assert_eq!(pair.server.session_end(session), Some((2, "server")));
        assert!(pair.client.conn.is_idle() && pair.server.conn.is_idle());
    });
}

#[test]
fn drain_and_goaway_are_one_event_and_the_session_stays_usable() {
    each_pair(|pair, dialect| {
        let session = established(pair);
        pair.server.conn.drain_session(session).unwrap();
        pair.run();
        pair.server.conn.goaway().unwrap();
        pair.run();
        let drains = |events: &[Event]| {
            events
                .iter()
                .filter(|e| matches!(e, Event::SessionDraining { .. }))
                .count()
        };
        assert_eq!(drains(&pair.client.events), 1, "{dialect:?}");
        let id = pair.client.open(session, Dir::Uni).unwrap();
        pair.client.write(id, b"still here", true);
        pair.run();
        assert_eq!(pair.server.received[&id].0, b"still here");
        let next = pair.client.stream_id(Dir::Bidi);
        let refused = pair.client.conn.connect(next, request(), pair.now);
        assert_eq!(refused, Err(pywt_core::Error::GoingAway));
    });
}

#[test]
fn application_protocol_is_negotiated() {
    each_pair(|pair, _| {
        let request = Request {
            protocols: vec!["b".into(), "a \"q\"".into()],
            ..request()
        };
        let response = Response {
            protocol: Some("a \"q\"".into()),
            ..Response::default()
        };
        pair.establish(request, response);
        let chosen = pair.client.events.iter().find_map(|event| match event {
            Event::SessionEstablished { protocol, .. } => protocol.clone(),
            _ => None,
        });
        assert_eq!(chosen.as_deref(), Some("a \"q\""));
    });
}

#[test]
fn rejection_carries_status_and_fields() {
    each_pair(|pair, _| {
        let session = pair.client.stream_id(Dir::Bidi);
        pair.client
            .conn
            .connect(session, request(), pair.now)
            .unwrap();
        pair.run();
        let fields = [("retry-after".to_owned(), "7".to_owned())];
        pair.server
            .conn
            .reject(session, 429, &fields, pair.now)
            .unwrap();
        pair.run();
        let rejected = pair.client.events.iter().any(|event| {
            matches!(event,
            Event::SessionRejected { status: 429, headers, error: None, .. }
                if headers.contains(&fields[0]))
        });
        assert!(rejected, "{:?}", pair.client.events);
        assert!(pair.client.conn.is_idle() && pair.server.conn.is_idle());
    });
}

#[test]
fn several_sessions_share_a_connection_where_the_dialect_allows() {
    let (a, b) = configs(&[Dialect::Draft02], &Dialect::ALL);
    let mut pair = Pair::new(a, b);
    let sessions: Vec<_> = (0..3).map(|_| established(&mut pair)).collect();
    for &session in &sessions {
        let id = pair.client.open(session, Dir::Uni).unwrap();
        pair.client.write(id, &[session as u8], true);
        pair.run();
        assert!(pair.server.events.contains(&Event::StreamOpened {
            session,
            stream: id,
            dir: Dir::Uni
        }));
    }
    pair.client
        .conn
        .close_session(sessions[1], 0, "", pair.now)
        .unwrap();
    pair.run();
    assert_eq!(pair.server.conn.stats().sessions, 2);
}

#[test]
fn flow_control_is_on_where_both_offer_it_and_the_dialect_has_it() {
    for dialect in Dialect::ALL {
        let (mut a, mut b) = configs(&[dialect], &Dialect::ALL);
        a.flow_control = flow(100);
        b.flow_control = flow(100);
        let mut pair = Pair::new(a, b);
        let session = established(&mut pair);
        let on = dialect != Dialect::Draft02;
        assert_eq!(pair.client.conn.session(session).unwrap().flow_control, on);
        assert_eq!(pair.server.conn.session(session).unwrap().flow_control, on);
    }
    for dialect in Dialect::ALL {
        let (mut a, mut b) = configs(&[dialect], &Dialect::ALL);
        a.flow_control = flow(100);
        b.flow_control = FlowControl::OFF;
        let mut pair = Pair::new(a, b);
        let session = established(&mut pair);
        assert!(!pair.client.conn.session(session).unwrap().flow_control);
        assert!(!pair.server.conn.session(session).unwrap().flow_control);
    }
}

#[test]
fn session_credit_comes_back_as_the_application_reads() {
    for dialect in [Dialect::Draft07, Dialect::Draft13, Dialect::Draft15] {
        for role in ROLES {
            let (mut a, mut b) = configs(&[dialect], &Dialect::ALL);
            a.flow_control = flow(1000);
            b.flow_control = flow(1000);
            let mut pair = Pair::new(a, b);
            let session = established(&mut pair);
            let reader = other(role);
            pair.end(reader).reads = false;
            let id = pair.end(role).open(session, Dir::Uni).unwrap();
            assert_eq!(pair.end(role).write(id, &[7; 1500], false), 1000);
            pair.run();
            assert_eq!(pair.end(role).write(id, &[7; 500], false), 0);
            let now = pair.now;
            pair.end(reader).conn.stream_consumed(id, 499, now);
            pair.run();
            assert!(!pair
                .end(role)
                .events
                .contains(&Event::SessionWritable { session }));
            pair.end(reader).conn.stream_consumed(id, 501, now);
            pair.run();
            assert!(pair
                .end(role)
                .events
                .contains(&Event::SessionWritable { session }));
            assert_eq!(pair.end(role).write(id, &[7; 500], true), 500);
            pair.run();
            assert_eq!(pair.end(reader).received[&id].0.len(), 1500);
        }
    }
}

#[test]
fn stream_credit_comes_back_as_streams_end() {
    for dialect in [Dialect::Draft07, Dialect::Draft13, Dialect::Draft15] {
        for role in ROLES {
            for dir in DIRS {
                let (mut a, mut b) = configs(&[dialect], &Dialect::ALL);
                a.flow_control = flow(1000);
                b.flow_control = flow(1000);
                let mut pair = Pair::new(a, b);
                let session = established(&mut pair);
                let ids: Vec<_> = (0..4)
                    .map(|_| pair.end(role).open(session, dir).unwrap())
                    .collect();
                let blocked = Err(OpenError::Blocked { session, dir });
                assert_eq!(pair.end(role).open(session, dir), blocked);
                pair.run();
                for &id in &ids {
                    pair.end(role).write(id, b"x", true);
                    pair.run();
                    if dir == Dir::Bidi {
                        pair.end(other(role)).write(id, b"y", true);
                        pair.run();
                    }
                }
                let available = Event::StreamsAvailable { session, dir };
                assert!(pair.end(role).events.contains(&available));
                assert!(pair.end(role).open(session, dir).is_ok());
            }
        }
    }
}

#[test]
fn ten_thousand_streams_pass_through_small_stream_limits() {
    let (mut a, mut b) = configs(&Dialect::ALL, &Dialect::ALL);
    a.flow_control = flow(64);
    b.flow_control = flow(64);
    let mut pair = Pair::new(a, b);
    let session = established(&mut pair);
    for _ in 0..10_000 {
        let id = pair.client.open(session, Dir::Uni).unwrap();
        pair.client.write(id, &[1; 48], true);
        pair.run();
    }
    assert_eq!(pair.server.received.len(), 10_000);
    assert_eq!(pair.server.conn.stats().streams, 3);
}

#[test]
fn a_reset_stream_returns_the_credit_of_payload_that_was_never_read() {
    let (mut a, mut b) = configs(&Dialect::ALL, &Dialect::ALL);
    a.flow_control = flow(100);
    b.flow_control = flow(100);
    let mut pair = Pair::new(a, b);
    let session = established(&mut pair);
    pair.server.reads = false;
    for _ in 0..50 {
        let id = pair.client.open(session, Dir::Uni).unwrap();
        assert_eq!(pair.client.write(id, &[1; 60], false), 60);
        pair.run();
        pair.client.conn.reset_stream(id, 3);
        pair.run();
    }
}

#[test]
fn sessions_end_with_the_connection() {
    each_pair(|pair, _| {
        let session = established(pair);
        let code = pywt_core::wire::codes::app_error_to_http(77);
        pair.client.conn.handle_closed(Some(code), "gone");
        pair.run();
        assert_eq!(pair.client.session_end(session), Some((77, "gone")));
        assert!(pair.client.conn.is_closed());
    });
}

#[test]
fn lingering_connect_streams_end_after_the_close_timeout() {
    let mut pair = Pair::new(Config::client(), Config::server());
    let session = established(&mut pair);
    pair.client
        .conn
        .close_session(session, 1, "x", pair.now)
        .unwrap();
    // The capsule is never delivered: the server gives no credit.
    assert!(!pair.client.conn.is_idle());
    let due = pair.client.conn.poll_timeout().unwrap();
    assert_eq!(due, pair.now + Duration::from_secs(2));
    pair.client.conn.handle_timeout(due);
    assert!(pair.client.conn.is_idle());
}

fn other(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}
