//! What a long, lossy or shared link makes of a connection, in virtual time.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod common;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use common::link::{Link, Network};
use common::read_all;
use pywt_quic::{
    Congestion, Connection, Dir, Event, Handle, ReadState, TransportOptions, WriteState,
};

const MEGABIT: u64 = 1_000_000 / 8;
const SECOND: Duration = Duration::from_secs(1);

fn link(megabits: u64, millis: u64, queue: f64, loss: u64) -> Link {
    let mut link = Link {
        rate: megabits * MEGABIT,
        round_trip: Duration::from_millis(millis),
        queue: 0,
        loss,
    };
    link.queue = (link.product() as f64 * queue) as u64;
    link
}

fn with(congestion: Congestion) -> TransportOptions {
    TransportOptions {
        congestion,
        ..TransportOptions::default()
    }
}

/// Clients that upload without end.
struct Uploads {
    network: Network,
    /// How many each client has.
    streams: usize,
    /// Bytes that the server has read, by the connection's handle.
    received: HashMap<Handle, u64>,
    handles: Vec<Handle>,
}

impl Uploads {
    fn new(link: Link, transport: TransportOptions, seed: u64) -> Self {
        Self {
            network: Network::new(link, transport, seed),
            streams: 1,
            received: HashMap::new(),
            handles: Vec::new(),
        }
    }

    /// Lets time pass; bytes a second that each connection got through meanwhile.
    fn run(&mut self, time: Duration) -> Vec<f64> {
        let before = self.received();
        let end = self.network.now + time;
        while self.network.now < end {
            self.network.step();
            self.feed();
        }
        let begun = before.into_iter().chain(std::iter::repeat(0));
        let grown = self.received().into_iter().zip(begun);
        grown
            .map(|(now, before)| (now - before) as f64 / time.as_secs_f64())
            .collect()
    }

    fn feed(&mut self) {
        for index in 0..self.network.peers.len() {
            let peer = &mut self.network.peers[index];
            for (handle, event) in std::mem::take(&mut peer.events) {
                let connection = peer.connections.get_mut(&handle).unwrap();
                match event {
                    Event::Connected if index > 0 => {
                        for _ in 0..self.streams {
                            let id = connection.open(Dir::Uni).unwrap();
                            fill(connection, id);
                        }
                    }
                    Event::Connected => self.handles.push(handle),
                    Event::Writable(id) => fill(connection, id),
                    Event::StreamsOpened(dir) => {
                        while let Some(id) = connection.accept(dir) {
                            *self.received.entry(handle).or_default() += drain(connection, id);
                        }
                    }
                    Event::Readable(id) => {
                        *self.received.entry(handle).or_default() += drain(connection, id);
                    }
                    Event::Closed(close) => panic!("{close:?}"),
                    _ => {}
                }
            }
        }
    }

    /// Bytes received so far, in the order of the connections.
    fn received(&self) -> Vec<u64> {
        let of = |handle| self.received.get(handle).copied().unwrap_or_default();
        self.handles.iter().map(of).collect()
    }
}

fn fill(connection: &mut Connection, id: u64) {
    static ZEROS: [u8; 65_536] = [0; 65_536];
    loop {
        let mut data = Bytes::from_static(&ZEROS);
        let (_, state) = connection.write_bytes(id, &mut data);
        if state == WriteState::Blocked {
            return;
        }
    }
}

fn drain(connection: &mut Connection, id: u64) -> u64 {
    let mut chunks: Vec<Bytes> = Vec::new();
    connection.read(id, usize::MAX, &mut chunks);
    chunks.iter().map(|chunk| chunk.len() as u64).sum()
}

/// The share of the link that one upload gets once it has begun, and its round trip.
fn upload(link: Link, congestion: Congestion, time: Duration) -> (f64, Duration) {
    let mut uploads = Uploads::new(link, TransportOptions::default(), 7);
    uploads.network.connect(with(congestion));
    uploads.run(SECOND);
    let rate = uploads.run(time)[0];
    let rtt = uploads.network.peers[1].only().stats().rtt;
    (rate / link.rate as f64, rtt)
}

