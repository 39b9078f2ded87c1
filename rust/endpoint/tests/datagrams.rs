//! Datagrams: queues of their own for each session, and a fair share beside streams.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::time::Duration;

use common::{Pair, Setup};
use pywt_endpoint::core::{Config, Dir};
use pywt_endpoint::{DatagramDrops, Error, Notification, Read};

#[test]
fn datagrams_go_both_ways_and_the_oldest_are_dropped() {
    let mut setup = Setup::default();
    setup.server.incoming_datagram_count = 3;
    let mut pair = Pair::with_session(&setup);
    for byte in 0..5 {
        assert_eq!(pair.client.call(|c| c.send_datagram(0, &[byte])), Ok(true));
    }
    pair.settle();
    let received = pair
        .server
        .call(|c| Ok(c.receive_datagrams(0, 10)))
        .unwrap();
    assert_eq!(received, [&[2][..], &[3], &[4]]);
    assert_eq!(pair.server.drops().receive_queue, 2);
    assert_eq!(pair.server.call(|c| Ok(c.receive_datagram(0))), Ok(None));
    let limit = pair.client.call(|c| Ok(c.max_datagram_size(0))).unwrap();
    assert!(limit > 1_100);
    assert_eq!(
        pair.client
            .call(|c| c.send_datagram(0, &vec![0; limit + 1])),
        Err(Error::DatagramTooLarge {
            size: limit + 1,
            limit
        })
    );
    assert_eq!(
        pair.client.call(|c| c.send_datagram(0, &vec![0; limit])),
        Ok(true)
    );
    pair.settle();
    assert_eq!(pair.server.take(), [Notification::DatagramsReadable(0)]);
}

#[test]
fn a_full_outgoing_datagram_queue_drops_the_oldest() {
    let mut setup = Setup::default();
    setup.client.outgoing_datagram_count = 2;
    let mut pair = Pair::with_session(&setup);
    let mut send = |byte| pair.client.call(|c| c.send_datagram(0, &[byte]));
    assert_eq!(send(0), Ok(true));
    assert_eq!(send(1), Ok(true));
    assert_eq!(send(2), Ok(false));
    assert_eq!(pair.client.drops().send_queue, 1);
    pair.settle();
    assert_eq!(
        pair.server
            .call(|c| Ok(c.receive_datagrams(0, 10)))
            .unwrap(),
        [&[1][..], &[2]]
    );
}

#[test]
fn several_are_taken_up_to_the_first_that_is_too_large() {
    let mut pair = Pair::with_session(&Setup::default());
    let limit = pair.client.call(|c| Ok(c.max_datagram_size(0))).unwrap();
    let large = vec![9; limit + 1];
    let mut offer = |batch: &[&[u8]]| pair.client.call(|c| c.offer_datagrams(0, batch));
    assert_eq!(offer(&[]), Ok(0));
    assert_eq!(offer(&[&[0], &[], &large, &[7]]), Ok(2));
    assert_eq!(
        offer(&[&large, &[7]]),
        Err(Error::DatagramTooLarge {
            size: limit + 1,
            limit
        })
    );
    assert_eq!(offer(&[&large[1..]]), Ok(1));
    pair.settle();
    let received = pair
        .server
        .call(|c| Ok(c.receive_datagrams(0, 10)))
        .unwrap();
    assert_eq!(received, [&[0][..], &[], &large[1..]]);
}

#[test]
fn what_finds_no_room_is_not_taken_and_its_sender_told_when_there_is() {
    let mut setup = Setup::default();
    setup.client.outgoing_datagram_count = 4;
    let mut pair = Pair::with_session(&setup);
    let mut offer = |batch: &[&[u8]]| pair.client.call(|c| c.offer_datagrams(0, batch));
    assert_eq!(offer(&[&[0], &[1], &[2], &[3]]), Ok(4));
    assert_eq!(offer(&[&[4]]), Ok(0));
    assert_eq!(pair.client.take(), []);
    pair.settle();
    assert_eq!(pair.client.take(), [Notification::DatagramsWritable(0)]);
    let mut offer = |batch: &[&[u8]]| pair.client.call(|c| c.offer_datagrams(0, batch));
    assert_eq!(offer(&[&[4], &[5], &[6], &[7], &[8]]), Ok(4));
    // Whoever does not wait takes the oldest's place.
    let pushed = pair.client.call(|c| c.send_datagram(0, &[8]));
    assert_eq!(pushed, Ok(false));
    pair.settle();
    assert_eq!(pair.client.take(), [Notification::DatagramsWritable(0)]);
    let received = pair
        .server
        .call(|c| Ok(c.receive_datagrams(0, 10)))
        .unwrap();
    assert_eq!(received.concat(), [0, 1, 2, 3, 5, 6, 7, 8]);
    assert_eq!(pair.client.drops().send_queue, 1);
}

