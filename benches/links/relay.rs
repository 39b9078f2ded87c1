//! A link between UDP sockets: `relay TO DELAY_MS LOSS_PER_MILLE SEED [BYTES_A_SECOND QUEUE_BYTES]`.
//!
//! Prints the port it listens on. Every packet waits DELAY_MS each way and is lost with the same
//! chance each way; which ones is a matter of SEED. With a rate, packets towards TO pass one after
//! the other, wait in one queue for it and are lost when that is full. Standard library only:
//! `rustc -O relay.rs`.

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

extern "C" {
    fn setsockopt(fd: i32, level: i32, name: i32, value: *const i32, size: u32) -> i32;
}

/// Room for what comes while this program waits for a core.
fn with_room(socket: UdpSocket) -> UdpSocket {
    // SOL_SOCKET; SO_RCVBUFFORCE and SO_SNDBUFFORCE, which root may, then SO_RCVBUF and SO_SNDBUF.
    for name in [8, 7, 33, 32] {
        let size: i32 = 16 << 20;
        // SAFETY: the value is one integer that outlives the call.
        unsafe { setsockopt(socket.as_raw_fd(), 1, name, &size, 4) };
    }
    socket
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % end
    }
}

struct Link {
    delay: Duration,
    loss: u64,
    random: Random,
    rate: Option<f64>,
    queue: f64,
    free_at: Instant,
}

impl Link {
    /// When a packet that comes now leaves; `None`: never.
    fn carry(&mut self, now: Instant, size: usize) -> Option<Instant> {
        let lost = self.random.below(1_000) < self.loss;
        let mut leaves = now;
        if let Some(rate) = self.rate {
            let waiting = self.free_at.saturating_duration_since(now);
            if waiting.as_secs_f64() * rate > self.queue {
                return None;
            }
            self.free_at = self.free_at.max(now) + Duration::from_secs_f64(size as f64 / rate);
            leaves = self.free_at;
        }
        (!lost).then(|| leaves + self.delay)
    }
}

type Packet = (Instant, Vec<u8>, Arc<UdpSocket>, SocketAddr);

/// Packets of one direction, in the order in which they leave.
#[derive(Default)]
struct Lane {
    packets: Mutex<VecDeque<Packet>>,
    filled: Condvar,
}

impl Lane {
    fn push(&self, packet: Packet) {
        let mut packets = self.packets.lock().unwrap();
        packets.push_back(packet);
        if packets.len() == 1 {
            self.filled.notify_one();
        }
    }

    fn run(&self) {
        loop {
            let mut packets = self.packets.lock().unwrap();
            while packets.is_empty() {
                packets = self.filled.wait(packets).unwrap();
            }
            let wait = packets[0].0.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                let (_, data, socket, to) = packets.pop_front().unwrap();
                drop(packets);
                let _ = socket.send_to(&data, to);
            } else {
                drop(packets);
                thread::sleep(wait);
            }
        }
    }
}

/// From one socket into a lane; `onward` says with which socket and where to a packet goes on.
fn pass(
    from: &UdpSocket,
    link: &Mutex<Link>,
    lane: &Lane,
    mut onward: impl FnMut(SocketAddr) -> (Arc<UdpSocket>, SocketAddr),
) {
    let mut buffer = [0; 65_536];
    loop {
        // A socket tells of packets that nobody took; the next call tells of others.
        let Ok((size, source)) = from.recv_from(&mut buffer) else {
            continue;
        };
        let (socket, to) = onward(source);
        let leaves = link.lock().unwrap().carry(Instant::now(), size);
        if let Some(at) = leaves {
            lane.push((at, buffer[..size].to_vec(), socket, to));
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize| arguments.get(index).map(|text| text.parse::<f64>().unwrap());
    let to: SocketAddr = arguments[0].parse().unwrap();
    let link = |rate: Option<f64>, salt: u64| {
        Arc::new(Mutex::new(Link {
            delay: Duration::from_secs_f64(number(1).unwrap() / 1e3),
            loss: number(2).unwrap() as u64,
            random: Random((number(3).unwrap() as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt),
            rate,
            queue: number(5).unwrap_or(0.0),
            free_at: Instant::now(),
        }))
    };
    let (there, back) = (link(number(4), 0), link(None, 0x5bd1_e995));
    let (lane_there, lane_back) = (Arc::new(Lane::default()), Arc::new(Lane::default()));
    for lane in [lane_there.clone(), lane_back.clone()] {
        thread::spawn(move || lane.run());
    }
    let front = Arc::new(with_room(UdpSocket::bind("127.0.0.1:0").unwrap()));
    println!("{}", front.local_addr().unwrap().port());
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    pass(&front.clone(), &there, &lane_there, |source| {
        let socket = clients.entry(source).or_insert_with(|| {
            let socket = Arc::new(with_room(UdpSocket::bind("127.0.0.1:0").unwrap()));
            let (front, back, lane) = (front.clone(), back.clone(), lane_back.clone());
            let from = socket.clone();
            thread::spawn(move || pass(&from, &back, &lane, |_| (front.clone(), source)));
            socket
        });
        (socket.clone(), to)
    });
}
