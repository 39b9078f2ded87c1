//! The TLS session of a connection, in place of quinn's: it announces transport parameters that
//! quinn does not know, shows every packet's frames to the [`Sideband`], and lets go of the TLS
//! state that a server does not need after the handshake.
//!
//! To be removed, with `frames` and `sideband`, when quinn-proto knows RESET_STREAM_AT.

use std::any::Any;
use std::io::Cursor;
use std::sync::Arc;

use quinn_proto::crypto::rustls::QuicServerConfig;
use quinn_proto::crypto::{
    self, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError, TransportErrorCode};
use ring::aead;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::quic::{
    ClientConnection, Connection, KeyChange, Secrets, ServerConnection, Suite, Version,
};

use crate::allowance::SharedHeaderKey;
use crate::certificate::CertificateFault;
use crate::exporter::{Exporter, ExporterTap};
use crate::frames::{put_varint, take_varint};
use crate::packet_keys::{LaterKey, ShownKey, UnpaddingKey};
use crate::sideband::Sideband;
use crate::{QlogDirectory, TransportOptions};

/// What the connection asks its session for.
pub(crate) struct Handshake {
    pub(crate) sideband: Arc<Sideband>,
    pub(crate) protocol: Option<Vec<u8>>,
}

/// Makes the sessions of a client.
pub(crate) struct ClientCrypto {
    tls: Arc<rustls::ClientConfig>,
    initial: Suite,
    qlog: Option<QlogDirectory>,
    /// Streams that the peer may open at first, by `Dir as usize`.
    announced: [u64; 2],
}

impl ClientCrypto {
    pub(crate) fn new(
        tls: rustls::ClientConfig,
        transport: &TransportOptions,
    ) -> Result<Self, rustls::Error> {
        let initial = initial_suite(tls.crypto_provider())?;
        Ok(Self {
            tls: Arc::new(tls),
            initial,
            qlog: transport.qlog.clone(),
            announced: transport.announced_streams(),
        })
    }
}

impl crypto::ClientConfig for ClientCrypto {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn crypto::Session>, ConnectError> {
        if version != QUIC_V1 {
            return Err(ConnectError::UnsupportedVersion);
        }
        let invalid = || ConnectError::InvalidServerName(server_name.to_owned());
        let name = ServerName::try_from(server_name.to_owned()).map_err(|_| invalid())?;
        let tls = ClientConnection::new(
            self.tls.clone(),
            Version::V1,
            name,
            encode(params, self.announced),
        )
        .map_err(|_| invalid())?;
        Ok(Box::new(Session::new(
            Connection::Client(tls),
            self.initial,
            None,
            self.qlog.clone(),
            Sideband::new(Side::Server, self.announced),
        )))
    }
}

/// Makes the sessions of a server.
pub(crate) struct ServerCrypto {
    tls: rustls::ServerConfig,
    initial: Suite,
    /// For what needs no session.
    quinn: QuicServerConfig,
    qlog: Option<QlogDirectory>,
    /// As a client's.
    announced: [u64; 2],
}

impl ServerCrypto {
    pub(crate) fn new(
        tls: rustls::ServerConfig,
        transport: &TransportOptions,
    ) -> Result<Self, rustls::Error> {
        let initial = initial_suite(tls.crypto_provider())?;
        let quinn = QuicServerConfig::with_initial(Arc::new(tls.clone()), initial)
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self {
            tls,
            initial,
            quinn,
            qlog: transport.qlog.clone(),
            announced: transport.announced_streams(),
        })
    }
}

impl crypto::ServerConfig for ServerCrypto {
    fn initial_keys(
        &self,
        version: u32,
        dst_cid: &ConnectionId,
    ) -> Result<Keys, UnsupportedVersion> {
        if version != QUIC_V1 {
            return Err(UnsupportedVersion);
        }
        let keys = self
            .initial
            .keys(dst_cid, rustls::Side::Server, Version::V1);
        Ok(quic_keys(
            keys,
            self.qlog.as_ref(),
            UnpaddingKey::of_a_stranger,
        ))
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.quinn.retry_tag(version, orig_dst_cid, packet)
    }

