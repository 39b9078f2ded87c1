//! BBR: sends as fast as the path has lately delivered, keeps in flight what fits, and takes losses
//! for congestion only where they come with a queue, or are many.
//!
//! After draft-ietf-ccwg-bbr (version 3), whose sections the comments name, with these changes:
//! - A loss means a full queue when every packet of its round trip had to wait ([`QUEUED`]), or when
//!   losses are [`MANY_LOSSES`]. The draft takes 2 % for many, which a radio link loses without being
//!   full; in return the queue's losses count from the first one on.
//! - Such losses while cruising, when they are not due to a probe, take all but [`YIELD`] off until the
//!   next probe. The draft takes off what was not delivered, which leaves a CUBIC flow on the same
//!   link a tenth.
//! - Where a probe or a cruise has met a full queue, the next probe waits until a CUBIC flow that lost
//!   packets there as well has grown back. The draft waits no more than 63 round trips, which keep that
//!   flow small where the path has room for many packets.
//! - quinn-proto tells of sent packets by the batch and of acknowledged ones by the time they were
//!   sent, so delivery rates (§4.1) are those of batches.

mod probe;

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

/// Makes [`Bbr`] controllers.
#[derive(Debug)]
pub(crate) struct BbrConfig;

impl ControllerFactory for BbrConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Bbr::new(now, current_mtu))
    }
}

/// What was known when a batch of packets was sent (§4.1.2.2).
#[derive(Clone, Copy, Debug)]
struct Batch {
    sent: Instant,
    /// Sent first of the flight that the batch belongs to.
    flight_began: Instant,
    delivered: u64,
    delivered_at: Instant,
    lost: u64,
    /// The batch included.
    in_flight: u64,
    app_limited: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Doubles the rate until the path delivers no more (§5.3.1).
    Startup,
    /// Empties the queue that this made (§5.3.2).
    Drain,
    /// Leaves room after a probe (§5.3.3.1).
    Down,
    Cruise,
    /// Fills the pipe, that a probe finds the queue's room and not its own (§5.3.3.3).
    Refill,
    /// Looks for more.
    Up,
    /// Measures the round trip without a queue of its own (§5.3.4).
    ProbeRtt,
}

/// The largest value of this period and the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    before: u64,
    now: u64,
}

impl Recent {
    fn note(&mut self, value: u64) {
        self.now = self.now.max(value);
    }

    fn next_period(&mut self) {
        *self = Self {
            before: self.now,
            now: 0,
        };
    }

    fn max(self) -> u64 {
        self.before.max(self.now)
    }
}

#[derive(Clone, Debug)]
struct Bbr {
    mtu: u64,
    phase: Phase,
    phase_began: Instant,
    window: u64,
    /// Bytes a second; 0: not known yet.
    pacing_rate: u64,

    /// Shared with clones, which are for looking at.
    batches: Arc<VecDeque<Batch>>,
    flight_began: Instant,
    delivered: u64,
    delivered_at: Instant,
    lost: u64,
    in_flight: u64,
    /// Until so much is delivered, the application and not the path set the rate.
    app_limited_until: u64,
    /// Of the batches that are being acknowledged, the one sent last.
    newest: Option<Batch>,
    newly_acked: u64,

    rounds: u64,
    round_ends_at: u64,
    /// When the round began.
    round_delivered: u64,
    round_lost: u64,
    round_rtt: Duration,
    losses_in_round: u32,
    is_marked: bool,

    /// Bytes a second, over the last two probes.
    bandwidth: Recent,
    min_rtt: Duration,
    min_rtt_at: Instant,
    lowest_rtt: Duration,
    lowest_rtt_at: Instant,

    is_full: bool,
    full_bandwidth: u64,
    rounds_without_growth: u32,

    /// Above it a probe has met many losses.
    most_in_flight: u64,
    /// What a round of many losses has left: bytes a second and bytes.
    short_rate: u64,
    short_in_flight: u64,
    latest_rate: u64,
    latest_delivered: u64,

