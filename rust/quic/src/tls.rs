//! TLS 1.3 configuration: identities, trust, pinning, client certificates, resumption.
//!
//! Made into what quinn wants by the two `build` functions.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_name, WebPkiServerVerifier};
use rustls::crypto::{
    ring as provider, verify_tls12_signature, verify_tls13_signature, CryptoProvider,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, CipherSuite, DigitallySignedStruct, KeyLog, NoKeyLog, RootCertStore,
    SignatureScheme,
};

use crate::certificate::{CertificateFault, KeyKind};
use crate::crypto::{ClientCrypto, ServerCrypto};
use crate::tickets::SharedTickets;
use crate::{Certificate, Error, TransportOptions, Worker};

/// A certificate chain, leaf first, and its private key.
#[derive(Debug)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads PEM texts. The key may be PKCS #8, PKCS #1 or SEC1.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, Error> {
        Ok(Self {
            chain: certificates("certificate", chain)?,
            key: PrivateKeyDer::from_pem_slice(key)
                .map_err(|e| Error::certificate("private key", e))?,
        })
    }

    /// Reads PEM files.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, Error> {
        Ok(Self {
            chain: certificates(&chain.to_string_lossy(), &read(chain)?)?,
            key: PrivateKeyDer::from_pem_slice(&read(key)?)
                .map_err(|e| Error::certificate(key.to_string_lossy(), e))?,
        })
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

/// How much of the peer's certificate is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verify {
    /// Nothing is checked. A server does not ask for a certificate.
    None,
    /// A server asks for a certificate and checks it when there is one; a client checks always.
    Optional,
    /// A trusted certificate is required.
    #[default]
    Required,
}

/// The TLS side of a client.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// Application protocols in order of preference.
    pub alpn: Vec<Vec<u8>>,
    /// PEM file of trusted roots instead of the system's.
    pub ca_file: Option<std::path::PathBuf>,
    /// SHA-256 of acceptable leaf certificates. When not empty they replace the chain and name
    /// checks, as `serverCertificateHashes` does in browsers.
    pub certificate_hashes: Vec<[u8; 32]>,
    /// The certificate shown to servers that ask for one.
    pub identity: Option<Identity>,
    /// Where secrets are logged.
    pub key_log: Option<Arc<dyn KeyLog>>,
    /// Whether the server is checked.
    pub verify: Verify,
}

impl ClientTls {
    pub(crate) fn build(
        &self,
        transport: &TransportOptions,
    ) -> Result<Arc<dyn crypto::ClientConfig>, Error> {
        let builder = rustls::ClientConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier()?);
        let mut config = match self.identity.clone() {
            Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key)?,
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config.key_log = self.key_log.clone().unwrap_or_else(|| Arc::new(NoKeyLog));
        // Tickets shorten later handshakes. A CONNECT never travels in 0-RTT, so none is offered.
        config.enable_early_data = false;
        Ok(Arc::new(ClientCrypto::new(config, transport)?))
    }

    fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        if !self.certificate_hashes.is_empty() {
            return Ok(Arc::new(PinnedHashes {
                hashes: self.certificate_hashes.clone(),
                signatures: Signatures::new(),
            }));
        }
        if self.verify == Verify::None {
            return Ok(Arc::new(Unchecked {
                signatures: Signatures::new(),
            }));
        }
        let mut roots = RootCertStore::empty();
        let mut trusted = Vec::new();
        match &self.ca_file {
            Some(path) => {
                trusted = certificates(&path.to_string_lossy(), &read(path)?)?;
                roots.add_parsable_certificates(trusted.iter().cloned());
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() {
            return Err(Error::NoRoots);
        }
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), crypto_provider())
            .build()
            .map_err(|e| Error::certificate("root certificates", e))?;
        Ok(Arc::new(Chain { chain, trusted }))
    }
}

/// The TLS side of a server.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Application protocols in order of preference.
    pub alpn: Vec<Vec<u8>>,
    /// PEM file of roots that client certificates must chain to.
    pub ca_file: Option<std::path::PathBuf>,
    /// What the server shows.
    pub identity: Identity,
    /// Where secrets are logged.
    pub key_log: Option<Arc<dyn KeyLog>>,
    /// Whether clients are asked for a certificate. `Optional` without roots asks for none.
    pub verify: Verify,
}

