//! Streams and datagrams of sessions that are not established yet (webtrans-http3-16 §4.6).
//!
//! They may overtake the request, or the answer, they depend on. What a peer can make us keep
//! here is bounded by count, bytes and age. Over a bound the oldest go first, and before those of
//! any session that was asked for go those of sessions nobody has asked for.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pywt_wire::codes::error;

use crate::config::Role;
use crate::connection::Connection;
use crate::event::Event;
use crate::limits::Limits;
use crate::session::flow::Debt;
use crate::stream::table::{dir_of, Entry, Halves, Kind};
use crate::stream::{Counted, WtStream};
use crate::{Dir, SessionId, StreamId, Time};

/// A stream whose session is not established.
#[derive(Debug)]
pub(crate) struct Held {
    stream: WtStream,
    /// Payload kept here; copied, so that small pieces cost what they hold and no more.
    kept: BytesMut,
    /// Payload bytes, kept here or by the driver.
    len: u64,
    fin: bool,
    /// Code and final size.
    reset: Option<(u64, u64)>,
    stopped: Option<u64>,
}

/// What was refused; its bytes count for the session until it has ended.
pub(crate) type Refused = WtStream;

/// What waits, and what was refused.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// Of sessions that were asked for.
    asked: Queue,
    /// Of sessions that nobody has asked for.
    strangers: Queue,
    bytes: u64,
    datagram_bytes: usize,
    /// What refused streams used of sessions that are not established.
    debts: VecDeque<(SessionId, Debt)>,
    /// Refused streams whose entries are kept until they have ended.
    refused: VecDeque<StreamId>,
}

/// Streams and datagrams, oldest first.
#[derive(Debug, Default)]
struct Queue {
    streams: VecDeque<HeldStream>,
    datagrams: VecDeque<HeldDatagram>,
}

#[derive(Clone, Copy, Debug)]
struct HeldStream {
    session: SessionId,
    since: Time,
    id: StreamId,
}

#[derive(Debug)]
struct HeldDatagram {
    session: SessionId,
    since: Time,
    data: Bytes,
}

impl Early {
    pub(crate) fn stream_count(&self) -> usize {
        self.asked.streams.len() + self.strangers.streams.len()
    }

    pub(crate) fn stream_bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn datagram_count(&self) -> usize {
        self.asked.datagrams.len() + self.strangers.datagrams.len()
    }

    /// When the oldest stream or datagram of a session nobody asked for is due.
    pub(crate) fn deadline(&self, timeout: Duration) -> Option<Time> {
        let stream = self.strangers.streams.front().map(|held| held.since);
        let datagram = self.strangers.datagrams.front().map(|held| held.since);
        let first = [stream, datagram].into_iter().flatten().min()?;
        Some(first.saturating_add(timeout))
    }

    /// A session was asked for: what waits for it is no stranger's any more.
    pub(crate) fn asked(&mut self, session: SessionId) {
        let Self {
            asked, strangers, ..
        } = self;
        strangers.streams.retain(|held| {
            let stays = held.session != session;
            if !stays {
                asked.streams.push_back(*held);
            }
            stays
        });
        let (its, others) = std::mem::take(&mut strangers.datagrams)
            .into_iter()
            .partition(|held| held.session == session);
        strangers.datagrams = others;
        asked.datagrams.extend::<VecDeque<_>>(its);
    }

    fn queue(&mut self, is_asked: bool) -> &mut Queue {
        match is_asked {
            true => &mut self.asked,
            false => &mut self.strangers,
        }
    }

    fn streams_of(&self, session: SessionId) -> Vec<StreamId> {
        let both = self.asked.streams.iter().chain(&self.strangers.streams);
        both.filter(|held| held.session == session)
            .map(|held| held.id)
            .collect()
    }

    /// The stream that has to go, if one has to.
    fn surplus(&self, newest: SessionId, limits: &Limits) -> Option<StreamId> {
        let its = self.streams_of(newest);
        if its.len() > limits.max_early_streams_per_session {
            return its.first().copied();
        }
        let fits = self.stream_count() <= limits.max_early_streams
            && self.bytes <= limits.max_early_stream_bytes;
        let queues = [&self.strangers, &self.asked];
        let oldest = queues.iter().find_map(|queue| queue.streams.front());
        oldest.filter(|_| !fits).map(|held| held.id)
    }

    fn left(&mut self, id: StreamId, len: u64) {
        self.bytes = self.bytes.saturating_sub(len);
        for queue in [&mut self.asked, &mut self.strangers] {
            if let Some(at) = queue.streams.iter().position(|held| held.id == id) {
                queue.streams.remove(at);
                return;
            }
        }
    }

    fn pop_datagram(&mut self) -> bool {
        let queues = [&mut self.strangers, &mut self.asked];
        let oldest = queues
            .into_iter()
            .find_map(|queue| queue.datagrams.pop_front());
        self.datagram_bytes -= oldest.as_ref().map_or(0, |held| held.data.len());
        oldest.is_some()
    }

