//! The shared test vectors, each checked for what its kind means: what decodes equals what the
//! entry says, what is canonical encodes to its bytes, what is invalid gives its error code.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::fs;

use pywt_wire::capsule::{self, Capsule};
use pywt_wire::codes::{self, error, quic_error, ErrorCode};
use pywt_wire::qpack::instructions::{DecoderInstruction, EncoderInstruction};
use pywt_wire::qpack::{
    decode_section, encode_section, encode_section_with, DecoderStream, EncoderStream, Huffman,
};
use pywt_wire::quic_extras::{parse_transport_parameters, ExporterContext, ResetStreamAt};
use pywt_wire::settings::{self, Settings};
use pywt_wire::stream_header::{self, BidiType, UniType};
use pywt_wire::{datagram, frame, varint, Dir};
use serde_json::Value;
use support::{data, Pair};

struct Vector(Value);

impl Vector {
    fn str(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap()
    }

    fn int(&self, key: &str) -> u64 {
        self.0[key].as_u64().unwrap()
    }

    fn id(&self) -> &str {
        self.str("id")
    }

    fn valid(&self) -> bool {
        self.0["valid"].as_bool().unwrap_or(true)
    }

    fn bytes(&self) -> Vec<u8> {
        unhex(self.str("hex"))
    }

