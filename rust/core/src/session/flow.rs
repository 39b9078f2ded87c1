//! Session flow control (webtrans-http3-16 §5): three grants to the peer, three credits from it.
//!
//! Limits are cumulative since the session began. Stream headers, capsules and datagrams do not
//! count. A [`Grant`] never sends a limit that is not above the last one.

use std::time::Duration;

use pywt_wire::capsule::MAX_STREAMS;
use pywt_wire::{varint, Dir};

use crate::config::FlowControl;
use crate::dialect::{Dialect, Peer};
use crate::error::StreamError;
use crate::Time;

/// The flow control of one session.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) data: Grant,
    pub(crate) streams: PerDir<Grant>,
    pub(crate) send_data: Credit,
    pub(crate) send_streams: PerDir<Credit>,
    /// A limit smaller than before is an error; with this an equal one is too.
    pub(crate) strict_limits: bool,
    metered: bool,
}

/// What refused streams used of a session that does not exist yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Debt {
    pub(crate) bytes: u64,
    pub(crate) bidi: u64,
    pub(crate) uni: u64,
}

impl Flow {
    pub(crate) fn new(ours: &FlowControl, peer: &Peer, dialect: Dialect, now: Time) -> Self {
        let streams = |initial| Grant::new(initial, ours.max_streams_window, MAX_STREAMS, now);
        Self {
            data: Grant::new(
                ours.initial_max_data,
                ours.max_data_window,
                varint::MAX,
                now,
            ),
            streams: PerDir {
                bidi: streams(ours.initial_max_streams_bidi),
                uni: streams(ours.initial_max_streams_uni),
            },
            send_data: Credit::new(peer.initial_max_data()),
            send_streams: PerDir {
                bidi: Credit::new(peer.initial_max_streams_bidi()),
                uni: Credit::new(peer.initial_max_streams_uni()),
            },
            strict_limits: dialect.row().strict_limits,
            metered: ours.initial_max_data < FlowControl::AMPLE,
        }
    }

    /// Payload is counted as it arrives, and credit returns as it is read. Where our limit is
    /// ample that would cost and bound nothing: a stream is settled at its end.
    pub(crate) fn is_metered(&self) -> bool {
        self.metered
    }

    /// Charges what streams used that were refused before the session was established, and gives
    /// it back.
    pub(crate) fn settle_debt(&mut self, debt: Debt) -> Result<(), StreamError> {
        self.data.take(debt.bytes)?;
        self.data.free(debt.bytes);
        for (grant, count) in [
            (&mut self.streams.bidi, debt.bidi),
            (&mut self.streams.uni, debt.uni),
        ] {
            grant.take(count)?;
            grant.free(count);
        }
        Ok(())
    }

    pub(crate) fn view(&self) -> FlowView {
        FlowView {
            local_data: self.send_data.usage(),
            local_bidi: self.send_streams.bidi.usage(),
            local_uni: self.send_streams.uni.usage(),
            peer_data: self.data.usage(),
            peer_bidi: self.streams.bidi.usage(),
            peer_uni: self.streams.uni.usage(),
        }
    }
}

/// A limit, and how much of it was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The limit.
    pub limit: u64,
    /// What was used of it.
    pub used: u64,
}

/// The flow control of a session as it is now: `local_*` is what this end uses of the peer's
/// limits, `peer_*` what the peer uses of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowView {
    /// Payload sent.
    pub local_data: Usage,
    /// Bidirectional streams opened by this end.
    pub local_bidi: Usage,
    /// Unidirectional streams opened by this end.
    pub local_uni: Usage,
    /// Payload received.
    pub peer_data: Usage,
    /// Bidirectional streams opened by the peer.
    pub peer_bidi: Usage,
    /// Unidirectional streams opened by the peer.
    pub peer_uni: Usage,
}

/// One value for each kind of stream.
#[derive(Debug)]
pub(crate) struct PerDir<T> {
    bidi: T,
    uni: T,
}