    /// Losses are due to the probe.
    is_probing: bool,
    /// When the last round ended.
    was_cruising: bool,
    /// The next round is the first after a probe.
    probe_ends: bool,
    probe_wait: Duration,
    rounds_since_probe: u64,
    probe_growth: u64,
    /// Losses have come with a queue since the last probe began.
    has_overflowed: bool,

    aggregate_began: Instant,
    aggregate: u64,
    aggregates: Recent,

    rtt_probe_ends: Option<Instant>,
    window_before: u64,
}

impl Bbr {
    fn new(now: Instant, mtu: u16) -> Self {
        let mtu = u64::from(mtu);
        Self {
            mtu,
            phase: Phase::Startup,
            phase_began: now,
            window: initial_window(mtu),
            pacing_rate: 0,
            batches: Arc::default(),
            flight_began: now,
            delivered: 0,
            delivered_at: now,
            lost: 0,
            in_flight: 0,
            app_limited_until: 0,
            newest: None,
            newly_acked: 0,
            rounds: 0,
            round_ends_at: 0,
            round_delivered: 0,
            round_lost: 0,
            round_rtt: Duration::MAX,
            losses_in_round: 0,
            is_marked: false,
            bandwidth: Recent::default(),
            min_rtt: Duration::MAX,
            min_rtt_at: now,
            lowest_rtt: Duration::MAX,
            lowest_rtt_at: now,
            is_full: false,
            full_bandwidth: 0,
            rounds_without_growth: 0,
            most_in_flight: u64::MAX,
            short_rate: u64::MAX,
            short_in_flight: u64::MAX,
            latest_rate: 0,
            latest_delivered: 0,
            is_probing: true,
            was_cruising: false,
            probe_ends: false,
            probe_wait: Duration::ZERO,
            rounds_since_probe: 0,
            probe_growth: 0,
            has_overflowed: false,
            aggregate_began: now,
            aggregate: 0,
            aggregates: Recent::default(),
            rtt_probe_ends: None,
            window_before: 0,
        }
    }

    fn rate(&self) -> u64 {
        self.bandwidth.max().min(self.short_rate)
    }

    /// Bytes in flight that keep the path busy, times `gain`.
    fn fitting(&self, rate: u64, gain: f64) -> u64 {
        if self.min_rtt == Duration::MAX || rate == 0 {
            return initial_window(self.mtu);
        }
        (gain * rate as f64 * self.min_rtt.as_secs_f64()) as u64
    }

    /// Bytes that leave at once where timers are coarse.
    fn quantum(&self) -> u64 {
        (self.pacing_rate / 1_000).clamp(2 * self.mtu, 65_536)
    }

    fn smallest_window(&self) -> u64 {
        4 * self.mtu
    }

    fn gains(&self) -> (f64, f64) {
        match self.phase {
            Phase::Startup => (2.77, 2.0),
            Phase::Drain => (0.5, 2.0),
            Phase::Down => (0.9, 2.0),
            Phase::Cruise | Phase::Refill => (1.0, 2.0),
            Phase::Up => (1.25, 2.25),
            Phase::ProbeRtt => (1.0, 0.5),
        }
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.phase_began = now;
    }

    fn batch_of(&self, sent: Instant) -> Option<Batch> {
        let at = self.batches.partition_point(|batch| batch.sent < sent);
        self.batches
            .get(at)
            .filter(|batch| batch.sent == sent)
            .copied()
    }

    /// §4.1.2.3. The rate at which the newest acknowledged batch and those before were delivered.
    fn take_sample(&mut self) -> Option<(Batch, u64)> {
        let batch = self.newest.take()?;
        let sending = batch.sent.saturating_duration_since(batch.flight_began);
        let arriving = self
            .delivered_at
            .saturating_duration_since(batch.delivered_at);
        let interval = sending.max(arriving);
        let delivered = self.delivered - batch.delivered;
        self.latest_delivered = self.latest_delivered.max(delivered);
        if interval.is_zero() || interval < self.min_rtt {
            return Some((batch, 0));
        }
        Some((batch, (delivered as f64 / interval.as_secs_f64()) as u64))
    }

