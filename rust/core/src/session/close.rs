//! The end of a session, by either end, by a fault, or with the connection; and the CONNECT
//! stream's way out.

use pywt_wire::capsule::{truncate_reason, Capsule};
use pywt_wire::codes::{error, http_to_app_error};

use crate::connection::Connection;
use crate::error::{Error, StreamError};
use crate::event::{ClosedBy, Event};
use crate::map::IdSet;
use crate::request::reader::Phase;
use crate::session::{Session, State};
use crate::stream::table::{Entry, Kind};
use crate::SessionId;
use crate::Time;

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
            .get(session)
            .ok_or(Error::UnknownSession(session))?;
        let reason = truncate_reason(reason);
        match entry.state {
            State::Open => {
                let data = self.capsules(&[Capsule::Close { code, reason }]);
                self.finish_request(session, data, Phase::Ended, now);
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

    /// Ends every request and session before a close of the connection with this code: a request
    /// that waits for its answer is answered 503, the response that has begun is cut, any other session is closed with the code: that of an
    /// application if the code is in the range of WebTransport, 0 for H3_NO_ERROR, else the low 32
    /// bits. Closing QUIC should wait for [`Connection::is_idle`].
    pub fn close_all(&mut self, code: u64, reason: &str, now: Time) {
        let session_code = match code {
            error::H3_NO_ERROR => 0,
            _ => http_to_app_error(code).unwrap_or(code as u32),
        };
        self.end_exchanges();
        for id in self.sessions.ids(|_| true) {
            let state = self.sessions.get(id).map(|session| &session.state);
            // One that has ended meanwhile has ended, which is what was wanted.
            let _ended = match state {
                Some(State::Requested { .. }) => self.reject(id, HTTP_UNAVAILABLE, &[], now),
                _ => self.close_session(id, session_code, reason, now),
            };
        }
    }

    /// Tells the peer, once, to start no new work in an established session. A no-op in dialects
    /// without DRAIN.
    pub fn drain_session(&mut self, session: SessionId) -> Result<(), Error> {
        let entry = self.open_session_mut(session)?;
        let knows = entry.dialect.is_some_and(|dialect| dialect.row().drain);
        if knows && !std::mem::replace(&mut entry.drain_sent, true) {
            self.send_capsules(session, &[Capsule::Drain]);
        }
        Ok(())
    }
}

impl Connection {
    /// The peer closed an established session; the answer is a FIN.
    pub(crate) fn end_by_peer(&mut self, id: SessionId, code: u32, reason: String, now: Time) {
        self.finish_request(id, bytes::Bytes::new(), Phase::AfterClose, now);
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

    /// The peer reset the CONNECT stream (`None`: QUIC lost it).
    pub(crate) fn end_by_reset(&mut self, id: SessionId, code: Option<u64>) {
        self.tell_aborted(id, code.unwrap_or(error::H3_REQUEST_CANCELLED));
        if let Some((halves, _)) = self.request_mut(id) {
            halves.recv = false;
            self.abort_request(id, error::H3_REQUEST_CANCELLED);
        }
        let reason = String::new();
        self.end(
            id,
            Ending {
                code: 0,
                reason,
                by: ClosedBy::Remote,
                error: Some(code.unwrap_or(error::H3_REQUEST_CANCELLED)),
            },
        );
    }

    /// The peer broke a rule that ends the session, not the connection.
    pub(crate) fn fail_session(&mut self, id: SessionId, fault: &StreamError) {
        let code = fault.code();
        self.break_request(id, code);
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
        // Some peers put the session's code into CONNECTION_CLOSE instead of a capsule.
        let code = error.and_then(http_to_app_error).unwrap_or(0);
        for id in self.sessions.ids(|_| true) {
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

    /// A request will not become a session: what came early for one is refused.
    pub(crate) fn drop_unanswered(&mut self, id: SessionId) {
        let limits = &self.config.limits;
        if self.sessions.remove(id, limits).is_none() {
            self.sessions.remember_ended(id, limits);
        }
        self.refuse_early(id, error::WT_BUFFERED_STREAM_REJECTED);
    }

    /// DRAIN or GOAWAY from the peer. True where that is news.
    pub(crate) fn drain_by_peer(&mut self, id: SessionId) -> bool {
        let session = self.sessions.get_mut(id);
        let is_news = session.is_some_and(|session| {
            session.is_open() && !std::mem::replace(&mut session.draining, true)
        });
        if is_news {
            self.events
                .push_back(Event::SessionDraining { session: id });
        }
        is_news
    }

    /// The one place where a session ends: streams first, then the event.
    fn end(&mut self, id: SessionId, ending: Ending) {
        let Some(session) = self.sessions.remove(id, &self.config.limits) else {
            return;
        };
        self.end_streams(&session.streams);
        self.refuse_early(id, error::WT_SESSION_GONE);
        if let Some(event) = closing_event(id, &session, ending) {
            self.events.push_back(event);
        }
    }

    /// Resets and stops every stream of a session that is still open (webtrans-http3-16 §6).
    fn end_streams(&mut self, streams: &IdSet) {
        let mut ids: Vec<_> = streams.iter().copied().collect();
        ids.sort_unstable();
        let (code, raw) = (None, error::WT_SESSION_GONE);
        for id in ids {
            let Some(Entry {
                halves,
                kind: Kind::Session(stream),
            }) = self.streams.remove(id)
            else {
                continue;
            };
            if halves.recv && !stream.stopped {
                self.events.push_back(Event::StreamReset {
                    stream: id,
                    code,
                    raw,
                });
            }
            if halves.send {
                self.events.push_back(Event::StreamStopped {
                    stream: id,
                    code,
                    raw,
                });
            }
            self.abandon(id, halves, raw, stream.reliable_size(&self.transport));
        }
    }
}

/// RFC 9110 §15.6.4.
const HTTP_UNAVAILABLE: u16 = 503;

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