    /// The number after the last `0x` of the note.
    fn code(&self) -> u64 {
        let digits = self.str("note").rsplit_once("0x").unwrap().1;
        let end = digits
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(digits.len());
        u64::from_str_radix(&digits[..end], 16).unwrap()
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
        .collect()
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn varint_kind(v: &Vector) {
    let bytes = v.bytes();
    if !v.valid() {
        assert_eq!(varint::decode(&bytes), None);
        return;
    }
    let input = v.int("input");
    assert_eq!(varint::decode(&bytes), Some((input, bytes.len())));
    if v.0["minimal"].as_bool() != Some(false) {
        assert_eq!(encoded(|out| varint::encode(input, out)), bytes);
        assert_eq!(varint::len(input), bytes.len());
    }
}

fn identifier_kind(v: &Vector) {
    let (name, _) = v.str("input").split_once(" = ").unwrap();
    let ours = match name {
        "WT stream signal" => codes::frame::WT_STREAM,
        "WT uni stream type" => codes::stream::WT_STREAM,
        "CLOSE_SESSION" => codes::capsule::WT_CLOSE_SESSION,
        "DRAIN_SESSION" => codes::capsule::WT_DRAIN_SESSION,
        "WT_MAX_DATA" => codes::capsule::WT_MAX_DATA,
        "WT_MAX_STREAMS bidi" => codes::capsule::WT_MAX_STREAMS_BIDI,
        "WT_MAX_STREAMS uni" => codes::capsule::WT_MAX_STREAMS_UNI,
        "WT_DATA_BLOCKED" => codes::capsule::WT_DATA_BLOCKED,
        "WT_STREAMS_BLOCKED bidi" => codes::capsule::WT_STREAMS_BLOCKED_BIDI,
        "WT_STREAMS_BLOCKED uni" => codes::capsule::WT_STREAMS_BLOCKED_UNI,
        "ENABLE_WEBTRANSPORT d02" => codes::setting::ENABLE_WEBTRANSPORT_DRAFT02,
        "MAX_SESSIONS d07" => codes::setting::WT_MAX_SESSIONS_DRAFT07,
        "WT_MAX_SESSIONS d13" => codes::setting::WT_MAX_SESSIONS_DRAFT13,
        "WT_ENABLED d15" => codes::setting::WT_ENABLED,
        "H3_DATAGRAM d04" => codes::setting::H3_DATAGRAM_DRAFT04,
        "INITIAL_MAX_DATA" => codes::setting::WT_INITIAL_MAX_DATA,
        "INITIAL_MAX_STREAMS_UNI" => codes::setting::WT_INITIAL_MAX_STREAMS_UNI,
        "INITIAL_MAX_STREAMS_BIDI" => codes::setting::WT_INITIAL_MAX_STREAMS_BIDI,
        "PRIORITY_UPDATE request" => codes::frame::PRIORITY_UPDATE_REQUEST,
        "PRIORITY_UPDATE push" => codes::frame::PRIORITY_UPDATE_PUSH,
        other => panic!("unknown identifier {other}"),
    };
    assert_eq!(ours, v.int("value"));
    assert_eq!(encoded(|out| varint::encode(ours, out)), v.bytes());
}

fn frame_kind(v: &Vector) {
    let bytes = v.bytes();
    let mut frames = frame::parse_many(&bytes);
    let frame = frames.next().unwrap();
    assert_eq!((frames.next(), frames.consumed()), (None, bytes.len()));
    let (ty, payload): (u64, &[u8]) = match v.id() {
        "frame-01" => (codes::frame::DATA, b"hi"),
        "frame-02" => (codes::frame::GOAWAY, &[8]),
        "frame-03" => (codes::frame::MAX_PUSH_ID, &[0]),
        "frame-04" => (codes::frame::CANCEL_PUSH, &[0]),
        "frame-05" => (codes::grease(0), &[1, 2, 3]),
        "frame-06" => (codes::grease(1), &[]),
        "frame-07" => (0x02, &[]),
        "frame-08" => (codes::frame::PRIORITY_UPDATE_REQUEST, b"\x04u=1,i"),
        // The section of qpack-08, which is checked there.
        "frame-09" => (codes::frame::HEADERS, &bytes[3..]),
        other => panic!("unknown frame vector {other}"),
    };
    assert_eq!((frame.ty, frame.payload), (ty, payload));
    assert_eq!(frame::is_reserved_http2(frame.ty), !v.valid());
    assert_eq!(
        frame::is_grease(frame.ty),
        v.str("input").starts_with("GREASE")
    );
    assert_eq!(encoded(|out| frame::encode(ty, payload, out)), bytes);
}

fn settings_kind(v: &Vector) {
    let bytes = v.bytes();
    let frame = frame::parse_many(&bytes).next().unwrap();
    assert_eq!(frame.ty, codes::frame::SETTINGS);
    let decoded = settings::decode(frame.payload);
    if v.valid() {
        let pairs = v.0["pairs"].as_array().unwrap();
        let pairs: Settings = pairs
            .iter()
            .map(|pair| (pair[0].as_u64().unwrap(), pair[1].as_u64().unwrap()))
            .collect();
        assert_eq!(decoded.as_ref(), Ok(&pairs));
        assert_eq!(pairs.check_wt_enabled(), Ok(()));
        assert_eq!(encoded(|out| settings::encode(&pairs, out)), frame.payload);
    } else {
        let checked = decoded.and_then(|settings| settings.check_wt_enabled());
        let expected = if v.str("note").contains("0x106") {
            error::H3_FRAME_ERROR
        } else {
            assert!(v.str("note").contains("0x109"));
            error::H3_SETTINGS_ERROR
        };
        assert_eq!(checked.map_err(|e| e.code()), Err(expected));
    }
}

fn stream_kind(v: &Vector) {
    let bytes = v.bytes();
    let ty = match v.id() {
        "stream-01" => UniType::Control,
        "stream-02" => UniType::QpackEncoder,
        "stream-03" => UniType::QpackDecoder,
        other => panic!("unknown stream vector {other}"),
    };
    assert_eq!(stream_header::decode_uni(&bytes), Ok(Some((ty, 1))));
    if ty == UniType::Control {
        let frame = frame::parse_many(&bytes[1..]).next().unwrap();
        let settings = settings::decode(frame.payload).unwrap();
        assert_eq!(settings.get(codes::setting::WT_ENABLED), Some(1));
    } else {
        assert_eq!(bytes.len(), 1);
    }
}

fn wt_stream_kind(v: &Vector) {
    let bytes = v.bytes();
    if !v.valid() {
        let refused = stream_header::decode_uni(&bytes);
        assert_eq!(refused.map_err(|e| e.code()), Err(v.code()));
        return;
    }
    let session = v.int("session");
    let (dir, len) = if v.0["uni"].as_bool().unwrap() {
        let (ty, len) = stream_header::decode_uni(&bytes).unwrap().unwrap();
        assert_eq!(ty, UniType::WebTransport { session });
        (Dir::Uni, len)
    } else {
        let (ty, len) = stream_header::decode_bidi(&bytes).unwrap().unwrap();
        assert_eq!(ty, BidiType::WebTransport { session });
        (Dir::Bidi, len)
    };
    let body: &[u8] = if v.str("input").contains("hello") {
        b"hello"
    } else {
        b""
    };
    assert_eq!(&bytes[len..], body);
    if v.str("input").contains("8 bytes long") {
        assert_eq!(len, 16);
    } else {
        assert_eq!(
            encoded(|out| stream_header::encode(dir, session, out)),
            &bytes[..len]
        );
    }
}

fn datagram_kind(v: &Vector) {
    let bytes = v.bytes();
    if !v.valid() {
        assert_eq!(
            datagram::decode(&bytes).map_err(|e| e.code()),
            Err(v.code())
        );
        return;
    }
    let session = v.int("session");
    let (quarter, start) = datagram::decode(&bytes).unwrap();
    assert_eq!(quarter * 4, session);
    let payload: &[u8] = if v.str("input").contains("empty") {
        &[]
    } else {
        &[0xde, 0xad, 0xbe, 0xef]
    };
    assert_eq!(&bytes[start..], payload);
    assert_eq!(
        encoded(|out| datagram::encode_prefix(session, out)),
        &bytes[..start]
    );
    assert_eq!(datagram::prefix_len(session), start);
}

fn capsule_kind(v: &Vector) {
    let bytes = v.bytes();
    let decoded = capsule::decode_header(&bytes)
        .map(Option::unwrap)
        .and_then(|(header, start)| {
            assert_eq!(header.len as usize, bytes.len() - start);
            capsule::decode_payload(header.ty, &bytes[start..])
        });
    if !v.valid() {
        let expected = match v.id() {
            "capsule-15" => error::WT_FLOW_CONTROL_ERROR,
            _ => error::H3_MESSAGE_ERROR,
        };
        assert_eq!(decoded.map_err(|e| e.code()), Err(expected));
        return;
    }
    let expected = match v.id() {
        "capsule-01" => Capsule::Close {
            code: 0,
            reason: "",
        },
        "capsule-02" => Capsule::Close {
            code: 420,
            reason: "bye",
        },
        "capsule-03" => Capsule::Close {
            code: u32::MAX,
            reason: "\u{e9}",
        },
        "capsule-07" => Capsule::Drain,
        "capsule-08" => Capsule::Datagram(b"x"),
        "capsule-09" => Capsule::MaxData(v.int("value")),
        "capsule-10" => Capsule::MaxStreams {
            dir: Dir::Bidi,
            limit: v.int("value"),
        },
        "capsule-11" => Capsule::MaxStreams {
            dir: Dir::Uni,
            limit: v.int("value"),
        },
        "capsule-12" => Capsule::DataBlocked(v.int("value")),
        "capsule-13" => Capsule::StreamsBlocked {
            dir: Dir::Bidi,
            limit: v.int("value"),
        },
        "capsule-14" => Capsule::StreamsBlocked {
            dir: Dir::Uni,
            limit: v.int("value"),
        },
        "capsule-19" => Capsule::Unknown {
            ty: 0x1717,
            payload: b"abcde",
        },
        other => panic!("unknown capsule vector {other}"),
    };
    assert_eq!(decoded, Ok(expected));
    assert_eq!(expected.ty(), v.int("type"));
    assert_eq!(encoded(|out| capsule::encode(&expected, out)), bytes);
}

fn connect_stream_kind(v: &Vector) {
    let bytes = v.bytes();
    let mut frames = frame::parse_many(&bytes);
    let mut body = Vec::new();
    for frame in frames.by_ref() {
        match frame.ty {
            codes::frame::DATA => body.extend_from_slice(frame.payload),
            ty => assert!(frame::is_grease(ty)),
        }
    }
    assert_eq!(frames.consumed(), bytes.len());
    let (header, start) = capsule::decode_header(&body).unwrap().unwrap();
    let capsule = capsule::decode_payload(header.ty, &body[start..]);
    assert_eq!(
        capsule,
        Ok(Capsule::Close {
            code: 420,
            reason: "bye"
        })
    );
}

fn error_map_kind(v: &Vector) {
    let http = v.int("http");
    assert_eq!(http, u64::from_str_radix(v.str("hex"), 16).unwrap());
    if !v.valid() {
        assert_eq!(codes::http_to_app_error(http), None);
        return;
    }
    let code = u32::try_from(v.int("input")).unwrap();
    assert_eq!(codes::app_error_to_http(code), http);
    assert_eq!(codes::http_to_app_error(http), Some(code));
    assert_eq!(
        encoded(|out| varint::encode(http, out)),
        unhex(v.str("varint"))
    );
}

fn error_code_kind(v: &Vector) {
    let value = v.int("value");
    assert_eq!(ErrorCode::from_code(value).unwrap().name(), v.str("input"));
    assert_eq!(encoded(|out| varint::encode(value, out)), v.bytes());
}

fn quic_frame_kind(v: &Vector) {
    let bytes = v.bytes();
    let (ty, start) = varint::decode(&bytes).unwrap();
    assert_eq!(ty, codes::quic::RESET_STREAM_AT_FRAME);
    let decoded = ResetStreamAt::decode(&bytes[start..]);
    if !v.valid() {
        assert_eq!(
            decoded.map_err(|e| e.code()),
            Err(Some(quic_error::FRAME_ENCODING_ERROR))
        );
        return;
    }
    let code = codes::app_error_to_http(7);
    let expected = ResetStreamAt {
        stream_id: 8,
        code,
        final_size: 100,
        reliable_size: 3,
    };
    assert_eq!(decoded, Ok(Some((expected, bytes.len() - start))));
    assert_eq!(encoded(|out| expected.encode(out)), bytes);
}

fn transport_param_kind(v: &Vector) {
    let bytes = v.bytes();
    let parameters: Vec<_> = parse_transport_parameters(&bytes).collect();
    let [Ok(parameter)] = parameters[..] else {
        panic!("{parameters:?}")
    };
    let (id, announces) = match v.id() {
        "transport_param-01" => (codes::quic::RESET_STREAM_AT, true),
        "transport_param-02" => (codes::quic::RESET_STREAM_AT_DRAFT05, true),
        // Another frame type goes with it, which nobody speaks any more.
        "transport_param-03" => (codes::quic::RESET_STREAM_AT_DRAFT01, false),
        "transport_param-04" => {
            let size = v.0["tp"]["max_datagram_frame_size"].as_u64().unwrap();
            assert_eq!(parameter.number(), Ok(size));
            (codes::quic::MAX_DATAGRAM_FRAME_SIZE, false)
        }
        other => panic!("unknown transport parameter vector {other}"),
    };
    assert_eq!(
        (parameter.id, parameter.announces_reset_stream_at()),
        (id, Ok(announces))
    );
    assert_eq!(encoded(|out| parameter.encode(out)), bytes);
}

fn exporter_kind(v: &Vector) {
    let bytes = v.bytes();
    let expected = match v.id() {
        "exporter-01" => ExporterContext {
            session_id: 4,
            label: b"my-label",
            context: &[1, 2],
        },
        "exporter-02" => ExporterContext {
            session_id: 0,
            label: b"a",
            context: &[],
        },
        other => panic!("unknown exporter vector {other}"),
    };
    assert_eq!(ExporterContext::decode(&bytes), Ok(expected));
    assert_eq!(encoded(|out| expected.encode(out).unwrap()), bytes);
}

fn qpack_kind(v: &Vector) {
    let bytes = v.bytes();
    let decoded = decode_section(&bytes, 4096);
    if !v.valid() {
        assert_eq!(
            decoded.map_err(|e| e.code()),
            Err(error::QPACK_DECOMPRESSION_FAILED)
        );
        return;
    }
    let text = |value: &Value| value.as_str().unwrap().as_bytes().to_vec();
    let expected: Vec<Pair> = v.0["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| (text(&pair[0]), text(&pair[1])))
        .collect();
    let decoded: Vec<Pair> = decoded
        .unwrap()
        .iter()
        .map(|f| (f.name.to_vec(), f.value.to_vec()))
        .collect();
    assert_eq!(decoded, expected);
    let again = expected.iter().map(|(name, value)| (name, value));
    if v.str("input").contains("Huffman") {
        assert_eq!(encoded(|out| encode_section(again, out)), bytes);
    } else {
        assert_eq!(
            encoded(|out| encode_section_with(again, Huffman::Never, out)),
            bytes
        );
    }
}

fn qpack_instr_kind(v: &Vector) {
    let bytes = v.bytes();
    let input = v.str("input");
    if let Some(input) = input.strip_prefix("encoder: ") {
        let (instruction, len) = EncoderInstruction::decode(&bytes).unwrap().unwrap();
        assert_eq!(len, bytes.len());
        assert_eq!(encoded(|out| instruction.encode(out)), bytes);
        let text = |literal: pywt_wire::qpack::instructions::StringLiteral<'_>| {
            String::from_utf8(literal.decode(100).unwrap()).unwrap()
        };
        let said = match instruction {
            EncoderInstruction::Duplicate(index) => format!("Duplicate {index}"),
            EncoderInstruction::InsertLiteral { name, value } => {
                format!(
                    "Insert literal name {:?} value {:?}",
                    text(name),
                    text(value)
                )
            }
            EncoderInstruction::InsertNameReference {
                is_static,
                index,
                value,
            } => {
                let table = if is_static { "static" } else { "dynamic" };
                format!("Insert name ref {table} {index}, value {:?}", text(value))
            }
            EncoderInstruction::SetCapacity(capacity) => {
                format!("Set Dynamic Table Capacity {capacity}")
            }
        };
        assert_eq!(said, input);
        // Valid on its own, but only the first may be sent when no table was offered.
        let fed = EncoderStream.feed(&bytes).map_err(|e| e.code());
        let harmless = instruction == EncoderInstruction::SetCapacity(0);
        assert_eq!(
            fed,
            if harmless {
                Ok(())
            } else {
                Err(error::QPACK_ENCODER_STREAM_ERROR)
            }
        );
    } else if let Some(input) = input.strip_prefix("decoder: ") {
        let (instruction, len) = DecoderInstruction::decode(&bytes).unwrap().unwrap();
        assert_eq!(len, bytes.len());
        assert_eq!(encoded(|out| instruction.encode(out)), bytes);
        let said = match instruction {
            DecoderInstruction::InsertCountIncrement(count) => {
                format!("Insert Count Increment {count}")
            }
            DecoderInstruction::SectionAcknowledgment(id) => {
                format!("Section Acknowledgment stream {id}")
            }
            DecoderInstruction::StreamCancellation(id) => {
                format!("Stream Cancellation stream {id}")
            }
        };
        assert_eq!(said, input);
        let fed = DecoderStream::default().feed(&bytes).map_err(|e| e.code());
        let harmless = matches!(instruction, DecoderInstruction::StreamCancellation(_));
        assert_eq!(
            fed,
            if harmless {
                Ok(())
            } else {
                Err(error::QPACK_DECODER_STREAM_ERROR)
            }
        );
    } else if input.starts_with("bad decoder: ") {
        assert_eq!(
            DecoderInstruction::decode(&bytes).map_err(|e| e.code()),
            Err(v.code())
        );
        assert_eq!(
            DecoderStream::default().feed(&bytes).map_err(|e| e.code()),
            Err(v.code())
        );
    } else {
        assert_eq!(
            EncoderStream.feed(&bytes).map_err(|e| e.code()),
            Err(v.code())
        );
    }
}

#[test]
fn every_vector_holds() {
    let text = fs::read_to_string(data("vectors.json")).unwrap();
    let vectors: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut counts = BTreeMap::<String, [usize; 2]>::new();
    for vector in vectors.into_iter().map(Vector) {
        let check = match vector.str("kind") {
            "varint" => varint_kind,
            "identifier" => identifier_kind,
            "frame" => frame_kind,
            "settings" => settings_kind,
            "stream" => stream_kind,
            "wt_stream" => wt_stream_kind,
            "datagram" => datagram_kind,
            "capsule" => capsule_kind,
            "connect_stream" => connect_stream_kind,
            "error_map" => error_map_kind,
            "error_code" => error_code_kind,
            "quic_frame" => quic_frame_kind,
            "transport_param" => transport_param_kind,
            "exporter" => exporter_kind,
            "qpack" => qpack_kind,
            "qpack_instr" => qpack_instr_kind,
            other => panic!("unknown kind {other}"),
        };
        // A failing check prints what it compared; this says for which entry.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(&vector)));
        assert!(
            result.is_ok(),
            "{} failed: {}",
            vector.id(),
            vector.str("note")
        );
        counts.entry(vector.str("kind").to_owned()).or_default()[usize::from(!vector.valid())] += 1;
    }
    for (kind, [valid, invalid]) in &counts {
        println!("{kind}: {valid} valid, {invalid} invalid");
    }
    assert_eq!(counts.values().flatten().sum::<usize>(), 167);
}