    #[allow(clippy::expect_used)] // TLS 1.3, QUIC suites and no early data, by `tls.rs`.
    fn start_session(
        self: Arc<Self>,
        _version: u32,
        params: &TransportParameters,
    ) -> Box<dyn crypto::Session> {
        let exporter = Arc::new(ExporterTap::new(self.tls.key_log.clone()));
        let mut config = self.tls.clone();
        config.key_log = exporter.clone();
        let tls = ServerConnection::new(
            Arc::new(config),
            Version::V1,
            encode(params, self.announced),
        )
        .expect("a TLS configuration fit for QUIC");
        Box::new(Session::new(
            Connection::Server(tls),
            self.initial,
            Some(exporter),
            self.qlog.clone(),
            Sideband::new(Side::Client, self.announced),
        ))
    }
}

/// The TLS side of one connection.
struct Session {
    tls: Tls,
    initial: Suite,
    next_secrets: Option<Secrets>,
    told_handshake_data: bool,
    exporter: Option<Arc<ExporterTap>>,
    sideband: Arc<Sideband>,
    qlog: Option<QlogDirectory>,
}

enum Tls {
    Live(Box<Connection>),
    /// What is left after the handshake of a server: nothing more is said in TLS.
    Done(Box<Done>),
}

struct Done {
    protocol: Option<Vec<u8>>,
    certificates: Option<Vec<CertificateDer<'static>>>,
    exporter: Exporter,
}

impl Session {
    fn new(
        tls: Connection,
        initial: Suite,
        exporter: Option<Arc<ExporterTap>>,
        qlog: Option<QlogDirectory>,
        sideband: Sideband,
    ) -> Self {
        Self {
            tls: Tls::Live(Box::new(tls)),
            initial,
            next_secrets: None,
            told_handshake_data: false,
            exporter,
            sideband: Arc::new(sideband),
            qlog,
        }
    }

    fn live(&self) -> Option<&Connection> {
        match &self.tls {
            Tls::Live(tls) => Some(tls),
            Tls::Done(_) => None,
        }
    }

    /// Drops the TLS state when it has said its last. Clients keep theirs: tickets come whenever
    /// the server likes.
    fn drop_if_done(&mut self) {
        let Tls::Live(tls) = &self.tls else {
            return;
        };
        if tls.is_handshaking() {
            return;
        }
        let Some(exporter) = self.exporter.as_ref().and_then(|tap| tap.take()) else {
            return;
        };
        self.exporter = None;
        self.tls = Tls::Done(Box::new(Done {
            protocol: tls.alpn_protocol().map(<[u8]>::to_vec),
            certificates: certificates(tls),
            exporter,
        }));
    }
}

