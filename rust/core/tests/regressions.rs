//! What has brought other implementations down (published advisories): each a bound that holds.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use pywt_core::wire::codes::{capsule, error, frame, grease};
use pywt_core::{Config, Dialect, Dir, Event, Rate, StreamKind};
use support::*;

#[test]
fn close_text_far_above_its_limit_is_refused_by_its_length() {
    // CVE-2026-21434
    let mut bench = Bench::server_session(Dialect::Draft15);
    bench.recv(
        0,
        &data_frame(&frame_head(capsule::WT_CLOSE_SESSION, 100 << 20)),
    );
    bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
}

#[test]
fn a_million_streams_opened_and_closed_return_their_memory() {
    // CVE-2026-21438
    let mut bench = Bench::server_session(Dialect::Draft15);
    let idle = bench.conn.stats().streams;
    let header = bytes::Bytes::from(stream_head(Dir::Uni, 0));
    for n in 0..1_000_000u64 {
        bench
            .conn
            .handle_stream_data(14 + 4 * n, header.clone(), true, bench.now);
        while bench.conn.poll_event().is_some() {}
    }
    assert_eq!(bench.conn.stats().streams, idle);
    assert_eq!(bench.conn.stats().streams_accepted, 1_000_000);
    assert_eq!(bench.conn.session(0).unwrap().streams, 0);
}

#[test]
fn a_hundred_thousand_sessions_return_their_memory() {
    let mut bench = Bench::server();
    let idle = bench.conn.stats();
    for n in 0..100_000 {
        let id = 4 * n;
        bench.now += Duration::from_millis(1);
        bench.request_session(id);
        bench.accept(id);
        bench.recv_fin(id, &[]);
        bench.actions.clear();
        bench.events.clear();
    }
    let stats = bench.conn.stats();
    assert_eq!(
        (stats.sessions, stats.streams),
        (idle.sessions, idle.streams)
    );
    assert!(bench.conn.is_idle());
}

#[test]
fn an_unknown_capsule_is_drained_not_stored() {
    // CVE-2026-57497
    let mut bench = Bench::server_session(Dialect::Draft15);
    bench.recv(0, &data_frame(&frame_head(0x1717, (1 << 62) - 1)));
    let chunk = bytes::Bytes::from(data_frame(&vec![0; 1 << 20]));
    for _ in 0..256 {
        bench
            .conn
            .handle_stream_data(0, chunk.clone(), false, bench.now);
    }
    bench.drain();
    bench.assert_quiet();
    assert_eq!(bench.events, []);
}

fn rate(burst: u32) -> Rate {
    Rate {
        burst,
        per_second: 1,
    }
}

#[test]
fn rapid_reset_is_counted() {
    // CVE-2023-44487
    let mut config = Config::server();
    config.limits.resets = rate(100);
    // Streams of a session, requests, streams that never said what they are.
    let openings: [Vec<u8>; 3] = [
        stream_head(Dir::Bidi, 0),
        connect_request("webtransport"),
        vec![0x40],
    ];
    for opening in openings {
        let mut bench = Bench::server_with(config.clone(), Dialect::Draft02).with_session();
        for n in 1..=100 {
            bench.recv(4 * n, &opening);
            bench.reset(4 * n, error::H3_REQUEST_CANCELLED);
            // The application ends its side of a stream it knows.
            bench.conn.stream_finished(4 * n);
        }
        assert_eq!(bench.connection_error(), None);
        assert_eq!(bench.conn.stats().streams, 3);
        bench.recv(404, &opening);
        bench.reset(404, error::H3_REQUEST_CANCELLED);
        bench.assert_connection_error(error::H3_EXCESSIVE_LOAD);
    }
    // At a rate that is allowed it goes on for ever.
    let mut bench = Bench::server_with(config, Dialect::Draft02);
    for n in 0..1000 {
        bench.now += Duration::from_secs(1);
        bench.reset(4 * n, 0);
    }
    assert_eq!(bench.connection_error(), None);
}

#[test]
fn frames_and_capsules_that_carry_nothing_are_counted() {
    let mut config = Config::server();
    config.limits.idle_frames = rate(100);
    let on_session: [Vec<u8>; 3] = [
        data_frame(&[]),
        frame_of(grease(3), &[]),
        data_frame(&capsule_of(0x1717, &[])),
    ];
    for idle in on_session {
        let mut bench = Bench::server_with(config.clone(), Dialect::Draft02).with_session();
        bench.recv(0, &idle.repeat(100));
        bench.assert_quiet();
        bench.recv(0, &idle);
        bench.assert_connection_error(error::H3_EXCESSIVE_LOAD);
        assert_eq!(bench.closed_events().len(), 1);
    }
    let mut bench = Bench::server_with(config, Dialect::Draft02);
    let idle = frame_of(frame::MAX_PUSH_ID, &[1]);
    bench.recv(CLIENT_CONTROL, &idle.repeat(100));
    bench.assert_quiet();
    bench.recv(CLIENT_CONTROL, &idle);
    bench.assert_connection_error(error::H3_EXCESSIVE_LOAD);
}

