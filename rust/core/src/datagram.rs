//! HTTP Datagrams in QUIC DATAGRAM frames (RFC 9297 §2.1).

use bytes::{Buf, Bytes};
use pywt_wire::datagram::{decode, encode_prefix};

use crate::connection::Connection;
use crate::error::{ConnectionError, Error, StreamError};
use crate::request::reader::Phase;
use crate::request::RequestStream;
use crate::{SessionId, Time};

impl Connection {
    /// What to write before each datagram payload of an established session; it stays the same
    /// for the session's life.
    pub fn datagram_prefix(&self, session: SessionId) -> Result<Bytes, Error> {
        match self.sessions.get(session) {
            None => return Err(Error::UnknownSession(session)),
            Some(entry) if !entry.is_open() => return Err(Error::SessionState(session)),
            Some(_) => {}
        }
        let agreed = self.peer.as_ref().is_some_and(|peer| peer.datagrams);
        if !agreed || self.transport.max_datagram_frame_size == 0 {
            return Err(Error::DatagramsUnsupported);
        }
        let mut prefix = Vec::with_capacity(8);
        encode_prefix(session, &mut prefix);
        Ok(prefix.into())
    }

    pub(crate) fn on_datagram(
        &mut self,
        mut data: Bytes,
        now: Time,
    ) -> Result<(), ConnectionError> {
        // QUIC stacks check this and close with PROTOCOL_VIOLATION (RFC 9221 §3); here it is checked
        // again, payload only, and the code is one that HTTP/3 can send.
        if data.len() as u64 >= self.transport.local_max_datagram_frame_size {
            return Err(ConnectionError::DatagramOversize(data.len()));
        }
        let (quarter_id, offset) = decode(&data)?;
        let session = quarter_id * 4;
        data.advance(offset.min(data.len()));
        match self.sessions.get(session) {
            Some(entry) if entry.is_open() => self.deliver_datagram(session, data),
            Some(_) => self.hold_datagram(session, &data, now),
            None => match self.request(session).map(RequestStream::phase) {
                // RFC 9297 §2.1: the request has no use for datagrams.
                Some(Phase::Done { .. }) if !self.sessions.has_ended(session) => {
                    self.break_request(session, StreamError::DatagramUnexpected.code());
                }
                Some(Phase::Body { .. }) => {
                    self.fail_exchange(session, &StreamError::DatagramUnexpected);
                }
                Some(Phase::AfterClose | Phase::Ended | Phase::Done { .. }) => {
                    self.stats.datagrams_dropped += 1
                }
                _ if self.may_come(session) => self.hold_datagram(session, &data, now),
                _ => self.stats.datagrams_dropped += 1,
            },
        }
        Ok(())
    }
}
