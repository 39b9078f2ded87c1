//! What one more of something costs when there are many of it already.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "time itself is measured"
)]

mod support;

use std::time::{Duration, Instant};

use pywt_core::{Config, Response};
use support::pair::Pair;
use support::request;

const FEW: usize = 100;
const MANY: usize = 8_000;
/// What larger tables cost that do not fit into the processor's caches. Whoever goes through all
/// sessions takes tens of times as long.
const ALLOWED: u32 = 5;

fn opened_beside(pair: &mut Pair, others: usize) {
    while pair.client.conn.stats().sessions < others {
        // Slower than the limit on new sessions.
        pair.advance(Duration::from_secs(1));
        pair.establish(request(), Response::default());
        pair.client.take_events();
        pair.server.take_events();
    }
}

/// The shortest that a session took from its request to its end at both sides.
fn shortest(pair: &mut Pair) -> Duration {
    let life = |pair: &mut Pair| {
        pair.advance(Duration::from_secs(1));
        let started = Instant::now();
        let session = pair.establish(request(), Response::default());
        let now = pair.now;
        pair.client.conn.close_session(session, 0, "", now).unwrap();
        pair.run();
        let elapsed = started.elapsed();
        assert!(pair.client.session_end(session).is_some());
        assert!(pair.server.session_end(session).is_some());
        pair.client.take_events();
        pair.server.take_events();
        elapsed
    };
    (0..100).map(|_| life(pair)).min().unwrap()
}

#[test]
fn a_session_costs_the_same_beside_many_others() {
    let (client, mut server) = (Config::client(), Config::server());
    server.limits.max_sessions = 2 * MANY as u64;
    let mut pair = Pair::new(client, server);
    opened_beside(&mut pair, FEW);
    let few = shortest(&mut pair);
    opened_beside(&mut pair, MANY);
    let many = shortest(&mut pair);
    println!("beside {FEW}: {few:?}, beside {MANY}: {many:?}");
    assert!(
        many < ALLOWED * few,
        "{many:?} beside {MANY}, {few:?} beside {FEW}"
    );
}
