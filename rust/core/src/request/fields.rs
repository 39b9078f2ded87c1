//! Field sections: what a request and a response may hold (RFC 9114 §4.2, §4.3, RFC 9220), and
//! how ours are written.

use bytes::Bytes;
use pywt_wire::codes::frame;
use pywt_wire::frame::encode;
use pywt_wire::qpack::{encode_section, Field, FIELD_OVERHEAD};

use crate::error::{Error, StreamError};

/// A request that is well formed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) method: String,
    pub(crate) scheme: String,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) protocol: Option<String>,
    pub(crate) content_length: Option<u64>,
    /// Every field in wire order.
    pub(crate) fields: Vec<(String, String)>,
}

impl RequestHead {
    /// `strict`: nothing but what a URI may hold in `:path` (RFC 3986); else also what browsers
    /// leave as it is.
    pub(crate) fn parse(fields: &[Field], strict: bool) -> Result<Self, StreamError> {
        let section = Section::parse(
            fields,
            &[":method", ":scheme", ":authority", ":path", ":protocol"],
        )?;
        let host = section.only("host")?;
        section.only("origin")?;
        let lengths = section.lines("content-length").map(str::as_bytes);
        let content_length = content_length(lengths).map_err(StreamError::Message)?;
        let [method, scheme, authority, path, protocol] = section.pseudo;
        let method = required(method, ":method")?;
        let extended = protocol.is_some();
        if protocol.as_deref() == Some("") {
            return Err(StreamError::Message(":protocol is empty"));
        }
        if extended && method != "CONNECT" {
            return Err(StreamError::Message(":protocol without CONNECT"));
        }
        // RFC 9114 §4.4: a CONNECT has no content, so a length is at best confused.
        if method == "CONNECT" && content_length.is_some() {
            return Err(StreamError::Message("content-length in CONNECT"));
        }
        if method == "CONNECT" && !extended {
            if scheme.is_some() || path.is_some() {
                return Err(StreamError::Message(":scheme or :path in plain CONNECT"));
            }
            let authority = required(authority, ":authority")?;
            check_authority(&authority).map_err(StreamError::Message)?;
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
        check_authority(&authority).map_err(StreamError::Message)?;
        if extended && scheme != "https" {
            return Err(StreamError::Message("scheme is not https"));
        }
        // RFC 9114 §4.3.1: only OPTIONS has another form.
        if extended || method != "OPTIONS" {
            check_path(&path, strict).map_err(StreamError::Message)?;
        }
        Ok(Self {
            method,
            scheme,
            authority,
            path,
            protocol,
            content_length,
            fields: section.fields,
        })
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
    pub(crate) fn parse(fields: &[Field]) -> Result<Self, StreamError> {
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
}

/// The value of a field: its lines joined (RFC 9110 §5.3, RFC 9651 §4.2).
pub(crate) fn joined(fields: &[(String, String)], name: &str) -> Option<String> {
    let mut lines = lines(fields, name);
    let mut value = lines.next()?.to_owned();
    for line in lines {
        value.push_str(", ");
        value.push_str(line);
    }
    Some(value)
}

fn lines<'a>(fields: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    fields
        .iter()
        .filter(move |(other, _)| other == name)
        .map(|(_, value)| value.as_str())
}

/// Trailers have the rules of any section and no pseudo-header fields.
pub(crate) fn check_trailers(fields: &[Field]) -> Result<(), StreamError> {
    Section::parse(fields, &[]).map(|_| ())
}

/// A field section whose every field is well formed by itself.
struct Section {
    /// Values of the pseudo-header fields asked for, in that order.
    pseudo: [Option<String>; 5],
    fields: Vec<(String, String)>,
}

impl Section {
    fn lines<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        lines(&self.fields, name)
    }

    /// The value of a field that has one line at most.
    fn only(&self, name: &'static str) -> Result<Option<String>, StreamError> {
        let mut lines = self.lines(name);
        let first = lines.next().map(str::to_owned);
        match lines.next() {
            Some(_) => Err(StreamError::Message(match name {
                "host" => "host repeated",
                _ => "origin repeated",
            })),
            None => Ok(first),
        }
    }

    fn parse(raw: &[Field], allowed: &[&str]) -> Result<Self, StreamError> {
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
    // RFC 9110 §5.5; HTAB is no field-vchar, but may stand between them.
    if value
        .iter()
        .any(|&byte| byte.is_ascii_control() && byte != b'\t')
    {
        return Err("field value has a control character");
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

/// RFC 3986 §3.2, without userinfo (RFC 9114 §4.3.1).
fn check_authority(authority: &str) -> Result<(), &'static str> {
    if authority.contains('@') {
        return Err("userinfo in :authority");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest
                .split_once(']')
                .ok_or(":authority has an unfinished address")?;
            if !address
                .bytes()
                .all(|byte| matches!(byte, b':' | b'.' | b'%') || byte.is_ascii_alphanumeric())
            {
                return Err(":authority has an invalid address");
            }
            match (port.is_empty(), port.strip_prefix(':')) {
                (true, _) => (address, ""),
                (false, Some(port)) => (address, port),
                (false, None) => return Err(":authority has an invalid port"),
            }
        }
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    if host.is_empty() {
        return Err(":authority has no host");
    }
    let is_name = |byte: u8| is_unreserved(byte) || is_sub_delimiter(byte) || byte == b'%';
    if !authority.starts_with('[') && !host.bytes().all(is_name) {
        return Err(":authority has an invalid character");
    }
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || (!port.is_empty() && port.parse::<u16>().is_err()) {
        return Err(":authority has an invalid port");
    }
    Ok(())
}

/// RFC 3986 §3.3, §3.4; unless `strict`, also the characters that browsers leave unescaped in a
/// path or a query (URL Standard, percent-encode sets).
fn check_path(path: &str, strict: bool) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err(":path does not start with a slash");
    }
    let mut in_query = false;
    for byte in path.bytes() {
        in_query |= byte == b'?';
        let left_by_browsers = match byte {
            b'|' | b'[' | b']' | b'^' => true,
            b'\\' | b'`' | b'{' | b'}' => in_query,
            _ => false,
        };
        let is_uri = is_unreserved(byte)
            || is_sub_delimiter(byte)
            || matches!(byte, b':' | b'@' | b'/' | b'?' | b'%');
        if !is_uri && (strict || !left_by_browsers) {
            return Err(":path has an invalid character");
        }
    }
    Ok(())
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn is_sub_delimiter(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    )
}

/// Checks fields the application wants to send; those of `own` are not its to send.
pub(crate) fn check_local_fields<T: AsRef<[u8]>>(
    fields: &[(T, T)],
    own: &[&str],
) -> Result<(), Error> {
    for (name, value) in fields {
        let (name, value) = (name.as_ref(), value.as_ref());
        let refused = |why| invalid(&String::from_utf8_lossy(name), why);
        if own.iter().any(|own| own.as_bytes() == name) {
            return Err(refused("not for the application to send"));
        }
        check_name(name)
            .and_then(|()| check_value(value))
            .and_then(|()| check_connection_specific(name, value))
            .map_err(refused)?;
    }
    Ok(())
}

/// The length that a message announces, in one field or several that agree (RFC 9110 §8.6).
pub(crate) fn content_length<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<u64>, &'static str> {
    let mut length = None;
    for text in lines.flat_map(|line| line.split(|&byte| byte == b',')) {
        let text = text.trim_ascii();
        if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
            return Err("content-length is no number");
        }
        let digits = std::str::from_utf8(text).ok();
        let value: u64 = digits
            .and_then(|digits| digits.parse().ok())
            .ok_or("content-length is too large")?;
        if length.replace(value).is_some_and(|other| other != value) {
            return Err("content-length has two values");
        }
    }
    Ok(length)
}

