"""Certificates: making one for a server, its hash, and what browsers will say about it.

A browser that is given a certificate's hash (``serverCertificateHashes``) trusts it without any
authority, but only with a key that is not RSA and a validity of at most 14 days (WebTransport
API, "custom certificate requirements"). ECDSA with P-256 is the key that all of them take.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from pywebtransport.constants import MAX_BROWSER_CERTIFICATE_DAYS
from pywebtransport.exceptions import CertificateError, certificate_not_found, invalid_config

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

__all__ = [
    "certificate_hash",
    "check_pair",
    "date_problems",
    "generate_self_signed_cert",
    "hash_problems",
    "inspect_certificate",
    "key_kind",
    "load_certificates",
    "load_pair",
]

BROWSER_KEY = "ECDSA with P-256"
LOOPBACK = ("127.0.0.1", "::1")
BEGIN_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
END_OF_KEY_LABEL = b"PRIVATE KEY-----"


def certificate_hash(*, path: str) -> str:
    """SHA-256 of the first certificate of a PEM file, in hexadecimal.

    It is what a page passes as ``serverCertificateHashes`` and a client as
    ``ClientConfig.server_certificate_hashes``.
    """
    from cryptography.hazmat.primitives import hashes

    return load_certificates(path)[0].fingerprint(hashes.SHA256()).hex()


def inspect_certificate(*, path: str) -> list[str]:
    """What will keep clients from connecting to a server with this certificate; empty: nothing.

    The rules for a certificate trusted by its hash are applied to self-signed ones, which no
    browser can trust otherwise.
    """
    certificate = load_certificates(path)[0]
    problems = [f"{path} {problem}" for problem in date_problems(certificate)]
    if certificate.issuer == certificate.subject:
        advice = "generate_self_signed_cert(browser_compatible=True) makes one that they accept"
        problems += [
            f"browsers refuse {path} by its hash: {problem}; {advice}"
            for problem in hash_problems(certificate)
        ]
    return problems


def date_problems(certificate: x509.Certificate) -> list[str]:
    """Why nobody accepts it today; empty: they do."""
    now = datetime.datetime.now(datetime.UTC)
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    problems = []
    if now < start:
        problems.append(f"is not valid before {start:%Y-%m-%d %H:%M} UTC")
    if now > end:
        problems.append(f"expired on {end:%Y-%m-%d %H:%M} UTC")
    return problems


def hash_problems(certificate: x509.Certificate) -> list[str]:
    """Why browsers refuse it by its hash, whatever the date; empty: they do not."""
    problems = []
    if (kind := key_kind(certificate)) != BROWSER_KEY:
        problems.append(f"its key is {kind}, not {BROWSER_KEY}")
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    if lifetime > datetime.timedelta(days=MAX_BROWSER_CERTIFICATE_DAYS):
        problems.append(
            f"it is valid for {lifetime.days} days, more than {MAX_BROWSER_CERTIFICATE_DAYS}"
        )
    return problems


def key_kind(certificate: x509.Certificate) -> str:
    """Of its public key, as ``RSA`` or ``ECDSA with P-256``."""
    from cryptography.hazmat.primitives.asymmetric import ec

    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return BROWSER_KEY if key.curve.name == "secp256r1" else f"ECDSA with {key.curve.name}"
    return type(key).__name__.strip("_").removesuffix("PublicKey")


def generate_self_signed_cert(
    *,
    hostname: str,
    output_dir: str = ".",
    key_size: int = 2048,
    days_valid: int = 365,
    browser_compatible: bool = False,
) -> tuple[str, str]:
    """Write ``<hostname>.crt`` and ``<hostname>.key`` (PEM) and return their paths.

    The key is RSA of ``key_size`` bits. With ``browser_compatible`` it is ECDSA with P-256 and
    the certificate is valid for ``days_valid`` but at most 14 days: a browser then accepts it by
    its hash (:func:`certificate_hash`). The certificate of ``localhost`` is also good for the
    loopback addresses. Both files are new ones in the place of those that were there, and only the
    owner can read the key (mode 0600).
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    if not hostname or Path(hostname).name != hostname:
        raise invalid_config(key="hostname", value=hostname, reason="must be one host name")
    if days_valid < 1:
        raise invalid_config(key="days_valid", value=days_valid, reason="must be at least 1")
    if browser_compatible:
        days_valid = min(days_valid, MAX_BROWSER_CERTIFICATE_DAYS)
    key = _new_key(None if browser_compatible else key_size)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hostname[:64])])
    start = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days_valid))
        .add_extension(x509.SubjectAlternativeName(_alternative_names(hostname)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    directory = Path(output_dir)
    directory.mkdir(parents=True, exist_ok=True)
    certfile, keyfile = directory / f"{hostname}.crt", directory / f"{hostname}.key"
    pem = serialization.Encoding.PEM
    private = serialization.PrivateFormat.PKCS8
    # The key first: who sees the new certificate finds its key.
    _write_new(keyfile, key.private_bytes(pem, private, serialization.NoEncryption()), mode=0o600)
    _write_new(certfile, certificate.public_bytes(pem), mode=0o644)
    return str(certfile), str(keyfile)


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Put a new file in the place of whatever is there, a link included, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with open(os.open(temporary, flags, mode), "wb") as file:
            file.write(data)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _alternative_names(hostname: str) -> list[x509.GeneralName]:
    from cryptography import x509

    try:
        return [x509.IPAddress(ipaddress.ip_address(hostname))]
    except ValueError:
        addresses = LOOPBACK if hostname == "localhost" else ()
    return [
        x509.DNSName(hostname),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
    ]


def check_pair(*, certfile: str, keyfile: str) -> None:
    """That a server can use the two together.

    Raises:
        CertificateError: It cannot; the text names the file and says why.
    """
    load_pair(certfile, keyfile)


def load_pair(certfile: str, keyfile: str) -> tuple[list[x509.Certificate], PrivateKeyTypes]:
    """The chain, leaf first, and its key, unencrypted; both PEM.

    Raises:
        CertificateError: As :func:`check_pair`.
    """
    from cryptography.hazmat.primitives import serialization

    chain, key = load_certificates(certfile), _load_key(keyfile)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != chain[0].public_key().public_bytes(*form):
        raise _unusable(keyfile, f"{keyfile} is not the key of {certfile}")
    return chain, key


def load_certificates(path: str) -> list[x509.Certificate]:
    """The certificates of a PEM file, at least one.

    Raises:
        CertificateError: The file cannot be read, or is something else.
    """
    from cryptography import x509

    data = _read(path)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        why = f"it has no {BEGIN_CERTIFICATE.decode()}, as PEM files have"
        if BEGIN_CERTIFICATE in data:
            why = f"what follows {BEGIN_CERTIFICATE.decode()} is damaged"
        elif END_OF_KEY_LABEL in data:
            why = "it is a private key; are certfile and keyfile swapped?"
        raise _unusable(path, f"{path} holds no usable certificate: {why}") from error


def _load_key(path: str) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    data = _read(path)
    try:
        return serialization.load_pem_private_key(data, password=None)
    except TypeError as error:
        why = f"it needs a password; `openssl pkey -in {path} -out plain.key` writes it without"
        raise _unusable(path, f"{path} holds no usable private key: {why}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        why = "it has no -----BEGIN PRIVATE KEY-----, as PEM files have"
        if END_OF_KEY_LABEL in data:
            why = "what it holds is damaged or of an unknown kind"
        elif BEGIN_CERTIFICATE in data:
            why = "it is a certificate; are certfile and keyfile swapped?"
        raise _unusable(path, f"{path} holds no usable private key: {why}") from error


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise certificate_not_found(path=path) from error
    except OSError as error:
        raise _unusable(path, f"{path} cannot be read: {error.strerror or error}") from error


def _new_key(rsa_size: int | None) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    if rsa_size is None:
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=rsa_size)


def _unusable(path: str, text: str) -> CertificateError:
    return CertificateError(text, certificate_path=path, certificate_error="unusable")
