//! What the endpoint keeps about a stream, and the calls on streams.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use pywt_core::{SessionId, StreamId};
use pywt_quic::{ReadState, Stopped, WriteState};

use crate::connection::Connection;
use crate::Error;

/// Who a stream belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Its header has not arrived completely.
    Unclassified,
    /// The core eats every byte.
    Core,
    /// Its session is not established; payload stays in QUIC.
    Held,
    /// The application, which answers the request on it.
    Request,
    /// This session.
    Session(SessionId),
}

/// One stream's buffers and waiters. Payload is in QUIC.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) owner: Owner,
    /// The peer may still send, or has sent what nobody has read.
    pub(crate) receiving: bool,
    /// We may still send.
    pub(crate) sending: bool,
    /// The peer has acknowledged all that we sent, with the FIN.
    pub(crate) delivered: bool,
    /// STOP_SENDING is out, and how the peer's side ends is still to come.
    stopping: bool,
    /// A read wanted more than there was, or nobody has read what this side asked for.
    pub(crate) read_wanted: bool,
    /// A write fell short.
    pub(crate) write_wanted: bool,
    /// By so many bytes of session credit, for which it stands in line.
    pub(crate) credit_wanted: Option<usize>,
    /// The end comes after `head`; QUIC has nothing more.
    pub(crate) ended: bool,
    /// The peer has reset the stream, and the application has yet to be told.
    pub(crate) reset_untold: bool,
    /// The peer has stopped the stream, and the application has yet to be told.
    pub(crate) stop_untold: bool,
    /// Trailers came, and the application has yet to be told.
    pub(crate) trailers_untold: bool,
    /// Payload that came with the header.
    pub(crate) head: Bytes,
    /// Payload after it that QUIC does not have any more: the session has ended, or it is the body
    /// of a request.
    pub(crate) rest: VecDeque<Bytes>,
    /// The session has ended, and the stream had come whole: it can still be read.
    pub(crate) is_left: bool,
    /// Session credit granted and not used.
    credit: u64,
    /// Payload bytes handed to QUIC, as far as [`BURST`] cares.
    written: usize,
    /// What QUIC was handed first.
    pub(crate) beginning: Beginning,
    /// The application's wish; see [`Connection::set_stream_priority`].
    priority: i32,
    /// The core's bytes that QUIC has not taken: headers and capsules.
    pub(crate) unsent: VecDeque<Bytes>,
    pub(crate) unsent_bytes: usize,
    /// FIN follows `unsent`.
    pub(crate) unsent_fin: bool,
}

/// The first bytes of a stream, as many as a reset may have to leave: its header and one more.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beginning {
    bytes: [u8; BEGINNING],
    len: u8,
}

impl Beginning {
    /// QUIC was handed more.
    pub(crate) fn extend(&mut self, data: &[u8]) {
        let free = self.bytes.get_mut(usize::from(self.len)..);
        for (place, byte) in free.unwrap_or_default().iter_mut().zip(data) {
            *place = *byte;
            self.len += 1;
        }
    }

    /// The first `size` bytes; nothing unless QUIC has them all.
    fn first(&self, size: u64) -> &[u8] {
        let known = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        known.get(..size).unwrap_or_default()
    }
}

/// What to write.
pub enum Payload<'a> {
    /// Copied.
    Slice(&'a [u8]),
    /// Kept alive until acknowledged, not copied.
    Shared(Bytes),
}

impl Payload<'_> {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Slice(data) => data.len(),
            Self::Shared(data) => data.len(),
        }
    }
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes; fewer than there was room for: `StreamReadable` follows.
    Data(usize),
    /// So many bytes, and they are the last.
    Last(usize),
    /// Nothing yet; `StreamReadable` follows.
    Nothing,
    /// The end, or a reset of which the application has been told.
    End,
}

impl Read {
    pub(crate) fn of(taken: usize, is_last: bool) -> Self {
        match (taken, is_last) {
            (0, true) => Self::End,
            (0, false) => Self::Nothing,
            (_, true) => Self::Last(taken),
            (_, false) => Self::Data(taken),
        }
    }
}

impl Stream {
    /// A stream the peer opened.
    pub(crate) fn accepted(bidirectional: bool) -> Self {
        Self::new(Owner::Unclassified, true, bidirectional)
    }

