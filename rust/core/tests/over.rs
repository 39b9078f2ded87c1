//! After any sequence of input and verbs, in every dialect and role: a stream whose halves have both
//! ended has no entry, and when the sessions have ended every store is empty.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use pywt_core::wire::codes::{capsule, grease};
use pywt_core::{Action, Config, Dialect, Dir, FlowControl, Role, SessionState, StreamKind};
use support::*;

/// A request that names a header twice that may be there once.
fn malformed() -> Vec<u8> {
    let mut fields = connect_fields("webtransport");
    fields.push(("content-length", "1"));
    headers(&fields)
}

#[derive(Clone, Debug)]
enum Step {
    Data(u64, Vec<u8>, bool),
    Count(u64, u64, bool),
    Reset(u64, u64),
    Stop(u64),
    Gone(u64),
    StoppedGone(u64, u64),
    Datagram(Vec<u8>),
    Time(u64),
    Verb(u8, u64, u64),
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..8),
        prop::sample::select(vec![
            stream_head(Dir::Uni, 0),
            stream_head(Dir::Bidi, 0),
            stream_head(Dir::Uni, 4),
            stream_head(Dir::Bidi, 4),
            stream_head(Dir::Bidi, 8)[..1].to_vec(),
            varint_of(grease(3)),
            connect_request("webtransport"),
            connect_request("webtransport-h3"),
            malformed(),
            headers(&[(":status", "200")]),
            headers(&[(":status", "404")]),
            data_frame(&capsule_of(capsule::WT_CLOSE_SESSION, &[0; 4])),
            data_frame(&capsule_of(capsule::WT_MAX_DATA, &[63])),
        ]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    // Neither the control streams nor those of QPACK: they last as long as the connection.
    let id = || (0..16u64).prop_filter("control", |id| !matches!(id, 2 | 3));
    prop_oneof![
        8 => (id(), vec(piece(), 0..3), prop::bool::weighted(0.3))
            .prop_map(|(id, pieces, fin)| Step::Data(id, pieces.concat(), fin)),
        // A stream of the session, by whoever may open it.
        6 => (id(), 0..30usize, prop::bool::weighted(0.3)).prop_map(|(id, len, fin)| {
            let dir = if id & 2 == 0 { Dir::Bidi } else { Dir::Uni };
            Step::Data(id, [stream_head(dir, 0), vec![7; len]].concat(), fin)
        }),
        1 => (id(), 0..30u64, any::<bool>()).prop_map(|(id, len, fin)| Step::Count(id, len, fin)),
        1 => (id(), 0..40u64).prop_map(|(id, size)| Step::Reset(id, size)),
        1 => id().prop_map(Step::Stop),
        1 => id().prop_map(Step::Gone),
        1 => (id(), 0..40u64).prop_map(|(id, size)| Step::StoppedGone(id, size)),
        1 => vec(0..4u8, 1..4).prop_map(Step::Datagram),
        1 => (0..3_000u64).prop_map(Step::Time),
        6 => (any::<u8>(), id(), any::<u64>()).prop_map(|(verb, id, n)| Step::Verb(verb, id, n)),
    ]
}

/// A connection, and which halves of its streams have ended as far as its driver knows.
struct Watch {
    bench: Bench,
    received: HashSet<u64>,
    sent: HashSet<u64>,
    opened: HashSet<u64>,
}

impl Watch {
    fn is_local(&self, id: u64, role: Role) -> bool {
        (id & 1 == 1) == (role == Role::Server)
    }

    fn apply(&mut self, step: Step, role: Role) {
        let now = self.bench.now;
        let conn = &mut self.bench.conn;
        let exists = |conn: &pywt_core::Connection, id| conn.stream_kind(id) != StreamKind::Unknown;
        match step {
            Step::Data(id, data, fin) => {
                let known = exists(conn, id);
                conn.handle_stream_data(id, data.into(), fin, now);
                if fin && (known || !self.is_local(id, role)) {
                    self.received.insert(id);
                }
            }
            Step::Count(id, len, fin) => {
                let kind = conn.stream_kind(id);
                conn.handle_stream_bytes(id, len, fin, now);
                if fin && matches!(kind, StreamKind::Held | StreamKind::Session(_)) {
                    self.received.insert(id);
                }
            }
            Step::Reset(id, size) => {
                let known = exists(conn, id);
                conn.handle_stream_reset(id, 0, size, now);
                if known || !self.is_local(id, role) {
                    self.received.insert(id);
                }
            }
            Step::Stop(id) => conn.handle_stop_sending(id, 0, now),
            Step::Gone(id) => {
                if exists(conn, id) {
                    self.received.insert(id);
                    self.sent.insert(id);
                }
                conn.stream_gone(id);
            }
            Step::StoppedGone(id, size) => conn.stopped_stream_gone(id, size),
            Step::Datagram(data) => conn.handle_datagram(data.into(), now),
            Step::Time(millis) => self.bench.advance(Duration::from_millis(millis)),
            Step::Verb(verb, id, number) => self.verb(verb, id, number),
        }
        self.drain();
    }