impl crypto::Session for Session {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        let side = match side {
            Side::Client => rustls::Side::Client,
            Side::Server => rustls::Side::Server,
        };
        let keys = self.initial.keys(dst_cid, side, Version::V1);
        quic_keys(keys, self.qlog.as_ref(), UnpaddingKey::new)
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        let protocol = match &self.tls {
            Tls::Live(tls) => tls.alpn_protocol().map(<[u8]>::to_vec),
            Tls::Done(done) => done.protocol.clone(),
        };
        Some(Box::new(Handshake {
            sideband: self.sideband.clone(),
            protocol,
        }))
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        let certificates = match &self.tls {
            Tls::Live(tls) => certificates(tls),
            Tls::Done(done) => done.certificates.clone(),
        };
        certificates.map(|chain| -> Box<dyn Any> { Box::new(chain) })
    }

    // No early data is offered or accepted: see `tls`.
    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        self.live().is_some_and(|tls| tls.is_handshaking())
    }

    fn read_handshake(&mut self, data: &[u8]) -> Result<bool, TransportError> {
        let Tls::Live(tls) = &mut self.tls else {
            return Err(error(
                TransportErrorCode::crypto(UNEXPECTED_MESSAGE),
                "TLS message after the handshake",
            ));
        };
        self.sideband.add_tls_received(data.len());
        tls.read_hs(data).map_err(|reason| {
            self.sideband
                .set_certificate_fault(CertificateFault::of(&reason));
            let code = match tls.alert() {
                Some(alert) => TransportErrorCode::crypto(alert.into()),
                None => TransportErrorCode::PROTOCOL_VIOLATION,
            };
            error(code, reason.to_string())
        })?;
        let has_name = match &**tls {
            Connection::Client(_) => false,
            Connection::Server(tls) => tls.server_name().is_some(),
        };
        let has_data = has_name || tls.alpn_protocol().is_some() || !tls.is_handshaking();
        Ok(has_data && !std::mem::replace(&mut self.told_handshake_data, true))
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let Some(tls) = self.live() else {
            return Ok(None);
        };
        let Some(encoded) = tls.quic_transport_parameters() else {
            return Ok(None);
        };
        let side = match tls {
            Connection::Client(_) => Side::Client,
            Connection::Server(_) => Side::Server,
        };
        let params = TransportParameters::read(side, &mut Cursor::new(with_few_ids(encoded)))?;
        let announced = Announced::read(encoded)
            .map_err(|reason| error(TransportErrorCode::TRANSPORT_PARAMETER_ERROR, reason))?;
        self.sideband
            .set_peer_takes_reset_stream_at(announced.reset_stream_at);
        self.sideband.set_peer_idle_timeout(announced.idle_timeout);
        Ok(Some(params))
    }

    fn write_handshake(&mut self, out: &mut Vec<u8>) -> Option<Keys> {
        let Tls::Live(tls) = &mut self.tls else {
            return None;
        };
        let before = out.len();
        match tls.write_hs(out) {
            None => {
                if out.len() == before {
                    self.drop_if_done();
                }
                None
            }
            Some(KeyChange::Handshake { keys }) => {
                Some(quic_keys(keys, self.qlog.as_ref(), UnpaddingKey::new))
            }
            Some(KeyChange::OneRtt { keys, next }) => {
                self.next_secrets = Some(next);
                let remote = SharedHeaderKey::new(keys.remote.header);
                self.sideband.allowance.set_header_key(&remote);
                Some(Keys {
                    header: KeyPair {
                        local: Box::new(keys.local.header),
                        remote: Box::new(remote),
                    },
                    packet: KeyPair {
                        local: self.shown(keys.local.packet),
                        remote: self.shown(keys.remote.packet),
                    },
                })
            }
        }
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let secrets = self.next_secrets.as_mut()?;
        let (before, qlog, sideband) = (secrets.clone(), self.qlog.clone(), self.sideband.clone());
        let derive = move || {
            let local = before.clone().next_packet_keys().local;
            ShownKey::new(watched(local, qlog.as_ref()), sideband.clone())
        };
        let remote = secrets.next_packet_keys().remote;
        Some(KeyPair {
            local: Box::new(LaterKey::new(derive)),
            remote: self.shown(remote),
        })
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        let Some(tag_start) = payload.len().checked_sub(RETRY_TAG) else {
            return false;
        };
        let (payload, tag) = payload.split_at(tag_start);
        let mut pseudo_packet = vec![orig_dst_cid.len() as u8];
        pseudo_packet.extend_from_slice(orig_dst_cid);
        pseudo_packet.extend_from_slice(header);
        pseudo_packet.extend_from_slice(payload);
        let Ok(key) = aead::UnboundKey::new(&aead::AES_128_GCM, &RETRY_KEY) else {
            return false;
        };
        let nonce = aead::Nonce::assume_unique_for_key(RETRY_NONCE);
        aead::LessSafeKey::new(key)
            .open_in_place(nonce, aead::Aad::from(pseudo_packet), &mut tag.to_vec())
            .is_ok()
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        match &self.tls {
            Tls::Live(tls) => tls
                .export_keying_material(output, label, Some(context))
                .map(|_| ())
                .map_err(|_| ExportKeyingMaterialError),
            Tls::Done(done) => done.exporter.export(output, label, context),
        }
    }
}

