//! Every frame that quinn knows, in front of and behind the ones that matter.

use super::described::MAX_DESCRIBED;
use super::*;

/// A packet's frames, built by hand: quinn's own encoders are private.
#[derive(Clone, Debug, Default)]
struct Payload(Vec<u8>);

impl Payload {
    fn varints(mut self, values: &[u64]) -> Self {
        for value in values {
            put_varint(&mut self.0, *value);
        }
        self
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn with(self, other: &Self) -> Self {
        self.bytes(&other.0)
    }
}

fn frames(values: &[u64]) -> Payload {
    Payload::default().varints(values)
}

/// Bodies full of the byte that begins RESET_STREAM_AT. The last two reach to the packet's end.
fn every_other_frame() -> Vec<Payload> {
    const AT: u64 = RESET_STREAM_AT;
    let mut all = vec![
        Payload::default().bytes(&[0; 5]),
        frames(&[PING]),
        frames(&[ACK, AT, AT, 0, AT]),
        frames(&[ACK, AT, AT, 2, AT, AT, AT, AT, AT]),
        frames(&[ACK_ECN, AT, AT, 1, AT, AT, AT, AT, AT, AT]),
        frames(&[STOP_SENDING, AT, AT]),
        frames(&[CRYPTO, AT, 3]).bytes(&[0x24; 3]),
        frames(&[NEW_TOKEN, 4]).bytes(&[0x24; 4]),
        frames(&[MAX_DATA, AT]),
        frames(&[MAX_STREAM_DATA, AT, AT]),
        frames(&[MAX_STREAMS_BIDI, AT]),
        frames(&[MAX_STREAMS_UNI, AT]),
        frames(&[DATA_BLOCKED, AT]),
        frames(&[STREAM_DATA_BLOCKED, AT, AT]),
        frames(&[STREAMS_BLOCKED_BIDI, AT]),
        frames(&[STREAMS_BLOCKED_UNI, AT]),
        frames(&[NEW_CONNECTION_ID, AT, AT, 8]).bytes(&[0x24; 24]),
        frames(&[RETIRE_CONNECTION_ID, AT]),
        frames(&[PATH_CHALLENGE]).bytes(&[0x24; 8]),
        frames(&[PATH_RESPONSE]).bytes(&[0x24; 8]),
        frames(&[CONNECTION_CLOSE, AT, AT, 4]).bytes(&[0x24; 4]),
        frames(&[APPLICATION_CLOSE, AT, 4]).bytes(&[0x24; 4]),
        frames(&[HANDSHAKE_DONE]),
        frames(&[IMMEDIATE_ACK]),
        frames(&[ACK_FREQUENCY, AT, AT, AT, AT]),
        frames(&[DATAGRAM_WITH_LENGTH, 4]).bytes(&[0x24; 4]),
        frames(&[STREAM | HAS_LENGTH, AT, 4]).bytes(&[0x24; 4]),
        frames(&[STREAM | HAS_LENGTH | HAS_OFFSET, AT, AT, 4]).bytes(&[0x24; 4]),
    ];
    // Longer forms of integers and types.
    all.push(Payload::default().bytes(&[0x40, 0x01]));
    all.push(Payload::default().bytes(&[0x80, 0, 0, 0x10, 0xc0, 0, 0, 0, 0, 0, 0x24, 0x24]));
    all
}

fn reset_at(id: u64, code: u64, final_size: u64, reliable_size: u64) -> Payload {
    frames(&[RESET_STREAM_AT, id, code, final_size, reliable_size])
}

fn translated(payload: &Payload) -> (Vec<u8>, Vec<StreamEnd>) {
    let mut bytes = payload.0.clone();
    let mut ends = Vec::new();
    translate(&mut bytes, |end| ends.push(end), |_| ());
    assert_eq!(bytes.len(), payload.0.len());
    (bytes, ends)
}

const CODE: u64 = 0x52e4_a40f_a913;

fn expected_end() -> StreamEnd {
    StreamEnd {
        id: 4,
        final_size: 10,
        how: How::ResetAt {
            code: CODE,
            reliable_size: 3,
        },
    }
}

#[test]
fn reset_stream_at_becomes_an_empty_fin_among_all_other_frames() {
    let fin = frames(&[u64::from(EMPTY_STREAM_FIN), 4, 10, 0]).bytes(&[0; 8]);
    let original = reset_at(4, CODE, 10, 3);
    assert_eq!(original.0.len(), fin.0.len());
    let others = every_other_frame();
    for before in &others {
        for after in &others {
            let payload = before.clone().with(&original).with(after);
            let (bytes, ends) = translated(&payload);
            assert_eq!(bytes, before.clone().with(&fin).with(after).0);
            assert_eq!(ends, [expected_end()]);
        }
    }
    let last = [
        frames(&[DATAGRAM]).bytes(&[0x24; 9]),
        frames(&[STREAM, 0x24]).bytes(&[0x24; 9]),
        frames(&[STREAM | HAS_OFFSET, 0x24, 0x24]).bytes(&[0x24; 9]),
    ];
    for last in &last {
        let (bytes, ends) = translated(&original.clone().with(last));
        assert_eq!(bytes, fin.clone().with(last).0);
        assert_eq!(ends, [expected_end()]);
    }
}

#[test]
fn fields_of_every_size_keep_their_values() {
    let sizes = [
        5,
        0x3f,
        0x40,
        0x3fff,
        0x4000,
        0x3fff_ffff,
        0x4000_0000,
        (1 << 62) - 1,
    ];
    for id in sizes {
        for code in sizes {
            for final_size in sizes {
                for reliable_size in [1, final_size.min(0x3fff), final_size] {
                    let payload = reset_at(id, code, final_size, reliable_size);
                    let (bytes, ends) = translated(&payload);
                    let how = How::ResetAt {
                        code,
                        reliable_size,
                    };
                    assert_eq!(
                        ends,
                        [StreamEnd {
                            id,
                            final_size,
                            how
                        }]
                    );
                    let fin = frames(&[u64::from(EMPTY_STREAM_FIN), id, final_size, 0]);
                    assert_eq!(bytes[..fin.0.len()], fin.0);
                    assert!(bytes[fin.0.len()..].iter().all(|byte| *byte == 0));
                }
            }
        }
    }
}

#[test]
fn nothing_reliable_is_a_plain_reset() {
    let (bytes, ends) = translated(&reset_at(4, 70, 300, 0).with(&frames(&[PING])));
    let plain = frames(&[RESET_STREAM, 4, 70, 300, PADDING, PING]);
    assert_eq!(bytes, plain.0);
    let end = StreamEnd {
        id: 4,
        final_size: 300,
        how: How::Reset,
    };
    assert_eq!(ends, [end]);
    assert_eq!(translated(&plain), (plain.0.clone(), vec![end]));
}

#[test]
fn the_type_may_come_in_a_longer_form() {
    for prefix in [&[0x40][..], &[0x80, 0, 0], &[0xc0, 0, 0, 0, 0, 0, 0]] {
        let payload = Payload::default()
            .bytes(prefix)
            .with(&reset_at(4, CODE, 10, 3));
        let (bytes, ends) = translated(&payload);
        assert_eq!(ends, [expected_end()]);
        assert_eq!(bytes[..4], [EMPTY_STREAM_FIN, 4, 10, 0]);
    }
}

#[test]
fn ends_of_streams_are_seen_in_all_their_forms() {
    let fin = |id, final_size, whole| StreamEnd {
        id,
        final_size,
        how: How::Fin { whole },
    };
    let cases = [
        (
            frames(&[STREAM | HAS_FIN, 8]).bytes(b"abc"),
            fin(8, 3, true),
        ),
        (
            frames(&[STREAM | HAS_FIN | HAS_LENGTH, 8, 3]).bytes(b"abc"),
            fin(8, 3, true),
        ),
        (
            frames(&[STREAM | HAS_FIN | HAS_OFFSET, 8, 500]).bytes(b"abc"),
            fin(8, 503, false),
        ),
        (frames(&[0x0f, 8, 500, 0]), fin(8, 500, false)),
        (frames(&[STREAM | HAS_FIN, 8]), fin(8, 0, true)),
    ];
    for (payload, end) in cases {
        assert_eq!(translated(&payload), (payload.0.clone(), vec![end]));
    }
}

#[test]
fn what_is_cut_off_wrong_or_unknown_is_left_alone() {
    let payload = reset_at(4, CODE, 10, 3);
    for len in 0..payload.0.len() {
        let cut = Payload(payload.0[..len].to_vec());
        assert_eq!(translated(&cut), (cut.0.clone(), Vec::new()));
    }
    let larger = reset_at(4, CODE, 10, 11);
    assert_eq!(translated(&larger), (larger.0.clone(), Vec::new()));
    for unknown in [0x20, 0x21, 0x25, 0x2f, 0x32, 0xae, 0xb0, 0x4000] {
        let payload = frames(&[unknown]).with(&reset_at(4, CODE, 10, 3));
        assert_eq!(translated(&payload), (payload.0.clone(), Vec::new()));
    }
    // No frame ends in the middle, and no cut moves the others.
    for other in every_other_frame() {
        for len in 0..other.0.len() {
            let cut = Payload(other.0[..len].to_vec());
            assert_eq!(translated(&cut).0, cut.0);
        }
    }
}

#[test]
fn random_payloads_keep_their_length_and_never_panic() {
    let mut state = 7_u64;
    let mut random = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize
    };
    for _ in 0..100_000 {
        let len = random() % 60;
        // Mostly small bytes: those are the frame types.
        let bytes: Vec<u8> = (0..len)
            .map(|_| (random() % if random() % 4 == 0 { 256 } else { 0x32 }) as u8)
            .collect();
        translated(&Payload(bytes.clone()));
        let room = random() % 40;
        let mut buffer = bytes;
        buffer.resize(len + room, 0);
        attach(&mut buffer, room, &[prefix(4, b"abcd")]);
        assert_eq!(buffer.len(), len + room);
    }
}

