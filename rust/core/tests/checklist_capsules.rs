//! The conformance checklist: capsules (CAP). Each test is named after its row:
//! bytes in, required code out.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use pywt_core::wire::codes::{capsule, error, frame, grease};
use pywt_core::{ClosedBy, Config, Dialect, Event, Time};
use support::*;

fn close(code: u32, reason: &[u8]) -> Vec<u8> {
    capsule_of(
        capsule::WT_CLOSE_SESSION,
        &[&code.to_be_bytes()[..], reason].concat(),
    )
}

fn closed(code: u32, reason: &str) -> Event {
    let (by, error) = (ClosedBy::Remote, None);
    Event::SessionClosed {
        session: 0,
        code,
        reason: reason.to_owned(),
        by,
        error,
    }
}

/// What an established server session makes of these CONNECT-stream bytes.
fn capsules(bytes: &[u8]) -> Bench {
    let mut bench = Bench::server_session(Dialect::Draft15);
    bench.recv(0, bytes);
    bench
}

#[track_caller]
fn session_error(bytes: &[u8], code: u64) {
    let bench = capsules(bytes);
    bench.assert_stream_error(0, code);
    let [Event::SessionClosed {
        by: ClosedBy::Local,
        error,
        ..
    }] = bench.events.as_slice()
    else {
        panic!("{:?}", bench.events);
    };
    assert_eq!(*error, Some(code));
}

#[test]
fn cap_01_capsule_over_many_data_frames() {
    let whole = close(420, b"bye");
    let mut bytes = Vec::new();
    for byte in &whole {
        bytes.extend(data_frame(&[]));
        bytes.extend(frame_of(grease(4), b"between"));
        bytes.extend(data_frame(&[*byte]));
    }
    assert_eq!(capsules(&bytes).events, [closed(420, "bye")]);
    let mut bench = Bench::server_session(Dialect::Draft02);
    bench.recv_bytewise(0, &bytes);
    assert_eq!(bench.events, [closed(420, "bye")]);
    // The forms that were captured on the wire.
    for form in [
        "000168000443070000000501a4627965",
        "000668430700000121000004a4627965",
    ] {
        assert_eq!(capsules(&hex(form)).events, [closed(420, "bye")]);
    }
}

#[test]
fn cap_02_several_capsules_in_one_data_frame() {
    let drain = capsule_of(capsule::WT_DRAIN_SESSION, &[]);
    let bytes = data_frame(&[drain, capsule_of(grease(2), b"x"), close(1, b"")].concat());
    let draining = Event::SessionDraining { session: 0 };
    assert_eq!(capsules(&bytes).events, [draining, closed(1, "")]);
}

#[test]
fn cap_03_unknown_capsule_of_huge_length() {
    let mut bench = capsules(&data_frame(&frame_head(grease(77), 1 << 50)));
    let chunk = data_frame(&[0; 1 << 16]);
    for _ in 0..64 {
        bench.recv(0, &chunk);
    }
    bench.assert_quiet();
    assert_eq!(bench.conn.stats().sessions, 1);
}

#[test]
fn cap_04_payload_of_wrong_length() {
    // Limits are read only where session flow control is on.
    let mut config = Config::server();
    config.flow_control = flow(100);
    let cases: [(u64, &[u8]); 7] = [
        (capsule::WT_MAX_DATA, &[]),
        (capsule::WT_MAX_DATA, &[0x40]),
        (capsule::WT_MAX_DATA, &[1, 2]),
        (capsule::WT_MAX_DATA, &[0; 9]),
        (capsule::WT_MAX_STREAMS_BIDI, &[0x80, 0, 0]),
        (capsule::WT_DATA_BLOCKED, &[]),
        (capsule::WT_STREAMS_BLOCKED_UNI, &[7, 7]),
    ];
    for (ty, payload) in cases {
        let mut bench = Bench::new(config.clone());
        bench.recv(
            CLIENT_CONTROL,
            &control_stream(&flow_settings(Dialect::Draft15, 100)),
        );
        let mut bench = bench.with_session();
        bench.recv(0, &data_frame(&capsule_of(ty, payload)));
        bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
    }
}

#[test]
fn cap_05_ends_inside_a_capsule() {
    let whole = close(420, b"bye");
    for cut in 1..whole.len() {
        let mut bench = Bench::server_session(Dialect::Draft15);
        bench.recv_fin(0, &data_frame(&whole[..cut]));
        bench.assert_reset_only(0, error::H3_MESSAGE_ERROR);
    }
}

#[test]
fn cap_06_close_text() {
    let text = "\u{e9}".repeat(512);
    assert_eq!(
        capsules(&data_frame(&close(7, text.as_bytes()))).events,
        [closed(7, &text)]
    );
    assert_eq!(
        capsules(&data_frame(&close(u32::MAX, b""))).events,
        [closed(u32::MAX, "")]
    );
    let error = error::H3_MESSAGE_ERROR;
    session_error(&data_frame(&close(7, &[b'x'; 1025])), error);
    session_error(&data_frame(&close(7, &[0xff])), error);
    for len in 0..4 {
        session_error(
            &data_frame(&capsule_of(capsule::WT_CLOSE_SESSION, &[0; 4][..len])),
            error,
        );
    }
    // An over-long one is refused by its length alone.
    session_error(
        &data_frame(&frame_head(capsule::WT_CLOSE_SESSION, 1 << 40)),
        error,
    );
}