impl<T> PerDir<T> {
    pub(crate) fn get_mut(&mut self, dir: Dir) -> &mut T {
        match dir {
            Dir::Bidi => &mut self.bidi,
            Dir::Uni => &mut self.uni,
        }
    }
}

/// What this end allows the peer: bytes of payload, or streams of one kind.
///
/// `freed <= used <= limit` always.
#[derive(Debug)]
pub(crate) struct Grant {
    limit: u64,
    /// Received bytes; opened streams.
    used: u64,
    /// Bytes the application consumed; streams that ended.
    freed: u64,
    window: u64,
    max_window: u64,
    max_limit: u64,
    renewed: Time,
}

impl Grant {
    fn new(initial: u64, max_window: u64, max_limit: u64, now: Time) -> Self {
        let limit = initial.min(max_limit);
        Self {
            limit,
            used: 0,
            freed: 0,
            window: limit,
            max_window,
            max_limit,
            renewed: now,
        }
    }

    fn usage(&self) -> Usage {
        Usage {
            limit: self.limit,
            used: self.used,
        }
    }

    /// Counts what the peer used.
    pub(crate) fn take(&mut self, amount: u64) -> Result<(), StreamError> {
        match self.used.checked_add(amount) {
            Some(used) if used <= self.limit => {
                self.used = used;
                Ok(())
            }
            _ => Err(StreamError::FlowControl(
                "peer exceeded a limit it was given",
            )),
        }
    }

    /// Counts what can be used again. True when a new limit is due.
    pub(crate) fn free(&mut self, amount: u64) -> bool {
        self.freed = self.freed.saturating_add(amount).min(self.used);
        let left = self.limit.saturating_sub(self.freed);
        left <= self.window / 2 && self.next_limit() > self.limit
    }

    /// Counts what was used and can be used again at once. True when a new limit is due.
    pub(crate) fn pass(&mut self, amount: u64) -> bool {
        self.used = self.used.saturating_add(amount).min(self.limit);
        self.free(amount)
    }

    /// The new limit to send, when one is still due. Half a window gone within two round trips
    /// means that the peer is held up by the window: it doubles, up to the maximum.
    pub(crate) fn renew(&mut self, now: Time, rtt: Duration) -> Option<u64> {
        if !self.free(0) {
            return None;
        }
        if now.saturating_sub(self.renewed) < rtt.saturating_mul(2) {
            let doubled = self.window.saturating_mul(2).min(self.max_window);
            self.window = self.window.max(doubled);
        }
        self.renewed = now;
        self.limit = self.next_limit();
        Some(self.limit)
    }

    fn next_limit(&self) -> u64 {
        self.freed.saturating_add(self.window).min(self.max_limit)
    }
}

/// What the peer allows this end.
///
/// `used <= limit` always.
#[derive(Debug)]
pub(crate) struct Credit {
    limit: u64,
    used: u64,
    /// Somebody was refused and waits to be told.
    waiting: bool,
    /// The limit that was last reported as blocking.
    reported: Option<u64>,
}

impl Credit {
    fn new(limit: u64) -> Self {
        Self {
            limit,
            used: 0,
            waiting: false,
            reported: None,
        }
    }

    fn usage(&self) -> Usage {
        Usage {
            limit: self.limit,
            used: self.used,
        }
    }

    /// Spends up to `want`; what is missing marks the credit as waited for.
    pub(crate) fn take(&mut self, want: u64) -> u64 {
        let granted = want.min(self.limit - self.used);
        self.used += granted;
        self.waiting |= granted < want;
        granted
    }

    /// Takes back what was spent and not used. True when somebody waits for it.
    pub(crate) fn give_back(&mut self, amount: u64) -> bool {
        self.used = self.used.saturating_sub(amount);
        amount > 0 && std::mem::take(&mut self.waiting)
    }

