//! Clients and a server joined by a link with a speed, a length, a queue and losses, on a clock that
//! only tests move. The queue is shared by all clients; the way back has the length and the losses
//! only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

/// What a link is like.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Bytes a second.
    pub rate: u64,
    /// There and back, when nothing waits.
    pub round_trip: Duration,
    /// Bytes that may wait for their turn.
    pub queue: u64,
    /// Packets lost of a thousand, both ways.
    pub loss: u64,
}

impl Link {
    /// Bytes that fill it when nothing waits.
    pub fn product(&self) -> u64 {
        u64::try_from(u128::from(self.rate) * self.round_trip.as_micros() / 1_000_000).unwrap()
    }
}

/// When it arrives, its number, its sender, its receiver.
type OnTheWay = Reverse<(Instant, u64, usize, usize, BytesMut)>;

/// The server is the first of the peers.
pub struct Network {
    pub now: Instant,
    pub peers: Vec<Peer>,
    pub link: Link,
    random: Box<dyn FnMut() -> u64>,
    free_at: Instant,
    wire: BinaryHeap<OnTheWay>,
    order: u64,
    dirty: Vec<usize>,
}

impl Network {
    /// With the server's settings; clients follow by [`Self::connect`].
    pub fn new(link: Link, transport: TransportOptions, seed: u64) -> Self {
        let mut server = Peer::new(SERVER);
        let tls = server_tls(identity().0);
        server
            .endpoint
            .serve(&tls, transport, ServerOptions::default())
            .unwrap();
        let now = Instant::now();
        Self {
            now,
            peers: vec![server],
            link,
            random: Box::new(random(seed)),
            free_at: now,
            wire: BinaryHeap::new(),
            order: 0,
            dirty: Vec::new(),
        }
    }

    /// A client that begins now; its index.
    pub fn connect(&mut self, transport: TransportOptions) -> usize {
        let index = self.peers.len();
        let mut client = Peer::new(&format!("127.0.0.1:{}", 1_111 + index));
        let options = ClientOptions::new(&client_tls(), transport).unwrap();
        let connection = client
            .endpoint
            .connect(self.now, &options, self.peers[0].address, "localhost")
            .unwrap();
        client.connections.insert(connection.handle(), connection);
        self.peers.push(client);
        self.touch(index);
        index
    }

    /// Something was done with a connection of this peer.
    pub fn touch(&mut self, peer: usize) {
        if !self.dirty.contains(&peer) {
            self.dirty.push(peer);
        }
    }

    /// When the link has carried a packet; `None`: it was lost.
    fn carry(&mut self, size: usize, to_server: bool) -> Option<Instant> {
        let is_lost = (self.random)() % 1_000 < self.link.loss;
        let half = self.link.round_trip / 2;
        if !to_server {
            return (!is_lost).then(|| self.now + half);
        }
        let time = |bytes: u64| Duration::from_secs_f64(bytes as f64 / self.link.rate as f64);
        let waiting = self.free_at.saturating_duration_since(self.now);
        if waiting > time(self.link.queue) {
            return None;
        }
        self.free_at = self.free_at.max(self.now) + time(size as u64);
        (!is_lost).then(|| self.free_at + half)
    }

    /// Sends what there is, then lets the next packets arrive or the next timers fire. What happened
    /// is in the peers' events.
    pub fn step(&mut self) {
        for index in std::mem::take(&mut self.dirty) {
            let mut out = Vec::new();
            Pair::collect(&mut self.peers[index], self.now, &mut out);
            for (_, to, data) in out {
                let is_it = |peer: &Peer| peer.address == to;
                let to = self.peers.iter().position(is_it).unwrap();
                if let Some(at) = self.carry(data.len(), to == 0) {
                    self.order += 1;
                    self.wire.push(Reverse((at, self.order, index, to, data)));
                }
            }
        }
        let timers = self.peers.iter_mut().flat_map(|peer| {
            let connections = peer.connections.values_mut();
            connections.filter_map(Connection::poll_timeout)
        });
        let timer = timers.min();
        let packet = self.wire.peek().map(|Reverse((at, ..))| *at);
        let next = timer.into_iter().chain(packet).min();
        self.now = self.now.max(next.expect("something happens next"));
        while let Some(Reverse((at, ..))) = self.wire.peek() {
            if *at > self.now {
                break;
            }
            let Reverse((_, _, from, to, data)) = self.wire.pop().unwrap();
            let address = self.peers[from].address;
            Pair::deliver(&mut self.peers[to], self.now, address, data);
            self.touch(to);
        }
        for (index, peer) in self.peers.iter_mut().enumerate() {
            for (handle, connection) in &mut peer.connections {
                let is_due = connection.poll_timeout().is_some_and(|at| at <= self.now);
                if is_due {
                    connection.handle_timeout(self.now);
                }
                if is_due && !self.dirty.contains(&index) {
                    self.dirty.push(index);
                }
                if self.dirty.contains(&index) {
                    let events = std::iter::from_fn(|| connection.poll());
                    peer.events.extend(events.map(|event| (*handle, event)));
                }
            }
        }
    }
}