    /// A stream we opened for a session; its first bytes are told of.
    pub(crate) fn opened(session: SessionId, bidirectional: bool) -> Self {
        Self {
            read_wanted: bidirectional,
            ..Self::new(Owner::Session(session), bidirectional, true)
        }
    }

    /// A stream of the core.
    pub(crate) fn internal(receiving: bool, sending: bool) -> Self {
        Self::new(Owner::Core, receiving, sending)
    }

    /// Our side was reset: what QUIC has not taken never leaves.
    fn end_sending(&mut self) {
        self.sending = false;
        self.unsent.clear();
        self.unsent_bytes = 0;
    }

    fn new(owner: Owner, receiving: bool, sending: bool) -> Self {
        Self {
            owner,
            receiving,
            sending,
            delivered: false,
            stopping: false,
            read_wanted: false,
            write_wanted: false,
            credit_wanted: None,
            ended: false,
            reset_untold: false,
            stop_untold: false,
            trailers_untold: false,
            head: Bytes::new(),
            rest: VecDeque::new(),
            is_left: false,
            credit: 0,
            written: 0,
            beginning: Beginning::default(),
            priority: 0,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            unsent_fin: false,
        }
    }

    /// QUIC lets streams of one priority take turns packet by packet. A thousand short messages
    /// at once would all arrive in pieces, and wake their readers for each; so the first bytes of
    /// a stream go half a step before others of its priority. QUIC applies that from a stream's
    /// second packet on, and the first packet still waits its turn: nobody is starved.
    fn quic_priority(&self) -> i32 {
        let is_short = self.written > 0 && self.written <= BURST;
        self.priority * 2 + i32::from(is_short)
    }

    /// QUIC was handed so much payload; the priority, if that has changed it.
    pub(crate) fn wrote(&mut self, taken: usize) -> Option<i32> {
        let before = self.written;
        self.written = before.saturating_add(taken);
        let is_changed = (before == 0 && taken > 0) || (before <= BURST && self.written > BURST);
        is_changed.then(|| self.quic_priority())
    }

    fn is_request(&self) -> bool {
        self.owner == Owner::Request
    }

    /// Puts bytes behind those that QUIC has not taken.
    pub(crate) fn queue(&mut self, data: Bytes) {
        self.unsent_bytes += data.len();
        if !data.is_empty() {
            self.unsent.push_back(data);
        }
    }
}