    fn take_datagrams(&mut self, session: SessionId) -> Vec<Bytes> {
        let mut taken = Vec::new();
        for queue in [&mut self.strangers, &mut self.asked] {
            queue.datagrams.retain_mut(|held| {
                let stays = held.session != session;
                if !stays {
                    taken.push(std::mem::take(&mut held.data));
                }
                stays
            });
        }
        self.datagram_bytes -= taken.iter().map(Bytes::len).sum::<usize>();
        taken
    }

    fn owe(&mut self, session: SessionId, more: Debt, limits: &Limits) {
        let mut debt = self.take_debt(session).unwrap_or_default();
        debt.bytes = debt.bytes.saturating_add(more.bytes);
        debt.bidi += more.bidi;
        debt.uni += more.uni;
        self.debts.push_back((session, debt));
        if self.debts.len() > limits.max_early_streams {
            self.debts.pop_front();
        }
    }

    fn take_debt(&mut self, session: SessionId) -> Option<Debt> {
        let at = self.debts.iter().position(|(id, _)| *id == session)?;
        self.debts.remove(at).map(|(_, debt)| debt)
    }
}

impl Connection {
    /// Keeps a stream until its session is established.
    pub(crate) fn hold(&mut self, id: StreamId, halves: Halves, stream: WtStream, now: Time) {
        let session = stream.session;
        let held = Held {
            stream,
            kept: BytesMut::new(),
            len: 0,
            fin: false,
            reset: None,
            stopped: None,
        };
        self.streams.insert(id, halves, Kind::Held(Box::new(held)));
        let is_asked = self.sessions.contains(session);
        let since = now;
        let held = HeldStream { session, since, id };
        self.early.queue(is_asked).streams.push_back(held);
        self.enforce_early(session);
    }

    /// Payload of a held stream; `data` empty when the driver keeps it.
    pub(crate) fn hold_data(&mut self, id: StreamId, data: &[u8], len: u64, fin: bool) {
        let Some(Entry {
            halves,
            kind: Kind::Held(held),
        }) = self.streams.get_mut(id)
        else {
            return;
        };
        if !halves.recv {
            return;
        }
        halves.recv = !fin;
        held.fin = fin;
        held.len = held.len.saturating_add(len);
        self.early.bytes = self.early.bytes.saturating_add(len);
        held.kept.extend_from_slice(data);
        let session = held.stream.session;
        self.enforce_early(session);
    }

    pub(crate) fn hold_reset(&mut self, id: StreamId, code: u64, final_size: u64) {
        if let Some(Entry {
            halves,
            kind: Kind::Held(held),
        }) = self.streams.get_mut(id)
        {
            if std::mem::take(&mut halves.recv) {
                held.reset = Some((code, final_size));
            }
        }
    }

    pub(crate) fn hold_stopped(&mut self, id: StreamId, code: u64) {
        if let Some(Entry {
            kind: Kind::Held(held),
            ..
        }) = self.streams.get_mut(id)
        {
            held.stopped = Some(code);
        }
    }

    pub(crate) fn hold_datagram(&mut self, session: SessionId, data: &[u8], now: Time) {
        let limits = &self.config.limits;
        let (count, bytes) = (limits.max_early_datagrams, limits.max_early_datagram_bytes);
        let is_asked = self.sessions.contains(session);
        self.early.datagram_bytes += data.len();
        self.early
            .queue(is_asked)
            .datagrams
            .push_back(HeldDatagram {
                session,
                since: now,
                // A slice would keep alive the packets it came in.
                data: Bytes::copy_from_slice(data),
            });
        while self.early.datagram_count() > count || self.early.datagram_bytes > bytes {
            if !self.early.pop_datagram() {
                return;
            }
            self.stats.datagrams_dropped += 1;
        }
    }

    /// The session is established: everything that waited for it comes out, in order.
    pub(crate) fn release_early(&mut self, session: SessionId) {
        if let Some(debt) = self.early.take_debt(session) {
            let flow = self.sessions.flow_mut(session);
            if let Some(Err(error)) = flow.map(|flow| flow.settle_debt(debt)) {
                return self.fail_session(session, &error);
            }
            self.sessions.mark_dirty(session);
        }
        for id in self.early.streams_of(session) {
            let Some((_, held)) = self.take_held(id) else {
                continue;
            };
            let Held {
                stream,
                kept,
                len,
                fin,
                reset,
                stopped,
            } = held;
            self.admit(id, Halves::of_peer(id), stream);
            // What the driver kept was counted while waiting and counts for the session now.
            let elsewhere = len - kept.len() as u64;
            let fin_here = fin && elsewhere == 0;
            if self.count(id, kept.len() as u64, fin_here) == Counted::Deliver {
                self.deliver(id, kept.freeze(), fin_here);
            }
            if elsewhere > 0 {
                self.count(id, elsewhere, fin);
            }
            if let Some((code, final_size)) = reset {
                self.session_stream_reset(id, code, final_size);
            }
            if let Some(code) = stopped {
                self.session_stream_stopped(id, code);
            }
        }
        for data in self.early.take_datagrams(session) {
            self.deliver_datagram(session, data);
        }
    }

