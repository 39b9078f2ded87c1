//! Whatever the peer sends and the application does: nothing panics, each session ends once,
//! counters stay within their limits, and payload arrives whole.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use pywt_core::wire::codes::{capsule, frame, stream};
use pywt_core::{Action, Config, Dialect, Dir, Event, FlowControl, OpenError, Response, Role};
use support::pair::Pair;
use support::*;

/// Bytes that look like something, so that random input reaches past the first check.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..24),
        any::<u64>().prop_map(|value| varint_of(value >> 2)),
        any::<u32>().prop_map(long4),
        prop::sample::select(vec![
            vec![stream::CONTROL as u8],
            vec![stream::QPACK_ENCODER as u8],
            vec![stream::QPACK_DECODER as u8],
            stream_head(Dir::Uni, 0),
            stream_head(Dir::Bidi, 0),
            stream_head(Dir::Bidi, 4),
            settings_frame(&peer_settings(Dialect::Draft02)),
            settings_frame(&flow_settings(Dialect::Draft15, 10)),
            connect_request("webtransport"),
            connect_request("webtransport-h3"),
            headers(&[(":status", "200")]),
            headers(&[(":status", "404")]),
            headers(&[("trailer", "x")]),
            data_frame(&capsule_of(capsule::WT_CLOSE_SESSION, b"\0\0\0\x01bye")),
            data_frame(&capsule_of(capsule::WT_DRAIN_SESSION, b"")),
            data_frame(&capsule_of(capsule::WT_MAX_DATA, &[20])),
            data_frame(&capsule_of(capsule::WT_MAX_STREAMS_BIDI, &[20])),
            capsule_of(capsule::WT_CLOSE_SESSION, b"\0\0\0\x01raw"),
            frame_head(frame::DATA, 5),
            frame_head(frame::DATA, 1 << 40),
            frame_of(frame::GOAWAY, &[4]),
        ]),
    ]
}

#[derive(Clone, Debug)]
enum Input {
    Data {
        stream: u64,
        bytes: Vec<u8>,
        fin: bool,
    },
    Count {
        stream: u64,
        len: u64,
        fin: bool,
    },
    Reset {
        stream: u64,
        code: u64,
        size: u64,
    },
    Stop {
        stream: u64,
        code: u64,
    },
    Datagram(Vec<u8>),
    Time(u64),
    Verb {
        verb: u8,
        id: u64,
        number: u64,
    },
    Closed,
}

fn input() -> impl Strategy<Value = Input> {
    let stream = || 0u64..24;
    prop_oneof![
        8 => (stream(), vec(piece(), 0..4), any::<bool>(), 0..4u8).prop_map(
            |(stream, pieces, fin, odds)| Input::Data {
                stream,
                bytes: pieces.concat(),
                fin: fin && odds == 0,
            }
        ),
        1 => (stream(), 0..100u64, any::<bool>())
            .prop_map(|(stream, len, fin)| Input::Count { stream, len, fin }),
        1 => (stream(), any::<u64>(), any::<u64>())
            .prop_map(|(stream, code, size)| Input::Reset { stream, code, size }),
        1 => (stream(), any::<u64>()).prop_map(|(stream, code)| Input::Stop { stream, code }),
        1 => piece().prop_map(Input::Datagram),
        1 => (0..20_000u64).prop_map(Input::Time),
        4 => (any::<u8>(), stream(), any::<u64>())
            .prop_map(|(verb, id, number)| Input::Verb { verb, id, number }),
        1 => (0..20u8).prop_map(|odds| if odds == 0 { Input::Closed } else { Input::Time(1) }),
    ]
}

fn apply(bench: &mut Bench, input: Input) {
    let now = bench.now;
    match input {
        Input::Data { stream, bytes, fin } => bench.recv_with(stream, &bytes, fin),
        Input::Count { stream, len, fin } => bench.conn.handle_stream_bytes(stream, len, fin, now),
        Input::Reset { stream, code, size } => {
            bench.conn.handle_stream_reset(stream, code, size, now);
        }
        Input::Stop { stream, code } => bench.stop(stream, code),
        Input::Datagram(bytes) => bench.datagram(&bytes),
        Input::Time(millis) => bench.advance(Duration::from_millis(millis)),
        Input::Verb { verb, id, number } => verb_of(bench, verb, id, number),
        Input::Closed => bench.conn.handle_closed(None, "lost"),
    }
    bench.drain();
}