impl Connection {
    /// Moves up to `max` bytes into `chunks`.
    pub fn stream_read(
        &mut self,
        id: StreamId,
        max: usize,
        chunks: &mut Vec<Bytes>,
        now: Instant,
    ) -> Read {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Read::End;
        };
        if stream.owner == Owner::Request {
            return self.request_read(id, max, chunks, now);
        }
        if !stream.receiving || !matches!(stream.owner, Owner::Session(_)) {
            if !stream.reset_untold {
                return Read::End;
            }
            // That it is no ordinary end comes first.
            stream.read_wanted = true;
            return Read::Nothing;
        }
        let mut taken = stream.take_kept(max, chunks);
        let mut fresh = 0;
        let mut fin = false;
        let mut reset = None;
        if taken < max && !stream.ended {
            let (read, state) = self.quic.read(id, max - taken, chunks);
            fresh = read;
            taken += read;
            fin = matches!(state, ReadState::Finished | ReadState::Unknown);
            stream.ended = fin;
            reset = match state {
                ReadState::Reset(reset) => Some(reset),
                // All was read that had to arrive; QUIC has no more to say.
                ReadState::More if taken < max => self.quic.received_reset(id),
                _ => None,
            };
        }
        let is_last = stream.ended && stream.head.is_empty() && stream.rest.is_empty();
        if stream.ended {
            if let Owner::Session(session) = stream.owner {
                if let Some(session) = self.sessions.get_mut(&session) {
                    if is_last {
                        session.unended.remove(&id);
                    } else {
                        session.unended.insert(id);
                    }
                }
            }
        }
        stream.receiving = !is_last;
        stream.read_wanted = taken < max && !is_last;
        let time = self.time(now);
        if fresh > 0 || fin {
            self.core.handle_stream_bytes(id, fresh as u64, fin, time);
        }
        if taken > 0 {
            self.core.stream_consumed(id, taken as u64, time);
        }
        if let Some(reset) = reset {
            self.core
                .handle_stream_reset(id, reset.code, reset.final_size, time);
            self.settle(now);
        }
        if is_last {
            self.forget_if_over(id);
        }
        if taken > 0 || is_last {
            // Credit may go back to the peer, of QUIC and of the session.
            self.settle(now);
            self.wants_transmit |= self.quic.take_flow_control();
        }
        Read::of(taken, is_last)
    }

    /// Hands the front of `data` to QUIC and returns how much was taken. FIN is taken only
    /// together with the last byte. Less than everything: `StreamWritable` follows.
    pub fn stream_write(
        &mut self,
        id: StreamId,
        mut data: Payload<'_>,
        fin: bool,
        now: Instant,
    ) -> Result<usize, Error> {
        self.check_alive()?;
        let total = data.len();
        let mut written = 0;
        loop {
            let stream = match self.streams.get_mut(&id) {
                Some(stream) if matches!(stream.owner, Owner::Session(_)) => stream,
                Some(stream) if stream.is_request() => return self.request_write(id, data),
                _ => return Err(Error::StreamFinished(id)),
            };
            if !stream.sending {
                if !stream.stop_untold {
                    return Err(Error::StreamFinished(id));
                }
                // Why it is so comes first.
                stream.write_wanted = true;
                return Ok(written);
            }
            if !stream.unsent.is_empty() {
                // Even the header waits for credit.
                stream.write_wanted = true;
                return Ok(written);
            }
            let left = total - written;
            if left == 0 {
                break;
            }
            let step = left.min(CREDIT_STEP);
            if stream.credit < step as u64 {
                stream.credit += self.core.reserve_send(id, step as u64 - stream.credit);
            }
            let granted = usize::try_from(stream.credit).map_or(step, |credit| credit.min(step));
            if granted == 0 {
                stream.write_wanted = true;
                if stream.credit_wanted.replace(left).is_none() {
                    if let Owner::Session(session) = stream.owner {
                        if let Some(session) = self.sessions.get_mut(&session) {
                            session.writers.push_back(id);
                        }
                    }
                }
                // DATA_BLOCKED may be among the actions.
                self.settle(now);
                break;
            }
            let (taken, state) = match &mut data {
                Payload::Slice(data) => {
                    let part = data.get(..granted).unwrap_or_default();
                    let result = self.quic.write(id, part);
                    stream
                        .beginning
                        .extend(part.get(..result.0).unwrap_or_default());
                    *data = data.get(result.0..).unwrap_or_default();
                    result
                }
                Payload::Shared(data) => {
                    let mut part = data.slice(..granted);
                    let result = self.quic.write_bytes(id, &mut part);
                    stream
                        .beginning
                        .extend(data.get(..result.0).unwrap_or_default());
                    *data = data.slice(result.0..);
                    result
                }
            };
            stream.credit -= taken as u64;
            written += taken;
            if let Some(priority) = stream.wrote(taken) {
                self.quic.set_priority(id, priority);
            }
            self.wants_transmit |= taken > 0;
            self.share.streams_wait();
            match state {
                WriteState::Done => {}
                WriteState::Blocked => {
                    stream.write_wanted = true;
                    return Ok(written);
                }
                // QUIC's event, and with it `StreamStopped` and the code, is still to come.
                WriteState::Stopped(_) => {
                    stream.write_wanted = true;
                    return Ok(written);
                }
                WriteState::Unknown => return Err(Error::StreamFinished(id)),
            }
        }
        if fin && written == total {
            self.finish_stream(id, now);
        }
        Ok(written)
    }

    fn finish_stream(&mut self, id: StreamId, now: Instant) {
        self.quic.finish(id);
        self.wants_transmit = true;
        self.return_credit(id);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.sending = false;
        }
        self.core.stream_finished(id);
        self.forget_if_over(id);
        // Its end may grant the peer another stream.
        self.settle(now);
    }

    /// RESET_STREAM.
    pub fn stream_reset(&mut self, id: StreamId, code: u32, now: Instant) -> Result<(), Error> {
        self.check_alive()?;
        let stream = self
            .streams
            .get_mut(&id)
            .filter(|stream| stream.sending)
            .ok_or(Error::StreamFinished(id))?;
        stream.end_sending();
        self.return_credit(id);
        self.core.reset_stream(id, code);
        // It goes by what is known of the stream, which may be over then.
        self.settle(now);
        self.forget_if_over(id);
        Ok(())
    }

    /// Carries out the core's wish. In QUIC the stream ends as soon as there is room.
    pub(crate) fn reset_in_quic(&mut self, id: StreamId, code: u64, reliable_size: u64) {
        let beginning = self.streams.get(&id).map(|stream| stream.beginning);
        let beginning = beginning.unwrap_or_default();
        self.quic.reset(id, code, beginning.first(reliable_size));
        self.unacknowledged.remove(&id);
        self.end_unowned(id, Stream::end_sending);
    }

    /// STOP_SENDING; unread data is dropped. Nothing happens when the peer's side has ended.
    pub fn stream_stop(&mut self, id: StreamId, code: u32, now: Instant) -> Result<(), Error> {
        self.check_alive()?;
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.receiving) else {
            return Ok(());
        };
        stream.receiving = false;
        stream.head = Bytes::new();
        if let Owner::Session(session) = stream.owner {
            if let Some(session) = self.sessions.get_mut(&session) {
                session.unended.remove(&id);
            }
        }
        self.core.stop_stream(id, code);
        self.settle(now);
        self.forget_if_over(id);
        Ok(())
    }

    /// Carries out the core's wish, which is told when and how large the stream ended.
    pub(crate) fn stop_in_quic(&mut self, id: StreamId, code: u64) {
        if self.leave(id) {
            // Everything is here, and nothing is to be stopped.
            return;
        }
        let stopped = self.quic.stop(id, code);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.stopping = stopped == Stopped::Sent;
        }
        self.end_unowned(id, |stream| stream.receiving = false);
        match stopped {
            Stopped::Sent => {}
            Stopped::Ended { final_size } => self.core.stopped_stream_gone(id, final_size),
            // Its end had been read; nothing is missing.
            Stopped::Unknown => self.core.stopped_stream_gone(id, 0),
        }
    }

    /// The peer's side of a stream that we stopped has ended.
    pub(crate) fn stopped_ended(&mut self, id: StreamId, final_size: u64) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.stopping = false;
        }
        self.core.stopped_stream_gone(id, final_size);
        self.forget_if_over(id);
    }

    /// Ends one half of a stream that no session has; what ends the streams of sessions is told
    /// by events.
    fn end_unowned(&mut self, id: StreamId, end: impl FnOnce(&mut Stream)) {
        if let Some(stream) = self.streams.get_mut(&id) {
            if !matches!(stream.owner, Owner::Session(_)) {
                end(stream);
                self.forget_if_over(id);
            }
        }
    }

    /// Sets which streams are sent first; larger is sooner, 0 is the default. Streams of equal
    /// priority take turns, except that a short message is sent in one piece.
    pub fn set_stream_priority(&mut self, id: StreamId, priority: i32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.priority = priority.clamp(-MAX_PRIORITY, MAX_PRIORITY);
            self.quic.set_priority(id, stream.quic_priority());
        }
    }

    /// Gives unused session credit back before the stream's sending side ends.
    fn return_credit(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            let unused = std::mem::take(&mut stream.credit);
            if unused > 0 {
                self.core.release_send(id, unused);
            }
        }
    }

    /// Drops the entry of a stream whose halves have both ended, here and in the core.
    pub(crate) fn forget_if_over(&mut self, id: StreamId) {
        let over = self.streams.get(&id).is_some_and(|stream| {
            !(stream.receiving
                || stream.sending
                || stream.stopping
                || stream.reset_untold
                || stream.stop_untold)
        });
        if over {
            self.streams.remove(&id);
            self.core.stream_gone(id);
        }
    }
}

/// Bytes of the longest header, two integers of two and eight bytes, and of payload behind it.
const BEGINNING: usize = 11;
/// Up to this size a message is sent in one piece.
const BURST: usize = 128 * 1024;
/// Priorities beyond it mean the same.
const MAX_PRIORITY: i32 = 1 << 20;
/// Session credit is asked for in steps, so that a writer QUIC has no room for holds little.
const CREDIT_STEP: usize = 64 * 1024;
