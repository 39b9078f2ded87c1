//! What the endpoint keeps about a session, and the calls on sessions.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use pywt_core::wire::codes::error::H3_REQUEST_CANCELLED;
use pywt_core::{Dir, OpenError, Request, Response, SessionId, StreamId};
use rustc_hash::FxHashSet;

use crate::close::Phase;
use crate::connection::{quic_dir, Connection};
use crate::datagram::{frame, DatagramQueue, Queued, WhenFull};
use crate::stream::Stream;
use crate::{Arrivals, Error, Notification};

/// One session's queues and waiters.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// Received datagrams nobody has taken.
    pub(crate) datagrams: DatagramQueue,
    /// How many of them had to go for newer ones.
    pub(crate) datagrams_dropped: u64,
    /// A receive found nothing.
    pub(crate) datagram_wanted: bool,
    /// How many came since the application last took some.
    pub(crate) datagrams_untouched: usize,
    /// An open failed, by `Dir as usize`.
    pub(crate) stream_wanted: [bool; 2],
    /// Streams whose end has been seen here and not read: the core has done with them.
    pub(crate) unended: FxHashSet<StreamId>,
    /// Streams whose write fell short of session credit, each once, in turn.
    pub(crate) writers: VecDeque<StreamId>,
    /// Datagrams to send.
    pub(crate) outgoing: DatagramQueue,
    /// One was not taken for lack of room.
    pub(crate) datagram_room_wanted: bool,
    /// What goes before each datagram; empty until the first is sent.
    pub(crate) datagram_prefix: Bytes,
}

impl Connection {
    /// Client: asks for a session. One may be asked for before the handshake is complete: its
    /// request leaves together with the handshake's last packet, never as 0-RTT data.
    pub fn open_session(&mut self, request: Request, now: Instant) -> Result<SessionId, Error> {
        if matches!(self.phase, Phase::Connecting) && self.sessions.is_empty() {
            self.core.connect(FIRST_SESSION, request, self.time(now))?;
            self.sessions.insert(FIRST_SESSION, Box::default());
            return Ok(FIRST_SESSION);
        }
        self.check_alive()?;
        let id = self
            .quic
            .open(pywt_quic::Dir::Bi)
            .ok_or(Error::StreamsExhausted)?;
        self.streams.insert(id, Stream::internal(true, true));
        if let Err(refused) = self.core.connect(id, request, self.time(now)) {
            self.quic.reset(id, H3_REQUEST_CANCELLED, &[]);
            self.quic.stop(id, H3_REQUEST_CANCELLED);
            self.streams.remove(&id);
            return Err(refused.into());
        }
        self.sessions.insert(id, Box::default());
        self.settle(now);
        Ok(id)
    }

    /// The handshake is complete: gives the session that was asked for before its stream.
    pub(crate) fn open_early_session(&mut self) {
        if !self.sessions.contains_key(&FIRST_SESSION) {
            return;
        }
        match self.quic.open(pywt_quic::Dir::Bi) {
            Some(id) => {
                self.streams.insert(id, Stream::internal(true, true));
            }
            None => {
                let reason = Error::StreamsExhausted.to_string();
                self.core.cannot_send(FIRST_SESSION, reason);
            }
        }
    }

    /// Server: accepts a request.
    pub fn accept_session(
        &mut self,
        session: SessionId,
        response: Response,
        now: Instant,
    ) -> Result<(), Error> {
        self.check_alive()?;
        self.core.accept(session, response, self.time(now))?;
        self.settle(now);
        Ok(())
    }

    /// Server: rejects a request.
    pub fn reject_session(
        &mut self,
        session: SessionId,
        status: u16,
        headers: &[(String, String)],
        now: Instant,
    ) -> Result<(), Error> {
        self.check_alive()?;
        self.core.reject(session, status, headers, self.time(now))?;
        self.forget_session(session);
        self.settle(now);
        Ok(())
    }

    /// Ends a session: CLOSE capsule and FIN, streams reset.
    pub fn close_session(
        &mut self,
        session: SessionId,
        code: u32,
        reason: &str,
        now: Instant,
    ) -> Result<(), Error> {
        self.check_alive()?;
        self.core
            .close_session(session, code, reason, self.time(now))?;
        self.settle(now);
        Ok(())
    }

    /// Tells the peer to finish what runs in a session.
    pub fn drain_session(&mut self, session: SessionId, now: Instant) -> Result<(), Error> {
        self.check_alive()?;
        self.core.drain_session(session)?;
        self.settle(now);
        Ok(())
    }

    /// GOAWAY.
    pub fn goaway(&mut self, now: Instant) -> Result<(), Error> {
        self.check_alive()?;
        self.core.goaway()?;
        self.settle(now);
        Ok(())
    }

