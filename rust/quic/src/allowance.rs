//! How many streams the peer may open. quinn has a place for each from the start, which an idle
//! connection would pay for most: so quinn is told of a few, while the transport parameters announce
//! what is really allowed. A packet that goes beyond the few is given back, sealed as it came, and is
//! received again when quinn has been told of all.
//!
//! To be removed when quinn-proto makes a stream's place when it is opened.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::BytesMut;
use quinn_proto::crypto::{HeaderKey, PacketKey};
use quinn_proto::Side;

use crate::frames;

/// The streams of each kind that quinn is told of at first: what its hash tables hold of both before they
/// grow to more than 16 places.
const FEW: u64 = 7;

/// What quinn is told of `announced` streams.
pub(crate) fn at_first(announced: u64) -> u64 {
    announced.min(FEW)
}

/// The allowance of one connection's peer.
pub(crate) struct Allowance {
    peer: Side,
    /// quinn has been told of fewer streams than were announced.
    is_short: AtomicBool,
    /// Of the packets that the peer sends.
    header_key: OnceLock<SharedHeaderKey>,
    given_back: Mutex<Option<BytesMut>>,
}

impl Default for Allowance {
    fn default() -> Self {
        Self::new(Side::Client, [0; 2])
    }
}

impl Allowance {
    /// `announced`: by `Dir as usize`.
    pub(crate) fn new(peer: Side, announced: [u64; 2]) -> Self {
        let is_short = announced.into_iter().any(|count| count > FEW);
        Self {
            peer,
            is_short: AtomicBool::new(is_short),
            header_key: OnceLock::new(),
            given_back: Mutex::new(None),
        }
    }

    pub(crate) fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    /// quinn has been told of all.
    pub(crate) fn complete(&self) {
        self.is_short.store(false, Ordering::Relaxed);
    }

    pub(crate) fn set_header_key(&self, key: &SharedHeaderKey) {
        let _ = self.header_key.set(key.clone());
    }

    /// Whether a packet with these frames is not for quinn yet, and can be given back.
    pub(crate) fn is_exceeded_by(&self, payload: &[u8]) -> bool {
        self.is_short() && frames::reaches_stream(payload, self.peer, FEW)
    }

    /// Puts a packet aside, sealed with the `key` that has opened it.
    pub(crate) fn give_back(
        &self,
        key: &dyn PacketKey,
        number: u64,
        header: &[u8],
        payload: &[u8],
    ) {
        let (Some(header_key), Some(first)) = (self.header_key.get(), header.first()) else {
            return;
        };
        let mut packet = BytesMut::with_capacity(header.len() + payload.len() + TAG);
        packet.extend_from_slice(header);
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + TAG, 0);
        key.encrypt(number, &mut packet, header.len());
        let number_len = usize::from(first & NUMBER_LENGTH) + 1;
        header_key.encrypt(header.len().saturating_sub(number_len), &mut packet);
        *self
            .given_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(packet);
    }

    /// The packet that was put aside.
    pub(crate) fn take_back(&self) -> Option<BytesMut> {
        if !self.is_short() {
            return None;
        }
        self.given_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// quinn's key of packet headers, and ours.
#[derive(Clone)]
pub(crate) struct SharedHeaderKey(Arc<Box<dyn rustls::quic::HeaderProtectionKey>>);

impl SharedHeaderKey {
    pub(crate) fn new(key: Box<dyn rustls::quic::HeaderProtectionKey>) -> Self {
        Self(Arc::new(key))
    }
}

impl HeaderKey for SharedHeaderKey {
    fn decrypt(&self, number_offset: usize, packet: &mut [u8]) {
        HeaderKey::decrypt(&*self.0, number_offset, packet);
    }

    fn encrypt(&self, number_offset: usize, packet: &mut [u8]) {
        HeaderKey::encrypt(&*self.0, number_offset, packet);
    }

    fn sample_size(&self) -> usize {
        HeaderKey::sample_size(&*self.0)
    }
}

/// Bytes of a packet's authentication tag, of every suite (RFC 9001 §5.3).
const TAG: usize = 16;
/// RFC 9000 §17.3.1.
const NUMBER_LENGTH: u8 = 0x03;