fn verb_of(bench: &mut Bench, verb: u8, id: u64, number: u64) {
    let (now, conn) = (bench.now, &mut bench.conn);
    let dir = if number.is_multiple_of(2) {
        Dir::Bidi
    } else {
        Dir::Uni
    };
    let code = number as u32;
    match verb % 16 {
        0 => drop(conn.connect(id, request(), now)),
        1 | 2 => drop(conn.accept(id, Response::default(), now)),
        3 => drop(conn.reject(id, 404, &[], now)),
        4 => drop(conn.close_session(id, code, "done", now)),
        5 => drop(conn.drain_session(id)),
        6 => drop(conn.goaway()),
        7 => drop(conn.check_open(id, dir)),
        8 | 9 => drop(conn.open_stream(number % 24 / 4 * 4, id, dir)),
        10 => drop(conn.reserve_send(id, number % 100)),
        11 => conn.stream_consumed(id, number % 100, now),
        12 => conn.stream_finished(id),
        13 => conn.reset_stream(id, code),
        14 => conn.stop_stream(id, code),
        _ => conn.stream_gone(id),
    }
}

/// What must hold whatever happened.
fn check(bench: &Bench, config: &Config) {
    let limits = &config.limits;
    let stats = bench.conn.stats();
    assert!(stats.early_streams <= limits.max_early_streams);
    assert!(stats.early_stream_bytes <= limits.max_early_stream_bytes);
    assert!(stats.early_datagrams <= limits.max_early_datagrams);
    assert!(stats.sessions as u64 <= limits.max_sessions);
    let mut ends = HashMap::new();
    let mut over = Vec::new();
    for event in &bench.events {
        match event {
            Event::SessionClosed { session, .. } | Event::SessionRejected { session, .. } => {
                *ends.entry(*session).or_insert(0) += 1;
                over.push(*session);
            }
            // The peer of these tests may use a stream id twice; an end starts it anew.
            Event::SessionRequested { session, .. } => over.retain(|id| id != session),
            Event::SessionEstablished { session, .. } | Event::SessionDraining { session } => {
                assert!(!over.contains(session), "event after the end");
            }
            Event::StreamOpened { session, .. } | Event::DatagramReceived { session, .. } => {
                assert!(!over.contains(session), "event after the end");
            }
            _ => {}
        }
    }
    if bench.conn.is_closed() {
        assert_eq!((stats.sessions, stats.streams), (0, 0));
        assert_eq!(bench.conn.poll_timeout(), None);
    }
}

fn config(role: Role, strict: bool, flow: bool) -> Config {
    let mut config = match role {
        Role::Client => Config::client(),
        Role::Server => Config::server(),
    };
    config.strict = strict;
    config.limits.max_early_streams = 3;
    config.limits.max_early_stream_bytes = 50;
    config.limits.max_early_datagrams = 2;
    config.limits.max_sessions = 3;
    config.limits.max_requests = 3;
    if flow {
        config.flow_control = FlowControl {
            initial_max_data: 64,
            initial_max_streams_bidi: 4,
            initial_max_streams_uni: 4,
            max_data_window: 128,
            max_streams_window: 8,
        };
    }
    config
}

/// A failing case is kept as a test of its own, not as a seed beside this file.
fn settings() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn roles() -> impl Strategy<Value = Role> {
    prop::sample::select(vec![Role::Client, Role::Server])
}