    /// Opens a stream. `None`: a limit forbids; `StreamsAvailable` follows.
    pub fn open_stream(
        &mut self,
        session: SessionId,
        dir: Dir,
        now: Instant,
    ) -> Result<Option<StreamId>, Error> {
        self.check_alive()?;
        match self.core.check_open(session, dir) {
            Ok(()) => {}
            Err(OpenError::Blocked { .. }) => {
                self.want_stream(session, dir);
                self.settle(now);
                return Ok(None);
            }
            Err(OpenError::Invalid(refused)) => return Err(refused.into()),
        }
        let Some(id) = self.quic.open(quic_dir(dir)) else {
            self.want_stream(session, dir);
            return Ok(None);
        };
        let header = match self.core.open_stream(session, id, dir) {
            Ok(header) => header,
            Err(refused) => {
                self.quic.reset(id, H3_REQUEST_CANCELLED, &[]);
                return Err(match refused {
                    OpenError::Invalid(refused) => refused.into(),
                    OpenError::Blocked { session, .. } => Error::Session(session),
                });
            }
        };
        self.streams
            .insert(id, Stream::opened(session, dir == Dir::Bidi));
        self.send_internal(id, header, false);
        self.settle(now);
        Ok(Some(id))
    }

    /// The session has ended.
    pub(crate) fn forget_session(&mut self, session: SessionId) {
        if let Some(entry) = self.sessions.remove(&session) {
            if entry.datagrams.len() > 0 || entry.datagrams_dropped > 0 {
                let left = self.left.entry(session).or_default();
                left.datagrams = entry.datagrams;
                left.datagrams_dropped = entry.datagrams_dropped;
            }
            for id in entry.unended {
                self.leave(id);
            }
            let limits = self.options.outgoing_datagrams();
            self.drops.send_queue += self.outbox.inherit(session, entry.outgoing, limits);
        }
    }

