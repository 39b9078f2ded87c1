//! Spreads packets over time at the rate that a congestion controller wants. quinn-proto's own pacing
//! knows the window only, and lets 1.25 windows pass in a round trip.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::congestion::Controller;

use crate::ack_clock::{valve, Valve};

/// A bucket of bytes that fills at the controller's rate and may be overdrawn by one batch.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    bytes: f64,
    counted: Option<Instant>,
    due: Option<Instant>,
    is_held: bool,
    /// The last time, more might have left than there was, or than the window let pass.
    is_idle: bool,
    /// Where the controller was when its valve was looked for: a new path has another one.
    controller: usize,
    valve: Option<Arc<Valve>>,
}

impl Pacer {
    /// When there is room again, if there was none.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// How many of at most `most` packets may leave now. If none may, the valve is shut and lets
    /// others than those that are paced pass. [`Self::end`] follows.
    pub(crate) fn begin(
        &mut self,
        controller: &dyn Controller,
        now: Instant,
        mtu: u16,
        most: usize,
    ) -> usize {
        let at = std::ptr::from_ref(controller).addr();
        if self.controller != at {
            self.controller = at;
            self.valve = valve(controller);
        }
        self.due = None;
        let Some(rate) = self.valve.as_ref().and_then(|valve| valve.rate()) else {
            return most;
        };
        let (rate, mtu) = (rate as f64, f64::from(mtu));
        let time = now.saturating_duration_since(self.counted.unwrap_or(now));
        let burst = if std::mem::take(&mut self.is_idle) {
            Duration::ZERO
        } else {
            BURST
        };
        let room = (rate * burst.as_secs_f64()).max(LEAST_PACKETS * mtu);
        self.bytes = (self.bytes + rate * time.as_secs_f64()).min(room);
        self.counted = Some(now);
        if self.bytes > 0.0 {
            return most.min((self.bytes / mtu).ceil() as usize);
        }
        self.due = Some(now + Duration::from_secs_f64((mtu - self.bytes) / rate));
        self.hold(true);
        most
    }

    /// So many bytes have left.
    pub(crate) fn end(&mut self, bytes: usize) {
        if self.is_held {
            self.hold(false);
        } else {
            self.bytes -= bytes as f64;
            self.is_idle = bytes == 0;
        }
    }

    fn hold(&mut self, is_held: bool) {
        self.is_held = is_held;
        if let Some(valve) = &self.valve {
            valve.hold(is_held);
        }
    }
}

/// What may leave at once when the pacer is asked late: timers fire late, and later where others use the
/// machine. What is not caught up with would pass for the speed of the path. Nothing is to be caught up
/// with after a pause that was not the pacer's: that burst would be a queue.
const BURST: Duration = Duration::from_millis(10);
/// So many packets always may.
const LEAST_PACKETS: f64 = 10.0;