#[test]
fn the_first_frame_of_a_late_stream_is_found_whatever_it_is() {
    // The eighth that a client opens of its kind, bidirectional and unidirectional.
    for id in [7 << 2, 7 << 2 | 2] {
        for frame in [
            frames(&[STREAM, id]),
            frames(&[STREAM | HAS_LENGTH, id, 0]),
            frames(&[RESET_STREAM, id, 0, 0]),
            reset_at(id, 0, 0, 0),
            frames(&[STOP_SENDING, id, 0]),
            frames(&[MAX_STREAM_DATA, id, 0]),
            frames(&[STREAM_DATA_BLOCKED, id, 0]),
        ] {
            let payload = frames(&[PING, MAX_STREAM_DATA, 1 << 2, 0]).with(&frame);
            assert!(reaches_stream(&payload.0, Side::Client, 7), "{payload:?}");
            assert!(!reaches_stream(&payload.0, Side::Client, 8), "{payload:?}");
            assert!(!reaches_stream(&payload.0, Side::Server, 7), "{payload:?}");
        }
    }
}

#[test]
fn one_byte_stays_of_the_padding_that_fills_a_packet_up() {
    for frame in &every_other_frame()[1..] {
        let seen = |payload: &Payload| {
            let mut bytes = payload.0.clone();
            let len = translate(&mut bytes, |_| (), |_| ());
            assert_eq!(useful(&payload.0), len);
            len
        };
        let size = frame.0.len();
        assert_eq!(seen(frame), size);
        let in_front = Payload::default().bytes(&[0; 40]).with(frame);
        assert_eq!(seen(&in_front), 40 + size);
        let reaches_to_the_end = matches!(
            u64::from(frame.0[0]),
            DATAGRAM | STREAM..=STREAM_LAST if frame.0[0] & HAS_LENGTH as u8 == 0
        );
        let kept = if reaches_to_the_end {
            size + 40
        } else {
            size + 1
        };
        assert_eq!(seen(&frame.clone().bytes(&[0; 40])), kept, "{frame:?}");
    }
    assert_eq!(useful(&[]), 0);
    assert_eq!(useful(&[0]), 1);
    assert_eq!(useful(&[0; 1_200]), 1);
    // The end of a cut frame is no PADDING.
    assert_eq!(useful(&[CRYPTO as u8, 0, 9, 0, 0, 0]), 6);
    assert_eq!(useful(&[0x3f, 0, 0, 0]), 4);
}

