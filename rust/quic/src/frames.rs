//! The frames of a packet, as far as the ends of streams are concerned, which quinn does not tell:
//! final sizes, and RESET_STREAM_AT (draft-ietf-quic-reliable-stream-reset), which it does not know.
//!
//! To be removed when quinn-proto has the frame (<https://github.com/quinn-rs/quinn/issues/2676>)
//! and tells final sizes. Until then the walk must agree with quinn about every frame. Where it
//! stops, at a frame that neither knows, nothing is lost: quinn ends the connection there.

use std::ops::RangeInclusive;

use quinn_proto::Side;

mod described;

pub(crate) use described::describe;

/// How a stream of the peer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamEnd {
    pub(crate) id: u64,
    pub(crate) final_size: u64,
    pub(crate) how: How,
}

/// What ended a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// A STREAM frame with FIN; whether it carries the whole stream.
    Fin { whole: bool },
    /// RESET_STREAM, or RESET_STREAM_AT of which nothing is reliable.
    Reset,
    /// RESET_STREAM_AT.
    ResetAt { code: u64, reliable_size: u64 },
}

/// Reports the ends of streams in the frames of a received packet, and turns what quinn does not
/// know into what it does: RESET_STREAM_AT is to the stream's state what FIN is ("Size Known"), so
/// an empty STREAM frame with FIN takes its place, and PADDING the rest. `acked` is told which
/// packets the peer has. Returns how much of the packet quinn should see, as [`useful`] does.
pub(crate) fn translate(
    payload: &mut [u8],
    mut report: impl FnMut(StreamEnd),
    mut acked: impl FnMut(RangeInclusive<u64>),
) -> usize {
    let mut walk = Walk::default();
    while let Some(frame) = walk.next(payload) {
        if let Body::Ack = frame.body {
            acked_ranges(&payload[frame.body_start..frame.end], &mut acked);
            continue;
        }
        let Some((end, parts)) = frame.end() else {
            continue;
        };
        if let Some(Parts { id, code, size }) = parts {
            let bytes = &mut payload[frame.start..frame.end];
            let is_plain = end.how == How::Reset;
            let mut at = 1;
            let kept = if is_plain {
                [id, code, size]
            } else {
                [id, size, Part::default()]
            };
            bytes[0] = if is_plain {
                RESET_STREAM as u8
            } else {
                EMPTY_STREAM_FIN
            };
            for part in kept {
                bytes.copy_within(part.start..part.end, at);
                at += part.end - part.start;
            }
            bytes[at..].fill(PADDING as u8);
        }
        report(end);
    }
    walk.useful(payload)
}

/// Bytes of a packet without the PADDING that fills it up, of which one byte stays: it counts as a
/// frame (RFC 9000 §12.4). quinn takes every byte of it for a frame, and the first packets of a
/// connection have hundreds.
pub(crate) fn useful(payload: &[u8]) -> usize {
    let mut walk = Walk::default();
    while walk.next(payload).is_some() {}
    walk.useful(payload)
}

/// The beginning of a stream, which its reset must not take with it.
#[derive(Debug)]
pub(crate) struct Prefix {
    pub(crate) id: u64,
    pub(crate) bytes: Box<[u8]>,
}

impl Prefix {
    /// How much longer than a RESET_STREAM frame what [`attach`] writes is.
    pub(crate) fn room(&self) -> usize {
        let size = self.bytes.len() as u64;
        1 + varint_len(self.id) + 2 * varint_len(size) + self.bytes.len()
    }
}

