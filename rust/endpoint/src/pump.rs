//! Between QUIC's streams and the core: what arrives until it is known whose it is, and what the core
//! writes itself.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use pywt_core::{StreamId, StreamKind};
use pywt_quic::{ReadState, WriteState};

use crate::connection::Connection;
use crate::stream::{Owner, Stream};
use crate::Notification;

impl Connection {
    /// Feeds the core the beginning of a stream until it knows whose it is, and everything of its
    /// own streams.
    pub(crate) fn pump(&mut self, id: StreamId, now: Instant) {
        let time = self.time(now);
        loop {
            let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.receiving) else {
                return;
            };
            if !matches!(stream.owner, Owner::Unclassified | Owner::Core) {
                return;
            }
            let (chunk, state) = self.quic.read_chunk(id, PUMP_STEP);
            if let Some(data) = chunk {
                self.core.handle_stream_data(id, data, false, time);
            }
            match state {
                ReadState::More => {}
                ReadState::Blocked => return,
                ReadState::Finished => {
                    stream.receiving = false;
                    self.core.handle_stream_data(id, Bytes::new(), true, time);
                    self.forget_if_over(id);
                    return;
                }
                ReadState::Reset(reset) => {
                    stream.receiving = false;
                    self.core
                        .handle_stream_reset(id, reset.code, reset.final_size, time);
                    self.forget_if_over(id);
                    return;
                }
                ReadState::Unknown => {
                    stream.receiving = false;
                    self.forget_if_over(id);
                    return;
                }
            }
            stream.owner = match self.core.stream_kind(id) {
                StreamKind::Pending => Owner::Unclassified,
                StreamKind::Internal => Owner::Core,
                StreamKind::Held => Owner::Held,
                StreamKind::Request => Owner::Request,
                StreamKind::Session(session) => Owner::Session(session),
                StreamKind::Unknown => {
                    // Refused: reset and stop are among the actions. The application may have got a
                    // request that broke a rule further on, and has to hear of that first.
                    self.take_events();
                    let is_told_of = |stream: &mut Stream| stream.owner == Owner::Request;
                    if !self.streams.get_mut(&id).is_some_and(is_told_of) {
                        self.streams.remove(&id);
                    }
                    return;
                }
            };
        }
    }

    /// QUIC has something for a stream.
    pub(crate) fn on_readable(&mut self, id: StreamId, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        match stream.owner {
            Owner::Unclassified | Owner::Core => self.pump(id, now),
            Owner::Held | Owner::Request | Owner::Session(_) => {
                if !stream.receiving || stream.ended {
                    return;
                }
                if let Some(reset) = self.quic.received_reset(id) {
                    let time = self.time(now);
                    self.core
                        .handle_stream_reset(id, reset.code, reset.final_size, time);
                } else if stream.read_wanted {
                    stream.read_wanted = false;
                    self.notifications.push(Notification::StreamReadable(id));
                }
            }
        }
    }

    /// QUIC has room for a stream.
    pub(crate) fn on_writable(&mut self, id: StreamId) {
        self.send_unsent(id);
        self.wake_writer(id);
    }

    pub(crate) fn wake_writer(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id) {
            if stream.write_wanted && stream.unsent.is_empty() {
                stream.write_wanted = false;
                self.notifications.push(Notification::StreamWritable(id));
            }
        }
    }

    /// Writes bytes of the core, now or when QUIC has room.
    pub(crate) fn send_internal(&mut self, id: StreamId, data: Bytes, fin: bool) {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.sending) else {
            return;
        };
        stream.queue(data);
        stream.unsent_fin |= fin;
        self.send_unsent(id);
        let left = self
            .streams
            .get(&id)
            .map_or(0, |stream| stream.unsent_bytes);
        self.most_unsent = self.most_unsent.max(left);
    }

    pub(crate) fn send_unsent(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        while let Some(mut data) = stream.unsent.pop_front() {
            let whole = data.clone();
            let (taken, state) = self.quic.write_bytes(id, &mut data);
            stream
                .beginning
                .extend(whole.get(..taken).unwrap_or_default());
            stream.unsent_bytes -= taken;
            self.wants_transmit |= taken > 0;
            self.share.streams_wait();
            match state {
                WriteState::Done => {}
                WriteState::Blocked => {
                    stream.unsent.push_front(data);
                    return;
                }
                WriteState::Stopped(_) | WriteState::Unknown => {
                    stream.unsent.clear();
                    stream.unsent_bytes = 0;
                }
            }
        }
        // Seldom used again: streams that are long quiet go without it.
        stream.unsent = VecDeque::new();
        if stream.unsent_fin && stream.sending {
            stream.sending = false;
            self.quic.finish(id);
            self.wants_transmit = true;
            self.forget_if_over(id);
        }
    }
}

/// Bytes moved to the core at a time.
const PUMP_STEP: usize = 64 * 1024;
