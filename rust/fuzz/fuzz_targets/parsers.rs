//! Every parser of `wire` on the same bytes: none panics, and what one accepts it writes again as
//! something it reads the same way.

#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use pywt_wire::qpack::instructions::{DecoderInstruction, EncoderInstruction};
use pywt_wire::qpack::{
    decode_section, encode_section, huffman, parse_section, DecoderStream, EncoderStream,
};
use pywt_wire::quic_extras::{parse_transport_parameters, ExporterContext, ResetStreamAt};
use pywt_wire::stream_header::{self, BidiType, UniType};
use pywt_wire::{capsule, codes, datagram, frame, settings, structured_field, varint, Dir};

const MAX_SIZE: usize = 1 << 16;

/// `value`, which was read, is read again from what `encode` writes.
fn reads_back<T: PartialEq + Debug, E: Debug>(
    value: &T,
    encode: impl FnOnce(&mut Vec<u8>),
    decode: impl FnOnce(&[u8]) -> Result<Option<(T, usize)>, E>,
) {
    let mut out = Vec::new();
    encode(&mut out);
    let (again, used) = decode(&out).expect("valid").expect("whole");
    assert_eq!((&again, used), (value, out.len()));
}

fn numbers(data: &[u8]) {
    if let Some((value, used)) = varint::decode(data) {
        assert!(used <= data.len());
        reads_back(
            &value,
            |out| varint::encode(value, out),
            |out| Ok::<_, ()>(varint::decode(out)),
        );
        if let Some(code) = codes::http_to_app_error(value) {
            assert_eq!(codes::app_error_to_http(code), value);
        }
    }
}

fn frames(data: &[u8]) {
    let mut found = frame::parse_many(data);
    let count = found.by_ref().count();
    assert!(count <= data.len() && found.consumed() <= data.len());
    if let Ok(settings) = settings::decode(data) {
        let mut out = Vec::new();
        settings::encode(&settings, &mut out);
        assert_eq!(settings::decode(&out), Ok(settings));
    }
}

fn capsules(data: &[u8]) {
    if let Ok(Some((header, used))) = capsule::decode_header(data) {
        if let Ok(capsule) = capsule::decode_payload(header.ty, &data[used..]) {
            let mut out = Vec::new();
            capsule::encode(&capsule, &mut out);
            let (header, used) = capsule::decode_header(&out).expect("valid").expect("whole");
            assert_eq!(
                capsule::decode_payload(header.ty, &out[used..]),
                Ok(capsule)
            );
        }
    }
}

fn headers(data: &[u8]) {
    if let Ok(Some((ty @ UniType::WebTransport { session }, _))) = stream_header::decode_uni(data) {
        let encode = |out: &mut Vec<u8>| stream_header::encode(Dir::Uni, session, out);
        reads_back(&ty, encode, stream_header::decode_uni);
    }
    if let Ok(Some((ty @ BidiType::WebTransport { session }, _))) = stream_header::decode_bidi(data)
    {
        let encode = |out: &mut Vec<u8>| stream_header::encode(Dir::Bidi, session, out);
        reads_back(&ty, encode, stream_header::decode_bidi);
    }
    if let Ok((quarter, start)) = datagram::decode(data) {
        let mut out = Vec::new();
        datagram::encode_prefix(quarter * 4, &mut out);
        let length = out.len();
        out.extend_from_slice(&data[start..]);
        assert_eq!(datagram::decode(&out), Ok((quarter, length)));
    }
}

fn qpack(data: &[u8]) {
    if let Ok(fields) = decode_section(data, MAX_SIZE) {
        let size: usize = fields
            .iter()
            .map(|field| field.name.len() + field.value.len() + 32)
            .sum();
        assert!(size <= MAX_SIZE);
        let mut out = Vec::new();
        encode_section(
            fields.iter().map(|field| (&field.name, &field.value)),
            &mut out,
        );
        assert_eq!(decode_section(&out, MAX_SIZE), Ok(fields));
    }
    if let Ok(lines) = parse_section(data) {
        assert!(lines.count() <= data.len());
    }
    let mut text = Vec::new();
    if huffman::decode(data, MAX_SIZE, &mut text).is_ok() {
        assert!(text.len() <= MAX_SIZE.min(data.len() * 8 / 5 + 1));
        let mut out = Vec::new();
        huffman::encode(&text, huffman::encoded_len(&text), &mut out);
        assert_eq!(out, data);
    }
    if let Ok(Some((instruction, _))) = EncoderInstruction::decode(data) {
        let encode = |out: &mut Vec<u8>| instruction.encode(out);
        let mut out = Vec::new();
        encode(&mut out);
        let used = out.len();
        assert_eq!(
            EncoderInstruction::decode(&out),
            Ok(Some((instruction, used)))
        );
    }
    if let Ok(Some((instruction, _))) = DecoderInstruction::decode(data) {
        reads_back(
            &instruction,
            |out| instruction.encode(out),
            DecoderInstruction::decode,
        );
    }
    let whole = EncoderStream.feed(data);
    assert_eq!(
        data.iter()
            .try_for_each(|&byte| EncoderStream.feed(&[byte])),
        whole
    );
    let whole = DecoderStream::default().feed(data);
    let mut stream = DecoderStream::default();
    assert_eq!(
        data.iter().try_for_each(|&byte| stream.feed(&[byte])),
        whole
    );
}

fn quic(data: &[u8]) {
    if let Ok(Some((frame, _))) = ResetStreamAt::decode(data) {
        assert!(frame.reliable_size <= frame.final_size);
        let mut out = Vec::new();
        frame.encode(&mut out);
        // The type comes first.
        let used = out.len() - 1;
        assert_eq!(ResetStreamAt::decode(&out[1..]), Ok(Some((frame, used))));
    }
    for parameter in parse_transport_parameters(data).flatten() {
        let _ = parameter.number();
        let _ = parameter.announces_reset_stream_at();
    }
    if let Ok(context) = ExporterContext::decode(data) {
        let mut out = Vec::new();
        context.encode(&mut out).expect("fits");
        assert_eq!(ExporterContext::decode(&out), Ok(context));
    }
}

fn fields(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    assert!(text.starts_with(capsule::truncate_reason(text)));
    if let Some(strings) = structured_field::parse_string_list(text) {
        if !strings.is_empty() {
            let list = structured_field::format_string_list(&strings).expect("was parsed");
            assert_eq!(structured_field::parse_string_list(&list), Some(strings));
        }
    }
    if let Some(string) = structured_field::parse_string_item(text) {
        let item = structured_field::format_string_item(&string).expect("was parsed");
        assert_eq!(structured_field::parse_string_item(&item), Some(string));
    }
}

fuzz_target!(|data: &[u8]| {
    numbers(data);
    frames(data);
    capsules(data);
    headers(data);
    qpack(data);
    quic(data);
    fields(data);
});
