//! The conformance checklist: control stream (CTL) and SETTINGS (SET). Each test is named after its row:
//! bytes in, required code out.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use pywt_core::wire::codes::{error, frame, grease, setting, stream};
use pywt_core::{Config, Dialect, Event, Transport};
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

/// RFC 9204 §4.3, §4.4 with a table of capacity zero at both ends.
#[test]
fn qpack_streams_carry_nothing_without_a_table() {
    // Set capacity 0 from Chromium; Stream Cancellation from anybody.
    let mut bench = Bench::server();
    bench.recv(6, &[stream::QPACK_ENCODER as u8, 0x20]);
    bench.recv(10, &[stream::QPACK_DECODER as u8, 0x48]);
    bench.assert_quiet();
    for (ty, instruction, code) in [
        (
            stream::QPACK_ENCODER,
            &[0x3f, 0xe1, 0x1f][..],
            error::QPACK_ENCODER_STREAM_ERROR,
        ),
        (
            stream::QPACK_ENCODER,
            &[0xc1, 0x00],
            error::QPACK_ENCODER_STREAM_ERROR,
        ),
        (
            stream::QPACK_DECODER,
            &[0x84],
            error::QPACK_DECODER_STREAM_ERROR,
        ),
        (
            stream::QPACK_DECODER,
            &[0x01],
            error::QPACK_DECODER_STREAM_ERROR,
        ),
    ] {
        let mut bench = Bench::server();
        bench.recv_bytewise(6, &[&[ty as u8], instruction].concat());
        bench.assert_connection_error(code);
    }
    // A reference to it in a field section.
    for section in ["020080", "000080", "0000ff24", "00005184ffffffff"] {
        let mut bench = Bench::server();
        bench.recv(0, &frame_of(frame::HEADERS, &hex(section)));
        bench.assert_connection_error(error::QPACK_DECOMPRESSION_FAILED);
    }
}

#[test]
fn settings_are_awaited_from_the_end_of_the_handshake_on() {
    let mut facts = support::transport();
    facts.is_handshaking = true;
    let mut bench = Bench::over(Config::server(), facts);
    assert_eq!(bench.conn.poll_timeout(), None);
    let (end, timeout) = (Duration::from_secs(60), bench_timeout());
    bench.advance(end);
    bench.conn.handle_handshake_complete(end);
    assert_eq!(bench.conn.poll_timeout(), Some(end + timeout));
    bench.advance(timeout);
    bench.assert_connection_error(error::H3_MISSING_SETTINGS);
}

fn bench_timeout() -> Duration {
    Config::server().limits.settings_timeout
}
