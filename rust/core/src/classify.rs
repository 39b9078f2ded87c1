//! Finding out what a stream is from its first bytes (RFC 9114 §6.2, webtrans-http3-16 §4.2, §4.3)
//! and whose it is.

use bytes::{BufMut, Bytes, BytesMut};
use pywt_wire::codes::error;
use pywt_wire::stream_header::{self, BidiType, UniType, MAX_LEN};

use crate::config::Role;
use crate::connection::Connection;
use crate::error::ConnectionError;
use crate::request::Phase;
use crate::stream::{dir_of, Entry, WtStream};
use crate::{Dir, SessionId, StreamId, Time};

/// The first bytes of a stream, while they do not say yet what it is.
#[derive(Debug, Default)]
pub(crate) struct Head {
    bytes: [u8; MAX_LEN],
    have: u8,
    /// Code of a STOP_SENDING that came first.
    stopped: Option<u64>,
}

impl Connection {
    /// Finds out what a stream is from its first bytes.
    pub(crate) fn classify(
        &mut self,
        id: StreamId,
        mut data: Bytes,
        fin: bool,
        now: Time,
    ) -> Result<(), ConnectionError> {
        let mut stopped = None;
        if let Some(Entry::Head(head)) = self.streams.get(&id) {
            let mut joined = BytesMut::with_capacity(usize::from(head.have) + data.len());
            joined.put_slice(head.bytes.get(..usize::from(head.have)).unwrap_or(&[]));
            joined.put_slice(&data);
            data = joined.freeze();
            stopped = head.stopped;
        }
        let known = match dir_of(id) {
            Dir::Uni => self.classify_uni(id, &mut data, fin, now)?,
            Dir::Bidi => self.classify_bidi(id, &mut data, fin, now)?,
        };
        match known {
            true => {
                if let Some(code) = stopped {
                    self.handle_stop_sending(id, code, now);
                }
            }
            false if fin => self.head_ended(id),
            false => self.keep_head(id, &data, now),
        }
        Ok(())
    }

    fn classify_uni(
        &mut self,
        id: StreamId,
        data: &mut Bytes,
        fin: bool,
        now: Time,
    ) -> Result<bool, ConnectionError> {
        let Some((ty, used)) = stream_header::decode_uni(data)? else {
            return Ok(false);
        };
        let rest = data.split_off(used.min(data.len()));
        let entry = match ty {
            UniType::Control => {
                self.critical.open_control()?;
                Entry::Control
            }
            UniType::QpackEncoder => {
                self.critical.open_encoder()?;
                Entry::QpackEncoder
            }
            UniType::QpackDecoder => {
                self.critical.open_decoder()?;
                Entry::QpackDecoder
            }
            UniType::Push if self.config.role == Role::Server => {
                return Err(ConnectionError::PushStreamFromClient);
            }
            UniType::Push => return Err(ConnectionError::PushStream),
            UniType::WebTransport { session } => {
                self.attach(id, session, Dir::Uni, used, now);
                self.handle_stream_data(id, rest, fin, now);
                return Ok(true);
            }
            UniType::Unknown(_) => {
                self.discard(id, error::H3_STREAM_CREATION_ERROR, !fin, false);
                return Ok(true);
            }
        };
        self.streams.insert(id, entry);
        if !rest.is_empty() || fin {
            self.handle_stream_data(id, rest, fin, now);
        }
        Ok(true)
    }

    fn classify_bidi(
        &mut self,
        id: StreamId,
        data: &mut Bytes,
        fin: bool,
        now: Time,
    ) -> Result<bool, ConnectionError> {
        let from_server = self.config.role == Role::Client;
        if from_server && self.peer.as_ref().is_none_or(|peer| peer.dialect.is_none()) {
            return Err(ConnectionError::UnexpectedServerStream);
        }
        let Some((ty, used)) = stream_header::decode_bidi(data)? else {
            return Ok(false);
        };
        match ty {
            BidiType::Request if from_server => Err(ConnectionError::UnexpectedServerStream),
            BidiType::Request => {
                self.open_request(id);
                self.handle_stream_data(id, std::mem::take(data), fin, now);
                // Most requests are complete in their first bytes.
                if self
                    .request_mut(id)
                    .is_some_and(|request| request.phase == Phase::Head)
                {
                    self.await_head(id, now);
                }
                Ok(true)
            }
            BidiType::WebTransport { session } => {
                let rest = data.split_off(used.min(data.len()));
                self.attach(id, session, Dir::Bidi, used, now);
                self.handle_stream_data(id, rest, fin, now);
                Ok(true)
            }
        }
    }

    /// FIN came before the stream said what it is: nothing is owed on a unidirectional stream, an
    /// answer is on a bidirectional one (RFC 9114 §4.1).
    fn head_ended(&mut self, id: StreamId) {
        self.streams.remove(&id);
        if dir_of(id) == Dir::Bidi {
            self.reset_plainly(id, error::H3_REQUEST_INCOMPLETE);
        }
    }

    fn keep_head(&mut self, id: StreamId, data: &[u8], now: Time) {
        let is_new = !self.streams.contains_key(&id);
        if let Entry::Head(head) = self
            .streams
            .entry(id)
            .or_insert_with(|| Entry::Head(Head::default()))
        {
            // An undecided header is shorter than the longest one.
            let have = data.len().min(MAX_LEN);
            if let (Some(to), Some(from)) = (head.bytes.get_mut(..have), data.get(..have)) {
                to.copy_from_slice(from);
                head.have = have as u8;
            }
        }
        if is_new {
            self.await_head(id, now);
        }
    }

    pub(crate) fn head_stopped(&mut self, id: StreamId, code: u64) {
        if let Some(Entry::Head(head)) = self.streams.get_mut(&id) {
            head.stopped = Some(code);
        }
    }

    /// Finds the session of a stream the peer opened.
    fn attach(&mut self, id: StreamId, session: SessionId, dir: Dir, header_len: usize, now: Time) {
        let stream = WtStream::from_peer(session, dir, header_len);
        if self
            .peer
            .as_ref()
            .is_some_and(|peer| peer.dialect.is_none())
        {
            return self.discard(id, error::H3_STREAM_CREATION_ERROR, true, dir == Dir::Bidi);
        }
        match self.sessions.get(&session) {
            Some(entry) if entry.is_open() => self.admit(id, stream),
            Some(_) => self.hold(id, stream, now),
            None if self.ended.contains(&session) => {
                self.discard(id, error::WT_SESSION_GONE, true, dir == Dir::Bidi);
            }
            None if self.config.role == Role::Server => self.hold(id, stream, now),
            // A client knows every session there can be.
            None => self.reject_early(id, dir),
        }
    }
}
