//! Streams and datagrams of sessions that are not established yet (webtrans-http3-16 §4.6).
//!
//! They may overtake the request, or the answer, they depend on. What a peer can make us keep
//! here is bounded by count, bytes and age; the oldest goes first.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pywt_wire::codes::error;

use crate::config::Config;
use crate::connection::Connection;
use crate::event::Event;
use crate::map::IdMap;
use crate::session::Session;
use crate::stream::{dir_of, Entry, WtStream};
use crate::{Dir, SessionId, StreamId, Time};

/// A stream whose session is not established.
#[derive(Debug)]
pub(crate) struct Held {
    stream: WtStream,
    since: Time,
    /// Payload kept here; copied, so that small pieces cost what they hold and no more.
    kept: BytesMut,
    /// Payload bytes, kept here or by the driver.
    len: u64,
    fin: bool,
    reset: Option<(u64, u64)>,
    stopped: Option<u64>,
}

/// What waits, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Early {
    streams: VecDeque<StreamId>,
    bytes: u64,
    datagrams: VecDeque<HeldDatagram>,
    datagram_bytes: usize,
}

#[derive(Debug)]
struct HeldDatagram {
    session: SessionId,
    since: Time,
    data: Bytes,
}

impl Early {
    pub(crate) fn stream_count(&self) -> usize {
        self.streams.len()
    }

    pub(crate) fn stream_bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn datagram_count(&self) -> usize {
        self.datagrams.len()
    }

    /// When the oldest entry of a session nobody asked for is due.
    pub(crate) fn deadline(
        &self,
        timeout: Duration,
        streams: &IdMap<Entry>,
        sessions: &IdMap<Session>,
    ) -> Option<Time> {
        let held = self.streams.iter().find_map(|id| match streams.get(id) {
            Some(Entry::Held(held)) if !sessions.contains_key(&held.stream.session) => {
                Some(held.since)
            }
            _ => None,
        });
        let orphan = |held: &&HeldDatagram| !sessions.contains_key(&held.session);
        let datagram = self.datagrams.iter().find(orphan).map(|held| held.since);
        let first = [held, datagram].into_iter().flatten().min()?;
        Some(first.saturating_add(timeout))
    }

    fn pop_datagram(&mut self, position: usize) -> Option<HeldDatagram> {
        let held = self.datagrams.remove(position)?;
        self.datagram_bytes -= held.data.len();
        Some(held)
    }

    fn datagrams_fit(&self, config: &Config) -> bool {
        self.datagrams.len() <= config.limits.max_early_datagrams
            && self.datagram_bytes <= config.limits.max_early_datagram_bytes
    }
}

impl Connection {
    /// Keeps a stream until its session is established.
    pub(crate) fn hold(&mut self, id: StreamId, stream: WtStream, now: Time) {
        let held = Held {
            stream,
            since: now,
            kept: BytesMut::new(),
            len: 0,
            fin: false,
            reset: None,
            stopped: None,
        };
        self.streams.insert(id, Entry::Held(Box::new(held)));
        self.early.streams.push_back(id);
        self.enforce_early();
    }

    /// Payload of a held stream; `data` empty when the driver keeps it.
    pub(crate) fn hold_data(&mut self, id: StreamId, data: &[u8], len: u64, fin: bool) {
        let Some(Entry::Held(held)) = self.streams.get_mut(&id) else {
            return;
        };
        if held.fin || held.reset.is_some() {
            return;
        }
        held.fin = fin;
        held.len += len;
        self.early.bytes += len;
        held.kept.extend_from_slice(data);
        self.enforce_early();
    }

    pub(crate) fn hold_reset(&mut self, id: StreamId, code: u64, final_size: u64) {
        if let Some(Entry::Held(held)) = self.streams.get_mut(&id) {
            held.reset = Some((code, final_size));
        }
    }

    pub(crate) fn hold_stopped(&mut self, id: StreamId, code: u64) {
        if let Some(Entry::Held(held)) = self.streams.get_mut(&id) {
            held.stopped = Some(code);
        }
    }

    pub(crate) fn hold_datagram(&mut self, session: SessionId, data: Bytes, now: Time) {
        self.early.datagram_bytes += data.len();
        self.early.datagrams.push_back(HeldDatagram {
            session,
            since: now,
            data,
        });
        while !self.early.datagrams_fit(&self.config) && self.early.pop_datagram(0).is_some() {
            self.stats.datagrams_dropped += 1;
        }
    }

