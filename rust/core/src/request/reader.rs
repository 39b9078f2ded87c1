//! Reading a stream of HTTP/3 frames: a field section first, a body or capsules in DATA frames
//! afterwards (RFC 9114 §4.1, §7, RFC 9297 §3). Pure: bytes in, items or a fault out.

use bytes::Bytes;
use pywt_wire::codes::{capsule, frame, is_grease};
use pywt_wire::frame::is_reserved_http2;

use crate::config::Role;
use crate::dialect::{Dialect, Framing};
use crate::error::{ConnectionError, Fault, StreamError};
use crate::limits::Limits;
use crate::session::capsule::CapsuleReader;
use crate::tlv::{Gather, Piece, TlvReader};

/// Where a stream of frames stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The field section (client: of a final response) is not complete.
    Head,
    /// Server: a session was asked for; bytes are kept unread until it is accepted
    /// (webtrans-http3-16 §4.1).
    Waiting,
    /// The application has the request: DATA is its body.
    Body {
        /// How much of `content-length` is to come.
        left: Option<u64>,
        /// Only the end may follow.
        trailers_seen: bool,
    },
    /// The session is established: DATA carries capsules.
    Capsules,
    /// The peer's CLOSE capsule was read; nothing may follow it.
    AfterClose,
    /// The session ended at this end; capsules under way are of no interest.
    Ended,
    /// Answered for good: content is of no interest, frames must still be legal.
    Done {
        /// Only the end may follow.
        trailers_seen: bool,
    },
}

impl Phase {
    pub(crate) const DONE: Self = Self::Done {
        trailers_seen: false,
    };
}

/// What a stream of frames holds.
#[derive(Debug)]
pub(crate) enum Item {
    /// A part of the body.
    Body(Bytes),
    /// A capsule that somebody has to act on.
    Capsule { ty: u64, payload: Bytes },
    /// A datagram in a capsule longer than is delivered.
    DroppedDatagram,
    /// A complete field section.
    Fields(Bytes),
    /// A frame or capsule that carries nothing was skipped.
    Idle(&'static str),
    /// Trailers.
    Trailers(Bytes),
}

/// What a reader must know of its surroundings.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) role: Role,
    pub(crate) limits: &'a Limits,
    pub(crate) framing: Framing,
    /// Of the session, once there is one.
    pub(crate) dialect: Option<Dialect>,
    /// Session flow control is on.
    pub(crate) has_flow: bool,
}

/// Reads one stream of frames, however it is cut.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) phase: Phase,
    frames: TlvReader,
    payload: Gather,
    /// Capsules inside DATA frames.
    capsules: CapsuleReader,
    /// Capsules in place of frames ([`Framing::Raw`]), which hardly any session has.
    raw: Option<Box<CapsuleReader>>,
}

