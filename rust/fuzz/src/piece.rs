//! Bytes that look like something, so that input reaches past the first check.

use arbitrary::Arbitrary;
use pywt_core::wire::codes::{capsule, frame, setting, stream};
use pywt_core::{Dialect, Dir};

use crate::support::*;

/// A part of what a peer sends on a stream.
#[derive(Arbitrary, Debug)]
pub enum Piece {
    Raw(Vec<u8>),
    Number(u64),
    Long(u64),
    Control,
    Encoder,
    Decoder,
    Uni(u8),
    Bidi(u8),
    Settings(u8, u8),
    Connect(bool),
    ConnectWith(Vec<(Name, String)>),
    Answer(u16),
    Close(u32, String),
    Capsule(u8, u64),
    UnknownCapsule(u64, u64),
    Data(Vec<u8>),
    Head(u8, u64),
    Goaway(u64),
    Grease,
}

#[derive(Arbitrary, Debug)]
pub enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Host,
    Origin,
    Offered,
    Chosen,
    Other,
}

/// Streams that matter: the first few of each kind.
pub fn stream_of(byte: u8) -> u64 {
    u64::from(byte % 24)
}

pub fn session_of(byte: u8) -> u64 {
    u64::from(byte % 4) * 4
}

pub fn settings_of(dialects: u8, limit: u64, flow: bool) -> Vec<(u64, u64)> {
    let mut pairs = vec![
        (setting::ENABLE_CONNECT_PROTOCOL, 1),
        (setting::H3_DATAGRAM, 1),
    ];
    for (bit, dialect) in Dialect::ALL.into_iter().enumerate() {
        if dialects >> bit & 1 == 1 {
            pairs.push(*peer_settings(dialect).last().expect("its own setting"));
        }
    }
    if flow {
        pairs.push((setting::WT_INITIAL_MAX_DATA, limit));
        pairs.push((setting::WT_INITIAL_MAX_STREAMS_UNI, limit));
        pairs.push((setting::WT_INITIAL_MAX_STREAMS_BIDI, limit));
    }
    pairs
}

impl Piece {
    fn bytes(&self) -> Vec<u8> {
        const FRAMES: [u64; 8] = [
            frame::DATA,
            frame::HEADERS,
            frame::SETTINGS,
            frame::GOAWAY,
            frame::MAX_PUSH_ID,
            frame::CANCEL_PUSH,
            frame::PUSH_PROMISE,
            capsule::WT_CLOSE_SESSION,
        ];
        const NUMBERED: [u64; 8] = [
            capsule::WT_MAX_DATA,
            capsule::WT_DATA_BLOCKED,
            capsule::WT_MAX_STREAMS_BIDI,
            capsule::WT_MAX_STREAMS_UNI,
            capsule::WT_STREAMS_BLOCKED_BIDI,
            capsule::WT_STREAMS_BLOCKED_UNI,
            capsule::WT_MAX_STREAM_DATA,
            capsule::WT_DRAIN_SESSION,
        ];
        match self {
            Self::Raw(bytes) => bytes.clone(),
            Self::Number(value) => varint_of(value >> 2),
            Self::Long(value) => long8(*value),
            Self::Control => vec![stream::CONTROL as u8],
            Self::Encoder => vec![stream::QPACK_ENCODER as u8],
            Self::Decoder => vec![stream::QPACK_DECODER as u8],
            Self::Uni(session) => stream_head(Dir::Uni, session_of(*session)),
            Self::Bidi(session) => stream_head(Dir::Bidi, session_of(*session)),
            Self::Settings(dialects, limit) => {
                settings_frame(&settings_of(*dialects, u64::from(*limit), *limit > 0))
            }
            Self::Connect(newest) => connect_request(if *newest {
                "webtransport-h3"
            } else {
                "webtransport"
            }),
            Self::ConnectWith(fields) => {
                let pairs: Vec<(&str, &str)> = fields
                    .iter()
                    .map(|(name, value)| (name.text(), value.as_str()))
                    .collect();
                headers(&pairs)
            }
            Self::Answer(status) => headers(&[(":status", &(status % 1000).to_string())]),
            Self::Close(code, text) => {
                let payload = [&code.to_be_bytes()[..], text.as_bytes()].concat();
                data_frame(&capsule_of(capsule::WT_CLOSE_SESSION, &payload))
            }
            Self::Capsule(which, value) => {
                let ty = NUMBERED[usize::from(*which) % NUMBERED.len()];
                data_frame(&capsule_of(ty, &varint_of(value >> 2)))
            }
            Self::UnknownCapsule(ty, len) => data_frame(&frame_head(ty >> 2, len >> 2)),
            Self::Data(payload) => data_frame(payload),
            Self::Head(which, len) => {
                frame_head(FRAMES[usize::from(*which) % FRAMES.len()], len >> 2)
            }
            Self::Goaway(id) => frame_of(frame::GOAWAY, &varint_of(id >> 2)),
            Self::Grease => frame_of(0x21, b"grease"),
        }
    }
}

impl Name {
    fn text(&self) -> &'static str {
        match self {
            Self::Method => ":method",
            Self::Scheme => ":scheme",
            Self::Authority => ":authority",
            Self::Path => ":path",
            Self::Protocol => ":protocol",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Offered => "wt-available-protocols",
            Self::Chosen => "wt-protocol",
            Self::Other => "x-other",
        }
    }
}

/// The pieces one after the other.
pub fn bytes_of(pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().flat_map(Piece::bytes).collect()
}
