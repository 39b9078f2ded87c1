//! Sessions, streams and datagrams through two whole endpoints.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Pair, Setup};
use pywt_endpoint::core::wire::codes::{app_error_to_http, error};
use pywt_endpoint::core::{ClosedBy, Config, Dir};
use pywt_endpoint::quic::{CloseBy, TransportOptions};
use pywt_endpoint::{Error, Notification, Payload, Read};

#[test]
fn a_bidirectional_stream_echoes() {
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    let id = pair
        .client
        .call(|c| c.open_stream(0, Dir::Bidi, now))
        .unwrap()
        .unwrap();
    assert_eq!(pair.client.write(id, b"ping", true, now), Ok(4));
    assert_eq!(
        pair.client.write(id, b"x", false, now),
        Err(Error::StreamFinished(id))
    );
    pair.settle();
    assert_eq!(
        pair.server.take(),
        [Notification::StreamOpened {
            session: 0,
            stream: id
        }]
    );
    let now = pair.now;
    assert_eq!(pair.server.read(id, now), (b"ping".to_vec(), Read::Last(4)));
    assert_eq!(pair.server.read(id, now), (vec![], Read::End));
    assert_eq!(pair.server.write(id, b"pong", true, now), Ok(4));
    assert_eq!(pair.client.read(id, now), (vec![], Read::Nothing));
    pair.settle();
    assert_eq!(pair.client.take(), [Notification::StreamReadable(id)]);
    let now = pair.now;
    assert_eq!(pair.client.read(id, now), (b"pong".to_vec(), Read::Last(4)));
    assert_eq!(pair.client.read(id, now), (vec![], Read::End));
    assert_eq!(pair.client.read(id, now), (vec![], Read::End));
    for side in [&pair.client, &pair.server] {
        let connection = side.endpoint.connection(side.key.unwrap()).unwrap();
        // The CONNECT stream, both control streams.
        assert!(
            connection.stats().core.streams <= 4,
            "{:?}",
            connection.stats()
        );
    }
}

#[test]
fn unidirectional_streams_go_both_ways() {
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    for server in [false, true] {
        let (from, to) = if server {
            (&mut pair.server, 0)
        } else {
            (&mut pair.client, 1)
        };
        let id = from
            .call(|c| c.open_stream(0, Dir::Uni, now))
            .unwrap()
            .unwrap();
        assert_eq!(from.write(id, b"one way", true, now), Ok(7));
        assert_eq!(from.read(id, now).1, Read::End);
        pair.settle();
        let now = pair.now;
        let to = if to == 0 {
            &mut pair.client
        } else {
            &mut pair.server
        };
        assert_eq!(
            to.take(),
            [Notification::StreamOpened {
                session: 0,
                stream: id
            }]
        );
        assert_eq!(to.read(id, now), (b"one way".to_vec(), Read::Last(7)));
        assert_eq!(to.read(id, now).1, Read::End);
        assert!(to.write(id, b"x", false, now).is_err());
    }
}

#[test]
fn a_stream_opened_without_data_is_told_and_read_later() {
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    let id = pair
        .server
        .call(|c| c.open_stream(0, Dir::Bidi, now))
        .unwrap()
        .unwrap();
    pair.settle();
    let now = pair.now;
    assert_eq!(
        pair.client.take(),
        [Notification::StreamOpened {
            session: 0,
            stream: id
        }]
    );
    assert_eq!(pair.client.read(id, now).1, Read::Nothing);
    assert_eq!(pair.server.write(id, b"later", false, now), Ok(5));
    pair.settle();
    assert_eq!(pair.client.take(), [Notification::StreamReadable(id)]);
    let now = pair.now;
    assert_eq!(
        pair.client.read(id, now),
        (b"later".to_vec(), Read::Data(5))
    );
    assert_eq!(pair.client.read(id, now).1, Read::Nothing);
    assert_eq!(pair.client.read(id, now).1, Read::Nothing);
    assert_eq!(pair.server.write(id, b"", true, now), Ok(0));
    pair.settle();
    assert_eq!(pair.client.take(), [Notification::StreamReadable(id)]);
    let now = pair.now;
    assert_eq!(pair.client.read(id, now).1, Read::End);
}