/// Makes reliable resets of the RESET_STREAM frames whose streams have a prefix: STREAM with the
/// prefix, then RESET_STREAM_AT. quinn repeats a lost RESET_STREAM, and each copy comes here.
///
/// `buffer` is the frames, and then `room` free bytes. They are used up: what is not needed becomes
/// PADDING in front, because the last frame may be one that ends with the packet. Where the room
/// does not suffice, RESET_STREAM stays. Returns how many bytes of PADDING are in front.
pub(crate) fn attach(buffer: &mut [u8], room: usize, prefixes: &[Prefix]) -> usize {
    let size = buffer.len().saturating_sub(room);
    let mut left = room;
    let mut frames = Vec::new();
    let mut copied = 0;
    let mut walk = Walk::default();
    while let Some(frame) = walk.next(&buffer[..size]) {
        let Body::Reset { id, final_size, .. } = frame.body else {
            continue;
        };
        let Some(prefix) = prefixes.iter().find(|prefix| prefix.id == id) else {
            continue;
        };
        let reliable_size = prefix.bytes.len() as u64;
        if prefix.room() > left || reliable_size > final_size {
            continue;
        }
        left -= prefix.room();
        frames.extend_from_slice(&buffer[copied..frame.start]);
        frames.push(STREAM_WITH_LENGTH);
        put_varint(&mut frames, id);
        put_varint(&mut frames, reliable_size);
        frames.extend_from_slice(&prefix.bytes);
        frames.push(RESET_STREAM_AT as u8);
        frames.extend_from_slice(&buffer[frame.body_start..frame.end]);
        put_varint(&mut frames, reliable_size);
        copied = frame.end;
    }
    // Back to front, so that what has not been copied is not overwritten.
    let tail = frames.len() + left;
    buffer.copy_within(copied..size, tail);
    buffer[left..tail].copy_from_slice(&frames);
    buffer[..left].fill(PADDING as u8);
    left
}

/// Replaces `copies` by the STREAM frames of a packet, none of which ends with it; false and as it
/// was when there are none.
pub(crate) fn copy_streams(payload: &[u8], copies: &mut Vec<u8>) -> bool {
    let mut has_any = false;
    let mut walk = Walk::default();
    while let Some(frame) = walk.next(payload) {
        let Body::Stream {
            id,
            offset,
            len,
            fin,
        } = frame.body
        else {
            continue;
        };
        if !std::mem::replace(&mut has_any, true) {
            copies.clear();
        }
        let kind = STREAM | HAS_OFFSET | HAS_LENGTH | if fin { HAS_FIN } else { 0 };
        for value in [kind, id, offset, len] {
            put_varint(copies, value);
        }
        copies.extend_from_slice(&payload[frame.end - len as usize..frame.end]);
    }
    has_any
}

/// Puts `frames` into a probe for lost packets whose first `free` bytes are PADDING; false: it is
/// none. quinn writes its PING before any other frame.
pub(crate) fn add_to_probe(payload: &mut [u8], free: usize, frames: &[u8]) -> bool {
    let is_probe = payload
        .get(free)
        .is_some_and(|kind| [PING, IMMEDIATE_ACK].contains(&u64::from(*kind)));
    let fits = is_probe && frames.len() <= free;
    if fits {
        payload[..frames.len()].copy_from_slice(frames);
    }
    fits
}

/// Whether a frame is about a stream that `initiator` opens after `count` others of its kind.
pub(crate) fn reaches_stream(payload: &[u8], initiator: Side, count: u64) -> bool {
    let mut walk = Walk::default();
    while let Some(frame) = walk.next(payload) {
        let id = match frame.body {
            Body::Ack => continue,
            Body::Stream { id, .. }
            | Body::Reset { id, .. }
            | Body::ResetAt { id, .. }
            | Body::Other { id } => id,
        };
        // RFC 9000 §2.1.
        let is_of_initiator = id & 1 == initiator as u64;
        if is_of_initiator && id >> 2 >= count {
            return true;
        }
    }
    false
}

/// How many DATAGRAM frames there are.
pub(crate) fn count_datagrams(payload: &[u8]) -> usize {
    let mut walk = Walk::default();
    while walk.next(payload).is_some() {}
    walk.datagrams
}