    /// Whether one is left; if not, the credit is marked as waited for.
    pub(crate) fn check(&mut self) -> bool {
        self.waiting |= self.used == self.limit;
        self.used < self.limit
    }

    /// The limit to report in a BLOCKED capsule: once for each limit.
    pub(crate) fn report(&mut self) -> Option<u64> {
        if !self.waiting || self.used < self.limit || self.reported == Some(self.limit) {
            return None;
        }
        self.reported = Some(self.limit);
        self.reported
    }

    /// Takes a new limit.
    pub(crate) fn raise(&mut self, limit: u64, strict: bool) -> Result<Raised, StreamError> {
        if limit < self.limit || (strict && limit == self.limit) {
            return Err(StreamError::FlowControl(
                "peer sent a limit that does not increase",
            ));
        }
        if limit == self.limit {
            return Ok(Raised::Nothing);
        }
        self.limit = limit;
        Ok(match std::mem::take(&mut self.waiting) {
            true => Raised::Awaited,
            false => Raised::Ahead,
        })
    }
}

/// What a new limit of the peer brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raised {
    /// It is the old one.
    Nothing,
    /// More, and nobody waits for it.
    Ahead,
    /// More, and somebody waits for it.
    Awaited,
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    #[test]
    fn grant_is_used_up_to_the_limit_and_not_one_past_it() {
        let mut grant = Grant::new(10, 0, varint::MAX, Time::ZERO);
        assert!(grant.take(10).is_ok());
        assert!(grant.take(1).is_err());
    }

    #[test]
    fn limit_is_renewed_at_half_a_window_and_always_grows() {
        let mut grant = Grant::new(10, 0, varint::MAX, Time::ZERO);
        assert!(grant.take(10).is_ok());
        assert!(!grant.free(4));
        assert!(grant.free(1));
        assert_eq!(grant.renew(RTT * 9, RTT), Some(15));
        assert_eq!(grant.renew(RTT * 9, RTT), None);
    }

    #[test]
    fn fast_consumption_doubles_the_window_up_to_its_maximum() {
        let mut grant = Grant::new(10, 30, varint::MAX, Time::ZERO);
        assert!(grant.take(10).is_ok());
        grant.free(10);
        assert_eq!(grant.renew(RTT, RTT), Some(30));
        assert!(grant.take(20).is_ok());
        grant.free(20);
        assert_eq!(grant.renew(RTT * 2, RTT), Some(60));
    }

    #[test]
    fn stream_limit_stops_at_its_largest_value() {
        let mut grant = Grant::new(MAX_STREAMS, 0, MAX_STREAMS, Time::ZERO);
        assert!(grant.take(MAX_STREAMS).is_ok());
        assert!(!grant.free(MAX_STREAMS));
    }

    #[test]
    fn zero_initial_limit_grants_nothing() {
        let mut grant = Grant::new(0, 100, varint::MAX, Time::ZERO);
        assert!(grant.take(1).is_err());
        assert!(!grant.free(0));
    }

    #[test]
    fn blocked_is_reported_once_for_each_limit() {
        let mut credit = Credit::new(5);
        assert_eq!(credit.take(8), 5);
        assert_eq!(credit.report(), Some(5));
        assert_eq!(credit.take(1), 0);
        assert_eq!(credit.report(), None);
        assert_eq!(credit.raise(6, true), Ok(Raised::Awaited));
        assert_eq!(credit.take(2), 1);
        assert_eq!(credit.report(), Some(6));
    }

    #[test]
    fn equal_limit_is_an_error_only_where_the_draft_says_so() {
        let mut credit = Credit::new(5);
        assert_eq!(credit.raise(5, false), Ok(Raised::Nothing));
        assert_eq!(credit.raise(6, false), Ok(Raised::Ahead));
        assert!(credit.raise(6, true).is_err());
        assert!(credit.raise(5, false).is_err());
    }
}
