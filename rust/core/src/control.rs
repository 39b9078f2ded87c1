//! The critical unidirectional streams: control (RFC 9114 §6.2.1) and QPACK (RFC 9204 §4.2).

use bytes::Bytes;
use pywt_wire::codes::{self, frame};
use pywt_wire::frame::{encode, encode_header, is_reserved_http2};
use pywt_wire::qpack::{DecoderStream, EncoderStream};
use pywt_wire::settings::{self, Settings};
use pywt_wire::varint;

use crate::config::{Config, Role, Transport};
use crate::dialect::local_settings;
use crate::error::ConnectionError;
use crate::limits::Meter;
use crate::tlv::{Gather, Piece, TlvReader};
use crate::Time;

/// The peer's critical streams.
#[derive(Debug, Default)]
pub(crate) struct Critical {
    control: Option<Box<ControlReader>>,
    encoder: Option<EncoderStream>,
    decoder: Option<DecoderStream>,
}

/// A frame of the control stream that somebody has to act on.
#[derive(Debug)]
pub(crate) enum ControlFrame {
    Goaway(u64),
    Settings(Settings),
}

impl Critical {
    pub(crate) fn open_control(&mut self) -> Result<(), ConnectionError> {
        open(&mut self.control, "control")
    }

    pub(crate) fn open_encoder(&mut self) -> Result<(), ConnectionError> {
        open(&mut self.encoder, "QPACK encoder")
    }

    pub(crate) fn open_decoder(&mut self) -> Result<(), ConnectionError> {
        open(&mut self.decoder, "QPACK decoder")
    }

    /// Reads control-stream bytes up to the next frame to act on.
    pub(crate) fn control(
        &mut self,
        input: &mut Bytes,
        config: &Config,
        idle: &mut Meter,
        now: Time,
    ) -> Result<Option<ControlFrame>, ConnectionError> {
        match &mut self.control {
            Some(reader) => reader.next(input, config, idle, now),
            None => Ok(None),
        }
    }

    pub(crate) fn encoder(&mut self, input: &[u8]) -> Result<(), ConnectionError> {
        Ok(self
            .encoder
            .as_mut()
            .map_or(Ok(()), |stream| stream.feed(input))?)
    }

    pub(crate) fn decoder(&mut self, input: &[u8]) -> Result<(), ConnectionError> {
        Ok(self
            .decoder
            .as_mut()
            .map_or(Ok(()), |stream| stream.feed(input))?)
    }
}

fn open<T: Default>(slot: &mut Option<T>, name: &'static str) -> Result<(), ConnectionError> {
    if slot.is_some() {
        return Err(ConnectionError::SecondCriticalStream(name));
    }
    *slot = Some(T::default());
    Ok(())
}

/// Reads the peer's control stream.
#[derive(Debug, Default)]
struct ControlReader {
    frames: TlvReader,
    payload: Gather,
    has_settings: bool,
    goaway: Option<u64>,
    max_push_id: Option<u64>,
}

impl ControlReader {
    fn next(
        &mut self,
        input: &mut Bytes,
        config: &Config,
        idle: &mut Meter,
        now: Time,
    ) -> Result<Option<ControlFrame>, ConnectionError> {
        let (role, limits) = (config.role, &config.limits);
        while let Some(piece) = self.frames.next(input) {
            match piece {
                Piece::Head { ty, len } => {
                    if self.has_settings && !idle.allow(limits.idle_frames, now) {
                        return Err(ConnectionError::Flood("control frames"));
                    }
                    self.check_head(ty, len, role, limits.max_control_frame_size)?;
                }
                Piece::Body { ty, data, last } if is_read(ty) => {
                    if let Some(payload) = self.payload.push(data, last) {
                        if let Some(frame) = self.frame(ty, &payload, role)? {
                            return Ok(Some(frame));
                        }
                    }
                }
                Piece::Body { .. } => {}
            }
        }
        Ok(None)
    }

