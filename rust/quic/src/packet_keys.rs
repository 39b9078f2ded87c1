//! The keys of packets, in place of rustls's: they show the frames of a packet to the [`Sideband`],
//! and keep from quinn the PADDING that fills it up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use quinn_proto::crypto::{CryptoError, PacketKey};

use crate::frames;
use crate::sideband::Sideband;

/// A 1-RTT key that shows the frames of its packets.
pub(crate) struct ShownKey {
    inner: Box<dyn rustls::quic::PacketKey>,
    sideband: Arc<Sideband>,
}

impl ShownKey {
    pub(crate) fn new(inner: Box<dyn rustls::quic::PacketKey>, sideband: Arc<Sideband>) -> Self {
        Self { inner, sideband }
    }
}

impl PacketKey for ShownKey {
    fn encrypt(&self, packet: u64, buffer: &mut [u8], header_len: usize) {
        let end = buffer.len() - self.inner.tag_len();
        let room = self.sideband.all_room();
        self.sideband
            .sending(packet, &mut buffer[header_len..end], room);
        PacketKey::encrypt(&self.inner, packet, buffer, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        PacketKey::decrypt(&self.inner, packet, header, payload)?;
        let allowance = &self.sideband.allowance;
        if allowance.is_exceeded_by(payload) {
            allowance.give_back(&self.inner, packet, header, payload);
            return Err(CryptoError);
        }
        let useful = self.sideband.received(payload);
        payload.truncate(useful);
        Ok(())
    }

    /// quinn leaves so many bytes free behind the frames: the room is among them.
    fn tag_len(&self) -> usize {
        self.inner.tag_len() + self.sideband.all_room()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.inner.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.inner.integrity_limit()
    }
}

/// The key that packets are sent with after the next key update, which most connections never see:
/// it is not there before it is used. The peer's is, since the time that it takes would tell others
/// of the update (RFC 9001 §9.5).
pub(crate) struct LaterKey<F> {
    derive: F,
    key: OnceLock<ShownKey>,
}

impl<F: Fn() -> ShownKey> LaterKey<F> {
    pub(crate) fn new(derive: F) -> Self {
        Self {
            derive,
            key: OnceLock::new(),
        }
    }

    fn key(&self) -> &ShownKey {
        self.key.get_or_init(&self.derive)
    }
}

impl<F: Fn() -> ShownKey + Send + Sync> PacketKey for LaterKey<F> {
    fn encrypt(&self, packet: u64, buffer: &mut [u8], header_len: usize) {
        self.key().encrypt(packet, buffer, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        self.key().decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.key().tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.key().confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.key().integrity_limit()
    }
}

/// A key of Initial or Handshake packets, which are often mostly PADDING: quinn gets little of it.
pub(crate) struct UnpaddingKey {
    inner: Box<dyn rustls::quic::PacketKey>,
    /// The next packet stays as it is.
    leaves_next: AtomicBool,
}

impl UnpaddingKey {
    pub(crate) fn new(inner: Box<dyn rustls::quic::PacketKey>) -> Self {
        Self {
            inner,
            leaves_next: AtomicBool::new(false),
        }
    }

    /// Of a client's first packet, whose size quinn takes, when it is decrypted, for what a
    /// stranger has sent (RFC 9000 §8.1).
    pub(crate) fn of_a_stranger(inner: Box<dyn rustls::quic::PacketKey>) -> Self {
        Self {
            inner,
            leaves_next: AtomicBool::new(true),
        }
    }
}

impl PacketKey for UnpaddingKey {
    fn encrypt(&self, packet: u64, buffer: &mut [u8], header_len: usize) {
        PacketKey::encrypt(&self.inner, packet, buffer, header_len);
    }

    fn decrypt(
        &self,
        packet: u64,
        header: &[u8],
        payload: &mut BytesMut,
    ) -> Result<(), CryptoError> {
        PacketKey::decrypt(&self.inner, packet, header, payload)?;
        if !self.leaves_next.swap(false, Ordering::Relaxed) {
            payload.truncate(frames::useful(payload));
        }
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.inner.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.inner.integrity_limit()
    }
}