proptest! {
    #![proptest_config(settings())]

    /// No sequence of input and verbs panics or breaks an invariant.
    #[test]
    fn any_input_is_survived(
        role in roles(),
        strict in any::<bool>(),
        flow in any::<bool>(),
        greeted in prop::option::of(0..4usize),
        inputs in vec(input(), 0..60),
    ) {
        let config = config(role, strict, flow);
        let mut bench = Bench::new(config.clone());
        if let Some(dialect) = greeted {
            let settings = flow_settings(Dialect::ALL[dialect], 20);
            let control = if role == Role::Server { CLIENT_CONTROL } else { SERVER_CONTROL };
            bench.recv(control, &control_stream(&settings));
            match role {
                Role::Server => bench.request_session(0),
                Role::Client => drop(bench.conn.connect(0, request(), bench.now)),
            }
        }
        for input in inputs {
            apply(&mut bench, input);
            check(&bench, &config);
        }
    }

    /// A stream of bytes means the same however it is cut.
    #[test]
    fn cuts_do_not_matter(
        stream in prop::sample::select(vec![0u64, 4, 2, 14]),
        pieces in vec(piece(), 0..8),
        cuts in vec(1..9usize, 1..8),
        fin in any::<bool>(),
    ) {
        let bytes = pieces.concat();
        let outcome = |cuts: &[usize]| {
            let mut bench = Bench::silent_server();
            if stream != CLIENT_CONTROL {
                bench.recv(CLIENT_CONTROL, &control_stream(&peer_settings(Dialect::Draft15)));
            }
            if stream != 0 {
                bench.request_session(0);
            }
            if stream != 0 && stream != CLIENT_CONTROL {
                bench.accept(0);
            }
            bench.actions.clear();
            bench.events.clear();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                if rest.len() <= *cut {
                    break;
                }
                bench.recv(stream, &rest[..*cut]);
                rest = &rest[*cut..];
            }
            bench.recv_with(stream, rest, fin);
            let mut payload = Vec::new();
            let mut events = Vec::new();
            for event in bench.take_events() {
                match event {
                    Event::StreamData { data, fin, .. } => {
                        payload.extend_from_slice(&data);
                        if fin {
                            payload.push(0xff);
                        }
                    }
                    other => events.push(other),
                }
            }
            // A stream that ended with its first bytes need not be stopped.
            let mut actions = bench.take_actions();
            actions.retain(|action| !(fin && matches!(action, Action::StopSending { .. })));
            (payload, events, actions)
        };
        prop_assert_eq!(outcome(&[usize::MAX]), outcome(&cuts));
    }
}

/// What the applications at both ends do.
#[derive(Clone, Debug)]
enum Step {
    Open {
        role: bool,
        uni: bool,
    },
    Write {
        role: bool,
        which: usize,
        len: usize,
        fin: bool,
    },
    Reset {
        role: bool,
        which: usize,
    },
    Stop {
        role: bool,
        which: usize,
    },
    Datagram {
        role: bool,
    },
    Drain {
        role: bool,
    },
    Close {
        role: bool,
    },
    Run,
    Time,
}

fn step() -> impl Strategy<Value = Step> {
    let role = any::<bool>;
    let which = || 0..8usize;
    prop_oneof![
        6 => (role(), any::<bool>()).prop_map(|(role, uni)| Step::Open { role, uni }),
        10 => (role(), which(), 0..200usize, 0..5u8).prop_map(|(role, which, len, odds)| {
            Step::Write { role, which, len, fin: odds == 0 }
        }),
        2 => (role(), which()).prop_map(|(role, which)| Step::Reset { role, which }),
        2 => (role(), which()).prop_map(|(role, which)| Step::Stop { role, which }),
        2 => role().prop_map(|role| Step::Datagram { role }),
        1 => role().prop_map(|role| Step::Drain { role }),
        1 => (role(), 0..12u8).prop_map(|(role, odds)| match odds {
            0 => Step::Close { role },
            _ => Step::Run,
        }),
        8 => Just(Step::Run),
        1 => Just(Step::Time),
    ]
}

fn role_of(server: bool) -> Role {
    if server {
        Role::Server
    } else {
        Role::Client
    }
}

