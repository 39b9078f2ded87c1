//! The keys of packets, in place of rustls's: they show the frames of a packet to the [`Sideband`],
//! and keep from quinn the PADDING that fills it up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

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
