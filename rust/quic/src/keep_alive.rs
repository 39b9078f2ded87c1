//! PINGs often enough for the peer's idle timeout too.

use std::time::{Duration, Instant};

/// The shortest interval, so that a peer cannot make us send without end. Who gives up sooner than
/// twice that does not want to be kept.
const SHORTEST: Duration = Duration::from_millis(200);

/// quinn sends its PINGs at the interval it is given, and that knows this side's idle timeout only.
/// Where the peer's is shorter, others go out at half of it: one may be lost.
#[derive(Debug, Default)]
pub(crate) struct KeepAlive {
    interval: Option<Duration>,
    every: Option<Duration>,
    due: Option<Instant>,
}

impl KeepAlive {
    /// `interval`: quinn's.
    pub(crate) fn new(interval: Option<Duration>) -> Self {
        Self {
            interval,
            ..Self::default()
        }
    }

    /// The peer has said after how much silence it gives up; `None`: never.
    pub(crate) fn set_peer_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.every = timeout
            .map(|timeout| (timeout / 2).max(SHORTEST))
            .filter(|half| self.interval.is_some_and(|interval| *half < interval));
    }

    /// When the next is due, once [`Self::start`] was called.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Counts from now, unless it does already.
    pub(crate) fn start(&mut self, now: Instant) {
        if self.due.is_none() {
            self.due = self.every.and_then(|every| now.checked_add(every));
        }
    }

    /// Whether a PING is to be sent now.
    pub(crate) fn take_due(&mut self, now: Instant) -> bool {
        let is_due = self.due.is_some_and(|due| due <= now);
        if is_due {
            self.due = None;
            self.start(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn only_a_shorter_timeout_of_the_peer_makes_more_pings() {
        let now = Instant::now();
        let mut keep_alive = KeepAlive::new(Some(10 * SECOND));
        for timeout in [None, Some(20 * SECOND)] {
            keep_alive.set_peer_idle_timeout(timeout);
            keep_alive.start(now);
            assert_eq!(keep_alive.due(), None);
        }
        keep_alive.set_peer_idle_timeout(Some(4 * SECOND));
        keep_alive.start(now);
        assert_eq!(keep_alive.due(), Some(now + 2 * SECOND));
        assert!(!keep_alive.take_due(now + SECOND));
        assert!(keep_alive.take_due(now + 3 * SECOND));
        assert_eq!(keep_alive.due(), Some(now + 5 * SECOND));
    }

    #[test]
    fn a_peer_that_gives_up_at_once_gets_no_flood() {
        let now = Instant::now();
        for (timeout, due) in [
            (Duration::ZERO, SHORTEST),
            (Duration::from_millis(1), SHORTEST),
            (2 * SHORTEST, SHORTEST),
            (4 * SHORTEST, 2 * SHORTEST),
        ] {
            let mut keep_alive = KeepAlive::new(Some(10 * SECOND));
            keep_alive.set_peer_idle_timeout(Some(timeout));
            keep_alive.start(now);
            assert_eq!(keep_alive.due(), Some(now + due));
        }
    }

    #[test]
    fn a_connection_that_need_not_live_is_left_alone() {
        let mut keep_alive = KeepAlive::new(None);
        keep_alive.set_peer_idle_timeout(Some(SECOND));
        keep_alive.start(Instant::now());
        assert_eq!(keep_alive.due(), None);
    }
}