#[test]
fn data_for_sessions_never_established_stays_bounded() {
    let limits = Config::server().limits;
    let mut bench = Bench::server_for(Dialect::Draft15);
    for n in 0..10_000 {
        let id = 14 + 4 * n;
        bench.recv(id, &[stream_head(Dir::Uni, 4 * n), vec![0; 1000]].concat());
        bench.datagram(&[varint_of(n), vec![0; 1000]].concat());
        // QUIC tells when a rejected stream is gone.
        for action in bench.take_actions() {
            if let pywt_core::Action::StopSending { id, .. } = action {
                bench.conn.stream_gone(id);
            }
        }
    }
    let stats = bench.conn.stats();
    assert_eq!(stats.early_streams, limits.max_early_streams);
    assert!(stats.early_stream_bytes <= limits.max_early_stream_bytes);
    assert!(stats.early_datagrams <= limits.max_early_datagrams);
    assert_eq!(stats.streams, 2 + limits.max_early_streams);
}

#[test]
fn requests_never_answered_by_the_client_side_stay_bounded() {
    // Each is answered 404 and never ended by the peer.
    let get = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a"),
        (":path", "/"),
    ];
    let max = Config::server().limits.max_requests as u64;
    let mut bench = Bench::server();
    for n in 0..max {
        bench.recv(4 * n, &headers(&get));
    }
    bench.assert_quiet();
    bench.recv(4 * max, &headers(&get));
    bench.assert_stream_error(4 * max, error::H3_REQUEST_REJECTED);
    bench.advance(Config::server().limits.close_timeout);
    assert!(bench.conn.is_idle());
    bench.actions.clear();
    bench.recv(4 * max + 4, &headers(&get));
    bench.assert_quiet();
}

#[test]
fn after_the_connection_closed_nothing_happens_any_more() {
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.recv(CLIENT_CONTROL, &frame_of(frame::DATA, &[]));
    bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
    assert_eq!(bench.closed_events().len(), 1);
    bench.actions.clear();
    bench.events.clear();
    bench.recv_fin(CLIENT_CONTROL, &[]);
    bench.recv(4, &connect_request("webtransport"));
    bench.datagram(&[]);
    bench.reset(0, 0);
    bench.stop(0, 0);
    bench.advance(Duration::from_secs(60));
    bench.conn.handle_closed(Some(0x100), "");
    bench.drain();
    assert_eq!((bench.actions.len(), bench.events.len()), (0, 0));
    let closed = Err(pywt_core::Error::ConnectionClosed);
    assert_eq!(bench.conn.close_session(0, 0, "", bench.now), closed);
    assert_eq!(bench.conn.goaway(), closed);
    assert_eq!(bench.conn.stream_kind(0), StreamKind::Unknown);
    assert_eq!(bench.conn.poll_timeout(), None);
}

#[test]
fn an_idle_connection_is_small() {
    // The map of streams and the queues come on top; all of it is a few kilobytes.
    assert!(std::mem::size_of::<pywt_core::Connection>() <= 1024);
    let bench = Bench::server_session(Dialect::Draft02);
    assert_eq!(bench.conn.stats().streams, 3);
}

#[test]
fn pulled_payload_is_counted_like_pushed() {
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.recv(4, &[stream_head(Dir::Bidi, 0), b"first".to_vec()].concat());
    assert_eq!(bench.conn.stream_kind(4), StreamKind::Session(0));
    bench.events.clear();
    bench.conn.handle_stream_bytes(4, 1000, false, bench.now);
    bench.conn.handle_stream_bytes(4, 24, true, bench.now);
    bench.drain();
    assert_eq!(bench.events, []);
    assert_eq!(bench.conn.stats().bytes_received, 1029);
    bench.conn.stream_finished(4);
    assert_eq!(bench.conn.stream_kind(4), StreamKind::Unknown);
    // While held, what the driver keeps is counted under the early limits.
    let mut bench = Bench::server_for(Dialect::Draft02);
    bench.recv(4, &[stream_head(Dir::Bidi, 0), b"first".to_vec()].concat());
    assert_eq!(bench.conn.stream_kind(4), StreamKind::Held);
    bench.conn.handle_stream_bytes(4, 100, true, bench.now);
    assert_eq!(bench.conn.stats().early_stream_bytes, 105);
    bench.request_session(0);
    bench.events.clear();
    bench.accept(0);
    let data = bytes::Bytes::from_static(b"first");
    let opened = Event::StreamOpened {
        session: 0,
        stream: 4,
        dir: Dir::Bidi,
    };
    let first = Event::StreamData {
        stream: 4,
        data,
        fin: false,
    };
    assert_eq!(bench.events, [opened, first]);
    assert_eq!(bench.conn.stats().bytes_received, 105);
}

#[test]
fn one_streams_end_in_one_direction_leaves_the_other() {
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.recv_fin(4, &stream_head(Dir::Bidi, 0));
    assert_eq!(bench.conn.reserve_send(4, 10), 10);
    bench.conn.reset_stream(4, 1);
    bench.conn.reset_stream(4, 2);
    bench.drain();
    assert_eq!(bench.actions.len(), 1);
    assert_eq!(bench.conn.reserve_send(4, 10), 0);
    assert_eq!(bench.conn.stream_kind(4), StreamKind::Unknown);
}