    fn verb(&mut self, verb: u8, id: u64, number: u64) {
        let (now, conn) = (self.bench.now, &mut self.bench.conn);
        let dir = if id & 2 == 0 { Dir::Bidi } else { Dir::Uni };
        // QUIC gives out no id twice.
        let is_new = !self.opened.contains(&id);
        match verb % 12 {
            0 if is_new => {
                if conn.connect(id, request(), now).is_ok() {
                    self.opened.insert(id);
                }
            }
            5 | 6 if is_new => {
                if conn.open_stream(number % 12 / 4 * 4, id, dir).is_ok() {
                    self.opened.insert(id);
                }
            }
            0 | 5 | 6 => {}
            1 | 2 => drop(conn.accept(id, pywt_core::Response::default(), now)),
            3 => drop(conn.reject(id, 404, &[], now)),
            4 => drop(conn.close_session(id, 1, "done", now)),
            7 => drop(conn.reserve_send(id, number % 100)),
            8 => conn.stream_consumed(id, number % 100, now),
            9 => {
                if matches!(conn.stream_kind(id), StreamKind::Session(_)) {
                    self.sent.insert(id);
                }
                conn.stream_finished(id);
            }
            10 => conn.reset_stream(id, 1),
            _ => conn.stop_stream(id, 1),
        }
    }

    fn drain(&mut self) {
        self.bench.drain();
        for action in self.bench.take_actions() {
            match action {
                Action::ResetStream { id, .. } | Action::SendStream { id, fin: true, .. } => {
                    self.sent.insert(id);
                }
                _ => {}
            }
        }
    }

    /// A stream whose halves have both ended has no entry, unless somebody has yet to read it.
    fn check(&mut self, role: Role) {
        for id in 0..16 {
            let is_local = self.is_local(id, role);
            let received = self.received.contains(&id) || (is_local && id & 2 != 0);
            let sent = self.sent.contains(&id) || (!is_local && id & 2 != 0);
            if !received || !sent {
                continue;
            }
            let conn = &mut self.bench.conn;
            conn.stream_consumed(id, u64::MAX, self.bench.now);
            let waits = conn
                .session(id)
                .is_some_and(|session| session.state == SessionState::Connecting);
            match conn.stream_kind(id) {
                StreamKind::Unknown | StreamKind::Held => {}
                StreamKind::Internal if waits => {}
                kind => panic!("stream {id} is over and {kind:?}"),
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_over_leaves_nothing(
        role in prop::sample::select(vec![Role::Client, Role::Server]),
        dialect in prop::sample::select(Dialect::ALL.to_vec()),
        strict in any::<bool>(),
        is_established in prop::bool::weighted(0.8),
        flow in prop::sample::select(vec![
            FlowControl::OFF,
            FlowControl::default(),
            FlowControl {
                initial_max_data: 200,
                initial_max_streams_bidi: 5,
                initial_max_streams_uni: 5,
                max_data_window: 400,
                max_streams_window: 8,
            },
        ]),
        steps in vec(step(), 0..80),
    ) {
        let mut config = match role {
            Role::Client => Config::client(),
            Role::Server => Config::server(),
        };
        config.strict = strict;
        config.flow_control = flow;
        config.limits.max_early_streams = 4;
        config.limits.max_early_stream_bytes = 60;
        let mut bench = Bench::new(config);
        let control = if role == Role::Server { CLIENT_CONTROL } else { SERVER_CONTROL };
        bench.recv(control, &control_stream(&flow_settings(dialect, 30)));
        if is_established && role == Role::Server {
            bench.request_session(0);
            bench.accept(0);
        } else if is_established {
            bench.conn.connect(0, request(), bench.now).unwrap();
            bench.drain();
            bench.recv(0, &headers(&[(":status", "200")]));
        }
        let mut watch = Watch {
            bench,
            received: HashSet::new(),
            sent: HashSet::new(),
            opened: HashSet::from([0]),
        };
        watch.drain();
        for step in steps {
            watch.apply(step, role);
            watch.check(role);
        }
        // After the sessions have ended every store is empty.
        let bench = &mut watch.bench;
        bench.conn.close_all(0, "", bench.now);
        for _ in 0..3 {
            bench.advance(Duration::from_secs(10));
        }
        for id in (0..16).filter(|id| !matches!(id, 2 | 3)) {
            bench.conn.stopped_stream_gone(id, 0);
        }
        let stats = bench.conn.stats();
        prop_assert!(stats.streams <= 4, "{stats:?}");
        prop_assert_eq!((stats.sessions, stats.early_streams, stats.early_datagrams), (0, 0, 0));
        prop_assert_eq!(stats.early_stream_bytes, 0);
        prop_assert!(bench.conn.is_idle());
        prop_assert_eq!(bench.conn.poll_timeout(), None);
    }
}