impl Reader {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Head,
            frames: TlvReader::default(),
            payload: Gather::default(),
            capsules: CapsuleReader::default(),
            raw: None,
        }
    }

    /// Reads up to the next item; `None` when the input is used up.
    pub(crate) fn next(
        &mut self,
        input: &mut Bytes,
        rules: Rules<'_>,
    ) -> Result<Option<Item>, Fault> {
        loop {
            if self.phase == Phase::AfterClose && self.capsules.has_input() {
                return Err(StreamError::DataAfterClose.into());
            }
            // Capsules of a DATA frame come before the next frame.
            if let Some(item) = self.capsules.next(rules)? {
                return Ok(Some(item));
            }
            match self.frames.next(input) {
                None => return Ok(None),
                Some(Piece::Head { ty, len }) => {
                    self.check_head(ty, len, rules)?;
                    if self.is_raw_capsule(ty, rules) {
                        if let Some(item) = self.raw.get_or_insert_default().head(ty, len, rules)? {
                            return Ok(Some(item));
                        }
                    } else if !matches!(ty, frame::DATA | frame::HEADERS) {
                        return Ok(Some(Item::Idle("unknown frames")));
                    } else if len == 0 && ty == frame::DATA {
                        return Ok(Some(Item::Idle("empty frames")));
                    }
                }
                Some(Piece::Body {
                    ty: frame::HEADERS,
                    data,
                    last,
                }) => {
                    if let Some(payload) = self.payload.push(data, last) {
                        return Ok(Some(match self.phase {
                            Phase::Head => Item::Fields(payload),
                            _ => Item::Trailers(payload),
                        }));
                    }
                }
                Some(Piece::Body {
                    ty: frame::DATA,
                    data,
                    ..
                }) => match self.phase {
                    Phase::Body { .. } if !data.is_empty() => return Ok(Some(Item::Body(data))),
                    Phase::Capsules => self.capsules.feed(data),
                    Phase::AfterClose if !data.is_empty() => {
                        return Err(StreamError::DataAfterClose.into());
                    }
                    _ => {}
                },
                Some(Piece::Body { ty, data, last }) => {
                    if self.is_raw_capsule(ty, rules) {
                        if let Some(item) = self.raw.get_or_insert_default().body(ty, data, last) {
                            return Ok(Some(item));
                        }
                    }
                }
            }
        }
    }

    /// What can be said of a frame before any payload is kept.
    fn check_head(&mut self, ty: u64, len: u64, rules: Rules<'_>) -> Result<(), Fault> {
        let unexpected = Err(ConnectionError::FrameUnexpected(ty).into());
        match ty {
            frame::DATA => match &mut self.phase {
                Phase::Head => unexpected,
                Phase::Done {
                    trailers_seen: true,
                }
                | Phase::Body {
                    trailers_seen: true,
                    ..
                } if len > 0 => unexpected,
                // RFC 9114 §4.1.2.
                Phase::Body {
                    left: Some(left), ..
                } => match left.checked_sub(len) {
                    Some(rest) => {
                        *left = rest;
                        Ok(())
                    }
                    None => Err(StreamError::Message("more content than content-length").into()),
                },
                _ => Ok(()),
            },
            frame::HEADERS => {
                match &mut self.phase {
                    Phase::Head => {}
                    Phase::Done { trailers_seen } | Phase::Body { trailers_seen, .. }
                        if !*trailers_seen =>
                    {
                        *trailers_seen = true;
                    }
                    _ => return unexpected,
                }
                let max = rules.limits.max_headers_frame_size;
                if len > max {
                    return Err(ConnectionError::FrameTooLarge { ty, len, max }.into());
                }
                Ok(())
            }
            // No push was ever allowed (RFC 9114 §7.2.5).
            frame::PUSH_PROMISE if rules.role == Role::Client && self.phase == Phase::Head => {
                Err(ConnectionError::PushStream.into())
            }
            frame::SETTINGS
            | frame::GOAWAY
            | frame::MAX_PUSH_ID
            | frame::CANCEL_PUSH
            | frame::PUSH_PROMISE
            | frame::PRIORITY_UPDATE_REQUEST
            | frame::PRIORITY_UPDATE_PUSH => unexpected,
            // webtrans-http3-16 §4.3
            frame::WT_STREAM => Err(ConnectionError::WtSignalMisplaced.into()),
            _ if is_reserved_http2(ty) => unexpected,
            // webtrans-http3-16 §6; reserved frames may come anywhere (RFC 9114 §7.2.8).
            _ if self.phase == Phase::AfterClose && !is_grease(ty) => {
                Err(StreamError::DataAfterClose.into())
            }
            _ => Ok(()),
        }
    }

    /// With [`Framing::Raw`] capsules come without DATA frames around them; their types are
    /// unknown as frame types, which everybody else skips (RFC 9114 §9).
    fn is_raw_capsule(&self, ty: u64, rules: Rules<'_>) -> bool {
        rules.framing == Framing::Raw
            && matches!(self.phase, Phase::Capsules | Phase::AfterClose)
            && matches!(
                ty,
                capsule::WT_CLOSE_SESSION | capsule::WT_DRAIN_SESSION | capsule::WT_MAX_DATA
                    ..=capsule::WT_STREAMS_BLOCKED_UNI
            )
    }

    /// Checks that the stream may end here.
    pub(crate) fn check_end(&self) -> Result<(), Fault> {
        match self.phase {
            Phase::Done { .. } | Phase::Ended => Ok(()),
            _ if self.raw.as_ref().is_some_and(|raw| raw.is_inside()) => {
                Err(StreamError::CapsuleTruncated.into())
            }
            _ if !self.frames.at_boundary() => Err(ConnectionError::FrameTruncated.into()),
            Phase::Head => Err(StreamError::Incomplete.into()),
            Phase::Body {
                left: Some(1..), ..
            } => Err(StreamError::Message("less content than content-length").into()),
            _ if !self.capsules.at_boundary() => Err(StreamError::CapsuleTruncated.into()),
            _ => Ok(()),
        }
    }
}