/// Both ends offer session credit, so that a connection carries two sessions.
fn two_sessions(setup: &mut Setup) -> (Pair, [u64; 2]) {
    for (options, mut core) in [
        (&mut setup.client, Config::client()),
        (&mut setup.server, Config::server()),
    ] {
        core.flow_control.initial_max_data = 1 << 20;
        core.flow_control.initial_max_streams_bidi = 10;
        core.flow_control.initial_max_streams_uni = 10;
        options.core = core.into();
    }
    let mut pair = Pair::with_session(setup);
    let second = pair.request();
    pair.accept(second);
    (pair, [0, second])
}

#[test]
fn one_session_cannot_push_out_what_another_sends_or_receives() {
    let mut setup = Setup::default();
    setup.client.outgoing_datagram_count = 3;
    setup.server.incoming_datagram_count = 3;
    let (mut pair, [loud, quiet]) = two_sessions(&mut setup);
    let mut send = |session, byte| pair.client.call(|c| c.send_datagram(session, &[byte]));
    assert_eq!(send(quiet, 1), Ok(true));
    for byte in 0..10 {
        assert_eq!(send(loud, byte), Ok(byte < 3));
    }
    assert_eq!(pair.client.drops().send_queue, 7);
    pair.settle();
    // A second round meets a queue that is full already.
    for byte in 10..13 {
        assert_eq!(
            pair.client.call(|c| c.send_datagram(loud, &[byte])),
            Ok(true)
        );
    }
    pair.settle();
    let mut receive = |session| {
        pair.server
            .call(|c| {
                Ok((
                    c.receive_datagrams(session, 10),
                    c.datagrams_dropped(session),
                ))
            })
            .unwrap()
    };
    assert_eq!(receive(quiet), (vec![(&[1][..]).into()], 0));
    let (received, dropped) = receive(loud);
    assert_eq!(received, [&[10][..], &[11], &[12]]);
    assert_eq!(dropped, 3);
    assert_eq!(
        pair.server.drops(),
        DatagramDrops {
            receive_queue: 3,
            ..DatagramDrops::default()
        }
    );
}

#[test]
fn sessions_take_turns_at_sending() {
    let (mut pair, [first, second]) = two_sessions(&mut Setup::default());
    for session in [first, second] {
        for byte in 0..100 {
            pair.client
                .call(|c| c.send_datagram(session, &[byte; 1_000]))
                .unwrap();
        }
    }
    // One window: far less than either has.
    pair.transmit();
    pair.deliver_one_flight();
    let mut count = |session| {
        pair.server
            .call(|c| Ok(c.receive_datagrams(session, 1_000)))
            .unwrap()
            .len()
    };
    let (of_first, of_second) = (count(first), count(second));
    assert!((2..100).contains(&of_first), "{of_first}");
    assert!(of_first.abs_diff(of_second) <= 1, "{of_first} {of_second}");
}

#[test]
fn all_that_is_queued_leaves_whatever_its_size() {
    for fills_packets in [false, true] {
        let mut pair = Pair::with_session(&Setup::default());
        let limit = pair.client.call(|c| Ok(c.max_datagram_size(0))).unwrap();
        let size = if fills_packets { limit } else { 1_000 };
        for _ in 0..200 {
            let data = vec![1; size];
            assert_eq!(pair.client.call(|c| c.send_datagram(0, &data)), Ok(true));
        }
        pair.advance(Duration::from_millis(200));
        let received = pair.server.call(|c| Ok(c.receive_datagrams(0, 1_000)));
        assert_eq!(received.unwrap().len(), 200, "{size}");
        assert_eq!(pair.client.drops(), DatagramDrops::default());
    }
}

#[test]
fn what_a_session_sent_before_its_end_still_leaves() {
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    for byte in 0..3 {
        pair.client.call(|c| c.send_datagram(0, &[byte])).unwrap();
    }
    pair.client
        .call(|c| c.close_session(0, 0, "", now))
        .unwrap();
    let sent = pair.client.call(|c| Ok(c.stats().quic.bytes_sent)).unwrap();
    pair.settle();
    assert!(pair.client.call(|c| Ok(c.stats().quic.bytes_sent)).unwrap() > sent);
    assert_eq!(pair.client.drops(), DatagramDrops::default());
}

