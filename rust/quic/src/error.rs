//! What can go wrong before a connection exists. A running connection ends with a [`crate::Close`].

use std::io;

/// A configuration or a call that cannot be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A certificate or private key cannot be read or used.
    #[error("{what}: {reason}")]
    Certificate {
        /// Which input: a path, or what it was given as.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system offers no root certificates and none were configured.
    #[error("no root certificates found on this system: pass a CA file or certificate hashes")]
    NoRoots,
    /// A TLS configuration the library refuses.
    #[error("TLS configuration refused: {0}")]
    Tls(#[from] rustls::Error),
    /// A value outside what QUIC can express.
    #[error("{field} is out of range: {value}")]
    OutOfRange {
        /// The configuration field.
        field: &'static str,
        /// The refused value.
        value: u64,
    },
    /// A connection cannot be started.
    #[error("cannot connect: {0}")]
    Connect(#[from] quinn_proto::ConnectError),
    /// The operating system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    pub(crate) fn certificate(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Certificate {
            what: what.into(),
            reason: reason.to_string(),
        }
    }
}
