//! The conformance checklist: control stream (CTL), SETTINGS (SET), unidirectional (UNI) and
//! bidirectional (BID) streams. Each test is named after its row: bytes in, required code out.

mod support;

use std::time::Duration;

use pywt_core::wire::codes::{error, frame, grease, setting, stream};
use pywt_core::{Config, Dialect, Dir, Event, StreamKind, Transport};
use support::*;

const UNI: u64 = 14;

/// Frame types that HTTP/2 had (RFC 9114 §7.2.8).
const HTTP2_FRAMES: [u64; 4] = [0x02, 0x06, 0x08, 0x09];

#[test]
fn ctl_01_second_control_stream() {
    let mut bench = Bench::server();
    bench.recv(6, &control_stream(&[]));
    bench.assert_connection_error(error::H3_STREAM_CREATION_ERROR);
    for ty in [stream::QPACK_ENCODER, stream::QPACK_DECODER] {
        let mut bench = Bench::server();
        bench.recv(6, &[ty as u8]);
        bench.recv(10, &[ty as u8]);
        bench.assert_connection_error(error::H3_STREAM_CREATION_ERROR);
    }
}

#[test]
fn ctl_02_critical_stream_closed() {
    let open = |ty: u64| {
        let mut bench = Bench::silent_server();
        match ty {
            stream::CONTROL => bench.recv(6, &control_stream(&[])),
            _ => bench.recv(6, &[ty as u8]),
        }
        bench.assert_quiet();
        bench
    };
    for ty in [
        stream::CONTROL,
        stream::QPACK_ENCODER,
        stream::QPACK_DECODER,
    ] {
        let mut bench = open(ty);
        bench.recv_fin(6, &[]);
        bench.assert_connection_error(error::H3_CLOSED_CRITICAL_STREAM);
        let mut bench = open(ty);
        bench.reset(6, 0);
        bench.assert_connection_error(error::H3_CLOSED_CRITICAL_STREAM);
    }
    let mut bench = Bench::server();
    bench.stop(SERVER_CONTROL, 0);
    bench.assert_connection_error(error::H3_CLOSED_CRITICAL_STREAM);
}

#[test]
fn ctl_03_first_control_frame_is_not_settings() {
    let first_frames = [
        frame_of(frame::GOAWAY, &[0]),
        frame_of(grease(7), b"x"),
        frame_of(0x4242, &[]),
        frame_of(frame::MAX_PUSH_ID, &[1]),
        frame_of(frame::DATA, &[]),
    ];
    for first in first_frames {
        let mut bench = Bench::silent_server();
        bench.recv(CLIENT_CONTROL, &[&[0x00], first.as_slice()].concat());
        bench.assert_connection_error(error::H3_MISSING_SETTINGS);
    }
}

#[test]
fn ctl_04_second_settings() {
    let mut bench = Bench::server();
    bench.recv(CLIENT_CONTROL, &settings_frame(&[]));
    bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
}

#[test]
fn ctl_05_control_frames_on_a_request_stream() {
    let types = [
        frame::SETTINGS,
        frame::GOAWAY,
        frame::MAX_PUSH_ID,
        frame::CANCEL_PUSH,
        frame::PRIORITY_UPDATE_REQUEST,
        frame::PRIORITY_UPDATE_PUSH,
    ];
    for ty in types {
        let mut bench = Bench::server();
        bench.recv(0, &frame_of(ty, &[0]));
        bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
        let mut bench = Bench::server_session(Dialect::Draft02);
        bench.recv(0, &frame_of(ty, &[0]));
        bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
    }
}

#[test]
fn ctl_06_request_frames_on_the_control_stream() {
    for ty in [frame::DATA, frame::HEADERS, frame::PUSH_PROMISE] {
        let mut bench = Bench::server();
        bench.recv(CLIENT_CONTROL, &frame_of(ty, &[0, 0]));
        bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
    }
}