    /// Whether a round trip is over.
    fn count_round(&mut self, batch: &Batch) -> bool {
        if batch.delivered < self.round_ends_at {
            return false;
        }
        self.round_ends_at = self.delivered;
        self.rounds += 1;
        self.rounds_since_probe += 1;
        true
    }

    /// Whether every packet of the round had to wait: then a queue overflows where packets are lost.
    fn has_queue(&self) -> bool {
        self.min_rtt < Duration::MAX && self.round_rtt > self.min_rtt.mul_f64(QUEUED)
    }

    fn many_lost(&self, lost: u64, of: u64) -> bool {
        let many = if self.has_queue() {
            MANY_QUEUED_LOSSES
        } else {
            MANY_LOSSES
        };
        lost > 3 * self.mtu && lost as f64 > of as f64 * many
    }

    /// §5.5.10.3, and the end of startup by losses (§5.3.1.3).
    fn end_round(&mut self, app_limited: bool) {
        let lost = self.lost - self.round_lost;
        let all = lost + self.delivered - self.round_delivered;
        let has_many = self.is_marked || self.many_lost(lost, all);
        let is_cruising = self.phase == Phase::Cruise;
        // The losses of a round are of packets that were sent in the one before.
        let was_cruising = std::mem::replace(&mut self.was_cruising, is_cruising);
        if self.phase == Phase::Startup && has_many && (self.is_marked || self.losses_in_round >= 6)
        {
            self.is_full = true;
            let fitting = self.fitting(self.bandwidth.max(), 1.0);
            self.most_in_flight = fitting.max(self.latest_delivered);
        }
        if was_cruising && is_cruising && (has_many || (lost > 0 && self.has_queue())) {
            self.has_overflowed |= self.has_queue();
            // What the next round loses was sent before this one's losses were answered.
            self.was_cruising = false;
            let reduced = |value: u64| (value as f64 * YIELD) as u64;
            self.short_rate = reduced(self.rate());
            self.short_in_flight = reduced(self.short_in_flight.min(self.window));
        }
        self.look_for_growth(app_limited);
        self.latest_rate = 0;
        self.latest_delivered = 0;
        self.round_lost = self.lost;
        self.round_delivered = self.delivered;
        self.losses_in_round = 0;
        self.is_marked = false;
    }

    /// §5.3.1.2.
    fn look_for_growth(&mut self, app_limited: bool) {
        if app_limited {
            return;
        }
        let bandwidth = self.bandwidth.max();
        if bandwidth as f64 >= self.full_bandwidth as f64 * 1.25 {
            self.full_bandwidth = bandwidth;
            self.rounds_without_growth = 0;
            return;
        }
        self.rounds_without_growth += 1;
        if self.phase == Phase::Startup && self.rounds_without_growth >= 3 {
            self.is_full = true;
        }
    }

    /// §5.5.9. Acknowledgements come together: what that lets through at once beyond the rate.
    fn note_aggregate(&mut self, now: Instant) {
        let time = now.saturating_duration_since(self.aggregate_began);
        let mut expected = (self.rate() as f64 * time.as_secs_f64()) as u64;
        if self.aggregate <= expected {
            self.aggregate = 0;
            self.aggregate_began = now;
            expected = 0;
        }
        self.aggregate += self.newly_acked;
        let extra = (self.aggregate - expected).min(self.window);
        self.aggregates.note(extra);
    }

    /// §5.3.4.3.
    fn note_rtt(&mut self, now: Instant, rtt: Duration) -> bool {
        let is_old = now.saturating_duration_since(self.lowest_rtt_at) > RTT_PROBE_EVERY;
        if rtt <= self.lowest_rtt || is_old {
            self.lowest_rtt = rtt;
            self.lowest_rtt_at = now;
        }
        let is_outdated = now.saturating_duration_since(self.min_rtt_at) > MIN_RTT_LASTS;
        if self.lowest_rtt <= self.min_rtt || is_outdated {
            self.min_rtt = self.lowest_rtt;
            self.min_rtt_at = self.lowest_rtt_at;
        }
        is_old
    }

