//! The frames of a packet in the words of qlog (draft-ietf-quic-qlog-quic-events-01 §4.3), without
//! what they carry: no data, no tokens.

use serde_json::{json, Value};

use super::*;

/// Frames of one packet and ranges of its ACK frames that are described; the rest is left out. A
/// packet full of the shortest would make a record of a megabyte.
pub(crate) const MAX_DESCRIBED: usize = 256;

/// What is known of the frames; ends at one that is not.
pub(crate) fn describe(payload: &[u8]) -> Value {
    let mut cursor = Cursor { payload, at: 0 };
    let mut frames = Vec::new();
    let mut left = MAX_DESCRIBED;
    while left > 0 {
        left -= 1;
        let Some(frame) = next(&mut cursor, &mut left) else {
            break;
        };
        frames.push(frame);
    }
    Value::Array(frames)
}

fn next(cursor: &mut Cursor<'_>, left: &mut usize) -> Option<Value> {
    let kind = cursor.varint()?;
    Some(match kind {
        PADDING => {
            let size = padding(cursor.payload.get(cursor.at..)?);
            cursor.at += size;
            json!({"frame_type": "padding", "payload_length": size + 1})
        }
        PING => json!({"frame_type": "ping"}),
        HANDSHAKE_DONE => json!({"frame_type": "handshake_done"}),
        IMMEDIATE_ACK => json!({"frame_type": "immediate_ack"}),
        ACK | ACK_ECN => ack(cursor, kind, left)?,
        RESET_STREAM | RESET_STREAM_AT => {
            let id = cursor.varint()?;
            let code = cursor.varint()?;
            let size = cursor.varint()?;
            let mut frame = json!({
                "frame_type": "reset_stream",
                "stream_id": id,
                "error_code": code,
                "final_size": size,
            });
            if kind == RESET_STREAM_AT {
                frame["frame_type"] = json!("reset_stream_at");
                frame["reliable_size"] = json!(cursor.varint()?);
            }
            frame
        }
        STOP_SENDING => json!({
            "frame_type": "stop_sending",
            "stream_id": cursor.varint()?,
            "error_code": cursor.varint()?,
        }),
        CRYPTO => {
            let offset = cursor.varint()?;
            let len = cursor.varint()?;
            cursor.skip(len)?;
            json!({"frame_type": "crypto", "offset": offset, "length": len})
        }
        NEW_TOKEN => {
            let len = cursor.varint()?;
            cursor.skip(len)?;
            json!({"frame_type": "new_token", "length": len})
        }
        STREAM..=STREAM_LAST => {
            let id = cursor.varint()?;
            let offset = if kind & HAS_OFFSET != 0 {
                cursor.varint()?
            } else {
                0
            };
            let len = length(cursor, kind & HAS_LENGTH != 0)?;
            json!({
                "frame_type": "stream",
                "stream_id": id,
                "offset": offset,
                "length": len,
                "fin": kind & HAS_FIN != 0,
            })
        }
        DATAGRAM | DATAGRAM_WITH_LENGTH => {
            let len = length(cursor, kind == DATAGRAM_WITH_LENGTH)?;
            json!({"frame_type": "datagram", "length": len})
        }
        MAX_DATA => json!({"frame_type": "max_data", "maximum": cursor.varint()?}),
        MAX_STREAM_DATA => json!({
            "frame_type": "max_stream_data",
            "stream_id": cursor.varint()?,
            "maximum": cursor.varint()?,
        }),
        MAX_STREAMS_BIDI | MAX_STREAMS_UNI => json!({
            "frame_type": "max_streams",
            "stream_type": direction(kind == MAX_STREAMS_UNI),
            "maximum": cursor.varint()?,
        }),
        DATA_BLOCKED => json!({"frame_type": "data_blocked", "limit": cursor.varint()?}),
        STREAM_DATA_BLOCKED => json!({
            "frame_type": "stream_data_blocked",
            "stream_id": cursor.varint()?,
            "limit": cursor.varint()?,
        }),
        STREAMS_BLOCKED_BIDI | STREAMS_BLOCKED_UNI => json!({
            "frame_type": "streams_blocked",
            "stream_type": direction(kind == STREAMS_BLOCKED_UNI),
            "limit": cursor.varint()?,
        }),
        NEW_CONNECTION_ID => {
            let sequence = cursor.varint()?;
            let retire = cursor.varint()?;
            let len = cursor.byte()?;
            let start = cursor.at;
            cursor.skip(u64::from(len))?;
            let id = hex(cursor.payload.get(start..cursor.at)?);
            cursor.skip(RESET_TOKEN)?;
            json!({
                "frame_type": "new_connection_id",
                "sequence_number": sequence,
                "retire_prior_to": retire,
                "connection_id": id,
            })
        }
        RETIRE_CONNECTION_ID => json!({
            "frame_type": "retire_connection_id",
            "sequence_number": cursor.varint()?,
        }),
        PATH_CHALLENGE | PATH_RESPONSE => {
            cursor.skip(PATH_DATA)?;
            let name = if kind == PATH_CHALLENGE {
                "path_challenge"
            } else {
                "path_response"
            };
            json!({"frame_type": name})
        }
        CONNECTION_CLOSE | APPLICATION_CLOSE => close(cursor, kind)?,
        ACK_FREQUENCY => {
            cursor.varints(4)?;
            json!({"frame_type": "ack_frequency"})
        }
        _ => return None,
    })
}

/// RFC 9000 §19.3.1.
fn ack(cursor: &mut Cursor<'_>, kind: u64, left: &mut usize) -> Option<Value> {
    let start = cursor.at;
    cursor.varints(2)?;
    let ranges = cursor.varint()?;
    cursor.varint()?;
    for _ in 0..ranges {
        cursor.varints(2)?;
    }
    let mut acked = Vec::new();
    acked_ranges(cursor.payload.get(start..cursor.at)?, &mut |range| {
        if *left > 0 {
            *left -= 1;
            acked.push(json!([range.start(), range.end()]));
        }
    });
    let mut frame = json!({"frame_type": "ack", "acked_ranges": acked});
    if kind == ACK_ECN {
        for count in ["ect0", "ect1", "ce"] {
            frame[count] = json!(cursor.varint()?);
        }
    }
    Some(frame)
}

fn close(cursor: &mut Cursor<'_>, kind: u64) -> Option<Value> {
    let is_transport = kind == CONNECTION_CLOSE;
    let code = cursor.varint()?;
    let trigger = if is_transport {
        Some(cursor.varint()?)
    } else {
        None
    };
    let len = cursor.varint()?;
    let start = cursor.at;
    cursor.skip(len)?;
    let reason = String::from_utf8_lossy(cursor.payload.get(start..cursor.at)?);
    let mut frame = json!({
        "frame_type": "connection_close",
        "error_space": if is_transport { "transport" } else { "application" },
        "error_code": code,
        "raw_error_code": code,
        "reason": reason,
    });
    if let Some(trigger) = trigger {
        frame["trigger_frame_type"] = json!(trigger);
    }
    Some(frame)
}

/// Goes behind a frame's data.
fn length(cursor: &mut Cursor<'_>, is_told: bool) -> Option<u64> {
    let len = if is_told {
        cursor.varint()?
    } else {
        (cursor.payload.len() - cursor.at) as u64
    };
    cursor.skip(len)?;
    Some(len)
}

fn direction(is_unidirectional: bool) -> &'static str {
    if is_unidirectional {
        "unidirectional"
    } else {
        "bidirectional"
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
