//! How streams end that do not end by FIN: what must still arrive, what is counted, what is left.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Pair, Setup, Side};
use pywt_endpoint::core::{Config, Dir};
use pywt_endpoint::Notification;

fn open(pair: &mut Pair, dir: Dir) -> u64 {
    let now = pair.now;
    let open = |c: &mut pywt_endpoint::Connection| c.open_stream(0, dir, now);
    pair.client.call(open).unwrap().unwrap()
}

/// Streams that anything is kept about, but for the CONNECT and control streams.
fn kept(side: &Side) -> (u64, usize) {
    let connection = side.endpoint.connection(side.key.unwrap()).unwrap();
    let streams = connection.stats().core.streams as u64;
    (streams, connection.quic().tracked_streams())
}

#[test]
fn a_stream_that_is_reset_at_once_is_known_by_its_header() {
    for written in [0, 1, 500] {
        let mut pair = Pair::with_session(&Setup::default());
        let before = (kept(&pair.client), kept(&pair.server));
        for number in 0..40 {
            let id = open(&mut pair, Dir::Uni);
            let now = pair.now;
            if written > 0 {
                pair.client
                    .write(id, &vec![7; written], false, now)
                    .unwrap();
            }
            pair.client
                .call(|c| c.stream_reset(id, 100 + number, now))
                .unwrap();
        }
        pair.advance(std::time::Duration::from_secs(1));
        let mut opened = Vec::new();
        let mut codes = Vec::new();
        // A reset that left a byte for the reader is told when that was read.
        for _ in 0..3 {
            for told in pair.server.take() {
                match told {
                    Notification::StreamOpened { stream, .. } => opened.push(stream),
                    Notification::StreamReset { code, .. } => codes.push(code.unwrap()),
                    other => assert!(matches!(other, Notification::StreamReadable(_))),
                }
            }
            let now = pair.now;
            for id in &opened {
                let (data, _) = pair.server.read(*id, now);
                assert!(data.len() <= written.min(1));
            }
        }
        assert_eq!(opened.len(), 40, "{written} bytes written");
        codes.sort_unstable();
        assert_eq!(codes, (100..140).collect::<Vec<_>>());
        pair.advance(std::time::Duration::from_secs(1));
        assert_eq!((kept(&pair.client), kept(&pair.server)), before);
    }
}

#[test]
fn what_never_arrived_of_a_stopped_stream_is_counted_and_its_entries_go() {
    let mut core = Config::server();
    core.flow_control.initial_max_data = 10_000;
    core.flow_control.initial_max_streams_bidi = 100;
    core.flow_control.initial_max_streams_uni = 100;
    let mut client = Config::client();
    client.flow_control.initial_max_data = 10_000;
    let setup = Setup {
        server: pywt_endpoint::ConnectionOptions::new(core),
        client: pywt_endpoint::ConnectionOptions::new(client),
        ..Setup::default()
    };
    let mut pair = Pair::with_session(&setup);
    let before = (kept(&pair.client), kept(&pair.server));
    let mut number = 0_u64;
    pair.drop_if = Box::new(move |_| {
        number += 1;
        number.is_multiple_of(3)
    });
    for round in 0..40 {
        let id = open(&mut pair, Dir::Uni);
        let now = pair.now;
        // Every round takes more than a third of the session's credit.
        let written = pair.client.write(id, &[1; 4_000], round % 3 == 0, now);
        assert_eq!(written, Ok(4_000), "round {round}");
        while pair.server.take().is_empty() {
            pair.advance(std::time::Duration::from_millis(20));
        }
        let now = pair.now;
        if round % 2 == 0 {
            assert!(pair.server.read(id, now).0.len() <= 4_000);
        }
        pair.server.call(|c| c.stream_stop(id, 9, now)).unwrap();
        pair.advance(std::time::Duration::from_secs(3));
        pair.client.take();
    }
    pair.drop_if = Box::new(|_| false);
    pair.advance(std::time::Duration::from_secs(3));
    assert_eq!((kept(&pair.client), kept(&pair.server)), before);
}

/// A reader that reads only when it is told hears of a reset behind the part that had to arrive.
#[test]
fn a_reset_is_told_when_all_before_it_was_read() {
    for dir in [Dir::Uni, Dir::Bidi] {
        let mut pair = Pair::with_session(&Setup::default());
        let id = open(&mut pair, dir);
        // Its header leaves; the first bytes and the reset come together.
        pair.advance(Duration::from_millis(100));
        let now = pair.now;
        pair.client.write(id, &[7; 500], false, now).unwrap();
        pair.client.call(|c| c.stream_reset(id, 9, now)).unwrap();
        let (mut received, mut codes) = (Vec::new(), Vec::new());
        for _ in 0..10 {
            pair.advance(Duration::from_millis(100));
            let now = pair.now;
            for told in pair.server.take() {
                match told {
                    Notification::StreamOpened { stream, .. }
                    | Notification::StreamReadable(stream) => {
                        received.extend(pair.server.read(stream, now).0);
                    }
                    Notification::StreamReset { code, .. } => codes.push(code.unwrap()),
                    _ => {}
                }
            }
        }
        assert_eq!((received, codes), (vec![7], vec![9]), "{dir:?}");
    }
}