/// RFC 9000 §19.3.1. Ranges that reach below 0 are quinn's to complain of.
fn acked_ranges(ack: &[u8], acked: &mut impl FnMut(RangeInclusive<u64>)) -> Option<()> {
    let mut cursor = Cursor {
        payload: ack,
        at: 0,
    };
    let mut largest = cursor.varint()?;
    cursor.varint()?;
    let more = cursor.varint()?;
    let mut smallest = largest.checked_sub(cursor.varint()?)?;
    acked(smallest..=largest);
    for _ in 0..more {
        largest = smallest.checked_sub(cursor.varint()? + 2)?;
        smallest = largest.checked_sub(cursor.varint()?)?;
        acked(smallest..=largest);
    }
    Some(())
}

#[derive(Clone, Copy, Default)]
struct Part {
    start: usize,
    end: usize,
}

/// Where the fields of a RESET_STREAM_AT are, from the frame's start.
struct Parts {
    id: Part,
    code: Part,
    size: Part,
}

#[derive(Clone, Copy)]
enum Body {
    Ack,
    Stream {
        id: u64,
        offset: u64,
        len: u64,
        fin: bool,
    },
    Reset {
        id: u64,
        final_size: u64,
    },
    ResetAt {
        id: u64,
        code: u64,
        final_size: u64,
        reliable_size: u64,
        /// Ends of id, code and final size.
        ends: [usize; 3],
    },
    /// Another frame about a stream.
    Other {
        id: u64,
    },
}

#[derive(Clone, Copy)]
struct Frame {
    start: usize,
    /// Behind the type.
    body_start: usize,
    end: usize,
    body: Body,
}

impl Frame {
    /// What it means, and where its fields are if quinn does not know it.
    fn end(&self) -> Option<(StreamEnd, Option<Parts>)> {
        let (id, final_size, how, parts) = match self.body {
            Body::Ack | Body::Other { .. } | Body::Stream { fin: false, .. } => return None,
            Body::Stream {
                id, offset, len, ..
            } => {
                let whole = offset == 0;
                (id, offset + len, How::Fin { whole }, None)
            }
            Body::Reset { id, final_size } => (id, final_size, How::Reset, None),
            Body::ResetAt {
                id,
                code,
                final_size,
                reliable_size,
                ends,
            } => {
                // FRAME_ENCODING_ERROR (§4), which quinn brings about by itself.
                if reliable_size > final_size {
                    return None;
                }
                let part = |start: usize, end: usize| Part {
                    start: start - self.start,
                    end: end - self.start,
                };
                let parts = Parts {
                    id: part(self.body_start, ends[0]),
                    code: part(ends[0], ends[1]),
                    size: part(ends[1], ends[2]),
                };
                let how = match reliable_size {
                    0 => How::Reset,
                    _ => How::ResetAt {
                        code,
                        reliable_size,
                    },
                };
                (id, final_size, how, Some(parts))
            }
        };
        let end = StreamEnd {
            id,
            final_size,
            how,
        };
        Some((end, parts))
    }
}

/// Goes from frame to frame, by quinn's rules of what a frame is.
#[derive(Default)]
struct Walk {
    at: usize,
    datagrams: usize,
    /// Behind the first byte of PADDING that reaches to the end.
    filled_from: Option<usize>,
}

impl Walk {
    fn useful(&self, payload: &[u8]) -> usize {
        self.filled_from.unwrap_or(payload.len())
    }