#[test]
fn a_slow_reader_stops_the_writer_within_a_window() {
    let setup = Setup {
        server_transport: TransportOptions {
            stream_receive_window: 100_000,
            receive_window: 150_000,
            ..TransportOptions::default()
        },
        ..Setup::default()
    };
    let mut pair = Pair::with_session(&setup);
    let now = pair.now;
    let id = pair
        .client
        .call(|c| c.open_stream(0, Dir::Uni, now))
        .unwrap()
        .unwrap();
    let data = vec![5; 1_000_000];
    let mut sent = pair.client.write(id, &data, true, now).unwrap();
    assert!(sent < 100_001);
    pair.settle();
    pair.client.take();
    let mut received = 0;
    while received < data.len() {
        let now = pair.now;
        let (bytes, read) = pair.server.read(id, now);
        received += bytes.len();
        if read == Read::Nothing {
            assert_eq!(received, sent, "nothing is lost on the way");
        }
        pair.settle();
        if pair
            .client
            .take()
            .contains(&Notification::StreamWritable(id))
        {
            let now = pair.now;
            sent += pair.client.write(id, &data[sent..], true, now).unwrap();
            pair.settle();
        }
        assert!(sent - received <= 100_000);
    }
    let now = pair.now;
    assert_eq!(pair.server.read(id, now).1, Read::End);
}

#[test]
fn session_credit_stops_a_writer_and_reading_wakes_it() {
    let mut core = Config::server();
    core.flow_control.initial_max_data = 10_000;
    core.flow_control.initial_max_streams_bidi = 2;
    core.flow_control.initial_max_streams_uni = 2;
    let mut client = Config::client();
    client.flow_control = core.flow_control;
    let setup = Setup {
        client: pywt_endpoint::ConnectionOptions::new(client),
        server: pywt_endpoint::ConnectionOptions::new(core),
        ..Setup::default()
    };
    let mut pair = Pair::with_session(&setup);
    let now = pair.now;
    let id = pair
        .client
        .call(|c| c.open_stream(0, Dir::Bidi, now))
        .unwrap()
        .unwrap();
    let shared = bytes::Bytes::from(vec![1; 25_000]);
    let write = |pair: &mut Pair, from: usize| {
        let now = pair.now;
        let rest = shared.slice(from..);
        pair.client
            .call(|c| c.stream_write(id, Payload::Shared(rest), true, now))
            .unwrap()
    };
    let mut sent = write(&mut pair, 0);
    assert_eq!(sent, 10_000);
    pair.settle();
    pair.client.take();
    let mut received = 0;
    for _ in 0..20 {
        let now = pair.now;
        received += pair.server.read(id, now).0.len();
        pair.settle();
        if pair
            .client
            .take()
            .contains(&Notification::StreamWritable(id))
        {
            sent += write(&mut pair, sent);
            pair.settle();
        }
    }
    assert_eq!((sent, received), (25_000, 25_000));

    let now = pair.now;
    let open = |pair: &mut Pair| {
        pair.client
            .call(|c| c.open_stream(0, Dir::Uni, now))
            .unwrap()
    };
    let first = open(&mut pair).unwrap();
    open(&mut pair).unwrap();
    assert_eq!(open(&mut pair), None);
    assert_eq!(pair.client.write(first, b"", true, now), Ok(0));
    pair.settle();
    let now = pair.now;
    assert_eq!(pair.server.read(first, now).1, Read::End);
    pair.settle();
    assert!(pair
        .client
        .take()
        .contains(&Notification::StreamsAvailable {
            session: 0,
            dir: Dir::Uni
        }));
}

#[test]
fn session_credit_of_stopped_streams_comes_back() {
    let mut core = Config::server();
    core.flow_control.initial_max_data = 10_000;
    core.flow_control.initial_max_streams_bidi = 20;
    let mut client = Config::client();
    client.flow_control = core.flow_control;
    let mut pair = Pair::with_session(&Setup {
        client: pywt_endpoint::ConnectionOptions::new(client),
        server: pywt_endpoint::ConnectionOptions::new(core),
        ..Setup::default()
    });
    for _ in 0..5 {
        let now = pair.now;
        let id = pair
            .client
            .call(|c| c.open_stream(0, Dir::Bidi, now))
            .unwrap()
            .unwrap();
        assert_eq!(pair.client.write(id, &[1; 4_000], false, now), Ok(4_000));
        pair.settle();
        // The server stops it while the rest of the window is on its way.
        let rest = pair.client.write(id, &[2; 10_000], false, now).unwrap();
        assert!(rest >= 6_000);
        let now = pair.now;
        pair.server.call(|c| c.stream_stop(id, 9, now)).unwrap();
        pair.settle();
        assert!(pair.client.take().contains(&Notification::StreamStopped {
            stream: id,
            code: Some(9),
            raw: app_error_to_http(9),
        }));
        let now = pair.now;
        pair.server.write(id, b"", true, now).unwrap();
        pair.settle();
    }
}

