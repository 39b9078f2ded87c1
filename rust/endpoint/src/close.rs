//! How a connection ends: politely, so that the peer's application sees how its sessions ended.

use std::time::{Duration, Instant};

use pywt_core::wire::codes::error::{H3_EXCESSIVE_LOAD, H3_NO_ERROR};
use pywt_core::StreamId;
use pywt_quic::{Close, Side};
use rustc_hash::FxHashMap;

use crate::connection::Connection;
use crate::stream::{Owner, Stream};
use crate::{Epilogue, Error, Notification};

#[derive(Debug)]
pub(crate) enum Phase {
    /// No handshake yet.
    Connecting,
    /// Serving.
    Open,
    /// A close waits until the peer has ended its CONNECT streams.
    Closing {
        code: u64,
        reason: String,
        deadline: Instant,
        /// The peer has ended its side of the last session.
        heard: bool,
    },
    /// Everybody was told.
    Closed,
}

impl Connection {
    /// Ends the connection with an application code. Sessions still open are closed first, and
    /// CONNECTION_CLOSE waits until the peer has ended its CONNECT streams, or the peer's
    /// application would never see how its sessions ended; bounded by `close_timeout`.
    pub fn close(&mut self, code: u64, reason: &str, now: Instant) {
        match self.phase {
            Phase::Open => {}
            Phase::Connecting => return self.close_now(code, reason.to_owned(), now),
            Phase::Closing { .. } | Phase::Closed => return,
        }
        let time = self.time(now);
        self.core.close_all(code, reason, time);
        self.settle(now);
        if self.is_closed() {
            return;
        }
        self.phase = Phase::Closing {
            code,
            reason: reason.to_owned(),
            deadline: now + self.options.close_timeout,
            heard: false,
        };
        // Its deadline is read after it has sent.
        self.wants_transmit = true;
        self.proceed_with_close(now);
    }

    /// Server: others have taken the last place. Closes it when its timeout is handled next.
    pub(crate) fn refuse(&mut self) {
        self.is_refused = true;
        self.patience_until = Some(self.epoch);
    }

    pub(crate) fn proceed_with_close(&mut self, now: Instant) {
        if self.patience_until.is_some_and(|at| at <= now) {
            self.patience_until = None;
            let seconds = self.options.first_session_timeout.as_secs_f64();
            let (code, reason) = match self.phase {
                Phase::Connecting => (H3_EXCESSIVE_LOAD, "the handshake took too long".to_owned()),
                _ if self.is_refused => (H3_EXCESSIVE_LOAD, "the server is full".to_owned()),
                _ => (
                    H3_NO_ERROR,
                    format!("no session was requested within {seconds} s"),
                ),
            };
            self.close(code, &reason, now);
        }
        match &mut self.phase {
            Phase::Closing {
                code,
                reason,
                deadline,
                heard,
            } => {
                let is_idle = self.core.is_idle() && self.unacknowledged.is_empty();
                let is_server = self.quic.side() == Side::Server;
                if is_idle && is_server && self.had_session && !*heard {
                    *heard = true;
                    *deadline = (*deadline).min(now + self.options.linger);
                    if self.closed_first {
                        self.silent_until = Some(now + LAST_ACK_DELAY);
                    }
                }
                if !is_idle && self.unacknowledged.is_empty() && requests_delivered(&self.streams) {
                    *deadline = (*deadline).min(now + self.options.linger);
                }
                if *deadline <= now || (is_idle && !*heard) {
                    let (code, reason) = (*code, std::mem::take(reason));
                    self.close_now(code, reason, now);
                }
            }
            Phase::Open
                if (self.had_session || self.had_request) && self.quic.side() == Side::Server =>
            {
                if !self.core.is_idle() || !self.unacknowledged.is_empty() {
                    self.linger_until = None;
                    self.silent_until = None;
                    return;
                }
                match self.linger_until {
                    Some(at) if at <= now => self.close_now(H3_NO_ERROR, String::new(), now),
                    Some(_) => {}
                    None if self.had_request => {
                        self.linger_until = Some(now + self.options.request_linger);
                    }
                    None => {
                        self.linger_until = Some(now + self.options.linger);
                        if self.closed_first {
                            self.silent_until = Some(now + LAST_ACK_DELAY);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// CONNECTION_CLOSE at once.
    pub(crate) fn close_now(&mut self, code: u64, reason: String, now: Instant) {
        if self.is_closed() {
            return;
        }
        self.quic.close(now, code, &reason);
        self.silent_until = None;
        self.wants_transmit = true;
        self.end(None, Close::local(code, reason));
    }

    /// Tells everybody, once, that the connection is gone.
    pub(crate) fn end(&mut self, code: Option<u64>, close: Close) {
        if self.is_closed() {
            return;
        }
        self.phase = Phase::Closed;
        self.leave_all();
        self.core.handle_closed(code, &close.reason);
        while self.core.poll_action().is_some() {}
        self.take_events();
        self.drop_unsent_datagrams();
        let epilogue = Box::new(Epilogue {
            remote: self.quic.remote_address(),
            local_ip: self.quic.local_ip(),
            stats: self.stats(),
        });
        self.notifications
            .push(Notification::Closed(close, Some(epilogue)));
    }

    pub(crate) fn check_alive(&self) -> Result<(), Error> {
        match self.phase {
            Phase::Open => Ok(()),
            _ => Err(Error::Closed),
        }
    }
}

/// Whether the peer has acknowledged the end of every CONNECT stream that is still there.
fn requests_delivered(streams: &FxHashMap<StreamId, Stream>) -> bool {
    streams
        .iter()
        .filter(|(id, stream)| stream.owner == Owner::Core && *id & 2 == 0)
        .all(|(_, stream)| stream.delivered)
}

/// How long the acknowledgement of the peer's last FIN waits, when that FIN answers our own; less
/// than the max_ack_delay of 25 ms that QUIC promises (RFC 9000 §18.2). A peer that has asked for a
/// shorter one sends a probe meanwhile; Chromium does not ask. Chromium forgets the
/// session when its FIN is acknowledged. Where that happens before it has told the page, the page's
/// `closed` rejects with "Connection lost".
const LAST_ACK_DELAY: Duration = Duration::from_millis(20);