    /// The session will not be established: what waited for it is refused.
    pub(crate) fn refuse_early(&mut self, session: SessionId, code: u64) {
        for id in self.early.streams_of(session) {
            self.refuse_held(id, code);
        }
        self.early.take_debt(session);
        self.stats.datagrams_dropped += self.early.take_datagrams(session).len() as u64;
    }

    /// Takes a held stream out, entry and all.
    pub(crate) fn take_held(&mut self, id: StreamId) -> Option<(Halves, Held)> {
        if !matches!(self.streams.kind(id), Some(Kind::Held(_))) {
            return None;
        }
        match self.streams.remove(id)? {
            Entry {
                halves,
                kind: Kind::Held(held),
            } => {
                self.early.left(id, held.len);
                Some((halves, *held))
            }
            _ => None,
        }
    }

    /// Refuses what has waited too long for a session nobody asked for.
    pub(crate) fn expire_early(&mut self, now: Time) {
        let timeout = self.config.limits.early_timeout;
        let expired = |since: Time| since.saturating_add(timeout) <= now;
        while let Some(held) = self.early.strangers.streams.front() {
            if !expired(held.since) {
                break;
            }
            let id = held.id;
            self.evict_held(id);
        }
        while let Some(held) = self.early.strangers.datagrams.front() {
            if !expired(held.since) {
                break;
            }
            self.early.pop_datagram();
            self.stats.datagrams_dropped += 1;
        }
    }

    fn enforce_early(&mut self, newest: SessionId) {
        while let Some(id) = self.early.surplus(newest, &self.config.limits) {
            self.evict_held(id);
        }
    }

    /// Refuses a stream whose session may still be established. The peer has counted it: so will
    /// the session.
    fn evict_held(&mut self, id: StreamId) {
        self.stats.streams_rejected += 1;
        let Some((halves, stream)) = self.refuse_held(id, error::WT_BUFFERED_STREAM_REJECTED)
        else {
            return;
        };
        let limits = &self.config.limits;
        if !self.config.flow_control.is_bounding() {
            return;
        }
        let is_bidi = dir_of(id) == Dir::Bidi;
        let debt = Debt {
            bytes: stream.received,
            bidi: u64::from(is_bidi),
            uni: u64::from(!is_bidi),
        };
        self.early.owe(stream.session, debt, limits);
        if halves.recv {
            let halves = Halves {
                recv: true,
                send: false,
            };
            self.streams.insert(id, halves, Kind::Refused(stream));
            self.early.refused.push_back(id);
            if self.early.refused.len() > limits.max_early_streams {
                if let Some(oldest) = self.early.refused.pop_front() {
                    self.streams.remove(oldest);
                }
            }
        }
    }

    /// Resets and stops a held stream; what of it was open and what it has used.
    fn refuse_held(&mut self, id: StreamId, code: u64) -> Option<(Halves, WtStream)> {
        let (halves, mut held) = self.take_held(id)?;
        self.count_refusal();
        self.abandon(id, halves, code, 0);
        held.stream.received = held.len;
        if let Some((_, final_size)) = held.reset {
            held.stream.received += held.stream.missing(final_size);
        }
        Some((halves, held.stream))
    }

    /// A refused stream goes on.
    pub(crate) fn refused_data(&mut self, id: StreamId, len: u64, fin: bool) {
        let Some(Entry {
            kind: Kind::Refused(stream),
            ..
        }) = self.streams.get_mut(id)
        else {
            return;
        };
        stream.received = stream.received.saturating_add(len);
        let session = stream.session;
        self.spend(session, len);
        if fin {
            self.refused_ended(id, 0);
        }
    }

    /// A refused stream has ended.
    pub(crate) fn refused_ended(&mut self, id: StreamId, final_size: u64) {
        let Some(Kind::Refused(stream)) = self.streams.kind(id) else {
            return;
        };
        let (session, missing) = (stream.session, stream.missing(final_size));
        self.spend(session, missing);
        self.streams.remove(id);
        self.early.refused.retain(|&other| other != id);
    }

    /// Bytes of a refused stream are used and free again at once.
    fn spend(&mut self, session: SessionId, len: u64) {
        if self
            .sessions
            .get(session)
            .is_some_and(|entry| entry.is_open())
        {
            if self.charge_data(session, len) {
                self.free_data(session, len);
            }
        } else if !self.sessions.has_ended(session) {
            let debt = Debt {
                bytes: len,
                ..Debt::default()
            };
            self.early.owe(session, debt, &self.config.limits);
        }
    }

    /// Whether a request for this session may still be under way.
    pub(crate) fn may_come(&self, session: SessionId) -> bool {
        self.config.role == Role::Server && !self.sessions.has_ended(session)
    }

    /// A datagram of an established session.
    pub(crate) fn deliver_datagram(&mut self, session: SessionId, data: Bytes) {
        self.stats.datagrams_received += 1;
        self.events
            .push_back(Event::DatagramReceived { session, data });
    }
}