#[test]
fn cap_07_data_after_close() {
    let after = [
        data_frame(b"x"),
        data_frame(&close(2, b"again")),
        capsule_of(capsule::WT_DRAIN_SESSION, &[]),
    ];
    for more in after {
        for together in [true, false] {
            let mut bench = Bench::server_session(Dialect::Draft15);
            let first = data_frame(&close(1, b"bye"));
            if together {
                bench.recv(0, &[first, more.clone()].concat());
            } else {
                bench.recv(0, &first);
                bench.recv(0, &more);
            }
            bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
            assert_eq!(bench.events, [closed(1, "bye")]);
        }
    }
    let mut bench = capsules(&data_frame(&[close(1, b"bye"), vec![0]].concat()));
    bench.assert_stream_error(0, error::H3_MESSAGE_ERROR);
    bench.recv_fin(0, &[]);
    assert_eq!(bench.events, [closed(1, "bye")]);
}

#[test]
fn cap_08_drain_with_payload() {
    let bytes = data_frame(&capsule_of(capsule::WT_DRAIN_SESSION, &[1]));
    session_error(&bytes, error::H3_MESSAGE_ERROR);
}

#[test]
fn cap_09_datagram_capsule() {
    let bench = capsules(&data_frame(&capsule_of(capsule::DATAGRAM, b"reliable")));
    bench.assert_quiet();
    let data = bytes::Bytes::from_static(b"reliable");
    assert_eq!(bench.events, [Event::DatagramReceived { session: 0, data }]);
    // At the size limit it is delivered, one past it dropped unread.
    let max = Config::server().limits.max_datagram_capsule_size as usize;
    let sized = |len| capsules(&data_frame(&capsule_of(capsule::DATAGRAM, &vec![0; len])));
    assert_eq!(sized(max).events.len(), 1);
    assert_eq!(sized(max + 1).events.len(), 0);
    sized(max + 1).assert_quiet();
}

#[test]
fn cap_10_capsules_of_the_http2_binding() {
    for ty in [capsule::WT_MAX_STREAM_DATA, capsule::WT_STREAM_DATA_BLOCKED] {
        let bytes = data_frame(&capsule_of(ty, &[0, 0]));
        session_error(&bytes, error::H3_MESSAGE_ERROR);
        // Older dialects do not know them.
        let mut bench = Bench::server_session(Dialect::Draft02);
        bench.recv(0, &bytes);
        bench.assert_quiet();
    }
}

#[test]
fn cap_11_flow_control_capsules_when_it_is_off() {
    let types = [
        capsule::WT_MAX_DATA,
        capsule::WT_MAX_STREAMS_BIDI,
        capsule::WT_MAX_STREAMS_UNI,
        capsule::WT_DATA_BLOCKED,
        capsule::WT_STREAMS_BLOCKED_BIDI,
        capsule::WT_STREAMS_BLOCKED_UNI,
    ];
    for dialect in Dialect::ALL {
        for ty in types {
            let mut bench = Bench::server_session(dialect);
            bench.recv(0, &data_frame(&capsule_of(ty, &[0])));
            bench.recv(0, &data_frame(&capsule_of(ty, &[0])));
            bench.assert_quiet();
            assert_eq!(bench.events, []);
        }
    }
}

#[test]
fn cap_12_capsules_before_the_answer() {
    let mut bench = Bench::server();
    bench.request_session(0);
    bench.events.clear();
    bench.recv_fin(0, &data_frame(&close(9, b"early")));
    bench.assert_quiet();
    assert_eq!(bench.events, []);
    bench.accept(0);
    assert_eq!(bench.events, [closed(9, "early")]);
    assert!(bench.conn.is_idle());
    // Rejection drops them unread, whatever they are.
    let mut bench = Bench::server();
    bench.request_session(0);
    bench.events.clear();
    bench.recv(0, &frame_of(frame::SETTINGS, &[]));
    bench.conn.reject(0, 403, &[], Time::ZERO).unwrap();
    bench.drain();
    bench.assert_quiet();
    assert_eq!(bench.status(0).as_deref(), Some("403"));
    // Bounded: at the limit held, one past it refused.
    let max = Config::server().limits.max_early_capsule_bytes;
    let mut bench = Bench::server();
    bench.request_session(0);
    bench.recv(0, &vec![0; max]);
    bench.assert_quiet();
    bench.recv(0, &[0]);
    bench.assert_stream_error(0, error::H3_EXCESSIVE_LOAD);
    assert_eq!(bench.closed_events().len(), 1);
}

#[test]
fn cap_13_varints_not_minimal() {
    let payload = 7u32.to_be_bytes();
    let ty = capsule::WT_CLOSE_SESSION;
    let inner = [long8(ty), long4(4), payload.to_vec()].concat();
    let bytes = [long8(frame::DATA), long8(inner.len() as u64), inner].concat();
    assert_eq!(capsules(&bytes).events, [closed(7, "")]);
}

fn flow(limit: u64) -> pywt_core::FlowControl {
    pywt_core::FlowControl {
        initial_max_data: limit,
        initial_max_streams_bidi: limit,
        initial_max_streams_uni: limit,
        ..Default::default()
    }
}