    /// A batch was acknowledged that went out when `batch` says; `rate`: at which it was delivered, 0
    /// when that cannot be told.
    fn learn(&mut self, now: Instant, batch: &Batch, rate: u64) {
        let batches = Arc::make_mut(&mut self.batches);
        while batches
            .front()
            .is_some_and(|old| old.sent + self.min_rtt.min(LATE) * 2 < batch.sent)
        {
            batches.pop_front();
        }
        let is_round = self.count_round(batch);
        if !batch.app_limited || rate > self.bandwidth.max() {
            self.bandwidth.note(rate);
        }
        self.latest_rate = self.latest_rate.max(rate);
        let rtt = now.saturating_duration_since(batch.sent);
        self.round_rtt = self.round_rtt.min(rtt);
        let rtt_is_old = self.note_rtt(now, rtt);
        self.note_aggregate(now);
        if is_round {
            if self.rounds.is_multiple_of(AGGREGATE_ROUNDS) {
                self.aggregates.next_period();
            }
            self.end_round(batch.app_limited);
            self.round_rtt = rtt;
        }
        if self.phase == Phase::Startup && self.is_full {
            self.enter(Phase::Drain, now);
        }
        if self.phase == Phase::Drain && self.in_flight <= self.fitting(self.bandwidth.max(), 1.0) {
            self.begin_down(now);
        }
        self.probe_bandwidth(now, batch, is_round);
        self.probe_rtt(now, rtt_is_old, is_round);
        self.set_rates();
    }

    /// §5.6.
    fn set_rates(&mut self) {
        let (pacing_gain, window_gain) = self.gains();
        let rate = (self.rate() as f64 * pacing_gain * PACING_MARGIN) as u64;
        if self.pacing_rate == 0 && self.min_rtt > Duration::ZERO {
            let first = self.window as f64 / self.min_rtt.as_secs_f64();
            self.pacing_rate = (first * pacing_gain) as u64;
        }
        if rate > 0 && (self.is_full || rate > self.pacing_rate) {
            self.pacing_rate = rate;
        }
        let budget = 3 * self.quantum();
        let most = self.fitting(self.rate(), window_gain).max(budget) + self.aggregates.max();
        if self.is_full {
            self.window = most.min(self.window + self.newly_acked);
        } else if self.window < most || self.delivered < 2 * initial_window(self.mtu) {
            self.window += self.newly_acked;
        }
        let bound = match self.phase {
            Phase::Startup | Phase::Drain => u64::MAX,
            Phase::Down | Phase::Refill | Phase::Up => self.most_in_flight,
            Phase::Cruise => (self.most_in_flight as f64 * HEADROOM) as u64,
            Phase::ProbeRtt => self.rtt_probe_window(),
        };
        self.window = self
            .window
            .min(bound)
            .min(self.short_in_flight)
            .max(self.smallest_window());
    }
}

