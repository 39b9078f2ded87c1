//! What is in flight, and when the latest acknowledged packet was sent, read off the calls to the
//! congestion controller: quinn-proto tells nobody else.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

/// The send time of the latest packet that the peer has acknowledged.
#[derive(Debug, Default)]
pub struct AckClock(Mutex<Option<Instant>>);

impl AckClock {
    /// Whether the peer has acknowledged a packet that was sent at `sent` or later.
    pub fn has_passed(&self, sent: Instant) -> bool {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latest.is_some_and(|latest| latest >= sent)
    }

    fn note(&self, sent: Instant) {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.is_none_or(|latest| latest < sent) {
            *latest = Some(sent);
        }
    }
}

/// Makes controllers of another factory that remember what they are told.
pub(crate) struct Observed {
    pub(crate) factory: Arc<dyn ControllerFactory + Send + Sync>,
    pub(crate) clock: Option<Arc<AckClock>>,
}

/// What a connection does to its controller, and the other way round.
#[derive(Debug, Default)]
pub(crate) struct Valve {
    lifted: AtomicBool,
    held: AtomicBool,
    /// Bytes a second; 0: as the window allows.
    rate: AtomicU64,
}

impl Valve {
    /// Lets nothing pass but acknowledgements and probes for lost packets.
    pub(crate) fn hold(&self, is_held: bool) {
        self.held.store(is_held, Ordering::Relaxed);
    }

    /// Bytes a second that the controller wants to let pass.
    pub(crate) fn rate(&self) -> Option<u64> {
        let rate = self.rate.load(Ordering::Relaxed);
        (rate > 0 && !self.lifted.load(Ordering::Relaxed)).then_some(rate)
    }
}

/// That of a connection's controller, if it is one of [`Observed`].
pub(crate) fn valve(controller: &dyn Controller) -> Option<Arc<Valve>> {
    observed(controller).map(|observed| observed.valve)
}

/// quinn shows of a controller no more than its clone.
fn observed(controller: &dyn Controller) -> Option<Box<ObservedController>> {
    controller.clone_box().into_any().downcast().ok()
}

/// Lets everything pass from now on. quinn holds a CONNECTION_CLOSE back as long as the window is
/// full and anything else waits for room, and would do so for ever: once closed, it takes no ACKs.
pub(crate) fn lift(controller: &dyn Controller) {
    if let Some(valve) = valve(controller) {
        valve.lifted.store(true, Ordering::Relaxed);
    }
}

/// Bytes that the peer may not have yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flight {
    /// In flight after the latest ACK frame.
    pub(crate) after_ack: u64,
    /// Sent since, packets that are never acknowledged included.
    pub(crate) since: u64,
}

/// What the controller of a connection was told, if it is one of [`Observed`].
pub(crate) fn flight(controller: &dyn Controller) -> Flight {
    observed(controller)
        .map(|observed| observed.flight)
        .unwrap_or_default()
}

impl ControllerFactory for Observed {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(ObservedController {
            inner: self.factory.clone().build(now, current_mtu),
            clock: self.clock.clone(),
            flight: Flight::default(),
            valve: Arc::default(),
        })
    }
}

struct ObservedController {
    inner: Box<dyn Controller>,
    clock: Option<Arc<AckClock>>,
    flight: Flight,
    /// Shared with clones.
    valve: Arc<Valve>,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed")
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}

impl Controller for ObservedController {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.flight.since += bytes;
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        if let Some(clock) = &self.clock {
            clock.note(sent);
        }
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.flight = Flight {
            after_ack: in_flight,
            since: 0,
        };
        self.inner
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
        if let Some(bits) = self.inner.metrics().pacing_rate {
            self.valve.rate.store(bits / 8, Ordering::Relaxed);
        }
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.valve.lifted.load(Ordering::Relaxed) {
            return NO_WINDOW;
        }
        if self.valve.held.load(Ordering::Relaxed) {
            return 0;
        }
        self.inner.window()
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            inner: self.inner.clone_box(),
            clock: self.clock.clone(),
            flight: self.flight,
            valve: self.valve.clone(),
        })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// More than is ever in flight.
const NO_WINDOW: u64 = 1 << 40;
