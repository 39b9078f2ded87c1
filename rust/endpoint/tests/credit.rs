//! Session credit that comes in crumbs: it wakes those it is for, and nobody waits for ever.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use common::{Pair, Setup};
use pywt_endpoint::core::{Config, Dir};
use pywt_endpoint::{ConnectionOptions, Notification};

const STREAMS: usize = 50;
const SIZE: usize = 1_000;

/// A session of many streams and little credit, and their ids on the client.
fn crowd() -> (Pair, Vec<u64>) {
    let mut server = Config::server();
    server.flow_control.initial_max_data = 100;
    server.flow_control.max_data_window = 100;
    server.flow_control.initial_max_streams_uni = STREAMS as u64;
    let mut client = Config::client();
    client.flow_control = server.flow_control;
    let mut pair = Pair::with_session(&Setup {
        client: ConnectionOptions::new(client),
        server: ConnectionOptions::new(server),
        ..Setup::default()
    });
    let now = pair.now;
    let ids = (0..STREAMS)
        .map(|_| {
            let opened = pair.client.call(|c| c.open_stream(0, Dir::Uni, now));
            opened.unwrap().unwrap()
        })
        .collect();
    pair.settle();
    (pair, ids)
}

fn woken(pair: &mut Pair) -> Vec<u64> {
    let told = pair.client.take().into_iter();
    told.filter_map(|told| match told {
        Notification::StreamWritable(id) => Some(id),
        _ => None,
    })
    .collect()
}

fn read_all(pair: &mut Pair, ids: &[u64]) -> usize {
    let now = pair.now;
    ids.iter()
        .map(|id| pair.server.read(*id, now).0.len())
        .sum()
}

#[test]
fn crumbs_of_credit_wake_those_who_get_them() {
    let (mut pair, ids) = crowd();
    let mut rest: Vec<usize> = vec![SIZE; ids.len()];
    let (mut wakes, mut in_vain, mut received) = (0, 0, 0);
    let mut ready = ids.clone();
    while received < SIZE * ids.len() {
        for id in std::mem::take(&mut ready) {
            let left = &mut rest[ids.iter().position(|each| *each == id).unwrap()];
            let now = pair.now;
            let taken = pair.client.write(id, &vec![1; *left], true, now).unwrap();
            *left -= taken;
            in_vain += usize::from(taken == 0);
        }
        pair.client.endpoint.next_turn();
        pair.settle();
        received += read_all(&mut pair, &ids);
        pair.settle();
        ready = woken(&mut pair);
        wakes += ready.len();
        assert!(
            !ready.is_empty() || received == SIZE * ids.len(),
            "{received}"
        );
    }
    // The first round asked for everything at once.
    in_vain -= STREAMS - 1;
    assert!(in_vain * 4 <= wakes, "{in_vain} of {wakes} in vain");
    assert!(wakes < 3 * SIZE * STREAMS / 50, "{wakes}");
}

#[test]
fn whoever_is_woken_and_does_not_write_keeps_nobody_else_waiting() {
    let (mut pair, ids) = crowd();
    let now = pair.now;
    for id in &ids {
        pair.client.write(*id, &[1; SIZE], false, now).unwrap();
    }
    pair.settle();
    assert_eq!(read_all(&mut pair, &ids), 100);
    // Nobody writes, one is reset: all the others are woken in turn, each once.
    let now = pair.now;
    pair.client
        .call(|c| c.stream_reset(ids[7], 1, now))
        .unwrap();
    let mut told = Vec::new();
    loop {
        pair.settle();
        told.extend(woken(&mut pair));
        if !pair.client.endpoint.wants_turn() {
            break;
        }
        pair.client.endpoint.next_turn();
    }
    told.sort_unstable();
    let mut expected = ids.clone();
    expected.remove(7);
    assert_eq!(told, expected);
    // There is credit all the same.
    let now = pair.now;
    assert_eq!(pair.client.write(ids[9], &[1; SIZE], false, now), Ok(100));
}