proptest! {
    #![proptest_config(settings())]

    /// Two well-behaved ends never fault each other, and what one sends the other gets.
    #[test]
    fn two_ends_agree(
        client in 0..5usize,
        flow in any::<bool>(),
        chunk in prop::sample::select(vec![1usize, 3, usize::MAX]),
        steps in vec(step(), 0..80),
    ) {
        let mut a = config(Role::Client, false, flow);
        let mut b = config(Role::Server, false, flow);
        // Nothing of a well-behaved peer may be rejected for want of room.
        a.limits = Default::default();
        b.limits = Default::default();
        if client < 4 {
            a.dialects = vec![Dialect::ALL[client]];
        }
        let mut pair = Pair::new(a, b);
        pair.chunk = chunk;
        let session = pair.establish(request(), Response::default());
        let mut opened = [Vec::new(), Vec::new()];
        let mut sent: HashMap<(bool, u64), Vec<u8>> = HashMap::new();
        let mut cut_short: Vec<u64> = Vec::new();
        let mut closed = false;
        for step in steps {
            let now = pair.now;
            match step {
                Step::Open { role, uni } => {
                    let dir = if uni { Dir::Uni } else { Dir::Bidi };
                    match pair.end(role_of(role)).open(session, dir) {
                        Ok(id) => opened[usize::from(role)].push(id),
                        Err(OpenError::Blocked { .. }) => prop_assert!(flow && client != 0),
                        Err(OpenError::Invalid(_)) => prop_assert!(closed),
                    }
                }
                Step::Write { role, which, len, fin } => {
                    // A stream of one's own, or the other's bidirectional one.
                    let own = opened[usize::from(role)].get(which);
                    let theirs = opened[usize::from(!role)].get(which).filter(|id| *id & 2 == 0);
                    let Some(&id) = own.or(theirs) else { continue };
                    let data: Vec<u8> = (0..len).map(|n| n as u8).collect();
                    let taken = pair.end(role_of(role)).write(id, &data, fin);
                    sent.entry((role, id)).or_default().extend_from_slice(&data[..taken]);
                }
                Step::Reset { role, which } => {
                    let Some(&id) = opened[usize::from(role)].get(which) else { continue };
                    pair.end(role_of(role)).conn.reset_stream(id, 5);
                    cut_short.push(id);
                }
                Step::Stop { role, which } => {
                    let Some(&id) = opened[usize::from(!role)].get(which) else { continue };
                    pair.end(role_of(role)).conn.stop_stream(id, 6);
                    cut_short.push(id);
                }
                Step::Datagram { role } => {
                    if !closed {
                        pair.end(role_of(role)).send_datagram(session, b"d");
                    }
                }
                Step::Drain { role } => {
                    drop(pair.end(role_of(role)).conn.drain_session(session));
                }
                Step::Close { role } => {
                    let end = pair.end(role_of(role));
                    let live = end.conn.session(session).is_some();
                    let result = end.conn.close_session(session, 7, "done", now);
                    prop_assert_eq!(result.is_ok(), live);
                    closed = true;
                }
                Step::Run => pair.run(),
                Step::Time => pair.advance(Duration::from_millis(500)),
            }
        }
        pair.run();
        prop_assert_eq!(&pair.client.closed, &None);
        prop_assert_eq!(&pair.server.closed, &None);
        for role in [Role::Client, Role::Server] {
            let end = pair.end(role);
            let ends = |event: &&Event| matches!(event, Event::SessionClosed { .. });
            prop_assert_eq!(end.events.iter().filter(ends).count(), usize::from(closed));
        }
        if closed {
            // Nothing is left but the control streams.
            prop_assert_eq!(pair.client.conn.stats().streams, 2);
            prop_assert_eq!(pair.server.conn.stats().streams, 2);
            prop_assert!(pair.client.conn.is_idle() && pair.server.conn.is_idle());
        } else {
            for ((role, id), data) in &sent {
                if !cut_short.contains(id) {
                    let end = pair.end(role_of(!role));
                    let received = end.received.get(id).map_or(&[][..], |(bytes, _)| bytes);
                    prop_assert_eq!(Bytes::copy_from_slice(received), data.clone());
                }
            }
        }
    }
}