    /// The next frame that matters; `None` when there are no more, or none that is known.
    fn next(&mut self, payload: &[u8]) -> Option<Frame> {
        loop {
            let start = self.at;
            let mut cursor = Cursor { payload, at: start };
            let kind = cursor.varint()?;
            let body_start = cursor.at;
            let body = match kind {
                PADDING => {
                    let rest = payload.get(body_start..)?;
                    cursor.at += padding(rest);
                    if cursor.at == payload.len() {
                        self.filled_from = Some(body_start);
                    }
                    None
                }
                PING | HANDSHAKE_DONE | IMMEDIATE_ACK => None,
                ACK | ACK_ECN => {
                    cursor.varints(2)?;
                    let ranges = cursor.varint()?;
                    cursor.varint()?;
                    for _ in 0..ranges {
                        cursor.varints(2)?;
                    }
                    if kind == ACK_ECN {
                        cursor.varints(3)?;
                    }
                    Some(Body::Ack)
                }
                RESET_STREAM => {
                    let id = cursor.varint()?;
                    cursor.varint()?;
                    let final_size = cursor.varint()?;
                    Some(Body::Reset { id, final_size })
                }
                RESET_STREAM_AT => {
                    let id = cursor.varint()?;
                    let id_end = cursor.at;
                    let code = cursor.varint()?;
                    let code_end = cursor.at;
                    let final_size = cursor.varint()?;
                    let size_end = cursor.at;
                    Some(Body::ResetAt {
                        id,
                        code,
                        final_size,
                        reliable_size: cursor.varint()?,
                        ends: [id_end, code_end, size_end],
                    })
                }
                STREAM..=STREAM_LAST => {
                    let id = cursor.varint()?;
                    let offset = if kind & HAS_OFFSET != 0 {
                        cursor.varint()?
                    } else {
                        0
                    };
                    let len = if kind & HAS_LENGTH != 0 {
                        cursor.varint()?
                    } else {
                        (payload.len() - cursor.at) as u64
                    };
                    cursor.skip(len)?;
                    Some(Body::Stream {
                        id,
                        offset,
                        len,
                        fin: kind & HAS_FIN != 0,
                    })
                }
                DATAGRAM => {
                    cursor.at = payload.len();
                    self.datagrams += 1;
                    None
                }
                NEW_TOKEN | DATAGRAM_WITH_LENGTH => {
                    let len = cursor.varint()?;
                    cursor.skip(len)?;
                    self.datagrams += usize::from(kind == DATAGRAM_WITH_LENGTH);
                    None
                }
                CRYPTO => {
                    cursor.varint()?;
                    let len = cursor.varint()?;
                    cursor.skip(len)?;
                    None
                }
                MAX_DATA | MAX_STREAMS_BIDI | MAX_STREAMS_UNI | DATA_BLOCKED
                | STREAMS_BLOCKED_BIDI | STREAMS_BLOCKED_UNI | RETIRE_CONNECTION_ID => {
                    cursor.varint()?;
                    None
                }
                STOP_SENDING | MAX_STREAM_DATA | STREAM_DATA_BLOCKED => {
                    let id = cursor.varint()?;
                    cursor.varint()?;
                    Some(Body::Other { id })
                }
                ACK_FREQUENCY => {
                    cursor.varints(4)?;
                    None
                }
                NEW_CONNECTION_ID => {
                    cursor.varints(2)?;
                    let len = cursor.byte()?;
                    cursor.skip(u64::from(len) + RESET_TOKEN)?;
                    None
                }
                PATH_CHALLENGE | PATH_RESPONSE => {
                    cursor.skip(PATH_DATA)?;
                    None
                }
                CONNECTION_CLOSE => {
                    cursor.varints(2)?;
                    let len = cursor.varint()?;
                    cursor.skip(len)?;
                    None
                }
                APPLICATION_CLOSE => {
                    cursor.varint()?;
                    let len = cursor.varint()?;
                    cursor.skip(len)?;
                    None
                }
                _ => return None,
            };
            self.at = cursor.at;
            if let Some(body) = body {
                return Some(Frame {
                    start,
                    body_start,
                    end: self.at,
                    body,
                });
            }
        }
    }
}

struct Cursor<'a> {
    payload: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.payload.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// RFC 9000 §16.
    fn varint(&mut self) -> Option<u64> {
        let first = self.byte()?;
        let mut value = u64::from(first & 0x3f);
        for _ in 1..1 << (first >> 6) {
            value = value << 8 | u64::from(self.byte()?);
        }
        Some(value)
    }

    fn varints(&mut self, count: usize) -> Option<()> {
        for _ in 0..count {
            let first = *self.payload.get(self.at)?;
            self.skip(1 << (first >> 6))?;
        }
        Some(())
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        let left = (self.payload.len() - self.at) as u64;
        if count > left {
            return None;
        }
        self.at += count as usize;
        Some(())
    }
}