/// The fields of an ordinary request as its application sees them: without pseudo-header fields,
/// the pieces of the cookie joined (RFC 9114 §4.2.1) at the place of the first.
pub(crate) fn ordinary_fields(fields: Vec<Field>) -> Vec<(Bytes, Bytes)> {
    const COOKIE: &[u8] = b"cookie";
    let is_cookie = |field: &&Field| field.name == COOKIE;
    let crumbs: Vec<&[u8]> = fields
        .iter()
        .filter(is_cookie)
        .map(|field| field.value.as_ref())
        .collect();
    let joined = (crumbs.len() > 1).then(|| Bytes::from(crumbs.join(&b"; "[..])));
    let mut kept = Vec::with_capacity(fields.len());
    let mut has_cookie = false;
    for Field { name, value } in fields {
        if name.first() == Some(&b':') {
            continue;
        }
        match &joined {
            Some(joined) if name == COOKIE => {
                if !std::mem::replace(&mut has_cookie, true) {
                    kept.push((name, joined.clone()));
                }
            }
            _ => kept.push((name, value)),
        }
    }
    kept
}

pub(crate) fn check_local_authority(authority: &str) -> Result<(), Error> {
    check_authority(authority).map_err(|why| invalid(":authority", why))
}

pub(crate) fn check_local_path(path: &str) -> Result<(), Error> {
    check_path(path, false).map_err(|why| invalid(":path", why))
}

pub(crate) fn invalid(name: &str, why: &'static str) -> Error {
    Error::InvalidField {
        name: name.to_owned(),
        why,
    }
}

/// A HEADERS frame; `max`: the size of a section that the peer takes (RFC 9114 §4.2.2).
pub(crate) fn headers_frame<T: AsRef<[u8]>>(
    fields: impl IntoIterator<Item = (T, T)>,
    max: u64,
) -> Result<Bytes, Error> {
    let mut size = 0;
    let mut section = Vec::with_capacity(256);
    let counted = fields.into_iter().inspect(|(name, value)| {
        size += (name.as_ref().len() + value.as_ref().len() + FIELD_OVERHEAD) as u64;
    });
    encode_section(counted, &mut section);
    if size > max {
        return Err(Error::FieldsTooLarge { size, max });
    }
    let mut out = Vec::with_capacity(section.len() + 9);
    encode(frame::HEADERS, &section, &mut out);
    Ok(out.into())
}
