//! The conformance checklist: unidirectional (UNI) and bidirectional (BID) streams. Each test is named after its row:
//! bytes in, required code out.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use pywt_core::wire::codes::{error, grease, setting};
use pywt_core::{Config, Dialect, Dir, Event, StreamKind, Transport};
use support::*;

const UNI: u64 = 14;

#[test]
fn uni_01_unknown_unidirectional_type() {
    for ty in [grease(0), grease(1 << 30), 0x04, 0x41, 0x55] {
        let mut bench = Bench::server();
        bench.recv(UNI, &[varint_of(ty), b"ignored".to_vec()].concat());
        bench.recv(UNI, &[0; 1000]);
        assert_eq!(bench.connection_error(), None);
        assert_eq!(bench.stop_code(UNI), Some(error::H3_STREAM_CREATION_ERROR));
        bench.recv_fin(UNI, b"end");
        assert_eq!(bench.conn.stream_kind(UNI), StreamKind::Unknown);
    }
}

#[test]
fn uni_02_ends_before_its_type_is_complete() {
    let mut bench = Bench::server();
    bench.recv_fin(UNI, &[]);
    bench.recv_fin(UNI + 4, &[0x40]);
    bench.recv(UNI + 8, &[0xc0, 0, 0]);
    bench.reset(UNI + 8, 0);
    bench.reset(UNI + 12, 0);
    bench.assert_quiet();
    assert_eq!(bench.conn.stats().streams, 2);
}

#[test]
fn uni_03_header_split_and_not_minimal() {
    let mut bench = Bench::server_session(Dialect::Draft15);
    let header = hex("c000000000000054c000000000000000");
    bench.recv_bytewise(UNI, &header);
    assert_eq!(
        bench.events,
        [Event::StreamOpened {
            session: 0,
            stream: UNI,
            dir: Dir::Uni
        }]
    );
    bench.recv_fin(UNI, b"body");
    assert!(
        matches!(&bench.events[1], Event::StreamData { data, fin: true, .. } if data == "body")
    );
    bench.assert_quiet();
}

#[test]
fn uni_04_bad_session_id() {
    for id in [1, 2, 3, 5] {
        let mut bench = Bench::server_session(Dialect::Draft02);
        bench.recv(UNI, &stream_head(Dir::Uni, id));
        bench.assert_connection_error(error::H3_ID_ERROR);
    }
}

#[test]
fn uni_05_ends_inside_the_session_id() {
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.recv_fin(UNI, &[0x40, 0x54, 0x40]);
    bench.assert_quiet();
    assert_eq!(bench.conn.stream_kind(UNI), StreamKind::Unknown);
}

#[test]
fn uni_06_unknown_session_is_buffered_under_limits() {
    let mut config = Config::server();
    config.limits.max_early_streams = 3;
    config.limits.max_early_stream_bytes = 100;
    let rejected = error::WT_BUFFERED_STREAM_REJECTED;
    let held = |bench: &mut Bench, id: u64, len: usize| {
        bench.recv(id, &[stream_head(Dir::Uni, 0), vec![1; len]].concat());
    };

    // By count: at the limit all wait, one past it the oldest goes.
    let mut bench = Bench::server_with(config.clone(), Dialect::Draft15);
    (0..3).for_each(|n| held(&mut bench, UNI + 4 * n, 1));
    bench.assert_quiet();
    held(&mut bench, UNI + 12, 1);
    assert_eq!(bench.stop_code(UNI), Some(rejected));
    assert_eq!(bench.stop_code(UNI + 4), None);
    assert_eq!(bench.conn.stats().early_streams, 3);

    // By bytes.
    let mut bench = Bench::server_with(config.clone(), Dialect::Draft15);
    held(&mut bench, UNI, 60);
    held(&mut bench, UNI + 4, 40);
    bench.assert_quiet();
    bench.recv(UNI + 4, &[1]);
    assert_eq!(bench.stop_code(UNI), Some(rejected));
    assert_eq!(bench.conn.stats().early_stream_bytes, 41);

    // By age.
    let mut bench = Bench::server_with(config.clone(), Dialect::Draft15);
    held(&mut bench, UNI, 5);
    assert_eq!(bench.conn.poll_timeout(), Some(config.limits.early_timeout));
    bench.advance(config.limits.early_timeout - Duration::from_millis(1));
    bench.assert_quiet();
    bench.advance(Duration::from_millis(1));
    assert_eq!(bench.stop_code(UNI), Some(rejected));
    assert_eq!(bench.conn.poll_timeout(), None);

    // In time: it comes out after its session.
    let mut bench = Bench::server_with(config, Dialect::Draft15);
    held(&mut bench, UNI, 5);
    bench.recv_fin(UNI, b"end");
    bench.request_session(0);
    bench.accept(0);
    let opened = Event::StreamOpened {
        session: 0,
        stream: UNI,
        dir: Dir::Uni,
    };
    let at = bench
        .events
        .iter()
        .position(|event| *event == opened)
        .unwrap();
    let data = bytes::Bytes::from_static(b"\x01\x01\x01\x01\x01end");
    let payload = Event::StreamData {
        stream: UNI,
        data,
        fin: true,
    };
    assert_eq!(bench.events[at + 1..], [payload]);
    assert_eq!(bench.conn.stats().early_stream_bytes, 0);
}