impl Session {
    fn shown(&self, key: Box<dyn rustls::quic::PacketKey>) -> Box<dyn PacketKey> {
        let key = watched(key, self.qlog.as_ref());
        Box::new(ShownKey::new(key, self.sideband.clone()))
    }
}

/// Keys of packets that come before the application's.
fn quic_keys(
    keys: rustls::quic::Keys,
    qlog: Option<&QlogDirectory>,
    unpad: impl FnOnce(Box<dyn rustls::quic::PacketKey>) -> UnpaddingKey,
) -> Keys {
    let remote = unpad(watched(keys.remote.packet, qlog));
    Keys {
        header: KeyPair {
            local: Box::new(keys.local.header),
            remote: Box::new(keys.remote.header),
        },
        packet: KeyPair {
            local: Box::new(watched(keys.local.packet, qlog)),
            remote: Box::new(remote),
        },
    }
}

fn watched(
    key: Box<dyn rustls::quic::PacketKey>,
    qlog: Option<&QlogDirectory>,
) -> Box<dyn rustls::quic::PacketKey> {
    match qlog {
        Some(qlog) => qlog.watch(key),
        None => key,
    }
}

fn certificates(tls: &Connection) -> Option<Vec<CertificateDer<'static>>> {
    let chain = tls.peer_certificates()?;
    Some(chain.iter().map(|der| der.clone().into_owned()).collect())
}

/// RFC 9001 §5.2.
fn initial_suite(provider: &rustls::crypto::CryptoProvider) -> Result<Suite, rustls::Error> {
    provider
        .cipher_suites
        .iter()
        .filter(|suite| suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256)
        .find_map(|suite| suite.tls13()?.quic_suite())
        .ok_or_else(|| rustls::Error::General("no TLS_AES_128_GCM_SHA256 for QUIC".to_owned()))
}

fn error(code: TransportErrorCode, reason: impl Into<String>) -> TransportError {
    TransportError {
        code,
        frame: None,
        reason: reason.into(),
    }
}

/// quinn's transport parameters with the streams that are really allowed, by `Dir as usize`, and ours:
/// both identifiers that RESET_STREAM_AT has had.
fn encode(params: &TransportParameters, streams: [u64; 2]) -> Vec<u8> {
    let mut of_quinn = Vec::new();
    params.write(&mut of_quinn);
    let mut encoded = replace(&of_quinn, |id, _| {
        let dir = STREAMS_PARAMETERS.iter().position(|at| *at == id)?;
        streams.get(dir).copied()
    });
    for id in RESET_STREAM_AT_PARAMETERS {
        put_varint(&mut encoded, id);
        encoded.push(0);
    }
    encoded
}

/// The peer's transport parameters as quinn is to see them: for every connection ID that the peer is
/// ready to keep, it would make one at once.
fn with_few_ids(encoded: &[u8]) -> Vec<u8> {
    replace(encoded, |id, mut value| {
        let limit = (id == CONNECTION_IDS_PARAMETER).then(|| take_varint(&mut value))??;
        Some(limit.min(FEW_CONNECTION_IDS))
    })
}

/// Transport parameters, those with the numbers that `number_of` gives for an identifier and a value. From
/// where they are cut short they stay as they are.
fn replace(mut encoded: &[u8], number_of: impl Fn(u64, &[u8]) -> Option<u64>) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(encoded.len());
    while let Some((id, value)) = take_parameter(&mut encoded) {
        let mut number = Vec::new();
        if let Some(own) = number_of(id, value) {
            put_varint(&mut number, own);
        }
        let value = if number.is_empty() { value } else { &number };
        put_varint(&mut replaced, id);
        put_varint(&mut replaced, value.len() as u64);
        replaced.extend_from_slice(value);
    }
    replaced.extend_from_slice(encoded);
    replaced
}

