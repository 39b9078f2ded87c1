//! Initial packets, whose keys everybody knows (RFC 9001 §5.2): read, changed and written again.

use pywt_core::wire::varint;
use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::quic::{Keys, Version};
use rustls::Side;

const TAG: usize = 16;
const MIN_DATAGRAM: usize = 1200;

fn keys(dcid: &[u8], side: Side) -> Keys {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().expect("a TLS 1.3 suite");
    let quic = suite.quic.expect("a suite for QUIC");
    Keys::initial(Version::V1, suite, quic, dcid, side)
}

/// A client's Initial packet with these frames, padded to a whole datagram unless `short`.
pub fn initial(dcid: &[u8], token: &[u8], number: u32, frames: &[u8], short: bool) -> Vec<u8> {
    let mut header = vec![0xc3, 0, 0, 0, 1, dcid.len() as u8];
    header.extend_from_slice(dcid);
    header.extend_from_slice(&[4, 1, 2, 3, 4]);
    varint::encode(token.len() as u64, &mut header);
    header.extend_from_slice(token);
    let mut payload = frames.to_vec();
    // A sample for the header's protection has to fit (RFC 9001 §5.4.2).
    let room = MIN_DATAGRAM.saturating_sub(header.len() + 2 + 4 + TAG);
    payload.resize(payload.len().max(if short { 4 } else { room }), 0);
    let length = 4 + payload.len() + TAG;
    header.extend_from_slice(&(length as u16 | 0x4000).to_be_bytes());
    let number_at = header.len();
    header.extend_from_slice(&number.to_be_bytes());
    let keys = keys(dcid, Side::Client).local;
    let tag = keys
        .packet
        .encrypt_in_place(number.into(), &header, &mut payload)
        .expect("fits");
    let mut packet = [&header[..], &payload, tag.as_ref()].concat();
    let (head, sample) = packet.split_at_mut(number_at + 4);
    let (first, rest) = head.split_first_mut().expect("a header");
    keys.header
        .encrypt_in_place(&sample[..TAG], first, &mut rest[number_at - 1..])
        .expect("a whole sample");
    packet
}

/// The destination id and the frames of the Initial packet that starts a client's datagram.
pub fn open_initial(datagram: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut packet = datagram.to_vec();
    let dcid_end = 6 + usize::from(*packet.get(5)?);
    let dcid = packet.get(6..dcid_end)?.to_vec();
    let mut at = dcid_end + 1 + usize::from(*packet.get(dcid_end)?);
    let (token, used) = varint::decode(packet.get(at..)?)?;
    at += used + token as usize;
    let (length, used) = varint::decode(packet.get(at..)?)?;
    at += used;
    packet.truncate(at + length as usize);
    let keys = keys(&dcid, Side::Server).remote;
    let (head, sample) = packet.split_at_mut_checked(at + 4)?;
    let (first, rest) = head.split_first_mut()?;
    keys.header
        .decrypt_in_place(sample.get(..TAG)?, first, rest.get_mut(at - 1..)?)
        .ok()?;
    let number_len = usize::from(packet[0] & 3) + 1;
    let (header, payload) = packet.split_at_mut(at + number_len);
    let number = header[at..].iter().fold(0, |n, b| n << 8 | u64::from(*b));
    let frames = keys
        .packet
        .decrypt_in_place(number, header, payload)
        .ok()?
        .to_vec();
    Some((dcid, frames))
}