fn prefix(id: u64, bytes: &[u8]) -> Prefix {
    Prefix {
        id,
        bytes: bytes.into(),
    }
}

fn attached(payload: &Payload, room: usize, prefixes: &[Prefix]) -> Vec<u8> {
    let mut buffer = payload.0.clone();
    buffer.resize(payload.0.len() + room, 0);
    attach(&mut buffer, room, prefixes);
    buffer
}

#[test]
fn a_reset_gets_its_prefix_and_the_room_that_is_left_goes_to_the_front() {
    let prefixes = [prefix(6, b"\x54\x04\x00x"), prefix(70_000, b"\x54\x04")];
    let tail = frames(&[STREAM, 6]).bytes(b"to the end");
    let payload = frames(&[PING, RESET_STREAM, 6, CODE, 100, RESET_STREAM, 10, 1, 2])
        .varints(&[RESET_STREAM, 70_000, CODE, 9])
        .with(&tail);
    let needed: usize = prefixes.iter().map(Prefix::room).sum();
    let expected = frames(&[PING, STREAM | HAS_LENGTH, 6, 4])
        .bytes(b"\x54\x04\x00x")
        .varints(&[RESET_STREAM_AT, 6, CODE, 100, 4, RESET_STREAM, 10, 1, 2])
        .varints(&[STREAM | HAS_LENGTH, 70_000, 2])
        .bytes(b"\x54\x04")
        .varints(&[RESET_STREAM_AT, 70_000, CODE, 9, 2])
        .with(&tail);
    for spare in [0, 1, 30] {
        let expected = Payload::default().bytes(&vec![0; spare]).with(&expected).0;
        assert_eq!(attached(&payload, needed + spare, &prefixes), expected);
    }
}