/// Takes one off the front; `None` where it is cut short.
fn take_parameter<'a>(encoded: &mut &'a [u8]) -> Option<(u64, &'a [u8])> {
    let mut rest = *encoded;
    let id = take_varint(&mut rest)?;
    let len = usize::try_from(take_varint(&mut rest)?).ok()?;
    let (value, rest) = rest.split_at_checked(len)?;
    *encoded = rest;
    Some((id, value))
}

/// What of the peer's transport parameters quinn does not tell.
#[derive(Debug, Default, PartialEq, Eq)]
struct Announced {
    /// It takes RESET_STREAM_AT (draft-ietf-quic-reliable-stream-reset §3).
    reset_stream_at: bool,
    /// max_idle_timeout in milliseconds (RFC 9000 §18.2).
    idle_timeout: u64,
}

impl Announced {
    fn read(mut encoded: &[u8]) -> Result<Self, &'static str> {
        const CUT: &str = "transport parameter cut short";
        let mut seen = [false; RESET_STREAM_AT_PARAMETERS.len()];
        let mut idle_timeout = 0;
        while !encoded.is_empty() {
            let (id, mut value) = take_parameter(&mut encoded).ok_or(CUT)?;
            let is_empty = value.is_empty();
            if id == MAX_IDLE_TIMEOUT_PARAMETER {
                idle_timeout = take_varint(&mut value).ok_or(CUT)?;
            }
            let known = RESET_STREAM_AT_PARAMETERS.iter().position(|at| *at == id);
            if let Some(seen) = known.and_then(|at| seen.get_mut(at)) {
                if !is_empty {
                    return Err("reset_stream_at is not empty");
                }
                if std::mem::replace(seen, true) {
                    return Err("reset_stream_at comes twice");
                }
            }
        }
        Ok(Self {
            reset_stream_at: seen.contains(&true),
            idle_timeout,
        })
    }
}