    /// The session is established: everything that waited for it comes out, in order.
    pub(crate) fn release_early(&mut self, session: SessionId, now: Time) {
        for id in self.early_streams_of(session) {
            let Some(held) = self.take_held(id) else {
                continue;
            };
            let Held {
                stream,
                kept,
                len,
                fin,
                reset,
                stopped,
                ..
            } = held;
            self.admit(id, stream);
            // What the driver kept was counted while waiting and counts for the session now.
            let elsewhere = len - kept.len() as u64;
            self.handle_stream_data(id, kept.freeze(), fin && elsewhere == 0, now);
            if elsewhere > 0 {
                self.handle_stream_bytes(id, elsewhere, fin, now);
            }
            if let Some((code, final_size)) = reset {
                self.session_stream_reset(id, code, final_size);
            }
            if let Some(code) = stopped {
                self.session_stream_stopped(id, code);
            }
        }
        let mut position = 0;
        while let Some(held) = self.early.datagrams.get(position) {
            if held.session != session {
                position += 1;
            } else if let Some(held) = self.early.pop_datagram(position) {
                self.deliver_datagram(session, held.data);
            }
        }
    }

    /// The session will not be established: what waited for it is refused.
    pub(crate) fn refuse_early(&mut self, session: SessionId, code: u64) {
        for id in self.early_streams_of(session) {
            self.refuse_held(id, code);
        }
        let before = self.early.datagrams.len();
        let Early {
            datagrams,
            datagram_bytes,
            ..
        } = &mut self.early;
        datagrams.retain(|held| {
            let keep = held.session != session;
            if !keep {
                *datagram_bytes -= held.data.len();
            }
            keep
        });
        self.stats.datagrams_dropped += (before - self.early.datagrams.len()) as u64;
    }

    /// Refuses a stream that may not even wait.
    pub(crate) fn reject_early(&mut self, id: StreamId, dir: Dir) {
        self.stats.streams_rejected += 1;
        self.discard(
            id,
            error::WT_BUFFERED_STREAM_REJECTED,
            true,
            dir == Dir::Bidi,
        );
    }

    /// Takes a held stream out, entry and all.
    pub(crate) fn take_held(&mut self, id: StreamId) -> Option<Held> {
        match self.streams.remove(&id)? {
            Entry::Held(held) => {
                self.early.bytes -= held.len;
                self.early.streams.retain(|&other| other != id);
                Some(*held)
            }
            other => {
                self.streams.insert(id, other);
                None
            }
        }
    }

    /// Refuses what has waited too long for a session nobody asked for.
    pub(crate) fn expire_early(&mut self, now: Time) {
        let timeout = self.config.limits.early_timeout;
        loop {
            let due = self.early.deadline(timeout, &self.streams, &self.sessions);
            if due.is_none_or(|due| due > now) {
                return;
            }
            let expired = |since: Time| since.saturating_add(timeout) <= now;
            let stream = self.early.streams.iter().copied().find(|id| {
                matches!(self.streams.get(id), Some(Entry::Held(held))
                    if expired(held.since) && !self.sessions.contains_key(&held.stream.session))
            });
            if let Some(id) = stream {
                self.stats.streams_rejected += 1;
                self.refuse_held(id, error::WT_BUFFERED_STREAM_REJECTED);
                continue;
            }
            let datagram =
                self.early.datagrams.iter().position(|held| {
                    expired(held.since) && !self.sessions.contains_key(&held.session)
                });
            match datagram.and_then(|position| self.early.pop_datagram(position)) {
                Some(_) => self.stats.datagrams_dropped += 1,
                None => return,
            }
        }
    }

    fn early_streams_of(&self, session: SessionId) -> Vec<StreamId> {
        let of_session = |id: &StreamId| matches!(self.streams.get(id), Some(Entry::Held(held)) if held.stream.session == session);
        self.early
            .streams
            .iter()
            .copied()
            .filter(of_session)
            .collect()
    }

    fn enforce_early(&mut self) {
        let limits = &self.config.limits;
        let (max_streams, max_bytes) = (limits.max_early_streams, limits.max_early_stream_bytes);
        while self.early.streams.len() > max_streams || self.early.bytes > max_bytes {
            let Some(&oldest) = self.early.streams.front() else {
                return;
            };
            self.stats.streams_rejected += 1;
            self.refuse_held(oldest, error::WT_BUFFERED_STREAM_REJECTED);
        }
    }

    fn refuse_held(&mut self, id: StreamId, code: u64) {
        let Some(held) = self.take_held(id) else {
            return;
        };
        let recv_open = !held.fin && held.reset.is_none();
        self.discard(id, code, recv_open, dir_of(id) == Dir::Bidi);
    }

    /// A datagram of an established session.
    pub(crate) fn deliver_datagram(&mut self, session: SessionId, data: Bytes) {
        self.stats.datagrams_received += 1;
        self.events
            .push_back(Event::DatagramReceived { session, data });
    }
}
