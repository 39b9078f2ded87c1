//! The streams of a connection: reading, writing, and how they end. quinn keeps the data; here is
//! what it does not tell: final sizes, and resets that leave the beginning of a stream intact.

use std::collections::VecDeque;

use bytes::Bytes;
use quinn_proto::{Dir, FinishError, ReadError, StreamId, VarInt, WriteError};
use rustc_hash::FxHashMap;

use crate::connection::Connection;
use crate::frames::{How, Prefix};

/// How a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// The limit of the call was reached; there may be more.
    More,
    /// Nothing more for now; [`crate::Event::Readable`] follows.
    Blocked,
    /// The peer ended the stream and everything was read.
    Finished,
    /// The peer reset the stream, and what it promised to deliver was read.
    Reset(Reset),
    /// Not a stream that can be read: unknown, over, or one we only send on.
    Unknown,
}

/// A reset by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The peer's code.
    pub code: u64,
    /// How many bytes the peer has sent, or would have if they had not been lost.
    pub final_size: u64,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteState {
    /// Everything was taken.
    Done,
    /// No room for the rest; [`crate::Event::Writable`] follows.
    Blocked,
    /// The peer asked to stop sending with this code.
    Stopped(u64),
    /// Not a stream that can be written: unknown, finished, reset, or one we only receive on.
    Unknown,
}

/// What became of a stream that we stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Everything had arrived, or a reset: nothing more is heard of it.
    Ended {
        /// How many bytes the peer has sent.
        final_size: u64,
    },
    /// STOP_SENDING goes out; [`crate::Event::StoppedStreamEnded`] follows.
    Sent,
    /// Not a stream that can be stopped: unknown, over, stopped, or one we only send on.
    Unknown,
}

/// A stream that is being received, as far as quinn does not tell.
#[derive(Clone, Copy, Debug, Default)]
struct Incoming {
    /// Bytes read.
    position: u64,
    final_size: Option<u64>,
    /// RESET_STREAM_AT has arrived: code and reliable size.
    reset: Option<(u64, u64)>,
    /// We have sent STOP_SENDING.
    stopped: bool,
}

/// What a connection keeps about its streams besides quinn.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    /// Streams of which part has been read, or whose end is known before it was read.
    incoming: FxHashMap<u64, Incoming>,
    /// Those of them that we stopped.
    stopped: usize,
    /// Stopped streams whose end has not been told.
    ended: VecDeque<(u64, u64)>,
    /// Reliable resets that wait for room in packets.
    waiting_resets: VecDeque<(VarInt, Prefix)>,
    /// Whether there are any that the peer has not acknowledged.
    resets_in_flight: bool,
}

impl Connection {
    /// Opens a stream; `None` while the peer's limit forbids, then
    /// [`crate::Event::StreamsAvailable`] follows.
    pub fn open(&mut self, dir: Dir) -> Option<u64> {
        self.inner.streams().open(dir).map(number)
    }

    /// Takes the next stream the peer opened. The peer's allowance doubles, up to the configured
    /// maximum, until less than a quarter of it is in use.
    pub fn accept(&mut self, dir: Dir) -> Option<u64> {
        let id = self.inner.streams().accept(dir)?;
        self.grow_allowance(dir);
        Some(number(id))
    }

    /// Moves up to `max` bytes of a stream into `chunks` and returns how many.
    pub fn read(&mut self, id: u64, max: usize, chunks: &mut Vec<Bytes>) -> (usize, ReadState) {
        self.read_with(id, max, |chunk| {
            chunks.push(chunk);
            true
        })
    }

    /// Takes one piece of a stream, of at most `max` bytes.
    pub fn read_chunk(&mut self, id: u64, max: usize) -> (Option<Bytes>, ReadState) {
        let mut taken = None;
        let (_, state) = self.read_with(id, max, |chunk| {
            taken = Some(chunk);
            false
        });
        match taken {
            Some(chunk) => (Some(chunk), ReadState::More),
            None => (None, state),
        }
    }

