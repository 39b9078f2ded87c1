//! Criterion: the same shapes as `benches/codec` measures through Python.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::hint::black_box;

use criterion::{criterion_group, criterion_main, Criterion};
use pywt_wire::capsule::{self, Capsule};
use pywt_wire::qpack::{decode_section, encode_section, huffman};
use pywt_wire::settings::{self, Settings};
use pywt_wire::{datagram, frame, varint};

const REQUEST: [(&str, &str); 8] = [
    (":method", "CONNECT"),
    (":scheme", "https"),
    (":authority", "example.com:4433"),
    (":path", "/chat/room?id=42"),
    (":protocol", "webtransport"),
    ("sec-webtransport-http3-draft02", "1"),
    ("origin", "https://example.com"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    ),
];

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn codecs(c: &mut Criterion) {
    let values = [37, 15_293, 494_878_333, 151_288_809_941_952_652];
    let varints = encoded(|out| values.iter().for_each(|&value| varint::encode(value, out)));
    c.bench_function("varint decode x4", |b| {
        b.iter(|| {
            let mut rest = black_box(&varints[..]);
            let mut sum = 0;
            while let Some((value, len)) = varint::decode(rest) {
                sum ^= value;
                rest = &rest[len..];
            }
            sum
        });
    });

    let mut out = Vec::with_capacity(256);
    c.bench_function("varint encode x4", |b| {
        b.iter(|| {
            out.clear();
            black_box(values)
                .iter()
                .for_each(|&value| varint::encode(value, &mut out));
            out.len()
        });
    });

    let frames = encoded(|out| (0..64).for_each(|_| frame::encode(0, b"hello world!", out)));
    c.bench_function("frame parse x64", |b| {
        b.iter(|| {
            frame::parse_many(black_box(&frames))
                .map(|f| f.payload.len())
                .sum::<usize>()
        });
    });

    let union: Settings = [
        (1, 0),
        (6, 65_536),
        (7, 0),
        (8, 1),
        (51, 1),
        (0x2b60_3742, 1),
    ]
    .into_iter()
    .collect();
    let payload = encoded(|out| settings::encode(&union, out));
    c.bench_function("settings decode", |b| {
        b.iter(|| settings::decode(black_box(&payload)))
    });

    c.bench_function("settings encode", |b| {
        b.iter(|| {
            out.clear();
            settings::encode(black_box(&union), &mut out);
            out.len()
        });
    });

    let close = encoded(|out| {
        capsule::encode(
            &Capsule::Close {
                code: 420,
                reason: "going away",
            },
            out,
        );
    });
    c.bench_function("capsule decode", |b| {
        b.iter(|| {
            let (header, start) = capsule::decode_header(black_box(&close)).unwrap().unwrap();
            capsule::decode_payload(header.ty, &close[start..])
                .unwrap()
                .ty()
        });
    });

    c.bench_function("capsule encode", |b| {
        b.iter(|| {
            out.clear();
            let capsule = Capsule::Close {
                code: 420,
                reason: black_box("going away"),
            };
            capsule::encode(&capsule, &mut out);
            out.len()
        });
    });

    let section = encoded(|out| encode_section(REQUEST, out));
    c.bench_function("section decode", |b| {
        b.iter(|| decode_section(black_box(&section), 4096))
    });
    c.bench_function("section encode", |b| {
        b.iter(|| {
            out.clear();
            encode_section(black_box(REQUEST), &mut out);
            out.len()
        });
    });

    let text = REQUEST[7].1.as_bytes();
    let coded = encoded(|out| huffman::encode(text, huffman::encoded_len(text), out));
    c.bench_function("huffman decode", |b| {
        b.iter(|| huffman::decode(black_box(&coded), 4096, &mut out));
    });
    c.bench_function("huffman encode", |b| {
        b.iter(|| {
            out.clear();
            huffman::encode(black_box(text), huffman::encoded_len(text), &mut out);
            out.len()
        });
    });

    let one = encoded(|out| datagram::encode_prefix(256, out));
    c.bench_function("datagram encode", |b| {
        b.iter(|| {
            out.clear();
            datagram::encode_prefix(black_box(256), &mut out);
            out.len()
        });
    });
    c.bench_function("datagram decode", |b| {
        b.iter(|| datagram::decode(black_box(&one)))
    });
}

criterion_group!(benches, codecs);
criterion_main!(benches);
