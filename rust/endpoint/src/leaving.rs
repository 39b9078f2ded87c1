//! What had arrived when a session ended: it can be read until the application has been told.

use bytes::Bytes;
use pywt_core::{SessionId, StreamId};
use pywt_quic::ReadState;

use crate::connection::Connection;
use crate::datagram::DatagramQueue;
use crate::stream::{Owner, Stream};

/// What an ended session has left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    pub(crate) datagrams: DatagramQueue,
    /// How many more had to go for newer ones.
    pub(crate) datagrams_dropped: u64,
    streams: Vec<StreamId>,
}

impl Stream {
    /// Moves up to `max` bytes that QUIC does not have any more into `chunks`.
    pub(crate) fn take_kept(&mut self, max: usize, chunks: &mut Vec<Bytes>) -> usize {
        let head = self.head.split_to(self.head.len().min(max));
        let mut taken = head.len();
        if taken > 0 {
            chunks.push(head);
        }
        while taken < max {
            let Some(next) = self.rest.front_mut() else {
                break;
            };
            let part = next.split_to(next.len().min(max - taken));
            taken += part.len();
            chunks.push(part);
            if next.is_empty() {
                self.rest.pop_front();
            }
        }
        taken
    }
}

impl Connection {
    /// The session of a stream is ending: takes over what has arrived and has not been read, if
    /// that is everything up to the end of the data; else it is void, and false is returned.
    pub(crate) fn leave(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else {
            return false;
        };
        let Owner::Session(session) = stream.owner else {
            return false;
        };
        if !stream.receiving {
            return false;
        }
        if stream.is_left {
            return true;
        }
        if !stream.ended {
            let mut chunks = Vec::new();
            let (_, state) = self.quic.read(id, usize::MAX, &mut chunks);
            if state != ReadState::Finished {
                return false;
            }
            stream.ended = true;
            stream.rest = chunks.into();
        }
        stream.is_left = true;
        self.left.entry(session).or_default().streams.push(id);
        true
    }

    /// The connection is ending, and every session with it.
    pub(crate) fn leave_all(&mut self) {
        let mut ids: Vec<StreamId> = self.streams.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.leave(id);
        }
    }

    /// The application has been told that a session has ended, and has read what it cares for:
    /// forgets the rest.
    pub fn forget_ended(&mut self, session: SessionId) {
        let Some(left) = self.left.remove(&session) else {
            return;
        };
        self.drops.ended += left.datagrams.len() as u64;
        for id in left.streams {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.receiving = false;
                stream.head = Bytes::new();
                stream.rest.clear();
            }
            self.forget_if_over(id);
        }
    }
}
