//! Field sections: what a request and a response may hold (RFC 9114 §4.2, §4.3, RFC 9220), and
//! how ours are written.

use bytes::Bytes;
use pywt_wire::codes::frame;
use pywt_wire::frame::encode;
use pywt_wire::qpack::{encode_section, Field};

use crate::error::{Error, StreamError};

/// A request that is well formed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) method: String,
    pub(crate) scheme: String,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) protocol: Option<String>,
    /// Every field in wire order.
    pub(crate) fields: Vec<(String, String)>,
}

impl RequestHead {
    pub(crate) fn parse(fields: Vec<Field>) -> Result<Self, StreamError> {
        let section = Section::parse(
            fields,
            &[":method", ":scheme", ":authority", ":path", ":protocol"],
        )?;
        let [method, scheme, authority, path, protocol] = section.pseudo;
        let host = section
            .fields
            .iter()
            .find(|(name, _)| name == "host")
            .map(|(_, v)| v.clone());
        let has_length = section
            .fields
            .iter()
            .any(|(name, _)| name == "content-length");
        let method = required(method, ":method")?;
        let extended = protocol.is_some();
        if protocol.as_deref() == Some("") {
            return Err(StreamError::Message(":protocol is empty"));
        }
        if extended && method != "CONNECT" {
            return Err(StreamError::Message(":protocol without CONNECT"));
        }
        // RFC 9114 §4.4: a CONNECT has no content, so a length is at best confused.
        if method == "CONNECT" && has_length {
            return Err(StreamError::Message("content-length in CONNECT"));
        }
        if method == "CONNECT" && !extended {
            if scheme.is_some() || path.is_some() {
                return Err(StreamError::Message(":scheme or :path in plain CONNECT"));
            }
            let authority = required(authority, ":authority")?;
            let fields = section.fields;
            return Ok(Self {
                method,
                authority,
                fields,
                ..Self::default()
            });
        }
        let scheme = required(scheme, ":scheme")?;
        let path = required(path, ":path")?;
        let authority = match (authority, host) {
            (Some(authority), Some(host)) if authority != host => {
                return Err(StreamError::Message(":authority and host differ"));
            }
            (None, host) if !extended => required(host, ":authority")?,
            (authority, _) => required(authority, ":authority")?,
        };
        if authority.contains('@') {
            return Err(StreamError::Message("userinfo in :authority"));
        }
        if extended && scheme != "https" {
            return Err(StreamError::Message("scheme is not https"));
        }
        if extended && !path.starts_with('/') {
            return Err(StreamError::Message(":path does not start with a slash"));
        }
        Ok(Self {
            method,
            scheme,
            authority,
            path,
            protocol,
            fields: section.fields,
        })
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A response that is well formed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    /// Every field in wire order.
    pub(crate) fields: Vec<(String, String)>,
}

impl ResponseHead {
    pub(crate) fn parse(fields: Vec<Field>) -> Result<Self, StreamError> {
        let section = Section::parse(fields, &[":status"])?;
        let [status, ..] = section.pseudo;
        let status = required(status, ":status")?;
        match status.parse() {
            Ok(number @ 100..=999) if status.len() == 3 => Ok(Self {
                status: number,
                fields: section.fields,
            }),
            _ => Err(StreamError::Message("invalid :status")),
        }
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Trailers have the rules of any section and no pseudo-header fields.
pub(crate) fn check_trailers(fields: Vec<Field>) -> Result<(), StreamError> {
    Section::parse(fields, &[]).map(|_| ())
}

/// A field section whose every field is well formed by itself.
struct Section {
    /// Values of the pseudo-header fields asked for, in that order.
    pseudo: [Option<String>; 5],
    fields: Vec<(String, String)>,
}

impl Section {
    fn parse(raw: Vec<Field>, allowed: &[&str]) -> Result<Self, StreamError> {
        let mut section = Self {
            pseudo: Default::default(),
            fields: Vec::with_capacity(raw.len()),
        };
        let mut regular_seen = false;
        for field in raw {
            check_value(&field.value).map_err(StreamError::Message)?;
            let value = text(&field.value);
            if field.name.first() == Some(&b':') {
                if regular_seen {
                    return Err(StreamError::Message(
                        "pseudo-header field after a regular one",
                    ));
                }
                let place = allowed
                    .iter()
                    .position(|name| name.as_bytes() == field.name);
                let slot = place.and_then(|place| section.pseudo.get_mut(place));
                let slot = slot.ok_or(StreamError::Message("pseudo-header field not allowed"))?;
                if slot.replace(value.clone()).is_some() {
                    return Err(StreamError::Message("pseudo-header field repeated"));
                }
            } else {
                regular_seen = true;
                check_name(&field.name).map_err(StreamError::Message)?;
                check_connection_specific(&field.name, &field.value)
                    .map_err(StreamError::Message)?;
            }
            section.fields.push((text(&field.name), value));
        }
        Ok(section)
    }
}

fn required(value: Option<String>, name: &'static str) -> Result<String, StreamError> {
    value
        .filter(|value| !value.is_empty())
        .ok_or(StreamError::Message(match name {
            ":method" => ":method is missing or empty",
            ":scheme" => ":scheme is missing or empty",
            ":authority" => ":authority is missing or empty",
            ":path" => ":path is missing or empty",
            _ => ":status is missing or empty",
        }))
}

/// RFC 9114 §4.2, §10.3.
fn check_name(name: &[u8]) -> Result<(), &'static str> {
    let valid = |&byte: &u8| matches!(byte, 0x21..=0x7e) && byte != b':';
    if name.is_empty() || !name.iter().all(valid) {
        return Err("field name has an invalid character");
    }
    if name.iter().any(u8::is_ascii_uppercase) {
        return Err("field name is not lower case");
    }
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), &'static str> {
    if value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        return Err("field value has NUL, CR or LF");
    }
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if blank(value.first()) || blank(value.last()) {
        return Err("field value starts or ends with a blank");
    }
    Ok(())
}

/// RFC 9114 §4.2.
fn check_connection_specific(name: &[u8], value: &[u8]) -> Result<(), &'static str> {
    match name {
        b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
            Err("connection-specific field")
        }
        b"te" if value != b"trailers" => Err("te other than trailers"),
        _ => Ok(()),
    }
}

/// Field bytes as text: UTF-8 if they are, else each byte its Latin-1 character.
fn text(bytes: &Bytes) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

/// Checks fields the application wants to send.
pub(crate) fn check_local(fields: &[(String, String)]) -> Result<(), Error> {
    for (name, value) in fields {
        check_name(name.as_bytes())
            .and_then(|()| check_value(value.as_bytes()))
            .and_then(|()| check_connection_specific(name.as_bytes(), value.as_bytes()))
            .map_err(|why| Error::InvalidField {
                name: name.clone(),
                why,
            })?;
    }
    Ok(())
}

/// Checks the value of a pseudo-header field the application gave.
pub(crate) fn check_local_pseudo(name: &'static str, value: &str) -> Result<(), Error> {
    let result = if value.is_empty() {
        Err("empty")
    } else {
        check_value(value.as_bytes())
    };
    result.map_err(|why| Error::InvalidField {
        name: name.to_owned(),
        why,
    })
}

/// A HEADERS frame.
pub(crate) fn headers_frame<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Bytes {
    let mut section = Vec::with_capacity(256);
    encode_section(fields, &mut section);
    let mut out = Vec::with_capacity(section.len() + 9);
    encode(frame::HEADERS, &section, &mut out);
    out.into()
}