#[test]
fn quic_stream_limits_block_and_announce() {
    let setup = Setup {
        server_transport: TransportOptions {
            max_streams_bidi: 3,
            ..TransportOptions::default()
        },
        ..Setup::default()
    };
    let mut pair = Pair::with_session(&setup);
    let now = pair.now;
    let open = |pair: &mut Pair| {
        pair.client
            .call(|c| c.open_stream(0, Dir::Bidi, now))
            .unwrap()
    };
    // CONNECT takes one of the three.
    let first = open(&mut pair).unwrap();
    open(&mut pair).unwrap();
    assert_eq!(open(&mut pair), None);
    pair.client.write(first, b"x", true, now).unwrap();
    pair.settle();
    let now = pair.now;
    pair.server.read(first, now);
    assert_eq!(pair.server.read(first, now).1, Read::End);
    pair.server.write(first, b"", true, now).unwrap();
    pair.settle();
    let now = pair.now;
    assert_eq!(pair.client.read(first, now).1, Read::End);
    // The server counts the stream as over when its FIN is acknowledged, which may be delayed.
    pair.advance(Duration::from_millis(50));
    assert!(pair
        .client
        .take()
        .contains(&Notification::StreamsAvailable {
            session: 0,
            dir: Dir::Bidi
        }));
    assert!(open(&mut pair).is_some());
}

#[test]
fn reset_and_stop_reach_the_other_side_with_their_codes() {
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    let id = pair
        .client
        .call(|c| c.open_stream(0, Dir::Bidi, now))
        .unwrap()
        .unwrap();
    pair.client.write(id, b"hello", false, now).unwrap();
    pair.settle();
    pair.server.take();
    let now = pair.now;
    assert_eq!(pair.server.read(id, now).0, b"hello");
    assert_eq!(pair.server.read(id, now).1, Read::Nothing);
    assert_eq!(pair.client.read(id, now).1, Read::Nothing);
    pair.client.call(|c| c.stream_reset(id, 77, now)).unwrap();
    pair.client.call(|c| c.stream_stop(id, 78, now)).unwrap();
    assert_eq!(
        pair.client.call(|c| c.stream_reset(id, 77, now)),
        Err(Error::StreamFinished(id))
    );
    pair.settle();
    let told = pair.server.take();
    assert!(told.contains(&Notification::StreamReset {
        stream: id,
        code: Some(77),
        raw: app_error_to_http(77),
    }));
    assert!(told.contains(&Notification::StreamReadable(id)));
    assert!(told.contains(&Notification::StreamStopped {
        stream: id,
        code: Some(78),
        raw: app_error_to_http(78),
    }));
    let now = pair.now;
    assert_eq!(pair.server.read(id, now).1, Read::End);
    assert_eq!(
        pair.server.write(id, b"x", false, now),
        Err(Error::StreamFinished(id))
    );
}