#[test]
fn uni_07_closed_session() {
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.recv_fin(0, &[]);
    bench.recv(UNI, &stream_head(Dir::Uni, 0));
    assert_eq!(bench.stop_code(UNI), Some(error::WT_SESSION_GONE));
    bench.recv(4, &stream_head(Dir::Bidi, 0));
    bench.assert_stream_error(4, error::WT_SESSION_GONE);
}

#[test]
fn uni_08_webtransport_was_not_negotiated() {
    let mut config = Config::server();
    config.strict = true;
    let mut bench = Bench::new(config);
    bench.recv(
        CLIENT_CONTROL,
        &control_stream(&[(setting::H3_DATAGRAM, 1)]),
    );
    assert_eq!(bench.conn.dialect(), None);
    bench.recv(UNI, &stream_head(Dir::Uni, 0));
    assert_eq!(bench.stop_code(UNI), Some(error::H3_STREAM_CREATION_ERROR));
    assert_eq!(bench.connection_error(), None);
}

#[test]
fn bid_01_webtransport_signal_on_a_client_stream() {
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.recv(4, &hex("40410068656c6c6f"));
    bench.assert_quiet();
    assert_eq!(
        bench.events[0],
        Event::StreamOpened {
            session: 0,
            stream: 4,
            dir: Dir::Bidi
        }
    );
    assert!(
        matches!(&bench.events[1], Event::StreamData { stream: 4, data, .. } if data == "hello")
    );
    for id in [1, 2, 3] {
        let mut bench = Bench::server_session(Dialect::Draft02);
        bench.recv(4, &stream_head(Dir::Bidi, id));
        bench.assert_connection_error(error::H3_ID_ERROR);
    }
}

#[test]
fn bid_02_signal_in_the_wrong_place() {
    let signal = stream_head(Dir::Bidi, 0);
    // After another frame.
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.recv(4, &[frame_of(grease(0), b"x"), signal.clone()].concat());
    bench.assert_connection_error(error::H3_FRAME_ERROR);
    // On the control stream.
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.recv(CLIENT_CONTROL, &signal);
    bench.assert_connection_error(error::H3_FRAME_ERROR);
    // On a CONNECT stream.
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.recv(0, &signal);
    bench.assert_connection_error(error::H3_FRAME_ERROR);
}

#[test]
fn bid_03_server_stream_outside_webtransport() {
    // Before anything was negotiated.
    let mut bench = Bench::silent_client();
    bench.recv(1, &stream_head(Dir::Bidi, 0));
    bench.assert_connection_error(error::H3_STREAM_CREATION_ERROR);
    // Not a WebTransport stream.
    let mut bench = Bench::client_session(Dialect::Draft02);
    bench.recv(1, &headers(&[(":status", "200")]));
    bench.assert_connection_error(error::H3_STREAM_CREATION_ERROR);
    let mut bench = Bench::client_session(Dialect::Draft02);
    bench.recv(1, &stream_head(Dir::Bidi, 0));
    bench.assert_quiet();
}

