"""What is wrong with a certificate, for whom, and what to do."""

from __future__ import annotations

import datetime
import re
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from pywebtransport.cli.diagnosis.report import Report
from pywebtransport.constants import MAX_BROWSER_CERTIFICATE_DAYS

__all__ = ["check_chain", "check_dates", "check_names", "describe", "hash_fault", "is_for"]

PINNABLE_CURVES = ("secp256r1", "secp384r1")
"""What Chromium takes by hash."""
MAX_PINNED = datetime.timedelta(days=MAX_BROWSER_CERTIFICATE_DAYS, seconds=1)
SOON = 0.1
"""Share of its lifetime that a certificate should have left."""
CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}
RENEW = "renew it, and let the server read the new file (a ServerApp: reload_certificate)"
MAKE = "`pywebtransport cert make` makes one that browsers take by its hash"


def describe(certificate: x509.Certificate) -> dict[str, Any]:
    """Its facts, as JSON takes them."""
    return {
        "subject": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "names": names_of(certificate),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "key": key_words(certificate),
        "sha256": certificate.fingerprint(SHA256()).hex(),
    }


def check_dates(report: Report, certificate: x509.Certificate) -> bool:
    """Whether it is valid now."""
    now = datetime.datetime.now(datetime.UTC)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    clock = f"this machine's clock says {_date(now)}"
    if now < start:
        report.fail(
            "dates",
            f"the certificate is not valid before {_date(start)}; {clock}",
            cause="tls.not_yet_valid",
            remedy="set the clock right, or wait, or make a certificate that is valid now",
        )
        return False
    if now > end:
        report.fail(
            "dates",
            f"the certificate expired on {_date(end)}; {clock}",
            cause="tls.expired",
            remedy=RENEW,
        )
        return False
    left = end - now
    words = f"valid until {_date(end)}, {_span(left)} from now"
    if left < (end - start) * SOON:
        report.warn("dates", f"{words}: soon", cause="tls.expires_soon", remedy=RENEW)
    else:
        report.ok("dates", words)
    return True


def check_names(
    report: Report, certificate: x509.Certificate, host: str, *, is_needed: bool = True
) -> bool:
    """Whether it is for this host (RFC 9525); if it need not be, that is a warning."""
    refuse = report.fail if is_needed else report.warn
    names = names_of(certificate)
    if not names:
        refuse(
            "name",
            "the certificate names no host (it has no subjectAltName; a common name is not enough)",
            cause="tls.name",
            remedy=f"make one with subjectAltName {host}",
        )
        return False
    if is_for(certificate, host):
        report.ok("name", f"the certificate is for {', '.join(names)}")
        return True
    refuse(
        "name",
        f"the certificate is for {', '.join(names)}, not for {host}",
        cause="tls.name",
        remedy="connect to a name that it has, or get one that has this name",
    )
    return False


def check_chain(certificates: list[x509.Certificate]) -> str:
    """What is wrong with what was shown beside the certificate; "": nothing."""
    leaf = certificates[0]
    if leaf.issuer == leaf.subject or len(certificates) > 1:
        return ""
    return (
        f"the server shows only its own certificate, not that of {_common_name(leaf.issuer)}, "
        "which signed it"
    )


def hash_fault(certificate: x509.Certificate) -> str:
    """Why browsers refuse it by its hash (``serverCertificateHashes``); "": they do not."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in PINNABLE_CURVES:
        return f"its key is {key_words(certificate)}, not ECDSA with P-256"
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if life > MAX_PINNED:
        return f"it is valid for {_span(life)}, more than {MAX_BROWSER_CERTIFICATE_DAYS} days"
    return ""


def is_for(certificate: x509.Certificate, host: str) -> bool:
    """Whether one of its names is this host's."""
    return any(_matches(name, host) for name in names_of(certificate))


def names_of(certificate: x509.Certificate) -> list[str]:
    """DNS names and addresses of its subjectAltName."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return []
    names = extension.value
    return [
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    ]


def key_words(certificate: x509.Certificate) -> str:
    """Its key, as ``ECDSA P-256``."""
    match certificate.public_key():
        case ec.EllipticCurvePublicKey() as key:
            return f"ECDSA {CURVES.get(key.curve.name, key.curve.name)}"
        case rsa.RSAPublicKey() as key:
            return f"RSA {key.key_size}"
        case ed25519.Ed25519PublicKey():
            return "Ed25519"
        case ed448.Ed448PublicKey():
            return "Ed448"
        case dsa.DSAPublicKey():
            return "DSA"
        case other:
            return type(other).__name__


def _matches(name: str, host: str) -> bool:
    try:
        return ip_address(name) == ip_address(host)
    except ValueError:
        pass
    name, host = name.lower().rstrip("."), host.lower().rstrip(".")
    if not name.startswith("*."):
        return name == host
    # A wildcard stands for one whole label.
    return re.fullmatch(r"[^.]+" + re.escape(name[1:]), host) is not None


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()


def _date(moment: datetime.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _span(span: datetime.timedelta) -> str:
    if span.days:
        return f"{span.days} day{'s' if span.days > 1 else ''}"
    hours = span.seconds // 3600
    return f"{hours} hours" if hours else f"{span.seconds // 60} minutes"
