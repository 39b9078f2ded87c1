//! The few X.509 fields that hash pinning must check, read without trusting any length, and why a
//! certificate is not accepted.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The validity and key algorithm of one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Seconds since the Unix epoch, inclusive.
    pub not_before: u64,
    /// Seconds since the Unix epoch, inclusive.
    pub not_after: u64,
    /// The public key.
    pub key: KeyKind,
    /// Whether issuer and subject are the same.
    pub is_self_issued: bool,
}

/// The algorithm of a public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// ECDSA, on any curve.
    EllipticCurve,
    /// RSA.
    Rsa,
    /// Ed25519.
    Ed25519,
    /// None of the above.
    Other,
}

/// Why the peer's certificate was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateFault {
    /// It has none of the pinned hashes.
    Hash {
        /// SHA-256 of what the peer showed.
        actual: [u8; 32],
        /// What is pinned.
        expected: Vec<[u8; 32]>,
    },
    /// Pinned, but its key is not on an elliptic curve.
    Key(KeyKind),
    /// Pinned, but valid for more than 14 days.
    Lifetime {
        /// Seconds from the start of its validity to the end.
        seconds: u64,
    },
    /// Its validity is over.
    Expired,
    /// Its validity has not begun.
    NotYetValid,
    /// It is its own issuer, and not among the trusted ones.
    SelfSigned {
        /// SHA-256 of what the peer showed.
        actual: [u8; 32],
    },
    /// Its issuer is not trusted.
    UnknownIssuer,
    /// It is for other names.
    Name,
    /// What the TLS library says.
    Other(String),
}

impl CertificateFault {
    /// One word for each, stable.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hash { .. } => "hash",
            Self::Key(_) => "key",
            Self::Lifetime { .. } => "lifetime",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::SelfSigned { .. } => "self_signed",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Name => "name",
            Self::Other(_) => "other",
        }
    }

    /// What an error of the TLS library is about, if it is about the peer's certificate.
    pub(crate) fn of(error: &rustls::Error) -> Option<Self> {
        use rustls::CertificateError as E;
        let rustls::Error::InvalidCertificate(error) = error else {
            return None;
        };
        Some(match error {
            E::Other(other) => match other.0.downcast_ref::<Self>() {
                Some(fault) => fault.clone(),
                None => Self::Other(error.to_string()),
            },
            E::Expired | E::ExpiredContext { .. } => Self::Expired,
            E::NotValidYet | E::NotValidYetContext { .. } => Self::NotYetValid,
            E::UnknownIssuer => Self::UnknownIssuer,
            E::NotValidForName | E::NotValidForNameContext { .. } => Self::Name,
            error => Self::Other(error.to_string()),
        })
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hash { actual, expected } => {
                f.write_str("its SHA-256 hash is ")?;
                write_hex(f, actual)?;
                f.write_str(", expected is ")?;
                for (number, hash) in expected.iter().enumerate() {
                    f.write_str(if number > 0 { " or " } else { "" })?;
                    write_hex(f, hash)?;
                }
                Ok(())
            }
            Self::Key(KeyKind::Rsa) => f.write_str("its key is RSA, not on an elliptic curve"),
            Self::Key(KeyKind::Ed25519) => f.write_str("its key is Ed25519, which is not ECDSA"),
            Self::Key(_) => f.write_str("its key is not on an elliptic curve"),
            Self::Lifetime { seconds } => {
                let days = seconds.div_ceil(DAY);
                write!(f, "it is valid for {days} days, more than 14")
            }
            Self::Expired => f.write_str("it has expired"),
            Self::NotYetValid => f.write_str("it is not valid yet"),
            Self::SelfSigned { actual } => {
                f.write_str("it is self-signed, its SHA-256 hash is ")?;
                write_hex(f, actual)
            }
            Self::UnknownIssuer => f.write_str("its issuer is unknown"),
            Self::Name => f.write_str("it is not for this host name"),
            Self::Other(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for CertificateFault {}

impl From<CertificateFault> for rustls::Error {
    fn from(fault: CertificateFault) -> Self {
        rustls::CertificateError::Other(rustls::OtherError(Arc::new(fault))).into()
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

impl Certificate {
    /// Reads a DER certificate; `None` when it is not one.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (certificate, _) = expect(der, SEQUENCE)?;
        let (tbs, _) = expect(certificate, SEQUENCE)?;
        let rest = match element(tbs)? {
            (EXPLICIT_VERSION, _, rest) => rest,
            _ => tbs,
        };
        let (_serial, rest) = expect(rest, INTEGER)?;
        let (_signature, rest) = expect(rest, SEQUENCE)?;
        let (issuer, rest) = expect(rest, SEQUENCE)?;
        let (validity, rest) = expect(rest, SEQUENCE)?;
        let (subject, rest) = expect(rest, SEQUENCE)?;
        let (key, _) = expect(rest, SEQUENCE)?;
        let (algorithm, _) = expect(key, SEQUENCE)?;
        let (oid, _) = expect(algorithm, OBJECT_IDENTIFIER)?;
        let (tag, not_before, rest) = element(validity)?;
        let not_before = time(tag, not_before)?;
        let (tag, not_after, _) = element(rest)?;
        let not_after = time(tag, not_after)?;
        Some(Self {
            not_before,
            not_after,
            key: match oid {
                ID_EC_PUBLIC_KEY => KeyKind::EllipticCurve,
                ID_RSA => KeyKind::Rsa,
                ID_ED25519 => KeyKind::Ed25519,
                _ => KeyKind::Other,
            },
            is_self_issued: issuer == subject,
        })
    }

    /// Whether `now`, since the Unix epoch, is inside the validity.
    pub fn is_valid_at(&self, now: Duration) -> bool {
        (self.not_before..=self.not_after).contains(&now.as_secs())
    }
}

/// One DER element: tag, contents, what follows.
fn element(data: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, data) = data.split_first()?;
    let (&first, data) = data.split_first()?;
    let (len, data) = if first < 0x80 {
        (usize::from(first), data)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, data) = data.split_at_checked(count)?;
        let len = digits
            .iter()
            .fold(0_usize, |len, digit| len << 8 | usize::from(*digit));
        (len, data)
    };
    let (contents, rest) = data.split_at_checked(len)?;
    Some((tag, contents, rest))
}

fn expect(data: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, contents, rest) = element(data)?;
    (tag == wanted).then_some((contents, rest))
}

