//! Whatever two applications do to each other, what has ended leaves nothing behind.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Pair, Setup, Side};
use pywt_endpoint::core::{Config, Dir};
use pywt_endpoint::quic::TransportOptions;
use pywt_endpoint::{ConnectionOptions, Error, Kept, Notification, Read};

/// Splitmix64: tests repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }
}

/// A stream as the application of one side knows it.
#[derive(Clone, Copy, Debug)]
struct Known {
    session: u64,
    sending: bool,
    receiving: bool,
    /// This side has asked for no more, and its entry waits for the peer's end.
    stopped: bool,
}

#[derive(Default)]
struct Model {
    sessions: Vec<u64>,
    streams: BTreeMap<u64, Known>,
}

impl Model {
    /// Streams that may have an entry.
    fn alive(&self) -> usize {
        let alive = |known: &&Known| known.sending || known.receiving || known.stopped;
        self.streams.values().filter(alive).count()
    }

    fn end(&mut self, session: u64) {
        self.sessions.retain(|id| *id != session);
        self.streams.retain(|_, known| known.session != session);
    }

    fn hear(&mut self, side: &mut Side, told: Notification) {
        match told {
            Notification::StreamOpened { session, stream } => {
                let known = Known {
                    session,
                    // RFC 9000 §2.1.
                    sending: stream & 2 == 0,
                    receiving: true,
                    stopped: false,
                };
                self.streams.insert(stream, known);
            }
            Notification::StreamReset { stream, .. } => {
                if let Some(known) = self.streams.get_mut(&stream) {
                    known.receiving = false;
                }
            }
            Notification::StreamStopped { stream, .. } => {
                if let Some(known) = self.streams.get_mut(&stream) {
                    known.sending = false;
                }
            }
            Notification::SessionClosed { session, .. } => {
                self.end(session);
                let _gone = side.call(|c| {
                    c.forget_ended(session);
                    Ok(())
                });
            }
            _ => {}
        }
    }
}

