//! What arrived before the end of a session, or of its connection, is delivered before the end.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Pair, Setup};
use pywt_endpoint::core::wire::codes::{app_error_to_http, error};
use pywt_endpoint::core::Dir;
use pywt_endpoint::{Notification, Read};

const WHOLE: &[u8] = &[7; 20_000];

/// The client has sent a whole stream, one without its end, and three datagrams; nothing of it has
/// been read, and one stream has not even been looked at.
fn laden() -> (Pair, u64, u64) {
    let mut pair = Pair::with_session(&Setup::default());
    let now = pair.now;
    let mut open = |dir| {
        let opened = pair.client.call(|c| c.open_stream(0, dir, now));
        opened.unwrap().unwrap()
    };
    let (whole, cut) = (open(Dir::Uni), open(Dir::Bidi));
    pair.client.write(whole, WHOLE, true, now).unwrap();
    pair.client.write(cut, b"not all", false, now).unwrap();
    for byte in 0..3 {
        pair.client.call(|c| c.send_datagram(0, &[byte])).unwrap();
    }
    pair.settle();
    let opened = pair.server.take();
    assert_eq!(opened.len(), 2, "{opened:?}");
    (pair, whole, cut)
}

fn is_end(told: &Notification) -> bool {
    matches!(told, Notification::SessionClosed { session: 0, .. })
}

fn check(pair: &mut Pair, whole: u64, cut: u64) {
    let told = pair.server.take();
    let reset = Notification::StreamReset {
        stream: cut,
        code: None,
        raw: error::WT_SESSION_GONE,
    };
    let resets = |told: &&Notification| matches!(told, Notification::StreamReset { .. });
    assert_eq!(told.iter().filter(resets).collect::<Vec<_>>(), [&reset]);
    assert_eq!(told.iter().filter(|told| is_end(told)).count(), 1);
    let now = pair.now;
    assert_eq!(
        pair.server.read(whole, now),
        (WHOLE.to_vec(), Read::Last(WHOLE.len()))
    );
    assert_eq!(pair.server.read(whole, now), (vec![], Read::End));
    assert_eq!(pair.server.read(cut, now), (vec![], Read::End));
    let datagrams = pair.server.call(|c| Ok(c.receive_datagrams(0, 2)));
    assert_eq!(datagrams.unwrap(), [&[0][..], &[1]]);
    pair.server
        .call(|c| {
            c.forget_ended(0);
            Ok(())
        })
        .unwrap();
    assert_eq!(pair.server.drops().ended, 1);
    for id in [whole, cut] {
        assert_eq!(pair.server.read(id, now), (vec![], Read::End));
    }
    assert_eq!(pair.server.call(|c| Ok(c.receive_datagram(0))), Ok(None));
}

#[test]
fn the_peer_closes_the_session() {
    let (mut pair, whole, cut) = laden();
    let now = pair.now;
    pair.client
        .call(|c| c.close_session(0, 1, "", now))
        .unwrap();
    pair.settle();
    check(&mut pair, whole, cut);
    pair.settle();
    assert_eq!(pair.server.kept(), 0);
}

#[test]
fn this_end_closes_the_session() {
    let (mut pair, whole, cut) = laden();
    let now = pair.now;
    pair.server
        .call(|c| c.close_session(0, 1, "", now))
        .unwrap();
    check(&mut pair, whole, cut);
    pair.settle();
    assert_eq!(pair.server.kept(), 0);
}

#[test]
fn the_peer_closes_the_connection() {
    let (mut pair, whole, cut) = laden();
    pair.client.endpoint.close_at_once(pair.now);
    pair.settle();
    check(&mut pair, whole, cut);
}

#[test]
fn this_end_closes_the_connection() {
    let (mut pair, whole, cut) = laden();
    pair.server.endpoint.close_at_once(pair.now);
    check(&mut pair, whole, cut);
}

#[test]
fn a_stream_that_was_half_read_goes_on_where_it_was() {
    let (mut pair, whole, _) = laden();
    let now = pair.now;
    let mut chunks = Vec::new();
    let read = pair
        .server
        .call(|c| Ok(c.stream_read(whole, 5_000, &mut chunks, now)));
    assert_eq!(read, Ok(Read::Data(5_000)));
    pair.client
        .call(|c| c.close_session(0, 1, "", now))
        .unwrap();
    pair.settle();
    let now = pair.now;
    let mut rest = 0;
    loop {
        let mut chunks = Vec::new();
        match pair
            .server
            .call(|c| Ok(c.stream_read(whole, 999, &mut chunks, now)))
            .unwrap()
        {
            Read::Data(size) => rest += size,
            Read::Last(size) => {
                rest += size;
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rest, WHOLE.len() - 5_000);
}

#[test]
fn a_reset_of_the_peer_is_one_also_when_the_session_ends_behind_it() {
    let (mut pair, _, cut) = laden();
    let now = pair.now;
    pair.client.call(|c| c.stream_reset(cut, 9, now)).unwrap();
    pair.client
        .call(|c| c.close_session(0, 1, "", now))
        .unwrap();
    pair.settle();
    let told = pair.server.take();
    let reset = Notification::StreamReset {
        stream: cut,
        code: Some(9),
        raw: app_error_to_http(9),
    };
    assert!(told.contains(&reset), "{told:?}");
    assert_eq!(pair.server.read(cut, pair.now), (vec![], Read::End));
}
