//! The end of a session, by either end, by a fault, or with the connection; and the CONNECT
//! stream's way out.

use pywt_wire::capsule::{truncate_reason, Capsule};
use pywt_wire::codes::{error, http_to_app_error};

use crate::connection::Connection;
use crate::error::{Error, StreamError};
use crate::event::{Action, ClosedBy, Event};
use crate::request::Phase;
use crate::session::{Session, State};
use crate::stream::{reliable_size, Entry, WtStream};
use crate::Time;
use crate::{SessionId, StreamId};

/// Why a session ends.
struct Ending {
    code: u32,
    reason: String,
    by: ClosedBy,
    error: Option<u64>,
}

/// Verbs.
impl Connection {
    /// Ends a session with a code and a reason; a reason longer than 1024 bytes is cut at a
    /// character. An established one sends CLOSE and FIN, and the CONNECT stream lingers until
    /// the peer's FIN (never STOP_SENDING before: peers then lose code and reason). A requested
    /// one is refused with H3_REQUEST_REJECTED, an asked one cancelled. `SessionClosed` follows.
    pub fn close_session(
        &mut self,
        session: SessionId,
        code: u32,
        reason: &str,
        now: Time,
    ) -> Result<(), Error> {
        self.tick(now);
        if self.is_closed() {
            return Err(Error::ConnectionClosed);
        }
        let entry = self
            .sessions
            .get(&session)
            .ok_or(Error::UnknownSession(session))?;
        let reason = truncate_reason(reason);
        match entry.state {
            State::Open => {
                self.send_capsules(session, &[Capsule::Close { code, reason }], true);
                self.linger(session, Phase::Ended, now);
            }
            State::Queued(_) | State::Asked(_) => {
                self.abort_request(session, error::H3_REQUEST_CANCELLED);
            }
            State::Unsettled(_) | State::Requested { .. } => {
                self.abort_request(session, error::H3_REQUEST_REJECTED);
            }
        }
        let reason = reason.to_owned();
        self.end(
            session,
            Ending {
                code,
                reason,
                by: ClosedBy::Local,
                error: None,
            },
        );
        Ok(())
    }

    /// Tells the peer to start no new work in an established session. A no-op in dialects
    /// without DRAIN.
    pub fn drain_session(&mut self, session: SessionId) -> Result<(), Error> {
        self.open_session_mut(session)?;
        if self.dialect().is_some_and(|dialect| dialect.row().drain) {
            self.send_capsules(session, &[Capsule::Drain], false);
        }
        Ok(())
    }
}

impl Connection {
    /// The peer closed an established session; the answer is a FIN.
    pub(crate) fn end_by_peer(&mut self, id: SessionId, code: u32, reason: String, now: Time) {
        self.send_request(id, bytes::Bytes::new(), true);
        self.linger(id, Phase::AfterClose, now);
        self.end(
            id,
            Ending {
                code,
                reason,
                by: ClosedBy::Remote,
                error: None,
            },
        );
    }

    /// The peer reset the CONNECT stream.
    pub(crate) fn end_by_reset(&mut self, id: SessionId, code: u64) {
        if let Some(Entry::Request(request)) = self.streams.get(&id) {
            if request.send_open {
                self.reset_plainly(id, error::H3_REQUEST_CANCELLED);
            }
            self.remove_request(id);
        }
        let reason = String::new();
        self.end(
            id,
            Ending {
                code: 0,
                reason,
                by: ClosedBy::Remote,
                error: Some(code),
            },
        );
    }

    /// The peer broke a rule that ends the session, not the connection.
    pub(crate) fn fail_session(&mut self, id: SessionId, fault: &StreamError) {
        let code = fault.code();
        self.abort_request(id, code);
        let reason = fault.to_string();
        self.end(
            id,
            Ending {
                code: 0,
                reason,
                by: ClosedBy::Local,
                error: Some(code),
            },
        );
    }

    /// The connection is gone or going: every session ends with it.
    pub(crate) fn end_all(&mut self, by: ClosedBy, error: Option<u64>, reason: &str) {
        let mut ids: Vec<_> = self.sessions.keys().copied().collect();
        ids.sort_unstable();
        // Some peers put the session's code into CONNECTION_CLOSE instead of a capsule.
        let code = error.and_then(http_to_app_error).unwrap_or(0);
        for id in ids {
            self.end(
                id,
                Ending {
                    code,
                    reason: reason.to_owned(),
                    by,
                    error,
                },
            );
        }
    }