    /// What can be said before any payload is kept.
    fn check_head(&self, ty: u64, len: u64, role: Role, max: u64) -> Result<(), ConnectionError> {
        if !self.has_settings && ty != frame::SETTINGS {
            return Err(ConnectionError::MissingSettings);
        }
        match ty {
            frame::SETTINGS if self.has_settings => Err(ConnectionError::FrameUnexpected(ty)),
            frame::DATA | frame::HEADERS | frame::PUSH_PROMISE => {
                Err(ConnectionError::FrameUnexpected(ty))
            }
            frame::MAX_PUSH_ID | frame::PRIORITY_UPDATE_REQUEST | frame::PRIORITY_UPDATE_PUSH
                if role == Role::Client =>
            {
                Err(ConnectionError::FrameUnexpected(ty))
            }
            frame::WT_STREAM => Err(ConnectionError::WtSignalMisplaced),
            _ if is_reserved_http2(ty) => Err(ConnectionError::FrameUnexpected(ty)),
            frame::SETTINGS if len > max => Err(ConnectionError::FrameTooLarge { ty, len, max }),
            frame::GOAWAY | frame::MAX_PUSH_ID | frame::CANCEL_PUSH
                if !matches!(len, 1 | 2 | 4 | 8) =>
            {
                Err(ConnectionError::FrameMalformed(ty))
            }
            _ => Ok(()),
        }
    }

    fn frame(
        &mut self,
        ty: u64,
        payload: &[u8],
        role: Role,
    ) -> Result<Option<ControlFrame>, ConnectionError> {
        if ty == frame::SETTINGS {
            self.has_settings = true;
            return Ok(Some(ControlFrame::Settings(settings::decode(payload)?)));
        }
        let id = match varint::decode(payload) {
            Some((id, used)) if used == payload.len() => id,
            _ => return Err(ConnectionError::FrameMalformed(ty)),
        };
        match ty {
            frame::GOAWAY => {
                let from_server = role == Role::Client;
                let grows = self.goaway.is_some_and(|before| id > before);
                // A server names a request, a client a push (RFC 9114 §5.2).
                if grows || (from_server && id % 4 != 0) {
                    return Err(ConnectionError::GoawayId(id));
                }
                let is_news = self.goaway.replace(id) != Some(id);
                Ok(is_news.then_some(ControlFrame::Goaway(id)))
            }
            frame::MAX_PUSH_ID => {
                if self.max_push_id.is_some_and(|before| id < before) {
                    return Err(ConnectionError::MaxPushIdReduced(id));
                }
                self.max_push_id = Some(id);
                Ok(None)
            }
            // Nothing is ever promised here, and no push was ever allowed (RFC 9114 §7.2.3).
            _ => Err(ConnectionError::CancelPush(id)),
        }
    }
}

/// Frames whose payload matters here; any other is skipped without being stored.
fn is_read(ty: u64) -> bool {
    matches!(
        ty,
        frame::SETTINGS | frame::GOAWAY | frame::MAX_PUSH_ID | frame::CANCEL_PUSH
    )
}

/// The first bytes of our control stream: type, SETTINGS, and a reserved frame.
pub(crate) fn control_preamble(config: &Config, transport: &Transport) -> Bytes {
    let mut payload = Vec::new();
    settings::encode(&local_settings(config, transport), &mut payload);
    let mut out = Vec::with_capacity(payload.len() + 16);
    varint::encode(codes::stream::CONTROL, &mut out);
    encode(frame::SETTINGS, &payload, &mut out);
    if config.grease {
        let filler = config.grease_seed.to_be_bytes();
        let len = (config.grease_seed & 7) as usize;
        encode(
            codes::grease(config.grease_seed >> 8),
            filler.get(..len).unwrap_or(&[]),
            &mut out,
        );
    }
    out.into()
}

pub(crate) fn goaway_frame(id: u64) -> Bytes {
    let mut out = Vec::with_capacity(10);
    encode_header(frame::GOAWAY, varint::len(id) as u64, &mut out);
    varint::encode(id, &mut out);
    out.into()
}