#[test]
fn without_room_a_reset_stays_plain_and_the_rest_of_the_packet_whole() {
    let prefixes = [prefix(6, b"\x54\x04\x00x")];
    let payload = frames(&[RESET_STREAM, 6, CODE, 100]).with(&frames(&[STREAM, 9]).bytes(b"z"));
    let room = prefixes[0].room() - 1;
    let expected = Payload::default().bytes(&vec![0; room]).with(&payload).0;
    assert_eq!(attached(&payload, room, &prefixes), expected);
    // Larger than the stream ever was.
    let short = frames(&[RESET_STREAM, 6, CODE, 3]);
    let expected = Payload::default().bytes(&[0; 40]).with(&short).0;
    assert_eq!(attached(&short, 40, &prefixes), expected);
}

#[test]
fn acknowledged_packets_and_datagrams_are_seen() {
    let acked = |payload: &Payload| {
        let mut ranges = Vec::new();
        translate(&mut payload.0.clone(), |_| (), |range| ranges.push(range));
        ranges
    };
    assert_eq!(acked(&frames(&[ACK, 9, 0, 0, 3])), [6..=9]);
    let many = frames(&[PING, ACK_ECN, 1000, 5, 2, 0, 0, 9, 88, 100, 1, 2, 3, PING]);
    assert_eq!(acked(&many), [1000..=1000, 989..=998, 799..=899]);
    // Below 0.
    assert_eq!(acked(&frames(&[ACK, 9, 0, 1, 3, 5, 0])), [6..=9]);
    let datagrams = frames(&[DATAGRAM_WITH_LENGTH, 2])
        .bytes(&[0x31; 2])
        .varints(&[PING, DATAGRAM_WITH_LENGTH, 0, DATAGRAM])
        .bytes(&[0x30; 9]);
    assert_eq!(count_datagrams(&datagrams.0), 3);
    assert_eq!(count_datagrams(&many.0), 0);
}

#[test]
fn every_frame_is_described_and_none_that_is_cut_short() {
    for other in every_other_frame() {
        let whole = describe(&other.0);
        let [frame] = &whole.as_array().unwrap()[..] else {
            panic!("{whole} of {other:?}");
        };
        assert!(frame["frame_type"].is_string());
        for len in 0..other.0.len() {
            let described = describe(&other.0[..len]);
            let frames = described.as_array().unwrap();
            // PADDING and what reaches to the end of a packet are whole however long they are.
            assert!(frames.is_empty() || whole[0]["frame_type"] == frames[0]["frame_type"]);
        }
    }
    let payload = frames(&[PING, RESET_STREAM_AT, 4, 5, 6, 3, 0x4321, PING]);
    assert_eq!(
        describe(&payload.0),
        serde_json::json!([
            {"frame_type": "ping"},
            {
                "frame_type": "reset_stream_at",
                "stream_id": 4,
                "error_code": 5,
                "final_size": 6,
                "reliable_size": 3,
            },
        ])
    );
}

#[test]
fn a_packet_full_of_small_frames_is_described_in_part() {
    let count = |payload: &[u8]| describe(payload).as_array().unwrap().len();
    assert_eq!(count(&[1; MAX_DESCRIBED]), MAX_DESCRIBED);
    assert_eq!(count(&[1; MAX_DESCRIBED + 1]), MAX_DESCRIBED);
    let ranges = |more: usize| {
        let ack = frames(&[ACK, 1 << 20, 0, more as u64, 0]).bytes(&vec![0; 2 * more]);
        describe(&ack.0)[0]["acked_ranges"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(ranges(MAX_DESCRIBED - 2), MAX_DESCRIBED - 1);
    assert_eq!(ranges(MAX_DESCRIBED), MAX_DESCRIBED - 1);
}