#[test]
fn bid_04_signal_not_minimal() {
    for signal in [long4(0x41), long8(0x41)] {
        let mut bench = Bench::server_session(Dialect::Draft07);
        bench.recv_bytewise(4, &[signal, long8(0), b"x".to_vec()].concat());
        bench.assert_quiet();
        assert_eq!(bench.conn.stream_kind(4), StreamKind::Session(0));
    }
}

#[test]
fn bid_05_reset_around_the_header() {
    // Before the header is complete: nobody's stream.
    let mut bench = Bench::server_session(Dialect::Draft15);
    bench.recv(4, &[0x40]);
    bench.reset(4, 7);
    assert_eq!(bench.connection_error(), None);
    assert_eq!(bench.events, []);
    assert_eq!(bench.reset_code(4), Some(error::H3_REQUEST_CANCELLED));
    // The header was delivered reliably: the session gets the stream, then the reset.
    let raw = pywt_core::wire::codes::app_error_to_http(7);
    bench.recv(8, &stream_head(Dir::Bidi, 0));
    bench.reset(8, raw);
    let opened = Event::StreamOpened {
        session: 0,
        stream: 8,
        dir: Dir::Bidi,
    };
    let reset = Event::StreamReset {
        stream: 8,
        code: Some(7),
        raw,
    };
    assert_eq!(bench.take_events(), [opened.clone(), reset.clone()]);
    // The same while the session is not established.
    let mut bench = Bench::server_for(Dialect::Draft15);
    bench.recv(8, &stream_head(Dir::Bidi, 0));
    bench.reset(8, raw);
    bench.request_session(0);
    bench.events.clear();
    bench.accept(0);
    assert_eq!(bench.events, [opened, reset]);
}

/// webtrans-http3-16 §4.4.
#[test]
fn a_reset_keeps_the_header_and_a_byte_more_if_there_is_one() {
    for (dialect, resets_at) in [(Dialect::Draft15, true), (Dialect::Draft07, false)] {
        let mut config = Config::server();
        config.limits.close_timeout = Duration::from_secs(1);
        let facts = Transport {
            local_reset_stream_at: resets_at,
            ..transport()
        };
        let mut bench = Bench::over(config, facts);
        bench.recv(CLIENT_CONTROL, &control_stream(&peer_settings(dialect)));
        let mut bench = bench.with_session();
        for (id, dir) in [
            (7, Dir::Uni),
            (11, Dir::Uni),
            (15, Dir::Uni),
            (1, Dir::Bidi),
        ] {
            bench.conn.open_stream(0, id, dir).unwrap();
        }
        assert_eq!(bench.conn.reserve_send(11, 10), 10);
        assert_eq!(bench.conn.reserve_send(15, 10), 10);
        bench.conn.release_send(15, 10);
        let header = stream_head(Dir::Uni, 0).len() as u64;
        for (id, reliable) in [(7, header), (11, header + 1), (15, header)] {
            bench.conn.reset_stream(id, 5);
            bench.drain();
            let expected = if resets_at { reliable } else { 0 };
            assert_eq!(bench.reliable_size(id), Some(expected), "stream {id}");
        }
        // The peer's own stream has a header of the peer's; the CONNECT stream has none.
        bench.recv(4, &stream_head(Dir::Bidi, 0));
        bench.conn.reset_stream(4, 5);
        // The end of the session resets what is open, reliably too.
        bench.reset(0, error::H3_REQUEST_CANCELLED);
        let expected = if resets_at { header } else { 0 };
        assert_eq!(bench.reliable_size(1), Some(expected));
        assert_eq!(bench.reliable_size(4), Some(0));
        assert_eq!(bench.reliable_size(0), Some(0));
    }
}

/// reliable-stream-reset-10 §6: what the peer has stopped need not arrive.
#[test]
fn the_answer_to_stop_sending_is_a_plain_reset() {
    let mut bench = Bench::server_session(Dialect::Draft15);
    bench.conn.open_stream(0, 7, Dir::Uni).unwrap();
    bench.stop(7, error::H3_REQUEST_CANCELLED);
    assert_eq!(bench.reliable_size(7), Some(0));
}
