//! What the packet keys and the connection tell each other, past quinn.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn_proto::Side;

use crate::allowance::Allowance;
use crate::certificate::CertificateFault;
use crate::frames::{self, How, Prefix, StreamEnd};
use crate::in_flight::DatagramsInFlight;
use crate::tail::{Tail, MAX_TAIL};

/// Shared by a connection, its TLS session and its packet keys. All of it happens on one thread;
/// the locks only say so to the compiler, and the flags keep most packets from taking them.
#[derive(Default)]
pub(crate) struct Sideband {
    pub(crate) allowance: Allowance,
    /// The peer takes RESET_STREAM_AT.
    reset_stream_at: AtomicBool,
    /// Milliseconds; 0: the peer has none.
    idle_timeout: AtomicU64,
    has_ends: AtomicBool,
    ends: Mutex<Vec<StreamEnd>>,
    /// The connection waits for the end of a stream, whatever it looks like.
    wants_every_end: AtomicBool,
    /// Bytes kept free in every packet for `prefixes`.
    room: AtomicUsize,
    prefixes: Mutex<Vec<Prefix>>,
    /// The connection has sent datagrams.
    sends_datagrams: AtomicBool,
    has_datagrams_in_flight: AtomicBool,
    datagrams: Mutex<DatagramsInFlight>,
    has_tail: AtomicBool,
    tail: Mutex<Tail>,
    /// Bytes kept free in every packet for `tail`, because the next may be a probe.
    probe_room: AtomicUsize,
    certificate_fault: Mutex<Option<CertificateFault>>,
    tls_received: AtomicU64,
}

impl Sideband {
    /// `announced`: the streams that the peer may open at first, by `Dir as usize`.
    pub(crate) fn new(peer: Side, announced: [u64; 2]) -> Self {
        Self {
            allowance: Allowance::new(peer, announced),
            ..Self::default()
        }
    }

    pub(crate) fn peer_takes_reset_stream_at(&self) -> bool {
        self.reset_stream_at.load(Ordering::Relaxed)
    }

    pub(crate) fn set_peer_takes_reset_stream_at(&self, takes: bool) {
        self.reset_stream_at.store(takes, Ordering::Relaxed);
    }