    /// Wakes as many writers as the session's credit is enough for. Those who are left are looked
    /// after in the next turn, when the others have taken what they wanted, or did not.
    pub(crate) fn wake_writers(&mut self, session: SessionId) {
        let mut credit = self.send_credit(session);
        while credit > 0 {
            let Some(id) = self.next_writer(session) else {
                return;
            };
            if let Some(entry) = self.sessions.get_mut(&session) {
                entry.writers.pop_front();
            }
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.write_wanted = false;
                let wanted = stream.credit_wanted.take().unwrap_or_default();
                credit = credit.saturating_sub(wanted as u64);
                self.notifications.push(Notification::StreamWritable(id));
            }
        }
        if !self.sessions_in_line.contains(&session) {
            self.sessions_in_line.push(session);
        }
    }

    /// A turn has passed since some writers of these sessions were woken.
    pub(crate) fn wake_more_writers(&mut self) {
        for session in std::mem::take(&mut self.sessions_in_line) {
            if self.send_credit(session) > 0 {
                self.wake_writers(session);
            } else if let Some(id) = self.next_writer(session) {
                // Nothing is granted, and the core tells when there is credit again.
                self.core.reserve_send(id, 1);
            }
        }
    }

    fn send_credit(&self, session: SessionId) -> u64 {
        let flow = self.core.session_flow(session);
        flow.map_or(u64::MAX, |flow| {
            flow.local_data.limit.saturating_sub(flow.local_data.used)
        })
    }

    /// The first in the session's line who still waits.
    fn next_writer(&mut self, session: SessionId) -> Option<StreamId> {
        let writers = &mut self.sessions.get_mut(&session)?.writers;
        loop {
            let id = *writers.front()?;
            match self.streams.get_mut(&id) {
                Some(stream) if stream.write_wanted && stream.sending => return Some(id),
                Some(stream) => stream.credit_wanted = None,
                None => {}
            }
            writers.pop_front();
        }
    }

    fn want_stream(&mut self, session: SessionId, dir: Dir) {
        if let Some(entry) = self.sessions.get_mut(&session) {
            entry.stream_wanted[dir as usize] = true;
        }
    }

    /// The largest datagram payload that fits now; 0 when the peer takes none.
    pub fn max_datagram_size(&mut self, session: SessionId) -> usize {
        let prefix = self.sessions.get_mut(&session).map_or(0, |entry| {
            known_prefix(&mut entry.datagram_prefix, &self.core, session)
                .map_or(0, |prefix| prefix.len())
        });
        self.quic
            .max_datagram_size()
            .map_or(0, |limit| limit.saturating_sub(prefix))
    }

    /// Queues one datagram. False: the queue was full and the oldest was dropped.
    pub fn send_datagram(&mut self, session: SessionId, data: &[u8]) -> Result<bool, Error> {
        let queued = self.queue_datagrams(session, &[data], WhenFull::DropOldest)?;
        Ok(queued.dropped == 0)
    }

    /// Queues datagrams in order, and returns how many: up to the first that is too large, or for
    /// which there is no room, after which `DatagramsWritable` follows. An error is about the
    /// first of them.
    pub fn offer_datagrams(
        &mut self,
        session: SessionId,
        datagrams: &[impl AsRef<[u8]>],
    ) -> Result<usize, Error> {
        let queued = self.queue_datagrams(session, datagrams, WhenFull::Wait)?;
        Ok(queued.count)
    }

    fn queue_datagrams(
        &mut self,
        session: SessionId,
        datagrams: &[impl AsRef<[u8]>],
        when_full: WhenFull,
    ) -> Result<Queued, Error> {
        self.check_alive()?;
        let limit = self
            .quic
            .max_datagram_size()
            .ok_or(Error::DatagramsUnsupported)?;
        let Session {
            datagram_prefix,
            datagram_room_wanted,
            outgoing,
            ..
        } = &mut **self
            .sessions
            .get_mut(&session)
            .ok_or(Error::Session(session))?;
        let prefix = known_prefix(datagram_prefix, &self.core, session)?;
        // A peer whose limit is below every prefix takes none.
        let room = limit
            .checked_sub(prefix.len())
            .ok_or(Error::DatagramsUnsupported)?;
        let limits = self.options.outgoing_datagrams();
        let mut queued = Queued::default();
        let mut bytes = 0;
        for size in datagrams.iter().map(|data| data.as_ref().len()) {
            if size > room {
                if queued.count == 0 {
                    return Err(Error::DatagramTooLarge { size, limit: room });
                }
                break;
            }
            let more = bytes + prefix.len() + size;
            if when_full == WhenFull::Wait && !outgoing.has_room(queued.count + 1, more, limits) {
                *datagram_room_wanted = true;
                break;
            }
            queued.count += 1;
            bytes = more;
        }
        if queued.count == 0 {
            return Ok(queued);
        }
        if outgoing.len() == 0 {
            self.outbox.push(session);
        }
        // One buffer for all of them: they leave, or are dropped, in order.
        let mut buffer = BytesMut::with_capacity(bytes);
        for data in datagrams.iter().take(queued.count) {
            buffer.extend_from_slice(prefix);
            buffer.extend_from_slice(data.as_ref());
            queued.dropped += outgoing.push(frame(&mut buffer), limits);
        }
        self.drops.send_queue += queued.dropped;
        self.wants_transmit = true;
        Ok(queued)
    }

    /// How many received datagrams of a session had to go for newer ones; also of one that has
    /// ended, until [`Self::forget_ended`].
    pub fn datagrams_dropped(&self, session: SessionId) -> u64 {
        match self.sessions.get(&session) {
            Some(entry) => entry.datagrams_dropped,
            None => self
                .left
                .get(&session)
                .map_or(0, |left| left.datagrams_dropped),
        }
    }

    /// Whether the application is at the datagrams of which there is a crowd: it has taken some
    /// since this was asked, and a crowd is left.
    pub(crate) fn reads_crowd(&mut self) -> bool {
        let limits = self.options.incoming_datagrams();
        let crowd = self.crowded.and_then(|session| {
            let entry = self.sessions.get_mut(&session)?;
            if entry.datagrams_untouched > 0 {
                return None;
            }
            entry.datagrams_untouched = 1;
            (entry.datagrams.arrivals(limits) == Arrivals::Crowd).then_some(session)
        });
        self.crowded = crowd;
        crowd.is_some()
    }

    /// Takes the oldest received datagram. `None`: `DatagramsReadable` follows, unless the session
    /// has ended.
    pub fn receive_datagram(&mut self, session: SessionId) -> Option<Bytes> {
        let Some(entry) = self.sessions.get_mut(&session) else {
            return self.left.get_mut(&session)?.datagrams.pop();
        };
        let data = entry.datagrams.pop();
        entry.datagram_wanted = data.is_none();
        entry.datagrams_untouched = 0;
        data
    }

    /// Takes up to `max` received datagrams, oldest first. None: `DatagramsReadable` follows,
    /// unless the session has ended.
    pub fn receive_datagrams(&mut self, session: SessionId, max: usize) -> Vec<Bytes> {
        let Some(entry) = self.sessions.get_mut(&session) else {
            let left = self.left.get_mut(&session);
            return left.map_or_else(Vec::new, |left| left.datagrams.take(max));
        };
        let taken = entry.datagrams.take(max);
        entry.datagram_wanted = taken.is_empty() && max > 0;
        entry.datagrams_untouched = 0;
        taken
    }
}

/// What goes before each datagram of a session; `known` keeps it.
fn known_prefix<'a>(
    known: &'a mut Bytes,
    core: &pywt_core::Connection,
    session: SessionId,
) -> Result<&'a Bytes, Error> {
    if known.is_empty() {
        *known = core.datagram_prefix(session)?;
    }
    Ok(known)
}

/// The first client-initiated bidirectional stream (RFC 9000 §2.1).
const FIRST_SESSION: SessionId = 0;