struct World {
    pair: Pair,
    models: [Model; 2],
    random: Random,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let flow = random.below(3);
        let mut setup = Setup::default();
        for (options, mut core) in [
            (&mut setup.client, Config::client()),
            (&mut setup.server, Config::server()),
        ] {
            core.flow_control.initial_max_data = [20_000, 200_000, 1 << 20][flow];
            core.flow_control.initial_max_streams_bidi = [4, 20, 100][flow];
            core.flow_control.initial_max_streams_uni = [4, 20, 100][flow];
            *options = ConnectionOptions::new(core);
            options.incoming_datagram_count = 5;
            options.outgoing_datagram_count = 5;
        }
        let transport = TransportOptions {
            stream_receive_window: 30_000,
            // Full of unread data, it would hold up the capsule that closes a session.
            receive_window: 1 << 22,
            ..TransportOptions::default()
        };
        setup.client_transport = transport.clone();
        setup.server_transport = transport;
        let mut world = Self {
            pair: Pair::with_session(&setup),
            models: Default::default(),
            random,
        };
        for model in &mut world.models {
            model.sessions.push(0);
        }
        world
    }

    fn side(&mut self, server: bool) -> (&mut Side, &mut Model, &mut Random) {
        let [client, at_server] = &mut self.models;
        match server {
            false => (&mut self.pair.client, client, &mut self.random),
            true => (&mut self.pair.server, at_server, &mut self.random),
        }
    }

    fn hear(&mut self) {
        for server in [false, true] {
            let (side, model, _) = self.side(server);
            for told in side.take() {
                model.hear(side, told);
            }
        }
    }

    /// Lets everything arrive, paced packets too, and everybody hear of it.
    fn settle(&mut self) {
        for _ in 0..3 {
            self.pair.advance(Duration::from_millis(50));
            self.hear();
        }
    }

    fn another_session(&mut self) {
        let session = self.pair.request();
        self.pair.accept(session);
        for model in &mut self.models {
            model.sessions.push(session);
        }
    }

    fn step(&mut self) {
        let server = self.random.below(2) == 1;
        let now = self.pair.now;
        let action = self.random.below(100);
        let (side, model, random) = self.side(server);
        let session = random.pick(&model.sessions);
        let ids: Vec<u64> = model.streams.keys().copied().collect();
        let stream = random.pick(&ids);
        match (action, session, stream) {
            (0..20, Some(session), _) => {
                let dir = [Dir::Bidi, Dir::Uni][random.below(2)];
                if let Ok(Some(id)) = side.call(|c| c.open_stream(session, dir, now)) {
                    let known = Known {
                        session,
                        sending: true,
                        receiving: dir == Dir::Bidi,
                        stopped: false,
                    };
                    model.streams.insert(id, known);
                }
            }
            (20..45, _, Some(id)) => {
                let data = vec![7; random.below(20_000)];
                let fin = random.below(3) == 0;
                let known = model.streams.get_mut(&id).unwrap();
                match side.write(id, &data, fin, now) {
                    Ok(taken) => known.sending &= !(fin && taken == data.len()),
                    // Told by now, or not yet.
                    Err(error) => assert!(
                        matches!(error, Error::StreamFinished(_) | Error::Closed),
                        "{error}"
                    ),
                }
            }
            (45..65, _, Some(id)) => {
                let known = model.streams.get_mut(&id).unwrap();
                if known.receiving && side.read(id, now).1 == Read::End {
                    known.receiving = false;
                }
            }
            (65..72, _, Some(id)) => {
                let reset = side.call(|c| c.stream_reset(id, 1, now));
                model.streams.get_mut(&id).unwrap().sending &= reset.is_err();
            }
            (72..79, _, Some(id)) => {
                side.call(|c| c.stream_stop(id, 2, now)).unwrap();
                let known = model.streams.get_mut(&id).unwrap();
                known.stopped |= known.receiving;
                known.receiving = false;
            }
            (79..88, Some(session), _) => {
                let data = vec![9; random.below(1_000)];
                let _may_be_over = side.call(|c| c.send_datagram(session, &data));
            }
            (88..92, Some(session), _) => {
                side.call(|c| Ok(c.receive_datagrams(session, 3))).unwrap();
            }
            (92..94, Some(session), _) => {
                let closed = side.call(|c| c.close_session(session, 3, "done", now));
                if closed.is_ok() {
                    self.hear();
                }
            }
            (94.., _, _) => {
                self.pair.settle();
                self.hear();
            }
            _ => {}
        }
    }

    /// The peer's end of a stopped stream has arrived when its sending side is over.
    fn note_stopped(&mut self) {
        for server in [false, true] {
            let ended: Vec<u64> = {
                let other = &self.models[usize::from(!server)];
                let over = |id: &&u64| other.streams.get(*id).is_none_or(|known| !known.sending);
                let ids = self.models[usize::from(server)].streams.keys();
                ids.filter(over).copied().collect()
            };
            for id in ended {
                let (_, model, _) = self.side(server);
                model.streams.get_mut(&id).unwrap().stopped = false;
            }
        }
    }

    fn kept(&mut self, server: bool) -> (Kept, usize, usize) {
        let (side, ..) = self.side(server);
        let connection = side.endpoint.connection(side.key.unwrap()).unwrap();
        (
            connection.kept(),
            connection.core().stats().streams,
            connection.quic().tracked_streams(),
        )
    }

    fn check(&mut self, seed: u64) {
        self.settle();
        self.note_stopped();
        for server in [false, true] {
            let kept = self.kept(server).0;
            let alive = self.models[usize::from(server)].alive();
            let model = &self.models[usize::from(server)].streams;
            assert!(kept.streams <= alive, "seed {seed}: {kept:?}, {model:?}");
        }
    }
}

#[test]
fn what_has_ended_has_no_entry_and_after_the_last_session_nothing_has() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        for round in 0..4 {
            if world.models.iter().all(|model| model.sessions.len() < 2) {
                world.another_session();
            }
            for _ in 0..60 {
                world.step();
            }
            world.check(seed * 100 + round);
        }
        let now = world.pair.now;
        for session in world.models[0].sessions.clone() {
            let (side, ..) = world.side(seed % 2 == 0);
            // The other side may have closed it meanwhile.
            let _closed = side.call(|c| c.close_session(session, 0, "", now));
            world.hear();
        }
        world.settle();
        for server in [false, true] {
            let (kept, core, quic) = world.kept(server);
            assert_eq!(kept, Kept::default(), "seed {seed}");
            // Both control streams, of which one is read.
            assert_eq!((core, quic), (2, 1), "seed {seed}");
        }
    }
}