impl ServerTls {
    /// A worker's tickets are read by the others too.
    pub(crate) fn build(
        &self,
        worker: Option<&Worker>,
        transport: &TransportOptions,
    ) -> Result<Arc<dyn crypto::ServerConfig>, Error> {
        let builder = rustls::ServerConfig::builder_with_provider(crypto_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let builder = match (self.verify, &self.ca_file) {
            (Verify::None, _) | (Verify::Optional, None) => builder.with_no_client_auth(),
            (Verify::Required, None) => {
                return Err(Error::certificate(
                    "client certificates",
                    "required, but no CA file to check them against",
                ))
            }
            (verify, Some(path)) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates(
                    &path.to_string_lossy(),
                    &read(path)?,
                )?);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto_provider());
                let verifier = match verify {
                    Verify::Optional => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                builder.with_client_cert_verifier(
                    verifier
                        .build()
                        .map_err(|e| Error::certificate(path.to_string_lossy(), e))?,
                )
            }
        };
        let Identity { chain, key } = self.identity.clone();
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols.clone_from(&self.alpn);
        config.key_log = self.key_log.clone().unwrap_or_else(|| Arc::new(NoKeyLog));
        // Stateless: the ticket carries the session, so that idle connections cost no memory here.
        config.ticketer = match worker {
            Some(worker) => Arc::new(SharedTickets::new(worker)),
            None => provider::Ticketer::new()?,
        };
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        Ok(Arc::new(ServerCrypto::new(config, transport)?))
    }
}

/// The usual check: a chain to a trusted root, and the name.
#[derive(Debug)]
struct Chain {
    chain: Arc<WebPkiServerVerifier>,
    /// Certificates of the CA file, for a leaf that is its own root.
    trusted: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Chain {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let refused = match self
            .chain
            .verify_server_cert(leaf, intermediates, name, ocsp, now)
        {
            Ok(verified) => return Ok(verified),
            Err(refused) => refused,
        };
        // A self-signed certificate marked as a CA, which is what openssl makes by default, is no
        // leaf to webpki. Listed itself as trusted, it is accepted when its dates and name fit.
        if !self.trusted.iter().any(|trusted| trusted == leaf) {
            let is_self_issued =
                Certificate::parse(leaf).is_some_and(|certificate| certificate.is_self_issued);
            return Err(if is_self_issued && is_untrusted(&refused) {
                CertificateFault::SelfSigned {
                    actual: sha256(leaf),
                }
                .into()
            } else {
                refused
            });
        }
        check_dates(leaf, now)?;
        verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// W3C WebTransport `serverCertificateHashes`: a known leaf, valid now, of at most two weeks'
/// total validity, with an elliptic curve key.
#[derive(Debug)]
struct PinnedHashes {
    hashes: Vec<[u8; 32]>,
    signatures: Signatures,
}

impl ServerCertVerifier for PinnedHashes {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let actual = sha256(leaf);
        if !self.hashes.contains(&actual) {
            return Err(CertificateFault::Hash {
                actual,
                expected: self.hashes.clone(),
            }
            .into());
        }
        let certificate = Certificate::parse(leaf).ok_or(CertificateError::BadEncoding)?;
        if certificate.key != KeyKind::EllipticCurve {
            return Err(CertificateFault::Key(certificate.key).into());
        }
        check_dates(leaf, now)?;
        let seconds = certificate.not_after.saturating_sub(certificate.not_before);
        if seconds > MAX_PINNED_VALIDITY.as_secs() {
            return Err(CertificateFault::Lifetime { seconds }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}

/// [`Verify::None`]: any certificate, as long as the peer holds its key.
#[derive(Debug)]
struct Unchecked {
    signatures: Signatures,
}

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.tls12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signatures.tls13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.schemes()
    }
}

/// Handshake signatures, which every verifier checks.
#[derive(Debug)]
struct Signatures(Arc<CryptoProvider>);

impl Signatures {
    fn new() -> Self {
        Self(crypto_provider())
    }

    fn tls12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn tls13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn sha256(leaf: &CertificateDer<'_>) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, leaf);
    digest.as_ref().try_into().unwrap_or_default()
}

/// Whether the chain ends nowhere, as against a wrong name or date.
fn is_untrusted(refused: &rustls::Error) -> bool {
    matches!(
        CertificateFault::of(refused),
        Some(CertificateFault::UnknownIssuer | CertificateFault::Other(_))
    )
}

fn check_dates(leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(), rustls::Error> {
    let certificate = Certificate::parse(leaf).ok_or(CertificateError::BadEncoding)?;
    let now = Duration::from_secs(now.as_secs());
    if certificate.is_valid_at(now) {
        return Ok(());
    }
    Err(if now.as_secs() < certificate.not_before {
        CertificateError::NotValidYet
    } else {
        CertificateError::Expired
    }
    .into())
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| Error::certificate(what, e))?;
    if chain.is_empty() {
        return Err(Error::certificate(what, "no certificate in this PEM text"));
    }
    Ok(chain)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|e| Error::certificate(path.to_string_lossy(), e))
}

/// The provider's suites, AES-128 first: its hash is the one that processors compute in
/// hardware, and QUIC's limits on key use apply to all of them alike (RFC 9001 §6.6).
fn crypto_provider() -> Arc<CryptoProvider> {
    let mut provider = provider::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

/// The longest total validity of a pinned certificate: two weeks.
const MAX_PINNED_VALIDITY: Duration = Duration::from_secs(14 * 86_400);
