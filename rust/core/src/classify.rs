//! Finding out what a stream is from its first bytes (RFC 9114 §6.2, webtrans-http3-16 §4.2, §4.3)
//! and whose it is.

use bytes::{BufMut, Bytes, BytesMut};
use pywt_wire::codes::error;
use pywt_wire::stream_header::{self, BidiType, UniType, MAX_LEN};

use crate::config::Role;
use crate::connection::Connection;
use crate::dialect::Peer;
use crate::error::ConnectionError;
use crate::stream::table::{dir_of, Entry, Halves, Kind};
use crate::stream::WtStream;
use crate::{Dir, SessionId, StreamId, Time};

/// The first bytes of a stream, while they do not say yet what it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    bytes: [u8; MAX_LEN],
    have: u8,
    /// Code of a STOP_SENDING that came first.
    stopped: Option<u64>,
    /// When the rest must be here.
    pub(crate) due: Time,
}

/// A stream whose first bytes are being read.
#[derive(Clone, Copy)]
struct Newcomer {
    id: StreamId,
    /// What is open of it once this input is read.
    halves: Halves,
    due: Time,
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
        let head = match self.streams.kind(id) {
            Some(Kind::Head(head)) => Some(*head),
            _ => None,
        };
        if let Some(head) = head.filter(|head| head.have > 0) {
            let mut joined = BytesMut::with_capacity(usize::from(head.have) + data.len());
            joined.put_slice(head.bytes.get(..usize::from(head.have)).unwrap_or(&[]));
            joined.put_slice(&data);
            data = joined.freeze();
        }
        let timeout = self.config.limits.headers_timeout;
        let stream = Newcomer {
            id,
            halves: Halves {
                recv: !fin,
                ..Halves::of_peer(id)
            },
            due: head.map_or(now.saturating_add(timeout), |head| head.due),
        };
        let known = match dir_of(id) {
            Dir::Uni => self.classify_uni(stream, &mut data, fin, now)?,
            Dir::Bidi => self.classify_bidi(stream, &mut data, fin, now)?,
        };
        match known {
            true => {
                if let Some(code) = head.and_then(|head| head.stopped) {
                    self.stop_sending(id, code, now)?;
                }
            }
            false if fin => self.head_ended(id),
            false => self.keep_head(stream, &data),
        }
        Ok(())
    }

    fn classify_uni(
        &mut self,
        stream: Newcomer,
        data: &mut Bytes,
        fin: bool,
        now: Time,
    ) -> Result<bool, ConnectionError> {
        let Newcomer { id, halves, .. } = stream;
        let Some((ty, used)) = stream_header::decode_uni(data)? else {
            return Ok(false);
        };
        let rest = data.split_off(used.min(data.len()));
        let kind = match ty {
            UniType::Control => {
                self.critical.open_control()?;
                Kind::Control
            }
            UniType::QpackEncoder => {
                self.critical.open_encoder()?;
                Kind::QpackEncoder
            }
            UniType::QpackDecoder => {
                self.critical.open_decoder()?;
                Kind::QpackDecoder
            }
            UniType::Push if self.config.role == Role::Server => {
                return Err(ConnectionError::PushStreamFromClient);
            }
            UniType::Push => return Err(ConnectionError::PushStream),
            UniType::WebTransport { session } => {
                self.attach(stream, session, used, now);
                self.stream_data(id, rest, fin, now)?;
                return Ok(true);
            }
            UniType::Unknown(_) => {
                self.refuse(id, halves, error::H3_STREAM_CREATION_ERROR);
                return Ok(true);
            }
        };
        self.streams.insert(id, Halves::of_peer(id), kind);
        if !rest.is_empty() || fin {
            self.stream_data(id, rest, fin, now)?;
        }
        Ok(true)
    }

    fn classify_bidi(
        &mut self,
        stream: Newcomer,
        data: &mut Bytes,
        fin: bool,
        now: Time,
    ) -> Result<bool, ConnectionError> {
        let id = stream.id;
        let from_server = self.config.role == Role::Client;
        if from_server && self.dialect().is_none() {
            return Err(ConnectionError::UnexpectedServerStream);
        }
        let Some((ty, used)) = stream_header::decode_bidi(data)? else {
            return Ok(false);
        };
        match ty {
            BidiType::Request if from_server => Err(ConnectionError::UnexpectedServerStream),
            BidiType::Request => {
                self.open_request(id, stream.halves, stream.due);
                self.stream_data(id, std::mem::take(data), fin, now)?;
                // Most requests are complete in their first bytes.
                self.await_request(id);
                Ok(true)
            }
            BidiType::WebTransport { session } => {
                let rest = data.split_off(used.min(data.len()));
                self.attach(stream, session, used, now);
                self.stream_data(id, rest, fin, now)?;
                Ok(true)
            }
        }
    }

    /// FIN came before the stream said what it is: nothing is owed on a unidirectional stream, an
    /// answer is on a bidirectional one (RFC 9114 §4.1).
    fn head_ended(&mut self, id: StreamId) {
        self.streams.remove(id);
        if dir_of(id) == Dir::Bidi {
            self.count_refusal();
            self.reset_plainly(id, error::H3_REQUEST_INCOMPLETE);
        }
    }

    fn keep_head(&mut self, stream: Newcomer, data: &[u8]) {
        let Newcomer { id, due, .. } = stream;
        if !self.streams.contains(id) {
            self.new_head(id, due, None);
        }
        if let Some(Entry {
            kind: Kind::Head(head),
            ..
        }) = self.streams.get_mut(id)
        {
            // An undecided header is shorter than the longest one.
            let have = data.len().min(MAX_LEN);
            if let (Some(to), Some(from)) = (head.bytes.get_mut(..have), data.get(..have)) {
                to.copy_from_slice(from);
                head.have = have as u8;
            }
        }
    }

    fn new_head(&mut self, id: StreamId, due: Time, stopped: Option<u64>) {
        let head = Head {
            bytes: [0; MAX_LEN],
            have: 0,
            stopped,
            due,
        };
        self.streams
            .insert(id, Halves::of_peer(id), Kind::Head(head));
        self.await_head(id, due);
    }

    /// STOP_SENDING before the stream has said what it is: it was reordered, or nothing was
    /// written yet. Whoever the stream belongs to will be told.
    pub(crate) fn head_stopped(&mut self, id: StreamId, code: u64, now: Time) {
        match self.streams.get_mut(id).map(|entry| &mut entry.kind) {
            Some(Kind::Head(head)) => head.stopped = Some(code),
            Some(_) => {}
            None => {
                let due = now.saturating_add(self.config.limits.headers_timeout);
                self.new_head(id, due, Some(code));
            }
        }
    }

    /// A stream has not said what it is in the time allowed.
    pub(crate) fn head_timed_out(&mut self, id: StreamId, now: Time) {
        if matches!(self.streams.kind(id), Some(Kind::Head(head)) if head.due <= now) {
            self.refuse(id, Halves::of_peer(id), error::H3_REQUEST_INCOMPLETE);
        }
    }

    /// Finds the session of a stream the peer opened.
    fn attach(&mut self, stream: Newcomer, session: SessionId, header_len: usize, now: Time) {
        let Newcomer { id, halves, .. } = stream;
        let offers_none = |peer: &Peer| peer.dialect().is_none();
        if self.peer.as_deref().is_some_and(offers_none) {
            return self.refuse(id, halves, error::H3_STREAM_CREATION_ERROR);
        }
        let stream = WtStream::new(session, header_len, false);
        let open = Halves::of_peer(id);
        match self.sessions.get(session) {
            Some(entry) if entry.is_open() => self.admit(id, open, stream),
            Some(_) => self.hold(id, open, stream, now),
            None if self.may_come(session) => self.hold(id, open, stream, now),
            None if self.sessions.has_ended(session) => {
                self.refuse(id, halves, error::WT_SESSION_GONE);
            }
            // A client knows every session there can be.
            None => {
                self.stats.streams_rejected += 1;
                self.refuse(id, halves, error::WT_BUFFERED_STREAM_REJECTED);
            }
        }
    }
}