    /// After how much silence the peer gives up; `None`: never.
    pub(crate) fn peer_idle_timeout(&self) -> Option<Duration> {
        match self.idle_timeout.load(Ordering::Relaxed) {
            0 => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }

    pub(crate) fn set_peer_idle_timeout(&self, millis: u64) {
        self.idle_timeout.store(millis, Ordering::Relaxed);
    }

    /// A packet has been decrypted; returns how much of it is to be looked at.
    pub(crate) fn received(&self, payload: &mut [u8]) -> usize {
        let wants_every = self.wants_every_end.load(Ordering::Relaxed);
        let has_datagrams = self.has_datagrams_in_flight.load(Ordering::Relaxed);
        let has_tail = self.has_tail.load(Ordering::Relaxed);
        let report = |end: StreamEnd| {
            // What came whole is read whole: its end is never in doubt.
            if end.how == (How::Fin { whole: true }) && !wants_every {
                return;
            }
            lock(&self.ends).push(end);
            self.has_ends.store(true, Ordering::Relaxed);
        };
        if !has_datagrams && !has_tail {
            return frames::translate(payload, report, |_| ());
        }
        let mut datagrams = lock(&self.datagrams);
        let mut tail = lock(&self.tail);
        let useful = frames::translate(payload, report, |range| {
            datagrams.acked(&range);
            tail.acked(&range);
        });
        datagrams.declare_lost();
        self.has_datagrams_in_flight
            .store(!datagrams.is_empty(), Ordering::Relaxed);
        self.has_tail.store(!tail.is_empty(), Ordering::Relaxed);
        useful
    }

    /// From now on packets may have datagrams.
    pub(crate) fn set_sends_datagrams(&self) {
        self.sends_datagrams.store(true, Ordering::Relaxed);
    }

    /// Bytes of TLS messages that came, each counted once.
    pub(crate) fn tls_received(&self) -> u64 {
        self.tls_received.load(Ordering::Relaxed)
    }

    pub(crate) fn add_tls_received(&self, size: usize) {
        self.tls_received.fetch_add(size as u64, Ordering::Relaxed);
    }

    /// Datagrams whose packets were acknowledged, and those whose packets were lost.
    pub(crate) fn datagrams_arrived_and_lost(&self) -> (u64, u64) {
        let datagrams = lock(&self.datagrams);
        (datagrams.delivered, datagrams.lost)
    }

    /// Ends that packets have told of since the last call.
    pub(crate) fn take_ends(&self) -> Vec<StreamEnd> {
        if !self.has_ends.load(Ordering::Relaxed) {
            return Vec::new();
        }
        self.has_ends.store(false, Ordering::Relaxed);
        std::mem::take(&mut *lock(&self.ends))
    }

    pub(crate) fn set_wants_every_end(&self, wants: bool) {
        self.wants_every_end.store(wants, Ordering::Relaxed);
    }

    /// Bytes kept free in every packet for the prefixes of resets.
    pub(crate) fn room(&self) -> usize {
        self.room.load(Ordering::Relaxed)
    }

    /// All bytes kept free in every packet.
    pub(crate) fn all_room(&self) -> usize {
        self.room() + self.probe_room.load(Ordering::Relaxed)
    }

    /// A packet is about to be encrypted, whose last `room` bytes are the room.
    pub(crate) fn sending(&self, packet: u64, payload: &mut [u8], room: usize) {
        let free = match room {
            0 => 0,
            _ => frames::attach(payload, room, &lock(&self.prefixes)),
        };
        self.note_tail(packet, payload, free);
        if self.sends_datagrams.load(Ordering::Relaxed) {
            let count = frames::count_datagrams(payload);
            if count > 0 {
                lock(&self.datagrams).sent(packet, count);
                self.has_datagrams_in_flight.store(true, Ordering::Relaxed);
            }
        }
    }

    fn note_tail(&self, packet: u64, payload: &mut [u8], free: usize) {
        let has_tail = self.has_tail.load(Ordering::Relaxed);
        if !has_tail && payload.len() > MAX_TAIL {
            return;
        }
        let mut tail = lock(&self.tail);
        if has_tail && frames::add_to_probe(payload, free, tail.frames()) {
            return;
        }
        tail.sent(packet, &payload[free..]);
        self.has_tail.store(!tail.is_empty(), Ordering::Relaxed);
    }

    /// The next packet may be a probe. Not while quinn builds packets, nor is [`Self::end_probe`].
    pub(crate) fn expect_probe(&self) {
        if self.has_tail.load(Ordering::Relaxed) {
            let room = lock(&self.tail).frames().len();
            self.probe_room.store(room, Ordering::Relaxed);
        }
    }

    /// There is no probe to send, or no more; whether one was expected.
    pub(crate) fn end_probe(&self) -> bool {
        let expected = self.probe_room.load(Ordering::Relaxed) > 0;
        self.probe_room.store(0, Ordering::Relaxed);
        expected
    }

    /// A stream was reset: none of its data may be sent any more (RFC 9000 §3.1).
    pub(crate) fn forget_tail(&self) {
        if self.has_tail.load(Ordering::Relaxed) {
            lock(&self.tail).forget();
            self.has_tail.store(false, Ordering::Relaxed);
        }
    }

    /// The resets of a stream get a prefix. Not while quinn builds packets.
    pub(crate) fn add_prefix(&self, prefix: Prefix) {
        let mut prefixes = lock(&self.prefixes);
        self.room
            .store(self.room() + prefix.room(), Ordering::Relaxed);
        prefixes.push(prefix);
    }

    /// Forgets the prefixes of streams that are over. Not while quinn builds packets.
    pub(crate) fn retain_prefixes(&self, mut is_needed: impl FnMut(u64) -> bool) {
        let mut prefixes = lock(&self.prefixes);
        prefixes.retain(|prefix| is_needed(prefix.id));
        let room = prefixes.iter().map(Prefix::room).sum();
        self.room.store(room, Ordering::Relaxed);
    }

    pub(crate) fn set_certificate_fault(&self, fault: Option<CertificateFault>) {
        *lock(&self.certificate_fault) = fault;
    }

    pub(crate) fn take_certificate_fault(&self) -> Option<CertificateFault> {
        lock(&self.certificate_fault).take()
    }
}

/// A panic elsewhere has ended its connection, and this one's lists are whole between calls.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
