//! What the tests of ordinary requests share.

use bytes::Bytes;
use pywt_core::wire::qpack;
use pywt_core::{Config, Dialect, Event};

use super::*;

pub type Lines = Vec<(Bytes, Bytes)>;

pub fn config() -> Config {
    let mut config = Config::server();
    config.serves_requests = true;
    config
}

pub fn server() -> Bench {
    Bench::server_with(config(), Dialect::Draft15)
}

pub fn get_fields() -> Vec<(&'static str, &'static str)> {
    vec![
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a.example"),
        (":path", "/x?y=1"),
    ]
}

pub fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = get_fields();
    fields.extend_from_slice(more);
    fields
}

pub fn post_with<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = with(more);
    fields[0].1 = "POST";
    fields
}

pub fn lines(pairs: &[(&str, &str)]) -> Lines {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    pairs.iter().map(|(n, v)| (bytes(n), bytes(v))).collect()
}

/// A server that was asked this on stream 0.
pub fn asked(fields: &[(&str, &str)]) -> Bench {
    let mut bench = server();
    bench.recv(0, &headers(fields));
    bench
}

pub fn asked_get() -> Bench {
    let mut bench = asked(&get_fields());
    bench.take_events();
    bench
}

/// The body that was delivered, and whether its end was.
pub fn body(events: &[Event]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    let mut is_ended = false;
    for event in events {
        if let Event::StreamData { data, fin, .. } = event {
            assert!(!is_ended);
            body.extend_from_slice(data);
            is_ended = *fin;
        }
    }
    (body, is_ended)
}

pub fn is_shown(bench: &Bench) -> bool {
    let shown = |event: &Event| matches!(event, Event::RequestReceived { .. });
    bench.events.iter().any(shown)
}

pub fn aborted(bench: &Bench) -> Option<u64> {
    bench.events.iter().find_map(|event| match event {
        Event::RequestAborted { code, .. } => Some(*code),
        _ => None,
    })
}

/// Answers stream 0 as the application and its driver do.
pub fn respond(bench: &mut Bench, status: u16, pairs: &[(&str, &str)], fin: bool) {
    bench.conn.respond(0, status, &lines(pairs), fin).unwrap();
    bench.drain();
}

pub fn sections(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((header, used)) = pywt_core::wire::frame::decode_header(bytes) {
        let end = used + header.len as usize;
        frames.push((header.ty, bytes[used..end].to_vec()));
        bytes = &bytes[end..];
    }
    assert!(bytes.is_empty());
    frames
}

pub fn decoded(section: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let fields = qpack::decode_section(section, 1 << 16).unwrap();
    fields
        .iter()
        .map(|field| (text(&field.name), text(&field.value)))
        .collect()
}
