//! Every bound on what a peer can make this crate keep, count or wait for.
//!
//! A peer-driven container, counter or wait has a field here, except where the wire format bounds
//! it: settings per frame and fields per section (constants of `pywt_wire`), streams open at once
//! (QUIC's limit). Exceeding a bound is never silent: it rejects a stream, ends a session, closes
//! the connection with H3_EXCESSIVE_LOAD, or drops with a counter in [`Stats`](crate::Stats).

use std::time::Duration;

use crate::Time;

/// The bounds of one connection. The defaults suit a public server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Streams of sessions that are not established yet. When one more arrives, the oldest is
    /// rejected with WT_BUFFERED_STREAM_REJECTED: the oldest whose session nobody has asked for,
    /// if there is one. As many refused ones are remembered for the flow control of their session.
    pub max_early_streams: usize,
    /// Of those, streams of one session; its oldest is rejected.
    pub max_early_streams_per_session: usize,
    /// Payload bytes of those streams together, kept or counted; over it the oldest are rejected.
    pub max_early_stream_bytes: u64,
    /// Datagrams of sessions that are not established yet; the oldest is dropped.
    pub max_early_datagrams: usize,
    /// Bytes of those datagrams together; the oldest are dropped.
    pub max_early_datagram_bytes: usize,
    /// How long a stream or datagram waits for a session nobody has asked for yet.
    pub early_timeout: Duration,
    /// Bytes of a CONNECT stream kept between its request and the answer; over it the request is
    /// reset with H3_EXCESSIVE_LOAD.
    pub max_early_capsule_bytes: usize,
    /// Bytes kept for all requests that wait for SETTINGS or for their answer: fields, protocols
    /// and what follows them on the CONNECT streams; a request over it is reset with
    /// H3_EXCESSIVE_LOAD.
    pub max_waiting_bytes: usize,
    /// Application protocols offered in one request; with more it is answered 431.
    pub max_protocols: usize,
    /// Sessions at once, asked for or established, of this connection. One more is refused with
    /// H3_REQUEST_REJECTED. Also what a server announces to drafts 07 to 14.
    pub max_sessions: u64,
    /// Requests for sessions, whatever becomes of them.
    pub sessions: Rate,
    /// Request streams open at once that carry no session: unfinished requests, those that the
    /// application has to answer, answered ones whose peer has not closed its side. One more is
    /// refused with H3_REQUEST_REJECTED.
    pub max_requests: usize,
    /// Ended sessions whose ids are remembered, so that their late streams get WT_SESSION_GONE
    /// at once instead of waiting as early ones.
    pub max_closed_sessions: usize,
    /// Payload of a SETTINGS frame; a longer one closes with H3_EXCESSIVE_LOAD before any of it
    /// is kept. Of other frames on the control stream nothing longer than a number is kept.
    pub max_control_frame_size: u64,
    /// Payload of one HEADERS frame; a longer one closes with H3_EXCESSIVE_LOAD before any of it
    /// is kept.
    pub max_headers_frame_size: u64,
    /// Decoded size of a field section, the sum of name + value + 32 (RFC 9114 §4.2.2); announced
    /// in SETTINGS. A larger request is answered 431.
    pub max_field_section_size: u64,
    /// Payload of a DATAGRAM capsule (RFC 9297 §3.5) that is delivered; a longer one is dropped.
    pub max_datagram_capsule_size: u64,
    /// Streams the peer resets, and those it makes us refuse: malformed, of unknown type, too
    /// many, too late, or requests answered without a session.
    pub resets: Rate,
    /// Frames and capsules that carry nothing: empty DATA, unknown and GREASE types, capsules the
    /// dialect ignores, complaints of being blocked, limits that raise nothing, repeated drains,
    /// control frames after SETTINGS, interim responses.
    pub idle_frames: Rate,
    /// How long the peer may take to send SETTINGS.
    pub settings_timeout: Duration,
    /// How long a request stream may take to deliver its complete field section.
    pub headers_timeout: Duration,
    /// How long an ended session waits for the peer to end its side of the CONNECT stream.
    pub close_timeout: Duration,
    /// Bytes of this crate's own for one stream ([`Action::SendStream`](crate::Action)) that a
    /// peer may make wait by withholding QUIC credit; the driver counts them, see
    /// [`Connection::handle_unsent`](crate::Connection::handle_unsent).
    pub max_unsent_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_early_streams: 256,
            max_early_streams_per_session: 256,
            max_early_stream_bytes: 1 << 20,
            max_early_datagrams: 128,
            max_early_datagram_bytes: 256 << 10,
            early_timeout: Duration::from_secs(5),
            max_early_capsule_bytes: 16 << 10,
            max_waiting_bytes: 1 << 20,
            max_protocols: 64,
            max_sessions: 100,
            sessions: Rate {
                burst: 10_000,
                per_second: 1_000,
            },
            max_requests: 64,
            max_closed_sessions: 64,
            max_control_frame_size: 16 << 10,
            max_headers_frame_size: 64 << 10,
            max_field_section_size: 64 << 10,
            max_datagram_capsule_size: 64 << 10,
            resets: Rate {
                burst: 20_000,
                per_second: 2_000,
            },
            idle_frames: Rate {
                burst: 10_000,
                per_second: 1_000,
            },
            settings_timeout: Duration::from_secs(5),
            headers_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(2),
            max_unsent_bytes: 256 << 10,
        }
    }
}

/// An allowance that refills with time; used up, the connection closes with
/// H3_EXCESSIVE_LOAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Events allowed at once.
    pub burst: u32,
    /// Events regained per second.
    pub per_second: u32,
}

/// What is spent of a [`Rate`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Meter {
    spent: u32,
    at: Time,
}

impl Meter {
    /// Counts one event; false when the allowance is used up.
    pub(crate) fn allow(&mut self, rate: Rate, now: Time) -> bool {
        let regained = now.saturating_sub(self.at).as_millis() * u128::from(rate.per_second) / 1000;
        if regained > 0 {
            self.spent = self
                .spent
                .saturating_sub(u32::try_from(regained).unwrap_or(u32::MAX));
            self.at = now;
        }
        if self.spent >= rate.burst {
            return false;
        }
        self.spent += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        per_second: 2,
    };

    #[test]
    fn burst_is_allowed_and_one_more_is_not() {
        let mut meter = Meter::default();
        assert!((0..3).all(|_| meter.allow(RATE, Time::ZERO)));
        assert!(!meter.allow(RATE, Time::ZERO));
    }

    #[test]
    fn allowance_comes_back_with_time_even_in_small_steps() {
        let mut meter = Meter::default();
        for _ in 0..3 {
            meter.allow(RATE, Time::ZERO);
        }
        let allowed = (1..=20)
            .filter(|i| meter.allow(RATE, Duration::from_millis(100 * i)))
            .count();
        assert_eq!(allowed, 4);
    }
}
