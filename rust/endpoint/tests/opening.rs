//! How a connection begins: the request that leaves with the handshake, and what does not wait.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Pair, Setup};
use pywt_endpoint::core::{Config, Dialect, Error as CoreError, Request};
use pywt_endpoint::quic::TransportOptions;
use pywt_endpoint::{ConnectionOptions, Error, Notification};

fn request(path: &str) -> Request {
    Request {
        authority: "localhost:4433".into(),
        path: path.into(),
        ..Request::default()
    }
}

#[test]
fn a_request_made_early_leaves_with_the_handshake() {
    let mut pair = Pair::new(&Setup::default());
    let start = pair.now;
    let opened = pair
        .client
        .call(|c| c.open_session(request("/early"), start));
    assert_eq!(opened, Ok(0));
    pair.settle();
    assert_eq!(pair.client.take(), [Notification::Connected]);
    assert!(matches!(
        pair.server.take().as_slice(),
        [Notification::Connected, Notification::SessionRequested { session: 0, path, .. }]
            if path == "/early"
    ));
    pair.accept(0);
    // There, back, and there: nobody waited for an answer to the handshake's end.
    let second = pair.now;
    let opened = pair
        .client
        .call(|c| c.open_session(request("/second"), second));
    assert_eq!(opened, Ok(4));
}

#[test]
fn an_early_request_that_cannot_be_sent_is_refused_at_once() {
    let mut pair = Pair::new(&Setup::default());
    let now = pair.now;
    let refused = pair
        .client
        .call(|c| c.open_session(request("no slash"), now));
    assert!(matches!(
        refused,
        Err(Error::Protocol(CoreError::InvalidField { .. }))
    ));
    let opened = pair.client.call(|c| c.open_session(request("/early"), now));
    assert_eq!(opened, Ok(0));
    let another = pair
        .client
        .call(|c| c.open_session(request("/another"), now));
    assert_eq!(another, Err(Error::Closed));
}

#[test]
fn an_early_request_that_finds_no_stream_is_told() {
    let transport = TransportOptions {
        max_streams_bidi: 0,
        ..TransportOptions::default()
    };
    let setup = Setup {
        server_transport: transport,
        ..Setup::default()
    };
    let mut pair = Pair::new(&setup);
    let now = pair.now;
    let opened = pair.client.call(|c| c.open_session(request("/early"), now));
    assert_eq!(opened, Ok(0));
    pair.settle();
    assert!(matches!(
        pair.client.take().as_slice(),
        [
            Notification::Connected,
            Notification::SessionRejected { session: 0, status: 0, reason, .. }
        ] if reason.contains("no further request stream")
    ));
    let kept = pair
        .client
        .call(|c| Ok((c.kept().sessions, c.core().stats().sessions)));
    assert_eq!(kept, Ok((0, 0)));
}

#[test]
fn packets_that_nobody_adds_to_do_not_wait_for_the_telling() {
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    pair.client
        .call(|c| c.close_session(0, 7, "over", now))
        .unwrap();
    assert!(pair.client.endpoint.wants_prompt_transmit());
    let mut buffer = Vec::new();
    let sent = pair
        .client
        .endpoint
        .poll_transmit(now, true, |_| 1, &mut buffer);
    assert!(sent.is_some());
    // Having had its turn, it waits with the others for the next.
    assert!(!pair.client.endpoint.wants_prompt_transmit());
    assert!(pair.client.endpoint.wants_transmit());
    assert!(matches!(
        pair.client.endpoint.poll_notification(),
        Some((_, Notification::SessionClosed { code: 7, .. }))
    ));
}

#[test]
fn the_last_facts_come_with_the_end() {
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    pair.client
        .call(|c| {
            c.close(0x100, "bye", now);
            Ok(())
        })
        .unwrap();
    pair.advance(Duration::from_secs(5));
    let told = pair.server.take();
    let Some(Notification::Closed(_, Some(epilogue))) = told.last() else {
        panic!("{told:?}");
    };
    assert_eq!(epilogue.remote, pair.client.address);
    assert!(epilogue.stats.quic.packets_received > 0);
    assert_eq!(epilogue.stats.core.sessions_established, 1);
}

#[test]
fn a_client_that_does_not_go_on_is_sent_away() {
    // One whose handshake stops, and one that is content with a connection.
    for lost_after in [1, u64::MAX] {
        let mut setup = Setup::default();
        setup.server.first_session_timeout = Duration::from_secs(6);
        setup.client_transport.keep_alive_interval = Some(Duration::from_secs(1));
        let mut pair = Pair::new(&setup);
        pair.drop_if = Box::new(move |number| number > lost_after);
        pair.advance(Duration::from_secs(5));
        assert_eq!(pair.server.endpoint.connections(), 1);
        pair.advance(Duration::from_secs(6));
        assert_eq!(pair.server.endpoint.connections(), 0);
        let told = pair.server.take();
        let reason = "no session was requested within 6 s";
        assert!(told.iter().any(|told| match told {
            Notification::Closed(close, _) => lost_after == 1 || close.reason == reason,
            _ => false,
        }));
    }
}

#[test]
fn the_deadline_for_settings_starts_when_the_handshake_ends() {
    let mut setup = Setup::default();
    setup.server.handshake_timeout = Duration::from_secs(60);
    let mut pair = Pair::new(&setup);
    // All but the first packet of both sides is lost for longer than SETTINGS may take.
    pair.drop_if = Box::new(|number| number > 2);
    pair.advance(Duration::from_secs(8));
    pair.drop_if = Box::new(|_| false);
    // Longer than they may take, and shorter than the server waits for a request.
    pair.advance(Duration::from_secs(8));
    assert_eq!(pair.client.take(), [Notification::Connected]);
    assert_eq!(pair.server.take(), [Notification::Connected]);
}

#[test]
fn strict_ends_speak_the_latest_draft() {
    let strict = |mut config: Config| {
        config.strict = true;
        ConnectionOptions::new(config)
    };
    let setup = Setup {
        client: strict(Config::client()),
        server: strict(Config::server()),
        ..Setup::default()
    };
    let mut pair = Pair::new(&setup);
    let now = pair.now;
    let opened = pair.client.call(|c| c.open_session(request("/x"), now));
    assert_eq!(opened, Ok(0));
    pair.settle();
    assert_eq!(pair.client.take(), [Notification::Connected]);
    assert!(matches!(
        pair.server.take().as_slice(),
        [
            Notification::Connected,
            Notification::SessionRequested {
                dialect: Dialect::Draft15,
                ..
            }
        ]
    ));
    pair.accept(0);
}