/// How many bytes of PADDING there are at the front. MTU probes and first packets are full of it.
fn padding(bytes: &[u8]) -> usize {
    let (wide, _) = bytes.as_chunks::<16>();
    let skipped = 16 * wide.iter().take_while(|bytes| **bytes == [0; 16]).count();
    let rest = bytes.get(skipped..).unwrap_or_default();
    skipped + rest.iter().take_while(|byte| **byte == 0).count()
}

/// Takes a variable-length integer off the front (RFC 9000 §16).
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut cursor = Cursor {
        payload: bytes,
        at: 0,
    };
    let value = cursor.varint()?;
    *bytes = bytes.get(cursor.at..)?;
    Some(value)
}

/// Bytes that [`put_varint`] writes.
fn varint_len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// In the shortest form; `value` is below 2^62.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: u64) {
    let len = varint_len(value);
    let bytes = value.to_be_bytes();
    let at = out.len();
    out.extend_from_slice(&bytes[bytes.len() - len..]);
    out[at] |= (len.trailing_zeros() as u8) << 6;
}

const PADDING: u64 = 0x00;
const PING: u64 = 0x01;
const ACK: u64 = 0x02;
const ACK_ECN: u64 = 0x03;
const RESET_STREAM: u64 = 0x04;
const STOP_SENDING: u64 = 0x05;
const CRYPTO: u64 = 0x06;
const NEW_TOKEN: u64 = 0x07;
/// First of the eight types of STREAM (RFC 9000 §19.8).
const STREAM: u64 = 0x08;
const STREAM_LAST: u64 = 0x0f;
const HAS_FIN: u64 = 0x01;
const HAS_LENGTH: u64 = 0x02;
const HAS_OFFSET: u64 = 0x04;
const MAX_DATA: u64 = 0x10;
const MAX_STREAM_DATA: u64 = 0x11;
const MAX_STREAMS_BIDI: u64 = 0x12;
const MAX_STREAMS_UNI: u64 = 0x13;
const DATA_BLOCKED: u64 = 0x14;
const STREAM_DATA_BLOCKED: u64 = 0x15;
const STREAMS_BLOCKED_BIDI: u64 = 0x16;
const STREAMS_BLOCKED_UNI: u64 = 0x17;
const NEW_CONNECTION_ID: u64 = 0x18;
const RETIRE_CONNECTION_ID: u64 = 0x19;
const PATH_CHALLENGE: u64 = 0x1a;
const PATH_RESPONSE: u64 = 0x1b;
const CONNECTION_CLOSE: u64 = 0x1c;
const APPLICATION_CLOSE: u64 = 0x1d;
const HANDSHAKE_DONE: u64 = 0x1e;
/// draft-ietf-quic-ack-frequency.
const IMMEDIATE_ACK: u64 = 0x1f;
/// draft-ietf-quic-ack-frequency.
const ACK_FREQUENCY: u64 = 0xaf;
/// draft-ietf-quic-reliable-stream-reset §4.
const RESET_STREAM_AT: u64 = 0x24;
/// RFC 9221 §4.
const DATAGRAM: u64 = 0x30;
const DATAGRAM_WITH_LENGTH: u64 = 0x31;
/// STREAM with offset, length and FIN. A length of no bytes is the 0 that PADDING is, too.
const EMPTY_STREAM_FIN: u8 = (STREAM | HAS_OFFSET | HAS_LENGTH | HAS_FIN) as u8;
/// STREAM from offset 0.
const STREAM_WITH_LENGTH: u8 = (STREAM | HAS_LENGTH) as u8;
/// Bytes of a stateless reset token.
const RESET_TOKEN: u64 = 16;
/// Bytes of a PATH_CHALLENGE.
const PATH_DATA: u64 = 8;

#[cfg(test)]
mod tests;