#[test]
fn ctl_07_http2_frame_types() {
    for ty in HTTP2_FRAMES {
        let mut bench = Bench::server();
        bench.recv(CLIENT_CONTROL, &frame_of(ty, &[]));
        bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
        let mut bench = Bench::server();
        bench.recv(0, &frame_of(ty, &[]));
        bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
        let mut bench = Bench::server_session(Dialect::Draft15);
        bench.recv(0, &frame_of(ty, &[]));
        bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
    }
}

#[test]
fn ctl_08_unknown_control_frames_are_skipped_without_storing() {
    let mut bench = Bench::server();
    bench.recv(CLIENT_CONTROL, &frame_of(grease(3), b"whatever"));
    bench.recv_bytewise(CLIENT_CONTROL, &frame_of(0x1234_5678, &[9; 300]));
    // Far above any size that would be stored.
    bench.recv(CLIENT_CONTROL, &frame_head(grease(100), 1 << 40));
    for _ in 0..64 {
        bench.recv(CLIENT_CONTROL, &[0; 1 << 16]);
    }
    bench.assert_quiet();
    assert!(!bench.conn.is_closed());
}

#[test]
fn ctl_09_control_stream_one_byte_at_a_time() {
    let mut bench = Bench::silent_server();
    let bytes = [
        long8(stream::CONTROL),
        long8(frame::SETTINGS),
        long4(2),
        vec![setting::H3_DATAGRAM as u8, 1],
        frame_of(grease(1), b"skipped"),
        frame_of(frame::GOAWAY, &[0]),
    ];
    bench.recv_bytewise(CLIENT_CONTROL, &bytes.concat());
    bench.assert_quiet();
    let settings = bench
        .events
        .iter()
        .any(|e| matches!(e, Event::SettingsReceived { .. }));
    assert!(settings && bench.events.contains(&Event::GoawayReceived { id: 0 }));
}

#[test]
fn ctl_10_control_frame_with_wrong_length() {
    for ty in [frame::GOAWAY, frame::MAX_PUSH_ID, frame::CANCEL_PUSH] {
        for payload in [&[][..], &[0x40], &[0, 0], &[0x40, 0, 0], &[0xc0, 0, 0, 0]] {
            let mut bench = Bench::server();
            bench.recv(CLIENT_CONTROL, &frame_of(ty, payload));
            bench.assert_connection_error(error::H3_FRAME_ERROR);
        }
    }
    let mut bench = Bench::silent_server();
    bench.recv(
        CLIENT_CONTROL,
        &[&[0][..], &frame_of(frame::SETTINGS, &[0x33])].concat(),
    );
    bench.assert_connection_error(error::H3_FRAME_ERROR);
}

#[test]
fn ctl_11_stream_ends_inside_a_frame() {
    let request = connect_request("webtransport");
    for cut in 1..request.len() {
        let mut bench = Bench::server();
        bench.recv_fin(0, &request[..cut]);
        bench.assert_connection_error(error::H3_FRAME_ERROR);
    }
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.recv_fin(0, &data_frame(b"")[..1]);
    bench.assert_connection_error(error::H3_FRAME_ERROR);
    // A reset may come anywhere.
    let mut bench = Bench::server();
    bench.recv(0, &request[..9]);
    bench.reset(0, error::H3_REQUEST_CANCELLED);
    assert_eq!(bench.connection_error(), None);
}

#[test]
fn ctl_12_max_push_id() {
    let mut bench = Bench::server();
    bench.recv(CLIENT_CONTROL, &frame_of(frame::MAX_PUSH_ID, &[7]));
    bench.recv(CLIENT_CONTROL, &frame_of(frame::MAX_PUSH_ID, &[7]));
    bench.assert_quiet();
    bench.recv(CLIENT_CONTROL, &frame_of(frame::MAX_PUSH_ID, &[6]));
    bench.assert_connection_error(error::H3_ID_ERROR);
    let mut bench = Bench::client_for(Dialect::Draft02);
    bench.recv(SERVER_CONTROL, &frame_of(frame::MAX_PUSH_ID, &[7]));
    bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
}

