//! Why a connection ended, in one shape for every cause.

use crate::certificate::CertificateFault;
use quinn_proto::{ConnectionError, TransportError, TransportErrorCode};

/// Who ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseBy {
    /// This side.
    Local,
    /// The peer.
    Remote,
    /// Nobody: silence, a stateless reset, an unreachable peer.
    Transport,
}

/// The family of a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseKind {
    /// CONNECTION_CLOSE with an application code (frame type 0x1d).
    Application,
    /// A TLS alert, ours or the peer's; the code is `0x100 + alert` (RFC 9001 §4.8).
    Tls {
        /// The TLS AlertDescription.
        alert: u8,
    },
    /// Any other QUIC error code (RFC 9000 §20.1).
    Quic,
    /// Nothing was heard for the idle timeout.
    IdleTimeout,
    /// The peer has lost the state of this connection.
    StatelessReset,
    /// No common QUIC version.
    VersionMismatch,
    /// The network says nobody listens there.
    Unreachable,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Close {
    /// The wire code: an application code for [`CloseKind::Application`], else a QUIC code.
    pub code: u64,
    /// Text of the peer, or of the library.
    pub reason: String,
    /// Who ended it.
    pub by: CloseBy,
    /// What it was.
    pub kind: CloseKind,
    /// What this side has against the peer's certificate, if that is the reason.
    pub certificate: Option<CertificateFault>,
}

impl Close {
    /// A close by this side with an application code.
    pub fn local(code: u64, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            by: CloseBy::Local,
            kind: CloseKind::Application,
            certificate: None,
        }
    }

    /// A close by the network.
    pub fn unreachable(reason: impl Into<String>) -> Self {
        Self {
            code: 0,
            reason: reason.into(),
            by: CloseBy::Transport,
            kind: CloseKind::Unreachable,
            certificate: None,
        }
    }

    /// A close because of a defect on this side.
    pub fn internal(reason: impl Into<String>) -> Self {
        Self {
            code: INTERNAL_ERROR,
            reason: reason.into(),
            by: CloseBy::Local,
            kind: CloseKind::Quic,
            certificate: None,
        }
    }

    fn transport(kind: CloseKind, reason: &str) -> Self {
        Self {
            code: 0,
            reason: reason.to_owned(),
            by: CloseBy::Transport,
            kind,
            certificate: None,
        }
    }

    fn quic(by: CloseBy, code: TransportErrorCode, reason: String) -> Self {
        let code = u64::from(code);
        let kind = match code.checked_sub(CRYPTO_ERROR) {
            Some(alert @ 0..=0xff) => CloseKind::Tls { alert: alert as u8 },
            _ => CloseKind::Quic,
        };
        Self {
            code,
            reason,
            by,
            kind,
            certificate: None,
        }
    }
}

impl From<ConnectionError> for Close {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self {
                code: close.error_code.into_inner(),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
                by: CloseBy::Remote,
                kind: CloseKind::Application,
                certificate: None,
            },
            ConnectionError::ConnectionClosed(close) => Self::quic(
                CloseBy::Remote,
                close.error_code,
                String::from_utf8_lossy(&close.reason).into_owned(),
            ),
            ConnectionError::TransportError(TransportError { code, reason, .. }) => {
                Self::quic(CloseBy::Local, code, reason)
            }
            ConnectionError::LocallyClosed => Self::local(0, ""),
            ConnectionError::TimedOut => Self::transport(CloseKind::IdleTimeout, "idle timeout"),
            ConnectionError::Reset => Self::transport(CloseKind::StatelessReset, "stateless reset"),
            ConnectionError::VersionMismatch => {
                Self::transport(CloseKind::VersionMismatch, "no common QUIC version")
            }
            ConnectionError::CidsExhausted => Self::internal("connection ids exhausted"),
        }
    }
}

/// INTERNAL_ERROR (RFC 9000 §20.1).
pub(crate) const INTERNAL_ERROR: u64 = 0x01;
/// First of the 256 codes that carry a TLS alert (RFC 9000 §20.1).
const CRYPTO_ERROR: u64 = 0x100;
