//! Capsules of a session, in and out (RFC 9297 §3, webtrans-http3-16 §4.7, §5.6, §6).

use bytes::Bytes;
use pywt_wire::capsule::{decode_payload, encode, Capsule, CapsuleError, MAX_REASON_SIZE};
use pywt_wire::codes::{capsule, frame};
use pywt_wire::frame::encode_header;

use crate::connection::Connection;
use crate::dialect::{Dialect, Framing};
use crate::error::{Fault, StreamError};
use crate::event::Event;
use crate::request::reader::{Item, Rules};
use crate::session::flow::Raised;
use crate::tlv::{Gather, Piece, TlvReader};
use crate::Time;
use crate::{Dir, SessionId};

/// Reads capsules; stores the payload of those that matter only.
#[derive(Debug, Default)]
pub(crate) struct CapsuleReader {
    records: TlvReader,
    input: Bytes,
    payload: Gather,
    keep: bool,
    inside: bool,
}

impl CapsuleReader {
    /// Gives bytes to read.
    pub(crate) fn feed(&mut self, data: Bytes) {
        debug_assert!(
            self.input.is_empty(),
            "capsules are read before more are fed"
        );
        self.input = data;
    }

    /// Whether bytes fed have not been read.
    pub(crate) fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// The next item; `None` when the bytes fed are used up.
    pub(crate) fn next(&mut self, rules: Rules<'_>) -> Result<Option<Item>, Fault> {
        while let Some(piece) = self.records.next(&mut self.input) {
            let item = match piece {
                Piece::Head { ty, len } => self.head(ty, len, rules)?,
                Piece::Body { ty, data, last } => self.body(ty, data, last),
            };
            if item.is_some() {
                return Ok(item);
            }
        }
        self.input = Bytes::new();
        Ok(None)
    }

    /// A capsule starts: decides whether to keep it, before any payload is kept.
    pub(crate) fn head(
        &mut self,
        ty: u64,
        len: u64,
        rules: Rules<'_>,
    ) -> Result<Option<Item>, StreamError> {
        self.inside = true;
        let row = rules.dialect.map(Dialect::row);
        self.keep = match ty {
            capsule::DATAGRAM if len > rules.limits.max_datagram_capsule_size => {
                self.keep = false;
                return Ok(Some(Item::DroppedDatagram));
            }
            capsule::DATAGRAM => true,
            // Draft 02 does not know it.
            capsule::WT_DRAIN_SESSION if !row.is_none_or(|row| row.drain) => {
                self.keep = false;
                return Ok(Some(Item::Idle("unknown capsules")));
            }
            capsule::WT_CLOSE_SESSION if len > 4 + MAX_REASON_SIZE as u64 => {
                return Err(CapsuleError::ReasonSize(len - 4).into());
            }
            capsule::WT_DRAIN_SESSION if len > 0 => {
                return Err(CapsuleError::Length { ty, len }.into());
            }
            capsule::WT_CLOSE_SESSION | capsule::WT_DRAIN_SESSION => true,
            capsule::WT_MAX_STREAM_DATA | capsule::WT_STREAM_DATA_BLOCKED => {
                if row.is_some_and(|row| row.forbids_stream_data_capsules) {
                    return Err(CapsuleError::Prohibited(ty).into());
                }
                self.keep = false;
                return Ok(Some(Item::Idle("ignored capsules")));
            }
            capsule::WT_MAX_DATA..=capsule::WT_STREAMS_BLOCKED_UNI if rules.has_flow => {
                if len > 8 {
                    return Err(CapsuleError::Length { ty, len }.into());
                }
                true
            }
            capsule::WT_MAX_DATA..=capsule::WT_STREAMS_BLOCKED_UNI => {
                self.keep = false;
                return Ok(Some(Item::Idle("ignored capsules")));
            }
            _ => {
                self.keep = false;
                return Ok(Some(Item::Idle("unknown capsules")));
            }
        };
        Ok(None)
    }

    /// Payload of the capsule that started last.
    pub(crate) fn body(&mut self, ty: u64, data: Bytes, last: bool) -> Option<Item> {
        self.inside = !last;
        if !self.keep {
            return None;
        }
        let payload = self.payload.push(data, last)?;
        Some(Item::Capsule { ty, payload })
    }

    /// Whether the stream may end here.
    pub(crate) fn at_boundary(&self) -> bool {
        self.records.at_boundary()
    }

    /// Whether a capsule given by `head` and `body` is incomplete.
    pub(crate) fn is_inside(&self) -> bool {
        self.inside
    }
}

