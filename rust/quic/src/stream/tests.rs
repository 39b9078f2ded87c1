//! Resets and stops over a wire that loses, reorders and changes keys.

use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::{Event, TransportOptions};

#[path = "../../tests/common/mod.rs"]
mod common;

use common::{random, read_all, Pair};

const HEADER: &[u8] = b"\x40\x54\x07";

/// A small window, so that credit must come back, and few streams, so that they must be freed.
fn narrow() -> TransportOptions {
    TransportOptions {
        initial_streams: 16,
        max_streams_uni: 16,
        receive_window: 20_000,
        stream_receive_window: 4_000,
        ..TransportOptions::default()
    }
}

fn lossy(pair: &mut Pair, seed: u64, percent: u64) {
    let mut number = random(seed);
    pair.drop_if = Box::new(move |_| number() % 100 < percent);
    let mut number = random(seed + 1);
    pair.overtake_if = Box::new(move |_| number() % 100 < percent);
}

fn code_of(number: u64) -> u64 {
    0x52e4_a40f_a900 + number
}

#[test]
fn every_reset_brings_its_header_its_code_and_its_final_size() {
    for (seed, percent) in [(1, 0), (2, 10), (3, 30)] {
        let mut pair = Pair::connected_with(narrow());
        lossy(&mut pair, seed, percent);
        let mut choose = random(seed + 2);
        let total = 300;
        let mut sent: HashMap<u64, (u64, u64)> = HashMap::new();
        let mut received: HashMap<u64, Vec<u8>> = HashMap::new();
        let mut ended = 0;
        for round in 0.. {
            assert!(round < 3_000, "{ended} of {total}, {percent} %");
            let client = pair.client.only();
            while sent.len() < total {
                let Some(id) = client.open(Dir::Uni) else {
                    break;
                };
                let number = sent.len() as u64;
                let body = vec![number as u8; 1 + choose() as usize % 5_000];
                let written = client.write(id, &[HEADER, &body].concat()).0;
                let prefix = [HEADER, &body[..1]].concat();
                // Connection credit may be used up: then the peer has seen nothing of it.
                let prefix = prefix.get(..4.min(written)).unwrap();
                let prefix = if written < 4 { &[][..] } else { prefix };
                assert!(client.reset(id, code_of(number), prefix));
                sent.insert(id, (number, written as u64));
            }
            if round % 50 == 7 {
                client.inner.force_key_update();
            }
            pair.advance(Duration::from_millis(20));
            let server = pair.server.only();
            while let Some(id) = server.accept(Dir::Uni) {
                received.insert(id, Vec::new());
            }
            let mut over = Vec::new();
            for (id, bytes) in &mut received {
                let (data, state) = read_all(server, *id);
                bytes.extend(data);
                match state {
                    ReadState::More | ReadState::Blocked => {}
                    ReadState::Reset(reset) => {
                        let (number, final_size) = sent[id];
                        assert_eq!(reset.code, code_of(number));
                        assert_eq!(reset.final_size, final_size);
                        if final_size >= 4 {
                            assert_eq!(bytes[..3], *HEADER);
                        }
                        over.push(*id);
                    }
                    other => panic!("{other:?}"),
                }
            }
            ended += over.len();
            received.retain(|id, _| !over.contains(id));
            if ended == total {
                break;
            }
        }
        pair.drop_if = Box::new(|_| false);
        pair.advance(Duration::from_secs(5));
        for peer in [&mut pair.client, &mut pair.server] {
            assert_eq!(peer.only().tracked_streams(), 0);
            assert_eq!(peer.only().sideband.room(), 0);
            assert!(!peer.only().is_closed());
        }
    }
}

#[test]
fn a_stopped_stream_ends_with_its_final_size_however_it_ends() {
    for (seed, percent) in [(11, 0), (12, 10), (13, 30)] {
        let mut pair = Pair::connected_with(narrow());
        lossy(&mut pair, seed, percent);
        let mut choose = random(seed + 2);
        let total = 200;
        let mut written: HashMap<u64, u64> = HashMap::new();
        let mut waiting: Vec<u64> = Vec::new();
        let mut stopped = Vec::new();
        let mut ended: HashMap<u64, u64> = HashMap::new();
        for round in 0.. {
            assert!(round < 3_000, "{} of {total}, {percent} %", ended.len());
            let client = pair.client.only();
            while written.len() < total {
                let Some(id) = client.open(Dir::Uni) else {
                    break;
                };
                let body = vec![1; choose() as usize % 3_000];
                written.insert(id, client.write(id, &body).0 as u64);
                // What is not ended here ends in answer to STOP_SENDING.
                match choose() % 3 {
                    0 => assert!(client.finish(id)),
                    1 if !body.is_empty() => {
                        let known = (written[&id] as usize).min(4);
                        assert!(client.reset(id, 9, &body[..known]));
                    }
                    // The server would never hear of it.
                    _ if written[&id] == 0 => assert!(client.finish(id)),
                    _ => {}
                }
            }
            pair.advance(Duration::from_millis(20));
            for event in pair.client.take_events() {
                if let Event::Stopped { id, .. } = event {
                    pair.client.only().reset(id, 10, b"");
                }
            }
            let server = pair.server.only();
            while let Some(id) = server.accept(Dir::Uni) {
                waiting.push(id);
            }
            waiting.retain(|id| {
                // Some are stopped when part of them was read, some when nothing was.
                let max = choose() as usize % 2_000;
                let (_, state) = server.read(*id, max, &mut Vec::new());
                match state {
                    ReadState::Finished => {
                        ended.insert(*id, written[id]);
                        return false;
                    }
                    ReadState::Reset(reset) => {
                        ended.insert(*id, reset.final_size);
                        return false;
                    }
                    _ => {}
                }
                if choose().is_multiple_of(3) {
                    return true;
                }
                match server.stop(*id, 77) {
                    Stopped::Ended { final_size } => {
                        ended.insert(*id, final_size);
                    }
                    Stopped::Sent => stopped.push(*id),
                    Stopped::Unknown => panic!("stream {id} is not known"),
                }
                false
            });
            for event in pair.server.take_events() {
                if let Event::StoppedStreamEnded { id, final_size } = event {
                    assert!(stopped.contains(&id));
                    assert_eq!(ended.insert(id, final_size), None);
                }
            }
            if ended.len() == total {
                break;
            }
        }
        assert_eq!(ended, written);
        assert!(!stopped.is_empty());
        pair.drop_if = Box::new(|_| false);
        pair.advance(Duration::from_secs(5));
        assert_eq!(pair.server.only().tracked_streams(), 0);
        assert!(!pair.server.only().is_closed());
    }
}