    /// Reads until `max` bytes were read or `take` says that it was enough.
    fn read_with(
        &mut self,
        id: u64,
        max: usize,
        mut take: impl FnMut(Bytes) -> bool,
    ) -> (usize, ReadState) {
        let Some(stream_id) = self.receiving(id) else {
            return (0, ReadState::Unknown);
        };
        let known = self.streams.incoming.get(&id).copied();
        let mut limit = max;
        if let Some((code, reliable_size)) = known.and_then(|known| known.reset) {
            let position = known.map_or(0, |known| known.position);
            let left = reliable_size.saturating_sub(position);
            if left == 0 {
                return (0, self.end_reset(id, code));
            }
            limit = max.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        let mut stream = self.inner.recv_stream(stream_id);
        let Ok(mut incoming) = stream.read(true) else {
            return (0, ReadState::Unknown);
        };
        let mut total = 0;
        let mut position = None;
        let state = loop {
            if total >= limit {
                break ReadState::More;
            }
            match incoming.next(limit - total) {
                Ok(Some(chunk)) => {
                    total += chunk.bytes.len();
                    position = Some(chunk.offset + chunk.bytes.len() as u64);
                    if !take(chunk.bytes) {
                        break ReadState::More;
                    }
                }
                Ok(None) => break ReadState::Finished,
                Err(ReadError::Blocked) => break ReadState::Blocked,
                Err(ReadError::Reset(code)) => {
                    break ReadState::Reset(Reset {
                        code: code.into_inner(),
                        final_size: known
                            .map_or(0, |known| known.final_size.unwrap_or(known.position)),
                    })
                }
            }
        };
        self.flow_control |= incoming.finalize().should_transmit();
        match state {
            ReadState::Finished | ReadState::Reset(_) => {
                if known.is_some() {
                    self.streams.incoming.remove(&id);
                }
            }
            _ => {
                if let Some(position) = position {
                    self.streams.incoming.entry(id).or_default().position = position;
                }
            }
        }
        (total, state)
    }

    /// Ends a stream of which the reliable part was read. quinn takes its end for a FIN.
    fn end_reset(&mut self, id: u64, code: u64) -> ReadState {
        let final_size = match self.discard(id) {
            Discarded::Ended(final_size) => final_size,
            Discarded::Open(final_size) => {
                if let Some(id) = self.receiving(id) {
                    // It is there, and its final size is known: nothing more is heard of it.
                    let _ended = self.inner.recv_stream(id).stop(VarInt::from_u32(0));
                    self.flow_control = true;
                }
                final_size.unwrap_or_default()
            }
            Discarded::Unknown => return ReadState::Unknown,
        };
        self.streams.incoming.remove(&id);
        ReadState::Reset(Reset { code, final_size })
    }

    /// Reads what has arrived of a stream and drops it.
    fn discard(&mut self, id: u64) -> Discarded {
        let known = self.streams.incoming.get(&id).copied().unwrap_or_default();
        let Some(stream_id) = self.receiving(id) else {
            return Discarded::Unknown;
        };
        let mut stream = self.inner.recv_stream(stream_id);
        let Ok(mut incoming) = stream.read(true) else {
            return Discarded::Unknown;
        };
        let mut position = known.position;
        let discarded = loop {
            match incoming.next(usize::MAX) {
                Ok(Some(chunk)) => position = chunk.offset + chunk.bytes.len() as u64,
                Ok(None) => break Discarded::Ended(position),
                Err(ReadError::Blocked) => break Discarded::Open(known.final_size),
                Err(ReadError::Reset(_)) => {
                    break Discarded::Ended(known.final_size.unwrap_or(position))
                }
            }
        };
        self.flow_control |= incoming.finalize().should_transmit();
        discarded
    }

    /// A reset that has arrived, when nothing before it is to be read; said once, then the stream
    /// is forgotten.
    pub fn received_reset(&mut self, id: u64) -> Option<Reset> {
        let stream_id = self.receiving(id)?;
        let known = self.streams.incoming.get(&id).copied();
        if let Some((code, reliable_size)) = known.and_then(|known| known.reset) {
            if known.is_some_and(|known| known.position >= reliable_size) {
                if let ReadState::Reset(reset) = self.end_reset(id, code) {
                    return Some(reset);
                }
            }
            return None;
        }
        let code = self.inner.recv_stream(stream_id).received_reset().ok()??;
        let known = self.streams.incoming.remove(&id).unwrap_or_default();
        Some(Reset {
            code: code.into_inner(),
            final_size: known.final_size.unwrap_or(known.position),
        })
    }

    /// Whether reads since the last call returned credit worth a packet.
    pub fn take_flow_control(&mut self) -> bool {
        std::mem::take(&mut self.flow_control)
    }

    /// Copies from the front of `data` what fits, and returns how much.
    pub fn write(&mut self, id: u64, data: &[u8]) -> (usize, WriteState) {
        let Some(id) = self.sending(id) else {
            return (0, WriteState::Unknown);
        };
        let mut stream = self.inner.send_stream(id);
        let mut written = 0;
        // A partial write is followed by one more, so that quinn notes the stream as blocked.
        while let Some(rest) = data.get(written..).filter(|rest| !rest.is_empty()) {
            match stream.write(rest) {
                Ok(n) => written += n,
                Err(error) => return (written, write_state(error)),
            }
        }
        (written, WriteState::Done)
    }

    /// Takes from the front of `data`, without copying, what fits.
    pub fn write_bytes(&mut self, id: u64, data: &mut Bytes) -> (usize, WriteState) {
        let Some(id) = self.sending(id) else {
            return (0, WriteState::Unknown);
        };
        let mut stream = self.inner.send_stream(id);
        let mut written = 0;
        while !data.is_empty() {
            match stream.write_chunks(std::slice::from_mut(data)) {
                Ok(taken) => written += taken.bytes,
                Err(error) => return (written, write_state(error)),
            }
        }
        (written, WriteState::Done)
    }

    /// Ends the sending side; false when it has ended already.
    pub fn finish(&mut self, id: u64) -> bool {
        let Some(id) = self.sending(id) else {
            return false;
        };
        match self.inner.send_stream(id).finish() {
            Ok(()) => true,
            Err(FinishError::Stopped(_) | FinishError::ClosedStream) => false,
        }
    }

    /// Resets the sending side; false when it has ended already. `prefix` is the beginning of what
    /// was written: it is delivered all the same (RESET_STREAM_AT), if the peer takes that. Without
    /// one, or in answer to the peer's STOP_SENDING, it is a plain RESET_STREAM.
    pub fn reset(&mut self, id: u64, code: u64, prefix: &[u8]) -> bool {
        let (Some(stream_id), Ok(wire_code)) = (self.sending(id), VarInt::from_u64(code)) else {
            return false;
        };
        let prefix = Prefix {
            id,
            bytes: prefix.into(),
        };
        let mut stream = self.inner.send_stream(stream_id);
        let is_reliable = !prefix.bytes.is_empty()
            && prefix.room() <= RESET_ROOM
            && stream.stopped() == Ok(None)
            && self.sideband.peer_takes_reset_stream_at();
        if !is_reliable {
            let is_reset = stream.reset(wire_code).is_ok();
            self.sideband.forget_tail();
            return is_reset;
        }
        self.streams.waiting_resets.push_back((wire_code, prefix));
        self.send_waiting_resets();
        true
    }

    /// Starts reliable resets as far as packets have room for them: those that have been
    /// acknowledged give theirs back.
    pub(crate) fn send_waiting_resets(&mut self) {
        let streams = &mut self.streams;
        if !streams.resets_in_flight && streams.waiting_resets.is_empty() {
            return;
        }
        if streams.resets_in_flight {
            // A stream whose reset was acknowledged is gone.
            self.sideband.retain_prefixes(|id| {
                stream_id(id).is_some_and(|id| self.inner.send_stream(id).stopped().is_ok())
            });
        }
        while let Some((code, prefix)) = streams.waiting_resets.pop_front() {
            let Some(id) = stream_id(prefix.id) else {
                continue;
            };
            let mut stream = self.inner.send_stream(id);
            let is_reliable = stream.stopped() == Ok(None);
            if is_reliable && self.sideband.room() + prefix.room() > RESET_ROOM {
                streams.waiting_resets.push_front((code, prefix));
                break;
            }
            if stream.reset(code).is_ok() && is_reliable {
                self.sideband.add_prefix(prefix);
            }
            self.sideband.forget_tail();
        }
        streams.resets_in_flight = self.sideband.room() > 0;
    }

    /// Stops the receiving side: unread data is dropped, and the peer is asked to send no more.
    pub fn stop(&mut self, id: u64, code: u64) -> Stopped {
        let (Some(stream_id), Ok(code)) = (self.receiving(id), VarInt::from_u64(code)) else {
            return Stopped::Unknown;
        };
        let final_size = match self.discard(id) {
            Discarded::Unknown => return Stopped::Unknown,
            Discarded::Ended(final_size) => Some(final_size),
            Discarded::Open(final_size) => {
                if self.inner.recv_stream(stream_id).stop(code).is_err() {
                    return Stopped::Unknown;
                }
                self.flow_control = true;
                final_size
            }
        };
        match final_size {
            Some(final_size) => {
                self.streams.incoming.remove(&id);
                Stopped::Ended { final_size }
            }
            None => {
                self.streams.incoming.entry(id).or_default().stopped = true;
                self.streams.stopped += 1;
                self.sideband.set_wants_every_end(true);
                Stopped::Sent
            }
        }
    }

    /// Takes note of the ends of streams in the packets that quinn has digested.
    pub(crate) fn note_ends(&mut self) {
        for end in self.sideband.take_ends() {
            // Packets come twice, and after a stream is over. A whole stream ends when it is read.
            if !self.streams.incoming.contains_key(&end.id)
                && (end.how == (How::Fin { whole: true }) || !self.is_readable(end.id))
            {
                continue;
            }
            let known = self.streams.incoming.entry(end.id).or_default();
            if known.stopped {
                self.streams.incoming.remove(&end.id);
                self.streams.stopped -= 1;
                self.sideband.set_wants_every_end(self.streams.stopped > 0);
                self.streams.ended.push_back((end.id, end.final_size));
                continue;
            }
            known.final_size = Some(end.final_size);
            match (end.how, known.reset) {
                (How::Fin { .. }, _) => {}
                // From here on quinn knows it.
                (How::Reset, _) => known.reset = None,
                (How::ResetAt { reliable_size, .. }, Some((code, smallest))) => {
                    known.reset = Some((code, smallest.min(reliable_size)));
                }
                (
                    How::ResetAt {
                        code,
                        reliable_size,
                    },
                    None,
                ) => {
                    known.reset = Some((code, reliable_size));
                }
            }
        }
    }

    /// The next stopped stream whose end has arrived, and its final size.
    pub(crate) fn next_ended(&mut self) -> Option<(u64, u64)> {
        self.streams.ended.pop_front()
    }

    /// Sets which streams are sent first; larger is sooner, 0 is the default.
    pub fn set_priority(&mut self, id: u64, priority: i32) {
        if let Some(id) = self.sending(id) {
            // A stream that is over has no priority to set.
            let _ = self.inner.send_stream(id).set_priority(priority);
        }
    }

    /// Streams that something is kept about besides quinn.
    pub fn tracked_streams(&self) -> usize {
        self.streams.incoming.len() + self.streams.ended.len() + self.streams.waiting_resets.len()
    }

    fn is_readable(&mut self, id: u64) -> bool {
        self.receiving(id)
            .is_some_and(|id| self.inner.recv_stream(id).read(true).is_ok())
    }

    /// `id` as a stream this side can read; quinn asserts what is checked here.
    fn receiving(&self, id: u64) -> Option<StreamId> {
        let id = stream_id(id)?;
        (id.dir() == Dir::Bi || id.initiator() != self.side()).then_some(id)
    }

    /// `id` as a stream this side can write; quinn asserts what is checked here.
    fn sending(&self, id: u64) -> Option<StreamId> {
        let id = stream_id(id)?;
        (id.dir() == Dir::Bi || id.initiator() == self.side()).then_some(id)
    }
}

enum Discarded {
    /// quinn has forgotten it; this was its size.
    Ended(u64),
    /// Not all of it has arrived; its final size may be known.
    Open(Option<u64>),
    Unknown,
}

fn write_state(error: WriteError) -> WriteState {
    match error {
        WriteError::Blocked => WriteState::Blocked,
        WriteError::Stopped(code) => WriteState::Stopped(code.into_inner()),
        WriteError::ClosedStream => WriteState::Unknown,
    }
}

fn stream_id(id: u64) -> Option<StreamId> {
    VarInt::from_u64(id).ok().map(StreamId::from)
}

pub(crate) fn number(id: StreamId) -> u64 {
    VarInt::from(id).into_inner()
}

/// Bytes of every packet that may be kept free for the prefixes of resets which the peer has not
/// acknowledged: eight of usual headers. More resets wait. Datagrams never use these bytes, so
/// that one which fits goes on fitting.
pub(crate) const RESET_ROOM: usize = 64;

#[cfg(test)]
mod tests;