#[test]
fn a_reset_is_told_before_a_read_finds_the_end() {
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    let id = pair
        .client
        .call(|c| c.open_stream(0, Dir::Bidi, now))
        .unwrap()
        .unwrap();
    pair.client.write(id, b"hello", false, now).unwrap();
    pair.settle();
    pair.server.take();
    let now = pair.now;
    assert_eq!(pair.server.read(id, now).0, b"hello");
    pair.client.call(|c| c.stream_reset(id, 77, now)).unwrap();
    pair.client.call(|c| c.stream_stop(id, 78, now)).unwrap();
    pair.deliver_quietly();
    // Both have arrived, and nobody has been told.
    let now = pair.now;
    assert_eq!(pair.server.read(id, now).1, Read::Nothing);
    assert_eq!(pair.server.write(id, b"x", false, now), Ok(0));
    let told = pair.server.take();
    let at = |n: &Notification| told.iter().position(|told| told == n).unwrap();
    let reset = Notification::StreamReset {
        stream: id,
        code: Some(77),
        raw: app_error_to_http(77),
    };
    let stopped = Notification::StreamStopped {
        stream: id,
        code: Some(78),
        raw: app_error_to_http(78),
    };
    let woken = told
        .iter()
        .rposition(|told| *told == Notification::StreamReadable(id));
    assert!(at(&reset) < woken.unwrap());
    assert!(at(&stopped) < at(&Notification::StreamWritable(id)));
    assert_eq!(pair.server.read(id, now).1, Read::End);
    assert_eq!(
        pair.server.write(id, b"x", false, now),
        Err(Error::StreamFinished(id))
    );
}

#[test]
fn a_session_ends_with_code_and_reason_after_its_streams() {
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    let id = pair
        .client
        .call(|c| c.open_stream(0, Dir::Bidi, now))
        .unwrap()
        .unwrap();
    pair.client.write(id, b"x", false, now).unwrap();
    pair.settle();
    pair.server.take();
    pair.client
        .call(|c| c.close_session(0, 42, "done", now))
        .unwrap();
    let told = pair.client.take();
    assert!(matches!(
        told.last(),
        Some(Notification::SessionClosed {
            session: 0,
            code: 42,
            by: ClosedBy::Local,
            ..
        })
    ));
    pair.settle();
    let told = pair.server.take();
    assert_eq!(
        told.last(),
        Some(&Notification::SessionClosed {
            session: 0,
            code: 42,
            reason: "done".into(),
            by: ClosedBy::Remote,
            error: None,
        })
    );
    assert!(told.contains(&Notification::StreamReset {
        stream: id,
        code: None,
        raw: error::WT_SESSION_GONE,
    }));
    let now = pair.now;
    assert!(pair.server.write(id, b"x", false, now).is_err());
}

#[test]
fn a_server_closes_a_connection_whose_last_session_ended() {
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    pair.client
        .call(|c| c.close_session(0, 0, "", now))
        .unwrap();
    pair.settle();
    pair.client.take();
    pair.advance(Duration::from_millis(500));
    assert!(!pair
        .client
        .take()
        .iter()
        .any(|n| matches!(n, Notification::Closed(..))));
    // Another session in time keeps it.
    pair.server.take();
    let second = pair.request();
    pair.accept(second);
    pair.advance(Duration::from_secs(5));
    assert!(!pair
        .client
        .take()
        .iter()
        .any(|n| matches!(n, Notification::Closed(..))));
    let now = pair.now;
    pair.client
        .call(|c| c.close_session(second, 0, "", now))
        .unwrap();
    pair.advance(Duration::from_secs(2));
    let told = pair.client.take();
    assert!(
        matches!(told.last(), Some(Notification::Closed(close, _))
            if close.by == CloseBy::Remote && close.code == 0x100),
        "{told:?}"
    );
    pair.advance(Duration::from_secs(5));
    assert_eq!(pair.server.endpoint.connections(), 0);
    assert_eq!(pair.client.endpoint.connections(), 0);
}

#[test]
fn a_close_lets_the_peer_read_how_its_session_ended() {
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    pair.server
        .call(|c| c.close_session(0, 7, "over", now))
        .unwrap();
    pair.server
        .call(|c| {
            c.close(0x100, "bye", now);
            Ok(())
        })
        .unwrap();
    // The server waits for the client's FIN, and for the application behind it.
    pair.advance(Duration::from_millis(900));
    assert!(!pair
        .server
        .take()
        .iter()
        .any(|n| matches!(n, Notification::Closed(..))));
    pair.advance(Duration::from_millis(200));
    let told = pair.client.take();
    assert!(matches!(
        &told[0],
        Notification::SessionClosed { code: 7, reason, by: ClosedBy::Remote, .. } if reason == "over"
    ));
    assert!(matches!(&told[1], Notification::Closed(close, _) if close.reason == "bye"));
    let told = pair.server.take();
    assert!(matches!(
        told.last(),
        Some(Notification::Closed(close, _)) if close.by == CloseBy::Local && close.code == 0x100
    ));
    assert_eq!(
        pair.server.call(|c| c.open_stream(0, Dir::Uni, now)),
        Err(Error::Closed)
    );
}

