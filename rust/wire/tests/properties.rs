//! For every codec, on generated values: what is encoded decodes to itself, every truncation is
//! "more is needed" (or an error, for input that is whole by definition) and never another value,
//! and input that arrives byte by byte gives what it gives as a whole. Arbitrary bytes never panic.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use proptest::collection::vec;
use proptest::prelude::*;
use pywt_wire::capsule::{self, Capsule};
use pywt_wire::qpack::instructions::{DecoderInstruction, EncoderInstruction, StringLiteral};
use pywt_wire::qpack::{
    decode_section, encode_section_with, huffman, DecoderStream, EncoderStream, Huffman,
};
use pywt_wire::quic_extras::{
    parse_transport_parameters, ExporterContext, ResetStreamAt, TransportParameter,
};
use pywt_wire::settings::{self, Settings};
use pywt_wire::stream_header::{self, BidiType, UniType};
use pywt_wire::structured_field as sf;
use pywt_wire::{codes, datagram, frame, varint, Dir};

const MAX_SIZE: usize = 1 << 16;

/// Varints of every length with equal probability.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..1u64 << 6, 0..1u64 << 14, 0..1u64 << 30, 0..=varint::MAX]
}

fn session_id() -> impl Strategy<Value = u64> {
    number().prop_map(|n| n & !3)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..80)
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

/// `decode` gives `expected` for the whole, also with more behind it, and `None` for each part.
fn incremental<T: std::fmt::Debug + PartialEq>(
    whole: &[u8],
    expected: T,
    decode: impl Fn(&[u8]) -> Option<(T, usize)>,
) -> Result<(), TestCaseError> {
    let expected = Some((expected, whole.len()));
    for end in 0..whole.len() {
        prop_assert_eq!(decode(&whole[..end]), None);
    }
    prop_assert_eq!(&decode(whole), &expected);
    prop_assert_eq!(&decode(&[whole, &[0xff; 3]].concat()), &expected);
    Ok(())
}

/// Frames of a reader that gets one byte at a time and keeps what is not complete.
fn frames_byte_by_byte(bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut pending = Vec::new();
    let mut found = Vec::new();
    for &byte in bytes {
        pending.push(byte);
        let mut frames = frame::parse_many(&pending);
        found.extend(
            frames
                .by_ref()
                .map(|frame| (frame.ty, frame.payload.to_vec())),
        );
        let consumed = frames.consumed();
        pending.drain(..consumed);
    }
    found
}

fn a_capsule<'a>(kind: u8, number: u64, text: &'a str, payload: &'a [u8]) -> Capsule<'a> {
    let dir = if number & 1 == 0 { Dir::Bidi } else { Dir::Uni };
    let limit = number.min(capsule::MAX_STREAMS);
    match kind % 8 {
        0 => Capsule::Close {
            code: number as u32,
            reason: text,
        },
        1 => Capsule::DataBlocked(number),
        2 => Capsule::Datagram(payload),
        3 => Capsule::Drain,
        4 => Capsule::MaxData(number),
        5 => Capsule::MaxStreams { dir, limit },
        6 => Capsule::StreamsBlocked { dir, limit },
        _ => Capsule::Unknown {
            ty: codes::grease(number),
            payload,
        },
    }
}

