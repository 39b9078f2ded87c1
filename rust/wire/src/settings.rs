//! The payload of a SETTINGS frame (RFC 9114 §7.2.4).

use thiserror::Error;

use crate::codes::{error, setting};
use crate::varint;

/// Most settings accepted in one frame. Browsers send about ten; the bound keeps the search for
/// duplicates cheap whatever the frame size limit is.
pub const MAX_SETTINGS: usize = 128;

/// Identifiers and values in the order of the wire, each identifier once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(Vec<(u64, u64)>);

impl Settings {
    /// No settings.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Set `id`, keeping its place if it is there already. Both numbers are in varint range.
    pub fn insert(&mut self, id: u64, value: u64) {
        match self.0.iter_mut().find(|entry| entry.0 == id) {
            Some(entry) => entry.1 = value,
            None => self.0.push((id, value)),
        }
    }

    /// The value of `id`, if it was sent.
    pub fn get(&self, id: u64) -> Option<u64> {
        self.0
            .iter()
            .find(|entry| entry.0 == id)
            .map(|entry| entry.1)
    }

    /// Identifiers and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a webtrans-http3-16 client demands of a server: WT_ENABLED is 0 or 1. Drafts up to
    /// -15 allow any number, so this is not part of [`decode`].
    pub fn check_wt_enabled(&self) -> Result<(), SettingsError> {
        match self.get(setting::WT_ENABLED) {
            Some(value) if value > 1 => Err(SettingsError::NotBoolean {
                id: setting::WT_ENABLED,
                value,
            }),
            _ => Ok(()),
        }
    }
}

impl FromIterator<(u64, u64)> for Settings {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(iter: I) -> Self {
        let mut settings = Self::new();
        iter.into_iter()
            .for_each(|(id, value)| settings.insert(id, value));
        settings
    }
}

/// Why a SETTINGS payload was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The same identifier twice.
    #[error("setting {0:#x} appears twice")]
    Duplicate(u64),
    /// A setting that is a flag has another value than 0 and 1.
    #[error("setting {id:#x} must be 0 or 1, not {value}")]
    NotBoolean {
        /// The setting.
        id: u64,
        /// Its value.
        value: u64,
    },
    /// An identifier that HTTP/2 used.
    #[error("setting {0:#x} is reserved")]
    Reserved(u64),
    /// More than [`MAX_SETTINGS`].
    #[error("more than {MAX_SETTINGS} settings in one frame")]
    TooMany,
    /// The payload ends inside an identifier or a value.
    #[error("the SETTINGS payload ends inside a setting")]
    Truncated,
}

impl SettingsError {
    /// The connection error that this is.
    pub const fn code(&self) -> u64 {
        match self {
            Self::Duplicate(_) | Self::NotBoolean { .. } | Self::Reserved(_) => {
                error::H3_SETTINGS_ERROR
            }
            Self::TooMany => error::H3_EXCESSIVE_LOAD,
            Self::Truncated => error::H3_FRAME_ERROR,
        }
    }
}

/// Decode a whole payload.
pub fn decode(mut payload: &[u8]) -> Result<Settings, SettingsError> {
    let mut settings = Settings::new();
    while !payload.is_empty() {
        let (id, value, rest) = decode_one(payload).ok_or(SettingsError::Truncated)?;
        payload = rest;
        match id {
            // RFC 9114 §7.2.4.1 and §11.2.2
            0x00 | 0x02..=0x05 => return Err(SettingsError::Reserved(id)),
            // RFC 9220 §3, RFC 9297 §2.1.1, webtrans-http3-02 §3.1
            setting::ENABLE_CONNECT_PROTOCOL
            | setting::H3_DATAGRAM
            | setting::ENABLE_WEBTRANSPORT_DRAFT02
                if value > 1 =>
            {
                return Err(SettingsError::NotBoolean { id, value });
            }
            _ if settings.get(id).is_some() => return Err(SettingsError::Duplicate(id)),
            _ if settings.len() == MAX_SETTINGS => return Err(SettingsError::TooMany),
            _ => settings.0.push((id, value)),
        }
    }
    settings.0.shrink_to_fit();
    Ok(settings)
}

/// Append the payload (without a frame header).
pub fn encode(settings: &Settings, out: &mut Vec<u8>) {
    for (id, value) in settings.iter() {
        varint::encode(id, out);
        varint::encode(value, out);
    }
}

fn decode_one(buf: &[u8]) -> Option<(u64, u64, &[u8])> {
    let (id, n) = varint::decode(buf)?;
    let buf = buf.get(n..)?;
    let (value, n) = varint::decode(buf)?;
    Some((id, value, buf.get(n..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn many(count: usize) -> Vec<u8> {
        let settings = (0..count as u64).map(|n| (0x1_0000 + n, n)).collect();
        let mut out = Vec::new();
        encode(&settings, &mut out);
        out
    }

    #[test]
    fn the_count_limit_holds_at_the_limit_and_one_past_it() {
        assert_eq!(
            decode(&many(MAX_SETTINGS)).map(|s| s.len()),
            Ok(MAX_SETTINGS)
        );
        let error = decode(&many(MAX_SETTINGS + 1));
        assert_eq!(error, Err(SettingsError::TooMany));
        assert_eq!(error.map_err(|e| e.code()), Err(error::H3_EXCESSIVE_LOAD));
    }

    #[test]
    fn two_equal_unknown_ids_are_a_settings_error() {
        assert_eq!(
            decode(&[0x21, 0, 0x21, 0]),
            Err(SettingsError::Duplicate(0x21))
        );
    }

    #[test]
    fn insert_keeps_the_order_of_first_mention() {
        let settings: Settings = [(8, 1), (51, 1), (8, 0)].into_iter().collect();
        assert_eq!(settings.iter().collect::<Vec<_>>(), [(8, 0), (51, 1)]);
        assert!(!settings.is_empty());
    }
}