/// UTCTime or GeneralizedTime in the only form RFC 5280 §4.1.2.5 allows: to the second, in UTC.
fn time(tag: u8, text: &[u8]) -> Option<u64> {
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = number(text, 2)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => number(text, 4)?,
        _ => return None,
    };
    let (month, rest) = number(rest, 2)?;
    let (day, rest) = number(rest, 2)?;
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest, 2)?;
    let (second, rest) = number(rest, 2)?;
    if rest != b"Z" || !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    // Days since the epoch, counting years from March so that a leap day ends its year.
    let shifted_year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100
        + shifted_year / 400
        + day_of_year;
    let days = days.checked_sub(DAYS_TO_EPOCH)?;
    Some(days * DAY + hour * 3_600 + minute * 60 + second)
}

fn number(text: &[u8], digits: usize) -> Option<(u64, &[u8])> {
    let (head, rest) = text.split_at_checked(digits)?;
    let mut value = 0;
    for digit in head {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + u64::from(digit - b'0');
    }
    Some((value, rest))
}

const INTEGER: u8 = 0x02;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const EXPLICIT_VERSION: u8 = 0xa0;
/// 1.2.840.10045.2.1 (RFC 5480 §2.1.1).
const ID_EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// 1.2.840.113549.1.1.1 (RFC 8017 §A.1).
const ID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// 1.3.101.112 (RFC 8410 §3).
const ID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const DAY: u64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_EPOCH: u64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_since_the_epoch() {
        assert_eq!(time(UTC_TIME, b"700101000000Z"), Some(0));
        assert_eq!(time(UTC_TIME, b"000229120000Z"), Some(951_825_600));
        assert_eq!(
            time(GENERALIZED_TIME, b"20500101000000Z"),
            Some(2_524_608_000)
        );
        assert_eq!(time(UTC_TIME, b"701301000000Z"), None);
        assert_eq!(time(UTC_TIME, b"7001010000Z"), None);
        assert_eq!(time(INTEGER, b"700101000000Z"), None);
    }

    #[test]
    fn a_generated_certificate_is_read_and_every_truncation_refused() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2024, 2, 29);
        params.not_after = rcgen::date_time_ymd(2024, 3, 10);
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let certificate = Certificate::parse(&der).unwrap();
        assert_eq!(certificate.key, KeyKind::EllipticCurve);
        assert!(certificate.is_self_issued);
        assert_eq!(certificate.not_after - certificate.not_before, 10 * 86_400);
        assert!(certificate.is_valid_at(Duration::from_secs(certificate.not_after)));
        assert!(!certificate.is_valid_at(Duration::from_secs(certificate.not_after + 1)));
        for len in 0..der.len() {
            assert_eq!(Certificate::parse(&der[..len]), None);
        }
    }
}