impl Connection {
    /// A complete capsule of an established session.
    pub(crate) fn on_capsule(
        &mut self,
        id: SessionId,
        ty: u64,
        payload: &Bytes,
        now: Time,
    ) -> Result<(), Fault> {
        match decode_payload(ty, payload).map_err(StreamError::from)? {
            Capsule::Close { code, reason } => {
                let reason = reason.to_owned();
                self.end_by_peer(id, code, reason, now);
            }
            Capsule::Drain if self.drain_by_peer(id) => {}
            Capsule::Drain => self.count_idle("repeated drains", now)?,
            Capsule::Datagram(_) => self.deliver_datagram(id, payload.clone()),
            Capsule::MaxData(limit) => self.raise_data(id, limit, now)?,
            Capsule::MaxStreams { dir, limit } => self.raise_streams(id, dir, limit, now)?,
            // Limits follow consumption, not complaints (webtrans-http3-16 §5.6.3).
            Capsule::DataBlocked(_) | Capsule::StreamsBlocked { .. } | Capsule::Unknown { .. } => {
                self.count_idle("complaints", now)?;
            }
        }
        Ok(())
    }

    fn raise_data(&mut self, id: SessionId, limit: u64, now: Time) -> Result<(), Fault> {
        let Some(flow) = self.sessions.flow_mut(id) else {
            return Ok(());
        };
        let raised = flow.send_data.raise(limit, flow.strict_limits)?;
        self.on_raised(raised, Event::SessionWritable { session: id }, now)
    }

    fn raise_streams(
        &mut self,
        id: SessionId,
        dir: Dir,
        limit: u64,
        now: Time,
    ) -> Result<(), Fault> {
        let Some(flow) = self.sessions.flow_mut(id) else {
            return Ok(());
        };
        let strict = flow.strict_limits;
        let raised = flow.send_streams.get_mut(dir).raise(limit, strict)?;
        self.on_raised(raised, Event::StreamsAvailable { session: id, dir }, now)
    }

    fn on_raised(&mut self, raised: Raised, event: Event, now: Time) -> Result<(), Fault> {
        match raised {
            Raised::Nothing => self.count_idle("limits that raise nothing", now)?,
            Raised::Ahead => {}
            Raised::Awaited => self.events.push_back(event),
        }
        Ok(())
    }

    /// Sends what flow control owes the peer: each renewed limit once, each block once.
    pub(crate) fn flush_flow(&mut self, id: SessionId) {
        let (now, rtt, framing) = (self.now, self.rtt, self.framing());
        let Some(flow) = self.sessions.flow_mut(id) else {
            return;
        };
        let mut out = Vec::new();
        let mut put = |capsule| encode_framed(&capsule, framing, &mut out);
        if let Some(limit) = flow.data.renew(now, rtt) {
            put(Capsule::MaxData(limit));
        }
        if let Some(limit) = flow.send_data.report() {
            put(Capsule::DataBlocked(limit));
        }
        for dir in [Dir::Bidi, Dir::Uni] {
            if let Some(limit) = flow.streams.get_mut(dir).renew(now, rtt) {
                put(Capsule::MaxStreams { dir, limit });
            }
            if let Some(limit) = flow.send_streams.get_mut(dir).report() {
                put(Capsule::StreamsBlocked { dir, limit });
            }
        }
        if !out.is_empty() {
            self.send_request(id, out.into());
        }
    }

    /// Writes capsules on a CONNECT stream.
    pub(crate) fn send_capsules(&mut self, id: SessionId, capsules: &[Capsule<'_>]) {
        let data = self.capsules(capsules);
        self.send_request(id, data);
    }

    /// Capsules for a CONNECT stream, each in a DATA frame of its own: some readers expect no
    /// other split.
    pub(crate) fn capsules(&self, capsules: &[Capsule<'_>]) -> Bytes {
        let mut out = Vec::new();
        for capsule in capsules {
            encode_framed(capsule, self.framing(), &mut out);
        }
        out.into()
    }

    pub(crate) fn framing(&self) -> Framing {
        let peer = self.peer.as_ref();
        peer.map_or(Framing::Data, |peer| peer.framing)
    }
}

fn encode_framed(capsule: &Capsule<'_>, framing: Framing, out: &mut Vec<u8>) {
    if framing == Framing::Raw {
        return encode(capsule, out);
    }
    let mut inner = Vec::with_capacity(16);
    encode(capsule, &mut inner);
    encode_header(frame::DATA, inner.len() as u64, out);
    out.extend_from_slice(&inner);
}