#[test]
fn ctl_13_goaway_id() {
    let mut bench = Bench::client_for(Dialect::Draft02);
    bench.recv(SERVER_CONTROL, &frame_of(frame::GOAWAY, &[8]));
    bench.recv(SERVER_CONTROL, &frame_of(frame::GOAWAY, &[4]));
    bench.assert_quiet();
    bench.recv(SERVER_CONTROL, &frame_of(frame::GOAWAY, &[8]));
    bench.assert_connection_error(error::H3_ID_ERROR);
    for id in [1, 2, 3] {
        let mut bench = Bench::client_for(Dialect::Draft02);
        bench.recv(SERVER_CONTROL, &frame_of(frame::GOAWAY, &[id]));
        bench.assert_connection_error(error::H3_ID_ERROR);
    }
    // A client names a push id, which may be any number.
    let mut bench = Bench::server();
    bench.recv(CLIENT_CONTROL, &frame_of(frame::GOAWAY, &[3]));
    bench.assert_quiet();
}

#[test]
fn ctl_14_cancel_push_of_nothing() {
    let mut bench = Bench::server();
    bench.recv(CLIENT_CONTROL, &frame_of(frame::CANCEL_PUSH, &[0]));
    bench.assert_connection_error(error::H3_ID_ERROR);
    let mut bench = Bench::client_for(Dialect::Draft15);
    bench.recv(SERVER_CONTROL, &frame_of(frame::CANCEL_PUSH, &[0]));
    bench.assert_connection_error(error::H3_ID_ERROR);
}

#[test]
fn ctl_15_push_from_a_client() {
    let mut bench = Bench::server();
    bench.recv(0, &frame_of(frame::PUSH_PROMISE, &[0, 0, 0]));
    bench.assert_connection_error(error::H3_FRAME_UNEXPECTED);
    let mut bench = Bench::server();
    bench.recv(UNI, &[stream::PUSH as u8, 0]);
    bench.assert_connection_error(error::H3_STREAM_CREATION_ERROR);
    // And from a server that was never allowed any.
    let mut bench = Bench::client_for(Dialect::Draft02);
    bench.recv(15, &[stream::PUSH as u8, 0]);
    bench.assert_connection_error(error::H3_ID_ERROR);
    let mut bench = Bench::client_asked(Dialect::Draft02);
    bench.recv(0, &frame_of(frame::PUSH_PROMISE, &[0, 0, 0]));
    bench.assert_connection_error(error::H3_ID_ERROR);
}

#[test]
fn ctl_16_frame_longer_than_policy() {
    let config = Config::server();
    let max = config.limits.max_headers_frame_size;
    let mut bench = Bench::server();
    bench.recv(0, &frame_head(frame::HEADERS, max));
    bench.assert_quiet();
    let mut bench = Bench::server();
    bench.recv(0, &frame_head(frame::HEADERS, max + 1));
    bench.assert_connection_error(error::H3_EXCESSIVE_LOAD);

    let max = config.limits.max_control_frame_size;
    let mut bench = Bench::silent_server();
    bench.recv(
        CLIENT_CONTROL,
        &[vec![0], frame_head(frame::SETTINGS, max)].concat(),
    );
    bench.assert_quiet();
    let mut bench = Bench::silent_server();
    bench.recv(
        CLIENT_CONTROL,
        &[vec![0], frame_head(frame::SETTINGS, max + 1)].concat(),
    );
    bench.assert_connection_error(error::H3_EXCESSIVE_LOAD);
}

fn server_given(settings: &[u8]) -> Bench {
    let mut bench = Bench::silent_server();
    bench.recv(
        CLIENT_CONTROL,
        &[&[0][..], &frame_of(frame::SETTINGS, settings)].concat(),
    );
    bench
}

#[test]
fn set_01_duplicate_setting() {
    for payload in [[0x33, 1, 0x33, 1], [0x21, 0, 0x21, 9]] {
        server_given(&payload).assert_connection_error(error::H3_SETTINGS_ERROR);
    }
}

