//! A beginning on a bad path: every connection gets its session, and none needs long.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Pair, Setup};
use pywt_endpoint::core::{Config, Request, Response};
use pywt_endpoint::{ConnectionOptions, Notification};

/// With the times of the Python package.
fn patient() -> Setup {
    let mut client = Config::client();
    client.limits.settings_timeout = Duration::from_secs(30);
    let mut server = Config::server();
    server.limits.settings_timeout = Duration::from_secs(10);
    let mut server = ConnectionOptions::new(server);
    server.handshake_timeout = Duration::from_secs(30);
    server.first_session_timeout = Duration::from_secs(10);
    Setup {
        client: ConnectionOptions::new(client),
        server,
        ..Setup::default()
    }
}

/// How long a client waits for its session, if it gets one, where of 100 packets so many are lost.
fn time_to_session(seed: u64, loss: u64) -> Duration {
    let mut pair = Pair::new(&patient());
    pair.latency = Duration::from_millis(20);
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    pair.drop_if = Box::new(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) % 100 < loss
    });
    let start = pair.now;
    let request = Request {
        authority: "localhost:4433".into(),
        path: "/".into(),
        ..Request::default()
    };
    pair.client
        .call(|client| client.open_session(request, start))
        .unwrap();
    loop {
        pair.step();
        let now = pair.now;
        for notification in pair.server.take() {
            if let Notification::SessionRequested { session, .. } = notification {
                pair.server
                    .call(|server| server.accept_session(session, Response::default(), now))
                    .unwrap();
            }
        }
        for notification in pair.client.take() {
            match notification {
                Notification::SessionEstablished { .. } => return now - start,
                Notification::Closed(..) => return Duration::MAX,
                _ => {}
            }
        }
    }
}

/// How long 200 beginnings take, the slowest last.
fn times(loss: u64) -> Vec<Duration> {
    let mut times: Vec<_> = (0..200).map(|seed| time_to_session(seed, loss)).collect();
    times.sort_unstable();
    times
}

#[test]
fn a_fifth_of_the_packets_lost_costs_seconds_at_most() {
    let slowest = times(20)[199];
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

#[test]
fn with_three_in_ten_lost_99_of_100_begin_in_seconds() {
    let nearly_slowest = times(30)[197];
    assert!(
        nearly_slowest < Duration::from_secs(6),
        "{nearly_slowest:?}"
    );
}

/// The PINGs of the beginning end with it.
#[test]
fn nothing_is_sent_once_the_session_is_answered() {
    let mut pair = Pair::with_session(&Setup::default());
    pair.advance(Duration::from_secs(2));
    let sent = |pair: &mut Pair| {
        let client = pair.client.call(|c| Ok(c.stats().quic.packets_sent));
        let server = pair.server.call(|c| Ok(c.stats().quic.packets_sent));
        (client.unwrap(), server.unwrap())
    };
    let before = sent(&mut pair);
    pair.advance(Duration::from_secs(5));
    assert_eq!(sent(&mut pair), before);
}
