//! TLS keying material for the application, when the TLS session is gone.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use quinn_proto::crypto::ExportKeyingMaterialError;
use ring::{digest, hkdf};
use rustls::KeyLog;

/// Keeps the exporter secret of one session, which rustls shows only to key logs.
pub(crate) struct ExporterTap {
    log: Arc<dyn KeyLog>,
    secret: Mutex<Option<Exporter>>,
}

impl ExporterTap {
    /// `log` is told everything, too.
    pub(crate) fn new(log: Arc<dyn KeyLog>) -> Self {
        Self {
            log,
            secret: Mutex::default(),
        }
    }

    /// The secret, once, when the handshake has come that far.
    pub(crate) fn take(&self) -> Option<Exporter> {
        let mut secret = self.secret.lock().unwrap_or_else(PoisonError::into_inner);
        secret.take()
    }
}

impl fmt::Debug for ExporterTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExporterTap")
    }
}

impl KeyLog for ExporterTap {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        if label == EXPORTER_SECRET {
            let mut slot = self.secret.lock().unwrap_or_else(PoisonError::into_inner);
            *slot = Exporter::new(secret);
        }
        if self.log.will_log(label) {
            self.log.log(label, client_random, secret);
        }
    }

    fn will_log(&self, label: &str) -> bool {
        label == EXPORTER_SECRET || self.log.will_log(label)
    }
}

/// RFC 8446 §7.5.
pub(crate) struct Exporter {
    secret: Box<[u8]>,
    hash: &'static digest::Algorithm,
    hkdf: hkdf::Algorithm,
}

impl Exporter {
    fn new(secret: &[u8]) -> Option<Self> {
        let (hash, hkdf) = match secret.len() {
            32 => (&digest::SHA256, hkdf::HKDF_SHA256),
            48 => (&digest::SHA384, hkdf::HKDF_SHA384),
            _ => return None,
        };
        Some(Self {
            secret: secret.into(),
            hash,
            hkdf,
        })
    }

    pub(crate) fn export(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        let mut derived = vec![0; self.hash.output_len()];
        let nothing = digest::digest(self.hash, b"");
        self.expand(&self.secret, label, nothing.as_ref(), &mut derived)?;
        let context = digest::digest(self.hash, context);
        self.expand(&derived, b"exporter", context.as_ref(), output)
    }

    /// HKDF-Expand-Label (RFC 8446 §7.1).
    fn expand(
        &self,
        secret: &[u8],
        label: &[u8],
        context: &[u8],
        output: &mut [u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        let too_long = |_| ExportKeyingMaterialError;
        let size = u16::try_from(output.len()).map_err(too_long)?.to_be_bytes();
        let label_len = [u8::try_from(label.len() + TLS13.len()).map_err(too_long)?];
        let context_len = [context.len() as u8];
        let info = [&size[..], &label_len, TLS13, label, &context_len, context];
        hkdf::Prk::new_less_safe(self.hkdf, secret)
            .expand(&info, Length(output.len()))
            .and_then(|okm| okm.fill(output))
            .map_err(|_| ExportKeyingMaterialError)
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// In the NSS key log format.
const EXPORTER_SECRET: &str = "EXPORTER_SECRET";
/// RFC 8446 §7.1.
const TLS13: &[u8] = b"tls13 ";