#[test]
fn bbr_fills_a_link_that_loses_packets() {
    for loss in [0, 10, 20] {
        let (share, _) = upload(link(20, 20, 1.0, loss), Congestion::Bbr, 2 * SECOND);
        assert!(share > 0.8, "{loss} of 1000 lost: {share}");
    }
    // The losses of a fast one are no full queue, even where a burst after a pause makes a short one.
    let (share, _) = upload(link(100, 40, 2.0, 10), Congestion::Bbr, 4 * SECOND);
    assert!(share > 0.85, "{share}");
    // For what others make of it the formula is known: RFC 3649 §2 and RFC 9438 §5.1.
    for congestion in [Congestion::Cubic, Congestion::NewReno] {
        let (share, _) = upload(link(20, 20, 1.0, 10), congestion, 2 * SECOND);
        assert!(share < 0.6, "{congestion:?}: {share}");
    }
}

#[test]
fn bbr_leaves_the_queue_to_others() {
    let link = link(50, 20, 2.0, 0);
    let (share, rtt) = upload(link, Congestion::Bbr, 3 * SECOND);
    assert!(share > 0.85, "{share}");
    assert!(rtt < link.round_trip.mul_f64(1.25), "{rtt:?}");
    let (_, rtt) = upload(link, Congestion::Cubic, 3 * SECOND);
    assert!(rtt > link.round_trip.mul_f64(1.5), "{rtt:?}");
}

/// How many times as much as the first the second gets, which begins two seconds later: the middle
/// of three tries, since ids and skipped packet numbers are random and move when a loss falls.
fn ratio(link: Link, first: Congestion, second: Congestion) -> f64 {
    let mut ratios = [(); 3].map(|()| one_ratio(link, first, second));
    ratios.sort_by(f64::total_cmp);
    ratios[1]
}

fn one_ratio(link: Link, first: Congestion, second: Congestion) -> f64 {
    // So large that it is never the window that keeps a queue full.
    let transport = TransportOptions {
        stream_receive_window: 12_000_000,
        ..TransportOptions::default()
    };
    let mut uploads = Uploads::new(link, transport, 7);
    uploads.network.connect(with(first));
    uploads.run(2 * SECOND);
    uploads.network.connect(with(second));
    uploads.run(4 * SECOND);
    let rates = uploads.run(10 * SECOND);
    let used = rates.iter().sum::<f64>() / link.rate as f64;
    assert!(used > 0.65, "{first:?} and {second:?} use {used}");
    rates[1] / rates[0]
}

fn share_three_to_one_at_worst(link: Link, first: Congestion, second: Congestion) {
    let ratio = ratio(link, first, second);
    assert!(
        (1.0 / 3.0..3.0).contains(&ratio),
        "{first:?}, {second:?}, {link:?}: {ratio}"
    );
}

#[test]
fn bbr_and_cubic_share_a_link_whatever_its_queue() {
    for queue in [0.5, 1.0] {
        let link = link(20, 40, queue, 0);
        share_three_to_one_at_worst(link, Congestion::Bbr, Congestion::Cubic);
        share_three_to_one_at_worst(link, Congestion::Cubic, Congestion::Bbr);
    }
}

/// CUBIC fills such a queue, and BBR does not want to: here it is BBR that has the smaller part.
#[test]
fn bbr_is_not_pushed_out_where_cubic_fills_a_long_queue() {
    let link = link(20, 40, 4.0, 0);
    for (cubic, bbr) in [
        (ratio(link, Congestion::Bbr, Congestion::Cubic), 1.0),
        (1.0, ratio(link, Congestion::Cubic, Congestion::Bbr)),
    ] {
        assert!(
            (1.0 / 3.0..5.0).contains(&(cubic / bbr)),
            "{cubic} to {bbr}"
        );
    }
}