    /// A request is answered without ever having been a session for the application.
    pub(crate) fn drop_unanswered(&mut self, id: SessionId) {
        self.sessions.remove(&id);
        self.remember_ended(id);
        self.refuse_early(id, error::WT_BUFFERED_STREAM_REJECTED);
    }

    /// DRAIN or GOAWAY from the peer.
    pub(crate) fn drain_by_peer(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            if session.is_open() && !std::mem::replace(&mut session.draining, true) {
                self.events
                    .push_back(Event::SessionDraining { session: id });
            }
        }
    }

    /// Leaves the CONNECT stream to wait for the peer's side to end, for a limited time.
    pub(crate) fn linger(&mut self, id: StreamId, phase: Phase, now: Time) {
        if let Some(request) = self.request_mut(id) {
            request.phase = phase;
            self.await_close(id, now);
        }
    }

    /// Gives the peer's side of a CONNECT stream a deadline.
    pub(crate) fn await_close(&mut self, id: StreamId, now: Time) {
        let streams = &self.streams;
        let waits = |id| matches!(streams.get(&id), Some(Entry::Request(_)));
        self.deadlines
            .closing
            .push(now, self.config.limits.close_timeout, id, waits);
    }

    /// The peer did not end its side of a CONNECT stream in time.
    pub(crate) fn close_timed_out(&mut self, id: StreamId) {
        let Some(request) = self.request_mut(id) else {
            return;
        };
        match request.phase {
            Phase::AfterClose | Phase::Ended => self.abort_request(id, error::WT_SESSION_GONE),
            Phase::Done { .. } => self.abort_request(id, error::H3_NO_ERROR),
            // The peer stopped our side and then said nothing more.
            Phase::Head | Phase::Waiting | Phase::Capsules if !request.send_open => {
                self.fail_request(id, &StreamError::Stopped);
            }
            Phase::Head | Phase::Waiting | Phase::Capsules => {}
        }
    }

    /// The one place where a session ends: streams first, then the event.
    fn end(&mut self, id: SessionId, ending: Ending) {
        let Some(session) = self.sessions.remove(&id) else {
            return;
        };
        self.remember_ended(id);
        self.end_streams(id, session.streams);
        self.refuse_early(id, error::WT_SESSION_GONE);
        if let Some(event) = closing_event(id, &session, ending) {
            self.events.push_back(event);
        }
    }

    /// Resets and stops every stream of a session (webtrans-http3-16 §6).
    fn end_streams(&mut self, session: SessionId, count: usize) {
        if count == 0 {
            return;
        }
        let of_session = |(&id, entry): (&StreamId, &Entry)| match entry {
            Entry::Session(stream) if stream.session == session => Some(id),
            _ => None,
        };
        let mut ids: Vec<_> = self.streams.iter().filter_map(of_session).collect();
        ids.sort_unstable();
        let raw = error::WT_SESSION_GONE;
        for stream in ids {
            let Some(Entry::Session(entry)) = self.streams.remove(&stream) else {
                continue;
            };
            let reliable_size = reliable_size(&self.transport, &entry);
            let WtStream {
                recv_open,
                send_open,
                stopped,
                ..
            } = entry;
            if recv_open && !stopped {
                self.events.push_back(Event::StreamReset {
                    stream,
                    code: None,
                    raw,
                });
            }
            if send_open {
                self.events.push_back(Event::StreamStopped {
                    stream,
                    code: None,
                    raw,
                });
            }
            if send_open {
                self.actions.push_back(Action::ResetStream {
                    id: stream,
                    code: raw,
                    reliable_size,
                });
            }
            self.discard(stream, raw, recv_open, false);
        }
    }

    /// Late streams and datagrams of this session belong to nothing.
    pub(crate) fn remember_ended(&mut self, id: SessionId) {
        self.ended.push_back(id);
        while self.ended.len() > self.config.limits.max_closed_sessions {
            self.ended.pop_front();
        }
    }
}

/// What the application is told: nothing of a request it never saw, a rejection of one it made
/// and did not give up itself, else the close.
fn closing_event(id: SessionId, session: &Session, ending: Ending) -> Option<Event> {
    let Ending {
        code,
        reason,
        by,
        error,
    } = ending;
    let made = matches!(session.state, State::Queued(_) | State::Asked(_));
    let refused = error.is_some() && by != ClosedBy::Transport;
    match session.state {
        State::Unsettled(_) => None,
        _ if made && refused => Some(Event::SessionRejected {
            session: id,
            status: 0,
            headers: Vec::new(),
            error,
            reason,
        }),
        _ => Some(Event::SessionClosed {
            session: id,
            code,
            reason,
            by,
            error,
        }),
    }
}
