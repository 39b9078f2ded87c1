//! Ordinary requests of a server, under any order of input, verbs and time: nothing panics, a body
//! never grows past its `content-length`, and a request that is over is silent afterwards.

#![no_main]

use std::collections::HashMap;
use std::time::Duration;

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pywt_core::{Config, Event};
use pywt_fuzz::support::{data_frame, frame_head, frame_of, headers, Bench};

#[derive(Arbitrary, Debug)]
enum Input {
    Bytes(u8, Vec<Piece>, bool),
    Reset(u8, u64),
    Stop(u8, u64),
    Datagram(u8),
    Time(u16),
    Respond(u8, u16, Option<u8>, bool),
    Body(u8, u16),
    Finish(u8, bool),
    End(u8, u64),
    CloseAll,
    Goaway,
}

#[derive(Arbitrary, Debug)]
enum Piece {
    Raw(Vec<u8>),
    Request(u8, Option<u8>),
    Data(Vec<u8>),
    Head(u8, u64),
    Trailers,
    Grease,
}

impl Piece {
    fn bytes(&self) -> Vec<u8> {
        const METHODS: [&str; 4] = ["GET", "POST", "HEAD", "CONNECT"];
        match self {
            Self::Raw(bytes) => bytes.clone(),
            Self::Request(method, length) => {
                let length = length.map(|length| length.to_string());
                let mut fields = vec![
                    (":method", METHODS[usize::from(*method) % METHODS.len()]),
                    (":scheme", "https"),
                    (":authority", "a"),
                    (":path", "/"),
                ];
                fields.extend(length.as_deref().map(|text| ("content-length", text)));
                headers(&fields)
            }
            Self::Data(payload) => data_frame(payload),
            Self::Head(ty, len) => frame_head(u64::from(ty % 16), len >> 2),
            Self::Trailers => headers(&[("x-sum", "1")]),
            Self::Grease => frame_of(0x21, b"grease"),
        }
    }
}

fn stream_of(byte: u8) -> u64 {
    u64::from(byte % 6) * 4
}

fn apply(bench: &mut Bench, input: Input) {
    match input {
        Input::Bytes(id, pieces, fin) => {
            let bytes: Vec<u8> = pieces.iter().flat_map(Piece::bytes).collect();
            bench.recv_with(stream_of(id), &bytes, fin);
        }
        Input::Reset(id, code) => bench.reset(stream_of(id), code >> 2),
        Input::Stop(id, code) => bench.stop(stream_of(id), code >> 2),
        Input::Datagram(id) => bench.datagram(&[id % 6, b'x']),
        Input::Time(millis) => bench.advance(Duration::from_millis(millis.into())),
        Input::Respond(id, status, length, fin) => {
            let length = length.map(|length| Bytes::from(length.to_string()));
            let fields: Vec<_> = length
                .map(|value| (Bytes::from_static(b"content-length"), value))
                .into_iter()
                .collect();
            drop(bench.conn.respond(stream_of(id), status, &fields, fin));
        }
        Input::Body(id, size) => {
            let size = u64::from(size);
            drop(bench.conn.body_frame(stream_of(id), size, size));
        }
        Input::Finish(id, trailers) => {
            let sum = (Bytes::from_static(b"x-sum"), Bytes::from_static(b"1"));
            let fields: Vec<_> = trailers.then_some(sum).into_iter().collect();
            drop(bench.conn.finish_response(stream_of(id), &fields));
        }
        Input::End(id, code) => bench.conn.end_request(stream_of(id), code >> 2),
        Input::CloseAll => bench.conn.close_all(0x100, "", bench.now),
        Input::Goaway => drop(bench.conn.goaway()),
    }
    bench.drain();
}

/// Requests by stream: what may still come of the body; `None`: nothing more comes.
type Open = HashMap<u64, Option<u64>>;

fn check(bench: &mut Bench, config: &Config, open: &mut Open) {
    for event in bench.take_events() {
        match event {
            Event::RequestReceived {
                stream, headers, ..
            } => {
                let length = headers.iter().find(|(name, _)| name == "content-length");
                let text = length.map(|(_, value)| String::from_utf8_lossy(value).into_owned());
                let left = text.map_or(u64::MAX, |text| text.parse().unwrap());
                assert!(open.insert(stream, Some(left)).is_none(), "shown twice");
            }
            Event::StreamData { stream, data, fin } => {
                let left = open.get_mut(&stream).expect("shown before its body");
                let rest = left.expect("not over").checked_sub(data.len() as u64);
                let rest = rest.expect("no more than content-length");
                assert!(!fin || rest == 0 || rest > u64::from(u8::MAX), "whole");
                *left = (!fin).then_some(rest);
            }
            Event::RequestTrailers { stream, .. } => {
                assert!(open[&stream].is_some(), "trailers of what is over");
            }
            Event::RequestAborted { stream, .. } => {
                open.insert(stream, None);
            }
            _ => {}
        }
    }
    bench.actions.clear();
    assert!(bench.conn.stats().streams <= config.limits.max_requests + 8);
}

fuzz_target!(|inputs: Vec<Input>| {
    let mut config = Config::server();
    config.serves_requests = true;
    config.limits.max_requests = 3;
    let mut bench = Bench::new(config.clone());
    let mut open = Open::new();
    for input in inputs {
        apply(&mut bench, input);
        check(&mut bench, &config, &mut open);
    }
});