/// The only version spoken (RFC 9000 §15).
pub(crate) const QUIC_V1: u32 = 1;
/// RFC 9000 §18.2.
const MAX_IDLE_TIMEOUT_PARAMETER: u64 = 0x01;
/// active_connection_id_limit (RFC 9000 §18.2).
const CONNECTION_IDS_PARAMETER: u64 = 0x0e;
/// Connection IDs that a peer has at a time: one that it uses and two for other paths (RFC 9000 §5.1.1).
const FEW_CONNECTION_IDS: u64 = 3;
/// initial_max_streams_bidi and initial_max_streams_uni (RFC 9000 §18.2).
const STREAMS_PARAMETERS: [u64; 2] = [0x08, 0x09];
/// Of the published draft, and of earlier ones, which webtransport-go still looks for.
const RESET_STREAM_AT_PARAMETERS: [u64; 2] = [0x1d, 0x17_f758_6d2c_b571];
/// RFC 9001 §5.8.
const RETRY_KEY: [u8; 16] = [
    0xbe, 0x0c, 0x69, 0x0b, 0x9f, 0x66, 0x57, 0x5a, 0x1d, 0x76, 0x6b, 0x54, 0xe3, 0x68, 0xc8, 0x4e,
];
/// RFC 9001 §5.8.
const RETRY_NONCE: [u8; 12] = [
    0x46, 0x15, 0x99, 0xd3, 0x5d, 0x63, 0x2b, 0xf2, 0x23, 0x98, 0x25, 0xbb,
];
/// Bytes of the integrity tag.
const RETRY_TAG: usize = 16;
/// RFC 8446 §6.2.
const UNEXPECTED_MESSAGE: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(entries: &[(u64, &[u8])]) -> Vec<u8> {
        let mut encoded = Vec::new();
        for (id, value) in entries {
            put_varint(&mut encoded, *id);
            put_varint(&mut encoded, value.len() as u64);
            encoded.extend_from_slice(value);
        }
        encoded
    }

    #[test]
    fn reset_stream_at_is_announced_by_either_identifier_once_and_empty() {
        const OTHER: (u64, &[u8]) = (0x04, &[0x1d, 0x00]);
        let [new, old] = RESET_STREAM_AT_PARAMETERS;
        let check = |entries: &[(u64, &[u8])]| {
            Announced::read(&parameters(entries)).map(|announced| announced.reset_stream_at)
        };
        assert_eq!(check(&[]), Ok(false));
        assert_eq!(check(&[OTHER]), Ok(false));
        assert_eq!(check(&[OTHER, (new, b"")]), Ok(true));
        assert_eq!(check(&[(old, b""), OTHER]), Ok(true));
        assert_eq!(check(&[(old, b""), (new, b"")]), Ok(true));
        assert!(check(&[(new, b"\x01")]).is_err());
        assert!(check(&[(old, b"\x01")]).is_err());
        assert!(check(&[(new, b""), OTHER, (new, b"")]).is_err());
        assert!(check(&[(old, b""), (old, b"")]).is_err());
        let whole = parameters(&[OTHER]);
        for len in 1..whole.len() {
            assert!(Announced::read(&whole[..len]).is_err());
        }
    }

    #[test]
    fn the_peers_idle_timeout_is_read() {
        let read = |value: &[u8]| Announced::read(&parameters(&[(0x04, b"\x01"), (0x01, value)]));
        assert_eq!(Announced::read(&[]), Ok(Announced::default()));
        assert_eq!(read(b"\x44\x00").unwrap().idle_timeout, 1024);
        assert!(read(b"").is_err());
        assert!(read(b"\x44").is_err());
    }

    #[test]
    fn our_parameters_announce_it_and_quinn_reads_them() {
        let quinn = TransportParameters::read(Side::Client, &mut Cursor::new([])).unwrap();
        let encoded = encode(&quinn, [0; 2]);
        assert!(Announced::read(&encoded).unwrap().reset_stream_at);
        let read = TransportParameters::read(Side::Client, &mut Cursor::new(encoded));
        assert_eq!(read.unwrap(), quinn);
    }

    #[test]
    fn quinn_sees_a_peer_that_keeps_three_connection_ids_at_most() {
        const OTHER: (u64, &[u8]) = (0x04, &[0x40, 0x80]);
        let seen = |limit: &[u8]| with_few_ids(&parameters(&[OTHER, (0x0e, limit), OTHER]));
        let expected = |limit: &[u8]| parameters(&[OTHER, (0x0e, limit), OTHER]);
        assert_eq!(seen(b"\x40\x64"), expected(b"\x03"));
        assert_eq!(seen(b"\x03"), expected(b"\x03"));
        assert_eq!(seen(b"\x02"), expected(b"\x02"));
        // What is wrong stays so, for quinn to complain of.
        assert_eq!(seen(b"\x01"), expected(b"\x01"));
        assert_eq!(seen(b""), expected(b""));
        let whole = parameters(&[OTHER, (0x0e, b"\x02")]);
        for len in 0..whole.len() {
            assert_eq!(with_few_ids(&whole[..len]), whole[..len]);
        }
    }

    #[test]
    fn the_streams_that_are_announced_take_the_place_of_those_that_quinn_knows() {
        let quinn = parameters(&[(0x08, b"\x07"), (0x04, b"\x40\x80"), (0x09, b"\x07")]);
        let quinn = TransportParameters::read(Side::Client, &mut Cursor::new(quinn)).unwrap();
        let expected = parameters(&[(0x08, b"\x40\x6e"), (0x04, b"\x40\x80"), (0x09, b"\x09")]);
        let expected = TransportParameters::read(Side::Client, &mut Cursor::new(expected)).unwrap();
        let encoded = encode(&quinn, [110, 9]);
        let read = TransportParameters::read(Side::Client, &mut Cursor::new(encoded));
        assert_eq!(read.unwrap(), expected);
    }
}