#[test]
fn the_fin_that_answers_a_close_is_acknowledged_late() {
    // Even where every other packet is acknowledged at once, as in the middle of an upload.
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    pair.server
        .call(|c| c.close_session(0, 7, "over", now))
        .unwrap();
    pair.client
        .call(|c| c.send_datagram(0, b"unacknowledged"))
        .unwrap();
    pair.settle();
    let heard = pair.now;
    let received = |pair: &Pair| {
        let stats = pair.client.endpoint.connection(pair.client.key.unwrap());
        stats.unwrap().stats().quic.packets_received
    };
    let before = received(&pair);
    while received(&pair) == before {
        pair.step();
    }
    // The time that it waited and the time on the way.
    let later = pair.now - heard - pair.latency;
    assert_eq!(later.as_millis(), 20);
}

#[test]
fn a_close_does_not_wait_for_a_vanished_peer() {
    let mut pair = Pair::with_session(&Setup::default());
    pair.drop_if = Box::new(|_| true);
    let now = pair.now;
    pair.client
        .call(|c| {
            c.close(0x100, "", now);
            Ok(())
        })
        .unwrap();
    pair.advance(Duration::from_secs(2));
    assert!(matches!(
        pair.client.take().last(),
        Some(Notification::Closed(..))
    ));
}

#[test]
fn a_vanished_peer_ends_sessions_by_transport() {
    let mut pair = Pair::with_session(&Setup::default());
    pair.drop_if = Box::new(|_| true);
    pair.advance(Duration::from_secs(60));
    let told = pair.server.take();
    assert!(
        matches!(
            told.as_slice(),
            [
                Notification::SessionClosed { by: ClosedBy::Transport, .. },
                Notification::Closed(close, _)
            ] if close.by == CloseBy::Transport
        ),
        "{told:?}"
    );
    assert_eq!(pair.server.endpoint.connections(), 0);
}

#[test]
fn many_streams_at_once_grow_the_limit_and_all_arrive() {
    let mut pair = Pair::with_session(&Setup::default());
    let mut opened = Vec::new();
    let mut echoed = 0;
    while echoed < 1_000 {
        let now = pair.now;
        while opened.len() < 1_000 {
            let Some(id) = pair
                .client
                .call(|c| c.open_stream(0, Dir::Bidi, now))
                .unwrap()
            else {
                break;
            };
            pair.client.write(id, &id.to_be_bytes(), true, now).unwrap();
            opened.push(id);
        }
        pair.settle();
        let now = pair.now;
        for notification in pair.server.take() {
            if let Notification::StreamOpened { stream, .. } = notification {
                assert_eq!(pair.server.read(stream, now).0, stream.to_be_bytes());
                assert_eq!(pair.server.read(stream, now).1, Read::End);
                pair.server.write(stream, b"ok", true, now).unwrap();
            }
        }
        pair.settle();
        pair.client.take();
        let now = pair.now;
        echoed = 0;
        for id in &opened {
            if pair.client.read(*id, now).1 == Read::End {
                echoed += 1;
            }
        }
    }
}

#[test]
fn a_close_leaves_at_once_also_when_the_congestion_window_is_full() {
    for is_at_once in [false, true] {
        let mut pair = Pair::with_session(&Setup::default());
        let now = pair.now;
        let id = pair
            .server
            .call(|c| c.open_stream(0, Dir::Bidi, now))
            .unwrap()
            .unwrap();
        let full = vec![0; 1 << 20];
        assert_eq!(pair.server.write(id, &full, false, now), Ok(full.len()));
        pair.transmit();
        if is_at_once {
            pair.server.endpoint.close_at_once(now);
        } else {
            pair.server
                .call(|c| {
                    c.close(7, "enough", now);
                    Ok(())
                })
                .unwrap();
        }
        pair.advance(Duration::from_secs(3));
        assert!(
            pair.client.take().iter().any(|told| matches!(
                told,
                Notification::Closed(close, _) if close.by == CloseBy::Remote
            )),
            "{is_at_once}"
        );
    }
}