fn field() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let from_table = (0..99usize).prop_map(|index| {
        let (name, value) = pywt_wire::qpack::static_table::ENTRIES[index];
        (name.as_bytes().to_vec(), value.as_bytes().to_vec())
    });
    let name_from_table =
        (from_table.clone(), bytes()).prop_map(|((name, _), value)| (name, value));
    let text = "[ -~]{0,200}".prop_map(String::into_bytes);
    prop_oneof![
        from_table,
        name_from_table,
        (bytes(), bytes()),
        (bytes(), text)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn varint(value in number()) {
        let out = encoded(|out| varint::encode(value, out));
        prop_assert_eq!(out.len(), varint::len(value));
        incremental(&out, value, varint::decode)?;
    }

    #[test]
    fn frame_header(ty in number(), len in number()) {
        let out = encoded(|out| frame::encode_header(ty, len, out));
        incremental(&out, frame::Header { ty, len }, frame::decode_header)?;
    }

    #[test]
    fn frames(frames in vec((number(), bytes()), 0..8)) {
        let out = encoded(|out| {
            frames.iter().for_each(|(ty, payload)| frame::encode(*ty, payload, out));
        });
        let whole: Vec<_> =
            frame::parse_many(&out).map(|frame| (frame.ty, frame.payload.to_vec())).collect();
        prop_assert_eq!(&whole, &frames);
        prop_assert_eq!(frames_byte_by_byte(&out), frames.clone());
        for end in 0..out.len() {
            let mut iter = frame::parse_many(&out[..end]);
            let count = iter.by_ref().count();
            prop_assert!(count < frames.len() && iter.consumed() <= end);
        }
    }

    #[test]
    fn settings(pairs in vec((0x40..varint::MAX, number()), 0..40)) {
        let settings: Settings = pairs.into_iter().collect();
        let out = encoded(|out| settings::encode(&settings, out));
        prop_assert_eq!(settings::decode(&out), Ok(settings.clone()));
        for end in 0..out.len() {
            match settings::decode(&out[..end]) {
                // Cut between two settings.
                Ok(part) => prop_assert!(settings.iter().take(part.len()).eq(part.iter())),
                Err(error) => prop_assert_eq!(error, settings::SettingsError::Truncated),
            }
        }
    }

    #[test]
    fn capsule(kind: u8, number in number(), text in "\\PC{0,200}", payload in bytes()) {
        let capsule = a_capsule(kind, number, &text, &payload);
        let out = encoded(|out| capsule::encode(&capsule, out));
        let (header, start) = capsule::decode_header(&out).unwrap().unwrap();
        prop_assert_eq!((header.ty, header.len as usize), (capsule.ty(), out.len() - start));
        prop_assert_eq!(capsule::decode_payload(header.ty, &out[start..]), Ok(capsule));
        let decode = |part: &[u8]| capsule::decode_header(part).unwrap();
        incremental(&out[..start], header, decode)?;
        for end in start..out.len() {
            // A payload is whole by definition. A shorter one is refused unless any length will do.
            let decoded = capsule::decode_payload(header.ty, &out[start..end]);
            let any_length = matches!(
                capsule,
                Capsule::Close { .. } | Capsule::Datagram(_) | Capsule::Unknown { .. }
            );
            prop_assert!(any_length || decoded.is_err());
            prop_assert_ne!(decoded, Ok(capsule));
        }
    }

    #[test]
    fn stream_header(session in session_id()) {
        let out = encoded(|out| stream_header::encode(Dir::Uni, session, out));
        incremental(&out, UniType::WebTransport { session }, |part| {
            stream_header::decode_uni(part).unwrap()
        })?;
        let out = encoded(|out| stream_header::encode(Dir::Bidi, session, out));
        incremental(&out, BidiType::WebTransport { session }, |part| {
            stream_header::decode_bidi(part).unwrap()
        })?;
    }

    #[test]
    fn stream_header_of_a_wrong_session(session in number(), low in 1..4u64) {
        let session = session & !3 | low;
        let out = encoded(|out| stream_header::encode(Dir::Uni, session, out));
        for end in 0..out.len() {
            prop_assert_eq!(stream_header::decode_uni(&out[..end]), Ok(None));
        }
        let refused = stream_header::decode_uni(&out).map_err(|error| error.code());
        prop_assert_eq!(refused, Err(codes::error::H3_ID_ERROR));
    }

    #[test]
    fn datagram(session in session_id(), payload in bytes()) {
        let mut out = encoded(|out| datagram::encode_prefix(session, out));
        let start = out.len();
        out.extend_from_slice(&payload);
        prop_assert_eq!(datagram::decode(&out), Ok((session / 4, start)));
        for end in 0..start {
            prop_assert_eq!(datagram::decode(&out[..end]), Err(datagram::DatagramError::Truncated));
        }
    }

    #[test]
    fn huffman_string(input in bytes(), text in "[ -~]{0,200}") {
        for input in [&input[..], text.as_bytes()] {
            let out = encoded(|out| huffman::encode(input, huffman::encoded_len(input), out));
            prop_assert_eq!(out.len(), huffman::encoded_len(input));
            let mut decoded = Vec::new();
            prop_assert_eq!(huffman::decode(&out, input.len(), &mut decoded), Ok(()));
            prop_assert_eq!(&decoded, input);
            for end in 0..out.len() {
                if huffman::decode(&out[..end], MAX_SIZE, &mut decoded).is_ok() {
                    prop_assert!(input.starts_with(&decoded) && decoded.len() < input.len());
                }
            }
        }
    }

    #[test]
    fn field_section(fields in vec(field(), 0..12), with_huffman: bool) {
        let policy = if with_huffman { Huffman::WhenShorter } else { Huffman::Never };
        let mut ends = Vec::new();
        for count in 0..=fields.len() {
            let part = fields.iter().take(count).map(|(name, value)| (name, value));
            ends.push(encoded(|out| encode_section_with(part, policy, out)));
        }
        let out = ends.last().cloned().unwrap();
        let decoded = decode_section(&out, MAX_SIZE).unwrap();
        let same = decoded.iter().map(|field| (field.name.to_vec(), field.value.to_vec()));
        prop_assert!(same.eq(fields.iter().cloned()));
        for end in 0..out.len() {
            // Only a cut between two fields leaves a section.
            let boundary = ends.iter().position(|part| part.len() == end);
            let count = decode_section(&out[..end], MAX_SIZE).map(|fields| fields.len()).ok();
            prop_assert_eq!(count, boundary);
        }
        let size: usize =
            fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        prop_assert!(decode_section(&out, size).is_ok());
        if let Some(short) = size.checked_sub(1) {
            prop_assert!(decode_section(&out, short).unwrap_err().is_limit());
        }
    }

    #[test]
    fn encoder_instruction(kind in 0..4u8, index in number(), is_static: bool, is_huffman: bool,
                           name in bytes(), value in bytes()) {
        let name = StringLiteral { is_huffman, bytes: &name };
        let value = StringLiteral { is_huffman: !is_huffman, bytes: &value };
        let instruction = match kind {
            0 => EncoderInstruction::Duplicate(index),
            1 => EncoderInstruction::InsertLiteral { name, value },
            2 => EncoderInstruction::InsertNameReference { is_static, index, value },
            _ => EncoderInstruction::SetCapacity(index),
        };
        let out = encoded(|out| instruction.encode(out));
        for end in 0..out.len() {
            prop_assert_eq!(EncoderInstruction::decode(&out[..end]), Ok(None));
        }
        prop_assert_eq!(EncoderInstruction::decode(&out), Ok(Some((instruction, out.len()))));
    }

    #[test]
    fn decoder_instruction(kind in 0..3u8, number in 1..=varint::MAX) {
        let instruction = match kind {
            0 => DecoderInstruction::InsertCountIncrement(number),
            1 => DecoderInstruction::SectionAcknowledgment(number),
            _ => DecoderInstruction::StreamCancellation(number),
        };
        let out = encoded(|out| instruction.encode(out));
        incremental(&out, instruction, |part| DecoderInstruction::decode(part).unwrap())?;
    }

    #[test]
    fn instruction_streams_in_pieces(bytes in vec(prop_oneof![Just(0x20), Just(0x7f), any::<u8>()], 0..40)) {
        let whole = EncoderStream.feed(&bytes);
        prop_assert_eq!(bytes.iter().try_for_each(|&byte| EncoderStream.feed(&[byte])), whole);
        let whole = DecoderStream::default().feed(&bytes);
        let mut stream = DecoderStream::default();
        prop_assert_eq!(bytes.iter().try_for_each(|&byte| stream.feed(&[byte])), whole);
    }

    #[test]
    fn reset_stream_at(stream_id in number(), code in number(), sizes in (number(), number())) {
        let (final_size, reliable_size) = (sizes.0.max(sizes.1), sizes.0.min(sizes.1));
        let frame = ResetStreamAt { stream_id, code, final_size, reliable_size };
        let out = encoded(|out| frame.encode(out));
        incremental(&out[1..], frame, |part| ResetStreamAt::decode(part).unwrap())?;
    }

    #[test]
    fn transport_parameters(parameters in vec((number(), bytes()), 0..6)) {
        let parameters: Vec<_> =
            parameters.iter().map(|(id, value)| TransportParameter { id: *id, value }).collect();
        let out = encoded(|out| parameters.iter().for_each(|parameter| parameter.encode(out)));
        let decoded: Result<Vec<_>, _> = parse_transport_parameters(&out).collect();
        prop_assert_eq!(decoded.as_ref(), Ok(&parameters));
        for end in 0..out.len() {
            let found: Vec<_> = parse_transport_parameters(&out[..end]).collect();
            let whole = found.iter().filter_map(|found| found.ok()).count();
            prop_assert!(whole < parameters.len() && found.len() - whole <= 1);
        }
    }

    #[test]
    fn exporter_context(session_id in number(), label in bytes(), context in bytes()) {
        let value = ExporterContext { session_id, label: &label, context: &context };
        let out = encoded(|out| value.encode(out).unwrap());
        prop_assert_eq!(ExporterContext::decode(&out), Ok(value));
        for end in 0..out.len() {
            prop_assert!(ExporterContext::decode(&out[..end]).is_err());
        }
    }

    #[test]
    fn structured_field(strings in vec("[ -~]{0,20}", 0..6)) {
        let list = sf::format_string_list(&strings).unwrap();
        prop_assert_eq!(sf::parse_string_list(&list), Some(strings.clone()));
        for end in 0..list.len() {
            if let Some(part) = sf::parse_string_list(&list[..end]) {
                prop_assert!(strings.starts_with(&part) && part.len() < strings.len());
            }
        }
        for string in &strings {
            let item = sf::format_string_item(string).unwrap();
            prop_assert_eq!(sf::parse_string_item(&item), Some(string.clone()));
            for end in 0..item.len() {
                prop_assert_eq!(sf::parse_string_item(&item[..end]), None);
            }
        }
    }

    #[test]
    fn application_error_codes(code: u32) {
        let http = codes::app_error_to_http(code);
        prop_assert_eq!(codes::http_to_app_error(http), Some(code));
    }

    #[test]
    fn no_bytes_panic(input in vec(any::<u8>(), 0..200), ty in number(), text in "\\PC{0,40}") {
        let _ = varint::decode(&input);
        let _ = frame::parse_many(&input).count();
        let _ = settings::decode(&input);
        let _ = capsule::decode_header(&input);
        let _ = capsule::decode_payload(ty, &input);
        let _ = stream_header::decode_uni(&input);
        let _ = stream_header::decode_bidi(&input);
        let _ = datagram::decode(&input);
        let _ = decode_section(&[&[0, 0], &input[..]].concat(), MAX_SIZE);
        let _ = EncoderInstruction::decode(&input);
        let _ = DecoderInstruction::decode(&input);
        let _ = ResetStreamAt::decode(&input);
        let _ = parse_transport_parameters(&input).count();
        let _ = ExporterContext::decode(&input);
        let _ = huffman::decode(&input, MAX_SIZE, &mut Vec::new());
        let _ = sf::parse_string_list(&text);
        let _ = sf::parse_string_item(&text);
        let _ = codes::http_to_app_error(ty);
    }
}