#[test]
fn what_cannot_leave_any_more_is_counted() {
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    for byte in 0..3 {
        pair.client.call(|c| c.send_datagram(0, &[byte])).unwrap();
    }
    pair.client.endpoint.close_at_once(now);
    let told = pair.client.take();
    let Some(Notification::Closed(_, Some(epilogue))) = told.last() else {
        panic!("{told:?}");
    };
    assert_eq!(epilogue.stats.datagrams.unsendable, 3);
}

/// Stream bytes that arrive in a second of a path that loses a packet in fifty.
fn stream_bytes(with_flood: bool) -> (usize, usize) {
    let mut pair = Pair::with_session(&Setup::default());
    pair.drop_if = Box::new(|packet| packet % 50 == 0);
    let now = pair.now;
    let id = pair
        .client
        .call(|c| c.open_stream(0, Dir::Uni, now))
        .unwrap()
        .unwrap();
    let chunk = vec![7; 100_000];
    let datagram = vec![8; 1_000];
    let (mut streamed, mut received) = (0, 0);
    let end = pair.now + Duration::from_secs(1);
    pair.flow_until(end, |client, server, now| {
        while client.write(id, &chunk, false, now).unwrap() == chunk.len() {}
        if with_flood {
            for _ in 0..100 {
                client.call(|c| c.send_datagram(0, &datagram)).unwrap();
            }
        }
        if server.endpoint.connection(server.key.unwrap()).is_some() {
            while let (data, Read::Data(_)) = server.read(id, now) {
                streamed += data.len();
            }
            let taken = server.call(|c| Ok(c.receive_datagrams(0, 10_000))).unwrap();
            received += taken.iter().map(|data| data.len()).sum::<usize>();
        }
    });
    (streamed, received)
}

#[test]
fn a_flood_of_datagrams_leaves_streams_their_share_and_has_its_own() {
    // Which packets are lost is luck.
    let sum = |with_flood| {
        (0..4).fold((0, 0), |(streams, datagrams), _| {
            let (streamed, received) = stream_bytes(with_flood);
            (streams + streamed, datagrams + received)
        })
    };
    let (alone, _) = sum(false);
    let (streamed, received) = sum(true);
    assert!(alone > 1_000_000, "{alone}");
    assert!(
        streamed * 3 > alone,
        "{streamed} beside a flood, {alone} alone"
    );
    assert!(
        received * 3 > alone,
        "{received} in datagrams, {alone} alone"
    );
}

#[test]
fn a_small_datagram_that_is_kept_keeps_nothing_else() {
    let mut pair = Pair::with_session(&Setup::default());
    for size in [1, 16, 1_000] {
        let sent = pair.client.call(|c| c.send_datagram(0, &vec![7; size]));
        assert_eq!(sent, Ok(true));
        pair.settle();
        let got = pair.server.call(|c| Ok(c.receive_datagram(0)));
        let got = got.unwrap().unwrap().try_into_mut().unwrap();
        assert_eq!((got.len(), got.capacity()), (size, size));
    }
}

#[test]
fn datagrams_have_their_share_where_a_stream_fills_the_queues_of_the_path() {
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    let id = pair
        .client
        .call(|c| c.open_stream(0, Dir::Uni, now))
        .unwrap()
        .unwrap();
    // Ten times the shortest: as behind a slow link with a long queue.
    pair.latency = Duration::from_millis(50);
    let chunk = vec![7; 100_000];
    let (mut streamed, mut received, mut sent) = (0, 0, 0);
    let start = pair.now;
    pair.flow_until(start + Duration::from_secs(2), |client, server, now| {
        while client.write(id, &chunk, false, now).unwrap() == chunk.len() {}
        while now >= start + sent * Duration::from_millis(10) {
            client.call(|c| c.send_datagram(0, &[8; 100])).unwrap();
            sent += 1;
        }
        while let (data, Read::Data(_)) = server.read(id, now) {
            streamed += data.len();
        }
        received += server
            .call(|c| Ok(c.receive_datagrams(0, 100).len()))
            .unwrap();
    });
    assert!(streamed > 5_000_000, "{streamed}");
    assert!(received > 180, "{received} of {sent} in two seconds");
}