#[test]
fn set_02_reserved_settings() {
    for id in [0x00, 0x02, 0x03, 0x04, 0x05] {
        server_given(&[id, 1]).assert_connection_error(error::H3_SETTINGS_ERROR);
    }
}

#[test]
fn set_03_flags_that_are_not_flags() {
    let ids = [
        setting::ENABLE_CONNECT_PROTOCOL,
        setting::H3_DATAGRAM,
        setting::ENABLE_WEBTRANSPORT_DRAFT02,
    ];
    for id in ids {
        for value in [0, 1] {
            server_given(&[varint_of(id), varint_of(value)].concat()).assert_quiet();
        }
        let bench = server_given(&[varint_of(id), varint_of(2)].concat());
        bench.assert_connection_error(error::H3_SETTINGS_ERROR);
    }
}

#[test]
fn set_04_wt_enabled_above_one() {
    let mut bench = Bench::silent_client();
    bench.recv(SERVER_CONTROL, &control_stream(&[(setting::WT_ENABLED, 2)]));
    bench.assert_connection_error(error::H3_SETTINGS_ERROR);
    // A draft-15 client sent a number; only the client's side has the rule.
    let mut bench = Bench::silent_server();
    bench.recv(CLIENT_CONTROL, &control_stream(&[(setting::WT_ENABLED, 2)]));
    bench.assert_quiet();
    assert_eq!(bench.conn.dialect(), Some(Dialect::Draft15));
}

#[test]
fn set_05_empty_unknown_and_long_settings() {
    server_given(&[]).assert_quiet();
    server_given(&[varint_of(grease(5)), varint_of(77)].concat()).assert_quiet();
    server_given(&[varint_of(0x7777), varint_of(1 << 40)].concat()).assert_quiet();
    let bench = server_given(&[long8(setting::WT_ENABLED), long4(1)].concat());
    bench.assert_quiet();
    assert_eq!(bench.conn.dialect(), Some(Dialect::Draft15));
}

#[test]
fn set_06_settings_cut_inside_a_pair() {
    for payload in [&[0x33][..], &[0x40], &[0x33, 0x40]] {
        server_given(payload).assert_connection_error(error::H3_FRAME_ERROR);
    }
}

#[test]
fn set_07_thousands_of_settings() {
    let settings = |count: u64| {
        (0..count)
            .flat_map(|n| [varint_of(0x1_0000 + n), vec![0]].concat())
            .collect::<Vec<_>>()
    };
    let limit = pywt_core::wire::settings::MAX_SETTINGS as u64;
    server_given(&settings(limit)).assert_quiet();
    server_given(&settings(limit + 1)).assert_connection_error(error::H3_EXCESSIVE_LOAD);
    server_given(&settings(4000)).assert_connection_error(error::H3_EXCESSIVE_LOAD);
}

#[test]
fn set_08_zero_rtt_with_reduced_settings() {
    let before = flow_settings(Dialect::Draft15, 100);
    let resumed = |now: &[(u64, u64)]| {
        let mut conn = pywt_core::Connection::new(Config::client());
        let mut transport: Transport = support::transport();
        transport.early_settings = Some(before.iter().copied().collect());
        conn.handle_connected(CLIENT_CONTROL, transport, Duration::ZERO);
        let mut bench = Bench {
            conn,
            now: Duration::ZERO,
            actions: Vec::new(),
            events: Vec::new(),
        };
        bench.recv(SERVER_CONTROL, &control_stream(now));
        bench
    };
    resumed(&before).assert_quiet();
    resumed(&flow_settings(Dialect::Draft15, 101)).assert_quiet();
    let error = error::H3_SETTINGS_ERROR;
    resumed(&flow_settings(Dialect::Draft15, 99)).assert_connection_error(error);
    resumed(&peer_settings(Dialect::Draft15)).assert_connection_error(error);
    resumed(&before[1..]).assert_connection_error(error);
}

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
    assert_eq!(bench.events.len() - at, 4);
    assert!(matches!(
        bench.events.last(),
        Some(Event::StreamData { fin: true, .. })
    ));
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