#[test]
fn bbr_lets_cubic_grow_on_a_fast_link_with_a_short_queue() {
    for megabits in [50, 100] {
        let link = link(megabits, 40, 0.5, 0);
        share_three_to_one_at_worst(link, Congestion::Bbr, Congestion::Cubic);
    }
}

#[test]
fn two_bbr_share_a_link() {
    let link = link(20, 40, 1.0, 0);
    share_three_to_one_at_worst(link, Congestion::Bbr, Congestion::Bbr);
}

#[test]
fn a_gigabit_over_40_milliseconds_is_filled() {
    let link = link(1_000, 40, 1.0, 0);
    for (streams, window) in [
        (4, TransportOptions::default().stream_receive_window),
        (1, 6_000_000),
    ] {
        let transport = TransportOptions {
            stream_receive_window: window,
            ..TransportOptions::default()
        };
        let mut uploads = Uploads::new(link, transport, 7);
        uploads.streams = streams;
        uploads.network.connect(TransportOptions::default());
        uploads.run(SECOND * 2 / 3);
        let share = uploads.run(SECOND / 5)[0] / link.rate as f64;
        assert!(share > 0.9, "{streams} streams of {window} bytes: {share}");
    }
}

/// How long each of many requests of 64 bytes takes, one after the other, on streams of their own;
/// the slowest last.
fn request_times(link: Link, requests: usize) -> Vec<Duration> {
    let mut network = Network::new(link, TransportOptions::default(), 3);
    let client = network.connect(TransportOptions::default());
    let (mut times, mut began) = (Vec::new(), network.now);
    while times.len() < requests {
        network.step();
        let mut is_idle = false;
        for index in 0..=client {
            let peer = &mut network.peers[index];
            for (handle, event) in std::mem::take(&mut peer.events) {
                let connection = peer.connections.get_mut(&handle).unwrap();
                match event {
                    Event::Connected => is_idle |= index == client,
                    Event::StreamsOpened(dir) => {
                        while let Some(id) = connection.accept(dir) {
                            answer(connection, id);
                        }
                    }
                    Event::Readable(id) if index != client => answer(connection, id),
                    Event::Readable(id) if read_whole(connection, id) => {
                        times.push(network.now - began);
                        is_idle = true;
                    }
                    Event::Closed(close) => panic!("{close:?}"),
                    _ => {}
                }
            }
        }
        if is_idle {
            began = network.now;
            let connection = network.peers[client].only();
            let id = connection.open(Dir::Bi).unwrap();
            connection.write(id, &[7; 64]);
            connection.finish(id);
            network.touch(client);
        }
    }
    times.sort_unstable();
    times
}

fn read_whole(connection: &mut Connection, id: u64) -> bool {
    let (data, state) = read_all(connection, id);
    assert!(state != ReadState::Finished || data.len() == 64);
    state == ReadState::Finished
}

fn answer(connection: &mut Connection, id: u64) {
    if read_whole(connection, id) {
        connection.write(id, &[7; 64]);
        connection.finish(id);
    }
}

/// What is lost is sent again in the first probe: RTT + 4 * 1/4 ms + 5 ms after it was (RFC 9002 §6.2.1),
/// and not one round trip later, when the probe's acknowledgement has shown the loss.
#[test]
fn a_lost_request_or_answer_costs_one_probe_timeout() {
    let link = link(1_000, 20, 1.0, 10);
    let times = request_times(link, 1_000);
    let lost = times
        .iter()
        .filter(|time| **time > link.round_trip * 2)
        .count();
    assert!((10..40).contains(&lost), "{lost}");
    assert!(times[990] < Duration::from_millis(50), "{:?}", times[990]);
    assert!(times[500] < Duration::from_millis(21), "{:?}", times[500]);
}