impl Controller for Bbr {
    fn on_sent(&mut self, now: Instant, bytes: u64, _: u64) {
        if self.in_flight == 0 {
            self.flight_began = now;
            self.delivered_at = now;
        }
        self.in_flight += bytes;
        let batches = Arc::make_mut(&mut self.batches);
        if batches.len() == MAX_BATCHES {
            batches.pop_front();
        }
        batches.push_back(Batch {
            sent: now,
            flight_began: self.flight_began,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            lost: self.lost,
            in_flight: self.in_flight,
            app_limited: self.app_limited_until > 0,
        });
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _: bool, _: &RttEstimator) {
        self.delivered += bytes;
        self.delivered_at = now;
        self.newly_acked += bytes;
        if self.newest.is_none_or(|newest| newest.sent < sent) {
            if let Some(batch) = self.batch_of(sent) {
                self.newest = Some(batch);
                self.flight_began = sent;
            }
        }
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, _: Option<u64>) {
        self.in_flight = in_flight;
        if self.app_limited_until > 0 && self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        if let Some((batch, rate)) = self.take_sample() {
            self.learn(now, &batch, rate);
        }
        if app_limited {
            self.app_limited_until = (self.delivered + in_flight).max(1);
        }
        self.newly_acked = 0;
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost: u64) {
        self.lost += lost;
        self.in_flight = self.in_flight.saturating_sub(lost);
        self.losses_in_round += 1;
        // A mark counts as much as many losses (RFC 9002 §7.3.2).
        let is_mark = lost == 0;
        self.is_marked |= is_mark;
        if let Some(batch) = self.batch_of(sent).filter(|_| self.is_probing) {
            if is_mark || self.many_lost(self.lost - batch.lost, batch.in_flight) {
                self.take_probe_back(now, &batch);
            }
        }
        if is_persistent {
            self.window = self.smallest_window();
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = u64::from(new_mtu);
        self.window = self.window.max(self.smallest_window());
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window;
        metrics.pacing_rate = (self.pacing_rate > 0).then_some(self.pacing_rate * 8);
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        initial_window(self.mtu)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// RFC 9002 §7.2.
fn initial_window(mtu: u64) -> u64 {
    (10 * mtu).min(14_720.max(2 * mtu))
}

/// Share of what is in flight; more than a handful as well.
const MANY_LOSSES: f64 = 0.1;
/// The same where there is a queue.
const MANY_QUEUED_LOSSES: f64 = 0.02;
/// A round trip of so many shortest ones had a queue.
const QUEUED: f64 = 1.125;
/// What many losses leave (§2.4).
const BETA: f64 = 0.7;
/// What the queue's losses leave until the next probe.
const YIELD: f64 = 0.6;
/// Of what a probe has found to fit, and of what was in flight when it found a full queue: the rest is
/// for others.
const HEADROOM: f64 = 0.85;
/// Slightly less than measured, that a queue gets shorter.
const PACING_MARGIN: f64 = 0.99;
/// By how many packets a CUBIC flow grows in a round trip where it grows as NewReno does (RFC 9438 §4.3).
const CUBIC_GROWTH: f64 = 3.0 * (1.0 - CUBIC_BETA) / (1.0 + CUBIC_BETA);
/// How steeply it grows where it does not (RFC 9438 §5).
const CUBIC_C: f64 = 0.4;
/// What it keeps after a loss (RFC 9438 §4.6).
const CUBIC_BETA: f64 = 0.7;
/// After so much of the time that it takes to its old window it has all but 2 % of it.
const CUBIC_NEARLY: f64 = 0.6;
const MIN_RTT_LASTS: Duration = Duration::from_secs(10);
const RTT_PROBE_EVERY: Duration = Duration::from_secs(5);
const AGGREGATE_ROUNDS: u64 = 5;
/// A packet acknowledged so much later than others says nothing.
const LATE: Duration = Duration::from_secs(1);
/// Batches that are remembered until they are acknowledged, the latest ones: 1 Gbit/s and 40 ms have
/// 4,000 packets in flight.
const MAX_BATCHES: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_batches_are_remembered_than_a_fast_long_path_has() {
        let start = Instant::now();
        let mut bbr = Bbr::new(start, 1_200);
        let at = |number: usize| start + Duration::from_micros(number as u64);
        for number in 0..MAX_BATCHES {
            bbr.on_sent(at(number), 1_200, number as u64);
        }
        assert!(bbr.batch_of(at(0)).is_some());
        bbr.on_sent(at(MAX_BATCHES), 1_200, MAX_BATCHES as u64);
        assert!(bbr.batch_of(at(0)).is_none());
        assert!(bbr.batch_of(at(1)).is_some());
        assert_eq!(bbr.batches.len(), MAX_BATCHES);
    }
}
