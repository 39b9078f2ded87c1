//! How BBR asks the path for more, and for its shortest round trip.

use std::time::{Duration, Instant};

use super::{Batch, Bbr, Phase, BETA, CUBIC_BETA, CUBIC_C, CUBIC_GROWTH, CUBIC_NEARLY, HEADROOM};

impl Bbr {
    pub(super) fn begin_down(&mut self, now: Instant) {
        self.enter(Phase::Down, now);
        self.probe_ends = true;
        self.is_probing = false;
        self.rounds_since_probe = 0;
        // Two to three seconds, not the same for everybody (§5.3.3.5).
        let noise = self.min_rtt.as_nanos() as u64 ^ self.delivered.rotate_left(7) ^ self.rounds;
        self.probe_wait =
            Duration::from_millis(2_000 + noise.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000);
    }

    pub(super) fn begin_refill(&mut self, now: Instant) {
        self.enter(Phase::Refill, now);
        self.short_rate = u64::MAX;
        self.short_in_flight = u64::MAX;
        self.has_overflowed = false;
        self.round_ends_at = self.delivered + self.in_flight;
        self.is_probing = true;
    }

    /// Whether a probe is due: after a while, or after as many round trips as a Reno flow with this
    /// window would take to grow by it (§5.3.3.5.1). After a full queue: when a CUBIC flow with this window
    /// has grown back.
    fn wants_probe(&self, now: Instant) -> bool {
        let packets = self.fitting(self.bandwidth.max(), 1.0) / self.mtu;
        let (time, rounds) = if self.has_overflowed {
            let lost = packets as f64 * (1.0 - CUBIC_BETA);
            let time = Duration::from_secs_f64((lost / CUBIC_C).cbrt() * CUBIC_NEARLY);
            (time, ((lost / CUBIC_GROWTH) as u64).max(1))
        } else {
            (self.probe_wait, packets.clamp(1, 63))
        };
        now.saturating_duration_since(self.phase_began) >= time || self.rounds_since_probe >= rounds
    }

    /// §5.3.3.
    pub(super) fn probe_bandwidth(&mut self, now: Instant, batch: &Batch, is_round: bool) {
        if self.most_in_flight != u64::MAX && self.is_probing {
            self.most_in_flight = self.most_in_flight.max(batch.in_flight);
        }
        if is_round && self.probe_ends {
            self.probe_ends = false;
            if !batch.app_limited {
                self.bandwidth.next_period();
            }
        }
        match self.phase {
            Phase::Down => {
                let room = (self.most_in_flight as f64 * HEADROOM) as u64;
                if self.in_flight <= self.fitting(self.bandwidth.max(), 1.0).min(room) {
                    self.phase = Phase::Cruise;
                }
                if self.wants_probe(now) {
                    self.begin_refill(now);
                }
            }
            Phase::Cruise if self.wants_probe(now) => self.begin_refill(now),
            Phase::Refill if is_round => {
                self.enter(Phase::Up, now);
                self.probe_growth = 1;
                self.full_bandwidth = self.latest_rate;
                self.rounds_without_growth = 0;
            }
            Phase::Up => {
                if is_round {
                    self.probe_growth *= 2;
                }
                let is_limited = self.most_in_flight <= self.window;
                if is_limited {
                    // One packet more in the first round, then two, then four.
                    let share = self.newly_acked as f64 / self.window as f64;
                    self.most_in_flight += (share * (self.probe_growth * self.mtu) as f64) as u64;
                    self.rounds_without_growth = 0;
                } else if self.rounds_without_growth >= 2 {
                    self.begin_down(now);
                }
            }
            _ => {}
        }
    }

    /// §5.5.10.2.
    pub(super) fn take_probe_back(&mut self, now: Instant, batch: &Batch) {
        self.is_probing = false;
        if !batch.app_limited {
            let fitting = self.fitting(self.bandwidth.max(), 1.0) as f64;
            let target = fitting.min(self.window as f64);
            let mut most = (batch.in_flight as f64).max(target * BETA);
            if self.has_queue() {
                self.has_overflowed = true;
                // Of the queue's room only: cruising still has what keeps the path busy.
                most = most.min((most * HEADROOM).max(fitting / HEADROOM));
            }
            self.most_in_flight = most as u64;
        }
        if matches!(self.phase, Phase::Refill | Phase::Up) {
            self.begin_down(now);
        }
    }

    /// §5.3.4.
    pub(super) fn probe_rtt(&mut self, now: Instant, is_due: bool, is_round: bool) {
        if self.phase != Phase::ProbeRtt {
            if is_due && self.in_flight > 0 {
                self.enter(Phase::ProbeRtt, now);
                self.window_before = self.window;
                self.rtt_probe_ends = None;
            }
            return;
        }
        match self.rtt_probe_ends {
            None => {
                if self.in_flight <= self.rtt_probe_window() {
                    self.rtt_probe_ends = Some(now + RTT_PROBE_TIME);
                    self.round_ends_at = self.delivered;
                }
            }
            Some(end) if now >= end && is_round => {
                self.lowest_rtt_at = now;
                self.window = self.window.max(self.window_before);
                self.short_rate = u64::MAX;
                self.short_in_flight = u64::MAX;
                self.has_overflowed = false;
                if self.is_full {
                    self.begin_down(now);
                    self.phase = Phase::Cruise;
                } else {
                    self.enter(Phase::Startup, now);
                }
            }
            Some(_) => {}
        }
    }

    pub(super) fn rtt_probe_window(&self) -> u64 {
        self.fitting(self.rate(), 0.5).max(self.smallest_window())
    }
}

const RTT_PROBE_TIME: Duration = Duration::from_millis(200);
